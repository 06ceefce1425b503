//! Decides about the child of a resource: when it is reloaded, stopped and started again. Never touches a process: it
//! takes events and returns effects. `service` decides when a resource starts its child, and when it retries.

use std::time::{Duration, Instant};

use super::{Effect, Fault};
use crate::random::Random;

/// How a child is reloaded when its files have changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReloadBy {
    /// By a signal; its number.
    Signal(i32),
    /// The child is stopped and started again.
    Restart,
}

/// The parts of an `exec` that decisions depend on.
#[derive(Clone, Copy, Debug)]
pub struct ChildPlan {
    /// How the child is reloaded.
    pub reload: ReloadBy,
    /// A reload is delayed by a random time of at most this.
    pub splay: Duration,
}

#[derive(Debug)]
pub(super) struct Child {
    plan: ChildPlan,
    state: State,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// No process runs.
    Down,
    /// [`Effect::Spawn`] is not answered yet.
    Starting,
    Running,
    /// The child runs, and is reloaded at this moment.
    Splaying {
        until: Instant,
    },
    /// The child is ending, and is started again after that.
    Stopping,
}

/// Why a child has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Exit {
    /// It is started again.
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

    /// The files of the child have changed. A child that is about to be reloaded or started reads the newest files
    /// anyway.
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

    /// When the delay of a reload ends.
    pub(super) fn due(&self) -> Option<Instant> {
        match self.state {
            State::Splaying { until } => Some(until),
            State::Down | State::Starting | State::Running | State::Stopping => None,
        }
    }

    /// Reloads the child if the delay is over. Returns whether it was.
    pub(super) fn splayed(&mut self, now: Instant, effects: &mut Vec<Effect>) -> bool {
        let is_over = self.due().is_some_and(|until| until <= now);
        if is_over {
            self.reload_now(effects);
        }
        is_over
    }

    /// The child has ended.
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

    /// Whether a reload is pending or in progress.
    pub(super) fn is_reloading(&self) -> bool {
        match self.state {
            State::Splaying { .. } | State::Stopping | State::Starting => true,
            State::Down | State::Running => false,
        }
    }
}
