//! Finishes renames of files that belong together after a crash: recognises the stage files of a journal, and renames
//! them like an installation. Does not decide which ones.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use rustix::fs::{AtFlags, FileType, FlockOperation, OFlags, flock, fstat, fsync, renameat, statat};
use rustix::io::Errno;

use super::place::{Found, Place, Target, open_regular};
use super::written::read_pieces;
use super::{Destination, Stage, stage};
use crate::config::Durability;
use crate::error::cause;
use crate::fnv::Sum;
use crate::state::journal::Staged;

/// The state of a file in a journal.
#[derive(Debug)]
pub enum Unfinished {
    /// It was renamed.
    InPlace,
    /// Its stage file exists as the journal describes it.
    Staged(Left),
}

/// A stage file that an earlier run has left, recognised and locked. Dropping it leaves the file.
#[derive(Debug)]
pub struct Left {
    place: Place,
    name: OsString,
    file: File,
}

impl Destination {
    /// The properties by which the file of a stage is recognised after a crash. `None`: the result is not renamed, but
    /// written to the destination.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn note(&self, stage: &Stage) -> io::Result<Option<Staged>> {
        let (Some(file), Target::Regular(place)) = (&stage.file, &stage.target) else { return Ok(None) };
        let Some((_, name)) = file.beside_at() else { return Ok(None) };
        if self.is_written_to(place) {
            return Ok(None);
        }
        let name = name.as_bytes().to_vec();
        // A check command may have changed the file.
        let mut file = file.checked()?;
        let found = Found::of(&fstat(&file)?);
        let (size, digest) = digest_of(&mut file, found.size)?;
        Ok(Some(Staged { name, size, digest, mode: found.mode, uid: found.uid, gid: found.gid }))
    }

    /// The state of a file in a journal. Renames nothing.
    ///
    /// # Errors
    /// The file is neither in place nor a stage file as the journal describes it.
    pub fn find_unfinished(&self, staged: &Staged) -> Result<Unfinished, String> {
        let Some(Target::Regular(place)) = self.locate()? else {
            return Err("its directory is gone, or it is no regular file any more".to_owned());
        };
        let name = OsStr::from_bytes(&staged.name);
        if !stage::is_stage_name(&place.name, name) || self.is_written_to(&place) {
            return Err("it would not be replaced by the stage file that was noted".to_owned());
        }
        let shown = place.directory().join(name);
        let failed =
            |what: &str, path: &Path, e: &io::Error| format!("failed to {what} `{}`: {}", path.display(), cause(e));
        // A fifo would notice an open, so the type is checked first.
        match statat(&place.dir, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(meta) if FileType::from_raw_mode(meta.st_mode) == FileType::RegularFile => {}
            Ok(_) => return Err(format!("its stage file `{}` is no regular file any more", shown.display())),
            Err(Errno::NOENT) => {
                return match has_content(&place, staged).map_err(|e| failed("read", &place.path, &e))? {
                    true => Ok(Unfinished::InPlace),
                    false => Err(format!("its stage file `{}` is gone", shown.display())),
                };
            }
            Err(e) => return Err(failed("look at", &shown, &e.into())),
        }
        let (mut file, _) = open_regular(&place.dir, name, OFlags::RDONLY).map_err(|e| failed("open", &shown, &e))?;
        if flock(&file, FlockOperation::NonBlockingLockExclusive) == Err(Errno::WOULDBLOCK) {
            return Err(format!("another process uses its stage file `{}`", shown.display()));
        }
        let meta = fstat(&file).map_err(|e| failed("look at", &shown, &e.into()))?;
        let found = Found::of(&meta);
        let is_ours = (found.mode, found.uid, found.gid, meta.st_nlink) == (staged.mode, staged.uid, staged.gid, 1);
        if !is_ours || digest_of(&mut file, staged.size).map_err(|e| failed("read", &shown, &e))? != content_of(staged)
        {
            return Err(format!("its stage file `{}` is not as it was written", shown.display()));
        }
        Ok(Unfinished::Staged(Left { name: name.to_owned(), place, file }))
    }

    /// Renames a stage file to its place, with backup and syncs like an installation. Returns a warning
    /// if the file is in place but may not survive a power cut.
    ///
    /// # Errors
    /// The old content is still in place.
    pub fn finish(&self, left: Left) -> Result<Option<String>, String> {
        let Left { place, name, file } = left;
        let failed = |what: &str, e: &io::Error| format!("failed to {what} `{}`: {}", place.path.display(), cause(e));
        self.sync(&file).map_err(|e| failed("sync the stage file of", &e))?;
        let backup = self.back_up(&place).map_err(|e| failed("back up", &e))?;
        let renamed = renameat(&place.dir, &name, &place.dir, &place.name);
        backup.into_iter().for_each(|backup| backup.end(renamed.is_err()));
        renamed.map_err(|e| failed("rename the stage file of", &e.into()))?;
        let synced = if self.durability == Durability::Full { fsync(&place.dir) } else { Ok(()) };
        Ok(synced.err().map(|e| {
            let (path, directory) = (place.path.display(), place.directory());
            format!("replaced `{path}`, but failed to sync `{}`: {}", directory.display(), cause(&e.into()))
        }))
    }

    /// Whether the file at a place is written to instead of being replaced.
    fn is_written_to(&self, place: &Place) -> bool {
        self.in_place && place.found.is_some() || place.is_mount_point()
    }
}

/// Whether the destination has the content in the journal.
fn has_content(place: &Place, staged: &Staged) -> io::Result<bool> {
    match place.found {
        Some(found) if found.size == staged.size => {
            Ok(digest_of(&mut place.open(OFlags::RDONLY)?, staged.size)? == content_of(staged))
        }
        Some(_) | None => Ok(false),
    }
}

fn content_of(staged: &Staged) -> (u64, u64) {
    (staged.size, staged.digest)
}

/// The size and the digest of a file. Reads one byte more than that size at the most.
fn digest_of(file: &mut File, size: u64) -> io::Result<(u64, u64)> {
    let mut digest = Sum::new();
    let read = read_pieces(file, size, |piece| digest.add(piece))?;
    Ok((read, digest.value()))
}
