//! The directory of `state_dir`: one process locks it, and its files are opened relative to its descriptor. Reads and
//! replaces files, large ones in pieces. `state` has their formats, and `daemon/state_files.rs` handles failures.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::rc::Rc;

use rustix::fs::{
    Access, AtFlags, CWD, Dir, FlockOperation, Mode, OFlags, access, flock, fstat, mkdir, openat, renameat, unlinkat,
};
use rustix::io::Errno;
use rustix::process::geteuid;

use super::files::open_regular;
use crate::error::cause;
use crate::state::MOST_BYTES;

/// A directory that belongs to us and is locked. Dropping it releases the lock.
#[derive(Debug)]
pub struct StateDir {
    path: PathBuf,
    dir: OwnedFd,
    _lock: File,
}

/// A file that is compared in pieces.
#[derive(Debug)]
pub struct OldFile {
    file: File,
}

impl OldFile {
    /// Continues at this place.
    ///
    /// # Errors
    /// Those of the system.
    pub fn seek(&mut self, at: usize) -> io::Result<()> {
        self.file.seek(SeekFrom::Start(u64::try_from(at).unwrap_or(u64::MAX))).map(|_| ())
    }

    /// Whether the next bytes are these.
    ///
    /// # Errors
    /// Those of the system.
    pub fn has(&mut self, bytes: &[u8]) -> io::Result<bool> {
        let mut own = vec![0; bytes.len()];
        match self.file.read_exact(&mut own) {
            Ok(()) => Ok(own == bytes),
            Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => Ok(false),
            Err(e) => Err(e),
        }
    }

    /// Whether the file ends here.
    ///
    /// # Errors
    /// Those of the system.
    pub fn is_at_end(&mut self) -> io::Result<bool> {
        Ok(self.file.read(&mut [0])? == 0)
    }

    /// Replaces a few bytes in place. After a crash of the process all of them are replaced, or none.
    ///
    /// # Errors
    /// Those of the system.
    pub fn overwrite(&self, at: usize, bytes: &[u8]) -> io::Result<()> {
        self.file.write_all_at(bytes, u64::try_from(at).unwrap_or(u64::MAX))
    }
}

/// The new content of a file, in a temporary file. The old content stays until the new one is installed. Dropping it
/// removes the temporary file.
#[derive(Debug)]
pub struct NewFile {
    dir: Rc<StateDir>,
    /// The final name.
    name: String,
    file: File,
    is_installed: bool,
}

impl NewFile {
    /// Appends bytes.
    ///
    /// # Errors
    /// The disk is full, or another error of the system.
    pub fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.file.write_all(bytes)
    }

    /// Waits until the appended bytes are on the disk.
    ///
    /// # Errors
    /// Those of the disk.
    pub fn sync(&self) -> io::Result<()> {
        self.file.sync_data()
    }

    /// Replaces the old content.
    ///
    /// # Errors
    /// The file cannot be renamed. The old content stays.
    pub fn install(mut self) -> io::Result<()> {
        renameat(&self.dir.dir, temporary(&self.name), &self.dir.dir, &*self.name)?;
        self.is_installed = true;
        Ok(())
    }
}

impl Drop for NewFile {
    fn drop(&mut self) {
        if !self.is_installed {
            // If this fails, the next temporary file replaces it.
            let _ = self.dir.remove(&temporary(&self.name));
        }
    }
}

/// The name of the new content of a file.
fn temporary(name: &str) -> String {
    format!("{name}.new")
}

/// The name of the file that is locked.
const LOCK: &str = "lock";

impl StateDir {
    /// Opens the directory, or creates it with mode 0700, and locks it.
    ///
    /// # Errors
    /// It is a link, it is not ours, others may write to it, or another process has locked it.
    pub fn open(path: &Path) -> Result<StateDir, String> {
        let shown = path.display();
        let failed = |what: &str, e: io::Error| format!("failed to {what} state_dir `{shown}`: {}", cause(&e));
        match mkdir(path, Mode::RWXU) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(e) => return Err(failed("create", e.into())),
        }
        let dir = opened(path).map_err(|e| failed("open", e))?;
        if let Some(error) = refused(&dir, path).map_err(|e| failed("look at", e))? {
            return Err(failed("use", io::Error::other(error)));
        }
        let lock = lock(&dir).map_err(|e| failed("lock", e))?;
        Ok(StateDir { path: path.to_owned(), dir, _lock: lock })
    }

    /// Whether the directory is at this path, as the configuration spells it.
    pub fn is_at(&self, path: &Path) -> bool {
        self.path == path
    }

    /// The path of a file, for messages.
    pub fn shown(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// Reads a file of at most [`MOST_BYTES`]; `None`: there is none.
    ///
    /// # Errors
    /// It cannot be read, is no regular file, or is longer.
    pub fn read(&self, name: &str) -> io::Result<Option<Vec<u8>>> {
        let Some(mut file) = self.open_ours(name, OFlags::RDONLY)? else { return Ok(None) };
        let too_long = || io::Error::other(format!("it is longer than {} MB", MOST_BYTES >> 20));
        let size = file.metadata()?.len();
        let size = usize::try_from(size).ok().filter(|size| *size <= MOST_BYTES).ok_or_else(too_long)?;
        let mut content = Vec::with_capacity(size);
        let most = u64::try_from(MOST_BYTES).unwrap_or(u64::MAX);
        (&mut file).take(most + 1).read_to_end(&mut content)?;
        if content.len() > MOST_BYTES {
            return Err(too_long());
        }
        Ok(Some(content))
    }

    /// The names of all files except the lock.
    ///
    /// # Errors
    /// The directory cannot be read.
    pub fn names(&self) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in Dir::read_from(&self.dir)? {
            // A name that is no text belongs to no file of remco.
            names.extend(
                entry?.file_name().to_str().ok().filter(|name| ![".", "..", LOCK].contains(name)).map(str::to_owned),
            );
        }
        names.sort_unstable();
        Ok(names)
    }

    /// The first bytes of a file; `None`: there is none.
    ///
    /// # Errors
    /// It cannot be read, or is no regular file of ours.
    pub fn beginning(&self, name: &str, most: u64) -> io::Result<Option<Vec<u8>>> {
        let Some(file) = self.open_ours(name, OFlags::RDONLY)? else { return Ok(None) };
        let mut beginning = Vec::new();
        file.take(most).read_to_end(&mut beginning)?;
        Ok(Some(beginning))
    }

    /// Opens a file to compare it; `None`: there is none.
    ///
    /// # Errors
    /// It cannot be opened to read and write, or is no regular file of ours.
    pub fn open_old(&self, name: &str) -> io::Result<Option<OldFile>> {
        Ok(self.open_ours(name, OFlags::RDWR)?.map(|file| OldFile { file }))
    }

    fn open_ours(&self, name: &str, access: OFlags) -> io::Result<Option<File>> {
        let (file, _) = match open_regular(&self.dir, name.as_ref(), access) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(e) if e.raw_os_error() == Some(Errno::LOOP.raw_os_error()) => {
                return Err(io::Error::other("it is a symbolic link"));
            }
            opened => opened?,
        };
        let owner = file.metadata()?.uid();
        if owner != geteuid().as_raw() {
            return Err(io::Error::other(format!("it belongs to user {owner}")));
        }
        Ok(Some(file))
    }

    /// Begins to replace a file, with mode 0600.
    ///
    /// # Errors
    /// The file for the new content cannot be created.
    pub fn begin(self: &Rc<Self>, name: &str) -> io::Result<NewFile> {
        let new = temporary(name);
        // A file with this name is left from a crash, because no other process writes here.
        self.remove(&new)?;
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = File::from(openat(&self.dir, &*new, flags, Mode::RUSR | Mode::WUSR)?);
        Ok(NewFile { dir: Rc::clone(self), name: name.to_owned(), file, is_installed: false })
    }

    /// Replaces a small file at once, with mode 0600. It need not survive a power failure; after one it may be empty.
    ///
    /// # Errors
    /// The file cannot be created, written or renamed. The old one stays.
    pub fn write(self: &Rc<Self>, name: &str, content: &[u8]) -> io::Result<()> {
        let mut new = self.begin(name)?;
        new.append(content)?;
        new.install()
    }

    /// Removes a file. Returns whether there was one.
    ///
    /// # Errors
    /// It cannot be removed.
    pub fn remove(&self, name: &str) -> io::Result<bool> {
        match unlinkat(&self.dir, name, AtFlags::empty()) {
            Ok(()) => Ok(true),
            Err(Errno::NOENT) => Ok(false),
            Err(e) => Err(e.into()),
        }
    }
}

/// Why a directory cannot be used as `state_dir`; `None`: no obstacle is known. Creates nothing, and takes no lock,
/// because another process may use the directory.
pub fn obstacle(path: &Path) -> Option<String> {
    match opened(path) {
        Ok(dir) => refused(&dir, path).unwrap_or_else(|e| Some(cause(&e))),
        Err(e) if e.kind() == io::ErrorKind::NotFound => {
            let parent = path.parent().filter(|parent| *parent != Path::new("")).unwrap_or(Path::new("."));
            let shown = parent.display();
            match access(parent, Access::WRITE_OK) {
                Ok(()) => None,
                Err(Errno::NOENT) => Some(format!("there is no directory `{shown}`: make it")),
                Err(e) => Some(format!("directory `{shown}` is not writable: {}", cause(&e.into()))),
            }
        }
        Err(e) => Some(cause(&e)),
    }
}

fn opened(path: &Path) -> io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    match openat(CWD, path, flags, Mode::empty()) {
        Err(Errno::LOOP | Errno::NOTDIR) => Err(io::Error::other("it is a file or a link: name the directory itself")),
        opened => Ok(opened?),
    }
}

/// Why the directory is not used: other users may have access.
fn refused(dir: &OwnedFd, path: &Path) -> io::Result<Option<String>> {
    let (meta, ours) = (fstat(dir)?, geteuid().as_raw());
    if meta.st_uid != ours {
        return Ok(Some(format!("it belongs to user {}, and remco runs as user {ours}", meta.st_uid)));
    }
    let mode = meta.st_mode & 0o7777;
    let advice = || format!("others may write to it (mode {mode:04o}): `chmod 700 {}`", path.display());
    Ok((mode & 0o022 != 0).then(advice))
}

fn lock(dir: &OwnedFd) -> io::Result<File> {
    let flags = OFlags::RDONLY | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = File::from(openat(dir, LOCK, flags, Mode::RUSR | Mode::WUSR)?);
    loop {
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => return Ok(file),
            Err(Errno::INTR) => {}
            Err(Errno::WOULDBLOCK) => return Err(io::Error::other("another remco uses it")),
            Err(e) => return Err(e.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::files::tests::Folder;
    use rustix::fs::{chmod, symlinkat};
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn a_directory_is_made_and_locked() {
        let folder = Folder::new();
        let path = folder.path("state");
        let dir = StateDir::open(&path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o7777, 0o700);
        let error = StateDir::open(&path).unwrap_err();
        assert_eq!(error, format!("failed to lock state_dir `{}`: another remco uses it", path.display()));
        drop(dir);
        StateDir::open(&path).unwrap();
    }

    #[test]
    fn a_directory_of_others_is_refused() {
        let folder = Folder::new();
        fs::create_dir(folder.path("open")).unwrap();
        fs::write(folder.path("file"), "").unwrap();
        symlinkat("open", CWD, folder.path("link")).unwrap();
        for mode in [0o720, 0o702, 0o1777] {
            chmod(folder.path("open"), Mode::from_raw_mode(mode)).unwrap();
            let error = StateDir::open(&folder.path("open")).unwrap_err();
            assert!(error.contains("others may write to it"), "{error}");
        }
        for name in ["file", "link"] {
            let error = StateDir::open(&folder.path(name)).unwrap_err();
            assert!(error.ends_with("it is a file or a link: name the directory itself"), "{error}");
        }
        assert!(StateDir::open(&folder.path("none/state")).unwrap_err().starts_with("failed to create state_dir"));
    }

    #[test]
    fn files_are_replaced_whole() {
        let folder = Folder::new();
        let dir = Rc::new(StateDir::open(&folder.path("state")).unwrap());
        assert!(dir.read("a").unwrap().is_none());
        // Files of a crash are no obstacle, and neither is a link to the outside.
        fs::write(folder.path("state/a.new"), "half").unwrap();
        dir.write("a", b"one").unwrap();
        fs::write(folder.path("victim"), "kept").unwrap();
        symlinkat("../victim", CWD, folder.path("state/a.new")).unwrap();
        dir.write("a", b"two").unwrap();
        assert_eq!(fs::read(folder.path("victim")).unwrap(), b"kept");
        assert_eq!(dir.read("a").unwrap().unwrap(), b"two");
        assert_eq!(fs::metadata(folder.path("state/a")).unwrap().permissions().mode() & 0o7777, 0o600);
        let mut half = dir.begin("a").unwrap();
        half.append(b"thr").unwrap();
        assert_eq!(fs::read(folder.path("state/a")).unwrap(), b"two");
        drop(half);
        assert!(!folder.path("state/a.new").exists());
        assert!(dir.remove("a").unwrap() && !dir.remove("a").unwrap());
    }

    #[test]
    fn a_file_is_compared_in_pieces_and_changed_in_place() {
        let folder = Folder::new();
        let dir = Rc::new(StateDir::open(&folder.path("state")).unwrap());
        assert!(dir.open_old("a").unwrap().is_none());
        dir.write("a", b"head and body").unwrap();
        let mut old = dir.open_old("a").unwrap().unwrap();
        old.seek(5).unwrap();
        assert!(old.has(b"and ").unwrap() && !old.is_at_end().unwrap());
        old.seek(9).unwrap();
        assert!(old.has(b"body").unwrap() && old.is_at_end().unwrap() && !old.has(b"more").unwrap());
        old.overwrite(0, b"tail").unwrap();
        assert_eq!(dir.read("a").unwrap().unwrap(), b"tail and body");
    }

    #[test]
    fn what_is_no_file_of_ours_is_an_error() {
        let folder = Folder::new();
        let dir = StateDir::open(&folder.path("state")).unwrap();
        fs::write(folder.path("victim"), "kept").unwrap();
        symlinkat("../victim", CWD, folder.path("state/link")).unwrap();
        fs::create_dir(folder.path("state/folder")).unwrap();
        let large = File::create(folder.path("state/large")).unwrap();
        large.set_len(1 << 30).unwrap();
        for (name, why) in [
            ("link", "it is a symbolic link"),
            ("folder", "it is no regular file any more"),
            ("large", "it is longer than 64 MB"),
        ] {
            assert_eq!(dir.read(name).unwrap_err().to_string(), why, "{name}");
        }
    }
}
