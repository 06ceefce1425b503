//! What a resource takes over from an earlier run, and what it leaves to the next one: when keys, owed reloads
//! and the journal of renames are read, used and written. The files are `kept`'s, and the updates `unit`'s.

use std::io;
use std::os::unix::ffi::OsStrExt;
use std::rc::{Rc, Weak};
use std::time::Instant;

use super::super::kept::{Cached, Kept};
use super::super::past::{self, Past};
use super::{Keys, Unit};
use crate::backend::Pool;
use crate::config::Mode;
use crate::host::files::{Left, Unfinished};
use crate::host::state_dir::StateDir;
use crate::log::{Level, Line};
use crate::state::journal::{Entry, Journal};
use crate::store::Store;

/// The keys that the update under way was rendered from.
pub(super) struct Rendered {
    /// Gone, if they have changed since. Held, they would be copied with the next change: 100,000 keys take some 10 ms.
    keys: Weak<Store>,
    /// Keys that are written as soon as the update has succeeded stay.
    held: Option<Rc<Store>>,
    is_from_cache: bool,
}

impl Rendered {
    pub(super) fn new(keys: Keys, kept: &Kept, now: Instant) -> Rendered {
        let Keys { store, is_from_cache } = keys;
        let weak = Rc::downgrade(&store);
        Rendered { keys: weak, held: kept.holds_keys(now).then_some(store), is_from_cache }
    }
}

impl Unit {
    pub(super) fn begin_kept(&mut self, dir: &Rc<StateDir>, mode: Mode, now: Instant) {
        let cache = self.config.cache;
        let secret = self.config.backends.iter().find(|backend| backend.secret);
        let is_allowed = cache.secrets || secret.is_none();
        if let (Some(secret), false) = (secret, is_allowed) {
            let level = if cache.use_after.is_some() { Level::Warn } else { Level::Info };
            let line = Line::new(level, "its keys are not kept: set `secrets` of `[resource.cache]` to keep secrets");
            self.log(line.with("backend", secret.kind.name()));
        }
        let mut kept = Kept::new(Rc::clone(dir), &self.config, is_allowed, self.purpose.acts(), now);
        let debts = kept.begin(|line| self.log(line));
        self.state.owe(&debts);
        let count = kept.begin_past(past::compares(self.config.guard.as_ref()), |line| self.log(line));
        // A unit that this one replaces knows the keys themselves.
        self.past = self.past.take().or(count.map(Past::Count));
        if !self.state.debts().is_empty() {
            self.log(Line::new(Level::Info, "reloads of an earlier run are made up"));
        }
        if self.purpose.writes() {
            let journal = kept.begin_journal(|line| self.log(line));
            journal.into_iter().for_each(|journal| self.finish(&journal));
            kept.end_journal(|line| self.log(line));
        }
        // A one-shot run says that the store is away instead.
        self.cache_at = cache.use_after.filter(|_| is_allowed && mode == Mode::Watch).map(|after| now + after);
        self.kept = Some(kept);
    }

    /// Finishes the renames that a crash has cut off: all that are left, or none if one of them cannot be made.
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

    /// Notes the files that are about to be renamed, if all of them are renamed: where one of them is written to, finishing
    /// the others would leave files that do not belong together.
    pub(super) fn keep_journal(&mut self, files: &[usize]) {
        // Files that are finished have their reloads.
        self.keep_debts(files.first().copied());
        let Some(mut kept) = self.kept.take() else { return };
        let journal = self.journal_of(files);
        kept.journal(journal, |line| self.log(line));
        self.kept = Some(kept);
    }

    /// `None`: one of them is not renamed.
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

    /// Nothing is left to finish.
    pub(super) fn end_journal(&mut self) {
        if let Some(mut kept) = self.kept.take() {
            kept.end_journal(|line| self.log(line));
            self.kept = Some(kept);
        }
    }

    /// Takes over the old files that an earlier run has left because their reload had not succeeded. A run that makes no
    /// reloads leaves them.
    pub(super) fn find_old_files(&mut self) {
        if !self.purpose.acts() {
            return;
        }
        for t in 0..self.outputs.len() {
            let dst = self.config.templates[t].dst.display().to_string();
            match self.outputs[t].destination.find_kept() {
                Ok(None) => {}
                Ok(Some(aside)) if self.state.found_kept(t) => {
                    self.outputs[t].aside = Some(aside);
                    let line =
                        Line::new(Level::Info, "a file whose reload had not succeeded is in place, reloading it");
                    self.log(line.with("config", dst));
                }
                Ok(Some(aside)) => aside.forget(),
                Err(why) => self.log(Line::new(Level::Warn, why).with("config", dst)),
            }
        }
    }

    /// Renders from the keys of an earlier run what waits for a store that was never reached.
    pub(in super::super) fn use_cache(&mut self, pool: &Pool) {
        self.cache_at = None;
        let missing: Vec<usize> = (0..self.config.backends.len()).filter(|b| !self.is_counted[*b]).collect();
        let (Some(kept), Some(ids), false) = (&self.kept, &self.backends, missing.is_empty()) else { return };
        if let Some(b) = missing.iter().find(|b| pool.has_answered(ids[**b])) {
            let line = Line::new(Level::Info, "waiting for the keys of a store that was reached");
            return self.log(line.with("backend", self.name(*b)));
        }
        let Cached { mut layers, age, written } = match kept.cached(self.config.cache.max_age, self.world.now().0) {
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

    /// Whether the files may be rendered from keys of an earlier run.
    pub(in super::super) fn is_from_cache(&self) -> bool {
        self.is_cached.contains(&true)
    }

    /// Keeps the keys of an update that has just succeeded. The next update may begin in the same turn.
    pub(super) fn keep_keys(&mut self) {
        let has_succeeded = self.state.take_success();
        let is_over = has_succeeded || self.state.is_idle();
        let Some(rendered) = self.rendered.take_if(|_| is_over) else { return };
        // Keys of an earlier run are no newer for having been rendered, whatever a store has told meanwhile.
        if has_succeeded
            && !rendered.is_from_cache
            && let Some(kept) = &mut self.kept
        {
            kept.keep(rendered.keys, rendered.held, self.world.now().0);
        }
    }

    /// Writes a piece of the keys that are kept.
    pub(in super::super) fn write_keys(&mut self, now: Instant) {
        if let Some(mut kept) = self.kept.take() {
            kept.turn(now, |line| self.log(line));
            self.kept = Some(kept);
        }
    }

    /// What is to be written yet when the program ends.
    pub(in super::super) fn take_kept(&mut self) -> Option<(String, Kept)> {
        Some((self.config.name.clone(), self.kept.take()?))
    }

    /// Writes how many keys the guard has accepted.
    pub(super) fn keep_past(&mut self) {
        let Some(keys) = self.past.as_ref().map(Past::count) else { return };
        if let Some(mut kept) = self.kept.take() {
            kept.accept(keys, |line| self.log(line));
            self.kept = Some(kept);
        }
    }

    /// Writes the reloads that are owed, or will be once a template is installed.
    pub(super) fn keep_debts(&mut self, installing: Option<usize>) {
        if let Some(mut kept) = self.kept.take() {
            let debts = installing.map_or_else(|| self.state.debts(), |t| self.state.debts_with(t));
            kept.owe(debts, |line| self.log(line));
            self.kept = Some(kept);
        }
    }
}
