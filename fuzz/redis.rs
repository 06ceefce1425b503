//! What any bytes must survive as replies of Redis: they are read whole and in pieces of every size with the same
//! result, and nothing that is read takes more than its limit. The first byte says how large the pieces and the limit
//! are.

use remco::backend::redis::wire::{Reader, Reply};

use crate::torn::Torn;

pub fn run(bytes: &[u8]) {
    let Some((&seed, text)) = bytes.split_first() else { return };
    let seed = usize::from(seed);
    let limit = [100, 1000, 100_000][seed % 3];
    let whole = read(text, text.len().max(1), 0, limit);
    let torn = read(text, seed % 7 + 1, seed, limit);
    assert_eq!(whole, torn, "it matters how replies arrive");
    for reply in &whole.0 {
        assert!(size(reply) <= limit, "a reply of {} bytes", size(reply));
    }
}

/// The replies, and whether what follows them is none.
fn read(text: &[u8], size: usize, step: usize, limit: usize) -> (Vec<Reply>, bool) {
    let (mut reader, mut replies) = (Reader::new(limit), Vec::new());
    let read = Torn::new(text, size, step).try_for_each(|piece| reader.push(piece, &mut replies));
    if let Err(error) = &read {
        assert!(!error.to_string().contains(char::is_control), "{error}");
    }
    (replies, read.is_err())
}

/// What is kept of a reply.
fn size(reply: &Reply) -> usize {
    match reply {
        Reply::Status(text) | Reply::Error(text) => text.len() / 3,
        Reply::Bulk(bytes) => bytes.len(),
        Reply::Array(items) => items.iter().map(size).sum::<usize>() + items.len() * size_of::<Reply>(),
        Reply::Integer(_) | Reply::Nil => 0,
    }
}
