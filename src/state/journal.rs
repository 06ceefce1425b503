//! The journal of the files that are about to be renamed together, so that the next start can finish the renames
//! after a crash: for each file the destination, and the properties of its stage file. Touches no file.

use super::{push, sealed, unsealed};

/// The type and the version of the file.
const HEAD: &[u8] = b"remco journal 1\n";

/// The files of one update.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Journal {
    /// In the order of their renames.
    pub files: Vec<Entry>,
}

/// One file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The `dst` of its template, as the configuration spells it.
    pub dst: Vec<u8>,
    /// The stage file that will be renamed there.
    pub staged: Staged,
}

/// The properties by which a stage file is recognised.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Staged {
    /// Its name in the directory of the destination.
    pub name: Vec<u8>,
    /// In bytes.
    pub size: u64,
    /// The [`fnv`](crate::fnv) sum of its bytes. It detects a torn or changed file; owner and mode protect against an
    /// attacker.
    pub digest: u64,
    /// Permission bits with setuid, setgid and sticky.
    pub mode: u32,
    /// The owner.
    pub uid: u32,
    /// The group.
    pub gid: u32,
}

impl Journal {
    /// Encodes the journal as a file.
    pub fn encode(&self) -> Vec<u8> {
        sealed(HEAD, |file| {
            for Entry { dst, staged } in &self.files {
                push(dst, file);
                push(&staged.name, file);
                for number in [staged.size, staged.digest, staged.mode.into(), staged.uid.into(), staged.gid.into()] {
                    file.extend(number.to_le_bytes());
                }
            }
        })
    }

    /// Decodes a file. `None`: it is damaged, or has another type or version.
    pub fn decode(file: &[u8]) -> Option<Journal> {
        let mut fields = unsealed(HEAD, file)?;
        let mut files = Vec::new();
        while !fields.is_empty() {
            let (dst, name) = (fields.bytes()?.to_vec(), fields.bytes()?.to_vec());
            let (size, digest) = (fields.number()?, fields.number()?);
            let mut small = || u32::try_from(fields.number()?).ok();
            let (mode, uid, gid) = (small()?, small()?, small()?);
            files.push(Entry { dst, staged: Staged { name, size, digest, mode, uid, gid } });
        }
        Some(Journal { files })
    }
}

#[cfg(test)]
mod tests {
    use super::super::check_damage;
    use super::*;

    fn journal(names: &[&[u8]]) -> Journal {
        let entry = |name: &&[u8]| Entry {
            dst: [b"/etc/", *name].concat(),
            staged: Staged {
                name: [b".", *name, b"0123456789"].concat(),
                size: 1 << 40,
                digest: u64::MAX,
                mode: 0o640,
                uid: 12345,
                gid: u32::MAX - 1,
            },
        };
        Journal { files: names.iter().map(entry).collect() }
    }

    #[test]
    fn a_journal_comes_back_as_it_was() {
        for names in [&[][..], &[&b"a"[..]], &[b"a", b"\xff b", b""]] {
            assert_eq!(Journal::decode(&journal(names).encode()), Some(journal(names)));
        }
    }

    #[test]
    fn a_damaged_file_is_refused() {
        let whole = Some(journal(&[b"a", b"b"]));
        check_damage(&journal(&[b"a", b"b"]).encode(), |file| Journal::decode(file) != whole);
    }
}
