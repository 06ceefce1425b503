//! etcd, version 3, over its JSON gateway: what the configuration means is made into a backend at work.
//! No TLS, no users, no SRV records and no version 2 yet; `config::unsupported` refuses what needs them.

mod client;
mod mirror;
mod session;
mod wire;

use std::sync::Arc;

use self::mirror::{Comparing, Mirror};
use self::session::{Goal, Session, Settings};
use super::{Backend, Mode, interval, watches};
use crate::config;
use crate::host::http::{self, Limits};
use crate::host::wait::Wake;

const NAME: &str = "etcd";

/// An etcd backend that connects at its first turn. `random` gives a number below its argument, which is not 0.
pub fn new(
    options: &config::Backend,
    etcd: &config::Etcd,
    mode: Mode,
    wake: Arc<dyn Wake>,
    random: Box<dyn FnMut(u64) -> u64>,
) -> Box<dyn Backend> {
    // Version 3 has no use for credentials in a URL.
    let nodes: Vec<String> = etcd.nodes.iter().map(|node| http::without_credentials(node)).collect();
    let goal = match mode {
        Mode::OneShot => Goal::Once,
        Mode::Watch if watches(options, mode) => Goal::Watched,
        Mode::Watch => Goal::Kept,
    };
    let interval = interval(options, mode);
    let comparing = if goal == Goal::Watched && interval.is_some() { Comparing::Yes } else { Comparing::No };
    let settings = Settings { nodes: nodes.clone(), prefix: options.prefix.clone(), goal, interval };
    let mirror = Mirror::new(&options.prefix, &options.keys, &options.watch_keys, comparing);
    let session = Session::new(settings, mirror, random);
    Box::new(client::Client::new(http::Client::new(wake, Limits::default()), nodes, session))
}
