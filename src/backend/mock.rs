//! The backend `mock`: no keys, and never a failure. It is there for trying out templates and
//! commands without a store; remco's can only be filled from its own tests.

use super::polled::{Polled, Schedule, Source};
use super::{Backend, interval};
use crate::config::{self, Mode};
use crate::store::Layer;

/// The backend at work. The seed spreads its reads over time.
pub fn new(config: &config::Backend, mode: Mode, seed: u64) -> Box<dyn Backend> {
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
