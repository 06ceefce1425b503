//! Shortens foreign texts for a line: cuts them at a number of bytes between two characters, and replaces control
//! characters. The caller sets the length and reports the cut.

/// The longest prefix of a text that has at most `most` bytes.
pub fn cut(text: &str, most: usize) -> &str {
    // A character has at most four bytes.
    let end = (0..=most.min(text.len())).rev().find(|end| text.is_char_boundary(*end)).unwrap_or(0);
    &text[..end]
}

/// The number of bytes of a key that a message shows.
const KEY: usize = 200;

/// A key, a path or a name for a message: on one line; a long one is cut and ends with dots.
pub fn key(bytes: &[u8]) -> String {
    // Decodes only the part that is shown.
    let beginning = &bytes[..bytes.len().min(KEY + 1)];
    let text: String =
        String::from_utf8_lossy(beginning).chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect();
    if bytes.len() <= KEY { text } else { format!("{}...", cut(&text, KEY)) }
}

/// The characters of a text, with blanks instead of control characters.
pub fn without_controls(text: &str) -> impl Iterator<Item = char> {
    text.chars().map(|c| if c.is_control() { ' ' } else { c })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn characters_stay_whole() {
        let check = |text, most, expected| assert_eq!(cut(text, most), expected, "{text} {most}");
        check("", 0, "");
        check("", 5, "");
        check("abc", 2, "ab");
        check("abc", 3, "abc");
        check("aä", 2, "a");
        check("aä", 3, "aä");
        check("😀", 3, "");
        check("😀", usize::MAX, "😀");
    }

    #[test]
    fn keys_are_short_and_on_one_line() {
        assert_eq!(key(b"/a\n\xff/\xc3\xa4"), "/a\u{fffd}\u{fffd}/\u{e4}");
        assert_eq!(key(&b"/a".repeat(100)), "/a".repeat(100));
        assert_eq!(key(&b"/a".repeat(9999)), format!("{}...", "/a".repeat(100)));
        assert_eq!(key("\u{e4}".repeat(101).as_bytes()), format!("{}...", "\u{e4}".repeat(100)));
        // Each byte that is not UTF-8 becomes a character of three bytes.
        assert!(key(&[0xff; 9999]).len() <= KEY + 3);
    }
}
