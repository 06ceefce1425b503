//! Splits received bytes into lines: the bytes are appended to [`Lines::buffer`], whole lines are taken out.
//! A line has a bounded length. Pure: reads no socket, and does not know what a line means.

use core::fmt;

/// The buffer shrinks to this size after a longer line.
const KEPT_LINE: usize = 64 * 1024;

/// Bytes on their way to lines.
#[derive(Debug)]
pub struct Lines {
    buffer: Vec<u8>,
    /// Where the next line begins.
    start: usize,
    /// Up to where the buffer holds no newline.
    searched: usize,
    limit: usize,
}

/// A line longer than the limit. What came is of no use any more: drop the stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooLong {
    /// The limit.
    pub bytes: usize,
}

impl fmt::Display for TooLong {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "answer is longer than {} bytes", self.bytes)
    }
}

impl Lines {
    /// `limit`: the bytes of the longest line, without its newline.
    pub fn new(limit: usize) -> Lines {
        Lines { buffer: Vec::new(), start: 0, searched: 0, limit }
    }

    /// Where received bytes are appended. Lines that were taken are gone from it.
    pub fn buffer(&mut self) -> &mut Vec<u8> {
        if self.start > 0 {
            self.buffer.drain(..self.start);
            self.searched -= self.start;
            self.start = 0;
            self.buffer.shrink_to(KEPT_LINE.max(self.buffer.len()));
        }
        &mut self.buffer
    }

    /// The next whole line, without its newline. `None`: append more.
    ///
    /// # Errors
    /// The line is longer than the limit, whether its end has come or not.
    pub fn next_line(&mut self) -> Result<Option<&[u8]>, TooLong> {
        let found = self.buffer[self.searched..].iter().position(|byte| *byte == b'\n');
        let end = found.map_or(self.buffer.len(), |at| self.searched + at);
        self.searched = end;
        if end - self.start > self.limit {
            return Err(TooLong { bytes: self.limit });
        }
        if found.is_none() {
            return Ok(None);
        }
        let line = self.start..end;
        self.start = end + 1;
        self.searched = self.start;
        Ok(Some(&self.buffer[line]))
    }

    /// What came after the last newline, once the stream has ended as it should; `None`: nothing.
    pub fn last_line(&mut self) -> Option<&[u8]> {
        let line = self.start..self.buffer.len();
        (self.start, self.searched) = (line.end, line.end);
        (!line.is_empty()).then(|| &self.buffer[line])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(lines: &mut Lines) -> Vec<String> {
        let mut found = Vec::new();
        while let Some(line) = lines.next_line().unwrap() {
            found.push(String::from_utf8(line.to_vec()).unwrap());
        }
        found
    }

    #[test]
    fn lines_are_whole_however_they_come() {
        let want: Vec<String> = (0..50).map(|n| "x".repeat(n * n % 47)).collect();
        let text: String = want.iter().map(|line| format!("{line}\n")).collect();
        for piece in [1, 2, 3, 7, 1000, 100_000] {
            let (mut lines, mut found) = (Lines::new(46), Vec::new());
            for piece in text.as_bytes().chunks(piece) {
                lines.buffer().extend_from_slice(piece);
                found.extend(all(&mut lines));
            }
            assert_eq!(found, want, "pieces of {piece}");
            assert_eq!(lines.last_line(), None);
            assert!(lines.buffer().is_empty());
        }
    }

    #[test]
    fn half_a_line_stays_until_the_end() {
        let mut lines = Lines::new(10);
        lines.buffer().extend_from_slice(b"a\nhal");
        assert_eq!(all(&mut lines), ["a"]);
        lines.buffer().extend_from_slice(b"f");
        assert!(all(&mut lines).is_empty());
        assert_eq!(lines.last_line(), Some(&b"half"[..]));
        assert_eq!(lines.last_line(), None);
    }

    #[test]
    fn a_line_has_a_limit() {
        let mut lines = Lines::new(4);
        lines.buffer().extend_from_slice(b"1234\n1234");
        assert_eq!(all(&mut lines), ["1234"]);
        lines.buffer().extend_from_slice(b"5");
        assert_eq!(lines.next_line(), Err(TooLong { bytes: 4 }));
        lines.buffer().extend_from_slice(b"\n");
        assert_eq!(lines.next_line(), Err(TooLong { bytes: 4 }));
    }

    #[test]
    fn a_long_line_gives_its_memory_back() {
        let mut lines = Lines::new(usize::MAX);
        lines.buffer().extend_from_slice(&[b'x'; 4 * KEPT_LINE]);
        lines.buffer().extend_from_slice(b"\ny\n");
        assert_eq!(all(&mut lines).len(), 2);
        assert!(lines.buffer().capacity() <= KEPT_LINE);
    }
}
