//! Shortens the text of a refused request to one line for messages. Masks no secrets (see `redact`), and knows no
//! store.

use crate::cut::{cut, without_controls};

/// Appends a piece to the kept beginning of a body, up to `most` bytes.
pub fn append_beginning(kept: &mut Vec<u8>, piece: &[u8], most: usize) {
    let room = most.saturating_sub(kept.len());
    kept.extend_from_slice(&piece[..piece.len().min(room)]);
}

/// A text without the blanks around it, cut to `most` characters.
pub fn short(text: &str, most: usize) -> String {
    without_controls(text.trim()).take(most).collect()
}

/// As [`shown`], with a replacement for an empty text.
pub fn reason(text: &str, most: usize) -> String {
    let line = short(text, most);
    if line.is_empty() { "no reason given".to_owned() } else { line }
}

/// The status, a colon and the text of the server, cut to `most` bytes.
pub fn with_status(status: &str, said: &str, most: usize) -> String {
    let line: String = without_controls(said).collect();
    match cut(&line, most) {
        "" => status.to_owned(),
        line => format!("{status}: {line}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusals_are_short_and_on_one_line() {
        let mut kept = b"abc".to_vec();
        append_beginning(&mut kept, b"defg", 5);
        append_beginning(&mut kept, b"h", 5);
        assert_eq!(kept, b"abcde");
        assert_eq!((short(" a\tb\n", 9), short("\u{e4}\u{e4}", 1)), ("a b".to_owned(), "\u{e4}".to_owned()));
        assert_eq!((reason(" \n", 9), reason("no", 9)), ("no reason given".to_owned(), "no".to_owned()));
        assert_eq!(with_status("status 500", "", 9), "status 500");
        assert_eq!(with_status("status 500", "a\tbc", 3), "status 500: a b");
    }
}
