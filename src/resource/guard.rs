//! Decides whether an update may use the present keys: too few keys, too many deleted keys, or a missing required key
//! are probably an accident in the store. Checks figures and never sees a key.

use crate::config::Guard;

/// The figures of the keys that an update would act on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Census {
    /// How many keys there are.
    pub keys: usize,
    /// The number of keys in the last accepted update; `None`: there was none.
    pub before: Option<usize>,
    /// How many of those no longer exist.
    pub gone: usize,
    /// The patterns of `require` that no key matches.
    pub missing: Vec<String>,
}

/// The rules that an update breaks, with figures; `None`: it is accepted.
pub(super) fn broken(guard: &Guard, census: &Census) -> Option<String> {
    let Census { keys, before, gone, missing } = census;
    let mut broken = Vec::new();
    // The text differs only in its numbers, so that a failure with other numbers is not logged again.
    if *keys < guard.min_keys {
        broken.push(format!("the number of keys is {keys}, `min_keys` is {}", guard.min_keys));
    }
    if let (Some(most), Some(before)) = (guard.max_delete_percent, before)
        && gone.saturating_mul(100) > before.saturating_mul(most.into())
    {
        broken.push(format!("keys gone: {gone} of {before}, `max_delete_percent` is {most}"));
    }
    broken.extend(missing.iter().map(|pattern| format!("no key matches `{pattern}`, which `require` has")));
    (!broken.is_empty()).then(|| broken.join("; "))
}
