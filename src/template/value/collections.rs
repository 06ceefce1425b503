//! The collections that a template fills itself: createMap and createSet. All uses share them, so a change is visible
//! everywhere. They may contain each other, even in a cycle.

use std::cell::{Cell, RefCell};
use std::rc::{Rc, Weak};

use crate::store::Bytes;
use crate::template::value::meter::{Hold, Meter, NODE, raised_by, small_size};
use crate::template::value::printf;
use crate::template::value::signature::{Signature, any, exactly, string};
use crate::template::value::{Data, ListKind, Map, Object, Value};

/// All collections of a render. When it is dropped, the maps drop their contents, because maps in a cycle would keep
/// each other alive. Cells, because the functions of a template get the collections as a shared reference.
#[derive(Default)]
pub struct Collections {
    maps: RefCell<Vec<Weak<TemplateMap>>>,
    /// The memory of all collections. Only they can hold more than the variables of a template.
    held: Rc<Cell<usize>>,
}

impl Collections {
    /// An empty map. Its entries count as memory of the render.
    pub fn create_map(&self, meter: &Meter) -> Value {
        let map = Rc::new(TemplateMap { entries: self.entries(meter) });
        let mut maps = self.maps.borrow_mut();
        // Dropped collections are removed only when the list is full, so that the cost is spread over the new ones.
        if maps.len() == maps.capacity() {
            maps.retain(|map| map.strong_count() > 0);
        }
        maps.push(Rc::downgrade(&map));
        Value::Object(map)
    }

    /// An empty set. Its members count as memory of the render.
    pub fn create_set(&self, meter: &Meter) -> Value {
        Value::object(TemplateSet { members: self.entries(meter) })
    }

    fn entries(&self, meter: &Meter) -> Entries {
        Entries { map: RefCell::default(), all: self.held.clone(), held: RefCell::new(meter.hold()) }
    }
}

impl Drop for Collections {
    fn drop(&mut self) {
        for map in self.maps.get_mut().drain(..).filter_map(|map| map.upgrade()) {
            map.entries.clear();
        }
    }
}

/// The result of createMap: text keys and values of any kind.
struct TemplateMap {
    entries: Entries,
}

/// The result of createSet: texts, each once. Other values are converted by printf's `%v`.
struct TemplateSet {
    members: Entries,
}

impl Object for TemplateMap {
    fn type_name(&self) -> &'static str {
        "template.templateMap"
    }

    fn field(&self, name: &str) -> Option<Value> {
        self.entries.get(name.as_bytes())
    }

    fn call(&self, method: &str, args: &[Value]) -> Option<Result<Value, String>> {
        const SET: Signature = exactly(&[string("key"), any("value")]);
        const KEY: Signature = exactly(&[string("key")]);
        Some(match method {
            "Set" => SET.check(args).and_then(|args| self.entries.insert(args.text(0), args.value(1).clone())),
            "Get" => KEY.check(args).map(|args| self.entries.get(args.text(0)).unwrap_or(Value::Nil)),
            "Remove" => KEY.check(args).map(|args| self.entries.remove(args.text(0))),
            _ => return None,
        })
    }

    fn plain(&self) -> Option<Rc<Map>> {
        Some(self.entries.snapshot())
    }

    fn release(&self) -> Vec<Value> {
        values(self.entries.map.take()).collect()
    }
}

impl Object for TemplateSet {
    fn type_name(&self) -> &'static str {
        "template.interfaceSet"
    }

    fn field(&self, name: &str) -> Option<Value> {
        self.members.get(name.as_bytes())
    }

    fn call(&self, method: &str, args: &[Value]) -> Option<Result<Value, String>> {
        const VALUE: Signature = exactly(&[any("value")]);
        const TEXT: Signature = exactly(&[string("value")]);
        const NONE: Signature = exactly(&[]);
        let member = |value: &Value| printf::plain(&self.members.meter(), value);
        Some(match method {
            "Append" => {
                VALUE.check(args).and_then(|args| self.members.insert(&member(args.value(0))?, Value::object(Unit)))
            }
            "Remove" => TEXT.check(args).map(|args| self.members.remove(args.text(0))),
            "Contains" => {
                VALUE.check(args).and_then(|args| Ok(Value::Bool(self.members.get(&member(args.value(0))?).is_some())))
            }
            "SortedSet" => NONE.check(args).map(|_| self.sorted()),
            _ => return None,
        })
    }

    fn plain(&self) -> Option<Rc<Map>> {
        Some(self.members.snapshot())
    }

    fn data(&self) -> Data {
        Data::Value(self.sorted())
    }
}

impl TemplateSet {
    fn sorted(&self) -> Value {
        let members = self.members.snapshot();
        let kind = if members.is_empty() { ListKind::NilStrings } else { ListKind::Strings };
        Value::list(kind, members.keys().cloned().map(Value::Str).collect())
    }
}

/// The value of each member of a set: Go's empty struct. It is true, so `{% if set.member %}` works.
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

/// The contents of one collection, and its share of the memory of all. Cells, because all uses of a collection share
/// it, and each of them may change it.
struct Entries {
    /// The entries. A change copies them if a reader still has them.
    map: RefCell<Rc<Map>>,
    /// The memory of the entries.
    held: RefCell<Hold>,
    /// The memory of all collections.
    all: Rc<Cell<usize>>,
}

impl Entries {
    fn get(&self, key: &[u8]) -> Option<Value> {
        self.map.borrow().get(key).cloned()
    }

    fn snapshot(&self) -> Rc<Map> {
        self.map.borrow().clone()
    }

    /// Returns the empty text, as the changing methods of Go remco do.
    fn insert(&self, key: &Bytes, value: Value) -> Result<Value, String> {
        let freed = self.map.borrow().get(key).map_or(0, |old| cost(key, old));
        let is_first = self.held.borrow().bytes() == 0;
        let added = cost(key, &value) + if is_first { FIRST } else { 0 };
        let limit = self.meter().limits().output;
        if self.all.get() - freed + added > limit {
            self.meter().end();
            let raised = raised_by("template_output");
            return Err(format!("cannot hold more than {limit} bytes in maps and sets; {raised}"));
        }
        self.account(freed, added)?;
        let old = Rc::make_mut(&mut self.map.borrow_mut()).insert(key.clone(), value);
        // The old value is dropped after the borrow has ended, because it may be a large map.
        drop(old);
        Ok(Value::str(""))
    }

    fn remove(&self, key: &[u8]) -> Value {
        let old = match self.get(key) {
            Some(_) => Rc::make_mut(&mut self.map.borrow_mut()).remove(key),
            None => None,
        };
        self.release(old.as_ref().map_or(0, |old| cost(key, old)));
        Value::str("")
    }

    fn meter(&self) -> Meter {
        self.held.borrow().meter().clone()
    }

    fn account(&self, freed: usize, added: usize) -> Result<(), String> {
        self.held.borrow_mut().grow(added)?;
        self.all.set(self.all.get() + added);
        self.release(freed);
        Ok(())
    }

    fn release(&self, freed: usize) {
        self.held.borrow_mut().shrink(freed);
        self.all.set(self.all.get() - freed);
    }

    /// Drops all contents without recursion, because maps may be nested deeper than the stack.
    fn clear(&self) {
        let bytes = self.held.borrow().bytes();
        self.release(bytes);
        let mut pending: Vec<Value> = values(self.map.take()).collect();
        while let Some(value) = pending.pop() {
            // Another owner drops it later.
            if let Value::Object(object) = value
                && Rc::strong_count(&object) == 1
            {
                pending.extend(object.release());
            }
        }
    }
}

impl Drop for Entries {
    fn drop(&mut self) {
        self.clear();
    }
}

/// The values of a map without another owner.
fn values(map: Rc<Map>) -> impl Iterator<Item = Value> {
    Rc::into_inner(map).into_iter().flat_map(Map::into_values)
}

/// The memory of an empty collection, with the first node of its map, which a map keeps after its first entry.
const FIRST: usize = NODE + 256;

/// The approximate memory of an entry. A text counts in full, although the store may share it.
fn cost(key: &[u8], value: &Value) -> usize {
    const ENTRY: usize = 128;
    let value = if let Value::Str(text) = value { text.len() } else { small_size(value) };
    ENTRY + key.len() + value
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::template::fixture::{Variables, env, eval, limited};

    /// Checks the outputs of expressions, one after the other, on an empty map `m` and an empty set `s`.
    fn check(steps: &[(&str, &str)]) {
        let env = env();
        let names = Variables::from([
            ("m", env.collections.create_map(&env.meter)),
            ("s", env.collections.create_set(&env.meter)),
        ]);
        for (expression, expected) in steps {
            let value = eval(&env, &names, expression).unwrap_or_else(|e| panic!("{expression}: {e}"));
            assert_eq!(String::from_utf8_lossy(&value.text()), *expected, "{expression}");
        }
    }

    fn fails(expression: &str, expected: &str) {
        let env = env();
        let names = Variables::from([
            ("m", env.collections.create_map(&env.meter)),
            ("s", env.collections.create_set(&env.meter)),
        ]);
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
        let names = Variables::from([
            ("m", env.collections.create_map(&env.meter)),
            ("n", env.collections.create_map(&env.meter)),
        ]);
        let eval = |expression| eval(&env, &names, expression).unwrap().text();
        eval("m.Set('inner', n)");
        eval("n.Set('late', 'visible')");
        assert_eq!(*eval("m.inner.late"), *b"visible");
        assert_eq!(*eval("m|toJSON"), *br#"{"inner":{"late":"visible"}}"#);
    }

    #[test]
    fn a_loop_goes_through_the_map_as_it_was() {
        let env = env();
        let names = Variables::from([("m", env.collections.create_map(&env.meter))]);
        eval(&env, &names, "m.Set('a', 1)").unwrap();
        let before = names["m"].entries().unwrap();
        eval(&env, &names, "m.Set('b', 2)").unwrap();
        assert_eq!(before.len(), 1);
        assert_eq!(names["m"].len(), 2);
    }

    #[test]
    fn a_map_that_holds_itself_is_an_error_to_print_and_no_leak() {
        let env = env();
        let map = env.collections.create_map(&env.meter);
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
        let mut outer = env.collections.create_map(&env.meter);
        for _ in 0..50_000 {
            let next = env.collections.create_map(&env.meter);
            next.call("Set", &[Value::str("x"), outer]).unwrap().unwrap();
            outer = next;
        }
        drop(outer);
        // The other way round, and all at once.
        let first = env.collections.create_map(&env.meter);
        let mut last = first.clone();
        for _ in 0..50_000 {
            let next = env.collections.create_map(&env.meter);
            last.call("Set", &[Value::str("x"), next.clone()]).unwrap().unwrap();
            last = next;
        }
        drop(env);
    }

    #[test]
    fn all_together_end_at_the_limit() {
        let limit = 1100 + 3 * FIRST;
        let env = limited(limit);
        let map = || env.collections.create_map(&env.meter);
        let names = Variables::from([("m", map()), ("n", map()), ("s", env.collections.create_set(&env.meter))]);
        let run = |expression: &str| eval(&env, &names, expression).map(|_| ());
        let error = Err(format!(
            "cannot hold more than {limit} bytes in maps and sets; `template_output` in [limits] raises that"
        ));
        // The memory of each collection that has had an entry.
        for expression in
            ["m.Set('a', 1)", "m.Remove('a')", "n.Set('b', 1)", "n.Remove('b')", "s.Append(1)", "s.Remove('1')"]
        {
            run(expression).unwrap();
        }
        assert_eq!(env.collections.held.get(), 3 * FIRST);
        run("m.Set('a', 'x'|ljust:400)").unwrap();
        run("m.Set('a', 'x'|ljust:800)").unwrap();
        assert_eq!(run("n.Set('b', 'x'|ljust:100)"), error);
        assert_eq!(run("s.Append('x'|ljust:100)"), error);
        run("n.Set('b', 1)").unwrap();
        run("m.Set('a', 2)").unwrap();
        run("s.Append('x'|ljust:700)").unwrap();
        assert_eq!(run("n.Set('b', 'x'|ljust:200)"), error);
        run("s.Remove('x'|ljust:700)").unwrap();
        run("n.Set('b', 'x'|ljust:200)").unwrap();
        assert_eq!(env.collections.held.get(), 3 * FIRST + (128 + 1) + (128 + 1 + 200));
        drop(names);
        assert_eq!(env.collections.held.get(), 0);
    }

    #[test]
    fn maps_that_are_gone_are_forgotten() {
        let env = env();
        for _ in 0..10_000 {
            env.collections.create_map(&env.meter);
        }
        assert!(env.collections.maps.borrow().len() < 100);
    }
}
