//! Which keys each table has, by their documented names, and what the author of an unknown one may have meant.
//! Does not read values.

use super::document::{Entry, Table};
use super::report::{Report, quoted};
use crate::nearest::nearest;

/// The keys of one kind of table.
pub(super) struct Shape {
    /// How messages call the table.
    pub title: &'static str,
    keys: &'static [&'static [&'static str]],
}

/// What every backend has.
/// What one read of all keys may bring.
const READ_LIMITS: &[&str] = &["max_keys", "max_decoded"];
const COMMON: &[&str] = &["keys", "watchKeys", "prefix", "watch", "onetime", "interval"];
const TLS: &[&str] = &["client_cert", "client_key", "client_ca_keys"];

pub(super) const MAIN: Shape = Shape {
    title: "the top level of the main file",
    keys: &[&[
        "log_level",
        "log_format",
        "include_dir",
        "filter_dir",
        "pid_file",
        "resource",
        "default_backends",
        "telemetry",
        "limits",
        "log_file",
    ]],
};
pub(super) const LIMITS: Shape =
    Shape { title: "`limits`", keys: &[&["template_steps", "template_time", "template_output", "template_memory"]] };
/// Also the top level of an included file.
pub(super) const RESOURCE: Shape = Shape {
    title: "a resource",
    keys: &[&["name", "start_cmd", "start_timeout", "reload_cmd", "reload_timeout", "exec", "template", "backend"]],
};
pub(super) const EXEC: Shape =
    Shape { title: "`exec`", keys: &[&["command", "reload_signal", "kill_signal", "kill_timeout", "splay"]] };
pub(super) const TEMPLATE: Shape = Shape {
    title: "a template",
    keys: &[&[
        "src",
        "dst",
        "make_directories",
        "mode",
        "UID",
        "GID",
        "check_cmd",
        "check_timeout",
        "reload_cmd",
        "reload_timeout",
        "durability",
        "in_place",
        "ReapLock",
    ]],
};
/// In the order in which backends are merged: a later one wins.
pub(super) const BACKENDS: Shape = Shape {
    title: "`backend`",
    keys: &[&["etcd", "file", "env", "consul", "vault", "redis", "zookeeper", "mock", "nats", "plugin"]],
};
pub(super) const ETCD: Shape = Shape {
    title: "`etcd`",
    keys: &[
        COMMON,
        &["nodes", "scheme", "srv_record", "username", "password", "version"],
        TLS,
        // Ours: remco has none of these.
        &["username_file", "password_file"],
        &["request_timeout", "dial_timeout", "timeout", "watch_deadline", "max_response"],
        READ_LIMITS,
    ],
};
pub(super) const FILE: Shape = Shape { title: "`file`", keys: &[COMMON, &["filepath", "httpheaders"], READ_LIMITS] };
pub(super) const ENV: Shape = Shape { title: "`env`", keys: &[COMMON] };
pub(super) const CONSUL: Shape = Shape { title: "`consul`", keys: &[COMMON, &["nodes", "scheme", "srv_record"], TLS] };
pub(super) const VAULT: Shape = Shape {
    title: "`vault`",
    keys: &[
        COMMON,
        &["node", "auth_type", "app_id", "user_id", "role_id", "secret_id", "username", "password", "auth_token"],
        TLS,
    ],
};
pub(super) const REDIS: Shape =
    Shape { title: "`redis`", keys: &[COMMON, &["nodes", "srv_record", "password", "database"]] };
pub(super) const ZOOKEEPER: Shape = Shape { title: "`zookeeper`", keys: &[COMMON, &["nodes", "srv_record"]] };
pub(super) const MOCK: Shape = Shape { title: "`mock`", keys: &[COMMON] };
pub(super) const NATS: Shape =
    Shape { title: "`nats`", keys: &[COMMON, &["nodes", "bucket", "username", "password", "token", "creds"]] };
pub(super) const PLUGIN: Shape = Shape { title: "`plugin`", keys: &[COMMON, &["path", "config"]] };
pub(super) const TELEMETRY: Shape = Shape {
    title: "`telemetry`",
    keys: &[&[
        "enabled",
        "service_name",
        "hostname",
        "enable_hostname",
        "enable_hostname_label",
        "enable_runtime_metrics",
        "sinks",
    ]],
};
pub(super) const SINKS: Shape =
    Shape { title: "`telemetry.sinks`", keys: &[&["inmem", "statsd", "statsite", "prometheus"]] };
pub(super) const INMEM: Shape = Shape { title: "`inmem`", keys: &[&["interval", "retain"]] };
pub(super) const STATSD: Shape = Shape { title: "`statsd`", keys: &[&["addr"]] };
pub(super) const STATSITE: Shape = Shape { title: "`statsite`", keys: &[&["addr"]] };
pub(super) const PROMETHEUS: Shape = Shape { title: "`prometheus`", keys: &[&["addr", "expiration"]] };

/// Accepted, for old files have them, and never read: `log_file` went out of use before remco 0.12, `ReapLock` was
/// never meant to be a key.
const UNUSED: &[&str] = &["log_file", "ReapLock"];

/// Where a key that is unknown in one table may belong; the usual places first.
const ALL: &[&Shape] = &[
    &MAIN,
    &LIMITS,
    &RESOURCE,
    &TEMPLATE,
    &EXEC,
    &BACKENDS,
    &ETCD,
    &FILE,
    &ENV,
    &CONSUL,
    &VAULT,
    &REDIS,
    &ZOOKEEPER,
    &MOCK,
    &NATS,
    &PLUGIN,
    &TELEMETRY,
    &SINKS,
    &INMEM,
    &STATSD,
    &STATSITE,
    &PROMETHEUS,
];

impl Shape {
    pub fn keys(&self) -> impl Iterator<Item = &'static str> {
        self.keys.iter().flat_map(|group| group.iter().copied())
    }

    /// The documented name that a key stands for: itself, or one that differs in case only.
    pub fn known(&self, key: &str) -> Option<&'static str> {
        self.keys().find(|name| *name == key).or_else(|| self.keys().find(|name| name.eq_ignore_ascii_case(key)))
    }

    /// Reports the keys of a table that it does not know or does not use.
    pub fn check(&self, table: &Table, report: &Report) {
        let used: Vec<(&str, &Entry)> = self.keys().filter_map(|name| Some((name, table.find(name)?))).collect();
        for entry in &table.entries {
            // A file of nothing but slips would be compared with every known name for each of them.
            if report.is_full() {
                return;
            }
            let key = report.show(entry.key_span, &entry.key);
            let known = self.known(&entry.key);
            match used.iter().find(|(name, _)| Some(*name) == known) {
                None => report.slip(entry.key_span, format!("unknown key {key}{}", self.advice(&entry.key))),
                Some((_, used)) if used.key_span != entry.key_span => {
                    let used = report.show(used.key_span, &used.key);
                    report.slip(entry.key_span, format!("{key} is ignored: {used} is set in the same table"));
                }
                Some(_) => {}
            }
        }
    }

    /// What to do about an unknown key, with the punctuation in front.
    fn advice(&self, key: &str) -> String {
        let offered = || self.keys().filter(|name| !UNUSED.contains(name));
        if let Some(name) = nearest(key, offered()) {
            return format!(", did you mean {}?", quoted(name));
        }
        let homes: Vec<&str> = ALL.iter().filter(|shape| shape.known(key).is_some()).map(|shape| shape.title).collect();
        match homes.as_slice() {
            [] => format!(": {} has {}", self.title, offered().map(quoted).collect::<Vec<_>>().join(", ")),
            // Only backends have so much in common.
            [home, _, _, _, ..] => format!(" for {}: it belongs to a backend's table, such as {home}", self.title),
            homes => format!(" for {}: it belongs to {}", self.title, homes.join(" or ")),
        }
    }
}

impl Table {
    /// The entry of a documented name: the one spelled exactly so, else the first that differs in case only.
    pub fn find(&self, name: &str) -> Option<&Entry> {
        let exact = self.entries.iter().find(|entry| entry.key == name);
        exact.or_else(|| self.entries.iter().find(|entry| entry.key.eq_ignore_ascii_case(name)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_key_is_documented() {
        let documentation = include_str!("../../docs/configuration.md");
        // Alone, below something, above something, or with a heading of its own.
        let forms = |key| [format!("`{key}`"), format!(".{key}`"), format!(".{key}."), format!("### {key}\n")];
        for shape in ALL {
            for key in shape.keys().filter(|key| *key != "plugin") {
                let found = forms(key).iter().any(|form| documentation.contains(form));
                assert!(found || key == "sinks", "{key} of {}", shape.title);
            }
        }
        assert!(documentation.contains("[[resource.backend.plugin]]"));
    }

    #[test]
    fn a_key_is_found_by_its_name_in_any_case() {
        assert_eq!(TEMPLATE.known("UID"), Some("UID"));
        assert_eq!(TEMPLATE.known("uid"), Some("UID"));
        assert_eq!(ETCD.known("WATCHKEYS"), Some("watchKeys"));
        assert_eq!(ETCD.known("watch_keys"), None);
        assert_eq!(MAIN.known("LOG_file"), Some("log_file"));
    }

    #[test]
    fn what_is_not_read_is_not_advised() {
        assert!(!MAIN.advice("log_fil").contains("log_file"));
        assert!(!TEMPLATE.advice("reap_lok").contains("ReapLock"));
    }
}
