//! The environment of one render: what functions and filters use besides their arguments.
//! Variables are in `run/scope`.

use std::cell::RefCell;
use std::rc::Rc;

use crate::store::Store;
use crate::template::limits::Limits;
use crate::template::value::collections::Collections;
use crate::template::value::meter::{Hold, Meter};
use crate::template::world::World;

/// The things that functions and filters use besides their arguments.
pub struct Env {
    /// The keys that the template sees, which do not change in a render.
    pub store: Rc<Store>,
    /// The machine.
    pub world: Rc<dyn World>,
    /// The cost of the render, and its limits.
    pub meter: Meter,
    /// The memory of the programs of computed includes.
    pub(crate) programs: RefCell<Hold>,
    /// The maps that the template creates in this render.
    pub collections: Collections,
}

impl Env {
    /// The environment of one render. The collections of the render are dropped with it.
    pub fn new(store: Rc<Store>, world: Rc<dyn World>, limits: Limits) -> Env {
        let meter = Meter::new(limits, world.clone());
        let programs = RefCell::new(meter.hold());
        Env { store, world, meter, programs, collections: Collections::default() }
    }
}
