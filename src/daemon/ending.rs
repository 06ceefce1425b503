//! How a run ends: when its work is done, by a signal, by its time limit, or before its start. Does not wait for the
//! remaining processes; the loop does.

use std::time::{Duration, Instant};

use super::readiness::Resources;
use super::state_files::StateFiles;
use super::unit::Unit;
use super::{Daemon, Reload};
use crate::config::Mode;
use crate::log::{self, Level, Line};
use crate::resource::Verdict;

/// How the run ended.
#[derive(Debug, PartialEq, Eq)]
pub enum Ending {
    /// All work is done.
    Done {
        /// How many resources failed.
        failed: usize,
        /// The exit status of the child, as a shell reports it, if there is one resource and its only failure is that
        /// its child ended by itself.
        child: Option<u8>,
        /// Whether a file was replaced.
        replaced: bool,
    },
    /// Another process holds the lock, and the run does not wait for the lock. Nothing was started.
    Locked,
    /// The lock cannot be taken, or the state_dir cannot be used. Nothing was started.
    Unusable,
    /// A signal ended a run that has no other end.
    Stopped,
    /// A signal ended a one-shot run before all of its work was done.
    CutShort {
        /// The number of the signal.
        signal: u8,
    },
    /// The run is not over: the caller reads the configuration again and continues it.
    Reload,
}

impl Daemon {
    /// Handles SIGTERM and SIGINT. The first one ends the run, the second one kills the processes that are still
    /// terminating.
    pub(super) fn stop(&mut self, name: &str, signal: u8) {
        if self.ending.is_some() {
            let now = Instant::now();
            return self.terminating.iter_mut().for_each(|terminating| terminating.termination.kill(now));
        }
        self.logger.log(&Line::new(Level::Info, format!("Captured {name}. Exiting...")));
        self.end(match self.mode {
            Mode::Watch => Ending::Stopped,
            Mode::OneShot if self.is_in_place() => {
                Ending::Done { failed: 0, child: None, replaced: self.has_replaced() }
            }
            Mode::OneShot => Ending::CutShort { signal },
        });
    }

    /// Whether a one-shot run only has to end its children.
    fn is_in_place(&self) -> bool {
        self.units.iter().all(|unit| match unit.state.verdict() {
            Some(verdict) => verdict == Verdict::Succeeded,
            None => unit.state.has_started() && unit.state.is_idle() && !unit.state.is_failing(),
        })
    }

    /// Ends a run whose time limit has passed: every resource without a verdict has failed.
    pub(super) fn run_out_of_time(&mut self) {
        let limit = self.time_limit.map_or(Duration::ZERO, |(_, limit)| limit);
        for unit in self.units.iter().filter(|unit| unit.state.verdict().is_none()) {
            let what = match self.gate.waits_for() {
                Some(what) => what.to_owned(),
                None => unit.waits_for(),
            };
            let message = format!("failed to finish within the {} of `--timeout`", log::duration(limit));
            let line = Line::new(Level::Error, message).with("error", format!("still waiting for {what}"));
            self.logger.log(&line.with("resource", unit.config.name.clone()));
        }
        let failed = self.units.iter().filter(|unit| unit.state.verdict() != Some(Verdict::Succeeded)).count();
        let replaced = self.has_replaced();
        self.end(Ending::Done { failed, child: None, replaced });
    }

    /// Ends a run that cannot start. The reason is printed at every log level.
    pub(super) fn refuse(&mut self, error: &str) {
        self.logger.print(&format!("remco: {error}; nothing was started\n"));
        self.end(Ending::Unusable);
    }

    /// How the run ended; `None`: work is left. A one-shot run is done when every resource has a verdict, any other run
    /// when every resource is settled and no backend can report anything new.
    pub(super) fn finished(&self) -> Option<Ending> {
        // The errors of templates are logged even if no store can be reached.
        if self.units.iter().any(|unit| unit.is_uncompiled) {
            return None;
        }
        match self.mode {
            Mode::OneShot => {
                let verdicts: Option<Vec<Verdict>> = self.units.iter().map(|unit| unit.state.verdict()).collect();
                let verdicts = verdicts?;
                let failed = verdicts.iter().filter(|verdict| **verdict != Verdict::Succeeded).count();
                let child = match verdicts[..] {
                    [Verdict::ChildEnded { status }] => Some(status),
                    _ => None,
                };
                Some(Ending::Done { failed, child, replaced: self.has_replaced() })
            }
            Mode::Watch => self.units.iter().all(|unit| unit.is_over(&self.pool)).then(|| Ending::Done {
                failed: 0,
                child: None,
                replaced: self.has_replaced(),
            }),
        }
    }

    /// Whether a file was replaced in this run.
    fn has_replaced(&self) -> bool {
        self.has_replaced || self.units.iter().any(|unit| unit.has_replaced)
    }

    /// Ends all units, which removes their staged files. Installed files are complete.
    pub(super) fn end(&mut self, ending: Ending) {
        self.reload = Reload::default();
        self.notify.stopping();
        if let Some(telemetry) = &mut self.telemetry {
            telemetry.finish(&Resources { units: &self.units, pool: &self.pool }, Instant::now());
        }
        if !self.purpose.writes() {
            self.findings = self.units.iter_mut().map(Unit::findings).collect();
        }
        let pool = &mut self.pool;
        let files: Vec<(String, StateFiles)> = self.units.iter_mut().filter_map(Unit::take_state_files).collect();
        self.units.iter_mut().for_each(Unit::abandon_keys);
        self.terminating.extend(self.units.drain(..).flat_map(|unit| unit.shut_down(pool)));
        // The children end in the meantime.
        for (resource, mut files) in files {
            files.finish(Instant::now(), |line| self.logger.log(&line.with("resource", resource.clone())));
        }
        self.ending = Some(ending);
    }
}
