//! Watches the files that paths lead to, through every symlink on them, with one inotify instance for the whole
//! process. Reports that a file may have changed; reads no content and compares nothing.

use std::cell::{OnceCell, RefCell};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ffi::{OsStr, OsString};
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Component, Path, PathBuf};
use std::rc::Rc;
use std::time::{Duration, Instant};

use rustix::fs::inotify::{self, CreateFlags, ReadFlags, Reader, WatchFlags};
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

use super::wait::Interest;
use crate::error::cause;

/// The inotify instance of the process: the kernel allows 128 for all processes of a user. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct Inotify(Rc<Instance>);

/// The number of a watch, chosen by the caller. It is unique among the open watches.
pub type WatchId = u64;

/// The watch of one path.
///
/// The lookup of a path searches one name in each directory of a chain. A directory is watched for its name if a change
/// of the name can lead the path to another file: the file itself, a symlink, or a missing name. The other directories
/// are watched only for their own removal, because the tree under `/` has many other events.
#[derive(Debug)]
pub struct PathWatch {
    inotify: Inotify,
    id: WatchId,
    path: PathBuf,
    places: Vec<Place>,
}

/// The meaning of the events since the last call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Touch {
    /// No event concerns the path.
    Nothing,
    /// An incomplete change, such as a created empty file or a removed old one. Read the file after a short time if no
    /// other event follows.
    Possible,
    /// A complete change: a file was written and closed, or renamed into place.
    Complete,
}

/// The result of [`PathWatch::arm`].
#[derive(Debug, PartialEq, Eq)]
pub enum Armed {
    /// Changes are reported from now on.
    Watched {
        /// This was the last path that the kernel had refused to watch.
        all_again: bool,
    },
    /// The kernel watches no more paths for this user. Some changes are not reported; `arm` has to be called again.
    Refused {
        /// The cause and the fix; `None`: they were reported when the kernel refused the first path.
        reason: Option<String>,
    },
}

/// inotify's number of a watched directory. The kernel reuses a number only after all others.
type Descriptor = i32;

/// A watched directory and a name in it that affects a path; the empty name is the directory itself.
type Place = (Descriptor, OsString);

/// About the number of events that are handled in one turn, which takes a millisecond or two.
const MOST_EVENTS: usize = 4096;

/// The number of symlinks in one path, as in the kernel.
const SYMLINKS: usize = 40;

/// The pause before a refused path is tried again. It doubles with each refusal.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

#[derive(Debug, Default)]
struct Instance {
    /// The instance, opened by the first watch.
    fd: OnceCell<OwnedFd>,
    /// Shared by all watches and changed by each: the program has one thread, and no borrow outlives a call.
    state: RefCell<State>,
}

#[derive(Debug, Default)]
struct State {
    /// The places that affect paths, with these paths. A directory is watched for names from the first path with a name
    /// in it until no path leads through it.
    places: BTreeSet<(Descriptor, OsString, WatchId)>,
    /// The effects for paths that have not been taken yet, and the time of the first event.
    touched: BTreeMap<WatchId, (Instant, Touch)>,
    refusal: Option<Refusal>,
}

/// The refused paths, after the kernel has refused to watch some.
#[derive(Debug)]
struct Refusal {
    /// The paths that are not watched completely, in order.
    refused: Vec<WatchId>,
    pause: Duration,
    /// When the refused paths are tried again.
    retry: Instant,
}

impl Inotify {
    /// The descriptor to poll; `None`: nothing is watched.
    pub fn interest(&self) -> Option<Interest<'_>> {
        let fd = self.0.fd.get()?;
        (!self.0.state.borrow().places.is_empty()).then(|| Interest::read(fd.as_fd()))
    }

    /// Reads the events, up to a limit. The descriptor stays readable if more are left. Returns the affected watches,
    /// each once: [`PathWatch::take`] returns the effect.
    pub fn drain(&self, now: Instant) -> Vec<WatchId> {
        let Some(fd) = self.0.fd.get() else {
            return Vec::new();
        };
        let state = &mut *self.0.state.borrow_mut();
        let mut buffer = [MaybeUninit::uninit(); 4096];
        let mut reader = Reader::new(fd, &mut buffer);
        let mut seen = Batch::default();
        // All events of a read are handled, because the kernel does not return them again.
        let mut taken = 0;
        while taken < MOST_EVENTS || !reader.is_buffer_empty() {
            taken += 1;
            match reader.next() {
                Ok(event) => seen.note(&event, state),
                Err(Errno::AGAIN) => break,
                Err(Errno::INTR) => {}
                Err(_) => {
                    state.refuse_all(now);
                    seen.lost = true;
                    break;
                }
            }
        }
        state.touch(seen, now)
    }

    fn fd(&self) -> rustix::io::Result<BorrowedFd<'_>> {
        if let Some(fd) = self.0.fd.get() {
            return Ok(fd.as_fd());
        }
        let fd = inotify::init(CreateFlags::NONBLOCK | CreateFlags::CLOEXEC)?;
        Ok(self.0.fd.get_or_init(|| fd).as_fd())
    }
}

/// The events of one turn.
#[derive(Default)]
struct Batch {
    /// Events were lost.
    lost: bool,
    places: Vec<(Place, Touch)>,
    /// Directories that are no longer watched, because they are gone.
    ended: Vec<Descriptor>,
}

impl Batch {
    fn note(&mut self, event: &inotify::Event<'_>, state: &State) {
        let (what, descriptor) = (event.events(), event.wd());
        self.lost |= what.contains(ReadFlags::QUEUE_OVERFLOW);
        match event.file_name() {
            Some(name) => {
                let place = (descriptor, OsStr::from_bytes(name.to_bytes()).to_owned());
                if state.at(&place).next().is_some() {
                    let is_done = what.intersects(ReadFlags::CLOSE_WRITE | ReadFlags::MOVED_TO);
                    self.places.push((place, if is_done { Touch::Complete } else { Touch::Possible }));
                }
            }
            // The event concerns the directory itself: moved, removed, unmounted.
            None => self.places.push(((descriptor, OsString::new()), Touch::Possible)),
        }
        if what.contains(ReadFlags::IGNORED) {
            self.ended.push(descriptor);
        }
    }

    /// Each place once, with its strongest effect: many events about one file that many resources read are common.
    fn places(&mut self) -> Vec<(Place, Touch)> {
        self.places.sort_unstable_by(|one, other| other.cmp(one));
        self.places.dedup_by(|next, kept| next.0 == kept.0);
        std::mem::take(&mut self.places)
    }
}

impl State {
    /// The paths that a name in a directory affects.
    fn at(&self, (descriptor, name): &Place) -> impl Iterator<Item = WatchId> {
        let end = |id: WatchId| (*descriptor, name.clone(), id);
        self.places.range(end(0)..=end(WatchId::MAX)).map(|(_, _, id)| *id)
    }

    /// All watched places in a directory.
    fn within(&self, descriptor: Descriptor) -> impl Iterator<Item = &(Descriptor, OsString, WatchId)> {
        self.places.range((descriptor, OsString::new(), 0)..).take_while(move |place| place.0 == descriptor)
    }

    /// Notes the effect of the events for each watch.
    fn touch(&mut self, mut seen: Batch, now: Instant) -> Vec<WatchId> {
        let mut touched: Vec<(WatchId, Touch)> = Vec::new();
        if seen.lost {
            touched.extend(self.places.iter().map(|(_, _, id)| (*id, Touch::Complete)));
            let refused = self.refusal.iter().flat_map(|refusal| &refusal.refused);
            touched.extend(refused.map(|id| (*id, Touch::Complete)));
        }
        for (place, touch) in seen.places() {
            match place.1.is_empty() {
                true => touched.extend(self.within(place.0).map(|(_, _, id)| (*id, touch))),
                false => touched.extend(self.at(&place).map(|id| (id, touch))),
            }
        }
        for descriptor in seen.ended {
            let gone: Vec<_> = self.within(descriptor).cloned().collect();
            gone.iter().for_each(|place| _ = self.places.remove(place));
        }
        for (id, touch) in &touched {
            let (_, so_far) = self.touched.entry(*id).or_insert((now, *touch));
            *so_far = (*so_far).max(*touch);
        }
        let mut ids: Vec<WatchId> = touched.into_iter().map(|(id, _)| id).collect();
        ids.sort_unstable();
        ids.dedup();
        ids
    }

    /// Replaces the places that affect a path. Returns the directories that no path leads through now.
    fn replace(&mut self, id: WatchId, before: Vec<Place>, after: &[Place]) -> Vec<Descriptor> {
        let mut left: Vec<Descriptor> = before.iter().map(|(descriptor, _)| *descriptor).collect();
        for (descriptor, name) in before {
            self.places.remove(&(descriptor, name, id));
        }
        self.places.extend(after.iter().map(|(descriptor, name)| (*descriptor, name.clone(), id)));
        left.sort_unstable();
        left.dedup();
        left.retain(|descriptor| self.within(*descriptor).next().is_none());
        left
    }

    /// Whether the kernel has refused this path a short time ago.
    fn has_to_wait(&self, id: WatchId, now: Instant) -> bool {
        self.refusal.as_ref().is_some_and(|refusal| now < refusal.retry && refusal.refused.binary_search(&id).is_ok())
    }

    /// Notes that the kernel refused to watch a path. Returns whether it is the first one.
    fn refuse(&mut self, id: WatchId, now: Instant) -> bool {
        let is_first = self.refusal.is_none();
        let refusal = self.refusal.get_or_insert_with(|| Refusal {
            refused: Vec::new(),
            pause: FIRST_PAUSE,
            retry: now + FIRST_PAUSE,
        });
        if let Err(at) = refusal.refused.binary_search(&id) {
            refusal.refused.insert(at, id);
        }
        if refusal.retry <= now {
            refusal.pause = LONGEST_PAUSE.min(refusal.pause * 2);
            refusal.retry = now + refusal.pause;
        }
        is_first
    }

    /// Notes that no watch is reliable, because events were lost.
    fn refuse_all(&mut self, now: Instant) {
        for (_, _, id) in std::mem::take(&mut self.places) {
            self.refuse(id, now);
        }
    }

    /// Notes that a path is watched or no longer needed. Returns whether no refused path is left.
    fn grant(&mut self, id: WatchId) -> bool {
        let is_over = self.refusal.as_mut().is_some_and(|refusal| {
            refusal.refused.retain(|refused| *refused != id);
            refusal.refused.is_empty()
        });
        if is_over {
            self.refusal = None;
        }
        is_over
    }
}

impl PathWatch {
    /// A watch that is inactive before [`PathWatch::arm`]. [`Inotify::drain`] returns its id.
    pub fn new(inotify: &Inotify, id: WatchId, path: &Path) -> PathWatch {
        PathWatch { inotify: inotify.clone(), id, path: path.to_owned(), places: Vec::new() }
    }

    /// Watches the file that the path leads to now, and no longer the one before. A read of the file after this call is
    /// at least as new as the events that follow.
    ///
    /// # Errors
    /// A directory on the path cannot be watched.
    pub fn arm(&mut self, now: Instant) -> io::Result<Armed> {
        if self.inotify.0.state.borrow().has_to_wait(self.id, now) {
            return Ok(Armed::Refused { reason: None });
        }
        let path = std::path::absolute(&self.path)?;
        let fd = match self.inotify.fd() {
            Ok(fd) => fd,
            Err(errno) => return self.failed(errno, now),
        };
        let mut walk = Walk { inotify: fd, places: Vec::new() };
        let result = walk.follow(&path);
        let mut after = walk.places;
        if result.is_err() {
            // The old watches may still report events.
            after.extend(self.places.iter().cloned());
        }
        self.watch(after);
        match result {
            Ok(()) => Ok(Armed::Watched { all_again: self.inotify.0.state.borrow_mut().grant(self.id) }),
            Err(errno) => self.failed(errno, now),
        }
    }

    /// The effect of the events since the last call.
    pub fn take(&self) -> Touch {
        let touched = self.inotify.0.state.borrow_mut().touched.remove(&self.id);
        touched.map_or(Touch::Nothing, |(_, touch)| touch)
    }

    /// The time of the first event that was not taken.
    pub fn touched(&self) -> Option<Instant> {
        self.inotify.0.state.borrow().touched.get(&self.id).map(|(since, _)| *since)
    }

    /// Watches these places, and no others.
    fn watch(&mut self, mut places: Vec<Place>) {
        places.sort_unstable();
        places.dedup();
        let before = std::mem::take(&mut self.places);
        let left = self.inotify.0.state.borrow_mut().replace(self.id, before, &places);
        self.places = places;
        for descriptor in left {
            // The call fails for a removed directory, whose watch has ended.
            self.inotify.0.fd.get().into_iter().for_each(|fd| _ = inotify::remove_watch(fd, descriptor));
        }
    }

    fn failed(&self, errno: Errno, now: Instant) -> io::Result<Armed> {
        match errno {
            Errno::MFILE | Errno::NFILE | Errno::NOSPC | Errno::NOMEM | Errno::NOSYS => {
                let is_first = self.inotify.0.state.borrow_mut().refuse(self.id, now);
                Ok(Armed::Refused { reason: is_first.then(|| explained(errno)) })
            }
            other => Err(other.into()),
        }
    }
}

impl Drop for PathWatch {
    fn drop(&mut self) {
        self.watch(Vec::new());
        let state = &mut *self.inotify.0.state.borrow_mut();
        state.touched.remove(&self.id);
        state.grant(self.id);
    }
}

/// One walk along a path, from its root on.
struct Walk<'i> {
    inotify: BorrowedFd<'i>,
    places: Vec<Place>,
}

/// The kind of a name in a directory.
enum Found {
    Symlink(PathBuf),
    /// The path continues through this name.
    Directory,
    /// The path ends here, or cannot be followed further.
    Else,
}

impl Walk<'_> {
    fn follow(&mut self, path: &Path) -> rustix::io::Result<()> {
        let mut directory = PathBuf::from("/");
        let mut ahead: VecDeque<OsString> = steps(path).collect();
        let mut symlinks = 0;
        while let Some(name) = ahead.pop_front() {
            if name == ".." {
                // No symlink is left in `directory`, so its parent is the one in its path.
                directory.pop();
                continue;
            }
            let entry = directory.join(&name);
            let mut found = self.look(&entry, ahead.is_empty())?;
            if !matches!(found, Found::Directory) {
                self.watch(&directory, &name)?;
                // The name is examined again, because it may have changed before the watch.
                found = self.look(&entry, ahead.is_empty())?;
            }
            match found {
                Found::Directory => directory = entry,
                Found::Symlink(_) if symlinks == SYMLINKS => return Ok(()),
                Found::Symlink(target) => {
                    symlinks += 1;
                    if target.is_absolute() {
                        directory = PathBuf::from("/");
                    }
                    steps(&target).rev().for_each(|step| ahead.push_front(step));
                }
                Found::Else => return Ok(()),
            }
        }
        Ok(())
    }

    /// A directory within the path is watched at once, for its removal.
    fn look(&mut self, entry: &Path, is_last: bool) -> rustix::io::Result<Found> {
        match rustix::fs::readlink(entry, Vec::new()) {
            Ok(target) => return Ok(Found::Symlink(OsString::from_vec(target.into_bytes()).into())),
            Err(Errno::INVAL) if !is_last => {}
            // The reader of the file reports the error.
            Err(_) => return Ok(Found::Else),
        }
        let flags = WatchFlags::DELETE_SELF | WatchFlags::MOVE_SELF | WatchFlags::DONT_FOLLOW;
        match self.add(entry, flags) {
            Ok(directory) => self.places.push((directory, OsString::new())),
            // A directory without read permission can be passed but not watched. Its removal is not reported.
            Err(Errno::ACCESS) => {}
            Err(Errno::NOTDIR | Errno::NOENT) => return Ok(Found::Else),
            Err(errno) => return Err(errno),
        }
        Ok(Found::Directory)
    }

    fn watch(&mut self, directory: &Path, name: &OsStr) -> rustix::io::Result<()> {
        let flags = WatchFlags::CLOSE_WRITE
            | WatchFlags::MOVE
            | WatchFlags::CREATE
            | WatchFlags::DELETE
            | WatchFlags::DELETE_SELF
            | WatchFlags::MOVE_SELF;
        let directory = match self.add(directory, flags) {
            Ok(directory) => directory,
            // The directory was removed since the walk, which the watch of its parent reports.
            Err(Errno::NOENT | Errno::NOTDIR) => return Ok(()),
            Err(errno) => return Err(errno),
        };
        self.places.push((directory, name.to_owned()));
        Ok(())
    }

    /// Adds flags to a watched directory.
    fn add(&self, directory: &Path, flags: WatchFlags) -> rustix::io::Result<Descriptor> {
        inotify::add_watch(self.inotify, directory, flags | WatchFlags::ONLYDIR | WatchFlags::MASK_ADD)
    }
}

/// The kernel's limits apply to all processes of a user, and their error numbers are misleading.
fn explained(errno: Errno) -> String {
    match errno {
        Errno::MFILE if may_open_files() => {
            "too many inotify instances, raise fs.inotify.max_user_instances".to_owned()
        }
        Errno::NOSPC => "too many inotify watches, raise fs.inotify.max_user_watches".to_owned(),
        other => cause(&other.into()),
    }
}

/// The limit of open files has the error number of the limit of inotify instances.
fn may_open_files() -> bool {
    rustix::fs::open("/", OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).is_ok()
}

/// The names in a path, and `..`.
fn steps(path: &Path) -> impl DoubleEndedIterator<Item = OsString> {
    path.components().filter_map(|component| match component {
        Component::Normal(name) => Some(name.to_owned()),
        Component::ParentDir => Some("..".into()),
        Component::RootDir | Component::CurDir | Component::Prefix(_) => None,
    })
}

#[cfg(test)]
mod tests;
