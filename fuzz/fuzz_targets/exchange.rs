//! Feeds the fuzzer's bytes to a server's side of a connection. What is done with them is in `exchange.rs` above, which
//! the kept corpus runs through too.

#![no_main]

#[path = "../exchange.rs"]
mod exchange;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| exchange::run(bytes));
