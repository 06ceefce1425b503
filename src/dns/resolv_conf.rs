//! `/etc/resolv.conf` (resolv.conf(5)): servers, time limits, and the full names of a short name. Parses text; lines
//! that are not understood are ignored, as by the C library and Go.

use core::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use super::{BadName, Name};

/// Further servers are ignored, as by the C library.
const MOST_SERVERS: usize = 3;
/// With more domains a lookup would exceed its time limit.
const MOST_SEARCHED: usize = 32;

/// The values of `/etc/resolv.conf`, or the defaults of resolv.conf(5).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ResolvConf {
    /// One to three servers, in the order of the queries.
    pub servers: Vec<Server>,
    /// Domains that short names are searched in, without a dot at the end.
    pub search: Vec<String>,
    /// A name with fewer dots is searched in `search` first; other names are tried as they are first.
    pub ndots: usize,
    /// The time limit of one question to one server.
    pub timeout: Duration,
    /// How many times each server is queried.
    pub attempts: usize,
}

/// A name server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Server {
    /// IPv4 or IPv6, without a scope.
    pub address: IpAddr,
    /// `eth0` in `fe80::1%eth0`: the interface of a link-local address, by name or number.
    pub scope: Option<String>,
}

impl ResolvConf {
    /// Parses the text of the file. An empty text stands for a missing file: the server is this host. `hostname` has
    /// the search domain if the text has none.
    pub fn new(text: &[u8], hostname: &str) -> ResolvConf {
        let mut conf = ResolvConf {
            servers: Vec::new(),
            search: hostname.split_once('.').map(|(_, domain)| domain.to_owned()).into_iter().collect(),
            ndots: 1,
            timeout: Duration::from_secs(5),
            attempts: 2,
        };
        for line in String::from_utf8_lossy(text).lines().filter(|line| !line.starts_with(['#', ';'])) {
            let mut words = line.split_ascii_whitespace();
            match words.next() {
                Some("nameserver") => conf.servers.extend(words.next().and_then(server)),
                // The last of several lines counts.
                Some("search") => conf.search = words.map(str::to_owned).collect(),
                Some("domain") => conf.search = words.take(1).map(str::to_owned).collect(),
                Some("options") => words.for_each(|word| conf.set(word)),
                _ => {}
            }
        }
        conf.servers.truncate(MOST_SERVERS);
        if conf.servers.is_empty() {
            conf.servers.push(Server { address: Ipv4Addr::LOCALHOST.into(), scope: None });
        }
        conf.search.iter_mut().for_each(|domain| domain.truncate(domain.trim_end_matches('.').len()));
        conf.search.retain(|domain| !domain.is_empty());
        conf.search.truncate(MOST_SEARCHED);
        conf
    }

    fn set(&mut self, option: &str) {
        let number = |text: &str| text.parse::<u8>().ok();
        match option.split_once(':') {
            Some(("ndots", dots)) => self.ndots = number(dots).map_or(self.ndots, |n| n.min(15).into()),
            Some(("attempts", n)) => self.attempts = number(n).map_or(self.attempts, |n| n.clamp(1, 5).into()),
            Some(("timeout", seconds)) => {
                self.timeout = number(seconds).map_or(self.timeout, |n| Duration::from_secs(n.clamp(1, 30).into()));
            }
            _ => {}
        }
    }

    /// The full names of a user's name, in the order of the queries; at least one.
    ///
    /// # Errors
    /// The text is not a host name.
    pub fn names(&self, written: &str) -> Result<Vec<Name>, BadName> {
        let as_it_is = Name::new(written)?;
        if written.ends_with('.') {
            return Ok(vec![as_it_is]);
        }
        // A domain that is invalid or makes the name too long is skipped.
        let searched = self.search.iter().filter_map(|domain| Name::new(&format!("{written}.{domain}")).ok());
        let mut names: Vec<Name> = searched.collect();
        let first = written.matches('.').count() >= self.ndots;
        names.insert(if first { 0 } else { names.len() }, as_it_is);
        Ok(names)
    }
}

fn server(word: &str) -> Option<Server> {
    let (address, scope) = match word.split_once('%') {
        Some((address, scope)) => (address, Some(scope.to_owned())),
        None => (word, None),
    };
    Some(Server { address: address.parse().ok()?, scope })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> ResolvConf {
        ResolvConf::new(text.as_bytes(), "host")
    }

    #[test]
    fn servers() {
        let check = |text: &str, want: &[&str]| {
            let shown = |server: &Server| match &server.scope {
                Some(scope) => format!("{}%{scope}", server.address),
                None => server.address.to_string(),
            };
            let got: Vec<String> = parse(text).servers.iter().map(shown).collect();
            assert_eq!(got, want, "{text:?}");
        };
        check("", &["127.0.0.1"]);
        check("nameserver 10.0.0.1\n", &["10.0.0.1"]);
        check("nameserver\t10.0.0.1  # one\r\n  nameserver fd00::1", &["10.0.0.1", "fd00::1"]);
        check("nameserver fe80::1%eth0\nnameserver fe80::2%3", &["fe80::1%eth0", "fe80::2%3"]);
        check(
            "nameserver 1.1.1.1\nnameserver 2.2.2.2\nnameserver 3.3.3.3\nnameserver 4.4.4.4",
            &["1.1.1.1", "2.2.2.2", "3.3.3.3"],
        );
        check(
            "#nameserver 1.1.1.1\n;nameserver 2.2.2.2\nnameserver\nnameserver dns.example.com\nnameservers 3.3.3.3",
            &["127.0.0.1"],
        );
        check("nameserver 1.1.1\nnameserver 2.2.2.2", &["2.2.2.2"]);
    }

    #[test]
    fn options() {
        let check = |text: &str, want: (usize, u64, usize)| {
            let conf = parse(text);
            assert_eq!((conf.ndots, conf.timeout.as_secs(), conf.attempts), want, "{text:?}");
        };
        check("", (1, 5, 2));
        check("options ndots:5 timeout:1 attempts:3", (5, 1, 3));
        check("options ndots:0\noptions rotate edns0 timeout:2 trust-ad", (0, 2, 2));
        check("options ndots:99 timeout:0 attempts:0", (15, 1, 1));
        check("options ndots:200 timeout:200 attempts:200", (15, 30, 5));
        check("options ndots: timeout:x attempts ndots:-1 timeout:99999999999999999999", (1, 5, 2));
    }

    #[test]
    fn domains() {
        let check = |text: &str, hostname: &str, want: &[&str]| {
            assert_eq!(ResolvConf::new(text.as_bytes(), hostname).search, want, "{text:?}");
        };
        check("", "host", &[]);
        check("", "host.example.com", &["example.com"]);
        check("search a.example b.example.\n", "host.example.com", &["a.example", "b.example"]);
        check("search a\nsearch b c", "host", &["b", "c"]);
        check("search a\ndomain b c", "host", &["b"]);
        check("search .", "host.example.com", &[]);
        check("search", "host.example.com", &[]);
        check(&format!("search{}", " x".repeat(10_000)), "host", &["x"; MOST_SEARCHED]);
    }

    #[test]
    fn short_names_stand_for_long_ones() {
        let check = |text: &str, written: &str, want: &[&str]| {
            let names: Vec<String> = parse(text).names(written).unwrap().iter().map(Name::to_string).collect();
            assert_eq!(names, want, "{written} with {text:?}");
        };
        check("", "db", &["db."]);
        check("search x y.z", "db", &["db.x.", "db.y.z.", "db."]);
        check("search x y.z", "db.", &["db."]);
        check("search x y.z", "db.example", &["db.example.", "db.example.x.", "db.example.y.z."]);
        check("search x\noptions ndots:2", "db.example", &["db.example.x.", "db.example."]);
        check("search x\noptions ndots:2", "db.example.com", &["db.example.com.", "db.example.com.x."]);
        check("search x\noptions ndots:0", "db", &["db.", "db.x."]);
        check("search a..b ü x", "db", &["db.x.", "db."]);
        let long = "x".repeat(63);
        check(&format!("search {long}.{long}.{long} y"), &long, &[&format!("{long}.y."), &format!("{long}.")]);
        assert_eq!(parse("search x").names("a b"), Err(BadName::Character(' ')));
        assert_eq!(parse("search x").names(""), Err(BadName::Empty));
    }

    #[test]
    fn any_bytes_may_stand_in_the_file() {
        let conf = ResolvConf::new(b"\xff\xfe nameserver\0\nsearch \xff x\nnameserver 10.0.0.1", "");
        assert_eq!(conf.servers[0].address.to_string(), "10.0.0.1");
        let names: Vec<String> = conf.names("db").unwrap().iter().map(Name::to_string).collect();
        assert_eq!(names, ["db.x.", "db."]);
    }
}
