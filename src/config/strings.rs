//! Where the strings of a TOML text are, also in a text with syntax errors.
//! Decodes none.

/// The end of the string that begins at a quote, and whether it has a closing quote. Without one it ends with its line, or
/// with the text.
pub(super) fn string_end(text: &[u8], start: usize) -> (usize, bool) {
    let quote = text[start];
    let is_triple = |at: usize| text[at..].starts_with(&[quote; 3]);
    let is_multi_line = is_triple(start);
    let mut at = start + if is_multi_line { 3 } else { 1 };
    while let Some(byte) = text.get(at) {
        match *byte {
            b'\\' if quote == b'"' => at += 2,
            b'\n' if !is_multi_line => return (at, false),
            byte if byte == quote && !is_multi_line => return (at + 1, true),
            byte if byte == quote && is_triple(at) => {
                // Up to two quotes before the closing ones belong to the text.
                return (at + text[at..].iter().take(5).take_while(|b| **b == quote).count(), true);
            }
            _ => at += 1,
        }
    }
    (text.len(), false)
}

/// The lines, by their numbers from 0 in order, that begin inside a string, or may be a part of one that its line did not
/// close.
pub(super) fn lines_in_strings(text: &[u8]) -> Vec<usize> {
    let (mut lines, mut line, mut at) = (Vec::new(), 0, 0);
    while let Some(byte) = text.get(at) {
        let (end, is_closed) = match byte {
            b'"' | b'\'' => string_end(text, at),
            b'#' => (line_end(text, at), true),
            _ => (at + 1, true),
        };
        let first = line + 1;
        line += text[at..end].iter().filter(|b| **b == b'\n').count();
        if matches!(byte, b'"' | b'\'') {
            lines.extend(first..=line);
        }
        at = end;
        if !is_closed {
            while at < text.len() && !begins_anew(&text[at + 1..line_end(text, at + 1)]) {
                line += 1;
                lines.push(line);
                at = line_end(text, at + 1);
            }
        }
    }
    lines
}

/// The end of the line from a place in it on; the end of the text for a place behind it.
pub(super) fn line_end(text: &[u8], at: usize) -> usize {
    text.get(at..).and_then(|rest| rest.iter().position(|b| *b == b'\n')).map_or(text.len(), |length| at + length)
}

/// Whether a line cannot be the rest of a string: it is blank, a header, a comment, or sets a key.
fn begins_anew(line: &[u8]) -> bool {
    let line = line.trim_ascii();
    let key = line.iter().take_while(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'.')).count();
    let is_set = || line[key..].trim_ascii_start().strip_prefix(b"=").is_some_and(|value| !value.is_empty());
    matches!(line, [] | [b'[' | b'#', ..]) || (key > 0 && is_set())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_that_may_be_a_part_of_a_string() {
        let check = |text: &str, want: &[usize]| assert_eq!(lines_in_strings(text.as_bytes()), want, "{text}");
        check("a = 'b'\nc = \"d\"\n", &[]);
        check("a = \'\'\'\nb\nc\'\'\'\nd = 1", &[1, 2]);
        check("a = \"\"\"b\"\"\"\nc = 1", &[]);
        check("a = \"b\nc\"\nd\n\ne", &[1, 2]);
        check("a = 'b\nc = 1\nd", &[]);
        check("a = \"b\\\"\nc\nd=\n[e]", &[1, 2]);
        check("a = 'b", &[]);
        check("a = 'b\n", &[]);
        check("# 'b\nc = 1", &[]);
        check("a = \"\"\"\nb", &[1]);
        check("", &[]);
    }
}
