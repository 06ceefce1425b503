//! The tags of the language, in one table: what each takes and which statement it becomes. What a statement does is
//! in `lower` and `render`. The grammar is that of pongo2's tags_*.go.

use super::ast::{Condition, Expr, File, For, If, Include, Pairs, StmtKind};
use super::expression::{Tokens, unescape};
use super::lexer::TokenKind;
use super::library::Need;
use super::parser::Parser;
use super::scope::Name;
use super::source::Error;

/// Parses a tag behind its name, and what belongs to it up to its end. A comment becomes no statement.
pub(super) type Parse = fn(&mut Parser, &mut Tokens) -> Result<Option<StmtKind>, Error>;

const TAGS: [(&str, Parse); 25] = [
    ("autoescape", unsupported),
    ("block", unsupported),
    ("comment", comment),
    ("cycle", unsupported),
    ("extends", unsupported),
    ("filter", unsupported),
    ("firstof", unsupported),
    ("for", for_),
    ("if", if_),
    ("ifchanged", unsupported),
    ("ifequal", unsupported),
    ("ifnotequal", unsupported),
    ("import", unsupported),
    ("include", include),
    ("lorem", unsupported),
    ("macro", unsupported),
    ("now", unsupported),
    ("set", set),
    ("spaceless", unsupported),
    ("ssi", unsupported),
    ("templatetag", unsupported),
    ("verbatim", verbatim),
    ("widthratio", unsupported),
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

pub(super) fn lookup(name: &str) -> Option<Parse> {
    TAGS.iter().find(|(known, _)| *known == name).map(|(_, parse)| *parse)
}

pub(super) fn names() -> impl Iterator<Item = &'static str> {
    TAGS.iter().map(|(name, _)| *name).chain(ENDS)
}

pub(super) fn is_end(name: &str) -> bool {
    ENDS.contains(&name)
}

/// A tag that another version knows: said clearly, so that nobody looks for a misspelling.
fn unsupported(parser: &mut Parser, tokens: &mut Tokens) -> Result<Option<StmtKind>, Error> {
    let Some(name) = tokens.tag.tokens.first() else {
        return Ok(None);
    };
    let message = format!("tag `{}` is not supported yet", name.text.escape_ascii());
    Err(parser.error(tokens, name.span, message))
}

/// The lexer takes verbatim and its end where they are written as they have to be.
fn verbatim(parser: &mut Parser, tokens: &mut Tokens) -> Result<Option<StmtKind>, Error> {
    let message = "verbatim has to be written exactly so: {% verbatim %} .. {% endverbatim %}";
    Err(parser.error(tokens, tokens.tag.span, message))
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
    // As in the original, the first block belongs to the first condition and so on, whatever divides them: what follows
    // an `else` may be reached in odd ways or not at all.
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
    parser.expect(tokens, "in")?;
    let start = tokens.here();
    let iterated = parser.expression(tokens)?;
    let iterated_span = tokens.since(start);
    let reversed = tokens.take("reversed").is_some();
    let here = tokens.here();
    let sorted = tokens.take("sorted").is_some();
    if sorted && tokens.take("reversed").is_some() {
        return Err(parser.error(tokens, tokens.since(here), "the order is `reversed sorted`"));
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
        return Err(parser.error(tokens, tokens.here(), "`with` needs a name and a value, like x=1"));
    }
    let as_form = tokens.rest().iter().any(|token| token.kind == TokenKind::Keyword && token.text == b"as");
    let mut pairs = Pairs::new();
    while !tokens.is_empty() {
        pairs.push(if as_form {
            let value = parser.expression(tokens)?;
            parser.expect(tokens, "as")?;
            (parser.binding(tokens)?, value)
        } else {
            pair(parser, tokens)?
        });
    }
    let (body, end) = parser.block("with", tokens.tag, &["endwith"])?;
    parser.no_arguments(&end.tag)?;
    Ok(Some(StmtKind::With(pairs, body)))
}

/// `name=value`
fn pair(parser: &mut Parser, tokens: &mut Tokens) -> Result<(Name, Expr), Error> {
    let name = parser.binding(tokens)?;
    parser.expect(tokens, "=")?;
    Ok((name, parser.expression(tokens)?))
}

/// `{% include "file" if_exists with a=1 only %}`; the original knows `only` just behind a value.
fn include(parser: &mut Parser, tokens: &mut Tokens) -> Result<Option<StmtKind>, Error> {
    let start = tokens.here();
    let file = match tokens.take_kind(TokenKind::String) {
        Some(name) => File::Fixed(unescape(name.text)),
        None => File::Computed(parser.expression(tokens)?),
    };
    let file_span = tokens.since(start);
    let need = if tokens.take("if_exists").is_some() { Need::May } else { Need::Must };
    let mut pairs = Pairs::new();
    let mut only = tokens.take("only").is_some();
    if !only && tokens.take("with").is_some() {
        while !tokens.is_empty() && !only {
            pairs.push(pair(parser, tokens)?);
            only = tokens.take("only").is_some();
        }
    }
    parser.finish(tokens)?;
    Ok(Some(StmtKind::Include(Box::new(Include { file, file_span, need, pairs, only }))))
}
