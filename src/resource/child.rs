//! Decides about the supervised child of a resource: when it is told to reload, stopped and started again. Never
//! touches a process: it returns effects and is told what came of them. When a resource comes up, and when it is
//! tried again, is `resource`'s.

use std::time::{Duration, Instant};

use super::{Effect, Fault};
use crate::random::Random;

/// What a child is told when its files have changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReloadBy {
    /// The number of a signal.
    Signal(i32),
    /// It is stopped and started again.
    Restart,
}

/// What a child consists of, as far as decisions go.
#[derive(Clone, Copy, Debug)]
pub struct ChildPlan {
    /// What it is told.
    pub reload: ReloadBy,
    /// A reload waits for a random time up to this.
    pub splay: Duration,
}

#[derive(Debug)]
pub(super) struct Child {
    plan: ChildPlan,
    state: State,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Not there.
    Down,
    /// [`Effect::Spawn`] is not answered yet.
    Starting,
    Running,
    /// Running, and to be reloaded then.
    Splaying {
        until: Instant,
    },
    /// Told to end, to be started again.
    Stopping,
}

/// Whether the end of a child was wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Exit {
    /// It is being started again.
    ToRestart,
    ByItself,
}

impl Child {
    pub(super) fn new(plan: ChildPlan) -> Child {
        Child { plan, state: State::Down }
    }

    pub(super) fn spawn(&mut self, effects: &mut Vec<Effect>) {
        self.state = State::Starting;
        effects.push(Effect::Spawn);
    }

    /// The answer to [`Effect::Spawn`].
    pub(super) fn spawned(&mut self, result: &Result<(), Fault>) {
        self.state = match result {
            Ok(()) => State::Running,
            Err(_) => State::Down,
        };
    }

    /// Its files have changed. One that is about to be told, or to be started, will see the newest ones anyway.
    pub(super) fn reload(&mut self, now: Instant, random: &mut Random, effects: &mut Vec<Effect>) {
        match self.state {
            State::Running if self.plan.splay.is_zero() => self.reload_now(effects),
            State::Running => {
                self.state = State::Splaying { until: now + random.between(Duration::ZERO, self.plan.splay) };
            }
            State::Down | State::Starting | State::Splaying { .. } | State::Stopping => {}
        }
    }

    fn reload_now(&mut self, effects: &mut Vec<Effect>) {
        match self.plan.reload {
            ReloadBy::Signal(number) => {
                self.state = State::Running;
                effects.push(Effect::SignalChild(number));
            }
            ReloadBy::Restart => {
                self.state = State::Stopping;
                effects.push(Effect::StopChild);
            }
        }
    }

    /// When [`Child::splayed`] is wanted.
    pub(super) fn due(&self) -> Option<Instant> {
        match self.state {
            State::Splaying { until } => Some(until),
            State::Down | State::Starting | State::Running | State::Stopping => None,
        }
    }

    /// The time has come, perhaps. Tells whether it has.
    pub(super) fn splayed(&mut self, now: Instant, effects: &mut Vec<Effect>) -> bool {
        let is_over = self.due().is_some_and(|until| until <= now);
        if is_over {
            self.reload_now(effects);
        }
        is_over
    }

    /// It has ended.
    pub(super) fn exited(&mut self, effects: &mut Vec<Effect>) -> Exit {
        match self.state {
            State::Stopping => {
                self.spawn(effects);
                Exit::ToRestart
            }
            State::Down | State::Starting | State::Running | State::Splaying { .. } => {
                self.state = State::Down;
                Exit::ByItself
            }
        }
    }

    /// Whether a reload is under way.
    pub(super) fn is_reloading(&self) -> bool {
        match self.state {
            State::Splaying { .. } | State::Stopping | State::Starting => true,
            State::Down | State::Running => false,
        }
    }
}
