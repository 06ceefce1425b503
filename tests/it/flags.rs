//! Flags that restrict a run or replace parts of its configuration: `--only`, `--log-level`, `--log-format`.

use rustix::process::Signal;

use crate::support::{Config, Invocation, TempDir, remco, resource};

/// Two resources that are watched.
fn two() -> Config {
    let one = |name: &str| resource(name).template("app.tmpl", &format!("{name}.conf")).file("data.json").watch();
    one("web").and(one("db"))
}

fn folder() -> TempDir {
    let dir = TempDir::new();
    dir.write("data.json", "{}");
    dir.write("app.tmpl", "text\n");
    two().write(&dir);
    dir
}

#[test]
fn only_runs_the_resources_of_a_name() {
    let dir = folder();
    remco(&dir).arg("--only=db").once().expect_code(0);
    assert_eq!((dir.read("web.conf"), dir.read("db.conf")), (None, Some("text\n".to_owned())));
    remco(&dir).arg("--only").arg("db").arg("--only").arg("web").once().expect_code(0);
    assert!(dir.holds("web.conf", "text\n"));
}

#[test]
fn only_with_an_unknown_name_is_a_wrong_command_line() {
    let dir = folder();
    let refused = remco(&dir).arg("--only=wbe").once().expect_code(2);
    assert_eq!(
        refused.log,
        "no resource has the name `wbe` of `--only`, did you mean `web`?\n\
         remco: a flag does not fit config `config.toml`, nothing was started"
    );
    remco(&dir).arg("--only=haproxy").once().expect_code(2).expect_log("of `--only`: there are `web`, `db`");
}

#[test]
fn a_reload_keeps_to_only_and_to_the_level() {
    let dir = folder();
    let running = remco(&dir).arg("--only=web").arg("--log-level=debug").arg("--log-format=json").start();
    running.wait_for_log("\"target config has been updated\"");
    // Without `web` nothing is changed.
    dir.replace("config.toml", two().to_string().replace("\"web\"", "\"www\""));
    running.signal(Signal::HUP);
    running.wait_for_log("no resource has the name `web` of `--only`");
    dir.replace("config.toml", two().to_string().replace("\"web.conf\"", "\"new.conf\""));
    running.signal(Signal::HUP);
    let line = running.wait_for_log_count("\"target config has been updated\"", 2);
    assert!(line.contains("\"config\":\"new.conf\""), "{line}");
    let log = running.stop();
    assert!(log.iter().any(|line| line.contains("\"@level\":\"debug\"")), "{log:#?}");
    assert_eq!(dir.read("db.conf"), None);
}

#[test]
fn the_level_of_the_command_line_counts() {
    let dir = folder();
    let quiet = remco(&dir).arg("--log-level").arg("ERROR").once().expect_code(0);
    assert_eq!(quiet.log, "");
    remco(&dir).arg("--log-level=loud").once().expect_code(2).expect_log("`--log-level` cannot be `loud`");
}

#[test]
fn help_goes_to_standard_output() {
    let dir = TempDir::new();
    let help = Invocation::bare(&dir, &["-h"]).run().expect_code(0);
    let text = String::from_utf8(help.stdout).unwrap();
    assert!(text.contains("\n  --only RESOURCE "), "{text}");
    assert_eq!(help.log, "");
}

#[test]
fn a_log_has_colours_on_a_terminal_only() {
    let dir = folder();
    let coloured = "\x1b[36m INFO\x1b[0m remco[";
    let on_terminal = |name: &str, value: &str| {
        let line = format!("{} -config config.toml -onetime 2>&1", env!("CARGO_BIN_EXE_remco"));
        let output = std::process::Command::new("script")
            .args(["-qec", &line, "/dev/null"])
            .current_dir(dir.path())
            .env_remove("NO_COLOR")
            .env("TERM", "xterm")
            .env(name, value)
            .stdin(std::process::Stdio::null())
            .output()
            .expect("script is a part of every Linux");
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(text.contains(" INFO"), "{text:?}");
        text.contains(coloured)
    };
    assert!(on_terminal("NO_COLOR", ""));
    assert!(!on_terminal("NO_COLOR", "1"));
    assert!(!on_terminal("TERM", "dumb"));
    assert!(!remco(&dir).once().expect_code(0).log.contains('\x1b'));
}
