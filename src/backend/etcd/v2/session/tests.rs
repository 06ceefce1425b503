//! Days of a session in microseconds: events in, actions out, one line for each action. The clock and the etcd belong
//! to the test.

use std::rc::Rc;

use super::super::mirror::Tracking;
use super::super::wire::EventKind;
use super::*;
use crate::backend::driver::core::{Command, Core};
use crate::backend::etcd::subscription::OTHER_CLUSTER;
use crate::backend::failover::{Deadline, Failover, LASTING, SHORTEST_BACKOFF, Start};
use crate::store::Bytes;

/// The default cluster of all answers.
const CLUSTER: u64 = 7;

const DEADLINE: Duration = Duration::from_secs(30);
const PATIENCE: Duration = Duration::from_secs(3);

struct Bench {
    session: Session,
    core: Core,
    now: Instant,
}

#[derive(Clone, Copy)]
struct Plan {
    nodes: &'static [&'static str],
    keys: &'static [&'static str],
    watch_keys: &'static [&'static str],
    goal: Goal,
    interval: Option<Duration>,
    limits: ReadLimits,
}

const WATCHED: Plan = Plan {
    nodes: &["http://a"],
    keys: &["/a"],
    watch_keys: &["/a"],
    goal: Goal::Watched,
    interval: None,
    limits: ReadLimits { max_keys: 1000, max_decoded: 1000 },
};

const FAILED: &str = "failed: failed to watch http://a: connection closed";

fn head(index: u64) -> Head {
    Head { cluster: CLUSTER, index }
}

fn bytes(text: &str) -> Bytes {
    Rc::from(text.as_bytes())
}

fn opened(wait: usize, index: u64) -> Event {
    Event::Opened { wait, head: head(index) }
}

fn put(wait: usize, key: &str, value: &str, index: u64) -> Event {
    Event::Changed { wait, event: wire::Event { key: bytes(key), index, kind: EventKind::Put(bytes(value)) } }
}

fn delete(wait: usize, key: &str, index: u64) -> Event {
    Event::Changed { wait, event: wire::Event { key: bytes(key), index, kind: EventKind::Delete } }
}

fn broken() -> Event {
    Event::Broken("connection closed".into())
}

fn refused(kind: RefusalKind) -> Event {
    Event::Refused { refusal: Refusal { kind, words: "said so".into() }, user: None }
}

impl Bench {
    /// A bench with the smallest random numbers.
    fn new(plan: Plan) -> Bench {
        let strings = |list: &[&str]| list.iter().map(|text| text.to_string()).collect::<Vec<_>>();
        let deadline = match plan.goal {
            Goal::Once => Deadline::After(Duration::from_secs(30)),
            Goal::Kept | Goal::Watched => Deadline::Never,
        };
        let failover = Failover::new(strings(plan.nodes), Start::First, deadline, Box::new(|_| 0));
        let settings = Settings {
            id: Id(0),
            nodes: plan.nodes.join(","),
            prefix: "/p".into(),
            goal: plan.goal,
            interval: plan.interval,
            watch_deadline: DEADLINE,
            stream_timeout: PATIENCE,
            limits: plan.limits,
        };
        let mirror = Mirror::new("", &strings(plan.keys), &strings(plan.watch_keys), Tracking::Yes);
        let mut session = Session::new(settings, mirror, Box::new(|_| 0));
        session.use_node(failover.name());
        Bench { session, core: Core::new(NAME, failover), now: Instant::now() }
    }

    fn on(&mut self, event: Event) -> Vec<String> {
        if matches!(event, Event::Turn) && self.core.pause(self.now).is_some() {
            return Vec::new();
        }
        let mut actions = Vec::new();
        self.session.on(event, self.now, &mut actions);
        let mut lines = Vec::new();
        for action in actions {
            match action {
                Action::Ask(request) => lines.push(format!("{} {}", self.core.failover().node(), asked(&request))),
                Action::Abort => lines.push("abort".into()),
                Action::Close => lines.push("close".into()),
                Action::Drop(wait) => lines.push(format!("drop {wait}")),
                Action::Emit(output) => {
                    let mut commands = Vec::new();
                    self.core.take(output, &mut self.session, self.now, &mut commands);
                    lines.extend(commands.iter().filter_map(reported));
                }
            }
        }
        lines
    }

    /// When the next turn is due.
    fn due(&self) -> Option<Instant> {
        self.core.due(self.session.due())
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
    fn read(&mut self, index: u64, entries: &[(&str, &str, u64)], want: &[&str]) {
        for (key, value, index) in entries {
            self.session.entry(Entry { key: bytes(key), value: bytes(value), index: *index }).unwrap();
        }
        self.check(Event::Read(head(index)), want);
    }

    /// A session that watches, with nothing read at index 10.
    fn watching(plan: Plan) -> Bench {
        let mut bench = Bench::new(plan);
        for _ in plan.keys {
            bench.on(Event::Turn);
            bench.on(Event::Read(head(10)));
        }
        for wait in 0..bench.session.waits() {
            bench.on(Event::Turn);
            bench.check(opened(wait, 10), &[]);
        }
        bench.check(Event::Quiet, &[]);
        bench.now += LASTING;
        bench
    }
}

fn asked(Request { kind, target }: &Request) -> String {
    let target = target.strip_prefix("/v2/keys").unwrap().replace("?recursive=true&", " ").replace('?', " ");
    format!("{kind:?} {target}").replace("wait=true&waitIndex=", "from ").replace(" quorum=true", "")
}

fn reported(command: &Command) -> Option<String> {
    let plain = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    Some(match command {
        Command::Report(_, Report::Snapshot(layer)) => {
            let pairs = layer.iter().map(|(key, value)| format!(" {}={}", plain(key), plain(value)));
            format!("snapshot{}", pairs.collect::<String>())
        }
        Command::Report(_, Report::Changes { changes, trigger }) => {
            let list = changes.iter().map(|change| match change {
                Change::Put(key, value) => format!(" {}={}", plain(key), plain(value)),
                Change::Delete(key) => format!(" -{}", plain(key)),
            });
            format!("{}{}", if *trigger { "trigger" } else { "changes" }, list.collect::<String>())
        }
        Command::Report(_, Report::Failed(words)) => format!("failed: {words}"),
        Command::Report(_, Report::Recovered) => "recovered".into(),
        Command::Report(_, Report::Log(line)) if line.level == Level::Debug => return None,
        Command::Report(_, Report::Log(line)) => {
            let fields = line.fields.iter().filter(|(name, _)| *name != "backend");
            let fields = fields.map(|(name, value)| format!(" {name}={value}")).collect::<String>();
            format!("{:?}: {}{fields}", line.level, line.message)
        }
        Command::CancelAll => return None,
        other => format!("{other:?}"),
    })
}

#[test]
fn each_key_is_waited_for_from_the_index_behind_its_read() {
    let mut bench = Bench::new(Plan { keys: &["/b", "/a"], watch_keys: &["/a", "/r"], ..WATCHED });
    bench.turn(&["Info: set backend nodes nodes=http://a version=2", "0 Read /b"]);
    bench.read(10, &[("/b/1", "x", 3)], &[]);
    assert_eq!(bench.session.revision(), None, "not all is read");
    assert_eq!(bench.wait(), Duration::ZERO);
    bench.turn(&["0 Read /a"]);
    bench.read(12, &[("/a/1", "y", 11)], &["snapshot /a/1=y /b/1=x"]);
    assert_eq!(bench.session.revision(), Some(12));
    bench.turn(&["0 Wait(1) /b from 11"]);
    bench.check(opened(1, 14), &[]);
    // A key that is only watched was not read.
    bench.turn(&["0 Wait(2) /r from 11"]);
    bench.check(opened(2, 14), &[]);
    bench.turn(&["0 Wait(0) /a from 13"]);
    bench.check(opened(0, 14), &[]);
    bench.turn(&[]);
    assert_eq!(bench.wait(), DEADLINE * 9 / 10);
    bench.turn(&["0 Probe /a/_remco"]);
    bench.check(Event::Probed(head(14)), &[]);
    assert_eq!(bench.wait(), DEADLINE * 9 / 10);
}

#[test]
fn a_change_costs_one_wait() {
    let mut bench = Bench::watching(Plan { keys: &["/a", "/b"], watch_keys: &["/a"], ..WATCHED });
    bench.check(put(0, "/a/1", "x", 15), &[]);
    bench.check(Event::Quiet, &["trigger /a/1=x"]);
    assert_eq!(bench.wait(), Duration::ZERO);
    bench.turn(&["0 Wait(0) /a from 16"]);
    bench.check(opened(0, 15), &[]);
    bench.check(delete(0, "/a/1", 16), &[]);
    bench.check(put(1, "/b/1", "y", 17), &[]);
    bench.check(Event::Quiet, &["trigger -/a/1 /b/1=y"]);
    bench.turn(&["0 Wait(0) /a from 17"]);
    bench.check(opened(0, 17), &[]);
    bench.turn(&["0 Wait(1) /b from 18"]);
    bench.check(opened(1, 17), &[]);
    bench.check(Event::Quiet, &[]);
}

#[test]
fn the_changes_of_a_burst_are_reported_as_one_but_soon() {
    let mut bench = Bench::watching(WATCHED);
    bench.check(put(0, "/a/1", "live", 11), &[]);
    bench.check(Event::Quiet, &["trigger /a/1=live"]);
    // More changes follow: they were written meanwhile.
    bench.turn(&["0 Wait(0) /a from 12"]);
    bench.check(opened(0, 14), &[]);
    bench.check(put(0, "/a/2", "x", 12), &[]);
    bench.check(Event::Quiet, &[]);
    bench.turn(&["0 Wait(0) /a from 13"]);
    bench.check(opened(0, 14), &[]);
    bench.check(put(0, "/a/3", "y", 13), &[]);
    bench.check(Event::Quiet, &[]);
    bench.turn(&["0 Wait(0) /a from 14"]);
    bench.check(opened(0, 14), &[]);
    // The other changes do not concern this key.
    bench.check(Event::Quiet, &["trigger /a/2=x /a/3=y"]);
    // An endless burst does not delay the report.
    bench.on(put(0, "/a/4", "z", 14));
    bench.on(Event::Quiet);
    bench.on(Event::Turn);
    bench.check(opened(0, 1000), &[]);
    bench.check(put(0, "/a/5", "1", 15), &[]);
    bench.now += BURST;
    bench.check(Event::Quiet, &["trigger /a/5=1"]);
}

#[test]
fn what_a_failure_interrupts_is_reported_before_it() {
    let mut bench = Bench::watching(WATCHED);
    bench.on(put(0, "/a/1", "live", 11));
    bench.on(Event::Quiet);
    bench.on(Event::Turn);
    bench.on(opened(0, 14));
    bench.check(put(0, "/a/2", "x", 12), &[]);
    bench.check(broken(), &["trigger /a/2=x", FAILED]);
    assert_eq!(bench.wait(), SHORTEST_BACKOFF);
    bench.turn(&["0 Wait(0) /a from 13"]);
    bench.check(opened(0, 14), &["recovered"]);
}

#[test]
fn a_change_that_cannot_be_taken_is_read() {
    let mut bench = Bench::watching(WATCHED);
    let words = "failed: failed to watch http://a: answer is longer than 9 bytes";
    bench.check(Event::Unusable("answer is longer than 9 bytes".into()), &["close", words]);
    assert_eq!(bench.wait(), SHORTEST_BACKOFF);
    bench.turn(&["0 Read /a"]);
    bench.read(12, &[("/a/1", "x", 11)], &["snapshot /a/1=x"]);
    bench.turn(&["0 Wait(0) /a from 13"]);
}

#[test]
fn another_node_takes_over_all_waits() {
    let plan = Plan { nodes: &["http://a", "http://b"], keys: &["/a", "/b"], ..WATCHED };
    let mut bench = Bench::watching(plan);
    bench.check(broken(), &["close", FAILED]);
    bench.turn(&[]);
    assert_eq!(bench.wait(), SHORTEST_BACKOFF);
    bench.turn(&["1 Wait(0) /a from 11"]);
    bench.check(opened(0, 10), &[]);
    bench.turn(&["1 Wait(1) /b from 11"]);
    bench.check(broken(), &["close", &format!("{FAILED}; failed to watch http://b: connection closed")]);
    bench.wait();
    bench.turn(&["0 Wait(0) /a from 11"]);
}

#[test]
fn a_wait_that_a_proxy_ends_is_no_failure() {
    let mut bench = Bench::watching(WATCHED);
    bench.check(Event::Ended { wait: 0, whole: true }, &[]);
    bench.turn(&["0 Wait(0) /a from 11"]);
    bench.check(opened(0, 14), &[]);
    // A proper end means that the history up to the opening was searched.
    bench.now += LASTING;
    bench.check(Event::Ended { wait: 0, whole: false }, &[]);
    bench.turn(&["0 Wait(0) /a from 11"]);
    bench.check(opened(0, 14), &[]);
    bench.turn(&[]);
    bench.now += LASTING;
    bench.turn(&["0 Probe /a/_remco"]);
    bench.check(Event::Probed(head(14)), &[]);
    bench.check(Event::Ended { wait: 0, whole: true }, &[]);
    bench.turn(&["0 Wait(0) /a from 15"]);
    bench.check(opened(0, 14), &[]);
    bench.check(
        Event::Ended { wait: 0, whole: true },
        &["failed: failed to watch http://a: wait ended without a change"],
    );
}

#[test]
fn a_wait_that_may_be_dead_is_opened_again() {
    let mut bench = Bench::watching(Plan { keys: &["/a", "/b"], watch_keys: &["/a"], ..WATCHED });
    // Changes of one key do not affect the deadlines of the other.
    let opened_at = bench.now;
    bench.check(put(0, "/a/1", "x", 15), &[]);
    bench.on(Event::Quiet);
    bench.now = opened_at + DEADLINE / 2;
    bench.turn(&["0 Wait(0) /a from 16"]);
    bench.check(opened(0, 15), &[]);
    bench.now = opened_at + DEADLINE;
    bench.turn(&["0 Probe /a/_remco"]);
    // Only waits that are older than the deadline are dropped, and only if the store has changed.
    bench.check(Event::Probed(head(15)), &["drop 1"]);
    bench.turn(&["0 Wait(1) /b from 11"]);
    bench.check(opened(1, 15), &[]);
    for _ in 0..9 {
        bench.wait();
        bench.turn(&["0 Probe /a/_remco"]);
        bench.check(Event::Probed(head(15)), &[]);
    }
    // If a new wait would start before the history, only the age of the old wait counts.
    for _ in 0..2 {
        bench.now += DEADLINE;
        bench.turn(&["0 Probe /a/_remco"]);
        if bench.on(Event::Probed(head(2000))) == ["drop 0", "drop 1"] {
            return;
        }
    }
    panic!("waits that are minutes old are still open");
}

#[test]
fn the_wait_that_is_furthest_behind_is_opened_first() {
    let mut bench = Bench::watching(Plan { keys: &["/a", "/b"], watch_keys: &["/a"], ..WATCHED });
    bench.on(put(1, "/b/1", "x", 11));
    bench.on(put(0, "/a/1", "x", 12));
    bench.on(Event::Quiet);
    bench.turn(&["0 Wait(1) /b from 12"]);
    bench.check(opened(1, 12), &[]);
    bench.turn(&["0 Wait(0) /a from 13"]);
}

#[test]
fn an_old_answer_that_comes_again_is_a_failure_with_its_rest() {
    let mut bench = Bench::watching(WATCHED);
    let words = "failed: failed to watch http://a: an answer to another wait";
    bench.check(put(0, "/a/1", "x", 10), &[words]);
    assert_eq!(bench.wait(), SHORTEST_BACKOFF);
    bench.turn(&["0 Wait(0) /a from 11"]);
}

#[test]
fn a_cleared_history_is_read_again_after_a_pause() {
    let mut bench = Bench::watching(WATCHED);
    bench.on(broken());
    bench.wait();
    let mut rests = Vec::new();
    for index in 2000..2006 {
        bench.turn(&[&format!("0 Wait(0) /a from {}", if index == 2000 { 11 } else { index })]);
        bench.check(refused(RefusalKind::Cleared), &["Info: reading all keys again reason=history was cleared"]);
        rests.push(bench.wait().as_millis());
        bench.turn(&["0 Read /a"]);
        bench.read(index, &[("/a/1", "x", 3)], &["snapshot /a/1=x"]);
    }
    assert_eq!(rests, [0, 1000, 2000, 4000, 5000, 5000]);
    // A wait that was open for a short time makes no difference.
    for rest in [Duration::from_secs(5), Duration::ZERO] {
        bench.turn(&["0 Wait(0) /a from 2006"]);
        bench.check(opened(0, 2005), &["recovered"]);
        bench.now += if rest.is_zero() { LASTING } else { Duration::ZERO };
        bench.on(broken());
        bench.wait();
        bench.on(Event::Turn);
        bench.on(refused(RefusalKind::Cleared));
        assert_eq!(bench.wait(), rest);
        bench.turn(&["0 Read /a"]);
        bench.read(2005, &[("/a/1", "x", 3)], &["snapshot /a/1=x"]);
    }
}

#[test]
fn another_store_is_read_again() {
    let lost = |why: &str| format!("Warn: reading all keys again reason={why}");
    let mut bench = Bench::watching(WATCHED);
    bench.on(broken());
    bench.wait();
    bench.on(Event::Turn);
    let other = Head { cluster: 8, index: 20 };
    bench.check(Event::Opened { wait: 0, head: other }, &["close", &lost(OTHER_CLUSTER)]);
    bench.wait();
    bench.turn(&["0 Read /a"]);
    bench.check(Event::Read(Head { cluster: 8, index: 5 }), &["snapshot"]);
    bench.turn(&["0 Wait(0) /a from 6"]);
    bench.check(Event::Opened { wait: 0, head: Head { cluster: 8, index: 5 } }, &["recovered"]);

    // The cluster was restored: the wait would be silent until index 11.
    let mut bench = Bench::watching(WATCHED);
    bench.on(broken());
    bench.wait();
    bench.on(Event::Turn);
    bench.check(opened(0, 4), &["recovered"]);
    assert_eq!(bench.wait(), Duration::ZERO);
    bench.turn(&["0 Probe /a/_remco"]);
    bench.check(Event::Probed(head(4)), &["close", &lost("etcd was put back to an earlier index")]);
    bench.wait();
    bench.turn(&["0 Read /a"]);
    bench.read(5, &[], &["snapshot"]);
    bench.turn(&["0 Wait(0) /a from 6"]);

    // A node that only lags behind.
    let mut bench = Bench::watching(WATCHED);
    bench.on(broken());
    bench.wait();
    bench.on(Event::Turn);
    bench.on(opened(0, 4));
    bench.on(Event::Turn);
    bench.check(Event::Probed(head(10)), &[]);
    assert_eq!(bench.wait(), DEADLINE * 9 / 10);
}

#[test]
fn keys_of_two_stores_are_not_mixed() {
    for other in [Head { cluster: 8, index: 50 }, head(9)] {
        let mut bench = Bench::new(Plan { keys: &["/a", "/b"], ..WATCHED });
        bench.on(Event::Turn);
        bench.read(10, &[("/a/1", "x", 3)], &[]);
        bench.on(Event::Turn);
        let words = "failed: failed to read from http://a: keys of another store than those of the answer before it";
        bench.check(Event::Read(other), &[words]);
        bench.wait();
        bench.turn(&["0 Read /a"]);
    }
}

#[test]
fn what_came_of_an_answer_that_broke_off_does_not_count() {
    let mut bench = Bench::new(Plan { nodes: &["http://a", "http://b"], keys: &["/b", "/a"], ..WATCHED });
    bench.on(Event::Turn);
    bench.read(10, &[("/b/1", "x", 3)], &[]);
    bench.on(Event::Turn);
    bench.session.entry(Entry { key: bytes("/a/deleted-meanwhile"), value: bytes("y"), index: 4 }).unwrap();
    bench.check(broken(), &["failed: failed to read from http://a: connection closed"]);
    bench.wait();
    bench.turn(&["1 Read /a"]);
    bench.read(12, &[("/a/1", "z", 11)], &["snapshot /a/1=z /b/1=x"]);
}

#[test]
fn a_key_that_is_missing_is_an_error() {
    let mut bench = Bench::new(Plan { keys: &["/b", "/a"], ..WATCHED });
    bench.on(Event::Turn);
    bench.read(10, &[("/b/1", "x", 3)], &[]);
    bench.turn(&["0 Read /a"]);
    bench.check(refused(RefusalKind::Missing), &["failed: failed to read from http://a: `/a`: said so"]);
    // Keys that were read before the failure are kept.
    assert_eq!(bench.wait(), SHORTEST_BACKOFF);
    bench.turn(&["0 Read /a"]);
    bench.read(12, &[("/a/1", "y", 11)], &["snapshot /a/1=y /b/1=x"]);
}

#[test]
fn a_key_that_goes_is_read_again_and_keeps_the_old_values_until_it_is_back() {
    let mut bench = Bench::watching(WATCHED);
    bench.check(delete(0, "/a", 11), &[]);
    assert!(!bench.session.listens());
    bench.turn(&["0 Read /a"]);
    bench.check(refused(RefusalKind::Missing), &["failed: failed to read from http://a: `/a`: said so"]);
    bench.wait();
    bench.turn(&["0 Read /a"]);
    bench.read(20, &[("/a/1", "back", 19)], &["snapshot /a/1=back"]);
    bench.turn(&["0 Wait(0) /a from 21"]);
    bench.check(opened(0, 20), &["recovered"]);
}

/// A session whose next read by interval is pending.
fn reading_again() -> Bench {
    let mut bench = Bench::watching(Plan { interval: Some(Duration::from_secs(10)), ..WATCHED });
    bench.turn(&["0 Read /a"]);
    bench
}

#[test]
fn an_interval_reads_beside_the_waits() {
    let mut bench = reading_again();
    bench.read(20, &[], &["snapshot"]);
    bench.turn(&[]);
    bench.check(put(0, "/a/1", "x", 21), &[]);
    bench.check(Event::Quiet, &["trigger /a/1=x"]);
    bench.turn(&["0 Wait(0) /a from 22"]);
    // Without differences a reopened wait starts after the read, because etcd's history is short.
    let mut bench = reading_again();
    bench.read(20, &[], &["snapshot"]);
    bench.on(broken());
    bench.wait();
    bench.turn(&["0 Wait(0) /a from 21"]);
}

#[test]
fn what_a_read_had_before_the_waits_is_still_to_come() {
    let mut bench = reading_again();
    bench.read(20, &[("/a/1", "x", 15), ("/a/2", "y", 12)], &["snapshot /a/1=x /a/2=y"]);
    bench.check(put(0, "/a/2", "y", 12), &[]);
    bench.check(Event::Quiet, &[]);
    bench.turn(&["0 Wait(0) /a from 13"]);
    bench.check(opened(0, 20), &[]);
    // A key that was deleted again before the read.
    bench.check(put(0, "/a/3", "z", 14), &[]);
    bench.turn(&["0 Wait(0) /a from 15"]);
    bench.check(opened(0, 20), &[]);
    bench.check(put(0, "/a/1", "x", 15), &[]);
    bench.check(Event::Quiet, &[]);
    bench.turn(&["0 Wait(0) /a from 21"]);
    bench.check(opened(0, 20), &[]);
    assert!(bench.wait() > PATIENCE);
}

#[test]
fn what_the_waits_do_not_bring_was_missed() {
    let mut bench = reading_again();
    bench.read(20, &[("/a/1", "x", 15), ("/a/2", "y", 12)], &["snapshot /a/1=x /a/2=y"]);
    bench.check(put(0, "/a/1", "x", 15), &[]);
    bench.turn(&["0 Wait(0) /a from 16"]);
    bench.check(opened(0, 20), &[]);
    assert_eq!(bench.wait(), PATIENCE);
    bench.turn(&["Warn: watch missed changes, opening it again keys=1", "close", "0 Wait(0) /a from 21"]);
    bench.check(opened(0, 20), &[]);

    // Changes may be late after a failure.
    let mut bench = reading_again();
    bench.read(20, &[("/a/1", "x", 15)], &["snapshot /a/1=x"]);
    bench.on(broken());
    bench.now += PATIENCE;
    bench.turn(&["0 Wait(0) /a from 11"]);
}

#[test]
fn one_shot_asks_each_node_and_then_as_long_as_it_may() {
    let plan = Plan { nodes: &["http://a", "http://b"], goal: Goal::Once, ..WATCHED };
    let mut bench = Bench::new(plan);
    bench.turn(&["Info: set backend nodes nodes=http://a,http://b version=2", "0 Read /a"]);
    bench.check(broken(), &[]);
    assert_eq!(bench.wait(), Duration::ZERO);
    bench.turn(&["1 Read /a"]);
    let all = "failed to read from http://a: connection closed; failed to read from http://b: connection closed";
    bench.check(broken(), &[&format!("Warn: no node answers, trying again error={all}")]);
    let started = bench.now;
    let last = loop {
        bench.wait();
        bench.on(Event::Turn);
        let reported = bench.on(broken());
        if !reported.is_empty() {
            break reported;
        }
    };
    assert_eq!(last, [format!("failed: {all}")]);
    assert_eq!(bench.now - started, Duration::from_secs(29), "the last attempt has some time");
    assert_eq!(bench.due(), None);
    bench.turn(&[]);
}

#[test]
fn one_shot_reads_once_and_ends() {
    let plan = Plan { goal: Goal::Once, ..WATCHED };
    let mut bench = Bench::new(plan);
    bench.on(Event::Turn);
    bench.read(10, &[("/a", "x", 3)], &["snapshot /a=x"]);
    assert_eq!(bench.due(), None);
    bench.turn(&[]);

    for (kind, words) in [
        (RefusalKind::Missing, "`/a`: said so"),
        (RefusalKind::Denied, "`/a` may not be read without a user: said so"),
        (RefusalKind::UnknownPath, "said so"),
    ] {
        let mut bench = Bench::new(Plan { nodes: &["http://a", "http://b"], ..plan });
        bench.on(Event::Turn);
        bench.check(refused(kind), &[&format!("failed: failed to read from http://a: {words}")]);
        assert_eq!(bench.due(), None);
    }
}

#[test]
fn a_user_without_permission_is_named() {
    let mut bench = Bench::new(WATCHED);
    bench.on(Event::Turn);
    let refusal = Refusal { kind: RefusalKind::Denied, words: "HTTP 401".into() };
    let words = "failed: failed to read from http://a: user `bob` may not read `/a`, or has another password: HTTP 401";
    bench.check(Event::Refused { refusal, user: Some("bob".into()) }, &[words]);
    assert_eq!(bench.wait(), SLOW_RETRY);
}

#[test]
fn nothing_to_read_is_read_too() {
    let mut bench = Bench::new(Plan { keys: &[], ..WATCHED });
    bench.turn(&["Info: set backend nodes nodes=http://a version=2", "0 Probe /a/_remco"]);
    bench.check(Event::Probed(head(10)), &["snapshot"]);
    bench.turn(&["0 Wait(0) /a from 11"]);
    let mut bench = Bench::new(Plan { keys: &[], watch_keys: &[], goal: Goal::Kept, ..WATCHED });
    bench.turn(&["Info: set backend nodes nodes=http://a version=2", "0 Probe /_remco"]);
    bench.check(Event::Probed(head(10)), &["snapshot"]);
    assert_eq!(bench.due(), None);
}

#[test]
fn events_that_do_not_fit_change_nothing() {
    let mut bench = Bench::watching(WATCHED);
    bench.on(put(0, "/a/1", "x", 11));
    bench.on(Event::Quiet);
    bench.check(put(0, "/a/1", "y", 12), &[]);
    bench.check(Event::Ended { wait: 0, whole: true }, &[]);
    bench.check(Event::Read(head(3)), &[]);
    bench.check(Event::Quiet, &[]);
}

/// Every node has these keys: the session retries rarely, and the keys that were read are dropped.
#[test]
fn more_keys_than_may_be_read_are_an_error() {
    let limits = ReadLimits { max_keys: 2, max_decoded: 1000 };
    let mut bench = Bench::new(Plan { keys: &["/a", "/b"], limits, ..WATCHED });
    bench.on(Event::Turn);
    bench.read(10, &[("/a/1", "x", 3), ("/a/2", "x", 3)], &[]);
    bench.turn(&["0 Read /b"]);
    let words = bench.session.entry(Entry { key: bytes("/b/1"), value: bytes("x"), index: 4 }).unwrap_err();
    assert_eq!(words, "more than 2 keys: raise `max_keys` of the backend");
    let failed = format!("failed: failed to read from http://a: `/b`: {words}");
    bench.check(Event::TooMany(words), &[&failed]);
    assert_eq!(bench.wait(), SLOW_RETRY);
    bench.turn(&["0 Read /a"]);
    // An incomplete answer does not count twice.
    for _ in 0..3 {
        bench.session.entry(Entry { key: bytes("/a/1"), value: bytes("x"), index: 3 }).unwrap();
        bench.on(broken());
        bench.wait();
        bench.turn(&["0 Read /a"]);
    }
    let mut bench = Bench::new(Plan { goal: Goal::Once, limits, ..WATCHED });
    bench.on(Event::Turn);
    bench.check(Event::TooMany("too many".into()), &["failed: failed to read from http://a: `/a`: too many"]);
    assert_eq!(bench.due(), None);
}

/// Without the pauses a directory that is deleted and created again and again would cause reads without a pause.
#[test]
fn a_directory_that_goes_again_and_again_is_read_at_a_pace() {
    let mut bench = Bench::watching(WATCHED);
    let mut waits = Vec::new();
    for index in [20, 30, 40, 50] {
        bench.on(delete(0, "/a", index));
        waits.push(bench.wait().as_secs());
        bench.turn(&["0 Read /a"]);
        bench.read(index, &[("/a/1", "x", index)], &["snapshot /a/1=x"]);
        bench.turn(&[&format!("0 Wait(0) /a from {}", index + 1)]);
        bench.on(opened(0, index));
    }
    assert_eq!(waits, [0, 1, 2, 4]);
}
