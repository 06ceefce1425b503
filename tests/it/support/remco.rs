//! The program under test: started in a folder with a clean environment, its log collected line by line. The guard ends
//! it if it does not end by itself.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use super::{LIMIT, TempDir, wait_until};

/// An invocation in this folder, which is also its working directory: paths in configurations of the tests are
/// relative to it. `-config config.toml` is given unless [`Invocation::bare`].
pub fn remco(dir: &TempDir) -> Invocation {
    let mut command = program();
    command.args(["-config", "config.toml"]);
    Invocation::new(command, dir.path())
}

/// The program that cargo has built, or the words of `REMCO_PROGRAM`: a binary for another machine in an emulator.
fn program() -> Command {
    let words = std::env::var("REMCO_PROGRAM").unwrap_or_default();
    let mut words = words.split_ascii_whitespace();
    let mut command = Command::new(words.next().unwrap_or(env!("CARGO_BIN_EXE_remco")));
    command.args(words);
    command
}

pub struct Invocation {
    command: Command,
}

/// What came of an invocation that has ended.
#[derive(Debug)]
pub struct Finished {
    pub pid: u32,
    /// The exit code; `None` where a signal ended it.
    pub code: Option<i32>,
    pub stdout: Vec<u8>,
    /// All of standard error.
    pub log: String,
}

impl Invocation {
    /// The program with nothing but these arguments.
    pub fn bare(dir: &TempDir, args: &[&str]) -> Invocation {
        let mut command = program();
        command.args(args);
        Invocation::new(command, dir.path())
    }

    /// A command that ends in the program.
    pub fn of(command: Command, dir: &Path) -> Invocation {
        Invocation::new(command, dir)
    }

    /// The invocation as the last arguments of another program, which becomes it or runs it.
    pub fn under(self, wrapper: &[&str]) -> Invocation {
        let mut command = Command::new(wrapper[0]);
        command.args(&wrapper[1..]).arg(self.command.get_program()).args(self.command.get_args());
        Invocation::new(command, self.command.get_current_dir().expect("set by new"))
    }

    fn new(mut command: Command, dir: &Path) -> Invocation {
        command.current_dir(dir).env_clear().env("PATH", std::env::var_os("PATH").unwrap_or_default());
        Invocation { command }
    }

    pub fn arg(mut self, arg: &str) -> Invocation {
        self.command.arg(arg);
        self
    }

    pub fn env(mut self, name: &str, value: &str) -> Invocation {
        self.command.env(name, value);
        self
    }

    /// Gives it a file as standard output instead of a pipe.
    pub fn stdout(mut self, file: File) -> Finished {
        self.command.stdout(file);
        self.wait()
    }

    /// Runs it to its end.
    pub fn run(mut self) -> Finished {
        self.command.stdout(Stdio::piped());
        self.wait()
    }

    /// The same with `-onetime`.
    pub fn once(self) -> Finished {
        self.arg("-onetime").run()
    }

    /// Starts it with a log that is the test's own: the result has no lines.
    pub fn start_with_stderr(mut self, stderr: impl Into<Stdio>) -> Remco {
        self.command.stderr(stderr);
        Remco { process: self.spawn(), log: Arc::default(), reader: None, ended: None }
    }

    fn spawn(&mut self) -> Child {
        let name = self.command.get_program().to_string_lossy().into_owned();
        self.command.stdin(Stdio::null()).spawn().unwrap_or_else(|e| panic!("failed to start {name}: {e}"))
    }

    /// Starts it and leaves it running.
    pub fn start(mut self) -> Remco {
        self.command.stderr(Stdio::piped());
        let mut process = self.spawn();
        let stderr = process.stderr.take().expect("standard error is a pipe");
        let log = Arc::new(Log::default());
        let writer = Arc::clone(&log);
        let reader = thread::spawn(move || {
            for line in BufReader::new(stderr).lines() {
                writer.push(line.expect("the log is UTF-8"));
            }
            writer.end();
        });
        Remco { process, log, reader: Some(reader), ended: None }
    }

    fn wait(self) -> Finished {
        let mut running = self.start();
        // Read in a thread: a full pipe would hold the program.
        let stdout = running.process.stdout.take();
        let stdout = thread::spawn(move || {
            let mut bytes = Vec::new();
            if let Some(mut pipe) = stdout {
                std::io::Read::read_to_end(&mut pipe, &mut bytes).expect("a pipe can be read");
            }
            bytes
        });
        let code = running.exit_code();
        let stdout = stdout.join().expect("the reader does not panic");
        Finished { pid: running.pid(), code, stdout, log: running.all_lines().join("\n") }
    }
}

impl Finished {
    /// Panics with the log unless the exit code is this one.
    #[track_caller]
    pub fn expect_code(self, code: i32) -> Finished {
        assert_eq!(self.code, Some(code), "exit code; the log:\n{}", self.log);
        self
    }

    /// Panics with the log unless it contains the text.
    #[track_caller]
    pub fn expect_log(self, text: &str) -> Finished {
        assert!(self.log.contains(text), "no {text:?} in the log:\n{}", self.log);
        self
    }

    /// Panics with the log if it contains the text.
    #[track_caller]
    pub fn expect_no_log(self, text: &str) -> Finished {
        assert!(!self.log.contains(text), "{text:?} in the log:\n{}", self.log);
        self
    }
}

/// A running program. Killed when dropped; shows its log if the test is panicking.
pub struct Remco {
    process: Child,
    log: Arc<Log>,
    reader: Option<JoinHandle<()>>,
    ended: Option<ExitStatus>,
}

impl Remco {
    pub fn pid(&self) -> u32 {
        self.process.id()
    }

    pub fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(self.pid().cast_signed()).expect("a child's pid is positive");
        kill_process(pid, signal).expect("the program runs");
    }

    /// Waits for the first line with this text.
    pub fn wait_for_log(&self, text: &str) -> String {
        self.wait_for_log_count(text, 1)
    }

    /// Waits until that many lines have this text; gives the last of them.
    pub fn wait_for_log_count(&self, text: &str, count: usize) -> String {
        let deadline = Instant::now() + LIMIT;
        let mut written = self.log.written();
        loop {
            if let Some(line) = written.lines.iter().filter(|line| line.contains(text)).nth(count - 1) {
                return line.clone();
            }
            let left = deadline.saturating_duration_since(Instant::now());
            let gone =
                if written.ended { Some("the program has ended") } else { left.is_zero().then_some("it is too late") };
            if let Some(why) = gone {
                // Released first: the guard's drop shows the log.
                drop(written);
                panic!("{why}, and fewer than {count} lines have {text:?}");
            }
            let woken = self.log.grown.wait_timeout(written, left);
            written = woken.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// How much memory it has, in KiB.
    pub fn resident(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid())).expect("the program runs");
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("proc(5)");
        line.trim().trim_end_matches(" kB").parse().expect("proc(5)")
    }

    /// The ports that its open connections lead to.
    pub fn peers(&self) -> Vec<u16> {
        let folder = format!("/proc/{}", self.pid());
        let fds = fs::read_dir(format!("{folder}/fd")).expect("the program runs");
        // One that is closed meanwhile is no connection any more.
        let links = fds.filter_map(|fd| fs::read_link(fd.expect("a listed entry can be read").path()).ok());
        let sockets: Vec<String> = links.map(|link| link.to_string_lossy().into_owned()).collect();
        let table = fs::read_to_string(format!("{folder}/net/tcp")).expect("the program runs");
        let rows = table.lines().skip(1).map(|row| row.split_ascii_whitespace().collect::<Vec<_>>());
        // proc(5): local and remote address, state (01: established), and the inode at last.
        let own = rows.filter(|row| row[3] == "01" && sockets.contains(&format!("socket:[{}]", row[9])));
        let port = |row: Vec<&str>| u16::from_str_radix(row[2].rsplit(':').next()?, 16).ok();
        own.filter_map(port).collect()
    }

    /// The log so far.
    pub fn log(&self) -> Vec<String> {
        self.log.lines()
    }

    /// Waits until it has ended by itself.
    pub fn exit_code(&mut self) -> Option<i32> {
        self.exit_code_within(LIMIT)
    }

    /// The same with a limit of its own.
    pub fn exit_code_within(&mut self, limit: Duration) -> Option<i32> {
        let process = &mut self.process;
        let mut ended = None;
        wait_until("the program ends", limit, || {
            ended = process.try_wait().expect("the program is our child");
            ended.is_some()
        });
        self.ended = ended;
        ended.and_then(|status| status.code())
    }

    /// Sends the signal and waits for the end, which has to be clean and soon. Says how long it took, also where the test
    /// passes: 50 ms are the goal, and only what no busy machine explains is a failure.
    #[track_caller]
    pub fn ends_at_once(self, signal: Signal, state: &str) {
        self.ends_at_once_with(0, signal, state);
    }

    /// The same, with another exit code.
    pub fn ends_at_once_with(mut self, expected: i32, signal: Signal, state: &str) {
        const AT_ONCE: Duration = Duration::from_secs(1);
        let started = Instant::now();
        self.signal(signal);
        let code = self.exit_code_within(AT_ONCE);
        let took = started.elapsed().as_millis();
        // Straight to the descriptor: the test harness shows what passing tests print only on request.
        let _ = writeln!(std::io::stderr(), "ended within {took} ms: {state}");
        assert_eq!(code, Some(expected), "{state}");
        let name = if signal == Signal::INT { "interrupt" } else { "terminated" };
        let lines = self.all_lines();
        let line = format!("Captured {name}. Exiting...");
        // Where nobody reads the log there is none.
        assert!(lines.is_empty() || lines.iter().any(|text| text.contains(&line)), "{state}: {lines:#?}");
    }

    /// Sends SIGTERM and waits for the end, which has to be clean.
    #[track_caller]
    pub fn stop(mut self) -> Vec<String> {
        self.signal(Signal::TERM);
        let code = self.exit_code();
        assert_eq!(code, Some(0), "exit code after SIGTERM; the log:\n{}", self.log.lines().join("\n"));
        self.all_lines()
    }

    /// The whole log of a program that has ended.
    pub fn all_lines(&mut self) -> Vec<String> {
        assert!(self.ended.is_some(), "the program still runs");
        if let Some(reader) = self.reader.take() {
            reader.join().expect("the log is UTF-8");
        }
        self.log()
    }
}

impl Drop for Remco {
    fn drop(&mut self) {
        if self.ended.is_none() {
            // Errors mean that it has ended meanwhile.
            let _ = self.process.kill();
            let _ = self.process.wait();
        }
        if thread::panicking() {
            eprintln!("the program's log:\n{}", self.log.lines().join("\n"));
        }
    }
}

#[derive(Default)]
struct Log {
    written: Mutex<Written>,
    grown: Condvar,
}

#[derive(Default)]
struct Written {
    lines: Vec<String>,
    ended: bool,
}

impl Log {
    fn push(&self, line: String) {
        self.written().lines.push(line);
        self.grown.notify_all();
    }

    fn end(&self) {
        self.written().ended = true;
        self.grown.notify_all();
    }

    fn lines(&self) -> Vec<String> {
        self.written().lines.clone()
    }

    fn written(&self) -> MutexGuard<'_, Written> {
        self.written.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
