//! The requests and answers of Consul's key-value store: paths of requests, and a parser for lists of keys in pieces,
//! so that an answer is never in memory as a whole. Opens no connection and decides nothing.
//!
//! Sources: the documentation of Consul's HTTP API, and answers that were captured from Consul 1.8.

use std::borrow::Cow;
use std::fmt::Write;
use std::rc::Rc;
use std::time::Duration;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use serde::Deserialize;

use crate::backend::json::{Json, Quoted};
use crate::backend::redact::Redactor;
use crate::backend::refusal;
use crate::backend::unreadable::Unreadable;
use crate::percent;
use crate::store::Bytes;

/// The header with the index of an answer, which the next blocking query names.
pub const INDEX: &str = "X-Consul-Index";
/// The header of an answer from which keys were omitted.
pub const FILTERED: &str = "X-Consul-Results-Filtered-By-ACLs";
/// The header of the token.
pub const TOKEN: &str = "X-Consul-Token";
/// The path that describes the token itself.
pub const OWN_TOKEN: &str = "/v1/acl/token/self";
/// The path that returns the leader of the cluster. It needs no permission.
pub const LEADER: &str = "/v1/status/leader";

/// The number of bytes of a refusal that are kept, and that are shown.
const KEPT: usize = 2048;
const SHOWN: usize = 200;

/// The path of all keys below a key, which is clean and begins with a slash. With `wait`, Consul answers when its index
/// is newer, or after the time.
pub fn list(key: &[u8], datacenter: &str, namespace: &str, wait: Option<(u64, Duration)>) -> String {
    let mut target = "/v1/kv/".to_owned();
    percent::push_path(key.strip_prefix(b"/").unwrap_or(key), &mut target);
    target += "?recurse";
    for (name, value) in [("dc", datacenter), ("ns", namespace)].iter().filter(|(_, value)| !value.is_empty()) {
        target.extend(["&", name, "="]);
        percent::push_path(value.as_bytes(), &mut target);
    }
    if let Some((index, time)) = wait {
        // Writing to a text cannot fail.
        _ = write!(target, "&index={index}&wait={}ms", time.as_millis());
    }
    target
}

fn nonsense<T>(words: impl Into<String>) -> Result<T, Unreadable> {
    Err(Unreadable::Nonsense(words.into()))
}

/// A key with its value.
#[derive(Debug, PartialEq, Eq)]
pub struct Entry {
    /// The key with a leading slash, which Consul's keys lack.
    pub key: Bytes,
    /// The value; empty for `null`.
    pub value: Bytes,
    /// The index of the last write of the key; 0: the answer does not have it.
    pub index: u64,
}

/// Parses a list of keys in pieces, and returns each entry as soon as it is complete.
#[derive(Debug)]
pub struct ListReader {
    json: Json,
    /// The number of open brackets.
    depth: usize,
    string: Quoted,
    /// The incomplete object.
    object: Vec<u8>,
    /// The list has begun.
    is_begun: bool,
}

impl Default for ListReader {
    fn default() -> ListReader {
        ListReader { json: Json::one(), depth: 0, string: Quoted::default(), object: Vec::new(), is_begun: false }
    }
}

impl ListReader {
    /// Takes the next piece.
    ///
    /// # Errors
    /// The bytes are not a list of keys, or `give` returned an error.
    pub fn push(&mut self, piece: &[u8], give: &mut dyn FnMut(Entry) -> Result<(), String>) -> Result<(), Unreadable> {
        let (length, wrong) = self.json.push(piece);
        self.cut(&piece[..length], give)?;
        wrong.map_or(Ok(()), |why| nonsense(why.to_string()))
    }

    /// Takes bytes that are JSON so far.
    fn cut(&mut self, piece: &[u8], give: &mut dyn FnMut(Entry) -> Result<(), String>) -> Result<(), Unreadable> {
        // The object begins or continues at `from`.
        let (mut at, mut from) = (0, 0);
        while at < piece.len() {
            if self.string.is_open() {
                at += self.string.skip(&piece[at..]);
                continue;
            }
            let byte = piece[at];
            at += 1;
            match (self.depth, byte) {
                (0, b'[') => (self.depth, self.is_begun) = (1, true),
                (1, b'{') => (self.depth, from) = (2, at - 1),
                (1, b']') => self.depth = 0,
                (0, _) | (1, b',') if byte == b',' || byte.is_ascii_whitespace() => {}
                (1, _) if byte.is_ascii_whitespace() => {}
                (0 | 1, _) => return nonsense("no list of keys"),
                (_, b'"') => self.string.begin(),
                (_, b'{' | b'[') => self.depth += 1,
                (_, b'}' | b']') => {
                    self.depth -= 1;
                    if self.depth == 1 {
                        self.object.extend_from_slice(&piece[from..at]);
                        let entry = entry(&self.object);
                        self.object.clear();
                        give(entry?).map_err(Unreadable::TooMany)?;
                    }
                }
                _ => {}
            }
        }
        if self.depth > 1 {
            self.object.extend_from_slice(&piece[from..]);
        }
        Ok(())
    }

    /// Takes the end of the answer.
    ///
    /// # Errors
    /// The answer is not complete.
    pub fn end(self) -> Result<(), Unreadable> {
        if self.is_begun && self.depth == 0 { Ok(()) } else { nonsense("it ends in the middle") }
    }
}

fn entry(object: &[u8]) -> Result<Entry, Unreadable> {
    #[derive(Deserialize)]
    #[serde(rename_all = "PascalCase")]
    struct Object<'a> {
        #[serde(borrow)]
        key: Cow<'a, str>,
        #[serde(default, borrow)]
        value: Option<Cow<'a, str>>,
        #[serde(default)]
        modify_index: u64,
    }
    // serde_json shows the unexpected value, which may be the value of a key.
    let Ok(Object { key, value, modify_index }) = serde_json::from_slice(object) else {
        return nonsense("an entry without `Key` or with another kind of `Value` or `ModifyIndex`");
    };
    let Ok(value) = BASE64_STANDARD.decode(value.as_deref().unwrap_or_default()) else {
        return nonsense("a value that is no base64");
    };
    Ok(Entry { key: Rc::from([b"/", key.as_bytes()].concat()), value: Rc::from(value), index: modify_index })
}

/// Keeps the beginning of a refusal.
pub fn keep_beginning(kept: &mut Vec<u8>, piece: &[u8]) {
    refusal::append_beginning(kept, piece, KEPT);
}

/// The text of a refusal on one line, without secrets.
pub fn words(status: u16, body: &[u8], secrets: &Redactor) -> String {
    let text = secrets.redact(&String::from_utf8_lossy(body));
    let line = text.lines().map(str::trim).find(|line| !line.is_empty()).unwrap_or_default();
    refusal::with_status(&format!("status {status}"), line, SHOWN)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, want: Result<&[(&str, &str)], &str>) {
        for size in 1..=text.len().max(1) {
            let (mut reader, mut given) = (ListReader::default(), Vec::new());
            let mut give = |entry: Entry| {
                let text = |bytes: &Bytes| String::from_utf8_lossy(bytes).into_owned();
                given.push((text(&entry.key), text(&entry.value)));
                if given.len() > 3 { Err("too many".to_owned()) } else { Ok(()) }
            };
            let read = text.as_bytes().chunks(size).try_for_each(|piece| reader.push(piece, &mut give));
            let read = read.and_then(|()| reader.end()).map_err(|error| error.of("consul"));
            match want {
                Err(words) => assert_eq!(read, Err(words.to_owned()), "{text} in pieces of {size}"),
                Ok(want) => {
                    assert_eq!(read, Ok(()), "{text} in pieces of {size}");
                    let want: Vec<_> = want.iter().map(|(key, value)| (key.to_string(), value.to_string())).collect();
                    assert_eq!(given, want, "{text} in pieces of {size}");
                }
            }
        }
    }

    #[test]
    fn lists_are_read_in_any_pieces() {
        check("[]", Ok(&[]));
        check(" [ ]\n", Ok(&[]));
        let text = r#"[{"LockIndex":0,"Key":"a/x","Flags":0,"Value":"MQ==","CreateIndex":3,"ModifyIndex":9}]"#;
        check(text, Ok(&[("/a/x", "1")]));
        check(r#"[{"Key":"a/","Value":null} , {"Key":"b"}]"#, Ok(&[("/a/", ""), ("/b", "")]));
        check(r#"[{"Key":"}]\"[{\\","Value":"","Session":{"a":[{}]}}]"#, Ok(&[("/}]\"[{\\", "")]));
        check(r#"[{"Key":"/\u00e4","Value":"w6Q="}]"#, Ok(&[("//ä", "ä")]));
    }

    #[test]
    fn what_is_no_list_is_refused_without_its_text() {
        let check = |text: &str, words: &str| check(text, Err(&format!("not an answer of consul: {words}")));
        check("", "it ends in the middle");
        check("[", "it ends in the middle");
        check(r#"[{"Key":"a"}"#, "it ends in the middle");
        check(r#"[{"Key":"a""#, "it ends in the middle");
        for text in ["{}", "null", "1", "[1]", "[[]]", r#"["s3cret"]"#, "[null]"] {
            check(text, "no list of keys");
        }
        check("<html>", "no JSON from byte 1 on");
        check("[] x", "no JSON from byte 4 on");
        check("[{}]", "an entry without `Key` or with another kind of `Value` or `ModifyIndex`");
        check(r#"[{"Key":1}]"#, "an entry without `Key` or with another kind of `Value` or `ModifyIndex`");
        check(r#"[{"Key":"a","Value":{}}]"#, "an entry without `Key` or with another kind of `Value` or `ModifyIndex`");
        check(r#"[{"Key":"a","Value":"s3cret"}]"#, "a value that is no base64");
    }

    #[test]
    fn no_more_is_read_than_is_taken() {
        check(&format!("[{}]", [r#"{"Key":"a"}"#; 4].join(",")), Err("too many"));
    }

    #[test]
    fn targets() {
        assert_eq!(list(b"/", "", "", None), "/v1/kv/?recurse");
        assert_eq!(list(b"/a b/\xff+?", "d&1", "n", None), "/v1/kv/a%20b/%FF%2B%3F?recurse&dc=d%261&ns=n");
        let wait = Some((7, Duration::from_millis(1500)));
        assert_eq!(list(b"/app", "", "", wait), "/v1/kv/app?recurse&index=7&wait=1500ms");
    }

    #[test]
    fn refusals_are_one_line_without_secrets() {
        let mut secrets = Redactor::default();
        secrets.hide("token", "s3cret");
        assert_eq!(words(403, b"\nACL not found: s3cret\nmore", &secrets), "status 403: ACL not found: <token>");
        assert_eq!(words(500, b" ", &secrets), "status 500");
        assert_eq!(words(500, &[b'x'; 999], &secrets).len(), "status 500: ".len() + SHOWN);
    }
}
