//! Waiting: the loop's poll(2), and what a request does while it waits inside the loop's turn.
//! Says what is readable; reads nothing.

use std::fmt::Debug;
use std::os::fd::BorrowedFd;
use std::time::Instant;

use rustix::event::{PollFd, PollFlags, Timespec};

/// What a request under way needs from the loop: TERM ends it at once.
pub trait Wake: Debug + Send + Sync {
    /// Readable when a signal came.
    fn fd(&self) -> BorrowedFd<'_>;
    /// Called before every wait and when `fd` is readable: drains it, serves what can be served. True: abort the
    /// request; from then on it stays true.
    fn woken(&self) -> bool;
}

/// What a descriptor is polled for. With neither it is only polled for errors and hang-ups.
#[derive(Clone, Copy, Debug)]
pub struct Interest<'fd> {
    /// Borrowed for one poll.
    pub fd: BorrowedFd<'fd>,
    /// Whether it is to be readable.
    pub read: bool,
    /// Whether it is to be writable.
    pub write: bool,
}

impl<'fd> Interest<'fd> {
    /// In reading alone.
    pub fn read(fd: BorrowedFd<'fd>) -> Interest<'fd> {
        Interest { fd, read: true, write: false }
    }

    /// In writing alone.
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

/// Waits until one of the interests can be served or its descriptor failed or was closed, or until the moment has come;
/// `None`: for ever. Tells for each interest, in order, whether a turn is worth taking.
pub fn ready(interests: &[Interest<'_>], until: Option<Instant>) -> Vec<bool> {
    let mut polled: Vec<PollFd<'_>> =
        interests.iter().map(|interest| PollFd::from_borrowed_fd(interest.fd, interest.flags())).collect();
    let timeout = until.map(|moment| {
        let left = moment.saturating_duration_since(Instant::now());
        Timespec::try_from(left).unwrap_or(Timespec { tv_sec: i64::from(i32::MAX), tv_nsec: 0 })
    });
    match rustix::event::poll(&mut polled, timeout.as_ref()) {
        Ok(_) => polled.iter().map(|fd| !fd.revents().is_empty()).collect(),
        // A signal: its pipe is readable on the next turn. Anything else (no memory) is as good as a spurious wake-up.
        Err(_) => vec![false; polled.len()],
    }
}
