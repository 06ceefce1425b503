//! A real Consul with ports, a unix socket and data of its own, on 127.0.0.1. It can be killed and started again. Tests that
//! need it are skipped, with a reason, where scripts/fetch has not found it and no `consul` is on the PATH.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

use super::{LIMIT, Pair, TempDir, free_port, wait_until};

pub struct Consul {
    program: PathBuf,
    dir: TempDir,
    port: u16,
    tls_port: Option<u16>,
    /// Who may write where there are access control lists.
    token: Option<String>,
    process: Option<Child>,
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
        let acl = json!({"enabled": true, "default_policy": "deny", "enable_key_list_policy": true,
            "tokens": {"master": ROOT}});
        Consul::with(&json!({"acl": acl}), Some(ROOT), None)
    }

    /// The same with https on a port of its own.
    pub fn secured(pair: &Pair) -> Option<Consul> {
        Consul::with(&json!({"cert_file": pair.cert, "key_file": pair.key}), None, Some(free_port()))
    }

    fn with(options: &Value, token: Option<&str>, tls_port: Option<u16>) -> Option<Consul> {
        let program = program()?;
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
        let mut consul = Consul { program, dir, port, tls_port, token: token.map(str::to_owned), process: None };
        consul.restart();
        Some(consul)
    }

    /// Starts it again after [`Consul::kill`]; returns when it answers.
    pub fn restart(&mut self) {
        assert!(self.process.is_none(), "consul runs already");
        let log = File::options().create(true).append(true).open(self.dir.at("log")).expect("a log can be opened");
        let process = Command::new(&self.program)
            .args(["agent", "-config-file"])
            .arg(self.dir.at("consul.json"))
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("a descriptor can be duplicated"))
            .stderr(log)
            .spawn()
            .unwrap_or_else(|e| panic!("failed to start consul: {e}"));
        self.process = Some(process);
        wait_until("consul answers", LIMIT * 2, || {
            if let Some(status) = self.process.as_mut().expect("it runs").try_wait().expect("consul is our child") {
                panic!("consul ended with {status}:\n{}", self.dir.read("log").unwrap_or_default());
            }
            // It has a leader that writes.
            self.try_ask("PUT", "/v1/kv/ready", "").is_ok_and(|(status, _)| status == 200)
        });
    }

    /// Kills it as a crash would: what it has acknowledged stays.
    pub fn kill(&mut self) {
        let mut process = self.process.take().expect("consul runs");
        process.kill().expect("consul is our child");
        process.wait().expect("consul is our child");
    }

    /// Throws its data away.
    pub fn wipe(&mut self) {
        assert!(self.process.is_none(), "consul still runs");
        fs::remove_dir_all(self.dir.at("data")).expect("consul has made its data folder");
    }

    /// Stops it with its kernel alive: connections stay open and nothing answers; or lets it go on.
    pub fn signal(&self, signal: Signal) {
        let id = self.process.as_ref().and_then(|process| i32::try_from(process.id()).ok()).and_then(Pid::from_raw);
        kill_process(id.expect("consul runs"), signal).expect("consul is our child");
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

    #[track_caller]
    pub fn ask(&self, method: &str, path: &str, body: &str) -> (u16, String) {
        self.try_ask(method, path, body).expect("consul answers")
    }

    fn try_ask(&self, method: &str, path: &str, body: &str) -> io::Result<(u16, String)> {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port))?;
        stream.set_read_timeout(Some(Duration::from_secs(5)))?;
        let token = self.token.as_ref().map_or(String::new(), |token| format!("X-Consul-Token: {token}\r\n"));
        let length = body.len();
        let head = format!("{method} {path} HTTP/1.0\r\nHost: consul\r\n{token}Content-Length: {length}\r\n\r\n");
        stream.write_all(head.as_bytes())?;
        stream.write_all(body.as_bytes())?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        let (head, body) = answer.split_once("\r\n\r\n").ok_or(io::ErrorKind::UnexpectedEof)?;
        let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).ok_or(io::ErrorKind::InvalidData)?;
        Ok((status, body.to_owned()))
    }
}

impl Drop for Consul {
    fn drop(&mut self) {
        if self.process.is_some() {
            self.kill();
        }
    }
}

/// Where scripts/fetch puts it, or anywhere on the PATH.
fn program() -> Option<PathBuf> {
    let fetched = Path::new(env!("CARGO_TARGET_TMPDIR")).with_file_name("servers/bullseye/consul/usr/bin/consul");
    let on_path = || {
        let path = std::env::var_os("PATH")?;
        std::env::split_paths(&path).map(|dir| dir.join("consul")).find(|file| file.exists())
    };
    let found = if fetched.exists() { Some(fetched) } else { on_path() };
    if found.is_none() {
        println!("skipped: there is no consul here: run scripts/fetch bullseye consul usr/bin/consul");
    }
    found
}
