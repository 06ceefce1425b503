//! Watches what one path leads to, through every symlink on it, with inotify. Says that something
//! may have changed; reads no content and compares nothing.

use std::collections::{BTreeMap, VecDeque};
use std::ffi::{OsStr, OsString};
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Component, Path, PathBuf};

use rustix::fs::inotify::{self, CreateFlags, ReadFlags, Reader, WatchFlags};
use rustix::io::Errno;

/// The watch of one path.
///
/// Looking a path up asks a chain of directories for a name each. Wherever the answer can change what the path leads to
/// (the file itself, a symlink, a name that is not there yet) the directory is watched for that name. The directories
/// between are watched for nothing but their own removal, as the whole tree under `/` has a lot of other events.
#[derive(Debug)]
pub struct PathWatch {
    inotify: OwnedFd,
    /// Absolute.
    path: PathBuf,
    /// By watched directory: the names in it that matter.
    names: BTreeMap<Directory, Vec<OsString>>,
}

/// What the events since the last time mean.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Touch {
    /// Nothing that concerns the path.
    Nothing,
    /// Something that more usually follows: an empty file was created, the old one was removed. Look in a moment, if
    /// nothing else comes.
    Begun,
    /// A file was written and closed, or something was renamed into place.
    Done,
}

/// inotify's number of a watch.
type Directory = i32;

/// How many events are looked at in one turn, about: a millisecond or two.
const MOST_EVENTS: usize = 4096;

/// As many as the kernel follows in one path.
const SYMLINKS: usize = 40;

impl PathWatch {
    /// Watches nothing before [`PathWatch::arm`].
    pub fn new(path: &Path) -> io::Result<PathWatch> {
        let inotify = inotify::init(CreateFlags::NONBLOCK | CreateFlags::CLOEXEC).map_err(explained)?;
        Ok(PathWatch { inotify, path: std::path::absolute(path)?, names: BTreeMap::new() })
    }

    /// Readable when there are events.
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.inotify.as_fd()
    }

    /// Watches what the path leads to now, and no longer what it led to before. What is read of the file after this
    /// call is at least as new as the events to come say.
    pub fn arm(&mut self) -> io::Result<()> {
        let mut walk = Walk { inotify: self.inotify.as_fd(), names: BTreeMap::new() };
        let result = walk.follow(&self.path);
        let before = std::mem::replace(&mut self.names, walk.names);
        match result {
            Ok(()) => {
                for directory in before.into_keys().filter(|directory| !self.names.contains_key(directory)) {
                    // It fails for a directory that is gone: its watch went with it.
                    _ = inotify::remove_watch(&self.inotify, directory);
                }
            }
            // What was watched before may still tell something.
            Err(_) => before.into_iter().for_each(|(directory, names)| {
                let now = self.names.entry(directory).or_default();
                names.into_iter().for_each(|name| note(now, name));
            }),
        }
        result
    }

    /// Takes the events there are, or many of them: where others fill the directory faster, the descriptor stays readable.
    pub fn drain(&self) -> io::Result<Touch> {
        let mut buffer = [MaybeUninit::uninit(); 4096];
        let mut reader = Reader::new(&self.inotify, &mut buffer);
        let mut touch = Touch::Nothing;
        let mut taken = 0;
        loop {
            // What was read from the kernel is looked at to its end: it cannot be had again.
            if taken >= MOST_EVENTS && reader.is_buffer_empty() {
                return Ok(touch);
            }
            taken += 1;
            match reader.next() {
                Ok(event) => touch = touch.max(self.meaning(&event)),
                Err(Errno::AGAIN) => return Ok(touch),
                Err(Errno::INTR) => {}
                Err(errno) => return Err(errno.into()),
            }
        }
    }

    fn meaning(&self, event: &inotify::Event<'_>) -> Touch {
        let what = event.events();
        if what.contains(ReadFlags::QUEUE_OVERFLOW) {
            return Touch::Done;
        }
        let Some(names) = self.names.get(&event.wd()) else {
            return Touch::Nothing;
        };
        match event.file_name() {
            Some(name) if !names.iter().any(|wanted| wanted.as_bytes() == name.to_bytes()) => Touch::Nothing,
            Some(_) if what.intersects(ReadFlags::CLOSE_WRITE | ReadFlags::MOVED_TO) => Touch::Done,
            // With no name it is about the directory itself: moved, removed, unmounted.
            Some(_) | None => Touch::Begun,
        }
    }
}

/// One look at a path from its root on.
struct Walk<'i> {
    inotify: BorrowedFd<'i>,
    names: BTreeMap<Directory, Vec<OsString>>,
}

/// Adds a name that is not there yet.
fn note(names: &mut Vec<OsString>, name: OsString) {
    if !names.contains(&name) {
        names.push(name);
    }
}

/// What a name in a directory stands for.
enum Found {
    Symlink(PathBuf),
    /// One that the path goes on through.
    Directory,
    /// The end of the path, or what it breaks off at.
    Else,
}

impl Walk<'_> {
    fn follow(&mut self, path: &Path) -> io::Result<()> {
        let mut directory = PathBuf::from("/");
        let mut ahead: VecDeque<OsString> = steps(path).collect();
        let mut symlinks = 0;
        while let Some(name) = ahead.pop_front() {
            if name == ".." {
                // No symlink is left in `directory`: what is above it is what its path says.
                directory.pop();
                continue;
            }
            let entry = directory.join(&name);
            let mut found = self.look(&entry, ahead.is_empty())?;
            if !matches!(found, Found::Directory) {
                self.watch(&directory, &name)?;
                // Again, for what was changed before the watch was there.
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

    /// A directory that is not the path's end is watched at once, for its removal.
    fn look(&mut self, entry: &Path, is_last: bool) -> io::Result<Found> {
        match rustix::fs::readlink(entry, Vec::new()) {
            Ok(target) => return Ok(Found::Symlink(OsString::from_vec(target.into_bytes()).into())),
            Err(Errno::INVAL) if !is_last => {}
            // What is wrong with it, who reads the file will be told.
            Err(_) => return Ok(Found::Else),
        }
        let flags = WatchFlags::DELETE_SELF | WatchFlags::MOVE_SELF | WatchFlags::DONT_FOLLOW;
        match self.add(entry, flags) {
            Ok(directory) => _ = self.names.entry(directory).or_default(),
            // It may be passed through but not read, and so not watched. That it is removed is then not seen.
            Err(Errno::ACCESS) => {}
            Err(Errno::NOTDIR | Errno::NOENT) => return Ok(Found::Else),
            Err(errno) => return Err(explained(errno)),
        }
        Ok(Found::Directory)
    }

    fn watch(&mut self, directory: &Path, name: &OsStr) -> io::Result<()> {
        let flags = WatchFlags::CLOSE_WRITE
            | WatchFlags::MOVE
            | WatchFlags::CREATE
            | WatchFlags::DELETE
            | WatchFlags::DELETE_SELF
            | WatchFlags::MOVE_SELF;
        let directory = match self.add(directory, flags) {
            Ok(directory) => directory,
            // Gone since the walk came by, which the watch above it tells.
            Err(Errno::NOENT | Errno::NOTDIR) => return Ok(()),
            Err(errno) => return Err(explained(errno)),
        };
        note(self.names.entry(directory).or_default(), name.to_owned());
        Ok(())
    }

    /// Adds to the flags of a directory that is watched already.
    fn add(&self, directory: &Path, flags: WatchFlags) -> rustix::io::Result<Directory> {
        inotify::add_watch(self.inotify, directory, flags | WatchFlags::ONLYDIR | WatchFlags::MASK_ADD)
    }
}

/// The kernel's limits are of a user and all its processes, and their error numbers mislead.
fn explained(errno: Errno) -> io::Error {
    match errno {
        Errno::MFILE => io::Error::other("too many inotify instances, raise fs.inotify.max_user_instances"),
        Errno::NOSPC => io::Error::other("too many inotify watches, raise fs.inotify.max_user_watches"),
        other => other.into(),
    }
}

/// The names that a path consists of, and `..`.
fn steps(path: &Path) -> impl DoubleEndedIterator<Item = OsString> {
    path.components().filter_map(|component| match component {
        Component::Normal(name) => Some(name.to_owned()),
        Component::ParentDir => Some("..".into()),
        Component::RootDir | Component::CurDir | Component::Prefix(_) => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::files::tests::Folder;
    use std::fs;
    use std::os::fd::AsRawFd;
    use std::os::unix::fs::symlink;

    /// The kernel queues an event while the call that causes it runs, so that no test here has to wait.
    fn armed(path: &Path) -> PathWatch {
        let mut watch = PathWatch::new(path).unwrap();
        watch.arm().unwrap();
        watch
    }

    #[test]
    fn a_write_is_seen_when_it_is_complete() {
        let folder = Folder::new();
        let path = folder.path("data");
        fs::write(&path, "1").unwrap();
        let watch = armed(&path);
        assert_eq!(watch.drain().unwrap(), Touch::Nothing);
        let file = fs::OpenOptions::new().write(true).truncate(true).open(&path).unwrap();
        assert_eq!(watch.drain().unwrap(), Touch::Nothing, "it is empty now, but not closed yet");
        drop(file);
        assert_eq!(watch.drain().unwrap(), Touch::Done);
        assert_eq!(watch.drain().unwrap(), Touch::Nothing, "the events are taken");
    }

    /// A directory that others fill faster than it is looked at: the turn ends, and no event is lost.
    #[test]
    fn a_flood_of_events_is_taken_in_several_turns() {
        let folder = Folder::new();
        let path = folder.path("data");
        fs::write(&path, "1").unwrap();
        let watch = armed(&path);
        let names = ["a", "b"].map(|name| folder.path(name));
        fs::write(&names[0], "1").unwrap();
        for round in 0..3000 {
            fs::rename(&names[round % 2], &names[(round + 1) % 2]).unwrap();
        }
        fs::write(&path, "2").unwrap();
        assert_eq!(watch.drain().unwrap(), Touch::Nothing, "6000 events of others come first");
        assert_eq!(watch.drain().unwrap(), Touch::Done);
        assert_eq!(watch.drain().unwrap(), Touch::Nothing);
    }

    #[test]
    fn reading_and_other_files_do_not_count() {
        let folder = Folder::new();
        let path = folder.path("data");
        fs::write(&path, "1").unwrap();
        let mut watch = armed(&path);
        fs::write(folder.path("other"), "1").unwrap();
        fs::rename(folder.path("other"), folder.path("another")).unwrap();
        fs::remove_file(folder.path("another")).unwrap();
        fs::read(&path).unwrap();
        watch.arm().unwrap();
        assert_eq!(watch.drain().unwrap(), Touch::Nothing);
    }

    #[test]
    fn a_rename_over_the_file_and_its_removal() {
        let folder = Folder::new();
        let path = folder.path("data");
        fs::write(&path, "1").unwrap();
        let watch = armed(&path);
        fs::write(folder.path("new"), "2").unwrap();
        fs::rename(folder.path("new"), &path).unwrap();
        assert_eq!(watch.drain().unwrap(), Touch::Done);
        fs::remove_file(&path).unwrap();
        assert_eq!(watch.drain().unwrap(), Touch::Begun);
        fs::write(&path, "3").unwrap();
        assert_eq!(watch.drain().unwrap(), Touch::Done);
    }

    #[test]
    fn a_file_whose_directories_are_not_there_yet() {
        let folder = Folder::new();
        let path = folder.path("a/b/data");
        let mut watch = armed(&path);
        fs::create_dir(folder.path("x")).unwrap();
        assert_eq!(watch.drain().unwrap(), Touch::Nothing);
        fs::create_dir(folder.path("a")).unwrap();
        assert_eq!(watch.drain().unwrap(), Touch::Begun);
        watch.arm().unwrap();
        fs::create_dir(folder.path("a/b")).unwrap();
        assert_eq!(watch.drain().unwrap(), Touch::Begun);
        watch.arm().unwrap();
        fs::write(&path, "1").unwrap();
        assert_eq!(watch.drain().unwrap(), Touch::Done);
    }

    #[test]
    fn a_directory_above_is_moved_away() {
        let folder = Folder::new();
        fs::create_dir_all(folder.path("a/b")).unwrap();
        fs::write(folder.path("a/b/data"), "1").unwrap();
        let mut watch = armed(&folder.path("a/b/data"));
        fs::rename(folder.path("a"), folder.path("old")).unwrap();
        assert_eq!(watch.drain().unwrap(), Touch::Begun);
        watch.arm().unwrap();
        fs::write(folder.path("old/b/data"), "2").unwrap();
        assert_eq!(watch.drain().unwrap(), Touch::Nothing, "the path leads there no longer");
        fs::create_dir_all(folder.path("new/b")).unwrap();
        fs::write(folder.path("new/b/data"), "3").unwrap();
        fs::rename(folder.path("new"), folder.path("a")).unwrap();
        assert_eq!(watch.drain().unwrap(), Touch::Done);
    }

    #[test]
    fn a_kubernetes_config_map() {
        let folder = Folder::new();
        let publish = |version: &str| {
            fs::create_dir(folder.path(version)).unwrap();
            fs::write(folder.path(version).join("data"), version).unwrap();
            symlink(version, folder.path("..data_tmp")).unwrap();
            fs::rename(folder.path("..data_tmp"), folder.path("..data")).unwrap();
        };
        publish("..1");
        symlink("..data/data", folder.path("data")).unwrap();
        let mut watch = armed(&folder.path("data"));
        publish("..2");
        assert_eq!(watch.drain().unwrap(), Touch::Done);
        watch.arm().unwrap();
        fs::remove_dir_all(folder.path("..1")).unwrap();
        assert_eq!(watch.drain().unwrap(), Touch::Nothing);
        publish("..3");
        assert_eq!(watch.drain().unwrap(), Touch::Done);
    }

    #[test]
    fn symlinks_in_a_circle_come_to_an_end() {
        let folder = Folder::new();
        symlink("b", folder.path("a")).unwrap();
        symlink("a", folder.path("b")).unwrap();
        let watch = armed(&folder.path("a"));
        fs::write(folder.path("new"), "1").unwrap();
        fs::rename(folder.path("new"), folder.path("b")).unwrap();
        assert_eq!(watch.drain().unwrap(), Touch::Done);
    }

    #[test]
    fn a_lost_event_counts_as_any() {
        let folder = Folder::new();
        let path = folder.path("data");
        fs::write(&path, "1").unwrap();
        let watch = armed(&path);
        let limit = fs::read_to_string("/proc/sys/fs/inotify/max_queued_events").unwrap();
        // Two names in turn: an event that equals the one before it is not queued again.
        for turn in 0..=limit.trim().parse::<u32>().unwrap() {
            let (from, to) = if turn % 2 == 0 { ("x", "y") } else { ("y", "x") };
            _ = fs::File::create(folder.path(from));
            fs::rename(folder.path(from), folder.path(to)).unwrap();
        }
        let turns = std::iter::repeat_with(|| watch.drain().unwrap()).take(20);
        assert_eq!(turns.max(), Some(Touch::Done));
    }

    /// Whatever happens to the directories and symlinks of a path: when something else is read through it, an event
    /// has told so.
    #[test]
    fn no_change_goes_unseen() {
        let mut random = crate::random::Random::new(5);
        let (mut changes, mut quiet) = (0, 0);
        for _ in 0..30 {
            let folder = Folder::new();
            let path = folder.path("root/current/file");
            let mut watch = armed(&path);
            let mut before = fs::read(&path).ok();
            for step in 0..100 {
                let content = step.to_string();
                let directory = folder.path("root").join(random.pick(&["d1", "d2", "d3"]));
                let (file, new) = (directory.join("file"), directory.join("new"));
                // Many of these fail, as what they need is not there.
                match random.below(12) {
                    0 | 1 => _ = fs::create_dir_all(&directory),
                    2 | 3 => _ = fs::write(&file, content),
                    4 => _ = fs::write(&new, content).and_then(|()| fs::rename(&new, &file)),
                    5 => _ = fs::remove_file(&file),
                    6 => {
                        _ = fs::remove_file(&file);
                        _ = symlink(random.pick(&["../d1/file", "../d2/new", "../d3/../d1/new", "file"]), &file);
                    }
                    7 | 8 => {
                        let target = folder.path("root/d2").into_os_string().into_string().unwrap();
                        let link = folder.path("link");
                        symlink(random.pick(&["d1", "./d3/../d2", &target]), &link).unwrap();
                        _ = fs::rename(&link, folder.path("root/current"));
                        _ = fs::remove_file(&link);
                    }
                    9 => _ = fs::rename(folder.path("root"), folder.path("away")),
                    10 => _ = fs::rename(folder.path("away"), folder.path("root")),
                    _ => _ = fs::remove_dir_all(&directory),
                }
                let after = fs::read(&path).ok();
                let touch = watch.drain().unwrap();
                if before != after {
                    assert_ne!(touch, Touch::Nothing, "{before:?} became {after:?}");
                    changes += 1;
                }
                match touch {
                    Touch::Nothing => quiet += 1,
                    Touch::Begun | Touch::Done => watch.arm().unwrap(),
                }
                before = after;
            }
        }
        assert!(changes > 100 && quiet > 100, "{changes} changes, {quiet} steps without an event");
    }

    #[test]
    fn no_watch_is_left_behind() {
        let folder = Folder::new();
        for round in 0..20 {
            let version = folder.path(&format!("v{round}"));
            fs::create_dir(&version).unwrap();
            fs::write(version.join("data"), "1").unwrap();
        }
        let path = folder.path("current/data");
        let mut watch = PathWatch::new(&path).unwrap();
        for round in 0..20 {
            _ = fs::remove_file(folder.path("current"));
            symlink(format!("v{round}"), folder.path("current")).unwrap();
            watch.arm().unwrap();
        }
        // The folder with the link in it, the version, and every directory above.
        let above = path.ancestors().count() - 2;
        assert_eq!(watch.names.len(), above);
        let kernel = fs::read_to_string(format!("/proc/self/fdinfo/{}", watch.inotify.as_raw_fd())).unwrap();
        assert_eq!(kernel.lines().filter(|line| line.starts_with("inotify")).count(), above, "{kernel}");
    }
}
