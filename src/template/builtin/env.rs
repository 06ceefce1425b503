//! The environment of one render: what functions and filters are called with beside their arguments.
//! Variables are not here: they are those of `run/scope`.

use std::cell::RefCell;
use std::rc::Rc;

use crate::store::Store;
use crate::template::limits::Limits;
use crate::template::value::collections::Collections;
use crate::template::value::meter::{Hold, Meter};
use crate::template::world::World;

/// What functions and filters are called with beside their arguments.
pub struct Env {
    /// The keys that the template sees, which do not change in a render.
    pub store: Rc<Store>,
    /// The machine.
    pub world: Rc<dyn World>,
    /// What the render costs, and its limits.
    pub meter: Meter,
    /// What the programs of computed includes take.
    pub(crate) programs: RefCell<Hold>,
    /// The maps that the template makes in this render.
    pub collections: Collections,
}

impl Env {
    /// For one render: what it makes is let go with this.
    pub fn new(store: Rc<Store>, world: Rc<dyn World>, limits: Limits) -> Env {
        let meter = Meter::new(limits, world.clone());
        let programs = RefCell::new(meter.hold());
        Env { store, world, meter, programs, collections: Collections::default() }
    }
}
