//! The last complete keys of a resource, one layer for each backend, with the origin that they belong to and the time
//! of the update. Encodes piece by piece, so that many keys do not block the loop. Does not depend on backends: the
//! origin is a number.

use std::ops::Bound;
use std::rc::Rc;

use super::{MOST_BYTES, push};
use crate::fnv::{Sum, fnv};
use crate::store::{Bytes, Layer, Store};

/// The type and the version of the file.
const HEAD: &[u8] = b"remco keys 2\n";
/// The length of the time after it, with its own sum.
const TIME: usize = 16;

/// The offset of the time. It can be replaced in place: 16 bytes this near to the beginning are never torn.
pub const TIME_AT: usize = HEAD.len();
/// The offset of the keys. The bytes from here on are equal for equal keys of one origin.
pub const KEYS_AT: usize = HEAD.len() + TIME;

/// Why a file cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unusable {
    /// It is torn or changed, or has another type or version.
    Damaged,
    /// Its keys were read with other options.
    Foreign,
}

/// The keys are more than [`MOST_BYTES`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooMany;

/// The beginning of a file. `written`: in seconds since 1970.
pub fn head(written: i64) -> Vec<u8> {
    [HEAD, &time(written)].concat()
}

/// The time of a file, for [`TIME_AT`]. `written`: in seconds since 1970.
pub fn time(written: i64) -> [u8; TIME] {
    let seconds = written.to_le_bytes();
    let mut time = [0; TIME];
    time[..8].copy_from_slice(&seconds);
    time[8..].copy_from_slice(&fnv(&seconds).to_le_bytes());
    time
}

/// Encodes the keys of all layers in pieces.
#[derive(Debug)]
pub struct Encoder {
    store: Rc<Store>,
    layers: usize,
    next: Next,
    sum: Sum,
    length: usize,
}

/// The kind of the next bytes.
#[derive(Debug)]
enum Next {
    Origin(u64),
    /// The number of pairs in a layer.
    Count(usize),
    /// The pairs of a layer after a key.
    Pairs(usize, Option<Bytes>),
    Sum,
    End,
}

impl Encoder {
    /// Encodes the bytes after the [`head`].
    pub fn new(origin: u64, store: Rc<Store>, layers: usize) -> Encoder {
        let mut sum = Sum::new();
        sum.add(HEAD);
        Encoder { store, layers, next: Next::Origin(origin), sum, length: HEAD.len() + TIME }
    }

    /// The next bytes: slightly more than `budget`, or all remaining ones. Empty: there are no more.
    ///
    /// # Errors
    /// The keys are too many for a file.
    pub fn piece(&mut self, budget: usize) -> Result<Vec<u8>, TooMany> {
        let mut piece = Vec::with_capacity(budget + budget / 4);
        while piece.len() < budget && !matches!(self.next, Next::Sum | Next::End) {
            self.extend(&mut piece, budget)?;
        }
        self.sum.add(&piece);
        self.length += piece.len();
        if matches!(self.next, Next::Sum) {
            self.next = Next::End;
            piece.extend(self.sum.value().to_le_bytes());
        }
        Ok(piece)
    }

    fn extend(&mut self, piece: &mut Vec<u8>, budget: usize) -> Result<(), TooMany> {
        let count = |n: usize| u32::try_from(n).map(u32::to_le_bytes).map_err(|_| TooMany);
        let from = |layer: usize| if layer < self.layers { Next::Count(layer) } else { Next::Sum };
        self.next = match &self.next {
            Next::Origin(origin) => {
                piece.extend(origin.to_le_bytes());
                piece.extend(count(self.layers)?);
                from(0)
            }
            Next::Count(layer) => {
                piece.extend(count(self.store.layer(*layer).len())?);
                Next::Pairs(*layer, None)
            }
            Next::Pairs(layer, after) => {
                let after = after.as_deref().map_or(Bound::Unbounded, Bound::Excluded);
                let mut pairs = self.store.layer(*layer).range::<[u8], _>((after, Bound::Unbounded));
                loop {
                    let Some((key, value)) = pairs.next() else { break from(layer + 1) };
                    if self.length + piece.len() + key.len() + value.len() + 16 > MOST_BYTES {
                        return Err(TooMany);
                    }
                    push(key, piece);
                    push(value, piece);
                    if piece.len() >= budget {
                        break Next::Pairs(*layer, Some(Rc::clone(key)));
                    }
                }
            }
            Next::Sum | Next::End => return Ok(()),
        };
        Ok(())
    }
}

/// Decodes the layers of a file, one for each backend, and the time of their update, in seconds since 1970.
///
/// # Errors
/// The file is damaged, or its keys are of another origin.
pub fn decode(origin: u64, layers: usize, file: &[u8]) -> Result<(Vec<Layer>, i64), Unusable> {
    let (written, body) = unsealed(file).ok_or(Unusable::Damaged)?;
    let mut fields = super::Fields(body);
    let is_ours = fields.number().ok_or(Unusable::Damaged)? == origin;
    let count = fields.length().ok_or(Unusable::Damaged)?;
    if !is_ours || count != layers {
        return Err(Unusable::Foreign);
    }
    let mut layer = || -> Option<Layer> {
        let count = fields.length()?;
        let pair = |_| Some((Bytes::from(fields.bytes()?), Bytes::from(fields.bytes()?)));
        // Building a tree from sorted pairs is faster than inserting them one by one.
        (0..count).map(pair).collect()
    };
    let layers: Option<Vec<Layer>> = (0..count).map(|_| layer()).collect();
    Ok((layers.filter(|_| fields.is_empty()).ok_or(Unusable::Damaged)?, written))
}

/// The time and the content of a file; `None`: it is damaged, or has another type or version.
fn unsealed(file: &[u8]) -> Option<(i64, &[u8])> {
    let (seconds, rest) = file.strip_prefix(HEAD)?.split_first_chunk::<8>()?;
    let (sum_of_time, rest) = rest.split_first_chunk::<8>()?;
    let (body, sum) = rest.split_last_chunk::<8>()?;
    let mut of_keys = Sum::new();
    of_keys.add(HEAD);
    of_keys.add(body);
    let is_whole = of_keys.value() == u64::from_le_bytes(*sum) && fnv(seconds) == u64::from_le_bytes(*sum_of_time);
    is_whole.then_some((i64::from_le_bytes(*seconds), body))
}

#[cfg(test)]
mod tests {
    use super::super::check_damage;
    use super::*;

    fn store(layers: &[&[(&str, &str)]]) -> Store {
        let mut store = Store::new(layers.len());
        for (number, layer) in layers.iter().enumerate() {
            let pair = |(key, value): &(&str, &str)| (Bytes::from(key.as_bytes()), Bytes::from(value.as_bytes()));
            store.replace(number, layer.iter().map(pair).collect());
        }
        store
    }

    /// A whole file, in pieces of this size.
    fn encode(origin: u64, store: Store, layers: usize, budget: usize) -> Result<Vec<u8>, TooMany> {
        let mut encoder = Encoder::new(origin, Rc::new(store), layers);
        let mut file = head(77);
        loop {
            match encoder.piece(budget)? {
                piece if piece.is_empty() => return Ok(file),
                piece => file.extend(piece),
            }
        }
    }

    #[test]
    fn keys_come_back_as_they_were_whatever_the_pieces() {
        let cases: [&[&[(&str, &str)]]; 5] = [
            &[],
            &[&[]],
            &[&[("/a", "1"), ("/b", "")], &[]],
            &[&[("/a", "\0\u{ff}\n")], &[("/a", "2")]],
            &[&[("/a", "1"), ("/b", "22"), ("/c", "333"), ("/d", "")], &[], &[("/e", "5"), ("/f", "6")]],
        ];
        for layers in cases {
            let expected: Vec<Layer> = (0..layers.len()).map(|layer| store(layers).layer(layer).clone()).collect();
            let whole = encode(7, store(layers), layers.len(), 1 << 20).expect("it is small");
            assert_eq!(decode(7, layers.len(), &whole), Ok((expected, 77)));
            for budget in 1..40 {
                assert_eq!(encode(7, store(layers), layers.len(), budget), Ok(whole.clone()), "{budget}");
            }
        }
    }

    /// The pieces of 100,000 keys are near to the budget, and so is the time that each takes.
    #[test]
    fn no_piece_is_much_longer_than_the_budget() {
        let pair = |n: usize| (Bytes::from(format!("/key/{n}").as_bytes()), Bytes::from(&b"value"[..]));
        let mut store = Store::new(1);
        store.replace(0, (0..10_000).map(pair).collect());
        let mut encoder = Encoder::new(7, Rc::new(store), 1);
        let mut pieces = 0;
        while let Ok(piece) = encoder.piece(1000)
            && !piece.is_empty()
        {
            assert!(piece.len() <= 1040, "{}", piece.len());
            pieces += 1;
        }
        assert!(pieces > 200, "{pieces}");
    }

    #[test]
    fn keys_of_other_options_are_foreign() {
        let file = encode(7, store(&[&[("/a", "1")]]), 1, 100).expect("it is small");
        assert_eq!(decode(8, 1, &file), Err(Unusable::Foreign));
        assert_eq!(decode(7, 2, &file), Err(Unusable::Foreign));
    }

    #[test]
    fn a_new_time_leaves_the_keys_as_they_are() {
        let mut file = encode(7, store(&[&[("/a", "1")]]), 1, 100).expect("it is small");
        let (layers, _) = decode(7, 1, &file).expect("it is whole");
        for written in [0, -1, i64::MAX] {
            file[TIME_AT..KEYS_AT].copy_from_slice(&time(written));
            assert_eq!(decode(7, 1, &file), Ok((layers.clone(), written)));
        }
    }

    #[test]
    fn a_damaged_file_is_refused() {
        let file = encode(7, store(&[&[("/a", "one"), ("/b", "")], &[("/c", "3")]]), 2, 100).expect("it is small");
        check_damage(&file, |file| decode(7, 2, file).is_err());
        // Files with a valid sum, but with wrong counts and lengths.
        for at in KEYS_AT..file.len() - 8 {
            for value in [0, 1, 0x7f, 0x80, 0xff] {
                let mut forged = file[..file.len() - 8].to_vec();
                forged[at] = value;
                let sum = fnv(&[HEAD, &forged[KEYS_AT..]].concat());
                forged.extend(sum.to_le_bytes());
                let _ = decode(7, 2, &forged);
            }
        }
        let mut later = b"remco keys 3\n".to_vec();
        later.extend(&file[HEAD.len()..]);
        assert_eq!(decode(7, 2, &later), Err(Unusable::Damaged));
    }

    #[test]
    fn too_many_keys_are_not_kept() {
        let value = "x".repeat(MOST_BYTES);
        assert_eq!(encode(7, store(&[&[("/a", &value)]]), 1, 100), Err(TooMany));
    }
}
