//! One resource at run time: performs the effects that `resource` decides, by `host` and the backends. Makes no
//! decision about updates; the loop decides when a unit has its turn. `rendering` has its templates, `output` its
//! files, `jobs` its processes, `reports` the reports of its backends, `persistence` what outlives the process.

mod jobs;
mod output;
mod persistence;
mod plan;
mod recording;
mod rendering;
mod reports;

use std::collections::VecDeque;
use std::rc::Rc;
use std::time::{Duration, Instant};

use super::baseline::{self, Baseline};
use super::current::Current;
use super::purpose::{Findings, Outcome, Purpose};
use super::record::Record;
use super::state_files::StateFiles;
use super::succession::Number;
use crate::backend::keys::Missing;
use crate::backend::{self, Id, Pool};
use crate::config::{self, Mode, signal_name};
use crate::host::logger::Logger;
use crate::host::lookups::Lookups;
use crate::host::machine::Machine;
use crate::host::process::{self, Command, Pid, SignalTarget, Termination};
use crate::host::random;
use crate::host::state_dir::StateDir;
use crate::host::wait::Interest;
use crate::log::{Level, Line};
use crate::metrics::At;
use crate::resource::{Census, Effect, Event, Job, Rendering, Resource};
use crate::state::origin;
use crate::store::Store;
use crate::template::{Limits, World};
use jobs::name_of;
use output::Output;
use persistence::Rendered;
use rendering::{Keys, Round};

/// One resource, with all that its effects need.
pub(super) struct Unit {
    pub(super) number: Number,
    pub(super) config: config::Resource,
    pub(super) state: Resource,
    mode: Mode,
    purpose: Purpose,
    store: Rc<Store>,
    /// The subscriptions, one for each backend; `None`: the unit was not started yet.
    backends: Option<Vec<Id>>,
    /// Since when a refresh of the whole resource is due.
    stale: Option<Instant>,
    /// An effect that was deferred because the turn took too long, and since when it waits.
    deferred: Option<(Instant, Effect)>,
    /// The results of the present update so far; the next turn renders the other templates.
    round: Option<Round>,
    /// The keys that the guard has accepted, for the update after it.
    judged: Option<Keys>,
    /// The last accepted update, if the guard compares with it.
    baseline: Option<Baseline>,
    /// The names that the present update looks up.
    lookups: Lookups,
    outputs: Vec<Output>,
    /// The templates were neither compiled nor rendered yet.
    pub(super) is_uncompiled: bool,
    pub(super) job: Option<(Job, Command)>,
    pub(super) child: Option<Child>,
    /// For each backend: the configured keys without a key below them that were reported.
    missing: Vec<Missing>,
    /// For each backend: whether the number of its keys was logged.
    is_counted: Vec<bool>,
    world: Rc<dyn World>,
    machine: Rc<Machine>,
    pub(super) limits: Limits,
    /// Whether a file was replaced.
    pub(super) has_replaced: bool,
    /// The history; `None`: neither telemetry nor the status file is configured.
    pub(super) record: Option<Record>,
    /// Whether every update renders every template.
    pub(super) renders_all: bool,
    /// The files that outlive the process; `None`: there are none.
    state_files: Option<StateFiles>,
    /// The keys of the present update, if they may be saved.
    rendered: Option<Rendered>,
    /// When the keys of an earlier run replace those of unreachable stores.
    cache_at: Option<Instant>,
    /// For each backend: whether its keys are from an earlier run.
    is_cached: Vec<bool>,
    /// When the update with the keys of the earlier run succeeded, in seconds since 1970; `None`: none were used.
    keys_of: Option<i64>,
    logger: Rc<Logger>,
}

/// The supervised child of a resource.
pub(super) struct Child {
    pub(super) pid: Pid,
    /// Set while the child ends in order to be started again.
    termination: Option<Termination>,
}

/// A child or a command that is being ended because its resource is no longer configured.
pub(super) struct Terminating {
    /// The number of its unit.
    pub(super) unit: Number,
    /// The name of its resource.
    pub(super) resource: String,
    pub(super) termination: Termination,
}

/// The reason of a unit's turn.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Due {
    Refresh,
    Deferred,
    Lookups,
    Cache,
    Resource,
    Keep,
}

/// After this time the unit defers its next file to the next turn. So a resource with many files on a slow disk, or
/// with many slow templates, does not block the loop.
const LONGEST_TURN: Duration = Duration::from_millis(20);

impl Unit {
    pub(super) fn new(
        number: Number,
        config: config::Resource,
        (mode, purpose): (Mode, Purpose),
        logger: Rc<Logger>,
        machine: Rc<Machine>,
    ) -> Unit {
        Unit {
            number,
            state: Resource::new(plan::of(&config, mode, purpose), random::below(u64::MAX)),
            mode,
            purpose,
            store: Rc::new(Store::new(config.backends.len())),
            outputs: config.templates.iter().map(Output::new).collect(),
            is_uncompiled: purpose != Purpose::Keys,
            missing: config.backends.iter().map(backend::missing).collect(),
            is_counted: vec![false; config.backends.len()],
            backends: None,
            stale: None,
            deferred: None,
            round: None,
            judged: None,
            baseline: None,
            lookups: Lookups::default(),
            job: None,
            child: None,
            world: Rc::<Machine>::clone(&machine),
            machine,
            limits: Limits::default(),
            has_replaced: false,
            record: None,
            renders_all: false,
            state_files: None,
            rendered: None,
            cache_at: None,
            is_cached: vec![false; config.backends.len()],
            keys_of: None,
            logger,
            config,
        }
    }

    /// Takes over the files of an earlier run, and subscribes to the backends. Later calls do nothing.
    pub(super) fn begin(&mut self, mode: Mode, pool: &mut Pool, state_dir: Option<&Rc<StateDir>>, now: Instant) {
        if self.backends.is_none() {
            if let Some(dir) = state_dir {
                self.open_state_files(dir, mode, now);
                self.sweep();
            }
            self.find_old_files();
        }
        let options = &self.config.backends;
        self.backends.get_or_insert_with(|| options.iter().map(|options| pool.open(options, mode, now)).collect());
    }

    /// Removes the stage files that a crash has left. With a state_dir, the journal of renames is finished first.
    pub(super) fn sweep(&self) {
        for (output, template) in self.outputs.iter().zip(&self.config.templates) {
            if self.purpose.writes() {
                output.destination.sweep();
            } else if self.purpose.checks() && template.check_cmd.is_some() {
                output.destination.sweep_trials();
            }
        }
    }

    /// The place of a subscription among the backends.
    pub(super) fn backend_of(&self, id: Id) -> Option<usize> {
        self.backends.as_ref()?.iter().position(|own| *own == id)
    }

    /// Renders everything again when the unit has its next turn.
    pub(super) fn ask_to_refresh(&mut self) {
        self.stale.get_or_insert_with(Instant::now);
    }

    /// Performs the deferred effect of an earlier turn.
    pub(super) fn continue_deferred(&mut self) {
        if let Some((_, effect)) = self.deferred.take() {
            let answer = self.perform(effect);
            self.handle_all(answer.into_iter().collect());
        }
    }

    /// Appends the descriptors that the lookups of the update wait for.
    pub(super) fn interests<'a>(&'a self, out: &mut Vec<Interest<'a>>) {
        if self.round.is_none() {
            self.lookups.interests(out);
        }
    }

    /// Continues the lookups of the update. When all names are known, the templates are rendered again.
    pub(super) fn look_up(&mut self) {
        if self.lookups.turn(self.machine.resolver(), Instant::now()) {
            let answer = self.perform(Effect::Render);
            self.handle_all(answer.into_iter().collect());
        }
    }

    pub(super) fn refresh(&mut self) {
        self.stale = None;
        self.store_mut().change_everything();
        self.handle(Event::Refresh);
    }

    /// The earliest reason for a turn.
    pub(super) fn due(&self) -> Option<(Instant, Due)> {
        let keep = self.state_files.as_ref().and_then(StateFiles::due).map(|at| (at, Due::Keep));
        self.due_for_update().into_iter().chain(keep).min()
    }

    /// The earliest reason for a turn that concerns updates, not the files for a later run.
    fn due_for_update(&self) -> Option<(Instant, Due)> {
        let refresh = self.stale.map(|since| (since, Due::Refresh));
        let deferred = self.deferred.as_ref().map(|(since, _)| (*since, Due::Deferred));
        // The lookups wait for the remaining templates, which may need more names.
        let lookups = self.lookups.due().filter(|_| self.round.is_none()).map(|at| (at, Due::Lookups));
        let cache = self.cache_at.map(|at| (at, Due::Cache));
        refresh
            .into_iter()
            .chain(deferred)
            .chain(lookups)
            .chain(cache)
            .chain(self.state.due().map(|at| (at, Due::Resource)))
            .min()
    }

    /// Whether no further event is possible: no backend reads again, and everything is in place.
    pub(super) fn is_over(&self, pool: &Pool) -> bool {
        let backends_are_over = self.backends.as_ref().is_some_and(|ids| ids.iter().all(|id| pool.is_over(*id)));
        // Unsaved keys are written at the end of the program.
        self.state.settled() && self.job.is_none() && backends_are_over && self.due_for_update().is_none()
    }

    /// The missing step of an unfinished unit, for a message.
    pub(super) fn waits_for(&self) -> String {
        if let Some((job, _)) = &self.job {
            return format!("the {}", name_of(*job));
        }
        let without_keys = (0..self.config.backends.len()).find(|backend| !self.is_counted[*backend]);
        match without_keys {
            Some(backend) => format!("the keys of {}", self.name(backend)),
            None if self.child.is_some() => "the child".to_owned(),
            None => "its update".to_owned(),
        }
    }

    /// When a time limit of the command or of the child's termination passes.
    pub(super) fn next_limit(&self) -> Option<Instant> {
        let job = self.job.as_ref().and_then(|(_, command)| command.due());
        let child = self.child.as_ref().and_then(|child| child.termination.as_ref()?.due());
        job.into_iter().chain(child).min()
    }

    pub(super) fn enforce_limits(&mut self, now: Instant) {
        let command = self.job.as_mut().and_then(|(_, command)| Some((command.enforce(now)?, command.pid())));
        let child = self.child.as_mut().and_then(|child| Some((child.termination.as_mut()?.escalate(now)?, child.pid)));
        for (escalation, pid) in command.into_iter().chain(child) {
            self.log(escalation.line(pid));
        }
    }

    /// Ends the running command, the child and the subscriptions.
    pub(super) fn shut_down(mut self, pool: &mut Pool) -> Vec<Terminating> {
        let now = Instant::now();
        let command = self.job.take().map(|(_, command)| command.terminate(now));
        let child = self.child.take().zip(self.config.exec.as_ref()).map(|(child, exec)| {
            child.termination.unwrap_or_else(|| {
                Termination::begin(SignalTarget::Child(child.pid), exec.kill_signal, exec.kill_timeout, now)
            })
        });
        let mut of_backends = Vec::new();
        for id in self.backends.take().unwrap_or_default() {
            self.log(Line::new(Level::Debug, "closing client connection").with("backend", pool.name(id)));
            of_backends.extend(pool.close(id, now));
        }
        let terminating =
            |termination| Terminating { unit: self.number, resource: self.config.name.clone(), termination };
        command.into_iter().chain(child).chain(of_backends).map(terminating).collect()
    }

    /// The findings of a run without effects.
    pub(super) fn findings(&mut self) -> Findings {
        Findings {
            resource: self.number,
            verdict: self.state.verdict(),
            templates: self.outputs.iter_mut().map(|output| std::mem::take(&mut output.outcome)).collect(),
            store: Rc::clone(&self.store),
        }
    }

    /// Leaks the keys at the end of the program: the kernel frees the memory at once, while dropping 100,000 keys one
    /// by one takes 8 ms.
    pub(super) fn abandon_keys(&mut self) {
        std::mem::forget(std::mem::take(&mut self.store));
    }

    fn store_mut(&mut self) -> &mut Store {
        // This copies the store only while an update still uses its first keys, or a file of them is written. Keys that
        // are saved later are not held (see `Rendered`).
        Rc::make_mut(&mut self.store)
    }

    /// The name of a backend in logs.
    fn name(&self, backend: usize) -> &str {
        self.config.backends[backend].kind.name()
    }

    /// Passes an event to the resource and performs its effects, until an effect is asynchronous or the time of the
    /// turn is used up.
    pub(super) fn handle(&mut self, event: Event) {
        self.handle_all(VecDeque::from([event]));
    }

    fn handle_all(&mut self, mut events: VecDeque<Event>) {
        let until = Instant::now() + LONGEST_TURN;
        while let Some(event) = events.pop_front() {
            let effects = self.decide(event);
            self.save_keys();
            for effect in effects {
                // Between two files no step is half done, so the rest can be deferred to the next turn.
                match effect {
                    Effect::Stage(_) | Effect::Render if Instant::now() >= until => {
                        self.deferred = Some((Instant::now(), effect));
                    }
                    effect => events.extend(self.perform(effect)),
                }
            }
        }
        self.save_reloads(None);
    }

    fn perform(&mut self, effect: Effect) -> Option<Event> {
        match effect {
            Effect::Log(line) => {
                self.log(line);
                None
            }
            Effect::Render if self.purpose == Purpose::Keys => {
                Some(Event::Rendered(self.outputs.iter().map(|_| Rendering::InSync).collect()))
            }
            Effect::Render => {
                self.is_uncompiled = false;
                self.render_all().map(Event::Rendered)
            }
            Effect::Judge => Some(Event::Judged(self.judge())),
            Effect::Accept => {
                // The keys have not changed since the guard judged them, because both happen in one turn.
                self.judged = None;
                self.note_changes();
                self.judged = Some(self.keys());
                self.baseline = baseline::compares(self.config.guard.as_ref()).then(|| Baseline::of(&self.store));
                self.save_baseline();
                None
            }
            Effect::Stage(t) if !self.purpose.writes() => Some(Event::Staged(self.preview(t))),
            Effect::Stage(t) => Some(Event::Staged(self.stage(t))),
            Effect::Journal(files) => {
                self.save_journal(&files);
                None
            }
            Effect::EndJournal => {
                self.end_journal();
                None
            }
            Effect::Install(t) if !self.purpose.writes() => {
                self.outputs[t].trial = None;
                Some(Event::Installed(Ok(None)))
            }
            Effect::Install(t) => Some(Event::Installed(self.install(t))),
            Effect::Keep(t) => Some(Event::Kept(self.keep(t))),
            Effect::PutBack(t) => Some(Event::PutBack(self.put_back(t))),
            Effect::Forget(t) => {
                self.outputs[t].forget_kept();
                None
            }
            Effect::Discard(t) => {
                (self.outputs[t].stage, self.outputs[t].trial) = (None, None);
                None
            }
            Effect::Run(job) => self.run(job),
            Effect::Spawn => Some(Event::Spawned(self.start_child())),
            Effect::SignalChild(number) => {
                if let Some(child) = &self.child {
                    self.log(Line::new(Level::Info, "telling the child to reload").with("signal", signal_name(number)));
                    process::signal(child.pid, number);
                }
                None
            }
            Effect::StopChild => {
                self.stop_child();
                None
            }
        }
    }

    /// The figures of the present keys for the guard.
    fn judge(&self) -> Census {
        let guard = self.config.guard.as_ref();
        guard.map(|guard| baseline::census(guard, self.baseline.as_ref(), &self.store)).unwrap_or_default()
    }

    /// Takes over the baseline of a replaced unit, if its keys have the origin of the new keys, and whether the
    /// override of the guard is used up.
    pub(super) fn inherit_baseline(&mut self, before: &Unit) {
        let origin = |unit: &Unit| origin::of(&unit.config.backends);
        if baseline::compares(self.config.guard.as_ref()) && origin(before) == origin(self) {
            self.baseline.clone_from(&before.baseline);
        }
        self.state.inherit_override(&before.state);
    }

    fn log(&self, line: Line) {
        self.logger.log(&about(&self.config, line));
    }
}

/// The moment on both clocks.
fn at(world: &dyn World) -> At {
    let (unix, nanos) = world.now();
    At { instant: Instant::now(), unix, nanos }
}

fn about(resource: &config::Resource, line: Line) -> Line {
    line.with("resource", resource.name.clone())
}
