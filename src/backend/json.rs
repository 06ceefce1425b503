//! Checks while bytes arrive in pieces whether they can be JSON, so that the first wrong byte ends the stream before
//! the rest fills memory. Keeps only its state in the grammar (RFC 8259). Does not check whether a text is complete:
//! the parser does.

use std::fmt;

/// The nesting limit, which serde_json has too.
pub const DEPTH: u32 = 128;

/// The state of a text in the grammar.
#[derive(Debug)]
pub struct Json {
    state: State,
    /// The open brackets, the innermost in the lowest bit: 1 is an object.
    open: u128,
    depth: u32,
    /// The number of bytes in earlier pieces.
    at: u64,
    texts: Texts,
}

/// The number of texts that may follow each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Texts {
    One,
    Many,
}

/// Why the bytes are not JSON.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotJson {
    /// The byte at this position, counted from 1, is wrong there.
    Byte(u64),
    /// More brackets than [`DEPTH`] are open.
    TooDeep,
}

impl fmt::Display for NotJson {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            NotJson::Byte(at) => write!(f, "no JSON from byte {at} on"),
            NotJson::TooDeep => write!(f, "nested deeper than {DEPTH} levels"),
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// A value is expected.
    Value,
    /// A value, or the end of the list, is expected.
    FirstValue,
    /// A name, or the end of the object, is expected.
    FirstName,
    Name,
    Colon,
    /// After a value, a comma or a closing bracket is expected.
    Behind,
    String {
        is_name: bool,
        escape: Escape,
    },
    /// The rest of `true`, `false` or `null` is expected.
    Word(Word),
    Number(Number),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Escape {
    No,
    Begun,
    /// This number of hexadecimal digits is expected.
    Digits(u8),
}

/// A word, and the number of its letters so far.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Word {
    kind: WordKind,
    length: u8,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum WordKind {
    True,
    False,
    Null,
}

/// The last part of a number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Number {
    Minus,
    Zero,
    Integer,
    Point,
    Fraction,
    Exponent,
    ExponentSign,
    ExponentDigits,
}

/// Whether bytes that arrive in pieces are inside a string, for readers that search outside of strings.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Quoted {
    is_open: bool,
    /// The next byte is escaped.
    is_escaped: bool,
}

impl Quoted {
    /// Starts a string after its quotation mark.
    pub fn begin(&mut self) {
        self.is_open = true;
    }

    /// Whether the string is still open.
    pub fn is_open(&self) -> bool {
        self.is_open
    }

    /// Takes bytes of an open string, at most up to its end. Returns their number, at least one for a non-empty piece.
    pub fn skip(&mut self, rest: &[u8]) -> usize {
        if self.is_escaped {
            self.is_escaped = false;
            return rest.len().min(1);
        }
        let length = plain(rest);
        match rest.get(length) {
            Some(b'"') => self.is_open = false,
            Some(b'\\') => self.is_escaped = true,
            // JSON has no control characters here, but the bytes may not have been checked yet.
            Some(_) => {}
            None => return length,
        }
        length + 1
    }
}

impl Json {
    /// One text.
    pub fn one() -> Json {
        Json { state: State::Value, open: 0, depth: 0, at: 0, texts: Texts::One }
    }

    /// Texts that follow each other, such as the lines of a stream.
    pub fn many() -> Json {
        Json { texts: Texts::Many, ..Json::one() }
    }

    /// Takes the next piece. Returns how many of its bytes can be JSON after the earlier ones, and what is wrong with
    /// the next byte: then no piece may follow.
    pub fn push(&mut self, piece: &[u8]) -> (usize, Option<NotJson>) {
        let mut done = 0;
        while done < piece.len() {
            // Most bytes are inside strings.
            if let State::String { escape: Escape::No, .. } = self.state {
                done += plain(&piece[done..]);
                if done == piece.len() {
                    break;
                }
            }
            if let Some(next) = self.between_strings(piece[done]) {
                self.state = next;
                done += 1;
                continue;
            }
            if let Err(wrong) = self.take(piece[done]) {
                let at = self.at.saturating_add(done as u64 + 1);
                return (done, Some(wrong.unwrap_or(NotJson::Byte(at))));
            }
            done += 1;
        }
        self.at = self.at.saturating_add(done as u64);
        (done, None)
    }

    /// The next state for the usual bytes outside of strings. `None`: see [`Json::take`], which handles all bytes. This
    /// is 2.5 times as fast.
    fn between_strings(&self, byte: u8) -> Option<State> {
        let string = |is_name| Some(State::String { is_name, escape: Escape::No });
        match (self.state, byte) {
            (State::String { is_name: true, escape: Escape::No }, b'"') => Some(State::Colon),
            (State::String { is_name: false, escape: Escape::No }, b'"') => Some(State::Behind),
            (State::Colon, b':') => Some(State::Value),
            (State::Value, b'"') => string(false),
            (State::FirstName | State::Name, b'"') => string(true),
            (State::Behind, b',') if self.depth > 0 => {
                Some(if self.open & 1 == 1 { State::Name } else { State::Value })
            }
            _ => None,
        }
    }

    /// Takes a byte. The error is `None` if the byte itself is wrong.
    fn take(&mut self, byte: u8) -> Result<(), Option<NotJson>> {
        let wrong = Err(None);
        self.state = match (self.state, byte) {
            (State::String { is_name, escape }, _) => match (escape, byte) {
                (Escape::No, b'"') if is_name => State::Colon,
                (Escape::No, b'"') => State::Behind,
                (Escape::No, b'\\') => State::String { is_name, escape: Escape::Begun },
                (Escape::No, 0..b' ') => return wrong,
                (Escape::No, _) => self.state,
                (Escape::Begun, b'u') => State::String { is_name, escape: Escape::Digits(4) },
                (Escape::Begun, b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => {
                    State::String { is_name, escape: Escape::No }
                }
                (Escape::Digits(left), b'0'..=b'9' | b'a'..=b'f' | b'A'..=b'F') => {
                    let escape = if left > 1 { Escape::Digits(left - 1) } else { Escape::No };
                    State::String { is_name, escape }
                }
                (Escape::Begun | Escape::Digits(_), _) => return wrong,
            },
            (State::Word(word), _) => word.then(byte).ok_or(None)?,
            (State::Number(number), _) => match number.then(byte) {
                Some(number) => State::Number(number),
                None if number.is_whole() => {
                    self.state = State::Behind;
                    return self.take(byte);
                }
                None => return wrong,
            },
            (state, b' ' | b'\t' | b'\r' | b'\n') => state,
            (State::Value | State::FirstValue, _) => self.begin(byte)?,
            (State::FirstName | State::Name, b'"') => State::String { is_name: true, escape: Escape::No },
            (State::FirstName, b'}') => self.leave(),
            (State::Colon, b':') => State::Value,
            (State::Behind, _) => match (byte, self.depth, self.open & 1) {
                (_, 0, _) if self.texts == Texts::Many => self.begin(byte)?,
                (b',', 1.., 0) => State::Value,
                (b',', 1.., _) => State::Name,
                (b']', 1.., 0) => self.leave(),
                (b'}', 1.., 1) => self.leave(),
                _ => return wrong,
            },
            (State::FirstName | State::Name | State::Colon, _) => return wrong,
        };
        Ok(())
    }

    /// Takes the first byte of a value, or the end of an empty list.
    fn begin(&mut self, byte: u8) -> Result<State, Option<NotJson>> {
        Ok(match byte {
            b'{' => self.enter(1, State::FirstName)?,
            b'[' => self.enter(0, State::FirstValue)?,
            b']' if self.state == State::FirstValue => self.leave(),
            b'"' => State::String { is_name: false, escape: Escape::No },
            b't' => State::Word(Word { kind: WordKind::True, length: 1 }),
            b'f' => State::Word(Word { kind: WordKind::False, length: 1 }),
            b'n' => State::Word(Word { kind: WordKind::Null, length: 1 }),
            b'-' => State::Number(Number::Minus),
            b'0' => State::Number(Number::Zero),
            b'1'..=b'9' => State::Number(Number::Integer),
            _ => return Err(None),
        })
    }

    fn enter(&mut self, bracket: u128, state: State) -> Result<State, Option<NotJson>> {
        if self.depth == DEPTH {
            return Err(Some(NotJson::TooDeep));
        }
        (self.open, self.depth) = (self.open << 1 | bracket, self.depth + 1);
        Ok(state)
    }

    fn leave(&mut self) -> State {
        (self.open, self.depth) = (self.open >> 1, self.depth.saturating_sub(1));
        State::Behind
    }
}

impl Word {
    /// The next state after a byte; `None`: the byte does not belong to it.
    fn then(self, byte: u8) -> Option<State> {
        let text: &[u8] = match self.kind {
            WordKind::True => b"true",
            WordKind::False => b"false",
            WordKind::Null => b"null",
        };
        let length = self.length + 1;
        match text.get(usize::from(self.length)) {
            Some(next) if *next != byte => None,
            _ if usize::from(length) >= text.len() => Some(State::Behind),
            _ => Some(State::Word(Word { length, ..self })),
        }
    }
}

impl Number {
    /// The next state after a byte; `None`: the byte does not belong to it.
    fn then(self, byte: u8) -> Option<Number> {
        Some(match (self, byte) {
            (Number::Minus, b'0') => Number::Zero,
            (Number::Minus, b'1'..=b'9') | (Number::Integer, b'0'..=b'9') => Number::Integer,
            (Number::Zero | Number::Integer, b'.') => Number::Point,
            (Number::Point | Number::Fraction, b'0'..=b'9') => Number::Fraction,
            (Number::Zero | Number::Integer | Number::Fraction, b'e' | b'E') => Number::Exponent,
            (Number::Exponent, b'+' | b'-') => Number::ExponentSign,
            (Number::Exponent | Number::ExponentSign | Number::ExponentDigits, b'0'..=b'9') => Number::ExponentDigits,
            _ => return None,
        })
    }

    fn is_whole(self) -> bool {
        matches!(self, Number::Zero | Number::Integer | Number::Fraction | Number::ExponentDigits)
    }
}

/// The number of bytes at the beginning of a text that have no special meaning inside a string: no quote, no backslash,
/// no control character. Checks eight bytes at a time, because most bytes of an answer are in strings.
fn plain(text: &[u8]) -> usize {
    const ONES: u64 = u64::from_ne_bytes([1; 8]);
    const HIGH: u64 = ONES << 7;
    // Sets the high bit of each byte that is less than another one. Only the lowest such bit is reliable.
    let less = |word: u64, than: u8| word.wrapping_sub(ONES * u64::from(than)) & !word & HIGH;
    let (words, _) = text.as_chunks::<8>();
    for (at, bytes) in words.iter().enumerate() {
        let word = u64::from_le_bytes(*bytes);
        let is = |byte: u8| less(word ^ (ONES * u64::from(byte)), 1);
        let special = less(word, b' ') | is(b'"') | is(b'\\');
        if special != 0 {
            return at * 8 + special.trailing_zeros() as usize / 8;
        }
    }
    let rest = &text[words.len() * 8..];
    let length = rest.iter().position(|byte| matches!(byte, b'"' | b'\\' | 0..b' '));
    text.len() - rest.len() + length.unwrap_or(rest.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_bytes_end_at_the_first_special_one() {
        let mut random = crate::random::Random::new(3);
        for _ in 0..20_000 {
            let length = random.below(40);
            let text: Vec<u8> =
                (0..length).map(|_| *random.pick(b"aaaaaaaaaaaa !~\x7f\x80\xa2\xdc\xff\"\\\x1f\x01\0")).collect();
            let expected = text.iter().position(|byte| matches!(byte, b'"' | b'\\' | 0..b' '));
            assert_eq!(plain(&text), expected.unwrap_or(length), "{}", text.escape_ascii());
        }
    }

    /// How many bytes of a text are taken, in pieces of every size.
    #[track_caller]
    fn taken(json: fn() -> Json, text: &str) -> Result<(), NotJson> {
        let mut outcomes = (1..=text.len().max(1)).map(|size| {
            let mut json = json();
            let mut wrong = None;
            for piece in text.as_bytes().chunks(size) {
                let (done, why) = json.push(piece);
                assert_eq!(done < piece.len(), why.is_some(), "{text}");
                wrong = wrong.or(why);
                if wrong.is_some() {
                    break;
                }
            }
            wrong.map_or(Ok(()), Err)
        });
        let first = outcomes.next().expect("there is one size");
        assert!(outcomes.all(|outcome| outcome == first), "{text}: it matters how it comes");
        first
    }

    #[test]
    fn the_first_byte_that_cannot_be_json_is_reported() {
        let check = |text: &str, at: u64| assert_eq!(taken(Json::one, text), Err(NotJson::Byte(at)), "{text}");
        for text in ["x", "<html>", "\u{1}", "}", "]", ",", ":", "'a'", "+1", ".5", "NaN"] {
            check(text, 1);
        }
        check("{x", 2);
        check("{\"a\" 1", 6);
        check("{\"a\":}", 6);
        check("{\"a\":1,}", 8);
        check("{\"a\":1]", 7);
        check("[1,]", 4);
        check("[1}", 3);
        check("[1 2", 4);
        check("\"a\nb\"", 3);
        check("\"\\x", 3);
        check("\"\\u00g", 6);
        check("nulL", 4);
        check("01", 2);
        check("-x", 2);
        check("1.x", 3);
        check("1e+x", 4);
        check("{}{}", 3);
        check("{} x", 4);
    }

    #[test]
    fn what_can_be_json_is_taken() {
        for text in [
            "",
            " {} ",
            "[]",
            "[[],{},[1,-0,0.5,1e9,2E-3,-12.25e+10],true,false,null,\"\"]",
            "{\"a\":{\"b\":[{\"c\":\"\\\"\\\\\\u00e9\\n\"}]},\"d\":\"\u{e9}\"}",
            "\t\r\n1\n",
            // A cut text can be JSON.
            "{\"a\":[tr",
            "\"\\",
        ] {
            assert_eq!(taken(Json::one, text), Ok(()), "{text}");
            assert_eq!(taken(Json::many, text), Ok(()), "{text}");
        }
        assert_eq!(taken(Json::many, "{}\n{\"a\":1}\n[] 1 \"x\"\n"), Ok(()));
        assert_eq!(taken(Json::many, "{}\n{\"a\":1}\noops"), Err(NotJson::Byte(12)));
    }

    #[test]
    fn depth_has_an_end() {
        let deep = "[{\"a\":".repeat(DEPTH as usize / 2);
        assert_eq!(taken(Json::one, &deep), Ok(()));
        assert_eq!(taken(Json::one, &(deep + "[")), Err(NotJson::TooDeep));
        let again = "[".repeat(DEPTH as usize) + &"]".repeat(DEPTH as usize);
        assert_eq!(taken(Json::many, &again.repeat(2)), Ok(()));
    }

    /// Every text that serde_json accepts is JSON.
    #[test]
    fn what_is_read_is_taken() {
        let mut random = crate::random::Random::new(5);
        let parts = ["{", "}", "[", "]", ",", ":", "\"a\"", "1", "-0.5e-3", "true", "null", " ", "\"\\u0041\\n\""];
        let (mut read, mut refused) = (0, 0);
        for _ in 0..200_000 {
            let length = 1 + random.below(9);
            let text: String = (0..length).map(|_| parts[random.below(parts.len())]).collect();
            let taken = Json::one().push(text.as_bytes()).1.is_none();
            match serde_json::from_str::<serde_json::Value>(&text) {
                Ok(_) => {
                    assert!(taken, "{text}");
                    read += 1;
                }
                Err(error) if error.is_eof() => assert!(taken, "{text} may go on"),
                Err(_) => {
                    assert!(!taken, "{text}");
                    refused += 1;
                }
            }
        }
        assert!(read > 1000 && refused > 1000, "{read} {refused}");
    }
}
