//! The request for a consumer of a JetStream bucket, and its answer: the number of messages, or why the consumer cannot
//! be created. Knows neither connections nor time.

use std::time::Duration;

use serde::Deserialize;
use serde_json::json;

use super::wire::Headers;

/// A consumer without a listener is removed by the server after this.
const INACTIVE: Duration = Duration::from_secs(5);

/// The server refuses shorter heartbeats.
const SHORTEST_HEARTBEAT: Duration = Duration::from_millis(100);

/// The first server version with consumers that are named by the client.
const NAMED_CONSUMERS: (u64, u64) = (2, 9);

/// The options of a consumer.
pub struct Wanted<'a> {
    /// The bucket.
    pub bucket: &'a str,
    /// The name of the new consumer.
    pub name: &'a str,
    /// Where the consumer delivers.
    pub deliver: &'a str,
    /// The longest silence of the consumer.
    pub heartbeat: Duration,
    /// The server's version.
    pub version: &'a str,
}

/// The subject and the content of a request for a consumer: it delivers the last message of each key, then what is new.
pub fn create(wanted: &Wanted<'_>) -> (String, String) {
    let Wanted { bucket, name, deliver, heartbeat, version } = wanted;
    let (stream, filter) = (format!("KV_{bucket}"), format!("$KV.{bucket}.>"));
    let nanos = |time: Duration| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX >> 1);
    let mut config = json!({
        "deliver_subject": deliver,
        "deliver_policy": "last_per_subject",
        "ack_policy": "none",
        "max_deliver": 1,
        "replay_policy": "instant",
        "filter_subject": filter,
        "flow_control": true,
        "idle_heartbeat": nanos((*heartbeat).max(SHORTEST_HEARTBEAT)),
        "inactive_threshold": nanos(INACTIVE),
        "mem_storage": true,
        "num_replicas": 1,
    });
    let subject = if is_at_least(version, NAMED_CONSUMERS) {
        config["name"] = json!(name);
        format!("$JS.API.CONSUMER.CREATE.{stream}.{name}.{filter}")
    } else {
        format!("$JS.API.CONSUMER.CREATE.{stream}")
    };
    (subject, json!({ "stream_name": stream, "config": config }).to_string())
}

/// Whether a version such as `2.10.4` is at least another one. Any other text counts as new.
fn is_at_least(version: &str, least: (u64, u64)) -> bool {
    let mut numbers = version.split(['.', '-']).map(str::parse::<u64>);
    match (numbers.next(), numbers.next()) {
        (Some(Ok(major)), Some(Ok(minor))) => (major, minor) >= least,
        _ => true,
    }
}

/// Why the consumer was not created.
#[derive(Debug, PartialEq, Eq)]
pub enum Refusal {
    /// The bucket does not exist.
    NoBucket,
    /// An operator has to correct the cause.
    Denied(String),
    /// The cause may pass by itself.
    Unavailable(String),
}

/// The used fields of an answer.
#[derive(Deserialize)]
struct Answer {
    #[serde(default)]
    error: Option<Error>,
    #[serde(default)]
    num_pending: Option<u64>,
}

#[derive(Deserialize)]
struct Error {
    #[serde(default)]
    code: u64,
    #[serde(default)]
    err_code: u64,
    #[serde(default)]
    description: String,
}

/// The server's code for a missing stream.
const NO_STREAM: u64 = 10059;

/// The server's codes for disabled JetStream: for an account, and for the whole server.
const NO_JETSTREAM: [u64; 2] = [10039, 10076];

/// Reads the answer to [`create`]. Returns the number of messages to deliver.
///
/// # Errors
/// The consumer was not created.
pub fn created(headers: Headers<'_>, payload: &[u8]) -> Result<u64, Refusal> {
    if headers.status() == Some(503) {
        return Err(Refusal::Unavailable("no server with JetStream answers".to_owned()));
    }
    let unreadable = || Refusal::Unavailable("answer that is not one of JetStream".to_owned());
    let answer: Answer = serde_json::from_slice(payload).map_err(|_| unreadable())?;
    let Some(error) = answer.error else { return answer.num_pending.ok_or_else(unreadable) };
    let Error { code, err_code, description } = error;
    Err(match code {
        _ if err_code == NO_STREAM => Refusal::NoBucket,
        _ if NO_JETSTREAM.contains(&err_code) => Refusal::Denied(description),
        400..500 => Refusal::Denied(description),
        _ => Refusal::Unavailable(description),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wanted(version: &str) -> (String, String) {
        let heartbeat = Duration::from_secs(10);
        create(&Wanted { bucket: "b", name: "n", deliver: "_INBOX.x.1.d", heartbeat, version })
    }

    #[test]
    fn a_consumer_has_a_name_where_the_server_knows_such() {
        let (subject, body) = wanted("2.10.4");
        assert_eq!(subject, "$JS.API.CONSUMER.CREATE.KV_b.n.$KV.b.>");
        let body: serde_json::Value = serde_json::from_str(&body).unwrap();
        assert_eq!((&body["stream_name"], &body["config"]["name"]), (&json!("KV_b"), &json!("n")));
        assert_eq!(body["config"]["idle_heartbeat"], json!(10_000_000_000u64));
        assert_eq!(body["config"]["deliver_policy"], json!("last_per_subject"));
        let (subject, body) = wanted("2.8.4");
        assert_eq!(subject, "$JS.API.CONSUMER.CREATE.KV_b");
        assert!(!body.contains("\"name\""));
        for (version, want) in [("2.9.0-beta", true), ("2.8", false), ("1.4.1", false), ("3.0", true), ("", true)] {
            assert_eq!(is_at_least(version, NAMED_CONSUMERS), want, "{version}");
        }
    }

    #[test]
    fn an_answer_has_the_count_or_the_reason_of_the_refusal() {
        let check = |payload: &str, want: Result<u64, Refusal>| {
            assert_eq!(created(Headers(b""), payload.as_bytes()), want, "{payload}");
        };
        check("{\"num_pending\":7,\"name\":\"n\"}", Ok(7));
        let error = |code, err_code| {
            format!("{{\"error\":{{\"code\":{code},\"err_code\":{err_code},\"description\":\"why\"}}}}")
        };
        check(&error(404, 10059), Err(Refusal::NoBucket));
        check(&error(503, 10039), Err(Refusal::Denied("why".into())));
        check(&error(400, 10003), Err(Refusal::Denied("why".into())));
        check(&error(503, 10008), Err(Refusal::Unavailable("why".into())));
        for none in ["", "7", "{}", "{\"num_pending\":-1}", "{\"num_pending\":\"7\"}", "[]"] {
            check(none, Err(Refusal::Unavailable("answer that is not one of JetStream".into())));
        }
        let nobody = created(Headers(b"NATS/1.0 503\r\n\r\n"), b"");
        assert_eq!(nobody, Err(Refusal::Unavailable("no server with JetStream answers".into())));
    }
}
