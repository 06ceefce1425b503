//! The names that the templates of one update look up: answers, open questions, and lookups in progress. A render
//! that needs an unknown name continues without it; its result is dropped, and the render is repeated when all names
//! are known. Renders nothing.

use std::collections::{HashMap, HashSet, VecDeque};
use std::time::{Duration, Instant};

use super::dns::{Found, Lookup, Query, Resolver};
use super::wait::Interest;

/// The number of lookups in progress at a time. Each has at least one socket.
const AT_ONCE: usize = 16;

/// The number of renders of one update. A template that looks up new names in every render would never end.
const MOST_ROUNDS: usize = 32;

/// The number of names of one update: a template may compute names from all its keys.
const MOST_NAMES: usize = 4096;

/// After this time an update begins no more lookups. With silent servers each lookup takes seconds.
const MOST_TIME: Duration = Duration::from_secs(60);

/// The names of one update.
#[derive(Debug, Default)]
pub struct Lookups {
    /// Answers, and errors.
    known: HashMap<Query, Result<Found, String>>,
    wanted: VecDeque<Query>,
    /// All names that were ever looked up.
    asked: HashSet<Query>,
    /// When the first round ended.
    began: Option<Instant>,
    under_way: Vec<(Query, Lookup)>,
    rounds: usize,
    /// When the last turn or render was.
    turned: Option<Instant>,
}

impl Lookups {
    /// The answer for a name; `None`: its lookup begins, and the render has to be repeated.
    pub fn find(&mut self, query: &Query) -> Option<Result<Found, String>> {
        if let Some(known) = self.known.get(query) {
            return Some(known.clone());
        }
        if self.rounds == MOST_ROUNDS {
            return Some(Err(format!("new names to look up came in each of {MOST_ROUNDS} renders")));
        }
        if !self.asked.contains(query) {
            if self.asked.len() == MOST_NAMES {
                return Some(Err(format!("the templates look up more than {MOST_NAMES} names")));
            }
            self.asked.insert(query.clone());
            self.wanted.push_back(query.clone());
        }
        None
    }

    /// Whether a render has used an unknown name.
    pub fn is_incomplete(&self) -> bool {
        !self.wanted.is_empty() || !self.under_way.is_empty()
    }

    /// A render has ended. Answers are used within one update only.
    pub fn end_round(&mut self, now: Instant) {
        if self.is_incomplete() {
            self.rounds += 1;
            self.began.get_or_insert(now);
            self.turned = Some(now);
        } else {
            *self = Lookups::default();
        }
    }

    /// Appends the descriptors to poll.
    pub fn interests<'a>(&'a self, out: &mut Vec<Interest<'a>>) {
        self.under_way.iter().for_each(|(_, lookup)| lookup.interests(out));
    }

    /// When a turn is due although no descriptor is ready; `None`: no lookup is in progress.
    pub fn due(&self) -> Option<Instant> {
        let starts = !self.wanted.is_empty() && self.under_way.len() < AT_ONCE;
        let lookups = self.under_way.iter().map(|(_, lookup)| lookup.due());
        lookups.chain(self.turned.filter(|_| starts)).min()
    }

    /// Continues the lookups. Returns whether the last one has ended.
    pub fn turn(&mut self, resolver: &Resolver, now: Instant) -> bool {
        if !self.is_incomplete() {
            return false;
        }
        self.turned = Some(now);
        if self.began.is_some_and(|began| now.saturating_duration_since(began) >= MOST_TIME) {
            let why = format!("the lookups of one update take more than {} seconds", MOST_TIME.as_secs());
            self.known.extend(self.wanted.drain(..).map(|query| (query, Err(why.clone()))));
        }
        let room = AT_ONCE.saturating_sub(self.under_way.len()).min(self.wanted.len());
        for query in self.wanted.drain(..room) {
            let lookup = resolver.begin(query.clone(), now);
            self.under_way.push((query, lookup));
        }
        let known = &mut self.known;
        self.under_way.retain_mut(|(query, lookup)| match lookup.turn(now) {
            Some(found) => {
                known.insert(query.clone(), found.map_err(|error| error.to_string()));
                false
            }
            None => true,
        });
        !self.is_incomplete()
    }
}

#[cfg(test)]
mod tests {
    use super::super::dns::Places;
    use super::*;
    use crate::host::files::tests::Folder;
    use crate::host::wait;

    fn name(text: &str) -> Query {
        Query::Addresses(text.to_owned())
    }

    /// A resolver that knows only the names of its hosts file.
    fn resolver(folder: &Folder, hosts: &str) -> Resolver {
        let (resolv_conf, file) = (folder.path("resolv.conf"), folder.path("hosts"));
        // No message may be sent to this address.
        std::fs::write(&resolv_conf, "nameserver 255.255.255.255\nsearch .\n").unwrap();
        std::fs::write(&file, hosts).unwrap();
        Resolver::with(Places { resolv_conf, hosts: file, port: 53 })
    }

    fn complete(lookups: &mut Lookups, resolver: &Resolver) {
        while !lookups.turn(resolver, Instant::now()) {
            let mut interests = Vec::new();
            lookups.interests(&mut interests);
            wait::ready(&interests, lookups.due());
        }
    }

    #[test]
    fn all_names_of_a_render_are_looked_up_and_then_forgotten() {
        let folder = Folder::new();
        let hosts: String = (0..3 * AT_ONCE).map(|n| format!("10.0.0.{n} host{n}\n")).collect();
        let resolver = resolver(&folder, &hosts);
        let mut lookups = Lookups::default();
        for n in 0..3 * AT_ONCE {
            assert_eq!(lookups.find(&name(&format!("host{n}"))), None);
        }
        assert_eq!(lookups.find(&name("host0")), None);
        assert_eq!(lookups.find(&name("nowhere")), None);
        lookups.end_round(Instant::now());
        complete(&mut lookups, &resolver);
        let Some(Ok(Found::Addresses(found))) = lookups.find(&name("host7")) else { panic!("it is known") };
        assert_eq!(found[0].to_string(), "10.0.0.7");
        assert!(matches!(lookups.find(&name("nowhere")), Some(Err(_))));
        assert!(!lookups.is_incomplete());
        lookups.end_round(Instant::now());
        assert_eq!(lookups.find(&name("host7")), None);
    }

    #[test]
    fn names_without_end_end() {
        let mut lookups = Lookups::default();
        for n in 0..MOST_NAMES {
            assert_eq!(lookups.find(&name(&format!("host{n}"))), None);
        }
        let why = "the templates look up more than 4096 names";
        assert_eq!(lookups.find(&name("one more")), Some(Err(why.to_owned())));
        assert_eq!(lookups.find(&name("host7")), None, "it is wanted");
    }

    #[test]
    fn lookups_that_take_too_long_end() {
        let folder = Folder::new();
        let resolver = resolver(&folder, "");
        let mut lookups = Lookups::default();
        assert_eq!(lookups.find(&name("host")), None);
        let began = Instant::now();
        lookups.end_round(began);
        assert!(lookups.turn(&resolver, began + MOST_TIME), "nothing is left to do");
        let why = "the lookups of one update take more than 60 seconds";
        assert_eq!(lookups.find(&name("host")), Some(Err(why.to_owned())));
    }

    #[test]
    fn names_that_change_with_every_render_end() {
        let folder = Folder::new();
        let resolver = resolver(&folder, "");
        let mut lookups = Lookups::default();
        for n in 0..MOST_ROUNDS {
            assert_eq!(lookups.find(&name(&format!("name{n}"))), None);
            lookups.end_round(Instant::now());
            complete(&mut lookups, &resolver);
        }
        let why = "new names to look up came in each of 32 renders";
        assert_eq!(lookups.find(&name("one more")), Some(Err(why.to_owned())));
        assert!(lookups.due().is_none());
    }
}
