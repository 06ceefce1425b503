//! The options of a Consul backend as its protocol uses them: the source of the token, the user, the time limits.
//! Reads no file: the token itself comes with each request.

use std::time::Duration;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;

use crate::config::{self, ReadLimits, Secret};

/// The options, and the time limits of requests.
pub struct Options {
    /// For the log.
    pub nodes: String,
    /// The source of the token, for messages; without its text.
    pub token_source: String,
    /// The value of the header `Authorization`.
    pub authorization: Option<Secret>,
    /// Empty: that of the node.
    pub datacenter: String,
    /// Empty: that of the token.
    pub namespace: String,
    /// How long a request may wait for a change.
    pub wait: Duration,
    /// How long all waits may be silent.
    pub watch_deadline: Duration,
    /// How long a head may take besides.
    pub request_timeout: Duration,
    /// The limits of one read of one key.
    pub limits: ReadLimits,
}

impl Options {
    /// The nodes of the configuration. `nodes` has their texts in messages.
    pub fn of(consul: &config::Consul, nodes: String) -> Options {
        let token_source = match &consul.token {
            Some(token) => format!("the token is that of `{}`", token.source),
            None => "there is no token: set `token`, `token_file` or CONSUL_HTTP_TOKEN".to_owned(),
        };
        // A user in an address is nearer.
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
