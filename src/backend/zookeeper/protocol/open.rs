//! An established session: the requests that have no answer yet, the bytes that are not sent yet, and how long the
//! server has been silent. Sends nothing itself: see `protocol`.

use std::collections::{BTreeSet, VecDeque};
use std::time::{Duration, Instant};

use crate::backend::zookeeper::reads::NodePart;
use crate::backend::zookeeper::wire::Frames;
use crate::store::Bytes;

/// A session that stands.
pub struct Open {
    pub frames: Frames,
    /// The requests that are not answered yet, the oldest first.
    pub asked: VecDeque<(i32, Pending)>,
    pub number: i32,
    /// A ping or an authentication is not answered yet.
    pub is_probed: bool,
    /// Bytes that go out together.
    pub unsent: Vec<u8>,
    /// How long after the last request a ping is due.
    pub ping_every: Duration,
    pub since: Instant,
    pub sent: Instant,
    /// The time of the last bytes from the server, or of the first request after it had answered all others.
    pub last_received: Instant,
    /// The requested persistent watches.
    pub watched: BTreeSet<Bytes>,
}

/// A request that is not answered yet.
pub enum Pending {
    Node(Bytes, NodePart),
    Creation(Bytes),
    Watch,
    Sync,
}

impl Open {
    pub fn next_number(&mut self) -> i32 {
        // Numbers below 0 have a meaning of their own.
        self.number = self.number.checked_add(1).unwrap_or(1);
        self.number
    }

    /// Sends a request, whose number was the last one.
    pub fn ask(&mut self, what: Pending, request: &[u8], now: Instant) {
        self.send(request, now);
        self.asked.push_back((self.number, what));
    }

    /// Sends what has an answer without a number of its own.
    pub fn probe(&mut self, request: &[u8], now: Instant) {
        self.send(request, now);
        self.is_probed = true;
    }

    pub fn send(&mut self, request: &[u8], now: Instant) {
        if self.asked.is_empty() && !self.is_probed {
            self.last_received = now;
        }
        self.sent = now;
        self.unsent.extend_from_slice(request);
    }

    pub fn is_asked(&self) -> bool {
        self.is_probed || !self.asked.is_empty()
    }

    pub fn is_late(&self, limit: Duration, now: Instant) -> bool {
        self.is_asked() && self.last_received + limit <= now
    }
}
