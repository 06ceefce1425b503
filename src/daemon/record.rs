//! The history of one resource, for telemetry and the status file: reads the events and effects that pass between a
//! unit and its resource, and counts them as Go remco does. Decides nothing. Exists only where one of the two is
//! configured.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use crate::metrics::{At, Gauge, Label, Metric, Registry, list};
use crate::resource::{Effect, Event, Job, Rendering, Resource};
use crate::status::{self, State};

/// The record of a resource.
#[derive(Debug)]
pub(super) struct Record {
    /// `None`: telemetry is off.
    pub(super) registry: Option<Rc<RefCell<Registry>>>,
    resource: String,
    /// The state of the resource, and its beginning in seconds since 1970.
    state: (State, i64),
    files: Vec<status::File>,
    backends: Vec<Backend>,
    /// The last run of each command that has run.
    commands: Vec<(Job, status::Command)>,
    /// The time and the exit status of the command that has just ended; `None`: it could not be started.
    run: Option<(Duration, u8)>,
    child: Option<status::Child>,
    /// Something has changed since [`Record::take_changed`].
    is_changed: bool,
    /// The command that runs.
    job: Option<Job>,
    /// The template that is staged or installed.
    file: usize,
    /// Templates whose new files are in place, until it is known whether they stay, and whether a reload command
    /// follows.
    installed: Vec<usize>,
    /// How often the child was started.
    starts: u64,
    /// When the last update without a failure ended, in seconds since 1970.
    last_success: Option<i64>,
}

#[derive(Debug)]
struct Backend {
    name: String,
    is_loaded: bool,
    is_failing: bool,
    failures: u64,
    last_error: Option<String>,
}

impl Record {
    /// The record of a resource with these destinations and backends. `since`: its state, and the present time in
    /// seconds since 1970.
    pub(super) fn new(
        resource: String,
        templates: Vec<String>,
        backends: impl Iterator<Item = String>,
        (state, since): (State, i64),
    ) -> Record {
        let file = |path| status::File { path, in_sync_since: None, last_change: None, last_error: None };
        let backend = |name| Backend { name, is_loaded: false, is_failing: false, failures: 0, last_error: None };
        Record {
            registry: None,
            resource,
            state: (state, since),
            files: templates.into_iter().map(file).collect(),
            backends: backends.map(backend).collect(),
            commands: Vec::new(),
            run: None,
            child: None,
            is_changed: true,
            job: None,
            file: 0,
            installed: Vec::new(),
            starts: 0,
            last_success: None,
        }
    }

    /// An event that the resource gets.
    pub(super) fn event(&mut self, event: &Event, at: At) {
        self.is_changed |= !matches!(event, Event::Due | Event::Refresh);
        match event {
            Event::Loaded { backend } => {
                self.backends[*backend].is_loaded = true;
                self.of_backend(&list::BACKEND_SYNCED, *backend, at);
            }
            Event::Unreachable { backend, error } => {
                let failed = &mut self.backends[*backend];
                (failed.is_failing, failed.failures) = (true, failed.failures + 1);
                failed.last_error = Some(status::without_quotes(error));
                self.of_backend(&list::BACKEND_SYNC_ERRORS, *backend, at);
            }
            Event::Reached { backend } => self.backends[*backend].is_failing = false,
            Event::Rendered(renderings) => {
                for (t, rendering) in renderings.iter().enumerate() {
                    match rendering {
                        Rendering::InSync => {
                            self.files[t].in_sync_since.get_or_insert(at.unix);
                            self.count(&list::STAGED, at);
                            self.count(&list::SYNCED, at);
                        }
                        Rendering::Failed(fault) => self.not_staged(t, &without_values(&fault.message), at),
                        // This failure was counted when the file was staged.
                        Rendering::Differs | Rendering::Rejected => self.files[t].in_sync_since = None,
                        Rendering::Interrupted => {}
                    }
                }
            }
            Event::Staged(Ok(())) => self.count(&list::STAGED, at),
            Event::Staged(Err(fault)) => self.not_staged(self.file, &fault.message, at),
            Event::Installed(Ok(_)) => {
                self.installed.push(self.file);
                let file = &mut self.files[self.file];
                (file.in_sync_since, file.last_change) = (Some(at.unix), Some(at.unix));
            }
            Event::Kept(Ok(())) => {}
            Event::Installed(Err(fault)) | Event::Kept(Err(fault)) | Event::PutBack(Err(fault)) => {
                self.not_synced(self.file, &fault.message, at);
            }
            // The failure is counted for the file that failed.
            Event::PutBack(Ok(())) => self.files[self.file].in_sync_since = None,
            Event::Ended(result) => self.ended(result.as_ref().map_err(|fault| &*fault.message).copied(), at),
            Event::Spawned(Ok(())) => {
                self.starts += 1;
                let child = self.child.get_or_insert(NEVER_STARTED);
                (child.running, child.starts, child.since) = (true, self.starts, Some(at.unix));
                if self.starts > 1 {
                    self.of_resource(&list::CHILD_RESTARTS, at);
                }
            }
            Event::NotCompiled { template, fault } => {
                self.files[*template].last_error = Some(without_values(&fault.message));
                self.of_template(*template, at);
            }
            Event::Spawned(Err(fault)) => {
                let child = self.child.get_or_insert(NEVER_STARTED);
                (child.last_exit, child.last_status) = (Some(fault.message.clone()), None);
            }
            Event::ChildExited { how, status } => {
                let child = self.child.get_or_insert(NEVER_STARTED);
                (child.running, child.since) = (false, Some(at.unix));
                (child.last_exit, child.last_status) = (Some(how.clone()), Some(*status));
            }
            Event::Judged(_) | Event::Due | Event::Refresh => {}
        }
    }

    /// The effects after an event.
    pub(super) fn effects(&mut self, effects: &[Effect], at: At) {
        for effect in effects {
            match effect {
                Effect::Stage(t) | Effect::Keep(t) | Effect::Install(t) | Effect::PutBack(t) => self.file = *t,
                Effect::Run(job) => self.job = Some(*job),
                _ => {}
            }
            if let Effect::PutBack(t) = effect {
                self.installed.retain(|installed| installed != t);
            }
        }
        // Files that are replaced together can still be put back.
        if effects.iter().any(|effect| matches!(effect, Effect::Install(_) | Effect::PutBack(_))) {
            return;
        }
        let (reloaded, synced): (Vec<usize>, Vec<usize>) =
            self.installed.drain(..).partition(|t| self.job == Some(Job::Reload(*t)));
        self.installed = reloaded;
        synced.iter().for_each(|_| self.count(&list::SYNCED, at));
    }

    fn ended(&mut self, result: Result<(), &str>, at: At) {
        // A record that began while the command ran has no command.
        let (job, (took, exit)) = (self.job.take(), self.run.take().unzip());
        if let Some(job) = job {
            self.remember(job, result, (took.unwrap_or_default(), exit), at);
        }
        match (job, result.is_ok()) {
            (Some(Job::Check(t)), false) => self.not_synced(t, result.err().unwrap_or_default(), at),
            // A pending reload belongs to a file that was counted before.
            (Some(Job::Reload(t)), true) if std::mem::take(&mut self.installed).contains(&t) => {
                self.count(&list::SYNCED, at);
            }
            (Some(Job::Reload(t)), false) => {
                self.installed.clear();
                self.files[t].last_error = result.err().map(str::to_owned);
                self.count(&list::SYNC_ERRORS, at);
                self.of_resource(&list::RELOAD_FAILURES, at);
            }
            (Some(Job::ReloadResource), false) => self.of_resource(&list::RELOAD_FAILURES, at),
            _ => {}
        }
    }

    /// Keeps the run of a command that has ended.
    fn remember(&mut self, job: Job, result: Result<(), &str>, (took, exit): (Duration, Option<u8>), at: At) {
        let (command, template) = match job {
            Job::Check(t) => ("check command", Some(t)),
            Job::Reload(t) => ("reload command", Some(t)),
            Job::Start => ("start command", None),
            Job::ReloadResource => ("resource reload command", None),
        };
        let run = status::Command {
            command: command.to_owned(),
            file: template.map(|t| self.files[t].path.clone()),
            result: result.err().unwrap_or("succeeded").to_owned(),
            exit,
            ended: at.unix,
            milliseconds: u64::try_from(took.as_millis()).unwrap_or(u64::MAX),
        };
        match self.commands.iter_mut().find(|(known, _)| *known == job) {
            Some((_, last)) => *last = run,
            None => self.commands.push((job, run)),
        }
    }

    /// The time that a template took to be rendered.
    pub(super) fn rendered_in(&self, took: Duration, at: At) {
        self.sample(&list::TEMPLATE_DURATION, took, at);
    }

    /// A command has ended: the time that it took, and its exit status as a shell reports it.
    pub(super) fn command_ended(&mut self, job: Job, (took, exit): (Duration, u8), at: At) {
        self.run = Some((took, exit));
        match job {
            Job::Check(_) => self.sample(&list::CHECK_DURATION, took, at),
            Job::Reload(_) => self.sample(&list::RELOAD_DURATION, took, at),
            // Go remco does not measure these commands.
            _ => {}
        }
    }

    /// An update has ended, and nothing of the resource fails.
    pub(super) fn succeeded(&mut self, at: At) {
        self.last_success = Some(at.unix);
    }

    /// The state of the resource after an event.
    pub(super) fn is(&mut self, state: State, at: At) {
        if self.state.0 != state {
            self.state = (state, at.unix);
        }
    }

    /// Whether something has changed since the last call.
    pub(super) fn take_changed(&mut self) -> bool {
        std::mem::take(&mut self.is_changed)
    }

    /// The part of the status file about the resource, without the fields that only its unit has. `revision`: of each
    /// backend.
    pub(super) fn status(&self, revision: impl Fn(usize) -> Option<u64>) -> status::Resource {
        let backend = |(b, backend): (usize, &Backend)| status::Backend {
            name: backend.name.clone(),
            connected: backend.is_loaded && !backend.is_failing,
            revision: revision(b),
            failures: backend.failures,
            last_error: backend.last_error.clone(),
        };
        status::Resource {
            name: self.resource.clone(),
            state: self.state.0,
            since: self.state.1,
            cache: None,
            guard: None,
            last_success: self.last_success,
            files: self.files.clone(),
            backends: self.backends.iter().enumerate().map(backend).collect(),
            commands: self.commands.iter().map(|(_, run)| run.clone()).collect(),
            child: self.child.clone(),
        }
    }

    /// Appends the gauges of the resource. `revision`: of each backend.
    pub(super) fn gauges(&self, is_in_sync: bool, revision: impl Fn(usize) -> Option<u64>, out: &mut Vec<Gauge>) {
        let resource = || vec![("resource", self.resource.clone())];
        let value = |yes: bool| if yes { 1.0 } else { 0.0 };
        out.push(Gauge { metric: &list::IN_SYNC, labels: resource(), value: value(is_in_sync) });
        if let Some(unix) = self.last_success {
            #[expect(clippy::cast_precision_loss, reason = "gauges are floats, and times are small")]
            out.push(Gauge { metric: &list::LAST_SUCCESS, labels: resource(), value: unix as f64 });
        }
        for (b, Backend { name, is_loaded, is_failing, .. }) in self.backends.iter().enumerate() {
            let mut labels = resource();
            labels.push(("backend", name.clone()));
            if let Some(revision) = revision(b) {
                #[expect(clippy::cast_precision_loss, reason = "gauges are floats, exact up to 2^53")]
                out.push(Gauge { metric: &list::REVISION, labels: labels.clone(), value: revision as f64 });
            }
            out.push(Gauge { metric: &list::CONNECTED, labels, value: value(*is_loaded && !is_failing) });
        }
    }

    fn not_staged(&mut self, t: usize, why: &str, at: At) {
        self.files[t].in_sync_since = None;
        self.files[t].last_error = Some(why.to_owned());
        self.count(&list::STAGE_ERRORS, at);
        self.of_template(t, at);
    }

    fn not_synced(&mut self, t: usize, why: &str, at: At) {
        self.files[t].in_sync_since = None;
        self.files[t].last_error = Some(why.to_owned());
        self.count(&list::SYNC_ERRORS, at);
        self.of_template(t, at);
    }

    fn count(&self, metric: &'static Metric, at: At) {
        self.add(metric, &[], at);
    }

    fn sample(&self, metric: &'static Metric, took: Duration, at: At) {
        if let Some(registry) = &self.registry {
            registry.borrow_mut().sample(metric, &[], took.as_secs_f64() * 1000.0, at);
        }
    }

    fn of_resource(&self, metric: &'static Metric, at: At) {
        self.add(metric, &[("resource", &self.resource)], at);
    }

    fn of_backend(&self, metric: &'static Metric, backend: usize, at: At) {
        self.add(metric, &[("name", &self.backends[backend].name)], at);
    }

    fn of_template(&self, t: usize, at: At) {
        let labels = [("resource", &*self.resource), ("template", &*self.files[t].path)];
        self.add(&list::TEMPLATE_ERRORS, &labels, at);
    }

    fn add(&self, metric: &'static Metric, labels: &[Label<'_>], at: At) {
        if let Some(registry) = &self.registry {
            registry.borrow_mut().count(metric, labels, at);
        }
    }
}

/// The state of a resource.
pub(super) fn state_of(resource: &Resource) -> State {
    match (resource.is_failing(), resource.has_started()) {
        _ if resource.is_rolled_back() => State::RolledBack,
        (true, _) => State::Failing,
        (false, false) => State::Starting,
        (false, true) => State::InPlace,
    }
}

/// A child before its first start.
const NEVER_STARTED: status::Child =
    status::Child { running: false, pid: None, since: None, starts: 0, last_exit: None, last_status: None };

/// The error of a template up to its place. The rest may quote values; the log has the whole error.
fn without_values(message: &str) -> String {
    let place = message.split(": ").next().unwrap_or_default();
    match place
        .rsplit(':')
        .next()
        .is_some_and(|column| !column.is_empty() && column.bytes().all(|b| b.is_ascii_digit()))
    {
        true => format!("failed to render, at {place}; the log says why"),
        false => "failed to render; the log says why".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;
    use crate::metrics::{Host, Naming, prometheus};
    use crate::resource::Fault;

    fn fault() -> Fault {
        "it failed".to_owned().into()
    }

    fn at() -> At {
        At { instant: Instant::now(), unix: 1000, nanos: 0 }
    }

    /// The counters after events, each with the effects that follow.
    fn check(steps: Vec<(Event, Vec<Effect>)>, want: &[&str]) {
        let naming = Naming { service: "r".to_owned(), host: Host::Nowhere };
        let registry = Rc::new(RefCell::new(Registry::new(naming, Duration::ZERO, false, None)));
        let templates = vec!["/a".to_owned(), "/b".to_owned()];
        let backends = ["etcd".to_owned()].into_iter();
        let mut record = Record::new("app".to_owned(), templates, backends, (State::Starting, 1000));
        record.registry = Some(Rc::clone(&registry));
        for (event, effects) in steps {
            record.event(&event, at());
            record.effects(&effects, at());
        }
        let text = prometheus::text(&mut registry.borrow_mut(), &[], at().instant);
        let lines: Vec<&str> = text.lines().filter(|line| !line.starts_with('#')).collect();
        assert_eq!(lines, want);
    }

    #[test]
    fn an_update_is_counted_once_for_each_file() {
        let renderings = || Event::Rendered(vec![Rendering::Differs, Rendering::InSync]);
        let reload = || Effect::Run(Job::Reload(0));
        check(
            vec![
                (Event::Loaded { backend: 0 }, vec![Effect::Render]),
                (renderings(), vec![Effect::Stage(0)]),
                (Event::Staged(Ok(())), vec![Effect::Run(Job::Check(0))]),
                (Event::Ended(Ok(())), vec![Effect::Install(0)]),
                (Event::Installed(Ok(None)), vec![reload()]),
                (Event::Ended(Ok(())), vec![]),
            ],
            &["r_backends_synced_total{name=\"etcd\"} 1", "r_files_staged_total 2", "r_files_synced_total 2"],
        );
        check(
            vec![
                (renderings(), vec![Effect::Stage(0)]),
                (Event::Staged(Ok(())), vec![Effect::Install(0)]),
                (Event::Installed(Ok(None)), vec![]),
            ],
            &["r_files_staged_total 2", "r_files_synced_total 2"],
        );
    }

    #[test]
    fn failures_are_counted_where_they_happen() {
        check(
            vec![
                (Event::Unreachable { backend: 0, error: String::new() }, vec![]),
                (Event::Rendered(vec![Rendering::Differs, Rendering::Failed(fault())]), vec![Effect::Stage(0)]),
                (Event::Staged(Ok(())), vec![Effect::Run(Job::Check(0))]),
                (Event::Ended(Err(fault())), vec![Effect::Discard(0)]),
            ],
            &[
                "r_backends_sync_errors_total{name=\"etcd\"} 1",
                "r_files_stage_errors_total 1",
                "r_files_staged_total 1",
                "r_files_sync_errors_total 1",
                "r_template_errors_total{resource=\"app\",template=\"/a\"} 1",
                "r_template_errors_total{resource=\"app\",template=\"/b\"} 1",
            ],
        );
        // Of files that are replaced together those that are put back were never in sync.
        check(
            vec![
                (Event::Installed(Ok(None)), vec![Effect::Install(1)]),
                (Event::Installed(Err(fault())), vec![Effect::PutBack(0)]),
                (Event::PutBack(Ok(())), vec![]),
                (Event::Rendered(vec![Rendering::Differs, Rendering::Differs]), vec![Effect::Install(0)]),
                (Event::Installed(Ok(None)), vec![Effect::Install(1)]),
                (Event::Installed(Ok(None)), vec![Effect::Run(Job::Reload(0))]),
                (Event::Ended(Ok(())), vec![]),
            ],
            &[
                "r_files_sync_errors_total 1",
                "r_files_synced_total 2",
                "r_template_errors_total{resource=\"app\",template=\"/b\"} 1",
            ],
        );
        // A reload that fails, and is repeated until it succeeds.
        let reload = || Effect::Run(Job::Reload(0));
        check(
            vec![
                (Event::Rendered(vec![Rendering::Differs]), vec![Effect::Stage(0)]),
                (Event::Staged(Ok(())), vec![Effect::Install(0)]),
                (Event::Installed(Ok(None)), vec![reload()]),
                (Event::Ended(Err(fault())), vec![]),
                (Event::Rendered(vec![Rendering::InSync]), vec![reload()]),
                (Event::Ended(Ok(())), vec![Effect::Run(Job::ReloadResource)]),
                (Event::Ended(Err(fault())), vec![Effect::Spawn]),
                (Event::Spawned(Ok(())), vec![]),
                (Event::Spawned(Ok(())), vec![]),
            ],
            &[
                "r_child_restarts_total{resource=\"app\"} 1",
                "r_files_staged_total 2",
                "r_files_sync_errors_total 1",
                "r_files_synced_total 1",
                "r_reload_failures_total{resource=\"app\"} 2",
            ],
        );
    }

    #[test]
    fn the_status_knows_times_and_exit_statuses() {
        let backends = ["etcd".to_owned()].into_iter();
        let mut record = Record::new("app".to_owned(), vec!["/a".to_owned()], backends, (State::Starting, 900));
        // The record began while a command ran: nothing is known of it, also when the next one cannot be started.
        record.command_ended(Job::Start, (Duration::from_secs(5), 3), at());
        record.event(&Event::Ended(Err(fault())), at());
        assert_eq!(record.status(|_| None).commands, []);
        record.effects(&[Effect::Run(Job::Check(0))], at());
        record.event(&Event::Ended(Err(fault())), at());
        let status = record.status(|_| None).commands.remove(0);
        assert_eq!((status.exit, status.milliseconds, status.ended), (None, 0, 1000));
        record.effects(&[Effect::Run(Job::Check(0))], at());
        record.command_ended(Job::Check(0), (Duration::from_millis(12), 137), at());
        record.event(&Event::Ended(Err(fault())), at());
        let status = record.status(|_| None).commands.remove(0);
        assert_eq!((status.exit, status.milliseconds), (Some(137), 12));

        record.is(State::Starting, at());
        assert_eq!(record.status(|_| None).since, 900, "it is as it was");
        record.is(State::Failing, at());
        let error = "failed to parse `a.yml:1:1`: s3cret".to_owned();
        record.event(&Event::Unreachable { backend: 0, error }, at());
        let status = record.status(|backend| Some(backend as u64 + 40));
        assert_eq!((status.state, status.since, status.backends[0].revision), (State::Failing, 1000, Some(40)));
        assert_eq!(status.backends[0].last_error.as_deref(), Some("failed to parse `a.yml:1:1`; the log says why"));
        record.event(&Event::Spawned(Ok(())), at());
        record.event(&Event::ChildExited { how: "it exited with status 2".to_owned(), status: 2 }, at());
        let child = record.status(|_| None).child.unwrap();
        assert_eq!((child.running, child.since, child.last_status), (false, Some(1000), Some(2)));
    }
}
