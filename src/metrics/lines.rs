//! The lines of statsd and statsite, `name:value|kind`, and their datagrams.
//! Sends nothing.

use super::{Gauge, Label, Registry, Value};

/// The size of a datagram, in bytes: a packet of Ethernet without the headers of IPv6.
pub const LARGEST_DATAGRAM: usize = 1432;

/// The lines since the last call: the increments of counters, each duration, then the present gauges.
pub fn take(registry: &mut Registry, gauges: &[Gauge]) -> String {
    let Registry { naming, families, unsent, .. } = registry;
    let mut text = String::new();
    for family in families.values_mut() {
        for series in &mut family.series {
            let Value::Counter { unsent, .. } = &mut series.value else { continue };
            let added = std::mem::take(unsent);
            if added > 0.0 {
                let labels: Vec<Label<'_>> = series.labels.iter().map(|(name, value)| (*name, &**value)).collect();
                text.push_str(&line(&naming.dotted(family.metric, &labels), added, "c"));
            }
        }
    }
    for (name, value) in unsent.drain(..) {
        text.push_str(&line(&name, value, "ms"));
    }
    for Gauge { metric, labels, value } in gauges {
        let labels: Vec<Label<'_>> = labels.iter().map(|(name, value)| (*name, &**value)).collect();
        text.push_str(&line(&naming.dotted(metric, &labels), *value, "g"));
    }
    text
}

fn line(name: &str, value: f64, kind: &str) -> String {
    // statsd takes a gauge with a sign as a change of its last value.
    format!("{name}:{value:.6}|{kind}\n")
}

/// Gathers whole lines into datagrams. A line that is longer than a datagram is a datagram of its own.
pub fn datagrams(lines: &str) -> impl Iterator<Item = &str> {
    let mut rest = lines;
    std::iter::from_fn(move || {
        let mut end = 0;
        for line in rest.split_inclusive('\n') {
            if end > 0 && end + line.len() > LARGEST_DATAGRAM {
                break;
            }
            end += line.len();
        }
        let (datagram, left) = rest.split_at(end);
        rest = left;
        (!datagram.is_empty()).then_some(datagram)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn datagrams_hold_whole_lines() {
        let line = format!("{}\n", "x".repeat(599));
        let lines = line.repeat(5);
        let lengths: Vec<usize> = datagrams(&lines).map(str::len).collect();
        assert_eq!(lengths, [1200, 1200, 600]);
        let long = format!("{}\n{line}", "y".repeat(3000));
        assert_eq!(datagrams(&long).map(str::len).collect::<Vec<_>>(), [3001, 600]);
        assert_eq!(datagrams("").count(), 0);
        assert_eq!(datagrams("no end").collect::<Vec<_>>(), ["no end"]);
    }
}
