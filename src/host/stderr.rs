//! Writes to standard error without waiting for its reader. Children share the open file description, so `O_NONBLOCK`
//! is never set on it: a pipe or a terminal is opened a second time instead. Keeps no lines; `logger` does.

use std::io::Stderr as Handle;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{FileType, Mode, OFlags};
use rustix::io::Errno;
use rustix::net::SendFlags;

use super::{signals, write};

#[derive(Debug)]
pub(super) struct Stderr {
    shared: Handle,
    method: Method,
    is_terminal: bool,
}

/// How a write avoids blocking.
#[derive(Debug)]
enum Method {
    /// A pipe or a terminal with an open file description of our own, which is non-blocking.
    Own(OwnedFd),
    /// Each message is sent with MSG_DONTWAIT.
    Socket,
    /// A regular file or a device: a write takes the bytes or fails.
    Direct,
    /// A pipe or a terminal that could not be opened again (no /proc, or another user's): polled before each write of
    /// at most `most` bytes. If a child writes in between, the write may block.
    Polled { most: usize },
}

/// A writable pipe takes this many bytes at once.
const PIPE_BUF: usize = 4096;

/// A writable terminal takes one byte at least, and nearly always this many.
const TERMINAL_PIECE: usize = 64;

impl Stderr {
    pub(super) fn new() -> Stderr {
        let shared = std::io::stderr();
        let kind = rustix::fs::fstat(&shared).map(|stat| FileType::from_raw_mode(stat.st_mode));
        let is_terminal = rustix::termios::isatty(&shared);
        let method = match kind {
            Ok(FileType::Socket) => Method::Socket,
            Ok(FileType::Fifo) => open_again().map_or(Method::Polled { most: PIPE_BUF }, Method::Own),
            Ok(_) if is_terminal => open_again().map_or(Method::Polled { most: TERMINAL_PIECE }, Method::Own),
            Ok(_) | Err(_) => Method::Direct,
        };
        Stderr { shared, method, is_terminal }
    }

    /// Writes a line or its beginning. Returns the number of bytes that were taken.
    ///
    /// # Errors
    /// `AGAIN`: the reader is too slow, or the terminal stops background programs. Otherwise those of write(2) and
    /// send(2).
    pub(super) fn write(&self, line: &[u8]) -> Result<usize, Errno> {
        if self.is_terminal && write::is_refused_by_terminal(self.shared.as_fd()) {
            return Err(Errno::AGAIN);
        }
        loop {
            let written = match &self.method {
                Method::Own(fd) => rustix::io::write(fd, line),
                Method::Direct => rustix::io::write(&self.shared, line),
                Method::Socket => rustix::net::send(&self.shared, line, SendFlags::DONTWAIT | SendFlags::NOSIGNAL),
                Method::Polled { most } => {
                    let mut fds = [PollFd::new(&self.shared, PollFlags::OUT)];
                    match poll(&mut fds, Some(&Timespec { tv_sec: 0, tv_nsec: 0 })) {
                        Ok(0) => Err(Errno::AGAIN),
                        Ok(_) => rustix::io::write(&self.shared, &line[..line.len().min(*most)]),
                        Err(e) => Err(e),
                    }
                }
            };
            match written {
                Err(Errno::INTR) => {}
                Err(Errno::PIPE) => {
                    if !matches!(self.method, Method::Socket) {
                        signals::broke_a_pipe();
                    }
                    return Err(Errno::PIPE);
                }
                written => return written,
            }
        }
    }

    /// Whether it is a terminal.
    pub(super) fn is_terminal(&self) -> bool {
        self.is_terminal
    }

    /// Becomes writable when the reader continues.
    pub(super) fn fd(&self) -> BorrowedFd<'_> {
        match &self.method {
            Method::Own(fd) => fd.as_fd(),
            Method::Socket | Method::Direct | Method::Polled { .. } => self.shared.as_fd(),
        }
    }
}

/// A second open file description of standard error.
fn open_again() -> Option<OwnedFd> {
    let flags = OFlags::WRONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    rustix::fs::open("/proc/self/fd/2", flags, Mode::empty()).ok()
}
