//! Updates that a guard refuses: none of their steps runs, and other steps continue.
//! Uses no clock but the one in the test.

use super::*;
use crate::config::Guard;

fn guard() -> Option<Guard> {
    Some(Guard { min_keys: 3, max_delete_percent: Some(50), require: vec!["/a".into()] })
}

fn guarded(mode: Mode) -> Bench {
    Bench::new(Plan { guard: guard(), reload: true, ..plan(mode, &["cr"]) })
}

fn good() -> Event {
    Event::Judged(Census { keys: 10, before: Some(10), gone: 0, missing: vec![] })
}

fn emptied(keys: usize) -> Event {
    Event::Judged(Census { keys, before: Some(10), gone: 10 - keys, missing: vec![] })
}

fn accepted() -> Vec<Effect> {
    vec![Effect::Accept, Effect::Render]
}

#[test]
fn rules_are_judged_by_figures() {
    let check = |keys, before, gone, missing: &[&str], want: Option<&str>| {
        let missing = missing.iter().map(|text| (*text).to_owned()).collect();
        let broken = crate::resource::guard::broken(&guard().expect("one"), &Census { keys, before, gone, missing });
        assert_eq!(broken.as_deref(), want);
    };
    check(3, None, 0, &[], None);
    check(5, Some(10), 5, &[], None);
    check(4, Some(10), 6, &[], Some("keys gone: 6 of 10, `max_delete_percent` is 50"));
    check(3, Some(0), 0, &[], None);
    check(9, None, 0, &["/a"], Some("no key matches `/a`, which `require` has"));
    let all = "the number of keys is 0, `min_keys` is 3; keys gone: 1 of 1, `max_delete_percent` is 50; no key matches `/a`, \
               which `require` has";
    check(0, Some(1), 1, &["/a"], Some(all));
}

#[test]
fn a_refused_update_is_told_once_and_judged_again_at_each_change() {
    let mut bench = guarded(Mode::Watch);
    bench.check(vec![(loaded(), vec![Effect::Judge]), (good(), accepted()), (in_sync(), vec![])]);
    bench.on(loaded());
    let why = "the number of keys is 2, `min_keys` is 3; keys gone: 8 of 10, `max_delete_percent` is 50";
    assert_eq!(bench.lines(emptied(2)), [format!("the guard refuses the update, the files stay error={why}")]);
    assert!(bench.resource.is_failing());
    assert_eq!(bench.resource.due(), None, "time alone changes nothing");
    bench.on(loaded());
    assert!(bench.lines(emptied(1)).is_empty(), "other figures are no other refusal");
    bench.check(vec![(Event::Refresh, vec![Effect::Judge]), (emptied(1), vec![])]);
    bench.on(loaded());
    assert_eq!(bench.lines(good()), ["the guard accepts updates again failures=3"]);
    bench.check(vec![(in_sync(), vec![])]);
    assert!(bench.resource.settled());
}

#[test]
fn a_refused_one_shot_run_has_failed() {
    let mut bench = guarded(Mode::OneShot);
    bench.check(vec![(loaded(), vec![Effect::Judge]), (emptied(0), vec![])]);
    assert_eq!(bench.resource.verdict(), Some(Verdict::Failed));
}

#[test]
fn an_override_holds_for_the_first_update() {
    let mut bench = guarded(Mode::Watch);
    bench.resource.override_guard();
    bench.check(vec![(loaded(), vec![Effect::Judge]), (emptied(0), accepted()), (in_sync(), vec![])]);
    bench.check(vec![(loaded(), vec![Effect::Judge]), (emptied(0), vec![])]);
    // A resource that replaces it has had its first update.
    let mut after = guarded(Mode::Watch);
    after.resource.override_guard();
    after.resource.inherit_override(&bench.resource);
    after.check(vec![(loaded(), vec![Effect::Judge]), (emptied(0), vec![])]);
}

#[test]
fn an_emptied_store_does_not_keep_a_child_down() {
    let child = Some(ChildPlan { reload: ReloadBy::Restart, splay: Duration::ZERO });
    let mut bench = Bench::new(Plan { guard: guard(), child, reload: true, ..plan(Mode::Watch, &["cr"]) });
    // No child is started before its files exist.
    bench.check(vec![(loaded(), vec![Effect::Judge]), (emptied(0), vec![])]);
    bench.check(vec![
        (loaded(), vec![Effect::Judge]),
        (good(), accepted()),
        (in_sync(), vec![Effect::Spawn]),
        (spawned(), vec![]),
        (exited(), vec![]),
    ]);
    bench.check(vec![(loaded(), vec![Effect::Judge]), (emptied(0), vec![])]);
    bench.wait();
    bench.check(vec![(Event::Due, vec![Effect::Judge]), (emptied(0), vec![Effect::Spawn]), (spawned(), vec![])]);
}

/// With any failure: between a refusal and the next accepted update nothing is staged and no command runs.
#[test]
fn a_refused_update_never_runs_a_command() {
    for seed in 0..2000 {
        let mut random = Random::new(seed);
        let mut bench = guarded(Mode::Watch);
        let (mut open, mut is_refused): (Option<Effect>, bool) = (None, true);
        for _ in 0..150 {
            let good_luck = random.below(3) != 0;
            let result = || if good_luck { Ok(()) } else { Err(fault("no")) };
            let event = match open.take() {
                Some(effect) if random.below(4) == 0 => {
                    open = Some(effect);
                    if random.below(4) == 0 { Event::Refresh } else { loaded() }
                }
                Some(Effect::Judge) if good_luck => {
                    is_refused = false;
                    good()
                }
                Some(Effect::Judge) => {
                    is_refused = true;
                    emptied(random.below(3))
                }
                Some(Effect::Render) if good_luck => differs(),
                Some(Effect::Render) => in_sync(),
                Some(Effect::Stage(_)) => Event::Staged(result()),
                Some(Effect::Install(_)) => Event::Installed(result().map(|()| None)),
                Some(Effect::Run(_)) => Event::Ended(result()),
                Some(other) => unreachable!("{other:?} is not answered"),
                None => match bench.resource.due() {
                    Some(due) => {
                        assert!(due >= bench.now, "seed {seed}");
                        bench.now = due;
                        Event::Due
                    }
                    None => loaded(),
                },
            };
            for effect in bench.on(event) {
                match effect {
                    Effect::Accept | Effect::Discard(_) => {}
                    effect => {
                        assert!(!is_refused || effect == Effect::Judge, "seed {seed}: {effect:?}");
                        assert!(open.is_none(), "seed {seed}: {open:?} {effect:?}");
                        open = Some(effect);
                    }
                }
            }
        }
    }
}
