//! The environment of one render, for functions and filters: the store, the machine, the meter, the collections.
//! Variables are in `run/scope`.

use std::cell::RefCell;
use std::rc::Rc;

use crate::store::Store;
use crate::template::limits::Limits;
use crate::template::reads::{Question, Recorder, Recording};
use crate::template::value::collections::Collections;
use crate::template::value::meter::{Hold, Meter};
use crate::template::world::World;

/// The environment of functions and filters.
pub struct Env {
    /// The keys that the template sees, which do not change in a render, and the record of what was read.
    pub store: Recorder,
    world: Rc<dyn World>,
    /// The cost of the render, and its limits.
    pub meter: Meter,
    /// The memory of the programs of computed includes. A cell, because all parts of a render share the environment.
    pub(crate) programs: RefCell<Hold>,
    /// The maps that the template creates in this render.
    pub collections: Collections,
}

impl Env {
    /// The environment of one render. The collections of the render are dropped with it.
    pub fn new(store: Rc<Store>, world: Rc<dyn World>, limits: Limits, recording: Recording) -> Env {
        let meter = Meter::new(limits, world.clone());
        let programs = RefCell::new(meter.hold());
        let store = Recorder::new(store, recording);
        Env { store, world, meter, programs, collections: Collections::default() }
    }

    /// The machine, for an answer that may change at any time. The question is recorded.
    pub fn machine(&self, question: Question) -> &dyn World {
        self.store.ask_machine(question);
        &*self.world
    }

    /// The machine, for files that are compiled: the library keeps their stamps, and compares them before each render.
    pub(crate) fn files(&self) -> &dyn World {
        &*self.world
    }

    /// An environment variable, which does not change while the program runs.
    pub(crate) fn variable(&self, name: &[u8]) -> Option<Vec<u8>> {
        self.world.var(name)
    }
}
