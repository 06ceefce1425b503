//! Parses the command line into an [`Invocation`]. Prints nothing, does not exit, reads no file. The only file that uses
//! lexopt.

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use crate::config::{Mode, Strictness};
use crate::nearest::nearest;

/// What the program is asked to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Invocation {
    /// Render and watch.
    Run(Options),
    /// Print [`USAGE`] and exit with 0.
    Help,
    /// Print [`version`] and exit with 0.
    Version,
}

/// The values of the flags.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// The main file of the configuration.
    pub config: PathBuf,
    /// Once, or until the program is stopped.
    pub mode: Mode,
    /// Whether probable mistakes are errors.
    pub strictness: Strictness,
}

/// An invalid command line; the exit code is 2.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Error {
    message: String,
}

/// The main file of the configuration without `-config`.
pub const DEFAULT_CONFIG: &str = "/etc/remco/config";

/// The output of `-h`.
pub const USAGE: &str = "\
Usage: remco [-config PATH] [-onetime] [--strict]

Keeps configuration files in step with a key-value store: reads keys, renders
templates, checks the result, replaces the files and reloads services.

What to run:
  -config PATH   the configuration file (/etc/remco/config)
  -onetime       render everything once and exit
  --strict       take unknown keys and unset variables for errors

About remco:
  -version       print the version and what is built in, and exit
  -h, -help      print this text and exit

Every flag may have one dash or two and its value behind a `=`: --config=PATH,
-onetime=false.

Exit status: 0, or with -onetime the number of resources that failed (at most
125); 1 if the configuration is wrong; 2 if the command line is.
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

/// Parses the arguments after the program's name. A flag that is given twice has its last value, as in Go.
///
/// # Errors
/// An unknown flag, a flag without its value or with a wrong one, or an argument that is not a flag.
pub fn parse(arguments: impl IntoIterator<Item = OsString>) -> Result<Invocation, Error> {
    let mut config = PathBuf::from(DEFAULT_CONFIG);
    let (mut onetime, mut strict, mut version) = (false, false, false);
    let mut parser = lexopt::Parser::from_args(with_two_dashes(arguments));
    while let Some(argument) = parser.next()? {
        let flag = match argument {
            lexopt::Arg::Long(name) => name.to_owned(),
            lexopt::Arg::Short(letter) => letter.to_string(),
            lexopt::Arg::Value(value) => {
                let value = value.to_string_lossy();
                return Err(Error::new(format!("unexpected argument `{value}`: remco takes flags only")));
            }
        };
        match &*flag {
            "h" | "help" => return Ok(Invocation::Help),
            CONFIG => config = path(&mut parser)?,
            "onetime" => onetime = switch(&flag, &mut parser)?,
            "strict" => strict = switch(&flag, &mut parser)?,
            "version" => version = switch(&flag, &mut parser)?,
            _ => return Err(unknown(&flag)),
        }
    }
    if version {
        return Ok(Invocation::Version);
    }
    Ok(Invocation::Run(Options {
        config,
        mode: if onetime { Mode::OneShot } else { Mode::Watch },
        strictness: if strict { Strictness::Strict } else { Strictness::Lenient },
    }))
}

/// The one flag with a value of its own.
const CONFIG: &str = "config";
const FLAGS: &[&str] = &[CONFIG, "onetime", "strict", "version", "help"];

/// Spells every flag with two dashes: Go treats `-config` and `--config` alike, lexopt reads six flags in `-config`.
/// Other arguments stay: `--`, the arguments after it, and the value of `-config`, which may begin with a dash.
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
        value_next = flag.as_bytes() == b"--config";
        spelled.push(flag);
    }
    spelled
}

fn path(parser: &mut lexopt::Parser) -> Result<PathBuf, Error> {
    match parser.value() {
        Ok(path) if !path.is_empty() => Ok(path.into()),
        _ => Err(Error::new("`-config` needs a path, such as `-config /etc/remco/config`".to_owned())),
    }
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
            Err(Error::new(format!("`-{flag}` is either true or false, not `{value}`")))
        }
    }
}

/// Flags of confd and consul-template with another name here.
const RENAMED: &[(&str, &str)] = &[("once", "onetime"), ("config-file", CONFIG), ("confdir", CONFIG)];
/// Flags of confd and consul-template that are keys of the configuration here.
const CONFIGURED: &[&str] =
    &["backend", "exec", "interval", "log-level", "node", "pid-file", "prefix", "srv-record", "template", "watch"];

fn unknown(flag: &str) -> Error {
    let renamed = RENAMED.iter().find(|(foreign, _)| *foreign == flag).map(|(_, known)| *known);
    let advice = match renamed.or_else(|| nearest(flag, FLAGS.iter().copied())) {
        Some(known) => format!(", did you mean `-{known}`?"),
        None if CONFIGURED.contains(&flag) => ": it is set in the configuration file".to_owned(),
        None => ": `remco -h` lists the flags".to_owned(),
    };
    Error::new(format!("unknown flag `-{flag}`{advice}"))
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
mod tests {
    use super::*;
    use std::os::unix::ffi::OsStringExt;

    fn run(line: &[&str]) -> Result<Invocation, Error> {
        parse(line.iter().map(OsString::from))
    }

    #[track_caller]
    fn check(line: &[&str], config: &str, onetime: bool, strictness: Strictness) {
        let mode = if onetime { Mode::OneShot } else { Mode::Watch };
        let expected = Options { config: config.into(), mode, strictness };
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
        assert!(USAGE.lines().all(|line| line.chars().count() <= 80));
        assert!(FLAGS.iter().all(|flag| USAGE.contains(&format!("-{flag}"))));
    }

    #[test]
    fn refuses_what_is_no_flag() {
        refuse(&["-confg", "a"], "unknown flag `-confg`, did you mean `-config`?");
        refuse(&["--one-time"], "unknown flag `-one-time`, did you mean `-onetime`?");
        refuse(&["-once"], "unknown flag `-once`, did you mean `-onetime`?");
        refuse(&["-confdir", "a"], "unknown flag `-confdir`, did you mean `-config`?");
        refuse(&["-backend", "etcd"], "unknown flag `-backend`: it is set in the configuration file");
        refuse(&["-log-level=info"], "unknown flag `-log-level`: it is set in the configuration file");
        refuse(&["-v"], "unknown flag `-v`: `remco -h` lists the flags");
        refuse(&["-c", "a"], "unknown flag `-c`: `remco -h` lists the flags");
        refuse(&["-CONFIG=a"], "unknown flag `-CONFIG`, did you mean `-config`?");
        refuse(&["-"], "unexpected argument `-`: remco takes flags only");
        refuse(&["poll"], "unexpected argument `poll`: remco takes flags only");
        refuse(&["-onetime", "false"], "unexpected argument `false`: remco takes flags only");
        refuse(&["--", "-onetime"], "unexpected argument `-onetime`: remco takes flags only");
        refuse(&["", "-onetime"], "unexpected argument ``: remco takes flags only");
        refuse(&["---config=a"], "unknown flag `--config`, did you mean `-config`?");
        refuse(&["-=a"], "unknown flag `-`: `remco -h` lists the flags");
        refuse(&["-config"], "`-config` needs a path, such as `-config /etc/remco/config`");
        refuse(&["-config="], "`-config` needs a path, such as `-config /etc/remco/config`");
        refuse(&["-config", ""], "`-config` needs a path, such as `-config /etc/remco/config`");
    }

    #[test]
    fn the_manual_page_has_every_flag() {
        let page = include_str!("../docs/remco.1").replace('\\', "");
        for flag in FLAGS {
            assert!(page.contains(&format!("-{flag}")), "{flag}");
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
