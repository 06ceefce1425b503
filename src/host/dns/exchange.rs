//! The questions about one name and their way to the servers: each server in turn, again for each attempt, over one
//! UDP socket a server that stays open, so that a late answer counts; over TCP for what does not fit.
//! Which names are asked for, and what the absence of an answer means to them, is its caller's.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream, UdpSocket};
use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::{self, AddressFamily, SocketFlags, SocketType, sockopt};

use super::{Fault, Trouble};
use crate::dns::Name;
use crate::dns::wire::{Kind, Query, Record, Reply};
use crate::error::cause;
use crate::host::random;
use crate::host::wait::Wake;

/// Servers send 512 bytes over UDP to who does not ask for more. A longer one loses its end and is asked for again.
const DATAGRAM: usize = 4096;

/// Messages that are taken from one socket before time and signals are looked at.
const BATCH: usize = 64;

/// Whom to ask, and how long.
#[derive(Clone, Debug)]
pub struct Plan {
    /// At least one, in the order they are asked.
    pub servers: Vec<SocketAddr>,
    /// How often each is asked.
    pub attempts: usize,
    /// How long one is waited for before the next is asked too.
    pub timeout: Duration,
    /// When everything ends.
    pub end: Instant,
    /// Once a question has brought records, how long the others may still take.
    pub second_family: Option<Duration>,
}

pub struct Exchange<'a> {
    plan: &'a Plan,
    wake: Option<&'a dyn Wake>,
    lines: Vec<Line>,
    questions: Vec<Question>,
    /// When what has come is enough.
    enough: Option<Instant>,
}

/// A server and the socket to it.
struct Line {
    server: SocketAddr,
    socket: Option<UdpSocket>,
    /// It answered something.
    heard: bool,
    /// Its turn ended without a word of it.
    silent: bool,
}

struct Question {
    query: Query,
    answer: Option<Answer>,
    /// What went wrong with it, by server.
    troubles: Vec<Option<Trouble>>,
}

struct Answer {
    server: SocketAddr,
    /// `None`: there is no such name.
    records: Option<Vec<Record>>,
}

/// Why waiting ended without the socket being ready.
enum Stop {
    Late,
    Aborted,
    Failed(io::Error),
}

impl<'a> Exchange<'a> {
    pub fn new(name: &Name, kinds: &[Kind], plan: &'a Plan, wake: Option<&'a dyn Wake>) -> Exchange<'a> {
        let question = |kind: &Kind| Question {
            // Unguessable from outside, as is the socket's port: a stranger cannot answer before the server does.
            query: Query { id: random::below(1 << 16) as u16, name: name.clone(), kind: *kind },
            answer: None,
            troubles: vec![None; plan.servers.len()],
        };
        let line = |server: &SocketAddr| Line { server: *server, socket: None, heard: false, silent: false };
        Exchange {
            plan,
            wake,
            lines: plan.servers.iter().map(line).collect(),
            questions: kinds.iter().map(question).collect(),
            enough: None,
        }
    }

    /// Asks until everything is answered or the time is over. Gives the records, at least one.
    pub fn run(&mut self) -> Result<Vec<Record>, Fault> {
        let turns = self.plan.attempts * self.lines.len();
        for turn in 0..turns {
            let line = turn % self.lines.len();
            self.send(line);
            // The last server gets its share of the time too.
            let now = Instant::now();
            let share = self.plan.end.saturating_duration_since(now) / (turns - turn) as u32;
            let end = now + share.min(self.plan.timeout);
            while self.awaits(line) && !self.has_enough() {
                match self.wait_for_messages(self.enough.map_or(end, |enough| end.min(enough))) {
                    Ok(()) => self.receive(end)?,
                    Err(Stop::Late) if self.has_enough() => break,
                    Err(Stop::Late) => {
                        self.lines[line].silent = !self.lines[line].heard;
                        break;
                    }
                    Err(Stop::Aborted) => return Err(Fault::Aborted),
                    Err(Stop::Failed(e)) => {
                        self.trouble(line, &Trouble::Unreachable(cause(&e)));
                    }
                }
            }
            if self.has_enough() || self.questions.iter().all(|question| question.answer.is_some()) {
                break;
            }
        }
        self.outcome()
    }

    /// The servers that said nothing although they were waited for.
    pub fn silent(&self) -> Vec<SocketAddr> {
        self.lines.iter().filter(|line| line.silent && !line.heard).map(|line| line.server).collect()
    }

    /// The servers that said something.
    pub fn heard(&self) -> Vec<SocketAddr> {
        self.lines.iter().filter(|line| line.heard).map(|line| line.server).collect()
    }

    fn outcome(&self) -> Result<Vec<Record>, Fault> {
        let answers = || self.questions.iter().filter_map(|question| question.answer.as_ref());
        let records: Vec<Record> = answers().filter_map(|answer| answer.records.clone()).flatten().collect();
        if !records.is_empty() {
            return Ok(records);
        }
        let query = &self.questions[0].query;
        let (name, kind) = (query.name.clone(), query.kind);
        if let Some(open) = self.questions.iter().find(|question| question.answer.is_none()) {
            let troubles = self.lines.iter().zip(&open.troubles);
            let trouble = |trouble: &Option<Trouble>| trouble.clone().unwrap_or(Trouble::Silent);
            return Err(Fault::Troubled { name, troubles: troubles.map(|(l, t)| (l.server, trouble(t))).collect() });
        }
        let answer = answers().find(|answer| answer.records.is_some()).or(answers().next());
        Err(match answer.expect("every question is answered") {
            Answer { server, records: Some(_) } => Fault::NoRecord { server: *server, name, kind },
            Answer { server, records: None } => Fault::NoName { server: *server, asked: vec![name] },
        })
    }

    /// Whether a question is open to which this server may still answer.
    fn awaits(&self, line: usize) -> bool {
        self.questions.iter().any(|question| question.is_open_to(line))
    }

    fn has_enough(&self) -> bool {
        self.enough.is_some_and(|enough| enough <= Instant::now())
    }

    /// Asks a server whatever is open.
    fn send(&mut self, line: usize) {
        let open = |question: &&Question| question.is_open_to(line);
        let messages: Vec<Vec<u8>> = self.questions.iter().filter(open).map(|q| q.query.encode()).collect();
        if messages.is_empty() {
            return;
        }
        let sent = self.lines[line].socket().and_then(|socket| {
            messages.iter().try_for_each(|message| match socket.send(message) {
                // No room to send: as if it were lost on the way.
                Err(e) if e.kind() != ErrorKind::WouldBlock => Err(e),
                _ => Ok(()),
            })
        });
        if let Err(e) = sent {
            self.trouble(line, &Trouble::Unreachable(cause(&e)));
        }
    }

    /// Takes what has come on all sockets: an answer counts, whoever's turn it is.
    fn receive(&mut self, end: Instant) -> Result<(), Fault> {
        let mut buffer = [0; DATAGRAM];
        for line in 0..self.lines.len() {
            for _ in 0..BATCH {
                let Some(socket) = &self.lines[line].socket else { break };
                match socket.recv(&mut buffer) {
                    Ok(length) => self.take(line, &buffer[..length], end)?,
                    Err(e) if e.kind() == ErrorKind::WouldBlock => break,
                    Err(e) if e.kind() == ErrorKind::Interrupted => {}
                    // Nobody listens there, or nothing leads there.
                    Err(e) => {
                        self.trouble(line, &Trouble::Unreachable(cause(&e)));
                        break;
                    }
                }
            }
        }
        Ok(())
    }

    /// One message of a server.
    fn take(&mut self, line: usize, message: &[u8], end: Instant) -> Result<(), Fault> {
        let server = self.lines[line].server;
        let reply = |q: &Question| if q.is_open_to(line) { q.query.reply(message) } else { None };
        let Some((n, mut reply)) = self.questions.iter().enumerate().find_map(|(n, q)| Some((n, reply(q)?))) else {
            // Late for its question, or a stranger's.
            return Ok(());
        };
        self.lines[line].heard = true;
        if reply == Reply::Truncated {
            reply = match self.over_tcp(server, &self.questions[n].query, end) {
                Ok(reply) => reply,
                Err(Stop::Aborted) => return Err(Fault::Aborted),
                Err(stop) => {
                    let why = if let Stop::Failed(e) = stop { cause(&e) } else { "no answer in time".to_owned() };
                    self.questions[n].troubles[line] = Some(Trouble::NotOverTcp(why));
                    return Ok(());
                }
            };
        }
        let question = &mut self.questions[n];
        match reply {
            Reply::Records(records) => {
                if let (Some(time), false) = (self.plan.second_family, records.is_empty()) {
                    self.enough.get_or_insert(Instant::now() + time);
                }
                question.answer = Some(Answer { server, records: Some(records) });
            }
            Reply::NoName => question.answer = Some(Answer { server, records: None }),
            Reply::Refused(code) => question.troubles[line] = Some(Trouble::Refuses(code)),
            Reply::Garbled(why) => question.troubles[line] = Some(Trouble::Garbled(why)),
            Reply::Truncated => question.troubles[line] = Some(Trouble::Garbled("it is cut over TCP too")),
        }
        Ok(())
    }

    /// A server that cannot be asked is not waited for, nor asked again.
    fn trouble(&mut self, line: usize, trouble: &Trouble) {
        self.lines[line].socket = None;
        for question in self.questions.iter_mut().filter(|question| question.is_open_to(line)) {
            question.troubles[line] = Some(trouble.clone());
        }
    }

    /// Asks one question on a connection of its own (RFC 1035, 4.2.2).
    fn over_tcp(&self, server: SocketAddr, query: &Query, end: Instant) -> Result<Reply, Stop> {
        let family = if server.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let socket = net::socket_with(family, SocketType::STREAM, flags, None)?;
        let mut socket = match net::connect(&socket, &server) {
            Ok(()) => TcpStream::from(socket),
            Err(Errno::INPROGRESS) => {
                self.wait(&[(socket.as_fd(), PollFlags::OUT)], end)?;
                sockopt::socket_error(&socket)??;
                TcpStream::from(socket)
            }
            Err(e) => return Err(e.into()),
        };
        let message = query.encode();
        let length = u16::try_from(message.len()).expect("a question has less than 300 bytes");
        let message = [&length.to_be_bytes(), &*message].concat();
        let mut sent = 0;
        while sent < message.len() {
            sent += self.step(socket.as_fd(), PollFlags::OUT, end, || (&socket).write(&message[sent..]))?;
        }
        let mut length = [0; 2];
        self.read_whole(&mut socket, &mut length, end)?;
        let mut answer = vec![0; u16::from_be_bytes(length).into()];
        self.read_whole(&mut socket, &mut answer, end)?;
        Ok(query.reply(&answer).unwrap_or(Reply::Garbled("over TCP it is one to another question")))
    }

    fn read_whole(&self, socket: &mut TcpStream, buffer: &mut [u8], end: Instant) -> Result<(), Stop> {
        let mut had = 0;
        while had < buffer.len() {
            had += self.step(socket.as_fd(), PollFlags::IN, end, || (&*socket).read(&mut buffer[had..]))?;
        }
        Ok(())
    }

    /// Reads or writes some bytes, waiting until it can be done. None is the end of the connection.
    fn step(
        &self,
        socket: BorrowedFd<'_>,
        ready: PollFlags,
        end: Instant,
        mut step: impl FnMut() -> io::Result<usize>,
    ) -> Result<usize, Stop> {
        loop {
            match step() {
                Ok(0) => return Err(Stop::Failed(io::Error::other("connection closed by the server"))),
                Ok(length) => return Ok(length),
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                Err(e) if e.kind() == ErrorKind::WouldBlock => self.wait(&[(socket, ready)], end)?,
                Err(e) => return Err(Stop::Failed(e)),
            }
        }
    }

    fn wait_for_messages(&self, end: Instant) -> Result<(), Stop> {
        let sockets = self.lines.iter().filter_map(|line| line.socket.as_ref());
        let sockets: Vec<_> = sockets.map(|socket| (socket.as_fd(), PollFlags::IN)).collect();
        self.wait(&sockets, end)
    }

    /// Waits until one of the sockets is ready, serving the loop meanwhile.
    fn wait(&self, sockets: &[(BorrowedFd<'_>, PollFlags)], end: Instant) -> Result<(), Stop> {
        let mut polled: Vec<PollFd<'_>> =
            sockets.iter().map(|(socket, ready)| PollFd::from_borrowed_fd(*socket, *ready)).collect();
        polled.extend(self.wake.map(|wake| PollFd::from_borrowed_fd(wake.fd(), PollFlags::IN)));
        loop {
            if self.wake.is_some_and(Wake::woken) {
                return Err(Stop::Aborted);
            }
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(Stop::Late);
            }
            let left = Timespec::try_from(left).expect("a lookup takes seconds");
            match poll(&mut polled, Some(&left)) {
                Ok(_) if polled[..sockets.len()].iter().any(|fd| !fd.revents().is_empty()) => return Ok(()),
                Ok(_) | Err(Errno::INTR) => {}
                Err(e) => return Err(e.into()),
            }
        }
    }
}

impl Line {
    fn socket(&mut self) -> io::Result<&UdpSocket> {
        if self.socket.is_none() {
            let any = match self.server {
                SocketAddr::V4(_) => SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0)),
                SocketAddr::V6(_) => SocketAddr::from((Ipv6Addr::UNSPECIFIED, 0)),
            };
            let socket = UdpSocket::bind(any)?;
            socket.set_nonblocking(true)?;
            // From then on the kernel drops what others send, and says if nobody listens there.
            socket.connect(self.server)?;
            self.socket = Some(socket);
        }
        Ok(self.socket.as_ref().expect("opened above"))
    }
}

impl Question {
    fn is_open_to(&self, line: usize) -> bool {
        self.answer.is_none() && self.troubles[line].is_none()
    }
}

impl From<Errno> for Stop {
    fn from(error: Errno) -> Stop {
        Stop::Failed(error.into())
    }
}
