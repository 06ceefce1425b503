//! What templates can call: functions, filters, those of the user as data, and the environment that they are called in.
//! Knows values, not syntax.

pub mod env;
pub mod filters;
pub mod functions;
pub mod layout;
pub(crate) mod lorem;
pub(crate) mod pattern;
pub mod scripts;
