//! Plugins: a program of the user's is asked for keys over its pipes. What the configuration means is made into a driver;
//! `wire` knows the messages, `protocol` their order.

mod protocol;
mod wire;

use std::time::Instant;

use self::protocol::{Plugin, Settings};
use super::Mode;
use super::driver::{Driver, Factory, Nodes, Store};
use super::failover::Deadline;
use super::protocol::Id;
use crate::config;
use crate::host::client::Limits;

/// A driver, made for one resource: a program serves no other one.
pub fn driver(
    id: Id,
    options: &config::Backend,
    plugin: &config::Plugin,
    mode: Mode,
    random: fn(u64) -> u64,
    now: Instant,
) -> Driver {
    let deadline = Deadline::of(mode, plugin.timeout);
    let factory: Factory = {
        let (options, plugin) = (options.clone(), plugin.clone());
        Box::new(move |_, shown, _| {
            let settings = Settings {
                id,
                path: shown.join(""),
                config: plugin.config.clone(),
                limits: plugin.read,
                mode,
                seed: random(u64::MAX),
            };
            Box::new(Plugin::new(settings, plugin.name(), &options))
        })
    };
    let store = Store {
        name: plugin.name().to_owned().into(),
        nodes: Nodes::Program(plugin.path.clone()),
        limits: Limits::default(),
        tls: config::Tls::default(),
        login: None,
        deadline,
        random,
    };
    Driver::new(store, factory, now)
}
