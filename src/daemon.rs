//! The one loop: wait, hand what happened to the resources, perform what they decide. Decides
//! nothing about updates itself (that is `resource`) and makes no system call but through `host`.

use std::collections::{BTreeSet, VecDeque};
use std::ffi::OsString;
use std::os::fd::BorrowedFd;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::backend::{Backend, Change, Pool, Report};
use crate::config::{self, Config, Mode};
use crate::error::cause;
use crate::host::files::{Checked, Comparison, Destination, Stage};
use crate::host::logger::Logger;
use crate::host::machine::Machine;
use crate::host::notify::Notify;
use crate::host::process::{self, Command, Ended, Exit, Farewell, Insistence, Pid, Whom};
use crate::host::random;
use crate::host::signals::{Signal, Signals};
use crate::host::wait::{self, Wake};
use crate::log::{self, Level, Line};
use crate::resource::{
    ChildPlan, Effect, Event, Fault, Job, Plan, ReloadBy, Rendering, Resource, TemplatePlan, Verdict,
};
use crate::store::{Bytes, Store};
use crate::template::scripts::Scripts;
use crate::template::{Limits, Template, World};

/// All resources at work.
pub struct Daemon {
    mode: Mode,
    signals: Arc<Signals>,
    logger: Rc<Logger>,
    machine: Rc<Machine>,
    pool: Pool,
    notify: Notify,
    units: Vec<Unit>,
    /// How many units there have been: their numbers.
    numbers: usize,
    leaving: Vec<Leaving>,
    /// The run is to end so, once nobody is leaving any more.
    ending: Option<Ending>,
}

/// One resource with everything that carries out its decisions.
struct Unit {
    number: usize,
    /// The unit that it replaces. Two children would fight for a port, so it begins when all of that one is gone.
    replaces: Option<usize>,
    config: config::Resource,
    state: Resource,
    store: Rc<Store>,
    backends: Vec<Box<dyn Backend>>,
    /// The first backend that had no turn yet, and since when its turn is due.
    fresh: (usize, Instant),
    outputs: Vec<Output>,
    job: Option<(Job, Command)>,
    child: Option<Child>,
    /// The keys that more than one backend holds, as far as the user was told of them.
    collisions: BTreeSet<Bytes>,
    world: Rc<dyn World>,
    limits: Limits,
    logger: Rc<Logger>,
}

/// The supervised child of a resource.
struct Child {
    pid: Pid,
    /// It was told to end, to be started again.
    farewell: Option<Farewell>,
}

/// A child or a command of a resource that is no more.
struct Leaving {
    /// The number of the unit, as long as what replaces that has to wait.
    unit: Option<usize>,
    /// The name of its resource.
    resource: String,
    farewell: Farewell,
}

/// One template and its result.
struct Output {
    destination: Destination,
    /// Kept until a file it came from changes.
    template: Option<Template>,
    /// The result of the update under way, where it is not in place yet.
    content: Vec<u8>,
    stage: Option<Stage>,
    /// What was written last to a destination that cannot be read back.
    written: Option<Vec<u8>>,
}

/// Whose descriptor is waited for.
#[derive(Clone, Copy)]
enum Source {
    Signals,
    Backend { unit: usize, backend: usize },
    Command { unit: usize },
}

/// Whose moment comes next, within a unit.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Due {
    Backend(usize),
    Resource,
}

/// How the run ended.
#[derive(Debug, PartialEq, Eq)]
pub enum Ending {
    /// Everything there was to do is done; so many resources failed.
    Done { failed: usize },
    /// By a signal.
    Stopped,
    /// Not at all: the configuration is to be read again, and the run to go on.
    Reload,
}

impl Daemon {
    /// `notify`: who is told how things stand.
    pub fn new(mode: Mode, signals: Arc<Signals>, logger: Rc<Logger>, machine: Rc<Machine>, notify: Notify) -> Daemon {
        let wake: Arc<dyn Wake> = Arc::<Signals>::clone(&signals);
        Daemon {
            mode,
            signals,
            logger,
            machine,
            pool: Pool::new(wake, random::below),
            notify,
            units: Vec::new(),
            numbers: 0,
            leaving: Vec::new(),
            ending: None,
        }
    }

    /// Takes a configuration for the one in force. A resource that is configured as before keeps its keys, its watch
    /// and its state and is only rendered again; the others begin anew, with the reloads that their predecessors owe.
    /// `scripts`: the filters of filter_dir.
    pub fn adopt(&mut self, config: &Config, scripts: Scripts) {
        let is_new = |resource: &&config::Resource| self.units.iter().all(|unit| unit.config != **resource);
        let new = config.resources.iter().filter(is_new).zip(self.numbers..).map(|(resource, number)| {
            let (logger, machine) = (Rc::clone(&self.logger), Rc::clone(&self.machine));
            Unit::new(number, resource.clone(), self.mode, &mut self.pool, logger, machine)
        });
        let mut new: Vec<Unit> = new.collect();
        self.numbers += new.len();

        let is_kept = |unit: &Unit| config.resources.contains(&unit.config);
        let (mut kept, gone): (Vec<Unit>, Vec<Unit>) = self.units.drain(..).partition(is_kept);
        replace(&gone, &mut new);
        self.leaving.extend(gone.into_iter().flat_map(Unit::leave));
        if !(scripts.is_empty() && self.machine.scripts().is_empty()) {
            kept.iter_mut().for_each(Unit::forget_templates);
        }
        self.machine.set_scripts(scripts);
        let limits = limits_of(config);
        kept.iter_mut().chain(&mut new).for_each(|unit| unit.limits = limits);
        kept.iter_mut().for_each(|unit| unit.handle(Event::Refresh));
        self.units = kept;
        self.units.extend(new);
    }

    /// Runs until every resource is done or a signal ends it.
    pub fn run(&mut self) -> Ending {
        let mut readable = Vec::new();
        // Whoever became this program by exec may have had children that ended before there was a handler.
        self.reap();
        loop {
            let signals = self.signals.take();
            if signals.contains(&Signal::Child) {
                self.reap();
            }
            for signal in &signals {
                match signal {
                    Signal::Other(number) => self.forward(*number),
                    Signal::Terminate | Signal::Interrupt | Signal::Hangup | Signal::Child => {}
                }
            }
            if signals.contains(&Signal::Terminate) {
                self.stop("terminated");
            } else if signals.contains(&Signal::Interrupt) {
                self.stop("interrupt");
            }
            if signals.contains(&Signal::Hangup) && self.ending.is_none() {
                self.notify.reloading();
                return Ending::Reload;
            }
            for source in readable.drain(..) {
                match source {
                    Source::Signals => {}
                    // At the end there are none any more.
                    Source::Backend { unit, backend } => {
                        self.units.get_mut(unit).into_iter().for_each(|u| u.turn(backend))
                    }
                    Source::Command { unit } => self.units.get_mut(unit).into_iter().for_each(Unit::listen),
                }
            }
            self.enforce_limits();
            self.turn_longest_due();
            self.notify.turn(Instant::now(), || standing(&self.units));
            if self.ending.is_none()
                && let Some(failed) = self.finished()
            {
                self.end(Ending::Done { failed });
            }
            if self.leaving.is_empty()
                && let Some(ending) = self.ending.take()
            {
                return ending;
            }
            readable = self.wait();
        }
    }

    /// A signal asked for the end. Asked twice, nobody is waited for.
    fn stop(&mut self, name: &str) {
        if self.ending.is_some() {
            let now = Instant::now();
            return self.leaving.iter_mut().for_each(|leaving| leaving.farewell.kill(now));
        }
        self.logger.log(&Line::new(Level::Info, format!("Captured {name}. Exiting...")));
        self.end(Ending::Stopped);
    }

    /// Passes a signal on to the children, those that have been told to end too.
    fn forward(&self, number: i32) {
        let children = self.units.iter().filter_map(|unit| unit.child.as_ref()).map(|child| child.pid);
        let leaving = self.leaving.iter().filter_map(|leaving| leaving.farewell.child());
        children.chain(leaving).for_each(|pid| process::signal(pid, number));
    }

    /// Ends what has had its time. A request of a turn takes longer than all of this.
    fn enforce_limits(&mut self) {
        let now = Instant::now();
        self.units.iter_mut().for_each(|unit| unit.enforce_limits(now));
        for Leaving { farewell, resource, .. } in &mut self.leaving {
            if let Some(insistence) = farewell.insist(now) {
                self.logger.log(&insisted(insistence, farewell.pid()).with("resource", resource.clone()));
            }
        }
        self.leaving.retain(|leaving| !leaving.farewell.is_hopeless());
    }

    /// Gives one turn, to whoever is due longest. A turn may make a request and take seconds: signals and everybody
    /// else's news must not wait for the turns of all.
    fn turn_longest_due(&mut self) {
        let due = self.units.iter().enumerate().filter(|(_, unit)| !self.is_held(unit));
        let due = due.filter_map(|(u, unit)| unit.due().map(|(at, due)| (at, u, due))).min();
        match due {
            Some((at, u, Due::Backend(b))) if at <= Instant::now() => self.units[u].turn(b),
            Some((at, u, Due::Resource)) if at <= Instant::now() => self.units[u].handle(Event::Due),
            Some(_) | None => {}
        }
    }

    /// Whether a unit waits for what is left of the one that it replaces.
    fn is_held(&self, unit: &Unit) -> bool {
        unit.replaces.is_some() && self.leaving.iter().any(|leaving| leaving.unit == unit.replaces)
    }

    /// How many resources failed, once nothing is left to do: in a one-shot run when each has its verdict, else when
    /// each is settled and none of its backends will ever have something new.
    fn finished(&self) -> Option<usize> {
        match self.mode {
            Mode::OneShot => {
                let verdicts: Option<Vec<Verdict>> = self.units.iter().map(|unit| unit.state.verdict()).collect();
                Some(verdicts?.into_iter().filter(|verdict| *verdict == Verdict::Failed).count())
            }
            Mode::Watch => self.units.iter().all(Unit::is_over).then_some(0),
        }
    }

    fn wait(&self) -> Vec<Source> {
        let (fds, sources): (Vec<BorrowedFd<'_>>, Vec<Source>) = self.sources().into_iter().unzip();
        // A request or a render of this turn may have emptied the signals' pipe: then nothing is waited for.
        let until = match self.signals.pending() {
            true => Some(Instant::now()),
            false => self.next_moment(),
        };
        let readable = wait::readable(&fds, until);
        sources.into_iter().zip(readable).filter_map(|(source, is)| is.then_some(source)).collect()
    }

    /// When something is due although nothing comes.
    fn next_moment(&self) -> Option<Instant> {
        let free = self.units.iter().filter(|unit| !self.is_held(unit));
        let turns = free.filter_map(|unit| unit.due().map(|(at, _)| at));
        let limits = self.units.iter().filter_map(Unit::next_limit);
        turns
            .chain(limits)
            .chain(self.leaving.iter().filter_map(|leaving| leaving.farewell.due()))
            .chain(self.notify.due())
            .min()
    }

    fn sources(&self) -> Vec<(BorrowedFd<'_>, Source)> {
        let mut all = vec![(self.signals.fd(), Source::Signals)];
        let mut fds = Vec::new();
        for (u, unit) in self.units.iter().enumerate() {
            for (b, backend) in unit.backends.iter().enumerate() {
                backend.fds(&mut fds);
                all.extend(fds.drain(..).map(|fd| (fd, Source::Backend { unit: u, backend: b })));
            }
            let output = unit.job.as_ref().and_then(|(_, command)| command.fd());
            all.extend(output.map(|fd| (fd, Source::Command { unit: u })));
        }
        all
    }

    /// The one place where children are waited for: the status goes to whose child it was, the rest were orphans.
    fn reap(&mut self) {
        while let Some(exit) = process::reap() {
            let mut is_known = false;
            self.leaving.retain_mut(|leaving| {
                is_known |= leaving.farewell.pid() == exit.pid;
                !leaving.farewell.is_over(exit.pid)
            });
            if let Some(unit) = self.units.iter_mut().find(|unit| unit.has(exit.pid)) {
                self.leaving.extend(unit.reaped(&exit));
            } else if !is_known {
                let text = format!("Reaped child process {}", exit.pid.as_raw_pid());
                self.logger.log(&Line::new(Level::Debug, text));
            }
        }
    }

    /// Lets go of everything. Staged files are removed with their units; what is installed is whole.
    fn end(&mut self, ending: Ending) {
        self.notify.stopping();
        self.leaving.extend(self.units.drain(..).flat_map(Unit::leave));
        self.ending = Some(ending);
    }
}

impl Unit {
    fn new(
        number: usize,
        config: config::Resource,
        mode: Mode,
        pool: &mut Pool,
        logger: Rc<Logger>,
        machine: Rc<Machine>,
    ) -> Unit {
        let backends: Vec<Box<dyn Backend>> = config.backends.iter().map(|options| pool.open(options, mode)).collect();
        let plan = Plan {
            mode,
            templates: config.templates.iter().map(plan_of).collect(),
            backends: backends.iter().map(|backend| backend.name()).collect(),
            start: config.start_cmd.is_some(),
            reload: config.reload_cmd.is_some(),
            child: config.exec.as_ref().map(|exec| ChildPlan {
                reload: exec.reload_signal.map_or(ReloadBy::Restart, ReloadBy::Signal),
                splay: exec.splay,
            }),
        };
        Unit {
            number,
            replaces: None,
            state: Resource::new(plan, random::below(u64::MAX)),
            store: Rc::new(Store::new(backends.len())),
            outputs: config.templates.iter().map(Output::new).collect(),
            backends,
            fresh: (0, Instant::now()),
            job: None,
            child: None,
            collisions: BTreeSet::new(),
            world: machine,
            limits: Limits::default(),
            logger,
            config,
        }
    }

    /// Has all templates compiled again: the filters may be others.
    fn forget_templates(&mut self) {
        self.outputs.iter_mut().for_each(|output| output.template = None);
    }

    /// What of it is due first.
    fn due(&self) -> Option<(Instant, Due)> {
        let (fresh, since) = self.fresh;
        let backends = self.backends.iter().enumerate().filter_map(|(b, backend)| {
            let at = if b < fresh { backend.due() } else { Some(since) };
            at.map(|at| (at, Due::Backend(b)))
        });
        backends.chain(self.state.due().map(|at| (at, Due::Resource))).min()
    }

    /// Whether nothing will ever happen again: the keys were read for good and everything is in place.
    fn is_over(&self) -> bool {
        let mut fds = Vec::new();
        self.backends.iter().for_each(|backend| backend.fds(&mut fds));
        self.state.settled() && self.job.is_none() && fds.is_empty() && self.due().is_none()
    }

    /// Lets one backend work and hands on what it brought. Events of one turn end in one update.
    fn turn(&mut self, backend: usize) {
        self.fresh.0 = self.fresh.0.max(backend + 1);
        let mut reports = Vec::new();
        self.backends[backend].turn(Instant::now(), &mut reports);
        let mut news = false;
        for report in reports {
            news |= self.take(backend, report);
        }
        if news {
            self.warn_of_collisions();
            self.handle(Event::Loaded { backend });
        }
    }

    /// Takes one report in. Tells whether it calls for an update.
    fn take(&mut self, backend: usize, report: Report) -> bool {
        match report {
            Report::Snapshot(layer) => {
                self.store_mut().replace(backend, layer);
                return true;
            }
            Report::Changes { changes, trigger } => {
                let store = self.store_mut();
                for change in changes {
                    match change {
                        Change::Put(key, value) => store.put(backend, &key, &value),
                        Change::Delete(key) => store.delete(backend, &key),
                    };
                }
                return trigger;
            }
            Report::Failed(error) => self.handle(Event::Unreachable { backend, error }),
            Report::Recovered => self.handle(Event::Reached { backend }),
            Report::Log(line) => self.log(line),
        }
        false
    }

    /// When a limit of a command or of the child's farewell is reached.
    fn next_limit(&self) -> Option<Instant> {
        let job = self.job.as_ref().and_then(|(_, command)| command.due());
        let child = self.child.as_ref().and_then(|child| child.farewell.as_ref()?.due());
        job.into_iter().chain(child).min()
    }

    fn enforce_limits(&mut self, now: Instant) {
        let command = self.job.as_mut().and_then(|(_, command)| Some((command.enforce(now)?, command.pid())));
        let child = self.child.as_mut().and_then(|child| Some((child.farewell.as_mut()?.insist(now)?, child.pid)));
        for (insistence, pid) in command.into_iter().chain(child) {
            self.log(insisted(insistence, pid));
        }
    }

    /// Ends the running command, the child and the backends. What those still have to say is only for the log.
    fn leave(mut self) -> Vec<Leaving> {
        let now = Instant::now();
        let command = self.job.take().map(|(_, command)| command.terminate(now));
        let child = self.child.take().zip(self.config.exec.as_ref()).map(|(child, exec)| {
            child
                .farewell
                .unwrap_or_else(|| Farewell::begin(Whom::Child(child.pid), exec.kill_signal, exec.kill_timeout, now))
        });
        let mut reports = Vec::new();
        self.backends.iter_mut().for_each(|backend| backend.close(&mut reports));
        for report in reports {
            if let Report::Log(line) = report {
                self.log(line);
            }
        }
        let leaving = |farewell| Leaving { unit: Some(self.number), resource: self.config.name.clone(), farewell };
        command.into_iter().chain(child).map(leaving).collect()
    }

    fn store_mut(&mut self) -> &mut Store {
        Rc::get_mut(&mut self.store).expect("a render borrows the store only while it runs")
    }

    /// Warns of every key that several backends hold, once for as long as they do.
    fn warn_of_collisions(&mut self) {
        let now: BTreeSet<Bytes> = self.store.collisions().into_iter().cloned().collect();
        for key in now.difference(&self.collisions) {
            self.log(Line::new(Level::Warn, "key collision").with("key", String::from_utf8_lossy(key)));
        }
        self.collisions = now;
    }

    /// Takes what the running command printed.
    fn listen(&mut self) {
        if let Some((_, command)) = &mut self.job {
            command.drain();
        }
    }

    /// Whether a process is its command or its child.
    fn has(&self, pid: Pid) -> bool {
        self.job.as_ref().is_some_and(|(_, command)| command.pid() == pid)
            || self.child.as_ref().is_some_and(|child| child.pid == pid)
    }

    /// Its command or its child has ended. Gives what is left of a command that was ended for taking too long.
    fn reaped(&mut self, exit: &Exit) -> Option<Leaving> {
        match self.job.take_if(|(_, command)| command.pid() == exit.pid) {
            Some((job, command)) => self.command_ended(job, command, exit),
            None => {
                self.child = None;
                self.handle(Event::ChildExited(format!("it {}", exit.how())));
                None
            }
        }
    }

    fn command_ended(&mut self, job: Job, command: Command, exit: &Exit) -> Option<Leaving> {
        let Ended { failure, output, left } = command.ended(exit);
        self.log(Line::new(Level::Debug, log::quoted(&output)));
        let result = match failure {
            None => Ok(()),
            Some(how) => {
                let kept = match job {
                    Job::Check(_) => ", keeping the old file",
                    Job::Reload(_) => ", the new file is in place",
                    Job::Start | Job::ReloadResource => "",
                };
                let what = name_of(job);
                let detail = Some(output).filter(|text| !text.trim().is_empty());
                Err(Fault { message: format!("{what} {how}{kept}"), detail })
            }
        };
        self.handle(Event::Ended(result));
        left.map(|farewell| Leaving { unit: None, resource: self.config.name.clone(), farewell })
    }

    /// Hands an event to the resource and performs what it decides, until it waits for something.
    fn handle(&mut self, event: Event) {
        let mut events = VecDeque::from([event]);
        while let Some(event) = events.pop_front() {
            for effect in self.state.on(event, Instant::now()) {
                events.extend(self.perform(effect));
            }
        }
    }

    fn perform(&mut self, effect: Effect) -> Option<Event> {
        match effect {
            Effect::Log(line) => {
                self.log(line);
                None
            }
            Effect::Render => {
                let renderings = (0..self.outputs.len()).map(|t| self.render(t)).collect();
                Some(Event::Rendered(renderings))
            }
            Effect::Stage(t) => Some(Event::Staged(self.stage(t))),
            Effect::Install(t) => Some(Event::Installed(self.install(t))),
            Effect::Discard(t) => {
                self.outputs[t].stage = None;
                None
            }
            Effect::Run(job) => self.run(job),
            Effect::Spawn => Some(Event::Spawned(self.start_child())),
            Effect::SignalChild(number) => {
                if let Some(child) = &self.child {
                    self.log(Line::new(Level::Info, "telling the child to reload").with("signal", number.to_string()));
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

    fn start_child(&mut self) -> Result<(), Fault> {
        let exec = self.config.exec.as_ref().expect("a child is planned only where there is an exec");
        let pid = process::start(&exec.command).map_err(|e| format!("failed to start it: {}", cause(&e)))?;
        self.child = Some(Child { pid, farewell: None });
        self.log(Line::new(Level::Info, "child has been started").with("pid", pid.as_raw_pid().to_string()));
        Ok(())
    }

    fn stop_child(&mut self) {
        self.log(Line::new(Level::Info, "stopping the child to start it again"));
        let exec = self.config.exec.as_ref().expect("a child is planned only where there is an exec");
        if let Some(child) = &mut self.child {
            let now = Instant::now();
            let farewell = Farewell::begin(Whom::Child(child.pid), exec.kill_signal, exec.kill_timeout, now);
            child.farewell = Some(farewell);
        }
    }

    fn render(&mut self, t: usize) -> Rendering {
        match self.render_and_compare(t) {
            Ok(true) => Rendering::InSync,
            Ok(false) => Rendering::Differs,
            Err(fault) => Rendering::Failed(fault),
        }
    }

    /// Whether the new result is what is in place already; if not, it is kept.
    fn render_and_compare(&mut self, t: usize) -> Result<bool, Fault> {
        let src = &self.config.templates[t].src;
        let output = &mut self.outputs[t];
        let mut template = match output.template.take() {
            Some(template) if !template.is_stale(&*self.world) => template,
            _ => {
                let line = Line::new(Level::Debug, "compiling source template");
                self.logger.log(&about(&self.config, line.with("template", src.display().to_string())));
                Template::compile(src, &self.world).map_err(fault_of)?
            }
        };
        template.limits = self.limits;
        let rendered = template.render(&self.store, &self.world);
        output.template = Some(template);
        output.content = rendered.map_err(fault_of)?;

        let line = Line::new(Level::Debug, "comparing staged and dest config files");
        let line = line.with("dest", output.destination.path.display().to_string()).with("staged", "in memory");
        self.logger.log(&about(&self.config, line));
        let same = match output.destination.compare(&output.content)? {
            Comparison::InSync => true,
            Comparison::Differs => false,
            Comparison::Unknowable => output.written.as_ref() == Some(&output.content),
        };
        if same {
            output.content = Vec::new();
        }
        Ok(same)
    }

    fn stage(&mut self, t: usize) -> Result<(), Fault> {
        let output = &mut self.outputs[t];
        let checked = if self.config.templates[t].check_cmd.is_some() { Checked::Yes } else { Checked::No };
        output.stage = Some(output.destination.stage(&output.content, checked)?);
        Ok(())
    }

    fn install(&mut self, t: usize) -> Result<Option<String>, Fault> {
        let output = &mut self.outputs[t];
        let stage = output.stage.take().expect("what is installed was staged before");
        let can_be_read_back = stage.is_for_regular_file();
        let content = std::mem::take(&mut output.content);
        let warning = output.destination.install(stage, &content)?;
        output.written = (!can_be_read_back).then_some(content);
        Ok(warning)
    }

    /// Starts a command. Its end is told by the reaper; only where it cannot be started there is an answer at once.
    fn run(&mut self, job: Job) -> Option<Event> {
        let text = self.command(job).expect("a job is planned only where there is a command, and a stage to check");
        self.log(Line::new(Level::Debug, "Running cmd").with("command", text.to_string_lossy()));
        match process::spawn(&text, self.limit(job)) {
            Ok(command) => {
                self.job = Some((job, command));
                None
            }
            Err(e) => {
                // Its text may hold an expanded secret: it is in the line at debug level.
                let message = format!("failed to start the {}: {}", name_of(job), cause(&e));
                Some(Event::Ended(Err(message.into())))
            }
        }
    }

    /// What a job runs, with the path in its place.
    fn command(&self, job: Job) -> Option<OsString> {
        let templates = &self.config.templates;
        match job {
            Job::Check(t) => Some(templates[t].check_cmd.as_ref()?.text(self.outputs[t].stage.as_ref()?.path()?)),
            Job::Reload(t) => Some(templates[t].reload_cmd.as_ref()?.text(&templates[t].dst)),
            Job::Start => self.config.start_cmd.clone().map(OsString::from),
            Job::ReloadResource => self.config.reload_cmd.clone().map(OsString::from),
        }
    }

    /// How long a job may take.
    fn limit(&self, job: Job) -> Option<Duration> {
        match job {
            Job::Check(t) => self.config.templates[t].check_timeout,
            Job::Reload(t) => self.config.templates[t].reload_timeout,
            Job::Start => self.config.start_timeout,
            Job::ReloadResource => self.config.reload_timeout,
        }
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
        };
        destination.sweep();
        Output { destination, template: None, content: Vec::new(), stage: None, written: None }
    }
}

/// Whether every resource has had its first complete update, and in one line how they are.
fn standing(units: &[Unit]) -> (bool, String) {
    let names = |which: fn(&Resource) -> bool| -> Vec<&str> {
        units.iter().filter(|unit| which(&unit.state)).map(|unit| &*unit.config.name).collect()
    };
    let (waiting, failing) = (names(|state| !state.has_started()), names(Resource::is_failing));
    let all = match units.len() {
        1 => "1 resource".to_owned(),
        n => format!("{n} resources"),
    };
    let mut status = match waiting.len() {
        0 => format!("{all} in place"),
        _ => format!("{all}, first update under way: {}", waiting.join(", ")),
    };
    if !failing.is_empty() {
        status.push_str(&format!("; failing: {}", failing.join(", ")));
    }
    (waiting.is_empty(), status)
}

/// Says of each new unit which of those that are gone it replaces: one that wrote the same file or ran the same child, else
/// one of the same name; each is replaced once.
fn replace(gone: &[Unit], new: &mut [Unit]) {
    let same_work = |old: &config::Resource, new: &config::Resource| {
        let child = |resource: &config::Resource| resource.exec.as_ref().map(|exec| exec.command.clone());
        let writes = |dst| old.templates.iter().any(|template| template.dst == dst);
        new.templates.iter().any(|template| writes(template.dst.clone()))
            || (old.exec.is_some() && child(old) == child(new))
    };
    let same_name = |old: &config::Resource, new: &config::Resource| old.name == new.name;
    let mut left: Vec<&Unit> = gone.iter().collect();
    for is_same in [&same_work as &dyn Fn(&_, &_) -> bool, &same_name] {
        for unit in new.iter_mut().filter(|unit| unit.replaces.is_none()) {
            if let Some(at) = left.iter().position(|old| is_same(&old.config, &unit.config)) {
                let old = left.swap_remove(at);
                unit.replaces = Some(old.number);
                unit.state.inherit(&old.state);
            }
        }
    }
}

/// What messages call a command.
fn name_of(job: Job) -> &'static str {
    match job {
        Job::Check(_) => "check command",
        Job::Reload(_) => "reload command",
        Job::Start => "start command",
        Job::ReloadResource => "resource reload command",
    }
}

/// Says that a process did not do what it was told.
fn insisted(insistence: Insistence, pid: Pid) -> Line {
    let line = match insistence {
        Insistence::Killed => Line::new(Level::Warn, "process did not end in time, killing it"),
        Insistence::Hopeless => Line::new(Level::Error, "process does not end, not even when killed"),
    };
    line.with("pid", pid.as_raw_pid().to_string())
}

fn limits_of(config: &Config) -> Limits {
    let usual = Limits::default();
    Limits {
        steps: config.limits.template_steps.unwrap_or(usual.steps),
        output: config.limits.template_output.unwrap_or(usual.output),
    }
}

fn plan_of(template: &config::Template) -> TemplatePlan {
    TemplatePlan {
        dst: template.dst.display().to_string(),
        check: template.check_cmd.is_some(),
        reload: template.reload_cmd.is_some(),
    }
}

fn about(resource: &config::Resource, line: Line) -> Line {
    line.with("resource", resource.name.clone())
}

/// A template's error: what is wrong in one line, and the excerpt below it.
fn fault_of(error: crate::template::Error) -> Fault {
    let text = error.to_string();
    match text.split_once('\n') {
        Some((message, detail)) => Fault { message: message.to_owned(), detail: Some(detail.to_owned()) },
        None => text.into(),
    }
}
