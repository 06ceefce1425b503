//! Second names of an old file beside it: a link, or a copy where the file itself will be written to or a link is not
//! possible. They serve as backup and as what is put back. Does not decide when.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::AsFd;

use rustix::fs::{AtFlags, Gid, Mode, OFlags, Uid, fchmod, fchown, linkat, openat, renameat, statat, unlinkat};
use rustix::io::Errno;

use super::Seen;
use super::attributes::{self, Attributes};
use super::place::{Found, Place, open_regular};

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
        // The rights of another group and user must not become ours.
        mode &= 0o777;
    }
    Attributes::read(&old)?.give_all(&new)?;
    fchmod(&new, Mode::from_raw_mode(mode))?;
    new.sync_all()
}

/// The temporary name of a backup, which becomes the backup when the new file is in place.
pub fn keep_backup(place: &Place, kept: Kept) -> io::Result<OsString> {
    let name = super::stage::fixed_name(&backup_name(place));
    keep(place, &name, kept).map(|()| name)
}

/// The backup of a destination.
pub fn backup_name(place: &Place) -> OsString {
    let mut name = place.name.clone();
    name.push(".bak");
    name
}

/// Makes the file of a temporary name the backup.
pub fn install_backup(place: &Place, temporary: &OsStr) -> io::Result<()> {
    let renamed = renameat(&place.dir, temporary, &place.dir, backup_name(place));
    // Where both names are links to one file the rename does nothing.
    discard(&place.dir, temporary);
    Ok(renamed?)
}

/// Removes a second name. One that is not there is no error.
pub fn discard(dir: impl AsFd, name: &OsStr) {
    let _ = unlinkat(dir, name, AtFlags::empty());
}
