//! The children of a driver whose store is a program: the one that answers, and those that were told to end. Each is ended
//! with all that it started, by SIGTERM and then SIGKILL. What is said on the pipes is not its business.

use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::time::{Duration, Instant};

use crate::host::process::{self, COMMAND_KILL_TIMEOUT, Exit, Pid, Piped, SignalTarget, Termination};
use crate::host::wait::Interest;

/// What a program that was said goodbye to has to end by itself.
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

/// The one that answers.
#[derive(Clone, Copy)]
struct Running {
    pid: Pid,
    /// The call that its pipes belong to.
    serial: u64,
    /// It closed its output, and has until then to exit.
    closed: Option<Instant>,
}

impl Programs {
    /// Starts a program for a call. One that still runs is ended.
    ///
    /// # Errors
    /// There is no such program, or no process.
    pub fn start(&mut self, path: &Path, serial: u64, now: Instant) -> io::Result<Piped> {
        self.end(now);
        let piped = process::start_piped(path)?;
        self.running = Some(Running { pid: piped.pid, serial, closed: None });
        Ok(piped)
    }

    /// The call whose program runs.
    pub fn serial(&self) -> Option<u64> {
        self.running.map(|running| running.serial)
    }

    /// Takes in that the program of a call closed its output: mostly it exits, and its status says why. Whether it is waited
    /// for.
    pub fn closed(&mut self, serial: u64, now: Instant) -> bool {
        let running = self.running.as_mut().filter(|running| running.serial == serial);
        running.map(|running| *running.closed.get_or_insert(now + EXIT)).is_some_and(|until| now < until)
    }

    /// Whether the program of a call has closed its output.
    pub fn is_closed(&self, serial: u64) -> bool {
        self.running.is_some_and(|running| running.serial == serial && running.closed.is_some())
    }

    /// Ends the program that runs.
    pub fn end(&mut self, now: Instant) {
        let ended = self.running.take();
        self.ending.extend(
            ended.map(|running| {
                Termination::begin(SignalTarget::Command(running.pid), SIGTERM, COMMAND_KILL_TIMEOUT, now)
            }),
        );
    }

    /// Leaves the program of a call to end by itself: it was said goodbye to. What it still writes is read and dropped.
    pub fn release(&mut self, serial: u64, output: Option<OwnedFd>, now: Instant) {
        let released = self.running.take_if(|running| running.serial == serial);
        self.ending.extend(
            released.map(|running| Termination::after_farewell(SignalTarget::Command(running.pid), output, GRACE, now)),
        );
    }

    /// Appends what is to be polled: then [`Programs::drain`] is wanted.
    pub fn interests<'a>(&'a self, out: &mut Vec<Interest<'a>>) {
        out.extend(self.ending.iter().filter_map(Termination::output).map(Interest::read));
    }

    /// Drops what released programs have written.
    pub fn drain(&mut self) {
        self.ending.iter_mut().for_each(Termination::drain);
    }

    /// Whether a process is one of them.
    pub fn has(&self, pid: Pid) -> bool {
        self.runs(pid) || self.ending.iter().any(|termination| termination.pid() == pid)
    }

    /// Whether a process is the one that answers.
    pub fn runs(&self, pid: Pid) -> bool {
        self.running.is_some_and(|running| running.pid == pid)
    }

    /// Takes in the end of one.
    pub fn exited(&mut self, exit: &Exit, now: Instant) {
        self.ending.retain_mut(|termination| !termination.is_over(exit.pid));
        let Some(running) = self.running.take_if(|running| running.pid == exit.pid) else { return };
        let mut left = Termination::begin(SignalTarget::Group(running.pid), SIGTERM, COMMAND_KILL_TIMEOUT, now);
        if !left.is_over(exit.pid) {
            self.ending.push(left);
        }
    }

    /// When [`Programs::escalate`] is wanted, or a program that closed its output is waited for no more.
    pub fn due(&self) -> Option<Instant> {
        let closed = self.running.and_then(|running| running.closed);
        self.ending.iter().filter_map(Termination::due).chain(closed).min()
    }

    /// Kills what has had its time. Those that were killed, or that not even this has ended.
    pub fn escalate(&mut self, now: Instant) -> Vec<(Pid, process::Escalation)> {
        let escalated = self.ending.iter_mut().filter_map(|one| Some((one.pid(), one.escalate(now)?))).collect();
        self.ending.retain(|termination| !termination.is_unkillable());
        escalated
    }

    /// Leaves all of them to the caller. One that still runs is ended.
    pub fn leave(&mut self, now: Instant) -> Vec<Termination> {
        self.end(now);
        std::mem::take(&mut self.ending)
    }
}
