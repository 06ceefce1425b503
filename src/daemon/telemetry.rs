//! Telemetry in the loop: the registry, its receivers, and when each of them is due. Wakes the loop for a scrape, and
//! at most once a second if something was counted. Itself counts only the passes of the loop.

use std::cell::RefCell;
use std::path::PathBuf;
use std::rc::Rc;
use std::time::{Duration, Instant};

use crate::config::{self, Mode};
use crate::host::connection::{Connection, Progress};
use crate::host::datagrams::Datagrams;
use crate::host::dialer::{Dialer, Endpoint, Limits};
use crate::host::files::{Checked, Comparison, Destination};
use crate::host::listener::{Answer, Listener};
use crate::host::logger::Logger;
use crate::host::machine::Machine;
use crate::host::usage;
use crate::host::wait::Interest;
use crate::log::{Level, Line};
use crate::metrics::inmem::Inmem;
use crate::metrics::{At, Gauge, Host, Naming, Registry, lines, list, prometheus};
use crate::template::World;

/// Telemetry at run time.
pub(super) struct Telemetry {
    /// The registry of the units. Shared by reference, because each unit counts while the loop holds its own reference.
    /// The program has one thread, and no borrow outlives a call.
    pub(super) registry: Rc<RefCell<Registry>>,
    config: config::Telemetry,
    mode: Mode,
    logger: Rc<Logger>,
    machine: Rc<Machine>,
    prometheus: Option<Prometheus>,
    statsd: Option<Statsd>,
    statsite: Option<Statsite>,
    textfile: Option<Textfile>,
    /// When the counts are sent to statsd, statsite and inmem.
    flush: Option<Instant>,
    /// Whether the resources have started. Before that the text file may belong to a run that holds the lock of
    /// `--lock`.
    has_begun: bool,
}

/// The figures about the resources, made when a receiver needs them.
pub(super) trait Subject {
    /// The gauges of all resources.
    fn gauges(&self) -> Vec<Gauge>;
    /// Whether all resources are in place and none fails, and one line for each resource.
    fn health(&self) -> (bool, String);
}

/// The listener, or the time of the next attempt to open it.
struct Prometheus {
    state: Listening,
    failure: SinkFailure,
}

enum Listening {
    Open(Listener),
    Failed { again: Instant, pause: Duration },
}

struct Statsd {
    to: Datagrams,
    failure: SinkFailure,
}

struct Statsite {
    endpoint: Endpoint,
    dialer: Rc<Dialer>,
    state: Stream,
    pause: Duration,
    failure: SinkFailure,
}

enum Stream {
    /// Nothing had to be sent yet.
    Idle,
    Open(Box<Connection>),
    Failed {
        again: Instant,
    },
}

struct Textfile {
    destination: Destination,
    due: Option<Instant>,
    /// When the next text may be written.
    not_before: Instant,
    failure: SinkFailure,
}

/// The failure of a receiver: logged when it begins, when it changes and when it ends.
#[derive(Default)]
struct SinkFailure(Option<String>);

/// The pause between two flushes.
const FLUSH: Duration = Duration::from_secs(1);

/// The pause between two writes of the text file.
const TEXTFILE_PAUSE: Duration = Duration::from_secs(10);

/// The first and the longest pause after a failure of a receiver. The pause doubles.
const PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// The most bytes that wait for statsite.
const MOST_WAITING: usize = 64 * 1024;

/// The time limit for a connection to statsite, and for statsite to read a part of the sent bytes.
const STATSITE_TIMEOUT: Duration = Duration::from_secs(10);

/// The most bytes of statsite that are read and dropped in one turn.
const PIECE: usize = 16 * 1024;

impl Telemetry {
    /// Telemetry without receivers; [`Telemetry::configure`] starts them.
    pub(super) fn new(mode: Mode, logger: Rc<Logger>, machine: Rc<Machine>) -> Telemetry {
        let config = config::Telemetry::off();
        let registry = Rc::new(RefCell::new(registry(&config)));
        let (prometheus, statsd, statsite, textfile, flush) = (None, None, None, None, None);
        Telemetry {
            registry,
            config,
            mode,
            logger,
            machine,
            prometheus,
            statsd,
            statsite,
            textfile,
            flush,
            has_begun: false,
        }
    }

    /// The resources start, or have started before: the text file is written from now on.
    pub(super) fn begin(&mut self, now: Instant) {
        if !self.has_begun {
            self.has_begun = true;
            self.connect(now);
        }
    }

    /// Applies a configuration. A receiver that is configured as before stays as it is; so do the counters.
    ///
    /// # Errors
    /// The listener cannot listen. It retries later; the caller may end the program instead.
    pub(super) fn configure(&mut self, config: &config::Telemetry, now: Instant) -> Result<(), String> {
        let old = std::mem::replace(&mut self.config, config.clone());
        self.registry.borrow_mut().configure(registry(config));
        let place = |config: &config::Telemetry| config.prometheus.as_ref().map(|(place, _)| place.clone());
        if place(&old) != place(config) {
            // The old listener ends first: the new address may have the port of the old one.
            self.prometheus = None;
            // A run that ends is not scraped, and its address belongs to the daemon with this configuration.
            if place(config).is_some() && self.mode == Mode::Watch {
                let state = Listening::Failed { again: now, pause: PAUSE };
                self.prometheus = Some(Prometheus { state, failure: SinkFailure::default() });
            }
        }
        if old.statsd != config.statsd {
            self.statsd = None;
        }
        if old.statsite != config.statsite {
            self.statsite = None;
        }
        if old.textfile != config.textfile {
            self.textfile = None;
        }
        self.connect(now);
        // The caller reports this failure.
        self.listen(now).inspect_err(|why| {
            self.prometheus.iter_mut().for_each(|prometheus| prometheus.failure.0 = Some(why.clone()));
        })
    }

    /// Creates the senders that are configured and do not exist yet.
    fn connect(&mut self, now: Instant) {
        if let (None, Some((host, port))) = (&self.statsd, &self.config.statsd) {
            self.statsd = Some(Statsd { to: Datagrams::new(host, *port), failure: SinkFailure::default() });
        }
        if let (None, Some((host, port))) = (&self.statsite, &self.config.statsite) {
            let limits = Limits { dial: STATSITE_TIMEOUT, secure: STATSITE_TIMEOUT };
            let dialer = Rc::new(Dialer::new(self.machine.resolver().clone(), limits, config::Tls::default()));
            let endpoint = Endpoint::Tcp { host: host.clone(), port: *port, tls: false };
            let (state, failure) = (Stream::Idle, SinkFailure::default());
            self.statsite = Some(Statsite { endpoint, dialer, state, pause: PAUSE, failure });
        }
        if let (None, Some(path), true) = (&self.textfile, &self.config.textfile, self.has_begun) {
            self.textfile = Some(Textfile::new(path.clone(), now));
        }
    }

    /// The moment on both clocks.
    pub(super) fn at(&self, instant: Instant) -> At {
        let (unix, nanos) = self.machine.now();
        At { instant, unix, nanos }
    }

    /// Records how long a pass of the loop has worked.
    pub(super) fn pass_took(&self, took: Duration, now: Instant) {
        self.registry.borrow_mut().sample(&list::LOOP_TURN, &[], took.as_secs_f64(), self.at(now));
    }

    /// Forgets the series of resources that are no longer configured.
    pub(super) fn retain_resources(&self, is_configured: impl Fn(&str) -> bool) {
        self.registry.borrow_mut().retain("resource", is_configured);
    }

    /// Appends the descriptors to poll.
    pub(super) fn interests<'a>(&'a self, out: &mut Vec<Interest<'a>>) {
        if let Some(Prometheus { state: Listening::Open(listener), .. }) = &self.prometheus {
            listener.interests(out);
        }
        self.statsd.iter().for_each(|statsd| statsd.to.interests(out));
        if let Some(Statsite { state: Stream::Open(connection), .. }) = &self.statsite {
            connection.interests(out);
        }
    }

    /// When a turn is due although nothing is ready; `None`: never.
    pub(super) fn due(&self) -> Option<Instant> {
        let listener = self.prometheus.as_ref().and_then(|prometheus| match &prometheus.state {
            Listening::Open(listener) => listener.due(),
            Listening::Failed { again, .. } => Some(*again),
        });
        let statsite = self.statsite.as_ref().and_then(|statsite| match &statsite.state {
            Stream::Open(connection) => connection.due(),
            // The next lines make a connection.
            Stream::Idle | Stream::Failed { .. } => None,
        });
        let textfile = self.textfile.as_ref().and_then(|textfile| textfile.due);
        let statsd = self.statsd.as_ref().and_then(|statsd| statsd.to.due());
        [self.flush, listener, statsd, statsite, textfile].into_iter().flatten().min()
    }

    /// Schedules a flush if this pass of the loop has counted something: one second later.
    pub(super) fn notice(&mut self, now: Instant) {
        if !self.registry.borrow_mut().take_changed() {
            return;
        }
        if self.statsd.is_some() || self.statsite.is_some() || self.config.inmem.is_some() {
            self.flush.get_or_insert(now + FLUSH);
        }
        if let Some(textfile) = &mut self.textfile {
            textfile.due.get_or_insert(textfile.not_before.max(now));
        }
    }

    /// Answers scrapes, and sends what is due.
    pub(super) fn turn(&mut self, subject: &dyn Subject, now: Instant) {
        if let Err(why) = self.listen(now) {
            let failure = self.prometheus.as_mut().map(|prometheus| &mut prometheus.failure);
            failure.into_iter().for_each(|failure| failure.report("prometheus", Err(why.clone()), &self.logger));
        }
        self.answer(subject, now);
        if self.flush.is_some_and(|at| at <= now) {
            self.send(subject, now);
        }
        if let Some(Statsd { to, failure }) = &mut self.statsd {
            let turned = to.turn(now);
            if turned.is_err() {
                failure.report("statsd", turned, &self.logger);
            }
        }
        if let Some(statsite) = &mut self.statsite {
            statsite.turn(now, &self.logger);
        }
        if self.textfile.as_ref().is_some_and(|textfile| textfile.due.is_some_and(|at| at <= now)) {
            self.write_textfile(subject, now);
        }
    }

    /// The last turn: sends the remaining counts, as far as the receivers take them at once.
    pub(super) fn finish(&mut self, subject: &dyn Subject, now: Instant) {
        self.notice(now);
        if self.flush.is_some() {
            self.send(subject, now);
        }
        if self.textfile.as_ref().is_some_and(|textfile| textfile.due.is_some()) {
            self.write_textfile(subject, now);
        }
    }

    /// Prints the intervals of inmem to standard error. Returns whether there is such a receiver.
    pub(super) fn dump(&mut self) -> bool {
        let mut registry = self.registry.borrow_mut();
        let Some(inmem) = registry.inmem() else { return false };
        let text = inmem.dump(self.machine.now().0, |unix| self.machine.zone(unix));
        match text.is_empty() {
            true => self.logger.log(&Line::new(Level::Info, "no interval of metrics is over yet")),
            false => self.logger.print(&text),
        }
        true
    }

    /// Tries to listen if an attempt is due.
    fn listen(&mut self, now: Instant) -> Result<(), String> {
        let Some(Prometheus { state, failure }) = &mut self.prometheus else { return Ok(()) };
        let Listening::Failed { again, pause } = state else { return Ok(()) };
        let Some((place, _)) = self.config.prometheus.as_ref().filter(|_| *again <= now) else { return Ok(()) };
        match Listener::open(place) {
            Ok(listener) => {
                *state = Listening::Open(listener);
                // This line also reports the end of a failure.
                failure.0 = None;
                let line = Line::new(Level::Info, "serving metrics").with("addr", place.to_string());
                self.logger.log(&line);
                Ok(())
            }
            Err(why) => {
                *again = now + *pause;
                *pause = (*pause * 2).min(LONGEST_PAUSE);
                Err(format!("failed to listen on `{place}` for `telemetry.sinks.prometheus`: {why}"))
            }
        }
    }

    fn answer(&mut self, subject: &dyn Subject, now: Instant) {
        let registry = &self.registry;
        let Some(Prometheus { state: Listening::Open(listener), .. }) = &mut self.prometheus else { return };
        let has_runtime = self.config.enable_runtime_metrics;
        // Requests of one turn share one text.
        let mut text: Option<Rc<str>> = None;
        listener.turn(now, &mut |path| match path {
            "/metrics" => {
                let body = text.get_or_insert_with(|| {
                    prometheus::text(&mut registry.borrow_mut(), &gauges(subject, has_runtime), now).into()
                });
                Some(Answer { status: "200 OK", content_type: prometheus::CONTENT_TYPE, body: Rc::clone(body) })
            }
            "/healthz" => {
                let (is_well, text) = subject.health();
                let status = if is_well { "200 OK" } else { "503 Service Unavailable" };
                Some(Answer { status, content_type: "text/plain; charset=utf-8", body: text.into() })
            }
            _ => None,
        });
    }

    /// Sends the counts to statsd and statsite, and gives inmem the present gauges.
    fn send(&mut self, subject: &dyn Subject, now: Instant) {
        self.flush = None;
        let gauges = gauges(subject, self.config.enable_runtime_metrics);
        let at = self.at(now);
        let text = {
            let mut registry = self.registry.borrow_mut();
            registry.note(&gauges, at);
            if self.statsd.is_none() && self.statsite.is_none() {
                return;
            }
            lines::take(&mut registry, &gauges)
        };
        if let Some(Statsd { to, failure }) = &mut self.statsd {
            let sent = to.send(lines::datagrams(&text).map(str::as_bytes), self.machine.resolver(), now);
            // The result is unknown while a name is looked up.
            if sent.is_err() || to.due().is_none() {
                failure.report("statsd", sent, &self.logger);
            }
        }
        if let Some(statsite) = &mut self.statsite {
            statsite.send(text.as_bytes(), now, &self.logger);
        }
    }

    fn write_textfile(&mut self, subject: &dyn Subject, now: Instant) {
        let gauges = gauges(subject, self.config.enable_runtime_metrics);
        let text = prometheus::text(&mut self.registry.borrow_mut(), &gauges, now);
        let Some(textfile) = &mut self.textfile else { return };
        (textfile.due, textfile.not_before) = (None, now + TEXTFILE_PAUSE);
        let written = write(&mut textfile.destination, text.as_bytes());
        if written.is_err() {
            textfile.due = Some(textfile.not_before);
        }
        textfile.failure.report("textfile", written, &self.logger);
    }
}

impl Statsite {
    /// Sends lines. Drops them if too many bytes wait already.
    fn send(&mut self, lines: &[u8], now: Instant, logger: &Logger) {
        match &mut self.state {
            Stream::Failed { again } if *again > now => return,
            Stream::Idle | Stream::Failed { .. } => {
                match Connection::begin(Rc::clone(&self.dialer), self.endpoint.clone(), STATSITE_TIMEOUT, now) {
                    Ok(connection) => self.state = Stream::Open(Box::new(connection)),
                    Err(why) => return self.failed(why.to_string(), now, logger),
                }
            }
            Stream::Open(_) => {}
        }
        let Stream::Open(connection) = &mut self.state else { return };
        if connection.unsent() + lines.len() > MOST_WAITING {
            let why = format!("it does not take what it is sent, and more than {MOST_WAITING} bytes wait");
            return self.failure.report("statsite", Err(why), logger);
        }
        if let Err(why) = connection.send(lines, now) {
            self.failed(why.to_string(), now, logger);
        }
    }

    fn turn(&mut self, now: Instant, logger: &Logger) {
        let Stream::Open(connection) = &mut self.state else { return };
        // The answers of statsite have no meaning.
        match connection.turn(now, PIECE, &mut Vec::new()) {
            Ok(Progress::Connected) => {
                self.pause = PAUSE;
                self.failure.report("statsite", Ok(()), logger);
            }
            Ok(Progress::Waiting | Progress::More) => {}
            Ok(Progress::Ended) => self.failed("connection closed by the server".to_owned(), now, logger),
            Err(why) => self.failed(why.to_string(), now, logger),
        }
    }

    fn failed(&mut self, why: String, now: Instant, logger: &Logger) {
        self.state = Stream::Failed { again: now + self.pause };
        self.pause = (self.pause * 2).min(LONGEST_PAUSE);
        self.failure.report("statsite", Err(why), logger);
    }
}

impl Textfile {
    /// The first text is written at once, because a file of an earlier run would look current.
    fn new(path: PathBuf, now: Instant) -> Textfile {
        let destination = Destination::passing(path);
        destination.sweep();
        Textfile { destination, due: Some(now), not_before: now, failure: SinkFailure::default() }
    }
}

impl SinkFailure {
    /// Logs a failure that is new or has changed, and the end of one.
    fn report(&mut self, sink: &'static str, outcome: Result<(), String>, logger: &Logger) {
        let line = match outcome {
            Ok(()) => match self.0.take() {
                Some(_) => Line::new(Level::Info, "metrics are sent again"),
                None => return,
            },
            Err(why) if self.0.as_ref() == Some(&why) => return,
            Err(why) => {
                self.0 = Some(why.clone());
                Line::new(Level::Error, "failed to send metrics").with("error", why)
            }
        };
        logger.log(&line.with("sink", sink));
    }
}

/// Replaces a file if it has another text.
pub(super) fn write(destination: &mut Destination, content: &[u8]) -> Result<(), String> {
    if destination.compare(content)? == Comparison::InSync {
        return Ok(());
    }
    let stage = destination.stage(content, Checked::No)?;
    destination.install(stage, content).map(|_| ())
}

fn registry(config: &config::Telemetry) -> Registry {
    let hostname = match &*config.hostname {
        "" => usage::hostname(),
        hostname => hostname.to_owned(),
    };
    let host = match (config.enable_hostname_label, config.enable_hostname) {
        _ if hostname.is_empty() => Host::Nowhere,
        (true, _) => Host::Label(hostname),
        (false, true) => Host::InGauges(hostname),
        (false, false) => Host::Nowhere,
    };
    let naming = Naming { service: config.service_name.clone(), host };
    let expiration = config.prometheus.as_ref().map_or(Duration::ZERO, |(_, expiration)| *expiration);
    let inmem = config.inmem.map(|(interval, retain)| Inmem::new(interval, retain));
    Registry::new(naming, expiration, config.statsd.is_some() || config.statsite.is_some(), inmem)
}

/// The gauges of the program and of the resources. Among resources with one name the worst state counts.
fn gauges(subject: &dyn Subject, has_runtime: bool) -> Vec<Gauge> {
    let mut all = subject.gauges();
    all.push(Gauge { metric: &list::UP, labels: Vec::new(), value: 1.0 });
    if has_runtime {
        let usage = usage::now();
        let runtime = [
            (&list::RESIDENT_BYTES, usage.resident_bytes),
            (&list::OPEN_FDS, usage.open_fds),
            (&list::CPU_SECONDS, usage.cpu_seconds),
        ];
        let known = runtime.into_iter().filter_map(|(metric, value)| Some((metric, value?)));
        all.extend(known.map(|(metric, value)| Gauge { metric, labels: Vec::new(), value }));
    }
    // The worst state comes first, and stays.
    all.sort_by(|a, b| {
        let series = |gauge: &Gauge| (gauge.metric.name, gauge.labels.clone());
        series(a).cmp(&series(b)).then(a.value.total_cmp(&b.value))
    });
    all.dedup_by(|a, b| (a.metric.name, &a.labels) == (b.metric.name, &b.labels));
    all
}
