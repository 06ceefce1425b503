//! The base of the tests: guards that start and stop real processes, and waiting for conditions with a deadline. No
//! test sleeps, and no process outlives its guard, also when a test panics.

mod authority;
mod config;
mod consul;
mod dnsmasq;
mod etcd;
mod fault;
mod gateway;
mod http;
mod http_message;
mod keys_v2;
mod links;
mod listing;
mod namespace;
#[cfg(feature = "nats")]
mod nats;
mod nginx;
mod port;
mod random;
mod recipe;
mod redis;
mod remco;
mod root;
mod server;
mod storm;
mod strace;
mod temp_dir;
#[cfg(feature = "vault")]
mod vault;
mod wait;
mod zookeeper;

pub use authority::{Authority, Key, LOOPBACK, Pair, Valid};
pub use config::{Config, config, resource};
pub use consul::Consul;
pub use dnsmasq::Dnsmasq;
pub use etcd::{Clients, Cluster, Etcd};
pub use fault::{Fault, FaultProxy};
pub use gateway::Gateway;
pub use http::{FixedBody, Proxy, Silent, answering, dripping};
pub use keys_v2::KeysV2;
pub use links::targets;
pub use listing::{LIST, await_out, blocks, example, examples, is_refused, reads, renders_once, sample, watching};
pub use namespace::{in_own_namespace, run};
#[cfg(feature = "nats")]
pub use nats::Nats;
pub use nginx::Nginx;
pub use port::free_port;
pub use random::Random;
pub use recipe::{Recipe, await_file};
pub use redis::{Answer, Redis, RedisClient, TELLING as REDIS_TELLING};
pub use remco::{Finished, Invocation, Remco, remco};
pub use root::{Root, static_binary};
pub use server::{program, skipped};
pub use storm::{Moment, await_fresh, storm};
pub use strace::Trace;
pub use temp_dir::TempDir;
#[cfg(feature = "vault")]
pub use vault::Vault;
pub use wait::{LIMIT, wait_until};
pub use zookeeper::{Acl, OldZookeeper, Zookeeper, ZookeeperClient};
