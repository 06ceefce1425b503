//! What the parts of one template share: its names, the files it came from with their states, and the files that
//! computed includes brought. Files are read here and nowhere else in the language, by way of the World.

use std::cell::{Cell, RefCell, RefMut};
use std::collections::{BTreeMap, HashMap};
use std::ffi::OsStr;
use std::io::ErrorKind;
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};
use std::rc::Rc;

use super::lower::{self, Role};
use super::program::{Program, Slot};
use super::scope::Names;
use super::source::Error;
use super::{Env, Stamp, World};
use crate::error::cause;

#[derive(Default)]
pub(super) struct Library {
    names: RefCell<Names>,
    /// The files that were asked for last.
    stamps: RefCell<Stamps>,
    /// By path: what computed includes brought in the last render. The template is stale as a whole once a file of these
    /// changes; what a render does not ask for any more is forgotten.
    computed: RefCell<HashMap<PathBuf, Computed>>,
    /// The same of the render before, as far as the one at work has not asked for it.
    earlier: RefCell<HashMap<PathBuf, Computed>>,
    slots: Cell<usize>,
}

/// Files that were asked for, and their states then; `None`: the file was not there.
type Stamps = BTreeMap<PathBuf, Option<Stamp>>;

/// What a computed include brought.
#[derive(Default)]
struct Computed {
    /// `None`: the file could not be had.
    program: Option<Rc<Program>>,
    /// The file, and those that it names by fixed names.
    stamps: Stamps,
    /// What the program takes of the render's memory.
    bytes: usize,
}

impl Library {
    /// A render begins: what it will not ask for is forgotten with the next one.
    pub fn begin(&self) {
        self.earlier.replace(self.computed.take());
    }

    pub fn names(&self) -> RefMut<'_, Names> {
        self.names.borrow_mut()
    }

    /// A slot that no other node has.
    pub fn slot(&self) -> Slot {
        self.slots.set(self.slots.get() + 1);
        Slot(self.slots.get() - 1)
    }

    /// Reads a file. `None`: it does not exist, and need not.
    pub fn read(&self, world: &dyn World, path: &Path, need: Need) -> Result<Option<Vec<u8>>, String> {
        // The state is asked first: what changes in between counts as changed.
        let stamp = world.stamp(path);
        self.stamps.borrow_mut().insert(path.to_owned(), stamp);
        match world.read(path) {
            Ok(bytes) => Ok(Some(bytes)),
            Err(error)
                if need == Need::May && matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) =>
            {
                Ok(None)
            }
            Err(error) => Err(format!("failed to read `{}`: {}", path.display(), cause(&error))),
        }
    }

    /// The compiled file that a computed include names. `None`: it does not exist, and need not. An error that is only
    /// text is one of reading. `open`: levels of nesting that the include itself stands in.
    pub fn computed(&self, env: &Env, path: &Path, need: Need, open: usize) -> Result<Option<Rc<Program>>, Failure> {
        if let Some(known) = self.computed.borrow().get(path)
            && (known.program.is_some() || need == Need::May && known.stamps.get(path) == Some(&None))
        {
            return Ok(known.program.clone());
        }
        if let Some(known @ Computed { program: Some(_), .. }) = self.earlier.borrow_mut().remove(path) {
            let program = known.program.clone();
            let room = self.hold_program(env, known.bytes);
            self.computed.borrow_mut().insert(path.to_owned(), known);
            return room.map(|()| program);
        }
        // What is asked for from here on belongs to this file.
        let others = self.stamps.take();
        let mut known = Computed::default();
        let result = self.compile(env, path, need, open, &mut known);
        known.stamps = self.stamps.replace(others);
        known.program = result.as_ref().ok().cloned().flatten();
        self.computed.borrow_mut().insert(path.to_owned(), known);
        result
    }

    fn compile(
        &self,
        env: &Env,
        path: &Path,
        need: Need,
        open: usize,
        known: &mut Computed,
    ) -> Result<Option<Rc<Program>>, Failure> {
        let Some(bytes) = self.read(&*env.world, path, need).map_err(Failure::Read)? else {
            return Ok(None);
        };
        let role = Role::Included { open };
        let mut room = env.programs.borrow_mut();
        let before = room.bytes();
        let program = lower::compile(path, bytes, role, self, &*env.world, &mut room).map_err(Failure::Compile)?;
        known.bytes = room.bytes() - before;
        Ok(Some(Rc::new(program)))
    }

    /// Programs stay to the end of the render.
    fn hold_program(&self, env: &Env, bytes: usize) -> Result<(), Failure> {
        env.programs.borrow_mut().build(bytes).map_err(Failure::Read)
    }

    /// Whether the file with this device and inode was read.
    pub fn has_read(&self, file: (u64, u64)) -> bool {
        let holds = |stamps: &Stamps| stamps.values().flatten().any(|stamp| (stamp.device, stamp.inode) == file);
        holds(&self.stamps.borrow()) || self.computed.borrow().values().any(|known| holds(&known.stamps))
    }

    /// Whether a file changed, vanished or appeared since it was asked for.
    pub fn is_stale(&self, world: &dyn World) -> bool {
        let changed = |stamps: &Stamps| stamps.iter().any(|(path, stamp)| world.stamp(path) != *stamp);
        changed(&self.stamps.borrow()) || self.computed.borrow().values().any(|known| changed(&known.stamps))
    }
}

/// Whether a file has to be there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Need {
    Must,
    /// `if_exists`
    May,
}

/// Why there is no program of a file.
pub(super) enum Failure {
    /// It could not be read.
    Read(String),
    Compile(Error),
}

/// The path of a file that `base` names: relative to the directory of `base`, without `.` and `..` (Go's filepath.Join).
pub(super) fn resolve(base: &Path, name: &[u8]) -> Result<PathBuf, String> {
    if name.is_empty() {
        return Err("the name of the file is empty".to_owned());
    }
    let name = Path::new(OsStr::from_bytes(name));
    if name.is_absolute() {
        return Ok(name.to_owned());
    }
    let mut path = PathBuf::new();
    for component in base.parent().unwrap_or(Path::new("")).join(name).components() {
        match component {
            Component::CurDir => {}
            Component::ParentDir => match path.components().next_back() {
                Some(Component::Normal(_)) => _ = path.pop(),
                Some(Component::RootDir) => {}
                _ => path.push(".."),
            },
            other => path.push(other),
        }
    }
    Ok(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn resolves_names_of_files() {
        let check = |base: &str, name: &str, expected: &str| {
            assert_eq!(resolve(Path::new(base), name.as_bytes()), Ok(PathBuf::from(expected)), "{base} {name}");
        };
        check("a.tmpl", "b.tmpl", "b.tmpl");
        check("dir/a.tmpl", "b.tmpl", "dir/b.tmpl");
        check("/etc/remco/a.tmpl", "sub/./b.tmpl", "/etc/remco/sub/b.tmpl");
        check("sub/a.tmpl", "../b.tmpl", "b.tmpl");
        check("a.tmpl", "../../b.tmpl", "../../b.tmpl");
        check("/a.tmpl", "../../b.tmpl", "/b.tmpl");
        check("dir/a.tmpl", "/abs/../b.tmpl", "/abs/../b.tmpl");
        assert!(resolve(Path::new("a"), b"").is_err());
    }
}
