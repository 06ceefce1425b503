//! A configuration in the shape of Go remco's documentation, with every store that this program has in it, on real servers:
//! it renders when all are up, and says which one is missing when one is down. Skipped where a server cannot be had.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;

use crate::support::{Consul, Etcd, Finished, Invocation, LIMIT, Nats, Redis, TempDir, remco, wait_until};

/// All servers, each with one key, and the folder of the configuration.
struct Stores {
    dir: TempDir,
    etcd: Etcd,
    consul: Consul,
    redis: Redis,
    nats: Nats,
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
";

impl Stores {
    fn start(test: &str) -> Option<Stores> {
        let (consul, nats) = (Consul::start()?, Nats::start(test)?);
        let (etcd, redis, dir) = (Etcd::start(), Redis::start(&["notify-keyspace-events KA"]), TempDir::new());
        consul.put("stores/consul", "1");
        etcd.put("/stores/etcd", "1");
        redis.set("/stores/redis", "1");
        let mut client = nats.client();
        client.create_bucket("config");
        client.put("config", "stores.nats", "1");
        dir.write("stores.yml", "stores: {file: 1}\n");
        dir.write("stores.tmpl", "{% for kv in getallkvs() %}{{ kv.Key }}={{ kv.Value }}\n{% endfor %}");
        dir.write(
            "plugin",
            include_str!("plugin/store.sh").replace("/app/greeting", "/stores/plugin").replace("from the shell", "1"),
        );
        std::fs::set_permissions(dir.at("plugin"), Permissions::from_mode(0o755)).unwrap();
        dir.write("config.toml", include_str!("stores/config.toml"));
        Some(Stores { dir, etcd, consul, redis, nats })
    }

    /// The addresses come from the environment, as in a container.
    fn remco(&self) -> Invocation {
        remco(&self.dir)
            .env("ETCD", &self.etcd.url())
            .env("CONSUL", &self.consul.node())
            .env("REDIS", &self.redis.node())
            .env("NATS", &self.nats.url())
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
        for other in ["consul", "etcd", "redis", "nats", "file", "env", "plugin"] {
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
    stores.remco().once().expect_code(0);
}

#[test]
fn a_change_of_any_store_is_rendered() {
    let Some(stores) = Stores::start("a_change_of_any_store_is_rendered") else { return };
    let program = stores.remco().start();
    let awaited = |text: &str| wait_until(text, LIMIT, || stores.dir.read("stores.conf").as_deref() == Some(text));
    awaited(ALL);
    let mut want = ALL.to_owned();
    let mut changed = |store: &str, change: &dyn Fn()| {
        change();
        want = want.replace(&format!("/stores/{store}=1"), &format!("/stores/{store}=2"));
        awaited(&want);
    };
    changed("etcd", &|| stores.etcd.put("/stores/etcd", "2"));
    changed("consul", &|| stores.consul.put("stores/consul", "2"));
    changed("redis", &|| stores.redis.set("/stores/redis", "2"));
    changed("nats", &|| stores.nats.client().put("config", "stores.nats", "2"));
    changed("file", &|| stores.dir.write("stores.yml", "stores: {file: 2}\n"));
    program.stop();
}
