//! Waiting: the loop's poll(2), and what a request does while it waits inside the loop's turn.

use std::fmt::Debug;
use std::os::fd::BorrowedFd;

/// What a request under way needs from the loop: TERM ends it at once, dead children are reaped meanwhile.
pub trait Wake: Debug + Send + Sync {
    /// Readable when a signal came.
    fn fd(&self) -> BorrowedFd<'_>;
    /// Called before every wait and when `fd` is readable: drains it, serves what can be served. True: abort the
    /// request; from then on it stays true.
    fn woken(&self) -> bool;
}
