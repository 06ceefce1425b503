//! Compares the formats with the output of go-metrics, which scripts/record-metrics recorded.
//! Sends nothing.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::*;

#[derive(Deserialize)]
struct Case {
    case: String,
    service: String,
    host: String,
    enable_hostname: bool,
    enable_hostname_label: bool,
    calls: Vec<Call>,
    statsd: Vec<String>,
    statsite: Vec<String>,
    prometheus: String,
    inmem: Vec<String>,
}

#[derive(Deserialize)]
struct Call {
    kind: String,
    name: Vec<String>,
    value: f32,
    labels: Option<Vec<(String, String)>>,
}

fn leaked(text: &str) -> &'static str {
    Box::leak(text.to_owned().into_boxed_str())
}

fn cases() -> Vec<Case> {
    serde_json::from_str(include_str!("../../tests/metrics/recorded.json")).unwrap()
}

fn naming(service: &str, host: Host) -> Naming {
    Naming { service: service.to_owned(), host }
}

/// Replaces times, which differ from run to run.
fn without_times(text: &str) -> String {
    text.replace("1970-01-01 00:00:00 +0000 UTC", "TIME").replace("1970-01-01 00:00:01.5 +0000 UTC", "TIME")
}

#[test]
fn formats_are_those_of_go_metrics() {
    let cases = cases();
    assert!(cases.len() >= 9, "only {} cases", cases.len());
    for case in cases {
        let host = match (case.enable_hostname_label, case.enable_hostname) {
            _ if case.host.is_empty() => Host::Nowhere,
            (true, _) => Host::Label(case.host.clone()),
            (false, true) => Host::InGauges(case.host.clone()),
            (false, false) => Host::Nowhere,
        };
        let inmem = Inmem::new(Duration::from_secs(10), Duration::from_secs(60));
        let mut registry = Registry::new(naming(&case.service, host), Duration::ZERO, true, Some(inmem));
        let at = At { instant: Instant::now(), unix: 1, nanos: 500_000_000 };
        let mut gauges = Vec::new();
        for call in &case.calls {
            let kind = match &*call.kind {
                "counter" => Kind::Counter,
                "gauge" => Kind::Gauge,
                _ => Kind::Sample,
            };
            // The help is the name there.
            let mut metric = Metric { kind, name: leaked(&call.name.join(".")), help: "", names_host: true };
            metric.help = leaked(&registry.naming().joined(&metric));
            let metric: &'static Metric = Box::leak(Box::new(metric));
            let labels: Vec<(&'static str, &str)> =
                call.labels.iter().flatten().map(|(name, value)| (leaked(name), &**value)).collect();
            match kind {
                Kind::Counter => registry.count(metric, &labels, at),
                Kind::Gauge => {
                    let labels = labels.into_iter().map(|(name, value)| (name, value.to_owned())).collect();
                    gauges.push(Gauge { metric, labels, value: call.value.into() });
                }
                Kind::Sample | Kind::Quiet => registry.sample(metric, &labels, call.value.into(), at),
            }
        }
        registry.note(&gauges, at);
        let name = &case.case;
        assert_eq!(prometheus::text(&mut registry, &gauges, at.instant), case.prometheus, "{name}");

        let dump = registry.inmem().unwrap().dump(10, |_| (0, "UTC".to_owned()));
        let lines = lines::take(&mut registry, &gauges);
        if name == "a line feed in a label" {
            // go-metrics keeps the line break, so a name could add lines of its own.
            assert_eq!(lines, "remco.reload_failures_total.a_b:1.000000|c\n");
            continue;
        }
        let mut dump: Vec<String> = without_times(&dump).split_inclusive('\n').map(str::to_owned).collect();
        dump.sort();
        // go-metrics replaces colons in labels only.
        let want: Vec<String> = case.inmem.iter().map(|line| line.replace("a_b:c", "a_b_c")).collect();
        assert_eq!(dump, want, "{name}");
        assert_eq!(sums(lines.split_inclusive('\n')), sums(case.statsd.iter().map(|line| &**line)), "{name}");
        assert_eq!(sums(lines.split_inclusive('\n')), sums(case.statsite.iter().map(|line| &**line)), "{name}");
        assert_eq!(lines::take(&mut registry, &[]), "", "{name}: all was taken");
    }
}

/// Adds up counters, because go-metrics sends a line for each call. Other lines stay, sorted.
fn sums<'a>(lines: impl Iterator<Item = &'a str>) -> (BTreeMap<String, f64>, Vec<String>) {
    let (mut sums, mut others) = (BTreeMap::new(), Vec::new());
    for line in lines {
        match line.strip_suffix("|c\n").and_then(|line| line.rsplit_once(':')) {
            Some((name, value)) => *sums.entry(name.to_owned()).or_default() += value.parse::<f64>().unwrap(),
            None => others.push(line.to_owned()),
        }
    }
    others.sort();
    (sums, others)
}

#[test]
fn a_series_without_a_change_expires_and_one_of_a_removed_resource_goes() {
    let naming = naming("remco", Host::Nowhere);
    let mut registry = Registry::new(naming, Duration::from_secs(60), false, None);
    let start = Instant::now();
    let at = |seconds| At { instant: start + Duration::from_secs(seconds), unix: 0, nanos: 0 };
    registry.count(&list::RELOAD_FAILURES, &[("resource", "a")], at(0));
    registry.count(&list::RELOAD_FAILURES, &[("resource", "b")], at(50));
    registry.count(&list::STAGED, &[], at(50));
    let shown = |registry: &mut Registry, seconds| {
        let text = prometheus::text(registry, &[], at(seconds).instant);
        text.lines().filter(|line| !line.starts_with('#')).map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(shown(&mut registry, 60).len(), 3);
    assert_eq!(
        shown(&mut registry, 61),
        ["remco_files_staged_total 1", "remco_reload_failures_total{resource=\"b\"} 1"]
    );
    registry.retain("resource", |name| name == "a");
    assert_eq!(shown(&mut registry, 61), ["remco_files_staged_total 1"]);
    assert_eq!(shown(&mut registry, 200), [""; 0]);
}

#[test]
fn what_goes_on_all_the_time_is_no_change() {
    let mut registry = Registry::new(naming("remco", Host::Nowhere), Duration::ZERO, true, None);
    let at = At { instant: Instant::now(), unix: 0, nanos: 0 };
    registry.sample(&list::LOOP_TURN, &[], 0.25, at);
    assert!(!registry.take_changed());
    assert_eq!(lines::take(&mut registry, &[]), "");
    assert!(prometheus::text(&mut registry, &[], at.instant).contains("remco_loop_turn_seconds_sum 0.25\n"));
    for _ in 0..2 * MOST_UNSENT {
        registry.sample(&list::CHECK_DURATION, &[], 1.0, at);
    }
    assert!(registry.take_changed() && !registry.take_changed());
    assert_eq!(lines::take(&mut registry, &[]).lines().count(), MOST_UNSENT);
}

#[test]
fn names_begin_with_no_digit_and_have_one_host() {
    let host = || Host::InGauges("web1".to_owned());
    assert_eq!(naming("2x é", host()).joined(&list::UP), "_2x___up");
    assert_eq!(naming("r", host()).joined(&list::OPEN_FDS), "r_web1_runtime_open_fds");
    assert_eq!(naming("r", host()).dotted(&list::UP, &[]), "r.web1.up");
    assert_eq!(naming("r", host()).dotted(&list::STAGED, &[("a", "x|y@z#\u{1}")]), "r.files.staged_total.x_y_z__");
}
