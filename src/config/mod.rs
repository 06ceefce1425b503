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
