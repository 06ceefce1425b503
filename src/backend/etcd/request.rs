//! What requests to etcd have in common, whatever they ask: the headers of version 3, and how much of an error's body is kept.
//! Their bodies are `wire`'s.

use super::wire;
use crate::backend::protocol::Request;
use crate::backend::refusal;

/// Bytes of the body of an error that are kept.
pub const BEGINNING: usize = 4096;

/// What goes with every request to version 3, which has no use for credentials in a URL.
pub fn with_headers<'a>(request: Request, token: impl Iterator<Item = (&'a str, &'a str)>) -> Request {
    let headers = wire::HEADERS.iter().copied().chain(token);
    headers.fold(request.anonymous(), |request, (name, value)| request.with_header(name, value))
}

/// Adds to the beginning of the body of an error.
pub fn append_beginning(body: &mut Vec<u8>, piece: &[u8]) {
    refusal::append_beginning(body, piece, BEGINNING);
}
