//! The delay of an update after a change: until the keys have settled, and then a random time. Decides when an update
//! may begin. Does not depend on files and commands, and reads no clock.

use std::time::{Duration, Instant};

use crate::random::Random;

/// The delay of an update after a change. By default there is none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SettlePlan {
    /// The update waits until nothing has changed for this time.
    pub min: Duration,
    /// The update waits at most this time after the first change; at least `min`.
    pub max: Duration,
    /// After that the update waits a random time of at most this.
    pub splay: Duration,
}

/// The changes that no update has rendered yet.
#[derive(Debug)]
pub(super) struct Settle {
    plan: SettlePlan,
    /// `None`: no update waits.
    waiting: Option<Waiting>,
    /// Whether the next update begins without a delay.
    is_urgent: bool,
}

#[derive(Clone, Copy, Debug)]
struct Waiting {
    /// The first and the latest change.
    first: Instant,
    latest: Instant,
    /// The random part of the delay.
    splay: Duration,
}

impl Settle {
    pub(super) fn new(plan: SettlePlan) -> Settle {
        Settle { plan, waiting: None, is_urgent: false }
    }

    /// Something has changed.
    pub(super) fn changed(&mut self, now: Instant, random: &mut Random) {
        if self.is_urgent || self.plan == SettlePlan::default() {
            return;
        }
        match &mut self.waiting {
            Some(waiting) => waiting.latest = now,
            None => {
                let splay = random.between(Duration::ZERO, self.plan.splay);
                self.waiting = Some(Waiting { first: now, latest: now, splay });
            }
        }
    }

    /// An update has to begin at once.
    pub(super) fn skip(&mut self) {
        self.waiting = None;
        self.is_urgent = true;
    }

    /// An update begins.
    pub(super) fn end(&mut self) {
        self.waiting = None;
        self.is_urgent = false;
    }

    /// When the update may begin; `None`: no update waits.
    pub(super) fn due(&self) -> Option<Instant> {
        let Waiting { first, latest, splay } = self.waiting?;
        Some((latest + self.plan.min).min(first + self.plan.max) + splay)
    }

    /// Whether an update still has to wait.
    pub(super) fn waits(&self, now: Instant) -> bool {
        self.due().is_some_and(|at| at > now)
    }
}
