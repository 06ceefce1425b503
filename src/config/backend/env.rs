//! The rows of the env backend. Environment variables have no options of their own. Reads no variable.
//! There is no struct and no parser.

use super::general::GENERAL;
use crate::config::schema::Schema;

pub(in crate::config) static ENV: Schema = Schema { path: "resource.backend.env", title: "`env`", groups: &[GENERAL] };
