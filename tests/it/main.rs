//! The real program, with real signals, real children and real servers. Needs etcd, redis, haproxy, nginx, dnsmasq,
//! openssl, curl, strace and unshare; `scripts/test` installs them.

#![allow(clippy::cast_possible_truncation, clippy::unwrap_used)]

#[cfg(feature = "tls")]
mod beside;
mod cluster;
mod commands;
mod conformance;
#[cfg(feature = "consul")]
mod consul;
mod containers;
mod crash;
mod crash_journal;
mod crash_reload;
#[cfg(feature = "tls")]
mod cron;
mod docs_etcd;
mod ending;
mod etcd_shared;
mod etcd_users;
mod etcd_v2;
mod exec;
mod faults;
mod file_backend;
mod flags;
mod guard;
mod hostile_paths;
mod in_place;
mod incremental;
mod javascript;
mod log_readers;
mod logs;
mod modes;
mod names;
#[cfg(feature = "nats")]
mod nats;
#[cfg(feature = "tls")]
mod network;
mod one_shot;
mod output;
mod package;
mod permissions;
mod pid_file;
#[cfg(feature = "plugin")]
mod plugin;
mod read_limits;
mod recipes;
#[cfg(feature = "redis")]
mod redis;
mod reload;
mod remote_file;
mod resource_keys;
mod rollback;
mod running;
mod samples;
mod scratch;
mod secrets;
mod services;
mod settle;
mod state;
mod status;
#[cfg(all(
    feature = "consul",
    feature = "nats",
    feature = "plugin",
    feature = "redis",
    feature = "vault",
    feature = "zookeeper"
))]
mod stores;
#[cfg_attr(
    not(all(
        feature = "tls",
        feature = "consul",
        feature = "vault",
        feature = "redis",
        feature = "zookeeper",
        feature = "nats"
    )),
    allow(dead_code, unused_imports, reason = "the tests of what is left out use the rest")
)]
mod support;
mod systemd;
mod telemetry;
#[cfg(feature = "tls")]
mod tls;
mod tutorial;
#[cfg(feature = "vault")]
mod vault;
mod watch;
mod zookeeper;
