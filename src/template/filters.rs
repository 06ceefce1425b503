//! The filters (`value | name:argument`), in one table. Every filter is a function too: `base(x)` is `x | base`.

use super::Env;
use super::value::Value;

/// One filter. The argument is nil where the template gives none.
pub struct Filter {
    pub name: &'static str,
    pub call: fn(&Env, &Value, &Value) -> Result<Value, String>,
}

/// The filter of a name. The error of a call does not repeat the name: the caller puts it in front.
pub fn lookup(_name: &str) -> Option<&'static Filter> {
    todo!()
}

/// All names, for suggestions.
pub fn names() -> impl Iterator<Item = &'static str> {
    std::iter::empty()
}
