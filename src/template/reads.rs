//! The reads of a render: keys, patterns and directories by function, and questions to the machine. An update compares
//! them with the changed keys, and renders only the affected templates; `--explain` shows them. Every read of the store
//! goes through [`Recorder`], so that no function can read without a record.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use crate::store::changes::{Change, Changes};
use crate::store::pattern::Pattern;
use crate::store::{BadPattern, Bytes, Store, path};

/// The reads of one render. They cover every key that the result depends on, also missing keys. Many reads in one
/// directory are joined to one read of the directory.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reads {
    /// In the order of functions and texts, each once.
    reads: Vec<Read>,
    /// Whether the render was not recorded, so that any key may have been read.
    is_unknown: bool,
    asked: Questions,
}

/// The extent of a recording.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Recording {
    /// Only questions to the machine, and no reads. Every change then affects the result.
    Nothing,
    /// A few hundred reads: many reads in one directory are joined.
    #[default]
    Bounded,
    /// Each of up to some ten thousand reads, before reads are joined.
    Everything,
}

/// A question to the machine whose answer may change at any time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Question {
    /// The time and its zone.
    Time,
    /// The addresses of a host, or the services of a domain.
    Names,
    /// Whether a file exists.
    Files,
    /// Random numbers.
    Random,
    /// A filter of the user, which may keep a state.
    Filters,
}

impl Question {
    /// All questions.
    const ALL: [Question; 5] = [Question::Time, Question::Names, Question::Files, Question::Random, Question::Filters];

    /// The name in the output.
    pub fn name(self) -> &'static str {
        match self {
            Question::Time => "time",
            Question::Names => "names",
            Question::Files => "files",
            Question::Random => "random",
            Question::Filters => "filters",
        }
    }

    fn bit(self) -> u8 {
        1 << (self as u8)
    }
}

/// A set of questions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Questions(u8);

/// A read of the store, or several that were joined.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Read {
    /// The function of the template language.
    pub function: Function,
    /// The keys.
    pub extent: Extent,
}

/// A function that reads the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Function {
    /// `exists`
    Exists,
    /// `get`
    Get,
    /// `getallkvs`
    GetAllKvs,
    /// `gets`
    Gets,
    /// `getv`
    Getv,
    /// `getvs`
    Getvs,
    /// `ls`
    Ls,
    /// `lsdir`
    LsDir,
}

/// The keys that a read depends on.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Extent {
    /// This key.
    Key(Bytes),
    /// The keys that match this pattern.
    Pattern(Bytes),
    /// The keys that begin with these bytes: those below a directory, or those of reads that were joined.
    Prefix(Bytes),
}

impl Function {
    /// The name in a call.
    pub fn name(self) -> &'static str {
        match self {
            Function::Exists => "exists",
            Function::Get => "get",
            Function::GetAllKvs => "getallkvs",
            Function::Gets => "gets",
            Function::Getv => "getv",
            Function::Getvs => "getvs",
            Function::Ls => "ls",
            Function::LsDir => "lsdir",
        }
    }

    /// Whether the answer depends on values, and not only on which keys are there.
    pub fn reads_values(self) -> bool {
        match self {
            Function::Get | Function::GetAllKvs | Function::Gets | Function::Getv | Function::Getvs => true,
            Function::Exists | Function::Ls | Function::LsDir => false,
        }
    }

    fn depends_on(self, change: Change) -> bool {
        change == Change::Presence || self.reads_values()
    }
}

impl Reads {
    /// The reads, in the order of functions and texts.
    pub fn iter(&self) -> impl Iterator<Item = &Read> {
        self.reads.iter()
    }

    /// Whether the result depends on more than keys and compiled files: time, names, random numbers, other files,
    /// filters of the user.
    pub fn asked_machine(&self) -> bool {
        self.asked != Questions::default()
    }

    /// The questions to the machine.
    pub fn asked(&self) -> impl Iterator<Item = Question> + use<> {
        let Questions(asked) = self.asked;
        Question::ALL.into_iter().filter(move |question| asked & question.bit() != 0)
    }

    /// Whether these changes may change the answer to one of the reads.
    pub fn is_affected_by(&self, changes: &Changes) -> bool {
        match changes {
            Changes::Everything => true,
            Changes::Keys(keys) if keys.is_empty() => false,
            Changes::Keys(_) => self.is_unknown || self.reads.iter().any(|read| read.is_affected_by(changes)),
        }
    }
}

impl Read {
    /// Whether these changes may change the answer.
    pub fn is_affected_by(&self, changes: &Changes) -> bool {
        let depends_on = |change| self.function.depends_on(change);
        match &self.extent {
            Extent::Key(key) => changes.of(key).is_some_and(depends_on),
            Extent::Prefix(prefix) => changes.with_prefix(prefix).any(|(_, change)| depends_on(change)),
            Extent::Pattern(text) => {
                let mut near = changes.with_prefix(literal(text)).peekable();
                // Most patterns have no changed key near them, and need no parsing.
                near.peek().is_some()
                    && match Pattern::new(text) {
                        Ok(pattern) => near.any(|(key, change)| depends_on(change) && pattern.matches(key)),
                        Err(BadPattern { .. }) => true,
                    }
            }
        }
    }

    /// Whether the answer depends on this key.
    pub fn covers(&self, key: &[u8]) -> bool {
        match &self.extent {
            Extent::Key(own) => **own == *key,
            Extent::Prefix(prefix) => key.starts_with(prefix),
            Extent::Pattern(text) => {
                key.starts_with(literal(text)) && Pattern::new(text).is_ok_and(|pattern| pattern.matches(key))
            }
        }
    }

    /// The bytes that every key of the read begins with.
    fn prefix(&self) -> &[u8] {
        match &self.extent {
            Extent::Key(key) => key,
            Extent::Prefix(prefix) => prefix,
            Extent::Pattern(text) => literal(text),
        }
    }

    /// The depth of its keys, for the choice of the reads that are joined.
    fn depth(&self) -> usize {
        let slashes = self.prefix().iter().filter(|byte| **byte == b'/').count();
        2 * slashes + usize::from(!matches!(self.extent, Extent::Prefix(_)))
    }

    /// The read of the whole directory that its keys are in.
    fn to_directory(&self) -> Read {
        let prefix = match &self.extent {
            Extent::Prefix(prefix) => prefix.strip_suffix(b"/").unwrap_or(prefix),
            Extent::Key(_) | Extent::Pattern(_) => self.prefix(),
        };
        let end = prefix.iter().rposition(|byte| *byte == b'/').map_or(0, |slash| slash + 1);
        Read { function: self.function, extent: Extent::Prefix(Bytes::from(&prefix[..end])) }
    }
}

/// The part of a pattern before its first metacharacter. Every match begins with it.
fn literal(pattern: &[u8]) -> &[u8] {
    let end = pattern.iter().position(|byte| matches!(byte, b'*' | b'?' | b'[' | b'\\'));
    &pattern[..end.unwrap_or(pattern.len())]
}

/// The store as one render reads it. Records each read before it answers. Cells, because functions read through a
/// shared reference.
pub struct Recorder {
    store: Rc<Store>,
    recording: Recording,
    record: RefCell<Record>,
    asked: Cell<Questions>,
}

/// The reads so far.
#[derive(Default)]
struct Record {
    /// Single reads, some of them repeated.
    single: Vec<Read>,
    /// Directories that single reads were joined to. Further reads in them are not recorded.
    joined: Vec<Read>,
}

impl Recorder {
    /// Nothing is read yet.
    pub fn new(store: Rc<Store>, recording: Recording) -> Recorder {
        Recorder { store, recording, record: RefCell::default(), asked: Cell::default() }
    }

    /// The reads so far. Starts a new record.
    pub fn take(&self) -> Reads {
        let Record { mut single, joined } = self.record.take();
        single.extend(joined);
        single.sort_unstable();
        single.dedup();
        single.shrink_to_fit();
        Reads { reads: single, is_unknown: self.recording == Recording::Nothing, asked: self.asked.take() }
    }

    /// Records that the result depends on the machine.
    pub fn ask_machine(&self, question: Question) {
        let Questions(asked) = self.asked.get();
        self.asked.set(Questions(asked | question.bit()));
    }

    /// The store without recording: for the cost of a search, and for the advice in an error. The next update always
    /// repeats a failed render.
    pub fn without_recording(&self) -> &Store {
        &self.store
    }

    /// [`Store::exists`]
    #[inline]
    pub fn exists(&self, key: &Bytes) -> bool {
        self.note_key(Function::Exists, key);
        self.store.exists(key)
    }

    /// [`Store::get_pair`]
    #[inline]
    pub fn get_pair(&self, key: &Bytes) -> Option<(&Bytes, &Bytes)> {
        self.note_key(Function::Get, key);
        self.store.get_pair(key)
    }

    /// [`Store::get`]
    #[inline]
    pub fn get(&self, key: &Bytes) -> Option<&Bytes> {
        self.note_key(Function::Getv, key);
        self.store.get(key)
    }

    /// [`Store::gets`]
    #[inline]
    pub fn gets(&self, pattern: &Bytes) -> Result<impl Iterator<Item = (&Bytes, &Bytes)> + use<'_>, BadPattern> {
        self.note_pattern(Function::Gets, pattern);
        self.store.gets(pattern)
    }

    /// [`Store::getvs`]
    #[inline]
    pub fn getvs(&self, pattern: &Bytes) -> Result<Vec<&Bytes>, BadPattern> {
        self.note_pattern(Function::Getvs, pattern);
        self.store.getvs(pattern)
    }

    /// [`Store::all`]
    #[inline]
    pub fn all(&self) -> impl Iterator<Item = (&Bytes, &Bytes)> {
        self.note(Function::GetAllKvs, b"", || Extent::Prefix(Bytes::from(&b""[..])));
        self.store.all()
    }

    /// [`Store::ls`]
    #[inline]
    pub fn ls(&self, path: &[u8]) -> Vec<Bytes> {
        self.note_directory(Function::Ls, path);
        self.store.ls(path)
    }

    /// [`Store::lsdir`]
    #[inline]
    pub fn lsdir(&self, path: &[u8]) -> Vec<Bytes> {
        self.note_directory(Function::LsDir, path);
        self.store.lsdir(path)
    }

    fn note_key(&self, function: Function, key: &Bytes) {
        self.note(function, key, || Extent::Key(key.clone()));
    }

    fn note_pattern(&self, function: Function, pattern: &Bytes) {
        self.note(function, pattern, || Extent::Pattern(pattern.clone()));
    }

    fn note_directory(&self, function: Function, path: &[u8]) {
        if self.recording == Recording::Nothing {
            return;
        }
        let path = path::clean(path);
        self.note(function, &path, || Extent::Prefix(Bytes::from([&*path, b"/"].concat())));
    }

    /// `text`: the key, the pattern or the directory.
    #[inline]
    fn note(&self, function: Function, text: &[u8], extent: impl FnOnce() -> Extent) {
        /// Longer texts are not kept. Such a read counts as a read of all keys.
        const LONGEST: usize = 1024;
        let (most, left) = match self.recording {
            Recording::Nothing => return,
            Recording::Bounded => (Record::MOST, Record::LEFT),
            Recording::Everything => (100_000, 25_000),
        };
        let mut record = self.record.borrow_mut();
        // A directory of reads that were joined ends with `/`. A metacharacter of a pattern is no part of it.
        let is_joined = |joined: &Read| joined.function == function && text.starts_with(joined.prefix());
        if let Some(at) = record.joined.iter().position(is_joined) {
            // A loop reads one directory again and again.
            record.joined.swap(at, 0);
            return;
        }
        let extent = if text.len() > LONGEST { Extent::Prefix(Bytes::from(&b""[..])) } else { extent() };
        if record.single.is_empty() {
            // Many templates have one read.
            record.single.reserve_exact(1);
        }
        record.single.push(Read { function, extent });
        if record.single.len() >= most {
            record.join(left);
        }
    }
}

impl Record {
    /// The number of single reads above which reads of one directory are joined.
    const MOST: usize = 256;
    /// The number of reads after that.
    const LEFT: usize = 64;

    /// Joins the deepest reads until `left` remain.
    #[cold]
    fn join(&mut self, left: usize) {
        let mut reads = std::mem::take(&mut self.single);
        reads.sort_unstable();
        reads.dedup();
        if reads.len() <= left {
            self.single = reads;
            return;
        }
        reads.append(&mut self.joined);
        // Every round removes a level of the deepest reads. In the end each function has one read of everything.
        while reads.len() > left {
            let deepest = reads.iter().map(Read::depth).max().unwrap_or_default();
            reads.iter_mut().filter(|read| read.depth() == deepest).for_each(|read| *read = read.to_directory());
            reads.sort_unstable();
            reads.dedup();
        }
        (self.joined, self.single) = reads.into_iter().partition(|read| matches!(read.extent, Extent::Prefix(_)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(text: impl AsRef<[u8]>) -> Bytes {
        Bytes::from(text.as_ref())
    }

    fn recorder() -> Recorder {
        let mut store = Store::new(1);
        for key in ["/app/db/host", "/app/name", "/b/1", "/b/2"] {
            store.put(0, bytes(key), bytes("value"));
        }
        Recorder::new(Rc::new(store), Recording::Bounded)
    }

    /// `getv /app/name`, `ls /app/...`
    fn text(reads: &Reads) -> Vec<String> {
        let words = |read: &Read| {
            let (text, dots) = match &read.extent {
                Extent::Key(text) | Extent::Pattern(text) => (text, ""),
                Extent::Prefix(text) => (text, "..."),
            };
            format!("{} {}{dots}", read.function.name(), String::from_utf8_lossy(text))
        };
        reads.iter().map(words).collect()
    }

    fn changes(keys: &[(&str, Change)]) -> Changes {
        let mut changes = Changes::default();
        keys.iter().for_each(|(key, change)| changes.add(bytes(key), *change));
        changes
    }

    #[test]
    fn every_function_is_recorded_with_what_it_asked_for() {
        let recorder = recorder();
        recorder.get(&bytes("/app/name"));
        recorder.get(&bytes("/none"));
        recorder.get(&bytes("/app/name"));
        recorder.get_pair(&bytes("/b/1"));
        recorder.exists(&bytes("/b/3"));
        assert_eq!(recorder.gets(&bytes("/b/*")).expect("a pattern").count(), 2);
        recorder.getvs(&bytes("/[")).expect_err("no pattern");
        recorder.ls(b"/app/");
        recorder.lsdir(b"/app/./db");
        let reads = recorder.take();
        let all = [
            "exists /b/3",
            "get /b/1",
            "gets /b/*",
            "getv /app/name",
            "getv /none",
            "getvs /[",
            "ls /app/...",
            "lsdir /app/db/...",
        ];
        assert_eq!(text(&reads), all);
        assert!(!reads.asked_machine());
        assert_eq!(recorder.all().count(), 4);
        recorder.ask_machine(Question::Files);
        recorder.ask_machine(Question::Time);
        let reads = recorder.take();
        assert_eq!((text(&reads), reads.asked_machine()), (vec!["getallkvs ...".to_owned()], true));
        assert_eq!(recorder.take(), Reads::default());
    }

    #[test]
    fn a_change_meets_the_reads_whose_answer_it_can_change() {
        use Change::{Presence, Value};
        let read = |function, extent| Read { function, extent };
        let check = |read: Read, keys: &[(&str, Change)], met: bool| {
            assert_eq!(read.is_affected_by(&changes(keys)), met, "{read:?} {keys:?}");
            let covered = keys.iter().any(|(key, _)| read.covers(key.as_bytes()));
            assert!(covered || !met, "{read:?} {keys:?}");
        };
        let getv = || read(Function::Getv, Extent::Key(bytes("/a/b")));
        check(getv(), &[("/a/b", Value)], true);
        check(getv(), &[("/a/b", Presence)], true);
        check(getv(), &[("/a", Presence), ("/a/b/c", Presence), ("/a/b2", Value)], false);
        check(getv(), &[], false);
        let exists = || read(Function::Exists, Extent::Key(bytes("/a/b")));
        check(exists(), &[("/a/b", Value)], false);
        check(exists(), &[("/a/b", Presence)], true);
        let gets = || read(Function::Gets, Extent::Pattern(bytes("/a/*/x")));
        check(gets(), &[("/a/1/x", Value)], true);
        check(gets(), &[("/a/1/y", Presence), ("/a/1/x/2", Presence), ("/a/x", Presence), ("/b/1/x", Value)], false);
        check(read(Function::Getvs, Extent::Pattern(bytes("/a\\*"))), &[("/a*", Value)], true);
        check(read(Function::Getvs, Extent::Pattern(bytes("/a\\*"))), &[("/ab", Value)], false);
        let ls = || read(Function::Ls, Extent::Prefix(bytes("/a/")));
        check(ls(), &[("/a/b", Presence)], true);
        check(ls(), &[("/a/b/c", Presence)], true);
        check(ls(), &[("/a/b", Value), ("/a", Presence), ("/ab", Presence)], false);
        check(read(Function::GetAllKvs, Extent::Prefix(bytes(""))), &[("/z", Value)], true);
        let nothing = Reads::default();
        assert!(nothing.is_affected_by(&Changes::Everything) && !nothing.is_affected_by(&changes(&[("/a", Presence)])));
    }

    #[test]
    fn many_reads_of_one_directory_are_joined() {
        let recorder = recorder();
        recorder.get(&bytes("/app/name"));
        for service in 0..100_000 {
            recorder.get(&bytes(format!("/services/{service}/mode")));
            let pattern = bytes(format!("/services/{service}/servers/*"));
            assert_eq!(recorder.gets(&pattern).expect("a pattern").count(), 0);
            recorder.lsdir(format!("/services/{service}").as_bytes());
        }
        recorder.exists(&bytes("/b/1"));
        let reads = recorder.take();
        let all = ["exists /b/1", "gets /services/...", "getv /app/name", "getv /services/...", "lsdir /services/..."];
        assert_eq!(text(&reads), all);
        assert!(reads.is_affected_by(&changes(&[("/services/7/mode", Change::Value)])));
        assert!(!reads.is_affected_by(&changes(&[("/app/db/host", Change::Value)])));
    }

    #[test]
    fn a_record_can_be_left_out_or_be_complete() {
        let read = |recording| {
            let recorder = Recorder::new(Rc::clone(&recorder().store), recording);
            for n in 0..10_000 {
                recorder.get(&bytes(format!("/services/{n}/mode")));
            }
            recorder.ls(b"/app");
            recorder.ask_machine(Question::Random);
            recorder.ask_machine(Question::Time);
            recorder.ask_machine(Question::Time);
            recorder.take()
        };
        let nothing = read(Recording::Nothing);
        assert_eq!(nothing.iter().count(), 0);
        assert!(
            nothing.is_affected_by(&changes(&[("/z", Change::Value)])) && !nothing.is_affected_by(&Changes::default())
        );
        assert_eq!(nothing.asked().collect::<Vec<_>>(), [Question::Time, Question::Random]);
        assert_eq!(read(Recording::Everything).iter().count(), 10_001);
        assert!(read(Recording::Bounded).iter().count() < 100);
    }

    #[test]
    fn a_key_that_is_read_again_and_again_is_recorded_once() {
        let recorder = recorder();
        for round in 0..10_000 {
            recorder.get(&bytes(format!("/b/{}", round % 50)));
        }
        assert_eq!(recorder.take().iter().count(), 50);
    }

    #[test]
    fn the_record_stays_small_whatever_is_read() {
        let recorder = recorder();
        for round in 0..20_000_u32 {
            let path = format!("{}x/{round}", "/deep".repeat(usize::try_from(round % 70).expect("small")));
            recorder.get(&bytes(&path));
            recorder.ls(format!("/{round}/{path}").as_bytes());
            let record = recorder.record.borrow();
            assert!(record.single.len() <= Record::MOST && record.joined.len() <= Record::MOST, "{round}");
        }
        recorder.get(&bytes("/long".repeat(1000)));
        let reads = recorder.take();
        assert!(reads.iter().count() < 2 * Record::MOST && reads.iter().all(|read| read.prefix().len() < 1024));
        assert!(reads.is_affected_by(&changes(&[("/anything", Change::Value)])));
    }
}
