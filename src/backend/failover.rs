//! Which node of a store is used, and when again after a failure: one after the other, with pauses that grow from round
//! to round. Knows neither requests nor answers, and reads no clock.

use std::time::{Duration, Instant};

/// Between two attempts: once to twice this in the first round over the nodes, doubled every round.
pub const SHORTEST_BACKOFF: Duration = Duration::from_millis(100);
/// The pause between two attempts is never longer.
pub const LONGEST_BACKOFF: Duration = Duration::from_secs(10);

/// A connection or watch that lasted as long as this was no failure: what ends it is tried again soon.
pub const LASTING: Duration = LONGEST_BACKOFF;

/// What only a person can mend is tried again between this and three times this later.
pub const SLOW_RETRY: Duration = Duration::from_secs(10);

/// The last attempt before a deadline has this time, or a quarter of all the time where that is less.
const LAST_ATTEMPT: Duration = Duration::from_secs(1);

/// The nodes in turns.
pub struct Failover {
    /// As they are shown.
    nodes: Vec<String>,
    /// The one that is used.
    node: usize,
    /// What each failed with since everything worked.
    failures: Vec<Option<String>>,
    /// How often nodes failed since the backoff was reset.
    attempts: u32,
    deadline: Deadline,
    /// The whole time, where there is a deadline.
    time: Option<Duration>,
    /// What each node has at least, until every node was tried once.
    least: Duration,
    /// Since when the node is tried; `None`: the attempt has not begun.
    since: Option<Instant>,
    random: Box<dyn FnMut(u64) -> u64>,
}

/// How long a store is tried. Each node is tried once at least.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Deadline {
    /// For ever.
    Never,
    /// From [`Failover::begin`] on; without that from the first failure on.
    After(Duration),
    /// Until this moment.
    At(Instant),
}

/// Which node is used first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    /// Any: many machines have the same list, and they spread over it.
    Anywhere,
    /// The first: the list is in an order that matters.
    First,
}

/// What comes after a failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// The next node at once.
    Now,
    /// The next node then.
    /// The next node after a pause.
    Pause {
        /// The end of the pause.
        until: Instant,
        /// What is told to those who wait.
        notice: Notice,
    },
    /// There is no time left.
    GiveUp,
}

/// Whether those who wait for a node are told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Notice {
    /// Each failure, from the first one.
    Failure,
    /// No node answers, but there is time left.
    FirstRound,
    /// Nothing: they were told before.
    None,
}

impl Failover {
    /// At least one node. `random` gives a number below its argument, which is not 0.
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

    /// Lets the time run from a moment on. A node that was not tried before has `least` of it at least.
    pub fn begin(&mut self, from: Instant, least: Duration) {
        self.least = least;
        if let Some(time) = self.time {
            self.deadline = from.checked_add(time).map_or(Deadline::Never, Deadline::At);
        }
    }

    /// The node that is used is tried from now on, unless it is already.
    pub fn attempt(&mut self, now: Instant) {
        self.since.get_or_insert(now);
    }

    /// When what is under way has to be over; `None`: nothing is, or it may take as long as it likes.
    pub fn end(&self) -> Option<Instant> {
        let Deadline::At(end) = self.deadline else { return None };
        match (self.since, self.is_first_round(self.attempts)) {
            (Some(since), true) => since.checked_add(self.least).map(|least| least.max(end)),
            (None, true) => None,
            (_, false) => Some(end),
        }
    }

    fn is_first_round(&self, attempts: u32) -> bool {
        (attempts as usize) < self.nodes.len()
    }

    /// The place of the node that is used.
    pub fn node(&self) -> usize {
        self.node
    }

    /// The node that is used, as it is shown.
    pub fn name(&self) -> &str {
        &self.nodes[self.node]
    }

    /// How many nodes there are.
    pub fn count(&self) -> usize {
        self.nodes.len()
    }

    /// Whether failures are tried again for ever.
    pub fn is_endless(&self) -> bool {
        self.deadline == Deadline::Never
    }

    /// The node failed, in words that name it.
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
            // A first round without pauses: one node that is away delays nothing much.
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

    /// The request is refused for good: where there is a deadline, the next failure is the last one.
    pub fn fail_fast(&mut self, now: Instant) {
        if self.deadline != Deadline::Never {
            self.deadline = Deadline::At(now);
            self.attempts = self.attempts.max(u32::try_from(self.nodes.len()).unwrap_or(u32::MAX));
        }
    }

    /// A subscriber comes after all others have what they want: everything begins anew where there is a deadline.
    pub fn restart(&mut self, now: Instant) {
        if self.time.is_some() {
            (self.attempts, self.since) = (0, None);
            self.renew(now);
        }
    }

    /// A subscriber has its keys: the time of the others runs anew.
    pub fn renew(&mut self, now: Instant) {
        self.begin(now, self.least);
    }

    /// All nodes' failures, so that the text is the same in every round.
    pub fn failures(&self) -> String {
        self.failures.iter().flatten().map(String::as_str).collect::<Vec<_>>().join("; ")
    }

    /// Everything works.
    pub fn worked(&mut self) {
        self.failures.fill(None);
    }

    /// Takes over how many rounds other nodes were tried.
    pub fn go_on_after(&mut self, other: &Failover) {
        let rounds = other.attempts as usize / other.nodes.len();
        self.attempts = u32::try_from(rounds.saturating_mul(self.nodes.len())).unwrap_or(u32::MAX);
    }

    /// Starts with the shortest pause again.
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
        assert_eq!(failover.end(), Some(begun + second * 3));
        assert_eq!(failover.failed("1".into(), begun + second * 3), Next::Now);
        failover.attempt(begun + second * 3);
        assert_eq!(failover.end(), Some(begun + second * 5), "it was not tried before");
        failover.renew(begun + second * 4);
        assert_eq!(failover.end(), Some(begun + second * 7));
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
