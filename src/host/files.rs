//! Writes rendered text to its destination: compares, stages, renames. Nothing else writes files of the user. A file
//! is replaced as a whole or not at all, if it can be replaced. Does not decide when. Works on descriptors, because
//! another user who owns a directory may change it meanwhile.

mod attributes;
mod backup;
mod identity;
mod in_place;
mod kept_file;
mod place;
mod preview;
mod stage;
mod unfinished;
mod written;

use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use rustix::fs::{CWD, FileType, Mode, OFlags, Stat, fsync, lstat, openat, renameat};
use rustix::io::Errno;

use attributes::{Attributes, Permissions};
use in_place::Failure;
pub use kept_file::KeptFile;
use place::{Found, Place, Target, Unresolved, descriptor, locate, parent};
use stage::StageFile;
use written::State;

use super::write;
use crate::config::Durability;
use crate::error::cause;

pub use identity::identity;
pub use place::{open_or_create, open_regular};
pub use preview::{Present, Preview, Trial, obstacle, own_obstacle};
pub use unfinished::{Left, Unfinished};
pub use written::Written;

/// The destination of a template's result, and the owner and mode of the file.
#[derive(Clone, Debug)]
pub struct Destination {
    /// As the user wrote the path.
    pub path: PathBuf,
    /// Permission bits; `None`: those of the present file, or 0644 for a new one.
    pub mode: Option<u32>,
    /// `None`: the owner is not changed.
    pub uid: Option<u32>,
    /// `None`: the group is not changed.
    pub gid: Option<u32>,
    /// Creates missing directories of the path, with mode 0755 less the umask.
    pub make_directories: bool,
    /// The parts that are synced to the disk when the result is installed.
    pub durability: Durability,
    /// Writes into the present file instead of replacing it.
    pub in_place: bool,
    /// Keeps the present file under its name and `.bak`.
    pub backup: bool,
    /// Empty at first.
    pub known: KnownPermissions,
}

/// The permissions that a destination with a configured `mode` should have: those that it had when it was in sync, or
/// was given. Later differences from them are drift.
#[derive(Clone, Debug, Default)]
pub struct KnownPermissions(Option<Permissions>);

/// The difference between a destination and a result.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Comparison {
    /// They are equal.
    InSync,
    /// The result has to be installed.
    Differs,
    /// A device, a fifo or a descriptor cannot be read back.
    Unknowable,
}

/// A result that waits to be installed. Dropping the stage removes its file.
#[derive(Debug)]
pub struct Stage {
    /// `None`: nothing will be renamed, and no command will check a file.
    file: Option<StageFile>,
    target: Target,
    permissions: Permissions,
    warnings: Vec<String>,
}

/// Whether a check command needs the result as a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Checked {
    /// The result is written to a file, whatever the destination is.
    Yes,
    /// A result that is not renamed into place needs no file.
    No,
}

impl Destination {
    /// A temporary file that all may read. The next start writes it again, so that it is not synced.
    pub fn passing(path: PathBuf) -> Destination {
        Destination {
            path,
            mode: Some(0o644),
            uid: None,
            gid: None,
            make_directories: false,
            durability: Durability::None,
            in_place: false,
            backup: false,
            known: KnownPermissions::default(),
        }
    }

    /// Compares the bytes and, if they are configured, mode, access control list, owner and group. Writes nothing.
    ///
    /// # Errors
    /// The destination exists but cannot be read, or is a directory.
    pub fn compare(&mut self, content: &[u8]) -> Result<Comparison, String> {
        if descriptor(&self.path).is_some() {
            return Ok(Comparison::Unknowable);
        }
        self.compare_as(lstat(&self.path), content.len() as u64, |file| same_bytes(file, content))
    }

    /// Whether the destination still has this content, and the configured owner and mode. If its state is the last one,
    /// this is one system call; otherwise the content is read. The answer is false for a destination that cannot be
    /// read back.
    pub fn still_has(&mut self, written: &mut Written) -> bool {
        if descriptor(&self.path).is_some() {
            return false;
        }
        // The state comes first: a change while the content is read is a later change.
        let meta = lstat(&self.path);
        let is_file = |meta: &&Stat| FileType::from_raw_mode(meta.st_mode) == FileType::RegularFile;
        let state = meta.as_ref().ok().filter(is_file).and_then(|meta| State::of(meta, SystemTime::now()));
        if state.is_some() && state == written.state {
            return true;
        }
        let same = self.compare_as(meta, written.size, |file| written.is_content_of(file));
        let is_same = same == Ok(Comparison::InSync);
        written.state = state.filter(|_| is_same);
        is_same
    }

    /// Compares with a content of this size. `meta`: of the path. `has_content`: reads and compares the file.
    fn compare_as(
        &mut self,
        meta: rustix::io::Result<Stat>,
        size: u64,
        has_content: impl FnOnce(File) -> io::Result<bool>,
    ) -> Result<Comparison, String> {
        let failed = |what: &str, e: &io::Error| format!("failed to {what} `{}`: {}", self.path.display(), cause(e));
        // The common case has to be cheap: a regular file at the path itself.
        let meta = match meta {
            Ok(meta) => meta,
            Err(Errno::NOENT) => return Ok(Comparison::Differs),
            Err(e) => return Err(failed("look at", &e.into())),
        };
        let (found, place) = match FileType::from_raw_mode(meta.st_mode) {
            FileType::RegularFile => (Found::of(&meta), None),
            _ => match self.locate()? {
                Some(Target::Regular(place)) => match place.found {
                    Some(found) => (found, Some(place)),
                    None => return Ok(Comparison::Differs),
                },
                Some(Target::Special(_) | Target::Descriptor(_)) => return Ok(Comparison::Unknowable),
                None => return Ok(Comparison::Differs),
            },
        };
        let mode = self.known.0.as_ref().and_then(|known| known.reduced).or(self.mode);
        let differs = found.size != size
            || mode.is_some_and(|mode| mode != found.mode)
            || self.uid.is_some_and(|uid| uid != found.uid)
            || self.gid.is_some_and(|gid| gid != found.gid);
        if differs {
            return Ok(Comparison::Differs);
        }
        let opened = match &place {
            Some(place) => place.open(OFlags::RDONLY),
            // It may have become a link or a fifo since: the open neither follows nor waits.
            None => openat(
                CWD,
                &self.path,
                OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC,
                Mode::empty(),
            )
            .map(File::from)
            .map_err(io::Error::from),
        };
        let file = opened.map_err(|e| failed("read", &e))?;
        if self.mode.is_some()
            && self.known.has_drifted(&file).map_err(|e| failed("read the access control list of", &e))?
        {
            return Ok(Comparison::Differs);
        }
        match has_content(file).map_err(|e| failed("read", &e))? {
            true => Ok(Comparison::InSync),
            false => Ok(Comparison::Differs),
        }
    }

    /// Removes stage files that a crash has left: those with one of our names and without a lock. A file that cannot be
    /// removed does no harm.
    pub fn sweep(&self) {
        match self.locate() {
            Ok(Some(Target::Regular(place))) => {
                stage::sweep_beside(&place.dir, &place.name);
                if self.backup {
                    stage::sweep_beside(&place.dir, &backup::name(&place));
                }
                if self.in_place || place.is_mount_point() {
                    stage::sweep_private(&self.path, &place.name);
                }
            }
            Ok(Some(Target::Special(_) | Target::Descriptor(_))) => stage::sweep_private(&self.path, self.name()),
            Ok(None) | Err(_) => {}
        }
    }

    /// The name of a stage file outside of the destination's directory.
    fn name(&self) -> &OsStr {
        self.path.file_name().unwrap_or_default()
    }

    /// Writes the result into a stage file beside the destination. Its name is `.NAME` and digits. It is created with
    /// mode 0600 and then gets its owner and mode, so that a check command that runs as another user sees the final
    /// file. If no file can be created there, and the destination is written in place, the stage is elsewhere.
    ///
    /// # Errors
    /// The file could not be written as a whole. No file is left.
    pub fn stage(&self, content: &[u8], checked: Checked) -> Result<Stage, String> {
        let mut target = self.locate()?;
        if target.is_none() && self.make_directories {
            let dir = self.missing_directory()?;
            self.create_directories(&dir)?;
            target = self.locate()?;
        }
        let Some(target) = target else {
            return Err(without_directory(&self.missing_directory()?));
        };
        let mut stage = Stage { file: None, target, permissions: Permissions::default(), warnings: Vec::new() };
        let writer = match &stage.target {
            Target::Regular(place) if self.in_place && place.found.is_some() && checked == Checked::No => None,
            Target::Special(_) | Target::Descriptor(_) if checked == Checked::No => None,
            Target::Special(_) | Target::Descriptor(_) => Some(self.stage_elsewhere(self.name())?),
            Target::Regular(place) => {
                let directory = place.directory();
                match StageFile::beside(&place.dir, &directory, &place.name) {
                    Ok(created) => Some(created),
                    Err(e) if !is_not_writable(&e) => return Err(failed_to_create(&directory, &e)),
                    Err(_) if place.found.is_some() && (self.in_place || place.is_mount_point()) => match checked {
                        Checked::Yes => Some(self.stage_elsewhere(&place.name)?),
                        Checked::No => None,
                    },
                    Err(e) if place.found.is_some() => {
                        let message = failed_to_create(&directory, &e);
                        return Err(format!("{message}: where only the file may be written, set `in_place = true`"));
                    }
                    Err(e) => return Err(failed_to_create(&directory, &e)),
                }
            }
        };
        if let Some((file, writer)) = writer {
            // From here on an error removes the stage file.
            let path = file.path.display().to_string();
            let failed = |(what, e): (&str, io::Error)| format!("failed to {what} stage file `{path}`: {}", cause(&e));
            let filled = self.fill(&file, writer, content, &mut stage);
            stage.file = Some(file);
            filled.map_err(failed)?;
        }
        Ok(stage)
    }

    fn stage_elsewhere(&self, name: &OsStr) -> Result<(StageFile, File), String> {
        StageFile::private(&self.path, name).or_else(|private| {
            StageFile::memory(name).map_err(|memory| {
                format!(
                    "failed to stage `{}` for its check command: failed to create a directory in `{}`: {}; failed to \
                     create a file in memory that has a path in /proc/self/fd: {}",
                    self.path.display(),
                    std::env::temp_dir().display(),
                    cause(&private),
                    cause(&memory)
                )
            })
        })
    }

    /// Writes everything to a new stage file: bytes, owner, attributes, mode.
    fn fill(
        &self,
        file: &StageFile,
        mut writer: File,
        content: &[u8],
        stage: &mut Stage,
    ) -> Result<(), (&'static str, io::Error)> {
        attributes::strip_inherited(&writer).map_err(|e| ("take the inherited access control list off", e))?;
        writer.write_all(content).map_err(|e| ("write", e))?;
        let place = match &stage.target {
            Target::Regular(place) => Some(place),
            Target::Special(_) | Target::Descriptor(_) => None,
        };
        let mut warnings = Vec::new();
        let old = match place {
            Some(place) if place.found.is_some() && file.beside_at().is_some() => old_attributes(place, &mut warnings)?,
            Some(_) | None => Attributes::default(),
        };
        let acl = match (&self.known.0, self.mode) {
            (Some(known), Some(_)) => known.acl.clone(),
            _ => old.acl.clone(),
        };
        let found = place.and_then(|place| place.found);
        stage.permissions = self.apply_owner_and_mode(&writer, found, acl.as_ref(), &mut warnings)?;
        old.give_labels(&writer, &mut warnings);
        let named = |warning| format!("`{}`: {warning}", self.path.display());
        stage.warnings.extend(warnings.into_iter().map(named));
        file.seal(writer).map_err(|e| ("seal", e))
    }

    /// Creates the missing directories of a path, and syncs them if the file is to survive a power cut.
    fn create_directories(&self, dir: &Path) -> Result<(), String> {
        place::create_directories(dir, |above| match self.durability {
            Durability::Full => fsync(above),
            Durability::File | Durability::None => Ok(()),
        })
        .map_err(|(path, e)| format!("failed to create directory `{}`: {}", path.display(), cause(&e)))
    }

    /// Installs the result: fsync, rename, fsync of the directory, as `durability` says. A destination that is a mount
    /// point cannot be renamed over, and is written in place.
    ///
    /// Returns a warning if the file is installed but may not survive a power cut, or has lost attributes.
    ///
    /// # Errors
    /// The old content is still in place, unless the message says otherwise.
    pub fn install(&mut self, stage: Stage, content: &[u8]) -> Result<Option<String>, String> {
        let Stage { file, target, permissions, mut warnings } = stage;
        let failed =
            |what: &str, path: &Path, e: &dyn std::fmt::Display| format!("failed to {what} `{}`: {e}", path.display());
        let place = match target {
            Target::Regular(place) => place,
            Target::Special(place) => {
                let written = open_and_write(&place, content);
                return written.map(|()| None).map_err(|e| failed("write to", &place.path, &cause(&e)));
            }
            Target::Descriptor(number) => {
                let written = write_descriptor(number, content);
                return written.map(|()| None).map_err(|e| failed("write to", &self.path, &cause(&e)));
            }
        };
        // A check command may have taken a minute. The path must still lead to the place of the stage.
        let now = match self.locate()? {
            Some(Target::Regular(now)) if now.is(&place) => now,
            Some(_) | None => {
                return Err(failed("replace", &self.path, &"its path has changed since it was staged"));
            }
        };
        let backup = self
            .back_up(&now)
            .map_err(|e| failed("replace", &place.path, &format!("failed to keep it: {}", cause(&e))))?;
        let result = self.put(file, &place, permissions, content, &mut warnings);
        let is_old = result.as_ref().is_err_and(|failure| !failure.is_damaged);
        backup.into_iter().for_each(|backup| backup.end(is_old));
        result.map_err(|failure| failure.message)?;
        Ok((!warnings.is_empty()).then(|| warnings.join("; ")))
    }

    /// Renames the stage to its place, or writes to the file that is there.
    fn put(
        &mut self,
        file: Option<StageFile>,
        place: &Place,
        permissions: Permissions,
        content: &[u8],
        warnings: &mut Vec<String>,
    ) -> Result<(), Failure> {
        let failed = |what: &str, path: &Path, e: &dyn std::fmt::Display| {
            Failure::from(format!("failed to {what} `{}`: {e}", path.display()))
        };
        let renamed = match &file {
            Some(file) if file.beside_at().is_some() && !(self.in_place && place.found.is_some()) => {
                let staged = &file.path;
                let checked = file.checked().and_then(|content| self.sync(&content));
                checked.map_err(|e| failed("sync", staged, &cause(&e)))?;
                let (dir, name) = file.beside_at().expect("matched above");
                match renameat(dir, name, &place.dir, &place.name) {
                    Ok(()) => true,
                    Err(Errno::BUSY) => false,
                    Err(e) => {
                        return Err(failed(
                            &format!("rename `{}` to", staged.display()),
                            &place.path,
                            &cause(&e.into()),
                        ));
                    }
                }
            }
            Some(_) | None => false,
        };
        if renamed {
            if let Some(file) = file {
                file.installed();
            }
            self.known.0 = Some(permissions);
            if self.durability == Durability::Full
                && let Err(e) = fsync(&place.dir)
            {
                warnings.push(format!(
                    "replaced `{}`, but failed to sync `{}`: {}",
                    place.path.display(),
                    place.directory().display(),
                    cause(&e.into())
                ));
            }
        } else {
            drop(file);
            // Warnings about the attributes of the stage do not apply to the present file.
            warnings.clear();
            self.overwrite(place, content, warnings)?;
            self.known.0 = None;
        }
        Ok(())
    }

    fn sync(&self, file: &File) -> io::Result<()> {
        match self.durability {
            Durability::Full | Durability::File => file.sync_all(),
            Durability::None => Ok(()),
        }
    }

    /// `None`: the directory does not exist.
    fn locate(&self) -> Result<Option<Target>, String> {
        match locate(&self.path) {
            Ok(target) => Ok(Some(target)),
            Err(Unresolved::NoDirectory(_)) => Ok(None),
            Err(unresolved) => Err(unresolved.into()),
        }
    }

    /// The missing directory.
    fn missing_directory(&self) -> Result<PathBuf, String> {
        match locate(&self.path) {
            Err(Unresolved::NoDirectory(dir)) => Ok(dir),
            Err(unresolved) => Err(unresolved.into()),
            // Another process has just created it.
            Ok(_) => Ok(parent(&self.path)),
        }
    }
}

impl KnownPermissions {
    /// Whether the access control list differs from the last one in sync. The first list counts as in sync.
    fn has_drifted(&mut self, file: &File) -> io::Result<bool> {
        let acl = attributes::acl(file)?;
        match &self.0 {
            Some(known) => Ok(known.acl != acl),
            None => {
                self.0 = Some(Permissions { acl, reduced: None });
                Ok(false)
            }
        }
    }
}

impl Stage {
    /// The path of the staged file; `None`: there is none to check.
    pub fn path(&self) -> Option<&Path> {
        self.file.as_ref().map(|file| &*file.path)
    }

    /// The descriptor that the check command has to inherit, if the path refers to one.
    pub fn inherited(&self) -> Option<BorrowedFd<'_>> {
        self.file.as_ref()?.inherited()
    }

    /// Whether the installed result can be read back and compared.
    pub fn is_for_regular_file(&self) -> bool {
        matches!(self.target, Target::Regular(_))
    }

    /// Device and inode of the file that will be replaced.
    pub fn replaces(&self) -> Option<(u64, u64)> {
        match &self.target {
            Target::Regular(place) => place.found.map(|found| found.identity),
            Target::Special(_) | Target::Descriptor(_) => None,
        }
    }
}

/// The attributes that the new file inherits from the old one.
fn old_attributes(place: &Place, warnings: &mut Vec<String>) -> Result<Attributes, (&'static str, io::Error)> {
    let read = match place.open(OFlags::RDONLY) {
        Err(e) if e.kind() == io::ErrorKind::PermissionDenied => {
            warnings.push(format!("its `user.*` attributes are lost, they cannot be read: {}", cause(&e)));
            Attributes::read_by_path(&place.path)
        }
        opened => opened.and_then(|file| Attributes::read(&file)),
    };
    read.map_err(|e| ("read the old file's attributes for", e))
}

/// The error where the directory of a destination is missing.
fn without_directory(dir: &Path) -> String {
    let message = failed_to_create(dir, &Errno::NOENT.into());
    format!("{message}: make the directory, or set `make_directories = true`")
}

fn failed_to_create(dir: &Path, e: &io::Error) -> String {
    format!("failed to create a stage file in `{}`: {}", dir.display(), cause(e))
}

/// Whether we may not create a file in a directory.
fn is_not_writable(e: &io::Error) -> bool {
    matches!(Errno::from_io_error(e), Some(Errno::ROFS | Errno::ACCESS | Errno::PERM))
}

/// How long the loop waits for a slow reader.
const WRITE_TIMEOUT: Duration = Duration::from_millis(500);

fn write_descriptor(number: u32, content: &[u8]) -> io::Result<()> {
    match number {
        1 => write::to_reader(io::stdout().as_fd(), content, WRITE_TIMEOUT),
        2 => write::to_reader(io::stderr().as_fd(), content, WRITE_TIMEOUT),
        _ => {
            // Appends: opening the path would begin at offset 0, while the descriptor's offset is shared.
            let flags = OFlags::WRONLY | OFlags::APPEND | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
            let file = openat(CWD, format!("/proc/self/fd/{number}"), flags, Mode::empty()).map_err(without_reader)?;
            write::to_reader(file.as_fd(), content, WRITE_TIMEOUT)
        }
    }
}

/// Opens without waiting: a fifo without a reader is an error that is retried, and no hang. Opens without following:
/// the device may have become a link.
fn open_and_write(place: &Place, content: &[u8]) -> io::Result<()> {
    let flags = OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let file = openat(&place.dir, &place.name, flags, Mode::empty()).map_err(without_reader)?;
    if FileType::from_raw_mode(rustix::fs::fstat(&file)?.st_mode) == FileType::RegularFile {
        return Err(io::Error::other("it was replaced at this moment"));
    }
    write::to_reader(file.as_fd(), content, WRITE_TIMEOUT)
}

fn without_reader(e: Errno) -> io::Error {
    match e {
        Errno::NXIO => io::Error::other("it has no reader"),
        e => e.into(),
    }
}

/// Whether a regular file has exactly these bytes. Reads at most one byte more than that, even of a huge file.
fn same_bytes(mut file: File, content: &[u8]) -> io::Result<bool> {
    let mut buffer = vec![0; content.len().saturating_add(1).min(64 * 1024)];
    let mut rest = content;
    loop {
        let n = match file.read(&mut buffer) {
            Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
            read => read?,
        };
        match rest.strip_prefix(&buffer[..n]) {
            // A read of a regular file is short only at its end.
            Some(left) if n < buffer.len() => return Ok(left.is_empty()),
            Some(left) => rest = left,
            None => return Ok(false),
        }
    }
}

#[cfg(test)]
pub(crate) mod tests;
