//! The keys of `[telemetry]`: their rows and their parser.
//! Counts nothing and sends nothing.

use core::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use super::document::{Table, Value};
use super::model::{Listen, Telemetry};
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
        key("textfile", Type::Table, Default::Unset, "writes metrics to a file for node_exporter"),
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
        key(
            "addr",
            Type::Text,
            Default::Needed,
            "the address to listen on, like `127.0.0.1:2112`; `:2112` is all addresses, `unix:PATH` a socket",
        ),
        key(
            "expiration",
            Type::Integer(Unit::Seconds),
            Default::Number(0),
            "a metric that was not renewed for this time is dropped; 0: never",
        ),
    ]],
};

pub(super) static TEXTFILE: Schema = Schema {
    path: "telemetry.sinks.textfile",
    title: "`textfile`",
    groups: &[&[key(
        "path",
        Type::Text,
        Default::Needed,
        "the file, in the folder of node_exporter's textfile collector; its name ends in `.prom`",
    )]],
};

/// Reads the table, or returns the defaults if there is none.
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
    let enabled = reader.boolean("enabled");
    if enabled && sinks.as_ref().is_none_or(|sinks| SINKS.keys().all(|row| !sinks.has(row.name))) {
        let message = "telemetry is enabled and has no sink, so no metric is sent: add a table below `telemetry.sinks`";
        reader.report.warn(reader.place("enabled"), message);
    }
    Telemetry {
        enabled,
        service_name: reader.string("service_name"),
        hostname: reader.string("hostname"),
        enable_hostname: reader.boolean("enable_hostname"),
        enable_hostname_label: reader.boolean("enable_hostname_label"),
        enable_runtime_metrics: reader.boolean("enable_runtime_metrics"),
        inmem: sink("inmem", &INMEM).and_then(|sink| inmem(&sink)),
        statsd: sink("statsd", &STATSD).and_then(|sink| receiver(&sink, enabled)),
        statsite: sink("statsite", &STATSITE).and_then(|sink| receiver(&sink, enabled)),
        prometheus: sink("prometheus", &PROMETHEUS).and_then(|sink| {
            let expiration = sink.seconds_or_default("expiration");
            Some((listen(&sink, enabled)?, expiration))
        }),
        textfile: sink("textfile", &TEXTFILE).and_then(|sink| {
            let path = sink.required("path", "a path like `/var/lib/prometheus/node-exporter/remco.prom`")?;
            if enabled && !path.value.ends_with(".prom") {
                let message = "`path` does not end in `.prom`: node_exporter reads no other files";
                sink.report.warn(path.span, message);
            }
            Some(path.value.into())
        }),
    }
}

/// The path of the text file, if there is one. [`parse`] reports the errors of the tables.
pub(super) fn textfile<'a>(telemetry: Option<&Found<&'a Table>>) -> Option<Found<&'a str>> {
    text(telemetry, "textfile", "path")
}

/// The path of the socket for Prometheus, if there is one.
pub(super) fn socket<'a>(telemetry: Option<&Found<&'a Table>>) -> Option<Found<&'a str>> {
    let Found { value, span } = text(telemetry, "prometheus", "addr")?;
    Some(Found { value: value.strip_prefix("unix:")?, span })
}

/// The text of a key in the table of a sink.
fn text<'a>(telemetry: Option<&Found<&'a Table>>, sink: &str, key: &str) -> Option<Found<&'a str>> {
    let mut table = telemetry?.value;
    for name in ["sinks", sink] {
        let Value::Table(inner) = &table.find(name)?.node.value else { return None };
        table = inner;
    }
    let node = &table.find(key)?.node;
    let Value::Text(text) = &node.value else { return None };
    Some(Found { value: text, span: node.span })
}

fn inmem(sink: &Reader) -> Option<(Duration, Duration)> {
    let interval = positive(sink, "interval")?;
    let retain = positive(sink, "retain")?;
    if retain < interval * 2 {
        let message = "`retain` is less than two intervals: SIGUSR1 prints intervals that are over, and none is kept";
        sink.report.warn(sink.place("retain"), message);
    }
    Some((interval, retain))
}

/// The host and the port to send to. The values of an unused table are not checked.
fn receiver(sink: &Reader, enabled: bool) -> Option<(String, u16)> {
    let addr = sink.required("addr", "an address like `127.0.0.1:8125`")?;
    let parts = host_and_port(addr.value).filter(|(host, _)| !host.is_empty());
    if parts.is_none() && enabled {
        let message = "`addr` is not a host with a port: set it like `127.0.0.1:8125`".to_owned();
        sink.report.error_in_address(addr.span, message);
    }
    parts.map(|(host, port)| (host.to_owned(), port))
}

/// The address to listen on.
fn listen(sink: &Reader, enabled: bool) -> Option<Listen> {
    let addr = sink.required("addr", "an address like `127.0.0.1:2112`")?;
    if let Some(path) = addr.value.strip_prefix("unix:").filter(|path| !path.is_empty()) {
        if enabled {
            sink.report.check_socket(addr.span, path);
        }
        return Some(Listen::Unix(path.into()));
    }
    let place = host_and_port(addr.value).and_then(|(host, port)| match host {
        "" => Some(Listen::All(port)),
        "localhost" => Some(Listen::Tcp(SocketAddr::new(Ipv4Addr::LOCALHOST.into(), port))),
        host => Some(Listen::Tcp(SocketAddr::new(host.parse::<IpAddr>().ok()?, port))),
    });
    let port_of_all = match &place {
        Some(Listen::All(port)) => Some(*port),
        Some(Listen::Tcp(address)) => address.ip().is_unspecified().then(|| address.port()),
        Some(Listen::Unix(_)) | None => None,
    };
    match (&place, port_of_all) {
        (None, _) if enabled => {
            let form = "set it to an address of this machine with a port, like `127.0.0.1:2112`, or to `unix:PATH`";
            sink.report.error_in_address(addr.span, format!("`addr` is no place to listen on: {form}"));
        }
        (_, Some(port)) if enabled => {
            let advice = format!("set it to `127.0.0.1:{port}` if Prometheus runs on this machine");
            sink.report.warn(addr.span, format!("metrics are served on all addresses: {advice}"));
        }
        _ => {}
    }
    place
}

fn host_and_port(addr: &str) -> Option<(&str, u16)> {
    let (host, port) = addr.rsplit_once(':')?;
    let host = match host.strip_prefix('[') {
        Some(host) => host.strip_suffix(']')?,
        None if host.contains(':') => return None,
        None => host,
    };
    Some((host, port.parse().ok()?))
}

/// Seconds that must be set and not zero, because Go remco divides one by the other.
fn positive(reader: &Reader, key: &str) -> Option<Duration> {
    let found = reader.seconds(key);
    match &found {
        Some(found) if found.value < Duration::from_secs(1) => {
            reader.report.error(found.span, format!("`{key}` must be at least 1 second"));
            return None;
        }
        Some(found) if found.value.subsec_nanos() > 0 => {
            reader.report.error(found.span, format!("`{key}` must be whole seconds"));
            return None;
        }
        None if !reader.has(key) => {
            reader.report.missing(reader.span(), format!("`{key}` is missing in `inmem`: set it to seconds"));
        }
        _ => {}
    }
    found.map(|found| found.value)
}
