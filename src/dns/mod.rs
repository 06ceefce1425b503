//! Names of the network: messages of the DNS, and the files `resolv.conf` and `hosts`. Converts bytes and text to
//! values and back; `host::dns` sends messages and has the timers. No EDNS (an answer of more than 512 bytes comes over
//! TCP), no DNSSEC, no cache, no IDNA.
//!
//! No package replaces this: for messages alone, `domain` 0.12 adds 12 KB to the binary and eleven packages to the
//! build; this code takes 9 KB. `hickory-proto` needs fifty packages. Neither reads the two files without a runtime.

pub mod hosts;
mod name;
pub mod resolv_conf;
pub mod wire;

pub use name::{BadName, Name};
