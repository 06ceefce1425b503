//! Redis' serialization protocol, version 2 (RESP2): commands become bytes, and bytes become replies. Reads pieces of
//! any size within a limit of memory. Knows no command and no connection.

use std::fmt;

use crate::scheme;
use crate::store::Bytes;

/// A line that is longer than this is none of Redis'.
const LONGEST_LINE: usize = 64 * 1024;

/// Arrays in arrays. The replies to the commands of this program have two levels.
const DEEPEST: usize = 8;

/// The memory of one element besides its bytes.
const ELEMENT: usize = size_of::<Reply>();

/// Bytes of an unreadable reply that an error shows.
const SHOWN: usize = 40;

/// A reply of the server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    /// A word, such as `OK`.
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

/// Why bytes are no reply.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unreadable {
    /// The reply takes more than this number of bytes.
    TooLarge(usize),
    /// It is not Redis' protocol; the beginning of it.
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

/// Puts replies together from what comes on a connection.
#[derive(Debug)]
pub struct Reader {
    limit: usize,
    /// The memory of the incomplete reply so far.
    taken: usize,
    state: State,
    /// The arrays that are not complete, each within the one before it.
    open: Vec<Open>,
}

#[derive(Debug)]
enum State {
    /// A line without its end.
    Line(Vec<u8>),
    /// Bytes of which so many are missing, with the end of the line.
    Bulk { bytes: Vec<u8>, missing: usize },
}

#[derive(Debug)]
struct Open {
    items: Vec<Reply>,
    missing: usize,
}

impl Reader {
    /// `limit`: what one reply may take, in bytes.
    pub fn new(limit: usize) -> Reader {
        Reader { limit, taken: 0, state: State::Line(Vec::new()), open: Vec::new() }
    }

    /// Takes the next piece, and gives the replies that are complete with it.
    ///
    /// # Errors
    /// It is no reply, or too large a one. Nothing can be read any more.
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

    /// A reply is complete, and with it perhaps the arrays that it is the last of.
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

    /// What is read of a text, in pieces of each size.
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
            // How much of nonsense an error shows depends on what has come of it.
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
        // One after the other they may.
        assert_eq!(limited(&"$-1\r\n".repeat(500)), Ok(()));
        let line = format!("+{}", "x".repeat(LONGEST_LINE));
        assert!(matches!(read(line.as_bytes(), 1 << 30).1, Err(Unreadable::Nonsense(_))));
    }
}
