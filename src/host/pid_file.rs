//! The file that tells others our process number, and keeps a second remco from starting on it: it carries a lock for
//! as long as we live. Any failure but that one is only logged, and never stops the program.

use std::fmt;
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, Mode, OFlags, fcntl_lock};
use rustix::io::Errno;

use super::logger::Logger;
use crate::error::cause;
use crate::log::{Level, Line};

/// Holds our process number, decimal and without a newline, until it is dropped. A process may have one: the lock would
/// not keep it from a second one on the same file, but go with the first of them.
#[derive(Debug)]
pub struct PidFile {
    path: PathBuf,
    /// Open as long as it is ours: the lock goes with the descriptor.
    file: Option<File>,
}

/// Another process has the lock; says which file and whose.
#[derive(Debug)]
pub struct Taken(String);

/// Why there is no file of ours.
enum Failure {
    Taken(Taken),
    Other(String),
}

impl PidFile {
    /// Writes the file. Where that fails it is logged, and the result is a `PidFile` that has nothing.
    ///
    /// # Errors
    /// Another process, alive, has it.
    pub fn create(path: &Path, logger: &Logger) -> Result<PidFile, Taken> {
        let shown = path.display();
        logger.log(&Line::new(Level::Info, format!("creating pid file at \"{shown}\"")));
        let file = match lock(path, logger).and_then(|file| write(&file, path).map(|()| file)) {
            Ok(file) => Some(file),
            Err(Failure::Taken(taken)) => return Err(taken),
            Err(Failure::Other(message)) => {
                logger.log(&Line::new(Level::Error, message));
                None
            }
        };
        Ok(PidFile { path: path.to_owned(), file })
    }

    /// Whether it is the one at this path, which is given as it was to [`PidFile::create`], and could be written.
    pub fn is_at(&self, path: &Path) -> bool {
        self.file.is_some() && self.path == path
    }
}

impl fmt::Display for Taken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Drop for PidFile {
    fn drop(&mut self) {
        // Somebody may have removed it, put another in its place, or written his own number into it.
        if let Some(file) = &mut self.file
            && is_at(file, &self.path)
            && number(file) == Some(std::process::id())
        {
            // Where that fails nobody is left to be told. The file stays, without a lock: the next start takes it over.
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// Opens the file at the path, new or old, and locks it.
fn lock(path: &Path, logger: &Logger) -> Result<File, Failure> {
    let shown = path.display();
    let failed = |what: &str, e: io::Error| format!("failed to {what} pid file `{shown}`: {}", cause(&e));
    // Without waiting for a reader, should it be a fifo.
    let flags = OFlags::RDWR | OFlags::CREATE | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
    loop {
        let file = rustix::fs::open(path, flags, Mode::from_raw_mode(0o644));
        let mut file = File::from(file.map_err(|e| Failure::Other(failed("open", e.into())))?);
        if !file.metadata().is_ok_and(|meta| meta.is_file()) {
            return Err(Failure::Other(failed("write", io::Error::other("not a regular file"))));
        }
        // Not flock, which asks for no more than leave to read: then anybody could keep us from starting.
        match fcntl_lock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(Errno::ACCESS | Errno::AGAIN) => {
                let holder = number(&mut file).map_or(String::new(), |number| format!(", process {number}"));
                let message = format!("pid file `{shown}` is in use by another remco{holder}");
                return Err(Failure::Taken(Taken(message)));
            }
            // A network file system without locks. Who reads the file is still served.
            Err(e) => logger.log(&Line::new(Level::Error, failed("lock", e.into()))),
        }
        // The one who had it may have removed it between our two calls: then our lock keeps nobody out.
        if is_at(&file, path) {
            return Ok(file);
        }
    }
}

fn write(mut file: &File, path: &Path) -> Result<(), Failure> {
    let number = std::process::id().to_string();
    // Nothing, for a moment, and never the digits of two.
    file.set_len(0).and_then(|()| file.write_all(number.as_bytes())).map_err(|e| {
        // Empty it says nothing, and half written the wrong thing.
        let _ = fs::remove_file(path);
        Failure::Other(format!("failed to write pid file `{}`: {}", path.display(), cause(&e)))
    })
}

/// Whether the path still leads to this file.
fn is_at(file: &File, path: &Path) -> bool {
    let identity = |meta: fs::Metadata| (meta.dev(), meta.ino());
    file.metadata().map(identity).ok().is_some_and(|ours| fs::metadata(path).map(identity).is_ok_and(|it| it == ours))
}

/// The process number that the file holds.
fn number(file: &mut File) -> Option<u32> {
    let mut text = String::new();
    rustix::fs::seek(&*file, rustix::fs::SeekFrom::Start(0)).ok()?;
    file.take(20).read_to_string(&mut text).ok()?;
    text.trim_end().parse().ok()
}
