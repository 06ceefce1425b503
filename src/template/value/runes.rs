//! Texts of any bytes as sequences of characters. A byte that is not part of valid UTF-8 is one character of its own,
//! as in Go, and is never replaced or lost.

/// The characters of a text, each as its bytes.
pub fn runes(text: &[u8]) -> Runes<'_> {
    Runes { rest: text }
}

/// The iterator of [`runes`].
pub struct Runes<'a> {
    rest: &'a [u8],
}

impl<'a> Iterator for Runes<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        let (rune, rest) = self.rest.split_at_checked(width(self.rest)?)?;
        self.rest = rest;
        Some(rune)
    }
}

/// The position of each character.
pub fn starts(text: &[u8]) -> impl Iterator<Item = usize> + '_ {
    runes(text).scan(0, |next, rune| {
        let start = *next;
        *next += rune.len();
        Some(start)
    })
}

/// The number of characters of a text.
pub fn count(text: &[u8]) -> usize {
    // The standard library counts valid text many times as fast as [`runes`].
    pieces(text).map(count_piece).sum()
}

fn count_piece(piece: &[u8]) -> usize {
    str::from_utf8(piece).map_or_else(|_| runes(piece).count(), |text| text.chars().count())
}

/// Splits a text into pieces at the boundaries of characters.
pub fn pieces(text: &[u8]) -> impl Iterator<Item = &[u8]> {
    const LENGTH: usize = 4096;
    let mut rest = text;
    std::iter::from_fn(move || {
        let mut end = rest.len().min(LENGTH);
        // A character has at most three continuation bytes. In a longer run, none of them belongs to a character.
        let back = rest[..end].iter().rev().take(3).take_while(|byte| is_continued(**byte)).count();
        if rest.get(end).is_some_and(|byte| is_continued(*byte)) && back < 3 {
            end -= back + 1;
        }
        let (piece, after) = rest.split_at(end);
        rest = after;
        (!piece.is_empty()).then_some(piece)
    })
}

/// Whether a byte is a continuation byte.
fn is_continued(byte: u8) -> bool {
    byte & 0b1100_0000 == 0b1000_0000
}

/// The position of the n-th character, counted from 0; the end of the text if it has fewer.
fn start_of(text: &[u8], number: usize) -> usize {
    let mut start = 0;
    let mut left = number;
    for piece in pieces(text) {
        let characters = count_piece(piece);
        if left < characters {
            return start + runes(piece).take(left).map(<[u8]>::len).sum::<usize>();
        }
        left -= characters;
        start += piece.len();
    }
    start
}

/// The n-th character, counted from 0.
pub fn nth(text: &[u8], number: usize) -> Option<&[u8]> {
    runes(&text[start_of(text, number)..]).next()
}

/// The last character.
pub fn last(text: &[u8]) -> Option<&[u8]> {
    // The longest valid sequence at the end; a byte that belongs to none is a character by itself.
    (1..=text.len().min(4))
        .rev()
        .map(|length| &text[text.len() - length..])
        .find(|rune| width(rune) == Some(rune.len()))
}

/// The character, if the bytes are valid.
pub fn decode(rune: &[u8]) -> Option<char> {
    std::str::from_utf8(rune).ok()?.chars().next()
}

/// The part of a text between two characters, both counted from 0. Both may be behind the end.
pub fn range(text: &[u8], from: usize, to: usize) -> &[u8] {
    let rest = &text[start_of(text, from)..];
    &rest[..start_of(rest, to.saturating_sub(from))]
}

/// The parts of a text between blanks (Go's strings.Fields).
pub fn words(text: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut at = 0;
    std::iter::from_fn(move || {
        at += blanks(&text[at..]);
        let start = at;
        // Blanks never begin with one of these bytes.
        at += text[at..].iter().take_while(|byte| byte.is_ascii_graphic()).count();
        at += runes(&text[at..]).take_while(|rune| !is_blank(rune)).map(<[u8]>::len).sum::<usize>();
        (start < at).then(|| &text[start..at])
    })
}

/// A text without leading and trailing blanks (Go's strings.TrimSpace).
pub fn trim(text: &[u8]) -> &[u8] {
    let mut rest = &text[blanks(text)..];
    while let Some(rune) = last(rest).filter(|rune| is_blank(rune)) {
        rest = &rest[..rest.len() - rune.len()];
    }
    rest
}

fn blanks(text: &[u8]) -> usize {
    runes(text).take_while(|rune| is_blank(rune)).map(<[u8]>::len).sum()
}

fn is_blank(rune: &[u8]) -> bool {
    match rune {
        [byte] => byte.is_ascii_whitespace() || *byte == 0x0b,
        _ => decode(rune).is_some_and(char::is_whitespace),
    }
}

/// The length in bytes of the first character.
fn width(text: &[u8]) -> Option<usize> {
    let expected = match text.first()? {
        0xC2..=0xDF => 2,
        0xE0..=0xEF => 3,
        0xF0..=0xF4 => 4,
        _ => return Some(1),
    };
    let whole = text.get(..expected).is_some_and(|rune| std::str::from_utf8(rune).is_ok());
    Some(if whole { expected } else { 1 })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &[u8], expected: &[&[u8]]) {
        assert_eq!(runes(text).collect::<Vec<_>>(), expected);
        assert_eq!(count(text), expected.len());
    }

    #[test]
    fn every_byte_belongs_to_one_character() {
        check(b"", &[]);
        check("aé€😀".as_bytes(), &[b"a", "é".as_bytes(), "€".as_bytes(), "😀".as_bytes()]);
        check(b"\xff\xc3", &[b"\xff", b"\xc3"]);
        check(b"\xe2\x82a", &[b"\xe2", b"\x82", b"a"]);
        // A surrogate and an overlong form are not UTF-8.
        check(b"\xed\xa0\x80", &[b"\xed", b"\xa0", b"\x80"]);
        check(b"\xc0\xaf", &[b"\xc0", b"\xaf"]);
    }

    #[test]
    fn ranges_count_characters() {
        let cases: [(usize, usize, &str); 7] =
            [(0, 2, "äö"), (1, 3, "öü"), (2, 99, "üß"), (9, 99, ""), (2, 2, ""), (3, 1, ""), (0, 0, "")];
        for (from, to, expected) in cases {
            assert_eq!(range("äöüß".as_bytes(), from, to), expected.as_bytes(), "{from}..{to}");
        }
    }

    #[test]
    fn blanks_separate_words() {
        let text = "  a\tb\u{a0}c\n\u{3000} d\u{85}";
        assert_eq!(words(text.as_bytes()).collect::<Vec<_>>(), [b"a", b"b", b"c", b"d"]);
        assert_eq!(words(b" \xff ").collect::<Vec<_>>(), [b"\xff"]);
        assert_eq!(words(b"").count() + words(b"  ").count(), 0);
        assert_eq!(trim(text.as_bytes()), "a\tb\u{a0}c\n\u{3000} d".as_bytes());
        assert_eq!(trim(b" \n"), b"");
    }

    #[test]
    fn only_valid_text_decodes() {
        assert_eq!(decode("é".as_bytes()), Some('é'));
        assert_eq!(decode(b"\xff"), None);
    }
}
