//! Collects the findings of one load, so that one run reports all errors. Converts places in expanded bytes to lines
//! and columns of the files. Never shows an expanded value.

use std::cell::{Cell, RefCell};
use std::ffi::OsString;

use super::document::{Damage, Document, Span};
use super::excerpt::{Shows, excerpt, sole_key};
use super::expand::{Substitution, is_name};
use super::finding::{Finding, Findings};
use super::mode::{Mode, Strictness};
use super::schema::{Key, Schema, Type};
use super::source::Source;
use crate::sorted::SortedMap;

/// The largest number of warnings. More help no reader, and each one costs a pass over its line.
const MOST: usize = 500;

/// The files of a load and their findings. Cells, because readers share the report.
pub(super) struct Report {
    files: Vec<Document>,
    strictness: Strictness,
    /// The mode in which the configuration is used.
    pub mode: Mode,
    /// All kinds of tables that an unknown key may belong to, the usual ones first.
    pub schemas: &'static [&'static Schema],
    /// Environment variables of the stores' own clients that are set and not empty.
    variables: SortedMap<&'static str, String>,
    /// In the order of the output. A repeated finding, as of default_backends for every resource, is here once.
    found: RefCell<SortedMap<Order, Finding>>,
    unreadable: Cell<bool>,
    /// Whether the machine is checked too.
    pub is_thorough: bool,
    /// The programs of commands, for that check.
    programs: RefCell<Vec<(Span, OsString)>>,
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
    /// A report without files, variables and findings.
    pub fn new(strictness: Strictness, mode: Mode, schemas: &'static [&'static Schema]) -> Report {
        let (found, unreadable) = (RefCell::default(), Cell::new(false));
        Report {
            files: Vec::new(),
            strictness,
            mode,
            schemas,
            variables: SortedMap::new(),
            found,
            unreadable,
            is_thorough: false,
            programs: RefCell::default(),
        }
    }

    /// Adds environment variables of the stores' own clients. A variable that is empty or not UTF-8 counts as not set.
    pub fn with_variables(self, names: &[&'static str], source: &dyn Source) -> Report {
        let set = |name: &&'static str| {
            let value = String::from_utf8(source.var(name.as_bytes())?).ok()?;
            (!value.is_empty()).then_some((*name, value))
        };
        Report { variables: names.iter().filter_map(set).collect(), ..self }
    }

    /// The value of such a variable. No message shows it.
    pub fn variable(&self, name: &str) -> Option<&str> {
        self.variables.get(name).map(String::as_str)
    }

    /// The report for an empty table, which gives the defaults and no finding.
    pub fn of_defaults() -> Report {
        Report::new(Strictness::Lenient, Mode::Watch, &[])
    }

    /// Adds a file and returns its number.
    pub fn add(&mut self, file: Document) -> usize {
        self.files.push(file);
        self.files.len() - 1
    }

    /// The file of a number that [`Report::add`] returned. Panics for other numbers.
    pub fn file_mut(&mut self, number: usize) -> &mut Document {
        &mut self.files[number]
    }

    /// The number of findings so far.
    pub fn count(&self) -> usize {
        self.found.borrow().len()
    }

    /// Reports a path that is too long for a unix socket.
    pub fn check_socket(&self, span: Span, path: &str) {
        /// In bytes: the size of the kernel's `sun_path`, without its end.
        const LONGEST: usize = 107;
        if path.len() > LONGEST {
            let length = path.len();
            self.error(span, format!("the path of this socket has {length} bytes: at most {LONGEST} are possible"));
        }
    }

    /// An error at a place.
    pub fn error(&self, span: Span, message: impl Into<String>) {
        self.push(true, span, message.into());
    }

    /// An error of a value that is, or should be, an address: a part of it may be a password, and is not shown.
    pub fn error_in_address(&self, span: Span, message: String) {
        self.push_showing(true, span, message, Shows::Address);
    }

    /// As [`Report::error_in_address`], a warning.
    pub fn warn_in_address(&self, span: Span, message: String) {
        self.push_showing(false, span, message, Shows::Address);
    }

    /// An error of an entry of a table whose keys are free, such as headers: no value is shown.
    pub fn error_in_free_table(&self, span: Span, message: String) {
        self.push_showing(true, span, message, Shows::Keys);
    }

    /// An error of a value whose content does not matter: it may be a secret, and a string is not shown.
    pub fn error_of_type(&self, span: Span, message: String) {
        self.push_showing(true, span, message, Shows::Numbers);
    }

    /// A directory that cannot be listed.
    pub fn unreadable_directory(&self, span: Span, message: String) {
        self.unreadable.set(true);
        self.error(span, message);
    }

    /// A required key that is not set. Reported only if no file has a syntax error: the key may be in the damaged part.
    pub fn missing(&self, span: Span, message: impl Into<String>) {
        if self.is_sound() {
            self.push(true, span, message.into());
        }
    }

    /// A key that is not set, which is allowed and probably a mistake: a warning.
    pub fn warn_missing(&self, span: Span, message: impl Into<String>) {
        if self.is_sound() {
            self.push(false, span, message.into());
        }
    }

    fn is_sound(&self) -> bool {
        self.files.iter().all(|file| file.damage == Damage::None)
    }

    /// A probable mistake without effect: a warning, or with `--strict` an error.
    pub fn lint(&self, span: Span, message: impl Into<String>) {
        self.push(self.strictness == Strictness::Strict, span, message.into());
    }

    /// As [`Report::lint`], for a key of any meaning: its value may be a secret and is not shown.
    pub fn lint_unknown(&self, key: Span, message: String) {
        self.push_showing(self.strictness == Strictness::Strict, key, message, Shows::Keys);
    }

    /// A warning at a place. Unlike [`Report::warn_missing`], also reports it if other lines have syntax errors.
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
        self.insert(true, span, message, Shows::Numbers);
    }

    /// A `$...` without a value, a probable mistake. Reported even if there are syntax errors, which it may have
    /// caused. Not reported if a finding on its line names the variable and is at least as severe.
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
        let place = |file: &Document| file.place_as_written(one.written.start);
        self.insert_at(fatal, span, message.to_owned(), place, Shows::Numbers);
    }

    /// Whether further warnings are dropped.
    pub fn is_full(&self) -> bool {
        self.found.borrow().len() >= if self.strictness == Strictness::Strict { 2 * MOST } else { MOST }
    }

    /// All files. The index of a file is its number.
    pub fn files(&self) -> &[Document] {
        &self.files
    }

    /// A file that cannot be read.
    pub fn unreadable_file(&self, number: usize, message: String) {
        self.unreadable.set(true);
        self.of_file(true, number, message);
    }

    /// Like `warn_missing`, for the file as a whole. Not reported if a file could not be read: that file may have the
    /// key.
    pub fn warn_missing_in_file(&self, number: usize, message: String) {
        if self.is_sound() && !self.unreadable.get() {
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
        self.push_showing(fatal, span, message, Shows::Subject);
    }

    fn push_showing(&self, fatal: bool, span: Span, message: String, shows: Shows) {
        if !self.files[span.file].is_broken_at(span) {
            self.insert(fatal, span, message, shows);
        }
    }

    fn insert(&self, fatal: bool, span: Span, message: String, shows: Shows) {
        self.insert_at(fatal, span, message, |file| file.place(span.start), shows);
    }

    fn insert_at(
        &self,
        fatal: bool,
        span: Span,
        message: String,
        place: impl Fn(&Document) -> (usize, usize),
        shows: Shows,
    ) {
        let mut found = self.found.borrow_mut();
        // Twice as many errors are kept as warnings, so that warnings cannot displace errors.
        let order = Order { file: span.file, at: span.start, warning: !fatal, message: message.clone() };
        if found.len() >= if fatal { 2 * MOST } else { MOST } || found.contains_key(&order) {
            return;
        }
        let file = &self.files[span.file];
        let (line, column) = place(file);
        let text = file.line(line);
        let shows = if shows == Shows::Numbers && self.is_harmless(&text) { Shows::Line } else { shows };
        let is_known = |word: &str| self.schemas.iter().any(|schema| schema.known(word).is_some());
        let excerpt = excerpt(&text, line, column, shows, &is_known);
        let finding = Finding { fatal, file: file.path.clone(), place: Some((line, column)), message, excerpt };
        found.insert(order, finding);
    }

    /// Whether a line sets one key, by a single value, that is known, and in no table a secret or an address.
    fn is_harmless(&self, line: &str) -> bool {
        const ADDRESSES: [&str; 4] = ["nodes", "node", "addr", "filepath"];
        let is_plain = |row: &Key| {
            !row.secret
                && !matches!(row.value, Type::Table | Type::TableOfTexts | Type::Tables)
                && !ADDRESSES.contains(&row.name)
        };
        let Some(key) = sole_key(line) else { return false };
        let mut rows = self.schemas.iter().filter_map(|schema| schema.known(key)).peekable();
        rows.peek().is_some() && rows.all(is_plain)
    }

    /// `file:line:col` of a place, for the message of a finding at another place.
    pub fn location(&self, span: Span) -> String {
        let file = &self.files[span.file];
        let (line, column) = file.place(span.start);
        format!("{}:{line}:{column}", file.path.display())
    }

    /// Whether a value has no variable in it.
    pub fn is_literal(&self, span: Span) -> bool {
        self.files[span.file].expanded.inside(span.range()).is_empty()
    }

    /// A value for a message, in the text of the file: `$NAME` is shown, never its value.
    pub fn show(&self, span: Span, value: &str) -> String {
        if self.is_literal(span) {
            return quoted(value);
        }
        let file = &self.files[span.file];
        quoted(file.as_written(span).trim_matches(['"', '\'']))
    }

    /// Names an unset variable of a value: `` (the variable `X` is not set)``, or nothing.
    pub fn unset(&self, span: Span) -> String {
        let inside = self.files[span.file].expanded.inside(span.range());
        let name = inside.iter().filter(|one| !one.set).find_map(|one| one.name.as_ref());
        name.map_or(String::new(), |name| unset_clause(name))
    }

    /// See [`Document::inside_string`].
    pub fn inside_string(&self, string: Span, offset: usize) -> Span {
        self.files[string.file].inside_string(string, offset)
    }

    /// Notes the program of a command, if programs are checked.
    pub fn note_program(&self, span: Span, program: impl FnOnce() -> Option<OsString>) {
        if self.is_thorough {
            self.programs.borrow_mut().extend(program().map(|program| (span, program)));
        }
    }

    /// The programs that were noted.
    pub fn programs(&self) -> Vec<(Span, OsString)> {
        self.programs.take()
    }

    /// All findings, by file and place.
    pub fn finish(self) -> Findings {
        Findings {
            list: self.found.into_inner().into_iter().map(|(_, finding)| finding).collect(),
            unreadable: self.unreadable.get(),
        }
    }
}

/// The addition to the message of a value with a variable that is not set. An invalid name, such as half a file after
/// an unclosed `${`, has a finding of its own.
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
