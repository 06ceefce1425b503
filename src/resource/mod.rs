//! Decides what one resource does next: when to render, what to stage, check, install and reload, when its child is
//! started, and when to try again. Never touches files, processes or the clock and never logs: it returns effects and is
//! told what came of them.

mod child;
mod fault;

use std::time::{Duration, Instant};

use crate::config::Mode;
use crate::log::{Level, Line};
use crate::random::Random;
use child::{Child, Exit};
use fault::{Faults, Subject};

pub use child::{ChildPlan, ReloadBy};

/// What runs of one `[[resource]]`. What the user wrote is `config::Resource`.
#[derive(Debug)]
pub struct Resource {
    plan: Plan,
    /// Per backend: whether the store holds what it gave.
    loaded: Vec<bool>,
    update: Update,
    /// New keys came while an update ran. One mark, never a queue: the next update renders the newest store.
    pending: bool,
    service: Service,
    /// `None`: there is no exec.
    child: Option<Child>,
    owed: Owed,
    retry: Retry,
    random: Random,
    faults: Faults,
    /// How the one round of a one-shot run ended.
    verdict: Option<Verdict>,
}

/// What a resource consists of, as far as decisions go.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Once, or until the program is stopped.
    pub mode: Mode,
    /// In the order they are rendered and installed.
    pub templates: Vec<TemplatePlan>,
    /// The backends' names in merge order.
    pub backends: Vec<&'static str>,
    /// Whether there is a start_cmd.
    pub start: bool,
    /// Whether there is a reload_cmd of the resource; each template has its own.
    pub reload: bool,
    /// `None`: there is no exec.
    pub child: Option<ChildPlan>,
}

/// One template, as far as decisions go.
#[derive(Clone, Debug)]
pub struct TemplatePlan {
    /// For messages.
    pub dst: String,
    /// Whether there is a check_cmd.
    pub check: bool,
    /// Whether there is a reload_cmd of this template.
    pub reload: bool,
}

/// How the one round of a one-shot run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// All files are in place, all commands succeeded, and the child, if there is one, has not ended.
    Succeeded,
    /// At least one step failed.
    Failed,
    /// A failure too: the child ended by itself. Nothing else was wrong.
    ChildEnded {
        /// As a shell has it: 128 and the number of the signal, if one ended it.
        status: u8,
    },
}

/// What happened.
#[derive(Debug)]
pub enum Event {
    /// The store has something new from a backend.
    Loaded {
        /// Its place in [`Plan::backends`].
        backend: usize,
    },
    /// A backend could not be read or watched; it tries again by itself.
    Unreachable {
        /// Its place in [`Plan::backends`].
        backend: usize,
        /// Verb, subject, cause.
        error: String,
    },
    /// A backend that could not be reached works again.
    Reached {
        /// Its place in [`Plan::backends`].
        backend: usize,
    },
    /// Answers [`Effect::Render`]: what became of each template.
    Rendered(Vec<Rendering>),
    /// Answers [`Effect::Stage`].
    Staged(Result<(), Fault>),
    /// Answers [`Effect::Install`]: done, perhaps with a warning.
    Installed(Result<Option<String>, Fault>),
    /// Answers [`Effect::Run`]: the command ended, or could not be started.
    Ended(Result<(), Fault>),
    /// Answers [`Effect::Spawn`].
    Spawned(Result<(), Fault>),
    /// The child has ended: how, in words, and with which status, as a shell has it.
    ChildExited {
        /// For the log.
        how: String,
        /// 128 and the number of the signal, if one ended it.
        status: u8,
    },
    /// The moment that [`Resource::due`] named has come.
    Due,
    /// Everything is to be looked at again, whatever the backends say.
    Refresh,
    /// A template could not be compiled at the start, before there were any keys. The first update tries again.
    NotCompiled {
        /// Its place in [`Plan::templates`].
        template: usize,
        /// What is wrong with it.
        fault: Fault,
    },
}

/// What is to be done. Each but `Discard`, `SignalChild` and `Log` is answered by one event.
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
    /// Start the child.
    Spawn,
    /// Send the child a signal, by its number.
    SignalChild(i32),
    /// Have the child end, in the way that the user wants. Answered by `ChildExited`.
    StopChild,
    /// A line for the log.
    Log(Line),
}

/// A command of the user's and what it is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Job {
    /// The check_cmd of a template.
    Check(usize),
    /// The reload_cmd of a template.
    Reload(usize),
    /// The start_cmd of the resource.
    Start,
    /// The reload_cmd of the resource.
    ReloadResource,
}

/// What rendering one template gave.
#[derive(Debug)]
pub enum Rendering {
    /// What is in place is what it would be.
    InSync,
    /// The file has to be replaced.
    Differs,
    /// There is no result: the template, or what it is compared with.
    Failed(Fault),
    /// It was ended because the program is asked to end: nothing failed, and nothing is to be done.
    Interrupted,
}

/// Why something failed: one line, and what to show below it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// Verb, subject, cause; without a line end.
    pub message: String,
    /// Several lines: an excerpt of a template, or what a command printed.
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
    outcome: Outcome,
}

/// The worst that has happened in a round so far.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Outcome {
    Good,
    /// A reload failed: the files are in place.
    ReloadFailed,
    /// A template is not in place.
    Incomplete,
}

/// What the round waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    Staging(usize),
    Installing(usize),
    Running(Job),
    /// The child's start, but not one that is its reload.
    Spawning,
}

/// How far the resource is with what comes after its files: start_cmd and the child.
#[derive(Clone, Copy, Debug)]
enum Service {
    /// Its files were never all in place.
    New,
    /// They are, but start_cmd or the child's start failed.
    Failed {
        rest: Option<Instant>,
    },
    Up,
    /// The child has ended, or could not be started again. Files are kept true meanwhile.
    Down {
        rest: Option<Instant>,
    },
}

/// Reloads that an installed file calls for and that have not succeeded yet.
#[derive(Debug)]
struct Owed {
    templates: Vec<bool>,
    child: bool,
    resource: bool,
}

/// When a failed update is tried again although nothing new came: after 1 s, doubling up to a minute.
#[derive(Debug)]
struct Retry {
    at: Option<Instant>,
    failures: u32,
}

impl Resource {
    /// `seed` spreads the restarts of many hosts; any number will do.
    pub fn new(plan: Plan, seed: u64) -> Resource {
        Resource {
            loaded: vec![false; plan.backends.len()],
            update: Update::Idle,
            pending: false,
            service: Service::New,
            child: plan.child.map(Child::new),
            owed: Owed { templates: vec![false; plan.templates.len()], child: false, resource: false },
            retry: Retry { at: None, failures: 0 },
            random: Random::new(seed),
            faults: Faults::default(),
            verdict: None,
            plan,
        }
    }

    /// Takes over the reloads that a resource it replaces did not come to or that failed: its files are in place, and
    /// nothing else would call for them again. Where there is a start_cmd, that stands in for them.
    pub fn inherit(&mut self, before: &Resource) {
        if self.plan.start {
            return;
        }
        for (owed, template) in self.owed.templates.iter_mut().zip(&self.plan.templates) {
            let earlier = before.plan.templates.iter().position(|earlier| earlier.dst == template.dst);
            *owed |= template.reload && earlier.is_some_and(|t| before.owed.templates[t]);
        }
        self.owed.resource |= self.plan.reload && before.owed.resource;
    }

    /// When [`Event::Due`] is wanted.
    pub fn due(&self) -> Option<Instant> {
        let child = self.child.as_ref().and_then(Child::due);
        match self.update {
            Update::Idle => [child, self.retry.at, self.service.rest()].into_iter().flatten().min(),
            Update::Rendering | Update::Working(..) => child,
        }
    }

    /// How a one-shot run ended, once it has.
    pub fn verdict(&self) -> Option<Verdict> {
        self.verdict
    }

    /// Whether everything was in place once.
    pub fn has_started(&self) -> bool {
        matches!(self.service, Service::Up | Service::Down { .. })
    }

    /// Whether something of it fails and is tried again.
    pub fn is_failing(&self) -> bool {
        self.faults.any() || matches!(self.service, Service::Failed { .. } | Service::Down { .. })
    }

    /// Whether nothing is left to do until a backend has something new.
    pub fn settled(&self) -> bool {
        matches!(self.update, Update::Idle) && self.retry.at.is_none() && self.is_up() && self.child.is_none()
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
            Event::NotCompiled { template, fault } => {
                self.failed(Subject::Template(template), fault, &mut effects);
            }
            Event::Due => self.came_due(now, &mut effects),
            Event::Spawned(result) => self.spawned(result, now, &mut effects),
            Event::ChildExited { how, status } => self.child_exited(how, status, now, &mut effects),
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

    fn came_due(&mut self, now: Instant, effects: &mut Vec<Effect>) {
        if self.child.as_mut().is_some_and(|child| child.splayed(now, effects)) {
            self.child_was_told(effects);
        }
        let rested = self.service.take_rest(now);
        if rested || self.retry.at.is_some_and(|at| at <= now) {
            self.pending = true;
            self.begin_if_idle(effects);
        }
    }

    /// A reload command of the resource that waited for the child has its turn with the next update, in which nothing may
    /// have changed.
    fn child_was_told(&mut self, effects: &mut Vec<Effect>) {
        if self.owed.resource && self.is_up() && !self.child_is_reloading() {
            self.pending = true;
            self.begin_if_idle(effects);
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

    /// The answer to an effect: takes the running update one step further.
    fn answered(&mut self, event: Event, now: Instant, effects: &mut Vec<Effect>) {
        self.update = match (std::mem::replace(&mut self.update, Update::Idle), event) {
            (Update::Rendering, Event::Rendered(renderings))
                if renderings.iter().any(|rendering| matches!(rendering, Rendering::Interrupted)) =>
            {
                // Should the program go on after all, the update is still wanted: in another turn, once the signal was taken.
                self.retry.at = Some(now);
                Update::Idle
            }
            (Update::Rendering, Event::Rendered(renderings)) => {
                let round = Round { renderings, outcome: Outcome::Good };
                self.template(round, 0, now, effects)
            }
            (Update::Working(round, Step::Staging(t)), Event::Staged(Ok(()))) => {
                if self.plan.templates[t].check && !self.start_stands_in_for_checks() {
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
                    self.start_child(round, now, effects)
                }
                Err(fault) => {
                    self.not_started(Subject::Start, fault, now, effects);
                    self.finish(round, now, effects)
                }
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
                Rendering::Interrupted => {}
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
        self.owed.templates[t] = self.plan.templates[t].reload && !self.start_stands_in_for_reloads();
        // Never owed for the first files of a resource: that is what start_cmd and the child's own start are for.
        if self.is_up() {
            self.owed.child = self.child.is_some();
            self.owed.resource |= self.plan.reload && self.plan.mode == Mode::Watch;
        }
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

    /// All files are dealt with. What is in place is made known, also where another template of the round failed.
    fn templates_done(&mut self, round: Round, now: Instant, effects: &mut Vec<Effect>) -> Update {
        if !self.is_up() {
            return self.bring_up(round, now, effects);
        }
        if std::mem::take(&mut self.owed.child)
            && let Some(child) = &mut self.child
        {
            child.reload(now, &mut self.random, effects);
        }
        self.reload_resource_if_owed(round, now, effects)
    }

    /// start_cmd and the child come with the first round in which every file is in place. Once they were, a later one that
    /// fails leaves its old file, and that is no reason to leave the service down.
    fn bring_up(&mut self, round: Round, now: Instant, effects: &mut Vec<Effect>) -> Update {
        let incomplete = matches!(self.service, Service::New) && round.outcome == Outcome::Incomplete;
        if incomplete || self.service.rest().is_some() {
            self.finish(round, now, effects)
        } else if self.plan.start {
            effects.push(Effect::Run(Job::Start));
            Update::Working(round, Step::Running(Job::Start))
        } else {
            self.start_child(round, now, effects)
        }
    }

    fn start_child(&mut self, round: Round, now: Instant, effects: &mut Vec<Effect>) -> Update {
        match &mut self.child {
            Some(child) => {
                child.spawn(effects);
                Update::Working(round, Step::Spawning)
            }
            None => {
                self.service = Service::Up;
                self.reload_resource_if_owed(round, now, effects)
            }
        }
    }

    /// The resource's reload command comes after the child's reload; no update waits for that.
    fn reload_resource_if_owed(&mut self, round: Round, now: Instant, effects: &mut Vec<Effect>) -> Update {
        if !self.owed.resource || self.child_is_reloading() {
            return self.finish(round, now, effects);
        }
        effects.push(Effect::Run(Job::ReloadResource));
        Update::Working(round, Step::Running(Job::ReloadResource))
    }

    fn finish(&mut self, round: Round, now: Instant, effects: &mut Vec<Effect>) -> Update {
        // A child that runs keeps a one-shot run going until it ends.
        let verdict_is_due = self.child.is_none() || !self.is_up();
        if round.outcome != Outcome::Good {
            if verdict_is_due {
                self.verdict_in_one_shot(Verdict::Failed);
            }
            if self.plan.mode == Mode::Watch {
                let delay = self.retry.backoff(now);
                if self.retry.failures == 1 {
                    effects.push(Effect::Log(trying_again(round.outcome, delay)));
                }
            }
        } else {
            self.retry.settle();
            if verdict_is_due {
                self.verdict_in_one_shot(Verdict::Succeeded);
            }
        }
        Update::Idle
    }

    /// The child was started, for the first time or again, or could not be.
    fn spawned(&mut self, result: Result<(), Fault>, now: Instant, effects: &mut Vec<Effect>) {
        let Some(child) = &mut self.child else { return };
        child.spawned(&result);
        match result {
            Ok(()) => {
                self.service = Service::Up;
                // It has read the newest files.
                self.owed.child = false;
                self.recovered(Subject::Child, effects);
            }
            Err(fault) => self.not_started(Subject::Child, fault, now, effects),
        }
        match std::mem::replace(&mut self.update, Update::Idle) {
            Update::Working(round, Step::Spawning) => {
                self.update = match self.service {
                    Service::Up => self.reload_resource_if_owed(round, now, effects),
                    Service::New | Service::Failed { .. } | Service::Down { .. } => self.finish(round, now, effects),
                };
            }
            // That was its reload.
            update @ (Update::Idle | Update::Rendering | Update::Working(..)) => {
                self.update = update;
                self.child_was_told(effects);
            }
        }
        self.begin_if_idle(effects);
    }

    fn child_exited(&mut self, how: String, status: u8, now: Instant, effects: &mut Vec<Effect>) {
        let Some(child) = &mut self.child else { return };
        match child.exited(effects) {
            Exit::ToRestart => {}
            Exit::ByItself => {
                effects.push(Effect::Log(Line::new(Level::Error, "child has ended").with("error", how)));
                if !self.faults.any() {
                    self.verdict_in_one_shot(Verdict::ChildEnded { status });
                }
                let delay = self.come_up_again(now);
                effects.extend(delay.map(restarting));
            }
        }
    }

    /// start_cmd failed, or the child could not be started.
    fn not_started(&mut self, subject: Subject, fault: Fault, now: Instant, effects: &mut Vec<Effect>) {
        let is_news = self.failed(subject, fault, effects);
        let delay = self.come_up_again(now);
        effects.extend(delay.filter(|_| is_news).map(restarting));
    }

    /// Has all that is started with the resource started anew, after a rest that differs from host to host.
    fn come_up_again(&mut self, now: Instant) -> Option<Duration> {
        self.verdict_in_one_shot(Verdict::Failed);
        let delay = Duration::from_secs(self.random.below(RESTART_SECONDS) as u64);
        let rest = (self.plan.mode == Mode::Watch).then_some(now + delay);
        self.service = match self.service {
            Service::New | Service::Failed { .. } => Service::Failed { rest },
            Service::Up | Service::Down { .. } => Service::Down { rest },
        };
        rest.map(|_| delay)
    }

    /// The first one stands.
    fn verdict_in_one_shot(&mut self, verdict: Verdict) {
        if self.plan.mode == Mode::OneShot {
            self.verdict.get_or_insert(verdict);
        }
    }

    /// start_cmd brings the service up on its first files: what would check them may come with it.
    fn start_stands_in_for_checks(&self) -> bool {
        self.plan.start && matches!(self.service, Service::New)
    }

    /// There is nothing yet that could be reloaded.
    fn start_stands_in_for_reloads(&self) -> bool {
        self.plan.start && !self.is_up()
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
        let outcome = match subject {
            Subject::Template(_) => Outcome::Incomplete,
            Subject::Reload(_) | Subject::ReloadResource => Outcome::ReloadFailed,
            // They belong to no round.
            Subject::Backend(_) | Subject::Start | Subject::Child => Outcome::Good,
        };
        round.outcome = round.outcome.max(outcome);
        self.failed(subject, fault, effects);
    }

    fn recovered(&mut self, subject: Subject, effects: &mut Vec<Effect>) {
        effects.extend(self.faults.ended(subject, &self.plan).map(Effect::Log));
    }
}

impl Service {
    fn rest(self) -> Option<Instant> {
        match self {
            Service::Failed { rest } | Service::Down { rest } => rest,
            Service::New | Service::Up => None,
        }
    }

    /// Ends a rest that is over. Tells whether there was one.
    fn take_rest(&mut self, now: Instant) -> bool {
        match self {
            Service::Failed { rest } | Service::Down { rest } => rest.take_if(|until| *until <= now).is_some(),
            Service::New | Service::Up => false,
        }
    }
}

/// remco restarts a resource after 0 to 29 seconds.
const RESTART_SECONDS: usize = 30;

/// What follows from a round that was not good. remco says the first text in both cases.
fn trying_again(outcome: Outcome, delay: Duration) -> Line {
    let what = match outcome {
        Outcome::Good | Outcome::Incomplete => "not all templates could be rendered",
        Outcome::ReloadFailed => "not all reload commands have succeeded",
    };
    let delay = match delay.as_secs() {
        1 => "1 second".to_owned(),
        seconds => format!("{seconds} seconds"),
    };
    Line::new(Level::Error, format!("{what}, trying again after {delay}"))
}

fn restarting(delay: Duration) -> Effect {
    let line = Line::new(Level::Error, "resource execution failed, restarting after delay");
    Effect::Log(line.with("restartDelay", delay.as_secs().to_string()))
}

impl Retry {
    const FIRST: Duration = Duration::from_secs(1);
    const LONGEST: Duration = Duration::from_secs(60);

    fn backoff(&mut self, now: Instant) -> Duration {
        let delay = Self::FIRST.saturating_mul(1 << self.failures.min(10)).min(Self::LONGEST);
        self.failures += 1;
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
