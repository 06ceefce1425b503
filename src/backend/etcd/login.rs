//! A login to version 3: makes a request of name and password, and reads the token from its answer. Hides both secrets
//! from errors. Does not know when a login is needed.

use super::NAME;
use super::request::{append_beginning, with_headers};
use super::wire::{self, Refusal};
use crate::backend::protocol::{Credentials, Request};
use crate::backend::redact::Redactor;
use crate::config::Secret;

/// The limit for the answer to a login, in bytes. A JSON Web Token has some hundred.
const LONGEST_TOKEN: usize = 64 * 1024;

/// A login under way.
#[derive(Default)]
pub struct Login {
    user: String,
    status: u16,
    body: Vec<u8>,
}

/// A user with a token.
pub struct Answered {
    pub user: String,
    pub token: Secret,
}

/// Why there is no token.
pub enum NoToken {
    Refused {
        user: String,
        refusal: Refusal,
    },
    /// The answer is unreadable, or there was none. The text has the cause.
    Broken(String),
}

impl Login {
    /// The request for a token.
    ///
    /// # Errors
    /// Name or password could not be read, in words.
    pub fn request(
        &mut self,
        credentials: Result<Option<Credentials>, String>,
        secrets: &mut Redactor,
    ) -> Result<Request, String> {
        let Credentials { user, password } = credentials?.ok_or_else(|| "there is no user to log in".to_owned())?;
        secrets.hide("password", password.reveal());
        *self = Login { user: user.reveal().to_owned(), status: 0, body: Vec::new() };
        let body = wire::login(user.reveal(), password.reveal());
        Ok(with_headers(Request::post(wire::AUTHENTICATE, body), std::iter::empty()))
    }

    /// Takes the HTTP status of the answer.
    pub fn head(&mut self, status: u16) {
        self.status = status;
    }

    /// Takes a piece of the answer's body. Keeps at most 64 KiB of an answer with a token, and the beginning of a
    /// refusal; drops the rest.
    pub fn body(&mut self, piece: &[u8]) {
        match self.status {
            200 => {
                let room = LONGEST_TOKEN.saturating_sub(self.body.len());
                self.body.extend_from_slice(&piece[..piece.len().min(room)]);
            }
            _ => append_beginning(&mut self.body, piece),
        }
    }

    /// Whether the head of the answer has arrived and is a refusal.
    pub fn is_refused(&self) -> bool {
        !matches!(self.status, 0 | 200)
    }

    /// The answer has ended.
    pub fn end(&mut self, secrets: &mut Redactor) -> Result<Answered, NoToken> {
        let Login { user, status, body } = std::mem::take(self);
        if status != 200 {
            let refusal = wire::refusal(status, wire::AUTHENTICATE, &body, secrets);
            return Err(NoToken::Refused { user, refusal });
        }
        let token = wire::read_token(&body).map_err(|error| NoToken::Broken(error.of(NAME)))?;
        secrets.hide("token", &token);
        Ok(Answered { user, token: Secret::new(token) })
    }
}
