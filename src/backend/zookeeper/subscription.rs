//! One resource's part of a ZooKeeper tree: the known nodes below its keys, their values, and the changes since the
//! last report. Only nodes without children are keys. Makes no request, and knows neither bytes nor time.

use std::collections::BTreeMap;
use std::mem;
use std::ops::Bound;
use std::rc::Rc;

use crate::backend::keys::{Keys, without_wildcards};
use crate::backend::tally::Tally;
use crate::backend::{Change, Report};
use crate::config::{self, ReadLimits};
use crate::store::{Bytes, Layer, path};

/// One resource's part of the tree.
pub struct Subscription {
    keys: Keys,
    /// The paths of the keys. Each of them must exist.
    wanted: Vec<Bytes>,
    /// The paths whose changes trigger an update.
    triggers: Vec<Bytes>,
    nodes: BTreeMap<Bytes, Node>,
    stage: Stage,
    /// The number of planned and pending requests.
    pub pending: usize,
    changes: Vec<Change>,
    trigger: bool,
    /// All nodes were read at least once.
    has_been_read: bool,
}

enum Node {
    /// A node without children, and its value.
    Leaf(Bytes),
    /// A node with children. Its value is not a key.
    Parent,
}

enum Stage {
    /// Nothing is known.
    Idle,
    /// All nodes are being read.
    Reading(Tally),
    /// All nodes were read and reported.
    Known,
}

/// What follows the deletion of a node.
#[derive(Debug, PartialEq, Eq)]
pub enum Gone {
    /// Nothing.
    Noted,
    /// Its parent has no known children left, and may have a value now.
    Emptied(Bytes),
    /// The deleted node is one of the keys.
    Key,
}

impl Subscription {
    /// A subscription that has not read anything.
    pub fn new(options: &config::Backend) -> Subscription {
        let prefix = format!("/{}", options.prefix);
        let paths = |keys: &[String]| {
            let mut paths: Vec<Bytes> = keys.iter().map(|key| path_of(&prefix, key)).collect();
            paths.sort_unstable();
            paths.dedup();
            paths
        };
        Subscription {
            wanted: paths(&options.keys),
            triggers: paths(&options.watch_keys),
            keys: Keys::new(&prefix, &options.keys),
            nodes: BTreeMap::new(),
            stage: Stage::Idle,
            pending: 0,
            changes: Vec::new(),
            trigger: false,
            has_been_read: false,
        }
    }

    /// The paths to read: every key that is not below another one.
    pub fn roots(&self) -> Vec<Bytes> {
        outermost(&self.wanted)
    }

    /// The watched paths, of `keys` and `watchKeys`.
    pub fn watched(&self) -> Vec<Bytes> {
        let mut all = [&self.wanted[..], &self.triggers[..]].concat();
        all.sort_unstable();
        all.dedup();
        outermost(&all)
    }

    /// Whether the path is a configured key.
    pub fn is_key(&self, path: &[u8]) -> bool {
        self.wanted.binary_search_by(|key| (**key).cmp(path)).is_ok()
    }

    /// Whether a change of the node triggers an update.
    pub fn is_trigger(&self, path: &[u8]) -> bool {
        is_within_any(path, &self.triggers)
    }

    /// Whether the path is a configured key or below one.
    pub fn is_wanted(&self, path: &[u8]) -> bool {
        is_within_any(path, &self.wanted)
    }

    /// Drops all nodes and starts a read.
    pub fn begin(&mut self, limits: ReadLimits) {
        self.reset();
        self.stage = Stage::Reading(Tally::new(limits));
    }

    /// Drops all nodes.
    pub fn reset(&mut self) {
        self.nodes.clear();
        self.changes.clear();
        (self.stage, self.pending, self.trigger) = (Stage::Idle, 0, false);
    }

    /// Whether a read is in progress or complete.
    pub fn is_active(&self) -> bool {
        !matches!(self.stage, Stage::Idle)
    }

    /// Whether all nodes were read at least once.
    pub fn has_been_read(&self) -> bool {
        self.has_been_read
    }

    /// Whether a read of all nodes is in progress.
    pub fn is_reading(&self) -> bool {
        matches!(self.stage, Stage::Reading(_))
    }

    /// Notes that a change triggers an update.
    pub fn triggered(&mut self) {
        self.trigger = true;
    }

    /// Takes the value of a node and the number of its children. Returns whether the names of the children are needed.
    ///
    /// # Errors
    /// The nodes exceed the limits of a read. The text names the limit and how to raise it.
    pub fn value(&mut self, path: &Bytes, value: &[u8], children: u32) -> Result<bool, String> {
        if children > 0 {
            return self.parent(path);
        }
        self.remove_below(path);
        if let Some(Node::Leaf(known)) = self.nodes.get(path)
            && **known == *value
        {
            return Ok(false);
        }
        self.count(path, value)?;
        let value: Bytes = Rc::from(value);
        self.nodes.insert(path.clone(), Node::Leaf(value.clone()));
        if let Some(key) = self.store_key(path) {
            self.changed(Change::Put(key, value));
        }
        Ok(false)
    }

    fn parent(&mut self, path: &Bytes) -> Result<bool, String> {
        let known = self.nodes.insert(path.clone(), Node::Parent);
        match known {
            None => {
                self.count(path, b"")?;
                return Ok(true);
            }
            Some(Node::Leaf(_)) => self.deleted(path),
            Some(Node::Parent) => {}
        }
        Ok(!self.has_children(path))
    }

    /// Notes that a child of the node was created.
    pub fn child_created(&mut self, parent: &[u8]) {
        if let Some(node) = self.nodes.get_mut(parent)
            && let Node::Leaf(_) = mem::replace(node, Node::Parent)
        {
            self.deleted(parent);
        }
    }

    /// Removes a node and all nodes below it. A deleted key is an error, and its nodes stay.
    pub fn gone(&mut self, path: &[u8]) -> Gone {
        if self.is_key(path) {
            return Gone::Key;
        }
        self.remove_below(path);
        if let Some(Node::Leaf(_)) = self.nodes.remove(path) {
            self.deleted(path);
        }
        match parent(path).and_then(|parent| self.nodes.get_key_value(parent)) {
            Some((parent, Node::Parent)) if !self.has_children(parent) => Gone::Emptied(parent.clone()),
            _ => Gone::Noted,
        }
    }

    /// The paths of the known children of a node.
    pub fn children(&self, path: &[u8]) -> Vec<Bytes> {
        let below = below(path);
        let mut children = Vec::new();
        // Only the root has a trailing slash.
        let mut from = Bound::Excluded(below.clone());
        // Skips the nodes below a child.
        while let Some(next) = self.nodes.range::<[u8], _>((as_slice(&from), Bound::Unbounded)).next() {
            let Some(rest) = next.0.strip_prefix(&below[..]) else { break };
            let name = rest.split(|byte| *byte == b'/').next().unwrap_or_default();
            let child = [&below[..], name].concat();
            // `0` is the byte after `/`.
            from = if rest.len() == name.len() {
                children.push(next.0.clone());
                Bound::Excluded(child)
            } else {
                Bound::Included([&child[..], b"0"].concat())
            };
        }
        children
    }

    /// The result of a read without pending requests; `Err`: a key that does not exist.
    pub fn finish(&mut self) -> Option<Result<Layer, Bytes>> {
        if !self.is_reading() || self.pending > 0 {
            return None;
        }
        if let Some(missing) = self.wanted.iter().find(|key| !self.nodes.contains_key(*key)) {
            return Some(Err(missing.clone()));
        }
        self.stage = Stage::Known;
        (self.trigger, self.has_been_read) = (false, true);
        let entry = |(path, node): (&Bytes, &Node)| match node {
            Node::Leaf(value) => Some((self.store_key(path)?, value.clone())),
            Node::Parent => None,
        };
        Some(Ok(self.nodes.iter().filter_map(entry).collect()))
    }

    /// The changes since the last report.
    pub fn take_changes(&mut self) -> Option<Report> {
        if self.is_reading() || !self.has_changes() {
            return None;
        }
        let (changes, trigger) = (mem::take(&mut self.changes), mem::take(&mut self.trigger));
        Some(Report::Changes { changes, trigger })
    }

    /// Whether there is something to report.
    pub fn has_changes(&self) -> bool {
        self.trigger || !self.changes.is_empty()
    }

    fn count(&mut self, path: &[u8], value: &[u8]) -> Result<(), String> {
        match &mut self.stage {
            Stage::Reading(tally) => tally.add(path, value),
            Stage::Idle | Stage::Known => Ok(()),
        }
    }

    fn remove_below(&mut self, path: &[u8]) {
        let below = below(path);
        let from = (Bound::Included(&below[..]), Bound::Unbounded);
        let gone: Vec<Bytes> = self
            .nodes
            .range::<[u8], _>(from)
            .map(|(path, _)| path)
            .take_while(|path| path.starts_with(&below))
            // As a text, the root is below itself.
            .filter(|found| ***found != *path)
            .cloned()
            .collect();
        for path in gone {
            if let Some(Node::Leaf(_)) = self.nodes.remove(&path) {
                self.deleted(&path);
            }
        }
    }

    fn has_children(&self, path: &[u8]) -> bool {
        let below = below(path);
        let from = (Bound::Excluded(&below[..]), Bound::Unbounded);
        self.nodes.range::<[u8], _>(from).next().is_some_and(|(path, _)| path.starts_with(&below))
    }

    fn deleted(&mut self, path: &[u8]) {
        if let Some(key) = self.store_key(path) {
            self.changed(Change::Delete(key));
        }
    }

    fn changed(&mut self, change: Change) {
        // A read reports all nodes at its end.
        if matches!(self.stage, Stage::Known) {
            self.changes.push(change);
        }
    }

    /// The store key of a node. Two nodes never share a store key, because ZooKeeper's paths are clean.
    fn store_key(&self, path: &[u8]) -> Option<Bytes> {
        if !self.is_wanted(path) {
            return None;
        }
        Some(self.keys.store_key(path)?.key)
    }
}

/// The path of a key. Every `/*` is removed, as in Go remco.
fn path_of(prefix: &str, key: &str) -> Bytes {
    let joined = path::join(&[prefix.as_bytes(), key.as_bytes()]);
    let path = without_wildcards(&joined);
    // The rest may be empty, or lack its first slash.
    Rc::from(path::join(&[b"/", &path]))
}

/// Sorted paths without those that are below another one.
fn outermost(paths: &[Bytes]) -> Vec<Bytes> {
    let is_outermost = |path: &&Bytes| !parent(path).is_some_and(|parent| is_within_any(parent, paths));
    paths.iter().filter(is_outermost).cloned().collect()
}

/// Whether a path is one of these sorted ones, or below one.
fn is_within_any(path: &[u8], tops: &[Bytes]) -> bool {
    let mut above = Some(path);
    while let Some(top) = above {
        if tops.binary_search_by(|known| (**known).cmp(top)).is_ok() {
            return true;
        }
        above = parent(top);
    }
    false
}

/// The prefix of the paths below a node.
fn below(path: &[u8]) -> Vec<u8> {
    [path.strip_suffix(b"/").unwrap_or(path), b"/"].concat()
}

/// The path of a child.
pub fn child(parent: &[u8], name: &[u8]) -> Bytes {
    Rc::from([&below(parent)[..], name].concat())
}

/// The path above; `None`: it is the root.
pub fn parent(path: &[u8]) -> Option<&[u8]> {
    if path == b"/" {
        return None;
    }
    match path.iter().rposition(|byte| *byte == b'/')? {
        0 => Some(b"/"),
        slash => Some(&path[..slash]),
    }
}

fn as_slice(bound: &Bound<Vec<u8>>) -> Bound<&[u8]> {
    match bound {
        Bound::Included(bytes) => Bound::Included(bytes),
        Bound::Excluded(bytes) => Bound::Excluded(bytes),
        Bound::Unbounded => Bound::Unbounded,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Kind;

    fn subscription(prefix: &str, keys: &[&str], watch_keys: &[&str]) -> Subscription {
        let texts = |texts: &[&str]| texts.iter().map(|text| text.to_string()).collect();
        Subscription::new(&config::Backend {
            keys: texts(keys),
            watch_keys: texts(watch_keys),
            prefix: prefix.to_owned(),
            watch: true,
            onetime: false,
            interval: None,
            secret: false,
            kind: Kind::Mock,
        })
    }

    fn bytes(text: &str) -> Bytes {
        Rc::from(text.as_bytes())
    }

    fn text(bytes: &[u8]) -> String {
        String::from_utf8_lossy(bytes).into_owned()
    }

    fn read(subscription: &mut Subscription, nodes: &[(&str, &str, u32)]) -> String {
        subscription.begin(ReadLimits::default());
        for (path, value, children) in nodes {
            subscription.value(&bytes(path), value.as_bytes(), *children).unwrap();
        }
        match subscription.finish().unwrap() {
            Ok(layer) => {
                layer.iter().map(|(key, value)| format!("{}={}", text(key), text(value))).collect::<Vec<_>>().join(" ")
            }
            Err(missing) => format!("no {}", text(&missing)),
        }
    }

    /// "/a=1 -/b", with a star before it if it is a trigger.
    fn changes(subscription: &mut Subscription) -> String {
        let Some(Report::Changes { changes, trigger }) = subscription.take_changes() else { return String::new() };
        let words = changes.iter().map(|change| match change {
            Change::Put(key, value) => format!("{}={}", text(key), text(value)),
            Change::Delete(key) => format!("-{}", text(key)),
        });
        trigger.then(|| "*".to_owned()).into_iter().chain(words).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn what_is_read_and_watched() {
        let check = |prefix, keys: &[&str], watch_keys: &[&str], roots: &[&str], watched: &[&str]| {
            let subscription = subscription(prefix, keys, watch_keys);
            let texts = |paths: Vec<Bytes>| paths.iter().map(|path| text(path)).collect::<Vec<_>>();
            assert_eq!(texts(subscription.roots()), roots, "{keys:?}");
            assert_eq!(texts(subscription.watched()), watched, "{keys:?} {watch_keys:?}");
        };
        check("", &["/"], &["/"], &["/"], &["/"]);
        check("", &["/b/", "/a", "/a-b", "/a/x"], &["/r", "/a/y"], &["/a", "/a-b", "/b"], &["/a", "/a-b", "/b", "/r"]);
        check("/p", &["/", "a"], &["/p"], &["/p"], &["/p"]);
        check("", &["/app/*", "/db/*/x", "/*"], &[], &["/"], &["/"]);
        check("p", &["/app/*", "/db/*/x*"], &[], &["/p/app", "/p/db/x*"], &["/p/app", "/p/db/x*"]);
        check("", &["", "x"], &[], &["/"], &["/"]);
        check("", &["x"], &[], &["/x"], &["/x"]);
    }

    #[test]
    fn only_nodes_without_children_have_values() {
        let mut plain = subscription("/p", &["/a"], &["/a"]);
        assert_eq!(read(&mut plain, &[("/p/a", "no", 1), ("/p/a/x", "1", 0), ("/p/other", "2", 0)]), "/a/x=1");
        assert_eq!(read(&mut plain, &[("/p/a", "yes", 0)]), "/a=yes");
        assert_eq!(read(&mut plain, &[]), "no /p/a");
        let mut twice = subscription("", &["/a", "/a/x"], &[]);
        assert_eq!(read(&mut twice, &[("/a", "", 1), ("/a/y", "1", 0)]), "no /a/x");
        assert_eq!(read(&mut twice, &[("/a", "", 1), ("/a/x", "1", 0)]), "/a/x=1");
        let mut root = subscription("", &["/"], &["/"]);
        assert_eq!(read(&mut root, &[("/", "r", 1), ("/x", "1", 0)]), "/x=1");
        assert_eq!(read(&mut root, &[("/", "r", 0)]), "/=r");
    }

    #[test]
    fn nodes_come_and_go() {
        let mut sub = subscription("", &["/a"], &["/r", "/a"]);
        read(&mut sub, &[("/a", "", 2), ("/a/x", "1", 0), ("/a/d", "", 1), ("/a/d/y", "2", 0)]);
        assert_eq!(sub.value(&bytes("/a/x"), b"1", 0), Ok(false));
        assert_eq!(changes(&mut sub), "");
        sub.triggered();
        assert_eq!(sub.value(&bytes("/a/x"), b"3", 0), Ok(false));
        assert_eq!(changes(&mut sub), "* /a/x=3");
        // A leaf gets a child, and loses it.
        sub.child_created(b"/a/x");
        assert_eq!(sub.value(&bytes("/a/x/c"), b"c", 0), Ok(false));
        assert_eq!(sub.value(&bytes("/a/x"), b"3", 1), Ok(false), "its child is known");
        assert_eq!(changes(&mut sub), "-/a/x /a/x/c=c");
        assert_eq!(sub.gone(b"/a/x/c"), Gone::Emptied(bytes("/a/x")));
        assert_eq!(sub.value(&bytes("/a/x"), b"4", 0), Ok(false));
        assert_eq!(changes(&mut sub), "-/a/x/c /a/x=4");
        assert_eq!(sub.value(&bytes("/a/x"), b"4", 1), Ok(true), "its child is not known");
        assert_eq!(changes(&mut sub), "-/a/x");
        // The nodes below a deleted node are removed, too.
        assert_eq!((sub.gone(b"/a/d"), changes(&mut sub)), (Gone::Noted, "-/a/d/y".into()));
        assert_eq!((sub.gone(b"/r"), sub.gone(b"/a/never")), (Gone::Noted, Gone::Noted));
        assert_eq!(sub.gone(b"/a"), Gone::Key);
        assert!(sub.is_trigger(b"/r/x") && sub.is_trigger(b"/a") && !sub.is_trigger(b"/r2"));
    }

    #[test]
    fn children_are_found_without_what_is_below_them() {
        let mut sub = subscription("", &["/"], &["/"]);
        let nodes = ["/", "/a", "/a/b", "/a/b/c", "/a/b-c", "/a/b/d", "/a/b0", "/a/b0/x", "/b"];
        read(&mut sub, &nodes.map(|path| (path, "", 1)));
        let check = |path: &str, want: &[&str]| {
            assert_eq!(sub.children(path.as_bytes()).iter().map(|path| text(path)).collect::<Vec<_>>(), want, "{path}");
        };
        check("/a", &["/a/b", "/a/b-c", "/a/b0"]);
        check("/a/b", &["/a/b/c", "/a/b/d"]);
        check("/a/b/c", &[]);
        check("/", &["/a", "/b"]);
        assert_eq!((parent(b"/a/b"), parent(b"/a"), parent(b"/")), (Some(&b"/a"[..]), Some(&b"/"[..]), None));
        assert_eq!((&*child(b"/", b"a"), &*child(b"/a", b"b c")), (&b"/a"[..], &b"/a/b c"[..]));
    }

    #[test]
    fn the_limits_of_a_read_hold() {
        let mut sub = subscription("", &["/a"], &["/a"]);
        sub.begin(ReadLimits { max_keys: 2, max_decoded: 100 });
        sub.value(&bytes("/a"), b"", 2).unwrap();
        sub.value(&bytes("/a/x"), b"", 0).unwrap();
        let words = "more than 2 keys: raise `max_keys` of the backend";
        assert_eq!(sub.value(&bytes("/a/y"), b"", 0), Err(words.to_owned()));
    }
}
