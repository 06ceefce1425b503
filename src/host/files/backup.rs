//! The backup of a destination (`backup = true`): the old file gets the name of the destination and `.bak` before a
//! byte of the destination changes. Does not write to the destination itself.

use std::ffi::OsString;
use std::io;

use rustix::fs::{AtFlags, FileType, RenameFlags, fsync, renameat, renameat_with, statat};
use rustix::io::Errno;

use super::Destination;
use super::kept_file::{self, KeepBy};
use super::place::Place;
use crate::config::Durability;

/// A backup that is in place, until it is known whether the destination was replaced.
pub struct Backup<'a> {
    place: &'a Place,
    name: OsString,
    temporary: OsString,
    earlier: Earlier,
}

/// The earlier backup.
enum Earlier {
    /// There was none.
    None,
    /// It has the temporary name.
    Set,
    /// The file system cannot exchange names.
    Lost,
}

impl Destination {
    /// Makes the file at a place the backup. `None`: no backup is configured, or there is no file.
    ///
    /// # Errors
    /// The file cannot be kept. The earlier backup is still in place.
    pub(super) fn back_up<'a>(&self, place: &'a Place) -> io::Result<Option<Backup<'a>>> {
        match self.backup && place.found.is_some() {
            true => Backup::make(place, self.keep_by(place), self.durability).map(Some),
            false => Ok(None),
        }
    }
}

impl<'a> Backup<'a> {
    /// Makes the present file the backup.
    ///
    /// # Errors
    /// The file cannot be kept. The earlier backup is still in place.
    fn make(place: &'a Place, by: KeepBy, durability: Durability) -> io::Result<Backup<'a>> {
        let (name, temporary) = (name(place), temporary_name(place));
        kept_file::keep(place, &temporary, by)?;
        let earlier = match statat(&place.dir, &name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(meta) if FileType::from_raw_mode(meta.st_mode) == FileType::Directory => {
                Err(io::Error::other(format!("`{}` is a directory", name.display())))
            }
            Ok(_) => match renameat_with(&place.dir, &temporary, &place.dir, &name, RenameFlags::EXCHANGE) {
                Ok(()) => Ok(Earlier::Set),
                Err(_) => {
                    renameat(&place.dir, &temporary, &place.dir, &name).map(|()| Earlier::Lost).map_err(Into::into)
                }
            },
            Err(Errno::NOENT) => {
                renameat(&place.dir, &temporary, &place.dir, &name).map(|()| Earlier::None).map_err(Into::into)
            }
            Err(e) => Err(e.into()),
        };
        let earlier = earlier.inspect_err(|_| kept_file::discard(&place.dir, &temporary))?;
        if by == KeepBy::Copied && durability == Durability::Full {
            // Without this a power failure during the write may leave neither file.
            let _ = fsync(&place.dir);
        }
        Ok(Backup { place, name, temporary, earlier })
    }

    /// The attempt to replace the destination has ended. `is_old`: the destination has its old content, and the earlier
    /// backup comes back. Otherwise the backup stays.
    pub fn end(self, is_old: bool) {
        let dir = &self.place.dir;
        match self.earlier {
            Earlier::None if is_old => kept_file::discard(dir, &self.name),
            Earlier::Set if is_old => _ = renameat_with(dir, &self.temporary, dir, &self.name, RenameFlags::EXCHANGE),
            Earlier::None | Earlier::Set | Earlier::Lost => {}
        }
        // Where both names are links to one file a rename leaves both.
        kept_file::discard(dir, &self.temporary);
    }
}

/// The name of the backup of a destination.
pub fn name(place: &Place) -> OsString {
    let mut name = place.name.clone();
    name.push(".bak");
    name
}

fn temporary_name(place: &Place) -> OsString {
    super::stage::fixed_name(&name(place))
}
