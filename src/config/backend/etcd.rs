//! The options of etcd: struct, rows and parser.
//! Resolves no name and reads no file.

use std::path::PathBuf;
use std::time::Duration;

use super::address::{addresses, is_plain, node_url};
use super::every::EVERY;
use super::read_limits::{self, READ_LIMITS, ReadLimits};
use super::tls::{self, TLS, Tls};
use crate::config::reader::{Found, Purpose, Reader};
use crate::config::report::{Report, quoted};
use crate::config::schema::{Default, Schema, Type, Unit, key, secret};
use crate::config::secret::Secret;

/// The options of etcd.
#[derive(Clone, Debug, PartialEq)]
pub struct Etcd {
    /// URLs with `http` or `https` and no slash at the end; one at least where there is no `srv_record`. A node that is
    /// written without a scheme is https if a client_* file is set, else http.
    pub nodes: Vec<String>,
    /// The scheme of nodes from `srv_record`, for version 2.
    pub scheme: String,
    /// The DNS name whose SRV records are the nodes; empty: none.
    pub srv_record: String,
    /// The files for TLS.
    pub tls: Tls,
    /// The user; `None`: requests have no credentials.
    pub login: Option<Login>,
    /// `None`: detected.
    pub version: Option<EtcdVersion>,
    /// The timeout of each step of a request: sending it, the head of the response, each piece of the rest.
    pub request_timeout: Duration,
    /// The timeout of a connection attempt.
    pub dial_timeout: Duration,
    /// How long a one-shot run retries.
    pub timeout: Duration,
    /// How long a watch may be silent before its node is probed.
    pub watch_deadline: Duration,
    /// The largest response, and the largest line of a watch, in bytes.
    pub max_response: usize,
    /// The limits of one read.
    pub read: ReadLimits,
}

/// A user and its password.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Login {
    /// The name of the user.
    pub username: Credential,
    /// Its password.
    pub password: Credential,
}

/// A text of the configuration, or of a file that is read at every login.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Credential {
    /// The text itself.
    Inline(Secret),
    /// The path of the file.
    File(PathBuf),
}

/// A version of etcd's keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EtcdVersion {
    /// A tree of directories.
    V2,
    /// A flat, sorted map.
    V3,
}

pub(in crate::config) static ETCD: Schema = Schema {
    path: "resource.backend.etcd",
    title: "`etcd`",
    groups: &[
        EVERY,
        &[
            key(
                "nodes",
                Type::Texts,
                Default::Described("needed, or `srv_record`"),
                "addresses like `http://127.0.0.1:2379`. An address without a scheme is https if one of the `client_*` \
                 files is set, else http. A port is a number. A path is allowed; `?` and `#` are not, so a password with \
                 one of these or with a `/` has to be in `password`. Empty addresses are ignored, with a warning",
            ),
            key(
                "scheme",
                Type::Text,
                Default::Word("http"),
                "the scheme of nodes from `srv_record`, with `version = 2` only",
            ),
            key(
                "srv_record",
                Type::Text,
                Default::Unset,
                "a DNS name like `_etcd-client._tcp.example.com` whose SRV records are the nodes, if `nodes` is empty; \
                 see below",
            ),
            key("username", Type::Text, Default::Unset, "the user of etcd; see [Users](#users)"),
            secret("password", "the password of the user"),
            key(
                "version",
                Type::Integer(Unit::Plain),
                Default::Described("detected"),
                "2 or 3. The two versions hold separate keys; see below",
            ),
        ],
        TLS,
        // Go remco has none of these.
        &[
            key(
                "username_file",
                Type::Text,
                Default::Unset,
                "the path of a file that holds the user, read at every login; a newline at its end is ignored. Of \
                 `username` and `username_file` the one in the resource overrides the one in `default_backends`; both in \
                 one table are an error",
            ),
            key(
                "password_file",
                Type::Text,
                Default::Unset,
                "the path of a file that holds the password, by the rules of `username_file`",
            ),
            key(
                "request_timeout",
                Type::Decimal(Unit::Seconds),
                Default::Number(3),
                "the timeout of each step of a request: sending it, with the TLS handshake; waiting for the head of the \
                 response; waiting for each piece of the rest",
            ),
            key(
                "dial_timeout",
                Type::Decimal(Unit::Seconds),
                Default::Number(5),
                "the timeout of a connection, over all addresses of the node's name",
            ),
            key(
                "timeout",
                Type::Decimal(Unit::Seconds),
                Default::Number(30),
                "with `-onetime`: how long a failed read is retried, from its first failure, before the resource fails. \
                 Without `-onetime` it is retried without end",
            ),
            key(
                "watch_deadline",
                Type::Decimal(Unit::Seconds),
                Default::Number(30),
                "a watch that was silent for this time has its node probed. With `version = 2` the node is also probed \
                 while its waits return changes, and waits of this age are renewed if the store has changed",
            ),
            key(
                "max_response",
                Type::Integer(Unit::Bytes),
                Default::Number(256 << 20),
                "the largest response, and the largest line of a watch; at least 1",
            ),
        ],
        READ_LIMITS,
    ],
};

/// Reads the table.
pub(super) fn parse(reader: &Reader) -> Etcd {
    const EXAMPLE: &str = "http://127.0.0.1:2379";
    let tls = tls::tls(reader);
    let scheme = if tls == Tls::default() { "http" } else { "https" };
    let url = |node: Found<&str>| {
        let url = node_url(node.value, scheme).filter(|url| is_plain(url));
        if url.is_none() {
            let why = reader.report.unset(node.span);
            let message = format!("this is not an address of etcd{why}: write it like `\"{EXAMPLE}\"`");
            reader.report.error(node.span, message);
        }
        url
    };
    Etcd {
        nodes: addresses(reader, "etcd", Some(EXAMPLE)).into_iter().filter_map(url).collect(),
        scheme: reader.string("scheme"),
        srv_record: reader.string("srv_record"),
        tls,
        login: login(reader),
        version: version(reader),
        request_timeout: reader.time_limit("request_timeout"),
        dial_timeout: reader.time_limit("dial_timeout"),
        timeout: reader.time_limit("timeout"),
        watch_deadline: reader.time_limit("watch_deadline"),
        max_response: reader.positive("max_response"),
        read: read_limits::parse(reader),
    }
}

/// The user and the password. A password without a user has no effect.
fn login(reader: &Reader) -> Option<Login> {
    let username = credential(reader, "username", "username_file");
    let password = credential(reader, "password", "password_file");
    let report = reader.report;
    match (username, password) {
        (Some(username), Some(password)) => Some(Login { username, password }),
        (Some(username), None) => {
            if reader.purpose == Purpose::Use {
                let span = reader.place(if reader.has("password") { "password" } else { "username" });
                let why = report.unset(span);
                let message = format!("`username` has no password{why}: set `password` or `password_file`");
                report.lacking(span, message);
            }
            Some(Login { username, password: Credential::Inline(Secret::default()) })
        }
        (None, Some(_)) => {
            if reader.purpose == Purpose::Use {
                let span = reader.place(if reader.has("username") { "username" } else { "password" });
                let why = report.unset(span);
                let message =
                    format!("`password` has no effect without a user{why}: set `username` or `username_file`");
                report.lacking(span, message);
            }
            None
        }
        (None, None) => None,
    }
}

/// A text or the file that holds it, whichever is set nearer to the resource; `None` for neither and for an empty one.
fn credential(reader: &Reader, inline: &'static str, file: &'static str) -> Option<Credential> {
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

fn version(reader: &Reader) -> Option<EtcdVersion> {
    let found = reader.integer("version")?;
    match found.value {
        2 => Some(EtcdVersion::V2),
        3 => Some(EtcdVersion::V3),
        _ => {
            reader.report.error(found.span, "`version` must be 2 or 3");
            None
        }
    }
}

impl Etcd {
    /// The scheme of the nodes of `srv_record`.
    pub fn scheme_of_record(&self) -> &str {
        match self.version {
            // etcd's own name for the records of nodes with TLS.
            _ if self.srv_record.to_ascii_lowercase().starts_with("_etcd-client-ssl.") => "https",
            Some(EtcdVersion::V2) => &self.scheme,
            Some(EtcdVersion::V3) | None if self.tls == Tls::default() => "http",
            Some(EtcdVersion::V3) | None => "https",
        }
    }

    /// Whether a node is https or a file for TLS is set.
    pub fn wants_tls(&self) -> bool {
        // `nodes` override the record.
        let of_nodes = self.nodes.iter().any(|node| node.starts_with("https://"));
        let of_record = self.nodes.is_empty() && self.scheme_of_record() == "https";
        self.tls != Tls::default() || of_nodes || of_record
    }
}

/// The options of an empty table.
impl std::default::Default for Etcd {
    fn default() -> Etcd {
        parse(&Reader::of_nothing(&Report::of_defaults(), &ETCD))
    }
}
