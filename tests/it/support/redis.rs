//! A real Redis with its own port, unix socket and data, and a client for the tests' writes. It can be killed, stopped
//! and started again. It listens on 127.0.0.1 only.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use rustix::process::Signal;

use super::server::Server;
use super::{Authority, LIMIT, Pair, TempDir, free_port, wait_until};

/// What tells of all changes.
pub const TELLING: &str = "notify-keyspace-events KA";

pub struct Redis {
    dir: TempDir,
    port: u16,
    tls_port: Option<u16>,
    server: Server,
}

/// What a command came to: the text of a status, an error or a value, of all items of a list one behind the other.
#[derive(Debug, PartialEq, Eq)]
pub enum Answer {
    Text(String),
    Error(String),
    Nothing,
}

/// A connection of a test's own.
pub struct RedisClient {
    stream: BufReader<TcpStream>,
}

impl Redis {
    /// Starts an empty one with these lines in its configuration; returns when it answers. What was written stays when it is
    /// killed.
    pub fn start(lines: &[&str]) -> Redis {
        let mut redis = Redis::new(None);
        redis.configure(lines);
        redis.restart();
        redis
    }

    /// The same with TLS on a port of its own, for clients with a certificate of the authority.
    pub fn secured(authority: &Authority, pair: &Pair, lines: &[&str]) -> Redis {
        let mut redis = Redis::new(Some(free_port()));
        let tls = format!(
            "tls-port {}\ntls-cert-file {}\ntls-key-file {}\ntls-ca-cert-file {}",
            redis.tls_port.unwrap_or_default(),
            pair.cert.display(),
            pair.key.display(),
            authority.cert().display()
        );
        redis.configure(&[&[&*tls], lines].concat());
        redis.restart();
        redis
    }

    fn new(tls_port: Option<u16>) -> Redis {
        let dir = TempDir::new();
        let server = Server::new("redis-server", &dir);
        Redis { dir, port: free_port(), tls_port, server }
    }

    /// Writes its configuration, for the next start.
    pub fn configure(&mut self, lines: &[&str]) {
        let (port, dir) = (self.port, self.dir.path().display());
        let own = format!(
            "bind 127.0.0.1\nport {port}\nunixsocket {dir}/socket\ndir {dir}\nlogfile {dir}/log\nsave \"\"\n\
             appendonly yes\nappendfsync no\nauto-aof-rewrite-percentage 0\n"
        );
        self.dir.write("redis.conf", own + &lines.join("\n") + "\n");
    }

    /// Starts it again after [`Redis::kill`]; returns when it answers.
    pub fn restart(&mut self) {
        self.server.start(Command::new("redis-server").arg(self.dir.at("redis.conf")));
        self.await_answer();
    }

    fn await_answer(&mut self) {
        wait_until("redis answers", LIMIT, || {
            self.server.check();
            let client = RedisClient::try_connect(self.port);
            let answer = client.and_then(|mut client| client.try_run(&["PING"]));
            answer.is_ok_and(|answer| !matches!(answer, Answer::Error(text) if text.starts_with("LOADING")))
        });
    }

    /// Kills it as a crash would: what it has acknowledged stays.
    pub fn kill(&mut self) {
        self.server.kill();
    }

    /// Throws its data away.
    pub fn wipe(&mut self) {
        assert!(!self.server.is_running(), "redis still runs");
        fs::remove_dir_all(self.dir.at("appendonlydir")).expect("redis has made its data folder");
    }

    /// Stops it with its kernel alive: its connections stay open and nothing answers.
    pub fn freeze(&mut self) {
        self.server.signal(Signal::STOP);
    }

    /// Lets it go on.
    pub fn thaw(&mut self) {
        self.server.signal(Signal::CONT);
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    /// What goes into `nodes`.
    pub fn node(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// What goes into `nodes` for TLS.
    pub fn secure_node(&self) -> String {
        format!("rediss://127.0.0.1:{}", self.tls_port.expect("it has TLS"))
    }

    /// Its unix socket.
    pub fn socket(&self) -> PathBuf {
        self.dir.at("socket")
    }

    /// A connection for many quick commands.
    pub fn client(&self) -> RedisClient {
        RedisClient::try_connect(self.port).expect("redis answers")
    }

    pub fn set(&self, key: &str, value: &str) {
        self.client().set(key, value);
    }
}

impl RedisClient {
    pub fn try_connect(port: u16) -> std::io::Result<RedisClient> {
        let stream = TcpStream::connect(("127.0.0.1", port))?;
        stream.set_read_timeout(Some(Duration::from_secs(20)))?;
        stream.set_nodelay(true)?;
        Ok(RedisClient { stream: BufReader::new(stream) })
    }

    pub fn set(&mut self, key: &str, value: &str) {
        assert_eq!(self.run(&["SET", key, value]), Answer::Text("OK".into()));
    }

    /// A command and its answer, which is no error.
    #[track_caller]
    pub fn run(&mut self, words: &[&str]) -> Answer {
        let answer = self.try_run(words).expect("redis answers");
        assert!(!matches!(answer, Answer::Error(_)), "{words:?}: {answer:?}");
        answer
    }

    pub fn try_run(&mut self, words: &[&str]) -> std::io::Result<Answer> {
        self.send(words)?;
        self.receive()
    }

    pub fn send(&mut self, words: &[&str]) -> std::io::Result<()> {
        let mut bytes = format!("*{}\r\n", words.len());
        words.iter().for_each(|word| bytes += &format!("${}\r\n{word}\r\n", word.len()));
        self.stream.get_mut().write_all(bytes.as_bytes())
    }

    pub fn receive(&mut self) -> std::io::Result<Answer> {
        let mut line = String::new();
        self.stream.read_line(&mut line)?;
        let nonsense = || std::io::Error::other("not a reply");
        let (kind, rest) = line.trim_end().split_at_checked(1).ok_or_else(nonsense)?;
        let count = || rest.parse::<i64>().map_err(std::io::Error::other);
        Ok(match kind {
            "+" | ":" => Answer::Text(rest.to_owned()),
            "-" => Answer::Error(rest.to_owned()),
            "$" => match usize::try_from(count()?) {
                Err(_) => Answer::Nothing,
                Ok(length) => {
                    let mut bytes = vec![0; length + 2];
                    self.stream.read_exact(&mut bytes)?;
                    Answer::Text(String::from_utf8_lossy(&bytes[..length]).into_owned())
                }
            },
            "*" => {
                let mut all = String::new();
                for _ in 0..count()?.max(0) {
                    if let Answer::Text(text) = self.receive()? {
                        all += &text;
                    }
                }
                Answer::Text(all)
            }
            _ => return Err(nonsense()),
        })
    }
}
