//! What a checked configuration holds. Every default is filled in and every text is parsed, so
//! that nothing behind it looks at strings again. What runs is `resource::Resource`.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// A whole configuration, with include_dir and default_backends worked in.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    pub log_level: LogLevel,
    pub log_format: LogFormat,
    /// The `*.js` files of filter_dir, by name.
    pub filters: Vec<PathBuf>,
    pub pid_file: Option<PathBuf>,
    pub resources: Vec<Resource>,
    pub telemetry: Telemetry,
    pub limits: Limits,
    /// The files of include_dir that were read, in that order: each is logged.
    pub included: Vec<PathBuf>,
}

/// What one render of a template may cost; `None`: the template language's own default.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    /// Tags, expressions and loop rounds that are run, and every 16 bytes that they read or make.
    pub template_steps: Option<u64>,
    /// Processor time.
    pub template_time: Option<Duration>,
    /// Bytes of the result, and of each text or list on the way to it.
    pub template_output: Option<usize>,
    /// Bytes of all texts, lists and maps that are alive at a time.
    pub template_memory: Option<usize>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum LogLevel {
    Trace,
    Debug,
    Info,
    Warn,
    Error,
    Off,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    Text,
    Json,
}

/// How long the program runs: the flag `-onetime`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Every resource is brought up to date once.
    OneShot,
    /// Until told to stop.
    Watch,
}

/// One `[[resource]]`: templates that are rendered from the same keys.
#[derive(Clone, Debug, PartialEq)]
pub struct Resource {
    /// For people; two resources may have the same.
    pub name: String,
    /// For `/bin/sh -c`, untemplated; after the first successful render.
    pub start_cmd: Option<String>,
    /// How long it may take; `None`: as long as it likes.
    pub start_timeout: Option<Duration>,
    /// For `/bin/sh -c`, untemplated; after an update that changed something.
    pub reload_cmd: Option<String>,
    /// How long it may take; `None`: as long as it likes.
    pub reload_timeout: Option<Duration>,
    pub exec: Option<Exec>,
    pub templates: Vec<Template>,
    /// In merge order: a later one wins.
    pub backends: Vec<Backend>,
}

/// The supervised child of a resource.
#[derive(Clone, Debug, PartialEq)]
pub struct Exec {
    /// The program and its arguments; at least one word. There is no shell.
    pub command: Vec<Word>,
    /// The number of a signal; 0 sends nothing. `None`: the child is stopped and started again.
    pub reload_signal: Option<i32>,
    pub kill_signal: i32,
    pub kill_timeout: Duration,
    /// The upper end of a random delay.
    pub splay: Duration,
}

/// One word of an exec command: its parts, joined.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Word {
    pub parts: Vec<WordPart>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum WordPart {
    Text(String),
    /// What this command for `/bin/sh -c` prints when the child is started, without the space around it.
    Output(String),
}

#[derive(Clone, Debug, PartialEq)]
pub struct Template {
    pub src: PathBuf,
    pub dst: PathBuf,
    pub make_directories: bool,
    /// Permission bits, at most 0o7777. `None`: dst's, else 0644.
    pub mode: Option<u32>,
    /// `None`: neither changed nor compared.
    pub uid: Option<u32>,
    pub gid: Option<u32>,
    /// Knows `{{.src}}`.
    pub check_cmd: Option<Command>,
    /// How long it may take; `None`: as long as it likes.
    pub check_timeout: Option<Duration>,
    /// Knows `{{.dst}}`.
    pub reload_cmd: Option<Command>,
    /// How long it may take; `None`: as long as it likes.
    pub reload_timeout: Option<Duration>,
    pub durability: Durability,
    /// The content of the file at `dst` is replaced, and the file is not.
    pub in_place: bool,
}

/// What of a new file is certain to survive a power cut once it is in place.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Durability {
    /// The file and its name: both are synced before anybody is told.
    #[default]
    Full,
    /// The file: after a power cut there is the old or the new one, whole.
    File,
    /// Nothing; the file may be there without its content.
    None,
}

/// A command for `/bin/sh -c` with the place of a path in it: text and path in turn.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Command {
    pub parts: Vec<CommandPart>,
}

impl Command {
    /// The command with a path in its place.
    pub fn text(&self, path: &Path) -> OsString {
        let parts = self.parts.iter().map(|part| match part {
            CommandPart::Text(text) => OsStr::new(text),
            CommandPart::Path => path.as_os_str(),
        });
        parts.collect()
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CommandPart {
    Text(String),
    Path,
}

/// One backend of one resource.
#[derive(Clone, Debug, PartialEq)]
pub struct Backend {
    pub keys: Vec<String>,
    /// What triggers an update; the keys themselves where the user gave none.
    pub watch_keys: Vec<String>,
    pub prefix: String,
    pub watch: bool,
    /// Read once, then never again.
    pub onetime: bool,
    /// `None`: never read again by time.
    pub interval: Option<Duration>,
    pub kind: Kind,
}

/// What kind of backend, with the options of its own.
#[derive(Clone, Debug, PartialEq)]
pub enum Kind {
    Etcd(Etcd),
    File(File),
    Env,
    Consul(Consul),
    Vault(Vault),
    Redis(Redis),
    Zookeeper(Zookeeper),
    Mock,
    Nats(Nats),
    Plugin(Plugin),
}

#[derive(Clone, Debug, PartialEq)]
pub struct Etcd {
    /// URLs with `http` or `https` and no slash at the end; one at least where there is no `srv_record`. A node that is
    /// written without a scheme is https if a client_* file is set, else http.
    pub nodes: Vec<String>,
    pub scheme: String,
    pub srv_record: String,
    pub tls: Tls,
    /// `None`: nobody logs in.
    pub login: Option<Login>,
    /// `None`: found out.
    pub version: Option<EtcdVersion>,
    /// For each step of a request: to send it, for the head of its answer, for each piece of the rest.
    pub request_timeout: Duration,
    /// For a connection to come about.
    pub dial_timeout: Duration,
    /// How long a one-shot run tries.
    pub timeout: Duration,
    /// How long a watch may be silent before its node is asked whether it is alive.
    pub watch_deadline: Duration,
    /// Bytes of an answer, or of one line of a watch.
    pub max_response: usize,
    pub read: ReadLimits,
}

/// What one read of all keys may bring.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReadLimits {
    pub max_keys: usize,
    /// Bytes of keys and values as the store has them.
    pub max_decoded: usize,
}

/// Where nothing is set.
impl Default for ReadLimits {
    fn default() -> ReadLimits {
        ReadLimits { max_keys: 1_000_000, max_decoded: 256 << 20 }
    }
}

impl Etcd {
    /// The scheme of the nodes of `srv_record`.
    pub fn scheme_of_record(&self) -> &str {
        match self.version {
            // etcd's own name for the records of nodes with TLS.
            _ if self.srv_record.to_ascii_lowercase().starts_with("_etcd-client-ssl.") => "https",
            Some(EtcdVersion::V2) => &self.scheme,
            Some(EtcdVersion::V3) | None if self.tls == Tls::default() => "http",
            Some(EtcdVersion::V3) | None => "https",
        }
    }

    /// Whether a node has TLS or a file for it is set.
    pub fn wants_tls(&self) -> bool {
        // Nodes that are given win over the record.
        let of_nodes = self.nodes.iter().any(|node| node.starts_with("https://"));
        let of_record = self.nodes.is_empty() && self.scheme_of_record() == "https";
        self.tls != Tls::default() || of_nodes || of_record
    }
}

/// Where nothing is set.
impl Default for Etcd {
    fn default() -> Etcd {
        Etcd {
            nodes: Vec::new(),
            scheme: "http".to_owned(),
            srv_record: String::new(),
            tls: Tls::default(),
            login: None,
            version: None,
            request_timeout: Duration::from_secs(3),
            dial_timeout: Duration::from_secs(5),
            timeout: Duration::from_secs(30),
            watch_deadline: Duration::from_secs(30),
            max_response: 256 << 20,
            read: ReadLimits::default(),
        }
    }
}

/// Who logs in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Login {
    pub username: Credential,
    pub password: Credential,
}

/// A text that the configuration holds, or that a file does, which is read at every login.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Credential {
    Inline(Secret),
    File(PathBuf),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EtcdVersion {
    V2,
    V3,
}

/// PEM files; `None` where not set.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Tls {
    pub client_cert: Option<PathBuf>,
    pub client_key: Option<PathBuf>,
    pub client_ca_keys: Option<PathBuf>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct File {
    /// A path or a http(s) URL.
    pub filepath: String,
    pub httpheaders: BTreeMap<String, Secret>,
    pub read: ReadLimits,
}

impl File {
    /// Whether the path is a URL.
    pub fn is_remote(&self) -> bool {
        let path = self.filepath.to_ascii_lowercase();
        path.starts_with("http://") || path.starts_with("https://")
    }
}

#[derive(Clone, Debug, PartialEq)]
pub struct Consul {
    pub nodes: Vec<String>,
    pub scheme: String,
    pub srv_record: String,
    pub tls: Tls,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Vault {
    pub node: String,
    pub auth_type: String,
    pub app_id: Secret,
    pub user_id: Secret,
    pub role_id: Secret,
    pub secret_id: Secret,
    pub username: String,
    pub password: Secret,
    pub auth_token: Secret,
    pub tls: Tls,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Redis {
    pub nodes: Vec<String>,
    pub srv_record: String,
    pub password: Secret,
    pub database: i64,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Zookeeper {
    pub nodes: Vec<String>,
    pub srv_record: String,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Nats {
    pub nodes: Vec<String>,
    pub bucket: String,
    pub username: String,
    pub password: Secret,
    pub token: Secret,
    pub creds: PathBuf,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Plugin {
    pub path: PathBuf,
    /// Any table, as JSON text: the plugin gets it as it is.
    pub config: String,
}

/// Where metrics go. Parsed and checked; nothing is sent yet.
#[derive(Clone, Debug, PartialEq)]
pub struct Telemetry {
    pub enabled: bool,
    pub service_name: String,
    pub hostname: String,
    pub enable_hostname: bool,
    pub enable_hostname_label: bool,
    pub enable_runtime_metrics: bool,
    /// interval and retain
    pub inmem: Option<(Duration, Duration)>,
    pub statsd: Option<String>,
    pub statsite: Option<String>,
    /// address, and after how long a metric expires (zero: never)
    pub prometheus: Option<(String, Duration)>,
}

/// A text that no log, error or `Debug` shows.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    pub fn new(text: String) -> Secret {
        Secret(text)
    }

    /// The text itself, for the one place that sends it.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("<secret>")
    }
}
