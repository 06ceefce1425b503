//! The number of keys that the last accepted update of a resource had, with the origin that it belongs to. Has no key
//! in it, so that it may also be written where the keys themselves may not.

use super::{sealed, unsealed};

/// What the file is, and its version.
const HEAD: &[u8] = b"remco guard 1\n";

/// The number as a file.
pub fn encode(origin: u64, keys: usize) -> Vec<u8> {
    sealed(HEAD, |file| {
        file.extend(origin.to_le_bytes());
        file.extend(u64::try_from(keys).unwrap_or(u64::MAX).to_le_bytes());
    })
}

/// What a file says: the origin and the number. `None`: it is damaged, or not of this kind and version.
pub fn decode(file: &[u8]) -> Option<(u64, usize)> {
    let mut fields = unsealed(HEAD, file)?;
    let (origin, keys) = (fields.number()?, fields.number()?);
    fields.is_empty().then_some(())?;
    Some((origin, usize::try_from(keys).ok()?))
}

#[cfg(test)]
mod tests {
    use super::super::check_damage;
    use super::*;

    #[test]
    fn a_number_comes_back_with_its_origin() {
        for keys in [0, 1, 100_000, usize::MAX] {
            assert_eq!(decode(&encode(7, keys)), Some((7, keys)));
        }
    }

    #[test]
    fn a_damaged_file_is_refused() {
        check_damage(&encode(7, 100_000), |file| decode(file) != Some((7, 100_000)));
    }
}
