//! Converts SRV records (RFC 2782) to the nodes of a store, in the order of their use.
//! Sends no query.

use crate::dns::wire::Service;

/// The URLs, the lowest priority first. Nodes of equal priority are drawn so that the chance of each one to come first
/// is proportional to its weight, which spreads many machines over them. `random` returns a number below its argument.
pub fn in_order(mut services: Vec<Service>, scheme: &str, random: &mut dyn FnMut(u64) -> u64) -> Vec<String> {
    // A single dot means that the service does not exist.
    services.retain(|service| !service.target.trim_end_matches('.').is_empty());
    // Nodes with weight 0 come first, so that they have a small chance.
    services.sort_by_key(|service| (service.priority, service.weight));
    let mut urls = Vec::with_capacity(services.len());
    while let Some(priority) = services.first().map(|service| service.priority) {
        let same = services.iter().take_while(|service| service.priority == priority);
        let all: u64 = same.map(|service| u64::from(service.weight)).sum();
        let drawn = random(all + 1);
        let mut sum = 0;
        let place = services.iter().position(|service| {
            sum += u64::from(service.weight);
            drawn <= sum
        });
        let service = services.remove(place.expect("the drawn number is at most the sum"));
        let url = format!("{scheme}://{}:{}", service.target.trim_end_matches('.'), service.port);
        if !urls.contains(&url) {
            urls.push(url);
        }
    }
    urls
}

#[cfg(test)]
mod tests {
    use super::*;

    fn service(target: &str, priority: u16, weight: u16) -> Service {
        Service { target: target.into(), port: 2379, priority, weight }
    }

    fn hosts(services: &[Service], random: &mut dyn FnMut(u64) -> u64) -> String {
        let urls = in_order(services.to_vec(), "http", random);
        let hosts =
            urls.iter().map(|url| url.strip_prefix("http://").and_then(|url| url.strip_suffix(":2379")).unwrap());
        hosts.collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn urls_of_records() {
        let found = in_order(vec![Service { port: 4001, ..service("Etcd1.example.com.", 0, 0) }], "https", &mut |_| 0);
        assert_eq!(found, ["https://Etcd1.example.com:4001"]);
        assert_eq!(in_order(vec![service(".", 0, 0)], "http", &mut |_| 0), [""; 0]);
        let twice = vec![service("a.", 0, 1), service("a.", 1, 1)];
        assert_eq!(in_order(twice, "http", &mut |_| 0), ["http://a:2379"]);
    }

    #[test]
    fn priority_comes_before_weight() {
        let services = [service("c.", 20, 900), service("b.", 10, 1), service("a.", 0, 0)];
        assert_eq!(hosts(&services, &mut |bound| bound - 1), "a b c");
        assert_eq!(hosts(&services, &mut |_| 0), "a b c");
    }

    #[test]
    fn weights_are_likelihoods() {
        let services = [service("heavy.", 0, 30), service("light.", 0, 10), service("none.", 0, 0)];
        let mut first = std::collections::BTreeMap::new();
        for drawn in 0..=40 {
            let mut draws = vec![0, 0, drawn];
            let order = hosts(&services, &mut |bound| draws.pop().unwrap().min(bound - 1));
            *first.entry(order.split(' ').next().unwrap().to_owned()).or_insert(0) += 1;
        }
        assert_eq!(
            first.into_iter().collect::<Vec<_>>(),
            [("heavy".into(), 30), ("light".into(), 10), ("none".into(), 1)]
        );
        let heaviest = [service("a.", 0, u16::MAX), service("b.", 0, u16::MAX)];
        assert_eq!(hosts(&heaviest, &mut |bound| bound - 1), "b a");
    }
}
