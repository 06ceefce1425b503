//! The rows of the env backend, which has no options of its own, so no struct and no parser.
//! Reads no variable.

use super::general::GENERAL;
use crate::config::schema::Schema;

pub(in crate::config) static ENV: Schema = Schema { path: "resource.backend.env", title: "`env`", groups: &[GENERAL] };
