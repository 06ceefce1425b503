//! Runs a part of a render whose failure does not end the render, and restores the state before it. Does not decide
//! what is printed instead.

use std::rc::Rc;

use crate::template::compile::program::Program;
use crate::template::run::render::{Outcome, Render};
use crate::template::run::stacks::Heights;
use crate::template::source::Span;

/// The state of a render before an attempt.
struct Snapshot {
    scopes: usize,
    stacks: Heights,
    out: usize,
    depth: usize,
    tag: Span,
    program: Rc<Program>,
}

impl Render {
    /// Runs a part whose failure does not end the render. `None`: the part failed, and the state before it is restored.
    /// A limit and the end of the program still end the render.
    pub(crate) fn attempt<T>(&self, run: impl FnOnce() -> Outcome<T>) -> Outcome<Option<T>> {
        let before = Snapshot {
            scopes: self.scopes.borrow().innermost(),
            stacks: self.open.borrow().heights(),
            out: self.mark(),
            depth: self.depth.get(),
            tag: self.tag.get(),
            program: self.program.borrow().clone(),
        };
        match run() {
            Ok(done) => Ok(Some(done)),
            Err(stop) if self.over.get() || self.env.meter.has_ended() => Err(stop),
            Err(_) => {
                self.failure.replace(None);
                self.scopes.borrow_mut().close_down_to(before.scopes);
                self.open.borrow_mut().truncate(before.stacks);
                self.out.borrow_mut().split_off(before.out);
                self.depth.set(before.depth);
                self.tag.set(before.tag);
                self.program.replace(before.program);
                Ok(None)
            }
        }
    }
}
