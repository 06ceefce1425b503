//! Decides which version of etcd's API holds the keys of a resource, if the configuration does not name it: the next
//! question, and the meaning of the answers. Decides once for one etcd. Opens no connection.

use std::collections::VecDeque;
use std::mem;

use super::v2::wire as v2;
use super::wire::{self, Span};
use crate::config::EtcdVersion;

/// A question to a node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Question {
    /// Whether version 3 has a key in a range: the body of a range request.
    Range(String),
    /// Whether version 2 has this key: path and query.
    Look(String),
}

/// The answer of a node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    Yes,
    No,
    /// The node does not have this version of the API.
    Unknown,
    /// The node refused the request. The text is the node's.
    Refused(String),
}

/// The next step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    Ask(Question),
    Take(EtcdVersion, Certainty),
    /// The version cannot be found on this node. The text has the cause.
    Fail(String),
}

/// The reason for the choice of a version.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Certainty {
    /// This version holds a key, or is the only one that the node has.
    Certain,
    /// Neither version holds a key.
    Default,
}

/// The questions of one attempt at one node.
pub struct Discovery {
    rest: VecDeque<Question>,
    three: Known,
    two: Known,
}

/// The answers about a version.
enum Known {
    /// No key was found so far.
    Empty,
    Unknown,
    Refused(String),
}

impl Discovery {
    /// The questions about the key ranges of version 3 and the paths of version 2.
    pub fn new(spans: &[Span], paths: &[Vec<u8>]) -> Discovery {
        let ranges = spans.iter().map(|span| Question::Range(wire::range(span, 1, None)));
        let looks = paths.iter().map(|path| Question::Look(v2::look(path)));
        Discovery { rest: ranges.chain(looks).collect(), three: Known::Empty, two: Known::Empty }
    }

    /// The first step, or the one after an answer.
    pub fn step(&mut self, answer: Option<Answer>) -> Step {
        if let Some(answer) = answer {
            let version = match self.rest.pop_front() {
                Some(Question::Look(_)) => EtcdVersion::V2,
                Some(Question::Range(_)) | None => EtcdVersion::V3,
            };
            let known = match answer {
                Answer::Yes => return Step::Take(version, Certainty::Certain),
                Answer::No => Known::Empty,
                Answer::Unknown => Known::Unknown,
                Answer::Refused(words) => Known::Refused(words),
            };
            if !matches!(known, Known::Empty) {
                self.leave_out(version);
                match version {
                    EtcdVersion::V2 => self.two = known,
                    EtcdVersion::V3 => self.three = known,
                }
            }
        }
        match self.rest.front() {
            Some(question) => Step::Ask(question.clone()),
            None => self.conclude(),
        }
    }

    /// Drops the remaining questions about a version.
    fn leave_out(&mut self, version: EtcdVersion) {
        let stays = |question: &Question| match question {
            Question::Range(_) => version == EtcdVersion::V2,
            Question::Look(_) => version == EtcdVersion::V3,
        };
        self.rest.retain(stays);
    }

    /// Decides after all questions, none of which found a key.
    fn conclude(&mut self) -> Step {
        let unknown = |version: &Known| matches!(version, Known::Unknown);
        match (mem::replace(&mut self.three, Known::Empty), mem::replace(&mut self.two, Known::Empty)) {
            (three, two) if unknown(&three) && unknown(&two) => {
                Step::Fail(format!("HTTP 404: neither `{}` nor `{}` is known here", wire::RANGE, v2::KEYS))
            }
            // A version that refuses access may hold the keys.
            (Known::Refused(words), _) | (Known::Empty, Known::Refused(words)) => {
                Step::Fail(format!("set `version`: it cannot be found out: {words}"))
            }
            (Known::Unknown, _) => Step::Take(EtcdVersion::V2, Certainty::Certain),
            (Known::Empty, _) => Step::Take(EtcdVersion::V3, Certainty::Default),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn discover(answers: &[Answer]) -> (String, Step) {
        let spans = [Span::of_prefix(b"/a"), Span::of_prefix(b"/b")];
        let mut discovery = Discovery::new(&spans, &[b"/a".to_vec(), b"/b".to_vec()]);
        let mut asked = String::new();
        let mut step = discovery.step(None);
        for answer in answers {
            asked += match &step {
                Step::Ask(Question::Range(_)) => "3",
                Step::Ask(Question::Look(_)) => "2",
                other => panic!("{other:?} after {asked}"),
            };
            step = discovery.step(Some(answer.clone()));
        }
        (asked, step)
    }

    #[test]
    fn versions() {
        use Answer::{No, Unknown, Yes};
        let check = |answers: &[Answer], asked: &str, want: Step| {
            assert_eq!(discover(answers), (asked.to_owned(), want), "{answers:?}");
        };
        let take = |version, certainty| Step::Take(version, certainty);
        let refused = |words: &str| Answer::Refused(words.into());
        let fail = |words: &str| Step::Fail(format!("set `version`: it cannot be found out: {words}"));
        let (two, three) = (EtcdVersion::V2, EtcdVersion::V3);
        check(&[Yes], "3", take(three, Certainty::Certain));
        check(&[No, Yes], "33", take(three, Certainty::Certain));
        check(&[No, No, Yes], "332", take(two, Certainty::Certain));
        check(&[No, No, No, Yes], "3322", take(two, Certainty::Certain));
        check(&[No, No, No, No], "3322", take(three, Certainty::Default));
        check(&[No, No, Unknown], "332", take(three, Certainty::Default));
        check(&[Unknown, No, No], "322", take(two, Certainty::Certain));
        check(&[Unknown, refused("x")], "32", take(two, Certainty::Certain));
        let neither = "HTTP 404: neither `/v3/kv/range` nor `/v2/keys` is known here";
        check(&[Unknown, Unknown], "32", Step::Fail(neither.into()));
        check(&[refused("denied"), Yes], "32", take(two, Certainty::Certain));
        check(&[refused("denied"), No, No], "322", fail("denied"));
        check(&[No, refused("denied"), Unknown], "332", fail("denied"));
        check(&[No, No, refused("denied")], "332", fail("denied"));
    }

    #[test]
    fn questions() {
        let mut discovery = Discovery::new(&[Span::of_prefix(b"/a")], &[b"/a".to_vec()]);
        let range = wire::range(&Span::of_prefix(b"/a"), 1, None);
        assert_eq!(discovery.step(None), Step::Ask(Question::Range(range)));
        let look = Step::Ask(Question::Look("/v2/keys/a?quorum=true".into()));
        assert_eq!(discovery.step(Some(Answer::No)), look);
        let mut nothing = Discovery::new(&[], &[]);
        assert_eq!(nothing.step(None), Step::Take(EtcdVersion::V3, Certainty::Default));
    }
}
