//! The callables of templates: functions, filters, filters of the user as data, and their environment. Knows values,
//! not syntax.

pub mod env;
pub mod filters;
pub mod functions;
pub mod layout;
pub(crate) mod lorem;
pub(crate) mod pattern;
pub mod scripts;
