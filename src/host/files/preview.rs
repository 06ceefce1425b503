//! A preview of an installation, without writing to the destination: the present file, and the mode and owner of the
//! new one. Creates the file for the check command in a private directory. Prints nothing.

use std::fs;
use std::io::{self, Read, Write};
use std::os::fd::BorrowedFd;
use std::path::{Path, PathBuf};

use rustix::fs::{Access, OFlags, access};

use super::place::{Place, Target, Unresolved, locate, parent, split};
use super::stage::{StageFile, sweep_private};
use super::{Destination, without_directory};
use crate::error::cause;

/// The present and the new state of a destination.
#[derive(Debug)]
pub struct Preview {
    /// Absolute, and without links as far as the path exists.
    pub path: PathBuf,
    /// The present file.
    pub present: Present,
    /// The permission bits of the new file.
    pub mode: u32,
    /// User and group of the new file; `None`: the defaults of the system.
    pub owner: Option<(u32, u32)>,
    /// Device and inode of the file that would be replaced.
    pub replaces: Option<(u64, u64)>,
}

/// The present file of a destination.
#[derive(Debug)]
pub enum Present {
    /// Nothing.
    Missing,
    /// A regular file.
    File {
        /// `None`: it is larger than [`LARGEST`].
        content: Option<Vec<u8>>,
        /// Permission bits.
        mode: u32,
        /// User and group.
        owner: (u32, u32),
    },
    /// A device, a fifo or a descriptor: it cannot be read back.
    Special,
}

/// The largest shown file, in bytes: the default limit of a result.
const LARGEST: u64 = 256 << 20;

/// The mode of a new file without a configured one.
const NEW_MODE: u32 = 0o644;

/// A result in a file for its check command, which is never installed. Dropping it removes the file.
#[derive(Debug)]
pub struct Trial {
    file: StageFile,
}

impl Trial {
    /// The path of the file.
    pub fn path(&self) -> &Path {
        &self.file.path
    }

    /// The descriptor that the check command has to inherit, if the path refers to one.
    pub fn inherited(&self) -> Option<BorrowedFd<'_>> {
        self.file.inherited()
    }
}

impl Destination {
    /// Examines the file that an installation would replace.
    ///
    /// # Errors
    /// The present file cannot be read, or the directory is missing and would not be made.
    pub fn preview(&self) -> Result<Preview, String> {
        let (place, present) = match self.locate()? {
            None if !self.make_directories => {
                return Err(without_directory(&self.missing_directory()?));
            }
            None => return Ok(self.preview_of(absolute(&self.path), Present::Missing)),
            Some(Target::Descriptor(_) | Target::Special(_)) => {
                return Ok(self.preview_of(self.path.clone(), Present::Special));
            }
            Some(Target::Regular(place)) => {
                let present =
                    present(&place).map_err(|e| format!("failed to read `{}`: {}", place.path.display(), cause(&e)))?;
                (place, present)
            }
        };
        let mut preview = self.preview_of(absolute(&place.path), present);
        preview.replaces = place.found.map(|found| found.identity);
        Ok(preview)
    }

    fn preview_of(&self, path: PathBuf, present: Present) -> Preview {
        let (mode, owner) = match &present {
            // Setuid and setgid are not inherited.
            Present::File { mode, owner, .. } => (mode & 0o1777, Some(*owner)),
            Present::Missing | Present::Special => (NEW_MODE, None),
        };
        // The user of a new file is known only if it is configured. Otherwise the number of the process is shown.
        let owner = match (owner, self.uid, self.gid) {
            (Some((uid, gid)), _, _) => Some((self.uid.unwrap_or(uid), self.gid.unwrap_or(gid))),
            (None, None, None) => None,
            (None, uid, gid) => Some((
                uid.unwrap_or_else(|| rustix::process::geteuid().as_raw()),
                gid.unwrap_or_else(|| rustix::process::getegid().as_raw()),
            )),
        };
        Preview { path, present, mode: self.mode.unwrap_or(mode), owner, replaces: None }
    }

    /// Removes the check files of killed previews. A directory that another process uses is locked, and stays.
    pub fn sweep_trials(&self) {
        sweep_private(&self.path, self.name());
    }

    /// Writes a result for its check command: in a new private directory, or in memory if that is impossible.
    ///
    /// # Errors
    /// The file could not be written. No file is left.
    pub fn try_out(&self, content: &[u8]) -> Result<Trial, String> {
        let (file, mut writer) = self.stage_elsewhere(self.name())?;
        let written = writer.write_all(content).and_then(|()| file.seal(writer));
        written.map_err(|e| format!("failed to write `{}`: {}", file.path.display(), cause(&e)))?;
        Ok(Trial { file })
    }
}

/// Why a file cannot be created or replaced at a path; `None`: no obstacle is known. Changes nothing.
pub fn obstacle(dst: &Path, make_directories: bool, in_place: bool) -> Option<String> {
    let place = match locate(dst) {
        Ok(Target::Regular(place)) => place,
        Ok(Target::Special(_) | Target::Descriptor(_)) => return None,
        Err(Unresolved::NoDirectory(_)) if make_directories => return None,
        Err(Unresolved::NoDirectory(dir)) => {
            return Some(format!("{}, or set `make_directories = true`", no_directory(&dir)));
        }
        Err(unresolved) => return Some(unresolved.into()),
    };
    let is_writable = |path: &Path| access(path, Access::WRITE_OK).map_err(io::Error::from);
    if place.found.is_some() && (in_place || place.is_mount_point()) {
        let failed = |e: io::Error| format!("`{}` is not writable: {}", place.path.display(), cause(&e));
        return is_writable(&place.path).map_err(failed).err();
    }
    let dir = place.directory();
    is_writable(&dir).map_err(|e| format!("directory `{}` is not writable: {}", dir.display(), cause(&e))).err()
}

/// Like [`obstacle`], for a file of remco itself, whose directory is not created.
pub fn own_obstacle(path: &Path) -> Option<String> {
    match locate(path) {
        Err(Unresolved::NoDirectory(dir)) => Some(no_directory(&dir)),
        Ok(_) | Err(_) => obstacle(path, false, false),
    }
}

fn no_directory(dir: &Path) -> String {
    format!("there is no directory `{}`: make it", dir.display())
}

fn present(place: &Place) -> io::Result<Present> {
    let Some(found) = place.found else { return Ok(Present::Missing) };
    let mut content = None;
    let file = place.open(OFlags::RDONLY)?;
    if found.size <= LARGEST {
        let mut bytes = Vec::with_capacity(usize::try_from(found.size).unwrap_or(0));
        // The file may grow meanwhile.
        file.take(LARGEST + 1).read_to_end(&mut bytes)?;
        content = Some(bytes).filter(|bytes| bytes.len() as u64 <= LARGEST);
    }
    Ok(Present::File { content, mode: found.mode, owner: (found.uid, found.gid) })
}

/// The path without links and `..`, as far as it exists. patch(1) follows neither.
fn absolute(path: &Path) -> PathBuf {
    let (there, missing) = split(&parent(path));
    // A directory that may be entered but not listed has no other name.
    let there = fs::canonicalize(&there).unwrap_or_else(|_| std::path::absolute(&there).unwrap_or(there));
    let mut whole = there;
    whole.extend(missing);
    whole.extend(path.file_name());
    whole
}
