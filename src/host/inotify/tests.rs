//! Watches of real files, directories and symlinks. The kernel queues an event while the call that causes it runs, so
//! no test waits.

use super::*;
use crate::host::files::tests::Folder;
use std::fs;
use std::os::fd::AsRawFd;
use std::os::unix::fs::symlink;

/// A path that is watched by an instance of its own.
struct Alone(PathWatch);

impl Alone {
    fn arm(&mut self) {
        assert_eq!(self.0.arm(Instant::now()).unwrap(), Armed::Watched { all_again: false });
    }

    fn drain(&self) -> Touch {
        drain(&self.0.inotify);
        self.0.take()
    }
}

fn drain(inotify: &Inotify) -> Vec<WatchId> {
    inotify.drain(Instant::now())
}

/// The kernel queues an event while the call that causes it runs, so that no test here has to wait.
fn armed(path: &Path) -> Alone {
    let mut watch = Alone(PathWatch::new(&Inotify::default(), 1, path));
    watch.arm();
    watch
}

/// How many directories the kernel watches for an instance.
fn watched(inotify: &Inotify) -> usize {
    let kernel = fs::read_to_string(format!("/proc/self/fdinfo/{}", inotify.0.fd.get().unwrap().as_raw_fd())).unwrap();
    kernel.lines().filter(|line| line.starts_with("inotify")).count()
}

#[test]
fn a_write_is_seen_when_it_is_complete() {
    let folder = Folder::new();
    let path = folder.path("data");
    fs::write(&path, "1").unwrap();
    let watch = armed(&path);
    assert_eq!(watch.drain(), Touch::Nothing);
    let file = fs::OpenOptions::new().write(true).truncate(true).open(&path).unwrap();
    assert_eq!(watch.drain(), Touch::Nothing, "it is empty now, but not closed yet");
    drop(file);
    assert_eq!(watch.drain(), Touch::Complete);
    assert_eq!(watch.drain(), Touch::Nothing, "the events are taken");
}

/// Other programs fill a directory faster than events are read: the turn ends, and no event is lost.
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
    assert_eq!(watch.drain(), Touch::Nothing, "6000 events of others come first");
    assert_eq!(watch.drain(), Touch::Complete);
    assert_eq!(watch.drain(), Touch::Nothing);
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
    watch.arm();
    assert_eq!(watch.drain(), Touch::Nothing);
}

#[test]
fn a_rename_over_the_file_and_its_removal() {
    let folder = Folder::new();
    let path = folder.path("data");
    fs::write(&path, "1").unwrap();
    let watch = armed(&path);
    fs::write(folder.path("new"), "2").unwrap();
    fs::rename(folder.path("new"), &path).unwrap();
    assert_eq!(watch.drain(), Touch::Complete);
    fs::remove_file(&path).unwrap();
    assert_eq!(watch.drain(), Touch::Possible);
    fs::write(&path, "3").unwrap();
    assert_eq!(watch.drain(), Touch::Complete);
}

#[test]
fn a_file_whose_directories_are_not_there_yet() {
    let folder = Folder::new();
    let path = folder.path("a/b/data");
    let mut watch = armed(&path);
    fs::create_dir(folder.path("x")).unwrap();
    assert_eq!(watch.drain(), Touch::Nothing);
    fs::create_dir(folder.path("a")).unwrap();
    assert_eq!(watch.drain(), Touch::Possible);
    watch.arm();
    fs::create_dir(folder.path("a/b")).unwrap();
    assert_eq!(watch.drain(), Touch::Possible);
    watch.arm();
    fs::write(&path, "1").unwrap();
    assert_eq!(watch.drain(), Touch::Complete);
}

#[test]
fn a_directory_above_is_moved_away() {
    let folder = Folder::new();
    fs::create_dir_all(folder.path("a/b")).unwrap();
    fs::write(folder.path("a/b/data"), "1").unwrap();
    let mut watch = armed(&folder.path("a/b/data"));
    fs::rename(folder.path("a"), folder.path("old")).unwrap();
    assert_eq!(watch.drain(), Touch::Possible);
    watch.arm();
    fs::write(folder.path("old/b/data"), "2").unwrap();
    assert_eq!(watch.drain(), Touch::Nothing, "the path leads there no longer");
    fs::create_dir_all(folder.path("new/b")).unwrap();
    fs::write(folder.path("new/b/data"), "3").unwrap();
    fs::rename(folder.path("new"), folder.path("a")).unwrap();
    assert_eq!(watch.drain(), Touch::Complete);
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
    assert_eq!(watch.drain(), Touch::Complete);
    watch.arm();
    fs::remove_dir_all(folder.path("..1")).unwrap();
    assert_eq!(watch.drain(), Touch::Nothing);
    publish("..3");
    assert_eq!(watch.drain(), Touch::Complete);
}

#[test]
fn symlinks_in_a_circle_come_to_an_end() {
    let folder = Folder::new();
    symlink("b", folder.path("a")).unwrap();
    symlink("a", folder.path("b")).unwrap();
    let watch = armed(&folder.path("a"));
    assert!(watch.0.places.len() <= 2 + folder.path("").ancestors().count(), "each place once: {:?}", watch.0.places);
    fs::write(folder.path("new"), "1").unwrap();
    fs::rename(folder.path("new"), folder.path("b")).unwrap();
    assert_eq!(watch.drain(), Touch::Complete);
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
    let turns = std::iter::repeat_with(|| watch.drain()).take(20);
    assert_eq!(turns.max(), Some(Touch::Complete));
}

/// With any change of the directories and symlinks of a path: if a read through the path gives another content, an
/// event has reported it.
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
            // Many of these operations fail, because their files do not exist.
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
            let touch = watch.drain();
            if before != after {
                assert_ne!(touch, Touch::Nothing, "{before:?} became {after:?}");
                changes += 1;
            }
            match touch {
                Touch::Nothing => quiet += 1,
                Touch::Possible | Touch::Complete => watch.arm(),
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
    let mut watch = Alone(PathWatch::new(&Inotify::default(), 1, &path));
    for round in 0..20 {
        _ = fs::remove_file(folder.path("current"));
        symlink(format!("v{round}"), folder.path("current")).unwrap();
        watch.arm();
    }
    // The folder with the link in it, the version, and every directory above.
    let above = path.ancestors().count() - 2;
    let directories: BTreeSet<Descriptor> = watch.0.places.iter().map(|(descriptor, _)| *descriptor).collect();
    assert_eq!(directories.len(), above);
    assert_eq!(watched(&watch.0.inotify), above);
    let inotify = watch.0.inotify.clone();
    drop(watch);
    assert_eq!(watched(&inotify), 0);
    assert!(inotify.interest().is_none(), "it has nothing to tell any more");
}

#[test]
fn one_instance_watches_many_paths() {
    let folder = Folder::new();
    let inotify = Inotify::default();
    let mut watches: Vec<PathWatch> = Vec::new();
    for (id, name) in ["a", "a", "b", "sub/c"].iter().enumerate() {
        let mut watch = PathWatch::new(&inotify, id as WatchId, &folder.path(name));
        watch.arm(Instant::now()).unwrap();
        watches.push(watch);
    }
    let before = watched(&inotify);
    fs::write(folder.path("a"), "1").unwrap();
    assert_eq!(drain(&inotify), [0, 1]);
    assert_eq!(watches[0].take(), Touch::Complete);
    assert_eq!((watches[0].take(), watches[2].take()), (Touch::Nothing, Touch::Nothing));
    assert!(watches[0].touched().is_none() && watches[1].touched().is_some());
    fs::remove_file(folder.path("a")).unwrap();
    assert_eq!(drain(&inotify), [0, 1]);
    assert_eq!((watches[0].take(), watches[1].take()), (Touch::Possible, Touch::Complete), "the most that was seen");
    fs::write(folder.path("other"), "1").unwrap();
    assert!(drain(&inotify).is_empty());

    // When one watch ends, the others keep their directories.
    watches.remove(0);
    assert_eq!(watched(&inotify), before);
    fs::write(folder.path("a"), "2").unwrap();
    assert_eq!(drain(&inotify), [1]);
    fs::create_dir(folder.path("sub")).unwrap();
    assert_eq!(drain(&inotify), [3]);
    watches[2].arm(Instant::now()).unwrap();
    assert_eq!(watched(&inotify), before + 1);
    fs::write(folder.path("sub/c"), "1").unwrap();
    assert_eq!(drain(&inotify), [3]);
    fs::remove_dir_all(folder.path("sub")).unwrap();
    assert_eq!(drain(&inotify), [3]);
    assert_eq!(watched(&inotify), before);

    // A directory on all paths.
    let moved = folder.path("").with_extension("moved");
    fs::rename(folder.path(""), &moved).unwrap();
    assert_eq!(drain(&inotify), [1, 2, 3]);
    fs::rename(&moved, folder.path("")).unwrap();
}

#[test]
fn a_refused_path_is_tried_again_after_ever_longer_pauses() {
    let (mut state, start) = (State::default(), Instant::now());
    let second = |seconds| start + Duration::from_secs(seconds);
    assert!(state.refuse(1, start), "the first one is told");
    assert!(!state.refuse(2, start));
    assert!(state.has_to_wait(1, start) && state.has_to_wait(2, start));
    assert!(!state.has_to_wait(3, start), "a path that was not refused yet is tried");
    let mut now = 0;
    for pause in [1, 2, 4, 8, 16, 32, 60, 60] {
        assert!(state.has_to_wait(1, second(now + pause - 1)));
        now += pause;
        assert!(!state.has_to_wait(1, second(now)));
        assert!(!state.refuse(1, second(now)));
        assert!(state.has_to_wait(2, second(now)), "one attempt stands for all");
    }
    assert!(!state.grant(1));
    assert!(state.grant(2), "the last one ends it");
    assert!(!state.grant(2));
    assert!(state.refuse(1, second(now)), "and the next one is told again");
}
