//! The order of the calls to a plugin: `Plugin.Init`, then `Plugin.GetValues` for every read, and `Plugin.WatchPrefix`
//! beside it if the resource watches. Does not start the program: the driver does.

use std::mem;
use std::time::{Duration, Instant};

use super::wire::{self, Answer, Beginning, Framer, Nonsense, Reply};
use crate::backend::Mode;
use crate::backend::failover::{LASTING, SLOW_RETRY};
use crate::backend::protocol::{CallId, Failure, FailureKind, Id, Input, Output, Protocol, Security, Subscribers};
use crate::backend::readings::Readings;
use crate::backend::redact::Redactor;
use crate::backend::refusal;
use crate::config::{self, ReadLimits};
use crate::cut::cut;
use crate::log::{Level, Line};
use crate::random::Random;
use crate::store::{Bytes, Layer, path};

/// The time limit of `Plugin.Init` and `Plugin.GetValues`.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(60);

/// The shortest time between two calls of `Plugin.WatchPrefix`.
const PACE: Duration = Duration::from_millis(100);

/// The read interval of a plugin that answers no reads while it watches, unless an interval is configured.
const INTERVAL: Duration = Duration::from_secs(60);

/// The number of characters of an error that are shown. Twice as many bytes are searched for secrets.
const LONGEST_ERROR: usize = 500;

/// The one connection: the pipes of the program.
const PIPES: CallId = CallId(0);

/// The options of a plugin.
pub struct Settings {
    /// The resource.
    pub id: Id,
    /// The program, as the log shows it.
    pub path: String,
    /// The argument of `Plugin.Init`, as JSON.
    pub config: String,
    /// Masks the values of `config` in texts of the plugin.
    pub redactor: Redactor,
    /// The limits of one read.
    pub limits: ReadLimits,
    /// How long the keys are kept up to date.
    pub mode: Mode,
    /// Spreads reads over time.
    pub seed: u64,
}

/// One plugin, for one resource.
pub struct Plugin {
    settings: Settings,
    /// The keys with their prefix.
    keys: Vec<String>,
    watched: Vec<String>,
    readings: Readings,
    state: State,
    /// The number of the last call.
    calls: u64,
    /// The last answer of `Plugin.WatchPrefix`.
    index: u64,
    framer: Framer,
    random: Random,
}

enum State {
    /// The program does not run.
    Stopped,
    /// The program is being started.
    Starting,
    /// `Plugin.Init` has no answer yet.
    Initializing(Call),
    Ready(Ready),
}

/// A pending call and its deadline.
#[derive(Clone, Copy)]
struct Call {
    id: u64,
    until: Instant,
}

/// The state of an initialized plugin.
struct Ready {
    values: Option<Call>,
    watch: Watch,
    /// The keys of the first read, until a second read has shown that nothing changed before the watch.
    first: Option<Layer>,
    /// Keys have changed since the pending read began.
    is_stale: bool,
    /// The plugin answered a read while it did not watch.
    has_answered: bool,
    /// The program answered with an error. The next request follows the driver's pause.
    rests: bool,
    /// Since when watching has worked without an error.
    steady_since: Option<Instant>,
}

/// The state of `Plugin.WatchPrefix`.
#[derive(Clone, Copy)]
enum Watch {
    /// Not called, or not yet.
    Off,
    /// The next call follows at this moment.
    Paused(Instant),
    /// The call is pending.
    Waiting { id: u64, since: Instant },
}

impl Plugin {
    /// `name` is the name in logs.
    pub fn new(settings: Settings, name: &str, options: &config::Backend) -> Plugin {
        let with_prefix = |keys: &[String]| {
            let join = |key: &String| path::join(&[options.prefix.as_bytes(), key.as_bytes()]);
            keys.iter().map(|key| String::from_utf8_lossy(&join(key)).into_owned()).collect()
        };
        Plugin {
            keys: with_prefix(&options.keys),
            watched: with_prefix(&options.watch_keys),
            readings: Readings::new(name, settings.mode, settings.seed),
            state: State::Stopped,
            calls: 0,
            index: 0,
            framer: Framer::default(),
            random: Random::new(settings.seed),
            settings,
        }
    }

    /// The number of the next call.
    fn number(&mut self) -> u64 {
        self.calls += 1;
        self.calls
    }

    fn turn(&mut self, now: Instant, out: &mut Vec<Output>) {
        match &self.state {
            State::Stopped if self.readings.is_due(now) || !self.readings.waiting().is_empty() => {
                self.start(out);
            }
            State::Stopped | State::Starting => {}
            State::Initializing(call) if call.until <= now => self.late("Plugin.Init", now, out),
            State::Initializing(_) => {}
            State::Ready(ready) => match (ready.values, ready.watch) {
                (Some(call), Watch::Waiting { .. }) if call.until <= now && ready.has_answered => self.is_serial(out),
                (Some(call), _) if call.until <= now => self.late("Plugin.GetValues", now, out),
                _ => {
                    if let State::Ready(ready) = &mut self.state {
                        ready.rests = false;
                    }
                    self.ask(now, out);
                }
            },
        }
    }

    fn start(&mut self, out: &mut Vec<Output>) {
        self.state = State::Starting;
        (self.framer, self.index) = (Framer::default(), 0);
        out.push(Output::Connect(PIPES, Security::Plain));
    }

    /// Sends the calls that are due.
    fn ask(&mut self, now: Instant, out: &mut Vec<Output>) {
        let State::Ready(ready) = &self.state else { return };
        if ready.rests {
            return;
        }
        if matches!(ready.watch, Watch::Paused(at) if at <= now) {
            let id = self.number();
            let call = wire::watch_prefix(&self.prefix(), &self.watched, self.index, id);
            out.push(Output::Send(PIPES, call));
            if let State::Ready(ready) = &mut self.state {
                ready.watch = Watch::Waiting { id, since: now };
            }
        }
        let State::Ready(ready) = &self.state else { return };
        if ready.values.is_none() && self.readings.begin(now, out).is_some() {
            let id = self.number();
            out.push(Output::Send(PIPES, wire::get_values(&self.keys, id)));
            if let State::Ready(ready) = &mut self.state {
                (ready.values, ready.is_stale) = (Some(Call { id, until: now + ANSWER_TIMEOUT }), false);
            }
        }
    }

    /// The prefix of the resource, for `Plugin.WatchPrefix`.
    fn prefix(&self) -> String {
        self.readings.get(self.settings.id).map_or(String::new(), |subscriber| subscriber.prefix.clone())
    }

    /// Handles a plugin that answers no reads while it watches.
    fn is_serial(&mut self, out: &mut Vec<Output>) {
        self.stop();
        self.readings.unwatch(self.settings.id, INTERVAL);
        let message = "plugin answers nothing while Plugin.WatchPrefix waits, using `interval` instead";
        self.readings.log(Line::new(Level::Warn, message), out);
        out.push(Output::Cancel(PIPES));
        self.start(out);
    }

    fn late(&mut self, method: &str, now: Instant, out: &mut Vec<Output>) {
        self.failed(&format!("it did not answer {method} within {ANSWER_TIMEOUT:?}"), None, now, out);
    }

    /// Plans the pending requests again, for another process.
    fn stop(&mut self) {
        self.state = State::Stopped;
        self.readings.failed(true);
    }

    /// Reports that the program failed.
    fn failed(&mut self, why: &str, not_before: Option<Instant>, now: Instant, out: &mut Vec<Output>) {
        self.end_of_watch(now, out);
        self.stop();
        let words = format!("plugin {} failed: {why}", self.settings.path);
        out.push(Output::NodeFailed { words, not_before });
    }

    /// Takes the end of the program, or the failure to start it.
    fn ended(&mut self, Failure { kind, words }: &Failure, now: Instant, out: &mut Vec<Output>) {
        let mut not_before = None;
        if *kind == FailureKind::Unusable {
            out.push(Output::FailFast);
            not_before = now.checked_add(self.random.between(SLOW_RETRY, SLOW_RETRY * 3));
        }
        self.failed(words, not_before, now, out);
    }

    /// Handles the end of the watch by a failure. Only a watch that lasted resets the backoff, because every attempt
    /// begins with a successful read.
    fn end_of_watch(&mut self, now: Instant, out: &mut Vec<Output>) {
        let State::Ready(ready) = &mut self.state else { return };
        if ready.steady_since.take().is_some_and(|since| now.saturating_duration_since(since) >= LASTING) {
            out.push(Output::ResetBackoff);
        }
    }

    /// Takes output of the program.
    fn take(&mut self, piece: &[u8], now: Instant, out: &mut Vec<Output>) {
        let mut replies = Vec::new();
        let mut framer = mem::take(&mut self.framer);
        let limits = self.settings.limits;
        let pushed = framer.push(piece, |message| replies.push((Reply::read(message, limits), Beginning::of(message))));
        self.framer = framer;
        for (reply, beginning) in replies {
            let taken = reply.and_then(|reply| self.reply(reply, beginning, now, out));
            if let Err(nonsense) = taken {
                let why = nonsense.shown(&self.settings.redactor);
                return self.failed(&format!("it answered {why}"), None, now, out);
            }
            if matches!(self.state, State::Stopped) {
                return;
            }
        }
        if let Err(nonsense) = pushed {
            let why = nonsense.shown(&self.settings.redactor);
            self.failed(&format!("it wrote {why}"), None, now, out);
        }
    }

    fn reply(
        &mut self,
        reply: Reply,
        beginning: Beginning,
        now: Instant,
        out: &mut Vec<Output>,
    ) -> Result<(), Nonsense> {
        let Reply { id, outcome } = reply;
        let described = |words: &str| Err(Nonsense::Described(words.to_owned()));
        match &self.state {
            State::Initializing(call) if call.id == id => match outcome {
                Ok(Answer::Flag(true)) => {
                    self.state = State::Ready(Ready {
                        values: None,
                        watch: Watch::Off,
                        first: None,
                        is_stale: false,
                        has_answered: false,
                        rests: false,
                        steady_since: None,
                    });
                    self.ask(now, out);
                    Ok(())
                }
                Ok(Answer::Flag(false)) => described("false to Plugin.Init"),
                Ok(_) => described("Plugin.Init with something else than true"),
                Err(words) => {
                    let why = format!("it answered an error to Plugin.Init: {}", self.shown(&words));
                    self.failed(&why, None, now, out);
                    Ok(())
                }
            },
            State::Ready(ready) if ready.values.is_some_and(|call| call.id == id) => match outcome {
                Ok(Answer::Values(values)) => {
                    self.values(values, now, out);
                    Ok(())
                }
                Ok(Answer::Nothing) => {
                    self.values(Vec::new(), now, out);
                    Ok(())
                }
                Ok(_) => described("Plugin.GetValues with something else than a map of texts"),
                Err(words) => {
                    if let State::Ready(ready) = &mut self.state {
                        ready.values = None;
                    }
                    self.readings.failed(false);
                    self.request_failed("Plugin.GetValues", &words, now, out);
                    Ok(())
                }
            },
            State::Ready(Ready { watch: Watch::Waiting { id: is, since }, .. }) if *is == id => match outcome {
                Ok(Answer::Number(index)) => {
                    self.changed(index, *since, now, out);
                    Ok(())
                }
                Ok(_) => described("Plugin.WatchPrefix with something else than a number"),
                Err(words) => {
                    // Changes in between may be missed.
                    self.pause_watch(*since, now);
                    self.read_again();
                    self.request_failed("Plugin.WatchPrefix", &words, now, out);
                    Ok(())
                }
            },
            State::Stopped | State::Starting | State::Initializing(_) | State::Ready(_) => {
                Err(Nonsense::Quoted("a call that is not under way", beginning))
            }
        }
    }

    /// Takes the keys of a read.
    fn values(&mut self, values: Vec<(String, String)>, now: Instant, out: &mut Vec<Output>) {
        let id = self.settings.id;
        let Some(subscriber) = self.readings.get(id) else { return };
        let watches = subscriber.watches;
        let layer: Layer = values
            .into_iter()
            .map(|(key, value)| {
                let stored = subscriber.wanted.store_key(key.as_bytes()).map(|stored| stored.key);
                // A key that is not below the prefix keeps its name.
                let key: Bytes = stored.unwrap_or_else(|| path::join(&[b"/", key.as_bytes()]).into());
                (key, Bytes::from(value.into_bytes()))
            })
            .collect();
        let State::Ready(ready) = &mut self.state else { return };
        ready.values = None;
        ready.has_answered |= matches!(ready.watch, Watch::Off);
        let is_stale = mem::take(&mut ready.is_stale);
        let was = ready.first.take();
        let begins = watches && matches!(ready.watch, Watch::Off);
        if begins {
            // One more read finds the changes between this read and the watch.
            (ready.watch, ready.first) = (Watch::Paused(now), Some(layer.clone()));
        }
        out.push(Output::Worked);
        match watches {
            true => _ = ready.steady_since.get_or_insert(now),
            false => out.push(Output::ResetBackoff),
        }
        match was.as_ref() == Some(&layer) {
            true => self.readings.unchanged(id, now, out),
            false => self.readings.succeeded(id, layer, now, out),
        }
        if begins || is_stale {
            self.readings.again(id);
        }
        if self.readings.waiting().is_empty() && self.readings.due().is_none() {
            return self.finish(out);
        }
        self.ask(now, out);
    }

    /// Notes that keys have changed.
    fn changed(&mut self, index: u64, since: Instant, now: Instant, out: &mut Vec<Output>) {
        self.index = index;
        self.pause_watch(since, now);
        self.read_again();
        self.ask(now, out);
    }

    /// Plans a read after the pending one.
    fn read_again(&mut self) {
        match &mut self.state {
            State::Ready(ready) if ready.values.is_some() => ready.is_stale = true,
            _ => self.readings.again(self.settings.id),
        }
    }

    /// Plans the next watch: at once, or after the shortest time between two calls.
    fn pause_watch(&mut self, since: Instant, now: Instant) {
        if let State::Ready(ready) = &mut self.state {
            ready.watch = Watch::Paused(now.max(since + PACE));
        }
    }

    /// Reports a failed request. The program keeps running.
    fn request_failed(&mut self, method: &str, words: &str, now: Instant, out: &mut Vec<Output>) {
        self.end_of_watch(now, out);
        if let State::Ready(ready) = &mut self.state {
            ready.rests = true;
        }
        let words = format!("plugin {} answered an error to {method}: {}", self.settings.path, self.shown(words));
        out.push(Output::RequestFailed { words });
    }

    /// An error text of the plugin, as the log shows it.
    fn shown(&self, words: &str) -> String {
        refusal::reason(&self.settings.redactor.redact(cut(words, 2 * LONGEST_ERROR)), LONGEST_ERROR)
    }

    /// Closes the plugin: no further request follows.
    fn finish(&mut self, out: &mut Vec<Output>) {
        self.shut_down(out);
        self.state = State::Stopped;
    }
}

impl Subscribers for Plugin {
    fn waiting(&self) -> Vec<Id> {
        self.readings.waiting()
    }

    fn give_up(&mut self) {
        self.readings.give_up();
    }

    fn use_node(&mut self, _name: &str) {}
}

impl Protocol for Plugin {
    fn add(&mut self, id: Id, options: &config::Backend, _out: &mut Vec<Output>) {
        self.readings.add(id, options);
    }

    fn remove(&mut self, id: Id, _out: &mut Vec<Output>) {
        self.readings.remove(id);
    }

    fn on(&mut self, input: Input<'_>, now: Instant, out: &mut Vec<Output>) {
        match input {
            Input::Turn => self.turn(now, out),
            Input::Connected(_) => {
                let id = self.number();
                self.state = State::Initializing(Call { id, until: now + ANSWER_TIMEOUT });
                out.push(Output::Send(PIPES, wire::init(&self.settings.config, id)));
            }
            Input::Body(_, piece) => self.take(piece, now, out),
            Input::End(_) => self.failed("it closed its standard output", None, now, out),
            Input::Failed(_, failure) => self.ended(&failure, now, out),
            Input::Head(..) | Input::Credentials(_) | Input::Quiet => {}
        }
    }

    fn shut_down(&mut self, out: &mut Vec<Output>) {
        if matches!(self.state, State::Initializing(_) | State::Ready(_)) {
            let id = self.number();
            out.extend([Output::Send(PIPES, wire::close(id)), Output::Release(PIPES)]);
        }
    }

    fn due(&self) -> Option<Instant> {
        match &self.state {
            State::Stopped => self.readings.due(),
            State::Starting => None,
            State::Initializing(call) => Some(call.until),
            State::Ready(ready) => {
                let watch = match ready.watch {
                    Watch::Paused(at) => Some(at),
                    Watch::Off | Watch::Waiting { .. } => None,
                };
                // A due read waits for the pending one.
                let values = ready.values.map(|call| call.until).or_else(|| self.readings.due());
                watch.into_iter().chain(values).min()
            }
        }
    }
}

#[cfg(test)]
mod tests;
