//! The cost of a running render: work, in bytes read and written, and memory, in live bytes. Checks every limit of a
//! render except the nesting. The callers know how much an operation reads; the World has the clock and the signals.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;

use crate::store::Bytes;
use crate::template::limits::Limits;
use crate::template::value::Value;
use crate::template::world::World;

/// The number of bytes in one step of `template_steps`.
pub const STEP: usize = 16;

/// The clock and the signals are checked after this many bytes of work. The slowest operations take some 100 ns a byte,
/// so this is every few milliseconds in the worst case.
const LOOK_EVERY: u64 = 64 << 10;

/// Smaller texts, lists and maps are not counted one by one but as a part of their container.
pub const SMALL: usize = 1024;

/// The memory of a value in its place, and the overhead of the allocation behind it.
const PLACE: usize = size_of::<Value>();
const ALLOCATION: usize = 2 * size_of::<usize>() + 16;

/// The first node of a map, which the first entry allocates as a whole.
pub const NODE: usize = NODE_ENTRIES * SLOT + ALLOCATION;
const NODE_ENTRIES: usize = 11;
const SLOT: usize = size_of::<Bytes>() + PLACE;

/// The memory of a map with this many entries in bytes, without the texts of its keys and the contents of its values:
/// nodes are at least half full.
pub fn tree(entries: usize) -> usize {
    const HALF: usize = NODE_ENTRIES / 2;
    match entries {
        0 => 0,
        _ => NODE + entries * ALLOCATION + entries.saturating_sub(HALF) * SLOT * NODE_ENTRIES / HALF,
    }
}

/// A sweep starts when the live bytes have doubled since the last one, but not below this.
const FIRST_SWEEP: usize = 1 << 20;

/// The meter of one render. Clones share it.
#[derive(Clone)]
pub struct Meter(Rc<Inner>);

/// Cells, because everything that holds memory of the render shares the meter.
struct Inner {
    limits: Limits,
    world: Rc<dyn World>,
    /// The processor time when the render began.
    began: Duration,
    /// Bytes read and written so far.
    work: Cell<u64>,
    /// The value of `work` at the next check of the limits, the clock and the signals. 0 when the render is over.
    next_look: Cell<u64>,
    over: Cell<Option<EndCause>>,
    /// Whether a value was refused for its size.
    refused: Cell<bool>,
    /// The live bytes, and those that were live at the last sweep.
    memory: Cell<usize>,
    next_sweep: Cell<usize>,
    /// Every large value that was created, with its bytes. The next sweep drops values without another owner. Parts
    /// come before their container.
    kept: RefCell<Vec<(Value, usize)>>,
}

/// The reason why a render ended early.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum EndCause {
    Steps,
    Time,
    Interrupted,
}

impl Meter {
    /// The meter of a render that begins now.
    pub fn new(limits: Limits, world: Rc<dyn World>) -> Meter {
        let meter = Meter(Rc::new(Inner {
            limits,
            began: world.processor_time(),
            world,
            work: Cell::new(0),
            next_look: Cell::new(0),
            over: Cell::new(None),
            refused: Cell::new(false),
            memory: Cell::new(0),
            next_sweep: Cell::new(FIRST_SWEEP),
            kept: RefCell::default(),
        }));
        meter.0.next_look.set(LOOK_EVERY.min(meter.most_work() + 1));
        meter
    }

    /// The limits of the render.
    pub fn limits(&self) -> &Limits {
        &self.0.limits
    }

    /// Bytes read and written so far.
    #[cfg(test)]
    pub fn work(&self) -> u64 {
        self.0.work.get()
    }

    /// The live bytes, and dead bytes that no sweep has found yet.
    #[cfg(test)]
    pub fn memory(&self) -> usize {
        self.0.memory.get()
    }

    /// Notes that a value was refused for its size, which ends the render.
    pub fn end(&self) {
        self.0.refused.set(true);
    }

    /// Whether a limit or the end of the program ends the render. Such a failure is never ignored.
    pub fn has_ended(&self) -> bool {
        self.is_over() || self.0.refused.get()
    }

    fn most_work(&self) -> u64 {
        self.0.limits.steps.saturating_mul(STEP as u64).min(u64::MAX - 1)
    }
}

/// Work.
impl Meter {
    /// Counts bytes that are read or written.
    ///
    /// # Errors
    /// The render is over: its steps or its time are used up, or the program is ending. All later calls fail too.
    #[inline]
    pub fn charge(&self, bytes: usize) -> Result<(), String> {
        let work = self.0.work.get().saturating_add(bytes as u64);
        self.0.work.set(work);
        if work < self.0.next_look.get() { Ok(()) } else { self.look() }
    }

    /// Whether the render is over, for loops that cannot return an error. The code after the loop must charge.
    pub fn is_over(&self) -> bool {
        self.0.over.get().is_some()
    }

    /// Checks the limits, the clock and the signals now.
    ///
    /// # Errors
    /// Those of [`Meter::charge`].
    #[cold]
    pub fn look(&self) -> Result<(), String> {
        let (inner, work) = (&*self.0, self.0.work.get());
        if inner.over.get().is_none() {
            let spent = || inner.world.processor_time().saturating_sub(inner.began) > inner.limits.time;
            if work > self.most_work() {
                inner.over.set(Some(EndCause::Steps));
            } else if inner.world.stopped() {
                inner.over.set(Some(EndCause::Interrupted));
            } else if spent() {
                inner.over.set(Some(EndCause::Time));
            }
        }
        let Some(over) = inner.over.get() else {
            inner.next_look.set((work + LOOK_EVERY).min(self.most_work() + 1));
            return Ok(());
        };
        inner.next_look.set(0);
        Err(match over {
            EndCause::Steps => {
                format!("the template takes more than {} steps; {}", inner.limits.steps, raised_by("template_steps"))
            }
            EndCause::Time => {
                let time = inner.limits.time.as_secs_f64();
                let seconds = if time == 1.0 { "second" } else { "seconds" };
                format!(
                    "the template takes more than {time} {seconds} of processor time; {}",
                    raised_by("template_time")
                )
            }
            EndCause::Interrupted => "stopped before the end".to_owned(),
        })
    }
}

/// Memory.
impl Meter {
    /// An account of memory that is in use until it is dropped.
    pub fn hold(&self) -> Hold {
        Hold { meter: self.clone(), bytes: 0 }
    }

    /// Holds this many bytes, and counts them as work: for a value that is built at once.
    ///
    /// # Errors
    /// The memory is used up, or the render is over.
    pub fn room_for(&self, bytes: usize) -> Result<Hold, String> {
        self.charge(bytes)?;
        let mut hold = self.hold();
        hold.grow(bytes)?;
        Ok(hold)
    }

    /// Counts the memory of a new value for as long as it has an owner besides the meter. Shared values are already
    /// counted, or belong to the store or the program.
    ///
    /// # Errors
    /// The memory is used up.
    #[inline]
    pub fn keep(&self, value: &Value) -> Result<(), String> {
        match value {
            Value::Str(text) if text.len() + ALLOCATION >= SMALL && Rc::strong_count(text) == 1 => {
                self.count(value).map(|_| ())
            }
            Value::List(list) if Rc::strong_count(list) == 1 => self.count(value).map(|_| ()),
            Value::Map(map) if Rc::strong_count(map) == 1 => self.count(value).map(|_| ()),
            _ => Ok(()),
        }
    }

    /// The memory that a value adds to its container: 0 if it is counted by itself.
    fn count(&self, value: &Value) -> Result<usize, String> {
        let (bytes, is_new) = match value {
            Value::Str(text) => (text.len() + ALLOCATION, Rc::strong_count(text) == 1),
            Value::List(list) if Rc::strong_count(list) == 1 => {
                let mut bytes = list.items.capacity() * PLACE + ALLOCATION;
                for item in &list.items {
                    bytes += self.count(item)?;
                }
                (bytes, true)
            }
            Value::Map(map) if Rc::strong_count(map) == 1 => {
                let mut bytes = ALLOCATION + tree(map.len());
                for (key, item) in &**map {
                    bytes += key.len() + self.count(item)?;
                }
                (bytes, true)
            }
            Value::List(_) | Value::Map(_) => (small_size(value), false),
            _ => return Ok(0),
        };
        if bytes < SMALL {
            return Ok(bytes);
        }
        if is_new {
            self.charge(bytes)?;
            self.take(bytes)?;
            self.0.kept.borrow_mut().push((value.clone(), bytes));
        }
        Ok(0)
    }

    /// Subtracts from the remaining memory.
    fn take(&self, bytes: usize) -> Result<(), String> {
        let inner = &*self.0;
        let after = inner.memory.get().saturating_add(bytes);
        if after > inner.next_sweep.get() || after > inner.limits.memory {
            return self.take_after_sweep(bytes);
        }
        inner.memory.set(after);
        Ok(())
    }

    #[cold]
    fn take_after_sweep(&self, bytes: usize) -> Result<(), String> {
        self.sweep()?;
        let inner = &*self.0;
        let after = inner.memory.get().saturating_add(bytes);
        if after > inner.limits.memory {
            self.end();
            let raised = raised_by("template_memory");
            return Err(format!("the template holds more than {} bytes at a time; {raised}", inner.limits.memory));
        }
        inner.memory.set(after);
        inner.next_sweep.set(after.saturating_mul(2).max(FIRST_SWEEP));
        Ok(())
    }

    fn give(&self, bytes: usize) {
        self.0.memory.set(self.0.memory.get() - bytes);
    }

    /// Drops the values without another owner.
    fn sweep(&self) -> Result<(), String> {
        let mut kept = self.0.kept.take();
        let mut alive = Vec::new();
        let charged = self.charge(kept.len());
        // The sweep starts at the end, because a dropped value releases its parts, which come before it.
        while let Some((value, bytes)) = kept.pop() {
            if is_shared(&value) {
                alive.push((value, bytes));
            } else {
                self.give(bytes);
            }
        }
        alive.reverse();
        self.0.kept.replace(alive);
        charged
    }
}

fn is_shared(value: &Value) -> bool {
    match value {
        Value::Str(text) => Rc::strong_count(text) > 1,
        Value::List(list) => Rc::strong_count(list) > 1,
        Value::Map(map) => Rc::strong_count(map) > 1,
        _ => false,
    }
}

/// The memory that a small text, list or map adds to its container. It is less than [`SMALL`], because larger ones are
/// counted by themselves.
pub fn small_size(value: &Value) -> usize {
    fn up_to(value: &Value, room: usize) -> Option<usize> {
        let mut bytes = ALLOCATION;
        match value {
            Value::Str(text) => bytes += text.len(),
            Value::List(list) => {
                bytes += list.items.capacity() * PLACE;
                for item in &list.items {
                    bytes += up_to(item, room.checked_sub(bytes)?)?;
                }
            }
            Value::Map(map) => {
                bytes += tree(map.len());
                for (key, item) in &**map {
                    bytes += key.len();
                    bytes += up_to(item, room.checked_sub(bytes)?)?;
                }
            }
            _ => return Some(0),
        }
        (bytes < room).then_some(bytes)
    }
    up_to(value, SMALL).unwrap_or(0)
}

/// Memory that is in use until this is dropped.
pub struct Hold {
    meter: Meter,
    bytes: usize,
}

impl Hold {
    /// # Errors
    /// The memory is used up.
    pub fn grow(&mut self, bytes: usize) -> Result<(), String> {
        self.meter.take(bytes)?;
        self.bytes += bytes;
        Ok(())
    }

    /// Holds this many more bytes, and counts them as work: for a value that is built at once.
    ///
    /// # Errors
    /// The memory is used up, or the render is over.
    pub fn build(&mut self, bytes: usize) -> Result<(), String> {
        self.meter.charge(bytes)?;
        self.grow(bytes)
    }

    /// Releases this many bytes.
    pub fn shrink(&mut self, bytes: usize) {
        let bytes = bytes.min(self.bytes);
        self.bytes -= bytes;
        self.meter.give(bytes);
    }

    /// The held bytes.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// The meter that counts them.
    pub fn meter(&self) -> &Meter {
        &self.meter
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        self.meter.give(self.bytes);
    }
}

/// The end of the text of a limit's error.
pub fn raised_by(key: &str) -> String {
    format!("`{key}` in [limits] raises that")
}

#[cfg(test)]
mod tests;
