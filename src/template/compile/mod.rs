//! Compiles syntax trees to a program: reads the files, and lowers them onto upon. upon runs nesting, conditions, loops
//! and includes over numbered nodes, one line of nodes at a time. upon knows no texts, values and expressions: the
//! nodes hold them, and `run` prints and evaluates them. upon iterates only over lists, so a loop is lowered to two
//! loops of upon (`bursts` and `times`) over short lists.

pub(crate) mod computed;
mod cycles;
pub(crate) mod library;
pub(crate) mod lower;
pub(crate) mod program;
