//! The wanted keys of one resource: the configured keys, the patterns of the keys below them, the channels that report
//! their changes, and their names in the store. Reads nothing.

use std::rc::Rc;

use crate::backend::keys::{Keys, Missing, StoreKey, without_wildcards};
use crate::store::Bytes;

/// The special characters in patterns of Redis.
const GLOBS: &[u8] = b"*?[\\";

/// The keys of one resource.
#[derive(Debug)]
pub struct Wanted {
    keys: Vec<Bytes>,
    watched: Vec<Bytes>,
    names: Keys,
    /// The names of keys that do not begin with the prefix, if the prefix is a pattern.
    whole_names: Option<Keys>,
}

/// A subscription, without the common prefix of all channels.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Channel {
    /// The changes of one key.
    Key(Bytes),
    /// The changes of all keys that a pattern matches.
    Pattern(Bytes),
}

/// The purpose of a channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Role {
    /// The number of the configured key; `None`: it is only watched.
    pub key: Option<usize>,
    /// Whether its changes trigger an update.
    pub triggers: bool,
}

impl Wanted {
    /// `keys` and `watched` below `prefix`, all as the user wrote them.
    pub fn new(prefix: &str, keys: &[String], watched: &[String]) -> Wanted {
        let has_glob = prefix.bytes().any(|byte| GLOBS.contains(&byte));
        Wanted {
            keys: stripped(prefix, keys),
            watched: stripped(prefix, watched),
            names: Keys::new(prefix, keys),
            whole_names: has_glob.then(|| Keys::new("", keys)),
        }
    }

    /// The keys, each once.
    pub fn keys(&self) -> &[Bytes] {
        &self.keys
    }

    /// The store key of a key; `None`: the key is not below the prefix.
    pub fn store_key(&self, raw: &[u8]) -> Option<StoreKey> {
        self.names.store_key(raw).or_else(|| self.whole_names.as_ref()?.store_key(raw))
    }

    /// The channels that report changes, each with its purpose. A channel may occur twice.
    pub fn channels(&self) -> Vec<(Channel, Role)> {
        let mut channels = Vec::new();
        let mut add = |key: &Bytes, role| {
            channels.push((Channel::Key(key.clone()), role));
            channels.push((Channel::Pattern(pattern(key)), role));
        };
        for (number, key) in self.keys.iter().enumerate() {
            add(key, Role { key: Some(number), triggers: self.watched.contains(key) });
        }
        for key in self.watched.iter().filter(|key| !self.keys.contains(key)) {
            add(key, Role { key: None, triggers: true });
        }
        channels
    }
}

/// The pattern of all keys below a key. Special characters of the key keep their meaning.
pub fn pattern(key: &[u8]) -> Bytes {
    match key {
        b"/" => Rc::from(&b"/*"[..]),
        key => Rc::from([key, b"/*"].concat()),
    }
}

/// The check for configured keys without a key below them, before the first read.
pub fn missing(prefix: &str, keys: &[String]) -> Missing {
    let wanted = Wanted::new(prefix, keys, &[]);
    Missing::of(wanted.keys.iter().map(|key| {
        // Keys that match begin with the literal part of the pattern.
        let literal = key.iter().position(|byte| GLOBS.contains(byte)).map_or(&key[..], |end| &key[..end]);
        let stored = wanted.store_key(literal).map(|named| named.key.to_vec());
        (key.to_vec(), stored.unwrap_or_else(|| b"/".to_vec()))
    }))
}

/// The keys with the prefix and without `/*`, each once. A key covers all keys below it anyway.
fn stripped(prefix: &str, keys: &[String]) -> Vec<Bytes> {
    let mut all: Vec<Bytes> = Vec::new();
    for key in Keys::new(prefix, keys).effective() {
        let stripped = Bytes::from(without_wildcards(key));
        if !all.contains(&stripped) {
            all.push(stripped);
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(keys: &[&str]) -> Vec<String> {
        keys.iter().map(|key| key.to_string()).collect()
    }

    fn wanted(prefix: &str, keys: &[&str], watched: &[&str]) -> Wanted {
        Wanted::new(prefix, &texts(keys), &texts(watched))
    }

    fn text(bytes: &[u8]) -> String {
        String::from_utf8_lossy(bytes).into_owned()
    }

    #[test]
    fn keys_and_the_patterns_below_them() {
        let check = |prefix, keys: &[&str], want: &[(&str, &str)]| {
            let wanted = wanted(prefix, keys, &[]);
            let got: Vec<(String, String)> = wanted.keys().iter().map(|key| (text(key), text(&pattern(key)))).collect();
            let want: Vec<(String, String)> =
                want.iter().map(|(key, below)| (key.to_string(), below.to_string())).collect();
            assert_eq!(got, want, "{prefix:?} {keys:?}");
        };
        check("", &["/app", "/app/", "/app/*"], &[("/app", "/app/*")]);
        check("", &["/"], &[("/", "/*")]);
        check("", &["/*", ""], &[("", "/*")]);
        check("/prod", &["/", "db/*/x"], &[("/prod", "/prod/*"), ("/prod/db/x", "/prod/db/x/*")]);
        check("", &["app[12]"], &[("app[12]", "app[12]/*")]);
    }

    #[test]
    fn names_in_the_store() {
        let name =
            |prefix, raw: &str| wanted(prefix, &["/"], &[]).store_key(raw.as_bytes()).map(|name| text(&name.key));
        assert_eq!(name("/app", "/app/x").as_deref(), Some("/x"));
        assert_eq!(name("", "app/x").as_deref(), Some("/app/x"));
        assert_eq!(name("/app", "/other"), None);
        assert_eq!(name("/app[12]", "/app1/x").as_deref(), Some("/app1/x"));
    }

    #[test]
    fn channels_of_what_is_read_and_of_what_is_watched() {
        let channels = wanted("", &["/a", "/b"], &["/b", "/r"]).channels();
        let shown: Vec<String> = channels
            .iter()
            .map(|(channel, role)| match channel {
                Channel::Key(key) => format!("{} {:?} {}", text(key), role.key, role.triggers),
                Channel::Pattern(pattern) => format!("{} {:?} {}", text(pattern), role.key, role.triggers),
            })
            .collect();
        assert_eq!(
            shown,
            [
                "/a Some(0) false",
                "/a/* Some(0) false",
                "/b Some(1) true",
                "/b/* Some(1) true",
                "/r None true",
                "/r/* None true"
            ]
        );
    }

    #[test]
    fn a_pattern_that_matches_something_is_not_missing() {
        let look = |prefix, keys: &[&str], store: &[&str]| {
            missing(prefix, &texts(keys)).look(|begin| store.iter().any(|key| key.as_bytes().starts_with(begin)))
        };
        assert_eq!(look("", &["/app/*", "/a[bp]p", "/db"], &["/app/x"]), ["/db"]);
        assert_eq!(look("/p", &["/app"], &["/app/x"]), [""; 0]);
        assert_eq!(look("/p*", &["/app"], &["/p1/app/x"]), [""; 0]);
        assert_eq!(look("", &["/x"], &[]), ["/x"]);
    }
}
