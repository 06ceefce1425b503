//! Log lines that wait to be written: bounded, in order, each whole. Counts the lines that are dropped. Writes
//! nothing itself and reads no clock.

use std::collections::VecDeque;

use rustix::io::Errno;

#[derive(Debug, Default)]
pub(super) struct Backlog {
    lines: VecDeque<Vec<u8>>,
    /// Bytes of the first line that were written already.
    written: usize,
    /// Bytes of all remaining lines.
    bytes: usize,
    dropped: Option<Dropped>,
}

/// The number of lines that were dropped because the backlog was full.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Dropped {
    pub(super) lines: u64,
    /// Why lines could not be written then.
    pub(super) why: Errno,
}

/// The most bytes that wait.
const CAPACITY: usize = 256 << 10;

/// After a loss, lines are dropped until no more than this waits, so that one message covers many lost lines.
const ROOM_AGAIN: usize = CAPACITY / 2;

impl Backlog {
    pub(super) fn is_empty(&self) -> bool {
        self.lines.is_empty() && self.dropped.is_none()
    }

    /// Whether a line of this length would be lost. A line above the capacity is accepted if no other waits.
    pub(super) fn is_full_for(&self, length: usize) -> bool {
        self.dropped.is_some() || !self.lines.is_empty() && self.bytes + length > CAPACITY
    }

    /// Queues a line, or counts it as lost. `why` is the cause that makes lines wait.
    pub(super) fn push(&mut self, line: Vec<u8>, why: Errno) {
        if self.is_full_for(line.len()) {
            self.lose(why);
        } else {
            self.bytes += line.len();
            self.lines.push_back(line);
        }
    }

    /// Takes the count of dropped lines, if it is time to report it. `at_end`: the program is ending.
    pub(super) fn take_dropped(&mut self, at_end: bool) -> Option<Dropped> {
        if self.bytes > ROOM_AGAIN && !at_end { None } else { self.dropped.take() }
    }

    /// Writes lines until `write` takes no more. Returns whether anything was written, and the cause if lines remain.
    pub(super) fn flush(&mut self, mut write: impl FnMut(&[u8]) -> Result<usize, Errno>) -> (bool, Result<(), Errno>) {
        let mut has_progressed = false;
        while let Some(line) = self.lines.front() {
            match write(&line[self.written..]) {
                // A datagram socket never takes this line.
                Err(why @ Errno::MSGSIZE) => {
                    self.drop_first();
                    self.lose(why);
                }
                Err(why) => return (has_progressed, Err(why)),
                Ok(n) => {
                    has_progressed |= n > 0;
                    self.written += n;
                    self.bytes -= n;
                    if self.written < line.len() {
                        // A full pipe took a part of the line. A full disk fails with the next write.
                        continue;
                    }
                    self.drop_first();
                }
            }
        }
        (has_progressed, Ok(()))
    }

    fn drop_first(&mut self) {
        let line = self.lines.pop_front().unwrap_or_default();
        self.bytes -= line.len() - self.written;
        self.written = 0;
    }

    fn lose(&mut self, why: Errno) {
        let lost = self.dropped.get_or_insert(Dropped { lines: 0, why });
        lost.lines += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Writes to a pipe with this free space.
    fn flush(backlog: &mut Backlog, mut room: usize) -> (String, bool, Result<(), Errno>) {
        let mut taken = Vec::new();
        let (has_progressed, result) = backlog.flush(|line| {
            let n = line.len().min(room);
            room -= n;
            taken.extend_from_slice(&line[..n]);
            if n == 0 { Err(Errno::AGAIN) } else { Ok(n) }
        });
        (String::from_utf8(taken).unwrap(), has_progressed, result)
    }

    #[test]
    fn the_rest_of_a_line_stays() {
        let mut backlog = Backlog::default();
        assert_eq!(flush(&mut backlog, 0), (String::new(), false, Ok(())));
        ["one\n", "two\n"].iter().for_each(|line| backlog.push(line.as_bytes().to_vec(), Errno::AGAIN));
        assert_eq!(flush(&mut backlog, 0), (String::new(), false, Err(Errno::AGAIN)));
        assert_eq!(flush(&mut backlog, 5), ("one\nt".into(), true, Err(Errno::AGAIN)));
        backlog.push(b"three\n".to_vec(), Errno::AGAIN);
        assert_eq!(flush(&mut backlog, 100), ("wo\nthree\n".into(), true, Ok(())));
        assert!(backlog.is_empty() && backlog.bytes == 0 && backlog.written == 0);
    }

    #[test]
    fn lines_without_room_are_counted_until_half_is_read() {
        let mut backlog = Backlog::default();
        let line = || vec![b'x'; 1024];
        (0..CAPACITY / 1024).for_each(|_| backlog.push(line(), Errno::NOSPC));
        assert!(!backlog.is_full_for(0) && backlog.is_full_for(1));
        backlog.push(line(), Errno::NOSPC);
        let _ = flush(&mut backlog, 4096);
        backlog.push(b"short\n".to_vec(), Errno::AGAIN);
        assert_eq!(backlog.take_dropped(false), None, "more than half waits");
        assert_eq!(flush(&mut backlog, CAPACITY / 2).2, Err(Errno::AGAIN));
        assert_eq!(backlog.take_dropped(false), Some(Dropped { lines: 2, why: Errno::NOSPC }));
        assert_eq!(backlog.take_dropped(false), None);
        backlog.push(b"short\n".to_vec(), Errno::AGAIN);
        assert!(flush(&mut backlog, CAPACITY).0.ends_with("xshort\n"));
    }

    #[test]
    fn a_long_line_is_taken_if_it_is_alone() {
        let mut backlog = Backlog::default();
        backlog.push(vec![b'x'; 2 * CAPACITY], Errno::AGAIN);
        backlog.push(b"short\n".to_vec(), Errno::AGAIN);
        assert_eq!(backlog.take_dropped(true), Some(Dropped { lines: 1, why: Errno::AGAIN }));
        assert_eq!(flush(&mut backlog, 3 * CAPACITY).0.len(), 2 * CAPACITY);
    }

    #[test]
    fn a_line_that_is_no_message_is_lost() {
        let mut backlog = Backlog::default();
        backlog.push(b"long\n".to_vec(), Errno::AGAIN);
        backlog.push(b"a\n".to_vec(), Errno::AGAIN);
        let taken = |line: &[u8]| if line.len() > 2 { Err(Errno::MSGSIZE) } else { Ok(line.len()) };
        assert_eq!(backlog.flush(taken), (true, Ok(())));
        assert_eq!((backlog.bytes, backlog.take_dropped(false)), (0, Some(Dropped { lines: 1, why: Errno::MSGSIZE })));
    }
}
