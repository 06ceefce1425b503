//! Explains why a program could not be started: the program, the interpreter of a script or the loader of a binary is
//! missing. Starts nothing, and reads only the beginning of a file.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use super::read::beginning_of_file;
use crate::error::cause;
use crate::quote::quote;

/// Bytes that are read to find an interpreter. The kernel looks at 256 bytes for `#!`, and linkers put the loader's
/// name into the first page.
const BEGINNING: usize = 4096;

/// The error of a failed start, with the name of the program and of the missing file. `Unsupported`: this machine
/// cannot execute the format of the file.
pub(super) fn explain(name: &OsStr, error: &io::Error) -> io::Error {
    let missing = match error.kind() {
        io::ErrorKind::NotFound => what_is_missing(name, std::env::var_os("PATH").as_deref()),
        io::ErrorKind::PermissionDenied => what_is_forbidden(Path::new(name)),
        _ if is_no_program(error) => {
            Some(format!("{} is no program: a script begins with `#!` and its interpreter", shown(name.as_bytes())))
        }
        _ => None,
    };
    let kind = if is_no_program(error) { io::ErrorKind::Unsupported } else { error.kind() };
    let shown = shown(name.as_bytes());
    io::Error::new(kind, missing.unwrap_or_else(|| format!("{shown}: {}", cause(error))))
}

/// Why a program cannot be started: it, its interpreter or its loader is missing, or it may not be executed. `None`: no
/// obstacle is known.
pub(super) fn obstacle(name: &OsStr) -> Option<String> {
    let search = std::env::var_os("PATH");
    if let Some(missing) = what_is_missing(name, search.as_deref()) {
        return Some(missing);
    }
    let path = find(name, search.as_deref())?;
    let is_forbidden = rustix::fs::access(&path, rustix::fs::Access::EXEC_OK).is_err() || path.is_dir();
    if is_forbidden { what_is_forbidden(&path) } else { None }
}

/// The file has neither a `#!` nor a format of the kernel.
fn is_no_program(error: &io::Error) -> bool {
    error.raw_os_error() == Some(rustix::io::Errno::NOEXEC.raw_os_error())
}

/// The program that a shell runs first for a command; `None`: only a shell can parse the command.
pub(super) fn first_of(command: &OsStr) -> Option<OsString> {
    let is_plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"/._-+@:".contains(byte);
    let mut words = command.as_bytes().split(|byte| matches!(byte, b' ' | b'\t' | b'\n'));
    let word = words.find(|word| !word.is_empty())?;
    word.iter().all(is_plain).then(|| OsStr::from_bytes(word).to_owned())
}

/// The missing interpreter or loader of a program. The shell's message does not name it, and says that the program
/// itself was not found.
pub(super) fn missing_part(name: &OsStr) -> Option<String> {
    part(&find(name, std::env::var_os("PATH").as_deref())?).ok()?
}

/// `None`: nothing seems to be missing.
fn what_is_missing(name: &OsStr, search: Option<&OsStr>) -> Option<String> {
    let shown_name = shown(name.as_bytes());
    let Some(path) = find(name, search) else {
        return Some(format!("there is no program {shown_name} in PATH"));
    };
    match part(&path) {
        Ok(missing) => missing,
        Err(error) if error.kind() == io::ErrorKind::NotFound => Some(format!("there is no program {shown_name}")),
        Err(_) => None,
    }
}

/// The path of a program; `None`: it is not in PATH. A name with a slash is its own path, even if no file is there.
fn find(name: &OsStr, search: Option<&OsStr>) -> Option<PathBuf> {
    if name.as_bytes().contains(&b'/') {
        return Some(PathBuf::from(name));
    }
    // The default of the C library if PATH is not set.
    let search = search.unwrap_or(OsStr::new("/bin:/usr/bin"));
    std::env::split_paths(search).map(|dir| dir.join(name)).find(|path| path.is_file())
}

/// The missing interpreter of a script or loader of a binary.
fn part(path: &Path) -> io::Result<Option<String>> {
    let beginning = beginning_of_file(path, BEGINNING)?;
    let (role, needed) = match (script_interpreter(&beginning), loader(&beginning)) {
        (Some(interpreter), _) => ("interpreter", interpreter),
        (None, Some(loader)) => ("loader", loader),
        (None, None) => return Ok(None),
    };
    let is_there = fs::metadata(Path::new(OsStr::from_bytes(&needed))).is_ok();
    let path = shown(path.as_os_str().as_bytes());
    Ok((!is_there).then(|| format!("{path} needs the {role} {}, which is missing", shown(&needed))))
}

/// `None`: the cause is not known.
fn what_is_forbidden(path: &Path) -> Option<String> {
    let meta = fs::metadata(path).ok()?;
    let shown = shown(path.as_os_str().as_bytes());
    match meta.is_dir() {
        true => Some(format!("{shown} is a directory")),
        false => Some(format!("{shown} may not be executed: permission denied")),
    }
}

/// The interpreter in the `#!` line of a script.
fn script_interpreter(beginning: &[u8]) -> Option<Vec<u8>> {
    let line = beginning.strip_prefix(b"#!")?;
    let line = line.split(|byte| *byte == b'\n').next()?;
    let name = line.split(|byte| matches!(byte, b' ' | b'\t')).find(|word| !word.is_empty())?;
    Some(name.to_vec())
}

/// The loader of an ELF program: its PT_INTERP. The byte order is that of this machine, because other programs do not
/// run.
fn loader(beginning: &[u8]) -> Option<Vec<u8>> {
    const PT_INTERP: usize = 3;
    let number = |at: usize, length: usize| -> Option<usize> {
        let bytes = beginning.get(at..at.checked_add(length)?)?;
        let digits = bytes.iter().map(|byte| u64::from(*byte));
        let fold = |sum: u64, byte: u64| (sum << 8) | byte;
        let value = if cfg!(target_endian = "little") { digits.rev().fold(0, fold) } else { digits.fold(0, fold) };
        usize::try_from(value).ok()
    };
    if !beginning.starts_with(b"\x7fELF") {
        return None;
    }
    // The offsets of e_phoff, e_phentsize and e_phnum, then of p_offset and p_filesz within an entry.
    let (word, table, size, count, offset, length) = match beginning.get(4)? {
        1 => (4, 0x1c, 0x2a, 0x2c, 0x04, 0x10),
        2 => (8, 0x20, 0x36, 0x38, 0x08, 0x20),
        _ => return None,
    };
    let (table, size, count) = (number(table, word)?, number(size, 2)?, number(count, 2)?);
    let entries = (0..count).map_while(|index| table.checked_add(index.checked_mul(size)?));
    let mut entries = entries.take_while(|entry| *entry < beginning.len());
    let entry = entries.find(|entry| number(*entry, 4) == Some(PT_INTERP))?;
    let start = number(entry + offset, word)?;
    let name = beginning.get(start..start.checked_add(number(entry + length, word)?)?)?;
    Some(name.strip_suffix(b"\0").unwrap_or(name).to_vec())
}

/// A path in backquotes with escapes: an interpreter may end with `\r`.
fn shown(path: &[u8]) -> String {
    quote(path, '`', false)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::files::tests::Folder;

    #[test]
    fn what_is_missing_is_named() {
        let folder = Folder::new();
        let script = folder.path("run.sh");
        let check = |path: &Path, kind: io::ErrorKind, want: &str| {
            let said = explain(path.as_os_str(), &kind.into()).to_string();
            assert_eq!(said, want.replace("SCRIPT", &script.display().to_string()));
        };
        let missing = io::ErrorKind::NotFound;
        for (content, want) in [
            ("#!/no/such\n", "`SCRIPT` needs the interpreter `/no/such`, which is missing"),
            ("#! /no/such -x\n", "`SCRIPT` needs the interpreter `/no/such`, which is missing"),
            ("#!/bin/sh\r\n", "`SCRIPT` needs the interpreter `/bin/sh\\r`, which is missing"),
            ("#!/bin/sh\n", "`SCRIPT`: entity not found"),
            ("#!", "`SCRIPT`: entity not found"),
            ("", "`SCRIPT`: entity not found"),
        ] {
            fs::write(&script, content).unwrap();
            check(&script, missing, want);
        }
        check(&script, io::ErrorKind::PermissionDenied, "`SCRIPT` may not be executed: permission denied");
        check(&script, io::ErrorKind::OutOfMemory, "`SCRIPT`: out of memory");
        let no_program = io::Error::from_raw_os_error(rustix::io::Errno::NOEXEC.raw_os_error());
        let explained = explain(script.as_os_str(), &no_program);
        assert_eq!(explained.kind(), io::ErrorKind::Unsupported);
        assert!(explained.to_string().ends_with("is no program: a script begins with `#!` and its interpreter"));
        fs::remove_file(&script).unwrap();
        check(&script, missing, "there is no program `SCRIPT`");
        check(Path::new("no-such-program"), missing, "there is no program `no-such-program` in PATH");
        let root = Path::new("/");
        check(root, io::ErrorKind::PermissionDenied, "`/` is a directory");
    }

    #[test]
    fn the_first_program_of_a_command() {
        let first = |command: &str| first_of(OsStr::new(command)).map(|name| name.into_string().unwrap());
        for (command, want) in [
            ("./reload.sh", "./reload.sh"),
            (" /opt/a-1.2/run_it --all > /dev/null || true", "/opt/a-1.2/run_it"),
            ("nginx\t-t\n", "nginx"),
        ] {
            assert_eq!(first(command).as_deref(), Some(want), "{command}");
        }
        for command in ["", " \n", "$APP/run", "'a b'", "A=1 run", "(run)", "run;", "~/run"] {
            assert_eq!(first(command), None, "{command}");
        }
    }

    #[test]
    fn a_loader_is_found_in_a_program() {
        // This test program may be such a program, or a static one.
        let own = beginning_of_file(Path::new("/proc/self/exe"), BEGINNING).unwrap();
        let found = loader(&own);
        assert_eq!(found.is_some(), cfg!(not(target_feature = "crt-static")), "{found:?}");
        if let Some(found) = found {
            assert!(Path::new(OsStr::from_bytes(&found)).exists(), "{found:?}");
        }
        for cut in 0..own.len() {
            loader(&own[..cut]);
        }
        for at in 0..120 {
            let mut damaged = own.clone();
            damaged[at] = 0xff;
            loader(&damaged);
        }
    }
}
