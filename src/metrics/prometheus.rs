//! The text format of Prometheus, version 0.0.4.
//! Answers no request.

use std::collections::BTreeMap;
use std::time::Instant;

use super::summary::{QUANTILES, Summary};
use super::{Gauge, Kind, Label, Metric, Registry, Value};
use crate::number::{FloatFormat, format_float};

/// The content type of the format.
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// All series and the present gauges. Series that have expired are dropped first.
pub fn text(registry: &mut Registry, gauges: &[Gauge], now: Instant) -> String {
    registry.expire(now);
    let naming = &registry.naming;
    // Two metrics may have one name after characters were replaced. Their lines are then together.
    let mut families: BTreeMap<String, (&Metric, String)> = BTreeMap::new();
    let mut append = |metric: &'static Metric, labels: &[(&'static str, String)], shown: Reading<'_>| {
        let name = naming.joined(metric);
        let labels = naming.labels(labels);
        let lines = &mut families.entry(name.clone()).or_insert_with(|| (metric, String::new())).1;
        match shown {
            Reading::Number(value) => line(lines, &name, "", &labels, None, value),
            Reading::Summary(summary) => {
                for (quantile, value) in QUANTILES.iter().zip(summary.quantiles(now)) {
                    line(lines, &name, "", &labels, Some(*quantile), value);
                }
                line(lines, &name, "_sum", &labels, None, summary.sum);
                #[expect(clippy::cast_precision_loss, reason = "the format has floats only")]
                line(lines, &name, "_count", &labels, None, summary.count as f64);
            }
        }
    };
    for family in registry.families.values() {
        for series in &family.series {
            let shown = match &series.value {
                Value::Counter { total, .. } => Reading::Number(*total),
                Value::Summary(summary) => Reading::Summary(summary),
            };
            append(family.metric, &series.labels, shown);
        }
    }
    for Gauge { metric, labels, value } in gauges {
        append(metric, labels, Reading::Number(*value));
    }
    let mut text = String::new();
    for (name, (metric, lines)) in families {
        let kind = match metric.kind {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
            Kind::Sample | Kind::Quiet => "summary",
        };
        text.push_str(&format!("# HELP {name} {}\n# TYPE {name} {kind}\n{lines}", metric.help));
    }
    text
}

enum Reading<'a> {
    Number(f64),
    Summary(&'a Summary),
}

fn line(out: &mut String, name: &str, suffix: &str, labels: &[Label<'_>], quantile: Option<f64>, value: f64) {
    out.push_str(name);
    out.push_str(suffix);
    let quantile = quantile.map(|quantile| quantile.to_string());
    let all = labels.iter().copied().chain(quantile.as_deref().map(|quantile| ("quantile", quantile)));
    let mut before = '{';
    for (name, value) in all {
        out.push(before);
        before = ',';
        out.push_str(name);
        out.push_str("=\"");
        for c in value.chars() {
            match c {
                '\\' => out.push_str("\\\\"),
                '"' => out.push_str("\\\""),
                '\n' => out.push_str("\\n"),
                c => out.push(c),
            }
        }
        out.push('"');
    }
    if before == ',' {
        out.push('}');
    }
    out.push(' ');
    out.push_str(&format_float(value, FloatFormat::General, None));
    out.push('\n');
}
