//! Runs a program: evaluates expressions, and prints. [`render::Render`] is one render. Each concern has a file with
//! methods of `Render`. These files do not import each other, because they call each other as methods.

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
