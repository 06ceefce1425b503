//! The tags that open a scope: `with`, and `include` with a fixed or a computed file name. Files are read and compiled
//! in `compile`.

use crate::template::compile::computed::Failure;
use crate::template::compile::library::resolve;
use crate::template::compile::program::IncludeNode;
use crate::template::run::render::{ENGINE, Outcome, PARSING, Render, Stop, UNIT};
use crate::template::run::scope::Visibility;
use crate::template::source::Span;
use crate::template::syntax::ast::Pairs;
use crate::template::syntax::names::Name;
use crate::template::value::Value;

impl Render {
    fn pairs(&self, pairs: &Pairs) -> Outcome<Vec<(Name, Value)>> {
        pairs.iter().map(|(name, expr)| Ok((*name, self.eval_marked(expr)?))).collect()
    }

    /// Sets variables of the innermost scope.
    pub fn set_all(&self, values: impl IntoIterator<Item = (Name, Value)>) {
        let mut scopes = self.scopes.borrow_mut();
        for (name, value) in values {
            scopes.set(name, value);
        }
    }

    pub(super) fn with(&self, pairs: &Pairs) -> Outcome<()> {
        let values = self.pairs(pairs)?;
        self.scopes.borrow_mut().open_child();
        self.set_all(values);
        self.hold_variables()
    }

    pub(super) fn end_with(&self) -> Outcome<()> {
        self.scopes.borrow_mut().close();
        Ok(())
    }

    pub(super) fn enter(&self, tag: Span, pairs: &Pairs, only: bool) -> Outcome<()> {
        let values = self.pairs(pairs)?;
        {
            let mut scopes = self.scopes.borrow_mut();
            let outer = scopes.innermost();
            scopes.open(if only { Visibility::Nothing } else { Visibility::AsFile(outer) });
        }
        self.set_all(values);
        self.push_frame("included from", tag);
        self.hold_variables()
    }

    pub(super) fn leave(&self) -> Outcome<()> {
        self.pop_frame();
        self.scopes.borrow_mut().close();
        Ok(())
    }

    pub(super) fn include(&self, tag: Span, include: &IncludeNode) -> Outcome<()> {
        let at_file = |message| Stop::At(include.file_span, message);
        let name = self.eval(&include.file)?.text();
        let path = resolve(&self.program.borrow().source(tag).path, &name)
            .map_err(|message| at_file(format!("{message}; one that is written out stands in quotes")))?;
        let open = self.depth.get() / PARSING;
        let program = match self.library.computed(&self.env, &path, include.presence, open, &ENGINE) {
            Ok(Some(program)) => program,
            Ok(None) => return Ok(()),
            Err(Failure::Read(message)) => return Err(at_file(message)),
            Err(Failure::Compile(error)) => {
                self.push_frame("included from", tag);
                self.report(error);
                return Err(Stop::Reported);
            }
        };
        self.enter(tag, &include.pairs, include.only)?;
        self.descend(UNIT)?;
        self.unit(&program, 0)?;
        self.ascend(UNIT);
        self.leave()
    }
}
