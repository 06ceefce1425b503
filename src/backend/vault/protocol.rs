//! The protocol of Vault: one login for all resources, then for each resource a round of requests that lists and reads
//! its keys. `session` has the token and the leases, `round` the paths of keys. Does not choose nodes or pauses.

mod session;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::{Duration, Instant};

use self::session::{lease_of, renewed_after};
use super::NAME;
use super::round::{Round, Step};
use super::wire::{self, Answer, Lease, NONSENSE};
use crate::backend::failover::SLOW_RETRY;
use crate::backend::json::Json;
use crate::backend::keys::Keys;
use crate::backend::protocol::{CallId, Failure, FailureKind, Head, Id, Input, Output, Protocol, Request, Subscribers};
use crate::backend::readings::Readings;
use crate::backend::redact::Redactor;
use crate::backend::refusal::append_beginning;
use crate::backend::{Mode, Report};
use crate::config::{self, AuthType, ReadLimits, Secret};
use crate::log::{Level, Line};
use crate::random::Random;
use crate::sorted::SortedMap;
use crate::store::path;

/// The number of concurrent requests of a round.
const MOST_READS: usize = 8;

/// The number of bytes of a refusal that are kept.
const KEPT: usize = 2048;

/// The shortest time to a renewal: a server that returns no lifetime must not be requested without a pause.
const SHORTEST_LIFE: Duration = Duration::from_secs(1);

/// The call for the session. The calls of the round follow.
const TASK: CallId = CallId(0);

/// The options of a Vault backend.
#[derive(Clone)]
pub struct Options {
    /// The authentication method.
    pub auth_type: AuthType,
    /// The mount of the authentication method.
    pub auth_mount: String,
    /// The namespace. Empty: the root namespace.
    pub namespace: String,
    /// The limits of one read of one resource.
    pub limits: ReadLimits,
}

impl Options {
    /// Reads the options of the configuration.
    pub fn of(vault: &config::Vault) -> Options {
        Options {
            auth_type: vault.auth_type,
            auth_mount: vault.auth_mount.clone(),
            namespace: vault.namespace.clone(),
            limits: vault.network.read,
        }
    }
}

/// One Vault and the resources that share it.
pub struct Vault {
    options: Options,
    mode: Mode,
    /// The nodes, for the log.
    nodes: String,
    /// The current node, as the log shows it.
    node: String,
    readings: Readings,
    members: SortedMap<Id, Keys>,
    /// The resources whose read is pending or waits for its round.
    waiting: VecDeque<Id>,
    round: Option<Round>,
    /// The requests of the round, by their calls.
    calls: Vec<Option<Call<Step>>>,
    task: Option<Call<Task>>,
    /// Name and password are being read.
    wants_credentials: bool,
    token: Option<Secret>,
    /// A read with the token has succeeded.
    is_proven: bool,
    /// The lifetime of the token when it was new.
    life: Duration,
    /// The next step for the token, and its time.
    renewal: Option<(Instant, Renewal)>,
    /// The secrets with a lease, by their paths.
    leases: BTreeMap<String, Leased>,
    /// The moment of the last input.
    last: Option<Instant>,
    /// The texts that errors must not show.
    secrets: Redactor,
    random: Random,
}

/// A pending request, and its answer so far.
struct Call<T> {
    what: T,
    status: u16,
    body: Vec<u8>,
    json: Json,
}

/// A request for the session.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Task {
    Login,
    /// The lookup of a token of the configuration, for its lifetime.
    Lookup,
    Renew,
    /// The check after a refusal whether the token is still valid. Has the text of the refusal and the required
    /// permission.
    Check {
        words: String,
        needs: String,
    },
    /// The renewal of the lease of the secret at this path.
    Lease(String),
}

/// The next step for a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Renewal {
    Renew,
    Login,
}

/// A secret with a lease.
struct Leased {
    lease: Lease,
    /// Its lifetime when it was new.
    life: Duration,
    /// When the lease is renewed, or the secret is read again.
    due: Instant,
    texts: Vec<(String, String)>,
    readers: BTreeSet<Id>,
}

impl<T> Call<T> {
    fn new(what: T) -> Call<T> {
        Call { what, status: 0, body: Vec::new(), json: Json::one() }
    }

    fn is_answer(&self) -> bool {
        matches!(self.status, 200..300)
    }

    /// Takes a piece of the body.
    fn take(&mut self, piece: &[u8]) -> Result<(), &'static str> {
        if !self.is_answer() {
            append_beginning(&mut self.body, piece, KEPT);
            return Ok(());
        }
        let (length, wrong) = self.json.push(piece);
        self.body.extend_from_slice(&piece[..length]);
        wrong.map_or(Ok(()), |_| Err(NONSENSE))
    }
}

/// Whether an operator has to correct the cause of a status, on any server.
fn is_lasting(status: u16) -> bool {
    matches!(status, 400..500) && !matches!(status, 408 | 412 | 429 | 473)
}

impl Vault {
    /// `nodes`: the URLs, whose credentials are hidden from errors. The seed spreads reads over time.
    pub fn new(options: Options, nodes: &[String], shown: String, mode: Mode, seed: u64) -> Vault {
        let mut secrets = Redactor::default();
        nodes.iter().for_each(|node| secrets.hide_credentials_of(node));
        Vault {
            options,
            mode,
            nodes: shown,
            node: String::new(),
            readings: Readings::new(NAME, mode, seed),
            members: SortedMap::new(),
            waiting: VecDeque::new(),
            round: None,
            calls: Vec::new(),
            task: None,
            wants_credentials: false,
            token: None,
            is_proven: false,
            life: Duration::ZERO,
            renewal: None,
            leases: BTreeMap::new(),
            last: None,
            secrets,
            random: Random::new(seed),
        }
    }

    // Decides the next request.

    /// Begins the requests that are possible now. Must not be called after a failure of the node.
    fn advance(&mut self, now: Instant, out: &mut Vec<Output>) {
        while let Some(id) = self.readings.begin(now, out) {
            self.waiting.push_back(id);
        }
        if self.task.is_some() || self.wants_credentials {
            return;
        }
        if self.token.is_none() {
            if self.round.is_some() || !self.waiting.is_empty() {
                self.log_in(out);
            }
            return;
        }
        if let Some((_, renewal)) = self.renewal.filter(|(due, _)| *due <= now && self.needs_token()) {
            match renewal {
                Renewal::Renew => self.run(Task::Renew, wire::renew(), out),
                Renewal::Login => self.log_in(out),
            }
            return;
        }
        if self.keep_leases(now, out) {
            return;
        }
        self.proceed(now, out);
    }

    /// Adds the headers.
    fn with_headers(&self, request: Request, with_token: bool) -> Request {
        let mut request = request.with_header(wire::REQUEST, "true");
        if !self.options.namespace.is_empty() {
            request = request.with_header(wire::NAMESPACE, &self.options.namespace);
        }
        if let Some(token) = self.token.as_ref().filter(|_| with_token) {
            request.headers.push((wire::TOKEN.to_owned(), token.clone()));
        }
        request
    }

    /// Continues the round, or begins the next one.
    fn proceed(&mut self, now: Instant, out: &mut Vec<Output>) {
        loop {
            if self.round.is_none() {
                let Some(id) = self.waiting.pop_front() else { return };
                let Some(keys) = self.members.get(&id) else { continue };
                if keys.effective().iter().any(|key| key.iter().all(|byte| *byte == b'/')) {
                    let words = format!(
                        "failed to read `/` from {}: each of `keys` begins with the path of a mount: name the mounts, as \
                         `/secret`",
                        self.node
                    );
                    let pause = self.rest();
                    self.readings.refused(id, words, pause, now, out);
                    continue;
                }
                self.round = Some(Round::new(id, keys, self.options.limits));
            }
            while self.calls.iter().flatten().count() < MOST_READS {
                let Some(step) = self.round.as_mut().and_then(Round::next) else { break };
                if !self.is_leased(&step) {
                    let request = self.with_headers(step.request(), true);
                    let free = self.calls.iter().position(Option::is_none).unwrap_or(self.calls.len());
                    if free == self.calls.len() {
                        self.calls.push(None);
                    }
                    self.calls[free] = Some(Call::new(step));
                    out.push(Output::Begin(call_of(free), request));
                }
            }
            if self.calls.iter().flatten().count() > 0 {
                return;
            }
            // All answers have arrived.
            let Some(round) = self.round.take() else { return };
            let Some(keys) = self.members.get(&round.id) else { continue };
            self.is_proven = true;
            self.readings.succeeded(round.id, round.layer(keys), now, out);
            out.extend([Output::Worked, Output::ResetBackoff]);
        }
    }

    /// Whether the secret of a step has a valid lease. Reading it again would create a new secret.
    fn is_leased(&mut self, step: &Step) -> bool {
        let (Step::Read(place), Some(round)) = (step, &mut self.round) else { return false };
        let Some(leased) = self.leases.get_mut(&*place.path) else { return false };
        leased.readers.insert(round.id);
        // The texts were counted when they arrived.
        leased.texts.iter().for_each(|(name, text)| _ = round.add(&place.path, name, text));
        true
    }

    fn rest(&mut self) -> Duration {
        self.random.between(SLOW_RETRY, SLOW_RETRY * 3)
    }

    // Answers

    fn step_ended(&mut self, call: Call<Step>, now: Instant, out: &mut Vec<Output>) {
        let Some(round) = &mut self.round else { return };
        if !call.is_answer() {
            let words = wire::words(call.status, &call.body, &self.secrets);
            let is_of_vault = wire::is_refusal(&call.body, KEPT);
            return match (&call.what, call.status) {
                // Another kind of server has no such path either. Its answer must not empty a file.
                (step, 400 | 404 | 405) if !is_of_vault => {
                    let verb = step.to_string();
                    self.node_failed(&verb, &format!("{NONSENSE}: {words}"), out);
                }
                (step, 404) if wire::has_no_mount(&call.body) => {
                    let words = format!(
                        "failed to {step} from {}: nothing is mounted there: enable a secrets engine at that path, or \
                         mend `keys`",
                        self.node
                    );
                    self.refused(&words, now, out);
                }
                // The mount is missing, or hidden from the token: the path stays as it is.
                (Step::Mount(key), 400 | 403 | 404 | 405) => {
                    round.mounted(key, None);
                    self.advance(now, out);
                }
                // Nothing is there, or the path cannot be listed, or only listed.
                (Step::List(_) | Step::Read(_), 404 | 405) => self.advance(now, out),
                (step, 403) => {
                    let words = format!("failed to {step} from {}: {words}", self.node);
                    let needs = step.needs();
                    self.end_calls(out);
                    self.run(Task::Check { words, needs }, wire::lookup(), out);
                }
                (step, status) => {
                    let words = format!("failed to {step} from {}: {words}", self.node);
                    if is_lasting(status) {
                        self.refused(&words, now, out);
                    } else {
                        out.push(Output::NodeFailed { words, not_before: None });
                    }
                }
            };
        }
        let taken = Answer::of(&call.body).and_then(|answer| {
            // An empty answer of another kind of server would look like no keys.
            if call.status != 204 && !answer.is_of_path() {
                return Err(NONSENSE);
            }
            Ok(match &call.what {
                Step::Mount(key) => {
                    round.mounted(key, answer.versioned());
                    Ok(())
                }
                Step::List(place) => round.listed(place, &answer.names()?),
                Step::Read(place) => {
                    let mut texts = Vec::new();
                    let lease = answer.lease().filter(|_| self.mode == Mode::Watch);
                    let taken = answer.texts(place.is_versioned(), &mut |name, text| {
                        if lease.is_some() {
                            texts.push((name.to_owned(), text.to_owned()));
                        }
                        round.add(&place.path, name, text)
                    });
                    if let Some(lease) = lease
                        && let Some(due) = now.checked_add(renewed_after(lease.life))
                    {
                        let (life, readers) = (lease.life, BTreeSet::from([round.id]));
                        self.leases.insert(place.path.to_string(), Leased { lease, life, due, texts, readers });
                    }
                    taken
                }
            })
        });
        match taken {
            Ok(Ok(())) => self.advance(now, out),
            Ok(Err(words)) => {
                let words = format!("failed to {} from {}: {words}", call.what, self.node);
                self.refused(&words, now, out);
            }
            Err(words) => self.node_failed(&call.what.to_string(), words, out),
        }
    }

    /// Reports a failure of the resource of the round.
    fn refused(&mut self, words: &str, now: Instant, out: &mut Vec<Output>) {
        self.end_calls(out);
        let pause = self.rest();
        if let Some(round) = self.round.take() {
            self.readings.refused(round.id, words.to_owned(), pause, now, out);
        }
        self.advance(now, out);
    }

    /// Drops all pending work: all calls have ended.
    fn forget(&mut self) {
        self.calls.clear();
        self.waiting.clear();
        (self.round, self.task, self.wants_credentials) = (None, None, false);
    }

    fn end_calls(&mut self, out: &mut Vec<Output>) {
        for (place, call) in self.calls.drain(..).enumerate() {
            out.extend(call.map(|_| Output::Cancel(call_of(place))));
        }
    }

    fn restart_round(&mut self) {
        if let Some(round) = self.round.take() {
            self.waiting.push_front(round.id);
        }
    }

    fn node_failed(&mut self, verb: &str, words: &str, out: &mut Vec<Output>) {
        let words = format!("failed to {verb} from {}: {words}", self.node);
        out.push(Output::NodeFailed { words, not_before: None });
    }

    fn head(&mut self, call: CallId, head: Head<'_>) {
        if call == TASK {
            self.task.iter_mut().for_each(|task| task.status = head.status);
        } else if let Some(Some(step)) = place_of(call).and_then(|place| self.calls.get_mut(place)) {
            step.status = head.status;
        }
    }

    fn body(&mut self, call: CallId, piece: &[u8], now: Instant, out: &mut Vec<Output>) {
        if call == TASK {
            let is_wrong = self.task.as_mut().is_some_and(|task| task.take(piece).is_err());
            if let Some(mut task) = self.task.take_if(|_| is_wrong) {
                out.push(Output::Cancel(TASK));
                // The kept beginning may be JSON.
                task.body = b"no JSON".to_vec();
                self.task_ended(task, now, out);
            }
            return;
        }
        let Some(Some(step)) = place_of(call).and_then(|place| self.calls.get_mut(place)) else { return };
        let verb = step.what.to_string();
        if let Err(words) = step.take(piece) {
            return self.node_failed(&verb, words, out);
        }
        let held: usize = self.calls.iter().flatten().map(|call| call.body.len()).sum();
        let most = self.options.limits.max_decoded;
        if held > most {
            let words = format!(
                "failed to {verb} from {}: answers of more than {most} bytes: raise `max_decoded` of the backend",
                self.node
            );
            self.refused(&words, now, out);
        }
    }

    fn end(&mut self, call: CallId, now: Instant, out: &mut Vec<Output>) {
        if call == TASK {
            if let Some(task) = self.task.take() {
                self.task_ended(task, now, out);
            }
        } else if let Some(step) = place_of(call).and_then(|place| self.calls.get_mut(place)?.take()) {
            self.step_ended(step, now, out);
        }
    }

    fn failed(&mut self, call: CallId, failure: Failure, now: Instant, out: &mut Vec<Output>) {
        let Failure { kind, words } = failure;
        let status = if call == TASK {
            self.task.as_ref().map(|task| task.status)
        } else {
            place_of(call).and_then(|place| Some(self.calls.get(place)?.as_ref()?.status))
        };
        match status {
            None => {}
            // The status of a refusal is enough for the error, even if its body is incomplete.
            Some(400..) => self.end(call, now, out),
            Some(_) if call == TASK => match self.task.take().map(|task| task.what) {
                Some(Task::Login | Task::Lookup) | None => self.login_failed(&words, false, now, out),
                Some(Task::Renew) => self.node_failed("renew the token", &words, out),
                Some(Task::Check { .. }) => self.node_failed("look up the token", &words, out),
                Some(Task::Lease(path)) => self.node_failed(&lease_of(&path), &words, out),
            },
            Some(_) => {
                let step = place_of(call).and_then(|place| self.calls.get_mut(place)?.take());
                let verb = step.map_or_else(String::new, |step| step.what.to_string());
                match kind {
                    FailureKind::TooLarge => {
                        let node = &self.node;
                        let words =
                            format!("failed to {verb} from {node}: {words}: raise `max_response` of the backend");
                        self.refused(&words, now, out);
                    }
                    FailureKind::Closed
                    | FailureKind::Stale
                    | FailureKind::TimedOut
                    | FailureKind::Unusable
                    | FailureKind::Other => {
                        self.node_failed(&verb, &words, out);
                    }
                }
            }
        }
    }
}

fn call_of(place: usize) -> CallId {
    CallId(place + 1)
}

fn place_of(call: CallId) -> Option<usize> {
    call.0.checked_sub(1)
}

impl Subscribers for Vault {
    fn waiting(&self) -> Vec<Id> {
        self.readings.waiting()
    }

    fn give_up(&mut self) {
        self.readings.give_up();
        self.forget();
    }

    fn use_node(&mut self, name: &str) {
        name.clone_into(&mut self.node);
        self.forget();
        self.readings.failed(false);
    }
}

impl Protocol for Vault {
    fn add(&mut self, id: Id, options: &config::Backend, out: &mut Vec<Output>) {
        if self.members.is_empty() {
            let line = Line::new(Level::Info, "set backend nodes").with("backend", NAME);
            out.push(Output::Report(id, Report::Log(line.with("nodes", self.nodes.clone()))));
        }
        self.readings.add(id, options);
        // Paths of Vault have no leading slash. Keys of this program have one.
        let prefix = path::join(&[b"/", options.prefix.as_bytes()]);
        self.members.insert(id, Keys::new(&String::from_utf8_lossy(&prefix), &options.keys));
    }

    fn remove(&mut self, id: Id, out: &mut Vec<Output>) {
        self.readings.remove(id);
        self.members.remove(&id);
        self.waiting.retain(|waiting| *waiting != id);
        for leased in self.leases.values_mut() {
            leased.readers.remove(&id);
        }
        self.leases.retain(|_, leased| !leased.readers.is_empty());
        if self.round.as_ref().is_some_and(|round| round.id == id) {
            self.round = None;
            self.end_calls(out);
            if self.task.as_ref().is_some_and(|task| matches!(task.what, Task::Check { .. })) {
                self.task = None;
                out.push(Output::Cancel(TASK));
            }
        }
    }

    fn on(&mut self, input: Input<'_>, now: Instant, out: &mut Vec<Output>) {
        self.last = Some(now);
        match input {
            Input::Turn => self.advance(now, out),
            Input::Head(call, head) => self.head(call, head),
            Input::Body(call, piece) => self.body(call, piece, now, out),
            Input::End(call) => self.end(call, now, out),
            Input::Failed(call, failure) => self.failed(call, failure, now, out),
            Input::Credentials(credentials) => self.credentials(credentials, now, out),
            // This protocol uses HTTP only.
            Input::Connected(_) | Input::Quiet => {}
        }
    }

    fn due(&self) -> Option<Instant> {
        let is_free = self.task.is_none() && !self.wants_credentials && self.token.is_some();
        // The resource of the round was removed.
        let is_idle = is_free && self.calls.iter().all(Option::is_none) && !self.waiting.is_empty();
        if is_idle && self.last.is_some() {
            return self.last;
        }
        let renewal = self.renewal.map(|(due, _)| due).filter(|_| self.needs_token());
        let leases = self.leases.values().map(|leased| leased.due);
        self.readings.due().into_iter().chain(renewal.into_iter().chain(leases).filter(|_| is_free)).min()
    }
}

#[cfg(test)]
mod tests;
