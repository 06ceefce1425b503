//! An exchange with a server that says anything, in pieces of any size, and then goes. Holds: it ends, within its
//! budgets; pieces of any size give what the whole gives; a body that was cut is never whole where its length was told.

use std::io::Write;
use std::os::unix::net::UnixStream;
use std::rc::Rc;

use remco::host::exchange::{Advance, Exchange, Http};
use remco::host::link::{Link, Received};

const BUDGET: usize = 1000;

/// Two bytes say how the rest is torn; the rest is what the server says.
pub fn run(bytes: &[u8]) {
    let [size, step, answer @ ..] = bytes else { return };
    // More than a head may have, and not so much that the sockets are full.
    let answer = &answer[..answer.len().min(60_000)];
    let whole = got(answer, answer.len().max(1), 0);
    let torn = got(answer, usize::from(*size) + 1, usize::from(*step));
    if let (Some(whole), Some(torn)) = (&whole, &torn) {
        assert_eq!(whole, torn);
    }
    assert_eq!(whole.is_some(), torn.is_some(), "it depends on the pieces whether there is an answer");
}

/// Status, a header and the body of an answer that came to its end.
fn got(answer: &[u8], size: usize, step: usize) -> Option<(u16, Option<String>, Vec<u8>)> {
    let http = Http::default();
    let body = (step % 2 == 1).then_some(&b"question"[..]);
    let method = if body.is_some() { "POST" } else { "GET" };
    let request = http.record(method, "http://h/x", &[], body).expect("it is a valid request");
    let (ours, mut theirs) = UnixStream::pair().expect("there are descriptors");
    let link = Link::over(ours.into(), None).expect("it is a socket");
    let mut exchange = Exchange::new(&http, Rc::new(request), link);
    let mut pieces = Pieces { rest: answer, size, step };
    let mut body = Vec::new();
    let mut gone = false;
    // Each piece, a turn for each budget of the body, and the end.
    for _ in 0..10 + 4 * answer.len() {
        let before = body.len();
        let (waits, ended) = match exchange.head() {
            None => match exchange.advance() {
                Ok(advance) => (advance == Advance::Waiting, false),
                Err(_) => return None,
            },
            Some(_) => match exchange.read(&mut body, BUDGET) {
                Ok(received) => (received == Received::Waiting, received == Received::Ended),
                Err(_) => return None,
            },
        };
        assert!(body.len() - before <= BUDGET + 16 * 1024);
        if ended {
            let (head, link) = exchange.finish();
            let head = head.expect("the body came after it");
            if let Some(mut link) = link {
                // It may serve another request, or the server has said more or gone meanwhile.
                link.is_idle();
            }
            return Some((head.status, head.header("content-type").map(str::to_owned), body));
        }
        if waits {
            match pieces.next() {
                Some(piece) => theirs.write_all(piece).expect("there is room"),
                None if gone => panic!("it waits for a server that has gone"),
                None => {
                    theirs.shutdown(std::net::Shutdown::Write).expect("it is connected");
                    gone = true;
                }
            }
        }
    }
    panic!("it does not end");
}

struct Pieces<'a> {
    rest: &'a [u8],
    size: usize,
    step: usize,
}

impl<'a> Iterator for Pieces<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        let n = (self.size + self.step % 7).min(self.rest.len());
        self.step += usize::from(self.step > 0);
        let (piece, rest) = self.rest.split_at(n);
        self.rest = rest;
        (!piece.is_empty()).then_some(piece)
    }
}
