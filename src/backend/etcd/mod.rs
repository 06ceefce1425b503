//! The backend `etcd`: creates a driver from the options. Version 3, over its JSON gateway, is in this folder; version
//! 2 is in `v2`; `unversioned` finds the version where the configuration does not say it. Resources with equal options
//! for an etcd of version 3 share a driver and its stream.

mod discovery;
mod elements;
mod login;
pub mod mirror;
mod pace;
mod protocol;
mod request;
mod session;
mod subscription;
mod unversioned;
pub mod v2;
pub mod wire;

use std::time::Instant;

use self::protocol::V3;
use self::session::{Session, Settings};
use self::unversioned::Unversioned;
use super::driver::{Driver, Factory, Nodes, Store, limits};
use super::failover::{Deadline, Start};
use super::protocol::Id;
use super::{Handover, Mode};
use crate::config::{self, EtcdVersion};

const NAME: &str = "etcd";

/// Creates a driver for one resource. `handover` comes from the driver that has found the version.
pub fn driver(
    id: Id,
    options: &config::Backend,
    etcd: &config::Etcd,
    mode: Mode,
    handover: Handover,
    random: fn(u64) -> u64,
    now: Instant,
) -> Driver {
    let deadline = Deadline::of(mode, etcd.network.timeout);
    let record = || Nodes::by_record(&etcd.srv_record, etcd.scheme_of_record(), handover.nodes, random);
    let nodes = Nodes::list_or(&etcd.nodes, Start::Anywhere, record);
    let factory: Factory = match etcd.version {
        Some(EtcdVersion::V3) => {
            let etcd = etcd.clone();
            Box::new(move |_, shown, now| {
                let settings = Settings {
                    nodes: shown.join(","),
                    login: etcd.login.is_some(),
                    watch_deadline: etcd.watch_deadline,
                    stream_timeout: etcd.network.request_timeout,
                };
                Box::new(V3::new(Session::new(settings, now, Box::new(random)), mode, &etcd))
            })
        }
        Some(EtcdVersion::V2) => {
            let (options, etcd) = (options.clone(), etcd.clone());
            Box::new(move |nodes, shown, _| Box::new(v2::protocol(id, &options, &etcd, nodes, shown, mode, random)))
        }
        None => {
            let (options, has_login) = (options.clone(), etcd.login.is_some());
            Box::new(move |nodes, _, now| {
                Box::new(Unversioned::new(id, options.clone(), nodes, has_login, random, now))
            })
        }
    };
    let (login, tls) = (etcd.login.clone(), etcd.tls.clone());
    let limits = limits(&etcd.network);
    let store = Store { name: NAME.into(), nodes, limits, tls, login, deadline, random };
    Driver::since(handover.begun, store, factory, now)
}
