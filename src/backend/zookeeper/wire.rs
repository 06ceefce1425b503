//! The wire format of ZooKeeper 3.4 to 3.9 (jute, big-endian): converts requests to frames, and frames to replies and
//! events. Frames are limited, and no bytes cause a panic. Decides nothing and keeps no session.

use std::fmt;
use std::rc::Rc;
use std::time::Duration;

use crate::scheme;
use crate::store::Bytes;

/// The number of a reply that is an event of a watch.
const EVENT: i32 = -1;
/// The number of a ping and of its reply.
const PING: i32 = -2;
/// The number of an authentication and of its reply.
const AUTHENTICATION: i32 = -4;

const CREATE_SESSION_VERSION: i32 = 0;

const OP_EXISTS: i32 = 3;
const OP_GET_DATA: i32 = 4;
const OP_SYNC: i32 = 9;
const OP_PING: i32 = 11;
const OP_GET_CHILDREN: i32 = 12;
const OP_AUTHENTICATE: i32 = 100;
const OP_ADD_WATCH: i32 = 106;
const OP_CLOSE: i32 = -11;

/// The mode of `addWatch`: persistent, and for all nodes below.
const RECURSIVE: i32 = 1;

/// The password of a session that does not exist yet.
const NO_PASSWORD: [u8; 16] = [0; 16];

/// The longest password of a session; servers give 16 bytes.
const LONGEST_PASSWORD: usize = 1024;

/// The longest answer to [`connect`]: version, timeout, number, password and a flag.
pub const LONGEST_SESSION: usize = 4 + 4 + 8 + 4 + LONGEST_PASSWORD + 1;

/// Bytes of the answer of another kind of server that an error shows.
const SHOWN: usize = 40;

/// Bytes of memory that are kept for the next frames after a large one.
const KEPT: usize = 256 * 1024;

/// The size of a reply's number, which begins the frame.
const NUMBER: usize = size_of::<i32>();

/// The offset of the number of children in a node's `Stat`, and the size of a `Stat`.
const CHILDREN_IN_STAT: usize = 56;
const STAT: usize = 68;

/// A session as the server knows it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SessionId {
    /// The number; 0: there is no session.
    pub id: i64,
    /// Proves that this client owns the session.
    pub password: Vec<u8>,
}

/// A request with a numbered reply. Paths are those of the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Request<'a> {
    /// The value of a node and the number of its children.
    Data {
        /// The node.
        path: &'a [u8],
        /// Whether its next change or its deletion is reported.
        watch: bool,
    },
    /// The names of a node's children.
    Children {
        /// The node.
        path: &'a [u8],
        /// Whether the next creation or deletion of a child is reported.
        watch: bool,
    },
    /// Asks for an event when a node is created.
    Creation {
        /// The node.
        path: &'a [u8],
    },
    /// Makes the server catch up with the leader.
    Sync {
        /// Any path.
        path: &'a [u8],
    },
    /// Asks for an event of every change of the node and below it, for as long as the connection lasts.
    AddWatch {
        /// The node; it need not exist.
        path: &'a [u8],
    },
    /// Ends the session.
    Close,
}

/// A message of a server in an established session.
#[derive(Debug, PartialEq, Eq)]
pub enum Message<'a> {
    /// The reply to the request of this number.
    Reply {
        /// The number.
        number: i32,
        /// The body, whose format depends on the request.
        outcome: Result<&'a [u8], Code>,
    },
    /// An event of a watch.
    Event {
        /// The event.
        kind: EventKind,
        /// The node.
        path: Bytes,
    },
    /// The reply to a ping.
    Pong,
    /// The reply to an authentication.
    Authenticated(Result<(), Code>),
}

/// The event of a watch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EventKind {
    /// The node was created.
    Created,
    /// The node was deleted.
    Deleted,
    /// Its value was written.
    Changed,
    /// A child was created or deleted.
    ChildrenChanged,
    /// Any other event.
    Other,
}

/// The code of an error, as the server gives it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Code(pub i32);

impl Code {
    /// The server does not have this request.
    pub const UNIMPLEMENTED: Code = Code(-6);
    /// The node does not exist.
    pub const NO_NODE: Code = Code(-101);
    /// The node may not be read.
    pub const NO_AUTH: Code = Code(-102);
    /// The authentication failed.
    pub const AUTH_FAILED: Code = Code(-115);
    /// The server requires another kind of authentication.
    pub const AUTH_REQUIRED: Code = Code(-124);
    /// The arguments of the request are invalid.
    pub const BAD_ARGUMENTS: Code = Code(-8);

    /// Whether an operator has to correct the cause, on any node.
    pub fn is_lasting(self) -> bool {
        matches!(
            self,
            Code::UNIMPLEMENTED
                | Code::BAD_ARGUMENTS
                | Code::NO_NODE
                | Code::NO_AUTH
                | Code::AUTH_FAILED
                | Code::AUTH_REQUIRED
        )
    }
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let words = match self.0 {
            -1 => "system error",
            -2 => "runtime inconsistency",
            -3 => "data inconsistency",
            -4 => "connection to the leader lost",
            -5 => "marshalling error",
            -6 => "request unknown to this server",
            -7 => "timeout of the server",
            -8 => "bad arguments",
            -101 => "no such node",
            -102 => "not permitted",
            -112 => "session expired",
            -115 => "authentication failed",
            -118 => "session moved to another server",
            -122 => "request timed out at the server",
            -124 => "the server wants SASL, which is not supported",
            -127 => "the server is overloaded",
            code => return write!(f, "error {code}"),
        };
        f.write_str(words)
    }
}

/// Why bytes cannot be read.
#[derive(Debug, PartialEq, Eq)]
pub enum Unreadable {
    /// A frame exceeds the limit: its length, and the limit.
    TooLong(usize, usize),
    /// The bytes are not ZooKeeper's protocol.
    Nonsense(&'static str),
    /// The first bytes of a connection are those of another kind of server: their beginning.
    Foreign(Vec<u8>),
}

impl fmt::Display for Unreadable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Unreadable::TooLong(length, limit) => write!(
                f,
                "an answer of {length} bytes is longer than {limit} bytes: raise `max_response` of the backend"
            ),
            Unreadable::Nonsense(what) => write!(f, "not an answer of ZooKeeper: {what}"),
            Unreadable::Foreign(bytes) if scheme::speaks_tls(bytes) => {
                f.write_str("the server speaks TLS: write zookeepers:// in front of the address")
            }
            Unreadable::Foreign(bytes) => {
                write!(f, "the server is no ZooKeeper: its answer begins with `{}`", bytes.escape_ascii())
            }
        }
    }
}

/// Cuts bytes that arrive in pieces into frames.
#[derive(Debug)]
pub struct Frames {
    bytes: Vec<u8>,
    /// The position of the next frame.
    at: usize,
    limit: usize,
}

impl Frames {
    /// `limit`: the size limit of a frame, in bytes.
    pub fn new(limit: usize) -> Frames {
        Frames { bytes: Vec::new(), at: 0, limit }
    }

    /// Takes a piece.
    pub fn push(&mut self, piece: &[u8]) {
        self.bytes.drain(..self.at);
        self.at = 0;
        if self.bytes.is_empty() {
            self.bytes.shrink_to(KEPT);
        }
        self.bytes.extend_from_slice(piece);
    }

    /// The frame with the answer to [`connect`], when it is complete. Later frames have the limit `limit`.
    ///
    /// # Errors
    /// The length does not fit such an answer: this is another kind of server, or a proxy with its own protocol.
    pub fn session_frame(&mut self, limit: usize) -> Result<Option<&[u8]>, Unreadable> {
        self.limit = LONGEST_SESSION;
        let (at, end) = (self.at, self.bytes.len().min(self.at + SHOWN));
        match self.next_frame() {
            Ok(None) => return Ok(None),
            Ok(Some(_)) => {}
            Err(_) => return Err(Unreadable::Foreign(self.bytes[at..end].to_vec())),
        }
        self.limit = limit;
        Ok(self.bytes.get(at + 4..self.at))
    }

    /// The next complete frame.
    ///
    /// # Errors
    /// The length is negative or exceeds the limit. Nothing more can be read.
    pub fn next_frame(&mut self) -> Result<Option<&[u8]>, Unreadable> {
        let Some((length, rest)) = self.bytes[self.at..].split_first_chunk() else { return Ok(None) };
        let length = usize::try_from(i32::from_be_bytes(*length))
            .map_err(|_| Unreadable::Nonsense("a frame of negative length"))?;
        if length > self.limit {
            return Err(Unreadable::TooLong(length, self.limit));
        }
        let Some(frame) = rest.get(..length) else { return Ok(None) };
        self.at += 4 + length;
        Ok(Some(frame))
    }
}

/// The request for a new session, or for the given one.
pub fn connect(timeout: Duration, session: &SessionId) -> Vec<u8> {
    let mut frame = Frame::new();
    frame.int(CREATE_SESSION_VERSION);
    // The last known transaction would go here, but a server that lags behind it closes the connection without a
    // message. A `sync` before each read replaces it.
    frame.long(0);
    frame.int(i32::try_from(timeout.as_millis()).unwrap_or(i32::MAX));
    frame.long(session.id);
    frame.buffer(if session.id == 0 { &NO_PASSWORD } else { &session.password });
    // A read-only server, which has lost its quorum, is not accepted.
    frame.flag(false);
    frame.end()
}

/// The frame of a request.
pub fn request(number: i32, request: Request<'_>) -> Vec<u8> {
    let mut frame = Frame::new();
    frame.int(number);
    match request {
        Request::Data { path, watch } => frame.watching(OP_GET_DATA, path, watch),
        Request::Children { path, watch } => frame.watching(OP_GET_CHILDREN, path, watch),
        Request::Creation { path } => frame.watching(OP_EXISTS, path, true),
        Request::Sync { path } => {
            frame.int(OP_SYNC);
            frame.buffer(path);
        }
        Request::AddWatch { path } => {
            frame.int(OP_ADD_WATCH);
            frame.buffer(path);
            frame.int(RECURSIVE);
        }
        Request::Close => frame.int(OP_CLOSE),
    }
    frame.end()
}

/// The frame of a ping.
pub fn ping() -> Vec<u8> {
    let mut frame = Frame::new();
    frame.int(PING);
    frame.int(OP_PING);
    frame.end()
}

/// The frame of an authentication. It contains user and password in plain text.
pub fn authenticate(user: &str, password: &str) -> Vec<u8> {
    let mut frame = Frame::new();
    frame.int(AUTHENTICATION);
    frame.int(OP_AUTHENTICATE);
    frame.int(0);
    frame.buffer(b"digest");
    frame.buffer(format!("{user}:{password}").as_bytes());
    frame.end()
}

/// Reads the answer to [`connect`]: the session and its timeout. `None`: the session has expired.
///
/// # Errors
/// The frame is not such an answer.
pub fn read_session(frame: &[u8]) -> Result<Option<(SessionId, Duration)>, Unreadable> {
    let mut reader = Reader(frame);
    reader.int()?;
    let timeout = reader.int()?;
    let id = reader.long()?;
    let password = reader.buffer()?;
    if password.len() > LONGEST_PASSWORD {
        return Err(Unreadable::Nonsense("the password of a session is too long"));
    }
    match u64::try_from(timeout) {
        Ok(0) | Err(_) => Ok(None),
        Ok(timeout) if id != 0 => {
            Ok(Some((SessionId { id, password: password.to_vec() }, Duration::from_millis(timeout))))
        }
        Ok(_) => Err(Unreadable::Nonsense("a session without a number")),
    }
}

/// Reads a frame of an established session.
///
/// # Errors
/// The frame is neither a reply nor an event.
pub fn read(frame: &[u8]) -> Result<Message<'_>, Unreadable> {
    let mut reader = Reader(frame);
    let number = reader.int()?;
    // See [`transaction`].
    reader.long()?;
    let code = Code(reader.int()?);
    Ok(match number {
        EVENT => {
            let kind = match reader.int()? {
                1 => EventKind::Created,
                2 => EventKind::Deleted,
                3 => EventKind::Changed,
                4 => EventKind::ChildrenChanged,
                _ => EventKind::Other,
            };
            // The state of the connection is known already.
            reader.int()?;
            Message::Event { kind, path: Rc::from(reader.buffer()?) }
        }
        PING => Message::Pong,
        AUTHENTICATION => Message::Authenticated(if code.0 == 0 { Ok(()) } else { Err(code) }),
        number => Message::Reply { number, outcome: if code.0 == 0 { Ok(reader.0) } else { Err(code) } },
    })
}

/// The server's last transaction at the time of a frame; `None`: the frame does not have it.
pub fn transaction(frame: &[u8]) -> Option<u64> {
    let bytes = frame.get(NUMBER..NUMBER + size_of::<i64>())?;
    u64::try_from(i64::from_be_bytes(bytes.try_into().ok()?)).ok().filter(|id| *id > 0)
}

/// Reads the reply to [`Request::Data`]: the value and the number of children.
///
/// # Errors
/// The body is not such a reply.
pub fn read_data(body: &[u8]) -> Result<(&[u8], u32), Unreadable> {
    let mut reader = Reader(body);
    let value = reader.buffer()?;
    Ok((value, reader.children()?))
}

/// Reads the reply to [`Request::Children`].
///
/// # Errors
/// The body is not such a reply.
pub fn read_children(body: &[u8]) -> Result<Names<'_>, Unreadable> {
    let mut reader = Reader(body);
    let count = reader.count()?;
    Ok(Names { reader, left: count })
}

/// The names of children.
pub struct Names<'a> {
    reader: Reader<'a>,
    left: u32,
}

impl<'a> Iterator for Names<'a> {
    type Item = Result<&'a [u8], Unreadable>;

    /// The next name. After an error there are none.
    fn next(&mut self) -> Option<Self::Item> {
        self.left = self.left.checked_sub(1)?;
        let name = self.reader.buffer().and_then(|name| match name {
            b"" | b"." | b".." => Err(Unreadable::Nonsense("a child without a name")),
            _ if name.contains(&b'/') => Err(Unreadable::Nonsense("a slash in the name of a child")),
            _ => Ok(name),
        });
        if name.is_err() {
            self.left = 0;
        }
        Some(name)
    }
}

impl<'a> Names<'a> {
    /// The declared number of remaining names, and their bytes.
    pub fn rest(&self) -> (u32, &'a [u8]) {
        (self.left, self.reader.0)
    }

    /// Continues at the position of [`Names::rest`].
    pub fn resume(left: u32, bytes: &'a [u8]) -> Names<'a> {
        Names { reader: Reader(bytes), left }
    }
}

/// A frame in the making.
struct Frame(Vec<u8>);

impl Frame {
    fn new() -> Frame {
        Frame(vec![0; 4])
    }

    fn int(&mut self, value: i32) {
        self.0.extend_from_slice(&value.to_be_bytes());
    }

    fn long(&mut self, value: i64) {
        self.0.extend_from_slice(&value.to_be_bytes());
    }

    fn flag(&mut self, value: bool) {
        self.0.push(u8::from(value));
    }

    /// Appends a text with its length. Texts of the configuration and paths always fit into the length field.
    fn buffer(&mut self, bytes: &[u8]) {
        let length = i32::try_from(bytes.len()).unwrap_or(i32::MAX);
        self.int(length);
        self.0.extend_from_slice(&bytes[..bytes.len().min(i32::MAX as usize)]);
    }

    fn watching(&mut self, operation: i32, path: &[u8], watch: bool) {
        self.int(operation);
        self.buffer(path);
        self.flag(watch);
    }

    fn end(mut self) -> Vec<u8> {
        let length = i32::try_from(self.0.len() - 4).unwrap_or(i32::MAX);
        self.0[..4].copy_from_slice(&length.to_be_bytes());
        self.0
    }
}

/// The unread bytes of a frame.
#[derive(Clone, Copy)]
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    const SHORT: Unreadable = Unreadable::Nonsense("it ends too early");

    fn take<const N: usize>(&mut self) -> Result<[u8; N], Unreadable> {
        let (taken, rest) = self.0.split_first_chunk().ok_or(Reader::SHORT)?;
        self.0 = rest;
        Ok(*taken)
    }

    fn int(&mut self) -> Result<i32, Unreadable> {
        self.take().map(i32::from_be_bytes)
    }

    fn long(&mut self) -> Result<i64, Unreadable> {
        self.take().map(i64::from_be_bytes)
    }

    /// A number of items; -1 stands for none.
    fn count(&mut self) -> Result<u32, Unreadable> {
        match self.int()? {
            -1 => Ok(0),
            count => u32::try_from(count).map_err(|_| Unreadable::Nonsense("a negative length")),
        }
    }

    fn buffer(&mut self) -> Result<&'a [u8], Unreadable> {
        let length = usize::try_from(self.count()?).map_err(|_| Reader::SHORT)?;
        let (taken, rest) = self.0.split_at_checked(length).ok_or(Reader::SHORT)?;
        self.0 = rest;
        Ok(taken)
    }

    /// The number of children in a `Stat`.
    fn children(&mut self) -> Result<u32, Unreadable> {
        let stat: [u8; STAT] = self.take()?;
        Reader(&stat[CHILDREN_IN_STAT..]).count()
    }
}

#[cfg(test)]
mod tests;
