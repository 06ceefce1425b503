//! Files that are replaced together: all or none, with any failure.
//! Uses no clock but the one in the test.

use super::*;

fn together(templates: &[&str]) -> Bench {
    Bench::new(Plan { together: true, ..plan(Mode::Watch, templates) })
}

fn all_differ(count: usize) -> Event {
    Event::Rendered((0..count).map(|_| Rendering::Differs).collect())
}

fn kept() -> Event {
    Event::Kept(Ok(()))
}

fn put_back() -> Event {
    Event::PutBack(Ok(()))
}

#[test]
fn all_are_checked_before_the_first_is_renamed_and_reloads_follow() {
    let mut bench = together(&["cr", "", "r"]);
    bench.check(vec![
        (loaded(), vec![Effect::Render]),
        (all_differ(3), vec![Effect::Stage(0)]),
        (staged(), vec![Effect::Run(Job::Check(0))]),
        (ended(), vec![Effect::Stage(1)]),
        (staged(), vec![Effect::Stage(2)]),
        (staged(), vec![Effect::Keep(0)]),
        (kept(), vec![Effect::Keep(1)]),
        (kept(), vec![Effect::Keep(2)]),
        (kept(), vec![Effect::Journal(vec![0, 1, 2]), Effect::Install(0)]),
        (installed(), vec![Effect::Install(1)]),
        (installed(), vec![Effect::Install(2)]),
        (
            installed(),
            vec![
                Effect::EndJournal,
                Effect::Forget(0),
                Effect::Forget(1),
                Effect::Forget(2),
                Effect::Run(Job::Reload(0)),
            ],
        ),
        (ended(), vec![Effect::Run(Job::Reload(2))]),
        (ended(), vec![]),
    ]);
    assert!(bench.resource.settled());
}

#[test]
fn a_preview_keeps_no_old_file() {
    let mut bench = Bench::new(Plan { together: true, is_preview: true, ..plan(Mode::OneShot, &["c", ""]) });
    bench.check(vec![
        (loaded(), vec![Effect::Render]),
        (all_differ(2), vec![Effect::Stage(0)]),
        (staged(), vec![Effect::Run(Job::Check(0))]),
        (ended(), vec![Effect::Stage(1)]),
        (staged(), vec![Effect::Install(0)]),
        (installed(), vec![Effect::Install(1)]),
        (installed(), vec![]),
    ]);
    assert_eq!(bench.resource.verdict(), Some(Verdict::Succeeded));
}

#[test]
fn one_that_fails_leaves_all() {
    let mut bench = together(&["", "c"]);
    let failed = Event::Rendered(vec![Rendering::Differs, Rendering::Failed(fault("no such key"))]);
    bench.check(vec![(loaded(), vec![Effect::Render]), (failed, vec![])]);
    bench.wait();
    let discarded = [Effect::Discard(0), Effect::Discard(1)];
    bench.check(vec![
        (Event::Due, vec![Effect::Render]),
        (all_differ(2), vec![Effect::Stage(0)]),
        (staged(), vec![Effect::Stage(1)]),
        (staged(), vec![Effect::Run(Job::Check(1))]),
        (Event::Ended(Err(fault("bad"))), discarded.into()),
    ]);
    bench.wait();
    // For a single file no old file is kept.
    bench.check(vec![
        (Event::Due, vec![Effect::Render]),
        (Event::Rendered(vec![Rendering::Differs, Rendering::InSync]), vec![Effect::Stage(0)]),
        (staged(), vec![Effect::Install(0)]),
        (installed(), vec![]),
    ]);
    assert!(bench.resource.settled());
}

#[test]
fn a_rename_that_fails_puts_back_those_before_it() {
    let mut bench = together(&["r", "r", "r"]);
    bench.on(loaded());
    bench.on(all_differ(3));
    for event in [staged(), staged(), staged(), kept(), kept(), kept(), installed()] {
        bench.on(event);
    }
    bench.check(vec![
        (installed(), vec![Effect::Install(2)]),
        (
            Event::Installed(Err(fault("read-only file system"))),
            vec![
                Effect::EndJournal,
                Effect::Discard(0),
                Effect::Discard(1),
                Effect::Discard(2),
                Effect::Forget(2),
                Effect::PutBack(1),
            ],
        ),
        (put_back(), vec![Effect::PutBack(0)]),
        // No service has read the new files.
        (put_back(), vec![]),
    ]);
    assert!(bench.resource.is_failing());
    assert_eq!(bench.wait(), Duration::from_secs(1));
}

/// With any failure: between updates all files are old or all are new, unless one could not be put back; no command
/// runs between renames; each new file gets its reload; at the end all files are in place. Several files are in the
/// journal from before the first rename until the last one or a failure, and no longer.
#[test]
fn random_failures_leave_all_old_or_all_new() {
    const COUNT: usize = 3;
    for seed in 0..5000 {
        let mut random = Random::new(seed);
        let mut bench = together(&["cr", "r", "cr"]);
        // The versions of the keys, of the files, of the kept files, and of the files that each service has read.
        let (mut keys, mut files, mut kept, mut known) = (1, [0; COUNT], [None; COUNT], [0; COUNT]);
        let (mut stages, mut rendered) = ([None; COUNT], [0; COUNT]);
        let (mut open, mut is_torn) = (Some(loaded()), false);
        let (mut renaming, mut journal) = (false, None);
        for step in 0..120 {
            let is_late = step > 60;
            let good = is_late || random.below(5) != 0;
            let event = match open.take() {
                waiting if !is_late && random.below(6) == 0 => {
                    open = waiting;
                    keys += 1;
                    loaded()
                }
                Some(event) => event,
                None => match bench.resource.due() {
                    Some(due) => {
                        bench.now = due;
                        Event::Due
                    }
                    None => continue,
                },
            };
            let fails = |what: &str| Err(fault(what));
            let effects = bench.on(event);
            renaming &= effects.iter().any(|effect| matches!(effect, Effect::Install(_) | Effect::PutBack(_)));
            for effect in effects {
                let result = || if good { Ok(()) } else { fails("no") };
                match effect {
                    Effect::Render => {
                        if !is_torn {
                            assert!(files.iter().all(|file| *file == files[0]), "seed {seed}: {files:?}");
                        }
                        rendered = [keys; COUNT];
                        open = Some(rendering(rendered, files, good));
                    }
                    Effect::Journal(files) => {
                        assert!(files.len() > 1 && journal.is_none(), "seed {seed}: {files:?} after {journal:?}");
                        assert!(
                            files.iter().all(|t| stages[*t].is_some() && kept[*t].is_some()),
                            "seed {seed}: {files:?}"
                        );
                        assert!(!renaming, "seed {seed}: {files:?} behind a rename");
                        journal = Some(files);
                    }
                    Effect::EndJournal => assert!(journal.take().is_some(), "seed {seed}: there is no journal"),
                    Effect::Stage(t) => {
                        stages[t] = good.then_some(rendered[t]);
                        open = Some(Event::Staged(result()));
                    }
                    Effect::Discard(t) => {
                        assert_eq!(journal, None, "seed {seed}: {t} could not be finished");
                        stages[t] = None;
                    }
                    Effect::Keep(t) => {
                        kept[t] = good.then_some(files[t]);
                        open = Some(Event::Kept(result()));
                    }
                    Effect::Forget(t) => {
                        kept[t] = None;
                    }
                    Effect::Install(t) => {
                        let stage = stages[t].take().expect("what is installed was staged");
                        let is_alone = stages.iter().all(Option::is_none);
                        let is_noted = journal.as_ref().is_some_and(|files| files.contains(&t));
                        assert!(is_noted || is_alone, "seed {seed}: {t} and {journal:?}");
                        if good {
                            files[t] = stage;
                        }
                        renaming = true;
                        open = Some(Event::Installed(result().map(|()| None)));
                    }
                    Effect::PutBack(t) => {
                        let old = kept[t].take().expect("what is put back was kept");
                        assert_eq!(journal, None, "seed {seed}: {t} is put back");
                        if good {
                            files[t] = old;
                        }
                        is_torn |= !good;
                        open = Some(Event::PutBack(result()));
                    }
                    Effect::Run(job) => {
                        assert!(!renaming, "seed {seed}: {job:?} between renames");
                        assert_eq!(journal, None, "seed {seed}: {job:?}");
                        if let Job::Reload(t) = job
                            && good
                        {
                            known[t] = files[t];
                        }
                        open = Some(Event::Ended(result()));
                    }
                    other => unreachable!("{other:?}"),
                }
            }
        }
        assert_eq!((files, known, kept), ([keys; COUNT], [keys; COUNT], [None; COUNT]), "seed {seed}");
        assert!(bench.resource.settled() && stages == [None; COUNT] && journal.is_none(), "seed {seed}");
    }
}

fn rendering(rendered: [i32; 3], files: [i32; 3], good: bool) -> Event {
    let one = |(t, new): (usize, &i32)| match (good || t != 1, *new == files[t]) {
        (false, _) => Rendering::Failed(fault("no such key")),
        (true, true) => Rendering::InSync,
        (true, false) => Rendering::Differs,
    };
    Event::Rendered(rendered.iter().enumerate().map(one).collect())
}
