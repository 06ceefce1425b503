//! Children: the commands of the user's with their output, and the supervised child of exec mode. Started, signalled and
//! reaped here; owns the only waitpid and the only kill of the program. Does not know what a command is for.

use std::ffi::{OsStr, OsString};
use std::io::{self, PipeReader, Read};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::CommandExt;
use std::process::Stdio;
use std::time::{Duration, Instant};

use rustix::fs::Access;
use rustix::io::{Errno, FdFlags, fcntl_setfd};
pub use rustix::process::Pid;
use rustix::process::{Signal, WaitOptions, WaitStatus};

use super::{executable, notify};
use crate::config::{Shell, Word, WordPart, plain, signal_name};

/// A running command and what it has printed so far.
#[derive(Debug)]
pub struct Command {
    pid: Pid,
    began: Instant,
    /// Standard output and error, as one stream; `None` once it has ended.
    output: Option<PipeReader>,
    kept: Vec<u8>,
    dropped: usize,
    limit: Limit,
    /// What the shell runs first, where that is plain.
    program: Option<OsString>,
}

/// How long a command may take.
#[derive(Debug)]
enum Limit {
    Never,
    Until {
        after: Duration,
        at: Instant,
    },
    /// It took too long and is being ended.
    Missed {
        after: Duration,
        termination: Termination,
    },
}

/// A child that has ended.
#[derive(Clone, Copy, Debug)]
pub struct Exit {
    /// Its process id, which is free from now on.
    pub pid: Pid,
    status: WaitStatus,
}

/// How much of a command's output is kept for the log.
const MOST_OUTPUT: usize = 64 * 1024;

/// Between SIGTERM and SIGKILL for a command that took too long or is no longer wanted.
pub const COMMAND_KILL_TIMEOUT: Duration = Duration::from_secs(2);

/// What runs commands on this machine.
pub fn shell() -> Shell {
    match rustix::fs::access("/bin/sh", Access::EXEC_OK) {
        Ok(()) => Shell::Present,
        Err(_) => Shell::Missing,
    }
}

/// Starts a command in a process group of its own, with our environment and working directory: by `/bin/sh -c`, or where
/// there is no shell by its words. It is to end within `limit`, and inherits a descriptor where its text names one.
///
/// # Errors
/// No such program, which is named; no memory, no process.
pub fn spawn(text: &OsStr, limit: Option<Duration>, inherited: Option<BorrowedFd<'_>>) -> io::Result<Command> {
    // An empty pipe and not /dev/null, which is missing in a container made from scratch.
    let (stdin, _) = io::pipe()?;
    let (output, writer) = io::pipe()?;
    rustix::io::ioctl_fionbio(&output, true)?;
    let mut program = program(text)?;
    program.stdin(stdin).stdout(writer.try_clone()?).stderr(Stdio::from(writer)).process_group(0);
    // Only this one child gets it: there is no other thread that starts one meanwhile.
    inherited.map_or(Ok(()), |fd| fcntl_setfd(fd, FdFlags::empty()))?;
    let child = program.spawn();
    // Does not fail: the descriptor is open.
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

/// A program with our environment, less what is meant for us alone.
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

/// Starts the supervised child: in our process group, with our standard input and output.
///
/// # Errors
/// No such program, which is named; no memory, no process.
pub fn start(command: &[Word]) -> io::Result<Pid> {
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
    let child = program.spawn().map_err(|error| executable::explain(program.get_program(), &error))?;
    Ok(pid_of(&child))
}

/// std's handle is dropped unwaited: all children are reaped in one place.
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

/// Where words hold the output of commands: a script that runs those and then becomes the program, so that nothing waits
/// for them but the child itself.
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
                    // A variable that is exported already would stay so.
                    let name = format!("remco_word_{number}");
                    // The space around the output goes, as in remco; the shell itself drops newlines at the end only.
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

/// The exit status of a child whose words could not be found out: that of a shell for "cannot be executed".
const OUTPUT_FAILED: u8 = 126;

fn in_quotes(text: &str) -> String {
    format!("'{}'", text.replace('\'', r"'\''"))
}

/// Has the kernel hand us the children of our children when those end, as it does for process 1: nobody else would wait
/// for what a command left behind in a container, and a group that is being ended is seen to end.
pub fn adopt_orphans() {
    // Old kernels cannot. Then they go to process 1, which most often is no worse.
    let _ = rustix::process::set_child_subreaper(Some(rustix::process::getpid()));
}

/// Sends a signal by its number to a child that was not reaped yet, so that its number is still its own.
pub fn signal(child: Pid, number: i32) {
    if let Some(signal) = signal_of(number) {
        // The only failure is that it has become somebody we may not signal. It is missed when it does not end.
        let _ = rustix::process::kill_process(child, signal);
    }
}

/// `None`: 0, which is no signal, and numbers that Linux does not have.
fn signal_of(number: i32) -> Option<Signal> {
    const REAL_TIME: std::ops::RangeInclusive<i32> = 34..=64;
    Signal::from_named_raw(number).or_else(|| {
        #[allow(unsafe_code)]
        // SAFETY: the kernel has these signals, and sending one to another process touches nothing of ours. Those that
        // the C library keeps for itself are below; 34, which is musl's, means nothing to it in a process without threads.
        let real_time = |number| unsafe { Signal::from_raw_unchecked(number) };
        REAL_TIME.contains(&number).then(|| real_time(number))
    })
}

/// A process or process group that was told to end, and that is killed when it takes too long.
#[derive(Debug)]
pub struct Termination {
    target: SignalTarget,
    next: Next,
}

/// What receives the signals of a [`Termination`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SignalTarget {
    /// A child.
    Child(Pid),
    /// A command and all that it has started, as far as that stayed in the command's process group.
    Command(Pid),
    /// The process group of a command that has ended itself.
    Group(Pid),
}

#[derive(Clone, Copy, Debug)]
enum Next {
    KillAt(Instant),
    /// SIGKILL was sent. A process that is still there by then hangs in the kernel, and is not waited for.
    ForgetAt(Instant),
    Forget,
}

impl Termination {
    /// Sends the signal. After `timeout` follows SIGKILL.
    pub fn begin(target: SignalTarget, number: i32, timeout: Duration, now: Instant) -> Termination {
        let termination = Termination { target, next: Next::KillAt(now + timeout) };
        termination.send(number);
        termination
    }

    /// When [`Termination::escalate`] is wanted.
    pub fn due(&self) -> Option<Instant> {
        match self.next {
            Next::KillAt(at) | Next::ForgetAt(at) => Some(at),
            Next::Forget => None,
        }
    }

    /// Takes the next step where its time has come, and tells which: SIGKILL, or giving up.
    pub fn escalate(&mut self, now: Instant) -> Option<Escalation> {
        match self.next {
            Next::KillAt(at) if at <= now => {
                self.kill(now);
                Some(Escalation::Killed)
            }
            Next::ForgetAt(at) if at <= now => {
                self.next = Next::Forget;
                Some(Escalation::Unkillable)
            }
            Next::KillAt(_) | Next::ForgetAt(_) | Next::Forget => None,
        }
    }

    /// Whether it did not end after SIGKILL either.
    pub fn is_unkillable(&self) -> bool {
        matches!(self.next, Next::Forget)
    }

    /// Kills it without waiting any longer.
    pub fn kill(&mut self, now: Instant) {
        self.send(SIGKILL);
        self.next = match self.target {
            SignalTarget::Child(_) | SignalTarget::Command(_) => Next::ForgetAt(now + UNKILLABLE_AFTER),
            // What is left in the group is no child of ours to wait for.
            SignalTarget::Group(_) => Next::Forget,
        };
    }

    /// The supervised child, which still receives forwarded signals; `None` for commands.
    pub fn child(&self) -> Option<Pid> {
        match self.target {
            SignalTarget::Child(pid) => Some(pid),
            SignalTarget::Command(_) | SignalTarget::Group(_) => None,
        }
    }

    /// The number of the process or the group, for messages.
    pub fn pid(&self) -> Pid {
        let (SignalTarget::Child(pid) | SignalTarget::Command(pid) | SignalTarget::Group(pid)) = self.target;
        pid
    }

    /// Takes in that a child has been reaped. Tells whether no process is left.
    pub fn is_over(&mut self, reaped: Pid) -> bool {
        if self.target == SignalTarget::Command(reaped) {
            self.target = SignalTarget::Group(reaped);
        }
        match self.target {
            SignalTarget::Child(pid) => pid == reaped,
            SignalTarget::Command(_) => false,
            // The number of a group is not reused as long as a process is in it.
            SignalTarget::Group(group) => rustix::process::test_kill_process_group(group) == Err(Errno::SRCH),
        }
    }

    fn send(&self, number: i32) {
        let group = |pid| {
            if let Some(signal) = signal_of(number) {
                // The only failures: the group has ended by itself, or no process in it may be signalled.
                let _ = rustix::process::kill_process_group(pid, signal);
            }
        };
        match self.target {
            SignalTarget::Child(pid) => signal(pid, number),
            SignalTarget::Group(pid) => group(pid),
            SignalTarget::Command(pid) => {
                group(pid);
                // It may have left its own group.
                signal(pid, number);
            }
        }
    }
}

/// The step that a [`Termination`] took because its process did not end in time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Escalation {
    /// SIGKILL was sent.
    Killed,
    /// SIGKILL did not end it either; it is not waited for any longer.
    Unkillable,
}

const SIGTERM: i32 = 15;
const SIGKILL: i32 = 9;

/// Between SIGKILL and giving up.
const UNKILLABLE_AFTER: Duration = Duration::from_secs(2);

/// Takes one dead child off the kernel; `None`: there is none.
pub fn reap() -> Option<Exit> {
    loop {
        match rustix::process::wait(WaitOptions::NOHANG) {
            Ok(Some((pid, status))) => return Some(Exit { pid, status }),
            Err(Errno::INTR) => {}
            // CHILD: there are no children at all.
            Ok(None) | Err(_) => return None,
        }
    }
}

impl Command {
    /// The id of its process, which leads a process group.
    pub fn pid(&self) -> Pid {
        self.pid
    }

    /// Readable when the command printed something or closed its output.
    pub fn fd(&self) -> Option<BorrowedFd<'_>> {
        self.output.as_ref().map(AsFd::as_fd)
    }

    /// When [`Command::enforce`] is wanted.
    pub fn due(&self) -> Option<Instant> {
        match &self.limit {
            Limit::Never => None,
            Limit::Until { at, .. } => Some(*at),
            Limit::Missed { termination, .. } => termination.due(),
        }
    }

    /// Ends a command that has taken too long, with all that it has started.
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

    /// Takes in its end.
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

    /// Asks the command and all that it started to end.
    pub fn terminate(self, now: Instant) -> Termination {
        match self.limit {
            Limit::Missed { termination, .. } => termination,
            Limit::Never | Limit::Until { .. } => {
                Termination::begin(SignalTarget::Command(self.pid), SIGTERM, COMMAND_KILL_TIMEOUT, now)
            }
        }
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
}

/// What came of a command.
#[derive(Debug)]
pub struct Ended {
    /// How it failed, in words; `None`: it succeeded.
    pub failure: Option<String>,
    /// From its start to its end.
    pub took: Duration,
    /// What it printed, after a last look: a daemon that it left behind may hold the pipe for ever.
    pub output: String,
    /// What it left in its group, where it was ended for taking too long.
    pub left: Option<Termination>,
}

impl Exit {
    /// What a log says of a status that is not 0.
    pub fn failure(&self) -> Option<String> {
        (self.status.exit_status() != Some(0)).then(|| self.how())
    }

    /// The status as a shell has it: 128 more than its number for a signal.
    pub fn shell_status(&self) -> u8 {
        let signal = self.status.terminating_signal().map(|signal| 128 + signal);
        let status = self.status.exit_status().or(signal);
        status.and_then(|status| u8::try_from(status).ok()).unwrap_or(u8::MAX)
    }

    /// Whether it is what a shell ends with that could not run a program. Programs may end so, too.
    fn is_of_a_program_that_cannot_run(&self) -> bool {
        matches!(self.status.exit_status(), Some(126 | 127))
    }

    /// What a log says of any status.
    pub fn how(&self) -> String {
        match (self.status.exit_status(), self.status.terminating_signal()) {
            (Some(status), _) => format!("exited with status {status}"),
            (None, Some(signal)) => format!("was killed by {}", signal_name(signal)),
            (None, None) => "ended in an unknown way".to_owned(),
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
        let mut command = Command {
            pid: rustix::process::getpid(),
            began: Instant::now(),
            output,
            kept: Vec::new(),
            dropped: 0,
            limit: Limit::Never,
            program: None,
        };
        command.drain();
        assert_eq!((command.kept.len(), command.dropped), (MOST_OUTPUT, 0));
        command.drain();
        assert!(command.fd().is_some(), "it is looked at again");
        assert!(command.dropped > 0);
    }
}
