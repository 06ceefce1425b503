//! A quick client of etcd's JSON gateway: one kept connection, a request in well under a millisecond.
//! Written apart from the program's own client, so that a mistake there does not cancel itself out here.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use super::LIMIT;

pub struct Gateway {
    stream: BufReader<TcpStream>,
}

impl Gateway {
    pub fn connect(port: u16) -> Gateway {
        let stream = TcpStream::connect(("127.0.0.1", port)).expect("etcd listens");
        stream.set_read_timeout(Some(LIMIT)).expect("the limit is not zero");
        stream.set_nodelay(true).expect("a connected socket takes options");
        Gateway { stream: BufReader::new(stream) }
    }

    /// Whether etcd has a leader and takes requests.
    pub fn healthy(&mut self) -> bool {
        self.request("/v3/kv/range", &json!({"key": base64("health")})).0 == 200
    }

    pub fn put(&mut self, key: &str, value: &str) {
        self.put_bytes(key.as_bytes(), value.as_bytes());
    }

    pub fn put_bytes(&mut self, key: &[u8], value: &[u8]) {
        self.done("/v3/kv/put", &json!({"key": base64(key), "value": base64(value)}));
    }

    pub fn delete(&mut self, key: &str) {
        self.done("/v3/kv/deleterange", &json!({"key": base64(key)}));
    }

    /// Forgets the history up to the newest revision.
    pub fn compact(&mut self) {
        let answer = self.done("/v3/kv/range", &json!({"key": base64("any")}));
        let revision = answer["header"]["revision"].as_str().expect("every answer has a revision").to_owned();
        self.done("/v3/kv/compaction", &json!({"revision": revision, "physical": true}));
    }

    fn done(&mut self, path: &str, body: &Value) -> Value {
        let (status, answer) = self.request(path, body);
        assert_eq!(status, 200, "POST {path}: {answer}");
        answer
    }

    fn request(&mut self, path: &str, body: &Value) -> (u16, Value) {
        let body = body.to_string();
        let head = format!("POST {path} HTTP/1.1\r\nHost: etcd\r\nContent-Length: {}\r\n\r\n", body.len());
        self.stream.get_mut().write_all(format!("{head}{body}").as_bytes()).expect("etcd reads");
        let status = self.line().split(' ').nth(1).and_then(|code| code.parse().ok()).expect("a status line");
        let mut length = 0;
        loop {
            let line = self.line().to_ascii_lowercase();
            if line.is_empty() {
                break;
            }
            assert!(!line.starts_with("transfer-encoding"), "short answers of etcd are not chunked");
            if let Some(value) = line.strip_prefix("content-length:") {
                length = value.trim().parse().expect("a length is a number");
            }
        }
        let mut answer = vec![0; length];
        self.stream.read_exact(&mut answer).expect("etcd sends a whole answer");
        (status, serde_json::from_slice(&answer).unwrap_or(Value::Null))
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.stream.read_line(&mut line).expect("etcd answers");
        line.trim_end().to_owned()
    }
}

fn base64(bytes: impl AsRef<[u8]>) -> String {
    STANDARD.encode(bytes)
}
