//! The one loop: it polls, and gives each backend and each resource its turn. A pass has a time limit, however much
//! arrives. `unit` has the turn of one resource, `resource` the decisions about updates, `adoption` the change of the
//! configuration, `ending` the end of a run. Only `host` makes system calls.

mod adoption;
mod baseline;
mod current;
mod ending;
mod gate;
pub mod purpose;
mod readiness;
mod record;
mod reload;
mod state_files;
mod status_file;
mod succession;
mod telemetry;
mod unit;

use std::collections::{BTreeSet, VecDeque};
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::{Duration, Instant};

use crate::backend::{self, Id, Pool};
use crate::config::Mode;
use crate::host::logger::Logger;
use crate::host::machine::Machine;
use crate::host::notify::Notify;
use crate::host::process::{self, Pid};
use crate::host::random;
use crate::host::signals::{Signal, Signals, USER_1};
use crate::host::state_dir::StateDir;
use crate::host::wait::{self, Interest, Wake};
use crate::log::{Level, Line};
use crate::resource::Event;
use crate::status::Status;
use crate::template::World;

pub use adoption::limits_of;
pub use ending::Ending;
pub use gate::{Lock, Start, WhenHeld};
pub use status_file::lock_of;

use gate::{Gate, Passage};
use purpose::{Findings, Purpose};
use readiness::{Resources, readiness_of};
use reload::Reload;
use status_file::StatusFile;
use succession::Succession;
use telemetry::Telemetry;
use unit::{Due, Terminating, Unit};

/// All resources at run time, and what they share.
pub struct Daemon {
    mode: Mode,
    purpose: Purpose,
    /// The findings of a run without effects.
    findings: Vec<Findings>,
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
    /// Whether the guards are overridden for the first update of each resource.
    overrides_guards: bool,
    /// The conditions of the start of all resources.
    gate: Gate,
    /// The directory to open when the resources start.
    state_path: Option<PathBuf>,
    /// Whether all resources that use the directory are configured.
    has_all_resources: bool,
    /// The directory of the files that outlive the process; `None`: there is none.
    state_dir: Option<Rc<StateDir>>,
    /// The deadline of the run, and its time limit.
    time_limit: Option<(Instant, Duration)>,
    /// A file was replaced by a unit that is gone.
    has_replaced: bool,
    /// How the run ends, once all terminating processes have ended.
    ending: Option<Ending>,
    renders_all: bool,
}

/// How long one pass serves descriptors before the loop checks signals and limits again. A turn is never interrupted.
const LONGEST_PASS: Duration = Duration::from_millis(20);

/// How many children one pass reaps. With a log line for each child this takes some milliseconds.
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
    Terminating(Pid),
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
            findings: Vec::new(),
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

    /// Overrides the guards for the first update of each resource.
    pub fn override_guards(&mut self) {
        self.overrides_guards = true;
    }

    /// Keeps state in this directory from the start of the resources on. `has_all`: whether all resources that use the
    /// directory are configured. The files of other resources are removed then.
    pub fn keep_state_in(&mut self, path: PathBuf, has_all: bool) {
        (self.state_path, self.has_all_resources) = (Some(path), has_all);
    }

    /// Whether state is kept at this path. `None`: whether no state is kept.
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

    /// Makes every update render every template, even if no key of the template has changed.
    pub fn render_all(&mut self) {
        self.renders_all = true;
    }

    /// The findings of a run without effects, in the order of the configuration. Empty before the run has ended.
    pub fn take_findings(&mut self) -> Vec<Findings> {
        std::mem::take(&mut self.findings)
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
        // A program that called exec to become this one may have left children that ended before the handler was
        // installed.
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
                    // There are no units while the program ends.
                    Source::Command { unit } => self.units.get_mut(unit).into_iter().for_each(Unit::listen),
                    Source::Lookups { unit } => self.units.get_mut(unit).into_iter().for_each(Unit::look_up),
                    Source::Terminating(pid) => self.drain(pid),
                }
                // The other sources have their turn after signals and limits were checked.
                if Instant::now() >= until {
                    break;
                }
            }
            self.enforce_limits();
            self.turn_due(began, until);
            if let Some(warning) = self.notify.turn(Instant::now(), || readiness_of(&self.units)) {
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

    /// Gives the receivers of metrics their turn if one of them is due. The counts of this pass are recorded first.
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

    /// Forwards a signal to all children, including those that are terminating.
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
                        state_files::remove_orphans(&dir, resources, |line| self.logger.log(&line));
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

    /// Gives turns to units and backends that were due when the pass began, the longest due first, until the time of
    /// the pass is used up.
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
                // The time until a store answers is used to compile templates that no update waits for yet.
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
            all.extend(interest.map(|interest| (interest, Source::Terminating(termination.pid()))));
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

    /// The only caller of waitpid. The exit status goes to the unit or the backend that owns the child; all other
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
}
