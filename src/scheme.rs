//! Recognises the response of a TLS server to a request over http://. The opposite case fails in the TLS handshake,
//! with an error of `host`. Connects to nothing.

/// The advice that an error adds if [`speaks_tls`] is true.
pub const HINT: &str = "the server speaks TLS: write https:// instead of http://";

/// Whether the beginning of a response, or of an HTTP response's body, shows that the server speaks TLS.
///
/// Source: RFC 8446, section 5.1 (an alert record); the texts of Go's net/http, nginx, Apache and HAProxy.
pub fn speaks_tls(answer: &[u8]) -> bool {
    /// A record of type alert, of any version.
    const ALERT: &[u8] = b"\x15\x03";
    /// In lower case.
    const TEXTS: &[&str] = &[
        "client sent an http request to an https server",
        "plain http request was sent to https port",
        "speaking plain http to an ssl-enabled server port",
        "speaking http to an https port",
    ];
    /// The searched bytes: the texts are at the beginning of their pages.
    const BEGINNING: usize = 1024;
    let beginning = &answer[..answer.len().min(BEGINNING)];
    let text = String::from_utf8_lossy(beginning).to_ascii_lowercase();
    answer.starts_with(ALERT) || TEXTS.iter().any(|said| text.contains(said))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers_that_speak_tls_are_known_by_their_answer() {
        let check = |answer: &[u8], expected| assert_eq!(speaks_tls(answer), expected, "{answer:?}");
        check(b"\x15\x03\x01\x00\x02\x02\x46", true);
        check(b"\x15\x03\x03\x00\x02\x02\x46", true);
        check(b"Client sent an HTTP request to an HTTPS server.\n", true);
        check(b"<html>\r\n<center>The plain HTTP request was sent to HTTPS port</center>", true);
        check(b"<p>You're speaking plain HTTP to an SSL-enabled server port.<br />", true);
        check(b"", false);
        check(b"\x15", false);
        check(b"HTTP/1.1 400 Bad Request", false);
        check(&[b"x".repeat(2000), b"Client sent an HTTP request to an HTTPS server.".to_vec()].concat(), false);
    }
}
