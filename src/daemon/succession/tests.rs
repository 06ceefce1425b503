//! Successions by hand, and thousands of random ones compared with a naive model that forgets nothing. Starts no
//! process: the tests of exec mode do.

use super::*;
use crate::random::Random;

fn service(name: &str, files: &[&str], command: &str) -> Service {
    let word = |text: &str| Word { parts: vec![crate::config::WordPart::Text(text.to_owned())] };
    let files = files.iter().map(|file| Claim::File(PathBuf::from(file)));
    let command = (!command.is_empty()).then(|| Claim::Command(vec![word(command)]));
    Service { name: name.to_owned(), claims: files.chain(command).collect() }
}

/// Units by number, and the numbers of those with a process that has not ended.
#[derive(Default)]
struct Bench {
    succession: Succession,
    running: BTreeSet<Number>,
    next: Number,
}

impl Bench {
    /// A SIGHUP: `gone` end, with a process each as far as they were not held; gives the numbers of the new ones.
    fn hup(&mut self, gone: &[Number], new: Vec<Service>) -> Vec<Number> {
        let numbers: Vec<Number> = (self.next..).take(new.len()).collect();
        self.next += new.len();
        self.running.extend(gone.iter().filter(|number| !self.succession.is_held(**number)));
        self.succession.succeed(&gone.iter().copied().collect(), numbers.iter().copied().zip(new).collect());
        self.settle();
        numbers
    }

    fn ended(&mut self, number: Number) {
        assert!(self.running.remove(&number), "{number} has no process");
        self.settle();
    }

    fn settle(&mut self) {
        self.succession.settle(|number| self.running.contains(&number));
    }

    fn held(&self, numbers: &[Number]) -> Vec<bool> {
        numbers.iter().map(|number| self.succession.is_held(*number)).collect()
    }
}

#[test]
fn a_unit_that_is_replaced_while_it_waits_hands_its_wait_on() {
    let mut bench = Bench::default();
    let a = bench.hup(&[], vec![service("r", &["f"], "one")]);
    let b = bench.hup(&a, vec![service("r", &["f"], "two")]);
    let c = bench.hup(&b, vec![service("r", &["f"], "three")]);
    assert_eq!(bench.held(&c), [true]);
    assert_eq!(bench.running, BTreeSet::from([a[0]]), "the second one never began");
    bench.ended(a[0]);
    assert_eq!(bench.held(&c), [false]);
}

/// The third shares nothing with the first but what the second had in common with both.
#[test]
fn a_wait_is_handed_on_although_first_and_last_have_nothing_in_common() {
    let mut bench = Bench::default();
    let a = bench.hup(&[], vec![service("a", &["f"], "one")]);
    let b = bench.hup(&a, vec![service("b", &["f", "g"], "two")]);
    // Nothing is configured for a while.
    bench.hup(&b, vec![]);
    let c = bench.hup(&[], vec![service("c", &["g"], "three")]);
    assert_eq!(bench.held(&c), [true]);
    bench.ended(a[0]);
    assert_eq!(bench.held(&c), [false]);
}

#[test]
fn removed_and_added_again() {
    let mut bench = Bench::default();
    let a = bench.hup(&[], vec![service("r", &["f"], "one")]);
    bench.hup(&a, vec![]);
    let again = bench.hup(&[], vec![service("r", &["f"], "one")]);
    assert_eq!(bench.held(&again), [true]);
    bench.ended(a[0]);
    assert_eq!(bench.held(&again), [false]);
}

#[test]
fn split_merged_and_swapped() {
    let mut bench = Bench::default();
    let one = bench.hup(&[], vec![service("both", &["f", "g"], "run")]);
    let two = bench.hup(&one, vec![service("left", &["f"], "l"), service("right", &["g"], "r")]);
    assert_eq!(bench.held(&two), [true, true]);
    bench.ended(one[0]);
    assert_eq!(bench.held(&two), [false, false]);

    let swapped = bench.hup(&two, vec![service("left", &["f"], "r"), service("right", &["g"], "l")]);
    bench.ended(two[0]);
    assert_eq!(bench.held(&swapped), [true, true], "the other's command still runs");
    bench.ended(two[1]);
    assert_eq!(bench.held(&swapped), [false, false]);

    let merged = bench.hup(&swapped, vec![service("both", &["f", "g"], "run")]);
    bench.ended(swapped[0]);
    assert_eq!(bench.held(&merged), [true]);
    bench.ended(swapped[1]);
    assert_eq!(bench.held(&merged), [false]);
}

/// Resources without a name are called after their file.
#[test]
fn a_name_of_many_tells_only_where_nothing_else_does() {
    let mut bench = Bench::default();
    let old = bench.hup(&[], vec![service("x.toml", &["f"], "one"), service("x.toml", &["g"], "two")]);
    let new = bench.hup(&old, vec![service("x.toml", &["f"], "1"), service("x.toml", &["h"], "2")]);
    bench.ended(old[0]);
    assert_eq!(bench.held(&new), [false, true]);
    bench.ended(old[1]);
    assert_eq!(bench.held(&new), [false, false]);
}

#[test]
fn reloads_are_pending_for_those_that_replace_a_unit_that_went_just_now() {
    let mut succession = Succession::default();
    let numbers = |list: &[Number]| list.iter().copied().collect::<BTreeSet<_>>();
    succession.succeed(&numbers(&[]), vec![(0, service("a", &["f"], "")), (1, service("b", &["g"], ""))]);
    let merged = succession.succeed(&numbers(&[0, 1]), vec![(2, service("c", &["f", "g"], ""))]);
    assert_eq!(merged, [vec![0, 1]]);
    let other = succession.succeed(&numbers(&[2]), vec![(3, service("d", &["h"], ""))]);
    assert_eq!(other, [Vec::<Number>::new()]);
}

#[test]
fn equal_resources_are_kept_one_by_one() {
    let check = |old: &str, new: &str, want: &[Option<usize>]| {
        let (old, new): (Vec<char>, Vec<char>) = (old.chars().collect(), new.chars().collect());
        let got = kept(&old.iter().collect::<Vec<_>>(), &new.iter().collect::<Vec<_>>());
        assert_eq!(got, want, "{old:?} {new:?}");
    };
    check("ab", "ba", &[Some(1), Some(0)]);
    check("aa", "a", &[Some(0)]);
    check("a", "aa", &[Some(0), None]);
    check("", "a", &[None]);
}

/// A storm of signals while one child takes its time: what is remembered grows with the units, not with their square.
#[test]
fn a_storm_is_remembered_in_little() {
    let mut bench = Bench::default();
    let mut last = bench.hup(&[], vec![service("r", &["f"], "one")]);
    for _ in 0..1000 {
        last = bench.hup(&last, vec![service("r", &["f"], "one")]);
    }
    assert_eq!(bench.held(&last), [true]);
    let waits: usize = bench.succession.former.values().map(|unit| unit.waits_for.len()).sum();
    assert!(waits <= 1000, "{waits}");
    bench.ended(0);
    assert_eq!(bench.held(&last), [false]);
    assert!(bench.succession.former.is_empty());
}

/// What the random test knows of a unit.
struct Model {
    service: Service,
    /// Every unit before it that it continues, however far back.
    ancestors: BTreeSet<Number>,
    /// Its child and its commands that have not ended. One that is in its restart delay has none.
    processes: usize,
    is_live: bool,
    is_told_to_end: bool,
}

/// HUPs, starts, exits and kills in any order: two generations never have processes at once, and once the old processes
/// have ended nothing is held. The model keeps every unit there ever was and compares all with all.
#[test]
fn never_two_generations_and_never_none_for_ever() {
    let mut random = Random::new(20_261_128);
    let (mut hups, mut held, mut handed_on) = (0, 0, 0);
    for _ in 0..100 {
        let mut succession = Succession::default();
        let mut units: Vec<Model> = Vec::new();
        for _ in 0..100 {
            match random.below(4) {
                0 => {
                    hups += 1;
                    hup(&mut random, &mut succession, &mut units);
                }
                // A child or a command is started, where the unit may begin.
                1 | 2 => {
                    for (number, unit) in units.iter_mut().enumerate().filter(|(_, unit)| unit.is_live) {
                        if !succession.is_held(number) && unit.processes < 2 && random.below(2) == 0 {
                            unit.processes += 1;
                        }
                    }
                }
                // One ends, by itself, as it was told, or because it was killed.
                _ => {
                    let running: Vec<Number> = (0..units.len()).filter(|n| units[*n].processes > 0).collect();
                    if !running.is_empty() {
                        units[*random.pick(&running)].processes -= 1;
                    }
                }
            }
            succession.settle(|number| units[number].is_told_to_end && units[number].processes > 0);
            for (number, unit) in units.iter().enumerate().filter(|(_, unit)| unit.is_live) {
                let of_ancestors = unit.ancestors.iter().any(|ancestor| units[*ancestor].processes > 0);
                assert_eq!(succession.is_held(number), of_ancestors, "unit {number}");
                assert!(!of_ancestors || unit.processes == 0, "unit {number} runs beside an earlier generation");
                held += usize::from(of_ancestors);
                let of_parents = unit.ancestors.iter().filter(|parent| units[**parent].processes > 0);
                handed_on += usize::from(of_parents.clone().any(|p| !has_in_common(&units[*p].service, &unit.service)));
            }
        }
        units.iter_mut().for_each(|unit| unit.processes = 0);
        succession.settle(|_| false);
        assert!((0..units.len()).all(|number| !succession.is_held(number)));
        assert!(succession.former.is_empty());
    }
    assert!(hups > 2000 && held > 5000 && handed_on > 500, "{hups} {held} {handed_on}");
}

/// A new configuration of up to four resources; some of the old ones are in it.
fn hup(random: &mut Random, succession: &mut Succession, units: &mut Vec<Model>) {
    let mut gone = BTreeSet::new();
    let mut names = vec!["a", "b", "c", "d"];
    for (number, unit) in units.iter_mut().enumerate().filter(|(_, unit)| unit.is_live) {
        if random.below(3) == 0 {
            names.retain(|name| *name != unit.service.name);
        } else {
            gone.insert(number);
            (unit.is_live, unit.is_told_to_end) = (false, true);
        }
    }
    let mut new = Vec::new();
    for name in names {
        if random.below(2) == 0 {
            continue;
        }
        let files: Vec<&str> = ["f", "g", "h", "i"].into_iter().filter(|_| random.below(4) == 0).collect();
        let service = service(name, &files, random.pick::<&str>(&["", "one", "two", "three"]));
        let parents = units.iter().enumerate().filter(|(_, old)| !old.is_live && has_in_common(&old.service, &service));
        let ancestors = parents.flat_map(|(number, old)| old.ancestors.iter().copied().chain([number])).collect();
        new.push(Model { service, ancestors, processes: 0, is_live: true, is_told_to_end: false });
    }
    let numbered = (units.len()..).zip(&new).map(|(number, unit)| (number, unit.service.clone())).collect();
    succession.succeed(&gone, numbered);
    units.extend(new);
}

fn has_in_common(one: &Service, other: &Service) -> bool {
    one.name == other.name || one.claims.iter().any(|claim| other.claims.contains(claim))
}
