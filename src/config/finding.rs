//! Findings: errors and warnings of a configuration with their places in the file on disk, and their text form.
//! `excerpt` decides what is shown of a line.

use std::fmt;
use std::path::PathBuf;

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

#[cfg(test)]
mod tests {
    use super::*;

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
