//! The modes that only look: their output, their exit codes, and that they write no file.

use std::fs::{self, File};
use std::process::{Command, Stdio};

use rustix::process::Signal;

use crate::support::{Config, Finished, Invocation, TempDir, Trace, remco, resource};

const OLD: &str = "old 1\nold 2\nsame\n";

/// A resource with one file that would change, one that is new and one in sync.
fn three(dir: &TempDir) -> Config {
    dir.write("data.json", r#"{"a": "one", "b": "two"}"#);
    dir.write("app.tmpl", "{{ getv(\"/a\") }}\nold 2\nsame\n");
    dir.write("new.tmpl", "{{ getv(\"/b\") }}");
    dir.write("same.tmpl", "same\n");
    dir.write("out/app.conf", OLD);
    dir.write("out/same.conf", "same\n");
    resource("app")
        .template("same.tmpl", "out/same.conf")
        .template("new.tmpl", "out/new.conf")
        .template("app.tmpl", "out/app.conf")
        .file("data.json")
        .onetime()
}

fn stdout(finished: &Finished) -> String {
    String::from_utf8(finished.stdout.clone()).unwrap()
}

fn dry(dir: &TempDir) -> Invocation {
    remco(dir).arg("--dry-run")
}

/// patch(1) as the documentation has it, with the folder of the test as its root.
fn patch(diff: &[u8]) {
    let mut patch = Command::new("patch")
        .args(["-p1", "-d", "/", "--no-backup-if-mismatch"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("scripts/test installs patch");
    std::io::Write::write_all(&mut patch.stdin.take().unwrap(), diff).unwrap();
    let output = patch.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && !said.contains("fuzz") && !said.contains("offset"), "{said}");
}

#[test]
fn a_dry_run_shows_what_would_change() {
    let dir = TempDir::new();
    three(&dir).write(&dir);
    let finished = dry(&dir).run().expect_code(3);
    let path = dir.path().to_string_lossy().trim_start_matches('/').to_owned();
    let expected = format!(
        "diff --git a/{path}/out/new.conf b/{path}/out/new.conf\nnew file mode 100644\n--- /dev/null\n\
         +++ b/{path}/out/new.conf\n@@ -0,0 +1 @@\n+two\n\\ No newline at end of file\n\
         diff --git a/{path}/out/app.conf b/{path}/out/app.conf\n--- a/{path}/out/app.conf\n+++ b/{path}/out/app.conf\n\
         @@ -1,3 +1,3 @@\n-old 1\n+one\n old 2\n same\n\
         # app: 2 would change, 1 in sync\n"
    );
    assert_eq!(stdout(&finished), expected);
    assert_eq!(finished.log, "", "it is quiet");
    assert_eq!(dir.names("out"), ["app.conf", "same.conf"]);
    assert!(dir.holds("out/app.conf", OLD));

    remco(&dir).once().expect_code(0);
    let again = dry(&dir).run().expect_code(0);
    assert_eq!(stdout(&again), "# app: 0 would change, 3 in sync\n");
}

#[test]
fn patch_makes_the_files_of_a_run() {
    let dir = TempDir::new();
    // Bytes that are no UTF-8, carriage returns, no newline at the end, names that have to be quoted.
    let old: &[u8] = b"a\xff\r\nb\n\x1b[31mc\n--- d\n+++ e\nlast";
    let new: &[u8] = b"a\xff\r\nB\xfe\n\x1b[31mc\n+++ e\n@@ -1 +1 @@\n\\ last";
    let names = ["plain", "with space", "with\"quote\\", "d\u{e9}j\u{e0}"];
    let mut config = resource("app");
    for (number, name) in names.iter().enumerate() {
        dir.write(&format!("{number}.tmpl"), [b"{% verbatim %}", new, b"{% endverbatim %}"].concat());
        dir.write(&format!("out/{name}"), old);
        config = config.template(&format!("{number}.tmpl"), &format!("out/{name}")).set("mode", "0600");
    }
    dir.write("empty.tmpl", "{# #}");
    dir.write("data.json", "{}");
    dir.write("out/emptied", "text\n");
    config = config.template("empty.tmpl", "out/emptied").template("empty.tmpl", "out/empty");
    config = config.template("0.tmpl", "out/folder/below").set("make_directories", true);
    config.file("data.json").onetime().write(&dir);
    let diff = dry(&dir).run().expect_code(3).stdout;
    patch(&diff);
    for name in names.iter().chain(&["folder/below"]) {
        assert_eq!(fs::read(dir.at(&format!("out/{name}"))).unwrap(), new, "{name}");
    }
    assert!(dir.holds("out/emptied", "") && dir.holds("out/empty", ""));
    assert_eq!(dir.mode("out/with space"), 0o600);
    let after = dry(&dir).run().expect_code(0);
    assert_eq!(stdout(&after), "# app: 0 would change, 7 in sync\n");
}

#[test]
fn a_dry_run_writes_nothing() {
    let dir = TempDir::new();
    let config = three(&dir).set_in("[[resource]]", "start_cmd", "touch started");
    let config = config.set_in("[[resource]]", "reload_cmd", "touch reloaded");
    config.exec("touch child").write(&dir);
    let traced = TempDir::new();
    let (trace, invocation) = Trace::of(dry(&dir), &traced);
    let finished = invocation.run().expect_code(3);
    let calls = trace.calls(finished.pid);
    let changing: Vec<_> = calls.iter().filter(|call| call.changes_a_file()).collect();
    assert!(changing.is_empty(), "{changing:#?}");
    let programs = calls.iter().filter(|call| call.runs_a_program()).count();
    assert_eq!(programs, 1, "its own start: {calls:#?}");
}

#[test]
fn it_runs_beside_a_daemon_of_the_same_configuration() {
    let dir = TempDir::new();
    let put = |a: &str| dir.replace("data.json", format!(r#"{{"a": "{a}"}}"#));
    dir.write("app.tmpl", "{{ getv(\"/a\") }}\n");
    put("one");
    let text = resource("app").template("app.tmpl", "app.conf").file("data.json").watch().to_string();
    dir.write("config.toml", format!("pid_file = \"pid\"\n{text}"));
    let daemon = remco(&dir).start();
    daemon.wait_for_log("target config has been updated");
    let pid = dir.read("pid");
    let finished = dry(&dir).run().expect_code(0);
    assert_eq!(stdout(&finished), "# app: 0 would change, 1 in sync\n");
    assert_eq!(dir.read("pid"), pid);
    daemon.signal(Signal::STOP);
    put("two");
    let finished = dry(&dir).env("NOTIFY_SOCKET", &dir.at("none").to_string_lossy()).run().expect_code(3);
    assert_eq!(finished.log, "", "systemd is not notified");
    daemon.signal(Signal::CONT);
    daemon.wait_for_log_count("target config has been updated", 2);
    daemon.stop();
}

#[test]
fn checks_run_on_a_private_file() {
    let dir = TempDir::new();
    let check = |command: &str| {
        let config = three(&dir);
        config.set_in("[[resource.template]]", "check_cmd", command).write(&dir);
        fs::create_dir_all(dir.at("tmp")).unwrap();
        dry(&dir).arg("--with-checks").env("TMPDIR", &dir.at("tmp").to_string_lossy()).run()
    };
    let finished = check("cat {{.src}} > checked; stat -c %a $(dirname {{.src}}) > mode; echo {{.src}} > path");
    assert_eq!(finished.code, Some(3), "{}", finished.log);
    assert!(dir.holds("checked", "one\nold 2\nsame\n"));
    assert!(dir.holds("mode", "700\n"));
    assert!(dir.read("path").unwrap().starts_with(&*dir.at("tmp").to_string_lossy()));
    assert!(dir.names("tmp").is_empty() && dir.names("out") == ["app.conf", "same.conf"]);
    let finished = check("exit 2; # {{.src}}").expect_code(1).expect_log("check command exited with status 2");
    assert!(stdout(&finished).ends_with(", failed\n"), "{}", stdout(&finished));
    assert!(dir.holds("out/app.conf", OLD) && dir.names("tmp").is_empty());
}

#[test]
fn an_ordinary_user_sees_what_would_change_in_files_of_root() {
    if !rustix::process::geteuid().is_root() {
        return;
    }
    let dir = TempDir::new();
    three(&dir).write(&dir);
    dir.set_mode("out", 0o755);
    let nobody = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"];
    let finished = dry(&dir).under(&nobody).run().expect_code(3);
    assert!(stdout(&finished).contains("\n+one\n"), "{}", stdout(&finished));
    dir.set_mode("out/app.conf", 0o600);
    let finished = dry(&dir).under(&nobody).run().expect_code(1);
    assert!(finished.log.contains("out/app.conf`: permission denied"), "{}", finished.log);
    assert!(stdout(&finished).ends_with("# app: 1 would change, 1 in sync, failed\n"), "{}", stdout(&finished));
}

#[test]
fn what_is_secret_is_not_shown() {
    let dir = TempDir::new();
    three(&dir).set_in("[[resource]]", "secret", true).write(&dir);
    let finished = dry(&dir).arg("--log-level=trace").run().expect_code(3);
    let path = dir.path().display();
    let expected = format!(
        "# {path}/out/new.conf: (secret, new): lines removed: 0, added: 1\n\
         # {path}/out/app.conf: (secret, changed): lines removed: 1, added: 1\n# app: 2 would change, 1 in sync\n"
    );
    assert_eq!(stdout(&finished), expected);
    assert!(!finished.log.contains("two"), "{}", finished.log);
}

#[test]
fn a_store_that_is_down_is_a_failure() {
    let dir = TempDir::new();
    three(&dir).write(&dir);
    fs::remove_file(dir.at("data.json")).unwrap();
    let finished = dry(&dir).run().expect_code(1).expect_log("backend error");
    assert_eq!(stdout(&finished), "# app: 0 would change, 0 in sync, failed\n");
}

#[test]
fn odd_destinations() {
    let dir = TempDir::new();
    dir.write("data.json", "{}");
    dir.write("app.tmpl", "new\n");
    dir.write("target", "old\n");
    std::os::unix::fs::symlink("target", dir.at("link")).unwrap();
    fs::create_dir(dir.at("folder")).unwrap();
    rustix::fs::mknodat(rustix::fs::CWD, dir.at("fifo"), rustix::fs::FileType::Fifo, 0o600.into(), 0).unwrap();
    let look = |dst: &str| {
        resource("app").template("app.tmpl", dst).file("data.json").onetime().write(&dir);
        let finished = dry(&dir).run();
        (finished.code, stdout(&finished), finished.log)
    };
    let (code, text, _) = look("link");
    assert!(
        code == Some(3) && text.contains("/target\n@@ -1 +1 @@\n-old\n+new\n"),
        "the file that patch finds: {text}"
    );
    let (code, text, log) = look("folder");
    assert!(code == Some(1) && log.contains("is a directory, a file is expected"), "{text}{log}");
    for dst in ["fifo", "/dev/stdout"] {
        let (code, text, _) = look(dst);
        assert_eq!(code, Some(3));
        assert!(text.contains(": no regular file, it would be written to\n"), "{text}");
    }
    let (code, text, log) = look("none/app.conf");
    assert!(code == Some(1) && log.contains("or set `make_directories = true`"), "{text}{log}");
    dir.write("binary", b"\0");
    let (code, text, _) = look("binary");
    assert!(code == Some(3) && text.starts_with("Binary files a/") && text.contains("binary differ\n"), "{text}");
}

#[test]
fn standard_output_may_be_closed_or_full() {
    let dir = TempDir::new();
    three(&dir).write(&dir);
    // The runtime replaces it by /dev/null before the program begins.
    dry(&dir).under(&["sh", "-c", "exec \"$@\" >&-", "sh"]).run().expect_code(3);
    for mode in ["--dry-run", "--check", "--keys", "--explain", "--render=new.tmpl", "-help", "-version"] {
        let full = File::options().write(true).open("/dev/full").unwrap();
        let finished = remco(&dir).arg(mode).stdout(full).expect_code(1);
        finished.expect_log("failed to write to standard output: no space left on device");
    }
    let piped = ["sh", "-c", "{ \"$@\"; echo $? > code; } | true", "sh"];
    dry(&dir).under(&piped).run().expect_code(0).expect_no_log("standard output");
    assert!(dir.holds("code", "3\n"), "{:?}", dir.read("code"));
}

#[test]
fn no_commands_writes_files_alone() {
    let dir = TempDir::new();
    let config = three(&dir).set_in("[[resource]]", "start_cmd", "touch started");
    let config = config.set_in("[[resource]]", "reload_cmd", "touch reloaded");
    config
        .exec("touch child")
        .set_in("[[resource.template]]", "check_cmd", "touch checked; false {{.src}}")
        .write(&dir);
    remco(&dir).arg("--no-commands").once().expect_code(0);
    assert!(dir.holds("out/new.conf", "two"));
    for name in ["started", "reloaded", "child", "checked"] {
        assert_eq!(dir.read(name), None, "{name}");
    }
}

fn check(dir: &TempDir) -> Invocation {
    remco(dir).arg("--check")
}

#[test]
fn check_finds_all_problems_at_once() {
    let dir = TempDir::new();
    let config = three(&dir).and(resource("two").template("two.tmpl", "none/two.conf").file("data.json").onetime());
    let config = config.set_in("[[resource.template]]", "reload_cmd", "no-such-program -s reload && true");
    let text = config.to_string();
    dir.write("config.toml", format!("log_levl = \"info\"\n{text}"));
    dir.write("two.tmpl", "{% include \"part.tmpl\" %}\n{{ hostnaem }}\n");
    dir.write("part.tmpl", "{{ getv(\"/a\") }}\n");
    fs::remove_file(dir.at("data.json")).unwrap();
    let finished = check(&dir).run().expect_code(0);
    let found = stdout(&finished);
    for warning in [
        "config.toml:1:1: warning: unknown key `log_levl`",
        ": warning: `dst` cannot be written: there is no directory `none`: make it, or set `make_directories = true`\n",
        ": warning: there is no program `no-such-program` in PATH\n",
        "two.tmpl:2:4: warning: nothing sets `hostnaem`, it is empty\n",
    ] {
        assert!(found.contains(warning), "{warning} in:\n{found}");
    }
    assert!(found.ends_with("config `config.toml`: errors: 0, warnings: 4\n"), "{found}");
    check(&dir).arg("--strict").run().expect_code(1);
    assert_eq!(finished.log, "");

    dir.write("part.tmpl", "{{ getv( }}\n");
    dir.write("new.tmpl", "{% if %}");
    dir.write("config.toml", text.replace("src = \"same.tmpl\"", "src = \"same.tmpl\"\nmode = \"999\""));
    let found = stdout(&check(&dir).run().expect_code(1));
    for error in ["config.toml:5:8: ", "part.tmpl:1:", "new.tmpl:1:"] {
        assert!(found.lines().any(|line| line.starts_with(error) && !line.contains("warning")), "{error} in:\n{found}");
    }
    assert!(found.contains("errors: 3, "), "{found}");
    assert_eq!(dir.names("out"), ["app.conf", "same.conf"]);
}

#[test]
fn check_warns_of_what_a_user_may_not_write() {
    if !rustix::process::geteuid().is_root() {
        return;
    }
    let dir = TempDir::new();
    three(&dir).write(&dir);
    let fine = check(&dir).arg("--strict").run().expect_code(0);
    assert_eq!(stdout(&fine), "config `config.toml` is fine\n");
    let nobody = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"];
    let found = stdout(&check(&dir).under(&nobody).run().expect_code(0));
    assert_eq!(found.matches("`dst` cannot be written: directory `out` is not writable: permission denied").count(), 3);
}

#[test]
fn render_prints_a_template() {
    let dir = TempDir::new();
    let bare = |args: &[&str]| Invocation::bare(&dir, args).run();
    dir.write("part.tmpl", "{{ getv(\"/b\") }}");
    dir.write("app.tmpl", b"a\xff {{ getv(\"/a\") }}{% include \"part.tmpl\" %}");
    dir.write("k$eys.yaml", "a: 1\nb: [x]\n");
    let finished = bare(&["--render", "app.tmpl", "--data", "k$eys.yaml"]).expect_code(1);
    assert!(finished.log.contains("part.tmpl:1:") && finished.stdout.is_empty(), "{}", finished.log);
    dir.write("k$eys.yaml", "a: 1\nb: x\n");
    let finished = bare(&["--render", "app.tmpl", "--data", "k$eys.yaml"]).expect_code(0);
    assert_eq!((&finished.stdout[..], &*finished.log), (&b"a\xff 1x"[..], ""));
    bare(&["--render", "app.tmpl", "--data", "none.json"]).expect_code(1).expect_log("failed to read `none.json`");

    three(&dir).write(&dir);
    let finished = remco(&dir).arg("--render=./new.tmpl").run().expect_code(0);
    assert_eq!(stdout(&finished), "two");
    remco(&dir).arg("--render=none.tmpl").run().expect_code(1).expect_log("no resource has the template `none.tmpl`");
    let twice = three(&dir).and(resource("again").template("new.tmpl", "again").file("data.json").onetime());
    twice.write(&dir);
    let finished = remco(&dir).arg("--render=new.tmpl").run().expect_code(1);
    assert!(finished.log.contains("add `--only` and one of `app`, `again`"), "{}", finished.log);
    assert_eq!(stdout(&remco(&dir).arg("--render=new.tmpl").arg("--only=again").run().expect_code(0)), "two");
    assert_eq!(dir.names("out"), ["app.conf", "same.conf"]);
}

#[test]
fn keys_are_those_that_templates_see() {
    let dir = TempDir::new();
    dir.write("app.tmpl", "text\n");
    dir.write("data.json", r#"{"b": "tab\there", "a": {"b": "\"x\"", "c": "é y"}, "same": "file"}"#);
    let config = resource("app").template("app.tmpl", "app.conf").file("data.json").onetime();
    config.clone().backend("env").keys(["/same", "/odd"]).onetime().write(&dir);
    let run = |args: &[&str]| {
        let run = args.iter().fold(remco(&dir).arg("--keys"), |run, arg| run.arg(arg));
        run.env("SAME", "environment").env("ODD", "1")
    };
    let finished = run(&[]).run().expect_code(0);
    assert_eq!(
        stdout(&finished),
        "# app\n/a/b\t\"\\\"x\\\"\"\tfile\n/a/c\té y\tfile\n/b\t\"tab\\there\"\tfile\n/odd\t1\tenv\n\
         /same\tenvironment\tenv (collision: also in file)\n"
    );
    let json: serde_json::Value = serde_json::from_slice(&run(&["--json"]).run().expect_code(0).stdout).unwrap();
    assert_eq!(json["resources"][0]["name"], "app");
    assert_eq!(
        json["resources"][0]["keys"][4],
        serde_json::json!({"key": "/same", "value": "environment", "backend": "env", "also_in": ["file"]})
    );
    config.backend("env").keys(["/same"]).onetime().set("secret", true).write(&dir);
    let text = stdout(&run(&[]).run().expect_code(0));
    assert!(text.contains("/same\t(secret)\tenv") && !text.contains("environment"), "{text}");
    let text = stdout(&run(&["--json"]).run().expect_code(0));
    assert!(text.contains("\"secret\": true") && !text.contains("environment"), "{text}");
    assert_eq!(dir.read("app.conf"), None);
}

#[test]
fn keys_that_are_no_text_are_base64_in_json() {
    let dir = TempDir::new();
    dir.write("app.tmpl", "text\n");
    resource("app").template("app.tmpl", "app.conf").backend("env").onetime().write(&dir);
    let odd = ["sh", "-c", "exec env \"$(printf 'ODD=a\\377')\" \"$@\"", "sh"];
    let finished = remco(&dir).arg("--keys").arg("--json").under(&odd).run().expect_code(0);
    assert!(stdout(&finished).contains("\"value_base64\": \"Yf8=\""), "{}", stdout(&finished));
    let finished = remco(&dir).arg("--keys").under(&odd).run().expect_code(0);
    assert!(stdout(&finished).contains("/odd\t\"a\\xff\"\tenv\n"), "{}", stdout(&finished));
}

#[test]
fn diff_logs_what_changes() {
    let dir = TempDir::new();
    three(&dir).write(&dir);
    let finished = remco(&dir).arg("--diff").once().expect_code(0);
    assert!(finished.log.contains("\n    -old 1\n    +one\n     old 2\n"), "{}", finished.log);
    assert_eq!(finished.log.matches("changes of target config").count(), 2, "{}", finished.log);
    dir.write("new.tmpl", "line\n".repeat(300));
    let finished = remco(&dir).arg("--diff").once().expect_code(0);
    assert!(finished.log.contains("\n    ... and 106 more lines\n"), "{}", finished.log);
    let secret = three(&dir).set_in("[[resource]]", "secret", true);
    secret.write(&dir);
    let finished = remco(&dir).arg("--diff").once().expect_code(0);
    assert!(finished.log.contains("(secret, changed): lines removed: 1, added: 1"), "{}", finished.log);
    assert!(!finished.log.contains("+one"), "{}", finished.log);
}

fn explain(dir: &TempDir) -> Invocation {
    remco(dir).arg("--explain")
}

#[test]
fn explain_tells_what_templates_read() {
    let dir = TempDir::new();
    dir.write(
        "data.json",
        r#"{"db": {"host": "db1", "password": "hunter2"}, "web": {"1": "a", "2": "b"}, "old": {"x": "y"}}"#,
    );
    dir.write(
        "app.tmpl",
        "{{ getv(\"/db/host\") }}{{ getv(\"/db/port\", \"5432\") }}{% now \"2006\" %}\n{{ gets(\"/web/*\")|length }}",
    );
    dir.write("bad.tmpl", "{{ getv(\"/db/pasword\") }}\n{{ getv(\"/never/reached\") }}");
    dir.write("wrong.tmpl", "{% if %}");
    let config = resource("app").template("app.tmpl", "app.conf").template("bad.tmpl", "bad.conf");
    let config = config.template("wrong.tmpl", "wrong.conf");
    config.set_in("[[resource]]", "start_cmd", "touch started").file("data.json").onetime().write(&dir);
    let finished = explain(&dir).run().expect_code(1);
    let expected = "# app: failed\napp.tmpl -> app.conf\n\tgets\t/web/*\t2 keys\n\tgetv\t/db/host\tfound\n\
                    \tgetv\t/db/port\tmissing, near: /db/host, /db/password\n\tasked for\ttime\n\
                    bad.tmpl -> bad.conf\n\tgetv\t/db/pasword\tmissing, near: /db/password, /db/host\n\
                    \terror\tbad.tmpl:1:4: getv: key does not exist: /db/pasword\n\
                    wrong.tmpl -> wrong.conf\n";
    let shown = stdout(&finished);
    let rest = shown.strip_prefix(expected).unwrap_or_else(|| panic!("{shown}"));
    assert!(rest.starts_with("\terror\twrong.tmpl:1:"), "{rest}");
    assert!(rest.ends_with("\nnot read\n\t/db/password\tfile\n\t/old/x\tfile\n"), "{rest}");
    for name in ["app.conf", "bad.conf", "started"] {
        assert_eq!(dir.read(name), None, "{name}");
    }
    let json: serde_json::Value =
        serde_json::from_slice(&explain(&dir).arg("--json").run().expect_code(1).stdout).unwrap();
    let templates = &json["resources"][0]["templates"];
    assert_eq!(templates[0]["asked_for"], serde_json::json!(["time"]));
    assert_eq!(templates[1]["reads"][0]["near"], serde_json::json!(["/db/password", "/db/host"]));
    assert_eq!(json["resources"][0]["unread"][0], serde_json::json!({"key": "/db/password", "backend": "file"}));
    dir.write("bad.tmpl", "{{ getv(\"/db/password\") }}");
    dir.write("wrong.tmpl", "");
    let finished = explain(&dir).arg("--only=app").run().expect_code(0);
    assert!(!stdout(&finished).contains("hunter2"), "{}", stdout(&finished));
    let finished = explain(&dir).arg("--only=ap").run().expect_code(2);
    assert!(finished.log.contains("`app`"), "{}", finished.log);
}

#[test]
fn explain_tells_which_watched_keys_are_not_there() {
    let dir = TempDir::new();
    dir.write("app.tmpl", "{{ getv(\"/app/a\") }}");
    dir.write("data.json", r#"{"app": {"a": "1"}}"#);
    let config = resource("app").template("app.tmpl", "app.conf").file("data.json").watch();
    config.keys(["/app"]).set("watchKeys", ["/app/a", "/app/reload", "/web"]).write(&dir);
    let shown = stdout(&explain(&dir).run().expect_code(0));
    let expected = "watchKeys without a key\n\t/app/reload\tfile\nwatchKeys outside of keys\n\t/web\tfile\n";
    assert!(shown.ends_with(expected), "{shown}");
}

#[test]
fn explain_without_a_store_says_so() {
    let dir = TempDir::new();
    three(&dir).write(&dir);
    fs::remove_file(dir.at("data.json")).unwrap();
    let finished = explain(&dir).run().expect_code(1).expect_log("backend error");
    assert!(stdout(&finished).starts_with("# app: failed\nsame.tmpl -> out/same.conf\n\tnot rendered\n"));
    assert!(!stdout(&finished).contains("not read\n"), "{}", stdout(&finished));
}

#[test]
fn a_secret_that_becomes_a_key_is_not_shown() {
    let dir = TempDir::new();
    dir.write("app.tmpl", "{{ getv(getv(\"/secret\")) }}");
    dir.write("data.json", r#"{"secret": "hunter2", "app": "x"}"#);
    let config = resource("app").template("app.tmpl", "app.conf").file("data.json").onetime();
    config.set_in("[[resource]]", "secret", true).write(&dir);
    for mode in ["--dry-run", "--explain", "--render=app.tmpl", "-onetime"] {
        let finished = remco(&dir).arg(mode).arg("--log-level=trace").run();
        assert_eq!(finished.code, Some(1), "{mode}: {}", finished.log);
        assert!(finished.log.contains("getv: key does not exist: (secret)"), "{mode}: {}", finished.log);
        assert!(!(finished.log.clone() + &stdout(&finished)).contains("hunter2"), "{mode}: {}", finished.log);
    }
    // A short one, and one that is a part of a value.
    dir.write("data.json", r#"{"secret": "ab", "app": "x"}"#);
    let finished = remco(&dir).arg("--explain").run().expect_code(1).expect_log("key does not exist: (secret)");
    assert!(stdout(&finished).contains("\tgetv\t(secret)\tmissing"), "{}", stdout(&finished));
    dir.write("app.tmpl", "{% set all = getv(\"/secret\")|parseJSON %}{{ getv(all.password) }}");
    dir.write("data.json", r#"{"secret": "{\"password\": \"hunter2\"}"}"#);
    let finished = remco(&dir).arg("--explain").run().expect_code(1).expect_log("key does not exist: (secret)");
    assert!(!stdout(&finished).contains("hunter2"), "{}", stdout(&finished));
}

#[test]
fn a_dry_run_tells_what_a_guard_refuses() {
    let dir = TempDir::new();
    dir.write("data.json", r#"{"a": "one"}"#);
    dir.write("app.tmpl", "{{ getv(\"/a\") }}\n");
    let config = resource("app").lines("guard = {min_keys = 2}").template("app.tmpl", "app.conf");
    config.file("data.json").onetime().write(&dir);
    let finished = dry(&dir).run().expect_code(1).expect_log("the guard refuses the update, the files stay");
    assert!(finished.log.contains("the number of keys is 1, `min_keys` is 2"), "{}", finished.log);
    assert_eq!(stdout(&finished), "# app: 0 would change, 0 in sync, failed\n");
    let finished = dry(&dir).arg("--override-guard").run().expect_code(3);
    assert!(stdout(&finished).contains("\n+one\n# app: 1 would change, 0 in sync\n"), "{}", stdout(&finished));
    assert!(finished.log.contains("--override-guard accepts what the guard would refuse"), "{}", finished.log);
    assert_eq!(dir.read("app.conf"), None);
}

#[test]
fn check_warns_of_files_of_remco_itself() {
    let dir = TempDir::new();
    let text = three(&dir).to_string();
    let own = |own: &str| {
        dir.replace("config.toml", format!("{own}\n{text}"));
        stdout(&check(&dir).run().expect_code(0))
    };
    let found = own("state_dir = \"none/state\"\nstatus_file = \"none/status\"\npid_file = \"none/pid\"\n\
                     [telemetry]\nenabled = true\n\
                     sinks = {prometheus = {addr = \"unix:none/socket\", expiration = 60}, textfile = {path = \"none/a.prom\"}}");
    for key in [
        "`state_dir` cannot be used",
        "`status_file` cannot be written",
        "`pid_file` cannot be written",
        "the socket of `addr` cannot be written",
        "`path` cannot be written",
    ] {
        assert!(
            found.contains(&format!(": warning: {key}: there is no directory `none`: make it\n")),
            "{key}: {found}"
        );
    }
    assert!(found.ends_with("errors: 0, warnings: 5\n"), "{found}");
    assert!(!dir.at("none").exists());
    dir.write("file", "");
    assert!(own("state_dir = \"file\"").contains("`state_dir` cannot be used: it is a file or a link"));
    fs::create_dir(dir.at("state")).unwrap();
    dir.set_mode("state", 0o777);
    assert!(own("state_dir = \"state\"").contains("others may write to it (mode 0777): `chmod 700 state`"));
    assert!(dir.names("state").is_empty());
    dir.set_mode("state", 0o700);
    assert_eq!(own("state_dir = \"state\"\nstatus_file = \"status\""), "config `config.toml` is fine\n");
    assert!(dir.names("state").is_empty(), "no lock is left");
}

#[test]
fn what_a_killed_preview_has_left_is_removed_by_the_next_one() {
    let dir = TempDir::new();
    fs::create_dir_all(dir.at("tmp")).unwrap();
    let dry = |check: &str| {
        three(&dir).set_in("[[resource.template]]", "check_cmd", check).write(&dir);
        dry(&dir).arg("--with-checks").env("TMPDIR", &dir.at("tmp").to_string_lossy())
    };
    let killed = dry("kill -9 ${$}PPID; # {{.src}}").run();
    assert_eq!(killed.code, None, "{}", killed.log);
    assert_eq!(dir.names("tmp").len(), 1);
    // One of another program, and one of another destination.
    for other in ["remco-0000000000-0000000000", "remco-x", "other"] {
        fs::create_dir(dir.at(&format!("tmp/{other}"))).unwrap();
    }
    dry("true {{.src}}").run().expect_code(3);
    assert_eq!(dir.names("tmp"), ["other", "remco-0000000000-0000000000", "remco-x"]);
}
