//! Decides what one resource does next: when to render, what to stage, check, install and reload,
//! and when to try again. Never touches files, processes or the clock and never logs: it returns
//! effects and is told what came of them.

mod fault;

use std::time::{Duration, Instant};

use crate::config::Mode;
use crate::log::{Level, Line};
use crate::random::Random;
use fault::{Faults, Subject};

/// What runs of one `[[resource]]`. What the user wrote is `config::Resource`.
#[derive(Debug)]
pub struct Resource {
    plan: Plan,
    /// Per backend: whether the store holds what it gave.
    loaded: Vec<bool>,
    update: Update,
    /// New keys came while an update ran. One mark, never a queue: the next update renders the newest store.
    pending: bool,
    /// Whether an update has succeeded, start_cmd included. Until then start_cmd stands in for checks and reloads.
    started: bool,
    owed: Owed,
    retry: Retry,
    faults: Faults,
    /// How the one round of a one-shot run ended.
    verdict: Option<Verdict>,
}

/// What a resource consists of, as far as decisions go.
#[derive(Clone, Debug)]
pub struct Plan {
    pub mode: Mode,
    pub templates: Vec<TemplatePlan>,
    /// The backends' names in merge order.
    pub backends: Vec<&'static str>,
    pub start: bool,
    pub reload: bool,
}

#[derive(Clone, Debug)]
pub struct TemplatePlan {
    /// For messages.
    pub dst: String,
    pub check: bool,
    pub reload: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    Succeeded,
    Failed,
}

/// What happened.
#[derive(Debug)]
pub enum Event {
    /// The store has something new from a backend.
    Loaded { backend: usize },
    /// A backend could not be read or watched; it tries again by itself.
    Unreachable { backend: usize, error: String },
    /// A backend that could not be reached works again.
    Reached { backend: usize },
    /// Answers [`Effect::Render`]: what became of each template.
    Rendered(Vec<Rendering>),
    /// Answers [`Effect::Stage`].
    Staged(Result<(), Fault>),
    /// Answers [`Effect::Install`]: done, perhaps with a warning.
    Installed(Result<Option<String>, Fault>),
    /// Answers [`Effect::Run`]: the command ended, or could not be started.
    Ended(Result<(), Fault>),
    /// The moment that [`Resource::due`] named has come.
    Due,
    /// Everything is to be looked at again, whatever the backends say.
    Refresh,
}

/// What is to be done. Each but `Discard` and `Log` is answered by one event.
#[derive(Debug, PartialEq, Eq)]
pub enum Effect {
    /// Render all templates from the store as it is now, keep the results, compare them with what is on disk.
    Render,
    /// Write a template's result beside its destination.
    Stage(usize),
    /// Put the staged file into its place.
    Install(usize),
    /// Remove the staged file.
    Discard(usize),
    /// Run a command of the user's.
    Run(Job),
    Log(Line),
}

/// A command of the user's and what it is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Job {
    Check(usize),
    Reload(usize),
    Start,
    ReloadResource,
}

/// What rendering one template gave.
#[derive(Debug)]
pub enum Rendering {
    InSync,
    Differs,
    Failed(Fault),
}

/// Why something failed: one line, and what to show below it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    pub message: String,
    pub detail: Option<String>,
}

impl From<String> for Fault {
    fn from(message: String) -> Fault {
        Fault { message, detail: None }
    }
}

#[derive(Debug)]
enum Update {
    Idle,
    Rendering,
    Working(Round, Step),
}

/// One pass over the templates.
#[derive(Debug)]
struct Round {
    renderings: Vec<Rendering>,
    /// A template of this round, or its check or reload, failed.
    failed: bool,
}

/// What the round waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    Staging(usize),
    Installing(usize),
    Running(Job),
}

/// Reloads that an installed file calls for and that have not succeeded yet.
#[derive(Debug)]
struct Owed {
    templates: Vec<bool>,
    resource: bool,
}

/// When a failed update is tried again although nothing new came: after 1 s, doubling up to a minute.
#[derive(Debug)]
struct Retry {
    at: Option<Instant>,
    failures: u32,
    random: Random,
}

impl Resource {
    /// `seed` spreads the restarts of many hosts; any number will do.
    pub fn new(plan: Plan, seed: u64) -> Resource {
        Resource {
            loaded: vec![false; plan.backends.len()],
            update: Update::Idle,
            pending: false,
            started: false,
            owed: Owed { templates: vec![false; plan.templates.len()], resource: false },
            retry: Retry { at: None, failures: 0, random: Random::new(seed) },
            faults: Faults::default(),
            verdict: None,
            plan,
        }
    }

    /// Takes over the reloads that the resource it replaces did not come to or that failed: its files are in place, and
    /// nothing else would call for them again. Where there is a start_cmd, that stands in for them.
    pub fn inherit(&mut self, before: &Resource) {
        if self.plan.start {
            return;
        }
        for (owed, template) in self.owed.templates.iter_mut().zip(&self.plan.templates) {
            let earlier = before.plan.templates.iter().position(|earlier| earlier.dst == template.dst);
            *owed = template.reload && earlier.is_some_and(|t| before.owed.templates[t]);
        }
        self.owed.resource = self.plan.reload && before.owed.resource;
    }

    /// When [`Event::Due`] is wanted.
    pub fn due(&self) -> Option<Instant> {
        match self.update {
            Update::Idle => self.retry.at,
            Update::Rendering | Update::Working(..) => None,
        }
    }

    /// How a one-shot run ended, once it has.
    pub fn verdict(&self) -> Option<Verdict> {
        self.verdict
    }

    /// Whether nothing is left to do until a backend has something new.
    pub fn settled(&self) -> bool {
        matches!(self.update, Update::Idle) && self.retry.at.is_none() && self.started
    }

    /// Takes an event, gives what is to be done, in order.
    pub fn on(&mut self, event: Event, now: Instant) -> Vec<Effect> {
        let mut effects = Vec::new();
        match event {
            Event::Loaded { backend } => {
                self.loaded[backend] = true;
                self.pending = true;
                self.begin_if_idle(&mut effects);
            }
            Event::Unreachable { backend, error } => self.unreachable(backend, error, &mut effects),
            Event::Reached { backend } => self.recovered(Subject::Backend(backend), &mut effects),
            Event::Refresh => {
                self.pending = true;
                self.begin_if_idle(&mut effects);
            }
            Event::Due => {
                if self.due().is_some_and(|due| due <= now) {
                    self.pending = true;
                    self.begin_if_idle(&mut effects);
                }
            }
            Event::Rendered(_) | Event::Staged(_) | Event::Installed(_) | Event::Ended(_) => {
                self.answered(event, now, &mut effects);
            }
        }
        effects
    }

    /// Starts an update if one is wanted, none runs and every backend has given its keys: a file rendered from
    /// a part of its keys is worse than an old one.
    fn begin_if_idle(&mut self, effects: &mut Vec<Effect>) {
        let idle = matches!(self.update, Update::Idle);
        if idle && self.pending && self.verdict.is_none() && self.loaded.iter().all(|l| *l) {
            self.pending = false;
            self.retry.at = None;
            self.update = Update::Rendering;
            effects.push(Effect::Render);
        }
    }

    fn unreachable(&mut self, backend: usize, error: String, effects: &mut Vec<Effect>) {
        self.failed(Subject::Backend(backend), error.into(), effects);
        if self.plan.mode == Mode::OneShot && !self.loaded[backend] {
            self.verdict = Some(Verdict::Failed);
        }
    }

    /// The answer to an effect: takes the running update one step further.
    fn answered(&mut self, event: Event, now: Instant, effects: &mut Vec<Effect>) {
        self.update = match (std::mem::replace(&mut self.update, Update::Idle), event) {
            (Update::Rendering, Event::Rendered(renderings)) => {
                let round = Round { renderings, failed: false };
                self.template(round, 0, now, effects)
            }
            (Update::Working(round, Step::Staging(t)), Event::Staged(Ok(()))) => {
                if self.plan.templates[t].check && !self.start_stands_in() {
                    effects.push(Effect::Run(Job::Check(t)));
                    Update::Working(round, Step::Running(Job::Check(t)))
                } else {
                    self.install(round, t, effects)
                }
            }
            (Update::Working(round, Step::Running(Job::Check(t))), Event::Ended(Ok(()))) => {
                self.install(round, t, effects)
            }
            (Update::Working(round, Step::Running(Job::Check(t))), Event::Ended(Err(fault))) => {
                effects.push(Effect::Discard(t));
                self.not_installed(round, t, fault, now, effects)
            }
            (Update::Working(round, Step::Installing(t)), Event::Installed(Ok(warning))) => {
                self.installed(t, warning, effects);
                self.reload_if_owed(round, t, now, effects)
            }
            (Update::Working(round, Step::Staging(t)), Event::Staged(Err(fault)))
            | (Update::Working(round, Step::Installing(t)), Event::Installed(Err(fault))) => {
                self.not_installed(round, t, fault, now, effects)
            }
            (Update::Working(mut round, Step::Running(Job::Reload(t))), Event::Ended(result)) => {
                match result {
                    Ok(()) => {
                        self.owed.templates[t] = false;
                        self.recovered(Subject::Reload(t), effects);
                    }
                    Err(fault) => self.failed_in(&mut round, Subject::Reload(t), fault, effects),
                }
                self.template(round, t + 1, now, effects)
            }
            (Update::Working(round, Step::Running(Job::Start)), Event::Ended(result)) => match result {
                Ok(()) => {
                    self.recovered(Subject::Start, effects);
                    self.finish(round, now, effects)
                }
                Err(fault) => self.start_failed(fault, now, effects),
            },
            (Update::Working(mut round, Step::Running(Job::ReloadResource)), Event::Ended(result)) => {
                match result {
                    Ok(()) => {
                        self.owed.resource = false;
                        self.recovered(Subject::ReloadResource, effects);
                    }
                    Err(fault) => self.failed_in(&mut round, Subject::ReloadResource, fault, effects),
                }
                self.finish(round, now, effects)
            }
            (update, event) => {
                debug_assert!(false, "{event:?} answers nothing in {update:?}");
                update
            }
        };
        self.begin_if_idle(effects);
    }

    /// Goes on with the first template from `t` that has something to do.
    fn template(&mut self, mut round: Round, mut t: usize, now: Instant, effects: &mut Vec<Effect>) -> Update {
        while let Some(rendering) = round.renderings.get_mut(t) {
            match std::mem::replace(rendering, Rendering::InSync) {
                Rendering::Failed(fault) => self.failed_in(&mut round, Subject::Template(t), fault, effects),
                Rendering::InSync => {
                    effects.push(Effect::Log(self.about(t, Level::Debug, "target config in sync")));
                    self.recovered(Subject::Template(t), effects);
                }
                Rendering::Differs => {
                    effects.push(Effect::Log(self.about(t, Level::Info, "target config out of sync")));
                    effects.push(Effect::Stage(t));
                    return Update::Working(round, Step::Staging(t));
                }
            }
            if self.owed.templates[t] {
                return self.reload(round, t, effects);
            }
            t += 1;
        }
        self.templates_done(round, now, effects)
    }

    fn install(&mut self, round: Round, t: usize, effects: &mut Vec<Effect>) -> Update {
        effects.push(Effect::Log(self.about(t, Level::Debug, "overwriting target config")));
        effects.push(Effect::Install(t));
        Update::Working(round, Step::Installing(t))
    }

    fn installed(&mut self, t: usize, warning: Option<String>, effects: &mut Vec<Effect>) {
        effects.extend(warning.map(|text| Effect::Log(Line::new(Level::Warn, text))));
        effects.push(Effect::Log(self.about(t, Level::Info, "target config has been updated")));
        self.recovered(Subject::Template(t), effects);
        self.owed.templates[t] = self.plan.templates[t].reload && !self.start_stands_in();
        // Never owed for the first files of a resource, nor in a one-shot run: that is what start_cmd is for.
        self.owed.resource |= self.plan.reload && self.started && self.plan.mode == Mode::Watch;
    }

    /// The old file stays. Neither a reload that is still owed for it nor the other templates are held up by that.
    fn not_installed(
        &mut self,
        mut round: Round,
        t: usize,
        fault: Fault,
        now: Instant,
        effects: &mut Vec<Effect>,
    ) -> Update {
        self.failed_in(&mut round, Subject::Template(t), fault, effects);
        self.reload_if_owed(round, t, now, effects)
    }

    /// A template's file is dealt with: its reload is next, or the next template.
    fn reload_if_owed(&mut self, round: Round, t: usize, now: Instant, effects: &mut Vec<Effect>) -> Update {
        match self.owed.templates[t] {
            true => self.reload(round, t, effects),
            false => self.template(round, t + 1, now, effects),
        }
    }

    fn reload(&mut self, round: Round, t: usize, effects: &mut Vec<Effect>) -> Update {
        effects.push(Effect::Run(Job::Reload(t)));
        Update::Working(round, Step::Running(Job::Reload(t)))
    }

    fn templates_done(&mut self, round: Round, now: Instant, effects: &mut Vec<Effect>) -> Update {
        if round.failed {
            return self.finish(round, now, effects);
        }
        let job = if self.plan.start && !self.started {
            Job::Start
        } else if self.owed.resource {
            Job::ReloadResource
        } else {
            return self.finish(round, now, effects);
        };
        effects.push(Effect::Run(job));
        Update::Working(round, Step::Running(job))
    }

    fn finish(&mut self, round: Round, now: Instant, effects: &mut Vec<Effect>) -> Update {
        if round.failed {
            self.verdict_in_one_shot(Verdict::Failed);
            if self.plan.mode == Mode::Watch {
                let delay = self.retry.backoff(now);
                if self.retry.failures == 1 {
                    let text =
                        format!("not all templates could be rendered, trying again after {} seconds", delay.as_secs());
                    effects.push(Effect::Log(Line::new(Level::Error, text)));
                }
            }
        } else {
            self.started = true;
            self.retry.settle();
            self.verdict_in_one_shot(Verdict::Succeeded);
        }
        Update::Idle
    }

    fn start_failed(&mut self, fault: Fault, now: Instant, effects: &mut Vec<Effect>) -> Update {
        let is_news = self.failed(Subject::Start, fault, effects);
        self.verdict_in_one_shot(Verdict::Failed);
        if self.plan.mode == Mode::Watch {
            let delay = self.retry.spread(now);
            if is_news {
                let line = Line::new(Level::Error, "resource execution failed, restarting after delay");
                effects.push(Effect::Log(line.with("restartDelay", delay.as_secs().to_string())));
            }
        }
        Update::Idle
    }

    fn verdict_in_one_shot(&mut self, verdict: Verdict) {
        if self.plan.mode == Mode::OneShot {
            self.verdict = Some(verdict);
        }
    }

    /// start_cmd brings the service up on its first files: there is nothing yet that could be checked or reloaded.
    fn start_stands_in(&self) -> bool {
        self.plan.start && !self.started
    }

    fn about(&self, t: usize, level: Level, message: &str) -> Line {
        Line::new(level, message).with("config", self.plan.templates[t].dst.clone())
    }

    /// Logs a failure that is new or another than before. Tells whether it is.
    fn failed(&mut self, subject: Subject, fault: Fault, effects: &mut Vec<Effect>) -> bool {
        let line = self.faults.failed(subject, fault, &self.plan);
        let is_news = line.is_some();
        effects.extend(line.map(Effect::Log));
        is_news
    }

    fn failed_in(&mut self, round: &mut Round, subject: Subject, fault: Fault, effects: &mut Vec<Effect>) {
        self.failed(subject, fault, effects);
        round.failed = true;
    }

    fn recovered(&mut self, subject: Subject, effects: &mut Vec<Effect>) {
        effects.extend(self.faults.ended(subject, &self.plan).map(Effect::Log));
    }
}

impl Retry {
    const FIRST: Duration = Duration::from_secs(1);
    const LONGEST: Duration = Duration::from_secs(60);
    /// remco restarts a resource after 0 to 29 seconds.
    const RESTART_SECONDS: usize = 30;

    fn backoff(&mut self, now: Instant) -> Duration {
        let delay = Self::FIRST.saturating_mul(1 << self.failures.min(10)).min(Self::LONGEST);
        self.failures += 1;
        self.at = Some(now + delay);
        delay
    }

    fn spread(&mut self, now: Instant) -> Duration {
        let delay = Duration::from_secs(self.random.below(Self::RESTART_SECONDS) as u64);
        self.at = Some(now + delay);
        delay
    }

    fn settle(&mut self) {
        self.at = None;
        self.failures = 0;
    }
}

#[cfg(test)]
mod tests;
