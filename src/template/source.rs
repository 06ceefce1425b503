//! Template files, places in them, and the error that shows one of these places. Reads no files and knows nothing of
//! the language.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::fmt;
use std::iter;
use std::path::{Path, PathBuf};

use crate::width;

/// A template that cannot be compiled or rendered. Prints as
///
/// ```text
/// haproxy.tmpl:4:32: getv: key does not exist: /config/exampleService/weight
/// 4 |     server {{ dir | base }} {{ getv(printf("/config/%s/weight", dir)) }}
/// |                                ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^
/// ```
///
/// with the place of the failure in the first line, and the failed text underlined: the column is the one of the first
/// mark. A line for each include and call that led there follows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Error(Box<Report>);

#[derive(Debug, Clone, PartialEq, Eq)]
struct Report {
    file: PathBuf,
    /// The place; `None`: the whole file, which could not be read.
    place: Option<(usize, usize)>,
    message: String,
    excerpt: Option<Excerpt>,
    /// The includes and calls that led to the place, innermost first.
    trail: Vec<String>,
    /// The number of entries that `trail` omits.
    untold: usize,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Excerpt {
    text: String,
    /// Characters of `text` before the underlined ones.
    before: usize,
    /// Characters that are underlined, at least one.
    width: usize,
}

/// The number of includes and calls that are shown, because a macro that calls itself would fill the screen.
const TRAIL: usize = 5;

impl Error {
    /// An error that concerns the whole file.
    pub(crate) fn of_file(file: &Path, message: String) -> Error {
        Error(Box::new(Report {
            file: file.to_owned(),
            place: None,
            message,
            excerpt: None,
            trail: Vec::new(),
            untold: 0,
        }))
    }

    /// Adds an include or a call that led to the place: `included from`, `called from`.
    pub(crate) fn reached(mut self, how: &str, source: &Source, from: Span) -> Error {
        if self.0.trail.len() < TRAIL {
            let (line, column) = source.place(from.start);
            let file = source.path.display();
            self.0.trail.push(format!("{how} {file}:{line}:{column}"));
        } else {
            self.0.untold += 1;
        }
        self
    }

    /// The name of the template file: as in the configuration, or as in an include, relative to its includer.
    pub fn file(&self) -> &Path {
        &self.0.file
    }

    /// The line of the failure, from 1. `None`: the error concerns the whole file.
    pub fn line(&self) -> Option<usize> {
        self.0.place.map(|(line, _)| line)
    }

    /// The column of the first mark below the line, counted in characters from 1.
    pub fn col(&self) -> Option<usize> {
        self.0.place.map(|(_, column)| column)
    }

    /// The error with another text.
    pub fn with_message(mut self, text: impl FnOnce(&str) -> String) -> Error {
        self.0.message = text(&self.0.message);
        self
    }

    /// The text of the error, without the place.
    pub fn message(&self) -> &str {
        &self.0.message
    }
}

impl std::error::Error for Error {}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let report = &*self.0;
        write!(f, "{}:", report.file.display())?;
        if let Some((line, column)) = report.place {
            write!(f, "{line}:{column}:")?;
        }
        write!(f, " {}", report.message)?;
        if let (Some((line, _)), Some(excerpt)) = (report.place, &report.excerpt) {
            let line = line.to_string();
            write!(f, "\n {line} | {}", excerpt.text)?;
            write!(f, "\n {:width$} | {}", "", excerpt.marks(), width = line.len())?;
        }
        for step in &report.trail {
            write!(f, "\n {step}")?;
        }
        if report.untold > 0 {
            write!(f, "\n and {} more", report.untold)?;
        }
        Ok(())
    }
}

/// A template file while its templates live: errors show its lines.
#[derive(Debug)]
pub(crate) struct Source {
    /// Its index among the sources of a program.
    pub id: u32,
    pub path: PathBuf,
    pub bytes: Vec<u8>,
    /// The tag that first named it.
    pub reached: Option<(Reach, Span)>,
    pub macros: Macros,
    /// The places that were already checked for hints. A cell, because renders share the compiled file.
    pub hinted: RefCell<BTreeSet<u32>>,
}

/// Whether a file defines or imports macros. If so, an unknown name in a call may be the name of a macro that is not
/// exported or not defined yet, and the call is empty, as in Go remco. Otherwise the call is an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Macros {
    None,
    Some,
}

/// The kind of a step from one file to another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reach {
    Included,
    Extended,
    Imported,
}

impl Reach {
    /// The words for the step in an error, before the place of its tag.
    pub fn text(self) -> &'static str {
        match self {
            Reach::Included => "included from",
            Reach::Extended => "extended by",
            Reach::Imported => "imported by",
        }
    }
}

/// A range of bytes of one template file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Span {
    /// [`Source::id`].
    pub file: u32,
    pub start: u32,
    pub end: u32,
}

impl Span {
    /// The range from the start of this one to the end of the other.
    pub fn to(self, last: Span) -> Span {
        Span { end: last.end, ..self }
    }
}

impl Source {
    /// The size limit of a file, so that every place fits a [`Span`].
    pub const LARGEST: usize = 64 << 20;

    /// The range from one byte up to another, excluding that.
    #[expect(clippy::cast_possible_truncation, reason = "no file is larger than LARGEST")]
    pub fn span(&self, start: usize, end: usize) -> Span {
        Span { file: self.id, start: start as u32, end: end as u32 }
    }

    /// The bytes of one of its spans.
    pub fn slice(&self, span: Span) -> &[u8] {
        &self.bytes[span.start as usize..span.end as usize]
    }

    /// An error in `what`, which is underlined up to the end of its first line.
    pub fn error(&self, what: Span, message: impl Into<String>) -> Error {
        Error(Box::new(Report {
            file: self.path.clone(),
            place: Some(self.place(what.start)),
            message: one_line(message.into()),
            excerpt: Some(self.excerpt(what)),
            trail: Vec::new(),
            untold: 0,
        }))
    }

    /// Whether this place is checked for hints for the first time.
    pub fn is_new_hint(&self, place: Span) -> bool {
        self.hinted.borrow_mut().insert(place.start)
    }

    /// The line of a byte offset, counted from 1. Panics behind the end of the file.
    pub fn line(&self, offset: u32) -> usize {
        1 + self.bytes[..offset as usize].iter().filter(|byte| **byte == b'\n').count()
    }

    /// Line and column from 1; columns count characters.
    pub fn place(&self, offset: u32) -> (usize, usize) {
        let start = self.line_start(offset);
        (self.line(offset), 1 + characters(&self.bytes[start..offset as usize]))
    }

    /// The beginning of the text, behind a byte order mark, which shows the encoding and is not part of the text.
    pub fn text_start(&self) -> usize {
        const BYTE_ORDER_MARK: &[u8] = "\u{feff}".as_bytes();
        if self.bytes.starts_with(BYTE_ORDER_MARK) { BYTE_ORDER_MARK.len() } else { 0 }
    }

    /// The beginning of an offset's line, not behind the offset.
    fn line_start(&self, offset: u32) -> usize {
        let newline = self.bytes[..offset as usize].iter().rposition(|byte| *byte == b'\n');
        newline.map_or(self.text_start().min(offset as usize), |newline| newline + 1)
    }

    /// The line that `what` begins in.
    fn excerpt(&self, what: Span) -> Excerpt {
        let start = self.line_start(what.start);
        let length = self.bytes[start..].iter().position(|byte| *byte == b'\n');
        let end = start + length.unwrap_or(self.bytes.len() - start);
        let from = what.start as usize - start;
        // Whitespace at the end of the line is shown if it is the failed text.
        let shown = self.bytes[start..end].trim_ascii_end().len().max(from);
        let line = &self.bytes[start..start + shown];
        let to = (what.end as usize).saturating_sub(start).clamp(from, shown);
        let before = characters(&line[..from]);
        let width = characters(&line[from..to]).max(1);
        Excerpt::new(&String::from_utf8_lossy(line), before, width)
    }
}

impl Excerpt {
    /// The number of characters that are shown of a line, because a file may consist of a single line.
    const WIDTH: usize = 160;
    /// The number of characters before the underlined ones if the line is cut.
    const LEAD: usize = 40;

    fn new(line: &str, before: usize, width: usize) -> Excerpt {
        let shown = |c: char| {
            if c.is_control() && c != '\t' { char::REPLACEMENT_CHARACTER } else { c }
        };
        let total = line.chars().count();
        let from = if total <= Excerpt::WIDTH || before <= Excerpt::LEAD { 0 } else { before - Excerpt::LEAD };
        let mut text = String::new();
        let mut before = before - from;
        if from > 0 {
            text.push_str("...");
            before += 3;
        }
        text.extend(line.chars().skip(from).take(Excerpt::WIDTH).map(shown));
        if total - from > Excerpt::WIDTH {
            text.push_str("...");
        }
        let room = text.chars().count().saturating_sub(before).max(1);
        Excerpt { text, before, width: width.min(room) }
    }

    /// The line below the text: carets below the underlined characters, with their width on a terminal. Tabs stay, so
    /// that the carets are at the right place for every width of a tab.
    fn marks(&self) -> String {
        let mut marks = String::new();
        for (at, c) in self.text.chars().take(self.before + self.width).enumerate() {
            let mark = if at < self.before { ' ' } else { '^' };
            match c {
                // A mark and a tab together may be wider than a tab.
                '\t' if at == self.before => break,
                '\t' => marks.push('\t'),
                _ => marks.extend(iter::repeat_n(mark, width::columns(c))),
            }
        }
        if !marks.contains('^') {
            marks.push('^');
        }
        marks
    }
}

/// Keeps a message on one line, because it may show any key or value.
fn one_line(message: String) -> String {
    match message.contains(char::is_control) {
        false => message,
        true => message.chars().map(|c| if c.is_control() { char::REPLACEMENT_CHARACTER } else { c }).collect(),
    }
}

/// The number of characters of `String::from_utf8_lossy`.
fn characters(bytes: &[u8]) -> usize {
    bytes.utf8_chunks().map(|chunk| chunk.valid().chars().count() + usize::from(!chunk.invalid().is_empty())).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `text` as a file, and in it the ranges of `tag` and of `what` behind the tag's start.
    #[track_caller]
    fn error(text: &[u8], tag: &[u8], what: &[u8]) -> Error {
        let find = |from: usize, part: &[u8]| {
            from + text[from..].windows(part.len()).position(|window| window == part).expect("the part is in the text")
        };
        let source = Source {
            id: 0,
            path: PathBuf::from("a.tmpl"),
            bytes: text.to_vec(),
            reached: None,
            macros: Macros::None,
            hinted: RefCell::default(),
        };
        let tag_start = find(0, tag);
        let what_start = find(tag_start, what);
        let span = |start, part: &[u8]| source.span(start, start + part.len());
        source.error(span(what_start, what), "it failed")
    }

    #[track_caller]
    fn check(text: &[u8], tag: &[u8], what: &[u8], expected: &str) {
        assert_eq!(error(text, tag, what).to_string(), expected);
    }

    #[test]
    fn underlines_what_failed() {
        check(b"a\nb {{ x(1) }}\n", b"{{ x", b"x(1)", "a.tmpl:2:6: it failed\n 2 | b {{ x(1) }}\n   |      ^^^^");
        check(b"{{ x }}", b"{{ x }}", b"x", "a.tmpl:1:4: it failed\n 1 | {{ x }}\n   |    ^");
        // The width of the line's number, and of a tab, is kept.
        check(
            &[&b"\n".repeat(11)[..], b"\t{{ x }}"].concat(),
            b"{{",
            b"x",
            "a.tmpl:12:5: it failed\n 12 | \t{{ x }}\n    | \t   ^",
        );
    }

    #[test]
    fn counts_characters() {
        check("é😀{{ ü }}".as_bytes(), b"{{", "ü".as_bytes(), "a.tmpl:1:6: it failed\n 1 | é😀{{ ü }}\n   |       ^");
        check(b"\xff\xfe{{ x }}", b"{{", b"x", "a.tmpl:1:6: it failed\n 1 | \u{fffd}\u{fffd}{{ x }}\n   |      ^");
    }

    #[test]
    fn keeps_to_one_line() {
        check(b"{{ x\ny }}\n", b"{{ x\ny }}", b"x\ny", "a.tmpl:1:4: it failed\n 1 | {{ x\n   |    ^");
        check(b"{{ x }}\r\nb", b"{{", b"x", "a.tmpl:1:4: it failed\n 1 | {{ x }}\n   |    ^");
        check(b"\x1b[31m{{ x }}", b"{{", b"x", "a.tmpl:1:9: it failed\n 1 | \u{fffd}[31m{{ x }}\n   |         ^");
    }

    #[test]
    fn marks_stand_below_their_text() {
        check(
            "日本{{ 語x }}".as_bytes(),
            b"{{",
            "語x".as_bytes(),
            "a.tmpl:1:6: it failed\n 1 | 日本{{ 語x }}\n   |        ^^^",
        );
        // Combining marks, and a character of no width alone.
        check("e\u{301}{{ x }}".as_bytes(), b"{{", b"x", "a.tmpl:1:6: it failed\n 1 | e\u{301}{{ x }}\n   |     ^");
        let alone = "a\u{200b}b".as_bytes();
        check(alone, b"a", "\u{200b}".as_bytes(), "a.tmpl:1:2: it failed\n 1 | a\u{200b}b\n   |  ^");
        // Tabs before, in and at the beginning of what failed.
        check(b"\t{{\tf(\t1)", b"{{", b"f(\t1)", "a.tmpl:1:5: it failed\n 1 | \t{{\tf(\t1)\n   | \t  \t^^\t^^");
        check(b"a\tb", b"a", b"\tb", "a.tmpl:1:2: it failed\n 1 | a\tb\n   |  ^");
        // Whitespace at the end of the line.
        check(b"a  \nb", b"a", b" \nb", "a.tmpl:1:3: it failed\n 1 | a \n   |   ^");
        // A byte order mark is no character of the line.
        check("\u{feff}{{ x }}".as_bytes(), b"{{", b"x", "a.tmpl:1:4: it failed\n 1 | {{ x }}\n   |    ^");
    }

    #[test]
    fn marks_stand_below_their_text_in_long_lines() {
        let line = format!("{}{{{{ {}f }}}}{}", "語".repeat(200), "é".repeat(45), "\t".repeat(200));
        let text = error(line.as_bytes(), b"{{", b"f").to_string();
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[0], "a.tmpl:1:249: it failed");
        let before: Vec<char> = lines[1].chars().take_while(|c| *c != 'f').collect();
        assert_eq!(before.iter().map(|c| width::columns(*c)).sum::<usize>(), lines[2].len() - 1, "{text}");
        let text = error(line.as_bytes(), b"{{", "é".as_bytes()).to_string();
        let lines: Vec<&str> = text.lines().collect();
        let before: Vec<char> = lines[1].chars().take_while(|c| *c != 'é').collect();
        assert!(before.iter().filter(|c| **c == '語').count() > 30, "{text}");
        assert_eq!(before.iter().map(|c| width::columns(*c)).sum::<usize>(), lines[2].len() - 1, "{text}");
    }

    #[test]
    fn cuts_long_lines() {
        let line = [&b"x".repeat(5000)[..], b"{{ fail }}", &b"y".repeat(5000)[..]].concat();
        let text = error(&line, b"{{", b"fail").to_string();
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[0], "a.tmpl:1:5004: it failed");
        assert!(lines[1].starts_with(" 1 | ...xxx") && lines[1].ends_with("yyy..."), "{text}");
        assert_eq!(lines[1].find("fail"), lines[2].find("^^^^"));
        assert!(lines.iter().all(|line| line.len() < 180), "{text}");
    }

    #[test]
    fn tells_how_one_got_there() {
        let source = Source {
            id: 0,
            path: PathBuf::from("main.tmpl"),
            bytes: b"x\n {% include %}".to_vec(),
            reached: None,
            macros: Macros::None,
            hinted: RefCell::default(),
        };
        let tag = source.span(3, 16);
        let mut error = error(b"{{ x }}", b"{{", b"x");
        for _ in 0..7 {
            error = error.reached("included from", &source, tag);
        }
        let text = error.to_string();
        assert_eq!(text.matches("\n included from main.tmpl:2:2").count(), 5, "{text}");
        assert!(text.ends_with("\n and 2 more"), "{text}");
        assert_eq!((error.line(), error.col(), error.message()), (Some(1), Some(4), "it failed"));
    }
}
