//! The plan of a resource: the part of its configuration that `resource` decides with, for the purpose of the run.
//! Decides nothing itself.

use std::collections::HashMap;
use std::ffi::OsString;
use std::time::Duration;

use super::Purpose;
use crate::config::{self, Commit, Mode, OnReloadFailure};
use crate::resource::{ChildPlan, Plan, ReloadBy, SettlePlan, TemplatePlan};

/// The plan of a resource.
pub(super) fn of(config: &config::Resource, mode: Mode, purpose: Purpose) -> Plan {
    Plan {
        mode,
        together: config.commit == Commit::Together,
        templates: plans_of(config, purpose),
        backends: config.backends.iter().map(|options| options.kind.name().to_owned()).collect(),
        is_preview: !purpose.writes(),
        start: purpose.acts() && config.start_cmd.is_some(),
        reload: purpose.acts() && config.reload_cmd.is_some(),
        rolls_back: config.on_reload_failure == OnReloadFailure::Rollback,
        child: config.exec.as_ref().filter(|_| purpose.acts()).map(|exec| ChildPlan {
            reload: exec.reload_signal.map_or(ReloadBy::Restart, ReloadBy::Signal),
            splay: exec.splay,
        }),
        settle: SettlePlan {
            min: config.settle.map_or(Duration::ZERO, |settle| settle.min),
            max: config.settle.map_or(Duration::ZERO, |settle| settle.max),
            splay: config.splay,
        },
        // The guard does not apply to runs that only show keys or results.
        guard: config.guard.clone().filter(|_| purpose.compares()),
    }
}

fn plans_of(resource: &config::Resource, purpose: Purpose) -> Vec<TemplatePlan> {
    let text = |t: &config::Template| {
        let text = t.reload_cmd.as_ref()?.text(&t.dst);
        Some((text, t.on_reload_failure))
    };
    // The last template of each reload command.
    let mut last: HashMap<(OsString, OnReloadFailure), usize> = HashMap::new();
    if resource.reload_once {
        last.extend(resource.templates.iter().enumerate().filter_map(|(t, template)| Some((text(template)?, t))));
    }
    let plan = |(t, template): (usize, &config::Template)| TemplatePlan {
        dst: template.dst.display().to_string(),
        check: purpose.checks() && template.check_cmd.is_some(),
        reload: purpose.acts() && template.reload_cmd.is_some(),
        rolls_back: template.on_reload_failure == OnReloadFailure::Rollback,
        reloaded_by: if resource.reload_once { text(template).map_or(t, |text| last[&text]) } else { t },
    };
    resource.templates.iter().enumerate().map(plan).collect()
}
