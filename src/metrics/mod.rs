//! The counters and durations of telemetry, and the formats of its receivers. The callers pass the present gauges to
//! each reading, and take labels from the configuration, which bounds the number of series. Sends nothing, reads no
//! clock, and knows no resource.

pub mod inmem;
pub mod lines;
pub mod list;
mod name;
pub mod prometheus;
mod summary;

use std::time::{Duration, Instant};

pub use list::{Kind, Metric};
pub use name::{Host, Naming};

use crate::sorted::SortedMap;
use inmem::Inmem;
use summary::Summary;

/// A label: its name and its value.
pub type Label<'a> = (&'static str, &'a str);

/// All series.
#[derive(Debug)]
pub struct Registry {
    naming: Naming,
    families: SortedMap<&'static str, Family>,
    /// A counter or a summary without a change for this time is dropped; zero: never.
    expiration: Duration,
    /// Whether statsd or statsite is configured.
    is_pushing: bool,
    /// The durations since the last flush, for statsd and statsite: name, milliseconds.
    unsent: Vec<(String, f64)>,
    inmem: Option<Inmem>,
    /// Whether something was counted since [`Registry::take_changed`].
    is_changed: bool,
}

/// All series of one metric.
#[derive(Debug)]
struct Family {
    metric: &'static Metric,
    /// Sorted by their labels.
    series: Vec<Series>,
}

#[derive(Debug)]
struct Series {
    labels: Vec<(&'static str, String)>,
    value: Value,
    changed: Instant,
}

#[derive(Debug)]
enum Value {
    Counter {
        total: f64,
        /// The part that was not sent yet.
        unsent: f64,
    },
    Summary(Summary),
}

/// A gauge with its present value.
#[derive(Clone, Debug, PartialEq)]
pub struct Gauge {
    /// The metric, of the kind gauge.
    pub metric: &'static Metric,
    /// Names and values, in the order in which statsd gets the values.
    pub labels: Vec<(&'static str, String)>,
    /// In the unit of the metric's name.
    pub value: f64,
}

/// A moment on both clocks.
#[derive(Clone, Copy, Debug)]
pub struct At {
    /// The monotonic clock.
    pub instant: Instant,
    /// Seconds since 1970 in UTC.
    pub unix: i64,
    /// Nanoseconds of the second.
    pub nanos: u32,
}

/// The largest number of durations between two flushes. Further ones are not sent to statsd and statsite.
const MOST_UNSENT: usize = 1024;

impl Registry {
    /// An empty registry. `expiration`: a counter or a summary without a change for this time is dropped; zero: never.
    pub fn new(naming: Naming, expiration: Duration, is_pushing: bool, inmem: Option<Inmem>) -> Registry {
        let (families, unsent) = (SortedMap::new(), Vec::new());
        Registry { naming, families, expiration, is_pushing, unsent, inmem, is_changed: false }
    }

    /// Takes the configuration of another registry and keeps the series, for a changed configuration.
    pub fn configure(&mut self, new: Registry) {
        let Registry { naming, expiration, is_pushing, inmem, .. } = new;
        if self.naming != naming {
            self.unsent.clear();
        }
        (self.naming, self.expiration, self.is_pushing) = (naming, expiration, is_pushing);
        self.inmem = match (self.inmem.take(), inmem) {
            (Some(old), Some(new)) if old.is_like(&new) => Some(old),
            (_, new) => new,
        };
    }

    /// The form of names.
    pub fn naming(&self) -> &Naming {
        &self.naming
    }

    /// Adds 1 to a counter.
    pub fn count(&mut self, metric: &'static Metric, labels: &[Label<'_>], at: At) {
        self.is_changed = true;
        if let Value::Counter { total, unsent } = &mut self.series(metric, labels, at.instant).value {
            *total += 1.0;
            *unsent += 1.0;
        }
        if let Some(inmem) = &mut self.inmem {
            inmem.count(self.naming.dotted(metric, labels), 1.0, at);
        }
    }

    /// Adds a sample, in the unit of the metric.
    pub fn sample(&mut self, metric: &'static Metric, labels: &[Label<'_>], value: f64, at: At) {
        if let Value::Summary(summary) = &mut self.series(metric, labels, at.instant).value {
            summary.add(value, at.instant);
        }
        if metric.kind == Kind::Quiet {
            return;
        }
        self.is_changed = true;
        let is_sent = self.is_pushing && self.unsent.len() < MOST_UNSENT;
        if is_sent || self.inmem.is_some() {
            let name = self.naming.dotted(metric, labels);
            if let Some(inmem) = &mut self.inmem {
                inmem.sample(name.clone(), value, at);
            }
            if is_sent {
                self.unsent.push((name, value));
            }
        }
    }

    /// Passes the present gauges to inmem, which keeps the last value of each interval.
    pub fn note(&mut self, gauges: &[Gauge], at: At) {
        let Some(inmem) = &mut self.inmem else { return };
        for Gauge { metric, labels, value } in gauges {
            let labels: Vec<Label<'_>> = labels.iter().map(|(name, value)| (*name, &**value)).collect();
            inmem.set(self.naming.dotted(metric, &labels), *value, at);
        }
    }

    /// The intervals of inmem, if it is configured.
    pub fn inmem(&mut self) -> Option<&mut Inmem> {
        self.inmem.as_mut()
    }

    /// Whether something was counted since the last call.
    pub fn take_changed(&mut self) -> bool {
        std::mem::take(&mut self.is_changed)
    }

    /// Drops the series whose value of this label is no longer configured.
    pub fn retain(&mut self, label: &str, is_configured: impl Fn(&str) -> bool) {
        for family in self.families.values_mut() {
            family.series.retain(|series| {
                series.labels.iter().filter(|(name, _)| *name == label).all(|(_, value)| is_configured(value))
            });
        }
    }

    /// Drops the series that have expired.
    fn expire(&mut self, now: Instant) {
        let limit = self.expiration;
        if limit.is_zero() {
            return;
        }
        for family in self.families.values_mut() {
            family.series.retain(|series| now.saturating_duration_since(series.changed) <= limit);
        }
    }

    /// The series of these labels, created if it does not exist.
    fn series(&mut self, metric: &'static Metric, labels: &[Label<'_>], now: Instant) -> &mut Series {
        let new = || Family { metric, series: Vec::new() };
        let series = &mut self.families.get_or_insert_with(metric.name, new).series;
        let own =
            |series: &Series| series.labels.iter().map(|(name, value)| (*name, &**value)).cmp(labels.iter().copied());
        let at = match series.binary_search_by(own) {
            Ok(at) => at,
            Err(at) => {
                let labels = labels.iter().map(|(name, value)| (*name, (*value).to_owned())).collect();
                let value = match metric.kind {
                    Kind::Counter | Kind::Gauge => Value::Counter { total: 0.0, unsent: 0.0 },
                    Kind::Sample | Kind::Quiet => Value::Summary(Summary::default()),
                };
                series.insert(at, Series { labels, value, changed: now });
                at
            }
        };
        series[at].changed = now;
        &mut series[at]
    }
}

#[cfg(test)]
mod tests;
