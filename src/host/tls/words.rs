//! Describes errors of a TLS connection for the user: the certificate, the cause and the fix. Depends on the errors
//! of rustls, and neither on connections nor on files.

use std::path::{Path, PathBuf};

use rustls::pki_types::UnixTime;
use rustls::{AlertDescription, CertificateError, Error, ExtendedKeyPurpose, OtherError};

use crate::calendar::Civil;

/// The parts of an error message.
pub struct Words {
    /// The server's name or address in the configuration.
    pub host: String,
    /// The source of the authorities.
    pub trusted: String,
    /// The client's certificate, for servers that want one.
    pub shown: Option<PathBuf>,
}

impl Words {
    /// The cause, for the end of a message.
    pub fn of(&self, error: &Error) -> String {
        use AlertDescription as Alert;
        match error {
            Error::InvalidCertificate(error) => self.of_certificate(error),
            // Servers send different alerts if the client has no certificate.
            Error::AlertReceived(
                Alert::CertificateRequired | Alert::BadCertificate | Alert::NoCertificate,
            ) if self.shown.is_none() => {
                "the server refuses the connection: it wants a certificate: set `client_cert` and `client_key`"
                    .to_owned()
            }
            // The alert of TLS 1.2 for this; but also for a lack of common parameters.
            Error::AlertReceived(Alert::HandshakeFailure) if self.shown.is_none() => {
                "the server ended TLS: handshake failure: it may want a certificate (`client_cert` and `client_key`), or has \
                 no version or cipher in common with remco"
                    .to_owned()
            }
            Error::AlertReceived(
                alert @ (Alert::CertificateRequired
                | Alert::BadCertificate
                | Alert::UnsupportedCertificate
                | Alert::CertificateRevoked
                | Alert::CertificateExpired
                | Alert::CertificateUnknown
                | Alert::UnknownCA
                | Alert::AccessDenied),
            ) if self.shown.is_some() => {
                let shown = self.shown.as_deref().unwrap_or(Path::new("")).display();
                format!("the server refuses the certificate `{shown}`: {}", spaced(&format!("{alert:?}")))
            }
            Error::AlertReceived(Alert::ProtocolVersion) => {
                "the server ended TLS: it has neither TLS 1.2 nor 1.3, which remco needs".to_owned()
            }
            Error::AlertReceived(Alert::UnrecognisedName) => {
                format!("the server ended TLS: it does not serve the name `{}`", self.host)
            }
            Error::AlertReceived(alert) => format!("the server ended TLS: {}", spaced(&format!("{alert:?}"))),
            Error::PeerIncompatible(_) => {
                "the server has no version or cipher of TLS in common with remco, which needs TLS 1.2 or 1.3".to_owned()
            }
            Error::NoCertificatesPresented => "the server shows no certificate".to_owned(),
            Error::InvalidMessage(_) => "the server does not speak TLS: name it by an address without TLS".to_owned(),
            other => format!("TLS: {other}"),
        }
    }

    fn of_certificate(&self, error: &CertificateError) -> String {
        use CertificateError as Bad;
        let Words { host, trusted, .. } = self;
        match error {
            Bad::NotValidYetContext { time, not_before } => format!(
                "certificate of `{host}` is not yet valid: it begins at {}, and the clock of this machine says {}",
                moment(not_before),
                moment(time)
            ),
            Bad::ExpiredContext { time, not_after } => format!(
                "certificate of `{host}` has expired: it ended at {}, and the clock of this machine says {}",
                moment(not_after),
                moment(time)
            ),
            // `BadSignature` occurs if an authority was created again under its old name.
            Bad::UnknownIssuer | Bad::BadSignature => {
                format!("certificate of `{host}` is signed by none of the authorities in {trusted}")
            }
            Bad::NotValidForNameContext { presented, .. } if presented.is_empty() => {
                format!("certificate of `{host}` has no names in it (subjectAltName)")
            }
            Bad::NotValidForNameContext { presented, .. } => {
                let names: Vec<String> = presented.iter().map(|name| format!("`{}`", bare(name))).collect();
                format!("certificate is not for `{host}`: it is for {}", names.join(", "))
            }
            Bad::NotValidForName => format!("certificate is not for `{host}`"),
            Bad::NotValidYet => format!("certificate of `{host}` is not yet valid"),
            // webpki also uses this error for a certificate that ends before it begins.
            Bad::Expired => format!("certificate of `{host}` has expired, or ends before it begins"),
            Bad::Revoked => format!("certificate of `{host}` was revoked"),
            Bad::BadEncoding => format!("certificate of `{host}` is damaged: it is no X.509 certificate"),
            Bad::InvalidPurpose => of_purpose(host, &[]),
            Bad::InvalidPurposeContext { presented, .. } => of_purpose(host, presented),
            Bad::UnsupportedSignatureAlgorithmContext { .. }
            | Bad::UnsupportedSignatureAlgorithmForPublicKeyContext { .. } => format!(
                "certificate of `{host}` is signed in a way that is not supported: sign it with SHA-256 or longer, by a key \
                 of RSA with 2048 bits or more, ECDSA or Ed25519"
            ),
            Bad::Other(OtherError(error)) => format!("certificate of `{host}` {}", of_webpki(&format!("{error:?}"))),
            other => format!("certificate of `{host}` is not accepted: {}", spaced(&format!("{other:?}"))),
        }
    }
}

/// The certificate is valid, but not for this server or purpose.
fn of_purpose(host: &str, presented: &[ExtendedKeyPurpose]) -> String {
    let is_for = if presented.contains(&ExtendedKeyPurpose::ClientAuth) { ", but for clients" } else { "" };
    format!("certificate of `{host}` is not for servers{is_for} (extendedKeyUsage): make one with serverAuth in it")
}

/// The error of webpki, by its name: rustls does not export its type.
fn of_webpki(name: &str) -> String {
    let words = match name {
        "CaUsedAsEndEntity" => {
            "is that of an authority (CA:TRUE), and no server may show it: sign one for the server with it (CA:FALSE)"
        }
        "EndEntityUsedAsCa" => "is signed with a certificate that is not that of an authority (CA:FALSE)",
        "PathLenConstraintViolated" => "has more authorities above it than one of them allows (pathlen)",
        "NameConstraintViolation" => "has a name that its authority may not sign for (nameConstraints)",
        "UnsupportedCertVersion" => "has an old form (X.509 version 1 or 2): make it anew with version 3",
        "UnsupportedCriticalExtension" => "has a critical extension that is not known here",
        "MaximumPathDepthExceeded" | "MaximumPathBuildCallsExceeded" | "MaximumSignatureChecksExceeded" => {
            "has too many authorities above it to be checked"
        }
        "SignatureAlgorithmMismatch" => "names two different algorithms for its signature",
        "EmptyEkuExtension" => "is for nothing: its extendedKeyUsage is empty",
        other => return format!("is not accepted: {}", spaced(other)),
    };
    words.to_owned()
}

/// `MalformedExtensions(..)` as `malformed extensions`.
fn spaced(name: &str) -> String {
    let name = name.split(['(', ' ', '{']).next().unwrap_or_default();
    let mut words = String::new();
    for char in name.chars() {
        if char.is_ascii_uppercase() && words.ends_with(|last: char| last.is_ascii_lowercase()) {
            words.push(' ');
        }
        words.push(char);
    }
    // `UnknownCA` has an abbreviation in it.
    let lower = |word: &str| match word.bytes().all(|byte| byte.is_ascii_uppercase()) {
        true => word.to_owned(),
        false => word.to_ascii_lowercase(),
    };
    words.split(' ').map(lower).collect::<Vec<_>>().join(" ")
}

/// rustls writes `DnsName("a")` and `IpAddress(127.0.0.1)`; this is the name without the kind.
fn bare(name: &str) -> &str {
    let inner = name.split_once('(').and_then(|(_, rest)| rest.strip_suffix(')')).unwrap_or(name);
    inner.trim_matches('"')
}

fn moment(time: &UnixTime) -> String {
    let time = Civil::of(i64::try_from(time.as_secs()).unwrap_or(i64::MAX));
    let Civil { year, month, day, hour, minute, second, .. } = time;
    format!("{year}-{month:02}-{day:02} {hour:02}:{minute:02}:{second:02} UTC")
}

#[cfg(test)]
mod tests {
    use std::fmt;
    use std::sync::Arc;

    use super::*;

    /// An error of webpki with its own `Debug` text.
    struct Named(&'static str);

    impl fmt::Debug for Named {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str(self.0)
        }
    }

    impl fmt::Display for Named {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str(self.0)
        }
    }

    impl std::error::Error for Named {}

    #[track_caller]
    fn check(error: impl Into<Error>, want: &str) {
        let words = Words { host: "h".to_owned(), trusted: "`ca.pem`".to_owned(), shown: None };
        assert_eq!(words.of(&error.into()), want);
    }

    #[test]
    fn certificates_in_words() {
        use CertificateError as Bad;
        let webpki = |name| Bad::Other(OtherError(Arc::new(Named(name))));
        check(Bad::UnknownIssuer, "certificate of `h` is signed by none of the authorities in `ca.pem`");
        check(Bad::Expired, "certificate of `h` has expired, or ends before it begins");
        check(Bad::BadEncoding, "certificate of `h` is damaged: it is no X.509 certificate");
        check(Bad::Revoked, "certificate of `h` was revoked");
        let purpose = "certificate of `h` is not for servers (extendedKeyUsage): make one with serverAuth in it";
        check(Bad::InvalidPurpose, purpose);
        let authority = "certificate of `h` is that of an authority (CA:TRUE), and no server may show it: sign one for the \
                         server with it (CA:FALSE)";
        check(webpki("CaUsedAsEndEntity"), authority);
        check(webpki("MalformedExtensions"), "certificate of `h` is not accepted: malformed extensions");
        check(Bad::InvalidOcspResponse, "certificate of `h` is not accepted: invalid ocsp response");
        check(Bad::UnhandledCriticalExtension, "certificate of `h` is not accepted: unhandled critical extension");
    }

    #[test]
    fn alerts_in_words() {
        use AlertDescription as Alert;
        let check = |alert, want: &str| check(Error::AlertReceived(alert), want);
        check(Alert::UnknownCA, "the server ended TLS: unknown CA");
        check(Alert::InternalError, "the server ended TLS: internal error");
        check(Alert::ProtocolVersion, "the server ended TLS: it has neither TLS 1.2 nor 1.3, which remco needs");
        check(Alert::UnrecognisedName, "the server ended TLS: it does not serve the name `h`");
    }
}
