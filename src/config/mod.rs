//! The configuration: what the user wrote, checked as a whole. Reads files and the environment
//! only through [`Source`].

pub mod model;

use std::io;
use std::path::Path;

pub use model::*;

/// Where configuration comes from. Implemented over the machine in `host`; tests use a table.
pub trait Source {
    /// The bytes of a file.
    fn read(&self, path: &Path) -> io::Result<Vec<u8>>;
    /// The names in a directory, in any order.
    fn list(&self, dir: &Path) -> io::Result<Vec<std::ffi::OsString>>;
    /// An environment variable.
    fn var(&self, name: &[u8]) -> Option<Vec<u8>>;
}

/// Everything that is wrong with a configuration, or nothing. Warnings do not stop anything.
#[derive(Debug)]
pub struct Findings {
    /// In the order of files and places.
    pub list: Vec<Finding>,
}

/// One error or warning, with its place in the file as the user wrote it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    pub fatal: bool,
    pub file: std::path::PathBuf,
    /// Line and column from 1 (columns count characters); `None`: the file as a whole.
    pub place: Option<(usize, usize)>,
    pub message: String,
}

/// Whether what could be a slip is an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Strictness {
    Lenient,
    Strict,
}

/// Reads and checks a whole configuration. Gives all warnings beside the configuration, or all errors (and
/// warnings) of the run at once.
pub fn load(_path: &Path, _strictness: Strictness, _source: &dyn Source) -> Result<(Config, Vec<Finding>), Findings> {
    todo!()
}
