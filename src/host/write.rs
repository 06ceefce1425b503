//! Writes the content of a template to a fifo, a terminal, or our own standard output and error, which may be full.
//! The loop is blocked meanwhile, so the wait for the reader is short. `stderr` writes log lines.

use std::io;
use std::os::fd::BorrowedFd;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::process::getpgrp;
use rustix::termios::{LocalModes, Termios, tcgetattr, tcgetpgrp};

use super::signals;

/// Writes everything, also to a blocking descriptor. A reader that is too slow is an error after `timeout`.
pub fn to_reader(out: BorrowedFd<'_>, mut content: &[u8], timeout: Duration) -> io::Result<()> {
    /// A writable pipe takes this many bytes without blocking.
    const PIPE_BUF: usize = 4096;
    let until = Instant::now() + timeout;
    while !content.is_empty() {
        let left = until.saturating_duration_since(Instant::now());
        let left = Timespec::try_from(left).expect("timeout is seconds");
        match poll(&mut [PollFd::from_borrowed_fd(out, PollFlags::OUT)], Some(&left)) {
            Ok(0) => return Err(io::Error::other("its reader is too slow")),
            Ok(_) => {}
            Err(Errno::INTR) => continue,
            Err(e) => return Err(e.into()),
        }
        if is_refused_by_terminal(out) {
            return Err(io::Error::other("its terminal stops background programs"));
        }
        match rustix::io::write(out, &content[..content.len().min(PIPE_BUF)]) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(n) => content = &content[n..],
            Err(Errno::INTR | Errno::AGAIN) => {}
            Err(Errno::PIPE) => {
                signals::broke_a_pipe();
                return Err(Errno::PIPE.into());
            }
            Err(e) => return Err(e.into()),
        }
    }
    Ok(())
}

/// Whether a write would raise SIGTTOU, and raise it again at each retry: the terminal has `stty tostop`, and we are in
/// the background.
pub(super) fn is_refused_by_terminal(out: BorrowedFd<'_>) -> bool {
    let stops = |terminal: Termios| terminal.local_modes.contains(LocalModes::TOSTOP);
    tcgetattr(out).is_ok_and(stops) && tcgetpgrp(out).is_ok_and(|group| group != getpgrp())
}
