//! The content of a destination when it was last written or compared: a digest of the bytes, and the state of the
//! file. Detects changes, and writes nothing.

use std::fs::File;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::io::{self, Read};
use std::sync::LazyLock;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustix::fs::Stat;

/// The content of a destination that has the result of its template.
#[derive(Clone, Debug)]
pub struct Written {
    /// In bytes.
    pub(super) size: u64,
    digest: u64,
    /// The state of the file when it was last found to have this content; `None`: it has to be read.
    pub(super) state: Option<State>,
}

/// The properties that change when a file is written, replaced, or gets another owner or mode.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct State {
    device: u64,
    inode: u64,
    size: i64,
    /// Seconds and nanoseconds of the last change (ctime). No program can set it.
    changed: (i64, i64),
}

/// Unknown to other processes, so that none can write another text with the digest of ours.
static KEY: LazyLock<RandomState> = LazyLock::new(RandomState::new);

impl Written {
    /// The destination has just got this content, or was found to have it.
    pub fn new(content: &[u8]) -> Written {
        let mut hasher = KEY.build_hasher();
        hasher.write(content);
        Written { size: content.len() as u64, digest: hasher.finish(), state: None }
    }

    /// Whether this is the content.
    pub fn is(&self, content: &[u8]) -> bool {
        let other = Written::new(content);
        (other.size, other.digest) == (self.size, self.digest)
    }

    /// Whether a regular file has this content. Reads one byte more than that at the most.
    pub(super) fn is_content_of(&self, file: File) -> io::Result<bool> {
        let mut hasher = KEY.build_hasher();
        let read = read_pieces(file, self.size, |piece| hasher.write(piece))?;
        Ok(read == self.size && hasher.finish() == self.digest)
    }
}

/// Reads a file piece by piece, and one byte more than a size at the most. Returns how many bytes were read.
pub(super) fn read_pieces(file: impl Read, size: u64, mut take: impl FnMut(&[u8])) -> io::Result<u64> {
    let most = size.saturating_add(1);
    let mut buffer = vec![0; usize::try_from(most).unwrap_or(usize::MAX).min(64 * 1024)];
    let (mut file, mut read) = (file.take(most), 0);
    loop {
        match file.read(&mut buffer) {
            Ok(0) => return Ok(read),
            Ok(n) => {
                take(&buffer[..n]);
                read += n as u64;
            }
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
}

impl State {
    /// The kernel counts the time of a change in ticks of up to 10 ms. Within a tick, a second change would not show.
    const TICK: Duration = Duration::from_millis(50);
    /// Some file systems count in steps of 1 or 2 s: FAT, HFS, ext4 with small inodes.
    const WHOLE_SECONDS: Duration = Duration::from_secs(2);

    /// The state of a file at this moment; `None`: a later change might not change the state.
    pub(super) fn of(meta: &Stat, now: SystemTime) -> Option<State> {
        let changed = (meta.st_ctime, i64::try_from(meta.st_ctime_nsec).ok()?);
        let since = Duration::new(u64::try_from(changed.0).ok()?, u32::try_from(changed.1).ok()?);
        let age = now.duration_since(UNIX_EPOCH).ok()?.checked_sub(since)?;
        let step = if changed.1 == 0 { State::WHOLE_SECONDS } else { State::TICK };
        (age > step).then_some(State { device: meta.st_dev, inode: meta.st_ino, size: meta.st_size, changed })
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{Folder, destination};
    use super::*;
    use std::fs;
    use std::os::unix::fs::{PermissionsExt, symlink};

    #[test]
    fn a_digest_tells_contents_apart() {
        let folder = Folder::new();
        let path = folder.path("a");
        for content in [&b""[..], b"1", &[b'x'; 200_000]] {
            let written = Written::new(content);
            fs::write(&path, content).expect("written");
            assert!(written.is_content_of(File::open(&path).expect("opened")).expect("read"));
            let others = [[content, b"y"].concat(), b"y".to_vec(), vec![b'z'; content.len().max(1)]];
            for other in others {
                fs::write(&path, other).expect("written");
                assert!(!written.is_content_of(File::open(&path).expect("opened")).expect("read"));
            }
        }
    }

    #[test]
    fn a_destination_that_is_not_as_it_was_written_is_noticed() {
        let folder = Folder::new();
        let mut to = destination(folder.path("a"));
        let mut written = Written::new(b"content");
        assert!(!to.still_has(&mut written), "it is not there");
        fs::write(&to.path, "content").expect("written");
        assert!(to.still_has(&mut written) && to.still_has(&mut written));
        for other in ["Content", "conten", "contents", ""] {
            fs::write(&to.path, other).expect("written");
            assert!(!to.still_has(&mut written), "{other}");
        }
        fs::write(&to.path, "content").expect("written");
        assert!(to.still_has(&mut written));
        fs::remove_file(&to.path).expect("removed");
        assert!(!to.still_has(&mut written));
        fs::write(folder.path("b"), "content").expect("written");
        symlink("b", &to.path).expect("linked");
        assert!(to.still_has(&mut written), "through a link of ours");
        fs::write(folder.path("b"), "CONTENT").expect("written");
        assert!(!to.still_has(&mut written));
    }

    #[test]
    fn a_mode_that_is_set_is_part_of_it() {
        let folder = Folder::new();
        let mut to = super::super::Destination { mode: Some(0o600), ..destination(folder.path("a")) };
        let mut written = Written::new(b"content");
        fs::write(&to.path, "content").expect("written");
        let path = to.path.clone();
        let mode = |mode| fs::set_permissions(&path, fs::Permissions::from_mode(mode)).expect("chmod");
        mode(0o600);
        assert!(to.still_has(&mut written));
        mode(0o640);
        assert!(!to.still_has(&mut written));
    }

    #[test]
    fn a_state_that_is_old_enough_stands_for_the_content() {
        let folder = Folder::new();
        let to = destination(folder.path("a"));
        fs::write(&to.path, "content").expect("written");
        let meta = rustix::fs::lstat(&to.path).expect("it is there");
        // The last change was at second 100, and so many nanoseconds; the present moment is in milliseconds.
        let at = |nanos: u64, now: u64| {
            let mut meta = meta;
            (meta.st_ctime, meta.st_ctime_nsec) = (100, nanos);
            State::of(&meta, UNIX_EPOCH + Duration::from_millis(now))
        };
        assert!(at(1, 99_000).is_none() && at(1, 100_050).is_none() && at(1, 100_051).is_some());
        assert!(at(0, 102_000).is_none() && at(0, 102_001).is_some(), "the file system may count in seconds");
        assert_eq!(at(1, 101_000), at(1, 200_000));
        assert_ne!(at(1, 101_000), at(2, 101_000));
        let mut other = meta;
        (other.st_ctime, other.st_ctime_nsec, other.st_ino) = (100, 1, meta.st_ino + 1);
        assert_ne!(at(1, 101_000), State::of(&other, UNIX_EPOCH + Duration::from_millis(101_000)));
    }
}
