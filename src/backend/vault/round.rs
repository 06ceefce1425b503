//! One read of all keys of a resource: the paths of its keys in Vault, the remaining lists and reads, and the texts so
//! far. Makes no request and knows no time.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt;
use std::rc::Rc;

use super::wire;
use crate::backend::keys::{Keys, StoreKey};
use crate::backend::protocol::{Id, Request};
use crate::backend::tally::{self, Tally};
use crate::config::ReadLimits;
use crate::cut;
use crate::store::Layer;

/// A read of a resource.
pub struct Round {
    /// The resource.
    pub id: Id,
    steps: VecDeque<Step>,
    /// The requested lists and secrets, because keys may be nested.
    seen: BTreeSet<Step>,
    /// The texts by their raw keys, with a leading slash.
    texts: BTreeMap<Vec<u8>, Rc<[u8]>>,
    listed: Tally,
    read: Tally,
}

/// A request of a round.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Step {
    /// The mount of a key, which has no slashes at its ends.
    Mount(String),
    /// The names below a path.
    List(Place),
    /// The secret at a path.
    Read(Place),
}

/// A path as in the keys, without slashes at its ends.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// Without `data` or `metadata`, unless the configured key has it.
    pub path: Rc<str>,
    /// The mount, with a slash at its end, if it is one of version 2 and the key does not name `data` or `metadata`
    /// itself.
    versioned: Option<Rc<str>>,
}

impl Place {
    /// Whether an answer has metadata of a version beside the secret.
    pub fn is_versioned(&self) -> bool {
        self.versioned.is_some()
    }

    /// The path of the request. For a mount of version 2, `word` is inserted.
    fn with(&self, word: &str) -> String {
        match &self.versioned {
            None => self.path.to_string(),
            Some(mount) => format!("{mount}{word}/{}", self.path.get(mount.len()..).unwrap_or_default()),
        }
    }
}

impl Step {
    /// The request.
    pub fn request(&self) -> Request {
        match self {
            Step::Mount(key) => wire::mount(key),
            Step::List(place) => wire::list(&place.with("metadata")),
            Step::Read(place) => wire::read(&place.with("data")),
        }
    }

    /// The capability that a policy must grant.
    pub fn needs(&self) -> String {
        match self {
            Step::Mount(key) => format!("`read` on `sys/internal/ui/mounts/{}`", cut::key(key.as_bytes())),
            Step::List(place) => {
                format!("`list` on `{}/`", cut::key(place.with("metadata").trim_end_matches('/').as_bytes()))
            }
            Step::Read(place) => format!("`read` on `{}`", cut::key(place.with("data").as_bytes())),
        }
    }
}

/// Verb and subject.
impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Step::Mount(key) => write!(f, "find the mount of `/{}`", cut::key(key.as_bytes())),
            Step::List(place) => write!(f, "list `/{}`", cut::key(place.path.as_bytes())),
            Step::Read(place) => write!(f, "read `/{}`", cut::key(place.path.as_bytes())),
        }
    }
}

impl Round {
    /// A read of all keys of a resource.
    pub fn new(id: Id, keys: &Keys, limits: ReadLimits) -> Round {
        let path = |key: &Vec<u8>| String::from_utf8_lossy(key).trim_matches('/').to_owned();
        let steps = keys.effective().iter().map(|key| Step::Mount(path(key))).collect();
        let (listed, read) = (Tally::new(limits), Tally::new(limits));
        Round { id, steps, seen: BTreeSet::new(), texts: BTreeMap::new(), listed, read }
    }

    /// The next request, if there is one.
    pub fn next(&mut self) -> Option<Step> {
        self.steps.pop_front()
    }

    fn push(&mut self, step: Step) {
        if self.seen.insert(step.clone()) {
            self.steps.push_back(step);
        }
    }

    /// Takes the mount of a key: the path of a mount of version 2, or `None` for another kind.
    pub fn mounted(&mut self, key: &str, versioned: Option<&str>) {
        let below = |mount: &&str| format!("{key}/").starts_with(*mount);
        let mount = versioned.filter(below).filter(|mount| {
            let first = key.get(mount.len()..).unwrap_or_default().split('/').next();
            !matches!(first, Some("data" | "metadata"))
        });
        let is_mount = mount.is_some_and(|mount| key.len() < mount.len());
        let place = Place { path: Rc::from(key), versioned: mount.map(Rc::from) };
        self.push(Step::List(place.clone()));
        // A mount is not a secret.
        if !is_mount && !key.is_empty() {
            self.push(Step::Read(place));
        }
    }

    /// Takes the names below a path. Names of folders end with a slash.
    ///
    /// # Errors
    /// The read exceeds its limits. The text names the limit.
    pub fn listed(&mut self, place: &Place, names: &[&str]) -> Result<(), String> {
        for name in names {
            let bare = name.trim_end_matches('/');
            let path = if place.path.is_empty() { bare.to_owned() } else { format!("{}/{bare}", place.path) };
            self.listed.add(path.as_bytes(), b"")?;
            tally::check_depth(path.as_bytes())?;
            let below = Place { path: Rc::from(path), versioned: place.versioned.clone() };
            self.push(if name.ends_with('/') { Step::List(below) } else { Step::Read(below) });
        }
        Ok(())
    }

    /// Takes a text of the secret at a path. The name of a text in a map begins with a slash.
    ///
    /// # Errors
    /// The read exceeds its limits. The text names the limit.
    pub fn add(&mut self, path: &str, name: &str, text: &str) -> Result<(), String> {
        let key = format!("/{path}{name}").into_bytes();
        self.read.add(&key, text.as_bytes())?;
        self.texts.insert(key, Rc::from(text.as_bytes()));
        Ok(())
    }

    /// The keys in the store. If several keys have one name in the store, the exact one wins.
    pub fn layer(self, keys: &Keys) -> Layer {
        let (mut layer, mut exact) = (Layer::new(), Vec::new());
        for (raw, value) in self.texts {
            match keys.store_key(&raw) {
                Some(StoreKey { key, exact: true }) => exact.push((key, value)),
                Some(StoreKey { key, exact: false }) => _ = layer.insert(key, value),
                None => {}
            }
        }
        layer.extend(exact);
        layer
    }
}
