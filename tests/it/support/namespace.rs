//! Tests that need mounts or a network of their own: the test runs itself again as the only one, as root, in new
//! namespaces that vanish with everything in them.

use std::env;
use std::io::Write;
use std::process::{Command, Stdio};
use std::thread;

use super::{LIMIT, TempDir, wait_until};

const INSIDE: &str = "REMCO_IT_INSIDE_NAMESPACE";

/// Runs `body` in new mount, network and process namespaces with the loopback device up. `name` is the test's own
/// path as `cargo test` prints it. Skipped, with the reason printed, where the machine does not allow it.
pub fn in_own_namespace(name: &str, body: impl FnOnce()) {
    if env::var_os(INSIDE).is_some() {
        run(&["ip", "link", "set", "lo", "up"]);
        body();
        return;
    }
    if let Some(reason) = forbidden() {
        // Straight to the descriptor: the test harness shows what passing tests print only on request.
        let _ = writeln!(std::io::stderr(), "test {name} ... skipped: {reason}");
        return;
    }
    // The folders of the test inside are in this one: mounts in them are gone when it is removed.
    let outside = TempDir::new();
    let mut child = Command::new("unshare")
        // Process numbers too: whatever the test leaves behind, a daemonised haproxy, ends with it.
        .args(["--mount", "--net", "--pid", "--fork", "--kill-child", "--mount-proc"])
        .arg(env::current_exe().expect("the test binary has a path"))
        .args(["--exact", name, "--nocapture"])
        .env(INSIDE, "1")
        .env("TMPDIR", outside.path())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .expect("unshare worked a moment ago");
    let mut stdout = child.stdout.take().expect("standard output is a pipe");
    let output = thread::spawn(move || std::io::read_to_string(&mut stdout).expect("the harness prints text"));
    let mut ended = None;
    let waited = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        wait_until("the test in its namespaces ends", LIMIT * 3, || {
            ended = child.try_wait().expect("unshare is our child");
            ended.is_some()
        });
    }));
    if let Err(timeout) = waited {
        // --kill-child takes everything inside with it.
        let _ = child.kill();
        let _ = child.wait();
        std::panic::resume_unwind(timeout);
    }
    let output = output.join().expect("the reader does not panic");
    let status = ended.expect("waited for");
    assert!(status.success(), "in its namespaces the test ended with {status}:\n{output}");
    assert!(output.contains("1 passed"), "no test has the name {name}:\n{output}");
}

/// Runs a command that has to succeed.
pub fn run(command: &[&str]) {
    let status = Command::new(command[0])
        .args(&command[1..])
        .status()
        .unwrap_or_else(|e| panic!("failed to run {command:?} (scripts/test installs it): {e}"));
    assert!(status.success(), "{command:?}: {status}");
}

/// Why namespaces cannot be had here.
fn forbidden() -> Option<&'static str> {
    if !rustix::process::geteuid().is_root() {
        return Some("it needs root");
    }
    let tried = Command::new("unshare")
        .args(["--mount", "--net", "--pid", "--fork", "--mount-proc", "mount", "-t", "tmpfs", "none", "/tmp"])
        .stderr(Stdio::null())
        .status();
    match tried {
        Ok(status) if status.success() => None,
        Ok(_) => Some("this machine does not let root unshare and mount"),
        Err(_) => Some("there is no unshare"),
    }
}
