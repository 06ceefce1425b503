//! The ids of users and groups by their names, from /etc/passwd and /etc/group. A static program has no other source,
//! so it does not know names of LDAP and the like. Reads each file at most once, through [`Source`].

use std::cell::OnceCell;
use std::path::Path;

use super::report::quoted;
use super::source::Source;
use crate::error::cause;
use crate::nearest::nearest;

/// The users or the groups of the machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    User,
    Group,
}

/// The accounts of the machine. The files are read when the first name is looked up.
pub(super) struct Accounts<'s> {
    source: &'s dyn Source,
    users: OnceCell<Result<Vec<(String, u32)>, String>>,
    groups: OnceCell<Result<Vec<(String, u32)>, String>>,
}

impl Kind {
    fn file(self) -> &'static str {
        match self {
            Kind::User => "/etc/passwd",
            Kind::Group => "/etc/group",
        }
    }

    /// The key for an id without a name.
    fn key(self) -> &'static str {
        match self {
            Kind::User => "UID",
            Kind::Group => "GID",
        }
    }
}

impl Accounts<'_> {
    pub(super) fn new(source: &dyn Source) -> Accounts<'_> {
        Accounts { source, users: OnceCell::new(), groups: OnceCell::new() }
    }

    /// The id of a name.
    ///
    /// # Errors
    /// There is no such name, or the file cannot be read. The message does not contain the name.
    pub(super) fn id(&self, kind: Kind, name: &str) -> Result<u32, String> {
        let known = match kind {
            Kind::User => &self.users,
            Kind::Group => &self.groups,
        };
        let (file, key) = (kind.file(), quoted(kind.key()));
        let read = || match self.source.read_included(Path::new(file)) {
            Ok(bytes) => Ok(names(&bytes)),
            Err(error) => Err(format!("cannot be looked up: failed to read {file}: {}: set {key}", cause(&error))),
        };
        let known = known.get_or_init(read).as_ref().map_err(String::clone)?;
        if let Some((_, id)) = known.iter().find(|(known, _)| known == name) {
            return Ok(*id);
        }
        let advice = match nearest(name, known.iter().map(|(name, _)| &**name)) {
            _ if name.bytes().all(|byte| byte.is_ascii_digit()) => format!(": for a number set {key}"),
            Some(known) => format!(", did you mean {}?", quoted(known)),
            None => String::new(),
        };
        Err(format!("is not in {file}{advice}"))
    }
}

/// The names and ids of a file with lines `NAME:PASSWORD:ID:...`. Ignores other lines (comments, NIS).
fn names(bytes: &[u8]) -> Vec<(String, u32)> {
    let text = String::from_utf8_lossy(bytes);
    let lines = text.lines().filter_map(|line| {
        let mut fields = line.split(':');
        let (name, _, id) = (fields.next()?, fields.next()?, fields.next()?);
        // u32::MAX means "not changed" to chown(2).
        let id = id.parse().ok().filter(|id| *id != u32::MAX)?;
        (!name.is_empty()).then(|| (name.to_owned(), id))
    });
    lines.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_accounts_have_a_name_and_an_id() {
        let text = b"root:x:0:0:root:/root:/bin/sh\n# a comment\n\n+::::::\nwww-data:x:33:33\nodd:x:4294967295:\n\
            long:x:99999999999:\n\
            :x:5:\nneg:x:-1:\n\xff:x:7:\nadm:*:4:a,b";
        let want = [("root", 0), ("www-data", 33), ("\u{fffd}", 7), ("adm", 4)];
        assert_eq!(names(text), want.map(|(name, id)| (name.to_owned(), id)));
        assert_eq!(names(b""), []);
    }
}
