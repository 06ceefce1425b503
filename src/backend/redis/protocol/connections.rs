//! The two connections of a Redis: opens them, logs in, and closes them if a reply is late. Does not know the meaning
//! of a reply.

use std::time::Instant;

use super::{Asked, COMMANDS, Connection, EVENTS, PIECE, Redis, Stage, Step, Watch};
use crate::backend::protocol::{CallId, Credentials, Failure, FailureKind, Output, Security};
use crate::backend::redis::wire;

impl Redis {
    pub(super) fn open(&mut self, call: CallId, now: Instant, out: &mut Vec<Output>) {
        let limit = self.settings.max_response;
        let Some(connection) = self.connection(call) else { return };
        let unsent = std::mem::take(&mut connection.unsent);
        *connection = Connection { stage: Stage::Login, unsent, ..Connection::new(limit, now) };
        self.logins.push_back(call);
        // The files are read for every connection, so that a new password counts at once.
        out.push(Output::ReadCredentials);
    }

    pub(super) fn close(&mut self, call: CallId, out: &mut Vec<Output>) {
        let (limit, now) = (self.settings.max_response, self.now);
        if let Some(connection) = self.connection(call)
            && connection.stage != Stage::Closed
        {
            *connection = Connection::new(limit, now);
            self.logins.retain(|login| *login != call);
            out.push(Output::Cancel(call));
        }
        if call == COMMANDS {
            self.asked.clear();
        }
    }

    pub(super) fn credentials(
        &mut self,
        credentials: Result<Option<Credentials>, String>,
        now: Instant,
        out: &mut Vec<Output>,
    ) {
        let Some(call) = self.logins.pop_front() else { return };
        let (mut bytes, mut first) = (Vec::new(), Vec::new());
        match credentials {
            Err(words) => return self.failed("log in to", &words, None, now, out),
            Ok(None) => self.user = None,
            Ok(Some(Credentials { user, password })) => {
                self.secrets.hide("password", password.reveal());
                let (user, password) = (user.reveal(), password.reveal());
                let words = ["AUTH", user, password].map(str::as_bytes);
                match user {
                    // Servers before version 6 know passwords, but no users.
                    "" => wire::command(&mut bytes, &[words[0], words[2]]),
                    _ => wire::command(&mut bytes, &words),
                }
                first.push(Asked::Login);
                self.user = Some(user.to_owned());
            }
        }
        match call {
            EVENTS => {
                wire::command(&mut bytes, &[b"CONFIG", b"GET", b"notify-keyspace-events"]);
                wire::command(&mut bytes, &[b"CLIENT", b"ID"]);
                self.watch = Watch::Asking(if first.is_empty() { Step::Settings } else { Step::Login });
            }
            _ => {
                if self.settings.database != 0 {
                    wire::command(&mut bytes, &[b"SELECT", self.settings.database.to_string().as_bytes()]);
                    first.push(Asked::Database);
                }
                first.into_iter().rev().for_each(|asked| self.asked.push_front(asked));
            }
        }
        let security = if self.node.starts_with("rediss:") { Security::Tls } else { Security::Plain };
        if let Some(connection) = self.connection(call) {
            connection.stage = Stage::Dialing;
            bytes.append(&mut connection.unsent);
        }
        out.extend([Output::Connect(call, security), Output::Send(call, bytes)]);
    }

    /// Sends a command on the connection for commands, and connects first if necessary.
    pub(super) fn ask(&mut self, words: &[&[u8]], asked: Asked, now: Instant, out: &mut Vec<Output>) {
        if self.commands.stage == Stage::Closed {
            self.open(COMMANDS, now, out);
        }
        if self.asked.is_empty() {
            (self.commands.last_received, self.commands.pending) = (now, 0);
        }
        wire::command(&mut self.commands.unsent, words);
        self.asked.push_back(asked);
    }

    /// Sends the commands of this turn.
    pub(super) fn flush(&mut self, out: &mut Vec<Output>) {
        for call in [COMMANDS, EVENTS] {
            if let Some(connection) = self.connection(call)
                && matches!(connection.stage, Stage::Dialing | Stage::Open)
                && !connection.unsent.is_empty()
            {
                out.push(Output::Send(call, std::mem::take(&mut connection.unsent)));
            }
        }
    }

    /// The deadline of the awaited reply on a connection.
    pub(super) fn deadline(&self, call: CallId) -> Option<Instant> {
        let (connection, awaits) = match call {
            COMMANDS => (&self.commands, !self.asked.is_empty()),
            _ => (&self.events, self.events.probed || self.is_undecided()),
        };
        let is_awaited = connection.stage == Stage::Open && awaits;
        is_awaited.then(|| connection.last_received.checked_add(self.settings.request_timeout)).flatten()
    }

    pub(super) fn body(&mut self, call: CallId, piece: &[u8], now: Instant, out: &mut Vec<Output>) {
        let Some(connection) = self.connection(call).filter(|connection| connection.stage == Stage::Open) else {
            return;
        };
        let mut replies = Vec::new();
        let read = connection.reader.push(piece, &mut replies);
        connection.is_answered = true;
        connection.pending = connection.pending.saturating_add(piece.len());
        // A large reply may take long on a slow line, but a minimum rate is required.
        if !replies.is_empty() || connection.pending >= PIECE {
            (connection.last_received, connection.pending) = (now, 0);
        }
        for reply in replies {
            // One of the replies may have closed the connection.
            if self.connection(call).is_none_or(|connection| connection.stage != Stage::Open) {
                return;
            }
            match call {
                COMMANDS => self.reply(reply, now, out),
                _ => self.event(reply, now, out),
            }
        }
        if let Err(unreadable) = read
            && self.connection(call).is_some_and(|connection| connection.stage == Stage::Open)
        {
            let words = self.secrets.redact(&unreadable.to_string());
            self.failed("read from", &words, None, now, out);
        }
    }

    /// Handles the end of a connection.
    pub(super) fn ended(&mut self, call: CallId, failure: Failure, now: Instant, out: &mut Vec<Output>) {
        let Some(connection) = self.connection(call) else { return };
        let (was, is_answered) = (connection.stage, connection.is_answered);
        // Servers close idle connections.
        let is_idle = call == COMMANDS && was == Stage::Open && failure.kind == FailureKind::Closed;
        if was == Stage::Closed {
        } else if is_idle && self.asked.is_empty() {
            self.close(call, out);
        } else if was == Stage::Dialing {
            self.failed("connect to", &failure.words, None, now, out);
        } else {
            let may_want_tls = !is_answered && self.node.starts_with("redis:") && failure.kind == FailureKind::Closed;
            let hint =
                if may_want_tls { " before it answered: does it want rediss://, or is it no redis?" } else { "" };
            let words = format!("{}{hint}", failure.words);
            self.failed(if call == EVENTS { "watch" } else { "read from" }, &words, None, now, out);
        }
    }
}
