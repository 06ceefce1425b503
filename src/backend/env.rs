//! The backend `env`: the environment that the program was started with. `APP_DB_HOST` is the key `/app/db/host`.
//! Watches nothing, because the environment does not change.

use std::rc::Rc;

use super::interval;
use super::keys::{Keys, Missing};
use super::local::Local;
use super::polled::{Polled, Schedule, Source};
use crate::config::{self, Mode};
use crate::host::environment;
use crate::store::Layer;

/// A backend whose reads are spread over time by the seed.
pub fn new(config: &config::Backend, mode: Mode, seed: u64) -> Box<dyn Local> {
    let names = Names::new(&config.prefix, &config.keys);
    Box::new(Polled::new(Environment { names }, &config.prefix, Schedule::new(interval(config, mode), seed)))
}

/// The configured keys that have no variable.
pub fn missing(prefix: &str, keys: &[String]) -> Missing {
    let names = Names::new(prefix, &[]);
    let keys = Keys::new(prefix, keys);
    let stored = |effective: &Vec<u8>| {
        let begin = key(&variable(effective));
        let stored = names.keys.store_key(&begin).map_or(begin, |stored| stored.key.to_vec());
        (effective.clone(), stored)
    };
    Missing::of(keys.effective().iter().map(stored))
}

struct Environment {
    names: Names,
}

impl Source for Environment {
    fn name(&self) -> &'static str {
        "env"
    }

    fn read(&mut self) -> Result<Layer, String> {
        Ok(self.names.layer(environment::variables()))
    }
}

/// The variables to read, and the names of their keys in the store.
struct Names {
    /// The prefixes of the names of the wanted variables, one for each key.
    beginnings: Vec<Vec<u8>>,
    keys: Keys,
}

impl Names {
    fn new(prefix: &str, keys: &[String]) -> Names {
        let beginnings = Keys::new(prefix, keys).effective().iter().map(|key| variable(key)).collect();
        // The key of a variable has neither capital letters nor `_`. A prefix with these selects variables, but cannot
        // be removed from their keys, and Go remco keeps it there.
        let comparable = !prefix.bytes().any(|byte| byte == b'_' || byte.is_ascii_uppercase());
        Names { beginnings, keys: Keys::new(if comparable { prefix } else { "" }, &[]) }
    }

    fn layer(&self, variables: impl IntoIterator<Item = (Vec<u8>, Vec<u8>)>) -> Layer {
        let wanted = |(name, value): (Vec<u8>, Vec<u8>)| {
            self.beginnings.iter().find(|beginning| name.starts_with(beginning))?;
            Some((self.keys.store_key(&key(&name))?.key, Rc::from(value)))
        };
        variables.into_iter().filter_map(wanted).collect()
    }
}

/// `/app/db` -> `APP_DB`. Only ASCII letters change their case, as in names of variables.
fn variable(key: &[u8]) -> Vec<u8> {
    let name = key.strip_prefix(b"/").unwrap_or(key);
    name.iter().map(|byte| if *byte == b'/' { b'_' } else { byte.to_ascii_uppercase() }).collect()
}

/// `APP_DB` -> `/app/db`
fn key(variable: &[u8]) -> Vec<u8> {
    let path = variable.iter().map(|byte| if *byte == b'_' { b'/' } else { byte.to_ascii_lowercase() });
    std::iter::once(b'/').chain(path).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(prefix: &str, keys: &[&str], want: &[&str]) {
        let variables = ["APP_DB_HOST=pg", "APP_DB_PORT=5", "APPLE=x", "APP=y", "db_host=low", "A__B=2", "_=z", "E="];
        let variables = variables.iter().map(|text| {
            let (name, value) = text.split_once('=').unwrap();
            (name.into(), value.into())
        });
        let names = Names::new(prefix, &keys.iter().map(|key| key.to_string()).collect::<Vec<_>>());
        let show = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let layer = names.layer(variables);
        let got: Vec<_> = layer.iter().map(|(key, value)| format!("{}={}", show(key), show(value))).collect();
        assert_eq!(got, want, "{prefix:?} {keys:?}");
    }

    #[test]
    fn names_become_keys() {
        check("", &["/app/db"], &["/app/db/host=pg", "/app/db/port=5"]);
        check("", &["app/db/p"], &["/app/db/port=5"]);
        check("", &["/app"], &["/app=y", "/app/db/host=pg", "/app/db/port=5", "/apple=x"]);
        check("", &["/APP_DB/HOST", "/E"], &["/app/db/host=pg", "/e="]);
        check("", &["/a/"], &["/a/b=2", "/app=y", "/app/db/host=pg", "/app/db/port=5", "/apple=x"]);
        check("", &["/none"], &[]);
        check("", &[], &[]);
    }

    #[test]
    fn the_root_is_every_variable() {
        let all = ["/=z", "/a/b=2", "/app=y", "/app/db/host=pg", "/app/db/port=5", "/apple=x", "/db/host=low", "/e="];
        check("", &["/"], &all);
        check("/", &["/"], &all);
    }

    #[test]
    fn the_prefix_is_taken_away_at_a_boundary() {
        check("/app", &["/db"], &["/db/host=pg", "/db/port=5"]);
        check("/app/db", &["/"], &["/host=pg", "/port=5"]);
        // `APPLE` does not become `/le`.
        check("/app", &["/"], &["/=y", "/db/host=pg", "/db/port=5"]);
    }

    #[test]
    fn a_prefix_that_no_key_can_begin_with_takes_nothing_away() {
        check("/APP", &["/db"], &["/app/db/host=pg", "/app/db/port=5"]);
        check("/app_db", &["/"], &["/app/db/host=pg", "/app/db/port=5"]);
    }

    #[test]
    fn a_key_without_a_variable_is_missing() {
        let check = |prefix, key: &str, begin: &str| {
            let mut missing = missing(prefix, &[key.to_owned()]);
            assert_eq!(missing.look(|wanted| wanted == begin.as_bytes()), [""; 0], "{prefix} {key}");
        };
        check("", "/app", "/app");
        check("", "/", "/");
        check("/app", "/DB_x", "/db/x");
        check("/My_app", "/db", "/my/app/db");
    }

    #[test]
    fn bytes_survive() {
        let layer = Names::new("", &["/".to_owned()]).layer([(b"X_\xff".to_vec(), b"\xfe".to_vec())]);
        assert_eq!(layer.get(&b"/x/\xff"[..]).map(|value| &**value), Some(&b"\xfe"[..]));
    }
}
