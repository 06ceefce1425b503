//! Collects the findings of one load, so that one run names everything that is wrong. Turns places in expanded
//! bytes into lines and columns of the files, and never into expanded values.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;

use super::document::{Damage, Document, Span};
use super::expand::{Substitution, is_name};
use super::finding::{self, Finding, Findings};
use super::mode::{Mode, Strictness};
use super::schema::Schema;

/// Nobody reads more findings than this, and a long line with nothing but slips would be gone through for each.
const MOST: usize = 500;

/// The files of a load and what was found in them.
pub(super) struct Report {
    files: Vec<Document>,
    strictness: Strictness,
    /// What the program is to do with the configuration.
    pub mode: Mode,
    /// All kinds of tables, where an unknown key may belong; the usual places first.
    pub schemas: &'static [&'static Schema],
    /// In the order they are shown; what is found twice (default_backends count in every resource) is there once.
    found: RefCell<BTreeMap<Order, Finding>>,
    unreadable: Cell<bool>,
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
    pub fn new(strictness: Strictness, mode: Mode, schemas: &'static [&'static Schema]) -> Report {
        let (found, unreadable) = (RefCell::default(), Cell::new(false));
        Report { files: Vec::new(), strictness, mode, schemas, found, unreadable }
    }

    /// For a table that is empty: it gives the defaults, and no finding.
    pub fn of_defaults() -> Report {
        Report::new(Strictness::Lenient, Mode::Watch, &[])
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

    /// A directory that cannot be listed.
    pub fn unlisted(&self, span: Span, message: String) {
        self.unreadable.set(true);
        self.error(span, message);
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
        if let Some(one) = self.files[span.file].expanded.value_at(span.start)
            && let Some(name) = &one.name
        {
            message += &match one.set {
                true => format!(" (in the value of the variable {})", quoted(&String::from_utf8_lossy(name))),
                false => unset_clause(name),
            };
        }
        self.insert(true, span, message);
    }

    /// A `$...` that left nothing: a slip, also where the syntax is broken, which may come of it. Not reported where
    /// a finding on its line names the variable and is as grave.
    pub fn left_out(&self, file: usize, one: &Substitution, message: &str) {
        let fatal = self.strictness == Strictness::Strict;
        let document = &self.files[file];
        let line = document.line_of(one.written.start) + 1;
        if let Some(name) = one.name.as_ref().filter(|name| is_name(name)) {
            let clause = unset_clause(name);
            let names_it = |(order, finding): (&Order, &Finding)| {
                order.file == file
                    && finding.place.is_some_and(|(at, _)| at == line)
                    && (finding.fatal || !fatal)
                    && finding.message.contains(&clause)
            };
            if self.found.borrow().iter().any(names_it) {
                return;
            }
        }
        let span = Span { file, start: one.start(), end: one.start() };
        self.insert_at(fatal, span, message.to_owned(), |file| file.place_as_written(one.written.start));
    }

    /// Whether no more slips are taken in.
    pub fn is_full(&self) -> bool {
        self.found.borrow().len() >= if self.strictness == Strictness::Strict { 2 * MOST } else { MOST }
    }

    pub fn files(&self) -> &[Document] {
        &self.files
    }

    /// A file that cannot be read.
    pub fn unread(&self, number: usize, message: String) {
        self.unreadable.set(true);
        self.of_file(true, number, message);
    }

    /// Something that is not there in a file as a whole, which is allowed and hardly meant.
    pub fn lacking_in_file(&self, number: usize, message: String) {
        if self.is_sound() {
            self.of_file(false, number, message);
        }
    }

    fn of_file(&self, fatal: bool, number: usize, message: String) {
        let file = self.files[number].path.clone();
        let order = Order { file: number, at: 0, warning: !fatal, message: message.clone() };
        let finding = Finding { fatal, file, place: None, message, excerpt: String::new() };
        self.found.borrow_mut().insert(order, finding);
    }

    fn push(&self, fatal: bool, span: Span, message: String) {
        if !self.files[span.file].is_broken_at(span) {
            self.insert(fatal, span, message);
        }
    }

    fn insert(&self, fatal: bool, span: Span, message: String) {
        self.insert_at(fatal, span, message, |file| file.place(span.start));
    }

    fn insert_at(&self, fatal: bool, span: Span, message: String, place: impl Fn(&Document) -> (usize, usize)) {
        let mut found = self.found.borrow_mut();
        // Errors have as much room again, so that none can be lost behind warnings.
        let order = Order { file: span.file, at: span.start, warning: !fatal, message: message.clone() };
        if found.len() >= if fatal { 2 * MOST } else { MOST } || found.contains_key(&order) {
            return;
        }
        let file = &self.files[span.file];
        let (line, column) = place(file);
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
        let inside = self.files[span.file].expanded.inside(span.range());
        let name = inside.iter().filter(|one| !one.set).find_map(|one| one.name.as_ref());
        name.map_or(String::new(), |name| unset_clause(name))
    }

    /// See [`Document::inside_string`].
    pub fn inside_string(&self, string: Span, offset: usize) -> Span {
        self.files[string.file].inside_string(string, offset)
    }

    /// All findings, by file and place.
    pub fn finish(self) -> Findings {
        Findings { list: self.found.into_inner().into_values().collect(), unreadable: self.unreadable.get() }
    }
}

/// What a message about a value adds where a variable left nothing in it. A name that is none, such as half a file
/// behind an unclosed `${`, has a finding of its own.
fn unset_clause(name: &[u8]) -> String {
    if !is_name(name) {
        return String::new();
    }
    format!(" (the variable {} is not set)", quoted(&String::from_utf8_lossy(name)))
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
