//! Filters that a user adds to the language: what one must be able to do, and their table, which comes through
//! the World. Nothing is known here of the language they are written in; `host` runs them.

use std::collections::BTreeMap;
use std::fmt;
use std::rc::Rc;

use crate::template::builtin::env::Env;
use crate::template::builtin::filters::{self, Filter};
use crate::template::value::Value;

/// A filter of the user.
pub trait Script {
    /// `value | name:argument`; the argument is nil where the template gives none. What the call costs it charges to the
    /// meter of `env`. The error does not repeat the name: the caller puts it in front.
    fn call(&self, env: &Env, value: &Value, argument: &Value) -> Result<Value, String>;
}

/// The filters of the user by their names.
#[derive(Default)]
pub struct Scripts {
    table: BTreeMap<Rc<str>, Rc<dyn Script>>,
}

impl Scripts {
    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.table.is_empty()
    }

    /// Adds a filter, or replaces the one of that name.
    pub fn insert(&mut self, name: &str, script: impl Script + 'static) {
        self.table.insert(name.into(), Rc::new(script));
    }

    /// The filter of a name: one of the user goes before one of the language.
    pub(crate) fn lookup(&self, name: &str) -> Option<AnyFilter> {
        match self.table.get_key_value(name) {
            Some((name, script)) => Some(AnyFilter::Script(name.clone(), script.clone())),
            None => filters::lookup(name).map(AnyFilter::BuiltIn),
        }
    }

    /// The names of all filters, for suggestions.
    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        let built_in = filters::names().map(|name| -> &str { name });
        self.table.keys().map(|name| &**name).chain(built_in)
    }
}

impl fmt::Debug for Scripts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.table.keys()).finish()
    }
}

/// What a template calls by the name of a filter.
#[derive(Clone)]
pub(crate) enum AnyFilter {
    BuiltIn(&'static Filter),
    Script(Rc<str>, Rc<dyn Script>),
}

impl AnyFilter {
    pub fn name(&self) -> &str {
        match self {
            AnyFilter::BuiltIn(filter) => filter.name,
            AnyFilter::Script(name, _) => name,
        }
    }

    /// As [`Script::call`].
    pub fn call(&self, env: &Env, value: &Value, argument: &Value) -> Result<Value, String> {
        match self {
            AnyFilter::BuiltIn(filter) => filter.call(env, value, argument),
            AnyFilter::Script(_, script) => script.call(env, value, argument),
        }
    }
}
