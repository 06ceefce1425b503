//! An etcd whose version the configuration does not say: asks the nodes what `discovery` wants to know, then becomes the
//! backend of that version. Decides nothing of it.

use std::os::fd::BorrowedFd;
use std::rc::Rc;
use std::time::{Duration, Instant};

use super::discovery::{Answer, Discovery, Question, Step, Why};
use super::rota::{NOBODY, News, Next, Patience, Rota, SLOW_REST, Start};
use super::v2::login::Login;
use super::v2::{self, wire as v2_wire};
use super::wire::{self, Reason, Refusal};
use super::{NAME, Recipe, client, limits};
use crate::backend::redact::Redactor;
use crate::backend::{Backend, Mode, Report};
use crate::config::{EtcdVersion, Secret};
use crate::host::http;
use crate::log::{Level, Line};

/// The backend before and after its version is known.
pub struct Unversioned {
    recipe: Rc<Recipe>,
    /// URLs without a slash at the end.
    nodes: Vec<String>,
    start: Start,
    http: http::Client,
    rota: Rota,
    attempt: Discovery,
    /// Of version 3, for this attempt.
    token: Option<Secret>,
    /// What no error shows.
    secrets: Redactor,
    /// Version 3 let nobody in, in this attempt. Version 2 has users of its own and is asked all the same.
    locked_out: Option<String>,
    stage: Stage,
    /// A failure was reported.
    reported: bool,
}

/// Why a question has no answer, in words.
enum Trouble {
    /// Another node may have one.
    Node(String),
    /// Nobody is let in so.
    Login(String),
}

enum Stage {
    /// The node is asked at the moment, or at the first turn where there is none.
    Asking(Option<Instant>),
    Found(Box<dyn Backend>),
    GivenUp,
}

impl Unversioned {
    pub fn new(recipe: Rc<Recipe>, nodes: Vec<String>, start: Start) -> Unversioned {
        let patience = match recipe.mode {
            Mode::OneShot => Patience::For(recipe.etcd.timeout),
            Mode::Watch => Patience::Endless,
        };
        let shown = nodes.iter().map(|node| http::without_credentials(node)).collect();
        Unversioned {
            http: http::Client::new(recipe.wake.clone(), limits(&recipe.etcd), recipe.etcd.tls.clone()),
            rota: Rota::new(shown, start, patience, &mut |bound| (recipe.random)(bound)),
            attempt: attempt(&recipe),
            token: None,
            secrets: Redactor::default(),
            locked_out: None,
            stage: Stage::Asking(None),
            reported: false,
            nodes,
            start,
            recipe,
        }
    }

    /// One question to a node. `None`: the loop wants to end. An error is no answer, in words.
    fn ask(&mut self, question: &Question) -> Option<Result<Answer, Trouble>> {
        let node = self.nodes[self.rota.node()].clone();
        let answered = match question {
            Question::Range(body) => self.range(&http::without_credentials(&node), body),
            Question::Look(target) => self.look(&format!("{node}{target}")).map_err(Trouble::Node),
        };
        (!self.http.aborted()).then_some(answered)
    }

    fn range(&mut self, node: &str, body: &str) -> Result<Answer, Trouble> {
        if self.token.is_none()
            && let Some(login) = &self.recipe.etcd.login
        {
            match client::token(&self.http, &format!("{node}{}", wire::AUTHENTICATE), login, &mut self.secrets) {
                Ok((_, token)) => self.token = Some(token),
                Err(client::NoToken::Refused { refusal: Refusal { reason: Reason::NoUsers, .. }, .. }) => {}
                Err(client::NoToken::Refused { user, refusal }) => return self.not_let_in(&user, refusal),
                Err(client::NoToken::NoCredentials(words)) => {
                    return Err(Trouble::Login(format!("failed to log in: {words}")));
                }
                Err(client::NoToken::Broken { words, .. }) => return Err(Trouble::Node(words)),
            }
        }
        let token = self.token.iter().map(|token| (wire::TOKEN, token.reveal()));
        let headers: Vec<(&str, &str)> = wire::HEADERS.iter().copied().chain(token).collect();
        let answer = self.http.post(&format!("{node}{}", wire::RANGE), &headers, body.as_bytes());
        let mut answer = answer.map_err(|error| Trouble::Node(error.cause.to_string()))?;
        if answer.status != 200 {
            return told(wire::refusal(answer.status, wire::RANGE, &answer.beginning(), &self.secrets));
        }
        let page = wire::read_page(answer, &mut |_| Ok(())).map_err(|error| Trouble::Node(error.to_string()))?;
        Ok(if page.last.is_some() { Answer::Yes } else { Answer::No })
    }

    fn not_let_in(&mut self, user: &str, refusal: Refusal) -> Result<Answer, Trouble> {
        match refusal.reason {
            Reason::Unauthenticated | Reason::Denied => {
                let node = self.rota.name();
                self.locked_out = Some(format!("failed to log in to {node} as user {user}: {}", refusal.words));
                Ok(Answer::Refused(refusal.words))
            }
            Reason::UnknownPath | Reason::NoUsers | Reason::RevisionGone | Reason::Other => told(refusal),
        }
    }

    fn look(&mut self, url: &str) -> Result<Answer, String> {
        let header = Login(self.recipe.etcd.login.clone()).header(url, &mut self.secrets)?;
        let headers: Vec<(&str, &str)> = header.iter().map(|header| ("Authorization", &*header.value)).collect();
        let mut answer = self.http.get(url, &headers).map_err(|error| error.cause.to_string())?;
        if answer.status == 200 {
            // Read to its end, so that the connection is kept.
            return v2_wire::read_keys(answer, &mut |_| Ok(()))
                .map(|()| Answer::Yes)
                .map_err(|error| error.to_string());
        }
        let refusal = v2_wire::refusal(answer.status, &answer.beginning(), &self.secrets);
        match refusal.why {
            v2_wire::Why::Missing => Ok(Answer::No),
            v2_wire::Why::UnknownPath => Ok(Answer::Unknown),
            v2_wire::Why::Denied => Ok(Answer::Refused(refusal.words)),
            v2_wire::Why::Cleared | v2_wire::Why::Other => Err(refusal.words),
        }
    }

    fn failed(&mut self, trouble: Trouble, now: Instant, out: &mut Vec<Report>) {
        let random = self.recipe.random;
        // Whatever came after it: this is what the user can mend.
        let (words, rest) = match self.locked_out.take().map_or(trouble, Trouble::Login) {
            Trouble::Node(words) => {
                (format!("failed to find out the version of {}: {words}", self.rota.name()), Duration::ZERO)
            }
            // Every attempt costs etcd a hash, and nothing is better a moment later.
            Trouble::Login(words) => {
                self.rota.despair(now);
                (words, SLOW_REST + Duration::from_micros(random((SLOW_REST * 2).as_micros() as u64)))
            }
        };
        (self.attempt, self.token) = (attempt(&self.recipe), None);
        match self.rota.failed(words, now, &mut |bound| random(bound)) {
            Next::Now => self.stage = Stage::Asking(Some(now)),
            Next::Rest { until, news } => {
                self.stage = Stage::Asking(Some(until.max(now + rest)));
                match news {
                    News::Failure => {
                        self.reported = true;
                        out.push(Report::Failed(self.rota.failures()));
                    }
                    News::FirstRound => {
                        let line = Line::new(Level::Warn, NOBODY).with("backend", NAME);
                        out.push(Report::Log(line.with("error", self.rota.failures())));
                    }
                    News::None => {}
                }
            }
            Next::GiveUp => {
                self.stage = Stage::GivenUp;
                out.push(Report::Failed(self.rota.failures()));
            }
        }
    }

    fn take(&mut self, version: EtcdVersion, why: Why, now: Instant, out: &mut Vec<Report>) {
        self.recipe.version.set(Some(version));
        if why == Why::Default {
            let text = "no key was found in version 3 or 2 of etcd, taking 3: set `version`";
            out.push(Report::Log(Line::new(Level::Warn, text).with("backend", NAME)));
        }
        if self.reported {
            out.push(Report::Recovered);
        }
        let mut backend = self.recipe.backend(self.nodes.clone(), self.start);
        backend.turn(now, out);
        self.stage = Stage::Found(backend);
    }
}

/// What a refusal of version 3 says of it.
fn told(refusal: Refusal) -> Result<Answer, Trouble> {
    match refusal.reason {
        Reason::UnknownPath => Ok(Answer::Unknown),
        Reason::Unauthenticated | Reason::Denied | Reason::NoUsers => Ok(Answer::Refused(refusal.words)),
        Reason::RevisionGone | Reason::Other => Err(Trouble::Node(refusal.words)),
    }
}

fn attempt(recipe: &Recipe) -> Discovery {
    Discovery::new(&recipe.spans(), &v2::paths(&recipe.options))
}

impl Backend for Unversioned {
    fn name(&self) -> &'static str {
        NAME
    }

    fn fds<'a>(&'a self, out: &mut Vec<BorrowedFd<'a>>) {
        if let Stage::Found(backend) = &self.stage {
            backend.fds(out);
        }
    }

    fn due(&self) -> Option<Instant> {
        match &self.stage {
            Stage::Asking(at) => *at,
            Stage::Found(backend) => backend.due(),
            Stage::GivenUp => None,
        }
    }

    fn turn(&mut self, now: Instant, out: &mut Vec<Report>) {
        match &mut self.stage {
            Stage::Found(backend) => return backend.turn(now, out),
            Stage::GivenUp => return,
            Stage::Asking(at) if at.is_some_and(|at| now < at) => return,
            Stage::Asking(_) => {}
        }
        let mut step = self.attempt.step(None);
        if let Step::Ask(question) = &step {
            let Some(answered) = self.ask(question) else { return };
            // The answer took its time.
            let now = Instant::now();
            step = match answered {
                Ok(answer) => self.attempt.step(Some(answer)),
                Err(trouble) => return self.failed(trouble, now, out),
            };
        }
        let now = Instant::now();
        match step {
            // At the next turn: each question holds the loop.
            Step::Ask(_) => self.stage = Stage::Asking(Some(now)),
            Step::Take(version, why) => self.take(version, why, now, out),
            Step::Fail(words) => self.failed(Trouble::Node(words), now, out),
        }
    }

    fn close(&mut self, out: &mut Vec<Report>) {
        if let Stage::Found(backend) = &mut self.stage {
            backend.close(out);
        }
    }
}
