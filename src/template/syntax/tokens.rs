//! The tokens of one tag as the parser reads them, and the escapes in strings. The lexer finds the tokens; the parser
//! knows their meaning.

use crate::template::source::Span;
use crate::template::syntax::lexer::{Tag, Token, TokenKind};

/// The tokens of a tag, read from left to right.
pub(crate) struct Tokens<'t, 's> {
    pub tag: &'t Tag<'s>,
    at: usize,
}

impl<'t, 's> Tokens<'t, 's> {
    /// All tokens of a tag, none of them taken.
    pub fn new(tag: &'t Tag<'s>) -> Tokens<'t, 's> {
        Tokens { tag, at: 0 }
    }

    /// The next token, which is not taken; `None` at the end of the tag.
    pub fn peek(&self) -> Option<&'t Token<'s>> {
        self.tag.tokens.get(self.at)
    }

    /// Takes the next token; `None` at the end of the tag.
    pub fn next(&mut self) -> Option<&'t Token<'s>> {
        let token = self.peek()?;
        self.at += 1;
        Some(token)
    }

    /// The tokens that are not taken yet.
    pub fn rest(&self) -> &'t [Token<'s>] {
        &self.tag.tokens[self.at..]
    }

    /// Whether all tokens are taken.
    pub fn is_empty(&self) -> bool {
        self.rest().is_empty()
    }

    /// Takes the next token if it has this kind.
    pub fn take_kind(&mut self, kind: TokenKind) -> Option<&'t Token<'s>> {
        self.peek().filter(|token| token.kind == kind).and_then(|_| self.next())
    }

    /// Takes the next token if it is this symbol or word. (A string never matches, because it may contain any text.)
    pub fn take(&mut self, text: &str) -> Option<&'t Token<'s>> {
        let is = |token: &&Token| token.kind != TokenKind::String && token.text == text.as_bytes();
        self.peek().filter(is).and_then(|_| self.next())
    }

    /// Takes the next token if it is one of these, and returns which one.
    pub fn take_one<T: Copy>(&mut self, table: &[(&str, T)]) -> Option<T> {
        table.iter().find(|(text, _)| self.take(text).is_some()).map(|(_, meaning)| *meaning)
    }

    /// The last taken token.
    pub fn previous(&self) -> Option<&'t Token<'s>> {
        self.at.checked_sub(1).and_then(|last| self.tag.tokens.get(last))
    }

    /// The place of the next error: the next token, or the end of the tag.
    pub fn here(&self) -> Span {
        self.peek().map_or_else(|| self.tag.end(), |token| token.span)
    }

    /// The next token in the words of an error.
    pub fn found(&self) -> String {
        match self.peek() {
            Some(token) if token.kind == TokenKind::String => "a string".to_owned(),
            Some(token) => format!("`{}`", token.text.escape_ascii()),
            None => "the end of the tag".to_owned(),
        }
    }

    /// The range from a place up to the last taken token.
    pub fn since(&self, start: Span) -> Span {
        self.previous().map_or(start, |last| start.to(last.span))
    }
}

/// Resolves `\"` and `\\`, the only escapes that the lexer accepts.
pub(crate) fn unescape(text: &[u8]) -> Vec<u8> {
    let mut plain = Vec::with_capacity(text.len());
    let mut bytes = text.iter();
    while let Some(byte) = bytes.next() {
        plain.extend(if *byte == b'\\' { bytes.next() } else { Some(byte) });
    }
    plain
}
