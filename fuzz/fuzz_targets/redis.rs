//! Feeds the fuzzer's bytes to the reading of replies of Redis. What is done with them is in `redis.rs` above, which
//! the kept corpus runs through too.

#![no_main]

#[path = "../redis.rs"]
mod redis;
#[path = "../torn.rs"]
mod torn;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| redis::run(bytes));
