//! A real nats-server with its own port and data, and a small client that writes to its buckets. It can be killed,
//! stopped and started again.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use rustix::process::Signal;
use serde_json::{Value, json};

use super::server::{Server, program};
use super::{LIMIT, TempDir, free_port, wait_until};

pub struct Nats {
    program: PathBuf,
    dir: TempDir,
    port: u16,
    server: Server,
}

impl Nats {
    /// Starts an empty server; returns when it answers. `None`, with a word in the log, where there is no nats-server.
    pub fn start(test: &str) -> Option<Nats> {
        Nats::start_with(test, "")
    }

    /// The same with more lines of its configuration.
    pub fn start_with(test: &str, config: &str) -> Option<Nats> {
        let mut nats = Nats::new(test, config)?;
        nats.restart();
        Some(nats)
    }

    /// One that is not started.
    pub fn new(test: &str, config: &str) -> Option<Nats> {
        let Some(program) = program("nats-server", "pypi/bin/nats-server") else {
            // Straight to the descriptor: the test harness shows what passing tests print only on request.
            let text =
                format!("test nats::{test} ... skipped: there is no nats-server: scripts/test installs it from PyPI\n");
            let _ = std::io::stderr().write_all(text.as_bytes());
            return None;
        };
        let dir = TempDir::new();
        let server = Server::new("nats-server", &dir);
        let nats = Nats { program, dir, port: free_port(), server };
        nats.configure(config);
        Some(nats)
    }

    /// Other lines from its next start on.
    pub fn configure(&self, config: &str) {
        let store = self.dir.at("store").display().to_string();
        let text = format!(
            "host: 127.0.0.1\nport: {}\njetstream: {{ store_dir: {store:?}, sync_interval: always }}\n{config}\n",
            self.port
        );
        self.dir.write("nats.conf", text);
    }

    /// Starts it again after [`Nats::kill`], on the same port and store; returns when it answers.
    pub fn restart(&mut self) {
        self.server.start(Command::new(&self.program).arg("-c").arg(self.dir.at("nats.conf")));
        wait_until("nats-server answers", LIMIT, || {
            self.server.check();
            let Ok(stream) = TcpStream::connect(("127.0.0.1", self.port)) else { return false };
            let mut line = String::new();
            let _ = stream.set_read_timeout(Some(Duration::from_secs(1)));
            BufReader::new(stream).read_line(&mut line).is_ok() && line.starts_with("INFO ")
        });
    }

    /// Kills it as a power cut would.
    pub fn kill(&mut self) {
        self.server.kill();
    }

    /// Has it read its configuration again.
    pub fn reload(&self) {
        self.server.signal(Signal::HUP);
    }

    /// Stops it with its kernel alive: connections stay open and nothing answers.
    pub fn freeze(&self) {
        self.server.signal(Signal::STOP);
    }

    /// Lets it go on.
    pub fn thaw(&self) {
        self.server.signal(Signal::CONT);
    }

    pub fn log(&self) -> String {
        self.server.log()
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    /// What goes into `nodes`.
    pub fn url(&self) -> String {
        format!("nats://127.0.0.1:{}", self.port)
    }

    /// A client without a user.
    pub fn client(&self) -> NatsClient {
        self.client_as(json!({}))
    }

    /// A client that logs in with these fields of CONNECT.
    pub fn client_as(&self, login: Value) -> NatsClient {
        NatsClient::connect(self.port, login)
    }
}

impl Drop for Nats {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("the log of nats-server:\n{}", self.log());
        }
    }
}

/// A client that waits for each answer. Speaks no TLS.
pub struct NatsClient {
    stream: BufReader<TcpStream>,
}

impl NatsClient {
    fn connect(port: u16, login: Value) -> NatsClient {
        let stream = TcpStream::connect(("127.0.0.1", port)).expect("nats-server listens");
        stream.set_read_timeout(Some(LIMIT)).expect("a socket has a timeout");
        stream.set_nodelay(true).expect("a socket has no delay");
        let mut client = NatsClient { stream: BufReader::new(stream) };
        assert!(client.line().starts_with("INFO "));
        let mut options = json!({"verbose": false, "pedantic": false, "headers": true, "no_responders": true});
        options.as_object_mut().expect("it is one").extend(login.as_object().expect("it is one").clone());
        client.send(format!("CONNECT {options}\r\nSUB _INBOX.test 1\r\nPING\r\n").as_bytes());
        loop {
            match client.line().as_str() {
                "PONG" => return client,
                error if error.starts_with("-ERR") => panic!("{error}"),
                _ => {}
            }
        }
    }

    fn send(&mut self, bytes: &[u8]) {
        self.stream.get_mut().write_all(bytes).expect("nats-server takes it");
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.stream.read_line(&mut line).expect("nats-server answers");
        assert!(!line.is_empty(), "nats-server closed the connection");
        line.trim_end().to_owned()
    }

    /// The payload of the next message.
    fn message(&mut self) -> Vec<u8> {
        loop {
            let line = self.line();
            let words: Vec<&str> = line.split(' ').collect();
            match words[0] {
                "PING" => self.send(b"PONG\r\n"),
                "MSG" | "HMSG" => {
                    let size: usize = words[words.len() - 1].parse().expect("a size");
                    let head = if words[0] == "HMSG" { words[words.len() - 2].parse().expect("a size") } else { 0 };
                    let mut bytes = vec![0; size + 2];
                    self.stream.read_exact(&mut bytes).expect("nats-server answers");
                    bytes.truncate(size);
                    return bytes.split_off(head);
                }
                "-ERR" => panic!("{line}"),
                _ => {}
            }
        }
    }

    /// Asks JetStream for something, which has to succeed.
    pub fn ask(&mut self, subject: &str, body: &str) -> Value {
        self.send(format!("PUB {subject} _INBOX.test {}\r\n{body}\r\n", body.len()).as_bytes());
        self.acknowledged(subject)
    }

    fn acknowledged(&mut self, subject: &str) -> Value {
        let answer = self.message();
        let answer: Value = serde_json::from_slice(&answer)
            .unwrap_or_else(|e| panic!("{subject}: {e}: {}", String::from_utf8_lossy(&answer)));
        assert!(answer.get("error").is_none(), "{subject}: {answer}");
        answer
    }

    /// Makes a bucket as NATS' own clients do.
    pub fn create_bucket(&mut self, bucket: &str) {
        let config = json!({
            "name": format!("KV_{bucket}"), "subjects": [format!("$KV.{bucket}.>")], "storage": "file",
            "max_msgs_per_subject": 1, "discard": "new", "allow_rollup_hdrs": true, "deny_delete": true,
            "allow_direct": true, "num_replicas": 1,
        });
        self.ask(&format!("$JS.API.STREAM.CREATE.KV_{bucket}"), &config.to_string());
    }

    pub fn delete_bucket(&mut self, bucket: &str) {
        self.ask(&format!("$JS.API.STREAM.DELETE.KV_{bucket}"), "");
    }

    pub fn put(&mut self, bucket: &str, key: &str, value: impl AsRef<[u8]>) {
        self.put_all(bucket, [(key, value.as_ref())]);
    }

    /// Many keys, all on their way before the first answer is awaited.
    pub fn put_all<'a>(&mut self, bucket: &str, pairs: impl IntoIterator<Item = (&'a str, &'a [u8])>) {
        let (mut bytes, mut count) = (Vec::new(), 0);
        for (key, value) in pairs {
            bytes.extend(format!("PUB $KV.{bucket}.{key} _INBOX.test {}\r\n", value.len()).into_bytes());
            bytes.extend([value, b"\r\n"].concat());
            count += 1;
        }
        self.send(&bytes);
        (0..count).for_each(|_| drop(self.acknowledged(bucket)));
    }

    /// Leaves a mark that the key is gone, as NATS' own clients do.
    pub fn delete(&mut self, bucket: &str, key: &str) {
        self.remove(bucket, key, "KV-Operation: DEL\r\n");
    }

    /// The same, and all its history is gone.
    pub fn purge(&mut self, bucket: &str, key: &str) {
        self.remove(bucket, key, "KV-Operation: PURGE\r\nNats-Rollup: sub\r\n");
    }

    fn remove(&mut self, bucket: &str, key: &str, headers: &str) {
        let headers = format!("NATS/1.0\r\n{headers}\r\n");
        let line = format!("HPUB $KV.{bucket}.{key} _INBOX.test {0} {0}\r\n{headers}\r\n", headers.len());
        self.send(line.as_bytes());
        self.acknowledged(key);
    }
}
