//! The user's filters: their interface and their table. Does not know the language of the filters; `host` runs
//! them.

use std::collections::BTreeMap;
use std::fmt;
use std::rc::Rc;

use crate::template::builtin::env::Env;
use crate::template::builtin::filters::{self, Filter};
use crate::template::reads::Question;
use crate::template::value::Value;

/// A filter of the user.
pub trait Script {
    /// `value | name:argument`. The argument is nil if the template has none. The call charges its cost to the meter of
    /// `env`. The error does not repeat the name: the caller adds it.
    fn call(&self, env: &Env, value: &Value, argument: &Value) -> Result<Value, String>;
}

/// The filters of the user by their names.
#[derive(Default)]
pub struct Scripts {
    table: BTreeMap<Rc<str>, Rc<dyn Script>>,
}

impl Scripts {
    /// Whether the table is empty.
    pub fn is_empty(&self) -> bool {
        self.table.is_empty()
    }

    /// Adds a filter, or replaces the one of that name.
    pub fn insert(&mut self, name: &str, script: impl Script + 'static) {
        self.table.insert(name.into(), Rc::new(script));
    }

    /// The filter of a name: a filter of the user has priority over one of the language.
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

/// The filter of a name.
#[derive(Clone)]
pub(crate) enum AnyFilter {
    BuiltIn(&'static Filter),
    Script(Rc<str>, Rc<dyn Script>),
}

impl AnyFilter {
    /// The name behind the `|`.
    pub fn name(&self) -> &str {
        match self {
            AnyFilter::BuiltIn(filter) => filter.name,
            AnyFilter::Script(name, _) => name,
        }
    }

    /// Calls the filter; see [`Script::call`].
    pub fn call(&self, env: &Env, value: &Value, argument: &Value) -> Result<Value, String> {
        match self {
            AnyFilter::BuiltIn(filter) => filter.call(env, value, argument),
            AnyFilter::Script(_, script) => {
                // A script sees the clock and random numbers, and keeps what it has set from call to call.
                env.store.ask_machine(Question::Filters);
                script.call(env, value, argument)
            }
        }
    }
}
