//! Counts the keys of a read and their decoded bytes against the limits of the backend: small entries take many times
//! their size on the wire in memory. Limits the depth of trees. Holds no keys.

use crate::config::ReadLimits;
use crate::count::count;
use crate::cut;

/// The depth limit of a path in a tree that is listed level by level.
const DEEPEST: usize = 256;

/// Checks the depth of a path in a tree that is listed level by level. Without a limit a server that lists every node
/// below itself would be followed until the other limits are reached, with memory and time that grow by the square of
/// the depth.
///
/// # Errors
/// The path is too deep.
pub fn check_depth(path: &[u8]) -> Result<(), String> {
    if path.iter().filter(|byte| **byte == b'/').count() <= DEEPEST {
        return Ok(());
    }
    Err(format!("`{}` has more than {DEEPEST} levels: the server lists a tree without an end", cut::key(path)))
}

/// The counts of a read.
#[derive(Clone, Copy, Debug)]
pub struct Tally {
    limits: ReadLimits,
    keys: usize,
    /// The bytes of keys and values.
    bytes: usize,
}

impl Tally {
    /// A tally without keys.
    pub fn new(limits: ReadLimits) -> Tally {
        Tally { limits, keys: 0, bytes: 0 }
    }

    /// Counts one key.
    ///
    /// # Errors
    /// A limit is exceeded. The text names the limit and how to raise it.
    pub fn add(&mut self, key: &[u8], value: &[u8]) -> Result<(), String> {
        self.keys += 1;
        self.bytes = self.bytes.saturating_add(key.len()).saturating_add(value.len());
        let ReadLimits { max_keys, max_decoded } = self.limits;
        if self.keys > max_keys {
            return Err(format!("more than {}: raise `max_keys` of the backend", count(max_keys, "key", "keys")));
        }
        if self.bytes > max_decoded {
            return Err(format!(
                "keys and values of more than {max_decoded} bytes: raise `max_decoded` of the backend"
            ));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tree_has_an_end() {
        assert_eq!(check_depth("/a".repeat(256).as_bytes()), Ok(()));
        let words =
            format!("`{}...` has more than 256 levels: the server lists a tree without an end", "/a".repeat(100));
        assert_eq!(check_depth("/a".repeat(257).as_bytes()), Err(words));
    }

    #[test]
    fn each_limit_is_named() {
        let check = |max_keys, max_decoded, want: Result<(), &str>| {
            let mut tally = Tally::new(ReadLimits { max_keys, max_decoded });
            let added = tally.add(b"/a", b"1").and_then(|()| tally.add(b"/b", b"22"));
            assert_eq!(added, want.map_err(|words| format!("{words} of the backend")));
        };
        check(2, 7, Ok(()));
        check(1, 7, Err("more than 1 key: raise `max_keys`"));
        check(2, 6, Err("keys and values of more than 6 bytes: raise `max_decoded`"));
    }
}
