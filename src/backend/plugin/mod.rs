//! Plugins: programs of the user that return keys over their pipes. Creates a driver from the options, and knows which
//! values of the configuration are secrets. `wire` has the messages, `protocol` their order.

mod protocol;
mod wire;

use std::time::Instant;

use serde_json::Value;

use self::protocol::{Plugin, Settings};
use super::Mode;
use super::driver::{Driver, Factory, Nodes, Store};
use super::failover::Deadline;
use super::protocol::Id;
use super::redact::Redactor;
use super::refusal;
use crate::config;
use crate::host::client::Limits;

/// A driver for one resource: a program serves one resource.
pub fn driver(
    id: Id,
    options: &config::Backend,
    plugin: &config::Plugin,
    mode: Mode,
    random: fn(u64) -> u64,
    now: Instant,
) -> Driver {
    let deadline = Deadline::of(mode, plugin.timeout);
    let factory: Factory = {
        let (options, plugin) = (options.clone(), plugin.clone());
        Box::new(move |_, shown, _| {
            let settings = Settings {
                id,
                path: shown.join(""),
                redactor: redactor(&plugin.config),
                config: plugin.config.clone(),
                limits: plugin.read,
                mode,
                seed: random(u64::MAX),
            };
            Box::new(Plugin::new(settings, plugin.name(), &options))
        })
    };
    let store = Store {
        name: plugin.name().to_owned().into(),
        nodes: Nodes::Program(plugin.path.clone()),
        limits: Limits::default(),
        tls: config::Tls::default(),
        login: None,
        deadline,
        random,
    };
    Driver::new(store, factory, now)
}

/// A text of `config` with at least this number of characters may be a secret, whatever its key is.
const SHORTEST_SECRET: usize = 6;

/// The number of characters of a key's name that are shown.
const LONGEST_NAME: usize = 40;

/// Parts of the names of keys whose values are always secrets.
const SECRET_NAMES: &[&str] = &["pass", "pwd", "pin", "secret", "token", "key", "auth", "credential", "cookie"];

/// Masks the values of a plugin's `config`, each as `<KEY>`, because an error of a plugin may quote any of them.
fn redactor(config: &str) -> Redactor {
    let mut redactor = Redactor::of_all();
    // The parser of the configuration wrote this JSON.
    if let Ok(table) = serde_json::from_str(config) {
        hide(&mut redactor, "config", false, &table);
    }
    redactor
}

/// Hides a value and all values in it. `is_secret`: a name on its path is one of [`SECRET_NAMES`].
fn hide(redactor: &mut Redactor, name: &str, is_secret: bool, value: &Value) {
    let mut add = |text: &str| {
        // An error may quote a certificate or key line by line.
        for line in text.lines().map(str::trim) {
            if is_secret || line.chars().count() >= SHORTEST_SECRET {
                redactor.hide(name.to_owned(), line);
            }
        }
    };
    match value {
        Value::String(text) => add(text),
        Value::Number(number) if is_secret => add(&number.to_string()),
        Value::Number(_) | Value::Bool(_) | Value::Null => {}
        Value::Array(items) => items.iter().for_each(|item| hide(redactor, name, is_secret, item)),
        Value::Object(table) => {
            for (name, value) in table {
                let lower = name.to_lowercase();
                let is_secret = is_secret || SECRET_NAMES.iter().any(|part| lower.contains(part));
                hide(redactor, refusal::reason(name, LONGEST_NAME).as_str(), is_secret, value);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_of_the_configuration_are_masked_by_the_names_of_their_keys() {
        let config = serde_json::json!({
            "address": "db.example.com", "port": 5432, "mode": "ro", "Password": "x1", "pin": 17,
            "list": ["first-one", ["second-one"]], "auth": {"user": "me"}, "pem": "-----\nMIIabcdef\nab\n",
            "a\nb": "multiline",
        });
        let redactor = redactor(&config.to_string());
        let check = |text: &str, want: &str| assert_eq!(redactor.redact(text), want);
        check("x1 of me at db.example.com:5432, ro", "<Password> of <user> at <address>:5432, ro");
        check("first-one second-one 17 multiline", "<list> <list> <pin> <a b>");
        check("MIIabcdef ab", "<pem> ab");
        let many: serde_json::Map<String, Value> =
            (0..100).map(|n| (format!("key{n}"), format!("value {n:03}").into())).collect();
        let redactor = super::redactor(&Value::from(many).to_string());
        assert_eq!(redactor.redact("value 000, value 099"), "<key0>, <key99>");
    }
}
