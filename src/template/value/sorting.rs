//! Sorts long lists in pieces, between which the render may end, because one sort of a long list would take seconds.
//! The caller decides the order of two items.

use std::cmp::Ordering;

use crate::template::value::meter::Meter;

/// The number of items that are sorted at a time.
const PIECE: usize = 1024;

/// Sorts items; equal ones stay in their order. `read`: the bytes of an item that a comparison reads, which are charged
/// here.
///
/// # Errors
/// The memory is used up, or the render is over.
pub fn sorted<T>(
    meter: &Meter,
    items: Vec<T>,
    read: impl Fn(&T) -> usize,
    order: impl Fn(&T, &T) -> Ordering,
) -> Result<Vec<T>, String> {
    let mut held = meter.hold();
    held.grow(2 * size_of_val(&*items))?;
    let mut runs: Vec<Vec<T>> = Vec::new();
    let mut left = items.into_iter();
    while left.len() > 0 {
        let mut run: Vec<T> = left.by_ref().take(PIECE).collect();
        // Each item is compared with about ten others.
        for item in &run {
            meter.charge(10 * (size_of::<T>() + read(item)))?;
        }
        run.sort_by(&order);
        runs.push(run);
    }
    while runs.len() > 1 {
        let mut merged = Vec::with_capacity(runs.len().div_ceil(2));
        let mut left = runs.into_iter();
        while let Some(first) = left.next() {
            merged.push(match left.next() {
                Some(second) => merge(meter, first, second, &read, &order)?,
                None => first,
            });
        }
        runs = merged;
    }
    Ok(runs.pop().unwrap_or_default())
}

fn merge<T>(
    meter: &Meter,
    first: Vec<T>,
    second: Vec<T>,
    read: impl Fn(&T) -> usize,
    order: impl Fn(&T, &T) -> Ordering,
) -> Result<Vec<T>, String> {
    let mut merged = Vec::with_capacity(first.len() + second.len());
    let (mut first, mut second) = (first.into_iter().peekable(), second.into_iter().peekable());
    while let (Some(a), Some(b)) = (first.peek(), second.peek()) {
        let next = match order(a, b) {
            Ordering::Less | Ordering::Equal => first.next(),
            Ordering::Greater => second.next(),
        };
        if let Some(item) = next {
            meter.charge(size_of::<T>() + read(&item))?;
            merged.push(item);
        }
    }
    merged.extend(first);
    merged.extend(second);
    Ok(merged)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Random;
    use crate::template::fixture::{metered, usual};
    use crate::template::limits::Limits;
    use crate::template::value::Value;

    fn by_length(a: &Value, b: &Value) -> Ordering {
        a.text_len().cmp(&b.text_len())
    }

    #[test]
    fn equal_items_stay_in_their_order() {
        let mut random = Random::new(1);
        for count in [0, 1, 5, PIECE, PIECE + 1, 3 * PIECE, 7 * PIECE + 13] {
            let items: Vec<Value> =
                (0..count).map(|n| Value::str(format!("{n:0width$}", width = 5 + random.below(4)))).collect();
            let mut expected = items.clone();
            expected.sort_by(by_length);
            let meter = usual();
            let found = sorted(&meter, items.clone(), Value::text_len, by_length).unwrap();
            let texts = |items: &[Value]| items.iter().map(Value::text).collect::<Vec<_>>();
            assert_eq!(texts(&found), texts(&expected), "{count}");
            assert_eq!(meter.memory(), 0);
        }
    }

    #[test]
    fn a_long_sort_ends_with_the_render() {
        let items = vec![Value::Nil; 10 * PIECE];
        let meter = metered(Limits { steps: 1000, ..Limits::default() });
        assert!(sorted(&meter, items, Value::text_len, by_length).unwrap_err().contains("1000 steps"));
    }
}
