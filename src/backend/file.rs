//! The backend `file`: one YAML or JSON document, over HTTP in `url`, or a local one, which is here: read at the start,
//! every interval and, with `watch`, as soon as it changes. `flatten` converts it to keys.

mod url;

use std::hash::{DefaultHasher, Hasher};
use std::io;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use super::driver::{Driver, Nodes, Store};
use super::failover::{Deadline, Start};
use super::flatten;
use super::keys::Keys;
use super::local::Local;
use super::polled::{Call, Outcome, Schedule, retrieving_keys};
use super::{Id, Report, interval, watches};
use crate::config::{self, Mode, ReadLimits};
use crate::error::cause;
use crate::host::client::{Limits, without_credentials};
use crate::host::inotify::{Armed, Inotify, PathWatch, Touch, WatchId};
use crate::host::read::whole_file;
use crate::log::{Level, Line};
use crate::store::Layer;

const NAME: &str = "file";

/// A larger document is an error: it would fill a small machine's memory several times over.
const LARGEST: usize = 64 << 20;

/// The time in which the next event has to follow an incomplete change, such as a created file without content.
const SETTLE: Duration = Duration::from_millis(100);

/// The read interval of a document that the kernel refuses to watch.
const UNWATCHED: Duration = Duration::from_secs(10);

/// The backend for a path (not a URL). The seed spreads its reads over time. `inotify` reports changes of the document
/// with `id`.
pub fn new(
    config: &config::Backend,
    file: &config::File,
    mode: Mode,
    seed: u64,
    inotify: &Inotify,
    id: WatchId,
) -> Box<dyn Local> {
    let path = PathBuf::from(&file.filepath);
    Box::new(Document {
        watch: watches(config, mode).then(|| PathWatch::new(inotify, id, &path)),
        path,
        prefix: config.prefix.clone(),
        keys: Keys::new(&config.prefix, &config.keys),
        limits: file.read,
        schedule: Schedule::new(interval(config, mode), seed),
        settled: None,
        unwatched: None,
        known: None,
    })
}

/// The backend for a URL.
pub fn remote(
    id: Id,
    config: &config::Backend,
    file: &config::File,
    mode: Mode,
    random: fn(u64) -> u64,
    now: Instant,
) -> Driver {
    // A one-shot run does not retry a failed read.
    let deadline = Deadline::of(mode, Duration::ZERO);
    let nodes = Nodes::List(vec![file.filepath.clone()], Start::First);
    let limits = Limits { dial: url::TIMEOUT, answer: url::TIMEOUT, whole: url::TIMEOUT, size: LARGEST };
    let (tls, login) = (config::Tls::default(), None);
    let (config, file) = (config.clone(), file.clone());
    let factory = Box::new(move |_: &[String], _: &[String], _| -> Box<dyn super::protocol::Protocol> {
        let shown = without_credentials(&file.filepath);
        Box::new(url::Url::new(id, &config, &file, &shown, mode, random(u64::MAX)))
    });
    Driver::new(Store { name: NAME.into(), nodes, limits, tls, login, deadline, random }, factory, now)
}

struct Document {
    path: PathBuf,
    prefix: String,
    keys: Keys,
    limits: ReadLimits,
    schedule: Schedule,
    watch: Option<PathWatch>,
    /// When the document is read after an incomplete change.
    settled: Option<Instant>,
    /// When a document that the kernel refuses to watch is read.
    unwatched: Option<Instant>,
    /// A hash of the last document. Keeping the text would double the memory of a large document.
    known: Option<u64>,
}

impl Local for Document {
    fn name(&self) -> &'static str {
        NAME
    }

    fn due(&self) -> Option<Instant> {
        let touched = self.watch.as_ref().and_then(PathWatch::touched);
        self.schedule.due().into_iter().chain(self.settled).chain(self.unwatched).chain(touched).min()
    }

    fn is_over(&self) -> bool {
        self.watch.is_none() && self.due().is_none()
    }

    fn turn(&mut self, now: Instant, out: &mut Vec<Report>) {
        let call = self.schedule.call(now);
        if !self.has_changed(now) && call.is_none() {
            return;
        }
        self.settled = None;
        if call == Some(Call::Start) {
            let line = Line::new(Level::Info, "set file path").with("backend", "file");
            out.push(Report::Log(line.with("filepath", self.path.display().to_string())));
        }
        out.push(Report::Log(retrieving_keys("file", &self.prefix)));
        // The watch starts before the read, so that a change during the read is reported afterwards.
        let watched = self.arm(now, out);
        // The interval covers everything that can drift, not only the document.
        let read = self.read(call == Some(Call::Interval));
        let (layer, failure) = match (read, watched) {
            (Ok(layer), watched) => (layer, watched.err()),
            (Err(failure), _) => (None, Some(failure)),
        };
        match &failure {
            Some(_) => self.schedule.failed(now),
            None if self.schedule.succeeded(now) == Outcome::Recovered => out.push(Report::Recovered),
            None => {}
        }
        out.extend(layer.map(Report::Snapshot));
        out.extend(failure.map(Report::Failed));
    }
}

impl Document {
    /// Takes the effect of inotify's events. Returns whether the document must be read.
    fn has_changed(&mut self, now: Instant) -> bool {
        let touch = self.watch.as_ref().map_or(Touch::Nothing, PathWatch::take);
        if touch == Touch::Possible {
            self.settled.get_or_insert(now + SETTLE);
        }
        touch == Touch::Complete || [self.settled, self.unwatched].into_iter().flatten().any(|moment| moment <= now)
    }

    /// Watches the document. If the kernel refuses, the document is read by time, which is not a failure of the
    /// resource.
    fn arm(&mut self, now: Instant, out: &mut Vec<Report>) -> Result<(), String> {
        let Some(watch) = &mut self.watch else {
            return Ok(());
        };
        self.unwatched = None;
        match watch.arm(now) {
            Ok(Armed::Watched { all_again: false }) => {}
            Ok(Armed::Watched { all_again: true }) => {
                let line = Line::new(Level::Info, "all files are watched again");
                out.push(Report::Log(line.with("backend", NAME)));
            }
            Ok(Armed::Refused { reason }) => {
                self.unwatched = Some(now + UNWATCHED);
                out.extend(reason.map(|why| {
                    let seconds = UNWATCHED.as_secs();
                    let text = format!("failed to watch files, those that are not watched are read every {seconds} s");
                    Report::Log(Line::new(Level::Warn, text).with("backend", NAME).with("error", why))
                }));
            }
            Err(error) => return Err(self.failed("watch", &error)),
        }
        Ok(())
    }

    /// The document's keys; `None` if the document has not changed and `anyway` is false.
    fn read(&mut self, anyway: bool) -> Result<Option<Layer>, String> {
        let text = whole_file(&self.path, LARGEST).map_err(|error| self.failed("read", &error))?;
        let mut hasher = DefaultHasher::new();
        hasher.write(&text);
        let hash = Some(hasher.finish());
        if hash == self.known && !anyway {
            return Ok(None);
        }
        let layer = flatten::document(&text, &self.keys, self.limits).map_err(|bad| {
            format!("failed to parse `{}:{}:{}`: {}", self.path.display(), bad.line, bad.column, bad.why)
        })?;
        self.known = hash;
        Ok(Some(layer))
    }

    fn failed(&self, to: &str, error: &io::Error) -> String {
        format!("failed to {to} `{}`: {}", self.path.display(), cause(error))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::files::tests::Folder;
    use std::fs;
    use std::os::unix::fs::symlink;
    use std::path::Path;

    const SECOND: Duration = Duration::from_secs(1);

    /// A backend that reads `data` in its own folder, and its clock.
    struct Bench {
        folder: Folder,
        inotify: Inotify,
        backend: Box<dyn Local>,
        now: Instant,
    }

    impl Bench {
        fn new(mode: Mode, change: impl FnOnce(&mut config::Backend)) -> Bench {
            let folder = Folder::new();
            let file = config::File {
                filepath: folder.path("data").to_str().unwrap().to_owned(),
                httpheaders: Default::default(),
                read: ReadLimits::default(),
            };
            let mut config = config::Backend {
                keys: vec!["/".to_owned()],
                watch_keys: vec!["/".to_owned()],
                prefix: String::new(),
                watch: true,
                onetime: false,
                interval: None,
                secret: false,
                kind: config::Kind::File(file.clone()),
            };
            change(&mut config);
            let inotify = Inotify::default();
            let backend = new(&config, &file, mode, 1, &inotify, 1);
            Bench { folder, inotify, backend, now: Instant::now() }
        }

        fn watching() -> Bench {
            Bench::new(Mode::Watch, |_| {})
        }

        fn data(&self) -> PathBuf {
            self.folder.path("data")
        }

        /// The reports of one turn as short texts, without log lines.
        fn turn(&mut self) -> Vec<String> {
            let mut reports = Vec::new();
            self.inotify.drain(self.now);
            self.backend.turn(self.now, &mut reports);
            let show = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
            let folder = format!("{}/", self.folder.path("").display()).replace("//", "/");
            let text = |report| match report {
                Report::Snapshot(layer) => {
                    let pairs = layer.iter().map(|(key, value)| format!("{}={}", show(key), show(value)));
                    Some(pairs.collect::<Vec<_>>().join(" "))
                }
                Report::Failed(error) => Some(error.replace(&folder, "")),
                Report::Recovered => Some("recovered".to_owned()),
                Report::Log(_) => None,
                Report::Changes { .. } => Some("changes".to_owned()),
            };
            reports.into_iter().filter_map(text).collect()
        }

        #[track_caller]
        fn check(&mut self, want: &[&str]) {
            assert_eq!(self.turn(), want);
        }

        /// Advances the time until a turn is due.
        #[track_caller]
        fn check_when_due(&mut self, within: Duration, want: &[&str]) {
            let due = self.backend.due().expect("a turn is due at some time");
            assert!(due > self.now && due - self.now <= within, "{:?}", due - self.now);
            self.now = due;
            self.check(want);
        }

        fn is_watched(&self) -> bool {
            self.inotify.interest().is_some()
        }
    }

    fn rename_over(path: &Path, text: &str) {
        let new = path.with_extension("new");
        fs::write(&new, text).unwrap();
        fs::rename(&new, path).unwrap();
    }

    const MISSING: &str = "failed to read `data`: no such file or directory";

    #[test]
    fn a_change_is_reported_once() {
        let mut bench = Bench::watching();
        fs::write(bench.data(), r#"{"a": 1}"#).unwrap();
        bench.check(&["/a=1"]);
        assert!(bench.is_watched());
        assert_eq!(bench.backend.due(), None, "nothing wakes it but an event");
        bench.check(&[]);
        fs::write(bench.data(), r#"{"a": 2}"#).unwrap();
        bench.check(&["/a=2"]);
        rename_over(&bench.data(), r#"{"a": 3}"#);
        bench.check(&["/a=3"]);
        bench.check(&[]);
    }

    #[test]
    fn a_burst_is_read_once() {
        let mut bench = Bench::watching();
        for number in 0..50 {
            fs::write(bench.data(), format!("{{\"a\": {number}}}")).unwrap();
        }
        bench.check(&["/a=49"]);
        for number in 50..100 {
            rename_over(&bench.data(), &format!("{{\"a\": {number}}}"));
        }
        bench.check(&["/a=99"]);
        bench.check(&[]);
    }

    #[test]
    fn what_stays_the_same_is_not_reported() {
        let mut bench = Bench::watching();
        fs::write(bench.data(), r#"{"a": 1}"#).unwrap();
        bench.check(&["/a=1"]);
        fs::write(bench.data(), r#"{"a": 1}"#).unwrap();
        bench.check(&[]);
        rename_over(&bench.data(), r#"{"a": 1}"#);
        bench.check(&[]);
        fs::write(bench.folder.path("other"), r#"{"a": 2}"#).unwrap();
        bench.check(&[]);
    }

    #[test]
    fn fault_01_a_change_between_the_first_read_and_the_watch_is_not_lost() {
        let mut bench = Bench::watching();
        fs::write(bench.data(), r#"{"a": 1}"#).unwrap();
        bench.check(&["/a=1"]);
        // No change is missed: the watch was set before the read.
        fs::write(bench.data(), r#"{"a": 2}"#).unwrap();
        bench.check(&["/a=2"]);
    }

    #[test]
    fn a_file_that_vanishes_keeps_its_keys_until_it_is_back() {
        let mut bench = Bench::watching();
        fs::write(bench.data(), r#"{"a": 1}"#).unwrap();
        bench.check(&["/a=1"]);
        fs::remove_file(bench.data()).unwrap();
        bench.check(&[]);
        bench.check_when_due(SETTLE, &[MISSING]);
        bench.check_when_due(SECOND, &[MISSING]);
        fs::write(bench.data(), r#"{"a": 1}"#).unwrap();
        bench.check(&["recovered"]);
        fs::remove_file(bench.data()).unwrap();
        bench.check(&[]);
        bench.check_when_due(SETTLE, &[MISSING]);
        fs::write(bench.data(), r#"{"a": 2}"#).unwrap();
        bench.check(&["recovered", "/a=2"]);
    }

    #[test]
    fn an_editor_that_renames_the_old_file_away_causes_no_failure() {
        let mut bench = Bench::watching();
        fs::write(bench.data(), r#"{"a": 1}"#).unwrap();
        bench.check(&["/a=1"]);
        fs::rename(bench.data(), bench.folder.path("data~")).unwrap();
        bench.check(&[]);
        fs::write(bench.data(), r#"{"a": 2}"#).unwrap();
        bench.check(&["/a=2"]);
        assert_eq!(bench.backend.due(), None);
    }

    #[test]
    fn a_hard_link_is_noticed_without_a_close_event() {
        let mut bench = Bench::watching();
        bench.check(&[MISSING]);
        fs::write(bench.folder.path("other"), r#"{"a": 1}"#).unwrap();
        fs::hard_link(bench.folder.path("other"), bench.data()).unwrap();
        bench.check(&[]);
        bench.check_when_due(SETTLE, &["recovered", "/a=1"]);
    }

    #[test]
    fn a_file_that_is_not_there_yet() {
        let mut bench = Bench::watching();
        bench.check(&[MISSING]);
        bench.check_when_due(SETTLE, &[MISSING]);
        rename_over(&bench.data(), r#"{"a": 1}"#);
        bench.check(&["recovered", "/a=1"]);
        assert_eq!(bench.backend.due(), None);
    }

    #[test]
    fn a_kubernetes_config_map() {
        let mut bench = Bench::watching();
        let publish = |folder: &Folder, version: &str| {
            fs::create_dir(folder.path(version)).unwrap();
            fs::write(folder.path(version).join("data"), format!("{{\"v\": \"{version}\"}}")).unwrap();
            symlink(version, folder.path("..data_tmp")).unwrap();
            fs::rename(folder.path("..data_tmp"), folder.path("..data")).unwrap();
        };
        publish(&bench.folder, "..1");
        symlink("..data/data", bench.data()).unwrap();
        bench.check(&["/v=..1"]);
        publish(&bench.folder, "..2");
        fs::remove_dir_all(bench.folder.path("..1")).unwrap();
        bench.check(&["/v=..2"]);
        publish(&bench.folder, "..3");
        bench.check(&["/v=..3"]);
    }

    #[test]
    fn a_bad_document_keeps_the_keys() {
        let mut bench = Bench::watching();
        fs::write(bench.data(), r#"{"a": 1}"#).unwrap();
        bench.check(&["/a=1"]);
        fs::write(bench.data(), "{\n  \"a\": 1,\n").unwrap();
        let bad = "failed to parse `data:3:1`: did not find expected node content in a flow node";
        bench.check(&[bad]);
        bench.check_when_due(SETTLE, &[bad]);
        fs::write(bench.data(), r#"{"a": 1}"#).unwrap();
        bench.check(&["recovered"]);
    }

    #[test]
    fn an_empty_document_keeps_the_keys_and_is_read_again() {
        let mut bench = Bench::watching();
        fs::write(bench.data(), r#"{"a": 1}"#).unwrap();
        bench.check(&["/a=1"]);
        let bad =
            "failed to parse `data:1:1`: expected a map at the top, found nothing; `{}` means that there are no keys";
        for nothing in ["", "# a: 1\n", "---\n"] {
            fs::write(bench.data(), nothing).unwrap();
            bench.check(&[bad]);
            bench.check_when_due(SECOND, &[bad]);
            fs::write(bench.data(), r#"{"a": 1}"#).unwrap();
            bench.check(&["recovered"]);
        }
        fs::write(bench.data(), "{}").unwrap();
        bench.check(&[""]);
    }

    #[test]
    fn an_interval_reports_what_did_not_change_too() {
        let mut bench = Bench::new(Mode::Watch, |config| {
            config.watch = false;
            config.interval = Some(60 * SECOND);
        });
        fs::write(bench.data(), r#"{"a": 1}"#).unwrap();
        bench.check(&["/a=1"]);
        assert!(!bench.is_watched());
        bench.check_when_due(66 * SECOND, &["/a=1"]);
        fs::write(bench.data(), r#"{"a": 2}"#).unwrap();
        bench.check(&[]);
        bench.check_when_due(66 * SECOND, &["/a=2"]);
    }

    #[test]
    fn one_shot_and_onetime_read_until_it_works_and_no_longer() {
        let one_shot = Bench::new(Mode::OneShot, |config| config.interval = Some(SECOND));
        let onetime = Bench::new(Mode::Watch, |config| (config.onetime, config.interval) = (true, Some(SECOND)));
        for mut bench in [one_shot, onetime] {
            bench.check(&[MISSING]);
            fs::write(bench.data(), r#"{"a": 1}"#).unwrap();
            bench.check(&[]);
            bench.check_when_due(SETTLE, &["recovered", "/a=1"]);
            fs::write(bench.data(), r#"{"a": 2}"#).unwrap();
            bench.check(&[]);
            assert!(!bench.is_watched());
            assert_eq!(bench.backend.due(), None);
        }
    }

    #[test]
    fn only_the_wanted_keys() {
        let mut bench = Bench::new(Mode::OneShot, |config| {
            config.prefix = "/app".to_owned();
            config.keys = vec!["/db".to_owned()];
        });
        fs::write(bench.data(), r#"{"app": {"db": {"host": "pg"}, "x": 1}, "db": {"host": "no"}}"#).unwrap();
        bench.check(&["/db/host=pg"]);
    }

    #[test]
    fn what_is_no_document_at_all() {
        let mut bench = Bench::watching();
        fs::create_dir(bench.data()).unwrap();
        bench.check(&["failed to read `data`: is a directory"]);
        fs::remove_dir(bench.data()).unwrap();
        fs::write(bench.data(), "just a text").unwrap();
        bench.check(&["failed to parse `data:1:1`: expected a map at the top, found a value"]);
        let file = fs::File::create(bench.data()).unwrap();
        file.set_len(LARGEST as u64 + 1).unwrap();
        drop(file);
        bench.check(&["failed to read `data`: larger than the limit of 67108864 bytes"]);
    }

    #[test]
    fn random_changes_end_in_the_newest_keys() {
        let mut random = crate::random::Random::new(9);
        for _ in 0..20 {
            let mut bench = Bench::watching();
            let mut held = None;
            for step in 0..60 {
                let text = format!("{{\"a\": {step}}}");
                match random.below(6) {
                    0 | 1 => fs::write(bench.data(), text).unwrap(),
                    2 => rename_over(&bench.data(), &text),
                    3 => _ = fs::remove_file(bench.data()),
                    4 => {
                        _ = fs::remove_file(bench.data());
                        fs::write(bench.folder.path(&format!("v{step}")), text).unwrap();
                        symlink(format!("v{step}"), bench.data()).unwrap();
                    }
                    _ => {}
                }
                if random.below(2) == 0 {
                    held = bench.turn().into_iter().rfind(|report| report.starts_with('/')).or(held);
                }
            }
            // Delayed reads and retries follow within the longest pause.
            for pause in [Duration::ZERO, 11 * SECOND] {
                bench.now += pause;
                held = bench.turn().into_iter().rfind(|report| report.starts_with('/')).or(held);
            }
            if let Ok(text) = fs::read_to_string(bench.data()) {
                assert_eq!(held, Some(text.replace("{\"a\": ", "/a=").replace('}', "")));
            }
        }
    }
}
