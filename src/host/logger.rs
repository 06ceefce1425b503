//! Writes log lines to standard error, and keeps them while its reader is slow. Owns the level, the format and the
//! time stamp; `log` formats lines. An update never waits for the reader of the log.

use std::cell::{Cell, RefCell};
use std::io;
use std::rc::Rc;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;

use super::backlog::{Backlog, Dropped};
use super::machine::Machine;
use super::stderr::Stderr;
use super::wait::Interest;
use crate::error::cause;
use crate::log::{Format, Level, Line, Stamp};
use crate::template::World;

/// Writes log lines. Lines that standard error does not take at once wait here, at most 256 KB. The loop calls
/// [`Logger::flush`] when [`Logger::interest`] or [`Logger::due`] say so. Dropping the logger waits for the reader for
/// a moment.
#[derive(Debug)]
pub struct Logger {
    /// Changed by a reload of the configuration. All parts share the logger, so that this and `waiting` are in cells;
    /// no borrow outlives a call.
    form: Cell<(Level, Format)>,
    machine: Rc<Machine>,
    stderr: Stderr,
    /// Standard error is a terminal that shows colours.
    is_coloured: bool,
    waiting: RefCell<Waiting>,
}

/// The lines that wait to be written.
#[derive(Debug)]
struct Waiting {
    backlog: Backlog,
    /// Why the lines wait; `None`: no line waits.
    blocked: Option<Blocked>,
    /// The time that lines may still wait for the reader when the backlog is full. Refilled when all lines are written.
    credit: Duration,
    pause: Duration,
}

/// When waiting lines are written again.
#[derive(Clone, Copy, Debug)]
struct Blocked {
    why: Errno,
    until: Until,
}

#[derive(Clone, Copy, Debug)]
enum Until {
    Writable,
    /// The system reports nothing here: a full disk, or a terminal that stops background programs.
    Moment(Instant),
    /// With the next line: a pipe without a reader is not worth a wake-up.
    NextLine,
}

/// The time for a slow reader, so that a burst of lines is not lost. A reader that has stopped costs this time once.
const CREDIT: Duration = Duration::from_millis(100);

/// The pause between two attempts if no event reports that writing is possible.
const SHORTEST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(10);

/// How long the end of the program waits for the reader.
const LAST_FLUSH: Duration = Duration::from_millis(500);

impl Logger {
    /// Logs lines of `level` and above to standard error. `machine` has the time of day.
    pub fn new(level: Level, format: Format, machine: Rc<Machine>) -> Logger {
        let form = Cell::new((level, format));
        let stderr = Stderr::new();
        // NO_COLOR counts if it is not empty: https://no-color.org.
        let is_refused = |name, value: Option<&str>| {
            std::env::var_os(name).is_some_and(|set| value.map_or(!set.is_empty(), |value| set == value))
        };
        let is_coloured = stderr.is_terminal() && !is_refused("NO_COLOR", None) && !is_refused("TERM", Some("dumb"));
        Logger { form, machine, stderr, is_coloured, waiting: RefCell::new(Waiting::new()) }
    }

    /// Changes level and format, for a new configuration.
    pub fn set(&self, level: Level, format: Format) {
        self.form.set((level, format));
    }

    /// Writes a line if its level is shown, or queues it.
    pub fn log(&self, line: &Line) {
        if line.level < self.form.get().0 {
            return;
        }
        self.write(self.bytes_of(line));
    }

    /// Writes a text that is no log line, after the waiting lines.
    pub fn print(&self, text: &str) {
        self.write(text.as_bytes().to_vec());
    }

    fn write(&self, bytes: Vec<u8>) {
        let mut waiting = self.waiting.borrow_mut();
        if waiting.backlog.is_full_for(bytes.len()) && waiting.is_blocked_until_next_line() {
            self.flush_lines(&mut waiting);
        }
        while waiting.backlog.is_full_for(bytes.len()) && waiting.wait_on_credit(&self.stderr) {
            self.flush_lines(&mut waiting);
        }
        let why = waiting.blocked.map_or(Errno::AGAIN, |blocked| blocked.why);
        waiting.backlog.push(bytes, why);
        if waiting.blocked.is_none() || waiting.is_blocked_until_next_line() {
            self.flush_lines(&mut waiting);
        }
    }

    /// The descriptor to poll while lines wait. [`Logger::flush`] is called when it is ready, or at [`Logger::due`].
    pub fn interest(&self) -> Option<Interest<'_>> {
        self.waiting.borrow().is_blocked_until_writable().then(|| Interest::write(self.stderr.fd()))
    }

    /// When waiting lines are written again although no event reports that writing is possible.
    pub fn due(&self) -> Option<Instant> {
        match self.waiting.borrow().blocked?.until {
            Until::Moment(at) => Some(at),
            Until::Writable | Until::NextLine => None,
        }
    }

    /// Writes as many waiting lines as standard error takes at once.
    pub fn flush(&self) {
        self.flush_lines(&mut self.waiting.borrow_mut());
    }

    fn flush_lines(&self, waiting: &mut Waiting) {
        waiting.flush(&self.stderr);
        if let Some(dropped) = waiting.backlog.take_dropped(false) {
            waiting.backlog.push(self.bytes_of(&line_about(dropped)), dropped.why);
            if waiting.blocked.is_none() {
                waiting.flush(&self.stderr);
            }
        }
    }

    fn bytes_of(&self, line: &Line) -> Vec<u8> {
        let (unix, nanos) = self.machine.now();
        let offset = self.machine.zone(unix).0;
        let mut bytes = Vec::new();
        line.write(
            self.form.get().1,
            Stamp { unix, nanos, offset, pid: std::process::id(), is_coloured: self.is_coloured },
            &mut bytes,
        );
        bytes
    }
}

impl Drop for Logger {
    /// Writes the waiting lines, as long as the reader takes them within half a second.
    fn drop(&mut self) {
        let mut waiting = self.waiting.replace(Waiting::new());
        if let Some(dropped) = waiting.backlog.take_dropped(true) {
            waiting.backlog.push(self.bytes_of(&line_about(dropped)), dropped.why);
        }
        waiting.finish(&self.stderr);
    }
}

/// Writes a text to standard error before there is a logger. Waits at most half a second for the reader.
pub fn print_stderr(text: &str) {
    let mut waiting = Waiting::new();
    waiting.backlog.push(text.as_bytes().to_vec(), Errno::AGAIN);
    waiting.finish(&Stderr::new());
}

impl Waiting {
    fn new() -> Waiting {
        Waiting { backlog: Backlog::default(), blocked: None, credit: CREDIT, pause: SHORTEST_PAUSE }
    }

    fn is_blocked_until_writable(&self) -> bool {
        matches!(self.blocked, Some(Blocked { until: Until::Writable, .. }))
    }

    fn is_blocked_until_next_line(&self) -> bool {
        matches!(self.blocked, Some(Blocked { until: Until::NextLine, .. }))
    }

    fn flush(&mut self, stderr: &Stderr) {
        let (has_progressed, result) = self.backlog.flush(|line| stderr.write(line));
        let before = self.blocked.take();
        if has_progressed {
            self.pause = SHORTEST_PAUSE;
        }
        match result {
            Ok(()) => self.credit = CREDIT,
            Err(why) => self.blocked = Some(Blocked { why, until: self.until(why, has_progressed, before) }),
        }
    }

    fn until(&mut self, why: Errno, has_progressed: bool, before: Option<Blocked>) -> Until {
        match why {
            // It was reported as writable and took nothing, so polling is of no use.
            Errno::AGAIN if has_progressed || before.is_none_or(|before| before.why != Errno::AGAIN) => Until::Writable,
            Errno::AGAIN | Errno::NOSPC | Errno::DQUOT | Errno::NOBUFS | Errno::NOMEM => {
                let at = Instant::now() + self.pause;
                self.pause = (self.pause * 2).min(LONGEST_PAUSE);
                Until::Moment(at)
            }
            _ => Until::NextLine,
        }
    }

    /// Waits until lines can be written, within the credit. Returns whether they can.
    fn wait_on_credit(&mut self, stderr: &Stderr) -> bool {
        let mut credit = std::mem::take(&mut self.credit);
        let is_writable = self.wait(stderr, &mut credit);
        self.credit = credit;
        is_writable
    }

    /// Waits until lines can be written, for `left` at most, and subtracts the time that it took.
    fn wait(&self, stderr: &Stderr, left: &mut Duration) -> bool {
        let until = Instant::now() + *left;
        let is_writable = loop {
            *left = until.saturating_duration_since(Instant::now());
            if left.is_zero() || !self.is_blocked_until_writable() {
                break false;
            }
            let timeout = Timespec::try_from(*left).expect("a credit is less than a second");
            match poll(&mut [PollFd::from_borrowed_fd(stderr.fd(), PollFlags::OUT)], Some(&timeout)) {
                Ok(n) if n > 0 => break true,
                Ok(_) | Err(Errno::INTR) => {}
                Err(_) => break false,
            }
        };
        *left = until.saturating_duration_since(Instant::now());
        is_writable
    }

    /// Writes waiting lines as long as the reader takes them.
    fn finish(&mut self, stderr: &Stderr) {
        let mut left = LAST_FLUSH;
        if !self.is_blocked_until_writable() {
            self.flush(stderr);
        }
        while !self.backlog.is_empty() && self.wait(stderr, &mut left) {
            self.flush(stderr);
        }
    }
}

/// The line about dropped lines. It is shown at every level, because lines of that level were dropped.
fn line_about(dropped: Dropped) -> Line {
    let what = if dropped.lines == 1 { "log line was" } else { "log lines were" };
    let why = match dropped.why {
        Errno::AGAIN => "standard error was not read".to_owned(),
        why => format!("standard error could not be written: {}", cause(&io::Error::from(why))),
    };
    Line::new(Level::Warn, format!("{} {what} lost: {why}", dropped.lines))
}
