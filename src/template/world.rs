//! The machine for templates: files, variables, clock, zone, names and signals. `host` implements the trait; this file
//! has no implementation.

use std::io;
use std::path::Path;
use std::time::Duration;

/// The machine for templates: the real one in `host`, a fixed one in tests.
pub trait World {
    /// The bytes of a file: templates, `include`, `ssi`.
    fn read(&self, path: &Path) -> io::Result<Vec<u8>>;
    /// The stamp of a file's present state. If it differs, the template is compiled again.
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
    /// The processor time of the program. Only differences matter.
    fn processor_time(&self) -> Duration {
        Duration::ZERO
    }
    /// Whether the render should end without a result, because the program is ending. Checked regularly.
    fn stopped(&self) -> bool {
        false
    }
}

/// One state of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stamp {
    /// The number of the device that it is on.
    pub device: u64,
    /// The inode number.
    pub inode: u64,
    /// The size in bytes.
    pub size: u64,
    /// Seconds and nanoseconds of the last change.
    pub modified: (i64, i64),
}

/// An SRV record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Srv {
    /// The host name with a dot at its end, as in Go.
    pub target: String,
    /// The port, of TCP or UDP according to the name of the record.
    pub port: u16,
    /// Services with a lower number are used first.
    pub priority: u16,
    /// The share of the requests among records of one priority.
    pub weight: u16,
}
