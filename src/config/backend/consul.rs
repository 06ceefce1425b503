//! The options of Consul: struct, rows and parser. The environment variables of Consul's own client are the defaults.
//! Resolves no name and reads no file.

use std::path::PathBuf;
use std::time::Duration;

use super::address::{SRV_RECORD, addresses, is_plain, node_url, refuse, refuse_variable};
use super::credential::{Credential, credential};
use super::general::GENERAL;
use super::network::{self, NETWORK, Network, watch_deadline};
use super::read_limits::READ_LIMITS;
use super::tls::{self, TLS, Tls};
use crate::config::reader::{Found, Reader};
use crate::config::schema::{Default, Schema, Type, Unit, key, secret};
use crate::config::secret::Secret;

/// The options of Consul.
#[derive(Clone, Debug, PartialEq)]
pub struct Consul {
    /// URLs with `http` or `https` and no slash at the end, or `unix://` and a path; at least one if there is no
    /// `srv_record`.
    pub nodes: Vec<String>,
    /// The scheme of nodes without a scheme: `http` or `https`.
    pub scheme: &'static str,
    /// The DNS name whose SRV records are the nodes; empty: none.
    pub srv_record: String,
    /// The files for TLS.
    pub tls: Tls,
    /// The ACL token; `None`: requests are anonymous.
    pub token: Option<Token>,
    /// `USER:PASSWORD` for HTTP's basic authentication; empty: none.
    pub auth: Secret,
    /// Empty: the datacenter of the node.
    pub datacenter: String,
    /// Empty: the default one.
    pub namespace: String,
    /// The time that a server may delay a response until a change.
    pub wait: Duration,
    /// The time after which the node of silent watches is probed.
    pub watch_deadline: Duration,
    /// The limits of requests.
    pub network: Network,
}

/// An ACL token.
#[derive(Clone, Debug, PartialEq)]
pub struct Token {
    /// Its text, or the file that holds it.
    pub credential: Credential,
    /// The key or the variable that has the token, for messages.
    pub source: &'static str,
}

pub(in crate::config) static CONSUL: Schema = Schema {
    path: "resource.backend.consul",
    title: "`consul`",
    groups: &[
        GENERAL,
        &[
            key(
                "nodes",
                Type::Texts,
                Default::Described("`CONSUL_HTTP_ADDR`, else `127.0.0.1:8500`"),
                "addresses like `127.0.0.1:8500` or `https://consul:8501`, or `unix:///PATH` of a socket",
            ),
            key(
                "scheme",
                Type::Text,
                Default::Described("`https` if `CONSUL_HTTP_SSL` is true, else `http`"),
                "`http` or `https`, for addresses without a scheme",
            ),
            SRV_RECORD,
        ],
        TLS,
        // Go remco has none of these.
        &[
            secret("token", "the ACL token; `CONSUL_HTTP_TOKEN_FILE` and `CONSUL_HTTP_TOKEN` where it is not set"),
            key(
                "token_file",
                Type::Text,
                Default::Unset,
                "the path of a file that holds the token, read before requests; a newline at its end is ignored",
            ),
            key("datacenter", Type::Text, Default::Unset, "the datacenter; that of the node where it is not set"),
            key("namespace", Type::Text, Default::Described("`CONSUL_NAMESPACE`"), "the namespace (Consul Enterprise)"),
            key(
                "wait",
                Type::Decimal(Unit::Seconds),
                Default::Number(300),
                "how long the server lets a request wait for a change, varied by a tenth; then the request is repeated. \
                 Consul takes 600 at most",
            ),
            watch_deadline(
                "after this time without an answer to a wait, the node is asked whether its cluster has a leader; if \
                 it does not answer, the next node is used",
            ),
        ],
        NETWORK,
        READ_LIMITS,
    ],
};

/// Reads the table.
pub(super) fn parse(reader: &Reader) -> Consul {
    const EXAMPLE: &str = "127.0.0.1:8500";
    let report = reader.report;
    let scheme = scheme(reader);
    let url = |node: Found<&str>| {
        let url = address(node.value, scheme);
        let socket = url.as_deref().and_then(|url| url.strip_prefix("unix://"));
        socket.into_iter().for_each(|path| report.check_socket(node.span, path));
        if url.is_none() {
            refuse(report, node.span, node.value, "Consul", &format!("write it like `\"{EXAMPLE}\"`"));
        }
        url
    };
    let srv_record = reader.string("srv_record");
    let mut nodes: Vec<String> = addresses(reader, "consul", None).into_iter().filter_map(url).collect();
    if nodes.is_empty() && srv_record.is_empty() {
        let of_environment = report.variable("CONSUL_HTTP_ADDR");
        let node = of_environment.and_then(|node| address(node, scheme));
        if let (Some(address), None) = (of_environment, &node) {
            refuse_variable(report, reader.span(), ("CONSUL_HTTP_ADDR", address), "Consul", "nodes");
        }
        nodes.push(node.unwrap_or_else(|| format!("{scheme}://{EXAMPLE}")));
    }
    if is_set(report.variable("CONSUL_HTTP_SSL_VERIFY")) == Some(false) {
        let message = "`CONSUL_HTTP_SSL_VERIFY` is false, but certificates are always verified: set `client_ca_keys`";
        report.warn(reader.span(), message);
    }
    Consul {
        nodes,
        scheme,
        srv_record,
        tls: tls_of(reader),
        token: token(reader),
        auth: Secret::new(report.variable("CONSUL_HTTP_AUTH").unwrap_or_default().to_owned()),
        datacenter: reader.string("datacenter"),
        namespace: or_variable(reader, "namespace", "CONSUL_NAMESPACE"),
        wait: reader.time_limit("wait"),
        watch_deadline: reader.time_limit("watch_deadline"),
        network: network::parse(reader),
    }
}

fn scheme(reader: &Reader) -> &'static str {
    match reader.filled("scheme") {
        Some(found) => match &*found.value.to_ascii_lowercase() {
            "http" => "http",
            "https" => "https",
            _ => {
                reader.report.error(found.span, "`scheme` must be `http` or `https`");
                "http"
            }
        },
        None if is_set(reader.report.variable("CONSUL_HTTP_SSL")) == Some(true) => "https",
        None => "http",
    }
}

/// A boolean in a spelling of Go; `None`: the text is no boolean.
fn is_set(value: Option<&str>) -> Option<bool> {
    match value? {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Some(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Some(false),
        _ => None,
    }
}

/// The URL of a node.
fn address(node: &str, scheme: &str) -> Option<String> {
    match node.trim().strip_prefix("unix://") {
        Some(path) => path.starts_with('/').then(|| format!("unix://{path}")),
        None => node_url(node, scheme).filter(|url| is_plain(url)),
    }
}

fn or_variable(reader: &Reader, name: &'static str, variable: &str) -> String {
    reader.filled(name).map(|found| found.value).or(reader.report.variable(variable)).unwrap_or_default().to_owned()
}

fn tls_of(reader: &Reader) -> Tls {
    let tls = tls::tls(reader);
    let path = |variable| reader.report.variable(variable).map(PathBuf::from);
    let has_own = tls.client_cert.is_some() || tls.client_key.is_some();
    Tls {
        client_cert: tls.client_cert.or_else(|| path("CONSUL_CLIENT_CERT").filter(|_| !has_own)),
        client_key: tls.client_key.or_else(|| path("CONSUL_CLIENT_KEY").filter(|_| !has_own)),
        client_ca_keys: tls.client_ca_keys.or_else(|| path("CONSUL_CACERT")),
        server_name: reader.report.variable("CONSUL_TLS_SERVER_NAME").map(str::to_owned),
    }
}

fn token(reader: &Reader) -> Option<Token> {
    if let Some(credential) = credential(reader, "token", "token_file") {
        let source = if matches!(credential, Credential::File(_)) { "token_file" } else { "token" };
        return Some(Token { credential, source });
    }
    let (file, text) = ("CONSUL_HTTP_TOKEN_FILE", "CONSUL_HTTP_TOKEN");
    match (reader.report.variable(file), reader.report.variable(text)) {
        (Some(path), _) => Some(Token { credential: Credential::File(path.into()), source: file }),
        (None, Some(token)) => {
            Some(Token { credential: Credential::Inline(Secret::new(token.to_owned())), source: text })
        }
        (None, None) => None,
    }
}

impl Consul {
    /// Whether a node is https or a file for TLS is set in the configuration.
    pub fn wants_tls(&self) -> bool {
        let is_https = |node: &String| node.starts_with("https://");
        self.nodes.iter().any(is_https) || (self.nodes.is_empty() && self.scheme == "https")
    }
}

/// The options of an empty table.
#[cfg(test)]
impl std::default::Default for Consul {
    fn default() -> Consul {
        parse(&Reader::of_nothing(&crate::config::report::Report::of_defaults(), &CONSUL))
    }
}
