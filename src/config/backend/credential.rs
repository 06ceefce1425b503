//! The user of a store and its password: the rows of their files, and their values.
//! Reads no file.

use std::path::PathBuf;

use crate::config::reader::{Purpose, Reader};
use crate::config::report::quoted;
use crate::config::schema::{Default, Key, Type, key};
use crate::config::secret::Secret;

/// A user and its password.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Login {
    /// The name of the user.
    pub username: Credential,
    /// The password.
    pub password: Credential,
}

impl Login {
    /// A login that has only a secret, as its password.
    pub fn of_secret(secret: Credential) -> Login {
        Login { username: Credential::none(), password: secret }
    }
}

/// A text of the configuration, or of a file that is read at every login.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Credential {
    /// The text itself.
    Inline(Secret),
    /// The path of the file.
    File(PathBuf),
}

impl Credential {
    /// The empty text.
    pub fn none() -> Credential {
        Credential::Inline(Secret::default())
    }
}

/// `username_file`, for the stores that have it.
pub(super) const USERNAME_FILE: Key = key(
    "username_file",
    Type::Text,
    Default::Unset,
    "the path of a file that holds the user, read at every login; a newline at its end is ignored. Of \
     `username` and `username_file` the one in the resource overrides the one in `default_backends`; both in \
     one table are an error",
);

/// `password_file`, for the stores that have it.
pub(super) const PASSWORD_FILE: Key = key(
    "password_file",
    Type::Text,
    Default::Unset,
    "the path of a file that holds the password, by the rules of `username_file`",
);

/// The user and the password. A password without a user has no effect.
pub(super) fn login(reader: &Reader) -> Option<Login> {
    let report = reader.report;
    match login_of_any(reader) {
        (Some(username), password) => Some(Login { username, password: password.unwrap_or_else(Credential::none) }),
        (None, Some(_)) => {
            if reader.purpose == Purpose::Use {
                let span = reader.place(if reader.has("username") { "username" } else { "password" });
                let why = report.unset(span);
                let message =
                    format!("`password` has no effect without a user{why}: set `username` or `username_file`");
                report.warn_missing(span, message);
            }
            None
        }
        (None, None) => None,
    }
}

/// The user and the password, each of which may be missing. A user without a password is reported.
pub(super) fn login_of_any(reader: &Reader) -> (Option<Credential>, Option<Credential>) {
    let username = credential(reader, "username", "username_file");
    let password = credential(reader, "password", "password_file");
    if username.is_some() && password.is_none() && reader.purpose == Purpose::Use {
        let span = reader.place(if reader.has("password") { "password" } else { "username" });
        let why = reader.report.unset(span);
        let message = format!("`username` has no password{why}: set `password` or `password_file`");
        reader.report.warn_missing(span, message);
    }
    (username, password)
}

/// A text or the file that holds it; the one that is set nearer to the resource counts. `None`: neither is set, or it
/// is empty.
pub(super) fn credential(reader: &Reader, inline: &'static str, file: &'static str) -> Option<Credential> {
    match reader.nearest_of(&[inline, file]).as_slice() {
        [] => None,
        [name] if *name == file => reader.path(file).map(Credential::File),
        [_] => reader.filled(inline).map(|found| Credential::Inline(Secret::new(found.value.to_owned()))),
        _ => {
            let message = format!("{} and {} are both set: remove one of them", quoted(inline), quoted(file));
            reader.report.error(reader.place(file), message);
            None
        }
    }
}
