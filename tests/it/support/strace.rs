//! The system calls of the program, by strace.

use super::{Invocation, LIMIT, TempDir, wait_until};

/// A trace that is being written to a file in a test's folder.
pub struct Trace<'a> {
    dir: &'a TempDir,
}

/// One system call as strace writes it: `rename("a", "b") = 0`.
#[derive(Debug)]
pub struct Call {
    pub pid: u32,
    pub text: String,
}

const FILE: &str = "trace";

/// Everything that can create or change a file, and what runs a program.
const CALLS: &str = "trace=open,openat,creat,rename,renameat,renameat2,unlink,unlinkat,mkdir,mkdirat,mknod,mknodat,\
                     link,linkat,symlink,symlinkat,truncate,ftruncate,chmod,fchmod,fchmodat,chown,fchown,fchownat,\
                     lchown,fremovexattr,fsetxattr,fallocate,fsync,fdatasync,execve";

impl<'a> Trace<'a> {
    /// The invocation with its calls traced into `dir`. The program stays our direct child (strace -D), so that
    /// signals and exit codes are its own.
    pub fn of(invocation: Invocation, dir: &'a TempDir) -> (Trace<'a>, Invocation) {
        Trace::with(invocation, dir, &["-e", CALLS])
    }

    /// The same with some calls failing: `inject` as strace has it, `fsync:error=EIO`.
    pub fn with_fault(invocation: Invocation, dir: &'a TempDir, inject: &str) -> (Trace<'a>, Invocation) {
        Trace::with(invocation, dir, &["-e", CALLS, "-e", &format!("inject={inject}")])
    }

    /// The same with the calls of this filter: `trace=%network`.
    pub fn by(invocation: Invocation, dir: &'a TempDir, filter: &str) -> (Trace<'a>, Invocation) {
        Trace::with(invocation, dir, &["-e", filter])
    }

    fn with(invocation: Invocation, dir: &'a TempDir, options: &[&str]) -> (Trace<'a>, Invocation) {
        let path = dir.at(FILE).to_string_lossy().into_owned();
        let mut wrapper = vec!["strace", "-D", "-f", "-q", "-s", "256", "-o", &path];
        wrapper.extend_from_slice(options);
        (Trace { dir }, invocation.under(&wrapper))
    }

    /// The calls of a program that has ended and of its children, in order.
    pub fn calls(&self, pid: u32) -> Vec<Call> {
        let mut calls = Vec::new();
        // The tracer is not our child and may be a moment behind.
        wait_until("strace has written everything", LIMIT, || {
            calls = self.dir.read(FILE).unwrap_or_default().lines().map(parse).collect();
            calls.iter().any(|call: &Call| call.pid == pid && call.text.starts_with("+++ exited with"))
        });
        // Ends, signals, and the second halves of calls that another process interrupted: the first have the arguments.
        calls.retain(|call| !["+++", "---", "<..."].iter().any(|mark| call.text.starts_with(mark)));
        calls
    }
}

impl Call {
    /// Whether it creates, changes or removes a file, or would if it did not fail.
    pub fn changes_a_file(&self) -> bool {
        if self.text.starts_with("open") {
            // A second description of standard error, for the log.
            if self.text.contains("\"/proc/self/fd/2\"") {
                return false;
            }
            return ["O_WRONLY", "O_RDWR", "O_CREAT", "O_TRUNC"].iter().any(|flag| self.text.contains(flag));
        }
        !self.runs_a_program()
    }

    pub fn runs_a_program(&self) -> bool {
        self.text.starts_with("execve(")
    }
}

/// `1234 openat(...) = 3`, the number padded.
fn parse(line: &str) -> Call {
    let (pid, text) = line.split_once(' ').unwrap_or((line, ""));
    Call { pid: pid.parse().unwrap_or(0), text: text.trim_start().to_owned() }
}
