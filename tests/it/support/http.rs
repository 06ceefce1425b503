//! Small servers of the tests: one answers, one never does, one holds requests back.

use std::io::{BufReader, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::{self, JoinHandle};

use super::http_message::Head;
use super::{LIMIT, wait_until};

/// Answers every request with the same text.
pub struct FixedBody {
    acceptor: Acceptor,
    served: Arc<AtomicUsize>,
}

impl FixedBody {
    pub fn start(body: &str) -> FixedBody {
        let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}", body.len());
        let served = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&served);
        let acceptor = Acceptor::start(move |mut client| {
            if Head::read(&mut BufReader::new(&client)).is_ok() && client.write_all(answer.as_bytes()).is_ok() {
                count.fetch_add(1, Ordering::Relaxed);
            }
        });
        FixedBody { acceptor, served }
    }

    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.acceptor.port)
    }

    /// How many requests it has answered.
    pub fn served(&self) -> usize {
        self.served.load(Ordering::Relaxed)
    }
}

/// A server that answers every request with what `answer` makes of the request: status and body.
pub fn answering(answer: impl Fn(&str) -> (u16, String) + Send + 'static) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("some port is free");
    let address = listener.local_addr().expect("a bound socket has an address");
    thread::spawn(move || {
        for connection in listener.incoming() {
            let mut connection = connection.expect("a listener accepts");
            let mut reader = BufReader::new(&connection);
            let request = Head::read(&mut reader).and_then(|head| Ok((head.text(), head.body(&mut reader)?)));
            // A client that has gone away needs no answer.
            let Ok((head, body)) = request else { continue };
            let (status, body) = answer(&(head + &String::from_utf8_lossy(&body)));
            let head = format!("HTTP/1.1 {status} X\r\nConnection: close\r\nContent-Length: {}\r\n\r\n", body.len());
            let _ = connection.write_all((head + &body).as_bytes());
        }
    });
    format!("http://{address}")
}

/// A server that begins its answers and sends a byte in each chunk of them, as fast as it can.
pub fn dripping() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("some port is free");
    let address = listener.local_addr().expect("a bound socket has an address");
    thread::spawn(move || {
        for connection in listener.incoming() {
            thread::spawn(move || {
                let mut connection = connection.expect("a listener accepts");
                let _ = connection.set_nodelay(true);
                let _ = connection.read(&mut [0; 4096]);
                let head =
                    "HTTP/1.1 200 OK\r\nX-Etcd-Cluster-Id: 1\r\nX-Etcd-Index: 1\r\nTransfer-Encoding: chunked\r\n\r\n";
                let mut sent = connection.write_all(format!("{head}1\r\n{{\r\n").as_bytes());
                while sent.is_ok() {
                    sent = connection.write_all(b"1\r\n \r\n");
                }
            });
        }
    });
    format!("http://{address}")
}

/// Takes connections and never says a word: a server that hangs with its kernel alive.
pub struct Silent {
    listener: TcpListener,
}

impl Silent {
    pub fn start() -> Silent {
        let listener = TcpListener::bind(("127.0.0.1", 0)).expect("some port is free");
        // So that waiting for a connection can have a deadline.
        listener.set_nonblocking(true).expect("a bound socket takes options");
        Silent { listener }
    }

    pub fn url(&self) -> String {
        let address = self.listener.local_addr().expect("a bound socket has an address");
        format!("http://{address}")
    }

    /// Those that have connected and that nobody asked about. They stay open while the result lives: a client that is let
    /// go fails and connects anew.
    pub fn connections(&self) -> Vec<TcpStream> {
        std::iter::from_fn(|| self.listener.accept().ok()).map(|(client, _)| client).collect()
    }

    /// Returns when somebody has sent a request; its connection stays open while the result lives.
    pub fn request(&self) -> TcpStream {
        let mut client = None;
        wait_until("somebody connects", LIMIT, || {
            client = self.listener.accept().ok();
            client.is_some()
        });
        let (client, _) = client.expect("waited for");
        client.set_nonblocking(false).expect("an accepted socket takes options");
        client.set_read_timeout(Some(LIMIT)).expect("the limit is not zero");
        Head::read(&mut BufReader::new(&client)).expect("a request comes");
        client
    }
}

/// Passes bytes on to another server, but holds back every request to one path until told otherwise.
pub struct Proxy {
    acceptor: Acceptor,
    gate: Arc<Gate>,
}

#[derive(Default)]
struct Gate {
    state: Mutex<GateState>,
    changed: Condvar,
}

#[derive(Default)]
struct GateState {
    open: bool,
    waiting: usize,
}

impl Proxy {
    /// A proxy before 127.0.0.1:`port` that holds back requests to `held`.
    pub fn start(port: u16, held: &'static str) -> Proxy {
        let gate = Arc::new(Gate::default());
        let inner = Arc::clone(&gate);
        let acceptor = Acceptor::start(move |client| {
            // A connection that breaks is what a proxy's user sees anyway.
            let _ = pass_on(client, port, held, &inner);
        });
        Proxy { acceptor, gate }
    }

    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.acceptor.port)
    }

    /// Whether a request is being held back.
    pub fn holds_one(&self) -> bool {
        self.gate.state.lock().unwrap_or_else(PoisonError::into_inner).waiting > 0
    }

    /// Lets everything through from now on.
    pub fn open(&self) {
        self.gate.state.lock().unwrap_or_else(PoisonError::into_inner).open = true;
        self.gate.changed.notify_all();
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.open();
    }
}

fn pass_on(mut client: TcpStream, port: u16, held: &str, gate: &Gate) -> std::io::Result<()> {
    let mut server = TcpStream::connect(("127.0.0.1", port))?;
    let (mut answers, mut back) = (server.try_clone()?, client.try_clone()?);
    thread::spawn(move || {
        // Ends with either side; the other is told by the shutdown.
        let _ = std::io::copy(&mut answers, &mut back);
        let _ = back.shutdown(Shutdown::Both);
    });
    // One read gives the beginning of a request: a client writes its head at once and waits for the answer.
    let mut buffer = [0; 16 * 1024];
    loop {
        let length = client.read(&mut buffer)?;
        if length == 0 {
            return server.shutdown(Shutdown::Both);
        }
        if buffer[..length].starts_with(format!("POST {held} ").as_bytes()) {
            let mut state = gate.state.lock().unwrap_or_else(PoisonError::into_inner);
            state.waiting += 1;
            while !state.open {
                state = gate.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
            }
            state.waiting -= 1;
        }
        server.write_all(&buffer[..length])?;
    }
}

/// Accepts on a free port and serves every connection in a thread of its own until dropped.
struct Acceptor {
    port: u16,
    stopping: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Acceptor {
    fn start(serve: impl Fn(TcpStream) + Send + Sync + 'static) -> Acceptor {
        let listener = TcpListener::bind(("127.0.0.1", 0)).expect("some port is free");
        let port = listener.local_addr().expect("a bound socket has an address").port();
        let stopping = Arc::new(AtomicBool::new(false));
        let stop = Arc::clone(&stopping);
        let serve = Arc::new(serve);
        let thread = thread::spawn(move || {
            for client in listener.incoming() {
                if stop.load(Ordering::Relaxed) {
                    return;
                }
                let serve = Arc::clone(&serve);
                thread::spawn(move || serve(client.expect("a listener accepts")));
            }
        });
        Acceptor { port, stopping, thread: Some(thread) }
    }
}

impl Drop for Acceptor {
    fn drop(&mut self) {
        self.stopping.store(true, Ordering::Relaxed);
        // One more connection lets the thread see the flag; without it there is nothing to join.
        if TcpStream::connect(("127.0.0.1", self.port)).is_ok()
            && let Some(thread) = self.thread.take()
        {
            let _ = thread.join();
        }
    }
}
