//! A quick client of etcd's version 2 API: one kept connection. It shares no code with the program's client, so that a
//! mistake there shows here.

use std::io::{BufReader, Write};
use std::net::TcpStream;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

use super::http_message::Head;
use super::{Etcd, LIMIT};

pub struct KeysV2 {
    stream: BufReader<TcpStream>,
    /// The header of who asks, with its line end.
    login: String,
}

impl KeysV2 {
    pub fn of(etcd: &Etcd) -> KeysV2 {
        let stream = TcpStream::connect(("127.0.0.1", etcd.client_port())).expect("etcd listens");
        stream.set_read_timeout(Some(LIMIT)).expect("the limit is not zero");
        stream.set_nodelay(true).expect("a connected socket takes options");
        KeysV2 { stream: BufReader::new(stream), login: String::new() }
    }

    /// Makes all further requests as this user.
    pub fn log_in(&mut self, user: &str, password: &str) {
        self.login = format!("Authorization: Basic {}\r\n", STANDARD.encode(format!("{user}:{password}")));
    }

    /// Sets a key. Neither it nor its value needs to be escaped.
    pub fn set(&mut self, key: &str, value: &str) {
        self.done("PUT", &format!("/v2/keys{key}"), &format!("value={value}"));
    }

    /// Removes a key, or a directory with all that is below it.
    pub fn delete(&mut self, key: &str) {
        self.done("DELETE", &format!("/v2/keys{key}?recursive=true"), "");
    }

    /// Any request that is to succeed. The body is a form, or JSON if it looks like that.
    pub fn done(&mut self, method: &str, path: &str, body: &str) -> Value {
        let (status, answer) = self.request(method, path, body);
        assert!((200..300).contains(&status), "{method} {path}: {status} {answer}");
        answer
    }

    /// Any request, and its status.
    pub fn request(&mut self, method: &str, path: &str, body: &str) -> (u16, Value) {
        let kind = if body.starts_with('{') { "application/json" } else { "application/x-www-form-urlencoded" };
        let (login, length) = (&self.login, body.len());
        let head = format!(
            "{method} {path} HTTP/1.1\r\nHost: etcd\r\n{login}Content-Type: {kind}\r\nContent-Length: {length}\r\n\r\n"
        );
        self.stream.get_mut().write_all(format!("{head}{body}").as_bytes()).expect("etcd reads");
        let head = Head::read(&mut self.stream).expect("etcd answers");
        let status = head.status().expect("a status line");
        let answer = head.body(&mut self.stream).expect("etcd sends a whole answer");
        (status, serde_json::from_slice(&answer).unwrap_or(Value::Null))
    }
}
