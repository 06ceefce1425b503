//! The functions a template can call, in one table.

use super::Env;
use super::value::Value;

/// One function: `getv("/key", "default")`.
pub struct Function {
    pub name: &'static str,
    pub call: fn(&Env, &[Value]) -> Result<Value, String>,
}

/// The function of a name. The error of a call does not repeat the name: the caller puts it in front.
pub fn lookup(_name: &str) -> Option<&'static Function> {
    todo!()
}

/// All names, for suggestions.
pub fn names() -> impl Iterator<Item = &'static str> {
    std::iter::empty()
}
