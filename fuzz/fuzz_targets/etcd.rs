//! Feeds the fuzzer's bytes to the decoding of answers of an etcd. What is done with them is in `etcd.rs` above, which
//! the kept corpus runs through too.

#![no_main]

#[path = "../etcd.rs"]
mod etcd;
#[path = "../torn.rs"]
mod torn;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| etcd::run(bytes));
