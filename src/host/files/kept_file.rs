//! Kept files: the old file of a destination under a second name, by a link, or by a copy if the file itself will be
//! overwritten or links are impossible. Puts kept files back; `backup` uses second names for backups. Does not decide
//! when.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::AsFd;

use rustix::fs::{
    AtFlags, FileType, FlockOperation, Gid, Mode, OFlags, Stat, Uid, fchmod, fchown, flock, fsync, linkat, openat,
    renameat, statat, unlinkat,
};
use rustix::io::Errno;

use super::attributes::{self, Attributes};
use super::place::{Found, Place, Target, open_regular};
use super::{Destination, KnownPermissions};
use crate::config::Durability;
use crate::error::cause;

/// How a file is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeepBy {
    /// The old file stays as it is under its second name.
    Linked,
    /// The old file itself will be written to.
    Copied,
}

/// The old content of a destination, and its place. A kept file stays until it is put back or forgotten, also after the
/// end of the process.
#[derive(Debug)]
pub struct KeptFile {
    before: Before,
    known: KnownPermissions,
    /// The kept file, locked: a crash leaves one without a lock.
    _lock: Option<File>,
}

/// The old content of the destination.
#[derive(Debug)]
enum Before {
    /// A file, which has a second name in its directory now, with its owner and mode.
    File { place: Place, name: OsString, found: Found },
    /// No file; the directory may have been missing.
    Nothing,
    /// A device, or a descriptor.
    Special,
}

impl KeptFile {
    /// Removes the kept file.
    pub fn forget(self) {
        if let Before::File { place, name, .. } = &self.before {
            discard(&place.dir, name);
        }
    }
}

impl Destination {
    /// Keeps the present file beside the destination, to be put back.
    ///
    /// # Errors
    /// It can be neither linked nor copied.
    pub fn keep(&self) -> Result<KeptFile, String> {
        let kept = |was, lock| KeptFile { before: was, known: self.known.clone(), _lock: lock };
        let (place, found) = match self.locate()? {
            Some(Target::Regular(place)) => match place.found {
                Some(found) => (place, found),
                None => return Ok(kept(Before::Nothing, None)),
            },
            None => return Ok(kept(Before::Nothing, None)),
            // Writes to a device cannot be undone.
            Some(Target::Special(_) | Target::Descriptor(_)) => return Ok(kept(Before::Special, None)),
        };
        let name = kept_name(&place);
        keep(&place, &name, self.keep_by(&place))
            .map_err(|e| format!("failed to keep `{}`, to be put back: {}", place.path.display(), cause(&e)))?;
        // Without a lock another process may treat the file as left from a crash. The file system may have no locks,
        // and the file may be unreadable for us.
        let lock = open_regular(&place.dir, &name, OFlags::RDONLY).ok().map(|(file, _)| file);
        let lock = lock.filter(|file| flock(file, FlockOperation::NonBlockingLockExclusive).is_ok());
        Ok(kept(Before::File { place, name, found }, lock))
    }

    /// Puts the kept file back; a destination that did not exist is removed.
    ///
    /// # Errors
    /// The new file is still in place, unless the message says otherwise. The kept file stays where it is.
    pub fn put_back(&mut self, kept: KeptFile) -> Result<(), String> {
        let path = self.path.display().to_string();
        let failed = |e: &io::Error| format!("failed to put the old `{path}` back: {}", cause(e));
        let now = match (self.locate()?, &kept.before) {
            (Some(Target::Regular(now)), Before::File { place, .. }) if now.is(place) => now,
            (Some(Target::Regular(now)), Before::Nothing) => now,
            (_, Before::Special) => return Err(failed(&io::Error::other("what was written to a device stays"))),
            (_, Before::File { .. } | Before::Nothing) => {
                return Err(failed(&io::Error::other("its path has changed")));
            }
        };
        match &kept.before {
            Before::File { place, name, found } => {
                self.restore(&now, name, *found).map_err(|failure| {
                    let kept = place.directory().join(name);
                    format!("{}; it is kept as `{}`", failed(&io::Error::other(failure)), kept.display())
                })?;
            }
            Before::Nothing | Before::Special => match unlinkat(&now.dir, &now.name, AtFlags::empty()) {
                Ok(()) | Err(Errno::NOENT) => {}
                Err(e) => return Err(failed(&e.into())),
            },
        }
        self.known = kept.known;
        if self.durability == Durability::Full {
            // If this fails, the new file may be back after a power failure. The next start detects that.
            let _ = fsync(&now.dir);
        }
        Ok(())
    }

    /// Renames the kept file of this name to its place, or writes its bytes to the file that is there.
    fn restore(&self, place: &Place, name: &OsStr, was: Found) -> Result<(), String> {
        if place.found.is_some() && self.keep_by(place) == KeepBy::Copied {
            let content = content(place, name).map_err(|e| cause(&e))?;
            self.overwrite(place, &content, &mut Vec::new()).map_err(|failure| failure.message)?;
            give_permissions(was, place).map_err(|e| cause(&e))?;
        } else {
            renameat(&place.dir, name, &place.dir, &place.name).map_err(|e| cause(&e.into()))?;
        }
        // Where both names are links to one file the rename leaves both.
        discard(&place.dir, name);
        Ok(())
    }

    /// The kept file of a process that was killed, or ended before the reload had succeeded. A second name of the
    /// present file is removed, because nothing was replaced.
    ///
    /// # Errors
    /// A file of another user has the name.
    pub fn find_kept(&self) -> Result<Option<KeptFile>, String> {
        let Ok(Some(Target::Regular(place))) = self.locate() else { return Ok(None) };
        let name = kept_name(&place);
        // A fifo would notice an open, so the type is checked first.
        let is_file = |meta: &Stat| FileType::from_raw_mode(meta.st_mode) == FileType::RegularFile;
        let Ok(meta) = statat(&place.dir, &name, AtFlags::SYMLINK_NOFOLLOW) else { return Ok(None) };
        let (mut found, mut lock) = (Found::of(&meta), None);
        if is_file(&meta)
            && let Ok((file, opened)) = open_regular(&place.dir, &name, OFlags::RDONLY)
        {
            // Another remco waits for its reload.
            if flock(&file, FlockOperation::NonBlockingLockExclusive) == Err(Errno::WOULDBLOCK) {
                return Ok(None);
            }
            (found, lock) = (opened, Some(file));
        }
        // The old file may belong to another user, the owner of the new file.
        let is_ours =
            [Some(rustix::process::geteuid().as_raw()), place.found.map(|found| found.uid)].contains(&Some(found.uid));
        if !is_file(&meta) || !is_ours {
            let shown = place.directory().join(&name);
            return Err(format!(
                "not using `{}`: it is no file of this user or of the owner of `dst`",
                shown.display()
            ));
        }
        if place.found.is_some_and(|present| present.identity == found.identity) {
            discard(&place.dir, &name);
            return Ok(None);
        }
        Ok(Some(KeptFile { before: Before::File { place, name, found }, known: self.known.clone(), _lock: lock }))
    }

    /// How the present file can be kept: a file that will be overwritten has to be copied.
    pub(super) fn keep_by(&self, place: &Place) -> KeepBy {
        if self.in_place || place.is_mount_point() { KeepBy::Copied } else { KeepBy::Linked }
    }
}

/// The bytes of a kept file.
fn content(place: &Place, name: &OsStr) -> io::Result<Vec<u8>> {
    let mut content = Vec::new();
    open_regular(&place.dir, name, OFlags::RDONLY)?.0.read_to_end(&mut content)?;
    Ok(content)
}

/// Gives the file at a place its old owner and mode.
fn give_permissions(was: Found, place: &Place) -> io::Result<()> {
    let file = place.open(OFlags::RDWR)?;
    let now = Found::of(&rustix::fs::fstat(&file)?);
    if (was.uid, was.gid) != (now.uid, now.gid) {
        match fchown(&file, Some(Uid::from_raw(was.uid)), Some(Gid::from_raw(was.gid))) {
            // We may not change the owner. Then the copy that a crash has left belongs to us, too.
            Ok(()) | Err(Errno::PERM) => {}
            Err(e) => return Err(e.into()),
        }
    }
    Ok(fchmod(&file, Mode::from_raw_mode(was.mode))?)
}

/// The name of a kept file. Like the name of a stage, it does not change in later builds.
pub fn kept_name(place: &Place) -> OsString {
    let mut name = place.name.clone();
    name.push(".old");
    super::stage::fixed_name(&name)
}

/// Gives the file at a place a second name in its directory. A file that has that name is removed first.
///
/// # Errors
/// The file is no longer at the place, or neither a link nor a copy is possible. No file of that name is left.
pub fn keep(place: &Place, name: &OsStr, by: KeepBy) -> io::Result<()> {
    match unlinkat(&place.dir, name, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => {}
        Err(e) => return Err(e.into()),
    }
    let linked = match by {
        KeepBy::Linked => linkat(&place.dir, &place.name, &place.dir, name, AtFlags::empty()),
        KeepBy::Copied => Err(Errno::XDEV),
    };
    let kept = match linked {
        Ok(()) => is_found(place, name),
        // Some file systems have no links, and the kernel may refuse a link to a file of another user.
        Err(Errno::PERM | Errno::XDEV | Errno::MLINK | Errno::OPNOTSUPP | Errno::NOSYS | Errno::ACCESS) => {
            copy(place, name)
        }
        Err(e) => return Err(e.into()),
    };
    kept.inspect_err(|_| {
        let _ = unlinkat(&place.dir, name, AtFlags::empty());
    })
}

/// Checks that the link leads to the old file, and not to a file that was moved to the place in the meantime.
fn is_found(place: &Place, name: &OsStr) -> io::Result<()> {
    let meta = statat(&place.dir, name, AtFlags::SYMLINK_NOFOLLOW)?;
    match place.found.is_some_and(|found| found.identity == Found::of(&meta).identity) {
        true => Ok(()),
        false => Err(io::Error::other("it was replaced at this moment")),
    }
}

/// Copies bytes, owner, attributes and mode. Until it is complete no other user can read it. Without the right to give
/// a file away it belongs to us.
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

/// Removes a second name. A missing one is no error.
pub fn discard(dir: impl AsFd, name: &OsStr) {
    let _ = unlinkat(dir, name, AtFlags::empty());
}
