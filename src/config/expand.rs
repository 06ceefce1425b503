//! Expands environment variables in the raw bytes of a file, comments too, like Go's os.ExpandEnv, and also
//! `${NAME:-default}` and `${$}` (a dollar). Records the origin of every byte, and what has no value. Knows no TOML and
//! writes no message.

use std::ops::Range;

/// The bytes of a file after expansion.
pub(super) struct Expanded {
    pub bytes: Vec<u8>,
    /// The expanded `$...`, in order.
    pub substitutions: Vec<Substitution>,
    /// Whether the expansion stopped at [`LARGEST`] bytes.
    pub is_cut: bool,
}

/// A `$...` of the file.
pub(super) struct Substitution {
    /// The bytes of the replacement in `Expanded::bytes`.
    expanded: Range<usize>,
    /// The `$...` itself, in the file.
    pub written: Range<usize>,
    /// `None`: `${}` or an unclosed `${`, which are dropped.
    pub name: Option<Vec<u8>>,
    /// Whether there is a value: that of the variable or a default. Both may be empty.
    pub set: bool,
}

/// The largest result, in bytes. Bounds a file that uses a long variable many times.
const LARGEST: usize = 64 << 20;

/// Expands a whole file. `var` is the environment; an unknown variable becomes nothing.
///
/// Source: Go's `os.Expand` and `getShellName`. `$NAME` takes the longest run of `[A-Za-z0-9_]`; one of
/// `*#$@!?-0123456789` is a name by itself; `${...}` goes to the next `}`; a `$` before anything else stays.
pub(super) fn expand(written: &[u8], var: &dyn Fn(&[u8]) -> Option<Vec<u8>>) -> Expanded {
    let mut out = Expanded { bytes: Vec::with_capacity(written.len()), substitutions: Vec::new(), is_cut: false };
    // Searched once, because a file full of unclosed `${` would otherwise be read to its end for each of them.
    let last_brace = written.iter().rposition(|b| *b == b'}').unwrap_or(0);
    let mut at = 0;
    while at < written.len() {
        let dollar = written[at..].iter().position(|b| *b == b'$').map_or(written.len(), |n| at + n);
        out.bytes.extend_from_slice(&written[at..dollar]);
        at = dollar;
        let Some(next) = written.get(dollar + 1) else { break };
        let (name, end) = match *next {
            b'{' if dollar + 1 < last_brace => {
                let open = dollar + 2;
                let close = open + written[open..].iter().position(|b| *b == b'}').expect("a brace follows");
                ((close > open).then_some(open..close), close + 1)
            }
            b'{' => (None, dollar + 2),
            b'*' | b'#' | b'$' | b'@' | b'!' | b'?' | b'-' | b'0'..=b'9' => (Some(dollar + 1..dollar + 2), dollar + 2),
            _ => {
                let length = written[dollar + 1..].iter().take_while(|b| is_of_name(b)).count();
                if length == 0 {
                    out.bytes.push(b'$');
                    at = dollar + 1;
                    continue;
                }
                (Some(dollar + 1..dollar + 1 + length), dollar + 1 + length)
            }
        };
        let start = out.bytes.len();
        let (name, value) = match name.map(|text| &written[text]) {
            // `$$` already has a meaning: it is the variable `$`, which is empty.
            Some(b"$") if written[dollar..end].len() == 4 => (Some(b"$".to_vec()), Some(b"$".to_vec())),
            Some(text) => {
                let (name, default) = split_default(text);
                let value = var(name).filter(|value| default.is_none() || !value.is_empty());
                (Some(name.to_vec()), value.or_else(|| default.map(<[u8]>::to_vec)))
            }
            None => (None, None),
        };
        let set = value.is_some();
        out.bytes.extend(value.unwrap_or_default());
        let expanded = start..out.bytes.len();
        out.substitutions.push(Substitution { expanded, written: dollar..end, name, set });
        at = end;
        if out.bytes.len() > LARGEST {
            out.is_cut = true;
            return out;
        }
    }
    // A `$` at the very end.
    out.bytes.extend_from_slice(&written[at..]);
    out
}

/// Splits `NAME:-default`. The name must be valid, and the default must end on its line: after a forgotten `}`, half a
/// file would otherwise be the default.
fn split_default(text: &[u8]) -> (&[u8], Option<&[u8]>) {
    match text.windows(2).position(|pair| pair == b":-") {
        Some(colon) if is_name(&text[..colon]) && !text.contains(&b'\n') => (&text[..colon], Some(&text[colon + 2..])),
        _ => (text, None),
    }
}

/// Whether a text is a name behind a `$`: letters, digits and `_`.
pub(super) fn is_name(text: &[u8]) -> bool {
    !text.is_empty() && text.iter().all(is_of_name)
}

fn is_of_name(byte: &u8) -> bool {
    byte.is_ascii_alphanumeric() || *byte == b'_'
}

impl Substitution {
    /// The start of its value in the expanded bytes.
    pub fn start(&self) -> usize {
        self.expanded.start
    }
}

impl Expanded {
    /// The place of an expanded byte in the file; for a byte of a value, the place of its `$`.
    pub fn written(&self, at: usize) -> usize {
        match self.substitutions[..self.substitutions.partition_point(|one| one.expanded.start <= at)].last() {
            None => at,
            Some(one) if at < one.expanded.end => one.written.start,
            Some(one) => one.written.end + (at - one.expanded.end),
        }
    }

    /// The range of the file that became this range, with every `$...` that touches it.
    pub fn written_range(&self, range: Range<usize>) -> Range<usize> {
        let inside = self.inside(range.clone());
        let start = self.written(range.start);
        let end = if range.is_empty() { start } else { self.written(range.end - 1) + 1 };
        match (inside.first(), inside.last()) {
            (Some(first), Some(last)) => start.min(first.written.start)..end.max(last.written.end),
            _ => start..end,
        }
    }

    /// The `$...` whose values, also empty ones, are in this range.
    pub fn inside(&self, range: Range<usize>) -> &[Substitution] {
        let from = self.substitutions.partition_point(|one| {
            one.expanded.end < range.start || (one.expanded.end == range.start && !one.expanded.is_empty())
        });
        let to = self.substitutions.partition_point(|one| one.expanded.start < range.end.max(range.start + 1));
        &self.substitutions[from..to.max(from)]
    }

    /// The `$...` whose value has this byte, or whose missing value would be here.
    pub fn value_at(&self, at: usize) -> Option<&Substitution> {
        self.inside(at..at).first()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn var(name: &[u8]) -> Option<Vec<u8>> {
        match name {
            b"HOME" => Some(b"/root".to_vec()),
            b"A" => Some(b"aa".to_vec()),
            b"EMPTY" => Some(Vec::new()),
            b"a b" => Some(b"spaces".to_vec()),
            b"DOLLAR" => Some(b"$A ${A}".to_vec()),
            b"BYTES" => Some(vec![0xff]),
            _ => None,
        }
    }

    #[track_caller]
    fn check(written: &str, expected: &str) {
        let expanded = expand(written.as_bytes(), &var);
        assert_eq!(String::from_utf8_lossy(&expanded.bytes), expected, "{written}");
    }

    #[test]
    fn expands_names() {
        check("", "");
        check("nothing", "nothing");
        check("$HOME", "/root");
        check("${HOME}", "/root");
        check("x$HOME/y", "x/root/y");
        check("$HOMES", "");
        check("${HOME}S", "/rootS");
        check("$A$A${A}", "aaaaaa");
        check("# $A", "# aa");
        check("${a b}", "spaces");
        check("$UNKNOWN", "");
        check("ä$A", "äaa");
    }

    #[test]
    fn expands_a_value_once() {
        check("$DOLLAR", "$A ${A}");
    }

    /// Go's own table: os.ExpandEnv treats these as names of one character.
    #[test]
    fn takes_special_names() {
        check("$$x", "x");
        check("$*$#$@$!$?$-", "");
        check("$0$1$9", "");
        check("$10", "0");
        check("${*}x", "x");
    }

    #[test]
    fn leaves_a_dollar_that_names_nothing() {
        check("$(cmd)", "$(cmd)");
        check("$", "$");
        check("a$", "a$");
        check("$ A", "$ A");
        check("$\n", "$\n");
        check("\"$\"", "\"$\"");
        check("$%", "$%");
    }

    #[test]
    fn drops_malformed_braces() {
        check("a${}b", "ab");
        check("a${b", "ab");
        check("${", "");
        check("${ x } y", " y");
        check("${A\nb }x", "x");
        check("} ${ x", "}  x");
        check(&"${".repeat(1000), "");
    }

    #[test]
    fn takes_a_default() {
        check("${X:-d}", "d");
        check("${A:-d}", "aa");
        check("${EMPTY:-d}", "d");
        check("${X:-}", "");
        check("${X:-a:-b}", "a:-b");
        check("${X:-http://localhost:2379}", "http://localhost:2379");
        check("${X:-$A}", "$A");
        check("${X:-${A}}", "${A}");
        check("${X-d}", "");
        check("${1:-d}", "d");
    }

    #[test]
    fn a_default_stands_behind_a_name_on_one_line() {
        check("${:-d}", "");
        check("${a b:-d}", "");
        check("${X.Y:-d}", "");
        check("${X:-a\nb}c", "c");
        check("${HOME:-a\nb}c", "c");
    }

    #[test]
    fn a_dollar_in_braces_is_a_dollar() {
        check("pa${$}word", "pa$word");
        check("${$}${$}A", "$$A");
        check("${$}{A}", "${A}");
        check("$$x ${$$} ${$}", "x  $");
        check("${NONE:-$}2", "$2");
    }

    #[test]
    fn stops_at_a_size() {
        let long = |_: &[u8]| Some(vec![b'x'; 1 << 20]);
        let expanded = expand("$A".repeat(1000).as_bytes(), &long);
        assert!(expanded.is_cut && expanded.bytes.len() <= LARGEST + (1 << 20));
        assert!(!expand("$A".repeat(60).as_bytes(), &long).is_cut);
    }

    #[test]
    fn keeps_bytes() {
        assert_eq!(expand(b"\xfe$BYTES\xfd", &var).bytes, b"\xfe\xff\xfd");
    }

    #[test]
    fn remembers_where_bytes_came_from() {
        //                          0         1
        //                          0123456789012345678
        let expanded = expand(b"k = \"${A}b$X$HOME\"\n", &var);
        assert_eq!(expanded.bytes, b"k = \"aab/root\"\n");
        let check = |at, expected| assert_eq!(expanded.written(at), expected, "{at}");
        check(0, 0);
        check(4, 4);
        check(5, 5);
        check(6, 5);
        check(7, 9);
        check(8, 12);
        check(12, 12);
        check(13, 17);
        check(15, 19);
        assert_eq!(expanded.written_range(4..14), 4..18);
        assert_eq!(expanded.written_range(0..1), 0..1);
        assert_eq!(expanded.written_range(5..7), 5..9);
        assert_eq!(expanded.inside(4..14).len(), 3);
        assert_eq!(expanded.inside(0..4).len(), 0);
        assert_eq!(expanded.value_at(5).and_then(|one| one.name.clone()), Some(b"A".to_vec()));
        assert!(expanded.value_at(4).is_none());
        assert!(expanded.value_at(7).is_none());
        assert!(!expanded.value_at(8).expect("the undefined one").set);
    }
}
