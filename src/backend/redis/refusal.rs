//! The meaning of Redis errors: whether an error is temporary, needs an operator, or needs another command. Masks
//! secrets in their texts. Sends nothing.

use crate::backend::redact::Redactor;
use crate::backend::refusal::reason;

/// The number of characters of an error that are shown.
const SHOWN: usize = 300;

/// An error of the server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The kind of the error.
    pub kind: RefusalKind,
    /// The text of the server, on one line and without secrets.
    pub words: String,
}

/// Kinds of errors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RefusalKind {
    /// A password is needed.
    NoPassword,
    /// The user or the password is wrong.
    WrongPassword,
    /// The user lacks the permission.
    Denied,
    /// The key holds no string.
    WrongType,
    /// The keys of one command are on several nodes of a cluster.
    CrossSlot,
    /// The key is on another node of a cluster.
    Cluster,
    /// The server accepts only local connections.
    Protected,
    /// The server loads its data, waits for its master, or is busy.
    Busy,
    /// Anything else.
    Other,
}

impl Refusal {
    /// Reads an error.
    pub fn new(text: &str, secrets: &Redactor) -> Refusal {
        let code = text.split(' ').next().unwrap_or_default();
        let kind = match code {
            "NOAUTH" => RefusalKind::NoPassword,
            "WRONGPASS" => RefusalKind::WrongPassword,
            "NOPERM" => RefusalKind::Denied,
            "WRONGTYPE" => RefusalKind::WrongType,
            "CROSSSLOT" => RefusalKind::CrossSlot,
            "MOVED" | "ASK" => RefusalKind::Cluster,
            "DENIED" => RefusalKind::Protected,
            "LOADING" | "MASTERDOWN" | "BUSY" | "TRYAGAIN" | "CLUSTERDOWN" => RefusalKind::Busy,
            // Before version 6.
            "ERR" if text.starts_with("ERR invalid password") => RefusalKind::WrongPassword,
            "ERR" if text.starts_with("ERR operation not permitted") => RefusalKind::NoPassword,
            "ERR" if text.starts_with("ERR max number of clients") => RefusalKind::Busy,
            _ => RefusalKind::Other,
        };
        Refusal { kind, words: reason(&secrets.redact(text.trim()), SHOWN) }
    }

    /// Whether an operator has to correct the cause.
    pub fn is_lasting(&self) -> bool {
        !matches!(self.kind, RefusalKind::Busy | RefusalKind::Other)
    }

    /// The advice, with punctuation in front; empty if the error is clear.
    pub fn advice(&self) -> &'static str {
        match self.kind {
            RefusalKind::NoPassword => ": set `password` or `password_file`",
            RefusalKind::Cluster | RefusalKind::CrossSlot => {
                ": clusters are not supported, name a server that holds all keys"
            }
            RefusalKind::Protected => ": give the server a password, or name it by a local address",
            RefusalKind::WrongPassword
            | RefusalKind::Denied
            | RefusalKind::WrongType
            | RefusalKind::Busy
            | RefusalKind::Other => "",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_of_servers() {
        let check = |text: &str, kind, is_lasting| {
            let refusal = Refusal::new(text, &Redactor::default());
            assert_eq!((refusal.kind, refusal.is_lasting(), &*refusal.words), (kind, is_lasting, text), "{text}");
        };
        check("NOAUTH Authentication required.", RefusalKind::NoPassword, true);
        check("ERR operation not permitted", RefusalKind::NoPassword, true);
        check("WRONGPASS invalid username-password pair or user is disabled.", RefusalKind::WrongPassword, true);
        check("ERR invalid password", RefusalKind::WrongPassword, true);
        check(
            "NOPERM this user has no permissions to access one of the keys used as arguments",
            RefusalKind::Denied,
            true,
        );
        check("WRONGTYPE Operation against a key holding the wrong kind of value", RefusalKind::WrongType, true);
        check("MOVED 15495 127.0.0.1:7001", RefusalKind::Cluster, true);
        check("ASK 15495 127.0.0.1:7001", RefusalKind::Cluster, true);
        check("CROSSSLOT Keys in request don't hash to the same slot", RefusalKind::CrossSlot, true);
        check("DENIED Redis is running in protected mode", RefusalKind::Protected, true);
        check("LOADING Redis is loading the dataset in memory", RefusalKind::Busy, false);
        check(
            "MASTERDOWN Link with MASTER is down and replica-serve-stale-data is set to 'no'.",
            RefusalKind::Busy,
            false,
        );
        check("ERR max number of clients reached", RefusalKind::Busy, false);
        check("ERR unknown command 'SCAN'", RefusalKind::Other, false);
        check("MOVEDX", RefusalKind::Other, false);
    }

    #[test]
    fn words_are_one_line_without_secrets() {
        let mut secrets = Redactor::default();
        secrets.hide("password", "s3sameopen");
        let words = |text: &str| Refusal::new(text, &secrets).words;
        assert_eq!(words("ERR unknown command `AUTH`, with args beginning with: `s3sameopen`, "), {
            "ERR unknown command `AUTH`, with args beginning with: `<password>`,"
        });
        assert_eq!(words("ERR a\tb\u{1b}[1m"), "ERR a b [1m");
        assert_eq!(words(""), "no reason given");
        assert_eq!(words(&"x".repeat(9999)).len(), SHOWN);
    }
}
