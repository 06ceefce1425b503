//! Cases of the child of a resource: its start, its reload and its restart, during the steps of updates.
//! Starts no process.

use super::*;

#[test]
fn a_child_comes_after_the_first_files_and_is_told_of_later_ones() {
    let mut bench = child(ReloadBy::Signal(1), Duration::ZERO, &[""]);
    up(&mut bench);
    bench.check(vec![(loaded(), vec![Effect::Render]), (in_sync(), vec![])]);
    change(&mut bench, vec![Effect::SignalChild(1)]);
    assert_eq!(bench.resource.due(), None);
    assert!(!bench.resource.settled(), "a child is looked after until the end");
}

#[test]
fn start_cmd_comes_before_the_child() {
    let child = Some(ChildPlan { reload: ReloadBy::Restart, splay: Duration::ZERO });
    let mut bench = Bench::new(Plan { start: true, child, ..plan(Mode::Watch, &[""]) });
    bench.check(vec![
        (loaded(), vec![Effect::Render]),
        (in_sync(), vec![Effect::Run(Job::Start)]),
        (ended(), vec![Effect::Spawn]),
        (spawned(), vec![]),
        // Again after the child has ended by itself.
        (exited(), vec![]),
    ]);
    bench.wait();
    bench.check(vec![
        (Event::Due, vec![Effect::Render]),
        (in_sync(), vec![Effect::Run(Job::Start)]),
        (ended(), vec![Effect::Spawn]),
        (spawned(), vec![]),
    ]);
}

#[test]
fn a_child_without_a_reload_signal_is_stopped_and_started() {
    let mut bench = child(ReloadBy::Restart, Duration::ZERO, &[""]);
    up(&mut bench);
    change(&mut bench, vec![Effect::StopChild]);
    // The next child reads the changes.
    change(&mut bench, vec![]);
    bench.check(vec![(exited(), vec![Effect::Spawn]), (spawned(), vec![])]);
    change(&mut bench, vec![Effect::StopChild]);
}

#[test]
fn a_reload_waits_for_its_splay_and_takes_in_what_changes_meanwhile() {
    for (reload, want) in [(ReloadBy::Signal(1), Effect::SignalChild(1)), (ReloadBy::Restart, Effect::StopChild)] {
        let mut bench = child(reload, SPLAY, &[""]);
        up(&mut bench);
        change(&mut bench, vec![]);
        change(&mut bench, vec![]);
        assert!(bench.wait() <= SPLAY);
        bench.check(vec![(Event::Due, vec![want]), (Event::Due, vec![])]);
        assert_eq!(bench.resource.due(), None);
    }
}

#[test]
fn a_splay_ends_in_time_while_an_update_runs() {
    let mut bench = child(ReloadBy::Signal(1), SPLAY, &["c"]);
    bench.check(vec![(loaded(), vec![Effect::Render]), (in_sync(), vec![Effect::Spawn]), (spawned(), vec![])]);
    let checked = |bench: &mut Bench| {
        bench.check(vec![
            (loaded(), vec![Effect::Render]),
            (differs(), vec![Effect::Stage(0)]),
            (staged(), vec![Effect::Run(Job::Check(0))]),
        ]);
    };
    checked(&mut bench);
    bench.check(vec![(ended(), vec![Effect::Install(0)]), (installed(), vec![])]);
    checked(&mut bench);
    bench.wait();
    bench.check(vec![(Event::Due, vec![Effect::SignalChild(1)])]);
    bench.check(vec![(ended(), vec![Effect::Install(0)]), (installed(), vec![])]);
    bench.wait();
    bench.check(vec![(Event::Due, vec![Effect::SignalChild(1)])]);
}

#[test]
fn the_resource_reload_follows_the_childs() {
    let with_reload = |reload, splay| {
        let child = Some(ChildPlan { reload, splay });
        let mut bench = Bench::new(Plan { reload: true, child, ..plan(Mode::Watch, &[""]) });
        up(&mut bench);
        bench
    };
    let mut bench = with_reload(ReloadBy::Signal(1), Duration::ZERO);
    change(&mut bench, vec![Effect::SignalChild(1), Effect::Run(Job::ReloadResource)]);
    bench.check(vec![(ended(), vec![])]);

    // Updates do not wait for the splay. The reload command waits, and runs in an update of its own.
    let told = || vec![Effect::SignalChild(1), Effect::Render];
    let mut bench = with_reload(ReloadBy::Signal(1), SPLAY);
    change(&mut bench, vec![]);
    change(&mut bench, vec![]);
    bench.wait();
    bench.check(vec![(Event::Due, told()), (in_sync(), vec![Effect::Run(Job::ReloadResource)]), (ended(), vec![])]);

    let mut bench = with_reload(ReloadBy::Restart, Duration::ZERO);
    change(&mut bench, vec![Effect::StopChild]);
    bench.check(vec![
        (exited(), vec![Effect::Spawn]),
        (spawned(), vec![Effect::Render]),
        (in_sync(), vec![Effect::Run(Job::ReloadResource)]),
        (ended(), vec![]),
    ]);

    // The reload is still pending if the child ends first.
    let mut bench = with_reload(ReloadBy::Signal(1), SPLAY);
    change(&mut bench, vec![]);
    bench.check(vec![(exited(), vec![])]);
    bench.wait();
    bench.check(vec![
        (Event::Due, vec![Effect::Render]),
        (in_sync(), vec![Effect::Spawn]),
        (spawned(), vec![Effect::Run(Job::ReloadResource)]),
        (ended(), vec![]),
    ]);
}

#[test]
fn fault_03_a_later_templates_error_does_not_suppress_the_childs_reload() {
    let mut bench = child(ReloadBy::Signal(1), Duration::ZERO, &["", "c"]);
    let both = |a, b| Event::Rendered(vec![a, b]);
    bench.check(vec![
        (loaded(), vec![Effect::Render]),
        (both(Rendering::InSync, Rendering::InSync), vec![Effect::Spawn]),
        (spawned(), vec![]),
        (loaded(), vec![Effect::Render]),
        (both(Rendering::Differs, Rendering::Failed(fault("no such key"))), vec![Effect::Stage(0)]),
        (staged(), vec![Effect::Install(0)]),
        (installed(), vec![Effect::SignalChild(1)]),
    ]);
}

#[test]
fn nothing_is_started_on_files_that_are_not_all_there() {
    let mut bench = child(ReloadBy::Restart, Duration::ZERO, &["", "c"]);
    bench.check(vec![
        (loaded(), vec![Effect::Render]),
        (Event::Rendered(vec![Rendering::InSync, Rendering::Failed(fault("no such key"))]), vec![]),
    ]);
    bench.wait();
    bench.check(vec![
        (Event::Due, vec![Effect::Render]),
        (Event::Rendered(vec![Rendering::InSync, Rendering::InSync]), vec![Effect::Spawn]),
    ]);
}

#[test]
fn fault_04_a_child_that_cannot_be_started_is_tried_again() {
    let mut bench = child(ReloadBy::Restart, Duration::ZERO, &[""]);
    let fails = || Event::Spawned(Err(fault("no such file or directory")));
    bench.check(vec![(loaded(), vec![Effect::Render]), (in_sync(), vec![Effect::Spawn])]);
    assert_eq!(bench.lines(fails()).len(), 2, "what failed, and when it is tried again");
    for _ in 0..3 {
        assert!(bench.wait() < Duration::from_secs(30));
        bench.check(vec![(Event::Due, vec![Effect::Render]), (in_sync(), vec![Effect::Spawn])]);
        assert!(bench.lines(fails()).is_empty(), "said once");
    }
    bench.wait();
    bench.check(vec![(Event::Due, vec![Effect::Render]), (in_sync(), vec![Effect::Spawn])]);
    assert_eq!(bench.lines(spawned()), ["child works again failures=4"]);
}

#[test]
fn files_are_kept_true_while_the_child_rests() {
    let mut bench = child(ReloadBy::Signal(1), Duration::ZERO, &[""]);
    up(&mut bench);
    bench.check(vec![(exited(), vec![])]);
    change(&mut bench, vec![]);
    bench.check(vec![(Event::Refresh, vec![Effect::Render]), (in_sync(), vec![])]);
    let mut waited = Duration::ZERO;
    waited += bench.wait();
    assert!(waited < Duration::from_secs(30));
    // The child reads the newest files when it starts, and needs no signal.
    bench.check(vec![(Event::Due, vec![Effect::Render]), (in_sync(), vec![Effect::Spawn]), (spawned(), vec![])]);
}

#[test]
fn a_child_that_ends_during_an_update_comes_up_after_it() {
    let mut bench = child(ReloadBy::Signal(1), Duration::ZERO, &["c"]);
    bench.check(vec![
        (loaded(), vec![Effect::Render]),
        (in_sync(), vec![Effect::Spawn]),
        (spawned(), vec![]),
        (loaded(), vec![Effect::Render]),
        (differs(), vec![Effect::Stage(0)]),
        (staged(), vec![Effect::Run(Job::Check(0))]),
        (exited(), vec![]),
        (ended(), vec![Effect::Install(0)]),
        (installed(), vec![]),
    ]);
    bench.wait();
    bench.check(vec![(Event::Due, vec![Effect::Render]), (in_sync(), vec![Effect::Spawn]), (spawned(), vec![])]);
}

#[test]
fn a_childs_status_is_the_verdict_where_nothing_else_failed() {
    let child = Some(ChildPlan { reload: ReloadBy::Restart, splay: Duration::ZERO });
    let mut bench = Bench::new(Plan { child, ..plan(Mode::OneShot, &["r"]) });
    bench.check(vec![
        (loaded(), vec![Effect::Render]),
        (differs(), vec![Effect::Stage(0)]),
        (staged(), vec![Effect::Install(0)]),
        (installed(), vec![Effect::Run(Job::Reload(0))]),
        (Event::Ended(Err(fault("bad"))), vec![Effect::Spawn]),
        (spawned(), vec![]),
        (exited(), vec![]),
    ]);
    assert_eq!(bench.resource.verdict(), Some(Verdict::Failed));
}

#[test]
fn a_one_shot_run_goes_on_as_long_as_its_child() {
    let child = Some(ChildPlan { reload: ReloadBy::Restart, splay: Duration::ZERO });
    let mut bench = Bench::new(Plan { child, ..plan(Mode::OneShot, &[""]) });
    up(&mut bench);
    assert_eq!(bench.resource.verdict(), None);
    bench.check(vec![(exited(), vec![])]);
    assert_eq!(bench.resource.verdict(), Some(Verdict::ChildEnded { status: 1 }));
    assert_eq!(bench.resource.due(), None);

    let mut bench = Bench::new(Plan { child, ..plan(Mode::OneShot, &[""]) });
    bench.check(vec![
        (loaded(), vec![Effect::Render]),
        (in_sync(), vec![Effect::Spawn]),
        (Event::Spawned(Err(fault("no"))), vec![]),
    ]);
    assert_eq!(bench.resource.verdict(), Some(Verdict::Failed));
}

/// With any order of events, no effect is requested twice before its answer, and a running child is not started again.
#[test]
fn random_events_keep_one_child_and_one_command() {
    for seed in 0..2000 {
        let mut random = Random::new(seed);
        let splay = [Duration::ZERO, SPLAY][random.below(2)];
        let reload = [ReloadBy::Signal(1), ReloadBy::Restart][random.below(2)];
        let child = Some(ChildPlan { reload, splay });
        let start = random.below(2) == 0;
        let mut bench = Bench::new(Plan { start, reload: true, child, ..plan(Mode::Watch, &["cr", "r"]) });
        // The unanswered effects; whether a child runs.
        let (mut open, mut alive): (Vec<Effect>, bool) = (Vec::new(), false);
        // Returns whether the child has to be stopped.
        let feed = |bench: &mut Bench, event: Event, open: &mut Vec<Effect>, alive: &mut bool| {
            let mut stopping = false;
            for effect in bench.on(event) {
                stopping |= effect == Effect::StopChild;
                match effect {
                    Effect::Spawn => assert!(!*alive, "seed {seed}: a second child"),
                    Effect::SignalChild(_) | Effect::StopChild => assert!(*alive, "seed {seed}: there is no child"),
                    _ => {}
                }
                if !matches!(effect, Effect::SignalChild(_) | Effect::StopChild | Effect::Discard(_)) {
                    open.push(effect);
                    let work = open.iter().filter(|effect| **effect != Effect::Spawn).count();
                    assert!(work <= 1 && open.len() <= 2, "seed {seed}: {open:?}");
                }
            }
            stopping
        };
        let mut stopping = false;
        for _ in 0..200 {
            let good = random.below(4) != 0;
            let result = || if good { Ok(()) } else { Err(fault("no")) };
            if !open.is_empty() && random.below(3) != 0 {
                let event = match open.remove(random.below(open.len())) {
                    Effect::Render if good => Event::Rendered(vec![Rendering::Differs, Rendering::InSync]),
                    Effect::Render => Event::Rendered(vec![Rendering::InSync, Rendering::Failed(fault("no"))]),
                    Effect::Stage(_) => Event::Staged(result()),
                    Effect::Install(_) => Event::Installed(result().map(|()| None)),
                    Effect::Run(_) => Event::Ended(result()),
                    Effect::Spawn => {
                        alive = good;
                        Event::Spawned(result())
                    }
                    other => unreachable!("{other:?} is not answered"),
                };
                stopping |= feed(&mut bench, event, &mut open, &mut alive);
            } else if alive && random.below(10) == 0 {
                alive = false;
                stopping = feed(&mut bench, exited(), &mut open, &mut alive);
            } else if random.below(2) == 0 {
                stopping |= feed(&mut bench, loaded(), &mut open, &mut alive);
            } else if let Some(due) = bench.resource.due() {
                bench.now = bench.now.max(due);
                stopping |= feed(&mut bench, Event::Due, &mut open, &mut alive);
            }
        }
        // Without further failures, the resource settles with a running child.
        for _ in 0..100 {
            let event = match open.pop() {
                Some(Effect::Render) => Event::Rendered(vec![Rendering::InSync, Rendering::InSync]),
                Some(Effect::Stage(_)) => staged(),
                Some(Effect::Install(_)) => installed(),
                Some(Effect::Run(_)) => ended(),
                Some(Effect::Spawn) => {
                    alive = true;
                    spawned()
                }
                Some(other) => unreachable!("{other:?} is not answered"),
                None => match bench.resource.due() {
                    Some(due) => {
                        bench.now = bench.now.max(due);
                        Event::Due
                    }
                    None if stopping => {
                        stopping = false;
                        alive = false;
                        exited()
                    }
                    None => break,
                },
            };
            stopping |= feed(&mut bench, event, &mut open, &mut alive);
        }
        let Resource { update, service, reloads: pending, .. } = &bench.resource;
        assert!(alive && open.is_empty(), "seed {seed}: {:?}", bench.resource);
        assert!(matches!((update, service), (Update::Idle, Service::Up)), "seed {seed}: {:?}", bench.resource);
        assert!(!pending.child && !pending.resource && pending.templates == [false; 2], "seed {seed}: {pending:?}");
    }
}

#[test]
fn a_failed_reload_does_not_keep_the_child_from_its_start() {
    let mut bench = child(ReloadBy::Signal(1), Duration::ZERO, &["r"]);
    bench.check(vec![
        (loaded(), vec![Effect::Render]),
        (differs(), vec![Effect::Stage(0)]),
        (staged(), vec![Effect::Install(0)]),
        (installed(), vec![Effect::Run(Job::Reload(0))]),
        (Event::Ended(Err(fault("no service to reload"))), vec![Effect::Spawn]),
        (spawned(), vec![]),
    ]);
    bench.wait();
    bench.check(vec![
        (Event::Due, vec![Effect::Render]),
        (in_sync(), vec![Effect::Run(Job::Reload(0))]),
        (ended(), vec![]),
    ]);
}

#[test]
fn a_child_that_has_died_comes_up_on_its_old_files() {
    let mut bench = child(ReloadBy::Signal(1), Duration::ZERO, &["c"]);
    bench.check(vec![
        (loaded(), vec![Effect::Render]),
        (in_sync(), vec![Effect::Spawn]),
        (spawned(), vec![]),
        (exited(), vec![]),
        (loaded(), vec![Effect::Render]),
        (differs(), vec![Effect::Stage(0)]),
        (staged(), vec![Effect::Run(Job::Check(0))]),
        (Event::Ended(Err(fault("bad"))), vec![Effect::Discard(0)]),
    ]);
    // The retry and the restart of the child come in any order.
    let mut started = false;
    for _ in 0..20 {
        bench.wait();
        for effect in bench.on(Event::Due) {
            assert_eq!(effect, Effect::Render);
        }
        bench.check(vec![(differs(), vec![Effect::Stage(0)]), (staged(), vec![Effect::Run(Job::Check(0))])]);
        let after = bench.on(Event::Ended(Err(fault("bad"))));
        if after == [Effect::Discard(0), Effect::Spawn] {
            bench.check(vec![(spawned(), vec![])]);
            started = true;
            break;
        }
        assert_eq!(after, [Effect::Discard(0)]);
    }
    assert!(started);
}

/// The child must not start with a file that a check would refuse.
#[test]
fn checks_go_on_while_the_child_rests() {
    let child = Some(ChildPlan { reload: ReloadBy::Signal(1), splay: Duration::ZERO });
    let mut bench = Bench::new(Plan { start: true, child, ..plan(Mode::Watch, &["cr"]) });
    bench.check(vec![
        (loaded(), vec![Effect::Render]),
        (differs(), vec![Effect::Stage(0)]),
        (staged(), vec![Effect::Install(0)]),
        (installed(), vec![Effect::Run(Job::Start)]),
        (ended(), vec![Effect::Spawn]),
        (spawned(), vec![]),
        (exited(), vec![]),
        (loaded(), vec![Effect::Render]),
        (differs(), vec![Effect::Stage(0)]),
        (staged(), vec![Effect::Run(Job::Check(0))]),
        (ended(), vec![Effect::Install(0)]),
        // No service runs yet; start_cmd follows.
        (installed(), vec![]),
    ]);
}

#[test]
fn sighup_in_a_one_shot_run_tells_its_child_and_ends_nothing() {
    let child = Some(ChildPlan { reload: ReloadBy::Signal(1), splay: Duration::ZERO });
    let mut bench = Bench::new(Plan { child, ..plan(Mode::OneShot, &[""]) });
    up(&mut bench);
    bench.check(vec![
        (Event::Refresh, vec![Effect::Render]),
        (differs(), vec![Effect::Stage(0)]),
        (staged(), vec![Effect::Install(0)]),
        (installed(), vec![Effect::SignalChild(1)]),
        (Event::Refresh, vec![Effect::Render]),
        (Event::Rendered(vec![Rendering::Failed(fault("no such key"))]), vec![]),
    ]);
    assert_eq!(bench.resource.verdict(), None);
}
