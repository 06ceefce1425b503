//! Correct configurations and their values, and that no bytes make the parser panic. The errors of wrong ones are in
//! `tests/bad_config.rs`.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::*;
use crate::random::Random;

/// Files and variables in a table; the main file is `/etc/remco/config`.
#[derive(Debug, Default)]
struct Table {
    files: BTreeMap<PathBuf, Vec<u8>>,
    vars: BTreeMap<Vec<u8>, Vec<u8>>,
}

impl Table {
    fn new(main: &str) -> Table {
        Table::default().file("/etc/remco/config", main)
    }

    fn file(mut self, path: &str, text: &str) -> Table {
        self.files.insert(path.into(), text.into());
        self
    }

    fn var(mut self, name: &str, value: &str) -> Table {
        self.vars.insert(name.into(), value.into());
        self
    }

    #[track_caller]
    fn load(&self) -> Config {
        let (config, mut findings) = self.load_with_findings();
        // A part of a configuration is enough for a test.
        findings.retain(|finding| !finding.contains("no resource is configured"));
        assert_eq!(findings, [] as [&str; 0]);
        config
    }

    /// The configuration and the headlines of the warnings.
    #[track_caller]
    fn load_with_findings(&self) -> (Config, Vec<String>) {
        match load(Path::new("/etc/remco/config"), Strictness::Lenient, Mode::Watch, self) {
            Ok((config, findings)) => (config, findings.iter().map(Finding::headline).collect()),
            Err(findings) => panic!("{findings}"),
        }
    }
}

impl Source for Table {
    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        self.files.get(path).cloned().ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<OsString>> {
        let names = self.files.keys().rev().filter(|file| file.parent() == Some(dir));
        Ok(names.filter_map(|file| file.file_name()).map(Into::into).collect())
    }

    fn var(&self, name: &[u8]) -> Option<Vec<u8>> {
        self.vars.get(name).cloned()
    }

    fn shell(&self) -> Shell {
        Shell::Present
    }
}

/// A resource with one template, up to its backends.
const RESOURCE: &str = "
[[resource]]
name = 'app'
[[resource.template]]
src = 'a.tmpl'
dst = '/etc/a'
";

/// A backend without any finding.
const MOCK: &str = "
[resource.backend.mock]
interval = 1
";

#[test]
fn an_empty_file_has_the_defaults() {
    let config = Table::new("").load();
    let telemetry = Telemetry {
        enabled: false,
        service_name: "remco".into(),
        hostname: String::new(),
        enable_hostname: true,
        enable_hostname_label: false,
        enable_runtime_metrics: true,
        inmem: None,
        statsd: None,
        statsite: None,
        prometheus: None,
        textfile: None,
    };
    let expected = Config {
        log_level: LogLevel::Info,
        log_format: LogFormat::Text,
        filters: Vec::new(),
        splay: Duration::ZERO,
        state_dir: None,
        pid_file: None,
        status_file: None,
        resources: Vec::new(),
        limits: Limits::default(),
        telemetry,
        included: Vec::new(),
    };
    assert_eq!(config, expected);
}

/// The configuration of the haproxy tutorial.
#[test]
fn the_tutorial() {
    let config = Table::new(
        r#"
log_level = "debug"
log_format = "text"

[[resource]]
name = "haproxy"

[[resource.template]]
  src = "/etc/remco/templates/haproxy.tmpl"
  dst = "/etc/haproxy/haproxy.cfg"
  reload_cmd 	  = "haproxy -f {{.dst}} -p /var/run/haproxy.pid -D -sf `cat /var/run/haproxy.pid`"

  [resource.backend]
    [resource.backend.etcd]
      nodes = ["${ETCD_NODE}"]
      keys = ["/services", "/config"]
      watchKeys = ["/haproxy/reload"]
      watch = true
      interval = 60
"#,
    )
    .var("ETCD_NODE", "http://localhost:2379")
    .load();
    assert_eq!(config.log_level, LogLevel::Debug);
    let text = |text: &str| CommandPart::Text(text.into());
    let reload = vec![
        text("haproxy -f "),
        CommandPart::Path,
        text(" -p /var/run/haproxy.pid -D -sf `cat /var/run/haproxy.pid`"),
    ];
    let template = Template {
        src: "/etc/remco/templates/haproxy.tmpl".into(),
        dst: "/etc/haproxy/haproxy.cfg".into(),
        make_directories: false,
        mode: None,
        uid: None,
        gid: None,
        check_timeout: Some(Duration::from_secs(60)),
        reload_timeout: Some(Duration::from_secs(60)),
        on_reload_failure: OnReloadFailure::Keep,
        check_cmd: None,
        reload_cmd: Some(Command { parts: reload }),
        durability: Durability::Full,
        in_place: false,
        backup: false,
    };
    let etcd = Etcd { nodes: vec!["http://localhost:2379".into()], ..Etcd::default() };
    let backend = Backend {
        keys: vec!["/services".into(), "/config".into()],
        watch_keys: vec!["/haproxy/reload".into()],
        secret: false,
        prefix: String::new(),
        watch: true,
        onetime: false,
        interval: Some(Duration::from_secs(60)),
        kind: Kind::Etcd(etcd),
    };
    let resource = Resource {
        name: "haproxy".into(),
        start_timeout: Some(Duration::from_secs(60)),
        reload_timeout: Some(Duration::from_secs(60)),
        start_cmd: None,
        reload_cmd: None,
        reload_once: false,
        splay: Duration::ZERO,
        commit: Commit::Each,
        on_reload_failure: OnReloadFailure::Keep,
        cache: Cache::default(),
        settle: None,
        guard: None,
        exec: None,
        templates: vec![template],
        backends: vec![backend],
    };
    assert_eq!(config.resources, [resource]);
}

#[test]
fn headers_dotted_keys_and_inline_tables_are_alike() {
    let header = Table::new(
        "
[[resource]]
name = 'app'
[resource.exec]
command = 'a'
[[resource.template]]
src = 'a.tmpl'
dst = '/etc/a'
[resource.backend.file]
filepath = 'a.json'
keys = ['/']
watch = true
[resource.backend.file.httpheaders]
A = 'b'
",
    )
    .load();
    let dotted = Table::new(
        "
[[resource]]
name = 'app'
exec.command = 'a'
template = [{src = 'a.tmpl', dst = '/etc/a'}]
backend.file.filepath = 'a.json'
backend.file.keys = ['/']
backend.file.watch = true
backend.file.httpheaders.A = 'b'
",
    )
    .load();
    let inline = Table::new(
        "
resource = [{name = 'app', exec = {command = 'a'}, template = [{src = 'a.tmpl', dst = '/etc/a'}],
    backend = {file = {filepath = 'a.json', keys = ['/'], watch = true, httpheaders = {A = 'b'}}}}]
",
    )
    .load();
    assert_eq!(header, dotted);
    assert_eq!(header, inline);
}

#[test]
fn keys_match_without_case() {
    let config = Table::new(
        "
LOG_LEVEL = 'warn'
[[Resource]]
Name = 'app'
[[Resource.Template]]
SRC = 'a'
Dst = 'b'
uid = 1
gId = 2
[Resource.BACKEND.Etcd]
Nodes = ['http://a:2379']
KEYS = ['/']
WATCHKEYS = ['/w']
Watch = true
",
    )
    .load();
    assert_eq!(config.log_level, LogLevel::Warn);
    let template = &config.resources[0].templates[0];
    assert_eq!((template.uid, template.gid), (Some(1), Some(2)));
    assert_eq!(config.resources[0].backends[0].watch_keys, ["/w"]);
}

#[test]
fn the_exact_key_wins() {
    let text = format!("{RESOURCE}MODE = '0600'\nmode = '0640'\nMode = '0666'{MOCK}");
    let (config, warnings) = Table::new(&text).load_with_findings();
    assert_eq!(config.resources[0].templates[0].mode, Some(0o640));
    assert_eq!(warnings.len(), 2);
}

#[test]
fn templates_have_modes_and_owners() {
    let check = |keys: &str, mode, uid, gid| {
        let config = Table::new(&format!("{RESOURCE}{keys}{MOCK}")).load();
        let template = &config.resources[0].templates[0];
        assert_eq!((template.mode, template.uid, template.gid), (mode, uid, gid), "{keys}");
    };
    check("", None, None, None);
    check("mode = ''", None, None, None);
    check("mode = '0644'", Some(0o644), None, None);
    check("mode = '0o4755'", Some(0o4755), None, None);
    check("mode = '0x1A4'", Some(0o644), None, None);
    check("mode = '0X1a4'", Some(0o644), None, None);
    check("mode = '0b110100100'", Some(0o644), None, None);
    check("mode = '0'", Some(0), None, None);
    check("UID = 0\nGID = 4294967294", None, Some(0), Some(4_294_967_294));
    check("UID = -1\nGID = -1", None, None, None);
}

#[test]
fn templates_have_a_durability() {
    for (keys, durability) in [
        ("", Durability::Full),
        ("durability = ''", Durability::Full),
        ("durability = 'full'", Durability::Full),
        ("durability = 'file'", Durability::File),
        ("durability = 'none'", Durability::None),
    ] {
        let config = Table::new(&format!("{RESOURCE}{keys}{MOCK}")).load();
        assert_eq!(config.resources[0].templates[0].durability, durability, "{keys}");
    }
}

#[test]
fn a_mode_without_a_zero_is_octal_too() {
    let (config, warnings) = Table::new(&format!("{RESOURCE}mode = '644'{MOCK}")).load_with_findings();
    assert_eq!(config.resources[0].templates[0].mode, Some(0o644));
    assert_eq!(warnings, ["/etc/remco/config:7:8: mode `644` is taken as octal 0644: write `\"0644\"`"]);
}

#[test]
fn a_resource_has_commands_and_a_child() {
    let exec = "
[[resource]]
start_cmd = 'a {{.src}}; b'
reload_cmd = ''
[resource.exec]
command = 'app \"-x y\" `date`'
reload_signal = 'sighup'
kill_signal = 'SIGINT'
kill_timeout = 3
splay = 4
";
    let config = Table::new(&format!("{exec}{MOCK}")).load();
    let resource = &config.resources[0];
    assert_eq!(resource.name, "config");
    assert_eq!((resource.start_cmd.as_deref(), resource.reload_cmd.as_deref()), (Some("a {{.src}}; b"), None));
    let word = |part| Word { parts: vec![part] };
    let expected = Exec {
        command: vec![
            word(WordPart::Text("app".into())),
            word(WordPart::Text("-x y".into())),
            word(WordPart::Output("date".into())),
        ],
        reload_signal: Some(1),
        kill_signal: 2,
        kill_timeout: Duration::from_secs(3),
        env: Vec::new(),
        splay: Duration::from_secs(4),
    };
    assert_eq!(resource.exec.as_ref(), Some(&expected));

    let config = Table::new(&format!("[[resource]]\n[resource.exec]\ncommand = 'a'\nkill_timeout = 0\n{MOCK}")).load();
    let exec = config.resources[0].exec.as_ref().expect("a child");
    assert_eq!((exec.reload_signal, exec.kill_signal), (None, 15));
    assert_eq!((exec.kill_timeout, exec.splay), (Duration::from_secs(10), Duration::ZERO));
}

#[test]
fn intervals() {
    let check = |keys: &str, watch, onetime, interval: Option<u64>, warns: bool| {
        let text = format!("{RESOURCE}[resource.backend.file]\nfilepath = 'a'\nkeys = ['/']\n{keys}");
        let (config, warnings) = Table::new(&text).load_with_findings();
        let backend = &config.resources[0].backends[0];
        assert_eq!((backend.watch, backend.onetime), (watch, onetime), "{keys}");
        assert_eq!(backend.interval, interval.map(Duration::from_secs), "{keys}");
        let expected = ["interval needs to be > 0: setting interval to 60"];
        assert!(warnings.iter().zip(expected).all(|(warning, text)| warning.ends_with(text)), "{warnings:?}");
        assert_eq!(!warnings.is_empty(), warns, "{keys}");
    };
    check("", false, false, Some(60), true);
    check("interval = 0", false, false, Some(60), true);
    check("interval = -5", false, false, Some(60), true);
    check("interval = 7", false, false, Some(7), false);
    check("watch = true", true, false, None, false);
    check("watch = true\ninterval = 7", true, false, Some(7), false);
    check("watch = true\ninterval = -7", true, false, None, false);
    check("onetime = true", false, true, None, false);
    check("onetime = true\ninterval = 7", false, true, Some(7), false);
}

#[cfg(feature = "vault")]
#[test]
fn secrets_are_of_a_backend_of_a_resource_or_of_vault() {
    let check = |resource: &str, backends: &str, secret: &[bool]| {
        let table = format!("[[resource]]\n{resource}\n[[resource.template]]\nsrc = 'a'\ndst = 'b'\n");
        let config = Table::new(&format!("{table}[resource.backend]\n{backends}")).load();
        let found: Vec<bool> = config.resources[0].backends.iter().map(|backend| backend.secret).collect();
        assert_eq!(found, secret, "{resource} {backends}");
    };
    let (file, env) = ("file = {filepath = 'a', keys = ['/'], onetime = true", "env = {keys = ['/'], onetime = true");
    check("", &format!("{file}}}\n{env}}}"), &[false, false]);
    check("", &format!("{file}}}\n{env}, secret = true}}"), &[false, true]);
    check("secret = true", &format!("{file}, secret = false}}\n{env}}}"), &[true, true]);
    let vault = "vault = {keys = ['/'], onetime = true, auth_type = 'token', auth_token = 'a', secret = false, node = 'http://a'}";
    check("", &format!("{vault}\n{env}}}"), &[false, true]);
}

#[test]
fn what_cannot_be_watched_is_read_by_interval() {
    let check = |backend: &str, interval: u64| {
        let text = format!("{RESOURCE}[resource.backend]\n{backend}");
        let (config, warnings) = Table::new(&text).load_with_findings();
        let said = warnings.iter().any(|warning| warning.ends_with(" cannot be watched, using `interval` instead"));
        assert!(said, "{backend}: {warnings:?}");
        let read = &config.resources[0].backends[0];
        assert_eq!((read.watch, read.interval), (false, Some(Duration::from_secs(interval))), "{backend}");
    };
    check("env = {keys = ['/'], watch = true}", 60);
    check("env = {keys = ['/'], watch = true, interval = 7}", 7);
    check("mock = {watch = true}", 60);
    check("file = {filepath = 'HTTP://a/b.json', keys = ['/'], watch = true}", 60);
    #[cfg(feature = "vault")]
    check("vault = {node = 'v', auth_type = 'cert', keys = ['/'], watch = true}", 60);
}

#[test]
fn watch_keys_are_the_keys_unless_set() {
    let check = |keys: &str, expected: &[&str]| {
        let text = format!("{RESOURCE}[resource.backend.file]\nfilepath = 'a'\nkeys = ['/a']\nwatch = true\n{keys}");
        assert_eq!(Table::new(&text).load().resources[0].backends[0].watch_keys, expected, "{keys}");
    };
    check("", &["/a"]);
    check("watchKeys = []", &["/a"]);
    check("watchKeys = ['/b', '/c']", &["/b", "/c"]);
}

#[test]
#[cfg(all(
    feature = "tls",
    feature = "consul",
    feature = "vault",
    feature = "redis",
    feature = "zookeeper",
    feature = "nats",
    feature = "plugin"
))]
fn every_backend_has_its_options_and_its_turn() {
    let text = format!(
        "{RESOURCE}[resource.backend]
plugin = [
    {{path = '/b', keys = ['/'], watch = true, config = {{a = 1, b = ['x', 1.5, true], c.d = 1979-05-27}}}},
    {{path = '/a', keys = ['/'], watch = true}},
]
nats = {{nodes = ['n'], bucket = 'b', creds = 'c', client_ca_keys = '3', keys = ['/'],
    watch = true}}
mock = {{interval = 1}}
zookeeper = {{nodes = ['z'], srv_record = 's', keys = ['/'], watch = true}}
redis = {{nodes = ['r'], srv_record = 's', password = 'p', database = 3, keys = ['/'], interval = 1}}
vault = {{node = 'v', auth_type = 'userpass', app_id = 'a', user_id = 'b', role_id = 'c', secret_id = 'd',
    username = 'u', password = 'p', auth_token = 't', client_cert = '1', client_key = '2', client_ca_keys = '3',
    keys = ['/'], interval = 1}}
consul = {{nodes = ['c'], scheme = 'https', srv_record = 's', client_ca_keys = '3', keys = ['/'], watch = true}}
env = {{keys = ['/'], onetime = true}}
file = {{filepath = 'f', httpheaders = {{a = 'b'}}, keys = ['/'], prefix = '/p', watch = true}}
etcd = {{nodes = ['e'], scheme = 'https', srv_record = 's', client_cert = '', client_ca_keys = '3', username = 'u',
    password = 'p', version = 3, keys = ['/'], watch = true}}
"
    );
    let config = Table::new(&text).load();
    let backends = &config.resources[0].backends;
    let secret = |text: &str| Secret::new(text.into());
    let login = |name, password| {
        let [username, password] = [name, password].map(|text| Credential::Inline(secret(text)));
        Login { username, password }
    };
    let tls = Tls { client_cert: None, client_key: None, client_ca_keys: Some("3".into()), server_name: None };
    let expected = [
        Kind::Etcd(Etcd {
            nodes: vec!["https://e".into()],
            scheme: "https".into(),
            srv_record: "s".into(),
            tls: tls.clone(),
            login: Some(login("u", "p")),
            version: Some(EtcdVersion::V3),
            ..Etcd::default()
        }),
        Kind::File(File {
            filepath: "f".into(),
            httpheaders: BTreeMap::from([("a".into(), secret("b"))]),
            read: ReadLimits::default(),
        }),
        Kind::Env,
        Kind::Consul(Consul {
            nodes: vec!["https://c".into()],
            scheme: "https",
            srv_record: "s".into(),
            tls: tls.clone(),
            token: None,
            auth: secret(""),
            datacenter: String::new(),
            namespace: String::new(),
            wait: Duration::from_secs(300),
            watch_deadline: Duration::from_secs(30),
            network: Network::default(),
        }),
        Kind::Vault(Vault {
            node: "https://v".into(),
            auth_type: AuthType::UserPass,
            login: login("u", "p"),
            auth_mount: "userpass".into(),
            namespace: String::new(),
            tls: Tls {
                client_cert: Some("1".into()),
                client_key: Some("2".into()),
                client_ca_keys: Some("3".into()),
                server_name: None,
            },
            network: Network::default(),
        }),
        Kind::Redis(Redis {
            nodes: vec!["redis://r:6379".into()],
            srv_record: "s".into(),
            login: Some(Login { username: Credential::Inline(secret("")), password: Credential::Inline(secret("p")) }),
            database: 3,
            ..Redis::default()
        }),
        Kind::Zookeeper(Zookeeper {
            nodes: vec!["zookeeper://z:2181".into()],
            srv_record: "s".into(),
            ..Zookeeper::default()
        }),
        Kind::Mock,
        Kind::Nats(Nats {
            nodes: vec!["nats://n:4222".into()],
            bucket: "b".into(),
            login: Some(NatsLogin::Creds("c".into())),
            tls: tls.clone(),
            ..Nats::default()
        }),
        Kind::Plugin(Plugin {
            path: "/b".into(),
            config: r#"{"a":1,"b":["x",1.5,true],"c":{"d":"1979-05-27"}}"#.into(),
            timeout: Duration::from_secs(30),
            read: ReadLimits::default(),
        }),
        Kind::Plugin(Plugin {
            path: "/a".into(),
            config: "{}".into(),
            timeout: Duration::from_secs(30),
            read: ReadLimits::default(),
        }),
    ];
    assert_eq!(backends.iter().map(|backend| &backend.kind).collect::<Vec<_>>(), expected.iter().collect::<Vec<_>>());
    assert_eq!(backends[1].prefix, "/p");
    let shown = format!("{backends:?}");
    assert!(!shown.contains("\"p\"") && !shown.contains("\"t\""), "{shown}");
}

#[test]
fn default_backends_are_overlaid_field_by_field() {
    let config = Table::new(
        "
[default_backends.etcd]
nodes = ['http://a:1', 'http://b:1']
username = 'root'
password = 'p'
keys = ['/default']
watch = true
[default_backends.file]
filepath = '/d.json'
keys = ['/']
onetime = true
[default_backends.file.httpheaders]
A = 'default'
B = 'default'
[[resource]]
name = 'own'
[[resource.template]]
src = 'a'
dst = '/a'
[resource.backend.etcd]
nodes = ['http://c:1']
watch = false
Interval = 5
[resource.backend.file.httpheaders]
b = 'own'
C = 'own'
[resource.backend.mock]
interval = 1
[[resource]]
name = 'none'
[[resource.template]]
src = 'a'
dst = '/b'
",
    )
    .load();
    let [own, none] = config.resources.as_slice() else { panic!("two resources") };
    let name = |etcd: &Etcd| match &etcd.login {
        Some(Login { username: Credential::Inline(name), .. }) => name.reveal().to_owned(),
        other => panic!("{other:?}"),
    };
    let etcd = |resource: &Resource| match &resource.backends[0] {
        Backend { kind: Kind::Etcd(etcd), keys, watch, interval, .. } => {
            (etcd.nodes.join(" "), name(etcd), keys.join(" "), *watch, interval.map(|time| time.as_secs()))
        }
        other => panic!("{other:?}"),
    };
    assert_eq!(etcd(own), ("http://c:1".into(), "root".into(), "/default".into(), false, Some(5)));
    assert_eq!(etcd(none), ("http://a:1 http://b:1".into(), "root".into(), "/default".into(), true, None));
    let file = |resource: &Resource| match &resource.backends[1].kind {
        Kind::File(file) => {
            let headers = file.httpheaders.iter().map(|(name, value)| format!("{name}={}", value.reveal()));
            (file.filepath.clone(), headers.collect::<Vec<_>>().join(" "))
        }
        other => panic!("{other:?}"),
    };
    assert_eq!(file(own), ("/d.json".into(), "A=default C=own b=own".into()));
    assert_eq!(file(none), ("/d.json".into(), "A=default B=default".into()));
    assert_eq!((own.backends.len(), none.backends.len()), (3, 2));
}

#[test]
fn included_files_are_resources() {
    let included = |name: &str| format!("{name}\n[[template]]\nsrc = 'a'\ndst = '/$FILE'\n");
    let main = format!("include_dir = '$DIR'\n[default_backends.mock]\ninterval = 1\n{RESOURCE}");
    let config = Table::new(&main)
        .var("DIR", "/etc/remco/resource.d/")
        .var("FILE", "")
        .file("/etc/remco/resource.d/b.toml", &included("").replace("$FILE", "b"))
        .file("/etc/remco/resource.d/Z.toml", &included("name = 'z'").replace("$FILE", "z"))
        .file("/etc/remco/resource.d/.hidden.toml", &included("").replace("$FILE", "${NAME:-hidden}"))
        .file("/etc/remco/resource.d/upper.TOML", "not read")
        .file("/etc/remco/resource.d/notes.txt", "not read")
        .file("/etc/remco/resource.d/empty.toml", "# no template, no resource\n")
        .load();
    let names: Vec<&str> = config.resources.iter().map(|resource| &*resource.name).collect();
    assert_eq!(names, ["app", ".hidden.toml", "z", "b.toml"]);
    assert_eq!(config.resources[1].templates[0].dst, Path::new("/hidden"));
    let files = [".hidden.toml", "Z.toml", "b.toml", "empty.toml"];
    assert_eq!(config.included, files.map(|file| Path::new("/etc/remco/resource.d").join(file)));
}

#[test]
fn log_options() {
    let check = |level: &str, expected| {
        let (config, _) = Table::new(&format!("log_level = '{level}'")).load_with_findings();
        assert_eq!(config.log_level, expected, "{level}");
    };
    check("", LogLevel::Info);
    check("trace", LogLevel::Trace);
    check(" DEBUG ", LogLevel::Debug);
    check("Warn", LogLevel::Warn);
    check("error", LogLevel::Error);
    check("off", LogLevel::Off);
    check("panic", LogLevel::Error);
    check("warning", LogLevel::Info);
    assert_eq!(Table::new("log_format = 'json'").load().log_format, LogFormat::Json);
    assert_eq!(Table::new("log_format = 'text'").load().log_format, LogFormat::Text);
    let config = Table::new("pid_file = '/p'\nfilter_dir = '/f'\nlog_file = '/l'\ninclude_dir = ''").load();
    assert_eq!(config.pid_file.as_deref(), Some(Path::new("/p")));
}

#[test]
fn filters_are_listed() {
    let table = Table::new("filter_dir = '/f'");
    assert_eq!(table.load().filters, [] as [&Path; 0]);
    let table = table.file("/f/b.js", "").file("/f/a.js", "").file("/f/a.json", "").file("/f/.js.txt", "");
    let loaded = load(Path::new("/etc/remco/config"), Strictness::Lenient, Mode::Watch, &table);
    match (loaded, cfg!(feature = "js")) {
        (Ok((config, _)), true) => assert_eq!(config.filters, [Path::new("/f/a.js"), Path::new("/f/b.js")]),
        (Err(findings), false) => {
            let error = findings.list.iter().find(|finding| finding.fatal).map(Finding::headline);
            let why = "failed to load `a.js` of the filter_dir `/f`: this program is built without JavaScript filters: \
                       use the `full` build (cargo build --features full)";
            assert_eq!(error, Some(format!("/etc/remco/config:1:14: {why}")));
        }
        (loaded, _) => panic!("{:?}", loaded.is_ok()),
    }
}

#[test]
fn telemetry() {
    let config = Table::new(
        "
[telemetry]
enabled = true
service_name = 's'
hostname = 'h'
enable_hostname = false
enable_hostname_label = true
enable_runtime_metrics = false
[telemetry.sinks.inmem]
interval = 10
retain = 60
[telemetry.sinks]
statsd.addr = 'a:1'
statsite.addr = 'b:2'
prometheus = {addr = '127.0.0.1:3'}
textfile.path = 'd.prom'
",
    )
    .load();
    let expected = Telemetry {
        enabled: true,
        service_name: "s".into(),
        hostname: "h".into(),
        enable_hostname: false,
        enable_hostname_label: true,
        enable_runtime_metrics: false,
        inmem: Some((Duration::from_secs(10), Duration::from_secs(60))),
        statsd: Some(("a".into(), 1)),
        statsite: Some(("b".into(), 2)),
        prometheus: Some((Listen::Tcp("127.0.0.1:3".parse().unwrap()), Duration::ZERO)),
        textfile: Some("d.prom".into()),
    };
    assert_eq!(config.telemetry, expected);
}

#[test]
fn configurations_can_be_compared() {
    let one = Table::new(&format!("{RESOURCE}{MOCK}"));
    assert_eq!(one.load(), one.load());
    let comment = Table::new(&format!("# a comment\n{RESOURCE}# more{MOCK}"));
    assert_eq!(one.load(), comment.load());
    let other = Table::new(&format!("{RESOURCE}mode = '0600'{MOCK}"));
    assert_ne!(one.load(), other.load());
}

#[test]
fn what_defaults_are_told_is_told_once_and_hides_nothing() {
    let mut text = "[default_backends.mock]\ninterval = 1\noops = 1\n".to_owned();
    for number in 0..600 {
        let template = format!("[[resource.template]]\nsrc = 'a'\ndst = '/{number}'\n");
        text += &format!("[[resource]]\nname = '{number}'\n{template}");
    }
    text += "last = 1\n";
    let (_, warnings) = Table::new(&text).load_with_findings();
    assert_eq!(warnings.len(), 2, "{warnings:?}");
    assert!(warnings[1].contains("unknown key `last`"), "{warnings:?}");
}

/// Any bytes give a result and no panic, and an equal result the second time.
#[test]
fn no_bytes_bring_it_down() {
    let pieces: Vec<&[u8]> = [
        "[[resource]]",
        "[resource]",
        "[resource.",
        "[[resource.template]]",
        "[resource.backend.etcd]",
        "[default_backends.file]",
        "\n",
        "\n",
        "\n",
        " = ",
        "=",
        "\"",
        "'",
        "\"\"\"",
        "'''",
        "[",
        "]",
        "{",
        "}",
        "{{.src}}",
        "{{",
        "}}",
        "-",
        ".",
        ",",
        "$",
        "${",
        "$A",
        "${A:-x}",
        "$EMPTY",
        "#",
        "\\",
        "\\u00e4",
        "\\n",
        "name",
        "src",
        "dst",
        "mode",
        "keys",
        "nodes",
        "interval",
        "exec",
        "command",
        "check_cmd",
        "reload_signal",
        "include_dir = \"/d\"\n",
        "backend",
        "plugin",
        "config",
        "true",
        "0644",
        "1e999",
        "99999999999999999999",
        "1979-05-27",
        "a",
        "/",
        "`",
        "$(",
        ")",
        "printf \"%q\"",
        "|",
        "\u{feff}",
        "ä",
        "\t",
        "\r\n",
        "\0",
        "\u{1b}",
        "src = \"a\"\n",
        "dst = '/b'\n",
        "keys = [\"/\"]\n",
        "check_cmd = \"",
        "command = '",
        "mode = '",
    ]
    .map(str::as_bytes)
    .into_iter()
    .chain([&b"\xff"[..], b"\xc3", b"\xed\xa0\x80"])
    .collect();
    let mut random = Random::new(1);
    for _ in 0..2000 {
        let mut text = || {
            let length = random.below(60);
            (0..length).flat_map(|_| pieces[random.below(pieces.len())]).copied().collect::<Vec<u8>>()
        };
        let mut table = Table::default();
        table.files.insert("/etc/remco/config".into(), text());
        table.files.insert("/d/a.toml".into(), text());
        table.vars.insert(b"A".to_vec(), text());
        table.vars.insert(b"EMPTY".to_vec(), Vec::new());
        let answer = || {
            let answer = load(Path::new("/etc/remco/config"), Strictness::Strict, Mode::Watch, &table);
            answer.map(|(config, warnings)| (format!("{config:?}"), warnings)).map_err(|findings| {
                assert!(findings.list.iter().any(|finding| finding.fatal), "an error without a reason: {table:?}");
                findings.to_string()
            })
        };
        assert_eq!(answer(), answer(), "{table:?}");
    }
}

/// Damaged configurations: every prefix of a real one, and every byte replaced.
#[test]
fn no_damage_brings_it_down() {
    let whole = format!(
        "
include_dir = '/d'
[default_backends.etcd]
nodes = ['${{A:-http://a:1}}']
{RESOURCE}
check_cmd = \"a \\\"{{{{.src}}}}\\\"\"
[resource.exec]
command = 'a `b` $(c) \"d\"'
kill_signal = 'SIGTERM'
[[resource.backend.plugin]]
path = 'p'
config = {{a = [1]}}
"
    );
    let check = |text: &[u8]| {
        let mut table = Table::default();
        table.files.insert("/etc/remco/config".into(), text.to_vec());
        let _ = load(Path::new("/etc/remco/config"), Strictness::Strict, Mode::Watch, &table)
            .map_err(|findings| findings.to_string());
    };
    for cut in 0..whole.len() {
        check(&whole.as_bytes()[..cut]);
        for byte in *b"\"'[]{}=\n\\$\xff" {
            let mut damaged = whole.clone().into_bytes();
            damaged[cut] = byte;
            check(&damaged);
        }
    }
}

#[test]
fn etcd_has_limits_of_its_own() {
    let text = format!(
        "{RESOURCE}[resource.backend.etcd]
nodes = ['a']
keys = ['/']
watch = true
request_timeout = 1.5
dial_timeout = 86400
timeout = 0.1
watch_deadline = 1e1
max_response = 1
max_keys = 2
max_decoded = 3
"
    );
    let etcd = Etcd {
        nodes: vec!["http://a".into()],
        watch_deadline: Duration::from_secs(10),
        network: Network {
            request_timeout: Duration::from_millis(1500),
            dial_timeout: Duration::from_secs(86400),
            timeout: Duration::from_millis(100),
            max_response: 1,
            read: ReadLimits { max_keys: 2, max_decoded: 3 },
        },
        ..Etcd::default()
    };
    assert_eq!(Table::new(&text).load().resources[0].backends[0].kind, Kind::Etcd(etcd));
}

#[test]
fn credentials_of_the_nearest_table_count() {
    let check = |defaults: &str, own: &str, want: Option<[Credential; 2]>| {
        let text = format!(
            "[default_backends.etcd]
nodes = ['a']
keys = ['/']
watch = true
{defaults}
{RESOURCE}[resource.backend.etcd]
{own}
"
        );
        let config = Table::new(&text).load();
        let Kind::Etcd(etcd) = &config.resources[0].backends[0].kind else { panic!("{config:?}") };
        assert_eq!(etcd.login, want.map(|[username, password]| Login { username, password }), "{defaults} {own}");
    };
    let text = |text: &str| Credential::Inline(Secret::new(text.into()));
    let file = |path: &str| Credential::File(path.into());
    check("", "", None);
    check("", "username = 'u'\npassword = 'p'", Some([text("u"), text("p")]));
    check("", "username_file = 'u'\npassword_file = 'p'", Some([file("u"), file("p")]));
    check("", "username = ''\nusername_file = 'u'\npassword_file = 'p'\npassword = ''", Some([file("u"), file("p")]));
    check("username = 'u'\npassword = 'p'", "password_file = 'p'", Some([text("u"), file("p")]));
    check("username_file = 'u'\npassword_file = 'p'", "username = 'x'", Some([text("x"), file("p")]));
    check("username = 'u'\npassword = 'p'", "username_file = ''\npassword = ''", None);
}

#[test]
#[cfg(not(feature = "tls"))]
fn a_build_without_tls_refuses_what_needs_it() {
    let errors = |backend: &str| {
        let config = Table::new(&format!("{RESOURCE}[resource.backend.{backend}\nkeys = ['/']\nonetime = true\n"));
        match load(Path::new("/etc/remco/config"), Strictness::Lenient, Mode::Watch, &config) {
            Ok(_) => Vec::new(),
            Err(findings) => findings.list.iter().map(Finding::headline).collect(),
        }
    };
    let check = |backend: &str, want: &[&str]| {
        let want: Vec<String> = want.iter().map(|what| format!("/etc/remco/config:{what} TLS: {NO_TLS}")).collect();
        assert_eq!(errors(backend), want, "{backend}");
    };
    check("etcd]\nnodes = ['http://a']", &[]);
    check("etcd]\nnodes = ['http://a', 'https://b']", &["8:22: this address needs"]);
    check("etcd]\nnodes = ['http://a']\nclient_ca_keys = 'x'", &["9:18: `client_ca_keys` needs"]);
    check("etcd]\nsrv_record = '_etcd-client._tcp.a'", &[]);
    check("etcd]\nsrv_record = '_etcd-client-ssl._tcp.a'", &["8:14: `srv_record` needs"]);
    check("file]\nfilepath = 'HTTP://a/x'", &[]);
    check("file]\nfilepath = 'HTTPS://a/x'", &["8:12: this address needs"]);
    // A store that is left out of the build has this error alone.
    #[cfg(feature = "consul")]
    check("consul]\nnodes = ['a']\nscheme = 'https'", &["9:10: `scheme` needs"]);
    #[cfg(feature = "nats")]
    check("nats]\nbucket = 'b'\ncreds = 'c'", &["9:9: `creds` needs"]);
}

#[test]
#[cfg(not(any(
    feature = "consul",
    feature = "vault",
    feature = "redis",
    feature = "zookeeper",
    feature = "nats",
    feature = "plugin"
)))]
fn a_build_without_a_store_says_where_it_is_asked_for() {
    let check = |text: &str, want: &[&str]| {
        let Err(findings) = load(Path::new("/etc/remco/config"), Strictness::Lenient, Mode::Watch, &Table::new(text))
        else {
            panic!("{text}")
        };
        let errors: Vec<String> = findings.list.iter().filter(|finding| finding.fatal).map(Finding::headline).collect();
        let why = "this program is built without it: use the default build (cargo build --release)";
        let want: Vec<String> =
            want.iter().map(|at| format!("/etc/remco/config:{at} is not supported: {why}")).collect();
        assert_eq!(errors, want, "{text}");
    };
    for store in ["consul]\nscheme = 'https'", "redis]\nnodes = ['rediss://a']", "zookeeper]\nnodes = ['a']"] {
        let name = store.split(']').next().unwrap();
        check(&format!("{RESOURCE}[resource.backend.{store}\nkeys = ['/']\n"), &[&format!("7:1: `{name}`")]);
    }
    let vault = "node = 'https://a'\nauth_type = 'token'\nauth_token = 'a'\nkeys = ['/']";
    check(&format!("{RESOURCE}[resource.backend.vault]\n{vault}\n"), &["7:1: `vault`"]);
    let nats = "bucket = 'b'\nkeys = ['/']\n[[resource.backend.plugin]]\npath = 'a'\nkeys = ['/']";
    check(&format!("{RESOURCE}[resource.backend.nats]\n{nats}\n"), &["7:1: `nats`", "10:1: `plugin`"]);
    // Reported once for all resources that inherit it, even if one of them adds a key.
    let defaults = "[default_backends.consul]\nkeys = ['/']\n";
    let own = "[resource.backend.consul]\nkeys = ['/a']\n";
    let other = RESOURCE.replace("/etc/a", "/etc/b");
    check(&format!("{defaults}{RESOURCE}{own}{other}"), &["1:1: `consul`"]);
}

#[test]
fn nodes_of_a_record_have_a_scheme() {
    let check = |record: &str, scheme: &str, files, version, want: &str| {
        let tls = Tls { client_ca_keys: if files { Some("ca.pem".into()) } else { None }, ..Tls::default() };
        let etcd = Etcd { srv_record: record.into(), scheme: scheme.into(), tls, version, ..Etcd::default() };
        assert_eq!(etcd.scheme_of_record(), want, "{record} {scheme} {files} {version:?}");
        assert_eq!(etcd.wants_tls(), files || want == "https");
    };
    let (two, three) = (Some(EtcdVersion::V2), Some(EtcdVersion::V3));
    let plain = "_etcd-client._tcp.example.com";
    check(plain, "http", false, None, "http");
    check(plain, "http", true, None, "https");
    check(plain, "https", false, three, "http");
    check(plain, "http", true, three, "https");
    check(plain, "http", true, two, "http");
    check(plain, "https", false, two, "https");
    check("_etcd-client-ssl._tcp.example.com", "http", false, two, "https");
    check("_Etcd-Client-SSL._tcp.example.com", "http", false, three, "https");
    let given =
        Etcd { nodes: vec!["http://a".into()], srv_record: "_etcd-client-ssl._tcp.a".into(), ..Etcd::default() };
    assert!(!given.wants_tls());
}

#[test]
fn unused_keys_are_not_suggested() {
    let (_, warnings) = Table::new("log_fil = 'x'").load_with_findings();
    assert!(warnings.iter().any(|warning| warning.contains("unknown key `log_fil`")), "{warnings:?}");
    assert!(warnings.iter().all(|warning| !warning.contains("log_file")), "{warnings:?}");
}

#[test]
#[cfg(all(feature = "tls", feature = "consul"))]
fn the_variables_of_consuls_client_count_where_nothing_is_set() {
    let load = |table: Table| match &table.load().resources[0].backends[0].kind {
        Kind::Consul(consul) => consul.clone(),
        other => panic!("{other:?}"),
    };
    let text = |keys: &str| {
        format!(
            "[[resource]]\n[[resource.template]]\nsrc = \"/a\"\ndst = \"/b\"\n[resource.backend.consul]\nkeys = [\"/\"]\nonetime = true\n{keys}"
        )
    };
    let plain = load(Table::new(&text("")));
    assert_eq!((plain.nodes, plain.token), (vec!["http://127.0.0.1:8500".to_owned()], None));
    let set = |keys: &str| {
        load(
            Table::new(&text(keys))
                .var("CONSUL_HTTP_ADDR", "consul:1")
                .var("CONSUL_HTTP_SSL", "true")
                .var("CONSUL_HTTP_TOKEN", "t")
                .var("CONSUL_NAMESPACE", "n")
                .var("CONSUL_CACERT", "/ca")
                .var("CONSUL_TLS_SERVER_NAME", "name"),
        )
    };
    let of_environment = set("");
    assert_eq!(of_environment.nodes, ["https://consul:1"]);
    let token = of_environment.token.unwrap();
    assert_eq!((token.credential, token.source), (Credential::Inline(Secret::new("t".into())), "CONSUL_HTTP_TOKEN"));
    assert_eq!((&*of_environment.namespace, of_environment.tls.server_name.as_deref()), ("n", Some("name")));
    assert_eq!(of_environment.tls.client_ca_keys, Some("/ca".into()));
    let of_file =
        set("nodes = [\"c:2\"]\nscheme = \"http\"\ntoken_file = \"/t\"\nnamespace = \"m\"\nclient_ca_keys = \"/own\"");
    assert_eq!((of_file.nodes, &*of_file.namespace), (vec!["http://c:2".to_owned()], "m"));
    let token = of_file.token.unwrap();
    assert_eq!((token.credential, token.source), (Credential::File("/t".into()), "token_file"));
    assert_eq!(of_file.tls.client_ca_keys, Some("/own".into()));
}

#[test]
#[cfg(all(feature = "tls", feature = "nats"))]
fn one_kind_of_login_to_nats_counts() {
    let check = |keys: &str, want: Option<NatsLogin>, warning: &str| {
        let text =
            format!("{RESOURCE}[resource.backend]\nnats = {{bucket = 'b', keys = ['/'], onetime = true, {keys}}}\n");
        let (config, warnings) = Table::new(&text).load_with_findings();
        let Kind::Nats(nats) = &config.resources[0].backends[0].kind else { panic!("not of NATS") };
        assert_eq!(nats.login, want, "{keys}");
        let text = warnings.join("\n");
        assert_eq!(text.contains("has no effect beside"), !warning.is_empty(), "{keys}: {text}");
        assert!(text.contains(warning), "{keys}: {text}");
    };
    let inline = |text: &str| Credential::Inline(Secret::new(text.into()));
    let user = || Some(NatsLogin::User(Login { username: inline("u"), password: inline("p") }));
    check("username = 'u', password = 'p'", user(), "");
    check("token = 't'", Some(NatsLogin::Token(inline("t"))), "");
    check("token_file = 'f'", Some(NatsLogin::Token(Credential::File("f".into()))), "");
    check(
        "username = 'u', token = 't'",
        Some(NatsLogin::Token(inline("t"))),
        "`username` has no effect beside `token`",
    );
    check("token = 't', creds = 'c'", Some(NatsLogin::Creds("c".into())), "`token` has no effect beside `creds`");
    check("username = 'u', creds = 'c'", Some(NatsLogin::Creds("c".into())), "`username` has no effect beside `creds`");
    check("token = '', username = 'u', password = 'p'", user(), "");
}
