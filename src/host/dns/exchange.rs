//! The questions about one name, sent to each server in turn and in each attempt. One UDP socket for each server
//! stays open, so that a late answer counts; a truncated answer is repeated over TCP. Never waits: the caller polls
//! and advances, selects the names, and decides what a missing answer means.

use std::io::{self, ErrorKind};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use super::{Fault, Trouble};
use crate::dns::Name;
use crate::dns::wire::{Kind, Query, Record, Reply};
use crate::error::cause;
use crate::host::cause::Cause;
use crate::host::link::{Link, Received};
use crate::host::random;
use crate::host::wait::Interest;

/// The size of an answer over UDP without EDNS, in bytes. A longer answer is truncated and repeated over TCP.
const DATAGRAM: usize = 4096;

/// The number of messages that are read from one socket in one turn.
const BATCH: usize = 64;

/// The size limit of an answer over TCP, with its two bytes of length.
const LONGEST: usize = 2 + 0xFFFF;

/// The servers to query, and the time limits.
#[derive(Clone, Debug)]
pub struct Plan {
    /// At least one server, in the order of the queries.
    pub servers: Vec<SocketAddr>,
    /// How often each server is queried.
    pub attempts: usize,
    /// The time limit of one server before the next one is queried too.
    pub timeout: Duration,
    /// The deadline of all questions.
    pub end: Instant,
    /// The time limit of the other questions after one has returned records; `None`: all answers are needed.
    pub second_family: Option<Duration>,
}

/// The questions about one name, the servers they are sent to, and the answers so far.
#[derive(Debug)]
pub struct Exchange {
    plan: Plan,
    upstreams: Vec<Upstream>,
    questions: Vec<Question>,
    /// The number of queried servers so far, and the end of the present one's time.
    begun: usize,
    turn_end: Instant,
    /// When the records so far are enough.
    enough: Option<Instant>,
}

/// A server and the socket to it.
#[derive(Debug)]
struct Upstream {
    server: SocketAddr,
    socket: Option<UdpSocket>,
    /// The server has sent an answer.
    answered: bool,
    /// The server's time ended without an answer.
    silent: bool,
}

#[derive(Debug)]
struct Question {
    query: Query,
    answer: Option<Answer>,
    /// The failures of the question, by server.
    troubles: Vec<Option<Trouble>>,
    /// The query over TCP, after a truncated answer.
    tcp: Option<Tcp>,
}

#[derive(Debug)]
struct Answer {
    server: SocketAddr,
    /// The records; `None`: the name does not exist.
    records: Option<Vec<Record>>,
}

/// A question over TCP (RFC 1035, 4.2.2).
#[derive(Debug)]
struct Tcp {
    upstream: usize,
    link: Link,
    answer: Vec<u8>,
}

impl Exchange {
    /// Creates the questions. The first [`Exchange::advance`] queries the first server.
    pub fn new(name: &Name, kinds: &[Kind], plan: Plan, now: Instant) -> Exchange {
        let question = |kind: &Kind| Question {
            // The id cannot be guessed, like the socket's port, so that no other host can answer before the server.
            query: Query {
                id: u16::try_from(random::below(1 << 16)).expect("it is below 2^16"),
                name: name.clone(),
                kind: *kind,
            },
            answer: None,
            troubles: vec![None; plan.servers.len()],
            tcp: None,
        };
        let upstream = |server: &SocketAddr| Upstream { server: *server, socket: None, answered: false, silent: false };
        Exchange {
            upstreams: plan.servers.iter().map(upstream).collect(),
            questions: kinds.iter().map(question).collect(),
            plan,
            begun: 0,
            turn_end: now,
            enough: None,
        }
    }

    /// Appends the descriptors to poll.
    pub fn interests<'a>(&'a self, out: &mut Vec<Interest<'a>>) {
        let sockets = self.upstreams.iter().filter_map(|upstream| upstream.socket.as_ref());
        out.extend(sockets.map(|socket| Interest::read(socket.as_fd())));
        for tcp in self.questions.iter().filter_map(|question| question.tcp.as_ref()) {
            tcp.link.interests(out);
        }
    }

    /// When the next call is due although no bytes have arrived.
    pub fn due(&self) -> Instant {
        self.enough.map_or(self.turn_end, |enough| enough.min(self.turn_end))
    }

    /// Reads the answers, and queries the next server if the time of the present one has passed. Returns at least one
    /// record when the result is certain.
    pub fn advance(&mut self, now: Instant) -> Option<Result<Vec<Record>, Fault>> {
        self.receive(now);
        let turns = self.plan.attempts * self.upstreams.len();
        loop {
            let is_answered = self.questions.iter().all(|question| question.answer.is_some());
            if is_answered || self.enough.is_some_and(|enough| enough <= now) {
                return Some(self.outcome());
            }
            if self.begun > 0 {
                let upstream = (self.begun - 1) % self.upstreams.len();
                if self.awaits(upstream) {
                    if now < self.turn_end {
                        return None;
                    }
                    self.upstreams[upstream].silent = !self.upstreams[upstream].answered;
                    self.give_up_tcp();
                }
            }
            if self.begun == turns {
                return Some(self.outcome());
            }
            // The last server gets its share of the time, too.
            let share =
                self.plan.end.saturating_duration_since(now) / u32::try_from(turns - self.begun).unwrap_or(u32::MAX);
            self.turn_end = now + share.min(self.plan.timeout);
            let upstream = self.begun % self.upstreams.len();
            self.begun += 1;
            self.send(upstream);
        }
    }

    /// The servers that did not answer within their time.
    pub fn silent(&self) -> Vec<SocketAddr> {
        self.upstreams.iter().filter(|upstream| upstream.silent && !upstream.answered).map(|one| one.server).collect()
    }

    /// The servers that answered.
    pub fn answered(&self) -> Vec<SocketAddr> {
        self.upstreams.iter().filter(|upstream| upstream.answered).map(|upstream| upstream.server).collect()
    }

    /// Whether a question has returned records, so the name exists.
    pub fn has_records(&self) -> bool {
        let records = |answer: &Answer| answer.records.as_ref().is_some_and(|records| !records.is_empty());
        self.questions.iter().filter_map(|question| question.answer.as_ref()).any(records)
    }

    fn outcome(&self) -> Result<Vec<Record>, Fault> {
        let answers = || self.questions.iter().filter_map(|question| question.answer.as_ref());
        let open = self.questions.iter().find(|question| question.answer.is_none());
        let has_records = self.has_records();
        if has_records && (open.is_none() || self.plan.second_family.is_some()) {
            return Ok(answers().filter_map(|answer| answer.records.clone()).flatten().collect());
        }
        let query = &self.questions[0].query;
        let (name, kind) = (query.name.clone(), query.kind);
        if let Some(open) = open {
            let troubles = self.upstreams.iter().zip(&open.troubles);
            let trouble = |trouble: &Option<Trouble>| trouble.clone().unwrap_or(Trouble::Silent);
            let troubles = troubles.map(|(upstream, one)| (upstream.server, trouble(one))).collect();
            return Err(Fault::Troubled { name, missing: has_records.then_some(open.query.kind), troubles });
        }
        let answer = answers().find(|answer| answer.records.is_some()).or(answers().next());
        Err(match answer.expect("every question is answered") {
            Answer { server, records: Some(_) } => Fault::NoRecord { server: *server, name, kind },
            Answer { server, records: None } => Fault::NoName { server: *server, asked: vec![name] },
        })
    }

    /// Whether this server may still answer an open question.
    fn awaits(&self, upstream: usize) -> bool {
        self.questions.iter().any(|question| question.is_open_to(upstream))
    }

    /// Sends the open questions to a server.
    fn send(&mut self, upstream: usize) {
        let open = |question: &&Question| question.is_open_to(upstream);
        let messages: Vec<Vec<u8>> = self.questions.iter().filter(open).map(|q| q.query.encode()).collect();
        if messages.is_empty() {
            return;
        }
        let sent = self.upstreams[upstream].socket().and_then(|socket| {
            messages.iter().try_for_each(|message| match socket.send(message) {
                // If the socket is full, the message counts as lost.
                Err(e) if e.kind() != ErrorKind::WouldBlock => Err(e),
                _ => Ok(()),
            })
        });
        if let Err(e) = sent {
            self.trouble(upstream, &Trouble::Unreachable(cause(&e)));
        }
    }

    /// Reads all sockets. An answer counts at any time.
    fn receive(&mut self, now: Instant) {
        let mut buffer = [0; DATAGRAM];
        for upstream in 0..self.upstreams.len() {
            for _ in 0..BATCH {
                let Some(socket) = &self.upstreams[upstream].socket else { break };
                match socket.recv(&mut buffer) {
                    Ok(length) => self.take(upstream, &buffer[..length], now),
                    Err(e) if e.kind() == ErrorKind::WouldBlock => break,
                    Err(e) if e.kind() == ErrorKind::Interrupted => {}
                    // No server listens there, or the address is unreachable.
                    Err(e) => {
                        self.trouble(upstream, &Trouble::Unreachable(cause(&e)));
                        break;
                    }
                }
            }
        }
        for question in 0..self.questions.len() {
            self.advance_tcp(question, now);
        }
    }

    /// Takes one message of a server over UDP.
    fn take(&mut self, upstream: usize, message: &[u8], now: Instant) {
        let reply = |q: &Question| if q.is_open_to(upstream) { q.query.reply(message) } else { None };
        let Some((question, reply)) = self.questions.iter().enumerate().find_map(|(n, q)| Some((n, reply(q)?))) else {
            // The message is late for its question, or another host's.
            return;
        };
        self.upstreams[upstream].answered = true;
        if reply != Reply::Truncated {
            return self.settle(question, upstream, reply, now);
        }
        if self.questions[question].tcp.is_some() {
            return;
        }
        match Tcp::begin(upstream, self.upstreams[upstream].server, &self.questions[question].query) {
            Ok(tcp) => self.questions[question].tcp = Some(tcp),
            Err(cause) => {
                self.questions[question].troubles[upstream] = Some(Trouble::NotOverTcp(cause.to_string()));
            }
        }
    }

    fn advance_tcp(&mut self, question: usize, now: Instant) {
        let Question { tcp: Some(tcp), query, .. } = &mut self.questions[question] else { return };
        let upstream = tcp.upstream;
        match tcp.turn() {
            Ok(None) => {}
            Ok(Some(message)) => {
                let other = Reply::Garbled("over TCP it is one to another question");
                let reply = match query.reply(message).unwrap_or(other) {
                    Reply::Truncated => Reply::Garbled("it is cut over TCP too"),
                    reply => reply,
                };
                self.settle(question, upstream, reply, now);
            }
            Err(cause) => {
                let question = &mut self.questions[question];
                question.troubles[upstream] = Some(Trouble::NotOverTcp(cause.to_string()));
                question.tcp = None;
            }
        }
    }

    /// Takes the answer of a server to a question.
    fn settle(&mut self, question: usize, upstream: usize, reply: Reply, now: Instant) {
        let server = self.upstreams[upstream].server;
        let question = &mut self.questions[question];
        let records = match reply {
            Reply::Records(records) => Some(records),
            Reply::NoName => None,
            Reply::Refused(_) | Reply::Garbled(_) | Reply::Truncated => {
                question.troubles[upstream] = Some(match reply {
                    Reply::Refused(code) => Trouble::Refuses(code),
                    Reply::Garbled(why) => Trouble::Garbled(why),
                    _ => Trouble::Garbled("it is cut"),
                });
                if question.tcp.as_ref().is_some_and(|tcp| tcp.upstream == upstream) {
                    question.tcp = None;
                }
                return;
            }
        };
        if let (Some(time), true) = (self.plan.second_family, records.as_ref().is_some_and(|found| !found.is_empty())) {
            self.enough.get_or_insert(now + time);
        }
        question.answer = Some(Answer { server, records });
        question.tcp = None;
    }

    /// A server that cannot be queried is neither awaited nor queried again.
    fn trouble(&mut self, upstream: usize, trouble: &Trouble) {
        self.upstreams[upstream].socket = None;
        for question in self.questions.iter_mut().filter(|question| question.is_open_to(upstream)) {
            question.troubles[upstream] = Some(trouble.clone());
        }
    }

    /// Closes the connections of the server whose time has ended.
    fn give_up_tcp(&mut self) {
        for question in &mut self.questions {
            if let Some(tcp) = question.tcp.take() {
                question.troubles[tcp.upstream] = Some(Trouble::NotOverTcp("no answer in time".to_owned()));
            }
        }
    }
}

impl Tcp {
    fn begin(upstream: usize, server: SocketAddr, query: &Query) -> Result<Tcp, Cause> {
        let message = query.encode();
        let length = u16::try_from(message.len()).expect("a question has less than 300 bytes");
        let mut link = Link::tcp(server, None)?;
        link.send(&length.to_be_bytes())?;
        link.send(&message)?;
        Ok(Tcp { upstream, link, answer: Vec::new() })
    }

    /// The answer, when it is complete.
    fn turn(&mut self) -> Result<Option<&[u8]>, Cause> {
        self.link.turn()?;
        let received = self.link.receive(&mut self.answer, LONGEST)?;
        if let Some((length, message)) = self.answer.split_first_chunk() {
            let length = usize::from(u16::from_be_bytes(*length));
            if message.len() >= length {
                return Ok(self.answer.get(2..2 + length));
            }
        }
        match received {
            Received::Ended => Err(Cause::Closed),
            Received::Waiting | Received::More => Ok(None),
        }
    }
}

impl Upstream {
    fn socket(&mut self) -> io::Result<&UdpSocket> {
        if self.socket.is_none() {
            let any = match self.server {
                SocketAddr::V4(_) => SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0)),
                SocketAddr::V6(_) => SocketAddr::from((Ipv6Addr::UNSPECIFIED, 0)),
            };
            let socket = UdpSocket::bind(any)?;
            socket.set_nonblocking(true)?;
            // A connected socket drops messages of other hosts, and reports if no server listens.
            socket.connect(self.server)?;
            self.socket = Some(socket);
        }
        Ok(self.socket.as_ref().expect("opened above"))
    }
}

impl Question {
    fn is_open_to(&self, upstream: usize) -> bool {
        self.answer.is_none() && self.troubles[upstream].is_none()
    }
}
