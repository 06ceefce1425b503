//! A real ZooKeeper with its own ports and data, alone or as one of three, and a quick client that writes over one
//! connection. The client shares no code with the program, so that a mistake there shows here.

use std::fs;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::OnceLock;
use std::thread;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

use super::{Authority, LIMIT, Pair, TempDir, free_port, wait_until};

/// Debian's package has the program in it, and its manifest names what else is needed.
const JAR: &str = "/usr/share/java/zookeeper.jar";

/// What it is started with. The manifest of Debian's package lacks two files that TLS needs.
const CLASSES: &str =
    "/usr/share/java/zookeeper.jar:/usr/share/java/netty-codec.jar:/usr/share/java/netty-resolver.jar";

/// Ends the server with the shell's standard input: nothing outlives the tests, however they end.
const GUARD: &str = "log=$1; shift; \"$@\" >>\"$log\" 2>&1 </dev/null & echo $!; read -r _; kill -9 $!; wait";

pub struct Zookeeper {
    dir: TempDir,
    port: u16,
    /// The port with TLS.
    secure: Option<u16>,
    process: Option<Running>,
}

struct Running {
    shell: Child,
    /// Ends the server when it is dropped.
    _end: ChildStdin,
    java: Pid,
}

/// Why there is none on this machine; `None`: there is.
pub fn missing_zookeeper() -> Option<&'static str> {
    let java = Command::new("java").arg("-version").stdout(Stdio::null()).stderr(Stdio::null()).status();
    match java {
        _ if !Path::new(JAR).exists() => {
            Some("there is no /usr/share/java/zookeeper.jar here (Debian's package zookeeper)")
        }
        Ok(status) if status.success() => None,
        _ => Some("there is no java here"),
    }
}

impl Zookeeper {
    /// One for all tests that neither stop it nor read what others wrote, with TLS by this authority. `None`, with a line that
    /// says why: there is none on this machine.
    pub fn shared(test: &str) -> Option<(&'static Zookeeper, &'static Authority)> {
        static SHARED: OnceLock<(Zookeeper, Authority)> = OnceLock::new();
        Zookeeper::is_there(test).then(|| {
            let (server, authority) = SHARED.get_or_init(|| {
                let authority = Authority::new();
                let server = Zookeeper::start(Some((&authority, &authority.server())));
                (server, authority)
            });
            (server, authority)
        })
    }

    /// Whether this machine can have one. It says so where not.
    pub fn is_there(test: &str) -> bool {
        let missing = missing_zookeeper();
        if let Some(reason) = missing {
            // Past the capture of output: a test that was skipped is to be seen.
            let _ = writeln!(io::stderr(), "test zookeeper::{test} ... skipped: {reason}");
        }
        missing.is_none()
    }

    /// Starts an empty one; returns when it answers.
    pub fn start(tls: Option<(&Authority, &Pair)>) -> Zookeeper {
        let mut server = Zookeeper::new(tls, "");
        server.restart();
        server
    }

    /// Three that elect a leader; returns when all answer.
    pub fn ensemble() -> Vec<Zookeeper> {
        let lines: String =
            (1..=3).map(|number| format!("server.{number}=127.0.0.1:{}:{}\n", free_port(), free_port())).collect();
        let mut servers: Vec<Zookeeper> = (1..=3)
            .map(|number| {
                let server = Zookeeper::new(None, &format!("initLimit=20\nsyncLimit=10\n{lines}"));
                fs::create_dir_all(server.dir.at("data")).expect("the folder can be written");
                server.dir.write("data/myid", number.to_string());
                server
            })
            .collect();
        servers.iter_mut().for_each(Zookeeper::spawn);
        servers.iter_mut().for_each(Zookeeper::await_health);
        servers
    }

    fn new(tls: Option<(&Authority, &Pair)>, lines: &str) -> Zookeeper {
        let dir = TempDir::new();
        let (port, data) = (free_port(), dir.at("data").display().to_string());
        let mut config = format!(
            "dataDir={data}\nclientPort={port}\nclientPortAddress=127.0.0.1\ntickTime=500\nadmin.enableServer=false\n\
             maxClientCnxns=0\n4lw.commands.whitelist=srvr\n{lines}"
        );
        let secure = tls.map(|(authority, pair)| {
            let read = |path: &Path| fs::read_to_string(path).expect("openssl has written it");
            // It reads PKCS#8 alone, with the certificate behind the key.
            authority.openssl("pkcs8 -topk8 -nocrypt -in server.key -out server.pkcs8");
            dir.write("server.pem", format!("{}{}", read(&authority.dir().at("server.pkcs8")), read(&pair.cert)));
            let (port, own, ca) = (free_port(), dir.at("server.pem"), authority.cert());
            config += &format!(
                "secureClientPort={port}\nsecureClientPortAddress=127.0.0.1\n\
                 serverCnxnFactory=org.apache.zookeeper.server.NettyServerCnxnFactory\n\
                 ssl.keyStore.location={}\nssl.trustStore.location={}\nssl.clientAuth=want\n",
                own.display(),
                ca.display()
            );
            port
        });
        dir.write("zoo.cfg", config);
        Zookeeper { dir, port, secure, process: None }
    }

    /// Starts it, also after [`Zookeeper::kill`], on the same ports and data; returns when it answers.
    pub fn restart(&mut self) {
        self.spawn();
        self.await_health();
    }

    fn spawn(&mut self) {
        assert!(self.process.is_none(), "it runs already");
        let mut shell = Command::new("sh")
            .args(["-c", GUARD, "zookeeper"])
            .arg(self.dir.at("log"))
            // What makes it start soon, and what keeps a busy disk out of the tests.
            .args(["java", "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-Xmx192m", "-Dzookeeper.forceSync=no"])
            .args(["-cp", CLASSES, "org.apache.zookeeper.server.quorum.QuorumPeerMain"])
            .arg(self.dir.at("zoo.cfg"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("there is a shell");
        let mut line = String::new();
        let mut stdout = BufReader::new(shell.stdout.take().expect("it is piped"));
        stdout.read_line(&mut line).expect("the shell says the id of the server");
        let java = line.trim().parse().ok().and_then(Pid::from_raw).expect("the shell says the id of the server");
        let end = shell.stdin.take().expect("it is piped");
        self.process = Some(Running { shell, _end: end, java });
    }

    fn await_health(&mut self) {
        wait_until("zookeeper answers", LIMIT, || {
            let shell = &mut self.process.as_mut().expect("it runs").shell;
            if let Some(status) = shell.try_wait().expect("the shell is our child") {
                panic!("zookeeper ended with {status}:\n{}", self.dir.read("log").unwrap_or_default());
            }
            Zookeeper::mode(self.port).is_some_and(|text| text.contains("Mode:"))
        });
    }

    /// What a server says of itself.
    fn mode(port: u16) -> Option<String> {
        let mut stream = TcpStream::connect(("127.0.0.1", port)).ok()?;
        stream.set_read_timeout(Some(Duration::from_secs(2))).ok()?;
        stream.write_all(b"srvr").ok()?;
        let mut text = String::new();
        stream.read_to_string(&mut text).ok()?;
        Some(text)
    }

    /// Kills it as a power cut would. What it has acknowledged stays in its data.
    pub fn kill(&mut self) {
        let Running { mut shell, _end, .. } = self.process.take().expect("it runs");
        drop(_end);
        shell.wait().expect("the shell is our child");
    }

    /// Stops it with its kernel alive: its connections stay open and nothing answers.
    pub fn freeze(&self) {
        self.signal(Signal::STOP);
    }

    /// Lets it go on.
    pub fn thaw(&self) {
        self.signal(Signal::CONT);
    }

    fn signal(&self, signal: Signal) {
        let java = self.process.as_ref().expect("it runs").java;
        kill_process(java, signal).expect("it runs");
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    /// What goes into `nodes`.
    pub fn node(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// What goes into `nodes` for TLS.
    pub fn secure_node(&self) -> String {
        format!("zookeepers://127.0.0.1:{}", self.secure.expect("it has TLS"))
    }

    pub fn client(&self) -> ZookeeperClient {
        ZookeeperClient::connect(self.port)
    }
}

impl Drop for Zookeeper {
    fn drop(&mut self) {
        if self.process.is_some() {
            self.kill();
        }
    }
}

/// A session that lasts as long as its requests are less than half a minute apart.
pub struct ZookeeperClient {
    stream: TcpStream,
    number: i32,
}

/// Who may read a node.
#[derive(Clone, Copy)]
pub enum Acl {
    Everyone,
    /// The user of [`ZookeeperClient::log_in`].
    Creator,
}

impl ZookeeperClient {
    pub fn connect(port: u16) -> ZookeeperClient {
        let mut client = None;
        wait_until("zookeeper gives a session", LIMIT, || {
            client = ZookeeperClient::try_connect(port).ok();
            client.is_some()
        });
        client.expect("there is one")
    }

    fn try_connect(port: u16) -> io::Result<ZookeeperClient> {
        let stream = TcpStream::connect(("127.0.0.1", port))?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(LIMIT))?;
        let mut client = ZookeeperClient { stream, number: 0 };
        let timeout = 30_000i32.to_be_bytes();
        client.send(&[&[0; 12][..], &timeout, &[0; 8], &text(&[0; 16]), &[0]].concat())?;
        client.receive()?;
        Ok(client)
    }

    pub fn log_in(&mut self, user: &str, password: &str) {
        let credentials = text(format!("{user}:{password}").as_bytes());
        let request =
            [&(-4i32).to_be_bytes()[..], &100i32.to_be_bytes(), &[0; 4], &text(b"digest"), &credentials].concat();
        self.send(&request).expect("zookeeper is there");
        self.receive().expect("zookeeper is there");
    }

    /// Writes a node, which is made with all above it if it is not there.
    pub fn put(&mut self, path: &str, value: &str) {
        self.put_bytes(path, value.as_bytes());
    }

    pub fn put_bytes(&mut self, path: &str, value: &[u8]) {
        let set = [&text(path.as_bytes())[..], &text(value), &(-1i32).to_be_bytes()].concat();
        if self.request(5, &set).expect("zookeeper is there") != 0 {
            self.create(path, value, Acl::Everyone);
        }
    }

    /// Makes a node, with all above it.
    pub fn create(&mut self, path: &str, value: &[u8], acl: Acl) {
        for (slash, _) in path.match_indices('/').skip(1) {
            self.create_one(&path[..slash], b"", Acl::Everyone);
        }
        self.create_one(path, value, acl);
    }

    fn create_one(&mut self, path: &str, value: &[u8], acl: Acl) {
        let (scheme, id) = match acl {
            Acl::Everyone => ("world", "anyone"),
            Acl::Creator => ("auth", ""),
        };
        let acl =
            [&1i32.to_be_bytes()[..], &31i32.to_be_bytes(), &text(scheme.as_bytes()), &text(id.as_bytes())].concat();
        let create = [&text(path.as_bytes())[..], &text(value), &acl, &[0; 4]].concat();
        let code = self.request(1, &create).expect("zookeeper is there");
        assert!(matches!(code, 0 | -110), "failed to create {path}: {code}");
    }

    /// Deletes a node. Tells whether it was there and had no children.
    pub fn delete(&mut self, path: &str) -> bool {
        let delete = [&text(path.as_bytes())[..], &(-1i32).to_be_bytes()].concat();
        self.request(2, &delete).expect("zookeeper is there") == 0
    }

    fn request(&mut self, operation: i32, body: &[u8]) -> io::Result<i32> {
        self.number += 1;
        self.send(&[&self.number.to_be_bytes()[..], &operation.to_be_bytes(), body].concat())?;
        let reply = self.receive()?;
        assert_eq!(reply[..4], self.number.to_be_bytes());
        Ok(i32::from_be_bytes(reply[12..16].try_into().expect("a reply has a head")))
    }

    fn send(&mut self, frame: &[u8]) -> io::Result<()> {
        self.stream.write_all(&text(frame))
    }

    fn receive(&mut self) -> io::Result<Vec<u8>> {
        let mut length = [0; 4];
        self.stream.read_exact(&mut length)?;
        let mut frame = vec![0; u32::from_be_bytes(length) as usize];
        self.stream.read_exact(&mut frame)?;
        Ok(frame)
    }
}

/// Bytes with their length in front.
fn text(bytes: &[u8]) -> Vec<u8> {
    let length = u32::try_from(bytes.len()).expect("tests write little").to_be_bytes();
    [&length[..], bytes].concat()
}

/// A proxy that makes a server of before 3.6 of a later one: lasting watches become a request that no server knows.
pub struct OldZookeeper {
    port: u16,
}

impl OldZookeeper {
    /// A proxy before 127.0.0.1:`target`. Its threads end with their connections, and with the tests.
    pub fn start(target: u16) -> OldZookeeper {
        let listener = TcpListener::bind(("127.0.0.1", 0)).expect("some port is free");
        let port = listener.local_addr().expect("a bound socket has an address").port();
        thread::spawn(move || {
            for client in listener.incoming() {
                let client = client.expect("a listener accepts");
                let Ok(server) = TcpStream::connect(("127.0.0.1", target)) else { continue };
                let clone = |socket: &TcpStream| socket.try_clone().expect("a descriptor can be duplicated");
                let (back, to_client) = (clone(&server), clone(&client));
                thread::spawn(move || OldZookeeper::requests(client, server));
                thread::spawn(move || OldZookeeper::replies(back, to_client));
            }
        });
        OldZookeeper { port }
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    fn requests(mut client: TcpStream, mut server: TcpStream) {
        let mut length = [0; 4];
        while client.read_exact(&mut length).is_ok() {
            let mut frame = vec![0; u32::from_be_bytes(length) as usize];
            if client.read_exact(&mut frame).is_err() {
                break;
            }
            // The operation stands behind the number.
            if frame.len() > 8 && frame[4..8] == 106i32.to_be_bytes() {
                frame[4..8].copy_from_slice(&999i32.to_be_bytes());
            }
            if server.write_all(&text(&frame)).is_err() {
                break;
            }
        }
        let _ = server.shutdown(Shutdown::Both);
    }

    fn replies(mut server: TcpStream, mut client: TcpStream) {
        let _ = io::copy(&mut server, &mut client);
        let _ = client.shutdown(Shutdown::Both);
    }
}
