//! etcd, version 3, over its JSON gateway: what the configuration means is made into a backend at work.
//! No TLS, no users, no SRV records and no version 2 yet; a configuration that needs them is refused.

mod client;
mod mirror;
mod session;
mod wire;

use std::sync::Arc;

use self::mirror::{Comparing, Mirror};
use self::session::{Goal, Session, Settings};
use super::{Backend, Mode, interval, watches};
use crate::config;
use crate::host::http::{self, Limits};
use crate::host::wait::Wake;

const NAME: &str = "etcd";

/// An etcd backend that connects at its first turn. `random` gives a number below its argument, which is not 0.
/// An error says what of the configuration cannot be done.
pub fn new(
    options: &config::Backend,
    etcd: &config::Etcd,
    mode: Mode,
    wake: Arc<dyn Wake>,
    random: Box<dyn FnMut(u64) -> u64>,
) -> Result<Box<dyn Backend>, String> {
    refuse_what_is_missing(etcd)?;
    let nodes = etcd.nodes.iter().map(|node| node_url(node)).collect::<Result<Vec<_>, _>>()?;
    let goal = match mode {
        Mode::OneShot => Goal::Once,
        Mode::Watch if watches(options, mode) => Goal::Watched,
        Mode::Watch => Goal::Kept,
    };
    let interval = interval(options, mode);
    let comparing = if goal == Goal::Watched && interval.is_some() { Comparing::Yes } else { Comparing::No };
    let settings = Settings { nodes: nodes.clone(), prefix: options.prefix.clone(), goal, interval };
    let mirror = Mirror::new(&options.prefix, &options.keys, &options.watch_keys, comparing);
    let session = Session::new(settings, mirror, random);
    Ok(Box::new(client::Client::new(http::Client::new(wake, Limits::default()), nodes, session)))
}

fn refuse_what_is_missing(etcd: &config::Etcd) -> Result<(), String> {
    let missing = |what: &str| Err(format!("etcd: {what} is not supported yet"));
    if etcd.version == Some(config::EtcdVersion::V2) {
        return missing("`version = 2`");
    }
    if !etcd.srv_record.is_empty() {
        return missing("`srv_record`");
    }
    if !etcd.username.is_empty() {
        return missing("`username`");
    }
    if etcd.tls != config::Tls::default() {
        return missing("TLS (`client_cert`, `client_key`, `client_ca_keys`)");
    }
    if etcd.nodes.is_empty() {
        return Err("etcd: `nodes` names no node, like \"http://127.0.0.1:2379\"".into());
    }
    Ok(())
}

/// A node as the beginning of URLs and as it is shown. One without a scheme is plain http. Credentials in it are dropped:
/// version 3 has no use for them.
fn node_url(node: &str) -> Result<String, String> {
    let node = node.trim();
    let with_scheme = if node.contains("://") { node } else { &format!("http://{node}") };
    let url = http::without_credentials(with_scheme.trim_end_matches('/'));
    match url.split_once("://") {
        Some(("http", host)) if !host.is_empty() => Ok(url),
        Some(("https", _)) => Err(format!("etcd: node `{url}`: https is not supported yet")),
        _ => Err(format!("etcd: node `{url}` is not like \"http://127.0.0.1:2379\"")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nodes_are_urls() {
        let check = |node: &str, want: Result<&str, &str>| {
            let got = node_url(node);
            assert_eq!(got.as_deref().map_err(|e| &**e), want, "{node}");
        };
        check("http://127.0.0.1:2379", Ok("http://127.0.0.1:2379"));
        check(" http://etcd:2379/ ", Ok("http://etcd:2379"));
        check("etcd:2379", Ok("http://etcd:2379"));
        check("[::1]:2379", Ok("http://[::1]:2379"));
        check("http://me:secret@etcd:2379", Ok("http://etcd:2379"));
        check("me:secret@etcd:2379", Ok("http://etcd:2379"));
        check("http://etcd:2379/gateway/", Ok("http://etcd:2379/gateway"));
        check("https://etcd:2379", Err("etcd: node `https://etcd:2379`: https is not supported yet"));
        check("https://me:secret@etcd", Err("etcd: node `https://etcd`: https is not supported yet"));
        check("ftp://etcd", Err("etcd: node `ftp://etcd` is not like \"http://127.0.0.1:2379\""));
        check("", Err("etcd: node `http:` is not like \"http://127.0.0.1:2379\""));
    }

    #[test]
    fn what_cannot_be_done_yet_is_refused() {
        let plain = || config::Etcd {
            nodes: vec!["http://etcd:2379".into()],
            scheme: "http".into(),
            srv_record: String::new(),
            tls: config::Tls::default(),
            username: String::new(),
            password: config::Secret::default(),
            version: None,
        };
        assert_eq!(refuse_what_is_missing(&plain()), Ok(()));
        let check = |etcd: config::Etcd, want: &str| {
            let error = refuse_what_is_missing(&etcd).expect_err("it cannot be done");
            assert!(error.contains(want), "{error}");
        };
        check(config::Etcd { version: Some(config::EtcdVersion::V2), ..plain() }, "`version = 2` is not supported yet");
        check(
            config::Etcd { srv_record: "_etcd._tcp.example.com".into(), ..plain() },
            "`srv_record` is not supported yet",
        );
        check(config::Etcd { username: "root".into(), ..plain() }, "`username` is not supported yet");
        let tls = config::Tls { client_ca_keys: Some("/ca.pem".into()), ..config::Tls::default() };
        check(config::Etcd { tls, ..plain() }, "is not supported yet");
        check(config::Etcd { nodes: Vec::new(), ..plain() }, "`nodes` names no node");
    }
}
