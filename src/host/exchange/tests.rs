//! The behaviour of ureq that the exchange depends on (its version is pinned for that), and exchanges over a pair of
//! sockets in one thread. `tests/client.rs` has servers of every kind.

use std::io::Write;
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use ureq::http::Request;
use ureq::{AsSendBody, SendBody};

use super::*;

/// An exchange of a GET, and the server's end.
fn exchange() -> (Exchange, UnixStream) {
    let http = Http::default();
    let request = http.record("GET", "http://h/x", &[], None).unwrap();
    let (ours, theirs) = UnixStream::pair().unwrap();
    theirs.set_nonblocking(true).unwrap();
    (Exchange::new(&http, Rc::new(request), Link::over(ours.into(), None).unwrap()), theirs)
}

#[test]
fn a_request_is_written_down_as_it_is_sent() {
    let http = Http::default();
    let record = |method, url, headers: &[(&str, &str)], body| http.record(method, url, headers, body).unwrap();
    let recorded = record("POST", "https://[::1]:8443/x?y=z", &[("X-A", "b")], Some(b"body"));
    let text = String::from_utf8(recorded.bytes.to_vec()).unwrap();
    assert!(text.starts_with("POST /x?y=z HTTP/1.1\r\n"), "{text}");
    for line in ["host: [::1]:8443", "content-length: 4", "x-a: b", "user-agent: remco/"] {
        assert!(text.contains(&format!("\r\n{line}")), "{text}");
    }
    assert!(text.ends_with("\r\n\r\nbody"));
    assert_eq!((recorded.tls, &*recorded.host, recorded.port), (true, "::1", 8443));
    let recorded = record("GET", "http://h", &[], None);
    assert_eq!((recorded.tls, &*recorded.host, recorded.port), (false, "h", 80));
    assert!(recorded.bytes.starts_with(b"GET / HTTP/1.1\r\n") && recorded.bytes.ends_with(b"\r\n\r\n"));
}

#[test]
fn the_user_of_a_url_is_decoded() {
    let check = |url, headers: &[(&str, &str)], want: &str| {
        let recorded = Http::default().record("GET", url, headers, None).unwrap();
        let text = String::from_utf8(recorded.bytes.to_vec()).unwrap().to_ascii_lowercase();
        let lines: Vec<&str> = text.lines().filter(|line| line.starts_with("authorization")).collect();
        assert_eq!(lines, [format!("authorization: {want}").to_ascii_lowercase()]);
    };
    check("http://u:pw@h/x", &[], "Basic dTpwdw==");
    check("http://u:p%40w%2F@h/x", &[], "Basic dTpwQHcv");
    check("http://u%40:p@h/%41", &[], "Basic dUA6cA==");
    check("http://u%40@h/x", &[], "Basic dUA6");
    check("http://u:%ff@h/x", &[], "Basic dTr/");
    check("http://u:p%40w@h/x", &[("Authorization", "Bearer 1")], "Bearer 1");
}

/// Bytes that one run has read are missing in the next one.
#[test]
fn the_socket_is_not_read_by_ureq_before_the_head() {
    let (mut exchange, mut peer) = exchange();
    assert_eq!(exchange.advance(), Ok(Advance::Waiting));
    assert!(exchange.is_sent() && exchange.is_unanswered());
    peer.write_all(b"HTTP/1.1 100 Continue\r\n\r\n").unwrap();
    // ureq runs and needs more bytes.
    assert_eq!(exchange.advance(), Ok(Advance::Waiting));
    assert!(!exchange.is_unanswered() && exchange.head().is_none());
    assert_eq!(lock(&exchange.wire).received, b"HTTP/1.1 100 Continue\r\n\r\n");
    peer.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\nX-Y: z\r\n\r\nbo").unwrap();
    assert_eq!(exchange.advance(), Ok(Advance::Head));
    let head = exchange.head().unwrap();
    assert_eq!((head.status, head.header("x-y"), head.header("none")), (200, Some("z"), None));
    let mut body = Vec::new();
    assert_eq!(exchange.read(&mut body, 100), Ok(Received::Waiting));
    peer.write_all(b"dy").unwrap();
    assert_eq!(exchange.read(&mut body, 100), Ok(Received::Ended));
    assert_eq!(body, b"body");
    let (head, link) = exchange.finish();
    assert!(head.is_some_and(|head| head.status == 200) && link.is_some_and(|mut link| link.is_idle()));
}

/// The next call finds it closed, and can tell that from a connection that there never was.
#[test]
fn a_link_that_ends_with_the_answer_is_given_back() {
    let (mut exchange, mut peer) = exchange();
    assert_eq!(exchange.advance(), Ok(Advance::Waiting));
    assert!(exchange.is_sent());
    peer.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").unwrap();
    drop(peer);
    while exchange.advance() != Ok(Advance::Head) {}
    assert_eq!(exchange.read(&mut Vec::new(), 100), Ok(Received::Ended));
    let (_, link) = exchange.finish();
    assert!(!link.expect("HTTP allows another exchange").is_idle());
}

#[test]
fn ureq_runs_for_a_head_and_not_for_crumbs_of_it() {
    let (mut exchange, mut peer) = exchange();
    for byte in b"HTTP/1.1 200 OK\r\nX-Y: 1\r\nX-Z: 2\r\nContent-Length: 0\r\n\r" {
        peer.write_all(&[*byte]).unwrap();
        let runs = lock(&exchange.wire).replayed;
        assert_eq!(exchange.advance(), Ok(Advance::Waiting));
        // Before the head is complete only the first line is checked, so that other protocols are detected early.
        assert!(lock(&exchange.wire).replayed == runs || *byte == b'\n' && runs == 0);
    }
    peer.write_all(b"\n").unwrap();
    assert_eq!(exchange.advance(), Ok(Advance::Head));
    assert_eq!(exchange.read(&mut Vec::new(), 1), Ok(Received::Ended));
}

#[test]
fn room_that_was_made_for_a_body_is_taken_back() {
    let (mut exchange, mut peer) = exchange();
    peer.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhel").unwrap();
    while exchange.advance() != Ok(Advance::Head) {}
    let mut body = b"before ".to_vec();
    assert_eq!(exchange.read(&mut body, 100), Ok(Received::Waiting));
    assert_eq!(body, b"before hel");
    drop(peer);
    assert_eq!(exchange.read(&mut body, 100), Err(Cause::Closed));
    assert_eq!(body, b"before hel");
}

/// Takes `room` bytes, then fails with `WouldBlock`.
#[derive(Clone, Debug, Default)]
struct Bounded {
    room: usize,
    taken: Arc<Mutex<Vec<u8>>>,
    connects: Arc<AtomicUsize>,
    dropped: Arc<AtomicUsize>,
    asked_open: Arc<AtomicUsize>,
}

#[derive(Debug)]
struct BoundedEnd(Bounded, LazyBuffers);

impl Drop for BoundedEnd {
    fn drop(&mut self) {
        self.0.dropped.fetch_add(1, Relaxed);
    }
}

impl Connector<()> for Bounded {
    type Out = BoundedEnd;

    fn connect(&self, _: &ConnectionDetails, _: Option<()>) -> Result<Option<BoundedEnd>, ureq::Error> {
        self.connects.fetch_add(1, Relaxed);
        lock(&self.taken).clear();
        Ok(Some(BoundedEnd(self.clone(), LazyBuffers::new(BUFFER, BUFFER))))
    }
}

impl Transport for BoundedEnd {
    fn buffers(&mut self) -> &mut dyn Buffers {
        &mut self.1
    }

    fn transmit_output(&mut self, amount: usize, _: NextTimeout) -> Result<(), ureq::Error> {
        let mut taken = lock(&self.0.taken);
        taken.extend_from_slice(&self.1.output()[..amount]);
        match taken.len() > self.0.room {
            true => Err(io::Error::from(ErrorKind::WouldBlock).into()),
            false => Ok(()),
        }
    }

    fn await_input(&mut self, timeout: NextTimeout) -> Result<bool, ureq::Error> {
        match timeout.after.is_not_happening() {
            true => Err(io::Error::from(ErrorKind::WouldBlock).into()),
            // Like a transport that would block.
            false => Err(ureq::Error::Timeout(timeout.reason)),
        }
    }

    fn is_open(&mut self) -> bool {
        self.0.asked_open.fetch_add(1, Relaxed);
        true
    }
}

/// The bytes of a POST that ureq sends before it gets `WouldBlock`.
fn run(bounded: &Bounded, headers: &[(&str, &str)], body: impl AsSendBody, wait: Option<Duration>) -> Vec<u8> {
    let config = Agent::config_builder().timeout_await_100(wait).build();
    let agent = Agent::with_parts(config, bounded.clone(), NoLookup);
    let mut request = Request::builder().method("POST").uri("http://h/x");
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    match agent.run(request.body(body).unwrap()) {
        Err(ureq::Error::Io(e)) if e.kind() == ErrorKind::WouldBlock => lock(&bounded.taken).clone(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn would_block_ends_a_run_and_nothing_else_happens() {
    let large = vec![b'x'; 1_000_000];
    // While sending the head, the body, and while the answer is awaited.
    for room in [0, 100_000, usize::MAX] {
        let bounded = Bounded { room, ..Bounded::default() };
        for times in 1..=3 {
            run(&bounded, &[], &large, None);
            let counts = [&bounded.connects, &bounded.dropped, &bounded.asked_open].map(|count| count.load(Relaxed));
            assert_eq!(counts, [times, times, 0]);
        }
    }
}

#[test]
fn two_runs_send_the_same() {
    let bounded = Bounded { room: usize::MAX, ..Bounded::default() };
    let large: Vec<u8> = (0..100_000_u32).map(|n| (n % 251) as u8).collect();
    let headers = [("X-B", "1"), ("X-A", "2"), ("X-B", "3")];
    let plain = run(&bounded, &headers, &large, None);
    assert!(plain.ends_with(&large));
    assert_eq!(run(&bounded, &headers, &large, None), plain);
    let chunked = || run(&bounded, &[("Transfer-Encoding", "chunked")], SendBody::from_reader(&mut &large[..]), None);
    assert!(chunked().len() > large.len());
    assert_eq!(chunked(), chunked());
}

/// A request with `Expect: 100-continue`: without a limit ureq would wait for the answer for ever.
#[test]
fn a_limit_of_zero_is_what_makes_ureq_send_a_body_unasked() {
    let bounded = Bounded { room: usize::MAX, ..Bounded::default() };
    let expect = [("Expect", "100-continue")];
    assert!(run(&bounded, &expect, b"body", Some(Duration::ZERO)).ends_with(b"\r\n\r\nbody"));
    assert!(run(&bounded, &expect, b"body", None).ends_with(b"\r\n\r\n"));
}
