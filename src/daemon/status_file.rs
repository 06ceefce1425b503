//! The status file: when it is written, and the lock beside it. `status` makes its content, `host/files` writes it
//! like an output file, and `daemon/adoption.rs` applies a new configuration.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::telemetry::write;
use crate::host::files::Destination;
use crate::host::lock_file::LockFile;
use crate::host::logger::Logger;
use crate::log::{Level, Line};
use crate::status::Status;

/// A status file at run time.
pub(super) struct StatusFile {
    destination: Destination,
    /// Held while the program runs, so that `--status` can detect the program.
    lock: Option<LockFile>,
    due: Option<Instant>,
    /// When the file may be written again.
    not_before: Instant,
    /// A failure that was logged.
    failure: Option<String>,
    /// Until this moment attempts to take a held lock are not logged.
    lock_timeout: Option<Instant>,
}

/// The pause between two writes.
const PAUSE: Duration = Duration::from_secs(1);

/// The pause after a failed write, and between attempts to take the lock of another process.
const LONG_PAUSE: Duration = Duration::from_secs(10);

/// `--status` holds the lock for a moment to test it. A lock that is held longer than this belongs to another remco.
const LOCK_TIMEOUT: Duration = Duration::from_secs(1);
const SHORT_PAUSE: Duration = Duration::from_millis(50);

impl StatusFile {
    /// The file is written in the first turn, which is due at once.
    pub(super) fn new(path: PathBuf, now: Instant) -> StatusFile {
        let destination = Destination::passing(path);
        destination.sweep();
        StatusFile { destination, lock: None, due: Some(now), not_before: now, failure: None, lock_timeout: None }
    }

    /// Whether the status file is at this path.
    pub(super) fn is_at(&self, path: &Path) -> bool {
        self.destination.path == path
    }

    /// Something has changed: schedules a write.
    pub(super) fn touch(&mut self, now: Instant) {
        self.due.get_or_insert(self.not_before.max(now));
    }

    /// When a turn is due; `None`: not before something changes.
    pub(super) fn due(&self) -> Option<Instant> {
        self.due
    }

    /// Writes the file if a write is due.
    pub(super) fn turn(&mut self, now: Instant, status: impl FnOnce() -> Status, logger: &Logger) {
        if self.due.is_some_and(|at| at <= now)
            && let Some(line) = self.attempt(now, status)
        {
            logger.log(&line.with("file", self.destination.path.display().to_string()));
        }
    }

    /// Writes the file. Returns a line if the result is new.
    fn attempt(&mut self, now: Instant, status: impl FnOnce() -> Status) -> Option<Line> {
        let locked = match self.lock() {
            Ok(false) if *self.lock_timeout.get_or_insert(now + LOCK_TIMEOUT) > now => {
                self.due = Some(now + SHORT_PAUSE);
                return None;
            }
            Ok(false) => Err(format!("`{}` is locked by another remco", lock_of(&self.destination.path).display())),
            Ok(true) => Ok(()),
            Err(why) => Err(why),
        };
        let written = locked.and_then(|()| write(&mut self.destination, status().to_json().as_bytes()));
        (self.due, self.not_before) = match written {
            Ok(()) => (None, now + PAUSE),
            Err(_) => (Some(now + LONG_PAUSE), now + LONG_PAUSE),
        };
        match written {
            Ok(()) => self.failure.take().map(|_| Line::new(Level::Info, "the status file is written again")),
            Err(why) if self.failure.as_ref() == Some(&why) => None,
            Err(why) => {
                self.failure = Some(why.clone());
                Some(Line::new(Level::Error, "failed to write the status file").with("error", why))
            }
        }
    }

    /// Whether the lock is ours.
    fn lock(&mut self) -> Result<bool, String> {
        if self.lock.is_none() {
            self.lock = LockFile::take(&lock_of(&self.destination.path), LOCK_MODE)?;
        }
        Ok(self.lock.is_some())
    }
}

/// The mode of the lock file: other users may test whether the program runs.
const LOCK_MODE: u32 = 0o644;

/// The lock beside a status file.
pub fn lock_of(path: &Path) -> PathBuf {
    let mut lock = OsString::from(path);
    lock.push(".lock");
    lock.into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::files::tests::Folder;

    fn status() -> Status {
        Status { version: String::new(), pid: 1, since: 0, resources: Vec::new() }
    }

    /// `--status` holds the lock while it tests it.
    #[test]
    fn a_lock_that_is_held_for_a_moment_is_no_other_remco() {
        let (folder, start) = (Folder::new(), Instant::now());
        let path = folder.path("status.json");
        let mut file = StatusFile::new(path.clone(), start);
        let reader = LockFile::take(&lock_of(&path), LOCK_MODE).unwrap().expect("it is free");
        let mut now = start;
        for _ in 0..5 {
            assert!(file.attempt(now, status).is_none() && !path.exists());
            now = file.due().expect("it is tried again");
            assert!(now < start + LOCK_TIMEOUT);
        }
        drop(reader);
        assert!(file.attempt(now, status).is_none() && path.exists());
    }

    #[test]
    fn a_lock_that_stays_is_told_once() {
        let (folder, start) = (Folder::new(), Instant::now());
        let path = folder.path("status.json");
        let mut file = StatusFile::new(path.clone(), start);
        let other = LockFile::take(&lock_of(&path), LOCK_MODE).unwrap().expect("it is free");
        let mut logged = 0;
        while let Some(now) = file.due().filter(|at| *at < start + 4 * LONG_PAUSE) {
            logged += usize::from(file.attempt(now, status).is_some());
        }
        assert_eq!((logged, path.exists()), (1, false));
        drop(other);
        let now = file.due().expect("it is tried again");
        let line = file.attempt(now, status).expect("it works again");
        assert!(line.message.contains("written again") && path.exists());
    }
}
