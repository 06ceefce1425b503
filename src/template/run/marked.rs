//! The marks of values in variables, as in Go remco: a text is safe from escaping, and a field of `forloop` is read at
//! each use. Other code sees plain values.

use std::any::Any;
use std::rc::Rc;

use crate::template::run::loops::LoopInfo;
use crate::template::syntax::ast::{Access, Path};
use crate::template::value::{Object, Value};

/// A value with its mark.
enum Marked {
    /// A text that `autoescape` leaves alone.
    Safe(Value),
    /// A field of the state of a loop.
    Field(Rc<LoopInfo>, Rc<str>),
}

impl Object for Marked {
    fn type_name(&self) -> &'static str {
        "*pongo2.Value"
    }

    fn field(&self, _name: &str) -> Option<Value> {
        None
    }

    fn call(&self, _method: &str, _args: &[Value]) -> Option<Result<Value, String>> {
        None
    }
}

fn marked(value: &Value) -> Option<&Marked> {
    let Value::Object(object) = value else { return None };
    let object: &dyn Any = &**object;
    object.downcast_ref()
}

/// The present value without its mark.
pub(crate) fn plain(value: &Value) -> Value {
    match marked(value) {
        Some(Marked::Safe(text)) => text.clone(),
        Some(Marked::Field(info, name)) => info.field(name).unwrap_or(Value::Nil),
        None => value.clone(),
    }
}

/// A text that `autoescape` leaves alone.
pub(crate) fn safe(text: Value) -> Value {
    Value::object(Marked::Safe(text))
}

/// Whether a value has a mark.
pub(crate) fn is_marked(value: &Value) -> bool {
    marked(value).is_some()
}

pub(crate) fn is_safe(value: &Value) -> bool {
    matches!(marked(value), Some(Marked::Safe(_)))
}

/// `forloop.Counter`, `forloop.Parentloop.First`, if a path leads to such a field.
pub(crate) fn field_of_loop(head: Value, path: &Path) -> Option<Value> {
    let mut value = head;
    for (at, step) in path.steps.iter().enumerate() {
        let (Value::Object(object), Access::Field(name), None) = (&value, &step.access, &step.args) else {
            return None;
        };
        let object: Rc<dyn Any> = object.clone();
        let info = object.downcast::<LoopInfo>().ok()?;
        let next = info.field(name)?;
        if at + 1 == path.steps.len() && matches!(next, Value::Int(..) | Value::Bool(_)) {
            return Some(Value::object(Marked::Field(info, name.clone())));
        }
        value = next;
    }
    None
}
