//! Children: commands with their output, and the child of exec mode. They are started, signalled and reaped here; no
//! other file calls waitpid or kill. Does not know the purpose of a command.

use std::ffi::{OsStr, OsString};
use std::io::{self, PipeReader, Read};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use rustix::fs::Access;
use rustix::io::{Errno, FdFlags, fcntl_setfd};
pub use rustix::process::Pid;
use rustix::process::{Signal, WaitOptions, WaitStatus};

use super::{executable, notify};
use crate::config::{Shell, Word, WordPart, plain, signal_name};
use crate::log::{Level, Line};

/// A running command and its output so far.
#[derive(Debug)]
pub struct Command {
    pid: Pid,
    began: Instant,
    /// Standard output and error in one stream; `None`: it was closed.
    output: Option<PipeReader>,
    kept: Vec<u8>,
    dropped: usize,
    limit: Limit,
    /// The program that the shell runs first, if the text shows it.
    program: Option<OsString>,
}

/// The time limit of a command.
#[derive(Debug)]
enum Limit {
    Never,
    Until {
        after: Duration,
        at: Instant,
    },
    /// The command exceeded its limit and is being ended.
    Missed {
        after: Duration,
        termination: Termination,
    },
}

/// A child that has ended.
#[derive(Clone, Copy, Debug)]
pub struct Exit {
    /// Its process id, which may be reused from now on.
    pub pid: Pid,
    status: WaitStatus,
}

/// The part of a command's output that is kept for the log, in bytes.
const MOST_OUTPUT: usize = 64 * 1024;

/// The time between SIGTERM and SIGKILL for a command that exceeded its limit or is no longer wanted.
pub const COMMAND_KILL_TIMEOUT: Duration = Duration::from_secs(2);

/// The shell of this machine.
pub fn shell() -> Shell {
    match rustix::fs::access("/bin/sh", Access::EXEC_OK) {
        Ok(()) => Shell::Present,
        Err(_) => Shell::Missing,
    }
}

/// Starts a command in a process group of its own, with our environment and working directory: by `/bin/sh -c`, or
/// without a shell by its words. The command has to end within `limit`. It inherits a descriptor if its text refers to
/// one.
///
/// # Errors
/// The program does not exist; memory or process ids are used up.
pub fn spawn(text: &OsStr, limit: Option<Duration>, inherited: Option<BorrowedFd<'_>>) -> io::Result<Command> {
    // An empty pipe replaces /dev/null, which a FROM scratch container lacks.
    let (stdin, _) = io::pipe()?;
    let (output, writer) = io::pipe()?;
    rustix::io::ioctl_fionbio(&output, true)?;
    let mut program = program(text)?;
    program.stdin(stdin).stdout(writer.try_clone()?).stderr(Stdio::from(writer)).process_group(0);
    // Only this child inherits it: no other thread starts one meanwhile.
    inherited.map_or(Ok(()), |fd| fcntl_setfd(fd, FdFlags::empty()))?;
    let child = program.spawn();
    // The descriptor is open, so this does not fail.
    let _ = inherited.map(|fd| fcntl_setfd(fd, FdFlags::CLOEXEC));
    let child = child.map_err(|error| executable::explain(program.get_program(), &error))?;
    let limit = match limit {
        Some(after) => Limit::Until { after, at: Instant::now() + after },
        None => Limit::Never,
    };
    let began = Instant::now();
    let program = executable::first_of(text);
    Ok(Command { pid: pid_of(&child), began, output: Some(output), kept: Vec::new(), dropped: 0, limit, program })
}

/// A program that answers on its pipes.
#[derive(Debug)]
pub struct Piped {
    /// Its process, which leads a process group.
    pub pid: Pid,
    /// The pipe of its standard output.
    pub output: OwnedFd,
    /// The pipe of its standard input.
    pub input: OwnedFd,
}

/// Starts a program without arguments in a process group of its own, with our environment, working directory and
/// standard error.
///
/// # Errors
/// The program does not exist; memory or process ids are used up.
pub fn start_piped(path: &Path) -> io::Result<Piped> {
    let (stdin, input) = io::pipe()?;
    let (output, stdout) = io::pipe()?;
    let mut program = program_named(path);
    program.stdin(stdin).stdout(stdout).process_group(0);
    let child = program.spawn().map_err(|error| executable::explain(program.get_program(), &error))?;
    Ok(Piped { pid: pid_of(&child), output: output.into(), input: input.into() })
}

/// A program with our environment, except for the variables that are meant for us alone.
fn program_named(name: impl AsRef<OsStr>) -> std::process::Command {
    let mut command = std::process::Command::new(name);
    for variable in notify::VARIABLES {
        command.env_remove(variable);
    }
    command
}

fn program(text: &OsStr) -> io::Result<std::process::Command> {
    if shell() == Shell::Present {
        let mut program = program_named("/bin/sh");
        program.arg("-c").arg(text);
        return Ok(program);
    }
    let needs = |what| io::Error::other(format!("it needs a shell for {what}, and there is no /bin/sh"));
    let words = plain::words(text.as_bytes()).map_err(needs)?;
    let (name, arguments) = words.split_first().expect("no command is without a word");
    let mut program = program_named(name);
    program.args(arguments);
    Ok(program)
}

/// Starts the child of exec mode: in our process group, with our standard input and output, and with these variables.
///
/// # Errors
/// The program does not exist; memory or process ids are used up.
pub fn start(command: &[Word], env: &[(String, String)]) -> io::Result<Pid> {
    let script = script(command);
    let mut program = match &script {
        Some(script) => {
            let mut shell = program_named("/bin/sh");
            shell.arg("-c").arg(script);
            shell
        }
        None => {
            let mut words = command.iter().map(plain_text);
            let mut program = program_named(words.next().expect("an exec command has a word"));
            program.args(words);
            program
        }
    };
    program.envs(env.iter().map(|(name, value)| (name, value)));
    let child = program.spawn().map_err(|error| executable::explain(program.get_program(), &error))?;
    Ok(pid_of(&child))
}

/// Drops std's handle without a wait: all children are reaped in one place.
fn pid_of(child: &std::process::Child) -> Pid {
    Pid::from_raw(child.id() as i32).expect("a child has a process number")
}

fn plain_text(word: &Word) -> String {
    let texts = word.parts.iter().map(|part| match part {
        WordPart::Text(text) => text.as_str(),
        WordPart::Output(_) => unreachable!("a word with a command in it is a script's"),
    });
    texts.collect()
}

/// If words contain command substitutions: a script that runs these and then becomes the program by exec, so that only
/// the child waits for them.
fn script(command: &[Word]) -> Option<OsString> {
    let mut outputs = String::new();
    let mut line = String::from("exec");
    let mut number = 0;
    for word in command {
        line.push(' ');
        for part in &word.parts {
            match part {
                WordPart::Text(text) => line.push_str(&in_quotes(text)),
                WordPart::Output(command) => {
                    number += 1;
                    // An exported variable would stay exported.
                    let name = format!("remco_word_{number}");
                    // Go remco removes blanks around the output; the shell removes only newlines at its end.
                    outputs.push_str(&format!(
                        "{name}=$(/bin/sh -c {}) || exit {OUTPUT_FAILED}\n\
                         {name}=${{{name}#\"${{{name}%%[![:space:]]*}}\"}}\n\
                         {name}=${{{name}%\"${{{name}##*[![:space:]]}}\"}}\n",
                        in_quotes(command)
                    ));
                    line.push_str(&format!("\"${name}\""));
                }
            }
        }
        if word.parts.is_empty() {
            line.push_str("''");
        }
    }
    (number > 0).then(|| OsString::from(outputs + &line))
}

/// The exit status of a child whose command substitution failed: a shell's status for "cannot be executed".
const OUTPUT_FAILED: u8 = 126;

fn in_quotes(text: &str) -> String {
    format!("'{}'", text.replace('\'', r"'\''"))
}

/// Makes the kernel hand over orphaned descendants, as it does for process 1. In a container no other process would
/// reap them, and the end of a process group could not be seen.
pub fn adopt_orphans() {
    // Old kernels do not support it. Then orphans go to process 1.
    let _ = rustix::process::set_child_subreaper(Some(rustix::process::getpid()));
}

/// Sends a signal, given by its number, to a child that was not reaped yet: its process id cannot belong to another
/// process.
pub fn signal(child: Pid, number: i32) {
    if let Some(signal) = signal_of(number) {
        // The only failure is a lack of permission: the child has changed its user. Then it misses its time limit.
        let _ = rustix::process::kill_process(child, signal);
    }
}

/// `None`: the number 0, or one that Linux does not have.
fn signal_of(number: i32) -> Option<Signal> {
    const REAL_TIME: std::ops::RangeInclusive<i32> = 34..=64;
    Signal::from_named_raw(number).or_else(|| {
        #[allow(unsafe_code)]
        // SAFETY: the kernel has these signals, and sending one to another process changes no state of ours. The
        // signals that the C library reserves are below; musl also reserves 34, for threads, of which there are none.
        let real_time = |number| unsafe { Signal::from_raw_unchecked(number) };
        REAL_TIME.contains(&number).then(|| real_time(number))
    })
}

/// A process or process group that was asked to end. It is killed if it does not end in time.
#[derive(Debug)]
pub struct Termination {
    target: SignalTarget,
    next: Next,
    /// The pipe with the further output of the process. It is read and dropped until the process gets a signal, so that
    /// a full pipe does not block its exit.
    output: Option<OwnedFd>,
}

/// The receiver of the signals of a [`Termination`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SignalTarget {
    /// A child.
    Child(Pid),
    /// A command and the descendants that stayed in its process group.
    Command(Pid),
    /// The process group of a command that has ended itself.
    Group(Pid),
}

#[derive(Clone, Copy, Debug)]
enum Next {
    /// The process was asked to end in its own way. If it does not end, it gets the signal of this number, and then has
    /// this time.
    SignalAt {
        at: Instant,
        number: i32,
        timeout: Duration,
    },
    KillAt(Instant),
    /// SIGKILL was sent. A process that does not end by this moment hangs in the kernel, and is not waited for.
    ForgetAt(Instant),
    Forget,
}

impl Termination {
    /// Sends the signal. SIGKILL follows after `timeout`.
    pub fn begin(target: SignalTarget, number: i32, timeout: Duration, now: Instant) -> Termination {
        let mut termination = Termination { target, next: Next::KillAt(now + timeout), output: None };
        termination.send(number);
        termination
    }

    /// Sends no signal to a child that was asked to end in its own way, unless it is still running after `grace`.
    /// SIGTERM follows then, and SIGKILL after the same time. `output`, which is non-blocking, is the pipe with its
    /// further output.
    pub fn after_closing_message(
        target: SignalTarget,
        output: Option<OwnedFd>,
        grace: Duration,
        now: Instant,
    ) -> Termination {
        Termination { target, next: Next::SignalAt { at: now + grace, number: SIGTERM, timeout: grace }, output }
    }

    /// The pipe to poll for reading. [`Termination::drain`] is due when it is ready.
    pub fn output(&self) -> Option<BorrowedFd<'_>> {
        self.output.as_ref().map(OwnedFd::as_fd)
    }

    /// Reads and drops the output of the process, up to the limit of one turn.
    pub fn drain(&mut self) {
        let mut dropped = [0; 16 * 1024];
        for _ in 0..MOST_DRAINED {
            let Some(output) = &self.output else { return };
            match rustix::io::read(output, &mut dropped) {
                Ok(1..) | Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => return,
                // The pipe has ended.
                Ok(0) | Err(_) => self.output = None,
            }
        }
    }

    /// The next moment to call [`Termination::escalate`].
    pub fn due(&self) -> Option<Instant> {
        match self.next {
            Next::SignalAt { at, .. } | Next::KillAt(at) | Next::ForgetAt(at) => Some(at),
            Next::Forget => None,
        }
    }

    /// Takes the next step if its moment has come, and returns the step: SIGKILL, or giving up.
    pub fn escalate(&mut self, now: Instant) -> Option<Escalation> {
        match self.next {
            Next::SignalAt { at, number, timeout } if at <= now => {
                self.send(number);
                self.next = Next::KillAt(now + timeout);
                None
            }
            Next::KillAt(at) if at <= now => {
                self.kill(now);
                Some(Escalation::Killed)
            }
            Next::ForgetAt(at) if at <= now => {
                self.next = Next::Forget;
                Some(Escalation::Unkillable)
            }
            Next::SignalAt { .. } | Next::KillAt(_) | Next::ForgetAt(_) | Next::Forget => None,
        }
    }

    /// Whether SIGKILL did not end it either.
    pub fn is_unkillable(&self) -> bool {
        matches!(self.next, Next::Forget)
    }

    /// Kills it at once.
    pub fn kill(&mut self, now: Instant) {
        self.send(SIGKILL);
        self.next = match self.target {
            SignalTarget::Child(_) | SignalTarget::Command(_) => Next::ForgetAt(now + UNKILLABLE_AFTER),
            // The remaining processes of the group are not our children, and are not waited for.
            SignalTarget::Group(_) => Next::Forget,
        };
    }

    /// The child of exec mode, which still gets forwarded signals; `None`: a command.
    pub fn child(&self) -> Option<Pid> {
        match self.target {
            SignalTarget::Child(pid) => Some(pid),
            SignalTarget::Command(_) | SignalTarget::Group(_) => None,
        }
    }

    /// The id of the process or process group, for messages.
    pub fn pid(&self) -> Pid {
        let (SignalTarget::Child(pid) | SignalTarget::Command(pid) | SignalTarget::Group(pid)) = self.target;
        pid
    }

    /// A child was reaped. Returns whether no process is left.
    pub fn is_over(&mut self, reaped: Pid) -> bool {
        if self.target == SignalTarget::Command(reaped) {
            self.target = SignalTarget::Group(reaped);
        }
        match self.target {
            SignalTarget::Child(pid) => pid == reaped,
            SignalTarget::Command(_) => false,
            // The id of a group is not reused while a process is in it.
            SignalTarget::Group(group) => rustix::process::test_kill_process_group(group) == Err(Errno::SRCH),
        }
    }

    fn send(&mut self, number: i32) {
        self.output = None;
        let group = |pid| {
            if let Some(signal) = signal_of(number) {
                // The only failures: the group has ended, or none of its processes may be signalled.
                let _ = rustix::process::kill_process_group(pid, signal);
            }
        };
        match self.target {
            SignalTarget::Child(pid) => signal(pid, number),
            SignalTarget::Group(pid) => group(pid),
            SignalTarget::Command(pid) => {
                group(pid);
                // The command may have left its own group.
                signal(pid, number);
            }
        }
    }
}

/// The step of a [`Termination`] whose process did not end in time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Escalation {
    /// SIGKILL was sent.
    Killed,
    /// SIGKILL did not end it. The program stops waiting for it.
    Unkillable,
}

impl Escalation {
    /// The line for the log.
    pub fn line(self, pid: Pid) -> Line {
        let line = match self {
            Escalation::Killed => Line::new(Level::Warn, "process did not end in time, killing it"),
            Escalation::Unkillable => Line::new(Level::Error, "process does not end, not even when killed"),
        };
        line.with("pid", pid.as_raw_pid().to_string())
    }
}

const SIGTERM: i32 = 15;
const SIGKILL: i32 = 9;

/// The number of reads in one [`Termination::drain`].
const MOST_DRAINED: usize = 64;

/// The time between SIGKILL and giving up.
const UNKILLABLE_AFTER: Duration = Duration::from_secs(2);

/// Reaps one child; `None`: none has ended.
pub fn reap() -> Option<Exit> {
    loop {
        match rustix::process::wait(WaitOptions::NOHANG) {
            Ok(Some((pid, status))) => return Some(Exit { pid, status }),
            Err(Errno::INTR) => {}
            // CHILD: there are no children.
            Ok(None) | Err(_) => return None,
        }
    }
}

impl Command {
    /// The id of its process, which leads a process group.
    pub fn pid(&self) -> Pid {
        self.pid
    }

    /// Readable when the command has written something or closed its output.
    pub fn fd(&self) -> Option<BorrowedFd<'_>> {
        self.output.as_ref().map(AsFd::as_fd)
    }

    /// The next moment to call [`Command::enforce`].
    pub fn due(&self) -> Option<Instant> {
        match &self.limit {
            Limit::Never => None,
            Limit::Until { at, .. } => Some(*at),
            Limit::Missed { termination, .. } => termination.due(),
        }
    }

    /// Ends a command that has exceeded its time limit, with all of its process group.
    pub fn enforce(&mut self, now: Instant) -> Option<Escalation> {
        match &mut self.limit {
            Limit::Until { after, at } if *at <= now => {
                let termination =
                    Termination::begin(SignalTarget::Command(self.pid), SIGTERM, COMMAND_KILL_TIMEOUT, now);
                self.limit = Limit::Missed { after: *after, termination };
                None
            }
            Limit::Missed { termination, .. } => termination.escalate(now),
            Limit::Never | Limit::Until { .. } => None,
        }
    }

    /// The command has ended.
    pub fn ended(mut self, exit: &Exit) -> Ended {
        self.drain();
        let took = self.began.elapsed();
        let mut output = String::from_utf8_lossy(&self.kept).into_owned();
        if self.dropped > 0 {
            output.push_str(&format!(" ... ({} more bytes)", self.dropped));
        }
        match self.limit {
            Limit::Never | Limit::Until { .. } => {
                let program = self.program.filter(|_| exit.is_of_a_program_that_cannot_run());
                let missing = program.and_then(|program| executable::missing_part(&program));
                let failure = exit.failure().map(|how| match missing {
                    Some(missing) => format!("{how}: {missing}"),
                    None => how,
                });
                Ended { failure, took, output, left: None }
            }
            Limit::Missed { after, mut termination } => {
                let how = exit.how();
                let failure = Some(format!("took longer than {} s and was ended: it {how}", after.as_secs()));
                let left = if termination.is_over(self.pid) { None } else { Some(termination) };
                Ended { failure, took, output, left }
            }
        }
    }

    /// Sends SIGTERM to the command and its process group.
    pub fn terminate(self, now: Instant) -> Termination {
        match self.limit {
            Limit::Missed { termination, .. } => termination,
            Limit::Never | Limit::Until { .. } => {
                Termination::begin(SignalTarget::Command(self.pid), SIGTERM, COMMAND_KILL_TIMEOUT, now)
            }
        }
    }

    /// Reads the output so far, at most the capacity of a pipe: a command that writes without end must not hold up the
    /// loop.
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
}

/// The result of a command.
#[derive(Debug)]
pub struct Ended {
    /// The cause of a failure; `None`: it succeeded.
    pub failure: Option<String>,
    /// From its start to its end.
    pub took: Duration,
    /// The output up to now: a daemon that the command started may keep the pipe open for ever.
    pub output: String,
    /// The rest of its process group, if the command was ended for exceeding its time limit.
    pub left: Option<Termination>,
}

impl Exit {
    /// The cause of a failure, for the log; `None`: the status is 0.
    pub fn failure(&self) -> Option<String> {
        (self.status.exit_status() != Some(0)).then(|| self.how())
    }

    /// The exit status, as a shell reports it: 128 and the number of the signal, if a signal ended the child.
    pub fn shell_status(&self) -> u8 {
        let signal = self.status.terminating_signal().map(|signal| 128 + signal);
        let status = self.status.exit_status().or(signal);
        status.and_then(|status| u8::try_from(status).ok()).unwrap_or(u8::MAX)
    }

    /// Whether this is the status of a shell that could not run a program. A program may have it, too.
    fn is_of_a_program_that_cannot_run(&self) -> bool {
        matches!(self.status.exit_status(), Some(126 | 127))
    }

    /// The status as a text, for the log.
    pub fn how(&self) -> String {
        match (self.status.exit_status(), self.status.terminating_signal()) {
            (Some(status), _) => format!("exited with status {status}"),
            (None, Some(signal)) => format!("was killed by {}", signal_name(signal)),
            (None, None) => "ended in an unknown way".to_owned(),
        }
    }
}

#[cfg(test)]
mod tests;
