//! Names of the network: the messages of the DNS, and the two files that say whom to ask and what needs no asking.
//! Bytes and text to values and back; who sends what to whom, and when, is `host::dns`'s. No EDNS (an answer of more
//! than 512 bytes comes over TCP), no DNSSEC, no cache, no IDNA.
//!
//! Ours instead of a crate: for the messages alone `domain` 0.12 adds 12 KB to the binary and eleven crates to the
//! build, this code 9 KB; `hickory-proto` needs fifty crates. Neither reads the two files without a runtime.

pub mod hosts;
mod name;
pub mod resolv_conf;
pub mod wire;

pub use name::{BadName, Name};
