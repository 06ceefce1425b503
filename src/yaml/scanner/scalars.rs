//! Scans the texts of scalars: plain, quoted and block scalars, with their escapes and folded lines.
//! Does not decide the type of a scalar: `resolve` does.

use std::borrow::Cow;
use std::ops::Range;

use super::{Fault, Form, Kind, Mark, Scanner, Token};

impl<'t> Scanner<'t> {
    pub(super) fn block_scalar(&mut self) -> Result<(), Fault> {
        const CONTEXT: &str = "a block scalar";
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
                    return Err(self.fault_in(CONTEXT, start, "found an indentation indicator equal to 0"));
                }
                digit @ b'1'..=b'9' if increment.is_none() => increment = Some(isize::from(digit - b'0')),
                _ => break,
            }
            self.advance();
        }
        self.skip_blanks();
        self.skip_comment();
        if !self.is_break_or_end(0) {
            return Err(self.fault_in(CONTEXT, start, "did not find expected comment or line break"));
        }
        if self.is_break(0) {
            self.advance_line();
        }
        let mut text = String::new();
        // The blanks and line breaks that belong to the text if more text follows.
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

    /// Skips empty lines and the indent of the next line. If the indent is not known yet, it becomes the largest indent
    /// of these lines. Returns the indent.
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

    pub(super) fn quoted_scalar(&mut self) -> Result<(), Fault> {
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

    /// A character after a `\`.
    fn escape(&mut self, start: Mark) -> Result<char, Fault> {
        const CONTEXT: &str = "a quoted scalar";
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
                    _ => return Err(self.fault_in(CONTEXT, start, "found unknown escape character")),
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
            .ok_or_else(|| Fault::inside(here, CONTEXT, start, "found invalid Unicode character escape code"))
    }

    fn hexadecimal(&mut self, digits: usize, start: Mark) -> Result<u32, Fault> {
        let mut code = 0;
        for _ in 0..digits {
            let Some(digit) = char::from(self.byte(0)).to_digit(16) else {
                return Err(self.fault_in("a quoted scalar", start, "did not find expected hexadecimal number"));
            };
            // Eight digits fill the number.
            code = code << 4 | digit;
            self.advance();
        }
        Ok(code)
    }

    pub(super) fn plain_scalar(&mut self) -> Result<(), Fault> {
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

    /// Skips blanks and line breaks inside a scalar. Returns the tab that is nearest to the start of a further line.
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

/// The text of a scalar: a part of the source if possible.
struct Builder<'t> {
    source: &'t str,
    /// The text before the run.
    text: String,
    /// The bytes of the source that follow without a change.
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
    /// The blanks between words of one line, as bytes of the source.
    blanks: Range<usize>,
    is_behind_break: bool,
    /// Empty where the line break was escaped.
    first_break: &'static str,
    /// The further line breaks.
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
