//! Reads tables by the rows of their [`Schema`]: finds a key, checks the type of its value, fills in its default, and
//! reports unknown keys and wrong values. The parser of the table interprets the values.

use std::path::PathBuf;
use std::time::Duration;

use super::document::{Entry, Node, Span, Table, Value};
use super::duration::{DURATION_FORM, LONGEST, duration};
use super::report::{Report, quoted};
use super::schema::{Default, Key, Schema, Type, Unit};
use super::secret::Secret;
use crate::nearest::nearest;

/// The purpose for which a table is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Purpose {
    /// For a resource: required keys must be set.
    Use,
    /// As a default: the resource may set the required keys.
    Default,
}

/// A table that is being read, and the table that it overlays (a resource's backend over the default one).
pub(super) struct Reader<'a> {
    pub report: &'a Report,
    pub purpose: Purpose,
    schema: &'static Schema,
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
    pub fn new(report: &'a Report, schema: &'static Schema, table: &'a Table, span: Span) -> Reader<'a> {
        Reader::overlaid(report, schema, vec![(table, span)])
    }

    /// Reads several tables as one. The first table with a key has its whole value. At least one table is required.
    pub fn overlaid(report: &'a Report, schema: &'static Schema, layers: Vec<(&'a Table, Span)>) -> Reader<'a> {
        let reader = Reader { report, purpose: Purpose::Use, schema, layers };
        for (table, _) in &reader.layers {
            reader.check(table);
        }
        reader
    }

    /// Reads an empty table, which gives the defaults.
    pub fn of_nothing(report: &'a Report, schema: &'static Schema) -> Reader<'a> {
        static EMPTY: Table = Table { entries: Vec::new() };
        Reader::new(report, schema, &EMPTY, Span { file: 0, start: 0, end: 0 }).for_defaults()
    }

    /// Reads the table as defaults.
    pub fn for_defaults(self) -> Reader<'a> {
        Reader { purpose: Purpose::Default, ..self }
    }

    /// Reports the keys of a table that are unknown or not used.
    fn check(&self, table: &Table) {
        let keys = self.schema.keys();
        let used: Vec<(&str, &Entry)> = keys.filter_map(|row| Some((row.name, table.find(row.name)?))).collect();
        for entry in &table.entries {
            // Bounds the work: each unknown key is compared with every known name.
            if self.report.is_full() {
                return;
            }
            let key = self.shown(entry);
            let known = self.schema.known(&entry.key).map(|row| row.name);
            match used.iter().find(|(name, _)| Some(*name) == known) {
                None => {
                    let message = format!("unknown key {key}{}", self.advice(&entry.key));
                    self.report.lint_unknown(entry.key_span, message);
                }
                Some((_, used)) if used.key_span != entry.key_span => {
                    let used = self.shown(used);
                    self.report.lint(entry.key_span, format!("{key} is ignored: {used} is set in the same table"));
                }
                Some(_) => {}
            }
        }
    }

    /// The advice about an unknown key, with punctuation before it.
    fn advice(&self, key: &str) -> String {
        let Schema { title, .. } = self.schema;
        let offered = || self.schema.keys().filter(|row| row.value != Type::Unused).map(|row| row.name);
        // `token` for `auth_token`, if no other key has that end.
        let has_end = |name: &&str| name.strip_suffix(key).is_some_and(|begin| begin.ends_with('_'));
        let mut ends = offered().filter(has_end);
        let end = ends.next().filter(|_| ends.next().is_none());
        if let Some(name) = nearest(key, offered()).or(end) {
            return format!(", did you mean {}?", quoted(name));
        }
        let homes = self.report.schemas.iter().filter(|schema| schema.known(key).is_some());
        let homes: Vec<&str> = homes.map(|schema| schema.title).collect();
        match homes.as_slice() {
            [] => format!(": {title} has {}", offered().map(quoted).collect::<Vec<_>>().join(", ")),
            // Only backends have so many keys in common.
            [home, _, _, _, ..] => format!(" for {title}: it belongs to a backend's table, such as {home}"),
            homes => format!(" for {title}: it belongs to {}", homes.join(" or ")),
        }
    }

    /// The row of a key that is read.
    fn row(&self, name: &str) -> &'static Key {
        let row = self.schema.keys().find(|row| row.name == name);
        row.expect("every key that is read has a row in the schema of its table")
    }

    /// The row of a key that is read as one of these types.
    fn row_of(&self, name: &str, types: &[Type]) -> &'static Key {
        let row = self.row(name);
        debug_assert!(types.contains(&row.value), "`{name}` of {} is read as {types:?}", self.schema.title);
        row
    }

    /// The default of a number.
    fn number(&self, name: &str) -> u32 {
        match self.row(name).default {
            Default::Number(number) => number,
            other => unreachable!("`{name}` of {} has the default {other:?}", self.schema.title),
        }
    }

    /// The place of the table itself.
    pub fn span(&self) -> Span {
        self.layers[0].1
    }

    /// The place of the overlaid table, if there is one, for errors of both tables.
    pub fn span_of_defaults(&self) -> Span {
        self.layers[self.layers.len() - 1].1
    }

    /// Whether tables of this kind have such a key.
    pub fn known(&self, name: &str) -> bool {
        self.schema.keys().any(|row| row.name == name)
    }

    /// Whether the key is set, to any value.
    pub fn has(&self, name: &str) -> bool {
        self.entry(name).is_some()
    }

    fn entry(&self, name: &str) -> Option<&'a Entry> {
        debug_assert_eq!(self.row(name).name, name);
        self.layers.iter().find_map(|(table, _)| table.find(name))
    }

    /// The place of a key's value, or of the table if the key is not set.
    pub fn place(&self, name: &str) -> Span {
        self.entry(name).map_or(self.span(), |entry| entry.node.span)
    }

    /// A text, which may be empty.
    pub fn text(&self, name: &str) -> Option<Found<&'a str>> {
        self.text_or(name, ": put it in quotes")
    }

    /// A text. If the value is a number, a boolean or a date, the error has the advice.
    pub fn text_or(&self, name: &str, advice: &str) -> Option<Found<&'a str>> {
        self.row_of(name, &[Type::Text]);
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

    /// A text, or its default if the text is empty or not set.
    pub fn string(&self, name: &str) -> String {
        let default = match self.row(name).default {
            Default::Word(word) => word,
            _ => "",
        };
        self.filled(name).map_or(default, |found| found.value).to_owned()
    }

    /// A text that is set and not empty. (For Go remco an empty text is not set.)
    pub fn filled(&self, name: &str) -> Option<Found<&'a str>> {
        self.text(name).filter(|found| !found.value.is_empty())
    }

    /// A path that is set and not empty.
    pub fn path(&self, name: &str) -> Option<PathBuf> {
        self.filled(name).map(|found| found.value.into())
    }

    /// A credential; empty if it is not set.
    pub fn secret(&self, name: &str) -> Secret {
        debug_assert!(self.row(name).secret, "`{name}` of {} is read as a secret", self.schema.title);
        Secret::new(self.string(name))
    }

    /// A text that must be set and not empty; otherwise reports an error. A table of defaults need not set it.
    pub fn required(&self, name: &str, what: &str) -> Option<Found<&'a str>> {
        let found = self.text(name);
        if self.purpose == Purpose::Default {
            return found.or(Some(Found { value: "", span: self.span() }));
        }
        match &found {
            Some(found) if found.value.is_empty() => {
                let why = self.report.unset(found.span);
                self.report.error(found.span, format!("{} is empty{why}: set it to {what}", quoted(name)));
                return None;
            }
            None if !self.has(name) => {
                let message = format!("{} is missing in {}: set it to {what}", quoted(name), self.schema.title);
                self.report.missing(self.span(), message);
            }
            _ => {}
        }
        found
    }

    /// A boolean, or its default.
    pub fn boolean(&self, name: &str) -> bool {
        let default = self.row_of(name, &[Type::Boolean]).default == Default::Flag(true);
        self.entry(name).and_then(|entry| self.boolean_of(entry)).unwrap_or(default)
    }

    fn boolean_of(&self, entry: &Entry) -> Option<bool> {
        match &entry.node.value {
            Value::Boolean(value) => Some(*value),
            Value::Text(text) if matches!(&**text, "true" | "false") => {
                self.wrong_type(entry, "a boolean", ": remove the quotes")
            }
            _ => self.wrong_type(entry, "a boolean", ""),
        }
    }

    /// An integer.
    pub fn integer(&self, name: &str) -> Option<Found<i64>> {
        self.row_of(name, &[Type::Integer(Unit::Plain), Type::Integer(Unit::Bytes)]);
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

    /// Whole seconds, or a text with units; `None` inside: the number is negative.
    pub fn seconds_of_any_sign(&self, name: &str) -> Option<Found<Option<Duration>>> {
        self.row_of(name, &[Type::Integer(Unit::Seconds)]);
        let entry = self.entry(name)?;
        if let Value::Text(text) = &entry.node.value {
            return self.duration_of(entry, text).map(|found| Found { value: Some(found.value), span: found.span });
        }
        let found = self.integer_of(name, "an integer of seconds")?;
        match u32::try_from(found.value) {
            Ok(seconds) => Some(Found { value: Some(Duration::from_secs(seconds.into())), span: found.span }),
            Err(_) if found.value < 0 => Some(Found { value: None, span: found.span }),
            Err(_) => self.not_a_time(name, found.span),
        }
    }

    /// Whole seconds, or a text with units; not negative, and small enough to be added to a point in time.
    pub fn seconds(&self, name: &str) -> Option<Found<Duration>> {
        let found = self.seconds_of_any_sign(name)?;
        match found.value {
            Some(value) => Some(Found { value, span: found.span }),
            None => self.not_a_time(name, found.span),
        }
    }

    fn not_a_time<T>(&self, name: &str, span: Span) -> Option<T> {
        let limits = format!("between 0 and {LONGEST} seconds");
        self.report.error(span, format!("{} must be {limits}", quoted(name)));
        None
    }

    /// A text with units, or a number of seconds.
    pub fn duration(&self, name: &str) -> Option<Found<Duration>> {
        self.row_of(name, &[Type::Duration]);
        let entry = self.entry(name)?;
        match &entry.node.value {
            Value::Text(text) => self.duration_of(entry, text),
            Value::Integer(Some(value)) => match u32::try_from(*value) {
                Ok(seconds) => Some(Found { value: Duration::from_secs(seconds.into()), span: entry.node.span }),
                Err(_) => self.not_a_time(name, entry.node.span),
            },
            // The digits of a float are those of a duration, except exponents, `inf` and `nan`.
            Value::Float(digits) => self.duration_of(entry, digits),
            Value::Integer(None) => self.not_a_time(name, entry.node.span),
            _ => self.wrong_type(entry, "a duration", &format!(": {DURATION_FORM}")),
        }
    }

    /// An empty text counts as not set.
    fn duration_of(&self, entry: &Entry, text: &str) -> Option<Found<Duration>> {
        match duration(text) {
            Err(_) if text.is_empty() => None,
            Ok(value) => Some(Found { value, span: entry.node.span }),
            Err(why) => {
                let shown = self.report.show(entry.node.span, text);
                self.report.error(entry.node.span, format!("{} {shown} {why}", self.shown(entry)));
                None
            }
        }
    }

    /// Whole seconds, or their default.
    pub fn seconds_or_default(&self, name: &str) -> Duration {
        self.seconds(name).map_or_else(|| self.default_seconds(name), |found| found.value)
    }

    /// The timeout of a command in whole seconds, or its default. `None`: it is 0, and there is no timeout.
    pub fn timeout(&self, name: &str) -> Option<Duration> {
        Some(self.seconds_or_default(name)).filter(|timeout| !timeout.is_zero())
    }

    /// The default of a number of seconds.
    pub fn default_seconds(&self, name: &str) -> Duration {
        Duration::from_secs(self.number(name).into())
    }

    /// Seconds and parts of one, or a text with units, between 0.1 and 86400 seconds, or their default.
    pub fn time_limit(&self, name: &str) -> Duration {
        self.row_of(name, &[Type::Decimal(Unit::Seconds)]);
        self.time_limit_of(name).unwrap_or_else(|| self.default_seconds(name))
    }

    fn time_limit_of(&self, name: &str) -> Option<Duration> {
        let entry = self.entry(name)?;
        let seconds = match &entry.node.value {
            Value::Integer(value) => value.map_or(f64::INFINITY, |value| value as f64),
            Value::Float(digits) => digits.parse().unwrap_or(f64::NAN),
            Value::Text(text) => self.duration_of(entry, text)?.value.as_secs_f64(),
            _ => return self.wrong_type(entry, "a number of seconds", ""),
        };
        if !(0.1..=86400.0).contains(&seconds) {
            self.report.error(entry.node.span, format!("{} must be between 0.1 and 86400 seconds", quoted(name)));
            return None;
        }
        Some(Duration::from_secs_f64(seconds))
    }

    /// A number that is 1 or more, or its default.
    pub fn positive<T: TryFrom<i64> + TryFrom<u32>>(&self, name: &str) -> T {
        let default = || T::try_from(self.number(name)).ok();
        self.positive_of(name).or_else(default).expect("every default fits 32 bits and this machine")
    }

    fn positive_of<T: TryFrom<i64>>(&self, name: &str) -> Option<T> {
        let found = self.integer(name)?;
        let value = Some(found.value).filter(|value| *value > 0).and_then(|value| T::try_from(value).ok());
        if value.is_none() {
            self.report.error(found.span, format!("{} must be above 0 and fit this machine", quoted(name)));
        }
        value
    }

    /// The names that are set in the nearest table that sets any of them; if there are several, those that are not
    /// empty.
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
        self.row_of(name, &[Type::Texts]);
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
        self.row_of(name, &[Type::Table]);
        let entry = self.entry(name)?;
        self.as_table(entry)
    }

    /// The tables of a name in every layer, the nearest first.
    pub fn tables_of_layers(&self, name: &str) -> Vec<Found<&'a Table>> {
        self.row_of(name, &[Type::Table, Type::TableOfTexts]);
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

    /// A list of tables, `[[name]]`. A single table is reported and then read like a list of one, to report further
    /// errors in it. `header` is the full name of the table.
    pub fn tables(&self, name: &str, header: &str) -> Vec<Found<&'a Table>> {
        self.row_of(name, &[Type::Tables]);
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

    /// A key in the spelling of the file.
    fn shown(&self, entry: &Entry) -> String {
        self.report.show(entry.key_span, &entry.key)
    }

    fn wrong_type<T>(&self, entry: &Entry, expected: &str, advice: &str) -> Option<T> {
        let key = self.shown(entry);
        let found = kind(&entry.node.value);
        self.report.error_of_type(entry.node.span, format!("{key} must be {expected}, found {found}{advice}"));
        None
    }
}

/// The error of a zero byte: no path, command or name of the system can have one, and every use would fail.
fn zero_byte(key: &str) -> String {
    format!("{key} has a zero byte in it, which no path and no command can have: remove the `\\u0000`")
}

/// The name of a kind of value in messages.
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
