//! An answer of etcd that cannot be read, of either version. Shows neither a key nor a value. What follows from it is the
//! protocol's.

use std::fmt;

/// An answer that could not be read to its end.
#[derive(Debug)]
pub enum Unreadable {
    /// It is more than may be taken, in words.
    TooMany(String),
    /// It is not what etcd sends.
    Nonsense(String),
}

impl fmt::Display for Unreadable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Unreadable::TooMany(words) => f.write_str(words),
            Unreadable::Nonsense(words) => write!(f, "not an answer of etcd: {words}"),
        }
    }
}

impl std::error::Error for Unreadable {}

impl From<serde_json::Error> for Unreadable {
    fn from(error: serde_json::Error) -> Unreadable {
        match error.classify() {
            // serde_json shows the unexpected value, which may be a key's.
            serde_json::error::Category::Data => {
                Unreadable::Nonsense(format!("a field is missing or wrong at column {}", error.column()))
            }
            serde_json::error::Category::Syntax
            | serde_json::error::Category::Eof
            | serde_json::error::Category::Io => Unreadable::Nonsense(error.to_string()),
        }
    }
}
