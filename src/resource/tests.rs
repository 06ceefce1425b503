//! Cases of the state machine: events in, effects out.
//! Uses no clock but the one in the test.

use std::time::Duration;

use super::*;
use crate::state::reloads::PendingReloads;

mod child;
mod commit;
mod guard;
mod reloads;
mod rollback;
mod settle;

/// A resource and a clock of its own.
struct Bench {
    resource: Resource,
    now: Instant,
}

fn plan(mode: Mode, templates: &[&str]) -> Plan {
    Plan {
        mode,
        together: false,
        templates: templates
            .iter()
            .enumerate()
            .map(|(t, what)| TemplatePlan {
                reloaded_by: t,
                dst: format!("/{}", what.len()),
                check: what.contains('c'),
                reload: what.contains('r') || what.contains('R'),
                rolls_back: what.contains('R'),
            })
            .collect(),
        backends: vec!["etcd".into()],
        is_preview: false,
        start: false,
        reload: false,
        rolls_back: false,
        child: None,
        settle: SettlePlan::default(),
        guard: None,
    }
}

impl Bench {
    fn new(plan: Plan) -> Bench {
        Bench { resource: Resource::new(plan, 7), now: Instant::now() }
    }

    /// The effects except log lines.
    fn on(&mut self, event: Event) -> Vec<Effect> {
        let effects = self.resource.on(event, self.now);
        effects.into_iter().filter(|e| !matches!(e, Effect::Log(_))).collect()
    }

    fn lines(&mut self, event: Event) -> Vec<String> {
        let effects = self.resource.on(event, self.now);
        let lines = effects.into_iter().filter_map(|e| match e {
            Effect::Log(line) => Some(line.fields.iter().fold(line.message, |text, (k, v)| format!("{text} {k}={v}"))),
            _ => None,
        });
        lines.collect()
    }

    /// Passes events, and compares the effects of each.
    fn check(&mut self, steps: Vec<(Event, Vec<Effect>)>) {
        for (i, (event, want)) in steps.into_iter().enumerate() {
            let what = format!("step {i}: {event:?}");
            assert_eq!(self.on(event), want, "{what}");
        }
    }

    /// Advances the clock to the due time of the resource.
    fn wait(&mut self) -> Duration {
        let due = self.resource.due().expect("something is due");
        let waited = due - self.now;
        self.now = due;
        waited
    }
}

fn loaded() -> Event {
    Event::Loaded { backend: 0 }
}
fn differs() -> Event {
    Event::Rendered(vec![Rendering::Differs])
}
fn in_sync() -> Event {
    Event::Rendered(vec![Rendering::InSync])
}
fn staged() -> Event {
    Event::Staged(Ok(()))
}
fn installed() -> Event {
    Event::Installed(Ok(None))
}
fn ended() -> Event {
    Event::Ended(Ok(()))
}
fn fault(text: &str) -> Fault {
    Fault::from(text.to_owned())
}

#[test]
fn an_update_stages_checks_installs_reloads_in_this_order() {
    let mut bench = Bench::new(plan(Mode::Watch, &["cr"]));
    bench.check(vec![
        (loaded(), vec![Effect::Render]),
        (differs(), vec![Effect::Stage(0)]),
        (staged(), vec![Effect::Run(Job::Check(0))]),
        (ended(), vec![Effect::Install(0)]),
        (installed(), vec![Effect::Run(Job::Reload(0))]),
        (ended(), vec![]),
    ]);
    assert!(bench.resource.settled());
    assert_eq!(bench.resource.due(), None);
}

/// The program is ending: nothing is logged, nothing is done, and a one-shot run gets no verdict.
#[test]
fn an_interrupted_render_has_not_failed() {
    for mode in [Mode::Watch, Mode::OneShot] {
        let mut bench = Bench::new(plan(mode, &["cr", "cr"]));
        bench.check(vec![
            (loaded(), vec![Effect::Render]),
            (Event::Rendered(vec![Rendering::Differs, Rendering::Interrupted]), vec![]),
        ]);
        assert_eq!(bench.resource.verdict(), None);
        assert!(!bench.resource.is_failing());
        // If the program continues after all, the update runs again.
        assert_eq!(bench.resource.due(), Some(bench.now));
        bench.check(vec![(Event::Due, vec![Effect::Render])]);
    }
}

#[test]
fn nothing_is_done_for_a_file_in_sync() {
    let mut bench = Bench::new(plan(Mode::Watch, &["cr"]));
    bench.check(vec![(loaded(), vec![Effect::Render]), (in_sync(), vec![])]);
    assert!(bench.resource.settled());
}

#[test]
fn templates_come_in_order_and_each_reload_follows_its_file() {
    let mut bench = Bench::new(plan(Mode::Watch, &["r", "c", ""]));
    bench.check(vec![
        (loaded(), vec![Effect::Render]),
        (Event::Rendered(vec![Rendering::Differs, Rendering::Differs, Rendering::Differs]), vec![Effect::Stage(0)]),
        (staged(), vec![Effect::Install(0)]),
        (installed(), vec![Effect::Run(Job::Reload(0))]),
        (ended(), vec![Effect::Stage(1)]),
        (staged(), vec![Effect::Run(Job::Check(1))]),
        (ended(), vec![Effect::Install(1)]),
        (installed(), vec![Effect::Stage(2)]),
        (staged(), vec![Effect::Install(2)]),
        (installed(), vec![]),
    ]);
}

#[test]
fn changes_during_an_update_make_one_more_update() {
    let mut bench = Bench::new(plan(Mode::Watch, &["c"]));
    bench.check(vec![
        (loaded(), vec![Effect::Render]),
        (differs(), vec![Effect::Stage(0)]),
        (staged(), vec![Effect::Run(Job::Check(0))]),
        (loaded(), vec![]),
        (loaded(), vec![]),
        (ended(), vec![Effect::Install(0)]),
        (installed(), vec![Effect::Render]),
        (in_sync(), vec![]),
    ]);
}

#[test]
fn nothing_is_rendered_before_every_backend_has_given_its_keys() {
    let mut bench = Bench::new(Plan { backends: vec!["etcd".into(), "file".into()], ..plan(Mode::Watch, &[""]) });
    bench.check(vec![
        (Event::Loaded { backend: 1 }, vec![]),
        (Event::Unreachable { backend: 0, error: "refused".into() }, vec![]),
        (Event::Reached { backend: 0 }, vec![]),
        (Event::Loaded { backend: 0 }, vec![Effect::Render]),
    ]);
}

#[test]
fn a_failed_check_keeps_the_old_file_and_is_tried_again() {
    let mut bench = Bench::new(plan(Mode::Watch, &["cr"]));
    for want in [1, 2, 4, 8, 16, 32, 60, 60] {
        let event = if want == 1 { loaded() } else { Event::Due };
        bench.check(vec![
            (event, vec![Effect::Render]),
            (differs(), vec![Effect::Stage(0)]),
            (staged(), vec![Effect::Run(Job::Check(0))]),
            (Event::Ended(Err(fault("exited with status 2"))), vec![Effect::Discard(0)]),
        ]);
        assert_eq!(bench.wait(), Duration::from_secs(want));
    }
}

#[test]
fn a_failed_check_does_not_hold_up_newer_keys() {
    let mut bench = Bench::new(plan(Mode::Watch, &["c"]));
    bench.check(vec![
        (loaded(), vec![Effect::Render]),
        (differs(), vec![Effect::Stage(0)]),
        (staged(), vec![Effect::Run(Job::Check(0))]),
        (loaded(), vec![]),
        (Event::Ended(Err(fault("bad"))), vec![Effect::Discard(0), Effect::Render]),
        (in_sync(), vec![]),
    ]);
    assert_eq!(bench.resource.due(), None);
}

#[test]
fn a_resource_inherits_pending_reloads() {
    let mut before = Bench::new(plan(Mode::Watch, &["r"]));
    before.check(vec![
        (loaded(), vec![Effect::Render]),
        (differs(), vec![Effect::Stage(0)]),
        (staged(), vec![Effect::Install(0)]),
        (installed(), vec![Effect::Run(Job::Reload(0))]),
    ]);
    let check = |plan: Plan, want: Vec<Effect>| {
        let in_sync = plan.templates.iter().map(|_| Rendering::InSync).collect();
        let mut after = Bench::new(plan);
        after.resource.inherit(&before.resource);
        after.check(vec![(loaded(), vec![Effect::Render]), (Event::Rendered(in_sync), want)]);
    };
    check(plan(Mode::Watch, &["r"]), vec![Effect::Run(Job::Reload(0))]);
    check(plan(Mode::Watch, &["rc", "r"]), vec![Effect::Run(Job::Reload(1))]);
    check(plan(Mode::Watch, &["rc"]), vec![]);
    check(plan(Mode::Watch, &["c"]), vec![]);
    check(Plan { start: true, ..plan(Mode::Watch, &["r"]) }, vec![Effect::Run(Job::Start)]);
}

#[test]
fn a_resource_reload_is_inherited_with_and_without_a_child() {
    let with_reload = || Plan { reload: true, ..plan(Mode::Watch, &[""]) };
    let mut before = Bench::new(with_reload());
    before.check(vec![(loaded(), vec![Effect::Render]), (in_sync(), vec![])]);
    change(&mut before, vec![Effect::Run(Job::ReloadResource)]);
    let mut after = Bench::new(with_reload());
    after.resource.inherit(&before.resource);
    after.check(vec![(loaded(), vec![Effect::Render]), (in_sync(), vec![Effect::Run(Job::ReloadResource)])]);
    let child = Some(ChildPlan { reload: ReloadBy::Restart, splay: Duration::ZERO });
    let mut after = Bench::new(Plan { child, ..with_reload() });
    after.resource.inherit(&before.resource);
    after.check(vec![
        (loaded(), vec![Effect::Render]),
        (in_sync(), vec![Effect::Spawn]),
        (spawned(), vec![Effect::Run(Job::ReloadResource)]),
    ]);
}

#[test]
fn fault_02_a_failed_reload_is_tried_again() {
    let mut bench = Bench::new(plan(Mode::Watch, &["r"]));
    bench.check(vec![
        (loaded(), vec![Effect::Render]),
        (differs(), vec![Effect::Stage(0)]),
        (staged(), vec![Effect::Install(0)]),
        (installed(), vec![Effect::Run(Job::Reload(0))]),
        (Event::Ended(Err(fault("exited with status 1"))), vec![]),
    ]);
    bench.wait();
    bench.check(vec![
        (Event::Due, vec![Effect::Render]),
        (in_sync(), vec![Effect::Run(Job::Reload(0))]),
        (ended(), vec![]),
    ]);
    assert!(bench.resource.settled());
}

#[test]
fn fault_03_a_later_templates_error_does_not_suppress_the_resource_reload() {
    let mut bench = Bench::new(Plan { reload: true, ..plan(Mode::Watch, &["", "c"]) });
    let both = |a, b| Event::Rendered(vec![a, b]);
    // The first files of a resource call for no reload.
    bench.check(vec![(loaded(), vec![Effect::Render]), (both(Rendering::InSync, Rendering::InSync), vec![])]);
    // The reload of the installed file runs, however long the other template fails.
    bench.check(vec![
        (loaded(), vec![Effect::Render]),
        (both(Rendering::Differs, Rendering::Failed(fault("no such key"))), vec![Effect::Stage(0)]),
        (staged(), vec![Effect::Install(0)]),
        (installed(), vec![Effect::Run(Job::ReloadResource)]),
        (Event::Ended(Err(fault("no"))), vec![]),
    ]);
    bench.wait();
    bench.check(vec![
        (Event::Due, vec![Effect::Render]),
        (both(Rendering::InSync, Rendering::Failed(fault("no such key"))), vec![Effect::Run(Job::ReloadResource)]),
        (ended(), vec![]),
    ]);
    bench.wait();
    bench.check(vec![(Event::Due, vec![Effect::Render]), (both(Rendering::InSync, Rendering::InSync), vec![])]);
    assert!(bench.resource.settled());
}

#[test]
fn one_broken_template_does_not_hold_up_the_others() {
    let mut bench = Bench::new(plan(Mode::OneShot, &["c", ""]));
    bench.check(vec![
        (loaded(), vec![Effect::Render]),
        (Event::Rendered(vec![Rendering::Failed(fault("x")), Rendering::Differs]), vec![Effect::Stage(1)]),
        (staged(), vec![Effect::Install(1)]),
        (installed(), vec![]),
    ]);
    assert_eq!(bench.resource.verdict(), Some(Verdict::Failed));
}

#[test]
fn fault_05_a_one_shot_run_with_a_failing_backend_writes_nothing() {
    let mut bench = Bench::new(Plan { backends: vec!["file".into(), "etcd".into()], ..plan(Mode::OneShot, &[""]) });
    bench.check(vec![
        (Event::Loaded { backend: 0 }, vec![]),
        (Event::Unreachable { backend: 1, error: "refused".into() }, vec![]),
    ]);
    assert_eq!(bench.resource.verdict(), Some(Verdict::Failed));
    bench.check(vec![(Event::Loaded { backend: 1 }, vec![])]);
}

#[test]
fn a_one_shot_run_succeeds_when_all_is_in_place() {
    let mut bench = Bench::new(plan(Mode::OneShot, &["r"]));
    bench.check(vec![
        (loaded(), vec![Effect::Render]),
        (differs(), vec![Effect::Stage(0)]),
        (staged(), vec![Effect::Install(0)]),
        (installed(), vec![Effect::Run(Job::Reload(0))]),
    ]);
    assert_eq!(bench.resource.verdict(), None);
    bench.check(vec![(ended(), vec![])]);
    assert_eq!(bench.resource.verdict(), Some(Verdict::Succeeded));
}

#[test]
fn start_cmd_stands_in_for_the_first_checks_and_reloads() {
    let mut bench = Bench::new(Plan { start: true, reload: true, ..plan(Mode::Watch, &["cr"]) });
    bench.check(vec![
        (loaded(), vec![Effect::Render]),
        (differs(), vec![Effect::Stage(0)]),
        (staged(), vec![Effect::Install(0)]),
        (installed(), vec![Effect::Run(Job::Start)]),
        (ended(), vec![]),
    ]);
    bench.check(vec![
        (loaded(), vec![Effect::Render]),
        (differs(), vec![Effect::Stage(0)]),
        (staged(), vec![Effect::Run(Job::Check(0))]),
        (ended(), vec![Effect::Install(0)]),
        (installed(), vec![Effect::Run(Job::Reload(0))]),
        (ended(), vec![Effect::Run(Job::ReloadResource)]),
        (ended(), vec![]),
    ]);
}

#[test]
fn a_failed_start_cmd_is_tried_again_within_half_a_minute() {
    let mut bench = Bench::new(Plan { start: true, ..plan(Mode::Watch, &[""]) });
    bench.check(vec![
        (loaded(), vec![Effect::Render]),
        (in_sync(), vec![Effect::Run(Job::Start)]),
        (Event::Ended(Err(fault("exited with status 1"))), vec![]),
    ]);
    assert!(!bench.resource.settled());
    assert!(bench.wait() < Duration::from_secs(30));
    bench.check(vec![
        (Event::Due, vec![Effect::Render]),
        (in_sync(), vec![Effect::Run(Job::Start)]),
        (ended(), vec![]),
    ]);
    assert!(bench.resource.settled());
}

#[test]
fn a_failed_resource_reload_stays_pending() {
    let mut bench = Bench::new(Plan { reload: true, ..plan(Mode::Watch, &[""]) });
    bench.check(vec![
        (loaded(), vec![Effect::Render]),
        (in_sync(), vec![]),
        (loaded(), vec![Effect::Render]),
        (differs(), vec![Effect::Stage(0)]),
        (staged(), vec![Effect::Install(0)]),
        (installed(), vec![Effect::Run(Job::ReloadResource)]),
        (Event::Ended(Err(fault("no"))), vec![]),
    ]);
    bench.wait();
    bench.check(vec![
        (Event::Due, vec![Effect::Render]),
        (in_sync(), vec![Effect::Run(Job::ReloadResource)]),
        (ended(), vec![]),
    ]);
}

#[test]
fn a_failure_that_repeats_is_logged_when_it_begins_changes_and_ends() {
    let mut bench = Bench::new(plan(Mode::Watch, &[""]));
    let unreachable = |error: &str| Event::Unreachable { backend: 0, error: error.into() };
    assert_eq!(bench.lines(unreachable("refused")), ["backend error backend=etcd error=refused"]);
    assert!(bench.lines(unreachable("refused")).is_empty());
    assert_eq!(bench.lines(unreachable("timed out")), ["backend error backend=etcd error=timed out"]);
    assert_eq!(bench.lines(Event::Reached { backend: 0 }), ["backend works again backend=etcd failures=3"]);
    assert!(bench.lines(Event::Reached { backend: 0 }).is_empty());
}

#[test]
fn a_day_of_retries_stays_at_one_a_minute() {
    let mut bench = Bench::new(plan(Mode::Watch, &[""]));
    bench.on(loaded());
    let begin = bench.now;
    let mut rounds = 0;
    while bench.now - begin < Duration::from_secs(24 * 3600) {
        assert!(bench.on(Event::Rendered(vec![Rendering::Failed(fault("no such key"))])).is_empty());
        bench.wait();
        assert_eq!(bench.on(Event::Due), [Effect::Render]);
        rounds += 1;
    }
    assert!((1440..1450).contains(&rounds), "{rounds}");
}

#[test]
fn due_before_its_time_does_nothing() {
    let mut bench = Bench::new(plan(Mode::Watch, &[""]));
    bench.check(vec![
        (Event::Due, vec![]),
        (loaded(), vec![Effect::Render]),
        (Event::Rendered(vec![Rendering::Failed(fault("x"))]), vec![]),
        (Event::Due, vec![]),
    ]);
}

#[test]
fn a_pending_reload_does_not_wait_for_a_newer_file_that_fails() {
    let mut bench = Bench::new(plan(Mode::Watch, &["cr"]));
    bench.check(vec![
        (loaded(), vec![Effect::Render]),
        (differs(), vec![Effect::Stage(0)]),
        (staged(), vec![Effect::Run(Job::Check(0))]),
        (ended(), vec![Effect::Install(0)]),
        (installed(), vec![Effect::Run(Job::Reload(0))]),
        (Event::Ended(Err(fault("exited with status 1"))), vec![]),
    ]);
    // The service has not read the file in place, and its reload does not wait for the next file.
    bench.check(vec![
        (loaded(), vec![Effect::Render]),
        (differs(), vec![Effect::Stage(0)]),
        (staged(), vec![Effect::Run(Job::Check(0))]),
        (Event::Ended(Err(fault("bad"))), vec![Effect::Discard(0), Effect::Run(Job::Reload(0))]),
        (Event::Ended(Err(fault("exited with status 1"))), vec![]),
        (loaded(), vec![Effect::Render]),
        (differs(), vec![Effect::Stage(0)]),
        (Event::Staged(Err(fault("no space left"))), vec![Effect::Run(Job::Reload(0))]),
        (ended(), vec![]),
    ]);
    bench.wait();
    bench.check(vec![
        (Event::Due, vec![Effect::Render]),
        (differs(), vec![Effect::Stage(0)]),
        (Event::Staged(Err(fault("no space left"))), vec![]),
    ]);
}

#[test]
fn a_start_cmd_that_keeps_failing_is_logged_once() {
    let mut bench = Bench::new(Plan { start: true, ..plan(Mode::Watch, &[""]) });
    let failing = |bench: &mut Bench, event, why: &str| {
        bench.check(vec![(event, vec![Effect::Render]), (in_sync(), vec![Effect::Run(Job::Start)])]);
        let lines = bench.lines(Event::Ended(Err(fault(why))));
        bench.wait();
        lines.len()
    };
    assert_eq!(failing(&mut bench, loaded(), "exited with status 1"), 2);
    assert_eq!(failing(&mut bench, Event::Due, "exited with status 1"), 0);
    assert_eq!(failing(&mut bench, Event::Due, "exited with status 2"), 2);
}

#[test]
fn a_success_starts_the_count_of_failures_over() {
    let mut bench = Bench::new(plan(Mode::Watch, &[""]));
    let failed = || Event::Rendered(vec![Rendering::Failed(fault("x"))]);
    for _ in 0..2 {
        bench.check(vec![(loaded(), vec![Effect::Render]), (failed(), vec![])]);
        assert_eq!(bench.wait(), Duration::from_secs(1));
        bench.check(vec![(Event::Due, vec![Effect::Render]), (failed(), vec![])]);
        assert_eq!(bench.wait(), Duration::from_secs(2));
        bench.check(vec![(Event::Due, vec![Effect::Render]), (in_sync(), vec![])]);
        assert_eq!(bench.resource.due(), None);
    }
}

#[test]
fn an_event_during_an_update_changes_only_what_comes_after_it() {
    let interruptions: [fn() -> Event; 5] = [
        loaded,
        || Event::Refresh,
        || Event::Due,
        || Event::Unreachable { backend: 0, error: "refused".into() },
        || Event::Reached { backend: 0 },
    ];
    for (i, interruption) in interruptions.into_iter().enumerate() {
        let mut bench = Bench::new(Plan { reload: true, ..plan(Mode::Watch, &["cr"]) });
        bench.check(vec![(loaded(), vec![Effect::Render]), (in_sync(), vec![])]);
        bench.check(vec![
            (loaded(), vec![Effect::Render]),
            (interruption(), vec![]),
            (differs(), vec![Effect::Stage(0)]),
            (interruption(), vec![]),
            (staged(), vec![Effect::Run(Job::Check(0))]),
            (interruption(), vec![]),
            (ended(), vec![Effect::Install(0)]),
            (interruption(), vec![]),
            (installed(), vec![Effect::Run(Job::Reload(0))]),
            (interruption(), vec![]),
            (ended(), vec![Effect::Run(Job::ReloadResource)]),
            (interruption(), vec![]),
        ]);
        assert_eq!(bench.resource.due(), None, "nothing is due while an update runs");
        assert!(!bench.resource.settled());
        let again = if i < 2 { vec![Effect::Render] } else { vec![] };
        bench.check(vec![(ended(), again)]);
    }
}

#[test]
fn a_refresh_waits_for_the_keys_and_ends_a_delay() {
    let mut bench = Bench::new(plan(Mode::Watch, &[""]));
    bench.check(vec![
        (Event::Refresh, vec![]),
        (loaded(), vec![Effect::Render]),
        (Event::Rendered(vec![Rendering::Failed(fault("x"))]), vec![]),
        (Event::Refresh, vec![Effect::Render]),
        (in_sync(), vec![]),
    ]);
    assert!(bench.resource.settled());
}

#[test]
fn keys_that_were_read_stay_good_while_a_backend_is_away() {
    let mut bench = Bench::new(Plan { backends: vec!["etcd".into(), "file".into()], ..plan(Mode::Watch, &[""]) });
    bench.check(vec![
        (loaded(), vec![]),
        (Event::Loaded { backend: 1 }, vec![Effect::Render]),
        (in_sync(), vec![]),
        (Event::Unreachable { backend: 0, error: "refused".into() }, vec![]),
        (Event::Loaded { backend: 1 }, vec![Effect::Render]),
        (in_sync(), vec![]),
    ]);
}

#[test]
fn a_one_shot_run_has_one_round_and_one_verdict() {
    let mut bench = Bench::new(Plan { reload: true, ..plan(Mode::OneShot, &["c"]) });
    bench.check(vec![
        (loaded(), vec![Effect::Render]),
        (differs(), vec![Effect::Stage(0)]),
        (staged(), vec![Effect::Run(Job::Check(0))]),
        // The run does not wait for later reports, and they change nothing.
        (loaded(), vec![]),
        (Event::Unreachable { backend: 0, error: "refused".into() }, vec![]),
        (ended(), vec![Effect::Install(0)]),
        (installed(), vec![]),
    ]);
    assert_eq!(bench.resource.verdict(), Some(Verdict::Succeeded));
    bench.check(vec![(Event::Refresh, vec![]), (loaded(), vec![]), (Event::Due, vec![])]);
    assert_eq!(bench.resource.verdict(), Some(Verdict::Succeeded));
    assert_eq!(bench.resource.due(), None);
}

#[test]
fn every_failure_fails_a_one_shot_run_and_none_is_tried_again() {
    let bad = || fault("bad");
    let failures: [(Plan, Vec<Event>); 6] = [
        (plan(Mode::OneShot, &["cr"]), vec![Event::Rendered(vec![Rendering::Failed(bad())])]),
        (plan(Mode::OneShot, &["cr"]), vec![differs(), Event::Staged(Err(bad()))]),
        (plan(Mode::OneShot, &["cr"]), vec![differs(), staged(), Event::Ended(Err(bad()))]),
        (plan(Mode::OneShot, &["r"]), vec![differs(), staged(), Event::Installed(Err(bad()))]),
        (plan(Mode::OneShot, &["r"]), vec![differs(), staged(), installed(), Event::Ended(Err(bad()))]),
        (Plan { start: true, ..plan(Mode::OneShot, &[""]) }, vec![in_sync(), Event::Ended(Err(bad()))]),
    ];
    for (plan, events) in failures {
        let mut bench = Bench::new(plan);
        bench.on(loaded());
        for event in events {
            assert_eq!(bench.resource.verdict(), None, "{event:?}");
            bench.on(event);
        }
        assert_eq!(bench.resource.verdict(), Some(Verdict::Failed));
        assert_eq!(bench.resource.due(), None);
    }
}

#[test]
fn a_resource_without_templates_runs_its_start_cmd() {
    let mut bench = Bench::new(Plan { start: true, ..plan(Mode::Watch, &[]) });
    bench.check(vec![
        (loaded(), vec![Effect::Render]),
        (Event::Rendered(vec![]), vec![Effect::Run(Job::Start)]),
        (ended(), vec![]),
        (loaded(), vec![Effect::Render]),
        (Event::Rendered(vec![]), vec![]),
    ]);
    assert!(bench.resource.settled());
}

const SPLAY: Duration = Duration::from_secs(40);

fn child(reload: ReloadBy, splay: Duration, templates: &[&str]) -> Bench {
    let child = Some(ChildPlan { reload, splay });
    Bench::new(Plan { child, ..plan(Mode::Watch, templates) })
}

fn spawned() -> Event {
    Event::Spawned(Ok(()))
}

fn exited() -> Event {
    Event::ChildExited { how: "it exited with status 1".to_owned(), status: 1 }
}

/// Brings the resource up to a running child.
fn up(bench: &mut Bench) {
    bench.check(vec![
        (loaded(), vec![Effect::Render]),
        (differs(), vec![Effect::Stage(0)]),
        (staged(), vec![Effect::Install(0)]),
        (installed(), vec![Effect::Spawn]),
        (spawned(), vec![]),
    ]);
}

/// A new file up to the moment when it is in place.
fn change(bench: &mut Bench, after: Vec<Effect>) {
    bench.check(vec![
        (loaded(), vec![Effect::Render]),
        (differs(), vec![Effect::Stage(0)]),
        (staged(), vec![Effect::Install(0)]),
        (installed(), after),
    ]);
}

/// The line about a failed round: a failed reload is not called a failed render.
#[test]
fn the_reason_of_a_retry_is_told_as_it_is() {
    let mut bench = Bench::new(plan(Mode::Watch, &["r"]));
    bench.check(vec![(loaded(), vec![Effect::Render])]);
    let lines = bench.lines(Event::Rendered(vec![Rendering::Failed(fault("bad"))]));
    assert_eq!(lines.last().unwrap(), "not all templates could be rendered, trying again after 1 second");
    bench.wait();
    bench.check(vec![
        (Event::Due, vec![Effect::Render]),
        (differs(), vec![Effect::Stage(0)]),
        (staged(), vec![Effect::Install(0)]),
        (installed(), vec![Effect::Run(Job::Reload(0))]),
        (ended(), vec![]),
        (loaded(), vec![Effect::Render]),
        (differs(), vec![Effect::Stage(0)]),
        (staged(), vec![Effect::Install(0)]),
        (installed(), vec![Effect::Run(Job::Reload(0))]),
    ]);
    let lines = bench.lines(Event::Ended(Err(fault("exited with status 1"))));
    assert_eq!(lines.last().unwrap(), "not all reload commands have succeeded, trying again after 1 second");
}

#[test]
fn only_the_first_files_go_unchecked_when_start_cmd_fails() {
    let mut bench = Bench::new(Plan { start: true, ..plan(Mode::Watch, &["c"]) });
    bench.check(vec![
        (loaded(), vec![Effect::Render]),
        (differs(), vec![Effect::Stage(0)]),
        (staged(), vec![Effect::Install(0)]),
        (installed(), vec![Effect::Run(Job::Start)]),
        (Event::Ended(Err(fault("no"))), vec![]),
        (loaded(), vec![Effect::Render]),
        (differs(), vec![Effect::Stage(0)]),
        (staged(), vec![Effect::Run(Job::Check(0))]),
    ]);
    assert!(!bench.resource.has_started());
}

#[test]
fn output_that_differs_in_numbers_only_is_no_other_failure() {
    let mut bench = Bench::new(plan(Mode::Watch, &[""]));
    let mut failing = |detail: &str| {
        let fault = Fault { message: "check command exited with status 1".into(), detail: Some(detail.into()) };
        bench.on(Event::Refresh);
        bench.on(loaded());
        bench.lines(Event::Rendered(vec![Rendering::Failed(fault)])).len()
    };
    assert_eq!(failing("2026/11/25 02:40:01 [emerg] 17#17: no host"), 2);
    assert_eq!(failing("2026/11/25 02:40:02 [emerg] 9#9: no host"), 0);
    assert_eq!(failing("2026/11/25 02:40:03 [emerg] 9#9: no port"), 1);
}

#[test]
fn what_is_wrong_with_a_template_at_the_start_is_told_once() {
    let mut bench = Bench::new(plan(Mode::Watch, &["a"]));
    let broken = || Event::NotCompiled { template: 0, fault: fault("no endif") };
    assert_eq!(bench.lines(broken()), ["failed to process config=/1 error=no endif"]);
    assert!(bench.resource.is_failing());
    bench.check(vec![(loaded(), vec![Effect::Render])]);
    let lines = bench.lines(Event::Rendered(vec![Rendering::Failed(fault("no endif"))]));
    assert!(lines.iter().all(|line| !line.contains("no endif")), "{lines:?}");
    bench.wait();
    bench.check(vec![(Event::Due, vec![Effect::Render])]);
    assert!(bench.lines(in_sync()).iter().any(|line| line.starts_with("template works again")));
}

#[test]
fn a_template_that_is_mended_before_the_keys_are_there_works() {
    let mut bench = Bench::new(plan(Mode::OneShot, &["a"]));
    bench.check(vec![
        (Event::NotCompiled { template: 0, fault: fault("no such file") }, vec![]),
        (loaded(), vec![Effect::Render]),
        (in_sync(), vec![]),
    ]);
    assert_eq!(bench.resource.verdict(), Some(Verdict::Succeeded));
}

/// The command runs after the last of the templates, whichever of them changed or failed.
#[test]
fn equal_reload_commands_run_once() {
    let mut plan = plan(Mode::Watch, &["r", "cr", "rr", "r2"]);
    (plan.templates[0].reloaded_by, plan.templates[1].reloaded_by) = (2, 2);
    let all = |list: [Rendering; 4]| Event::Rendered(list.into());
    use Rendering::{Differs, InSync};
    let mut bench = Bench::new(plan);
    bench.check(vec![
        (loaded(), vec![Effect::Render]),
        (all([Differs, Differs, InSync, Differs]), vec![Effect::Stage(0)]),
        (staged(), vec![Effect::Install(0)]),
        (installed(), vec![Effect::Stage(1)]),
        (staged(), vec![Effect::Run(Job::Check(1))]),
        (Event::Ended(Err(fault("bad"))), vec![Effect::Discard(1), Effect::Run(Job::Reload(2))]),
        (Event::Ended(Err(fault("no"))), vec![Effect::Stage(3)]),
        (staged(), vec![Effect::Install(3)]),
        (installed(), vec![Effect::Run(Job::Reload(3))]),
        (ended(), vec![]),
    ]);
    // It is pending, also where the template that runs it fails.
    bench.wait();
    bench.check(vec![
        (Event::Due, vec![Effect::Render]),
        (all([InSync, InSync, Rendering::Failed(fault("no such key")), InSync]), vec![Effect::Run(Job::Reload(2))]),
        (ended(), vec![]),
    ]);
}
