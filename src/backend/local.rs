//! The common part of the local backends, which read without waiting and have one subscriber each. The sources of their
//! keys are in `file`, `env` and `mock`.

use std::time::Instant;

use super::polled::{Polled, Source};
use super::{Backend, Id, Report};
use crate::config;
use crate::host::wait::Interest;

/// A local backend.
pub trait Local {
    /// The name in logs.
    fn name(&self) -> &'static str;

    /// When a turn is due; `None`: never, or at the first turn.
    fn due(&self) -> Option<Instant>;

    /// Whether no report is possible after the first turn.
    fn is_over(&self) -> bool {
        self.due().is_none()
    }

    /// Continues the work without waiting.
    fn turn(&mut self, now: Instant, out: &mut Vec<Report>);
}

impl<S: Source> Local for Polled<S> {
    fn name(&self) -> &'static str {
        Polled::name(self)
    }

    fn due(&self) -> Option<Instant> {
        Polled::due(self)
    }

    fn turn(&mut self, now: Instant, out: &mut Vec<Report>) {
        Polled::turn(self, now, out);
    }
}

/// A local backend with its subscriber.
struct Single {
    id: Id,
    local: Box<dyn Local>,
    /// When its first turn is due.
    fresh: Option<Instant>,
}

/// Wraps a local backend.
pub fn single(id: Id, local: Box<dyn Local>, now: Instant) -> Box<dyn Backend> {
    Box::new(Single { id, local, fresh: Some(now) })
}

impl Backend for Single {
    fn name(&self) -> &'static str {
        self.local.name()
    }

    /// The only subscriber is known from the start.
    fn add(&mut self, _id: Id, _options: &config::Backend, _told: bool, _now: Instant) {}

    fn remove(&mut self, _id: Id, _now: Instant) {}

    fn interests<'a>(&'a self, _out: &mut Vec<Interest<'a>>) {}

    fn due(&self) -> Option<Instant> {
        self.fresh.into_iter().chain(self.local.due()).min()
    }

    fn is_over(&self) -> bool {
        self.fresh.is_none() && self.local.is_over()
    }

    fn turn(&mut self, now: Instant, out: &mut Vec<(Id, Report)>) {
        self.fresh = None;
        let mut reports = Vec::new();
        self.local.turn(now, &mut reports);
        out.extend(reports.into_iter().map(|report| (self.id, report)));
    }
}
