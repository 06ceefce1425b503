//! The last complete keys of a resource, one layer for each backend, with the origin that they belong to.
//! Knows no backend: the origin is a number.

use super::{MOST_BYTES, push, sealed, unsealed};
use crate::store::{Bytes, Layer, Store};

/// What the file is, and its version.
const HEAD: &[u8] = b"remco keys 1\n";

/// Why a file is of no use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Useless {
    /// It is torn or changed, or not of this kind and version.
    Damaged,
    /// Its keys were read with other options.
    Foreign,
}

/// The keys of all layers as a file. `None`: they are more than [`MOST_BYTES`].
pub fn encode(origin: u64, store: &Store, layers: usize) -> Option<Vec<u8>> {
    const OF_A_PAIR: usize = 8;
    let layers: Vec<&Layer> = (0..layers).map(|layer| store.layer(layer)).collect();
    let pairs = layers.iter().flat_map(|layer| layer.iter());
    let size: usize = pairs.map(|(key, value)| key.len() + value.len() + OF_A_PAIR).sum();
    // What is beside the pairs is less than this.
    if size + 64 + layers.len() * 4 > MOST_BYTES {
        return None;
    }
    Some(sealed(HEAD, |file| {
        file.reserve(size + 64 + layers.len() * 4);
        file.extend(origin.to_le_bytes());
        let count = |n: usize| u32::try_from(n).expect("every one takes bytes, and those are few").to_le_bytes();
        file.extend(count(layers.len()));
        for layer in layers {
            file.extend(count(layer.len()));
            for (key, value) in layer {
                push(key, file);
                push(value, file);
            }
        }
    }))
}

/// The layers of a file, one for each backend.
///
/// # Errors
/// The file is damaged, or its keys are of another origin.
pub fn decode(origin: u64, layers: usize, file: &[u8]) -> Result<Vec<Layer>, Useless> {
    let mut fields = unsealed(HEAD, file).ok_or(Useless::Damaged)?;
    let is_ours = fields.number().ok_or(Useless::Damaged)? == origin;
    let count = fields.length().ok_or(Useless::Damaged)?;
    if !is_ours || count != layers {
        return Err(Useless::Foreign);
    }
    let mut layer = || -> Option<Layer> {
        let mut layer = Layer::new();
        for _ in 0..fields.length()? {
            let (key, value) = (fields.bytes()?, fields.bytes()?);
            layer.insert(Bytes::from(key), Bytes::from(value));
        }
        Some(layer)
    };
    let layers: Option<Vec<Layer>> = (0..count).map(|_| layer()).collect();
    layers.filter(|_| fields.is_empty()).ok_or(Useless::Damaged)
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

    #[test]
    fn keys_come_back_as_they_were() {
        let cases: [&[&[(&str, &str)]]; 4] =
            [&[], &[&[]], &[&[("/a", "1"), ("/b", "")], &[]], &[&[("/a", "\0\u{ff}\n")], &[("/a", "2")]]];
        for layers in cases {
            let before = store(layers);
            let file = encode(7, &before, layers.len()).expect("it is small");
            let after = decode(7, layers.len(), &file).expect("it is whole");
            let expected: Vec<Layer> = (0..layers.len()).map(|layer| before.layer(layer).clone()).collect();
            assert_eq!(after, expected);
        }
    }

    #[test]
    fn keys_of_other_options_are_foreign() {
        let file = encode(7, &store(&[&[("/a", "1")]]), 1).expect("it is small");
        assert_eq!(decode(8, 1, &file), Err(Useless::Foreign));
        assert_eq!(decode(7, 2, &file), Err(Useless::Foreign));
    }

    #[test]
    fn a_damaged_file_is_refused() {
        let file = encode(7, &store(&[&[("/a", "one"), ("/b", "")], &[("/c", "3")]]), 2).expect("it is small");
        check_damage(&file, |file| decode(7, 2, file).is_err());
        let mut later = b"remco keys 2\n".to_vec();
        later.extend(&file[HEAD.len()..]);
        assert_eq!(decode(7, 2, &later), Err(Useless::Damaged));
    }

    #[test]
    fn too_many_keys_are_not_kept() {
        let value = "x".repeat(MOST_BYTES);
        assert_eq!(encode(7, &store(&[&[("/a", &value)]]), 1), None);
    }
}
