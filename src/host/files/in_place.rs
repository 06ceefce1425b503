//! Writes into files that cannot be replaced: bind-mounted files, and files in directories that we may not write to.
//! Space is reserved before a byte changes, and the old bytes are restored if writing fails anyway. Does not
//! decide when.

use std::fs::File;
use std::io::{self, Read, Seek, Write};

use rustix::fs::{FallocateFlags, OFlags, fallocate, fstat};
use rustix::io::Errno;

use super::Destination;
use super::place::{Found, Place};
use crate::error::cause;

/// A file that could not be replaced.
pub struct Failure {
    /// Verb, subject, cause.
    pub message: String,
    /// Neither the old content nor the new one is in place.
    pub is_damaged: bool,
}

impl From<String> for Failure {
    fn from(message: String) -> Failure {
        Failure { message, is_damaged: false }
    }
}

impl Destination {
    /// Replaces the content of a file. If the program is killed meanwhile, the file is neither old nor new; the next
    /// start sees the difference and writes it again.
    ///
    /// # Errors
    /// The old content is still in place, unless the failure says otherwise.
    pub(super) fn overwrite(&self, place: &Place, content: &[u8], warnings: &mut Vec<String>) -> Result<(), Failure> {
        let why = if self.in_place { "which is written in place" } else { "a mount point that cannot be renamed over" };
        let failed =
            |what: &str, e: &io::Error| format!("failed to {what} `{}`, {why}: {}", place.path.display(), cause(e));
        let mut file = place.open(OFlags::RDWR).map_err(|e| failed("open", &e))?;
        let found = fstat(&file).map(|meta| Found::of(&meta)).map_err(|e| failed("look at", &e.into()))?;
        let old = Replaced::read(&file, found.size, content.len()).map_err(|e| failed("read", &e))?;
        reserve(&file, content.len()).map_err(|e| failed("reserve space for", &e))?;
        self.apply_owner_and_mode(&file, Some(found), None, warnings).map_err(|(what, e)| failed(what, &e))?;
        self.write_whole(&mut file, content).map_err(|e| match old.restore(&mut file) {
            Ok(()) => failed("write", &e).into(),
            Err(again) => {
                let message = failed("write", &e);
                let message = format!("{message}; failed to restore the old content: {}", cause(&again));
                Failure { message, is_damaged: true }
            }
        })
    }

    /// The rest of a longer old text is cut only after everything is written, so that the old text can be restored.
    fn write_whole(&self, file: &mut File, content: &[u8]) -> io::Result<()> {
        file.rewind()?;
        file.write_all(content)?;
        file.set_len(content.len() as u64)?;
        self.sync(file)
    }
}

/// The parts of an old content that may be lost.
struct Replaced {
    /// The bytes that will be overwritten.
    head: Vec<u8>,
    /// The bytes that will be cut off; empty if they are too many to keep. Cutting needs no space on the disk.
    tail: Vec<u8>,
    size: u64,
}

impl Replaced {
    /// A longer tail is not restored.
    const LARGEST_TAIL: u64 = 64 << 20;

    fn read(file: &File, size: u64, overwritten: usize) -> io::Result<Replaced> {
        let (mut head, mut tail) = (Vec::new(), Vec::new());
        file.take(overwritten as u64).read_to_end(&mut head)?;
        if size.saturating_sub(head.len() as u64) <= Replaced::LARGEST_TAIL {
            file.take(Replaced::LARGEST_TAIL).read_to_end(&mut tail)?;
        }
        Ok(Replaced { head, tail, size })
    }

    fn restore(&self, file: &mut File) -> io::Result<()> {
        file.rewind()?;
        file.write_all(&self.head)?;
        file.write_all(&self.tail)?;
        file.set_len(self.size)?;
        file.sync_all()
    }
}

/// Reserves space for so many bytes; size and content of the file stay. A file system without this function reports so,
/// and a write that fails later is undone.
fn reserve(file: &File, length: usize) -> io::Result<()> {
    match fallocate(file, FallocateFlags::KEEP_SIZE, 0, length as u64) {
        // INVAL: an empty text needs no space.
        Ok(()) | Err(Errno::OPNOTSUPP | Errno::NOSYS | Errno::INVAL) => Ok(()),
        Err(e) => Err(e.into()),
    }
}
