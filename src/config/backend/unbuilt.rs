//! Reports the parts of backends that this build does not support: a store that was left out, or TLS. Knows no filters
//! and no telemetry.

use super::Kind;
use crate::config::build::{NO_STORE, NO_TLS};
use crate::config::reader::{Found, Purpose, Reader};

/// Schemes of addresses that need TLS.
const TLS_SCHEMES: &[&str] = &["https:", "rediss:", "zookeepers:", "tls:"];

/// Reports a store that is not in this build, once for each table that names it. Otherwise reports the first key that
/// needs TLS in a build without TLS. `name`: the name of the table.
pub(super) fn check(reader: &Reader, name: &str, kind: Option<&Kind>) {
    if OPTIONAL_STORES.contains(&(name, false)) {
        let message = format!("`{name}` is not supported: {NO_STORE}");
        return reader.report.error(reader.span_of_defaults(), message);
    }
    // A resource may override defaults that need TLS.
    if !cfg!(feature = "tls") && reader.purpose == Purpose::Use && kind.is_some_and(wants_tls) {
        report_tls(reader);
    }
}

/// The stores that a build may leave out, and whether this build has them.
pub const OPTIONAL_STORES: &[(&str, bool)] = &[
    ("consul", cfg!(feature = "consul")),
    ("vault", cfg!(feature = "vault")),
    ("redis", cfg!(feature = "redis")),
    ("zookeeper", cfg!(feature = "zookeeper")),
    ("nats", cfg!(feature = "nats")),
    ("plugin", cfg!(feature = "plugin")),
];

fn wants_tls(kind: &Kind) -> bool {
    match kind {
        Kind::Etcd(etcd) => etcd.wants_tls(),
        Kind::File(file) => is_secure(&file.filepath),
        Kind::Consul(consul) => consul.wants_tls(),
        Kind::Vault(vault) => vault.wants_tls(),
        Kind::Redis(redis) => redis.wants_tls(),
        Kind::Zookeeper(zookeeper) => zookeeper.wants_tls(),
        Kind::Nats(nats) => nats.wants_tls(),
        Kind::Env | Kind::Mock | Kind::Plugin(_) => false,
    }
}

/// Whether an address names TLS.
fn is_secure(address: &str) -> bool {
    let address = address.trim().to_ascii_lowercase();
    TLS_SCHEMES.iter().any(|scheme| address.starts_with(scheme))
}

/// Reports at the address that names TLS, or else at the key that requires TLS.
fn report_tls(reader: &Reader) {
    let lists = reader.known("nodes").then(|| reader.texts("nodes")).flatten().into_iter().flatten();
    let texts = ["node", "filepath"].into_iter().filter_map(|name| filled(reader, name));
    if let Some(address) = lists.chain(texts).find(|found| is_secure(found.value)) {
        return reader.report.error(address.span, format!("this address needs TLS: {NO_TLS}"));
    }
    let keys = ["client_cert", "client_key", "client_ca_keys", "creds", "scheme", "srv_record"];
    match keys.into_iter().find_map(|name| Some((name, filled(reader, name)?))) {
        Some((name, found)) => reader.report.error(found.span, format!("`{name}` needs TLS: {NO_TLS}")),
        // A variable of the store's own client.
        None => reader.report.error(reader.span(), format!("the environment asks for TLS here: {NO_TLS}")),
    }
}

fn filled<'a>(reader: &Reader<'a>, name: &'static str) -> Option<Found<&'a str>> {
    reader.known(name).then(|| reader.filled(name)).flatten()
}
