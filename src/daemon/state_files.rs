//! The files of one resource in the state_dir: its last keys, the number of keys that the guard has accepted, its
//! pending reloads, and the journal of its renames. Reads them at the start, and writes changes. A failure is logged,
//! and ends nothing. `state` has their formats, and `unit/persistence.rs` decides when they are used.

mod keys;

use std::collections::BTreeSet;
use std::io;
use std::path::Path;
use std::rc::{Rc, Weak};
use std::time::{Duration, Instant};

use crate::config;
use crate::error::cause;
use crate::host::state_dir::StateDir;
use crate::log::{self, Level, Line};
use crate::percent;
use crate::state::journal::Journal;
use crate::state::keys::{Unusable, decode};
use crate::state::reloads::{Commands, PendingReloads};
use crate::state::{self, baseline, origin};
use crate::store::{Layer, Store};
use keys::KeysFile;

/// The files of a resource.
pub(super) struct StateFiles {
    dir: Rc<StateDir>,
    /// The origin of the keys.
    origin: u64,
    layers: usize,
    /// The name of the file of keys.
    keys_name: String,
    /// `None`: the keys may not be written.
    keys: Option<KeysFile>,
    baseline: BaselineFile,
    /// `None`: the run makes no reloads.
    reloads: Option<ReloadsFile>,
    journal: JournalFile,
}

struct BaselineFile {
    name: String,
    /// The number in the file; `None`: unknown.
    last: Option<usize>,
    is_failing: bool,
}

struct JournalFile {
    name: String,
    is_there: bool,
    is_failing: bool,
}

struct ReloadsFile {
    name: String,
    commands: Commands,
    /// The content of the file; `None`: unknown.
    last: Option<PendingReloads>,
    is_failing: bool,
}

/// The saved keys.
pub(super) struct Cached {
    /// One for each backend.
    pub layers: Vec<Layer>,
    /// As a text.
    pub age: String,
    /// When the update with these keys succeeded, in seconds since 1970.
    pub written: i64,
}

impl StateFiles {
    /// `is_allowed`: whether the keys may be written. Otherwise those of an earlier configuration are removed.
    /// `has_reloads`: whether the run makes reloads. Otherwise the pending ones stay for a run that does.
    pub(super) fn new(
        dir: Rc<StateDir>,
        resource: &config::Resource,
        is_allowed: bool,
        has_reloads: bool,
        now: Instant,
    ) -> StateFiles {
        let name = base_name(&resource.name);
        let (origin, layers) = (origin::of(&resource.backends), resource.backends.len());
        let keys_name = format!("{name}.keys");
        let keys = is_allowed.then(|| KeysFile::new(Rc::clone(&dir), keys_name.clone(), origin, layers, now));
        let baseline = BaselineFile { name: format!("{name}.guard"), last: None, is_failing: false };
        let commands = commands_of(resource);
        let reloads = ReloadsFile { name: format!("{name}.reloads"), commands, last: None, is_failing: false };
        let journal = JournalFile { name: format!("{name}.journal"), is_there: false, is_failing: false };
        StateFiles { dir, origin, layers, keys_name, keys, baseline, reloads: has_reloads.then_some(reloads), journal }
    }

    /// Removes keys that must no longer be saved. Returns the pending reloads of an earlier run.
    pub(super) fn load_reloads(&mut self, log: impl Fn(Line)) -> PendingReloads {
        if self.keys.is_none()
            && let Err(e) = self.dir.remove(&self.keys_name)
        {
            log(self.failed("remove", &self.keys_name, &cause(&e)));
        }
        let Some(file) = &self.reloads else { return PendingReloads::default() };
        let reloads = match self.dir.read(&file.name) {
            Ok(None) => Some(PendingReloads::default()),
            Ok(Some(found)) => {
                let decoded = PendingReloads::decode(&found, &file.commands);
                if decoded.is_none() {
                    log(self.failed("use", &file.name, DAMAGED));
                }
                decoded.map(|(reloads, lost)| {
                    let line = Line::new(
                        Level::Warn,
                        "the reload that a file owed is not made up: no template has its path or its command",
                    );
                    lost.into_iter().for_each(|dst| log(line.clone().with("config", dst)));
                    reloads
                })
            }
            Err(e) => {
                log(self.failed("read", &file.name, &cause(&e)));
                // The file stays until another one is written: the next run may be able to read it.
                Some(PendingReloads::default())
            }
        };
        if let Some(file) = &mut self.reloads {
            // If other templates replace those of the file, the file is written again.
            file.last = reloads.clone().filter(PendingReloads::is_empty);
        }
        reloads.unwrap_or_default()
    }

    /// The number of keys in the last accepted update of an earlier run; `None`: unknown. `is_wanted`: whether the
    /// guard compares with the number. Otherwise the file is removed, because a later guard would use an outdated
    /// number.
    pub(super) fn load_baseline(&mut self, is_wanted: bool, log: impl Fn(Line)) -> Option<usize> {
        let name = &self.baseline.name;
        if !is_wanted {
            self.dir.remove(name).err().into_iter().for_each(|e| log(self.failed("remove", name, &cause(&e))));
            return None;
        }
        let why = match self.dir.read(name) {
            Ok(None) => return None,
            Ok(Some(found)) => match baseline::decode(&found) {
                Some((origin, keys)) if origin == self.origin => {
                    self.baseline.last = Some(keys);
                    return Some(keys);
                }
                Some(_) => FOREIGN.to_owned(),
                None => DAMAGED.to_owned(),
            },
            Err(e) => cause(&e),
        };
        log(self.failed("use", name, &format!("{why}; the guard does not know the keys of the last run")));
        None
    }

    /// Writes the number of keys that the guard has accepted, if it differs from the number in the file.
    pub(super) fn save_baseline(&mut self, keys: usize, log: impl Fn(Line)) {
        if self.baseline.last == Some(keys) {
            return;
        }
        // The file is not synced: after a power failure it may be empty, and the baseline is unknown.
        let written = self.dir.write(&self.baseline.name, &baseline::encode(self.origin, keys));
        let was_failing = std::mem::replace(&mut self.baseline.is_failing, written.is_err());
        self.baseline.last = written.is_ok().then_some(keys);
        if let Err(e) = written
            && !was_failing
        {
            let why = format!("{}; after a restart the guard compares with an older update or with none", cause(&e));
            log(self.failed("write", &self.baseline.name, &why));
        }
    }

    /// Schedules the keys of a successful update. `since`: when the update succeeded, in seconds since 1970. `held`:
    /// the keys, if they are written even if the store changes first.
    pub(super) fn save_keys(&mut self, keys: Weak<Store>, held: Option<Rc<Store>>, since: i64) {
        if let Some(file) = &mut self.keys {
            file.keep(keys, held, since);
        }
    }

    /// Whether the keys of an update that begins now are held until the update has succeeded. They are written then;
    /// otherwise the keys of a store that changes with every update would never be saved.
    pub(super) fn holds_keys(&self, now: Instant) -> bool {
        self.keys.as_ref().is_some_and(|file| file.is_ready(now))
    }

    /// When the next piece of the keys is to be written.
    pub(super) fn due(&self) -> Option<Instant> {
        self.keys.as_ref().and_then(KeysFile::due)
    }

    /// Writes the next piece of the keys.
    pub(super) fn turn(&mut self, now: Instant, log: impl Fn(Line)) {
        let result = self.keys.as_mut().map_or(Ok(()), |file| file.turn(now));
        self.report(result, log);
    }

    /// Writes the remaining pieces, at the end of the program.
    pub(super) fn finish(&mut self, now: Instant, log: impl Fn(Line)) {
        let result = self.keys.as_mut().map_or(Ok(()), |file| file.finish(now));
        self.report(result, log);
    }

    fn report(&self, result: Result<(), String>, log: impl Fn(Line)) {
        if let Err(why) = result {
            log(self.failed("write", &self.keys_name, &format!("{why}; the last keys are not kept")));
        }
    }

    /// The keys of the last update that has succeeded. `unix`: the time, in seconds since 1970.
    ///
    /// # Errors
    /// No saved keys can be used. The line has the reason.
    pub(super) fn cached(&self, max_age: Option<Duration>, unix: i64) -> Result<Cached, Line> {
        let name = &self.keys_name;
        let file = match self.dir.read(name) {
            Ok(Some(file)) => file,
            Ok(None) => {
                let line = "no store can be reached, and no keys of an earlier run are kept";
                return Err(Line::new(Level::Warn, line));
            }
            Err(e) => return Err(self.failed("read", name, &cause(&e))),
        };
        let (layers, written) = decode(self.origin, self.layers, &file).map_err(|why| {
            let why = match why {
                Unusable::Damaged => DAMAGED,
                Unusable::Foreign => FOREIGN,
            };
            self.failed("use", name, why)
        })?;
        let age = age_of(written, unix, max_age).map_err(|why| self.failed("use", name, &why))?;
        Ok(Cached { layers, age, written })
    }

    /// Writes the pending reloads, if they differ from those of the file.
    pub(super) fn save_reloads(&mut self, reloads: PendingReloads, log: impl Fn(Line)) {
        let Some(file) = self.reloads.as_mut().filter(|file| file.last.as_ref() != Some(&reloads)) else { return };
        let written = match reloads.is_empty() {
            true => self.dir.remove(&file.name).map(|_| ()),
            // The file is not synced: a crash of the machine also ends the services that would be reloaded.
            false => self.dir.write(&file.name, &reloads.encode(&file.commands)),
        };
        let was_failing = std::mem::replace(&mut file.is_failing, written.is_err());
        match written {
            Ok(()) => file.last = Some(reloads),
            Err(e) if !was_failing => {
                let why = format!("{}; after a crash now, reloads may be lost or run twice", cause(&e));
                let name = file.name.clone();
                log(self.failed("write", &name, &why));
            }
            Err(_) => {}
        }
    }

    /// The files that an earlier run was renaming when it was killed.
    pub(super) fn load_journal(&mut self, log: impl Fn(Line)) -> Option<Journal> {
        let name = &self.journal.name;
        let found = self.dir.read(name);
        self.journal.is_there = !matches!(found, Ok(None));
        let why = match found {
            Ok(found) => match Journal::decode(&found?) {
                Some(journal) => return Some(journal),
                None => DAMAGED.to_owned(),
            },
            Err(e) => cause(&e),
        };
        log(self.failed("use", &self.journal.name, &format!("{why}; {UNFINISHED}")));
        None
    }

    /// Writes the journal of the files that are about to be renamed. `Ok(None)`: a later run cannot use a journal.
    pub(super) fn save_journal(&mut self, journal: io::Result<Option<Journal>>, log: impl Fn(Line)) {
        let name = &self.journal.name;
        let written = match journal {
            Ok(None) => return,
            // The file is not synced: after a power failure the journal and the files that it names may be empty.
            Ok(Some(journal)) => self.dir.write(name, &journal.encode()),
            Err(e) => Err(e),
        };
        let was_failing = std::mem::replace(&mut self.journal.is_failing, written.is_err());
        self.journal.is_there |= written.is_ok();
        if let Err(e) = written
            && !was_failing
        {
            log(self.failed("write", &self.journal.name, &format!("{}; after a crash now, {UNFINISHED}", cause(&e))));
        }
    }

    /// Removes the journal, if there is one.
    pub(super) fn end_journal(&mut self, log: impl Fn(Line)) {
        if std::mem::take(&mut self.journal.is_there)
            && let Err(e) = self.dir.remove(&self.journal.name)
        {
            log(self.failed("remove", &self.journal.name, &cause(&e)));
        }
    }

    fn failed(&self, what: &str, name: &str, why: &str) -> Line {
        let message = format!("failed to {what} `{}`", self.dir.shown(name).display());
        Line::new(Level::Warn, message).with("error", why)
    }
}

/// The age of keys as a text. Both times are in seconds since 1970.
///
/// # Errors
/// The keys are older than `max_age`, or may be. The text is the reason.
fn age_of(written: i64, now: i64, max_age: Option<Duration>) -> Result<String, String> {
    let ahead = Duration::from_secs(u64::try_from(written.saturating_sub(now)).unwrap_or(0));
    let age = Duration::from_secs(u64::try_from(now.saturating_sub(written)).unwrap_or(0));
    match max_age {
        Some(max) if age > max => {
            Err(format!("its keys are {} old, and `max_age` is {}", log::duration(age), log::duration(max)))
        }
        Some(max) if ahead > max => {
            let ahead = log::duration(ahead);
            Err(format!("it is {ahead} newer than the clock, so that its age is not known, and there is a `max_age`"))
        }
        Some(_) | None if ahead.is_zero() => Ok(log::duration(age)),
        Some(_) | None => Ok("unknown: the clock is behind".to_owned()),
    }
}

/// Removes the files of resources that are no longer configured. Other files stay. `resources`: the names of all
/// resources with files in this directory.
pub(super) fn remove_orphans<'a>(dir: &StateDir, resources: impl Iterator<Item = &'a str>, log: impl Fn(Line)) {
    let known: BTreeSet<String> = resources.map(base_name).collect();
    let names = dir.names().unwrap_or_else(|e| {
        let line = Line::new(Level::Warn, format!("failed to list `{}`", dir.shown("").display()));
        log(line.with("error", cause(&e)));
        Vec::new()
    });
    for name in names {
        let whole = name.strip_suffix(".new").unwrap_or(&name);
        let base =
            ["keys", "guard", "reloads", "journal"].iter().find_map(|kind| whole.strip_suffix(kind)?.strip_suffix('.'));
        let is_orphan = base.is_some_and(|base| !known.contains(base));
        // A file that is damaged or belongs to another program stays.
        if !is_orphan || !dir.beginning(&name, 16).is_ok_and(|file| file.is_some_and(|file| state::is_one(&file))) {
            continue;
        }
        let pending =
            dir.read(&name).ok().flatten().and_then(|file| PendingReloads::decode(&file, &Commands::default()));
        let line = match dir.remove(&name) {
            Ok(_) if whole.ends_with(".journal") => Line::new(
                Level::Warn,
                "the files of a resource that were replaced together are not finished: it is not configured any more",
            ),
            Ok(_) if pending.is_some_and(|(reloads, lost)| reloads.resource || !lost.is_empty()) => Line::new(
                Level::Warn,
                "the reloads that a resource owed are not made up: it is not configured any more",
            ),
            Ok(_) => Line::new(Level::Info, "removed what was kept of a resource that is not configured any more"),
            Err(e) => Line::new(Level::Warn, "failed to remove what was kept of a resource").with("error", cause(&e)),
        };
        log(line.with("file", dir.shown(&name).display().to_string()));
    }
}

/// The reload commands of the templates of a resource.
fn commands_of(resource: &config::Resource) -> Commands {
    // The placeholder path, which no file has, represents all paths.
    let text = |command: &config::Command| command.text(Path::new("\0")).into_encoded_bytes();
    let templates = resource.templates.iter();
    Commands::new(templates.map(|t| (t.dst.display().to_string(), t.reload_cmd.as_ref().map(text))))
}

/// The name of a resource in the names of its files.
fn base_name(resource: &str) -> String {
    let mut name = String::new();
    percent::push_segment(resource.as_bytes(), &mut name);
    name
}

/// The consequence of a lost journal.
const UNFINISHED: &str = "some files that belong together may be old until the next update";
const FOREIGN: &str = "it belongs to other backends, nodes, prefixes or keys";
const DAMAGED: &str = "it is damaged, or of another version of remco";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_that_is_behind_by_less_than_the_age_that_is_allowed_does_not_matter() {
        let hour = Some(Duration::from_secs(3600));
        let day = 24 * 3600;
        for (written, max_age, expected) in [
            (0, None, Ok("86400.0s")),
            (day - 3600, hour, Ok("3600.0s")),
            (day - 3601, hour, Err("its keys are 3601.0s old, and `max_age` is 3600.0s")),
            (day + 1, None, Ok("unknown: the clock is behind")),
            (day + 3600, hour, Ok("unknown: the clock is behind")),
            (
                day + 3601,
                hour,
                Err("it is 3601.0s newer than the clock, so that its age is not known, and there is a `max_age`"),
            ),
            (i64::MAX, None, Ok("unknown: the clock is behind")),
        ] {
            let age = age_of(written, day, max_age);
            assert_eq!(age.as_deref().map_err(String::as_str), expected, "{written}");
        }
        assert!(age_of(i64::MIN, i64::MAX, None).is_ok() && age_of(i64::MAX, i64::MIN, hour).is_err());
    }
}
