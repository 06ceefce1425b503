//! A domain name as in messages: labels with their lengths. Built from a user's text, which must be a host name, or
//! from a message, which may contain any bytes. Names can be compared and nothing else.

use std::fmt;

/// RFC 1035, 2.3.4: with all length bytes.
const LONGEST: usize = 255;
const LONGEST_LABEL: usize = 63;

/// An absolute name. Names are equal if they differ only in the case of ASCII letters.
#[derive(Clone)]
pub struct Name {
    /// Labels, each after a byte with its length, and a zero at the end.
    wire: Vec<u8>,
}

/// Why a text is not a host name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BadName {
    /// The text is empty, or only a dot.
    Empty,
    /// Two dots stand side by side, or the text begins with a dot.
    EmptyLabel,
    /// More than 63 bytes between two dots.
    LongLabel,
    /// More than 255 bytes as a message carries it.
    Long,
    /// The text has this character.
    Character(char),
}

impl Name {
    /// Parses a host name, with or without a dot at the end: letters, digits, `-`, and `_` as in the names of SRV
    /// records.
    pub fn new(text: &str) -> Result<Name, BadName> {
        let mut name = Name::root();
        for label in text.strip_suffix('.').unwrap_or(text).split('.') {
            if let Some(strange) = label.chars().find(|c| !u8::try_from(*c).is_ok_and(is_plain)) {
                return Err(BadName::Character(strange));
            }
            match label.len() {
                0 if text.is_empty() || text == "." => return Err(BadName::Empty),
                0 => return Err(BadName::EmptyLabel),
                1..=LONGEST_LABEL => name.push(label.as_bytes()).ok_or(BadName::Long)?,
                _ => return Err(BadName::LongLabel),
            }
        }
        Ok(name)
    }

    pub(super) fn root() -> Name {
        Name { wire: vec![0] }
    }

    /// Appends a label of any bytes; `None`: the name would be too long.
    pub(super) fn push(&mut self, label: &[u8]) -> Option<()> {
        let length = u8::try_from(label.len()).ok().filter(|length| usize::from(*length) <= LONGEST_LABEL)?;
        if self.wire.len() + 1 + label.len() > LONGEST {
            return None;
        }
        self.wire.pop();
        self.wire.push(length);
        self.wire.extend_from_slice(label);
        self.wire.push(0);
        Some(())
    }

    /// The form in messages, uncompressed.
    pub fn wire(&self) -> &[u8] {
        &self.wire
    }

    /// The name with a dot at the end, if it is a host name; the root is `.`. Configuration files must not get quotes,
    /// blanks and line breaks from a foreign answer.
    pub fn host(&self) -> Option<String> {
        let plain = self.labels().all(|label| label.iter().copied().all(is_plain));
        plain.then(|| self.to_string())
    }

    fn labels(&self) -> impl Iterator<Item = &[u8]> {
        let mut rest = &*self.wire;
        std::iter::from_fn(move || {
            let (length, after) = rest.split_first()?;
            let (label, next) = after.split_at_checked(usize::from(*length))?;
            rest = next;
            (!label.is_empty()).then_some(label)
        })
    }
}

fn is_plain(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_')
}

impl PartialEq for Name {
    fn eq(&self, other: &Name) -> bool {
        // Length bytes are smaller than letters, so this comparison does not change them.
        self.wire.eq_ignore_ascii_case(&other.wire)
    }
}

impl Eq for Name {}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.wire.len() == 1 {
            return f.write_str(".");
        }
        self.labels().try_for_each(|label| write!(f, "{}.", label.escape_ascii()))
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for BadName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            BadName::Empty => f.write_str("the name is empty"),
            BadName::EmptyLabel => f.write_str("not a host name: two dots without a letter between them"),
            BadName::LongLabel => f.write_str("name is too long: no part between dots has more than 63 letters"),
            BadName::Long => f.write_str("name is too long: no name has more than 253 letters"),
            BadName::Character(c) if c.is_ascii() => write!(f, "not a host name: it has a {c:?} in it"),
            BadName::Character(c) => write!(f, "not a host name: it has a {c:?} in it; write it in its xn-- form"),
        }
    }
}

impl std::error::Error for BadName {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_host_names() {
        let check = |text: &str, want: Result<&[u8], BadName>| {
            assert_eq!(Name::new(text).as_ref().map(Name::wire), want.as_ref().copied(), "{text}");
        };
        check("a", Ok(b"\x01a\0"));
        check("a.", Ok(b"\x01a\0"));
        check("Db-1.example.com", Ok(b"\x04Db-1\x07example\x03com\0"));
        check("_etcd._tcp.x.", Ok(b"\x05_etcd\x04_tcp\x01x\0"));
        check("", Err(BadName::Empty));
        check(".", Err(BadName::Empty));
        check("..", Err(BadName::EmptyLabel));
        check(".a", Err(BadName::EmptyLabel));
        check("a..b", Err(BadName::EmptyLabel));
        check("a..", Err(BadName::EmptyLabel));
        check("a b", Err(BadName::Character(' ')));
        check("a\0", Err(BadName::Character('\0')));
        check("bücher.example", Err(BadName::Character('ü')));
        check("[::1]", Err(BadName::Character('[')));
    }

    #[test]
    fn names_are_as_long_as_names_can_be() {
        let check = |text: &str, want: Option<BadName>| assert_eq!(Name::new(text).err(), want);
        check(&"x".repeat(63), None);
        check(&"x".repeat(64), Some(BadName::LongLabel));
        let long = format!("{0}.{0}.{0}.{1}", "x".repeat(63), "y".repeat(61));
        assert_eq!(long.len(), 253);
        check(&long, None);
        check(&format!("{long}."), None);
        check(&format!("{long}y"), Some(BadName::Long));
        check(&"a.".repeat(127), None);
        check(&"a.".repeat(128), Some(BadName::Long));
        check(&"a.".repeat(100_000), Some(BadName::Long));
    }

    #[test]
    fn only_case_may_differ() {
        let name = |text| Name::new(text).unwrap();
        assert_eq!(name("Example.COM"), name("eXample.com."));
        assert_ne!(name("a.bc"), name("ab.c"));
        assert_ne!(name("a"), name("a.a"));
    }

    #[test]
    fn only_plain_names_become_text() {
        let check = |labels: &[&[u8]], host: Option<&str>, shown: &str| {
            let mut name = Name::root();
            labels.iter().for_each(|label| name.push(label).unwrap());
            assert_eq!((name.host().as_deref(), &*name.to_string()), (host, shown));
        };
        check(&[b"db", b"x"], Some("db.x."), "db.x.");
        check(&[], Some("."), ".");
        check(&[b"a b"], None, "a b.");
        check(&[b"a\n", b"\xff"], None, "a\\n.\\xff.");
        assert_eq!(Name::root().push(&[b'a'; 64]), None);
    }

    #[test]
    fn faults_have_words() {
        let check = |text: &str, want: &str| assert_eq!(Name::new(text).unwrap_err().to_string(), want);
        check("", "the name is empty");
        check("a..b", "not a host name: two dots without a letter between them");
        check("a b", "not a host name: it has a ' ' in it");
        check("ü", "not a host name: it has a 'ü' in it; write it in its xn-- form");
    }
}
