//! The children of a driver whose store is a program: the running one, and those that are being terminated. Each is
//! ended with its whole process group, by SIGTERM and then SIGKILL. Does not read or write the pipes.

use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::time::{Duration, Instant};

use crate::host::process::{self, COMMAND_KILL_TIMEOUT, Exit, Pid, Piped, SignalTarget, Termination};
use crate::host::wait::Interest;

/// The time in which a program has to exit after the closing message.
const GRACE: Duration = Duration::from_secs(2);

/// How long a program that closed its output may take to exit.
const EXIT: Duration = Duration::from_secs(1);

const SIGTERM: i32 = 15;

/// The children.
#[derive(Default)]
pub(super) struct Programs {
    running: Option<Running>,
    ending: Vec<Termination>,
}

/// The running program.
#[derive(Clone, Copy)]
struct Running {
    pid: Pid,
    /// The serial number of the call that uses its pipes.
    serial: u64,
    /// The deadline for its exit after it closed its output.
    closed: Option<Instant>,
}

impl Programs {
    /// Starts a program for a call. A program that still runs is terminated.
    ///
    /// # Errors
    /// The program does not exist, or the process cannot be created.
    pub fn start(&mut self, path: &Path, serial: u64, now: Instant) -> io::Result<Piped> {
        self.end(now);
        let piped = process::start_piped(path)?;
        self.running = Some(Running { pid: piped.pid, serial, closed: None });
        Ok(piped)
    }

    /// The serial number of the call whose program runs.
    pub fn serial(&self) -> Option<u64> {
        self.running.map(|running| running.serial)
    }

    /// Notes that the program of a call closed its output. It mostly exits then, and its status shows the reason.
    /// Returns whether its exit is awaited.
    pub fn closed(&mut self, serial: u64, now: Instant) -> bool {
        let running = self.running.as_mut().filter(|running| running.serial == serial);
        running.map(|running| *running.closed.get_or_insert(now + EXIT)).is_some_and(|until| now < until)
    }

    /// Whether the program of a call has closed its output.
    pub fn is_closed(&self, serial: u64) -> bool {
        self.running.is_some_and(|running| running.serial == serial && running.closed.is_some())
    }

    /// Terminates the running program.
    pub fn end(&mut self, now: Instant) {
        let ended = self.running.take();
        self.ending.extend(
            ended.map(|running| {
                Termination::begin(SignalTarget::Command(running.pid), SIGTERM, COMMAND_KILL_TIMEOUT, now)
            }),
        );
    }

    /// Lets the program of a call end by itself after the closing message. Its further output is read and dropped.
    pub fn release(&mut self, serial: u64, output: Option<OwnedFd>, now: Instant) {
        let released = self.running.take_if(|running| running.serial == serial);
        self.ending.extend(
            released.map(|running| {
                Termination::after_closing_message(SignalTarget::Command(running.pid), output, GRACE, now)
            }),
        );
    }

    /// Appends the descriptors to poll. [`Programs::drain`] is due when one is ready.
    pub fn interests<'a>(&'a self, out: &mut Vec<Interest<'a>>) {
        out.extend(self.ending.iter().filter_map(Termination::output).map(Interest::read));
    }

    /// Reads and drops the output of released programs.
    pub fn drain(&mut self) {
        self.ending.iter_mut().for_each(Termination::drain);
    }

    /// Whether a process is one of the children.
    pub fn has(&self, pid: Pid) -> bool {
        self.runs(pid) || self.ending.iter().any(|termination| termination.pid() == pid)
    }

    /// Whether a process is the running program.
    pub fn runs(&self, pid: Pid) -> bool {
        self.running.is_some_and(|running| running.pid == pid)
    }

    /// Notes the end of a child.
    pub fn exited(&mut self, exit: &Exit, now: Instant) {
        self.ending.retain_mut(|termination| !termination.is_over(exit.pid));
        let Some(running) = self.running.take_if(|running| running.pid == exit.pid) else { return };
        let mut left = Termination::begin(SignalTarget::Group(running.pid), SIGTERM, COMMAND_KILL_TIMEOUT, now);
        if !left.is_over(exit.pid) {
            self.ending.push(left);
        }
    }

    /// When [`Programs::escalate`] is due, or the wait for the exit of a program ends.
    pub fn due(&self) -> Option<Instant> {
        let closed = self.running.and_then(|running| running.closed);
        self.ending.iter().filter_map(Termination::due).chain(closed).min()
    }

    /// Kills the children whose deadline has passed. Returns the killed ones, and those that SIGKILL has not ended.
    pub fn escalate(&mut self, now: Instant) -> Vec<(Pid, process::Escalation)> {
        let escalated = self.ending.iter_mut().filter_map(|one| Some((one.pid(), one.escalate(now)?))).collect();
        self.ending.retain(|termination| !termination.is_unkillable());
        escalated
    }

    /// Passes all children to the caller. The running program is terminated.
    pub fn release_all(&mut self, now: Instant) -> Vec<Termination> {
        self.end(now);
        std::mem::take(&mut self.ending)
    }
}
