//! `/etc/hosts` (hosts(5)): looks one name up in the text of the file. Keeps nothing, so that a change of the file has
//! an effect at once.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::collections::BTreeSet;

/// The addresses of a name, in the file's order, each once. Empty: the file does not have the name. Case and a dot at
/// the end are ignored.
pub fn addresses(text: &[u8], name: &str) -> Vec<IpAddr> {
    let name = name.strip_suffix('.').unwrap_or(name).as_bytes();
    let (mut found, mut seen) = (Vec::new(), BTreeSet::new());
    for line in text.split(|byte| *byte == b'\n') {
        let line = line.split(|byte| *byte == b'#').next().unwrap_or_default();
        let mut words = line.split(u8::is_ascii_whitespace).filter(|word| !word.is_empty());
        let address = words.next();
        if !words.any(|word| word.strip_suffix(b".").unwrap_or(word).eq_ignore_ascii_case(name)) {
            continue;
        }
        // An address that cannot be parsed, also for its zone (`fe80::1%lo0`), is skipped.
        let address = address.and_then(|word| std::str::from_utf8(word).ok()?.parse().ok());
        found.extend(address.filter(|address: &IpAddr| seen.insert(*address)));
    }
    found
}

/// Names that need no file: `localhost` and all names below it are this host (RFC 6761, 6.3).
pub fn always(name: &str) -> Vec<IpAddr> {
    let name = name.strip_suffix('.').unwrap_or(name);
    let last = name.rsplit('.').next().unwrap_or_default();
    match last.eq_ignore_ascii_case("localhost") {
        true => vec![Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()],
        false => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_aliases() {
        let text = b"127.0.0.1\tlocalhost\n::1 localhost ip6-localhost # local\n\n#10.0.0.9 db\n10.0.0.1 db.example.com db\r\n\
            10.0.0.2 DB\nfd00::1 db\n10.0.0.1 db\nfe80::1%lo0 db\n10.0.0.3 other#db\nwrong db\n10.0.0.4\n\xff\xff db\n10.0.0.5 last.";
        let check = |name: &str, want: &[&str]| {
            let got: Vec<String> = addresses(text, name).iter().map(IpAddr::to_string).collect();
            assert_eq!(got, want, "{name}");
        };
        check("localhost", &["127.0.0.1", "::1"]);
        check("ip6-localhost", &["::1"]);
        check("db", &["10.0.0.1", "10.0.0.2", "fd00::1"]);
        check("Db.", &["10.0.0.1", "10.0.0.2", "fd00::1"]);
        check("db.example.com", &["10.0.0.1"]);
        check("other", &["10.0.0.3"]);
        check("last", &["10.0.0.5"]);
        check("10.0.0.4", &[]);
        check("example.com", &[]);
        check("local", &[]);
        check("", &[]);
    }

    #[test]
    fn localhost_needs_no_file() {
        let check = |name: &str, want: usize| assert_eq!(always(name).len(), want, "{name}");
        check("localhost", 2);
        check("LocalHost.", 2);
        check("etcd.localhost", 2);
        check("localhost.example.com", 0);
        check("notlocalhost", 0);
        check("", 0);
    }
}
