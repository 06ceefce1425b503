//! Names of the network: the messages of the DNS, and the two files that say whom to ask and what needs no asking.
//! Bytes and text to values and back; who sends what to whom, and when, is `host::dns`'s. No EDNS (an answer of more
//! than 512 bytes comes over TCP), no DNSSEC, no cache, no IDNA.
//!
//! Ours instead of a crate: `domain` does this part in five crates and 38 KB of the binary (measured with one question
//! and its three kinds of answers, beside 11 KB here), `hickory-proto` in fifty crates, and neither reads the two files.

pub mod hosts;
mod name;
pub mod resolv_conf;
pub mod wire;

pub use name::{BadName, Name};
