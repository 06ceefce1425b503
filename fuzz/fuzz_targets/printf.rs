//! Feeds the fuzzer's bytes to printf. What is done with them is in `printf.rs` above, which the kept corpus runs
//! through too.

#![no_main]

#[path = "../printf.rs"]
mod printf;
#[path = "../still.rs"]
mod still;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| printf::run(bytes));
