//! Masks values of secret stores in messages about templates and keys: a template may compute the name of a key from a
//! secret, and errors quote it. Finds whole values and their parts, unencoded; `backend/redact.rs` masks credentials in
//! the texts of servers.

use std::borrow::Cow;
use std::ops::Range;

/// The text instead of a masked value.
pub const SECRET: &str = "(secret)";

/// A shorter value is masked only as a whole word, because its letters occur in every text.
const SHORTEST: usize = 4;

/// A shorter part of a value is not masked, because many texts contain such a word.
const SHORTEST_PART: usize = 6;

/// The text with every value, and every longer word of a value, masked.
pub fn masked<'t, 'v>(text: &'t str, values: impl IntoIterator<Item = &'v [u8]>) -> Cow<'t, str> {
    let mut found = Vec::new();
    for value in values {
        let value = String::from_utf8_lossy(value);
        let whole = value.trim();
        find(text, whole, &mut found);
        // Separates the members of a list or an object, and the lines of a file.
        let is_between = |c: char| !c.is_ascii_graphic() || "\"'`,;:=()[]{}<>".contains(c);
        whole
            .split(is_between)
            .filter(|part| part.len() >= SHORTEST_PART)
            .for_each(|part| find(text, part, &mut found));
    }
    if found.is_empty() {
        return Cow::Borrowed(text);
    }
    found.sort_unstable_by_key(|range| (range.start, range.end));
    let (mut shown, mut at) = (String::with_capacity(text.len()), 0);
    for Range { start, end } in found {
        // Values that overlap, or follow each other, are masked as one.
        if start > at || at == 0 {
            shown.push_str(&text[at..start]);
            shown.push_str(SECRET);
        }
        at = at.max(end);
    }
    shown.push_str(&text[at..]);
    Cow::Owned(shown)
}

/// Appends the places of a value.
fn find(text: &str, value: &str, found: &mut Vec<Range<usize>>) {
    if value.is_empty() {
        return;
    }
    let is_part = |c: Option<char>| c.is_some_and(char::is_alphanumeric);
    for (start, _) in text.match_indices(value) {
        let end = start + value.len();
        let is_word = !is_part(text[..start].chars().next_back()) && !is_part(text[end..].chars().next());
        if value.len() >= SHORTEST || is_word {
            found.push(start..end);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, values: &[&str], expected: &str) {
        assert_eq!(masked(text, values.iter().map(|value| value.as_bytes())), expected);
    }

    #[test]
    fn values_are_masked_wherever_they_are() {
        check(
            "key does not exist: hunter2, keys begin with `/`",
            &["hunter2"],
            "key does not exist: (secret), keys begin with `/`",
        );
        check("/app/hunter2/x-hunter2", &["hunter2\n"], "/app/(secret)/x-(secret)");
        check("hunter2", &["hunter2"], "(secret)");
        check("hunter2hunter2", &["hunter2"], "(secret)");
        check("abcdef", &["abcd", "cdef"], "(secret)");
        check("nothing", &["hunter2", "", " "], "nothing");
        check("", &["hunter2"], "");
    }

    #[test]
    fn short_values_are_masked_as_words() {
        check("/app/ab/cab", &["ab"], "/app/(secret)/cab");
        check("argument 1 of 10", &["1"], "argument (secret) of 10");
    }

    #[test]
    fn longer_parts_of_values_are_masked() {
        check(
            "key does not exist: /hunter2",
            &[r#"{"user": "app", "password": "hunter2"}"#],
            "key does not exist: /(secret)",
        );
        check("key does not exist: /app", &[r#"{"user": "app", "password": "hunter2"}"#], "key does not exist: /app");
        check("no `second-line`", &["first-line\nsecond-line\n"], "no `(secret)`");
    }
}
