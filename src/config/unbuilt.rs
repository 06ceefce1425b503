//! What a configuration may ask for and this version or build does not do. A resource that needs it must not start and
//! quietly do something else. Each line here goes with the change that builds the feature.

use super::{Config, Etcd, EtcdVersion, File, Kind, Resource, Tls};

/// One message for each thing that is not built, in the order of the configuration; none if all can be done.
pub fn unsupported(config: &Config) -> Vec<String> {
    let mut missing = Vec::new();
    if let (Some(filter), false) = (config.filters.first(), cfg!(feature = "js")) {
        let filter = filter.display();
        missing.push(format!(
            "filter `{filter}`: this program is built without JavaScript filters: \
             use the `full` build (cargo build --features full)"
        ));
    }
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
        let name = match &backend.kind {
            Kind::Etcd(etcd) => {
                missing.extend(of_etcd(etcd).map(|what| format!("etcd: {what} not supported yet")));
                continue;
            }
            Kind::File(file) => {
                missing.extend(of_file(file).map(|what| format!("file: {what} not supported yet")));
                continue;
            }
            Kind::Env | Kind::Mock => continue,
            Kind::Consul(_) => "consul",
            Kind::Vault(_) => "vault",
            Kind::Redis(_) => "redis",
            Kind::Zookeeper(_) => "zookeeper",
            Kind::Nats(_) => "nats",
            Kind::Plugin(_) => "plugin",
        };
        missing.push(format!("the {name} backend is not supported yet"));
    }
    missing
}

fn of_etcd(etcd: &Etcd) -> impl Iterator<Item = &'static str> {
    [
        (etcd.version == Some(EtcdVersion::V2), "version 2 is"),
        // Nodes that are given win over the record.
        (etcd.nodes.is_empty() && !etcd.srv_record.is_empty(), "srv_record is"),
        (!etcd.username.is_empty(), "username is"),
        (
            etcd.tls != Tls::default() || etcd.nodes.iter().any(|node| node.starts_with("https://")),
            "TLS (an https node, client_cert, client_key, client_ca_keys) is",
        ),
    ]
    .into_iter()
    .filter_map(|(used, what)| used.then_some(what))
}

fn of_file(file: &File) -> Option<&'static str> {
    file.is_remote().then_some("a remote filepath is")
}
