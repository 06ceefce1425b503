//! Every message about a wrong configuration, word for word: `tests/snapshots/bad-config.txt` holds the configurations
//! and the messages of `config::load`.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};

use remco::config::{self, Finding, Mode, Shell, Source, Strictness};

mod snapshots;

use snapshots::{check, unescape};

#[test]
fn bad_configurations_are_explained() {
    check("bad-config.txt", 40, |case| Configuration::new(&case.parts).load());
}

/// One configuration with its files and variables.
#[derive(Default)]
struct Configuration {
    files: BTreeMap<PathBuf, Vec<u8>>,
    vars: BTreeMap<Vec<u8>, Vec<u8>>,
    strictness: Option<Strictness>,
    shell: Option<Shell>,
    mode: Option<Mode>,
}

impl Configuration {
    /// Of parts that are headed by the name of a file, `env NAME=value`, `strict`, `onetime` or `no shell`.
    fn new(parts: &[(&str, &str)]) -> Configuration {
        let mut configuration = Configuration::default();
        for (head, body) in parts {
            if *head == "strict" {
                configuration.strictness = Some(Strictness::Strict);
            } else if *head == "onetime" {
                configuration.mode = Some(Mode::OneShot);
            } else if *head == "no shell" {
                configuration.shell = Some(Shell::Missing);
            } else if let Some(variable) = head.strip_prefix("env ") {
                let (name, value) = variable.split_once('=').expect("NAME=value");
                configuration.vars.insert(name.into(), unescape(value));
            } else {
                configuration.files.insert(head.into(), unescape(body));
            }
        }
        configuration
    }

    fn load(&self) -> String {
        let strictness = self.strictness.unwrap_or(Strictness::Lenient);
        let mode = self.mode.unwrap_or(Mode::Watch);
        let lines: Vec<String> = match config::load(Path::new("config"), strictness, mode, self) {
            Ok((_, warnings)) => {
                assert!(warnings.iter().all(|finding| !finding.fatal), "an error beside a configuration");
                warnings.iter().map(Finding::to_string).collect()
            }
            Err(findings) => {
                assert!(findings.list.iter().any(|finding| finding.fatal), "errors without an error");
                vec![findings.to_string()]
            }
        };
        lines.iter().flat_map(|line| [line, "\n"]).collect()
    }
}

/// What the system answers, in numbers that are the same on every Linux.
const ENOENT: i32 = 2;
const EACCES: i32 = 13;
const EISDIR: i32 = 21;

impl Source for Configuration {
    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        match self.files.get(path).map(Vec::as_slice) {
            Some(b"permission denied\n") => Err(io::Error::from_raw_os_error(EACCES)),
            Some(b"a directory\n") => Err(io::Error::from_raw_os_error(EISDIR)),
            Some(b"a link to nothing\n") => Err(io::Error::from_raw_os_error(ENOENT)),
            Some(bytes) => Ok(bytes.to_vec()),
            None => Err(io::Error::from_raw_os_error(ENOENT)),
        }
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<OsString>> {
        let files = self.files.keys().filter(|file| file.parent() == Some(dir));
        let names: Vec<OsString> = files.filter_map(|file| file.file_name()).map(Into::into).collect();
        if names.is_empty() { Err(io::Error::from_raw_os_error(ENOENT)) } else { Ok(names) }
    }

    fn var(&self, name: &[u8]) -> Option<Vec<u8>> {
        self.vars.get(name).cloned()
    }

    fn shell(&self) -> Shell {
        self.shell.unwrap_or(Shell::Present)
    }
}
