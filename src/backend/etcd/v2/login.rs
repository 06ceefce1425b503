//! The user of a request to version 2: basic authentication. Files are read at every request, so that a new password
//! is one at once. Knows not whether a user is needed.

use base64::Engine;
use base64::prelude::BASE64_STANDARD;

use crate::backend::redact::Redactor;
use crate::config;
use crate::host::read;

/// Who is to be said to ask; nobody where the configuration names no user.
pub struct Login(pub Option<config::Login>);

/// What goes with a request.
pub struct Header {
    /// For messages.
    pub user: String,
    /// A secret.
    pub value: String,
}

impl Login {
    /// `None`: nobody, or whom the URL of a node names. The secrets of either are added to those that are hidden.
    ///
    /// # Errors
    /// A file cannot be read, in words.
    pub fn header(&self, url: &str, secrets: &mut Redactor) -> Result<Option<Header>, String> {
        secrets.hide_credentials_of(url);
        let Some(login) = &self.0 else { return Ok(None) };
        let (user, password) = (read::credential(&login.username)?, read::credential(&login.password)?);
        secrets.hide("password", password.reveal());
        let pair = format!("{}:{}", user.reveal(), password.reveal());
        let value = format!("Basic {}", BASE64_STANDARD.encode(pair));
        Ok(Some(Header { user: user.reveal().to_owned(), value }))
    }
}
