//! The lock files of `--lock` and of `status_file`: opens, creates and locks them, without waiting. A lock file stays
//! after its release, because a waiting process has it open. `daemon/gate.rs` decides how long to wait.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use rustix::fs::{CWD, FileType, FlockOperation, Mode, OFlags, flock, fstat, openat};
use rustix::io::Errno;

use crate::error::cause;

/// A lock that is held. Closing the file releases it; children do not inherit the descriptor.
#[derive(Debug)]
pub struct LockFile {
    _file: File,
}

impl LockFile {
    /// Takes the lock, and creates the file where there is none, with this mode less the umask. `None`: another process
    /// holds the lock.
    ///
    /// # Errors
    /// The file cannot be opened or locked, or is no regular file.
    pub fn take(path: &Path, mode: u32) -> Result<Option<LockFile>, String> {
        /// After so many attempts the file is probably replaced all the time.
        const ATTEMPTS: usize = 100;
        let failed =
            |what: &str, e: io::Error| format!("failed to {what} lock file `{}`: {}", path.display(), cause(&e));
        for _ in 0..ATTEMPTS {
            let file = open(path, OFlags::CREATE, mode).map_err(|e| failed("open", e))?;
            match flock(&file, FlockOperation::NonBlockingLockExclusive) {
                // The file may have been removed or replaced between the two calls. Then the lock keeps no process out.
                Ok(()) if is_at(&file, path) => return Ok(Some(LockFile { _file: file })),
                Ok(()) | Err(Errno::INTR) => {}
                Err(Errno::WOULDBLOCK) => return Ok(None),
                Err(e) => return Err(failed("lock", e.into())),
            }
        }
        Err(failed("lock", io::Error::other("another process keeps replacing it")))
    }
}

/// Whether another process holds the lock.
///
/// # Errors
/// The file is not there or cannot be opened.
pub fn is_held(path: &Path) -> io::Result<bool> {
    let file = open(path, OFlags::empty(), 0)?;
    match flock(&file, FlockOperation::NonBlockingLockShared) {
        Ok(()) => Ok(false),
        Err(Errno::WOULDBLOCK) => Ok(true),
        Err(e) => Err(e.into()),
    }
}

/// Opens without following a link in the last part of the path, and without waiting for the other end of a fifo.
fn open(path: &Path, create: OFlags, mode: u32) -> io::Result<File> {
    let flags = OFlags::RDONLY | create | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let file = match openat(CWD, path, flags, Mode::from_raw_mode(mode)) {
        Err(Errno::LOOP) => return Err(io::Error::other("it is a symbolic link")),
        opened => File::from(opened?),
    };
    match FileType::from_raw_mode(fstat(&file)?.st_mode) {
        FileType::RegularFile => Ok(file),
        _ => Err(io::Error::other("not a regular file")),
    }
}

/// Whether the path still leads to this file.
fn is_at(file: &File, path: &Path) -> bool {
    let identity = |meta: fs::Metadata| (meta.dev(), meta.ino());
    let ours = file.metadata().map(identity).ok();
    ours.is_some() && fs::symlink_metadata(path).map(identity).ok() == ours
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::files::tests::Folder;
    use rustix::fs::{Dev, mknodat, symlinkat};
    use std::os::unix::fs::PermissionsExt;

    fn error(path: &Path) -> String {
        LockFile::take(path, 0o600).expect_err("it is no lock file")
    }

    #[test]
    fn a_lock_is_held_once_and_released() {
        let folder = Folder::new();
        let path = folder.path("lock");
        let held = LockFile::take(&path, 0o600).unwrap().expect("it is free");
        assert!(LockFile::take(&path, 0o600).unwrap().is_none() && is_held(&path).unwrap());
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        drop(held);
        assert!(LockFile::take(&path, 0o600).unwrap().is_some(), "the file of an earlier run is no obstacle");
    }

    /// The holder of a removed file keeps no other process out, and is kept out by none.
    #[test]
    fn a_removed_file_is_created_again() {
        let folder = Folder::new();
        let path = folder.path("lock");
        let _held = LockFile::take(&path, 0o600).unwrap().expect("it is free");
        fs::remove_file(&path).unwrap();
        assert!(LockFile::take(&path, 0o600).unwrap().is_some());
    }

    #[test]
    fn only_a_regular_file_is_a_lock() {
        let folder = Folder::new();
        fs::create_dir(folder.path("dir")).unwrap();
        mknodat(CWD, folder.path("fifo"), FileType::Fifo, Mode::RUSR | Mode::WUSR, Dev::default()).unwrap();
        fs::write(folder.path("file"), "").unwrap();
        symlinkat("file", CWD, folder.path("link")).unwrap();
        symlinkat("missing", CWD, folder.path("dangling")).unwrap();
        for (name, why) in [
            ("dir", "is a directory"),
            ("fifo", "not a regular file"),
            ("link", "it is a symbolic link"),
            ("dangling", "it is a symbolic link"),
            ("none/lock", "no such file or directory"),
        ] {
            let path = folder.path(name);
            assert_eq!(error(&path), format!("failed to open lock file `{}`: {why}", path.display()), "{name}");
        }
        assert!(!folder.path("missing").exists());
    }
}
