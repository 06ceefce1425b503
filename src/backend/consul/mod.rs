//! Consul: what the configuration means is made into a driver. Resources that use the same Consul in the same way share a
//! driver, and with it the requests that wait for changes. `wire` knows the bytes, `protocol` what is asked when.

mod listing;
mod protocol;
mod wire;

use std::time::Instant;

use self::protocol::{Consul, Options};
use super::driver::{Driver, Factory, Nodes, Store, by_record, limits};
use super::failover::{Deadline, Start};
use super::{Mode, Sharing};
use crate::config::{self, Credential, Kind, Login, Secret};

/// The name in logs.
const NAME: &str = "consul";

/// A driver without resources.
pub fn driver(consul: &config::Consul, mode: Mode, random: fn(u64) -> u64, now: Instant) -> Driver {
    let deadline = match mode {
        Mode::OneShot => Deadline::After(consul.network.timeout),
        Mode::Watch => Deadline::Never,
    };
    // Nodes that are given win over the record. Their order is that of Go remco, which uses the first one.
    let nodes = match consul.nodes.is_empty() {
        true => by_record(&consul.srv_record, consul.scheme, None, random),
        false => Nodes::List(consul.nodes.clone(), Start::First),
    };
    // A token is a password without a user.
    let no_user = Credential::Inline(Secret::default());
    let token = consul.token.as_ref().map(|token| token.credential.clone());
    let login = token.map(|password| Login { username: no_user, password });
    let (limits, tls) = (limits(&consul.network), consul.tls.clone());
    let consul = consul.clone();
    let factory: Factory = Box::new(move |nodes, shown, _| {
        Box::new(Consul::new(Options::of(&consul, shown.join(",")), nodes, mode, random(u64::MAX)))
    });
    Driver::new(Store { name: NAME.into(), nodes, limits, tls, login, deadline, random }, factory, now)
}

/// What resources have in common that share a driver.
pub fn sharing(consul: &config::Consul, mode: Mode) -> Option<Sharing> {
    Some(Sharing { kind: Kind::Consul(consul.clone()), mode })
}
