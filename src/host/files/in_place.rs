//! Writes into files that cannot be replaced: a bind-mounted one, or one of which only the inode may be written. The
//! space is reserved before a byte is changed, and the old bytes are put back if writing fails all the same. Decides
//! nothing about when.

use std::fs::File;
use std::io::{self, Read, Seek, Write};

use rustix::fs::{FallocateFlags, OFlags, fallocate, fstat};
use rustix::io::Errno;

use super::Destination;
use super::place::{Found, Place};
use crate::error::cause;

impl Destination {
    /// Replaces the content of the file that was found. Killed midway it leaves a file that is neither the old nor the
    /// new one; the next start sees the difference and writes it again.
    ///
    /// # Errors
    /// The old content is still there, unless the message says otherwise.
    pub(super) fn overwrite(&self, place: &Place, content: &[u8], warnings: &mut Vec<String>) -> Result<(), String> {
        let why = if self.in_place { "which is written in place" } else { "a mount point that cannot be renamed over" };
        let failed =
            |what: &str, e: &io::Error| format!("failed to {what} `{}`, {why}: {}", place.path.display(), cause(e));
        let mut file = place.open(OFlags::RDWR).map_err(|e| failed("open", &e))?;
        let found = fstat(&file).map(|meta| Found::of(&meta)).map_err(|e| failed("look at", &e.into()))?;
        let old = Old::read(&file, found.size, content.len()).map_err(|e| failed("read", &e))?;
        reserve(&file, content.len()).map_err(|e| failed("reserve space for", &e))?;
        self.apply_owner_and_mode(&file, Some(found), None, warnings).map_err(|(what, e)| failed(what, &e))?;
        self.write_whole(&mut file, content).map_err(|e| match old.restore(&mut file) {
            Ok(()) => failed("write", &e),
            Err(again) => format!("{}; failed to restore the old content: {}", failed("write", &e), cause(&again)),
        })
    }

    /// Cuts what is left of a longer text only when all before it is written, so that the old text can be put back.
    fn write_whole(&self, file: &mut File, content: &[u8]) -> io::Result<()> {
        file.rewind()?;
        file.write_all(content)?;
        file.set_len(content.len() as u64)?;
        self.sync(file)
    }
}

/// What may be lost of an old content.
struct Old {
    /// No more than what is overwritten.
    head: Vec<u8>,
    /// What is cut off behind that. Empty where it is too large to keep: a disk has room for what it takes less of.
    tail: Vec<u8>,
    size: u64,
}

impl Old {
    /// A tail of more bytes is not put back.
    const LARGEST_TAIL: u64 = 64 << 20;

    fn read(file: &File, size: u64, overwritten: usize) -> io::Result<Old> {
        let (mut head, mut tail) = (Vec::new(), Vec::new());
        file.take(overwritten as u64).read_to_end(&mut head)?;
        if size.saturating_sub(head.len() as u64) <= Old::LARGEST_TAIL {
            file.take(Old::LARGEST_TAIL).read_to_end(&mut tail)?;
        }
        Ok(Old { head, tail, size })
    }

    fn restore(&self, file: &mut File) -> io::Result<()> {
        file.rewind()?;
        file.write_all(&self.head)?;
        file.write_all(&self.tail)?;
        file.set_len(self.size)?;
        file.sync_all()
    }
}

/// Has the file system keep room for so many bytes, while size and content stay as they are. One that cannot do that says
/// so, and a write that fails later is undone.
fn reserve(file: &File, length: usize) -> io::Result<()> {
    match fallocate(file, FallocateFlags::KEEP_SIZE, 0, length as u64) {
        // INVAL: there is nothing to reserve for an empty text.
        Ok(()) | Err(Errno::OPNOTSUPP | Errno::NOSYS | Errno::INVAL) => Ok(()),
        Err(e) => Err(e.into()),
    }
}
