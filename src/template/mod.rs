//! remco's template language: a front end of ours, compiled onto upon. Touches nothing outside
//! itself but through [`World`].
//!
//! A file goes through lexer, parser (with expression and tags) and lower to a program; render runs it, with eval for
//! the expressions and scope for the variables.

mod ast;
mod bounded;
mod collections;
mod eval;
mod expression;
pub mod filters;
#[cfg(test)]
pub(crate) mod fixture;
pub mod functions;
mod hints;
mod json;
mod kept;
pub mod layout;
mod lexer;
mod library;
mod lorem;
mod lower;
mod macros;
pub mod meter;
mod parser;
mod pattern;
mod printf;
mod program;
mod render;
mod rounds;
mod runes;
mod scope;
pub mod scripts;
mod search;
pub mod signature;
mod sorting;
mod source;
mod spaceless;
mod tags;
#[cfg(test)]
mod tests;
pub mod value;
mod yaml;

use std::cell::RefCell;
use std::io;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::Duration;

pub use collections::Collections;
use library::{Library, Need};
use lower::Role;
use meter::{Hold, Meter};
use program::Program;
use scripts::Scripts;
pub use source::Error;

use crate::store::Store;

/// A compiled template, with everything it includes by a fixed name.
pub struct Template {
    /// What one render may cost.
    pub limits: Limits,
    program: Rc<Program>,
    library: Rc<Library>,
}

impl Template {
    /// Reads and compiles a template file and what it includes, within the usual limits.
    ///
    /// # Errors
    /// As [`Template::compile_within`].
    pub fn compile(path: &Path, world: &Rc<dyn World>) -> Result<Template, Error> {
        Template::compile_within(path, world, Limits::default())
    }

    /// Reads and compiles a template file and what it includes. The compiled files together may take the memory and the
    /// time of one render; a render then has as much again.
    ///
    /// # Errors
    /// A file cannot be read, or is wrong, or the files together go beyond a limit.
    pub fn compile_within(path: &Path, world: &Rc<dyn World>, limits: Limits) -> Result<Template, Error> {
        let library = Library::default();
        let bytes = library.read(&**world, path, Need::Must).map_err(|message| Error::of_file(path, message))?;
        // Steps count what a template does, not what it is.
        let meter = Meter::new(Limits { steps: u64::MAX, ..limits }, world.clone());
        let bytes = bytes.unwrap_or_default();
        let program = lower::compile(path, bytes, Role::Main, &library, &**world, &mut meter.hold())
            .map_err(|error| if meter.is_interrupted() { error.interruption() } else { error })?;
        Ok(Template { limits, program: Rc::new(program), library: Rc::new(library) })
    }

    /// Renders the template. Nothing of the result is used if there is an error, also when it comes late.
    pub fn render(&self, store: &Rc<Store>, world: &Rc<dyn World>) -> Result<Vec<u8>, Error> {
        render::render(&self.program, &self.library, Env::new(store.clone(), world.clone(), self.limits))
    }

    /// Whether a file that the template came from changed, vanished or appeared, so that it has to be compiled again.
    /// Files that computed includes brought count too.
    pub fn is_stale(&self, world: &dyn World) -> bool {
        self.library.is_stale(world)
    }

    /// Whether it came from the file with this device and inode.
    pub fn is_made_from(&self, file: (u64, u64)) -> bool {
        self.library.has_read(file)
    }

    /// Where names are read that nothing sets: no tag of these files, and there is no function of that name. They
    /// are empty, as in Django; more often than not they are misspelt.
    pub fn unknown_variables(&self) -> Vec<Unknown> {
        let names = self.library.names();
        let unknown = self.program.unknown.iter();
        unknown
            .map(|(name, span)| {
                let source = self.program.source(*span);
                let (line, col) = source.place(span.start);
                Unknown { name: names.text(*name).to_string(), file: source.path.clone(), line, col }
            })
            .collect()
    }
}

/// A variable that nothing sets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unknown {
    pub name: String,
    pub file: PathBuf,
    /// Of the name, as in [`Error`].
    pub line: usize,
    pub col: usize,
}

/// So many tags and expressions may stand within each other, and so many files may include each other.
const NESTING: usize = 200;

/// What a template may ask of the machine. Implemented over the real one in `host`; tests use a fixed one.
pub trait World {
    /// The bytes of a file: templates, `include`, `ssi`.
    fn read(&self, path: &Path) -> io::Result<Vec<u8>>;
    /// What identifies one state of a file (a template is compiled again when it differs).
    fn stamp(&self, path: &Path) -> Option<Stamp>;
    /// An environment variable.
    fn var(&self, name: &[u8]) -> Option<Vec<u8>>;
    /// The wall clock: seconds and nanoseconds since 1970 in UTC.
    fn now(&self) -> (i64, u32);
    /// The zone of local time at a moment: seconds east of UTC, and its abbreviation.
    fn zone(&self, unix: i64) -> (i32, String);
    /// The addresses of a name, as text, in no order.
    fn lookup_ip(&self, name: &str) -> Result<Vec<String>, String>;
    /// The SRV records of `_service._proto.name`.
    fn lookup_srv(&self, service: &str, proto: &str, name: &str) -> Result<Vec<Srv>, String>;
    /// A random number below `bound` (which is not 0).
    fn random(&self, bound: u64) -> u64;
    /// The filters of the user.
    fn scripts(&self) -> Rc<Scripts> {
        Rc::default()
    }
    /// The processor time that the program has taken. Only differences count.
    fn processor_time(&self) -> Duration {
        Duration::ZERO
    }
    /// Whether the render should end without a result, since the program is asked to. Looked at now and then.
    fn stopped(&self) -> bool {
        false
    }
}

/// One state of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stamp {
    pub device: u64,
    pub inode: u64,
    pub size: u64,
    /// Seconds and nanoseconds of the last change.
    pub modified: (i64, i64),
}

/// An SRV record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Srv {
    /// With the dot at its end, as Go gives it.
    pub target: String,
    pub port: u16,
    pub priority: u16,
    pub weight: u16,
}

/// What functions and filters are called with beside their arguments.
pub struct Env {
    pub store: Rc<Store>,
    pub world: Rc<dyn World>,
    /// What the render costs, and its limits.
    pub meter: Meter,
    /// What the programs of computed includes take.
    programs: RefCell<Hold>,
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

/// What one render may cost. A template that goes beyond ends with an error, not with the machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Tags, expressions and loop rounds that are run, and every 16 bytes that they read or make.
    pub steps: u64,
    /// Processor time.
    pub time: Duration,
    /// Bytes of the result, and of each text or list on the way to it.
    pub output: usize,
    /// Bytes of all texts, lists and maps that are alive at a time, with the result as far as it is there.
    pub memory: usize,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits { steps: 100_000_000, time: Duration::from_secs(10), output: 256 << 20, memory: 256 << 20 }
    }
}
