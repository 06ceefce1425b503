//! Resolves the path of a destination to an open directory and a name in it. Follows symbolic links, except for those
//! of other users in shared directories. Opens only directories, and writes nothing.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;
use std::path::{Component, Path, PathBuf};
use std::rc::Rc;

use rustix::fs::{
    AtFlags, CWD, FileType, Mode, OFlags, Stat, StatxAttributes, StatxFlags, fstat, mkdirat, openat, stat, statat,
    statx,
};
use rustix::io::Errno;

use crate::error::cause;

/// The kind of file that a destination's path leads to.
#[derive(Debug)]
pub enum Target {
    /// A regular file, or an unused name.
    Regular(Place),
    /// A device, a fifo or a socket: written to, and never replaced.
    Special(Place),
    /// One of our descriptors: /dev/stdout, /dev/fd/3.
    Descriptor(u32),
}

/// A name in a directory, after all symbolic links are resolved.
#[derive(Debug)]
pub struct Place {
    pub dir: Rc<OwnedFd>,
    pub name: OsString,
    /// The path, for messages and commands.
    pub path: PathBuf,
    pub found: Option<Found>,
}

/// The present file at a place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Found {
    /// Permission bits with setuid, setgid and sticky.
    pub mode: u32,
    pub uid: u32,
    pub gid: u32,
    pub size: u64,
    /// Device and inode.
    pub identity: (u64, u64),
}

/// Why a path cannot be resolved.
#[derive(Debug)]
pub enum Unresolved {
    /// This directory does not exist.
    NoDirectory(PathBuf),
    /// The path leads to this directory.
    Directory(PathBuf),
    /// Verb, subject, cause.
    Failed(String),
}

impl From<Unresolved> for String {
    fn from(unresolved: Unresolved) -> String {
        match unresolved {
            Unresolved::NoDirectory(dir) => format!("there is no directory `{}`", dir.display()),
            Unresolved::Directory(dir) => format!("`{}` is a directory, a file is expected", dir.display()),
            Unresolved::Failed(message) => message,
        }
    }
}

/// More links than this count as a loop, as in the kernel.
const MOST_LINKS: usize = 40;

/// Resolves a path.
pub fn locate(path: &Path) -> Result<Target, Unresolved> {
    if let Some(number) = descriptor(path) {
        return Ok(Target::Descriptor(number));
    }
    let failed = |what: &str, path: &Path, error: &io::Error| {
        Unresolved::Failed(format!("failed to {what} `{}`: {}", path.display(), cause(error)))
    };
    let mut shown = path.to_owned();
    let mut step = path.to_owned();
    let mut dir: Option<Rc<OwnedFd>> = None;
    for _ in 0..=MOST_LINKS {
        let above = parent(&shown);
        let from = dir.as_ref().map_or(CWD, |dir| dir.as_fd());
        let at = match (&dir, parent(&step)) {
            (Some(dir), here) if here == Path::new(".") => Rc::clone(dir),
            (_, there) => match open_directory(from, &there) {
                Ok(opened) => Rc::new(opened),
                Err(Errno::NOENT) => return Err(Unresolved::NoDirectory(above)),
                Err(e) => return Err(failed("open directory", &above, &e.into())),
            },
        };
        let Some(name) = step.file_name().map(OsStr::to_owned) else { return Err(Unresolved::Directory(shown)) };
        let meta = match statat(&at, &name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(meta) => meta,
            Err(Errno::NOENT) => return Ok(Target::Regular(Place { dir: at, name, path: shown, found: None })),
            Err(e) => return Err(failed("look at", &shown, &e.into())),
        };
        let place = |at, name| Place { dir: at, name, path: shown.clone(), found: Some(Found::of(&meta)) };
        match FileType::from_raw_mode(meta.st_mode) {
            FileType::RegularFile => return Ok(Target::Regular(place(at, name))),
            FileType::Directory => return Err(Unresolved::Directory(shown)),
            FileType::Symlink => {
                step = read_link(at.as_fd(), &name).map_err(|e| failed("follow", &shown, &e))?;
                shown = above.join(&step);
                dir = Some(at);
            }
            _ => return Ok(Target::Special(place(at, name))),
        }
    }
    Err(Unresolved::Failed(format!("failed to follow `{}`: more than {MOST_LINKS} symbolic links", path.display())))
}

/// The target of a symbolic link, unless another user may have placed the link as a trap. This is the rule of
/// `fs.protected_symlinks`, and is applied even if the kernel has it off. A descriptor holds the link, so that the
/// checked link is the followed one.
fn read_link(dir: BorrowedFd<'_>, name: &OsStr) -> io::Result<PathBuf> {
    const STICKY_AND_WRITABLE: u32 = 0o1002;
    let link = openat(dir, name, OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())?;
    let meta = fstat(&link)?;
    if FileType::from_raw_mode(meta.st_mode) != FileType::Symlink {
        return Err(io::Error::other("it was replaced at this moment"));
    }
    if meta.st_uid != rustix::process::geteuid().as_raw() {
        let above = fstat(dir)?;
        if above.st_mode & STICKY_AND_WRITABLE == STICKY_AND_WRITABLE && above.st_uid != meta.st_uid {
            return Err(io::Error::other(format!(
                "it is a symbolic link of user {} in a sticky directory that others may write to: remove the link, \
                 or write to the file itself",
                meta.st_uid
            )));
        }
    }
    let target = rustix::fs::readlinkat(&link, "", Vec::new())?;
    Ok(OsString::from_vec(target.into_bytes()).into())
}

/// Opens a directory that may be entered but not listed, too; only syncing it fails then.
fn open_directory(from: BorrowedFd<'_>, path: &Path) -> rustix::io::Result<OwnedFd> {
    let flags = OFlags::DIRECTORY | OFlags::CLOEXEC;
    match openat(from, path, flags | OFlags::RDONLY, Mode::empty()) {
        Err(Errno::ACCESS) => openat(from, path, flags | OFlags::PATH, Mode::empty()),
        opened => opened,
    }
}

/// Splits a path into the existing part and the names behind it. The missing names will be directories and not links,
/// so that `..` behind them can be resolved by the text.
pub fn split(path: &Path) -> (PathBuf, Vec<OsString>) {
    let mut there = PathBuf::from(if path.is_absolute() { "/" } else { "." });
    let mut missing: Vec<OsString> = Vec::new();
    for part in path.components() {
        match part {
            Component::Normal(name) if missing.is_empty() && stat(there.join(name)).is_ok() => there.push(name),
            Component::Normal(name) => missing.push(name.to_owned()),
            Component::ParentDir if missing.pop().is_none() => there.push(".."),
            Component::ParentDir | Component::RootDir | Component::CurDir | Component::Prefix(_) => {}
        }
    }
    (there, missing)
}

/// Creates the missing directories of a path, with mode 0755 less the umask. Calls `changed` with each directory that
/// got a new entry. Links in the existing part are followed; links in the created part are not, so that another user
/// who owns a directory cannot redirect it.
///
/// # Errors
/// The directory that could not be created, and the cause.
pub fn create_directories(
    dir: &Path,
    changed: impl Fn(&OwnedFd) -> rustix::io::Result<()>,
) -> Result<(), (PathBuf, io::Error)> {
    let (mut path, missing) = split(dir);
    let mut at = open_directory(CWD, &path).map_err(|e| (path.clone(), e.into()))?;
    for name in missing {
        path.push(&name);
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let created = match mkdirat(&at, &name, Mode::from_raw_mode(0o755)) {
            // Another process may have created it in the meantime.
            Ok(()) | Err(Errno::EXIST) => changed(&at).and_then(|()| openat(&at, &name, flags, Mode::empty())),
            Err(e) => Err(e),
        };
        at = created.map_err(|e| (path.clone(), e.into()))?;
    }
    Ok(())
}

impl Place {
    /// The path of the directory, for messages.
    pub fn directory(&self) -> PathBuf {
        parent(&self.path)
    }

    /// Whether both are the same name in the same directory.
    pub fn is(&self, other: &Place) -> bool {
        let identity = |place: &Place| fstat(&place.dir).map(|meta| (meta.st_dev, meta.st_ino)).ok();
        self.name == other.name && identity(self).is_some_and(|ours| identity(other) == Some(ours))
    }

    /// Whether the name itself is a mount point. Before Linux 5.8 only mounts from other file systems are recognised.
    pub fn is_mount_point(&self) -> bool {
        let Some(found) = self.found else { return false };
        let seen = statx(&self.dir, &self.name, AtFlags::SYMLINK_NOFOLLOW, StatxFlags::BASIC_STATS);
        match seen {
            Ok(seen) if seen.stx_attributes_mask.contains(StatxAttributes::MOUNT_ROOT) => {
                seen.stx_attributes.contains(StatxAttributes::MOUNT_ROOT)
            }
            Ok(_) | Err(_) => fstat(&self.dir).is_ok_and(|dir| dir.st_dev != found.identity.0),
        }
    }

    /// Opens the file that was found. If it is not the same regular file any more, but a link, a fifo or a device, it
    /// is an error at once.
    pub fn open(&self, access: OFlags) -> io::Result<File> {
        let (file, now) = open_regular(&self.dir, &self.name, access)?;
        match self.found {
            Some(found) if now.identity == found.identity => Ok(file),
            _ => Err(io::Error::other("it was replaced at this moment")),
        }
    }
}

impl Found {
    /// The mode, owner, group, size and identity in a result of `stat`.
    pub fn of(meta: &Stat) -> Found {
        Found {
            mode: meta.st_mode & 0o7777,
            uid: meta.st_uid,
            gid: meta.st_gid,
            size: u64::try_from(meta.st_size).unwrap_or(0),
            identity: (meta.st_dev, meta.st_ino),
        }
    }
}

/// Opens a regular file without following a link and without waiting.
pub fn open_regular(dir: impl AsFd, name: &OsStr, access: OFlags) -> io::Result<(File, Found)> {
    let flags = access | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let file = File::from(openat(dir, name, flags, Mode::empty())?);
    let meta = fstat(&file)?;
    match FileType::from_raw_mode(meta.st_mode) {
        FileType::RegularFile => Ok((file, Found::of(&meta))),
        _ => Err(io::Error::other("it is no regular file any more")),
    }
}

/// Opens a regular file to read and write, or creates it with this mode. Follows links as [`locate`] does.
///
/// # Errors
/// The file cannot be opened, or is no regular file.
pub fn open_or_create(path: &Path, mode: u32) -> io::Result<File> {
    /// Another process may create and remove the file meanwhile.
    const ATTEMPTS: usize = 100;
    for _ in 0..ATTEMPTS {
        let place = match locate(path) {
            Ok(Target::Regular(place)) => place,
            Ok(Target::Special(_) | Target::Descriptor(_)) => return Err(io::Error::other("not a regular file")),
            Err(Unresolved::NoDirectory(_)) => return Err(Errno::NOENT.into()),
            Err(Unresolved::Directory(_)) => return Err(Errno::ISDIR.into()),
            Err(Unresolved::Failed(message)) => return Err(io::Error::other(message)),
        };
        let opened = match place.found {
            Some(_) => open_regular(&place.dir, &place.name, OFlags::RDWR).map(|(file, _)| file),
            None => {
                let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                let created = openat(&place.dir, &place.name, flags, Mode::from_raw_mode(mode));
                created.map(File::from).map_err(io::Error::from)
            }
        };
        match opened {
            Err(e) if matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::AlreadyExists) => {}
            opened => return opened,
        }
    }
    Err(io::Error::other("another process keeps replacing it"))
}

/// The number in /dev/fd/N and its aliases. Checked before links are followed: if standard output is a file,
/// /dev/stdout leads to that file, and it must not be renamed over.
pub fn descriptor(path: &Path) -> Option<u32> {
    match path.to_str()? {
        "/dev/stdin" => Some(0),
        "/dev/stdout" => Some(1),
        "/dev/stderr" => Some(2),
        path => path.strip_prefix("/dev/fd/").or(path.strip_prefix("/proc/self/fd/"))?.parse().ok(),
    }
}

/// The directory of a file; `.` for a bare name.
pub fn parent(path: &Path) -> PathBuf {
    match path.parent() {
        Some(dir) if !dir.as_os_str().is_empty() => dir.to_owned(),
        _ => PathBuf::from("."),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::files::tests::Folder;
    use rustix::fs::{Gid, Uid, chmod, chownat, symlinkat};

    fn found(path: &Path) -> Result<PathBuf, String> {
        match locate(path) {
            Ok(Target::Regular(place)) => Ok(place.path),
            Ok(other) => Err(format!("{other:?}")),
            Err(Unresolved::NoDirectory(dir)) => Err(format!("no {}", dir.display())),
            Err(Unresolved::Directory(dir)) => Err(format!("directory {}", dir.display())),
            Err(Unresolved::Failed(message)) => Err(message),
        }
    }

    /// The rule of fs.protected_symlinks, for each link of a chain.
    #[test]
    fn links_of_others_in_a_sticky_directory_are_not_followed() {
        if !rustix::process::geteuid().is_root() {
            return;
        }
        let folder = Folder::new();
        let give = |name: &str, uid| {
            chownat(
                CWD,
                folder.path(name),
                Some(Uid::from_raw(uid)),
                Some(Gid::from_raw(uid)),
                AtFlags::SYMLINK_NOFOLLOW,
            )
            .unwrap();
        };
        std::fs::create_dir(folder.path("tmp")).unwrap();
        std::fs::write(folder.path("victim"), "original").unwrap();
        symlinkat(folder.path("victim"), CWD, folder.path("tmp/link")).unwrap();
        symlinkat(folder.path("tmp/link"), CWD, folder.path("first")).unwrap();
        for (mode, owner, of_directory, follows) in [
            (0o1777, 777, 0, false),
            (0o1777, 0, 0, true),
            (0o1777, 777, 777, true),
            (0o1777, 0, 777, true),
            (0o777, 777, 0, true),
            (0o1775, 777, 0, true),
        ] {
            chmod(folder.path("tmp"), Mode::from_raw_mode(mode)).unwrap();
            give("tmp", of_directory);
            give("tmp/link", owner);
            for path in ["tmp/link", "first"] {
                let result = found(&folder.path(path));
                let shown = folder.path("tmp/link");
                match follows {
                    true => assert_eq!(result, Ok(folder.path("victim")), "{mode:o} {owner} {of_directory}"),
                    false => {
                        let error = result.unwrap_err();
                        let head = format!("failed to follow `{}`: it is a symbolic link of user 777", shown.display());
                        assert!(error.starts_with(&head), "{error}");
                    }
                }
            }
        }
    }

    /// The owner of the directory above replaces what was just created.
    #[test]
    fn a_created_directory_that_becomes_a_link_is_not_followed() {
        let folder = Folder::new();
        std::fs::create_dir(folder.path("victim")).unwrap();
        let replace = |_: &OwnedFd| {
            std::fs::remove_dir(folder.path("a")).unwrap();
            symlinkat("victim", CWD, folder.path("a")).unwrap();
            Ok(())
        };
        let (path, _) = create_directories(&folder.path("a/b/c"), replace).unwrap_err();
        assert_eq!(path, folder.path("a"));
        assert!(!folder.path("victim/b").exists());
    }

    #[test]
    fn a_link_that_ends_in_a_directory_is_a_directory() {
        let folder = Folder::new();
        symlinkat("..", CWD, folder.path("up")).unwrap();
        symlinkat("/", CWD, folder.path("root")).unwrap();
        for name in ["up", "root"] {
            let error = found(&folder.path(name)).unwrap_err();
            assert!(error.starts_with("directory "), "{error}");
        }
    }
}
