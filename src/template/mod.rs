//! remco's template language: a front end of ours, compiled onto upon. Touches nothing outside
//! itself but through [`World`].
//!
//! The rooms, from the ground up; each uses only those before it: `world`, `limits` and `source`, `value`, `builtin`
//! (functions and filters), `syntax` (bytes to syntax tree), `compile` (to a program for upon), `run` (renders it).

mod builtin;
mod compile;
#[cfg(test)]
pub(crate) mod fixture;
mod limits;
mod run;
mod source;
mod syntax;
#[cfg(test)]
mod tests;
pub mod value;
mod world;

use std::path::{Path, PathBuf};
use std::rc::Rc;

pub use builtin::env::Env;
pub use builtin::{filters, functions, layout, scripts};
use compile::library::Library;
use compile::lower::{self, Role};
use compile::program::Program;
pub use limits::Limits;
use scripts::Scripts;
pub use source::Error;
use syntax::ast::Need;
pub use value::collections::Collections;
use value::meter::Meter;
pub use value::{meter, signature};
pub use world::{Srv, Stamp, World};

use crate::store::Store;

/// A compiled template, with everything it includes by a fixed name.
pub struct Template {
    /// What one render may cost.
    pub limits: Limits,
    program: Rc<Program>,
    library: Rc<Library>,
}

impl Template {
    /// Reads and compiles a template file and what it includes, within the usual limits and without filters of the user.
    ///
    /// # Errors
    /// As [`Template::compile_within`].
    pub fn compile(path: &Path, world: &Rc<dyn World>) -> Result<Template, Error> {
        Template::compile_within(path, world, Limits::default(), Rc::default())
    }

    /// Reads and compiles a template file and what it includes. The compiled files together may take the memory and the
    /// time of one render; a render then has as much again. `scripts`: the filters of the user.
    ///
    /// # Errors
    /// A file cannot be read, or is wrong, or the files together go beyond a limit.
    pub fn compile_within(
        path: &Path,
        world: &Rc<dyn World>,
        limits: Limits,
        scripts: Rc<Scripts>,
    ) -> Result<Template, Error> {
        let library = Library::new(scripts);
        let bytes = library.read(&**world, path, Need::Must).map_err(|message| Error::of_file(path, message))?;
        // Steps count what a template does, not what it is.
        let meter = Meter::new(Limits { steps: u64::MAX, ..limits }, world.clone());
        let bytes = bytes.unwrap_or_default();
        let program =
            lower::compile(path, bytes, Role::Main, &library, &**world, &mut meter.hold(), &run::render::ENGINE)?;
        Ok(Template { limits, program: Rc::new(program), library: Rc::new(library) })
    }

    /// Renders the template. Nothing of the result is used if there is an error, also when it comes late.
    pub fn render(&self, store: &Rc<Store>, world: &Rc<dyn World>) -> Result<Vec<u8>, Error> {
        run::render::render(&self.program, &self.library, Env::new(store.clone(), world.clone(), self.limits))
    }

    /// What was probably not meant in what the renders so far went through, each as `file:line:column: text` and once:
    /// fields that are not there, but in other letters (`kv.key` of a pair). The result is the same with them.
    pub fn take_hints(&self) -> Vec<String> {
        self.library.take_hints()
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
    /// As it is written.
    pub name: String,
    /// The template or a file that it includes.
    pub file: PathBuf,
    /// Of the name, as in [`Error`].
    pub line: usize,
    /// In characters, from 1.
    pub col: usize,
}
