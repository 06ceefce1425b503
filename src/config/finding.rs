//! Findings: what is wrong with a configuration, where in the file as its author wrote it, and how that is
//! shown. An excerpt is a line of the file on disk, never an expanded one: a variable may hold a secret.

use std::fmt;
use std::path::PathBuf;

/// One error or warning, with its place in the file as the user wrote it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    pub fatal: bool,
    pub file: PathBuf,
    /// Line and column from 1 (columns count characters); `None`: the file as a whole.
    pub place: Option<(usize, usize)>,
    pub message: String,
    /// The line at `place` as it stands in the file; empty without a place.
    pub line: String,
}

/// Everything that is wrong with a configuration. Warnings alone do not stop anything.
#[derive(Debug)]
pub struct Findings {
    /// In the order of files and places.
    pub list: Vec<Finding>,
}

impl Finding {
    /// `file:line:col: what`, on one line: for the log.
    pub fn headline(&self) -> String {
        let file = self.file.display();
        match self.place {
            Some((line, column)) => format!("{file}:{line}:{column}: {}", self.message),
            None => format!("{file}: {}", self.message),
        }
    }
}

/// The headline, then the line of the file with a caret under the place. No newline at the end.
impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.headline())?;
        let Some((number, column)) = self.place else {
            return Ok(());
        };
        let excerpt = Excerpt::new(&self.line, column);
        if excerpt.text.trim().is_empty() {
            return Ok(());
        }
        let margin = number.to_string().len();
        write!(f, "\n {number} | {}", excerpt.text)?;
        let caret = excerpt.caret;
        write!(f, "\n {:margin$} | {:caret$}^", "", "")
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

/// A line as a terminal can show it.
struct Excerpt {
    text: String,
    /// How many characters stand before the caret.
    caret: usize,
}

impl Excerpt {
    /// At most this many characters of a line are shown, around the place.
    const WIDTH: usize = 100;

    fn new(line: &str, column: usize) -> Excerpt {
        let (line, hidden) = without_secret(line);
        // A control character could move the cursor or recolour the terminal.
        let shown: Vec<char> = line
            .chars()
            .map(|c| match c {
                '\t' => ' ',
                c if c.is_control() => '\u{fffd}',
                c => c,
            })
            .collect();
        // What is not shown is pointed at where it would begin.
        let caret = (column - 1).min(if hidden { shown.len() } else { usize::MAX });
        let from = if shown.len() <= Self::WIDTH {
            0
        } else {
            caret.saturating_sub(Self::WIDTH / 2).min(shown.len())
        };
        let to = shown.len().min(from + Self::WIDTH);
        let mut text: String = shown[from..to].iter().collect();
        let mut before = caret - from;
        if from > 0 {
            text.insert_str(0, "...");
            before += 3;
        }
        if to < shown.len() || hidden {
            text.push_str("...");
        }
        Excerpt { text, caret: before }
    }
}

/// Cuts a line behind the `=` of what looks like a password or a token, and tells whether it did: start-up errors
/// end up in central logs, and the caret needs the key, not the value.
fn without_secret(line: &str) -> (&str, bool) {
    const SECRETS: &[&str] = &[
        "password",
        "passwd",
        "secret",
        "token",
        "authorization",
        "cookie",
        "app_id",
        "user_id",
        "role_id",
    ];
    let lower = line.to_ascii_lowercase();
    let named = SECRETS.iter().filter_map(|secret| lower.find(secret)).min();
    match named.and_then(|at| line[at..].find('=').map(|equals| at + equals + 1)) {
        Some(cut) if !line[cut..].trim().is_empty() => (&line[..cut], true),
        _ => (line, false),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(line: &str, column: usize, expected: &str) {
        let finding = Finding {
            fatal: true,
            file: "config".into(),
            place: Some((12, column)),
            message: "what".into(),
            line: line.into(),
        };
        assert_eq!(finding.to_string(), format!("config:12:{column}: what{expected}"));
    }

    #[test]
    fn points_at_the_place() {
        check("interval = \"60\"", 12, "\n 12 | interval = \"60\"\n    |            ^");
        check("\tä = 1", 2, "\n 12 |  ä = 1\n    |  ^");
        check("a = ", 5, "\n 12 | a = \n    |     ^");
        check("   ", 1, "");
    }

    #[test]
    fn shows_no_control_characters() {
        check("a\u{1b}[31m = 1", 1, "\n 12 | a\u{fffd}[31m = 1\n    | ^");
    }

    #[test]
    fn shows_a_part_of_a_long_line() {
        let line = format!("{}HERE{}", "a".repeat(300), "b".repeat(300));
        let expected = format!(
            "\n 12 | ...{}HERE{}...\n    | {}^",
            "a".repeat(50),
            "b".repeat(46),
            " ".repeat(53)
        );
        check(&line, 301, &expected);
        let expected = format!("\n 12 | {}...\n    | ^", "a".repeat(100));
        check(&line, 1, &expected);
        let expected = format!("\n 12 | ...{}\n    | {}^", "b".repeat(50), " ".repeat(53));
        check(&line, 605, &expected);
    }

    #[test]
    fn shows_no_secrets() {
        check("password = hunter2", 12, "\n 12 | password =...\n    |           ^");
        check("password = hunter2", 1, "\n 12 | password =...\n    | ^");
        check(
            "X-Auth-Token=\"a\", b = 1",
            19,
            "\n 12 | X-Auth-Token=...\n    |              ^",
        );
        check("password =", 1, "\n 12 | password =\n    | ^");
    }

    #[test]
    fn names_the_file_alone_without_a_place() {
        let finding = Finding {
            fatal: true,
            file: "a/b".into(),
            place: None,
            message: "what".into(),
            line: String::new(),
        };
        assert_eq!(finding.to_string(), "a/b: what");
    }
}
