//! The backend `zookeeper`: creates a driver from the options. Resources with equal options share a driver and its
//! session. `wire` has the bytes, `protocol` the requests.

pub mod protocol;
mod reads;
mod subscription;
pub mod wire;

use std::time::Instant;

use self::protocol::{Settings, Zookeeper};
use super::Mode;
use super::driver::{Driver, Factory, Nodes, Store, limits};
use super::failover::{Deadline, Start};
use crate::config::{self};

/// The name in logs.
pub const NAME: &str = "zookeeper";

/// The scheme of a node with TLS.
const TLS_SCHEME: &str = "zookeepers://";

/// A driver for all resources with these options.
pub fn driver(zookeeper: &config::Zookeeper, mode: Mode, random: fn(u64) -> u64, now: Instant) -> Driver {
    let deadline = Deadline::of(mode, zookeeper.network.timeout);
    let record = || Nodes::by_record(&zookeeper.srv_record, zookeeper.scheme_of_record(), None, random);
    let nodes = Nodes::list_or(&zookeeper.nodes, Start::Anywhere, record);
    let limits = limits(&zookeeper.network);
    let options = zookeeper.clone();
    let factory: Factory = Box::new(move |_, shown, _| {
        let settings = Settings {
            nodes: shown.join(","),
            chroot: options.chroot.clone().into_bytes(),
            login: options.login.is_some(),
            session_timeout: options.session_timeout,
            watch_deadline: options.watch_deadline,
            request_timeout: limits.answer,
            max_response: limits.size,
            read: options.network.read,
        };
        Box::new(Zookeeper::new(settings, mode, random(u64::MAX)))
    });
    let (login, tls) = (zookeeper.login.clone(), zookeeper.tls.clone());
    Driver::new(Store { name: NAME.into(), nodes, limits, tls, login, deadline, random }, factory, now)
}
