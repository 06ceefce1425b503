//! Cuts a YAML text into tokens. The rules are those of libyaml 0.2.5, from which Go's yaml packages were ported, with its
//! limits: a key without a `?` stands on one line and has 1024 characters at most.
//! What tokens mean together is `parser`'s business. The text is UTF-8 without control characters.

use std::borrow::Cow;
use std::collections::VecDeque;
use std::ops::Range;

use super::Fault;

/// A place in a text.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Mark {
    /// In characters, from 0.
    index: usize,
    /// From 0.
    pub line: usize,
    /// In characters, from 0.
    pub column: usize,
}

/// A piece of the text that means one thing.
#[derive(Debug)]
pub struct Token<'t> {
    /// What it is.
    pub kind: Kind<'t>,
    /// Before the first character.
    pub start: Mark,
    /// Behind the last character.
    pub end: Mark,
}

/// What a token is. Those without characters of their own come from the indentation.
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
        /// What the handle stands for.
        prefix: String,
    },
    /// `---`
    DocumentStart,
    /// `...`
    DocumentEnd,
    /// Of the indentation: items follow, each behind a [`Kind::BlockEntry`].
    BlockSequenceStart,
    /// Of the indentation: keys and values follow.
    BlockMappingStart,
    /// Of the indentation: ends the block that began last.
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
        /// With its `!`; empty for `!<suffix>` and where the tag is `!` alone.
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

/// Cuts one text, token by token.
pub struct Scanner<'t> {
    text: &'t str,
    /// In bytes.
    position: usize,
    mark: Mark,
    /// What was scanned and not taken yet.
    tokens: VecDeque<Token<'t>>,
    /// How many tokens were taken.
    taken: usize,
    ended: bool,
    /// The column of the block around; -1 outside of all.
    indent: isize,
    /// Those of the blocks around that one.
    indents: Vec<isize>,
    key_allowed: bool,
    /// What may turn out to be a key: one place outside of all brackets and one for each open bracket.
    keys: Vec<Candidate>,
    /// No earlier place of `keys` holds a possible key.
    oldest: usize,
}

/// Something that is a key if a `:` follows.
#[derive(Clone, Copy, Default)]
struct Candidate {
    possible: bool,
    /// Nothing else can stand in its place.
    required: bool,
    /// The number of its first token.
    token: usize,
    mark: Mark,
}

/// The longest distance between the beginning of a key and its `:`.
const LONGEST_KEY: usize = 1024;

impl<'t> Scanner<'t> {
    /// At the beginning of a text.
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

    /// Whether the next token is not known yet: a key's own token may have to be put before it.
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

    /// A byte ahead; 0, which no text holds, behind the end.
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

    /// Goes over one character that is no line break.
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

    /// Goes over one line break; tells what it reads as.
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

    /// A fault here in something that began at a mark.
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

    /// What comes next may be a key.
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

    /// What might have been a key is none.
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

    fn directive(&mut self) -> Result<(), Fault> {
        self.leave_blocks()?;
        let start = self.mark;
        self.advance();
        let name = self.word();
        if name.is_empty() || !self.is_blank_or_end(0) {
            return Err(self.fault_in("a directive", start, "did not find its name"));
        }
        self.skip_blanks();
        let kind = match name {
            "YAML" => {
                let major = self.version_number(start)?;
                if self.byte(0) != b'.' {
                    return Err(self.fault_in("a directive", start, "did not find expected digit or '.'"));
                }
                self.advance();
                Kind::VersionDirective { major, minor: self.version_number(start)? }
            }
            "TAG" => {
                let handle = self.tag_handle(start)?;
                if handle != "!" && !handle.ends_with('!') {
                    return Err(self.fault_in("a directive", start, "did not find expected '!'"));
                }
                if !self.is_blank(0) {
                    return Err(self.fault_in("a directive", start, "did not find expected blank"));
                }
                self.skip_blanks();
                let prefix = self.tag_uri(true, "", start)?;
                if !self.is_blank_or_end(0) {
                    return Err(self.fault_in("a directive", start, "did not find expected blank or line break"));
                }
                Kind::TagDirective { handle, prefix }
            }
            _ => return Err(self.fault_in("a directive", start, "found an unknown name")),
        };
        let end = self.mark;
        self.skip_blanks();
        self.skip_comment();
        if !self.is_break_or_end(0) {
            return Err(self.fault_in("a directive", start, "did not find expected comment or line break"));
        }
        if self.is_break(0) {
            self.advance_line();
        }
        self.tokens.push_back(Token { kind, start, end });
        Ok(())
    }

    fn version_number(&mut self, start: Mark) -> Result<u32, Fault> {
        const LONGEST: usize = 9;
        let begin = self.position;
        while self.byte(0).is_ascii_digit() && self.position - begin <= LONGEST {
            self.advance();
        }
        let digits = self.since(begin);
        match digits.parse() {
            Ok(number) if digits.len() <= LONGEST => Ok(number),
            _ => Err(self.fault_in("a directive", start, "did not find expected version number")),
        }
    }

    fn anchor(&mut self) -> Result<(), Fault> {
        self.save_key()?;
        self.key_allowed = false;
        let (start, is_alias) = (self.mark, self.byte(0) == b'*');
        self.advance();
        let name = self.word();
        let ends =
            self.is_blank_or_end(0) || matches!(self.byte(0), b'?' | b':' | b',' | b']' | b'}' | b'%' | b'@' | b'`');
        if name.is_empty() || !ends {
            let what = if is_alias { "an alias" } else { "an anchor" };
            return Err(self.fault_in(what, start, "did not find expected alphabetic or numeric character"));
        }
        self.push(if is_alias { Kind::Alias(name) } else { Kind::Anchor(name) }, start);
        Ok(())
    }

    fn tag(&mut self) -> Result<(), Fault> {
        self.save_key()?;
        self.key_allowed = false;
        let start = self.mark;
        let (handle, suffix) = if self.byte(1) == b'<' {
            self.advance_by(2);
            let suffix = self.tag_uri(true, "", start)?;
            if self.byte(0) != b'>' {
                return Err(self.fault_in("a tag", start, "did not find the expected '>'"));
            }
            self.advance();
            ("", suffix)
        } else {
            let handle = self.tag_handle(start)?;
            if handle.len() > 1 && handle.ends_with('!') {
                (handle, self.tag_uri(false, "", start)?)
            } else {
                match self.tag_uri(false, handle, start)? {
                    // The tag `!`.
                    suffix if suffix.is_empty() => ("", "!".to_owned()),
                    suffix => ("!", suffix),
                }
            }
        };
        let ends = self.is_blank_or_end(0) || self.in_brackets() && self.byte(0) == b',';
        if !ends {
            return Err(self.fault_in("a tag", start, "did not find expected blank or line break"));
        }
        self.push(Kind::Tag { handle, suffix }, start);
        Ok(())
    }

    /// `!`, `!!`, `!name!` or, where no handle is meant, the beginning of a tag.
    fn tag_handle(&mut self, start: Mark) -> Result<&'t str, Fault> {
        if self.byte(0) != b'!' {
            return Err(self.fault_in("a tag", start, "did not find expected '!'"));
        }
        let begin = self.position;
        self.advance();
        self.word();
        if self.byte(0) == b'!' {
            self.advance();
        }
        Ok(self.since(begin))
    }

    /// The rest of a tag, of which `head` was read already with the `!` before it.
    fn tag_uri(&mut self, verbatim: bool, head: &str, start: Mark) -> Result<String, Fault> {
        let mut uri = head.get(1..).unwrap_or_default().as_bytes().to_vec();
        let mut is_empty = head.is_empty();
        loop {
            match self.byte(0) {
                b'%' => {
                    let digit = |byte: u8| char::from(byte).to_digit(16);
                    let (Some(high), Some(low)) = (digit(self.byte(1)), digit(self.byte(2))) else {
                        return Err(self.fault_in("a tag", start, "did not find two hexadecimal digits behind '%'"));
                    };
                    uri.push(u8::try_from(high * 16 + low).expect("two digits make a byte"));
                    self.advance_by(3);
                }
                b',' | b'[' | b']' if !verbatim => break,
                byte @ (b'0'..=b'9' | b'A'..=b'Z' | b'a'..=b'z') => {
                    uri.push(byte);
                    self.advance();
                }
                byte if b"_-;/?:@&=+$.!~*'(),[]".contains(&byte) => {
                    uri.push(byte);
                    self.advance();
                }
                _ => break,
            }
            is_empty = false;
        }
        if is_empty {
            return Err(self.fault_in("a tag", start, "did not find expected tag URI"));
        }
        String::from_utf8(uri).map_err(|_| self.fault_in("a tag", start, "found an escape that is not UTF-8"))
    }

    fn block_scalar(&mut self) -> Result<(), Fault> {
        const WHAT: &str = "a block scalar";
        self.drop_key()?;
        self.key_allowed = true;
        let start = self.mark;
        let literal = self.byte(0) == b'|';
        self.advance();
        let (mut chomping, mut increment) = (None, None);
        // In any order, each once.
        for _ in 0..2 {
            match self.byte(0) {
                sign @ (b'+' | b'-') if chomping.is_none() => chomping = Some(sign),
                b'0' if increment.is_none() => {
                    return Err(self.fault_in(WHAT, start, "found an indentation indicator equal to 0"));
                }
                digit @ b'1'..=b'9' if increment.is_none() => increment = Some(isize::from(digit - b'0')),
                _ => break,
            }
            self.advance();
        }
        self.skip_blanks();
        self.skip_comment();
        if !self.is_break_or_end(0) {
            return Err(self.fault_in(WHAT, start, "did not find expected comment or line break"));
        }
        if self.is_break(0) {
            self.advance_line();
        }
        let mut text = String::new();
        // What was read and is kept if more text follows.
        let (mut leading_break, mut breaks) = ("", String::new());
        let mut indent = increment.map(|increment| self.indent.max(0) + increment);
        let mut was_blank = false;
        let mut column = self.block_breaks(&mut indent, &mut breaks, start)?;
        while self.column() == column && !self.is_end(0) {
            let is_blank = self.is_blank(0);
            if !literal && leading_break == "\n" && !was_blank && !is_blank {
                if breaks.is_empty() {
                    text.push(' ');
                }
            } else {
                text.push_str(leading_break);
            }
            text.push_str(&breaks);
            breaks.clear();
            was_blank = is_blank;
            let begin = self.position;
            while !self.is_break_or_end(0) {
                self.advance();
            }
            text.push_str(self.since(begin));
            leading_break = if self.is_end(0) { "" } else { self.advance_line() };
            column = self.block_breaks(&mut indent, &mut breaks, start)?;
        }
        if chomping != Some(b'-') {
            text.push_str(leading_break);
        }
        if chomping == Some(b'+') {
            text.push_str(&breaks);
        }
        self.push(Kind::Scalar(text.into(), Form::Block), start);
        Ok(())
    }

    /// Goes over empty lines and the indent of the next one. The first time, where the indent was not given, it is what
    /// the farthest of them has. Tells the indent.
    fn block_breaks(&mut self, indent: &mut Option<isize>, breaks: &mut String, start: Mark) -> Result<isize, Fault> {
        let mut farthest = 0;
        loop {
            while self.byte(0) == b' ' && indent.is_none_or(|indent| self.column() < indent) {
                self.advance();
            }
            farthest = farthest.max(self.column());
            if self.byte(0) == b'\t' && indent.is_none_or(|indent| self.column() < indent) {
                let why = "found a tab character where an indentation space is expected";
                return Err(self.fault_in("a block scalar", start, why));
            }
            if !self.is_break(0) {
                break;
            }
            breaks.push_str(self.advance_line());
        }
        Ok(*indent.get_or_insert(farthest.max(self.indent + 1).max(1)))
    }

    fn quoted_scalar(&mut self) -> Result<(), Fault> {
        self.save_key()?;
        self.key_allowed = false;
        let start = self.mark;
        let quote = self.byte(0);
        self.advance();
        let mut text = Builder::new(self.text);
        loop {
            if self.is_document_indicator() {
                return Err(Fault::new(
                    start,
                    "found a document indicator, not the end of the quoted scalar that begins here",
                ));
            }
            if self.is_end(0) {
                return Err(Fault::new(start, "found no end of the quoted scalar that begins here"));
            }
            let mut fold = Fold::default();
            loop {
                let begin = self.position;
                while !self.is_blank_or_end(0) && self.byte(0) != quote && (quote == b'\'' || self.byte(0) != b'\\') {
                    self.advance();
                }
                text.push_source(begin..self.position);
                match self.byte(0) {
                    b'\'' if quote == b'\'' && self.byte(1) == b'\'' => {
                        self.advance_by(2);
                        text.push("'");
                    }
                    b'\\' if quote == b'"' && self.is_break(1) => {
                        self.advance();
                        self.advance_line();
                        fold.is_behind_break = true;
                        break;
                    }
                    b'\\' if quote == b'"' => {
                        let char = self.escape(start)?;
                        text.push(char.encode_utf8(&mut [0; 4]));
                    }
                    _ => break,
                }
            }
            if self.byte(0) == quote {
                break;
            }
            self.fold(&mut fold);
            fold.append_to(&mut text);
        }
        self.advance();
        self.push(Kind::Scalar(text.finish(), Form::Quoted), start);
        Ok(())
    }

    /// A character behind a `\`.
    fn escape(&mut self, start: Mark) -> Result<char, Fault> {
        const WHAT: &str = "a quoted scalar";
        let digits = match self.byte(1) {
            b'x' => 2,
            b'u' => 4,
            b'U' => 8,
            byte => {
                let char = match byte {
                    b'0' => '\0',
                    b'a' => '\x07',
                    b'b' => '\x08',
                    b't' | b'\t' => '\t',
                    b'n' => '\n',
                    b'v' => '\x0b',
                    b'f' => '\x0c',
                    b'r' => '\r',
                    b'e' => '\x1b',
                    b' ' | b'"' | b'/' | b'\\' => char::from(byte),
                    b'N' => '\u{85}',
                    b'_' => '\u{a0}',
                    b'L' => '\u{2028}',
                    b'P' => '\u{2029}',
                    _ => return Err(self.fault_in(WHAT, start, "found unknown escape character")),
                };
                self.advance_by(2);
                return Ok(char);
            }
        };
        let here = self.mark;
        self.advance_by(2);
        let mut code = self.hexadecimal(digits, start)?;
        // JSON writes characters beyond the first plane as two halves; libyaml refuses them.
        if digits == 4 && matches!(code, 0xd800..=0xdbff) && (self.byte(0), self.byte(1)) == (b'\\', b'u') {
            self.advance_by(2);
            let low = self.hexadecimal(digits, start)?;
            if matches!(low, 0xdc00..=0xdfff) {
                code = 0x10000 + ((code - 0xd800) << 10) + (low - 0xdc00);
            }
        }
        char::from_u32(code)
            .ok_or_else(|| Fault::inside(here, WHAT, start, "found invalid Unicode character escape code"))
    }

    fn hexadecimal(&mut self, digits: usize, start: Mark) -> Result<u32, Fault> {
        let mut code = 0;
        for _ in 0..digits {
            let Some(digit) = char::from(self.byte(0)).to_digit(16) else {
                return Err(self.fault_in("a quoted scalar", start, "did not find expected hexadecimal number"));
            };
            // Eight digits fill it.
            code = code << 4 | digit;
            self.advance();
        }
        Ok(code)
    }

    fn plain_scalar(&mut self) -> Result<(), Fault> {
        self.save_key()?;
        self.key_allowed = false;
        let start = self.mark;
        let mut end = start;
        let mut text = Builder::new(self.text);
        let mut fold = Fold::default();
        loop {
            if self.is_document_indicator() || self.byte(0) == b'#' {
                break;
            }
            let begin = self.position;
            while !self.is_blank_or_end(0) {
                let ends = match self.byte(0) {
                    b':' => self.is_blank_or_end(1),
                    b',' | b'[' | b']' | b'{' | b'}' => self.in_brackets(),
                    _ => false,
                };
                if ends {
                    break;
                }
                self.advance();
            }
            if self.position > begin {
                fold.append_to(&mut text);
                fold = Fold::default();
                text.push_source(begin..self.position);
                end = self.mark;
            }
            if !self.is_blank(0) && !self.is_break(0) {
                break;
            }
            if let Some(tab) = self.fold(&mut fold)
                && tab.column as isize <= self.indent
            {
                return Err(Fault::inside(
                    tab,
                    "a plain scalar",
                    start,
                    "found a tab character that violates indentation",
                ));
            }
            if !self.in_brackets() && self.column() <= self.indent {
                break;
            }
        }
        if fold.is_behind_break {
            self.key_allowed = true;
        }
        self.tokens.push_back(Token { kind: Kind::Scalar(text.finish(), Form::Plain), start, end });
        Ok(())
    }

    /// Goes over blanks and line breaks inside a scalar. Tells the tab that stands nearest to the start of a further line.
    fn fold(&mut self, fold: &mut Fold) -> Option<Mark> {
        let mut tab = None;
        let begin = self.position;
        loop {
            if self.is_blank(0) {
                let is_nearest = |tab: &Option<Mark>| tab.is_none_or(|tab| self.mark.column < tab.column);
                if fold.is_behind_break && self.byte(0) == b'\t' && is_nearest(&tab) {
                    tab = Some(self.mark);
                }
                self.advance();
            } else if self.is_break(0) {
                if fold.is_behind_break {
                    fold.breaks.push_str(self.advance_line());
                } else {
                    fold.first_break = self.advance_line();
                    fold.is_behind_break = true;
                }
            } else {
                if !fold.is_behind_break {
                    fold.blanks = begin..self.position;
                }
                return tab;
            }
        }
    }
}

const NO_COLON: &str = "could not find expected ':' behind a key";

/// The text of a scalar: a part of the source as long as that is possible.
struct Builder<'t> {
    source: &'t str,
    /// What stands before the run.
    text: String,
    /// Bytes of the source, which are in the text without a change.
    run: Range<usize>,
}

impl<'t> Builder<'t> {
    fn new(source: &'t str) -> Builder<'t> {
        Builder { source, text: String::new(), run: 0..0 }
    }

    fn push_source(&mut self, part: Range<usize>) {
        if self.run.is_empty() {
            self.run = part;
        } else if part.start == self.run.end {
            self.run.end = part.end;
        } else if !part.is_empty() {
            self.flush();
            self.run = part;
        }
    }

    fn push(&mut self, text: &str) {
        self.flush();
        self.text.push_str(text);
    }

    fn flush(&mut self) {
        self.text.push_str(self.source.get(self.run.clone()).unwrap_or_default());
        self.run = 0..0;
    }

    fn finish(mut self) -> Cow<'t, str> {
        if self.text.is_empty() {
            return Cow::Borrowed(self.source.get(self.run).unwrap_or_default());
        }
        self.flush();
        Cow::Owned(self.text)
    }
}

/// Blanks and line breaks between two words of a scalar.
#[derive(Default)]
struct Fold {
    /// Between words of one line, as bytes of the source.
    blanks: Range<usize>,
    is_behind_break: bool,
    /// Empty where the line break was escaped.
    first_break: &'static str,
    /// Those that follow.
    breaks: String,
}

impl Fold {
    /// One line break reads as a blank, and several as one less.
    fn append_to(&self, text: &mut Builder) {
        if !self.is_behind_break {
            text.push_source(self.blanks.clone());
        } else if self.first_break == "\n" && self.breaks.is_empty() {
            text.push(" ");
        } else {
            text.push(if self.first_break == "\n" { "" } else { self.first_break });
            text.push(&self.breaks);
        }
    }
}
