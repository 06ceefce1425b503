//! What the keys of `[telemetry]` mean. Counts nothing and sends nothing: it says where metrics
//! would go.

use std::time::Duration;

use super::document::Table;
use super::keys::{self, Shape};
use super::model::Telemetry;
use super::reader::{Found, Reader};
use super::report::Report;

/// Reads the table; without one, the defaults.
pub(super) fn parse(report: &Report, table: Option<&Found<&Table>>) -> Telemetry {
    let mut telemetry = Telemetry {
        enabled: false,
        service_name: "remco".to_owned(),
        hostname: String::new(),
        enable_hostname: true,
        enable_hostname_label: false,
        enable_runtime_metrics: true,
        inmem: None,
        statsd: None,
        statsite: None,
        prometheus: None,
    };
    let Some(table) = table else { return telemetry };
    let reader = Reader::new(report, &keys::TELEMETRY, table.value, table.span);
    let set = |place: &mut bool, key| *place = reader.boolean(key).unwrap_or(*place);
    set(&mut telemetry.enabled, "enabled");
    set(&mut telemetry.enable_hostname, "enable_hostname");
    set(&mut telemetry.enable_hostname_label, "enable_hostname_label");
    set(&mut telemetry.enable_runtime_metrics, "enable_runtime_metrics");
    if let Some(name) = reader.filled("service_name") {
        telemetry.service_name = name.value.to_owned();
    }
    telemetry.hostname = reader.string("hostname");
    let Some(sinks) = reader.table("sinks") else {
        return telemetry;
    };
    let sinks = Reader::new(report, &keys::SINKS, sinks.value, sinks.span);
    let sink = |name, shape: &'static Shape| {
        sinks.table(name).map(|table| Reader::new(report, shape, table.value, table.span))
    };
    let address =
        |sink: &Reader| sink.required("addr", "an address like `127.0.0.1:8125`").map(|addr| addr.value.into());
    telemetry.inmem = sink("inmem", &keys::INMEM).and_then(|sink| {
        let interval = positive(&sink, "interval")?;
        Some((interval, positive(&sink, "retain")?))
    });
    telemetry.statsd = sink("statsd", &keys::STATSD).and_then(|sink| address(&sink));
    telemetry.statsite = sink("statsite", &keys::STATSITE).and_then(|sink| address(&sink));
    telemetry.prometheus = sink("prometheus", &keys::PROMETHEUS).and_then(|sink| {
        let expiration = sink.seconds("expiration").map_or(Duration::ZERO, |found| found.value);
        Some((address(&sink)?, expiration))
    });
    telemetry
}

/// Seconds that must be there and not be zero: remco divides one by the other.
fn positive(reader: &Reader, key: &str) -> Option<Duration> {
    let found = reader.seconds(key);
    match &found {
        Some(found) if found.value.is_zero() => {
            reader.report.error(found.span, format!("`{key}` must be at least 1 second"));
            return None;
        }
        None if !reader.has(key) => {
            reader.report.missing(reader.span(), format!("`{key}` is missing in `inmem`: set it to seconds"));
        }
        _ => {}
    }
    found.map(|found| found.value)
}
