//! Feeds the fuzzer's bytes to the layouts of dates. What is done with them is in `layout.rs` above, which the kept
//! corpus runs through too.

#![no_main]

#[path = "../layout.rs"]
mod layout;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| layout::run(bytes));
