//! Files that hold a result until it is checked and installed: beside the destination, in a private directory, or in
//! memory. Creates, names, locks, sweeps and removes them. Does not look at their content.

use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};
use std::rc::Rc;

use rustix::fs::{
    AtFlags, CWD, FileType, FlockOperation, MemfdFlags, Mode, OFlags, SealFlags, fcntl_add_seals, flock, fstat, mkdir,
    openat, statat, unlinkat,
};
use rustix::io::Errno;

use super::place::{Found, open_regular};
use crate::fnv::fnv;
use crate::host::random;

/// A stage file. Dropping it removes the file.
#[derive(Debug)]
pub struct StageFile {
    /// Open for reading only: a file that is open for writing cannot be executed by a check command. A crash leaves a
    /// file without a lock.
    pub file: File,
    pub path: PathBuf,
    location: Location,
}

#[derive(Debug)]
enum Location {
    /// In the directory of its destination.
    Beside { dir: Rc<OwnedFd>, name: OsString },
    /// In a directory of its own. Its path is kept to remove it.
    Private { dir: OwnedFd, name: OsString, path: PathBuf },
    /// In a memfd, which has no name.
    Memory,
}

impl StageFile {
    /// Creates a file `.NAME` and digits with mode 0600, and locks it. Returns the descriptor for writing, too.
    pub fn beside(dir: &Rc<OwnedFd>, shown: &Path, name: &OsStr) -> io::Result<(StageFile, File)> {
        /// The limit of attempts: the owner of the directory may replace the file each time.
        const ATTEMPTS: u64 = 100;
        for attempt in 0..ATTEMPTS {
            let number = if attempt < KNOWN_NAMES { known_number(name, attempt) } else { random::below(NUMBERS) };
            let name = stage_name(name, number);
            let writer = match create(dir, &name) {
                Err(Errno::EXIST) => continue,
                created => created?,
            };
            let file = match reopen(dir, &name, &writer) {
                Ok(Some(file)) => file,
                Ok(None) => continue,
                Err(e) => {
                    let _ = unlinkat(dir, &name, AtFlags::empty());
                    return Err(e);
                }
            };
            let path = shown.join(&name);
            let stage = StageFile { file, path, location: Location::Beside { dir: Rc::clone(dir), name } };
            match flock(&stage.file, FlockOperation::NonBlockingLockExclusive) {
                // Another process may have swept the file before it was locked. A file that has the name now is not
                // ours.
                Ok(()) if fstat(&stage.file)?.st_nlink == 0 => stage.installed(),
                Err(Errno::WOULDBLOCK) => stage.installed(),
                // On a file system without locks another process may sweep a stage in use. That is an error, and is
                // retried.
                Ok(()) | Err(_) => return Ok((stage, writer)),
            }
        }
        Err(io::Error::other("another process takes or replaces each file that is created"))
    }

    /// Creates a file with this name in a new private directory below the directory for temporary files.
    pub fn private(owner: &Path, name: &OsStr) -> io::Result<(StageFile, File)> {
        let path = std::env::temp_dir().join(private_name(owner, random::below(NUMBERS)));
        mkdir(&path, Mode::RWXU)?;
        let removed = |e: io::Error| {
            let _ = fs::remove_dir(&path);
            e
        };
        let dir = open_private(CWD, &path).map_err(removed)?;
        let writer = create(&dir, name).map_err(|e| removed(e.into()))?;
        let shown = path.join(name);
        let stage = |file, dir| StageFile {
            file,
            path: shown.clone(),
            location: Location::Private { dir, name: name.to_owned(), path: path.clone() },
        };
        match reopen(&dir, name, &writer) {
            Ok(Some(file)) => Ok((stage(file, dir), writer)),
            other => {
                // Removes file and directory.
                drop(stage(writer, dir));
                Err(other.err().unwrap_or_else(|| io::Error::other("it was replaced at this moment")))
            }
        }
    }

    /// Creates a file without a name.
    pub fn memory(name: &OsStr) -> io::Result<(StageFile, File)> {
        const LONGEST: usize = 200;
        let name = &name.as_bytes()[..name.len().min(LONGEST)];
        let writer = File::from(rustix::fs::memfd_create(name, MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING)?);
        // A second open file description, which is not open for writing.
        let path = format!("/proc/self/fd/{}", writer.as_raw_fd());
        let file = File::from(openat(CWD, path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?);
        let path = PathBuf::from(format!("/proc/self/fd/{}", file.as_raw_fd()));
        Ok((StageFile { file, path, location: Location::Memory }, writer))
    }

    /// Closes the file for writing, before a check command gets it.
    pub fn seal(&self, writer: File) -> io::Result<()> {
        if let Location::Memory = self.location {
            fcntl_add_seals(&writer, SealFlags::SEAL | SealFlags::SHRINK | SealFlags::GROW | SealFlags::WRITE)?;
        }
        Ok(())
    }

    /// The descriptor that a command has to inherit to see the file.
    pub fn inherited(&self) -> Option<BorrowedFd<'_>> {
        matches!(self.location, Location::Memory).then(|| self.file.as_fd())
    }

    /// The directory and name from which the file can be renamed.
    pub fn beside_at(&self) -> Option<(&Rc<OwnedFd>, &OsStr)> {
        match &self.location {
            Location::Beside { dir, name } => Some((dir, name)),
            Location::Private { .. } | Location::Memory => None,
        }
    }

    /// Opens the file of its name again: a check command such as `sed -i` may have replaced it. The new file must have
    /// the same owner and mode and no other name, so that no foreign file is installed.
    pub fn checked(&self) -> io::Result<File> {
        let Location::Beside { dir, name } = &self.location else { return self.file.try_clone() };
        let (file, is) = open_regular(dir, name, OFlags::RDONLY)?;
        let was = Found::of(&fstat(&self.file)?);
        if was.identity == is.identity {
            return Ok(file);
        }
        match (was.mode, was.uid, was.gid) == (is.mode, is.uid, is.gid) && fstat(&file)?.st_nlink == 1 {
            true => Ok(file),
            false => Err(io::Error::other("it was replaced by a file of another owner or mode, or with several names")),
        }
    }

    /// The file was renamed: it is no longer removed.
    pub fn installed(mut self) {
        self.location = Location::Memory;
    }
}

impl Drop for StageFile {
    /// A stage file that cannot be removed is no error of its own: an error has led here.
    fn drop(&mut self) {
        match &self.location {
            Location::Beside { dir, name } => _ = unlinkat(dir, name, AtFlags::empty()),
            Location::Private { dir, name, path } => {
                let _ = unlinkat(dir, name, AtFlags::empty());
                let _ = fs::remove_dir(path);
            }
            Location::Memory => {}
        }
    }
}

/// Removes the stage files that a crash has left beside a destination: those with one of our names and without a lock.
pub fn sweep_beside(dir: &OwnedFd, name: &OsStr) {
    for attempt in 0..KNOWN_NAMES {
        let name = stage_name(name, known_number(name, attempt));
        // A fifo would notice an open, so the type is checked first.
        let is_file = statat(dir, &name, AtFlags::SYMLINK_NOFOLLOW)
            .is_ok_and(|meta| FileType::from_raw_mode(meta.st_mode) == FileType::RegularFile);
        if is_file
            && let Ok((file, _)) = open_regular(dir, &name, OFlags::RDONLY)
            && flock(&file, FlockOperation::NonBlockingLockExclusive).is_ok()
        {
            let _ = unlinkat(dir, &name, AtFlags::empty());
        }
    }
}

/// Removes the private directories that a crash has left.
pub fn sweep_private(owner: &Path, name: &OsStr) {
    let temporary = std::env::temp_dir();
    let Ok(entries) = fs::read_dir(&temporary) else { return };
    let prefix = private_prefix(owner);
    for entry in entries.flatten().filter(|entry| entry.file_name().as_bytes().starts_with(prefix.as_bytes())) {
        if let Ok(dir) = open_private(CWD, &entry.path()) {
            let _ = unlinkat(&dir, name, AtFlags::empty());
            let _ = fs::remove_dir(entry.path());
        }
    }
}

/// Opens and locks one of our private directories.
fn open_private(from: BorrowedFd<'_>, path: &Path) -> io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let dir = openat(from, path, flags, Mode::empty())?;
    let found = Found::of(&fstat(&dir)?);
    if found.uid != rustix::process::geteuid().as_raw() || found.mode & 0o077 != 0 {
        return Err(io::Error::other("it does not belong to this user alone"));
    }
    match flock(&dir, FlockOperation::NonBlockingLockExclusive) {
        Err(Errno::WOULDBLOCK) => Err(Errno::WOULDBLOCK.into()),
        // This file system has no locks.
        Ok(()) | Err(_) => Ok(dir),
    }
}

fn create(dir: impl AsFd, name: &OsStr) -> rustix::io::Result<File> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    openat(dir, name, flags, Mode::RUSR | Mode::WUSR).map(File::from)
}

/// A second descriptor of a new file; `None`: its name leads to another file now. The directory may belong to another
/// user.
fn reopen(dir: impl AsFd, name: &OsStr, writer: &File) -> io::Result<Option<File>> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let file = match openat(dir, name, flags, Mode::empty()) {
        Ok(file) => File::from(file),
        Err(Errno::NOENT | Errno::LOOP) => return Ok(None),
        Err(e) => return Err(e.into()),
    };
    let identity = |file: &File| fstat(file).map(|meta| Found::of(&meta).identity);
    Ok((identity(&file)? == identity(writer)?).then_some(file))
}

const DIGITS: usize = 10;
#[expect(clippy::cast_possible_truncation, reason = "it is 10")]
const NUMBERS: u64 = 10_u64.pow(DIGITS as u32);

/// The number of fixed names before a random one is taken. A file with a random name is not recognised after a crash.
/// More than one name is needed only if several programs write one destination.
const KNOWN_NAMES: u64 = 4;

/// The fixed number of a destination's stage. It stays the same for later builds, so that files of a crash are
/// recognised, and error messages with the name repeat literally.
fn known_number(name: &OsStr, attempt: u64) -> u64 {
    fnv(name.as_bytes()).wrapping_add(attempt) % NUMBERS
}

/// The first of the fixed names of a destination's stage, which a sweep finds.
pub fn fixed_name(name: &OsStr) -> OsString {
    stage_name(name, known_number(name, 0))
}

/// Whether a file with this name may be the stage of a destination.
pub fn is_stage_name(name: &OsStr, stage: &OsStr) -> bool {
    let number = stage.as_bytes().split_last_chunk::<DIGITS>().and_then(|(_, digits)| str::from_utf8(digits).ok());
    let number = number.filter(|digits| digits.bytes().all(|byte| byte.is_ascii_digit()));
    number.and_then(|digits| digits.parse().ok()).is_some_and(|number| stage_name(name, number) == stage)
}

fn stage_name(name: &OsStr, number: u64) -> OsString {
    const LONGEST_NAME: usize = 255;
    let name = name.as_bytes();
    let name = &name[..name.len().min(LONGEST_NAME - DIGITS - 1)];
    OsString::from_vec([b".", name, format!("{number:0DIGITS$}").as_bytes()].concat())
}

/// The private directory of a destination: recognised by its prefix, and not predictable.
fn private_name(owner: &Path, random: u64) -> String {
    format!("{}{random:0DIGITS$}", private_prefix(owner))
}

fn private_prefix(owner: &Path) -> String {
    format!("remco-{:0DIGITS$}-", known_number(owner.as_os_str(), 0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::files::tests::Folder;
    use std::io::Write;

    #[test]
    fn what_took_the_name_is_not_opened_for_the_stage() {
        let folder = Folder::new();
        let dir = openat(CWD, folder.path(""), OFlags::DIRECTORY, Mode::empty()).unwrap();
        let name = OsStr::new("x");
        let writer = create(&dir, name).unwrap();
        assert!(reopen(&dir, name, &writer).unwrap().is_some());
        let replace: [(&str, &dyn Fn()); 4] = [
            ("a fifo", &|| {
                rustix::fs::mknodat(&dir, name, FileType::Fifo, Mode::RWXU, 0).unwrap();
            }),
            ("a link", &|| rustix::fs::symlinkat("/etc/passwd", &dir, name).unwrap()),
            ("another file", &|| fs::write(folder.path("x"), "").unwrap()),
            ("nothing", &|| {}),
        ];
        for (what, replace) in replace {
            unlinkat(&dir, name, AtFlags::empty()).unwrap();
            replace();
            assert!(reopen(&dir, name, &writer).unwrap().is_none(), "{what}");
            if what == "another file" {
                unlinkat(&dir, name, AtFlags::empty()).unwrap();
            }
            let _ = create(&dir, name);
        }
    }

    #[test]
    fn a_stage_is_known_by_its_name() {
        for name in ["a", "", "app.conf", &"x".repeat(255)] {
            let name = OsStr::new(name);
            for number in [0, 42, NUMBERS - 1, known_number(name, 1)] {
                assert!(is_stage_name(name, &stage_name(name, number)), "{number}");
            }
        }
        for other in ["", "a", ".a", "a0123456789", ".b0123456789", ".a012345678", ".a01234567890", ".a+123456789"] {
            assert!(!is_stage_name(OsStr::new("a"), OsStr::new(other)), "{other}");
        }
    }

    #[test]
    fn a_private_stage_is_ours_alone_and_vanishes() {
        let owner = Path::new("/etc/app.conf");
        let (stage, mut writer) = StageFile::private(owner, OsStr::new("app.conf")).unwrap();
        writer.write_all(b"text").unwrap();
        let dir = stage.path.parent().unwrap().to_owned();
        assert_eq!(stage.path.file_name(), Some(OsStr::new("app.conf")));
        assert_eq!(Found::of(&rustix::fs::stat(&dir).unwrap()).mode, 0o700);
        assert_eq!(fs::read(&stage.path).unwrap(), b"text");
        sweep_private(owner, OsStr::new("app.conf"));
        assert!(stage.path.exists(), "it is in use");
        drop(stage);
        assert!(!dir.exists());
    }

    #[test]
    fn the_private_stage_of_a_crash_is_swept() {
        let owner = std::env::temp_dir().join(format!("remco-owner-{}", random::below(u64::MAX)));
        let (stage, _) = StageFile::private(&owner, OsStr::new("app.conf")).unwrap();
        let dir = stage.path.parent().unwrap().to_owned();
        // Simulates the end of the process.
        let Location::Private { dir: lock, .. } = &stage.location else { panic!("it is private") };
        flock(lock, FlockOperation::Unlock).unwrap();
        sweep_private(&owner, OsStr::new("app.conf"));
        assert!(!dir.exists());
    }

    #[test]
    fn a_stage_in_memory_cannot_be_changed() {
        let (stage, mut writer) = StageFile::memory(OsStr::new("app.conf")).unwrap();
        writer.write_all(b"text").unwrap();
        stage.seal(writer).unwrap();
        assert_eq!(fs::read(&stage.path).unwrap(), b"text");
        assert!(fs::write(&stage.path, b"more").is_err());
        assert!(stage.inherited().is_some());
    }
}
