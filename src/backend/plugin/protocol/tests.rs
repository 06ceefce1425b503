//! Conversations with a plugin as text: what is put in, and what comes out.
//! Starts no program; tests/it/plugin.rs does.

use super::*;
use crate::backend::Report;
use crate::config::Kind;

struct Bench {
    plugin: Plugin,
    now: Instant,
}

impl Bench {
    fn new(watch: bool, interval: Option<u64>, mode: Mode) -> Bench {
        let options = config::Backend {
            keys: vec!["/a".to_owned()],
            watch_keys: vec!["/a".to_owned()],
            prefix: "/p".to_owned(),
            watch,
            onetime: false,
            interval: interval.map(Duration::from_secs),
            kind: Kind::Mock,
        };
        let settings = Settings {
            id: Id(1),
            path: "/bin/p".to_owned(),
            config: "{}".to_owned(),
            limits: ReadLimits::default(),
            mode,
            seed: 1,
        };
        let mut plugin = Plugin::new(settings, "p", &options);
        plugin.add(Id(1), &options, &mut Vec::new());
        Bench { plugin, now: Instant::now() }
    }

    /// One that has answered its first read.
    fn ready(watch: bool, interval: Option<u64>) -> Bench {
        let mut bench = Bench::new(watch, interval, Mode::Watch);
        bench.check(Input::Turn, &["connect"]);
        bench.check(Input::Connected(PIPES), &["Init 1"]);
        bench.line("1 true", &["GetValues 2"]);
        bench
    }

    #[track_caller]
    fn check(&mut self, input: Input<'_>, want: &[&str]) {
        let mut out = Vec::new();
        self.plugin.on(input, self.now, &mut out);
        assert_eq!(out.iter().filter_map(text).collect::<Vec<_>>(), want);
    }

    /// A reply: the number of the call and its result.
    #[track_caller]
    fn line(&mut self, reply: &str, want: &[&str]) {
        let (id, result) = reply.split_once(' ').unwrap();
        let line = match result.strip_prefix("error ") {
            Some(words) => format!("{{\"id\":{id},\"result\":null,\"error\":\"{words}\"}}\n"),
            None => format!("{{\"id\":{id},\"result\":{result},\"error\":null}}\n"),
        };
        self.check(Input::Body(PIPES, line.as_bytes()), want);
    }

    /// Lets the time come that the plugin waits for.
    #[track_caller]
    fn later(&mut self, want: &[&str]) {
        self.now = self.now.max(self.plugin.due().expect("it waits for a time"));
        self.check(Input::Turn, want);
    }
}

fn text(output: &Output) -> Option<String> {
    match output {
        Output::Connect(_, Security::Plain) => Some("connect".to_owned()),
        Output::Send(_, line) => {
            let call: serde_json::Value = serde_json::from_slice(line).unwrap();
            let method = call["method"].as_str().unwrap().strip_prefix("Plugin.").unwrap();
            let params = match method {
                "WatchPrefix" => format!(" from {}", call["params"][0]["Opts"]["WaitIndex"]),
                _ => String::new(),
            };
            Some(format!("{method} {}{params}", call["id"]))
        }
        Output::Report(_, Report::Snapshot(layer)) => {
            let pair = |(key, value): (&Bytes, &Bytes)| {
                format!("{}={}", String::from_utf8_lossy(key), String::from_utf8_lossy(value))
            };
            Some(layer.iter().map(pair).collect::<Vec<_>>().join(" "))
        }
        Output::Report(_, Report::Log(line)) if line.level == Level::Warn => Some(line.message.to_string()),
        Output::Report(_, Report::Log(_)) | Output::Worked | Output::ResetBackoff | Output::Healthy(_) => None,
        Output::NodeFailed { words, .. } => Some(format!("failed: {words}")),
        Output::Troubled { words } => Some(format!("troubled: {words}")),
        Output::Cancel(_) => Some("cancel".to_owned()),
        other => Some(format!("{other:?}")),
    }
}

#[test]
fn keys_are_read_by_interval() {
    let mut bench = Bench::ready(false, Some(60));
    bench.line("2 {\"/p/a\":\"1\",\"/q\":\"2\"}", &["/a=1 /q=2"]);
    bench.check(Input::Turn, &[]);
    bench.later(&["GetValues 3"]);
    bench.line("3 null", &[""]);
}

#[test]
fn a_change_before_the_watch_is_found() {
    let mut bench = Bench::ready(true, None);
    bench.line("2 {\"/p/a\":\"1\"}", &["/a=1", "WatchPrefix 3 from 0", "GetValues 4"]);
    bench.line("4 {\"/p/a\":\"1\"}", &[]);
    bench.now += Duration::from_secs(5);
    bench.line("3 7", &["WatchPrefix 5 from 7", "GetValues 6"]);
    bench.line("6 {\"/p/a\":\"2\"}", &["/a=2"]);
    let mut bench = Bench::ready(true, None);
    bench.line("2 {\"/p/a\":\"1\"}", &["/a=1", "WatchPrefix 3 from 0", "GetValues 4"]);
    bench.line("4 {\"/p/a\":\"3\"}", &["/a=3"]);
}

#[test]
fn a_change_while_keys_are_read_is_read_once_more() {
    let mut bench = Bench::ready(true, None);
    bench.line("2 {}", &["", "WatchPrefix 3 from 0", "GetValues 4"]);
    // It was answered at once, so the next one waits.
    bench.line("3 1", &[]);
    bench.line("4 {\"/p/a\":\"1\"}", &["/a=1", "GetValues 5"]);
    bench.line("5 {\"/p/a\":\"2\"}", &["/a=2"]);
    bench.later(&["WatchPrefix 6 from 1"]);
}

#[test]
fn what_is_not_answered_in_time_is_started_anew() {
    let mut bench = Bench::new(false, None, Mode::Watch);
    bench.check(Input::Turn, &["connect"]);
    bench.check(Input::Connected(PIPES), &["Init 1"]);
    bench.later(&["failed: plugin /bin/p failed: it did not answer Plugin.Init within 60s"]);
    bench.check(Input::Turn, &["connect"]);
    let mut bench = Bench::ready(false, None);
    bench.later(&["failed: plugin /bin/p failed: it did not answer Plugin.GetValues within 60s"]);
    bench.check(Input::Turn, &["connect"]);
}

#[test]
fn one_that_answers_nothing_while_it_watches_is_read_by_interval() {
    let mut bench = Bench::ready(true, None);
    bench.line("2 {}", &["", "WatchPrefix 3 from 0", "GetValues 4"]);
    let warning = "plugin answers nothing while Plugin.WatchPrefix waits, using `interval` instead";
    bench.later(&[warning, "cancel", "connect"]);
    bench.check(Input::Connected(PIPES), &["Init 5"]);
    bench.line("5 true", &["GetValues 6"]);
    bench.line("6 {}", &[""]);
    bench.later(&["GetValues 7"]);
}

#[test]
fn an_error_is_told_and_the_plugin_runs_on() {
    let mut bench = Bench::ready(true, None);
    bench.line("2 error no store", &["troubled: plugin /bin/p answered an error to Plugin.GetValues: no store"]);
    bench.check(Input::Turn, &["GetValues 3"]);
    bench.line("3 {}", &["", "WatchPrefix 4 from 0", "GetValues 5"]);
    bench.line("5 {}", &[]);
    bench.line("4 error gone", &["troubled: plugin /bin/p answered an error to Plugin.WatchPrefix: gone"]);
    bench.now += PACE;
    bench.check(Input::Turn, &["WatchPrefix 6 from 0", "GetValues 7"]);
}

#[test]
fn what_cannot_be_understood_ends_it() {
    let check = |input: Input<'_>, words: &str| {
        let mut bench = Bench::ready(false, None);
        bench.check(input, &[&format!("failed: plugin /bin/p failed: {words}")]);
        bench.check(Input::Turn, &["connect"]);
    };
    check(Input::Body(PIPES, b"hello\n"), "it wrote no JSON: `hello`");
    check(Input::Body(PIPES, b"{\"id\":9}"), "it answered a call that is not under way: `{\\\"id\\\":9}`");
    let text = b"{\"id\":2,\"result\":true}";
    check(Input::Body(PIPES, text), "it answered Plugin.GetValues with something else than a map of texts");
    check(Input::End(PIPES), "it closed its standard output");
    let failure =
        Failure { kind: crate::backend::protocol::FailureKind::Closed, words: "it exited with status 3".into() };
    check(Input::Failed(PIPES, failure), "it exited with status 3");
    let mut bench = Bench::new(false, None, Mode::Watch);
    bench.check(Input::Turn, &["connect"]);
    bench.check(Input::Connected(PIPES), &["Init 1"]);
    bench.line("1 false", &["failed: plugin /bin/p failed: it answered false to Plugin.Init"]);
}

#[test]
fn one_that_is_not_needed_any_more_is_said_goodbye_to() {
    let mut bench = Bench::ready(false, None);
    bench.line("2 {}", &["", "Close 3"]);
    bench.line("3 true", &[]);
    bench.check(Input::End(PIPES), &[]);
    assert_eq!(bench.plugin.due(), None);
    bench.check(Input::Turn, &[]);
    let mut bench = Bench::ready(false, None);
    bench.line("2 {}", &["", "Close 3"]);
    bench.later(&["cancel"]);
    let mut bench = Bench::new(false, None, Mode::OneShot);
    bench.plugin.give_up();
    bench.check(Input::Turn, &[]);
}
