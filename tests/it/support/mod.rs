//! What the tests stand on: guards that start and stop real things, and conditions that are awaited
//! with a deadline. No test sleeps, and nothing outlives its guard, also when a test panics.

mod dnsmasq;
mod etcd;
mod gateway;
mod http;
mod namespace;
mod port;
mod random;
mod remco;
mod root;
mod strace;
mod temp_dir;
mod wait;

pub use dnsmasq::Dnsmasq;
pub use etcd::Etcd;
pub use gateway::Gateway;
pub use http::{FixedBody, Proxy, Silent};
pub use namespace::{in_own_namespace, run};
pub use port::free_port;
pub use random::Random;
pub use remco::{Finished, Invocation, Remco, remco};
pub use root::{Root, static_binary};
pub use strace::Trace;
pub use temp_dir::TempDir;
pub use wait::{LIMIT, wait_until};
