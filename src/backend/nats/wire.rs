//! The text protocol of NATS: parses operations of a server, and writes requests. Also parses the headers of messages
//! and the position of a message in its stream. Limits its buffer. Decides nothing and knows no JSON.

use std::fmt;

/// The length limit of a line. The INFO of a large cluster has some thousand bytes.
const LONGEST_LINE: usize = 1 << 20;

/// The size up to which an empty buffer is kept.
const KEPT_BUFFER: usize = 64 * 1024;

/// An operation of a server.
#[derive(Debug, PartialEq, Eq)]
pub enum Operation<'a> {
    /// INFO: the server describes itself, in JSON.
    Info(&'a [u8]),
    /// A message of a subscription.
    Message(Message<'a>),
    /// PING: the server checks the client.
    Ping,
    /// PONG: the answer to a ping.
    Pong,
    /// +OK: confirms a request.
    Ok,
    /// -ERR: an error, without quotes.
    Error(&'a str),
}

/// A message of a subscription.
#[derive(Debug, PartialEq, Eq)]
pub struct Message<'a> {
    /// The number of the subscription.
    pub subscription: u64,
    /// The subject that it was sent to.
    pub subject: &'a str,
    /// The subject for a reply.
    pub reply: Option<&'a str>,
    /// The block of headers; empty without headers.
    pub headers: Headers<'a>,
    /// The content.
    pub payload: &'a [u8],
}

/// Why bytes are not an operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unreadable {
    /// A line exceeds its limit.
    LongLine,
    /// A message exceeds its limit.
    LargeMessage {
        /// The size of headers and payload, in bytes.
        size: usize,
        /// The limit, in bytes.
        limit: usize,
    },
    /// The line is not an operation of NATS.
    Operation,
    /// The message is longer than its declared size.
    Length,
}

impl fmt::Display for Unreadable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Unreadable::LongLine => write!(f, "line of more than {LONGEST_LINE} bytes"),
            Unreadable::LargeMessage { size, limit } => {
                write!(f, "message of {size} bytes, more than {limit}: raise `max_response` of the backend")
            }
            Unreadable::Operation => f.write_str("bytes that are not the protocol of NATS"),
            Unreadable::Length => f.write_str("message that does not end where it says"),
        }
    }
}

/// Parses operations from bytes that arrive in pieces.
#[derive(Debug)]
pub struct Reader {
    buffer: Vec<u8>,
    /// The number of consumed bytes at the beginning of the buffer.
    start: usize,
    /// The position up to which the buffer has no end of a line.
    scanned: usize,
    /// The length that the buffer needs for the next operation.
    needed: usize,
    /// The size limit of a message, in bytes.
    limit: usize,
}

impl Reader {
    /// `limit`: the size limit of headers and payload of one message, in bytes.
    pub fn new(limit: usize) -> Reader {
        Reader { buffer: Vec::new(), start: 0, scanned: 0, needed: 0, limit }
    }

    /// Takes a piece.
    pub fn push(&mut self, piece: &[u8]) {
        if self.start > 0 {
            self.buffer.drain(..self.start);
            self.scanned = self.scanned.saturating_sub(self.start);
            self.needed = self.needed.saturating_sub(self.start);
            self.start = 0;
        }
        if self.buffer.is_empty() {
            self.buffer.shrink_to(KEPT_BUFFER);
        }
        self.buffer.extend_from_slice(piece);
    }

    /// Whether all bytes were consumed.
    pub fn is_empty(&self) -> bool {
        self.start == self.buffer.len()
    }

    /// The bytes that are not consumed yet.
    pub fn unread(&self) -> &[u8] {
        &self.buffer[self.start..]
    }

    /// The next complete operation.
    ///
    /// # Errors
    /// The bytes are not NATS. Nothing more can be read.
    pub fn operation(&mut self) -> Result<Option<Operation<'_>>, Unreadable> {
        if self.buffer.len() < self.needed {
            return Ok(None);
        }
        let from = self.scanned.max(self.start);
        let Some(length) = self.buffer[from..].iter().position(|byte| *byte == b'\n') else {
            self.scanned = self.buffer.len();
            return if self.buffer.len() - self.start > LONGEST_LINE { Err(Unreadable::LongLine) } else { Ok(None) };
        };
        let end = from + length;
        if end - self.start > LONGEST_LINE {
            return Err(Unreadable::LongLine);
        }
        // The end of the line is found again at once if the message after it is incomplete.
        self.scanned = end;
        let (size, header_size) = match Line::of(&self.buffer[self.start..end])? {
            Line::Message { size, header_size, .. } => (size, header_size),
            _ => {
                let line = self.start..end;
                (self.start, self.scanned) = (end + 1, end + 1);
                return match Line::of(&self.buffer[line])? {
                    Line::Info(json) => Ok(Some(Operation::Info(json))),
                    Line::Ping => Ok(Some(Operation::Ping)),
                    Line::Pong => Ok(Some(Operation::Pong)),
                    Line::Ok => Ok(Some(Operation::Ok)),
                    Line::Error(words) => Ok(Some(Operation::Error(words))),
                    Line::Message { .. } => Err(Unreadable::Operation),
                };
            }
        };
        if size > self.limit {
            return Err(Unreadable::LargeMessage { size, limit: self.limit });
        }
        let body = end + 1;
        let after = body + size;
        self.needed = after + 2;
        if self.buffer.len() < self.needed {
            return Ok(None);
        }
        let line = self.start..end;
        (self.start, self.scanned) = (self.needed, self.needed);
        if &self.buffer[after..after + 2] != b"\r\n" {
            return Err(Unreadable::Length);
        }
        let Line::Message { subscription, subject, reply, .. } = Line::of(&self.buffer[line])? else {
            return Err(Unreadable::Operation);
        };
        let (headers, payload) = self.buffer[body..after].split_at(header_size);
        Ok(Some(Operation::Message(Message { subscription, subject, reply, headers: Headers(headers), payload })))
    }
}

/// Parses one line of a server.
enum Line<'a> {
    Info(&'a [u8]),
    Message { subscription: u64, subject: &'a str, reply: Option<&'a str>, header_size: usize, size: usize },
    Ping,
    Pong,
    Ok,
    Error(&'a str),
}

impl Line<'_> {
    fn of(line: &[u8]) -> Result<Line<'_>, Unreadable> {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        let text = std::str::from_utf8(line).map_err(|_| Unreadable::Operation)?;
        let (verb, rest) = text.split_once([' ', '\t']).unwrap_or((text, ""));
        let is = |name: &str| verb.eq_ignore_ascii_case(name);
        if is("INFO") {
            return Ok(Line::Info(rest.as_bytes()));
        }
        if is("PING") {
            return Ok(Line::Ping);
        }
        if is("PONG") {
            return Ok(Line::Pong);
        }
        if is("+OK") {
            return Ok(Line::Ok);
        }
        if is("-ERR") {
            return Ok(Line::Error(rest.trim().trim_matches('\'')));
        }
        if is("MSG") || is("HMSG") {
            return message(rest, is("HMSG")).ok_or(Unreadable::Operation);
        }
        Err(Unreadable::Operation)
    }
}

/// `SUBJECT SID [REPLY] [HEADERS] SIZE`
fn message(rest: &str, has_headers: bool) -> Option<Line<'_>> {
    let words: Vec<&str> = rest.split_ascii_whitespace().take(6).collect();
    let numbers = if has_headers { 2 } else { 1 };
    let (names, sizes) = words.split_at_checked(words.len().checked_sub(numbers)?)?;
    let (subject, subscription, reply) = match names {
        [subject, subscription] => (subject, subscription, None),
        [subject, subscription, reply] => (subject, subscription, Some(*reply)),
        _ => return None,
    };
    let size = usize::try_from(number(sizes.last()?)?).ok()?;
    let header_size = if has_headers { usize::try_from(number(sizes.first()?)?).ok()? } else { 0 };
    let subscription = number(subscription)?;
    (header_size <= size && size < usize::MAX / 4).then_some(Line::Message {
        subscription,
        subject,
        reply,
        header_size,
        size,
    })
}

/// A number of digits only.
fn number(text: &str) -> Option<u64> {
    if text.bytes().all(|byte| byte.is_ascii_digit()) { text.parse().ok() } else { None }
}

/// The headers of a message: a line with a status, then names and values.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Headers<'a>(pub &'a [u8]);

impl<'a> Headers<'a> {
    /// The number of the status, such as 100 or 503.
    pub fn status(self) -> Option<u64> {
        self.first().split(' ').next().and_then(|word| if word.is_empty() { None } else { number(word) })
    }

    /// What follows the number.
    pub fn description(self) -> &'a str {
        self.first().split_once(' ').map_or("", |(_, rest)| rest.trim())
    }

    fn first(self) -> &'a str {
        let first = self.lines().next().unwrap_or_default();
        first.strip_prefix("NATS/1.0").unwrap_or_default().trim()
    }

    /// The value of a header.
    pub fn get(self, name: &str) -> Option<&'a str> {
        let lines = self.lines().skip(1);
        let mut pairs = lines.filter_map(|line| line.split_once(':'));
        pairs.find(|(is, _)| is.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim())
    }

    /// The value of a header that is a number.
    pub fn number(self, name: &str) -> Option<u64> {
        number(self.get(name).filter(|text| !text.is_empty())?)
    }

    /// The lines that are UTF-8.
    fn lines(self) -> impl Iterator<Item = &'a str> {
        self.0.split(|byte| *byte == b'\n').map(|line| std::str::from_utf8(line).unwrap_or_default().trim_end())
    }
}

/// The position of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Position {
    /// The sequence number in the stream, from 1 on.
    pub stream: u64,
    /// The sequence number among the messages of the consumer, from 1 on.
    pub consumer: u64,
    /// The number of messages that the consumer has yet to deliver.
    pub pending: u64,
}

impl Position {
    /// Parses the reply subject of a delivered message. `None`: it is another kind of subject.
    ///
    /// Source: the NATS architecture decision ADR-15: nine parts, or eleven and more with the domain and the account in
    /// front.
    pub fn of(reply: &str) -> Option<Position> {
        let parts: Vec<&str> = reply.split('.').take(16).collect();
        let first = match parts.len() {
            9 => 4,
            11.. => 6,
            _ => return None,
        };
        if parts[..2] != ["$JS", "ACK"] {
            return None;
        }
        let at = |place: usize| number(parts.get(first + place).copied().filter(|text| !text.is_empty())?);
        // Delivered, stream, consumer, time, pending.
        Some(Position { stream: at(1)?, consumer: at(2)?, pending: at(4)? })
    }
}

/// A ping. The server has handled all earlier requests when it answers.
pub const PING: &[u8] = b"PING\r\n";

/// Subscribes to a subject.
pub fn subscribe(subject: &str, subscription: u64) -> Vec<u8> {
    format!("SUB {subject} {subscription}\r\n").into_bytes()
}

/// Ends a subscription.
pub fn unsubscribe(subscription: u64) -> Vec<u8> {
    format!("UNSUB {subscription}\r\n").into_bytes()
}

/// Publishes to a subject, with an inbox for the reply or without.
pub fn publish(subject: &str, reply: Option<&str>, payload: &str) -> Vec<u8> {
    let reply = reply.map(|reply| format!(" {reply}")).unwrap_or_default();
    format!("PUB {subject}{reply} {}\r\n{payload}\r\n", payload.len()).into_bytes()
}

/// Whether a text of the server can be part of a line to it: it has no space and no control character.
pub fn is_subject(text: &str) -> bool {
    !text.is_empty() && text.len() < 4096 && !text.contains(|c: char| c.is_whitespace() || c.is_control())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(operation: &Operation<'_>) -> String {
        match operation {
            Operation::Message(message) => format!(
                "{} {} {} [{}] {}",
                message.subscription,
                message.subject,
                message.reply.unwrap_or("-"),
                message.headers.0.escape_ascii(),
                message.payload.escape_ascii()
            ),
            Operation::Info(json) => format!("info {}", String::from_utf8_lossy(json)),
            other => format!("{other:?}"),
        }
    }

    fn read(bytes: &[u8], piece: usize) -> Result<Vec<String>, Unreadable> {
        let mut reader = Reader::new(100);
        let mut all = Vec::new();
        for piece in bytes.chunks(piece) {
            reader.push(piece);
            while let Some(operation) = reader.operation()? {
                all.push(shown(&operation));
            }
        }
        Ok(all)
    }

    #[test]
    fn operations_are_the_same_however_they_are_torn() {
        let bytes = b"INFO {\"a\": 1}\r\nPING\r\npong\r\n+OK\r\n-ERR 'Slow Consumer'\r\nMSG a.b 1 3\r\n\r\n\0\r\n\
                      MSG a.b 2 r.s 0\r\n\r\nHMSG a 3 r 14 16\r\nNATS/1.0\r\nA:\r\nxy\r\nPING\r\n";
        let want = [
            "info {\"a\": 1}",
            "Ping",
            "Pong",
            "Ok",
            "Error(\"Slow Consumer\")",
            "1 a.b - [] \\r\\n\\x00",
            "2 a.b r.s [] ",
            "3 a r [NATS/1.0\\r\\nA:\\r\\n] xy",
            "Ping",
        ];
        for size in 1..bytes.len() {
            assert_eq!(read(bytes, size).unwrap(), want, "{size}");
        }
    }

    #[test]
    fn a_message_ends_at_its_length() {
        let whole = b"PING\r\nMSG a.b 1 3\r\n\r\n\0\r\nHMSG a 3 r 14 16\r\nNATS/1.0 100\r\nxy\r\nPING\r\n";
        let want = ["Ping", "1 a.b - [] \\r\\n\\x00", "3 a r [NATS/1.0 100\\r\\n] xy", "Ping"];
        for size in 1..whole.len() {
            assert_eq!(read(whole, size).unwrap(), want, "{size}");
        }
        let long = b"MSG a.b 1 3\r\nabcd\r\n";
        (1..long.len()).for_each(|size| assert_eq!(read(long, size), Err(Unreadable::Length), "{size}"));
    }

    #[test]
    fn what_is_no_operation_is_refused() {
        let check = |bytes: &[u8], want: Unreadable| assert_eq!(read(bytes, 7), Err(want), "{}", bytes.escape_ascii());
        for line in [
            "HTTP/1.1 400 Bad Request",
            "MSG a 1",
            "MSG a 1 -1",
            "MSG a 1 +1",
            "MSG a x 1",
            "MSG a 1 99999999999999999999999",
            "MSG a 1 18446744073709551615",
            "HMSG a 1 5 4",
            "HMSG a 1 4",
            "MSG a 1 b c 4",
            "MSG",
            "",
        ] {
            check(format!("{line}\r\n").as_bytes(), Unreadable::Operation);
        }
        check(b"\xff\xfe\n", Unreadable::Operation);
        check(b"MSG a 1 101\r\n", Unreadable::LargeMessage { size: 101, limit: 100 });
        check(&[b'x'; LONGEST_LINE + 9], Unreadable::LongLine);
    }

    #[test]
    fn headers_have_a_status_and_values() {
        let headers = Headers(b"NATS/1.0 100 Idle Heartbeat\r\nNats-Last-Consumer: 17\r\nOdd\r\nX: a:b \r\n\r\n");
        assert_eq!((headers.status(), headers.description()), (Some(100), "Idle Heartbeat"));
        assert_eq!((headers.number("nats-last-consumer"), headers.get("X")), (Some(17), Some("a:b")));
        assert_eq!((headers.get("Odd"), headers.number("X")), (None, None));
        let plain = Headers(b"NATS/1.0\r\nKV-Operation: DEL\r\n\r\n");
        assert_eq!((plain.status(), plain.get("KV-Operation")), (None, Some("DEL")));
        assert_eq!((Headers(b"").status(), Headers(b"\xff\r\n\xff:1").get("a")), (None, None));
    }

    #[test]
    fn a_reply_subject_has_the_position() {
        let check = |reply: &str, want: Option<(u64, u64, u64)>| {
            let position = want.map(|(stream, consumer, pending)| Position { stream, consumer, pending });
            assert_eq!(Position::of(reply), position, "{reply}");
        };
        check("$JS.ACK.KV_b.c.1.22.3.1700000000.4", Some((22, 3, 4)));
        check("$JS.ACK._.hash.KV_b.c.1.22.3.1700000000.4", Some((22, 3, 4)));
        check("$JS.ACK.dom.hash.KV_b.c.1.22.3.1700000000.4.token", Some((22, 3, 4)));
        for none in ["", "$JS.ACK.KV_b.c.1.22.3.17", "$JS.FC.KV_b.c.1.22.3.17.4", "$JS.ACK.KV_b.c.1.x.3.17.4"] {
            check(none, None);
        }
        check("$JS.ACK.KV_b.c.1.22..17.4", None);
    }

    #[test]
    fn requests_are_lines() {
        assert_eq!(publish("a", Some("r"), "xyz"), b"PUB a r 3\r\nxyz\r\n");
        assert_eq!(publish("a", None, ""), b"PUB a 0\r\n\r\n");
        assert_eq!([subscribe("a.*", 4), unsubscribe(4)].concat(), b"SUB a.* 4\r\nUNSUB 4\r\n");
        assert!(is_subject("$JS.FC.a") && !is_subject("a b") && !is_subject("a\r\nPUB") && !is_subject(""));
    }
}
