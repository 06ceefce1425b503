//! The limits of one read of all keys of a store: their rows and values.
//! Counts nothing.

use crate::config::reader::Reader;
use crate::config::report::Report;
use crate::config::schema::{Default, Key, Schema, Type, Unit, key};

/// The largest result of one read of all keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReadLimits {
    /// The number of keys.
    pub max_keys: usize,
    /// Bytes of keys and values, after base64 and escapes are decoded.
    pub max_decoded: usize,
}

pub(super) static READ_LIMITS: &[Key] = &[
    key(
        "max_keys",
        Type::Integer(Unit::Plain),
        Default::Number(1_000_000),
        "the most keys that one read may return; at least 1. More keys are an error, and the files stay as they are",
    ),
    key(
        "max_decoded",
        Type::Integer(Unit::Bytes),
        Default::Number(256 << 20),
        "the most bytes of keys and values that one read may return, after base64 and escapes are decoded; at least 1. \
         More bytes are an error, and the files stay as they are",
    ),
];

/// Reads the limits.
pub(super) fn parse(reader: &Reader) -> ReadLimits {
    ReadLimits { max_keys: reader.positive("max_keys"), max_decoded: reader.positive("max_decoded") }
}

impl std::default::Default for ReadLimits {
    fn default() -> ReadLimits {
        static ALONE: Schema = Schema { path: "", title: "the limits of a read", groups: &[READ_LIMITS] };
        parse(&Reader::of_nothing(&Report::of_defaults(), &ALONE))
    }
}
