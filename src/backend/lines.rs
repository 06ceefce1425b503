//! Splits a stream that arrives in pieces into lines of limited length. Knows neither the content of the lines nor the
//! source of the stream.

/// A larger buffer is freed after its line.
const KEPT: usize = 64 * 1024;

/// The incomplete line.
#[derive(Debug)]
pub struct Lines {
    begun: Vec<u8>,
    /// The maximum length of a line in bytes.
    longest: usize,
}

/// A line exceeds this number of bytes.
#[derive(Debug, PartialEq, Eq)]
pub struct TooLong(pub usize);

impl Lines {
    /// `longest` is the number of bytes that a line may have, without its newline.
    pub fn new(longest: usize) -> Lines {
        Lines { begun: Vec::new(), longest }
    }

    /// Takes the next piece and passes each complete line to `line`, without its newline, until `line` returns false.
    ///
    /// # Errors
    /// A line is too long. The stream must not be read further.
    pub fn push(&mut self, piece: &[u8], line: &mut dyn FnMut(&[u8]) -> bool) -> Result<(), TooLong> {
        let mut rest = piece;
        while let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
            self.check(end)?;
            let goes_on = match self.begun.is_empty() {
                true => line(&rest[..end]),
                false => {
                    self.begun.extend_from_slice(&rest[..end]);
                    let goes_on = line(&self.begun);
                    self.begun.clear();
                    self.begun.shrink_to(KEPT);
                    goes_on
                }
            };
            if !goes_on {
                return Ok(());
            }
            rest = &rest[end + 1..];
        }
        self.check(rest.len())?;
        self.begun.extend_from_slice(rest);
        Ok(())
    }

    /// The last line, if the stream has ended without a newline.
    pub fn end(self) -> Option<Vec<u8>> {
        Some(self.begun).filter(|line| !line.is_empty())
    }

    fn check(&self, more: usize) -> Result<(), TooLong> {
        if self.begun.len() + more > self.longest { Err(TooLong(self.longest)) } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_whole_however_they_come() {
        let wanted: Vec<String> = (0..50).map(|n| "x".repeat(n * n % 47)).collect();
        let text: String = wanted.iter().map(|line| format!("{line}\n")).collect();
        for size in [1, 2, 3, 7, 1000, 100_000] {
            let (mut lines, mut found) = (Lines::new(46), Vec::new());
            for piece in text.as_bytes().chunks(size) {
                let mut line = |line: &[u8]| {
                    found.push(String::from_utf8(line.to_vec()).unwrap());
                    true
                };
                lines.push(piece, &mut line).unwrap();
            }
            assert_eq!(found, wanted, "in pieces of {size}");
            assert_eq!(lines.end(), None);
        }
    }

    #[test]
    fn the_last_line_may_have_no_newline() {
        let mut lines = Lines::new(9);
        lines.push(b"a\nb", &mut |line| line == b"a").unwrap();
        assert_eq!(lines.end().as_deref(), Some(&b"b"[..]));
    }

    #[test]
    fn a_line_has_an_end() {
        for pieces in [&["1234\n12345\n"][..], &["1234\n1234", "5"], &["12345"]] {
            let mut lines = Lines::new(4);
            let taken: Result<(), TooLong> =
                pieces.iter().try_for_each(|piece| lines.push(piece.as_bytes(), &mut |_| true));
            assert_eq!(taken, Err(TooLong(4)), "{pieces:?}");
        }
    }

    #[test]
    fn a_large_line_does_not_keep_its_buffer() {
        let mut lines = Lines::new(usize::MAX);
        lines.push(&vec![b'x'; 4 * KEPT], &mut |_| true).unwrap();
        lines.push(b"\n", &mut |line| line.len() == 4 * KEPT).unwrap();
        assert!(lines.begun.capacity() <= KEPT);
    }
}
