//! The names of series in the form of go-metrics: the service, the host if it is configured, the metric.
//! Formats no values.

use super::{Kind, Label, Metric};

/// The parts of a series' name besides the metric.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Naming {
    /// The first part of every name.
    pub service: String,
    /// The place of the host's name.
    pub host: Host,
}

/// The place of the host's name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Host {
    /// It is left out.
    Nowhere,
    /// It is behind the service, in the names of gauges.
    InGauges(String),
    /// It is a label `host` of every series.
    Label(String),
}

impl Naming {
    /// The name for statsd, statsite and inmem: parts and values of labels with dots between them. A `_` replaces each
    /// character that would end the name or the line.
    pub fn dotted(&self, metric: &Metric, labels: &[Label<'_>]) -> String {
        let host = match &self.host {
            Host::InGauges(host) if metric.kind == Kind::Gauge => Some(&**host),
            Host::InGauges(_) | Host::Nowhere | Host::Label(_) => None,
        };
        let behind = match &self.host {
            Host::Label(host) => Some(&**host),
            Host::Nowhere | Host::InGauges(_) => None,
        };
        let values = labels.iter().map(|(_, value)| *value);
        let parts = [&*self.service].into_iter().chain(host).chain([metric.name]).chain(values).chain(behind);
        let mut name = String::new();
        for part in parts {
            if !name.is_empty() {
                name.push('.');
            }
            name.extend(part.chars().map(|c| match c {
                ' ' | ':' | '|' | '@' | '#' => '_',
                c if c.is_control() => '_',
                c => c,
            }));
        }
        name
    }

    /// The name for Prometheus: parts with `_` between them. A `_` replaces each character that a name cannot have.
    pub fn joined(&self, metric: &Metric) -> String {
        let host = match &self.host {
            Host::InGauges(host) if metric.kind == Kind::Gauge && metric.names_host => Some(&**host),
            Host::InGauges(_) | Host::Nowhere | Host::Label(_) => None,
        };
        let mut name = String::new();
        for part in [&*self.service].into_iter().chain(host).chain([metric.name]) {
            if !name.is_empty() {
                name.push('_');
            }
            name.extend(part.chars().map(|c| if c.is_ascii_alphanumeric() || c == ':' { c } else { '_' }));
        }
        if name.starts_with(|c: char| c.is_ascii_digit()) {
            name.insert(0, '_');
        }
        name
    }

    /// The labels for Prometheus, sorted by name.
    pub fn labels<'a>(&'a self, labels: &'a [(&'static str, String)]) -> Vec<Label<'a>> {
        let host = match &self.host {
            Host::Label(host) => Some(("host", &**host)),
            Host::Nowhere | Host::InGauges(_) => None,
        };
        let mut all: Vec<Label<'a>> = labels.iter().map(|(name, value)| (*name, &**value)).chain(host).collect();
        all.sort_unstable();
        all
    }
}
