//! Collects the findings of one load, so that one run names everything that is wrong. Turns places in expanded
//! bytes into lines and columns of the files, and never into expanded values.

use std::cell::RefCell;
use std::collections::BTreeMap;

use super::Strictness;
use super::document::{Damage, Document, Span};
use super::finding::{self, Finding};

/// Nobody reads more findings than this, and a long line with nothing but slips would be gone through for each.
const MOST: usize = 500;

/// The files of a load and what was found in them.
pub(super) struct Report {
    files: Vec<Document>,
    strictness: Strictness,
    /// In the order they are shown; what is found twice (default_backends count in every resource) is there once.
    found: RefCell<BTreeMap<Order, Finding>>,
}

/// By file and expanded offset, errors before warnings.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Order {
    file: usize,
    at: usize,
    warning: bool,
    message: String,
}

impl Report {
    pub fn new(strictness: Strictness) -> Report {
        Report { files: Vec::new(), strictness, found: RefCell::default() }
    }

    /// Takes a file in and gives its number.
    pub fn add(&mut self, file: Document) -> usize {
        self.files.push(file);
        self.files.len() - 1
    }

    pub fn file_mut(&mut self, number: usize) -> &mut Document {
        &mut self.files[number]
    }

    /// Something that is there and wrong.
    pub fn error(&self, span: Span, message: impl Into<String>) {
        self.push(true, span, message.into());
    }

    /// Something that is needed and not there. Said only where all syntax is sound: it may be in the damaged part.
    pub fn missing(&self, span: Span, message: impl Into<String>) {
        if self.is_sound() {
            self.push(true, span, message.into());
        }
    }

    /// Something that is not there, which is allowed and hardly meant.
    pub fn lacking(&self, span: Span, message: impl Into<String>) {
        if self.is_sound() {
            self.push(false, span, message.into());
        }
    }

    fn is_sound(&self) -> bool {
        self.files.iter().all(|file| file.damage == Damage::None)
    }

    /// Something that could be a slip and changes nothing: an error only where the user wants it to be.
    pub fn slip(&self, span: Span, message: impl Into<String>) {
        self.push(self.strictness == Strictness::Strict, span, message.into());
    }

    pub fn warn(&self, span: Span, message: impl Into<String>) {
        self.push(false, span, message.into());
    }

    /// A syntax error.
    pub fn broken(&self, span: Span, mut message: String) {
        if let Some(hole) = self.files[span.file].expanded.value_at(span.start)
            && let Some(name) = &hole.name
        {
            let name = String::from_utf8_lossy(name);
            message += &match hole.set {
                true => format!(" (in the value of the variable {})", quoted(&name)),
                false => format!(" (the variable {} is not set)", quoted(&name)),
            };
        }
        self.insert(true, span, message);
    }

    /// A finding about a file as a whole.
    pub fn file_error(&self, number: usize, message: String) {
        let file = self.files[number].path.clone();
        let order = Order { file: number, at: 0, warning: false, message: message.clone() };
        let finding = Finding { fatal: true, file, place: None, message, excerpt: String::new() };
        self.found.borrow_mut().insert(order, finding);
    }

    fn push(&self, fatal: bool, span: Span, message: String) {
        if !self.files[span.file].is_broken_at(span) {
            self.insert(fatal, span, message);
        }
    }

    fn insert(&self, fatal: bool, span: Span, message: String) {
        let mut found = self.found.borrow_mut();
        // Errors have as much room again, so that none can be lost behind warnings.
        let order = Order { file: span.file, at: span.start, warning: !fatal, message: message.clone() };
        if found.len() >= if fatal { 2 * MOST } else { MOST } || found.contains_key(&order) {
            return;
        }
        let file = &self.files[span.file];
        let (line, column) = file.place(span.start);
        let excerpt = finding::excerpt(&file.line(line), line, column);
        let finding = Finding { fatal, file: file.path.clone(), place: Some((line, column)), message, excerpt };
        found.insert(order, finding);
    }

    /// `file:line:col` of a place, to point from one finding to another place.
    pub fn location(&self, span: Span) -> String {
        let file = &self.files[span.file];
        let (line, column) = file.place(span.start);
        format!("{}:{line}:{column}", file.path.display())
    }

    /// Whether a value stands in the file as it is, with no variable in it.
    pub fn is_literal(&self, span: Span) -> bool {
        self.files[span.file].expanded.inside(span.range()).is_empty()
    }

    /// A value for a message, as the file has it: a `$NAME` is shown as such, not what it stands for.
    pub fn show(&self, span: Span, value: &str) -> String {
        if self.is_literal(span) {
            return quoted(value);
        }
        let file = &self.files[span.file];
        quoted(file.as_written(span).trim_matches(['"', '\'']))
    }

    /// Names the variables that left nothing in a value: `` (the variable `X` is not set)``, or nothing.
    pub fn unset(&self, span: Span) -> String {
        let holes = self.files[span.file].expanded.inside(span.range());
        let name = holes.iter().filter(|hole| !hole.set).find_map(|hole| hole.name.as_ref());
        name.map_or(String::new(), |name| {
            format!(" (the variable {} is not set)", quoted(&String::from_utf8_lossy(name)))
        })
    }

    /// See [`Document::inside_string`].
    pub fn inside_string(&self, string: Span, offset: usize) -> Span {
        self.files[string.file].inside_string(string, offset)
    }

    /// All findings, by file and place.
    pub fn finish(self) -> Vec<Finding> {
        self.found.into_inner().into_values().collect()
    }
}

/// A text in backquotes, short and without control characters.
pub(super) fn quoted(text: &str) -> String {
    const LONGEST: usize = 60;
    let mut shown: String = text
        .chars()
        .take(LONGEST)
        .flat_map(|c| if c.is_control() { c.escape_default().collect() } else { vec![c] })
        .collect();
    if text.chars().count() > LONGEST {
        shown.push_str("...");
    }
    format!("`{shown}`")
}
