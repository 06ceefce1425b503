//! The file that tells others our process number, and keeps a second remco from starting on it: it carries a lock for
//! as long as we live. Any failure but that one is only logged, and never stops the program.

use std::fmt;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;

use super::files::open_or_create;
use super::logger::Logger;
use crate::error::cause;
use crate::log::{Level, Line};

/// Holds our process number, decimal and without a newline, until it is dropped.
#[derive(Debug)]
pub struct PidFile {
    path: PathBuf,
    /// Open as long as it is ours: the lock goes with the descriptor.
    file: File,
}

/// Another process has the lock; says which file and whose.
#[derive(Debug)]
pub struct Taken(String);

/// Why there is no file of ours.
enum Failure {
    Taken(Taken),
    Other(String),
}

/// What a file says before we write to it.
enum Content {
    /// Nothing, or what a crash of the machine leaves of a file that was just written: zeros.
    Blank,
    Number(u32),
    Other,
}

impl PidFile {
    /// Writes the file. Where that fails it is logged, and there is none.
    ///
    /// # Errors
    /// Another process, alive, has it.
    pub fn create(path: &Path, logger: &Logger) -> Result<Option<PidFile>, Taken> {
        logger.log(&Line::new(Level::Info, format!("creating pid file at \"{}\"", path.display())));
        match lock(path, logger).and_then(|file| write(file, path)) {
            Ok(file) => Ok(Some(PidFile { path: path.to_owned(), file })),
            Err(Failure::Taken(taken)) => Err(taken),
            Err(Failure::Other(message)) => {
                logger.log(&Line::new(Level::Error, message));
                Ok(None)
            }
        }
    }

    /// Whether it is the one at this path, which is given as it was to [`PidFile::create`], and still there as it was
    /// written.
    pub fn is_at(&self, path: &Path) -> bool {
        self.path == path && self.is_whole()
    }

    /// Somebody may have removed it, put another in its place, or written his own number into it.
    fn is_whole(&self) -> bool {
        is_at(&self.file, &self.path)
            && matches!(read(&self.file), Ok(Content::Number(number)) if number == std::process::id())
    }
}

impl fmt::Display for Taken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Drop for PidFile {
    fn drop(&mut self) {
        if self.is_whole() {
            remove(&self.file, &self.path);
        }
    }
}

/// Opens the file at the path, new or old, and locks it.
fn lock(path: &Path, logger: &Logger) -> Result<File, Failure> {
    /// Somebody who replaces the file that often will not stop.
    const ATTEMPTS: usize = 100;
    let shown = path.display();
    let failed = |what: &str, e: io::Error| format!("failed to {what} pid file `{shown}`: {}", cause(&e));
    for _ in 0..ATTEMPTS {
        let file = open_or_create(path, 0o644).map_err(|e| Failure::Other(failed("open", e)))?;
        // Not one of fcntl's, which goes when any descriptor of the file is closed: a template that looks at it would
        // do. This one asks for no more than leave to read: docs/operation.md says what that means.
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            // The one who had it may have removed it between our two calls: then our lock keeps nobody out.
            Ok(()) if is_at(&file, path) => return Ok(file),
            Ok(()) | Err(Errno::INTR) => {}
            Err(Errno::WOULDBLOCK) => {
                let holder = match read(&file) {
                    Ok(Content::Number(number)) => format!(", process {number}"),
                    Ok(Content::Blank | Content::Other) | Err(_) => String::new(),
                };
                let message = format!("pid file `{shown}` is in use by another remco{holder}");
                return Err(Failure::Taken(Taken(message)));
            }
            // A network file system without locks. Who reads the file is still served.
            Err(e) => {
                logger.log(&Line::new(Level::Error, failed("lock", e.into())));
                return Ok(file);
            }
        }
    }
    Err(Failure::Other(failed("lock", io::Error::other("it is another file at every look"))))
}

/// Writes our number, unless that would destroy what was never a pid file.
fn write(file: File, path: &Path) -> Result<File, Failure> {
    let failed = |e: io::Error| Failure::Other(format!("failed to write pid file `{}`: {}", path.display(), cause(&e)));
    match read(&file).map_err(failed)? {
        Content::Blank | Content::Number(_) => {}
        Content::Other => return Err(failed(io::Error::other("it holds something else, which is left alone"))),
    }
    let number = std::process::id().to_string();
    // Nothing, for a moment, and never the digits of two.
    match file.set_len(0).and_then(|()| file.write_all_at(number.as_bytes(), 0)) {
        Ok(()) => Ok(file),
        Err(e) => {
            // Half written it says the wrong thing.
            remove(&file, path);
            Err(failed(e))
        }
    }
}

/// Removes what the path leads to. A link stays, as with the `dst` of a template.
fn remove(file: &File, path: &Path) {
    if fs::canonicalize(path).and_then(fs::remove_file).is_err() {
        // It stays then, and says nothing. Where that fails too nobody is left to be told: it has no lock any more, and
        // the next start takes it over.
        let _ = file.set_len(0);
    }
}

/// Whether the path still leads to this file.
fn is_at(file: &File, path: &Path) -> bool {
    let identity = |meta: fs::Metadata| (meta.dev(), meta.ino());
    file.metadata().map(identity).ok().is_some_and(|ours| fs::metadata(path).map(identity).is_ok_and(|it| it == ours))
}

fn read(file: &File) -> io::Result<Content> {
    // One that fills it has more than a number.
    let mut buffer = [0; 64];
    let length = file.read_at(&mut buffer, 0)?;
    if length == buffer.len() {
        return Ok(Content::Other);
    }
    let text = buffer[..length].trim_ascii();
    if text.iter().all(|byte| *byte == 0) {
        return Ok(Content::Blank);
    }
    let number = text.iter().all(u8::is_ascii_digit).then(|| str::from_utf8(text).ok()?.parse().ok()).flatten();
    Ok(number.map_or(Content::Other, Content::Number))
}
