//! Files that are put back when the reload for them fails (`on_reload_failure = "rollback"`): which old files are
//! kept and for how long, what is put back, and when a result that was put back is tried again. Touches no file.

use std::time::Instant;

use super::{Effect, Fault, Job, Outcome, Reloads, Rendering, Resource, Round, Subject, Update};
use crate::log::Level;

/// The old files and the rejected results of a resource, by template.
#[derive(Debug)]
pub(super) struct Rollback {
    kept: Vec<Kept>,
    /// The reload that failed for the last result of a template, so that the old file was put back.
    rejected: Vec<Option<Cause>>,
    /// The next update tries rejected results again.
    retries_rejected: bool,
}

/// Whether the old file of a template is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kept {
    No,
    /// The new file is not in place yet.
    Fresh,
    /// The new file is in place, and newer files may follow it. The kept file is the last one whose reloads have
    /// succeeded.
    Yes,
}

/// A reload command whose failure puts files back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cause {
    /// The command that runs after this template.
    Template(usize),
    Resource,
}

/// Files that are being put back.
#[derive(Debug)]
pub(super) struct Undo {
    /// `None`: files that belong together could not be replaced.
    cause: Option<Cause>,
    /// The remaining templates, the next one last.
    files: Vec<usize>,
}

impl Rollback {
    pub(super) fn new(templates: usize) -> Rollback {
        Rollback { kept: vec![Kept::No; templates], rejected: vec![None; templates], retries_rejected: false }
    }

    /// The next update tries rejected results again.
    pub(super) fn retry_rejected(&mut self) {
        self.retries_rejected = true;
    }

    /// Whether the old file of a template is kept already.
    pub(super) fn is_kept(&self, t: usize) -> bool {
        self.kept[t] != Kept::No
    }

    /// The old file is kept, and the new one follows.
    pub(super) fn kept(&mut self, t: usize) {
        self.kept[t] = Kept::Fresh;
    }

    /// The new file is in place.
    pub(super) fn installed(&mut self, t: usize) {
        if self.kept[t] == Kept::Fresh {
            self.kept[t] = Kept::Yes;
        }
        self.rejected[t] = None;
    }

    /// The old file is in place again, or is no longer kept.
    pub(super) fn put_back(&mut self, t: usize) {
        self.kept[t] = Kept::No;
    }

    /// The new file is not installed: the file that was kept for it is forgotten.
    pub(super) fn not_installed(&mut self, t: usize) -> Option<Effect> {
        (self.kept[t] == Kept::Fresh).then(|| {
            self.kept[t] = Kept::No;
            Effect::Forget(t)
        })
    }
}

impl Resource {
    /// Takes over an old file of a run that was killed before the reload had succeeded. The reload is pending. Returns
    /// whether the file has to be kept for it. A start_cmd replaces the reload.
    pub fn found_kept(&mut self, t: usize) -> bool {
        let undoes = |by: usize| self.plan.templates[by].reload && self.plan.templates[by].rolls_back;
        let by: Vec<usize> =
            (0..self.plan.templates.len()).filter(|by| self.concerns(Cause::Template(*by), t)).collect();
        let is_undone = by.iter().any(|by| undoes(*by)) || self.plan.reload && self.plan.rolls_back;
        if self.plan.start || !is_undone {
            return false;
        }
        for by in by {
            // If files are replaced together, it is unknown which of them the update has replaced.
            self.reloads.templates[by] |= self.plan.templates[by].reload;
        }
        self.reloads.resource |= self.plan.reload;
        self.rollback.kept[t] = Kept::Yes;
        true
    }

    /// Whether files are put back if this command fails.
    pub fn will_undo(&self, job: Job) -> bool {
        let cause = match job {
            Job::Reload(t) => Cause::Template(t),
            Job::ReloadResource => Cause::Resource,
            Job::Check(_) | Job::Start => return false,
        };
        !self.undone_by(cause).is_empty()
    }

    /// Whether files are being put back because a reload has failed. [`Resource::pending_reloads`] then has the reloads
    /// that are required as soon as the first file is back.
    pub fn is_undoing(&self) -> bool {
        matches!(self.update, Update::Undoing(..))
    }

    /// Whether the last result of a template was rolled back: `dst` has the old file.
    pub fn is_rejected(&self, t: usize) -> bool {
        self.rollback.rejected[t].is_some()
    }

    /// Whether a result is not in place because its reload failed.
    pub fn is_rolled_back(&self) -> bool {
        self.rollback.rejected.iter().any(Option::is_some)
    }

    /// Whether the old file of a template has to be kept when these templates are installed.
    pub(super) fn wants_kept(&self, installing: &[usize], t: usize) -> bool {
        !self.plan.is_preview && !self.rollback.is_kept(t) && self.is_covered(&self.reloads_with(installing), t)
    }

    /// Whether a pending reload would put the file of a template back.
    fn is_covered(&self, pending: &Reloads, t: usize) -> bool {
        let rolls_back = |by: usize| pending.templates[by] && self.concerns(Cause::Template(by), t);
        (0..self.plan.templates.len()).any(|by| rolls_back(by) && self.plan.templates[by].rolls_back)
            || pending.resource && self.plan.rolls_back
    }

    /// Whether a template belongs to the files that a failed reload puts back.
    fn concerns(&self, cause: Cause, t: usize) -> bool {
        match cause {
            Cause::Template(by) => self.plan.together || self.plan.templates[t].reloaded_by == by,
            Cause::Resource => true,
        }
    }

    fn undone_by(&self, cause: Cause) -> Vec<usize> {
        let rolls_back = match cause {
            Cause::Template(by) => self.plan.templates[by].rolls_back,
            Cause::Resource => self.plan.rolls_back,
        };
        let is_undone = |t: &usize| rolls_back && self.rollback.kept[*t] == Kept::Yes && self.concerns(cause, *t);
        (0..self.plan.templates.len()).filter(is_undone).collect()
    }

    /// Forgets the old files that no reload can put back now.
    pub(super) fn forget_accepted(&mut self, effects: &mut Vec<Effect>) {
        for t in 0..self.plan.templates.len() {
            if self.rollback.kept[t] == Kept::Yes && !self.is_covered(&self.reloads, t) {
                self.rollback.kept[t] = Kept::No;
                effects.push(Effect::Forget(t));
            }
        }
    }

    /// Retries a rejected result if another file of its reload has changed: the reload may have failed because of that
    /// file.
    pub(super) fn screen(&mut self, renderings: &mut [Rendering]) {
        let retries_rejected = std::mem::take(&mut self.rollback.retries_rejected);
        for (t, rendering) in renderings.iter().enumerate() {
            if let Rendering::InSync = rendering {
                self.rollback.rejected[t] = None;
            }
        }
        loop {
            let changed: Vec<usize> =
                (0..renderings.len()).filter(|t| matches!(renderings[*t], Rendering::Differs)).collect();
            let is_tried = |t: usize| match self.rollback.rejected[t] {
                Some(cause) => retries_rejected || changed.iter().any(|other| self.concerns(cause, *other)),
                None => true,
            };
            let again = (0..renderings.len()).find(|t| matches!(renderings[*t], Rendering::Rejected) && is_tried(*t));
            let Some(again) = again else { return };
            renderings[again] = Rendering::Differs;
        }
    }

    /// A reload command has failed: its files are put back, if that is configured. Otherwise the reload stays pending.
    pub(super) fn reload_failed(
        &mut self,
        cause: Cause,
        mut round: Round,
        fault: Fault,
        now: Instant,
        effects: &mut Vec<Effect>,
    ) -> Update {
        let files = self.undone_by(cause);
        let Some(last) = files.last() else {
            let subject = match cause {
                Cause::Template(t) => Subject::Reload(t),
                Cause::Resource => Subject::ReloadResource,
            };
            self.failed_in(&mut round, subject, fault, effects);
            return match cause {
                Cause::Template(t) => self.template(round, t + 1, now, effects),
                Cause::Resource => self.finish(round, now, effects),
            };
        };
        let last = *last;
        self.failed_in(&mut round, Subject::RolledBack(cause), fault, effects);
        // All commands that have read the new files have to read the old ones.
        self.reloads = self.reloads_with(&files);
        effects.push(Effect::PutBack(last));
        Update::Undoing(round, Undo { cause: Some(cause), files })
    }

    /// Puts back every file that is kept. At least one is.
    pub(super) fn undo_all(&mut self, round: Round, effects: &mut Vec<Effect>) -> Update {
        let files: Vec<usize> =
            (0..self.plan.templates.len()).filter(|t| self.rollback.kept[*t] == Kept::Yes).collect();
        self.reloads = self.reloads_with(&files);
        effects.extend(files.last().map(|last| Effect::PutBack(*last)));
        Update::Undoing(round, Undo { cause: None, files })
    }

    /// A file is back, or could not be put back. After the last file the reload runs for the old files.
    pub(super) fn undone(
        &mut self,
        mut round: Round,
        mut undo: Undo,
        result: Result<(), Fault>,
        now: Instant,
        effects: &mut Vec<Effect>,
    ) -> Update {
        if let Some(t) = undo.files.pop() {
            self.rollback.put_back(t);
            match result {
                Ok(()) => {
                    self.rollback.rejected[t] = undo.cause;
                    effects.push(Effect::Log(self.about(t, Level::Info, "the old target config is back")));
                }
                // The new file stays in place.
                Err(fault) => self.failed_in(&mut round, Subject::Template(t), fault, effects),
            }
        }
        if let Some(next) = undo.files.last() {
            effects.push(Effect::PutBack(*next));
            return Update::Undoing(round, undo);
        }
        match undo.cause {
            Some(Cause::Template(t)) if !self.plan.together => self.reload(round, t, effects),
            Some(_) | None => {
                // Other reloads may have succeeded for files that are old again, so they run again. Nothing is
                // rendered.
                round.renderings.iter_mut().for_each(|rendering| *rendering = Rendering::Interrupted);
                self.template(round, 0, now, effects)
            }
        }
    }

    /// Ends the failures of reloads whose results are no longer rejected.
    pub(super) fn end_rollbacks(&mut self, effects: &mut Vec<Effect>) {
        let causes = (0..self.plan.templates.len()).map(Cause::Template).chain([Cause::Resource]);
        for cause in causes {
            let is_pending = match cause {
                Cause::Template(t) => self.reloads.templates[t],
                Cause::Resource => self.reloads.resource,
            };
            if !is_pending && !self.rollback.rejected.contains(&Some(cause)) {
                self.recovered(Subject::RolledBack(cause), effects);
            }
        }
    }

    /// A result that was rolled back is not retried.
    pub(super) fn held_back(&mut self, round: &mut Round, t: usize, effects: &mut Vec<Effect>) {
        round.outcome = round.outcome.max(Outcome::RolledBack);
        effects.push(Effect::Log(self.about(t, Level::Debug, "the result was rolled back, not trying it again")));
        self.recovered(Subject::Template(t), effects);
    }
}
