//! The credentials file of NATS: the user's JWT and the seed of its key (NKEY). Reads the text of the file. Opens no
//! file and signs nothing.

use crate::config::Secret;

/// The content of a credentials file.
pub struct Creds {
    /// The token (JWT) that identifies the user.
    pub jwt: Secret,
    /// The private key that authenticates the user.
    pub seed: Seed,
}

/// The seed of an Ed25519 key, which no `Debug` shows.
pub struct Seed {
    /// The seed as it is in the file.
    pub text: Secret,
    /// The bytes of the key.
    pub key: [u8; 32],
}

/// A seed of 32 bytes, two bytes in front and a checksum of two, in base32.
const SEED_LENGTH: usize = 58;

/// The kind of a seed, in its first five bits.
const KIND_SEED: u8 = 18;
/// The kind of a user, in the next eight bits.
const KIND_USER: u8 = 20 << 3;

impl Creds {
    /// Reads the text of a credentials file.
    ///
    /// # Errors
    /// A block is missing, or the seed is invalid. The text of the error contains no secret.
    pub fn of(text: &str) -> Result<Creds, &'static str> {
        let mut blocks = text.lines().map(str::trim).peekable();
        let mut block = || {
            while let Some(line) = blocks.next() {
                let is_frame = line.starts_with("---");
                if is_frame && let Some(content) = blocks.peek().filter(|next| is_content(next)) {
                    return Some((*content).to_owned());
                }
            }
            None
        };
        let jwt = block().ok_or("it has no block with a user JWT")?;
        let text = block().ok_or("it has no block with the seed of a user NKEY")?;
        let key = seed(&text).ok_or("the seed in it is not that of a user NKEY")?;
        Ok(Creds { jwt: Secret::new(jwt), seed: Seed { text: Secret::new(text), key } })
    }
}

fn is_content(line: &str) -> bool {
    !line.starts_with("---") && !line.is_empty() && line.bytes().all(|b| b.is_ascii_graphic())
}

/// The key of a user's seed; `None`: the seed is invalid.
fn seed(text: &str) -> Option<[u8; 32]> {
    let bytes = base32(text).filter(|_| text.len() == SEED_LENGTH)?;
    let (content, sum) = bytes.split_at_checked(34)?;
    let is_user = content[0] >> 3 == KIND_SEED && content[0] << 5 | content[1] >> 3 == KIND_USER;
    (is_user && crc16(content).to_le_bytes() == sum).then_some(())?;
    content[2..].try_into().ok()
}

/// Base32 of RFC 4648 without padding.
fn base32(text: &str) -> Option<Vec<u8>> {
    let (mut bytes, mut bits, mut count) = (Vec::new(), 0u32, 0);
    for c in text.bytes() {
        let value = match c {
            b'A'..=b'Z' => c - b'A',
            b'2'..=b'7' => c - b'2' + 26,
            _ => return None,
        };
        bits = (bits << 5 | u32::from(value)) & 0xfff;
        count += 5;
        if count >= 8 {
            count -= 8;
            bytes.push(u8::try_from(bits >> count & 0xff).ok()?);
        }
    }
    Some(bytes)
}

/// The checksum of NKEYs (CRC-16/XMODEM).
fn crc16(bytes: &[u8]) -> u16 {
    bytes.iter().fold(0, |sum, byte| {
        (0..8).fold(sum ^ u16::from(*byte) << 8, |sum, _| if sum & 0x8000 == 0 { sum << 1 } else { sum << 1 ^ 0x1021 })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Made for this test by the rules of NKEYs, from the bytes 0 to 31.
    const SEED: &str = "SUAAAAICAMCAKBQHBAEQUCYMBUHA6EARCIJRIFIWC4MBSGQ3DQOR4H776Y";

    fn file(jwt: &str, seed: &str) -> String {
        format!(
            "-----BEGIN NATS USER JWT-----\n{jwt}\n------END NATS USER JWT------\n\n************ IMPORTANT *******\n\
             NKEY Seed printed below.\n\n-----BEGIN USER NKEY SEED-----\r\n{seed}\r\n------END USER NKEY SEED------\n"
        )
    }

    #[test]
    fn a_file_has_a_token_and_a_seed() {
        let creds = Creds::of(&file("ey.a-b.c_d", SEED)).ok().unwrap();
        assert_eq!((creds.jwt.reveal(), creds.seed.text.reveal()), ("ey.a-b.c_d", SEED));
        assert_eq!(creds.seed.key.to_vec(), (0..32).collect::<Vec<u8>>());
    }

    #[test]
    fn what_is_missing_or_wrong_is_named() {
        let check = |text: &str, want: &str| assert_eq!(Creds::of(text).err(), Some(want));
        check("", "it has no block with a user JWT");
        check("SUAM\n", "it has no block with a user JWT");
        check("---\nx\n---\n", "it has no block with the seed of a user NKEY");
        let wrong = "the seed in it is not that of a user NKEY";
        check(&file("x", ""), "it has no block with the seed of a user NKEY");
        check(&file("x", &SEED[1..]), wrong);
        check(&file("x", &SEED.to_lowercase()), wrong);
        check(&file("x", &SEED.replacen("AICAM", "AICAN", 1)), wrong);
        // The seed of an account.
        check(&file("x", &format!("SA{}", &SEED[2..])), wrong);
    }

    #[test]
    fn the_checksum_is_the_one_of_nkeys() {
        // The check value that catalogues of checksums give for CRC-16/XMODEM.
        assert_eq!(crc16(b"123456789"), 0x31c3);
        assert_eq!(base32("MZXW6YTBOI").as_deref(), Some(&b"foobar"[..]));
    }
}
