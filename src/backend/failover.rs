//! Selects the node of a store and the time of the next attempt: round-robin, with a backoff that grows from round to
//! round. Knows neither requests nor answers, and reads no clock.

use std::time::{Duration, Instant};

use crate::config::Mode;

/// The pause between two attempts: one to two times this in the first round over the nodes, doubled each round.
pub const SHORTEST_BACKOFF: Duration = Duration::from_millis(100);
/// The longest pause between two attempts.
pub const LONGEST_BACKOFF: Duration = Duration::from_secs(10);

/// A connection or watch that lasted this long did not fail: it is retried soon after its end.
pub const LASTING: Duration = LONGEST_BACKOFF;

/// An error that needs an operator is retried after one to three times this.
pub const SLOW_RETRY: Duration = Duration::from_secs(10);

/// The last attempt before a deadline gets this time, or a quarter of the whole time if that is less.
const LAST_ATTEMPT: Duration = Duration::from_secs(1);

/// The nodes, used round-robin.
pub struct Failover {
    /// The nodes as texts for messages.
    nodes: Vec<String>,
    /// The node in use.
    node: usize,
    /// For each node its failure since everything worked.
    failures: Vec<Option<String>>,
    /// The number of failures since the backoff was reset.
    attempts: u32,
    deadline: Deadline,
    /// The whole time, if there is a deadline.
    time: Option<Duration>,
    /// The least time of each node until every node was tried once.
    least: Duration,
    /// When the present attempt began; `None`: it has not begun.
    since: Option<Instant>,
    random: Box<dyn FnMut(u64) -> u64>,
}

/// How long a store is tried. Each node is tried at least once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Deadline {
    /// Without end.
    Never,
    /// From [`Failover::begin`] on, or from the first failure if that is not called.
    After(Duration),
    /// Until this moment.
    At(Instant),
}

impl Deadline {
    /// The deadline of a store: a one-shot run has this time, any other run has no end.
    pub fn of(mode: Mode, timeout: Duration) -> Deadline {
        match mode {
            Mode::OneShot => Deadline::After(timeout),
            Mode::Watch => Deadline::Never,
        }
    }
}

/// The node to begin with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    /// A random one, so that many machines with one list spread over it.
    Anywhere,
    /// The first one: the order of the list matters.
    First,
}

/// The consequence of a failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// Try the next node at once.
    Now,
    /// Try the next node after a pause.
    Pause {
        /// The end of the pause.
        until: Instant,
        /// What waiting subscribers get.
        notice: Notice,
    },
    /// There is no time left.
    GiveUp,
}

/// What waiting subscribers get after a failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Notice {
    /// A report of the failure.
    Failure,
    /// A warning: no node answers, but there is time left.
    FirstRound,
    /// Nothing: they got the warning before.
    None,
}

impl Failover {
    /// There is at least one node. `random` returns a number below its argument, which is not 0.
    pub fn new(
        nodes: Vec<String>,
        start: Start,
        deadline: Deadline,
        mut random: Box<dyn FnMut(u64) -> u64>,
    ) -> Failover {
        let node = match start {
            Start::Anywhere => usize::try_from(random(nodes.len() as u64)).unwrap_or(0),
            Start::First => 0,
        };
        let time = if let Deadline::After(time) = deadline { Some(time) } else { None };
        let (failures, least) = (vec![None; nodes.len()], Duration::ZERO);
        Failover { failures, node, attempts: 0, deadline, time, least, since: None, random, nodes }
    }

    /// Starts the time of the deadline. A node that was not tried before gets at least `least`.
    pub fn begin(&mut self, from: Instant, least: Duration) {
        self.least = least;
        if let Some(time) = self.time {
            self.deadline = from.checked_add(time).map_or(Deadline::Never, Deadline::At);
        }
    }

    /// The attempt on the node in use begins, unless it has begun.
    pub fn attempt(&mut self, now: Instant) {
        self.since.get_or_insert(now);
    }

    /// When the present attempt has to end; `None`: there is no attempt, or no limit.
    pub fn end(&self) -> Option<Instant> {
        let Deadline::At(end) = self.deadline else { return None };
        match (self.since, self.is_first_round(self.attempts)) {
            (Some(since), true) => since.checked_add(self.least).map(|least| least.max(end)),
            (None, true) => None,
            (_, false) => Some(end),
        }
    }

    /// The time of its own that the present attempt has beyond the deadline, because its node was not tried before.
    pub fn own_time(&self) -> Option<Duration> {
        let Deadline::At(end) = self.deadline else { return None };
        let own_end = self.since?.checked_add(self.least)?;
        (own_end > end && self.is_first_round(self.attempts)).then_some(self.least)
    }

    fn is_first_round(&self, attempts: u32) -> bool {
        (attempts as usize) < self.nodes.len()
    }

    /// The index of the node in use.
    pub fn node(&self) -> usize {
        self.node
    }

    /// The node in use, for messages.
    pub fn name(&self) -> &str {
        &self.nodes[self.node]
    }

    /// How many nodes there are.
    pub fn count(&self) -> usize {
        self.nodes.len()
    }

    /// Whether failures are retried without end.
    pub fn is_endless(&self) -> bool {
        self.deadline == Deadline::Never
    }

    /// The node in use failed. `words` names it.
    pub fn failed(&mut self, words: String, now: Instant) -> Next {
        self.failures[self.node] = Some(words);
        self.attempts = self.attempts.saturating_add(1);
        self.node = (self.node + 1) % self.nodes.len();
        self.since = None;
        let (tried, nodes) = (self.attempts as usize, self.nodes.len());
        let round = (tried - 1) / nodes;
        let half = (SHORTEST_BACKOFF * (1 << round.min(10))).min(LONGEST_BACKOFF / 2);
        let until =
            now + half + Duration::from_micros((self.random)(u64::try_from(half.as_micros()).unwrap_or(u64::MAX)));
        if let Deadline::After(time) = self.deadline {
            self.deadline = now.checked_add(time).map_or(Deadline::Never, Deadline::At);
        }
        match self.deadline {
            // The first round has no pauses, so that one dead node costs little time.
            Deadline::At(_) if tried < nodes => Next::Now,
            Deadline::At(end) => {
                let last = LAST_ATTEMPT.min(self.time.unwrap_or_default() / 4);
                match end.checked_sub(last).filter(|last| now < *last) {
                    Some(last) => {
                        let notice = if tried == nodes { Notice::FirstRound } else { Notice::None };
                        Next::Pause { until: until.min(last), notice }
                    }
                    None => Next::GiveUp,
                }
            }
            Deadline::After(_) | Deadline::Never => Next::Pause { until, notice: Notice::Failure },
        }
    }

    /// The request was refused permanently: if there is a deadline, the next failure is the last one.
    pub fn fail_fast(&mut self, now: Instant) {
        if self.deadline != Deadline::Never {
            self.deadline = Deadline::At(now);
            self.attempts = self.attempts.max(u32::try_from(self.nodes.len()).unwrap_or(u32::MAX));
        }
    }

    /// A subscriber was added after all others were satisfied: a deadline starts again.
    pub fn restart(&mut self, now: Instant) {
        if self.time.is_some() {
            (self.attempts, self.since) = (0, None);
            self.renew(now);
        }
    }

    /// A subscriber has got its keys: the time of the others starts again.
    pub fn renew(&mut self, now: Instant) {
        self.begin(now, self.least);
    }

    /// The failures of all nodes, so that the text is equal in every round.
    pub fn failures(&self) -> String {
        self.failures.iter().flatten().map(String::as_str).collect::<Vec<_>>().join("; ")
    }

    /// Everything works.
    pub fn worked(&mut self) {
        self.failures.fill(None);
    }

    /// Takes over the number of rounds from earlier nodes.
    pub fn take_over_rounds(&mut self, other: &Failover) {
        let rounds = other.attempts as usize / other.nodes.len();
        self.attempts = u32::try_from(rounds.saturating_mul(self.nodes.len())).unwrap_or(u32::MAX);
    }

    /// The next pause is the shortest again.
    pub fn reset_backoff(&mut self) {
        self.attempts = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FIRST: fn(u64) -> u64 = |_| 0;
    const LAST: fn(u64) -> u64 = |bound| bound - 1;

    fn failover(nodes: &[&str], deadline: Deadline, random: fn(u64) -> u64) -> Failover {
        let nodes = nodes.iter().map(|node| node.to_string()).collect();
        Failover::new(nodes, Start::First, deadline, Box::new(random))
    }

    fn pause(after: Duration, notice: Notice) -> impl Fn(Instant) -> Next {
        move |now| Next::Pause { until: now + after, notice }
    }

    #[test]
    fn nodes_come_in_turns_with_pauses_that_grow() {
        let now = Instant::now();
        let mut failover = failover(&["a", "b"], Deadline::Never, LAST);
        let mut pauses = Vec::new();
        for n in 0..20 {
            assert_eq!(failover.name(), ["a", "b"][n % 2]);
            let Next::Pause { until, notice: Notice::Failure } = failover.failed(format!("{n}"), now) else {
                panic!("attempt {n}");
            };
            pauses.push((until - now).as_secs_f64());
        }
        let rounded: Vec<f64> = pauses.iter().map(|pause| (pause * 10.0).round() / 10.0).collect();
        assert_eq!(rounded[..8], [0.2, 0.2, 0.4, 0.4, 0.8, 0.8, 1.6, 1.6]);
        assert_eq!(rounded[18..], [10.0, 10.0]);
        assert_eq!(failover.failures(), "18; 19");
        failover.worked();
        failover.reset_backoff();
        assert_eq!(failover.failures(), "");
        let Next::Pause { until, .. } = failover.failed("x".into(), now) else { panic!("a pause") };
        assert!(until - now < SHORTEST_BACKOFF * 2);
    }

    #[test]
    fn a_deadline_ends_it() {
        let mut now = Instant::now();
        let mut failover = failover(&["a", "b"], Deadline::After(Duration::from_millis(250)), FIRST);
        assert_eq!(failover.failed("1".into(), now), Next::Now);
        assert_eq!(failover.failed("2".into(), now), pause(SHORTEST_BACKOFF, Notice::FirstRound)(now));
        now += SHORTEST_BACKOFF;
        // The last attempt has a quarter of the time.
        assert_eq!(failover.failed("3".into(), now), pause(Duration::from_micros(87_500), Notice::None)(now));
        now += Duration::from_micros(87_500);
        assert_eq!(failover.end(), Some(now + Duration::from_micros(62_500)));
        assert_eq!(failover.failed("4".into(), now), Next::GiveUp);
        assert_eq!(failover.failures(), "3; 4");
    }

    #[test]
    fn time_runs_from_the_beginning_and_each_node_has_some_of_it() {
        let begun = Instant::now();
        let second = Duration::from_secs(1);
        let mut failover = failover(&["a", "b"], Deadline::After(second * 3), FIRST);
        failover.begin(begun, second * 2);
        assert_eq!(failover.end(), None, "nothing is tried yet");
        failover.attempt(begun);
        assert_eq!((failover.end(), failover.own_time()), (Some(begun + second * 3), None));
        assert_eq!(failover.failed("1".into(), begun + second * 3), Next::Now);
        failover.attempt(begun + second * 3);
        let least = (Some(begun + second * 5), Some(second * 2));
        assert_eq!((failover.end(), failover.own_time()), least, "it was not tried before");
        failover.renew(begun + second * 4);
        assert_eq!((failover.end(), failover.own_time()), (Some(begun + second * 7), None));
        assert_eq!(failover.failed("2".into(), begun + second * 7), Next::GiveUp);
    }

    #[test]
    fn fail_fast_needs_a_deadline() {
        let now = Instant::now();
        let mut once = failover(&["a", "b"], Deadline::After(Duration::from_secs(9)), FIRST);
        once.fail_fast(now);
        assert_eq!(once.failed("1".into(), now), Next::GiveUp);
        let mut failover = failover(&["a", "b"], Deadline::Never, FIRST);
        failover.fail_fast(now);
        assert_eq!(failover.failed("1".into(), now), pause(SHORTEST_BACKOFF, Notice::Failure)(now));
    }

    #[test]
    fn many_machines_begin_at_different_nodes() {
        let nodes = || vec!["a".to_owned(), "b".to_owned(), "c".to_owned()];
        assert_eq!(Failover::new(nodes(), Start::Anywhere, Deadline::Never, Box::new(LAST)).name(), "c");
        assert_eq!(Failover::new(nodes(), Start::First, Deadline::Never, Box::new(LAST)).name(), "a");
    }
}
