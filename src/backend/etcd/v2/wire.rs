//! The requests and answers of etcd's version 2 API: converts values to bytes and back. Opens no connection and decides
//! nothing. Keys are paths, in URLs as in answers; values are JSON text, so etcd has already replaced bytes that are
//! not UTF-8. Unknown fields of an answer are ignored.
//!
//! Sources: etcd's documentation of the v2 API, and answers that were captured from etcd 3.4 with --enable-v2.

use std::fmt;
use std::rc::Rc;

use serde::Deserialize;
use serde::de::{self, Deserializer, IntoDeserializer, Visitor};

use crate::backend::etcd::elements::{Elements, Taken};
use crate::backend::etcd::wire::{read_object, server_text};
use crate::backend::redact::Redactor;
use crate::backend::unreadable::Unreadable;
use crate::percent;
use crate::scheme;
use crate::store::Bytes;

/// The path of the keys.
pub const KEYS: &str = "/v2/keys";

/// The header with the id of the cluster, in hexadecimal, that every answer about keys has.
pub const CLUSTER: &str = "X-Etcd-Cluster-Id";
/// The header with the index of the newest change, in decimal, that every answer about keys has.
pub const INDEX: &str = "X-Etcd-Index";

/// The key of a probe: it does not exist, and its underscore hides it from reads and watches of the directories above.
const PROBE_KEY: &[u8] = b"_remco";

/// The path and query that read a key and all keys below it, with a quorum.
pub fn read(key: &[u8]) -> String {
    format!("{}?recursive=true&quorum=true", path(key))
}

/// The path and query that wait for the first change from an index on.
pub fn wait(key: &[u8], from: u64) -> String {
    format!("{}?recursive=true&wait=true&waitIndex={from}", path(key))
}

/// The path and query that return only the newest index, with a quorum. A user who may read all keys below `key` may
/// send it.
pub fn probe(key: &[u8]) -> String {
    let separator: &[u8] = if key.ends_with(b"/") { b"" } else { b"/" };
    format!("{}?quorum=true", path(&[key, separator, PROBE_KEY].concat()))
}

/// The path and query that show whether a key exists.
pub fn look(key: &[u8]) -> String {
    format!("{}?quorum=true", path(key))
}

fn path(key: &[u8]) -> String {
    let mut path = KEYS.to_owned();
    percent::push_path(key, &mut path);
    path
}

/// The fields in the head of an answer that concern the whole store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head {
    /// The id of the cluster.
    pub cluster: u64,
    /// The index of the newest change when etcd took the request.
    pub index: u64,
}

impl Head {
    /// Reads the values of [`CLUSTER`] and [`INDEX`]. `None`: the answer is not one about keys.
    pub fn new(cluster: Option<&str>, index: Option<&str>) -> Option<Head> {
        Some(Head { cluster: u64::from_str_radix(cluster?, 16).ok()?, index: index?.parse().ok()? })
    }
}

/// A key with its value, as read.
#[derive(Debug, PartialEq, Eq)]
pub struct Entry {
    /// With a `/` at its start.
    pub key: Bytes,
    /// The bytes of the text in the answer.
    pub value: Bytes,
    /// The index of its last change.
    pub index: u64,
}

/// One change of one key, or of a directory with all keys below it.
#[derive(Debug, PartialEq, Eq)]
pub struct Event {
    /// With a `/` at its start.
    pub key: Bytes,
    /// The index of this change.
    pub index: u64,
    /// The kind of the change.
    pub kind: EventKind,
}

/// The kind of a change.
#[derive(Debug, PartialEq, Eq)]
pub enum EventKind {
    /// The key has this value.
    Put(Bytes),
    /// The key is a directory now. The keys below it stay.
    Directory,
    /// The key is deleted, with all keys below it.
    Delete,
}

/// The number of bytes of an answer besides its keys: about 100 for each directory.
const LONGEST_REST: usize = 64 << 20;

/// Reads the answer to [`read`] as it arrives, and returns each key with a value at once: the answer is never in memory
/// as a whole.
pub struct KeysReader {
    elements: Elements,
}

impl Default for KeysReader {
    fn default() -> KeysReader {
        KeysReader { elements: Elements::of("nodes", LONGEST_REST) }
    }
}

impl KeysReader {
    /// Takes the next piece.
    ///
    /// # Errors
    /// The bytes are not an answer of etcd, or `entries` returned an error.
    pub fn push(
        &mut self,
        piece: &[u8],
        entries: &mut dyn FnMut(Entry) -> Result<(), String>,
    ) -> Result<(), Unreadable> {
        self.elements.push(piece, &mut |element| {
            let node: Node = serde_json::from_slice(element)?;
            node.give(entries)
        })
    }

    /// Takes the end of the answer.
    ///
    /// # Errors
    /// The answer is not complete; or as [`KeysReader::push`].
    pub fn end(self, entries: &mut dyn FnMut(Entry) -> Result<(), String>) -> Result<(), Unreadable> {
        #[derive(Deserialize)]
        struct Rest {
            node: Node,
        }
        let rest: Rest = read_object(&self.elements.rest())?;
        rest.node.give(entries)
    }
}

/// A key, or a directory. The keys of a directory are here only at the last level.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Node {
    key: Option<Text>,
    value: Option<Text>,
    #[serde(default)]
    dir: bool,
    #[serde(default)]
    modified_index: u64,
    /// The entries of a directory: each is a directory, or a key that was already returned.
    #[serde(default)]
    nodes: Vec<Inner>,
}

/// The entries of a directory.
enum Inner {
    Taken,
    Directory(Node),
}

impl<'de> Deserialize<'de> for Inner {
    fn deserialize<D: Deserializer<'de>>(json: D) -> Result<Inner, D::Error> {
        struct InnerVisitor;

        impl<'de> Visitor<'de> for InnerVisitor {
            type Value = Inner;

            fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
                f.write_str("a node")
            }

            fn visit_u64<E: de::Error>(self, place: u64) -> Result<Inner, E> {
                Taken::deserialize(place.into_deserializer()).map(|Taken| Inner::Taken)
            }

            fn visit_map<A: de::MapAccess<'de>>(self, fields: A) -> Result<Inner, A::Error> {
                Node::deserialize(de::value::MapAccessDeserializer::new(fields)).map(Inner::Directory)
            }
        }

        json.deserialize_any(InnerVisitor)
    }
}

impl Node {
    fn give(self, entries: &mut dyn FnMut(Entry) -> Result<(), String>) -> Result<(), Unreadable> {
        if self.dir {
            let inner = self.nodes.into_iter().filter_map(|inner| match inner {
                Inner::Taken => None,
                Inner::Directory(node) => Some(node),
            });
            return inner.into_iter().try_for_each(|node| node.give(entries));
        }
        let missing = |field| Unreadable::Nonsense(format!("a node without its {field}"));
        let key = self.key.ok_or_else(|| missing("key"))?.0;
        let value = self.value.ok_or_else(|| missing("value"))?.0;
        entries(Entry { key, value, index: self.modified_index }).map_err(Unreadable::TooMany)
    }
}

/// Reads the answer to [`wait`].
pub fn read_event(line: &[u8]) -> Result<Event, Unreadable> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    enum Action {
        Delete,
        Expire,
        CompareAndDelete,
        /// set, create, update, compareAndSwap
        #[serde(other)]
        Other,
    }
    #[derive(Deserialize)]
    struct Whole {
        action: Action,
        node: Node,
    }
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Node {
        key: Text,
        value: Option<Text>,
        #[serde(default)]
        dir: bool,
        modified_index: u64,
    }
    let Whole { action, node } = serde_json::from_slice(line)?;
    let kind = match (action, node.value) {
        (Action::Delete | Action::Expire | Action::CompareAndDelete, _) => EventKind::Delete,
        (Action::Other, _) if node.dir => EventKind::Directory,
        (Action::Other, Some(value)) => EventKind::Put(value.0),
        (Action::Other, None) => return Err(Unreadable::Nonsense("a change without a value".into())),
    };
    Ok(Event { key: node.key.0, index: node.modified_index, kind })
}

/// The reason of a refused request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The kind of the refusal.
    pub kind: RefusalKind,
    /// The text for messages: one line of at most 200 characters, without secrets.
    pub words: String,
}

/// The kind of a refusal, which decides the next request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RefusalKind {
    /// The key does not exist.
    Missing,
    /// The history starts after the index of the wait.
    Cleared,
    /// Neither the user nor a guest may read the key.
    Denied,
    /// The server does not have this API.
    UnknownPath,
    /// Any other reason. Another node may accept the request.
    Other,
}

/// Reads the answer with a status other than 200, from the beginning of its body. The text contains no secret.
pub fn refusal(status: u16, body: &[u8], secrets: &Redactor) -> Refusal {
    /// The names of etcd's error.go.
    const KEY_NOT_FOUND: u64 = 100;
    const NOT_A_DIRECTORY: u64 = 104;
    const UNAUTHORIZED: u64 = 110;
    const EVENT_INDEX_CLEARED: u64 = 401;

    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Body {
        error_code: Option<u64>,
        #[serde(default)]
        message: String,
        #[serde(default)]
        cause: String,
    }
    let speaks_tls = scheme::speaks_tls(body);
    let body: Option<Body> = serde_json::from_slice(body).ok();
    let kind = match (status, body.as_ref().and_then(|body| body.error_code)) {
        (_, Some(KEY_NOT_FOUND | NOT_A_DIRECTORY)) => RefusalKind::Missing,
        (_, Some(EVENT_INDEX_CLEARED)) => RefusalKind::Cleared,
        (_, Some(UNAUTHORIZED)) | (401 | 403, None) => RefusalKind::Denied,
        (404, None) => RefusalKind::UnknownPath,
        _ => RefusalKind::Other,
    };
    let message_of = |body: &Body| match (&*body.message, &*body.cause) {
        (message, "") => server_text(&secrets.redact(message)),
        (message, cause) => server_text(&secrets.redact(&format!("{message}: {cause}"))),
    };
    let words = match (kind, &body) {
        (RefusalKind::Missing, _) => "key not found".to_owned(),
        (RefusalKind::UnknownPath, _) => {
            format!("HTTP 404: `{KEYS}` is not known here: etcd needs --enable-v2 for it, or set `version = 3`")
        }
        (_, Some(body)) => format!("HTTP {status}: {}", message_of(body)),
        (_, None) if speaks_tls => format!("HTTP {status}: {}", scheme::HINT),
        (_, None) if (300..400).contains(&status) => format!("HTTP {status}: redirects are not followed"),
        (_, None) => format!("HTTP {status}"),
    };
    Refusal { kind, words }
}

/// A JSON text as bytes, which need not be UTF-8.
struct Text(Bytes);

impl<'de> Deserialize<'de> for Text {
    fn deserialize<D: Deserializer<'de>>(json: D) -> Result<Text, D::Error> {
        struct TextVisitor;

        impl Visitor<'_> for TextVisitor {
            type Value = Text;

            fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
                f.write_str("a text")
            }

            fn visit_bytes<E: de::Error>(self, bytes: &[u8]) -> Result<Text, E> {
                Ok(Text(Rc::from(bytes)))
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Text, E> {
                self.visit_bytes(text.as_bytes())
            }
        }

        json.deserialize_bytes(TextVisitor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(text: impl AsRef<[u8]>) -> Bytes {
        Rc::from(text.as_ref())
    }

    fn keys(answer: &[u8]) -> Result<Vec<(String, String, u64)>, String> {
        let text = |bytes: &Bytes| bytes.escape_ascii().to_string();
        let mut found = Vec::new();
        let mut take = |entry: Entry| {
            found.push((text(&entry.key), text(&entry.value), entry.index));
            Ok(())
        };
        let mut reader = KeysReader::default();
        let read = reader.push(answer, &mut take).and_then(|()| reader.end(&mut take));
        read.map(|()| found).map_err(|e| e.of("etcd"))
    }

    #[test]
    fn urls() {
        assert_eq!(read(b"/"), "/v2/keys/?recursive=true&quorum=true");
        assert_eq!(read(b"/app/x"), "/v2/keys/app/x?recursive=true&quorum=true");
        assert_eq!(wait(b"/app", 7), "/v2/keys/app?recursive=true&wait=true&waitIndex=7");
        assert_eq!(probe(b"/"), "/v2/keys/_remco?quorum=true");
        assert_eq!(probe(b"/app"), "/v2/keys/app/_remco?quorum=true");
        assert_eq!(look(b"/app"), "/v2/keys/app?quorum=true");
        assert_eq!(
            look(b"/a b/%/?#&+=\xff/\xc3\xa4-._~"),
            "/v2/keys/a%20b/%25/%3F%23%26%2B%3D%FF/%C3%A4-._~?quorum=true"
        );
    }

    #[test]
    fn heads() {
        let head = |cluster, index| Head::new(cluster, index);
        assert_eq!(head(Some("48276a8f75b6a87"), Some("9")), Some(Head { cluster: 0x48276a8f75b6a87, index: 9 }));
        assert_eq!(head(None, Some("9")), None);
        assert_eq!(head(Some("48276a8f75b6a87"), None), None);
        assert_eq!(head(Some("x"), Some("9")), None);
        assert_eq!(head(Some("1"), Some("-1")), None);
    }

    #[test]
    fn keys_of_an_answer() {
        let answer = br#"{"action":"get","node":{"key":"/app","dir":true,"nodes":[
            {"key":"/app/a","value":"1","modifiedIndex":4,"createdIndex":4},
            {"key":"/app/dir","dir":true,"nodes":[{"key":"/app/dir/b","value":"","modifiedIndex":5}],"modifiedIndex":5},
            {"key":"/app/empty","dir":true,"modifiedIndex":6,"createdIndex":6},
            {"nodes":null,"key":"/app/ttl","ttl":1,"expiration":"2026-11-25T01:25:46.6Z","value":"h","modifiedIndex":8}
        ],"modifiedIndex":4,"createdIndex":4}}"#;
        let without_null = String::from_utf8(answer.to_vec()).unwrap().replace("\"nodes\":null,", "");
        let pair = |key: &str, value: &str, index| (key.to_owned(), value.to_owned(), index);
        let want = [pair("/app/a", "1", 4), pair("/app/dir/b", "", 5), pair("/app/ttl", "h", 8)];
        assert_eq!(keys(without_null.as_bytes()).unwrap(), want);
        // The root has no key.
        assert_eq!(keys(br#"{"action":"get","node":{"dir":true}}"#).unwrap(), []);
        assert_eq!(keys(br#"{"node":{"key":"/a","value":"x","modifiedIndex":4}}"#).unwrap(), [pair("/a", "x", 4)]);
    }

    #[test]
    fn bytes_survive_as_far_as_json_allows() {
        let answer = b"{\"node\":{\"key\":\"/\xff\",\"value\":\"\xfe\\n\\u0000\\u00e4\\\"\",\"modifiedIndex\":4}}";
        assert_eq!(keys(answer).unwrap(), [("/\\xff".into(), "\\xfe\\n\\x00\\xc3\\xa4\\\"".into(), 4)]);
    }

    #[test]
    fn answers_that_are_none() {
        let check = |answer: &str, want: &str| assert_eq!(keys(answer.as_bytes()).unwrap_err(), want);
        check("<html>", "not an answer of etcd: no JSON from byte 1 on");
        check("{}", "not an answer of etcd: a field is missing or wrong at column 2");
        check(r#"{"node":{"key":"/a"}}"#, "not an answer of etcd: a node without its value");
        check(r#"{"node":{"value":"secret"}}"#, "not an answer of etcd: a node without its key");
        check(r#"{"node":{"dir":true}"#, "not an answer of etcd: EOF while parsing an object at line 1 column 20");
        check(r#"{"node":{"dir":true}}x"#, "not an answer of etcd: no JSON from byte 22 on");
        let deep = format!("{}{}", r#"{"node":{"dir":true,"nodes":["#, r#"{"dir":true,"nodes":["#.repeat(100_000));
        check(&deep, "not an answer of etcd: nested deeper than 128 levels");
    }

    #[test]
    fn events() {
        let check = |line: &str, want: Option<(&str, u64, EventKind)>| {
            let want = want.map(|(key, index, kind)| Event { key: bytes(key), index, kind });
            assert_eq!(read_event(line.as_bytes()).ok(), want, "{line}");
        };
        let put = |value: &str| EventKind::Put(bytes(value));
        check(r#"{"action":"set","node":{"key":"/a","value":"1","modifiedIndex":4}}"#, Some(("/a", 4, put("1"))));
        check(
            r#"{"action":"compareAndSwap","node":{"key":"/a","value":"","modifiedIndex":4}}"#,
            Some(("/a", 4, put(""))),
        );
        check(
            r#"{"action":"create","node":{"key":"/a","dir":true,"modifiedIndex":4}}"#,
            Some(("/a", 4, EventKind::Directory)),
        );
        check(r#"{"action":"create","node":{"key":"/a","modifiedIndex":4}}"#, None);
        check(r#"{"action":"set","node":{"key":"/a","value":"1"}}"#, None);
        check(r#"{"action":"set"}"#, None);
        check("", None);
        let gone = |action: &str, dir: &str| {
            let previous = r#""prevNode":{"key":"/a","value":"h","modifiedIndex":8,"createdIndex":8}"#;
            format!(
                r#"{{"action":"{action}","node":{{"key":"/a"{dir},"modifiedIndex":9,"createdIndex":8}},{previous}}}"#
            )
        };
        for action in ["delete", "expire", "compareAndDelete"] {
            check(&gone(action, ""), Some(("/a", 9, EventKind::Delete)));
            check(&gone(action, r#","dir":true"#), Some(("/a", 9, EventKind::Delete)));
        }
    }

    #[test]
    fn refusals() {
        let check = |status, body: &str, kind, words: &str| {
            assert_eq!(
                refusal(status, body.as_bytes(), &Redactor::default()),
                Refusal { kind, words: words.into() },
                "{body}"
            );
        };
        let missing = r#"{"errorCode":100,"message":"Key not found","cause":"/app","index":3}"#;
        check(404, missing, RefusalKind::Missing, "key not found");
        let plain = "Client sent an HTTP request to an HTTPS server.\n";
        check(400, plain, RefusalKind::Other, "HTTP 400: the server speaks TLS: write https:// instead of http://");
        let no_directory = r#"{"errorCode":104,"message":"Not a directory","cause":"/a","index":3}"#;
        check(404, no_directory, RefusalKind::Missing, "key not found");
        let cleared = r#"{"errorCode":401,"message":"The event in requested index is outdated and cleared","cause":"the requested history has been cleared [1/1]","index":9}"#;
        check(
            400,
            cleared,
            RefusalKind::Cleared,
            "HTTP 400: The event in requested index is outdated and cleared: the requested history has been cleared [1/1]",
        );
        let denied = r#"{"errorCode":110,"message":"The request requires user authentication","cause":"Insufficient credentials","index":0}"#;
        let words = "HTTP 401: The request requires user authentication: Insufficient credentials";
        check(401, denied, RefusalKind::Denied, words);
        check(401, "", RefusalKind::Denied, "HTTP 401");
        check(500, r#"{"message":"Internal Server Error"}"#, RefusalKind::Other, "HTTP 500: Internal Server Error");
        check(503, "<html>", RefusalKind::Other, "HTTP 503");
        check(307, "", RefusalKind::Other, "HTTP 307: redirects are not followed");
        let unknown = "HTTP 404: `/v2/keys` is not known here: etcd needs --enable-v2 for it, or set `version = 3`";
        check(404, "404 page not found\n", RefusalKind::UnknownPath, unknown);
    }
}
