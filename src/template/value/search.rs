//! Finds and replaces a part in a text, both any bytes, always in linear time (Knuth, Morris and Pratt). Patterns are
//! not here.

use crate::template::value::Value;
use crate::template::value::bounded::Text;
use crate::template::value::meter::Meter;
use crate::template::value::runes;

/// The first position of a part.
///
/// # Errors
/// The render is over. The bytes of both texts are charged here.
pub fn find(meter: &Meter, text: &[u8], part: &[u8]) -> Result<Option<usize>, String> {
    meter.charge(part.len())?;
    if part.is_empty() {
        return Ok(Some(0));
    }
    let found = matches(meter, text, part).next();
    // Charges the rest, and distinguishes the end of the text from the end of the render.
    meter.charge(0)?;
    Ok(found)
}

/// The positions of a non-empty part, without overlaps. The read bytes are charged. If the render is over, the
/// iteration ends and the caller's next charge fails.
pub fn matches<'a>(meter: &'a Meter, text: &'a [u8], part: &'a [u8]) -> impl Iterator<Item = usize> + 'a {
    /// The number of bytes that are charged at a time.
    const CHUNK: usize = 4096;
    let borders = borders(part);
    let mut matched = 0;
    let goes_on = move |(at, _): &(usize, &u8)| at % CHUNK != 0 || meter.charge(CHUNK.min(text.len() - at)).is_ok();
    text.iter().enumerate().take_while(goes_on).filter_map(move |(at, byte)| {
        while matched > 0 && part[matched] != *byte {
            matched = borders[matched - 1];
        }
        if part.get(matched) == Some(byte) {
            matched += 1;
        }
        if matched < part.len() || part.is_empty() {
            return None;
        }
        matched = 0;
        Some(at + 1 - part.len())
    })
}

/// A text with a part replaced at most `count` times. The empty part is before each character and at the end
/// (Go's strings.Replace).
pub fn replace(meter: &Meter, text: &[u8], part: &[u8], by: &[u8], count: usize) -> Result<Value, String> {
    let mut out = Text::new(meter);
    let mut done = 0;
    let mut replace = |at: usize| {
        out.push(&text[done..at])?;
        done = at + part.len();
        out.push(by)
    };
    if part.is_empty() {
        runes::starts(text).chain([text.len()]).take(count).try_for_each(&mut replace)?;
    } else {
        matches(meter, text, part).take(count).try_for_each(&mut replace)?;
    }
    out.push(&text[done..])?;
    Ok(out.into_value())
}

/// For each prefix of the part: the length of its longest proper prefix that is also its suffix.
fn borders(part: &[u8]) -> Vec<usize> {
    let mut borders = vec![0; part.len()];
    let mut length = 0;
    for at in 1..part.len() {
        while length > 0 && part[length] != part[at] {
            length = borders[length - 1];
        }
        if part[length] == part[at] {
            length += 1;
        }
        borders[at] = length;
    }
    borders
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::template::fixture::{small, usual};

    fn find(text: &[u8], part: &[u8]) -> Option<usize> {
        super::find(&usual(), text, part).unwrap()
    }

    fn check(text: &str, part: &str, expected: &[usize]) {
        assert_eq!(
            matches(&usual(), text.as_bytes(), part.as_bytes()).collect::<Vec<_>>(),
            expected,
            "{part} in {text}"
        );
    }

    #[test]
    fn matches_do_not_overlap() {
        check("aaaaa", "aa", &[0, 2]);
        check("banana", "an", &[1, 3]);
        check("banana", "ana", &[1]);
        check("a-b-c", "-", &[1, 3]);
        check("abc", "x", &[]);
        check("abc", "abcd", &[]);
        check("abc", "", &[]);
        check("", "a", &[]);
        check("aabaabaaab", "aabaaa", &[3]);
    }

    #[test]
    fn the_empty_part_is_everywhere() {
        assert_eq!(find(b"abc", b""), Some(0));
        assert_eq!(find(b"", b""), Some(0));
        assert_eq!(find(b"abc", b"c"), Some(2));
        assert_eq!(find(b"\xff\x00", b"\x00"), Some(1));
    }

    #[test]
    fn replacing_follows_go() {
        let check = |text: &str, part: &str, by: &str, count: usize, expected: &str| {
            let replaced = replace(&usual(), text.as_bytes(), part.as_bytes(), by.as_bytes(), count).unwrap();
            assert_eq!(String::from_utf8_lossy(&replaced.text()), expected);
        };
        check("svc-eu-west", "-", "_", usize::MAX, "svc_eu_west");
        check("svc-eu-west", "-", "_", 0, "svc-eu-west");
        check("svc-eu-west", "-", "_", 1, "svc_eu-west");
        check("svc-eu-west", "-", "", 99, "svceuwest");
        check("aaaaa", "aa", "b", usize::MAX, "bba");
        check("abc", "", ".", usize::MAX, ".a.b.c.");
        check("abc", "", ".", 2, ".a.bc");
        check("né", "", ".", usize::MAX, ".n.é.");
        check("", "", "x", usize::MAX, "x");
        assert!(replace(&small(10), b"aaaa", b"a", b"bbb", usize::MAX).is_err());
    }

    #[test]
    fn the_worst_case_is_linear() {
        let text = vec![b'a'; 1 << 20];
        let mut part = vec![b'a'; 1 << 19];
        part.push(b'b');
        assert_eq!(find(&text, &part), None);
    }
}
