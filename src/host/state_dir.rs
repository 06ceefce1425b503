//! The directory of `state_dir`: one process has it, and its files are opened relative to its descriptor. Reads and replaces
//! whole files. What they hold is in `state`, and what is done about a failure in `daemon/kept.rs`.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use rustix::fs::{
    AtFlags, CWD, FlockOperation, Mode, OFlags, Timestamps, UTIME_NOW, flock, fstat, futimens, mkdir, openat, renameat,
    unlinkat,
};
use rustix::io::Errno;
use rustix::process::geteuid;

use super::files::open_regular;
use crate::error::cause;
use crate::state::MOST_BYTES;

/// A directory that is ours and locked. Dropping it releases the lock.
#[derive(Debug)]
pub struct StateDir {
    path: PathBuf,
    dir: OwnedFd,
    _lock: File,
}

/// A file that was read.
#[derive(Debug)]
pub struct Kept {
    /// All of it.
    pub content: Vec<u8>,
    /// How long ago it was written; `None`: the clock is behind that time.
    pub age: Option<Duration>,
}

/// Whether a file that was written survives a power failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sync {
    /// The old or the new file does.
    Yes,
    /// It need not.
    No,
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
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let dir = match openat(CWD, path, flags, Mode::empty()) {
            Err(Errno::LOOP | Errno::NOTDIR) => {
                let error = "it is a file or a link: name the directory itself";
                return Err(failed("open", io::Error::other(error)));
            }
            opened => opened.map_err(|e| failed("open", e.into()))?,
        };
        let meta = fstat(&dir).map_err(|e| failed("look at", e.into()))?;
        let ours = geteuid().as_raw();
        if meta.st_uid != ours {
            let error = format!("it belongs to user {}, and remco runs as user {ours}", meta.st_uid);
            return Err(failed("use", io::Error::other(error)));
        }
        if meta.st_mode & 0o022 != 0 {
            let error = format!("others may write to it (mode {:04o}): `chmod 700 {shown}`", meta.st_mode & 0o7777);
            return Err(failed("use", io::Error::other(error)));
        }
        let lock = lock(&dir).map_err(|e| failed("lock", e))?;
        Ok(StateDir { path: path.to_owned(), dir, _lock: lock })
    }

    /// Whether it is the one at this path, as the configuration spells it.
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
    pub fn read(&self, name: &str) -> io::Result<Option<Kept>> {
        let (mut file, _) = match open_regular(&self.dir, name.as_ref(), OFlags::RDONLY) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(e) if e.raw_os_error() == Some(Errno::LOOP.raw_os_error()) => {
                return Err(io::Error::other("it is a symbolic link"));
            }
            opened => opened?,
        };
        let meta = file.metadata()?;
        if meta.uid() != geteuid().as_raw() {
            return Err(io::Error::other(format!("it belongs to user {}", meta.uid())));
        }
        let too_long = || io::Error::other(format!("it is longer than {} MB", MOST_BYTES >> 20));
        let size = usize::try_from(meta.len()).ok().filter(|size| *size <= MOST_BYTES).ok_or_else(too_long)?;
        let mut content = Vec::with_capacity(size);
        let most = u64::try_from(MOST_BYTES).unwrap_or(u64::MAX);
        (&mut file).take(most + 1).read_to_end(&mut content)?;
        if content.len() > MOST_BYTES {
            return Err(too_long());
        }
        let age = SystemTime::now().duration_since(meta.modified()?).ok();
        Ok(Some(Kept { content, age }))
    }

    /// Replaces a file, with mode 0600. The old one stays if that fails.
    ///
    /// # Errors
    /// The file cannot be created, written or renamed.
    pub fn write(&self, name: &str, content: &[u8], sync: Sync) -> io::Result<()> {
        let new = format!("{name}.new");
        // One that a crash has left. No other process writes here.
        self.remove(&new)?;
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let mut file = File::from(openat(&self.dir, &*new, flags, Mode::RUSR | Mode::WUSR)?);
        let written = file.write_all(content).and_then(|()| match sync {
            Sync::Yes => file.sync_data(),
            Sync::No => Ok(()),
        });
        let renamed = written.and_then(|()| renameat(&self.dir, &*new, &self.dir, name).map_err(io::Error::from));
        if renamed.is_err() {
            // The error that led here is told.
            let _ = unlinkat(&self.dir, &*new, AtFlags::empty());
        }
        renamed
    }

    /// Sets the age of a file to zero.
    ///
    /// # Errors
    /// There is no such file, or it is not ours.
    pub fn touch(&self, name: &str) -> io::Result<()> {
        let (file, _) = open_regular(&self.dir, name.as_ref(), OFlags::RDONLY)?;
        let now = rustix::fs::Timespec { tv_sec: 0, tv_nsec: UTIME_NOW };
        Ok(futimens(&file, &Timestamps { last_access: now, last_modification: now })?)
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
        let dir = StateDir::open(&folder.path("state")).unwrap();
        assert!(dir.read("a").unwrap().is_none());
        // What a crash has left is no obstacle, nor is a link that leads out.
        fs::write(folder.path("state/a.new"), "half").unwrap();
        dir.write("a", b"one", Sync::Yes).unwrap();
        fs::write(folder.path("victim"), "kept").unwrap();
        symlinkat("../victim", CWD, folder.path("state/a.new")).unwrap();
        dir.write("a", b"two", Sync::No).unwrap();
        assert_eq!(fs::read(folder.path("victim")).unwrap(), b"kept");
        let kept = dir.read("a").unwrap().unwrap();
        assert!(kept.content == b"two" && kept.age.is_some());
        assert_eq!(fs::metadata(folder.path("state/a")).unwrap().permissions().mode() & 0o7777, 0o600);
        assert!(dir.remove("a").unwrap() && !dir.remove("a").unwrap());
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

    #[test]
    fn a_clock_that_is_behind_knows_no_age() {
        let folder = Folder::new();
        let dir = StateDir::open(&folder.path("state")).unwrap();
        dir.write("a", b"", Sync::No).unwrap();
        let file = File::options().write(true).open(folder.path("state/a")).unwrap();
        file.set_modified(SystemTime::now() + Duration::from_secs(3600)).unwrap();
        assert_eq!(dir.read("a").unwrap().unwrap().age, None);
        dir.touch("a").unwrap();
        assert!(dir.read("a").unwrap().unwrap().age.is_some());
    }
}
