//! Signals, by flags and a pipe that wakes the loop. The only place that installs handlers. No mask
//! is changed, so children start with the one we were started with.

use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use signal_hook::consts::{
    SIGABRT, SIGBUS, SIGCHLD, SIGFPE, SIGHUP, SIGILL, SIGINT, SIGKILL, SIGSEGV, SIGSTOP, SIGTERM,
};

use super::wait::Wake;

/// The signals that came and were not taken yet.
#[derive(Debug)]
pub struct Signals {
    pipe: UnixStream,
    flags: Vec<(i32, Arc<AtomicBool>)>,
    /// TERM or INT came while a request was under way, and it was told to stop.
    stopped: AtomicBool,
}

/// A signal and what it asks of us.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signal {
    Terminate,
    Interrupt,
    Hangup,
    Child,
    /// For the exec children.
    Other(i32),
}

/// The highest signal number of Linux.
const LAST: i32 = 64;

/// Faults of the program itself, and what cannot be caught.
const LEFT_ALONE: [i32; 7] = [SIGILL, SIGABRT, SIGBUS, SIGFPE, SIGSEGV, SIGKILL, SIGSTOP];

impl Signals {
    /// Installs a handler for every signal that can be caught: as process 1 the kernel drops those without one,
    /// and any other process dies of them.
    ///
    /// # Errors
    /// No descriptor for the pipe.
    pub fn install() -> io::Result<Signals> {
        let (pipe, waker) = UnixStream::pair()?;
        pipe.set_nonblocking(true)?;
        let mut flags = Vec::new();
        for number in (1..=LAST).filter(|n| !LEFT_ALONE.contains(n)) {
            let flag = Arc::new(AtomicBool::new(false));
            // The flag before the byte that wakes: who is woken must find it.
            match signal_hook::flag::register(number, Arc::clone(&flag)) {
                Ok(_) => {}
                // 32 to 34 belong to the C library.
                Err(e) if e.kind() == io::ErrorKind::InvalidInput => continue,
                Err(e) => return Err(e),
            }
            signal_hook::low_level::pipe::register(number, waker.try_clone()?)?;
            flags.push((number, flag));
        }
        Ok(Signals { pipe, flags, stopped: AtomicBool::new(false) })
    }

    /// Takes the signals that came since the last call, each once.
    pub fn take(&self) -> Vec<Signal> {
        self.drain();
        let came = self.flags.iter().filter(|(_, flag)| flag.swap(false, Ordering::SeqCst));
        came.map(|(number, _)| match *number {
            SIGTERM => Signal::Terminate,
            SIGINT => Signal::Interrupt,
            SIGHUP => Signal::Hangup,
            SIGCHLD => Signal::Child,
            other => Signal::Other(other),
        })
        .collect()
    }

    /// Whether a signal came that was not taken yet.
    pub fn pending(&self) -> bool {
        self.flags.iter().any(|(_, flag)| flag.load(Ordering::SeqCst))
    }

    /// Empties the pipe. The flags say what came.
    fn drain(&self) {
        while (&self.pipe).read(&mut [0; 64]).is_ok_and(|n| n > 0) {}
    }
}

impl Wake for Signals {
    fn fd(&self) -> BorrowedFd<'_> {
        self.pipe.as_fd()
    }

    fn woken(&self) -> bool {
        self.drain();
        let stop =
            self.flags.iter().any(|(number, flag)| matches!(*number, SIGTERM | SIGINT) && flag.load(Ordering::SeqCst));
        if stop {
            self.stopped.store(true, Ordering::SeqCst);
        }
        self.stopped.load(Ordering::SeqCst)
    }
}
