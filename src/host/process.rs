//! Commands of the user's: started, listened to, reaped. Owns the only waitpid of the program.
//! Does not know what a command is for.

use std::ffi::OsStr;
use std::io::{self, PipeReader, Read};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::process::CommandExt;
use std::process::Stdio;

use rustix::process::{Pid, Signal, WaitOptions, WaitStatus};

/// A running command and what it has printed so far.
#[derive(Debug)]
pub struct Command {
    pid: Pid,
    /// Standard output and error, as one stream; `None` once it has ended.
    output: Option<PipeReader>,
    kept: Vec<u8>,
    dropped: usize,
}

/// A child that has ended.
#[derive(Clone, Copy, Debug)]
pub struct Exit {
    pub pid: Pid,
    status: WaitStatus,
}

/// How much of a command's output is kept for the log.
const MOST_OUTPUT: usize = 64 * 1024;

/// Starts `/bin/sh -c text` in a process group of its own, with our environment and working directory.
///
/// # Errors
/// What std says: no shell, no memory, no process.
pub fn spawn(text: &OsStr) -> io::Result<Command> {
    // An empty pipe and not /dev/null, which is missing in a container made from scratch.
    let (stdin, _) = io::pipe()?;
    let (output, writer) = io::pipe()?;
    rustix::io::ioctl_fionbio(&output, true)?;
    let child = std::process::Command::new("/bin/sh")
        .arg("-c")
        .arg(text)
        .stdin(stdin)
        .stdout(writer.try_clone()?)
        .stderr(Stdio::from(writer))
        .process_group(0)
        .spawn()?;
    // std's handle is dropped unwaited: all children are reaped in one place.
    let pid = Pid::from_raw(child.id() as i32).expect("a child has a process number");
    Ok(Command { pid, output: Some(output), kept: Vec::new(), dropped: 0 })
}

/// Takes one dead child off the kernel; `None`: there is none.
pub fn reap() -> Option<Exit> {
    loop {
        match rustix::process::wait(WaitOptions::NOHANG) {
            Ok(Some((pid, status))) => return Some(Exit { pid, status }),
            Err(rustix::io::Errno::INTR) => {}
            // CHILD: there are no children at all.
            Ok(None) | Err(_) => return None,
        }
    }
}

impl Command {
    pub fn pid(&self) -> Pid {
        self.pid
    }

    /// Readable when the command printed something or closed its output.
    pub fn fd(&self) -> Option<BorrowedFd<'_>> {
        self.output.as_ref().map(AsFd::as_fd)
    }

    /// Takes what the command has printed by now, at most as much as a pipe holds: one that prints without end must not
    /// keep the loop.
    pub fn drain(&mut self) {
        const PIPE: usize = 64 * 1024;
        let mut buffer = [0; 4096];
        let mut taken = 0;
        while taken < PIPE
            && let Some(output) = &mut self.output
        {
            match output.read(&mut buffer) {
                Ok(n) if n > 0 => {
                    let fits = n.min(MOST_OUTPUT - self.kept.len());
                    self.kept.extend_from_slice(&buffer[..fits]);
                    self.dropped += n - fits;
                    taken += n;
                }
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => return,
                Ok(_) | Err(_) => self.output = None,
            }
        }
    }

    /// What was printed, after a last look: a daemon that the command left behind may hold the pipe for ever.
    pub fn into_output(mut self) -> String {
        self.drain();
        let mut text = String::from_utf8_lossy(&self.kept).into_owned();
        if self.dropped > 0 {
            text.push_str(&format!(" ... ({} more bytes)", self.dropped));
        }
        text
    }

    /// Asks the command and all that it started to end.
    pub fn terminate(&self) {
        // The only failure is that the group has ended by itself.
        let _ = rustix::process::kill_process_group(self.pid, Signal::TERM);
    }
}

impl Exit {
    /// What a log says of a status that is not 0.
    pub fn failure(&self) -> Option<String> {
        match (self.status.exit_status(), self.status.terminating_signal()) {
            (Some(0), _) => None,
            (Some(status), _) => Some(format!("exited with status {status}")),
            (None, Some(signal)) => Some(format!("was killed by signal {signal}")),
            (None, None) => Some("ended in an unknown way".to_owned()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::File;
    use std::os::fd::OwnedFd;

    #[test]
    fn what_prints_without_end_is_left_after_a_while() {
        let endless = File::open("/dev/zero").expect("every Unix has one");
        let output = Some(PipeReader::from(OwnedFd::from(endless)));
        let mut command = Command { pid: rustix::process::getpid(), output, kept: Vec::new(), dropped: 0 };
        command.drain();
        assert_eq!((command.kept.len(), command.dropped), (MOST_OUTPUT, 0));
        command.drain();
        assert!(command.fd().is_some(), "it is looked at again");
        assert!(command.into_output().ends_with(" more bytes)"));
    }
}
