//! A real etcd with ports and data of its own. It can be killed and started again on both.

use std::fs::{self, File};
use std::net::TcpStream;
use std::process::{Child, Command, Output, Stdio};

use super::{Gateway, LIMIT, TempDir, free_port, wait_until};

pub struct Etcd {
    dir: TempDir,
    client_port: u16,
    peer_port: u16,
    process: Option<Child>,
}

impl Etcd {
    /// Starts an empty etcd; returns when it answers.
    pub fn start() -> Etcd {
        Etcd::start_on(free_port(), free_port())
    }

    /// The same on given ports.
    pub fn start_on(client_port: u16, peer_port: u16) -> Etcd {
        let mut etcd = Etcd { dir: TempDir::new(), client_port, peer_port, process: None };
        etcd.restart();
        etcd
    }

    /// Starts it again after [`Etcd::kill`], on the same ports and data; returns when it answers.
    pub fn restart(&mut self) {
        assert!(self.process.is_none(), "etcd runs already");
        let client = self.url();
        let peer = format!("http://127.0.0.1:{}", self.peer_port);
        let log = File::options().create(true).append(true).open(self.dir.at("log")).expect("a log can be opened");
        let process = Command::new("etcd")
            .arg("--data-dir")
            .arg(self.dir.at("data"))
            .args(["--listen-client-urls", &client, "--advertise-client-urls", &client])
            .args(["--listen-peer-urls", &peer, "--initial-advertise-peer-urls", &peer])
            .args(["--initial-cluster", &format!("default={peer}")])
            // A single member elects itself: short times only make it start sooner.
            .args(["--heartbeat-interval", "20", "--election-timeout", "200"])
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("a descriptor can be duplicated"))
            .stderr(log)
            .spawn()
            .unwrap_or_else(|e| panic!("failed to start etcd (scripts/test installs it): {e}"));
        self.process = Some(process);
        wait_until("etcd answers", LIMIT, || {
            if let Some(status) = self.running().try_wait().expect("etcd is our child") {
                panic!("etcd ended with {status}:\n{}", self.dir.read("log").unwrap_or_default());
            }
            TcpStream::connect(("127.0.0.1", self.client_port)).is_ok() && self.gateway().healthy()
        });
    }

    /// Kills it as a power cut would. What it has acknowledged stays in its data.
    pub fn kill(&mut self) {
        let mut process = self.process.take().expect("etcd runs");
        process.kill().expect("etcd is our child");
        process.wait().expect("etcd is our child");
    }

    /// Throws its data away, as a restored or rebuilt cluster has lost it.
    pub fn wipe(&mut self) {
        assert!(self.process.is_none(), "etcd still runs");
        fs::remove_dir_all(self.dir.at("data")).expect("etcd has made its data folder");
    }

    pub fn client_port(&self) -> u16 {
        self.client_port
    }

    /// What goes into `nodes`.
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.client_port)
    }

    /// A connection for many quick requests.
    pub fn gateway(&self) -> Gateway {
        Gateway::connect(self.client_port)
    }

    pub fn put(&self, key: &str, value: &str) {
        self.gateway().put(key, value);
    }

    pub fn delete(&self, key: &str) {
        self.gateway().delete(key);
    }

    /// Runs etcd's own client as a user would.
    pub fn etcdctl(&self, args: &[&str]) -> Output {
        let output = Command::new("etcdctl")
            .env("ETCDCTL_API", "3")
            .args(["--endpoints", &self.url()])
            .args(args)
            .output()
            .unwrap_or_else(|e| panic!("failed to run etcdctl (scripts/test installs it): {e}"));
        assert!(output.status.success(), "etcdctl {args:?}: {}", String::from_utf8_lossy(&output.stderr));
        output
    }

    fn running(&mut self) -> &mut Child {
        self.process.as_mut().expect("etcd runs")
    }
}

impl Drop for Etcd {
    fn drop(&mut self) {
        if self.process.is_some() {
            self.kill();
        }
    }
}
