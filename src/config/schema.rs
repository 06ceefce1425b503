//! The form of the configuration's tables: one row for each key. The readers take names, types and defaults from the
//! rows, and the tables of docs/configuration.md are generated from them. Holds no row and reads no value.

#[cfg(test)]
mod tests;

/// The keys of one kind of table.
#[derive(Debug)]
pub(super) struct Schema {
    /// The path of the table in the documentation: `resource.template`.
    #[cfg_attr(not(test), expect(dead_code, reason = "read by the test of the documentation"))]
    pub path: &'static str,
    /// The name of the table in messages.
    pub title: &'static str,
    /// The rows, in the order of messages and of the documentation.
    pub groups: &'static [&'static [Key]],
}

/// One key.
#[derive(Debug)]
pub(super) struct Key {
    pub name: &'static str,
    pub value: Type,
    pub default: Default,
    /// Whether the value is a credential. No message, log line or `Debug` shows it.
    pub secret: bool,
    /// The meaning, for the documentation. Left out of the program.
    #[cfg(test)]
    pub text: &'static str,
}

/// The type of a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Type {
    Text,
    Texts,
    Boolean,
    Integer(Unit),
    /// An integer or a float.
    Decimal(Unit),
    /// A text with units, or a number of seconds.
    Duration,
    Table,
    /// A table whose values are strings.
    TableOfTexts,
    Tables,
    /// Accepted, because files of Go remco have it, and never read.
    Unused,
}

/// The unit of a number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unit {
    Plain,
    Seconds,
    Bytes,
}

/// The value of a key that is not set.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Default {
    /// The key must be set.
    Needed,
    /// Nothing.
    Unset,
    Flag(bool),
    Number(u32),
    Word(&'static str),
    /// The parser of the table decides. The text is for the documentation.
    Described(&'static str),
}

/// A row.
pub(super) const fn key(name: &'static str, value: Type, default: Default, text: &'static str) -> Key {
    // Keeps the texts out of the program.
    #[cfg(not(test))]
    let _ = text;
    Key {
        name,
        value,
        default,
        secret: false,
        #[cfg(test)]
        text,
    }
}

/// A row of a string that is a credential.
pub(super) const fn secret(name: &'static str, text: &'static str) -> Key {
    Key { secret: true, ..key(name, Type::Text, Default::Unset, text) }
}

impl Schema {
    /// All rows.
    pub fn keys(&self) -> impl Iterator<Item = &'static Key> {
        self.groups.iter().flat_map(|group| group.iter())
    }

    /// The row of a key in a file: the row with its name, or with a name that differs only in case.
    pub fn known(&self, key: &str) -> Option<&'static Key> {
        let exact = self.keys().find(|row| row.name == key);
        exact.or_else(|| self.keys().find(|row| row.name.eq_ignore_ascii_case(key)))
    }
}
