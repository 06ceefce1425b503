//! What happened to one resource, for telemetry: reads the events and effects that pass between a unit and its resource, and
//! counts them as Go remco does. Decides nothing, and is not there where telemetry is off.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use crate::metrics::{At, Gauge, Metric, Registry, list};
use crate::resource::{Effect, Event, Job, Rendering};

/// The record of a resource.
#[derive(Debug)]
pub(super) struct Record {
    registry: Rc<RefCell<Registry>>,
    resource: String,
    /// The destinations of the templates.
    templates: Vec<String>,
    backends: Vec<Backend>,
    /// The command that runs.
    job: Option<Job>,
    /// The template that is staged or installed.
    file: usize,
    /// A template whose new file is in place, until it is known whether a reload command follows.
    installed: Option<usize>,
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
}

impl Record {
    /// Of a resource with these destinations and backends.
    pub(super) fn new(
        registry: Rc<RefCell<Registry>>,
        resource: String,
        templates: Vec<String>,
        backends: impl Iterator<Item = String>,
    ) -> Record {
        let backends = backends.map(|name| Backend { name, is_loaded: false, is_failing: false }).collect();
        let (job, file, installed, starts, last_success) = (None, 0, None, 0, None);
        Record { registry, resource, templates, backends, job, file, installed, starts, last_success }
    }

    /// An event that the resource is told of.
    pub(super) fn event(&mut self, event: &Event, at: At) {
        match event {
            Event::Loaded { backend } => {
                self.backends[*backend].is_loaded = true;
                self.of_backend(&list::BACKEND_SYNCED, *backend, at);
            }
            Event::Unreachable { backend, .. } => {
                self.backends[*backend].is_failing = true;
                self.of_backend(&list::BACKEND_SYNC_ERRORS, *backend, at);
            }
            Event::Reached { backend } => self.backends[*backend].is_failing = false,
            Event::Rendered(renderings) => {
                for (t, rendering) in renderings.iter().enumerate() {
                    match rendering {
                        Rendering::InSync => {
                            self.count(&list::STAGED, at);
                            self.count(&list::SYNCED, at);
                        }
                        Rendering::Failed(_) => self.not_staged(t, at),
                        // Counted when it was staged.
                        Rendering::Differs | Rendering::Interrupted => {}
                    }
                }
            }
            Event::Staged(Ok(())) => self.count(&list::STAGED, at),
            Event::Staged(Err(_)) => self.not_staged(self.file, at),
            Event::Installed(Ok(_)) => self.installed = Some(self.file),
            Event::Installed(Err(_)) => self.not_synced(self.file, at),
            Event::Ended(result) => self.ended(result.is_ok(), at),
            Event::Spawned(Ok(())) => {
                self.starts += 1;
                if self.starts > 1 {
                    self.of_resource(&list::CHILD_RESTARTS, at);
                }
            }
            Event::NotCompiled { template, .. } => self.of_template(*template, at),
            Event::Spawned(Err(_)) | Event::ChildExited { .. } | Event::Judged(_) | Event::Due | Event::Refresh => {}
        }
    }

    /// What the resource wants done after an event.
    pub(super) fn effects(&mut self, effects: &[Effect], at: At) {
        for effect in effects {
            match effect {
                Effect::Stage(t) | Effect::Install(t) => self.file = *t,
                Effect::Run(job) => self.job = Some(*job),
                _ => {}
            }
        }
        let reloads = |t: &usize| self.job == Some(Job::Reload(*t));
        if self.installed.take_if(|t| !reloads(t)).is_some() {
            self.count(&list::SYNCED, at);
        }
    }

    fn ended(&mut self, is_ok: bool, at: At) {
        match (self.job.take(), is_ok) {
            (Some(Job::Check(t)), false) => self.not_synced(t, at),
            // A reload that was owed belongs to a file that was counted before.
            (Some(Job::Reload(t)), true) if self.installed.take() == Some(t) => self.count(&list::SYNCED, at),
            (Some(Job::Reload(_)), false) => {
                self.installed = None;
                self.count(&list::SYNC_ERRORS, at);
                self.of_resource(&list::RELOAD_FAILURES, at);
            }
            (Some(Job::ReloadResource), false) => self.of_resource(&list::RELOAD_FAILURES, at),
            _ => {}
        }
    }

    /// The time that a template took to be rendered.
    pub(super) fn rendered_in(&self, took: Duration, at: At) {
        self.sample(&list::TEMPLATE_DURATION, took, at);
    }

    /// The time that a command took.
    pub(super) fn command_took(&self, job: Job, took: Duration, at: At) {
        match job {
            Job::Check(_) => self.sample(&list::CHECK_DURATION, took, at),
            Job::Reload(_) => self.sample(&list::RELOAD_DURATION, took, at),
            // Go remco does not measure them.
            _ => {}
        }
    }

    /// An update has ended, and nothing of the resource fails.
    pub(super) fn succeeded(&mut self, at: At) {
        self.last_success = Some(at.unix);
    }

    /// Appends the gauges of the resource.
    pub(super) fn gauges(&self, is_in_sync: bool, out: &mut Vec<Gauge>) {
        let resource = || vec![("resource", self.resource.clone())];
        let value = |yes: bool| if yes { 1.0 } else { 0.0 };
        out.push(Gauge { metric: &list::IN_SYNC, labels: resource(), value: value(is_in_sync) });
        if let Some(unix) = self.last_success {
            #[expect(clippy::cast_precision_loss, reason = "gauges are floats, and times are small")]
            out.push(Gauge { metric: &list::LAST_SUCCESS, labels: resource(), value: unix as f64 });
        }
        for Backend { name, is_loaded, is_failing } in &self.backends {
            let mut labels = resource();
            labels.push(("backend", name.clone()));
            out.push(Gauge { metric: &list::CONNECTED, labels, value: value(*is_loaded && !is_failing) });
        }
    }

    fn not_staged(&self, t: usize, at: At) {
        self.count(&list::STAGE_ERRORS, at);
        self.of_template(t, at);
    }

    fn not_synced(&self, t: usize, at: At) {
        self.count(&list::SYNC_ERRORS, at);
        self.of_template(t, at);
    }

    fn count(&self, metric: &'static Metric, at: At) {
        self.registry.borrow_mut().count(metric, &[], at);
    }

    fn sample(&self, metric: &'static Metric, took: Duration, at: At) {
        self.registry.borrow_mut().sample(metric, &[], took.as_secs_f64() * 1000.0, at);
    }

    fn of_resource(&self, metric: &'static Metric, at: At) {
        self.registry.borrow_mut().count(metric, &[("resource", &self.resource)], at);
    }

    fn of_backend(&self, metric: &'static Metric, backend: usize, at: At) {
        self.registry.borrow_mut().count(metric, &[("name", &self.backends[backend].name)], at);
    }

    fn of_template(&self, t: usize, at: At) {
        let labels = [("resource", &*self.resource), ("template", &*self.templates[t])];
        self.registry.borrow_mut().count(&list::TEMPLATE_ERRORS, &labels, at);
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
        let mut record =
            Record::new(Rc::clone(&registry), "app".to_owned(), templates, ["etcd".to_owned()].into_iter());
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
}
