//! The rows that a `for` iterates over: the items of a list, the bytes of a text, the entries of a map, in either
//! order. Does not open scopes and does not know `forloop`.

use std::rc::Rc;

use crate::store::Bytes;
use crate::template::value::meter::{Hold, Meter, STEP, small_size};
use crate::template::value::sorting::sorted;
use crate::template::value::{List, ListKind, Value};

/// The rows of a `for`.
pub struct Rows {
    source: Source,
    order: Order,
    /// The memory of rows that were created for the loop.
    _held: Hold,
}

enum Source {
    List(Rc<List>),
    Text(Bytes),
    Entries(Vec<(Bytes, Value)>),
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Order {
    Forward,
    Backward,
}

impl Value {
    /// The rows of `for`; `None`: the value is not iterable (the `empty` branch runs).
    ///
    /// `sorted` sorts lists of strings and has no effect on other lists, where `reversed` has no effect either. Maps
    /// are always iterated by key.
    pub fn rows(&self, meter: &Meter, reversed: bool, in_order: bool) -> Result<Option<Rows>, String> {
        let order = if reversed { Order::Backward } else { Order::Forward };
        let mut held = meter.hold();
        if let Some(map) = self.entries() {
            let mut entries = Vec::new();
            held.grow(map.len() * size_of::<(Bytes, Value)>())?;
            entries.reserve_exact(map.len());
            for (key, value) in &*map {
                // The map may drop the values while the rows still have them.
                let small = key.len() + small_size(value);
                meter.charge(STEP + small)?;
                held.grow(small)?;
                entries.push((key.clone(), value.clone()));
            }
            return Ok(Some(Rows { source: Source::Entries(entries), order, _held: held }));
        }
        let rows = |source, order| Ok(Some(Rows { source, order, _held: meter.hold() }));
        match self {
            Value::Str(_) if in_order => Err("cannot sort the bytes of a string".to_owned()),
            Value::Str(text) => rows(Source::Text(text.clone()), order),
            Value::List(list) if !in_order => rows(Source::List(list.clone()), order),
            Value::List(list) if list.kind == ListKind::Strings => {
                held.grow(list.items.len() * size_of::<Value>())?;
                let by_text = |a: &Value, b: &Value| match (a, b) {
                    (Value::Str(a), Value::Str(b)) => a.cmp(b),
                    _ => a.text().cmp(&b.text()),
                };
                let items = sorted(meter, list.items.clone(), Value::text_len, by_text)?;
                let source = Source::List(Rc::new(List { kind: list.kind, items }));
                Ok(Some(Rows { source, order, _held: held }))
            }
            Value::List(list) => rows(Source::List(list.clone()), Order::Forward),
            _ => Ok(None),
        }
    }
}

impl Rows {
    /// The number of rounds.
    pub fn len(&self) -> usize {
        match &self.source {
            Source::List(list) => list.items.len(),
            Source::Text(text) => text.len(),
            Source::Entries(entries) => entries.len(),
        }
    }

    /// Whether the loop has no round.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The variables of a round, counted from 0: the first one, and the second one if the value has one.
    pub fn row(&self, round: usize) -> Option<(Value, Option<Value>)> {
        let at = match self.order {
            Order::Forward => round,
            Order::Backward => self.len().checked_sub(round + 1)?,
        };
        match &self.source {
            Source::List(list) => Some((list.items.get(at)?.clone(), None)),
            Source::Text(text) => Some((Value::str([*text.get(at)?]), None)),
            Source::Entries(entries) => {
                let (key, value) = entries.get(at)?;
                Some((Value::Str(key.clone()), Some(value.clone())))
            }
        }
    }

    /// forloop.Counter0 in a round. A reversed text counts down, as recorded.
    pub fn number(&self, round: usize) -> usize {
        match (&self.source, self.order) {
            (Source::Text(text), Order::Backward) => text.len().saturating_sub(round + 1),
            _ => round,
        }
    }
}
