//! Reads whole files, up to a size that fits a small machine.
//! Waits only for the writer of a configuration.

use std::fs::{File, Metadata};
use std::io::{self, Read};
use std::os::fd::AsFd;
use std::path::Path;
use std::time::Instant;

use rustix::fs::{Mode, OFlags};

use super::wait::{self, Interest, Wake};
use crate::config::{Credential, Secret};
use crate::error::cause;

/// The bytes of a regular file. Never waits: a fifo, a device, or a file of more than `limit` bytes is an error.
pub fn whole_file(path: &Path, limit: usize) -> io::Result<Vec<u8>> {
    let (file, meta) = open_regular(path)?;
    let mut content = Vec::with_capacity(limit.min(usize::try_from(meta.len()).unwrap_or(limit)));
    // One byte more than the limit is read to detect a file that is too large. Files of /proc report a size of 0.
    file.take(limit as u64 + 1).read_to_end(&mut content)?;
    match content.len() > limit {
        true => Err(io::Error::other(format!("larger than the limit of {limit} bytes"))),
        false => Ok(content),
    }
}

/// At most this many bytes from the beginning of a regular file.
pub(super) fn beginning_of_file(path: &Path, limit: usize) -> io::Result<Vec<u8>> {
    let mut content = Vec::new();
    open_regular(path)?.0.take(limit as u64).read_to_end(&mut content)?;
    Ok(content)
}

/// Opens a regular file. Does not wait if the path leads to another kind of file.
fn open_regular(path: &Path) -> io::Result<(File, Metadata)> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
    let file = File::from(rustix::fs::open(path, flags, Mode::empty())?);
    let meta = file.metadata()?;
    if meta.is_dir() {
        return Err(io::ErrorKind::IsADirectory.into());
    }
    if !meta.is_file() {
        return Err(io::Error::other("not a regular file"));
    }
    Ok((file, meta))
}

/// The bytes of a regular file or a pipe (`-config <(...)`). Waits for the writer of a pipe until the program is asked
/// to end. More than `limit` bytes are an error.
pub fn whole_stream(path: &Path, limit: usize, wake: &dyn Wake) -> io::Result<Vec<u8>> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
    let mut file = File::from(rustix::fs::open(path, flags, Mode::empty())?);
    let mut content = Vec::new();
    let mut buffer = [0; 16 * 1024];
    while content.len() <= limit {
        // An open pipe whose writer has not come yet reads like one at its end.
        while !wait::ready(&[Interest::read(file.as_fd())], Some(Instant::now()))[0] {
            if wake.woken() {
                return Err(io::Error::other("stopped by a signal"));
            }
            wait::ready(&[Interest::read(file.as_fd()), Interest::read(wake.fd())], None);
        }
        match file.read(&mut buffer) {
            Ok(0) => return Ok(content),
            Ok(n) => content.extend_from_slice(&buffer[..n]),
            Err(e) if matches!(e.kind(), io::ErrorKind::Interrupted | io::ErrorKind::WouldBlock) => {}
            Err(e) => return Err(e),
        }
    }
    Err(io::Error::other(format!("larger than the limit of {limit} bytes")))
}

/// Larger than any name or password.
const LARGEST_CREDENTIAL: usize = 64 << 10;

/// The present value of a credential. One newline at the end of a file is dropped. The error is verb, subject, cause.
pub fn credential(credential: &Credential) -> Result<Secret, String> {
    let path = match credential {
        Credential::Inline(text) => return Ok(text.clone()),
        Credential::File(path) => path,
    };
    let failed = |cause: &str| format!("failed to read `{}`: {cause}", path.display());
    let bytes = whole_file(path, LARGEST_CREDENTIAL).map_err(|error| failed(&cause(&error)))?;
    let text = String::from_utf8(bytes).map_err(|_| failed("not UTF-8"))?;
    match text.trim_end_matches(['\r', '\n']) {
        "" => Err(failed("it is empty")),
        text => Ok(Secret::new(text.to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::files::tests::Folder;
    use std::fs;

    #[test]
    fn reads_up_to_the_limit() {
        let folder = Folder::new();
        let path = folder.path("data");
        let read = |limit| whole_file(&path, limit).map_err(|error| error.to_string());
        fs::write(&path, b"12345\xff").unwrap();
        assert_eq!(read(100).unwrap(), b"12345\xff");
        assert_eq!(read(6).unwrap(), b"12345\xff");
        assert_eq!(read(5).unwrap_err(), "larger than the limit of 5 bytes");
        fs::write(&path, "").unwrap();
        assert_eq!(read(0).unwrap(), b"");
        assert!(!whole_file(Path::new("/proc/self/status"), 1 << 20).unwrap().is_empty());
    }

    #[test]
    fn a_credential_is_a_text_or_a_file() {
        let folder = Folder::new();
        let path = folder.path("password");
        let read = || credential(&Credential::File(path.clone())).map(|secret| secret.reveal().to_owned());
        let failed = |cause: &str| Err(format!("failed to read `{}`: {cause}", path.display()));
        let inline = Credential::Inline(Secret::new("a\n".into()));
        assert_eq!(credential(&inline).unwrap().reveal(), "a\n");
        assert_eq!(read(), failed("no such file or directory"));
        for (text, want) in [("a b", "a b"), (" ä\n", " ä"), ("a\nb\r\n\n", "a\nb")] {
            fs::write(&path, text).unwrap();
            assert_eq!(read().as_deref(), Ok(want));
        }
        for (bytes, cause) in [(&b"\n"[..], "it is empty"), (b"", "it is empty"), (b"\xff", "not UTF-8")] {
            fs::write(&path, bytes).unwrap();
            assert_eq!(read(), failed(cause));
        }
    }

    #[test]
    fn never_waits_for_what_is_no_file() {
        let folder = Folder::new();
        let fifo = folder.path("fifo");
        rustix::fs::mknodat(rustix::fs::CWD, &fifo, rustix::fs::FileType::Fifo, 0o600.into(), 0).unwrap();
        assert_eq!(whole_file(&fifo, 10).unwrap_err().to_string(), "not a regular file");
        assert_eq!(whole_file(Path::new("/dev/zero"), 10).unwrap_err().to_string(), "not a regular file");
        assert_eq!(whole_file(&folder.path(""), 10).unwrap_err().kind(), io::ErrorKind::IsADirectory);
        assert_eq!(whole_file(&folder.path("none"), 10).unwrap_err().kind(), io::ErrorKind::NotFound);
    }
}
