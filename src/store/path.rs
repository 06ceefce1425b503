//! Slash-separated paths as in Go's package path, on bytes: cleaning and joining. Knows nothing of files; `/` is the
//! separator on every system.

use std::borrow::Cow;

/// The shortest equivalent path (Go's path.Clean): without empty names, without `.`, without a slash at the end, and
/// with `..` only at the start of a relative path. The empty path is `.`.
pub fn clean(path: &[u8]) -> Cow<'_, [u8]> {
    if is_clean(path) { Cow::Borrowed(path) } else { Cow::Owned(rebuild(path)) }
}

/// Joins the parts with `/` and cleans the path (Go's path.Join). Empty parts are skipped; without other parts the path
/// is empty.
pub fn join(parts: &[&[u8]]) -> Vec<u8> {
    let mut whole = Vec::with_capacity(parts.iter().map(|part| part.len() + 1).sum());
    for part in parts.iter().filter(|part| !part.is_empty()) {
        if !whole.is_empty() {
            whole.push(b'/');
        }
        whole.extend_from_slice(part);
    }
    if whole.is_empty() || is_clean(&whole) { whole } else { rebuild(&whole) }
}

/// Whether `clean` would change nothing. A path with a `..` that stays counts as unclean.
fn is_clean(path: &[u8]) -> bool {
    match path {
        b"/" | b"." => true,
        _ => path.strip_prefix(b"/").unwrap_or(path).split(|byte| *byte == b'/').all(is_plain),
    }
}

fn is_plain(name: &[u8]) -> bool {
    !matches!(name, b"" | b"." | b"..")
}

fn rebuild(path: &[u8]) -> Vec<u8> {
    let root = usize::from(path.starts_with(b"/"));
    let mut out = Vec::with_capacity(path.len());
    out.extend_from_slice(&path[..root]);
    // A `..` removes nothing below this length: the root, or the leading `..` of a relative path.
    let mut floor = root;
    for name in path.split(|byte| *byte == b'/') {
        if is_plain(name) {
            append(&mut out, root, name);
        } else if name == b".." {
            if out.len() > floor {
                let parent = out[floor..].iter().rposition(|byte| *byte == b'/').unwrap_or(0);
                out.truncate(floor + parent);
            } else if root == 0 {
                append(&mut out, root, name);
                floor = out.len();
            }
        }
    }
    if out.is_empty() {
        out.push(b'.');
    }
    out
}

fn append(out: &mut Vec<u8>, root: usize, name: &[u8]) {
    if out.len() > root {
        out.push(b'/');
    }
    out.extend_from_slice(name);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clean_follows_go() {
        let check = |path: &str, want: &str| {
            let got = clean(path.as_bytes());
            assert_eq!(String::from_utf8_lossy(&got), want, "clean({path:?})");
            assert_eq!(clean(&got), got, "cleaning {path:?} twice");
        };
        // already clean
        check("", ".");
        check("abc", "abc");
        check("abc/def", "abc/def");
        check(".", ".");
        check("..", "..");
        check("../..", "../..");
        check("../../abc", "../../abc");
        check("/abc", "/abc");
        check("/", "/");
        check("...", "...");
        check("/..a/.b/c..", "/..a/.b/c..");
        // slashes at the end and in a row
        check("abc/", "abc");
        check("abc/def/", "abc/def");
        check("./", ".");
        check("../", "..");
        check("../../", "../..");
        check("/abc/", "/abc");
        check("abc//def//ghi", "abc/def/ghi");
        check("//abc", "/abc");
        check("///abc", "/abc");
        check("//abc//", "/abc");
        check("abc//", "abc");
        check("////", "/");
        // `.`
        check("abc/./def", "abc/def");
        check("/./abc/def", "/abc/def");
        check("abc/.", "abc");
        check("/.", "/");
        // `..`
        check("abc/def/ghi/../jkl", "abc/def/jkl");
        check("abc/def/../ghi/../jkl", "abc/jkl");
        check("abc/def/..", "abc");
        check("abc/def/../..", ".");
        check("/abc/def/../..", "/");
        check("abc/def/../../..", "..");
        check("/abc/def/../../..", "/");
        check("abc/def/../../../ghi/jkl/../../../mno", "../../mno");
        check("a/../b", "b");
        check("../a/../b", "../b");
        check("/../a", "/a");
        // both
        check("abc/./../def", "def");
        check("abc//./../def", "def");
        check("abc/../../././../def", "../../def");
    }

    #[test]
    fn clean_copies_only_what_it_changes() {
        assert!(matches!(clean(b"/services/web/addr"), Cow::Borrowed(_)));
        assert!(matches!(clean(b"/services/web/addr/"), Cow::Owned(_)));
    }

    #[test]
    fn clean_keeps_bytes_that_are_not_utf8() {
        assert_eq!(*clean(b"/\xff/./\xc3"), *b"/\xff/\xc3");
    }

    #[test]
    fn join_follows_go() {
        let check = |parts: &[&str], want: &str| {
            let parts: Vec<&[u8]> = parts.iter().map(|part| part.as_bytes()).collect();
            assert_eq!(String::from_utf8_lossy(&join(&parts)), want);
        };
        check(&[], "");
        check(&[""], "");
        check(&["", ""], "");
        check(&["/"], "/");
        check(&["a"], "a");
        check(&["a", "b"], "a/b");
        check(&["a", ""], "a");
        check(&["", "b"], "b");
        check(&["/", "a"], "/a");
        check(&["/", "a/b"], "/a/b");
        check(&["/", ""], "/");
        check(&["//", "a"], "/a");
        check(&["/a", "b"], "/a/b");
        check(&["a/", "b"], "a/b");
        check(&["a/", ""], "a");
        check(&["/app", "/"], "/app");
        check(&["/app", "../etc"], "/etc");
        check(&["/app/", "//x//y/"], "/app/x/y");
    }
}
