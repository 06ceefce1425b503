//! The resources of the machine that the process uses, and the name of the machine, from /proc. Without /proc most of
//! the figures are unknown. Keeps no state.

use std::fs;

use rustix::time::{ClockId, clock_gettime};

/// The resources that the process uses; `None`: unknown.
#[derive(Clone, Copy, Debug)]
pub struct Usage {
    /// Resident memory.
    pub resident_bytes: Option<f64>,
    /// Open descriptors.
    pub open_fds: Option<f64>,
    /// Processor time, user and system.
    pub cpu_seconds: Option<f64>,
}

/// The present use.
#[expect(clippy::cast_precision_loss, reason = "the numbers are small")]
pub fn now() -> Usage {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let kilobytes =
        status.lines().find_map(|line| line.strip_prefix("VmRSS:")?.split_whitespace().next()?.parse().ok());
    // One of them is open to list the folder.
    let descriptors = fs::read_dir("/proc/self/fd").ok().map(|entries| entries.count().saturating_sub(1));
    let time = clock_gettime(ClockId::ProcessCPUTime);
    Usage {
        resident_bytes: kilobytes.map(|kilobytes: u32| f64::from(kilobytes) * 1024.0),
        open_fds: descriptors.map(|count| count as f64),
        cpu_seconds: Some(time.tv_sec as f64 + time.tv_nsec as f64 / 1e9),
    }
}

/// The name of the machine; empty: unknown.
pub fn hostname() -> String {
    fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default().trim_end().to_owned()
}
