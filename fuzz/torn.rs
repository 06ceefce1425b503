//! An answer as a connection may give it: in pieces of changing size, and now and then an interruption. For the targets
//! that read answers.

use std::io::{self, Read};

pub struct Torn<'a> {
    rest: &'a [u8],
    size: usize,
    step: usize,
}

impl<'a> Torn<'a> {
    /// `step` says where the changes begin; at 0 all pieces have the same size and nothing interrupts.
    pub fn new(rest: &'a [u8], size: usize, step: usize) -> Torn<'a> {
        Torn { rest, size, step }
    }
}

impl Read for Torn<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.step > 0 {
            self.step += 1;
            if self.step.is_multiple_of(5) {
                return Err(io::ErrorKind::Interrupted.into());
            }
        }
        let n = (self.size + self.step % 3).min(buffer.len()).min(self.rest.len());
        buffer[..n].copy_from_slice(&self.rest[..n]);
        self.rest = &self.rest[n..];
        Ok(n)
    }
}
