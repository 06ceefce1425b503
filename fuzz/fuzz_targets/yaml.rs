//! Feeds the fuzzer's bytes to yaml. What is done with them is in `yaml.rs` above, which the kept corpus runs
//! through too.

#![no_main]

#[path = "../yaml.rs"]
mod yaml;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| yaml::run(bytes));
