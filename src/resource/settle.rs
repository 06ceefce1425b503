//! How long an update waits for more changes: until the keys have settled, and then a random time. Says when it may
//! begin. Knows nothing of files and commands, and reads no clock.

use std::time::{Duration, Instant};

use crate::random::Random;

/// How an update is delayed after a change. By default it is not.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SettlePlan {
    /// It waits until nothing has changed for this time.
    pub min: Duration,
    /// It waits at most this time after the first change; not below `min`.
    pub max: Duration,
    /// After that it waits a random time of at most this.
    pub splay: Duration,
}

/// The changes that no update has taken in yet.
#[derive(Debug)]
pub(super) struct Settle {
    plan: SettlePlan,
    /// `None`: no update waits.
    waiting: Option<Waiting>,
    /// The next update does not wait, whatever changes before it begins.
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

    /// An update is wanted at once.
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
