//! The steps that follow the files of a resource: start_cmd, the start of the child, and their restart after a
//! failure. `child` decides about its reload. Starts nothing itself.

use std::time::{Duration, Instant};

use super::child::Exit;
use super::{Effect, Fault, Job, Outcome, Resource, Round, Step, Subject, Update, Verdict};
use crate::config::Mode;
use crate::log::{Level, Line};

/// The progress of the steps after the files: start_cmd and the child.
#[derive(Clone, Copy, Debug)]
pub(super) enum Service {
    /// The files were never all in place.
    New,
    /// The files are in place, but start_cmd failed or the child could not be started.
    Failed {
        restart_at: Option<Instant>,
    },
    Up,
    /// The child has ended, or could not be started again. The files are still updated.
    Down {
        restart_at: Option<Instant>,
    },
}

impl Resource {
    /// start_cmd and the child follow the first round in which every file is in place. If a template fails in a later
    /// round, its old file stays, and the service can still be started.
    pub(super) fn bring_up(&mut self, round: Round, now: Instant, effects: &mut Vec<Effect>) -> Update {
        let misses_file = matches!(round.outcome, Outcome::RolledBack | Outcome::Incomplete);
        let incomplete = matches!(self.service, Service::New) && misses_file;
        if incomplete || self.service.restart_at().is_some() {
            self.finish(round, now, effects)
        } else if self.plan.start {
            effects.push(Effect::Run(Job::Start));
            Update::Working(round, Step::Running(Job::Start))
        } else {
            self.start_child(round, now, effects)
        }
    }

    pub(super) fn start_child(&mut self, round: Round, now: Instant, effects: &mut Vec<Effect>) -> Update {
        match &mut self.child {
            Some(child) => {
                child.spawn(effects);
                Update::Working(round, Step::Spawning)
            }
            None => {
                self.service = Service::Up;
                self.reload_resource_if_pending(round, now, effects)
            }
        }
    }

    /// The child was started, for the first time or again, or could not be started.
    pub(super) fn spawned(&mut self, result: Result<(), Fault>, now: Instant, effects: &mut Vec<Effect>) {
        let Some(child) = &mut self.child else { return };
        child.spawned(&result);
        match result {
            Ok(()) => {
                self.service = Service::Up;
                // The child has read the newest files.
                self.reloads.child = false;
                self.recovered(Subject::Child, effects);
            }
            Err(fault) => self.not_started(Subject::Child, fault, now, effects),
        }
        match std::mem::replace(&mut self.update, Update::Idle) {
            Update::Working(round, Step::Spawning) => {
                self.update = match self.service {
                    Service::Up => self.reload_resource_if_pending(round, now, effects),
                    Service::New | Service::Failed { .. } | Service::Down { .. } => self.finish(round, now, effects),
                };
            }
            // The start was the child's reload.
            update @ (Update::Idle
            | Update::Judging
            | Update::Rendering
            | Update::Working(..)
            | Update::Committing(..)
            | Update::Undoing(..)) => {
                self.update = update;
                self.child_has_reloaded(now, effects);
            }
        }
        self.begin_if_idle(now, effects);
    }

    pub(super) fn child_exited(&mut self, how: String, status: u8, now: Instant, effects: &mut Vec<Effect>) {
        let Some(child) = &mut self.child else { return };
        match child.exited(effects) {
            Exit::ToRestart => {}
            Exit::ByItself => {
                effects.push(Effect::Log(Line::new(Level::Error, "child has ended").with("error", how)));
                if !self.faults.any() {
                    self.verdict_in_one_shot(Verdict::ChildEnded { status });
                }
                let delay = self.restart_later(now);
                effects.extend(delay.map(restarting));
            }
        }
    }

    /// start_cmd failed, or the child could not be started.
    pub(super) fn not_started(&mut self, subject: Subject, fault: Fault, now: Instant, effects: &mut Vec<Effect>) {
        let is_new = self.failed(subject, fault, effects);
        let delay = self.restart_later(now);
        effects.extend(delay.filter(|_| is_new).map(restarting));
    }

    /// Restarts everything that is started with the resource, after a random delay that differs from host to host.
    fn restart_later(&mut self, now: Instant) -> Option<Duration> {
        self.verdict_in_one_shot(Verdict::Failed);
        let delay = Duration::from_secs(self.random.below(RESTART_SECONDS) as u64);
        let restart_at = (self.plan.mode == Mode::Watch).then_some(now + delay);
        self.service = match self.service {
            Service::New | Service::Failed { .. } => Service::Failed { restart_at },
            Service::Up | Service::Down { .. } => Service::Down { restart_at },
        };
        restart_at.map(|_| delay)
    }

    /// start_cmd starts the service with its first files. The programs that check_cmd needs may only exist after that.
    pub(super) fn start_stands_in_for_checks(&self) -> bool {
        self.plan.start && matches!(self.service, Service::New)
    }

    /// No service runs yet that could be reloaded.
    pub(super) fn start_stands_in_for_reloads(&self) -> bool {
        self.plan.start && !self.is_up()
    }
}

impl Service {
    pub(super) fn restart_at(self) -> Option<Instant> {
        match self {
            Service::Failed { restart_at } | Service::Down { restart_at } => restart_at,
            Service::New | Service::Up => None,
        }
    }

    /// Ends a delay that has passed. Returns whether there was one.
    pub(super) fn take_restart(&mut self, now: Instant) -> bool {
        match self {
            Service::Failed { restart_at } | Service::Down { restart_at } => {
                restart_at.take_if(|until| *until <= now).is_some()
            }
            Service::New | Service::Up => false,
        }
    }
}

/// Go remco restarts a resource after 0 to 29 seconds.
const RESTART_SECONDS: usize = 30;

fn restarting(delay: Duration) -> Effect {
    let line = Line::new(Level::Error, "resource execution failed, restarting after delay");
    Effect::Log(line.with("restartDelay", delay.as_secs().to_string()))
}
