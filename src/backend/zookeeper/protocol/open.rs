//! An established session: the requests that have no answer yet, the bytes that are not sent yet, and how long the
//! server has been silent. Sends nothing itself: see `protocol`.

use std::collections::{BTreeSet, VecDeque};
use std::time::{Duration, Instant};

use crate::backend::zookeeper::reads::NodePart;
use crate::backend::zookeeper::wire::Frames;
use crate::store::Bytes;

/// An established session.
pub struct Open {
    pub frames: Frames,
    /// The requests without a reply, the oldest first.
    pub asked: VecDeque<(i32, Pending)>,
    pub number: i32,
    /// A ping or an authentication has no reply yet.
    pub is_probed: bool,
    /// The bytes that are sent at the end of the turn.
    pub unsent: Vec<u8>,
    /// The time from the last request to a ping.
    pub ping_every: Duration,
    pub since: Instant,
    pub sent: Instant,
    /// The time of the last bytes from the server, or of the first request while none was pending.
    pub last_received: Instant,
    /// The requested persistent watches.
    pub watched: BTreeSet<Bytes>,
}

/// A request without a reply.
pub enum Pending {
    Node(Bytes, NodePart),
    Creation(Bytes),
    Watch,
    Sync,
}

impl Open {
    /// Counts up and returns the number of the next request (`xid` in ZooKeeper's protocol): above 0, and 1 again after
    /// the largest one.
    pub fn next_number(&mut self) -> i32 {
        // Negative numbers have special meanings.
        self.number = self.number.checked_add(1).unwrap_or(1);
        self.number
    }

    /// Sends the request with the last number.
    pub fn ask(&mut self, what: Pending, request: &[u8], now: Instant) {
        self.send(request, now);
        self.asked.push_back((self.number, what));
    }

    /// Sends a request whose reply has no number.
    pub fn probe(&mut self, request: &[u8], now: Instant) {
        self.send(request, now);
        self.is_probed = true;
    }

    /// Queues the bytes of a request, and notes `now` as the time of the last one. If no reply is pending, the silence
    /// of the server is counted from `now` on.
    pub fn send(&mut self, request: &[u8], now: Instant) {
        if self.asked.is_empty() && !self.is_probed {
            self.last_received = now;
        }
        self.sent = now;
        self.unsent.extend_from_slice(request);
    }

    /// Whether a reply is pending, also the one to a ping or an authentication.
    pub fn is_asked(&self) -> bool {
        self.is_probed || !self.asked.is_empty()
    }

    /// Whether a reply is pending and the server has sent no byte for at least the time `limit`.
    pub fn is_late(&self, limit: Duration, now: Instant) -> bool {
        self.is_asked() && self.last_received + limit <= now
    }
}
