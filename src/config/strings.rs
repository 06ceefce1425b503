//! Where the strings of a TOML text are, also in a text with syntax errors.
//! Decodes none.

/// The end of the string that begins at a quote. An unclosed string ends with its line, or with the text.
pub(super) fn string_end(text: &[u8], start: usize) -> usize {
    let quote = text[start];
    let is_triple = |at: usize| text[at..].starts_with(&[quote; 3]);
    let is_multi_line = is_triple(start);
    let mut at = start + if is_multi_line { 3 } else { 1 };
    while let Some(byte) = text.get(at) {
        match *byte {
            b'\\' if quote == b'"' => at += 2,
            b'\n' if !is_multi_line => return at,
            byte if byte == quote && !is_multi_line => return at + 1,
            byte if byte == quote && is_triple(at) => {
                // Up to two quotes before the closing ones belong to the text.
                return at + text[at..].iter().take(5).take_while(|b| **b == quote).count();
            }
            _ => at += 1,
        }
    }
    text.len()
}

/// The lines, by their numbers from 0 in order, that begin inside a string, or behind one that its line did not close.
pub(super) fn lines_in_strings(text: &[u8]) -> Vec<usize> {
    let (mut lines, mut line, mut at) = (Vec::new(), 0, 0);
    while let Some(byte) = text.get(at) {
        let end = match byte {
            b'"' | b'\'' => string_end(text, at),
            b'#' => text[at..].iter().position(|b| *b == b'\n').map_or(text.len(), |length| at + length),
            _ => at + 1,
        };
        let first = line + 1;
        line += text[at..end].iter().filter(|b| **b == b'\n').count();
        if matches!(byte, b'"' | b'\'') {
            let is_unclosed = text.get(end) == Some(&b'\n') && text[at + 1..end].last() != Some(byte);
            lines.extend(first..=line + usize::from(is_unclosed));
        }
        at = end;
    }
    lines
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
        check("a = \"b\nc\"\nd", &[1, 2]);
        check("a = 'b\nc = 1\nd", &[1]);
        check("# 'b\nc = 1", &[]);
        check("a = \"\"\"\nb", &[1]);
        check("", &[]);
    }
}
