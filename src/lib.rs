//! The parts of remco. `daemon` uses all of them; `host` and the drivers of backends touch the machine; `config`,
//! `dns`, `store`, `template`, `yaml` and `resource` are pure. `tests/tidy.rs` checks the layers.

#![cfg_attr(test, allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::unwrap_used))]

// The world of the tests names the crate `remco`, because other test programs include it too.
#[cfg(test)]
extern crate self as remco;

mod acl;
pub mod backend;
mod calendar;
pub mod cli;
pub mod config;
mod count;
mod cut;
pub mod daemon;
mod diff;
pub mod dns;
pub mod error;
pub mod explain;
mod fnv;
pub mod host;
pub mod log;
pub mod mask;
pub mod metrics;
mod nearest;
mod number;
mod patch;
mod percent;
pub mod quote;
mod random;
pub mod resource;
mod scheme;
mod sorted;
pub mod state;
pub mod status;
pub mod store;
pub mod template;
mod width;
pub mod yaml;
