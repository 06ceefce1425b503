//! What a template is compiled to: numbered nodes, and upon's templates that ask for them by number.
//! Only data: `lower` makes it, `render` runs it.

use std::rc::Rc;

use crate::template::builtin::lorem::Lorem;
use crate::template::source::{Error, Reach, Source, Span};
use crate::template::syntax::ast::Need;
use crate::template::syntax::ast::{Clock, Escape, Expr, FilterCall, Pairs, Printed, WidthRatio};
use crate::template::syntax::names::Name;

/// A compiled file with everything it names by a fixed name.
pub(crate) struct Program {
    pub sources: Vec<Source>,
    pub nodes: Vec<Node>,
    /// What upon runs: files, blocks and macros. The first is the file itself.
    pub units: Vec<upon::Template<'static>>,
    /// Where each unit begins: the nearest place there is before its first node has run.
    pub starts: Vec<Span>,
    /// Where names are read that no tag sets and no function has.
    pub unknown: Vec<(Name, Span)>,
}

/// What upon asks for by its number.
pub(crate) struct Node {
    /// The tag, or the text, that it came from.
    pub tag: Span,
    pub kind: NodeKind,
    pub place: Place,
}

/// Where a node stands among those that are run one after the other, which upon asks for at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// The next node is run too.
    Within,
    EndOfLine,
}

pub(crate) enum NodeKind {
    /// The text of the file where the node stands.
    Source,
    /// Text that stands nowhere in the file.
    Text(Vec<u8>),
    Print(Printed),
    Test(Expr),
    /// Finds out which branch of an `if` is taken; each branch then tests whether it is meant.
    Choose(Vec<(Expr, Span)>),
    Chosen(usize),
    EndChoose,
    Set(Name, Expr),
    /// Opens a loop, counts its rounds, and begins each.
    For(Box<ForNode>),
    /// Whether the loop just gone through had no rounds.
    Empty,
    EndFor,
    With(Pairs),
    EndWith,
    /// Enters a file that upon includes. The pairs are seen in it, and nothing else if `only`.
    Enter {
        pairs: Pairs,
        only: bool,
    },
    /// Leaves it.
    Leave,
    IncludeComputed(Box<IncludeNode>),
    /// A block follows: the units that its `Super` goes through, the nearest last.
    Block(Rc<[usize]>),
    /// Defines or imports macros.
    Define(Vec<(Name, Rc<MacroNode>)>),
    /// Keeps what is printed until one of the next three.
    Capture,
    Filter(Vec<FilterCall>),
    Spaceless,
    /// Prints what was captured if it differs from the last time.
    Changed(Slot),
    /// Whether one of these values differs from the last time.
    Watch(Vec<Expr>, Slot),
    Cycle(Rc<CycleNode>),
    FirstOf(Vec<Printed>),
    WidthRatio(Box<WidthRatio>),
    Time(Clock, Vec<u8>),
    Lorem(Lorem),
    Autoescape(Escape),
    /// What cannot be run, and why.
    Fail(&'static str),
    EndAutoescape,
}

/// Where a render keeps what a node remembers from one run to the next.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Slot(pub usize);

pub(crate) struct ForNode {
    pub key: Name,
    pub value: Option<Name>,
    pub iterated: Expr,
    pub iterated_span: Span,
    pub reversed: bool,
    pub sorted: bool,
}

/// An include of a file that is not known before.
pub(crate) struct IncludeNode {
    pub file: Expr,
    pub file_span: Span,
    pub need: Need,
    pub pairs: Pairs,
    pub only: bool,
}

pub(crate) struct MacroNode {
    pub name: Name,
    pub params: Vec<(Name, Option<Expr>)>,
    pub unit: usize,
    pub tag: Span,
}

pub(crate) struct CycleNode {
    pub values: Vec<Expr>,
    pub name: Option<Name>,
    pub silent: bool,
    pub tag: Span,
    pub slot: Slot,
}

impl Program {
    pub fn source(&self, span: Span) -> &Source {
        &self.sources[span.file as usize]
    }

    /// An error in `what`. How the file was reached is told unless it was by an include: that may be another one each
    /// time.
    pub fn error(&self, what: Span, message: String) -> Error {
        let mut source = self.source(what);
        let mut error = source.error(what, message);
        while let Some((reach @ (Reach::Extended | Reach::Imported), tag)) = source.reached {
            source = self.source(tag);
            error = error.reached(reach.text(), source, tag);
        }
        error
    }
}
