//! Scans directives, anchors, aliases and tags: the tokens that describe a node or a document. Does not resolve the
//! handle of a tag.

use super::{Fault, Kind, Mark, Scanner, Token};

impl<'t> Scanner<'t> {
    pub(super) fn directive(&mut self) -> Result<(), Fault> {
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

    pub(super) fn anchor(&mut self) -> Result<(), Fault> {
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

    pub(super) fn tag(&mut self) -> Result<(), Fault> {
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

    /// Scans `!`, `!!`, `!name!`, or the beginning of a tag without a handle.
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

    /// Scans the rest of a tag. `head` was scanned already, with the `!` before it.
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
}
