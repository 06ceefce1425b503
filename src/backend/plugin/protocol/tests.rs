//! Sessions with a plugin as text: inputs and outputs, one line each.
//! Starts no program; tests/it/plugin.rs does.

use super::*;
use crate::backend::Report;
use crate::backend::driver::core::{Command, Core};
use crate::backend::failover::{Deadline, Failover, Start};
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
            secret: false,
            kind: Kind::Mock,
        };
        let settings = Settings {
            id: Id(1),
            path: "/bin/p".to_owned(),
            config: "{}".to_owned(),
            redactor: Redactor::default(),
            limits: ReadLimits::default(),
            mode,
            seed: 1,
        };
        let mut plugin = Plugin::new(settings, "p", &options);
        plugin.add(Id(1), &options, &mut Vec::new());
        Bench { plugin, now: Instant::now() }
    }

    /// A bench with a plugin that has answered its first read.
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

    /// Advances the time to the next due moment.
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
        Output::NodeFailed { words, not_before: None } => Some(format!("failed: {words}")),
        Output::NodeFailed { words, .. } => Some(format!("failed for long: {words}")),
        Output::FailFast => Some("fail fast".to_owned()),
        Output::RequestFailed { words } => Some(format!("troubled: {words}")),
        Output::Cancel(_) => Some("cancel".to_owned()),
        Output::Release(_) => Some("release".to_owned()),
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
    // The answer came at once, so the next call waits.
    bench.line("3 1", &[]);
    bench.line("4 {\"/p/a\":\"1\"}", &["/a=1", "GetValues 5"]);
    bench.line("5 {\"/p/a\":\"2\"}", &["/a=2"]);
    bench.later(&["WatchPrefix 6 from 1"]);
}

#[test]
fn what_is_not_answered_in_time_is_started_again() {
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
fn an_error_is_reported_and_the_plugin_keeps_running() {
    let mut bench = Bench::ready(true, None);
    bench.line("2 error no store", &["troubled: plugin /bin/p answered an error to Plugin.GetValues: no store"]);
    bench.check(Input::Turn, &["GetValues 3"]);
    bench.line("3 {}", &["", "WatchPrefix 4 from 0", "GetValues 5"]);
    bench.line("5 {}", &[]);
    bench.line("4 error gone", &["troubled: plugin /bin/p answered an error to Plugin.WatchPrefix: gone"]);
    bench.now += PACE;
    bench.check(Input::Turn, &["WatchPrefix 6 from 0", "GetValues 7"]);
    // No request follows until the next turn, whatever the plugin answers.
    bench.line("7 error a\\nb", &["troubled: plugin /bin/p answered an error to Plugin.GetValues: a b"]);
    bench.now += PACE;
    bench.line("6 1", &[]);
    bench.check(Input::Turn, &["WatchPrefix 8 from 1", "GetValues 9"]);
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
    let mut bench = Bench::new(true, None, Mode::Watch);
    bench.check(Input::Turn, &["connect"]);
    let missing = Failure { kind: FailureKind::Unusable, words: "there is no program".into() };
    let words = "failed for long: plugin /bin/p failed: there is no program";
    bench.check(Input::Failed(PIPES, missing), &["fail fast", words]);
    let mut bench = Bench::new(false, None, Mode::Watch);
    bench.check(Input::Turn, &["connect"]);
    bench.check(Input::Connected(PIPES), &["Init 1"]);
    bench.line("1 false", &["failed: plugin /bin/p failed: it answered false to Plugin.Init"]);
}

#[test]
fn an_unneeded_plugin_gets_the_closing_message() {
    let mut bench = Bench::ready(false, None);
    bench.line("2 {}", &["", "Close 3", "release"]);
    assert_eq!(bench.plugin.due(), None);
    bench.check(Input::Turn, &[]);
    let mut bench = Bench::new(false, None, Mode::OneShot);
    bench.plugin.give_up();
    bench.check(Input::Turn, &[]);
}

/// Counts the starts and calls of a program in an hour with a driver's core. `line` returns the answer to a call.
fn hour(bench: &mut Bench, mut line: impl FnMut(&str) -> Option<String>) -> (usize, usize) {
    let random = |bound| bound / 2;
    let failover = Failover::new(vec!["/bin/p".to_owned()], Start::First, Deadline::Never, Box::new(random));
    let mut core = Core::new("p", failover);
    let (begun, mut starts, mut calls) = (bench.now, 0, 0);
    let mut inputs = vec![];
    while bench.now < begun + Duration::from_secs(3600) {
        let mut out = Vec::new();
        match inputs.pop() {
            Some(None) => bench.plugin.on(Input::Connected(PIPES), bench.now, &mut out),
            Some(Some(line)) => bench.plugin.on(Input::Body(PIPES, String::as_bytes(&line)), bench.now, &mut out),
            None => {
                let due = core.due(bench.plugin.due());
                // The program takes a second for an answer.
                bench.now = due.unwrap_or(bench.now + Duration::from_secs(1)).max(bench.now);
                if core.pause(bench.now).is_none() {
                    bench.plugin.on(Input::Turn, bench.now, &mut out);
                }
            }
        }
        let mut commands = Vec::new();
        out.into_iter().for_each(|output| core.take(output, &mut bench.plugin, bench.now, &mut commands));
        for command in commands {
            match command {
                Command::Connect(..) => {
                    starts += 1;
                    inputs.insert(0, None);
                }
                Command::Send(_, sent) => {
                    calls += 1;
                    let sent = String::from_utf8(sent).unwrap();
                    inputs.splice(0..0, line(&sent).map(Some));
                }
                Command::CancelAll => inputs.clear(),
                _ => {}
            }
        }
    }
    (starts, calls)
}

/// The answer to a call by its text, with the fields after its number.
fn to_call(sent: &str, answers: &[(&str, &str)]) -> Option<String> {
    let call: serde_json::Value = serde_json::from_str(sent).unwrap();
    let (_, fields) = answers.iter().find(|(method, _)| sent.contains(method))?;
    Some(format!("{{\"id\":{},{fields}}}\n", call["id"]))
}

#[test]
fn a_watch_that_is_no_watch_is_tried_ever_more_slowly() {
    let good = [("Init", "\"result\":true"), ("GetValues", "\"result\":{}")];
    for bad in ["\"result\":\"text\"", "\"result\":{}", "\"error\":\"no\""] {
        let mut bench = Bench::new(true, None, Mode::Watch);
        let answers = [good[0], good[1], ("WatchPrefix", bad)];
        let (starts, calls) = hour(&mut bench, |sent| to_call(sent, &answers));
        // The pause is at most 7.5 s, and each round has two reads and a watch.
        assert!(starts < 500 && calls < 2500, "{bad}: {starts} starts, {calls} calls");
        assert!(calls > 900, "{bad}: {calls} calls");
    }
    // Reads fail although the plugin reports changes.
    let mut bench = Bench::new(true, None, Mode::Watch);
    let mut reads = 0;
    let (starts, calls) = hour(&mut bench, |sent| {
        reads += usize::from(sent.contains("GetValues"));
        let values = if reads % 3 == 0 { "\"error\":\"no\"" } else { "\"result\":{}" };
        to_call(sent, &[good[0], ("GetValues", values), ("WatchPrefix", "\"result\":1")])
    });
    assert!(starts == 1 && calls < 5000, "{starts} starts, {calls} calls");
}
