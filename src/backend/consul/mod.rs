//! The backend `consul`: creates a driver from the options. Resources with equal options share a driver and its
//! blocking queries. `wire` has the bytes, `protocol` the requests.

mod listing;
mod options;
mod protocol;
mod wire;

use std::time::Instant;

use self::options::Options;
use self::protocol::Consul;
use super::Mode;
use super::driver::{Driver, Factory, Nodes, Store, limits};
use super::failover::{Deadline, Start};
use crate::config::{self, Login};

/// The name in logs.
const NAME: &str = "consul";

/// A driver for all resources with these options.
pub fn driver(consul: &config::Consul, mode: Mode, random: fn(u64) -> u64, now: Instant) -> Driver {
    let deadline = Deadline::of(mode, consul.network.timeout);
    // Go remco uses the first node of the list.
    let record = || Nodes::by_record(&consul.srv_record, consul.scheme, None, random);
    let nodes = Nodes::list_or(&consul.nodes, Start::First, record);
    let login = consul.token.as_ref().map(|token| Login::of_secret(token.credential.clone()));
    let (limits, tls) = (limits(&consul.network), consul.tls.clone());
    let consul = consul.clone();
    let factory: Factory = Box::new(move |nodes, shown, _| {
        Box::new(Consul::new(Options::of(&consul, shown.join(",")), nodes, mode, random(u64::MAX)))
    });
    Driver::new(Store { name: NAME.into(), nodes, limits, tls, login, deadline, random }, factory, now)
}
