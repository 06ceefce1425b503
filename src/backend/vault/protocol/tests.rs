//! Vault from answers to requests, one line each: logins, renewals, refusals, leases and lists. The configuration has
//! its own tests.

use super::*;
use crate::backend::protocol::Credentials;
use crate::config::{Backend, Kind, Login, Network, Tls};

const SECOND: Duration = Duration::from_secs(1);

/// The answer of the server for a missing path.
const NOTHING: &str = r#"{"errors":[]}"#;

struct Bench {
    vault: Vault,
    now: Instant,
}

fn options(keys: &[&str], interval: Option<u64>) -> Backend {
    let empty = || config::Credential::Inline(Secret::default());
    let kind = Kind::Vault(config::Vault {
        node: "http://v".into(),
        auth_type: AuthType::UserPass,
        login: Login { username: empty(), password: empty() },
        auth_mount: "userpass".into(),
        namespace: String::new(),
        tls: Tls::default(),
        network: Network::default(),
    });
    let keys: Vec<String> = keys.iter().map(|key| key.to_string()).collect();
    let interval = interval.map(Duration::from_secs);
    Backend {
        watch_keys: keys.clone(),
        keys,
        prefix: String::new(),
        watch: false,
        onetime: false,
        interval,
        secret: false,
        kind,
    }
}

impl Bench {
    fn new(auth_type: AuthType, mode: Mode) -> Bench {
        let options = Options {
            auth_type,
            auth_mount: "m".into(),
            namespace: "n".into(),
            limits: ReadLimits { max_keys: 3, max_decoded: 4000 },
        };
        let mut vault = Vault::new(options, &["http://v".to_owned()], "http://v".into(), mode, 1);
        vault.use_node("http://v");
        Bench { vault, now: Instant::now() }
    }

    /// A bench that has read `/kv/a` with a token of 30 seconds.
    fn reading(interval: Option<u64>) -> Bench {
        let mut bench = Bench::new(AuthType::UserPass, Mode::Watch);
        bench.vault.add(Id(1), &options(&["/kv/a"], interval), &mut Vec::new());
        bench.check(Input::Turn, &["credentials"]);
        bench.log_in();
        bench.round(&["1 snapshot /kv/a=x", "worked", "reset"]);
        bench
    }

    #[track_caller]
    fn log_in(&mut self) {
        self.credentials(&["begin 0 POST /v1/auth/m/login/bob"]);
        let auth = r#"{"auth":{"client_token":"t0ken","lease_duration":30,"renewable":true}}"#;
        self.answer(0, 200, auth, &["begin 1 GET /v1/sys/internal/ui/mounts/kv/a token"]);
    }

    #[track_caller]
    fn round(&mut self, want: &[&str]) {
        self.answer(1, 404, NOTHING, &["begin 1 GET /v1/kv/a/?list=true token", "begin 2 GET /v1/kv/a token"]);
        self.answer(1, 404, NOTHING, &[]);
        self.answer(2, 200, r#"{"lease_id":"","data":{"value":"x"}}"#, want);
    }

    #[track_caller]
    fn credentials(&mut self, want: &[&str]) {
        let credentials = Credentials { user: Secret::new("bob".into()), password: Secret::new("s3cret".into()) };
        self.check(Input::Credentials(Ok(Some(credentials))), want);
    }

    #[track_caller]
    fn check(&mut self, input: Input<'_>, want: &[&str]) {
        let mut out = Vec::new();
        self.vault.on(input, self.now, &mut out);
        let out: Vec<String> = out.iter().filter_map(text).collect();
        assert_eq!(out, want);
        assert!(!out.iter().any(|line| line.contains("s3cret") || line.contains("t0ken")), "{out:?}");
        if out.iter().any(|line| line.starts_with("node failed")) {
            self.vault.use_node("http://v");
        }
    }

    #[track_caller]
    fn answer(&mut self, call: usize, status: u16, body: &str, want: &[&str]) {
        self.check(Input::Head(CallId(call), Head { status, headers: &[] }), &[]);
        body.as_bytes().chunks(3).for_each(|piece| self.check(Input::Body(CallId(call), piece), &[]));
        self.check(Input::End(CallId(call)), want);
    }
}

fn text(output: &Output) -> Option<String> {
    let shown = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    Some(match output {
        Output::Begin(call, request) => {
            let has = |name, value| request.headers.iter().any(|(is, of)| is == name && of.reveal() == value);
            assert!(has(wire::NAMESPACE, "n") && has(wire::REQUEST, "true"));
            let token = if has(wire::TOKEN, "t0ken") { " token" } else { "" };
            format!("begin {} {} {}{token}", call.0, request.method, request.target)
        }
        Output::Cancel(call) => format!("cancel {}", call.0),
        Output::ReadCredentials => "credentials".into(),
        Output::Report(Id(id), Report::Snapshot(layer)) => {
            let keys = layer.iter().map(|(key, value)| format!(" {}={}", shown(key), shown(value)));
            format!("{id} snapshot{}", keys.collect::<String>())
        }
        Output::Report(Id(id), Report::Failed(words)) => format!("{id} failed: {words}"),
        Output::NodeFailed { words, not_before } => {
            format!("node failed: {words}{}", if not_before.is_some() { " (rests)" } else { "" })
        }
        Output::FailFast => "fail fast".into(),
        Output::Worked => "worked".into(),
        Output::ResetBackoff => "reset".into(),
        Output::Healthy(_) | Output::Report(..) => return None,
        other => format!("{other:?}"),
    })
}

#[test]
fn a_token_is_renewed_at_two_thirds_of_its_life_while_it_is_needed() {
    let mut bench = Bench::reading(Some(3600));
    assert_eq!(bench.vault.due(), Some(bench.now + 20 * SECOND));
    bench.now += 20 * SECOND;
    bench.check(Input::Turn, &["begin 0 POST /v1/auth/token/renew-self token"]);
    bench.answer(0, 200, r#"{"auth":{"client_token":"t0ken","lease_duration":30,"renewable":true}}"#, &[]);
    assert_eq!(bench.vault.due(), Some(bench.now + 20 * SECOND));
    // The token reaches its maximum lifetime.
    bench.now += 20 * SECOND;
    bench.check(Input::Turn, &["begin 0 POST /v1/auth/token/renew-self token"]);
    bench.answer(0, 200, r#"{"auth":{"client_token":"t0ken","lease_duration":9,"renewable":true}}"#, &[]);
    bench.now += 6 * SECOND;
    bench.check(Input::Turn, &["credentials"]);
    bench.credentials(&["begin 0 POST /v1/auth/m/login/bob"]);
    assert_eq!(Bench::reading(None).vault.due(), None, "nothing is read any more");
}

/// A server must not be able to cause requests without a pause.
#[test]
fn a_short_life_is_renewed_once_a_second_and_a_long_one_never() {
    let due = |auth: &str| {
        let mut bench = Bench::new(AuthType::UserPass, Mode::Watch);
        bench.vault.add(Id(1), &options(&["/kv/a"], Some(3600)), &mut Vec::new());
        bench.check(Input::Turn, &["credentials"]);
        bench.credentials(&["begin 0 POST /v1/auth/m/login/bob"]);
        let auth = format!(r#"{{"auth":{{"client_token":"t0ken",{auth}}}}}"#);
        bench.answer(0, 200, &auth, &["begin 1 GET /v1/sys/internal/ui/mounts/kv/a token"]);
        bench.vault.renewal.map(|(at, _)| at - bench.now)
    };
    assert_eq!(due(r#""lease_duration":1,"renewable":true"#), Some(SECOND));
    assert_eq!(due(r#""lease_duration":1,"renewable":false"#), Some(SECOND));
    assert_eq!(due(r#""lease_duration":0,"renewable":true"#), None);
    assert_eq!(due(r#""lease_duration":18446744073709551615,"renewable":true"#), None);
    let mut bench = Bench::reading(Some(3600));
    bench.vault.readings.again(Id(1));
    bench.check(Input::Turn, &["begin 1 GET /v1/sys/internal/ui/mounts/kv/a token"]);
    bench.answer(1, 404, NOTHING, &["begin 1 GET /v1/kv/a/?list=true token", "begin 2 GET /v1/kv/a token"]);
    bench.answer(1, 404, NOTHING, &[]);
    let lease = r#"{"lease_id":"l","lease_duration":1,"renewable":true,"data":{"value":"x"}}"#;
    bench.answer(2, 200, lease, &["1 snapshot /kv/a=x", "worked", "reset"]);
    assert_eq!(bench.vault.due(), Some(bench.now + SECOND));
}

#[test]
fn a_token_that_cannot_be_renewed_is_replaced() {
    let mut bench = Bench::reading(Some(3600));
    bench.now += 20 * SECOND;
    bench.check(Input::Turn, &["begin 0 POST /v1/auth/token/renew-self token"]);
    bench.answer(0, 400, r#"{"errors":["lease is not renewable"]}"#, &["credentials"]);
}

#[test]
fn a_refusal_is_of_the_token_if_it_cannot_look_at_itself() {
    let mut bench = Bench::reading(Some(1));
    bench.now += 2 * SECOND;
    bench.check(Input::Turn, &["begin 1 GET /v1/sys/internal/ui/mounts/kv/a token"]);
    bench.answer(1, 403, "", &["begin 1 GET /v1/kv/a/?list=true token", "begin 2 GET /v1/kv/a token"]);
    bench.answer(1, 403, "", &["cancel 2", "begin 0 GET /v1/auth/token/lookup-self token"]);
    bench.answer(0, 403, "", &["credentials"]);
    bench.log_in();
    bench.answer(1, 404, NOTHING, &["begin 1 GET /v1/kv/a/?list=true token", "begin 2 GET /v1/kv/a token"]);
    bench.answer(1, 404, NOTHING, &[]);
    bench.answer(2, 403, r#"{"errors":["no s3cret"]}"#, &["begin 0 GET /v1/auth/token/lookup-self token"]);
    let words = "1 failed: failed to read `/kv/a` from http://v: status 403: no <credential>: the policies of the token \
                 need `read` on `kv/a`";
    bench.answer(0, 200, "{}", &[words]);
}

#[test]
fn a_refused_login_pauses_and_an_unreachable_server_does_not() {
    let mut bench = Bench::new(AuthType::UserPass, Mode::OneShot);
    bench.vault.add(Id(1), &options(&["/kv/a"], None), &mut Vec::new());
    bench.check(Input::Turn, &["credentials"]);
    bench.credentials(&["begin 0 POST /v1/auth/m/login/bob"]);
    let words = "node failed: failed to log in to http://v by `userpass`: status 503 (is it sealed?)";
    bench.answer(0, 503, "", &[words]);
    bench.check(Input::Turn, &["credentials"]);
    bench.credentials(&["begin 0 POST /v1/auth/m/login/bob"]);
    let words = "node failed: failed to log in to http://v by `userpass`: status 400: no (rests)";
    bench.answer(0, 400, r#"{"errors":["no"]}"#, &["fail fast", words]);
    // Another kind of server: the right one may be back soon.
    bench.check(Input::Turn, &["credentials"]);
    bench.credentials(&["begin 0 POST /v1/auth/m/login/bob"]);
    let words =
        "node failed: failed to log in to http://v by `userpass`: not an answer of vault: status 404: no such page";
    bench.answer(0, 404, "no such page", &[words]);
    bench.check(Input::Turn, &["credentials"]);
    bench.credentials(&["begin 0 POST /v1/auth/m/login/bob"]);
    let words = "node failed: failed to log in to http://v by `userpass`: not an answer of vault";
    bench.check(Input::Head(CallId(0), Head { status: 200, headers: &[] }), &[]);
    bench.check(Input::Body(CallId(0), b"<html>"), &["cancel 0", words]);
}

#[test]
fn a_secret_with_a_lease_is_kept_and_renewed() {
    let mut bench = Bench::reading(Some(1));
    bench.now += 2 * SECOND;
    bench.check(Input::Turn, &["begin 1 GET /v1/sys/internal/ui/mounts/kv/a token"]);
    bench.answer(1, 404, NOTHING, &["begin 1 GET /v1/kv/a/?list=true token", "begin 2 GET /v1/kv/a token"]);
    bench.answer(1, 405, NOTHING, &[]);
    let lease = r#"{"lease_id":"l/1","lease_duration":9,"renewable":true"#;
    let snapshot = ["1 snapshot /kv/a/user=u", "worked", "reset"];
    bench.answer(2, 200, &format!(r#"{lease},"data":{{"user":"u"}}}}"#), &snapshot);
    // It is not read again.
    bench.now += 2 * SECOND;
    bench.check(Input::Turn, &["begin 1 GET /v1/sys/internal/ui/mounts/kv/a token"]);
    bench.answer(1, 404, NOTHING, &["begin 1 GET /v1/kv/a/?list=true token"]);
    bench.answer(1, 405, NOTHING, &snapshot);
    bench.now += 4 * SECOND;
    bench.check(Input::Turn, &["begin 0 POST /v1/sys/leases/renew token"]);
    bench.answer(0, 400, "", &["begin 1 GET /v1/sys/internal/ui/mounts/kv/a token"]);
    bench.answer(1, 404, NOTHING, &["begin 1 GET /v1/kv/a/?list=true token", "begin 2 GET /v1/kv/a token"]);
}

#[test]
fn folders_are_listed_within_mounts_of_version_2() {
    let mut bench = Bench::new(AuthType::Token, Mode::OneShot);
    bench.vault.add(Id(1), &options(&["/s"], None), &mut Vec::new());
    bench.check(Input::Turn, &["credentials"]);
    let token = Credentials { user: Secret::default(), password: Secret::new("t0ken".into()) };
    bench.check(Input::Credentials(Ok(Some(token))), &["begin 1 GET /v1/sys/internal/ui/mounts/s token"]);
    let mount = r#"{"data":{"path":"s/","options":{"version":"2"}}}"#;
    bench.answer(1, 200, mount, &["begin 1 GET /v1/s/metadata/?list=true token"]);
    let begun = ["begin 1 GET /v1/s/metadata/d/?list=true token", "begin 2 GET /v1/s/data/a token"];
    bench.answer(1, 200, r#"{"data":{"keys":["d/","a"]}}"#, &begun);
    bench.answer(1, 200, r#"{"data":{"keys":["b"]}}"#, &["begin 1 GET /v1/s/data/d/b token"]);
    bench.answer(1, 200, r#"{"data":{"data":{"k":"1"},"metadata":{"x":"y"}}}"#, &[]);
    bench.answer(2, 200, r#"{"data":{"data":{"value":"2"}}}"#, &["1 snapshot /s/a=2 /s/d/b/k=1", "worked", "reset"]);
}

#[test]
fn a_server_that_lists_without_end_is_refused() {
    let mut bench = Bench::reading(Some(1));
    bench.now += 2 * SECOND;
    bench.check(Input::Turn, &["begin 1 GET /v1/sys/internal/ui/mounts/kv/a token"]);
    bench.answer(1, 404, NOTHING, &["begin 1 GET /v1/kv/a/?list=true token", "begin 2 GET /v1/kv/a token"]);
    for depth in 1..=3 {
        let below = "/x".repeat(depth);
        let begun = format!("begin 1 GET /v1/kv/a{below}/?list=true token");
        bench.answer(1, 200, r#"{"data":{"keys":["x/"]}}"#, &[&begun]);
    }
    let words =
        "1 failed: failed to list `/kv/a/x/x/x` from http://v: more than 3 keys: raise `max_keys` of the backend";
    bench.answer(1, 200, r#"{"data":{"keys":["x/"]}}"#, &["cancel 2", words]);
}

#[test]
fn the_next_resource_is_read_when_the_one_that_was_read_leaves() {
    let mut bench = Bench::reading(None);
    [2, 3].iter().for_each(|id| bench.vault.add(Id(*id), &options(&["/kv/a"], None), &mut Vec::new()));
    bench.check(Input::Turn, &["begin 1 GET /v1/sys/internal/ui/mounts/kv/a token"]);
    let mut out = Vec::new();
    bench.vault.remove(Id(2), &mut out);
    assert_eq!(out.iter().filter_map(text).collect::<Vec<_>>(), ["cancel 1"]);
    assert!(bench.vault.due().is_some_and(|due| due <= bench.now));
    bench.check(Input::Turn, &["begin 1 GET /v1/sys/internal/ui/mounts/kv/a token"]);
    bench.round(&["3 snapshot /kv/a=x", "worked", "reset"]);
}

#[test]
fn a_refusal_ends_a_renewal_that_is_under_way() {
    let mut bench = Bench::reading(Some(18));
    bench.now += 19_900 * SECOND / 1000;
    bench.check(Input::Turn, &["begin 1 GET /v1/sys/internal/ui/mounts/kv/a token"]);
    bench.now += SECOND;
    bench.check(Input::Turn, &["begin 0 POST /v1/auth/token/renew-self token"]);
    bench.answer(1, 403, "", &[]);
    bench.answer(0, 429, "", &["node failed: failed to renew the token from http://v: status 429"]);
    bench.check(Input::Turn, &["begin 0 POST /v1/auth/token/renew-self token"]);
    let renewed = r#"{"auth":{"client_token":"t0ken","lease_duration":30,"renewable":true}}"#;
    bench.answer(0, 200, renewed, &["begin 1 GET /v1/sys/internal/ui/mounts/kv/a token"]);
    bench.answer(1, 403, "", &["begin 1 GET /v1/kv/a/?list=true token", "begin 2 GET /v1/kv/a token"]);
    bench.now += 21 * SECOND;
    bench.check(Input::Turn, &["begin 0 POST /v1/auth/token/renew-self token"]);
    bench.answer(1, 403, "", &["cancel 2", "cancel 0", "begin 0 GET /v1/auth/token/lookup-self token"]);
}

/// Another kind of server has none of the paths either. Its answers must not empty a file.
#[test]
fn only_an_answer_of_vault_means_that_a_secret_is_missing() {
    let begun = ["begin 1 GET /v1/kv/a/?list=true token", "begin 2 GET /v1/kv/a token"];
    let check = |status: u16, body: &str, words: &str| {
        let mut bench = Bench::reading(Some(1));
        bench.now += 2 * SECOND;
        bench.check(Input::Turn, &["begin 1 GET /v1/sys/internal/ui/mounts/kv/a token"]);
        bench.answer(1, 404, NOTHING, &begun);
        let words = format!("node failed: failed to list `/kv/a` from http://v: {words}");
        bench.answer(1, status, body, &[&words]);
        // Nor the mount of a key.
        let mut bench = Bench::reading(Some(1));
        bench.now += 2 * SECOND;
        bench.check(Input::Turn, &["begin 1 GET /v1/sys/internal/ui/mounts/kv/a token"]);
        let words = words.replace("list", "find the mount of");
        bench.answer(1, status, body, &[&words]);
    };
    check(404, "", "not an answer of vault: status 404");
    check(404, "404 page not found\n", "not an answer of vault: status 404: 404 page not found");
    check(404, r#"{"message":"no"}"#, r#"not an answer of vault: status 404: {"message":"no"}"#);
    check(405, "<html>", "not an answer of vault: status 405: <html>");
    check(200, "", "not an answer of vault");
    check(200, r#"{"message":"hello"}"#, "not an answer of vault");
    // A deleted version has only metadata, which may be long.
    for metadata in [String::new(), "x".repeat(9999)] {
        let mut bench = Bench::reading(Some(1));
        bench.now += 2 * SECOND;
        bench.check(Input::Turn, &["begin 1 GET /v1/sys/internal/ui/mounts/kv/a token"]);
        bench.answer(1, 404, NOTHING, &begun);
        bench.answer(1, 204, "", &[]);
        let deleted = format!(r#"{{"data":{{"data":null,"metadata":"{metadata}"}}}}"#);
        bench.answer(2, 404, &deleted, &["1 snapshot", "worked", "reset"]);
    }
}

#[test]
fn a_key_without_a_mount_is_reported() {
    let mut bench = Bench::reading(Some(1));
    bench.now += 2 * SECOND;
    bench.check(Input::Turn, &["begin 1 GET /v1/sys/internal/ui/mounts/kv/a token"]);
    let begun = ["begin 1 GET /v1/kv/a/?list=true token", "begin 2 GET /v1/kv/a token"];
    bench.answer(1, 403, r#"{"errors":["preflight capability check returned 403"]}"#, &begun);
    let unmounted = r#"{"errors":["no handler for route \"kv/a/\". route entry not found."]}"#;
    let words = "1 failed: failed to list `/kv/a` from http://v: nothing is mounted there: enable a secrets engine at that \
                 path, or mend `keys`";
    bench.answer(1, 404, unmounted, &["cancel 2", words]);
    let mut bench = Bench::reading(None);
    bench.vault.add(Id(2), &options(&["/kv/a", "/"], None), &mut Vec::new());
    let words = "2 failed: failed to read `/` from http://v: each of `keys` begins with the path of a mount: name the \
                 mounts, as `/secret`";
    bench.check(Input::Turn, &[words]);
}

#[test]
fn a_tree_without_an_end_is_refused() {
    let mut bench = Bench::reading(Some(1));
    bench.vault.options.limits = ReadLimits::default();
    bench.now += 2 * SECOND;
    bench.check(Input::Turn, &["begin 1 GET /v1/sys/internal/ui/mounts/kv/a token"]);
    bench.answer(1, 404, NOTHING, &["begin 1 GET /v1/kv/a/?list=true token", "begin 2 GET /v1/kv/a token"]);
    for depth in 1..256 {
        let begun = format!("begin 1 GET /v1/kv/a{}/?list=true token", "/x".repeat(depth));
        bench.answer(1, 200, r#"{"data":{"keys":["x/"]}}"#, &[&begun]);
    }
    let path = "/x".repeat(98);
    let words = format!(
        "1 failed: failed to list `/kv/a{path}...` from http://v: `kv/a{path}...` has more than 256 levels: the server \
         lists a tree without an end"
    );
    bench.answer(1, 200, r#"{"data":{"keys":["x/"]}}"#, &["cancel 2", &words]);
}
