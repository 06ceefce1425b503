//! The file with our process id. Its lock keeps a second remco from starting with the same file. Any other failure is
//! only logged and never stops the program.

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

/// The file with our process id, decimal and without a newline. Dropping it removes the file.
#[derive(Debug)]
pub struct PidFile {
    path: PathBuf,
    /// Open for as long as the file is ours: closing the descriptor releases the lock.
    file: File,
}

/// Another process holds the lock. The text names the file and the process.
#[derive(Debug)]
pub struct Taken(String);

/// Why the file was not written.
enum Failure {
    Taken(Taken),
    Other(String),
}

/// The content of a file before it is written.
enum Content {
    /// Empty, or the zeros that a crash of the machine leaves of a new file.
    Blank,
    Number(u32),
    Other,
}

impl PidFile {
    /// Writes the file. A failure is logged, and the result is `None`.
    ///
    /// # Errors
    /// A running process holds the lock.
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

    /// Whether the file is the one at this path, and unchanged. The path has to be spelled as for [`PidFile::create`].
    pub fn is_at(&self, path: &Path) -> bool {
        self.path == path && self.is_whole()
    }

    /// The file may have been removed, replaced, or written by another program.
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

/// Opens the file at the path, or creates it, and locks it.
fn lock(path: &Path, logger: &Logger) -> Result<File, Failure> {
    /// After so many attempts the file is probably replaced all the time.
    const ATTEMPTS: usize = 100;
    let shown = path.display();
    let failed = |what: &str, e: io::Error| format!("failed to {what} pid file `{shown}`: {}", cause(&e));
    for _ in 0..ATTEMPTS {
        let file = open_or_create(path, 0o644).map_err(|e| Failure::Other(failed("open", e)))?;
        // By flock: a lock by fcntl would end when any descriptor of the file is closed, for example by a template that
        // reads the file. flock needs only the right to read; docs/operation.md describes the consequence.
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            // The earlier owner may have removed the file between the two calls. Then the lock is on a file without a
            // name.
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
            // A network file system without locks. The content of the file is still useful.
            Err(e) => {
                logger.log(&Line::new(Level::Error, failed("lock", e.into())));
                return Ok(file);
            }
        }
    }
    Err(Failure::Other(failed("lock", io::Error::other("another process keeps replacing it"))))
}

/// Writes our process id, unless the file has other content than a pid file.
fn write(file: File, path: &Path) -> Result<File, Failure> {
    let failed = |e: io::Error| Failure::Other(format!("failed to write pid file `{}`: {}", path.display(), cause(&e)));
    match read(&file).map_err(failed)? {
        Content::Blank | Content::Number(_) => {}
        Content::Other => return Err(failed(io::Error::other("it has other content, which is kept"))),
    }
    let number = std::process::id().to_string();
    // A reader may see an empty file for a moment, but never digits of two numbers.
    match file.set_len(0).and_then(|()| file.write_all_at(number.as_bytes(), 0)) {
        Ok(()) => Ok(file),
        Err(e) => {
            // A file that is half written has a wrong number.
            remove(&file, path);
            Err(failed(e))
        }
    }
}

/// Removes the file that the path leads to. A link stays, as with the `dst` of a template.
fn remove(file: &File, path: &Path) {
    if fs::canonicalize(path).and_then(fs::remove_file).is_err() {
        // The file cannot be removed and is emptied instead. If that fails too, the file has no lock any more, and the
        // next start takes it over.
        let _ = file.set_len(0);
    }
}

/// Whether the path still leads to this file.
fn is_at(file: &File, path: &Path) -> bool {
    let identity = |meta: fs::Metadata| (meta.dev(), meta.ino());
    file.metadata().map(identity).ok().is_some_and(|ours| fs::metadata(path).map(identity).is_ok_and(|it| it == ours))
}

fn read(file: &File) -> io::Result<Content> {
    // A file that fills the buffer has more content than a number.
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
