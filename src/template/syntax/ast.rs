//! The syntax tree of a template: names are resolved as far as possible, places are kept for errors. Evaluates nothing.
//!
//! Long sequences (operands of `+` and `*`, of `and` and `or`, filters, steps of a path) are lists and not nested, so
//! that only the nesting that the parser counts takes stack in evaluation and drop.

use std::rc::Rc;

use crate::template::builtin::functions::Function;
use crate::template::builtin::lorem::Lorem;
use crate::template::builtin::scripts::AnyFilter;
use crate::template::source::{Error, Span};
use crate::template::syntax::names::Name;
use crate::template::value::{Op, Value};

/// An expression.
pub(crate) enum Expr {
    Literal(Value),
    Path(Box<Path>),
    /// `x|f:1|g`
    Filtered(Box<Expr>, Vec<FilterCall>),
    /// `-x`
    Negate(Box<Expr>, Span),
    /// `not x`
    Not(Box<Expr>),
    /// `a == b`, `a ^ b`: a single operator, or operators grouped to the right
    Binary(Op, Box<(Expr, Expr)>, Span),
    /// `a + b - c`: grouped to the left. A span reaches from the first operand to the one it belongs to.
    Chain(Box<Expr>, Vec<(Op, Expr, Span)>),
    /// `a and b or c`: grouped to the right.
    Logic(Box<Expr>, Vec<(Logic, Expr)>),
}

impl Expr {
    /// Whether the filter `safe` is applied to the expression, or to all of its operands.
    fn is_safe(&self) -> bool {
        match self {
            Expr::Literal(_) | Expr::Path(_) => false,
            Expr::Filtered(_, filters) => filters.iter().any(|call| call.filter.name() == "safe"),
            Expr::Negate(operand, _) | Expr::Not(operand) => operand.is_safe(),
            Expr::Binary(_, operands, _) => operands.0.is_safe() && operands.1.is_safe(),
            Expr::Chain(first, rest) => first.is_safe() && rest.iter().all(|(_, operand, _)| operand.is_safe()),
            Expr::Logic(first, rest) => first.is_safe() && rest.iter().all(|(_, operand)| operand.is_safe()),
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Logic {
    And,
    Or,
}

/// `a`, `a.b.0`, `f(x).b`
pub(crate) struct Path {
    pub head: Head,
    pub steps: Vec<Step>,
}

impl Path {
    /// Whether the path is a single name.
    pub fn is_name(&self) -> bool {
        self.steps.is_empty() && self.head.args.is_none()
    }
}

/// The first name of a path: a variable, or else a function.
pub(crate) struct Head {
    pub name: Name,
    pub callee: Option<Callee>,
    /// The arguments; `None`: no parentheses.
    pub args: Option<Vec<Arg>>,
    pub span: Span,
}

/// The function that is called if no variable has the name.
pub(crate) enum Callee {
    Function(&'static Function),
    /// Every filter is a function too: `base(x)` is `x|base`.
    Filter(AnyFilter),
}

pub(crate) struct Arg {
    pub value: Expr,
    pub span: Span,
}

/// `.b`, `.0`, `.f(x)`
pub(crate) struct Step {
    pub access: Access,
    pub args: Option<Vec<Arg>>,
    /// The range from the head of the path to the end of this step.
    pub span: Span,
}

pub(crate) enum Access {
    Field(Rc<str>),
    Index(usize),
}

/// `|name:argument`
pub(crate) struct FilterCall {
    pub filter: AnyFilter,
    pub argument: Option<Expr>,
    /// The range from the name to the end of the argument.
    pub span: Span,
}

/// A statement with its tag.
pub(crate) struct Stmt {
    pub tag: Span,
    pub kind: StmtKind,
}

pub(crate) type Block = Vec<Stmt>;

pub(crate) type Pairs = Vec<(Name, Expr)>;

pub(crate) enum StmtKind {
    /// Text between tags. Its tag is the text itself.
    Text,
    Print(Printed),
    If(If),
    For(Box<For>),
    Set(Name, Expr),
    With(Pairs, Block),
    Include(Box<Include>),
    /// A block with this name. Its statements are in [`crate::template::syntax::parser::Document::blocks`].
    Block(Name),
    Macro(Box<Macro>),
    Import(Box<Import>),
    Filter(Vec<FilterCall>, Block),
    Cycle(Box<Cycle>),
    FirstOf(Vec<Printed>),
    IfChanged(Box<IfChanged>),
    /// The text that a tag produces.
    Literal(&'static str),
    /// `ssi`: the text of a file.
    Ssi(Vec<u8>, Span),
    Spaceless(Block),
    WidthRatio(Box<WidthRatio>),
    /// `now`
    Time(Clock, Vec<u8>),
    Autoescape(Escape, Block),
    Lorem(Lorem),
}

/// A value that is printed.
pub(crate) struct Printed {
    pub value: Expr,
    /// Whether the filter `safe` keeps it from being escaped.
    pub safe: bool,
}

impl Printed {
    /// A value, not escaped if the filter `safe` is applied to it or to all of its operands.
    pub fn new(value: Expr) -> Printed {
        let safe = value.is_safe();
        Printed { value, safe }
    }
}

/// The branches of an `if`. The first one whose condition is true runs.
pub(crate) struct If {
    pub branches: Vec<(Condition, Block)>,
    pub otherwise: Option<Block>,
}

pub(crate) struct Condition {
    pub value: Expr,
    /// The `if` or `elif`.
    pub tag: Span,
}

pub(crate) struct For {
    pub key: Name,
    pub value: Option<Name>,
    pub iterated: Expr,
    pub iterated_span: Span,
    pub reversed: bool,
    pub sorted: bool,
    pub body: Block,
    pub empty: Option<Block>,
}

pub(crate) struct Include {
    pub file: File,
    pub file_span: Span,
    pub presence: Presence,
    pub pairs: Pairs,
    pub only: bool,
    /// The error in the tag, which counts only if the file exists.
    pub malformed: Option<Error>,
}

/// The file of an include.
pub(crate) enum File {
    /// A literal: the file is read when the template is compiled.
    Fixed(Vec<u8>),
    /// An expression, evaluated each time the include runs.
    Computed(Expr),
}

pub(crate) struct Macro {
    pub name: Name,
    /// The parameters with their defaults.
    pub params: Vec<(Name, Option<Expr>)>,
    pub body: Block,
}

pub(crate) struct Import {
    pub file: Vec<u8>,
    pub file_span: Span,
    /// The name of the macro, its place, and its name in this file.
    pub macros: Vec<(Name, Span, Name)>,
}

pub(crate) struct Cycle {
    pub values: Vec<Expr>,
    pub name: Option<Name>,
    pub silent: bool,
}

pub(crate) struct IfChanged {
    /// The watched values. Empty: the output of the body is watched.
    pub watched: Vec<Expr>,
    pub body: Block,
    pub otherwise: Option<Block>,
}

pub(crate) struct WidthRatio {
    pub value: Expr,
    pub most: Expr,
    pub width: Expr,
    pub name: Option<Name>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Clock {
    Now,
    /// A fixed moment, to try a format.
    Fake,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Escape {
    On,
    Off,
}

/// Whether a file must exist.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Presence {
    Required,
    /// `if_exists`
    Optional,
}
