//! An answer as a connection may give it: in pieces of changing size. For the targets that read answers.

pub struct Torn<'a> {
    rest: &'a [u8],
    size: usize,
    step: usize,
}

impl<'a> Torn<'a> {
    /// `step` says where the changes begin; at 0 all pieces have the same size.
    pub fn new(rest: &'a [u8], size: usize, step: usize) -> Torn<'a> {
        Torn { rest, size, step }
    }
}

impl<'a> Iterator for Torn<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        self.step += usize::from(self.step > 0);
        let (piece, rest) = self.rest.split_at((self.size + self.step % 3).min(self.rest.len()));
        self.rest = rest;
        Some(piece).filter(|piece| !piece.is_empty())
    }
}
