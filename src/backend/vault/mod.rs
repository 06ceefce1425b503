//! Vault and OpenBao: what the configuration means is made into a driver. Resources that use the same server in the
//! same way share a driver, and with it one login. `wire` has the bytes, `protocol` the requests.

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

/// A driver without resources.
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
