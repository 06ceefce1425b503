//! Days of a session in microseconds: events in, actions out, one line each.
//! The clock and the etcd belong to the test.

use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;

use super::super::mirror::{Comparing, Mirror};
use super::super::subscription::reading::HELD;
use super::super::subscription::{PAGE, SMALLEST_PAGE};
use super::super::wire::{EventKind, Header, Reason, Span, WatchAnswer};
use super::failure::SPREAD;
use super::stream::LONGEST_SILENCE;
use super::*;
use crate::backend::Change;
use crate::backend::driver::core::{Command, Core};
use crate::backend::failover::{Deadline, Failover, LASTING, LONGEST_BACKOFF, SHORTEST_BACKOFF, Start};
use crate::config::ReadLimits;
use crate::store::{Bytes, Layer};

mod traces;

/// The default cluster of all answers.
const CLUSTER: u64 = 7;

/// The default silence before a probe.
const SILENCE: Duration = Duration::from_secs(30);
const PATIENCE: Duration = Duration::from_secs(3);
const TIMEOUT: Duration = Duration::from_secs(20);

/// The first resource, whose lines have no mark.
const FIRST: Id = Id(0);

struct Bench {
    session: Session,
    core: Core,
    /// The number of resources so far.
    ids: u64,
    now: Instant,
    /// The actions after the last resource was added.
    added: Vec<String>,
}

#[derive(Clone, Copy)]
struct Plan {
    nodes: &'static [&'static str],
    keys: &'static [&'static str],
    watch_keys: &'static [&'static str],
    goal: Goal,
    interval: Option<Duration>,
    login: bool,
    limits: ReadLimits,
}

const WATCHED: Plan = Plan {
    nodes: &["http://a"],
    keys: &["/a"],
    watch_keys: &["/a"],
    goal: Goal::Watched,
    interval: None,
    login: false,
    limits: ReadLimits { max_keys: 1000, max_decoded: 1000 },
};

fn header(revision: u64) -> Header {
    Header { cluster_id: CLUSTER, revision }
}

fn bytes(text: &str) -> Bytes {
    Rc::from(text.as_bytes())
}

fn entry(key: &str, value: &str, mod_revision: u64) -> Entry {
    Entry { key: bytes(key), value: bytes(value), mod_revision }
}

fn put(key: &str, value: &str, revision: u64) -> wire::Event {
    wire::Event { kind: EventKind::Put, entry: entry(key, value, revision) }
}

fn delete(key: &str, revision: u64) -> wire::Event {
    wire::Event { kind: EventKind::Delete, entry: entry(key, "", revision) }
}

fn created(watch_id: i64, revision: u64) -> Event {
    answer(WatchAnswer { watch_id, created: true, header: header(revision), ..WatchAnswer::default() })
}

fn events(watch_id: i64, events: Vec<wire::Event>) -> Event {
    let revision = events.last().map_or(0, |event| event.entry.mod_revision);
    answer(WatchAnswer { watch_id, header: header(revision), events, ..WatchAnswer::default() })
}

fn answer(answer: WatchAnswer) -> Event {
    Event::Message(Message::Watch(answer))
}

fn broken(words: &str) -> Event {
    Event::Broken { words: words.into(), resume: Resume::Possible }
}

fn refused(words: &str) -> Event {
    Event::Refused(Refusal { reason: Reason::Other, words: words.into() })
}

fn unauthenticated() -> Event {
    Event::Refused(Refusal { reason: Reason::Unauthenticated, words: "HTTP 401: invalid auth token".into() })
}

fn denied() -> Event {
    Event::Refused(Refusal { reason: Reason::Denied, words: "HTTP 403: permission denied".into() })
}

fn revision_gone() -> Event {
    Event::Refused(Refusal { reason: Reason::RevisionGone, words: "compacted".into() })
}

impl Bench {
    /// A bench with the smallest random numbers.
    fn new(plan: Plan) -> Bench {
        Bench::with_random(plan, Box::new(|_| 0))
    }

    fn with_random(plan: Plan, random: Box<dyn FnMut(u64) -> u64>) -> Bench {
        let now = Instant::now();
        let settings = Settings {
            nodes: plan.nodes.join(","),
            login: plan.login,
            watch_deadline: SILENCE,
            stream_timeout: PATIENCE,
        };
        let deadline = if plan.goal == Goal::Once { Deadline::After(TIMEOUT) } else { Deadline::Never };
        let failover = Failover::new(strings(plan.nodes), Start::First, deadline, Box::new(|_| 0));
        let mut session = Session::new(settings, now, random);
        session.use_node(failover.name());
        let mut bench = Bench { session, core: Core::new(NAME, failover), ids: 0, now, added: Vec::new() };
        bench.add(plan);
        bench
    }

    /// Adds a resource to the session.
    fn add(&mut self, plan: Plan) -> Id {
        let mut actions = Vec::new();
        let id = Id(self.ids);
        self.ids += 1;
        self.session.add(id, wanted(plan), &mut actions);
        let lines = self.lines(actions);
        self.added.extend(lines);
        id
    }

    fn remove(&mut self, id: Id) -> Vec<String> {
        let mut actions = Vec::new();
        self.session.remove(id, &mut actions);
        self.lines(actions)
    }

    fn on(&mut self, event: Event) -> Vec<String> {
        let mut all = mem::take(&mut self.added);
        if matches!(event, Event::Turn) && self.core.pause(self.now).is_some() {
            return all;
        }
        let event = self.of_what_is_under_way(event);
        let mut actions = Vec::new();
        self.session.on(event, self.now, &mut actions);
        all.extend(self.lines(actions));
        all
    }

    /// The event for the pending request: a broken stream or a broken request.
    fn of_what_is_under_way(&self, event: Event) -> Event {
        match event {
            Event::Broken { words, resume } if self.session.asked.is_none() => Event::StreamBroken { words, resume },
            event => event,
        }
    }

    /// When the next turn is due.
    fn due(&self) -> Option<Instant> {
        self.core.due(self.session.due())
    }

    /// The actions as the driver performs them, one line each.
    fn lines(&mut self, actions: Vec<Action>) -> Vec<String> {
        let mut lines = Vec::new();
        for action in actions {
            match action {
                Action::Ask(request) => lines.push(format!("{} {}", self.core.failover().node(), body(&request))),
                Action::Abort => lines.push("abort".into()),
                Action::Close => lines.push("close".into()),
                Action::Emit(output) => {
                    let mut commands = Vec::new();
                    self.core.take(output, &mut self.session, self.now, &mut commands);
                    lines.extend(commands.iter().filter_map(reported));
                }
            }
        }
        lines
    }

    /// Checks the actions after an event.
    #[track_caller]
    fn check(&mut self, event: Event, want: &[&str]) {
        assert_eq!(self.on(event), want);
    }

    #[track_caller]
    fn turn(&mut self, want: &[&str]) {
        self.check(Event::Turn, want);
    }

    /// Advances the time to the next due turn, and returns how long that took.
    fn wait(&mut self) -> Duration {
        let due = self.due().expect("a turn is wanted");
        let waited = due.saturating_duration_since(self.now);
        self.now += waited;
        waited
    }

    #[track_caller]
    fn page(&mut self, revision: u64, entries: &[(&str, &str, u64)], want: &[&str]) {
        self.part_of_page(revision, entries, false, want);
    }

    #[track_caller]
    fn part_of_page(&mut self, revision: u64, entries: &[(&str, &str, u64)], more: bool, want: &[&str]) {
        entries.iter().for_each(|(key, value, revision)| self.session.entry(entry(key, value, *revision)).unwrap());
        let last = entries.last().map(|(key, ..)| bytes(key));
        self.check(Event::Page(Page { header: header(revision), more, last }), want);
    }

    /// A session that watches, with nothing read at revision 10.
    fn watching(plan: Plan) -> Bench {
        let mut bench = Bench::new(plan);
        bench.on(Event::Turn);
        for _ in plan.keys {
            bench.on(Event::Page(Page { header: header(10), ..Page::default() }));
            bench.on(Event::Turn);
        }
        bench.check(Event::Opened, &[]);
        for id in 1..=bench.session.subscriptions[&FIRST].watches.len() {
            bench.check(created(id as i64, 10), &[]);
        }
        assert!(bench.session.listens());
        bench
    }
}

fn strings(list: &[&str]) -> Vec<String> {
    list.iter().map(|text| text.to_string()).collect()
}

fn wanted(plan: Plan) -> Wanted {
    let mirror = Mirror::new("", &strings(plan.keys), &strings(plan.watch_keys), Comparing::Yes);
    Wanted { prefix: "/p".into(), goal: plan.goal, interval: plan.interval, mirror, limits: plan.limits }
}

/// The text of a report command; `None` for debug lines, which have their own test.
fn reported(command: &Command) -> Option<String> {
    match command {
        Command::Report(_, Report::Log(line)) if line.level == Level::Debug => None,
        Command::Report(FIRST, report) => Some(report_line(report)),
        Command::Report(Id(id), report) => Some(format!("#{id} {}", report_line(report))),
        Command::CancelAll => None,
        other => Some(format!("{other:?}")),
    }
}

fn report_line(report: &Report) -> String {
    let plain = |bytes: &[u8]| String::from_utf8_lossy(bytes).replace('\0', "\\0");
    match report {
        Report::Snapshot(layer) => {
            let pairs = layer.iter().map(|(key, value)| format!(" {}={}", plain(key), plain(value)));
            format!("snapshot{}", pairs.collect::<String>())
        }
        Report::Changes { changes, trigger } => {
            let list = changes.iter().map(|change| match change {
                Change::Put(key, value) => format!(" {}={}", plain(key), plain(value)),
                Change::Delete(key) => format!(" -{}", plain(key)),
            });
            format!("{}{}", if *trigger { "trigger" } else { "changes" }, list.collect::<String>())
        }
        Report::Failed(words) => format!("failed: {words}"),
        Report::Recovered => "recovered".into(),
        Report::Log(line) => {
            let fields = line.fields.iter().filter(|(name, _)| *name != "backend");
            format!(
                "{:?}: {}{}",
                line.level,
                line.message,
                fields.map(|(n, v)| format!(" {n}={v}")).collect::<String>()
            )
        }
    }
}

#[test]
fn the_revision_is_that_of_the_read_and_of_what_followed() {
    let mut bench = Bench::new(WATCHED);
    bench.on(Event::Turn);
    assert_eq!(bench.session.revision(FIRST), None);
    let mut bench = Bench::watching(WATCHED);
    assert_eq!((bench.session.revision(FIRST), bench.session.revision(Id(9))), (Some(10), None));
    bench.on(events(1, vec![put("/a", "1", 12)]));
    assert_eq!(bench.session.revision(FIRST), Some(12));
    // All events up to this one have arrived.
    bench.on(answer(WatchAnswer { watch_id: 1, header: header(15), ..WatchAnswer::default() }));
    assert_eq!(bench.session.revision(FIRST), Some(15));
}

/// "range /a to /b", "range /a to /b at 5", "watch /a from 6".
fn body(request: &Request) -> String {
    let plain = |value: &serde_json::Value| {
        let text = BASE64_STANDARD.decode(value.as_str().unwrap()).unwrap();
        String::from_utf8(text).unwrap().replace('\0', "\\0")
    };
    let number = |value: &serde_json::Value| value.as_str().unwrap().parse::<u64>().unwrap();
    let objects = serde_json::Deserializer::from_str(&request.body).into_iter::<serde_json::Value>();
    let parts = objects.map(Result::unwrap).map(|body| match request.kind {
        RequestKind::Login => unreachable!("it has no body"),
        RequestKind::Range if body["keys_only"] == true => match plain(&body["range_end"]).as_str() {
            "" => "newest revision".to_string(),
            end => format!("may read {} to {end}", plain(&body["key"])),
        },
        RequestKind::Range => {
            let range = format!("range {} to {}", plain(&body["key"]), plain(&body["range_end"]));
            match number(&body["revision"]) {
                0 => range,
                revision => format!("{range} at {revision}"),
            }
        }
        RequestKind::Watch => {
            let create = &body["create_request"];
            // The first wanted revision: the request asks from one earlier.
            format!("watch {} from {}", plain(&create["key"]), number(&create["start_revision"]) + 1)
        }
    });
    match request.kind {
        RequestKind::Login => "login".into(),
        RequestKind::Range | RequestKind::Watch => parts.collect::<Vec<_>>().join(", "),
    }
}

#[test]
fn reads_pages_at_one_revision_and_watches_from_the_next() {
    let mut bench = Bench::new(Plan { keys: &["/b", "/a"], watch_keys: &["/a", "/r"], ..WATCHED });
    assert_eq!(bench.wait(), Duration::ZERO);
    bench.turn(&["Info: set backend nodes nodes=http://a version=3", "0 range /a to /b"]);
    bench.part_of_page(10, &[("/a/1", "x", 3), ("/a/2", "y", 4)], true, &[]);
    assert_eq!(bench.wait(), Duration::ZERO);
    bench.turn(&["0 range /a/2\\0 to /b at 10"]);
    bench.page(12, &[("/a/3", "z", 5)], &[]);
    bench.turn(&["0 range /b to /c at 10"]);
    bench.page(13, &[("/b", "w", 1)], &["snapshot /a/1=x /a/2=y /a/3=z /b=w"]);
    bench.turn(&["0 watch /a from 11, watch /b from 11, watch /r from 11"]);
    bench.check(Event::Opened, &[]);
    (1..=3).for_each(|id| bench.check(created(id, 13), &[]));
    bench.turn(&[]);
    assert_eq!(bench.wait(), SILENCE * 9 / 10);
}

#[test]
fn debug_lines_report_every_read() {
    let mut bench = Bench::new(WATCHED);
    let mut actions = Vec::new();
    bench.session.add(Id(1), wanted(WATCHED), &mut actions);
    let Action::Emit(Output::Report(Id(1), report)) = &actions[1] else { panic!("{actions:?}") };
    assert_eq!(report_line(report), "Debug: retrieving keys key_prefix=/p");
}

#[test]
fn what_comes_together_is_reported_as_one() {
    let mut bench = Bench::watching(Plan { keys: &["/a", "/b"], watch_keys: &["/r"], ..WATCHED });
    bench.check(events(1, vec![put("/a/1", "x", 11), put("/a/2", "y", 11), delete("/a/1", 12)]), &[]);
    bench.check(events(2, vec![put("/b", "z", 13)]), &[]);
    bench.check(Event::Quiet, &["changes /a/1=x /a/2=y -/a/1 /b=z"]);
    bench.check(Event::Quiet, &[]);
    bench.check(events(3, vec![put("/r", "", 14)]), &[]);
    bench.check(events(1, vec![put("/a/1", "x", 15)]), &[]);
    bench.check(Event::Quiet, &["trigger /a/1=x"]);
    bench.check(events(3, vec![put("/r", "", 20)]), &[]);
    bench.check(Event::Quiet, &["trigger"]);
    bench.check(events(1, vec![put("/a/1", "overtaken", 19)]), &[]);
    bench.check(Event::Quiet, &["trigger /a/1=overtaken"]);
}

#[test]
fn what_the_read_had_is_not_applied_again() {
    let mut bench = Bench::watching(WATCHED);
    bench.check(events(1, vec![put("/a", "old", 10), put("/a", "new", 11)]), &[]);
    bench.check(Event::Quiet, &["trigger /a=new"]);
    bench.check(events(1, vec![put("/a", "again", 11)]), &[]);
    bench.check(Event::Quiet, &[]);
}

#[test]
fn one_shot_asks_each_node_at_once() {
    let plan = Plan { nodes: &["http://a", "http://b", "http://c"], goal: Goal::Once, ..WATCHED };
    let mut bench = Bench::new(plan);
    bench.turn(&["Info: set backend nodes nodes=http://a,http://b,http://c version=3", "0 range /a to /b"]);
    bench.check(broken("connection refused"), &[]);
    assert_eq!(bench.wait(), Duration::ZERO);
    bench.turn(&["1 range /a to /b"]);
    bench.part_of_page(10, &[("/a/1", "x", 3)], true, &[]);
    bench.turn(&["1 range /a/1\\0 to /b at 10"]);
    bench.check(refused("HTTP 503"), &[]);
    bench.turn(&["2 range /a/1\\0 to /b at 10"]);
    bench.page(10, &[("/a/2", "y", 4)], &["snapshot /a/1=x /a/2=y"]);
    assert_eq!(bench.due(), None);
    bench.turn(&[]);
}

#[test]
fn one_shot_tries_as_long_as_it_may() {
    let mut bench = Bench::new(Plan { nodes: &["http://a", "http://b"], goal: Goal::Once, ..WATCHED });
    bench.add(Plan { goal: Goal::Once, keys: &["/z"], ..WATCHED });
    bench.on(Event::Turn);
    bench.check(broken("connection refused"), &[]);
    let begun = bench.now;
    bench.turn(&["1 range /z to /{"]);
    let both = "failed to read from http://a: connection refused; failed to read from http://b: no answer";
    let warning = format!("Warn: no node answers, trying again error={both}");
    bench.check(broken("no answer"), &[&warning, &format!("#1 {warning}")]);
    assert_eq!(bench.wait(), SHORTEST_BACKOFF);
    let mut last = Vec::new();
    while last.is_empty() {
        let node = bench.core.failover().node();
        // Each node in turn.
        let range = if node == 0 { "range /a to /b" } else { "range /z to /{" };
        bench.turn(&[&format!("{node} {range}")]);
        last = bench.on(broken(if node == 0 { "connection refused" } else { "no answer" }));
        if last.is_empty() {
            bench.wait();
        }
    }
    assert_eq!(last, [format!("failed: {both}"), format!("#1 failed: {both}")]);
    assert_eq!(bench.now - begun, TIMEOUT - Duration::from_secs(1), "the last attempt has some time");
    assert_eq!(bench.due(), None);
    bench.turn(&[]);
}

#[test]
fn one_shot_ends_however_strange_the_answers_are() {
    let strange: [fn(&mut Bench); 5] = [
        |bench| drop(bench.on(Event::Page(Page::default()))),
        |bench| drop(bench.on(revision_gone())),
        |bench| drop(bench.on(denied())),
        |bench| drop(bench.on(unauthenticated())),
        |bench| {
            bench.on(Event::Page(Page { header: header(10), more: true, last: Some(bytes("/a/1")) }));
            bench.on(Event::Turn);
            bench.on(Event::Page(Page { header: header(10), more: true, last: None }));
        },
    ];
    for answer in strange {
        let mut bench = Bench::new(Plan { nodes: &["http://a", "http://b"], goal: Goal::Once, ..WATCHED });
        let mut turns = 0;
        while bench.due().is_some() {
            bench.wait();
            if bench.on(Event::Turn).iter().any(|line| line.contains("range")) {
                answer(&mut bench);
            }
            turns += 1;
            assert!(turns < 100);
        }
        assert!(!bench.session.subscriptions[&FIRST].needs_node());
    }
}

#[test]
fn rests_longer_after_every_round() {
    for nodes in [&["http://a"][..], &["http://a", "http://b", "http://c"]] {
        let mut shortest = Bench::new(Plan { nodes, ..WATCHED });
        let mut longest = Bench::with_random(Plan { nodes, ..WATCHED }, Box::new(|bound| bound - 1));
        for round in 0..12 {
            for _ in nodes {
                let least = (SHORTEST_BACKOFF * 2u32.pow(round)).min(LONGEST_BACKOFF / 2);
                for (bench, from, to) in [(&mut shortest, least, least), (&mut longest, least, least * 2)] {
                    assert!(bench.on(Event::Turn).iter().any(|line| line.contains("range")), "round {round}");
                    bench.on(broken("connection refused"));
                    bench.turn(&[]);
                    let rested = bench.wait();
                    assert!((from..=to).contains(&rested), "round {round}: {rested:?}");
                }
            }
        }
    }
}

#[test]
fn a_failure_reads_the_same_in_every_round() {
    let mut bench = Bench::new(Plan { nodes: &["http://a", "http://b"], ..WATCHED });
    let mut attempt = |words: &str, want: &str| {
        bench.on(Event::Turn);
        bench.check(broken(words), &[want]);
        bench.wait();
    };
    let both = "failed: failed to read from http://a: connection refused; failed to read from http://b: no answer";
    attempt("connection refused", "failed: failed to read from http://a: connection refused");
    attempt("no answer", both);
    attempt("connection refused", both);
    attempt("no answer", both);
    bench.on(Event::Turn);
    bench.page(10, &[], &["snapshot"]);
    bench.turn(&["0 watch /a from 11"]);
    bench.on(Event::Opened);
    bench.check(created(1, 10), &["recovered"]);
}

#[test]
fn a_stream_that_lasted_was_no_failure() {
    let mut bench = Bench::watching(WATCHED);
    let mut rested = |lasted: Duration| {
        bench.now += lasted;
        bench.on(broken("connection closed"));
        let rested = bench.wait();
        bench.turn(&["0 watch /a from 11"]);
        bench.on(Event::Opened);
        bench.on(created(1, 10));
        rested
    };
    assert_eq!(rested(Duration::ZERO), SHORTEST_BACKOFF);
    assert_eq!(rested(Duration::ZERO), SHORTEST_BACKOFF * 2);
    assert_eq!(rested(Duration::from_secs(9)), SHORTEST_BACKOFF * 4);
    assert_eq!(rested(Duration::from_secs(10)), SHORTEST_BACKOFF);
}

#[test]
fn a_page_that_breaks_off_is_read_again_from_another_node() {
    let mut bench = Bench::new(Plan { nodes: &["http://a", "http://b"], ..WATCHED });
    bench.on(Event::Turn);
    bench.part_of_page(10, &[("/a/1", "x", 3)], true, &[]);
    bench.turn(&["0 range /a/1\\0 to /b at 10"]);
    bench.session.entry(entry("/a/2", "y", 4)).unwrap();
    bench.check(broken("cut"), &["failed: failed to read from http://a: cut"]);
    bench.wait();
    bench.turn(&["1 range /a/1\\0 to /b at 10"]);
    bench.page(11, &[("/a/2", "y", 4), ("/a/3", "z", 5)], &["snapshot /a/1=x /a/2=y /a/3=z"]);
}

#[test]
fn a_read_whose_revision_was_compacted_starts_over() {
    for goal in [Goal::Once, Goal::Watched] {
        let mut bench = Bench::new(Plan { goal, ..WATCHED });
        bench.on(Event::Turn);
        for revision in 10..13 {
            bench.part_of_page(revision, &[("/a/old", "x", 3)], true, &[]);
            bench.on(Event::Turn);
            bench.check(revision_gone(), &[]);
            bench.turn(&["0 range /a to /b"]);
        }
        bench.part_of_page(13, &[("/a/old", "x", 3)], true, &[]);
        bench.on(Event::Turn);
        match goal {
            Goal::Once => assert_eq!(bench.on(revision_gone()).len(), 1),
            Goal::Kept | Goal::Watched => {
                bench.check(revision_gone(), &["failed: failed to read from http://a: compacted"]);
            }
        }
        if goal == Goal::Watched {
            bench.wait();
            bench.turn(&["0 range /a to /b"]);
            bench.page(14, &[("/a/1", "y", 14)], &["snapshot /a/1=y"]);
        }
    }
}

#[test]
fn malformed_pages_are_failures() {
    let check = |page: Page, words: &str| {
        let mut bench = Bench::new(WATCHED);
        bench.on(Event::Turn);
        bench.part_of_page(10, &[("/a/1", "x", 3)], true, &[]);
        bench.on(Event::Turn);
        bench.check(Event::Page(page), &[&format!("failed: failed to read from http://a: {words}")]);
        bench.wait();
        bench.turn(&["0 range /a to /b"]);
    };
    let page = |last: Option<&str>| Page { header: header(10), more: true, last: last.map(bytes) };
    check(page(None), "page that leads to no other");
    check(page(Some("/a/1")), "page that leads to no other");
    check(page(Some("/a/0")), "page that leads to no other");
    check(page(Some("/b")), "page that leads to no other");
    let other = Header { cluster_id: 8, revision: 10 };
    check(Page { header: other, ..Page::default() }, "keys of another cluster than those of the node before it");

    let mut bench = Bench::new(WATCHED);
    bench.on(Event::Turn);
    bench.page(0, &[], &["failed: failed to read from http://a: answer without a revision"]);
}

#[test]
fn compacted_history_means_a_new_read_at_a_random_moment() {
    let mut bench = Bench::watching(WATCHED);
    bench.session.random = Box::new(|bound| bound / 2);
    bench.on(events(1, vec![put("/a", "x", 11)]));
    let compacted = WatchAnswer { watch_id: 1, canceled: true, compact_revision: 50, ..WatchAnswer::default() };
    bench.check(
        answer(compacted),
        &["trigger /a=x", "close", "Info: reading all keys again reason=history was compacted"],
    );
    assert_eq!(bench.wait(), SPREAD / 2);
    bench.turn(&["0 range /a to /b"]);
    bench.page(60, &[("/a", "y", 55)], &["snapshot /a=y"]);
    bench.turn(&["0 watch /a from 61"]);
}

/// The answer to a watch that is refused.
fn refused_watch(cancel_reason: &str) -> Event {
    let cancel_reason = cancel_reason.into();
    answer(WatchAnswer { watch_id: -1, created: true, canceled: true, cancel_reason, ..WatchAnswer::default() })
}

#[test]
fn a_watch_that_ends_is_a_failure_of_its_node() {
    let mut bench = Bench::watching(WATCHED);
    let ended =
        WatchAnswer { watch_id: 1, canceled: true, cancel_reason: "going down".into(), ..WatchAnswer::default() };
    bench.check(answer(ended), &["close", "failed: failed to watch http://a: watch refused: going down"]);
    assert_eq!(bench.wait(), SHORTEST_BACKOFF);
    bench.turn(&["0 watch /a from 11"]);
    bench.check(refused("HTTP 503"), &["failed: failed to watch http://a: HTTP 503"]);
}

#[test]
fn a_watch_that_is_refused_is_asked_for_seldom() {
    let mut bench = Bench::watching(WATCHED);
    bench.on(broken("cut"));
    bench.wait();
    bench.turn(&["0 watch /a from 11"]);
    bench.on(Event::Opened);
    let want = "failed: failed to watch `/a` at http://a: no such thing";
    bench.check(refused_watch("rpc error: code = Unknown desc = no such thing"), &["close", want]);
    assert_eq!(bench.wait(), SLOW_RETRY);
    bench.turn(&["0 may read /a to /b"]);
    bench.check(Event::Page(Page { header: header(12), ..Page::default() }), &[]);
    bench.turn(&["0 watch /a from 11"]);
    bench.on(Event::Opened);
    bench.check(created(1, 12), &["recovered"]);
}

#[test]
fn malformed_lines_are_failures() {
    for watch_id in [0, -1, 2, i64::MIN, i64::MAX] {
        let mut bench = Bench::watching(WATCHED);
        bench.check(
            events(watch_id, vec![put("/a", "x", 11)]),
            &["close", "failed: failed to watch http://a: answer for a watch that was not asked for"],
        );
    }
    let mut bench = Bench::watching(WATCHED);
    bench.check(
        Event::Message(Message::Error(Refusal { reason: Reason::Other, words: "etcdserver: no leader".into() })),
        &["close", "failed: failed to watch http://a: etcdserver: no leader"],
    );
    // The largest numbers cause no overflow.
    let mut bench = Bench::watching(WATCHED);
    bench.check(events(1, vec![put("/a", "x", u64::MAX)]), &[]);
    bench.check(answer(WatchAnswer { watch_id: 1, header: header(u64::MAX), ..WatchAnswer::default() }), &[]);
    bench.check(Event::Quiet, &["trigger /a=x"]);
}

#[test]
fn a_tail_too_long_to_be_taken_is_read_instead() {
    let mut bench = Bench::watching(WATCHED);
    bench.check(
        Event::Broken { words: "answer is longer than 9 bytes".into(), resume: Resume::TooLarge },
        &["close", "failed: failed to watch http://a: answer is longer than 9 bytes"],
    );
    bench.wait();
    bench.turn(&["0 range /a to /b"]);
}

#[test]
fn a_watch_has_to_be_confirmed() {
    let mut bench = Bench::watching(Plan { keys: &["/a", "/b"], watch_keys: &[], ..WATCHED });
    bench.on(broken("connection closed"));
    bench.wait();
    bench.on(Event::Turn);
    bench.on(Event::Opened);
    bench.check(created(1, 10), &[]);
    assert_eq!(bench.wait(), PATIENCE);
    bench.turn(&["close", "failed: failed to watch http://a: watch not confirmed within 3s"]);
}

#[test]
fn another_cluster_means_a_new_read() {
    let mut bench = Bench::watching(WATCHED);
    bench.on(broken("connection closed"));
    bench.wait();
    bench.on(Event::Turn);
    bench.on(Event::Opened);
    let other = Header { cluster_id: 8, revision: 20 };
    bench.check(
        answer(WatchAnswer { watch_id: 1, created: true, header: other, ..WatchAnswer::default() }),
        &["close", "Warn: reading all keys again reason=the node belongs to another cluster"],
    );
    bench.turn(&["0 range /a to /b"]);
    bench.check(Event::Page(Page { header: other, ..Page::default() }), &["snapshot"]);
    bench.turn(&["0 watch /a from 21"]);
}

#[test]
fn a_store_that_was_put_back_is_noticed_when_the_watch_opens() {
    let reopened = || {
        let mut bench = Bench::watching(WATCHED);
        bench.on(events(1, vec![put("/a", "x", 100)]));
        bench.on(broken("connection closed"));
        bench.wait();
        bench.turn(&["0 watch /a from 101"]);
        bench.on(Event::Opened);
        bench.check(created(1, 50), &["recovered"]);
        bench.turn(&["0 newest revision"]);
        bench
    };
    // The answering member lags behind the others.
    let mut lagging = reopened();
    lagging.page(100, &[], &[]);
    lagging.turn(&[]);
    assert!(lagging.session.listens());

    let mut restored = reopened();
    restored.page(99, &[], &["close", "Warn: reading all keys again reason=etcd was put back to an earlier revision"]);
    restored.turn(&["0 range /a to /b"]);
    restored.page(99, &[("/a", "old", 40)], &["snapshot /a=old"]);
    restored.turn(&["0 watch /a from 100"]);
}

#[test]
fn a_silent_node_is_asked_whether_it_is_there() {
    let mut bench = Bench::watching(Plan { nodes: &["http://a", "http://b"], ..WATCHED });
    bench.now += SILENCE / 2;
    bench.on(events(1, vec![put("/a", "x", 11)]));
    bench.on(Event::Quiet);
    assert_eq!(bench.wait(), SILENCE * 9 / 10);
    bench.turn(&["0 newest revision"]);
    bench.page(11, &[], &[]);
    assert_eq!(bench.wait(), SILENCE * 9 / 10);
    bench.turn(&["0 newest revision"]);
    bench.check(broken("no answer within 3s"), &["close", "failed: failed to watch http://a: no answer within 3s"]);
    assert_eq!(bench.wait(), SHORTEST_BACKOFF);
    bench.turn(&["1 watch /a from 12"]);
}

/// The node answers, but nothing arrives on the stream.
#[test]
fn a_stream_that_is_silent_for_too_long_is_opened_again() {
    let mut bench = Bench::watching(WATCHED);
    let begun = bench.now;
    // A progress notification shows that the stream is alive.
    bench.now += LONGEST_SILENCE / 2;
    bench.on(answer(WatchAnswer { watch_id: 1, header: header(20), ..WatchAnswer::default() }));
    let mut last = Vec::new();
    while last.is_empty() {
        bench.wait();
        bench.turn(&["0 newest revision"]);
        last = bench.on(Event::Page(Page { header: header(30), ..Page::default() }));
    }
    assert!(bench.now - begun >= LONGEST_SILENCE * 3 / 2);
    assert_eq!(last, ["Info: opening the watch again reason=nothing came for long", "close"]);
    bench.turn(&["0 watch /a from 21"]);
}

#[test]
fn an_interval_alone_reads_again_and_again() {
    let plan = Plan { goal: Goal::Kept, interval: Some(Duration::from_secs(60)), ..WATCHED };
    for (random, want) in [(0, 54), (u64::MAX, 66)] {
        let mut bench = Bench::with_random(plan, Box::new(move |bound| random.min(bound - 1)));
        bench.on(Event::Turn);
        bench.page(10, &[("/a", "x", 3)], &["snapshot /a=x"]);
        bench.turn(&[]);
        assert_eq!(bench.wait().as_millis().div_ceil(1000), want);
        bench.turn(&["0 range /a to /b"]);
        bench.check(broken("cut"), &["failed: failed to read from http://a: cut"]);
        assert!(bench.wait() <= SHORTEST_BACKOFF * 2);
        bench.turn(&["0 range /a to /b"]);
        bench.page(11, &[("/a", "y", 11)], &["snapshot /a=y", "recovered"]);
        assert_eq!(bench.wait().as_millis().div_ceil(1000), want);
    }
}

#[test]
fn without_interval_and_watch_one_read_is_enough() {
    let mut bench = Bench::new(Plan { goal: Goal::Kept, ..WATCHED });
    bench.on(Event::Turn);
    bench.check(broken("cut"), &["failed: failed to read from http://a: cut"]);
    bench.wait();
    bench.turn(&["0 range /a to /b"]);
    bench.page(10, &[], &["snapshot", "recovered"]);
    assert_eq!(bench.due(), None);
}

#[test]
fn an_interval_longer_than_time_itself_is_none() {
    let interval = Some(Duration::from_secs(i64::MAX as u64));
    let mut bench = Bench::new(Plan { goal: Goal::Kept, interval, ..WATCHED });
    bench.on(Event::Turn);
    bench.page(10, &[], &["snapshot"]);
    assert!(bench.due().is_none_or(|due| due > bench.now + Duration::from_secs(1 << 32)));
}

const RECONCILED: Plan = Plan { interval: Some(Duration::from_secs(10)), ..WATCHED };

#[test]
fn reconciles_beside_the_stream() {
    let mut bench = Bench::watching(RECONCILED);
    bench.on(events(1, vec![put("/a/1", "x", 11)]));
    bench.check(Event::Quiet, &["trigger /a/1=x"]);
    assert_eq!(bench.wait(), Duration::from_secs(9));
    bench.turn(&["0 range /a to /b"]);
    bench.part_of_page(20, &[("/a/1", "x", 11)], true, &[]);
    // Events must not overtake the read.
    bench.check(events(1, vec![put("/a/2", "known", 18), put("/a/3", "new", 23)]), &[]);
    bench.check(Event::Quiet, &[]);
    bench.turn(&["0 range /a/1\\0 to /b at 20"]);
    bench.page(22, &[("/a/2", "y", 20)], &["snapshot /a/1=x /a/2=y"]);
    bench.check(Event::Quiet, &["trigger /a/3=new"]);
    // The stream delivers changes that the read has already: they are not applied again.
    assert!(bench.session.listens());
    bench.check(events(1, vec![put("/a/2", "early", 19), put("/a/2", "y", 20), put("/a/2", "z", 24)]), &[]);
    bench.check(Event::Quiet, &["trigger /a/2=z"]);
    assert_eq!(bench.wait(), Duration::from_secs(9));
    bench.turn(&["0 range /a to /b"]);
}

#[test]
fn a_stream_that_missed_something_is_reported_and_opened_again() {
    let mut bench = Bench::watching(RECONCILED);
    bench.on(events(1, vec![put("/a/1", "x", 11), put("/a/2", "x", 11), put("/a/3", "x", 11)]));
    bench.on(Event::Quiet);
    bench.wait();
    bench.turn(&["0 range /a to /b"]);
    // /a/1 was deleted, /a/2 and /a/4 were written. The stream reports only /a/2.
    bench.page(20, &[("/a/2", "y", 15), ("/a/3", "x", 11), ("/a/4", "y", 16)], &["snapshot /a/2=y /a/3=x /a/4=y"]);
    bench.check(events(1, vec![put("/a/2", "y", 15)]), &[]);
    assert_eq!(bench.wait(), PATIENCE);
    bench.turn(&["Warn: watch missed changes, opening it again keys=2", "close", "0 watch /a from 21"]);
}

#[test]
fn a_read_of_another_store_than_the_streams_replaces_it() {
    let check = |header: Header, why: &str| {
        let mut bench = Bench::watching(RECONCILED);
        bench.wait();
        bench.turn(&["0 range /a to /b"]);
        let page = Page { header, ..Page::default() };
        let warning = format!("Warn: opening the watch again reason={why}");
        bench.check(Event::Page(page), &[&warning, "close", "snapshot"]);
        bench.turn(&[&format!("0 watch /a from {}", header.revision + 1)]);
    };
    let other = Header { cluster_id: 8, revision: 20 };
    check(other, "the node belongs to another cluster");
    check(header(9), "etcd was put back to an earlier revision");
}

#[test]
fn a_key_that_events_leave_open_is_read_again_beside_the_stream() {
    let mut bench = Bench::watching(WATCHED);
    bench.check(events(1, vec![put("/a/1", "x", 11), put("/a//2", "y", 12)]), &[]);
    bench.check(Event::Quiet, &["trigger /a/1=x"]);
    assert_eq!(bench.wait(), Duration::ZERO);
    bench.turn(&["0 range /a to /b"]);
    bench.page(12, &[("/a//2", "y", 12), ("/a/1", "x", 11)], &["snapshot /a/1=x /a/2=y"]);
    // No change was missed, so the stream stays open.
    bench.turn(&[]);
    assert!(bench.session.listens());
    assert_eq!(bench.wait(), SILENCE * 9 / 10);
}

#[test]
fn a_failed_page_beside_the_stream_moves_on_to_another_node() {
    let mut bench = Bench::watching(Plan { nodes: &["http://a", "http://b"], ..RECONCILED });
    bench.wait();
    bench.turn(&["0 range /a to /b"]);
    bench.part_of_page(20, &[("/a/1", "x", 11)], true, &[]);
    bench.turn(&["0 range /a/1\\0 to /b at 20"]);
    bench.check(broken("cut"), &["failed: failed to read from http://a: cut"]);
    bench.turn(&["0 newest revision"]);
    bench.check(broken("cut"), &["close", "failed: failed to watch http://a: cut"]);
    bench.wait();
    bench.turn(&["1 range /a/1\\0 to /b at 20"]);
    bench.page(20, &[], &["snapshot /a/1=x"]);
    bench.turn(&["1 watch /a from 21"]);
    bench.on(Event::Opened);
    bench.check(created(1, 20), &["recovered"]);
}

#[test]
fn without_keys_only_triggers_are_watched() {
    let mut bench = Bench::new(Plan { keys: &[], watch_keys: &["/r"], ..WATCHED });
    assert_eq!(bench.on(Event::Turn)[1..], ["0 newest revision"]);
    bench.page(10, &[], &["snapshot"]);
    bench.turn(&["0 watch /r from 11"]);

    let mut bench = Bench::new(Plan { keys: &[], watch_keys: &[], ..WATCHED });
    bench.on(Event::Turn);
    bench.page(10, &[], &["snapshot"]);
    assert_eq!(bench.due(), None);
    bench.turn(&[]);
}

/// A store with its history and the open stream.
struct Etcd {
    cluster: u64,
    /// Revision, key and new value.
    history: Vec<(u64, String, Option<String>)>,
    compacted: u64,
    /// Of each watch of the open stream: its key range, and the next revision to send. `None`: cancelled.
    stream: Option<Vec<(Span, Option<u64>)>>,
}

impl Etcd {
    fn revision(&self) -> u64 {
        self.history.last().map_or(1, |(revision, ..)| *revision)
    }

    fn header(&self) -> Header {
        Header { cluster_id: self.cluster, revision: self.revision() }
    }

    fn at(&self, revision: u64) -> BTreeMap<&str, (&str, u64)> {
        let mut state = BTreeMap::new();
        for (written, key, value) in self.history.iter().take_while(|(written, ..)| *written <= revision) {
            match value {
                Some(value) => drop(state.insert(&**key, (&**value, *written))),
                None => drop(state.remove(&**key)),
            }
        }
        state
    }

    /// The layer that a fresh mirror reads.
    fn layer(&self, plan: Plan) -> Layer {
        let strings = |list: &[&str]| list.iter().map(|text| text.to_string()).collect::<Vec<_>>();
        let mut mirror = Mirror::new("", &strings(plan.keys), &[], Comparing::No);
        let mut loading = mirror.load();
        for span in mirror.spans() {
            for (key, (value, revision)) in self.at(u64::MAX) {
                if span.holds(key.as_bytes()) {
                    mirror.add(&mut loading, entry(key, value, revision));
                }
            }
        }
        mirror.install(loading).0
    }

    /// Answers with pages of three keys.
    fn range(&self, session: &mut Session, body: &serde_json::Value) -> Event {
        let decode = |name: &str| BASE64_STANDARD.decode(body[name].as_str().unwrap()).unwrap();
        let span = Span { from: decode("key"), end: decode("range_end") };
        let revision = match body["revision"].as_str().map_or(0, |revision| revision.parse().unwrap()) {
            0 => self.revision(),
            revision => revision,
        };
        if revision < self.compacted || revision > self.revision() {
            return revision_gone();
        }
        let state = self.at(revision);
        let mut found = state.iter().filter(|(key, _)| span.holds(key.as_bytes()));
        let mut page = Page { header: self.header(), ..Page::default() };
        for (key, (value, revision)) in found.by_ref().take(3) {
            session.entry(entry(key, value, *revision)).unwrap();
            page.last = Some(bytes(key));
        }
        page.more = found.next().is_some();
        Event::Page(page)
    }

    fn open(&mut self, body: &str) {
        let creates = serde_json::Deserializer::from_str(body).into_iter::<serde_json::Value>();
        let watches = creates.map(|create| {
            let create = &create.unwrap()["create_request"];
            let decode = |name: &str| BASE64_STANDARD.decode(create[name].as_str().unwrap()).unwrap();
            let span = Span { from: decode("key"), end: decode("range_end") };
            (span, Some(create["start_revision"].as_str().unwrap().parse().unwrap()))
        });
        self.stream = Some(watches.collect());
    }

    /// The next line of one watch, with the events of at most this number of revisions; `None`: no event is left.
    fn line(&mut self, watch: usize, revisions: u64) -> Option<WatchAnswer> {
        let header = self.header();
        let (span, next) = &mut self.stream.as_mut().unwrap()[watch];
        let start = (*next)?;
        let watch_id = watch as i64 + 1;
        if start < self.compacted {
            *next = None;
            let compact_revision = self.compacted;
            return Some(WatchAnswer { watch_id, canceled: true, compact_revision, ..WatchAnswer::default() });
        }
        if start > header.revision {
            return None;
        }
        let events: Vec<_> = self
            .history
            .iter()
            .filter(|(revision, key, _)| (start..start + revisions).contains(revision) && span.holds(key.as_bytes()))
            .map(|(revision, key, value)| match value {
                Some(value) => put(key, value, *revision),
                None => delete(key, *revision),
            })
            .collect();
        let sent = (start + revisions).min(header.revision + 1);
        *next = Some(sent);
        if events.is_empty() && sent <= header.revision {
            // A line without events would mean that there are no events up to the newest revision.
            return self.line(watch, revisions);
        }
        Some(WatchAnswer { watch_id, header, events, ..WatchAnswer::default() })
    }
}

/// The state of a resource after its reports.
struct Part {
    plan: Plan,
    layer: Layer,
    /// The layer at the last triggered update.
    rendered: Layer,
}

/// A session, its store and its resources.
struct World {
    bench: Bench,
    etcd: Etcd,
    /// Whether the token is valid.
    token: bool,
    /// The lines on the way.
    lines: VecDeque<WatchAnswer>,
    parts: BTreeMap<Id, Part>,
    snapshots: usize,
    changes: usize,
    failures: usize,
    logins: usize,
}

impl World {
    fn new(plans: &[Plan], random: Box<dyn FnMut(u64) -> u64>) -> World {
        let mut world = World {
            bench: Bench::with_random(plans[0], random),
            etcd: Etcd { cluster: CLUSTER, history: Vec::new(), compacted: 0, stream: None },
            token: false,
            lines: VecDeque::new(),
            parts: BTreeMap::new(),
            snapshots: 0,
            changes: 0,
            failures: 0,
            logins: 0,
        };
        world.parts.insert(FIRST, Part { plan: plans[0], layer: Layer::new(), rendered: Layer::new() });
        plans[1..].iter().for_each(|plan| world.add(*plan));
        world
    }

    fn add(&mut self, plan: Plan) {
        let id = self.bench.add(plan);
        self.parts.insert(id, Part { plan, layer: Layer::new(), rendered: Layer::new() });
    }

    fn remove(&mut self, id: Id) {
        self.parts.remove(&id);
        let mut actions = Vec::new();
        self.bench.session.remove(id, &mut actions);
        self.perform(actions, &mut || false);
    }

    /// Passes an event to the session and performs its actions. `fails` decides whether a request fails.
    fn dispatch(&mut self, event: Event, fails: &mut dyn FnMut() -> bool) {
        let event = self.bench.of_what_is_under_way(event);
        self.bench.core.pause(self.bench.now);
        let mut actions = Vec::new();
        self.bench.session.on(event, self.bench.now, &mut actions);
        self.perform(actions, fails);
    }

    fn perform(&mut self, actions: Vec<Action>, fails: &mut dyn FnMut() -> bool) {
        for action in actions {
            match action {
                Action::Ask(_) if fails() => self.dispatch(broken("no answer"), fails),
                Action::Ask(Request { kind: RequestKind::Login, .. }) => {
                    self.token = true;
                    self.logins += 1;
                    self.dispatch(Event::LoggedIn { user: "me".into() }, fails);
                }
                Action::Ask(Request { kind: RequestKind::Range, .. }) if !self.token => {
                    self.dispatch(unauthenticated(), fails);
                }
                Action::Ask(request) if request.kind == RequestKind::Range => {
                    let body = serde_json::from_str(&request.body).unwrap();
                    let answer = self.etcd.range(&mut self.bench.session, &body);
                    // The entries have arrived, but not the end of the page.
                    let answer = if fails() { broken("torn") } else { answer };
                    self.dispatch(answer, fails);
                }
                Action::Ask(request) => {
                    self.etcd.open(&request.body);
                    let header = self.etcd.header();
                    let confirmed = |watch_id| WatchAnswer { watch_id, created: true, header, ..Default::default() };
                    let watches = self.etcd.stream.as_ref().map_or(0, Vec::len) as i64;
                    self.lines = (1..=watches).map(confirmed).collect();
                    if !self.token {
                        self.lines.iter_mut().for_each(|line| {
                            let cancel_reason = "etcdserver: permission denied".into();
                            *line = WatchAnswer { watch_id: -1, canceled: true, cancel_reason, ..mem::take(line) };
                        });
                        self.etcd.stream.iter_mut().flatten().for_each(|watch| watch.1 = None);
                    }
                    self.dispatch(Event::Opened, fails);
                }
                Action::Close => {
                    self.etcd.stream = None;
                    self.lines.clear();
                }
                Action::Abort => {}
                Action::Emit(output) => {
                    let (bench, mut commands) = (&mut self.bench, Vec::new());
                    bench.core.take(output, &mut bench.session, bench.now, &mut commands);
                    for command in commands {
                        if let Command::Report(id, report) = command {
                            self.take(id, report);
                        }
                    }
                }
            }
        }
    }

    fn take(&mut self, id: Id, report: Report) {
        let part = self.parts.get_mut(&id).expect("only those that are served are told");
        match report {
            Report::Snapshot(read) => {
                self.snapshots += 1;
                part.rendered = read.clone();
                part.layer = read;
            }
            Report::Changes { changes, trigger } => {
                self.changes += changes.len();
                for change in changes {
                    match change {
                        Change::Put(key, value) => drop(part.layer.insert(key, value)),
                        Change::Delete(key) => drop(part.layer.remove(&key)),
                    }
                }
                if trigger {
                    part.rendered = part.layer.clone();
                }
            }
            Report::Failed(_) => self.failures += 1,
            Report::Recovered | Report::Log(_) => {}
        }
    }

    /// Passes lines to the session while it listens.
    fn listen(&mut self, fails: &mut dyn FnMut() -> bool) {
        while self.bench.session.listens()
            && let Some(line) = self.lines.pop_front()
        {
            self.dispatch(answer(line), fails);
        }
        self.dispatch(Event::Quiet, fails);
    }

    fn is_due(&self) -> bool {
        self.bench.due().is_some_and(|due| due <= self.bench.now)
    }
}

/// Random failures, refusals, compactions, new clusters, expired tokens, late streams, and added and removed resources
/// during writes: at the end the layers equal those of fresh reads, and were rendered.
#[test]
fn nothing_is_lost_whatever_happens() {
    let plans = [
        Plan { keys: &["/"], watch_keys: &["/"], ..WATCHED },
        Plan { keys: &["/a", "/b"], watch_keys: &["/a", "/b"], ..RECONCILED },
        Plan { keys: &["/", "/a"], watch_keys: &["/reload"], ..RECONCILED },
        Plan { keys: &["/a", "/b"], watch_keys: &["/reload", "/b/x"], ..WATCHED },
        Plan { keys: &["a", "b"], watch_keys: &["a", "b"], ..WATCHED },
    ];
    let names = ["/a", "/a/1", "/a/2", "/a//2", "/ab", "/b", "/b/x", "/c/1", "/reload", "a/1", "b/1", "a//1"];
    let (mut snapshots, mut changes, mut failures, mut logins) = (0, 0, 0, 0);
    for run in 0..600 {
        let numbers = |mut seed: u64| {
            move |bound: u64| {
                seed = seed.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
                (seed >> 33) % bound
            }
        };
        // The session has its own random numbers, which do not correlate with the events.
        let (mut below, of_session) = (numbers(run as u64 + 1), numbers(!(run as u64)));
        let nodes: &[&str] = if run % 2 == 0 { &["http://a"] } else { &["http://a", "http://b"] };
        let login = run % 3 == 0;
        let mut served: Vec<Plan> = plans.iter().cycle().skip(run % 5).take(1 + run / 5 % 3).copied().collect();
        served.iter_mut().for_each(|plan| (plan.nodes, plan.login) = (nodes, login));
        let mut world = World::new(&served, Box::new(of_session));
        world.token = !login;
        world.dispatch(Event::Turn, &mut || false);
        for _ in 0..150 {
            if below(3) == 0 {
                let revision = world.etcd.revision() + 1;
                // A transaction may write several keys, each once.
                let first = below(names.len() as u64) as usize;
                for key in names[first..].iter().take(1 + below(3) as usize) {
                    let value = (below(3) > 0).then(|| revision.to_string());
                    world.etcd.history.push((revision, key.to_string(), value));
                }
            }
            if below(100) == 0 {
                world.etcd.compacted = world.etcd.compacted.max(world.etcd.revision().saturating_sub(below(20)));
            }
            if below(300) == 0 {
                // A new, empty cluster.
                let cluster = world.etcd.cluster + 1;
                let stream = world.etcd.stream.take();
                world.etcd = Etcd { cluster, history: Vec::new(), compacted: 0, stream: None };
                if stream.is_some() {
                    world.dispatch(broken("rebuilt"), &mut || false);
                }
            }
            if below(40) == 0 {
                world.token &= !login;
            }
            if below(50) == 0 && world.parts.len() > 1 {
                let gone = world.parts.keys().nth(below(world.parts.len() as u64) as usize).copied();
                gone.into_iter().for_each(|id| world.remove(id));
            }
            if below(50) == 0 && world.parts.len() < 4 {
                world.add(Plan { nodes, login, ..plans[below(5) as usize] });
            }
            if world.etcd.stream.is_some() && below(30) == 0 {
                world.dispatch(broken("cut"), &mut || false);
            }
            if let Some(stream) = &world.etcd.stream {
                let watches = stream.len() as u64;
                for _ in 0..below(6) {
                    let line = world.etcd.line(below(watches) as usize, 1 + below(4));
                    world.lines.extend(line);
                }
            }
            let mut fails = || below(10) == 0;
            if world.is_due() {
                world.dispatch(Event::Turn, &mut fails);
            } else if fails() {
                // Time passes rarely, so that many events happen within each delay.
                world.bench.wait();
            }
            if below(2) == 0 {
                world.listen(&mut || false);
            }
        }
        // Unwatched changes are rendered with the next trigger.
        let revision = world.etcd.revision() + 1;
        for key in ["/reload", "/b/x"] {
            world.etcd.history.push((revision, key.into(), Some(String::new())));
        }
        // No request fails from now on, and all lines are delivered, those of the last watch first.
        let mut turns = 0;
        let mut was_quiet = false;
        loop {
            while world.is_due() {
                turns += 1;
                assert!(turns < 1000, "run {run} does not come to rest");
                world.dispatch(Event::Turn, &mut || false);
            }
            for watch in (0..world.etcd.stream.as_ref().map_or(0, Vec::len)).rev() {
                // A read may close or reopen the stream meanwhile.
                while let Some(line) = world.etcd.stream.is_some().then(|| world.etcd.line(watch, 3)).flatten() {
                    world.lines.push_back(line);
                }
                world.listen(&mut || false);
            }
            if world.bench.session.listens() && world.lines.is_empty() && !world.is_due() {
                let well = world
                    .bench
                    .session
                    .subscriptions
                    .values()
                    .all(|s| s.watchable() && s.doubts.is_none() && s.is_clear());
                if well && mem::replace(&mut was_quiet, true) {
                    break;
                }
            }
            if !world.is_due() {
                world.bench.wait();
            }
        }
        for part in world.parts.values() {
            assert_eq!(part.layer, world.etcd.layer(part.plan), "run {run}");
            assert_eq!(part.rendered, part.layer, "run {run}");
        }
        snapshots += world.snapshots;
        changes += world.changes;
        failures += world.failures;
        logins += world.logins;
    }
    assert!(
        snapshots > 2000 && changes > 10_000 && failures > 1000 && logins > 400,
        "{snapshots} {changes} {failures} {logins}"
    );
}

/// A session of three resources that watch /a, /b and /c, and /d.
fn three() -> Bench {
    let mut bench = Bench::new(Plan { login: true, nodes: &["http://a"], ..WATCHED });
    bench.add(Plan { keys: &["/b", "/c"], watch_keys: &[], ..WATCHED });
    bench.add(Plan { keys: &["/d"], watch_keys: &["/d"], ..WATCHED });
    bench.on(Event::Turn);
    bench.on(Event::LoggedIn { user: "me".into() });
    for _ in 0..4 {
        bench.on(Event::Turn);
        bench.on(Event::Page(Page { header: header(10), ..Page::default() }));
    }
    bench.turn(&["0 watch /a from 11, watch /b from 11, watch /c from 11, watch /d from 11"]);
    bench.check(Event::Opened, &[]);
    (1..=4).for_each(|id| bench.check(created(id, 10), &[]));
    bench.turn(&[]);
    bench
}

#[test]
fn one_stream_serves_all() {
    let mut bench = three();
    bench.check(events(4, vec![put("/d", "x", 11)]), &[]);
    bench.check(events(3, vec![put("/c", "y", 12)]), &[]);
    bench.check(events(1, vec![put("/a", "z", 13)]), &[]);
    bench.check(Event::Quiet, &["trigger /a=z", "#1 changes /c=y", "#2 trigger /d=x"]);
    bench.check(
        broken("cut"),
        &[
            "close",
            "failed: failed to watch http://a: cut",
            "#1 failed: failed to watch http://a: cut",
            "#2 failed: failed to watch http://a: cut",
        ],
    );
    bench.wait();
    bench.turn(&["0 watch /a from 14, watch /b from 11, watch /c from 13, watch /d from 12"]);
    bench.on(Event::Opened);
    bench.check(created(1, 13), &["recovered"]);
    bench.check(created(2, 13), &[]);
    bench.check(created(3, 13), &["#1 recovered"]);
    bench.check(created(4, 13), &["#2 recovered"]);
}

#[test]
fn a_resource_that_comes_or_goes_means_a_new_stream() {
    let mut bench = three();
    bench.check(events(1, vec![put("/a", "z", 13)]), &[]);
    bench.on(Event::Quiet);
    let new = bench.add(Plan { keys: &["/e"], watch_keys: &["/e"], ..WATCHED });
    assert_eq!(bench.wait(), Duration::ZERO);
    bench.turn(&["#3 Info: set backend nodes nodes=http://a version=3", "0 range /e to /f"]);
    // The other resources still receive changes.
    bench.check(events(4, vec![put("/d", "x", 14)]), &[]);
    bench.check(Event::Quiet, &["#2 trigger /d=x"]);
    bench.page(20, &[("/e", "x", 3)], &["#3 snapshot /e=x"]);
    assert_eq!(bench.wait(), Duration::ZERO);
    bench
        .turn(&["close", "0 watch /a from 14, watch /b from 11, watch /c from 11, watch /d from 15, watch /e from 21"]);
    bench.on(Event::Opened);
    (1..=5).for_each(|id| bench.check(created(id, 20), &[]));
    bench.turn(&[]);

    assert_eq!(bench.remove(Id(1)), [""; 0]);
    bench.check(events(2, vec![put("/b", "nobody's", 21)]), &[]);
    bench.check(events(1, vec![put("/a", "y", 22)]), &[]);
    bench.check(Event::Quiet, &["trigger /a=y"]);
    assert_eq!(bench.wait(), Duration::ZERO);
    bench.turn(&["close", "0 watch /a from 23, watch /d from 15, watch /e from 21"]);
    bench.on(Event::Opened);
    // Before the watches are confirmed.
    for id in [FIRST, Id(2)] {
        assert_eq!(bench.remove(id), [""; 0]);
    }
    assert_eq!(bench.session.subscriptions.keys().copied().collect::<Vec<_>>(), [new]);
    assert_eq!(bench.remove(new), ["close"]);
    assert_eq!((bench.session.subscriptions.keys().copied().collect::<Vec<_>>(), bench.due()), (Vec::new(), None));
}

#[test]
fn a_read_that_is_refused_is_its_resources_own() {
    let mut bench = Bench::new(Plan { login: true, ..WATCHED });
    bench.add(Plan { keys: &["/z", "/y"], watch_keys: &[], ..WATCHED });
    bench.turn(&[
        "Info: set backend nodes nodes=http://a version=3",
        "#1 Info: set backend nodes nodes=http://a version=3",
        "0 login",
    ]);
    bench.check(Event::LoggedIn { user: "me".into() }, &[]);
    bench.turn(&["0 range /a to /b"]);
    bench.page(10, &[], &["snapshot"]);
    bench.turn(&["0 range /y to /z"]);
    bench.page(10, &[], &[]);
    bench.turn(&["0 range /z to /{ at 10"]);
    let want = "#1 failed: failed to read `/z` from http://a as user `me`: HTTP 403: permission denied";
    bench.check(denied(), &[want]);
    bench.turn(&["0 watch /a from 11"]);
    bench.on(Event::Opened);
    bench.check(created(1, 10), &[]);
    bench.turn(&[]);
    assert_eq!(bench.wait(), SLOW_RETRY);
    bench.turn(&["0 range /z to /{ at 10"]);
    bench.check(denied(), &[want]);
    bench.turn(&[]);
    // A failing node is not the cause.
    bench.check(broken("cut"), &["close", "failed: failed to watch http://a: cut"]);
    bench.wait();
    bench.turn(&["0 watch /a from 11"]);
    bench.on(Event::Opened);
    bench.check(created(1, 10), &["recovered"]);
    bench.wait();
    bench.turn(&["0 range /z to /{ at 10"]);
    bench.page(10, &[("/z", "x", 9)], &["#1 snapshot /z=x"]);
    bench.turn(&["close", "0 watch /a from 11, watch /y from 11, watch /z from 11"]);
    bench.on(Event::Opened);
    bench.on(created(1, 10));
    bench.on(created(2, 10));
    bench.check(created(3, 10), &["#1 recovered"]);
}

#[test]
fn a_watch_that_is_denied_is_its_resources_own() {
    let mut bench = three();
    let denial = || refused_watch("rpc error: code = PermissionDenied desc = etcdserver: permission denied");
    let reopened = |bench: &mut Bench| {
        bench.on(Event::Opened);
        bench.on(created(1, 10));
        bench.on(created(2, 10));
    };
    bench.on(broken("cut"));
    bench.wait();
    bench.turn(&["0 watch /a from 11, watch /b from 11, watch /c from 11, watch /d from 11"]);
    reopened(&mut bench);
    // The third refusal: the token may have expired.
    bench.check(denial(), &[]);
    bench.check(created(4, 10), &["#2 recovered"]);
    bench.turn(&["0 login"]);
    // The stream stays open for the other resources.
    bench.check(events(1, vec![put("/a", "x", 11)]), &[]);
    bench.check(events(2, vec![put("/b", "of one that does not listen", 11)]), &[]);
    bench.check(Event::Quiet, &["trigger /a=x"]);
    bench.check(Event::LoggedIn { user: "me".into() }, &[]);
    bench.turn(&["close", "0 watch /a from 12, watch /b from 11, watch /c from 11, watch /d from 11"]);
    reopened(&mut bench);
    let want = "failed to watch `/c` at http://a as user `me`: etcdserver: permission denied";
    bench.check(denial(), &[&format!("#1 failed: {want}")]);
    bench.check(created(4, 10), &[]);
    // The other watch of the resource is omitted.
    bench.turn(&["close", "0 watch /a from 12, watch /d from 11"]);
    bench.on(Event::Opened);
    bench.on(created(1, 10));
    bench.on(created(2, 10));
    bench.turn(&[]);
    assert_eq!(bench.wait(), SLOW_RETRY);
    bench.turn(&["0 may read /c to /d"]);
    let want = "#1 failed: failed to read `/c` from http://a as user `me`: HTTP 403: permission denied";
    bench.check(denied(), &[want]);
    bench.turn(&[]);
    bench.wait();
    bench.turn(&["0 may read /c to /d"]);
    bench.check(Event::Page(Page { header: header(12), ..Page::default() }), &[]);
    bench.turn(&["close", "0 watch /a from 12, watch /b from 11, watch /c from 11, watch /d from 11"]);
    bench.on(Event::Opened);
    bench.on(created(1, 12));
    bench.on(created(2, 12));
    bench.check(created(3, 12), &["#1 recovered"]);
}

#[test]
fn a_token_that_is_over_means_one_login() {
    let mut bench = three();
    // During an idle watch the stream stays open.
    bench.wait();
    bench.turn(&["0 newest revision"]);
    bench.check(unauthenticated(), &[]);
    assert_eq!(bench.wait(), Duration::ZERO);
    bench.turn(&["0 login"]);
    bench.check(Event::LoggedIn { user: "me".into() }, &[]);
    assert!(bench.session.listens());
    bench.turn(&["0 newest revision"]);
    bench.page(10, &[], &[]);
    // While no stream was open.
    bench.on(broken("cut"));
    bench.wait();
    bench.on(Event::Turn);
    bench.on(Event::Opened);
    let invalid = || refused_watch("rpc error: code = Unauthenticated desc = etcdserver: invalid auth token");
    (0..3).for_each(|_| bench.check(invalid(), &[]));
    bench.check(invalid(), &["close"]);
    bench.turn(&["0 login"]);
    bench.check(Event::LoggedIn { user: "me".into() }, &[]);
    bench.turn(&["0 watch /a from 11, watch /b from 11, watch /c from 11, watch /d from 11"]);
    bench.on(Event::Opened);
    bench.check(created(1, 10), &["recovered"]);
    (2..=4).for_each(|id| drop(bench.on(created(id, 10))));
    // As the end of the stream, and as the answer to its request.
    bench.now += LASTING;
    let ended = Refusal { reason: Reason::Unauthenticated, words: "invalid auth token".into() };
    bench.check(Event::Message(Message::Error(ended)), &["close"]);
    bench.turn(&["0 login"]);
    bench.check(Event::LoggedIn { user: "me".into() }, &[]);
    bench.turn(&["0 watch /a from 11, watch /b from 11, watch /c from 11, watch /d from 11"]);
    // If a new token is refused, the node has failed.
    bench.check(
        unauthenticated(),
        &[
            "failed: failed to watch http://a: HTTP 401: invalid auth token",
            "#1 failed: failed to watch http://a: HTTP 401: invalid auth token",
            "#2 failed: failed to watch http://a: HTTP 401: invalid auth token",
        ],
    );
    assert_eq!(bench.wait(), SHORTEST_BACKOFF);
    bench.turn(&["0 login"]);
}

#[test]
fn a_password_that_is_wrong_is_tried_seldom() {
    let mut bench = Bench::watching(WATCHED);
    bench.session.settings.login = true;
    bench.session.login = Login::Confirmed;
    bench.wait();
    bench.turn(&["0 newest revision"]);
    bench.on(unauthenticated());
    bench.turn(&["0 login"]);
    let refusal = |reason| Event::LoginRefused { user: "me".into(), refusal: Refusal { reason, words: "no".into() } };
    bench.check(refusal(Reason::Unauthenticated), &["failed: failed to log in to http://a as user `me`: no"]);
    // Events on the stream are still valid.
    bench.check(events(1, vec![put("/a", "x", 11)]), &[]);
    bench.check(Event::Quiet, &["trigger /a=x"]);
    bench.turn(&[]);
    bench.now += SILENCE;
    bench.turn(&["0 login"]);
    let words = "failed to read `password`: no such file or directory";
    bench.check(Event::NoCredentials(words.into()), &[&format!("failed: {words}")]);
    bench.now += SLOW_RETRY - Duration::from_millis(1);
    bench.turn(&[]);
    bench.now += Duration::from_millis(1);
    bench.turn(&["0 login"]);
    bench.check(Event::LoggedIn { user: "me".into() }, &["recovered"]);
    bench.turn(&["0 newest revision"]);
    // An etcd without authentication needs no token.
    bench.on(unauthenticated());
    bench.on(Event::Page(Page { header: header(11), ..Page::default() }));
    let mut bench = Bench::new(Plan { login: true, ..WATCHED });
    bench.on(Event::Turn);
    bench.check(refusal(Reason::NoUsers), &[]);
    bench.turn(&["0 range /a to /b"]);
    // A node that contradicts itself has failed.
    bench.check(unauthenticated(), &["failed: failed to read from http://a: HTTP 401: invalid auth token"]);
    assert_eq!(bench.wait(), SHORTEST_BACKOFF);
    bench.turn(&["0 login"]);
    bench.check(refusal(Reason::NoUsers), &[]);
    bench.turn(&["0 range /a to /b"]);
    bench.on(Event::Page(Page { header: header(11), ..Page::default() }));
    // Until authentication is enabled.
    bench.on(Event::Turn);
    bench.check(unauthenticated(), &[]);
    bench.turn(&["0 login"]);
    // A node without a clear answer has failed.
    bench.check(refusal(Reason::Other), &["failed: failed to log in to http://a: no"]);
    assert_eq!(bench.wait(), SHORTEST_BACKOFF * 2);
}

/// The node reported that authentication is disabled, and requests succeeded. Then authentication is enabled.
#[test]
fn users_turned_on_later_are_logged_in_wherever_it_shows() {
    let cancelled = |why: &str| {
        let why = why.to_owned();
        answer(WatchAnswer {
            watch_id: -1,
            created: true,
            canceled: true,
            cancel_reason: why,
            ..WatchAnswer::default()
        })
    };
    let needless = || {
        let mut bench = Bench::new(Plan { login: true, ..WATCHED });
        bench.on(Event::Turn);
        let refusal = Refusal { reason: Reason::NoUsers, words: "no".into() };
        bench.on(Event::LoginRefused { user: "me".into(), refusal });
        bench.on(Event::Turn);
        bench.page(10, &[], &["snapshot"]);
        bench.turn(&["0 watch /a from 11"]);
        bench.check(Event::Opened, &[]);
        bench
    };
    for why in ["etcdserver: user name is empty", "permission denied"] {
        // The stream is reopened and refused.
        let mut bench = needless();
        bench.check(created(1, 10), &[]);
        bench.check(broken("cut"), &["close", "failed: failed to watch http://a: cut"]);
        bench.wait();
        bench.turn(&["0 watch /a from 11"]);
        bench.check(Event::Opened, &[]);
        bench.check(cancelled(why), &["close"]);
        bench.turn(&["0 login"]);
        bench.check(Event::LoggedIn { user: "me".into() }, &[]);
        bench.turn(&["0 watch /a from 11"]);
        bench.check(Event::Opened, &[]);
        bench.check(created(1, 10), &["recovered"]);
        // The stream itself ends with the reason.
        let mut bench = needless();
        bench.check(created(1, 10), &[]);
        let refusal = Refusal { reason: Reason::Unauthenticated, words: why.into() };
        bench.check(Event::Message(Message::Error(refusal)), &["close"]);
        bench.turn(&["0 login"]);
    }
    for refused in [unauthenticated(), denied()] {
        // The probe after a silence is refused.
        let mut bench = needless();
        bench.check(created(1, 10), &[]);
        bench.now += SILENCE;
        bench.turn(&["0 newest revision"]);
        bench.check(refused, &[]);
        bench.turn(&["0 login"]);
    }
    // A user without permission is refused with a token, too.
    let mut bench = needless();
    bench.check(cancelled("permission denied"), &["close"]);
    bench.turn(&["0 login"]);
    bench.check(Event::LoggedIn { user: "me".into() }, &[]);
    bench.turn(&["0 watch /a from 11"]);
    bench.check(Event::Opened, &[]);
    let words = "failed: failed to watch `/a` at http://a as user `me`: permission denied";
    bench.check(cancelled("permission denied"), &["close", words]);
}

#[test]
fn an_etcd_with_users_reports_that_a_user_is_needed() {
    let mut bench = Bench::new(WATCHED);
    bench.on(Event::Turn);
    let want = "failed to read from http://a: HTTP 401: invalid auth token: set `username` and `password`";
    bench.check(unauthenticated(), &[&format!("failed: {want}")]);
    assert_eq!(bench.wait(), SLOW_RETRY);
    bench.turn(&["0 range /a to /b"]);
    bench.page(10, &[], &["snapshot"]);
}

#[test]
fn a_lost_history_of_one_leaves_the_others_alone() {
    let mut bench = three();
    bench.session.random = Box::new(|bound| bound / 2);
    let compacted =
        |watch_id| answer(WatchAnswer { watch_id, canceled: true, compact_revision: 50, ..WatchAnswer::default() });
    bench.check(compacted(2), &["#1 Info: reading all keys again reason=history was compacted"]);
    bench.check(compacted(4), &["#2 Info: reading all keys again reason=history was compacted"]);
    bench.check(events(1, vec![put("/a", "x", 11)]), &[]);
    bench.check(Event::Quiet, &["trigger /a=x"]);
    // The resources read together, so that one new stream is enough.
    assert_eq!(bench.wait(), SPREAD / 2);
    bench.turn(&["0 range /b to /c"]);
    bench.page(60, &[], &[]);
    bench.turn(&["0 range /c to /d at 60"]);
    bench.page(60, &[], &["#1 snapshot"]);
    bench.turn(&["0 range /d to /e"]);
    bench.page(61, &[], &["#2 snapshot"]);
    bench.turn(&["close", "0 watch /a from 12, watch /b from 61, watch /c from 61, watch /d from 62"]);
}

#[test]
fn fragments_are_one_answer() {
    let mut bench = Bench::watching(WATCHED);
    let fragment = |events: Vec<wire::Event>| {
        answer(WatchAnswer { watch_id: 1, header: header(20), fragment: true, events, ..WatchAnswer::default() })
    };
    bench.check(fragment(vec![put("/a/1", "x", 11), put("/a/2", "x", 12)]), &[]);
    bench.check(fragment(vec![put("/a/3", "x", 12), put("/a/1", "y", 13)]), &[]);
    bench.check(
        broken("cut"),
        &["trigger /a/1=x /a/2=x /a/3=x /a/1=y", "close", "failed: failed to watch http://a: cut"],
    );
    bench.wait();
    // A part of the revision may be missing.
    bench.turn(&["0 watch /a from 13"]);
    bench.on(Event::Opened);
    bench.on(created(1, 20));
    bench.check(fragment(vec![put("/a/1", "y", 13)]), &[]);
    bench.check(events(1, vec![put("/a/2", "y", 13)]), &[]);
    bench.check(Event::Quiet, &["trigger /a/1=y /a/2=y"]);
    bench.on(broken("cut"));
    bench.wait();
    bench.turn(&["0 watch /a from 14"]);
}

#[test]
fn an_answer_too_long_to_be_taken_is_its_resources_own() {
    let mut bench = three();
    bench.add(Plan { keys: &["/e"], watch_keys: &["/e"], ..WATCHED });
    let too_large = || Event::Broken { words: "answer is longer than 9 bytes".into(), resume: Resume::TooLarge };
    bench.on(Event::Turn);
    // A page with fewer keys may fit.
    for _ in 0..14 {
        let limit = bench.session.subscriptions[&Id(3)].limit();
        if limit > 1 {
            bench.check(too_large(), &[]);
            bench.turn(&["0 range /e to /f"]);
            assert_eq!(bench.session.subscriptions[&Id(3)].limit(), limit / 2);
        }
    }
    bench.check(
        too_large(),
        &["#3 failed: failed to read `/e` from http://a as user `me`: answer is longer than 9 bytes"],
    );
    assert!(bench.session.listens());
    assert_eq!(bench.wait(), SLOW_RETRY);
    bench.turn(&["0 range /e to /f"]);
}

/// Every node has these keys: the resource retries rarely, and the keys that were read are dropped.
#[test]
fn more_keys_than_may_be_read_are_an_error_of_their_resource() {
    let limits = ReadLimits { max_keys: 2, max_decoded: 1000 };
    let too_many = |bench: &mut Bench, key: &str| {
        let words = bench.session.entry(entry(key, "x", 4)).unwrap_err();
        assert_eq!(words, "more than 2 keys: raise `max_keys` of the backend");
        bench.on(Event::Broken { words, resume: Resume::TooMany })
    };
    let mut bench = Bench::new(Plan { limits, ..WATCHED });
    bench.on(Event::Turn);
    // A page that breaks off does not count twice.
    for _ in 0..3 {
        bench.session.entry(entry("/a/1", "x", 3)).unwrap();
        bench.on(broken("cut"));
        bench.wait();
        bench.turn(&["0 range /a to /b"]);
    }
    // More pages always follow.
    bench.part_of_page(10, &[("/a/1", "x", 3), ("/a/2", "x", 3)], true, &[]);
    bench.on(Event::Turn);
    let words = "failed to read `/a` from http://a: more than 2 keys: raise `max_keys` of the backend";
    assert_eq!(too_many(&mut bench, "/a/3"), [format!("failed: {words}")]);
    assert_eq!(bench.wait(), SLOW_RETRY);
    bench.turn(&["0 range /a to /b"]);
    bench.page(12, &[("/a/1", "x", 3)], &["snapshot /a/1=x"]);

    // An open watch continues.
    let mut bench = Bench::watching(Plan { limits, interval: Some(SILENCE), ..WATCHED });
    bench.now += SILENCE;
    bench.turn(&["0 range /a to /b"]);
    for key in ["/a/1", "/a/2"] {
        bench.session.entry(entry(key, "x", 4)).unwrap();
    }
    assert_eq!(too_many(&mut bench, "/a/3"), [format!("Warn: going on with the watch alone error={words}")]);
    bench.check(events(1, vec![put("/a", "x", 11)]), &[]);
    bench.check(Event::Quiet, &["trigger /a=x"]);

    let mut bench = Bench::new(Plan { limits, goal: Goal::Once, ..WATCHED });
    bench.on(Event::Turn);
    for key in ["/a/1", "/a/2"] {
        bench.session.entry(entry(key, "x", 4)).unwrap();
    }
    assert_eq!(too_many(&mut bench, "/a/3"), [format!("failed: {words}")]);
    assert_eq!(bench.due(), None);
}

/// A second read may follow before the changes during the first one were reported.
#[test]
fn changes_of_before_a_read_are_not_reported_behind_it() {
    let mut bench = Bench::watching(WATCHED);
    // The event does not show the value, so the keys are read at once.
    bench.check(events(1, vec![delete("/a/2", 11), put("/a//2", "x", 11)]), &[]);
    bench.turn(&["0 range /a to /b"]);
    bench.page(12, &[("/a//2", "x", 11)], &["trigger -/a/2", "snapshot /a/2=x"]);
    bench.check(Event::Quiet, &[]);
}

/// Requests are pending while the stream is open.
#[test]
fn what_the_stream_brings_meanwhile_makes_an_answer_old() {
    // The newest revision was requested before newer events arrived.
    let mut bench = Bench::watching(WATCHED);
    bench.now += SILENCE;
    bench.turn(&["0 newest revision"]);
    bench.check(events(1, vec![put("/a", "x", 15)]), &[]);
    bench.check(Event::Quiet, &["trigger /a=x"]);
    assert_eq!(bench.due(), None);
    bench.check(Event::Page(Page { header: header(11), ..Page::default() }), &[]);
    // The next answer was requested after the events: the store was restored.
    bench.now += SILENCE;
    bench.turn(&["0 newest revision"]);
    let put_back = "Warn: reading all keys again reason=etcd was put back to an earlier revision";
    bench.check(Event::Page(Page { header: header(11), ..Page::default() }), &["close", put_back]);

    // A restarted read does not take the rest of a page for a whole page.
    let mut bench = Bench::watching(Plan { interval: Some(SILENCE), ..WATCHED });
    bench.now += SILENCE;
    bench.turn(&["0 range /a to /b"]);
    bench.session.entry(entry("/a/1", "x", 3)).unwrap();
    let compacted = WatchAnswer { watch_id: 1, canceled: true, compact_revision: 50, ..WatchAnswer::default() };
    bench.check(answer(compacted), &["close"]);
    bench.page(20, &[("/a/1", "x", 3)], &["snapshot /a/1=x"]);

    // The stream breaks: the request to its node is cancelled, too.
    let mut bench = Bench::watching(Plan { interval: Some(SILENCE), ..WATCHED });
    bench.now += SILENCE;
    bench.turn(&["0 range /a to /b"]);
    bench.session.entry(entry("/a/1", "x", 3)).unwrap();
    let broken = Event::StreamBroken { words: "cut".into(), resume: Resume::Possible };
    bench.check(broken, &["close", "abort", "failed: failed to watch http://a: cut"]);
    bench.wait();
    bench.turn(&["0 range /a to /b"]);
    bench.page(20, &[("/a/2", "y", 4)], &["snapshot /a/2=y"]);

    // A resource whose pending read is refused.
    let mut bench = three();
    bench.session.subscriptions.get_mut(&FIRST).unwrap().read_again_at(Some(bench.now));
    bench.turn(&["0 range /a to /b"]);
    let refused = |watch_id| {
        let cancel_reason = "permission denied".to_owned();
        answer(WatchAnswer { watch_id, canceled: true, cancel_reason, ..WatchAnswer::default() })
    };
    bench.session.token_refused = Some(bench.now);
    let words = "failed: failed to watch `/a` at http://a as user `me`: permission denied";
    bench.check(refused(1), &["abort", words]);
    // The watches of the other resources stay open.
    bench.check(events(4, vec![put("/d", "x", 14)]), &[]);
    bench.check(Event::Quiet, &["#2 trigger /d=x"]);
}

/// A stream delivers its keys although subscribers are added and removed meanwhile.
#[test]
fn a_stream_that_is_being_opened_keeps_its_watches() {
    let mut bench = Bench::watching(WATCHED);
    let second = bench.add(Plan { keys: &["/b"], watch_keys: &["/b"], ..WATCHED });
    bench.on(Event::Turn);
    bench.page(10, &[], &["#1 snapshot"]);
    bench.turn(&["close", "0 watch /a from 11, watch /b from 11"]);
    bench.remove(FIRST);
    bench.check(Event::Opened, &[]);
    bench.check(created(1, 10), &[]);
    bench.check(created(2, 10), &[]);
    bench.check(events(2, vec![put("/b", "x", 11)]), &[]);
    bench.check(Event::Quiet, &["#1 trigger /b=x"]);
    assert_eq!(second, Id(1));
    bench.turn(&["close", "0 watch /b from 12"]);
}

#[test]
fn a_read_that_holds_back_too_much_is_watched_on_again() {
    let mut bench = three();
    bench.session.subscriptions.get_mut(&FIRST).unwrap().read_again_at(Some(bench.now));
    bench.turn(&["0 range /a to /b"]);
    let half = "x".repeat(HELD / 2);
    bench.check(events(1, vec![put("/a/1", &half, 11)]), &[]);
    bench.check(events(1, vec![put("/a/2", &half, 12)]), &[]);
    bench.check(events(1, vec![put("/a/3", "x", 13)]), &[]);
    // The other resources do not wait.
    bench.check(events(4, vec![put("/d", "x", 14)]), &[]);
    bench.check(Event::Quiet, &["#2 trigger /d=x"]);
    bench.page(12, &[("/a/1", "half", 11), ("/a/2", "half", 12)], &["snapshot /a/1=half /a/2=half"]);
    bench.turn(&["close", "0 watch /a from 13, watch /b from 11, watch /c from 11, watch /d from 15"]);
}

#[test]
fn what_came_of_a_page_that_broke_off_does_not_count() {
    let mut bench = Bench::new(WATCHED);
    bench.on(Event::Turn);
    bench.session.entry(entry("/a/ghost", "x", 3)).unwrap();
    bench.on(broken("cut"));
    bench.wait();
    bench.turn(&["0 range /a to /b"]);
    // The key was deleted meanwhile, and the watch starts after the deletion.
    bench.part_of_page(20, &[("/a/1", "x", 4)], true, &[]);
    bench.turn(&["0 range /a/1\\0 to /b at 20"]);
    // The entry belongs to another cluster, which the end of the page would have shown.
    bench.session.entry(entry("/a/foreign", "x", 3)).unwrap();
    bench.on(broken("cut"));
    bench.wait();
    bench.turn(&["0 range /a/1\\0 to /b at 20"]);
    bench.page(20, &[("/a/2", "y", 5)], &["snapshot /a/1=x /a/2=y"]);
}

#[test]
fn a_read_that_fails_again_and_again_is_its_resources_own() {
    let late = || Event::Broken { words: "no answer within 3s".into(), resume: Resume::TimedOut };
    // With an open stream: the stream stays open.
    let mut bench = three();
    bench.session.subscriptions.get_mut(&FIRST).unwrap().read_again_at(Some(bench.now));
    let mut rests = Vec::new();
    for _ in 0..8 {
        bench.turn(&["0 range /a to /b"]);
        bench.check(late(), &["failed: failed to read from http://a: no answer within 3s"]);
        bench.turn(&["0 newest revision"]);
        bench.page(11, &[], &[]);
        bench.check(events(4, vec![put("/d", "x", 11)]), &[]);
        bench.on(Event::Quiet);
        rests.push(bench.wait());
    }
    assert_eq!((rests[0], rests[7]), (SHORTEST_BACKOFF, LONGEST_BACKOFF / 2));
    assert_eq!(bench.session.subscriptions[&FIRST].limit(), SMALLEST_PAGE.max(PAGE >> 8));
    bench.turn(&["0 range /a to /b"]);
    bench.page(11, &[("/a", "x", 11)], &["snapshot /a=x", "recovered"]);

    // Without a stream: the stream of the other resources is opened before the next attempt.
    let mut bench = Bench::new(WATCHED);
    bench.add(Plan { keys: &["/b"], watch_keys: &["/b"], ..WATCHED });
    bench.on(Event::Turn);
    bench.on(late());
    bench.wait();
    bench.turn(&["0 range /b to /c"]);
    bench.page(10, &[], &["#1 snapshot"]);
    bench.turn(&["0 range /a to /b"]);
    bench.on(late());
    bench.wait();
    bench.turn(&["0 watch /b from 11"]);
}

#[test]
fn keys_that_events_leave_open_are_read_at_a_pace() {
    let mut bench = three();
    let mut waits = Vec::new();
    for revision in 11..21 {
        bench.check(events(1, vec![put("/a//x", "y", revision)]), &[]);
        waits.push(bench.wait().as_secs());
        // Another event changes nothing.
        bench.on(events(1, vec![put("/a//x", "y", revision)]));
        while !bench.on(Event::Turn).contains(&"0 range /a to /b".to_owned()) {
            bench.on(Event::Page(Page { header: header(revision), ..Page::default() }));
            waits.push(bench.wait().as_secs());
        }
        bench.page(revision, &[("/a//x", "y", revision)], &["snapshot /a/x=y"]);
    }
    let total: u64 = waits.iter().sum();
    assert_eq!(waits[..3], [0, 1, 2]);
    assert!((150..200).contains(&total), "{waits:?}");
}

#[test]
fn a_key_too_long_to_be_read_leaves_the_watch_alone() {
    let mut bench = Bench::watching(RECONCILED);
    bench.wait();
    bench.turn(&["0 range /a to /b"]);
    bench.session.subscriptions.get_mut(&FIRST).unwrap().halve_page(1);
    bench.check(events(1, vec![put("/a", "x", 11)]), &[]);
    let words = "answer is longer than 9 bytes";
    let mut lines = Vec::new();
    for _ in 0..20 {
        lines = bench.on(Event::Broken { words: words.into(), resume: Resume::TooLarge });
        if !lines.is_empty() {
            break;
        }
        bench.turn(&["0 range /a to /b"]);
    }
    assert_eq!(
        lines,
        [format!("Warn: going on with the watch alone error=failed to read `/a` from http://a: {words}")]
    );
    assert!(bench.session.listens());
    bench.check(Event::Quiet, &["trigger /a=x"]);
    assert!(bench.wait() > Duration::ZERO);
}

#[test]
fn a_history_that_is_lost_before_it_is_watched_is_read_more_seldom() {
    let mut bench = Bench::watching(WATCHED);
    let foreign = |cluster_id| {
        let header = Header { cluster_id, revision: 10 };
        answer(WatchAnswer { watch_id: 1, created: true, header, ..WatchAnswer::default() })
    };
    bench.on(broken("cut"));
    bench.wait();
    bench.on(Event::Turn);
    let mut waits = Vec::new();
    for _ in 0..6 {
        bench.on(Event::Opened);
        let lines = bench.on(foreign(CLUSTER + 1));
        assert_eq!(lines.iter().any(|line| line.starts_with("failed")), waits.len() >= 2);
        waits.push(bench.wait().as_secs());
        bench.turn(&["0 range /a to /b"]);
        bench.page(10, &[], &["snapshot"]);
        bench.turn(&["0 watch /a from 11"]);
    }
    assert_eq!(waits, [0, 0, 4, 8, 10, 10]);
    bench.on(Event::Opened);
    bench.check(created(1, 10), &["recovered"]);
}

/// A resource was removed while its stream was opened, and the server ended its watch: no request follows for it.
#[test]
fn a_stream_without_watches_wants_no_turns() {
    let mut bench = Bench::new(WATCHED);
    bench.on(Event::Turn);
    bench.page(10, &[], &["snapshot"]);
    bench.turn(&["0 watch /a from 11"]);
    bench.add(Plan { keys: &["/b"], watch_keys: &["/b"], ..WATCHED });
    bench.remove(FIRST);
    bench.on(Event::Opened);
    bench.on(answer(WatchAnswer { watch_id: 1, canceled: true, compact_revision: 20, ..WatchAnswer::default() }));
    let asked = bench.on(Event::Turn);
    assert!(asked.last().is_some_and(|line| line.ends_with("range /b to /c")), "{asked:?}");
    bench.on(broken("cut"));
    bench.on(Event::Turn);
    assert!(bench.due().is_some_and(|due| due > bench.now), "it would want turns without end");
    assert!(bench.wait() >= SHORTEST_BACKOFF);
}

/// A confirmation alone does not mean that the watch lasted.
#[test]
fn a_watch_that_is_confirmed_and_then_compacted_is_read_more_seldom() {
    let mut bench = Bench::watching(WATCHED);
    let compacted =
        || answer(WatchAnswer { watch_id: 1, canceled: true, compact_revision: 20, ..WatchAnswer::default() });
    let mut waits = Vec::new();
    for _ in 0..6 {
        let lines = bench.on(compacted());
        assert_eq!(lines.iter().any(|line| line.starts_with("failed")), waits.len() >= 2);
        waits.push(bench.wait().as_secs());
        bench.turn(&["0 range /a to /b"]);
        bench.page(10, &[], &["snapshot"]);
        bench.turn(&["0 watch /a from 11"]);
        bench.on(Event::Opened);
        bench.on(created(1, 10));
    }
    assert_eq!(waits, [0, 0, 4, 8, 10, 10]);
    bench.now += LASTING;
    bench.on(compacted());
    assert_eq!(bench.wait(), Duration::ZERO, "it had lasted");
}

#[test]
fn a_watch_that_is_confirmed_and_then_denied_means_one_login() {
    let mut bench = Bench::new(Plan { login: true, ..WATCHED });
    let denied = || {
        answer(WatchAnswer {
            watch_id: 1,
            canceled: true,
            cancel_reason: "permission denied".into(),
            ..WatchAnswer::default()
        })
    };
    let logs_in_and_watches = |bench: &mut Bench| {
        bench.turn(&["0 login"]);
        bench.check(Event::LoggedIn { user: "me".into() }, &[]);
        bench.turn(&["0 watch /a from 11"]);
        bench.check(Event::Opened, &[]);
        bench.on(created(1, 10));
    };
    let last = bench.on(Event::Turn).pop();
    assert_eq!(last.as_deref(), Some("0 login"));
    bench.check(Event::LoggedIn { user: "me".into() }, &[]);
    bench.turn(&["0 range /a to /b"]);
    bench.page(10, &[], &["snapshot"]);
    bench.turn(&["0 watch /a from 11"]);
    bench.check(Event::Opened, &[]);
    bench.check(created(1, 10), &[]);
    // The token may have expired.
    bench.check(denied(), &["close"]);
    logs_in_and_watches(&mut bench);
    let want = "failed: failed to watch `/a` at http://a as user `me`: permission denied";
    bench.check(denied(), &["close", want]);
    bench.turn(&[]);
    assert_eq!(bench.wait(), SLOW_RETRY);
    bench.turn(&["0 may read /a to /b"]);
}

#[test]
fn streams_that_end_for_their_token_at_once_are_a_failure() {
    let mut bench = Bench::new(Plan { login: true, ..WATCHED });
    let ended = || Event::Message(Message::Error(Refusal { reason: Reason::Unauthenticated, words: "no".into() }));
    let logs_in = |bench: &mut Bench| {
        let last = bench.on(Event::Turn).pop();
        assert_eq!(last.as_deref(), Some("0 login"));
        bench.check(Event::LoggedIn { user: "me".into() }, &[]);
    };
    let watches = |bench: &mut Bench| {
        bench.turn(&["0 watch /a from 11"]);
        bench.check(Event::Opened, &[]);
    };
    logs_in(&mut bench);
    bench.turn(&["0 range /a to /b"]);
    bench.page(10, &[], &["snapshot"]);
    watches(&mut bench);
    bench.check(created(1, 10), &[]);
    // The token may have expired.
    bench.check(ended(), &["close"]);
    logs_in(&mut bench);
    watches(&mut bench);
    bench.check(created(1, 10), &[]);
    // A new token does not expire so soon.
    bench.check(ended(), &["close", "failed: failed to watch http://a: no"]);
    assert!(bench.wait() >= SHORTEST_BACKOFF, "there is a pause before the next login");
    logs_in(&mut bench);
    watches(&mut bench);
    bench.check(created(1, 10), &["recovered"]);
    bench.now += LASTING;
    bench.check(ended(), &["close"]);
    logs_in(&mut bench);
}
