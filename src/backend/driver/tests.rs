//! Drivers without a network: protocols without requests, and the time limit of a one-shot run. Calls and their
//! failures are tested with real servers, in tests/it.

use std::time::{Duration, Instant};

use super::*;
use crate::backend::failover::Deadline;
use crate::config::Kind;
use crate::host::client::Limits;

/// A protocol that waits without end, or reports in its first turns that the node failed.
struct Waiting {
    given_up: bool,
    failures: usize,
}

impl Subscribers for Waiting {
    fn waiting(&self) -> Vec<Id> {
        if self.given_up { Vec::new() } else { vec![Id(1)] }
    }

    fn give_up(&mut self) {
        self.given_up = true;
    }

    fn use_node(&mut self, _name: &str) {}
}

impl Protocol for Waiting {
    fn add(&mut self, _id: Id, _options: &config::Backend, _out: &mut Vec<Output>) {
        self.given_up = false;
    }

    fn remove(&mut self, _id: Id, _out: &mut Vec<Output>) {}

    fn on(&mut self, input: Input<'_>, _now: Instant, out: &mut Vec<Output>) {
        if matches!(input, Input::Turn) && self.failures > 0 {
            self.failures -= 1;
            out.push(Output::NodeFailed { words: "no".to_owned(), not_before: None });
        }
    }

    fn due(&self) -> Option<Instant> {
        None
    }
}

fn options() -> config::Backend {
    config::Backend {
        keys: vec!["/".to_owned()],
        watch_keys: Vec::new(),
        prefix: String::new(),
        watch: false,
        onetime: true,
        interval: None,
        secret: false,
        kind: Kind::Mock,
    }
}

/// A driver whose time limit started at `begun`, with the node of a record.
fn driver(begun: Instant, now: Instant) -> Driver {
    of_nodes(&["http://a"], 0, begun, now)
}

/// A driver whose protocol reports `failures` failures.
fn of_nodes(nodes: &[&str], failures: usize, begun: Instant, now: Instant) -> Driver {
    let known = Some(nodes.iter().map(|node| node.to_string()).collect());
    let urls = Box::new(|_| Vec::new());
    let store = Store {
        name: "test".into(),
        nodes: Nodes::Record { name: "_etcd._tcp.example.com".to_owned(), urls, known },
        limits: Limits { answer: Duration::from_secs(1), ..Limits::default() },
        tls: config::Tls::default(),
        login: None,
        deadline: Deadline::After(Duration::from_secs(3)),
        random: |_| 0,
    };
    let factory: Factory = Box::new(move |_, _, _| Box::new(Waiting { given_up: false, failures }));
    let mut driver = Driver::since(Some(begun), store, factory, now);
    driver.add(Id(1), &options(), false, now);
    driver
}

fn turn(driver: &mut Driver, now: Instant) -> Vec<String> {
    let mut reports = Vec::new();
    driver.turn(now, &mut reports);
    let words = |(_, report)| match report {
        Report::Failed(words) => words,
        other => format!("{other:?}"),
    };
    reports.into_iter().map(words).collect()
}

#[test]
fn the_time_of_a_one_shot_run_goes_on_with_other_nodes() {
    let begun = Instant::now();
    let second = Duration::from_secs(1);
    let mut driver = driver(begun, begun + second);
    assert_eq!(turn(&mut driver, begun + second), [""; 0]);
    assert_eq!(driver.due(), Some(begun + second * 3), "of the time before the nodes were known nothing comes back");
    let words = "failed to use http://a: nothing came before the `timeout` of the one-shot run was over";
    assert_eq!(turn(&mut driver, begun + second * 3), [words]);
    assert_eq!(driver.due(), None);
}

#[test]
fn a_node_that_is_tried_late_is_given_up_in_the_words_of_its_own_time() {
    let begun = Instant::now();
    let second = Duration::from_secs(1);
    let mut driver = driver(begun, begun + second * 3);
    assert_eq!(turn(&mut driver, begun + second * 3), [""; 0]);
    assert_eq!(turn(&mut driver, begun + second * 4), ["failed to use http://a: nothing came within 1s"]);
}

#[test]
fn a_later_subscriber_has_its_own_time_limit() {
    let begun = Instant::now();
    let second = Duration::from_secs(1);
    let mut driver = driver(begun, begun);
    assert_eq!(turn(&mut driver, begun), [""; 0]);
    assert_eq!(turn(&mut driver, begun + second * 3).len(), 1);
    driver.add(Id(2), &options(), false, begun + second * 5);
    assert_eq!(turn(&mut driver, begun + second * 5), [""; 0]);
    assert_eq!(driver.due(), Some(begun + second * 8));
}

#[test]
fn a_node_that_fails_without_a_pause_is_followed_by_the_next_at_once() {
    let now = Instant::now();
    let mut driver = of_nodes(&["http://a", "http://b"], 1, now, now);
    assert_eq!(turn(&mut driver, now), [""; 0]);
    assert_eq!(driver.due(), Some(now), "the protocol itself asks for nothing");
    assert_eq!(turn(&mut driver, now), [""; 0]);
    assert_eq!(driver.due(), Some(now + Duration::from_secs(3)));
}
