//! The backend `mock`: no keys and no failures, to try templates and commands without a store. Go remco's mock can only
//! be filled by its own tests.

use super::interval;
use super::local::Local;
use super::polled::{Polled, Schedule, Source};
use crate::config::{self, Mode};
use crate::store::Layer;

/// A backend whose reads are spread over time by the seed.
pub fn new(config: &config::Backend, mode: Mode, seed: u64) -> Box<dyn Local> {
    Box::new(Polled::new(Mock, &config.prefix, Schedule::new(interval(config, mode), seed)))
}

struct Mock;

impl Source for Mock {
    fn name(&self) -> &'static str {
        "mock"
    }

    fn read(&mut self) -> Result<Layer, String> {
        Ok(Layer::new())
    }
}

#[cfg(test)]
mod tests {
    use super::super::Report;
    use super::*;
    use std::time::Instant;

    #[test]
    fn gives_no_keys_once() {
        let config = config::Backend {
            keys: Vec::new(),
            watch_keys: Vec::new(),
            prefix: String::new(),
            watch: false,
            onetime: true,
            interval: None,
            secret: false,
            kind: config::Kind::Mock,
        };
        let mut backend = new(&config, Mode::Watch, 1);
        let mut reports = Vec::new();
        (0..2).for_each(|_| backend.turn(Instant::now(), &mut reports));
        let snapshots: Vec<_> =
            reports.iter().filter(|report| matches!(report, Report::Snapshot(layer) if layer.is_empty())).collect();
        assert_eq!((snapshots.len(), backend.due()), (1, None), "{reports:?}");
    }
}
