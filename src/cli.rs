//! The command line: parses arguments to an [`Invocation`]. The flags are in `flags`, their values in `given`. Prints
//! nothing, does not exit, reads no file. The only file that uses lexopt.

mod flags;
mod given;

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::time::Duration;

use self::flags::{Takes, flag, unknown};
use self::given::Given;
use crate::config::{LogFormat, LogLevel, Mode, OPTIONAL_STORES, Strictness};

pub use self::flags::help;
pub use self::given::check_splay;

/// The task of the program.
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
        /// The names of the resources to print; empty: all.
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
    /// Whether the program runs once, or until it is stopped.
    pub mode: Mode,
    /// Whether probable mistakes are errors.
    pub strictness: Strictness,
    /// Whether every update renders every template.
    pub render_all: bool,
    /// The names of the resources to run; empty: all.
    pub only: Vec<String>,
    /// The use of the results.
    pub action: Action,
    /// Replaces the level of the configuration.
    pub log_level: Option<LogLevel>,
    /// Replaces the log format of the configuration.
    pub log_format: Option<LogFormat>,
    /// The time limit of the whole run, for a one-shot run.
    pub timeout: Option<Duration>,
    /// Replaces the `splay` of the configuration; below `timeout`.
    pub splay: Option<Duration>,
    /// A lock that is held during the run, for a one-shot run.
    pub lock: Option<PathBuf>,
    /// Whether the run ends if another process holds the lock.
    pub no_wait: bool,
    /// Whether a run that replaced a file has a special exit code.
    pub changed_exit: bool,
    /// Whether the first update of each resource is accepted even if its guard would refuse it.
    pub override_guard: bool,
}

/// The use of the results.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Files are written.
    Apply {
        /// Whether commands run and children are started.
        commands: bool,
        /// Whether changes of files are logged.
        diff: bool,
    },
    /// Something is printed instead, and no file is written.
    Look(Look),
}

/// The output of a run that writes no file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Look {
    /// The changes that a run would make.
    Changes {
        /// Whether check commands run.
        checks: bool,
    },
    /// The errors of the configuration and its templates. No store is contacted.
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
    /// The reads of templates.
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

/// Parses the arguments after the program's name. The last value of a repeated flag counts, as in Go, unless the flag
/// is a list.
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

/// The output of `-version`: the version, the features that are built in, and the target. `machine` is the processor
/// and the system, such as `x86_64-linux`.
pub fn version(machine: &str) -> String {
    let libc = if cfg!(target_env = "musl") {
        "-musl"
    } else if cfg!(target_env = "gnu") {
        "-gnu"
    } else {
        ""
    };
    let abi = if cfg!(target_abi = "eabihf") { "eabihf" } else { "" };
    let (first, last) =
        ([("tls", cfg!(feature = "tls")), ("roots", cfg!(feature = "roots"))], [("js", cfg!(feature = "js"))]);
    let features = first.iter().chain(OPTIONAL_STORES).chain(&last);
    let built_in: Vec<&str> = features.filter(|(_, built_in)| *built_in).map(|(name, _)| *name).collect();
    let features = if built_in.is_empty() { "none".to_owned() } else { built_in.join(" ") };
    format!("remco {NUMBER}\nfeatures: {features}\ntarget: {machine}{libc}{abi}\n")
}

const NUMBER: &str = env!("CARGO_PKG_VERSION");

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
mod tests;
