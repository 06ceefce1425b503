//! The process of a server: it is started with its log in the folder of its data, stopped and killed, at the latest by
//! the guard. Also finds the server's program, and sends it an HTTP request. Knows no store.

use std::fs::File;
use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

use super::TempDir;

/// Reports that the present test is skipped. Writes to the descriptor: the harness hides the prints of tests that pass.
pub fn skipped(reason: &str) {
    let thread = std::thread::current();
    let line = format!("test {} ... skipped: {reason}\n", thread.name().unwrap_or("of a server"));
    // A closed standard error has no reader.
    let _ = io::stderr().write_all(line.as_bytes());
}

pub struct Server {
    name: &'static str,
    /// Where it writes what it prints.
    log: PathBuf,
    process: Option<Child>,
}

impl Server {
    /// One that does not run yet. `dir` is to hold its log.
    pub fn new(name: &'static str, dir: &TempDir) -> Server {
        Server { name, log: dir.at("log"), process: None }
    }

    pub fn is_running(&self) -> bool {
        self.process.is_some()
    }

    /// Starts it, also after [`Server::kill`].
    pub fn start(&mut self, command: &mut Command) {
        let name = self.name;
        assert!(!self.is_running(), "{name} runs already");
        let log = File::options().create(true).append(true).open(&self.log).expect("a log can be opened");
        let output = log.try_clone().expect("a descriptor can be duplicated");
        let started = command.stdin(Stdio::null()).stdout(output).stderr(log).spawn();
        self.process =
            Some(started.unwrap_or_else(|e| panic!("failed to start {name} (scripts/test installs it): {e}")));
    }

    /// Where it has ended by itself, the test ends with what it printed.
    pub fn check(&mut self) {
        let name = self.name;
        if let Some(status) = self.child().try_wait().expect("it is our child") {
            panic!("{name} ended with {status}:\n{}", self.log());
        }
    }

    /// What it printed.
    pub fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// Stops it with its kernel alive: its connections stay open and nothing answers. Or lets it go on.
    pub fn signal(&self, signal: Signal) {
        let id = self.process.as_ref().and_then(|process| Pid::from_raw(process.id().cast_signed()));
        kill_process(id.expect("it runs"), signal).expect("it is our child");
    }

    /// Kills it as a power cut would: what it has acknowledged stays.
    pub fn kill(&mut self) {
        self.child().kill().expect("it is our child");
        self.child().wait().expect("it is our child");
        self.process = None;
    }

    fn child(&mut self) -> &mut Child {
        let name = self.name;
        self.process.as_mut().unwrap_or_else(|| panic!("{name} does not run"))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if self.is_running() {
            self.kill();
        }
    }
}

/// A program at a path below what cargo builds, where scripts/need and scripts/fetch put it, or anywhere on the PATH.
pub fn program(name: &str, below_target: &str) -> Option<PathBuf> {
    let built = std::env::current_exe().ok()?;
    let own = built.ancestors().nth(3)?.join(below_target);
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut all = std::iter::once(own).chain(std::env::split_paths(&path).map(|folder| folder.join(name)));
    all.find(|path| path.exists())
}

/// A request to a server on 127.0.0.1: status and body of the answer. `header` is empty, or a whole line with its end.
pub fn ask(
    port: u16,
    (method, path): (&str, &str),
    header: &str,
    body: &str,
    patience: Duration,
) -> io::Result<(u16, String)> {
    let mut stream = TcpStream::connect(("127.0.0.1", port))?;
    stream.set_read_timeout(Some(patience))?;
    let length = body.len();
    let head = format!("{method} {path} HTTP/1.0\r\nHost: localhost\r\n{header}Content-Length: {length}\r\n\r\n");
    stream.write_all(head.as_bytes())?;
    stream.write_all(body.as_bytes())?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let (head, body) = answer.split_once("\r\n\r\n").ok_or(io::ErrorKind::UnexpectedEof)?;
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).ok_or(io::ErrorKind::InvalidData)?;
    Ok((status, body.to_owned()))
}
