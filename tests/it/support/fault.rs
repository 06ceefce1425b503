//! A proxy that acts as a bad network on demand: it cuts, delays, splits or silently drops bytes. It does not interpret
//! the bytes, so that TLS passes too.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use super::{LIMIT, Moment, wait_until};

/// What the proxy does to the bytes that come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    None,
    /// Passes them on one by one.
    Tears,
    /// Holds each piece back for a moment.
    Delays,
    /// Takes them and passes nothing on, in either direction, and no ends either: a half-open connection. New connections
    /// are taken and come to nothing. Connections that were silent once stay so.
    Drops,
    /// Takes no connection any more: it is closed at once.
    Refuses,
}

pub struct FaultProxy {
    port: u16,
    shared: Arc<Shared>,
}

struct Shared {
    target: u16,
    state: Mutex<State>,
    changed: Condvar,
}

struct State {
    fault: Fault,
    /// All that were ever taken, to be cut.
    connections: Vec<(TcpStream, TcpStream)>,
    /// Something was dropped since the fault was set.
    dropped: bool,
    stopping: bool,
}

impl FaultProxy {
    /// A proxy before 127.0.0.1:`target`.
    pub fn start(target: u16) -> FaultProxy {
        let listener = TcpListener::bind(("127.0.0.1", 0)).expect("some port is free");
        let port = listener.local_addr().expect("a bound socket has an address").port();
        let state = State { fault: Fault::None, connections: Vec::new(), dropped: false, stopping: false };
        let shared = Arc::new(Shared { target, state: Mutex::new(state), changed: Condvar::new() });
        let inner = Arc::clone(&shared);
        thread::spawn(move || {
            for client in listener.incoming() {
                if inner.state().stopping {
                    return;
                }
                inner.accept(&client.expect("a listener accepts"));
            }
        });
        FaultProxy { port, shared }
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    /// From now on, for the connections that are open too.
    pub fn set(&self, fault: Fault) {
        let mut state = self.shared.state();
        (state.fault, state.dropped) = (fault, false);
        drop(state);
        self.shared.changed.notify_all();
    }

    /// Whether something was dropped since the fault was set.
    pub fn has_dropped(&self) -> bool {
        self.shared.state().dropped
    }

    /// Cuts all connections as a router does that has forgotten them: both sides see a reset or an end.
    pub fn cut(&self) {
        for (client, server) in self.shared.state().connections.drain(..) {
            // They may have ended already.
            let _ = client.shutdown(Shutdown::Both);
            let _ = server.shutdown(Shutdown::Both);
        }
        self.shared.changed.notify_all();
    }
}

impl FaultProxy {
    /// Makes the trouble of a storm that a network can make.
    pub fn act(&self, moment: Moment) {
        match moment {
            Moment::Cut => self.cut(),
            Moment::Tear => self.set(Fault::Tears),
            Moment::Freeze => {
                self.set(Fault::Drops);
                wait_until("something was dropped", LIMIT, || self.has_dropped());
            }
            Moment::Calm => {
                self.set(Fault::None);
                // Connections that were silent once stay so.
                self.cut();
            }
            Moment::Change(_) | Moment::Restart | Moment::Quiet(_) => {}
        }
    }
}

impl Drop for FaultProxy {
    fn drop(&mut self) {
        self.shared.state().stopping = true;
        self.cut();
        // One more connection lets the thread see that it is to end.
        let _ = TcpStream::connect(("127.0.0.1", self.port));
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn accept(self: &Arc<Shared>, client: &TcpStream) {
        let mut state = self.state();
        if state.fault == Fault::Refuses {
            return;
        }
        let Ok(server) = TcpStream::connect(("127.0.0.1", self.target)) else {
            return;
        };
        for socket in [client, &server] {
            socket.set_nodelay(true).expect("a connected socket takes options");
        }
        let clone = |socket: &TcpStream| socket.try_clone().expect("a descriptor can be duplicated");
        for (from, to) in [(clone(client), clone(&server)), (clone(&server), clone(client))] {
            let shared = Arc::clone(self);
            thread::spawn(move || shared.pass_on(from, to));
        }
        state.connections.push((clone(client), server));
    }

    /// Ends with either side; the other one is told.
    fn pass_on(&self, mut from: TcpStream, mut to: TcpStream) {
        let mut buffer = [0; 16 * 1024];
        let mut silent = false;
        loop {
            let length = from.read(&mut buffer).unwrap_or(0);
            let mut state = self.state();
            silent |= state.fault == Fault::Drops;
            if silent {
                // Nothing of it gets through, its end neither, until the connection is cut.
                if length == 0 {
                    return;
                }
                state.dropped = true;
                continue;
            }
            let sent = match state.fault {
                Fault::Tears => {
                    drop(state);
                    buffer[..length].iter().try_for_each(|byte| to.write_all(&[*byte]))
                }
                Fault::Delays => {
                    // Ends early where the fault does.
                    let a_moment = Duration::from_millis(50);
                    let delays = |state: &mut State| state.fault == Fault::Delays;
                    state = self
                        .changed
                        .wait_timeout_while(state, a_moment, delays)
                        .unwrap_or_else(PoisonError::into_inner)
                        .0;
                    drop(state);
                    to.write_all(&buffer[..length])
                }
                _ => {
                    drop(state);
                    to.write_all(&buffer[..length])
                }
            };
            if length == 0 || sent.is_err() {
                let _ = to.shutdown(Shutdown::Both);
                let _ = from.shutdown(Shutdown::Both);
                return;
            }
        }
    }
}
