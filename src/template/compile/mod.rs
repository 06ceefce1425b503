//! From syntax trees to a program: files are read, and lowered onto upon. upon runs texts, nesting, loops and includes over
//! numbered nodes, which it asks for by number. It knows neither values nor expressions: the nodes hold them, `run` evaluates
//! them. upon counts the rounds of a loop by a list, so a loop is lowered to two of upon's (`bursts` and `times`).

pub(crate) mod computed;
pub(crate) mod library;
pub(crate) mod lower;
pub(crate) mod program;
