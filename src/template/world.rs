//! The machine as templates see it: files, variables, clock, zone, names and signals. Implemented in `host`; this is only
//! what it has to answer.

use std::io;
use std::path::Path;
use std::time::Duration;

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
    /// The processor time that the program has taken. Only differences count.
    fn processor_time(&self) -> Duration {
        Duration::ZERO
    }
    /// Whether the render should end without a result, since the program is asked to. Looked at now and then.
    fn stopped(&self) -> bool {
        false
    }
}

/// One state of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stamp {
    /// The number of the device that it is on.
    pub device: u64,
    /// Its number on that device.
    pub inode: u64,
    /// In bytes.
    pub size: u64,
    /// Seconds and nanoseconds of the last change.
    pub modified: (i64, i64),
}

/// An SRV record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Srv {
    /// With the dot at its end, as Go gives it.
    pub target: String,
    /// TCP or UDP, as the name says that was looked up.
    pub port: u16,
    /// Lower ones are to be used first.
    pub priority: u16,
    /// The share of the requests among records of one priority.
    pub weight: u16,
}
