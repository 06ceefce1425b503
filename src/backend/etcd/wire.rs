//! What etcd's version 3 JSON gateway is asked and what it answers: values to bytes and back. Opens no connection and
//! decides nothing. On this wire integers are strings, keys and values are base64, and fields with a default are
//! left out; fields that are unknown here are ignored.
//!
//! Sources: etcd's rpc.proto and kv.proto (names are those of the JSON), and what etcd 3.4 and 3.5 were seen to send.

use std::fmt;
use std::io::{self, BufReader, Read};
use std::marker::PhantomData;
use std::rc::Rc;
use std::str::FromStr;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Unexpected, Visitor};
use serde::{Deserialize, de};

use crate::store::Bytes;

pub const RANGE: &str = "/v3/kv/range";
pub const WATCH: &str = "/v3/watch";

/// What goes with every request. A member that has lost its leader then ends a watch after some seconds; without
/// this it stays silent.
pub const HEADERS: &[(&str, &str)] = &[
    ("Content-Type", "application/json"),
    ("Grpc-Metadata-hasleader", "true"),
];

/// The longest part of a server's message that is shown.
const SHOWN: usize = 200;

/// The keys from the first one up to, not including, the second one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Span {
    pub from: Vec<u8>,
    /// A single zero byte means: to the last key there is.
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
        // An empty key is refused; no key is smaller than one zero byte.
        let from = if prefix.is_empty() { vec![0] } else { prefix.to_vec() };
        Span { from, end }
    }

    pub fn holds(&self, key: &[u8]) -> bool {
        self.from[..] <= *key && (self.end == [0] || *key < self.end[..])
    }

    /// What is left of it after a key.
    pub fn after(&self, key: &[u8]) -> Span {
        Span {
            from: [key, &[0]].concat(),
            end: self.end.clone(),
        }
    }
}

/// The body of a range request: one page, in key order, as of a revision (the newest one where there is none).
pub fn range(span: &Span, limit: usize, revision: Option<u64>) -> String {
    format!(
        r#"{{"key":"{}","range_end":"{}","limit":"{limit}","revision":"{}"}}"#,
        BASE64_STANDARD.encode(&span.from),
        BASE64_STANDARD.encode(&span.end),
        revision.unwrap_or(0)
    )
}

/// The body of a range request that asks only for the header: the newest revision, agreed on by the cluster.
pub fn newest_revision() -> String {
    range(
        &Span {
            from: vec![0],
            end: vec![],
        },
        1,
        None,
    )
}

/// The body of a watch request: one create_request after the other for the spans and first revisions, with watch_id 1,
/// 2, ... (0 is left out in answers).
pub fn watch<'a>(watches: impl Iterator<Item = (&'a Span, u64)>) -> String {
    let mut body = String::new();
    for ((span, first), id) in watches.zip(1..) {
        body += &format!(
            r#"{{"create_request":{{"key":"{}","range_end":"{}","start_revision":"{first}","watch_id":"{id}","progress_notify":true}}}}"#,
            BASE64_STANDARD.encode(&span.from),
            BASE64_STANDARD.encode(&span.end),
        );
    }
    body
}

/// What an answer says of the whole store.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
pub struct Header {
    #[serde(default, deserialize_with = "number")]
    pub cluster_id: u64,
    /// The newest revision of the node that answers, whatever revision was read. 0: not said.
    #[serde(default, deserialize_with = "number")]
    pub revision: u64,
}

/// The answer to a range request, less its keys.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Page {
    pub header: Header,
    /// There are keys after the last one of this page.
    pub more: bool,
    pub last: Option<Bytes>,
}

/// A key with its value, as read or as written.
#[derive(Debug, PartialEq, Eq, Deserialize)]
pub struct Entry {
    #[serde(deserialize_with = "base64")]
    pub key: Bytes,
    #[serde(default, deserialize_with = "base64")]
    pub value: Bytes,
    #[serde(default, deserialize_with = "number")]
    pub mod_revision: u64,
}

/// Reads the answer to a range request to its end, giving each entry away as soon as it is there: the answer is never
/// in memory as a whole.
pub fn read_page(answer: impl Read, entries: &mut dyn FnMut(Entry)) -> Result<Page, Unreadable> {
    let mut json = serde_json::Deserializer::from_reader(BufReader::with_capacity(16 * 1024, answer));
    let page = PageSeed { entries }.deserialize(&mut json)?;
    json.end()?;
    Ok(page)
}

/// One line of a watch.
#[derive(Debug, PartialEq, Eq)]
pub enum Message {
    Watch(WatchAnswer),
    /// The end of the stream, in the server's words.
    Error(String),
}

#[derive(Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct WatchAnswer {
    pub header: Header,
    /// -1: the watch was refused.
    #[serde(deserialize_with = "number")]
    pub watch_id: i64,
    pub created: bool,
    pub canceled: bool,
    pub cancel_reason: String,
    /// Not 0: the watch ended because its revision is below this one.
    #[serde(deserialize_with = "number")]
    pub compact_revision: u64,
    pub events: Vec<Event>,
}

/// One change of one key.
#[derive(Debug, PartialEq, Eq, Deserialize)]
pub struct Event {
    #[serde(default, rename = "type")]
    pub kind: EventKind,
    #[serde(rename = "kv")]
    pub entry: Entry,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum EventKind {
    #[default]
    Put,
    Delete,
}

/// Reads one line of a watch.
pub fn read_message(line: &[u8]) -> Result<Message, Unreadable> {
    #[derive(Deserialize)]
    struct Whole {
        result: Option<WatchAnswer>,
        error: Option<Complaint>,
    }
    match serde_json::from_slice(line)? {
        Whole {
            error: Some(complaint), ..
        } => Ok(Message::Error(complaint.words())),
        Whole {
            result: Some(answer), ..
        } => Ok(Message::Watch(answer)),
        _ => Err(Unreadable::Nonsense("neither result nor error".into())),
    }
}

/// Why a request was not done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The revision is not to be had: it is compacted, or this store has not come to it.
    pub revision_gone: bool,
    pub words: String,
}

/// What an answer with a status other than 200 says, from the beginning of its body.
pub fn refusal(status: u16, path: &str, body: &[u8]) -> Refusal {
    /// gRPC's OUT_OF_RANGE
    const OUT_OF_RANGE: i64 = 11;

    #[derive(Deserialize)]
    struct Body {
        error: Option<Complaint>,
        message: Option<String>,
        #[serde(default)]
        code: i64,
    }
    let body: Option<Body> = serde_json::from_slice(body).ok();
    let said = body.as_ref().and_then(|body| match (&body.message, &body.error) {
        (Some(message), _) => Some(shown(message)),
        (None, Some(complaint)) => Some(complaint.words()),
        (None, None) => None,
    });
    let words = match (status, said) {
        (_, Some(said)) => format!("HTTP {status}: {said}"),
        (404, None) => format!("HTTP 404: `{path}` is not known here: an etcd before 3.4 needs `version = 2`"),
        (300..400, None) => format!("HTTP {status}: redirects are not followed"),
        (_, None) => format!("HTTP {status}"),
    };
    Refusal {
        revision_gone: body.is_some_and(|body| body.code == OUT_OF_RANGE),
        words,
    }
}

/// An answer that could not be read to its end.
#[derive(Debug)]
pub enum Unreadable {
    /// It did not come; the error is the reader's.
    Cut(io::Error),
    /// It is not what etcd sends.
    Nonsense(String),
}

impl fmt::Display for Unreadable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Unreadable::Cut(error) => error.fmt(f),
            Unreadable::Nonsense(words) => write!(f, "not an answer of etcd: {words}"),
        }
    }
}

impl std::error::Error for Unreadable {}

impl From<serde_json::Error> for Unreadable {
    fn from(error: serde_json::Error) -> Unreadable {
        match error.classify() {
            serde_json::error::Category::Io => Unreadable::Cut(error.into()),
            // serde_json shows the unexpected value, which may be a key's.
            serde_json::error::Category::Data => {
                Unreadable::Nonsense(format!("a field is missing or wrong at column {}", error.column()))
            }
            serde_json::error::Category::Syntax | serde_json::error::Category::Eof => {
                Unreadable::Nonsense(error.to_string())
            }
        }
    }
}

/// A server's message: a text alone, or an object that holds it.
#[derive(Deserialize)]
#[serde(untagged)]
enum Complaint {
    Text(String),
    Object {
        #[serde(default)]
        message: String,
    },
}

impl Complaint {
    fn words(&self) -> String {
        match self {
            Complaint::Text(text) | Complaint::Object { message: text } => shown(text),
        }
    }
}

/// A text of the server's, short and on one line.
pub fn shown(text: &str) -> String {
    let mut line: String = text
        .trim()
        .chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .take(SHOWN)
        .collect();
    if line.is_empty() {
        line.push_str("no reason given");
    }
    line
}

/// Gives away the entries of `kvs` and collects the rest.
struct PageSeed<'a> {
    entries: &'a mut dyn FnMut(Entry),
}

impl<'de> DeserializeSeed<'de> for PageSeed<'_> {
    type Value = Page;

    fn deserialize<D: Deserializer<'de>>(self, json: D) -> Result<Page, D::Error> {
        json.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for PageSeed<'_> {
    type Value = Page;

    fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str("the answer to a range request")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut fields: A) -> Result<Page, A::Error> {
        #[derive(Deserialize)]
        #[serde(rename_all = "snake_case")]
        enum Field {
            Header,
            Kvs,
            More,
            #[serde(other)]
            Other,
        }
        let mut page = Page::default();
        while let Some(field) = fields.next_key()? {
            match field {
                Field::Header => page.header = fields.next_value()?,
                Field::Kvs => {
                    page.last = fields.next_value_seed(EntriesSeed {
                        entries: &mut *self.entries,
                    })?
                }
                Field::More => page.more = fields.next_value()?,
                Field::Other => drop(fields.next_value::<IgnoredAny>()?),
            }
        }
        Ok(page)
    }
}

/// Gives away a list of entries and returns the last key.
struct EntriesSeed<'a> {
    entries: &'a mut dyn FnMut(Entry),
}

impl<'de> DeserializeSeed<'de> for EntriesSeed<'_> {
    type Value = Option<Bytes>;

    fn deserialize<D: Deserializer<'de>>(self, json: D) -> Result<Option<Bytes>, D::Error> {
        json.deserialize_seq(self)
    }
}

impl<'de> Visitor<'de> for EntriesSeed<'_> {
    type Value = Option<Bytes>;

    fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str("a list of keys and values")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Option<Bytes>, A::Error> {
        let mut last = None;
        while let Some(entry) = items.next_element::<Entry>()? {
            last = Some(entry.key.clone());
            (self.entries)(entry);
        }
        Ok(last)
    }
}

/// Bytes in base64, decoded to where they stay.
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
            let place = Rc::get_mut(&mut bytes).expect("nobody else has it yet");
            match BASE64_STANDARD.decode_slice(text, place) {
                Ok(written) if written == length => Ok(bytes),
                _ => Err(E::invalid_value(Unexpected::Other("text"), &self)),
            }
        }
    }

    json.deserialize_str(Base64)
}

/// An integer: a string on this wire, but a number is as good.
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
            number
                .try_into()
                .map_err(|_| E::invalid_value(Unexpected::Unsigned(number), &self))
        }

        fn visit_i64<E: de::Error>(self, number: i64) -> Result<N, E> {
            number
                .try_into()
                .map_err(|_| E::invalid_value(Unexpected::Signed(number), &self))
        }
    }

    json.deserialize_any(Integer(PhantomData))
}
