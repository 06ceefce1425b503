//! The session with a Vault: the login, and the lifetimes of its token and of the leases of dynamic secrets. Sends one
//! request at a time, before those of a round. Reads no keys.

use std::time::{Duration, Instant};

use super::{Call, KEPT, Renewal, SHORTEST_LIFE, TASK, Task, Vault, is_lasting};
use crate::backend::Mode;
use crate::backend::protocol::{Credentials, Output, Request};
use crate::backend::vault::wire::{self, Answer, Lease, NONSENSE, TokenLife};
use crate::config::{AuthType, Secret};
use crate::cut;
use crate::log::{Level, Line};

impl Vault {
    /// Whether the token is still needed: by a pending or planned read, or by a lease, which ends with the token.
    pub(super) fn needs_token(&self) -> bool {
        let is_read = self.round.is_some() || !self.waiting.is_empty() || self.readings.due().is_some();
        self.mode == Mode::Watch && (is_read || !self.leases.is_empty())
    }

    pub(super) fn log_in(&mut self, out: &mut Vec<Output>) {
        self.wants_credentials = true;
        out.push(Output::ReadCredentials);
    }

    /// Renews the lease that is due first, or plans a new read of its secret. Returns whether a request began.
    pub(super) fn keep_leases(&mut self, now: Instant, out: &mut Vec<Output>) -> bool {
        let due: Vec<String> =
            self.leases.iter().filter(|(_, leased)| leased.due <= now).map(|(path, _)| path.clone()).collect();
        for path in due {
            let Some(leased) = self.leases.get(&path) else { continue };
            if leased.lease.renewable {
                let request = wire::renew_lease(&leased.lease.id);
                self.run(Task::Lease(path), request, out);
                return true;
            }
            self.reread(&path);
        }
        while let Some(id) = self.readings.begin(now, out) {
            self.waiting.push_back(id);
        }
        false
    }

    /// Plans a new read of a secret whose lease ends.
    fn reread(&mut self, path: &str) {
        if let Some(leased) = self.leases.remove(path) {
            leased.readers.into_iter().for_each(|id| self.readings.again(id));
        }
    }

    pub(super) fn run(&mut self, task: Task, request: Request, out: &mut Vec<Output>) {
        let with_token = task != Task::Login;
        if self.task.take().is_some() {
            // The cancelled task is a renewal, which is still due.
            out.push(Output::Cancel(TASK));
        }
        self.task = Some(Call::new(task));
        let request = self.with_headers(request, with_token);
        out.push(Output::Begin(TASK, request));
    }

    pub(super) fn credentials(
        &mut self,
        credentials: Result<Option<Credentials>, String>,
        now: Instant,
        out: &mut Vec<Output>,
    ) {
        if !std::mem::take(&mut self.wants_credentials) {
            return;
        }
        let (user, password) = match credentials {
            Err(words) => return out.push(Output::NodeFailed { words, not_before: None }),
            Ok(None) => Default::default(),
            Ok(Some(Credentials { user, password })) => (user, password),
        };
        let auth = self.options.auth_type;
        self.secrets.hide("credential", password.reveal());
        if matches!(auth, AuthType::AppRole | AuthType::AppId) {
            self.secrets.hide("credential", user.reveal());
        }
        match wire::login(auth, &self.options.auth_mount, user.reveal(), password.reveal()) {
            Some(request) => self.run(Task::Login, request, out),
            None if password.reveal().is_empty() => self.login_failed("the token is empty", true, now, out),
            None => {
                self.replace_token(password);
                match self.mode {
                    Mode::Watch => self.run(Task::Lookup, wire::lookup(), out),
                    Mode::OneShot => self.advance(now, out),
                }
            }
        }
    }

    fn replace_token(&mut self, token: Secret) {
        if self.token.as_ref().is_some_and(|old| *old != token) {
            self.lose_token();
        }
        (self.token, self.is_proven, self.renewal) = (Some(token), false, None);
    }

    /// Drops the token and the leases, which end with it.
    fn lose_token(&mut self) {
        (self.token, self.renewal, self.is_proven) = (None, None, false);
        for leased in std::mem::take(&mut self.leases).into_values() {
            leased.readers.into_iter().for_each(|id| self.readings.again(id));
        }
    }

    /// Plans the next step for a token with this lifetime.
    fn plan_renewal(&mut self, life: &TokenLife, now: Instant) {
        let is_given = self.options.auth_type == AuthType::Token;
        let at = |life: Duration| now.checked_add(renewed_after(life));
        self.renewal = match life.life.and_then(at) {
            Some(at) if life.renewable => Some((at, Renewal::Renew)),
            Some(at) if !is_given => Some((at, Renewal::Login)),
            _ => None,
        };
    }

    pub(super) fn login_failed(&mut self, words: &str, is_lasting: bool, now: Instant, out: &mut Vec<Output>) {
        let method = match self.options.auth_type {
            AuthType::Token => "token",
            AuthType::AppRole => "approle",
            AuthType::AppId => "app-id",
            AuthType::GitHub => "github",
            AuthType::UserPass => "userpass",
            AuthType::Kubernetes => "kubernetes",
            AuthType::Cert => "cert",
        };
        let words = format!("failed to log in to {} by `{method}`: {words}", self.node);
        self.token = None;
        let not_before = is_lasting.then(|| self.rest()).and_then(|rest| now.checked_add(rest));
        if is_lasting {
            out.push(Output::FailFast);
        }
        out.push(Output::NodeFailed { words, not_before });
    }

    pub(super) fn task_ended(&mut self, call: Call<Task>, now: Instant, out: &mut Vec<Output>) {
        let answer = if call.is_answer() { Some(Answer::of(&call.body)) } else { None };
        let words = wire::words(call.status, &call.body, &self.secrets);
        match (call.what, answer) {
            (Task::Login, Some(answer)) => match answer.and_then(Answer::token) {
                Ok(mut life) => {
                    let token = std::mem::take(&mut life.token);
                    self.secrets.hide("token", &token);
                    self.replace_token(Secret::new(token));
                    self.life = life.life.unwrap_or_default();
                    self.plan_renewal(&life, now);
                    self.advance(now, out);
                }
                Err(words) => self.login_failed(words, false, now, out),
            },
            (Task::Login, None) if is_lasting(call.status) && !wire::is_refusal(&call.body, KEPT) => {
                self.login_failed(&format!("{NONSENSE}: {words}"), false, now, out);
            }
            (Task::Login, None) => {
                let hint = match call.status {
                    403 | 404 => ": is `auth_mount` right?",
                    _ => "",
                };
                self.login_failed(&format!("{words}{hint}"), is_lasting(call.status), now, out);
            }
            (Task::Lookup, Some(Ok(answer))) => {
                let life = answer.looked_up();
                self.life = life.life.unwrap_or_default();
                self.plan_renewal(&life, now);
                self.advance(now, out);
            }
            // A token may lack the permission to look itself up. Reads show whether it is valid.
            (Task::Lookup, None) if is_lasting(call.status) => self.advance(now, out),
            (Task::Lookup, Some(Err(words))) => self.login_failed(words, false, now, out),
            (Task::Lookup, None) => self.login_failed(&words, false, now, out),
            (Task::Renew, Some(answer)) => match answer.and_then(Answer::token) {
                Ok(life) => {
                    let is_short = life.life.is_some_and(|left| left < self.life / 2);
                    // The token has reached its maximum lifetime.
                    let is_given = self.options.auth_type == AuthType::Token;
                    let renewable = life.renewable && (is_given || !is_short);
                    self.plan_renewal(&TokenLife { renewable, ..life }, now);
                    self.advance(now, out);
                }
                Err(words) => self.node_failed("renew the token", words, out),
            },
            (Task::Renew, None) if is_lasting(call.status) => {
                if self.options.auth_type == AuthType::Token {
                    let line = Line::new(Level::Warn, "the token cannot be renewed").with("error", words);
                    self.readings.log(line, out);
                    self.renewal = None;
                } else {
                    self.renewal = Some((now, Renewal::Login));
                }
                self.advance(now, out);
            }
            (Task::Renew, None) => self.node_failed("renew the token", &words, out),
            (Task::Check { words, needs }, Some(_)) => {
                self.is_proven = true;
                self.refused(&format!("{words}: the policies of the token need {needs}"), now, out);
            }
            (Task::Check { .. }, None) if is_lasting(call.status) && self.is_proven => {
                // The token worked before, so it has expired.
                self.lose_token();
                self.restart_round();
                self.advance(now, out);
            }
            (Task::Check { words, needs }, None) if is_lasting(call.status) => {
                self.lose_token();
                let words = format!("{words}: the token is not valid, or its policies lack {needs}");
                self.refused(&words, now, out);
            }
            (Task::Check { .. }, None) => self.node_failed("look up the token", &words, out),
            (Task::Lease(path), Some(Ok(answer))) => {
                self.lease_renewed(&path, answer.lease(), now);
                self.advance(now, out);
            }
            (Task::Lease(path), None) if is_lasting(call.status) => {
                self.reread(&path);
                self.advance(now, out);
            }
            (Task::Lease(path), Some(Err(words))) => self.node_failed(&lease_of(&path), words, out),
            (Task::Lease(path), None) => self.node_failed(&lease_of(&path), &words, out),
        }
    }

    fn lease_renewed(&mut self, path: &str, lease: Option<Lease>, now: Instant) {
        let due = lease.as_ref().and_then(|lease| now.checked_add(renewed_after(lease.life)));
        match (lease, due, self.leases.get_mut(path)) {
            (Some(lease), Some(due), Some(leased)) => {
                // A lease that reaches its maximum lifetime is replaced by a new read before its end.
                let renewable = lease.renewable && lease.life >= leased.life / 2;
                (leased.lease, leased.due) = (Lease { renewable, ..lease }, due);
            }
            _ => self.reread(path),
        }
    }
}

/// Two thirds of a lifetime.
pub(super) fn renewed_after(life: Duration) -> Duration {
    (life / 3 * 2).max(SHORTEST_LIFE)
}

/// Verb and subject of a renewal.
pub(super) fn lease_of(path: &str) -> String {
    format!("renew the lease of `/{}`", cut::key(path.as_bytes()))
}
