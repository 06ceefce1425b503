//! Waiting: the poll(2) of the loop, and the interruption of a read that waits within a turn.
//! Reports readiness; reads nothing.

use std::fmt::Debug;
use std::os::fd::BorrowedFd;
use std::time::Instant;

use rustix::event::{PollFd, PollFlags, Timespec};

/// Interrupts a blocking read or a render: SIGTERM ends it at once.
pub trait Wake: Debug {
    /// Readable when a signal has arrived.
    fn fd(&self) -> BorrowedFd<'_>;
    /// Called before every wait and when `fd` is readable. Drains `fd`. Returns whether to abort; once true, it stays
    /// true.
    fn woken(&self) -> bool;
}

/// A descriptor, and the events to poll for. Errors and hang-ups are always reported.
#[derive(Clone, Copy, Debug)]
pub struct Interest<'fd> {
    /// Borrowed for one poll.
    pub fd: BorrowedFd<'fd>,
    /// Whether to poll for reading.
    pub read: bool,
    /// Whether to poll for writing.
    pub write: bool,
}

impl<'fd> Interest<'fd> {
    /// For reading only.
    pub fn read(fd: BorrowedFd<'fd>) -> Interest<'fd> {
        Interest { fd, read: true, write: false }
    }

    /// For writing only.
    pub fn write(fd: BorrowedFd<'fd>) -> Interest<'fd> {
        Interest { fd, read: false, write: true }
    }

    fn flags(&self) -> PollFlags {
        let mut flags = PollFlags::empty();
        flags.set(PollFlags::IN, self.read);
        flags.set(PollFlags::OUT, self.write);
        flags
    }
}

/// Waits until a descriptor is ready, has failed or was closed, or until a moment; `None`: without limit. Returns for
/// each interest, in order, whether it is ready.
pub fn ready(interests: &[Interest<'_>], until: Option<Instant>) -> Vec<bool> {
    let mut polled: Vec<PollFd<'_>> =
        interests.iter().map(|interest| PollFd::from_borrowed_fd(interest.fd, interest.flags())).collect();
    let timeout = until.map(|moment| {
        let left = moment.saturating_duration_since(Instant::now());
        Timespec::try_from(left).unwrap_or(Timespec { tv_sec: i64::from(i32::MAX), tv_nsec: 0 })
    });
    match rustix::event::poll(&mut polled, timeout.as_ref()) {
        Ok(_) => polled.iter().map(|fd| !fd.revents().is_empty()).collect(),
        // EINTR: the pipe of the signals is readable in the next turn. Any other failure, such as a lack of memory,
        // counts as a spurious wake-up.
        Err(_) => vec![false; polled.len()],
    }
}
