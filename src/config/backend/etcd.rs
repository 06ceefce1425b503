//! The options of etcd: struct, rows and parser.
//! Resolves no name and reads no file.

use std::time::Duration;

use super::address::{addresses, is_plain, node_url, refuse};
use super::credential::{Login, PASSWORD_FILE, USERNAME_FILE, login};
use super::general::GENERAL;
use super::network::{self, NETWORK, Network, watch_deadline};
use super::read_limits::READ_LIMITS;
use super::tls::{self, TLS, Tls};
use crate::config::reader::{Found, Reader};
use crate::config::report::Report;
use crate::config::schema::{Default, Schema, Type, Unit, key, secret};

/// The options of etcd.
#[derive(Clone, Debug, PartialEq)]
pub struct Etcd {
    /// URLs with `http` or `https` and no slash at the end; at least one if there is no `srv_record`. A node without a
    /// scheme is https if a client_* file is set, else http.
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
    /// The time after which the node of a silent watch is probed.
    pub watch_deadline: Duration,
    /// The limits of its requests.
    pub network: Network,
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
        GENERAL,
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
            USERNAME_FILE,
            PASSWORD_FILE,
            watch_deadline(
                "the node of a watch is probed after this time without data. With `version = 2` the node is also probed \
                 while its waits return changes, and waits of this age are renewed if the store has changed",
            ),
        ],
        NETWORK,
        READ_LIMITS,
    ],
};

/// Reads the table.
pub(super) fn parse(reader: &Reader) -> Etcd {
    const EXAMPLE: &str = "http://127.0.0.1:2379";
    let tls = tls::tls(reader);
    let scheme = if tls == Tls::default() { "http" } else { "https" };
    let version = version(reader);
    let url = |node: Found<&str>| {
        let url = node_url(node.value, scheme).filter(|url| is_plain(url));
        if url.is_none() {
            refuse(reader.report, node.span, node.value, "etcd", &format!("write it like `\"{EXAMPLE}\"`"));
        } else if node.value.contains('@') && version == Some(EtcdVersion::V3) {
            let message = "version 3 does not log in as the user of an address: set `username` and `password`";
            reader.report.warn_in_address(node.span, message.to_owned());
        }
        url
    };
    Etcd {
        nodes: addresses(reader, "etcd", Some(EXAMPLE)).into_iter().filter_map(url).collect(),
        scheme: reader.string("scheme"),
        srv_record: reader.string("srv_record"),
        tls,
        login: login(reader),
        version,
        watch_deadline: reader.time_limit("watch_deadline"),
        network: network::parse(reader),
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
