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

/// The body of a watch request: one create_request after the other for each range and first revision, with watch_id 1,
/// 2, ... (answers omit a 0). Large answers come in fragments.
pub fn watch<'a>(watches: impl Iterator<Item = (&'a Span, u64)>) -> String {
    let mut body = String::new();
    for ((span, first), id) in watches.zip(1..) {
        body += &format!(
            r#"{{"create_request":{{"key":"{}","range_end":"{}","start_revision":"{first}","watch_id":"{id}","progress_notify":true,"fragment":true}}}}"#,
            BASE64_STANDARD.encode(&span.from),
            BASE64_STANDARD.encode(&span.end),
        );
    }
    body
}

/// What an answer says of the whole store.
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
    /// What the answer says of the whole store.
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
const BESIDE_KEYS: usize = 16 << 20;

/// Reads the answer to a range request as it arrives, and returns each entry at once: the answer is never in memory as
/// a whole.
pub struct PageReader {
    elements: Elements,
    last: Option<Bytes>,
}

impl Default for PageReader {
    fn default() -> PageReader {
        PageReader { elements: Elements::of("kvs", BESIDE_KEYS), last: None }
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
    /// What the answer says of the whole store.
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
        error: Option<Complaint>,
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
        error: Option<Complaint>,
        message: Option<String>,
        #[serde(default)]
        code: i64,
    }
    let named = body.starts_with(COMMON_NAME);
    let speaks_tls = scheme::speaks_tls(body);
    let body: Option<Body> = serde_json::from_slice(body).ok();
    let told = body.as_ref().and_then(|body| match (&body.message, &body.error) {
        (Some(message), _) => Some(said(&secrets.redact(message))),
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

/// A server's message: a text, or an object with the text.
#[derive(Deserialize)]
#[serde(untagged)]
enum Complaint {
    Text(String),
    Object {
        #[serde(default)]
        message: String,
        #[serde(default)]
        grpc_code: i64,
    },
}

impl Complaint {
    fn words(&self, secrets: &Redactor) -> String {
        match self {
            Complaint::Text(text) | Complaint::Object { message: text, .. } => said(&secrets.redact(text)),
        }
    }

    fn code(&self) -> i64 {
        match self {
            Complaint::Text(_) => 0,
            Complaint::Object { grpc_code, .. } => *grpc_code,
        }
    }
}

/// A server's reason without the prefix of gRPC.
pub fn said(text: &str) -> String {
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
mod tests {
    use super::*;

    const FIELD: &str = "a field is missing or wrong at column ";

    fn bytes(text: &[u8]) -> Bytes {
        Rc::from(text)
    }

    fn entry(key: &[u8], value: &[u8], mod_revision: u64) -> Entry {
        Entry { key: bytes(key), value: bytes(value), mod_revision }
    }

    #[test]
    fn prefixes_as_spans() {
        let check = |prefix: &[u8], from: &[u8], end: &[u8]| {
            assert_eq!(Span::of_prefix(prefix), Span { from: from.to_vec(), end: end.to_vec() });
        };
        check(b"/app", b"/app", b"/apq");
        check(b"/", b"/", b"0");
        check(b"", b"\0", b"\0");
        check(b"a\xff", b"a\xff", b"b");
        check(b"a\xfe\xff\xff", b"a\xfe\xff\xff", b"a\xff");
        check(b"\xff\xff", b"\xff\xff", b"\0");
        check(b"\0", b"\0", b"\x01");
    }

    #[test]
    fn a_span_holds_what_begins_with_its_prefix_and_nothing_else() {
        let texts: &[&[u8]] = &[
            b"",
            b"\0",
            b"/",
            b"/a",
            b"/a\xff",
            b"/a\xffb",
            b"/b",
            b"0",
            b"a",
            b"\xfe",
            b"\xff",
            b"\xff\0",
            b"\xff\xff",
        ];
        for prefix in texts {
            for key in texts.iter().filter(|key| !key.is_empty()) {
                assert_eq!(Span::of_prefix(prefix).holds(key), key.starts_with(prefix), "{prefix:?} {key:?}");
            }
        }
        let rest = Span::of_prefix(b"/a").after(b"/a/x");
        assert!(!rest.holds(b"/a/x") && rest.holds(b"/a/x\0") && rest.holds(b"/a/y") && !rest.holds(b"/b"));
    }

    #[test]
    fn request_bodies() {
        let span = Span::of_prefix(b"/a");
        assert_eq!(range(&span, 10, None), r#"{"key":"L2E=","range_end":"L2I=","limit":"10","revision":"0"}"#);
        assert_eq!(range(&span, 10, Some(7)), r#"{"key":"L2E=","range_end":"L2I=","limit":"10","revision":"7"}"#);
        assert_eq!(newest_revision(&span), r#"{"key":"L2E=","range_end":"","limit":"1","keys_only":true}"#);
        assert_eq!(permission(&span), r#"{"key":"L2E=","range_end":"L2I=","limit":"1","keys_only":true}"#);
        let all = Span::of_prefix(b"");
        assert_eq!(
            watch([(&span, 8), (&all, 9)].into_iter()),
            concat!(
                r#"{"create_request":{"key":"L2E=","range_end":"L2I=","start_revision":"8","watch_id":"1","progress_notify":true,"fragment":true}}"#,
                r#"{"create_request":{"key":"AA==","range_end":"AA==","start_revision":"9","watch_id":"2","progress_notify":true,"fragment":true}}"#,
            )
        );
    }

    /// Reads a page as a whole and in pieces of every small size.
    fn page(text: &str) -> Result<(Page, Vec<Entry>), String> {
        let read = |size| {
            let (mut reader, mut entries) = (PageReader::default(), Vec::new());
            let mut take = |entry| {
                entries.push(entry);
                Ok(())
            };
            let pushed = text.as_bytes().chunks(size).try_for_each(|piece| reader.push(piece, &mut take));
            pushed.and_then(|()| reader.end()).map(|page| (page, entries)).map_err(|e| e.of("etcd"))
        };
        let whole = read(usize::MAX);
        for size in 1..5 {
            assert_eq!(read(size), whole, "in pieces of {size}");
        }
        whole
    }

    #[test]
    fn pages() {
        let check = |text: &str, want: Page, entries: &[Entry]| {
            let (got, got_entries) = page(text).unwrap();
            assert_eq!(got, want, "{text}");
            assert_eq!(got_entries, entries, "{text}");
        };
        let header = Header { cluster_id: 14841639068965178418, revision: 12 };
        let start =
            r#"{"header":{"cluster_id":"14841639068965178418","member_id":"1","revision":"12","raft_term":"2"}"#;
        check(&format!("{start}}}"), Page { header, ..Page::default() }, &[]);
        check(
            &format!(
                r#"{start},"kvs":[{{"key":"L2EveA==","create_revision":"2","mod_revision":"3","version":"1","value":"MQ=="}},
                {{"key":"L2EveQ==","mod_revision":"4","lease":"7"}}],"more":true,"count":"9"}}"#
            ),
            Page { header, more: true, last: Some(bytes(b"/a/y")) },
            &[entry(b"/a/x", b"1", 3), entry(b"/a/y", b"", 4)],
        );
        // in another order, with numbers that are numbers, and things that later versions may add
        check(
            r#" {"more":false, "new":{"a":[1,{"b":null}]}, "kvs":[{"value":"/w==", "mod_revision":5, "key":"AP8=", "x":1}],
            "header":{"revision":6}} "#,
            Page { header: Header { cluster_id: 0, revision: 6 }, more: false, last: Some(bytes(b"\0\xff")) },
            &[entry(b"\0\xff", b"\xff", 5)],
        );
        check("{}", Page::default(), &[]);
        check(r#"{"kvs":[]}"#, Page::default(), &[]);
    }

    #[test]
    fn what_is_no_page_is_an_error() {
        let check = |text: &str, want: &str| {
            let error = page(text).unwrap_err();
            assert!(error.starts_with(&format!("not an answer of etcd: {want}")), "{text}: {error}");
        };
        check("", "EOF while parsing a value at line 1 column 0");
        check("<html>", "no JSON from byte 1 on");
        check(r#"{"kvs":[{"key":"L2E"#, FIELD);
        check(r#"{"kvs":[{"key":"L2E="}"#, "EOF while parsing a list at line 1 column 9");
        check(r#"{} {}"#, "no JSON from byte 4 on");
        check("[]", FIELD);
        check(r#"{"kvs":[{}]}"#, FIELD);
        check(r#"{"kvs":[{"key":"L2E"}]}"#, FIELD);
        check(r#"{"kvs":[{"key":"L2E=","mod_revision":"-1"}]}"#, FIELD);
        check(r#"{"header":{"revision":-1}}"#, FIELD);
        check(r#"{"header":{"revision":"99999999999999999999"}}"#, FIELD);
        check(r#"{"more":"yes"}"#, FIELD);
    }

    #[test]
    fn base64_decodes_exactly() {
        let decode = |text: &str| base64(serde_json::Value::from(text)).ok();
        for length in 0..70 {
            let data: Vec<u8> = (0..length).map(|n| (n * 37 % 256) as u8).collect();
            assert_eq!(decode(&BASE64_STANDARD.encode(&data)).as_deref(), Some(&data[..]));
        }
        for wrong in
            ["=", "==", "====", "A", "AA", "AAA", "AA=", "A===", "AAAA=", "AA==AA==", "ÄÄ==", "AA__", "AAA\n", "AB=="]
        {
            assert_eq!(decode(wrong), None, "{wrong:?}");
        }
    }

    #[test]
    fn messages() {
        let check = |line: &str, want: Message| {
            assert_eq!(read_message(line.as_bytes(), &Redactor::default()).unwrap(), want, "{line}")
        };
        let error = |reason, words: &str| Message::Error(Refusal { reason, words: words.into() });
        let header = Header { cluster_id: 9, revision: 5 };
        let start = r#"{"result":{"header":{"cluster_id":"9","member_id":"3","revision":"5","raft_term":"2"}"#;
        check(
            &format!(r#"{start},"watch_id":"1","created":true}}}}"#),
            Message::Watch(WatchAnswer { header, watch_id: 1, created: true, ..WatchAnswer::default() }),
        );
        check(
            &format!(
                r#"{start},"watch_id":"-1","created":true,"canceled":true,"cancel_reason":"permission denied"}}}}"#
            ),
            Message::Watch(WatchAnswer {
                header,
                watch_id: -1,
                created: true,
                canceled: true,
                cancel_reason: "permission denied".into(),
                ..WatchAnswer::default()
            }),
        );
        check(
            r#"{"result":{"header":{"cluster_id":"9"},"watch_id":"7","canceled":true,"compact_revision":"3081"}}"#,
            Message::Watch(WatchAnswer {
                header: Header { cluster_id: 9, revision: 0 },
                watch_id: 7,
                canceled: true,
                compact_revision: 3081,
                ..WatchAnswer::default()
            }),
        );
        check(
            &format!(
                r#"{start},"watch_id":"2","events":[{{"kv":{{"key":"L2E=","create_revision":"5","mod_revision":"5","version":"1","value":"MQ=="}}}},
                {{"type":"DELETE","kv":{{"key":"L2I=","mod_revision":"6"}}}},{{"type":"PUT","kv":{{"key":"L2M="}},"prev_kv":null}}]}}}}"#
            ),
            Message::Watch(WatchAnswer {
                header,
                watch_id: 2,
                events: vec![
                    Event { kind: EventKind::Put, entry: entry(b"/a", b"1", 5) },
                    Event { kind: EventKind::Delete, entry: entry(b"/b", b"", 6) },
                    Event { kind: EventKind::Put, entry: entry(b"/c", b"", 0) },
                ],
                ..WatchAnswer::default()
            }),
        );
        check(
            r#"{"error":{"grpc_code":14,"http_code":503,"message":"etcdserver: no leader","http_status":"Service Unavailable"}}"#,
            error(Reason::Other, "etcdserver: no leader"),
        );
        check(
            r#"{"error":{"grpc_code":16,"http_code":401,"message":"etcdserver: invalid auth token"}}"#,
            error(Reason::Unauthenticated, "etcdserver: invalid auth token"),
        );
        check(r#"{"error":"gone"}"#, error(Reason::Other, "gone"));
        check(r#"{"error":{}}"#, error(Reason::Other, "no reason given"));
        check(r#"{"result":{}}"#, Message::Watch(WatchAnswer::default()));
    }

    #[test]
    fn what_is_no_message_is_an_error() {
        let check = |line: &[u8], want: &str| {
            let error = read_message(line, &Redactor::default()).unwrap_err().of("etcd");
            assert!(error.starts_with(&format!("not an answer of etcd: {want}")), "{}: {error}", line.escape_ascii());
        };
        check(b"", "EOF while parsing a value at line 1 column 0");
        check(b"{}", "neither result nor error");
        check(b"\xff", "expected value at line 1 column 1");
        check(b"{\"error\":\"\xff\"}", "invalid unicode code point at line 1 column 11");
        check(br#"{"result":{"watch_id":"x"}}"#, FIELD);
        check(br#"{"result":{"events":[{"type":"PUT"}]}}"#, FIELD);
        check(br#"{"result":{"events":[{"type":"DROP","kv":{"key":"AA=="}}]}}"#, FIELD);
        check(br#"{"result":{"events":[{"kv":{"key":"secret"}}]}}"#, FIELD);
    }

    fn page_of(text: &[u8]) -> Result<Page, Unreadable> {
        let mut reader = PageReader::default();
        reader.push(text, &mut |_| Ok(()))?;
        reader.end()
    }

    #[test]
    fn nothing_a_server_can_send_makes_it_panic() {
        let lines: [&[u8]; 3] = [
            br#"{"result":{"header":{"cluster_id":"9","revision":"5"},"watch_id":"-1","created":true,"events":[{"type":"PUT","kv":{"key":"L2E=","mod_revision":"5","value":"MQ=="}}]}}"#,
            br#"{"header":{"cluster_id":"9","revision":"5"},"kvs":[{"key":"L2E=","mod_revision":"5","value":"MQ=="}],"more":true}"#,
            br#"{"error":{"grpc_code":14,"message":"etcdserver: no leader"},"code":11}"#,
        ];
        let mut seed: u64 = 1;
        let mut below = |bound: usize| {
            seed = seed.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            (seed >> 33) as usize % bound
        };
        let mut understood = 0;
        for _ in 0..30_000 {
            let mut line = lines[below(3)].to_vec();
            for _ in 0..=below(3) {
                let at = below(line.len());
                match below(3) {
                    0 => line[at] = br#"{}[]",:-0e\=x"#[below(13)],
                    1 if line.len() > 1 => drop(line.remove(at)),
                    _ => line.truncate(at.max(1)),
                }
            }
            let read = read_message(&line, &Redactor::default()).is_ok() | page_of(&line).is_ok();
            refusal(400, RANGE, &line, &Redactor::default());
            understood += usize::from(read);
        }
        assert!((100..29_000).contains(&understood), "{understood}");
        for field in ["new", "error", "result", "kvs", "header"] {
            let deep = format!(r#"{{"{field}":{}"#, "[".repeat(100_000));
            assert!(page_of(deep.as_bytes()).is_err(), "{field}");
            assert!(read_message(deep.as_bytes(), &Redactor::default()).is_err(), "{field}");
            refusal(400, RANGE, deep.as_bytes(), &Redactor::default());
        }
    }

    #[test]
    fn refusals() {
        let check = |status, body: &str, reason, words: &str| {
            let want = Refusal { reason, words: words.into() };
            assert_eq!(refusal(status, RANGE, body.as_bytes(), &Redactor::default()), want, "{body}");
        };
        check(
            400,
            r#"{"error":"etcdserver: mvcc: required revision has been compacted","message":"etcdserver: mvcc: required revision has been compacted","code":11}"#,
            Reason::RevisionGone,
            "HTTP 400: etcdserver: mvcc: required revision has been compacted",
        );
        let plain = "Client sent an HTTP request to an HTTPS server.\n";
        let hint = "HTTP 400: the server speaks TLS: write https:// instead of http://";
        check(400, plain, Reason::Other, hint);
        check(503, r#"{"error":"etcdserver: no leader","code":14}"#, Reason::Other, "HTTP 503: etcdserver: no leader");
        check(
            403,
            r#"{"error":"etcdserver: permission denied","message":"etcdserver: permission denied","code":7}"#,
            Reason::Denied,
            "HTTP 403: etcdserver: permission denied",
        );
        check(
            404,
            "404 page not found\n",
            Reason::UnknownPath,
            "HTTP 404: `/v3/kv/range` is not known here: an etcd before 3.4 needs `version = 2`",
        );
        check(404, r#"{"message":"Not Found","code":5}"#, Reason::Other, "HTTP 404: Not Found");
        check(
            401,
            r#"{"message":"etcdserver: invalid auth token","code":16}"#,
            Reason::Unauthenticated,
            "HTTP 401: etcdserver: invalid auth token",
        );
        check(
            400,
            r#"{"message":"etcdserver: user name is empty","code":3}"#,
            Reason::Unauthenticated,
            "HTTP 400: etcdserver: user name is empty",
        );
        check(
            412,
            r#"{"message":"etcdserver: authentication is not enabled","code":9}"#,
            Reason::NoUsers,
            "HTTP 412: etcdserver: authentication is not enabled",
        );
        check(
            400,
            "CommonName of client sending a request against gateway will be ignored and not used as expected\n",
            Reason::Other,
            "HTTP 400: with users, etcd takes no client certificate that has a common name (CN)",
        );
        check(307, "", Reason::Other, "HTTP 307: redirects are not followed");
        check(500, "<html>secret</html>", Reason::Other, "HTTP 500");
        check(400, r#"{"message":"two\nlines\u0007"}"#, Reason::Other, "HTTP 400: two lines ");
        check(
            400,
            &format!(r#"{{"message":"{}"}}"#, "ä".repeat(500)),
            Reason::Other,
            &format!("HTTP 400: {}", "ä".repeat(200)),
        );
    }

    /// A gateway may quote what it was sent, in whatever form.
    #[test]
    fn what_a_server_quotes_shows_no_secret() {
        let mut secrets = Redactor::default();
        secrets.hide("password", "p\"ss\\word");
        secrets.hide("token", "k3y.27");
        let quoted = serde_json::Value::from(login("me", "p\"ss\\word")).to_string();
        let body = |text: &str| format!(r#"{{"message":{text}}}"#);
        let words = |text: &str| refusal(400, RANGE, body(text).as_bytes(), &secrets).words;
        assert_eq!(words(&quoted), r#"HTTP 400: {"name":"me","password":"<password>"}"#);
        let padded = |length: usize| format!("\"{} k3y.27\"", "x".repeat(length));
        for length in SHOWN - 8..SHOWN {
            assert!(!words(&padded(length)).contains("k3y"), "{length}");
        }
        let message = read_message(br#"{"error":{"message":"Authorization: k3y.27"}}"#, &secrets).unwrap();
        assert!(
            matches!(&message, Message::Error(refusal) if refusal.words == "Authorization: <token>"),
            "{message:?}"
        );
        let line = br#"{"result":{"canceled":true,"cancel_reason":"bad k3y.27"}}"#;
        let message = read_message(line, &secrets).unwrap();
        assert!(matches!(&message, Message::Watch(answer) if answer.cancel_reason == "bad <token>"), "{message:?}");
    }

    #[test]
    fn a_reader_that_takes_no_more_says_why() {
        let mut room = 2;
        let text = r#"{"kvs":[{"key":"YQ=="},{"key":"Yg=="},{"key":"Yw=="},"#;
        let error = PageReader::default().push(text.as_bytes(), &mut |_| {
            room -= 1;
            if room < 0 { Err("more than 2 keys".into()) } else { Ok(()) }
        });
        assert!(matches!(&error, Err(Unreadable::TooMany(words)) if words == "more than 2 keys"), "{error:?}");
    }

    #[test]
    fn the_events_of_a_line_have_an_end() {
        let event = r#"{"kv":{"key":"YQ=="}}"#;
        let line =
            |count: usize| format!(r#"{{"result":{{"events":[{}{event}]}}}}"#, format!("{event},").repeat(count));
        assert!(read_message(line(MOST_EVENTS - 1).as_bytes(), &Redactor::default()).is_ok());
        let error = read_message(line(MOST_EVENTS).as_bytes(), &Redactor::default()).unwrap_err();
        assert!(error.of("etcd").starts_with("not an answer of etcd"), "{error:?}");
    }

    #[test]
    fn cancelled_watches() {
        let check = |text: &str, reason, words: &str| {
            assert_eq!((Reason::of_cancelled(text), &*said(text)), (reason, words), "{text}");
        };
        check(
            "rpc error: code = PermissionDenied desc = etcdserver: permission denied",
            Reason::Denied,
            "etcdserver: permission denied",
        );
        check("etcdserver: permission denied", Reason::Denied, "etcdserver: permission denied");
        check(
            "rpc error: code = Unauthenticated desc = etcdserver: invalid auth token",
            Reason::Unauthenticated,
            "etcdserver: invalid auth token",
        );
        check(
            "rpc error: code = InvalidArgument desc = etcdserver: user name is empty",
            Reason::Unauthenticated,
            "etcdserver: user name is empty",
        );
        check("", Reason::Other, "no reason given");
        check("mvcc: watcher duplicate ID", Reason::Other, "mvcc: watcher duplicate ID");
    }

    #[test]
    fn logins() {
        assert_eq!(login("me", "a\"b\\"), r#"{"name":"me","password":"a\"b\\"}"#);
        let token = |answer: &str| read_token(answer.as_bytes()).map_err(|error| error.of("etcd"));
        assert_eq!(token(r#"{"header":{},"token":"abc.27"}"#).as_deref(), Ok("abc.27"));
        for wrong in ["{}", "", r#"{"token":""}"#, r#"{"token":"a b"}"#, r#"{"token":"a\r\nX: y"}"#, r#"{"token":1}"#] {
            assert!(token(wrong).unwrap_err().starts_with("not an answer of etcd: "), "{wrong}");
        }
    }
}
