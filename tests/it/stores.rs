//! A configuration in the form of Go remco's documentation with every supported store, on real servers: it renders
//! while all are up, and names the store that is down. Skipped where a server is missing.

use std::fs::Permissions;
use std::net::UdpSocket;
use std::os::unix::fs::PermissionsExt;

use serde_json::Value;

use crate::support::{
    Config, Consul, Etcd, Finished, Invocation, LIMIT, LIST, Nats, Redis, TempDir, Vault, Zookeeper, await_out, config,
    free_port, remco, wait_until, watching,
};
use crate::telemetry::scrape_until;

/// All servers, each with one key, and the folder of the configuration.
struct Stores {
    dir: TempDir,
    etcd: Etcd,
    consul: Consul,
    redis: Redis,
    nats: Nats,
    vault: Vault,
    zookeeper: Zookeeper,
}

/// What is rendered when all are up.
const ALL: &str = "\
/stores/consul=1
/stores/env=1
/stores/etcd=1
/stores/file=1
/stores/nats=1
/stores/plugin=1
/stores/redis=1
/stores/vault=1
/stores/zookeeper=1
";

/// The stores in the order in which they are merged: a later one wins.
const ORDER: [&str; 9] = ["etcd", "file", "env", "consul", "vault", "redis", "zookeeper", "nats", "plugin"];

impl Stores {
    fn start(test: &str) -> Option<Stores> {
        let (consul, nats, vault) = (Consul::start()?, Nats::start(test)?, Vault::start()?);
        let zookeeper = Zookeeper::is_there(test).then(|| Zookeeper::start(None))?;
        let (etcd, redis, dir) = (Etcd::start(), Redis::start(&["notify-keyspace-events KA"]), TempDir::new());
        consul.put("stores/consul", "1");
        etcd.put("/stores/etcd", "1");
        redis.set("/stores/redis", "1");
        let mut client = nats.client();
        client.create_bucket("config");
        client.put("config", "stores.nats", "1");
        vault.post("sys/mounts/stores", &serde_json::json!({"type": "kv"}));
        vault.put("stores/vault", serde_json::json!({"value": "1"}));
        zookeeper.client().put("/stores", "");
        zookeeper.client().put("/stores/zookeeper", "1");
        dir.write("stores.yml", "stores: {file: 1}\n");
        dir.write("stores.tmpl", "{% for kv in getallkvs() %}{{ kv.Key }}={{ kv.Value }}\n{% endfor %}");
        dir.write(
            "plugin",
            include_str!("plugin/store.sh").replace("/app/greeting", "/stores/plugin").replace("from the shell", "1"),
        );
        std::fs::set_permissions(dir.at("plugin"), Permissions::from_mode(0o755)).unwrap();
        dir.write("config.toml", include_str!("stores/config.toml"));
        Some(Stores { dir, etcd, consul, redis, nats, vault, zookeeper })
    }

    /// The addresses come from the environment, as in a container.
    fn remco(&self) -> Invocation {
        remco(&self.dir)
            .env("ETCD", &self.etcd.url())
            .env("CONSUL", &self.consul.node())
            .env("REDIS", &self.redis.node())
            .env("NATS", &self.nats.url())
            .env("VAULT", &self.vault.node())
            .env("VAULT_TOKEN", self.vault.root())
            .env("ZOOKEEPER", &self.zookeeper.node())
            .env("STORES_ENV", "1")
    }

    /// A one-shot run that fails because of one store, and names no other one.
    #[track_caller]
    fn fails_for(&self, store: &str, address: &str) {
        let run: Finished = self.remco().once();
        let run = run.expect_code(1).expect_log(address);
        let errors: Vec<&str> = run.log.lines().filter(|line| line.contains("ERROR")).collect();
        let is_of = |line: &&str| line.contains(&format!("backend={store} "));
        assert!(!errors.is_empty() && errors.iter().any(is_of), "{errors:#?}");
        for other in ORDER {
            let other = format!("backend={other} ");
            assert!(!errors.iter().any(|line| !is_of(line) && line.contains(&other)), "{store}: {errors:#?}");
        }
        assert_eq!(self.dir.read("stores.conf").as_deref(), Some(ALL), "the old file stays");
    }
}

#[test]
fn all_stores_render_into_one_file_and_one_that_is_down_is_named() {
    let Some(mut stores) = Stores::start("all_stores_render_into_one_file_and_one_that_is_down_is_named") else {
        return;
    };
    stores.remco().once().expect_code(0);
    assert_eq!(stores.dir.read("stores.conf").as_deref(), Some(ALL));
    stores.etcd.kill();
    stores.fails_for("etcd", &stores.etcd.url());
    stores.etcd.restart();
    stores.consul.kill();
    stores.fails_for("consul", &stores.consul.node());
    stores.consul.restart();
    stores.redis.kill();
    stores.fails_for("redis", &stores.redis.node());
    stores.redis.restart();
    stores.nats.kill();
    stores.fails_for("nats", &stores.nats.url());
    stores.nats.restart();
    stores.zookeeper.kill();
    stores.fails_for("zookeeper", &stores.zookeeper.node());
    stores.zookeeper.restart();
    stores.vault.kill();
    stores.fails_for("vault", &stores.vault.node());
}

#[test]
fn a_change_of_any_store_is_rendered() {
    let Some(stores) = Stores::start("a_change_of_any_store_is_rendered") else { return };
    let program = stores.remco().start();
    await_stores(&stores, ALL);
    let mut want = ALL.to_owned();
    let mut changed = |store: &str, change: &dyn Fn()| {
        change();
        want = want.replace(&format!("/stores/{store}=1"), &format!("/stores/{store}=2"));
        await_stores(&stores, &want);
    };
    changed("etcd", &|| stores.etcd.put("/stores/etcd", "2"));
    changed("consul", &|| stores.consul.put("stores/consul", "2"));
    changed("redis", &|| stores.redis.set("/stores/redis", "2"));
    changed("nats", &|| stores.nats.client().put("config", "stores.nats", "2"));
    changed("zookeeper", &|| stores.zookeeper.client().put("/stores/zookeeper", "2"));
    changed("vault", &|| stores.vault.put("stores/vault", serde_json::json!({"value": "2"})));
    changed("file", &|| stores.dir.write("stores.yml", "stores: {file: 2}\n"));
    program.stop();
}

/// The telemetry of the sample, switched on: every store is in the metrics, and those that count their changes with their
/// revision, which rises with a change.
#[test]
fn metrics_and_status_have_all_stores() {
    let Some(stores) = Stores::start("metrics_and_status_have_all_stores") else { return };
    let (port, statsd) = (free_port(), UdpSocket::bind("127.0.0.1:0").expect("a port"));
    statsd.set_read_timeout(Some(LIMIT)).expect("a limit can be set");
    let config = stores.dir.read("config.toml").expect("it was written").replace("enabled = false", "enabled = true");
    let config = config.replace("127.0.0.1:2112", &format!("127.0.0.1:{port}"));
    let config = config.replace("127.0.0.1:7524", &statsd.local_addr().expect("it has an address").to_string());
    stores.dir.write("config.toml", format!("status_file = \"status.json\"\n{config}"));
    let program = stores.remco().start();
    await_stores(&stores, ALL);
    for store in ORDER {
        scrape_until(port, &format!("remco_backend_connected{{backend=\"{store}\",resource=\"stores\"}} 1"));
    }
    let mut missing = ORDER.map(|store| format!("remco.backends.synced_total.{store}:")).to_vec();
    let mut buffer = [0; 2000];
    while !missing.is_empty() {
        let length = statsd.recv(&mut buffer).expect("a datagram in time");
        let text = String::from_utf8_lossy(&buffer[..length]).into_owned();
        missing.retain(|name| !text.lines().any(|line| line.starts_with(name)));
    }

    const COUNTING: [&str; 4] = ["etcd", "consul", "zookeeper", "nats"];
    let revision = |store: &str| -> Option<u64> {
        let status: Value = serde_json::from_str(&stores.dir.read("status.json")?).expect("it is JSON");
        let backends = status["resources"][0]["backends"].as_array().expect("there are backends");
        backends.iter().find(|backend| backend["name"] == store).expect("it is one of them")["revision"].as_u64()
    };
    wait_until("all that count have a revision", LIMIT, || COUNTING.iter().all(|store| revision(store).is_some()));
    for store in ORDER.iter().filter(|store| !COUNTING.contains(store)) {
        assert_eq!(revision(store), None, "{store}");
    }
    let mut want = ALL.to_owned();
    let mut rises = |store: &str, change: &dyn Fn()| {
        let before = revision(store);
        change();
        want = want.replace(&format!("/stores/{store}=1"), &format!("/stores/{store}=2"));
        await_stores(&stores, &want);
        wait_until(&format!("the revision of {store} rises"), LIMIT, || revision(store) > before);
    };
    rises("etcd", &|| stores.etcd.put("/stores/etcd", "2"));
    rises("consul", &|| stores.consul.put("stores/consul", "2"));
    rises("nats", &|| stores.nats.client().put("config", "stores.nats", "2"));
    rises("zookeeper", &|| stores.zookeeper.client().put("/stores/zookeeper", "2"));
    let newest = stores.etcd.etcdctl(&["get", "/stores/etcd", "--write-out=fields"]).stdout;
    let newest = String::from_utf8_lossy(&newest).into_owned();
    let newest = newest.lines().find_map(|line| line.strip_prefix("\"Revision\" : ")).expect("etcdctl tells it");
    scrape_until(port, "# TYPE remco_backend_revision gauge");
    scrape_until(port, &format!("remco_backend_revision{{backend=\"etcd\",resource=\"stores\"}} {newest}"));
    program.stop();
}

fn await_stores(stores: &Stores, text: &str) {
    wait_until(text, LIMIT, || stores.dir.read("stores.conf").as_deref() == Some(text));
}

/// A store whose answers are not ordered among each other may tell a trigger first.
#[test]
fn a_trigger_brings_what_was_written_before_it() {
    let Some(stores) = Stores::start("a_trigger_brings_what_was_written_before_it") else { return };
    let check = |store: &str, options: &dyn Fn(Config) -> Config, put: &mut dyn FnMut(&str, &str)| {
        put("app/a", "0");
        put("trigger", "0");
        let dir = TempDir::new();
        dir.write("list.tmpl", LIST);
        let config = options(config().resource("app").template("list.tmpl", "out").backend(store));
        let program = watching(&dir, config.keys(["/app"]).set("watchKeys", ["/trigger"]));
        for n in 1..20 {
            put("app/a", &n.to_string());
            put("trigger", &n.to_string());
            await_out(&dir, &format!("/app/a={n}\n"));
        }
        program.stop();
    };
    let nodes = |url: String| move |config: Config| config.set("nodes", [url.as_str()]);
    check("consul", &nodes(stores.consul.node()), &mut |key, value| stores.consul.put(key, value));
    let put = |key: &str, value: &str| stores.etcd.put(&format!("/{key}"), value);
    check("etcd", &nodes(stores.etcd.url()), &mut |key, value| put(key, value));
    check("redis", &nodes(stores.redis.node()), &mut |key, value| stores.redis.set(&format!("/{key}"), value));
    let mut client = stores.nats.client();
    let bucket = |config: Config| config.set("nodes", [stores.nats.url()]).set("bucket", "config");
    check("nats", &bucket, &mut |key, value| client.put("config", &key.replace('/', "."), value));
    let mut client = stores.zookeeper.client();
    client.put("/app", "");
    check("zookeeper", &nodes(stores.zookeeper.node()), &mut |key, value| client.put(&format!("/{key}"), value));
}

/// An address of another store is a common slip: each store says what it has found there, and no file is written.
#[test]
fn a_server_of_another_kind_is_named() {
    let Some(stores) = Stores::start("a_server_of_another_kind_is_named") else { return };
    let address = |url: String| url.split_once("://").map_or(url.clone(), |(_, address)| address.to_owned());
    let servers = [
        ("etcd", address(stores.etcd.url())),
        ("consul", address(stores.consul.node())),
        ("vault", address(stores.vault.node())),
        ("redis", address(stores.redis.node())),
        ("zookeeper", address(stores.zookeeper.node())),
        ("nats", address(stores.nats.url())),
    ];
    // The time that a node has of its own is longer than that of the run, and as long as that of a request.
    let silent = "no answer within 600ms";
    let closed = "connection closed by the server before it answered";
    // What a store says of a server: the first fitting line counts.
    let said = |store: &str, server: &str| match (store, server) {
        // They wait for more: a greeting, or the end of a line.
        ("zookeeper", "nats") => "the server is no ZooKeeper: its answer begins with `INFO ",
        ("zookeeper" | "nats", _) => silent,
        ("redis", "nats") => "not a reply of redis: `INFO ",
        ("redis", "consul" | "vault") => "not a reply of redis: `HTTP/1.1 400 Bad Request",
        ("redis", _) | (_, "redis" | "zookeeper") => closed,
        (_, "nats") => "the server speaks no HTTP: its answer begins with `INFO`",
        ("vault", _) => "not an answer of vault: status 404",
        ("consul", "etcd") => "not an answer of consul: status 404 without X-Consul-Index",
        ("consul", _) => "status 403",
        (_, _) => "HTTP 404",
    };
    for (server, address) in &servers {
        let dir = TempDir::new();
        dir.write("list.tmpl", LIST);
        let stores: Vec<&str> = servers.iter().map(|(store, _)| *store).filter(|store| store != server).collect();
        let resource = |store: &str| {
            let resource = config().resource(store).template("list.tmpl", store).backend(store).keys(["/kv/app"]);
            let resource = resource.set("timeout", 0.5).set("request_timeout", 0.6);
            match store {
                "vault" => {
                    let resource = resource.set("node", format!("http://{address}"));
                    resource.set("auth_type", "token").set("auth_token", "t")
                }
                "nats" => resource.set("nodes", [address.as_str()]).set("bucket", "config"),
                _ => resource.set("nodes", [address.as_str()]),
            }
        };
        stores.iter().map(|store| resource(store)).reduce(Config::and).unwrap().write(&dir);
        let run = remco(&dir).once().expect_code(5);
        for store in stores {
            let of_store = |line: &&str| line.contains("ERROR") && line.contains(&format!("backend={store} "));
            let errors: Vec<&str> = run.log.lines().filter(of_store).collect();
            let is_said = errors.last().is_some_and(|line| line.contains(said(store, server)));
            assert!(is_said && dir.read(store).is_none(), "{store} at {server}: {errors:#?}");
        }
    }
}

/// Each two neighbours in the order have a key in common.
#[test]
fn stores_are_merged_in_their_order() {
    let Some(stores) = Stores::start("stores_are_merged_in_their_order") else { return };
    let keys = |store: &str| {
        let place = ORDER.iter().position(|name| *name == store).unwrap();
        ORDER
            .windows(2)
            .enumerate()
            .filter(move |(n, _)| *n == place || *n + 1 == place)
            .map(|(n, _)| format!("both{n}"))
    };
    let listed = |store: &str, form: &dyn Fn(String) -> String| keys(store).map(form).collect::<Vec<_>>().join(", ");
    keys("etcd").for_each(|key| stores.etcd.put(&format!("/stores/{key}"), "etcd"));
    stores.dir.write("stores.yml", format!("stores: {{file: 1, {}}}\n", listed("file", &|key| format!("{key}: file"))));
    keys("consul").for_each(|key| stores.consul.put(&format!("stores/{key}"), "consul"));
    keys("vault").for_each(|key| stores.vault.put(&format!("stores/{key}"), serde_json::json!({"value": "vault"})));
    keys("redis").for_each(|key| stores.redis.set(&format!("/stores/{key}"), "redis"));
    keys("zookeeper").for_each(|key| stores.zookeeper.client().put(&format!("/stores/{key}"), "zookeeper"));
    keys("nats").for_each(|key| stores.nats.client().put("config", &format!("stores.{key}"), "nats"));
    let more = listed("plugin", &|key| format!("\"/stores/{key}\":\"plugin\""));
    let plugin = stores
        .dir
        .read("plugin")
        .unwrap()
        .replace("\\\"/stores/plugin\\\"", &format!("{}, \\\"/stores/plugin\\\"", more.replace('"', "\\\"")));
    stores.dir.write("plugin", plugin);
    let mut program = stores.remco();
    for key in keys("env") {
        program = program.env(&format!("STORES_{}", key.to_uppercase()), "env");
    }
    let run = program.once().expect_code(0);
    let merged: String = ORDER[1..].iter().enumerate().map(|(n, later)| format!("/stores/both{n}={later}\n")).collect();
    assert_eq!(stores.dir.read("stores.conf").unwrap(), format!("{merged}{ALL}"));
    for n in 0..ORDER.len() - 1 {
        run.log.lines().find(|line| line.contains("WARN") && line.contains(&format!("/stores/both{n}"))).unwrap();
    }
}
