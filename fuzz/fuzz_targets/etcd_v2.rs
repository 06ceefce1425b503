//! Feeds the fuzzer's bytes to the decoding of answers of etcd's version 2. What is done with them is in `etcd_v2.rs`
//! above, which the kept corpus runs through too.

#![no_main]

#[path = "../etcd_v2.rs"]
mod etcd_v2;
#[path = "../torn.rs"]
mod torn;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| etcd_v2::run(bytes));
