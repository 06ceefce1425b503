//! The attributes of a file: owner, mode, access control list, extended attributes. Reads those of the old file and
//! copies them to the new one, always through descriptors of open files.

use std::fs::File;
use std::io;
use std::path::Path;

use rustix::fs::{
    Gid, Mode, Uid, XattrFlags, fchmod, fchown, fgetxattr, flistxattr, fremovexattr, fsetxattr, fstat, lgetxattr,
};
use rustix::io::Errno;

use super::Destination;
use super::place::Found;
use crate::acl::Acl;
use crate::error::cause;

/// The attributes that a new file inherits from the old one.
#[derive(Debug, Default)]
pub struct Attributes {
    pub acl: Option<Acl>,
    /// `security.selinux` and `user.*`, by name.
    labels: Vec<(Vec<u8>, Vec<u8>)>,
}

/// The permissions that a new file has got.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Permissions {
    pub acl: Option<Acl>,
    /// The mode that was set because the configured mode could not be.
    pub reduced: Option<u32>,
}

const ACL: &str = "system.posix_acl_access";
const SELINUX: &[u8] = b"security.selinux";
const USER: &[u8] = b"user.";

/// The kernel's limit for a value and for a list of names.
const LARGEST: usize = 64 << 10;

/// These bits are only set if `mode` has them.
const SETUID_AND_SETGID: u32 = 0o6000;

impl Attributes {
    /// Reads the attributes of a file that will be replaced.
    ///
    /// # Errors
    /// The file system cannot read them.
    pub fn read(file: &File) -> io::Result<Attributes> {
        let acl = acl(file)?;
        let mut names = vec![0; LARGEST];
        let length = match flistxattr(file, &mut names[..]) {
            Ok(length) => length,
            Err(e) if is_unsupported(e) => 0,
            Err(e) => return Err(e.into()),
        };
        let mut labels = Vec::new();
        for name in names[..length].split(|byte| *byte == 0) {
            if (name == SELINUX || name.starts_with(USER))
                && let Some(value) = get(file, name)?
            {
                labels.push((name.to_owned(), value));
            }
        }
        Ok(Attributes { acl, labels })
    }

    /// Reads the attributes of a file that we may replace but not read. Its `user.*` attributes are not readable
    /// either.
    ///
    /// # Errors
    /// The file system cannot read them.
    pub fn read_by_path(path: &Path) -> io::Result<Attributes> {
        let get = |name: &[u8]| value(|buffer| lgetxattr(path, name, buffer));
        let acl = get(ACL.as_bytes())?.map(|bytes| parsed(&bytes)).transpose()?;
        let label = get(SELINUX)?.map(|value| (SELINUX.to_owned(), value));
        Ok(Attributes { acl, labels: label.into_iter().collect() })
    }

    /// Copies the extended attributes to a new file. A failure is a warning.
    pub fn give_labels(&self, file: &File, warnings: &mut Vec<String>) {
        for (name, value) in &self.labels {
            // The file system may have set this label on the new file already, and may refuse to set it again.
            if get(file, name).is_ok_and(|now| now.as_ref() == Some(value)) {
                continue;
            }
            if let Err(e) = fsetxattr(file, &name[..], value, XattrFlags::empty()) {
                let name = String::from_utf8_lossy(name);
                warnings.push(format!("failed to carry over the attribute `{name}`: {}", cause(&e.into())));
            }
        }
    }
}

impl Attributes {
    /// Copies all of them to a file of the same owner; the mode is set after that.
    pub fn give_all(&self, file: &File) -> io::Result<()> {
        if let Some(acl) = &self.acl {
            fsetxattr(file, ACL, &acl.bytes(), XattrFlags::empty())?;
        }
        self.give_labels(file, &mut Vec::new());
        Ok(())
    }
}

/// The access control list of a file; `None`: the file has only a mode.
pub fn acl(file: &File) -> io::Result<Option<Acl>> {
    get(file, ACL.as_bytes())?.map(|bytes| parsed(&bytes)).transpose()
}

fn parsed(bytes: &[u8]) -> io::Result<Acl> {
    Acl::parse(bytes).ok_or_else(|| io::Error::other("its access control list has an unknown form"))
}

/// Removes attributes that a new file has inherited from its directory. So far only its owner can read the file.
pub fn strip_inherited(file: &File) -> io::Result<()> {
    match fremovexattr(file, ACL) {
        Ok(()) | Err(Errno::NODATA) => Ok(()),
        Err(e) if is_unsupported(e) => Ok(()),
        Err(e) => Err(e.into()),
    }
}

fn get(file: &File, name: &[u8]) -> io::Result<Option<Vec<u8>>> {
    value(|buffer| fgetxattr(file, name, buffer))
}

/// The value of an attribute, if there is one. `read` writes the value to a buffer and returns its length.
fn value(read: impl Fn(&mut [u8]) -> rustix::io::Result<usize>) -> io::Result<Option<Vec<u8>>> {
    let mut small = [0; 256];
    let mut large = Vec::new();
    let (result, buffer) = match read(&mut small) {
        Err(Errno::RANGE) => {
            large.resize(LARGEST, 0);
            (read(&mut large), &large[..])
        }
        result => (result, &small[..]),
    };
    match result {
        Ok(length) => Ok(Some(buffer[..length].to_vec())),
        Err(Errno::NODATA) => Ok(None),
        Err(e) if is_unsupported(e) => Ok(None),
        Err(e) => Err(e.into()),
    }
}

/// Errors of a file system or a sandbox without such attributes.
fn is_unsupported(e: Errno) -> bool {
    matches!(e, Errno::OPNOTSUPP | Errno::NOSYS | Errno::PERM)
}

impl Destination {
    /// Sets owner, access control list and mode of a file, if they differ. The order matters: a change of the owner
    /// clears setuid and setgid, and a change of the mode changes the list.
    ///
    /// With `acl` = `None` the access control list stays.
    pub(super) fn apply_owner_and_mode(
        &self,
        file: &File,
        found: Option<Found>,
        acl: Option<&Acl>,
        warnings: &mut Vec<String>,
    ) -> Result<Permissions, (&'static str, io::Error)> {
        let look = |file: &File| fstat(file).map(|meta| Found::of(&meta)).map_err(|e| ("look at", io::Error::from(e)));
        let now = look(file)?;
        let (uid, gid) = (self.uid.filter(|uid| *uid != now.uid), self.gid.filter(|gid| *gid != now.gid));
        if uid.is_some() || gid.is_some() {
            let changed = fchown(file, uid.map(Uid::from_raw), gid.map(Gid::from_raw));
            changed.map_err(|e| ("change the owner of", e.into()))?;
        }
        if let Some(found) = found {
            // Without a configured owner the new file keeps the owner of the old one, or at least its group. Both may
            // be forbidden, or have no number in this container. Then the file belongs to us, as with any program that
            // replaces files by a rename.
            if self.uid.is_none() && found.uid != now.uid {
                let _ = fchown(file, Some(Uid::from_raw(found.uid)), None);
            }
            if self.gid.is_none() && found.gid != now.gid {
                let _ = fchown(file, None, Some(Gid::from_raw(found.gid)));
            }
        }
        let mut mode = self.mode.or(found.map(|found| found.mode & !SETUID_AND_SETGID)).unwrap_or(0o644);
        let mut permissions = Permissions::default();
        if let Some(acl) = acl {
            let acl = acl.clone().with_mode(mode);
            match fsetxattr(file, ACL, &acl.bytes(), XattrFlags::empty()) {
                Ok(()) => permissions.acl = Some(acl),
                Err(e) => {
                    // The group bits of a file with an access control list are its mask. Without the list they are the
                    // rights of the owning group, and those must not grow.
                    mode = mode & !0o070 | acl.owning_group() << 3;
                    permissions.reduced = self.mode.map(|_| mode);
                    warnings.push(format!(
                        "failed to set the access control list, the file has mode 0{mode:o} without it: {}",
                        cause(&e.into())
                    ));
                }
            }
        }
        if look(file)?.mode != mode {
            fchmod(file, Mode::from_raw_mode(mode)).map_err(|e| ("change the mode of", e.into()))?;
        }
        Ok(permissions)
    }
}
