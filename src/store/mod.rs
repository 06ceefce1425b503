//! The keys of one resource: sorted, one layer a backend, asked as if they were one map.
//! Knows nothing of where they come from, nor of templates.

pub mod pattern;

use std::collections::BTreeMap;
use std::rc::Rc;

pub use pattern::BadPattern;

/// A key or a value. Stores hold bytes, not text, and what is not UTF-8 must survive;
/// a template shares them with the store instead of copying.
pub type Bytes = Rc<[u8]>;

/// What one backend gave: path -> value.
pub type Layer = BTreeMap<Bytes, Bytes>;

/// All keys of one resource. A later layer wins over an earlier one.
#[derive(Debug, Default)]
pub struct Store {
    layers: Vec<Layer>,
}

impl Store {
    /// An empty store with one empty layer for each backend, in merge order.
    pub fn new(layers: usize) -> Store {
        Store {
            layers: vec![Layer::new(); layers],
        }
    }

    /// Replaces everything that one backend gave.
    pub fn replace(&mut self, _layer: usize, _entries: Layer) {
        todo!()
    }

    /// Sets one key. Tells whether its value changed.
    pub fn put(&mut self, _layer: usize, _key: &[u8], _value: &[u8]) -> bool {
        todo!()
    }

    /// Removes one key. Tells whether it was there.
    pub fn delete(&mut self, _layer: usize, _key: &[u8]) -> bool {
        todo!()
    }

    /// The value of a key.
    pub fn get(&self, _key: &[u8]) -> Option<&Bytes> {
        todo!()
    }

    /// The pairs whose key matches a pattern (Go's path.Match), by key. Reads only the
    /// range of the pattern's literal prefix.
    pub fn gets(&self, _pattern: &[u8]) -> Result<Vec<(&Bytes, &Bytes)>, BadPattern> {
        todo!()
    }

    /// All pairs, by key.
    pub fn all(&self) -> Vec<(&Bytes, &Bytes)> {
        todo!()
    }

    /// The names right below a path (and the last name of the path itself where it is a key), sorted.
    pub fn ls(&self, _path: &[u8]) -> Vec<Bytes> {
        todo!()
    }

    /// Like `ls`, but only names that have keys below them.
    pub fn lsdir(&self, _path: &[u8]) -> Vec<Bytes> {
        todo!()
    }

    /// The keys that more than one layer holds, by key.
    pub fn collisions(&self) -> Vec<&Bytes> {
        todo!()
    }
}
