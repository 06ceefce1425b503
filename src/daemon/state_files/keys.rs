//! Writes the file with the last keys of a resource: compares it with the old file, and replaces that if it differs,
//! a piece in each turn of the loop, at most every ten seconds. `state::keys` has the format.

use std::rc::{Rc, Weak};
use std::time::{Duration, Instant};

use crate::error::cause;
use crate::host::state_dir::{NewFile, OldFile, StateDir};
use crate::state::MOST_BYTES;
use crate::state::keys::{self, Encoder, TooMany};
use crate::store::Store;

/// The file of a resource.
pub(super) struct KeysFile {
    dir: Rc<StateDir>,
    pub(super) name: String,
    /// The origin of the keys.
    origin: u64,
    layers: usize,
    /// The keys to write next.
    next: Option<NextKeys>,
    work: Work,
    /// When the next piece is due, or the next file may begin.
    at: Instant,
    /// Whether the last attempt to write failed.
    is_failing: bool,
}

/// The keys of a successful update.
struct NextKeys {
    /// Dropped if the keys have changed since then and are not held: the next update brings the new keys. So a change
    /// copies the keys at most once for each file.
    keys: Weak<Store>,
    _held: Option<Rc<Store>>,
    /// When the update succeeded, in seconds since 1970.
    since: i64,
}

/// The work that is done in pieces.
enum Work {
    Nothing,
    /// The old file has equal bytes so far.
    Comparing {
        keys: Rc<Store>,
        since: i64,
        encoder: Encoder,
        old: OldFile,
    },
    Writing {
        encoder: Encoder,
        new: NewFile,
        /// How many bytes may not be on the disk yet.
        unsynced: usize,
    },
    /// The file is complete, but may not be on the disk yet.
    Installing(NewFile),
}

/// The pause between two files. Without it all keys of a busy store would be written with every change.
const PAUSE: Duration = Duration::from_secs(10);

/// How many bytes are encoded and written in one turn. This takes less than about 1 ms.
const PIECE: usize = 128 << 10;

/// The number of bytes between two syncs, so that each sync is short.
const SYNCED: usize = 1 << 20;

impl KeysFile {
    pub(super) fn new(dir: Rc<StateDir>, name: String, origin: u64, layers: usize, now: Instant) -> KeysFile {
        KeysFile { dir, name, origin, layers, next: None, work: Work::Nothing, at: now, is_failing: false }
    }

    /// Schedules the keys of a successful update. `held`: the keys, if they are written even if the store changes
    /// first. `since`: when the update succeeded, in seconds since 1970.
    pub(super) fn keep(&mut self, keys: Weak<Store>, held: Option<Rc<Store>>, since: i64) {
        self.next = Some(NextKeys { keys, _held: held, since });
    }

    /// Whether the keys of an update that ends now would be written at once.
    pub(super) fn is_ready(&self, now: Instant) -> bool {
        matches!(self.work, Work::Nothing) && self.at <= now
    }

    /// When the next turn is due.
    pub(super) fn due(&self) -> Option<Instant> {
        let is_due = self.next.is_some() || !matches!(self.work, Work::Nothing);
        is_due.then_some(self.at)
    }

    /// Does the next piece of the work.
    ///
    /// # Errors
    /// The keys cannot be written. The text is the cause. The error is returned once until a file was written.
    pub(super) fn turn(&mut self, now: Instant) -> Result<(), String> {
        let result = self.step();
        self.at = match self.work {
            Work::Nothing => now + PAUSE,
            Work::Comparing { .. } | Work::Writing { .. } | Work::Installing(_) => now,
        };
        match result {
            Ok(is_done) => {
                self.is_failing &= !is_done;
                Ok(())
            }
            Err(_) if std::mem::replace(&mut self.is_failing, true) => Ok(()),
            Err(why) => Err(why),
        }
    }

    /// Does the remaining work at once, at the end of the program.
    ///
    /// # Errors
    /// Those of [`KeysFile::turn`].
    pub(super) fn finish(&mut self, now: Instant) -> Result<(), String> {
        while self.due().is_some() {
            self.turn(now)?;
        }
        Ok(())
    }

    /// Whether the file is up to date now. After a failure there is no work.
    fn step(&mut self) -> Result<bool, String> {
        match std::mem::replace(&mut self.work, Work::Nothing) {
            Work::Nothing => {
                let Some(next) = self.next.take() else { return Ok(false) };
                let (Some(keys), since) = (next.keys.upgrade(), next.since) else { return Ok(false) };
                self.work = self.compare(&keys, since).map_or_else(|| self.write(keys, since), Ok)?;
                Ok(false)
            }
            Work::Comparing { keys, since, mut encoder, mut old } => match encoder.piece(PIECE) {
                Ok(piece) if piece.is_empty() && old.is_at_end().is_ok_and(|is| is) => {
                    // The age counts from the last update.
                    old.overwrite(keys::TIME_AT, &keys::time(since)).map_err(|e| cause(&e))?;
                    Ok(true)
                }
                Ok(piece) if !piece.is_empty() && old.has(&piece).is_ok_and(|has| has) => {
                    self.work = Work::Comparing { keys, since, encoder, old };
                    Ok(false)
                }
                Ok(_) => {
                    self.work = self.write(keys, since)?;
                    Ok(false)
                }
                Err(TooMany) => Err(self.too_many()),
            },
            Work::Writing { mut encoder, mut new, unsynced } => {
                let piece = encoder.piece(PIECE).map_err(|TooMany| self.too_many())?;
                if piece.is_empty() {
                    self.work = Work::Installing(new);
                    return Ok(false);
                }
                new.append(&piece).map_err(|e| cause(&e))?;
                let unsynced = match unsynced + piece.len() {
                    many if many >= SYNCED => {
                        new.sync().map_err(|e| cause(&e))?;
                        0
                    }
                    few => few,
                };
                self.work = Work::Writing { encoder, new, unsynced };
                Ok(false)
            }
            Work::Installing(new) => {
                new.sync().and_then(|()| new.install()).map_err(|e| cause(&e))?;
                Ok(true)
            }
        }
    }

    /// Begins to compare the keys with the old file; `None`: there is no old file that could be equal.
    fn compare(&self, keys: &Rc<Store>, since: i64) -> Option<Work> {
        let mut old = self.dir.open_old(&self.name).ok()??;
        // After the time, which may be that of an older update.
        if !old.has(&keys::head(0)[..keys::TIME_AT]).ok()? {
            return None;
        }
        old.seek(keys::KEYS_AT).ok()?;
        let encoder = Encoder::new(self.origin, Rc::clone(keys), self.layers);
        Some(Work::Comparing { keys: Rc::clone(keys), since, encoder, old })
    }

    /// Begins to replace the file.
    fn write(&self, keys: Rc<Store>, since: i64) -> Result<Work, String> {
        let mut new = self.dir.begin(&self.name).map_err(|e| cause(&e))?;
        new.append(&keys::head(since)).map_err(|e| cause(&e))?;
        Ok(Work::Writing { encoder: Encoder::new(self.origin, keys, self.layers), new, unsynced: 0 })
    }

    fn too_many(&self) -> String {
        // Outdated keys are worse than none.
        let removed = self.dir.remove(&self.name).err().map(|e| format!(", and the old ones stay: {}", cause(&e)));
        format!("they are more than {} MB{}", MOST_BYTES >> 20, removed.unwrap_or_default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::files::tests::Folder;
    use crate::store::Bytes;
    use std::fs;
    use std::os::unix::fs::MetadataExt;

    const BEGIN: Duration = Duration::ZERO;

    struct Bench {
        folder: Folder,
        start: Instant,
        file: KeysFile,
    }

    fn bench() -> Bench {
        let (folder, start) = (Folder::new(), Instant::now());
        let dir = Rc::new(StateDir::open(&folder.path("state")).unwrap());
        let file = KeysFile::new(dir, "app.keys".to_owned(), 7, 1, start);
        Bench { folder, start, file }
    }

    fn store(keys: usize, value: &str) -> Rc<Store> {
        let pair = |n: usize| (Bytes::from(format!("/key/{n}").as_bytes()), Bytes::from(value.as_bytes()));
        let mut store = Store::new(1);
        store.replace(0, (0..keys).map(pair).collect());
        Rc::new(store)
    }

    impl Bench {
        /// Takes all turns that are due at this time. Returns their number.
        fn turns(&mut self, at: Duration) -> usize {
            let now = self.start + at;
            let mut turns = 0;
            while self.file.due().is_some_and(|at| at <= now) {
                self.file.turn(now).unwrap();
                turns += 1;
            }
            turns
        }

        /// The number of the keys in the file, their time, and the inode.
        fn kept(&self) -> (usize, i64, u64) {
            let path = self.folder.path("state/app.keys");
            let (layers, time) = keys::decode(7, 1, &fs::read(&path).unwrap()).unwrap();
            (layers[0].len(), time, fs::metadata(&path).unwrap().ino())
        }
    }

    #[test]
    fn many_keys_take_many_turns_and_one_that_has_not_changed_writes_its_time() {
        let mut bench = bench();
        let many = store(50_000, "0123456789");
        bench.file.keep(Rc::downgrade(&many), None, 100);
        assert!(bench.turns(BEGIN) > 10);
        let (count, time, inode) = bench.kept();
        assert_eq!((count, time), (50_000, 100));
        bench.file.keep(Rc::downgrade(&many), None, 200);
        assert_eq!(bench.turns(PAUSE - Duration::from_millis(1)), 0, "it is too early");
        assert!(bench.turns(PAUSE) > 10);
        assert_eq!(bench.kept(), (50_000, 200, inode));
        // One key differs.
        let others = store(50_001, "0123456789");
        bench.file.keep(Rc::downgrade(&others), None, 300);
        assert!(bench.turns(2 * PAUSE) > 10);
        let (count, time, other) = bench.kept();
        assert_eq!((count, time, other != inode), (50_001, 300, true));
        assert_eq!(fs::read_dir(bench.folder.path("state")).unwrap().count(), 2, "the lock and the keys");
    }

    #[test]
    fn keys_that_have_changed_again_are_left_to_the_next_update() {
        let mut bench = bench();
        let mut keys = store(1, "1");
        bench.file.keep(Rc::downgrade(&keys), None, 100);
        bench.turns(BEGIN);
        bench.file.keep(Rc::downgrade(&keys), None, 200);
        Rc::make_mut(&mut keys).put(0, Bytes::from(&b"/key/new"[..]), Bytes::from(&b""[..]));
        assert_eq!(bench.turns(PAUSE), 1);
        assert_eq!(bench.kept().1, 100);
        bench.file.keep(Rc::downgrade(&keys), None, 300);
        bench.turns(2 * PAUSE);
        assert_eq!((bench.kept().0, bench.kept().1), (2, 300));
        // Held keys are written: otherwise the keys of a store that changes with every update would never be saved.
        assert!(!bench.file.is_ready(bench.start + 2 * PAUSE) && bench.file.is_ready(bench.start + 3 * PAUSE));
        bench.file.keep(Rc::downgrade(&keys), Some(Rc::clone(&keys)), 400);
        Rc::make_mut(&mut keys).delete(0, b"/key/new");
        bench.turns(3 * PAUSE);
        assert_eq!((bench.kept().0, bench.kept().1), (2, 400));
    }

    #[test]
    fn while_a_file_is_written_its_keys_stay_as_they_are() {
        let mut bench = bench();
        let mut keys = store(50_000, "1");
        bench.file.keep(Rc::downgrade(&keys), None, 100);
        bench.file.turn(bench.start).unwrap();
        bench.file.turn(bench.start).unwrap();
        Rc::make_mut(&mut keys).put(0, Bytes::from(&b"/key/new"[..]), Bytes::from(&b""[..]));
        bench.file.keep(Rc::downgrade(&keys), None, 200);
        bench.turns(BEGIN);
        assert_eq!((bench.kept().0, bench.kept().1), (50_000, 100));
        // The end of the program does not wait for the pause.
        bench.file.finish(bench.start).unwrap();
        assert_eq!((bench.kept().0, bench.kept().1), (50_001, 200));
    }

    #[test]
    fn a_failure_is_told_once_and_tried_again() {
        let mut bench = bench();
        let keys = store(1, "1");
        fs::create_dir(bench.folder.path("state/app.keys.new")).unwrap();
        let mut failed = Vec::new();
        for n in 0..3 {
            bench.file.keep(Rc::downgrade(&keys), None, 100);
            failed.push(bench.file.finish(bench.start + n * PAUSE).is_err());
        }
        assert_eq!(failed, [true, false, false]);
        fs::remove_dir(bench.folder.path("state/app.keys.new")).unwrap();
        bench.file.keep(Rc::downgrade(&keys), None, 100);
        bench.turns(3 * PAUSE);
        assert_eq!(bench.kept().0, 1);
    }
}
