//! A read of the keys that changed since the last one, for all resources: which keys to request, and the changes in
//! each store when all values have arrived. Sends nothing.

use std::collections::BTreeMap;

use super::mirror::Mirror;
use super::wanted::{Channel, Role, Wanted};
use crate::backend::Change;
use crate::backend::protocol::Id;
use crate::sorted::SortedMap;
use crate::store::Bytes;

/// A changed key and its meaning for one resource.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Touch {
    /// The number of the configured key that it equals.
    exact: Option<usize>,
    /// The numbers of the configured keys that it is below.
    below: Vec<usize>,
    /// Whether its change triggers an update.
    triggers: bool,
}

/// The changed keys of one resource.
pub type Touched = BTreeMap<Bytes, Touch>;

impl Touch {
    /// Adds the purpose of a channel that reported a change.
    pub fn add(&mut self, channel: &Channel, role: Role) {
        self.triggers |= role.triggers;
        match (channel, role.key) {
            (Channel::Key(_), Some(number)) => self.exact = Some(number),
            (Channel::Pattern(_), Some(number)) if !self.below.contains(&number) => self.below.push(number),
            (Channel::Pattern(_), Some(_)) | (_, None) => {}
        }
    }

    /// Whether the value of the key is needed.
    fn is_wanted(&self) -> bool {
        self.exact.is_some() || !self.below.is_empty()
    }
}

/// Changed keys whose values are being read.
#[derive(Debug)]
pub struct Round {
    /// The number of the round, which is unique.
    pub serial: u64,
    touched: SortedMap<Id, Touched>,
    values: BTreeMap<Bytes, Option<Bytes>>,
    awaited: usize,
    /// The user may not read one of the keys. The key may still exist.
    is_denied: bool,
}

/// The report for a resource.
#[derive(Debug, PartialEq, Eq)]
pub enum Applied {
    /// Nothing.
    Nothing,
    /// Changes of single keys, and whether they trigger an update.
    Changes(Vec<Change>, bool),
    /// All keys must be read: a key that hides those below it was created or deleted, or the user may not read one.
    Reread,
}

impl Round {
    /// A round, and the keys to request.
    pub fn new(serial: u64, touched: SortedMap<Id, Touched>) -> (Round, Vec<Bytes>) {
        let wanted = touched.values().flatten().filter(|(_, touch)| touch.is_wanted());
        let values: BTreeMap<Bytes, Option<Bytes>> = wanted.map(|(key, _)| (key.clone(), None)).collect();
        let keys: Vec<Bytes> = values.keys().cloned().collect();
        (Round { serial, touched, values, awaited: keys.len(), is_denied: false }, keys)
    }

    /// Notes that the user may not read a key.
    pub fn denied(&mut self) {
        self.awaited = self.awaited.saturating_sub(1);
        self.is_denied = true;
    }

    /// Takes the value of a key; `None`: it holds no string.
    pub fn value(&mut self, key: &Bytes, value: Option<Bytes>) {
        self.awaited = self.awaited.saturating_sub(1);
        self.values.insert(key.clone(), value);
    }

    /// Whether all values have arrived.
    pub fn is_complete(&self) -> bool {
        self.awaited == 0
    }

    /// The resources of this round.
    pub fn ids(&self) -> Vec<Id> {
        self.touched.keys().copied().collect()
    }

    /// Applies the values to the keys of a resource. `singles`: whether each configured key held a string.
    pub fn apply(&self, id: Id, wanted: &Wanted, singles: &[bool], mirror: &mut Mirror) -> Applied {
        if self.is_denied {
            return Applied::Reread;
        }
        let (mut changes, mut triggers) = (Vec::new(), false);
        for (key, touch) in self.touched.get(&id).into_iter().flatten() {
            let value = self.values.get(key).and_then(Option::as_ref);
            let is_single = |number: &usize| singles.get(*number).copied().unwrap_or(false);
            if touch.exact.is_some_and(|number| is_single(&number) != value.is_some()) {
                return Applied::Reread;
            }
            if !touch.is_wanted() {
                triggers |= touch.triggers;
                continue;
            }
            let is_read = touch.exact.as_ref().is_some_and(is_single) || touch.below.iter().any(|key| !is_single(key));
            if is_read
                && let Some(change) = wanted.store_key(key).and_then(|named| mirror.set(named, key, value.cloned()))
            {
                changes.push(change);
                triggers |= touch.triggers;
            }
        }
        if changes.is_empty() && !triggers { Applied::Nothing } else { Applied::Changes(changes, triggers) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::redis::wanted::pattern;

    fn bytes(text: &str) -> Bytes {
        Bytes::from(text.as_bytes())
    }

    struct Bench {
        wanted: Wanted,
        singles: Vec<bool>,
        mirror: Mirror,
    }

    impl Bench {
        fn new(keys: &[&str], watched: &[&str], singles: &[bool]) -> Bench {
            let texts = |keys: &[&str]| keys.iter().map(|key| key.to_string()).collect::<Vec<_>>();
            let wanted = Wanted::new("", &texts(keys), &texts(watched));
            Bench { wanted, singles: singles.to_vec(), mirror: Mirror::default() }
        }

        /// The result of a round for changed keys, each with its channel and value.
        fn apply(&mut self, announced: &[(&str, Channel, Option<&str>)]) -> Applied {
            let mut touched = Touched::new();
            for (key, announced, _) in announced {
                for (channel, role) in self.wanted.channels() {
                    if channel == *announced {
                        touched.entry(bytes(key)).or_default().add(&channel, role);
                    }
                }
            }
            let (mut round, asked) = Round::new(1, [(Id(1), touched)].into_iter().collect());
            for (key, _, value) in announced {
                if asked.contains(&bytes(key)) {
                    round.value(&bytes(key), value.map(bytes));
                }
            }
            assert!(round.is_complete());
            round.apply(Id(1), &self.wanted, &self.singles, &mut self.mirror)
        }
    }

    fn below(key: &str) -> Channel {
        Channel::Pattern(pattern(key.as_bytes()))
    }

    fn put(name: &str, value: &str) -> Change {
        Change::Put(bytes(name), bytes(value))
    }

    #[test]
    fn keys_below_a_key_change_one_by_one() {
        let mut bench = Bench::new(&["/a"], &["/a"], &[false]);
        let announced = [("/a/x", below("/a"), Some("1")), ("/a/y", below("/a"), None)];
        assert_eq!(bench.apply(&announced), Applied::Changes(vec![put("/a/x", "1")], true));
        assert_eq!(bench.apply(&announced), Applied::Nothing, "an event without a change");
        let gone = [("/a/x", below("/a"), None)];
        assert_eq!(bench.apply(&gone), Applied::Changes(vec![Change::Delete(bytes("/a/x"))], true));
    }

    #[test]
    fn a_key_itself_hides_those_below_it_while_it_is_there() {
        let mut bench = Bench::new(&["/a"], &["/a"], &[false]);
        let exact = |value| [("/a", Channel::Key(bytes("/a")), value)];
        assert_eq!(bench.apply(&exact(None)), Applied::Nothing);
        assert_eq!(bench.apply(&exact(Some("1"))), Applied::Reread);
        bench.singles = vec![true];
        assert_eq!(bench.apply(&exact(Some("1"))), Applied::Changes(vec![put("/a", "1")], true));
        assert_eq!(bench.apply(&[("/a/x", below("/a"), Some("1"))]), Applied::Nothing);
        assert_eq!(bench.apply(&exact(None)), Applied::Reread);
    }

    #[test]
    fn what_is_hidden_by_one_key_may_be_wanted_by_another() {
        let mut bench = Bench::new(&["/a", "/a/b"], &["/a"], &[true, false]);
        let announced = [("/a/b/c", below("/a"), Some("1")), ("/a/b/c", below("/a/b"), Some("1"))];
        assert_eq!(bench.apply(&announced), Applied::Changes(vec![put("/a/b/c", "1")], true));
    }

    #[test]
    fn watch_keys_decide_what_calls_for_an_update() {
        let mut bench = Bench::new(&["/a"], &["/reload"], &[false]);
        let announced = [("/a/x", below("/a"), Some("1"))];
        assert_eq!(bench.apply(&announced), Applied::Changes(vec![put("/a/x", "1")], false));
        let announced = [("/reload", Channel::Key(bytes("/reload")), Some("ignored"))];
        assert_eq!(bench.apply(&announced), Applied::Changes(vec![], true));
    }
}
