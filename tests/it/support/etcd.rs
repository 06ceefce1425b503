//! A real etcd with its own ports and data, alone or as one of three. It can be killed, stopped and started again.

use std::fs;
use std::process::{Command, Output};
use std::time::Duration;

use rustix::process::Signal;

use super::server::Server;
use super::{Authority, Gateway, LIMIT, Pair, TempDir, free_port, wait_until};

pub struct Etcd {
    dir: TempDir,
    name: String,
    client_port: u16,
    peer_port: u16,
    /// All members with their peer addresses, as etcd takes them.
    cluster: String,
    /// The port for https, and the flags that go with it.
    secure: Option<(u16, Vec<String>)>,
    args: Vec<String>,
    server: Server,
}

/// Whether clients have to show a certificate of the authority.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Clients {
    Anyone,
    Certified,
}

impl Etcd {
    /// Starts an empty etcd; returns when it answers.
    pub fn start() -> Etcd {
        Etcd::start_with(&[])
    }

    /// The same with more arguments.
    pub fn start_with(args: &[&str]) -> Etcd {
        Etcd::start_on(free_port(), free_port(), args)
    }

    /// The same on given ports.
    pub fn start_on(client_port: u16, peer_port: u16, args: &[&str]) -> Etcd {
        let mut etcd = Etcd::new("default", client_port, peer_port);
        etcd.args.extend(args.iter().map(|arg| arg.to_string()));
        etcd.restart();
        etcd
    }

    /// The same with TLS, on a port of its own: tests write through the other one.
    pub fn secured(authority: &Authority, pair: &Pair, clients: Clients, args: &[&str]) -> Etcd {
        Etcd::secured_on(free_port(), authority, pair, clients, args)
    }

    /// The same with TLS on a given port.
    pub fn secured_on(port: u16, authority: &Authority, pair: &Pair, clients: Clients, args: &[&str]) -> Etcd {
        let mut etcd = Etcd::new("default", free_port(), free_port());
        etcd.secure(port, authority, pair, clients);
        etcd.args.extend(args.iter().map(|arg| arg.to_string()));
        etcd.restart();
        etcd
    }

    fn new(name: &str, client_port: u16, peer_port: u16) -> Etcd {
        let dir = TempDir::new();
        Etcd {
            server: Server::new("etcd", &dir),
            dir,
            name: name.to_owned(),
            client_port,
            peer_port,
            cluster: format!("{name}=http://127.0.0.1:{peer_port}"),
            secure: None,
            args: Vec::new(),
        }
    }

    fn secure(&mut self, port: u16, authority: &Authority, pair: &Pair, clients: Clients) {
        let path = |path: &std::path::Path| path.display().to_string();
        let mut flags = vec!["--cert-file".to_owned(), path(&pair.cert), "--key-file".to_owned(), path(&pair.key)];
        if clients == Clients::Certified {
            flags.extend(["--client-cert-auth".into(), "--trusted-ca-file".into(), path(&authority.cert())]);
        }
        self.secure = Some((port, flags));
    }

    /// Starts it again after [`Etcd::kill`], on the same ports and data; returns when it answers.
    pub fn restart(&mut self) {
        self.spawn();
        self.await_health();
    }

    /// Starts it and does not wait: alone it may never answer.
    pub fn spawn(&mut self) {
        let mut client = self.url();
        if let Some(secure) = self.secure.as_ref().map(|_| self.secure_url()) {
            client = format!("{client},{secure}");
        }
        let peer = format!("http://127.0.0.1:{}", self.peer_port);
        // A single member elects itself: short times only make it start sooner. Several need some on a busy machine.
        let (heartbeat, election) = if self.cluster.contains(',') { ("50", "500") } else { ("20", "200") };
        let mut command = Command::new("etcd");
        command
            .args(["--name", &self.name, "--data-dir"])
            .arg(self.dir.at("data"))
            .args(["--listen-client-urls", &client, "--advertise-client-urls", &client])
            .args(["--listen-peer-urls", &peer, "--initial-advertise-peer-urls", &peer])
            .args(["--initial-cluster", &self.cluster])
            .args(["--heartbeat-interval", heartbeat, "--election-timeout", election])
            .args(self.secure.iter().flat_map(|(_, flags)| flags))
            .args(&self.args);
        self.server.start(&mut command);
    }

    /// Returns when it answers.
    pub fn await_health(&mut self) {
        wait_until("etcd answers", LIMIT, || {
            self.server.check();
            // It may hang as long as it has no leader.
            Gateway::try_connect(self.client_port, Duration::from_secs(1)).is_ok_and(|mut gateway| gateway.healthy())
        });
    }

    /// Stops it with its kernel alive: its connections stay open and nothing answers.
    pub fn freeze(&mut self) {
        self.server.signal(Signal::STOP);
    }

    /// Lets it go on.
    pub fn thaw(&mut self) {
        self.server.signal(Signal::CONT);
    }

    /// Ends [`Etcd::kill`] or [`Etcd::freeze`]; returns when it answers.
    pub fn bring_back(&mut self) {
        match self.server.is_running() {
            true => self.thaw(),
            false => self.spawn(),
        }
        self.await_health();
    }

    /// Kills it as a power cut would. What it has acknowledged stays in its data.
    pub fn kill(&mut self) {
        self.server.kill();
    }

    /// Throws its data away, as a restored or rebuilt cluster has lost it.
    pub fn wipe(&mut self) {
        assert!(!self.server.is_running(), "etcd still runs");
        fs::remove_dir_all(self.dir.at("data")).expect("etcd has made its data folder");
    }

    pub fn client_port(&self) -> u16 {
        self.client_port
    }

    /// What goes into `nodes`.
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.client_port)
    }

    /// What goes into `nodes` for TLS.
    pub fn secure_url(&self) -> String {
        format!("https://127.0.0.1:{}", self.secure_port())
    }

    pub fn secure_port(&self) -> u16 {
        self.secure.as_ref().expect("it has TLS").0
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
        self.etcdctl_of("3", args)
    }

    /// The same for a version of the API.
    pub fn etcdctl_of(&self, version: &str, args: &[&str]) -> Output {
        let output = Command::new("etcdctl")
            .env("ETCDCTL_API", version)
            .args(["--endpoints", &self.url()])
            .args(args)
            .output()
            .unwrap_or_else(|e| panic!("failed to run etcdctl (scripts/test installs it): {e}"));
        assert!(output.status.success(), "etcdctl {args:?}: {}", String::from_utf8_lossy(&output.stderr));
        output
    }

    /// Turns authentication on. Besides `root` there is `user`, who may read what begins with `prefix`; both have the
    /// password `sesame`.
    pub fn enable_auth(&self, prefix: &str) {
        self.enable_auth_for("user", prefix);
    }

    /// The same with another name than `user`.
    pub fn enable_auth_for(&self, user: &str, prefix: &str) {
        self.etcdctl(&["user", "add", "root:sesame"]);
        self.etcdctl(&["user", "grant-role", "root", "root"]);
        self.etcdctl(&["role", "add", "reader"]);
        self.etcdctl(&["role", "grant-permission", "reader", "read", "--prefix=true", prefix]);
        self.etcdctl(&["user", "add", &format!("{user}:sesame")]);
        self.etcdctl(&["user", "grant-role", user, "reader"]);
        self.etcdctl(&["auth", "enable"]);
    }
}

/// Three members.
pub struct Cluster {
    pub members: Vec<Etcd>,
}

impl Cluster {
    /// Starts three empty members with TLS; returns when all answer.
    pub fn secured(authority: &Authority, pair: &Pair, args: &[&str]) -> Cluster {
        let mut members: Vec<Etcd> =
            (0..3).map(|number| Etcd::new(&format!("m{number}"), free_port(), free_port())).collect();
        let cluster = members.iter().map(|member| member.cluster.clone()).collect::<Vec<_>>().join(",");
        for member in &mut members {
            member.cluster.clone_from(&cluster);
            member.secure(free_port(), authority, pair, Clients::Certified);
            member.args.extend(args.iter().map(|arg| arg.to_string()));
            member.spawn();
        }
        members.iter_mut().for_each(Etcd::await_health);
        Cluster { members }
    }

    /// What goes into `nodes`.
    pub fn secure_urls(&self) -> Vec<String> {
        self.members.iter().map(Etcd::secure_url).collect()
    }

    /// Returns when all members but this one answer.
    pub fn await_others(&mut self, than: usize) {
        self.members
            .iter_mut()
            .enumerate()
            .filter(|(number, _)| *number != than)
            .for_each(|(_, member)| member.await_health());
    }
}
