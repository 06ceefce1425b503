//! A quick client of etcd's JSON gateway: one kept connection, a request in well under a millisecond. It shares no code
//! with the program's client, so that a mistake there shows here.

use std::io::{self, BufReader, Write};
use std::net::TcpStream;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use super::LIMIT;
use super::http_message::Head;

pub struct Gateway {
    stream: BufReader<TcpStream>,
    /// The header of who has logged in, with its line end.
    login: String,
}

impl Gateway {
    pub fn connect(port: u16) -> Gateway {
        Gateway::try_connect(port, LIMIT).expect("etcd listens")
    }

    /// The same for one that may be gone. Nothing it does takes longer than `limit`.
    pub fn try_connect(port: u16, limit: Duration) -> io::Result<Gateway> {
        let stream = TcpStream::connect(("127.0.0.1", port))?;
        stream.set_read_timeout(Some(limit)).expect("the limit is not zero");
        stream.set_nodelay(true).expect("a connected socket takes options");
        Ok(Gateway { stream: BufReader::new(stream), login: String::new() })
    }

    /// Whether etcd has a leader and takes requests. (It asks who wants to know only when it could answer.)
    pub fn healthy(&mut self) -> bool {
        let answer = self.request("/v3/kv/range", &json!({"key": base64("health")}));
        answer.is_ok_and(|(status, answer)| {
            // etcd 3.5 says it in `message` alone.
            status == 200 || answer["message"].as_str().is_some_and(|error| error.contains("user name is empty"))
        })
    }

    /// Makes all further requests as this user.
    pub fn log_in(&mut self, user: &str, password: &str) -> io::Result<()> {
        let answer = self.try_done("/v3/auth/authenticate", &json!({"name": user, "password": password}))?;
        self.login = format!("Authorization: {}\r\n", answer["token"].as_str().expect("a token"));
        Ok(())
    }

    /// As root.
    pub fn change_password(&mut self, user: &str, password: &str) {
        self.done("/v3/auth/user/changepw", &json!({"name": user, "password": password}));
    }

    /// Writes several keys in one transaction.
    pub fn put_all(&mut self, pairs: &[(String, String)]) -> io::Result<()> {
        let put = |(key, value): &(String, String)| json!({"requestPut": {"key": base64(key), "value": base64(value)}});
        let puts: Vec<Value> = pairs.iter().map(put).collect();
        self.try_done("/v3/kv/txn", &json!({"success": puts})).map(drop)
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
        self.try_done(path, body).unwrap_or_else(|e| panic!("{e}"))
    }

    fn try_done(&mut self, path: &str, body: &Value) -> io::Result<Value> {
        match self.request(path, body)? {
            (200, answer) => Ok(answer),
            (_, answer) => Err(io::Error::other(format!("POST {path}: {answer}"))),
        }
    }

    fn request(&mut self, path: &str, body: &Value) -> io::Result<(u16, Value)> {
        let body = body.to_string();
        let login = &self.login;
        let head = format!("POST {path} HTTP/1.1\r\nHost: etcd\r\n{login}Content-Length: {}\r\n\r\n", body.len());
        self.stream.get_mut().write_all(format!("{head}{body}").as_bytes())?;
        let head = Head::read(&mut self.stream)?;
        let (status, answer) = (head.status()?, head.body(&mut self.stream)?);
        Ok((status, serde_json::from_slice(&answer).unwrap_or(Value::Null)))
    }
}

fn base64(bytes: impl AsRef<[u8]>) -> String {
    STANDARD.encode(bytes)
}
