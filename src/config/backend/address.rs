//! The addresses of a store: the row of `srv_record`, and the conversion of nodes to URLs.
//! Resolves no name.

use core::net::Ipv6Addr;

use crate::config::document::Span;
use crate::config::reader::{Found, Purpose, Reader};
use crate::config::report::Report;
use crate::config::schema::{Default, Key, Type, key};

/// `srv_record`, for the stores that have it.
pub(super) const SRV_RECORD: Key = key("srv_record", Type::Text, Default::Unset, "as for etcd");

/// The nodes of a backend in the text of the file. Drops empty ones, which come from unset variables. `example`: the
/// form of an address, for a backend that needs one.
pub(super) fn addresses<'a>(reader: &Reader<'a>, name: &str, example: Option<&str>) -> Vec<Found<&'a str>> {
    let report = reader.report;
    let texts = reader.texts("nodes");
    let is_list = texts.is_some();
    let is_empty = |node: &Found<&str>| node.value.trim().is_empty();
    let (empty, filled): (Vec<_>, Vec<_>) = texts.into_iter().flatten().partition(is_empty);
    if let Some(example) = example
        && reader.purpose == Purpose::Use
        && filled.is_empty()
        && (is_list || !reader.has("nodes"))
        && reader.string("srv_record").is_empty()
    {
        let why = empty.first().map_or(String::new(), |node| report.unset(node.span));
        let message = format!("{name} has no nodes{why}: set `nodes = [\"{example}\"]`, or `srv_record`");
        report.missing(reader.place("nodes"), message);
    } else {
        let is_only = filled.is_empty() && example.is_none();
        for node in empty {
            let why = report.unset(node.span);
            let other = if is_only { ", and the list has no other: the default address is used" } else { "" };
            report.warn(node.span, format!("an empty address in `nodes` is ignored{why}{other}"));
        }
    }
    filled
}

/// Whether the path of a request can be appended to the URL. An `@` in the path of the URL comes from a password with a
/// slash.
pub(super) fn is_plain(url: &str) -> bool {
    !url.contains(['?', '#']) && !url.splitn(4, '/').skip(3).any(|path| path.contains('@'))
}

/// A node as a URL with `http` or `https` and no slash at the end; `None`: the node is no URL. `scheme` is for a node
/// without a scheme.
pub(super) fn node_url(node: &str, scheme: &str) -> Option<String> {
    let node = node.trim();
    let (scheme, rest) = node.split_once("://").unwrap_or((scheme, node));
    let (scheme, rest) = (scheme.to_ascii_lowercase(), rest.trim_end_matches('/'));
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    let host = authority.rsplit('@').next().unwrap_or_default();
    // The beginning of a password with a slash looks like a port.
    let sound = matches!(&*scheme, "http" | "https")
        && host_and_port(host, 80).is_some()
        && !rest.contains(|c: char| c.is_whitespace() || c.is_control());
    sound.then(|| format!("{scheme}://{rest}"))
}

/// Reports that `node` is not an address of `store`. `how`: advice how to write it.
pub(super) fn refuse(report: &Report, span: Span, node: &str, store: &str, how: &str) {
    let unset = report.unset(span);
    report.error_in_address(span, format!("this is not an address of {store}{unset}{}: {how}", fault(node)));
}

/// Reports that the value of a variable of the environment is not an address of `store`. `key` replaces it.
pub(super) fn refuse_variable(report: &Report, span: Span, (name, value): (&str, &str), store: &str, key: &str) {
    let fault = fault(value);
    report.error(span, format!("the variable `{name}` is not an address of {store}{fault}: set `{key}`"));
}

/// The fault of an address, for the end of a clause; empty: it is none of these.
pub(super) fn fault(node: &str) -> &'static str {
    let rest = node.split_once("://").map_or(node, |(_, rest)| rest);
    let (authority, path) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
    // A password with a slash looks like a port, and leaves an `@` in the path.
    if path.contains('@') {
        return "";
    }
    let host = authority.rsplit('@').next().unwrap_or_default();
    if host.contains(',') {
        return ", it has several addresses";
    }
    let port = host.rsplit_once(':').map_or("", |(_, port)| port);
    let is_number = !port.is_empty() && port.bytes().all(|b| b.is_ascii_digit());
    if is_number && port_of(port).is_none() {
        let is_zero = port.bytes().all(|b| b == b'0');
        return if is_zero { ", its port is 0" } else { ", its port is larger than 65535" };
    }
    if host.starts_with('[') && host.contains('%') {
        return ", it has an IPv6 zone, which remco does not support";
    }
    if host.is_ascii() { "" } else { ", its host is not ASCII (write it in Punycode)" }
}

/// Whether this is the host of a URL: a name, an IPv4 address, or an IPv6 address in brackets.
fn is_host(name: &str) -> bool {
    match name.strip_prefix('[').and_then(|name| name.strip_suffix(']')) {
        Some(address) => address.parse::<Ipv6Addr>().is_ok(),
        None => {
            !name.is_empty() && name.bytes().all(|b| b.is_ascii_graphic() && !br#"/?#@,:%[]"<>\^`{|}"#.contains(&b))
        }
    }
}

/// A port other than 0. [`u16::from_str`](std::str::FromStr) would take a sign.
fn port_of(digits: &str) -> Option<u16> {
    digits.parse().ok().filter(|port| *port > 0 && digits.bytes().all(|b| b.is_ascii_digit()))
}

/// The `HOST:PORT` of a node, without its scheme and user; `None`: the text has another form. `port` is for a node without a port.
pub(super) fn host_and_port(node: &str, port: u16) -> Option<String> {
    let (name, port) = match node.rsplit_once(':') {
        Some((name, digits)) if !digits.ends_with(']') => (name, port_of(digits)?),
        _ => (node, port),
    };
    is_host(name).then(|| format!("{name}:{port}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn faults_have_names() {
        let check = |node: &str, want: &str| assert_eq!(fault(node), want, "{node}");
        for none in ["http://a:65535", "http://me:123456/x@etcd", "http://a:00080", "a:999999x", "http://a", "123456"] {
            check(none, "");
        }
        for password in ["http://ü:ü@a", "http://me:0,x@a:+1", "http://me:ü,x@a:+1", "http://a/b,c?d,e:0"] {
            check(password, "");
        }
        for port in ["http://a:65536", "http://a:123456789012345678901234567890/b?c#d", "me:pw@a:65536", "[::1]:99999"]
        {
            check(port, ", its port is larger than 65535");
        }
        check("http://a:0", ", its port is 0");
        check("http://[fe80::1%lo]:80", ", it has an IPv6 zone, which remco does not support");
        check("münchen:2379", ", its host is not ASCII (write it in Punycode)");
        for list in ["a:1,b:2", "http://a:1,b:2", "10.0.0.1,10.0.0.2", "a,b"] {
            check(list, ", it has several addresses");
        }
    }

    #[test]
    fn nodes_of_stores_with_ports_of_their_own() {
        let check = |node: &str, want: Option<&str>| assert_eq!(host_and_port(node, 7).as_deref(), want, "{node}");
        check("h", Some("h:7"));
        check("h.example.com:1", Some("h.example.com:1"));
        check("[::1]", Some("[::1]:7"));
        check("[::1]:65535", Some("[::1]:65535"));
        for none in [
            "",
            ":1",
            "h:",
            "h:0",
            "ü:1",
            "[fe80::1%lo]:1",
            "[x]:1",
            "h:65536",
            "h:+1",
            "h:x",
            "::1",
            "[::1",
            "[]:1",
            "a b:1",
            "h/1",
            "u@h:1",
            "a:1,b:2",
        ] {
            check(none, None);
        }
    }

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
        for host in ["ü", "a%20b", "[fe80::1%lo]", "[x]", "a,b", "a:1,b:2", "a\"b"] {
            check(host, None);
        }
        for port in ["h:abc", "h:0", "h:", "h:99999", "h:+1", "[::1]:x", "[::1", "::1", "me:se/cr@h:1", "me:se?cr@h:1"]
        {
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
