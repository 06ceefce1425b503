//! Ports for servers of the tests.

use std::hash::{BuildHasher, RandomState};
use std::net::TcpListener;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

/// Below the range that Linux takes the local ports of outgoing connections from (32768 and up): a server that is
/// killed and started again on its port must not find a client of another test there.
const FIRST: u32 = 10_000;
const COUNT: u32 = 20_000;

/// A port on 127.0.0.1 that nobody listens on, and that no other call in this process gets.
pub fn free_port() -> u16 {
    static START: OnceLock<u32> = OnceLock::new();
    static NEXT: AtomicU32 = AtomicU32::new(0);
    // Processes begin at random places, so that two test runs at once rarely meet. Process ids would not do: in
    // separate process namespaces all runs have the same id.
    let start =
        *START.get_or_init(|| u32::try_from(RandomState::new().hash_one(0) % u64::from(COUNT)).unwrap_or_default());
    for _ in 0..COUNT {
        let offset = start.wrapping_add(NEXT.fetch_add(1, Ordering::Relaxed)) % COUNT;
        let port = u16::try_from(FIRST + offset).expect("the range ends below 65536");
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
    panic!("no free port between {FIRST} and {}", FIRST + COUNT);
}
