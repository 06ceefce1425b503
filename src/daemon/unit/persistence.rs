//! What a resource takes over from an earlier run, and leaves to the next one: decides when keys, pending reloads and
//! the journal of renames are read, used and written. `state_files` reads and writes the files.

use std::io;
use std::os::unix::ffi::OsStrExt;
use std::rc::{Rc, Weak};
use std::time::Instant;

use super::super::baseline::{self, Baseline};
use super::super::state_files::{Cached, StateFiles};
use super::{Keys, Unit};
use crate::backend::Pool;
use crate::config::Mode;
use crate::host::files::{Left, Unfinished};
use crate::host::state_dir::StateDir;
use crate::log::{Level, Line};
use crate::state::journal::{Entry, Journal};
use crate::store::Store;

/// The keys of the present update.
pub(super) struct Rendered {
    /// Dropped if the keys have changed since. A strong reference would copy them with the next change: 100,000 keys
    /// take some 10 ms.
    keys: Weak<Store>,
    /// A strong reference to keys that are written as soon as the update has succeeded.
    held: Option<Rc<Store>>,
    is_from_cache: bool,
}

impl Rendered {
    pub(super) fn new(keys: Keys, files: &StateFiles, now: Instant) -> Rendered {
        let Keys { store, is_from_cache } = keys;
        let weak = Rc::downgrade(&store);
        Rendered { keys: weak, held: files.holds_keys(now).then_some(store), is_from_cache }
    }
}

impl Unit {
    pub(super) fn open_state_files(&mut self, dir: &Rc<StateDir>, mode: Mode, now: Instant) {
        let cache = self.config.cache;
        let secret = self.config.backends.iter().find(|backend| backend.secret);
        let is_allowed = cache.secrets || secret.is_none();
        if let (Some(secret), false) = (secret, is_allowed) {
            let level = if cache.use_after.is_some() { Level::Warn } else { Level::Info };
            let line = Line::new(level, "its keys are not kept: set `secrets` of `[resource.cache]` to keep secrets");
            self.log(line.with("backend", secret.kind.name()));
        }
        let mut files = StateFiles::new(Rc::clone(dir), &self.config, is_allowed, self.purpose.acts(), now);
        let reloads = files.load_reloads(|line| self.log(line));
        self.state.resume_reloads(&reloads);
        let count = files.load_baseline(baseline::compares(self.config.guard.as_ref()), |line| self.log(line));
        // The baseline of a replaced unit has the keys themselves.
        self.baseline = self.baseline.take().or(count.map(Baseline::Count));
        if !self.state.pending_reloads().is_empty() {
            self.log(Line::new(Level::Info, "reloads of an earlier run are made up"));
        }
        if self.purpose.writes() {
            let journal = files.load_journal(|line| self.log(line));
            journal.into_iter().for_each(|journal| self.finish(&journal));
            files.end_journal(|line| self.log(line));
        }
        // A one-shot run fails instead if a store is unreachable.
        self.cache_at = cache.use_after.filter(|_| is_allowed && mode == Mode::Watch).map(|after| now + after);
        self.state_files = Some(files);
    }

    /// Finishes the renames that a crash has interrupted: all remaining ones, or none if one of them is impossible.
    fn finish(&mut self, journal: &Journal) {
        let (mut left, mut is_whole) = (Vec::new(), true);
        for Entry { dst, staged } in &journal.files {
            let is_its = |t: &usize| self.config.templates[*t].dst.as_os_str().as_bytes() == dst;
            let found = match (0..self.outputs.len()).find(is_its) {
                Some(t) => self.outputs[t].destination.find_unfinished(staged).map(|found| (t, found)),
                None => Err("no template has this `dst`".to_owned()),
            };
            match found {
                Ok((_, Unfinished::InPlace)) => {}
                Ok((t, Unfinished::Staged(file))) => left.push((t, file)),
                Err(why) => {
                    is_whole = false;
                    let line = Line::new(
                        Level::Warn,
                        "a file that was replaced together with others cannot be finished, all stay as they are",
                    );
                    self.log(line.with("config", String::from_utf8_lossy(dst)).with("error", why));
                }
            }
        }
        if is_whole && !left.is_empty() {
            self.rename_left(left);
        }
    }

    fn rename_left(&mut self, left: Vec<(usize, Left)>) {
        let count = left.len();
        for (t, file) in left {
            let dst = self.config.templates[t].dst.display().to_string();
            match self.outputs[t].destination.finish(file) {
                Ok(warning) => {
                    self.has_replaced = true;
                    let line = |warning| Line::new(Level::Warn, warning).with("config", dst);
                    warning.map(line).into_iter().for_each(|line| self.log(line));
                }
                Err(why) => {
                    let line =
                        "a file that was replaced together with others is still old, the next update replaces it";
                    return self.log(Line::new(Level::Warn, line).with("config", dst).with("error", why));
                }
            }
        }
        let line = Line::new(Level::Info, "files that a killed run was replacing together are in place");
        self.log(line.with("finished", count.to_string()));
    }

    /// Writes the journal of the files that are about to be renamed, if all of them are renamed. If one of them is
    /// written in place, finishing the others after a crash would leave files of two updates.
    pub(super) fn save_journal(&mut self, files: &[usize]) {
        // The reloads of the files are saved first, so that finished files get their reloads.
        self.save_reloads(files.first().copied());
        let Some(mut state_files) = self.state_files.take() else { return };
        let journal = self.journal_of(files);
        state_files.save_journal(journal, |line| self.log(line));
        self.state_files = Some(state_files);
    }

    /// `None`: one of the files is written in place.
    fn journal_of(&self, files: &[usize]) -> io::Result<Option<Journal>> {
        let mut entries = Vec::new();
        for t in files {
            let output = &self.outputs[*t];
            let Some(stage) = &output.stage else { return Ok(None) };
            let Some(staged) = output.destination.note(stage)? else { return Ok(None) };
            let dst = self.config.templates[*t].dst.as_os_str().as_bytes().to_vec();
            entries.push(Entry { dst, staged });
        }
        Ok(Some(Journal { files: entries }))
    }

    /// Removes the journal: all files are in place.
    pub(super) fn end_journal(&mut self) {
        if let Some(mut files) = self.state_files.take() {
            files.end_journal(|line| self.log(line));
            self.state_files = Some(files);
        }
    }

    /// Takes over the old files of an earlier run whose reload had not succeeded. A run without reloads does not touch
    /// them.
    pub(super) fn find_old_files(&mut self) {
        if !self.purpose.acts() {
            return;
        }
        for t in 0..self.outputs.len() {
            let dst = self.config.templates[t].dst.display().to_string();
            match self.outputs[t].destination.find_kept() {
                Ok(None) => {}
                Ok(Some(kept)) if self.state.found_kept(t) => {
                    self.outputs[t].kept_file = Some(kept);
                    let line =
                        Line::new(Level::Info, "a file whose reload had not succeeded is in place, reloading it");
                    self.log(line.with("config", dst));
                }
                Ok(Some(kept)) => kept.forget(),
                Err(why) => self.log(Line::new(Level::Warn, why).with("config", dst)),
            }
        }
    }

    /// Uses the keys of an earlier run in place of those of stores that were never reached.
    pub(in super::super) fn use_cache(&mut self, pool: &Pool) {
        self.cache_at = None;
        let missing: Vec<usize> = (0..self.config.backends.len()).filter(|b| !self.is_counted[*b]).collect();
        let (Some(files), Some(ids), false) = (&self.state_files, &self.backends, missing.is_empty()) else { return };
        if let Some(b) = missing.iter().find(|b| pool.has_answered(ids[**b])) {
            let line = Line::new(Level::Info, "waiting for the keys of a store that was reached");
            return self.log(line.with("backend", self.name(*b)));
        }
        let Cached { mut layers, age, written } = match files.cached(self.config.cache.max_age, self.world.now().0) {
            Ok(cached) => cached,
            Err(line) => return self.log(line),
        };
        let names: Vec<&str> = missing.iter().map(|b| self.name(*b)).collect();
        let line = Line::new(Level::Warn, "the store cannot be reached, rendering from the keys of an earlier run");
        self.log(line.with("backend", names.join(", ")).with("age", age));
        self.keys_of = Some(written);
        for b in &missing {
            self.store_mut().replace(*b, std::mem::take(&mut layers[*b]));
            self.is_cached[*b] = true;
        }
        missing.into_iter().for_each(|b| self.loaded(b));
    }

    /// Whether the keys of a backend are from an earlier run.
    pub(in super::super) fn is_from_cache(&self) -> bool {
        self.is_cached.contains(&true)
    }

    /// Saves the keys of an update that has just succeeded. The next update may begin in this turn.
    pub(super) fn save_keys(&mut self) {
        let has_succeeded = self.state.take_success();
        let is_over = has_succeeded || self.state.is_idle();
        let Some(rendered) = self.rendered.take_if(|_| is_over) else { return };
        // Keys of an earlier run do not become newer by a render, even if some stores have reported changes since.
        if has_succeeded
            && !rendered.is_from_cache
            && let Some(files) = &mut self.state_files
        {
            files.save_keys(rendered.keys, rendered.held, self.world.now().0);
        }
    }

    /// Writes the next piece of the saved keys.
    pub(in super::super) fn write_keys(&mut self, now: Instant) {
        if let Some(mut files) = self.state_files.take() {
            files.turn(now, |line| self.log(line));
            self.state_files = Some(files);
        }
    }

    /// The files with unwritten pieces, at the end of the program.
    pub(in super::super) fn take_state_files(&mut self) -> Option<(String, StateFiles)> {
        Some((self.config.name.clone(), self.state_files.take()?))
    }

    /// Writes the number of keys that the guard has accepted.
    pub(super) fn save_baseline(&mut self) {
        let Some(keys) = self.baseline.as_ref().map(Baseline::count) else { return };
        if let Some(mut files) = self.state_files.take() {
            files.save_baseline(keys, |line| self.log(line));
            self.state_files = Some(files);
        }
    }

    /// Writes the pending reloads. `installing`: with those that are pending once this template is installed.
    pub(super) fn save_reloads(&mut self, installing: Option<usize>) {
        if let Some(mut files) = self.state_files.take() {
            let reloads =
                installing.map_or_else(|| self.state.pending_reloads(), |t| self.state.pending_reloads_with(t));
            files.save_reloads(reloads, |line| self.log(line));
            self.state_files = Some(files);
        }
    }
}
