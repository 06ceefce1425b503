//! Finds a part in a text, both any bytes, in time linear in the text whatever the two are
//! (Knuth, Morris and Pratt). What is done with the places found is not here.

/// Where a part first begins.
pub fn find(text: &[u8], part: &[u8]) -> Option<usize> {
    if part.is_empty() {
        return Some(0);
    }
    matches(text, part).next()
}

/// Where a part that is not empty begins, again and again, without overlaps.
pub fn matches<'a>(text: &'a [u8], part: &'a [u8]) -> impl Iterator<Item = usize> + 'a {
    let borders = borders(part);
    let mut matched = 0;
    text.iter().enumerate().filter_map(move |(at, byte)| {
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

/// For each beginning of the part: the length of the longest shorter beginning that it also ends with.
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

    fn check(text: &str, part: &str, expected: &[usize]) {
        assert_eq!(
            matches(text.as_bytes(), part.as_bytes()).collect::<Vec<_>>(),
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
    fn the_worst_case_is_linear() {
        let text = vec![b'a'; 1 << 20];
        let mut part = vec![b'a'; 1 << 19];
        part.push(b'b');
        assert_eq!(find(&text, &part), None);
    }
}
