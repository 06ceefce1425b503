//! Links over real sockets and pipes of this process: one thread, so that the order of events is fixed.
//! `tests/client.rs` has TLS sessions with a real peer.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::net::{UnixListener, UnixStream};
use std::time::Instant;

use super::*;
use crate::host::files::tests::Folder;
use crate::host::wait;

/// Only a failing test uses up this time.
const LONG: Duration = Duration::from_secs(60);

fn wait_for(link: &Link) {
    let mut interests = Vec::new();
    link.interests(&mut interests);
    assert!(wait::ready(&interests, Some(Instant::now() + LONG)).contains(&true), "nothing is ready");
}

/// A link and the other end of it.
fn tcp() -> (Link, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut link = Link::tcp(listener.local_addr().unwrap(), None).unwrap();
    let (peer, _) = listener.accept().unwrap();
    while link.stage() != Stage::Open {
        wait_for(&link);
        link.turn().unwrap();
    }
    (link, peer)
}

fn unix() -> (Link, UnixStream) {
    let (ours, theirs) = UnixStream::pair().unwrap();
    (Link::over(ours.into(), None).unwrap(), theirs)
}

/// All bytes until the end, and the end.
fn rest(link: &mut Link) -> (Vec<u8>, Result<(), Cause>) {
    let mut all = Vec::new();
    loop {
        match link.receive(&mut all, 1000) {
            Ok(Received::Waiting) => wait_for(link),
            Ok(Received::More) => {}
            Ok(Received::Ended) => return (all, Ok(())),
            Err(cause) => return (all, Err(cause)),
        }
    }
}

#[test]
fn bytes_go_both_ways_and_a_budget_is_kept() {
    let (mut link, mut peer) = tcp();
    assert_eq!(link.receive(&mut Vec::new(), 10), Ok(Received::Waiting));
    link.send(b"question").unwrap();
    let mut got = [0; 8];
    peer.read_exact(&mut got).unwrap();
    assert_eq!(&got, b"question");
    peer.write_all(b"an answer").unwrap();
    wait_for(&link);
    let mut received = b"before ".to_vec();
    assert_eq!(link.receive(&mut received, 3), Ok(Received::More));
    assert_eq!(received, b"before an ");
    assert_eq!(link.receive(&mut received, 0), Ok(Received::More));
    assert_eq!(link.receive(&mut received, 100), Ok(Received::Waiting));
    assert_eq!(received, b"before an answer");
    drop(peer);
    assert_eq!(rest(&mut link), (Vec::new(), Ok(())));
    assert!(link.is_over());
    assert_eq!(link.receive(&mut received, 100), Ok(Received::Ended));
}

#[test]
fn a_connection_is_open_when_it_has_a_peer() {
    // The queue takes one connection; the next one is established when that one is accepted.
    let socket = net::socket(AddressFamily::INET, SocketType::STREAM, None).unwrap();
    net::bind(&socket, &SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
    net::listen(&socket, 0).unwrap();
    let listener = TcpListener::from(socket);
    let address = listener.local_addr().unwrap();
    let first = TcpStream::connect(address).unwrap();
    let mut link = Link::tcp(address, None).unwrap();
    link.send(b"early").unwrap();
    // The socket has no error, but is not connected.
    link.turn().unwrap();
    assert_eq!((link.stage(), link.wants(), link.unsent()), (Stage::Connecting, (false, true), 5));
    assert_eq!(link.receive(&mut Vec::new(), 10), Ok(Received::Waiting));
    assert!(!link.is_idle());
    drop((listener.accept().unwrap(), first));
    while link.stage() == Stage::Connecting {
        wait_for(&link);
        link.turn().unwrap();
    }
    let mut got = [0; 5];
    listener.accept().unwrap().0.read_exact(&mut got).unwrap();
    assert_eq!(&got, b"early");
}

#[test]
fn a_dead_peer_is_noticed_within_25_seconds() {
    let (link, _peer) = tcp();
    let Ends::Socket(socket) = &*link.ends else { panic!("a socket") };
    assert!(sockopt::socket_keepalive(socket).unwrap() && sockopt::tcp_nodelay(socket).unwrap());
    let idle = sockopt::tcp_keepidle(socket).unwrap() + sockopt::tcp_keepintvl(socket).unwrap() * 3;
    assert_eq!((idle, sockopt::tcp_keepcnt(socket).unwrap()), (Duration::from_secs(25), 3));
    assert_eq!(sockopt::tcp_user_timeout(socket).unwrap(), 25_000);
}

/// The kernel reports a reset once, here to the write. After that the socket seems to have ended in order.
#[test]
fn a_reset_is_remembered_and_comes_after_what_was_received() {
    let (mut link, mut peer) = tcp();
    peer.write_all(b"an answer").unwrap();
    link.send(b"unread").unwrap();
    // With data unread, closing resets the connection.
    drop(peer);
    let mut all = Vec::new();
    while link.broken.is_none() {
        link.send(b"more").unwrap();
    }
    assert_eq!(link.write(b"more"), 0);
    assert!(!link.wants().1, "there is no use in waiting for room");
    let end = loop {
        match link.receive(&mut all, 100) {
            Ok(Received::Waiting | Received::More) => {}
            end => break end,
        }
    };
    assert_eq!((&*all, end), (&b"an answer"[..], Err(Cause::Closed)));
    for _ in 0..3 {
        assert_eq!(link.receive(&mut all, 100), Err(Cause::Closed));
    }
    assert!(link.is_over() && !link.is_idle());
}

#[test]
fn what_waits_to_be_sent_has_a_limit_and_goes_out_when_there_is_room() {
    let (mut link, mut peer) = unix();
    let piece = vec![b'x'; 1 << 20];
    let mut given = 0;
    let error = loop {
        match link.send(&piece) {
            Ok(()) => given += piece.len(),
            Err(cause) => break cause.to_string(),
        }
    };
    assert!(error.starts_with("what is sent is not taken: "), "{error}");
    assert!(given > LARGEST_QUEUE - piece.len() && link.unsent() <= LARGEST_QUEUE);
    assert_eq!(link.wants(), (true, true));
    let mut taken = 0;
    let mut buffer = vec![0; 1 << 20];
    while taken < given {
        taken += peer.read(&mut buffer).unwrap();
        link.turn().unwrap();
    }
    assert_eq!((link.unsent(), link.wants()), (0, (true, false)));
    assert_eq!(link.queue.capacity(), 0, "the memory is given back");
}

#[test]
fn a_turn_ends_whatever_arrives() {
    let (mut link, mut peer) = unix();
    // Each of them is one read.
    let mut all = Vec::new();
    for _ in 0..3 * MOST_CALLS {
        peer.write_all(b"x").unwrap();
    }
    peer.write_all(&vec![b'y'; 4 * PIECE]).unwrap();
    assert_eq!(link.receive(&mut all, 100), Ok(Received::More));
    assert!(all.len() <= 100);
    while link.receive(&mut all, usize::MAX).unwrap() == Received::More {}
    assert_eq!(all.len(), 3 * MOST_CALLS + 4 * PIECE);
}

#[test]
fn an_idle_link_is_silent_and_open() {
    let (mut link, mut peer) = tcp();
    assert!(link.is_idle() && link.is_idle());
    peer.write_all(b"!").unwrap();
    wait_for(&link);
    assert!(!link.is_idle());
    let (mut link, peer) = tcp();
    drop(peer);
    wait_for(&link);
    assert!(!link.is_idle());
}

#[test]
fn a_unix_socket_is_connected_at_once_or_not_at_all() {
    let folder = Folder::new();
    let path = folder.path("socket");
    assert_eq!(Link::unix(&path).unwrap_err().to_string(), "no such file or directory");
    let listener = UnixListener::bind(&path).unwrap();
    let mut link = Link::unix(&path).unwrap();
    link.send(b"hello").unwrap();
    let (mut peer, _) = listener.accept().unwrap();
    let mut got = [0; 5];
    peer.read_exact(&mut got).unwrap();
    drop(peer);
    assert_eq!(rest(&mut link), (Vec::new(), Ok(())));
    drop(listener);
    assert_eq!(Link::unix(&path).unwrap_err().to_string(), "connection refused");
}

#[test]
fn pipes_are_two_descriptors() {
    let (mut reader, ours_out) = std::io::pipe().unwrap();
    let (ours_in, mut writer) = std::io::pipe().unwrap();
    let mut link = Link::pipes(ours_in.into(), ours_out.into()).unwrap();
    let mut interests = Vec::new();
    link.interests(&mut interests);
    assert_eq!(interests.len(), 1, "reading");
    drop(interests);
    link.send(&vec![b'x'; 100_000]).unwrap();
    let mut interests = Vec::new();
    link.interests(&mut interests);
    assert_eq!(interests.iter().map(|one| (one.read, one.write)).collect::<Vec<_>>(), [(true, false), (false, true)]);
    drop(interests);
    let (mut taken, mut buffer) = (0, vec![0; 100_000]);
    while taken < 100_000 {
        taken += reader.read(&mut buffer).unwrap();
        link.turn().unwrap();
    }
    writer.write_all(b"answer").unwrap();
    drop((reader, writer));
    // A write to a closed pipe is an error and no signal, and the bytes before the end come first.
    link.send(b"x").unwrap();
    assert_eq!(rest(&mut link), (b"answer".to_vec(), Err(Cause::Closed)));
}

/// ureq takes these kinds for the end of a body, which would look whole.
#[test]
fn no_cause_has_a_kind_of_its_own() {
    for kind in [ErrorKind::ConnectionReset, ErrorKind::ConnectionAborted, ErrorKind::UnexpectedEof] {
        let cause = Cause::of_io(&kind.into());
        assert_eq!(cause, Cause::Closed);
        assert_eq!(cause.clone().into_io().kind(), ErrorKind::Other);
        assert_eq!(Cause::of_io(&cause.into_io()), Cause::Closed);
    }
    assert_eq!(Cause::of_io(&Errno::TIMEDOUT.into()), Cause::Other("connection timed out".into()));
}

/// A server that has gone ends the handshake, with any error of the kernel.
#[test]
#[cfg(feature = "tls")]
fn a_handshake_that_is_cut_has_its_own_words() {
    let want = Err(Cause::Other("connection closed by the server before TLS was set up: does it speak TLS?".into()));
    let tls = crate::host::tls::Tls::new(crate::config::Tls::default());
    for resets in [false, true] {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let session = tls.secure("localhost").unwrap();
        let mut link = Link::tcp(listener.local_addr().unwrap(), Some(session)).unwrap();
        let (peer, _) = listener.accept().unwrap();
        if resets {
            sockopt::set_socket_linger(&peer, Some(Duration::ZERO)).unwrap();
        }
        drop(peer);
        let end = loop {
            wait_for(&link);
            match link.turn() {
                Ok(()) => assert_ne!(link.stage(), Stage::Open),
                end => break end,
            }
        };
        assert!(end == want || end == Err(Cause::Closed), "{end:?}");
    }
}

/// Before the loop has checked whether the connection is established.
#[cfg(feature = "tls")]
#[test]
fn a_connection_that_is_reset_at_once_was_to_speak_tls() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let tls = crate::host::tls::Tls::new(crate::config::Tls::default());
    let mut link = Link::tcp(listener.local_addr().unwrap(), Some(tls.secure("localhost").unwrap())).unwrap();
    let (peer, _) = listener.accept().unwrap();
    sockopt::set_socket_linger(&peer, Some(Duration::ZERO)).unwrap();
    drop(peer);
    let words = "connection closed by the server before TLS was set up: does it speak TLS?";
    assert_eq!(link.turn(), Err(Cause::Other(words.to_owned())));
}
