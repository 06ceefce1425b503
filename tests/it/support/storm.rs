//! Storms: many changes of a store with failures between them, and quiet points. Decides when each moment comes, and
//! checks that the program's memory does not grow. The test decides what a change and a failure are.

use super::{Config, LIMIT, Random, Remco, TempDir, remco, wait_until};

/// Changes between two quiet points.
const ROUND: usize = 250;

/// What a round may leave behind, in KiB: pages that the allocator keeps. A leak of one change would be more in a long storm.
const GROWTH: u64 = 2048;

/// What happens next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Moment {
    /// The change of this number.
    Change(usize),
    /// What is open breaks.
    Cut,
    /// From now on everything comes byte by byte.
    Tear,
    /// From now on nothing comes.
    Freeze,
    /// All that ends.
    Calm,
    /// The store dies and starts again.
    Restart,
    /// After this change nothing happens until the file is what a fresh run renders.
    Quiet(usize),
}

/// Has so many changes as `REMCO_CHANGES` says, or one round, and ends the program.
pub fn storm(program: Remco, mut act: impl FnMut(Moment, &mut Random)) {
    let changes = std::env::var("REMCO_CHANGES").map_or(ROUND, |count| count.parse().expect("a number"));
    let (mut random, mut memory) = (Random::new(20_261_128), Vec::new());
    for n in 0..changes.next_multiple_of(ROUND) {
        act(Moment::Change(n), &mut random);
        let trouble = match n % ROUND {
            40 => Some(Moment::Cut),
            80 => Some(Moment::Tear),
            160 => Some(Moment::Freeze),
            120 | 180 => Some(Moment::Calm),
            200 => Some(Moment::Restart),
            _ => None,
        };
        trouble.into_iter().for_each(|trouble| act(trouble, &mut random));
        if n % ROUND == ROUND - 1 {
            act(Moment::Quiet(n), &mut random);
            memory.push(program.resident());
        }
    }
    println!("{changes} changes, KiB in memory at the quiet points: {memory:?}");
    let half = &memory[memory.len() / 2..];
    if let (true, Some(first), Some(last)) = (memory.len() >= 8, half.first(), half.last()) {
        assert!(*last <= first + GROWTH, "it grows: {memory:?}");
    }
    program.stop();
}

/// Waits until the file `out` of a folder is what a fresh run by this configuration renders in a folder of its own.
pub fn await_fresh(dir: &TempDir, fresh: &TempDir, config: &Config) {
    config.clone().onetime().write(fresh);
    remco(fresh).once().expect_code(0);
    let expected = fresh.read("out").expect("it is rendered");
    wait_until("the file is what a fresh run renders", LIMIT * 2, || dir.holds("out", &expected));
}
