//! One read of all keys of a resource: each configured key, and if it has no value, the keys below it page by page.
//! Each key is requested once, even if SCAN returns it several times. Sends nothing.

use std::collections::{BTreeSet, VecDeque};

use super::cursors::Cursors;
use super::mirror::Mirror;
use super::wanted::{Wanted, pattern};
use crate::backend::protocol::Id;
use crate::backend::tally::Tally;
use crate::config::ReadLimits;
use crate::store::Bytes;

/// The limit of keys in one command for values.
pub const BATCH: usize = 1000;

/// A request to the server.
#[derive(Debug, PartialEq, Eq)]
pub enum Ask {
    /// The value of the key with this number.
    Key(usize),
    /// A page of SCAN for a pattern.
    Scan {
        /// The pattern.
        pattern: Bytes,
        /// The cursor of the page; `0` for the first page.
        cursor: Bytes,
    },
    /// The values of keys.
    Values(Vec<Bytes>),
}

/// A read in progress.
#[derive(Debug)]
pub struct Pass {
    /// The number of the read, which is unique.
    pub serial: u64,
    /// The resource.
    pub id: Id,
    /// Whether each configured key holds a string.
    pub singles: Vec<bool>,
    /// The keys and values so far.
    pub mirror: Mirror,
    /// The number of keys that the user may not read, and the first of them.
    pub denied: (usize, Option<Bytes>),
    /// Whether all keys may have changed meanwhile, so that another read must follow.
    pub is_stale: bool,
    /// The number of configured keys without a reply.
    unanswered: usize,
    /// The patterns that are not read yet. With `scanning` the first one is being read.
    patterns: VecDeque<Bytes>,
    scanning: Option<Bytes>,
    cursors: Cursors,
    seen: BTreeSet<Bytes>,
    /// The count of the keys that SCAN returned.
    named: Tally,
    /// The count of the kept keys and values.
    kept: Tally,
    /// The number of keys whose values are awaited.
    awaited: usize,
}

impl Pass {
    /// A read, and its first requests.
    pub fn new(serial: u64, id: Id, wanted: &Wanted, limits: ReadLimits) -> (Pass, Vec<Ask>) {
        let keys = wanted.keys().len();
        let pass = Pass {
            serial,
            id,
            singles: vec![false; keys],
            mirror: Mirror::default(),
            denied: (0, None),
            is_stale: false,
            unanswered: keys,
            patterns: VecDeque::new(),
            scanning: None,
            cursors: Cursors::default(),
            seen: BTreeSet::new(),
            named: Tally::new(limits),
            kept: Tally::new(limits),
            awaited: 0,
        };
        (pass, (0..keys).map(Ask::Key).collect())
    }

    /// The number of pages of the present pattern, and the number of all keys.
    pub fn progress(&self) -> (u64, usize) {
        (self.cursors.count(), self.seen.len())
    }

    /// Takes the cursor of a page.
    ///
    /// # Errors
    /// The pages have no end. The text has the cause.
    pub fn follow(&mut self, cursor: &Bytes) -> Result<(), String> {
        self.cursors.follow(cursor)
    }

    /// Whether all replies have arrived.
    pub fn is_complete(&self) -> bool {
        self.unanswered == 0 && self.scanning.is_none() && self.patterns.is_empty() && self.awaited == 0
    }

    /// Takes the value of a key. Returns the next request.
    pub fn key(&mut self, number: usize, value: Option<Bytes>, wanted: &Wanted) -> Result<Vec<Ask>, String> {
        let Some(key) = wanted.keys().get(number) else { return Ok(Vec::new()) };
        self.unanswered = self.unanswered.saturating_sub(1);
        match value {
            Some(value) => {
                self.singles[number] = true;
                if self.seen.insert(key.clone()) {
                    self.named.add(key, b"")?;
                    self.keep(key, value, wanted)?;
                }
            }
            None => self.patterns.push_back(pattern(key)),
        }
        Ok(if self.unanswered == 0 { self.next_pattern() } else { Vec::new() })
    }

    /// Takes a page of keys with the cursor of the next one. Returns the next request.
    pub fn page(&mut self, cursor: Bytes, keys: Vec<Bytes>) -> Result<Vec<Ask>, String> {
        let mut new = Vec::new();
        for key in keys {
            if !self.seen.contains(&key) {
                self.named.add(&key, b"")?;
                self.seen.insert(key.clone());
                new.push(key);
            }
        }
        self.awaited = self.awaited.saturating_add(new.len());
        // The next page is requested together with the values of this one.
        let mut asks = match (&*cursor, &self.scanning) {
            (b"0", _) => self.next_pattern(),
            (_, Some(pattern)) => vec![Ask::Scan { pattern: pattern.clone(), cursor }],
            (_, None) => Vec::new(),
        };
        asks.extend(new.chunks(BATCH).map(|keys| Ask::Values(keys.to_vec())));
        Ok(asks)
    }

    /// Takes the value of a key of a page; `None`: it holds no string.
    ///
    /// # Errors
    /// The read exceeds its limits. The text names the limit and how to raise it.
    pub fn value(&mut self, key: &Bytes, value: Option<Bytes>, wanted: &Wanted) -> Result<(), String> {
        self.awaited = self.awaited.saturating_sub(1);
        value.map_or(Ok(()), |value| self.keep(key, value, wanted))
    }

    /// Notes that the user may not read a key of a page.
    pub fn denied(&mut self, key: &Bytes) {
        self.awaited = self.awaited.saturating_sub(1);
        self.denied.0 += 1;
        self.denied.1.get_or_insert_with(|| key.clone());
    }

    fn keep(&mut self, key: &Bytes, value: Bytes, wanted: &Wanted) -> Result<(), String> {
        self.kept.add(key, &value)?;
        if let Some(named) = wanted.store_key(key) {
            self.mirror.set(named, key, Some(value));
        }
        Ok(())
    }

    fn next_pattern(&mut self) -> Vec<Ask> {
        self.scanning = self.patterns.pop_front();
        self.cursors = Cursors::default();
        let ask = |pattern: &Bytes| Ask::Scan { pattern: pattern.clone(), cursor: Bytes::from(&b"0"[..]) };
        self.scanning.iter().map(ask).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(text: &str) -> Bytes {
        Bytes::from(text.as_bytes())
    }

    struct Bench {
        pass: Pass,
        wanted: Wanted,
    }

    impl Bench {
        #[track_caller]
        fn new(keys: &[&str], max_keys: usize) -> Bench {
            let keys: Vec<String> = keys.iter().map(|key| key.to_string()).collect();
            let wanted = Wanted::new("", &keys, &[]);
            let (pass, asks) = Pass::new(1, Id(1), &wanted, ReadLimits { max_keys, ..ReadLimits::default() });
            assert_eq!(asks.len(), keys.len());
            Bench { pass, wanted }
        }

        #[track_caller]
        fn key(&mut self, number: usize, value: Option<&str>, want: &[&str]) {
            let asks = self.pass.key(number, value.map(bytes), &self.wanted);
            assert_eq!(shown(asks), want);
        }

        #[track_caller]
        fn page(&mut self, cursor: &str, keys: &[&str], want: &[&str]) {
            let asks = self.pass.page(bytes(cursor), keys.iter().map(|key| bytes(key)).collect());
            assert_eq!(shown(asks), want);
        }

        fn value(&mut self, key: &str, value: Option<&str>) {
            self.pass.value(&bytes(key), value.map(bytes), &self.wanted).unwrap();
        }

        fn layer(&self) -> String {
            let pair = |(key, value): (&Bytes, &Bytes)| {
                format!("{}={}", String::from_utf8_lossy(key), String::from_utf8_lossy(value))
            };
            self.pass.mirror.layer().iter().map(pair).collect::<Vec<_>>().join(" ")
        }
    }

    fn shown(asks: Result<Vec<Ask>, String>) -> Vec<String> {
        let text = |bytes: &Bytes| String::from_utf8_lossy(bytes).into_owned();
        let ask = |ask: Ask| match ask {
            Ask::Key(number) => format!("key {number}"),
            Ask::Scan { pattern, cursor } => format!("scan {} {}", text(&pattern), text(&cursor)),
            Ask::Values(keys) => keys.iter().map(text).collect::<Vec<_>>().join(" "),
        };
        asks.map_or_else(|words| vec![words], |asks| asks.into_iter().map(ask).collect())
    }

    #[test]
    fn a_key_that_holds_a_string_hides_those_below_it() {
        let mut bench = Bench::new(&["/a", "/b"], 100);
        bench.key(0, Some("1"), &[]);
        assert!(!bench.pass.is_complete());
        bench.key(1, None, &["scan /b/* 0"]);
        bench.page("17", &["/b/x", "/b/y", "/b/x"], &["scan /b/* 17", "/b/x /b/y"]);
        bench.page("0", &["/b/y", "/b/z"], &["/b/z"]);
        bench.value("/b/x", Some("2"));
        bench.value("/b/y", None);
        assert!(!bench.pass.is_complete());
        bench.value("/b/z", Some("3"));
        assert!(bench.pass.is_complete());
        assert_eq!((bench.layer().as_str(), &*bench.pass.singles), ("/a=1 /b/x=2 /b/z=3", &[true, false][..]));
    }

    #[test]
    fn patterns_are_read_one_after_the_other_and_keys_once() {
        let mut bench = Bench::new(&["/a", "/a/b"], 100);
        bench.key(0, None, &[]);
        bench.key(1, None, &["scan /a/* 0"]);
        bench.page("0", &["/a/b/c"], &["scan /a/b/* 0", "/a/b/c"]);
        bench.page("0", &["/a/b/c"], &[]);
        bench.pass.denied(&bytes("/a/b/c"));
        assert!(bench.pass.is_complete());
        assert_eq!(bench.pass.denied, (1, Some(bytes("/a/b/c"))));
    }

    #[test]
    fn limits_count_keys_that_hold_no_string_too() {
        let mut bench = Bench::new(&["/a"], 2);
        bench.key(0, None, &["scan /a/* 0"]);
        bench.page("0", &["/a/1", "/a/2", "/a/3"], &["more than 2 keys: raise `max_keys` of the backend"]);
        let mut bench = Bench::new(&["/a", "/b", "/c"], 2);
        bench.key(0, Some("1"), &[]);
        bench.key(1, Some("1"), &[]);
        bench.key(2, Some("1"), &["more than 2 keys: raise `max_keys` of the backend"]);
    }

    #[test]
    fn many_keys_are_asked_for_in_batches() {
        let mut bench = Bench::new(&["/a"], 10_000);
        bench.key(0, None, &["scan /a/* 0"]);
        let keys: Vec<Bytes> = (0..2500).map(|n| bytes(&format!("/a/{n}"))).collect();
        let sizes = bench.pass.page(bytes("0"), keys).unwrap().into_iter().map(|ask| match ask {
            Ask::Values(keys) => keys.len(),
            other => panic!("{other:?}"),
        });
        assert_eq!(sizes.collect::<Vec<_>>(), [1000, 1000, 500]);
    }
}
