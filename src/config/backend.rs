//! What the keys of the backends mean, and how a resource's backends overlay the default ones: field by field, from
//! scratch for every resource, so that none can change another's. Connects to nothing.

use std::collections::BTreeMap;
use std::time::Duration;

use super::document::{Node, Span, Table, Value};
use super::keys::{self, Shape};
use super::model::{
    Backend, Consul, Credential, Etcd, EtcdVersion, File, Kind, Login, Mode, Nats, Plugin, ReadLimits, Redis, Secret,
    Tls, Vault, Zookeeper,
};
use super::reader::{Found, Reader};
use super::report::{Report, quoted};
use crate::nearest::nearest;

/// A backend that is not a plugin.
struct Builtin {
    name: &'static str,
    shape: &'static Shape,
    /// Reads what is its own. `None` where something it cannot do without is wrong or missing.
    kind: fn(&Reader, Purpose) -> Option<Kind>,
}

/// In merge order: a later one wins. Plugins come behind them.
const BUILTIN: &[Builtin] = &[
    Builtin { name: "etcd", shape: &keys::ETCD, kind: etcd },
    Builtin { name: "file", shape: &keys::FILE, kind: file },
    Builtin { name: "env", shape: &keys::ENV, kind: |_, _| Some(Kind::Env) },
    Builtin { name: "consul", shape: &keys::CONSUL, kind: consul },
    Builtin { name: "vault", shape: &keys::VAULT, kind: vault },
    Builtin { name: "redis", shape: &keys::REDIS, kind: redis },
    Builtin { name: "zookeeper", shape: &keys::ZOOKEEPER, kind: zookeeper },
    Builtin { name: "mock", shape: &keys::MOCK, kind: |_, _| Some(Kind::Mock) },
    Builtin { name: "nats", shape: &keys::NATS, kind: nats },
];

/// What a backend's table is read for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Purpose {
    /// For a resource: what the backend needs must be there.
    Use,
    /// As a default: what the backend needs may come with the resource.
    Default,
}

/// All backends of a resource, its own over the default ones. `header` is the one of its `backend` table.
pub(super) fn parse_all(resource: &Reader, header: &str, defaults: Option<&Found<&Table>>) -> Vec<Backend> {
    let report = resource.report;
    let own = resource.table("backend");
    let layers: Vec<(&Table, Span)> = own.iter().chain(defaults).map(|table| (table.value, table.span)).collect();
    let mut backends = Vec::new();
    let mut named = false;
    if !layers.is_empty() {
        let reader = Reader::overlaid(report, &keys::BACKENDS, layers);
        for builtin in BUILTIN {
            named |= reader.has(builtin.name);
            let tables = reader.tables_of_layers(builtin.name);
            if !tables.is_empty() {
                let layers = tables.iter().map(|table| (table.value, table.span)).collect();
                let reader = Reader::overlaid(report, builtin.shape, layers);
                backends.extend(parse(&reader, builtin.name, builtin.kind, Purpose::Use));
            }
        }
    }
    if let Some(own) = &own {
        let reader = Reader::new(report, &keys::BACKENDS, own.value, own.span);
        named |= reader.has("plugin");
        for table in reader.tables("plugin", &format!("{header}.plugin")) {
            let reader = Reader::new(report, &keys::PLUGIN, table.value, table.span);
            backends.extend(parse(&reader, "plugin", plugin, Purpose::Use));
        }
    }
    let malformed = own.is_none() && resource.has("backend");
    if !named && !malformed {
        let message = format!("this resource has no backend: add one, such as `[{header}.etcd]`");
        report.missing(resource.span(), message);
    }
    backends
}

/// Checks default_backends for themselves: they are wrong even if no resource is there to use them.
pub(super) fn check_defaults(report: &Report, defaults: &Found<&Table>) {
    let reader = Reader::new(report, &keys::BACKENDS, defaults.value, defaults.span);
    for builtin in BUILTIN {
        if let Some(table) = reader.table(builtin.name) {
            let reader = Reader::new(report, builtin.shape, table.value, table.span);
            parse(&reader, builtin.name, builtin.kind, Purpose::Default);
        }
    }
    if reader.has("plugin") {
        report.warn(reader.place("plugin"), "`plugin` is not inherited: move it into the resources that need it");
    }
}

/// What every backend has, around what is its own.
fn parse(reader: &Reader, name: &str, kind: fn(&Reader, Purpose) -> Option<Kind>, purpose: Purpose) -> Option<Backend> {
    let kind = kind(reader, purpose);
    let texts =
        |key| -> Vec<String> { reader.texts(key).into_iter().flatten().map(|text| text.value.to_owned()).collect() };
    let (keys, watch_keys) = (texts("keys"), texts("watchKeys"));
    if purpose == Purpose::Use && !reader.has("keys") && watch_keys.is_empty() && name != "mock" {
        reader.report.lacking(reader.span(), format!("{name} reads nothing: it has no `keys`"));
    }
    let onetime = reader.boolean("onetime").unwrap_or(false);
    let unwatchable = match &kind {
        Some(Kind::File(file)) => file.is_remote().then_some("a remote file"),
        Some(Kind::Env | Kind::Vault(_) | Kind::Redis(_) | Kind::Mock) => Some(name),
        Some(Kind::Etcd(_) | Kind::Consul(_) | Kind::Zookeeper(_) | Kind::Nats(_) | Kind::Plugin(_)) => None,
        // Of those that cannot be watched only this one can be without what it needs.
        None => (name == "vault").then_some(name),
    };
    let (watch, interval) = pace(reader, unwatchable, onetime, purpose);
    Some(Backend {
        watch_keys: if watch_keys.is_empty() { keys.clone() } else { watch_keys },
        keys,
        prefix: reader.string("prefix"),
        watch,
        onetime,
        interval,
        kind: kind?,
    })
}

/// What remco takes where nothing would ever read the keys again.
const INTERVAL: Duration = Duration::from_secs(60);

/// Whether the backend is watched, and how often it is read. `unwatchable`: what it is that cannot be watched.
fn pace(reader: &Reader, unwatchable: Option<&str>, onetime: bool, purpose: Purpose) -> (bool, Option<Duration>) {
    let report = reader.report;
    let mut watch = reader.boolean("watch").unwrap_or(false);
    if let Some(what) = unwatchable.filter(|_| watch) {
        report.warn(reader.place("watch"), format!("{what} cannot be watched, using `interval` instead"));
        watch = false;
    }
    let written = reader.signed_seconds("interval");
    if written.as_ref().is_some_and(|found| found.value > 0) {
        return (watch, reader.seconds("interval").map(|found| found.value));
    }
    // Zero and less have always meant "not set".
    if watch || onetime {
        return (watch, None);
    }
    let wrong_type = written.is_none() && reader.has("interval");
    if purpose == Purpose::Use && report.mode == Mode::Watch && !wrong_type {
        report.lacking(reader.place("interval"), "interval needs to be > 0: setting interval to 60");
    }
    (watch, Some(INTERVAL))
}

fn etcd(reader: &Reader, purpose: Purpose) -> Option<Kind> {
    const EXAMPLE: &str = "http://127.0.0.1:2379";
    let tls = tls(reader, purpose);
    let scheme = if tls == Tls::default() { "http" } else { "https" };
    let url = |node: Found<&str>| {
        let url = node_url(node.value, scheme).filter(|url| is_plain(url));
        if url.is_none() {
            let why = reader.report.unset(node.span);
            let message = format!("this is no address of etcd{why}: write it like `\"{EXAMPLE}\"`");
            reader.report.error(node.span, message);
        }
        url
    };
    let usual = Etcd::default();
    Some(Kind::Etcd(Etcd {
        nodes: addresses(reader, "etcd", Some(EXAMPLE), purpose).into_iter().filter_map(url).collect(),
        scheme: reader.filled("scheme").map_or(usual.scheme, |scheme| scheme.value.to_owned()),
        srv_record: reader.string("srv_record"),
        tls,
        login: login(reader, purpose),
        version: etcd_version(reader),
        request_timeout: reader.time_limit("request_timeout").unwrap_or(usual.request_timeout),
        dial_timeout: reader.time_limit("dial_timeout").unwrap_or(usual.dial_timeout),
        timeout: reader.time_limit("timeout").unwrap_or(usual.timeout),
        watch_deadline: reader.time_limit("watch_deadline").unwrap_or(usual.watch_deadline),
        max_response: reader.positive("max_response").unwrap_or(usual.max_response),
        read: read_limits(reader),
    }))
}

fn read_limits(reader: &Reader) -> ReadLimits {
    let usual = ReadLimits::default();
    ReadLimits {
        max_keys: reader.positive("max_keys").unwrap_or(usual.max_keys),
        max_decoded: reader.positive("max_decoded").unwrap_or(usual.max_decoded),
    }
}

/// Who logs in to etcd. A password without a user is for nobody.
fn login(reader: &Reader, purpose: Purpose) -> Option<Login> {
    let username = credential(reader, "username", "username_file");
    let password = credential(reader, "password", "password_file");
    let report = reader.report;
    match (username, password) {
        (Some(username), Some(password)) => Some(Login { username, password }),
        (Some(username), None) => {
            if purpose == Purpose::Use {
                let span = reader.place(if reader.has("password") { "password" } else { "username" });
                let why = report.unset(span);
                let message = format!("`username` has no password{why}: set `password` or `password_file`");
                report.lacking(span, message);
            }
            Some(Login { username, password: Credential::Inline(Secret::default()) })
        }
        (None, Some(_)) => {
            if purpose == Purpose::Use {
                let span = reader.place(if reader.has("username") { "username" } else { "password" });
                let why = report.unset(span);
                let message = format!("nobody logs in: there is no user{why}: set `username` or `username_file`");
                report.lacking(span, message);
            }
            None
        }
        (None, None) => None,
    }
}

/// A text or the file that holds it, whichever is set nearer to the resource; `None` for neither and for an empty one.
fn credential(reader: &Reader, inline: &'static str, file: &'static str) -> Option<Credential> {
    match reader.nearest_of(&[inline, file]).as_slice() {
        [] => None,
        [name] if *name == file => reader.path(file).map(Credential::File),
        [_] => reader.filled(inline).map(|found| Credential::Inline(Secret::new(found.value.to_owned()))),
        _ => {
            let message = format!("{} and {} are both set: remove one of them", quoted(inline), quoted(file));
            reader.report.error(reader.place(file), message);
            None
        }
    }
}

fn file(reader: &Reader, purpose: Purpose) -> Option<Kind> {
    let httpheaders = headers(reader);
    let filepath = required(reader, "filepath", "a path or an http(s) URL", purpose)?;
    let file = File { filepath, httpheaders, read: read_limits(reader) };
    if file.is_remote() && node_url(&file.filepath, "http").is_none() {
        let why = reader.report.unset(reader.place("filepath"));
        let message = format!("this is no URL{why}: write it like `\"https://example.com/data.yml\"`");
        reader.report.error(reader.place("filepath"), message);
    }
    Some(Kind::File(file))
}

fn consul(reader: &Reader, purpose: Purpose) -> Option<Kind> {
    Some(Kind::Consul(Consul {
        // Without nodes it is CONSUL_HTTP_ADDR, else localhost:8500.
        nodes: nodes(reader, "consul", None, purpose),
        scheme: reader.string("scheme"),
        srv_record: reader.string("srv_record"),
        tls: tls(reader, purpose),
    }))
}

fn vault(reader: &Reader, purpose: Purpose) -> Option<Kind> {
    let vault = Vault {
        node: String::new(),
        auth_type: auth_type(reader),
        app_id: reader.secret("app_id"),
        user_id: reader.secret("user_id"),
        role_id: reader.secret("role_id"),
        secret_id: reader.secret("secret_id"),
        username: reader.string("username"),
        password: reader.secret("password"),
        auth_token: reader.secret("auth_token"),
        tls: tls(reader, purpose),
    };
    let node = required(reader, "node", "the address of the server", purpose)?;
    Some(Kind::Vault(Vault { node, ..vault }))
}

fn redis(reader: &Reader, purpose: Purpose) -> Option<Kind> {
    Some(Kind::Redis(Redis {
        nodes: nodes(reader, "redis", Some("127.0.0.1:6379"), purpose),
        srv_record: reader.string("srv_record"),
        password: reader.secret("password"),
        database: database(reader),
    }))
}

fn zookeeper(reader: &Reader, purpose: Purpose) -> Option<Kind> {
    Some(Kind::Zookeeper(Zookeeper {
        nodes: nodes(reader, "zookeeper", Some("127.0.0.1:2181"), purpose),
        srv_record: reader.string("srv_record"),
    }))
}

fn nats(reader: &Reader, purpose: Purpose) -> Option<Kind> {
    let nats = Nats {
        // Without nodes it is nats://localhost:4222.
        nodes: nodes(reader, "nats", None, purpose),
        bucket: String::new(),
        username: reader.string("username"),
        password: reader.secret("password"),
        token: reader.secret("token"),
        creds: reader.path("creds").unwrap_or_default(),
    };
    let bucket = required(reader, "bucket", "the name of a key-value bucket", purpose)?;
    Some(Kind::Nats(Nats { bucket, ..nats }))
}

fn plugin(reader: &Reader, purpose: Purpose) -> Option<Kind> {
    let config = plugin_config(reader);
    let path = required(reader, "path", "the path of the plugin's program", purpose)?;
    Some(Kind::Plugin(Plugin { path: path.into(), config }))
}

/// A text that the backend cannot work without.
fn required(reader: &Reader, key: &str, what: &str, purpose: Purpose) -> Option<String> {
    match purpose {
        Purpose::Use => reader.required(key, what).map(|found| found.value.to_owned()),
        Purpose::Default => Some(reader.string(key)),
    }
}

/// Whether the path of a request can be put behind the URL. An `@` in its own path is one of a password with a slash.
fn is_plain(url: &str) -> bool {
    !url.contains(['?', '#']) && !url.splitn(4, '/').skip(3).any(|path| path.contains('@'))
}

/// See [`Etcd::nodes`]. `None` where it cannot be one. `scheme` is for a node without.
fn node_url(node: &str, scheme: &str) -> Option<String> {
    let node = node.trim();
    let (scheme, rest) = node.split_once("://").unwrap_or((scheme, node));
    let (scheme, rest) = (scheme.to_ascii_lowercase(), rest.trim_end_matches('/'));
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    let host = authority.rsplit('@').next().unwrap_or_default();
    // A password with a slash in it makes its beginning look like a port.
    let (name, port) = match host.rsplit_once(':') {
        Some((name, port)) if !port.ends_with(']') => (name, Some(port)),
        _ => (host, None),
    };
    let sound = matches!(&*scheme, "http" | "https")
        && !name.is_empty()
        && (!name.contains(':') || (name.starts_with('[') && name.ends_with(']')))
        && port.is_none_or(|port| port.parse::<u16>().is_ok() && port.bytes().all(|b| b.is_ascii_digit()))
        && !rest.contains(|c: char| c.is_whitespace() || c.is_control());
    sound.then(|| format!("{scheme}://{rest}"))
}

fn nodes(reader: &Reader, name: &str, example: Option<&str>, purpose: Purpose) -> Vec<String> {
    addresses(reader, name, example, purpose).into_iter().map(|node| node.value.to_owned()).collect()
}

/// The nodes of a backend as they are written; empty ones, as unset variables leave them, are dropped. `example`: what
/// an address looks like, for a backend that cannot do without one.
fn addresses<'a>(reader: &Reader<'a>, name: &str, example: Option<&str>, purpose: Purpose) -> Vec<Found<&'a str>> {
    let report = reader.report;
    let texts = reader.texts("nodes");
    let is_list = texts.is_some();
    let is_empty = |node: &Found<&str>| node.value.trim().is_empty();
    let (empty, filled): (Vec<_>, Vec<_>) = texts.into_iter().flatten().partition(is_empty);
    if let Some(example) = example
        && purpose == Purpose::Use
        && filled.is_empty()
        && (is_list || !reader.has("nodes"))
        && reader.string("srv_record").is_empty()
    {
        let why = empty.first().map_or(String::new(), |node| report.unset(node.span));
        let message = format!("{name} has no nodes{why}: set `nodes = [\"{example}\"]`, or `srv_record`");
        report.missing(reader.place("nodes"), message);
    } else {
        for node in empty {
            let why = report.unset(node.span);
            report.warn(node.span, format!("an empty address in `nodes` is left out{why}"));
        }
    }
    filled
}

fn tls(reader: &Reader, purpose: Purpose) -> Tls {
    let tls = Tls {
        client_cert: reader.path("client_cert"),
        client_key: reader.path("client_key"),
        client_ca_keys: reader.path("client_ca_keys"),
    };
    let half = match (&tls.client_cert, &tls.client_key) {
        (Some(_), None) => Some(("client_cert", "client_key")),
        (None, Some(_)) => Some(("client_key", "client_cert")),
        _ => None,
    };
    if let Some((is, lacks)) = half
        && purpose == Purpose::Use
    {
        let why = if reader.has(lacks) { reader.report.unset(reader.place(lacks)) } else { String::new() };
        let message = format!("{} is of no use without {}{why}: set both", quoted(is), quoted(lacks));
        reader.report.missing(reader.place(is), message);
    }
    tls
}

fn etcd_version(reader: &Reader) -> Option<EtcdVersion> {
    let found = reader.integer("version")?;
    match found.value {
        2 => Some(EtcdVersion::V2),
        3 => Some(EtcdVersion::V3),
        _ => {
            reader.report.error(found.span, "`version` must be 2 or 3");
            None
        }
    }
}

/// Header names and values, the default ones too; a name that is in both is the resource's. HTTP does not look at the
/// case of names, so one in another case is the same.
fn headers(reader: &Reader) -> BTreeMap<String, Secret> {
    let mut headers: BTreeMap<String, (&str, &str)> = BTreeMap::new();
    for table in reader.tables_of_layers("httpheaders").iter().rev() {
        for entry in &table.value.entries {
            if let Value::Text(text) = &entry.node.value {
                let key = || reader.report.show(entry.key_span, &entry.key);
                if !is_header_name(&entry.key) {
                    reader.report.error(entry.key_span, format!("{} is no name of a header in HTTP", key()));
                } else if !text.chars().all(|c| matches!(c, ' '..='~' | '\t')) {
                    let message = format!("a header of HTTP has printable ASCII only, {} has other characters", key());
                    reader.report.error(entry.node.span, message);
                }
                headers.insert(entry.key.to_ascii_lowercase(), (&entry.key, text));
            } else {
                let key = reader.report.show(entry.key_span, &entry.key);
                reader.report.error(entry.node.span, format!("{key} must be a string, as all of `httpheaders`"));
            }
        }
    }
    headers.into_values().map(|(name, value)| (name.to_owned(), Secret::new(value.to_owned()))).collect()
}

/// A token of RFC 9110, section 5.6.2.
fn is_header_name(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b))
}

fn auth_type(reader: &Reader) -> String {
    const KNOWN: &[&str] = &["token", "approle", "app-id", "github", "userpass", "cert", "kubernetes"];
    let Some(found) = reader.filled("auth_type") else {
        return String::new();
    };
    if !KNOWN.contains(&found.value) {
        let shown = reader.report.show(found.span, found.value);
        let advice = match nearest(found.value, KNOWN.iter().copied()) {
            Some(known) => format!(", did you mean {}?", quoted(known)),
            None => format!(": known are {}", KNOWN.iter().copied().map(quoted).collect::<Vec<_>>().join(", ")),
        };
        reader.report.error(found.span, format!("unknown `auth_type` {shown}{advice}"));
    }
    found.value.to_owned()
}

fn database(reader: &Reader) -> i64 {
    let Some(found) = reader.integer("database") else {
        return 0;
    };
    if found.value < 0 {
        reader.report.error(found.span, "`database` must not be negative");
    }
    found.value
}

/// The `config` of a plugin as JSON text.
fn plugin_config(reader: &Reader) -> String {
    let Some(table) = reader.table("config") else {
        return "{}".to_owned();
    };
    json_table(reader.report, table.value).to_string()
}

fn json_table(report: &Report, table: &Table) -> serde_json::Value {
    table.entries.iter().map(|entry| (entry.key.clone(), json(report, &entry.node))).collect()
}

fn json(report: &Report, node: &Node) -> serde_json::Value {
    match &node.value {
        Value::Text(text) | Value::Date(text) => text.as_str().into(),
        Value::Integer(Some(value)) => (*value).into(),
        Value::Integer(None) => {
            report.error(node.span, "this integer does not fit 64 bits");
            serde_json::Value::Null
        }
        Value::Float(digits) => {
            let number = digits.parse().ok().and_then(serde_json::Number::from_f64);
            if number.is_none() {
                report.error(node.span, "JSON, which plugins are given, has no such number");
            }
            number.into()
        }
        Value::Boolean(value) => (*value).into(),
        Value::List(items) => items.iter().map(|item| json(report, item)).collect(),
        Value::Table(table) => json_table(report, table),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nodes_of_etcd_are_urls() {
        let check = |node: &str, want: Option<&str>| {
            assert_eq!(node_url(node, "http").as_deref(), want, "{node}");
        };
        check("http://127.0.0.1:2379", Some("http://127.0.0.1:2379"));
        check(" HTTP://etcd:2379/ ", Some("http://etcd:2379"));
        check("https://etcd:2379", Some("https://etcd:2379"));
        check("etcd:2379", Some("http://etcd:2379"));
        check("[::1]:2379", Some("http://[::1]:2379"));
        check("http://etcd:2379/gateway/", Some("http://etcd:2379/gateway"));
        check("me:secret@etcd:2379", Some("http://me:secret@etcd:2379"));
        for none in
            ["", "http://", "http:///", "http://:2379", "http://me@", "http://me@/x", "ftp://etcd", "a b", "://a"]
        {
            check(none, None);
        }
        for port in ["h:abc", "h:", "h:99999", "h:+1", "[::1]:x", "[::1", "::1", "me:se/cr@h:1", "me:se?cr@h:1"] {
            check(port, None);
        }
        check("[::1]", Some("http://[::1]"));
        for (url, want) in [("http://h/x", true), ("http://m:1@h/x", true), ("http://m:1/2@h", false)] {
            assert_eq!(is_plain(url), want, "{url}");
        }
        assert!(!is_plain("http://h/?x") && !is_plain("http://h/#x"));
        assert_eq!(node_url("etcd", "https").as_deref(), Some("https://etcd"));
    }
}
