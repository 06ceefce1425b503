//! The arguments of a function or method, and the check of a call. Kinds are strict, as in Go remco: a number is not
//! accepted as a text, and an unknown variable is not accepted at all. Evaluates nothing.

use crate::store::Bytes;
use crate::template::value::Value;

/// The arguments of a function or method.
pub struct Signature {
    /// The required arguments, in order.
    pub required: &'static [Parameter],
    /// The argument that may follow any number of times.
    pub rest: Option<Parameter>,
}

/// One argument: its name in errors and in the documentation, and its kind.
#[derive(Clone, Copy)]
pub struct Parameter {
    /// The name in errors and in the documentation.
    pub name: &'static str,
    /// The kind of the value.
    pub kind: Kind,
}

/// The kind of an argument.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A text.
    Str,
    /// An integer of any of Go's types.
    Int,
    /// Any value except nil.
    Any,
}

/// Arguments that fit a signature.
pub struct Args<'a>(&'a [Value]);

/// A text parameter.
pub const fn string(name: &'static str) -> Parameter {
    Parameter { name, kind: Kind::Str }
}

/// An integer parameter.
pub const fn integer(name: &'static str) -> Parameter {
    Parameter { name, kind: Kind::Int }
}

/// A parameter of any kind except nil.
pub const fn any(name: &'static str) -> Parameter {
    Parameter { name, kind: Kind::Any }
}

/// A fixed number of arguments.
pub const fn exactly(required: &'static [Parameter]) -> Signature {
    Signature { required, rest: None }
}

/// Fixed arguments, and one that may follow any number of times.
pub const fn then_any(required: &'static [Parameter], rest: Parameter) -> Signature {
    Signature { required, rest: Some(rest) }
}

impl Signature {
    /// Whether a call may have this many arguments. More cannot be checked before a template runs.
    pub fn check_count(&self, given: usize) -> Result<(), String> {
        let wanted = self.required.len();
        let at_least = match self.rest {
            Some(_) if given >= wanted => return Ok(()),
            None if given == wanted => return Ok(()),
            Some(_) => "at least ",
            None => "",
        };
        let names = match wanted {
            0 => String::new(),
            _ => format!(" ({})", self.required.iter().map(|p| p.name).collect::<Vec<_>>().join(", ")),
        };
        let s = if wanted == 1 { "" } else { "s" };
        Err(format!("takes {at_least}{wanted} argument{s}{names}, {given} given"))
    }

    /// Checks the number and the kinds of a call's arguments.
    ///
    /// # Errors
    /// The text follows the name of the function: "takes 1 argument (key), 2 given".
    pub fn check<'a>(&self, args: &'a [Value]) -> Result<Args<'a>, String> {
        self.check_count(args.len())?;
        for (index, arg) in args.iter().enumerate() {
            let Some(parameter) = self.required.get(index).or(self.rest.as_ref()) else { break };
            let wanted = match (parameter.kind, arg) {
                (_, Value::Nil) => {
                    return Err(format!("argument {} ({}) has no value", index + 1, parameter.name));
                }
                (Kind::Str, Value::Str(_)) | (Kind::Int, Value::Int(..)) | (Kind::Any, _) => continue,
                (Kind::Str, _) => "a string",
                (Kind::Int, _) => "an integer",
            };
            let (number, name) = (index + 1, parameter.name);
            return Err(format!("argument {number} ({name}) must be {wanted}, not {}", arg.kind()));
        }
        Ok(Args(args))
    }
}

impl<'a> Args<'a> {
    /// The required text at this position.
    pub fn text(&self, index: usize) -> &'a Bytes {
        self.optional_text(index).expect("the signature has a string here")
    }

    /// The optional text at this position.
    pub fn optional_text(&self, index: usize) -> Option<&'a Bytes> {
        match self.0.get(index) {
            Some(Value::Str(text)) => Some(text),
            _ => None,
        }
    }

    /// The required integer at this position.
    pub fn int(&self, index: usize) -> i64 {
        match self.0.get(index) {
            Some(Value::Int(n, _)) => *n,
            _ => unreachable!("the signature has an integer here"),
        }
    }

    /// The required value of any kind at this position.
    pub fn value(&self, index: usize) -> &'a Value {
        &self.0[index]
    }

    /// The arguments from this position on.
    pub fn from(&self, index: usize) -> &'a [Value] {
        self.0.get(index..).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const REPLACE: Signature = exactly(&[string("text"), integer("count")]);
    const GETV: Signature = then_any(&[string("key")], string("default"));
    const APPEND: Signature = exactly(&[any("value")]);

    fn check(signature: &Signature, args: &[Value], expected: Result<(), &str>) {
        let result = signature.check(args).map(|_| ()).map_err(|e| e.to_string());
        assert_eq!(result.as_ref().map(|_| ()).map_err(|e| e.as_str()), expected);
    }

    #[test]
    fn counts_are_checked() {
        let s = || Value::str("s");
        check(&REPLACE, &[s(), Value::integer(1)], Ok(()));
        check(&REPLACE, &[s()], Err("takes 2 arguments (text, count), 1 given"));
        check(&REPLACE, &[s(), Value::integer(1), s()], Err("takes 2 arguments (text, count), 3 given"));
        check(&GETV, &[], Err("takes at least 1 argument (key), 0 given"));
        check(&GETV, &[s()], Ok(()));
        check(&GETV, &[s(), s(), s()], Ok(()));
        check(&exactly(&[]), &[s()], Err("takes 0 arguments, 1 given"));
    }

    #[test]
    fn kinds_are_strict() {
        let s = || Value::str("1");
        check(&REPLACE, &[s(), s()], Err("argument 2 (count) must be an integer, not a string"));
        check(&REPLACE, &[Value::integer(1), s()], Err("argument 1 (text) must be a string, not an integer"));
        check(&REPLACE, &[s(), Value::Float(1.0)], Err("argument 2 (count) must be an integer, not a float"));
        check(&GETV, &[s(), s(), Value::Bool(true)], Err("argument 3 (default) must be a string, not a boolean"));
        check(&GETV, &[Value::Nil], Err("argument 1 (key) has no value"));
        check(&APPEND, &[Value::Nil], Err("argument 1 (value) has no value"));
    }
}
