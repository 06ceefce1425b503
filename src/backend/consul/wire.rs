//! What Consul's key-value store is asked over HTTP, and what it answers: paths, and the list of keys as it comes in
//! pieces, so that an answer is never in memory as a whole. Opens no connection and decides nothing.
//!
//! Source: the HTTP API of Consul, and what 1.8 was seen to send.

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

/// The header with the index of an answer, from which a wait goes on.
pub const INDEX: &str = "X-Consul-Index";
/// The header that says that keys were left out.
pub const FILTERED: &str = "X-Consul-Results-Filtered-By-ACLs";
/// The header of the token.
pub const TOKEN: &str = "X-Consul-Token";
/// The path that tells about the token itself.
pub const OWN_TOKEN: &str = "/v1/acl/token/self";
/// The path that tells the leader of the cluster. It needs no permission.
pub const LEADER: &str = "/v1/status/leader";

/// Bytes of a refusal that are kept, and of its words that are shown.
const KEPT: usize = 2048;
const SHOWN: usize = 200;

/// The path of all keys below a clean one, which begins with a slash. With a wait: as soon as there is something newer than
/// an index, or when the time is over.
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
    /// With a slash in front, which Consul's names lack.
    pub key: Bytes,
    /// Empty for `null`.
    pub value: Bytes,
    /// The index of the write that made it so; 0 where the answer has none.
    pub index: u64,
}

/// Reads a list of keys as it comes, and gives each entry away as soon as it is there.
#[derive(Debug)]
pub struct ListReader {
    json: Json,
    /// How many brackets are open.
    depth: usize,
    string: Quoted,
    /// The object that is coming in.
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
    /// What came is no list of keys, or the text that `give` has where it takes no more.
    pub fn push(&mut self, piece: &[u8], give: &mut dyn FnMut(Entry) -> Result<(), String>) -> Result<(), Unreadable> {
        let (length, wrong) = self.json.push(piece);
        self.cut(&piece[..length], give)?;
        wrong.map_or(Ok(()), |why| nonsense(why.to_string()))
    }

    /// Takes bytes that can be JSON.
    fn cut(&mut self, piece: &[u8], give: &mut dyn FnMut(Entry) -> Result<(), String>) -> Result<(), Unreadable> {
        // Where in the piece the object begins, or goes on.
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

    /// The answer has ended.
    ///
    /// # Errors
    /// It is not complete.
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
    // serde_json shows the unexpected value, which may be a key's.
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
