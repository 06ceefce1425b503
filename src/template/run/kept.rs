//! What the original's values carry beside themselves, where it shows: that a text is safe from escaping, and that a
//! field of `forloop` is read when it is used, not when it is kept. Variables hold such values; all else sees plain ones.

use std::any::Any;
use std::rc::Rc;

use crate::template::run::loops::LoopInfo;
use crate::template::syntax::ast::{Access, Path};
use crate::template::value::{Object, Value};

/// A value with what it carries.
enum Kept {
    /// A text that `autoescape` leaves alone.
    Safe(Value),
    /// A field of the state of a loop.
    Field(Rc<LoopInfo>, Rc<str>),
}

impl Object for Kept {
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

fn kept(value: &Value) -> Option<&Kept> {
    let Value::Object(object) = value else { return None };
    let object: &dyn Any = &**object;
    object.downcast_ref()
}

/// The value without what it carries, as it is now.
pub(crate) fn plain(value: &Value) -> Value {
    match kept(value) {
        Some(Kept::Safe(text)) => text.clone(),
        Some(Kept::Field(info, name)) => info.field(name).unwrap_or(Value::Nil),
        None => value.clone(),
    }
}

/// A text that `autoescape` leaves alone.
pub(crate) fn safe(text: Value) -> Value {
    Value::object(Kept::Safe(text))
}

/// Whether a value carries something.
pub(crate) fn is_kept(value: &Value) -> bool {
    kept(value).is_some()
}

pub(crate) fn is_safe(value: &Value) -> bool {
    matches!(kept(value), Some(Kept::Safe(_)))
}

/// `forloop.Counter`, `forloop.Parentloop.First`, where that is what a path leads to.
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
            return Some(Value::object(Kept::Field(info, name.clone())));
        }
        value = next;
    }
    None
}
