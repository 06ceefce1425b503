//! The parts of the machine that the configuration needs: files, directories, environment variables, a shell. Only
//! declares the trait; `host` implements it.

use std::ffi::{OsStr, OsString};
use std::io;
use std::path::{Component, Path, PathBuf};

/// The source of a configuration: the machine in `host`, a table in tests.
pub trait Source {
    /// The bytes of the main file. At the start the file may be a pipe, which is read until its writer closes it.
    ///
    /// # Errors
    /// The file cannot be opened or read, or is larger than the implementation allows.
    fn read(&self, path: &Path) -> io::Result<Vec<u8>>;
    /// The errors of `read`, and a file that is not a regular one.
    fn read_included(&self, path: &Path) -> io::Result<Vec<u8>> {
        self.read(path)
    }
    /// The names in a directory, in any order.
    ///
    /// # Errors
    /// The directory cannot be listed.
    fn list(&self, dir: &Path) -> io::Result<Vec<OsString>>;
    /// An environment variable.
    fn var(&self, name: &[u8]) -> Option<Vec<u8>>;
    /// The shell that runs commands.
    fn shell(&self) -> Shell;
    /// The reason why a file cannot be created or written at a path; `None`: none is known.
    fn obstacle(&self, dst: &Path, make_directories: bool, in_place: bool) -> Option<String> {
        let _ = (dst, make_directories, in_place);
        None
    }
    /// The reason for a file or socket of remco itself, whose directory is not created.
    fn own_obstacle(&self, path: &Path) -> Option<String> {
        let _ = path;
        None
    }
    /// The reason why a directory cannot be the `state_dir`; `None`: none is known.
    fn state_dir_obstacle(&self, path: &Path) -> Option<String> {
        let _ = path;
        None
    }
    /// The error of a program that cannot be run; `None`: none is known.
    fn missing_program(&self, name: &OsStr) -> Option<String> {
        let _ = name;
        None
    }
    /// The file that a path leads to, so that two paths of one file are recognised. A source without links and
    /// directories identifies a file by its path.
    fn identity(&self, path: &Path) -> Identity {
        Identity::named(path)
    }
}

/// The identity of a file, independent of the path that leads to it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Identity {
    /// A regular file: its device and inode.
    File(u64, u64),
    /// The file does not exist: the device and inode of the nearest existing directory above it, and the path from
    /// there.
    Absent(u64, u64, PathBuf),
    /// A device, a descriptor, or a file that cannot be inspected: identified by its path alone.
    Named(PathBuf),
}

impl Identity {
    /// `/etc//app.conf`, `/etc/./app.conf` and `/etc/app.conf` are one path, as are `./out` and `out`. (`..` stays,
    /// because after a link it leads to another directory than its text.)
    pub fn named(path: &Path) -> Identity {
        Identity::Named(path.components().filter(|part| *part != Component::CurDir).collect())
    }
}

/// The program that runs a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shell {
    /// `/bin/sh -c`
    Present,
    /// There is no /bin/sh: a command that needs no shell is split into words and executed; any other is an error.
    Missing,
}
