//! The keys that every backend has: their rows, and how often a backend is read.
//! Reads no clock.

use std::time::Duration;

use crate::config::mode::Mode;
use crate::config::reader::{Found, Purpose, Reader};
use crate::config::schema::{Default, Key, Type, Unit, key};

pub(in crate::config) static GENERAL: &[Key] = &[
    key("keys", Type::Texts, Default::Unset, "keys to read, each with the keys below it"),
    key("watchKeys", Type::Texts, Default::Described("`keys`"), "keys whose changes trigger an update"),
    key("prefix", Type::Text, Default::Unset, "put before every key, and removed from the keys that templates see"),
    key("watch", Type::Boolean, Default::Flag(false), "updates when a key changes"),
    key("onetime", Type::Boolean, Default::Flag(false), "reads once and never again"),
    key(
        "interval",
        Type::Integer(Unit::Seconds),
        Default::Unset,
        "reads and renders again after this time; at least 0.1, at most 4294967295. 0 and negative numbers count as not set. Without \
         `watch`, `onetime` and `interval` it is 60, with a warning",
    ),
    key(
        "secret",
        Type::Boolean,
        Default::Flag(false),
        "values are never shown where values of other backends may be; always so for vault",
    ),
];

/// The values of these keys; see [`super::Backend`].
pub(super) struct General {
    pub keys: Vec<String>,
    pub watch_keys: Vec<String>,
    pub prefix: String,
    pub watch: bool,
    pub onetime: bool,
    pub interval: Option<Duration>,
    pub secret: bool,
}

/// Reads these keys for the backend `name`. `unwatchable`: the subject of the message if the backend cannot be watched.
pub(super) fn parse(reader: &Reader, name: &str, unwatchable: Option<&str>) -> General {
    let texts =
        |key| -> Vec<String> { reader.texts(key).into_iter().flatten().map(|text| text.value.to_owned()).collect() };
    let (keys, watch_keys) = (texts("keys"), texts("watchKeys"));
    if reader.purpose == Purpose::Use && !reader.has("keys") && watch_keys.is_empty() && name != "mock" {
        reader.report.warn_missing(reader.span(), format!("{name} reads nothing: it has no `keys`"));
    }
    let onetime = reader.boolean("onetime");
    let (watch, interval) = schedule(reader, unwatchable, onetime);
    General {
        watch_keys: if watch_keys.is_empty() { keys.clone() } else { watch_keys },
        keys,
        prefix: reader.string("prefix"),
        watch,
        onetime,
        interval,
        secret: reader.boolean("secret"),
    }
}

/// The interval of Go remco if nothing else reads the keys again.
const INTERVAL: Duration = Duration::from_secs(60);

/// A shorter interval is a mistake, and loads the store.
const SHORTEST_INTERVAL: Duration = Duration::from_millis(100);

/// Whether the backend is watched, and how often it is read.
fn schedule(reader: &Reader, unwatchable: Option<&str>, onetime: bool) -> (bool, Option<Duration>) {
    let report = reader.report;
    let mut watch = reader.boolean("watch");
    if let Some(what) = unwatchable.filter(|_| watch) {
        report.warn(reader.place("watch"), format!("{what} cannot be watched, using `interval` instead"));
        watch = false;
    }
    let written = reader.seconds_of_any_sign("interval");
    if let Some(Found { value: Some(interval), span }) = written
        && !interval.is_zero()
    {
        if interval < SHORTEST_INTERVAL {
            report.error(span, "`interval` must be at least 100ms");
        }
        return (watch, Some(interval));
    }
    // In Go remco, zero and negative numbers mean that the key is not set.
    if watch || onetime {
        return (watch, None);
    }
    let wrong_type = written.is_none() && reader.has("interval");
    if reader.purpose == Purpose::Use && report.mode == Mode::Watch && !wrong_type {
        report.warn_missing(reader.place("interval"), "interval needs to be > 0: setting interval to 60");
    }
    (watch, Some(INTERVAL))
}
