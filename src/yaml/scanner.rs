//! Cuts a YAML text into tokens. The rules are those of libyaml 0.2.5, from which Go's yaml packages were ported, with
//! its limits: a key without a `?` stands on one line and has 1024 characters at most. The text is UTF-8 without
//! control characters. `parser` combines the tokens.

mod properties;
mod scalars;

use std::borrow::Cow;
use std::collections::VecDeque;

use super::Fault;

/// A place in a text.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Mark {
    /// The position in the text, in characters from 0.
    index: usize,
    /// The line, from 0.
    pub line: usize,
    /// The column, in characters from 0.
    pub column: usize,
}

/// A piece of the text that means one thing.
#[derive(Debug)]
pub struct Token<'t> {
    /// The kind of the token.
    pub kind: Kind<'t>,
    /// Before the first character.
    pub start: Mark,
    /// Behind the last character.
    pub end: Mark,
}

/// The kind of a token. Kinds without characters of their own come from the indentation.
#[derive(Debug)]
pub enum Kind<'t> {
    /// Nothing follows.
    StreamEnd,
    /// `%YAML 1.1`
    VersionDirective {
        /// Before the dot.
        major: u32,
        /// Behind the dot.
        minor: u32,
    },
    /// `%TAG !e! tag:example.com,2000:`
    TagDirective {
        /// With both `!`.
        handle: &'t str,
        /// The prefix of the handle.
        prefix: String,
    },
    /// `---`
    DocumentStart,
    /// `...`
    DocumentEnd,
    /// From the indentation: items follow, each after a [`Kind::BlockEntry`].
    BlockSequenceStart,
    /// From the indentation: keys and values follow.
    BlockMappingStart,
    /// From the indentation: the end of the innermost block.
    BlockEnd,
    /// `[`
    FlowSequenceStart,
    /// `]`
    FlowSequenceEnd,
    /// `{`
    FlowMappingStart,
    /// `}`
    FlowMappingEnd,
    /// `-`
    BlockEntry,
    /// `,`
    FlowEntry,
    /// `?`, or the place before a key that a `:` follows.
    Key,
    /// `:`
    Value,
    /// `*name`
    Alias(&'t str),
    /// `&name`
    Anchor(&'t str),
    /// `!handle!suffix`
    Tag {
        /// The handle with its `!`; empty for `!<suffix>` and for the tag `!`.
        handle: &'t str,
        /// With escapes resolved.
        suffix: String,
    },
    /// A text, with escapes and line folds resolved.
    Scalar(Cow<'t, str>, Form),
}

/// How a scalar is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// Without quotes.
    Plain,
    /// In single or double quotes.
    Quoted,
    /// Behind `|` or `>`.
    Block,
}

/// Cuts one text into tokens.
pub struct Scanner<'t> {
    text: &'t str,
    /// In bytes.
    position: usize,
    mark: Mark,
    /// The tokens that were scanned and not taken yet.
    tokens: VecDeque<Token<'t>>,
    /// The number of taken tokens.
    taken: usize,
    ended: bool,
    /// The column of the enclosing block; -1 outside of all blocks.
    indent: isize,
    /// The columns of the blocks around that one.
    indents: Vec<isize>,
    key_allowed: bool,
    /// The possible keys: one place outside of all brackets and one for each open bracket.
    keys: Vec<Candidate>,
    /// No earlier place of `keys` holds a possible key.
    oldest: usize,
}

/// Something that is a key if a `:` follows.
#[derive(Clone, Copy, Default)]
struct Candidate {
    possible: bool,
    /// Only a key is allowed at this place.
    required: bool,
    /// The number of its first token.
    token: usize,
    mark: Mark,
}

/// The longest distance between the beginning of a key and its `:`.
const LONGEST_KEY: usize = 1024;

impl<'t> Scanner<'t> {
    /// A scanner at the beginning of a text.
    pub fn new(text: &'t str) -> Scanner<'t> {
        Scanner {
            text,
            position: 0,
            mark: Mark::default(),
            tokens: VecDeque::new(),
            taken: 0,
            ended: false,
            indent: -1,
            indents: Vec::new(),
            key_allowed: true,
            keys: vec![Candidate::default()],
            oldest: 0,
        }
    }

    /// The next token, which stays the next one. The last token is the stream's end, and stays so.
    pub fn peek(&mut self) -> Result<&mut Token<'t>, Fault> {
        while !self.ended && self.needs_more()? {
            self.fetch()?;
        }
        if self.tokens.is_empty() {
            self.push(Kind::StreamEnd, self.mark);
        }
        Ok(&mut self.tokens[0])
    }

    /// Takes the token that was peeked at.
    pub fn skip(&mut self) {
        if self.tokens.pop_front().is_some() {
            self.taken += 1;
        }
    }

    /// Whether the next token is not certain yet: the token of a key may have to precede it.
    fn needs_more(&mut self) -> Result<bool, Fault> {
        if self.tokens.is_empty() {
            return Ok(true);
        }
        self.drop_stale_keys()?;
        // A later candidate has a later token.
        Ok(self.keys.get(self.oldest).is_some_and(|key| key.possible && key.token == self.taken))
    }

    fn fetch(&mut self) -> Result<(), Fault> {
        self.skip_to_token()?;
        self.drop_stale_keys()?;
        self.close_blocks(self.column());
        if self.is_end(0) {
            return self.stream_end();
        }
        let in_brackets = self.in_brackets();
        match self.byte(0) {
            b'%' if self.mark.column == 0 => self.directive(),
            b'-' | b'.' if self.is_document_indicator() => self.document_indicator(),
            b'[' => self.open_bracket(Kind::FlowSequenceStart),
            b'{' => self.open_bracket(Kind::FlowMappingStart),
            b']' => self.close_bracket(Kind::FlowSequenceEnd),
            b'}' => self.close_bracket(Kind::FlowMappingEnd),
            b',' => {
                self.drop_key()?;
                self.key_allowed = true;
                self.indicator(Kind::FlowEntry);
                Ok(())
            }
            b'-' if self.is_blank_or_end(1) => self.block_entry(),
            b'?' if in_brackets || self.is_blank_or_end(1) => self.key(),
            b':' if in_brackets || self.is_blank_or_end(1) => self.value(),
            b'*' | b'&' => self.anchor(),
            b'!' => self.tag(),
            b'|' | b'>' if !in_brackets => self.block_scalar(),
            b'\'' | b'"' => self.quoted_scalar(),
            b'-' if !self.is_blank(1) => self.plain_scalar(),
            b'?' | b':' if !in_brackets => self.plain_scalar(),
            b'\t' | b'-' | b'?' | b':' | b'#' | b'|' | b'>' | b'%' | b'@' | b'`' => {
                Err(self.fault("found a character that cannot start any token"))
            }
            _ => self.plain_scalar(),
        }
    }

    // Places and characters.

    fn column(&self) -> isize {
        self.mark.column as isize
    }

    fn in_brackets(&self) -> bool {
        self.keys.len() > 1
    }

    /// A byte ahead; after the end 0, which no text contains.
    fn byte(&self, ahead: usize) -> u8 {
        self.text.as_bytes().get(self.position + ahead).copied().unwrap_or(0)
    }

    fn is_end(&self, ahead: usize) -> bool {
        self.position + ahead >= self.text.len()
    }

    fn is_blank(&self, ahead: usize) -> bool {
        matches!(self.byte(ahead), b' ' | b'\t')
    }

    fn is_break(&self, ahead: usize) -> bool {
        match self.byte(ahead) {
            b'\n' | b'\r' => true,
            0xc2 => self.byte(ahead + 1) == 0x85,
            0xe2 => self.byte(ahead + 1) == 0x80 && matches!(self.byte(ahead + 2), 0xa8 | 0xa9),
            _ => false,
        }
    }

    fn is_break_or_end(&self, ahead: usize) -> bool {
        self.is_break(ahead) || self.is_end(ahead)
    }

    fn is_blank_or_end(&self, ahead: usize) -> bool {
        self.is_blank(ahead) || self.is_break_or_end(ahead)
    }

    /// `---` or `...` at the start of a line.
    fn is_document_indicator(&self) -> bool {
        let rest = self.text.as_bytes().get(self.position..).unwrap_or_default();
        self.mark.column == 0 && (rest.starts_with(b"---") || rest.starts_with(b"...")) && self.is_blank_or_end(3)
    }

    fn since(&self, start: usize) -> &'t str {
        self.text.get(start..self.position).unwrap_or_default()
    }

    /// Skips one character that is not a line break.
    fn advance(&mut self) {
        self.position += match self.byte(0) {
            0x00..0x80 => 1,
            0x80..0xe0 => 2,
            0xe0..0xf0 => 3,
            _ => 4,
        };
        self.mark.index += 1;
        self.mark.column += 1;
    }

    fn advance_by(&mut self, characters: usize) {
        (0..characters).for_each(|_| self.advance());
    }

    /// Skips one line break, and returns its text in a scalar.
    fn advance_line(&mut self) -> &'static str {
        let (bytes, characters, text) = match self.byte(0) {
            b'\r' if self.byte(1) == b'\n' => (2, 2, "\n"),
            b'\n' | b'\r' => (1, 1, "\n"),
            0xc2 => (2, 1, "\n"),
            _ if self.byte(2) == 0xa8 => (3, 1, "\u{2028}"),
            _ => (3, 1, "\u{2029}"),
        };
        self.position += bytes;
        self.mark = Mark { index: self.mark.index + characters, line: self.mark.line + 1, column: 0 };
        text
    }

    fn skip_blanks(&mut self) {
        while self.is_blank(0) {
            self.advance();
        }
    }

    fn skip_comment(&mut self) {
        if self.byte(0) == b'#' {
            while !self.is_break_or_end(0) {
                self.advance();
            }
        }
    }

    fn word(&mut self) -> &'t str {
        let start = self.position;
        while matches!(self.byte(0), b'0'..=b'9' | b'A'..=b'Z' | b'a'..=b'z' | b'_' | b'-') {
            self.advance();
        }
        self.since(start)
    }

    fn fault(&self, why: &str) -> Fault {
        Fault::new(self.mark, why)
    }

    /// A fault at this place, in a structure that began at a mark.
    fn fault_in(&self, what: &str, start: Mark, why: &str) -> Fault {
        Fault::inside(self.mark, what, start, why)
    }

    fn push(&mut self, kind: Kind<'t>, start: Mark) {
        self.tokens.push_back(Token { kind, start, end: self.mark });
    }

    /// A token of one character.
    fn indicator(&mut self, kind: Kind<'t>) {
        let start = self.mark;
        self.advance();
        self.push(kind, start);
    }

    // Keys, which are known as such only when their `:` is found.

    /// Forgets candidates that are a line or too many characters away.
    fn drop_stale_keys(&mut self) -> Result<(), Fault> {
        // A later candidate is nearer.
        while let Some(key) = self.keys.get_mut(self.oldest) {
            if key.possible {
                if key.mark.line == self.mark.line && key.mark.index + LONGEST_KEY >= self.mark.index {
                    break;
                }
                if key.required {
                    return Err(Fault::new(key.mark, NO_COLON));
                }
                key.possible = false;
            }
            self.oldest += 1;
        }
        Ok(())
    }

    /// Notes that the next token may be a key.
    fn save_key(&mut self) -> Result<(), Fault> {
        if self.key_allowed {
            self.drop_key()?;
            let required = !self.in_brackets() && self.indent == self.column();
            let token = self.taken + self.tokens.len();
            if let Some(key) = self.keys.last_mut() {
                *key = Candidate { possible: true, required, token, mark: self.mark };
            }
            self.oldest = self.oldest.min(self.keys.len() - 1);
        }
        Ok(())
    }

    /// Drops the possible key.
    fn drop_key(&mut self) -> Result<(), Fault> {
        match self.keys.last_mut() {
            Some(key) if key.possible && key.required => Err(Fault::new(key.mark, NO_COLON)),
            Some(key) => {
                key.possible = false;
                Ok(())
            }
            None => Ok(()),
        }
    }

    // Blocks, which begin and end by their column.

    /// Begins a block where the column is farther in than that of the block around, before the token with a number.
    fn open_block(&mut self, column: isize, token: Option<usize>, kind: Kind<'t>, start: Mark) {
        if !self.in_brackets() && self.indent < column {
            self.indents.push(self.indent);
            self.indent = column;
            let at = token.map_or(self.tokens.len(), |token| token.saturating_sub(self.taken).min(self.tokens.len()));
            self.tokens.insert(at, Token { kind, start, end: start });
        }
    }

    /// Ends the blocks that are farther in than a column.
    fn close_blocks(&mut self, column: isize) {
        while !self.in_brackets() && self.indent > column {
            self.push(Kind::BlockEnd, self.mark);
            self.indent = self.indents.pop().unwrap_or(-1);
        }
    }

    // Tokens.

    fn skip_to_token(&mut self) -> Result<(), Fault> {
        loop {
            // A byte order mark may begin a line.
            if self.mark.column == 0 && (self.byte(0), self.byte(1), self.byte(2)) == (0xef, 0xbb, 0xbf) {
                self.advance();
            }
            // A tab is no indent.
            while self.byte(0) == b' ' || (self.in_brackets() || !self.key_allowed) && self.byte(0) == b'\t' {
                self.advance();
            }
            self.skip_comment();
            if !self.is_break(0) {
                return Ok(());
            }
            self.advance_line();
            if !self.in_brackets() {
                self.key_allowed = true;
            }
        }
    }

    fn stream_end(&mut self) -> Result<(), Fault> {
        self.leave_blocks()?;
        self.push(Kind::StreamEnd, self.mark);
        self.ended = true;
        Ok(())
    }

    /// Between documents there are no blocks.
    fn leave_blocks(&mut self) -> Result<(), Fault> {
        self.close_blocks(-1);
        self.drop_key()?;
        self.key_allowed = false;
        Ok(())
    }

    fn document_indicator(&mut self) -> Result<(), Fault> {
        self.leave_blocks()?;
        let start = self.mark;
        let kind = if self.byte(0) == b'-' { Kind::DocumentStart } else { Kind::DocumentEnd };
        self.advance_by(3);
        self.push(kind, start);
        Ok(())
    }

    fn open_bracket(&mut self, kind: Kind<'t>) -> Result<(), Fault> {
        self.save_key()?;
        self.keys.push(Candidate::default());
        self.key_allowed = true;
        self.indicator(kind);
        Ok(())
    }

    fn close_bracket(&mut self, kind: Kind<'t>) -> Result<(), Fault> {
        self.drop_key()?;
        if self.in_brackets() {
            self.keys.pop();
            self.oldest = self.oldest.min(self.keys.len() - 1);
        }
        self.key_allowed = false;
        self.indicator(kind);
        Ok(())
    }

    fn block_entry(&mut self) -> Result<(), Fault> {
        if !self.in_brackets() {
            if !self.key_allowed {
                return Err(self.fault("block sequence entries are not allowed in this context"));
            }
            self.open_block(self.column(), None, Kind::BlockSequenceStart, self.mark);
        }
        self.drop_key()?;
        self.key_allowed = true;
        self.indicator(Kind::BlockEntry);
        Ok(())
    }

    fn key(&mut self) -> Result<(), Fault> {
        if !self.in_brackets() {
            if !self.key_allowed {
                return Err(self.fault("mapping keys are not allowed in this context"));
            }
            self.open_block(self.column(), None, Kind::BlockMappingStart, self.mark);
        }
        self.drop_key()?;
        self.key_allowed = !self.in_brackets();
        self.indicator(Kind::Key);
        Ok(())
    }

    fn value(&mut self) -> Result<(), Fault> {
        let key = self.keys.last().copied().unwrap_or_default();
        if key.possible {
            let at = key.token.saturating_sub(self.taken).min(self.tokens.len());
            self.tokens.insert(at, Token { kind: Kind::Key, start: key.mark, end: key.mark });
            self.open_block(key.mark.column as isize, Some(key.token), Kind::BlockMappingStart, key.mark);
            if let Some(key) = self.keys.last_mut() {
                key.possible = false;
            }
            self.key_allowed = false;
        } else {
            if !self.in_brackets() {
                if !self.key_allowed {
                    return Err(self.fault("mapping values are not allowed in this context"));
                }
                self.open_block(self.column(), None, Kind::BlockMappingStart, self.mark);
            }
            self.key_allowed = !self.in_brackets();
        }
        self.indicator(Kind::Value);
        Ok(())
    }
}

const NO_COLON: &str = "could not find expected ':' behind a key";
