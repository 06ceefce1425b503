//! The status file: when it is written, the lock beside it, and what becomes of it after SIGHUP. Its content is `status`'s, its
//! bytes are written as those of any output file.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::telemetry::write;
use crate::host::files::Destination;
use crate::host::lock_file::LockFile;
use crate::host::logger::Logger;
use crate::log::{Level, Line};
use crate::status::Status;

/// A status file at work.
pub(super) struct StatusFile {
    destination: Destination,
    /// Held for as long as the program runs: so `--status` knows that it does.
    lock: Option<LockFile>,
    due: Option<Instant>,
    /// When the file may be written again.
    not_before: Instant,
    /// A failure that was logged.
    failure: Option<String>,
}

/// Between two writes.
const PAUSE: Duration = Duration::from_secs(1);

/// After a failed write, and until a lock of another process is tried again.
const LONG_PAUSE: Duration = Duration::from_secs(10);

impl StatusFile {
    /// The file is written in the first turn, which is due at once.
    pub(super) fn new(path: PathBuf, now: Instant) -> StatusFile {
        let destination = Destination::passing(path);
        destination.sweep();
        StatusFile { destination, lock: None, due: Some(now), not_before: now, failure: None }
    }

    /// Whether it is the file at this path.
    pub(super) fn is_at(&self, path: &Path) -> bool {
        self.destination.path == path
    }

    /// Something has changed: the file is written soon.
    pub(super) fn touch(&mut self, now: Instant) {
        self.due.get_or_insert(self.not_before.max(now));
    }

    /// When a turn is due; `None`: not before something changes.
    pub(super) fn due(&self) -> Option<Instant> {
        self.due
    }

    /// Writes the file, if that is due.
    pub(super) fn turn(&mut self, now: Instant, status: impl FnOnce() -> Status, logger: &Logger) {
        if self.due.is_none_or(|at| at > now) {
            return;
        }
        let written = self.lock().and_then(|()| write(&self.destination, status().to_json().as_bytes()));
        (self.due, self.not_before) = match written {
            Ok(()) => (None, now + PAUSE),
            Err(_) => (Some(now + LONG_PAUSE), now + LONG_PAUSE),
        };
        match written {
            Ok(()) => {
                if self.failure.take().is_some() {
                    logger.log(&self.about(Line::new(Level::Info, "the status file is written again")));
                }
            }
            Err(why) if self.failure.as_ref() == Some(&why) => {}
            Err(why) => {
                let line = Line::new(Level::Error, "failed to write the status file").with("error", why.clone());
                logger.log(&self.about(line));
                self.failure = Some(why);
            }
        }
    }

    fn lock(&mut self) -> Result<(), String> {
        if self.lock.is_none() {
            let path = lock_of(&self.destination.path);
            let taken = LockFile::take(&path, LOCK_MODE)?;
            self.lock = Some(taken.ok_or_else(|| format!("`{}` is locked by another remco", path.display()))?);
        }
        Ok(())
    }

    fn about(&self, line: Line) -> Line {
        line.with("file", self.destination.path.display().to_string())
    }
}

/// Others may see whether the program runs.
const LOCK_MODE: u32 = 0o644;

/// The lock beside a status file.
pub fn lock_of(path: &Path) -> PathBuf {
    let mut lock = OsString::from(path);
    lock.push(".lock");
    lock.into()
}
