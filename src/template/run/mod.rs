//! Runs a program: evaluates expressions, and prints. [`render::Render`] is one render; its methods stand in one file a
//! concern, each of which knows `render` and what is below it, but no other: they call each other as methods.

mod attempt;
pub(crate) mod eval;
mod includes;
pub(crate) mod loops;
pub(crate) mod macros;
pub(crate) mod marked;
pub(crate) mod render;
pub(crate) mod rounds;
pub(crate) mod scope;
pub(crate) mod spaceless;
pub(crate) mod stacks;
mod tags;
