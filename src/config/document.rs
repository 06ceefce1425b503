//! One file: its written and its expanded bytes, and their TOML tree with the place of every key and value. The only
//! file that uses the `toml` crate. Checks the syntax, not the meaning.

use std::cell::OnceCell;
use std::collections::BTreeSet;
use std::ops::Range;
use std::path::{Path, PathBuf};

use toml::de::{DeTable, DeValue};

use super::expand::{self, Expanded};
use super::strings::lines_in_strings;
use crate::cut::cut;

/// A range of one file's expanded bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Span {
    pub file: usize,
    pub start: usize,
    pub end: usize,
}

impl Span {
    /// The range as byte offsets into the file's expanded text.
    pub fn range(self) -> Range<usize> {
        self.start..self.end
    }
}

#[derive(Debug)]
pub(super) struct Node {
    pub span: Span,
    pub value: Value,
}

#[derive(Debug)]
pub(super) enum Value {
    Text(String),
    /// `None`: it does not fit 64 bits.
    Integer(Option<i64>),
    Float(String),
    Boolean(bool),
    Date(String),
    List(Vec<Node>),
    Table(Table),
}

/// The entries of a table, in the order of their places.
#[derive(Debug)]
pub(super) struct Table {
    pub entries: Vec<Entry>,
}

impl Table {
    /// The entry of a documented name: the one with this spelling, else the first that differs only in case.
    pub fn find(&self, name: &str) -> Option<&Entry> {
        let exact = self.entries.iter().find(|entry| entry.key == name);
        exact.or_else(|| self.entries.iter().find(|entry| entry.key.eq_ignore_ascii_case(name)))
    }
}

#[derive(Debug)]
pub(super) struct Entry {
    pub key: String,
    pub key_span: Span,
    pub node: Node,
}

/// A file as text and tree.
pub(super) struct Document {
    pub path: PathBuf,
    written: Vec<u8>,
    pub expanded: Expanded,
    /// The offsets of the lines of `written`.
    lines: Vec<usize>,
    /// See [`lines_in_strings`]. Known since the first finding.
    lines_in_strings: OnceCell<Vec<usize>>,
    pub damage: Damage,
}

/// The extent of damage to the tree of a file.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Damage {
    None,
    /// Syntax errors that stay within their lines (numbers from 0): the rest of the tree is sound.
    Lines(BTreeSet<usize>),
    /// Tables or keys may be lost or in the wrong place.
    Structure,
}

/// A reported syntax error.
#[derive(Debug)]
pub(super) struct SyntaxError {
    pub span: Span,
    pub message: String,
}

/// A syntax error of the toml crate.
struct Fault<'e> {
    at: usize,
    message: &'e str,
}

impl Document {
    /// Expands a file; `parse` makes the tree.
    pub fn new(path: &Path, written: Vec<u8>, var: &dyn Fn(&[u8]) -> Option<Vec<u8>>) -> Document {
        let expanded = expand::expand(&written, var);
        let newlines = written.iter().enumerate().filter(|(_, b)| **b == b'\n').map(|(at, _)| at + 1);
        let lines = std::iter::once(0).chain(newlines).collect();
        Document {
            path: path.to_path_buf(),
            written,
            expanded,
            lines,
            lines_in_strings: OnceCell::new(),
            damage: Damage::None,
        }
    }

    /// The tree, as complete as possible, and the syntax errors. `number` is the number of the file in every [`Span`].
    pub fn parse(&mut self, number: usize) -> (Table, Vec<SyntaxError>) {
        let span = |range: Range<usize>| Span { file: number, start: range.start, end: range.end };
        let text = match str::from_utf8(&self.expanded.bytes) {
            Ok(text) => text,
            Err(error) => {
                let at = error.valid_up_to();
                let message = "a byte that is not UTF-8: save the file as UTF-8".to_owned();
                self.damage = Damage::Structure;
                return (Table { entries: Vec::new() }, vec![SyntaxError { span: span(at..at + 1), message }]);
            }
        };
        let (root, errors) = DeTable::parse_recoverable(text);
        let mut errors: Vec<Fault> = errors
            .iter()
            .map(|error| {
                let at = error.span().map_or(text.len(), |span| cut(text, span.start).len());
                Fault { at, message: error.message() }
            })
            .collect();
        errors.sort_by_key(|fault| fault.at);
        let (faults, damage) = self.separate(text, errors);
        let mut broken: Vec<SyntaxError> = faults
            .into_iter()
            .map(|fault| {
                let line = text[line_around(text, fault.at)].trim_start();
                let message = format!("invalid TOML: {}", explain(fault.message, line));
                SyntaxError { span: span(fault.at..fault.at), message }
            })
            .collect();
        let mut table = Table { entries: Vec::new() };
        if damage != Damage::Structure {
            let mut deepest = None;
            table = Tree { file: number, deepest: &mut deepest }.table(root.into_inner(), 0);
            if let Some(span) = deepest.filter(|_| broken.is_empty()) {
                broken
                    .push(SyntaxError { span, message: format!("tables and lists are nested deeper than {DEEPEST}") });
            }
        }
        self.damage = damage;
        (table, broken)
    }

    /// Drops the faults that follow from earlier ones. The first fault is real. A later fault is real if its line alone
    /// has the fault too; then the damage ends with the line.
    fn separate<'e>(&self, text: &str, faults: Vec<Fault<'e>>) -> (Vec<Fault<'e>>, Damage) {
        if faults.is_empty() {
            return (faults, Damage::None);
        }
        let mut kept: Vec<Fault> = Vec::new();
        let mut lines = BTreeSet::new();
        let mut structure = false;
        // Only one fault of a line is reported, because each costs a parse of the line.
        let mut seen_to = None;
        for fault in faults {
            if seen_to.is_some_and(|end| fault.at <= end) {
                continue;
            }
            if kept.len() == MOST_FAULTS {
                structure = true;
                break;
            }
            let line = line_around(text, fault.at);
            seen_to = Some(line.end);
            lines.insert(self.line_of(self.expanded.written(fault.at)));
            let alone = DeTable::parse_recoverable(&text[line.clone()]).1.iter().any(|error| {
                let at = error.span().map_or(line.len(), |span| span.start);
                at + line.start == fault.at && error.message() == fault.message
            });
            // A duplicate key shows only beside the other key, but damages nothing else.
            let own = alone || (fault.message == "duplicate key" && !structure);
            // After a broken header, keys are in the wrong table. The toml crate stops parsing at a key without a
            // value.
            let header = text[line].trim_start().starts_with('[');
            structure |= !own || header || fault.message.starts_with("key with no value");
            if own || kept.is_empty() {
                kept.push(fault);
            }
        }
        (kept, if structure { Damage::Structure } else { Damage::Lines(lines) })
    }

    /// Line and column, from 1, of an expanded byte; columns count characters.
    pub fn place(&self, at: usize) -> (usize, usize) {
        self.place_as_written(self.expanded.written(at))
    }

    /// Line and column, from 1, of a byte of the file.
    pub fn place_as_written(&self, at: usize) -> (usize, usize) {
        let at = at.min(self.written.len());
        let line = self.line_of(at);
        let before = &self.written[self.lines[line]..at];
        let before = before.strip_prefix(BYTE_ORDER_MARK).unwrap_or(before);
        // Every byte except a continuation byte begins a character of UTF-8.
        (line + 1, before.iter().filter(|byte| **byte & 0xc0 != 0x80).count() + 1)
    }

    /// A line as written, by its number from 1; empty if it is longer than `LONGEST_LINE`, or if it may be a part of a
    /// string of the line before, which may be a secret.
    pub fn line(&self, number: usize) -> String {
        if self.lines_in_strings.get_or_init(|| lines_in_strings(&self.written)).binary_search(&(number - 1)).is_ok() {
            return String::new();
        }
        let start = self.lines[number - 1];
        let end = self.lines.get(number).map_or(self.written.len(), |next| next - 1);
        let line = &self.written[start..end];
        if line.len() > LONGEST_LINE {
            return String::new();
        }
        let line = line.strip_prefix(BYTE_ORDER_MARK).unwrap_or(line);
        String::from_utf8_lossy(line.strip_suffix(b"\r").unwrap_or(line)).into_owned()
    }

    /// The bytes of the file in a range of it.
    pub fn written(&self, range: Range<usize>) -> &[u8] {
        &self.written[range]
    }

    /// The byte of the file at a place of it.
    pub fn after(&self, at: usize) -> Option<&u8> {
        self.written.get(at)
    }

    /// The number, from 0, of the line that a byte of the file is on.
    pub fn line_of(&self, written: usize) -> usize {
        self.lines.partition_point(|start| *start <= written) - 1
    }

    /// Whether a syntax error has been reported on the line where a span begins.
    pub fn is_broken_at(&self, span: Span) -> bool {
        match &self.damage {
            Damage::None => false,
            Damage::Lines(lines) => lines.contains(&self.line_of(self.expanded.written(span.start))),
            Damage::Structure => true,
        }
    }

    /// The text of a span in the file, with unexpanded variables.
    pub fn as_written(&self, span: Span) -> String {
        let range = self.expanded.written_range(span.range());
        String::from_utf8_lossy(&self.written[range]).into_owned()
    }

    /// The place in a string's source of a byte of its value; the beginning of the string if the place is unknown.
    pub fn inside_string(&self, string: Span, offset: usize) -> Span {
        let source = &self.expanded.bytes[string.range()];
        let at = string.start + source_offset(source, offset).unwrap_or(0);
        Span { file: string.file, start: at, end: at }
    }
}

/// The byte order mark, which some editors put before the first line.
const BYTE_ORDER_MARK: &[u8] = "\u{feff}".as_bytes();

/// The report keeps no more faults, and each costs a parse of its line.
const MOST_FAULTS: usize = 1000;

/// The longest line that is shown, in bytes. A longer line is generated, and each finding costs a pass over its line.
const LONGEST_LINE: usize = 4096;

/// The deepest tree, far deeper than the keys. Bounds the recursion here and in every walk over the tree.
const DEEPEST: usize = 64;

/// Converts the tree of the toml crate.
struct Tree<'a> {
    file: usize,
    /// The first place below that depth.
    deepest: &'a mut Option<Span>,
}

impl Tree<'_> {
    fn table(&mut self, table: DeTable, depth: usize) -> Table {
        let mut entries: Vec<Entry> = table
            .into_iter()
            .map(|(key, value)| Entry {
                key_span: self.span(key.span()),
                key: key.into_inner().into_owned(),
                node: self.node(value, depth + 1),
            })
            .collect();
        entries.sort_by_key(|entry| entry.key_span);
        Table { entries }
    }

    fn node(&mut self, value: toml::Spanned<DeValue>, depth: usize) -> Node {
        let span = self.span(value.span());
        let value = match value.into_inner() {
            DeValue::String(text) => Value::Text(text.into_owned()),
            DeValue::Integer(digits) => Value::Integer(i64::from_str_radix(digits.as_str(), digits.radix()).ok()),
            DeValue::Float(digits) => Value::Float(digits.as_str().to_owned()),
            DeValue::Boolean(value) => Value::Boolean(value),
            DeValue::Datetime(date) => Value::Date(date.to_string()),
            DeValue::Array(_) | DeValue::Table(_) if depth > DEEPEST => {
                self.deepest.get_or_insert(span);
                Value::List(Vec::new())
            }
            DeValue::Array(items) => Value::List(items.into_iter().map(|item| self.node(item, depth + 1)).collect()),
            DeValue::Table(table) => Value::Table(self.table(table, depth + 1)),
        };
        Node { span, value }
    }

    fn span(&self, range: Range<usize>) -> Span {
        Span { file: self.file, start: range.start, end: range.end }
    }
}

/// Replaces a message of the toml crate by one with advice. Keeps a message that is not in the table.
fn explain(message: &str, line: &str) -> String {
    const UNQUOTED: &str = "a value is missing here, or it is text without quotes";
    /// The beginning of toml's message, and its replacement.
    const WORDS: &[(&str, &str)] = &[
        ("string values must be quoted", UNQUOTED),
        // Unquoted text that begins like `true`, `inf` or a number.
        ("invalid boolean", UNQUOTED),
        ("invalid float", UNQUOTED),
        ("invalid date", UNQUOTED),
        ("unexpected key or value", "unexpected text here: a line has one key and one value"),
        ("invalid unquoted key", "a key has letters, digits, `-` and `_` only, or quotes, and then a `=`"),
        ("invalid basic string", "the text has no closing `\"`"),
        ("invalid literal string", "the text has no closing `'`"),
        ("missing escaped value", "unknown escape: write a backslash as `\\\\`, or put the text in single quotes"),
        ("unexpected leading zero", "a number cannot begin with 0 (a file mode is text: `mode = \"0644\"`)"),
        ("missing comma between array elements", "a `,` is missing before this, or the `]` of the list"),
        ("unclosed array table", "the header does not end with `]]`"),
        ("unclosed table", "the header does not end with `]`"),
    ];
    if message == "duplicate key" {
        return match line {
            _ if line.starts_with("[[") => "this name is already set above, and not as a list of tables".to_owned(),
            _ if line.starts_with('[') => {
                "this table is already open above (for several tables write `[[...]]` every time)".to_owned()
            }
            _ => "this key is already set above".to_owned(),
        };
    }
    let known = WORDS.iter().find(|(begins, _)| message.starts_with(begins));
    known.map_or(message.trim_end_matches(", expected nothing"), |(_, words)| words).to_owned()
}

/// The line of an offset, without its newline.
fn line_around(text: &str, at: usize) -> Range<usize> {
    let start = text[..at].rfind('\n').map_or(0, |newline| newline + 1);
    let end = text[at..].find('\n').map_or(text.len(), |length| at + length);
    start..end
}

/// The offset in the source of a TOML string, with its quotes, of the byte at an offset of its value.
fn source_offset(source: &[u8], offset: usize) -> Option<usize> {
    let quote = *source.first()?;
    let multi_line = source.len() >= 6 && source[1] == quote && source[2] == quote;
    let mut at = if multi_line { 3 } else { 1 };
    if multi_line {
        // A newline directly behind the quotes is not part of the value.
        at += if source[at..].starts_with(b"\r\n") { 2 } else { usize::from(source[at] == b'\n') };
    }
    let mut left = offset;
    loop {
        let (taken, made) = match *source.get(at)? {
            b'\\' if quote == b'"' => match *source.get(at + 1)? {
                b'u' => (6, unicode_length(source.get(at + 2..at + 6)?)?),
                b'U' => (10, unicode_length(source.get(at + 2..at + 10)?)?),
                b'x' => (4, unicode_length(source.get(at + 2..at + 4)?)?),
                // The end of a continued line and the space at the start of the next line are not in the value.
                b'\n' | b'\r' | b' ' | b'\t' => {
                    (1 + source[at + 1..].iter().take_while(|b| b.is_ascii_whitespace()).count(), 0)
                }
                _ => (2, 1),
            },
            _ => (1, 1),
        };
        if left == 0 && made > 0 {
            return Some(at);
        }
        at += taken;
        left = left.saturating_sub(made);
    }
}

fn unicode_length(digits: &[u8]) -> Option<usize> {
    let code = u32::from_str_radix(str::from_utf8(digits).ok()?, 16).ok()?;
    char::from_u32(code).map(char::len_utf8)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(written: &str) -> Document {
        let var = |name: &[u8]| (name == b"V").then(|| b"value".to_vec());
        Document::new(Path::new("config"), written.as_bytes().to_vec(), &var)
    }

    /// The syntax errors as `line:column message`, and the rest of the tree.
    #[track_caller]
    fn check(written: &str, expected: &[&str], damage: &str) -> Table {
        let mut file = file(written);
        let (table, broken) = file.parse(0);
        let shown: Vec<String> = broken
            .iter()
            .map(|broken| {
                let (line, column) = file.place(broken.span.start);
                format!("{line}:{column} {}", broken.message.trim_start_matches("invalid TOML: "))
            })
            .collect();
        assert_eq!(shown, expected, "{written}");
        let left = match file.damage {
            Damage::None => "none",
            Damage::Lines(_) => "lines",
            Damage::Structure => "structure",
        };
        assert_eq!(left, damage, "{written}");
        table
    }

    #[test]
    fn keeps_what_is_sound_beside_a_broken_line() {
        let value = "a value is missing here, or it is text without quotes";
        let table = check("a = 6o\nb = 1\n", &[&format!("1:5 {value}")], "lines");
        assert_eq!(table.entries.len(), 2);
        check(
            "a = 6o\nb = 7o\n[t]\nc = x\n",
            &["1:5", "2:5", "4:5"].map(|at| format!("{at} {value}")).each_ref().map(|s| &**s),
            "lines",
        );
        check("a = 1\na = 2", &["2:1 this key is already set above"], "lines");
        check("a = \"x\nb = 1", &["1:7 the text has no closing `\"`"], "lines");
    }

    #[test]
    fn stops_at_more_faults_than_are_reported() {
        let mut file = file(&"a = 1\n".repeat(3 * MOST_FAULTS));
        let (_, broken) = file.parse(0);
        assert_eq!(broken.len(), MOST_FAULTS);
        assert_eq!(file.damage, Damage::Structure);
    }

    #[test]
    fn reports_no_errors_that_follow_from_others() {
        check(
            "a = [1, 2\nb = 3\n[[t]]\nc = 4\n",
            &["2:1 a `,` is missing before this, or the `]` of the list"],
            "structure",
        );
        check("[[r]\nname = 1", &["1:5 the header does not end with `]]`"], "structure");
        check("resource\nb = 1", &["1:9 key with no value, expected `=`"], "structure");
        check(
            "[t]\n[t]",
            &["2:2 this table is already open above (for several tables write `[[...]]` every time)"],
            "structure",
        );
    }

    #[test]
    fn takes_what_editors_leave() {
        check("\u{feff}a = 1\r\nb = 2\r\n", &[], "none");
        let file = file("\u{feff}a = 1\r\n");
        assert_eq!(file.place(3), (1, 1));
        assert_eq!(file.line(1), "a = 1");
    }

    #[test]
    fn points_into_the_file_as_written() {
        let mut file = file("x = \"$V\"\n\"$V\" = $V oops\nlast = 1");
        let (_, broken) = file.parse(0);
        assert_eq!(file.place(broken[0].span.start), (2, 8));
        assert_eq!(file.line(2), "\"$V\" = $V oops");
        assert_eq!(file.line(3), "last = 1");
        let end = file.expanded.bytes.len();
        assert_eq!(file.place(end), (3, 9));
        assert_eq!(file.place(end + 100), (3, 9));
    }

    #[test]
    fn shows_no_line_of_endless_length() {
        let long = format!("a = '{}'", "x".repeat(LONGEST_LINE));
        assert_eq!(file(&long).line(1), "");
        assert_eq!(file(&long).place(long.len()), (1, long.len() + 1));
    }

    #[test]
    fn caps_depth() {
        let nested = format!("a = {}{}", "[".repeat(70), "]".repeat(70));
        check(&nested, &["1:69 tables and lists are nested deeper than 64"], "none");
        let nested = format!("a = {}{}", "[".repeat(100), "]".repeat(100));
        check(&nested, &["1:85 cannot recurse further; max recursion depth met"], "lines");
    }

    #[test]
    fn finds_places_inside_strings() {
        let check = |source: &str, value: &str, needle: &str| {
            let expected = source.find(needle);
            let offset = value.find(needle).expect("the needle is in the value");
            assert_eq!(source_offset(source.as_bytes(), offset), expected, "{source}");
            let table = check(&format!("a = {source}"), &[], "none");
            assert!(matches!(&table.entries[0].node.value, Value::Text(text) if text == value), "{source}");
        };
        check("\"abc\"", "abc", "a");
        check("\"abc\"", "abc", "c");
        check("'a\\nX'", "a\\nX", "X");
        check("\"a\\nX\"", "a\nX", "X");
        check("\"\\u00e4X\"", "\u{e4}X", "X");
        check("\"\\U0001F600X\"", "\u{1f600}X", "X");
        check("\"\\x41X\"", "AX", "X");
        check("\"\"\"\nabX\"\"\"", "abX", "X");
        check("\"\"\"ab\\\n   X\"\"\"", "abX", "X");
        check("'\'\'\na\nX\'\'\'".replace("\\'", "'").as_str(), "a\nX", "X");
        assert_eq!(source_offset(b"\"\"", 0), Some(1));
        assert_eq!(source_offset(b"\"ab\"", 9), None);
    }
}
