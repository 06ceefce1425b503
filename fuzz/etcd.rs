//! What any bytes must survive as answers of an etcd: a page of keys read whole and in pieces of every size, and the
//! lines of a watch. What can be read goes through a mirror. The first byte says how large the pieces are.

use remco::backend::etcd::mirror::{Applied, Comparing, Mirror};
use remco::backend::etcd::wire::{self, Entry, Message, PageReader, RANGE};
use remco::backend::redact::Redactor;

use crate::torn::Torn;

pub fn run(bytes: &[u8]) {
    let Some((&seed, answer)) = bytes.split_first() else { return };
    let whole = page(answer, answer.len().max(1), 0);
    let torn = page(answer, usize::from(seed) % 7 + 1, usize::from(seed));
    assert_eq!(whole, torn, "it matters how an answer arrives");
    let secrets = Redactor::default();
    wire::refusal(400, RANGE, answer, &secrets);

    let prefix = ["", "/p"][usize::from(seed) % 2];
    let keys = [["/", "/a"], ["a", "/b"]][usize::from(seed / 2) % 2].map(str::to_owned);
    let mut mirror = Mirror::new(prefix, &keys, &keys[..1], Comparing::Yes);
    let mut loading = mirror.load();
    let read = page(answer, answer.len().max(1), 0).map(|(page, entries)| {
        entries.into_iter().for_each(|entry| mirror.add(&mut loading, entry));
        page
    });
    let (mut layer, _) = mirror.install(loading);
    assert!(read.is_err() || read.is_ok_and(|page| page.contains("last: Some") || layer.is_empty()));

    for line in answer.split_inclusive(|byte| *byte == b'\n') {
        let again = wire::read_message(line, &secrets).map_err(|error| error.of("etcd"));
        let message = wire::read_message(line, &secrets);
        assert_eq!(message.as_ref().map_err(|error| error.of("etcd")), again.as_ref().map_err(Clone::clone));
        let Ok(Message::Watch(answer)) = message else { continue };
        for event in answer.events {
            match mirror.apply(event) {
                Applied::Change { change: remco::backend::Change::Put(key, value), .. } => {
                    assert!(key.starts_with(b"/"), "{key:?}");
                    layer.insert(key, value);
                }
                Applied::Change { change: remco::backend::Change::Delete(key), .. } => drop(layer.remove(&key)),
                Applied::Nothing | Applied::Trigger | Applied::ReadAgain => {}
            }
        }
    }
}

/// What a page says, and its entries, or why it cannot be read.
fn page(answer: &[u8], size: usize, step: usize) -> Result<(String, Vec<Entry>), String> {
    let mut entries = Vec::new();
    let mut take = |entry| {
        entries.push(entry);
        Ok(())
    };
    let mut reader = PageReader::default();
    let pushed = Torn::new(answer, size, step).try_for_each(|piece| reader.push(piece, &mut take));
    let page = pushed.and_then(|()| reader.end());
    page.map(|page| (format!("{page:?}"), entries)).map_err(|error| error.of("etcd"))
}
