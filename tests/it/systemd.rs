//! The messages to systemd, on a real datagram socket, and the unit file, read by systemd-analyze.

use std::io::ErrorKind;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use rustix::process::Signal;
use rustix::time::{ClockId, clock_gettime};

use crate::running::on_etcd;
use crate::support::{Invocation, LIMIT, Silent, TempDir, remco, wait_until};

/// What listens in systemd's place.
struct Supervisor {
    socket: UnixDatagram,
    name: String,
}

impl Supervisor {
    /// On a socket in a folder.
    fn at(dir: &TempDir) -> Supervisor {
        let path = dir.at("notify");
        let socket = UnixDatagram::bind(&path).expect("the path is free and short");
        Supervisor { socket, name: path.to_string_lossy().into_owned() }.patient()
    }

    /// On a name that is in no file system.
    fn in_the_abstract() -> Supervisor {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("remco-it-notify-{}-{number}", std::process::id());
        let address = SocketAddr::from_abstract_name(&name).expect("the name is short");
        let socket = UnixDatagram::bind_addr(&address).expect("the name is free");
        Supervisor { socket, name: format!("@{name}") }.patient()
    }

    fn patient(self) -> Supervisor {
        self.socket.set_read_timeout(Some(LIMIT)).expect("the limit is not zero");
        self
    }

    fn hears(&self, invocation: Invocation) -> Invocation {
        invocation.env("NOTIFY_SOCKET", &self.name)
    }

    /// The next message.
    fn next(&self) -> String {
        let mut buffer = [0; 4096];
        let length = self.socket.recv(&mut buffer).unwrap_or_else(|e| panic!("no message comes: {e}"));
        String::from_utf8(buffer[..length].to_vec()).expect("messages are text")
    }

    /// The next message that has this line; those before it are gone.
    fn next_with(&self, line: &str) -> String {
        loop {
            let message = self.next();
            if message.lines().any(|l| l == line) {
                return message;
            }
        }
    }

    /// Panics if a message comes within this time.
    #[track_caller]
    fn hears_nothing_for(&self, time: Duration) {
        self.socket.set_read_timeout(Some(time)).expect("the time is not zero");
        let mut buffer = [0; 4096];
        let heard = self.socket.recv(&mut buffer).map(|length| String::from_utf8_lossy(&buffer[..length]).into_owned());
        self.socket.set_read_timeout(Some(LIMIT)).expect("the limit is not zero");
        assert_eq!(heard.map_err(|e| e.kind()), Err(ErrorKind::WouldBlock));
    }

    /// What has been heard by now and nobody asked about.
    fn rest(&self) -> Vec<String> {
        self.socket.set_nonblocking(true).expect("a socket takes options");
        let mut buffer = [0; 4096];
        let all = std::iter::from_fn(|| self.socket.recv(&mut buffer).ok().map(|n| buffer[..n].to_vec()))
            .map(|message| String::from_utf8(message).expect("messages are text"))
            .collect();
        self.socket.set_nonblocking(false).expect("a socket takes options");
        all
    }
}

/// A resource that renders `/greeting` of a data file to `NAME.out`.
fn resource(name: &str, data: &str) -> String {
    format!(
        r#"
[[resource]]
name = "{name}"
[[resource.template]]
src = "app.tmpl"
dst = "{name}.out"
reload_cmd = "env | grep -E '^(NOTIFY_SOCKET|WATCHDOG_)' | wc -l > variables"
[resource.backend.file]
filepath = "{data}"
keys = ["/"]
watch = true
"#
    )
}

fn folder(resources: &str) -> TempDir {
    let dir = TempDir::new();
    dir.write("app.tmpl", "{{ getv(\"/greeting\") }}\n");
    dir.write("data.json", r#"{"greeting": "hello"}"#);
    configure(&dir, resources);
    dir
}

fn configure(dir: &TempDir, resources: &str) {
    dir.replace("config.toml", format!("log_level = \"debug\"\n{resources}"));
}

fn monotonic_usec() -> i128 {
    let now = clock_gettime(ClockId::Monotonic);
    i128::from(now.tv_sec) * 1_000_000 + i128::from(now.tv_nsec) / 1000
}

#[test]
fn ready_comes_when_every_resource_is_in_place() {
    let dir = folder(&(resource("quick", "data.json") + &resource("late", "late.json")));
    let systemd = Supervisor::at(&dir);
    let program = systemd.hears(remco(&dir)).start();
    systemd.next_with("STATUS=2 resources, first update under way: late; failing: late");
    assert!(dir.holds("quick.out", "hello\n"));
    let heard = systemd.rest();
    assert!(heard.iter().all(|message| !message.contains("READY")), "{heard:?}");

    dir.replace("late.json", r#"{"greeting": "at last"}"#);
    systemd.next_with("READY=1");
    assert!(dir.holds("late.out", "at last\n"), "told after it, not before");
    systemd.next_with("STATUS=2 resources in place");

    program.signal(Signal::TERM);
    systemd.next_with("STOPPING=1");
    program.stop();
}

/// A name in the abstract namespace, as systemd uses in containers.
#[test]
fn a_hangup_is_told_from_its_beginning_to_its_end() {
    let dir = folder(&resource("app", "data.json"));
    let systemd = Supervisor::in_the_abstract();
    let program = systemd.hears(remco(&dir)).start();
    systemd.next_with("READY=1");

    configure(&dir, &(resource("app", "data.json") + &resource("late", "late.json")));
    let before = monotonic_usec();
    program.signal(Signal::HUP);
    let message = systemd.next_with("RELOADING=1");
    let told = message.lines().find_map(|line| line.strip_prefix("MONOTONIC_USEC=")).expect("it has a time");
    let told: i128 = told.parse().expect("a time is a number");
    assert!((before..=monotonic_usec()).contains(&told), "{told} is not between");
    systemd.next_with("STATUS=2 resources, first update under way: late; failing: late");
    dir.replace("late.json", r#"{"greeting": "at last"}"#);
    systemd.next_with("READY=1");
    assert!(dir.holds("late.out", "at last\n"));

    // The old one stays in force, and everything in place.
    configure(&dir, "[[resource]");
    program.signal(Signal::HUP);
    systemd.next_with("RELOADING=1");
    systemd.next_with("READY=1");
    program.wait_for_log("invalid config");
    program.stop();
    systemd.next_with("STOPPING=1");
}

/// Its files are in place: what starts again is the child.
#[test]
fn a_child_that_rests_holds_back_no_ready() {
    let configuration = resource("app", "data.json") + "[resource.exec]\ncommand = \"sh -c 'exit 7'\"\n";
    let dir = folder(&configuration);
    let systemd = Supervisor::at(&dir);
    let program = systemd.hears(remco(&dir)).start();
    systemd.next_with("READY=1");
    systemd.next_with("STATUS=1 resource in place; failing: app");
    for text in [configuration.as_str(), "[[resource]"] {
        configure(&dir, text);
        program.signal(Signal::HUP);
        systemd.next_with("RELOADING=1");
        let status = |message: &str| message.starts_with("STATUS=1 resource in place");
        let next = std::iter::repeat_with(|| systemd.next()).find(|message| !status(message));
        assert_eq!(next.as_deref(), Some("READY=1"));
    }
    program.stop();
}

/// systemd drops what is too long, and a line of its own would be a message.
#[test]
fn many_resources_are_one_short_line() {
    let late = |n: usize| {
        resource(&format!("late{n}\\nREADY=1 {}", "x".repeat(100)), "late.json")
            .replace("dst = \"late", &format!("dst = \"{n}"))
    };
    let dir = folder(&(0..60).map(late).collect::<String>());
    let systemd = Supervisor::at(&dir);
    let program = systemd.hears(remco(&dir)).start();
    let status = std::iter::repeat_with(|| systemd.next()).find(|message| message.contains("; failing: "));
    let status = status.expect("it goes on for ever");
    assert!(status.starts_with("STATUS=60 resources, first update under way: late0 READY=1 xxx"), "{status}");
    assert!(status.contains(" and 57 more; failing: ") && status.lines().count() == 1, "{status}");
    assert_eq!(systemd.rest().iter().find(|message| message.lines().any(|line| line == "READY=1")), None);
    program.stop();
}

/// The configuration is in force, and each resource is rendered when it is its turn: one turn for all of them could be
/// longer than the watchdog waits.
#[test]
fn a_hangup_is_over_before_everything_is_rendered_again() {
    let dir = folder(&(resource("one", "data.json") + &resource("two", "data.json")));
    let program = remco(&dir).start();
    wait_until("the first renders", LIMIT, || dir.holds("one.out", "hello\n") && dir.holds("two.out", "hello\n"));
    dir.replace("app.tmpl", "{{ getv(\"/greeting\") }}, world\n");
    configure(
        &dir,
        &(format!("pid_file = \"remco.pid\"\n{}{}", resource("one", "data.json"), resource("two", "data.json"))),
    );
    program.signal(Signal::HUP);
    wait_until("again", LIMIT, || dir.holds("one.out", "hello, world\n") && dir.holds("two.out", "hello, world\n"));
    let log = program.stop();
    let adopted = log.iter().position(|line| line.contains("creating pid file")).expect("it is new");
    let compiled = log.iter().filter(|line| line.contains("compiling source template")).count();
    let after = log[adopted..].iter().filter(|line| line.contains("compiling source template")).count();
    assert_eq!((compiled, after), (4, 2), "{log:#?}");
}

#[test]
fn a_one_shot_run_is_ready_and_stops() {
    let dir = folder(&resource("app", "data.json"));
    let systemd = Supervisor::at(&dir);
    systemd.hears(remco(&dir)).once().expect_code(0);
    let heard = systemd.rest();
    let place = |line: &str| heard.iter().position(|message| message.lines().any(|l| l == line));
    assert!(place("READY=1").is_some() && place("READY=1") < place("STOPPING=1"), "{heard:?}");
}

/// systemd would take the commands' word for ours, with NotifyAccess=all.
#[test]
fn commands_do_not_get_the_socket() {
    let dir = folder(&resource("app", "data.json"));
    let systemd = Supervisor::at(&dir);
    let invocation = systemd.hears(remco(&dir)).env("WATCHDOG_USEC", "60000000");
    let program = invocation.env("WATCHDOG_PID", "1").start();
    wait_until("the command has counted", LIMIT, || dir.holds("variables", "0\n"));
    program.stop();
}

/// A server that does not answer holds nothing up. A loop that stands still is not spoken for.
#[test]
fn the_watchdog_hears_a_loop_that_goes_on_and_no_other() {
    let silent = Silent::start();
    let etcd = on_etcd("app", &silent.url()) + "request_timeout = 3600\n";
    let dir = folder(&etcd);
    let systemd = Supervisor::at(&dir);
    let program = systemd.hears(remco(&dir)).env("WATCHDOG_USEC", "20000").start();
    let _unanswered = silent.request();
    (0..5).for_each(|_| drop(systemd.next_with("WATCHDOG=1")));
    program.signal(Signal::STOP);
    let _told_before = systemd.rest();
    // Thirty times what it would be told in. A busy machine sends less, not more.
    systemd.hears_nothing_for(Duration::from_millis(300));
    program.signal(Signal::CONT);
    (0..5).for_each(|_| drop(systemd.next_with("WATCHDOG=1")));
    program.stop();
}

#[test]
fn the_watchdog_of_another_process_hears_nothing() {
    let dir = folder(&resource("app", "data.json"));
    let systemd = Supervisor::at(&dir);
    let invocation = systemd.hears(remco(&dir)).env("WATCHDOG_USEC", "1000");
    let program = invocation.env("WATCHDOG_PID", "1").start();
    systemd.next_with("READY=1");
    program.stop();
    let heard = systemd.rest();
    assert!(heard.iter().all(|message| !message.contains("WATCHDOG")), "{heard:?}");
}

#[test]
fn a_socket_that_is_none_holds_up_nothing() {
    let dir = folder(&resource("app", "data.json"));
    for (name, why) in [
        ("vsock:2:1234", Some("failed to use NOTIFY_SOCKET `vsock:2:1234`: neither a path nor an abstract name")),
        ("/nowhere/notify", Some("failed to use NOTIFY_SOCKET `/nowhere/notify`: no such file or directory")),
        ("/dev/null", Some("failed to use NOTIFY_SOCKET `/dev/null`: connection refused")),
        ("", None),
    ] {
        let finished = remco(&dir).env("NOTIFY_SOCKET", name).once().expect_code(0);
        match why {
            Some(why) => finished.expect_log(why),
            None => finished.expect_no_log("NOTIFY_SOCKET"),
        };
    }
}

/// With the binary's place in the file changed to where it is here, as systemd looks for it.
#[test]
fn the_unit_file_is_as_systemd_wants_it() {
    let dir = TempDir::new();
    let unit = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/packaging/remco.service"));
    let unit = unit.expect("the project has one").replace("/usr/local/bin/remco", env!("CARGO_BIN_EXE_remco"));
    dir.write("remco.service", unit);
    let verify = Command::new("systemd-analyze").args(["verify", "--man=no"]).arg(dir.at("remco.service")).output();
    let Ok(verify) = verify else {
        // Straight to the descriptor: the harness shows what passing tests print only on request.
        let _ = std::io::Write::write_all(&mut std::io::stderr(), b"skipped: there is no systemd-analyze here\n");
        return;
    };
    let said = String::from_utf8_lossy(&verify.stderr);
    let of_ours: Vec<&str> = said.lines().filter(|line| line.contains("remco")).collect();
    // What other units of this machine are like is not ours.
    assert!(of_ours.is_empty(), "{said}");
}
