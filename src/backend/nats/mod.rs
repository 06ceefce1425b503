//! The backend `nats`: a key-value bucket of JetStream. Creates a driver from the options; resources with equal options
//! for a bucket share a driver and its connection. `wire` and `jetstream` have the bytes, `login` the users, `protocol`
//! the requests.

mod creds;
mod jetstream;
mod login;
mod mirror;
pub mod protocol;
pub mod wire;

use std::time::Instant;

use self::login::Kind as LoginKind;
use self::protocol::{Nats, Settings};
use super::Mode;
use super::driver::{Driver, Factory, Nodes, Store, limits};
use super::failover::{Deadline, Start};
use crate::config::{self, Credential, Login, NatsLogin};

const NAME: &str = "nats";

/// A driver for all resources with these options.
pub fn driver(nats: &config::Nats, mode: Mode, random: fn(u64) -> u64, now: Instant) -> Driver {
    let deadline = Deadline::of(mode, nats.network.timeout);
    let (kind, login) = match &nats.login {
        None => (LoginKind::User, None),
        Some(NatsLogin::User(login)) => (LoginKind::User, Some(login.clone())),
        Some(NatsLogin::Token(token)) => (LoginKind::Token, Some(Login::of_secret(token.clone()))),
        Some(NatsLogin::Creds(path)) => (LoginKind::Creds, Some(Login::of_secret(Credential::File(path.clone())))),
    };
    let factory: Factory = {
        let nats = nats.clone();
        Box::new(move |nodes, shown, now| {
            let settings = Settings {
                nodes: nodes.to_vec(),
                shown: shown.to_vec(),
                bucket: nats.bucket.clone(),
                kind,
                secure: nats.tls != config::Tls::default(),
                watch_deadline: nats.watch_deadline,
                timeout: nats.network.request_timeout,
                max_response: nats.network.max_response,
                limits: nats.network.read,
                sign: crate::host::tls::sign,
            };
            Box::new(Nats::new(settings, mode, random(u64::MAX), now))
        })
    };
    // NATS clients start with a random node, because many machines have the same list.
    let nodes = Nodes::List(nats.nodes.clone(), Start::Anywhere);
    let tls = nats.tls.clone();
    let store = Store { name: NAME.into(), nodes, limits: limits(&nats.network), tls, login, deadline, random };
    Driver::new(store, factory, now)
}
