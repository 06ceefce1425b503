//! The collections that a template fills itself: createMap and createSet. They are shared where they are used,
//! so a change is seen everywhere, and may hold each other, even in a circle.

use std::any::Any;
use std::cell::RefCell;
use std::rc::{Rc, Weak};

use super::printf;
use super::signature::{Signature, any, exactly, string};
use super::value::{Data, ListKind, Map, Object, Value, Wrapped};
use crate::store::Bytes;

/// What createMap gives: text keys, any values.
#[derive(Default)]
pub struct TemplateMap {
    /// Copied only when changed while a loop still goes through it.
    entries: RefCell<Rc<Map>>,
}

/// What createSet gives: texts, each once. Other values become the text that printf's `%v` gives.
#[derive(Default)]
pub struct TemplateSet {
    members: RefCell<Rc<Map>>,
}

/// All maps that a render made. When it is dropped, they let go of their contents: maps in a circle would
/// keep each other alive for ever.
#[derive(Default)]
pub struct Collections {
    maps: RefCell<Vec<Weak<TemplateMap>>>,
}

impl Collections {
    pub fn create_map(&self) -> Value {
        let map = Rc::new(TemplateMap::default());
        let mut maps = self.maps.borrow_mut();
        // Forget those that are gone, but only when there was time to make as many new ones.
        if maps.len() == maps.capacity() {
            maps.retain(|map| map.strong_count() > 0);
        }
        maps.push(Rc::downgrade(&map));
        Value::Object(map)
    }

    pub fn create_set() -> Value {
        Value::object(TemplateSet::default())
    }
}

impl Drop for Collections {
    fn drop(&mut self) {
        for map in self.maps.get_mut().drain(..).filter_map(|map| map.upgrade()) {
            dismantle(map.entries.take());
        }
    }
}

impl Drop for TemplateMap {
    fn drop(&mut self) {
        dismantle(self.entries.take());
    }
}

/// Drops what a map held without recursion: maps may be nested deeper than the stack.
fn dismantle(entries: Rc<Map>) {
    let mut pending: Vec<Value> = Rc::into_inner(entries).into_iter().flat_map(Map::into_values).collect();
    while let Some(value) = pending.pop() {
        let Value::Object(mut object) = value else { continue };
        // Whoever else holds it drops it later.
        if Rc::strong_count(&object) > 1 {
            continue;
        }
        let inner: &dyn Any = &*object;
        if let Some(map) = inner.downcast_ref::<TemplateMap>() {
            let entries = map.entries.take();
            pending.extend(Rc::into_inner(entries).into_iter().flat_map(Map::into_values));
        } else if let Some(object) = Rc::get_mut(&mut object)
            && let Some(wrapped) = (object as &mut dyn Any).downcast_mut::<Wrapped>()
        {
            pending.push(wrapped.take());
        }
    }
}

impl Object for TemplateMap {
    fn type_name(&self) -> &'static str {
        "template.templateMap"
    }

    fn field(&self, name: &str) -> Option<Value> {
        self.entries.borrow().get(name.as_bytes()).cloned()
    }

    fn call(&self, method: &str, args: &[Value]) -> Option<Result<Value, String>> {
        const SET: Signature = exactly(&[string("key"), any("value")]);
        const KEY: Signature = exactly(&[string("key")]);
        Some(match method {
            "Set" => SET.check(args).map(|args| {
                let old = self.change(|map| map.insert(args.text(0).clone(), args.value(1).clone()));
                drop(old);
                Value::str("")
            }),
            "Get" => KEY.check(args).map(|args| self.entries.borrow().get(args.text(0)).cloned().unwrap_or(Value::Nil)),
            "Remove" => KEY.check(args).map(|args| {
                let old = self.change(|map| map.remove(args.text(0)));
                drop(old);
                Value::str("")
            }),
            _ => return None,
        })
    }

    fn plain(&self) -> Option<Rc<Map>> {
        Some(self.entries.borrow().clone())
    }
}

impl TemplateMap {
    /// The borrow ends before the old value is dropped, which may be a map with a lot to let go of.
    fn change(&self, change: impl FnOnce(&mut Map) -> Option<Value>) -> Option<Value> {
        change(Rc::make_mut(&mut self.entries.borrow_mut()))
    }
}

impl TemplateSet {
    fn sorted(&self) -> Value {
        let members = self.members.borrow();
        let kind = if members.is_empty() { ListKind::NilStrings } else { ListKind::Strings };
        Value::list(kind, members.keys().cloned().map(Value::Str).collect())
    }

    fn contains(&self, member: &[u8]) -> bool {
        self.members.borrow().contains_key(member)
    }
}

impl Object for TemplateSet {
    fn type_name(&self) -> &'static str {
        "template.interfaceSet"
    }

    fn field(&self, name: &str) -> Option<Value> {
        self.members.borrow().get(name.as_bytes()).cloned()
    }

    fn call(&self, method: &str, args: &[Value]) -> Option<Result<Value, String>> {
        const VALUE: Signature = exactly(&[any("value")]);
        const TEXT: Signature = exactly(&[string("value")]);
        Some(match method {
            "Append" => VALUE.check(args).and_then(|args| {
                let member: Bytes = printf::plain(args.value(0))?;
                Rc::make_mut(&mut self.members.borrow_mut()).insert(member, Value::object(Unit));
                Ok(Value::str(""))
            }),
            "Remove" => TEXT.check(args).map(|args| {
                Rc::make_mut(&mut self.members.borrow_mut()).remove(args.text(0));
                Value::str("")
            }),
            "Contains" => {
                VALUE.check(args).and_then(|args| Ok(Value::Bool(self.contains(&printf::plain(args.value(0))?))))
            }
            "SortedSet" => exactly(&[]).check(args).map(|_| self.sorted()),
            _ => return None,
        })
    }

    fn plain(&self) -> Option<Rc<Map>> {
        Some(self.members.borrow().clone())
    }

    fn data(&self) -> Data {
        Data::Value(self.sorted())
    }
}

/// What stands behind each member of a set: Go's empty struct. It is true, so `{% if set.member %}` works.
struct Unit;

impl Object for Unit {
    fn type_name(&self) -> &'static str {
        "struct {}"
    }

    fn field(&self, _name: &str) -> Option<Value> {
        None
    }

    fn call(&self, _method: &str, _args: &[Value]) -> Option<Result<Value, String>> {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::template::fixture::{Variables, env, eval};

    /// Expressions one after the other on an empty map `m` and an empty set `s`, and what each prints.
    fn check(steps: &[(&str, &str)]) {
        let env = env();
        let names = Variables::from([("m", env.collections.create_map()), ("s", Collections::create_set())]);
        for (expression, expected) in steps {
            let value = eval(&env, &names, expression).unwrap_or_else(|e| panic!("{expression}: {e}"));
            assert_eq!(String::from_utf8_lossy(&value.text()), *expected, "{expression}");
        }
    }

    fn fails(expression: &str, expected: &str) {
        let env = env();
        let names = Variables::from([("m", env.collections.create_map()), ("s", Collections::create_set())]);
        assert_eq!(eval(&env, &names, expression).unwrap_err(), expected, "{expression}");
    }

    #[test]
    fn maps() {
        check(&[
            ("m", "<template.templateMap Value>"),
            ("m|toJSON", "{}"),
            ("m|default:'empty'", "empty"),
            ("m.Set('host', 'a')", ""),
            ("m.Set('port', 5432)", ""),
            ("m.Set('ssl', true)", ""),
            ("m.host", "a"),
            ("m.Get('port')", "5432"),
            ("m.none", ""),
            ("m.Get('none')", ""),
            ("m.Set('host', 'b')", ""),
            ("m.Remove('ssl')", ""),
            ("m.Remove('none')", ""),
            ("m|toJSON", r#"{"host":"b","port":5432}"#),
            ("m|length", "2"),
            ("m|mapValue:'host'", "b"),
            ("printf('%v', m)", "map[host:b port:5432]"),
        ]);
    }

    #[test]
    fn sets() {
        check(&[
            ("s", "<template.interfaceSet Value>"),
            ("s|toJSON", "null"),
            ("s|length", "0"),
            ("s.Append('web')", ""),
            ("s.Append('web')", ""),
            ("s.Append(8080)", ""),
            ("s.Append(1.5)", ""),
            ("s.Append(true)", ""),
            ("s|length", "4"),
            ("s.Contains('web')", "True"),
            ("s.Contains(8080)", "True"),
            ("s.Contains('8080')", "True"),
            ("s.Contains('db')", "False"),
            ("s.Remove('8080')", ""),
            ("s.Remove('none')", ""),
            ("s.SortedSet", "<[]string Value>"),
            ("s.SortedSet()|join:' '", "1.5 true web"),
            ("s|toJSON", r#"["1.5","true","web"]"#),
            ("s.web|yesno:'in,out'", "in"),
            ("s.none|yesno:'in,out,out'", "out"),
            ("s.web", "<struct {} Value>"),
            ("s.web|toJSON", "{}"),
            ("printf('%v', s)", "map[1.5:{} true:{} web:{}]"),
        ]);
        check(&[
            ("s.Append('b,a'|split:',')", ""),
            ("s.SortedSet().0", "[b a]"),
            ("s.Contains('[b a]')", "True"),
            ("s.Contains('b')", "False"),
        ]);
    }

    #[test]
    fn arguments_are_strict() {
        fails("m.Set(1, 'one')", "argument 1 (key) must be a string, not an integer");
        fails("m.Set('key', unknown)", "argument 2 (value) has no value");
        fails("m.Get()", "takes 1 argument (key), 0 given");
        fails("m.Get", "takes 1 argument (key), 0 given");
        fails("s.Remove(1)", "argument 1 (value) must be a string, not an integer");
        fails("s.Append()", "takes 1 argument (value), 0 given");
        fails("s.SortedSet(1)", "takes 0 arguments, 1 given");
    }

    #[test]
    fn a_map_is_shared() {
        let env = env();
        let names = Variables::from([("m", env.collections.create_map()), ("n", env.collections.create_map())]);
        let eval = |expression| eval(&env, &names, expression).unwrap().text();
        eval("m.Set('inner', n)");
        eval("n.Set('late', 'visible')");
        assert_eq!(*eval("m.inner.late"), *b"visible");
        assert_eq!(*eval("m|toJSON"), *br#"{"inner":{"late":"visible"}}"#);
    }

    #[test]
    fn a_loop_goes_through_the_map_as_it_was() {
        let env = env();
        let names = Variables::from([("m", env.collections.create_map())]);
        eval(&env, &names, "m.Set('a', 1)").unwrap();
        let before = names["m"].entries().unwrap();
        eval(&env, &names, "m.Set('b', 2)").unwrap();
        assert_eq!(before.len(), 1);
        assert_eq!(names["m"].len(), 2);
    }

    #[test]
    fn a_map_that_holds_itself_is_an_error_to_print_and_no_leak() {
        let env = env();
        let map = env.collections.create_map();
        map.call("Set", &[Value::str("self"), map.clone()]).unwrap().unwrap();
        let names = Variables::from([("m", map)]);
        for expression in ["m|toJSON", "m|toPrettyJSON", "printf('%v', m)", "m|stringformat:'%d'"] {
            assert!(eval(&env, &names, expression).unwrap_err().contains("nested deeper"), "{expression}");
        }
        let Value::Object(object) = &names["m"] else { unreachable!("createMap makes an object") };
        let weak = Rc::downgrade(object);
        drop(names);
        assert_eq!(weak.strong_count(), 1);
        drop(env);
        assert_eq!(weak.strong_count(), 0);
    }

    #[test]
    fn maps_nested_deeper_than_the_stack_are_let_go() {
        let env = env();
        let mut outer = env.collections.create_map();
        for round in 0..200_000 {
            let next = env.collections.create_map();
            let inner = if round % 2 == 0 { outer } else { Value::wrapped(outer) };
            next.call("Set", &[Value::str("x"), inner]).unwrap().unwrap();
            outer = next;
        }
        drop(outer);
        // The other way round, and all at once.
        let first = env.collections.create_map();
        let mut last = first.clone();
        for _ in 0..200_000 {
            let next = env.collections.create_map();
            last.call("Set", &[Value::str("x"), next.clone()]).unwrap().unwrap();
            last = next;
        }
        drop(env);
    }

    #[test]
    fn maps_that_are_gone_are_forgotten() {
        let env = env();
        for _ in 0..10_000 {
            env.collections.create_map();
        }
        assert!(env.collections.maps.borrow().len() < 100);
    }
}
