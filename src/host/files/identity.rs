//! The identity of a path: the device and inode of its file, or the directory and name that a missing file will get.
//! Opens no file; `config` compares identities.

use std::path::{Path, PathBuf};

use rustix::fs::{FileType, Stat, fstat, stat};

use super::place::{Target, descriptor, locate, split};
use crate::config::Identity;

/// The identity of the file that a path leads to.
pub fn identity(path: &Path) -> Identity {
    find(path).unwrap_or_else(|| Identity::named(path))
}

/// `None`: a descriptor, a device, a directory, or a file that we may not see.
fn find(path: &Path) -> Option<Identity> {
    if descriptor(path).is_some() {
        return None;
    }
    if let Ok(meta) = stat(path) {
        return is_file(&meta).then_some(Identity::File(meta.st_dev, meta.st_ino));
    }
    let (above, missing) = split(path);
    let meta = match missing.as_slice() {
        // The path continues after a missing directory: `new/../data.yml`.
        [] => return stat(&above).ok().filter(is_file).map(|meta| Identity::File(meta.st_dev, meta.st_ino)),
        // A dangling link counts as the name that it points to.
        [name] => match locate(&above.join(name)) {
            Ok(Target::Regular(place)) => match place.found {
                Some(found) => return Some(Identity::File(found.identity.0, found.identity.1)),
                None => return fstat(&place.dir).ok().map(|dir| absent(&dir, place.name.into())),
            },
            Ok(Target::Special(_) | Target::Descriptor(_)) => return None,
            Err(_) => stat(&above),
        },
        _ => stat(&above),
    };
    meta.ok().map(|dir| absent(&dir, missing.into_iter().collect()))
}

fn is_file(meta: &Stat) -> bool {
    FileType::from_raw_mode(meta.st_mode) == FileType::RegularFile
}

fn absent(dir: &Stat, rest: PathBuf) -> Identity {
    Identity::Absent(dir.st_dev, dir.st_ino, rest)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::files::tests::Folder;
    use std::fs;
    use std::os::unix::fs::symlink;

    #[test]
    fn a_file_has_one_identity_under_all_its_names() {
        let folder = Folder::new();
        fs::create_dir(folder.path("sub")).unwrap();
        fs::write(folder.path("data"), "").unwrap();
        fs::write(folder.path("other"), "").unwrap();
        symlink("data", folder.path("link")).unwrap();
        symlink("..", folder.path("sub/up")).unwrap();
        symlink("new", folder.path("dangling")).unwrap();
        symlink("far/new", folder.path("far-away")).unwrap();
        fs::hard_link(folder.path("data"), folder.path("hard")).unwrap();
        let of = |name: &str| identity(&folder.path(name));
        for name in
            ["link", "hard", "sub/../data", "sub/up/data", "sub/up/link", "none/../data", "./data", "sub//../data"]
        {
            assert_eq!(of(name), of("data"), "{name}");
        }
        assert!(matches!(of("data"), Identity::File(..)));
        for name in ["sub/../new", "sub/up/new", "dangling", "none/../new", "sub/../dangling", "none/../dangling"] {
            assert_eq!(of(name), of("new"), "{name}");
        }
        for name in ["sub/up/far/new", "far/x/../new", "none/../far/new"] {
            assert_eq!(of(name), of("far/new"), "{name}");
        }
        let all = ["data", "other", "new", "newer", "far/new", "far/newer", "sub/new", "sub/data"].map(of);
        for (i, one) in all.iter().enumerate() {
            assert!(all[..i].iter().all(|other| other != one), "{one:?}");
        }
    }

    #[test]
    fn what_is_no_file_is_known_by_its_path() {
        let folder = Folder::new();
        for path in ["/dev/stdout", "/dev/fd/1", "/dev/null"] {
            assert_eq!(identity(Path::new(path)), Identity::named(Path::new(path)));
        }
        assert_eq!(identity(&folder.path("")), Identity::named(&folder.path("")));
    }

    #[test]
    fn a_relative_path_and_an_absolute_one_meet() {
        let absolute = std::path::absolute("Cargo.toml").unwrap();
        assert_eq!(identity(Path::new("Cargo.toml")), identity(&absolute));
        let new = std::path::absolute("no-such-file").unwrap();
        assert_eq!(identity(Path::new("no-such-file")), identity(&new));
    }
}
