//! The options of Redis: struct, rows and parser.
//! There is no client for it yet.

use super::address::{SRV_RECORD, nodes};
use super::every::EVERY;
use crate::config::reader::Reader;
use crate::config::schema::{Default, Schema, Type, Unit, key, secret};
use crate::config::secret::Secret;

/// The options of Redis.
#[derive(Clone, Debug, PartialEq)]
pub struct Redis {
    /// Addresses, or the path of a socket.
    pub nodes: Vec<String>,
    /// The DNS name whose SRV records are the nodes; empty: none.
    pub srv_record: String,
    /// Empty: none.
    pub password: Secret,
    /// The number of the database.
    pub database: i64,
}

pub(in crate::config) static REDIS: Schema = Schema {
    path: "resource.backend.redis",
    title: "`redis`",
    groups: &[
        EVERY,
        &[
            key(
                "nodes",
                Type::Texts,
                Default::Described("needed, or `srv_record`"),
                "addresses like `127.0.0.1:6379`, or the path of a socket",
            ),
            SRV_RECORD,
            secret("password", "the password"),
            key("database", Type::Integer(Unit::Plain), Default::Number(0), "the number of the database; 0 or more"),
        ],
    ],
};

/// Reads the table.
pub(super) fn parse(reader: &Reader) -> Redis {
    Redis {
        nodes: nodes(reader, "redis", Some("127.0.0.1:6379")),
        srv_record: reader.string("srv_record"),
        password: reader.secret("password"),
        database: database(reader),
    }
}

fn database(reader: &Reader) -> i64 {
    let Some(found) = reader.integer("database") else {
        return 0;
    };
    if found.value < 0 {
        reader.report.error(found.span, "`database` must not be negative");
    }
    found.value
}
