//! What a process uses, from /proc.

use std::fmt;
use std::fs;

/// What leaks where something does.
pub struct Usage {
    /// Kilobytes.
    pub rss: u64,
    pub descriptors: u64,
    pub threads: u64,
    /// How often it was woken.
    pub switches: u64,
    pub cpu_ms: u64,
}

impl Usage {
    pub fn of(pid: u32) -> Usage {
        let status = read(pid, "status");
        let field = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
            line.and_then(|rest| rest.split_whitespace().next()?.parse().ok()).unwrap_or_default()
        };
        // Nanoseconds on a CPU come first.
        let on_cpu = read(pid, "schedstat").split(' ').next().and_then(|first| first.parse::<u64>().ok());
        Usage {
            rss: field("VmRSS"),
            descriptors: fs::read_dir(format!("/proc/{pid}/fd")).expect("it runs").count() as u64,
            threads: field("Threads"),
            switches: field("voluntary_ctxt_switches"),
            cpu_ms: on_cpu.unwrap_or_default() / 1_000_000,
        }
    }
}

impl fmt::Display for Usage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Usage { rss, descriptors, threads, switches, cpu_ms } = self;
        write!(f, "RSS {rss} KB, {descriptors} descriptors, {threads} thread, woken {switches}, {cpu_ms} ms of CPU")
    }
}

/// How many children of a process have ended and were not waited for.
pub fn zombies(parent: u32) -> usize {
    let children = read(parent, &format!("task/{parent}/children"));
    let is_zombie =
        |pid: &&str| fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| stat.contains(") Z "));
    children.split_whitespace().filter(is_zombie).count()
}

fn read(pid: u32, file: &str) -> String {
    fs::read_to_string(format!("/proc/{pid}/{file}")).unwrap_or_else(|e| panic!("/proc/{pid}/{file}: {e}"))
}
