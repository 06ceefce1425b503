//! The patch of one file that would change, for patch(1) and git: names, modes, hunks. The content of secrets and of
//! binary files is left out. Lines that are not for patch begin with `#`. Compares nothing; `diff` does.

use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use crate::diff::{self, Diff};
use crate::quote::quote;

/// The present file and the new one.
#[derive(Debug)]
pub struct Change<'a> {
    /// The absolute path, without links.
    pub path: &'a Path,
    /// The present file.
    pub old: Existing<'a>,
    /// The new content.
    pub new: &'a [u8],
    /// The permission bits of the new file.
    pub mode: u32,
    /// User and group of the new file; `None`: those that the system gives it.
    pub owner: Option<(u32, u32)>,
    /// Whether the contents come from a store whose values are not shown.
    pub is_secret: bool,
}

/// The file at the path of a change.
#[derive(Debug)]
pub enum Existing<'a> {
    /// Nothing.
    Missing,
    /// A file with this content, mode, user and group.
    File {
        /// `None`: it is too large to be read.
        content: Option<&'a [u8]>,
        /// Permission bits.
        mode: u32,
        /// User and group.
        owner: (u32, u32),
    },
    /// A device, a fifo or a descriptor.
    Special,
}

impl Change<'_> {
    /// The whole text, which ends with a newline.
    pub fn text(&self) -> Vec<u8> {
        let shown = comment_name(self.path);
        let mut out = Vec::new();
        let (content, mode) = match &self.old {
            Existing::Missing => (Some(&b""[..]), None),
            Existing::File { content, mode, owner } => {
                if let Some(new) = self.owner.filter(|new| new != owner) {
                    line(&mut out, &format!("# {shown}: owner {}:{} becomes {}:{}", owner.0, owner.1, new.0, new.1));
                }
                (*content, Some(*mode))
            }
            Existing::Special => {
                line(&mut out, &format!("# {shown}: no regular file, it would be written to"));
                return out;
            }
        };
        if let (Existing::Missing, Some((user, group))) = (&self.old, self.owner) {
            line(&mut out, &format!("# {shown}: owner {user}:{group}"));
        }
        let (a, b) = (name("a/", self.path), name("b/", self.path));
        let mode_lines = match mode {
            None => format!("new file mode 100{:03o}\n", self.mode),
            Some(old) if old != self.mode => format!("old mode 100{old:03o}\nnew mode 100{:03o}\n", self.mode),
            Some(_) => String::new(),
        };
        let header = format!("diff --git {a} {b}\n{mode_lines}");
        let is_new = matches!(self.old, Existing::Missing);
        let Some(old) = content else {
            line(&mut out, &format!("# {shown}: too large to be compared"));
            return out;
        };
        if old == self.new && !is_new {
            if mode != Some(self.mode) {
                out.extend_from_slice(header.as_bytes());
            }
            return out;
        }
        if self.is_secret {
            if let Some(old) = mode.filter(|old| *old != self.mode) {
                line(&mut out, &format!("# {shown}: mode {old:04o} becomes {:04o}", self.mode));
            }
            let Diff { added, removed, .. } = diff::compare(old, self.new);
            let what = if is_new { "new" } else { "changed" };
            line(&mut out, &format!("# {shown}: (secret, {what}): lines removed: {removed}, added: {added}"));
            return out;
        }
        if is_binary(old) || is_binary(self.new) {
            let from = if is_new { "/dev/null" } else { &*a };
            line(&mut out, &format!("Binary files {from} and {b} differ"));
            return out;
        }
        out.extend_from_slice(header.as_bytes());
        // An empty new file has a header and no hunk.
        if !(is_new && self.new.is_empty()) {
            line(&mut out, &format!("--- {}\n+++ {b}", if is_new { "/dev/null" } else { &*a }));
            out.append(&mut diff::compare(old, self.new).hunks);
        }
        out
    }
}

/// Whether a content is not shown because it has a zero byte, as in diff(1).
fn is_binary(content: &[u8]) -> bool {
    content.contains(&0)
}

fn line(out: &mut Vec<u8>, text: &str) {
    out.extend_from_slice(text.as_bytes());
    out.push(b'\n');
}

/// A path behind `a/` or `b/`, without its leading slash, quoted in git's way if patch would misread it.
fn name(before: &str, path: &Path) -> String {
    let bytes = path.as_os_str().as_bytes();
    let bytes = bytes.strip_prefix(b"/").unwrap_or(bytes);
    let is_plain = |byte: &u8| byte.is_ascii_graphic() && !matches!(byte, b'"' | b'\\');
    if bytes.iter().all(is_plain) {
        return format!("{before}{}", String::from_utf8_lossy(bytes));
    }
    let mut quoted = format!("\"{before}");
    for byte in bytes {
        match byte {
            b'"' | b'\\' => quoted.extend(['\\', char::from(*byte)]),
            b' '..=b'~' => quoted.push(char::from(*byte)),
            byte => quoted.push_str(&format!("\\{byte:03o}")),
        }
    }
    quoted + "\""
}

/// A path in a line that is not for patch: unchanged, or quoted if it has characters that do not print.
pub fn comment_name(path: &Path) -> String {
    let bytes = path.as_os_str().as_bytes();
    let quoted = quote(bytes, '"', false);
    match quoted.len() == bytes.len() + 2 {
        true => String::from_utf8_lossy(bytes).into_owned(),
        false => quoted,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn change<'a>(old: Existing<'a>, new: &'a str) -> Change<'a> {
        Change {
            path: Path::new("/etc/app.conf"),
            old,
            new: new.as_bytes(),
            mode: 0o644,
            owner: None,
            is_secret: false,
        }
    }

    fn file(content: &str) -> Existing<'_> {
        Existing::File { content: Some(content.as_bytes()), mode: 0o644, owner: (0, 0) }
    }

    #[track_caller]
    fn check(change: &Change, text: &str) {
        assert_eq!(String::from_utf8(change.text()).unwrap(), text);
    }

    #[test]
    fn files_are_changed_and_made() {
        let head = "diff --git a/etc/app.conf b/etc/app.conf\n";
        check(
            &change(file("a\n"), "b\n"),
            &format!("{head}--- a/etc/app.conf\n+++ b/etc/app.conf\n@@ -1 +1 @@\n-a\n+b\n"),
        );
        check(
            &change(Existing::Missing, "b"),
            &format!(
                "{head}new file mode 100644\n--- /dev/null\n+++ b/etc/app.conf\n@@ -0,0 +1 @@\n+b\n\\ No newline at end of \
                 file\n"
            ),
        );
        check(&change(Existing::Missing, ""), &format!("{head}new file mode 100644\n"));
    }

    #[test]
    fn modes_and_owners_have_lines_of_their_own() {
        let change = Change { mode: 0o600, owner: Some((0, 33)), ..change(file("a\n"), "a\n") };
        check(
            &change,
            "# /etc/app.conf: owner 0:0 becomes 0:33\ndiff --git a/etc/app.conf b/etc/app.conf\nold mode 100644\nnew mode \
             100600\n",
        );
        check(&Change { mode: 0o644, ..change }, "# /etc/app.conf: owner 0:0 becomes 0:33\n");
    }

    #[test]
    fn content_is_left_out_where_it_must_be() {
        let secret = |old, new| Change { is_secret: true, mode: 0o600, ..change(old, new) };
        check(
            &secret(file("password\nb\n"), "hunter2\nb\n"),
            "# /etc/app.conf: mode 0644 becomes 0600\n# /etc/app.conf: (secret, changed): lines removed: 1, added: 1\n",
        );
        check(&secret(Existing::Missing, "hunter2\n"), "# /etc/app.conf: (secret, new): lines removed: 0, added: 1\n");
        check(&change(file("\0"), "b"), "Binary files a/etc/app.conf and b/etc/app.conf differ\n");
        check(&change(Existing::Missing, "\0"), "Binary files /dev/null and b/etc/app.conf differ\n");
        check(&change(Existing::Special, "b"), "# /etc/app.conf: no regular file, it would be written to\n");
    }

    #[test]
    fn odd_names_are_quoted() {
        let odd = |path: &'static str| Change { path: Path::new(path), ..change(Existing::Missing, "") };
        check(&odd("/a b"), "diff --git \"a/a b\" \"b/a b\"\nnew file mode 100644\n");
        check(
            &odd("/a\n+++ \"\\é"),
            "diff --git \"a/a\\012+++ \\\"\\\\\\303\\251\" \"b/a\\012+++ \\\"\\\\\\303\\251\"\nnew file mode 100644\n",
        );
        check(
            &Change { old: Existing::Special, ..odd("/a\nb") },
            "# \"/a\\nb\": no regular file, it would be written to\n",
        );
    }
}
