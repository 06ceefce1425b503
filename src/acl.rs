//! Access control lists in the kernel's format: the attribute `system.posix_acl_access` (linux/posix_acl_xattr.h).
//! Parses, changes and formats them. Reads and writes no file.

/// An access control list of a file, with exactly one entry each for its owner, its owning group and all others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Acl {
    entries: Vec<Entry>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Entry {
    tag: u16,
    /// Three permission bits.
    allowed: u16,
    /// The number of the user or group, for entries that name one.
    id: u32,
}

const VERSION: u32 = 2;
const OWNER: u16 = 0x01;
const USER: u16 = 0x02;
const OWNING_GROUP: u16 = 0x04;
const GROUP: u16 = 0x08;
const MASK: u16 = 0x10;
const OTHERS: u16 = 0x20;

impl Acl {
    /// `None`: the bytes are no access control list of version 2.
    pub fn parse(bytes: &[u8]) -> Option<Acl> {
        let (version, rest) = bytes.split_first_chunk()?;
        let (entries, rest) = rest.as_chunks::<8>();
        if u32::from_le_bytes(*version) != VERSION || !rest.is_empty() {
            return None;
        }
        let entries: Vec<Entry> = entries.iter().map(Entry::parse).collect();
        let count = |tag| entries.iter().filter(|entry| entry.tag == tag).count();
        let known = |entry: &Entry| [OWNER, USER, OWNING_GROUP, GROUP, MASK, OTHERS].contains(&entry.tag);
        let named = count(USER) + count(GROUP) > 0;
        let whole = [OWNER, OWNING_GROUP, OTHERS].iter().all(|tag| count(*tag) == 1)
            && (if named { count(MASK) == 1 } else { count(MASK) <= 1 });
        let sound = whole && entries.iter().all(|entry| known(entry) && entry.allowed <= 0o7);
        sound.then_some(Acl { entries })
    }

    /// The form that [`Acl::parse`] reads.
    pub fn bytes(&self) -> Vec<u8> {
        let mut bytes = VERSION.to_le_bytes().to_vec();
        for Entry { tag, allowed, id } in &self.entries {
            bytes.extend(tag.to_le_bytes());
            bytes.extend(allowed.to_le_bytes());
            bytes.extend(id.to_le_bytes());
        }
        bytes
    }

    /// The list after chmod(2) with this mode: the group bits set the mask, if there is one.
    pub fn with_mode(mut self, mode: u32) -> Acl {
        let group = if self.allowed(MASK).is_some() { MASK } else { OWNING_GROUP };
        for (tag, shift) in [(OWNER, 6), (group, 3), (OTHERS, 0)] {
            for entry in self.entries.iter_mut().filter(|entry| entry.tag == tag) {
                entry.allowed = u16::try_from(mode >> shift & 0o7).expect("three bits fit");
            }
        }
        self
    }

    /// The permissions of the owning group, as three bits. The mask limits that entry too.
    pub fn owning_group(&self) -> u32 {
        let allowed = self.allowed(OWNING_GROUP).unwrap_or(0);
        u32::from(allowed & self.allowed(MASK).unwrap_or(0o7))
    }

    fn allowed(&self, tag: u16) -> Option<u16> {
        self.entries.iter().find(|entry| entry.tag == tag).map(|entry| entry.allowed)
    }
}

impl Entry {
    fn parse(bytes: &[u8; 8]) -> Entry {
        let [a, b, c, d, id @ ..] = *bytes;
        Entry { tag: u16::from_le_bytes([a, b]), allowed: u16::from_le_bytes([c, d]), id: u32::from_le_bytes(id) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Entries in the order of the kernel; entries without a number have -1.
    fn list(entries: &[(u16, u16, u32)]) -> Vec<u8> {
        let mut bytes = vec![2, 0, 0, 0];
        for (tag, allowed, id) in entries {
            bytes.extend(tag.to_le_bytes().into_iter().chain(allowed.to_le_bytes()).chain(id.to_le_bytes()));
        }
        bytes
    }

    const NONE: u32 = u32::MAX;
    const NAMED: [(u16, u16, u32); 5] =
        [(OWNER, 6, NONE), (USER, 4, 1234), (OWNING_GROUP, 0, NONE), (MASK, 4, NONE), (OTHERS, 0, NONE)];

    #[test]
    fn a_list_is_read_and_written_unchanged() {
        // The output of getfattr after `setfacl -m u:1234:r,g::-` on a file of mode 0600.
        let seen = b"\x02\0\0\0\x01\0\x06\0\xff\xff\xff\xff\x02\0\x04\0\xd2\x04\0\0\x04\0\0\0\xff\xff\xff\xff\
                     \x10\0\x04\0\xff\xff\xff\xff\x20\0\0\0\xff\xff\xff\xff";
        assert_eq!(list(&NAMED), seen);
        assert_eq!(Acl::parse(seen).expect("a list").bytes(), seen);
    }

    #[test]
    fn what_is_no_list_is_refused() {
        let whole = list(&NAMED);
        for cut in 0..whole.len() {
            assert_eq!(Acl::parse(&whole[..cut]), None, "{cut} bytes");
        }
        let with = |at: usize, byte: u8| {
            let mut bytes = whole.clone();
            bytes[at] = byte;
            Acl::parse(&bytes)
        };
        assert_eq!(with(0, 3), None, "another version");
        assert_eq!(with(4, 2), None, "no owner");
        assert_eq!(with(4, 0x40), None, "an unknown entry");
        assert_eq!(with(6, 8), None, "four permission bits");
        assert_eq!(with(28, 8), None, "a named user without a mask");
    }

    #[test]
    fn a_mode_changes_owner_mask_and_others() {
        let changed =
            |entries: &[(u16, u16, u32)], mode| Acl::parse(&list(entries)).expect("a list").with_mode(mode).bytes();
        let mut want = NAMED;
        (want[0].1, want[3].1, want[4].1) = (7, 6, 1);
        assert_eq!(changed(&NAMED, 0o4761), list(&want));
        let plain = [(OWNER, 6, NONE), (OWNING_GROUP, 4, NONE), (OTHERS, 4, NONE)];
        assert_eq!(changed(&plain, 0o751), list(&[(OWNER, 7, NONE), (OWNING_GROUP, 5, NONE), (OTHERS, 1, NONE)]));
    }

    #[test]
    fn the_owning_group_has_no_more_than_the_mask() {
        for (group, mask, want) in [(0, 7, 0), (6, 4, 4), (4, 6, 4), (7, 0, 0)] {
            let mut entries = NAMED;
            (entries[2].1, entries[3].1) = (group, mask);
            assert_eq!(Acl::parse(&list(&entries)).expect("a list").owning_group(), want, "{group} {mask}");
        }
    }
}
