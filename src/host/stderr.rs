//! Standard error, written without waiting for its reader. Children share its open file description, so `O_NONBLOCK` is
//! never set on that: a pipe or a terminal is opened a second time. Keeps nothing; lines that wait are `logger`'s.

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
    way: Way,
    is_terminal: bool,
}

/// How a write does not wait.
#[derive(Debug)]
enum Way {
    /// A pipe or a terminal under a description of our own, which does not block.
    Own(OwnedFd),
    /// Each message is sent with a flag that says so.
    Socket,
    /// A regular file or a device: it takes bytes or refuses them.
    Direct,
    /// A pipe or a terminal that could not be opened again (no /proc, or it belongs to another user): polled before each
    /// write of at most so many bytes. A child that writes in between can still make us wait.
    Polled { most: usize },
}

/// A pipe that is writable takes as much at once.
const PIPE_BUF: usize = 4096;

/// A terminal that is writable has room for one byte at least, and nearly always for these.
const TERMINAL_PIECE: usize = 64;

impl Stderr {
    pub(super) fn new() -> Stderr {
        let shared = std::io::stderr();
        let kind = rustix::fs::fstat(&shared).map(|stat| FileType::from_raw_mode(stat.st_mode));
        let is_terminal = rustix::termios::isatty(&shared);
        let way = match kind {
            Ok(FileType::Socket) => Way::Socket,
            Ok(FileType::Fifo) => open_again().map_or(Way::Polled { most: PIPE_BUF }, Way::Own),
            Ok(_) if is_terminal => open_again().map_or(Way::Polled { most: TERMINAL_PIECE }, Way::Own),
            Ok(_) | Err(_) => Way::Direct,
        };
        Stderr { shared, way, is_terminal }
    }

    /// Writes a line or its beginning, and gives how much of it was taken.
    ///
    /// # Errors
    /// `AGAIN`: its reader does not keep up, or its terminal takes nothing from the background for now. The others are
    /// those of write(2) and send(2).
    pub(super) fn write(&self, line: &[u8]) -> Result<usize, Errno> {
        if self.is_terminal && write::is_refused_by_terminal(self.shared.as_fd()) {
            return Err(Errno::AGAIN);
        }
        loop {
            let written = match &self.way {
                Way::Own(fd) => rustix::io::write(fd, line),
                Way::Direct => rustix::io::write(&self.shared, line),
                Way::Socket => rustix::net::send(&self.shared, line, SendFlags::DONTWAIT | SendFlags::NOSIGNAL),
                Way::Polled { most } => {
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
                    if !matches!(self.way, Way::Socket) {
                        signals::broke_a_pipe();
                    }
                    return Err(Errno::PIPE);
                }
                written => return written,
            }
        }
    }

    /// What becomes writable when the reader goes on.
    pub(super) fn fd(&self) -> BorrowedFd<'_> {
        match &self.way {
            Way::Own(fd) => fd.as_fd(),
            Way::Socket | Way::Direct | Way::Polled { .. } => self.shared.as_fd(),
        }
    }
}

/// A second description of what standard error is.
fn open_again() -> Option<OwnedFd> {
    let flags = OFlags::WRONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    rustix::fs::open("/proc/self/fd/2", flags, Mode::empty()).ok()
}
