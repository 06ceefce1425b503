//! Writes to what may be full: a fifo, a terminal, our own standard output and error. Waits for its reader a moment at
//! most, as the loop stands still meanwhile.

use std::io;
use std::os::fd::BorrowedFd;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;

use super::signals;

/// Writes all of it, to a blocking descriptor too. A reader that does not keep up is an error after `patience`.
pub fn to_reader(out: BorrowedFd<'_>, mut content: &[u8], patience: Duration) -> io::Result<()> {
    /// What fits into a pipe that is writable at all, so that no write blocks.
    const PIPE_BUF: usize = 4096;
    let until = Instant::now() + patience;
    while !content.is_empty() {
        let left = until.saturating_duration_since(Instant::now());
        let left = Timespec::try_from(left).expect("patience is seconds");
        match poll(&mut [PollFd::from_borrowed_fd(out, PollFlags::OUT)], Some(&left)) {
            Ok(0) => return Err(io::Error::other("its reader does not keep up")),
            Ok(_) => {}
            Err(Errno::INTR) => continue,
            Err(e) => return Err(e.into()),
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
