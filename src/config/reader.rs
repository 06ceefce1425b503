//! Typed reading of tables: finds a key, checks the type of its value and reports what does not fit, so that
//! the code above it says only what each key means.

use std::path::PathBuf;
use std::time::Duration;

use super::document::{Entry, Node, Span, Table, Value};
use super::keys::Shape;
use super::model::Secret;
use super::report::{Report, quoted};

/// A table that is being read, with the one it overlays below it (a resource's backend over the default one).
pub(super) struct Reader<'a> {
    pub report: &'a Report,
    shape: &'static Shape,
    /// The nearest first.
    layers: Vec<(&'a Table, Span)>,
}

/// A value with its place.
pub(super) struct Found<T> {
    pub value: T,
    pub span: Span,
}

impl<'a> Reader<'a> {
    /// Reads one table; reports its unknown keys.
    pub fn new(report: &'a Report, shape: &'static Shape, table: &'a Table, span: Span) -> Reader<'a> {
        Reader::overlaid(report, shape, vec![(table, span)])
    }

    /// Reads tables as one; a key is taken whole from the first that has it. There is at least one.
    pub fn overlaid(report: &'a Report, shape: &'static Shape, layers: Vec<(&'a Table, Span)>) -> Reader<'a> {
        for (table, _) in &layers {
            shape.check(table, report);
        }
        Reader { report, shape, layers }
    }

    /// Where the table itself begins.
    pub fn span(&self) -> Span {
        self.layers[0].1
    }

    pub fn has(&self, name: &str) -> bool {
        self.entry(name).is_some()
    }

    fn entry(&self, name: &str) -> Option<&'a Entry> {
        debug_assert_eq!(self.shape.known(name), Some(name), "{} has no such key", self.shape.title);
        self.layers.iter().find_map(|(table, _)| table.find(name))
    }

    /// Where the value of a key is, or the table if it has no such key.
    pub fn place(&self, name: &str) -> Span {
        self.entry(name).map_or(self.span(), |entry| entry.node.span)
    }

    pub fn text(&self, name: &str) -> Option<Found<&'a str>> {
        self.text_or(name, ": put it in quotes")
    }

    /// A text; the advice is for whoever wrote a number or the like.
    pub fn text_or(&self, name: &str, advice: &str) -> Option<Found<&'a str>> {
        let entry = self.entry(name)?;
        match &entry.node.value {
            Value::Text(text) if text.contains('\0') => {
                self.report.error(entry.node.span, zero_byte(&self.shown(entry)));
                None
            }
            Value::Text(text) => Some(Found { value: text, span: entry.node.span }),
            Value::Integer(_) | Value::Float(_) | Value::Boolean(_) | Value::Date(_) => {
                self.wrong_type(entry, "a string", advice)
            }
            Value::List(_) | Value::Table(_) => self.wrong_type(entry, "a string", ""),
        }
    }

    /// A text, empty where there is none.
    pub fn string(&self, name: &str) -> String {
        self.text(name).map_or(String::new(), |found| found.value.to_owned())
    }

    /// A text that is there and not empty. (For remco an empty text and none are the same.)
    pub fn filled(&self, name: &str) -> Option<Found<&'a str>> {
        self.text(name).filter(|found| !found.value.is_empty())
    }

    pub fn path(&self, name: &str) -> Option<PathBuf> {
        self.filled(name).map(|found| found.value.into())
    }

    pub fn secret(&self, name: &str) -> Secret {
        Secret::new(self.string(name))
    }

    /// A text that must be there and not be empty; reports where it is not.
    pub fn required(&self, name: &str, what: &str) -> Option<Found<&'a str>> {
        let found = self.text(name);
        match &found {
            Some(found) if found.value.is_empty() => {
                let why = self.report.unset(found.span);
                self.report.error(found.span, format!("{} is empty{why}: set it to {what}", quoted(name)));
                return None;
            }
            None if !self.has(name) => {
                let message = format!("{} is missing in {}: set it to {what}", quoted(name), self.shape.title);
                self.report.missing(self.span(), message);
            }
            _ => {}
        }
        found
    }

    pub fn boolean(&self, name: &str) -> Option<bool> {
        let entry = self.entry(name)?;
        match &entry.node.value {
            Value::Boolean(value) => Some(*value),
            Value::Text(text) if matches!(&**text, "true" | "false") => {
                self.wrong_type(entry, "a boolean", ": remove the quotes")
            }
            _ => self.wrong_type(entry, "a boolean", ""),
        }
    }

    pub fn integer(&self, name: &str) -> Option<Found<i64>> {
        self.integer_of(name, "an integer")
    }

    fn integer_of(&self, name: &str, expected: &str) -> Option<Found<i64>> {
        let entry = self.entry(name)?;
        match &entry.node.value {
            Value::Integer(Some(value)) => Some(Found { value: *value, span: entry.node.span }),
            Value::Integer(None) => {
                let message = format!("{} does not fit 64 bits", self.shown(entry));
                self.report.error(entry.node.span, message);
                None
            }
            Value::Text(text) if text.parse::<i64>().is_ok() => self.wrong_type(entry, expected, ": remove the quotes"),
            _ => self.wrong_type(entry, expected, ""),
        }
    }

    /// Whole seconds, of any sign.
    pub fn signed_seconds(&self, name: &str) -> Option<Found<i64>> {
        self.integer_of(name, "an integer of seconds")
    }

    /// Whole seconds, not negative, and little enough to be added to a point in time.
    pub fn seconds(&self, name: &str) -> Option<Found<Duration>> {
        let found = self.signed_seconds(name)?;
        match u32::try_from(found.value) {
            Ok(seconds) => Some(Found { value: Duration::from_secs(seconds.into()), span: found.span }),
            Err(_) => {
                let limits = format!("between 0 and {} seconds", u32::MAX);
                self.report.error(found.span, format!("{} must be {limits}", quoted(name)));
                None
            }
        }
    }

    /// Seconds, also parts of one, that something of ours may take.
    pub fn time_limit(&self, name: &str) -> Option<Duration> {
        let entry = self.entry(name)?;
        let seconds = match &entry.node.value {
            Value::Integer(value) => value.map_or(f64::INFINITY, |value| value as f64),
            Value::Float(digits) => digits.parse().unwrap_or(f64::NAN),
            Value::Text(text) if text.parse::<f64>().is_ok() => {
                return self.wrong_type(entry, "a number of seconds", ": remove the quotes");
            }
            _ => return self.wrong_type(entry, "a number of seconds", ""),
        };
        if !(0.1..=86400.0).contains(&seconds) {
            self.report.error(entry.node.span, format!("{} must be between 0.1 and 86400 seconds", quoted(name)));
            return None;
        }
        Some(Duration::from_secs_f64(seconds))
    }

    /// A count that is 1 or more.
    pub fn positive<T: TryFrom<i64>>(&self, name: &str) -> Option<T> {
        let found = self.integer(name)?;
        let value = Some(found.value).filter(|value| *value > 0).and_then(|value| T::try_from(value).ok());
        if value.is_none() {
            self.report.error(found.span, format!("{} must be above 0 and fit this machine", quoted(name)));
        }
        value
    }

    /// Those of the names that are set in the nearest table that sets any; of several, those that are not empty.
    pub fn nearest_of(&self, names: &[&'static str]) -> Vec<&'static str> {
        let set = |(table, _): &(&'a Table, Span)| -> Vec<(&'static str, &'a Entry)> {
            names.iter().filter_map(|name| Some((*name, table.find(name)?))).collect()
        };
        let mut found = self.layers.iter().map(set).find(|found| !found.is_empty()).unwrap_or_default();
        if found.len() > 1 {
            found.retain(|(_, entry)| !matches!(&entry.node.value, Value::Text(text) if text.is_empty()));
        }
        found.into_iter().map(|(name, _)| name).collect()
    }

    /// A list of texts.
    pub fn texts(&self, name: &str) -> Option<Vec<Found<&'a str>>> {
        let entry = self.entry(name)?;
        let items = match &entry.node.value {
            Value::List(items) => items,
            Value::Text(_) => return self.wrong_type(entry, "a list of strings", ": put it in `[` and `]`"),
            _ => return self.wrong_type(entry, "a list of strings", ""),
        };
        let mut texts = Vec::with_capacity(items.len());
        for item in items {
            match &item.value {
                Value::Text(text) if text.contains('\0') => {
                    self.report.error(item.span, zero_byte(&self.shown(entry)));
                }
                Value::Text(text) => texts.push(Found { value: &**text, span: item.span }),
                other => {
                    let message =
                        format!("{} must be a list of strings, found {} in it", self.shown(entry), kind(other));
                    self.report.error(item.span, message);
                }
            }
        }
        Some(texts)
    }

    /// A table of its own: `[name]`, dotted or inline.
    pub fn table(&self, name: &str) -> Option<Found<&'a Table>> {
        let entry = self.entry(name)?;
        self.as_table(entry)
    }

    /// The tables of a name in every layer, the nearest first.
    pub fn tables_of_layers(&self, name: &str) -> Vec<Found<&'a Table>> {
        let entries = self.layers.iter().filter_map(|(table, _)| table.find(name));
        entries.filter_map(|entry| self.as_table(entry)).collect()
    }

    fn as_table(&self, entry: &'a Entry) -> Option<Found<&'a Table>> {
        match &entry.node.value {
            Value::Table(table) => Some(Found { value: table, span: entry.node.span }),
            Value::List(items) if items.iter().any(|item| matches!(item.value, Value::Table(_))) => {
                self.wrong_type(entry, "a table", &format!(": write `[...{}]` with single brackets", entry.key))
            }
            _ => self.wrong_type(entry, "a table", ""),
        }
    }

    /// A list of tables, `[[name]]`. A single table is reported and then read like a list of one, for what else
    /// may be wrong in it. `header` is the name with what stands before it.
    pub fn tables(&self, name: &str, header: &str) -> Vec<Found<&'a Table>> {
        let Some(entry) = self.entry(name) else {
            return Vec::new();
        };
        let list: &[Node] = match &entry.node.value {
            Value::List(items) => items,
            Value::Table(_) => {
                let message =
                    format!("{} must be a list of tables, found a table: write `[[{header}]]`", self.shown(entry));
                self.report.error(entry.node.span, message);
                std::slice::from_ref(&entry.node)
            }
            _ => {
                let _: Option<()> = self.wrong_type(entry, "a list of tables", &format!(": write `[[{header}]]`"));
                return Vec::new();
            }
        };
        let mut tables = Vec::with_capacity(list.len());
        for item in list {
            match &item.value {
                Value::Table(table) => tables.push(Found { value: table, span: item.span }),
                other => {
                    let message =
                        format!("{} must be a list of tables, found {} in it", self.shown(entry), kind(other));
                    self.report.error(item.span, message);
                }
            }
        }
        tables
    }

    /// A key as its author spelled it.
    fn shown(&self, entry: &Entry) -> String {
        self.report.show(entry.key_span, &entry.key)
    }

    fn wrong_type<T>(&self, entry: &Entry, expected: &str, advice: &str) -> Option<T> {
        let key = self.shown(entry);
        let found = kind(&entry.node.value);
        self.report.error(entry.node.span, format!("{key} must be {expected}, found {found}{advice}"));
        None
    }
}

/// No path, command or name of the system can have one, and it would be found out one use after the other.
fn zero_byte(key: &str) -> String {
    format!("{key} has a zero byte in it, which no path and no command can have: remove the `\\u0000`")
}

/// What messages call a value.
fn kind(value: &Value) -> &'static str {
    match value {
        Value::Text(_) => "a string",
        Value::Integer(_) => "an integer",
        Value::Float(_) => "a float",
        Value::Boolean(_) => "a boolean",
        Value::Date(_) => "a date",
        Value::List(_) => "a list",
        Value::Table(_) => "a table",
    }
}
