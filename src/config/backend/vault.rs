//! The options of Vault: struct, rows and parser.
//! There is no client for it yet.

use super::every::EVERY;
use super::tls::{self, TLS, Tls};
use crate::config::reader::Reader;
use crate::config::report::quoted;
use crate::config::schema::{Default, Schema, Type, key, secret};
use crate::config::secret::Secret;
use crate::nearest::nearest;

/// The options of Vault.
#[derive(Clone, Debug, PartialEq)]
pub struct Vault {
    /// The address.
    pub node: String,
    /// How to authenticate; empty: not set.
    pub auth_type: String,
    /// For `app-id`.
    pub app_id: Secret,
    /// For `app-id`.
    pub user_id: Secret,
    /// For `approle` and `kubernetes`.
    pub role_id: Secret,
    /// For `approle`.
    pub secret_id: Secret,
    /// For `userpass`.
    pub username: String,
    /// For `userpass`.
    pub password: Secret,
    /// For `token` and `github`.
    pub auth_token: Secret,
    /// The files for TLS.
    pub tls: Tls,
}

pub(in crate::config) static VAULT: Schema = Schema {
    path: "resource.backend.vault",
    title: "`vault`",
    groups: &[
        EVERY,
        &[
            key("node", Type::Text, Default::Needed, "the address"),
            key(
                "auth_type",
                Type::Text,
                Default::Unset,
                "`token`, `approle`, `app-id`, `github`, `userpass`, `cert` or `kubernetes`",
            ),
            secret("app_id", "for `app-id`"),
            secret("user_id", "for `app-id`"),
            secret("role_id", "for `approle` and `kubernetes`"),
            secret("secret_id", "for `approle`"),
            key("username", Type::Text, Default::Unset, "for `userpass`"),
            secret("password", "for `userpass`"),
            secret("auth_token", "for `token` and `github`"),
        ],
        TLS,
    ],
};

/// Reads the table; `None` where the `node` is missing.
pub(super) fn parse(reader: &Reader) -> Option<Vault> {
    let vault = Vault {
        node: String::new(),
        auth_type: auth_type(reader),
        app_id: reader.secret("app_id"),
        user_id: reader.secret("user_id"),
        role_id: reader.secret("role_id"),
        secret_id: reader.secret("secret_id"),
        username: reader.string("username"),
        password: reader.secret("password"),
        auth_token: reader.secret("auth_token"),
        tls: tls::tls(reader),
    };
    let node = reader.required("node", "the address of the server")?.value.to_owned();
    Some(Vault { node, ..vault })
}

fn auth_type(reader: &Reader) -> String {
    const KNOWN: &[&str] = &["token", "approle", "app-id", "github", "userpass", "cert", "kubernetes"];
    let Some(found) = reader.filled("auth_type") else {
        return String::new();
    };
    if !KNOWN.contains(&found.value) {
        let shown = reader.report.show(found.span, found.value);
        let advice = match nearest(found.value, KNOWN.iter().copied()) {
            Some(known) => format!(", did you mean {}?", quoted(known)),
            None => format!(": known are {}", KNOWN.iter().copied().map(quoted).collect::<Vec<_>>().join(", ")),
        };
        reader.report.error(found.span, format!("unknown `auth_type` {shown}{advice}"));
    }
    found.value.to_owned()
}
