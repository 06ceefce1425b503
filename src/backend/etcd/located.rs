//! An etcd whose nodes stand in an SRV record: looks it up, and once more when every node has failed. If it names other
//! nodes then, the backend is made anew with them and reads all keys. Knows nothing of what is asked of a node.

use std::os::fd::BorrowedFd;
use std::rc::Rc;
use std::time::Instant;

use super::rota::{NOBODY, News, Next, Patience, Rota, Start};
use super::{NAME, Recipe, nodes};
use crate::backend::{Backend, Mode, Report};
use crate::host::dns::Resolver;
use crate::log::{Level, Line};

/// The backend before and after its nodes are known.
pub struct Located {
    recipe: Rc<Recipe>,
    resolver: Resolver,
    stage: Stage,
    /// A failure was reported, and no recovery since.
    failing: bool,
}

enum Stage {
    /// The record is looked up at the moment, or at the first turn where there is none. The record is the only node.
    Looking {
        rota: Rota,
        at: Option<Instant>,
    },
    Found {
        backend: Box<dyn Backend>,
        /// Sorted.
        nodes: Vec<String>,
        /// How often the backend reported a failure since something worked.
        failures: usize,
        /// The backend is new, and whoever was told of failures has not heard of it.
        unheard: bool,
    },
    GivenUp,
}

impl Located {
    pub fn new(recipe: Rc<Recipe>) -> Located {
        let patience = match recipe.mode {
            Mode::OneShot => Patience::For(recipe.etcd.timeout),
            Mode::Watch => Patience::Endless,
        };
        let rota = Rota::new(vec![recipe.etcd.srv_record.clone()], Start::First, patience, &mut |_| 0);
        Located {
            resolver: Resolver::new(Some(recipe.wake.clone())),
            stage: Stage::Looking { rota, at: None },
            failing: false,
            recipe,
        }
    }

    /// URLs in the order to ask them, at least one; and the same sorted.
    fn look_up(&self) -> Result<(Vec<String>, Vec<String>), String> {
        let etcd = &self.recipe.etcd;
        let services = self.resolver.services(&etcd.srv_record).map_err(|error| error.to_string())?;
        let found = nodes::in_order(services, etcd.scheme_of_record(), &mut |bound| (self.recipe.random)(bound));
        if found.is_empty() {
            return Err(format!("failed to look up `{}`: its records name no node", etcd.srv_record));
        }
        let mut sorted = found.clone();
        sorted.sort_unstable();
        Ok((found, sorted))
    }

    /// Makes the backend.
    fn begin(&mut self, ordered: Vec<String>, nodes: Vec<String>, unheard: bool) {
        let backend = self.recipe.backend(ordered, Start::First);
        self.stage = Stage::Found { backend, nodes, failures: 0, unheard };
    }

    /// Looks the record up for the first time. Tells whether there is a backend now.
    fn look(&mut self, now: Instant, out: &mut Vec<Report>) -> bool {
        let Stage::Looking { at, .. } = &self.stage else { return true };
        if at.is_some_and(|at| now < at) {
            return false;
        }
        let found = self.look_up();
        // The answer took its time.
        let now = Instant::now();
        let Stage::Looking { rota, at } = &mut self.stage else { return true };
        let words = match found {
            Ok((ordered, nodes)) => {
                if std::mem::take(&mut self.failing) {
                    out.push(Report::Recovered);
                }
                self.begin(ordered, nodes, false);
                return true;
            }
            Err(_) if self.recipe.wake.woken() => return false,
            Err(words) => words,
        };
        match rota.failed(words, now, &mut |bound| (self.recipe.random)(bound)) {
            Next::Now => *at = Some(now),
            Next::Rest { until, news } => {
                *at = Some(until);
                match news {
                    News::Failure => {
                        self.failing = true;
                        out.push(Report::Failed(rota.failures()));
                    }
                    News::FirstRound => {
                        let line = Line::new(Level::Warn, NOBODY).with("backend", NAME);
                        out.push(Report::Log(line.with("error", rota.failures())));
                    }
                    News::None => {}
                }
            }
            Next::GiveUp => {
                out.push(Report::Failed(rota.failures()));
                self.stage = Stage::GivenUp;
            }
        }
        false
    }

    /// Every node has failed: they may be others by now. Where the record cannot be had, the old ones are tried on.
    /// Tells whether there is another backend.
    fn look_again(&mut self, out: &mut Vec<Report>) -> bool {
        let found = self.look_up();
        let Stage::Found { backend, nodes, failures, .. } = &mut self.stage else { return false };
        *failures = 0;
        match found {
            Ok((ordered, sorted)) if sorted != *nodes => {
                backend.close(out);
                self.begin(ordered, sorted, self.failing);
                return true;
            }
            Ok(_) => {}
            Err(words) => {
                let line = Line::new(Level::Debug, "keeping the nodes as they were").with("backend", NAME);
                out.push(Report::Log(line.with("error", words)));
            }
        }
        false
    }

    /// Gives the backend its turn. Tells whether every node has failed since the record was looked up.
    fn forward(&mut self, now: Instant, out: &mut Vec<Report>) -> bool {
        let Stage::Found { backend, nodes, failures, unheard } = &mut self.stage else { return false };
        let mut reports = Vec::new();
        backend.turn(now, &mut reports);
        for report in reports {
            match &report {
                Report::Failed(_) => {
                    *failures += 1;
                    (self.failing, *unheard) = (true, false);
                }
                Report::Recovered => (*failures, self.failing, *unheard) = (0, false, false),
                Report::Snapshot(_) | Report::Changes { .. } => {
                    *failures = 0;
                    if std::mem::take(unheard) {
                        self.failing = false;
                        out.push(Report::Recovered);
                    }
                }
                Report::Log(_) => {}
            }
            out.push(report);
        }
        self.recipe.mode == Mode::Watch && *failures >= nodes.len()
    }
}

impl Backend for Located {
    fn name(&self) -> &'static str {
        NAME
    }

    fn fds<'a>(&'a self, out: &mut Vec<BorrowedFd<'a>>) {
        if let Stage::Found { backend, .. } = &self.stage {
            backend.fds(out);
        }
    }

    fn due(&self) -> Option<Instant> {
        match &self.stage {
            Stage::Looking { at, .. } => *at,
            Stage::Found { backend, .. } => backend.due(),
            Stage::GivenUp => None,
        }
    }

    fn turn(&mut self, now: Instant, out: &mut Vec<Report>) {
        if self.look(now, out) && self.forward(Instant::now(), out) && self.look_again(out) {
            // A backend begins with its first turn; should all its nodes fail in that, they are looked up after the next.
            self.forward(Instant::now(), out);
        }
    }

    fn close(&mut self, out: &mut Vec<Report>) {
        if let Stage::Found { backend, .. } = &mut self.stage {
            backend.close(out);
        }
    }
}
