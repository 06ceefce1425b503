//! What any bytes must survive as answers of etcd's version 2: keys read whole and in pieces of every size, the lines
//! of waits, and refusals. What can be read goes through a mirror, and what each event leaves there is what a fresh
//! read gives. The first byte says how large the pieces are.

use std::collections::BTreeMap;

use remco::backend::Change;
use remco::backend::etcd::v2::mirror::{Applied, Mirror, Tracking};
use remco::backend::etcd::v2::wire::{self, Entry, Event, EventKind, KeysReader};
use remco::backend::redact::Redactor;
use remco::store::{Bytes, Layer};

use crate::torn::Torn;

pub fn run(bytes: &[u8]) {
    let Some((&seed, answer)) = bytes.split_first() else { return };
    let seed = usize::from(seed);
    let whole = keys(answer, answer.len().max(1), 0);
    let torn = keys(answer, seed % 7 + 1, seed);
    assert_eq!(whole, torn, "it matters how an answer arrives");

    let refusal = wire::refusal([400, 401, 404, 500, 307][seed % 5], answer, &Redactor::default());
    assert!(!refusal.words.contains(char::is_control), "{refusal:?}");

    let (entries, _) = whole;
    let events: Vec<Event> = answer.split(|byte| *byte == b'\n').filter_map(event).collect();
    mirrored(seed, entries, events);
}

/// The keys that came, and why no more did.
fn keys(answer: &[u8], size: usize, step: usize) -> (Vec<Entry>, Result<(), String>) {
    let mut entries = Vec::new();
    let mut take = |entry| {
        entries.push(entry);
        Ok(())
    };
    let mut reader = KeysReader::default();
    let pushed = Torn::new(answer, size, step).try_for_each(|piece| reader.push(piece, &mut take));
    let read = pushed.and_then(|()| reader.end(&mut take));
    (entries, read.map_err(|error| error.of("etcd")))
}

/// A line of a wait. Its node is one as keys are read from, if what is below it is.
fn event(line: &[u8]) -> Option<Event> {
    let event = wire::read_event(line).ok()?;
    if let EventKind::Put(value) = &event.kind
        && let (entries, Ok(())) = keys(line, line.len(), 0)
    {
        let last = entries.last().map(|entry| (&entry.key, &entry.value, entry.index));
        assert_eq!(last, Some((&event.key, value, event.index)), "read in two ways");
    }
    Some(event)
}

/// Reads keys into a mirror and applies events to it, and beside it to nothing but a list of keys.
fn mirrored(seed: usize, entries: Vec<Entry>, events: Vec<Event>) {
    let prefix = ["", "/p"][seed % 2];
    let keys = [["/", "/a"], ["a", "/b"]][seed / 2 % 2].map(str::to_owned);
    let new = || Mirror::new(prefix, &keys, &keys[..1], Tracking::Yes);
    // etcd sends no other paths, or hides them. Of those, two may have one name in the store.
    let is_clean = entries.iter().map(|entry| &entry.key).chain(events.iter().map(|event| &event.key)).all(clean);

    let mut known: BTreeMap<Bytes, (Bytes, u64)> = BTreeMap::new();
    for Entry { key, value, index } in &entries {
        known.insert(key.clone(), (value.clone(), *index));
    }
    let mut mirror = new();
    let mut layer = read(&mut mirror, entries);
    for event in events {
        let (key, index) = (event.key.clone(), event.index);
        let value = match &event.kind {
            EventKind::Put(value) => Some(value.clone()),
            EventKind::Directory | EventKind::Delete => None,
        };
        let is_deleted = event.kind == EventKind::Delete;
        let Applied::Changes { changes, .. } = mirror.apply(event) else {
            assert!(is_deleted, "only what is gone calls for a read");
            continue;
        };
        for change in changes {
            match change {
                Change::Put(key, value) => {
                    assert!(key.starts_with(b"/"), "{key:?}");
                    layer.insert(key, value);
                }
                Change::Delete(key) => assert!(layer.remove(&key).is_some() || !is_clean, "{key:?} was not there"),
            }
        }
        match value {
            Some(value) => {
                let is_read = mirror.read().iter().any(|path| is_within(&key, path));
                if is_read && known.get(&key).is_none_or(|(_, known)| *known < index) {
                    known.insert(key, (value, index));
                }
            }
            None => known.retain(|other, (_, known)| {
                let is_meant = *other == key || (is_deleted && is_within(other, &key));
                !is_meant || *known >= index
            }),
        }
        if is_clean {
            let left = known.iter().map(|(key, (value, index))| (key.clone(), value.clone(), *index));
            let fresh = read(&mut new(), left.map(|(key, value, index)| Entry { key, value, index }));
            assert_eq!(layer, fresh, "an event left something else");
        }
    }
}

fn read(mirror: &mut Mirror, entries: impl IntoIterator<Item = Entry>) -> Layer {
    let mut loading = mirror.load();
    for entry in entries {
        mirror.add(&mut loading, entry);
    }
    mirror.install(loading).0
}

/// Whether a path is one as etcd has them, and not one that it hides.
fn clean(path: &Bytes) -> bool {
    match path.strip_prefix(b"/") {
        Some(rest) => rest.split(|byte| *byte == b'/').all(|name| !matches!(name, b"" | b"." | b".." | [b'_', ..])),
        None => false,
    }
}

fn is_within(path: &[u8], top: &[u8]) -> bool {
    path == top || path.starts_with(&[top.strip_suffix(b"/").unwrap_or(top), b"/"].concat())
}
