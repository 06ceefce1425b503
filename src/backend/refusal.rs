//! What a server says when it refuses a request, as messages show it: short, and on one line. Masks no secrets: `redact` does.
//! Knows no store.

use crate::cut::{cut, without_controls};

/// Appends to the beginning of a body, of which at most so many bytes are kept.
pub fn append_beginning(kept: &mut Vec<u8>, piece: &[u8], most: usize) {
    let room = most.saturating_sub(kept.len());
    kept.extend_from_slice(&piece[..piece.len().min(room)]);
}

/// A text without the blanks around it, of at most so many characters.
pub fn short(text: &str, most: usize) -> String {
    without_controls(text.trim()).take(most).collect()
}

/// The same, where a server should have given a reason.
pub fn reason(text: &str, most: usize) -> String {
    let line = short(text, most);
    if line.is_empty() { "no reason given".to_owned() } else { line }
}

/// A status, and behind a colon what the server said, of which at most so many bytes are shown.
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
