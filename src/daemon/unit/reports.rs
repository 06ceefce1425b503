//! Takes the reports of the backends of a resource: puts their keys into its store, and logs missing keys and
//! collisions once. `resource` decides what follows.

use super::Unit;
use crate::backend::{Change, Report};
use crate::log::{Level, Line};
use crate::resource::Event;

impl Unit {
    /// Handles a report. Returns whether an update has to follow.
    pub(in super::super) fn take(&mut self, backend: usize, report: Report) -> bool {
        match report {
            Report::Snapshot(layer) => {
                // A read by `interval` also repairs files that were changed without a change of a key.
                if self.config.backends[backend].interval.is_some() {
                    self.store_mut().change_everything();
                }
                self.store_mut().replace(backend, layer);
                if std::mem::take(&mut self.is_cached[backend]) {
                    let line = Line::new(Level::Info, "the keys of the store replace those of an earlier run");
                    self.log(line.with("backend", self.name(backend)));
                }
                self.log_count(backend);
                self.warn_missing(backend);
                return true;
            }
            Report::Changes { changes, trigger } => {
                let store = self.store_mut();
                for change in changes {
                    match change {
                        Change::Put(key, value) => store.put(backend, key, value),
                        Change::Delete(key) => store.delete(backend, &key),
                    };
                }
                self.warn_missing(backend);
                return trigger;
            }
            // A request that was interrupted by the end of the program has not failed.
            Report::Failed(_) if self.world.stopped() => {}
            Report::Failed(error) => self.handle(Event::Unreachable { backend, error }),
            Report::Recovered => self.handle(Event::Reached { backend }),
            Report::Log(line) => self.log(line),
        }
        false
    }

    /// A backend reported keys that require an update.
    pub(in super::super) fn loaded(&mut self, backend: usize) {
        if !self.is_counted.contains(&false) {
            self.cache_at = None;
        }
        self.warn_of_collisions();
        self.handle(Event::Loaded { backend });
    }

    /// Logs the number of keys of a read, the first time at level info.
    fn log_count(&mut self, backend: usize) {
        let level = match std::mem::replace(&mut self.is_counted[backend], true) {
            false => Level::Info,
            true => Level::Debug,
        };
        let line = Line::new(level, "keys have been read").with("backend", self.name(backend));
        self.log(line.with("keys", self.store.count(backend).to_string()));
    }

    /// Warns of every configured key that has no key below it, once until that changes.
    fn warn_missing(&mut self, backend: usize) {
        let store = &self.store;
        let missing = self.missing[backend].look(|prefix| store.has_prefix(backend, prefix));
        for key in missing {
            let line = Line::new(Level::Warn, format!("no key below `{}`", if key.is_empty() { "/" } else { &key }));
            self.log(line.with("backend", self.name(backend)));
        }
    }

    /// Warns of every key that several backends have, once until that changes.
    fn warn_of_collisions(&mut self) {
        for key in self.store_mut().take_new_collisions() {
            self.log(Line::new(Level::Warn, "key collision").with("key", String::from_utf8_lossy(&key)));
        }
    }
}
