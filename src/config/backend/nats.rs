//! The options of NATS: struct, rows and parser.
//! There is no client for it yet.

use std::path::PathBuf;

use super::address::nodes;
use super::every::EVERY;
use crate::config::reader::Reader;
use crate::config::schema::{Default, Schema, Type, key, secret};
use crate::config::secret::Secret;

/// The options of NATS.
#[derive(Clone, Debug, PartialEq)]
pub struct Nats {
    /// Addresses; none: localhost.
    pub nodes: Vec<String>,
    /// The key-value bucket.
    pub bucket: String,
    /// Empty: none.
    pub username: String,
    /// Empty: none.
    pub password: Secret,
    /// Empty: none.
    pub token: Secret,
    /// The path of a credentials file; empty: none.
    pub creds: PathBuf,
}

pub(in crate::config) static NATS: Schema = Schema {
    path: "resource.backend.nats",
    title: "`nats`",
    groups: &[
        EVERY,
        &[
            key("nodes", Type::Texts, Default::Described("`nats://localhost:4222`"), "addresses"),
            key("bucket", Type::Text, Default::Needed, "the key-value bucket"),
            key("username", Type::Text, Default::Unset, "the user"),
            secret("password", "the password of the user"),
            secret("token", "a token instead of a user"),
            key("creds", Type::Text, Default::Unset, "the path of a credentials file"),
        ],
    ],
};

/// Reads the table; `None` where the `bucket` is missing.
pub(super) fn parse(reader: &Reader) -> Option<Nats> {
    let nats = Nats {
        // Without nodes it is nats://localhost:4222.
        nodes: nodes(reader, "nats", None),
        bucket: String::new(),
        username: reader.string("username"),
        password: reader.secret("password"),
        token: reader.secret("token"),
        creds: reader.path("creds").unwrap_or_default(),
    };
    let bucket = reader.required("bucket", "the name of a key-value bucket")?.value.to_owned();
    Some(Nats { bucket, ..nats })
}
