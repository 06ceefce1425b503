//! The callable units: macros, and the `Super` of a block. Both are values, so that variables can hold them. `lower`
//! compiles them.

use std::any::Any;
use std::rc::Rc;

use crate::store::Bytes;
use crate::template::compile::program::{MacroNode, Program};
use crate::template::run::render::{Outcome, Render, Stop, UNIT, current};
use crate::template::run::scope::Visibility;
use crate::template::source::Span;
use crate::template::syntax::ast::Arg;
use crate::template::syntax::names::Name;
use crate::template::value::{Object, Value};

/// A macro in its scope.
struct Macro {
    program: Rc<Program>,
    node: Rc<MacroNode>,
    /// The scope of its definition. A call uses this one, not the scope of the call.
    scope: usize,
}

impl Render {
    pub(crate) fn define(&self, macros: &[(Name, Rc<MacroNode>)]) -> Outcome<()> {
        let mut scopes = self.scopes.borrow_mut();
        let scope = scopes.innermost();
        for (name, node) in macros {
            let program = self.program.borrow().clone();
            scopes.set(*name, Value::object(Macro { program, node: node.clone(), scope }));
        }
        Ok(())
    }

    /// Calls a value if it is a macro. The result is the output of the macro.
    pub(crate) fn call_macro(&self, value: &dyn Object, args: &[Arg], call: Span) -> Option<Outcome<Value>> {
        let value: &dyn Any = value;
        let macro_ = value.downcast_ref::<Macro>()?;
        Some(self.call(macro_, args, call))
    }

    fn call(&self, macro_: &Macro, args: &[Arg], call: Span) -> Outcome<Value> {
        let MacroNode { name, params, unit, tag } = &*macro_.node;
        if args.len() > params.len() {
            let name = self.library.names().text(*name).clone();
            let s = if params.len() == 1 { "" } else { "s" };
            let message = format!("{name}: takes {} argument{s}, {} given", params.len(), args.len());
            return Err(Stop::At(call, message));
        }
        let mut values = self.arguments(args)?.as_slice().to_vec();
        self.scopes.borrow_mut().open(Visibility::Scope(macro_.scope));
        // Defaults are evaluated in the scope of the definition, so they do not see the parameters.
        for (_, default) in &params[values.len()..] {
            let default = default.as_ref().map(|expr| self.within(&macro_.program, *tag, || self.eval(expr)));
            values.push(default.unwrap_or(Ok(Value::Nil))?);
        }
        // An argument counts even if two parameters have one name.
        let mut values: Vec<_> = params.iter().map(|(name, _)| *name).zip(values).collect();
        values.rotate_left(args.len());
        self.set_all(values);
        self.hold_variables()?;
        let text = self.captured(&macro_.program, *unit, call)?;
        self.scopes.borrow_mut().close();
        Ok(Value::Str(text))
    }

    /// The output of a called unit.
    fn captured(&self, program: &Rc<Program>, unit: usize, call: Span) -> Outcome<Bytes> {
        self.push_frame("called from", call);
        self.descend(UNIT)?;
        let start = self.mark();
        self.unit(program, unit)?;
        let text = self.take(start)?;
        self.ascend(UNIT);
        self.pop_frame();
        Ok(text)
    }
}

impl Object for Macro {
    fn type_name(&self) -> &'static str {
        "func(...*pongo2.Value) *pongo2.Value"
    }

    fn field(&self, _name: &str) -> Option<Value> {
        None
    }

    fn call(&self, _method: &str, _args: &[Value]) -> Option<Result<Value, String>> {
        None
    }
}

/// The variable `block` within a block.
struct BlockInfo {
    program: Rc<Program>,
    /// The overridden versions of the block, the nearest last.
    supers: Rc<[usize]>,
    /// The number of versions that are visible from here.
    left: usize,
    scope: usize,
}

impl Render {
    /// Begins a block in its scope: the variable stays after its end.
    pub(crate) fn begin_block(&self, supers: &Rc<[usize]>) -> Outcome<()> {
        let program = self.program.borrow().clone();
        let mut scopes = self.scopes.borrow_mut();
        let scope = scopes.innermost();
        let (supers, left) = (supers.clone(), supers.len());
        scopes.set(Name::BLOCK, Value::object(BlockInfo { program, supers, left, scope }));
        Ok(())
    }

    fn super_(&self, block: &BlockInfo) -> Outcome<Bytes> {
        let Some(left) = block.left.checked_sub(1) else { return Ok(Bytes::from([])) };
        let BlockInfo { program, supers, scope, .. } = block;
        let inner = BlockInfo { program: program.clone(), supers: supers.clone(), left, scope: *scope };
        {
            let mut scopes = self.scopes.borrow_mut();
            scopes.open(Visibility::Scope(*scope));
            scopes.set(Name::BLOCK, Value::object(inner));
        }
        let text = self.attempt(|| self.captured(program, supers[left], self.tag.get()))?;
        self.scopes.borrow_mut().close();
        // As in Go remco, a failed block is empty here.
        Ok(text.unwrap_or_default())
    }
}

impl Object for BlockInfo {
    fn type_name(&self) -> &'static str {
        "pongo2.tagBlockInformation"
    }

    fn field(&self, _name: &str) -> Option<Value> {
        None
    }

    fn call(&self, method: &str, args: &[Value]) -> Option<Result<Value, String>> {
        match (method, args) {
            ("Super", []) => Some(current(|render| match render.super_(self) {
                Ok(text) => Ok(Value::Str(text)),
                // An error inside has its own place; this one is not shown.
                Err(stop) => Err(render.message(stop)),
            })),
            ("Super", _) => Some(Err(format!("takes 0 arguments, {} given", args.len()))),
            _ => None,
        }
    }
}
