//! The pending reloads: those that installed files require and that have not succeeded yet. Another run or another
//! configuration takes them over. Does not decide when a reload runs.

use super::{Resource, TemplatePlan, Update};
use crate::config::Mode;
use crate::state::reloads::PendingReloads;

/// The reloads that installed files require and that have not succeeded yet.
#[derive(Clone, Debug)]
pub(super) struct Reloads {
    /// Indexed by the template after which the command runs ([`TemplatePlan::reloaded_by`]).
    pub(super) templates: Vec<bool>,
    pub(super) child: bool,
    pub(super) resource: bool,
}

impl Resource {
    /// Takes over the pending reloads of a replaced resource: its files are in place, and no later change would require
    /// these reloads again. A start_cmd replaces them.
    pub fn inherit(&mut self, before: &Resource) {
        if self.plan.start {
            return;
        }
        for template in self.plan.templates.iter().filter(|template| template.reload) {
            let earlier = before.plan.templates.iter().find(|earlier| earlier.dst == template.dst);
            self.reloads.templates[template.reloaded_by] |=
                earlier.is_some_and(|earlier| before.reloads.templates[earlier.reloaded_by]);
        }
        self.reloads.resource |= self.plan.reload && before.reloads.resource;
    }

    /// Takes over the pending reloads of an earlier run. A start_cmd replaces them.
    pub fn resume_reloads(&mut self, reloads: &PendingReloads) {
        if self.plan.start {
            return;
        }
        for template in self.plan.templates.iter().filter(|template| template.reload) {
            self.reloads.templates[template.reloaded_by] |= reloads.templates.contains(&template.dst);
        }
        self.reloads.resource |= self.plan.reload && reloads.resource;
    }

    /// The pending reloads.
    pub fn pending_reloads(&self) -> PendingReloads {
        self.pending_reloads_of(&self.reloads)
    }

    /// The pending reloads once a template is installed, and with it all files that are replaced together.
    pub fn pending_reloads_with(&self, t: usize) -> PendingReloads {
        let pending = match &self.update {
            Update::Committing(_, commit) => self.reloads_after(commit),
            _ => self.reloads_with(&[t]),
        };
        self.pending_reloads_of(&pending)
    }

    /// A command that several templates share is pending for each of them: some of them may be missing in the next
    /// configuration.
    pub(super) fn pending_reloads_of(&self, pending: &Reloads) -> PendingReloads {
        let templates = self.plan.templates.iter().map(|template| (template, pending.templates[template.reloaded_by]));
        let templates = templates.filter(|(template, pending)| template.reload && *pending);
        PendingReloads {
            templates: templates.map(|(template, _)| template.dst.clone()).collect(),
            resource: pending.resource,
        }
    }

    /// The pending reloads once templates are installed, in this order.
    pub(super) fn reloads_with(&self, templates: &[usize]) -> Reloads {
        let mut pending = self.reloads.clone();
        for t in templates {
            let TemplatePlan { reload, reloaded_by: by, .. } = self.plan.templates[*t];
            let reload = reload && !self.start_stands_in_for_reloads();
            // Another template may require this command.
            pending.templates[by] = reload || pending.templates[by] && by != *t;
            pending.resource |= self.is_up() && self.plan.reload && self.plan.mode == Mode::Watch;
            // The first files of a resource require no reload: start_cmd and the start of the child read them.
            if self.is_up() {
                pending.child = self.child.is_some();
            }
        }
        pending
    }
}
