//! The order of the calls to a plugin: `Plugin.Init`, then `Plugin.GetValues` for every read, with `Plugin.WatchPrefix`
//! beside it where changes are wanted. Starts no program: that is the driver's.

use std::mem;
use std::time::{Duration, Instant};

use super::wire::{self, Answer, Framer, Reply};
use crate::backend::Mode;
use crate::backend::protocol::{CallId, Failure, Id, Input, Output, Protocol, Security, Subscribers};
use crate::backend::readings::Readings;
use crate::config::{self, ReadLimits};
use crate::log::{Level, Line};
use crate::store::{Bytes, Layer, path};

/// What `Plugin.Init` and `Plugin.GetValues` may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// Between two calls of `Plugin.WatchPrefix` of which the first was answered at once.
const PACE: Duration = Duration::from_millis(100);

/// What a plugin that is not needed any more has to end by itself.
const FAREWELL: Duration = Duration::from_secs(2);

/// How often a plugin is read that answers nothing while it watches, unless an interval is configured.
const INTERVAL: Duration = Duration::from_secs(60);

/// The one connection: the pipes of the program.
const PIPES: CallId = CallId(0);

/// What is said of a plugin.
pub struct Settings {
    /// The resource.
    pub id: Id,
    /// The program, as it is shown.
    pub path: String,
    /// For `Plugin.Init`, as JSON.
    pub config: String,
    /// Of one read.
    pub limits: ReadLimits,
    /// How long keys are wanted.
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
    /// What `Plugin.WatchPrefix` answered last.
    index: u64,
    framer: Framer,
}

enum State {
    /// It does not run.
    Stopped,
    /// It is being started.
    Starting,
    /// It was told its configuration.
    Initializing(Call),
    Ready(Ready),
    /// It is not needed any more, and has until then to end by itself.
    Leaving(Instant),
}

/// A call that is answered in time, or never.
#[derive(Clone, Copy)]
struct Call {
    id: u64,
    until: Instant,
}

/// A plugin that answers.
struct Ready {
    values: Option<Call>,
    watch: Watch,
    /// The keys of the first read, until one more has shown that nothing changed before the watch.
    first: Option<Layer>,
    /// Keys have changed since the read that is under way began.
    is_stale: bool,
    /// It answered a read while it did not watch.
    has_answered: bool,
}

/// How far `Plugin.WatchPrefix` is.
#[derive(Clone, Copy)]
enum Watch {
    /// There is nothing to watch, or not yet.
    Off,
    /// It is called again then.
    Paused(Instant),
    /// The call is under way.
    Waiting { id: u64, since: Instant },
}

impl Plugin {
    /// `name`: as it is logged.
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
            State::Initializing(call) if call.until <= now => self.late("Plugin.Init", out),
            State::Initializing(_) => {}
            State::Leaving(until) if *until <= now => {
                self.state = State::Stopped;
                out.push(Output::Cancel(PIPES));
            }
            State::Leaving(_) => {}
            State::Ready(ready) => match (ready.values, ready.watch) {
                (Some(call), Watch::Waiting { .. }) if call.until <= now && ready.has_answered => self.is_serial(out),
                (Some(call), _) if call.until <= now => self.late("Plugin.GetValues", out),
                _ => self.ask(now, out),
            },
        }
    }

    fn start(&mut self, out: &mut Vec<Output>) {
        self.state = State::Starting;
        (self.framer, self.index) = (Framer::default(), 0);
        out.push(Output::Connect(PIPES, Security::Plain));
    }

    /// Calls what is due.
    fn ask(&mut self, now: Instant, out: &mut Vec<Output>) {
        let State::Ready(ready) = &self.state else { return };
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
                (ready.values, ready.is_stale) = (Some(Call { id, until: now + PATIENCE }), false);
            }
        }
    }

    /// The prefix of the resource, for `Plugin.WatchPrefix`.
    fn prefix(&self) -> String {
        self.readings.get(self.settings.id).map_or(String::new(), |subscriber| subscriber.prefix.clone())
    }

    /// It answers reads, but not while it watches.
    fn is_serial(&mut self, out: &mut Vec<Output>) {
        self.stop();
        self.readings.unwatch(self.settings.id, INTERVAL);
        let message = "plugin answers nothing while Plugin.WatchPrefix waits, using `interval` instead";
        self.readings.log(Line::new(Level::Warn, message), out);
        out.push(Output::Cancel(PIPES));
        self.start(out);
    }

    fn late(&mut self, method: &str, out: &mut Vec<Output>) {
        self.failed(&format!("it did not answer {method} within {PATIENCE:?}"), out);
    }

    /// What was under way is to be done again, by another process.
    fn stop(&mut self) {
        self.state = State::Stopped;
        self.readings.failed(true);
    }

    /// The program is of no use any more.
    fn failed(&mut self, why: &str, out: &mut Vec<Output>) {
        self.stop();
        let words = format!("plugin {} failed: {why}", self.settings.path);
        out.push(Output::NodeFailed { words, not_before: None });
    }

    /// Takes what the program has written.
    fn take(&mut self, piece: &[u8], now: Instant, out: &mut Vec<Output>) {
        let mut replies = Vec::new();
        let mut framer = mem::take(&mut self.framer);
        let limits = self.settings.limits;
        let pushed =
            framer.push(piece, |message| replies.push((Reply::read(message, limits), wire::beginning(message))));
        self.framer = framer;
        for (reply, beginning) in replies {
            let taken = reply.and_then(|reply| self.reply(reply, &beginning, now, out));
            if let Err(why) = taken {
                return self.failed(&format!("it answered {why}"), out);
            }
            if matches!(self.state, State::Stopped) {
                return;
            }
        }
        if let Err(why) = pushed {
            self.failed(&format!("it wrote {why}"), out);
        }
    }

    fn reply(&mut self, reply: Reply, beginning: &str, now: Instant, out: &mut Vec<Output>) -> Result<(), String> {
        let Reply { id, outcome } = reply;
        match &self.state {
            State::Initializing(call) if call.id == id => match outcome {
                Ok(Answer::Flag(true)) => {
                    self.state = State::Ready(Ready {
                        values: None,
                        watch: Watch::Off,
                        first: None,
                        is_stale: false,
                        has_answered: false,
                    });
                    self.ask(now, out);
                    Ok(())
                }
                Ok(Answer::Flag(false)) => Err("false to Plugin.Init".to_owned()),
                Ok(_) => Err("Plugin.Init with something else than true".to_owned()),
                Err(words) => Err(format!("an error to Plugin.Init: {words}")),
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
                Ok(_) => Err("Plugin.GetValues with something else than a map of texts".to_owned()),
                Err(words) => {
                    if let State::Ready(ready) = &mut self.state {
                        ready.values = None;
                    }
                    self.readings.failed(false);
                    self.troubled(&format!("Plugin.GetValues: {words}"), out);
                    Ok(())
                }
            },
            State::Ready(Ready { watch: Watch::Waiting { id: is, since }, .. }) if *is == id => match outcome {
                Ok(Answer::Number(index)) => {
                    self.changed(index, *since, now, out);
                    Ok(())
                }
                Ok(_) => Err("Plugin.WatchPrefix with something else than a number".to_owned()),
                Err(words) => {
                    // What changed meanwhile may be missed.
                    self.pause_watch(*since, now);
                    self.read_again();
                    self.troubled(&format!("Plugin.WatchPrefix: {words}"), out);
                    Ok(())
                }
            },
            // What it says to Plugin.Close.
            State::Leaving(_) => Ok(()),
            State::Stopped | State::Starting | State::Initializing(_) | State::Ready(_) => {
                Err(format!("a call that is not under way: {beginning}"))
            }
        }
    }

    /// The keys of a read.
    fn values(&mut self, values: Vec<(String, String)>, now: Instant, out: &mut Vec<Output>) {
        let id = self.settings.id;
        let Some(subscriber) = self.readings.get(id) else { return };
        let watches = subscriber.watches;
        let layer: Layer = values
            .into_iter()
            .map(|(key, value)| {
                let stored = subscriber.wanted.store_key(key.as_bytes()).map(|stored| stored.key);
                // One that is not below the prefix keeps its name.
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
            // What changes between this read and the watch is found by one more read.
            (ready.watch, ready.first) = (Watch::Paused(now), Some(layer.clone()));
        }
        out.extend([Output::Worked, Output::ResetBackoff]);
        match was.as_ref() == Some(&layer) {
            true => self.readings.unchanged(id, now, out),
            false => self.readings.succeeded(id, layer, now, out),
        }
        if begins || is_stale {
            self.readings.again(id);
        }
        if self.readings.waiting().is_empty() && self.readings.due().is_none() {
            return self.leave(now, out);
        }
        self.ask(now, out);
    }

    /// Keys have changed.
    fn changed(&mut self, index: u64, since: Instant, now: Instant, out: &mut Vec<Output>) {
        self.index = index;
        self.pause_watch(since, now);
        self.read_again();
        self.ask(now, out);
    }

    /// Reads once more, after the read that is under way.
    fn read_again(&mut self) {
        match &mut self.state {
            State::Ready(ready) if ready.values.is_some() => ready.is_stale = true,
            _ => self.readings.again(self.settings.id),
        }
    }

    /// Watches again: at once, unless it was answered at once.
    fn pause_watch(&mut self, since: Instant, now: Instant) {
        if let State::Ready(ready) = &mut self.state {
            ready.watch = Watch::Paused(now.max(since + PACE));
        }
    }

    /// It does not do what it was asked for, but runs on.
    fn troubled(&self, words: &str, out: &mut Vec<Output>) {
        let words = format!("plugin {} answered an error to {words}", self.settings.path);
        out.push(Output::Troubled { words });
    }

    /// Nothing more is wanted of it.
    fn leave(&mut self, now: Instant, out: &mut Vec<Output>) {
        self.farewell(out);
        self.state = State::Leaving(now + FAREWELL);
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
                self.state = State::Initializing(Call { id, until: now + PATIENCE });
                out.push(Output::Send(PIPES, wire::init(&self.settings.config, id)));
            }
            Input::Body(_, piece) => self.take(piece, now, out),
            Input::End(_) | Input::Failed(..) if matches!(self.state, State::Leaving(_)) => self.state = State::Stopped,
            Input::End(_) => self.failed("it closed its standard output", out),
            Input::Failed(_, Failure { words, .. }) => self.failed(&words, out),
            Input::Head(..) | Input::Credentials(_) | Input::Quiet => {}
        }
    }

    fn farewell(&mut self, out: &mut Vec<Output>) {
        if matches!(self.state, State::Initializing(_) | State::Ready(_)) {
            let id = self.number();
            out.push(Output::Send(PIPES, wire::close(id)));
        }
    }

    fn due(&self) -> Option<Instant> {
        match &self.state {
            State::Stopped => self.readings.due(),
            State::Starting => None,
            State::Initializing(call) => Some(call.until),
            State::Leaving(until) => Some(*until),
            State::Ready(ready) => {
                let watch = match ready.watch {
                    Watch::Paused(at) => Some(at),
                    Watch::Off | Watch::Waiting { .. } => None,
                };
                // While a read is under way the next one waits for it.
                let values = ready.values.map(|call| call.until).or_else(|| self.readings.due());
                watch.into_iter().chain(values).min()
            }
        }
    }
}

#[cfg(test)]
mod tests;
