//! Log lines: text and JSON, levels and fields. `secrets` tests what lines must not contain.

use serde_json::Value;

use crate::support::{Etcd, Finished, LIMIT, TempDir, remco, wait_until};

/// A resource on the file backend, with these lines before it.
fn folder(top: &str) -> TempDir {
    let dir = TempDir::new();
    dir.write("data.json", r#"{"greeting": "hello", "password": "hunter2"}"#);
    dir.write("app.tmpl", "{{ getv(\"/greeting\") }} {{ getv(\"/password\") }}\n");
    dir.write(
        "config.toml",
        format!(
            r#"
{top}
[[resource]]
name = "app"
[[resource.template]]
src = "app.tmpl"
dst = "app.conf"
check_cmd = "true {{{{.src}}}}"
reload_cmd = "echo reloaded"
[resource.backend.file]
filepath = "data.json"
keys = ["/"]
onetime = true
"#
        ),
    );
    dir
}

/// A text line taken apart: level, message with fields.
fn text_line(line: &str, pid: u32) -> (String, String) {
    let parts = line.strip_prefix('[').and_then(|rest| rest.split_once("] "));
    let (stamp, rest) = parts.unwrap_or_else(|| panic!("no date: {line}"));
    let date: Vec<&str> = stamp.split_whitespace().collect();
    let [month, day, clock] = date[..] else { panic!("not month, day and time: {line}") };
    assert!("Jan Feb Mar Apr May Jun Jul Aug Sep Oct Nov Dec".split(' ').any(|name| name == month), "{line}");
    assert!(day.parse::<u8>().is_ok_and(|day| (1..=31).contains(&day)), "{line}");
    let clock: Vec<_> = clock.split(':').map(|part| (part.len(), part.parse::<u8>().is_ok())).collect();
    assert_eq!(clock, [(2, true); 3], "{line}");
    let (level, rest) = rest.trim_start().split_once(' ').unwrap_or_else(|| panic!("no level: {line}"));
    assert_eq!(stamp.len() + 3 + 5, line.find(" remco[").expect("the program's name"), "levels are padded: {line}");
    let message = rest.strip_prefix(&format!("remco[{pid}]: ")).unwrap_or_else(|| panic!("no process: {line}"));
    (level.to_owned(), message.to_owned())
}

#[test]
fn the_text_form_is_the_tutorials() {
    let dir = folder("log_level = \"debug\"\nlog_format = \"text\"");
    let finished = remco(&dir).once().expect_code(0);
    let lines: Vec<_> = finished.log.lines().map(|line| text_line(line, finished.pid)).collect();
    for (level, message, field) in [
        ("INFO", "loading resource configuration", "path=config.toml"),
        ("INFO", "set file path", "filepath=data.json"),
        ("DEBUG", "retrieving keys", "backend=file key_prefix="),
        ("DEBUG", "compiling source template", "template=app.tmpl"),
        ("DEBUG", "comparing staged and dest config files", "dest=app.conf"),
        ("INFO", "target config out of sync", "config=app.conf"),
        ("DEBUG", "overwriting target config", "config=app.conf"),
        ("DEBUG", "Running cmd", "echo reloaded"),
        ("DEBUG", "\"reloaded", "resource=app"),
        ("INFO", "target config has been updated", "config=app.conf"),
    ] {
        let found = lines.iter().any(|(l, m)| l == level && m.contains(message) && m.contains(field));
        assert!(found, "no {level} {message} {field} in:\n{}", finished.log);
    }
    let updated = lines.iter().find(|(_, m)| m.starts_with("target config has been updated")).expect("found above");
    assert!(updated.1.contains("resource=app"), "{updated:?}");
    let second = remco(&dir).once().expect_code(0);
    assert!(second.log.contains("target config in sync"), "{}", second.log);
}

fn json_lines(finished: &Finished) -> Vec<Value> {
    let parse = |line: &str| serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}"));
    finished.log.lines().map(parse).collect()
}

#[test]
fn the_json_form_has_one_object_a_line() {
    let dir = folder("log_level = \"debug\"\nlog_format = \"json\"");
    let finished = remco(&dir).once().expect_code(0);
    let lines = json_lines(&finished);
    for line in &lines {
        for field in ["@timestamp", "@level", "@message"] {
            assert!(line[field].is_string(), "no {field}: {line}");
        }
        let stamp = line["@timestamp"].as_str().expect("just seen");
        assert!(stamp.len() >= 20 && stamp.as_bytes()[10] == b'T', "not RFC 3339: {stamp}");
    }
    let updated = lines.iter().find(|line| line["@message"] == "target config has been updated");
    let updated = updated.unwrap_or_else(|| panic!("no update in:\n{}", finished.log));
    assert_eq!((&updated["@level"], &updated["resource"]), (&Value::from("info"), &Value::from("app")));
    assert_eq!(updated["config"], "app.conf");
}

#[test]
fn a_line_of_json_stays_one_line() {
    let dir = folder("log_level = \"debug\"\nlog_format = \"json\"");
    let config = dir.read("config.toml").expect("just written");
    dir.write("config.toml", config.replace("echo reloaded", "printf 'two\\\\nlines \\\\377 \\\\033[1m'"));
    let finished = remco(&dir).once().expect_code(0);
    assert!(json_lines(&finished).len() > 5);
    assert!(!finished.log.contains('\u{1b}'), "an escape sequence reaches the terminal: {:?}", finished.log);
}

#[test]
fn the_level_says_what_is_left_out() {
    let levels = [
        ("trace", true, true),
        (" DEBUG ", true, true),
        ("info", true, false),
        ("nonsense", true, false),
        ("warn", false, false),
        ("error", false, false),
        ("off", false, false),
    ];
    for (level, info, debug) in levels {
        let dir = folder(&format!("log_level = \"{level}\""));
        let finished = remco(&dir).once().expect_code(0);
        assert_eq!(finished.log.contains("target config has been updated"), info, "{level}:\n{}", finished.log);
        assert_eq!(finished.log.contains("Running"), debug, "{level}:\n{}", finished.log);
    }
}

#[test]
fn errors_are_shown_at_every_level_but_off() {
    for (level, shown) in [("error", true), ("off", false)] {
        let dir = folder(&format!("log_level = \"{level}\""));
        dir.write("data.json", "{}");
        let finished = remco(&dir).once().expect_code(1);
        assert_eq!(finished.log.contains("/greeting"), shown, "{level}:\n{}", finished.log);
    }
}

#[test]
fn a_failure_that_repeats_is_not_logged_at_every_retry() {
    let mut etcd = Etcd::start();
    etcd.put("/greeting", "hello");
    etcd.put("/password", "x");
    let dir = folder("log_level = \"info\"");
    let config = dir.read("config.toml").expect("just written");
    let (resource, _) = config.split_once("[resource.backend.file]").expect("its backend");
    let backend =
        format!("[resource.backend.etcd]\nversion = 3\nnodes = [\"{}\"]\nkeys = [\"/\"]\nwatch = true\n", etcd.url());
    let other = "[[resource]]\nname = \"clock\"\n[[resource.template]]\nsrc = \"clock.tmpl\"\ndst = \"clock\"\n\
                 reload_cmd = \"echo >> ticks\"\n[resource.backend.file]\nfilepath = \"data.json\"\nkeys = [\"/\"]\ninterval = 1\n";
    dir.write("clock.tmpl", "{{ unixTS() }}\n");
    dir.write("config.toml", format!("{resource}{backend}{other}"));
    let program = remco(&dir).start();
    wait_until("the first render", LIMIT, || dir.holds("app.conf", "hello x\n"));
    etcd.kill();
    // Some seconds by the program's own clock: several retries.
    let ticks = dir.lines("ticks");
    wait_until("six ticks of the other resource", LIMIT, || dir.lines("ticks") >= ticks + 6);
    etcd.restart();
    etcd.put("/greeting", "again");
    wait_until("the next render", LIMIT, || dir.holds("app.conf", "again x\n"));
    let log = program.stop();
    let failures: Vec<_> = log.iter().filter(|line| line.contains("ERROR")).collect();
    // It begins (the stream breaks), it changes (connection refused), and it may change once more as etcd starts.
    assert!((1..=3).contains(&failures.len()), "{failures:#?}");
}
