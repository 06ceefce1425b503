//! Feeds the fuzzer's bytes to a whole protocol, as a script. What is done with them is in `protocol.rs` above, which
//! the kept corpus runs through too.

#![no_main]

#[path = "../protocol.rs"]
#[allow(dead_code, reason = "each store is a separate target")]
mod protocol;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| protocol::nats(bytes));
