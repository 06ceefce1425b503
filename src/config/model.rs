//! A checked configuration as data. Every default is filled in and every text is parsed, so that no other module parses
//! a text again. Running resources are `resource::Resource`.

use core::net::SocketAddr;
use std::ffi::{OsStr, OsString};
use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::backend::Backend;
use super::report::quoted;
use crate::nearest::nearest;

/// A whole configuration, with include_dir and default_backends applied.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// Lines below this level are not logged.
    pub log_level: LogLevel,
    /// The form of log lines.
    pub log_format: LogFormat,
    /// The `*.js` files of filter_dir, by name.
    pub filters: Vec<PathBuf>,
    /// The file that holds the process id.
    pub pid_file: Option<PathBuf>,
    /// The file that holds the state of the program.
    pub status_file: Option<PathBuf>,
    /// The upper end of a random delay before the start.
    pub splay: Duration,
    /// The directory for state that outlives the process; `None`: no state is kept.
    pub state_dir: Option<PathBuf>,
    /// The resources of the main file, then those of include_dir.
    pub resources: Vec<Resource>,
    /// The receivers of metrics.
    pub telemetry: Telemetry,
    /// The limits of every template.
    pub limits: Limits,
    /// The files of include_dir, in the order in which they were read.
    pub included: Vec<PathBuf>,
}

impl Config {
    /// Drops the resources with other names than these; no names keep all resources.
    ///
    /// # Errors
    /// No resource has one of the names. The text names it, and the nearest name or all names.
    pub fn restrict(&mut self, only: &[String]) -> Result<(), String> {
        let names = || self.resources.iter().map(|resource| &*resource.name);
        if let Some(unknown) = only.iter().find(|wanted| names().all(|name| name != *wanted)) {
            let advice = match nearest(unknown, names()) {
                Some(name) => format!(", did you mean {}?", quoted(name)),
                None => match names().map(quoted).collect::<Vec<_>>().join(", ") {
                    all if all.is_empty() => ": there are no resources".to_owned(),
                    all => format!(": there are {all}"),
                },
            };
            return Err(format!("no resource has the name {} of `--only`{advice}", quoted(unknown)));
        }
        self.resources.retain(|resource| only.is_empty() || only.contains(&resource.name));
        Ok(())
    }
}

/// The limits of one render of a template.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Tags, expressions and loop rounds that run, and every 16 bytes that they read or make.
    pub template_steps: u64,
    /// Processor time.
    pub template_time: Duration,
    /// Bytes of the result, and of each intermediate text or list.
    pub template_output: usize,
    /// Bytes of all texts, lists and maps that exist at a time.
    pub template_memory: usize,
}

/// The level of a log line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum LogLevel {
    /// Every step.
    Trace,
    /// Details for debugging.
    Debug,
    /// Changes and reloads.
    Info,
    /// Probable mistakes that change nothing.
    Warn,
    /// Failures.
    Error,
    /// No line has this level: as a limit it turns logging off.
    Off,
}

/// The form of log lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// A line of text.
    Text,
    /// A JSON object on one line.
    Json,
}

/// One `[[resource]]`: templates that are rendered from one set of keys.
#[derive(Clone, Debug, PartialEq)]
pub struct Resource {
    /// The name in log lines. Two resources may have one name, with a warning.
    pub name: String,
    /// For `/bin/sh -c`, without placeholders; run after the first successful render.
    pub start_cmd: Option<String>,
    /// The timeout of the command above; `None`: no timeout.
    pub start_timeout: Option<Duration>,
    /// For `/bin/sh -c`, without placeholders; run after an update that changed a file.
    pub reload_cmd: Option<String>,
    /// The timeout of the command above; `None`: no timeout.
    pub reload_timeout: Option<Duration>,
    /// Whether equal reload commands of its templates run once an update, after the last of these templates.
    pub reload_once: bool,
    /// The upper end of a random delay before an update.
    pub splay: Duration,
    /// Whether the files of an update are replaced one by one or together.
    pub commit: Commit,
    /// The reaction to a failed `reload_cmd`.
    pub on_reload_failure: OnReloadFailure,
    /// The time that an update waits for more changes; `None`: it does not wait.
    pub settle: Option<Settle>,
    /// The keys that an update needs; `None`: no rule.
    pub guard: Option<Guard>,
    /// The use of the keys of an earlier run.
    pub cache: Cache,
    /// The supervised child.
    pub exec: Option<Exec>,
    /// The templates, in the order of the file.
    pub templates: Vec<Template>,
    /// The backends in merge order: the last backend with a key gives the value.
    pub backends: Vec<Backend>,
}

/// The way in which the files of an update are replaced.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Commit {
    /// One by one, each with its check and reload. A failure does not delay the others.
    #[default]
    Each,
    /// All files are staged and checked before the first is replaced. If one fails, all old files stay.
    Together,
}

/// The reaction to a failed reload command.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum OnReloadFailure {
    /// The new file stays, and the command is tried again.
    #[default]
    Keep,
    /// The old file is put back, and the command runs for it.
    Rollback,
}

/// The time that an update waits for more changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settle {
    /// It waits until nothing has changed for this time.
    pub min: Duration,
    /// It waits at most this time after the first change; not below `min`.
    pub max: Duration,
}

/// The keys that an update needs. An update that breaks a rule is refused.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Guard {
    /// The smallest number of keys.
    pub min_keys: usize,
    /// The largest part of the keys of the last accepted update that may be missing, in percent; `None`: no limit.
    pub max_delete_percent: Option<u8>,
    /// Patterns (Go's path.Match). Each must match a key.
    pub require: Vec<String>,
}

/// The use of the keys of an earlier run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cache {
    /// The time that the resource waits for its stores first; `None`: without a limit.
    pub use_after: Option<Duration>,
    /// Older keys are not used; `None`: keys of any age are used.
    pub max_age: Option<Duration>,
    /// Whether secrets are kept too.
    pub secrets: bool,
}

/// The supervised child of a resource.
#[derive(Clone, Debug, PartialEq)]
pub struct Exec {
    /// The program and its arguments; at least one word. There is no shell.
    pub command: Vec<Word>,
    /// The number of a signal; 0 sends nothing. `None`: the child is stopped and started again.
    pub reload_signal: Option<i32>,
    /// The number of the signal that stops the child.
    pub kill_signal: i32,
    /// A child that has not exited this long after `kill_signal` is killed.
    pub kill_timeout: Duration,
    /// The upper end of a random delay.
    pub splay: Duration,
    /// Variables that are set for the child, by name.
    pub env: Vec<(String, String)>,
}

/// One word of an exec command: its parts, joined.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Word {
    /// The parts, in order; an empty word has none.
    pub parts: Vec<WordPart>,
}

/// A part of a word.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum WordPart {
    /// Literal text.
    Text(String),
    /// The output of this command for `/bin/sh -c` when the child is started, without the space around it.
    Output(String),
}

/// One `[[resource.template]]`.
#[derive(Clone, Debug, PartialEq)]
pub struct Template {
    /// The template.
    pub src: PathBuf,
    /// The file to write.
    pub dst: PathBuf,
    /// Whether missing directories above `dst` are created.
    pub make_directories: bool,
    /// Permission bits, at most 0o7777. `None`: those of `dst`, else 0644.
    pub mode: Option<u32>,
    /// The owner; `None`: neither changed nor compared.
    pub uid: Option<u32>,
    /// The group; `None`: neither changed nor compared.
    pub gid: Option<u32>,
    /// Has the placeholder `{{.src}}`.
    pub check_cmd: Option<Command>,
    /// The timeout of the command above; `None`: no timeout.
    pub check_timeout: Option<Duration>,
    /// Has the placeholder `{{.dst}}`.
    pub reload_cmd: Option<Command>,
    /// The timeout of the command above; `None`: no timeout.
    pub reload_timeout: Option<Duration>,
    /// The reaction to a failed `reload_cmd`.
    pub on_reload_failure: OnReloadFailure,
    /// The part of a new file that survives a power failure.
    pub durability: Durability,
    /// Whether the existing file at `dst` is written to instead of being replaced.
    pub in_place: bool,
    /// Whether the last file is kept at [`Template::backup_path`].
    pub backup: bool,
}

impl Template {
    /// The path of the backup, if one is kept: `dst` and `.bak`.
    pub fn backup_path(&self) -> Option<PathBuf> {
        let mut path = self.dst.clone().into_os_string();
        path.push(".bak");
        self.backup.then(|| path.into())
    }
}

/// The parts of a new file that survive a power failure after the file was installed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Durability {
    /// The file and its name: both are synced before commands run.
    #[default]
    Full,
    /// The complete old or new file.
    File,
    /// Nothing: the file may be there without its content.
    None,
}

/// A command for `/bin/sh -c` with placeholders of one path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Command {
    /// The parts, in order. Two texts in a row are joined.
    pub parts: Vec<CommandPart>,
}

impl Command {
    /// The command with the path in place of its placeholders.
    pub fn text(&self, path: &Path) -> OsString {
        let parts = self.parts.iter().map(|part| match part {
            CommandPart::Text(text) => OsStr::new(text),
            CommandPart::Path => path.as_os_str(),
        });
        parts.collect()
    }
}

/// A part of a command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CommandPart {
    /// Literal text.
    Text(String),
    /// The place of the path.
    Path,
}

/// The telemetry: the names of metrics, and the receivers.
#[derive(Clone, Debug, PartialEq)]
pub struct Telemetry {
    /// Whether metrics are counted and sent.
    pub enabled: bool,
    /// The first part of every metric's name.
    pub service_name: String,
    /// The name of the host; empty: the name of the machine.
    pub hostname: String,
    /// Whether the names of gauges contain the host's name.
    pub enable_hostname: bool,
    /// Whether the host's name is a label instead.
    pub enable_hostname_label: bool,
    /// Whether metrics of the process are sent too.
    pub enable_runtime_metrics: bool,
    /// The time that one aggregate covers, and how long aggregates are kept: whole seconds, at least one.
    pub inmem: Option<(Duration, Duration)>,
    /// The host and the port of statsd.
    pub statsd: Option<(String, u16)>,
    /// The host and the port of statsite.
    pub statsite: Option<(String, u16)>,
    /// The address to listen on, and the time after which a metric expires (zero: never).
    pub prometheus: Option<(Listen, Duration)>,
    /// The file for node_exporter.
    pub textfile: Option<PathBuf>,
}

impl Telemetry {
    /// Counts and sends nothing.
    pub fn off() -> Telemetry {
        Telemetry {
            enabled: false,
            service_name: String::new(),
            hostname: String::new(),
            enable_hostname: false,
            enable_hostname_label: false,
            enable_runtime_metrics: false,
            inmem: None,
            statsd: None,
            statsite: None,
            prometheus: None,
            textfile: None,
        }
    }
}

/// An address to listen on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Listen {
    /// An address and a port.
    Tcp(SocketAddr),
    /// A port of all addresses of the machine, IPv4 and IPv6.
    All(u16),
    /// The path of a unix socket.
    Unix(PathBuf),
}

impl fmt::Display for Listen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Listen::Tcp(address) => address.fmt(f),
            Listen::All(port) => write!(f, ":{port}"),
            Listen::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}
