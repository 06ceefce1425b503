//! The modes that write no file: they run once without effects, and print the result to standard output. They take no
//! pid file and no lock, and send nothing to systemd, so that they can run beside a remco of the same configuration.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::rc::Rc;

use remco::backend;
use remco::cli::{Look, Options};
use remco::config::{self, Config, LogLevel, Source};
use remco::daemon::purpose::{Commands, Findings, Outcome, Purpose};
use remco::daemon::{Daemon, Ending, limits_of};
use remco::explain;
use remco::host::logger::{Logger, print_stderr};
use remco::host::machine::Machine;
use remco::host::notify::Notify;
use remco::host::signals::Signals;
use remco::log::{Level, Line, printable};
use remco::mask::SECRET;
use remco::quote::on_one_line;
use remco::resource::Verdict;
use remco::template::scripts::Scripts;
use remco::template::{Template, World};

use super::{Loaded, Refused, UNUSABLE, USAGE, load, prepare, print, scripts};

/// The exit code if something would change.
const DIFFERS: u8 = 3;

/// The result of a run of all resources.
struct Run {
    resources: Vec<Names>,
    findings: Vec<Findings>,
}

/// The names of one resource in the output.
struct Names {
    resource: String,
    /// For each template: its file, and its destination.
    templates: Vec<(PathBuf, PathBuf)>,
    /// In merge order.
    backends: Vec<config::Backend>,
}

/// Runs the mode of the flags.
pub fn run(options: &Options, what: &Look) -> ExitCode {
    let (signals, machine) = match prepare() {
        Ok(prepared) => prepared,
        Err(code) => return code,
    };
    match what {
        Look::Changes { checks } => {
            let checks = if *checks { Commands::Run } else { Commands::Skip };
            let run = look(options, Purpose::Preview { checks }, signals, &machine);
            run.map_or_else(|code| code, |run| print(&run.changes(), run.code_of_changes()))
        }
        Look::Problems => check(options, &machine),
        Look::Result { template, data } => {
            let run = render(options, template, data.as_deref(), signals, &machine);
            run.map_or_else(|code| code, |run| print(&run.results(), run.code()))
        }
        Look::Keys { json } => {
            let run = look(options, Purpose::Keys, signals, &machine);
            run.map_or_else(|code| code, |run| print(&if *json { run.keys_as_json() } else { run.keys() }, run.code()))
        }
        Look::Reads { json } => {
            let run = look(options, Purpose::Explain, signals, &machine);
            run.map_or_else(|code| code, |run| print(run.explanation(*json).as_bytes(), run.code()))
        }
    }
}

/// Prints all problems of the configuration and its templates, without a store.
fn check(options: &Options, machine: &Rc<Machine>) -> ExitCode {
    let (config, findings) = config::inspect(&options.config, options.strictness, options.mode, &**machine);
    let mut problems = Problems::default();
    for finding in &findings.list {
        problems.add(finding.fatal, &finding.to_string());
    }
    if let Some(mut config) = config {
        if let Err(report) = config.restrict(&options.only) {
            print_stderr(&format!("{report}\n"));
            return ExitCode::from(USAGE);
        }
        let (scripts, broken) = scripts(&config);
        broken.iter().for_each(|report| problems.add(true, report));
        check_templates(&config, scripts, machine, options, &mut problems);
    }
    let Problems { mut text, errors, warnings } = problems;
    text.push_str(&match (errors, warnings) {
        (0, 0) => format!("config `{}` is fine\n", options.config.display()),
        _ => format!("config `{}`: errors: {errors}, warnings: {warnings}\n", options.config.display()),
    });
    let is_strict = options.strictness == config::Strictness::Strict;
    print(text.as_bytes(), u8::from(errors > 0 || is_strict && warnings > 0))
}

#[derive(Default)]
struct Problems {
    text: String,
    errors: usize,
    warnings: usize,
}

impl Problems {
    fn add(&mut self, is_error: bool, text: &str) {
        *(if is_error { &mut self.errors } else { &mut self.warnings }) += 1;
        self.text.push_str(text);
        self.text.push('\n');
    }
}

/// Compiles each template once. A name that nothing sets is a warning.
fn check_templates(
    config: &Config,
    scripts: Scripts,
    machine: &Rc<Machine>,
    options: &Options,
    problems: &mut Problems,
) {
    let world: Rc<dyn World> = Rc::<Machine>::clone(machine);
    let scripts = Rc::new(scripts);
    let mut seen: Vec<&Path> = Vec::new();
    for template in config.resources.iter().flat_map(|resource| &resource.templates) {
        if seen.contains(&&*template.src) {
            continue;
        }
        seen.push(&template.src);
        match Template::compile_within(&template.src, &world, limits_of(config), Rc::clone(&scripts)) {
            Ok(compiled) => {
                for unknown in compiled.unknown_variables() {
                    let place = format!("{}:{}:{}", unknown.file.display(), unknown.line, unknown.col);
                    let warning = if options.strictness == config::Strictness::Strict { "" } else { "warning: " };
                    let text = format!("{place}: {warning}nothing sets `{}`, it is empty", unknown.name);
                    problems.add(warning.is_empty(), &text);
                }
            }
            Err(error) => problems.add(true, &error.to_string()),
        }
    }
}

/// Renders one template, with the keys of a file or those of the resource that has it.
///
/// # Errors
/// The exit code, as [`look`].
fn render(
    options: &Options,
    template: &Path,
    data: Option<&Path>,
    signals: Rc<Signals>,
    machine: &Rc<Machine>,
) -> Result<Run, ExitCode> {
    let refuse = |text: &str| {
        print_stderr(&format!("remco: {text}\n"));
        ExitCode::from(UNUSABLE)
    };
    let loaded = || load(options, machine).map_err(|refused| refuse_config(options, refused));
    let (config, scripts) = match data {
        Some(data) => {
            let one = config::of_template(template, data, &**machine).map_err(|report| refuse(&report))?;
            match options.has_config {
                // Its limits and filters.
                true => {
                    let Loaded { config, scripts, .. } = loaded()?;
                    (Config { resources: one.resources, ..config }, scripts)
                }
                false => (one, Scripts::default()),
            }
        }
        None => {
            let Loaded { mut config, scripts, .. } = loaded()?;
            keep_template(&mut config, template, machine).map_err(|report| refuse(&report))?;
            (config, scripts)
        }
    };
    let logger = quiet_logger(options, &config, machine);
    run_once(options, config, scripts, Purpose::Render, signals, machine, logger)
}

/// Leaves the one resource that has a template, with that template alone.
///
/// # Errors
/// None has it, or several have.
fn keep_template(config: &mut Config, template: &Path, machine: &Machine) -> Result<(), String> {
    let wanted = machine.identity(template);
    let shown = template.display();
    for resource in &mut config.resources {
        let at = resource.templates.iter().position(|one| machine.identity(&one.src) == wanted);
        resource.templates = at.map(|at| resource.templates.swap_remove(at)).into_iter().collect();
    }
    config.resources.retain(|resource| !resource.templates.is_empty());
    match &config.resources[..] {
        [_] => Ok(()),
        [] => Err(format!(
            "no resource has the template `{shown}`: name a `src` of the configuration, or add `--data FILE`"
        )),
        several => {
            let names: Vec<String> =
                several.iter().map(|resource| format!("`{}`", printable(&resource.name))).collect();
            Err(format!("several resources have the template `{shown}`: add `--only` and one of {}", names.join(", ")))
        }
    }
}

fn refuse_config(options: &Options, refused: Refused) -> ExitCode {
    let Refused { headline, report, code } = refused;
    print_stderr(&format!("{report}\nremco: {headline} `{}`\n", options.config.display()));
    ExitCode::from(code)
}

/// Loads the configuration and runs its resources once.
///
/// # Errors
/// The exit code: the configuration cannot be used, or a signal ended the run. The error was reported.
fn look(options: &Options, purpose: Purpose, signals: Rc<Signals>, machine: &Rc<Machine>) -> Result<Run, ExitCode> {
    let loaded = load(options, machine).map_err(|refused| refuse_config(options, refused))?;
    let Loaded { config, scripts, warnings } = loaded;
    let logger = quiet_logger(options, &config, machine);
    for warning in &warnings {
        logger.log(&Line::new(Level::Warn, warning.headline()));
    }
    run_once(options, config, scripts, purpose, signals, machine, logger)
}

/// Without `--log-level`, only warnings and errors are logged, because the output is the result of the mode.
fn quiet_logger(options: &Options, config: &Config, machine: &Rc<Machine>) -> Rc<Logger> {
    let level = options.log_level.unwrap_or_else(|| config.log_level.max(LogLevel::Warn));
    Rc::new(Logger::new(level, config.log_format, Rc::clone(machine)))
}

fn run_once(
    options: &Options,
    config: Config,
    scripts: Scripts,
    purpose: Purpose,
    signals: Rc<Signals>,
    machine: &Rc<Machine>,
    logger: Rc<Logger>,
) -> Result<Run, ExitCode> {
    let resources = config.resources.iter().map(Names::of).collect();
    let mut daemon = Daemon::new((options.mode, purpose), signals, logger, Rc::clone(machine), Notify::default());
    if options.override_guard {
        daemon.override_guards();
    }
    daemon.adopt(config, scripts);
    loop {
        match daemon.run() {
            Ending::Done { .. } => return Ok(Run { resources, findings: daemon.take_findings() }),
            // The rest may differ. No lock is requested in these modes.
            Ending::Stopped | Ending::CutShort { .. } | Ending::Locked | Ending::Unusable => {
                return Err(ExitCode::from(UNUSABLE));
            }
            // Nothing is reloaded, because the run ends by itself.
            Ending::Reload => {}
        }
    }
}

impl Run {
    /// The changes of all files, and a line for each resource.
    fn changes(&self) -> Vec<u8> {
        let mut out = Vec::new();
        for outcome in self.findings.iter().flat_map(|seen| &seen.templates) {
            if let Outcome::Differs(text) = outcome {
                out.extend_from_slice(text);
            }
        }
        for seen in &self.findings {
            let count = |which: fn(&Outcome) -> bool| seen.templates.iter().filter(|o| which(o)).count();
            let changed = count(|outcome| matches!(outcome, Outcome::Differs(_)));
            let in_sync = count(|outcome| matches!(outcome, Outcome::InSync));
            let failed = if seen.verdict == Some(Verdict::Succeeded) { "" } else { ", failed" };
            let name = printable(&self.resources[seen.resource].resource);
            out.extend_from_slice(format!("# {name}: {changed} would change, {in_sync} in sync{failed}\n").as_bytes());
        }
        out
    }

    fn code_of_changes(&self) -> u8 {
        let differs = |outcome: &Outcome| matches!(outcome, Outcome::Differs(_));
        if self.has_failed() {
            UNUSABLE
        } else if self.findings.iter().flat_map(|seen| &seen.templates).any(differs) {
            DIFFERS
        } else {
            0
        }
    }

    /// The results of all templates, one after the other.
    fn results(&self) -> Vec<u8> {
        let outcomes = self.findings.iter().flat_map(|seen| &seen.templates);
        let results = outcomes.filter_map(|outcome| match outcome {
            Outcome::Rendered(text) => Some(&text[..]),
            Outcome::None | Outcome::InSync | Outcome::Differs(_) | Outcome::Explained(_) | Outcome::Failed { .. } => {
                None
            }
        });
        results.collect::<Vec<_>>().concat()
    }

    /// The keys of each resource below a line with its name: key, value and backend, with tabs between them.
    fn keys(&self) -> Vec<u8> {
        let mut out = String::new();
        for seen in &self.findings {
            let names = &self.resources[seen.resource];
            let failed = if has_succeeded(seen) { "" } else { ": failed" };
            out.push_str(&format!("# {}{failed}\n", printable(&names.resource)));
            for Key { key, value, backend, also_in } in names.keys(seen) {
                let value = value.map_or_else(|| SECRET.to_owned(), on_one_line);
                out.push_str(&format!("{}\t{value}\t{backend}", on_one_line(key)));
                if !also_in.is_empty() {
                    out.push_str(&format!(" (collision: also in {})", also_in.join(", ")));
                }
                out.push('\n');
            }
        }
        out.into_bytes()
    }

    /// The keys as one JSON object. Bytes that are not UTF-8 are in `key_base64` and `value_base64` instead of `key`
    /// and `value`.
    fn keys_as_json(&self) -> Vec<u8> {
        let resources: Vec<serde_json::Value> = self
            .findings
            .iter()
            .map(|seen| {
                let names = &self.resources[seen.resource];
                let keys: Vec<_> = names.keys(seen).map(Key::into_json).collect();
                serde_json::json!({ "name": names.resource, "failed": !has_succeeded(seen), "keys": keys })
            })
            .collect();
        format!("{:#}\n", serde_json::json!({ "resources": resources })).into_bytes()
    }

    /// The reads of the templates.
    fn explanation(&self, as_json: bool) -> String {
        let resources: Vec<_> =
            self.findings.iter().map(|seen| self.resources[seen.resource].explained(seen)).collect();
        match as_json {
            true => format!("{:#}\n", explain::as_json(&resources)),
            false => explain::text(&resources),
        }
    }

    fn code(&self) -> u8 {
        u8::from(self.has_failed())
    }

    fn has_failed(&self) -> bool {
        !self.findings.iter().all(has_succeeded)
    }
}

fn has_succeeded(seen: &Findings) -> bool {
    seen.verdict == Some(Verdict::Succeeded)
}

/// A key as templates see it.
struct Key<'a> {
    key: &'a [u8],
    /// `None`: it is secret.
    value: Option<&'a [u8]>,
    /// The backend that has the value.
    backend: &'a str,
    /// Further backends that have the key; their values are not seen.
    also_in: Vec<&'a str>,
}

impl Names {
    fn of(resource: &config::Resource) -> Names {
        let templates = resource.templates.iter().map(|template| (template.src.clone(), template.dst.clone()));
        Names { resource: resource.name.clone(), templates: templates.collect(), backends: resource.backends.clone() }
    }

    fn explained<'a>(&'a self, seen: &'a Findings) -> explain::Resource<'a> {
        let template = |((src, dst), outcome): (&'a (PathBuf, PathBuf), &'a Outcome)| {
            let (reads, error) = match outcome {
                Outcome::Explained(reads) => (Some(reads), None),
                Outcome::Failed { reads, error } => (reads.as_ref(), Some(&**error)),
                Outcome::None | Outcome::InSync | Outcome::Differs(_) | Outcome::Rendered(_) => (None, None),
            };
            explain::Template { src, dst, reads, error }
        };
        let backends = self.backends.iter().enumerate().map(|(layer, options)| {
            let is_there = |prefix: &[u8]| seen.store.has_prefix(layer, prefix);
            let is_watched = options.watch && options.watch_keys != options.keys;
            let without =
                options.watch_keys.iter().filter(|key| is_watched && backend::has_none(options, key, is_there));
            let is_read = |key: &&String| options.keys.iter().any(|read| key.starts_with(read.as_str()));
            let (unmatched, outside) = without.cloned().partition(|key| is_read(&key));
            explain::Backend { name: options.kind.name(), is_secret: options.secret, unmatched, outside }
        });
        explain::Resource {
            name: &self.resource,
            has_failed: !has_succeeded(seen),
            templates: self.templates.iter().zip(&seen.templates).map(template).collect(),
            backends: backends.collect(),
            store: &seen.store,
        }
    }

    fn keys<'a>(&'a self, seen: &'a Findings) -> impl Iterator<Item = Key<'a>> {
        seen.store.all().filter_map(|(key, value)| {
            let mut layers: Vec<usize> = seen.store.layers_of(key).collect();
            let backend = &self.backends[layers.pop()?];
            let also_in = layers.into_iter().map(|layer| self.backends[layer].kind.name()).collect();
            Some(Key { key, value: (!backend.secret).then_some(value), backend: backend.kind.name(), also_in })
        })
    }
}

impl Key<'_> {
    fn into_json(self) -> serde_json::Value {
        let mut object = serde_json::Map::new();
        explain::add(&mut object, "key", self.key);
        match self.value {
            Some(value) => explain::add(&mut object, "value", value),
            None => _ = object.insert("secret".to_owned(), true.into()),
        }
        object.insert("backend".to_owned(), self.backend.into());
        if !self.also_in.is_empty() {
            object.insert("also_in".to_owned(), self.also_in.into());
        }
        object.into()
    }
}
