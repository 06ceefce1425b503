//! The command line: the table of flags, from which help and parsing come, and the [`Invocation`] that flags ask for.
//! Prints nothing, does not exit, reads no file. The only file that uses lexopt.

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::time::Duration;

use crate::config::{self, DURATION_FORM, LogFormat, LogLevel, Mode, Strictness, duration};
use crate::nearest::nearest;

/// What the program is asked to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Invocation {
    /// Render and watch.
    Run(Options),
    /// Print the state of the running program and exit.
    Status {
        /// The main file of its configuration.
        config: PathBuf,
        /// Whether JSON is printed.
        json: bool,
        /// The names of the resources to tell of; empty: all.
        only: Vec<String>,
    },
    /// Print [`help`] and exit with 0.
    Help,
    /// Print [`version`] and exit with 0.
    Version,
}

/// The values of the flags.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// The main file of the configuration.
    pub config: PathBuf,
    /// Whether the command line names it.
    pub has_config: bool,
    /// Once, or until the program is stopped.
    pub mode: Mode,
    /// Whether probable mistakes are errors.
    pub strictness: Strictness,
    /// Whether every update renders every template.
    pub render_all: bool,
    /// The names of the resources to run; empty: all.
    pub only: Vec<String>,
    /// What to do with the results.
    pub action: Action,
    /// Replaces the level of the configuration.
    pub log_level: Option<LogLevel>,
    /// Replaces the log format of the configuration.
    pub log_format: Option<LogFormat>,
    /// How long the whole run may take. It is a one-shot run.
    pub timeout: Option<Duration>,
    /// Replaces the `splay` of the configuration; below `timeout`.
    pub splay: Option<Duration>,
    /// A lock that is held during the run. It is a one-shot run.
    pub lock: Option<PathBuf>,
    /// Whether the run ends where the lock is held by another process.
    pub no_wait: bool,
    /// Whether a run that replaced a file has an exit code of its own.
    pub changed_exit: bool,
    /// Accepts the first update of each resource, whatever its guard says.
    pub override_guard: bool,
}

/// What is done with the results.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// The files are kept in step.
    Apply {
        /// Whether commands run and children are started.
        commands: bool,
        /// Whether the changes of files are logged.
        diff: bool,
    },
    /// Something is printed, and no file is written.
    Look(Look),
}

/// What is printed instead of writing files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Look {
    /// What would change.
    Changes {
        /// Whether check commands run.
        checks: bool,
    },
    /// What is wrong with the configuration and its templates. No store is contacted.
    Problems,
    /// The result of one template.
    Result {
        /// The template.
        template: PathBuf,
        /// A file with its keys; `None`: those of the resource that has this template.
        data: Option<PathBuf>,
    },
    /// The keys that templates see.
    Keys {
        /// As JSON.
        json: bool,
    },
    /// What templates read.
    Reads {
        /// As JSON.
        json: bool,
    },
}

/// An invalid command line; the exit code is 2.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Error {
    message: String,
}

/// The main file of the configuration without `-config`.
pub const DEFAULT_CONFIG: &str = "/etc/remco/config";

/// One flag. Help, parsing and the suggestions for unknown flags come from these rows.
struct Flag {
    /// With the dashes of the help. Any flag may have one dash or two.
    name: &'static str,
    takes: Takes,
    group: Group,
    /// A line of the help, without a full stop.
    help: &'static str,
}

/// What follows a flag, and the field that it sets.
enum Takes {
    /// `true` or `false` behind a `=`, or nothing, which means `true`.
    Switch(fn(&mut Given) -> &mut bool),
    /// A value, behind a `=` or as the next argument. An error is the text behind the flag's name: what it needs.
    Value { name: &'static str, set: fn(&mut Given, OsString) -> Result<(), String> },
}

/// The headings of the help.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Group {
    Run,
    Look,
    Cron,
    Log,
    About,
}

const GROUPS: &[(Group, &str)] = &[
    (Group::Run, "What to run"),
    (Group::Look, "Look only: nothing is written, also beside a running remco"),
    (Group::Cron, "When, and how long"),
    (Group::Log, "What to log"),
    (Group::About, "About remco"),
];

/// All flags, in the order of the help.
const FLAGS: &[Flag] = &[
    Flag {
        name: "-config",
        takes: Takes::Value { name: "PATH", set: |given, path| given.set_config(path) },
        group: Group::Run,
        help: "the configuration file (/etc/remco/config)",
    },
    Flag {
        name: "-onetime",
        takes: Takes::Switch(|given| &mut given.onetime),
        group: Group::Run,
        help: "render everything once and exit",
    },
    Flag {
        name: "--only",
        takes: Takes::Value { name: "RESOURCE", set: |given, name| given.add_only(name) },
        group: Group::Run,
        help: "only the resources of this name (repeatable)",
    },
    Flag {
        name: "--override-guard",
        takes: Takes::Switch(|given| &mut given.override_guard),
        group: Group::Run,
        help: "accept a first update that a guard would refuse",
    },
    Flag {
        name: "--no-commands",
        takes: Takes::Switch(|given| &mut given.no_commands),
        group: Group::Run,
        help: "write files, run no check, reload, start or exec",
    },
    Flag {
        name: "--strict",
        takes: Takes::Switch(|given| &mut given.strict),
        group: Group::Run,
        help: "take unknown keys and unset variables for errors",
    },
    Flag {
        name: "--render-all",
        takes: Takes::Switch(|given| &mut given.render_all),
        group: Group::Run,
        help: "render all templates in each update",
    },
    Flag {
        name: "--check",
        takes: Takes::Switch(|given| &mut given.check),
        group: Group::Look,
        help: "check configuration and templates without a store",
    },
    Flag {
        name: "--dry-run",
        takes: Takes::Switch(|given| &mut given.dry_run),
        group: Group::Look,
        help: "print what would change as a diff, for patch -p1 -d /",
    },
    Flag {
        name: "--with-checks",
        takes: Takes::Switch(|given| &mut given.with_checks),
        group: Group::Look,
        help: "run check_cmd, on a file in a private directory",
    },
    Flag {
        name: "--render",
        takes: Takes::Value { name: "FILE", set: |given, file| given.set_render(file) },
        group: Group::Look,
        help: "print the result of one template",
    },
    Flag {
        name: "--data",
        takes: Takes::Value { name: "FILE", set: |given, file| given.set_data(file) },
        group: Group::Look,
        help: "its keys, in JSON or YAML, instead of a store's",
    },
    Flag {
        name: "--keys",
        takes: Takes::Switch(|given| &mut given.keys),
        group: Group::Look,
        help: "print the keys that templates see, and their backends",
    },
    Flag {
        name: "--explain",
        takes: Takes::Switch(|given| &mut given.explain),
        group: Group::Look,
        help: "print what each template reads, and what is missing",
    },
    Flag {
        name: "--splay",
        takes: Takes::Value { name: "TIME", set: |given, time| given.set_splay(time) },
        group: Group::Cron,
        help: "wait a random time below this before the start",
    },
    Flag {
        name: "--timeout",
        takes: Takes::Value { name: "TIME", set: |given, time| given.set_timeout(time) },
        group: Group::Cron,
        help: "with -onetime: fail what is not done after this time",
    },
    Flag {
        name: "--lock",
        takes: Takes::Value { name: "FILE", set: |given, file| given.set_lock(file) },
        group: Group::Cron,
        help: "with -onetime: wait while another run has this lock",
    },
    Flag {
        name: "--no-wait",
        takes: Takes::Switch(|given| &mut given.no_wait),
        group: Group::Cron,
        help: "with --lock: exit with 5 instead of waiting",
    },
    Flag {
        name: "--changed-exit",
        takes: Takes::Switch(|given| &mut given.changed_exit),
        group: Group::Cron,
        help: "with -onetime: exit with 6 if a file was replaced",
    },
    Flag {
        name: "--diff",
        takes: Takes::Switch(|given| &mut given.diff),
        group: Group::Log,
        help: "log what changes in each file that is replaced",
    },
    Flag {
        name: "--log-level",
        takes: Takes::Value { name: "LEVEL", set: |given, level| given.set_log_level(level) },
        group: Group::Log,
        help: "instead of the configuration's: trace to error, off",
    },
    Flag {
        name: "--log-format",
        takes: Takes::Value { name: "FORMAT", set: |given, format| given.set_log_format(format) },
        group: Group::Log,
        help: "instead of the configuration's: text or json",
    },
    Flag {
        name: "--status",
        takes: Takes::Switch(|given| &mut given.status),
        group: Group::About,
        help: "print the state of the running remco, and exit",
    },
    Flag {
        name: "--json",
        takes: Takes::Switch(|given| &mut given.json),
        group: Group::About,
        help: "print JSON, with --status, --keys or --explain",
    },
    Flag {
        name: "-version",
        takes: Takes::Switch(|given| &mut given.version),
        group: Group::About,
        help: "print the version and what is built in, and exit",
    },
    Flag {
        name: "-help",
        takes: Takes::Switch(|given| &mut given.help),
        group: Group::About,
        help: "print this text and exit (also -h)",
    },
];

/// The flags as they were given: each field is set by one row of [`FLAGS`].
#[derive(Default)]
struct Given {
    config: Option<PathBuf>,
    onetime: bool,
    strict: bool,
    render_all: bool,
    no_commands: bool,
    diff: bool,
    check: bool,
    dry_run: bool,
    with_checks: bool,
    render: Option<PathBuf>,
    data: Option<PathBuf>,
    keys: bool,
    explain: bool,
    only: Vec<String>,
    log_level: Option<LogLevel>,
    log_format: Option<LogFormat>,
    timeout: Option<Duration>,
    splay: Option<Duration>,
    lock: Option<PathBuf>,
    no_wait: bool,
    changed_exit: bool,
    override_guard: bool,
    status: bool,
    json: bool,
    version: bool,
    help: bool,
}

/// The output of `-h`.
pub fn help() -> String {
    let mut text = HELP_HEAD.to_owned();
    let left = |flag: &Flag| match flag.takes {
        Takes::Switch(_) => flag.name.to_owned(),
        Takes::Value { name, .. } => format!("{} {name}", flag.name),
    };
    let width = FLAGS.iter().map(|flag| left(flag).len()).max().unwrap_or(0);
    for (group, title) in GROUPS {
        text.push_str(&format!("\n{title}:\n"));
        for flag in FLAGS.iter().filter(|flag| flag.group == *group) {
            text.push_str(&format!("  {:width$}  {}\n", left(flag), flag.help));
        }
    }
    text + HELP_TAIL
}

const HELP_HEAD: &str = "\
Usage: remco [-config PATH] [FLAG ...]

Keeps configuration files in step with a key-value store: reads keys, renders
templates, checks the result, replaces the files and reloads services.
";

const HELP_TAIL: &str = "
Every flag may have one dash or two and its value behind a `=`: --config=PATH,
-onetime=false.

Exit status: 0, or with -onetime the number of resources that failed (at most
125); 1 if the configuration is wrong; 2 if the command line is; 5 if the lock
is held; 6 if a file was replaced. Where 5 or 6 can occur, any failure is 1.
With --status: 0 if all is well, 1 if a resource is not, 2 without status_file,
4 if no remco runs.
Flags that only look: 0, or 1 on failure; 3 if --dry-run finds a change.
";

/// The output of `-version`: the version, the features that are built in, and the target. `machine` is the processor and
/// the system, such as `x86_64-linux`.
pub fn version(machine: &str) -> String {
    let libc = if cfg!(target_env = "musl") {
        "-musl"
    } else if cfg!(target_env = "gnu") {
        "-gnu"
    } else {
        ""
    };
    let abi = if cfg!(target_abi = "eabihf") { "eabihf" } else { "" };
    let features = [("tls", cfg!(feature = "tls")), ("js", cfg!(feature = "js"))];
    let built_in: Vec<&str> = features.iter().filter(|(_, built_in)| *built_in).map(|(name, _)| *name).collect();
    let features = if built_in.is_empty() { "none".to_owned() } else { built_in.join(" ") };
    format!("remco {NUMBER}\nfeatures: {features}\ntarget: {machine}{libc}{abi}\n")
}

const NUMBER: &str = env!("CARGO_PKG_VERSION");

/// Parses the arguments after the program's name. A flag that is given twice has its last value, as in Go, unless it can be
/// repeated.
///
/// # Errors
/// An unknown flag, a flag without its value or with a wrong one, or an argument that is not a flag.
pub fn parse(arguments: impl IntoIterator<Item = OsString>) -> Result<Invocation, Error> {
    let mut given = Given::default();
    let mut parser = lexopt::Parser::from_args(with_two_dashes(arguments));
    while let Some(argument) = parser.next()? {
        let name = match argument {
            lexopt::Arg::Long(name) => name.to_owned(),
            lexopt::Arg::Short(letter) => letter.to_string(),
            lexopt::Arg::Value(value) => {
                let value = value.to_string_lossy();
                return Err(Error::new(format!("unexpected argument `{value}`: remco takes flags only")));
            }
        };
        let flag = flag(&name).ok_or_else(|| unknown(&name))?;
        match &flag.takes {
            Takes::Switch(field) => *field(&mut given) = switch(flag.name, &mut parser)?,
            Takes::Value { set, .. } => {
                let value = parser.value().unwrap_or_default();
                set(&mut given, value).map_err(|why| Error::new(format!("`{}` {why}", flag.name)))?;
            }
        }
        if given.help {
            return Ok(Invocation::Help);
        }
    }
    given.resolve()
}

/// The flag of a name without its dashes.
fn flag(name: &str) -> Option<&'static Flag> {
    let name = if name == "h" { "help" } else { name };
    FLAGS.iter().find(|flag| flag.name.trim_start_matches('-') == name)
}

fn file_of(value: OsString, what: &str) -> Result<PathBuf, String> {
    if value.is_empty() { Err(format!("needs {what}")) } else { Ok(value.into()) }
}

impl Given {
    fn resolve(self) -> Result<Invocation, Error> {
        if self.version {
            return Ok(Invocation::Version);
        }
        self.refuse_what_means_nothing()?;
        if self.status {
            let config = self.config.unwrap_or_else(|| PathBuf::from(DEFAULT_CONFIG));
            return Ok(Invocation::Status { config, json: self.json, only: self.only });
        }
        let action = if self.dry_run {
            Action::Look(Look::Changes { checks: self.with_checks })
        } else if self.check {
            Action::Look(Look::Problems)
        } else if let Some(template) = self.render {
            Action::Look(Look::Result { template, data: self.data })
        } else if self.keys {
            Action::Look(Look::Keys { json: self.json })
        } else if self.explain {
            Action::Look(Look::Reads { json: self.json })
        } else {
            Action::Apply { commands: !self.no_commands, diff: self.diff }
        };
        // What is wrong with a configuration depends on how long it will run.
        let is_look = matches!(&action, Action::Look(look) if *look != Look::Problems);
        Ok(Invocation::Run(Options {
            has_config: self.config.is_some(),
            config: self.config.unwrap_or_else(|| PathBuf::from(DEFAULT_CONFIG)),
            mode: if self.onetime || is_look { Mode::OneShot } else { Mode::Watch },
            strictness: if self.strict { Strictness::Strict } else { Strictness::Lenient },
            render_all: self.render_all,
            only: self.only,
            action,
            log_level: self.log_level,
            log_format: self.log_format,
            timeout: self.timeout,
            splay: self.splay,
            lock: self.lock,
            no_wait: self.no_wait,
            changed_exit: self.changed_exit,
            override_guard: self.override_guard,
        }))
    }

    /// Refuses flags that mean nothing together.
    fn refuse_what_means_nothing(&self) -> Result<(), Error> {
        let looks = [
            (self.check, "--check"),
            (self.dry_run, "--dry-run"),
            (self.render.is_some(), "--render"),
            (self.keys, "--keys"),
            (self.explain, "--explain"),
            (self.status, "--status"),
        ];
        let looks: Vec<&str> = looks.iter().filter(|(is_given, _)| *is_given).map(|(_, name)| *name).collect();
        if let [one, other, ..] = looks[..] {
            return Err(Error::new(format!("`{one}` and `{other}` exclude each other: give one of them")));
        }
        if let ([one], true) = (&looks[..], self.diff) {
            return Err(Error::new(format!("`--diff` goes with a run that writes files, not with `{one}`")));
        }
        let needed = [
            (self.with_checks, "--with-checks", self.dry_run, "--dry-run"),
            (self.data.is_some(), "--data", self.render.is_some(), "--render"),
            (self.no_commands, "--no-commands", self.onetime && looks.is_empty(), "-onetime"),
        ];
        if let Some((_, name, _, other)) = needed.iter().find(|(is_given, _, has_other, _)| *is_given && !has_other) {
            return Err(Error::new(format!("`{name}` needs `{other}`")));
        }
        let only_once = [
            (self.timeout.is_some(), "--timeout"),
            (self.lock.is_some(), "--lock"),
            (self.no_wait, "--no-wait"),
            (self.changed_exit, "--changed-exit"),
        ];
        let given = only_once.iter().find(|(is_given, _)| *is_given && !self.onetime);
        if let Some((_, name)) = given {
            return Err(Error::new(format!("`{name}` needs `-onetime`: without it remco does not end by itself")));
        }
        if self.json && !self.status && !self.keys && !self.explain {
            let needs = "`--json` needs `--status`, `--keys` or `--explain`: without it nothing is printed";
            return Err(Error::new(needs.to_owned()));
        }
        if self.no_wait && self.lock.is_none() {
            return Err(Error::new(
                "`--no-wait` needs `--lock FILE`: without it there is nothing to wait for".to_owned(),
            ));
        }
        match (self.splay, self.timeout) {
            (Some(splay), Some(timeout)) => in_time(splay, timeout).map_err(Error::new),
            (Some(_), None) | (None, _) => Ok(()),
        }
    }

    fn set_timeout(&mut self, time: OsString) -> Result<(), String> {
        let timeout = time_of(&time)?;
        if timeout.is_zero() {
            return Err("has to be more than 0".to_owned());
        }
        self.timeout = Some(timeout);
        Ok(())
    }

    fn set_splay(&mut self, time: OsString) -> Result<(), String> {
        self.splay = Some(time_of(&time)?);
        Ok(())
    }

    fn set_lock(&mut self, path: OsString) -> Result<(), String> {
        if path.is_empty() {
            return Err("needs a path, such as `--lock /run/remco.lock`".to_owned());
        }
        self.lock = Some(path.into());
        Ok(())
    }

    fn set_config(&mut self, path: OsString) -> Result<(), String> {
        if path.is_empty() {
            return Err("needs a path, such as `-config /etc/remco/config`".to_owned());
        }
        self.config = Some(path.into());
        Ok(())
    }

    fn set_render(&mut self, file: OsString) -> Result<(), String> {
        self.render = Some(file_of(file, "a template, such as `--render haproxy.tmpl`")?);
        Ok(())
    }

    fn set_data(&mut self, file: OsString) -> Result<(), String> {
        self.data = Some(file_of(file, "a file, such as `--data keys.json`")?);
        Ok(())
    }

    fn add_only(&mut self, name: OsString) -> Result<(), String> {
        match name.into_string() {
            Ok(name) if !name.is_empty() => self.only.push(name),
            Ok(_) => return Err("needs the `name` of a resource, such as `--only haproxy`".to_owned()),
            Err(name) => return Err(format!("needs the `name` of a resource, and `{}` is no UTF-8", name.display())),
        }
        Ok(())
    }

    fn set_log_level(&mut self, level: OsString) -> Result<(), String> {
        let level = level.to_string_lossy();
        self.log_level = Some(config::log_level_of(&level).map_err(|advice| format!("cannot be `{level}`{advice}"))?);
        Ok(())
    }

    fn set_log_format(&mut self, format: OsString) -> Result<(), String> {
        let format = format.to_string_lossy();
        let known = config::log_format_of(&format);
        self.log_format = Some(known.ok_or_else(|| format!("is either text or json, not `{format}`"))?);
        Ok(())
    }
}

/// Checks that a random delay before the start leaves time for the run.
///
/// # Errors
/// The delay can be as long as the run, or longer.
pub fn in_time(splay: Duration, timeout: Duration) -> Result<(), String> {
    match splay < timeout {
        true => Ok(()),
        false => Err("`splay` is not less than `--timeout`: the random delay is a part of that time".to_owned()),
    }
}

/// The duration behind a flag. An error is the text behind the flag's name.
fn time_of(value: &OsStr) -> Result<Duration, String> {
    let text = value.to_string_lossy();
    if text.is_empty() {
        return Err(format!("needs a time: {DURATION_FORM}"));
    }
    duration(&text).map_err(|why| format!("`{text}` {why}"))
}

/// Spells every flag with two dashes: Go treats `-config` and `--config` alike, lexopt reads six flags in `-config`.
/// Other arguments stay: `--`, the arguments after it, and the values of flags, which may begin with a dash.
fn with_two_dashes(arguments: impl IntoIterator<Item = OsString>) -> Vec<OsString> {
    let mut spelled = Vec::new();
    let mut flags = true;
    let mut value_next = false;
    for argument in arguments {
        let bytes = argument.as_bytes();
        if !flags || std::mem::take(&mut value_next) || bytes == b"-" || !bytes.starts_with(b"-") {
            spelled.push(argument);
            continue;
        }
        flags = bytes != b"--";
        let mut flag = argument.clone();
        if !bytes.starts_with(b"--") {
            flag = OsString::from("-");
            flag.push(&argument);
        }
        value_next = is_followed_by_value(&flag);
        spelled.push(flag);
    }
    spelled
}

/// Whether an argument is a flag whose value is the next argument.
fn is_followed_by_value(argument: &OsStr) -> bool {
    let name = argument.to_str().and_then(|argument| argument.strip_prefix("--"));
    name.and_then(flag).is_some_and(|flag| matches!(flag.takes, Takes::Value { .. }))
}

/// The optional value of a boolean flag, in the spellings of Go's strconv.ParseBool. It follows a `=`: in
/// `-onetime false` the second word is an argument.
fn switch(flag: &str, parser: &mut lexopt::Parser) -> Result<bool, Error> {
    let Some(value) = parser.optional_value() else {
        return Ok(true);
    };
    match value.as_bytes() {
        b"1" | b"t" | b"T" | b"TRUE" | b"true" | b"True" => Ok(true),
        b"0" | b"f" | b"F" | b"FALSE" | b"false" | b"False" => Ok(false),
        _ => {
            let value = OsStr::to_string_lossy(&value);
            Err(Error::new(format!("`{flag}` is either true or false, not `{value}`")))
        }
    }
}

/// Flags of confd and consul-template with another name here.
const RENAMED: &[(&str, &str)] = &[
    ("once", "-onetime"),
    ("config-file", "-config"),
    ("confdir", "-config"),
    ("noop", "--dry-run"),
    ("dry", "--dry-run"),
    ("sync-only", "--no-commands"),
    ("parse-only", "--check"),
];
/// Flags of confd and consul-template that are keys of the configuration here, and these keys.
const CONFIGURED: &[(&str, &str)] = &[
    ("backend", "[resource.backend.NAME]"),
    ("client-ca-keys", "client_ca_keys"),
    ("client-cert", "client_cert"),
    ("client-key", "client_key"),
    ("consul-addr", "nodes"),
    ("exec", "[resource.exec]"),
    ("file", "[resource.backend.file]"),
    ("interval", "interval"),
    ("node", "nodes"),
    ("password", "password"),
    ("pid-file", "pid_file"),
    ("prefix", "prefix"),
    ("srv-domain", "srv_record"),
    ("srv-record", "srv_record"),
    ("template", "[[resource.template]]"),
    ("username", "username"),
    ("vault-addr", "nodes"),
    ("watch", "watch"),
];

fn unknown(name: &str) -> Error {
    let bare = name.trim_start_matches('-');
    let renamed = RENAMED.iter().find(|(foreign, _)| *foreign == bare).map(|(_, known)| *known);
    let configured = CONFIGURED.iter().find(|(foreign, _)| *foreign == bare).map(|(_, key)| *key);
    let near = || nearest(name, FLAGS.iter().map(|flag| flag.name));
    let advice = match (renamed, configured) {
        (Some(known), _) => format!(", did you mean `{known}`?"),
        (None, Some(key)) => format!(": set `{key}` in the configuration file"),
        (None, None) => match near() {
            Some(known) => format!(", did you mean `{known}`?"),
            None => ": `remco -h` lists the flags".to_owned(),
        },
    };
    // Behind two dashes the name may begin with a third one.
    let dashes = if name.starts_with('-') { "--" } else { "-" };
    Error::new(format!("unknown flag `{dashes}{name}`{advice}"))
}

impl Error {
    fn new(message: String) -> Error {
        Error { message }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Error {}

impl From<lexopt::Error> for Error {
    fn from(error: lexopt::Error) -> Error {
        Error::new(error.to_string())
    }
}

#[cfg(test)]
#[path = "cli/completions/tests.rs"]
mod completions;

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::ffi::OsStringExt;

    fn run(line: &[&str]) -> Result<Invocation, Error> {
        parse(line.iter().map(OsString::from))
    }

    fn options(config: &str) -> Options {
        Options {
            config: config.into(),
            has_config: config != "/etc/remco/config",
            mode: Mode::Watch,
            strictness: Strictness::Lenient,
            render_all: false,
            only: Vec::new(),
            action: Action::Apply { commands: true, diff: false },
            log_level: None,
            log_format: None,
            timeout: None,
            splay: None,
            lock: None,
            no_wait: false,
            changed_exit: false,
            override_guard: false,
        }
    }

    #[track_caller]
    fn check(line: &[&str], config: &str, onetime: bool, strictness: Strictness) {
        let mode = if onetime { Mode::OneShot } else { Mode::Watch };
        let expected = Options { mode, strictness, ..options(config) };
        assert_eq!(run(line), Ok(Invocation::Run(expected)), "{line:?}");
    }

    #[track_caller]
    fn refuse(line: &[&str], message: &str) {
        assert_eq!(run(line).map_err(|error| error.to_string()), Err(message.to_owned()), "{line:?}");
    }

    #[test]
    fn takes_remcos_flags() {
        use Strictness::{Lenient, Strict};
        check(&[], "/etc/remco/config", false, Lenient);
        check(&["--"], "/etc/remco/config", false, Lenient);
        check(&["-config", "a"], "a", false, Lenient);
        check(&["--config", "a"], "a", false, Lenient);
        check(&["-config=a"], "a", false, Lenient);
        check(&["--config=a=b"], "a=b", false, Lenient);
        check(&["-config", "-onetime"], "-onetime", false, Lenient);
        check(&["-config", "--"], "--", false, Lenient);
        check(&["-config", "--config", "-onetime"], "--config", true, Lenient);
        check(&["-config=a", "-config=b"], "b", false, Lenient);
        check(&["-onetime", "-config", "a"], "a", true, Lenient);
        check(&["--onetime", "--strict"], "/etc/remco/config", true, Strict);
        check(&["-strict", "-strict=false"], "/etc/remco/config", false, Lenient);
        check(&["-version=false"], "/etc/remco/config", false, Lenient);
    }

    #[test]
    fn takes_gos_booleans() {
        let check = |value: &str, onetime| {
            check(&[&format!("-onetime={value}")], "/etc/remco/config", onetime, Strictness::Lenient);
        };
        for value in ["1", "t", "T", "TRUE", "true", "True"] {
            check(value, true);
        }
        for value in ["0", "f", "F", "FALSE", "false", "False"] {
            check(value, false);
        }
        refuse(&["-onetime=yes"], "`-onetime` is either true or false, not `yes`");
        refuse(&["-onetime="], "`-onetime` is either true or false, not ``");
        refuse(&["-version=tRUE"], "`-version` is either true or false, not `tRUE`");
    }

    #[test]
    fn shows_help_and_version() {
        for flag in ["-h", "--h", "-help", "--help"] {
            assert_eq!(run(&[flag]), Ok(Invocation::Help), "{flag}");
            assert_eq!(run(&["-onetime", flag, "-oops"]), Ok(Invocation::Help), "{flag}");
        }
        for flag in ["-version", "--version", "-version=1"] {
            assert_eq!(run(&[flag, "-config", "a"]), Ok(Invocation::Version), "{flag}");
        }
        let version = version("x86_64-linux");
        let lines: Vec<&str> = version.lines().collect();
        let [number, features, target] = lines[..] else { panic!("{version}") };
        assert_eq!(number, format!("remco {NUMBER}"));
        assert_eq!(features.contains("tls"), cfg!(feature = "tls"));
        assert_eq!(features.contains("js"), cfg!(feature = "js"));
        assert!(features.starts_with("features: ") && target.starts_with("target: x86_64-linux"));
        let help = help();
        assert!(help.lines().all(|line| line.chars().count() < 80), "{help}");
        assert!(FLAGS.iter().all(|flag| GROUPS.iter().any(|(group, _)| *group == flag.group)));
        assert!(help.contains("\nWhat to run:\n  -config PATH "), "{help}");
    }

    #[test]
    fn refuses_what_is_no_flag() {
        refuse(&["-confg", "a"], "unknown flag `-confg`, did you mean `-config`?");
        refuse(&["--one-time"], "unknown flag `-one-time`, did you mean `-onetime`?");
        refuse(&["-once"], "unknown flag `-once`, did you mean `-onetime`?");
        refuse(&["-confdir", "a"], "unknown flag `-confdir`, did you mean `-config`?");
        refuse(
            &["-backend", "etcd"],
            "unknown flag `-backend`: set `[resource.backend.NAME]` in the configuration file",
        );
        refuse(&["-node=a"], "unknown flag `-node`: set `nodes` in the configuration file");
        refuse(&["-interval", "3"], "unknown flag `-interval`: set `interval` in the configuration file");
        refuse(&["-prefix", "/a"], "unknown flag `-prefix`: set `prefix` in the configuration file");
        refuse(&["--stric"], "unknown flag `-stric`, did you mean `--strict`?");
        refuse(&["-v"], "unknown flag `-v`: `remco -h` lists the flags");
        refuse(&["-c", "a"], "unknown flag `-c`: `remco -h` lists the flags");
        refuse(&["-CONFIG=a"], "unknown flag `-CONFIG`, did you mean `-config`?");
        refuse(&["-"], "unexpected argument `-`: remco takes flags only");
        refuse(&["poll"], "unexpected argument `poll`: remco takes flags only");
        refuse(&["-onetime", "false"], "unexpected argument `false`: remco takes flags only");
        refuse(&["--", "-onetime"], "unexpected argument `-onetime`: remco takes flags only");
        refuse(&["", "-onetime"], "unexpected argument ``: remco takes flags only");
        refuse(&["---config=a"], "unknown flag `---config`, did you mean `-config`?");
        refuse(&["---check"], "unknown flag `---check`, did you mean `--check`?");
        refuse(&["----once"], "unknown flag `----once`, did you mean `-onetime`?");
        refuse(&["---help"], "unknown flag `---help`, did you mean `-help`?");
        refuse(&["---"], "unknown flag `---`: `remco -h` lists the flags");
        refuse(&["-=a"], "unknown flag `-`: `remco -h` lists the flags");
        refuse(&["-config"], "`-config` needs a path, such as `-config /etc/remco/config`");
        refuse(&["-config="], "`-config` needs a path, such as `-config /etc/remco/config`");
        refuse(&["-config", ""], "`-config` needs a path, such as `-config /etc/remco/config`");
    }

    #[test]
    fn takes_values() {
        let Ok(Invocation::Run(given)) = run(&["--only", "a", "-only=-b", "--log-level", "WARN", "-log-format=json"])
        else {
            panic!("flags")
        };
        assert_eq!(given.only, ["a", "-b"]);
        assert_eq!((given.log_level, given.log_format), (Some(LogLevel::Warn), Some(LogFormat::Json)));
        let Ok(Invocation::Run(given)) = run(&["--only", "-onetime"]) else { panic!("a name") };
        assert_eq!((given.only, given.mode), (vec!["-onetime".to_owned()], Mode::Watch));
        refuse(&["--only"], "`--only` needs the `name` of a resource, such as `--only haproxy`");
        refuse(&["--only="], "`--only` needs the `name` of a resource, such as `--only haproxy`");
        refuse(&["--log-level", "wran"], "`--log-level` cannot be `wran`, did you mean `warn`?");
        refuse(
            &["--log-level"],
            "`--log-level` cannot be ``: known are `trace`, `debug`, `info`, `warn`, `error` and `off`",
        );
        refuse(&["--log-format=xml"], "`--log-format` is either text or json, not `xml`");
    }

    #[test]
    fn takes_flags_for_cron() {
        let line = ["-onetime", "--timeout", "1m", "--splay=500ms", "--lock", "a", "--no-wait", "--changed-exit"];
        let expected = Options {
            mode: Mode::OneShot,
            timeout: Some(Duration::from_secs(60)),
            splay: Some(Duration::from_millis(500)),
            lock: Some("a".into()),
            no_wait: true,
            changed_exit: true,
            override_guard: false,
            ..options(DEFAULT_CONFIG)
        };
        assert_eq!(run(&line), Ok(Invocation::Run(expected)));
        let Ok(Invocation::Run(watching)) = run(&["--splay", "10"]) else { panic!("flags") };
        assert_eq!(watching.splay, Some(Duration::from_secs(10)));
    }

    #[test]
    fn refuses_flags_for_cron_that_mean_nothing() {
        for flag in ["--timeout=1", "--lock=a", "--no-wait", "--changed-exit"] {
            let name = flag.split('=').next().expect("a part is never missing");
            refuse(&[flag], &format!("`{name}` needs `-onetime`: without it remco does not end by itself"));
            refuse(
                &[flag, "-onetime=false"],
                &format!("`{name}` needs `-onetime`: without it remco does not end by itself"),
            );
        }
        refuse(&["-onetime", "--no-wait"], "`--no-wait` needs `--lock FILE`: without it there is nothing to wait for");
        refuse(
            &["-onetime", "--splay=5s", "--timeout=5s"],
            "`splay` is not less than `--timeout`: the random delay is a part of that time",
        );
        refuse(&["--timeout=0"], "`--timeout` has to be more than 0");
        refuse(&["--timeout"], "`--timeout` needs a time: write it like `500ms`, `30s` or `1h30m`");
        refuse(&["--splay=soon"], "`--splay` `soon` is not a duration: write it like `500ms`, `30s` or `1h30m`");
        refuse(&["--lock="], "`--lock` needs a path, such as `--lock /run/remco.lock`");
    }

    #[test]
    fn flags_that_only_look() {
        let action = |line: &[&str]| match run(line) {
            Ok(Invocation::Run(options)) => Ok((options.action, options.mode)),
            Ok(_) => panic!("{line:?}"),
            Err(error) => Err(error.to_string()),
        };
        assert_eq!(action(&["--dry-run"]), Ok((Action::Look(Look::Changes { checks: false }), Mode::OneShot)));
        assert_eq!(
            action(&["-dry-run", "-with-checks"]),
            Ok((Action::Look(Look::Changes { checks: true }), Mode::OneShot))
        );
        assert_eq!(action(&["--dry-run=false"]), Ok((Action::Apply { commands: true, diff: false }, Mode::Watch)));
        assert_eq!(
            action(&["-onetime", "--no-commands"]),
            Ok((Action::Apply { commands: false, diff: false }, Mode::OneShot))
        );
        assert_eq!(action(&["--diff"]), Ok((Action::Apply { commands: true, diff: true }, Mode::Watch)));
        refuse(&["--keys", "--diff"], "`--diff` goes with a run that writes files, not with `--keys`");
        assert_eq!(action(&["--check"]), Ok((Action::Look(Look::Problems), Mode::Watch)));
        assert_eq!(action(&["--check", "-onetime"]), Ok((Action::Look(Look::Problems), Mode::OneShot)));
        assert_eq!(action(&["--keys", "--json"]), Ok((Action::Look(Look::Keys { json: true }), Mode::OneShot)));
        let result = Look::Result { template: "a".into(), data: Some("-b".into()) };
        assert_eq!(action(&["--render", "a", "--data", "-b"]), Ok((Action::Look(result), Mode::OneShot)));
        refuse(&["--data=a"], "`--data` needs `--render`");
        assert_eq!(action(&["-explain"]), Ok((Action::Look(Look::Reads { json: false }), Mode::OneShot)));
        assert_eq!(action(&["--explain", "-json"]), Ok((Action::Look(Look::Reads { json: true }), Mode::OneShot)));
        refuse(&["--explain", "--keys"], "`--keys` and `--explain` exclude each other: give one of them");
        refuse(&["--json"], "`--json` needs `--status`, `--keys` or `--explain`: without it nothing is printed");
        refuse(&["--render"], "`--render` needs a template, such as `--render haproxy.tmpl`");
        refuse(&["--check", "--render=a"], "`--check` and `--render` exclude each other: give one of them");
        refuse(&["--with-checks"], "`--with-checks` needs `--dry-run`");
        refuse(&["--no-commands"], "`--no-commands` needs `-onetime`");
        refuse(&["-noop"], "unknown flag `-noop`, did you mean `--dry-run`?");
        refuse(&["-dry"], "unknown flag `-dry`, did you mean `--dry-run`?");
        refuse(&["-sync-only"], "unknown flag `-sync-only`, did you mean `--no-commands`?");
        refuse(&["-dryrun"], "unknown flag `-dryrun`, did you mean `--dry-run`?");
    }

    #[test]
    fn the_manual_page_has_every_flag() {
        let page = include_str!("../docs/remco.1").replace('\\', "");
        for Flag { name, takes, .. } in FLAGS {
            let entry = match takes {
                Takes::Switch(_) => format!(".TP\n.B {name}\n"),
                Takes::Value { name: value, .. } => format!(".TP\n.BI {name} \" {}\"\n", value.to_lowercase()),
            };
            assert!(page.contains(&entry), "{entry}");
        }
        assert!(page.contains(&format!("remco {NUMBER}")), "the version in its first line");
    }

    /// A package manager takes it for an update of Go remco.
    #[test]
    fn the_version_sorts_above_the_originals() {
        let numbers: Vec<u32> = NUMBER.split('.').map(|part| part.parse().expect("a number")).collect();
        assert!(numbers > vec![0, 12, 6], "{NUMBER}");
    }

    #[test]
    fn takes_any_bytes_for_a_path() {
        for flag in [&b"-config=/\xff"[..], b"--config=/\xff"] {
            let invocation = parse([OsString::from_vec(flag.to_vec())]).expect("a path");
            let Invocation::Run(options) = invocation else { panic!("{invocation:?}") };
            assert_eq!(options.config.as_os_str().as_bytes(), b"/\xff");
        }
        let words = [b"-config".to_vec(), b"-\xff".to_vec()].map(OsString::from_vec);
        let Ok(Invocation::Run(options)) = parse(words) else { panic!("a path") };
        assert_eq!(options.config.as_os_str().as_bytes(), b"-\xff");
        assert!(parse([OsString::from_vec(b"-\xff".to_vec())]).is_err());
    }
}
