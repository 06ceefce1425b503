//! Texts and lists under construction that may not outgrow what a render may use. Everything that a function or
//! a filter makes longer than what it was given is built through here.

use std::mem::size_of;

use super::Limits;
use super::value::{ListKind, Value};
use crate::store::Bytes;

/// A text under construction.
pub struct Text {
    bytes: Vec<u8>,
    limit: usize,
}

impl Text {
    pub fn new(limits: &Limits) -> Text {
        Text { bytes: Vec::new(), limit: limits.output }
    }

    pub fn push(&mut self, part: &[u8]) -> Result<(), String> {
        self.reserve(part.len())?;
        self.bytes.extend_from_slice(part);
        Ok(())
    }

    /// Appends one byte many times.
    pub fn fill(&mut self, byte: u8, count: usize) -> Result<(), String> {
        self.reserve(count)?;
        self.bytes.resize(self.bytes.len() + count, byte);
        Ok(())
    }

    pub fn into_bytes(self) -> Bytes {
        self.bytes.into()
    }

    pub fn into_value(self) -> Value {
        Value::Str(self.into_bytes())
    }

    fn reserve(&self, more: usize) -> Result<(), String> {
        if more > self.limit.saturating_sub(self.bytes.len()) {
            return Err(format!("cannot build a text of more than {} bytes", self.limit));
        }
        Ok(())
    }
}

/// A list of the parts of a text. They are gone through twice: counted before anything is built.
pub fn strings<'a, I>(limits: &Limits, parts: impl Fn() -> I) -> Result<Value, String>
where
    I: Iterator<Item = &'a [u8]>,
{
    let (items, bytes) = parts().fold((0, 0), |(items, bytes), part| (items + 1, bytes + part.len()));
    check_list(limits, items, bytes)?;
    Ok(Value::list(ListKind::Strings, parts().map(Value::str).collect()))
}

/// Whether there may be a list of so many items, with so many bytes of text in them.
pub fn check_list(limits: &Limits, items: usize, bytes: usize) -> Result<(), String> {
    // What an item costs beside its text: its place in the list and the counts of its Rc.
    const EACH: usize = size_of::<Value>() + 2 * size_of::<usize>();
    if items.saturating_mul(EACH).saturating_add(bytes) > limits.output {
        return Err(format!("cannot build a list of more than {} bytes", limits.output));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const SMALL: Limits = Limits { steps: 1, output: 100 };

    #[test]
    fn a_text_ends_at_the_limit() {
        let mut text = Text::new(&SMALL);
        text.fill(b'x', 99).unwrap();
        text.push(b"y").unwrap();
        assert_eq!(text.push(b"z").unwrap_err(), "cannot build a text of more than 100 bytes");
        assert!(text.fill(b' ', usize::MAX).is_err());
        assert_eq!(text.into_bytes().len(), 100);
    }

    #[test]
    fn a_list_counts_its_items() {
        let limits = Limits { output: 2 * (size_of::<Value>() + 2 * size_of::<usize>()) + 2, ..SMALL };
        let build = |text: &str| strings(&limits, || text.split(',').map(str::as_bytes));
        assert!(build("a,b").is_ok());
        let error = format!("cannot build a list of more than {} bytes", limits.output);
        assert_eq!([build("a,bb").unwrap_err(), build("a,b,").unwrap_err()], [error.clone(), error]);
    }
}
