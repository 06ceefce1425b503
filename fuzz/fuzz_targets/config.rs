//! Feeds the fuzzer's bytes to the reading of configurations. What is done with them is in `config.rs` above, which the
//! kept corpus runs through too.

#![no_main]

#[path = "../config.rs"]
mod config;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| config::run(bytes));
