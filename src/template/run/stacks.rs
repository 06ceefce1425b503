//! The open parts of a render, the innermost last: loops, tags with an end, includes and calls. Contains only data. The
//! scopes of variables are in `scope`.

use std::rc::Rc;

use crate::template::compile::program::Program;
use crate::template::run::loops::OpenLoop;
use crate::template::source::Span;
use crate::template::syntax::ast::Escape;

#[derive(Default)]
pub(crate) struct Stacks {
    pub loops: Vec<OpenLoop>,
    /// The chosen branch of each `if`.
    pub branches: Vec<usize>,
    /// The state of `autoescape` outside each such tag.
    pub escapes: Vec<Escape>,
    /// The positions in the output where captured texts begin.
    pub captures: Vec<usize>,
    /// The includes and calls, for errors.
    pub frames: Vec<Frame>,
}

/// An include or a call.
pub(crate) struct Frame {
    /// The word for it in an error: "included from".
    pub how: &'static str,
    pub program: Rc<Program>,
    pub from: Span,
}

/// The heights of all stacks at one moment.
#[derive(Clone, Copy)]
pub(crate) struct Heights {
    loops: usize,
    branches: usize,
    escapes: usize,
    captures: usize,
    frames: usize,
}

impl Stacks {
    /// The present heights, for [`Stacks::truncate`].
    pub fn heights(&self) -> Heights {
        Heights {
            loops: self.loops.len(),
            branches: self.branches.len(),
            escapes: self.escapes.len(),
            captures: self.captures.len(),
            frames: self.frames.len(),
        }
    }

    /// Drops everything above these heights.
    pub fn truncate(&mut self, heights: Heights) {
        self.loops.truncate(heights.loops);
        self.branches.truncate(heights.branches);
        self.escapes.truncate(heights.escapes);
        self.captures.truncate(heights.captures);
        self.frames.truncate(heights.frames);
    }
}
