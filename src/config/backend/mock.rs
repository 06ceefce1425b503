//! The rows of the mock backend. The mock has no options of its own, and no keys to read.
//! There is no struct and no parser.

use super::general::GENERAL;
use crate::config::schema::Schema;

pub(in crate::config) static MOCK: Schema =
    Schema { path: "resource.backend.mock", title: "`mock`", groups: &[GENERAL] };
