//! Follows the cursors of one SCAN, and detects a server whose pages have no end. Holds two cursors, whatever their
//! number, and sends nothing.

use crate::cut;
use crate::store::Bytes;

/// The limit of pages. A database holds at most 2^32 keys. A page of 1000 searches 1000 places, half of which may be
/// empty.
const MOST_PAGES: u64 = 10_000_000;

/// The cursors so far.
#[derive(Debug)]
pub struct Cursors {
    count: u64,
    /// An earlier cursor.
    mark: Option<Bytes>,
    /// The mark moves to the cursor with this number, which doubles each time, so that any cycle is found.
    moves_at: u64,
}

impl Default for Cursors {
    fn default() -> Cursors {
        Cursors { count: 0, mark: None, moves_at: 1 }
    }
}

impl Cursors {
    /// The number of pages so far.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// Takes the cursor of the next page. Redis never returns a cursor twice, even if keys change meanwhile.
    ///
    /// # Errors
    /// The pages have no end. The text has the cause.
    pub fn follow(&mut self, cursor: &Bytes) -> Result<(), String> {
        self.count += 1;
        if self.mark.as_ref() == Some(cursor) {
            return Err(format!("SCAN has no end: the server gave the cursor `{}` twice", cut::key(cursor)));
        }
        if self.count > MOST_PAGES {
            return Err(format!("SCAN has no end: more than {MOST_PAGES} pages"));
        }
        if self.count == self.moves_at {
            (self.mark, self.moves_at) = (Some(cursor.clone()), self.moves_at.saturating_mul(2));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The number of cursors that are followed before the error.
    fn followed(cursors: impl Iterator<Item = u64>) -> usize {
        let mut known = Cursors::default();
        let bytes = |cursor: u64| Bytes::from(cursor.to_string().as_bytes());
        cursors.take_while(|cursor| known.follow(&bytes(*cursor)).is_ok()).count()
    }

    #[test]
    fn circles_of_any_length_are_found() {
        assert_eq!(followed(1..10_000), 9_999);
        assert_eq!(followed(std::iter::repeat(17)), 1);
        for length in [2, 3, 10, 1000] {
            assert!(followed((1..50).chain((100..100 + length).cycle())) < 4 * (50 + length as usize), "{length}");
        }
        let endless = Cursors { count: MOST_PAGES, mark: None, moves_at: 1 }.follow(&Bytes::from(&b"7"[..]));
        assert_eq!(endless, Err("SCAN has no end: more than 10000000 pages".to_owned()));
    }
}
