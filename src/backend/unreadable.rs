//! An answer of a store in JSON that cannot be read. Shows neither a key nor a value. What follows from it is the
//! protocol's.

/// An answer that could not be read to its end.
#[derive(Debug, PartialEq, Eq)]
pub enum Unreadable {
    /// It is more than may be taken, in words.
    TooMany(String),
    /// It is not what the store sends.
    Nonsense(String),
}

impl Unreadable {
    /// In words, as an answer of the store of this name.
    pub fn of(&self, store: &str) -> String {
        match self {
            Unreadable::TooMany(words) => words.clone(),
            Unreadable::Nonsense(words) => format!("not an answer of {store}: {words}"),
        }
    }
}

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
