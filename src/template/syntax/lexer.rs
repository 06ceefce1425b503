//! Cuts a template file into text and tags, and tags into tokens; resolves comments, verbatim and whitespace control.
//! Knows no tag by name: the parser reads the tokens.
//!
//! The rules are those of pongo2's lexer (v4, with TrimBlocks and LStripBlocks, as Go remco sets them).

use crate::template::source::{Error, Source, Span};
use crate::template::syntax::hints;
use crate::template::value::meter::Hold;

/// A part of a template file.
#[derive(Debug)]
pub(crate) enum Piece<'s> {
    /// Text after whitespace control.
    Text(Span),
    Tag(Tag<'s>),
}

/// `{{ .. }}` or `{% .. %}`
#[derive(Debug)]
pub(crate) struct Tag<'s> {
    pub kind: TagKind,
    /// The range with its delimiters.
    pub span: Span,
    pub tokens: Vec<Token<'s>>,
    /// The error in the tag, and its place. It is not reported at once, because it does not matter within `{% comment
    /// %}`.
    pub broken: Option<(Span, String)>,
    /// `{{-`, `-}}`
    trims: Trims,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TagKind {
    /// `{{ .. }}`
    Print,
    /// `{% .. %}`
    Block,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Token<'s> {
    pub kind: TokenKind,
    /// The text in the file; a string without its quotes.
    pub text: &'s [u8],
    pub span: Span,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TokenKind {
    Name,
    Keyword,
    Digits,
    String,
    Symbol,
}

/// Whether the tags of a file remove the whitespace around them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Blocks {
    /// Blanks and tabs before `{%` and one newline after `%}` are removed.
    Trimmed,
    /// Only `-` removes whitespace, as in Go remco for the parents of `extends` and imported files.
    Kept,
}

#[derive(Clone, Copy, Debug, Default)]
struct Trims {
    before: bool,
    after: bool,
}

const KEYWORDS: [&[u8]; 8] = [b"in", b"and", b"or", b"not", b"true", b"false", b"as", b"export"];

/// The symbols, longer ones first.
const SYMBOLS: [&[u8]; 23] = [
    b"==", b">=", b"<=", b"&&", b"||", b"!=", b"<>", b"(", b")", b"+", b"-", b"*", b"<", b">", b"/", b"^", b",", b".",
    b"!", b"|", b":", b"=", b"%",
];

/// The end of both kinds of tags, and whether it removes the whitespace behind it.
const CLOSERS: [(&[u8], TagKind, bool); 4] = [
    (b"-}}", TagKind::Print, true),
    (b"-%}", TagKind::Block, true),
    (b"}}", TagKind::Print, false),
    (b"%}", TagKind::Block, false),
];

/// The memory of a tag and of each of its tokens until the file is compiled, in bytes: first as tokens, then in the
/// syntax tree and in a node. Measured over all tags, with the spare capacity of their lists.
const TAG: usize = 64;
const TOKEN: usize = 128;

const BLANKS: [u8; 4] = [b' ', b'\n', b'\r', b'\t'];

/// Cuts a whole file. The parser reports most errors within a tag (see [`Tag::broken`]). An error here counts even
/// within a comment.
pub(crate) fn lex<'s>(source: &'s Source, blocks: Blocks, room: &mut Hold) -> Result<Vec<Piece<'s>>, Error> {
    let at = source.text_start();
    let mut lexer = Lexer { source, bytes: &source.bytes, at, text: at, pieces: Vec::new(), room };
    lexer.file()?;
    trim(source, &mut lexer.pieces, blocks);
    Ok(lexer.pieces)
}

struct Lexer<'s, 'r> {
    source: &'s Source,
    bytes: &'s [u8],
    at: usize,
    /// The start of the text that is not yet a piece.
    text: usize,
    pieces: Vec<Piece<'s>>,
    /// The memory of the compiled files.
    room: &'r mut Hold,
}

impl<'s> Lexer<'s, '_> {
    fn file(&mut self) -> Result<(), Error> {
        while let Some(offset) = self.bytes[self.at..].iter().position(|byte| *byte == b'{') {
            self.at += offset;
            match self.bytes.get(self.at + 1) {
                Some(b'%') if self.starts_with(VERBATIM) => self.verbatim()?,
                Some(b'{') => self.tag(TagKind::Print)?,
                Some(b'%') => self.tag(TagKind::Block)?,
                Some(b'#') => self.comment()?,
                _ => self.at += 1,
            }
        }
        self.at = self.bytes.len();
        self.end_text();
        Ok(())
    }

    fn starts_with(&self, what: &[u8]) -> bool {
        self.bytes[self.at..].starts_with(what)
    }

    /// Ends the present piece of text here.
    fn end_text(&mut self) {
        if self.text < self.at {
            self.pieces.push(Piece::Text(self.source.span(self.text, self.at)));
        }
        self.text = self.at;
    }

    /// `{% verbatim %}` and its end are compared as texts: other spellings are not recognised here.
    fn verbatim(&mut self) -> Result<(), Error> {
        self.end_text();
        let tag = self.source.span(self.at, self.at + VERBATIM.len());
        self.at += VERBATIM.len();
        self.text = self.at;
        let rest = &self.bytes[self.at..];
        let Some(length) = rest.windows(END_VERBATIM.len()).position(|window| window == END_VERBATIM) else {
            return Err(self.source.error(tag, "verbatim is not closed, `{% endverbatim %}` is missing"));
        };
        self.at += length;
        self.end_text();
        self.at += END_VERBATIM.len();
        self.text = self.at;
        Ok(())
    }

    /// `${#name}` is the length of a variable in a shell.
    fn hint_of_shell(&self, start: usize) -> &'static str {
        if start > 0 && self.bytes[start - 1] == b'$' { hints::VERBATIM } else { "" }
    }

    fn comment(&mut self) -> Result<(), Error> {
        self.end_text();
        let start = self.at;
        let opener = self.source.span(start, start + 2);
        let rest = &self.bytes[start + 2..];
        let Some(length) = rest.windows(2).position(|window| window == b"#}") else {
            let message = format!("comment is not closed, `#}}` is missing{}", self.hint_of_shell(start));
            return Err(self.source.error(opener, message));
        };
        if rest[..length].contains(&b'\n') {
            let message = match self.hint_of_shell(start) {
                "" => "comment is not closed in its line; longer ones stand in {% comment %} .. {% endcomment %}"
                    .to_owned(),
                hint => format!("comment is not closed in its line{hint}"),
            };
            return Err(self.source.error(opener, message));
        }
        self.at = start + 2 + length + 2;
        self.text = self.at;
        Ok(())
    }

    fn tag(&mut self, kind: TagKind) -> Result<(), Error> {
        self.end_text();
        let start = self.at;
        self.at += 2;
        let mut tag = Tag {
            kind,
            span: self.source.span(start, self.at),
            tokens: Vec::new(),
            broken: None,
            trims: Trims::default(),
        };
        if self.starts_with(b"-") {
            tag.trims.before = true;
            self.at += 1;
        }
        let opener = self.source.span(start, self.at);
        self.charge(opener, TAG)?;
        loop {
            while let Some(blank) = self.bytes.get(self.at).filter(|byte| BLANKS.contains(byte)) {
                if *blank == b'\n' {
                    let message = format!("a newline within a tag; `{}` has to be in the same line", kind.delimiter());
                    return Err(self.source.error(opener, message));
                }
                self.at += 1;
            }
            let at = self.at;
            let Some(first) = self.bytes.get(at) else {
                tag.broken = Some((opener, format!("tag is not closed, `{}` is missing", kind.delimiter())));
                break;
            };
            if let Some((closer, closes, after)) = CLOSERS.iter().find(|(closer, ..)| self.starts_with(closer)) {
                self.at += closer.len();
                tag.trims.after = *after;
                if *closes != kind {
                    let message = format!("tag is closed with the wrong braces, `{}` is meant", kind.delimiter());
                    tag.broken = Some((self.source.span(at, self.at), message));
                }
                break;
            }
            // The tag is not closed, and another one begins, which may end a comment.
            if self.starts_with(b"{{") || self.starts_with(b"{%") {
                tag.broken = Some((opener, format!("tag is not closed, `{}` is missing", kind.delimiter())));
                break;
            }
            let token = match first {
                b'a'..=b'z' | b'A'..=b'Z' | b'_' => self.name(),
                b'0'..=b'9' => self.digits(),
                b'"' | b'\'' => self.string(*first)?,
                _ => match SYMBOLS.iter().find(|symbol| self.starts_with(symbol)) {
                    Some(symbol) => self.token(TokenKind::Symbol, at, at + symbol.len()),
                    None => {
                        // Go remco takes the rest as text and then fails, except in a comment.
                        tag.broken = Some(self.unexpected_character(at));
                        break;
                    }
                },
            };
            // The list is charged when it grows and not for each token, because tokens are many.
            if tag.tokens.len() == tag.tokens.capacity() {
                self.charge(opener, tag.tokens.len().max(4) * TOKEN)?;
            }
            tag.tokens.push(token);
        }
        tag.span = self.source.span(start, self.at);
        self.text = self.at;
        self.pieces.push(Piece::Tag(tag));
        Ok(())
    }

    /// Counts the memory of the compiled file.
    fn charge(&mut self, opener: Span, bytes: usize) -> Result<(), Error> {
        self.room.build(bytes).map_err(|message| self.source.error(opener, message))
    }

    fn token(&mut self, kind: TokenKind, start: usize, end: usize) -> Token<'s> {
        self.at = end;
        Token { kind, text: &self.bytes[start..end], span: self.source.span(start, end) }
    }

    fn name(&mut self) -> Token<'s> {
        let start = self.at;
        let length = self.bytes[start..].iter().position(|byte| !(byte.is_ascii_alphanumeric() || *byte == b'_'));
        let end = length.map_or(self.bytes.len(), |length| start + length);
        let kind = if KEYWORDS.contains(&&self.bytes[start..end]) { TokenKind::Keyword } else { TokenKind::Name };
        self.token(kind, start, end)
    }

    /// Digits, or with a letter in them a name: `10_000` and `0x10` are variables.
    fn digits(&mut self) -> Token<'s> {
        let start = self.at;
        let token = self.name();
        if !token.text.iter().all(u8::is_ascii_digit) {
            return token;
        }
        self.token(TokenKind::Digits, start, self.at)
    }

    fn string(&mut self, quote: u8) -> Result<Token<'s>, Error> {
        let start = self.at;
        let mut at = start + 1;
        let fail = |from: usize, to: usize, message: &str| Err(self.source.error(self.source.span(from, to), message));
        loop {
            match self.bytes.get(at) {
                Some(byte) if *byte == quote => break,
                Some(b'\\') if matches!(self.bytes.get(at + 1), Some(b'"' | b'\\')) => at += 2,
                Some(b'\\') => {
                    return fail(
                        at,
                        at + 1,
                        r#"unknown escape in a string; there are \" and \\, and 'a"b' needs none"#,
                    );
                }
                Some(b'\n') | None => return fail(start, at, "string is not closed in its line"),
                Some(_) => at += 1,
            }
        }
        let token = self.token(TokenKind::String, start, at + 1);
        Ok(Token { text: &self.bytes[start + 1..at], ..token })
    }

    fn unexpected_character(&mut self, at: usize) -> (Span, String) {
        let bytes = &self.bytes[at..self.bytes.len().min(at + 4)];
        let (character, length) = match bytes.utf8_chunks().next().and_then(|chunk| chunk.valid().chars().next()) {
            Some(character) => (character, character.len_utf8()),
            None => (char::REPLACEMENT_CHARACTER, 1),
        };
        let hint = match character {
            '}' => ", a tag ends with two characters",
            '[' | ']' => ": x.0 is an element of a list, \"a,b\"|split:\",\" makes one",
            '$' => hints::VERBATIM,
            '~' => ": printf(\"%s%s\", a, b) joins texts",
            '?' => ": `{% if %}` decides",
            '\u{2018}'..='\u{201f}' => ": texts stand in \" or '",
            _ => "",
        };
        (self.source.span(at, at + length), format!("the language has no `{}`{hint}", character.escape_debug()))
    }
}

impl<'s> Token<'s> {
    /// The text of a name, keyword or number, which are ASCII.
    pub fn name(&self) -> &'s str {
        str::from_utf8(self.text).unwrap_or_default()
    }
}

impl Tag<'_> {
    /// The closing delimiter.
    pub fn end(&self) -> Span {
        let end = self.span.end;
        Span { start: end.saturating_sub(2).max(self.span.start), ..self.span }
    }
}

impl TagKind {
    /// The delimiter that closes a tag of this kind.
    pub fn delimiter(self) -> &'static str {
        match self {
            TagKind::Print => "}}",
            TagKind::Block => "%}",
        }
    }
}

const VERBATIM: &[u8] = b"{% verbatim %}";
const END_VERBATIM: &[u8] = b"{% endverbatim %}";

/// Applies whitespace control to texts. Only the text directly beside a tag changes: a comment in between, or the edge
/// of verbatim, protects the text behind it.
fn trim(source: &Source, pieces: &mut [Piece], blocks: Blocks) {
    for i in 0..pieces.len() {
        let Piece::Text(mut span) = pieces[i] else { continue };
        let before = i.checked_sub(1).and_then(|i| pieces[i].tag());
        let after = pieces.get(i + 1).and_then(Piece::tag);
        if let Some(tag) = before {
            if blocks == Blocks::Trimmed && tag.kind == TagKind::Block && source.slice(span).first() == Some(&b'\n') {
                span.start += 1;
            }
            if tag.trims.after {
                span.start = skip(source, span, &BLANKS);
            }
        }
        if let Some(tag) = after {
            if blocks == Blocks::Trimmed && tag.kind == TagKind::Block {
                span.end = skip_back(source, span, b" \t");
            }
            if tag.trims.before {
                span.end = skip_back(source, span, &BLANKS);
            }
        }
        pieces[i] = Piece::Text(span);
    }
}

/// Removes a prefix of a span.
#[expect(clippy::cast_possible_truncation, reason = "it is a part of the span")]
fn skip(source: &Source, span: Span, blanks: &[u8]) -> u32 {
    let blank = source.slice(span).iter().take_while(|byte| blanks.contains(byte)).count();
    span.start + blank as u32
}

/// Removes a suffix of a span.
#[expect(clippy::cast_possible_truncation, reason = "it is a part of the span")]
fn skip_back(source: &Source, span: Span, blanks: &[u8]) -> u32 {
    let blank = source.slice(span).iter().rev().take_while(|byte| blanks.contains(byte)).count();
    span.end - blank as u32
}

impl<'s> Piece<'s> {
    fn tag(&self) -> Option<&Tag<'s>> {
        match self {
            Piece::Tag(tag) => Some(tag),
            Piece::Text(_) => None,
        }
    }
}
