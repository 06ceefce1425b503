//! The shared data of one template: its names, the stamps of its files, and the programs of computed includes. All
//! files of the language are read here, through the World.

use std::cell::{Cell, RefCell, RefMut};
use std::collections::{BTreeSet, HashMap};
use std::ffi::OsStr;
use std::io::ErrorKind;
use std::mem;
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};
use std::rc::Rc;

use crate::error::cause;
use crate::template::builtin::scripts::Scripts;
use crate::template::compile::program::{Program, Slot};
use crate::template::reads::Reads;
use crate::template::syntax::ast::Presence;
use crate::template::syntax::names::Names;
use crate::template::world::Stamp;
use crate::template::world::World;

/// The data that a template and its renders share. Cells, because a render shares the library with the template, and
/// compiles computed includes into it.
#[derive(Default)]
pub(crate) struct Library {
    names: RefCell<Names>,
    /// The filters of the user.
    pub scripts: Rc<Scripts>,
    /// The files of the template.
    pub(super) stamps: RefCell<Stamps>,
    /// The computed includes of the last render, by path. A change of one of these files makes the whole template
    /// stale. A render forgets the includes that it does not use.
    pub(super) computed: RefCell<HashMap<PathBuf, Computed>>,
    /// The computed includes of the render before that the present one has not used yet.
    pub(super) earlier: RefCell<HashMap<PathBuf, Computed>>,
    slots: Cell<usize>,
    hints: RefCell<Hints>,
    /// The reads of the last render.
    reads: RefCell<Reads>,
}

/// The probable mistakes in the templates that are no errors.
#[derive(Default)]
struct Hints {
    /// All hints so far, because each is reported once.
    known: BTreeSet<String>,
    /// The hints that were not taken yet.
    new: Vec<String>,
}

/// The files that were read, with their stamps; `None`: the file did not exist.
pub(super) type Stamps = HashMap<PathBuf, Option<Stamp>>;

/// The result of a computed include.
#[derive(Default)]
pub(super) struct Computed {
    /// `None`: the file could not be read or compiled.
    pub(super) program: Option<Rc<Program>>,
    /// The file, and the files that it includes by fixed names.
    pub(super) stamps: Stamps,
    /// The memory of the program, which counts for the render.
    pub(super) bytes: usize,
}

impl Library {
    /// A library without files, with the filters of the user.
    pub fn new(scripts: Rc<Scripts>) -> Library {
        Library { scripts, ..Library::default() }
    }

    /// Begins a render. The includes that it does not use are dropped by the next one.
    pub fn begin(&self) {
        self.earlier.replace(self.computed.take());
    }

    /// The names of the template and its includes. Panics while they are borrowed.
    pub fn names(&self) -> RefMut<'_, Names> {
        self.names.borrow_mut()
    }

    /// A slot that no other node has.
    pub fn slot(&self) -> Slot {
        self.slots.set(self.slots.get() + 1);
        Slot(self.slots.get() - 1)
    }

    /// Keeps a hint until [`Library::take_hints`].
    pub fn hint(&self, text: String) {
        /// The largest number of hints. More are of no use.
        const MOST: usize = 100;
        let Hints { known, new } = &mut *self.hints.borrow_mut();
        if known.len() < MOST && known.insert(text.clone()) {
            new.push(text);
        }
    }

    /// The hints that were not taken yet.
    pub fn take_hints(&self) -> Vec<String> {
        mem::take(&mut self.hints.borrow_mut().new)
    }

    /// Keeps the reads of a render until [`Library::take_reads`].
    pub fn keep_reads(&self, reads: Reads) {
        self.reads.replace(reads);
    }

    /// The reads of the last render. A second call returns none.
    pub fn take_reads(&self) -> Reads {
        self.reads.take()
    }

    /// Reads a file. `None`: the file does not exist, and is optional.
    pub fn read(&self, world: &dyn World, path: &Path, presence: Presence) -> Result<Option<Vec<u8>>, String> {
        // The stamp is taken before the read, so that a change in between counts.
        let stamp = world.stamp(path);
        self.stamps.borrow_mut().insert(path.to_owned(), stamp);
        match world.read(path) {
            Ok(bytes) => Ok(Some(bytes)),
            Err(error)
                if presence == Presence::Optional
                    && matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) =>
            {
                Ok(None)
            }
            Err(error) => Err(format!("failed to read `{}`: {}", path.display(), cause(&error))),
        }
    }

    /// Whether the file with this device and inode was read.
    pub fn has_read(&self, file: (u64, u64)) -> bool {
        let holds = |stamps: &Stamps| stamps.values().flatten().any(|stamp| (stamp.device, stamp.inode) == file);
        holds(&self.stamps.borrow()) || self.computed.borrow().values().any(|known| holds(&known.stamps))
    }

    /// Whether a file changed, vanished or appeared since it was read.
    pub fn is_stale(&self, world: &dyn World) -> bool {
        let changed = |stamps: &Stamps| stamps.iter().any(|(path, stamp)| world.stamp(path) != *stamp);
        changed(&self.stamps.borrow()) || self.computed.borrow().values().any(|known| changed(&known.stamps))
    }
}

/// The path of a file that `base` names: relative to the directory of `base`, without `.` and `..` (Go's
/// filepath.Join).
pub(crate) fn resolve(base: &Path, name: &[u8]) -> Result<PathBuf, String> {
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
