//! The metrics: names, kinds and meanings. Those of `files` and `backends` are Go remco's.
//! Counts nothing.

/// A metric.
#[derive(Debug, PartialEq, Eq)]
pub struct Metric {
    /// The kind.
    pub kind: Kind,
    /// Its name without service and host, with dots.
    pub name: &'static str,
    /// The meaning, in one line.
    pub help: &'static str,
    /// Whether `enable_hostname` also puts the host into its name for Prometheus, as go-metrics does with every gauge.
    pub names_host: bool,
}

/// The kind of a metric.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A counter, which only grows.
    Counter,
    /// A gauge: the present state.
    Gauge,
    /// A summary: the quantiles, the sum and the number of values.
    Sample,
    /// A summary of values that never stop, so a new value is no reason to send. Only for Prometheus and the text file.
    Quiet,
}

const fn metric(kind: Kind, name: &'static str, help: &'static str) -> Metric {
    Metric { kind, name, help, names_host: false }
}

/// A gauge of the process.
const fn runtime(name: &'static str, help: &'static str) -> Metric {
    Metric { kind: Kind::Gauge, name, help, names_host: true }
}

use Kind::{Counter, Quiet, Sample};

/// Templates that were rendered, and written beside their file if it differs.
pub static STAGED: Metric = metric(Counter, "files.staged_total", "templates that were rendered");
/// Templates that could not be rendered or written beside their file.
pub static STAGE_ERRORS: Metric = metric(Counter, "files.stage_errors_total", "templates that could not be rendered");
/// Files that are in place, and whose reload command, if there was one, succeeded.
pub static SYNCED: Metric = metric(Counter, "files.synced_total", "files that were in place or were put in place");
/// Files that were not installed, or whose reload command failed.
pub static SYNC_ERRORS: Metric =
    metric(Counter, "files.sync_errors_total", "files that were not installed, or whose reload command failed");
/// Reads and changes of a backend. Label: name.
pub static BACKEND_SYNCED: Metric = metric(Counter, "backends.synced_total", "reads and changes of a backend");
/// Failed reads and watches of a backend. Label: name.
pub static BACKEND_SYNC_ERRORS: Metric =
    metric(Counter, "backends.sync_errors_total", "failed reads and watches of a backend");
/// Milliseconds to render a template.
pub static TEMPLATE_DURATION: Metric =
    metric(Sample, "files.template_execution_duration", "milliseconds to render a template");
/// Milliseconds that a check command took.
pub static CHECK_DURATION: Metric =
    metric(Sample, "files.check_command_duration", "milliseconds that a check command took");
/// Milliseconds that a reload command of a template took.
pub static RELOAD_DURATION: Metric =
    metric(Sample, "files.reload_command_duration", "milliseconds that a reload command took");

/// Resident memory in bytes.
pub static RESIDENT_BYTES: Metric = runtime("runtime.resident_bytes", "resident memory in bytes");
/// Open descriptors.
pub static OPEN_FDS: Metric = runtime("runtime.open_fds", "open descriptors");
/// Processor time, user and system.
pub static CPU_SECONDS: Metric = runtime("runtime.cpu_seconds", "processor time in seconds");

/// 1 while the program runs.
pub static UP: Metric = metric(Kind::Gauge, "up", "1 while the program runs");
/// Label: resource.
pub static IN_SYNC: Metric =
    metric(Kind::Gauge, "resource_in_sync", "1 if every file of the resource is in place and nothing of it fails");
/// Label: resource.
pub static LAST_SUCCESS: Metric = metric(
    Kind::Gauge,
    "resource_last_success_timestamp_seconds",
    "when the last update without a failure ended, in seconds since 1970",
);
/// Labels: resource, backend.
pub static CONNECTED: Metric =
    metric(Kind::Gauge, "backend_connected", "1 if the backend delivered its keys and does not fail at present");
/// Labels: resource, backend. Only for stores that count revisions.
pub static REVISION: Metric =
    metric(Kind::Gauge, "backend_revision", "how far the keys have come, as the store counts its changes");
/// Labels: resource, template.
pub static TEMPLATE_ERRORS: Metric = metric(Counter, "template_errors_total", "failures of a template or its check");
/// Label: resource.
pub static RELOAD_FAILURES: Metric = metric(Counter, "reload_failures_total", "reload commands that failed");
/// Label: resource.
pub static CHILD_RESTARTS: Metric = metric(Counter, "child_restarts_total", "starts of the child after the first one");
/// Seconds of work of a pass of the loop.
pub static LOOP_TURN: Metric = metric(Quiet, "loop_turn_seconds", "seconds that a pass of the loop worked");
