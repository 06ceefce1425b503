//! The options of ZooKeeper: struct, rows and parser.
//! Resolves no name and reads no file.

use std::time::Duration;

use super::address::{SRV_RECORD, addresses, fault, host_and_port, refuse};
use super::credential::{Login, PASSWORD_FILE, USERNAME_FILE, login};
use super::general::GENERAL;
use super::network::{self, NETWORK, Network, watch_deadline};
use super::read_limits::READ_LIMITS;
use super::tls::{self, TLS, Tls};
use crate::config::document::Span;
use crate::config::reader::Reader;
use crate::config::report::{Report, quoted};
use crate::config::schema::{Default, Schema, Type, Unit, key, secret};

/// The port of a node without a port.
const PORT: u16 = 2181;

/// The schemes of nodes: without TLS, and with it.
const SCHEME: &str = "zookeeper";
const TLS_SCHEME: &str = "zookeepers";

/// The options of ZooKeeper.
#[derive(Clone, Debug, PartialEq)]
pub struct Zookeeper {
    /// `zookeeper://HOST:PORT` or `zookeepers://HOST:PORT` (TLS); at least one if there is no `srv_record`.
    pub nodes: Vec<String>,
    /// The path above all keys, for all nodes: empty, or with a slash at its start and none at its end.
    pub chroot: String,
    /// The DNS name whose SRV records are the nodes; empty: none.
    pub srv_record: String,
    /// The files for TLS.
    pub tls: Tls,
    /// The user and its password, for digest authentication; `None`: no user.
    pub login: Option<Login>,
    /// The time that the servers keep the session of a silent client.
    pub session_timeout: Duration,
    /// The time after which a silent connection is probed.
    pub watch_deadline: Duration,
    /// The limits of its requests.
    pub network: Network,
}

pub(in crate::config) static ZOOKEEPER: Schema = Schema {
    path: "resource.backend.zookeeper",
    title: "`zookeeper`",
    groups: &[
        GENERAL,
        &[
            key(
                "nodes",
                Type::Texts,
                Default::Described("needed, or `srv_record`"),
                "addresses like `127.0.0.1:2181` or `zookeepers://127.0.0.1:2281` (TLS). An address without a scheme has TLS \
                 if one of the `client_*` files is set. The port is 2181 where none is written. A path at the end is a \
                 chroot, the same for all nodes: `127.0.0.1:2181/prod`. A connect string such as `zk1:2181,zk2:2181/prod` \
                 is allowed too. Empty addresses are ignored, with a warning",
            ),
            SRV_RECORD,
        ],
        // Go remco has none of these.
        &[
            key("username", Type::Text, Default::Unset, "the user, for ACLs with the scheme `digest`"),
            secret("password", "the password of the user"),
            USERNAME_FILE,
            PASSWORD_FILE,
            key(
                "session_timeout",
                Type::Decimal(Unit::Seconds),
                Default::Number(10),
                "how long the servers keep the session without a message from remco; they may choose another time. \
                 A ping is sent after a third of it",
            ),
            watch_deadline(
                "a ping is sent after this time without a request, or after a third of the session's timeout if that \
                 is less",
            ),
        ],
        TLS,
        NETWORK,
        READ_LIMITS,
    ],
};

/// Reads the table.
pub(super) fn parse(reader: &Reader) -> Zookeeper {
    const EXAMPLE: &str = "127.0.0.1:2181";
    let tls = tls::tls(reader);
    let scheme = if tls == Tls::default() { SCHEME } else { TLS_SCHEME };
    let (mut nodes, mut chroots): (Vec<String>, Vec<(String, Span)>) = (Vec::new(), Vec::new());
    for node in addresses(reader, "zookeeper", Some(EXAMPLE)) {
        match connect_string(node.value, scheme) {
            Ok((urls, chroot)) => {
                urls.into_iter().for_each(|url| nodes.extend((!nodes.contains(&url)).then_some(url)));
                chroots.push((chroot, node.span));
            }
            Err(how) => {
                // One text may have several addresses.
                let wrong = node.value.split(',').find(|one| !fault(one).is_empty());
                refuse(reader.report, node.span, wrong.unwrap_or_default(), "zookeeper", how);
            }
        }
    }
    let chroot = chroots.first().map_or(String::new(), |(chroot, _)| chroot.clone());
    if let Some((other, span)) = chroots.iter().find(|(other, _)| *other != chroot) {
        let message = format!("the chroots {} and {} differ: all nodes need the same", quoted(&chroot), quoted(other));
        reader.report.error(*span, message);
    }
    Zookeeper {
        nodes,
        chroot,
        srv_record: reader.string("srv_record"),
        tls,
        login: login(reader),
        session_timeout: reader.time_limit("session_timeout"),
        watch_deadline: reader.time_limit("watch_deadline"),
        network: network::parse(reader),
    }
}

/// The URLs of an address, or of several with commas between them, and the chroot behind the last one. An error is
/// advice how to write them.
fn connect_string(text: &str, scheme: &str) -> Result<(Vec<String>, String), &'static str> {
    const FORM: &str = "write it like `\"127.0.0.1:2181\"` or `\"127.0.0.1:2181/chroot\"`";
    let text = text.trim();
    let (scheme, rest) = match text.split_once("://") {
        Some((scheme, rest)) => (scheme.to_ascii_lowercase(), rest),
        None => (scheme.to_owned(), text),
    };
    if !matches!(&*scheme, SCHEME | TLS_SCHEME) {
        return Err(FORM);
    }
    if rest.contains('@') {
        return Err("the user and the password belong in `username` and `password`");
    }
    let (hosts, chroot) = match rest.split_once('/') {
        Some((hosts, chroot)) => (hosts, chroot.trim_end_matches('/')),
        None => (rest, ""),
    };
    let is_name = |name: &str| !matches!(name, "" | "." | "..") && !name.contains(char::is_control);
    if !chroot.is_empty() && !chroot.split('/').all(is_name) {
        return Err("the path is none of ZooKeeper");
    }
    let chroot = if chroot.is_empty() { String::new() } else { format!("/{chroot}") };
    let url = |host: &str| host_and_port(host.trim(), PORT).map(|host| format!("{scheme}://{host}")).ok_or(FORM);
    Ok((hosts.split(',').map(url).collect::<Result<_, _>>()?, chroot))
}

impl Zookeeper {
    /// The scheme of the nodes of `srv_record`.
    pub fn scheme_of_record(&self) -> &'static str {
        if self.tls == Tls::default() { SCHEME } else { TLS_SCHEME }
    }

    /// Whether a node may use TLS.
    pub fn wants_tls(&self) -> bool {
        self.tls != Tls::default() || self.nodes.iter().any(|node| node.starts_with(TLS_SCHEME))
    }
}

/// The options of an empty table.
impl std::default::Default for Zookeeper {
    fn default() -> Zookeeper {
        parse(&Reader::of_nothing(&Report::of_defaults(), &ZOOKEEPER))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_and_connect_strings_are_urls_and_a_chroot() {
        let check = |text: &str, urls: &[&str], chroot: &str| {
            let want = urls.iter().map(|url| url.to_string()).collect::<Vec<_>>();
            assert_eq!(connect_string(text, SCHEME), Ok((want, chroot.to_owned())), "{text}");
        };
        check("h", &["zookeeper://h:2181"], "");
        check(" h:1/ ", &["zookeeper://h:1"], "");
        check("[::1]:1/a/b/", &["zookeeper://[::1]:1"], "/a/b");
        check("ZooKeepers://h/a", &["zookeepers://h:2181"], "/a");
        check("a:1, b,[::1]/x y", &["zookeeper://a:1", "zookeeper://b:2181", "zookeeper://[::1]:2181"], "/x y");
        for none in ["", "a,,b", "http://h", "u:p@h:1", "h:x", "h:0", "h/a//b", "h/../x", "h/a\nb", "/a", "a b"] {
            assert!(connect_string(none, SCHEME).is_err(), "{none}");
        }
        assert_eq!(connect_string("h", TLS_SCHEME).unwrap().0, ["zookeepers://h:2181"]);
    }
}
