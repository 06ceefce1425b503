//! Options that this version or build accepts and does not support. A resource that uses one must not start and silently
//! behave differently. A feature's line here is removed by the change that adds the feature. Backends are checked where
//! they are read.

use super::model::Config;

/// One message for each unsupported option, in the order of the configuration; none if all are supported. Filters are
/// refused where their directory is read, backends where their tables are.
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
    missing
}
