//! Command lines, with their invocations or errors. Runs nothing.
//! The completions are tested in `completions`.

use std::os::unix::ffi::OsStringExt;

use super::flags::{FLAGS, Flag, GROUPS};
use super::*;

fn run(line: &[&str]) -> Result<Invocation, Error> {
    parse(line.iter().map(OsString::from))
}

fn options(config: &str) -> Options {
    Options {
        config: config.into(),
        has_config: config != "/etc/remco/config",
        mode: Mode::Watch,
        strictness: Strictness::Lenient,
        render_all: false,
        only: Vec::new(),
        action: Action::Apply { commands: true, diff: false },
        log_level: None,
        log_format: None,
        timeout: None,
        splay: None,
        lock: None,
        no_wait: false,
        changed_exit: false,
        override_guard: false,
    }
}

#[track_caller]
fn check(line: &[&str], config: &str, onetime: bool, strictness: Strictness) {
    let mode = if onetime { Mode::OneShot } else { Mode::Watch };
    let expected = Options { mode, strictness, ..options(config) };
    assert_eq!(run(line), Ok(Invocation::Run(expected)), "{line:?}");
}

#[track_caller]
fn refuse(line: &[&str], message: &str) {
    assert_eq!(run(line).map_err(|error| error.to_string()), Err(message.to_owned()), "{line:?}");
}

#[test]
fn takes_remcos_flags() {
    use Strictness::{Lenient, Strict};
    check(&[], "/etc/remco/config", false, Lenient);
    check(&["--"], "/etc/remco/config", false, Lenient);
    check(&["-config", "a"], "a", false, Lenient);
    check(&["--config", "a"], "a", false, Lenient);
    check(&["-config=a"], "a", false, Lenient);
    check(&["--config=a=b"], "a=b", false, Lenient);
    check(&["-config", "-onetime"], "-onetime", false, Lenient);
    check(&["-config", "--"], "--", false, Lenient);
    check(&["-config", "--config", "-onetime"], "--config", true, Lenient);
    check(&["-config=a", "-config=b"], "b", false, Lenient);
    check(&["-onetime", "-config", "a"], "a", true, Lenient);
    check(&["--onetime", "--strict"], "/etc/remco/config", true, Strict);
    check(&["-strict", "-strict=false"], "/etc/remco/config", false, Lenient);
    check(&["-version=false"], "/etc/remco/config", false, Lenient);
}

#[test]
fn takes_gos_booleans() {
    let check = |value: &str, onetime| {
        check(&[&format!("-onetime={value}")], "/etc/remco/config", onetime, Strictness::Lenient);
    };
    for value in ["1", "t", "T", "TRUE", "true", "True"] {
        check(value, true);
    }
    for value in ["0", "f", "F", "FALSE", "false", "False"] {
        check(value, false);
    }
    refuse(&["-onetime=yes"], "`-onetime` is either true or false, not `yes`");
    refuse(&["-onetime="], "`-onetime` is either true or false, not ``");
    refuse(&["-version=tRUE"], "`-version` is either true or false, not `tRUE`");
}

#[test]
fn shows_help_and_version() {
    for flag in ["-h", "--h", "-help", "--help"] {
        assert_eq!(run(&[flag]), Ok(Invocation::Help), "{flag}");
        assert_eq!(run(&["-onetime", flag, "-oops"]), Ok(Invocation::Help), "{flag}");
    }
    for flag in ["-version", "--version", "-version=1"] {
        assert_eq!(run(&[flag, "-config", "a"]), Ok(Invocation::Version), "{flag}");
    }
    let version = version("x86_64-linux");
    let lines: Vec<&str> = version.lines().collect();
    let [number, features, target] = lines[..] else { panic!("{version}") };
    assert_eq!(number, format!("remco {NUMBER}"));
    assert_eq!(features.contains("tls"), cfg!(feature = "tls"));
    assert_eq!(features.contains("js"), cfg!(feature = "js"));
    assert!(features.starts_with("features: ") && target.starts_with("target: x86_64-linux"));
    let help = help();
    assert!(help.lines().all(|line| line.chars().count() < 80), "{help}");
    assert!(FLAGS.iter().all(|flag| GROUPS.iter().any(|(group, _)| *group == flag.group)));
    assert!(help.contains("\nWhat to run:\n  -config PATH "), "{help}");
}

#[test]
fn refuses_what_is_no_flag() {
    refuse(&["-confg", "a"], "unknown flag `-confg`, did you mean `-config`?");
    refuse(&["-conf", "a"], "unknown flag `-conf`, did you mean `-config`?");
    refuse(&["--one-time"], "unknown flag `-one-time`, did you mean `-onetime`?");
    refuse(&["-once"], "unknown flag `-once`, did you mean `-onetime`?");
    refuse(&["-confdir", "a"], "unknown flag `-confdir`, did you mean `-config`?");
    refuse(&["-backend", "etcd"], "unknown flag `-backend`: set `[resource.backend.NAME]` in the configuration file");
    refuse(&["-node=a"], "unknown flag `-node`: set `nodes` in the configuration file");
    refuse(&["-interval", "3"], "unknown flag `-interval`: set `interval` in the configuration file");
    refuse(&["-prefix", "/a"], "unknown flag `-prefix`: set `prefix` in the configuration file");
    refuse(&["--stric"], "unknown flag `-stric`, did you mean `--strict`?");
    refuse(&["-v"], "unknown flag `-v`, did you mean `-version`?");
    refuse(&["-c", "a"], "unknown flag `-c`, did you mean `-config`?");
    refuse(&["-x"], "unknown flag `-x`: `remco -h` lists the flags");
    refuse(&["--reload"], "unknown flag `-reload`: set `reload_cmd` in the configuration file");
    refuse(&["-CONFIG=a"], "unknown flag `-CONFIG`, did you mean `-config`?");
    refuse(&["-"], "unexpected argument `-`: remco takes flags only");
    refuse(&["poll"], "unexpected argument `poll`: remco takes flags only");
    refuse(&["-onetime", "false"], "unexpected argument `false`: remco takes flags only");
    refuse(&["--", "-onetime"], "unexpected argument `-onetime`: remco takes flags only");
    refuse(&["", "-onetime"], "unexpected argument ``: remco takes flags only");
    refuse(&["---config=a"], "unknown flag `---config`, did you mean `-config`?");
    refuse(&["---check"], "unknown flag `---check`, did you mean `--check`?");
    refuse(&["----once"], "unknown flag `----once`, did you mean `-onetime`?");
    refuse(&["---help"], "unknown flag `---help`, did you mean `-help`?");
    refuse(&["---"], "unknown flag `---`: `remco -h` lists the flags");
    refuse(&["-=a"], "unknown flag `-`: `remco -h` lists the flags");
    refuse(&["-config"], "`-config` needs a path, such as `-config /etc/remco/config`");
    refuse(&["-config="], "`-config` needs a path, such as `-config /etc/remco/config`");
    refuse(&["-config", ""], "`-config` needs a path, such as `-config /etc/remco/config`");
}

#[test]
fn takes_values() {
    let Ok(Invocation::Run(given)) = run(&["--only", "a", "-only=-b", "--log-level", "WARN", "-log-format=json"])
    else {
        panic!("flags")
    };
    assert_eq!(given.only, ["a", "-b"]);
    assert_eq!((given.log_level, given.log_format), (Some(LogLevel::Warn), Some(LogFormat::Json)));
    let Ok(Invocation::Run(given)) = run(&["--only", "-onetime"]) else { panic!("a name") };
    assert_eq!((given.only, given.mode), (vec!["-onetime".to_owned()], Mode::Watch));
    refuse(&["--only"], "`--only` needs the `name` of a resource, such as `--only haproxy`");
    refuse(&["--only="], "`--only` needs the `name` of a resource, such as `--only haproxy`");
    refuse(&["--log-level", "wran"], "`--log-level` cannot be `wran`, did you mean `warn`?");
    refuse(
        &["--log-level"],
        "`--log-level` cannot be ``: known are `trace`, `debug`, `info`, `warn`, `error` and `off`",
    );
    refuse(&["--log-format=xml"], "`--log-format` is either text or json, not `xml`");
}

#[test]
fn takes_flags_for_cron() {
    let line = ["-onetime", "--timeout", "1m", "--splay=500ms", "--lock", "a", "--no-wait", "--changed-exit"];
    let expected = Options {
        mode: Mode::OneShot,
        timeout: Some(Duration::from_secs(60)),
        splay: Some(Duration::from_millis(500)),
        lock: Some("a".into()),
        no_wait: true,
        changed_exit: true,
        override_guard: false,
        ..options(DEFAULT_CONFIG)
    };
    assert_eq!(run(&line), Ok(Invocation::Run(expected)));
    let Ok(Invocation::Run(watching)) = run(&["--splay", "10"]) else { panic!("flags") };
    assert_eq!(watching.splay, Some(Duration::from_secs(10)));
}

#[test]
fn refuses_flags_for_cron_that_mean_nothing() {
    for flag in ["--timeout=1", "--lock=a", "--no-wait", "--changed-exit"] {
        let name = flag.split('=').next().expect("a part is never missing");
        refuse(&[flag], &format!("`{name}` needs `-onetime`: without it remco does not end by itself"));
        refuse(
            &[flag, "-onetime=false"],
            &format!("`{name}` needs `-onetime`: without it remco does not end by itself"),
        );
    }
    refuse(&["-onetime", "--no-wait"], "`--no-wait` needs `--lock FILE`: without it there is nothing to wait for");
    refuse(
        &["-onetime", "--splay=5s", "--timeout=5s"],
        "`splay` is not less than `--timeout`: the random delay is a part of that time",
    );
    refuse(&["--timeout=0"], "`--timeout` has to be more than 0");
    refuse(&["--timeout"], "`--timeout` needs a time: write it like `500ms`, `30s` or `1h30m`");
    refuse(&["--splay=soon"], "`--splay` `soon` is not a duration: write it like `500ms`, `30s` or `1h30m`");
    refuse(&["--lock="], "`--lock` needs a path, such as `--lock /run/remco.lock`");
}

#[test]
fn flags_that_only_look() {
    let action = |line: &[&str]| match run(line) {
        Ok(Invocation::Run(options)) => Ok((options.action, options.mode)),
        Ok(_) => panic!("{line:?}"),
        Err(error) => Err(error.to_string()),
    };
    assert_eq!(action(&["--dry-run"]), Ok((Action::Look(Look::Changes { checks: false }), Mode::OneShot)));
    assert_eq!(
        action(&["-dry-run", "-with-checks"]),
        Ok((Action::Look(Look::Changes { checks: true }), Mode::OneShot))
    );
    assert_eq!(action(&["--dry-run=false"]), Ok((Action::Apply { commands: true, diff: false }, Mode::Watch)));
    assert_eq!(
        action(&["-onetime", "--no-commands"]),
        Ok((Action::Apply { commands: false, diff: false }, Mode::OneShot))
    );
    assert_eq!(action(&["--diff"]), Ok((Action::Apply { commands: true, diff: true }, Mode::Watch)));
    refuse(&["--keys", "--diff"], "`--diff` goes with a run that writes files, not with `--keys`");
    assert_eq!(action(&["--check"]), Ok((Action::Look(Look::Problems), Mode::Watch)));
    assert_eq!(action(&["--check", "-onetime"]), Ok((Action::Look(Look::Problems), Mode::OneShot)));
    assert_eq!(action(&["--keys", "--json"]), Ok((Action::Look(Look::Keys { json: true }), Mode::OneShot)));
    let result = Look::Result { template: "a".into(), data: Some("-b".into()) };
    assert_eq!(action(&["--render", "a", "--data", "-b"]), Ok((Action::Look(result), Mode::OneShot)));
    refuse(&["--data=a"], "`--data` needs `--render`");
    assert_eq!(action(&["-explain"]), Ok((Action::Look(Look::Reads { json: false }), Mode::OneShot)));
    assert_eq!(action(&["--explain", "-json"]), Ok((Action::Look(Look::Reads { json: true }), Mode::OneShot)));
    refuse(&["--explain", "--keys"], "`--keys` and `--explain` exclude each other: give one of them");
    refuse(&["--json"], "`--json` needs `--status`, `--keys` or `--explain`: without it nothing is printed");
    refuse(&["--render"], "`--render` needs a template, such as `--render haproxy.tmpl`");
    refuse(&["--check", "--render=a"], "`--check` and `--render` exclude each other: give one of them");
    refuse(&["--with-checks"], "`--with-checks` needs `--dry-run`");
    refuse(&["--no-commands"], "`--no-commands` needs `-onetime`");
    refuse(&["-noop"], "unknown flag `-noop`, did you mean `--dry-run`?");
    refuse(&["-dry"], "unknown flag `-dry`, did you mean `--dry-run`?");
    refuse(&["-sync-only"], "unknown flag `-sync-only`, did you mean `--no-commands`?");
    refuse(&["-dryrun"], "unknown flag `-dryrun`, did you mean `--dry-run`?");
}

#[test]
fn the_manual_page_has_every_flag() {
    let page = include_str!("../../docs/remco.1").replace('\\', "");
    for Flag { name, takes, .. } in FLAGS {
        let entry = match takes {
            Takes::Switch(_) => format!(".TP\n.B {name}\n"),
            Takes::Value { name: value, .. } => format!(".TP\n.BI {name} \" {}\"\n", value.to_lowercase()),
        };
        assert!(page.contains(&entry), "{entry}");
    }
    assert!(page.contains(&format!("remco {NUMBER}")), "the version in its first line");
}

/// A larger version lets package managers update Go remco to this program.
#[test]
fn the_version_sorts_above_the_originals() {
    let numbers: Vec<u32> = NUMBER.split('.').map(|part| part.parse().expect("a number")).collect();
    assert!(numbers > vec![0, 12, 6], "{NUMBER}");
}

#[test]
fn takes_any_bytes_for_a_path() {
    for flag in [&b"-config=/\xff"[..], b"--config=/\xff"] {
        let invocation = parse([OsString::from_vec(flag.to_vec())]).expect("a path");
        let Invocation::Run(options) = invocation else { panic!("{invocation:?}") };
        assert_eq!(options.config.as_os_str().as_bytes(), b"/\xff");
    }
    let words = [b"-config".to_vec(), b"-\xff".to_vec()].map(OsString::from_vec);
    let Ok(Invocation::Run(options)) = parse(words) else { panic!("a path") };
    assert_eq!(options.config.as_os_str().as_bytes(), b"-\xff");
    assert!(parse([OsString::from_vec(b"-\xff".to_vec())]).is_err());
}
