//! Decides which new resources wait for the processes of which old ones when the configuration changes: two
//! generations of a service would compete for a port or a file. Starts and ends no process; the caller reports which
//! units still have processes.

use std::collections::{BTreeSet, HashMap};
use std::path::PathBuf;

use crate::config::{self, Word};
use crate::sorted::SortedMap;

/// The number of a unit. A later unit has a higher one.
pub(super) type Number = usize;

/// The units, and the units that they wait for.
///
/// A unit whose resource is no longer configured is *former* while it still has a process, or waits itself. So waits
/// are transitive: if a held unit is replaced, its successor waits for it, and thereby for its predecessors.
#[derive(Debug, Default)]
pub(super) struct Succession {
    live: SortedMap<Number, Unit>,
    former: SortedMap<Number, Unit>,
}

#[derive(Debug)]
struct Unit {
    service: Service,
    /// The former units that have to end before this unit starts. All of them are older, so there is no cycle.
    waits_for: BTreeSet<Number>,
}

/// The properties by which a resource is recognised as the successor of another one.
#[derive(Clone, Debug)]
pub(super) struct Service {
    /// The name of the resource.
    name: String,
    claims: Vec<Claim>,
}

/// A thing that only one generation of a service may use at a time.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Claim {
    /// A file that the resource writes.
    File(PathBuf),
    /// The program that the resource runs, with its arguments.
    Command(Vec<Word>),
}

impl Service {
    pub(super) fn of(resource: &config::Resource) -> Service {
        let files = resource.templates.iter().map(|template| Claim::File(template.dst.clone()));
        let command = resource.exec.iter().map(|exec| Claim::Command(exec.command.clone()));
        Service { name: resource.name.clone(), claims: files.chain(command).collect() }
    }
}

/// For each resource of a new configuration: the place of the equal old resource that is kept, if there is one. Equal
/// resources are paired one by one, so that one of two equal ones can be added or removed.
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
    /// Applies a new configuration: the units of `gone` end. Each unit of `new` waits for the former units that wrote
    /// one of its files, ran its command or had its name. A name that several resources share counts only where no file
    /// and no command is shared. Returns for each new unit the units of `gone` that it replaces.
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
            // The units that a predecessor waits for are left out, because this wait is implied. Otherwise the memory
            // of every unit would grow with each SIGHUP of a flood.
            let implied: BTreeSet<Number> =
                predecessors.iter().flat_map(|number| &self.former[number].waits_for).copied().collect();
            let waits_for = predecessors.difference(&implied).copied().collect();
            self.live.insert(number, Unit { service, waits_for });
        }
        replaced
    }

    /// Forgets the former units that have ended. `has_processes`: whether a former unit still has a process.
    pub(super) fn settle(&mut self, has_processes: impl Fn(Number) -> bool) {
        // In the order of their numbers: the units that a unit waits for are older, and were handled before.
        let numbers: Vec<Number> = self.former.keys().copied().collect();
        for number in numbers {
            if !has_processes(number) && !self.waits(&self.former[&number]) {
                self.former.remove(&number);
            }
        }
    }

    /// Whether a unit must not start yet.
    pub(super) fn is_held(&self, number: Number) -> bool {
        // The table is mostly empty, and this runs for every unit in every turn.
        !self.former.is_empty() && self.live.get(&number).is_some_and(|unit| self.waits(unit))
    }

    /// Whether a unit still waits for a former one.
    fn waits(&self, unit: &Unit) -> bool {
        unit.waits_for.iter().any(|number| self.former.contains_key(number))
    }
}

#[cfg(test)]
mod tests;
