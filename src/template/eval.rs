//! Finds out what an expression is worth. What single values mean is in `value`, what calls do is in the tables of
//! functions and filters.

use std::rc::Rc;

use super::ast::{Access, Arg, Callee, Expr, FilterCall, Head, Logic, Path, Step};
use super::filters::Filter;
use super::functions::Function;
use super::parser::unknown_function;
use super::render::{Outcome, Render, Stop};
use super::scope::{Found, Name};
use super::scripts::AnyFilter;
use super::source::Span;
use super::value::{Op, Value};

impl Render {
    pub(super) fn eval(&self, expr: &Expr) -> Outcome<Value> {
        match expr {
            Expr::Literal(value) => Ok(value.clone()),
            Expr::Path(path) if path.is_name() => self.head(&path.head),
            _ => {
                self.descend(1)?;
                let value = self.compound(expr)?;
                self.ascend(1);
                Ok(value)
            }
        }
    }

    fn compound(&self, expr: &Expr) -> Outcome<Value> {
        match expr {
            Expr::Literal(value) => Ok(value.clone()),
            Expr::Path(path) => self.path(path),
            Expr::Filtered(input, filters) => self.filtered(input, filters),
            Expr::Negate(operand, span) => self.eval(operand)?.negate().map_err(|message| Stop::At(*span, message)),
            Expr::Not(operand) => Ok(self.eval(operand)?.not()),
            Expr::Binary(op, operands, span) => {
                let left = self.eval(&operands.0)?;
                let right = self.eval(&operands.1)?;
                binary(*op, &left, &right, *span)
            }
            Expr::Chain(first, rest) => self.chain(first, rest),
            Expr::Logic(first, rest) => self.logic(first, rest),
        }
    }

    fn chain(&self, first: &Expr, rest: &[(Op, Expr, Span)]) -> Outcome<Value> {
        let mut value = self.eval(first)?;
        for (op, operand, span) in rest {
            value = binary(*op, &value, &self.eval(operand)?, *span)?;
        }
        Ok(value)
    }

    /// `a and b or c` is `a and (b or c)`: whoever decides ends it.
    fn logic(&self, first: &Expr, rest: &[(Logic, Expr)]) -> Outcome<Value> {
        let mut holds = self.eval(first)?.truthy();
        for (logic, operand) in rest {
            if holds == (*logic == Logic::Or) {
                break;
            }
            holds = self.eval(operand)?.truthy();
        }
        Ok(Value::Bool(holds))
    }

    fn filtered(&self, input: &Expr, filters: &[FilterCall]) -> Outcome<Value> {
        let mut value = self.eval(input)?;
        for call in filters {
            let argument = match &call.argument {
                Some(argument) => self.eval(argument)?,
                None => Value::Nil,
            };
            value = self.filter(&call.filter, &value, &argument, call.span)?;
        }
        Ok(value)
    }

    fn filter(&self, filter: &AnyFilter, value: &Value, argument: &Value, span: Span) -> Outcome<Value> {
        let most = self.steps_left();
        let mut left = most;
        let result = filter.call(&self.env, value, argument, &mut left);
        let value = result.map_err(|message| Stop::At(span, format!("{}: {message}", filter.name())))?;
        self.spend(most - left, span)?;
        self.weigh(&value, span)?;
        Ok(value)
    }

    fn path(&self, path: &Path) -> Outcome<Value> {
        let mut value = self.head(&path.head)?;
        for (at, step) in path.steps.iter().enumerate() {
            if let Value::Nil = value {
                break;
            }
            value = self.step(&value, path, at, step)?;
        }
        Ok(value)
    }

    /// One step into a value that is not nil.
    fn step(&self, value: &Value, path: &Path, at: usize, step: &Step) -> Outcome<Value> {
        let in_path = |message: String| format!("{}: {message}", self.path_text(path, at));
        let called = match (&step.access, &step.args) {
            (Access::Index(index), _) => value.index(*index),
            (Access::Field(name), None) => value.field(name),
            (Access::Field(name), Some(args)) => {
                let values = self.arguments(args)?;
                match value.call(name, &values) {
                    Some(result) => {
                        return result.map_err(|message| at_argument(args, &values, step.span, in_path(message)));
                    }
                    None => value.field(name),
                }
            }
        };
        match called {
            Ok(Value::Nil) => Ok(Value::Nil),
            Ok(value) if step.args.is_none() => Ok(value),
            Ok(value) => Err(Stop::At(step.span, in_path(format!("is {}, not a function", value.kind())))),
            Err(message) => Err(Stop::At(step.span, in_path(message))),
        }
    }

    fn head(&self, head: &Head) -> Outcome<Value> {
        let found = self.scopes.borrow().find(head.name);
        match (found, &head.callee, &head.args) {
            (Found::Value(Value::Nil), _, _) => Ok(Value::Nil),
            (Found::Value(value), _, None) => Ok(value),
            (Found::Value(value), _, Some(_)) => {
                let message = format!("`{}` is {}, not a function", self.text(head.name), value.kind());
                Err(Stop::At(head.span, message))
            }
            // A function is called without parentheses too.
            (Found::Nothing, Some(Callee::Function(function)), args) => {
                self.function(function, args.as_deref().unwrap_or_default(), head.span)
            }
            // The original prints nothing where functions are hidden, called or not.
            (Found::Hidden, Some(Callee::Function(_)), _) => Ok(Value::Nil),
            (_, Some(Callee::Filter(filter)), Some(args)) => {
                let args = self.arguments(args)?;
                Filter::check_count(args.len())
                    .map_err(|message| Stop::At(head.span, format!("{}: {message}", filter.name())))?;
                self.filter(filter, &args[0], args.get(1).unwrap_or(&Value::Nil), head.span)
            }
            (_, None, Some(_)) => {
                Err(Stop::At(head.span, unknown_function(&self.text(head.name), &self.env.world.scripts())))
            }
            // An unknown variable is empty, and so is the mere name of a filter.
            (_, None | Some(Callee::Filter(_)), None) => Ok(Value::Nil),
        }
    }

    fn function(&self, function: &Function, args: &[Arg], span: Span) -> Outcome<Value> {
        let values = self.arguments(args)?;
        let result = function.call(&self.env, &values);
        let value =
            result.map_err(|message| at_argument(args, &values, span, format!("{}: {message}", function.name)))?;
        self.weigh(&value, span)?;
        Ok(value)
    }

    fn arguments(&self, args: &[Arg]) -> Outcome<Vec<Value>> {
        let mut values = Vec::with_capacity(args.len());
        for arg in args {
            values.push(self.eval(&arg.value)?);
        }
        Ok(values)
    }

    /// Counts what a value costs by its size, and refuses one that is larger than a result may be.
    fn weigh(&self, value: &Value, span: Span) -> Outcome<()> {
        let steps = match value {
            Value::Str(text) if text.len() > self.env.limits.output => {
                let message = format!("the value is larger than {} bytes", self.env.limits.output);
                return Err(Stop::At(span, message));
            }
            Value::Str(text) => text.len() / 64,
            Value::List(list) => list.items.len() / 8,
            _ => 0,
        };
        self.spend(1 + steps as u64, span)
    }

    fn text(&self, name: Name) -> Rc<str> {
        self.library.names().text(name).clone()
    }

    /// A path up to one of its steps, as errors name it.
    fn path_text(&self, path: &Path, last: usize) -> String {
        let mut text = self.text(path.head.name).to_string();
        for step in &path.steps[..=last] {
            text.push('.');
            match &step.access {
                Access::Field(name) => text.push_str(name),
                Access::Index(index) => text.push_str(&index.to_string()),
            }
        }
        text
    }
}

/// The failure of a call. Mostly it is an argument without a value, and then this is what is shown.
fn at_argument(args: &[Arg], values: &[Value], call: Span, message: String) -> Stop {
    let empty = values.iter().position(|value| matches!(value, Value::Nil));
    let span = empty.and_then(|at| args.get(at)).map_or(call, |arg| arg.span);
    Stop::At(span, message)
}

fn binary(op: Op, left: &Value, right: &Value, span: Span) -> Outcome<Value> {
    Value::binary(op, left, right).map_err(|message| Stop::At(span, message))
}
