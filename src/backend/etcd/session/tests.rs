//! Days of a session in microseconds: events in, actions as one line each out.
//! No clock and no etcd but those of the test.

use std::collections::BTreeMap;
use std::rc::Rc;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;

use super::super::mirror::Comparing;
use super::super::wire::EventKind;
use super::*;
use crate::store::Layer;

/// The cluster that everything comes from unless a test says otherwise.
const CLUSTER: u64 = 7;

struct Bench {
    session: Session,
    now: Instant,
}

#[derive(Clone, Copy)]
struct Plan {
    nodes: &'static [&'static str],
    keys: &'static [&'static str],
    watch_keys: &'static [&'static str],
    goal: Goal,
    interval: Option<Duration>,
}

const WATCHED: Plan =
    Plan { nodes: &["http://a"], keys: &["/a"], watch_keys: &["/a"], goal: Goal::Watched, interval: None };

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
    Event::Broken { words: words.into(), tail: Tail::Fetchable }
}

fn refused(words: &str) -> Event {
    Event::Refused(Refusal { revision_gone: false, words: words.into() })
}

fn revision_gone() -> Event {
    Event::Refused(Refusal { revision_gone: true, words: "compacted".into() })
}

impl Bench {
    /// With the smallest of all random numbers.
    fn new(plan: Plan) -> Bench {
        Bench::with_random(plan, Box::new(|_| 0))
    }

    fn with_random(plan: Plan, random: Box<dyn FnMut(u64) -> u64>) -> Bench {
        let strings = |list: &[&str]| list.iter().map(|text| text.to_string()).collect::<Vec<_>>();
        let settings =
            Settings { nodes: strings(plan.nodes), prefix: "/p".into(), goal: plan.goal, interval: plan.interval };
        let mirror = Mirror::new("", &strings(plan.keys), &strings(plan.watch_keys), Comparing::Yes);
        Bench { session: Session::new(settings, mirror, random), now: Instant::now() }
    }

    fn on(&mut self, event: Event) -> Vec<String> {
        let mut actions = Vec::new();
        self.session.on(event, self.now, &mut actions);
        // Debug lines are told by a test of their own.
        let told = |action: &Action| !matches!(action, Action::Report(Report::Log(line)) if line.level == Level::Debug);
        actions.iter().filter(|action| told(action)).map(text).collect()
    }

    /// One event and what is to come of it.
    #[track_caller]
    fn check(&mut self, event: Event, want: &[&str]) {
        assert_eq!(self.on(event), want);
    }

    #[track_caller]
    fn turn(&mut self, want: &[&str]) {
        self.check(Event::Turn, want);
    }

    /// Lets the time come at which the session wants its next turn, and tells how long that took.
    fn wait(&mut self) -> Duration {
        let due = self.session.due().expect("a turn is wanted");
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
        entries.iter().for_each(|(key, value, revision)| self.session.entry(entry(key, value, *revision)));
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
        for id in 1..=bench.session.watches.len() {
            bench.check(created(id as i64, 10), &[]);
        }
        assert!(bench.session.listens());
        bench
    }
}

fn text(action: &Action) -> String {
    let plain = |bytes: &[u8]| String::from_utf8_lossy(bytes).replace('\0', "\\0");
    match action {
        Action::Ask(request) => format!("{} {}", request.node, body(request)),
        Action::Close => "close".into(),
        Action::Report(Report::Snapshot(layer)) => {
            let pairs = layer.iter().map(|(key, value)| format!(" {}={}", plain(key), plain(value)));
            format!("snapshot{}", pairs.collect::<String>())
        }
        Action::Report(Report::Changes { changes, trigger }) => {
            let list = changes.iter().map(|change| match change {
                Change::Put(key, value) => format!(" {}={}", plain(key), plain(value)),
                Change::Delete(key) => format!(" -{}", plain(key)),
            });
            format!("{}{}", if *trigger { "trigger" } else { "changes" }, list.collect::<String>())
        }
        Action::Report(Report::Failed(words)) => format!("failed: {words}"),
        Action::Report(Report::Recovered) => "recovered".into(),
        Action::Report(Report::Log(line)) => {
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

/// "range /a to /b", "range /a to /b at 5", "watch /a from 6".
fn body(request: &Request) -> String {
    let plain = |value: &serde_json::Value| {
        let text = BASE64_STANDARD.decode(value.as_str().unwrap()).unwrap();
        String::from_utf8(text).unwrap().replace('\0', "\\0")
    };
    let number = |value: &serde_json::Value| value.as_str().unwrap().parse::<u64>().unwrap();
    let objects = serde_json::Deserializer::from_str(&request.body).into_iter::<serde_json::Value>();
    let parts = objects.map(Result::unwrap).map(|body| match request.kind {
        RequestKind::Range if request.body == wire::newest_revision() => "newest revision".to_string(),
        RequestKind::Range => {
            let range = format!("range {} to {}", plain(&body["key"]), plain(&body["range_end"]));
            match number(&body["revision"]) {
                0 => range,
                revision => format!("{range} at {revision}"),
            }
        }
        RequestKind::Watch => {
            let create = &body["create_request"];
            format!("watch {} from {}", plain(&create["key"]), number(&create["start_revision"]))
        }
    });
    parts.collect::<Vec<_>>().join(", ")
}

#[test]
fn reads_pages_at_one_revision_and_watches_from_the_next() {
    let mut bench = Bench::new(Plan { keys: &["/b", "/a"], watch_keys: &["/a", "/r"], ..WATCHED });
    assert_eq!(bench.session.due(), None, "the first turn comes by itself");
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
fn debug_lines_tell_of_every_read() {
    let mut bench = Bench::new(WATCHED);
    let mut actions = Vec::new();
    bench.session.on(Event::Turn, bench.now, &mut actions);
    let lines: Vec<String> = actions.iter().map(text).collect();
    assert_eq!(lines[1], "Debug: retrieving keys key_prefix=/p");
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
fn a_watch_goes_on_after_the_last_event_of_each_key() {
    let mut bench = Bench::watching(Plan { keys: &["/a", "/b"], watch_keys: &["/r"], ..WATCHED });
    bench.on(events(1, vec![put("/a", "x", 15)]));
    // Progress: an event line says nothing of what is still to come.
    bench.on(answer(WatchAnswer { watch_id: 3, header: header(18), ..WatchAnswer::default() }));
    bench.check(
        broken("connection closed"),
        &["changes /a=x", "close", "failed: failed to watch http://a: connection closed"],
    );
    assert!(!bench.session.listens());
    assert_eq!(bench.wait(), SHORTEST_REST);
    bench.turn(&["0 watch /a from 16, watch /b from 11, watch /r from 19"]);
    bench.check(Event::Opened, &[]);
    bench.check(created(1, 20), &[]);
    bench.check(created(2, 20), &[]);
    bench.check(created(3, 20), &["recovered"]);
    bench.check(events(2, vec![put("/b", "y", 17)]), &[]);
    bench.check(Event::Quiet, &["changes /b=y"]);
}

#[test]
fn one_shot_asks_each_node_once() {
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
    assert_eq!(bench.session.due(), None);
    bench.turn(&[]);

    let mut bench = Bench::new(plan);
    bench.on(Event::Turn);
    bench.check(broken("connection refused"), &[]);
    bench.turn(&["1 range /a to /b"]);
    bench.check(broken("no answer within 3s"), &[]);
    bench.turn(&["2 range /a to /b"]);
    bench.check(
        refused("HTTP 503: etcdserver: no leader"),
        &["failed: failed to read from http://a: connection refused; failed to read from http://b: no answer within 3s; \
           failed to read from http://c: HTTP 503: etcdserver: no leader"],
    );
    assert_eq!(bench.session.due(), None);
    bench.turn(&[]);
}

#[test]
fn one_shot_ends_however_strange_the_answers_are() {
    let strange: [fn(&mut Bench); 3] = [
        |bench| drop(bench.on(Event::Page(Page::default()))),
        |bench| drop(bench.on(revision_gone())),
        |bench| {
            bench.on(Event::Page(Page { header: header(10), more: true, last: Some(bytes("/a/1")) }));
            bench.on(Event::Turn);
            bench.on(Event::Page(Page { header: header(10), more: true, last: None }));
        },
    ];
    for answer in strange {
        let mut bench = Bench::new(Plan { nodes: &["http://a", "http://b"], goal: Goal::Once, ..WATCHED });
        let mut turns = 0;
        while bench.on(Event::Turn).iter().any(|line| line.contains("range")) {
            answer(&mut bench);
            turns += 1;
            assert!(turns < 20);
        }
        assert_eq!(bench.session.due(), None);
    }
}

#[test]
fn starts_at_a_random_node() {
    let plan = Plan { nodes: &["http://a", "http://b", "http://c"], ..WATCHED };
    let mut bench = Bench::with_random(plan, Box::new(|bound| bound - 1));
    assert_eq!(bench.on(Event::Turn)[1], "2 range /a to /b");
}

#[test]
fn rests_longer_after_every_round() {
    for nodes in [&["http://a"][..], &["http://a", "http://b", "http://c"]] {
        let mut shortest = Bench::new(Plan { nodes, ..WATCHED });
        let mut longest = Bench::with_random(Plan { nodes, ..WATCHED }, Box::new(|bound| bound - 1));
        for round in 0..12 {
            for _ in nodes {
                let least = (SHORTEST_REST * 2u32.pow(round)).min(LONGEST_REST / 2);
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
    assert_eq!(rested(Duration::ZERO), SHORTEST_REST);
    assert_eq!(rested(Duration::ZERO), SHORTEST_REST * 2);
    assert_eq!(rested(Duration::from_secs(9)), SHORTEST_REST * 4);
    assert_eq!(rested(Duration::from_secs(10)), SHORTEST_REST);
}

#[test]
fn a_page_that_breaks_off_is_read_again_from_another_node() {
    let mut bench = Bench::new(Plan { nodes: &["http://a", "http://b"], ..WATCHED });
    bench.on(Event::Turn);
    bench.part_of_page(10, &[("/a/1", "x", 3)], true, &[]);
    bench.turn(&["0 range /a/1\\0 to /b at 10"]);
    bench.session.entry(entry("/a/2", "y", 4));
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
        bench.check(revision_gone(), &["failed: failed to read from http://a: compacted"]);
        if goal == Goal::Watched {
            bench.wait();
            bench.turn(&["0 range /a to /b"]);
            bench.page(14, &[("/a/1", "y", 14)], &["snapshot /a/1=y"]);
        }
    }
}

#[test]
fn pages_that_make_no_sense_are_failures() {
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

#[test]
fn a_refused_watch_is_tried_again() {
    let mut bench = Bench::watching(WATCHED);
    let refusal = |watch_id| WatchAnswer {
        watch_id,
        created: watch_id < 0,
        canceled: true,
        cancel_reason: "permission denied".into(),
        ..WatchAnswer::default()
    };
    let want = &["close", "failed: failed to watch http://a: watch refused: permission denied"];
    bench.check(answer(refusal(1)), want);
    bench.wait();
    bench.turn(&["0 watch /a from 11"]);
    bench.on(Event::Opened);
    bench.check(answer(refusal(-1)), want);
    bench.wait();
    bench.turn(&["0 watch /a from 11"]);
    bench.check(refused("HTTP 503"), &["failed: failed to watch http://a: HTTP 503"]);
}

#[test]
fn lines_that_make_no_sense_are_failures() {
    for watch_id in [0, -1, 2, i64::MIN, i64::MAX] {
        let mut bench = Bench::watching(WATCHED);
        bench.check(
            events(watch_id, vec![put("/a", "x", 11)]),
            &["close", "failed: failed to watch http://a: answer for a watch that was not asked for"],
        );
    }
    let mut bench = Bench::watching(WATCHED);
    bench.check(
        Event::Message(Message::Error("etcdserver: no leader".into())),
        &["close", "failed: failed to watch http://a: etcdserver: no leader"],
    );
    // The largest numbers there are do no harm.
    let mut bench = Bench::watching(WATCHED);
    bench.check(events(1, vec![put("/a", "x", u64::MAX)]), &[]);
    bench.check(answer(WatchAnswer { watch_id: 1, header: header(u64::MAX), ..WatchAnswer::default() }), &[]);
    bench.check(Event::Quiet, &["trigger /a=x"]);
}

#[test]
fn a_tail_too_long_to_be_taken_is_read_instead() {
    let mut bench = Bench::watching(WATCHED);
    bench.check(
        Event::Broken { words: "answer is longer than 9 bytes".into(), tail: Tail::TooLong },
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
    // The member that answered lagged behind the others.
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
    assert_eq!(bench.wait(), SHORTEST_REST);
    bench.turn(&["1 watch /a from 12"]);
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
        assert!(bench.wait() <= SHORTEST_REST * 2);
        bench.turn(&["0 range /a to /b"]);
        bench.page(11, &[("/a", "y", 11)], &["recovered", "snapshot /a=y"]);
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
    bench.page(10, &[], &["recovered", "snapshot"]);
    assert_eq!(bench.session.due(), None);
}

#[test]
fn an_interval_longer_than_time_itself_is_none() {
    let interval = Some(Duration::from_secs(i64::MAX as u64));
    let mut bench = Bench::new(Plan { goal: Goal::Kept, interval, ..WATCHED });
    bench.on(Event::Turn);
    bench.page(10, &[], &["snapshot"]);
    assert!(bench.session.due().is_none_or(|due| due > bench.now + Duration::from_secs(1 << 32)));
}

const RECONCILED: Plan = Plan { interval: Some(Duration::from_secs(10)), ..WATCHED };

#[test]
fn reconciles_beside_the_stream() {
    let mut bench = Bench::watching(RECONCILED);
    bench.on(events(1, vec![put("/a/1", "x", 11)]));
    bench.check(Event::Quiet, &["trigger /a/1=x"]);
    assert_eq!(bench.wait(), Duration::from_secs(9));
    bench.turn(&["0 range /a to /b"]);
    assert!(!bench.session.listens(), "events must not overtake the read");
    bench.part_of_page(20, &[("/a/1", "x", 11)], true, &[]);
    bench.turn(&["0 range /a/1\\0 to /b at 20"]);
    bench.page(22, &[("/a/2", "y", 20)], &["snapshot /a/1=x /a/2=y"]);
    // The stream was late with what the read had already, and is not applied again.
    assert!(bench.session.listens());
    bench.check(events(1, vec![put("/a/2", "early", 19), put("/a/2", "y", 20), put("/a/2", "z", 21)]), &[]);
    bench.check(Event::Quiet, &["trigger /a/2=z"]);
    assert_eq!(bench.wait(), Duration::from_secs(9));
    bench.turn(&["0 range /a to /b"]);
}

#[test]
fn a_stream_that_missed_something_is_told_and_opened_again() {
    let mut bench = Bench::watching(RECONCILED);
    bench.on(events(1, vec![put("/a/1", "x", 11), put("/a/2", "x", 11), put("/a/3", "x", 11)]));
    bench.on(Event::Quiet);
    bench.wait();
    bench.turn(&["0 range /a to /b"]);
    // /a/1 was deleted, /a/2 and /a/4 were written; the stream tells of /a/2 only.
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
fn a_key_that_events_cannot_tell_is_read_again_beside_the_stream() {
    let mut bench = Bench::watching(WATCHED);
    bench.check(events(1, vec![put("/a/1", "x", 11), put("/a//2", "y", 12)]), &[]);
    bench.check(Event::Quiet, &["trigger /a/1=x"]);
    assert_eq!(bench.wait(), Duration::ZERO);
    bench.turn(&["0 range /a to /b"]);
    bench.page(12, &[("/a//2", "y", 12), ("/a/1", "x", 11)], &["snapshot /a/1=x /a/2=y"]);
    // Nothing was missed, so the stream stays.
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
    bench.check(broken("cut"), &["close", "failed: failed to read from http://a: cut"]);
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
    assert_eq!(bench.session.due(), None);
    bench.turn(&[]);
}

/// A store with its history, and the streams that are open to it.
struct Etcd {
    cluster: u64,
    /// Revision, key, and what it was set to.
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

    /// What a fresh mirror reads of it.
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
        let revision = match body["revision"].as_str().unwrap().parse().unwrap() {
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
            session.entry(entry(key, value, *revision));
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

    /// The next line of one watch, with the events of at most so many revisions; `None`: it has got everything.
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
            // A line without events would say that there are none up to the newest revision.
            return self.line(watch, revisions);
        }
        Some(WatchAnswer { watch_id, header, events, ..WatchAnswer::default() })
    }
}

/// A session, its store and what was made of its reports.
struct World {
    bench: Bench,
    etcd: Etcd,
    /// Lines that were sent and not yet taken.
    lines: VecDeque<WatchAnswer>,
    layer: Layer,
    /// The layer as it was at the last call for an update.
    rendered: Layer,
    snapshots: usize,
    changes: usize,
    failures: usize,
}

impl World {
    /// Tells the session something and does what it wants; `fails` tells whether a request does.
    fn tell(&mut self, event: Event, fails: &mut dyn FnMut() -> bool) {
        let mut actions = Vec::new();
        self.bench.session.on(event, self.bench.now, &mut actions);
        for action in actions {
            match action {
                Action::Ask(_) if fails() => self.tell(broken("no answer"), fails),
                Action::Ask(request) if request.kind == RequestKind::Range => {
                    let body = serde_json::from_str(&request.body).unwrap();
                    let answer = self.etcd.range(&mut self.bench.session, &body);
                    self.tell(answer, fails);
                }
                Action::Ask(request) => {
                    self.etcd.open(&request.body);
                    let header = self.etcd.header();
                    let confirmed = |watch_id| WatchAnswer { watch_id, created: true, header, ..Default::default() };
                    let watches = self.etcd.stream.as_ref().map_or(0, Vec::len) as i64;
                    self.lines = (1..=watches).map(confirmed).collect();
                    self.tell(Event::Opened, fails);
                }
                Action::Close => {
                    self.etcd.stream = None;
                    self.lines.clear();
                }
                Action::Report(Report::Snapshot(read)) => {
                    self.snapshots += 1;
                    self.rendered = read.clone();
                    self.layer = read;
                }
                Action::Report(Report::Changes { changes, trigger }) => {
                    self.changes += changes.len();
                    for change in changes {
                        match change {
                            Change::Put(key, value) => drop(self.layer.insert(key, value)),
                            Change::Delete(key) => drop(self.layer.remove(&key)),
                        }
                    }
                    if trigger {
                        self.rendered = self.layer.clone();
                    }
                }
                Action::Report(Report::Failed(_)) => self.failures += 1,
                Action::Report(Report::Recovered | Report::Log(_)) => {}
            }
        }
    }

    /// Lets the session take lines for as long as it listens.
    fn listen(&mut self, fails: &mut dyn FnMut() -> bool) {
        while self.bench.session.listens()
            && let Some(line) = self.lines.pop_front()
        {
            self.tell(answer(line), fails);
        }
        self.tell(Event::Quiet, fails);
    }
}

/// Cuts, refusals, compactions, new clusters and late streams at random, with writes all the while: in the end the layer
/// is what a fresh read gives, and it was rendered.
#[test]
fn nothing_is_lost_whatever_happens() {
    let plans = [
        Plan { keys: &["/"], watch_keys: &["/"], ..WATCHED },
        Plan { keys: &["/a", "/b"], watch_keys: &["/a", "/b"], nodes: &["http://a", "http://b"], ..RECONCILED },
        Plan { keys: &["/", "/a"], watch_keys: &["/reload"], ..RECONCILED },
        Plan { keys: &["/a", "/b"], watch_keys: &["/reload", "/b/x"], ..WATCHED },
        Plan { keys: &["a", "b"], watch_keys: &["a", "b"], ..WATCHED },
    ];
    let names = ["/a", "/a/1", "/a/2", "/a//2", "/ab", "/b", "/b/x", "/c/1", "/reload", "a/1", "b/1", "a//1"];
    let (mut snapshots, mut changes, mut failures) = (0, 0, 0);
    for (run, plan) in plans.iter().cycle().take(500).enumerate() {
        let mut seed = run as u64 + 1;
        let mut below = move |bound: u64| {
            seed = seed.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            (seed >> 33) % bound
        };
        let mut world = World {
            bench: Bench::with_random(*plan, Box::new(below)),
            etcd: Etcd { cluster: CLUSTER, history: Vec::new(), compacted: 0, stream: None },
            lines: VecDeque::new(),
            layer: Layer::new(),
            rendered: Layer::new(),
            snapshots: 0,
            changes: 0,
            failures: 0,
        };
        world.tell(Event::Turn, &mut || false);
        for _ in 0..150 {
            if below(3) == 0 {
                let revision = world.etcd.revision() + 1;
                // One transaction may write several keys, each once.
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
                // Rebuilt from nothing.
                let cluster = world.etcd.cluster + 1;
                let stream = world.etcd.stream.take();
                world.etcd = Etcd { cluster, history: Vec::new(), compacted: 0, stream: None };
                if stream.is_some() {
                    world.tell(broken("rebuilt"), &mut || false);
                }
            }
            if world.etcd.stream.is_some() && below(30) == 0 {
                world.tell(broken("cut"), &mut || false);
            }
            if let Some(stream) = &world.etcd.stream {
                let watches = stream.len() as u64;
                for _ in 0..below(6) {
                    let line = world.etcd.line(below(watches) as usize, 1 + below(4));
                    world.lines.extend(line);
                }
            }
            let mut fails = || below(10) == 0;
            if world.bench.session.due().is_some_and(|due| due <= world.bench.now) {
                world.tell(Event::Turn, &mut fails);
            } else if fails() {
                // Time passes only now and then, so that much happens within every delay.
                world.bench.wait();
            }
            if below(2) == 0 {
                world.listen(&mut || false);
            }
        }
        if plan.watch_keys != plan.keys {
            // What is not watched is rendered with the next trigger.
            let revision = world.etcd.revision() + 1;
            world.etcd.history.push((revision, "/reload".into(), Some(String::new())));
        }
        // The storm is over: nothing fails any more, and everything that is to come does, the last watch's first.
        loop {
            while world.bench.session.due().is_some_and(|due| due <= world.bench.now) {
                world.tell(Event::Turn, &mut || false);
            }
            for watch in (0..world.etcd.stream.as_ref().map_or(0, Vec::len)).rev() {
                // A read may close or reopen the stream meanwhile.
                while let Some(line) = world.etcd.stream.is_some().then(|| world.etcd.line(watch, 3)).flatten() {
                    world.lines.push_back(line);
                }
                world.listen(&mut || false);
            }
            if world.bench.session.listens() && world.lines.is_empty() {
                break;
            }
            if !world.bench.session.listens() {
                world.bench.wait();
            }
        }
        assert_eq!(world.layer, world.etcd.layer(*plan), "run {run}");
        assert_eq!(world.rendered, world.layer, "run {run}");
        snapshots += world.snapshots;
        changes += world.changes;
        failures += world.failures;
    }
    assert!(snapshots > 500 && changes > 5000 && failures > 1000, "{snapshots} {changes} {failures}");
}
