//! An update renders only the templates that a change can affect. The log shows which.

use std::fs;

use rustix::process::Signal;

use crate::support::{Config, Etcd, LIMIT, Remco, TempDir, remco, resource, wait_until};

/// The line of a template that was rendered, and compared with its destination.
const RENDERED: &str = "comparing staged and dest config files";
/// The line of one that was not.
const SKIPPED: &str = "not rendering it";

/// The templates that an update has rendered, by their destinations, from this line of the log on.
fn rendered(program: &Remco, from: usize) -> Vec<String> {
    named(program, from, RENDERED)
}

fn named(program: &Remco, from: usize, text: &str) -> Vec<String> {
    let name = |line: &String| {
        let dst = line.split("dest=").nth(1)?.split([' ', '"']).find(|word| !word.is_empty())?;
        Some(dst.rsplit('/').next()?.to_owned())
    };
    let mut names: Vec<String> =
        program.log()[from..].iter().filter(|line| line.contains(text)).filter_map(name).collect();
    names.sort();
    names
}

/// Templates `a`, `b` and `c`, each with a key of its own in `data.json`.
fn three() -> Config {
    let templates = ["a", "b", "c"].into_iter();
    let config = resource("app").set_in("", "log_level", "debug");
    templates.fold(config, |config, name| config.template(&format!("{name}.tmpl"), name)).file("data.json")
}

fn data(a: &str, b: &str, c: &str) -> String {
    format!(r#"{{"a": "{a}", "b": "{b}", "c": "{c}"}}"#)
}

/// Runs `config` in a folder with the three templates, until they are in place.
fn start(config: &Config, args: &[&str]) -> (TempDir, Remco) {
    let dir = TempDir::new();
    for name in ["a", "b", "c"] {
        dir.write(&format!("{name}.tmpl"), format!("{{{{ getv(\"/{name}\") }}}}"));
    }
    dir.write("data.json", data("1", "1", "1"));
    config.write(&dir);
    let program = args.iter().fold(remco(&dir), |program, arg| program.arg(arg)).start();
    wait_until("the first files", LIMIT, || ["a", "b", "c"].iter().all(|name| dir.holds(name, "1")));
    wait_until("their lines", LIMIT, || named(&program, 0, "").len() >= 3);
    (dir, program)
}

/// Does something that leads to an update of the three templates. Returns those that were rendered, when `until` holds.
fn update(program: &Remco, act: impl FnOnce(), until: impl Fn() -> bool) -> Vec<String> {
    let from = program.log().len();
    act();
    // Each template has a line, rendered or not. The lines come later than the files: through a pipe.
    wait_until("the update is over", LIMIT, || until() && named(program, from, "").len() >= 3);
    rendered(program, from)
}

/// Changes a key and waits for its file. Returns the templates that were rendered.
fn change(dir: &TempDir, program: &Remco, keys: [&str; 3], file: &str) -> Vec<String> {
    let expected = keys[["a", "b", "c"].iter().position(|name| *name == file).expect("one of them")];
    let write = || dir.replace("data.json", data(keys[0], keys[1], keys[2]));
    update(program, write, || dir.holds(file, expected))
}

#[test]
fn one_changed_key_of_etcd_renders_one_of_a_hundred_templates() {
    let etcd = Etcd::start();
    let dir = TempDir::new();
    let mut gateway = etcd.gateway();
    let mut config = resource("app").set_in("", "log_level", "debug");
    for n in 0..100 {
        dir.write(
            &format!("{n}.tmpl"),
            format!("{{% for kv in gets(\"/app/{n}/*\") %}}{{{{ kv.Value }}}}{{% endfor %}}{{{{ getv(\"/app/all\", \"\") }}}}"),
        );
        config = config.template(&format!("{n}.tmpl"), &format!("out/{n}"));
        gateway.put(&format!("/app/{n}/x"), "old");
    }
    fs::create_dir(dir.at("out")).expect("the name is free");
    config.etcd(&etcd.url()).keys(["/app"]).watch().write(&dir);
    let program = remco(&dir).start();
    wait_until("the first files", LIMIT, || {
        (0..100).all(|n| dir.holds(&format!("out/{n}"), "old")) && named(&program, 0, "").len() >= 100
    });

    let from = program.log().len();
    gateway.put("/app/42/x", "new");
    let lines = |from| named(&program, from, "").len();
    wait_until("the change is in its file", LIMIT, || dir.holds("out/42", "new") && lines(from) >= 100);
    assert_eq!(rendered(&program, from), ["42"]);
    // A key that only one of them lists, and one that all of them ask for.
    let from = program.log().len();
    gateway.put("/app/7/y", "+");
    wait_until("the change is in its file", LIMIT, || dir.holds("out/7", "old+") && lines(from) >= 100);
    assert_eq!(rendered(&program, from), ["7"]);
    gateway.put("/app/all", "!");
    wait_until("the change is in all files", LIMIT, || dir.holds("out/42", "new!") && dir.holds("out/99", "old!"));
    program.stop();
}

#[test]
fn a_file_that_is_read_again_is_compared() {
    let (dir, program) = start(&three().watch(), &[]);
    assert_eq!(change(&dir, &program, ["1", "2", "1"], "b"), ["b"]);
    assert_eq!(change(&dir, &program, ["3", "2", "3"], "c"), ["a", "c"]);
    program.stop();
}

#[test]
fn render_all_renders_all() {
    let (dir, program) = start(&three().watch(), &["--render-all"]);
    assert_eq!(change(&dir, &program, ["1", "2", "1"], "b"), ["a", "b", "c"]);
    let log = program.stop();
    assert!(!log.iter().any(|line| line.contains(SKIPPED)), "{log:#?}");
}

#[test]
fn sighup_and_an_interval_render_all() {
    let (dir, program) = start(&three().watch(), &[]);
    let from = program.log().len();
    program.signal(Signal::HUP);
    wait_until("all are rendered", LIMIT, || rendered(&program, from) == ["a", "b", "c"]);
    assert_eq!(change(&dir, &program, ["1", "1", "2"], "c"), ["c"]);
    program.stop();

    let (_dir, program) = start(&three().set("interval", 1), &[]);
    let from = program.log().len();
    wait_until("the interval is over", LIMIT, || rendered(&program, from).len() >= 3);
    let log = program.stop();
    assert!(!log.iter().any(|line| line.contains(SKIPPED)), "{log:#?}");
}

#[test]
fn a_destination_that_is_not_as_it_was_written_is_mended() {
    let (dir, program) = start(&three().watch(), &[]);
    dir.write("a", "2");
    dir.replace("c", "by hand");
    assert_eq!(change(&dir, &program, ["1", "2", "1"], "b"), ["a", "b", "c"]);
    wait_until("all are as they should be", LIMIT, || dir.holds("a", "1") && dir.holds("c", "1"));
    fs::remove_file(dir.at("c")).expect("it is there");
    assert_eq!(change(&dir, &program, ["1", "3", "1"], "b"), ["b", "c"]);
    wait_until("the file is there again", LIMIT, || dir.holds("c", "1"));
    program.stop();
}

#[test]
fn a_template_that_has_changed_is_rendered() {
    let (dir, program) = start(&three().watch(), &[]);
    dir.write("part", "part");
    dir.replace("a.tmpl", "{% set f = \"part\" %}{% include f %}{{ getv(\"/a\") }}");
    assert_eq!(change(&dir, &program, ["1", "2", "1"], "b"), ["a", "b"]);
    assert!(dir.holds("a", "part1"));
    assert_eq!(change(&dir, &program, ["1", "3", "1"], "b"), ["b"]);
    // What a computed include has brought counts too.
    dir.replace("part", "other");
    assert_eq!(change(&dir, &program, ["1", "4", "1"], "b"), ["a", "b"]);
    assert!(dir.holds("a", "other1"));
    program.stop();
}

#[test]
fn a_template_that_asks_the_machine_is_rendered_always() {
    let (dir, program) = start(&three().watch(), &[]);
    let mut value = 1;
    let mut next = || {
        value += 1;
        change(&dir, &program, ["1", &value.to_string(), "1"], "b")
    };
    let asks = [
        "{{ unixTS() }}",
        "{{ dateRFC3339() }}",
        "{% now \"2006\" %}",
        "{% lorem 3 w random %}",
        "{{ \"text\"|random }}",
        "{{ fileExists(\"none\") }}",
        "{% for address in lookupIP(\"127.0.0.1\") %}{{ address }}{% endfor %}",
    ];
    for ask in asks {
        dir.replace("a.tmpl", format!("{{{{ getv(\"/a\") }}}}{ask}"));
        assert_eq!(next(), ["a", "b"], "{ask} is new");
        assert_eq!(next(), ["a", "b"], "{ask}");
        dir.replace("a.tmpl", format!("{{{{ getv(\"/a\") }}}}{{% if getv(\"/a\") == \"2\" %}}{ask}{{% endif %}}"));
        assert_eq!(next(), ["a", "b"], "{ask} is new");
        assert_eq!(next(), ["b"], "{ask} is not reached");
    }
    program.stop();
}

#[test]
fn a_result_that_is_not_in_place_is_rendered_again() {
    let (dir, program) =
        start(&three().set_in("[[resource.template]]", "check_cmd", "! grep -q bad {{.src}}").watch(), &[]);
    let from = program.log().len();
    // The last template has the check.
    dir.replace("data.json", data("1", "1", "bad"));
    wait_until("the check fails twice", LIMIT, || {
        rendered(&program, from).iter().filter(|name| *name == "c").count() >= 2
    });
    assert!(rendered(&program, from).iter().all(|name| name == "c"));
    assert!(dir.holds("c", "1"));
    assert_eq!(change(&dir, &program, ["1", "1", "good"], "c"), ["c"]);
    program.stop();
}

#[test]
fn a_change_in_a_hidden_layer_renders_nothing() {
    let etcd = Etcd::start();
    let (dir, program) = start(&three().watch().etcd(&etcd.url()).watch(), &[]);
    // The file overrides etcd.
    assert_eq!(update(&program, || etcd.put("/b", "hidden"), || true), [""; 0]);
    let uncovered = || dir.replace("data.json", "{\"a\": \"1\", \"c\": \"1\"}");
    assert_eq!(update(&program, uncovered, || dir.holds("b", "hidden")), ["b"]);
    assert_eq!(update(&program, || etcd.put("/b", "seen"), || dir.holds("b", "seen")), ["b"]);
    assert_eq!(update(&program, || dir.replace("data.json", data("1", "over", "1")), || dir.holds("b", "over")), ["b"]);
    assert_eq!(update(&program, || etcd.delete("/b"), || true), [""; 0]);
    program.stop();
}

#[test]
fn what_changed_before_a_guard_refused_is_rendered_when_it_accepts() {
    let (dir, program) = start(&three().watch().table("[resource.guard]").set("min_keys", 2), &[]);
    dir.replace("data.json", "{\"a\": \"2\"}");
    program.wait_for_log("min_keys");
    assert!(["a", "b", "c"].iter().all(|name| dir.holds(name, "1")), "the guard keeps the files");
    assert_eq!(change(&dir, &program, ["2", "2", "1"], "b"), ["a", "b", "c"], "c went, and came again");
    assert!(dir.holds("a", "2"));
    assert_eq!(change(&dir, &program, ["2", "3", "1"], "b"), ["b"]);
    program.stop();
}
