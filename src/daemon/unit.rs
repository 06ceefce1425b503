//! One resource at work: carries out the decisions of `resource` by `host` and the backends. Makes no decision about
//! updates; the loop says when a unit has its turn. Its processes are in `jobs`, the reports of its backends in
//! `reports`, what outlives the process in `keeping`, and what is told of it in `telling`.

mod jobs;
mod keeping;
mod reports;
mod telling;

use std::collections::{HashMap, VecDeque};
use std::ffi::OsString;
use std::rc::Rc;
use std::time::{Duration, Instant};

use super::current::Current;
use super::kept::Kept;
use super::past::{self, Past};
use super::purpose::{Outcome, Purpose, Seen};
use super::record::Record;
use super::succession::Number;
use crate::backend::keys::Missing;
use crate::backend::{self, Id, Pool};
use crate::config::{self, Commit, Mode, OnReloadFailure, signal_name};
use crate::host::files::{self, Aside, Checked, Comparison, Destination, Present, Stage, Trial, Written};
use crate::host::logger::Logger;
use crate::host::lookups::Lookups;
use crate::host::machine::Machine;
use crate::host::process::{self, Command, Pid, SignalTarget, Termination};
use crate::host::random;
use crate::host::state_dir::StateDir;
use crate::host::wait::Interest;
use crate::log::{Level, Line};
use crate::mask::masked;
use crate::metrics::At;
use crate::patch::{self, Existing};
use crate::resource::{
    Census, ChildPlan, Effect, Event, Fault, Job, Plan, ReloadBy, Rendering, Resource, SettlePlan, TemplatePlan,
};
use crate::state::origin;
use crate::store::Store;
use crate::store::changes::Changes;
use crate::template::reads::Recording;
use crate::template::{Limits, Template, World};
use jobs::name_of;
use keeping::Rendered;

/// One resource, with all that its decisions need.
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
    /// An effect that is left to the next turn because this one lasted long enough, and since when it waits.
    deferred: Option<(Instant, Effect)>,
    /// The templates that the present update has rendered so far; the others are left to the next turn.
    round: Option<Round>,
    /// The keys that the guard has accepted, for the update that follows.
    judged: Option<Keys>,
    /// The last accepted update, if the guard compares with it.
    past: Option<Past>,
    /// The names that the present update looks up.
    lookups: Lookups,
    outputs: Vec<Output>,
    /// The templates were neither compiled nor rendered yet.
    pub(super) is_uncompiled: bool,
    pub(super) job: Option<(Job, Command)>,
    pub(super) child: Option<Child>,
    /// For each backend: the configured keys that were reported to have no key below them.
    missing: Vec<Missing>,
    /// For each backend: whether the number of its keys was logged.
    is_counted: Vec<bool>,
    world: Rc<dyn World>,
    machine: Rc<Machine>,
    pub(super) limits: Limits,
    /// Whether a file was replaced.
    pub(super) has_replaced: bool,
    /// What happened; `None`: neither telemetry nor the status file asks.
    pub(super) record: Option<Record>,
    /// Every update renders every template.
    pub(super) renders_all: bool,
    /// What outlives the process; `None`: nothing does.
    kept: Option<Kept>,
    /// The keys of the update that is under way, if they are to be kept.
    rendered: Option<Rendered>,
    /// When the keys of an earlier run are used for the stores that were not reached.
    cache_at: Option<Instant>,
    /// For each backend: whether its keys are those of an earlier run.
    is_cached: Vec<bool>,
    /// When the update that had those keys succeeded, in seconds since 1970; `None`: there were none.
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
    /// The number of the unit that it belonged to.
    pub(super) unit: Number,
    /// The name of the resource that it belonged to.
    pub(super) resource: String,
    pub(super) termination: Termination,
}

/// One template and the destination of its result.
struct Output {
    destination: Destination,
    /// Compiled; kept until one of its files changes.
    template: Option<Template>,
    /// Whether it has to be rendered at all.
    current: Current,
    /// The result of the present update that is not installed yet.
    content: Vec<u8>,
    stage: Option<Stage>,
    /// The old file, while it may have to be put back.
    aside: Option<Aside>,
    /// The result in place, while the old file may have to be put back.
    latest: Option<Written>,
    /// The last result in whose place the old file was put back.
    undone: Option<Written>,
    /// The result in a file for its check command, where nothing is installed.
    trial: Option<Trial>,
    /// What a run that only looks has seen of it.
    outcome: Outcome,
    /// The last result that was written to a destination that cannot be read back.
    written: Option<Vec<u8>>,
}

/// The results of rendering all templates so far.
struct Round {
    /// Those when the round began: all templates of an update are rendered from one state of the store.
    keys: Keys,
    renderings: Vec<Rendering>,
}

/// The keys of an update.
#[derive(Clone)]
struct Keys {
    store: Rc<Store>,
    /// Whether some of them are of an earlier run.
    is_from_cache: bool,
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

/// After this time the unit leaves its next file to the next turn. So a resource with many files on a slow disk, or with
/// many slow templates, does not hold up the loop.
const LONGEST_TURN: Duration = Duration::from_millis(20);

impl Unit {
    pub(super) fn new(
        number: Number,
        config: config::Resource,
        (mode, purpose): (Mode, Purpose),
        logger: Rc<Logger>,
        machine: Rc<Machine>,
    ) -> Unit {
        let plan = Plan {
            mode,
            together: config.commit == Commit::Together,
            templates: plans_of(&config, purpose),
            backends: config.backends.iter().map(|options| options.kind.name().to_owned()).collect(),
            is_preview: !purpose.writes(),
            start: purpose.acts() && config.start_cmd.is_some(),
            reload: purpose.acts() && config.reload_cmd.is_some(),
            rolls_back: config.on_reload_failure == OnReloadFailure::Rollback,
            child: config.exec.as_ref().filter(|_| purpose.acts()).map(|exec| ChildPlan {
                reload: exec.reload_signal.map_or(ReloadBy::Restart, ReloadBy::Signal),
                splay: exec.splay,
            }),
            settle: SettlePlan {
                min: config.settle.map_or(Duration::ZERO, |settle| settle.min),
                max: config.settle.map_or(Duration::ZERO, |settle| settle.max),
                splay: config.splay,
            },
            // Keys that a guard refuses can be looked at.
            guard: config.guard.clone().filter(|_| purpose.compares()),
        };
        Unit {
            number,
            state: Resource::new(plan, random::below(u64::MAX)),
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
            past: None,
            lookups: Lookups::default(),
            job: None,
            child: None,
            world: Rc::<Machine>::clone(&machine),
            machine,
            limits: Limits::default(),
            has_replaced: false,
            record: None,
            renders_all: false,
            kept: None,
            rendered: None,
            cache_at: None,
            is_cached: vec![false; config.backends.len()],
            keys_of: None,
            logger,
            config,
        }
    }

    /// Takes over what an earlier run has left, and subscribes to the backends, unless that was done.
    pub(super) fn begin(&mut self, mode: Mode, pool: &mut Pool, state_dir: Option<&Rc<StateDir>>, now: Instant) {
        if self.backends.is_none() {
            if let Some(dir) = state_dir {
                self.begin_kept(dir, mode, now);
                self.sweep();
            }
            self.find_old_files();
        }
        let options = &self.config.backends;
        self.backends.get_or_insert_with(|| options.iter().map(|options| pool.open(options, mode, now)).collect());
    }

    /// Removes the stage files that a crash has left. Where state is kept, those that are to be renamed are taken before.
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

    /// Reads and compiles all templates, so that their errors are logged even if no store can be reached.
    pub(super) fn compile_templates(&mut self) {
        self.is_uncompiled = false;
        for template in 0..self.outputs.len() {
            match self.compile(template) {
                Ok(compiled) => self.outputs[template].template = Some(compiled),
                // Rendering compiles it, if it is rendered at all.
                Err(_) if self.world.stopped() => return,
                Err(fault) => self.handle(Event::NotCompiled { template, fault }),
            }
        }
    }

    fn compile(&self, t: usize) -> Result<Template, Fault> {
        let src = &self.config.templates[t].src;
        let line = Line::new(Level::Debug, "compiling source template");
        self.logger.log(&about(&self.config, line.with("template", src.display().to_string())));
        let template = Template::compile_within(src, &self.world, self.limits, self.machine.scripts())
            .map_err(|error| self.fault_of(error, &self.store))?;
        if self.world.stamp(src).is_some_and(|stamp| stamp.size == 0) {
            let line = Line::new(Level::Warn, "the source template is empty");
            self.log(line.with("template", src.display().to_string()));
        }
        Ok(template)
    }

    /// Drops the compiled templates: the filters may have changed.
    pub(super) fn forget_templates(&mut self) {
        self.outputs.iter_mut().for_each(|output| output.template = None);
    }

    /// Renders everything again when the unit has its next turn.
    pub(super) fn ask_to_refresh(&mut self) {
        self.stale.get_or_insert_with(Instant::now);
    }

    /// Performs the effect that an earlier turn left.
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

    /// The earliest thing that is due.
    pub(super) fn due(&self) -> Option<(Instant, Due)> {
        let keep = self.kept.as_ref().and_then(Kept::due).map(|at| (at, Due::Keep));
        self.due_for_update().into_iter().chain(keep).min()
    }

    /// The same, but for what is kept for a later run.
    fn due_for_update(&self) -> Option<(Instant, Due)> {
        let refresh = self.stale.map(|since| (since, Due::Refresh));
        let deferred = self.deferred.as_ref().map(|(since, _)| (*since, Due::Deferred));
        // The names that the remaining templates ask for are looked up in one go with these.
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

    /// Whether nothing can happen any more: no backend reads again, and everything is in place.
    pub(super) fn is_over(&self, pool: &Pool) -> bool {
        let backends_are_over = self.backends.as_ref().is_some_and(|ids| ids.iter().all(|id| pool.is_over(*id)));
        // What is still to be kept is written at the end.
        self.state.settled() && self.job.is_none() && backends_are_over && self.due_for_update().is_none()
    }

    /// What keeps the unit from being done, for a message.
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

    /// What a run that only looks has seen.
    pub(super) fn seen(&mut self) -> Seen {
        Seen {
            resource: self.number,
            verdict: self.state.verdict(),
            templates: self.outputs.iter_mut().map(|output| std::mem::take(&mut output.outcome)).collect(),
            store: Rc::clone(&self.store),
        }
    }

    /// Leaves the keys in memory, for the end of the program: the kernel takes them back at once, key by key 100,000 take
    /// 8 ms.
    pub(super) fn abandon_keys(&mut self) {
        std::mem::forget(std::mem::take(&mut self.store));
    }

    fn store_mut(&mut self) -> &mut Store {
        // This copies the store only while an update still uses the keys that it began with, or a file of them is written.
        // Keys that are only to be kept some time are not held (see `Rendered`).
        Rc::make_mut(&mut self.store)
    }

    /// The name of a backend in logs.
    fn name(&self, backend: usize) -> &str {
        self.config.backends[backend].kind.name()
    }

    /// Hands an event to the resource and performs its effects, until an effect has to be waited for or the turn lasts long
    /// enough.
    pub(super) fn handle(&mut self, event: Event) {
        self.handle_all(VecDeque::from([event]));
    }

    fn handle_all(&mut self, mut events: VecDeque<Event>) {
        let until = Instant::now() + LONGEST_TURN;
        while let Some(event) = events.pop_front() {
            let effects = self.decide(event);
            self.keep_keys();
            for effect in effects {
                // Between two files nothing is half done and nothing is lost: here the rest can be left to the next turn.
                match effect {
                    Effect::Stage(_) | Effect::Render if Instant::now() >= until => {
                        self.deferred = Some((Instant::now(), effect));
                    }
                    effect => events.extend(self.perform(effect)),
                }
            }
        }
        self.keep_debts(None);
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
                // Nothing has changed the keys since they were judged: both are one turn.
                self.judged = None;
                self.note_changes();
                self.judged = Some(self.keys());
                self.past = past::compares(self.config.guard.as_ref()).then(|| Past::of(&self.store));
                self.keep_past();
                None
            }
            Effect::Stage(t) if !self.purpose.writes() => Some(Event::Staged(self.preview(t))),
            Effect::Stage(t) => Some(Event::Staged(self.stage(t))),
            Effect::Journal(files) => {
                self.keep_journal(&files);
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
        guard.map(|guard| past::census(guard, self.past.as_ref(), &self.store)).unwrap_or_default()
    }

    /// Takes over the last update that a replaced unit has accepted, if its keys are from the same stores, and whether it
    /// has used up the override of the guard.
    pub(super) fn inherit_past(&mut self, before: &Unit) {
        let origin = |unit: &Unit| origin::of(&unit.config.backends);
        if past::compares(self.config.guard.as_ref()) && origin(before) == origin(self) {
            self.past.clone_from(&before.past);
        }
        self.state.inherit_override(&before.state);
    }

    /// Renders all templates, or continues to do so. `None`: the rest is left to the next turn, or all templates are
    /// rendered again after a lookup of names.
    fn render_all(&mut self) -> Option<Vec<Rendering>> {
        let until = Instant::now() + LONGEST_TURN;
        let Round { keys, mut renderings } = match self.round.take() {
            Some(round) => round,
            None => self.begin_round(),
        };
        self.machine.swap_lookups(&mut self.lookups);
        while renderings.len() < self.outputs.len() && (Instant::now() < until || renderings.is_empty()) {
            renderings.push(self.render(renderings.len(), &keys.store));
        }
        self.machine.swap_lookups(&mut self.lookups);
        if renderings.len() < self.outputs.len() {
            self.round = Some(Round { keys, renderings });
            self.deferred = Some((Instant::now(), Effect::Render));
            return None;
        }
        self.rendered = self.kept.as_ref().map(|kept| Rendered::new(keys, kept, Instant::now()));
        let is_complete = !self.lookups.is_incomplete();
        self.lookups.end_round(Instant::now());
        if is_complete {
            self.judged = None;
        }
        is_complete.then_some(renderings)
    }

    /// An update begins with the present keys, or with those that the guard has accepted.
    fn begin_round(&mut self) -> Round {
        let keys = match &self.judged {
            // Their changes were noted when they were accepted. Later ones are for the next update.
            Some(judged) => judged.clone(),
            None => {
                self.note_changes();
                self.keys()
            }
        };
        Round { keys, renderings: Vec::new() }
    }

    /// The present keys.
    fn keys(&self) -> Keys {
        Keys { store: Rc::clone(&self.store), is_from_cache: self.is_from_cache() }
    }

    /// The next render has to render the templates that read a key that has changed since the last call.
    fn note_changes(&mut self) {
        let changes = match self.store_mut().take_changes() {
            _ if self.renders_all => Changes::Everything,
            changes => changes,
        };
        self.outputs.iter_mut().for_each(|output| output.current.keys_changed(&changes));
    }

    fn render(&mut self, t: usize, store: &Rc<Store>) -> Rendering {
        match self.render_and_compare(t, store) {
            Ok(true) => Rendering::InSync,
            Ok(false) if self.outputs[t].was_undone() => Rendering::Rejected,
            Ok(false) => Rendering::Differs,
            // A lookup that is ended gives an error of its own.
            Err(_) if self.world.stopped() => Rendering::Interrupted,
            Err(fault) => {
                if self.purpose == Purpose::Explain {
                    let outcome = &mut self.outputs[t].outcome;
                    let reads =
                        if let Outcome::Explained(reads) = std::mem::take(outcome) { Some(reads) } else { None };
                    *outcome = Outcome::Failed { reads, error: fault.message.clone() };
                }
                Rendering::Failed(fault)
            }
        }
    }

    /// Renders a template, unless the result is known to be in place. Returns whether the destination has the result
    /// already; if it has not, the result is kept.
    fn render_and_compare(&mut self, t: usize, store: &Rc<Store>) -> Result<bool, Fault> {
        let mut template = match self.outputs[t].template.take() {
            Some(template) if !template.is_stale(&*self.world) => {
                let output = &mut self.outputs[t];
                if output.current.holds(&output.destination) {
                    output.template = Some(template);
                    let line = Line::new(Level::Debug, "no key that the template reads has changed, not rendering it");
                    let line = line.with("dest", output.destination.path.display().to_string());
                    self.logger.log(&about(&self.config, line));
                    return Ok(true);
                }
                template
            }
            _ => {
                self.outputs[t].current = Current::default();
                self.compile(t)?
            }
        };
        (template.limits, template.recording) = (self.limits, self.recording());
        let output = &mut self.outputs[t];
        let began = self.record.is_some().then(Instant::now);
        let rendered = template.render(store, &self.world);
        if let (Some(record), Some(began), Ok(_)) = (&self.record, began, &rendered) {
            record.rendered_in(began.elapsed(), at(&*self.world));
        }
        let reads = template.take_reads();
        if self.purpose == Purpose::Explain {
            output.outcome = Outcome::Explained(reads);
        } else {
            output.current.rendered(reads);
        }
        let hints = template.take_hints();
        output.template = Some(template);
        for hint in hints {
            self.logger.log(&about(&self.config, Line::new(Level::Warn, hint)));
        }
        if self.machine.wants_names() {
            // The template is rendered again.
            return Ok(true);
        }
        let content = rendered.map_err(|error| self.fault_of(error, store))?;
        let output = &mut self.outputs[t];
        match self.purpose {
            Purpose::Explain => return Ok(true),
            Purpose::Render => {
                output.outcome = Outcome::Rendered(content);
                return Ok(true);
            }
            Purpose::Apply { .. } | Purpose::Preview { .. } | Purpose::Keys => output.content = content,
        }

        let line = Line::new(Level::Debug, "comparing staged and dest config files");
        let line = line.with("dest", output.destination.path.display().to_string()).with("staged", "in memory");
        self.logger.log(&about(&self.config, line));
        let same = match output.destination.compare(&output.content)? {
            Comparison::InSync => {
                output.current.in_place(&output.content);
                output.latest = output.aside.is_some().then(|| Written::new(&output.content));
                true
            }
            Comparison::Differs => false,
            Comparison::Unknowable => output.written.as_ref() == Some(&output.content),
        };
        if same {
            output.outcome = Outcome::InSync;
            output.content = Vec::new();
        }
        Ok(same)
    }

    /// How much of a render is recorded: as much as it takes to know what the next update has to render.
    fn recording(&self) -> Recording {
        let reads_changes = |backend| backend::watches(backend, self.mode);
        match self.purpose {
            Purpose::Explain => Recording::Everything,
            // Without a watch every update is of all keys.
            _ if self.renders_all || !self.config.backends.iter().any(reads_changes) => Recording::Nothing,
            Purpose::Apply { .. } | Purpose::Preview { .. } | Purpose::Render | Purpose::Keys => Recording::Bounded,
        }
    }

    /// Splits the error of a template into its first line and the excerpt below it. A value of a secret store may have become
    /// the name of a key that is missing, or another part of the text. `store` is the one that the template has read.
    fn fault_of(&self, error: crate::template::Error, store: &Store) -> Fault {
        let secret = self.config.backends.iter().enumerate().filter(|(_, backend)| backend.secret);
        let values = secret.flat_map(|(layer, _)| store.layer(layer).values().map(|value| &**value));
        let text = error.with_message(|message| masked(message, values).into_owned()).to_string();
        match text.split_once('\n') {
            Some((message, detail)) => Fault { message: message.to_owned(), detail: Some(detail.to_owned()) },
            None => text.into(),
        }
    }

    fn stage(&mut self, t: usize) -> Result<(), Fault> {
        let output = &mut self.outputs[t];
        let is_checked = self.purpose.checks() && self.config.templates[t].check_cmd.is_some();
        let checked = if is_checked { Checked::Yes } else { Checked::No };
        let stage = output.destination.stage(&output.content, checked)?;
        output.refuse_own_source(stage.replaces())?;
        output.stage = Some(stage);
        Ok(())
    }

    /// Compares the result of a template with its destination, and makes the file for its check command.
    fn preview(&mut self, t: usize) -> Result<(), Fault> {
        let is_checked = self.purpose.checks() && self.config.templates[t].check_cmd.is_some();
        let changes = self.changes(t)?;
        let output = &mut self.outputs[t];
        output.outcome = Outcome::Differs(changes);
        let content = std::mem::take(&mut output.content);
        if is_checked {
            output.trial = Some(output.destination.try_out(&content)?);
        }
        Ok(())
    }

    /// What installing the result of a template would change in its destination, as text.
    fn changes(&self, t: usize) -> Result<Vec<u8>, Fault> {
        let output = &self.outputs[t];
        let preview = output.destination.preview()?;
        output.refuse_own_source(preview.replaces)?;
        let old = match &preview.present {
            Present::Missing => Existing::Missing,
            Present::Special => Existing::Special,
            Present::File { content, mode, owner } => {
                Existing::File { content: content.as_deref(), mode: *mode, owner: *owner }
            }
        };
        let is_secret = self.config.backends.iter().any(|backend| backend.secret);
        let (path, new, mode, owner) = (&preview.path, &output.content, preview.mode, preview.owner);
        Ok(patch::Change { path, old, new, mode, owner, is_secret }.text())
    }

    fn install(&mut self, t: usize) -> Result<Option<String>, Fault> {
        // If the process is killed behind the rename, the next one knows what it owes.
        self.keep_debts(Some(t));
        let changes = self.purpose.logs_changes().then(|| self.changes(t));
        let output = &mut self.outputs[t];
        let stage = output.stage.take().expect("what is installed was staged before");
        let can_be_read_back = stage.is_for_regular_file();
        let content = std::mem::take(&mut output.content);
        let warning = output.destination.install(stage, &content)?;
        self.has_replaced = true;
        output.latest = output.aside.is_some().then(|| Written::new(&content));
        if can_be_read_back {
            output.current.in_place(&content);
        }
        output.written = (!can_be_read_back).then_some(content);
        if let Some(changes) = changes {
            self.log_changes(t, changes);
        }
        Ok(warning)
    }

    /// Logs what was changed in the destination of a template, for the flag `--diff`.
    fn log_changes(&self, t: usize, changes: Result<Vec<u8>, Fault>) {
        let line = Line::new(Level::Info, "changes of target config");
        let line = line.with("config", self.config.templates[t].dst.display().to_string());
        self.log(match changes {
            Ok(text) => Line { detail: Some(beginning(&text)), ..line },
            Err(fault) => line.with("error", fault.message),
        });
    }

    fn keep(&mut self, t: usize) -> Result<(), Fault> {
        let output = &mut self.outputs[t];
        output.aside = Some(output.destination.keep()?);
        Ok(())
    }

    fn put_back(&mut self, t: usize) -> Result<(), Fault> {
        // If the process is killed behind the rename, the next one knows what it owes.
        if self.state.is_undoing() {
            self.keep_debts(None);
        }
        let output = &mut self.outputs[t];
        let aside = output.aside.take().expect("what is put back was kept before");
        // The destination has not the result of the last render any more.
        output.current = Current::default();
        output.undone = output.latest.take();
        Ok(output.destination.put_back(aside)?)
    }

    fn log(&self, line: Line) {
        self.logger.log(&about(&self.config, line));
    }
}

impl Output {
    fn new(template: &config::Template) -> Output {
        let destination = Destination {
            path: template.dst.clone(),
            mode: template.mode,
            uid: template.uid,
            gid: template.gid,
            make_directories: template.make_directories,
            durability: template.durability,
            in_place: template.in_place,
            backup: template.backup,
            seen: files::Seen::default(),
        };
        Output {
            destination,
            template: None,
            current: Current::default(),
            content: Vec::new(),
            stage: None,
            aside: None,
            latest: None,
            undone: None,
            trial: None,
            outcome: Outcome::default(),
            written: None,
        }
    }

    /// Whether the present result is the one in whose place the old file was put back last.
    fn was_undone(&self) -> bool {
        self.undone.as_ref().is_some_and(|undone| undone.is(&self.content))
    }

    fn forget_kept(&mut self) {
        self.latest = None;
        if let Some(aside) = self.aside.take() {
            aside.forget();
        }
    }

    /// Refuses to replace a file that the template itself was made from: `replaced` is its device and inode.
    fn refuse_own_source(&self, replaced: Option<(u64, u64)>) -> Result<(), Fault> {
        match (replaced, &self.template) {
            (Some(file), Some(template)) if template.is_made_from(file) => {
                let dst = self.destination.path.display();
                Err(format!("failed to replace `{dst}`: its own template reads it, by this name or another").into())
            }
            _ => Ok(()),
        }
    }
}

/// The moment on both clocks.
fn at(world: &dyn World) -> At {
    let (unix, nanos) = world.now();
    At { instant: Instant::now(), unix, nanos }
}

/// The first lines of a text, and the number of the others.
fn beginning(text: &[u8]) -> String {
    const MOST: usize = 200;
    let mut lines = text.split_inclusive(|byte| *byte == b'\n');
    let mut shown: String = lines.by_ref().take(MOST).map(String::from_utf8_lossy).collect();
    match lines.count() {
        0 => {}
        1 => shown.push_str("... and 1 more line"),
        more => shown.push_str(&format!("... and {more} more lines")),
    }
    shown
}

fn plans_of(resource: &config::Resource, purpose: Purpose) -> Vec<TemplatePlan> {
    let text = |t: &config::Template| {
        let text = t.reload_cmd.as_ref()?.text(&t.dst);
        Some((text, t.on_reload_failure))
    };
    // The last template of each reload command.
    let mut last: HashMap<(OsString, OnReloadFailure), usize> = HashMap::new();
    if resource.reload_once {
        last.extend(resource.templates.iter().enumerate().filter_map(|(t, template)| Some((text(template)?, t))));
    }
    let plan = |(t, template): (usize, &config::Template)| TemplatePlan {
        dst: template.dst.display().to_string(),
        check: purpose.checks() && template.check_cmd.is_some(),
        reload: purpose.acts() && template.reload_cmd.is_some(),
        rolls_back: template.on_reload_failure == OnReloadFailure::Rollback,
        reloaded_by: if resource.reload_once { text(template).map_or(t, |text| last[&text]) } else { t },
    };
    resource.templates.iter().enumerate().map(plan).collect()
}

fn about(resource: &config::Resource, line: Line) -> Line {
    line.with("resource", resource.name.clone())
}
