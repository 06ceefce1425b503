//! The options of Redis: struct, rows and parser.
//! Resolves no name and reads no file.

use std::time::Duration;

use super::address::{SRV_RECORD, addresses, host_and_port, refuse};
use super::credential::{Credential, Login, PASSWORD_FILE, USERNAME_FILE, login_of_any};
use super::general::GENERAL;
use super::network::{self, NETWORK, Network, watch_deadline};
use super::read_limits::READ_LIMITS;
use super::tls::{self, TLS, Tls};
use crate::config::reader::{Found, Reader};
use crate::config::report::Report;
use crate::config::schema::{Default, Schema, Type, Unit, key, secret};

/// The port of a node without a port.
const PORT: u16 = 6379;

/// The options of Redis.
#[derive(Clone, Debug, PartialEq)]
pub struct Redis {
    /// `redis://HOST:PORT`, `rediss://HOST:PORT` (TLS) or `unix:PATH`; at least one if there is no `srv_record`.
    pub nodes: Vec<String>,
    /// The DNS name whose SRV records are the nodes; empty: none.
    pub srv_record: String,
    /// The files for TLS.
    pub tls: Tls,
    /// The user and its password; the user is empty if there is only a password. `None`: no login.
    pub login: Option<Login>,
    /// The number of the database.
    pub database: i64,
    /// The time after which the node of a silent watch is probed.
    pub watch_deadline: Duration,
    /// The limits of its commands.
    pub network: Network,
}

pub(in crate::config) static REDIS: Schema = Schema {
    path: "resource.backend.redis",
    title: "`redis`",
    groups: &[
        GENERAL,
        &[
            key(
                "nodes",
                Type::Texts,
                Default::Described("needed, or `srv_record`"),
                "addresses like `127.0.0.1:6379`, `redis://127.0.0.1:6379` or `rediss://127.0.0.1:6379` (TLS), or the path \
                 of a unix socket, with a `/` in it or `unix:` in front. An address without a scheme has TLS if one of the \
                 `client_*` files is set. They are tried in their order. Empty addresses are ignored, with a warning",
            ),
            SRV_RECORD,
            secret("password", "the password, of `username` if that is set, else of the default user"),
            key("database", Type::Integer(Unit::Plain), Default::Number(0), "the number of the database; 0 or more"),
        ],
        // Go remco has none of these.
        &[
            key("username", Type::Text, Default::Unset, "the user of Redis 6 or later"),
            USERNAME_FILE,
            PASSWORD_FILE,
            watch_deadline(
                "a watch that was silent for this time is probed by a `PING` on both connections; if the server does not \
                 answer, both are opened again and the keys are read again",
            ),
        ],
        TLS,
        NETWORK,
        READ_LIMITS,
    ],
};

/// Reads the table.
pub(super) fn parse(reader: &Reader) -> Redis {
    const EXAMPLE: &str = "127.0.0.1:6379";
    let tls = tls::tls(reader);
    let scheme = if tls == Tls::default() { "redis" } else { "rediss" };
    let url = |node: Found<&str>| match node_url(node.value, scheme) {
        Ok(url) => {
            url.strip_prefix("unix:").into_iter().for_each(|path| reader.report.check_socket(node.span, path));
            Some(url)
        }
        Err(how) => {
            refuse(reader.report, node.span, node.value, "redis", how);
            None
        }
    };
    Redis {
        nodes: addresses(reader, "redis", Some(EXAMPLE)).into_iter().filter_map(url).collect(),
        srv_record: reader.string("srv_record"),
        tls,
        login: login(reader),
        database: database(reader),
        watch_deadline: reader.time_limit("watch_deadline"),
        network: network::parse(reader),
    }
}

/// A node as a URL, or advice how to write it.
fn node_url(node: &str, scheme: &str) -> Result<String, &'static str> {
    const FORM: &str = "write it like `\"127.0.0.1:6379\"`, `\"rediss://127.0.0.1:6379\"` or `\"/run/redis.sock\"`";
    let node = node.trim();
    if let Some(path) = node.strip_prefix("unix:") {
        let path = path.strip_prefix("//").unwrap_or(path);
        return if path.is_empty() { Err(FORM) } else { Ok(format!("unix:{path}")) };
    }
    let (scheme, rest) = match node.split_once("://") {
        Some((scheme, rest)) => (scheme.to_ascii_lowercase(), rest.trim_end_matches('/')),
        None if node.contains('/') || node.ends_with(".sock") => {
            // An address with a path, such as `h:1/0`, is no socket.
            let is_path = !node.contains('@') && !node.split('/').next().is_some_and(|first| first.contains(':'));
            return if is_path { Ok(format!("unix:{node}")) } else { Err(FORM) };
        }
        None => (scheme.to_owned(), node),
    };
    if !matches!(&*scheme, "redis" | "rediss") {
        return Err(FORM);
    }
    if rest.contains('@') {
        return Err("the user and the password belong in `username` and `password`");
    }
    if rest.contains('/') {
        return Err("the number of the database belongs in `database`");
    }
    host_and_port(rest, PORT).map(|rest| format!("{scheme}://{rest}")).ok_or(FORM)
}

fn login(reader: &Reader) -> Option<Login> {
    match login_of_any(reader) {
        (None, None) => None,
        (username, password) => {
            let (username, password) =
                (username.unwrap_or_else(Credential::none), password.unwrap_or_else(Credential::none));
            Some(Login { username, password })
        }
    }
}

fn database(reader: &Reader) -> i64 {
    let Some(found) = reader.integer("database") else {
        return 0;
    };
    if found.value < 0 {
        reader.report.error(found.span, "`database` must not be negative");
    }
    found.value
}

impl Redis {
    /// The scheme of the nodes of `srv_record`.
    pub fn scheme_of_record(&self) -> &'static str {
        if self.tls == Tls::default() { "redis" } else { "rediss" }
    }

    /// Whether a node may use TLS.
    pub fn wants_tls(&self) -> bool {
        self.tls != Tls::default() || self.nodes.iter().any(|node| node.starts_with("rediss:"))
    }
}

impl std::default::Default for Redis {
    fn default() -> Redis {
        parse(&Reader::of_nothing(&Report::of_defaults(), &REDIS))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nodes_are_urls_or_sockets() {
        let check = |node: &str, want: &str| assert_eq!(node_url(node, "redis").as_deref(), Ok(want), "{node}");
        check("h", "redis://h:6379");
        check(" h:1 ", "redis://h:1");
        check("[::1]:1", "redis://[::1]:1");
        check("REDISS://h/", "rediss://h:6379");
        check("redis://h:1", "redis://h:1");
        check("/run/redis.sock", "unix:/run/redis.sock");
        check("redis.sock", "unix:redis.sock");
        check("unix:///run/r", "unix:/run/r");
        check("unix:r", "unix:r");
        for none in [
            "",
            "http://h",
            "redis://",
            "redis://u:p@h:1",
            "h:x",
            "redis://h/2",
            "unix:",
            "unix://",
            "a b",
            "h:1/0",
            "http:/h",
            "u:p@/h",
        ] {
            assert!(node_url(none, "redis").is_err(), "{none}");
        }
        assert_eq!(node_url("h", "rediss").as_deref(), Ok("rediss://h:6379"));
    }
}
