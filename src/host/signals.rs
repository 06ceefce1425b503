//! Signals, by a pipe that wakes the loop. No other file installs handlers. The signal mask is not changed, so
//! children start with the mask that this program was started with.

use std::cell::{Cell, RefCell};
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, Ordering};

use signal_hook::consts::{
    SIGABRT, SIGBUS, SIGCHLD, SIGFPE, SIGHUP, SIGILL, SIGINT, SIGKILL, SIGPIPE, SIGSEGV, SIGSTOP, SIGTERM, SIGURG,
    SIGUSR1, SIGXFSZ,
};
use signal_hook::iterator::backend::SignalDelivery;
use signal_hook::iterator::exfiltrator::SignalOnly;

use super::wait::Wake;

/// The signals that have arrived and were not taken yet.
#[derive(Debug)]
pub struct Signals {
    pipe: UnixStream,
    /// In cells, because the loop and every interruptible read share the signals. No borrow outlives a call.
    arrived: RefCell<Arrived>,
    /// SIGTERM or SIGINT arrived while a read or a render was in progress, and stopped it.
    stopped: Cell<bool>,
}

/// The signals that the handlers recorded, and those that were fetched from there.
#[derive(Debug)]
struct Arrived {
    handlers: SignalDelivery<UnixStream, SignalOnly>,
    fetched: Numbers,
}

/// A set of signal numbers, 1 to 64: a bit each.
#[derive(Clone, Copy, Debug, Default)]
struct Numbers(u64);

/// A signal and its meaning for this program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signal {
    /// SIGTERM: end.
    Terminate,
    /// SIGINT: end.
    Interrupt,
    /// SIGHUP: read the configuration again.
    Hangup,
    /// SIGCHLD: a child may have ended.
    Child,
    /// Any other signal: it is forwarded to the exec children.
    Other(i32),
}

/// SIGUSR1: prints the metrics of inmem, if that is configured.
pub const USER_1: i32 = SIGUSR1;

/// The highest signal number of Linux.
const LAST: i32 = 64;

/// These signals are not forwarded: SIGURG is about our sockets, and SIGXFSZ about our files.
const KEPT: [i32; 2] = [SIGURG, SIGXFSZ];

/// We wrote to a pipe without a reader, and the kernel raised SIGPIPE for that.
static BROKEN_PIPE: AtomicBool = AtomicBool::new(false);

/// Announces that the next SIGPIPE is our own: it must not be forwarded to a child.
pub fn broke_a_pipe() {
    BROKEN_PIPE.store(true, Ordering::Relaxed);
}

/// Signals of faults in this program, and those that cannot be caught.
const LEFT_ALONE: [i32; 7] = [SIGILL, SIGABRT, SIGBUS, SIGFPE, SIGSEGV, SIGKILL, SIGSTOP];

impl Signals {
    /// Installs a handler for every signal that can be caught. The kernel drops signals without a handler for process
    /// 1, and kills other processes by them.
    ///
    /// # Errors
    /// The pipe cannot be created, or a necessary signal is blocked by the mask that the program was started with.
    pub fn install() -> io::Result<Rc<Signals>> {
        // Without /proc the mask is unknown.
        let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
        if let Some(name) = blocked(&status) {
            let error = format!("the signal mask it was started with blocks {name}, start it with an empty one");
            return Err(io::Error::other(error));
        }
        let (pipe, waker) = UnixStream::pair()?;
        let none: [i32; 0] = [];
        let handlers = SignalDelivery::with_pipe(pipe.try_clone()?, waker, SignalOnly, none)?;
        for number in (1..=LAST).filter(|n| !LEFT_ALONE.contains(n)) {
            match handlers.handle().add_signal(number) {
                Ok(()) => {}
                // The C library reserves 32 to 34.
                Err(e) if e.kind() == io::ErrorKind::InvalidInput => {}
                Err(e) => return Err(e),
            }
        }
        let arrived = RefCell::new(Arrived { handlers, fetched: Numbers::default() });
        let signals = Rc::new(Signals { pipe, arrived, stopped: Cell::new(false) });
        // This reference is leaked: the handlers stay until the process ends. If the pipe were closed before they were
        // gone, a handler would write to a closed pipe. That raises SIGPIPE, whose handler writes again, without end.
        std::mem::forget(Rc::clone(&signals));
        Ok(signals)
    }

    /// Takes the signals that have arrived since the last call, each once.
    pub fn take(&self) -> Vec<Signal> {
        let mut numbers = self.with_fetched(std::mem::take);
        if BROKEN_PIPE.swap(false, Ordering::Relaxed) {
            numbers.remove(SIGPIPE);
        }
        KEPT.iter().for_each(|number| numbers.remove(*number));
        let signal = |number| match number {
            SIGTERM => Signal::Terminate,
            SIGINT => Signal::Interrupt,
            SIGHUP => Signal::Hangup,
            SIGCHLD => Signal::Child,
            other => Signal::Other(other),
        };
        (1..=LAST).filter(|number| numbers.contains(*number)).map(signal).collect()
    }

    /// Whether a signal has arrived that was not taken yet.
    pub fn pending(&self) -> bool {
        self.with_fetched(|numbers| !numbers.is_empty())
    }

    /// Empties the pipe and fetches the signals that the handlers recorded.
    fn with_fetched<T>(&self, look: impl FnOnce(&mut Numbers) -> T) -> T {
        let mut arrived = self.arrived.borrow_mut();
        let Arrived { handlers, fetched } = &mut *arrived;
        handlers.pending().for_each(|number| fetched.insert(number));
        look(fetched)
    }
}

impl Numbers {
    fn insert(&mut self, number: i32) {
        self.0 |= Numbers::bit(number);
    }

    fn remove(&mut self, number: i32) {
        self.0 &= !Numbers::bit(number);
    }

    fn contains(self, number: i32) -> bool {
        self.0 & Numbers::bit(number) != 0
    }

    fn is_empty(self) -> bool {
        self.0 == 0
    }

    fn bit(number: i32) -> u64 {
        1 << (number - 1)
    }
}

/// The first necessary signal that /proc/self/status shows as blocked.
fn blocked(status: &str) -> Option<&'static str> {
    let mask = status.lines().find_map(|line| line.strip_prefix("SigBlk:"))?;
    let mask = u64::from_str_radix(mask.trim(), 16).ok()?;
    let needed = [("SIGTERM", SIGTERM), ("SIGINT", SIGINT), ("SIGHUP", SIGHUP), ("SIGCHLD", SIGCHLD)];
    needed.into_iter().find_map(|(name, number)| (mask & (1 << (number - 1)) != 0).then_some(name))
}

impl Wake for Signals {
    fn fd(&self) -> BorrowedFd<'_> {
        self.pipe.as_fd()
    }

    fn woken(&self) -> bool {
        if self.with_fetched(|numbers| numbers.contains(SIGTERM) || numbers.contains(SIGINT)) {
            self.stopped.set(true);
        }
        self.stopped.get()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_blocked_is_named() {
        let check =
            |mask: &str, want| assert_eq!(blocked(&format!("Name:\tremco\nSigBlk:\t{mask}\nSigIgn:\t0\n")), want);
        check("0000000000000000", None);
        check("0000000000010000", Some("SIGCHLD"));
        check("0000000000014001", Some("SIGTERM"));
        check("fffffffe00000a00", None);
        check("0000000000000002", Some("SIGINT"));
        assert_eq!(blocked(""), None);
        assert_eq!(blocked("SigBlk:\tx"), None);
    }
}
