//! The backend `vault`, for Vault and OpenBao: creates a driver from the options. Resources with equal options share a
//! driver and its login. `wire` has the bytes, `protocol` the requests.

mod protocol;
mod round;
mod wire;

use std::time::Instant;

use self::protocol::{Options, Vault};
use super::Mode;
use super::driver::{Driver, Factory, Nodes, Store, limits};
use super::failover::{Deadline, Start};
use crate::config::{self};

/// The name in logs.
const NAME: &str = "vault";

/// A driver for all resources with these options.
pub fn driver(vault: &config::Vault, mode: Mode, random: fn(u64) -> u64, now: Instant) -> Driver {
    let deadline = Deadline::of(mode, vault.network.timeout);
    let nodes = Nodes::List(vec![vault.node.clone()], Start::First);
    let (limits, tls, login) = (limits(&vault.network), vault.tls.clone(), Some(vault.login.clone()));
    let options = Options::of(vault);
    let factory: Factory = Box::new(move |nodes, shown, _| {
        Box::new(Vault::new(options.clone(), nodes, shown.join(","), mode, random(u64::MAX)))
    });
    Driver::new(Store { name: NAME.into(), nodes, limits, tls, login, deadline, random }, factory, now)
}
