//! The options of a Consul backend for its protocol: the source of the token, the user, the time limits. Reads no file:
//! the driver reads the token for each request.

use std::time::Duration;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;

use crate::config::{self, ReadLimits, Secret};

/// The options of a Consul backend.
pub struct Options {
    /// The nodes, for the log.
    pub nodes: String,
    /// The source of the token, for messages. Does not contain the token.
    pub token_source: String,
    /// The value of the header `Authorization`.
    pub authorization: Option<Secret>,
    /// The datacenter. Empty: the default of the node.
    pub datacenter: String,
    /// The namespace. Empty: the default of the token.
    pub namespace: String,
    /// The longest wait of a blocking query for a change.
    pub wait: Duration,
    /// The node is probed after this time without any bytes.
    pub watch_deadline: Duration,
    /// The time limit for the head of an answer, besides the wait.
    pub request_timeout: Duration,
    /// The limits of a read of one key.
    pub limits: ReadLimits,
}

impl Options {
    /// Reads the options of the configuration. `nodes` has the nodes as texts for messages.
    pub fn of(consul: &config::Consul, nodes: String) -> Options {
        let token_source = match &consul.token {
            Some(token) => format!("the token is that of `{}`", token.source),
            None => "there is no token: set `token`, `token_file` or CONSUL_HTTP_TOKEN".to_owned(),
        };
        // A user in a URL has priority.
        let has_user = consul.nodes.iter().any(|node| node.contains('@') && !node.starts_with("unix:"));
        let auth = Some(consul.auth.reveal()).filter(|auth| !auth.is_empty() && !has_user);
        let authorization = auth.map(|pair| {
            // As in Consul's own client, a text without a colon is a user without a password.
            let pair = if pair.contains(':') { pair.to_owned() } else { format!("{pair}:") };
            Secret::new(format!("Basic {}", BASE64_STANDARD.encode(pair)))
        });
        Options {
            nodes,
            token_source,
            authorization,
            datacenter: consul.datacenter.clone(),
            namespace: consul.namespace.clone(),
            wait: consul.wait,
            watch_deadline: consul.watch_deadline,
            request_timeout: consul.network.request_timeout,
            limits: consul.network.read,
        }
    }
}
