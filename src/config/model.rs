//! What a checked configuration holds. Every default is filled in and every text is parsed, so
//! that nothing behind it looks at strings again. What runs is `resource::Resource`.

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::backend::Backend;

/// A whole configuration, with include_dir and default_backends worked in.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    pub log_level: LogLevel,
    pub log_format: LogFormat,
    /// The `*.js` files of filter_dir, by name.
    pub filters: Vec<PathBuf>,
    pub pid_file: Option<PathBuf>,
    pub resources: Vec<Resource>,
    pub telemetry: Telemetry,
    pub limits: Limits,
    /// The files of include_dir that were read, in that order: each is logged.
    pub included: Vec<PathBuf>,
}

/// What one render of a template may cost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Tags, expressions and loop rounds that are run, and every 16 bytes that they read or make.
    pub template_steps: u64,
    /// Processor time.
    pub template_time: Duration,
    /// Bytes of the result, and of each text or list on the way to it.
    pub template_output: usize,
    /// Bytes of all texts, lists and maps that are alive at a time.
    pub template_memory: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum LogLevel {
    Trace,
    Debug,
    Info,
    Warn,
    Error,
    Off,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    Text,
    Json,
}

/// One `[[resource]]`: templates that are rendered from the same keys.
#[derive(Clone, Debug, PartialEq)]
pub struct Resource {
    /// For people; two resources may have the same.
    pub name: String,
    /// For `/bin/sh -c`, untemplated; after the first successful render.
    pub start_cmd: Option<String>,
    /// How long it may take; `None`: as long as it likes.
    pub start_timeout: Option<Duration>,
    /// For `/bin/sh -c`, untemplated; after an update that changed something.
    pub reload_cmd: Option<String>,
    /// How long it may take; `None`: as long as it likes.
    pub reload_timeout: Option<Duration>,
    pub exec: Option<Exec>,
    pub templates: Vec<Template>,
    /// In merge order: a later one wins.
    pub backends: Vec<Backend>,
}

/// The supervised child of a resource.
#[derive(Clone, Debug, PartialEq)]
pub struct Exec {
    /// The program and its arguments; at least one word. There is no shell.
    pub command: Vec<Word>,
    /// The number of a signal; 0 sends nothing. `None`: the child is stopped and started again.
    pub reload_signal: Option<i32>,
    pub kill_signal: i32,
    pub kill_timeout: Duration,
    /// The upper end of a random delay.
    pub splay: Duration,
}

/// One word of an exec command: its parts, joined.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Word {
    pub parts: Vec<WordPart>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum WordPart {
    Text(String),
    /// What this command for `/bin/sh -c` prints when the child is started, without the space around it.
    Output(String),
}

#[derive(Clone, Debug, PartialEq)]
pub struct Template {
    pub src: PathBuf,
    pub dst: PathBuf,
    pub make_directories: bool,
    /// Permission bits, at most 0o7777. `None`: dst's, else 0644.
    pub mode: Option<u32>,
    /// `None`: neither changed nor compared.
    pub uid: Option<u32>,
    pub gid: Option<u32>,
    /// Knows `{{.src}}`.
    pub check_cmd: Option<Command>,
    /// How long it may take; `None`: as long as it likes.
    pub check_timeout: Option<Duration>,
    /// Knows `{{.dst}}`.
    pub reload_cmd: Option<Command>,
    /// How long it may take; `None`: as long as it likes.
    pub reload_timeout: Option<Duration>,
    pub durability: Durability,
    /// The content of the file at `dst` is replaced, and the file is not.
    pub in_place: bool,
}

/// What of a new file is certain to survive a power cut once it is in place.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Durability {
    /// The file and its name: both are synced before anybody is told.
    #[default]
    Full,
    /// The file: after a power cut there is the old or the new one, whole.
    File,
    /// Nothing; the file may be there without its content.
    None,
}

/// A command for `/bin/sh -c` with the place of a path in it: text and path in turn.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Command {
    pub parts: Vec<CommandPart>,
}

impl Command {
    /// The command with a path in its place.
    pub fn text(&self, path: &Path) -> OsString {
        let parts = self.parts.iter().map(|part| match part {
            CommandPart::Text(text) => OsStr::new(text),
            CommandPart::Path => path.as_os_str(),
        });
        parts.collect()
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CommandPart {
    Text(String),
    Path,
}

/// Where metrics go. Parsed and checked; nothing is sent yet.
#[derive(Clone, Debug, PartialEq)]
pub struct Telemetry {
    pub enabled: bool,
    pub service_name: String,
    pub hostname: String,
    pub enable_hostname: bool,
    pub enable_hostname_label: bool,
    pub enable_runtime_metrics: bool,
    /// interval and retain
    pub inmem: Option<(Duration, Duration)>,
    pub statsd: Option<String>,
    pub statsite: Option<String>,
    /// address, and after how long a metric expires (zero: never)
    pub prometheus: Option<(String, Duration)>,
}
