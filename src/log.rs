//! Log lines and their two forms, text and json. Builds text; `host` writes it to standard error.

pub use crate::config::LogLevel as Level;

/// One line before it is formatted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    pub level: Level,
    pub message: String,
    /// In the order they are shown.
    pub fields: Vec<(&'static str, String)>,
}

impl Line {
    pub fn new(level: Level, message: impl Into<String>) -> Line {
        Line {
            level,
            message: message.into(),
            fields: Vec::new(),
        }
    }

    /// Adds `name=value`.
    pub fn with(mut self, name: &'static str, value: impl Into<String>) -> Line {
        self.fields.push((name, value.into()));
        self
    }
}
