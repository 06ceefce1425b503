//! Handles the replies to commands: passes each to the read or round that sent the command, and sends the next one. An
//! error of the server concerns a key, a resource or the node. Makes no connection.

use std::time::Instant;

use super::{Asked, PAGE, Redis};
use crate::backend::protocol::Output;
use crate::backend::redis::pass::Ask;
use crate::backend::redis::refusal::{Refusal, RefusalKind};
use crate::backend::redis::round::Round;
use crate::backend::redis::wire::Reply;
use crate::cut;
use crate::store::Bytes;

impl Redis {
    pub(super) fn reply(&mut self, reply: Reply, now: Instant, out: &mut Vec<Output>) {
        let Some(asked) = self.asked.pop_front() else {
            return self.failed("read from", "a reply that nothing was asked for", None, now, out);
        };
        match (asked, reply) {
            (Asked::Login, Reply::Error(text)) => self.login_refused(&text, now, out),
            (Asked::Database, Reply::Error(text)) => {
                let refusal = Refusal::new(&text, &self.secrets);
                let verb = format!("select database {} of", self.settings.database);
                match refusal.kind {
                    RefusalKind::Busy | RefusalKind::NoPassword | RefusalKind::Protected => {
                        self.refused("read from", &refusal, now, out)
                    }
                    _ => self.refused_with(&verb, &refusal.words, true, now, out),
                }
            }
            (Asked::Probe, Reply::Error(text)) => {
                // A user may lack the permission to probe. The refusal is an answer, too.
                let refusal = Refusal::new(&text, &self.secrets);
                if refusal.kind != RefusalKind::Denied {
                    self.refused("read from", &refusal, now, out);
                }
            }
            (Asked::Login | Asked::Database | Asked::Probe, _) => {}
            (Asked::Key { pass, number }, reply) => self.key(pass, number, reply, now, out),
            (Asked::Page { pass }, reply) => self.page(pass, reply, now, out),
            (Asked::Values(of, keys), reply) => self.values(of, keys, reply, now, out),
            (Asked::Value(of, key), reply) => self.value(of, &key, reply, now, out),
        }
        self.complete(now, out);
    }

    /// Handles a reply that does not fit the command.
    pub(super) fn nonsense(&mut self, now: Instant, out: &mut Vec<Output>) {
        self.failed("read from", "not an answer to what was asked", None, now, out);
    }

    pub(super) fn key(&mut self, serial: u64, number: usize, reply: Reply, now: Instant, out: &mut Vec<Output>) {
        let Some(pass) = self.pass.as_mut().filter(|pass| pass.serial == serial) else { return };
        let Some(resource) = self.resources.get(&pass.id) else { return };
        let wanted = &resource.wanted;
        let value = match reply {
            Reply::Bulk(value) => Some(value),
            Reply::Nil => None,
            Reply::Error(text) => {
                let refusal = Refusal::new(&text, &self.secrets);
                let key = wanted.keys().get(number).map_or(String::new(), |key| cut::key(key));
                let words = match refusal.kind {
                    RefusalKind::WrongType => format!("key `{key}` holds no string: {}", refusal.words),
                    RefusalKind::Denied => format!("{} may not read key `{key}`: {}", self.user(), refusal.words),
                    _ => return self.refused("read from", &refusal, now, out),
                };
                return self.pass_refused(&words, now, out);
            }
            Reply::Status(_) | Reply::Integer(_) | Reply::Array(_) => return self.nonsense(now, out),
        };
        match pass.key(number, value, wanted) {
            Ok(asks) => self.ask_all(serial, asks, now, out),
            Err(words) => self.pass_refused(&words, now, out),
        }
    }

    fn page(&mut self, serial: u64, reply: Reply, now: Instant, out: &mut Vec<Output>) {
        let Some(pass) = self.pass.as_mut().filter(|pass| pass.serial == serial) else { return };
        let (cursor, keys) = match reply {
            Reply::Error(text) => {
                let refusal = Refusal::new(&text, &self.secrets);
                if refusal.kind != RefusalKind::Denied {
                    return self.refused("read from", &refusal, now, out);
                }
                let words = format!("{} may not list keys: {}", self.user(), refusal.words);
                return self.pass_refused(&words, now, out);
            }
            reply => match page_of(reply) {
                Some(page) => page,
                None => return self.nonsense(now, out),
            },
        };
        if let Err(words) = pass.follow(&cursor) {
            return self.failed("read from", &words, None, now, out);
        }
        match pass.page(cursor, keys) {
            Ok(asks) => self.ask_all(serial, asks, now, out),
            Err(words) => self.pass_refused(&words, now, out),
        }
    }

    fn values(&mut self, of: u64, keys: Vec<Bytes>, reply: Reply, now: Instant, out: &mut Vec<Output>) {
        match reply {
            Reply::Array(values) if values.len() == keys.len() => {
                for (key, value) in keys.iter().zip(values) {
                    let value = match value {
                        Reply::Bulk(value) => Some(value),
                        Reply::Nil => None,
                        _ => return self.nonsense(now, out),
                    };
                    self.value_received(of, key, value, now, out);
                }
            }
            Reply::Error(text) => {
                let refusal = Refusal::new(&text, &self.secrets);
                if !matches!(refusal.kind, RefusalKind::Denied | RefusalKind::CrossSlot) {
                    return self.refused("read from", &refusal, now, out);
                }
                // One of many keys causes such an error.
                if self.is_under_way(of) {
                    for key in keys {
                        self.ask(&[b"GET", &key], Asked::Value(of, key.clone()), now, out);
                    }
                }
            }
            _ => self.nonsense(now, out),
        }
    }

    fn is_under_way(&self, of: u64) -> bool {
        self.pass.iter().any(|pass| pass.serial == of) || self.round.iter().any(|round| round.serial == of)
    }

    fn value(&mut self, of: u64, key: &Bytes, reply: Reply, now: Instant, out: &mut Vec<Output>) {
        match reply {
            Reply::Bulk(value) => self.value_received(of, key, Some(value), now, out),
            Reply::Nil => self.value_received(of, key, None, now, out),
            Reply::Error(text) => {
                let refusal = Refusal::new(&text, &self.secrets);
                match refusal.kind {
                    RefusalKind::Denied => {
                        self.pass.iter_mut().filter(|pass| pass.serial == of).for_each(|pass| pass.denied(key));
                        self.round.iter_mut().filter(|round| round.serial == of).for_each(Round::denied);
                    }
                    RefusalKind::WrongType => self.value_received(of, key, None, now, out),
                    _ => self.refused("read from", &refusal, now, out),
                }
            }
            Reply::Status(_) | Reply::Integer(_) | Reply::Array(_) => self.nonsense(now, out),
        }
    }

    fn value_received(&mut self, of: u64, key: &Bytes, value: Option<Bytes>, now: Instant, out: &mut Vec<Output>) {
        if let Some(round) = self.round.as_mut().filter(|round| round.serial == of) {
            return round.value(key, value);
        }
        let Some(pass) = self.pass.as_mut().filter(|pass| pass.serial == of) else { return };
        let Some(resource) = self.resources.get(&pass.id) else { return };
        if let Err(words) = pass.value(key, value, &resource.wanted) {
            self.pass_refused(&words, now, out);
        }
    }

    pub(super) fn ask_all(&mut self, pass: u64, asks: Vec<Ask>, now: Instant, out: &mut Vec<Output>) {
        for ask in asks {
            match ask {
                Ask::Key(number) => {
                    let id = self.pass.as_ref().map(|pass| pass.id);
                    let resource = id.and_then(|id| self.resources.get(&id));
                    let key = resource.and_then(|resource| resource.wanted.keys().get(number).cloned());
                    if let Some(key) = key {
                        self.ask(&[b"GET", &key], Asked::Key { pass, number }, now, out);
                    }
                }
                Ask::Scan { pattern, cursor } => {
                    let words: [&[u8]; 6] = [b"SCAN", &cursor, b"MATCH", &pattern, b"COUNT", PAGE];
                    self.ask(&words, Asked::Page { pass }, now, out);
                }
                Ask::Values(keys) => self.ask_values(pass, keys, now, out),
            }
        }
    }

    pub(super) fn ask_values(&mut self, of: u64, keys: Vec<Bytes>, now: Instant, out: &mut Vec<Output>) {
        let mut words: Vec<&[u8]> = vec![b"MGET"];
        words.extend(keys.iter().map(|key| &**key));
        self.ask(&words, Asked::Values(of, keys.clone()), now, out);
    }
}

/// The content of a reply to SCAN: the next cursor, and keys.
fn page_of(reply: Reply) -> Option<(Bytes, Vec<Bytes>)> {
    let Reply::Array(parts) = reply else { return None };
    let [Reply::Bulk(cursor), Reply::Array(keys)] = &parts[..] else { return None };
    let key = |key: &Reply| match key {
        Reply::Bulk(key) => Some(key.clone()),
        _ => None,
    };
    Some((cursor.clone(), keys.iter().map(key).collect::<Option<_>>()?))
}
