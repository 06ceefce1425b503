//! Makes foreign texts fit for a line: cut at a number of bytes without breaking a character, and without control characters.
//! The caller sets the length and reports the cut.

/// The longest prefix of a text that has at most `most` bytes.
pub fn cut(text: &str, most: usize) -> &str {
    // A character has at most four bytes.
    let end = (0..=most.min(text.len())).rev().find(|end| text.is_char_boundary(*end)).unwrap_or(0);
    &text[..end]
}

/// The characters of a text, with blanks in the place of control characters.
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
}
