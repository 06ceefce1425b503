//! The one loop: it polls, and gives each backend and each resource its turn. A pass has a time limit, whatever
//! arrives. `unit` has the turn of one resource, `resource` the decisions about updates, and the order of old and new
//! resources is in `succession`. Only `host` makes system calls.

mod current;
mod gate;
mod kept;
mod past;
pub mod purpose;
mod record;
mod status_file;
mod succession;
mod telemetry;
mod unit;

use std::collections::{BTreeSet, VecDeque};
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::{Duration, Instant};

use crate::backend::{self, Id, Pool};
use crate::config::{self, Config, Mode};
use crate::count::count;
use crate::cut::without_controls;
use crate::host::logger::Logger;
use crate::host::machine::Machine;
use crate::host::notify::{Notify, Standing};
use crate::host::process::{self, Pid};
use crate::host::random;
use crate::host::signals::{Signal, Signals, USER_1};
use crate::host::state_dir::StateDir;
use crate::host::wait::{self, Interest, Wake};
use crate::log::{self, Level, Line};
use crate::metrics::Gauge;
use crate::resource::{Event, Resource, Verdict};
use crate::status::{State, Status};
use crate::template::scripts::Scripts;
use crate::template::{Limits, World};

pub use gate::{Lock, Start, WhenHeld};
pub use status_file::lock_of;

use gate::{Gate, Passage};
use kept::Kept;
use purpose::{Purpose, Seen};
use record::state_of;
use status_file::StatusFile;
use succession::{Service, Succession};
use telemetry::{Subject, Telemetry};
use unit::{Due, Terminating, Unit};

/// All resources at work.
pub struct Daemon {
    mode: Mode,
    purpose: Purpose,
    /// What a run that only looks has seen.
    seen: Vec<Seen>,
    signals: Rc<Signals>,
    logger: Rc<Logger>,
    machine: Rc<Machine>,
    pool: Pool,
    notify: Notify,
    /// `None`: telemetry is off.
    telemetry: Option<Telemetry>,
    status_file: Option<StatusFile>,
    /// When the program started, in seconds since 1970.
    since: i64,
    units: Vec<Unit>,
    /// How many units were created; the next unit gets this number.
    next_number: usize,
    terminating: Vec<Terminating>,
    /// There may be ended children that were not reaped yet.
    may_have_zombies: bool,
    reload: Reload,
    succession: Succession,
    /// Whether the first update of each resource is accepted, whatever its guard says.
    overrides_guards: bool,
    /// What the start of all resources waits for.
    gate: Gate,
    /// The directory to open when the resources start.
    state_path: Option<PathBuf>,
    /// Whether all resources that use the directory are configured.
    has_all_resources: bool,
    /// What outlives the process; `None`: nothing does.
    state_dir: Option<Rc<StateDir>>,
    /// When the run is out of time, and how long it had.
    time_limit: Option<(Instant, Duration)>,
    /// A file was replaced by a unit that is gone.
    has_replaced: bool,
    /// How the run ends, once all terminating processes have ended.
    ending: Option<Ending>,
    renders_all: bool,
}

/// When SIGHUP is answered. The first one is answered at once. After a read of the configuration, the next read waits for as
/// long as the last one took, so that a flood of SIGHUP leaves half of the time to everything else.
#[derive(Debug, Default)]
struct Reload {
    is_wanted: bool,
    /// Since when the configuration is being read, outside of the loop.
    began: Option<Instant>,
    not_before: Option<Instant>,
}

impl Reload {
    fn is_due(&self, now: Instant) -> bool {
        self.is_wanted && self.not_before.is_none_or(|at| at <= now)
    }

    /// When the requested reload is due; `None`: no reload is requested.
    fn due(&self) -> Option<Instant> {
        self.not_before.filter(|_| self.is_wanted)
    }

    fn begin(&mut self, now: Instant) {
        *self = Reload { is_wanted: false, began: Some(now), not_before: None };
    }

    /// The read has ended, and the loop continues.
    fn end(&mut self, now: Instant) {
        if let Some(began) = self.began.take() {
            self.not_before = Some(now + now.saturating_duration_since(began));
        }
    }
}

/// How long one pass serves descriptors before it looks at signals and limits again. A turn that runs is not cut short.
const LONGEST_PASS: Duration = Duration::from_millis(20);

/// How many children one pass reaps. With a log line each that takes some milliseconds.
const MOST_REAPED: usize = 500;

/// The owner of a polled descriptor.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Source {
    Signals,
    /// Standard error, while lines wait for its reader.
    Log,
    Telemetry,
    Backend(backend::Source),
    Command {
        unit: usize,
    },
    Lookups {
        unit: usize,
    },
    /// The further output of a process that got its closing message.
    Farewell(Pid),
}

/// How the run ended.
#[derive(Debug, PartialEq, Eq)]
pub enum Ending {
    /// All work is done.
    Done {
        /// How many resources failed.
        failed: usize,
        /// The exit status of the child, as a shell reports it, if there is one resource and nothing failed but that its
        /// child ended by itself.
        child: Option<u8>,
        /// Whether a file was replaced.
        replaced: bool,
    },
    /// Another process holds the lock, and the run was not to wait for it. Nothing was started.
    Locked,
    /// The lock cannot be taken, or the state_dir cannot be used. Nothing was started.
    Unusable,
    /// A signal ended a run that goes on until then.
    Stopped,
    /// A signal ended a one-shot run before all of its work was done.
    CutShort {
        /// The number of the signal.
        signal: u8,
    },
    /// The run is not over: the caller reads the configuration again and continues it.
    Reload,
}

impl Daemon {
    /// `notify` reports the state of the program to systemd.
    pub fn new(
        (mode, purpose): (Mode, Purpose),
        signals: Rc<Signals>,
        logger: Rc<Logger>,
        machine: Rc<Machine>,
        notify: Notify,
    ) -> Daemon {
        let since = machine.now().0;
        Daemon {
            mode,
            purpose,
            seen: Vec::new(),
            signals,
            logger,
            machine,
            pool: Pool::new(random::below),
            notify,
            telemetry: None,
            status_file: None,
            since,
            units: Vec::new(),
            next_number: 0,
            terminating: Vec::new(),
            may_have_zombies: false,
            reload: Reload::default(),
            succession: Succession::default(),
            overrides_guards: false,
            gate: Gate::New(Start::default()),
            state_path: None,
            has_all_resources: false,
            state_dir: None,
            time_limit: None,
            has_replaced: false,
            ending: None,
            renders_all: false,
        }
    }

    /// Lets the resources wait before they start. To be called before the first run.
    pub fn start_after(&mut self, start: Start) {
        self.gate = Gate::New(start);
    }

    /// Accepts the first update of each resource, whatever its guard says.
    pub fn override_guards(&mut self) {
        self.overrides_guards = true;
    }

    /// Keeps state in this directory from the start of the resources on. `has_all`: whether all resources that use it are
    /// configured. What was kept of others is removed then.
    pub fn keep_state_in(&mut self, path: PathBuf, has_all: bool) {
        (self.state_path, self.has_all_resources) = (Some(path), has_all);
    }

    /// Whether state is kept at this path, or nowhere if there is none.
    pub fn keeps_state_in(&self, path: Option<&Path>) -> bool {
        match (&self.state_dir, &self.state_path) {
            (Some(dir), _) => path.is_some_and(|path| dir.is_at(path)),
            (None, known) => known.as_deref() == path,
        }
    }

    /// Ends the run this long after a moment. Resources that are not done by then have failed.
    pub fn limit_time(&mut self, since: Instant, limit: Duration) {
        self.time_limit = since.checked_add(limit).map(|until| (until, limit));
    }

    /// Every update renders every template, whatever has changed.
    pub fn render_all(&mut self) {
        self.renders_all = true;
    }

    /// What a run that only looks has seen, in the order of the configuration. Empty before the run has ended.
    pub fn take_seen(&mut self) -> Vec<Seen> {
        std::mem::take(&mut self.seen)
    }

    /// Replaces the configuration. A resource that is configured as before keeps its keys, its watch and its state, and is
    /// rendered again in a turn of its own. Every other resource starts when the processes of its predecessors have ended,
    /// and inherits the reloads that they owe. `scripts` are the filters of filter_dir.
    pub fn adopt(&mut self, config: Config, scripts: Scripts) {
        if !(scripts.is_empty() && self.machine.scripts().is_empty()) {
            self.units.iter_mut().for_each(Unit::forget_templates);
        }
        self.machine.set_scripts(scripts);

        let old: Vec<&config::Resource> = self.units.iter().map(|unit| &unit.config).collect();
        let kept = succession::kept(&old, &config.resources.iter().collect::<Vec<_>>());
        let is_kept = |at: usize| kept.contains(&Some(at));
        let (mut units, mut gone) = (Vec::new(), Vec::new());
        for (at, unit) in self.units.drain(..).enumerate() {
            if is_kept(at) { units.push(unit) } else { gone.push(unit) }
        }
        units.iter_mut().for_each(Unit::ask_to_refresh);
        let limits = limits_of(&config);
        let mut new: Vec<Unit> = Vec::new();
        for (resource, _) in config.resources.into_iter().zip(&kept).filter(|(_, kept)| kept.is_none()) {
            let (logger, machine) = (Rc::clone(&self.logger), Rc::clone(&self.machine));
            let mut unit = Unit::new(self.next_number, resource, (self.mode, self.purpose), logger, machine);
            if self.state_path.is_none() && self.state_dir.is_none() {
                unit.sweep();
            }
            (unit.limits, unit.renders_all) = (limits, self.renders_all);
            if self.overrides_guards {
                unit.state.override_guard();
            }
            new.push(unit);
            self.next_number += 1;
        }
        self.replace(gone, &mut new);
        self.units = units;
        self.units.extend(new);
        self.units.iter_mut().for_each(|unit| unit.limits = limits);
        let registry = self.telemetry.as_ref().map(|telemetry| &telemetry.registry);
        let has_status = self.status_file.is_some();
        self.units.iter_mut().for_each(|unit| unit.set_record(registry, has_status));
        self.status_file.iter_mut().for_each(|file| file.touch(Instant::now()));
        if let Some(telemetry) = &self.telemetry {
            telemetry.retain_resources(|name| self.units.iter().any(|unit| unit.config.name == name));
        }
    }

    /// Writes the state of the program to this file from now on. To be called before [`Daemon::adopt`]. A run that ends writes
    /// none: the file belongs to the daemon of the same configuration.
    pub fn set_status_file(&mut self, path: Option<&Path>) {
        let path = path.filter(|_| self.mode == Mode::Watch);
        if self.status_file.as_ref().is_some_and(|file| path.is_some_and(|path| file.is_at(path))) {
            return;
        }
        self.status_file = path.map(|path| StatusFile::new(path.to_owned(), Instant::now()));
    }

    /// Starts telemetry, applies a new configuration of it, or ends it. To be called before [`Daemon::adopt`].
    ///
    /// # Errors
    /// The address for Prometheus cannot be listened on. If the program runs on, it is tried again.
    pub fn set_telemetry(&mut self, config: &config::Telemetry) -> Result<(), String> {
        if !config.enabled {
            self.telemetry = None;
            return Ok(());
        }
        let (mode, logger, machine) = (self.mode, &self.logger, &self.machine);
        let new = || Telemetry::new(mode, Rc::clone(logger), Rc::clone(machine));
        self.telemetry.get_or_insert_with(new).configure(config, Instant::now())
    }

    /// Ends the units of `gone`; those of `new` take over from them.
    fn replace(&mut self, gone: Vec<Unit>, new: &mut [Unit]) {
        let numbers = gone.iter().map(|unit| unit.number).collect();
        let services = new.iter().map(|unit| (unit.number, Service::of(&unit.config))).collect();
        let replaced = self.succession.succeed(&numbers, services);
        for (unit, replaced) in new.iter_mut().zip(replaced) {
            let before = gone.iter().filter(|old| replaced.contains(&old.number));
            for old in before {
                unit.state.inherit(&old.state);
                unit.inherit_past(old);
            }
        }
        let pool = &mut self.pool;
        self.has_replaced |= gone.iter().any(|unit| unit.has_replaced);
        self.terminating.extend(gone.into_iter().flat_map(|unit| unit.shut_down(pool)));
        self.settle_succession();
        for unit in new.iter().filter(|unit| self.succession.is_held(unit.number)) {
            let line = Line::new(Level::Info, "waiting until the processes of the resource it replaces have ended");
            self.logger.log(&line.with("resource", unit.config.name.clone()));
        }
    }

    /// Releases the units whose predecessors have no process left.
    fn settle_succession(&mut self) {
        let terminating = &self.terminating;
        self.succession.settle(|number| terminating.iter().any(|terminating| terminating.unit == number));
    }

    /// Runs until every resource is done or a signal ends it.
    pub fn run(&mut self) -> Ending {
        // Sources that poll reported as readable and that had no turn yet.
        let mut readable = VecDeque::new();
        self.reload.end(Instant::now());
        // A program that called exec to become this one may have left children that ended before the handler was installed.
        self.reap();
        loop {
            let signals = self.signals.take();
            if signals.contains(&Signal::Child) || self.may_have_zombies {
                self.reap();
            }
            for signal in &signals {
                match signal {
                    Signal::Other(USER_1) if self.telemetry.as_mut().is_some_and(Telemetry::dump) => {}
                    Signal::Other(number) => self.forward(*number),
                    Signal::Terminate | Signal::Interrupt | Signal::Hangup | Signal::Child => {}
                }
            }
            if signals.contains(&Signal::Terminate) {
                self.stop("terminated", 15);
            } else if signals.contains(&Signal::Interrupt) {
                self.stop("interrupt", 2);
            }
            self.reload.is_wanted |= signals.contains(&Signal::Hangup) && self.ending.is_none();
            self.begin_released();
            let began = Instant::now();
            let until = began + LONGEST_PASS;
            while let Some(source) = readable.pop_front() {
                match source {
                    Source::Signals => {}
                    Source::Log => self.logger.flush(),
                    Source::Telemetry => self.serve(),
                    Source::Backend(source) => self.turn(source),
                    // While the program ends there are no units.
                    Source::Command { unit } => self.units.get_mut(unit).into_iter().for_each(Unit::listen),
                    Source::Lookups { unit } => self.units.get_mut(unit).into_iter().for_each(Unit::look_up),
                    Source::Farewell(pid) => self.drain(pid),
                }
                // The other sources have their turn after the next look at signals and limits.
                if Instant::now() >= until {
                    break;
                }
            }
            self.enforce_limits();
            self.turn_due(began, until);
            if let Some(warning) = self.notify.turn(Instant::now(), || standing(&self.units)) {
                self.logger.log(&Line::new(Level::Warn, warning));
            }
            if self.ending.is_none() && self.time_limit.is_some_and(|(until, _)| until <= Instant::now()) {
                self.run_out_of_time();
            }
            self.serve_if_due();
            self.write_status();
            if self.reload.is_due(Instant::now()) {
                self.reload.begin(Instant::now());
                self.notify.reloading();
                return Ending::Reload;
            }
            // A signal of this turn is handled first: work that it interrupted has not failed.
            if self.ending.is_none()
                && !self.signals.pending()
                && let Some(done) = self.finished()
            {
                self.end(done);
            }
            if self.terminating.is_empty()
                && let Some(ending) = self.ending.take()
            {
                return ending;
            }
            if readable.is_empty() {
                if let Some(telemetry) = &self.telemetry {
                    let now = Instant::now();
                    telemetry.pass_took(now.saturating_duration_since(began), now);
                }
                readable = self.wait();
            }
        }
    }

    /// Gives the receivers of metrics their turn.
    fn serve(&mut self) {
        if let Some(telemetry) = &mut self.telemetry {
            telemetry.turn(&Resources { units: &self.units, pool: &self.pool }, Instant::now());
        }
    }

    /// The same, if something is due. What this pass has counted is noticed first.
    fn serve_if_due(&mut self) {
        let Some(telemetry) = &mut self.telemetry else { return };
        let now = Instant::now();
        telemetry.notice(now);
        if telemetry.due().is_some_and(|at| at <= now) {
            self.serve();
        }
    }

    /// Writes the status file, if something has changed and it is due.
    fn write_status(&mut self) {
        let Some(file) = &mut self.status_file else { return };
        let now = Instant::now();
        let mut is_changed = false;
        self.units.iter_mut().filter_map(|unit| unit.record.as_mut()).for_each(|r| is_changed |= r.take_changed());
        if is_changed {
            file.touch(now);
        }
        let (units, pool, since) = (&self.units, &self.pool, self.since);
        let status = || Status {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            pid: std::process::id(),
            since,
            resources: units.iter().filter_map(|unit| unit.status(pool)).collect(),
        };
        if self.ending.is_none() {
            file.turn(now, status, &self.logger);
        }
    }

    /// Handles SIGTERM and SIGINT. The first one ends the run, the second one kills the processes that are still
    /// terminating.
    fn stop(&mut self, name: &str, signal: u8) {
        if self.ending.is_some() {
            let now = Instant::now();
            return self.terminating.iter_mut().for_each(|terminating| terminating.termination.kill(now));
        }
        self.logger.log(&Line::new(Level::Info, format!("Captured {name}. Exiting...")));
        self.end(match self.mode {
            Mode::Watch => Ending::Stopped,
            Mode::OneShot if self.is_in_place() => {
                Ending::Done { failed: 0, child: None, replaced: self.has_replaced() }
            }
            Mode::OneShot => Ending::CutShort { signal },
        });
    }

    /// Whether a one-shot run has nothing left to do but to end its children.
    fn is_in_place(&self) -> bool {
        self.units.iter().all(|unit| match unit.state.verdict() {
            Some(verdict) => verdict == Verdict::Succeeded,
            None => unit.state.has_started() && unit.state.is_idle() && !unit.state.is_failing(),
        })
    }

    /// Passes a signal on to all children, also to those that are terminating.
    fn forward(&self, number: i32) {
        let children = self.units.iter().filter_map(|unit| unit.child.as_ref()).map(|child| child.pid);
        let terminating = self.terminating.iter().filter_map(|terminating| terminating.termination.child());
        children.chain(terminating).for_each(|pid| process::signal(pid, number));
    }

    /// Drops the further output of a process that got its closing message.
    fn drain(&mut self, pid: Pid) {
        let of_it = self.terminating.iter_mut().filter(|terminating| terminating.termination.pid() == pid);
        of_it.for_each(|terminating| terminating.termination.drain());
    }

    /// Ends processes whose time limit has passed.
    fn enforce_limits(&mut self) {
        let now = Instant::now();
        if self.logger.due().is_some_and(|at| at <= now) {
            self.logger.flush();
        }
        self.units.iter_mut().for_each(|unit| unit.enforce_limits(now));
        for Terminating { termination, resource, .. } in &mut self.terminating {
            if let Some(escalation) = termination.escalate(now) {
                self.logger.log(&escalation.line(termination.pid()).with("resource", resource.clone()));
            }
        }
        let before = self.terminating.len();
        self.terminating.retain(|terminating| !terminating.termination.is_unkillable());
        if self.terminating.len() < before {
            self.settle_succession();
        }
    }

    /// Ends a run that is out of time: every resource without a verdict has failed.
    fn run_out_of_time(&mut self) {
        let limit = self.time_limit.map_or(Duration::ZERO, |(_, limit)| limit);
        for unit in self.units.iter().filter(|unit| unit.state.verdict().is_none()) {
            let what = match self.gate.waits_for() {
                Some(what) => what.to_owned(),
                None => unit.waits_for(),
            };
            let message = format!("failed to finish within the {} of `--timeout`", log::duration(limit));
            let line = Line::new(Level::Error, message).with("error", format!("still waiting for {what}"));
            self.logger.log(&line.with("resource", unit.config.name.clone()));
        }
        let failed = self.units.iter().filter(|unit| unit.state.verdict() != Some(Verdict::Succeeded)).count();
        let replaced = self.has_replaced();
        self.end(Ending::Done { failed, child: None, replaced });
    }

    /// Whether a file was replaced in this run.
    fn has_replaced(&self) -> bool {
        self.has_replaced || self.units.iter().any(|unit| unit.has_replaced)
    }

    /// Starts the units that are no longer held back.
    fn begin_released(&mut self) {
        let now = Instant::now();
        if self.ending.is_some() {
            return;
        }
        match self.gate.turn(now, |line| self.logger.log(line)) {
            Passage::Open => {}
            Passage::Closed => return,
            Passage::Held => {
                self.logger.log(&Line::new(Level::Info, "another process holds the lock of `--lock`, giving up"));
                return self.end(Ending::Locked);
            }
            Passage::Failed(error) => return self.refuse(&error),
        }
        if let Some(path) = self.state_path.take() {
            match StateDir::open(&path) {
                Ok(dir) => {
                    if self.has_all_resources {
                        let resources = self.units.iter().map(|unit| unit.config.name.as_str());
                        kept::remove_orphans(&dir, resources, |line| self.logger.log(&line));
                    }
                    self.state_dir = Some(Rc::new(dir));
                }
                Err(error) => return self.refuse(&error),
            }
        }
        self.telemetry.iter_mut().for_each(|telemetry| telemetry.begin(now));
        for unit in &mut self.units {
            if !self.succession.is_held(unit.number) {
                unit.begin(self.mode, &mut self.pool, self.state_dir.as_ref(), now);
            }
        }
    }

    /// Ends a run that cannot start. Whatever the log level is, the reason is told.
    fn refuse(&mut self, error: &str) {
        self.logger.say(&format!("remco: {error}; nothing was started\n"));
        self.end(Ending::Unusable);
    }

    /// Gives a backend its turn and hands its reports to the subscribers. All changes of one turn lead to one update.
    fn turn(&mut self, source: backend::Source) {
        let mut reports = Vec::new();
        self.pool.turn(source, Instant::now(), &mut reports);
        let mut loaded = BTreeSet::new();
        for (id, report) in reports {
            let Some((u, b)) = self.subscriber(id) else { continue };
            if self.units[u].take(b, report) {
                loaded.insert((u, b));
            }
        }
        for (u, b) in loaded {
            self.units[u].loaded(b);
        }
    }

    /// The unit of a subscription, and the place of the backend in that unit.
    fn subscriber(&self, id: Id) -> Option<(usize, usize)> {
        self.units.iter().enumerate().find_map(|(u, unit)| Some((u, unit.backend_of(id)?)))
    }

    /// Gives turns to units and backends that were due when the pass began, the longest due first, until the time of the
    /// pass is used up.
    fn turn_due(&mut self, began: Instant, until: Instant) {
        loop {
            let free = self.units.iter().enumerate().filter(|(_, unit)| !self.is_held(unit));
            let unit = free.filter_map(|(u, unit)| unit.due().map(|(at, due)| (at, u, due))).min();
            let backend = self.pool.due();
            match (unit, backend) {
                (Some((at, u, due)), other) if at <= began && other.is_none_or(|(other, _)| at <= other) => match due {
                    Due::Refresh => self.units[u].refresh(),
                    Due::Deferred => self.units[u].continue_deferred(),
                    Due::Lookups => self.units[u].look_up(),
                    Due::Cache => self.units[u].use_cache(&self.pool),
                    Due::Resource => self.units[u].handle(Event::Due),
                    Due::Keep => self.units[u].write_keys(Instant::now()),
                },
                (_, Some((at, source))) if at <= began => self.turn(source),
                // While stores answer there is time for what no update waits for yet.
                (Some(_) | None, Some(_) | None) => match self.units.iter_mut().find(|unit| unit.is_uncompiled) {
                    Some(unit) if backend.is_none_or(|(at, _)| at > Instant::now()) => unit.compile_templates(),
                    _ => return,
                },
            }
            if Instant::now() >= until {
                return;
            }
        }
    }

    /// Whether a unit still waits for the processes of its predecessors.
    fn is_held(&self, unit: &Unit) -> bool {
        self.succession.is_held(unit.number)
    }

    /// How the run ended, once no work is left: in a one-shot run when every resource has a verdict, else when every
    /// resource is settled and no backend can report anything new.
    fn finished(&self) -> Option<Ending> {
        // The errors of templates are logged even if their store is unreachable.
        if self.units.iter().any(|unit| unit.is_uncompiled) {
            return None;
        }
        match self.mode {
            Mode::OneShot => {
                let verdicts: Option<Vec<Verdict>> = self.units.iter().map(|unit| unit.state.verdict()).collect();
                let verdicts = verdicts?;
                let failed = verdicts.iter().filter(|verdict| **verdict != Verdict::Succeeded).count();
                let child = match verdicts[..] {
                    [Verdict::ChildEnded { status }] => Some(status),
                    _ => None,
                };
                Some(Ending::Done { failed, child, replaced: self.has_replaced() })
            }
            Mode::Watch => self.units.iter().all(|unit| unit.is_over(&self.pool)).then(|| Ending::Done {
                failed: 0,
                child: None,
                replaced: self.has_replaced(),
            }),
        }
    }

    fn wait(&self) -> VecDeque<Source> {
        let (interests, sources): (Vec<Interest<'_>>, Vec<Source>) = self.sources().into_iter().unzip();
        // A render of this turn may have emptied the pipe of the signals. Then poll must not wait.
        let until = match self.signals.pending() || self.may_have_zombies {
            true => Some(Instant::now()),
            false => self.next_moment(),
        };
        let ready = wait::ready(&interests, until);
        let mut all: VecDeque<Source> = VecDeque::new();
        for (source, _) in sources.into_iter().zip(ready).filter(|(_, is_ready)| *is_ready) {
            // A backend with several descriptors has one turn for all of them.
            if all.back() != Some(&source) {
                all.push_back(source);
            }
        }
        all
    }

    /// When the loop has work although no descriptor is ready.
    fn next_moment(&self) -> Option<Instant> {
        let free = self.units.iter().filter(|unit| !self.is_held(unit));
        let turns = free.filter_map(|unit| unit.due().map(|(at, _)| at));
        let limits = self.units.iter().filter_map(Unit::next_limit);
        turns
            .chain(limits)
            .chain(self.pool.due().map(|(at, _)| at))
            .chain(self.terminating.iter().filter_map(|terminating| terminating.termination.due()))
            .chain(self.notify.due())
            .chain(self.telemetry.as_ref().and_then(Telemetry::due))
            .chain(self.status_file.as_ref().filter(|_| self.ending.is_none()).and_then(StatusFile::due))
            .chain(self.reload.due())
            .chain(self.logger.due())
            .chain(self.gate.due())
            .chain(self.time_limit.filter(|_| self.ending.is_none()).map(|(until, _)| until))
            .chain(self.units.iter().any(|unit| unit.is_uncompiled).then(Instant::now))
            .min()
    }

    fn sources(&self) -> Vec<(Interest<'_>, Source)> {
        let mut all = vec![(Interest::read(self.signals.fd()), Source::Signals)];
        all.extend(self.logger.interest().map(|interest| (interest, Source::Log)));
        let mut receivers = Vec::new();
        self.telemetry.iter().for_each(|telemetry| telemetry.interests(&mut receivers));
        all.extend(receivers.into_iter().map(|interest| (interest, Source::Telemetry)));
        all.extend(self.pool.interests().into_iter().map(|(source, interest)| (interest, Source::Backend(source))));
        for Terminating { termination, .. } in &self.terminating {
            let interest = termination.output().map(Interest::read);
            all.extend(interest.map(|interest| (interest, Source::Farewell(termination.pid()))));
        }
        for (u, unit) in self.units.iter().enumerate() {
            let output = unit.job.as_ref().and_then(|(_, command)| command.fd());
            all.extend(output.map(|fd| (Interest::read(fd), Source::Command { unit: u })));
            let mut lookups = Vec::new();
            unit.interests(&mut lookups);
            all.extend(lookups.into_iter().map(|interest| (interest, Source::Lookups { unit: u })));
        }
        all
    }

    /// The one place that calls waitpid. The exit status goes to the unit or the backend that owns the child; all other
    /// children are adopted orphans. Many children are reaped in several passes.
    fn reap(&mut self) {
        self.may_have_zombies = true;
        for _ in 0..MOST_REAPED {
            let Some(exit) = process::reap() else {
                self.may_have_zombies = false;
                break;
            };
            let mut is_known = false;
            self.terminating.retain_mut(|terminating| {
                is_known |= terminating.termination.pid() == exit.pid;
                !terminating.termination.is_over(exit.pid)
            });
            if let Some(unit) = self.units.iter_mut().find(|unit| unit.has(exit.pid)) {
                self.terminating.extend(unit.reaped(&exit));
            } else if !self.pool.exited(&exit, Instant::now()) && !is_known {
                let text = format!("Reaped child process {}", exit.pid.as_raw_pid());
                self.logger.log(&Line::new(Level::Debug, text));
            }
        }
        self.settle_succession();
    }

    /// Ends all units. Staged files are removed with their units; installed files are whole.
    fn end(&mut self, ending: Ending) {
        self.reload = Reload::default();
        self.notify.stopping();
        if let Some(telemetry) = &mut self.telemetry {
            telemetry.finish(&Resources { units: &self.units, pool: &self.pool }, Instant::now());
        }
        if !self.purpose.writes() {
            self.seen = self.units.iter_mut().map(Unit::seen).collect();
        }
        let pool = &mut self.pool;
        let kept: Vec<(String, Kept)> = self.units.iter_mut().filter_map(Unit::take_kept).collect();
        self.units.iter_mut().for_each(Unit::abandon_keys);
        self.terminating.extend(self.units.drain(..).flat_map(|unit| unit.shut_down(pool)));
        // Children end meanwhile.
        for (resource, mut kept) in kept {
            kept.finish(Instant::now(), |line| self.logger.log(&line.with("resource", resource.clone())));
        }
        self.ending = Some(ending);
    }
}

/// The resources, as telemetry sees them.
struct Resources<'a> {
    units: &'a [Unit],
    pool: &'a Pool,
}

impl Subject for Resources<'_> {
    fn gauges(&self) -> Vec<Gauge> {
        let mut all = Vec::new();
        for unit in self.units {
            let is_in_sync = unit.state.has_started() && !unit.state.is_failing();
            let revision = |backend| unit.revision(backend, self.pool);
            unit.record.iter().for_each(|record| record.gauges(is_in_sync, revision, &mut all));
        }
        all
    }

    fn health(&self) -> (bool, String) {
        if self.units.is_empty() {
            return (false, "the program is ending\n".to_owned());
        }
        let (mut is_well, mut text) = (true, String::new());
        for unit in self.units {
            let state = state_of(&unit.state);
            is_well &= state == State::InPlace;
            text.push_str(&format!("{}: {state}\n", without_controls(&unit.config.name).collect::<String>()));
        }
        (is_well, text)
    }
}

/// Whether every resource has had its first complete update, and the state of all resources in one line.
fn standing(units: &[Unit]) -> Standing {
    let names = |which: fn(&Resource) -> bool| -> Vec<&str> {
        units.iter().filter(|unit| which(&unit.state)).map(|unit| &*unit.config.name).collect()
    };
    let (waiting, failing) = (names(|state| !state.has_started()), names(Resource::is_failing));
    let all = count(units.len(), "resource", "resources");
    let mut status = match waiting.len() {
        0 => format!("{all} in place"),
        _ => format!("{all}, first update under way: {}", some_of(&waiting)),
    };
    let cached: Vec<&str> = units.iter().filter(|unit| unit.is_from_cache()).map(|unit| &*unit.config.name).collect();
    if !cached.is_empty() {
        status.push_str(&format!("; from cache: {}", some_of(&cached)));
    }
    if !failing.is_empty() {
        status.push_str(&format!("; failing: {}", some_of(&failing)));
    }
    Standing { is_ready: waiting.is_empty(), status }
}

/// The first few names, and the number of the others.
fn some_of(names: &[&str]) -> String {
    const NAMED: usize = 3;
    let named = names[..names.len().min(NAMED)].join(", ");
    match names.len().saturating_sub(NAMED) {
        0 => named,
        more => format!("{named} and {more} more"),
    }
}

/// The limits of a render by the configuration.
pub fn limits_of(config: &Config) -> Limits {
    let config::Limits { template_steps, template_time, template_output, template_memory } = config.limits;
    Limits { steps: template_steps, time: template_time, output: template_output, memory: template_memory }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn after_a_reload_everything_else_has_as_long() {
        let (mut reload, start) = (Reload::default(), Instant::now());
        let at = |millis| start + Duration::from_millis(millis);
        assert_eq!((reload.is_due(at(0)), reload.due()), (false, None));
        reload.is_wanted = true;
        assert!(reload.is_due(at(0)));
        reload.begin(at(0));
        assert!(!reload.is_due(at(0)));
        reload.end(at(30));
        assert_eq!((reload.is_due(at(99)), reload.due()), (false, None), "nothing wants it");
        reload.is_wanted = true;
        assert_eq!((reload.is_due(at(59)), reload.due()), (false, Some(at(60))));
        assert!(reload.is_due(at(60)));
        // A run that was not preceded by a read of the configuration changes nothing.
        reload.end(at(60));
        assert!(reload.is_due(at(60)));
    }
}
