//! The parts of remco, from the outside in: `cli` and `daemon` use everything;
//! `host` and the backends' clients touch the machine; `config`, `dns`, `store`, `template`,
//! `yaml` and `resource` are pure. `tests/tidy.rs` holds the layers.

#![cfg_attr(test, allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::unwrap_used))]

// The tests' world names the crate as its users do: it is part of other test programs too.
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
pub mod state;
pub mod status;
pub mod store;
pub mod template;
mod width;
pub mod yaml;
