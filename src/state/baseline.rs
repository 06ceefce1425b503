//! The number of keys in the last accepted update of a resource, with the origin of the keys. Contains no key, so
//! that it may be written where secrets may not.

use super::{sealed, unsealed};

/// The type and the version of the file.
const HEAD: &[u8] = b"remco guard 1\n";

/// Encodes the number as a file.
pub fn encode(origin: u64, keys: usize) -> Vec<u8> {
    sealed(HEAD, |file| {
        file.extend(origin.to_le_bytes());
        file.extend(u64::try_from(keys).unwrap_or(u64::MAX).to_le_bytes());
    })
}

/// Decodes a file: the origin and the number. `None`: it is damaged, or has another type or version.
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
