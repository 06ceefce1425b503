//! Runs a program: evaluates expressions, and prints. [`render::Render`] is one render; its methods stand in one file a
//! concern, so that these files know each other.

pub(crate) mod eval;
pub(crate) mod kept;
pub(crate) mod macros;
pub(crate) mod render;
pub(crate) mod rounds;
pub(crate) mod scope;
pub(crate) mod spaceless;
