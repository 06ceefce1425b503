//! The open loops of a render, the fields of `forloop`, and the memory of nodes between rounds. Contains only data:
//! `render` opens and closes the loops.

use std::cell::Cell;
use std::rc::Rc;

use crate::store::Bytes;
use crate::template::value::{Data, Object, Rows, Value};

/// A loop that is open.
pub(crate) struct OpenLoop {
    /// The rows; `None`: the value is not iterable, so there are no rounds.
    pub rows: Option<Rows>,
    /// The number of rounds that have begun.
    pub round: usize,
    pub info: Rc<LoopInfo>,
}

/// The memory of a node.
pub(crate) enum Memory {
    /// The number of runs of a cycle.
    Turns(usize),
    Values(Vec<Value>),
    Text(Bytes),
}

/// The value `forloop`. Cells, because variables share it with the open loop, which advances it.
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
    /// The state before the first round. `parent` is the `forloop` of the enclosing loop.
    pub fn within(parent: Option<Value>) -> LoopInfo {
        LoopInfo { parent, ..LoopInfo::default() }
    }

    /// First and Last are set during the loop and not reset, which is visible for a reversed text: its rounds are
    /// numbered downwards.
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

/// The fields of `forloop`, as in Go remco.
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
