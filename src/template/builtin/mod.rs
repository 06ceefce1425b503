//! Functions, filters, the user's filters as data, and their environment.
//! Knows values, but no syntax.

pub mod env;
pub mod filters;
pub mod functions;
pub mod layout;
pub(crate) mod lorem;
pub(crate) mod pattern;
pub mod scripts;
