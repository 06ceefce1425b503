//! What one resource keeps in the state_dir: its last keys, how many of them the guard has accepted, and the reloads that
//! it owes. Writes what has changed, and reads it at the start; a failure is a line and never ends anything. Their bytes
//! are `state`'s, when to use them is decided in `unit/keeping.rs`.

use std::rc::Rc;
use std::time::Duration;

use crate::config;
use crate::error::cause;
use crate::host::state_dir::{StateDir, Sync};
use crate::log::{self, Level, Line};
use crate::percent;
use crate::state::debts::Debts;
use crate::state::keys::{self, Useless};
use crate::state::{MOST_BYTES, origin, past};
use crate::store::{Layer, Store};

/// The files of a resource.
pub(super) struct Kept {
    dir: Rc<StateDir>,
    /// The stores that the keys are from.
    origin: u64,
    keys: KeysFile,
    past: PastFile,
    /// `None`: the run makes no reloads.
    debts: Option<DebtsFile>,
}

struct KeysFile {
    name: String,
    layers: usize,
    /// Whether the keys may be written.
    is_allowed: bool,
    /// The end of the file as it was last written, which differs for different keys.
    last: Option<[u8; SUM]>,
    /// Whether the last attempt to write failed.
    is_failing: bool,
}

struct PastFile {
    name: String,
    /// The number in the file; `None`: not known.
    last: Option<usize>,
    is_failing: bool,
}

struct DebtsFile {
    name: String,
    /// What the file says; `None`: not known.
    last: Option<Debts>,
    is_failing: bool,
}

/// The length of the sum at the end of a file of keys.
const SUM: usize = 8;

/// The keys that were kept.
pub(super) struct Cached {
    /// One for each backend.
    pub layers: Vec<Layer>,
    /// In words.
    pub age: String,
}

impl Kept {
    /// `is_allowed`: whether the keys may be written. Otherwise those of an earlier configuration are removed.
    /// `has_reloads`: whether the run makes reloads. Otherwise those that are owed stay for one that does.
    pub(super) fn new(dir: Rc<StateDir>, resource: &config::Resource, is_allowed: bool, has_reloads: bool) -> Kept {
        let mut name = String::new();
        percent::push_segment(resource.name.as_bytes(), &mut name);
        let keys = KeysFile {
            name: format!("{name}.keys"),
            layers: resource.backends.len(),
            is_allowed,
            last: None,
            is_failing: false,
        };
        let past = PastFile { name: format!("{name}.guard"), last: None, is_failing: false };
        let debts = DebtsFile { name: format!("{name}.reloads"), last: None, is_failing: false };
        Kept { dir, origin: origin::of(&resource.backends), keys, past, debts: has_reloads.then_some(debts) }
    }

    /// Removes keys that may not be kept any more. Returns the reloads that are owed since an earlier run.
    pub(super) fn begin(&mut self, say: impl Fn(Line)) -> Debts {
        if !self.keys.is_allowed
            && let Err(e) = self.dir.remove(&self.keys.name)
        {
            say(self.failed("remove", &self.keys.name, &cause(&e)));
        }
        let Some(file) = &self.debts else { return Debts::default() };
        let debts = match self.dir.read(&file.name) {
            Ok(None) => Some(Debts::default()),
            Ok(Some(found)) => {
                let debts = Debts::decode(&found.content);
                if debts.is_none() {
                    say(self.failed("use", &file.name, DAMAGED));
                }
                debts
            }
            Err(e) => {
                say(self.failed("read", &file.name, &cause(&e)));
                // It is not removed before there is another one to write: the next run may be able to read it.
                Some(Debts::default())
            }
        };
        if let Some(file) = &mut self.debts {
            file.last.clone_from(&debts);
        }
        debts.unwrap_or_default()
    }

    /// The number of keys that the last accepted update of an earlier run had; `None`: it is not known. `is_wanted`: whether
    /// the guard compares with it. Otherwise it is removed: a later guard would take an old number for the last one.
    pub(super) fn begin_past(&mut self, is_wanted: bool, say: impl Fn(Line)) -> Option<usize> {
        let name = &self.past.name;
        if !is_wanted {
            self.dir.remove(name).err().into_iter().for_each(|e| say(self.failed("remove", name, &cause(&e))));
            return None;
        }
        let why = match self.dir.read(name) {
            Ok(None) => return None,
            Ok(Some(found)) => match past::decode(&found.content) {
                Some((origin, keys)) if origin == self.origin => {
                    self.past.last = Some(keys);
                    return Some(keys);
                }
                Some(_) => FOREIGN.to_owned(),
                None => DAMAGED.to_owned(),
            },
            Err(e) => cause(&e),
        };
        say(self.failed("use", name, &format!("{why}; the guard does not know the keys of the last run")));
        None
    }

    /// Writes the number of keys that the guard has accepted, if it differs from that of the file.
    pub(super) fn accept(&mut self, keys: usize, say: impl Fn(Line)) {
        if self.past.last == Some(keys) {
            return;
        }
        // After a power failure the file may be empty, and then the past is not known.
        let written = self.dir.write(&self.past.name, &past::encode(self.origin, keys), Sync::No);
        let was_failing = std::mem::replace(&mut self.past.is_failing, written.is_err());
        self.past.last = written.is_ok().then_some(keys);
        if let Err(e) = written
            && !was_failing
        {
            let why = format!("{}; after a restart the guard compares with an older update or with none", cause(&e));
            say(self.failed("write", &self.past.name, &why));
        }
    }

    /// Writes the keys of an update that has succeeded, if they differ from those of the file.
    pub(super) fn keep(&mut self, store: &Store, say: impl Fn(Line)) {
        if !self.keys.is_allowed {
            return;
        }
        let kept = self.write_keys(store);
        let was_failing = std::mem::replace(&mut self.keys.is_failing, kept.is_err());
        if let Err(why) = kept
            && !was_failing
        {
            say(self.failed("write", &self.keys.name, &format!("{why}; the last keys are not kept")));
        }
    }

    fn write_keys(&mut self, store: &Store) -> Result<(), String> {
        let KeysFile { name, layers, last, .. } = &mut self.keys;
        let Some(content) = keys::encode(self.origin, store, *layers) else {
            // Old keys are worse than none.
            let removed = self.dir.remove(name).err().map(|e| format!(", and the old ones stay: {}", cause(&e)));
            *last = None;
            return Err(format!("they are more than {} MB{}", MOST_BYTES >> 20, removed.unwrap_or_default()));
        };
        let sum = content.last_chunk::<SUM>().copied();
        let is_same = match last {
            Some(last) => Some(*last) == sum,
            None => self.dir.read(name).is_ok_and(|file| file.is_some_and(|file| file.content == content)),
        };
        // The age counts from the last update.
        let is_touched = is_same && self.dir.touch(name).is_ok();
        if !is_touched {
            *last = None;
            self.dir.write(name, &content, Sync::Yes).map_err(|e| cause(&e))?;
        }
        *last = sum;
        Ok(())
    }

    /// The keys of the last update that has succeeded.
    ///
    /// # Errors
    /// There are none that can be used. The line says why.
    pub(super) fn cached(&self, max_age: Option<Duration>) -> Result<Cached, Line> {
        let name = &self.keys.name;
        let file = match self.dir.read(name) {
            Ok(Some(file)) => file,
            Ok(None) => {
                let line = "no store can be reached, and no keys of an earlier run are kept";
                return Err(Line::new(Level::Warn, line));
            }
            Err(e) => return Err(self.failed("read", name, &cause(&e))),
        };
        let layers = keys::decode(self.origin, self.keys.layers, &file.content).map_err(|why| {
            let why = match why {
                Useless::Damaged => DAMAGED,
                Useless::Foreign => FOREIGN,
            };
            self.failed("use", name, why)
        })?;
        let age = match (file.age, max_age) {
            (Some(age), Some(max)) if age > max => {
                let why = format!("its keys are {} old, and `max_age` is {}", log::duration(age), log::duration(max));
                return Err(self.failed("use", name, &why));
            }
            (None, Some(_)) => {
                let why = "it is newer than the clock, so that its age is not known, and there is a `max_age`";
                return Err(self.failed("use", name, why));
            }
            (Some(age), Some(_) | None) => log::duration(age),
            (None, None) => "unknown: the clock is behind".to_owned(),
        };
        Ok(Cached { layers, age })
    }

    /// Writes the reloads that are owed, if they differ from those of the file.
    pub(super) fn owe(&mut self, debts: Debts, say: impl Fn(Line)) {
        let Some(file) = self.debts.as_mut().filter(|file| file.last.as_ref() != Some(&debts)) else { return };
        let written = match debts.is_empty() {
            true => self.dir.remove(&file.name).map(|_| ()),
            // A crash of the machine ends the services that would be reloaded.
            false => self.dir.write(&file.name, &debts.encode(), Sync::No),
        };
        let was_failing = std::mem::replace(&mut file.is_failing, written.is_err());
        match written {
            Ok(()) => file.last = Some(debts),
            Err(e) if !was_failing => {
                let why = format!("{}; after a crash now, reloads may be lost or run twice", cause(&e));
                let name = file.name.clone();
                say(self.failed("write", &name, &why));
            }
            Err(_) => {}
        }
    }

    fn failed(&self, what: &str, name: &str, why: &str) -> Line {
        let message = format!("failed to {what} `{}`", self.dir.shown(name).display());
        Line::new(Level::Warn, message).with("error", why)
    }
}

const FOREIGN: &str = "it belongs to other backends, nodes, prefixes or keys";
const DAMAGED: &str = "it is damaged, or of another version of remco";
