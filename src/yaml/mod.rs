//! YAML 1.1 as read by Go's yaml.v2: parses a text into a tree, and resolves aliases and merge keys. `parser` and
//! `scanner` own the syntax. Neither templates nor keys of a store are known here, nor the layout of a written
//! document, except for the style of one text (`style`).

pub mod parser;
mod resolve;
pub mod scanner;
mod style;

use std::borrow::Cow;
use std::collections::HashMap;
use std::fmt;
use std::rc::Rc;

use crate::number::{self, FloatFormat};

use parser::{Event, Parser, Properties};
pub use resolve::is_text;
use scanner::{Form, Mark};
pub use style::{Style, double_quoted, is_separator, single_quoted, style};

/// The nesting limit of lists and maps.
pub const DEPTH: usize = 200;

/// A part of a document.
#[derive(Clone, Debug, PartialEq)]
pub enum Node {
    /// One value.
    Scalar(Scalar),
    /// In the order of the text.
    List(Vec<Node>),
    /// In the order of the text, with merged entries at the place of `<<`. Of equal keys the last one counts.
    Map(Vec<(Scalar, Node)>),
}

/// One value, by its tag or by its form.
#[derive(Clone, Debug, PartialEq)]
pub enum Scalar {
    /// `null`, `~` or nothing at all.
    Null,
    /// Also `yes`, `no`, `on`, `off` and the like.
    Bool(bool),
    /// In base 2, 8, 10 or 16.
    Int(i64),
    /// An integer that does not fit into `Int`.
    Uint(u64),
    /// Also `.inf` and `.nan`.
    Float(f64),
    /// Not UTF-8 if the text is tagged `!!binary`.
    Text(Rc<[u8]>),
}

/// Parses the first document of a text; a text without a document is null. Further documents are ignored. Repeated
/// aliases count each time: the tree takes about `limit` bytes at most.
pub fn read(text: &[u8], limit: usize) -> Result<Node, Fault> {
    read_accounted(text, limit, &mut |_| true)
}

/// As [`read`]. `account` gets the size of the next part of the tree in bytes, and returns whether that part is
/// allowed.
pub fn read_accounted(text: &[u8], limit: usize, account: &mut dyn FnMut(usize) -> bool) -> Result<Node, Fault> {
    let text = self::text(text)?;
    let mut parser = Parser::new(&text);
    let mut composer = Composer { open: Vec::new(), anchors: HashMap::new(), cost: 0, kept: 0, limit, account };
    let mut root = None;
    loop {
        let (event, mark) = parser.next_event()?;
        if let Event::DocumentEnd = event {
            break;
        }
        let is_block = matches!(event, Event::Scalar { form: Form::Block, .. });
        root = composer.event(event).map_err(|why| Fault::new(mark, &why))?;
        if root.is_some() {
            // Text after a closing bracket or quote is an error. Text after a block that ends with the document is not.
            if !is_block {
                parser.expect_end()?;
            }
            break;
        }
    }
    Ok(root.unwrap_or(Node::Scalar(Scalar::Null)))
}

/// The characters of a document: UTF-8, or UTF-16 with a byte order mark. The mark is dropped; some editors put it
/// before UTF-8, too.
pub fn text(document: &[u8]) -> Result<Cow<'_, str>, Fault> {
    let text = match document {
        [0xff, 0xfe, rest @ ..] => Cow::Owned(utf_16(rest, u16::from_le_bytes)?),
        [0xfe, 0xff, rest @ ..] => Cow::Owned(utf_16(rest, u16::from_be_bytes)?),
        _ => {
            let bytes = document.strip_prefix(b"\xef\xbb\xbf").unwrap_or(document);
            Cow::Borrowed(std::str::from_utf8(bytes).map_err(|error| Fault::not_utf8(bytes, error.valid_up_to()))?)
        }
    };
    match text.char_indices().find(|(_, char)| !is_allowed(*char)) {
        Some((at, _)) => Err(Fault::at(&text[..at], "control characters must be escaped in double quotes")),
        None => Ok(text),
    }
}

fn utf_16(bytes: &[u8], unit: fn([u8; 2]) -> u16) -> Result<String, Fault> {
    let (pairs, rest) = bytes.as_chunks::<2>();
    let mut text = String::with_capacity(bytes.len() / 2);
    for char in char::decode_utf16(pairs.iter().copied().map(unit)) {
        text.push(char.map_err(|_| Fault::at(&text, "not UTF-16"))?);
    }
    if rest.is_empty() { Ok(text) } else { Err(Fault::at(&text, "not UTF-16")) }
}

/// Whether a JSON text has an equal meaning as YAML. `-0` differs: in YAML it is the integer 0.
pub fn is_json_alike(text: &[u8]) -> bool {
    let is_blank = |byte: u8| matches!(byte, b' ' | b'\t' | b'\r' | b'\n');
    let begins = |at: usize| at == 0 || is_blank(text[at - 1]) || matches!(text[at - 1], b':' | b',' | b'[');
    let ends = |next: Option<&u8>| next.is_none_or(|byte| is_blank(*byte) || matches!(byte, b',' | b']' | b'}'));
    !text.windows(2).enumerate().any(|(at, pair)| pair == b"-0" && begins(at) && ends(text.get(at + 2)))
}

/// Why a text cannot be parsed.
#[derive(Debug, PartialEq, Eq)]
pub struct Fault {
    /// From 1; columns count characters.
    pub line: usize,
    /// In characters, from 1.
    pub column: usize,
    /// The cause, in lower case.
    pub why: String,
}

impl Fault {
    fn new(mark: Mark, why: &str) -> Fault {
        Fault { line: mark.line + 1, column: mark.column + 1, why: why.to_owned() }
    }

    /// A fault within a structure that began at a mark.
    fn inside(mark: Mark, what: &str, start: Mark, why: &str) -> Fault {
        let begun = match start.line == mark.line {
            true => String::new(),
            false => format!(" that begins at {}:{}", start.line + 1, start.column + 1),
        };
        Fault::new(mark, &format!("{why} in {what}{begun}"))
    }

    fn at(before: &str, why: &str) -> Fault {
        let line = before.rsplit('\n').next().unwrap_or_default();
        Fault { line: 1 + before.matches('\n').count(), column: 1 + line.chars().count(), why: why.to_owned() }
    }

    fn not_utf8(text: &[u8], at: usize) -> Fault {
        Fault::at(&String::from_utf8_lossy(&text[..at]), "not UTF-8")
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}", self.line, self.column, self.why)
    }
}

impl std::error::Error for Fault {}

impl Scalar {
    /// A text.
    pub fn text(text: &[u8]) -> Scalar {
        Scalar::Text(Rc::from(text))
    }

    /// The scalar as Go's `%v` prints it.
    pub fn print(&self) -> Rc<[u8]> {
        match self {
            Scalar::Null => b"<nil>"[..].into(),
            Scalar::Bool(true) => b"true"[..].into(),
            Scalar::Bool(false) => b"false"[..].into(),
            Scalar::Int(n) => n.to_string().into_bytes().into(),
            Scalar::Uint(n) => n.to_string().into_bytes().into(),
            Scalar::Float(n) => print_float(*n).into_bytes().into(),
            Scalar::Text(text) => text.clone(),
        }
    }
}

/// A float as Go's `%v` prints it.
pub fn print_float(number: f64) -> String {
    number::format_float(number, FloatFormat::General, None)
}

/// A float with only the digits that a 32 bit float needs, as in keys written by sigs.k8s.io/yaml. A 64 bit float can
/// be parsed back from them.
#[expect(clippy::cast_possible_truncation, reason = "the digits of a 32 bit float are wanted")]
pub fn print_short_float(number: f64) -> String {
    print_float((number as f32).to_string().parse().expect("Rust reads the floats it writes"))
}

/// The characters that may occur in a text. (The scanner uses a zero for the end.)
fn is_allowed(char: char) -> bool {
    !matches!(
        char,
        '\0'..='\x08' | '\x0b' | '\x0c' | '\x0e'..='\x1f' | '\x7f'..='\u{84}' | '\u{86}'..='\u{9f}' | '\u{fffe}' | '\u{ffff}'
    )
}

/// The prefix of YAML's own tags.
const TAG_PREFIX: &str = "tag:yaml.org,2002:";

/// Builds a tree from the events of the parser.
struct Composer<'t, 'a> {
    /// The incomplete lists and maps, outermost first.
    open: Vec<Open<'t>>,
    /// Of equal names the one that begins last counts.
    anchors: HashMap<&'t str, Anchor>,
    /// The size of the tree in bytes.
    cost: usize,
    /// The size of the nodes that are kept for aliases, in bytes.
    kept: usize,
    limit: usize,
    account: &'a mut dyn FnMut(usize) -> bool,
}

struct Anchor {
    node: Node,
    cost: usize,
    height: usize,
}

struct Open<'t> {
    items: Items,
    anchor: Option<&'t str>,
    /// The size of the tree when this node began.
    before: usize,
    /// The height of the highest node inside.
    height: usize,
}

enum Items {
    List(Vec<Node>),
    Map(Vec<(Scalar, Node)>, Option<Key>),
}

enum Key {
    Plain(Scalar),
    Merge,
}

/// The approximate size of an entry in a list or a map, without its text.
const PLACE: usize = 64;

impl<'t> Composer<'t, '_> {
    /// Returns the root when it is complete.
    fn event(&mut self, event: Event<'t>) -> Result<Option<Node>, String> {
        match event {
            Event::Scalar { text, form, properties: Properties { anchor, tag } } => {
                let before = self.cost;
                self.charge(PLACE + text.len())?;
                let tag = tag.as_deref();
                if self.is_key_next() && is_merge(&text, form, tag) {
                    return self.key(Key::Merge);
                }
                let node = Node::Scalar(scalar(&text, form, tag)?);
                self.forget(anchor);
                self.keep(anchor, &node, before, 0)?;
                self.complete(node, 0)
            }
            Event::Alias(name) => {
                let Some(anchor) = self.anchors.get(name) else {
                    return Err(match self.open.iter().any(|open| open.anchor == Some(name)) {
                        true => "the alias is a part of what it stands for".to_owned(),
                        false => format!("found no anchor `{name}` before the alias"),
                    });
                };
                let (cost, height) = (anchor.cost, anchor.height);
                if self.open.len() + height > DEPTH {
                    return Err(too_deep());
                }
                self.charge(cost)?;
                let node = self.anchors[name].node.clone();
                self.complete(node, height)
            }
            Event::ListStart(properties) => self.open(Items::List(Vec::new()), properties.anchor),
            Event::MapStart(properties) => self.open(Items::Map(Vec::new(), None), properties.anchor),
            Event::ListEnd | Event::MapEnd => {
                let Some(Open { items, anchor, before, height }) = self.open.pop() else { return Ok(None) };
                let node = match items {
                    Items::List(items) => Node::List(items),
                    Items::Map(entries, _) => Node::Map(entries),
                };
                self.keep(anchor, &node, before, height + 1)?;
                self.complete(node, height + 1)
            }
            Event::DocumentEnd => Ok(None),
        }
    }

    fn charge(&mut self, cost: usize) -> Result<(), String> {
        self.cost = self.cost.saturating_add(cost);
        self.check(cost)
    }

    fn check(&mut self, cost: usize) -> Result<(), String> {
        match self.cost.saturating_add(self.kept) > self.limit {
            true => Err(format!("the document takes more than {} bytes", self.limit)),
            false if (self.account)(cost) => Ok(()),
            false => Err("there is no room for more of the document".to_owned()),
        }
    }

    fn open(&mut self, items: Items, anchor: Option<&'t str>) -> Result<Option<Node>, String> {
        if self.open.len() == DEPTH {
            return Err(too_deep());
        }
        self.forget(anchor);
        self.open.push(Open { items, anchor, before: self.cost, height: 0 });
        self.charge(PLACE)?;
        Ok(None)
    }

    /// A new anchor replaces an earlier one with its name.
    fn forget(&mut self, anchor: Option<&'t str>) {
        if let Some(name) = anchor {
            self.anchors.remove(name);
        }
    }

    fn keep(&mut self, anchor: Option<&'t str>, node: &Node, before: usize, height: usize) -> Result<(), String> {
        // An anchor that began inside stays.
        if let Some(name) = anchor.filter(|name| !self.anchors.contains_key(name)) {
            let cost = self.cost - before;
            self.kept = self.kept.saturating_add(cost);
            self.check(cost)?;
            self.anchors.insert(name, Anchor { node: node.clone(), cost, height });
        }
        Ok(())
    }

    fn is_key_next(&self) -> bool {
        matches!(self.open.last(), Some(Open { items: Items::Map(_, None), .. }))
    }

    fn key(&mut self, new: Key) -> Result<Option<Node>, String> {
        if let Some(Open { items: Items::Map(_, key), .. }) = self.open.last_mut() {
            *key = Some(new);
        }
        Ok(None)
    }

    /// Adds a node to the innermost list or map.
    fn complete(&mut self, node: Node, height: usize) -> Result<Option<Node>, String> {
        let Some(open) = self.open.last_mut() else {
            return Ok(Some(node));
        };
        open.height = open.height.max(height);
        match &mut open.items {
            Items::List(items) => items.push(node),
            Items::Map(entries, key) => match (key.take(), node) {
                (Some(Key::Plain(name)), node) => entries.push((name, node)),
                (Some(Key::Merge), node) => merge(node, entries)?,
                (None, Node::Scalar(name)) => *key = Some(Key::Plain(name)),
                (None, Node::List(_)) => return Err("a list cannot be a key".to_owned()),
                (None, Node::Map(_)) => return Err("a map cannot be a key".to_owned()),
            },
        }
        Ok(None)
    }
}

fn too_deep() -> String {
    format!("nested deeper than {DEPTH} levels")
}

/// Of several merged maps the earlier one wins, as in yaml.v2; a key before the `<<` loses to both.
fn merge(node: Node, into: &mut Vec<(Scalar, Node)>) -> Result<(), String> {
    let wrong = || Err("what is merged with `<<` must be a map or a list of maps".to_owned());
    match node {
        Node::Map(entries) => into.extend(entries),
        Node::List(items) => {
            for item in items.into_iter().rev() {
                let Node::Map(entries) = item else { return wrong() };
                into.extend(entries);
            }
        }
        Node::Scalar(_) => return wrong(),
    }
    Ok(())
}

fn is_merge(text: &str, form: Form, tag: Option<&str>) -> bool {
    text == "<<" && tag.map_or(form == Form::Plain, |tag| tag.strip_prefix(TAG_PREFIX) == Some("merge"))
}

fn scalar(text: &str, form: Form, tag: Option<&str>) -> Result<Scalar, String> {
    match tag.map(|tag| tag.strip_prefix(TAG_PREFIX)) {
        None if form == Form::Plain => Ok(resolve::plain(text)),
        Some(Some(tag)) => resolve::tagged(text, tag),
        // A private tag, or `!`.
        None | Some(None) => Ok(Scalar::text(text.as_bytes())),
    }
}

#[cfg(test)]
mod tests;
