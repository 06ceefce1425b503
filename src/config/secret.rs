//! Credentials: texts that are sent to a store and shown nowhere. The rows of the keys say which values are
//! credentials; `finding` hides them in lines of files.

/// A text that no log, error or `Debug` shows.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Takes a credential.
    pub fn new(text: String) -> Secret {
        Secret(text)
    }

    /// The text itself, for sending it.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("<secret>")
    }
}
