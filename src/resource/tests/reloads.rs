//! The pending reloads that are saved for the next start, at every step of random updates.
//! Writes no file: `state` and `host/state_dir.rs` do.

use std::collections::VecDeque;

use super::*;

fn random_plan(random: &mut Random) -> Plan {
    let templates = ["r", "", "rc"];
    let (reload, start, together) = (random.below(2) == 0, random.below(4) == 0, random.below(2) == 0);
    Plan { reload, start, together, ..plan(Mode::Watch, &templates) }
}

fn outcome(random: &mut Random) -> Result<(), Fault> {
    if random.below(3) == 0 { Err(fault("failed")) } else { Ok(()) }
}

/// The answer to an effect; `None`: it has none.
fn answer(effect: &Effect, random: &mut Random) -> Option<Event> {
    match effect {
        Effect::Render => {
            let one = |random: &mut Random| match random.below(4) {
                0 => Rendering::Failed(fault("failed")),
                1 => Rendering::InSync,
                _ => Rendering::Differs,
            };
            Some(Event::Rendered((0..3).map(|_| one(random)).collect()))
        }
        Effect::Stage(_) => Some(Event::Staged(outcome(random))),
        Effect::Keep(_) => Some(Event::Kept(outcome(random))),
        Effect::PutBack(_) => Some(Event::PutBack(outcome(random))),
        Effect::Install(_) => Some(Event::Installed(outcome(random).map(|()| None))),
        Effect::Run(_) => Some(Event::Ended(outcome(random))),
        _ => None,
    }
}

#[test]
fn what_is_written_before_a_rename_is_pending_after_it() {
    let (mut installed, mut pending, mut put_back) = (0, 0, 0);
    for seed in 0..2000 {
        let mut random = Random::new(seed);
        let plan = random_plan(&mut random);
        let mut bench = Bench::new(plan.clone());
        // What is pending before the first rename of files that are replaced together.
        let mut at_first = None;
        let mut effects = VecDeque::from(bench.on(loaded()));
        for _ in 0..60 {
            let Some(effect) = effects.pop_front() else {
                if let Some(due) = bench.resource.due() {
                    bench.now = bench.now.max(due);
                }
                effects.extend(bench.on(Event::Due));
                effects.extend(bench.on(loaded()));
                continue;
            };
            let Some(event) = answer(&effect, &mut random) else { continue };
            let before = bench.resource.pending_reloads();
            let written = match effect {
                Effect::Install(t) => bench.resource.pending_reloads_with(t),
                _ => before.clone(),
            };
            match effect {
                Effect::Render => at_first = None,
                Effect::Install(_) if plan.together => {
                    _ = at_first.get_or_insert_with(|| (before.clone(), written.clone()))
                }
                _ => {}
            }
            let is_installed = matches!(event, Event::Installed(Ok(_)));
            let is_put_back = matches!(event, Event::Installed(Err(_))) && plan.together;
            let is_failure = matches!(event, Event::Installed(Err(_)) | Event::Ended(Err(_)) | Event::Staged(_));
            let next = bench.on(event);
            let is_last = !next.iter().any(|effect| matches!(effect, Effect::Install(_)));
            effects.extend(next);
            let after = bench.resource.pending_reloads();
            if is_installed {
                match &at_first {
                    // One write for all files.
                    Some((_, first)) => assert_eq!(&written, first, "seed {seed}"),
                    None => assert_eq!(after, written, "seed {seed}"),
                }
                assert!(covers(&written, &after) && (!is_last || written == after), "seed {seed}");
                installed += 1;
            } else if is_put_back {
                assert_eq!(
                    Some(&after),
                    at_first.as_ref().map(|(before, _)| before),
                    "seed {seed}: as before the update"
                );
                put_back += usize::from(before != after);
            } else if is_failure {
                assert_eq!(after, before, "seed {seed}: only a reload that succeeded is no longer pending");
            }
            // The program is killed here.
            let mut next = Bench::new(plan.clone());
            next.resource.resume_reloads(&after);
            assert_eq!(
                next.resource.pending_reloads(),
                if plan.start { PendingReloads::default() } else { after.clone() }
            );
            pending += usize::from(!after.is_empty());
        }
    }
    assert!(installed > 1000 && pending > 1000 && put_back > 30, "{installed} {pending} {put_back}");
}

fn covers(one: &PendingReloads, other: &PendingReloads) -> bool {
    other.templates.iter().all(|dst| one.templates.contains(dst)) && one.resource >= other.resource
}

#[test]
fn what_an_earlier_run_owes_is_made_up() {
    let mut bench = Bench::new(Plan { reload: true, ..plan(Mode::Watch, &["r", "", "rc"]) });
    let reloads = PendingReloads { templates: vec!["/2".into(), "/0".into(), "/gone".into()], resource: true };
    bench.resource.resume_reloads(&reloads);
    assert_eq!(bench.resource.pending_reloads(), PendingReloads { templates: vec!["/2".into()], resource: true });
    let all_in_sync = Event::Rendered(vec![Rendering::InSync, Rendering::InSync, Rendering::InSync]);
    bench.check(vec![
        (loaded(), vec![Effect::Render]),
        (all_in_sync, vec![Effect::Run(Job::Reload(2))]),
        (ended(), vec![Effect::Run(Job::ReloadResource)]),
        (ended(), vec![]),
    ]);
    assert!(
        bench.resource.pending_reloads().is_empty() && bench.resource.take_success() && !bench.resource.take_success()
    );
}

/// The keys of an update are saved even if the keys change all the time.
#[test]
fn a_success_is_told_also_where_the_next_update_begins_at_once() {
    let mut bench = Bench::new(plan(Mode::Watch, &[""]));
    bench.check(vec![(loaded(), vec![Effect::Render]), (loaded(), vec![]), (in_sync(), vec![Effect::Render])]);
    assert!(bench.resource.take_success());
    bench.check(vec![(Event::Rendered(vec![Rendering::Failed(fault("failed"))]), vec![])]);
    assert!(!bench.resource.take_success());
}

/// The template after which a shared command runs may be missing, or be another one, in the next run.
#[test]
fn a_shared_command_is_made_up_whatever_templates_are_left() {
    let shared = |templates: &[&str]| {
        let mut plan = plan(Mode::Watch, templates);
        let last = plan.templates.len() - 1;
        plan.templates.iter_mut().for_each(|template| template.reloaded_by = last);
        plan
    };
    let mut bench = Bench::new(shared(&["r", "rr"]));
    let (one, two) = ("/1", "/2");
    bench.check(vec![
        (loaded(), vec![Effect::Render]),
        (Event::Rendered(vec![Rendering::Differs, Rendering::InSync]), vec![Effect::Stage(0)]),
        (staged(), vec![Effect::Install(0)]),
        (installed(), vec![Effect::Run(Job::Reload(1))]),
    ]);
    let reloads = bench.resource.pending_reloads();
    assert_eq!(reloads, PendingReloads { templates: vec![one.into(), two.into()], resource: false });
    for templates in [&["r"][..], &["rr"], &["rr", "r"], &["rrr", "r"], &["r", "rrr"]] {
        let mut next = Bench::new(shared(templates));
        next.resource.resume_reloads(&reloads);
        let in_sync = Event::Rendered(templates.iter().map(|_| Rendering::InSync).collect());
        let last = templates.len() - 1;
        next.check(vec![(loaded(), vec![Effect::Render]), (in_sync, vec![Effect::Run(Job::Reload(last))])]);
        next.check(vec![(ended(), vec![])]);
        assert!(next.resource.pending_reloads().is_empty(), "{templates:?}");
    }
}
