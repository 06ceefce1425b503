//! FNV-1a with 64 bits: detects damage and changed options, and makes stable names. Every build has the same short
//! function; the hash functions of std may change with a release, and only builds with TLS have those of ring. Gives no
//! protection against an attacker.

/// The hash of bytes that arrive piece by piece.
#[derive(Clone, Copy, Debug)]
pub struct Sum(u64);

impl Sum {
    /// The hash of no bytes.
    pub fn new() -> Sum {
        Sum(0xcbf2_9ce4_8422_2325)
    }

    /// Adds the next bytes.
    pub fn add(&mut self, bytes: &[u8]) {
        const PRIME: u64 = 0x0100_0000_01b3;
        self.0 = bytes.iter().fold(self.0, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(PRIME));
    }

    /// The hash of all bytes so far.
    pub fn value(self) -> u64 {
        self.0
    }
}

/// The hash of bytes.
pub fn fnv(bytes: &[u8]) -> u64 {
    let mut sum = Sum::new();
    sum.add(bytes);
    sum.value()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sum_does_not_depend_on_the_pieces() {
        let of = |pieces: &[&[u8]]| {
            let mut sum = Sum::new();
            pieces.iter().for_each(|piece| sum.add(piece));
            sum.value()
        };
        assert_eq!(of(&[b"one", b"", b"two"]), of(&[b"onetwo"]));
        assert_ne!(of(&[b"one"]), of(&[b"onf"]));
    }
}
