//! What any bytes must survive as a configuration: a main file, two included ones and the value of a variable, with a
//! zero byte between them. Nothing may panic, a strict reading agrees with a lenient one, and no message shows what a
//! variable stands for.

use std::ffi::OsString;
use std::io::{self, ErrorKind};
use std::path::Path;

use remco::config::{self, Finding, Mode, Shell, Source, Strictness};

/// What `$SECRET` stands for.
const SECRET: &str = "S3CR3T-0f-th3-v4r1able";

pub fn run(bytes: &[u8]) {
    let source = Texts::of(bytes);
    let load = |strictness| config::load(Path::new("config"), strictness, Mode::Watch, &source);
    let lenient = load(Strictness::Lenient);
    let strict = load(Strictness::Strict);
    for result in [&lenient, &strict] {
        match result {
            Ok((_, warnings)) => {
                assert!(warnings.iter().all(|finding| !finding.fatal), "an error beside a configuration");
                said(warnings, bytes);
            }
            Err(findings) => {
                assert!(findings.list.iter().any(|finding| finding.fatal), "errors without an error");
                said(&findings.list, bytes);
            }
        }
    }
    match (lenient, strict) {
        (Ok((lenient, _)), Ok((strict, _))) => assert_eq!(lenient, strict),
        (Err(_), Ok(_)) => panic!("strictly read it is right, but not leniently"),
        (_, Err(_)) => {}
    }
}

fn said(findings: &[Finding], bytes: &[u8]) {
    let written = bytes.windows(8).any(|window| SECRET.as_bytes().starts_with(window));
    for finding in findings {
        let text = finding.to_string();
        assert!(text.contains(": "), "{text}");
        assert!(!finding.headline().contains('\n'), "{text}");
        // A file has to be named, whatever named it.
        let shown = finding.message.contains(&SECRET[..8]) || finding.excerpt.contains(&SECRET[..8]);
        assert!(written || !shown, "a value is shown: {text}");
        assert!(finding.place.is_none_or(|(line, column)| line > 0 && column > 0), "{text}");
    }
}

struct Texts<'a> {
    main: &'a [u8],
    included: [&'a [u8]; 2],
    value: &'a [u8],
}

impl<'a> Texts<'a> {
    fn of(bytes: &'a [u8]) -> Texts<'a> {
        let mut parts = bytes.splitn(4, |byte| *byte == 0);
        let mut next = || parts.next().unwrap_or_default();
        Texts { main: next(), included: [next(), next()], value: next() }
    }
}

impl Source for Texts<'_> {
    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        match path.to_string_lossy() {
            path if path == "config" => Ok(self.main.to_vec()),
            path if path.ends_with("a.toml") => Ok(self.included[0].to_vec()),
            path if path.ends_with("b.toml") => Ok(self.included[1].to_vec()),
            _ => Err(ErrorKind::NotFound.into()),
        }
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<OsString>> {
        match dir.to_string_lossy().contains("missing") {
            true => Err(ErrorKind::NotFound.into()),
            false => Ok(["b.toml", "a.toml", "f.js", "other"].map(OsString::from).to_vec()),
        }
    }

    fn var(&self, name: &[u8]) -> Option<Vec<u8>> {
        match name {
            b"SECRET" => Some(SECRET.into()),
            b"A" => Some(self.value.to_vec()),
            b"EMPTY" => Some(Vec::new()),
            _ => None,
        }
    }

    /// With and without one, as the value's length has it.
    fn shell(&self) -> Shell {
        if self.value.len().is_multiple_of(2) { Shell::Present } else { Shell::Missing }
    }
}
