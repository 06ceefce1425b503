//! Comparing, staging and installing files, each test in a temporary folder of its own.
//! [`Folder`] serves other tests, too.

use super::*;
use crate::host::random;
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};

/// A temporary folder of a test, removed at the end.
pub struct Folder(PathBuf);

impl Folder {
    pub fn new() -> Folder {
        let path = std::env::temp_dir().join(format!("remco-files-{}", random::below(u64::MAX)));
        fs::create_dir(&path).expect("a new folder");
        Folder(path)
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    fn names(&self) -> Vec<String> {
        let entries = fs::read_dir(&self.0).expect("the folder");
        let mut names: Vec<String> =
            entries.map(|e| e.expect("an entry").file_name().to_string_lossy().into_owned()).collect();
        names.sort();
        names
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

pub fn destination(path: PathBuf) -> Destination {
    Destination {
        path,
        mode: None,
        uid: None,
        gid: None,
        make_directories: false,
        durability: Durability::Full,
        in_place: false,
        backup: false,
        known: KnownPermissions::default(),
    }
}

fn put(to: &mut Destination, content: &[u8]) -> Result<(), String> {
    let stage = to.stage(content, Checked::No)?;
    to.install(stage, content).map(|warning| assert_eq!(warning, None))
}

fn mode_of(path: &Path) -> u32 {
    fs::metadata(path).expect("the file").permissions().mode() & 0o7777
}

#[test]
fn a_new_file_gets_0644_and_an_old_one_keeps_its_mode() {
    let folder = Folder::new();
    let mut to = destination(folder.path("a"));
    assert_eq!(to.compare(b"1"), Ok(Comparison::Differs));
    put(&mut to, b"1").expect("installed");
    assert_eq!(mode_of(&to.path), 0o644);
    assert_eq!(to.compare(b"1"), Ok(Comparison::InSync));
    fs::set_permissions(&to.path, fs::Permissions::from_mode(0o600)).expect("chmod");
    assert_eq!(to.compare(b"1"), Ok(Comparison::InSync));
    put(&mut to, b"2").expect("installed");
    assert_eq!((mode_of(&to.path), fs::read(&to.path).expect("the file")), (0o600, b"2".to_vec()));
    assert_eq!(folder.names(), ["a"]);
}

#[test]
fn a_mode_that_is_set_is_compared_and_repaired() {
    let folder = Folder::new();
    let mut to = Destination { mode: Some(0o4751), ..destination(folder.path("a")) };
    put(&mut to, b"1").expect("installed");
    assert_eq!(mode_of(&to.path), 0o4751);
    fs::set_permissions(&to.path, fs::Permissions::from_mode(0o644)).expect("chmod");
    assert_eq!(to.compare(b"1"), Ok(Comparison::Differs));
}

#[test]
fn contents_are_compared_to_the_last_byte() {
    let folder = Folder::new();
    let mut to = destination(folder.path("a"));
    let large = vec![b'x'; 200_000];
    put(&mut to, &large).expect("installed");
    assert_eq!(to.compare(&large), Ok(Comparison::InSync));
    let mut other = large.clone();
    *other.last_mut().expect("it is not empty") = b'y';
    assert_eq!(to.compare(&other), Ok(Comparison::Differs));
    assert_eq!(to.compare(&large[1..]), Ok(Comparison::Differs));
    put(&mut to, b"").expect("installed");
    assert_eq!(to.compare(b""), Ok(Comparison::InSync));
}

#[test]
fn a_stage_file_is_named_after_its_destination_and_goes_with_its_stage() {
    let folder = Folder::new();
    let to = destination(folder.path("haproxy.cfg"));
    let stage = to.stage(b"secret", Checked::Yes).expect("staged");
    let names = folder.names();
    let digits = names[0].strip_prefix(".haproxy.cfg").expect("the name begins so");
    assert!(digits.len() == 10 && digits.bytes().all(|b| b.is_ascii_digit()), "{names:?}");
    assert_eq!(stage.path(), Some(folder.path(&names[0]).as_path()));
    drop(stage);
    assert!(folder.names().is_empty());
}

#[test]
fn the_stage_of_a_crash_is_swept_and_no_other_file_is() {
    let folder = Folder::new();
    let to = destination(folder.path("a"));
    let running = to.stage(b"1", Checked::Yes).expect("staged");
    fs::write(folder.path(".a0123456789"), "somebody else's").expect("a file");
    to.sweep();
    assert_eq!(folder.names().len(), 2, "{:?}", folder.names());
    let left = running.path().expect("it has a file").to_owned();
    drop(running);
    fs::write(&left, "half").expect("a file");
    let beside = to.stage(b"1", Checked::Yes).expect("staged under another name");
    assert_ne!(beside.path(), Some(&*left));
    let left_too = beside.path().expect("it has a file").to_owned();
    drop(beside);
    fs::write(&left_too, "half").expect("a file");
    to.sweep();
    assert_eq!(folder.names(), [".a0123456789"]);
}

#[test]
fn a_check_cannot_put_a_link_in_place() {
    let folder = Folder::new();
    let mut to = destination(folder.path("a"));
    let stage = to.stage(b"1", Checked::Yes).expect("staged");
    let path = stage.path().expect("it has a file").to_owned();
    fs::remove_file(&path).expect("it is there");
    symlink("/etc/passwd", &path).expect("a link");
    let error = to.install(stage, b"1").expect_err("a link");
    assert!(error.starts_with(&format!("failed to sync `{}`: ", path.display())), "{error}");
    assert!(folder.names().is_empty());
}

#[test]
fn a_destination_keeps_the_name_of_its_stage() {
    let folder = Folder::new();
    let to = destination(folder.path("a"));
    let name = |stage: &Stage| stage.path().map(Path::to_owned).expect("a file");
    let first = name(&to.stage(b"1", Checked::Yes).expect("staged"));
    let again = to.stage(b"2", Checked::Yes).expect("staged");
    assert_eq!(name(&again), first);
    assert_ne!(name(&to.stage(b"3", Checked::Yes).expect("staged")), first, "it is taken");
}

#[test]
fn the_longest_name_can_be_staged() {
    let folder = Folder::new();
    let mut to = destination(folder.path(&"n".repeat(255)));
    put(&mut to, b"1").expect("installed");
    assert_eq!(folder.names(), ["n".repeat(255)]);
}

#[test]
fn symbolic_links_stay_and_their_target_is_replaced() {
    let folder = Folder::new();
    fs::create_dir(folder.path("real")).expect("a folder");
    fs::write(folder.path("real/file"), "old").expect("a file");
    symlink("real/file", folder.path("middle")).expect("a link");
    symlink(folder.path("middle"), folder.path("link")).expect("a link");
    let mut to = destination(folder.path("link"));
    put(&mut to, b"new").expect("installed");
    assert_eq!(fs::read_link(folder.path("link")).expect("still a link"), folder.path("middle"));
    assert_eq!(fs::read(folder.path("real/file")).expect("the target"), b"new");
}

#[test]
fn a_dangling_link_gets_its_target() {
    let folder = Folder::new();
    symlink("absent", folder.path("link")).expect("a link");
    put(&mut destination(folder.path("link")), b"1").expect("installed");
    assert_eq!(folder.names(), ["absent", "link"]);
}

#[test]
fn links_in_a_circle_are_an_error() {
    let folder = Folder::new();
    symlink("b", folder.path("a")).expect("a link");
    symlink("a", folder.path("b")).expect("a link");
    let error = put(&mut destination(folder.path("a")), b"1").expect_err("a circle");
    assert!(error.contains("more than 40 symbolic links"), "{error}");
}

#[test]
fn missing_directories_are_an_error_unless_wanted() {
    let folder = Folder::new();
    let mut to = destination(folder.path("x/y/z"));
    let error = put(&mut to, b"1").expect_err("there is no directory");
    assert_eq!(
        error,
        format!(
            "failed to create a stage file in `{}`: no such file or directory: make the directory, or set \
                 `make_directories = true`",
            folder.path("x/y").display()
        )
    );
    put(&mut Destination { make_directories: true, ..to }, b"1").expect("installed");
    assert_eq!(fs::read(folder.path("x/y/z")).expect("the file"), b"1");
}

#[test]
fn a_directory_is_never_replaced() {
    let folder = Folder::new();
    let mut to = destination(folder.0.clone());
    let error = format!("`{}` is a directory, a file is expected", folder.0.display());
    assert_eq!(to.compare(b""), Err(error.clone()));
    assert_eq!(put(&mut to, b""), Err(error));
}

#[test]
fn descriptors_are_known_by_name() {
    for (path, want) in [
        ("/dev/stdout", Some(1)),
        ("/dev/stderr", Some(2)),
        ("/dev/fd/17", Some(17)),
        ("/proc/self/fd/3", Some(3)),
        ("/dev/fd/x", None),
        ("/dev/null", None),
        ("stdout", None),
    ] {
        assert_eq!(descriptor(Path::new(path)), want, "{path}");
    }
}

#[test]
fn a_device_is_written_to_and_stays() {
    let mut to = destination(PathBuf::from("/dev/null"));
    assert_eq!(to.compare(b"1"), Ok(Comparison::Unknowable));
    put(&mut to, b"1").expect("written");
    let checked = to.stage(b"1", Checked::Yes).expect("staged");
    assert!(checked.path().is_some_and(|path| path.starts_with(std::env::temp_dir())));
}

#[test]
fn a_fifo_without_a_reader_is_an_error_at_once() {
    let folder = Folder::new();
    let path = folder.path("fifo");
    rustix::fs::mknodat(rustix::fs::CWD, &path, rustix::fs::FileType::Fifo, Mode::from_raw_mode(0o600), 0)
        .expect("a fifo");
    let error = put(&mut destination(path), b"1").expect_err("it has no reader");
    assert!(error.ends_with(": it has no reader"), "{error}");
}
