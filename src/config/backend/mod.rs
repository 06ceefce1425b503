//! The backends of a resource and the order in which they are merged. The tables of each resource overlay those of
//! `default_backends` key by key. Each store has a file with its options, rows and parser. Connects to nothing.

pub(super) mod address;
pub(super) mod consul;
pub(super) mod credential;
pub(super) mod env;
pub(super) mod etcd;
pub(super) mod file;
pub(super) mod general;
pub(super) mod mock;
pub(super) mod nats;
pub(super) mod network;
pub(super) mod plugin;
pub(super) mod read_limits;
pub(super) mod redis;
pub(super) mod tls;
mod unbuilt;
pub(super) mod vault;
pub(super) mod zookeeper;

use std::time::Duration;

pub use consul::{Consul, Token};
pub use credential::{Credential, Login};
pub use etcd::{Etcd, EtcdVersion};
pub use file::File;
pub use nats::{Nats, NatsLogin};
pub use network::Network;
pub use plugin::Plugin;
pub use read_limits::ReadLimits;
pub use redis::Redis;
pub use tls::Tls;
pub use unbuilt::OPTIONAL_STORES;
pub use vault::{AuthType, Vault};
pub use zookeeper::Zookeeper;

use super::document::{Span, Table};
use super::reader::{Found, Reader};
use super::report::Report;
use super::schema::{Default, Schema, Type, key};

/// One backend of one resource.
#[derive(Clone, Debug, PartialEq)]
pub struct Backend {
    /// Keys to read, each with the keys below it.
    pub keys: Vec<String>,
    /// Keys whose changes trigger an update; `keys` if the user set none.
    pub watch_keys: Vec<String>,
    /// The prefix of every key in the store. Templates see the keys without it.
    pub prefix: String,
    /// Whether changes of keys trigger updates.
    pub watch: bool,
    /// Whether the keys are read once and never again.
    pub onetime: bool,
    /// The time between two reads; `None`: no reads by time.
    pub interval: Option<Duration>,
    /// Whether no value is shown or stored: `secret` of the backend or of its resource, and always for vault.
    pub secret: bool,
    /// The store.
    pub kind: Kind,
}

/// The store of a backend, with its own options.
#[derive(Clone, Debug, PartialEq)]
pub enum Kind {
    /// etcd, version 2 or 3.
    Etcd(Etcd),
    /// A YAML or JSON file.
    File(File),
    /// Environment variables.
    Env,
    /// Consul.
    Consul(Consul),
    /// Vault.
    Vault(Vault),
    /// Redis.
    Redis(Redis),
    /// ZooKeeper.
    Zookeeper(Zookeeper),
    /// No keys, for tests.
    Mock,
    /// NATS.
    Nats(Nats),
    /// A program that speaks the plugin protocol.
    Plugin(Plugin),
}

impl Kind {
    /// Whether all its values are secrets.
    pub fn is_secret(&self) -> bool {
        matches!(self, Kind::Vault(_))
    }

    /// The name of the store in logs and messages.
    pub fn name(&self) -> &str {
        match self {
            Kind::Etcd(_) => "etcd",
            Kind::File(_) => "file",
            Kind::Env => "env",
            Kind::Mock => "mock",
            Kind::Consul(_) => "consul",
            Kind::Vault(_) => "vault",
            Kind::Redis(_) => "redis",
            Kind::Zookeeper(_) => "zookeeper",
            Kind::Nats(_) => "nats",
            Kind::Plugin(plugin) => plugin.name(),
        }
    }
}

/// The backends of a resource, in the order in which they are merged: a later one wins.
pub(super) static BACKENDS: Schema = Schema {
    path: "resource.backend",
    title: "`backend`",
    groups: &[&[
        key("etcd", Type::Table, Default::Unset, "see [etcd](#etcd)"),
        key("file", Type::Table, Default::Unset, "see [file](#file)"),
        key("env", Type::Table, Default::Unset, "see [env](#env)"),
        key("consul", Type::Table, Default::Unset, "see [consul](#consul)"),
        key("vault", Type::Table, Default::Unset, "see [vault](#vault)"),
        key("redis", Type::Table, Default::Unset, "see [redis](#redis)"),
        key("zookeeper", Type::Table, Default::Unset, "see [zookeeper](#zookeeper)"),
        key("mock", Type::Table, Default::Unset, "see [mock](#mock)"),
        key("nats", Type::Table, Default::Unset, "see [nats](#nats)"),
        key("plugin", Type::Tables, Default::Unset, "see [`[[resource.backend.plugin]]`](#resourcebackendplugin)"),
    ]],
};

/// The environment variables of the stores' own clients, which are defaults of their options.
pub(super) const VARIABLES: &[&str] = &[
    "CONSUL_CACERT",
    "CONSUL_CLIENT_CERT",
    "CONSUL_CLIENT_KEY",
    "CONSUL_HTTP_ADDR",
    "CONSUL_HTTP_AUTH",
    "CONSUL_HTTP_SSL",
    "CONSUL_HTTP_SSL_VERIFY",
    "CONSUL_HTTP_TOKEN",
    "CONSUL_HTTP_TOKEN_FILE",
    "CONSUL_NAMESPACE",
    "CONSUL_TLS_SERVER_NAME",
    "VAULT_ADDR",
    "VAULT_CACERT",
    "VAULT_NAMESPACE",
    "VAULT_TOKEN",
];

/// A backend that is not a plugin.
struct Builtin {
    name: &'static str,
    schema: &'static Schema,
    /// Reads its own keys. `None`: a required one is wrong or missing.
    kind: fn(&Reader) -> Option<Kind>,
}

/// In merge order. Plugins come last.
const BUILTIN: &[Builtin] = &[
    Builtin { name: "etcd", schema: &etcd::ETCD, kind: |reader| Some(Kind::Etcd(etcd::parse(reader))) },
    Builtin { name: "file", schema: &file::FILE, kind: |reader| file::parse(reader).map(Kind::File) },
    Builtin { name: "env", schema: &env::ENV, kind: |_| Some(Kind::Env) },
    Builtin { name: "consul", schema: &consul::CONSUL, kind: |reader| Some(Kind::Consul(consul::parse(reader))) },
    Builtin { name: "vault", schema: &vault::VAULT, kind: |reader| vault::parse(reader).map(Kind::Vault) },
    Builtin { name: "redis", schema: &redis::REDIS, kind: |reader| Some(Kind::Redis(redis::parse(reader))) },
    Builtin {
        name: "zookeeper",
        schema: &zookeeper::ZOOKEEPER,
        kind: |reader| Some(Kind::Zookeeper(zookeeper::parse(reader))),
    },
    Builtin { name: "mock", schema: &mock::MOCK, kind: |_| Some(Kind::Mock) },
    Builtin { name: "nats", schema: &nats::NATS, kind: |reader| nats::parse(reader).map(Kind::Nats) },
];

/// All backends of a resource, its own over the default ones. `header`: the header of its `backend` table.
pub(super) fn parse_all(resource: &Reader, header: &str, defaults: Option<&Found<&Table>>) -> Vec<Backend> {
    let report = resource.report;
    let own = resource.table("backend");
    let layers: Vec<(&Table, Span)> = own.iter().chain(defaults).map(|table| (table.value, table.span)).collect();
    let mut backends = Vec::new();
    let mut named = false;
    if !layers.is_empty() {
        let reader = Reader::overlaid(report, &BACKENDS, layers);
        for builtin in BUILTIN {
            named |= reader.has(builtin.name);
            let tables = reader.tables_of_layers(builtin.name);
            if !tables.is_empty() {
                let layers = tables.iter().map(|table| (table.value, table.span)).collect();
                backends.extend(builtin.parse(&Reader::overlaid(report, builtin.schema, layers)));
            }
        }
    }
    if let Some(own) = &own {
        let reader = Reader::new(report, &BACKENDS, own.value, own.span);
        named |= reader.has("plugin");
        for table in reader.tables("plugin", &format!("{header}.plugin")) {
            let reader = Reader::new(report, &plugin::PLUGIN, table.value, table.span);
            backends.extend(backend(&reader, "plugin", plugin::parse(&reader).map(Kind::Plugin)));
        }
    }
    let malformed = own.is_none() && resource.has("backend");
    if !named && !malformed {
        let message = format!("this resource has no backend: add one, such as `[{header}.etcd]`");
        report.missing(resource.span(), message);
    }
    backends
}

/// Checks default_backends on their own: an error in them is reported even if there is no resource.
pub(super) fn check_defaults(report: &Report, defaults: &Found<&Table>) {
    let reader = Reader::new(report, &BACKENDS, defaults.value, defaults.span);
    for builtin in BUILTIN {
        if let Some(table) = reader.table(builtin.name) {
            builtin.parse(&Reader::new(report, builtin.schema, table.value, table.span).for_defaults());
        }
    }
    if reader.has("plugin") {
        report.warn(reader.place("plugin"), "`plugin` is not inherited: move it into the resources that need it");
    }
}

impl Builtin {
    fn parse(&self, reader: &Reader) -> Option<Backend> {
        backend(reader, self.name, (self.kind)(reader))
    }
}

/// A backend from its own options and the keys that every backend has.
fn backend(reader: &Reader, name: &str, kind: Option<Kind>) -> Option<Backend> {
    let unwatchable = match &kind {
        Some(Kind::File(file)) => file.is_remote().then_some("a remote file"),
        Some(Kind::Env | Kind::Vault(_) | Kind::Mock) => Some(name),
        // Only a running Redis shows whether it reports changes.
        Some(
            Kind::Etcd(_) | Kind::Consul(_) | Kind::Redis(_) | Kind::Zookeeper(_) | Kind::Nats(_) | Kind::Plugin(_),
        ) => None,
        // Among the stores without watching, only vault has a required key.
        None => (name == "vault").then_some(name),
    };
    unbuilt::check(reader, name, kind.as_ref());
    let general::General { keys, watch_keys, prefix, watch, onetime, interval, secret } =
        general::parse(reader, name, unwatchable);
    let kind = kind?;
    let secret = secret || kind.is_secret();
    Some(Backend { keys, watch_keys, prefix, watch, onetime, interval, secret, kind })
}
