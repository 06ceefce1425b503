//! Redis' serialization protocol, version 2 (RESP2): converts commands to bytes, and bytes to replies. Accepts pieces
//! of any size, with a memory limit. Knows no command and no connection.

use std::fmt;

use crate::scheme;
use crate::store::Bytes;

/// The length limit of a line.
const LONGEST_LINE: usize = 64 * 1024;

/// The nesting limit of arrays. The replies to the commands of this program have two levels.
const DEEPEST: usize = 8;

/// The memory of one element without its bytes.
const ELEMENT: usize = size_of::<Reply>();

/// The number of bytes of an unreadable reply that an error shows.
const SHOWN: usize = 40;

/// A reply of the server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    /// A status, such as `OK`.
    Status(String),
    /// An error: its code in capitals, then its text.
    Error(String),
    /// A number.
    Integer(i64),
    /// Bytes: a key, a value.
    Bulk(Bytes),
    /// No value.
    Nil,
    /// Several replies.
    Array(Vec<Reply>),
}

/// Why bytes are not a reply.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unreadable {
    /// The reply exceeds this number of bytes.
    TooLarge(usize),
    /// The bytes are not Redis' protocol. The text has their beginning.
    Nonsense(String),
    /// The server speaks TLS.
    Tls,
}

impl fmt::Display for Unreadable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Unreadable::TooLarge(limit) => {
                write!(f, "reply is larger than the limit of {limit} bytes: raise `max_response` of the backend")
            }
            Unreadable::Nonsense(beginning) => write!(f, "not a reply of redis: `{beginning}`"),
            Unreadable::Tls => f.write_str("the server speaks TLS: write rediss:// in front of the address"),
        }
    }
}

/// Appends a command: its name and its arguments.
pub fn command(out: &mut Vec<u8>, words: &[&[u8]]) {
    out.extend_from_slice(format!("*{}\r\n", words.len()).as_bytes());
    for word in words {
        out.extend_from_slice(format!("${}\r\n", word.len()).as_bytes());
        out.extend_from_slice(word);
        out.extend_from_slice(b"\r\n");
    }
}

/// Parses replies from bytes that arrive in pieces.
#[derive(Debug)]
pub struct Reader {
    limit: usize,
    /// The memory of the incomplete reply so far.
    taken: usize,
    state: State,
    /// The incomplete arrays, outermost first.
    open: Vec<Open>,
}

#[derive(Debug)]
enum State {
    /// An incomplete line.
    Line(Vec<u8>),
    /// Incomplete bytes. `missing` is the number of missing bytes, with the end of the line.
    Bulk { bytes: Vec<u8>, missing: usize },
}

#[derive(Debug)]
struct Open {
    items: Vec<Reply>,
    missing: usize,
}

impl Reader {
    /// `limit`: the memory limit of one reply, in bytes.
    pub fn new(limit: usize) -> Reader {
        Reader { limit, taken: 0, state: State::Line(Vec::new()), open: Vec::new() }
    }

    /// Takes the next piece, and appends the complete replies.
    ///
    /// # Errors
    /// The bytes are not a reply, or the reply is too large. Nothing more can be read.
    pub fn push(&mut self, mut piece: &[u8], replies: &mut Vec<Reply>) -> Result<(), Unreadable> {
        while !piece.is_empty() {
            match &mut self.state {
                State::Line(line) => {
                    let end = piece.iter().position(|byte| *byte == b'\n');
                    let (part, rest) = piece.split_at(end.map_or(piece.len(), |end| end + 1));
                    let begins = line.is_empty();
                    line.extend_from_slice(part);
                    piece = rest;
                    if begins && !matches!(line[0], b'+' | b'-' | b':' | b'$' | b'*') {
                        return Err(nonsense(line));
                    }
                    if line.len() > LONGEST_LINE {
                        return Err(nonsense(line));
                    }
                    if end.is_some() {
                        let line = std::mem::take(line);
                        self.line(&line, replies)?;
                    }
                }
                State::Bulk { bytes, missing } => {
                    let (part, rest) = piece.split_at(piece.len().min(*missing));
                    bytes.extend_from_slice(part);
                    *missing -= part.len();
                    piece = rest;
                    if *missing == 0 {
                        let bytes = std::mem::take(bytes);
                        self.state = State::Line(Vec::new());
                        let Some(value) = bytes.strip_suffix(b"\r\n") else { return Err(nonsense(&bytes)) };
                        self.complete(Reply::Bulk(Bytes::from(value)), replies);
                    }
                }
            }
        }
        Ok(())
    }

    /// Takes a whole line.
    fn line(&mut self, line: &[u8], replies: &mut Vec<Reply>) -> Result<(), Unreadable> {
        let Some([kind, rest @ ..]) = line.strip_suffix(b"\r\n") else { return Err(nonsense(line)) };
        let text = || String::from_utf8_lossy(rest).into_owned();
        let number = || std::str::from_utf8(rest).ok().and_then(|text| text.parse::<i64>().ok());
        // A length; `None` for -1, which stands for no value.
        let length = || match number() {
            Some(-1) => Ok(None),
            Some(length) => usize::try_from(length).map(Some).map_err(|_| nonsense(line)),
            None => Err(nonsense(line)),
        };
        self.charge(line.len().saturating_add(ELEMENT))?;
        let reply = match kind {
            b'+' => Reply::Status(text()),
            b'-' => Reply::Error(text()),
            b':' => Reply::Integer(number().ok_or_else(|| nonsense(line))?),
            b'$' => match length()? {
                None => Reply::Nil,
                Some(length) => {
                    self.charge(length)?;
                    self.state = State::Bulk { bytes: Vec::new(), missing: length.saturating_add(2) };
                    return Ok(());
                }
            },
            b'*' => match length()? {
                None => Reply::Nil,
                Some(0) => Reply::Array(Vec::new()),
                Some(_) if self.open.len() == DEEPEST => return Err(nonsense(line)),
                Some(missing) => {
                    // Elements that cannot fit are not awaited.
                    if missing.saturating_mul(ELEMENT) > self.limit {
                        return Err(Unreadable::TooLarge(self.limit));
                    }
                    self.open.push(Open { items: Vec::new(), missing });
                    return Ok(());
                }
            },
            _ => return Err(nonsense(line)),
        };
        self.complete(reply, replies);
        Ok(())
    }

    fn charge(&mut self, bytes: usize) -> Result<(), Unreadable> {
        self.taken = self.taken.saturating_add(bytes);
        if self.taken > self.limit { Err(Unreadable::TooLarge(self.limit)) } else { Ok(()) }
    }

    /// Adds a complete reply, and completes the arrays that it ends.
    fn complete(&mut self, mut reply: Reply, replies: &mut Vec<Reply>) {
        while let Some(open) = self.open.last_mut() {
            open.items.push(reply);
            open.missing -= 1;
            if open.missing > 0 {
                return;
            }
            reply = Reply::Array(self.open.pop().map(|open| open.items).unwrap_or_default());
        }
        self.taken = 0;
        replies.push(reply);
    }
}

fn nonsense(bytes: &[u8]) -> Unreadable {
    if scheme::speaks_tls(bytes) {
        return Unreadable::Tls;
    }
    Unreadable::Nonsense(bytes[..bytes.len().min(SHOWN)].escape_ascii().to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bulk(text: &str) -> Reply {
        Reply::Bulk(Bytes::from(text.as_bytes()))
    }

    /// The replies in a text, parsed in pieces of each size.
    #[track_caller]
    fn read(text: &[u8], limit: usize) -> (Vec<Reply>, Result<(), Unreadable>) {
        let in_pieces = |size: usize| {
            let (mut reader, mut replies) = (Reader::new(limit), Vec::new());
            let outcome = text.chunks(size).try_for_each(|piece| reader.push(piece, &mut replies));
            (replies, outcome)
        };
        let whole = in_pieces(text.len().max(1));
        for size in 1..text.len().min(20) {
            let torn = in_pieces(size);
            // The part of invalid bytes that an error shows depends on the pieces.
            assert_eq!((&torn.0, torn.1.is_err()), (&whole.0, whole.1.is_err()), "in pieces of {size}");
        }
        whole
    }

    #[test]
    fn commands() {
        let mut bytes = Vec::new();
        command(&mut bytes, &[b"GET", b"/a b\r\n\xff"]);
        command(&mut bytes, &[b"PING"]);
        assert_eq!(bytes, b"*2\r\n$3\r\nGET\r\n$7\r\n/a b\r\n\xff\r\n*1\r\n$4\r\nPING\r\n");
    }

    #[test]
    fn every_kind_of_reply_in_pieces_of_every_size() {
        let check = |text: &str, want: &[Reply]| assert_eq!(read(text.as_bytes(), 10_000), (want.to_vec(), Ok(())));
        check(
            "+OK\r\n-ERR no\r\n:-7\r\n",
            &[Reply::Status("OK".into()), Reply::Error("ERR no".into()), Reply::Integer(-7)],
        );
        check("$5\r\na\r\nb\n\r\n$0\r\n\r\n$-1\r\n", &[bulk("a\r\nb\n"), bulk(""), Reply::Nil]);
        check("*0\r\n*-1\r\n", &[Reply::Array(Vec::new()), Reply::Nil]);
        let scan = Reply::Array(vec![bulk("17"), Reply::Array(vec![bulk("/a"), Reply::Nil])]);
        check("*2\r\n$2\r\n17\r\n*2\r\n$2\r\n/a\r\n$-1\r\n:1\r\n", &[scan, Reply::Integer(1)]);
        check("*1\r\n*1\r\n*0\r\n", &[Reply::Array(vec![Reply::Array(vec![Reply::Array(vec![])])])]);
    }

    #[test]
    fn what_is_no_reply() {
        let check = |text: &[u8], words: &str| {
            let (replies, outcome) = read(text, 10_000);
            assert_eq!((replies, outcome.map_err(|error| error.to_string())), (vec![], Err(words.to_owned())));
        };
        check(b"HTTP/1.1 400 Bad Request\r\n", "not a reply of redis: `HTTP/1.1 400 Bad Request\\r\\n`");
        check(b"\x15\x03\x03\x00\x02", "the server speaks TLS: write rediss:// in front of the address");
        check(b"$-2\r\n", "not a reply of redis: `$-2\\r\\n`");
        check(b"*-9\r\n", "not a reply of redis: `*-9\\r\\n`");
        check(b"$1x\r\n", "not a reply of redis: `$1x\\r\\n`");
        check(b":\r\n", "not a reply of redis: `:\\r\\n`");
        check(b"$99999999999999999999\r\n", "not a reply of redis: `$99999999999999999999\\r\\n`");
        check(b"+OK\n", "not a reply of redis: `+OK\\n`");
        check(b"$1\r\nabc", "not a reply of redis: `abc`");
        check(&b"*1\r\n".repeat(9), "not a reply of redis: `*1\\r\\n`");
    }

    #[test]
    fn a_reply_takes_no_more_than_its_limit() {
        let limited = |text: &str| read(text.as_bytes(), 1000).1;
        let large = Err(Unreadable::TooLarge(1000));
        assert_eq!(limited("$900\r\n"), Ok(()));
        assert_eq!(limited("$1001\r\n"), large);
        assert_eq!(limited("*1000\r\n"), large, "elements that would not fit are not awaited");
        assert_eq!(limited("$9223372036854775807\r\n"), large);
        assert_eq!(limited("*9223372036854775807\r\n"), large);
        let item = format!("$40\r\n{}\r\n", "x".repeat(40));
        assert_eq!(limited(&format!("*20\r\n{}", item.repeat(20))), large);
        // One after the other, they are within the limit.
        assert_eq!(limited(&"$-1\r\n".repeat(500)), Ok(()));
        let line = format!("+{}", "x".repeat(LONGEST_LINE));
        assert!(matches!(read(line.as_bytes(), 1 << 30).1, Err(Unreadable::Nonsense(_))));
    }
}
