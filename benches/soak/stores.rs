//! The stores besides etcd, each behind a proxy: how a key is written and removed, how the server is killed and started
//! again, and the resource that renders all its keys. Does not decide when a failure comes.

use serde_json::json;

use crate::support::{Consul, FaultProxy, Nats, Random, Redis, Vault, Zookeeper};

const BUCKET: &str = "soak";

/// One store that this machine has.
pub struct Store {
    pub name: &'static str,
    pub proxy: FaultProxy,
    server: Server,
}

enum Server {
    Consul(Consul),
    Vault(Vault),
    Redis(Redis),
    Zookeeper(Zookeeper),
    Nats(Nats),
}

/// Starts the server of each store that can be had. The others are told by name.
pub fn start(keys: u64) -> Vec<Store> {
    let redis = Some(Server::Redis(Redis::start(&["notify-keyspace-events KA"])));
    let zookeeper = Zookeeper::is_there("soak").then(|| Zookeeper::start(None)).map(Server::Zookeeper);
    let all = [
        ("consul", Consul::start().map(Server::Consul)),
        ("vault", Vault::start().map(Server::Vault)),
        ("redis", redis),
        ("zookeeper", zookeeper),
        ("nats", Nats::start("soak").map(Server::Nats)),
    ];
    let mut stores = Vec::new();
    for (name, server) in all {
        let Some(server) = server else {
            println!("soak: without {name}");
            continue;
        };
        match &server {
            Server::Vault(vault) => drop(vault.post("sys/mounts/soak", &json!({"type": "kv"}))),
            Server::Zookeeper(zookeeper) => zookeeper.client().put("/soak", ""),
            Server::Nats(nats) => nats.client().create_bucket(BUCKET),
            Server::Consul(_) | Server::Redis(_) => {}
        }
        let store = Store { name, proxy: FaultProxy::start(server.port()), server };
        (0..keys).for_each(|key| store.put(key, "first"));
        stores.push(store);
    }
    stores
}

impl Server {
    fn port(&self) -> u16 {
        match self {
            Server::Consul(consul) => consul.port(),
            Server::Vault(vault) => vault.port(),
            Server::Redis(redis) => redis.port(),
            Server::Zookeeper(zookeeper) => zookeeper.port(),
            Server::Nats(nats) => nats.port(),
        }
    }
}

impl Store {
    /// Writes or removes some of the keys.
    pub fn write(&self, random: &mut Random, keys: u64, value: &str) {
        let key = random.below(keys);
        match random.below(5) {
            0 => self.delete(key),
            _ => self.put(key, value),
        }
    }

    pub fn put(&self, key: u64, value: &str) {
        match &self.server {
            Server::Consul(consul) => consul.put(&format!("soak/{key:02}"), value),
            Server::Vault(vault) => vault.put(&format!("soak/{key:02}"), json!({"value": value})),
            Server::Redis(redis) => redis.set(&format!("/soak/{key:02}"), value),
            Server::Zookeeper(zookeeper) => zookeeper.client().put(&format!("/soak/{key:02}"), value),
            Server::Nats(nats) => nats.client().put(BUCKET, &format!("soak.{key:02}"), value),
        }
    }

    fn delete(&self, key: u64) {
        match &self.server {
            Server::Consul(consul) => consul.delete(&format!("soak/{key:02}")),
            Server::Vault(vault) => drop(vault.ask("DELETE", &format!("soak/{key:02}"), "")),
            Server::Redis(redis) => drop(redis.client().run(&["DEL", &format!("/soak/{key:02}")])),
            // It may be gone already.
            Server::Zookeeper(zookeeper) => drop(zookeeper.client().delete(&format!("/soak/{key:02}"))),
            Server::Nats(nats) => nats.client().delete(BUCKET, &format!("soak.{key:02}")),
        }
    }

    /// Kills the server and starts it again with what it had.
    pub fn restart(&mut self) {
        match &mut self.server {
            Server::Consul(consul) => {
                consul.kill();
                consul.restart();
            }
            Server::Vault(vault) => {
                vault.kill();
                vault.restart();
                vault.unseal();
            }
            Server::Redis(redis) => {
                redis.kill();
                redis.restart();
            }
            Server::Zookeeper(zookeeper) => {
                zookeeper.kill();
                zookeeper.restart();
            }
            Server::Nats(nats) => {
                nats.kill();
                nats.restart();
            }
        }
    }

    /// The file that holds all its keys.
    pub fn file(&self) -> String {
        format!("out/{}", self.name)
    }

    /// Renders `list.tmpl` from it, through the proxy or directly.
    pub fn resource(&self, is_direct: bool) -> String {
        let port = if is_direct { self.server.port() } else { self.proxy.port() };
        let options = match &self.server {
            Server::Vault(vault) => format!(
                "node = \"http://127.0.0.1:{port}\"\nauth_type = \"token\"\nauth_token = \"{}\"\ninterval = 1\n",
                vault.root()
            ),
            Server::Nats(_) => format!("nodes = [\"nats://127.0.0.1:{port}\"]\nbucket = \"{BUCKET}\"\nwatch = true\n"),
            Server::Consul(_) | Server::Redis(_) | Server::Zookeeper(_) => {
                format!("nodes = [\"127.0.0.1:{port}\"]\nwatch = true\n")
            }
        };
        let (name, file) = (self.name, self.file());
        format!(
            "\n[[resource]]\nname = \"{name}\"\n[[resource.template]]\nsrc = \"list.tmpl\"\ndst = \"{file}\"\n\
             [resource.backend.{name}]\nkeys = [\"/soak\"]\n{options}"
        )
    }
}
