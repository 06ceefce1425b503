//! The tags with a memory between rounds: cycle and ifchanged.
//! Knows no loops: a round is a call.

use std::any::Any;
use std::cell::RefCell;
use std::rc::Rc;

use crate::store::Bytes;
use crate::template::compile::program::{CycleNode, Program, Slot};
use crate::template::run::loops::Memory;
use crate::template::run::marked::plain;
use crate::template::run::render::{Outcome, Render, Stop};
use crate::template::source::Span;
use crate::template::syntax::ast::Expr;
use crate::template::value::{Object, Value};

/// The value of `cycle .. as name`. It prints the present value of the cycle, and `cycle name` advances the cycle.
/// A cell, because all variables with this value share it.
struct CycleValue {
    program: Rc<Program>,
    node: Rc<CycleNode>,
    value: RefCell<Value>,
}

impl Render {
    /// `{% cycle a b %}`, or `{% cycle name %}` for a cycle that has a name.
    pub(crate) fn cycle(&self, node: &Rc<CycleNode>) -> Outcome<()> {
        let value = self.turn(node)?;
        if let Value::Object(object) = &value {
            let object: &dyn Any = &**object;
            if let Some(named) = object.downcast_ref::<CycleValue>() {
                let value = self.within(&named.program, named.node.tag, || self.turn(&named.node))?;
                let value = unnamed(value);
                named.value.replace(value.clone());
                return if named.node.silent { Ok(()) } else { self.print_value(&value) };
            }
        }
        if let Some(name) = node.name {
            let program = self.program.borrow().clone();
            let named = CycleValue { program, node: node.clone(), value: RefCell::new(value.clone()) };
            self.scopes.borrow_mut().set(name, Value::object(named));
        }
        if node.silent { Ok(()) } else { self.print_value(&value) }
    }

    /// The next value of a cycle.
    fn turn(&self, node: &CycleNode) -> Outcome<Value> {
        let turns = match self.memory.borrow().get(&node.slot) {
            Some(Memory::Turns(turns)) => *turns,
            _ => 0,
        };
        self.memory.borrow_mut().insert(node.slot, Memory::Turns(turns + 1));
        match node.values.get(turns % node.values.len().max(1)) {
            Some(expr) => self.eval(expr),
            None => Ok(Value::Nil),
        }
    }

    /// Whether one of the values differs from the remembered ones. The new ones are remembered.
    pub(crate) fn watch(&self, watched: &[Expr], slot: Slot, tag: Span) -> Outcome<bool> {
        let values = watched.iter().map(|expr| self.eval_marked(expr)).collect::<Outcome<Vec<_>>>()?;
        let changed = match self.memory.borrow().get(&slot) {
            Some(Memory::Values(last)) => {
                let mut changed = false;
                for (last, value) in last.iter().zip(&values) {
                    changed = changed
                        || !plain(last)
                            .equals(&self.env.meter, &plain(value))
                            .map_err(|message| Stop::At(tag, message))?;
                }
                changed
            }
            _ => true,
        };
        self.memory.borrow_mut().insert(slot, Memory::Values(values));
        Ok(changed)
    }

    /// Whether a text differs from the remembered one, which is empty at first. The new one is remembered.
    pub(crate) fn changed(&self, text: &Bytes, slot: Slot) -> bool {
        match self.memory.borrow_mut().insert(slot, Memory::Text(text.clone())) {
            Some(Memory::Text(last)) => last != *text,
            _ => !text.is_empty(),
        }
    }
}

/// Resolves a named cycle to its value, so that no cycle can contain itself.
fn unnamed(mut value: Value) -> Value {
    while let Value::Object(object) = &value {
        let object: &dyn Any = &**object;
        let Some(named) = object.downcast_ref::<CycleValue>() else { break };
        let inner = named.value.borrow().clone();
        value = inner;
    }
    value
}

impl Object for CycleValue {
    fn type_name(&self) -> &'static str {
        "*pongo2.tagCycleValue"
    }

    fn field(&self, _name: &str) -> Option<Value> {
        None
    }

    fn call(&self, _method: &str, _args: &[Value]) -> Option<Result<Value, String>> {
        None
    }

    fn text(&self) -> Option<Bytes> {
        Some(self.value.borrow().text())
    }

    fn release(&self) -> Vec<Value> {
        vec![self.value.replace(Value::Nil)]
    }
}
