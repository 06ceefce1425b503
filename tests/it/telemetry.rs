//! Telemetry: the counters of a run, and each receiver with a real peer. A test without its peer is skipped.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::os::unix::net::UnixStream;
use std::process::{Child, Command, Stdio};

use rustix::fs::{FlockOperation, flock};
use rustix::process::Signal;

use crate::support::{
    Config, LIMIT, Remco, TempDir, Trace, config, free_port, program, reads, remco, skipped, wait_until,
};

/// A folder with a template and its data.
fn folder() -> TempDir {
    let dir = TempDir::new();
    dir.write("app.tmpl", "{{ getv(\"/greeting\") }}\n");
    dir.write("data.json", r#"{"greeting": "hello"}"#);
    dir
}

/// A configuration with telemetry and these lines of sinks, and one resource.
fn telemetry(sinks: &str) -> Config {
    let top = config().table("[telemetry]").set("enabled", true).set("hostname", "web1").lines(sinks);
    top.resource("app").template("app.tmpl", "app.out").file("data.json").watch()
}

fn prometheus(port: u16) -> Config {
    telemetry(&format!("sinks.prometheus.addr = \"127.0.0.1:{port}\""))
}

/// The answer to a request, with its head.
fn ask(mut stream: impl Read + Write, path: &str) -> String {
    write!(stream, "GET {path} HTTP/1.1\r\nHost: test\r\n\r\n").expect("the server reads");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an answer in time");
    answer
}

fn connect(port: u16) -> TcpStream {
    let stream = TcpStream::connect(("127.0.0.1", port)).expect("the program listens");
    stream.set_read_timeout(Some(LIMIT)).expect("a limit can be set");
    stream
}

fn get(port: u16, path: &str) -> String {
    ask(connect(port), path)
}

/// Scrapes until a line is there. Gives the whole text.
pub fn scrape_until(port: u16, line: &str) -> String {
    let mut text = String::new();
    wait_until(line, LIMIT, || {
        // Before it listens, it refuses connections.
        let Ok(stream) = TcpStream::connect(("127.0.0.1", port)) else { return false };
        stream.set_read_timeout(Some(LIMIT)).expect("a limit can be set");
        text = ask(stream, "/metrics");
        text.lines().any(|one| one == line)
    });
    text.split_once("\r\n\r\n").expect("a head and a body").1.to_owned()
}

/// Whether a command of a package is here. Says that a test is skipped where it is not.
fn is_here(command: &str) -> bool {
    let is_here = Command::new(command).arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok();
    if !is_here {
        skipped(&format!("there is no {command}"));
    }
    is_here
}

/// A server of the test, ended with it.
struct Peer(Child);

impl Drop for Peer {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn peer(command: &mut Command) -> Peer {
    Peer(command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("it is installed"))
}

/// The files and backends metrics are those of Go remco; the others are ours.
#[test]
fn names_and_types_of_one_run() {
    let (dir, port) = (folder(), free_port());
    dir.write("broken.tmpl", "{{ getv(\"/missing\") }}\n");
    let config = prometheus(port)
        .resource("checked")
        .template("app.tmpl", "refused.out")
        .set("check_cmd", "exit 3")
        .template("app.tmpl", "reloaded.out")
        .set("reload_cmd", "exit 4")
        .template("broken.tmpl", "broken.out")
        .file("data.json");
    config.write(&dir);
    let program = remco(&dir).start();
    program.wait_for_log("trying again after");
    let text = scrape_until(port, "remco_files_synced_total 1");
    let mut types: Vec<&str> = text.lines().filter_map(|line| line.strip_prefix("# TYPE remco_")).collect();
    types.sort_unstable();
    let want = [
        "backend_connected gauge",
        "backends_synced_total counter",
        "files_check_command_duration summary",
        "files_reload_command_duration summary",
        "files_stage_errors_total counter",
        "files_staged_total counter",
        "files_sync_errors_total counter",
        "files_synced_total counter",
        "files_template_execution_duration summary",
        "loop_turn_seconds summary",
        "reload_failures_total counter",
        "resource_in_sync gauge",
        "resource_last_success_timestamp_seconds gauge",
        "template_errors_total counter",
        "up gauge",
        "web1_runtime_cpu_seconds gauge",
        "web1_runtime_open_fds gauge",
        "web1_runtime_resident_bytes gauge",
    ];
    assert_eq!(types, want);
    let has = |line: &str| assert!(text.lines().any(|one| one == line), "no {line:?} in:\n{text}");
    has("remco_backends_synced_total{name=\"file\"} 2");
    has("remco_resource_in_sync{resource=\"app\"} 1");
    has("remco_resource_in_sync{resource=\"checked\"} 0");
    has("remco_backend_connected{backend=\"file\",resource=\"checked\"} 1");
    has("remco_up 1");

    let health = get(port, "/healthz");
    assert!(health.starts_with("HTTP/1.1 503 ") && health.ends_with("app: in place\nchecked: failing\n"), "{health}");
    assert!(get(port, "/").starts_with("HTTP/1.1 404 "));
    if is_here("promtool") {
        let mut check = Command::new("promtool")
            .args(["check", "metrics"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("promtool is there");
        check.stdin.take().expect("it is piped").write_all(text.as_bytes()).expect("promtool reads");
        let said = check.wait_with_output().expect("promtool ends");
        let said = String::from_utf8_lossy(&[said.stdout, said.stderr].concat()).into_owned();
        // It wants other units than Go remco's milliseconds, and says so for some names; the format has no error.
        assert!(!said.contains("error"), "{said}");
    }
    program.stop();
}

/// The metrics that a run without such events lacks. `backend_revision` is where stores count their changes.
#[test]
fn restarts_and_unreachable_backends_have_their_names() {
    let (dir, port) = (folder(), free_port());
    let served = prometheus(port).resource("served").template("app.tmpl", "served.out").exec("sleep 1000");
    let served = served.file("data.json").watch();
    served.resource("away").template("app.tmpl", "away.out").file("missing.json").watch().write(&dir);
    let program = remco(&dir).start();
    scrape_until(port, "# TYPE remco_backends_sync_errors_total counter");
    let text = scrape_until(port, "remco_resource_in_sync{resource=\"served\"} 1");
    assert!(!text.contains("child_restarts"), "the first start is none: {text}");
    dir.replace("data.json", r#"{"greeting": "again"}"#);
    let text = scrape_until(port, "remco_child_restarts_total{resource=\"served\"} 1");
    assert!(text.contains("\n# TYPE remco_child_restarts_total counter\n"), "{text}");
    assert!(text.contains("\nremco_backend_connected{backend=\"file\",resource=\"away\"} 0\n"), "{text}");
    assert!(!text.contains("backend_revision"), "files do not count: {text}");
    program.stop();
}

/// Sinks that are configured and switched off cost no call: no socket, no file, no line.
#[test]
fn telemetry_that_is_off_asks_nothing_of_the_system() {
    let calls = |table: Config| -> Vec<String> {
        let (dir, traced) = (folder(), TempDir::new());
        table.resource("app").template("app.tmpl", "app.out").file("data.json").write(&dir);
        // What each pass of the loop does is left out: a busy machine needs more of them.
        let filter = "trace=%file,socket,socketpair,connect,bind,listen,sendto,sendmsg,write,execve,clone,clone3";
        let (trace, run) = Trace::by(remco(&dir).arg("-onetime"), &traced, filter);
        let mut run = run.start();
        assert_eq!(run.exit_code(), Some(0));
        assert_eq!(dir.read("app.out").as_deref(), Some("hello\n"));
        let name = |text: &str| text.split('(').next().unwrap_or_default().to_owned();
        trace.calls(run.pid()).iter().map(|call| name(&call.text)).collect()
    };
    let top = || config().set("log_level", "error");
    // A text file is not among them: whether it is another file of the configuration is looked up in any case.
    let sinks = "sinks.statsd.addr = \"127.0.0.1:9\"\n\
                 sinks.statsite.addr = \"127.0.0.1:9\"\nsinks.prometheus.addr = \"127.0.0.1:9\"\n\
                 sinks.inmem = {interval = 1, retain = 60}";
    let off = top().table("[telemetry]").set("enabled", false).lines(sinks);
    assert_eq!(calls(off), calls(top()));
}

#[test]
fn a_prometheus_scrapes_it() {
    if !is_here("prometheus") {
        return;
    }
    let (dir, port, api) = (folder(), free_port(), free_port());
    prometheus(port).write(&dir);
    let program = remco(&dir).start();
    let targets = format!("[{{job_name: remco, static_configs: [{{targets: ['127.0.0.1:{port}']}}]}}]");
    dir.write("prometheus.yml", format!("{{global: {{scrape_interval: 200ms}}, scrape_configs: {targets}}}"));
    let _peer = peer(
        Command::new("prometheus")
            .arg("--config.file=prometheus.yml")
            .arg("--storage.tsdb.path=tsdb")
            .arg(format!("--web.listen-address=127.0.0.1:{api}"))
            .current_dir(dir.path()),
    );
    let query = "/api/v1/query?query=remco_files_synced_total";
    wait_until("Prometheus has the metric", LIMIT, || {
        let Ok(stream) = TcpStream::connect(("127.0.0.1", api)) else { return false };
        stream.set_read_timeout(Some(LIMIT)).expect("a limit can be set");
        // It keeps connections open, unless it is asked for HTTP/1.0.
        let mut stream = stream;
        let _ = write!(stream, "GET {query} HTTP/1.0\r\n\r\n");
        let mut answer = String::new();
        let _ = stream.read_to_string(&mut answer);
        answer.contains("\"job\":\"remco\"")
    });
    program.stop();
}

#[test]
fn statsd_and_statsite_get_lines() {
    let dir = folder();
    let statsd = UdpSocket::bind("127.0.0.1:0").expect("a port");
    statsd.set_read_timeout(Some(LIMIT)).expect("a limit can be set");
    let statsite = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = |address: std::io::Result<std::net::SocketAddr>| address.expect("it has an address").port();
    let sinks = format!(
        "sinks.statsd.addr = \"localhost:{}\"\nsinks.statsite.addr = \"127.0.0.1:{}\"\n",
        port(statsd.local_addr()),
        port(statsite.local_addr())
    );
    telemetry(&sinks).write(&dir);
    let program = remco(&dir).start();
    let want = [
        "remco.files.staged_total:1.000000|c",
        "remco.backends.synced_total.file:1.000000|c",
        "remco.web1.up:1.000000|g",
    ];
    let mut buffer = [0; 2000];
    let mut missing = want.to_vec();
    while !missing.is_empty() {
        let length = statsd.recv(&mut buffer).expect("a datagram in time");
        assert!(length <= 1432);
        let text = String::from_utf8_lossy(&buffer[..length]).into_owned();
        missing.retain(|want| text.lines().all(|line| line != *want));
    }
    let lines_of = |connection: TcpStream, want: &[&str]| {
        connection.set_read_timeout(Some(LIMIT)).expect("a limit can be set");
        let mut lines = BufReader::new(connection.try_clone().expect("it can be shared")).lines();
        let mut missing = want.to_vec();
        while !missing.is_empty() {
            let line = lines.next().expect("a line").expect("a line in time");
            missing.retain(|want| line != *want);
        }
        connection
    };
    let connection = lines_of(statsite.accept().expect("it connects").0, &want);
    // A statsite that was started again is connected to again.
    drop(connection);
    program.wait_for_log("failed to send metrics");
    let next = std::thread::spawn(move || statsite.accept().expect("it connects again").0);
    let mut n = 0;
    wait_until("it connects again", LIMIT, || {
        n += 1;
        dir.replace("data.json", format!("{{\"greeting\": \"hello {n}\"}}"));
        next.is_finished()
    });
    lines_of(next.join().expect("it was accepted"), &["remco.web1.up:1.000000|g"]);
    program.wait_for_log("metrics are sent again");
    program.stop();
}

/// statsd itself takes every line, and counts it under the name that Go remco's users know.
#[test]
fn a_statsd_counts_what_it_gets() {
    let Some(stats) = program("statsd/stats.js", "npm/node_modules/statsd/stats.js") else {
        return skipped("there is no statsd here: run scripts/need statsd:npm/statsd");
    };
    if !is_here("node") {
        return;
    }
    let (dir, port, management) = (folder(), free_port(), free_port());
    let addresses = format!("address: '127.0.0.1', port: {port}, mgmt_address: '127.0.0.1', mgmt_port: {management}");
    // It has no backend but its own output, and keeps what it has counted for longer than the test lasts.
    let rest = "backends: ['./backends/console'], flushInterval: 3600000, title: false";
    dir.write("statsd.js", format!("{{ {addresses}, {rest} }}"));
    let _peer = peer(Command::new("node").arg(stats).arg(dir.at("statsd.js")));
    let says = |command: &str| {
        let Ok(mut stream) = TcpStream::connect(("127.0.0.1", management)) else { return String::new() };
        stream.set_read_timeout(Some(LIMIT)).expect("a limit can be set");
        let _ = stream.write_all(format!("{command}\n").as_bytes());
        let lines = BufReader::new(stream).lines().map_while(Result::ok);
        lines.take_while(|line| line != "END").collect::<Vec<_>>().join("\n")
    };
    wait_until("statsd answers", LIMIT, || says("counters").contains("statsd.bad_lines_seen"));
    telemetry(&format!("sinks.statsd.addr = \"127.0.0.1:{port}\"")).write(&dir);
    let program = remco(&dir).start();
    let mut n = 0;
    wait_until("statsd has counted", LIMIT, || {
        // The datagrams of a moment at which it was busy are lost.
        n += 1;
        dir.replace("data.json", format!("{{\"greeting\": \"hello {n}\"}}"));
        let counters = says("counters");
        let names = ["files.staged_total", "files.synced_total", "backends.synced_total.file"];
        names.iter().all(|name| counters.contains(&format!("'remco.{name}': ")))
            && says("gauges").contains("'remco.web1.up': 1")
            && says("timers").contains("'remco.files.template_execution_duration': [")
    });
    let counters = says("counters");
    assert!(counters.contains("'statsd.bad_lines_seen': 0"), "{counters}");
    program.stop();
}

#[test]
fn sigusr1_prints_inmem_and_goes_to_the_children_otherwise() {
    let dir = folder();
    let child = "sh -c 'trap \"echo got it > signalled\" USR1; echo ready > child; while :; do sleep 0.05; done'";
    telemetry("sinks.inmem = {interval = 1, retain = 600}").exec(child).write(&dir);
    let program = remco(&dir).start();
    wait_until("the child runs", LIMIT, || dir.read("child").is_some());
    let mut sent = 0;
    wait_until("an interval is printed", LIMIT, || {
        program.signal(Signal::USR1);
        sent += 1;
        program.log().iter().any(|line| line.contains("][C] 'remco.files.staged_total': Count: 1 Sum: 1.000"))
    });
    assert!(program.log().iter().any(|line| line.contains("][S] 'remco.files.template_execution_duration': Count: 1")));
    assert!(dir.read("signalled").is_none(), "the signal was for the program");
    telemetry("").exec(child).write(&dir);
    program.signal(Signal::HUP);
    program.wait_for_log("loading new config");
    wait_until("the child has it", LIMIT, || {
        program.signal(Signal::USR1);
        dir.read("signalled").is_some()
    });
    program.stop();
}

#[test]
fn node_exporter_reads_the_text_file() {
    let (dir, port) = (folder(), free_port());
    telemetry("sinks.textfile.path = \"metrics/remco.prom\"").write(&dir);
    fs::create_dir(dir.path().join("metrics")).expect("a new folder");
    remco(&dir).once().expect_code(0);
    let text = dir.read("metrics/remco.prom").expect("a run that ends writes it");
    assert!(text.contains("\nremco_files_synced_total 1\n"), "{text}");
    assert_eq!(dir.mode("metrics/remco.prom") & 0o777, 0o644);
    if !is_here("prometheus-node-exporter") {
        return;
    }
    let _peer = peer(
        Command::new("prometheus-node-exporter")
            .arg("--collector.disable-defaults")
            .arg("--collector.textfile")
            .arg(format!("--collector.textfile.directory={}", dir.path().join("metrics").display()))
            .arg(format!("--web.listen-address=127.0.0.1:{port}")),
    );
    wait_until("node_exporter serves it", LIMIT, || {
        let Ok(mut stream) = TcpStream::connect(("127.0.0.1", port)) else { return false };
        stream.set_read_timeout(Some(LIMIT)).expect("a limit can be set");
        let _ = write!(stream, "GET /metrics HTTP/1.0\r\n\r\n");
        let mut answer = String::new();
        let _ = stream.read_to_string(&mut answer);
        answer.contains("\nremco_files_synced_total 1\n") && answer.contains("node_textfile_scrape_error 0")
    });
}

#[test]
fn a_port_in_use_ends_the_start_and_is_tried_again_after_a_reload() {
    let (dir, other) = (folder(), TcpListener::bind("127.0.0.1:0").expect("a port"));
    let port = other.local_addr().expect("it has an address").port();
    prometheus(port).write(&dir);
    let why =
        format!("failed to listen on `127.0.0.1:{port}` for `telemetry.sinks.prometheus`: address already in use");
    remco(&dir).run().expect_code(1).expect_log(&format!("remco: {why}; config `config.toml` was not started"));
    // A run that ends is not scraped: it leaves the port to the daemon.
    remco(&dir).once().expect_code(0);

    let free = free_port();
    prometheus(free).write(&dir);
    let program = remco(&dir).start();
    scrape_until(free, "remco_up 1");
    prometheus(port).set("interval", 1).set_in("", "log_level", "debug").write(&dir);
    program.signal(Signal::HUP);
    program.wait_for_log(&why);
    // The second read comes after the first retry.
    let before = reads(&program.log());
    wait_until("it has tried again", LIMIT, || reads(&program.log()) >= before + 2);
    drop(other);
    let bound = format!("serving metrics addr=127.0.0.1:{port}");
    program.wait_for_log(&bound);
    scrape_until(port, "remco_up 1");
    let times = |text: &str| program.log().iter().filter(|line| line.contains(text)).count();
    assert_eq!((times(&why), times(&bound)), (1, 1), "{:#?}", program.log());
    program.stop();
}

/// A run that only waits for another one leaves the file of that one alone.
#[test]
fn a_run_without_the_lock_leaves_the_text_file() {
    let dir = folder();
    telemetry("sinks.textfile.path = \"remco.prom\"").write(&dir);
    dir.write("remco.prom", "of the run that works\n");
    let lock = fs::File::create(dir.path().join("lock")).expect("a new file");
    flock(&lock, FlockOperation::LockExclusive).expect("it is free");
    let run = |arg: &str| remco(&dir).arg("-onetime").arg("--lock=lock").arg(arg).run();
    run("--no-wait").expect_code(5);
    run("--timeout=100ms").expect_code(1);
    assert_eq!(dir.read("remco.prom").as_deref(), Some("of the run that works\n"));
    drop(lock);
    run("--no-wait").expect_code(0);
    let text = dir.read("remco.prom").expect("it is there");
    assert!(text.contains("\nremco_files_synced_total 1\n"), "{text}");
}

#[test]
fn a_reload_keeps_the_listener_and_the_counters() {
    let (dir, port) = (folder(), free_port());
    prometheus(port).write(&dir);
    let program = remco(&dir).start();
    scrape_until(port, "remco_files_synced_total 1");
    let mut open = connect(port);
    write!(open, "GET /metrics HTTP/1.1\r\n").expect("it is accepted");
    prometheus(port).resource("more").template("app.tmpl", "more.out").file("data.json").write(&dir);
    program.signal(Signal::HUP);
    program.wait_for_log("loading new config");
    wait_until("the new resource is in place", LIMIT, || dir.read("more.out").is_some());
    write!(open, "\r\n").expect("the connection stands");
    let mut answer = String::new();
    open.read_to_string(&mut answer).expect("an answer in time");
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
    // The first resource was rendered again.
    scrape_until(port, "remco_files_synced_total 3");
    program.stop();
}

#[test]
fn a_unix_socket_serves_too() {
    let dir = folder();
    telemetry("sinks.prometheus.addr = \"unix:metrics.sock\"").write(&dir);
    let program = remco(&dir).start();
    let path = dir.path().join("metrics.sock");
    wait_until("it listens", LIMIT, || path.exists());
    wait_until("all is well", LIMIT, || {
        let stream = UnixStream::connect(&path).expect("it listens");
        ask(stream, "/healthz").ends_with("\r\n\r\napp: in place\n")
    });
    assert_eq!(dir.mode("metrics.sock") & 0o777, 0o660);
    program.stop();
    assert!(!path.exists());
}

/// Clients that ask for nothing take no room from one that does.
#[test]
fn a_thousand_silent_connections_hold_up_no_scrape() {
    let (dir, port) = (folder(), free_port());
    prometheus(port).write(&dir);
    let program = remco(&dir).start();
    scrape_until(port, "remco_up 1");
    let mut silent = Vec::new();
    for n in 0..1000 {
        let mut stream = connect(port);
        let _ = stream.write_all(if n % 2 == 0 { b"GET /metr" } else { b"" });
        silent.push(stream);
    }
    scrape_until(port, "remco_up 1");
    dir.replace("data.json", r#"{"greeting": "hello again"}"#);
    wait_until("the file follows", LIMIT, || dir.read("app.out").as_deref() == Some("hello again\n"));
    assert!(open_descriptors(&program) < 64, "{} descriptors", open_descriptors(&program));
    program.stop();
}

fn open_descriptors(program: &Remco) -> usize {
    fs::read_dir(format!("/proc/{}/fd", program.pid())).expect("the program runs").count()
}

/// Quotes, line feeds and what ends a line of statsd do not leave their label.
#[test]
fn strange_names_stay_in_their_labels() {
    let (dir, port) = (folder(), free_port());
    let name = "a\"b\\c\nremco_up 7 é";
    let top = config()
        .table("[telemetry]")
        .set("enabled", true)
        .lines(&format!("sinks.prometheus.addr = \"127.0.0.1:{port}\""));
    top.resource(name).template("app.tmpl", "app.out").file("data.json").watch().write(&dir);
    let program = remco(&dir).start();
    let text = scrape_until(port, "remco_resource_in_sync{resource=\"a\\\"b\\\\c\\nremco_up 7 é\"} 1");
    let ups: BTreeMap<&str, usize> =
        text.lines().filter(|line| line.starts_with("remco_up ")).map(|line| (line, 1)).collect();
    assert_eq!(ups.keys().collect::<Vec<_>>(), [&"remco_up 1"]);
    let health = get(port, "/healthz");
    assert_eq!(health.split_once("\r\n\r\n").expect("a head and a body").1.lines().count(), 1, "{health}");
    program.stop();
}
