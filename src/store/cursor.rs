//! A position in the merged layers. It moves forward: to the next key, or past all keys below a directory. Copies
//! neither keys nor values.

use std::collections::btree_map;
use std::ops::Bound;

use super::{Bytes, Layer};

type Pair<'a> = (&'a Bytes, &'a Bytes);

/// The number of keys that are skipped one by one before a new search is cheaper.
const STEPS: usize = 16;

/// A position in layers that are merged in the order of their keys. If several layers have a key, the last one counts.
pub struct Cursor<'a> {
    layers: &'a [Layer],
    ahead: Ahead<'a>,
}

/// The pairs after the position.
enum Ahead<'a> {
    /// Only one layer has keys: nothing is merged.
    One(btree_map::Range<'a, Bytes, Bytes>),
    /// In merge order.
    Many(Vec<Head<'a>>),
}

/// The next pair of one layer, and the pairs after it.
struct Head<'a> {
    pair: Pair<'a>,
    rest: btree_map::Range<'a, Bytes, Bytes>,
}

impl<'a> Cursor<'a> {
    /// A position before the first key that is not less than `from`.
    pub fn new(layers: &'a [Layer], from: &[u8]) -> Cursor<'a> {
        Cursor { layers, ahead: Ahead::new(layers, from) }
    }

    /// The next key, with its value in the last layer that has the key.
    pub fn next(&mut self) -> Option<Pair<'a>> {
        #[cfg(test)]
        tests::TAKEN.set(tests::TAKEN.get() + 1);
        let heads = match &mut self.ahead {
            Ahead::One(range) => return range.next(),
            Ahead::Many(heads) => heads,
        };
        let mut pair = heads.first()?.pair;
        for head in &heads[1..] {
            if head.pair.0 <= pair.0 {
                pair = head.pair;
            }
        }
        heads.retain_mut(|head| head.pair.0 > pair.0 || head.advance());
        Some(pair)
    }

    /// The next key that is not below a directory. The directory ends with `/`, and the last key that was returned is
    /// below it.
    pub fn next_outside(&mut self, directory: &[u8]) -> Option<Pair<'a>> {
        debug_assert!(directory.ends_with(b"/"));
        for _ in 0..STEPS {
            let pair = self.next()?;
            if !pair.0.starts_with(directory) {
                return Some(pair);
            }
        }
        // `0` is the byte after `/`, so this is the smallest key that is greater than all keys below the directory.
        let mut end = directory.to_vec();
        end.pop();
        end.push(b'/' + 1);
        self.ahead = Ahead::new(self.layers, &end);
        self.next()
    }
}

impl<'a> Ahead<'a> {
    fn new(layers: &'a [Layer], from: &[u8]) -> Ahead<'a> {
        let range = |layer: &'a Layer| layer.range::<[u8], _>((Bound::Included(from), Bound::Unbounded));
        let mut held = layers.iter().filter(|layer| !layer.is_empty());
        if let (Some(only), None) = (held.next(), held.next()) {
            return Ahead::One(range(only));
        }
        let head = |layer| {
            let mut rest = range(layer);
            Some(Head { pair: rest.next()?, rest })
        };
        Ahead::Many(layers.iter().filter_map(head).collect())
    }
}

impl Head<'_> {
    /// Returns whether the layer has another pair.
    fn advance(&mut self) -> bool {
        match self.rest.next() {
            Some(pair) => {
                self.pair = pair;
                true
            }
            None => false,
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use std::cell::Cell;

    thread_local! {
        /// The number of steps that the cursors of this thread have made. It distinguishes a range scan from a full
        /// scan without a clock.
        pub static TAKEN: Cell<usize> = const { Cell::new(0) };
    }
}
