//! The style of one text in a written document: plain, quoted or as a block, by the rules of Go's yaml.v3. Knows
//! nothing of the place in the document.

use std::fmt::Write;

use super::is_text;

/// How a text is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Style {
    /// Plain.
    Plain,
    /// In single quotes.
    Single,
    /// In double quotes, with escapes.
    Double,
    /// A block of lines after a `|`.
    Literal,
}

/// The style of a text outside of brackets.
pub fn style(text: &str) -> Style {
    let is_break = |char| char == '\n' || is_separator(char);
    let space_before_break = || text.match_indices(' ').any(|(at, _)| text[at + 1..].starts_with(is_break));
    let space_after_break = || text.match_indices(' ').any(|(at, _)| text[..at].ends_with(is_break));
    if text.contains(|char| !is_printable(char) && char != '\t') {
        return Style::Double;
    }
    if text.contains('\n') {
        return if text.ends_with(' ') || space_before_break() { Style::Double } else { Style::Literal };
    }
    if !is_text(text) || text.contains('\t') {
        return Style::Double;
    }
    if text.contains(is_separator) {
        // A single-quoted text is indented after each separator, and readers of YAML 1.1 undo that.
        return if space_before_break() || space_after_break() { Style::Double } else { Style::Single };
    }
    if text.starts_with(' ') || text.ends_with(' ') || has_indicator(text) { Style::Single } else { Style::Plain }
}

/// Whether the text would be read as something else without quotes.
fn has_indicator(text: &str) -> bool {
    let is_end = |rest: &str| rest.is_empty() || rest.starts_with([' ', '\t']);
    let at_start = match text.as_bytes() {
        [b'#' | b',' | b'[' | b']' | b'{' | b'}' | b'&' | b'*' | b'!' | b'|' | b'>', ..] => true,
        [b'\'' | b'"' | b'%' | b'@' | b'`', ..] => true,
        [b'?' | b'-', ..] => is_end(&text[1..]) || text.starts_with("---"),
        _ => text.starts_with("..."),
    };
    at_start
        || text.match_indices(':').any(|(at, _)| is_end(&text[at + 1..]))
        || text.match_indices('#').any(|(at, _)| text[..at].ends_with([' ', '\t']))
}

/// The characters that yaml.v3 writes as themselves. (Those beyond the first plane are not among them.)
fn is_printable(char: char) -> bool {
    matches!(char, '\n' | ' '..='~' | '\u{a0}'..='\u{d7ff}' | '\u{e000}'..='\u{fffd}') && char != '\u{feff}'
}

/// The line breaks that YAML 1.1 knows besides the usual ones and that yaml.v3 writes as themselves.
pub fn is_separator(char: char) -> bool {
    matches!(char, '\u{2028}' | '\u{2029}')
}

/// A text in single quotes. Its only line breaks are separators, and the text after each of them is indented.
pub fn single_quoted(text: &str, indent: usize) -> String {
    let mut quoted = String::from("'");
    for (at, line) in text.replace('\'', "''").split_inclusive(is_separator).enumerate() {
        quoted.extend(std::iter::repeat_n(' ', if at == 0 || line.starts_with(is_separator) { 0 } else { indent }));
        quoted.push_str(line);
    }
    quoted.push('\'');
    quoted
}

/// A text in double quotes. With a byte order mark at the start everything is escaped, as by yaml.v3.
pub fn double_quoted(text: &str) -> String {
    let all = text.starts_with('\u{feff}');
    let mut quoted = String::with_capacity(text.len() + 2);
    quoted.push('"');
    for char in text.chars() {
        let short = match char {
            '"' | '\\' => char,
            '\0' => '0',
            '\x07' => 'a',
            '\x08' => 'b',
            '\t' => 't',
            '\n' => 'n',
            '\x0b' => 'v',
            '\x0c' => 'f',
            '\r' => 'r',
            '\x1b' => 'e',
            '\u{85}' => 'N',
            '\u{2028}' => 'L',
            '\u{2029}' => 'P',
            '\u{a0}' if all => '_',
            _ if !all && is_printable(char) => {
                quoted.push(char);
                continue;
            }
            _ => {
                let code = u32::from(char);
                // Writing to a text cannot fail.
                let _ = match code {
                    ..=0xff => write!(quoted, "\\x{code:02X}"),
                    0x100..=0xffff => write!(quoted, "\\u{code:04X}"),
                    _ => write!(quoted, "\\U{code:08X}"),
                };
                continue;
            }
        };
        quoted.extend(['\\', short]);
    }
    quoted.push('"');
    quoted
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(wanted: Style, texts: &[&str]) {
        for text in texts {
            assert_eq!(style(text), wanted, "{text:?}");
        }
    }

    #[test]
    fn styles() {
        check(
            Style::Plain,
            &["a", "two words", "back\\slash", "quote\"d", "--", "-a", "?a", ":a", "a:b", "a#b", "é", "<<"],
        );
        check(Style::Plain, &["=", "http://x/?q=1", "a,b", "a]", "a-", "a?", "1.2.3", "a\u{a0}b"]);
        check(Style::Single, &["- dash", "-", "?", "? x", "a: b", "x:", ": x", ":", "#hash", "a #b", "'q'", "\"q\""]);
        check(
            Style::Single,
            &["*s", "&a", "%p", "@a", "`t`", "{b}", "[b]", ",", "|", ">", "!t", " a", "a ", " ", "---", "...x"],
        );
        check(Style::Double, &["", "yes", "12", "~", "12:30", "2024-01-02", "x\ty", "\t", "\x07", "\r", "a\u{85}"]);
        check(Style::Double, &["😀", "\u{feff}", "a \nb", "a\nb ", "a\n\x01", "a\r\nb"]);
        check(Style::Double, &["a \u{2028}b", "a\u{2028} b", "a \u{2029}\n", "\t\u{2028}"]);
        check(Style::Single, &["a\u{2028}b", "\u{2028}", "\u{2029}a", " a\u{2028}"]);
        check(
            Style::Literal,
            &["\u{2028}\n", "a\nb\u{2028}c", "a\nb", "\n", "a\n\n", "  a\nb", "a\n b", "a\tb\n", "é\n", "- a\n"],
        );
    }

    #[test]
    fn quotes() {
        assert_eq!(single_quoted("'a' b", 4), "'''a'' b'");
        assert_eq!(
            single_quoted("a\u{2028}b\u{2029}\u{2028}c\u{2028}", 2),
            "'a\u{2028}  b\u{2029}\u{2028}  c\u{2028}'"
        );
        assert_eq!(double_quoted("\"\\\0\x07\x08\t\n\x0b\x0c\r\x1b"), r#""\"\\\0\a\b\t\n\v\f\r\e""#);
        assert_eq!(double_quoted("\x01\x7f\u{85}\u{a0}\u{2028}\u{2029}"), "\"\\x01\\x7F\\N\u{a0}\\L\\P\"");
        assert_eq!(double_quoted("é\u{feff}\u{ffff}😀"), r#""é\uFEFF\uFFFF\U0001F600""#);
        assert_eq!(double_quoted("\u{feff}a é\u{a0}"), r#""\uFEFF\x61\x20\xE9\_""#);
    }
}
