//! Feeds the fuzzer's bytes to the patterns of keys. What is done with them is in `pattern.rs` above, which the kept
//! corpus runs through too.

#![no_main]

#[path = "../pattern.rs"]
mod pattern;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| pattern::run(bytes));
