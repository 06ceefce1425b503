//! Files that are replaced together (`commit = "together"`): all are staged and checked before the first is renamed,
//! and a rename that fails puts back those before it. `resource` decides about the reloads after it. Touches no file.

use std::time::Instant;

use super::{Effect, Event, Job, Reloads, Rendering, Resource, Round, Subject, Update};
use crate::log::Level;

/// The progress of a commit. Its files are handled in order: each step is done for all files before the next step
/// begins.
#[derive(Debug)]
pub(super) struct Commit {
    /// The templates whose files are replaced; at least one.
    files: Vec<usize>,
    /// The index of the present file in `files`.
    at: usize,
    step: Step,
    /// The pending reloads before the first rename; `None`: no file was renamed yet.
    reloads_before: Option<Reloads>,
    /// The templates whose kept file is older than the present file, because a reload for the present file is pending.
    older: Vec<usize>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    Staging,
    Checking,
    /// The old files get second names, to be put back.
    Keeping,
    Installing,
    /// Backwards, from the file before the one that failed.
    PuttingBack,
}

impl Resource {
    /// Begins with the rendered templates of an update. If one has failed, no file is replaced.
    pub(super) fn commit(&mut self, mut round: Round, now: Instant, effects: &mut Vec<Effect>) -> Update {
        let has_failed = round.renderings.iter().any(|rendering| matches!(rendering, Rendering::Failed(_)));
        let differs = |(t, rendering): (usize, &mut Rendering)| {
            let differs = matches!(rendering, Rendering::Differs);
            if differs {
                // The round has nothing more to do for this template.
                *rendering = Rendering::Interrupted;
            }
            differs.then_some(t)
        };
        let files: Vec<usize> = round.renderings.iter_mut().enumerate().filter_map(differs).collect();
        if has_failed || files.is_empty() {
            return self.template(round, 0, now, effects);
        }
        for t in &files {
            effects.push(Effect::Log(self.about(*t, Level::Info, "target config out of sync")));
        }
        effects.push(Effect::Stage(files[0]));
        Update::Committing(round, Commit { files, at: 0, step: Step::Staging, reloads_before: None, older: Vec::new() })
    }

    /// Handles the answer to an effect of the commit.
    pub(super) fn committed(
        &mut self,
        mut round: Round,
        mut commit: Commit,
        event: Event,
        now: Instant,
        effects: &mut Vec<Effect>,
    ) -> Update {
        let t = commit.files[commit.at];
        let fault = match (commit.step, event) {
            (Step::Staging, Event::Staged(Ok(()))) => {
                if self.plan.templates[t].check && !self.start_stands_in_for_checks() {
                    commit.step = Step::Checking;
                    effects.push(Effect::Run(Job::Check(t)));
                    return Update::Committing(round, commit);
                }
                None
            }
            (Step::Checking, Event::Ended(Ok(()))) => None,
            (Step::Keeping, Event::Kept(Ok(()))) => {
                self.rollback.kept(t);
                None
            }
            (Step::Installing, Event::Installed(Ok(warning))) => {
                self.installed(t, warning, effects);
                None
            }
            (Step::PuttingBack, Event::PutBack(result)) => {
                self.rollback.put_back(t);
                match result {
                    Ok(()) => effects.push(Effect::Log(self.about(t, Level::Info, "the old target config is back"))),
                    Err(fault) => {
                        // The new file stays in place, so its reload runs.
                        self.failed_in(&mut round, Subject::Template(t), fault, effects);
                        self.reloads = self.reloads_with(&[t]);
                    }
                }
                return self.put_back(round, commit, now, effects);
            }
            (
                Step::Staging | Step::Checking | Step::Keeping | Step::Installing,
                Event::Staged(Err(fault))
                | Event::Ended(Err(fault))
                | Event::Kept(Err(fault))
                | Event::Installed(Err(fault)),
            ) => Some(fault),
            (step, event) => {
                debug_assert!(false, "{event:?} answers nothing in {step:?}");
                return Update::Committing(round, commit);
            }
        };
        if let Some(fault) = fault {
            self.failed_in(&mut round, Subject::Template(t), fault, effects);
            if commit.step == Step::Installing && self.has_journal(&commit) {
                // After this a crash leaves no rename to finish.
                effects.push(Effect::EndJournal);
            }
            effects.extend(commit.files.iter().map(|t| Effect::Discard(*t)));
            effects.extend(commit.files.iter().filter_map(|t| self.rollback.not_installed(*t)));
            if commit.step != Step::Installing {
                return self.template(round, 0, now, effects);
            }
            if commit.files[..commit.at].iter().any(|t| commit.older.contains(t)) {
                // Kept files may be older than the present files: all files go back to one update.
                return self.undo_all(round, effects);
            }
            self.reloads = commit.reloads_before.take().unwrap_or_else(|| self.reloads.clone());
            commit.step = Step::PuttingBack;
            return self.put_back(round, commit, now, effects);
        }
        if !self.advance(&mut commit) {
            if self.has_journal(&commit) {
                effects.push(Effect::EndJournal);
            }
            self.forget_accepted(effects);
            return self.template(round, 0, now, effects);
        }
        let t = commit.files[commit.at];
        if commit.step == Step::Installing && commit.at == 0 && self.has_journal(&commit) {
            effects.push(Effect::Journal(commit.files.clone()));
        }
        let effect = match commit.step {
            Step::Keeping => Effect::Keep(t),
            Step::Installing => {
                effects.push(Effect::Log(self.about(t, Level::Debug, "overwriting target config")));
                Effect::Install(t)
            }
            Step::Staging | Step::Checking | Step::PuttingBack => Effect::Stage(t),
        };
        effects.push(effect);
        Update::Committing(round, commit)
    }

    /// Continues with the next file, or with the next step of all files. Returns false after the last step.
    fn advance(&self, commit: &mut Commit) -> bool {
        match commit.step {
            Step::Checking => commit.step = Step::Staging,
            // Each file is staged and checked before the next one.
            Step::Staging | Step::Keeping | Step::Installing | Step::PuttingBack => {}
        }
        commit.at += 1;
        while commit.step == Step::Keeping && commit.files.get(commit.at).is_some_and(|t| self.rollback.is_kept(*t)) {
            commit.at += 1;
        }
        if commit.at < commit.files.len() {
            return true;
        }
        commit.at = 0;
        if commit.step == Step::Staging {
            commit.older = commit.files.iter().copied().filter(|t| self.rollback.is_kept(*t)).collect();
            // A single file is replaced as a whole anyway.
            let can_be_undone = commit.files.len() > 1 || self.wants_kept(&commit.files, commit.files[0]);
            let first = commit.files.iter().position(|t| !self.rollback.is_kept(*t));
            if let Some(first) = first.filter(|_| can_be_undone && !self.plan.is_preview) {
                (commit.step, commit.at) = (Step::Keeping, first);
                return true;
            }
        }
        if matches!(commit.step, Step::Staging | Step::Keeping) {
            commit.step = Step::Installing;
            commit.reloads_before = Some(self.reloads.clone());
            return true;
        }
        false
    }

    /// Whether a journal is written before the first rename. A single file is replaced as a whole anyway.
    fn has_journal(&self, commit: &Commit) -> bool {
        commit.files.len() > 1 && !self.plan.is_preview
    }

    /// The pending reloads once all files are in place, while renames are in progress.
    pub(super) fn reloads_after(&self, commit: &Commit) -> Reloads {
        self.reloads_with(commit.files.get(commit.at..).unwrap_or_default())
    }

    /// Puts back the file before the present one.
    fn put_back(&mut self, round: Round, mut commit: Commit, now: Instant, effects: &mut Vec<Effect>) -> Update {
        match commit.at.checked_sub(1) {
            Some(before) => {
                commit.at = before;
                effects.push(Effect::PutBack(commit.files[before]));
                Update::Committing(round, commit)
            }
            None => self.template(round, 0, now, effects),
        }
    }
}
