//! What outlives the process, as bytes: the last keys of a resource, how many the guard has accepted, the pending
//! reloads, and the files that it is renaming. Encodes and decodes; all input may be damaged or foreign.
//! `host/state_dir.rs` reads and writes the files, and `daemon/unit/persistence.rs` decides when.

use crate::fnv::fnv;

pub mod baseline;
pub mod journal;
pub mod keys;
pub mod origin;
pub mod reloads;

/// The size limit of a file, in bytes. More keys are not saved, and a longer file is not read.
pub const MOST_BYTES: usize = 64 << 20;

/// Whether a file begins like a file of this module, of any version.
pub fn is_one(beginning: &[u8]) -> bool {
    ["keys", "guard", "reloads", "journal"]
        .iter()
        .any(|kind| beginning.starts_with(format!("remco {kind} ").as_bytes()))
}

/// Makes a file: type and version, content, and a sum over both.
fn sealed(head: &[u8], content: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut file = head.to_vec();
    content(&mut file);
    let sum = fnv(&file);
    file.extend(sum.to_le_bytes());
    file
}

/// The content of a file; `None`: it is damaged, or has another type or version.
fn unsealed<'a>(head: &[u8], file: &'a [u8]) -> Option<Fields<'a>> {
    let (body, sum) = file.split_last_chunk::<8>()?;
    (fnv(body) == u64::from_le_bytes(*sum)).then_some(())?;
    Some(Fields(body.strip_prefix(head)?))
}

/// Appends the length and the bytes.
fn push(bytes: &[u8], file: &mut Vec<u8>) {
    let length = u32::try_from(bytes.len()).expect("what is longer than MOST_BYTES is refused before");
    file.extend(length.to_le_bytes());
    file.extend(bytes);
}

/// The unread rest of a content.
struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    fn number(&mut self) -> Option<u64> {
        let (number, rest) = self.0.split_first_chunk::<8>()?;
        self.0 = rest;
        Some(u64::from_le_bytes(*number))
    }

    fn length(&mut self) -> Option<usize> {
        let (number, rest) = self.0.split_first_chunk::<4>()?;
        self.0 = rest;
        usize::try_from(u32::from_le_bytes(*number)).ok()
    }

    fn bytes(&mut self) -> Option<&'a [u8]> {
        let length = self.length()?;
        let (bytes, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(bytes)
    }

    fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// Files that are torn, changed or lengthened by one byte are refused; all other input is decoded without a panic.
#[cfg(test)]
fn check_damage(file: &[u8], is_refused: impl Fn(&[u8]) -> bool) {
    for end in 0..file.len() {
        assert!(is_refused(&file[..end]), "torn at {end}");
        let mut changed = file.to_vec();
        changed[end] ^= 0x40;
        assert!(is_refused(&changed), "changed at {end}");
        let mut longer = file.to_vec();
        longer.insert(end, 0);
        assert!(is_refused(&longer), "longer at {end}");
    }
    // Files with a valid sum, but with lengths beyond the file and foreign content.
    let body = &file[..file.len() - 8];
    for at in 0..body.len() {
        for value in [0, 1, 0x7f, 0x80, 0xff] {
            let mut forged = body.to_vec();
            forged[at] = value;
            let sum = fnv(&forged);
            forged.extend(sum.to_le_bytes());
            is_refused(&forged);
            let mut torn = body[..at].to_vec();
            let sum = fnv(&torn);
            torn.extend(sum.to_le_bytes());
            assert!(is_refused(&torn), "torn at {at}, with a sum");
        }
    }
}
