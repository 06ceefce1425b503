//! Texts and lists under construction, within the limits of a render. Every result of a function or filter that is
//! longer than its input is built here.

use std::mem::size_of;

use crate::store::Bytes;
use crate::template::value::meter::{Hold, Meter, raised_by};
use crate::template::value::{ListKind, Value};

/// A text under construction.
pub struct Text {
    bytes: Vec<u8>,
    /// The memory of the text. A small text counts as 0, because it is dropped soon.
    hold: Hold,
    /// The number of copies of each byte at the end: two if the text becomes a value.
    copies: usize,
}

/// Texts under construction are counted from this size on.
const ACCOUNTED: usize = 4096;

/// Larger texts grow by a quarter instead of doubling.
const LARGE: usize = 1 << 20;

impl Text {
    /// An empty text that becomes a value. The copy for the value counts as memory too.
    pub fn new(meter: &Meter) -> Text {
        Text { bytes: Vec::new(), hold: meter.hold(), copies: 2 }
    }

    /// A text that never becomes a value as a whole: the result of a render.
    pub fn result(meter: &Meter) -> Text {
        Text { copies: 1, ..Text::new(meter) }
    }

    /// Appends bytes. Fails if the text becomes longer than the limit `template_output`, or the render has used up its
    /// work or memory.
    #[inline]
    pub fn push(&mut self, part: &[u8]) -> Result<(), String> {
        // An empty part is work too: a list may have millions of them.
        self.hold.meter().charge(part.len() + 1)?;
        self.reserve(part.len())?;
        self.bytes.extend_from_slice(part);
        Ok(())
    }

    /// Appends one byte many times.
    pub fn fill(&mut self, byte: u8, count: usize) -> Result<(), String> {
        self.reserve(count)?;
        self.hold.meter().charge(count)?;
        self.bytes.resize(self.bytes.len() + count, byte);
        Ok(())
    }

    /// The finished text. Copies it into shared memory.
    pub fn into_bytes(self) -> Bytes {
        self.bytes.into()
    }

    /// The meter of the render that the text belongs to.
    pub fn meter(&self) -> &Meter {
        self.hold.meter()
    }

    /// The length so far, in bytes.
    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Removes and returns the text from a position on.
    pub fn split_off(&mut self, start: usize) -> Bytes {
        let text = Bytes::from(self.bytes.get(start..).unwrap_or_default());
        self.bytes.truncate(start);
        text
    }

    /// The text as it was built, without a copy.
    pub fn into_vec(self) -> Vec<u8> {
        self.bytes
    }

    /// The finished text as a value. Copies it into shared memory.
    pub fn into_value(self) -> Value {
        Value::Str(self.into_bytes())
    }

    #[inline]
    fn reserve(&mut self, more: usize) -> Result<(), String> {
        let fits = more <= self.bytes.capacity() - self.bytes.len();
        match fits && self.bytes.len() + more <= self.hold.meter().limits().output {
            true => Ok(()),
            false => self.grow(more),
        }
    }

    fn grow(&mut self, more: usize) -> Result<(), String> {
        let limit = self.hold.meter().limits().output;
        if more > limit.saturating_sub(self.bytes.len()) {
            self.hold.meter().end();
            return Err(format!("cannot build a text of more than {limit} bytes; {}", raised_by("template_output")));
        }
        let before = self.bytes.capacity();
        let needed = self.bytes.len() + more;
        if needed <= before {
            return Ok(());
        }
        let usual = if before < LARGE { before * 2 } else { before + before / 4 };
        let after = usual.max(needed).max(64);
        if after > ACCOUNTED {
            // The old memory is still allocated while the text moves to the new one.
            self.hold.grow(after * self.copies)?;
        }
        self.bytes.reserve_exact(after - self.bytes.len());
        if before > ACCOUNTED {
            self.hold.shrink(before * self.copies);
        }
        Ok(())
    }
}

/// A list of the parts of a text. The parts are iterated twice, because they are counted before the list is built.
pub fn strings<'a, I>(meter: &Meter, parts: impl Fn() -> I) -> Result<Value, String>
where
    I: Iterator<Item = &'a [u8]>,
{
    let (mut items, mut bytes) = (0, 0);
    for part in parts() {
        meter.charge(part.len() + 1)?;
        (items, bytes) = (items + 1, bytes + part.len());
    }
    let _held = check_list(meter, items, bytes)?;
    let mut list = Vec::with_capacity(items);
    for part in parts() {
        meter.charge(part.len() + EACH)?;
        list.push(Value::str(part));
    }
    Ok(Value::list(ListKind::Strings, list))
}

/// The memory of an item of a list besides its text: its slot in the list and the counts of its Rc.
const EACH: usize = size_of::<Value>() + 2 * size_of::<usize>();

/// The overhead of the allocator for each of many small texts.
const ROUNDING: usize = 16;

/// Holds the memory of a list with this many items and bytes of text, until the list is built and counted by itself.
pub fn check_list(meter: &Meter, items: usize, bytes: usize) -> Result<Hold, String> {
    let limit = meter.limits().output;
    if items.saturating_mul(EACH).saturating_add(bytes) > limit {
        meter.end();
        return Err(format!("cannot build a list of more than {limit} bytes; {}", raised_by("template_output")));
    }
    let mut hold = meter.hold();
    hold.grow(items * (EACH + ROUNDING) + bytes)?;
    Ok(hold)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::template::fixture::small;

    #[test]
    fn a_text_ends_at_the_limit() {
        let mut text = Text::new(&small(100));
        text.fill(b'x', 99).unwrap();
        text.push(b"y").unwrap();
        assert_eq!(
            text.push(b"z").unwrap_err(),
            "cannot build a text of more than 100 bytes; `template_output` in [limits] raises that"
        );
        assert!(text.fill(b' ', usize::MAX).is_err());
        assert_eq!(text.into_bytes().len(), 100);
    }

    #[test]
    fn a_list_counts_its_items() {
        let output = 2 * EACH + 2;
        let build = |text: &str| strings(&small(output), || text.split(',').map(str::as_bytes));
        assert!(build("a,b").is_ok());
        let raised = raised_by("template_output");
        let error = format!("cannot build a list of more than {output} bytes; {raised}");
        assert_eq!([build("a,bb").unwrap_err(), build("a,b,").unwrap_err()], [error.clone(), error]);
    }
}
