//! The reloads that installed files require and that have not succeeded yet: which they are, and how another run or
//! another configuration continues them. Does not decide when a reload runs.

use super::{Resource, TemplatePlan, Update};
use crate::config::Mode;
use crate::state::debts::Debts;

/// Reloads that an installed file requires and that have not succeeded yet.
#[derive(Clone, Debug)]
pub(super) struct Owed {
    /// At the template after which the command runs ([`TemplatePlan::reloaded_by`]).
    pub(super) templates: Vec<bool>,
    pub(super) child: bool,
    pub(super) resource: bool,
}

impl Resource {
    /// Takes over the reloads that a replaced resource still owed: its files are in place, and no later change would require
    /// these reloads again. A start_cmd replaces them.
    pub fn inherit(&mut self, before: &Resource) {
        if self.plan.start {
            return;
        }
        for template in self.plan.templates.iter().filter(|template| template.reload) {
            let earlier = before.plan.templates.iter().find(|earlier| earlier.dst == template.dst);
            self.owed.templates[template.reloaded_by] |=
                earlier.is_some_and(|earlier| before.owed.templates[earlier.reloaded_by]);
        }
        self.owed.resource |= self.plan.reload && before.owed.resource;
    }

    /// Takes over the reloads that an earlier run owed. A start_cmd replaces them.
    pub fn owe(&mut self, debts: &Debts) {
        if self.plan.start {
            return;
        }
        for template in self.plan.templates.iter().filter(|template| template.reload) {
            self.owed.templates[template.reloaded_by] |= debts.templates.contains(&template.dst);
        }
        self.owed.resource |= self.plan.reload && debts.resource;
    }

    /// The reloads that are owed.
    pub fn debts(&self) -> Debts {
        self.debts_of(&self.owed)
    }

    /// The reloads that are owed once a template is installed, and with it all files that are replaced together.
    pub fn debts_with(&self, t: usize) -> Debts {
        let owed = match &self.update {
            Update::Committing(_, commit) => self.owed_behind(commit),
            _ => self.owed_with(&[t]),
        };
        self.debts_of(&owed)
    }

    /// A command that several templates share is owed to each of them: the next configuration may lack some.
    pub(super) fn debts_of(&self, owed: &Owed) -> Debts {
        let templates = self.plan.templates.iter().map(|template| (template, owed.templates[template.reloaded_by]));
        let templates = templates.filter(|(template, owed)| template.reload && *owed);
        Debts { templates: templates.map(|(template, _)| template.dst.clone()).collect(), resource: owed.resource }
    }

    /// What is owed once templates are installed, in this order.
    pub(super) fn owed_with(&self, templates: &[usize]) -> Owed {
        let mut owed = self.owed.clone();
        for t in templates {
            let TemplatePlan { reload, reloaded_by: by, .. } = self.plan.templates[*t];
            let reload = reload && !self.start_stands_in_for_reloads();
            // Another template may owe the same command.
            owed.templates[by] = reload || owed.templates[by] && by != *t;
            owed.resource |= self.is_up() && self.plan.reload && self.plan.mode == Mode::Watch;
            // The first files of a resource owe no reload: start_cmd and the start of the child read them.
            if self.is_up() {
                owed.child = self.child.is_some();
            }
        }
        owed
    }
}
