//! What a function or a method takes, and the check of a call against it. Kinds are strict, as in the original:
//! no number is taken for a text, and nothing (an unknown variable) is taken for nothing.

use crate::store::Bytes;
use crate::template::value::Value;

/// The arguments of a function or method.
pub struct Signature {
    /// What has to be given, in this order.
    pub required: &'static [Parameter],
    /// What may follow, any number of times.
    pub rest: Option<Parameter>,
}

/// One argument: the name that errors and the documentation give it, and what it has to be.
#[derive(Clone, Copy)]
pub struct Parameter {
    /// What errors and the documentation call it.
    pub name: &'static str,
    /// What it has to be.
    pub kind: Kind,
}

/// What an argument has to be.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A text.
    Str,
    /// An integer of any of Go's types.
    Int,
    /// Anything but nothing.
    Any,
}

/// Arguments that were found to fit a signature.
pub struct Args<'a>(&'a [Value]);

/// A parameter that is a text.
pub const fn string(name: &'static str) -> Parameter {
    Parameter { name, kind: Kind::Str }
}

/// A parameter that is an integer.
pub const fn integer(name: &'static str) -> Parameter {
    Parameter { name, kind: Kind::Int }
}

/// A parameter that is anything but nothing.
pub const fn any(name: &'static str) -> Parameter {
    Parameter { name, kind: Kind::Any }
}

/// These arguments, no more and no less.
pub const fn exactly(required: &'static [Parameter]) -> Signature {
    Signature { required, rest: None }
}

/// These arguments and any number of another one.
pub const fn then_any(required: &'static [Parameter], rest: Parameter) -> Signature {
    Signature { required, rest: Some(rest) }
}

impl Signature {
    /// Whether a call may have that many arguments: all that can be known before a template runs.
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

    /// Checks the arguments of a call: how many, and of which kinds.
    ///
    /// # Errors
    /// What is wrong, for behind the name of the function: "takes 1 argument (key), 2 given".
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
    /// A text that the signature asks for at this place.
    pub fn text(&self, index: usize) -> &'a Bytes {
        self.optional_text(index).expect("the signature has a string here")
    }

    /// A text that may be given at this place.
    pub fn optional_text(&self, index: usize) -> Option<&'a Bytes> {
        match self.0.get(index) {
            Some(Value::Str(text)) => Some(text),
            _ => None,
        }
    }

    /// An integer that the signature asks for at this place.
    pub fn int(&self, index: usize) -> i64 {
        match self.0.get(index) {
            Some(Value::Int(n, _)) => *n,
            _ => unreachable!("the signature has an integer here"),
        }
    }

    /// A value of any kind that the signature asks for at this place.
    pub fn value(&self, index: usize) -> &'a Value {
        &self.0[index]
    }

    /// The arguments from this place on.
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
