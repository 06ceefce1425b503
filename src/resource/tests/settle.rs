//! Updates that wait for more changes: when they begin, and which updates do not wait.
//! Uses no clock but the one in the test.

use super::*;

const MIN: Duration = Duration::from_millis(500);
const MAX: Duration = Duration::from_secs(2);

fn settling(mode: Mode) -> Bench {
    let settle = SettlePlan { min: MIN, max: MAX, splay: Duration::ZERO };
    Bench::new(Plan { settle, ..plan(mode, &["r"]) })
}

/// After the first update, which does not wait.
fn begun(settle: SettlePlan) -> Bench {
    let mut bench = Bench::new(Plan { settle, ..plan(Mode::Watch, &["r"]) });
    bench.check(vec![(loaded(), vec![Effect::Render]), (in_sync(), vec![])]);
    bench
}

#[test]
fn two_hundred_changes_lead_to_three_updates() {
    let mut bench = settling(Mode::Watch);
    bench.check(vec![(loaded(), vec![Effect::Render]), (in_sync(), vec![])]);
    let (begin, mut updates, mut last) = (bench.now, 1, bench.now);
    let update = |bench: &mut Bench, updates: &mut usize| {
        bench.check(vec![(Event::Due, vec![Effect::Render]), (in_sync(), vec![])]);
        *updates += 1;
    };
    for change in 0..200 {
        let at = begin + Duration::from_millis(17) * change;
        while let Some(due) = bench.resource.due().filter(|due| *due <= at) {
            bench.now = due;
            update(&mut bench, &mut updates);
        }
        bench.now = at;
        bench.check(vec![(loaded(), vec![])]);
        last = at;
    }
    assert!(bench.wait() <= MIN);
    update(&mut bench, &mut updates);
    assert_eq!((updates, bench.now), (3, last + MIN));
    assert!(bench.resource.settled());
}

#[test]
fn sighup_does_not_wait() {
    let mut bench = begun(SettlePlan { min: MIN, max: MAX, splay: Duration::from_secs(3600) });
    bench.check(vec![(loaded(), vec![]), (Event::Refresh, vec![Effect::Render]), (in_sync(), vec![])]);
    assert_eq!(bench.resource.due(), None, "the changes are taken in");
    // A change during the update waits again.
    bench.check(vec![(Event::Refresh, vec![Effect::Render]), (loaded(), vec![]), (in_sync(), vec![])]);
    assert!(bench.wait() >= MIN);
    bench.check(vec![(Event::Due, vec![Effect::Render]), (in_sync(), vec![])]);
}

#[test]
fn a_one_shot_run_does_not_wait() {
    let mut bench = settling(Mode::OneShot);
    bench.check(vec![(loaded(), vec![Effect::Render]), (in_sync(), vec![])]);
    assert_eq!(bench.resource.verdict(), Some(Verdict::Succeeded));
}

#[test]
fn a_retry_is_made_by_the_update_that_waits() {
    let mut bench = begun(SettlePlan { min: MIN, max: MAX, splay: Duration::ZERO });
    let failed = || Event::Rendered(vec![Rendering::Failed(fault("no such key"))]);
    bench.check(vec![(Event::Refresh, vec![Effect::Render]), (failed(), vec![])]);
    // The retry is due in a second, the changes settle later.
    for _ in 0..8 {
        bench.now += Duration::from_millis(200);
        bench.check(vec![(loaded(), vec![]), (Event::Due, vec![])]);
        assert!(bench.resource.due() > Some(bench.now), "nothing is due before its time");
    }
    bench.wait();
    bench.check(vec![(Event::Due, vec![Effect::Render]), (in_sync(), vec![])]);
    assert!(bench.resource.settled());
}

#[test]
fn a_child_that_ended_is_started_again_although_keys_settle() {
    let child = Some(ChildPlan { reload: ReloadBy::Restart, splay: Duration::ZERO });
    let settle = SettlePlan { min: Duration::from_secs(60), max: Duration::from_secs(60), splay: Duration::ZERO };
    let mut bench = Bench::new(Plan { child, settle, ..plan(Mode::Watch, &[""]) });
    up(&mut bench);
    bench.check(vec![(exited(), vec![]), (loaded(), vec![])]);
    assert!(bench.wait() < Duration::from_secs(30));
    bench.check(vec![(Event::Due, vec![Effect::Render]), (in_sync(), vec![Effect::Spawn]), (spawned(), vec![])]);
}

/// With any order of events, an update begins exactly when its plan says, and renders all changes.
#[test]
fn random_changes_settle_in_time() {
    for seed in 0..3000 {
        let mut random = Random::new(seed);
        let min = Duration::from_millis(random.below(3) as u64 * 250);
        let max = min + Duration::from_millis(random.below(3) as u64 * 500);
        let splay = Duration::from_millis(random.below(2) as u64 * 1000);
        let mut bench = begun(SettlePlan { min, max, splay });
        // The first and the latest change that no update has begun with.
        let mut waiting: Option<(Instant, Instant)> = None;
        let (mut runs, mut urgent) = (false, false);
        for _ in 0..100 {
            let due = bench.resource.due();
            assert!(due.is_none_or(|due| due >= bench.now), "seed {seed}: the loop would spin");
            let step = Duration::from_millis(random.below(400) as u64);
            bench.now = match due {
                Some(due) if random.below(3) == 0 => due,
                Some(due) => due.min(bench.now + step),
                None => bench.now + step,
            };
            let now = bench.now;
            let event = match random.below(8) {
                0 => {
                    urgent = true;
                    Event::Refresh
                }
                1 | 2 => {
                    waiting = Some((waiting.map_or(now, |(first, _)| first), now));
                    loaded()
                }
                3 | 4 if runs => {
                    runs = false;
                    in_sync()
                }
                _ => Event::Due,
            };
            let was_idle = !runs;
            if bench.on(event).contains(&Effect::Render) {
                assert!(was_idle, "seed {seed}: two updates at a time");
                runs = true;
                if let Some((first, latest)) = waiting.take() {
                    let settled = (latest + min).min(first + max);
                    assert!(urgent || now >= settled, "seed {seed}: too early");
                }
                urgent = false;
            } else if !runs && let Some((first, latest)) = waiting {
                assert!(!urgent, "seed {seed}: SIGHUP waits");
                let settled = (latest + min).min(first + max);
                assert!(now < settled + splay, "seed {seed}: too late");
                assert!(bench.resource.due() <= Some(settled + splay), "seed {seed}: too late");
            }
        }
    }
}
