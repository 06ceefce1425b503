//! The tags of the language, in one table: the grammar of each and its statement. `lower` and `render` implement the
//! statements. The grammar is that of pongo2's tags_*.go.

use crate::template::builtin::lorem::{Lorem, Order, Unit};
use crate::template::builtin::scripts::Scripts;
use crate::template::source::{Error, Macros, Source, Span};
use crate::template::syntax::ast::{
    Block, Clock, Condition, Cycle, Escape, Expr, File, For, If, IfChanged, Import, Include, Macro, Pairs, Presence,
    Printed, StmtKind, WidthRatio,
};
use crate::template::syntax::lexer::{Piece, TokenKind};
use crate::template::syntax::names::{Name, Names};
use crate::template::syntax::parser::{self, Document, Extends, Language, Parse, Parser, Purpose};
use crate::template::syntax::tokens::{Tokens, unescape};
use crate::template::value::Op;

pub(crate) static LANGUAGE: Language = Language { print, tags: &TAGS, ends: &ENDS };

/// Parses the pieces of one file, with this number of open levels of nesting.
pub(crate) fn parse<'s>(
    source: &'s Source,
    names: &'s mut Names,
    scripts: &'s Scripts,
    pieces: Vec<Piece<'s>>,
    purpose: Purpose,
    open: usize,
) -> Result<Document, Error> {
    parser::parse(&LANGUAGE, source, names, scripts, pieces, purpose, open)
}

const TAGS: [(&str, Parse); 25] = [
    ("autoescape", autoescape),
    ("block", block),
    ("comment", comment),
    ("cycle", cycle),
    ("extends", extends),
    ("filter", filter),
    ("firstof", firstof),
    ("for", for_),
    ("if", if_),
    ("ifchanged", ifchanged),
    ("ifequal", ifequal),
    ("ifnotequal", ifnotequal),
    ("import", import),
    ("include", include),
    ("lorem", lorem),
    ("macro", macro_),
    ("now", now),
    ("set", set),
    ("spaceless", spaceless),
    ("ssi", ssi),
    ("templatetag", templatetag),
    ("verbatim", verbatim),
    ("widthratio", widthratio),
    ("with", with),
    ("endverbatim", verbatim),
];

/// Tags that end or divide another one.
const ENDS: [&str; 15] = [
    "elif",
    "else",
    "empty",
    "endautoescape",
    "endblock",
    "endcomment",
    "endfilter",
    "endfor",
    "endif",
    "endifchanged",
    "endifequal",
    "endifnotequal",
    "endmacro",
    "endspaceless",
    "endwith",
];

/// `{{ value }}`
fn print(parser: &mut Parser, tokens: &mut Tokens) -> Result<Option<StmtKind>, Error> {
    let value = parser.expression(tokens)?;
    parser.finish(tokens)?;
    Ok(Some(StmtKind::Print(Printed::new(value))))
}

/// The lexer handles verbatim and its end if they are spelt exactly. This is any other spelling.
fn verbatim(parser: &mut Parser, tokens: &mut Tokens) -> Result<Option<StmtKind>, Error> {
    let message = "verbatim has to be written exactly so: {% verbatim %} .. {% endverbatim %}";
    Err(parser.error(tokens.tag.span, message))
}

/// `{% comment %}`
fn comment(parser: &mut Parser, tokens: &mut Tokens) -> Result<Option<StmtKind>, Error> {
    parser.no_arguments(tokens.tag)?;
    parser.skip("comment", tokens.tag, "endcomment")?;
    Ok(None)
}

/// `{% set name = value %}`
fn set(parser: &mut Parser, tokens: &mut Tokens) -> Result<Option<StmtKind>, Error> {
    let name = parser.binding(tokens)?;
    parser.expect(tokens, "=")?;
    let value = parser.expression(tokens)?;
    parser.finish(tokens)?;
    Ok(Some(StmtKind::Set(name, value)))
}

/// `{% if a %}{% elif b %}{% else %}{% endif %}`
fn if_(parser: &mut Parser, tokens: &mut Tokens) -> Result<Option<StmtKind>, Error> {
    let mut conditions = vec![condition(parser, tokens)?];
    let mut blocks = Vec::new();
    loop {
        let (block, end) = parser.block("if", tokens.tag, &["elif", "else", "endif"])?;
        blocks.push(block);
        match end.name {
            "elif" => {
                let mut tokens = Tokens::new(&end.tag);
                tokens.next();
                conditions.push(condition(parser, &mut tokens)?);
            }
            _ => parser.no_arguments(&end.tag)?,
        }
        if end.name == "endif" {
            break;
        }
    }
    // As in Go remco, the first block belongs to the first condition and so on, whichever tags divide them: the block
    // behind an `else` may belong to a later condition or to none.
    let mut blocks = blocks.into_iter();
    let branches = conditions.into_iter().zip(blocks.by_ref()).collect();
    Ok(Some(StmtKind::If(If { branches, otherwise: blocks.next() })))
}

fn condition(parser: &mut Parser, tokens: &mut Tokens) -> Result<Condition, Error> {
    let value = parser.expression(tokens)?;
    parser.finish(tokens)?;
    Ok(Condition { value, tag: tokens.tag.span })
}

/// `{% for key, value in iterated reversed sorted %}{% empty %}{% endfor %}`
fn for_(parser: &mut Parser, tokens: &mut Tokens) -> Result<Option<StmtKind>, Error> {
    let key = parser.binding(tokens)?;
    let value = match tokens.take(",") {
        Some(_) => Some(parser.binding(tokens)?),
        None => None,
    };
    if tokens.take("in").is_none() {
        let message = format!("`in` is expected, found {}: a loop is written {{% for x in list %}}", tokens.found());
        return Err(parser.error(tokens.here(), message));
    }
    let start = tokens.here();
    let iterated = parser.expression(tokens)?;
    let iterated_span = tokens.since(start);
    let reversed = tokens.take("reversed").is_some();
    let here = tokens.here();
    let sorted = tokens.take("sorted").is_some();
    if sorted && tokens.take("reversed").is_some() {
        return Err(parser.error(tokens.since(here), "the order is `reversed sorted`"));
    }
    parser.finish(tokens)?;
    let (body, end) = parser.block("for", tokens.tag, &["empty", "endfor"])?;
    parser.no_arguments(&end.tag)?;
    let empty = match end.name {
        "empty" => {
            let (empty, end) = parser.block("for", tokens.tag, &["endfor"])?;
            parser.no_arguments(&end.tag)?;
            Some(empty)
        }
        _ => None,
    };
    Ok(Some(StmtKind::For(Box::new(For { key, value, iterated, iterated_span, reversed, sorted, body, empty }))))
}

/// `{% with a=1 b=2 %}`, or all of it in the form `{% with 1 as a 2 as b %}`
fn with(parser: &mut Parser, tokens: &mut Tokens) -> Result<Option<StmtKind>, Error> {
    if tokens.is_empty() {
        return Err(parser.error(tokens.here(), "`with` needs a name and a value, like x=1"));
    }
    let as_form = tokens.rest().iter().any(|token| token.kind == TokenKind::Keyword && token.text == b"as");
    let mut pairs = Pairs::new();
    while !tokens.is_empty() {
        let pair = if as_form {
            let value = parser.expression(tokens)?;
            parser.expect(tokens, "as")?;
            (parser.binding(tokens)?, value)
        } else {
            pair(parser, tokens)?
        };
        push_pair(&mut pairs, pair);
    }
    let (body, end) = parser.block("with", tokens.tag, &["endwith"])?;
    parser.no_arguments(&end.tag)?;
    Ok(Some(StmtKind::With(pairs, body)))
}

/// A repeated name has its last value; the others are not evaluated.
fn push_pair(pairs: &mut Pairs, pair: (Name, Expr)) {
    pairs.retain(|(name, _)| *name != pair.0);
    pairs.push(pair);
}

/// `name=value`
fn pair(parser: &mut Parser, tokens: &mut Tokens) -> Result<(Name, Expr), Error> {
    let name = parser.binding(tokens)?;
    parser.expect(tokens, "=")?;
    Ok((name, parser.expression(tokens)?))
}

/// `{% include "file" if_exists with a=1 only %}`; Go remco accepts `only` only behind a value.
fn include(parser: &mut Parser, tokens: &mut Tokens) -> Result<Option<StmtKind>, Error> {
    let start = tokens.here();
    let file = match tokens.take_kind(TokenKind::String) {
        Some(name) => File::Fixed(unescape(name.text)),
        None => File::Computed(parser.expression(tokens)?),
    };
    let file_span = tokens.since(start);
    let presence = if tokens.take("if_exists").is_some() { Presence::Optional } else { Presence::Required };
    let mark = parser.mark();
    let (pairs, only, malformed) = match include_pairs(parser, tokens) {
        Ok((pairs, only)) => (pairs, only, None),
        // Go remco ignores the arguments if the file does not exist.
        Err(error) if presence == Presence::Optional && matches!(file, File::Fixed(_)) => {
            parser.reset(mark);
            (Pairs::new(), false, Some(error))
        }
        Err(error) => return Err(error),
    };
    Ok(Some(StmtKind::Include(Box::new(Include { file, file_span, presence, pairs, only, malformed }))))
}

/// The arguments behind the name of the file.
fn include_pairs(parser: &mut Parser, tokens: &mut Tokens) -> Result<(Pairs, bool), Error> {
    let mut pairs = Pairs::new();
    let mut only = tokens.take("only").is_some();
    if !only && tokens.take("with").is_some() {
        while !tokens.is_empty() && !only {
            let pair = pair(parser, tokens)?;
            push_pair(&mut pairs, pair);
            only = tokens.take("only").is_some();
        }
    }
    parser.finish(tokens)?;
    Ok((pairs, only))
}

/// `{% ssi "file" %}`: the text of a file; `{% ssi "file" parsed %}` is an include.
fn ssi(parser: &mut Parser, tokens: &mut Tokens) -> Result<Option<StmtKind>, Error> {
    let (file, file_span) = file_name(parser, tokens)?;
    let parsed = tokens.take("parsed").is_some();
    parser.finish(tokens)?;
    if !parsed {
        return Ok(Some(StmtKind::Ssi(file, file_span)));
    }
    let file = File::Fixed(file);
    let include =
        Include { file, file_span, presence: Presence::Required, pairs: Pairs::new(), only: false, malformed: None };
    Ok(Some(StmtKind::Include(Box::new(include))))
}

/// A file named by a literal.
fn file_name(parser: &mut Parser, tokens: &mut Tokens) -> Result<(Vec<u8>, Span), Error> {
    let Some(name) = tokens.take_kind(TokenKind::String) else {
        let message = format!("the name of a file in quotes is expected, found {}", tokens.found());
        return Err(parser.error(tokens.here(), message));
    };
    Ok((unescape(name.text), name.span))
}

/// `{% extends "file" %}`
fn extends(parser: &mut Parser, tokens: &mut Tokens) -> Result<Option<StmtKind>, Error> {
    let (file, span) = file_name(parser, tokens)?;
    parser.finish(tokens)?;
    if let Some((open, _)) = parser.innermost() {
        let message = format!("`extends` stands within `{open}`, but concerns the file as a whole");
        return Err(parser.error(tokens.tag.span, message));
    }
    if parser.extends.is_some() {
        return Err(parser.error(tokens.tag.span, "the file extends another one already"));
    }
    parser.extends = Some(Extends { file, span, tag: tokens.tag.span });
    Ok(None)
}

/// `{% block name %}{% endblock name %}`
fn block(parser: &mut Parser, tokens: &mut Tokens) -> Result<Option<StmtKind>, Error> {
    let named = tokens.here();
    let name = parser.name(tokens)?;
    parser.finish(tokens)?;
    let (body, end) = parser.block("block", tokens.tag, &["endblock"])?;
    let mut ending = Tokens::new(&end.tag);
    ending.next();
    if !ending.is_empty() {
        let span = ending.here();
        if parser.name(&mut ending)? != name {
            let message = format!("the block is called `{}`", parser.names.text(name));
            return Err(parser.error(span, message));
        }
        parser.finish(&ending)?;
    }
    if parser.blocks.insert(name, body).is_some() {
        let message = format!("the file has a block `{}` already", parser.names.text(name));
        return Err(parser.error(named, message));
    }
    Ok(Some(StmtKind::Block(name)))
}

/// `{% macro name(a, b=1) export %}{% endmacro %}`
fn macro_(parser: &mut Parser, tokens: &mut Tokens) -> Result<Option<StmtKind>, Error> {
    parser.macros = Macros::Some;
    let name = parser.binding(tokens)?;
    parser.expect(tokens, "(")?;
    let mut params = Vec::new();
    while tokens.take(")").is_none() {
        let param = parser.binding(tokens)?;
        let default = match tokens.take("=") {
            Some(_) => Some(parser.expression(tokens)?),
            None => None,
        };
        params.push((param, default));
        if tokens.take(")").is_some() {
            break;
        }
        parser.expect(tokens, ",")?;
    }
    let export = tokens.take("export").is_some();
    parser.finish(tokens)?;
    let body = body(parser, tokens, "macro", "endmacro")?;
    let macro_ = Macro { name, params, body };
    if export && !parser.exported.insert(name) {
        let message = format!("the file exports a macro `{}` already", parser.names.text(name));
        return Err(parser.error(tokens.tag.span, message));
    }
    match &mut parser.exports {
        Some(exports) if export => {
            exports.push((tokens.tag.span, macro_));
            Ok(None)
        }
        _ => Ok(Some(StmtKind::Macro(Box::new(macro_)))),
    }
}

/// `{% import "file" a, b as c %}`
fn import(parser: &mut Parser, tokens: &mut Tokens) -> Result<Option<StmtKind>, Error> {
    parser.macros = Macros::Some;
    let (file, file_span) = file_name(parser, tokens)?;
    let mut macros = Vec::new();
    loop {
        let span = tokens.here();
        let name = parser.name(tokens)?;
        let alias = match tokens.take("as") {
            Some(_) => parser.name(tokens)?,
            None => name,
        };
        parser.bind(alias);
        macros.push((name, span, alias));
        if tokens.is_empty() {
            break;
        }
        parser.expect(tokens, ",")?;
        if tokens.is_empty() {
            break;
        }
    }
    Ok(Some(StmtKind::Import(Box::new(Import { file, file_span, macros }))))
}

/// `{% ifequal a b %}{% else %}{% endifequal %}`
fn ifequal(parser: &mut Parser, tokens: &mut Tokens) -> Result<Option<StmtKind>, Error> {
    compare(parser, tokens, "ifequal", "endifequal", Op::Eq)
}

fn ifnotequal(parser: &mut Parser, tokens: &mut Tokens) -> Result<Option<StmtKind>, Error> {
    compare(parser, tokens, "ifnotequal", "endifnotequal", Op::Ne)
}

fn compare(
    parser: &mut Parser,
    tokens: &mut Tokens,
    name: &'static str,
    end: &'static str,
    op: Op,
) -> Result<Option<StmtKind>, Error> {
    let start = tokens.here();
    let operands = Box::new((parser.expression(tokens)?, parser.expression(tokens)?));
    parser.finish(tokens)?;
    let value = Expr::Binary(op, operands, tokens.since(start));
    let (block, otherwise) = with_else(parser, tokens, name, end)?;
    let condition = Condition { value, tag: tokens.tag.span };
    Ok(Some(StmtKind::If(If { branches: vec![(condition, block)], otherwise })))
}

/// The block of a tag, and the one behind its `else`.
fn with_else(
    parser: &mut Parser,
    tokens: &mut Tokens,
    name: &'static str,
    end: &'static str,
) -> Result<(Block, Option<Block>), Error> {
    let (block, ended) = parser.block(name, tokens.tag, &["else", end])?;
    parser.no_arguments(&ended.tag)?;
    let otherwise = match ended.name {
        "else" => Some(body(parser, tokens, name, end)?),
        _ => None,
    };
    Ok((block, otherwise))
}

/// The block of a tag up to its end tag, which has no arguments. (Three tags do without this: Go remco ignores the text
/// behind `endautoescape`, `endfilter` and `endspaceless`.)
fn body(parser: &mut Parser, tokens: &mut Tokens, name: &'static str, end: &'static str) -> Result<Block, Error> {
    let (body, ended) = parser.block(name, tokens.tag, &[end])?;
    parser.no_arguments(&ended.tag)?;
    Ok(body)
}

/// `{% filter a|b:1 %}{% endfilter %}`
fn filter(parser: &mut Parser, tokens: &mut Tokens) -> Result<Option<StmtKind>, Error> {
    let mut filters = vec![parser.filter(tokens)?];
    filters.extend(parser.filters(tokens)?);
    parser.finish(tokens)?;
    let (body, _) = parser.block("filter", tokens.tag, &["endfilter"])?;
    Ok(Some(StmtKind::Filter(filters, body)))
}

/// `{% cycle a b as name silent %}`
fn cycle(parser: &mut Parser, tokens: &mut Tokens) -> Result<Option<StmtKind>, Error> {
    let mut values = vec![parser.expression(tokens)?];
    let mut name = None;
    while !tokens.is_empty() && name.is_none() {
        match tokens.take("as") {
            Some(_) => name = Some(parser.binding(tokens)?),
            None => values.push(parser.expression(tokens)?),
        }
    }
    let silent = name.is_some() && tokens.take("silent").is_some();
    parser.finish(tokens)?;
    Ok(Some(StmtKind::Cycle(Box::new(Cycle { values, name, silent }))))
}

/// `{% firstof a b c %}`
fn firstof(parser: &mut Parser, tokens: &mut Tokens) -> Result<Option<StmtKind>, Error> {
    let mut values = Vec::new();
    while !tokens.is_empty() {
        values.push(Printed::new(parser.expression(tokens)?));
    }
    Ok(Some(StmtKind::FirstOf(values)))
}

/// `{% ifchanged a b %}{% else %}{% endifchanged %}`
fn ifchanged(parser: &mut Parser, tokens: &mut Tokens) -> Result<Option<StmtKind>, Error> {
    let mut watched = Vec::new();
    while !tokens.is_empty() {
        watched.push(parser.expression(tokens)?);
    }
    let (body, otherwise) = with_else(parser, tokens, "ifchanged", "endifchanged")?;
    Ok(Some(StmtKind::IfChanged(Box::new(IfChanged { watched, body, otherwise }))))
}

/// `{% templatetag openblock %}`: delimiters as text.
fn templatetag(parser: &mut Parser, tokens: &mut Tokens) -> Result<Option<StmtKind>, Error> {
    const TEXTS: [(&str, &str); 8] = [
        ("openblock", "{%"),
        ("closeblock", "%}"),
        ("openvariable", "{{"),
        ("closevariable", "}}"),
        ("openbrace", "{"),
        ("closebrace", "}"),
        ("opencomment", "{#"),
        ("closecomment", "#}"),
    ];
    let here = tokens.here();
    let Some((_, text)) = TEXTS.iter().find(|(name, _)| tokens.take(name).is_some()) else {
        let names = TEXTS.map(|(name, _)| name).join(", ");
        return Err(parser.error(here, format!("one of {names} is expected, found {}", tokens.found())));
    };
    parser.finish(tokens)?;
    Ok(Some(StmtKind::Literal(text)))
}

/// `{% spaceless %}{% endspaceless %}`
fn spaceless(parser: &mut Parser, tokens: &mut Tokens) -> Result<Option<StmtKind>, Error> {
    parser.finish(tokens)?;
    let (body, _) = parser.block("spaceless", tokens.tag, &["endspaceless"])?;
    Ok(Some(StmtKind::Spaceless(body)))
}

/// `{% widthratio value most width as name %}`
fn widthratio(parser: &mut Parser, tokens: &mut Tokens) -> Result<Option<StmtKind>, Error> {
    let value = parser.expression(tokens)?;
    let most = parser.expression(tokens)?;
    let width = parser.expression(tokens)?;
    let name = match tokens.take("as") {
        Some(_) => Some(parser.binding(tokens)?),
        None => None,
    };
    parser.finish(tokens)?;
    Ok(Some(StmtKind::WidthRatio(Box::new(WidthRatio { value, most, width, name }))))
}

/// `{% now "2006-01-02" %}`
fn now(parser: &mut Parser, tokens: &mut Tokens) -> Result<Option<StmtKind>, Error> {
    let Some(layout) = tokens.take_kind(TokenKind::String) else {
        let message = format!("a format in quotes is expected, like \"2006-01-02 15:04\", found {}", tokens.found());
        return Err(parser.error(tokens.here(), message));
    };
    let clock = if tokens.take("fake").is_some() { Clock::Fake } else { Clock::Now };
    parser.finish(tokens)?;
    Ok(Some(StmtKind::Time(clock, unescape(layout.text))))
}

/// `{% autoescape on %}{% endautoescape %}`
fn autoescape(parser: &mut Parser, tokens: &mut Tokens) -> Result<Option<StmtKind>, Error> {
    let here = tokens.here();
    let escape = match (tokens.take("on"), tokens.take("off")) {
        (Some(_), None) => Escape::On,
        (None, Some(_)) => Escape::Off,
        _ => return Err(parser.error(here, format!("`on` or `off` is expected, found {}", tokens.found()))),
    };
    parser.finish(tokens)?;
    let (body, _) = parser.block("autoescape", tokens.tag, &["endautoescape"])?;
    Ok(Some(StmtKind::Autoescape(escape, body)))
}

/// `{% lorem count method random %}`
fn lorem(parser: &mut Parser, tokens: &mut Tokens) -> Result<Option<StmtKind>, Error> {
    let count = match tokens.take_kind(TokenKind::Digits).map(|digits| digits.name().parse()) {
        Some(Ok(count)) => count,
        // Go remco counts in 64 bits.
        Some(Err(_)) => 0,
        None => 1,
    };
    let here = tokens.here();
    let unit = match tokens.take_kind(TokenKind::Name) {
        Some(method) => Unit::of(method.text).ok_or_else(|| {
            let method = method.name();
            let message =
                format!("`w` (words), `p` (HTML paragraphs) or `b` (paragraphs) is expected, found `{method}`");
            parser.error(here, message)
        })?,
        None => Unit::Paragraphs,
    };
    let order = if tokens.take("random").is_some() { Order::Random } else { Order::Text };
    parser.finish(tokens)?;
    Ok(Some(StmtKind::Lorem(Lorem { count, unit, order })))
}
