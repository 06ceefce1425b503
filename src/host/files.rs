//! Rendered text on its way to its place: comparing, staging, renaming. The only writer of the
//! user's files. Decides nothing about when; a file is replaced whole or not at all.

use std::ffi::{OsStr, OsString};
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read, Seek, Write};
use std::os::fd::AsFd;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::{FallocateFlags, FlockOperation, Gid, Mode, OFlags, Uid};
use rustix::io::Errno;

use super::{random, write};
use crate::config::Durability;
use crate::error::cause;

/// Where a template's result goes and what it has to look like there.
#[derive(Clone, Debug)]
pub struct Destination {
    /// As the user wrote it.
    pub path: PathBuf,
    /// Permission bits; `None`: those of the file that is there, else 0644.
    pub mode: Option<u32>,
    /// `None`: left alone.
    pub uid: Option<u32>,
    pub gid: Option<u32>,
    /// Create missing directories above it, with mode 0755.
    pub make_directories: bool,
    pub durability: Durability,
}

/// How what is there compares with what should be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Comparison {
    InSync,
    Differs,
    /// A device, a fifo, a descriptor: nothing can be read back from it.
    Unknowable,
}

/// A result that waits in the destination's directory. Removed when dropped without having been installed.
#[derive(Debug)]
pub struct Stage {
    /// `None` where the destination is no regular file and there is nothing to check. Open for reading alone: what is open
    /// for writing cannot be run, and a check may want to run it.
    file: Option<(PathBuf, File)>,
    target: Target,
}

/// Whether a check command will want to see the result as a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Checked {
    Yes,
    No,
}

/// What a destination's path really names.
#[derive(Clone, Debug)]
enum Target {
    /// A regular file, or nothing yet. All symbolic links but those of its directory are followed.
    Regular { path: PathBuf, found: Option<Found> },
    /// A device, a fifo or a socket: written to, never renamed over.
    Special(PathBuf),
    /// A descriptor of ours: /dev/stdout, /dev/fd/3.
    Descriptor(u32),
}

/// What is at a destination now.
#[derive(Clone, Copy, Debug)]
struct Found {
    mode: u32,
    uid: u32,
    gid: u32,
    size: u64,
}

/// Links to follow before calling it a loop, as the kernel does.
const MOST_LINKS: usize = 40;

impl Destination {
    /// Compares bytes, mode and, where they are set, owner and group. Writes nothing.
    ///
    /// # Errors
    /// The destination is there but cannot be read, or is a directory.
    pub fn compare(&self, content: &[u8]) -> Result<Comparison, String> {
        let Target::Regular { path, found } = self.target()? else { return Ok(Comparison::Unknowable) };
        let Some(found) = found else { return Ok(Comparison::Differs) };
        let differs = found.size != content.len() as u64
            || self.mode.is_some_and(|mode| mode != found.mode)
            || self.uid.is_some_and(|uid| uid != found.uid)
            || self.gid.is_some_and(|gid| gid != found.gid);
        if differs {
            return Ok(Comparison::Differs);
        }
        // Should it have become a fifo since: without waiting.
        let opened = OpenOptions::new().read(true).custom_flags(OFlags::NONBLOCK.bits().cast_signed()).open(&path);
        match opened.and_then(|file| same_bytes(file, content)) {
            Ok(true) => Ok(Comparison::InSync),
            Ok(false) => Ok(Comparison::Differs),
            Err(e) => Err(format!("failed to read `{}`: {}", path.display(), cause(&e))),
        }
    }

    /// Removes the stage files that a crash has left: those that have one of our names and no lock. What cannot be
    /// removed does no harm.
    pub fn sweep(&self) {
        let Ok(target) = self.target() else { return };
        let (dir, name) = self.stage_place(&target);
        for attempt in 0..KNOWN_NAMES {
            remove_if_unlocked(&stage_path(&dir, name, known_number(name, attempt)));
        }
    }

    /// The directory of the stage file, and what its name begins with.
    fn stage_place<'t>(&'t self, target: &'t Target) -> (PathBuf, &'t OsStr) {
        match target {
            Target::Regular { path, .. } => (parent(path), path.file_name().unwrap_or_default()),
            // A device's directory is no place for a file.
            Target::Special(_) | Target::Descriptor(_) => {
                (std::env::temp_dir(), self.path.file_name().unwrap_or_default())
            }
        }
    }

    /// Writes the result into a file beside the destination: `.NAME` and digits, created with mode 0600, then given
    /// its owner and mode, so that a check command that runs as another user sees what will be there.
    ///
    /// # Errors
    /// Anything that kept the file from being written whole; nothing is left behind.
    pub fn stage(&self, content: &[u8], checked: Checked) -> Result<Stage, String> {
        let target = self.target()?;
        let found = match &target {
            Target::Regular { found, .. } => *found,
            Target::Special(_) | Target::Descriptor(_) if checked == Checked::Yes => None,
            Target::Special(_) | Target::Descriptor(_) => return Ok(Stage { file: None, target }),
        };
        let (dir, name) = self.stage_place(&target);
        if self.make_directories {
            self.create_directories(&dir)?;
        }
        let (path, locked, mut file) = create_beside(&dir, name)
            .map_err(|e| format!("failed to create a stage file in `{}`: {}", dir.display(), cause(&e)))?;
        let filled = file.write_all(content).map_err(|e| ("write", e)).and_then(|()| self.dress(&file, found));
        drop(file);
        let stage = Stage { file: Some((path, locked)), target };
        match filled {
            Ok(()) => Ok(stage),
            Err((what, e)) => {
                let path = stage.path().map_or_else(String::new, |p| p.display().to_string());
                Err(format!("failed to {what} stage file `{path}`: {}", cause(&e)))
            }
        }
    }

    /// Creates what is missing of a directory's path, so that it is there after a power cut if that is wanted of the file.
    fn create_directories(&self, dir: &Path) -> Result<(), String> {
        let failed = |what: &str, path: &Path, e: &io::Error| {
            format!("failed to {what} directory `{}`: {}", path.display(), cause(e))
        };
        let is_missing = |path: &&Path| !path.as_os_str().is_empty() && !path.exists();
        let missing: Vec<PathBuf> = dir.ancestors().take_while(is_missing).map(Path::to_owned).collect();
        DirBuilder::new().recursive(true).mode(0o755).create(dir).map_err(|e| failed("create", dir, &e))?;
        if self.durability == Durability::Full {
            for above in missing.iter().map(|created| parent(created)) {
                sync_directory(&above).map_err(|e| failed("sync", &above, &e))?;
            }
        }
        Ok(())
    }

    /// Gives a file the owner and mode it shall have, as far as it has not. In this order: changing the owner clears
    /// setuid and setgid.
    fn dress(&self, file: &File, found: Option<Found>) -> Result<(), (&'static str, io::Error)> {
        let now = Found::of(&file.metadata().map_err(|e| ("look at", e))?);
        let (uid, gid) = (self.uid.filter(|uid| *uid != now.uid), self.gid.filter(|gid| *gid != now.gid));
        if uid.is_some() || gid.is_some() {
            let changed = rustix::fs::fchown(file, uid.map(Uid::from_raw), gid.map(Gid::from_raw));
            changed.map_err(|e| ("change the owner of", e.into()))?;
        }
        if let Some(found) = found {
            // "Left alone" means that the new file keeps the old one's owner, and where that is not ours to give its
            // group at least. Not even that may be allowed, or the owner may have no number in this container: then
            // the file becomes ours, as with any program that replaces files by renaming.
            if self.uid.is_none() && found.uid != now.uid {
                let _ = rustix::fs::fchown(file, Some(Uid::from_raw(found.uid)), None);
            }
            if self.gid.is_none() && found.gid != now.gid {
                let _ = rustix::fs::fchown(file, None, Some(Gid::from_raw(found.gid)));
            }
        }
        let mode = self.mode.or(found.map(|f| f.mode)).unwrap_or(0o644);
        if Found::of(&file.metadata().map_err(|e| ("look at", e))?).mode != mode {
            let changed = rustix::fs::fchmod(file, Mode::from_raw_mode(mode));
            changed.map_err(|e| ("change the mode of", e.into()))?;
        }
        Ok(())
    }

    /// Puts the result into its place: fsync, rename, fsync of the directory, as far as `durability` wants them. A
    /// destination that cannot be renamed over because it is a mount point is written in place.
    ///
    /// Gives a warning where the file is in place but may not survive a power cut.
    ///
    /// # Errors
    /// The old content is still there, unless the message says otherwise.
    pub fn install(&self, mut stage: Stage, content: &[u8]) -> Result<Option<String>, String> {
        let failed =
            |what: &str, path: &Path, e: &dyn std::fmt::Display| format!("failed to {what} `{}`: {e}", path.display());
        let path = match &stage.target {
            Target::Regular { path, .. } => path.clone(),
            Target::Special(path) => {
                let written = open_and_write(path, OFlags::empty(), content);
                return written.map(|()| None).map_err(|e| failed("write to", path, &cause(&e)));
            }
            Target::Descriptor(number) => {
                let written = write_descriptor(*number, content);
                return written.map(|()| None).map_err(|e| failed("write to", &self.path, &cause(&e)));
            }
        };
        let (staged, _lock) = stage.file.take().expect("a stage for a regular file has a file");
        let renamed = open_staged(&staged)
            .and_then(|file| self.sync(&file))
            .map_err(|e| ("sync", e))
            .and_then(|()| fs::rename(&staged, &path).map_err(|e| ("rename", e)));
        match renamed {
            Ok(()) if self.durability == Durability::Full => {
                let dir = parent(&path);
                Ok(sync_directory(&dir).err().map(|e| {
                    format!("replaced `{}`, but failed to sync `{}`: {}", path.display(), dir.display(), cause(&e))
                }))
            }
            Ok(()) => Ok(None),
            Err(("rename", e)) if e.raw_os_error() == Some(Errno::BUSY.raw_os_error()) => {
                remove(&staged);
                self.overwrite(&path, content).map(|()| None)
            }
            Err((what, e)) => {
                remove(&staged);
                Err(match what {
                    "rename" => failed(&format!("rename `{}` to", staged.display()), &path, &cause(&e)),
                    _ => failed(what, &staged, &cause(&e)),
                })
            }
        }
    }

    /// Writes into a file that cannot be replaced, a bind-mounted one. The space is reserved before a byte is changed,
    /// and the old bytes are put back if writing fails all the same. Killed midway it leaves a file that is neither the
    /// old nor the new one; the next start sees the difference and writes it again.
    fn overwrite(&self, path: &Path, content: &[u8]) -> Result<(), String> {
        let failed = |what: &str, e: &io::Error| {
            format!("failed to {what} `{}`, a mount point that cannot be renamed over: {}", path.display(), cause(e))
        };
        let old = fs::read(path).map_err(|e| failed("read", &e))?;
        let found = fs::metadata(path).map(|m| Found::of(&m)).map_err(|e| failed("read", &e))?;
        let mut file = OpenOptions::new().write(true).open(path).map_err(|e| failed("write", &e))?;
        reserve(&file, content.len()).map_err(|e| failed("reserve space for", &e))?;
        self.dress(&file, Some(found)).map_err(|(what, e)| failed(what, &e))?;
        self.write_whole(&mut file, content).map_err(|e| match self.write_whole(&mut file, &old) {
            Ok(()) => failed("write", &e),
            Err(again) => format!("{}; failed to restore the old content: {}", failed("write", &e), cause(&again)),
        })
    }

    fn write_whole(&self, file: &mut File, content: &[u8]) -> io::Result<()> {
        file.rewind()?;
        file.write_all(content)?;
        file.set_len(content.len() as u64)?;
        self.sync(file)
    }

    fn sync(&self, file: &File) -> io::Result<()> {
        match self.durability {
            Durability::Full | Durability::File => file.sync_all(),
            Durability::None => Ok(()),
        }
    }

    fn target(&self) -> Result<Target, String> {
        if let Some(number) = descriptor(&self.path) {
            return Ok(Target::Descriptor(number));
        }
        let mut path = self.path.clone();
        for _ in 0..MOST_LINKS {
            let about = |e: &io::Error| format!("failed to look at `{}`: {}", path.display(), cause(e));
            match fs::symlink_metadata(&path) {
                Ok(meta) if meta.is_symlink() => {
                    let link = fs::read_link(&path).map_err(|e| about(&e))?;
                    path = parent(&path).join(link);
                }
                Ok(meta) if meta.is_file() => {
                    return Ok(Target::Regular { found: Some(Found::of(&meta)), path });
                }
                Ok(meta) if meta.is_dir() => {
                    return Err(format!("`{}` is a directory, a file is expected", path.display()));
                }
                Ok(_) => return Ok(Target::Special(path)),
                Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Target::Regular { path, found: None }),
                Err(e) => return Err(about(&e)),
            }
        }
        Err(format!("failed to follow `{}`: more than {MOST_LINKS} symbolic links", self.path.display()))
    }
}

impl Stage {
    /// The staged file; `None` where the destination is no regular file and nothing is checked.
    pub fn path(&self) -> Option<&Path> {
        self.file.as_ref().map(|(path, _)| path.as_path())
    }

    /// Whether what is installed can be read back and compared.
    pub fn is_for_regular_file(&self) -> bool {
        matches!(self.target, Target::Regular { .. })
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        if let Some((path, _)) = self.file.take() {
            remove(&path);
        }
    }
}

impl Found {
    fn of(meta: &fs::Metadata) -> Found {
        Found { mode: meta.permissions().mode() & 0o7777, uid: meta.uid(), gid: meta.gid(), size: meta.len() }
    }
}

/// The number in /dev/fd/N and its like. Looked at before any link is followed: where standard output is a file,
/// /dev/stdout leads to that file, which must not be renamed over.
fn descriptor(path: &Path) -> Option<u32> {
    match path.to_str()? {
        "/dev/stdin" => Some(0),
        "/dev/stdout" => Some(1),
        "/dev/stderr" => Some(2),
        path => path.strip_prefix("/dev/fd/").or(path.strip_prefix("/proc/self/fd/"))?.parse().ok(),
    }
}

/// How long the loop stands still for a reader that does not keep up.
const PATIENCE: Duration = Duration::from_millis(500);

fn write_descriptor(number: u32, content: &[u8]) -> io::Result<()> {
    match number {
        1 => write::to_reader(io::stdout().as_fd(), content, PATIENCE),
        2 => write::to_reader(io::stderr().as_fd(), content, PATIENCE),
        // Appending: a descriptor's offset is shared, and opening it anew would begin at 0.
        _ => open_and_write(Path::new(&format!("/proc/self/fd/{number}")), OFlags::APPEND, content),
    }
}

/// Opened without waiting: a fifo that nobody reads is an error that is tried again, not a hang.
fn open_and_write(path: &Path, how: OFlags, content: &[u8]) -> io::Result<()> {
    let flags = OFlags::WRONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    match rustix::fs::open(path, flags | how, Mode::empty()) {
        Ok(file) => write::to_reader(file.as_fd(), content, PATIENCE),
        Err(Errno::NXIO) => Err(io::Error::other("nobody reads it")),
        Err(e) => Err(e.into()),
    }
}

/// Has the file system keep room for so many bytes, while size and content stay as they are. One that cannot do that says
/// so, and a write that fails later is undone.
fn reserve(file: &File, length: usize) -> io::Result<()> {
    match rustix::fs::fallocate(file, FallocateFlags::KEEP_SIZE, 0, length as u64) {
        // INVAL: there is nothing to reserve for an empty text.
        Ok(()) | Err(Errno::OPNOTSUPP | Errno::NOSYS | Errno::INVAL) => Ok(()),
        Err(e) => Err(e.into()),
    }
}

fn sync_directory(dir: &Path) -> io::Result<()> {
    File::open(dir)?.sync_all()
}

/// Creates a new file that nobody else can open, `.NAME` and digits with mode 0600, and locks it: one without a lock was
/// left by a crash. It is open twice: to hold the lock, and to be written.
fn create_beside(dir: &Path, name: &OsStr) -> io::Result<(PathBuf, File, File)> {
    for attempt in 0.. {
        let number = if attempt < KNOWN_NAMES { known_number(name, attempt) } else { random::below(STAGE_NUMBERS) };
        let path = stage_path(dir, name, number);
        let file = match OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path) {
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => continue,
            opened => opened?,
        };
        // Somebody who sweeps may be faster than the lock.
        let locked = match File::open(&path) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => continue,
            opened => opened.inspect_err(|_| remove(&path))?,
        };
        match rustix::fs::flock(&locked, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => match locked.metadata().inspect_err(|_| remove(&path))?.nlink() {
                0 => {}
                _ => return Ok((path, locked, file)),
            },
            Err(Errno::WOULDBLOCK) => {}
            // No locks on this file system: the worst is that somebody sweeps what is still in use, and that is an error
            // that is tried again.
            Err(_) => return Ok((path, locked, file)),
        }
    }
    unreachable!("there is always one more random number")
}

const STAGE_DIGITS: usize = 10;
const STAGE_NUMBERS: u64 = 10_u64.pow(STAGE_DIGITS as u32);

/// How many names a stage may have before it takes a random one, which nobody would know for ours after a crash. More
/// than one is needed only where several programs write one destination.
const KNOWN_NAMES: u64 = 4;

/// The number of a destination's stage, unless that name is taken. It stays, so that a crash leaves a file that is
/// known to be ours, also to a later build, and so that what prints the name and fails again fails in the same words.
fn known_number(name: &OsStr, attempt: u64) -> u64 {
    // FNV-1a. std's hashers may change from one release to the next.
    let hash = name
        .as_bytes()
        .iter()
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3));
    hash.wrapping_add(attempt) % STAGE_NUMBERS
}

fn stage_path(dir: &Path, name: &OsStr, number: u64) -> PathBuf {
    const LONGEST_NAME: usize = 255;
    let name = name.as_bytes();
    let name = &name[..name.len().min(LONGEST_NAME - STAGE_DIGITS - 1)];
    dir.join(OsString::from_vec([b".", name, format!("{number:0STAGE_DIGITS$}").as_bytes()].concat()))
}

/// The staged file once more: a check command may have put another in its place, as `sed -i` does, but not a link or a
/// directory.
fn open_staged(path: &Path) -> io::Result<File> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = File::from(rustix::fs::open(path, flags, Mode::empty())?);
    match file.metadata()?.is_file() {
        true => Ok(file),
        false => Err(io::Error::other("it is no regular file any more")),
    }
}

/// Removes a file if nobody holds a lock on it.
fn remove_if_unlocked(path: &Path) {
    let Ok(file) = open_staged(path) else { return };
    if rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive).is_ok() {
        remove(path);
    }
}

fn same_bytes(mut file: File, content: &[u8]) -> io::Result<bool> {
    let mut buffer = vec![0; content.len().clamp(1, 64 * 1024)];
    let mut rest = content;
    loop {
        let n = match file.read(&mut buffer) {
            Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
            read => read?,
        };
        match rest.strip_prefix(&buffer[..n]) {
            Some(left) if n > 0 => rest = left,
            Some(left) => return Ok(left.is_empty()),
            None => return Ok(false),
        }
    }
}

/// A stage file that cannot be removed is not worth an error of its own: what led here is already one.
fn remove(path: &Path) {
    let _ = fs::remove_file(path);
}

/// The directory of a file; `.` for a bare name.
fn parent(path: &Path) -> PathBuf {
    match path.parent() {
        Some(dir) if !dir.as_os_str().is_empty() => dir.to_owned(),
        _ => PathBuf::from("."),
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    /// A folder of the test's own, removed at its end.
    pub struct Folder(PathBuf);

    impl Folder {
        pub fn new() -> Folder {
            let path = std::env::temp_dir().join(format!("remco-files-{}", random::below(u64::MAX)));
            fs::create_dir(&path).expect("a new folder");
            Folder(path)
        }

        pub fn path(&self, name: &str) -> PathBuf {
            self.0.join(name)
        }

        fn names(&self) -> Vec<String> {
            let entries = fs::read_dir(&self.0).expect("the folder");
            let mut names: Vec<String> =
                entries.map(|e| e.expect("an entry").file_name().to_string_lossy().into_owned()).collect();
            names.sort();
            names
        }
    }

    impl Drop for Folder {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    fn destination(path: PathBuf) -> Destination {
        Destination { path, mode: None, uid: None, gid: None, make_directories: false, durability: Durability::Full }
    }

    fn put(to: &Destination, content: &[u8]) -> Result<(), String> {
        let stage = to.stage(content, Checked::No)?;
        to.install(stage, content).map(|warning| assert_eq!(warning, None))
    }

    fn mode_of(path: &Path) -> u32 {
        fs::metadata(path).expect("the file").permissions().mode() & 0o7777
    }

    #[test]
    fn a_new_file_gets_0644_and_an_old_one_keeps_its_mode() {
        let folder = Folder::new();
        let to = destination(folder.path("a"));
        assert_eq!(to.compare(b"1"), Ok(Comparison::Differs));
        put(&to, b"1").expect("installed");
        assert_eq!(mode_of(&to.path), 0o644);
        assert_eq!(to.compare(b"1"), Ok(Comparison::InSync));
        fs::set_permissions(&to.path, fs::Permissions::from_mode(0o600)).expect("chmod");
        assert_eq!(to.compare(b"1"), Ok(Comparison::InSync));
        put(&to, b"2").expect("installed");
        assert_eq!((mode_of(&to.path), fs::read(&to.path).expect("the file")), (0o600, b"2".to_vec()));
        assert_eq!(folder.names(), ["a"]);
    }

    #[test]
    fn a_mode_that_is_set_is_compared_and_repaired() {
        let folder = Folder::new();
        let to = Destination { mode: Some(0o4751), ..destination(folder.path("a")) };
        put(&to, b"1").expect("installed");
        assert_eq!(mode_of(&to.path), 0o4751);
        fs::set_permissions(&to.path, fs::Permissions::from_mode(0o644)).expect("chmod");
        assert_eq!(to.compare(b"1"), Ok(Comparison::Differs));
    }

    #[test]
    fn contents_are_compared_to_the_last_byte() {
        let folder = Folder::new();
        let to = destination(folder.path("a"));
        let large = vec![b'x'; 200_000];
        put(&to, &large).expect("installed");
        assert_eq!(to.compare(&large), Ok(Comparison::InSync));
        let mut other = large.clone();
        *other.last_mut().expect("it is not empty") = b'y';
        assert_eq!(to.compare(&other), Ok(Comparison::Differs));
        assert_eq!(to.compare(&large[1..]), Ok(Comparison::Differs));
        put(&to, b"").expect("installed");
        assert_eq!(to.compare(b""), Ok(Comparison::InSync));
    }

    #[test]
    fn a_stage_file_is_named_after_its_destination_and_goes_with_its_stage() {
        let folder = Folder::new();
        let to = destination(folder.path("haproxy.cfg"));
        let stage = to.stage(b"secret", Checked::Yes).expect("staged");
        let names = folder.names();
        let digits = names[0].strip_prefix(".haproxy.cfg").expect("the name begins so");
        assert!(digits.len() == 10 && digits.bytes().all(|b| b.is_ascii_digit()), "{names:?}");
        assert_eq!(stage.path(), Some(folder.path(&names[0]).as_path()));
        drop(stage);
        assert!(folder.names().is_empty());
    }

    #[test]
    fn the_stage_of_a_crash_is_swept_and_no_other_file_is() {
        let folder = Folder::new();
        let to = destination(folder.path("a"));
        let running = to.stage(b"1", Checked::Yes).expect("staged");
        fs::write(folder.path(".a0123456789"), "somebody else's").expect("a file");
        to.sweep();
        assert_eq!(folder.names().len(), 2, "{:?}", folder.names());
        let left = running.path().expect("it has a file").to_owned();
        drop(running);
        fs::write(&left, "half").expect("a file");
        let beside = to.stage(b"1", Checked::Yes).expect("staged under another name");
        assert_ne!(beside.path(), Some(&*left));
        let left_too = beside.path().expect("it has a file").to_owned();
        drop(beside);
        fs::write(&left_too, "half").expect("a file");
        to.sweep();
        assert_eq!(folder.names(), [".a0123456789"]);
    }

    #[test]
    fn a_check_cannot_put_a_link_in_place() {
        let folder = Folder::new();
        let to = destination(folder.path("a"));
        let stage = to.stage(b"1", Checked::Yes).expect("staged");
        let path = stage.path().expect("it has a file").to_owned();
        fs::remove_file(&path).expect("it is there");
        symlink("/etc/passwd", &path).expect("a link");
        let error = to.install(stage, b"1").expect_err("a link");
        assert!(error.starts_with(&format!("failed to sync `{}`: ", path.display())), "{error}");
        assert!(folder.names().is_empty());
    }

    #[test]
    fn a_destination_keeps_the_name_of_its_stage() {
        let folder = Folder::new();
        let to = destination(folder.path("a"));
        let name = |stage: &Stage| stage.path().map(Path::to_owned).expect("a file");
        let first = name(&to.stage(b"1", Checked::Yes).expect("staged"));
        let again = to.stage(b"2", Checked::Yes).expect("staged");
        assert_eq!(name(&again), first);
        assert_ne!(name(&to.stage(b"3", Checked::Yes).expect("staged")), first, "it is taken");
    }

    #[test]
    fn the_longest_name_can_be_staged() {
        let folder = Folder::new();
        let to = destination(folder.path(&"n".repeat(255)));
        put(&to, b"1").expect("installed");
        assert_eq!(folder.names(), ["n".repeat(255)]);
    }

    #[test]
    fn symbolic_links_stay_and_their_target_is_replaced() {
        let folder = Folder::new();
        fs::create_dir(folder.path("real")).expect("a folder");
        fs::write(folder.path("real/file"), "old").expect("a file");
        symlink("real/file", folder.path("middle")).expect("a link");
        symlink(folder.path("middle"), folder.path("link")).expect("a link");
        let to = destination(folder.path("link"));
        put(&to, b"new").expect("installed");
        assert_eq!(fs::read_link(folder.path("link")).expect("still a link"), folder.path("middle"));
        assert_eq!(fs::read(folder.path("real/file")).expect("the target"), b"new");
    }

    #[test]
    fn a_dangling_link_gets_its_target() {
        let folder = Folder::new();
        symlink("absent", folder.path("link")).expect("a link");
        put(&destination(folder.path("link")), b"1").expect("installed");
        assert_eq!(folder.names(), ["absent", "link"]);
    }

    #[test]
    fn links_in_a_circle_are_an_error() {
        let folder = Folder::new();
        symlink("b", folder.path("a")).expect("a link");
        symlink("a", folder.path("b")).expect("a link");
        let error = put(&destination(folder.path("a")), b"1").expect_err("a circle");
        assert!(error.contains("more than 40 symbolic links"), "{error}");
    }

    #[test]
    fn missing_directories_are_an_error_unless_wanted() {
        let folder = Folder::new();
        let to = destination(folder.path("x/y/z"));
        let error = put(&to, b"1").expect_err("there is no directory");
        assert_eq!(
            error,
            format!("failed to create a stage file in `{}`: no such file or directory", folder.path("x/y").display())
        );
        put(&Destination { make_directories: true, ..to }, b"1").expect("installed");
        assert_eq!(fs::read(folder.path("x/y/z")).expect("the file"), b"1");
    }

    #[test]
    fn a_directory_is_never_replaced() {
        let folder = Folder::new();
        let to = destination(folder.0.clone());
        let error = format!("`{}` is a directory, a file is expected", folder.0.display());
        assert_eq!(to.compare(b""), Err(error.clone()));
        assert_eq!(put(&to, b""), Err(error));
    }

    #[test]
    fn descriptors_are_known_by_name() {
        for (path, want) in [
            ("/dev/stdout", Some(1)),
            ("/dev/stderr", Some(2)),
            ("/dev/fd/17", Some(17)),
            ("/proc/self/fd/3", Some(3)),
            ("/dev/fd/x", None),
            ("/dev/null", None),
            ("stdout", None),
        ] {
            assert_eq!(descriptor(Path::new(path)), want, "{path}");
        }
    }

    #[test]
    fn a_device_is_written_to_and_stays() {
        let to = destination(PathBuf::from("/dev/null"));
        assert_eq!(to.compare(b"1"), Ok(Comparison::Unknowable));
        put(&to, b"1").expect("written");
        let checked = to.stage(b"1", Checked::Yes).expect("staged");
        assert!(checked.path().is_some_and(|path| path.starts_with(std::env::temp_dir())));
    }

    #[test]
    fn a_fifo_without_a_reader_is_an_error_at_once() {
        let folder = Folder::new();
        let path = folder.path("fifo");
        rustix::fs::mknodat(rustix::fs::CWD, &path, rustix::fs::FileType::Fifo, Mode::from_raw_mode(0o600), 0)
            .expect("a fifo");
        let error = put(&destination(path), b"1").expect_err("nobody reads");
        assert!(error.ends_with(": nobody reads it"), "{error}");
    }
}
