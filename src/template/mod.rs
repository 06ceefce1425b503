//! remco's template language: a front end of ours, compiled onto upon. Touches nothing outside
//! itself but through [`World`].

mod bounded;
mod collections;
pub mod filters;
#[cfg(test)]
mod fixture;
pub mod functions;
mod json;
pub mod layout;
mod number;
mod printf;
mod quote;
mod runes;
mod search;
pub mod signature;
pub mod value;

use std::io;
use std::path::Path;
use std::rc::Rc;

pub use collections::Collections;

use crate::store::Store;

/// What a template may ask of the machine. Implemented over the real one in `host`; tests use a fixed one.
pub trait World {
    /// The bytes of a file: templates, `include`, `ssi`.
    fn read(&self, path: &Path) -> io::Result<Vec<u8>>;
    /// What identifies one state of a file (a template is compiled again when it differs).
    fn stamp(&self, path: &Path) -> Option<Stamp>;
    /// An environment variable.
    fn var(&self, name: &[u8]) -> Option<Vec<u8>>;
    /// The wall clock: seconds and nanoseconds since 1970 in UTC.
    fn now(&self) -> (i64, u32);
    /// The zone of local time at a moment: seconds east of UTC, and its abbreviation.
    fn zone(&self, unix: i64) -> (i32, String);
    /// The addresses of a name, as text, in no order.
    fn lookup_ip(&self, name: &str) -> Result<Vec<String>, String>;
    /// The SRV records of `_service._proto.name`.
    fn lookup_srv(&self, service: &str, proto: &str, name: &str) -> Result<Vec<Srv>, String>;
    /// A random number below `bound` (which is not 0).
    fn random(&self, bound: u64) -> u64;
}

/// One state of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stamp {
    pub device: u64,
    pub inode: u64,
    pub size: u64,
    /// Seconds and nanoseconds of the last change.
    pub modified: (i64, i64),
}

/// An SRV record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Srv {
    pub target: String,
    pub port: u16,
    pub priority: u16,
    pub weight: u16,
}

/// What functions and filters are called with beside their arguments.
pub struct Env {
    pub store: Rc<Store>,
    pub world: Rc<dyn World>,
    pub limits: Limits,
    /// The maps that the template makes in this render.
    pub collections: Collections,
}

impl Env {
    /// For one render: what it makes is let go with this.
    pub fn new(store: Rc<Store>, world: Rc<dyn World>) -> Env {
        Env {
            store,
            world,
            limits: Limits::default(),
            collections: Collections::default(),
        }
    }
}

/// What one render may cost. A template that goes beyond ends with an error, not with the machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Tags, expressions and loop rounds that are run.
    pub steps: u64,
    /// Bytes of the result, and of each text or list on the way to it.
    pub output: usize,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            steps: 100_000_000,
            output: 256 << 20,
        }
    }
}
