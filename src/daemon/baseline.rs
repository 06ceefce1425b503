//! The keys of the last update that the guard has accepted, and their comparison with the present keys. Makes no
//! decision: `resource/guard.rs` gets the figures.

use std::rc::Rc;

use crate::config::Guard;
use crate::resource::Census;
use crate::store::{Bytes, Store};

/// The last accepted update.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Baseline {
    /// Its keys, in order.
    Keys(Vec<Bytes>),
    /// The number of its keys only: an earlier process accepted the update.
    Count(usize),
}

impl Baseline {
    /// The baseline after an update with these keys.
    pub(super) fn of(store: &Store) -> Baseline {
        Baseline::Keys(store.all().map(|(key, _)| Rc::clone(key)).collect())
    }

    /// The number of its keys.
    pub(super) fn count(&self) -> usize {
        match self {
            Baseline::Keys(keys) => keys.len(),
            Baseline::Count(count) => *count,
        }
    }
}

/// Whether a guard compares with the baseline.
pub(super) fn compares(guard: Option<&Guard>) -> bool {
    guard.is_some_and(|guard| guard.max_delete_percent.is_some())
}

/// The figures of the present keys.
pub(super) fn census(guard: &Guard, baseline: Option<&Baseline>, store: &Store) -> Census {
    let (mut keys, mut still) = (0, 0);
    let old: &[Bytes] = match baseline {
        Some(Baseline::Keys(old)) => old,
        Some(Baseline::Count(_)) | None => &[],
    };
    let mut old = old.iter().peekable();
    for (key, _) in store.all() {
        keys += 1;
        while old.next_if(|old| *old < key).is_some() {}
        still += usize::from(old.next_if_eq(&key).is_some());
    }
    let gone = match baseline {
        Some(Baseline::Keys(old)) => old.len() - still,
        // The old keys are unknown: a new key counts as an old one.
        Some(Baseline::Count(before)) => before.saturating_sub(keys),
        None => 0,
    };
    let is_missing = |pattern: &&String| {
        // The pattern was checked when the configuration was read.
        store.gets(pattern.as_bytes()).is_ok_and(|mut pairs| pairs.next().is_none())
    };
    let missing = guard.require.iter().filter(is_missing).cloned().collect();
    Census { keys, before: baseline.map(Baseline::count), gone, missing }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn store(keys: &[&str]) -> Store {
        let mut store = Store::new(1);
        store.replace(0, keys.iter().map(|key| (Bytes::from(key.as_bytes()), Bytes::from(&b""[..]))).collect());
        store
    }

    #[test]
    fn what_is_gone_is_counted_by_key_or_by_number() {
        let (guard, before) = (Guard::default(), store(&["/a", "/b", "/c"]));
        let baseline = Baseline::of(&before);
        assert_eq!(baseline.count(), 3);
        for (now, gone, fewer) in
            [(&["/a", "/b", "/c"][..], 0, 0), (&["/b", "/d", "/e"], 2, 0), (&["/d"], 3, 2), (&[], 3, 3)]
        {
            let now = store(now);
            let Census { keys, before, gone: found, .. } = census(&guard, Some(&baseline), &now);
            assert_eq!((keys, before, found), (now.all().count(), Some(3), gone));
            assert_eq!(census(&guard, Some(&Baseline::Count(3)), &now).gone, fewer);
            let first = census(&guard, None, &now);
            assert_eq!((first.before, first.gone), (None, 0));
        }
    }
}
