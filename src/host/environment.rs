//! The environment that the program was started with, as bytes.
//! Changes no variable: `process` sets those of children.

use std::os::unix::ffi::OsStringExt;

/// All variables, name and value, in no order.
pub fn variables() -> impl Iterator<Item = (Vec<u8>, Vec<u8>)> {
    std::env::vars_os().map(|(name, value)| (name.into_vec(), value.into_vec()))
}
