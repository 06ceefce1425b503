//! A real Consul with its own ports, unix socket and data, on 127.0.0.1. It can be killed and started again. Its tests
//! are skipped, with a reason, if scripts/fetch has not found it and no `consul` is on the PATH.

use std::fs;
use std::io;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use rustix::process::Signal;
use serde_json::{Value, json};

use super::server::{Server, ask, program, skipped};
use super::{LIMIT, Pair, TempDir, free_port, wait_until};

pub struct Consul {
    program: PathBuf,
    dir: TempDir,
    port: u16,
    tls_port: Option<u16>,
    /// Who may write where there are access control lists.
    token: Option<String>,
    server: Server,
}

/// The token of [`Consul::guarded`], which may do everything.
pub const ROOT: &str = "5e0f8a6c-3a54-4c0f-9c57-6cf4b2ab1d11";

impl Consul {
    /// Starts an empty one; returns when it answers. `None`: there is none on this machine, which was said.
    pub fn start() -> Option<Consul> {
        Consul::with(&json!({}), None, None)
    }

    /// The same with access control lists: without a token nothing may be read.
    pub fn guarded() -> Option<Consul> {
        Consul::with_acls(true)
    }

    /// The same as Consul is by default: what may not be read is left out without a word.
    pub fn hiding() -> Option<Consul> {
        Consul::with_acls(false)
    }

    fn with_acls(refuses_lists: bool) -> Option<Consul> {
        let acl = json!({"enabled": true, "default_policy": "deny", "enable_key_list_policy": refuses_lists,
            "tokens": {"master": ROOT}});
        Consul::with(&json!({"acl": acl}), Some(ROOT), None)
    }

    /// The same with https on a port of its own.
    pub fn secured(pair: &Pair) -> Option<Consul> {
        Consul::with(&json!({"cert_file": pair.cert, "key_file": pair.key}), None, Some(free_port()))
    }

    fn with(options: &Value, token: Option<&str>, tls_port: Option<u16>) -> Option<Consul> {
        let program = program("consul", "servers/bullseye/consul/usr/bin/consul");
        if program.is_none() {
            skipped("there is no consul here: run scripts/fetch bullseye consul usr/bin/consul");
        }
        let program = program?;
        let (dir, port) = (TempDir::new(), free_port());
        let socket = format!("127.0.0.1 unix://{}", dir.at("socket").display());
        let mut all = json!({
            "server": true, "bootstrap_expect": 1, "node_name": "n", "data_dir": dir.at("data"),
            "bind_addr": "127.0.0.1", "client_addr": "127.0.0.1", "addresses": {"http": socket},
            "ports": {"http": port, "https": tls_port.map_or(-1, i32::from), "dns": -1, "grpc": -1, "serf_wan": -1,
                "serf_lan": free_port(), "server": free_port()},
            "performance": {"raft_multiplier": 1}, "disable_update_check": true, "limits": {"http_max_conns_per_client": 2000},
        });
        let (all_options, more) = (all.as_object_mut().expect("it is one"), options.as_object().expect("it is one"));
        all_options.extend(more.clone());
        dir.write("consul.json", all.to_string());
        let server = Server::new("consul", &dir);
        let mut consul = Consul { program, dir, port, tls_port, token: token.map(str::to_owned), server };
        consul.restart();
        Some(consul)
    }

    /// Starts it again after [`Consul::kill`]; returns when it answers.
    pub fn restart(&mut self) {
        self.server.start(Command::new(&self.program).args(["agent", "-config-file"]).arg(self.dir.at("consul.json")));
        wait_until("consul answers", LIMIT * 2, || {
            self.server.check();
            // It has a leader that writes.
            self.try_ask("PUT", "/v1/kv/ready", "").is_ok_and(|(status, _)| status == 200)
        });
    }

    /// Kills it as a crash would: what it has acknowledged stays.
    pub fn kill(&mut self) {
        self.server.kill();
    }

    /// Throws its data away.
    pub fn wipe(&mut self) {
        assert!(!self.server.is_running(), "consul still runs");
        fs::remove_dir_all(self.dir.at("data")).expect("consul has made its data folder");
    }

    /// Stops it with its kernel alive: connections stay open and nothing answers; or lets it go on.
    pub fn signal(&self, signal: Signal) {
        self.server.signal(signal);
    }

    /// The port of its API.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// What goes into `nodes`.
    pub fn node(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// What goes into `nodes` for TLS.
    pub fn secure_node(&self) -> String {
        format!("https://127.0.0.1:{}", self.tls_port.expect("it has TLS"))
    }

    /// What goes into `nodes` for its socket.
    pub fn socket_node(&self) -> String {
        format!("unix://{}", self.dir.at("socket").display())
    }

    /// Writes a key by its path in a URL.
    #[track_caller]
    pub fn put(&self, key: &str, value: &str) {
        assert_eq!(self.ask("PUT", &format!("/v1/kv/{key}"), value), (200, "true".to_owned()));
    }

    #[track_caller]
    pub fn delete(&self, key: &str) {
        assert_eq!(self.ask("DELETE", &format!("/v1/kv/{key}"), "").0, 200);
    }

    /// Makes a token that may read keys with a prefix.
    pub fn token(&self, name: &str, prefix: &str) -> String {
        let rules = format!("key_prefix \"{prefix}\" {{ policy = \"list\" }}");
        let (status, text) = self.ask("PUT", "/v1/acl/policy", &json!({"Name": name, "Rules": rules}).to_string());
        assert_eq!(status, 200, "{text}");
        let (status, text) = self.ask("PUT", "/v1/acl/token", &json!({"Policies": [{"Name": name}]}).to_string());
        assert_eq!(status, 200, "{text}");
        let token: Value = serde_json::from_str(&text).expect("consul answers in JSON");
        token["SecretID"].as_str().expect("it has a secret").to_owned()
    }

    /// Deletes a token.
    pub fn forget_token(&self, token: &str) {
        let (status, text) = self.ask("GET", "/v1/acl/tokens", "");
        assert_eq!(status, 200, "{text}");
        let tokens: Vec<Value> = serde_json::from_str(&text).expect("consul answers in JSON");
        // A list has no secrets: each token is read.
        for id in tokens.iter().filter_map(|token| token["AccessorID"].as_str()) {
            let (_, text) = self.ask("GET", &format!("/v1/acl/token/{id}"), "");
            if text.contains(token) {
                assert_eq!(self.ask("DELETE", &format!("/v1/acl/token/{id}"), "").0, 200);
            }
        }
    }

    #[track_caller]
    pub fn ask(&self, method: &str, path: &str, body: &str) -> (u16, String) {
        self.try_ask(method, path, body).expect("consul answers")
    }

    fn try_ask(&self, method: &str, path: &str, body: &str) -> io::Result<(u16, String)> {
        let token = self.token.as_ref().map_or(String::new(), |token| format!("X-Consul-Token: {token}\r\n"));
        ask(self.port, (method, path), &token, body, Duration::from_secs(5))
    }
}
