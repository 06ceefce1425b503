//! Second names of an old file beside it: a link, or a copy where the file itself will be written to or a link is not
//! possible. They serve as backup and as what is put back: this file puts back, `backup` makes backups. Does not decide
//! when.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::AsFd;

use rustix::fs::{AtFlags, Gid, Mode, OFlags, Uid, fchmod, fchown, fsync, linkat, openat, renameat, statat, unlinkat};
use rustix::io::Errno;

use super::attributes::{self, Attributes};
use super::place::{Found, Place, Target, open_regular};
use super::{Destination, Seen};
use crate::config::Durability;
use crate::error::cause;

/// Whether a link will do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kept {
    /// The old file stays as it is under its second name.
    Linked,
    /// The old file itself will be written to.
    Copied,
}

/// What an old file was, and where it is kept. Dropping it removes the kept file.
#[derive(Debug)]
pub struct Aside {
    /// `None`: nothing can be put back.
    kept: Option<(Place, OsString)>,
    /// There was no file.
    is_new: bool,
    seen: Seen,
}

impl Aside {
    pub(super) fn nothing() -> Aside {
        Aside { kept: None, is_new: true, seen: Seen::default() }
    }

    pub(super) fn new(place: Place, name: OsString, is_new: bool, seen: Seen) -> Aside {
        Aside { kept: Some((place, name)), is_new, seen }
    }

    pub(super) fn place(&self) -> Option<&Place> {
        self.kept.as_ref().map(|(place, _)| place)
    }

    pub(super) fn is_new(&self) -> bool {
        self.is_new
    }

    pub(super) fn seen(&self) -> &Seen {
        &self.seen
    }

    /// Renames the kept file to its place, or removes what is there if there was none.
    pub(super) fn restore(&self) -> io::Result<()> {
        let Some((place, name)) = &self.kept else { return Ok(()) };
        match self.is_new {
            true => match unlinkat(&place.dir, &place.name, AtFlags::empty()) {
                Ok(()) | Err(Errno::NOENT) => Ok(()),
                Err(e) => Err(e.into()),
            },
            false => Ok(renameat(&place.dir, name, &place.dir, &place.name)?),
        }
    }

    /// The bytes of the kept file.
    pub(super) fn content(&self) -> io::Result<Vec<u8>> {
        let mut content = Vec::new();
        if let Some((place, name)) = &self.kept {
            open_regular(&place.dir, name, OFlags::RDONLY)?.0.read_to_end(&mut content)?;
        }
        Ok(content)
    }

    /// Gives the file at a place the owner and mode of the kept one.
    pub(super) fn give_permissions(&self, place: &Place) -> io::Result<()> {
        let Some(was) = self.place().and_then(|place| place.found) else { return Ok(()) };
        let file = place.open(OFlags::RDWR)?;
        let now = Found::of(&rustix::fs::fstat(&file)?);
        if (was.uid, was.gid) != (now.uid, now.gid) {
            fchown(&file, Some(Uid::from_raw(was.uid)), Some(Gid::from_raw(was.gid)))?;
        }
        Ok(fchmod(&file, Mode::from_raw_mode(was.mode))?)
    }
}

impl Drop for Aside {
    fn drop(&mut self) {
        if let Some((place, name)) = &self.kept {
            discard(&place.dir, name);
        }
    }
}

impl Destination {
    /// Keeps the present file beside the destination, to be put back.
    ///
    /// # Errors
    /// It can be neither linked nor copied.
    pub fn keep(&self) -> Result<Aside, String> {
        let place = match self.locate()? {
            Some(Target::Regular(place)) => place,
            // The directory will be there with the new file; what was written to a device cannot be taken back.
            Some(Target::Special(_) | Target::Descriptor(_)) | None => return Ok(Aside::nothing()),
        };
        let name = kept_name(&place);
        let is_new = place.found.is_none();
        if !is_new {
            let kept = keep(&place, &name, self.kept(&place));
            kept.map_err(|e| format!("failed to keep `{}`, to be put back: {}", place.path.display(), cause(&e)))?;
        }
        Ok(Aside::new(place, name, is_new, self.seen.clone()))
    }

    /// Puts the kept file back; a destination that did not exist is removed.
    ///
    /// # Errors
    /// The new file is still in place, unless the message says otherwise.
    pub fn put_back(&self, aside: Aside) -> Result<(), String> {
        let failed = |e: &io::Error| format!("failed to put the old `{}` back: {}", self.path.display(), cause(e));
        let Some(was) = aside.place() else {
            return Err(failed(&io::Error::other("what was written to a device, or in a new directory, stays")));
        };
        let now = match self.locate()? {
            Some(Target::Regular(now)) if now.is(was) => now,
            Some(_) | None => return Err(failed(&io::Error::other("its path has changed"))),
        };
        if now.found.is_some() && self.kept(&now) == Kept::Copied && !aside.is_new() {
            let content = aside.content().map_err(|e| failed(&e))?;
            self.overwrite(&now, &content, &mut Vec::new()).map_err(|failure| failure.message)?;
            aside.give_permissions(&now).map_err(|e| failed(&e))?;
        } else {
            aside.restore().map_err(|e| failed(&e))?;
        }
        *self.seen.0.borrow_mut() = aside.seen().0.borrow().clone();
        if self.durability == Durability::Full {
            // The old file is back. After a power cut it may be the new one, which the next start sees.
            let _ = fsync(&now.dir);
        }
        Ok(())
    }

    /// Removes a kept file that a crash has left.
    pub fn sweep_kept(&self) {
        if let Ok(Some(Target::Regular(place))) = self.locate() {
            discard(&place.dir, &kept_name(&place));
        }
    }

    /// How the present file can be kept: one that is written to has to be copied.
    pub(super) fn kept(&self, place: &Place) -> Kept {
        if self.in_place || place.is_mount_point() { Kept::Copied } else { Kept::Linked }
    }
}

/// The name of a kept file; like that of a stage, it stays the same for later builds.
pub fn kept_name(place: &Place) -> OsString {
    let mut name = place.name.clone();
    name.push(".old");
    super::stage::fixed_name(&name)
}

/// Gives the file at a place a second name in its directory. A file that has that name is removed first.
///
/// # Errors
/// The file is not at the place any more, or neither a link nor a copy is possible. No file of that name is left.
pub fn keep(place: &Place, name: &OsStr, kept: Kept) -> io::Result<()> {
    match unlinkat(&place.dir, name, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => {}
        Err(e) => return Err(e.into()),
    }
    let linked = match kept {
        Kept::Linked => linkat(&place.dir, &place.name, &place.dir, name, AtFlags::empty()),
        Kept::Copied => Err(Errno::XDEV),
    };
    let kept = match linked {
        Ok(()) => is_found(place, name),
        // Some file systems know no links, and the kernel may refuse a link to a file of another user.
        Err(Errno::PERM | Errno::XDEV | Errno::MLINK | Errno::OPNOTSUPP | Errno::NOSYS | Errno::ACCESS) => {
            copy(place, name)
        }
        Err(e) => return Err(e.into()),
    };
    kept.inspect_err(|_| {
        let _ = unlinkat(&place.dir, name, AtFlags::empty());
    })
}

/// A link may lead to a file that was moved to the place meanwhile.
fn is_found(place: &Place, name: &OsStr) -> io::Result<()> {
    let meta = statat(&place.dir, name, AtFlags::SYMLINK_NOFOLLOW)?;
    match place.found.is_some_and(|found| found.identity == Found::of(&meta).identity) {
        true => Ok(()),
        false => Err(io::Error::other("it was replaced at this moment")),
    }
}

/// Copies bytes, owner, attributes and mode. Until it is complete no other user can read it. Without the right to give a file
/// away it belongs to us.
fn copy(place: &Place, name: &OsStr) -> io::Result<()> {
    let old = place.open(OFlags::RDONLY)?;
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let mut new = File::from(openat(&place.dir, name, flags, Mode::RUSR | Mode::WUSR)?);
    attributes::strip_inherited(&new)?;
    io::copy(&mut &old, &mut new)?;
    let found = Found::of(&rustix::fs::fstat(&old)?);
    let mut mode = found.mode;
    if fchown(&new, Some(Uid::from_raw(found.uid)), Some(Gid::from_raw(found.gid))).is_err() {
        let _ = fchown(&new, None, Some(Gid::from_raw(found.gid)));
        let is = Found::of(&rustix::fs::fstat(&new)?);
        // The rights of another user or group must not become ours.
        mode &= if is.uid == found.uid { 0o7777 } else { 0o3777 };
        mode &= if is.gid == found.gid { 0o7777 } else { 0o5777 };
    }
    Attributes::read(&old)?.give_all(&new)?;
    fchmod(&new, Mode::from_raw_mode(mode))?;
    new.sync_all()
}

/// Removes a second name. One that is not there is no error.
pub fn discard(dir: impl AsFd, name: &OsStr) {
    let _ = unlinkat(dir, name, AtFlags::empty());
}
