//! Sessions as text: each file of `traces/` is one. A line `> EVENT` is an event, the lines below it are the session's
//! actions; `1 watch /a from 16` is a request to the second node. `UPDATE_SNAPSHOTS=1 cargo test --lib traces` writes
//! the actions; read the difference before you commit it.

use std::fs;
use std::path::Path;

use super::*;

/// The resource of a trace, from the lines before its first event.
fn plan(text: &str) -> Plan {
    let list = |name: &str| -> &'static [&'static str] {
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
        let words = line.into_iter().flat_map(str::split_whitespace);
        words.map(|word| &*word.to_owned().leak()).collect::<Vec<&'static str>>().leak()
    };
    let goal = if list("goal") == ["once"] { Goal::Once } else { Goal::Watched };
    let (nodes, keys, watch_keys) = (list("nodes"), list("keys"), list("watchKeys"));
    Plan { nodes, keys, watch_keys, goal, login: !list("user").is_empty(), ..WATCHED }
}

/// `/a/1=x@11` as a key, its value and its revision; `/a/1@11` has no value.
fn item(text: &str) -> (&str, Option<&str>, u64) {
    let (pair, revision) = text.rsplit_once('@').expect("an item ends in @REVISION");
    let revision = revision.parse().expect("a revision is a number");
    match pair.split_once('=') {
        Some((key, value)) => (key, Some(value), revision),
        None => (pair, None, revision),
    }
}

impl Bench {
    /// Takes one event of a trace. Returns the actions, a line each.
    fn step(&mut self, event: &str) -> Vec<String> {
        let mut words = event.split(' ');
        let name = words.next().unwrap_or_default();
        let rest = event[name.len()..].trim_start();
        let numbers: Vec<u64> = rest.split(' ').map_while(|word| word.parse().ok()).collect();
        let number = |at: usize| *numbers.get(at).unwrap_or_else(|| panic!("`{event}` lacks a number"));
        let watch = || i64::try_from(number(0)).expect("a watch has a small number");
        let items = rest.split(' ').filter(|word| word.contains('@')).map(item);
        match name {
            "wait" => match self.wait() {
                Duration::ZERO => vec!["at once".to_owned()],
                waited => vec![format!("{waited:?} later")],
            },
            "turn" => self.on(Event::Turn),
            "opened" => self.on(Event::Opened),
            "quiet" => self.on(Event::Quiet),
            "created" => self.on(created(watch(), number(1))),
            "progress" => {
                let (watch_id, header) = (watch(), header(number(1)));
                self.on(answer(WatchAnswer { watch_id, header, ..WatchAnswer::default() }))
            }
            "events" => {
                let event = |(key, value, revision): (&str, Option<&str>, u64)| match value {
                    Some(value) => put(key, value, revision),
                    None => delete(key, revision),
                };
                self.on(events(watch(), items.map(event).collect()))
            }
            "compacted" => {
                let (watch_id, compact_revision) = (watch(), number(1));
                self.on(answer(WatchAnswer { watch_id, canceled: true, compact_revision, ..WatchAnswer::default() }))
            }
            "page" | "part" => {
                let entries: Vec<(&str, Option<&str>, u64)> = items.collect();
                let last = entries.last().map(|(key, ..)| bytes(key));
                for (key, value, revision) in entries {
                    self.session.entry(entry(key, value.unwrap_or_default(), revision)).unwrap();
                }
                self.on(Event::Page(Page { header: header(number(0)), more: name == "part", last }))
            }
            "broken" => self.on(broken(rest)),
            "denied" => self.on(denied()),
            "unauthenticated" => self.on(unauthenticated()),
            "login" => self.on(Event::LoggedIn { user: rest.to_owned() }),
            _ => panic!("there is no event `{name}`"),
        }
    }
}

/// The trace with the session's actions in place of the recorded ones.
fn replayed(trace: &str) -> String {
    let mut bench = Bench::new(plan(trace));
    let mut text = String::new();
    let mut has_begun = false;
    for line in trace.lines() {
        let event = line.strip_prefix("> ");
        has_begun |= event.is_some();
        if event.is_some() || !has_begun || line.is_empty() || line.starts_with('#') {
            text += &format!("{line}\n");
        }
        let answers = event.map(|event| bench.step(event)).unwrap_or_default();
        text.extend(answers.iter().map(|answer| format!("{answer}\n")));
    }
    text
}

#[test]
fn sessions_follow_their_traces() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/backend/etcd/session/traces");
    let mut count = 0;
    for entry in fs::read_dir(&folder).expect("the folder of traces") {
        let path = entry.expect("a trace").path();
        let trace = fs::read_to_string(&path).expect("a trace is text");
        let got = replayed(&trace);
        if std::env::var_os("UPDATE_SNAPSHOTS").is_some() {
            fs::write(&path, &got).expect("a trace can be written");
        } else {
            assert_eq!(got, trace, "{}", path.display());
        }
        count += 1;
    }
    assert!(count > 5, "only {count} traces in {}", folder.display());
}
