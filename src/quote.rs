//! Quotes texts as Go's strconv.Quote does: characters that do not print are escaped. Does not quote for JSON, whose
//! escapes are different.

/// The text between two `mark`s, with every `mark` in it escaped. With `ascii` all characters that are not ASCII are
/// escaped too.
pub fn quote(text: &[u8], mark: char, ascii: bool) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push(mark);
    for chunk in text.utf8_chunks() {
        for c in chunk.valid().chars() {
            match c {
                _ if c == mark || c == '\\' => out.extend(['\\', c]),
                _ if printable(c) && (c.is_ascii() || !ascii) => out.push(c),
                '\x07' => out.push_str("\\a"),
                '\x08' => out.push_str("\\b"),
                '\x0c' => out.push_str("\\f"),
                '\n' => out.push_str("\\n"),
                '\r' => out.push_str("\\r"),
                '\t' => out.push_str("\\t"),
                '\x0b' => out.push_str("\\v"),
                '\0'..' ' | '\x7f' => out.push_str(&format!("\\x{:02x}", u32::from(c))),
                '\0'..'\u{10000}' => out.push_str(&format!("\\u{:04x}", u32::from(c))),
                _ => out.push_str(&format!("\\U{:08x}", u32::from(c))),
            }
        }
        chunk.invalid().iter().for_each(|byte| out.push_str(&format!("\\x{byte:02x}")));
    }
    out.push(mark);
    out
}

/// A text on one line: unchanged, or quoted if it has characters that do not print, or begins with a quote.
pub fn on_one_line(text: &[u8]) -> String {
    match str::from_utf8(text) {
        Ok(plain) if plain.chars().all(printable) && !plain.starts_with('"') => plain.to_owned(),
        Ok(_) | Err(_) => quote(text, '"', false),
    }
}

/// Whether a text can be put between backquotes unchanged.
pub fn can_backquote(text: &[u8]) -> bool {
    let plain = |c: char| (c >= ' ' || c == '\t') && !matches!(c, '`' | '\x7f' | '\u{feff}');
    str::from_utf8(text).is_ok_and(|text| text.chars().all(plain))
}

/// Go's unicode.IsPrint: letters, marks, numbers, punctuation, symbols and the blank.
pub fn printable(c: char) -> bool {
    if c.is_ascii() {
        return (' '..='~').contains(&c);
    }
    // Rust's Debug knows which characters print, but also escapes a mark at the beginning of a text.
    let mut text = String::from("x");
    text.push(c);
    text.escape_debug().nth(1) == Some(c)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_not_print_is_escaped() {
        let check = |text: &[u8], expected: &str| assert_eq!(quote(text, '"', false), expected);
        check("plain ünï€😀".as_bytes(), "\"plain ünï€😀\"");
        check(b"a\"b\\c'", r#""a\"b\\c'""#);
        check(b"\x07\x08\x0c\n\r\t\x0b\x00\x1f\x7f", r#""\a\b\f\n\r\t\v\x00\x1f\x7f""#);
        check("\u{a0}\u{ad}\u{200b}\u{e000}\u{10ffff}".as_bytes(), r#""\u00a0\u00ad\u200b\ue000\U0010ffff""#);
        check("e\u{301}".as_bytes(), "\"e\u{301}\"");
        check(b"\xff\xe2\x82", r#""\xff\xe2\x82""#);
        assert_eq!(quote("é€😀".as_bytes(), '"', true), r#""\u00e9\u20ac\U0001f600""#);
        assert_eq!(quote(b"'\"", '\'', false), r#"'\'"'"#);
    }

    #[test]
    fn backquotes_take_only_plain_text() {
        assert!(can_backquote("tab\tünï".as_bytes()));
        for text in [&b"`"[..], b"\n", b"\xff", b"\x7f", "\u{feff}".as_bytes()] {
            assert!(!can_backquote(text));
        }
    }
}
