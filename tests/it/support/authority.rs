//! A certificate authority of one test and its certificates, made by openssl in a separate folder.

use std::path::PathBuf;
use std::process::Command;

use super::TempDir;

/// An authority with a key of its own.
pub struct Authority {
    dir: TempDir,
}

/// A certificate and its key, in PEM files.
pub struct Pair {
    pub cert: PathBuf,
    pub key: PathBuf,
}

/// When a certificate is valid.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Valid {
    Now,
    /// It ended in 2021.
    Once,
    /// It begins in 2090.
    Later,
}

/// In which of its forms a private key is written.
#[derive(Clone, Copy, Debug)]
pub enum Key {
    /// `BEGIN PRIVATE KEY`: Ed25519.
    Pkcs8,
    /// `BEGIN RSA PRIVATE KEY`.
    Pkcs1,
    /// `BEGIN EC PRIVATE KEY`.
    Sec1,
}

/// What a server of the tests is called.
pub const LOOPBACK: &str = "IP:127.0.0.1,DNS:localhost";

const CONFIG: &str = "\
[ca]
default_ca = here
[here]
database = index
new_certs_dir = .
default_md = sha256
unique_subject = no
rand_serial = yes
policy = anything
[anything]
commonName = optional
organizationName = optional
[leaf]
basicConstraints = critical,CA:FALSE
extendedKeyUsage = serverAuth,clientAuth
";

impl Authority {
    pub fn new() -> Authority {
        let dir = TempDir::new();
        dir.write("index", "");
        dir.write("openssl.conf", CONFIG);
        let authority = Authority { dir };
        let new = "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=authority";
        let usage = "-addext basicConstraints=critical,CA:TRUE -keyout ca.key -out ca.pem";
        authority.openssl(&format!("{new} {usage}"));
        authority
    }

    /// What goes into `client_ca_keys`.
    pub fn cert(&self) -> PathBuf {
        self.dir.at("ca.pem")
    }

    /// A certificate for a server on this machine.
    pub fn server(&self) -> Pair {
        self.sign("server", LOOPBACK, Key::Sec1, Valid::Now)
    }

    /// A certificate in files of this name: made anew, it replaces them. `names` are subjectAltName; a client has none,
    /// and no common name either, since etcd's gateway refuses one where there are users.
    pub fn sign(&self, file: &str, names: &str, key: Key, valid: Valid) -> Pair {
        let new_key = match key {
            Key::Pkcs8 => format!("genpkey -algorithm ed25519 -out {file}.key"),
            Key::Pkcs1 => format!("genrsa -traditional -out {file}.key 2048"),
            Key::Sec1 => format!("ecparam -name prime256v1 -genkey -noout -out {file}.key"),
        };
        self.openssl(&new_key);
        let subject = if names.is_empty() { "/O=clients".to_owned() } else { format!("/CN={file}") };
        self.openssl(&format!("req -new -key {file}.key -subj {subject} -out {file}.csr"));
        let names = if names.is_empty() { String::new() } else { format!("subjectAltName = {names}\n") };
        self.dir.write(&format!("{file}.conf"), format!("{CONFIG}{names}"));
        let (start, end) = match valid {
            // Certificates that have not expired when the tests of a release are run years later.
            Valid::Now => ("20200101000000Z", "20890101000000Z"),
            Valid::Once => ("20200101000000Z", "20210101000000Z"),
            Valid::Later => ("20900101000000Z", "20910101000000Z"),
        };
        self.openssl(&format!(
            "ca -batch -notext -config {file}.conf -extensions leaf -cert ca.pem -keyfile ca.key \
             -startdate {start} -enddate {end} -in {file}.csr -out {file}.pem"
        ));
        Pair { cert: self.dir.at(&format!("{file}.pem")), key: self.dir.at(&format!("{file}.key")) }
    }

    /// Runs openssl in the authority's folder, with arguments that have no blanks.
    pub fn openssl(&self, args: &str) {
        let output = Command::new("openssl")
            .args(args.split_ascii_whitespace())
            .current_dir(self.dir.path())
            .output()
            .unwrap_or_else(|e| panic!("failed to run openssl (scripts/test installs it): {e}"));
        assert!(output.status.success(), "openssl {args}: {}", String::from_utf8_lossy(&output.stderr));
    }

    /// The folder of the files.
    pub fn dir(&self) -> &TempDir {
        &self.dir
    }
}
