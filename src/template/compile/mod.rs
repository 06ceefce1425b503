//! Compiles syntax trees to a program: reads the files, and lowers them onto upon. upon runs nesting, loops and
//! includes over numbered nodes; it asks for those that follow one another as one line. It knows neither texts nor
//! values nor expressions: the nodes hold them, `run` prints and evaluates them. upon counts the rounds of a loop by a
//! list, so a loop is lowered to two of upon's (`bursts` and `times`).

pub(crate) mod computed;
mod cycles;
pub(crate) mod library;
pub(crate) mod lower;
pub(crate) mod program;
