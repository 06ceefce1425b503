//! Parses a template file into statements, by a table of tags that it receives: the grammar of each tag is in `tags`,
//! expressions are in `expression`. Reads no other files (includes are read when the template is lowered) and evaluates
//! nothing.

use std::collections::{BTreeMap, HashSet};
use std::vec;

use crate::template::builtin::functions;
use crate::template::builtin::scripts::Scripts;
use crate::template::limits::NESTING;
use crate::template::source::{Error, Macros, Source, Span};
use crate::template::syntax::ast::{Block, Macro, Stmt, StmtKind};
use crate::template::syntax::hints::{self, suggest, unknown_function};
use crate::template::syntax::lexer::{Piece, Tag, TagKind, TokenKind};
use crate::template::syntax::names::{Name, Names};
use crate::template::syntax::tokens::Tokens;

/// The tags of the language.
pub(crate) struct Language {
    /// `{{ .. }}`
    pub print: Parse,
    /// `{% name .. %}`
    pub tags: &'static [(&'static str, Parse)],
    /// The names of tags that end or divide another one.
    pub ends: &'static [&'static str],
}

impl Language {
    /// The names of all tags.
    pub fn names(&self) -> impl Iterator<Item = &'static str> {
        self.tags.iter().map(|(name, _)| *name).chain(self.ends.iter().copied())
    }
}

/// Parses a tag behind its name, and its body up to its end tag. A comment does not become a statement.
pub(crate) type Parse = fn(&mut Parser, &mut Tokens) -> Result<Option<StmtKind>, Error>;

/// A parsed file.
pub(crate) struct Document {
    pub body: Block,
    pub extends: Option<Extends>,
    /// The statements of each block; `body` has the places of the blocks.
    pub blocks: BTreeMap<Name, Block>,
    /// The macros that the file exports, each with its tag; only if it is parsed for them.
    pub exports: Vec<(Span, Macro)>,
    /// Names that are read as variables, or called without a variable of that name.
    pub variables: Vec<Use>,
    /// Names that some tag of the file sets.
    pub bound: HashSet<Name>,
    /// Whether some tag of the file defines or imports macros.
    pub macros: Macros,
    /// The first call that is an error, unless the file is included by another one, which may set the name.
    pub wrong_call: Option<Error>,
}

/// The file that a file extends.
pub(crate) struct Extends {
    pub file: Vec<u8>,
    pub span: Span,
    pub tag: Span,
}

/// The place of a name.
pub(crate) struct Use {
    pub name: Name,
    pub span: Span,
}

/// The purpose of parsing a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Purpose {
    Render,
    /// Only the macros of the file are needed.
    Import,
}

/// Parses the pieces of one file, with this number of open levels of nesting.
pub(crate) fn parse<'s>(
    language: &'static Language,
    source: &'s Source,
    names: &'s mut Names,
    scripts: &'s Scripts,
    pieces: Vec<Piece<'s>>,
    purpose: Purpose,
    open: usize,
) -> Result<Document, Error> {
    let mut parser = Parser {
        language,
        source,
        names,
        scripts,
        pieces: pieces.into_iter(),
        open: Vec::new(),
        depth: open,
        extends: None,
        blocks: BTreeMap::new(),
        exports: (purpose == Purpose::Import).then(Vec::new),
        exported: HashSet::new(),
        bound: HashSet::new(),
        variables: Vec::new(),
        macros: Macros::None,
        wrong_calls: Vec::new(),
    };
    let mut body = Block::new();
    while let Some(piece) = parser.pieces.next() {
        parser.piece(piece, &mut body)?;
    }
    let Parser { extends, blocks, exports, bound, mut variables, macros, mut wrong_calls, .. } = parser;
    if macros == Macros::Some {
        variables.append(&mut wrong_calls);
        variables.sort_by_key(|variable| variable.span.start);
    }
    let wrong = wrong_calls.into_iter().find(|call| !bound.contains(&call.name));
    let wrong_call = wrong.map(|call| source.error(call.span, unknown_function(parser.names.text(call.name), scripts)));
    let exports = exports.unwrap_or_default();
    Ok(Document { body, extends, blocks, exports, variables, bound, macros, wrong_call })
}

/// The parser at work on one file.
pub(crate) struct Parser<'s> {
    language: &'static Language,
    source: &'s Source,
    pub names: &'s mut Names,
    pub scripts: &'s Scripts,
    pieces: vec::IntoIter<Piece<'s>>,
    /// The open tags, outermost first.
    open: Vec<(&'static str, Span)>,
    /// The present number of nested tags and expressions.
    depth: usize,
    pub extends: Option<Extends>,
    pub blocks: BTreeMap<Name, Block>,
    /// The exported macros; `None`: macros are statements of the body.
    pub exports: Option<Vec<(Span, Macro)>>,
    /// The names of all macros that the file exports.
    pub exported: HashSet<Name>,
    bound: HashSet<Name>,
    pub variables: Vec<Use>,
    pub macros: Macros,
    /// Calls of names that are neither functions nor filters.
    pub wrong_calls: Vec<Use>,
}

/// The tag that ended a block.
pub(crate) struct End<'s> {
    pub name: &'static str,
    pub tag: Tag<'s>,
}

impl<'s> Parser<'s> {
    fn piece(&mut self, piece: Piece<'s>, body: &mut Block) -> Result<(), Error> {
        let (tag, kind) = match piece {
            Piece::Text(span) if span.start == span.end => return Ok(()),
            Piece::Text(span) => (span, Some(StmtKind::Text)),
            Piece::Tag(tag) => {
                self.whole(&tag)?;
                let kind = match tag.kind {
                    TagKind::Print => (self.language.print)(self, &mut Tokens::new(&tag))?,
                    TagKind::Block => self.tag(&tag)?,
                };
                (tag.span, kind)
            }
        };
        body.extend(kind.map(|kind| Stmt { tag, kind }));
        Ok(())
    }

    /// Refuses a tag that the lexer marked as broken.
    fn whole(&self, tag: &Tag) -> Result<(), Error> {
        match &tag.broken {
            None => Ok(()),
            Some((what, message)) => Err(self.source.error(*what, message.as_str())),
        }
    }

    fn tag(&mut self, tag: &Tag<'s>) -> Result<Option<StmtKind>, Error> {
        let mut tokens = Tokens::new(tag);
        let here = tokens.here();
        let Some(name) = tokens.take_kind(TokenKind::Name) else {
            let message = format!("a tag begins with its name, found {}", tokens.found());
            return Err(self.error(here, message));
        };
        let name = name.name();
        if let Some((_, parse)) = self.language.tags.iter().find(|(known, _)| *known == name) {
            return parse(self, &mut tokens);
        }
        let is_end = self.language.ends.contains(&name);
        let message = match self.open.last() {
            Some((open, span)) if is_end => {
                format!(
                    "`{name}` does not belong to the `{open}` of line {}, which is open",
                    self.source.line(span.start)
                )
            }
            None if is_end => format!("`{name}` ends nothing, no tag is open"),
            open => self.unknown_tag(name, open.map(|(open, _)| *open), &tokens),
        };
        Err(self.error(here, message))
    }

    /// The error of an unknown tag.
    fn unknown_tag(&self, name: &str, open: Option<&str>, tokens: &Tokens) -> String {
        let called = tokens.peek().is_some_and(|token| token.kind == TokenKind::Symbol && token.text == b"(");
        let known = functions::lookup(name).is_some() || self.scripts.lookup(name).is_some();
        if let Some(hint) = hints::tag(name, open) {
            format!("unknown tag `{name}`: {hint}")
        } else if called || known {
            format!("unknown tag `{name}`: functions and macros are called as values, write {{{{ {name}(..) }}}}")
        } else {
            format!("unknown tag `{name}`{}", suggest(name, self.language.names()))
        }
    }

    /// Parses statements up to one of the tags `ends`, and returns both. `name` and `opener`: the opening tag.
    pub fn block(
        &mut self,
        name: &'static str,
        opener: &Tag,
        ends: &[&'static str],
    ) -> Result<(Block, End<'s>), Error> {
        self.open_level(opener.span)?;
        self.open.push((name, opener.span));
        let mut body = Block::new();
        while let Some(piece) = self.pieces.next() {
            if let Some((name, tag)) = ending(&piece, ends) {
                self.whole(tag)?;
                self.open.pop();
                self.close_level();
                let Piece::Tag(tag) = piece else { break };
                return Ok((body, End { name, tag }));
            }
            self.piece(piece, &mut body)?;
        }
        let missing = ends.last().copied().unwrap_or_default();
        let message = format!("`{name}` is not closed, `{{% {missing} %}}` is missing");
        Err(self.source.error(opener.span, message))
    }

    /// Skips everything up to a tag, whatever it is.
    pub fn skip(&mut self, name: &str, opener: &Tag, end: &'static str) -> Result<(), Error> {
        while let Some(piece) = self.pieces.next() {
            if let Some((_, tag)) = ending(&piece, &[end]) {
                self.whole(tag)?;
                return self.no_arguments(tag);
            }
        }
        let message = format!("`{name}` is not closed, `{{% {end} %}}` is missing");
        Err(self.source.error(opener.span, message))
    }
}

/// The end tag of a piece, if it is one of these.
fn ending<'p, 's>(piece: &'p Piece<'s>, ends: &[&'static str]) -> Option<(&'static str, &'p Tag<'s>)> {
    let Piece::Tag(tag) = piece else { return None };
    let first = tag.tokens.first().filter(|token| token.kind == TokenKind::Name && tag.kind == TagKind::Block)?;
    let name = ends.iter().find(|end| end.as_bytes() == first.text)?;
    Some((*name, tag))
}

/// The state of the parser, to undo a part of a tag.
pub(crate) struct Mark {
    depth: usize,
    variables: usize,
    wrong_calls: usize,
}

/// The parts of a tag.
impl Parser<'_> {
    /// The present state, for [`Parser::reset`].
    pub fn mark(&self) -> Mark {
        Mark { depth: self.depth, variables: self.variables.len(), wrong_calls: self.wrong_calls.len() }
    }

    /// Undoes everything since then.
    pub fn reset(&mut self, mark: Mark) {
        self.depth = mark.depth;
        self.variables.truncate(mark.variables);
        self.wrong_calls.truncate(mark.wrong_calls);
    }

    /// An error that shows a place of the file.
    pub fn error(&self, what: Span, message: impl Into<String>) -> Error {
        self.source.error(what, message)
    }

    /// Opens a level of nesting. All recursion of parsing, lowering, evaluating and dropping is bounded by it.
    pub fn open_level(&mut self, what: Span) -> Result<(), Error> {
        self.depth += 1;
        if self.depth <= NESTING {
            return Ok(());
        }
        Err(self.source.error(what, format!("nested too deeply, {NESTING} levels are the limit")))
    }

    /// Closes the level that the last [`Parser::open_level`] opened.
    pub fn close_level(&mut self) {
        self.depth -= 1;
    }

    /// The innermost tag that is open.
    pub fn innermost(&self) -> Option<(&'static str, Span)> {
        self.open.last().copied()
    }

    /// Notes that the tag sets a name.
    pub fn binding(&mut self, tokens: &mut Tokens) -> Result<Name, Error> {
        let name = self.name(tokens)?;
        self.bind(name);
        Ok(name)
    }

    /// Notes that a tag of the file sets a variable of this name.
    pub fn bind(&mut self, name: Name) {
        self.bound.insert(name);
    }

    /// Takes a name. Fails if the next token is not a name.
    pub fn name(&mut self, tokens: &mut Tokens) -> Result<Name, Error> {
        let Some(name) = tokens.take_kind(TokenKind::Name) else {
            let message = format!("a name is expected, found {}", tokens.found());
            return Err(self.error(tokens.here(), message));
        };
        Ok(self.names.name(name.name()))
    }

    /// Takes a required symbol or word.
    pub fn expect(&mut self, tokens: &mut Tokens, text: &str) -> Result<(), Error> {
        if tokens.take(text).is_some() {
            return Ok(());
        }
        let message = format!("`{text}` is expected, found {}", tokens.found());
        Err(self.error(tokens.here(), message))
    }

    /// Refuses the rest of a tag.
    pub fn finish(&self, tokens: &Tokens) -> Result<(), Error> {
        let Some(token) = tokens.peek() else { return Ok(()) };
        let message = match (token.kind, token.text) {
            (TokenKind::Keyword, b"not") => "there is no operator `not in`, write `not (a in b)`".to_owned(),
            (TokenKind::Symbol, b"|") => "a filter has to stand within the parentheses, behind a value".to_owned(),
            _ => format!("the tag should end here, found {}{}", tokens.found(), too_much(tokens)),
        };
        Err(self.error(token.span, message))
    }

    /// Refuses anything but the name of a tag.
    pub fn no_arguments(&self, tag: &Tag) -> Result<(), Error> {
        let mut tokens = Tokens::new(tag);
        let Some(name) = tokens.next() else { return Ok(()) };
        let Some(extra) = tokens.peek() else { return Ok(()) };
        let message = match (name.text, extra.text) {
            (b"else", b"if") => "`else` takes nothing, write `elif`".to_owned(),
            _ => format!("`{}` takes nothing, found {}", name.text.escape_ascii(), tokens.found()),
        };
        Err(self.error(extra.span, message))
    }
}

/// The hint for a token where the tag should end.
fn too_much(tokens: &Tokens) -> String {
    let (Some(previous), Some(token)) = (tokens.previous(), tokens.peek()) else { return String::new() };
    match (previous.kind, token.kind, token.text) {
        (TokenKind::Name, TokenKind::String, _) => {
            let name = previous.name();
            format!(": the arguments of a call stand in parentheses, like {name}(..)")
        }
        (_, TokenKind::Symbol, b"=") => ": a comparison is written `==`".to_owned(),
        (_, TokenKind::Name | TokenKind::Keyword, _) if tokens.tag.kind == TagKind::Print => {
            ": `{{ }}` prints one value, conditions and loops stand in `{% %}`".to_owned()
        }
        _ => String::new(),
    }
}
