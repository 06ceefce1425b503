//! A real etcd with users: logins, expired tokens, changed passwords, missing permissions.

use crate::support::{Etcd, Gateway, LIMIT, TempDir, answering, remco, wait_until};

const PASSWORD: &str = "tr0ub4dor&3";

/// An etcd in which `app` may read what begins with `/app`, and root may write.
struct Guarded {
    etcd: Etcd,
    root: Gateway,
}

impl Guarded {
    fn start(args: &[&str]) -> Guarded {
        // Passwords that are checked quickly.
        let etcd = Etcd::start_with(&[&["--bcrypt-cost", "4"], args].concat());
        for command in [
            &["user", "add", "root:root"][..],
            &["user", "grant-role", "root", "root"],
            &["role", "add", "reader"],
            &["role", "grant-permission", "reader", "--prefix=true", "read", "/app"],
            &["user", "add", &format!("app:{PASSWORD}")],
            &["user", "grant-role", "app", "reader"],
            &["auth", "enable"],
        ] {
            etcd.etcdctl(command);
        }
        let root = Guarded::root_of(&etcd);
        Guarded { etcd, root }
    }

    fn root_of(etcd: &Etcd) -> Gateway {
        let mut root = etcd.gateway();
        root.log_in("root", "root").expect("root may log in");
        root
    }

    /// Writes as root, whose token may have had its time as well.
    fn put(&mut self, key: &str, value: &str) {
        self.root = Guarded::root_of(&self.etcd);
        self.root.put(key, value);
    }

    fn administer(&self, args: &[&str]) {
        self.etcd.etcdctl(&[&["--user", "root:root"], args].concat());
    }
}

/// A resource that renders `NAME` of its key to `NAME.out`.
fn resource(etcd: &Etcd, name: &str, key: &str, options: &str) -> String {
    format!(
        r#"
[[resource]]
name = "{name}"
[[resource.template]]
src = "list.tmpl"
dst = "{name}.out"
[resource.backend.etcd]
version = 3
nodes = ["{}"]
keys = ["{key}"]
watch = true
username = "app"
{options}
"#,
        etcd.url()
    )
}

fn inline() -> String {
    format!("password = \"{PASSWORD}\"\n")
}

fn folder(resources: &str) -> TempDir {
    let dir = TempDir::new();
    dir.write("list.tmpl", "{% for kv in getallkvs() %}\n{{ kv.Key }}={{ kv.Value }}\n{% endfor %}\n");
    dir.write("config.toml", format!("log_level = \"trace\"\n{resources}"));
    dir
}

fn await_value(dir: &TempDir, value: &str) {
    wait_until(value, LIMIT, || dir.holds("app.out", &format!("/app/x={value}\n")));
}

fn assert_quiet(log: &[String]) {
    assert!(!log.iter().any(|line| line.contains("ERROR") || line.contains("WARN")), "{log:#?}");
    assert_silent(log);
}

fn assert_silent(log: &[String]) {
    assert!(!log.iter().any(|line| line.contains(PASSWORD) || line.contains("s3cret")), "{log:#?}");
}

/// The token ends while nothing happens, and nothing is lost by that: neither the stream nor what is written then.
fn outlives_its_token(args: &[&str]) {
    let mut guarded = Guarded::start(args);
    guarded.put("/app/x", "1");
    // The node is asked less often than the token lasts: every use makes a simple one last longer.
    let dir = folder(&resource(&guarded.etcd, "app", "/app", &(inline() + "watch_deadline = 3")));
    let program = remco(&dir).start();
    await_value(&dir, "1");
    program.wait_for_log_count("logged in", 2);
    guarded.put("/app/x", "2");
    await_value(&dir, "2");
    program.wait_for_log_count("logged in", 3);
    guarded.put("/app/x", "3");
    await_value(&dir, "3");
    assert_quiet(&program.stop());
}

#[test]
fn a_simple_token_that_ends_is_got_anew() {
    outlives_its_token(&["--auth-token-ttl", "1"]);
}

#[test]
fn a_web_token_that_ends_is_got_anew() {
    let dir = TempDir::new();
    dir.write("key", "any bytes will do for this kind of signature");
    let token = format!("jwt,sign-method=HS256,priv-key={},ttl=1s", dir.at("key").display());
    outlives_its_token(&["--auth-token", &token]);
}

/// The stream breaks, and the token may or may not be known to the node that comes back.
#[test]
fn a_node_that_restarts_is_watched_on() {
    let mut guarded = Guarded::start(&["--auth-token-ttl", "1"]);
    guarded.put("/app/x", "1");
    let dir = folder(&resource(&guarded.etcd, "app", "/app", &inline()));
    let program = remco(&dir).start();
    await_value(&dir, "1");
    for value in ["2", "3"] {
        guarded.etcd.kill();
        program.wait_for_log("failed to watch");
        guarded.etcd.restart();
        guarded.put("/app/x", value);
        await_value(&dir, value);
    }
    assert_silent(&program.stop());
}

#[test]
fn a_new_password_is_read_from_its_file() {
    let mut guarded = Guarded::start(&["--auth-token-ttl", "1"]);
    guarded.put("/app/x", "1");
    let options = "password_file = \"password\"\nwatch_deadline = 0.5";
    let dir = folder(&resource(&guarded.etcd, "app", "/app", options));
    dir.write("password", format!("{PASSWORD}\n"));
    let program = remco(&dir).start();
    await_value(&dir, "1");
    dir.replace("password", "s3cret\n");
    // What there was for the old one is not valid from now on.
    guarded.root = Guarded::root_of(&guarded.etcd);
    guarded.root.change_password("app", "s3cret");
    program.wait_for_log_count("logged in", 2);
    guarded.put("/app/x", "2");
    await_value(&dir, "2");
    assert_quiet(&program.stop());
}

#[test]
fn a_wrong_password_is_told_with_user_and_node() {
    let guarded = Guarded::start(&[]);
    let dir = folder(&resource(&guarded.etcd, "app", "/app", "password = \"s3cret\""));
    let program = remco(&dir).start();
    let text = format!("failed to log in to {} as user `app`: HTTP 400", guarded.etcd.url());
    program.wait_for_log(&text);
    assert_silent(&program.stop());
    // A one-shot run does not wait for a human.
    let finished = remco(&dir).once().expect_code(1).expect_log(&text);
    finished.expect_no_log("s3cret");
    dir.write("config.toml", resource(&guarded.etcd, "app", "/app", "password_file = \"nowhere\""));
    remco(&dir).once().expect_code(1).expect_log("failed to read `nowhere`: no such file or directory");
    let nobody = resource(&guarded.etcd, "app", "/app", "").replace("username = \"app\"", "");
    dir.write("config.toml", nobody);
    remco(&dir).once().expect_code(1).expect_log("user name is empty: set `username` and `password`");
}

/// What one resource may not read is its own trouble. It is told which key, who asked and where, and asks again later.
#[test]
fn what_is_denied_to_one_does_not_disturb_the_others() {
    let mut guarded = Guarded::start(&[]);
    guarded.put("/app/x", "1");
    guarded.put("/secret/x", "hidden");
    let url = guarded.etcd.url();
    let denied = resource(&guarded.etcd, "denied", "/secret", &inline());
    let triggered = resource(&guarded.etcd, "triggered", "/app", &(inline() + "watchKeys = [\"/reload\"]"));
    let dir = folder(&(denied + &triggered + &resource(&guarded.etcd, "app", "/app", &inline())));
    let program = remco(&dir).start();
    await_value(&dir, "1");
    program.wait_for_log(&format!(
        "failed to read `/secret` from {url} as user `app`: HTTP 403: etcdserver: permission denied"
    ));
    program.wait_for_log(&format!("failed to watch `/reload` at {url} as user `app`: etcdserver: permission denied"));
    // It has its keys, but not what triggers.
    assert!(dir.holds("triggered.out", "/app/x=1\n"));
    for n in 2..5 {
        guarded.put("/app/x", &n.to_string());
        await_value(&dir, &n.to_string());
    }
    assert_eq!(dir.read("denied.out"), None);
    guarded.administer(&["role", "grant-permission", "reader", "read", "/secret", "/secreu"]);
    guarded.administer(&["role", "grant-permission", "reader", "read", "/reload", "/reloae"]);
    wait_until("both are let in", LIMIT, || {
        guarded.put("/reload", "");
        dir.holds("denied.out", "/secret/x=hidden\n") && dir.holds("triggered.out", "/app/x=4\n")
    });
    guarded.put("/secret/x", "seen");
    wait_until("it watches", LIMIT, || dir.holds("denied.out", "/secret/x=seen\n"));
    let log = program.stop();
    assert_silent(&log);
    assert!(!log.iter().any(|line| line.contains("ERROR") && line.contains("resource=app")), "{log:#?}");

    // A one-shot run is told at once.
    dir.write("config.toml", resource(&guarded.etcd, "app", "/nothing", &inline()));
    remco(&dir).once().expect_code(1).expect_log("failed to read `/nothing` from");
}

/// Users that are turned on under a program that has a password already.
#[test]
fn users_may_be_turned_on_later() {
    let mut guarded = Guarded::start(&[]);
    guarded.administer(&["auth", "disable"]);
    guarded.etcd.put("/app/x", "1");
    let dir = folder(&resource(&guarded.etcd, "app", "/app", &(inline() + "watch_deadline = 0.5")));
    let program = remco(&dir).start();
    await_value(&dir, "1");
    guarded.etcd.put("/app/x", "2");
    await_value(&dir, "2");
    guarded.etcd.etcdctl(&["auth", "enable"]);
    program.wait_for_log("logged in");
    guarded.put("/app/x", "3");
    await_value(&dir, "3");
    assert_quiet(&program.stop());
}

/// The stream breaks after users were turned on, and it is the new stream that is refused.
#[test]
fn users_turned_on_later_are_logged_in_when_the_stream_breaks() {
    let mut guarded = Guarded::start(&[]);
    guarded.administer(&["auth", "disable"]);
    guarded.etcd.put("/app/x", "1");
    let dir = folder(&resource(&guarded.etcd, "app", "/app", &inline()));
    let program = remco(&dir).start();
    await_value(&dir, "1");
    guarded.etcd.put("/app/x", "2");
    await_value(&dir, "2");
    guarded.etcd.etcdctl(&["auth", "enable"]);
    guarded.etcd.kill();
    program.wait_for_log("failed to watch");
    guarded.etcd.restart();
    program.wait_for_log("logged in");
    guarded.put("/app/x", "3");
    await_value(&dir, "3");
    let log = program.stop();
    assert!(!log.iter().any(|line| line.contains("user name is empty")), "{log:#?}");
    assert_silent(&log);
}

#[test]
fn a_wrong_password_ends_a_one_shot_run_also_where_the_version_is_found_out() {
    let guarded = Guarded::start(&[]);
    let wrong = resource(&guarded.etcd, "app", "/app", "password = \"wrong\"\n").replace("version = 3\n", "");
    let dir = folder(&wrong);
    let url = guarded.etcd.url();
    let finished = remco(&dir).once().expect_code(1).expect_log(&format!("failed to log in to {url} as user app: "));
    finished.expect_no_log("trying again").expect_no_log("failed to find out the version");
}

/// The configuration for a server that is no etcd.
fn resource_of(url: &str, version: &str, options: &str) -> String {
    format!(
        r#"
[[resource]]
name = "app"
[[resource.template]]
src = "list.tmpl"
dst = "app.out"
[resource.backend.etcd]
nodes = ["{url}"]
keys = ["/app"]
username = "app"
{version}
{options}
"#
    )
}

/// Something between us and etcd, or etcd itself, may quote what it was sent.
#[test]
fn a_password_that_is_sent_back_is_not_logged() {
    let body = format!("{{\"error\":\"bad name or password {PASSWORD}\",\"code\":3}}");
    let url = answering(move |_| (400, body.clone()));
    for version in ["version = 3\n", ""] {
        let dir = folder(&resource_of(&url, version, &inline()));
        let finished = remco(&dir).once().expect_code(1).expect_log("bad name or password <password>");
        finished.expect_no_log(PASSWORD);
    }
}

/// In whatever form, wherever a message is cut, and the token too.
#[test]
fn secrets_in_a_quoted_request_are_not_logged() {
    const TOKEN: &str = "t0k3n.0123456789";
    let hard = "p\"a\\ss&w0rd";
    let escape = |text: &str| text.replace('\\', "\\\\").replace('"', "\\\"");
    // The body of the login, quoted behind so many letters that a message of 200 ends within the password.
    let options = format!("password = \"{}\"", escape(hard));
    for before in (160..190).step_by(4) {
        let url = answering(move |request| {
            let body = request.rsplit("\r\n\r\n").next().unwrap_or_default();
            let quoted = escape(&format!("{}{body}", "x".repeat(before)));
            (400, format!("{{\"message\":\"{quoted}\",\"code\":3}}"))
        });
        let dir = folder(&resource_of(&url, "version = 3", &options));
        let finished = remco(&dir).once().expect_code(1).expect_log("as user `app`: HTTP 400");
        finished.expect_no_log("a\\\\ss").expect_no_log("p\\\"a").expect_no_log("w0rd");
    }
    // The head of what came with the token.
    let url = answering(|request| match request.starts_with("POST /v3/auth") {
        true => (200, format!("{{\"token\":\"{TOKEN}\"}}")),
        false => (403, format!("{{\"message\":\"{}\",\"code\":7}}", request.replace("\r\n", "\\n").replace('"', "'"))),
    });
    let dir = folder(&resource_of(&url, "version = 3", &inline()));
    remco(&dir).once().expect_code(1).expect_log("<token>").expect_no_log("t0k3n");
    // The header of version 2.
    let url = answering(|request| (403, format!("{{\"message\":\"{}\"}}", request.replace("\r\n", " "))));
    let dir = folder(&resource_of(&url, "version = 2", &inline()));
    remco(&dir).once().expect_code(1).expect_log("<password>").expect_no_log("YXBwOnRyMHViNGRvciYz");
}
