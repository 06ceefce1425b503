//! The output of `--explain` as text or JSON: the reads of templates, each with its function and result, and the keys
//! that no template reads. Long lists are shortened by `gather`. Shows names of keys and no values; renders nothing.

mod gather;

use std::borrow::Cow;
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value, json};

use crate::count::count;
use crate::mask::masked;
use crate::nearest::nearest;
use crate::quote::on_one_line;
use crate::store::{Bytes, Store};
use crate::template::reads::{Extent, Function, Read, Reads};
use gather::{Part, gather};

/// One resource after the render of its templates.
pub struct Resource<'a> {
    /// The name of the resource.
    pub name: &'a str,
    /// Whether a store or a template failed.
    pub has_failed: bool,
    /// The templates that were rendered, or should have been.
    pub templates: Vec<Template<'a>>,
    /// The backends, in merge order.
    pub backends: Vec<Backend<'a>>,
    /// The keys that the templates saw.
    pub store: &'a Store,
}

/// One template.
pub struct Template<'a> {
    /// The template file.
    pub src: &'a Path,
    /// The destination of the result.
    pub dst: &'a Path,
    /// The reads; `None`: the template was not rendered.
    pub reads: Option<&'a Reads>,
    /// The error, if there is no result.
    pub error: Option<&'a str>,
}

/// One backend.
pub struct Backend<'a> {
    /// The name in the configuration.
    pub name: &'a str,
    /// Whether its values are not shown.
    pub is_secret: bool,
    /// The entries of `watchKeys` that no key begins with.
    pub unmatched: Vec<String>,
    /// The entries of `watchKeys` that `keys` leaves out: such keys are watched and not read.
    pub outside: Vec<String>,
}

/// The largest number of keys of one directory that are shown. With more, the directory is shown instead.
const MOST_UNREAD: usize = 20;
/// The largest number of lines about unread keys, for each backend.
const MOST_UNREAD_LINES: usize = 100;
/// The largest number of lines about the reads of one function.
const MOST_READS: usize = 200;
/// The number of missing keys of a template for which the nearest keys are searched.
const MOST_ADVISED: usize = 20;
/// The number of names of a directory among which the nearest one is searched.
const MOST_COMPARED: usize = 2000;
/// The number of near keys that are shown.
const MOST_NEAR: usize = 3;

/// The explanation of all resources, as lines. A line that begins with a tab belongs to the line above without one.
pub fn text(resources: &[Resource<'_>]) -> String {
    let mut out = String::new();
    for resource in resources {
        let failed = if resource.has_failed { ": failed" } else { "" };
        out.push_str(&format!("# {}{failed}\n", on_one_line(resource.name.as_bytes())));
        let keys = Keys::of(resource);
        for template in &resource.templates {
            let (src, dst) = (path(template.src), path(template.dst));
            out.push_str(&format!("{src} -> {dst}\n"));
            for answer in keys.answers(template) {
                out.push_str(&format!("\t{}\t{}\t{}\n", answer.function.name(), answer.subject(), answer.result()));
            }
            let asked: Vec<&str> = template.reads.iter().flat_map(|reads| reads.asked()).map(|q| q.name()).collect();
            if !asked.is_empty() {
                out.push_str(&format!("\tasked for\t{}\n", asked.join(", ")));
            }
            match (template.error, template.reads) {
                (Some(error), _) => out.push_str(&format!("\terror\t{}\n", on_one_line(error.as_bytes()))),
                (None, None) => out.push_str("\tnot rendered\n"),
                (None, Some(_)) => {}
            }
        }
        if !resource.is_rendered() {
            continue;
        }
        for (title, unread) in
            [("not read", keys.in_state(State::Unread)), ("read as a part of names", keys.in_state(State::Name))]
        {
            if !unread.is_empty() {
                out.push_str(&format!("{title}\n"));
            }
            for (backend, part) in unread {
                let count = part.count.map(|keys| format!("\t{}", count(keys, "key", "keys"))).unwrap_or_default();
                out.push_str(&format!("\t{}\t{backend}{count}\n", part_text(&part)));
            }
        }
        let lists: [(&str, Entries); 2] = [
            ("watchKeys without a key", |backend| &backend.unmatched),
            ("watchKeys outside of keys", |backend| &backend.outside),
        ];
        for (title, of) in lists {
            let all = || resource.backends.iter().flat_map(|backend| of(backend).iter().map(|key| (key, backend.name)));
            if all().next().is_some() {
                out.push_str(&format!("{title}\n"));
            }
            all().for_each(|(key, backend)| out.push_str(&format!("\t{}\t{backend}\n", on_one_line(key.as_bytes()))));
        }
    }
    out
}

/// The explanation of all resources, as one object.
pub fn as_json(resources: &[Resource<'_>]) -> Value {
    let of_resource = |resource: &Resource<'_>| {
        let keys = Keys::of(resource);
        let templates = resource.templates.iter().map(|template| {
            let mut object = Map::new();
            object.insert("src".to_owned(), template.src.to_string_lossy().into());
            object.insert("dst".to_owned(), template.dst.to_string_lossy().into());
            if let Some(reads) = template.reads {
                object.insert("reads".to_owned(), keys.answers(template).into_iter().map(Answer::into_json).collect());
                object.insert("asked_for".to_owned(), reads.asked().map(|question| question.name()).collect());
            }
            if let Some(error) = template.error {
                object.insert("error".to_owned(), error.into());
            }
            Value::from(object)
        });
        let unread = |state| {
            keys.in_state(state).into_iter().map(|(backend, part)| {
                let mut object = part_json(&part);
                object.insert("backend".to_owned(), backend.into());
                Value::from(object)
            })
        };
        let mut object = json!({
            "name": resource.name, "failed": resource.has_failed, "templates": templates.collect::<Vec<_>>(),
        });
        if resource.is_rendered() {
            let watched = |of: Entries| -> Value {
                let entry = |backend: &Backend<'_>, key: &String| json!({ "key": key, "backend": backend.name });
                let backends = resource.backends.iter();
                backends.flat_map(|backend| of(backend).iter().map(move |key| entry(backend, key))).collect()
            };
            object["unread"] = unread(State::Unread).collect();
            object["part_of_names"] = unread(State::Name).collect();
            object["watch_keys_without_key"] = watched(|backend| &backend.unmatched);
            object["watch_keys_outside"] = watched(|backend| &backend.outside);
        }
        object
    };
    json!({ "resources": resources.iter().map(of_resource).collect::<Vec<_>>() })
}

/// Sets a member of an object to bytes: as text, or as `NAME_base64` if they are not UTF-8.
pub fn add(object: &mut Map<String, Value>, name: &str, bytes: &[u8]) {
    match str::from_utf8(bytes) {
        Ok(text) => object.insert(name.to_owned(), text.into()),
        Err(_) => object.insert(format!("{name}_base64"), STANDARD.encode(bytes).into()),
    };
}

/// A list of entries of the configuration.
type Entries = for<'b> fn(&'b Backend<'_>) -> &'b [String];

impl Resource<'_> {
    /// Whether a template has seen the keys.
    fn is_rendered(&self) -> bool {
        self.templates.iter().any(|template| template.reads.is_some())
    }
}

/// The part of a key that templates have read.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum State {
    Unread,
    /// The key is below a directory whose names were listed.
    Name,
    Read,
}

/// The keys of a resource.
struct Keys<'a> {
    resource: &'a Resource<'a>,
    /// Sorted.
    all: Vec<&'a Bytes>,
    states: Vec<State>,
}

impl<'a> Keys<'a> {
    fn of(resource: &'a Resource<'a>) -> Keys<'a> {
        let all: Vec<&Bytes> = resource.store.all().map(|(key, _)| key).collect();
        let states = vec![State::Unread; all.len()];
        let mut keys = Keys { resource, all, states };
        let reads = resource.templates.iter().filter_map(|template| template.reads);
        reads.flat_map(Reads::iter).for_each(|read| keys.mark(read));
        keys
    }

    fn find(&self, key: &[u8]) -> Option<usize> {
        self.all.binary_search_by(|other| (***other).cmp(key)).ok()
    }

    /// The indexes of the keys that begin with these bytes.
    fn range(&self, prefix: &[u8]) -> std::ops::Range<usize> {
        let start = self.all.partition_point(|key| ***key < *prefix);
        start..start + self.all[start..].partition_point(|key| key.starts_with(prefix))
    }

    fn mark(&mut self, read: &Read) {
        match &read.extent {
            Extent::Key(key) => {
                if let Some(at) = self.find(key) {
                    self.states[at] = State::Read;
                }
            }
            Extent::Pattern(pattern) => {
                for (key, _) in self.resource.store.gets(pattern).into_iter().flatten() {
                    if let Some(at) = self.find(key) {
                        self.states[at] = State::Read;
                    }
                }
            }
            Extent::Prefix(prefix) => {
                let is_list = matches!(read.function, Function::Ls | Function::LsDir);
                for at in self.range(prefix) {
                    let is_listed = read.function == Function::Ls && !self.all[at][prefix.len()..].contains(&b'/');
                    let state = if is_list && !is_listed { State::Name } else { State::Read };
                    self.states[at] = self.states[at].max(state);
                }
            }
        }
    }

    /// The keys in a state, by backend.
    fn in_state(&self, state: State) -> Vec<(&'a str, Part<'a>)> {
        let mut all = Vec::new();
        for (layer, backend) in self.resource.backends.iter().enumerate() {
            let own = |key: &&&'a Bytes| self.resource.store.layers_of(key).last() == Some(layer);
            let keys = self.all.iter().zip(&self.states).filter(|(key, _)| own(key));
            let keys: Vec<(&[u8], bool)> = keys.map(|(key, own)| (&***key, *own == state)).collect();
            let parts = gather(&keys, MOST_UNREAD, MOST_UNREAD_LINES);
            all.extend(parts.into_iter().map(|part| (backend.name, part)));
        }
        all
    }

    /// The results of the reads of a template, in the order of functions and keys.
    fn answers(&self, template: &Template<'_>) -> Vec<Answer> {
        let reads: Vec<&Read> = template.reads.iter().flat_map(|reads| reads.iter()).collect();
        let mut answers = Vec::new();
        let mut advised = 0;
        for of_function in reads.chunk_by(|one, other| one.function == other.function) {
            let mut found: Vec<(Kind, &[u8], usize)> = of_function.iter().map(|read| self.found(read)).collect();
            found.sort_by_key(|(kind, text, keys)| (*kind, *keys == 0, *text));
            for group in found.chunk_by(|one, other| one.0 == other.0 && (one.2 == 0) == (other.2 == 0)) {
                let (kind, texts) = (group[0].0, group.iter().map(|(_, text, _)| (*text, true)).collect::<Vec<_>>());
                for part in gather(&texts, MOST_READS, MOST_READS) {
                    let covered =
                        |text: &[u8]| text == part.text || part.count.is_some() && text.starts_with(part.text);
                    let keys = group.iter().filter(|(_, text, _)| covered(text)).map(|(_, _, keys)| keys).sum();
                    let mut near = Vec::new();
                    if keys == 0 && part.count.is_none() && advised < MOST_ADVISED {
                        advised += 1;
                        near = self.near(kind, part.text);
                    }
                    let text = if keys == 0 { self.without_secrets(part.text) } else { part.text.to_vec() };
                    answers.push(Answer {
                        function: of_function[0].function,
                        kind,
                        text,
                        reads: part.count,
                        keys,
                        near,
                    });
                }
            }
        }
        answers
    }

    /// The kind and the text of a read, and the number of keys that it has found.
    fn found<'r>(&self, read: &'r Read) -> (Kind, &'r [u8], usize) {
        match &read.extent {
            Extent::Key(key) => (Kind::Key, key, usize::from(self.find(key).is_some())),
            Extent::Pattern(pattern) => {
                (Kind::Pattern, pattern, self.resource.store.gets(pattern).into_iter().flatten().count())
            }
            Extent::Prefix(prefix) => (Kind::Prefix, prefix, self.range(prefix).len()),
        }
    }

    /// Masks values in a text. A text that is not the name of a key may contain a value.
    fn without_secrets(&self, text: &[u8]) -> Vec<u8> {
        let backends = self.resource.backends.iter().enumerate().filter(|(_, backend)| backend.is_secret);
        let values = backends.flat_map(|(layer, _)| self.resource.store.layer(layer).values().map(|value| &**value));
        match masked(&String::from_utf8_lossy(text), values) {
            Cow::Owned(masked) => masked.into_bytes(),
            Cow::Borrowed(_) => text.to_vec(),
        }
    }

    /// The keys that a missing one may have meant.
    fn near(&self, kind: Kind, text: &[u8]) -> Vec<String> {
        let mut near: Vec<&[u8]> = Vec::new();
        let mut add = |key: &'a [u8]| {
            if near.len() < MOST_NEAR && !near.contains(&key) {
                near.push(key);
            }
        };
        let end = text.iter().rposition(|byte| *byte == b'/').map_or(0, |slash| slash + 1);
        let (directory, name) = text.split_at(end);
        let in_directory = &self.all[self.range(directory)];
        if kind == Kind::Key {
            let siblings = || {
                let rests = in_directory.iter().map(|key| (&***key, &key[directory.len()..]));
                rests.filter(|(_, rest)| !rest.contains(&b'/')).take(MOST_COMPARED)
            };
            let names = siblings().filter_map(|(_, rest)| str::from_utf8(rest).ok());
            let similar = str::from_utf8(name).ok().and_then(|name| nearest(name, names));
            siblings()
                .filter(|(_, rest)| similar.is_some_and(|name| name.as_bytes() == *rest))
                .for_each(|(key, _)| add(key));
            let last = |key: &[u8]| key.rsplit(|byte| *byte == b'/').next().map(<[u8]>::to_ascii_lowercase);
            let wanted = Some(name.to_ascii_lowercase()).filter(|name| !name.is_empty());
            if wanted.is_some() {
                self.all.iter().filter(|key| last(key) == wanted).take(MOST_NEAR).for_each(|key| add(key));
            }
            siblings().take(MOST_NEAR).for_each(|(key, _)| add(key));
        }
        if !near.is_empty() {
            return near.into_iter().map(on_one_line).collect();
        }
        // The deepest directory that exists. A pattern has no metacharacter before its end.
        let literal = text.iter().position(|byte| matches!(byte, b'*' | b'?' | b'[' | b'\\')).unwrap_or(text.len());
        let mut directories = text[..literal].iter().enumerate().rev().filter(|(_, byte)| **byte == b'/');
        let there = directories.find(|(slash, _)| *slash > 0 && !self.range(&text[..=*slash]).is_empty());
        there.map(|(slash, _)| format!("{}...", on_one_line(&text[..=slash]))).into_iter().collect()
    }
}

/// The kind of a read.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    Key,
    Pattern,
    Prefix,
}

/// The result of a read, or of several.
struct Answer {
    function: Function,
    kind: Kind,
    text: Vec<u8>,
    /// The number of reads whose texts begin with this one; `None`: one read of this text.
    reads: Option<usize>,
    keys: usize,
    /// The keys that may have been meant.
    near: Vec<String>,
}

impl Answer {
    fn is_prefix(&self) -> bool {
        self.kind == Kind::Prefix || self.reads.is_some()
    }

    fn subject(&self) -> String {
        let dots = if self.is_prefix() { "..." } else { "" };
        format!("{}{dots}", on_one_line(&self.text))
    }

    fn result(&self) -> String {
        let found = match (self.kind, self.keys) {
            (Kind::Key, 0) if self.reads.is_none() => "missing".to_owned(),
            (Kind::Key, _) if self.reads.is_none() => "found".to_owned(),
            (_, 0) => "no key".to_owned(),
            (_, keys) => count(keys, "key", "keys"),
        };
        let reads = self.reads.map(|reads| format!("{}, ", count(reads, "read", "reads"))).unwrap_or_default();
        let near = if self.near.is_empty() { String::new() } else { format!(", near: {}", self.near.join(", ")) };
        format!("{reads}{found}{near}")
    }

    fn into_json(self) -> Value {
        let mut object = Map::new();
        object.insert("function".to_owned(), self.function.name().into());
        let name = match self.kind {
            _ if self.is_prefix() => "prefix",
            Kind::Pattern => "pattern",
            Kind::Key | Kind::Prefix => "key",
        };
        add(&mut object, name, &self.text);
        if let Some(reads) = self.reads {
            object.insert("reads".to_owned(), reads.into());
        }
        object.insert("keys".to_owned(), self.keys.into());
        if !self.near.is_empty() {
            object.insert("near".to_owned(), self.near.into());
        }
        object.into()
    }
}

fn part_text(part: &Part<'_>) -> String {
    let dots = if part.count.is_some() { "..." } else { "" };
    format!("{}{dots}", on_one_line(part.text))
}

fn part_json(part: &Part<'_>) -> Map<String, Value> {
    let mut object = Map::new();
    add(&mut object, if part.count.is_some() { "prefix" } else { "key" }, part.text);
    if let Some(count) = part.count {
        object.insert("keys".to_owned(), count.into());
    }
    object
}

fn path(path: &Path) -> String {
    use std::os::unix::ffi::OsStrExt;
    on_one_line(path.as_os_str().as_bytes())
}

#[cfg(test)]
mod tests;
