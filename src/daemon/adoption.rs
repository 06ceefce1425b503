//! Replaces the configuration at run time: decides which resources stay, which end, and which start in their place.
//! `succession` decides about the order of old and new resources. Does not read the configuration.

use std::path::Path;
use std::rc::Rc;
use std::time::Instant;

use super::Daemon;
use super::status_file::StatusFile;
use super::succession::{self, Service};
use super::telemetry::Telemetry;
use super::unit::Unit;
use crate::config::{self, Config, Mode};
use crate::log::{Level, Line};
use crate::template::Limits;
use crate::template::scripts::Scripts;

impl Daemon {
    /// Replaces the configuration. A resource that is configured as before keeps its keys, its watch and its state, and
    /// is rendered again in a turn of its own. Every other resource starts when the processes of its predecessors have
    /// ended, and inherits their pending reloads. `scripts` are the filters of filter_dir.
    pub fn adopt(&mut self, config: Config, scripts: Scripts) {
        if !(scripts.is_empty() && self.machine.scripts().is_empty()) {
            self.units.iter_mut().for_each(Unit::forget_templates);
        }
        self.machine.set_scripts(scripts);

        let old: Vec<&config::Resource> = self.units.iter().map(|unit| &unit.config).collect();
        let kept = succession::kept(&old, &config.resources.iter().collect::<Vec<_>>());
        let is_kept = |at: usize| kept.contains(&Some(at));
        let (mut units, mut gone) = (Vec::new(), Vec::new());
        for (at, unit) in self.units.drain(..).enumerate() {
            if is_kept(at) { units.push(unit) } else { gone.push(unit) }
        }
        units.iter_mut().for_each(Unit::ask_to_refresh);
        let limits = limits_of(&config);
        let mut new: Vec<Unit> = Vec::new();
        for (resource, _) in config.resources.into_iter().zip(&kept).filter(|(_, kept)| kept.is_none()) {
            let (logger, machine) = (Rc::clone(&self.logger), Rc::clone(&self.machine));
            let mut unit = Unit::new(self.next_number, resource, (self.mode, self.purpose), logger, machine);
            if self.state_path.is_none() && self.state_dir.is_none() {
                unit.sweep();
            }
            (unit.limits, unit.renders_all) = (limits, self.renders_all);
            if self.overrides_guards {
                unit.state.override_guard();
            }
            new.push(unit);
            self.next_number += 1;
        }
        self.replace(gone, &mut new);
        self.units = units;
        self.units.extend(new);
        self.units.iter_mut().for_each(|unit| unit.limits = limits);
        let registry = self.telemetry.as_ref().map(|telemetry| &telemetry.registry);
        let has_status = self.status_file.is_some();
        self.units.iter_mut().for_each(|unit| unit.set_record(registry, has_status));
        self.status_file.iter_mut().for_each(|file| file.touch(Instant::now()));
        if let Some(telemetry) = &self.telemetry {
            telemetry.retain_resources(|name| self.units.iter().any(|unit| unit.config.name == name));
        }
    }

    /// Ends the units of `gone`. The units of `new` take over their state.
    fn replace(&mut self, gone: Vec<Unit>, new: &mut [Unit]) {
        let numbers = gone.iter().map(|unit| unit.number).collect();
        let services = new.iter().map(|unit| (unit.number, Service::of(&unit.config))).collect();
        let replaced = self.succession.succeed(&numbers, services);
        for (unit, replaced) in new.iter_mut().zip(replaced) {
            let before = gone.iter().filter(|old| replaced.contains(&old.number));
            for old in before {
                unit.state.inherit(&old.state);
                unit.inherit_baseline(old);
            }
        }
        let pool = &mut self.pool;
        self.has_replaced |= gone.iter().any(|unit| unit.has_replaced);
        self.terminating.extend(gone.into_iter().flat_map(|unit| unit.shut_down(pool)));
        self.settle_succession();
        for unit in new.iter().filter(|unit| self.succession.is_held(unit.number)) {
            let line = Line::new(Level::Info, "waiting until the processes of the resource it replaces have ended");
            self.logger.log(&line.with("resource", unit.config.name.clone()));
        }
    }

    /// Writes the state of the program to this file from now on. To be called before [`Daemon::adopt`]. A run that ends
    /// by itself writes no status file: the file belongs to the daemon with this configuration.
    pub fn set_status_file(&mut self, path: Option<&Path>) {
        let path = path.filter(|_| self.mode == Mode::Watch);
        if self.status_file.as_ref().is_some_and(|file| path.is_some_and(|path| file.is_at(path))) {
            return;
        }
        self.status_file = path.map(|path| StatusFile::new(path.to_owned(), Instant::now()));
    }

    /// Starts telemetry, applies a new configuration of it, or ends it. To be called before [`Daemon::adopt`].
    ///
    /// # Errors
    /// The program cannot listen at the address for Prometheus. If the program continues, it retries.
    pub fn set_telemetry(&mut self, config: &config::Telemetry) -> Result<(), String> {
        if !config.enabled {
            self.telemetry = None;
            return Ok(());
        }
        let (mode, logger, machine) = (self.mode, &self.logger, &self.machine);
        let new = || Telemetry::new(mode, Rc::clone(logger), Rc::clone(machine));
        self.telemetry.get_or_insert_with(new).configure(config, Instant::now())
    }
}

/// The configured limits of a render.
pub fn limits_of(config: &Config) -> Limits {
    let config::Limits { template_steps, template_time, template_output, template_memory } = config.limits;
    Limits { steps: template_steps, time: template_time, output: template_output, memory: template_memory }
}
