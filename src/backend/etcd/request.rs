//! The common parts of all requests to etcd: the headers of version 3, and how much of an error's body is kept. The
//! bodies are in `wire`.

use super::wire;
use crate::backend::protocol::Request;
use crate::backend::refusal;

/// The number of bytes of an error's body that are kept.
pub const BEGINNING: usize = 4096;

/// Adds the headers of version 3 to a request. Credentials in a URL are not sent, because version 3 does not use them.
pub fn with_headers<'a>(request: Request, token: impl Iterator<Item = (&'a str, &'a str)>) -> Request {
    let headers = wire::HEADERS.iter().copied().chain(token);
    headers.fold(request.anonymous(), |request, (name, value)| request.with_header(name, value))
}

/// Appends to the kept beginning of an error's body.
pub fn append_beginning(body: &mut Vec<u8>, piece: &[u8]) {
    refusal::append_beginning(body, piece, BEGINNING);
}
