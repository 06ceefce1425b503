//! A separate folder for one test, removed at the end.

use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process;
use std::sync::atomic::{AtomicU32, Ordering};

pub struct TempDir {
    path: PathBuf,
}

impl TempDir {
    pub fn new() -> TempDir {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("remco-it-{}-{number}", process::id()));
        fs::create_dir(&path).unwrap_or_else(|e| panic!("failed to create {}: {e}", path.display()));
        TempDir { path }
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The path of a file in it.
    pub fn at(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// Writes a file in place, with the folders above it.
    pub fn write(&self, name: &str, content: impl AsRef<[u8]>) {
        let path = self.at(name);
        let parent = path.parent().expect("a file in the folder has a parent");
        fs::create_dir_all(parent).unwrap_or_else(|e| panic!("failed to create {}: {e}", parent.display()));
        fs::write(&path, content).unwrap_or_else(|e| panic!("failed to write {}: {e}", path.display()));
    }

    /// Writes a file beside and renames it over the old one, as editors do.
    pub fn replace(&self, name: &str, content: impl AsRef<[u8]>) {
        let beside = format!("{name}.new");
        self.write(&beside, content);
        fs::rename(self.at(&beside), self.at(name)).expect("both names are in the same folder");
    }

    /// The text of a file, or nothing where there is none.
    pub fn read(&self, name: &str) -> Option<String> {
        match fs::read(self.at(name)) {
            Ok(bytes) => Some(String::from_utf8(bytes).unwrap_or_else(|e| panic!("{name} is not UTF-8: {e}"))),
            Err(e) if e.kind() == ErrorKind::NotFound => None,
            Err(e) => panic!("failed to read {name}: {e}"),
        }
    }

    /// How many lines a file has; none where there is no file. Commands of the tests append lines to be counted.
    pub fn lines(&self, name: &str) -> usize {
        self.read(name).map_or(0, |text| text.lines().count())
    }

    /// Whether a file has exactly this text.
    pub fn holds(&self, name: &str, content: &str) -> bool {
        self.read(name).as_deref() == Some(content)
    }

    /// The permission bits of a file.
    pub fn mode(&self, name: &str) -> u32 {
        fs::metadata(self.at(name)).unwrap_or_else(|e| panic!("no mode of {name}: {e}")).permissions().mode() & 0o7777
    }

    pub fn set_mode(&self, name: &str, mode: u32) {
        fs::set_permissions(self.at(name), fs::Permissions::from_mode(mode))
            .unwrap_or_else(|e| panic!("failed to set the mode of {name}: {e}"));
    }

    /// The names in a folder of it, sorted.
    pub fn names(&self, folder: &str) -> Vec<String> {
        let path = self.at(folder);
        let entries = fs::read_dir(&path).unwrap_or_else(|e| panic!("failed to list {}: {e}", path.display()));
        let mut names: Vec<String> = entries
            .map(|entry| entry.expect("a listed entry can be read").file_name().to_string_lossy().into_owned())
            .collect();
        names.sort();
        names
    }
}

impl Drop for TempDir {
    fn drop(&mut self) {
        // A folder that stays behind is untidy, not wrong; and a panic here would hide the test's own.
        let _ = fs::remove_dir_all(&self.path);
    }
}
