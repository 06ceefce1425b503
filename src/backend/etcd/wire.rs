//! The requests and answers of etcd's version 3 JSON gateway: converts values to bytes and back. Opens no connection
//! and decides nothing. On this wire integers are strings, keys and values are base64, and fields with their default
//! value are omitted. Unknown fields are ignored.
//!
//! Sources: etcd's rpc.proto and kv.proto (names are those of the JSON), and answers that were captured from etcd 3.4
//! and 3.5.

use std::fmt;
use std::marker::PhantomData;
use std::rc::Rc;
use std::str::FromStr;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use serde::de::{Deserializer, SeqAccess, Unexpected, Visitor};
use serde::{Deserialize, de};

use super::elements::{Elements, Taken};
use crate::backend::redact::Redactor;
use crate::backend::refusal;
use crate::backend::unreadable::Unreadable;
use crate::scheme;
use crate::store::Bytes;

/// The path that reads keys, by POST.
pub const RANGE: &str = "/v3/kv/range";
/// The path that watches keys, by POST.
pub const WATCH: &str = "/v3/watch";
/// The path of a login, by POST.
pub const AUTHENTICATE: &str = "/v3/auth/authenticate";

/// The headers of every request. With them a member that has lost its leader ends a watch after some seconds; without
/// them the watch stays silent.
pub const HEADERS: &[(&str, &str)] = &[("Content-Type", "application/json"), ("Grpc-Metadata-hasleader", "true")];

/// The additional header of a watch request. etcd's gateway confirms the first watches while it still reads the
/// request. Go's HTTP server then drops the rest of the request, with the watches in it, unless the connection closes
/// after the answer. The connection of a stream has no later request anyway.
pub const CLOSING: (&str, &str) = ("Connection", "close");

/// The header with the token, without the word `Bearer`.
pub const TOKEN: &str = "Authorization";

/// The length limit of a server's message in an error.
const SHOWN: usize = 200;

/// The keys from the first one up to, not including, the second one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Span {
    /// The first key.
    pub from: Vec<u8>,
    /// The end of the range. A single zero byte: all keys from the first one on. Empty: the first key alone.
    pub end: Vec<u8>,
}

impl Span {
    /// All keys that begin with a prefix.
    pub fn of_prefix(prefix: &[u8]) -> Span {
        let mut end = prefix.to_vec();
        while end.pop_if(|last| *last == 0xff).is_some() {}
        match end.last_mut() {
            Some(last) => *last += 1,
            None => end.push(0),
        }
        // etcd refuses an empty key. One zero byte is the smallest key.
        let from = if prefix.is_empty() { vec![0] } else { prefix.to_vec() };
        Span { from, end }
    }

    /// Whether a key is in the range.
    pub fn holds(&self, key: &[u8]) -> bool {
        self.from[..] <= *key && (self.end == [0] || *key < self.end[..])
    }

    /// The text of the range in messages: its prefix.
    pub fn shown(&self) -> String {
        let prefix: &[u8] = if self.from == [0] { b"" } else { &self.from };
        refusal::short(&String::from_utf8_lossy(prefix), SHOWN)
    }

    /// The part of the range after a key.
    pub fn after(&self, key: &[u8]) -> Span {
        Span { from: [key, &[0]].concat(), end: self.end.clone() }
    }
}

/// The body of a range request: one page, in key order, at a revision; `None`: the newest one.
pub fn range(span: &Span, limit: usize, revision: Option<u64>) -> String {
    format!(
        r#"{{"key":"{}","range_end":"{}","limit":"{limit}","revision":"{}"}}"#,
        BASE64_STANDARD.encode(&span.from),
        BASE64_STANDARD.encode(&span.end),
        revision.unwrap_or(0)
    )
}

/// The body of a range request whose answer is little more than the header: the newest revision, confirmed by a quorum.
/// It reads the first key of a range that the user may read.
pub fn newest_revision(span: &Span) -> String {
    first_key(&Span { from: span.from.clone(), end: Vec::new() })
}

/// The body of a range request that shows only whether the user may read a range.
pub fn permission(span: &Span) -> String {
    first_key(span)
}

/// The value is omitted, because it may be large.
fn first_key(span: &Span) -> String {
    format!(
        r#"{{"key":"{}","range_end":"{}","limit":"1","keys_only":true}}"#,
        BASE64_STANDARD.encode(&span.from),
        BASE64_STANDARD.encode(&span.end),
    )
}

/// The body of a login.
pub fn login(user: &str, password: &str) -> String {
    serde_json::json!({"name": user, "password": password}).to_string()
}

/// The token in the answer to a login.
pub fn read_token(answer: &[u8]) -> Result<String, Unreadable> {
    #[derive(Deserialize)]
    struct Answer {
        token: String,
    }
    let Answer { token } = serde_json::from_slice(answer)?;
    // The token becomes a line in the head of a request.
    match !token.is_empty() && token.bytes().all(|b| b.is_ascii_graphic()) {
        true => Ok(token),
        false => Err(Unreadable::Nonsense("no token that can be sent".into())),
    }
}

/// The body of a watch request: one create_request after the other for each range and first wanted revision, with
/// watch_id 1, 2, ... (answers omit a 0). Large answers come in fragments.
///
/// Asks from one revision earlier. If the first one was a deletion, and is the compacted revision, etcd 3.4.23 sends
/// neither the event nor an error (etcd issues 18089 and 19179); the earlier one leads to the error.
pub fn watch<'a>(watches: impl Iterator<Item = (&'a Span, u64)>) -> String {
    let mut body = String::new();
    for ((span, first), id) in watches.zip(1..) {
        // 0 means from now on.
        let first = if first > 1 { first - 1 } else { first };
        body += &format!(
            r#"{{"create_request":{{"key":"{}","range_end":"{}","start_revision":"{first}","watch_id":"{id}","progress_notify":true,"fragment":true}}}}"#,
            BASE64_STANDARD.encode(&span.from),
            BASE64_STANDARD.encode(&span.end),
        );
    }
    body
}

/// The fields of an answer that concern the whole store.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
pub struct Header {
    /// The id of the cluster. 0: the answer does not have it.
    #[serde(default, deserialize_with = "number")]
    pub cluster_id: u64,
    /// The newest revision of the answering node, also if an older one was read. 0: the answer does not have it.
    #[serde(default, deserialize_with = "number")]
    pub revision: u64,
}

/// The answer to a range request, without its keys.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Page {
    /// The fields that concern the whole store.
    pub header: Header,
    /// More keys follow after the last one of this page.
    pub more: bool,
    /// The last key of this page; `None`: the page is empty.
    pub last: Option<Bytes>,
}

/// A key with its value, as read or as written.
#[derive(Debug, PartialEq, Eq, Deserialize)]
pub struct Entry {
    /// The key as it is in etcd.
    #[serde(deserialize_with = "base64")]
    pub key: Bytes,
    /// Empty for a deleted key.
    #[serde(default, deserialize_with = "base64")]
    pub value: Bytes,
    /// The revision of its last change.
    #[serde(default, deserialize_with = "number")]
    pub mod_revision: u64,
}

/// The number of bytes of an answer besides its keys: a header, and a frame for each key.
const LONGEST_REST: usize = 16 << 20;

/// Reads the answer to a range request as it arrives, and returns each entry at once: the answer is never in memory as
/// a whole.
pub struct PageReader {
    elements: Elements,
    last: Option<Bytes>,
}

impl Default for PageReader {
    fn default() -> PageReader {
        PageReader { elements: Elements::of("kvs", LONGEST_REST), last: None }
    }
}

impl PageReader {
    /// Takes the next piece.
    ///
    /// # Errors
    /// The bytes are not an answer of etcd, or `entries` returned an error.
    pub fn push(
        &mut self,
        piece: &[u8],
        entries: &mut dyn FnMut(Entry) -> Result<(), String>,
    ) -> Result<(), Unreadable> {
        let last = &mut self.last;
        self.elements.push(piece, &mut |element| {
            let entry: Entry = serde_json::from_slice(element)?;
            *last = Some(entry.key.clone());
            entries(entry).map_err(Unreadable::TooMany)
        })
    }

    /// Takes the end of the answer.
    ///
    /// # Errors
    /// The answer is not complete, or not an answer of etcd.
    pub fn end(self) -> Result<Page, Unreadable> {
        #[derive(Deserialize)]
        struct Rest {
            #[serde(default)]
            header: Header,
            #[serde(default)]
            more: bool,
            /// The place of each entry.
            #[serde(default, rename = "kvs")]
            _entries: Vec<Taken>,
        }
        let Rest { header, more, .. } = read_object(&self.elements.rest())?;
        Ok(Page { header, more, last: self.last })
    }
}

/// Reads an object. A list of its fields is an error here, while serde would accept it.
pub fn read_object<'a, T: Deserialize<'a>>(text: &'a [u8]) -> Result<T, Unreadable> {
    let object = serde_json::from_slice(text)?;
    match text.trim_ascii_start().starts_with(b"{") {
        true => Ok(object),
        false => Err(Unreadable::Nonsense("a field is missing or wrong at column 1".to_owned())),
    }
}

/// One line of a watch. Its texts contain no secret.
#[derive(Debug, PartialEq, Eq)]
pub enum Message {
    /// An answer of one watch.
    Watch(WatchAnswer),
    /// The end of the stream.
    Error(Refusal),
}

/// An answer of one watch: it exists, keys changed, or it ended.
#[derive(Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct WatchAnswer {
    /// The fields that concern the whole store.
    pub header: Header,
    /// The number of the watch. -1: the watch was refused.
    #[serde(deserialize_with = "number")]
    pub watch_id: i64,
    /// The watch exists from now on.
    pub created: bool,
    /// The watch has ended, or was refused.
    pub canceled: bool,
    /// Why the watch has ended, in etcd's words. May be empty.
    pub cancel_reason: String,
    /// If not 0, the watch ended because its revision is below this one.
    #[serde(deserialize_with = "number")]
    pub compact_revision: u64,
    /// The next answer continues this one: the last revision may be incomplete.
    pub fragment: bool,
    /// The events in the order of their revisions. Empty: a progress notification, `created` or `canceled`.
    #[serde(deserialize_with = "events")]
    pub events: Vec<Event>,
}

/// The limit of events in one line. etcd sends pieces of about two megabytes, which hold at most a tenth of this.
const MOST_EVENTS: usize = 200_000;

fn events<'de, D: Deserializer<'de>>(json: D) -> Result<Vec<Event>, D::Error> {
    struct Events;

    impl<'de> Visitor<'de> for Events {
        type Value = Vec<Event>;

        fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
            write!(f, "a list of at most {MOST_EVENTS} events")
        }

        fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Vec<Event>, A::Error> {
            let mut events = Vec::new();
            while let Some(event) = items.next_element()? {
                if events.len() == MOST_EVENTS {
                    return Err(de::Error::invalid_length(MOST_EVENTS + 1, &self));
                }
                events.push(event);
            }
            Ok(events)
        }
    }

    json.deserialize_seq(Events)
}

/// One change of one key.
#[derive(Debug, PartialEq, Eq, Deserialize)]
pub struct Event {
    /// The kind of the change.
    #[serde(default, rename = "type")]
    pub kind: EventKind,
    /// The key after the change. A deleted key has no value.
    #[serde(rename = "kv")]
    pub entry: Entry,
}

/// The kind of a change.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum EventKind {
    /// The key has a value, which may be equal to the one before.
    #[default]
    Put,
    /// The key is deleted, or its lease has ended.
    Delete,
}

/// Reads one line of a watch.
pub fn read_message(line: &[u8], secrets: &Redactor) -> Result<Message, Unreadable> {
    #[derive(Deserialize)]
    struct Whole {
        result: Option<WatchAnswer>,
        error: Option<ServerError>,
    }
    match serde_json::from_slice(line)? {
        Whole { error: Some(complaint), .. } => {
            Ok(Message::Error(Refusal { reason: Reason::of_code(complaint.code()), words: complaint.words(secrets) }))
        }
        Whole { result: Some(mut answer), .. } => {
            answer.cancel_reason = secrets.redact(&answer.cancel_reason);
            Ok(Message::Watch(answer))
        }
        _ => Err(Unreadable::Nonsense("neither result nor error".into())),
    }
}

/// The reason of a refused request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The kind of the refusal.
    pub reason: Reason,
    /// The text for messages: one line of at most 200 characters, without secrets.
    pub words: String,
}

/// The kind of a refusal, which decides the next request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// The revision is compacted, or this store has not reached it yet.
    RevisionGone,
    /// The token is missing or has expired. For a login: name or password is wrong.
    Unauthenticated,
    /// The user lacks the permission. etcd 3.5 also sends it for an expired token.
    Denied,
    /// Authentication is disabled in this etcd.
    NoUsers,
    /// The server does not have this API.
    UnknownPath,
    /// Any other reason. Another node may accept the request.
    Other,
}

impl Reason {
    /// The kind of a refusal with a gRPC code.
    fn of_code(code: i64) -> Reason {
        match code {
            // Code 3 is "invalid argument": the user name is missing, or the revision of the users is old. This program
            // sends no other wrong argument.
            3 | 16 => Reason::Unauthenticated,
            7 => Reason::Denied,
            9 => Reason::NoUsers,
            11 => Reason::RevisionGone,
            _ => Reason::Other,
        }
    }

    /// The kind of a cancelled watch, from the reason in its answer, which has no code.
    pub fn of_cancelled(text: &str) -> Reason {
        let text = text.to_ascii_lowercase();
        let has = |words: &[&str]| words.iter().any(|word| text.contains(word));
        if has(&["permission denied", "permissiondenied"]) {
            Reason::Denied
        } else if has(&["token", "auth", "user name"]) {
            Reason::Unauthenticated
        } else {
            Reason::Other
        }
    }
}

/// Reads the answer with a status other than 200, from the beginning of its body. The text contains no secret.
pub fn refusal(status: u16, path: &str, body: &[u8], secrets: &Redactor) -> Refusal {
    /// The beginning of the gateway's plain text for a client whose certificate has a common name, which etcd would
    /// ignore while authentication is enabled.
    const COMMON_NAME: &[u8] = b"CommonName of client";
    #[derive(Deserialize)]
    struct Body {
        error: Option<ServerError>,
        message: Option<String>,
        #[serde(default)]
        code: i64,
    }
    let named = body.starts_with(COMMON_NAME);
    let speaks_tls = scheme::speaks_tls(body);
    let body: Option<Body> = serde_json::from_slice(body).ok();
    let told = body.as_ref().and_then(|body| match (&body.message, &body.error) {
        (Some(message), _) => Some(server_text(&secrets.redact(message))),
        (None, Some(complaint)) => Some(complaint.words(secrets)),
        (None, None) => None,
    });
    let words = match (status, told) {
        (_, Some(told)) => format!("HTTP {status}: {told}"),
        (_, None) if named => {
            format!("HTTP {status}: with users, etcd takes no client certificate that has a common name (CN)")
        }
        (404, None) => format!("HTTP 404: `{path}` is not known here: an etcd before 3.4 needs `version = 2`"),
        (_, None) if speaks_tls => format!("HTTP {status}: {}", scheme::HINT),
        (300..400, None) => format!("HTTP {status}: redirects are not followed"),
        (_, None) => format!("HTTP {status}"),
    };
    let reason = match (status, body) {
        (404, None) => Reason::UnknownPath,
        (_, body) => Reason::of_code(body.map_or(0, |body| body.code)),
    };
    Refusal { reason, words }
}

/// An error of a server: a text, or an object with the text.
#[derive(Deserialize)]
#[serde(untagged)]
enum ServerError {
    Text(String),
    Object {
        #[serde(default)]
        message: String,
        #[serde(default)]
        grpc_code: i64,
    },
}

impl ServerError {
    fn words(&self, secrets: &Redactor) -> String {
        match self {
            ServerError::Text(text) | ServerError::Object { message: text, .. } => server_text(&secrets.redact(text)),
        }
    }

    fn code(&self) -> i64 {
        match self {
            ServerError::Text(_) => 0,
            ServerError::Object { grpc_code, .. } => *grpc_code,
        }
    }
}

/// A text of a server, without the prefix of gRPC.
pub fn server_text(text: &str) -> String {
    let plain = text.strip_prefix("rpc error: code = ").and_then(|text| Some(text.split_once(" desc = ")?.1));
    shown(plain.unwrap_or(text))
}

/// A text from the server, shortened and on one line.
pub fn shown(text: &str) -> String {
    refusal::reason(text, SHOWN)
}

/// Bytes in base64, decoded in place.
fn base64<'de, D: Deserializer<'de>>(json: D) -> Result<Bytes, D::Error> {
    struct Base64;

    impl Visitor<'_> for Base64 {
        type Value = Bytes;

        fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
            f.write_str("base64")
        }

        fn visit_str<E: de::Error>(self, text: &str) -> Result<Bytes, E> {
            let padding = text.bytes().rev().take_while(|b| *b == b'=').count();
            let length = (text.len() / 4 * 3).saturating_sub(padding);
            let mut bytes: Bytes = std::iter::repeat_n(0, length).collect();
            let place = Rc::get_mut(&mut bytes).expect("it has one owner");
            match BASE64_STANDARD.decode_slice(text, place) {
                Ok(written) if written == length => Ok(bytes),
                _ => Err(E::invalid_value(Unexpected::Other("text"), &self)),
            }
        }
    }

    json.deserialize_str(Base64)
}

/// An integer: etcd sends a string, and a number is accepted too.
fn number<'de, D, N>(json: D) -> Result<N, D::Error>
where
    D: Deserializer<'de>,
    N: FromStr + TryFrom<i64> + TryFrom<u64>,
{
    struct Integer<N>(PhantomData<N>);

    impl<N: FromStr + TryFrom<i64> + TryFrom<u64>> Visitor<'_> for Integer<N> {
        type Value = N;

        fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
            f.write_str("an integer in range")
        }

        fn visit_str<E: de::Error>(self, text: &str) -> Result<N, E> {
            text.parse().map_err(|_| E::invalid_value(Unexpected::Str(text), &self))
        }

        fn visit_u64<E: de::Error>(self, number: u64) -> Result<N, E> {
            number.try_into().map_err(|_| E::invalid_value(Unexpected::Unsigned(number), &self))
        }

        fn visit_i64<E: de::Error>(self, number: i64) -> Result<N, E> {
            number.try_into().map_err(|_| E::invalid_value(Unexpected::Signed(number), &self))
        }
    }

    json.deserialize_any(Integer(PhantomData))
}

#[cfg(test)]
mod tests;
