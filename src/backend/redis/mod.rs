//! The backend `redis`: creates a driver from the options. Resources with equal options share a driver and its
//! connections. `wire` has the bytes, `protocol` the requests.

mod cursors;
mod mirror;
mod pass;
pub mod protocol;
mod refusal;
mod round;
mod wanted;
pub mod wire;

use std::time::Instant;

use self::protocol::{Redis, Settings};
pub use self::wanted::missing;
use super::Mode;
use super::driver::{Driver, Factory, Nodes, Store, limits};
use super::failover::{Deadline, Start};
use crate::config::{self};

/// The name in logs.
pub const NAME: &str = "redis";

/// A driver for all resources with these options.
pub fn driver(redis: &config::Redis, mode: Mode, random: fn(u64) -> u64, now: Instant) -> Driver {
    let deadline = Deadline::of(mode, redis.network.timeout);
    // Go remco uses the first node of the list that answers.
    let record = || Nodes::by_record(&redis.srv_record, redis.scheme_of_record(), None, random);
    let nodes = Nodes::list_or(&redis.nodes, Start::First, record);
    let limits = limits(&redis.network);
    let options = redis.clone();
    let factory: Factory = Box::new(move |_, shown, now| {
        let settings = Settings {
            nodes: shown.join(","),
            database: options.database,
            request_timeout: limits.answer,
            watch_deadline: options.watch_deadline,
            limits: options.network.read,
            max_response: limits.size,
        };
        Box::new(Redis::new(settings, mode, random(u64::MAX), now))
    });
    let (login, tls) = (redis.login.clone(), redis.tls.clone());
    Driver::new(Store { name: NAME.into(), nodes, limits, tls, login, deadline, random }, factory, now)
}
