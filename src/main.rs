//! The program: parses flags, loads the configuration, runs the loop, returns the exit code.
//! No other file exits the process.

mod look;

use std::env::consts;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::rc::Rc;
use std::time::{Duration, Instant};

use remco::cli::{self, Action, Invocation, Options};
use remco::config::{self, Config, Finding, Mode, Strictness};
use remco::daemon::purpose::{Changes, Commands, Purpose};
use remco::daemon::{Daemon, Ending, Lock, Start, WhenHeld, lock_of};
use remco::error::cause;
use remco::host::lock_file;
use remco::host::logger::{Logger, print_stderr};
use remco::host::machine::Machine;
use remco::host::notify::Notify;
use remco::host::pid_file::{PidFile, Taken};
use remco::host::process;
use remco::host::random;
use remco::host::read::whole_file;
use remco::host::signals::Signals;
use remco::log::{Level, Line};
use remco::status::Status;
use remco::template::World;
use remco::template::scripts::Scripts;

/// The exit code for an invalid configuration, or a machine that lacks something remco needs.
const UNUSABLE: u8 = 1;
/// The exit code for invalid flags.
const USAGE: u8 = 2;
/// The exit code of `--status` if no program runs, or its state cannot be read.
const NOT_RUNNING: u8 = 4;
/// The largest status file, in bytes: larger than the state of thousands of resources.
const LARGEST_STATUS: usize = 64 << 20;
/// The largest exit code for failed resources. Shells use larger ones for signals.
const MOST_FAILED: u8 = 125;
/// The exit code if another process holds the lock, and `--no-wait` is given.
const LOCKED: u8 = 5;
/// The exit code if a file was replaced, nothing failed, and `--changed-exit` is given.
const CHANGED: u8 = 6;

fn main() -> ExitCode {
    match cli::parse(std::env::args_os().skip(1)) {
        Ok(Invocation::Run(options)) => match &options.action {
            Action::Apply { commands, diff } => {
                let commands = if *commands { Commands::Run } else { Commands::Skip };
                run(&options, Purpose::Apply { commands, changes: if *diff { Changes::Log } else { Changes::Leave } })
            }
            Action::Look(look) => look::run(&options, look),
        },
        Ok(Invocation::Status { config, json, only }) => print_status(&config, json, &only),
        Ok(Invocation::Help) => print(cli::help().as_bytes(), 0),
        Ok(Invocation::Version) => print(cli::version(&format!("{}-{}", consts::ARCH, consts::OS)).as_bytes(), 0),
        Err(error) => {
            print_stderr(&format!("remco: {error}\n"));
            ExitCode::from(USAGE)
        }
    }
}

/// Prepares the process for signals and children.
///
/// # Errors
/// The exit code: the signal handlers cannot be installed. The error was reported.
fn prepare() -> Result<(Rc<Signals>, Rc<Machine>), ExitCode> {
    let signals = Signals::install().map_err(|e| {
        print_stderr(&format!("remco: failed to install signal handlers: {}\n", cause(&e)));
        ExitCode::from(UNUSABLE)
    })?;
    process::adopt_orphans();
    let machine = Rc::new(Machine::new(Rc::clone(&signals)));
    Ok((signals, machine))
}

fn run(options: &Options, purpose: Purpose) -> ExitCode {
    let began = Instant::now();
    let (signals, machine) = match prepare() {
        Ok(prepared) => prepared,
        Err(code) => return code,
    };
    let Loaded { config, scripts, warnings } = match load(options, &machine) {
        Ok(loaded) => loaded,
        Err(Refused { headline, report, code }) => {
            let path = options.config.display();
            print_stderr(&format!("{report}\nremco: {headline} `{path}`, nothing was started\n"));
            return ExitCode::from(code);
        }
    };

    let logger = Rc::new(Logger::new(config.log_level, config.log_format, Rc::clone(&machine)));
    announce(&options.config, &config, &warnings, &logger);
    let mut pid_file = match create_pid_file(config.pid_file.as_deref(), &logger) {
        Ok(pid_file) => pid_file,
        Err(taken) => {
            let path = options.config.display();
            logger.print(&format!("remco: {taken}; config `{path}` was not started\n"));
            return ExitCode::from(UNUSABLE);
        }
    };

    let notify = Notify::from_environment().unwrap_or_else(|message| {
        logger.log(&Line::new(Level::Warn, message));
        Notify::default()
    });

    let mut daemon = Daemon::new((options.mode, purpose), signals, Rc::clone(&logger), Rc::clone(&machine), notify);
    if options.override_guard {
        daemon.override_guards();
    }
    daemon.start_after(start_of(options, config.splay));
    // One-shot runs with several configurations may share a directory, one after the other.
    let has_all = options.mode == Mode::Watch && options.only.is_empty();
    config.state_dir.iter().for_each(|path| daemon.keep_state_in(path.clone(), has_all));
    if let Some(timeout) = options.timeout {
        daemon.limit_time(began, timeout);
    }
    daemon.set_status_file(config.status_file.as_deref());
    if let Err(why) = daemon.set_telemetry(&config.telemetry) {
        let path = options.config.display();
        logger.print(&format!("remco: {why}; config `{path}` was not started\n"));
        return ExitCode::from(UNUSABLE);
    }
    if options.render_all {
        daemon.render_all();
    }
    daemon.adopt(config, scripts);
    loop {
        match daemon.run() {
            Ending::Stopped => return ExitCode::SUCCESS,
            // The exit code of a shell for this signal.
            Ending::CutShort { signal } => return ExitCode::from(128 + signal),
            Ending::Done { failed, child, replaced } => {
                return ExitCode::from(code_of(options, failed, child, replaced));
            }
            Ending::Locked => return ExitCode::from(LOCKED),
            Ending::Unusable => return ExitCode::from(UNUSABLE),
            Ending::Reload => reload(options, &machine, &logger, &mut daemon, &mut pid_file),
        }
    }
}

/// The conditions of the start: a random part of the splay, and the lock.
fn start_of(options: &Options, configured: Duration) -> Start {
    let splay = options.splay.unwrap_or(configured);
    let nanos = u64::try_from(splay.as_nanos()).unwrap_or(u64::MAX);
    let delay = if nanos == 0 { Duration::ZERO } else { Duration::from_nanos(random::below(nanos)) };
    let when_held = if options.no_wait { WhenHeld::GiveUp } else { WhenHeld::Wait };
    Start { delay, lock: options.lock.clone().map(|path| Lock { path, when_held }) }
}

/// The exit code of a completed run. With the flags that use 5 and 6, every failure is 1.
fn code_of(options: &Options, failed: usize, child: Option<u8>, replaced: bool) -> u8 {
    match child {
        _ if failed > 0 && (options.changed_exit || options.no_wait) => UNUSABLE,
        // A child that exits with 0 is a failure too, because it should have kept running.
        Some(status @ 1..) => status,
        Some(0) | None if failed > 0 => u8::try_from(failed).unwrap_or(MOST_FAILED).min(MOST_FAILED),
        Some(0) | None if replaced && options.changed_exit => CHANGED,
        Some(0) | None => 0,
    }
}

/// Reloads the configuration. An invalid one changes nothing.
fn reload(options: &Options, machine: &Machine, logger: &Logger, daemon: &mut Daemon, pid_file: &mut Option<PidFile>) {
    let path = options.config.display().to_string();
    logger.log(&Line::new(Level::Info, "loading new config").with("file", path));
    let Loaded { config, scripts, warnings } = match load(options, machine) {
        Ok(loaded) => loaded,
        Err(Refused { headline, report, .. }) => {
            let line = Line::new(Level::Error, headline);
            let error = "the new config is not used, the present one stays";
            return logger.log(&Line { detail: Some(report), ..line.with("error", error) });
        }
    };
    if config.resources.is_empty() {
        // The file is probably being written. Without resources the program would exit.
        let line = Line::new(Level::Error, INVALID);
        return logger.log(&line.with("error", "it has no resources and is not used, the present one stays"));
    }
    logger.set(config.log_level, config.log_format);
    announce(&options.config, &config, &warnings, logger);
    if !daemon.keeps_state_in(config.state_dir.as_deref()) {
        let line = "the new `state_dir` is used after the next start only, until then the present one";
        logger.log(&Line::new(Level::Warn, line));
    }
    let path = config.pid_file.clone();
    daemon.set_status_file(config.status_file.as_deref());
    if let Err(why) = daemon.set_telemetry(&config.telemetry) {
        logger.log(&Line::new(Level::Error, "failed to send metrics").with("error", why).with("sink", "prometheus"));
    }
    daemon.adopt(config, scripts);
    move_pid_file(pid_file, path.as_deref(), logger);
}

fn create_pid_file(path: Option<&Path>, logger: &Logger) -> Result<Option<PidFile>, Taken> {
    path.map_or(Ok(None), |path| PidFile::create(path, logger))
}

/// Moves the pid file to the path of the configuration. A pid file that is missing is written again. A pid file of
/// another remco is an error line, and the program keeps running.
fn move_pid_file(pid_file: &mut Option<PidFile>, path: Option<&Path>, logger: &Logger) {
    let stays = match (&pid_file, path) {
        (Some(pid_file), Some(path)) => pid_file.is_at(path),
        (None, None) => true,
        (Some(_), None) | (None, Some(_)) => false,
    };
    if stays {
        return;
    }
    // The old file is removed first, because the new path may lead to it.
    *pid_file = None;
    match create_pid_file(path, logger) {
        Ok(created) => *pid_file = created,
        Err(taken) => logger.log(&Line::new(Level::Error, taken.to_string())),
    }
}

/// Logs the files of a configuration and its warnings.
fn announce(main: &Path, config: &Config, warnings: &[Finding], logger: &Logger) {
    for path in [main].into_iter().chain(config.included.iter().map(PathBuf::as_path)) {
        let line = Line::new(Level::Info, "loading resource configuration");
        logger.log(&line.with("path", path.display().to_string()));
    }
    for warning in warnings {
        logger.log(&Line::new(Level::Warn, warning.headline()));
    }
}

/// A configuration that can be used.
struct Loaded {
    config: Config,
    scripts: Scripts,
    warnings: Vec<Finding>,
}

/// A configuration that cannot be used.
struct Refused {
    /// [`UNREAD`], [`INVALID`] or [`MISMATCH`].
    headline: &'static str,
    /// All errors and warnings.
    report: String,
    /// The exit code at the start.
    code: u8,
}

impl Refused {
    fn new(headline: &'static str, report: String) -> Refused {
        Refused { headline, report, code: UNUSABLE }
    }
}

/// The message of Go remco for every configuration that it refuses.
const UNREAD: &str = "failed to read config";
const INVALID: &str = "invalid config";
/// `--only` names no resource of the configuration, or `--timeout` is not longer than its `splay`.
const MISMATCH: &str = "a flag does not fit config";

fn headline(unreadable: bool) -> &'static str {
    if unreadable { UNREAD } else { INVALID }
}

/// Reads and checks the configuration, and applies the flags that replace parts of it.
///
/// # Errors
/// The configuration is invalid or not supported; all errors are in the report. Or `--only` names no
/// resource of it, or `--timeout` is not longer than its `splay`.
fn load(options: &Options, machine: &Machine) -> Result<Loaded, Refused> {
    let loaded = config::load(&options.config, options.strictness, options.mode, machine);
    let (mut config, warnings) =
        loaded.map_err(|findings| Refused::new(headline(findings.unreadable), findings.to_string()))?;
    config.restrict(&options.only).map_err(|report| Refused { headline: MISMATCH, report, code: USAGE })?;
    config.log_level = options.log_level.unwrap_or(config.log_level);
    config.log_format = options.log_format.unwrap_or(config.log_format);
    if let Some(timeout) = options.timeout {
        let refused = |report| Refused { headline: MISMATCH, report, code: USAGE };
        cli::check_splay(options.splay.unwrap_or(config.splay), timeout).map_err(refused)?;
    }
    let (scripts, broken) = scripts(&config);
    if !broken.is_empty() {
        return Err(Refused::new(INVALID, broken.join("\n")));
    }
    Ok(Loaded { config, scripts, warnings })
}

/// The filters of the user, and their errors.
#[cfg(feature = "js")]
fn scripts(config: &Config) -> (Scripts, Vec<String>) {
    remco::host::javascript::load(&config.filters)
}

/// A configuration with filters was refused before.
#[cfg(not(feature = "js"))]
fn scripts(_: &Config) -> (Scripts, Vec<String>) {
    (Scripts::default(), Vec::new())
}

/// Prints the state of the program that runs with a configuration, or that of the resources of some names.
fn print_status(path: &Path, json: bool, only: &[String]) -> ExitCode {
    let signals = match Signals::install() {
        Ok(signals) => signals,
        Err(e) => {
            print_stderr(&format!("remco: failed to install signal handlers: {}\n", cause(&e)));
            return ExitCode::from(USAGE);
        }
    };
    let machine = Machine::new(signals);
    let file = match config::load(path, Strictness::Lenient, Mode::Watch, &machine) {
        Ok((mut config, _)) if config.status_file.is_some() => {
            if let Err(report) = config.restrict(only) {
                print_stderr(&format!("{report}\nremco: {MISMATCH} `{}`\n", path.display()));
                return ExitCode::from(USAGE);
            }
            config.status_file.unwrap_or_default()
        }
        Ok(_) => {
            let advice = "add a line such as `status_file = \"/run/remco/status.json\"`";
            print_stderr(&format!(
                "remco: config `{}` has no `status_file`: {advice}, and reload remco\n",
                path.display()
            ));
            return ExitCode::from(USAGE);
        }
        Err(findings) => {
            print_stderr(&format!("{findings}\nremco: {} `{}`\n", headline(findings.unreadable), path.display()));
            return ExitCode::from(USAGE);
        }
    };
    let shown = file.display();
    match lock_file::is_held(&lock_of(&file)) {
        Ok(true) => {}
        // The lock is made with the file.
        Ok(false) => return not_running(&format!("no remco runs with the status file `{shown}`")),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
            return not_running(&format!("no remco runs with the status file `{shown}`"));
        }
        Err(e) => return not_running(&format!("failed to open the lock beside `{shown}`: {}", cause(&e))),
    }
    let read = whole_file(&file, LARGEST_STATUS).map_err(|e| cause(&e));
    match read.and_then(|text| Status::of_json(&text)) {
        Ok(mut status) => {
            status.restrict(only);
            let text = if json { status.to_json() } else { status.table(machine.now().0) };
            let has = |name: &&String| status.resources.iter().any(|resource| resource.name == **name);
            let missing = only.iter().find(|name| !has(name));
            if let Some(name) = missing {
                print_stderr(&format!(
                    "remco: the running remco has no resource `{name}`: reload it, or start it without `--only`\n"
                ));
            }
            print(text.as_bytes(), u8::from(missing.is_some() || !status.is_healthy()))
        }
        Err(why) => not_running(&format!("failed to read the status file `{shown}`: {why}")),
    }
}

fn not_running(why: &str) -> ExitCode {
    print_stderr(&format!("remco: {why}\n"));
    ExitCode::from(NOT_RUNNING)
}

/// Prints the output of a run. A closed pipe is no failure; a full disk is one, with
/// exit code 1. (A standard output that is closed at the start was replaced by /dev/null before `main`: that cannot be
/// seen.)
fn print(output: &[u8], code: u8) -> ExitCode {
    let mut stdout = io::stdout().lock();
    match stdout.write_all(output).and_then(|()| stdout.flush()) {
        Err(e) if e.kind() != io::ErrorKind::BrokenPipe => {
            print_stderr(&format!("remco: failed to write to standard output: {}\n", cause(&e)));
            ExitCode::from(UNUSABLE)
        }
        Ok(()) | Err(_) => ExitCode::from(code),
    }
}
