//! The values of the template language and their operations: truth, printing, comparing, counting, iterating, fields.
//! The rules are pongo2's over Go's types, as recorded. Where pongo2 crashes, this program returns an error.
//! Names, scopes and the evaluation of expressions are not here.

pub(crate) mod bounded;
pub mod collections;
pub(crate) mod json;
pub mod meter;
pub(crate) mod printf;
mod rows;
pub(crate) mod runes;
pub(crate) mod search;
pub mod signature;
pub(crate) mod sorting;
pub(crate) mod yaml;

use std::any::Any;
use std::collections::BTreeMap;
use std::fmt;
use std::ptr;
use std::rc::Rc;

pub use self::rows::Rows;
use crate::number::{self, FloatFormat};
use crate::store::Bytes;
use crate::template::value::meter::{Meter, STEP};

/// A value while a template runs. Cloning is cheap, because large values are shared.
#[derive(Clone)]
pub enum Value {
    /// Go's nil: no value.
    Nil,
    /// A bool, which prints as True or False.
    Bool(bool),
    /// An integer with its Go type, which printf's `%T` and `%#v` show. [`Value::integer`] makes a plain one.
    Int(i64, IntType),
    /// Go's float64.
    Float(f64),
    /// A text of any bytes, as in Go.
    Str(Bytes),
    /// Go's slices.
    List(Rc<List>),
    /// Go's maps.
    Map(Rc<Map>),
    /// A key with its value, the result of `get` and `gets`, with the fields Key and Value. It is not behind a pointer:
    /// lists of all keys consist of these, and an allocation for each would double their size.
    Pair(Bytes, Bytes),
    /// A value with methods or fields: createMap, createSet, SRV records, forloop, macros.
    Object(Rc<dyn Object>),
}

/// A map with text keys. Iterated in key order (in Go remco: at random).
pub type Map = BTreeMap<Bytes, Value>;

/// A list; its kind decides how it prints and sorts.
pub struct List {
    /// Its Go type.
    pub kind: ListKind,
    /// The items, in order.
    pub items: Vec<Value>,
}

/// Go's types of lists that a template meets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ListKind {
    /// `[]string`
    Strings,
    /// A nil `[]string`, the result of `ls`, `lsdir` and `getvs` without a match. It is empty, and differs from an
    /// empty list only in JSON, where it is `null`.
    NilStrings,
    /// `memkv.KVPairs`
    Pairs,
    /// `[]*net.SRV`
    Srv,
    /// `[]interface {}`
    Any,
}

/// A value with fields and methods.
pub trait Object: Any {
    /// The name of the type in Go remco, as it prints: `template.templateMap`.
    fn type_name(&self) -> &'static str;
    /// The name of the type in printf's `%T`, which distinguishes a pointer from its target.
    fn dynamic_type(&self) -> &'static str {
        self.type_name()
    }
    /// A field, if there is one of that name.
    fn field(&self, name: &str) -> Option<Value>;
    /// Calls a method; `None`: there is none of that name.
    fn call(&self, method: &str, args: &[Value]) -> Option<Result<Value, String>>;
    /// The map that `for`, `in` and `length` use instead of the object, if it has one.
    fn plain(&self) -> Option<Rc<Map>> {
        None
    }
    /// The printed text of the object, if that is not the name of its type (Go's Stringer).
    fn text(&self) -> Option<Bytes> {
        None
    }
    /// The form of the object in toJSON, toYAML and printf.
    fn data(&self) -> Data {
        self.plain().map_or_else(|| Data::Record(Vec::new()), |map| Data::Value(Value::Map(map)))
    }
    /// Moves its values out just before the object is dropped, because values may be nested deeper than the stack.
    fn release(&self) -> Vec<Value> {
        Vec::new()
    }
}

/// Go's types of integers that a template meets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IntType {
    /// `int`
    Int,
    /// `int64`, the result of parseInt
    Int64,
    /// `uint8`, the result of get_digit and of `x.0` of a text
    Uint8,
    /// The numbers of an SRV record.
    Uint16,
}

/// The form of an object in toJSON, toYAML and printf.
pub enum Data {
    /// The object is written as this value.
    Value(Value),
    /// The object is written as a Go struct, with its fields in the order of their declaration.
    Record(Vec<(&'static str, Value)>),
}

/// An operator that evaluates both operands (`and` and `or` do not).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Op {
    /// `==`
    Eq,
    /// `!=`
    Ne,
    /// `<`
    Lt,
    /// `<=`
    Le,
    /// `>`
    Gt,
    /// `>=`
    Ge,
    /// `in`: the left one is a key, an item or a part of the right one.
    In,
    /// `+`: always a sum. Texts are read as numbers.
    Add,
    /// `-`
    Sub,
    /// `*`
    Mul,
    /// `/`: two integers give an integer.
    Div,
    /// `%`: the operands are truncated to integers first.
    Rem,
    /// `^`: always a float.
    Pow,
}

impl Value {
    /// A text of any bytes.
    pub fn str(text: impl AsRef<[u8]>) -> Value {
        Value::Str(Rc::from(text.as_ref()))
    }

    /// An integer of Go's type `int`.
    pub fn integer(n: i64) -> Value {
        Value::Int(n, IntType::Int)
    }

    /// A list.
    pub fn list(kind: ListKind, items: Vec<Value>) -> Value {
        Value::List(Rc::new(List { kind, items }))
    }

    /// A map.
    pub fn map(entries: Map) -> Value {
        Value::Map(Rc::new(entries))
    }

    /// A key of the store with its value.
    pub fn pair(key: Bytes, value: Bytes) -> Value {
        Value::Pair(key, value)
    }

    /// A value with methods or fields of its own.
    pub fn object(object: impl Object) -> Value {
        Value::Object(Rc::new(object))
    }

    /// Appends the output of `{{ v }}`.
    pub fn print(&self, out: &mut Vec<u8>) {
        match self {
            Value::Nil => {}
            Value::Bool(true) => out.extend_from_slice(b"True"),
            Value::Bool(false) => out.extend_from_slice(b"False"),
            Value::Int(n, _) => out.extend_from_slice(n.to_string().as_bytes()),
            Value::Float(n) => out.extend_from_slice(number::format_float(*n, FloatFormat::Fixed, Some(6)).as_bytes()),
            Value::Str(text) => out.extend_from_slice(text),
            Value::Object(object) => match object.text() {
                Some(text) => out.extend_from_slice(&text),
                None => out.extend_from_slice(self.placeholder().as_bytes()),
            },
            Value::List(_) | Value::Map(_) | Value::Pair(..) => out.extend_from_slice(self.placeholder().as_bytes()),
        }
    }

    /// The printed form of a value that is not a text.
    fn placeholder(&self) -> String {
        format!("<{} Value>", self.type_name())
    }

    /// The output of `{{ v }}`, as the input of filters.
    pub fn text(&self) -> Bytes {
        if let Value::Str(text) = self {
            return text.clone();
        }
        let mut out = Vec::new();
        self.print(&mut out);
        out.into()
    }

    /// The truth of the value in `if`, by Django's rules: zero, nothing and empty values are false.
    pub fn truthy(&self) -> bool {
        match self {
            Value::Nil => false,
            Value::Bool(b) => *b,
            Value::Int(n, _) => *n != 0,
            Value::Float(n) => *n != 0.0,
            Value::Str(text) => !text.is_empty(),
            Value::List(list) => !list.items.is_empty(),
            Value::Map(map) => !map.is_empty(),
            Value::Pair(..) => true,
            Value::Object(object) => object.plain().is_none_or(|map| !map.is_empty()),
        }
    }

    /// The integer for arithmetic (a text is read as a float and truncated; other values are 0).
    pub fn int(&self) -> i64 {
        match self {
            Value::Int(n, _) => *n,
            Value::Float(n) => number::truncate(*n),
            Value::Str(text) => number::parse_float(text).map_or(0, number::truncate),
            _ => 0,
        }
    }

    /// The float for arithmetic (0 for values that are not numbers).
    pub fn float(&self) -> f64 {
        match self {
            Value::Int(n, _) => *n as f64,
            Value::Float(n) => *n,
            Value::Str(text) => number::parse_float(text).unwrap_or(0.0),
            _ => 0.0,
        }
    }

    /// The number of items, entries or characters; 0 for other values.
    pub fn len(&self) -> usize {
        match self {
            Value::Str(text) => runes::count(text),
            Value::List(list) => list.items.len(),
            _ => self.entries().map_or(0, |map| map.len()),
        }
    }

    /// The length of a text in bytes; 0 for other values.
    pub fn text_len(&self) -> usize {
        if let Value::Str(text) = self { text.len() } else { 0 }
    }

    /// Whether [`Value::len`] is 0.
    pub fn is_empty(&self) -> bool {
        match self {
            Value::Str(text) => text.is_empty(),
            _ => self.len() == 0,
        }
    }

    /// The map of a value, or of an object that acts as one.
    pub fn entries(&self) -> Option<Rc<Map>> {
        match self {
            Value::Map(map) => Some(map.clone()),
            Value::Object(object) => object.plain(),
            _ => None,
        }
    }

    /// The name of the kind in errors: "a string", "a list".
    pub fn kind(&self) -> &'static str {
        match self {
            Value::Nil => "nothing",
            Value::Bool(_) => "a boolean",
            Value::Int(..) => "an integer",
            Value::Float(_) => "a float",
            Value::Str(_) => "a string",
            Value::List(_) => "a list",
            Value::Map(_) => "a map",
            Value::Pair(..) => "a key-value pair",
            Value::Object(object) if object.plain().is_some() => "a map",
            Value::Object(_) => "an object",
        }
    }

    /// The name of the type in Go: printed for compound values, and by printf's `%T` and errors.
    pub fn type_name(&self) -> &'static str {
        match self {
            Value::Nil => "<nil>",
            Value::Bool(_) => "bool",
            Value::Int(_, IntType::Int) => "int",
            Value::Int(_, IntType::Int64) => "int64",
            Value::Int(_, IntType::Uint8) => "uint8",
            Value::Int(_, IntType::Uint16) => "uint16",
            Value::Float(_) => "float64",
            Value::Str(_) => "string",
            Value::List(list) => match list.kind {
                ListKind::Strings | ListKind::NilStrings => "[]string",
                ListKind::Pairs => "memkv.KVPairs",
                ListKind::Srv => "[]*net.SRV",
                ListKind::Any => "[]interface {}",
            },
            Value::Map(_) => "map[string]interface {}",
            Value::Pair(..) => "memkv.KVPair",
            Value::Object(object) => object.type_name(),
        }
    }

    /// The name of the type in printf's `%T` and its error texts: a record is shown as a pointer.
    pub fn dynamic_type(&self) -> &'static str {
        match self {
            Value::Object(object) => object.dynamic_type(),
            other => other.type_name(),
        }
    }
}

/// Operators.
impl Value {
    /// `-x`
    pub fn negate(&self) -> Result<Value, String> {
        match self {
            Value::Int(n, _) => Ok(Value::integer(n.wrapping_neg())),
            Value::Float(n) => Ok(Value::Float(-n)),
            other => Err(format!("cannot negate {}", other.kind())),
        }
    }

    /// `not x` (which gives a number for a number).
    pub fn not(&self) -> Value {
        match self {
            Value::Int(n, _) => Value::integer(i64::from(*n == 0)),
            // This is correct: Go remco returns 1.1 here.
            Value::Float(n) => Value::Float(if *n == 0.0 { 1.1 } else { 0.0 }),
            other => Value::Bool(!other.truthy()),
        }
    }

    /// Applies an operator, and charges the bytes of the operands that it reads.
    pub fn binary(meter: &Meter, op: Op, left: &Value, right: &Value) -> Result<Value, String> {
        if !matches!(op, Op::Eq | Op::Ne | Op::In) {
            // A text is read as a number.
            meter.charge(STEP + left.text_len() + right.text_len())?;
        }
        let float = matches!(left, Value::Float(_)) || matches!(right, Value::Float(_));
        let number = |whole: fn(i64, i64) -> i64, real: fn(f64, f64) -> f64| {
            if float {
                Value::Float(real(left.float(), right.float()))
            } else {
                Value::integer(whole(left.int(), right.int()))
            }
        };
        let compared = |whole: fn(&i64, &i64) -> bool, real: fn(&f64, &f64) -> bool| {
            Value::Bool(if float { real(&left.float(), &right.float()) } else { whole(&left.int(), &right.int()) })
        };
        Ok(match op {
            Op::Eq => Value::Bool(left.equals(meter, right)?),
            Op::Ne => Value::Bool(!left.equals(meter, right)?),
            Op::Lt => compared(i64::lt, f64::lt),
            Op::Le => compared(i64::le, f64::le),
            Op::Gt => compared(i64::gt, f64::gt),
            Op::Ge => compared(i64::ge, f64::ge),
            Op::In => Value::Bool(right.contains(meter, left)?),
            Op::Add => number(i64::wrapping_add, |a, b| a + b),
            Op::Sub => number(i64::wrapping_sub, |a, b| a - b),
            Op::Mul => number(i64::wrapping_mul, |a, b| a * b),
            Op::Div if !float && right.int() == 0 => return Err("cannot divide an integer by zero".to_owned()),
            Op::Div => number(i64::wrapping_div, |a, b| a / b),
            // Always of integers, so `5.9 % 3` is 2.
            Op::Rem if right.int() == 0 => return Err("cannot divide an integer by zero".to_owned()),
            Op::Rem => Value::integer(left.int().wrapping_rem(right.int())),
            Op::Pow => Value::Float(number::power(left.float(), right.float())),
        })
    }

    /// `left == right`: equal in type too, so `1 == 1.0` is false. Lists and maps cannot be compared with their like.
    pub fn equals(&self, meter: &Meter, other: &Value) -> Result<bool, String> {
        let same = |a: &Bytes, b: &Bytes| match a.len() == b.len() {
            // The operands are read only in this case.
            true => meter.charge(a.len()).map(|()| a == b),
            false => Ok(false),
        };
        meter.charge(STEP)?;
        let cannot = |what: &str| Err(format!("cannot compare two {what}"));
        match (self, other) {
            (Value::Nil, Value::Nil) => Ok(true),
            (Value::Bool(a), Value::Bool(b)) => Ok(a == b),
            (Value::Int(a, _), Value::Int(b, _)) => Ok(a == b),
            (Value::Float(a), Value::Float(b)) => Ok(a == b),
            (Value::Str(a), Value::Str(b)) => same(a, b),
            (Value::Pair(a, x), Value::Pair(b, y)) => Ok(same(a, b)? && same(x, y)?),
            (Value::List(_), Value::List(_)) if self.type_name() == other.type_name() => cannot("lists"),
            (Value::Map(_), Value::Map(_)) => cannot("maps"),
            (Value::Object(a), Value::Object(b)) if a.type_name() == b.type_name() => match a.plain() {
                Some(_) => cannot("maps"),
                None => Ok(ptr::addr_eq(Rc::as_ptr(a), Rc::as_ptr(b))),
            },
            _ => Ok(false),
        }
    }

    /// `item in self`: part of a text, element of a list, key of a map, field of a record.
    fn contains(&self, meter: &Meter, item: &Value) -> Result<bool, String> {
        meter.charge(STEP + item.text_len())?;
        if let Some(map) = self.entries() {
            return match item {
                Value::Str(key) => Ok(map.contains_key(key)),
                Value::Int(..) => Err("cannot look for an integer in a map, whose keys are strings".to_owned()),
                _ => Ok(false),
            };
        }
        match self {
            Value::Str(text) => Ok(search::find(meter, text, &item.text())?.is_some()),
            Value::List(list) => {
                for element in &list.items {
                    if element.equals(meter, item)? {
                        return Ok(true);
                    }
                }
                Ok(false)
            }
            Value::Pair(..) => Ok(matches!(&*item.text(), b"Key" | b"Value")),
            Value::Object(object) => {
                Ok(std::str::from_utf8(&item.text()).is_ok_and(|name| object.field(name).is_some()))
            }
            _ => Ok(false),
        }
    }
}

/// Steps into a value.
impl Value {
    /// `x.name`: a method without arguments, a map's key, a pair's Key or Value, an object's field.
    /// Steps from nil are nil, and so are missing keys and fields.
    pub fn field(&self, name: &str) -> Result<Value, String> {
        if let Some(result) = self.call(name, &[]) {
            return result;
        }
        Ok(match self {
            Value::Nil => Value::Nil,
            Value::Map(map) => map.get(name.as_bytes()).cloned().unwrap_or(Value::Nil),
            Value::Pair(key, value) => match name {
                "Key" => Value::Str(key.clone()),
                "Value" => Value::Str(value.clone()),
                _ => Value::Nil,
            },
            Value::Object(object) => object.field(name).unwrap_or(Value::Nil),
            other => return Err(format!("cannot read the field `{name}` of {}", other.kind())),
        })
    }

    /// The field that a missing one probably means: the field of a pair or record whose name differs only in case.
    pub fn meant_field(&self, name: &str) -> Option<&'static str> {
        let near = |field: &&str| *field != name && field.eq_ignore_ascii_case(name);
        match self {
            Value::Pair(..) => ["Key", "Value"].into_iter().find(near),
            Value::Object(object) => match object.data() {
                Data::Record(fields) => fields.into_iter().map(|(field, _)| field).find(near),
                Data::Value(_) => None,
            },
            _ => None,
        }
    }

    /// `x.0`: an element of a list, a byte of a text as its code. Beyond the end is nil.
    pub fn index(&self, index: usize) -> Result<Value, String> {
        Ok(match self {
            Value::Nil => Value::Nil,
            Value::Str(text) => text.get(index).map_or(Value::Nil, |byte| Value::Int(i64::from(*byte), IntType::Uint8)),
            Value::List(list) => list.items.get(index).cloned().unwrap_or(Value::Nil),
            other => return Err(format!("cannot read element {index} of {}", other.kind())),
        })
    }

    /// `x.method(args)`; `None`: the value has no such method.
    pub fn call(&self, method: &str, args: &[Value]) -> Option<Result<Value, String>> {
        match self {
            Value::Object(object) => object.call(method, args),
            Value::List(list) if list.kind == ListKind::Pairs => list.call(method, args),
            _ => None,
        }
    }
}

impl List {
    /// The methods that memkv.KVPairs has for sorting.
    fn call(&self, method: &str, args: &[Value]) -> Option<Result<Value, String>> {
        let key = |index: &Value| match index {
            Value::Int(n, _) => match usize::try_from(*n).ok().and_then(|n| self.items.get(n)) {
                Some(Value::Pair(key, _)) => Ok(key.clone()),
                _ => Err(format!("there is no element {n}")),
            },
            other => Err(format!("takes two integers, not {}", other.kind())),
        };
        match (method, args) {
            ("Len", []) => Some(Ok(Value::integer(self.items.len() as i64))),
            ("Less", [a, b]) => Some(key(a).and_then(|a| Ok(Value::Bool(a < key(b)?)))),
            ("Len", _) => Some(Err(format!("takes no arguments, {} given", args.len()))),
            ("Less", _) => Some(Err(format!("takes two integers, {} arguments given", args.len()))),
            _ => None,
        }
    }
}

impl fmt::Debug for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Value::Nil => f.write_str("nil"),
            Value::Bool(b) => b.fmt(f),
            Value::Int(n, _) => n.fmt(f),
            Value::Float(n) => n.fmt(f),
            Value::Str(text) => write!(f, "\"{}\"", text.escape_ascii()),
            Value::List(list) => f.debug_list().entries(&list.items).finish(),
            Value::Map(map) => {
                f.debug_map().entries(map.iter().map(|(k, v)| (Value::Str(k.clone()), v.clone()))).finish()
            }
            Value::Pair(key, value) => write!(f, "{}={}", key.escape_ascii(), value.escape_ascii()),
            // The contents are omitted, because an object may contain itself.
            Value::Object(object) => write!(f, "<{}>", object.type_name()),
        }
    }
}

#[cfg(test)]
mod tests;
