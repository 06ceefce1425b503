//! A link to a server that says anything, in pieces of any size: plain, and where a handshake of TLS is expected.
//! Holds: plain bytes come as they were sent, within the budget; no bytes of a stranger pass for a handshake; both end.

use std::io::Write;
use std::os::unix::net::UnixStream;

#[cfg(feature = "tls")]
use remco::host::link::Stage;
use remco::host::link::{Link, Received};

/// Two bytes say how the rest is torn and what is spoken; the rest is what the server says.
pub fn run(bytes: &[u8]) {
    let [size, budget, said @ ..] = bytes else { return };
    let said = &said[..said.len().min(60_000)];
    plain(said, usize::from(*size) + 1, usize::from(*budget) + 1);
    #[cfg(feature = "tls")]
    secured(said, usize::from(*size) + 1);
}

fn plain(said: &[u8], size: usize, budget: usize) {
    let (ours, mut theirs) = UnixStream::pair().expect("there are descriptors");
    let mut link = Link::over(ours.into(), None).expect("it is a socket");
    let mut got = Vec::new();
    for piece in said.chunks(size) {
        theirs.write_all(piece).expect("there is room");
        loop {
            let before = got.len();
            match link.receive(&mut got, budget).expect("it is not broken") {
                Received::More => assert!(got.len() - before <= budget),
                Received::Waiting => break,
                Received::Ended => panic!("the server is still there"),
            }
        }
    }
    assert!(got == said);
    assert!(link.is_idle());
    drop(theirs);
    assert_eq!(link.receive(&mut got, budget), Ok(Received::Ended));
}

#[cfg(feature = "tls")]
fn secured(said: &[u8], size: usize) {
    use remco::config;
    use remco::host::tls::Tls;

    thread_local! {
        /// The authorities are read once.
        static TLS: Tls = Tls::new(config::Tls::default());
    }
    let Ok(session) = TLS.with(|tls| tls.secure("localhost")) else { return };
    let (ours, mut theirs) = UnixStream::pair().expect("there are descriptors");
    let mut link = Link::over(ours.into(), Some(session)).expect("it is a socket");
    let mut pieces = said.chunks(size);
    let mut theirs = Some(&mut theirs);
    for _ in 0..10 + 2 * said.len() {
        if link.turn().is_err() {
            return;
        }
        assert_eq!(link.stage(), Stage::Securing, "a stranger was believed");
        assert_eq!(link.receive(&mut Vec::new(), 100), Ok(Received::Waiting));
        match (pieces.next(), &mut theirs) {
            (Some(piece), Some(theirs)) => theirs.write_all(piece).expect("there is room"),
            (None, Some(gone)) => {
                gone.shutdown(std::net::Shutdown::Both).expect("it is connected");
                theirs = None;
            }
            (_, None) => panic!("it waits for a server that has gone"),
        }
    }
    panic!("it does not end");
}
