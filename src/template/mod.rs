//! The template language: our own front end, compiled onto upon. Accesses the machine only through [`World`].
//!
//! The rooms, in an order in which each uses only those before it: `limits`, `source`, `world`, `reads`, `value`,
//! `builtin` (functions and filters), `syntax` (bytes to syntax tree), `compile` (syntax tree to program), `run`
//! (program to text).

mod builtin;
mod compile;
#[cfg(test)]
pub(crate) mod fixture;
mod limits;
pub mod reads;
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
use reads::{Reads, Recording};
use scripts::Scripts;
pub use source::Error;
use syntax::ast::Presence;
pub use value::collections::Collections;
use value::meter::Meter;
pub use value::{meter, signature};
pub use world::{Srv, Stamp, World};

use crate::store::Store;

/// A compiled template, with everything it includes by a fixed name.
pub struct Template {
    /// The limits of one render.
    pub limits: Limits,
    /// The recording of the next renders.
    pub recording: Recording,
    program: Rc<Program>,
    library: Rc<Library>,
}

impl Template {
    /// Reads and compiles a template file and its includes, with the default limits and without filters of the user.
    ///
    /// # Errors
    /// Those of [`Template::compile_within`].
    pub fn compile(path: &Path, world: &Rc<dyn World>) -> Result<Template, Error> {
        Template::compile_within(path, world, Limits::default(), Rc::default())
    }

    /// Reads and compiles a template file and its includes. The compiled files together may use the memory and the time
    /// of one render; a render may then use as much again. `scripts` are the filters of the user.
    ///
    /// # Errors
    /// A file cannot be read, or is invalid, or the files together exceed a limit.
    pub fn compile_within(
        path: &Path,
        world: &Rc<dyn World>,
        limits: Limits,
        scripts: Rc<Scripts>,
    ) -> Result<Template, Error> {
        let library = Library::new(scripts);
        let bytes =
            library.read(&**world, path, Presence::Required).map_err(|message| Error::of_file(path, message))?;
        // Steps count the work of a render, not the size of a template.
        let meter = Meter::new(Limits { steps: u64::MAX, ..limits }, world.clone());
        let bytes = bytes.unwrap_or_default();
        let program =
            lower::compile(path, bytes, Role::Main, &library, &**world, &mut meter.hold(), &run::render::ENGINE)?;
        let recording = Recording::default();
        Ok(Template { limits, recording, program: Rc::new(program), library: Rc::new(library) })
    }

    /// Renders the template. A late error discards the whole result.
    pub fn render(&self, store: &Rc<Store>, world: &Rc<dyn World>) -> Result<Vec<u8>, Error> {
        let env = Env::new(store.clone(), world.clone(), self.limits, self.recording);
        run::render::render(&self.program, &self.library, env)
    }

    /// The probable mistakes that the renders so far have met, each as `file:line:column: text` and once: missing
    /// fields whose name differs only in case (`kv.key` of a pair). They do not change the result.
    pub fn take_hints(&self) -> Vec<String> {
        self.library.take_hints()
    }

    /// The reads of the last render, even of a failed one. A second call returns none.
    pub fn take_reads(&self) -> Reads {
        self.library.take_reads()
    }

    /// Whether a file of the template changed, vanished or appeared, so that it has to be compiled again. Files of
    /// computed includes count too.
    pub fn is_stale(&self, world: &dyn World) -> bool {
        self.library.is_stale(world)
    }

    /// Whether the file with this device and inode is part of the template.
    pub fn is_made_from(&self, file: (u64, u64)) -> bool {
        self.library.has_read(file)
    }

    /// The places of names that no tag of these files sets and that are no functions. Such names are empty, as in
    /// Django, and mostly misspelt.
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
    /// The name in the template.
    pub name: String,
    /// The template or a file that it includes.
    pub file: PathBuf,
    /// The line of the name, as in [`Error`].
    pub line: usize,
    /// The column, in characters from 1.
    pub col: usize,
}
