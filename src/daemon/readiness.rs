//! The state of all resources, as telemetry and systemd report it: whether all are in place, which ones wait, and
//! which ones fail. Sends nothing.

use super::record::state_of;
use super::telemetry::Subject;
use super::unit::Unit;
use crate::backend::Pool;
use crate::count::count;
use crate::cut::without_controls;
use crate::host::notify::Readiness;
use crate::metrics::Gauge;
use crate::resource::Resource;
use crate::status::State;

/// The resources, for telemetry.
pub(super) struct Resources<'a> {
    pub(super) units: &'a [Unit],
    pub(super) pool: &'a Pool,
}

impl Subject for Resources<'_> {
    fn gauges(&self) -> Vec<Gauge> {
        let mut all = Vec::new();
        for unit in self.units {
            let is_in_sync = unit.state.has_started() && !unit.state.is_failing();
            let revision = |backend| unit.revision(backend, self.pool);
            unit.record.iter().for_each(|record| record.gauges(is_in_sync, revision, &mut all));
        }
        all
    }

    fn health(&self) -> (bool, String) {
        if self.units.is_empty() {
            return (false, "the program is ending\n".to_owned());
        }
        let (mut is_well, mut text) = (true, String::new());
        for unit in self.units {
            let state = state_of(&unit.state);
            is_well &= state == State::InPlace;
            text.push_str(&format!("{}: {state}\n", without_controls(&unit.config.name).collect::<String>()));
        }
        (is_well, text)
    }
}

/// Whether every resource has had its first complete update, and the state of all resources in one line.
pub(super) fn readiness_of(units: &[Unit]) -> Readiness {
    let names = |which: fn(&Resource) -> bool| -> Vec<&str> {
        units.iter().filter(|unit| which(&unit.state)).map(|unit| &*unit.config.name).collect()
    };
    let (waiting, failing) = (names(|state| !state.has_started()), names(Resource::is_failing));
    let all = count(units.len(), "resource", "resources");
    let mut status = match waiting.len() {
        0 => format!("{all} in place"),
        _ => format!("{all}, first update under way: {}", some_of(&waiting)),
    };
    let cached: Vec<&str> = units.iter().filter(|unit| unit.is_from_cache()).map(|unit| &*unit.config.name).collect();
    if !cached.is_empty() {
        status.push_str(&format!("; from cache: {}", some_of(&cached)));
    }
    if !failing.is_empty() {
        status.push_str(&format!("; failing: {}", some_of(&failing)));
    }
    Readiness { is_ready: waiting.is_empty(), status }
}

/// The first names, and the number of the others.
fn some_of(names: &[&str]) -> String {
    const NAMED: usize = 3;
    let named = names[..names.len().min(NAMED)].join(", ");
    match names.len().saturating_sub(NAMED) {
        0 => named,
        more => format!("{named} and {more} more"),
    }
}
