//! Passes the events and effects of a resource to its record, and makes its part of the status file. `record` counts.
//! Records nothing if neither telemetry nor the status file is configured.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Instant;

use super::super::record::{Record, state_of};
use super::{Unit, at};
use crate::backend::Pool;
use crate::metrics::Registry;
use crate::resource::{Effect, Event};
use crate::status;

impl Unit {
    /// Passes an event to the resource, and records the event and the effects.
    pub(super) fn decide(&mut self, event: Event) -> Vec<Effect> {
        let Some(record) = &mut self.record else { return self.state.on(event, Instant::now()) };
        let at = at(&*self.world);
        let is_step = matches!(event, Event::Rendered(_) | Event::Installed(_) | Event::Ended(_) | Event::Spawned(_));
        record.event(&event, at);
        let effects = self.state.on(event, at.instant);
        record.effects(&effects, at);
        // The next update may begin in this call.
        if is_step && self.state.has_succeeded() {
            record.succeeded(at);
        }
        record.is(state_of(&self.state), at);
        effects
    }

    /// Begins or ends the record. `registry`: for telemetry; `has_status`: for the status file.
    pub(in super::super) fn set_record(&mut self, registry: Option<&Rc<RefCell<Registry>>>, has_status: bool) {
        if registry.is_none() && !has_status {
            self.record = None;
            return;
        }
        let (config, world, state) = (&self.config, &self.world, &self.state);
        let new = || {
            let templates = config.templates.iter().map(|template| template.dst.display().to_string()).collect();
            let backends = config.backends.iter().map(|options| options.kind.name().to_owned());
            Record::new(config.name.clone(), templates, backends, (state_of(state), world.now().0))
        };
        self.record.get_or_insert_with(new).registry = registry.cloned();
    }

    /// The revision of the keys of a backend; see [`crate::backend::Backend::revision`].
    pub(in super::super) fn revision(&self, backend: usize, pool: &Pool) -> Option<u64> {
        pool.revision(*self.backends.as_ref()?.get(backend)?)
    }

    /// The part of the status file about the resource; `None`: nothing is recorded.
    pub(in super::super) fn status(&self, pool: &Pool) -> Option<status::Resource> {
        let mut status = self.record.as_ref()?.status(|backend| self.revision(backend, pool));
        let keys_of = self.keys_of.filter(|_| self.is_from_cache());
        status.cache = keys_of.map(|keys_of| status::Cache { keys_of });
        let refusal = self.state.refusal();
        status.guard = refusal.map(|(reason, refusals)| status::Guard { refusals, reason: reason.to_owned() });
        if let Some(child) = &mut status.child {
            child.pid = self.child.as_ref().map(|child| child.pid.as_raw_pid());
        }
        Some(status)
    }
}
