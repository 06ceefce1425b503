//! The files of computed includes. The first render that uses a file compiles it, the library keeps the program until a
//! render does not use it, and each render that uses the program is charged for it.

use std::path::Path;
use std::rc::Rc;

use super::library::{Computed, Library};
use super::lower::{self, Role};
use super::program::Program;
use crate::template::builtin::env::Env;
use crate::template::source::Error;
use crate::template::syntax::ast::Presence;

/// The reason why a file has no program.
pub(crate) enum Failure {
    /// The file could not be read.
    Read(String),
    Compile(Error),
}

impl Library {
    /// The compiled file of a computed include. `None`: the file does not exist, and is optional. `open`: the levels of
    /// nesting around the include.
    pub fn computed(
        &self,
        env: &Env,
        path: &Path,
        presence: Presence,
        open: usize,
        engine: &upon::Engine<'static>,
    ) -> Result<Option<Rc<Program>>, Failure> {
        if let Some(known) = self.computed.borrow().get(path)
            && (known.program.is_some() || presence == Presence::Optional && known.stamps.get(path) == Some(&None))
        {
            return Ok(known.program.clone());
        }
        if let Some(known @ Computed { program: Some(_), .. }) = self.earlier.borrow_mut().remove(path) {
            let program = known.program.clone();
            let room = self.hold_program(env, known.bytes);
            self.computed.borrow_mut().insert(path.to_owned(), known);
            return room.map(|()| program);
        }
        // The files that are read from here on belong to this one.
        let others = self.stamps.take();
        let mut known = Computed::default();
        let result = self.compile(env, path, presence, open, engine, &mut known);
        known.stamps = self.stamps.replace(others);
        known.program = result.as_ref().ok().cloned().flatten();
        self.computed.borrow_mut().insert(path.to_owned(), known);
        result
    }

    fn compile(
        &self,
        env: &Env,
        path: &Path,
        presence: Presence,
        open: usize,
        engine: &upon::Engine<'static>,
        known: &mut Computed,
    ) -> Result<Option<Rc<Program>>, Failure> {
        let Some(bytes) = self.read(env.files(), path, presence).map_err(Failure::Read)? else {
            return Ok(None);
        };
        let role = Role::Included { open };
        let mut room = env.programs.borrow_mut();
        let before = room.bytes();
        let program =
            lower::compile(path, bytes, role, self, env.files(), &mut room, engine).map_err(Failure::Compile)?;
        known.bytes = room.bytes() - before;
        Ok(Some(Rc::new(program)))
    }

    /// Holds the memory of a program to the end of the render.
    fn hold_program(&self, env: &Env, bytes: usize) -> Result<(), Failure> {
        env.programs.borrow_mut().build(bytes).map_err(Failure::Read)
    }
}
