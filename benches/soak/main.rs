//! Hours of failures in minutes: a real etcd and each other store of this machine, behind proxies that cut, delay,
//! split and drop; writers, restarts, SIGHUPs, failing checks and reloads, a full disk. At quiet points the files must
//! equal a fresh render, and at the end no memory or descriptor may have leaked. `scripts/soak` runs it; a seed repeats
//! a run.

#![allow(clippy::cast_possible_truncation)]

use std::env;
use std::fs;
use std::process::ExitCode;
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use rustix::process::{Pid, Signal, kill_process};

mod process;
mod stores;
#[allow(dead_code, unused_imports)]
#[path = "../../tests/it/support/mod.rs"]
mod support;

use process::Usage;
use stores::Store;
use support::{Etcd, Fault, FaultProxy, LIST, Random, Remco, TempDir, remco, run, wait_until};

const USAGE: &str = "usage: scripts/soak [MINUTES [SEED]]\n       scripts/soak idle [MINUTES]\n";

/// How much happens before it is looked whether all is well, each after a pause of up to 400 ms.
const STORM: usize = 30;
/// How long it may take until all is well: etcd's own restart, remco's longest pause between two tries (a minute), and a
/// busy machine.
const CALM: Duration = Duration::from_secs(150);

const KEYS: u64 = 60;

fn main() -> ExitCode {
    // `cargo bench` adds a flag of its own.
    let args: Vec<String> = env::args().skip(1).filter(|arg| !arg.starts_with("--")).collect();
    let minutes = |text: Option<&String>| text.map_or(Some(10.0), |text| text.parse::<f64>().ok());
    let time = |minutes: f64| Duration::from_secs_f64(minutes.clamp(0.1, 100_000.0) * 60.0);
    match args.first().map(String::as_str) {
        Some("idle") => match minutes(args.get(1)) {
            Some(minutes) => idle(time(minutes)),
            None => return usage(),
        },
        _ => {
            let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(1, |now| now.as_secs());
            match (minutes(args.first()), args.get(1).map_or(Some(now), |seed| seed.parse().ok())) {
                (Some(minutes), Some(seed)) if seed != 0 => soak(time(minutes), seed),
                _ => return usage(),
            }
        }
    }
    ExitCode::SUCCESS
}

fn usage() -> ExitCode {
    eprint!("{USAGE}");
    ExitCode::from(2)
}

fn soak(time: Duration, seed: u64) {
    println!("soak: {} s, seed {seed}", time.as_secs());
    let mut weather = Weather::start(seed);
    let until = Instant::now() + time;
    let mut samples = Vec::new();
    weather.settle(&mut samples);
    while Instant::now() < until {
        weather.storm();
        weather.settle(&mut samples);
    }
    judge(&samples);
    weather.end();
    println!("soak: well after {} quiet points", samples.len());
}

/// Everything that is at work, and the dice.
struct Weather {
    random: Random,
    etcd: Etcd,
    proxy: FaultProxy,
    /// The stores beside etcd.
    stores: Vec<Store>,
    /// Runs from the beginning to the end: its memory and descriptors are what is judged.
    steady: Instance,
    /// Is killed and started again.
    mortal: Instance,
    /// What a disk that can be full holds; only as root.
    disk: bool,
    written: u64,
    done: Vec<(&'static str, usize)>,
}

/// One running remco with its folder.
struct Instance {
    dir: TempDir,
    remco: Option<Remco>,
}

impl Weather {
    fn start(seed: u64) -> Weather {
        let etcd = Etcd::start();
        let mut gateway = etcd.gateway();
        for key in 0..KEYS {
            gateway.put(&format!("/soak/{key:02}"), "first");
        }
        let proxy = FaultProxy::start(etcd.client_port());
        let disk = env::var_os("SOAK_MOUNTS").is_some();
        let nodes = format!("http://127.0.0.1:{}", proxy.port());
        let stores = stores::start(KEYS);
        let [steady, mortal] = [(); 2].map(|()| Instance::new(&nodes, &stores, disk));
        let random = Random::new(seed);
        Weather { random, etcd, proxy, stores, steady, mortal, disk, written: 0, done: Vec::new() }
    }

    /// Bad weather for a while, one thing after the other.
    fn storm(&mut self) {
        for _ in 0..STORM {
            self.event();
            thread::park_timeout(Duration::from_millis(self.random.below(400)));
        }
    }

    fn event(&mut self) {
        let instance = self.random.below(2);
        let event = self.random.below(100);
        let name = match event {
            0..40 => {
                let puts = 1 + self.random.below(30);
                self.write(puts);
                self.write_beside(puts / 5);
                "writes"
            }
            40..60 => {
                let faults = [Fault::None, Fault::Tears, Fault::Delays, Fault::Drops, Fault::Refuses];
                let fault = faults[self.random.below(5) as usize];
                self.any_proxy().set(fault);
                "faults of the network"
            }
            60..67 => {
                self.any_proxy().cut();
                "cuts"
            }
            67..69 => {
                self.etcd.kill();
                self.etcd.restart();
                "restarts of etcd"
            }
            69..71 => {
                let store = self.random.below(self.stores.len() as u64) as usize;
                self.stores[store].restart();
                "restarts of other stores"
            }
            71..73 => {
                // A revision can be compacted once.
                self.write(1);
                self.etcd.gateway().compact();
                "compactions"
            }
            73..80 => {
                if let Some(remco) = &self.instance(instance).remco {
                    remco.signal(Signal::HUP);
                }
                "SIGHUPs"
            }
            80..86 => {
                let (dir, on) = (&self.instance(instance).dir, event < 83);
                flag(dir, "check-fails", on);
                "failing checks"
            }
            86..92 => {
                let (dir, on) = (&self.instance(instance).dir, event < 89);
                flag(dir, "reload-fails", on);
                "failing reloads"
            }
            92..96 if self.disk => {
                // All that is left of the disk.
                let _ = fs::write(self.instance(instance).dir.at("disk/filler"), vec![b'x'; 1 << 20]);
                "full disks"
            }
            92..96 => {
                self.instance(instance).dir.replace("data.json", format!("{{\"number\": \"{event}\"}}"));
                "changed files"
            }
            96 => {
                // The child that is there, if one is.
                let pid = self.instance(instance).dir.read("child.pid").and_then(|pid| pid.trim().parse().ok());
                if let Some(pid) = pid.and_then(Pid::from_raw) {
                    let _ = kill_process(pid, Signal::KILL);
                }
                "killed children"
            }
            _ => {
                let kill = self.random.below(2) == 0;
                self.mortal.restart(kill);
                "restarts of remco"
            }
        };
        match self.done.iter_mut().find(|(done, _)| *done == name) {
            Some((_, count)) => *count += 1,
            None => self.done.push((name, 1)),
        }
    }

    fn write(&mut self, puts: u64) {
        let mut gateway = self.etcd.gateway();
        for _ in 0..puts {
            self.written += 1;
            let key = format!("/soak/{:02}", self.random.below(KEYS));
            match self.random.below(5) {
                0 => gateway.delete(&key),
                _ => gateway.put(&key, &format!("{:06} {}", self.written, "x".repeat(self.random.below(80) as usize))),
            }
        }
    }

    /// Writes so often to each other store.
    fn write_beside(&mut self, puts: u64) {
        for store in &self.stores {
            for _ in 0..puts {
                self.written += 1;
                store.write(&mut self.random, KEYS, &self.written.to_string());
            }
        }
    }

    /// The way to etcd, or as often to one of the others.
    fn any_proxy(&mut self) -> &FaultProxy {
        let others = self.stores.len() as u64;
        match self.random.below(2 * others) {
            store if store < others => &self.stores[store as usize].proxy,
            _ => &self.proxy,
        }
    }

    fn instance(&self, number: u64) -> &Instance {
        if number == 0 { &self.steady } else { &self.mortal }
    }

    /// The sky clears: waits until every file equals a fresh render, and notes what the steady one uses.
    fn settle(&mut self, samples: &mut Vec<Usage>) {
        for proxy in self.stores.iter().map(|store| &store.proxy).chain([&self.proxy]) {
            proxy.set(Fault::None);
            // What is half-open stays so until it is cut.
            proxy.cut();
        }
        for instance in [&self.steady, &self.mortal] {
            for name in ["check-fails", "reload-fails", "disk/filler"] {
                flag(&instance.dir, name, false);
            }
        }
        // The last change of all, so that something wakes a watch that was just opened.
        self.write(1);
        self.write_beside(1);
        let files = files(&self.stores);
        for (instance, name) in [(&self.steady, "steady"), (&self.mortal, "mortal")] {
            let fresh = instance.fresh_render(&self.etcd.url(), &self.stores);
            for file in &files {
                let what = format!("{file} of the {name} one equals a fresh render (seed: see above)");
                wait_until(&what, CALM, || instance.dir.read(file) == fresh.dir.read(file));
            }
            let what = format!("the child of the {name} one has been told");
            wait_until(&what, CALM, || instance.dir.read("seen") == fresh.dir.read("out/child"));
            wait_until("no zombies", CALM, || process::zombies(instance.pid()) == 0);
            assert_eq!(instance.litter(), Vec::<String>::new(), "stage files of the {name} one");
        }
        let usage = Usage::of(self.steady.pid());
        println!("soak: quiet; {usage}; {} writes", self.written);
        samples.push(usage);
    }

    fn end(self) {
        for (event, count) in &self.done {
            println!("soak: {count:5} {event}");
        }
        for mut instance in [self.steady, self.mortal] {
            instance.stop();
            if self.disk {
                run(&["umount", &instance.dir.at("disk").to_string_lossy()]);
            }
        }
    }
}

/// What a fresh render must equal.
fn files(stores: &[Store]) -> Vec<String> {
    let files = ["out/all", "out/some", "out/file", "out/child", "disk/all"].map(str::to_owned);
    files.into_iter().chain(stores.iter().map(Store::file)).collect()
}

impl Instance {
    fn new(nodes: &str, stores: &[Store], disk: bool) -> Instance {
        let dir = TempDir::new();
        fs::create_dir(dir.at("out")).expect("the folder is new");
        fs::create_dir(dir.at("disk")).expect("the folder is new");
        if disk {
            run(&["mount", "-t", "tmpfs", "-o", "size=64k", "none", &dir.at("disk").to_string_lossy()]);
        }
        let config = configure(&dir, nodes, stores, false);
        dir.write("config.toml", config + EXEC);
        dir.write("child.sh", CHILD);
        let mut instance = Instance { dir, remco: None };
        instance.start();
        instance
    }

    fn start(&mut self) {
        let remco = remco(&self.dir).start();
        // A signal before its handlers are installed would kill it.
        remco.wait_for_log("loading resource configuration");
        self.remco = Some(remco);
    }

    fn pid(&self) -> u32 {
        self.remco.as_ref().expect("it was started").pid()
    }

    fn restart(&mut self, kill: bool) {
        if kill {
            // The guard kills it.
            drop(self.remco.take());
        } else {
            self.stop();
        }
        self.start();
    }

    fn stop(&mut self) {
        let log = self.remco.take().expect("it was started").stop();
        assert!(!log.iter().any(|line| line.contains("panicked")), "{log:#?}");
    }

    /// Everything once more, elsewhere and straight from the stores.
    fn fresh_render(&self, nodes: &str, stores: &[Store]) -> Instance {
        let dir = TempDir::new();
        fs::create_dir(dir.at("out")).expect("the folder is new");
        fs::create_dir(dir.at("disk")).expect("the folder is new");
        let config = configure(&dir, nodes, stores, true);
        dir.write("config.toml", config);
        dir.write("data.json", self.dir.read("data.json").expect("it is always there"));
        remco(&dir).once().expect_code(0);
        Instance { dir, remco: None }
    }

    fn litter(&self) -> Vec<String> {
        let names = ["out", "disk"].map(|folder| self.dir.names(folder));
        names.into_iter().flatten().filter(|name| name.starts_with('.')).collect()
    }
}

/// Belongs to the last resource of the configuration. Not in a one-shot run, which would not end before the child does.
const EXEC: &str = "[resource.exec]\ncommand = \"sh child.sh\"\nreload_signal = \"SIGHUP\"\nkill_timeout = 3\n";

/// Shows what it was told last, and ends with its parent, as that is killed now and then.
const CHILD: &str = "trap 'cp out/child seen' HUP
echo $$ > child.pid
cp out/child seen
while kill -0 $PPID 2>/dev/null; do sleep 1 & wait $!; done
";

/// A resource of each other store, and four: all keys with a check and a reload, all keys on a disk that can be full, a file,
/// some keys for a child.
fn configure(dir: &TempDir, nodes: &str, stores: &[Store], is_direct: bool) -> String {
    dir.write("data.json", r#"{"number": "1"}"#);
    dir.write("all.tmpl", "{% for kv in gets(\"/soak/*\") %}{{ kv.Key }}={{ kv.Value }}\n{% endfor %}");
    dir.write(
        "some.tmpl",
        "{% for v in getvs(\"/soak/1*\") %}{{ v }}\n{% endfor %}{{ getv(\"/soak/07\", \"none\") }}\n",
    );
    dir.write("list.tmpl", LIST);
    dir.write("file.tmpl", "{{ getv(\"/number\") }}\n");
    let etcd =
        format!("[resource.backend.etcd]\nversion = 3\nnodes = [\"{nodes}\"]\nkeys = [\"/soak\"]\nwatch = true\n");
    let others: String = stores.iter().map(|store| store.resource(is_direct)).collect();
    format!(
        r#"{others}
[[resource]]
name = "all"
[[resource.template]]
src = "all.tmpl"
dst = "out/all"
check_cmd = "test ! -e check-fails && test -e {{{{.src}}}}"
reload_cmd = "test ! -e reload-fails && test -s {{{{.dst}}}}"
[[resource.template]]
src = "some.tmpl"
dst = "out/some"
mode = "0640"
{etcd}interval = 3

[[resource]]
name = "disk"
[[resource.template]]
src = "all.tmpl"
dst = "disk/all"
{etcd}

[[resource]]
name = "file"
[[resource.template]]
src = "file.tmpl"
dst = "out/file"
[resource.backend.file]
filepath = "data.json"
keys = ["/"]
watch = true

[[resource]]
name = "child"
[[resource.template]]
src = "some.tmpl"
dst = "out/child"
{etcd}
"#
    )
}

/// A file that is there or not.
fn flag(dir: &TempDir, name: &str, on: bool) {
    let path = dir.at(name);
    let done = if on { fs::write(&path, "") } else { fs::remove_file(&path) };
    assert!(done.is_ok() || !on, "failed to write {}", path.display());
}

/// Whether anything grew that should not have: the memory after the first third by 5%, descriptors and threads at all.
fn judge(samples: &[Usage]) {
    let (warm, rest) = samples.split_at(samples.len().div_ceil(3));
    let most = |samples: &[Usage], of: fn(&Usage) -> u64| samples.iter().map(of).max().unwrap_or_default();
    let Some(last) = rest.last() else { return println!("soak: too short to tell whether anything grew") };
    // One more page is no leak where a page is more than a twentieth.
    let allowed = most(warm, |usage| usage.rss) * 105 / 100 + 16;
    let rss = rest.iter().rev().take(3).map(|usage| usage.rss).min().unwrap_or(last.rss);
    assert!(rss <= allowed, "RSS grew to {rss} KB, after warming up it was {} KB", most(warm, |usage| usage.rss));
    // A connection that is kept may be there or not.
    let descriptors = most(warm, |usage| usage.descriptors) + 2;
    assert!(
        last.descriptors <= descriptors,
        "{} descriptors, after warming up at most {descriptors}",
        last.descriptors
    );
    assert_eq!(most(samples, |usage| usage.threads), 1, "threads");
}

/// Nothing happens, and nothing may be done about it but to ask etcd twice a minute whether it lives.
fn idle(time: Duration) {
    println!("soak: idle for {} s", time.as_secs());
    let etcd = Etcd::start();
    etcd.put("/soak/00", "first");
    let proxy = FaultProxy::start(etcd.client_port());
    let mut instance = Instance::new(&format!("http://127.0.0.1:{}", proxy.port()), &[], false);
    let config = instance.dir.read("config.toml").expect("just written");
    instance.dir.write("config.toml", config.replace("interval = 3\n", ""));
    instance.restart(false);
    let files = files(&[]);
    wait_until("the first render", CALM, || files.iter().all(|file| instance.dir.at(file).exists()));
    let settled = Instant::now() + Duration::from_secs(5);
    wait_until("everything is warm", CALM, || Instant::now() >= settled);
    let before = Usage::of(instance.pid());
    println!("soak: {before}");
    let until = Instant::now() + time;
    while Instant::now() < until {
        thread::park_timeout(until.saturating_duration_since(Instant::now()).min(Duration::from_secs(60)));
        println!("soak: {}", Usage::of(instance.pid()));
    }
    let after = Usage::of(instance.pid());
    let halves = time.as_secs() / 30 + 1;
    // A question takes a wake-up or two.
    let woken = after.switches - before.switches;
    println!("soak: {woken} wake-ups, {} ms of CPU", after.cpu_ms - before.cpu_ms);
    assert!(woken <= 8 * halves, "{woken} wake-ups");
    assert!(after.cpu_ms - before.cpu_ms <= 10 * halves, "{} ms of CPU", after.cpu_ms - before.cpu_ms);
    assert!(after.rss <= before.rss * 105 / 100 + 16, "RSS grew from {} to {} KB", before.rss, after.rss);
    assert!(after.descriptors <= before.descriptors + 2, "{} descriptors", after.descriptors);
    let remco = instance.remco.take().expect("it runs");
    let log = remco.stop();
    let broken: Vec<_> = log.iter().filter(|line| line.contains("ERROR") || line.contains("WARN")).collect();
    assert!(broken.is_empty(), "{broken:#?}");
}
