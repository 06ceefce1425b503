//! What the original's values carry beside themselves, where it shows: that a text is safe from escaping, and that a
//! field of `forloop` is read when it is used, not when it is kept. Variables hold such values; all else sees plain ones.

use std::any::Any;
use std::rc::Rc;

use crate::template::run::eval::default_hint;
use crate::template::run::render::{LoopInfo, Outcome, Render};
use crate::template::run::scope::NameQuery;
use crate::template::syntax::ast::{Access, Expr, FilterCall, Path};
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

pub(crate) fn is_safe(value: &Value) -> bool {
    matches!(kept(value), Some(Kept::Safe(_)))
}

impl Render {
    /// Evaluates an expression for a variable, for `ifchanged` or to be printed under `autoescape`.
    pub(crate) fn eval_kept(&self, expr: &Expr) -> Outcome<Value> {
        match expr {
            Expr::Path(path) => self.kept_path(expr, path),
            Expr::Filtered(input, filters) => {
                self.descend(1)?;
                let value = self.kept_filtered(input, filters)?;
                self.ascend(1);
                Ok(value)
            }
            _ => self.eval(expr),
        }
    }

    fn kept_path(&self, expr: &Expr, path: &Path) -> Outcome<Value> {
        let head = match self.scopes.borrow().look(path.head.name) {
            NameQuery::Value(value @ Value::Object(_)) => value.clone(),
            _ => return self.eval(expr),
        };
        if path.is_name() && kept(&head).is_some() {
            return Ok(head);
        }
        if path.steps.is_empty() {
            // What a macro prints is safe; it is called without parentheses too.
            return Ok(match self.eval(expr)? {
                text @ Value::Str(_) => Value::object(Kept::Safe(text)),
                value => value,
            });
        }
        match field_of_loop(head, path) {
            Some(field) => Ok(Value::object(field)),
            None => self.eval(expr),
        }
    }

    fn kept_filtered(&self, input: &Expr, filters: &[FilterCall]) -> Outcome<Value> {
        let mut value = self.eval_kept(input).map_err(|stop| default_hint(stop, filters))?;
        for call in filters {
            let argument = match &call.argument {
                Some(argument) => self.eval_kept(argument)?,
                None => Value::Nil,
            };
            let before = plain(&value);
            let after = self.filter(&call.filter, &before, &plain(&argument), call.span)?;
            value = match (call.filter.name(), &before, &after) {
                ("truncatechars_html" | "truncatewords_html", _, Value::Str(_)) => Value::object(Kept::Safe(after)),
                // These give what they are given, with what it carries.
                ("safe", ..) => value,
                ("default", ..) if before.truthy() => value,
                ("default", ..) => argument,
                ("default_if_none", Value::Nil, _) => argument,
                ("default_if_none", ..) => value,
                (
                    "center" | "get_digit" | "linebreaks" | "random" | "wordwrap",
                    Value::Str(before),
                    Value::Str(after),
                ) if Rc::ptr_eq(before, after) => value,
                _ => after,
            };
        }
        Ok(value)
    }
}

/// `forloop.Counter`, `forloop.Parentloop.First`
fn field_of_loop(head: Value, path: &Path) -> Option<Kept> {
    let mut value = head;
    for (at, step) in path.steps.iter().enumerate() {
        let (Value::Object(object), Access::Field(name), None) = (&value, &step.access, &step.args) else {
            return None;
        };
        let object: Rc<dyn Any> = object.clone();
        let info = object.downcast::<LoopInfo>().ok()?;
        let next = info.field(name)?;
        if at + 1 == path.steps.len() && matches!(next, Value::Int(..) | Value::Bool(_)) {
            return Some(Kept::Field(info, name.clone()));
        }
        value = next;
    }
    None
}
