//! The variables of a render, in scopes.
//! Does not decide which tag opens a scope.

use std::collections::BTreeMap;
use std::mem;
use std::rc::Rc;

use crate::template::syntax::ast::Escape;
use crate::template::syntax::names::Name;
use crate::template::value::meter::SMALL;
use crate::template::value::{Map, Object, Value};

/// The open scopes, innermost last.
#[derive(Debug)]
pub(crate) struct Scopes {
    open: Vec<Scope>,
    /// The memory of the variables, without values that are counted by themselves.
    bytes: usize,
    /// `pongo2`
    about: Value,
}

#[derive(Debug)]
struct Scope {
    variables: BTreeMap<Name, Value>,
    /// A bit for each name that was set, because most searched names are not variables.
    names: u64,
    sees: Visibility,
    escape: Escape,
    /// The scope's part of [`Scopes::bytes`].
    bytes: usize,
}

/// The names that are visible in a scope besides its own variables.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Visibility {
    /// Only the functions: the outermost scope.
    Functions,
    /// All names that are visible in the scope of this number.
    Scope(usize),
    /// As `Scope`, but a loop in it has no parent loop: an included file.
    AsFile(usize),
    /// No names, not even the functions: a file included with `only`.
    Nothing,
}

/// The meaning of a name.
#[derive(Debug)]
pub(crate) enum NameQuery<'s> {
    Value(&'s Value),
    /// Not a variable: a function, if one has this name.
    Nothing,
    /// Not a variable, and the functions are not visible.
    Hidden,
}

impl Scopes {
    /// Only the outermost scope, without variables and without escaping.
    pub fn new() -> Scopes {
        let open = vec![Scope::new(Visibility::Functions, Escape::Off)];
        Scopes { open, bytes: 0, about: Value::object(About) }
    }

    /// The number of the innermost scope.
    pub fn innermost(&self) -> usize {
        self.open.len() - 1
    }

    /// Opens a scope. With [`Visibility::Scope`] it inherits the escaping of that scope; otherwise its output is not
    /// escaped.
    pub fn open(&mut self, sees: Visibility) {
        // A scope sees only older scopes. A macro that was carried out of its scope sees the scopes that are open now.
        let older = |scope: usize| scope.min(self.innermost());
        let (sees, escape) = match sees {
            Visibility::Scope(outer) => (Visibility::Scope(older(outer)), self.open[older(outer)].escape),
            Visibility::AsFile(outer) => (Visibility::AsFile(older(outer)), Escape::Off),
            Visibility::Functions | Visibility::Nothing => (sees, Escape::Off),
        };
        self.open.push(Scope::new(sees, escape));
    }

    /// Whether the output of the innermost scope is escaped.
    pub fn escape(&self) -> Escape {
        self.open.last().map_or(Escape::Off, |scope| scope.escape)
    }

    /// Sets the escaping and returns the earlier value. Inner scopes inherit it, included files do not.
    pub fn set_escape(&mut self, escape: Escape) -> Escape {
        self.open.last_mut().map_or(Escape::Off, |scope| mem::replace(&mut scope.escape, escape))
    }

    /// Opens a scope within the innermost one.
    pub fn open_child(&mut self) {
        self.open(Visibility::Scope(self.innermost()));
    }

    /// Closes the innermost scope, and drops its variables.
    pub fn close(&mut self) {
        if let Some(scope) = self.open.pop() {
            self.bytes -= scope.bytes;
        }
    }

    /// The memory of the variables, in bytes.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Closes all scopes within the one of that number.
    pub fn close_down_to(&mut self, innermost: usize) {
        while self.innermost() > innermost {
            self.close();
        }
    }

    /// Sets a variable of the innermost scope.
    pub fn set(&mut self, name: Name, value: Value) {
        if let Some(scope) = self.open.last_mut() {
            let added = size_of_variable(&value);
            scope.names |= name.bit();
            let freed = scope.variables.insert(name, value).map_or(0, |old| size_of_variable(&old));
            scope.bytes = scope.bytes + added - freed;
            self.bytes = self.bytes + added - freed;
        }
    }

    /// The meaning of a name in the innermost scope. The variables of inner scopes hide those of outer ones.
    pub fn look(&self, name: Name) -> NameQuery<'_> {
        let mut at = self.innermost();
        loop {
            let scope = &self.open[at];
            if let Some(value) = scope.get(name) {
                return NameQuery::Value(value);
            }
            at = match scope.sees {
                Visibility::Scope(outer) => outer,
                _ if name == Name::PONGO2 => return NameQuery::Value(&self.about),
                Visibility::AsFile(outer) => outer,
                Visibility::Functions => return NameQuery::Nothing,
                Visibility::Nothing => return NameQuery::Hidden,
            }
        }
    }

    /// The state of the loop around the innermost scope, within one file.
    pub fn enclosing_loop(&self) -> Option<Value> {
        let mut at = self.innermost();
        while let scope = &self.open[at]
            && let Visibility::Scope(outer) = scope.sees
        {
            if let Some(value) = scope.get(Name::FORLOOP) {
                return Some(value.clone());
            }
            at = outer;
        }
        None
    }
}

impl Scope {
    fn new(sees: Visibility, escape: Escape) -> Scope {
        Scope { variables: BTreeMap::new(), names: 0, sees, escape, bytes: 0 }
    }

    fn get(&self, name: Name) -> Option<&Value> {
        if self.names & name.bit() == 0 { None } else { self.variables.get(&name) }
    }
}

/// The memory of a variable. A large value is counted by itself; a small list or map counts with its largest size.
fn size_of_variable(value: &Value) -> usize {
    const PLACE: usize = 2 * size_of::<(Name, Value)>();
    PLACE
        + match value {
            Value::Str(text) if text.len() < SMALL => text.len(),
            Value::List(_) | Value::Map(_) | Value::Object(_) => SMALL / 2,
            _ => 0,
        }
}

/// `pongo2`, a map with the version that templates of Go remco see.
#[derive(Debug)]
struct About;

impl Object for About {
    fn type_name(&self) -> &'static str {
        "pongo2.Context"
    }

    fn field(&self, name: &str) -> Option<Value> {
        (name == "version").then(|| Value::str("dev"))
    }

    fn call(&self, _method: &str, _args: &[Value]) -> Option<Result<Value, String>> {
        None
    }

    fn plain(&self) -> Option<Rc<Map>> {
        Some(Rc::new(Map::from([(Rc::from(*b"version"), Value::str("dev"))])))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::template::syntax::names::Names;

    #[test]
    fn finds_the_innermost_variable_in_sight() {
        let mut names = Names::default();
        let (a, b) = (names.name("a"), names.name("b"));
        assert_eq!(names.name("a"), a);
        assert_eq!(&**names.text(b), "b");

        let mut scopes = Scopes::new();
        let check = |scopes: &Scopes, name, expected: &str| assert_eq!(format!("{:?}", scopes.look(name)), expected);
        scopes.set(a, Value::integer(1));
        scopes.open_child();
        check(&scopes, a, "Value(1)");
        scopes.set(a, Value::integer(2));
        scopes.set(b, Value::Nil);
        check(&scopes, a, "Value(2)");
        check(&scopes, b, "Value(nil)");
        scopes.open(Visibility::Scope(0));
        check(&scopes, a, "Value(1)");
        check(&scopes, b, "Nothing");
        scopes.close();
        scopes.open(Visibility::Nothing);
        check(&scopes, a, "Hidden");
        scopes.close();
        scopes.close();
        check(&scopes, a, "Value(1)");
        check(&scopes, b, "Nothing");
    }

    #[test]
    fn a_loop_of_an_included_file_has_no_parent() {
        let mut scopes = Scopes::new();
        assert!(scopes.enclosing_loop().is_none());
        scopes.open_child();
        scopes.set(Name::FORLOOP, Value::integer(7));
        scopes.open_child();
        assert!(scopes.enclosing_loop().is_some());
        scopes.open(Visibility::AsFile(scopes.innermost()));
        assert!(scopes.enclosing_loop().is_none());
        assert!(matches!(scopes.look(Name::FORLOOP), NameQuery::Value(Value::Int(7, _))));
    }
}
