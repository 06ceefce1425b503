//! The pure half of a driver: selects the node, the pause after a failure, and the subscribers that get reports of a
//! failure and of its end. Makes no call and reads no clock.

use std::collections::BTreeSet;
use std::time::Instant;

use crate::backend::Report;
use crate::backend::failover::{Failover, LASTING, Next, Notice};
use crate::backend::protocol::{CallId, Id, Output, Request, Security, Subscribers};
use crate::config;
use crate::log::{Level, Line};

/// The warning of a one-shot run that has tried every node.
const NO_NODE_ANSWERS: &str = "no node answers, trying again";

/// The warning of a one-shot run for a store that is a program.
fn no_keys(program: &str) -> String {
    format!("plugin `{program}` gives no keys, trying again")
}

/// The end of the error of a call that the `timeout` has ended.
const OUT_OF_TIME: &str = "before the `timeout` of the one-shot run was over";

/// The node in use, and the subscribers with a reported failure.
pub struct Core {
    /// The name of the backend in logs.
    name: String,
    /// The warning of a one-shot run that has tried every node.
    warning: String,
    failover: Failover,
    /// The pause after a failure lasts until then.
    pause: Option<Instant>,
    /// The subscribers to which a failure was reported and not its end.
    reported: BTreeSet<Id>,
    /// The number of failed nodes since something worked.
    failed: usize,
    /// When the nodes were last replaced.
    changed: Option<Instant>,
}

/// An action for the driver.
#[derive(Debug)]
pub enum Command {
    /// Makes a request to the node in use.
    Begin(CallId, Request),
    /// Connects to the node in use.
    Connect(CallId, Security),
    /// Sends bytes on a connection.
    Send(CallId, Vec<u8>),
    /// Sets up TLS on a connection.
    Secure(CallId),
    /// Ends one call.
    Cancel(CallId),
    /// Releases the connection to a program, which has time to end by itself.
    Release(CallId),
    /// Ends all calls to the node that failed.
    CancelAll,
    /// Reads name and password; the protocol gets them as an input.
    ReadCredentials,
    /// A report for a subscriber.
    Report(Id, Report),
    /// Moves all subscribers to a backend with these options.
    Replace(Box<config::Backend>),
}

impl Core {
    /// A core without subscribers, on the first node of `failover`. `name` is the backend's name in logs.
    pub fn new(name: &str, failover: Failover) -> Core {
        let (name, warning) = (name.to_owned(), NO_NODE_ANSWERS.to_owned());
        Core { name, warning, failover, pause: None, reported: BTreeSet::new(), failed: 0, changed: None }
    }

    /// As [`Core::new`], for a store whose only node is a program.
    pub fn of_program(name: &str, failover: Failover) -> Core {
        Core { warning: no_keys(name), ..Core::new(name, failover) }
    }

    /// Replaces the nodes: at once, unless they change repeatedly. Reported failures still get a report of their end.
    pub fn use_nodes(&mut self, mut failover: Failover, now: Instant) {
        let last = self.changed.replace(now);
        if last.is_some_and(|last| now.saturating_duration_since(last) < LASTING) {
            failover.take_over_rounds(&self.failover);
        } else {
            self.pause = None;
        }
        (self.failover, self.failed) = (failover, 0);
    }

    /// The nodes, and the one in use.
    pub fn failover(&self) -> &Failover {
        &self.failover
    }

    /// The attempt on the node in use begins.
    pub fn attempt(&mut self, now: Instant) {
        self.failover.attempt(now);
    }

    /// The end of the error of a call that the time limit of the attempt has ended. A call on a node that was not tried
    /// before has the time of one answer, whether its own limit passes first or that of the attempt.
    pub fn time_limit(&self) -> String {
        self.failover.own_time().map_or_else(|| OUT_OF_TIME.to_owned(), |time| format!("within {time:?}"))
    }

    /// A subscriber was added after all others were satisfied: the time of a one-shot run starts again.
    pub fn restart(&mut self, now: Instant) {
        self.failover.restart(now);
    }

    /// Whether a failure was reported to a subscriber and not its end.
    pub fn is_failure_reported(&self, id: Id) -> bool {
        self.reported.contains(&id)
    }

    /// A subscriber was added. It may have got a report of a failure before.
    pub fn add(&mut self, id: Id, failure_reported: bool) {
        if failure_reported {
            self.reported.insert(id);
        }
    }

    /// A subscriber has left.
    pub fn remove(&mut self, id: Id) {
        self.reported.remove(&id);
    }

    /// The end of the present pause.
    pub fn pause(&mut self, now: Instant) -> Option<Instant> {
        self.pause = self.pause.filter(|until| now < *until);
        self.pause
    }

    /// When the protocol gets its next turn, if it is due at the given moment.
    pub fn due(&self, protocol: Option<Instant>) -> Option<Instant> {
        self.pause.or(protocol)
    }

    /// Whether every node has failed since something worked. Returns true once.
    pub fn is_exhausted(&mut self) -> bool {
        let is_exhausted = self.failover.is_endless() && self.failed >= self.failover.count();
        if is_exhausted {
            self.failed = 0;
        }
        is_exhausted
    }

    /// Handles an output of the protocol.
    pub fn take(&mut self, output: Output, of: &mut dyn Subscribers, now: Instant, out: &mut Vec<Command>) {
        match output {
            Output::Begin(call, request) => out.push(Command::Begin(call, request)),
            Output::Connect(call, security) => out.push(Command::Connect(call, security)),
            Output::Send(call, bytes) => out.push(Command::Send(call, bytes)),
            Output::Secure(call) => out.push(Command::Secure(call)),
            Output::Cancel(call) => out.push(Command::Cancel(call)),
            Output::Release(call) => out.push(Command::Release(call)),
            Output::ReadCredentials => out.push(Command::ReadCredentials),
            Output::Replace(options) => out.push(Command::Replace(options)),
            Output::Report(id, report) => self.report(id, report, now, out),
            Output::Healthy(id) => {
                if self.reported.remove(&id) {
                    out.push(Command::Report(id, Report::Recovered));
                }
            }
            Output::NodeFailed { words, not_before } => {
                out.push(Command::CancelAll);
                self.node_failed(words, not_before, of, now, out);
            }
            Output::RequestFailed { words } => self.node_failed(words, None, of, now, out),
            Output::FailFast => self.failover.fail_fast(now),
            Output::Worked => {
                self.failed = 0;
                self.failover.worked();
            }
            Output::ResetBackoff => self.failover.reset_backoff(),
        }
    }

    fn report(&mut self, id: Id, report: Report, now: Instant, out: &mut Vec<Command>) {
        match report {
            Report::Failed(_) => _ = self.reported.insert(id),
            Report::Snapshot(_) => {
                self.failed = 0;
                self.failover.renew(now);
            }
            Report::Changes { .. } => self.failed = 0,
            Report::Recovered | Report::Log(_) => {}
        }
        out.push(Command::Report(id, report));
    }

    /// The node in use failed. The consequences are equal for all stores.
    pub fn node_failed(
        &mut self,
        words: String,
        not_before: Option<Instant>,
        of: &mut dyn Subscribers,
        now: Instant,
        out: &mut Vec<Command>,
    ) {
        self.failed = self.failed.saturating_add(1);
        let next = self.failover.failed(words, now);
        let all = self.failover.failures();
        self.pause = match next {
            Next::Now => None,
            Next::Pause { until, .. } => Some(not_before.map_or(until, |least| until.max(least))),
            Next::GiveUp => None,
        };
        for id in of.waiting() {
            match next {
                Next::GiveUp | Next::Pause { notice: Notice::Failure, .. } => {
                    self.report(id, Report::Failed(all.clone()), now, out);
                }
                Next::Pause { notice: Notice::FirstRound, .. } => {
                    let line = Line::new(Level::Warn, &*self.warning).with("backend", &*self.name);
                    self.report(id, Report::Log(line.with("error", all.clone())), now, out);
                }
                Next::Now | Next::Pause { notice: Notice::None, .. } => {}
            }
        }
        if next == Next::GiveUp {
            of.give_up();
        }
        of.use_node(self.failover.name());
    }

    /// The time of a one-shot run is over while no call is in progress: waiting subscribers get an error.
    pub fn out_of_time(&mut self, of: &mut dyn Subscribers, now: Instant, out: &mut Vec<Command>) {
        let mut words = self.failover.failures();
        if words.is_empty() {
            words = format!("failed to use {}: nothing came {}", self.failover.name(), self.time_limit());
        }
        out.push(Command::CancelAll);
        of.waiting().into_iter().for_each(|id| self.report(id, Report::Failed(words.clone()), now, out));
        of.give_up();
    }
}

/// The subscribers of a store whose nodes are not known.
pub struct Unlocated {
    /// All of them.
    pub ids: Vec<Id>,
    /// Whether the time limit of a one-shot run has passed.
    pub given_up: bool,
}

impl Subscribers for Unlocated {
    fn waiting(&self) -> Vec<Id> {
        self.ids.clone()
    }

    fn give_up(&mut self) {
        self.given_up = true;
    }

    fn use_node(&mut self, _name: &str) {}
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::backend::failover::{Deadline, SHORTEST_BACKOFF, Start};

    /// Two subscribers that wait until the core gives up.
    struct Two {
        given_up: bool,
        node: String,
    }

    impl Subscribers for Two {
        fn waiting(&self) -> Vec<Id> {
            if self.given_up { Vec::new() } else { vec![Id(1), Id(2)] }
        }

        fn give_up(&mut self) {
            self.given_up = true;
        }

        fn use_node(&mut self, name: &str) {
            self.node = name.to_owned();
        }
    }

    struct Bench {
        core: Core,
        two: Two,
        now: Instant,
    }

    impl Bench {
        fn new(deadline: Deadline) -> Bench {
            let nodes = vec!["a".to_owned(), "b".to_owned()];
            let core = Core::new("test", Failover::new(nodes, Start::First, deadline, Box::new(|_| 0)));
            Bench { core, two: Two { given_up: false, node: "a".into() }, now: Instant::now() }
        }

        #[track_caller]
        fn check(&mut self, output: Output, want: &[&str]) {
            let mut out = Vec::new();
            self.core.take(output, &mut self.two, self.now, &mut out);
            let text = |command: &Command| match command {
                Command::Report(id, Report::Failed(words)) => format!("{} failed {words}", id.0),
                Command::Report(id, Report::Recovered) => format!("{} recovered", id.0),
                Command::Report(id, Report::Log(line)) => format!("{} {}", id.0, line.message),
                Command::CancelAll => "cancel all".to_owned(),
                other => format!("{other:?}"),
            };
            assert_eq!(out.iter().map(text).collect::<Vec<_>>(), want);
        }

        #[track_caller]
        fn fail(&mut self, words: &str, want: &[&str]) {
            self.check(Output::NodeFailed { words: words.into(), not_before: None }, want);
        }
    }

    #[test]
    fn a_failure_and_its_end_are_reported_to_the_waiting_subscribers() {
        let mut bench = Bench::new(Deadline::Never);
        bench.fail("x", &["cancel all", "1 failed x", "2 failed x"]);
        assert_eq!((bench.core.pause(bench.now), &*bench.two.node), (Some(bench.now + SHORTEST_BACKOFF), "b"));
        assert!(!bench.core.is_exhausted());
        bench.now += SHORTEST_BACKOFF;
        assert_eq!(bench.core.pause(bench.now), None);
        bench.fail("y", &["cancel all", "1 failed x; y", "2 failed x; y"]);
        assert!(bench.core.is_exhausted() && !bench.core.is_exhausted());
        bench.check(Output::Healthy(Id(1)), &["1 recovered"]);
        bench.check(Output::Healthy(Id(1)), &[]);
        bench.check(Output::Worked, &[]);
        bench.fail("z", &["cancel all", "1 failed z", "2 failed z"]);
    }

    #[test]
    fn a_pause_may_be_longer() {
        let mut bench = Bench::new(Deadline::Never);
        let least = bench.now + Duration::from_secs(20);
        let failed = Output::NodeFailed { words: "x".into(), not_before: Some(least) };
        bench.check(failed, &["cancel all", "1 failed x", "2 failed x"]);
        assert_eq!(bench.core.due(Some(bench.now)), Some(least));
    }

    #[test]
    fn a_one_shot_run_gives_up() {
        let mut bench = Bench::new(Deadline::After(Duration::from_secs(9)));
        bench.fail("x", &["cancel all"]);
        assert_eq!(bench.core.pause(bench.now), None);
        bench.fail("y", &["cancel all", "1 no node answers, trying again", "2 no node answers, trying again"]);
        bench.check(Output::FailFast, &[]);
        bench.fail("z", &["cancel all", "1 failed z; y", "2 failed z; y"]);
        assert!(bench.two.given_up && !bench.core.is_exhausted());
    }

    /// A DNS that names other dead nodes each time must not be asked without a pause.
    #[test]
    fn nodes_that_change_again_and_again_are_waited_for() {
        let mut bench = Bench::new(Deadline::Never);
        let mut pauses = Vec::new();
        for _ in 0..5 {
            let nodes = vec!["a".to_owned()];
            let failover = Failover::new(nodes, Start::First, Deadline::Never, Box::new(|_| 0));
            bench.core.use_nodes(failover, bench.now);
            let until = bench.core.pause(bench.now).unwrap_or(bench.now);
            pauses.push((until - bench.now).as_millis());
            bench.now = until;
            bench.fail("x", &["cancel all", "1 failed x", "2 failed x"]);
        }
        assert_eq!(pauses, [0, 100, 200, 400, 800]);
        bench.now += LASTING;
        let failover = Failover::new(vec!["b".to_owned()], Start::First, Deadline::Never, Box::new(|_| 0));
        bench.core.use_nodes(failover, bench.now);
        assert_eq!(bench.core.pause(bench.now), None, "the others had lasted");
    }

    #[test]
    fn a_one_shot_run_that_only_waits_is_reported_of_its_end() {
        let mut bench = Bench::new(Deadline::After(Duration::from_secs(9)));
        let mut out = Vec::new();
        bench.core.out_of_time(&mut bench.two, bench.now, &mut out);
        let words = "failed to use a: nothing came before the `timeout` of the one-shot run was over";
        let is_told = |command: &Command| matches!(command, Command::Report(_, Report::Failed(is)) if is == words);
        assert_eq!(out.iter().filter(|command| is_told(command)).count(), 2);
        assert!(bench.two.given_up);
    }
}
