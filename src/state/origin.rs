//! The origin of the keys of a resource, as a number: equal for equal stores, nodes, prefixes and keys. Secrets,
//! watches and intervals do not change the number.

use super::push;
use crate::config::{Backend, Kind};
use crate::fnv::fnv;

/// The origin of the keys of these backends, in their order.
pub fn of(backends: &[Backend]) -> u64 {
    let mut all = Vec::new();
    for backend in backends {
        let texts: Vec<Vec<u8>> = texts_of(&backend.kind).into_iter().map(|text| without_credentials(&text)).collect();
        list(texts, &mut all);
        push(backend.kind.name().as_bytes(), &mut all);
        push(backend.prefix.as_bytes(), &mut all);
        list(backend.keys.iter().map(|key| key.as_bytes().to_vec()).collect(), &mut all);
    }
    fnv(&all)
}

/// Appends sorted texts: the order of nodes does not change the origin.
fn list(mut texts: Vec<Vec<u8>>, into: &mut Vec<u8>) {
    texts.sort_unstable();
    let mut bytes = Vec::new();
    texts.iter().for_each(|text| push(text, &mut bytes));
    push(&bytes, into);
}

/// The options that identify the store and the part of it that is read. Each has its name, so that equal texts in
/// different options differ.
fn texts_of(kind: &Kind) -> Vec<String> {
    let nodes = |nodes: &[String], record: &str| -> Vec<String> {
        nodes.iter().cloned().chain([format!("record {record}")]).collect()
    };
    let with = |mut texts: Vec<String>, more: &[(&str, &str)]| {
        texts.extend(more.iter().map(|(name, text)| format!("{name} {text}")));
        texts
    };
    match kind {
        Kind::Etcd(etcd) => nodes(&etcd.nodes, &etcd.srv_record),
        Kind::File(file) => vec![file.filepath.clone()],
        Kind::Env | Kind::Mock => Vec::new(),
        Kind::Consul(consul) => with(
            nodes(&consul.nodes, &consul.srv_record),
            &[("datacenter", &consul.datacenter), ("namespace", &consul.namespace)],
        ),
        Kind::Vault(vault) => with(vec![vault.node.clone()], &[("namespace", &vault.namespace)]),
        Kind::Redis(redis) => {
            with(nodes(&redis.nodes, &redis.srv_record), &[("database", &redis.database.to_string())])
        }
        Kind::Zookeeper(zookeeper) => {
            with(nodes(&zookeeper.nodes, &zookeeper.srv_record), &[("chroot", &zookeeper.chroot)])
        }
        Kind::Nats(nats) => with(nodes(&nats.nodes, ""), &[("bucket", &nats.bucket)]),
        // It is unknown which options identify the store and which one is a password: all of them count, as a sum.
        Kind::Plugin(plugin) => {
            vec![plugin.path.display().to_string(), format!("config {:016x}", fnv(plugin.config.as_bytes()))]
        }
    }
}

/// A URL without user and password: without everything up to its last `@`, because a password may contain any
/// character. An `@` in the path after a host and its port belongs to the path.
fn without_credentials(text: &str) -> Vec<u8> {
    let Some((scheme, rest)) = text.split_once("://") else { return text.as_bytes().to_vec() };
    let authority = rest.split('/').next().unwrap_or_default();
    let is_port = |port: &str| port.bytes().all(|byte| byte.is_ascii_digit());
    let is_host = !authority.contains('@') && authority.split_once(':').is_none_or(|(_, port)| is_port(port));
    match rest.rfind('@') {
        Some(at) if !is_host => format!("{scheme}://{}", &rest[at + 1..]).into_bytes(),
        Some(_) | None => text.as_bytes().to_vec(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::File;

    fn file(path: &str, prefix: &str, keys: &[&str]) -> Backend {
        Backend {
            keys: keys.iter().map(|key| key.to_string()).collect(),
            watch_keys: Vec::new(),
            prefix: prefix.to_owned(),
            watch: false,
            onetime: false,
            interval: None,
            secret: false,
            kind: Kind::File(File {
                filepath: path.to_owned(),
                httpheaders: Default::default(),
                read: crate::config::ReadLimits::default(),
            }),
        }
    }

    #[test]
    fn what_names_the_keys_counts_and_nothing_else() {
        let base = of(&[file("a", "/p", &["/x", "/y"])]);
        let mut watched = file("a", "/p", &["/y", "/x"]);
        watched.watch = true;
        assert_eq!(base, of(&[watched]));
        for other in [
            vec![],
            vec![file("b", "/p", &["/x", "/y"])],
            vec![file("a", "", &["/x", "/y"])],
            vec![file("a", "/p", &["/x"])],
            vec![file("a", "/p", &["/x/y"])],
            vec![file("a", "/p", &["/x", "/y"]), file("a", "/p", &["/x", "/y"])],
        ] {
            assert_ne!(base, of(&other), "{other:?}");
        }
    }

    #[test]
    fn passwords_are_no_part_of_it() {
        let one = of(&[file("https://me:first@h/a", "", &["/"])]);
        assert_eq!(one, of(&[file("https://you:sec@nd/@h/a", "", &["/"])]));
        assert_eq!(one, of(&[file("https://h/a", "", &["/"])]));
        assert_ne!(one, of(&[file("https://i/a", "", &["/"])]));
        // A path with `@` does not count as a password, and the host stays.
        let path = |url: &str| of(&[file(url, "", &["/"])]);
        assert_ne!(path("https://h/a@1.json"), path("https://i/a@1.json"));
        assert_ne!(path("https://h:80/a@1.json"), path("https://i:80/a@1.json"));
        assert_eq!(path("https://me:a/b@h/c"), path("https://me:1x@h/c"));
    }

    #[test]
    fn each_option_of_a_plugin_counts_and_none_is_shown() {
        let plugin = |path: &str, config: &str| {
            let kind = Kind::Plugin(crate::config::Plugin {
                path: path.into(),
                config: config.to_owned(),
                timeout: std::time::Duration::ZERO,
                read: crate::config::ReadLimits::default(),
            });
            vec![Backend { kind, ..file("", "", &["/"]) }]
        };
        let one = plugin("/p", r#"{"url":"http://u:a@h","table":"x@y"}"#);
        for other in [
            plugin("/q", r#"{"url":"http://u:a@h","table":"x@y"}"#),
            plugin("/p", r#"{"url":"http://u:a@i","table":"x@y"}"#),
            plugin("/p", r#"{"url":"http://u:a@h","table":"y@y"}"#),
            plugin("/p", "{}"),
        ] {
            assert_ne!(of(&one), of(&other), "{other:?}");
        }
        let Kind::Plugin(options) = &one[0].kind else { panic!("it is one") };
        assert!(texts_of(&one[0].kind).iter().all(|text| *text == "/p" || !text.contains("http")), "{options:?}");
    }

    /// The number is equal in every build, so that the files of the last release stay valid.
    #[test]
    fn the_number_does_not_change_with_a_release() {
        assert_eq!(of(&[]), 0xcbf2_9ce4_8422_2325);
        assert_eq!(fnv(b"a"), 0xaf63_dc4c_8601_ec8c);
    }
}
