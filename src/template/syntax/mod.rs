//! Parses bytes to a syntax tree: lexer, tokens, expressions, tags.
//! Reads no other files and evaluates nothing. Of the built-in functions and filters it knows only the names.

pub(crate) mod ast;
pub(crate) mod expression;
pub(crate) mod hints;
pub(crate) mod lexer;
pub(crate) mod names;
pub(crate) mod parser;
pub(crate) mod tags;
pub(crate) mod tokens;
