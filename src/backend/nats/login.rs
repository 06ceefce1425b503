//! The server's INFO before a login, and the CONNECT line that logs in. Hides secrets from errors. Decides neither when
//! a login is needed nor what follows a refusal.

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use serde::Deserialize;
use serde_json::json;

use super::creds::Creds;
use crate::backend::protocol::Credentials;
use crate::backend::redact::Redactor;
use crate::config::Secret;
use crate::percent;

/// Signs a text with the Ed25519 key of a seed. `None`: this build cannot sign.
pub type Sign = fn(&[u8; 32], &[u8]) -> Option<Vec<u8>>;

/// The INFO of a server.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Info {
    /// The server's version.
    pub version: String,
    /// Whether the server supports headers.
    pub headers: bool,
    /// Clients must set up TLS.
    pub tls_required: bool,
    /// Clients may set up TLS.
    pub tls_available: bool,
    /// The nonce that a user with a key signs.
    pub nonce: Option<String>,
}

impl Info {
    /// Parses the JSON of INFO.
    pub fn of(json: &[u8]) -> Option<Info> {
        serde_json::from_slice(json).ok()
    }
}

/// The kind of credentials in the configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// User and password, or none.
    User,
    /// A token, in the place of the password.
    Token,
    /// The text of a credentials file, in the place of the password.
    Creds,
}

/// The decoded user and password of a URL. A user without a password is a token.
pub fn of_url(url: &str) -> Option<(String, Option<String>)> {
    let user = percent::user_of(url)?;
    match user.split_once(':') {
        Some((user, password)) => Some((percent::decoded_text(user), Some(percent::decoded_text(password)))),
        None => Some((percent::decoded_text(user), None)),
    }
}

/// The identity of a login.
pub enum Identity {
    /// No credentials, for a server without users.
    Anonymous,
    /// A user with a password.
    User(Credentials),
    /// A token.
    Token(Secret),
    /// A user with a key.
    Key(Creds),
}

impl Identity {
    /// Selects the identity from the credentials of the configuration and the URL of the node. The secrets are hidden
    /// from errors from now on.
    ///
    /// # Errors
    /// The credentials file is unusable. The text has the cause.
    pub fn of(
        credentials: Option<Credentials>,
        kind: Kind,
        url: &str,
        secrets: &mut Redactor,
    ) -> Result<Identity, String> {
        let user =
            |user, password| Identity::User(Credentials { user: Secret::new(user), password: Secret::new(password) });
        let identity = match (of_url(url), kind, credentials) {
            // The user of a URL has priority over the configuration, as in all NATS clients, but not over a key.
            (_, Kind::Creds, Some(Credentials { password: file, .. })) => Identity::Key(
                Creds::of(file.reveal()).map_err(|why| format!("failed to read the file `creds`: {why}"))?,
            ),
            (Some((name, Some(password))), ..) => user(name, password),
            (Some((token, None)), ..) => Identity::Token(Secret::new(token)),
            (None, Kind::Token, Some(Credentials { password: token, .. })) => Identity::Token(token),
            (None, Kind::User, Some(credentials)) => Identity::User(credentials),
            (None, _, None) => Identity::Anonymous,
        };
        match &identity {
            Identity::Anonymous => {}
            Identity::User(Credentials { password, .. }) => secrets.hide("password", password.reveal()),
            Identity::Token(token) => secrets.hide("token", token.reveal()),
            Identity::Key(creds) => {
                secrets.hide("seed", creds.seed.text.reveal());
                secrets.hide("jwt", creds.jwt.reveal());
            }
        }
        Ok(identity)
    }

    /// The name of the user, for errors.
    pub fn name(&self) -> Option<&str> {
        match self {
            Identity::User(Credentials { user, .. }) => Some(user.reveal()),
            Identity::Anonymous | Identity::Token(_) | Identity::Key(_) => None,
        }
    }

    /// The CONNECT line.
    ///
    /// # Errors
    /// The key cannot be used with this server. The text has the cause.
    pub fn connect(&self, info: &Info, is_secure: bool, sign: Sign) -> Result<String, String> {
        let mut options = json!({
            "verbose": false,
            "pedantic": false,
            "tls_required": is_secure,
            "name": "remco",
            "lang": "rust",
            "version": env!("CARGO_PKG_VERSION"),
            "protocol": 1,
            "headers": true,
            "no_responders": true,
            "echo": false,
        });
        match self {
            Identity::Anonymous => {}
            Identity::User(Credentials { user, password }) => {
                options["user"] = json!(user.reveal());
                options["pass"] = json!(password.reveal());
            }
            Identity::Token(token) => options["auth_token"] = json!(token.reveal()),
            Identity::Key(creds) => {
                let nonce = info.nonce.as_deref().ok_or("the server does not ask for a key: remove `creds`")?;
                let signature = sign(&creds.seed.key, nonce.as_bytes()).ok_or("this build has no signatures")?;
                options["jwt"] = json!(creds.jwt.reveal());
                options["sig"] = json!(BASE64_URL_SAFE_NO_PAD.encode(signature));
            }
        }
        Ok(format!("CONNECT {options}\r\n"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(url: &str, kind: Kind, user: &str, password: &str) -> Result<serde_json::Value, String> {
        let credentials = Credentials { user: Secret::new(user.into()), password: Secret::new(password.into()) };
        let info = Info { nonce: Some("nonce".into()), ..Info::default() };
        let sign: Sign = |seed, text| Some([&seed[..2], text].concat());
        let made = Identity::of(Some(credentials), kind, url, &mut Redactor::default())?.connect(&info, false, sign)?;
        let json = made.strip_prefix("CONNECT ").unwrap().strip_suffix("\r\n").unwrap();
        Ok(serde_json::from_str(json).unwrap())
    }

    #[test]
    fn each_kind_of_user_has_fields_of_its_own() {
        let user = line("nats://h:1", Kind::User, "me", "s\"\r\n").unwrap();
        assert_eq!(
            (&user["user"], &user["pass"], &user["auth_token"]),
            (&json!("me"), &json!("s\"\r\n"), &json!(null))
        );
        let token = line("nats://h:1", Kind::Token, "", "t").unwrap();
        assert_eq!((&token["user"], &token["auth_token"]), (&json!(null), &json!("t")));
        let url = line("nats://u%40:p%3a%@h:1/x@y", Kind::Token, "", "t").unwrap();
        assert_eq!((&url["user"], &url["pass"], &url["auth_token"]), (&json!("u@"), &json!("p:%"), &json!(null)));
        assert_eq!(line("nats://tok@h:1", Kind::User, "me", "s").unwrap()["auth_token"], json!("tok"));
        assert_eq!(of_url("nats://h:1/a@b"), None);
    }

    #[test]
    fn a_key_signs_the_nonce() {
        let file = "-----BEGIN NATS USER JWT-----\ney.x\n---\n---BEGIN---\n\
                    SUAAAAICAMCAKBQHBAEQUCYMBUHA6EARCIJRIFIWC4MBSGQ3DQOR4H776Y\n---\n";
        let key = line("nats://h:1", Kind::Creds, "", file).unwrap();
        assert_eq!((&key["jwt"], &key["sig"]), (&json!("ey.x"), &json!("AAFub25jZQ")));
        let wrong = line("nats://h:1", Kind::Creds, "", "x").unwrap_err();
        assert_eq!(wrong, "failed to read the file `creds`: it has no block with a user JWT");
    }

    #[test]
    fn the_info_of_a_server_is_read() {
        let info =
            Info::of(b"{\"version\":\"2.10.4\",\"headers\":true,\"tls_required\":true,\"nonce\":\"n\",\"x\":[]}");
        let info = info.unwrap();
        assert_eq!((info.headers, info.tls_required, info.nonce.as_deref()), (true, true, Some("n")));
        assert!(Info::of(b"{\"headers\":7}").is_none() && Info::of(b"").is_none());
        assert!(!Info::of(b"{}").unwrap().headers);
    }
}
