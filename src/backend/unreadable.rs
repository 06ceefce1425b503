//! The error for an answer in JSON that cannot be parsed. Shows neither a key nor a value. The protocol decides what
//! follows.

/// Why an answer could not be parsed.
#[derive(Debug, PartialEq, Eq)]
pub enum Unreadable {
    /// The answer exceeds the limits of a read. The text names the limit.
    TooMany(String),
    /// The bytes are not what the store sends.
    Nonsense(String),
}

impl Unreadable {
    /// The text of the error. `store` is the name of the store.
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
            // serde_json shows the unexpected value, which may be the value of a key.
            serde_json::error::Category::Data => {
                Unreadable::Nonsense(format!("a field is missing or wrong at column {}", error.column()))
            }
            serde_json::error::Category::Syntax
            | serde_json::error::Category::Eof
            | serde_json::error::Category::Io => Unreadable::Nonsense(error.to_string()),
        }
    }
}
