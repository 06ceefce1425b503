//! The loops that are open in a render, what `forloop` tells of them, and what nodes remember from one round to the next.
//! Only data: `render` opens and closes them.

use std::cell::Cell;
use std::rc::Rc;

use crate::store::Bytes;
use crate::template::value::{Data, Object, Rows, Value};

/// A loop that is open.
pub(crate) struct OpenLoop {
    /// `None`: what it goes through cannot be gone through, so there are no rounds.
    pub rows: Option<Rows>,
    /// How many rounds have begun.
    pub round: usize,
    pub info: Rc<LoopInfo>,
}

/// What a node remembers.
pub(crate) enum Memory {
    /// How often a cycle was reached.
    Turns(usize),
    Values(Vec<Value>),
    Text(Bytes),
}

/// `forloop`
#[derive(Default)]
pub(crate) struct LoopInfo {
    pub count: Cell<usize>,
    /// Counter0
    number: Cell<usize>,
    later: Cell<bool>,
    last: Cell<bool>,
    parent: Option<Value>,
}

impl LoopInfo {
    /// Before the first round. `parent`: the `forloop` of the loop around it.
    pub fn within(parent: Option<Value>) -> LoopInfo {
        LoopInfo { parent, ..LoopInfo::default() }
    }

    /// First and Last are set on the way and not taken back, which shows where a text is gone through in reverse: its
    /// rounds are numbered downwards.
    pub fn begin(&self, number: usize) {
        self.number.set(number);
        if number == 1 {
            self.later.set(true);
        }
        if number + 1 == self.count.get() {
            self.last.set(true);
        }
    }
}

/// The fields of `forloop`, as the original declares them.
const FIELDS: [&str; 7] = ["Counter", "Counter0", "Revcounter", "Revcounter0", "First", "Last", "Parentloop"];

impl Object for LoopInfo {
    fn type_name(&self) -> &'static str {
        "pongo2.tagForLoopInformation"
    }

    fn dynamic_type(&self) -> &'static str {
        "*pongo2.tagForLoopInformation"
    }

    fn data(&self) -> Data {
        let field = |name: &'static str| (name, self.field(name).unwrap_or(Value::Nil));
        Data::Record(FIELDS.into_iter().map(field).collect())
    }

    fn field(&self, name: &str) -> Option<Value> {
        let number = |n: usize| Some(Value::integer(i64::try_from(n).unwrap_or(i64::MAX)));
        let (count, at) = (self.count.get(), self.number.get());
        match name {
            "Counter" => number(if count == 0 { 0 } else { at + 1 }),
            "Counter0" => number(at),
            "Revcounter" => number(count.saturating_sub(at)),
            "Revcounter0" => number(count.saturating_sub(at + 1)),
            "First" => Some(Value::Bool(!self.later.get())),
            "Last" => Some(Value::Bool(self.last.get())),
            "Parentloop" => Some(self.parent.clone().unwrap_or(Value::Nil)),
            _ => None,
        }
    }

    fn call(&self, _method: &str, _args: &[Value]) -> Option<Result<Value, String>> {
        None
    }
}
