//! etcd, version 2, as it is under `/v2/keys`: what the configuration means is made into a backend at work. Shares with
//! version 3 what is said of etcd, but no keys: an etcd that has both keeps them apart.

mod client;
pub(super) mod login;
pub mod mirror;
mod session;
pub mod wire;

use std::sync::Arc;

use self::login::Login;
use self::mirror::{Mirror, Remembering};
use self::session::{Session, Settings};
use super::rota::{Patience, Rota, Start};
use super::subscription::Goal;
use super::{Recipe, limits};
use crate::backend::{Backend, Mode, interval, watches};
use crate::config;
use crate::host::http;

/// An etcd backend that connects to one of the nodes at its first turn.
pub(super) fn new(recipe: &Recipe, nodes: Vec<String>, start: Start) -> Box<dyn Backend> {
    let Recipe { options, etcd, mode, random, .. } = recipe;
    let (goal, patience) = match mode {
        Mode::OneShot => (Goal::Once, Patience::For(etcd.timeout)),
        Mode::Watch if watches(options, *mode) => (Goal::Watched, Patience::Endless),
        Mode::Watch => (Goal::Kept, Patience::Endless),
    };
    let settings = Settings {
        prefix: options.prefix.clone(),
        goal,
        interval: interval(options, *mode),
        watch_deadline: etcd.watch_deadline,
        patience: etcd.request_timeout,
        limits: etcd.read,
    };
    let remembering = if goal == Goal::Watched { Remembering::Yes } else { Remembering::No };
    let mirror = Mirror::new(&options.prefix, &options.keys, &options.watch_keys, remembering);
    let shown = nodes.iter().map(|node| http::without_credentials(node)).collect();
    let rota = Rota::new(shown, start, patience, &mut |bound| random(bound));
    let session = Session::new(settings, rota, mirror, Box::new(*random));
    let http = http::Client::new(Arc::clone(&recipe.wake), limits(etcd), etcd.tls.clone());
    Box::new(client::Client::new(http, nodes, Login(etcd.login.clone()), session))
}

/// The paths of etcd that keys stand for.
pub fn paths(options: &config::Backend) -> Vec<Vec<u8>> {
    Mirror::new(&options.prefix, &options.keys, &[], Remembering::No).read().to_vec()
}
