//! The values of the template language and what they mean: truth, printing, comparing, counting, iterating.

use std::any::Any;
use std::collections::BTreeMap;
use std::fmt;
use std::rc::Rc;

use crate::store::Bytes;

/// A value while a template runs. Cloning is cheap: what is large is shared.
#[derive(Clone)]
pub enum Value {
    Nil,
    Bool(bool),
    Int(i64),
    Float(f64),
    /// Go's strings are bytes.
    Str(Bytes),
    List(Rc<List>),
    Map(Rc<Map>),
    /// A key with its value: what `get` and `gets` give, with the fields Key and Value.
    Pair(Rc<(Bytes, Bytes)>),
    /// What has methods or fields of its own: createMap, createSet, SRV records, forloop, macros.
    Object(Rc<dyn Object>),
}

/// A map with text keys. Iterated in key order (the original: at random).
pub type Map = BTreeMap<Bytes, Value>;

/// A list; its kind decides how it prints.
pub struct List {
    pub kind: ListKind,
    pub items: Vec<Value>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ListKind {
    /// `[]string`
    Strings,
    /// `memkv.KVPairs`
    Pairs,
    /// `[]interface {}`
    Any,
}

/// A value with fields and methods.
pub trait Object: Any {
    /// The original's name of the type, as it prints: `template.templateMap`.
    fn type_name(&self) -> &'static str;
    /// A field, if there is one of that name.
    fn field(&self, name: &str) -> Option<Value>;
    /// Calls a method; `None`: there is none of that name.
    fn call(&self, method: &str, args: &[Value]) -> Option<Result<Value, String>>;
    /// The plain list or map that `for`, toJSON and the like see instead.
    fn plain(&self) -> Option<Value> {
        None
    }
}

/// An operator with two operands that both are evaluated first (`and` and `or` are not).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Op {
    Eq,
    Ne,
    Lt,
    Le,
    Gt,
    Ge,
    In,
    Add,
    Sub,
    Mul,
    Div,
    Rem,
    Pow,
}

/// The rows of a `for`: the first variable, and the second one where the loop has two and the value gives one.
pub type Rows = Vec<(Value, Option<Value>)>;

impl Value {
    pub fn str(text: impl AsRef<[u8]>) -> Value {
        Value::Str(Rc::from(text.as_ref()))
    }

    pub fn list(kind: ListKind, items: Vec<Value>) -> Value {
        Value::List(Rc::new(List { kind, items }))
    }

    /// Appends the value as `{{ v }}` prints it.
    pub fn print(&self, _out: &mut Vec<u8>) {
        todo!()
    }

    /// The value as text, as a filter sees it.
    pub fn text(&self) -> Bytes {
        todo!()
    }

    pub fn truthy(&self) -> bool {
        todo!()
    }

    /// The integer the arithmetic sees (text through a float, truncated, else 0).
    pub fn int(&self) -> i64 {
        todo!()
    }

    pub fn float(&self) -> f64 {
        todo!()
    }

    /// What an error calls it: "a string", "a list".
    pub fn kind(&self) -> &'static str {
        todo!()
    }

    /// `-x`
    pub fn negate(&self) -> Result<Value, String> {
        todo!()
    }

    /// `not x` (which gives a number for a number).
    pub fn not(&self) -> Value {
        todo!()
    }

    pub fn binary(_op: Op, _left: &Value, _right: &Value) -> Result<Value, String> {
        todo!()
    }

    /// What `for` goes through; `None`: not iterable (the `empty` branch is taken).
    pub fn rows(&self, _reversed: bool, _sorted: bool) -> Result<Option<Rows>, String> {
        todo!()
    }

    /// `x.name`: a map's key, a pair's Key or Value, an object's field. Steps from nil are nil.
    pub fn field(&self, _name: &str) -> Result<Value, String> {
        todo!()
    }

    /// `x.0`
    pub fn index(&self, _index: usize) -> Result<Value, String> {
        todo!()
    }

    /// `x.method(args)`; `None`: the value has no such method.
    pub fn call(&self, _method: &str, _args: &[Value]) -> Option<Result<Value, String>> {
        todo!()
    }
}

impl fmt::Debug for Value {
    fn fmt(&self, _f: &mut fmt::Formatter<'_>) -> fmt::Result {
        todo!()
    }
}
