//! Handles the frames of a server: the answer to a request for a session, and the replies about nodes, which go to all
//! resources that want them. Does not decide when a read begins.

use std::collections::{BTreeSet, VecDeque};
use std::mem;
use std::time::Instant;

use super::{CONNECTION, Fault, Open, PINGS, Pending, SHORTEST_PING, State, Zookeeper, relative};
use crate::backend::protocol::{Id, Output};
use crate::backend::zookeeper::reads::{Interest, NodePart};
use crate::backend::zookeeper::subscription::{self, Subscription};
use crate::backend::zookeeper::wire::{self, Code, EventKind, Frames, Message, SessionId, Unreadable};
use crate::cut;
use crate::store::Bytes;

impl Zookeeper {
    pub(super) fn body(&mut self, piece: &[u8], now: Instant, out: &mut Vec<Output>) {
        let frames = match &mut self.state {
            State::Opening { frames, .. } => frames,
            State::Open(open) => {
                open.last_received = now;
                &mut open.frames
            }
            State::Closed | State::LoggingIn => return,
        };
        // The frames are taken out, because the messages change the state.
        let mut frames = mem::replace(frames, Frames::new(0));
        frames.push(piece);
        let outcome = loop {
            let frame = match &self.state {
                State::Opening { .. } => frames.session_frame(self.settings.max_response),
                State::Closed | State::LoggingIn | State::Open(_) => frames.next_frame(),
            };
            match frame {
                Ok(None) => break Ok(()),
                Err(error) => break Err(Fault::from(error)),
                Ok(Some(frame)) => {
                    if let Err(fault) = self.frame(frame, now, out) {
                        break Err(fault);
                    }
                }
            }
        };
        match (outcome, &mut self.state) {
            (Err(fault), _) => self.fault(fault, now, out),
            (Ok(()), State::Opening { frames: place, .. }) => *place = frames,
            (Ok(()), State::Open(open)) => {
                open.frames = frames;
                self.wake = Some(now);
            }
            (Ok(()), State::Closed | State::LoggingIn) => {}
        }
    }

    pub(super) fn frame(&mut self, frame: &[u8], now: Instant, out: &mut Vec<Output>) -> Result<(), Fault> {
        match &self.state {
            State::Opening { .. } => self.opened(frame, now, out),
            State::Open(_) => {
                let message = wire::read(frame)?;
                self.transaction = wire::transaction(frame).unwrap_or(self.transaction);
                match message {
                    Message::Event { kind, path } => {
                        if let Some(path) = relative(&self.settings.chroot, &path) {
                            self.event(kind, &path, now, out);
                        }
                        Ok(())
                    }
                    Message::Reply { number, outcome } => self.reply(number, outcome, now, out),
                    Message::Pong | Message::Authenticated(Ok(())) => {
                        if let State::Open(open) = &mut self.state {
                            open.is_probed = false;
                        }
                        Ok(())
                    }
                    Message::Authenticated(Err(code)) => Err(Fault::Login(code)),
                }
            }
            // The session has expired, so later frames belong to no session.
            State::Closed | State::LoggingIn => Ok(()),
        }
    }

    fn opened(&mut self, frame: &[u8], now: Instant, out: &mut Vec<Output>) -> Result<(), Fault> {
        let Some((session, timeout)) = wire::read_session(frame)? else {
            if self.session.id == 0 {
                return Err(Fault::Words("the server gives no session".to_owned()));
            }
            self.readings.debug("session expired, starting a new one", out);
            self.session = SessionId::default();
            out.push(Output::Cancel(CONNECTION));
            self.state = State::Closed;
            self.wake = Some(now);
            return Ok(());
        };
        if timeout < SHORTEST_PING * PINGS {
            let least = SHORTEST_PING * PINGS;
            return Err(Fault::Words(format!(
                "the server keeps a session for {timeout:?} only, and {least:?} are needed: raise its `tickTime` or \
                 `maxSessionTimeout`, or `session_timeout` of the backend"
            )));
        }
        self.session = session;
        let mut open = Open {
            frames: Frames::new(self.settings.max_response),
            asked: VecDeque::new(),
            number: 0,
            is_probed: false,
            unsent: Vec::new(),
            ping_every: (timeout / PINGS).min(self.settings.watch_deadline).max(SHORTEST_PING),
            since: now,
            sent: now,
            last_received: now,
            watched: BTreeSet::new(),
        };
        if let Some((user, password)) = &self.user {
            open.probe(&wire::authenticate(user.reveal(), password.reveal()), now);
        }
        self.credentials_suspect = false;
        self.state = State::Open(open);
        Ok(())
    }

    fn reply(
        &mut self,
        number: i32,
        outcome: Result<&[u8], Code>,
        now: Instant,
        out: &mut Vec<Output>,
    ) -> Result<(), Fault> {
        let State::Open(open) = &mut self.state else { return Ok(()) };
        let asked = match open.asked.pop_front() {
            Some((first, asked)) if first == number => asked,
            _ => return Err(Fault::Words(Unreadable::Nonsense("an answer to no request").to_string())),
        };
        if let Err(code @ Code::AUTH_REQUIRED) = outcome {
            return Err(Fault::Lasting(code.to_string()));
        }
        match (asked, outcome) {
            (Pending::Node(path, what), outcome) => self.node(&path, what, outcome, now, out),
            (Pending::Sync | Pending::Watch, Ok(_)) | (Pending::Creation(_), Err(Code::NO_NODE)) => Ok(()),
            (Pending::Watch, Err(Code::UNIMPLEMENTED)) => Err(Fault::Old),
            // The node was created meanwhile.
            (Pending::Creation(path), Ok(_)) => {
                self.event(EventKind::Created, &path, now, out);
                Ok(())
            }
            (Pending::Sync, Err(code)) => Err(Fault::Words(format!("failed to come up to the leader: {code}"))),
            (Pending::Watch | Pending::Creation(_), Err(code)) => Err(Fault::Words(code.to_string())),
        }
    }

    /// Takes a reply about a node.
    fn node(
        &mut self,
        path: &Bytes,
        what: NodePart,
        outcome: Result<&[u8], Code>,
        now: Instant,
        out: &mut Vec<Output>,
    ) -> Result<(), Fault> {
        let interests = self.reads.answered(path, what);
        match (what, outcome) {
            (NodePart::Data, Ok(body)) => {
                let (value, children) = wire::read_data(body)?;
                for interest in &interests {
                    self.value(path, value, children, *interest, now, out);
                }
            }
            (NodePart::Children, Ok(body)) => {
                let names = wire::read_children(body)?;
                let (all, new): (Vec<Interest>, Vec<Interest>) =
                    interests.iter().partition(|interest| self.sets_watches(interest.id));
                for interest in &all {
                    self.compare_children(path, body, *interest, now, out)?;
                }
                if !new.is_empty() {
                    self.reads.list(path.clone(), &names, new);
                }
                // The other subscribers wait for the end of the list.
                self.arrived(&all, now, out);
                return Ok(());
            }
            (_, Err(Code::NO_NODE)) => interests.iter().for_each(|interest| self.gone(path, *interest, now, out)),
            (_, Err(code @ (Code::NO_AUTH | Code::BAD_ARGUMENTS))) => {
                let words = self.refusal(path, code);
                for interest in &interests {
                    let pause = self.slow_retry();
                    self.refuse(interest.id, words.clone(), pause, now, out);
                }
            }
            (_, Err(code)) => return Err(Fault::Words(format!("`{}`: {code}", cut::key(path)))),
        }
        self.arrived(&interests, now, out);
        Ok(())
    }

    fn value(
        &mut self,
        path: &Bytes,
        value: &[u8],
        children: u32,
        interest: Interest,
        now: Instant,
        out: &mut Vec<Output>,
    ) {
        let Some(subscription) = self.active(interest.id) else { return };
        let lists = subscription.value(path, value, children);
        if interest.trigger {
            subscription.triggered();
        }
        match lists {
            Ok(true) if !self.sets_watches(interest.id) => self.want(path, NodePart::Children, interest),
            Ok(_) => {}
            Err(words) => {
                let words = format!("failed to read from {}: {words}", self.node);
                let pause = self.slow_retry();
                self.refuse(interest.id, words, pause, now, out);
            }
        }
    }

    /// Compares the children of a node after an event of a one-time watch.
    fn compare_children(
        &mut self,
        path: &Bytes,
        body: &[u8],
        interest: Interest,
        now: Instant,
        out: &mut Vec<Output>,
    ) -> Result<(), Fault> {
        let names = wire::read_children(body)?.map(|name| Ok(subscription::child(path, name?)));
        let named: BTreeSet<Bytes> = names.collect::<Result<_, Unreadable>>()?;
        let Some(subscription) = self.active(interest.id) else { return Ok(()) };
        let before: BTreeSet<Bytes> = subscription.children(path).into_iter().collect();
        if !named.is_empty() {
            subscription.child_created(path);
        }
        if interest.trigger {
            subscription.triggered();
        }
        before.difference(&named).for_each(|child| self.gone(child, interest, now, out));
        if self.active(interest.id).is_some() {
            named.difference(&before).for_each(|child| self.want_child(child, vec![interest], now, out));
        }
        Ok(())
    }

    /// Counts arrived answers.
    pub(super) fn arrived(&mut self, interests: &[Interest], now: Instant, out: &mut Vec<Output>) {
        for Interest { id, .. } in interests {
            if let Some(subscription) = self.subscriptions.get_mut(id) {
                subscription.pending = subscription.pending.saturating_sub(1);
                self.settle(*id, now, out);
            }
        }
    }

    /// Reports all keys of a resource when its read is complete.
    pub(super) fn settle(&mut self, id: Id, now: Instant, out: &mut Vec<Output>) {
        match self.subscriptions.get_mut(&id).and_then(Subscription::finish) {
            None => {}
            Some(Ok(layer)) => {
                out.push(Output::Worked);
                self.readings.succeeded(id, layer, now, out);
            }
            Some(Err(missing)) => self.missing(id, &missing, now, out),
        }
    }

    pub(super) fn active(&mut self, id: Id) -> Option<&mut Subscription> {
        self.subscriptions.get_mut(&id).filter(|subscription| subscription.is_active())
    }
}
