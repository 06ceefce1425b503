//! The options of Consul: struct, rows and parser.
//! There is no client for it yet.

use super::address::{SRV_RECORD, nodes};
use super::every::EVERY;
use super::tls::{self, TLS, Tls};
use crate::config::reader::Reader;
use crate::config::schema::{Default, Schema, Type, key};

/// The options of Consul.
#[derive(Clone, Debug, PartialEq)]
pub struct Consul {
    /// Addresses; none: the environment variable `CONSUL_HTTP_ADDR`, else localhost.
    pub nodes: Vec<String>,
    /// `http`, `https` or empty.
    pub scheme: String,
    /// The DNS name whose SRV records are the nodes; empty: none.
    pub srv_record: String,
    /// The files for TLS.
    pub tls: Tls,
}

pub(in crate::config) static CONSUL: Schema = Schema {
    path: "resource.backend.consul",
    title: "`consul`",
    groups: &[
        EVERY,
        &[
            key("nodes", Type::Texts, Default::Described("`CONSUL_HTTP_ADDR`, else `localhost:8500`"), "addresses"),
            key("scheme", Type::Text, Default::Unset, "`http` or `https`"),
            SRV_RECORD,
        ],
        TLS,
    ],
};

/// Reads the table.
pub(super) fn parse(reader: &Reader) -> Consul {
    Consul {
        // Without nodes it is CONSUL_HTTP_ADDR, else localhost:8500.
        nodes: nodes(reader, "consul", None),
        scheme: reader.string("scheme"),
        srv_record: reader.string("srv_record"),
        tls: tls::tls(reader),
    }
}
