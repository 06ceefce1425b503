//! Findings: errors and warnings of a configuration with their places in the file on disk, and their text form. An
//! excerpt is a line of the file on disk, never an expanded line: a variable may hold a secret.

use std::fmt;
use std::path::PathBuf;

use crate::nearest::nearest;
use crate::width;

/// One error or warning, with its place in the user's file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// Whether it is an error; otherwise a warning.
    pub fatal: bool,
    /// The path that the file was read from.
    pub file: PathBuf,
    /// Line and column from 1 (columns count characters); `None`: the file as a whole.
    pub place: Option<(usize, usize)>,
    /// The error, and how to fix it.
    pub message: String,
    /// The line at `place`, without control characters and secrets, and a caret under the place; empty without a place.
    pub excerpt: String,
}

/// All errors and warnings of a configuration.
#[derive(Debug)]
pub struct Findings {
    /// In the order of files and places.
    pub list: Vec<Finding>,
    /// Whether a file or a directory could not be read.
    pub unreadable: bool,
}

impl Finding {
    /// `file:line:col: message`, on one line, without its severity, because a log line has a level.
    pub fn headline(&self) -> String {
        format!("{}: {}", self.location(), self.message)
    }

    fn location(&self) -> String {
        let file = self.file.display();
        self.place.map_or_else(|| file.to_string(), |(line, column)| format!("{file}:{line}:{column}"))
    }
}

/// The headline, with `warning:` for a warning, and the excerpt. No newline at the end.
impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let gravity = if self.fatal { "" } else { "warning: " };
        write!(f, "{}: {gravity}{}", self.location(), self.message)?;
        if !self.excerpt.is_empty() {
            write!(f, "\n{}", self.excerpt)?;
        }
        Ok(())
    }
}

impl fmt::Display for Findings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, finding) in self.list.iter().enumerate() {
            let newline = if i == 0 { "" } else { "\n" };
            write!(f, "{newline}{finding}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Findings {}

/// A line with its number, and a caret below it. Nothing for a blank line.
pub(super) fn excerpt(line: &str, number: usize, column: usize) -> String {
    around(without_secret(line), number, column)
}

/// As [`excerpt`], with the key at `column` and no value, neither its own nor that of a key before it.
pub(super) fn excerpt_without_value(line: &str, number: usize, column: usize) -> String {
    let (shown, hides) = without_secret(line);
    let key = shown.char_indices().nth(column - 1).map_or(shown.len(), |(at, _)| at);
    let end = shown[key..].find('=').map_or(shown.len(), |at| key + at + 1);
    let hides = hides || !shown[end..].trim().is_empty();
    if shown[..key].contains('=') {
        return around((&format!("...{}", &shown[key..end]), hides), number, "...".len() + 1);
    }
    around((&shown[..end], hides), number, column)
}

/// The part of a line around a place. `hidden`: the rest of the line is not shown.
fn around((line, hidden): (&str, bool), number: usize, column: usize) -> String {
    /// At most this many characters of a line are shown, around the place.
    const WIDTH: usize = 100;
    // A control character could move the cursor or recolour the terminal.
    let shown = |c: char| match c {
        '\t' => ' ',
        c if c.is_control() => '\u{fffd}',
        c => c,
    };
    let line: Vec<char> = line.chars().map(shown).collect();
    if line.iter().all(|c| c.is_whitespace()) {
        return String::new();
    }
    // The caret of a hidden place points at the beginning of the hidden part.
    let caret = if hidden { line.len().min(column - 1) } else { column - 1 };
    let from = if line.len() > WIDTH { line.len().min(caret.saturating_sub(WIDTH / 2)) } else { 0 };
    let to = line.len().min(from + WIDTH);
    let (before, after) = (if from > 0 { "..." } else { "" }, if to < line.len() || hidden { "..." } else { "" });
    let text: String = line[from..to].iter().collect();
    let margin = number.to_string().len();
    let caret = before.len() + line[from..].iter().take(caret - from).map(|c| width::columns(*c)).sum::<usize>();
    format!(" {number} | {before}{text}{after}\n {:margin$} | {:caret$}^", "", "")
}

/// Whether a part of a line must not be shown.
pub(super) fn hides(line: &str) -> bool {
    without_secret(line).1
}

/// Cuts a line behind a key that may be a password or a token, or before what may be credentials in an address. Returns
/// whether the line was cut. Errors at the start reach central logs, and the caret needs the key, not the value. In
/// doubt more is cut: a password may have any character, and a key may be misspelled.
fn without_secret(line: &str) -> (&str, bool) {
    const PARTS: &[&str] = &["pass", "secret", "token", "authorization", "cookie", "app_id", "user_id", "role_id"];
    const SEPARATORS: [char; 2] = ['=', ':'];
    let lower = line.to_ascii_lowercase();
    let named = PARTS.iter().filter_map(|part| lower.find(part)).min();
    let named = named.and_then(|at| Some(at + line[at..].find(SEPARATORS)?));
    let misspelled = line.match_indices(SEPARATORS).map(|(at, _)| at).find(|at| names_a_secret(&line[..*at]));
    let value = named.into_iter().chain(misspelled).min().map(|at| at + 1);
    // The address may begin behind the first quote, at the earliest. Its credentials have a `:` before the `@`.
    let quoted = line.find(['"', '\'']).map_or(0, |quote| quote + 1);
    let colon = line[quoted..].find(':').map(|at| quoted + at);
    let address = colon.and_then(|at| Some(at + line[at..].find('@')?)).map(|at| {
        let before = &line[quoted..at];
        let marks = || before.match_indices("://").map(|(mark, _)| mark);
        // Of several addresses the last one, of a mark in a password the first one.
        let begins = |mark: &usize| before[..*mark].trim_end_matches(char::is_alphanumeric).ends_with(['"', '\'']);
        let scheme = marks().filter(begins).last().or_else(|| marks().next());
        scheme.map_or(quoted, |mark| quoted + mark + "://".len())
    });
    match value.into_iter().chain(address).min() {
        Some(cut) if !line[cut..].trim().is_empty() => (&line[..cut], true),
        _ => (line, false),
    }
}

/// Whether the word at the end of a text, before a separator, is a misspelled name of a secret.
fn names_a_secret(text: &str) -> bool {
    const WORDS: [&str; 3] = ["password", "secret", "token"];
    let is_part = |c: char| c.is_alphanumeric() || matches!(c, '_' | '-');
    // Stops at the separator before, so that a line is read once.
    let text = text.trim_end_matches(|c| !is_part(c) && !matches!(c, '=' | ':'));
    text.rsplit(|c| !is_part(c)).next().is_some_and(|word| nearest(word, WORDS).is_some())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(line: &str, column: usize, expected: &str) {
        assert_eq!(excerpt(line, 12, column), expected);
    }

    #[test]
    fn points_at_the_place() {
        check("interval = \"60\"", 12, " 12 | interval = \"60\"\n    |            ^");
        check("\tä = 1", 2, " 12 |  ä = 1\n    |  ^");
        check("x = \"日本\" y", 10, " 12 | x = \"日本\" y\n    |            ^");
        check("a = ", 5, " 12 | a = \n    |     ^");
        check("   ", 1, "");
    }

    #[test]
    fn shows_no_control_characters() {
        check("a\u{1b}[31m = 1", 1, " 12 | a\u{fffd}[31m = 1\n    | ^");
    }

    #[test]
    fn shows_a_part_of_a_long_line() {
        let line = format!("{}HERE{}", "a".repeat(300), "b".repeat(300));
        let expected = format!(" 12 | ...{}HERE{}...\n    | {}^", "a".repeat(50), "b".repeat(46), " ".repeat(53));
        check(&line, 301, &expected);
        let expected = format!(" 12 | {}...\n    | ^", "a".repeat(100));
        check(&line, 1, &expected);
        let expected = format!(" 12 | ...{}\n    | {}^", "b".repeat(50), " ".repeat(53));
        check(&line, 605, &expected);
    }

    #[test]
    fn shows_no_secrets() {
        check("password = hunter2", 12, " 12 | password =...\n    |           ^");
        check("password = hunter2", 1, " 12 | password =...\n    | ^");
        check("X-Auth-Token=\"a\", b = 1", 19, " 12 | X-Auth-Token=...\n    |              ^");
        check("password =", 1, " 12 | password =\n    | ^");
        check("n = ['http://a', 'http://me:pw@b']", 17, " 12 | n = ['http://a', 'http://...\n    |                 ^");
        check("n = 'http://me:p/w@b'", 5, " 12 | n = 'http://...\n    |     ^");
        check("n = ['http://me:p://w@b']", 5, " 12 | n = ['http://...\n    |     ^");
        check("n = ['http://me:p w@b']", 5, " 12 | n = ['http://...\n    |     ^");
        check("n = ['http://me:p\"w@b']", 5, " 12 | n = ['http://...\n    |     ^");
        check("n = 'me:pw@b:1'", 5, " 12 | n = '...\n    |     ^");
        check("pasword = 'hunter2'", 1, " 12 | pasword =...\n    | ^");
        check("a = { tokn = 'hunter2' }", 1, " 12 | a = { tokn =...\n    | ^");
        check("password: hunter2", 1, " 12 | password:...\n    | ^");
        check("h = ['Authorization: hunter2']", 1, " 12 | h = ['Authorization:...\n    | ^");
        check("a = 'h:1/?password=hunter2'", 1, " 12 | a = 'h:1/?password=...\n    | ^");
        check("a = 'ops@b', n = 'me:pw@b'", 1, " 12 | a = '...\n    | ^");
        check("c = 'mail ops@b'", 1, " 12 | c = 'mail ops@b'\n    | ^");
    }

    #[test]
    fn shows_no_value_of_an_unknown_key() {
        let check = |line: &str, column: usize, want: &str| {
            assert_eq!(excerpt_without_value(line, 12, column), want);
        };
        check("pw = 'hunter2'", 1, " 12 | pw =...\n    | ^");
        check("ä = { pw = 'hunter2', b = 1 }", 23, " 12 | ...b =...\n    |    ^");
        check("a = { password = 'a', pw = 'hunter2' }", 23, " 12 | ......\n    |    ^");
        check("[resource.pw]", 11, " 12 | [resource.pw]\n    |           ^");
        check("pw =", 1, " 12 | pw =\n    | ^");
    }

    #[test]
    fn says_where() {
        let mut finding =
            Finding { fatal: true, file: "a/b".into(), place: None, message: "what".into(), excerpt: String::new() };
        assert_eq!(finding.to_string(), "a/b: what");
        finding.place = Some((1, 5));
        assert_eq!(finding.to_string(), "a/b:1:5: what");
        finding.excerpt = " 1 | x".into();
        assert_eq!(finding.to_string(), "a/b:1:5: what\n 1 | x");
        assert_eq!(finding.headline(), "a/b:1:5: what");
        let warning = Finding { fatal: false, ..finding.clone() };
        assert_eq!(warning.to_string(), "a/b:1:5: warning: what\n 1 | x");
        assert_eq!(warning.headline(), "a/b:1:5: what");
        let both = Findings { list: vec![finding.clone(), finding], unreadable: false };
        assert_eq!(both.to_string(), "a/b:1:5: what\n 1 | x\na/b:1:5: what\n 1 | x");
    }
}
