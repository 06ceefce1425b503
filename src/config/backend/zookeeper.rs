//! The options of ZooKeeper: struct, rows and parser.
//! There is no client for it yet.

use super::address::{SRV_RECORD, nodes};
use super::every::EVERY;
use crate::config::reader::Reader;
use crate::config::schema::{Default, Schema, Type, key};

/// The options of ZooKeeper.
#[derive(Clone, Debug, PartialEq)]
pub struct Zookeeper {
    /// Addresses.
    pub nodes: Vec<String>,
    /// The DNS name whose SRV records are the nodes; empty: none.
    pub srv_record: String,
}

pub(in crate::config) static ZOOKEEPER: Schema = Schema {
    path: "resource.backend.zookeeper",
    title: "`zookeeper`",
    groups: &[
        EVERY,
        &[
            key("nodes", Type::Texts, Default::Described("needed, or `srv_record`"), "addresses like `127.0.0.1:2181`"),
            SRV_RECORD,
        ],
    ],
};

/// Reads the table.
pub(super) fn parse(reader: &Reader) -> Zookeeper {
    Zookeeper { nodes: nodes(reader, "zookeeper", Some("127.0.0.1:2181")), srv_record: reader.string("srv_record") }
}
