//! The static binary as process 1 in separate namespaces, in a root with only the files of the test.

use std::ffi::OsString;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use rustix::process::{Pid, Signal, kill_process};

use super::{Invocation, LIMIT, Remco, TempDir, wait_until};

/// A folder that is all there is for the program in it: `/remco`, and what the test writes.
pub struct Root {
    dir: TempDir,
}

/// The path of the static binary, for who builds an image of it. `None`, with the reason printed, where there is none or
/// this machine lets nobody make a root of his own.
pub fn static_binary(test: &str) -> Option<PathBuf> {
    let binary = std::env::var_os("REMCO_STATIC").filter(|path| !path.is_empty()).map(PathBuf::from);
    let reason = match (&binary, forbidden()) {
        (None, _) => Some("REMCO_STATIC does not name the static binary (scripts/test builds it)"),
        (Some(_), forbidden) => forbidden,
    };
    if let Some(reason) = reason {
        // Straight to the descriptor: the test harness shows what passing tests print only on request.
        let _ = writeln!(std::io::stderr(), "test {test} ... skipped: {reason}");
        return None;
    }
    binary
}

impl Root {
    /// With the binary in it.
    pub fn new(binary: &Path) -> Root {
        let dir = TempDir::new();
        fs::copy(binary, dir.at("remco")).unwrap_or_else(|e| panic!("failed to copy {}: {e}", binary.display()));
        Root { dir }
    }

    /// As the host sees it.
    pub fn dir(&self) -> &TempDir {
        &self.dir
    }

    /// Starts it with the configuration `/config.toml`.
    pub fn start(&self) -> Inside {
        let root = self.dir.path();
        let mut command = Command::new("unshare");
        command.args(OPTIONS).arg("chroot").arg(root).args(["/remco", "-config", "/config.toml"]);
        let outer = Invocation::of(command, root).start();
        let mut inner = None;
        wait_until("the program is process 1", LIMIT, || {
            inner = children(outer.pid()).first().copied();
            let exe = inner.and_then(|pid| fs::read_link(format!("/proc/{pid}/exe")).ok());
            exe.is_some_and(|exe| exe.ends_with("remco"))
        });
        Inside { outer, pid: inner.expect("waited for") }
    }
}

const OPTIONS: [&str; 7] = ["--pid", "--fork", "--kill-child", "--mount", "--ipc", "--uts", "--"];

/// A running program that is process 1 of its namespace. Ends with the guard.
pub struct Inside {
    /// unshare, which waits for it, passes its log and its exit code on, and takes it along.
    outer: Remco,
    /// Its number outside.
    pid: u32,
}

impl Inside {
    pub fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(self.pid.cast_signed()).expect("a child's pid is positive");
        kill_process(pid, signal).expect("the program runs");
    }

    /// How many children it has, those included that have ended and were not waited for.
    pub fn children(&self) -> usize {
        children(self.pid).len()
    }

    /// Sends SIGTERM and waits for the end, which has to be clean. Gives the log.
    #[track_caller]
    pub fn stop(mut self) -> Vec<String> {
        self.signal(Signal::TERM);
        assert_eq!(self.outer.exit_code(), Some(0), "exit code after SIGTERM");
        self.outer.all_lines()
    }
}

fn children(pid: u32) -> Vec<u32> {
    let list = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    list.split_whitespace().filter_map(|child| child.parse().ok()).collect()
}

/// Why no root of one's own can be had here.
fn forbidden() -> Option<&'static str> {
    if !rustix::process::geteuid().is_root() {
        return Some("it needs root");
    }
    let mut command: Vec<OsString> = OPTIONS.iter().map(OsString::from).collect();
    command.extend(["chroot", "/", "true"].map(OsString::from));
    match Command::new("unshare").args(command).stderr(Stdio::null()).status() {
        Ok(status) if status.success() => None,
        Ok(_) => Some("this machine does not let root unshare and chroot"),
        Err(_) => Some("there is no unshare"),
    }
}
