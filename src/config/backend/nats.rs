//! The options of NATS: struct, rows and parser.
//! Resolves no name and reads no file.

use std::path::PathBuf;
use std::time::Duration;

use super::address::{addresses, host_and_port, is_plain, refuse};
use super::credential::{Credential, Login, PASSWORD_FILE, USERNAME_FILE, credential, login};
use super::general::GENERAL;
use super::network::{self, NETWORK, Network, watch_deadline};
use super::read_limits::READ_LIMITS;
use super::tls::{self, TLS, Tls};
use crate::config::document::Span;
use crate::config::reader::{Purpose, Reader};
use crate::config::report::{Report, quoted};
use crate::config::schema::{Default, Schema, Type, key, secret};

/// The port of a node without a port.
const PORT: u16 = 4222;

/// The default node.
const LOCAL: &str = "nats://127.0.0.1:4222";

/// The options of NATS.
#[derive(Clone, Debug, PartialEq)]
pub struct Nats {
    /// URLs with `nats` or `tls` and a port; at least one.
    pub nodes: Vec<String>,
    /// The key-value bucket.
    pub bucket: String,
    /// The identity of the login; `None`: the URLs may name a user.
    pub login: Option<NatsLogin>,
    /// The files for TLS.
    pub tls: Tls,
    /// The time that a watch may be silent.
    pub watch_deadline: Duration,
    /// The limits of its requests.
    pub network: Network,
}

/// The identity of a login to NATS.
#[derive(Clone, Debug, PartialEq)]
pub enum NatsLogin {
    /// A user with a password.
    User(Login),
    /// A token.
    Token(Credential),
    /// The user of a credentials file, by its path.
    Creds(PathBuf),
}

pub(in crate::config) static NATS: Schema = Schema {
    path: "resource.backend.nats",
    title: "`nats`",
    groups: &[
        GENERAL,
        &[
            key(
                "nodes",
                Type::Texts,
                Default::Described("`nats://127.0.0.1:4222`"),
                "addresses like `nats://127.0.0.1:4222`; `tls://` insists on TLS. The port is 4222 where none is written. \
                 A user and a password in an address override the keys below",
            ),
            key("bucket", Type::Text, Default::Needed, "the key-value bucket: letters, digits, `-` and `_`"),
            key("username", Type::Text, Default::Unset, "the user"),
            secret("password", "the password of the user"),
            secret("token", "a token instead of a user"),
            key(
                "creds",
                Type::Text,
                Default::Unset,
                "the path of a credentials file, with a JWT and the seed of an NKEY, instead of a user or a token; read at \
                 every login",
            ),
        ],
        // Go remco has none of these.
        &[
            USERNAME_FILE,
            PASSWORD_FILE,
            key(
                "token_file",
                Type::Text,
                Default::Unset,
                "the path of a file that holds the token, by the rules of `username_file`",
            ),
            watch_deadline(
                "the server sends a heartbeat after a third of this time without changes; if nothing came for this time, \
                 the bucket is read and watched again",
            ),
        ],
        TLS,
        NETWORK,
        READ_LIMITS,
    ],
};

/// Reads the table; `None`: the `bucket` is missing or wrong.
pub(super) fn parse(reader: &Reader) -> Option<Nats> {
    let nats = Nats {
        nodes: nodes(reader),
        bucket: String::new(),
        login: nats_login(reader),
        tls: tls::tls(reader),
        watch_deadline: reader.time_limit("watch_deadline"),
        network: network::parse(reader),
    };
    let bucket = reader.required("bucket", "the name of a key-value bucket")?;
    if !bucket.value.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_')) {
        let message = "`bucket` is not the name of a key-value bucket: it has letters, digits, `-` and `_` only";
        reader.report.error(bucket.span, message);
        return None;
    }
    Some(Nats { bucket: bucket.value.to_owned(), ..nats })
}

fn nodes(reader: &Reader) -> Vec<String> {
    let mut urls = Vec::new();
    for found in addresses(reader, "nats", None) {
        // Go remco takes several addresses in one text too.
        for text in found.value.split(',').filter(|text| !text.trim().is_empty()) {
            match url(text) {
                Some(url) => urls.push(url),
                None => wrong(reader, found.span, text),
            }
        }
    }
    if urls.is_empty() {
        urls.push(LOCAL.to_owned());
    }
    urls
}

fn wrong(reader: &Reader, span: Span, text: &str) {
    refuse(reader.report, span, text, "NATS", &format!("write it like `\"{LOCAL}\"`"));
}

/// A node with scheme and port; `None`: the text is no node.
fn url(node: &str) -> Option<String> {
    let node = node.trim();
    let (scheme, rest) = node.split_once("://").unwrap_or(("nats", node));
    let scheme = scheme.to_ascii_lowercase();
    let rest = rest.trim_end_matches('/');
    let (user, host) = rest.rsplit_once('@').map_or((None, rest), |(user, host)| (Some(user), host));
    let host = host_and_port(host, PORT)?;
    let is_sound = matches!(&*scheme, "nats" | "tls") && !rest.contains(|c: char| c.is_whitespace() || c.is_control());
    let user = user.map_or(String::new(), |user| format!("{user}@"));
    let url = format!("{scheme}://{user}{host}");
    (is_sound && is_plain(&url) && !user.contains('/')).then_some(url)
}

/// The login. If several kinds are set, the credentials file has priority, then the token.
fn nats_login(reader: &Reader) -> Option<NatsLogin> {
    let creds = reader.path("creds").map(NatsLogin::Creds);
    let token = credential(reader, "token", "token_file").map(NatsLogin::Token);
    let names_user = reader.filled("username").is_some() || reader.path("username_file").is_some();
    // A password without a user is no error if another kind of login is set.
    let user = if creds.is_some() || token.is_some() { None } else { login(reader).map(NatsLogin::User) };
    if reader.purpose == Purpose::Use {
        let token_key = if reader.has("token_file") { "token_file" } else { "token" };
        let ignored = match (&creds, &token) {
            (Some(_), Some(_)) => Some((token_key, "creds")),
            (Some(_), None) if names_user => Some(("username", "creds")),
            (None, Some(_)) if names_user => Some(("username", token_key)),
            _ => None,
        };
        if let Some((key, other)) = ignored {
            let message = format!("{} has no effect beside {}: remove one of them", quoted(key), quoted(other));
            reader.report.warn(reader.place(key), message);
        }
    }
    creds.or(token).or(user)
}

impl Nats {
    /// Whether a node requires TLS, a file for TLS is set, or a key signs.
    pub fn wants_tls(&self) -> bool {
        self.tls != Tls::default()
            || self.nodes.iter().any(|node| node.starts_with("tls://"))
            || matches!(self.login, Some(NatsLogin::Creds(_)))
    }
}

/// The options of an empty table; there is no bucket.
impl std::default::Default for Nats {
    fn default() -> Nats {
        let report = Report::of_defaults();
        let reader = Reader::of_nothing(&report, &NATS);
        Nats {
            nodes: vec![LOCAL.to_owned()],
            bucket: String::new(),
            login: None,
            tls: Tls::default(),
            watch_deadline: reader.time_limit("watch_deadline"),
            network: network::parse(&reader),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nodes_are_urls_with_a_port() {
        let check = |node: &str, want: Option<&str>| assert_eq!(url(node).as_deref(), want, "{node}");
        check("nats://127.0.0.1:4222", Some("nats://127.0.0.1:4222"));
        check(" TLS://n/ ", Some("tls://n:4222"));
        check("n", Some("nats://n:4222"));
        check("n:1", Some("nats://n:1"));
        check("[::1]", Some("nats://[::1]:4222"));
        check("nats://[::1]:5", Some("nats://[::1]:5"));
        check("nats://me:se@cret@h", Some("nats://me:se@cret@h:4222"));
        check("tok@h:1", Some("nats://tok@h:1"));
        for none in
            ["", "ws://h", "http://h:4222", "h:", "h:x", "h:99999", "h:+1", "::1", "a b", "nats://h/x", "me:1/2@h", "@"]
        {
            check(none, None);
        }
    }
}
