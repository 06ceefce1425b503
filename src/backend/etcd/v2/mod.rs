//! etcd version 2, the API under `/v2/keys`: creates its protocol from the options. It shares names and options with
//! version 3, but no keys: an etcd with both versions keeps them apart.

pub mod mirror;
mod protocol;
mod session;
pub mod wire;

use self::mirror::{Mirror, Tracking};
use self::protocol::V2;
use self::session::{Session, Settings};
use super::subscription::Goal;
use crate::backend::protocol::Id;
use crate::backend::{Mode, interval, watches};
use crate::config;

/// The protocol of one resource. `nodes`: the URLs; `shown`: the nodes as texts for logs.
pub(super) fn protocol(
    id: Id,
    options: &config::Backend,
    etcd: &config::Etcd,
    nodes: &[String],
    shown: &[String],
    mode: Mode,
    random: fn(u64) -> u64,
) -> V2 {
    let goal = match mode {
        Mode::OneShot => Goal::Once,
        Mode::Watch if watches(options, mode) => Goal::Watched,
        Mode::Watch => Goal::Kept,
    };
    let settings = Settings {
        id,
        nodes: shown.join(","),
        prefix: options.prefix.clone(),
        goal,
        interval: interval(options, mode),
        watch_deadline: etcd.watch_deadline,
        stream_timeout: etcd.network.request_timeout,
        limits: etcd.network.read,
    };
    let tracking = if goal == Goal::Watched { Tracking::Yes } else { Tracking::No };
    let mirror = Mirror::new(&options.prefix, &options.keys, &options.watch_keys, tracking);
    V2::new(Session::new(settings, mirror, Box::new(random)), nodes, etcd.network.max_response)
}

/// The paths in etcd of the configured keys.
pub fn paths(options: &config::Backend) -> Vec<Vec<u8>> {
    Mirror::new(&options.prefix, &options.keys, &[], Tracking::No).read().to_vec()
}
