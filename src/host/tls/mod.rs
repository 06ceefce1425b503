//! TLS of a connection by rustls: the client's certificate and a session without a socket. Files that have changed
//! are read again, so that the next connection uses a renewed certificate. `trust` selects the authorities, `words`
//! describes errors. Does not depend on HTTP and never waits.

mod trust;
mod words;

use std::cell::RefCell;
use std::fmt;
use std::io::{self, Read, Write};
use std::path::Path;
use std::sync::Arc;

use rustls::client::Resumption;
use rustls::crypto::ring;
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, Error, RootCertStore, SignatureScheme};

use crate::config;
use crate::error::cause;
use crate::host::cause::Cause;
use crate::host::read::whole_file;
use trust::{Authorities, Stamp, Trust, stamp};
use words::Words;

/// Larger than any bundle of authorities.
const LARGEST: usize = 16 << 20;

/// The TLS files of a client.
#[derive(Debug)]
pub struct Tls {
    files: config::Tls,
    trust: Trust,
    /// The configuration that was read last. In a `RefCell`, because the connections of a client share its TLS files.
    known: RefCell<Option<Known>>,
}

#[derive(Debug)]
struct Known {
    authorities: Authorities,
    stamps: Vec<Option<Stamp>>,
    config: Arc<ClientConfig>,
}

impl Tls {
    /// Reads no file yet: an error in a file is reported by the connection that needs the file.
    pub fn new(files: config::Tls) -> Tls {
        let trust = Trust::new(files.client_ca_keys.clone());
        Tls { files, trust, known: RefCell::default() }
    }

    /// A new session for a server of this name or address. Errors name the file.
    pub fn secure(&self, host: &str) -> Result<Session, Cause> {
        let host = self.files.server_name.as_deref().unwrap_or(host);
        let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
        let host = host.strip_suffix('.').unwrap_or(host);
        let name = ServerName::try_from(host.to_owned());
        let name = name.map_err(|_| Cause::Other(format!("`{host}` is no name that a certificate could have")))?;
        let authorities = self.trust.authorities();
        let config = self.config(&authorities).map_err(Cause::Other)?;
        let connection = ClientConnection::new(config, name).map_err(|error| Cause::Other(format!("TLS: {error}")))?;
        let shown = self.files.client_cert.clone();
        let words = Words { host: host.to_owned(), trusted: authorities.to_string(), shown };
        Ok(Session { connection, words })
    }

    fn config(&self, authorities: &Authorities) -> Result<Arc<ClientConfig>, String> {
        let mut known = self.known.borrow_mut();
        // The stamps are taken before the files are read: a file that changes meanwhile is read again next time.
        let own = self.files.client_cert.as_deref().into_iter().chain(self.files.client_key.as_deref());
        let stamps: Vec<Option<Stamp>> = own.map(stamp).chain(authorities.stamps()).collect();
        if let Some(known) = &*known
            && known.stamps == stamps
            && known.authorities == *authorities
        {
            return Ok(Arc::clone(&known.config));
        }
        let config = Arc::new(self.read(authorities.roots()?)?);
        *known = Some(Known { authorities: authorities.clone(), stamps, config: Arc::clone(&config) });
        Ok(config)
    }

    fn read(&self, roots: Arc<RootCertStore>) -> Result<ClientConfig, String> {
        let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(|error| error.to_string())?
            .with_root_certificates(roots);
        let mut config = match (&self.files.client_cert, &self.files.client_key) {
            (Some(cert), Some(key)) => {
                let chain = certificates(cert)?;
                let private = private_key(key)?;
                let (cert, key) = (cert.display(), key.display());
                builder.with_client_auth_cert(chain, private).map_err(|error| match error {
                    Error::InconsistentKeys(_) => format!("the key `{key}` is not that of the certificate `{cert}`"),
                    Error::InvalidCertificate(_) => format!("failed to use certificate `{cert}`: {error}"),
                    // ring's error for a key of an unknown kind.
                    Error::General(_) => {
                        format!("failed to use key `{key}`: only RSA, ECDSA P-256 and P-384 and Ed25519 are supported")
                    }
                    _ => format!("failed to use certificate `{cert}` with key `{key}`: {error}"),
                })?
            }
            _ => builder.with_no_client_auth(),
        };
        // Every connection presents the client's certificate and gets the server's.
        config.resumption = Resumption::disabled();
        Ok(config)
    }
}

/// Signs a text with the Ed25519 key of a seed. `None`: the seed cannot be used.
pub fn sign(seed: &[u8; 32], text: &[u8]) -> Option<Vec<u8>> {
    // PKCS#8 around the seed (RFC 8410, section 7).
    const FRAME: &[u8] = b"\x30\x2e\x02\x01\x00\x30\x05\x06\x03\x2b\x65\x70\x04\x22\x04\x20";
    let key = PrivatePkcs8KeyDer::from([FRAME, seed].concat());
    let key = ring::sign::any_eddsa_type(&key).ok()?;
    key.choose_scheme(&[SignatureScheme::ED25519])?.sign(text).ok()
}

/// The certificates of a PEM file; at least one.
fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let text = read(path)?;
    let all: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&text).collect();
    match all {
        Ok(all) if all.is_empty() => {
            Err(format!("failed to use `{}`: there is no PEM certificate in it", path.display()))
        }
        Ok(all) => Ok(all),
        Err(error) => Err(damaged(path, &error)),
    }
}

/// The first private key of a PEM file, in any of the three formats.
fn private_key(path: &Path) -> Result<PrivateKeyDer<'static>, String> {
    let text = read(path)?;
    PrivateKeyDer::from_pem_slice(&text).map_err(|error| match error {
        pem::Error::NoItemsFound if contains(&text, b"BEGIN ENCRYPTED PRIVATE KEY") => encrypted(path),
        pem::Error::NoItemsFound => format!("failed to use `{}`: there is no PEM private key in it", path.display()),
        // The old encryption has a header that is not base64.
        _ if contains(&text, b"Proc-Type: 4,ENCRYPTED") => encrypted(path),
        error => damaged(path, &error),
    })
}

fn encrypted(path: &Path) -> String {
    format!(
        "failed to use `{}`: the key is encrypted, and remco cannot ask for its passphrase: decrypt the key",
        path.display()
    )
}

fn read(path: &Path) -> Result<Vec<u8>, String> {
    whole_file(path, LARGEST).map_err(|error| format!("failed to read `{}`: {}", path.display(), cause(&error)))
}

/// Errors of the parser would contain bytes of a private key.
fn damaged(path: &Path, error: &pem::Error) -> String {
    let what = match error {
        pem::Error::MissingSectionEnd { .. } => "a section has no -----END line: is it cut off?",
        pem::Error::IllegalSectionStart { .. } => "a -----BEGIN line is damaged",
        pem::Error::Base64Decode(_) => "the text between -----BEGIN and -----END is damaged",
        _ => "it is no PEM file",
    };
    format!("failed to use `{}`: {what}", path.display())
}

fn contains(text: &[u8], part: &[u8]) -> bool {
    text.windows(part.len()).any(|window| window == part)
}

/// The TLS session of one connection. It never waits and owns no socket: the caller passes the socket to each call.
pub struct Session {
    connection: ClientConnection,
    words: Words,
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session").field("host", &self.words.host).finish_non_exhaustive()
    }
}

impl Session {
    /// Whether the handshake is incomplete. The caller's bytes are not sent before it is complete.
    pub fn is_handshaking(&self) -> bool {
        self.connection.is_handshaking()
    }

    /// Whether records wait to be sent.
    pub fn wants_write(&self) -> bool {
        self.connection.wants_write()
    }

    /// Encrypts bytes of the caller and returns their number; 0: flush first.
    ///
    /// # Errors
    /// Only those of [`Session::flush`].
    pub fn write(&mut self, plain: &[u8]) -> io::Result<usize> {
        self.connection.writer().write(plain)
    }

    /// Sends as many records as the socket takes at once. Returns the number of bytes.
    ///
    /// # Errors
    /// Those of the socket.
    pub fn flush(&mut self, socket: &mut dyn Write) -> io::Result<usize> {
        self.connection.write_tls(socket)
    }

    /// Decrypted bytes; 0: the server closed the session properly.
    ///
    /// # Errors
    /// `WouldBlock`: call [`Session::fill`] first. `UnexpectedEof`: the connection ended without a close of the
    /// session.
    pub fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        self.connection.reader().read(into)
    }

    /// Receives the records that are there; 0: the connection ended. `reply` is the same socket, for the alert that
    /// reports an error to the server.
    ///
    /// # Errors
    /// Those of the socket. Errors of the records are of kind `Other` with a [`Cause`].
    pub fn fill(&mut self, socket: &mut dyn Read, reply: &mut dyn Write) -> io::Result<usize> {
        let received = self.connection.read_tls(socket)?;
        if let Err(error) = self.connection.process_new_packets() {
            // The alert is sent as far as possible: the connection is lost either way.
            let _ = self.connection.write_tls(reply);
            return Err(Cause::Other(self.words.of(&error)).into_io());
        }
        Ok(received)
    }

    /// Whether the session can take a request, as far as is known without the socket: the server has not closed it, and
    /// there are no unread bytes.
    pub fn is_idle(&mut self) -> bool {
        let state = self.connection.process_new_packets();
        state.is_ok_and(|state| state.plaintext_bytes_to_read() == 0 && !state.peer_has_closed())
    }
}
