//! Which node of an etcd is asked, and when again after a failure: one after the other, with rests that grow from round
//! to round. Knows neither requests nor answers, and reads no clock.

use std::time::{Duration, Instant};

/// Between two attempts: once to twice this in the first round over the nodes, doubled every round.
pub const SHORTEST_REST: Duration = Duration::from_millis(100);
pub const LONGEST_REST: Duration = Duration::from_secs(10);

/// What was refused for good is asked for again between this and three times this later: it takes a human to change it.
pub const SLOW_REST: Duration = Duration::from_secs(10);

/// What a one-shot run says when it has asked every node.
pub const NOBODY: &str = "no node answers, trying again";

/// The nodes in turns.
pub struct Rota {
    /// As they are shown.
    nodes: Vec<String>,
    /// The one that is asked.
    node: usize,
    /// What each failed with since everything worked.
    failures: Vec<Option<String>>,
    /// How often nodes failed since they were forgiven.
    attempts: u32,
    patience: Patience,
}

/// How long it is tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Patience {
    Endless,
    /// From the first failure on, and at least one round.
    For(Duration),
    /// The moment it ends.
    Until(Instant),
}

/// Which node is asked first.
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
    Rest { until: Instant, news: News },
    /// There is no time left.
    GiveUp,
}

/// Whether somebody is to be told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum News {
    Failure,
    /// Nobody answers, but there is time left for it.
    FirstRound,
    None,
}

impl Rota {
    /// At least one node. `random` gives a number below its argument, which is not 0.
    pub fn new(nodes: Vec<String>, start: Start, patience: Patience, random: &mut dyn FnMut(u64) -> u64) -> Rota {
        let node = match start {
            Start::Anywhere => random(nodes.len() as u64) as usize,
            Start::First => 0,
        };
        Rota { failures: vec![None; nodes.len()], node, attempts: 0, patience, nodes }
    }

    /// The place of the node that is asked.
    pub fn node(&self) -> usize {
        self.node
    }

    /// The node that is asked, as it is shown.
    pub fn name(&self) -> &str {
        &self.nodes[self.node]
    }

    /// All nodes, as they are shown.
    pub fn names(&self) -> String {
        self.nodes.join(",")
    }

    /// The node failed, in words that name it.
    pub fn failed(&mut self, words: String, now: Instant, random: &mut dyn FnMut(u64) -> u64) -> Next {
        self.failures[self.node] = Some(words);
        self.attempts = self.attempts.saturating_add(1);
        self.node = (self.node + 1) % self.nodes.len();
        let (tried, nodes) = (self.attempts as usize, self.nodes.len());
        let round = (tried - 1) / nodes;
        let half = (SHORTEST_REST * (1 << round.min(10))).min(LONGEST_REST / 2);
        let until = now + half + Duration::from_micros(random(half.as_micros() as u64));
        if let Patience::For(time) = self.patience {
            self.patience = now.checked_add(time).map_or(Patience::Endless, Patience::Until);
        }
        match self.patience {
            // A first round without rests: one node that is away delays nobody much.
            Patience::Until(_) if tried < nodes => Next::Now,
            Patience::Until(end) if end <= now => Next::GiveUp,
            Patience::Until(end) => {
                let news = if tried == nodes { News::FirstRound } else { News::None };
                Next::Rest { until: until.min(end), news }
            }
            Patience::For(_) | Patience::Endless => Next::Rest { until, news: News::Failure },
        }
    }

    /// What is asked for is refused for good: who has no endless patience gives up at the next failure.
    pub fn despair(&mut self, now: Instant) {
        if self.patience != Patience::Endless {
            self.patience = Patience::Until(now);
            self.attempts = self.attempts.max(self.nodes.len() as u32);
        }
    }

    /// All nodes' failures, so that the text is the same in every round.
    pub fn failures(&self) -> String {
        self.failures.iter().flatten().map(String::as_str).collect::<Vec<_>>().join("; ")
    }

    /// Everything works.
    pub fn worked(&mut self) {
        self.failures.fill(None);
    }

    /// Starts with the shortest rest again.
    pub fn forgive(&mut self) {
        self.attempts = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rota(nodes: &[&str], patience: Patience) -> Rota {
        let nodes = nodes.iter().map(|node| node.to_string()).collect();
        Rota::new(nodes, Start::First, patience, &mut |_| 1)
    }

    fn rest(after: Duration, news: News) -> impl Fn(Instant) -> Next {
        move |now| Next::Rest { until: now + after, news }
    }

    #[test]
    fn nodes_come_in_turns_with_rests_that_grow() {
        let now = Instant::now();
        let mut rota = rota(&["a", "b"], Patience::Endless);
        let mut rests = Vec::new();
        for n in 0..20 {
            assert_eq!(rota.name(), ["a", "b"][n % 2]);
            let Next::Rest { until, news: News::Failure } = rota.failed(format!("{n}"), now, &mut |bound| bound - 1)
            else {
                panic!("attempt {n}");
            };
            rests.push((until - now).as_secs_f64());
        }
        let rounded: Vec<f64> = rests.iter().map(|rest| (rest * 10.0).round() / 10.0).collect();
        assert_eq!(rounded[..8], [0.2, 0.2, 0.4, 0.4, 0.8, 0.8, 1.6, 1.6]);
        assert_eq!(rounded[18..], [10.0, 10.0]);
        assert_eq!(rota.failures(), "18; 19");
        rota.worked();
        rota.forgive();
        assert_eq!(rota.failures(), "");
        assert_eq!(rota.failed("x".into(), now, &mut |_| 0), rest(SHORTEST_REST, News::Failure)(now));
    }

    #[test]
    fn patience_ends() {
        let mut now = Instant::now();
        let mut rota = rota(&["a", "b"], Patience::For(Duration::from_millis(250)));
        assert_eq!(rota.failed("1".into(), now, &mut |_| 0), Next::Now);
        assert_eq!(rota.failed("2".into(), now, &mut |_| 0), rest(SHORTEST_REST, News::FirstRound)(now));
        now += SHORTEST_REST;
        assert_eq!(rota.failed("3".into(), now, &mut |_| 0), rest(Duration::from_millis(150), News::None)(now));
        now += Duration::from_millis(150);
        assert_eq!(rota.failed("4".into(), now, &mut |_| 0), Next::GiveUp);
        assert_eq!(rota.failures(), "3; 4");
    }

    #[test]
    fn despair_is_for_those_who_do_not_wait_for_ever() {
        let now = Instant::now();
        let mut rota_once = rota(&["a", "b"], Patience::For(Duration::from_secs(9)));
        rota_once.despair(now);
        assert_eq!(rota_once.failed("1".into(), now, &mut |_| 0), Next::GiveUp);
        let mut rota = rota(&["a", "b"], Patience::Endless);
        rota.despair(now);
        assert_eq!(rota.failed("1".into(), now, &mut |_| 0), rest(SHORTEST_REST, News::Failure)(now));
    }

    #[test]
    fn many_machines_begin_at_different_nodes() {
        let nodes = || vec!["a".to_owned(), "b".to_owned(), "c".to_owned()];
        assert_eq!(Rota::new(nodes(), Start::Anywhere, Patience::Endless, &mut |bound| bound - 1).name(), "c");
        assert_eq!(Rota::new(nodes(), Start::First, Patience::Endless, &mut |bound| bound - 1).name(), "a");
    }
}
