//! Feeds the fuzzer's bytes to a server's side of a connection. What is done with them is in `link.rs` above, which the
//! kept corpus runs through too.

#![no_main]

#[path = "../link.rs"]
mod link;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| link::run(bytes));
