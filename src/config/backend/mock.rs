//! The rows of the mock backend, which has no options of its own, so no struct and no parser.
//! Reads no key.

use super::general::GENERAL;
use crate::config::schema::Schema;

pub(in crate::config) static MOCK: Schema =
    Schema { path: "resource.backend.mock", title: "`mock`", groups: &[GENERAL] };
