//! Whether an update may act on the present keys: too few keys, too many that have gone, or one that is missing are
//! more probably an accident of the store than a wish. Judges figures and never sees a key.

use crate::config::Guard;

/// The figures of the keys that an update would act on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Census {
    /// How many keys there are.
    pub keys: usize,
    /// How many keys the last accepted update had; `None`: there was none.
    pub before: Option<usize>,
    /// How many of those are not there any more.
    pub gone: usize,
    /// The patterns of `require` that no key matches.
    pub missing: Vec<String>,
}

/// The rules that an update breaks, with figures; `None`: it is accepted.
pub(super) fn broken(guard: &Guard, census: &Census) -> Option<String> {
    let Census { keys, before, gone, missing } = census;
    let mut broken = Vec::new();
    // The words do not depend on the numbers: a failure with other numbers is not told again.
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
