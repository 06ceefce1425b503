//! Feeds the fuzzer's bytes to the template language. What is done with them is in `template.rs` above, which the
//! kept corpus runs through too.

#![no_main]

#[path = "../template.rs"]
mod template;
#[path = "../still.rs"]
mod still;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| template::run(bytes));
