//! How long a template takes and how much memory it needs above the store: one like the tutorial's haproxy over
//! services of ten keys each, the shipped haproxy sample, and a single `gets`. `cargo bench --bench template`; prints
//! figures beside the goals and checks none.

use std::fs;
use std::hint::black_box;
use std::path::Path;
use std::rc::Rc;
use std::time::{Duration, Instant};

use remco::store::Store;
use remco::template::reads::Recording;
use remco::template::{Template, World};

#[path = "../src/template/fixture/world.rs"]
#[allow(dead_code, reason = "part of the world is for other tests")]
mod world;

use world::TestWorld;

/// Every key of every service is found, split and printed, and one more of each is asked for.
const NESTED: &str = r#"# Written by remco.
{% for service in lsdir("/services") %}

backend {{ service }}
    mode {{ getv(printf("/services/%s/mode", service), "http") }}
{% for i in gets(printf("/services/%s/*", service)) %}
    server {{ service }}_{{ base(i.Key) }} {{ i.Value }}
{% endfor %}
{% endfor %}
"#;

const FILES: &[(&str, &str)] = &[
    ("nested.tmpl", NESTED),
    ("haproxy.cfg.tmpl", include_str!("../templates/haproxy/haproxy.cfg.tmpl")),
    ("servers.tmpl", include_str!("../templates/haproxy/servers.tmpl")),
    ("one.tmpl", r#"{{ gets("/services/000500/*")|length }}"#),
];

/// The ten keys of a service, for both templates.
const KEYS: [&str; 10] =
    ["balance", "check", "host", "listen", "mode", "servers/a", "servers/b", "weight/a", "weight/b", "zone"];

/// How long one figure is measured.
const TIME: Duration = Duration::from_millis(400);

fn main() {
    let world: Rc<dyn World> = Rc::new(TestWorld::of(FILES.iter().copied()));
    // First of all, while nothing that was freed can be used again.
    let store = flat(10_000);
    let template = compile("nested.tmpl", &world);
    let peak = Peak::start();
    let size = render(&template, &store, &world);
    println!("{:<52} {}", "nested, 10,000 services: above the store", peak.above(8));
    println!("{:<52} {:>8.2} MB", "of which the result", size as f64 / 1e6);

    let large = rendering(&template, &store, &world);
    println!("{:<52} {:>8.2} ms   goal 80 ms", "nested, 10,000 services", milliseconds(large));
    let small = rendering(&template, &flat(1_000), &world);
    println!("{:<52} {:>8.2} ms", "nested, 1,000 services", milliseconds(small));
    println!("{:<52} {:>8.2}      linear is 10", "ratio", large.as_secs_f64() / small.as_secs_f64());
    println!("{:<52} {:>8.2} ms", "compiling it", milliseconds(mean(|| _ = compile("nested.tmpl", &world))));

    // A one-shot run and a resource that is not watched record nothing.
    let unrecorded = without_record(compile("nested.tmpl", &world));
    println!("{:<52} {:>8.2} ms", "nested, without a record", milliseconds(rendering(&unrecorded, &store, &world)));

    let one = compile("one.tmpl", &world);
    let unrecorded = without_record(compile("one.tmpl", &world));
    for services in [1_000, 10_000, 100_000] {
        let store = flat(services);
        for (template, record) in [(&one, ""), (&unrecorded, ", without a record")] {
            let time = mean(|| (0..1_000).for_each(|_| _ = render(template, &store, &world)));
            println!("{:<52} {:>8.2} us", format!("gets of one service of {services}{record}"), milliseconds(time));
        }
    }

    let store = deep(10_000);
    let sample = rendering(&compile("haproxy.cfg.tmpl", &world), &store, &world);
    println!("{:<52} {:>8.2} ms", "templates/haproxy, 10,000 services", milliseconds(sample));
}

/// All keys of a service right below it: `/services/000042/servers-a`.
fn flat(services: usize) -> Rc<Store> {
    filled(services, |key| key.replace('/', "-"))
}

/// The keys that the shipped sample asks for.
fn deep(services: usize) -> Rc<Store> {
    filled(services, str::to_owned)
}

fn filled(services: usize, name: impl Fn(&str) -> String) -> Rc<Store> {
    let mut store = Store::new(1);
    for service in 0..services {
        for key in KEYS {
            let value: &[u8] = if key == "mode" { b"http" } else { b"10.0.0.1:8080" };
            store.put(0, format!("/services/{service:06}/{}", name(key)).into_bytes().into(), value.into());
        }
    }
    Rc::new(store)
}

fn compile(name: &str, world: &Rc<dyn World>) -> Template {
    Template::compile(Path::new(name), world).unwrap_or_else(|error| panic!("{error}"))
}

fn without_record(mut template: Template) -> Template {
    template.recording = Recording::Nothing;
    template
}

/// The size of the result.
fn render(template: &Template, store: &Rc<Store>, world: &Rc<dyn World>) -> usize {
    black_box(template.render(store, world)).unwrap_or_else(|error| panic!("{error}")).len()
}

/// What one render takes.
fn rendering(template: &Template, store: &Rc<Store>, world: &Rc<dyn World>) -> Duration {
    mean(|| _ = render(template, store, world))
}

/// The mean of as many runs as fit.
fn mean(run: impl Fn()) -> Duration {
    run();
    let (begin, mut runs) = (Clock::now(), 0);
    while Clock::now().since(&begin) < TIME {
        run();
        runs += 1;
    }
    Clock::now().since(&begin) / runs
}

/// Time in which the processor was ours, where the kernel tells it: others may use the machine too.
struct Clock {
    moment: Instant,
    /// Counted on at the kernel's ticks, so to some milliseconds.
    used: Option<Duration>,
}

impl Clock {
    fn now() -> Clock {
        let told = fs::read_to_string("/proc/self/schedstat").ok();
        let used = told.and_then(|told| told.split(' ').next()?.parse().ok()).filter(|used| *used > 0);
        Clock { moment: Instant::now(), used: used.map(Duration::from_nanos) }
    }

    fn since(&self, before: &Clock) -> Duration {
        match (self.used, before.used) {
            (Some(now), Some(before)) => now.saturating_sub(before),
            _ => self.moment - before.moment,
        }
    }
}

fn milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

/// The most memory that the process has had in use, as the kernel counts it: an allocator that counts is unsafe code.
struct Peak(Option<u64>);

impl Peak {
    /// Forgets what was in use before.
    fn start() -> Peak {
        // Where this is not allowed, the figure is missing and nothing else.
        let forgotten = fs::write("/proc/self/clear_refs", "5");
        Peak(forgotten.ok().and_then(|()| Peak::now()))
    }

    fn above(&self, goal: u64) -> String {
        match (self.0, Peak::now()) {
            (Some(before), Some(now)) => {
                format!("{:>8.2} MB   goal {goal} MB", now.saturating_sub(before) as f64 * 1024.0 / 1e6)
            }
            _ => "unknown: /proc/self has no peak to reset".to_owned(),
        }
    }

    /// KiB.
    fn now() -> Option<u64> {
        let status = fs::read_to_string("/proc/self/status").ok()?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
        line.split_whitespace().next()?.parse().ok()
    }
}
