//! Evaluates expressions, to plain values or to marked values for variables. The operations on values are in `value`,
//! the bodies of functions and filters in `builtin`.

use std::mem;
use std::rc::Rc;

use crate::template::builtin::filters::Filter;
use crate::template::builtin::functions::Function;
use crate::template::builtin::scripts::AnyFilter;
use crate::template::run::marked;
use crate::template::run::render::{Outcome, Render, Stop};
use crate::template::run::scope::NameQuery;
use crate::template::source::{Macros, Span};
use crate::template::syntax::ast::{Access, Arg, Callee, Expr, FilterCall, Head, Logic, Path, Step};
use crate::template::syntax::hints::unknown_function;
use crate::template::syntax::names::Name;
use crate::template::value::meter::{STEP, raised_by};
use crate::template::value::{Op, Value};

impl Render {
    pub(crate) fn eval(&self, expr: &Expr) -> Outcome<Value> {
        match expr {
            Expr::Literal(value) => return Ok(value.clone()),
            Expr::Path(path) if path.is_name() => return self.head(&path.head),
            _ => self.descend(1)?,
        }
        let value = match expr {
            Expr::Literal(value) => Ok(value.clone()),
            Expr::Path(path) => self.path(path),
            Expr::Filtered(input, filters) => self.filtered(input, filters),
            Expr::Negate(operand, span) => self.negate(operand, *span),
            Expr::Not(operand) => self.not(operand),
            Expr::Binary(op, operands, span) => self.binary(*op, &operands.0, &operands.1, *span),
            Expr::Chain(first, rest) => self.chain(first, rest),
            Expr::Logic(first, rest) => self.logic(first, rest),
        };
        self.ascend(1);
        value
    }

    fn not(&self, operand: &Expr) -> Outcome<Value> {
        Ok(self.eval(operand)?.not())
    }

    fn negate(&self, operand: &Expr, span: Span) -> Outcome<Value> {
        self.eval(operand)?.negate().map_err(|message| Stop::At(span, message))
    }

    fn binary(&self, op: Op, left: &Expr, right: &Expr, span: Span) -> Outcome<Value> {
        let left = self.eval(left)?;
        self.operate(op, &left, &self.eval(right)?, span)
    }

    fn operate(&self, op: Op, left: &Value, right: &Value, span: Span) -> Outcome<Value> {
        Value::binary(&self.env.meter, op, left, right).map_err(|message| Stop::At(span, message))
    }

    fn chain(&self, first: &Expr, rest: &[(Op, Expr, Span)]) -> Outcome<Value> {
        let mut value = self.eval(first)?;
        for (op, operand, span) in rest {
            value = self.operate(*op, &value, &self.eval(operand)?, *span)?;
        }
        Ok(value)
    }

    /// `a and b or c` is `a and (b or c)`: the operand that decides ends it.
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
        let value = self.eval(input).map_err(|stop| default_hint(stop, filters))?;
        self.apply(value, filters)
    }

    /// Passes a value through filters.
    pub(crate) fn apply(&self, mut value: Value, filters: &[FilterCall]) -> Outcome<Value> {
        for call in filters {
            let argument = match &call.argument {
                Some(argument) => self.eval(argument)?,
                None => Value::Nil,
            };
            value = self.filter(&call.filter, &value, &argument, call.span)?;
        }
        Ok(value)
    }

    /// Calls a filter of the language or of the user. There is no other place for it.
    pub(crate) fn filter(&self, filter: &AnyFilter, value: &Value, argument: &Value, span: Span) -> Outcome<Value> {
        let at_filter = |message: String| Stop::At(span, format!("{}: {message}", filter.name()));
        let value = filter.call(&self.env, value, argument).map_err(at_filter)?;
        self.made(value, span)
    }

    fn path(&self, path: &Path) -> Outcome<Value> {
        let (mut value, taken) = match self.first_field(path) {
            Some(value) => (value?, 1),
            None => (self.head(&path.head)?, 0),
        };
        for (at, step) in path.steps.iter().enumerate().skip(taken) {
            if let Value::Nil = value {
                break;
            }
            value = self.step(&value, path, at, step)?;
        }
        Ok(value)
    }

    /// `x.Key` of a pair or map, read without a clone of it, because most tags of templates print such a value.
    fn first_field(&self, path: &Path) -> Option<Outcome<Value>> {
        let (None, Some(Step { access: Access::Field(field), args: None, span })) =
            (&path.head.args, path.steps.first())
        else {
            return None;
        };
        match self.scopes.borrow().look(path.head.name) {
            NameQuery::Value(value @ (Value::Pair(..) | Value::Map(_))) => {
                let result = value.field(field).map_err(|message| Stop::At(*span, message));
                if let Ok(Value::Nil) = result {
                    self.hint_field(value, path, 0);
                }
                Some(result)
            }
            _ => None,
        }
    }

    /// One step into a value that is not nil.
    fn step(&self, value: &Value, path: &Path, at: usize, step: &Step) -> Outcome<Value> {
        let in_path = |message: String| format!("{}: {message}", self.path_text(path, at));
        let called = match (&step.access, &step.args) {
            (Access::Index(index), _) => value.index(*index),
            (Access::Field(name), None) => self.called_at(step.span, || value.field(name)),
            (Access::Field(name), Some(args)) => {
                let values = self.arguments(args)?;
                // A key or a member is searched.
                let read = values.as_slice().first().map_or(0, Value::text_len);
                self.charge(STEP + read, step.span)?;
                match self.called_at(step.span, || value.call(name, values.as_slice())) {
                    Some(result) => {
                        let value = result
                            .map_err(|message| at_argument(args, values.as_slice(), step.span, in_path(message)))?;
                        return self.made(value, step.span);
                    }
                    None => value.field(name),
                }
            }
        };
        match called {
            Ok(Value::Nil) => {
                self.hint_field(value, path, at);
                Ok(Value::Nil)
            }
            // Most results are a part of an existing value. A method without arguments may create one.
            Ok(value) if step.args.is_none() => self.made(value, step.span),
            Ok(value) => Err(Stop::At(step.span, in_path(format!("is {}, not a function", value.kind())))),
            Err(message) => Err(Stop::At(step.span, in_path(message))),
        }
    }

    /// Notes a hint for `kv.key`, which is nil and looks correct.
    fn hint_field(&self, value: &Value, path: &Path, at: usize) {
        let Step { access: Access::Field(name), span, .. } = &path.steps[at] else { return };
        let program = self.program.borrow();
        let source = program.source(*span);
        if !source.is_new_hint(*span) {
            return;
        }
        if let Some(field) = value.meant_field(name) {
            let (line, column) = source.place(span.start);
            let (file, text) = (source.path.display(), self.path_text(path, at));
            let fields = match value {
                Value::Pair(..) => "a pair has the fields Key and Value".to_owned(),
                _ => format!("there is no field `{name}`"),
            };
            let meant = text.strip_suffix(&**name).unwrap_or_default();
            self.library.hint(format!("{file}:{line}:{column}: {text} is empty: {fields}, write {meant}{field}"));
        }
    }

    /// Calls into a value, which knows no places. Templates that it runs are called from `span`.
    fn called_at<T>(&self, span: Span, call: impl FnOnce() -> T) -> T {
        let tag = self.tag.replace(span);
        let result = call();
        self.tag.set(tag);
        result
    }

    fn head(&self, head: &Head) -> Outcome<Value> {
        let (value, hidden) = match self.scopes.borrow().look(head.name) {
            NameQuery::Value(value) => (Some(marked::plain(value)), false),
            NameQuery::Nothing => (None, false),
            NameQuery::Hidden => (None, true),
        };
        match value {
            Some(value) => self.variable(head, value),
            // Go remco prints nothing where functions are hidden, called or not. Filters are never hidden.
            None if hidden && matches!(head.callee, Some(Callee::Function(_))) => Ok(Value::Nil),
            None => self.builtin(head),
        }
    }

    fn variable(&self, head: &Head, value: Value) -> Outcome<Value> {
        let args = head.args.as_deref();
        match &value {
            Value::Nil => return Ok(Value::Nil),
            // A macro is called without parentheses too, like a function.
            Value::Object(object) => {
                if let Some(result) = self.call_macro(&**object, args.unwrap_or_default(), head.span) {
                    return result;
                }
            }
            _ => {}
        }
        if args.is_some() { Err(self.no_function(head, &value)) } else { Ok(value) }
    }

    /// Calls a function or filter if no variable has the name.
    fn builtin(&self, head: &Head) -> Outcome<Value> {
        match (&head.callee, &head.args) {
            (Some(Callee::Function(function)), args) => {
                self.function(function, args.as_deref().unwrap_or_default(), head.span)
            }
            (Some(Callee::Filter(filter)), Some(args)) => self.filter_call(filter, args, head.span),
            (None, Some(_)) => self.unknown_call(head),
            // An unknown variable is empty, and so is the name of a filter without arguments.
            (None | Some(Callee::Filter(_)), None) => Ok(Value::Nil),
        }
    }

    fn no_function(&self, head: &Head, value: &Value) -> Stop {
        Stop::At(head.span, format!("`{}` is {}, not a function", self.text(head.name), value.kind()))
    }

    fn unknown_call(&self, head: &Head) -> Outcome<Value> {
        match self.program.borrow().source(head.span).macros {
            Macros::Some => Ok(Value::Nil),
            Macros::None => {
                let message = unknown_function(&self.text(head.name), &self.library.scripts);
                Err(Stop::At(head.span, message))
            }
        }
    }

    fn function(&self, function: &Function, args: &[Arg], span: Span) -> Outcome<Value> {
        let values = self.arguments(args)?;
        let result = function.call(&self.env, values.as_slice());
        let value = result
            .map_err(|message| at_argument(args, values.as_slice(), span, format!("{}: {message}", function.name)))?;
        self.made(value, span)
    }

    /// `base(x)`, which is `x|base`.
    fn filter_call(&self, filter: &AnyFilter, args: &[Arg], span: Span) -> Outcome<Value> {
        let values = self.arguments(args)?;
        let values = values.as_slice();
        Filter::check_count(values.len()).map_err(|message| Stop::At(span, format!("{}: {message}", filter.name())))?;
        self.filter(filter, &values[0], values.get(1).unwrap_or(&Value::Nil), span)
    }

    pub(crate) fn arguments(&self, args: &[Arg]) -> Outcome<Arguments> {
        let mut values = Arguments { few: [Value::Nil, Value::Nil], count: 0, many: Vec::new() };
        for arg in args {
            values.push(self.eval(&arg.value)?);
        }
        Ok(values)
    }

    /// Counts the memory of a call's result, and refuses one that exceeds the size limit of a result.
    fn made(&self, value: Value, span: Span) -> Outcome<Value> {
        self.charge(STEP, span)?;
        let limit = self.env.meter.limits().output;
        if value.text_len() > limit {
            self.env.meter.end();
            let raised = raised_by("template_output");
            return Err(Stop::At(span, format!("the value is larger than {limit} bytes; {raised}")));
        }
        self.env.meter.keep(&value).map_err(|message| Stop::At(span, message))?;
        Ok(value)
    }

    fn text(&self, name: Name) -> Rc<str> {
        self.library.names().text(name).clone()
    }

    /// The text of a path up to one of its steps, for errors.
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

/// Marked values, for variables.
impl Render {
    /// Evaluates an expression for a variable, for `ifchanged` or to be printed under `autoescape`.
    pub(crate) fn eval_marked(&self, expr: &Expr) -> Outcome<Value> {
        match expr {
            Expr::Path(path) => self.marked_path(expr, path),
            Expr::Filtered(input, filters) => {
                self.descend(1)?;
                let value = self.marked_filtered(input, filters)?;
                self.ascend(1);
                Ok(value)
            }
            _ => self.eval(expr),
        }
    }

    fn marked_path(&self, expr: &Expr, path: &Path) -> Outcome<Value> {
        let head = match self.scopes.borrow().look(path.head.name) {
            NameQuery::Value(value @ Value::Object(_)) => value.clone(),
            _ => return self.eval(expr),
        };
        if path.is_name() && marked::is_marked(&head) {
            return Ok(head);
        }
        if path.steps.is_empty() {
            // The output of a macro is safe. A macro is called without parentheses too.
            return Ok(match self.eval(expr)? {
                text @ Value::Str(_) => marked::safe(text),
                value => value,
            });
        }
        match marked::field_of_loop(head, path) {
            Some(field) => Ok(field),
            None => self.eval(expr),
        }
    }

    fn marked_filtered(&self, input: &Expr, filters: &[FilterCall]) -> Outcome<Value> {
        let mut value = self.eval_marked(input).map_err(|stop| default_hint(stop, filters))?;
        for call in filters {
            let argument = match &call.argument {
                Some(argument) => self.eval_marked(argument)?,
                None => Value::Nil,
            };
            let before = marked::plain(&value);
            let after = self.filter(&call.filter, &before, &marked::plain(&argument), call.span)?;
            value = match (call.filter.name(), &before, &after) {
                ("truncatechars_html" | "truncatewords_html", _, Value::Str(_)) => marked::safe(after),
                // These filters return their value with its marks.
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

/// The arguments of a call. One or two arguments, the usual number, need no allocation.
pub(crate) struct Arguments {
    few: [Value; 2],
    /// The used part of `few`.
    count: usize,
    /// All arguments, if there are more.
    many: Vec<Value>,
}

impl Arguments {
    fn push(&mut self, value: Value) {
        match self.few.get_mut(self.count) {
            Some(place) => {
                *place = value;
                self.count += 1;
            }
            None => {
                if self.many.is_empty() {
                    self.many.extend(self.few.iter_mut().map(|value| mem::replace(value, Value::Nil)));
                }
                self.many.push(value);
            }
        }
    }

    /// All arguments in the order of the call.
    pub fn as_slice(&self) -> &[Value] {
        if self.many.is_empty() { &self.few[..self.count] } else { &self.many }
    }
}

/// The hint for a missing key: the filter `default` never runs, because the function has failed.
pub(crate) fn default_hint(stop: Stop, filters: &[FilterCall]) -> Stop {
    let has_default = || filters.iter().any(|call| matches!(call.filter.name(), "default" | "default_if_none"));
    match stop {
        Stop::At(span, message) if message.starts_with("getv: key does not exist") && has_default() => {
            Stop::At(span, format!("{message}; a default is the second argument: getv(\"/key\", \"default\")"))
        }
        stop => stop,
    }
}

/// The failure of a call. The cause is mostly an argument without a value, whose place is then shown.
fn at_argument(args: &[Arg], values: &[Value], call: Span, message: String) -> Stop {
    let empty = values.iter().position(|value| matches!(value, Value::Nil));
    let span = empty.and_then(|at| args.get(at)).map_or(call, |arg| arg.span);
    Stop::At(span, message)
}
