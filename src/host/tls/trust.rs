//! The authorities that a client trusts: `client_ca_keys`, else those of `SSL_CERT_FILE` and `SSL_CERT_DIR`, else the
//! system's bundle where Go looks for it, else the built-in list. Reads the files again when they change; clients
//! with equal authorities share them. Makes no connection.

use std::env;
use std::ffi::OsStr;
use std::fmt;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use rustls::RootCertStore;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;

use super::read;

/// Files of one directory of certificates. Distributions have some hundred.
const MOST_FILES: usize = 4096;

/// Bytes of all files in the directories.
const LARGEST_DIRECTORY: usize = 16 << 20;

/// The paths of a system's bundle; the first one that exists is used (Go's crypto/x509, root_linux.go).
const BUNDLES: [&str; 6] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/pki/tls/cacert.pem",
    "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
    "/etc/ssl/cert.pem",
];

/// The directories with single certificates, for a system without a bundle (from the same file).
const DIRECTORIES: [&str; 2] = ["/etc/ssl/certs", "/etc/pki/tls/certs"];

/// The source of the authorities of a client.
#[derive(Clone, Debug)]
pub struct Trust {
    configured: Option<PathBuf>,
    /// `SSL_CERT_FILE` and `SSL_CERT_DIR`.
    file: Option<PathBuf>,
    directories: Vec<PathBuf>,
    system: System,
}

/// The paths of a system.
#[derive(Clone, Debug)]
struct System {
    bundles: Vec<PathBuf>,
    directories: Vec<PathBuf>,
}

/// The authorities that are used now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Authorities {
    /// Every certificate must be usable, because the file was written for this program.
    Configured(PathBuf),
    /// Unusable certificates are skipped: these files also contain certificates for other programs.
    Lenient {
        files: Vec<PathBuf>,
        directories: Vec<PathBuf>,
        origin: Origin,
    },
    BuiltIn,
}

/// The setting that named the files: the variables `SSL_CERT_FILE` and `SSL_CERT_DIR`, or the paths of the system.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    Environment,
    System,
}

/// Identifies a version of a file: device, inode, size, and both times in nanoseconds.
pub type Stamp = (u64, u64, u64, (i64, i64), (i64, i64));

impl Trust {
    /// Uses the variables of the environment; reads no file.
    pub fn new(configured: Option<PathBuf>) -> Trust {
        let variable = |name: &str| env::var_os(name).filter(|value| !value.is_empty());
        let directories = variable("SSL_CERT_DIR").unwrap_or_default();
        let directories = directories.as_bytes().split(|byte| *byte == b':').filter(|path| !path.is_empty());
        Trust {
            configured,
            file: variable("SSL_CERT_FILE").map(PathBuf::from),
            directories: directories.map(|path| PathBuf::from(OsStr::from_bytes(path))).collect(),
            system: System {
                bundles: BUNDLES.map(PathBuf::from).to_vec(),
                directories: DIRECTORIES.map(PathBuf::from).to_vec(),
            },
        }
    }

    /// The authorities that are used now. The files of the system are looked up each time.
    pub fn authorities(&self) -> Authorities {
        if let Some(path) = &self.configured {
            return Authorities::Configured(path.clone());
        }
        if self.file.is_some() || !self.directories.is_empty() {
            let (files, directories) = (self.file.iter().cloned().collect(), self.directories.clone());
            return Authorities::Lenient { files, directories, origin: Origin::Environment };
        }
        let origin = Origin::System;
        if let Some(bundle) = self.system.bundles.iter().find(|path| path.is_file()) {
            return Authorities::Lenient { files: vec![bundle.clone()], directories: Vec::new(), origin };
        }
        let directories = self.system.directories.iter().filter(|path| has_files(path)).cloned();
        match directories.collect::<Vec<PathBuf>>() {
            none if none.is_empty() => Authorities::BuiltIn,
            directories => Authorities::Lenient { files: Vec::new(), directories, origin },
        }
    }
}

impl Authorities {
    /// The stamps of the files, to detect changes.
    pub fn stamps(&self) -> Vec<Option<Stamp>> {
        match self {
            Authorities::Configured(path) => vec![stamp(path)],
            Authorities::Lenient { files, directories, .. } => {
                let listed = directories.iter().flat_map(|path| entries(path).unwrap_or_default());
                files.iter().chain(directories).map(|path| stamp(path)).chain(listed.map(|path| stamp(&path))).collect()
            }
            Authorities::BuiltIn => Vec::new(),
        }
    }

    /// Reads the authorities, or shares those that another client has read.
    ///
    /// # Errors
    /// A named file cannot be used, or there is no authority. The text names the file.
    pub fn roots(&self) -> Result<Arc<RootCertStore>, String> {
        let mut shared = shared();
        shared.retain(|one| one.roots.strong_count() > 0);
        // The stamps are taken before the files are read: a file that changes meanwhile is read again next time.
        let stamps = self.stamps();
        let same = shared.iter().find(|one| one.authorities == *self && one.stamps == stamps);
        if let Some(roots) = same.and_then(|one| one.roots.upgrade()) {
            return Ok(roots);
        }
        let roots = Arc::new(self.read()?);
        shared.retain(|one| one.authorities != *self);
        shared.push(Shared { authorities: self.clone(), stamps, roots: Arc::downgrade(&roots) });
        Ok(roots)
    }

    fn read(&self) -> Result<RootCertStore, String> {
        match self {
            Authorities::Configured(path) => configured(path),
            Authorities::Lenient { files, directories, origin } => {
                let roots = lenient(files, directories)?;
                match (roots.is_empty(), origin) {
                    (true, Origin::System) => built_in(),
                    (true, Origin::Environment) => {
                        Err(format!("failed to use {self}: there is no usable certificate in it"))
                    }
                    (false, _) => Ok(roots),
                }
            }
            Authorities::BuiltIn => built_in(),
        }
    }
}

impl fmt::Display for Authorities {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Authorities::Configured(path) => write!(f, "`{}`", path.display()),
            Authorities::Lenient { files, directories, origin } => {
                for (n, path) in files.iter().chain(directories).enumerate() {
                    write!(f, "{}`{}`", if n > 0 { " and " } else { "" }, path.display())?;
                }
                match origin {
                    Origin::Environment => Ok(()),
                    Origin::System => f.write_str(", the list of this system: set `client_ca_keys`"),
                }
            }
            Authorities::BuiltIn => f.write_str("the list that is built in: set `client_ca_keys`"),
        }
    }
}

/// Authorities that clients share while one of them uses the authorities: the bundle of a system takes 100 KB. In a
/// mutex, because a static has to be `Sync`; the program has one thread.
struct Shared {
    authorities: Authorities,
    stamps: Vec<Option<Stamp>>,
    roots: Weak<RootCertStore>,
}

fn shared() -> MutexGuard<'static, Vec<Shared>> {
    static SHARED: Mutex<Vec<Shared>> = Mutex::new(Vec::new());
    SHARED.lock().unwrap_or_else(PoisonError::into_inner)
}

/// `None`: the file cannot be examined. The later read reports the cause.
pub fn stamp(path: &Path) -> Option<Stamp> {
    let meta = path.metadata().ok()?;
    let (changed, status) = ((meta.mtime(), meta.mtime_nsec()), (meta.ctime(), meta.ctime_nsec()));
    Some((meta.dev(), meta.ino(), meta.size(), changed, status))
}

/// All certificates of a file.
fn configured(path: &Path) -> Result<RootCertStore, String> {
    let mut roots = RootCertStore::empty();
    for (number, certificate) in (1..).zip(super::certificates(path)?) {
        roots
            .add(certificate)
            .map_err(|error| format!("failed to use certificate {number} of `{}`: {error}", path.display()))?;
    }
    Ok(roots)
}

/// The usable certificates of files and directories, each once.
fn lenient(files: &[PathBuf], directories: &[PathBuf]) -> Result<RootCertStore, String> {
    let mut certificates: Vec<CertificateDer> = Vec::new();
    let mut take = |text: &[u8]| {
        // An invalid section takes one step of the parser at most.
        let sections = text.len() / "-----BEGIN".len() + 1;
        certificates.extend(CertificateDer::pem_slice_iter(text).take(sections).filter_map(Result::ok));
    };
    for path in files {
        take(&read(path)?);
    }
    let mut left = LARGEST_DIRECTORY;
    let mut unreadable = None;
    for directory in directories {
        // As in Go: a missing directory is ignored if other sources have certificates.
        let paths = entries(directory).unwrap_or_else(|error| {
            unreadable.get_or_insert(error);
            Vec::new()
        });
        for path in paths {
            // Other programs may put any file here.
            let text = read(&path).unwrap_or_default();
            left = left.saturating_sub(text.len());
            if left == 0 {
                return Err(format!(
                    "failed to read `{}`: larger than the limit of {LARGEST_DIRECTORY} bytes",
                    directory.display()
                ));
            }
            take(&text);
        }
    }
    certificates.sort_by(|one, other| one.as_ref().cmp(other.as_ref()));
    certificates.dedup();
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(certificates);
    match unreadable {
        Some(error) if roots.is_empty() => Err(error),
        _ => Ok(roots),
    }
}

/// The files of a directory in the order of their names. Links within the directory are skipped: they are hashed names
/// of other files.
fn entries(directory: &Path) -> Result<Vec<PathBuf>, String> {
    let failed = |error| format!("failed to read `{}`: {}", directory.display(), crate::error::cause(&error));
    let mut paths = Vec::new();
    for entry in fs::read_dir(directory).map_err(failed)?.take(MOST_FILES) {
        let path = entry.map_err(failed)?.path();
        let link = fs::read_link(&path);
        if !link.is_ok_and(|target| !target.as_os_str().as_bytes().contains(&b'/')) {
            paths.push(path);
        }
    }
    paths.sort();
    Ok(paths)
}

fn has_files(directory: &Path) -> bool {
    entries(directory).is_ok_and(|paths| !paths.is_empty())
}

#[cfg(feature = "roots")]
fn built_in() -> Result<RootCertStore, String> {
    Ok(RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() })
}

#[cfg(not(feature = "roots"))]
fn built_in() -> Result<RootCertStore, String> {
    Err("there are no authorities on this system, and none are built in: set `client_ca_keys`".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::files::tests::Folder;

    /// Two certificates of authorities. No signature is verified here, so any will do.
    const ONE: &str = include_str!("one.pem");
    const TWO: &str = include_str!("two.pem");
    /// This is PEM but no certificate.
    const ODD: &str = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    const BROKEN: &str = "-----BEGIN CERTIFICATE-----\n!!!\n-----END CERTIFICATE-----\n";

    struct Host {
        folder: Folder,
        trust: Trust,
    }

    impl Host {
        fn new() -> Host {
            let folder = Folder::new();
            let system = System {
                bundles: ["first.crt", "second.crt"].map(|name| folder.path(name)).to_vec(),
                directories: vec![folder.path("certs")],
            };
            Host { folder, trust: Trust { configured: None, file: None, directories: Vec::new(), system } }
        }

        fn write(&self, name: &str, text: &str) -> PathBuf {
            let path = self.folder.path(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(&path, text).unwrap();
            path
        }

        /// The expected number of authorities, or the error.
        #[track_caller]
        fn check(&self, want: Result<usize, &str>) {
            let place = self.folder.path("x").parent().unwrap().display().to_string();
            let roots = self.trust.authorities().roots();
            let got = roots.map(|roots| roots.len()).map_err(|error| error.replace(&place, "HERE"));
            assert_eq!(got.as_ref().map(|n| *n).map_err(|error| &**error), want);
        }
    }

    #[test]
    fn a_configured_file_counts_alone_and_has_to_be_right() {
        let mut host = Host::new();
        host.write("first.crt", &[ONE, TWO].concat());
        host.trust.file = Some(host.write("env.pem", &[ONE, TWO].concat()));
        host.trust.configured = Some(host.write("ca.pem", ONE));
        host.check(Ok(1));
        host.write("ca.pem", &[ONE, ODD].concat());
        host.check(Err("failed to use certificate 2 of `HERE/ca.pem`: invalid peer certificate: BadEncoding"));
        host.write("ca.pem", "");
        host.check(Err("failed to use `HERE/ca.pem`: there is no PEM certificate in it"));
        fs::remove_file(host.folder.path("ca.pem")).unwrap();
        host.check(Err("failed to read `HERE/ca.pem`: no such file or directory"));
    }

    #[test]
    fn the_environment_stands_in_for_the_system() {
        let mut host = Host::new();
        host.write("first.crt", &[ONE, TWO].concat());
        host.trust.file = Some(host.write("env.pem", &[BROKEN, ODD, ONE, BROKEN].concat()));
        host.check(Ok(1));
        // Both files are used; a certificate in both counts once.
        host.write("one/a.pem", ONE);
        host.write("two/b.pem", TWO);
        host.write("two/README", "no certificate");
        std::os::unix::fs::symlink("b.pem", host.folder.path("two/1234.0")).unwrap();
        host.trust.directories = vec![host.folder.path("one"), host.folder.path("two")];
        host.check(Ok(2));
        host.trust.file = None;
        host.check(Ok(2));
        // An added file is noticed.
        fs::remove_file(host.folder.path("two/b.pem")).unwrap();
        host.check(Ok(1));
        host.write("two/c.pem", TWO);
        host.check(Ok(2));
        host.trust.directories = vec![host.folder.path("none"), host.folder.path("one")];
        host.check(Ok(1));
        host.trust.directories = vec![host.folder.path("none")];
        host.check(Err("failed to read `HERE/none`: no such file or directory"));
        host.trust.directories = Vec::new();
        host.trust.file = Some(host.write("env.pem", BROKEN));
        host.check(Err("failed to use `HERE/env.pem`: there is no usable certificate in it"));
    }

    #[test]
    fn the_first_bundle_of_a_system_counts() {
        let host = Host::new();
        assert_eq!(host.trust.authorities(), Authorities::BuiltIn);
        host.write("certs/one.pem", ONE);
        host.check(Ok(1));
        host.write("second.crt", &[ONE, ODD, TWO].concat());
        host.check(Ok(2));
        host.write("first.crt", ONE);
        host.check(Ok(1));
        host.write("first.crt", "");
        #[cfg(feature = "roots")]
        assert!(host.trust.authorities().roots().unwrap().len() > 100, "an empty bundle is as none");
    }

    #[test]
    fn clients_share_what_was_read_and_it_goes_with_them() {
        let host = Host::new();
        host.write("first.crt", ONE);
        let (one, two) = (host.trust.authorities().roots().unwrap(), host.trust.authorities().roots().unwrap());
        assert!(Arc::ptr_eq(&one, &two));
        host.write("first.crt", &[ONE, TWO].concat());
        let three = host.trust.authorities().roots().unwrap();
        assert_eq!((one.len(), three.len()), (1, 2));
        let held = Arc::downgrade(&three);
        drop((one, two, three));
        assert!(held.upgrade().is_none());
    }
}
