//! Decides which resource has to wait for the processes of which earlier ones when the configuration changes: two generations
//! of a service would fight for a port or a file. Pure: starts and ends no process, and is told which processes are left.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::PathBuf;

use crate::config::{self, Word};

/// The number of a unit. A later unit has a higher one.
pub(super) type Number = usize;

/// Which units wait for which.
///
/// A unit whose resource is no longer configured stays known as *former* as long as a process of it is left, or as long as
/// it waits itself. So a wait is handed on: a unit that is replaced while it is held back still stands between the unit that
/// it waited for and the unit that waits for it.
#[derive(Debug, Default)]
pub(super) struct Succession {
    live: BTreeMap<Number, Unit>,
    former: BTreeMap<Number, Unit>,
}

#[derive(Debug)]
struct Unit {
    service: Service,
    /// Former units that have to be over before this one begins. Each is older than this one, so there is no circle.
    waits_for: BTreeSet<Number>,
}

/// What tells that a resource goes on with the work of another.
#[derive(Clone, Debug)]
pub(super) struct Service {
    /// The name of the resource.
    name: String,
    claims: Vec<Claim>,
}

/// What only one generation of a service may have at a time.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Claim {
    /// A file that it writes.
    File(PathBuf),
    /// The program that it runs, with its arguments.
    Command(Vec<Word>),
}

impl Service {
    pub(super) fn of(resource: &config::Resource) -> Service {
        let files = resource.templates.iter().map(|template| Claim::File(template.dst.clone()));
        let command = resource.exec.iter().map(|exec| Claim::Command(exec.command.clone()));
        Service { name: resource.name.clone(), claims: files.chain(command).collect() }
    }
}

/// For each resource of a new configuration the old one that goes on as it is, where there is one. Equal resources are paired
/// one by one: of two that are equal one may be added or removed.
pub(super) fn kept<T: PartialEq>(old: &[&T], new: &[&T]) -> Vec<Option<usize>> {
    let mut is_taken = vec![false; old.len()];
    let mut take = |wanted: &&T| {
        let at = (0..old.len()).find(|at| !is_taken[*at] && old[*at] == *wanted)?;
        is_taken[at] = true;
        Some(at)
    };
    new.iter().map(&mut take).collect()
}

impl Succession {
    /// Takes in a new configuration: the units of `gone` end, those of `new` begin, and wait for each former unit that wrote one
    /// of their files, ran their command or had their name. A name that several resources have tells only where nothing else
    /// does. Gives for each new unit those units of `gone` that it replaces.
    pub(super) fn succeed(&mut self, gone: &BTreeSet<Number>, new: Vec<(Number, Service)>) -> Vec<Vec<Number>> {
        for number in gone {
            let unit = self.live.remove(number).expect("a unit that goes was there");
            self.former.insert(*number, unit);
        }
        let mut by_claim: HashMap<&Claim, Vec<Number>> = HashMap::new();
        let mut by_name: HashMap<&str, Vec<Number>> = HashMap::new();
        for (number, unit) in &self.former {
            unit.service.claims.iter().for_each(|claim| by_claim.entry(claim).or_default().push(*number));
            by_name.entry(&unit.service.name).or_default().push(*number);
        }
        let mut namesakes: HashMap<String, usize> = HashMap::new();
        let services = self.live.values().map(|unit| &unit.service).chain(new.iter().map(|(_, service)| service));
        services.for_each(|service| *namesakes.entry(service.name.clone()).or_default() += 1);

        let mut replaced = Vec::new();
        for (number, service) in new {
            let of_claim = |claim| by_claim.get(claim).into_iter().flatten().copied();
            let mut predecessors: BTreeSet<Number> = service.claims.iter().flat_map(of_claim).collect();
            if predecessors.is_empty() || namesakes[&service.name] == 1 {
                predecessors.extend(by_name.get(&*service.name).into_iter().flatten());
            }
            replaced.push(predecessors.intersection(gone).copied().collect());
            // What one of them waits for is waited for with it. Without this every unit of a storm of signals would
            // remember all units before it.
            let implied: BTreeSet<Number> =
                predecessors.iter().flat_map(|number| &self.former[number].waits_for).copied().collect();
            let waits_for = predecessors.difference(&implied).copied().collect();
            self.live.insert(number, Unit { service, waits_for });
        }
        replaced
    }

    /// Forgets the former units that are over. `has_processes` says of a former unit whether a process of it is left.
    pub(super) fn settle(&mut self, has_processes: impl Fn(Number) -> bool) {
        // In the order of their numbers, so that what one of them waits for was looked at before.
        let numbers: Vec<Number> = self.former.keys().copied().collect();
        for number in numbers {
            if !has_processes(number) && !self.waits(&self.former[&number]) {
                self.former.remove(&number);
            }
        }
    }

    /// Whether a unit must not begin yet.
    pub(super) fn is_held(&self, number: Number) -> bool {
        // Mostly there is none, and this is asked for every unit at every turn.
        !self.former.is_empty() && self.live.get(&number).is_some_and(|unit| self.waits(unit))
    }

    /// Whether something is left of what a unit waits for.
    fn waits(&self, unit: &Unit) -> bool {
        unit.waits_for.iter().any(|number| self.former.contains_key(number))
    }
}

#[cfg(test)]
mod tests;
