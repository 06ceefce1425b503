//! The keys of `[telemetry]`: their rows and what they mean.
//! Counts nothing and sends nothing.

use std::time::Duration;

use super::document::Table;
use super::model::Telemetry;
use super::reader::{Found, Reader};
use super::report::Report;
use super::schema::{Default, Schema, Type, Unit, key};

pub(super) static TELEMETRY: Schema = Schema {
    path: "telemetry",
    title: "`telemetry`",
    groups: &[&[
        key("enabled", Type::Boolean, Default::Flag(false), "whether metrics are sent"),
        key("service_name", Type::Text, Default::Word("remco"), "the first part of every metric's name"),
        key("hostname", Type::Text, Default::Described("the machine's"), "the name of the host in metrics"),
        key("enable_hostname", Type::Boolean, Default::Flag(true), "puts the host's name before the names of gauges"),
        key("enable_hostname_label", Type::Boolean, Default::Flag(false), "makes the host's name a label instead"),
        key("enable_runtime_metrics", Type::Boolean, Default::Flag(true), "sends metrics of the process too"),
        key("sinks", Type::Table, Default::Unset, "the receivers of the metrics, one table each; see below"),
    ]],
};
pub(super) static SINKS: Schema = Schema {
    path: "telemetry.sinks",
    title: "`telemetry.sinks`",
    groups: &[&[
        key("inmem", Type::Table, Default::Unset, "keeps metrics in memory"),
        key("statsd", Type::Table, Default::Unset, "sends metrics to statsd"),
        key("statsite", Type::Table, Default::Unset, "sends metrics to statsite"),
        key("prometheus", Type::Table, Default::Unset, "serves metrics to Prometheus"),
    ]],
};
pub(super) static INMEM: Schema = Schema {
    path: "telemetry.sinks.inmem",
    title: "`inmem`",
    groups: &[&[
        key(
            "interval",
            Type::Integer(Unit::Seconds),
            Default::Needed,
            "the time that one aggregate covers; at least 1",
        ),
        key("retain", Type::Integer(Unit::Seconds), Default::Needed, "how long aggregates are kept; at least 1"),
    ]],
};
pub(super) static STATSD: Schema = Schema {
    path: "telemetry.sinks.statsd",
    title: "`statsd`",
    groups: &[&[key("addr", Type::Text, Default::Needed, "an address like `127.0.0.1:8125`")]],
};
pub(super) static STATSITE: Schema = Schema {
    path: "telemetry.sinks.statsite",
    title: "`statsite`",
    groups: &[&[key("addr", Type::Text, Default::Needed, "an address like `127.0.0.1:8125`")]],
};
pub(super) static PROMETHEUS: Schema = Schema {
    path: "telemetry.sinks.prometheus",
    title: "`prometheus`",
    groups: &[&[
        key("addr", Type::Text, Default::Needed, "the address to listen on, like `127.0.0.1:2112`"),
        key(
            "expiration",
            Type::Integer(Unit::Seconds),
            Default::Number(0),
            "a metric that was not renewed for this time is dropped; 0: never",
        ),
    ]],
};

/// Reads the table; without one, the defaults.
pub(super) fn parse(report: &Report, table: Option<&Found<&Table>>) -> Telemetry {
    match table {
        Some(table) => telemetry(&Reader::new(report, &TELEMETRY, table.value, table.span)),
        None => telemetry(&Reader::of_nothing(report, &TELEMETRY)),
    }
}

fn telemetry(reader: &Reader) -> Telemetry {
    let sinks = reader.table("sinks");
    let sinks = sinks.map(|sinks| Reader::new(reader.report, &SINKS, sinks.value, sinks.span));
    let sink = |name, schema: &'static Schema| {
        let table = sinks.as_ref()?.table(name)?;
        Some(Reader::new(reader.report, schema, table.value, table.span))
    };
    let address =
        |sink: &Reader| sink.required("addr", "an address like `127.0.0.1:8125`").map(|addr| addr.value.into());
    Telemetry {
        enabled: reader.boolean("enabled"),
        service_name: reader.string("service_name"),
        hostname: reader.string("hostname"),
        enable_hostname: reader.boolean("enable_hostname"),
        enable_hostname_label: reader.boolean("enable_hostname_label"),
        enable_runtime_metrics: reader.boolean("enable_runtime_metrics"),
        inmem: sink("inmem", &INMEM).and_then(|sink| {
            let interval = positive(&sink, "interval")?;
            Some((interval, positive(&sink, "retain")?))
        }),
        statsd: sink("statsd", &STATSD).and_then(|sink| address(&sink)),
        statsite: sink("statsite", &STATSITE).and_then(|sink| address(&sink)),
        prometheus: sink("prometheus", &PROMETHEUS).and_then(|sink| {
            let expiration = sink.seconds_or_default("expiration");
            Some((address(&sink)?, expiration))
        }),
    }
}

/// Seconds that must be there and not be zero: Go remco divides one by the other.
fn positive(reader: &Reader, key: &str) -> Option<Duration> {
    let found = reader.seconds(key);
    match &found {
        Some(found) if found.value < Duration::from_secs(1) => {
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
