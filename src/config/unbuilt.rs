//! Options that this version or build accepts and does not support. A resource that uses one must not start and silently
//! behave differently. A feature's line here is removed by the change that adds the feature.

use super::backend::Kind;
use super::model::{Config, Resource};

/// Why https is not supported in this build.
pub const NO_TLS: &str = "this program is built without TLS: use the default build (cargo build --release)";

/// Why filters are not supported in this build.
pub(super) const NO_FILTERS: &str =
    "this program is built without JavaScript filters: use the `full` build (cargo build --features full)";

/// One message for each unsupported option, in the order of the configuration; none if all are supported. Filters are
/// refused where their directory is read.
pub fn unsupported(config: &Config) -> Vec<String> {
    let mut missing = Vec::new();
    let telemetry = &config.telemetry;
    let sinks = [
        ("inmem", telemetry.inmem.is_some()),
        ("statsd", telemetry.statsd.is_some()),
        ("statsite", telemetry.statsite.is_some()),
        ("prometheus", telemetry.prometheus.is_some()),
    ];
    for (sink, _) in sinks.iter().filter(|(_, used)| telemetry.enabled && *used) {
        missing.push(format!("telemetry: the {sink} sink is not supported yet"));
    }
    for resource in &config.resources {
        missing.extend(of_resource(resource).iter().map(|what| format!("resource `{}`: {what}", resource.name)));
    }
    missing
}

fn of_resource(resource: &Resource) -> Vec<String> {
    let mut missing = Vec::new();
    for backend in &resource.backends {
        match &backend.kind {
            Kind::Etcd(etcd) => {
                if !cfg!(feature = "tls") && etcd.wants_tls() {
                    missing.push(format!("etcd: https and client_* files: {NO_TLS}"));
                }
            }
            Kind::File(file) => {
                if !cfg!(feature = "tls") && file.filepath.to_ascii_lowercase().starts_with("https:") {
                    missing.push(format!("file: an https filepath: {NO_TLS}"));
                }
            }
            Kind::Consul(consul) => {
                missing.extend(without("consul", cfg!(feature = "consul")));
                if !cfg!(feature = "tls") && consul.wants_tls() {
                    missing.push(format!("consul: https and client_* files: {NO_TLS}"));
                }
            }
            Kind::Redis(redis) => {
                missing.extend(without("redis", cfg!(feature = "redis")));
                if !cfg!(feature = "tls") && redis.wants_tls() {
                    missing.push(format!("redis: rediss and client_* files: {NO_TLS}"));
                }
            }
            Kind::Plugin(_) => missing.extend(without("plugin", cfg!(feature = "plugin"))),
            Kind::Zookeeper(zookeeper) => {
                missing.extend(without("zookeeper", cfg!(feature = "zookeeper")));
                if cfg!(feature = "zookeeper") && !cfg!(feature = "tls") && zookeeper.wants_tls() {
                    missing.push(format!("zookeeper: zookeepers and client_* files: {NO_TLS}"));
                }
            }
            Kind::Env | Kind::Mock => {}
            Kind::Nats(nats) => {
                missing.extend(without("nats", cfg!(feature = "nats")));
                if cfg!(feature = "nats") && !cfg!(feature = "tls") && nats.wants_tls() {
                    missing.push(format!("nats: tls://, client_* files and creds: {NO_TLS}"));
                }
            }
            Kind::Vault(vault) => {
                missing.extend(without("vault", cfg!(feature = "vault")));
                if !cfg!(feature = "tls") && vault.wants_tls() {
                    missing.push(format!("vault: https and client_* files: {NO_TLS}"));
                }
            }
        }
    }
    missing
}

/// What is missing where a store was left out of this build.
fn without(store: &str, is_built: bool) -> Option<String> {
    let words = || {
        format!("the {store} backend: this program is built without it: use the default build (cargo build --release)")
    };
    (!is_built).then(words)
}
