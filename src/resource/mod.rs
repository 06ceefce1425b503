//! Decides what one resource does next: when to render, what to stage, check, install and reload, when to start the
//! child, and when to retry. Never touches files, processes or the clock and never logs: it takes events and returns
//! effects.

mod child;
mod commit;
mod event;
mod fault;
mod guard;
mod reloads;
mod retry;
mod rollback;
mod service;
mod settle;

use std::time::Instant;

use crate::config::Mode;
use crate::log::{Level, Line};
use crate::random::Random;
use child::Child;
use commit::Commit;
use fault::{Faults, Subject};
use reloads::Reloads;
use retry::{Retry, trying_again};
use rollback::{Cause, Rollback, Undo};
use service::Service;
use settle::Settle;

pub use child::{ChildPlan, ReloadBy};
pub use event::{Effect, Event, Fault, Job, Plan, Rendering, TemplatePlan, Verdict};
pub use guard::Census;
pub use settle::SettlePlan;

/// The state of one `[[resource]]` at run time. `config::Resource` is what the user wrote.
#[derive(Debug)]
pub struct Resource {
    plan: Plan,
    /// For each backend: whether the store has its keys.
    loaded: Vec<bool>,
    update: Update,
    /// New keys arrived during an update. One flag is enough: the next update renders the newest store.
    pending: bool,
    /// The delay of a pending update.
    settle: Settle,
    /// Whether an update has begun. The first update waits for nothing but the keys.
    has_begun: bool,
    /// Whether the guard is overridden for the next update.
    overrides_guard: bool,
    service: Service,
    /// `None`: there is no exec.
    child: Option<Child>,
    reloads: Reloads,
    rollback: Rollback,
    retry: Retry,
    random: Random,
    faults: Faults,
    /// How the one round of a one-shot run ended.
    verdict: Option<Verdict>,
    /// An update has succeeded since [`Resource::take_success`] was called.
    has_succeeded: bool,
}

#[derive(Debug)]
enum Update {
    Idle,
    Judging,
    Rendering,
    Working(Round, Step),
    /// The files of the round are replaced together.
    Committing(Round, Commit),
    /// A reload has failed, and files are put back.
    Undoing(Round, Undo),
}

/// One pass over the templates.
#[derive(Debug)]
struct Round {
    renderings: Vec<Rendering>,
    outcome: Outcome,
}

/// The worst outcome of a round so far.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Outcome {
    Good,
    /// A result is not in place because its reload failed. It is not tried again before something changes.
    RolledBack,
    /// A reload command failed. All files are in place.
    ReloadFailed,
    /// A template is not in place.
    Incomplete,
    /// The guard has refused the keys. Nothing was rendered, and no command of the update runs.
    Refused,
}

/// The effect that the round waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    Staging(usize),
    /// The old file gets a second name, to be put back.
    Keeping(usize),
    Installing(usize),
    Running(Job),
    /// The start of the child, except as a reload by restart.
    Spawning,
}

impl Resource {
    /// `seed` spreads the restarts of many hosts in time; any number will do.
    pub fn new(plan: Plan, seed: u64) -> Resource {
        Resource {
            loaded: vec![false; plan.backends.len()],
            update: Update::Idle,
            pending: false,
            settle: Settle::new(match plan.mode {
                Mode::Watch => plan.settle,
                Mode::OneShot => SettlePlan::default(),
            }),
            has_begun: false,
            overrides_guard: false,
            service: Service::New,
            child: plan.child.map(Child::new),
            reloads: Reloads { templates: vec![false; plan.templates.len()], child: false, resource: false },
            rollback: Rollback::new(plan.templates.len()),
            retry: Retry::default(),
            random: Random::new(seed),
            faults: Faults::default(),
            verdict: None,
            has_succeeded: false,
            plan,
        }
    }

    /// Overrides the guard for the next update.
    pub fn override_guard(&mut self) {
        self.overrides_guard = true;
    }

    /// A replaced resource may have used up the override.
    pub fn inherit_override(&mut self, before: &Resource) {
        self.overrides_guard &= before.overrides_guard;
    }

    /// Whether an update has succeeded since the last call of [`Resource::take_success`].
    pub fn has_succeeded(&self) -> bool {
        self.has_succeeded
    }

    /// Whether an update has succeeded since the last call: all files are in place, and all commands succeeded.
    pub fn take_success(&mut self) -> bool {
        std::mem::take(&mut self.has_succeeded)
    }

    /// Whether no update is under way.
    pub fn is_idle(&self) -> bool {
        matches!(self.update, Update::Idle)
    }

    /// When [`Event::Due`] is wanted.
    pub fn due(&self) -> Option<Instant> {
        let child = self.child.as_ref().and_then(Child::due);
        match self.update {
            Update::Idle => {
                let all = [child, self.retry.at, self.service.restart_at(), self.settle.due()];
                all.into_iter().flatten().min()
            }
            Update::Judging
            | Update::Rendering
            | Update::Working(..)
            | Update::Committing(..)
            | Update::Undoing(..) => child,
        }
    }

    /// How a one-shot run ended; `None`: it has not ended.
    pub fn verdict(&self) -> Option<Verdict> {
        self.verdict
    }

    /// Whether everything was in place at least once.
    pub fn has_started(&self) -> bool {
        matches!(self.service, Service::Up | Service::Down { .. })
    }

    /// The rules that the present keys break, with figures, and how many updates the guard has refused in a row;
    /// `None`: it refuses nothing.
    pub fn refusal(&self) -> Option<(&str, u64)> {
        self.faults.of(Subject::Guard)
    }

    /// Whether a part of the resource fails and is retried.
    pub fn is_failing(&self) -> bool {
        self.faults.any() || matches!(self.service, Service::Failed { .. } | Service::Down { .. })
    }

    /// Whether nothing is left to do until a backend reports something new.
    pub fn settled(&self) -> bool {
        let idle = matches!(self.update, Update::Idle) && self.retry.at.is_none() && self.settle.due().is_none();
        idle && self.is_up() && self.child.is_none()
    }

    /// Takes an event and returns the effects to perform, in order.
    pub fn on(&mut self, event: Event, now: Instant) -> Vec<Effect> {
        let mut effects = Vec::new();
        match event {
            Event::Loaded { backend } => {
                self.loaded[backend] = true;
                self.pending = true;
                if self.has_begun {
                    self.settle.changed(now, &mut self.random);
                }
                self.begin_if_idle(now, &mut effects);
            }
            Event::Unreachable { backend, error } => self.unreachable(backend, error, &mut effects),
            Event::Reached { backend } => self.recovered(Subject::Backend(backend), &mut effects),
            Event::Refresh => {
                self.pending = true;
                self.rollback.retry_rejected();
                self.settle.skip();
                self.begin_if_idle(now, &mut effects);
            }
            Event::NotCompiled { template, fault } => {
                self.failed(Subject::Template(template), fault, &mut effects);
            }
            Event::Due => self.came_due(now, &mut effects),
            Event::Spawned(result) => self.spawned(result, now, &mut effects),
            Event::ChildExited { how, status } => self.child_exited(how, status, now, &mut effects),
            Event::Judged(_)
            | Event::Kept(_)
            | Event::PutBack(_)
            | Event::Rendered(_)
            | Event::Staged(_)
            | Event::Installed(_)
            | Event::Ended(_) => {
                self.answered(event, now, &mut effects);
            }
        }
        effects
    }

    /// Starts an update if one is pending and need not wait, none runs and every backend has delivered its keys. A file
    /// rendered from a part of its keys is worse than an old file.
    fn begin_if_idle(&mut self, now: Instant, effects: &mut Vec<Effect>) {
        let idle = matches!(self.update, Update::Idle) && !self.settle.waits(now);
        if idle && self.pending && self.verdict.is_none() && self.loaded.iter().all(|l| *l) {
            self.pending = false;
            self.has_begun = true;
            self.settle.end();
            self.retry.at = None;
            let (update, effect) = match self.plan.guard {
                Some(_) => (Update::Judging, Effect::Judge),
                None => (Update::Rendering, Effect::Render),
            };
            self.update = update;
            effects.push(effect);
        }
    }

    fn came_due(&mut self, now: Instant, effects: &mut Vec<Effect>) {
        if self.child.as_mut().is_some_and(|child| child.splayed(now, effects)) {
            self.child_has_reloaded(now, effects);
        }
        if self.service.take_restart(now) {
            self.pending = true;
            self.settle.skip();
        }
        // If changes are still settling, the update that follows them is the retry.
        self.pending |= self.retry.at.take_if(|at| *at <= now).is_some();
        self.begin_if_idle(now, effects);
    }

    /// The resource's reload command that waited for the child runs with the next update, even if that update changes
    /// no file.
    fn child_has_reloaded(&mut self, now: Instant, effects: &mut Vec<Effect>) {
        if self.reloads.resource && self.is_up() && !self.child_is_reloading() {
            self.pending = true;
            self.begin_if_idle(now, effects);
        }
    }

    fn child_is_reloading(&self) -> bool {
        self.child.as_ref().is_some_and(Child::is_reloading)
    }

    fn is_up(&self) -> bool {
        matches!(self.service, Service::Up)
    }

    fn unreachable(&mut self, backend: usize, error: String, effects: &mut Vec<Effect>) {
        self.failed(Subject::Backend(backend), error.into(), effects);
        if self.plan.mode == Mode::OneShot && !self.loaded[backend] {
            self.verdict = Some(Verdict::Failed);
        }
    }

    /// Handles the answer to an effect: the running update takes its next step.
    fn answered(&mut self, event: Event, now: Instant, effects: &mut Vec<Effect>) {
        self.update = match (std::mem::replace(&mut self.update, Update::Idle), event) {
            (Update::Judging, Event::Judged(census)) => self.judged(&census, now, effects),
            (Update::Rendering, Event::Rendered(renderings))
                if renderings.iter().any(|rendering| matches!(rendering, Rendering::Interrupted)) =>
            {
                // If the program continues after all, the update is still pending. It runs in another turn, after the
                // signal was handled.
                self.retry.at = Some(now);
                Update::Idle
            }
            (Update::Rendering, Event::Rendered(mut renderings)) => {
                self.screen(&mut renderings);
                let round = Round { renderings, outcome: Outcome::Good };
                match self.plan.together {
                    true => self.commit(round, now, effects),
                    false => self.template(round, 0, now, effects),
                }
            }
            (Update::Committing(round, commit), event) => self.committed(round, commit, event, now, effects),
            (Update::Working(round, Step::Staging(t)), Event::Staged(Ok(()))) => {
                if self.plan.templates[t].check && !self.start_stands_in_for_checks() {
                    effects.push(Effect::Run(Job::Check(t)));
                    Update::Working(round, Step::Running(Job::Check(t)))
                } else {
                    self.keep_and_install(round, t, effects)
                }
            }
            (Update::Working(round, Step::Running(Job::Check(t))), Event::Ended(Ok(()))) => {
                self.keep_and_install(round, t, effects)
            }
            (Update::Working(round, Step::Keeping(t)), Event::Kept(Ok(()))) => {
                self.rollback.kept(t);
                self.install(round, t, effects)
            }
            (Update::Working(round, Step::Running(Job::Check(t))), Event::Ended(Err(fault)))
            | (Update::Working(round, Step::Keeping(t)), Event::Kept(Err(fault))) => {
                effects.push(Effect::Discard(t));
                self.not_installed(round, t, fault, now, effects)
            }
            (Update::Working(round, Step::Installing(t)), Event::Installed(Ok(warning))) => {
                self.installed(t, warning, effects);
                self.reload_if_pending(round, t, now, effects)
            }
            (Update::Working(round, Step::Staging(t)), Event::Staged(Err(fault)))
            | (Update::Working(round, Step::Installing(t)), Event::Installed(Err(fault))) => {
                effects.extend(self.rollback.not_installed(t));
                self.not_installed(round, t, fault, now, effects)
            }
            (Update::Working(round, Step::Running(Job::Reload(t))), Event::Ended(Ok(()))) => {
                self.reloads.templates[t] = false;
                self.recovered(Subject::Reload(t), effects);
                self.forget_accepted(effects);
                self.template(round, t + 1, now, effects)
            }
            (Update::Working(round, Step::Running(Job::Reload(t))), Event::Ended(Err(fault))) => {
                self.reload_failed(Cause::Template(t), round, fault, now, effects)
            }
            (Update::Undoing(round, undo), Event::PutBack(result)) => self.undone(round, undo, result, now, effects),
            (Update::Working(round, Step::Running(Job::Start)), Event::Ended(result)) => match result {
                Ok(()) => {
                    self.recovered(Subject::Start, effects);
                    self.start_child(round, now, effects)
                }
                Err(fault) => {
                    self.not_started(Subject::Start, fault, now, effects);
                    self.finish(round, now, effects)
                }
            },
            (Update::Working(round, Step::Running(Job::ReloadResource)), Event::Ended(Ok(()))) => {
                self.reloads.resource = false;
                self.recovered(Subject::ReloadResource, effects);
                self.finish(round, now, effects)
            }
            (Update::Working(round, Step::Running(Job::ReloadResource)), Event::Ended(Err(fault))) => {
                self.reload_failed(Cause::Resource, round, fault, now, effects)
            }
            (update, event) => {
                debug_assert!(false, "{event:?} answers nothing in {update:?}");
                update
            }
        };
        self.begin_if_idle(now, effects);
    }

    /// Renders the keys if the guard accepts them. Otherwise the old files stay until the keys change; a child that has
    /// ended is started again with them.
    fn judged(&mut self, census: &Census, now: Instant, effects: &mut Vec<Effect>) -> Update {
        let broken = self.plan.guard.as_ref().and_then(|guard| guard::broken(guard, census));
        let is_overridden = std::mem::take(&mut self.overrides_guard);
        match broken {
            Some(broken) if !is_overridden => {
                self.failed(Subject::Guard, broken.into(), effects);
                let round = Round { renderings: Vec::new(), outcome: Outcome::Refused };
                match self.service {
                    Service::New | Service::Up => self.finish(round, now, effects),
                    Service::Failed { .. } | Service::Down { .. } => self.bring_up(round, now, effects),
                }
            }
            broken => {
                if let Some(broken) = broken {
                    let line = Line::new(Level::Warn, "--override-guard accepts what the guard would refuse");
                    effects.push(Effect::Log(line.with("error", broken)));
                }
                self.recovered(Subject::Guard, effects);
                effects.push(Effect::Accept);
                effects.push(Effect::Render);
                Update::Rendering
            }
        }
    }

    /// Continues with the first template from `t` on that has something to do.
    fn template(&mut self, mut round: Round, mut t: usize, now: Instant, effects: &mut Vec<Effect>) -> Update {
        while let Some(rendering) = round.renderings.get_mut(t) {
            match std::mem::replace(rendering, Rendering::InSync) {
                Rendering::Interrupted => {}
                Rendering::Failed(fault) => self.failed_in(&mut round, Subject::Template(t), fault, effects),
                Rendering::InSync => {
                    effects.push(Effect::Log(self.about(t, Level::Debug, "target config in sync")));
                    self.recovered(Subject::Template(t), effects);
                }
                Rendering::Rejected => self.held_back(&mut round, t, effects),
                Rendering::Differs => {
                    effects.push(Effect::Log(self.about(t, Level::Info, "target config out of sync")));
                    effects.push(Effect::Stage(t));
                    return Update::Working(round, Step::Staging(t));
                }
            }
            if self.reloads.templates[t] {
                return self.reload(round, t, effects);
            }
            t += 1;
        }
        self.templates_done(round, now, effects)
    }

    fn keep_and_install(&mut self, round: Round, t: usize, effects: &mut Vec<Effect>) -> Update {
        if !self.wants_kept(&[t], t) {
            return self.install(round, t, effects);
        }
        effects.push(Effect::Keep(t));
        Update::Working(round, Step::Keeping(t))
    }

    fn install(&mut self, round: Round, t: usize, effects: &mut Vec<Effect>) -> Update {
        effects.push(Effect::Log(self.about(t, Level::Debug, "overwriting target config")));
        effects.push(Effect::Install(t));
        Update::Working(round, Step::Installing(t))
    }

    fn installed(&mut self, t: usize, warning: Option<String>, effects: &mut Vec<Effect>) {
        effects.extend(warning.map(|text| Effect::Log(Line::new(Level::Warn, text))));
        let what = match self.plan.is_preview {
            false => "target config has been updated",
            true => "target config would be updated",
        };
        effects.push(Effect::Log(self.about(t, Level::Info, what)));
        self.recovered(Subject::Template(t), effects);
        self.reloads = self.reloads_with(&[t]);
        self.rollback.installed(t);
    }

    /// The old file stays. A pending reload of this template and the other templates continue.
    fn not_installed(
        &mut self,
        mut round: Round,
        t: usize,
        fault: Fault,
        now: Instant,
        effects: &mut Vec<Effect>,
    ) -> Update {
        self.failed_in(&mut round, Subject::Template(t), fault, effects);
        self.reload_if_pending(round, t, now, effects)
    }

    /// The file of a template is done: its reload is next, or the next template.
    fn reload_if_pending(&mut self, round: Round, t: usize, now: Instant, effects: &mut Vec<Effect>) -> Update {
        match self.reloads.templates[t] {
            true => self.reload(round, t, effects),
            false => self.template(round, t + 1, now, effects),
        }
    }

    fn reload(&mut self, round: Round, t: usize, effects: &mut Vec<Effect>) -> Update {
        effects.push(Effect::Run(Job::Reload(t)));
        Update::Working(round, Step::Running(Job::Reload(t)))
    }

    /// All files are done. Reloads of installed files run even if another template of the round failed.
    fn templates_done(&mut self, round: Round, now: Instant, effects: &mut Vec<Effect>) -> Update {
        if !self.is_up() {
            return self.bring_up(round, now, effects);
        }
        if std::mem::take(&mut self.reloads.child)
            && let Some(child) = &mut self.child
        {
            child.reload(now, &mut self.random, effects);
        }
        self.reload_resource_if_pending(round, now, effects)
    }

    /// The resource's reload command follows the child's reload. No update waits for the child's reload.
    fn reload_resource_if_pending(&mut self, round: Round, now: Instant, effects: &mut Vec<Effect>) -> Update {
        if !self.reloads.resource || self.child_is_reloading() || round.outcome == Outcome::Refused {
            return self.finish(round, now, effects);
        }
        effects.push(Effect::Run(Job::ReloadResource));
        Update::Working(round, Step::Running(Job::ReloadResource))
    }

    fn finish(&mut self, round: Round, now: Instant, effects: &mut Vec<Effect>) -> Update {
        // A running child keeps a one-shot run alive until the child ends.
        let verdict_is_due = self.child.is_none() || !self.is_up();
        self.forget_accepted(effects);
        if self.faults.any() {
            self.end_rollbacks(effects);
        }
        if round.outcome != Outcome::Good {
            if verdict_is_due {
                self.verdict_in_one_shot(Verdict::Failed);
            }
            // After a refusal the guard checks the keys again when they change.
            if round.outcome == Outcome::RolledBack {
                self.retry.reset();
            } else if self.plan.mode == Mode::Watch && round.outcome != Outcome::Refused {
                let delay = self.retry.backoff(now);
                if self.retry.failures == 1 {
                    effects.push(Effect::Log(trying_again(round.outcome, delay)));
                }
            }
        } else {
            self.retry.reset();
            self.has_succeeded = true;
            if verdict_is_due {
                self.verdict_in_one_shot(Verdict::Succeeded);
            }
        }
        Update::Idle
    }

    /// The first verdict stays.
    fn verdict_in_one_shot(&mut self, verdict: Verdict) {
        if self.plan.mode == Mode::OneShot {
            self.verdict.get_or_insert(verdict);
        }
    }

    fn about(&self, t: usize, level: Level, message: &str) -> Line {
        Line::new(level, message).with("config", self.plan.templates[t].dst.clone())
    }

    /// Logs a failure that is new or has changed. Returns whether it was logged.
    fn failed(&mut self, subject: Subject, fault: Fault, effects: &mut Vec<Effect>) -> bool {
        let line = self.faults.failed(subject, fault, &self.plan);
        let is_new = line.is_some();
        effects.extend(line.map(Effect::Log));
        is_new
    }

    fn failed_in(&mut self, round: &mut Round, subject: Subject, fault: Fault, effects: &mut Vec<Effect>) {
        let outcome = match subject {
            Subject::Template(_) => Outcome::Incomplete,
            Subject::Reload(_) | Subject::ReloadResource => Outcome::ReloadFailed,
            Subject::RolledBack(_) => Outcome::RolledBack,
            // These failures do not change the outcome of a round.
            Subject::Backend(_) | Subject::Guard | Subject::Start | Subject::Child => Outcome::Good,
        };
        round.outcome = round.outcome.max(outcome);
        self.failed(subject, fault, effects);
    }

    fn recovered(&mut self, subject: Subject, effects: &mut Vec<Effect>) {
        effects.extend(self.faults.ended(subject, &self.plan).map(Effect::Log));
    }
}

#[cfg(test)]
mod tests;
