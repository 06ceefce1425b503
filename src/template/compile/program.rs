//! The program of a compiled template: numbered nodes, and upon's templates that run them by number.
//! Contains only data: `lower` creates it, `render` runs it.

use std::rc::Rc;

use crate::template::builtin::lorem::Lorem;
use crate::template::source::{Error, Reach, Source, Span};
use crate::template::syntax::ast::Presence;
use crate::template::syntax::ast::{Clock, Escape, Expr, FilterCall, Pairs, Printed, WidthRatio};
use crate::template::syntax::names::Name;

/// A compiled file with all files that it names by a literal.
pub(crate) struct Program {
    pub sources: Vec<Source>,
    pub nodes: Vec<Node>,
    /// The units that upon runs: files, blocks and macros. The first one is the file itself.
    pub units: Vec<upon::Template<'static>>,
    /// The beginning of each unit: the nearest place for errors before its first node has run.
    pub starts: Vec<Span>,
    /// The places that read a name which no tag sets and no function has.
    pub unknown: Vec<(Name, Span)>,
}

/// A node that upon runs by its number.
pub(crate) struct Node {
    /// Its tag or text.
    pub tag: Span,
    pub kind: NodeKind,
    pub place: Place,
}

/// The position of a node in a line of nodes that run one after the other, which upon starts together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// The next node is run too.
    Within,
    EndOfLine,
}

pub(crate) enum NodeKind {
    /// Text of the file at the place of the node.
    Source,
    /// Text that is not in the file.
    Text(Vec<u8>),
    Print(Printed),
    Test(Expr),
    /// Chooses the branch of an `if`. Each branch then tests whether it was chosen.
    Choose(Vec<(Expr, Span)>),
    Chosen(usize),
    EndChoose,
    Set(Name, Expr),
    /// Opens a loop, counts its rounds, and begins each.
    For(Box<ForNode>),
    /// Whether the last loop had no rounds.
    Empty,
    EndFor,
    With(Pairs),
    EndWith,
    /// Enters a file that upon includes. The pairs are visible in the file; with `only`, nothing else is.
    Enter {
        pairs: Pairs,
        only: bool,
    },
    /// Leaves the file.
    Leave,
    IncludeComputed(Box<IncludeNode>),
    /// A block follows: the units for its `Super`, the nearest last.
    Block(Rc<[usize]>),
    /// Defines or imports macros.
    Define(Vec<(Name, Rc<MacroNode>)>),
    /// Captures the output until one of the next three.
    Capture,
    Filter(Vec<FilterCall>),
    Spaceless,
    /// Prints the captured output if it differs from the last time.
    Changed(Slot),
    /// Whether one of these values differs from the last time.
    Watch(Vec<Expr>, Slot),
    Cycle(Rc<CycleNode>),
    FirstOf(Vec<Printed>),
    WidthRatio(Box<WidthRatio>),
    Time(Clock, Vec<u8>),
    Lorem(Lorem),
    Autoescape(Escape),
    /// A node that cannot run, and the error.
    Fail(&'static str),
    EndAutoescape,
}

/// The slot in which a render keeps the memory of a node between runs.
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

/// An include whose file is computed.
pub(crate) struct IncludeNode {
    pub file: Expr,
    pub file_span: Span,
    pub presence: Presence,
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
    /// The file that a place belongs to.
    pub fn source(&self, span: Span) -> &Source {
        &self.sources[span.file as usize]
    }

    /// An error in `what`. The include that led to the file is omitted, because it may differ each time.
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
