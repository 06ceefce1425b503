//! The TLS files of a store: their rows and paths.
//! Reads no file.

use std::path::PathBuf;

use crate::config::reader::{Purpose, Reader};
use crate::config::report::quoted;
use crate::config::schema::{Default, Key, Type, key};

/// Paths of PEM files; `None` where not set.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Tls {
    /// The certificate for the server, followed by its intermediates.
    pub client_cert: Option<PathBuf>,
    /// The private key of `client_cert`.
    pub client_key: Option<PathBuf>,
    /// The authorities that may have signed the server's certificate.
    pub client_ca_keys: Option<PathBuf>,
    /// The name that the server's certificate must have, instead of the node's name.
    pub server_name: Option<String>,
}

pub(super) static TLS: &[Key] = &[
    key(
        "client_cert",
        Type::Text,
        Default::Unset,
        "the path of a PEM file: the certificate that is shown to the server, then its intermediates. Needs `client_key`",
    ),
    key(
        "client_key",
        Type::Text,
        Default::Unset,
        "the path of a PEM file: the private key of `client_cert`, unencrypted: RSA, ECDSA P-256, ECDSA P-384 or \
         Ed25519, as PKCS#8, PKCS#1 or SEC1",
    ),
    key(
        "client_ca_keys",
        Type::Text,
        Default::Described("see [Authorities](#authorities)"),
        "the path of a PEM file: the authorities that may have signed the server's certificate",
    ),
];

/// Reads the paths. A certificate without its key, or a key without its certificate, is an error.
pub(super) fn tls(reader: &Reader) -> Tls {
    let tls = Tls {
        client_cert: reader.path("client_cert"),
        client_key: reader.path("client_key"),
        client_ca_keys: reader.path("client_ca_keys"),
        server_name: None,
    };
    let half = match (&tls.client_cert, &tls.client_key) {
        (Some(_), None) => Some(("client_cert", "client_key")),
        (None, Some(_)) => Some(("client_key", "client_cert")),
        _ => None,
    };
    if let Some((is, lacks)) = half
        && reader.purpose == Purpose::Use
    {
        let why = if reader.has(lacks) { reader.report.unset(reader.place(lacks)) } else { String::new() };
        let message = format!("{} has no effect without {}{why}: set both", quoted(is), quoted(lacks));
        reader.report.missing(reader.place(is), message);
    }
    tls
}
