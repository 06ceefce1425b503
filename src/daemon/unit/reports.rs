//! What the backends report to a resource: their keys go into its store, and what is strange about them is logged, once
//! until that changes. What follows is decided in `resource`.

use super::Unit;
use crate::backend::{Change, Report};
use crate::log::{Level, Line};
use crate::resource::Event;

impl Unit {
    /// Takes a report in. Returns whether it calls for an update.
    pub(in super::super) fn take(&mut self, backend: usize, report: Report) -> bool {
        match report {
            Report::Snapshot(layer) => {
                // An interval is there to mend what no change tells of.
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
            // A request that was ended because the program ends has not failed.
            Report::Failed(_) if self.world.stopped() => {}
            Report::Failed(error) => self.handle(Event::Unreachable { backend, error }),
            Report::Recovered => self.handle(Event::Reached { backend }),
            Report::Log(line) => self.log(line),
        }
        false
    }

    /// A backend reported something that calls for an update.
    pub(in super::super) fn loaded(&mut self, backend: usize) {
        if !self.is_counted.contains(&false) {
            self.cache_at = None;
        }
        self.warn_of_collisions();
        self.handle(Event::Loaded { backend });
    }

    /// Logs how many keys a read has brought: the first time at level info.
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
