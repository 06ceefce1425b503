//! Filters in JavaScript, from the files of filter_dir to the result, and the error of a build without JavaScript.

use crate::support::{TempDir, remco};

const CONFIG: &str = r#"
log_level = "debug"
filter_dir = "filters"
[[resource]]
name = "app"
[[resource.template]]
src = "app.tmpl"
dst = "app.conf"
[resource.backend.file]
filepath = "data.json"
keys = ["/"]
watch = true
"#;

/// A folder with one resource that needs filters.
fn folder(template: &str, filters: &[(&str, &str)]) -> TempDir {
    let dir = TempDir::new();
    dir.write("config.toml", CONFIG);
    dir.write("data.json", r#"{"user": {"name": "ann", "id": "7"}}"#);
    dir.write("app.tmpl", template);
    std::fs::create_dir(dir.at("filters")).expect("the folder is new");
    filters.iter().for_each(|(name, text)| dir.write(&format!("filters/{name}"), text));
    dir
}

#[test]
fn a_missing_filter_dir_is_ignored() {
    let dir = folder("{{ \"a\"|upper }}\n", &[]);
    std::fs::remove_dir(dir.at("filters")).expect("it is empty");
    remco(&dir).once().expect_code(0);
    assert_eq!(dir.read("app.conf").as_deref(), Some("A\n"));
}

#[cfg(not(feature = "js"))]
#[test]
fn a_build_without_filters_says_which_has_them() {
    let dir = folder("{{ \"a\"|twice }}\n", &[("twice.js", "In + In")]);
    remco(&dir).once().expect_code(1).expect_log(
        "failed to load `twice.js` of the filter_dir `filters`: this program is built without JavaScript filters: use the \
         `full` build (cargo build --features full)\n",
    );
    assert_eq!(dir.read("app.conf"), None);
}

#[cfg(feature = "js")]
mod built {
    use std::time::{Duration, Instant};

    use rustix::process::Signal;

    use super::folder;
    use crate::support::{LIMIT, remco, wait_until};

    #[test]
    fn filters_are_run() {
        let template = "{{ getv(\"/user/name\")|greet:\"hello\" }}\n{{ greet(getv(\"/user/id\"), 1) }}\n{{ \"a\"|upper }}\n\
                        {% for p in gets(\"/user/*\")|values %}{{ p }},{% endfor %}\n";
        let filters = [
            ("greet.js", "Param + ' ' + In"),
            ("upper.js", "In + ' is not changed'"),
            ("values.js", "In.map(function (pair) { return pair.Value })"),
            ("notes.txt", "this is no filter ("),
        ];
        let dir = folder(template, &filters);
        remco(&dir).once().expect_code(0);
        let text = dir.read("app.conf");
        assert_eq!(text.as_deref(), Some("hello ann\n1 7\na is not changed\n7,ann,"));
    }

    /// The example of docs/javascript.md, as it stands there: each block begins with a line that says what it is.
    #[test]
    fn the_example_of_the_manual_works() {
        let manual = include_str!("../../docs/javascript.md");
        let block = |head: &str| {
            let (_, rest) = manual.split_once(head).unwrap_or_else(|| panic!("no {head:?} in the manual"));
            let (_, rest) = rest.split_once("```\n").expect("a block follows");
            rest.split_once("```").expect("it ends").0
        };
        let dir = folder(block("The template"), &[("toEnv.js", block("`toEnv.js`"))]);
        remco(&dir).once().expect_code(0);
        assert_eq!(dir.read("app.conf").as_deref(), Some(block("gives")));
    }

    #[test]
    fn an_endless_filter_is_named() {
        let dir = folder("{{ \"a\"|spin }}\n", &[("spin.js", "while (true) {}")]);
        let log = "app.tmpl:1:8: spin: filters/spin.js: the template takes more than 100000000 steps";
        remco(&dir).once().expect_code(1).expect_log(log);
        assert_eq!(dir.read("app.conf"), None);
    }

    #[test]
    fn an_exception_is_told() {
        let dir = folder("{{ \"a\"|broken }}\n", &[("broken.js", "\nIn.missing.x")]);
        let log = "app.tmpl:1:8: broken: filters/broken.js:2: TypeError: cannot read property 'x' of undefined";
        remco(&dir).once().expect_code(1).expect_log(log);
    }

    #[test]
    fn a_misspelt_filter_is_refused_with_a_suggestion() {
        let dir = folder("{{ \"a\"|togreek }}\n", &[("toGreek.js", "In")]);
        let log = "unknown filter `togreek`, did you mean `toGreek`?";
        remco(&dir).once().expect_code(1).expect_log(log);
    }

    #[test]
    fn a_filter_that_is_no_javascript_is_refused_at_the_start() {
        let dir = folder("{{ \"a\"|upper }}\n", &[("bad.js", "In.split('/'\n")]);
        remco(&dir)
            .once()
            .expect_code(1)
            .expect_log("filters/bad.js:2: SyntaxError: ")
            .expect_log("nothing was started");
    }

    #[test]
    fn a_reload_takes_filters_anew() {
        let dir = folder("{{ \"a\"|mark }}\n", &[("mark.js", "In + 1")]);
        let program = remco(&dir).start();
        let holds = |text: &str| wait_until(text, LIMIT, || dir.holds("app.conf", text));
        holds("a1\n");
        dir.write("filters/mark.js", "In + 2");
        program.signal(Signal::HUP);
        holds("a2\n");
        dir.write("filters/mark.js", "In +");
        program.signal(Signal::HUP);
        program.wait_for_log("filters/mark.js:1: SyntaxError");
        dir.write("app.tmpl", "{{ \"b\"|mark }}\n");
        dir.write("data.json", "{}");
        holds("b2\n");
        program.stop();
    }

    #[test]
    fn a_filter_at_work_does_not_keep_the_program() {
        let busy = "var s = ''; for (;;) { s = s + In; if (s.length > 100000) s = '' }";
        let dir = folder("{{ \"a\"|busy }}\n", &[("busy.js", busy)]);
        let mut program = remco(&dir).start();
        program.wait_for_log("compiling source template");
        let asked = Instant::now();
        program.signal(Signal::TERM);
        assert_eq!(program.exit_code(), Some(0));
        assert!(asked.elapsed() < Duration::from_secs(2), "{:?}", asked.elapsed());
    }
}
