//! Backends of this machine: read without waiting, and each for one subscriber. Owns what all of them have in common;
//! where keys come from is `file`'s, `env`'s and `mock`'s.

use std::time::Instant;

use super::polled::{Polled, Source};
use super::{Backend, Id, Report};
use crate::config;
use crate::host::wait::Interest;

/// A backend of this machine.
pub trait Local {
    /// The name in logs.
    fn name(&self) -> &'static str;

    /// When a turn is due; `None`: never, or at the first turn.
    fn due(&self) -> Option<Instant>;

    /// Whether nothing new will ever come after the first turn.
    fn is_over(&self) -> bool {
        self.due().is_none()
    }

    /// Does what can be done now.
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

/// One with its subscriber.
struct Single {
    id: Id,
    local: Box<dyn Local>,
    /// Since when its first turn is due.
    fresh: Option<Instant>,
}

/// Makes a backend of one of this machine.
pub fn single(id: Id, local: Box<dyn Local>, now: Instant) -> Box<dyn Backend> {
    Box::new(Single { id, local, fresh: Some(now) })
}

impl Backend for Single {
    fn name(&self) -> &'static str {
        self.local.name()
    }

    /// The one that it was made for.
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
