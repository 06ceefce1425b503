//! The collections that a template fills itself: createMap and createSet. They are shared where they are used,
//! so a change is seen everywhere, and may hold each other, even in a circle.

use std::any::Any;
use std::cell::RefCell;
use std::mem;
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
        let Some(object) = Rc::get_mut(&mut object) else {
            continue;
        };
        let object: &mut dyn Any = object;
        if let Some(map) = object.downcast_mut::<TemplateMap>() {
            let entries = mem::take(map.entries.get_mut());
            pending.extend(Rc::into_inner(entries).into_iter().flat_map(Map::into_values));
        } else if let Some(wrapped) = object.downcast_mut::<Wrapped>() {
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
            "Get" => KEY
                .check(args)
                .map(|args| self.entries.borrow().get(args.text(0)).cloned().unwrap_or(Value::Nil)),
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
        let kind = if members.is_empty() {
            ListKind::NilStrings
        } else {
            ListKind::Strings
        };
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
            "Contains" => VALUE
                .check(args)
                .and_then(|args| Ok(Value::Bool(self.contains(&printf::plain(args.value(0))?)))),
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
