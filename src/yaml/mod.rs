//! YAML 1.1 as Go's yaml.v2 reads it: a text becomes a tree of what it says, with aliases and merge keys resolved.
//! Only the syntax is a package's. What a tree means to a template or as keys of a store is not here, and neither
//! is the layout of a document that is written; only how one text of it looks is (`style`).

mod resolve;
mod style;

use std::collections::HashMap;
use std::fmt;
use std::rc::Rc;

use saphyr_parser::{Event, Marker, Parser, ScalarStyle, Tag};

use crate::number::{self, FloatFormat};

pub use resolve::is_text;
pub use style::{Style, double_quoted, single_quoted, style};

/// How deep lists and maps may be nested.
pub const DEPTH: usize = 200;

/// What a document says at one place.
#[derive(Clone, Debug, PartialEq)]
pub enum Node {
    Scalar(Scalar),
    List(Vec<Node>),
    /// In the order of the text, with what was merged where `<<` stood. Of equal keys the last one counts.
    Map(Vec<(Scalar, Node)>),
}

#[derive(Clone, Debug, PartialEq)]
pub enum Scalar {
    Null,
    Bool(bool),
    Int(i64),
    /// What is too large for the other one.
    Uint(u64),
    Float(f64),
    /// Not UTF-8 where the text says `!!binary`.
    Text(Rc<[u8]>),
}

/// Reads the first document of a text; one without any is null. Further documents are not looked at. What aliases
/// repeat counts as often as it is repeated: the tree takes about `limit` bytes at most.
pub fn read(text: &[u8], limit: usize) -> Result<Node, Fault> {
    let text = std::str::from_utf8(text).map_err(|error| Fault::not_utf8(text, error.valid_up_to()))?;
    // Some editors put it there.
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    if let Some((at, _)) = text.char_indices().find(|(_, char)| !is_allowed(*char)) {
        return Err(Fault::at(&text[..at], "control characters must be escaped in double quotes"));
    }
    // Blanks without a line break at the end belong to nothing.
    let rest = text.trim_end_matches([' ', '\t']);
    let text = if rest.ends_with('\n') { rest } else { text };
    let length = text.chars().count();
    let mut composer = Composer { limit, ..Composer::default() };
    let mut root = None;
    for event in Parser::new_from_str(text) {
        let (mut event, span) = event.map_err(|error| Fault::new(error.marker(), error.info()))?;
        if !text.ends_with('\n') && span.end.index() == length {
            without_line_break(&mut event);
        }
        match event {
            // Reached for the first document only: what follows on its last line is an error, not ignored.
            Event::DocumentEnd | Event::StreamEnd => break,
            Event::Nothing | Event::StreamStart | Event::DocumentStart(_) => {}
            event => root = composer.event(event).map_err(|why| Fault::new(&span.start, &why))?.or(root),
        }
    }
    Ok(root.unwrap_or(Node::Scalar(Scalar::Null)))
}

/// Why a text cannot be read.
#[derive(Debug, PartialEq, Eq)]
pub struct Fault {
    /// From 1; columns count characters.
    pub line: usize,
    pub column: usize,
    pub why: String,
}

impl Fault {
    fn new(marker: &Marker, why: &str) -> Fault {
        Fault { line: marker.line(), column: marker.col() + 1, why: why.to_owned() }
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

/// The same with only as many digits as a 32 bit float needs, as sigs.k8s.io/yaml writes a map's keys. (Those are few
/// enough for a 64 bit float to give them back.)
pub fn print_short_float(number: f64) -> String {
    print_float((number as f32).to_string().parse().expect("Rust reads the floats it writes"))
}

/// What may stand in a text as itself. (The parser takes a zero for the end and would ignore the rest.)
fn is_allowed(char: char) -> bool {
    !matches!(char, '\0'..='\x08' | '\x0b' | '\x0c' | '\x0e'..='\x1f' | '\x7f'..='\u{84}' | '\u{86}'..='\u{9f}')
}

/// Builds a tree from what the parser says.
#[derive(Default)]
struct Composer {
    /// The lists and maps that are not complete, each inside the one before.
    open: Vec<Open>,
    anchors: HashMap<usize, Anchor>,
    /// What the tree takes, in bytes.
    cost: usize,
    /// What is kept for aliases on top of it.
    kept: usize,
    limit: usize,
}

struct Anchor {
    node: Node,
    cost: usize,
    height: usize,
}

struct Open {
    items: Items,
    /// 0: none.
    anchor: usize,
    /// The tree's cost when it began.
    before: usize,
    /// Of the highest thing inside.
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

/// What a place in a list or a map takes, roughly; text comes on top.
const PLACE: usize = 64;

impl Composer {
    /// Gives the root once it is complete.
    fn event(&mut self, event: Event) -> Result<Option<Node>, String> {
        match event {
            Event::Scalar(text, style, anchor, tag) => {
                let before = self.cost;
                self.charge(PLACE + text.len())?;
                let tag = tag.as_deref();
                if self.is_key_next() && is_merge(&text, style, tag) {
                    return self.key(Key::Merge);
                }
                let node = Node::Scalar(scalar(&text, style, tag)?);
                self.keep(anchor, &node, before, 0)?;
                self.complete(node, 0)
            }
            Event::Alias(id) => {
                let anchor = self.anchors.get(&id).ok_or("the alias is a part of what it stands for")?;
                let (cost, height) = (anchor.cost, anchor.height);
                if self.open.len() + height > DEPTH {
                    return Err(too_deep());
                }
                self.charge(cost)?;
                let node = self.anchors[&id].node.clone();
                self.complete(node, height)
            }
            Event::SequenceStart(anchor, _) => self.open(Items::List(Vec::new()), anchor),
            Event::MappingStart(anchor, _) => self.open(Items::Map(Vec::new(), None), anchor),
            Event::SequenceEnd | Event::MappingEnd => {
                let Open { items, anchor, before, height } =
                    self.open.pop().expect("the parser ends what it has begun");
                let node = match items {
                    Items::List(items) => Node::List(items),
                    Items::Map(entries, _) => Node::Map(entries),
                };
                self.keep(anchor, &node, before, height + 1)?;
                self.complete(node, height + 1)
            }
            Event::Nothing | Event::StreamStart | Event::StreamEnd | Event::DocumentStart(_) | Event::DocumentEnd => {
                Ok(None)
            }
        }
    }

    fn charge(&mut self, cost: usize) -> Result<(), String> {
        self.cost = self.cost.saturating_add(cost);
        self.check()
    }

    fn check(&self) -> Result<(), String> {
        match self.cost.saturating_add(self.kept) > self.limit {
            true => Err(format!("the document takes more than {} bytes", self.limit)),
            false => Ok(()),
        }
    }

    fn open(&mut self, items: Items, anchor: usize) -> Result<Option<Node>, String> {
        if self.open.len() == DEPTH {
            return Err(too_deep());
        }
        self.open.push(Open { items, anchor, before: self.cost, height: 0 });
        self.charge(PLACE)?;
        Ok(None)
    }

    fn keep(&mut self, anchor: usize, node: &Node, before: usize, height: usize) -> Result<(), String> {
        if anchor != 0 {
            let cost = self.cost - before;
            self.kept = self.kept.saturating_add(cost);
            self.check()?;
            self.anchors.insert(anchor, Anchor { node: node.clone(), cost, height });
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

    /// Puts a node where it belongs.
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

/// Of several maps the earlier one wins, as yaml.v2 has it; a key that stands before the `<<` loses to both.
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

fn is_merge(text: &str, style: ScalarStyle, tag: Option<&Tag>) -> bool {
    let is_named = |tag: &Tag| tag.is_yaml_core_schema() && tag.suffix == "merge";
    text == "<<" && tag.map_or(style == ScalarStyle::Plain, is_named)
}

/// The parser ends the last line of a block with a line break where the text ends without one; yaml.v2 does not.
fn without_line_break(event: &mut Event) {
    if let Event::Scalar(text, ScalarStyle::Literal | ScalarStyle::Folded, ..) = event
        && let Some(rest) = text.strip_suffix('\n')
    {
        *text = rest.to_owned().into();
    }
}

fn scalar(text: &str, style: ScalarStyle, tag: Option<&Tag>) -> Result<Scalar, String> {
    match tag {
        None if style == ScalarStyle::Plain => Ok(resolve::plain(text)),
        Some(tag) if tag.is_yaml_core_schema() => resolve::tagged(text, &tag.suffix),
        // A tag that somebody made up, or `!`.
        None | Some(_) => Ok(Scalar::text(text.as_bytes())),
    }
}

#[cfg(test)]
mod tests;
