//! Files that are put back when their reload fails: which ones, when, and which results are not retried.
//! Uses no clock but the one in the test.

use super::*;

fn rolling_back(templates: &[&str]) -> Bench {
    Bench::new(plan(Mode::Watch, templates))
}

fn all_differ(count: usize) -> Event {
    Event::Rendered((0..count).map(|_| Rendering::Differs).collect())
}

fn rejected() -> Event {
    Event::Rendered(vec![Rendering::Rejected])
}

fn kept() -> Event {
    Event::Kept(Ok(()))
}

fn put_back() -> Event {
    Event::PutBack(Ok(()))
}

fn failed() -> Event {
    Event::Ended(Err(fault("exit status 1")))
}

#[test]
fn the_old_file_is_back_when_the_reload_fails_and_the_result_is_not_tried_again() {
    let mut bench = rolling_back(&["cR"]);
    bench.check(vec![
        (loaded(), vec![Effect::Render]),
        (differs(), vec![Effect::Stage(0)]),
        (staged(), vec![Effect::Run(Job::Check(0))]),
        (ended(), vec![Effect::Keep(0)]),
        (kept(), vec![Effect::Install(0)]),
        (installed(), vec![Effect::Run(Job::Reload(0))]),
        (failed(), vec![Effect::PutBack(0)]),
        (put_back(), vec![Effect::Run(Job::Reload(0))]),
        (ended(), vec![]),
    ]);
    assert!(
        bench.resource.is_failing() && bench.resource.is_rolled_back() && bench.resource.pending_reloads().is_empty()
    );
    assert_eq!(bench.resource.due(), None, "nothing is tried again by itself");
    // An interval, or a change of another key.
    bench.check(vec![(loaded(), vec![Effect::Render]), (rejected(), vec![])]);
    assert!(bench.resource.is_rolled_back() && bench.resource.due().is_none());
    // Another result is installed.
    bench.check(vec![
        (loaded(), vec![Effect::Render]),
        (differs(), vec![Effect::Stage(0)]),
        (staged(), vec![Effect::Run(Job::Check(0))]),
        (ended(), vec![Effect::Keep(0)]),
        (kept(), vec![Effect::Install(0)]),
        (installed(), vec![Effect::Run(Job::Reload(0))]),
    ]);
    let lines = bench.lines(ended());
    assert_eq!(lines, ["the update that was rolled back has been replaced config=/2 failures=1"]);
    assert!(!bench.resource.is_failing() && !bench.resource.is_rolled_back());
}

#[test]
fn keys_that_come_back_end_the_failure_and_the_result_is_tried_after_them() {
    let mut bench = rolling_back(&["R"]);
    for event in [loaded(), differs(), staged(), kept(), installed(), failed(), put_back(), ended()] {
        bench.on(event);
    }
    bench.check(vec![(loaded(), vec![Effect::Render]), (in_sync(), vec![])]);
    assert!(!bench.resource.is_failing() && bench.resource.settled());
    bench.check(vec![(loaded(), vec![Effect::Render]), (rejected(), vec![Effect::Stage(0)])]);
}

#[test]
fn sighup_tries_again() {
    let mut bench = rolling_back(&["R"]);
    for event in [loaded(), differs(), staged(), kept(), installed(), failed(), put_back(), ended()] {
        bench.on(event);
    }
    bench.check(vec![
        (Event::Refresh, vec![Effect::Render]),
        (rejected(), vec![Effect::Stage(0)]),
        (staged(), vec![Effect::Keep(0)]),
        (kept(), vec![Effect::Install(0)]),
        (installed(), vec![Effect::Run(Job::Reload(0))]),
        (ended(), vec![Effect::Forget(0)]),
    ]);
    assert!(bench.resource.settled() && !bench.resource.is_failing());
}

#[test]
fn a_reload_that_fails_for_the_old_file_too_stays_pending() {
    let mut bench = rolling_back(&["R"]);
    for event in [loaded(), differs(), staged(), kept(), installed(), failed()] {
        bench.on(event);
    }
    bench.check(vec![(put_back(), vec![Effect::Run(Job::Reload(0))]), (failed(), vec![])]);
    assert!(!bench.resource.pending_reloads().is_empty());
    assert_eq!(bench.wait(), Duration::from_secs(1));
    bench.check(vec![
        (Event::Due, vec![Effect::Render]),
        (rejected(), vec![Effect::Run(Job::Reload(0))]),
        (failed(), vec![]),
    ]);
    assert_eq!(bench.wait(), Duration::from_secs(2));
    bench.check(vec![
        (Event::Due, vec![Effect::Render]),
        (rejected(), vec![Effect::Run(Job::Reload(0))]),
        (ended(), vec![]),
    ]);
    assert!(
        bench.resource.pending_reloads().is_empty()
            && bench.resource.is_rolled_back()
            && bench.resource.due().is_none()
    );
}

#[test]
fn a_one_shot_run_has_failed() {
    let mut bench = Bench::new(plan(Mode::OneShot, &["R"]));
    for event in [loaded(), differs(), staged(), kept(), installed(), failed(), put_back(), ended()] {
        bench.on(event);
    }
    assert_eq!(bench.resource.verdict(), Some(Verdict::Failed));
}

#[test]
fn each_template_is_put_back_alone_and_together_all_are() {
    let mut bench = rolling_back(&["r", "R"]);
    bench.check(vec![
        (loaded(), vec![Effect::Render]),
        (all_differ(2), vec![Effect::Stage(0)]),
        (staged(), vec![Effect::Install(0)]),
        (installed(), vec![Effect::Run(Job::Reload(0))]),
        (ended(), vec![Effect::Stage(1)]),
        (staged(), vec![Effect::Keep(1)]),
        (kept(), vec![Effect::Install(1)]),
        (installed(), vec![Effect::Run(Job::Reload(1))]),
        (failed(), vec![Effect::PutBack(1)]),
        (put_back(), vec![Effect::Run(Job::Reload(1))]),
        (ended(), vec![]),
    ]);
    let mut bench = Bench::new(Plan { together: true, ..plan(Mode::Watch, &["r", "R"]) });
    bench.check(vec![
        (loaded(), vec![Effect::Render]),
        (all_differ(2), vec![Effect::Stage(0)]),
        (staged(), vec![Effect::Stage(1)]),
        (staged(), vec![Effect::Keep(0)]),
        (kept(), vec![Effect::Keep(1)]),
        (kept(), vec![Effect::Journal(vec![0, 1]), Effect::Install(0)]),
        (installed(), vec![Effect::Install(1)]),
        (installed(), vec![Effect::EndJournal, Effect::Run(Job::Reload(0))]),
        (ended(), vec![Effect::Run(Job::Reload(1))]),
        (failed(), vec![Effect::PutBack(1)]),
        (put_back(), vec![Effect::PutBack(0)]),
        // The first service has read the new file.
        (put_back(), vec![Effect::Run(Job::Reload(0))]),
        (ended(), vec![Effect::Run(Job::Reload(1))]),
        (ended(), vec![]),
    ]);
    // One of the files has another result: all are installed, because the files belong to one update.
    let one_is_new = Event::Rendered(vec![Rendering::Differs, Rendering::Rejected]);
    bench.check(vec![
        (loaded(), vec![Effect::Render]),
        (one_is_new, vec![Effect::Stage(0)]),
        (staged(), vec![Effect::Stage(1)]),
    ]);
}

/// Brings a resource with a child up, and begins an update of its one file.
fn with_child(plan: Plan) -> Bench {
    let child = Some(ChildPlan { reload: ReloadBy::Restart, splay: Duration::ZERO });
    let mut bench = Bench::new(Plan { reload: true, rolls_back: true, child, ..plan });
    for event in [loaded(), in_sync(), Event::Spawned(Ok(()))] {
        bench.on(event);
    }
    bench.check(vec![
        (loaded(), vec![Effect::Render]),
        (differs(), vec![Effect::Stage(0)]),
        (staged(), vec![Effect::Keep(0)]),
        (kept(), vec![Effect::Install(0)]),
    ]);
    bench
}

/// The reload of the resource waits for that of the child, beyond the end of the round. A newer result precedes it.
#[test]
fn the_last_file_that_was_accepted_is_kept_until_the_reload_of_the_resource() {
    let mut bench = with_child(plan(Mode::Watch, &[""]));
    bench.check(vec![(installed(), vec![Effect::StopChild])]);
    bench.check(vec![
        (loaded(), vec![Effect::Render]),
        (differs(), vec![Effect::Stage(0)]),
        // The kept file stays.
        (staged(), vec![Effect::Install(0)]),
        (installed(), vec![]),
    ]);
    let ended_by = Event::ChildExited { how: "it exited".into(), status: 0 };
    bench.check(vec![(ended_by, vec![Effect::Spawn])]);
    let effects = bench.on(Event::Spawned(Ok(())));
    assert_eq!(effects, [Effect::Render]);
    // The newer file requires another restart of the child, or this child has read it.
    let effects = bench.on(in_sync());
    assert_eq!(effects, [Effect::Run(Job::ReloadResource)]);
    bench.check(vec![(failed(), vec![Effect::PutBack(0)]), (put_back(), vec![Effect::StopChild])]);
    assert!(bench.resource.is_rolled_back() && bench.resource.pending_reloads().resource);
}

#[test]
fn what_a_crash_has_left_is_a_pending_reload() {
    let mut bench = rolling_back(&["R"]);
    assert!(bench.resource.found_kept(0));
    bench.check(vec![
        (loaded(), vec![Effect::Render]),
        (in_sync(), vec![Effect::Run(Job::Reload(0))]),
        (ended(), vec![Effect::Forget(0)]),
    ]);
    let mut bench = rolling_back(&["R"]);
    assert!(bench.resource.found_kept(0));
    bench.check(vec![
        (loaded(), vec![Effect::Render]),
        (in_sync(), vec![Effect::Run(Job::Reload(0))]),
        (failed(), vec![Effect::PutBack(0)]),
        (put_back(), vec![Effect::Run(Job::Reload(0))]),
    ]);
    assert!(!rolling_back(&["r"]).resource.found_kept(0));
    let plan = Plan { start: true, ..plan(Mode::Watch, &["R"]) };
    assert!(!Bench::new(plan).resource.found_kept(0), "start_cmd reads the new file");
}

const COUNT: usize = 3;

/// The environment of a resource: versions of keys and files, the kept files, and the files that each service has read.
struct Scene {
    plan: Plan,
    bench: Bench,
    keys: i32,
    files: [i32; COUNT],
    stages: [Option<i32>; COUNT],
    kept: [Option<i32>; COUNT],
    undone: [Option<i32>; COUNT],
    rendered: [i32; COUNT],
    known: [i32; COUNT],
    /// The files that the service of the resource has read.
    known_together: [i32; COUNT],
    reloads: PendingReloads,
    /// The files that the next start renames.
    journal: Option<Vec<usize>>,
    /// Files could not be put back, or the program was killed between renames.
    is_torn: bool,
    /// No result of the round may be installed.
    is_held: bool,
    /// Crashes, files that were put back, and crashes between renames of files that belong together.
    counts: [usize; 3],
}

impl Scene {
    fn new(random: &mut Random) -> Scene {
        let templates = [["cR", "r", "R"], ["R", "R", "cR"], ["", "cR", "r"], ["r", "", "r"]][random.below(4)];
        let mut plan = plan(Mode::Watch, &templates);
        for (t, template) in plan.templates.iter_mut().enumerate() {
            // Saved reloads need distinct names, and `plan` names files by the length of their description.
            template.dst = format!("/{t}");
        }
        plan.together = random.below(2) == 0;
        plan.reload = random.below(2) == 0;
        plan.rolls_back = random.below(2) == 0;
        if random.below(3) == 0 && templates[1] == templates[0] {
            plan.templates[0].reloaded_by = 1;
        }
        let bench = Bench::new(plan.clone());
        Scene {
            plan,
            bench,
            keys: 1,
            files: [0; COUNT],
            stages: [None; COUNT],
            kept: [None; COUNT],
            undone: [None; COUNT],
            rendered: [0; COUNT],
            known: [0; COUNT],
            known_together: [0; COUNT],
            reloads: PendingReloads::default(),
            journal: None,
            is_torn: false,
            is_held: false,
            counts: [0; 3],
        }
    }

    /// The program is killed, and started again.
    fn crash(&mut self) {
        // The stage file of a rename that failed is gone.
        let is_there = |t: &usize| self.stages[*t].is_some() || self.files[*t] == self.rendered[*t];
        if let Some(files) = self.journal.take().filter(|files| files.iter().all(is_there)) {
            for t in files {
                self.files[t] = self.stages[t].take().unwrap_or(self.files[t]);
                if !self.bench.resource.has_started() {
                    self.known_together[t] = self.files[t];
                }
            }
            assert_eq!(self.files, self.rendered, "what was cut off is finished");
            self.counts[2] += 1;
        }
        self.bench = Bench { resource: Resource::new(self.plan.clone(), 7), now: self.bench.now };
        self.bench.resource.resume_reloads(&self.reloads);
        (self.stages, self.undone) = ([None; COUNT], [None; COUNT]);
        for t in 0..COUNT {
            let is_other = self.kept[t].take_if(|kept| *kept == self.files[t]).is_none();
            if is_other && self.kept[t].is_some() && !self.bench.resource.found_kept(t) {
                self.kept[t] = None;
            }
        }
        self.is_torn |= self.files.iter().any(|file| *file != self.files[0]);
        self.counts[0] += 1;
    }

    fn check_files(&mut self, seed: u64) {
        let is_whole = self.files.iter().all(|file| *file == self.files[0]);
        self.is_torn &= !is_whole;
        assert!(is_whole || self.is_torn || !self.plan.together, "seed {seed}: {:?}", self.files);
    }

    /// The answer to an effect.
    fn perform(&mut self, effect: &Effect, good: bool, broken: usize, seed: u64) -> Option<Event> {
        let result = || if good { Ok(()) } else { Err(fault("no")) };
        match effect {
            Effect::Render => {
                self.check_files(seed);
                self.rendered = [self.keys; COUNT];
                let one = |t: usize| match (good || t != broken, self.files[t] == self.keys) {
                    (false, _) => Rendering::Failed(fault("no such key")),
                    (true, true) => Rendering::InSync,
                    (true, false) if self.undone[t] == Some(self.keys) => Rendering::Rejected,
                    (true, false) => Rendering::Differs,
                };
                let renderings: Vec<Rendering> = (0..COUNT).map(one).collect();
                let known = |t: usize| self.bench.resource.is_rejected(t);
                self.is_held = renderings.iter().enumerate().all(|(t, rendering)| match rendering {
                    Rendering::Differs => false,
                    Rendering::Rejected => known(t),
                    _ => true,
                });
                Some(Event::Rendered(renderings))
            }
            Effect::Stage(t) => {
                assert!(!self.is_held, "seed {seed}: a rejected result is tried again");
                self.stages[*t] = good.then_some(self.rendered[*t]);
                Some(Event::Staged(result()))
            }
            Effect::Discard(t) => {
                self.stages[*t] = None;
                None
            }
            Effect::Keep(t) => {
                assert_eq!(self.kept[*t], None, "seed {seed}: what was kept is lost");
                self.kept[*t] = good.then_some(self.files[*t]);
                Some(Event::Kept(result()))
            }
            Effect::Forget(t) => {
                assert!(self.kept[*t].take().is_some(), "seed {seed}: nothing is kept");
                None
            }
            Effect::Journal(files) => {
                self.reloads = self.bench.resource.pending_reloads_with(files[0]);
                self.journal = Some(files.clone());
                None
            }
            Effect::EndJournal => {
                self.journal = None;
                None
            }
            Effect::Install(t) => {
                self.reloads = self.bench.resource.pending_reloads_with(*t);
                let stage = self.stages[*t].take().expect("what is installed was staged");
                if good {
                    self.files[*t] = stage;
                    // The first files of a process require no reload of the resource.
                    if !self.bench.resource.has_started() {
                        self.known_together[*t] = stage;
                    }
                }
                Some(Event::Installed(result().map(|()| None)))
            }
            Effect::PutBack(t) => {
                if self.bench.resource.is_undoing() {
                    self.reloads = self.bench.resource.pending_reloads();
                }
                // After a crash between renames, the files may be put back.
                let after: Vec<i32> = (0..COUNT).map(|t| self.kept[t].unwrap_or(self.files[t])).collect();
                self.is_torn |= after.iter().any(|file| *file != after[0]);
                let old = self.kept[*t].take().expect("what is put back was kept");
                if good {
                    self.undone[*t] = Some(self.files[*t]);
                    self.files[*t] = old;
                    self.counts[1] += 1;
                    if !self.bench.resource.has_started() {
                        self.known_together[*t] = old;
                    }
                } else {
                    self.is_torn = true;
                }
                Some(Event::PutBack(result()))
            }
            Effect::Run(job) => {
                if !matches!(job, Job::Check(_)) {
                    self.check_files(seed);
                }
                match job {
                    Job::Reload(by) if good => {
                        for t in (0..COUNT).filter(|t| self.plan.templates[*t].reloaded_by == *by) {
                            self.known[t] = self.files[t];
                        }
                    }
                    Job::ReloadResource if good => self.known_together = self.files,
                    _ => {}
                }
                Some(Event::Ended(result()))
            }
            other => unreachable!("{other:?}"),
        }
    }

    /// Every file that its service has not read has a pending reload.
    fn check_reloads(&self, seed: u64) {
        let reloads = self.bench.resource.pending_reloads();
        for (t, template) in self.plan.templates.iter().enumerate().filter(|(_, template)| template.reload) {
            let is_pending = reloads.templates.contains(&self.plan.templates[template.reloaded_by].dst);
            assert!(is_pending || self.known[t] == self.files[t], "seed {seed}: {t} is not pending");
        }
        if self.plan.reload {
            assert!(
                reloads.resource || self.known_together == self.files,
                "seed {seed}: the resource's is not pending: {reloads:?}"
            );
        }
    }
}

/// With any failure, and with a kill at any moment: files that belong together are all old or all new, a reload is
/// pending until it has succeeded, no kept file is lost or forgotten, and a result that was put back is not tried
/// again.
#[test]
fn random_failures_and_crashes_lose_no_file_and_no_reload() {
    let mut counts = [0; 3];
    for seed in 0..6000 {
        let mut random = Random::new(seed);
        let mut scene = Scene::new(&mut random);
        let mut open = Some(loaded());
        for step in 0..200 {
            let is_late = step > 100;
            let good = is_late || random.below(4) != 0;
            if step == 100 {
                // The rejected result is replaced.
                scene.keys += 1;
                let waiting = open.take().filter(|event| !matches!(event, Event::Loaded { .. }));
                scene.bench.on(loaded()).iter().for_each(|effect| open = scene.perform(effect, true, 0, seed));
                open = waiting.or(open);
                continue;
            }
            if !is_late && random.below(40) == 0 {
                scene.crash();
                open = Some(loaded());
                continue;
            }
            let event = match open.take() {
                waiting if !is_late && !matches!(waiting, Some(Event::Loaded { .. })) && random.below(8) == 0 => {
                    open = waiting;
                    scene.keys += i32::from(random.below(2) == 0);
                    loaded()
                }
                Some(event) => event,
                None => match scene.bench.resource.due() {
                    Some(due) => {
                        scene.bench.now = scene.bench.now.max(due);
                        Event::Due
                    }
                    None => continue,
                },
            };
            let is_answer = !matches!(event, Event::Due | Event::Loaded { .. });
            for effect in scene.bench.on(event) {
                let answer = scene.perform(&effect, good, random.below(COUNT), seed);
                assert!(answer.is_none() || open.is_none(), "seed {seed}: two effects are under way");
                open = answer.or(open);
            }
            if is_answer && !matches!(open, Some(Event::Installed(_) | Event::PutBack(_))) {
                scene.check_reloads(seed);
            }
            // Renames follow each other within a turn, at whose end reloads are written.
            if !matches!(open, Some(Event::Kept(_) | Event::Installed(_) | Event::PutBack(_))) {
                scene.reloads = scene.bench.resource.pending_reloads();
            }
        }
        let Scene { bench, keys, files, kept, known, plan, .. } = &scene;
        assert_eq!((files, kept), (&[*keys; COUNT], &[None; COUNT]), "seed {seed}");
        assert!((0..COUNT).all(|t| !plan.templates[t].reload || known[t] == *keys), "seed {seed}: {known:?}");
        assert!(bench.resource.settled() && !bench.resource.is_failing(), "seed {seed}");
        scene.counts.iter().zip(&mut counts).for_each(|(one, sum)| *sum += one);
    }
    assert!(counts[0] > 1000 && counts[1] > 1000 && counts[2] > 100, "{counts:?}");
}
