//! Values of keys, passwords, tokens and headers appear only in destinations: not in a log of any level or form, and
//! not in an error.

use crate::support::{Etcd, Finished, FixedBody, Invocation, LIMIT, TempDir, free_port, remco, wait_until};

/// Everything that must not be seen, each told apart from all others.
const SECRETS: &[&str] =
    &["v4lue-of-k3y", "v4lue-of-v4r", "p4ss-in-url", "p4ss-in-c0nfig", "t0ken-in-h3ader", "v4ult-t0ken", "n4ts-t0ken"];

const LEVELS: [(&str, &str); 4] = [("trace", "text"), ("trace", "json"), ("debug", "text"), ("debug", "json")];

/// A resource with this template and this backend table, once for each level and form.
fn folders(template: &str, backend: &str) -> impl Iterator<Item = TempDir> {
    LEVELS.iter().map(move |(level, format)| {
        let dir = TempDir::new();
        dir.write("data.json", r#"{"password": "v4lue-of-k3y", "list": ["v4lue-of-k3y"]}"#);
        dir.write("app.tmpl", template);
        dir.write(
            "config.toml",
            format!(
                r#"
log_level = "{level}"
log_format = "{format}"
[[resource]]
name = "app"
reload_cmd = "true"
[[resource.template]]
src = "app.tmpl"
dst = "app.conf"
check_cmd = "test -s {{{{.src}}}}"
reload_cmd = "test -s {{{{.dst}}}}"
{backend}
"#
            ),
        );
        dir
    })
}

fn with_secrets(dir: &TempDir) -> Invocation {
    remco(dir).env("REMCO_TEST_SECRET", "v4lue-of-v4r").env("PASSWORD", "p4ss-in-c0nfig")
}

#[track_caller]
fn keeps_quiet(log: &str) {
    for secret in SECRETS {
        assert!(!log.contains(secret), "{secret} in the log:\n{log}");
    }
    // Base64 and forms are disguises only.
    for secret in ["djRsdWUtb2Yt", "cDRzcy1pbi", "djRsdWU"] {
        assert!(!log.contains(secret), "{secret} in the log:\n{log}");
    }
}

#[track_caller]
fn all_keep_quiet(template: &str, backend: &str, code: i32) -> Vec<Finished> {
    let finished = folders(template, backend).map(|dir| {
        let finished = with_secrets(&dir).once().expect_code(code);
        keeps_quiet(&finished.log);
        keeps_quiet(&String::from_utf8_lossy(&finished.stdout));
        finished
    });
    finished.collect()
}

const FILE: &str = "[resource.backend.file]\nfilepath = \"data.json\"\nkeys = [\"/\"]\nonetime = true";
const VALUE: &str = "{{ getv(\"/password\") }}\n";

fn etcd(node: &str) -> String {
    format!(
        "[resource.backend.etcd]\nversion = 3\nnodes = [\"{node}\"]\nkeys = [\"/\"]\nonetime = true\n\
         timeout = 0.2\nusername = \"root\"\npassword = \"$PASSWORD\"\n"
    )
}

#[test]
fn of_keys_and_variables() {
    for finished in all_keep_quiet(VALUE, FILE, 0) {
        finished.expect_log("target config has been updated");
    }
    let env = "[resource.backend.env]\nkeys = [\"/remco/test\"]\nonetime = true";
    all_keep_quiet("{{ getv(\"/remco/test/secret\") }}{{ getenv(\"PASSWORD\") }}\n", env, 0);
    // A collision names the key, not what the backends hold.
    let both = format!("{FILE}\n[resource.backend.env]\nkeys = [\"/password\"]\nonetime = true");
    all_keep_quiet(VALUE, &both, 0);
}

#[test]
fn in_templates_that_fail() {
    for template in [
        "{{ getv(\"/password\") | parseInt }}",
        "{{ getv(\"/password\") + 1 }}",
        "{{ atoi(getv(\"/password\")) }}",
        "{{ json(getv(\"/password\")) }}",
        "{{ jsonArray(getv(\"/password\")) }}",
        "{{ getv(\"/password\") | parseJSON }}",
        "{{ getv(\"/password\") | parseYAML }}{{ getv(\"/none\") }}",
        "{{ lookupIP(getv(\"/password\") + \".invalid.\") | join:\"\" }}{{ getv(\"/none\") }}",
        "{% for a in getv(\"/password\") %}{{ a / 0 }}{% endfor %}",
        "{{ printf(\"%d\", getv(\"/password\")) }}{{ getv(\"/none\") }}",
        "{{ base64Decode(getv(\"/password\")) }}",
        "{{ getenv(\"PASSWORD\") | parseInt }}{{ getv(\"/none\") }}",
    ] {
        for dir in folders(template, FILE).take(2) {
            let finished = with_secrets(&dir).once();
            // What comes out is right or an error; neither is to be told here.
            keeps_quiet(&finished.log);
        }
    }
}

#[test]
fn of_an_etcd() {
    let server = Etcd::start();
    server.put("/password", "v4lue-of-k3y");
    let with_credentials = |url: &str| url.replace("://", "://me:p4ss-in-url@");
    let nobody = format!("http://127.0.0.1:{}", free_port());
    // A login that is not needed, and one at an etcd that is not there.
    for (url, code) in [(server.url(), 0), (nobody, 1)] {
        all_keep_quiet(VALUE, &etcd(&url), code);
        all_keep_quiet(VALUE, &etcd(&with_credentials(&url)), code);
    }
    let open = etcd(&with_credentials(&server.url())).replace("username", "#").replace("password", "#");
    all_keep_quiet(VALUE, &open, 0);
}

#[test]
fn of_a_file_that_is_remote() {
    let server = FixedBody::start(r#"{"password": "v4lue-of-k3y"}"#);
    let nobody = format!("127.0.0.1:{}", free_port());
    for (address, code) in [(server.address(), 0), (nobody, 1)] {
        let backend = format!(
            "[resource.backend.file]\nfilepath = \"http://me:p4ss-in-url@{address}/data\"\nkeys = [\"/\"]\nonetime = true\n\
             [resource.backend.file.httpheaders]\nAuthorization = \"Bearer t0ken-in-h3ader\""
        );
        all_keep_quiet(VALUE, &backend, code);
    }
    // An answer that cannot be read is not shown.
    let server = FixedBody::start("{\"v4lue-of-k3y\": \"v4lue-of-k3y\"");
    let backend = format!(
        "[resource.backend.file]\nfilepath = \"http://{}/data\"\nkeys = [\"/\"]\nonetime = true",
        server.address()
    );
    all_keep_quiet(VALUE, &backend, 1);
}

#[test]
fn while_it_watches_and_everything_fails() {
    let mut server = Etcd::start();
    server.put("/password", "v4lue-of-k3y");
    let backend = format!(
        "[resource.backend.etcd]\nversion = 3\nnodes = [\"{}\"]\nkeys = [\"/\"]\nwatch = true",
        server.url().replace("://", "://me:p4ss-in-url@")
    );
    let folders: Vec<TempDir> = folders(VALUE, &backend).take(2).collect();
    let running: Vec<_> = folders.iter().map(|dir| with_secrets(dir).start()).collect();
    let wait_for = |text: &str| {
        for dir in &folders {
            wait_until(text, LIMIT, || dir.holds("app.conf", text));
        }
    };
    wait_for("v4lue-of-k3y\n");
    server.put("/password", "v4lue-of-k3y again");
    wait_for("v4lue-of-k3y again\n");
    server.delete("/password");
    for program in &running {
        program.wait_for_log("/password");
    }
    server.kill();
    for program in &running {
        program.wait_for_log("backend error");
    }
    server.restart();
    server.put("/password", "v4lue-of-k3y at last");
    wait_for("v4lue-of-k3y at last\n");
    for (program, dir) in running.into_iter().zip(&folders) {
        dir.write("config.toml", "[[resource]]\nbackend.etcd.password = \"p4ss-in-c0nfig\" oops");
        program.signal(rustix::process::Signal::HUP);
        program.wait_for_log("invalid config");
        keeps_quiet(&program.stop().join("\n"));
    }
}

/// Configurations that are refused, by a mistake near a secret or because what they ask for is not there.
#[test]
fn of_a_configuration_that_is_wrong() {
    for backend in [
        &etcd("http://me:p4ss-in-url@127.0.0.1:1").replace("\"$PASSWORD\"", "\"$PASSWORD\" oops"),
        &etcd("http://me:p4ss-in-url@127.0.0.1:1").replace("\"$PASSWORD\"", "$PASSWORD"),
        &etcd("http://me:p4ss-in-url@127.0.0.1:1").replace("\"$PASSWORD\"", "[\"$PASSWORD\"]"),
        &etcd("htp://me:p4ss-in-url@127.0.0.1:1"),
        &etcd("http://me:p4ss-in-url@"),
        "[resource.backend.file]\nfilepath = \"http://me:p4ss-in-url@127.0.0.1:1/\"\nkeys = [\"/\"]\nonetime = 1\n\
         [resource.backend.file.httpheaders]\nAuthorization = \"Bearer t0ken-in-h3ader\"",
        "[resource.backend.file]\nfilepath = \"data.json\"\nkeys = [\"/\"]\nonetime = true\n\
         [resource.backend.file.httpheaders]\nAuthorization = [\"Bearer t0ken-in-h3ader\"]",
        "[resource.backend.vault]\nnode = \"http://me:p4ss-in-url@127.0.0.1:1\"\nauth_type = \"tken\"\n\
         auth_token = \"v4ult-t0ken\"\nkeys = [\"/\"]",
        "[resource.backend.vault]\nauth_token = \"v4ult-t0ken\" x\nsecret_id = \"v4ult-t0ken",
        "[resource.backend.nats]\nnodes = [\"nats://me:p4ss-in-url@127.0.0.1\"]\ntoken = \"n4ts-t0ken\"\nkeys = [\"/\"]",
        "[resource.backend.nats]\ntoken = { a = \"n4ts-t0ken\" }\nkeys = [\"/\"]",
        "[resource.backend.redis]\nnodes = [\"redis://me:p4ss-in-url@127.0.0.1:1\"]\npassword = \"$PASSWORD\"\ndatabase = \"$PASSWORD\"",
    ] {
        for dir in folders(VALUE, backend).take(2) {
            keeps_quiet(&with_secrets(&dir).once().expect_code(1).log);
        }
    }
}
