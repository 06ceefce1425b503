//! Shortens a list of paths: many paths in one directory become one line with their number. Knows no keys and no
//! templates; `explain` gives the lines their meaning.

/// A path, or all paths that begin with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Part<'a> {
    pub(super) text: &'a [u8],
    /// The number of wanted paths that begin with the text; `None`: the text is a path.
    pub(super) count: Option<usize>,
}

/// The wanted ones of all paths, which are sorted, in at most `most_lines` parts. A directory that has more than `most`
/// becomes one part if all its paths are wanted, or if its own directories would not fit either.
pub(super) fn gather<'a>(all: &[(&'a [u8], bool)], most: usize, most_lines: usize) -> Vec<Part<'a>> {
    Gather { most, most_lines }.within(all, 0)
}

struct Gather {
    most: usize,
    most_lines: usize,
}

impl Gather {
    /// Keys have few levels of directories. Deeper levels are not searched.
    const DEEPEST: usize = 32;

    fn within<'a>(&self, all: &[(&'a [u8], bool)], depth: usize) -> Vec<Part<'a>> {
        let wanted = || all.iter().filter(|(_, is_wanted)| *is_wanted).map(|(text, _)| *text);
        let count = wanted().count();
        let ([(first, _), ..], [.., (last, _)]) = (all, all) else { return Vec::new() };
        if count <= self.most {
            return wanted().map(|text| Part { text, count: None }).collect();
        }
        let directory = directory_of_both(first, last);
        let whole = vec![Part { text: directory, count: Some(count) }];
        if depth == Gather::DEEPEST || depth > 0 && count == all.len() {
            return whole;
        }
        let children: Vec<&[(&[u8], bool)]> =
            all.chunk_by(|(one, _), (other, _)| child(one, directory) == child(other, directory)).collect();
        let parts: Vec<Vec<Part<'_>>> = children.iter().map(|child| self.within(child, depth + 1)).collect();
        let most = if depth == 0 { self.most_lines } else { self.most };
        if parts.iter().map(Vec::len).sum::<usize>() <= most {
            return parts.concat();
        }
        // One line for each directory.
        let of_child = |(all, parts): (&&[(&'a [u8], bool)], Vec<Part<'a>>)| match parts[..] {
            [] | [_] => parts.first().copied(),
            [..] => {
                let count = all.iter().filter(|(_, is_wanted)| *is_wanted).count();
                all.first().map(|(text, _)| Part { text: child(text, directory), count: Some(count) })
            }
        };
        let parts: Vec<Part<'_>> = children.iter().zip(parts).filter_map(of_child).collect();
        if parts.len() <= most { parts } else { whole }
    }
}

/// The deepest directory that both paths are in, with its slash.
fn directory_of_both<'a>(one: &'a [u8], other: &[u8]) -> &'a [u8] {
    let common = one.iter().zip(other).take_while(|(one, other)| one == other).count();
    let end = one[..common].iter().rposition(|byte| *byte == b'/').map_or(0, |slash| slash + 1);
    &one[..end]
}

/// The path, or its beginning with the slash of the directory right below another one.
fn child<'a>(path: &'a [u8], directory: &[u8]) -> &'a [u8] {
    let slash = path[directory.len()..].iter().position(|byte| *byte == b'/');
    slash.map_or(path, |slash| &path[..=directory.len() + slash])
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `/a`, `/b/... 30`
    fn gathered(all: &[(String, bool)]) -> Vec<String> {
        let mut all: Vec<(&[u8], bool)> = all.iter().map(|(text, is_wanted)| (text.as_bytes(), *is_wanted)).collect();
        all.sort_unstable();
        let shown = |part: Part<'_>| match part.count {
            Some(count) => format!("{}... {count}", String::from_utf8_lossy(part.text)),
            None => String::from_utf8_lossy(part.text).into_owned(),
        };
        let parts = gather(&all, 3, 5);
        assert!(parts.len() <= 5);
        parts.into_iter().map(shown).collect()
    }

    fn many(n: usize, name: impl Fn(usize) -> String, is_wanted: impl Fn(usize) -> bool) -> Vec<(String, bool)> {
        (0..n).map(|n| (name(n), is_wanted(n))).collect()
    }

    #[test]
    fn few_are_shown_one_by_one() {
        assert!(gathered(&[]).is_empty());
        let all = [("/a", true), ("/b/c", true), ("/b/d", false), ("/b/e/f", true)];
        let all = all.map(|(text, is_wanted)| (text.to_owned(), is_wanted));
        assert_eq!(gathered(&all), ["/a", "/b/c", "/b/e/f"]);
    }

    #[test]
    fn a_whole_directory_is_one_line() {
        let mut all = many(10, |n| format!("/app/old/{n}/{n}"), |_| true);
        all.extend(many(10, |n| format!("/app/{n}"), |n| n == 0));
        assert_eq!(gathered(&all), ["/app/0", "/app/old/... 10"]);
        all.push(("/z".to_owned(), true));
        all.push(("/a-b/c".to_owned(), true));
        assert_eq!(gathered(&all), ["/a-b/c", "/app/0", "/app/old/... 10", "/z"]);
    }

    #[test]
    fn what_is_in_many_directories_is_one_line() {
        let all = many(100, |n| format!("/services/{}/{}", n / 10, n % 10), |n| n % 10 == 3);
        assert_eq!(gathered(&all), ["/services/... 10"]);
        let all = many(40, |n| format!("/{}/{}", n / 10, n % 10), |n| n % 10 < 3);
        assert_eq!(gathered(&all), ["/0/... 3", "/1/... 3", "/2/... 3", "/3/... 3"]);
        assert_eq!(gathered(&many(1000, |n| format!("/{n}"), |_| true)), ["/... 1000"]);
        assert_eq!(gathered(&many(1000, |n| format!("{n}"), |_| true)), ["... 1000"]);
    }

    #[test]
    fn deep_paths_end_the_search() {
        let all = many(2000, |n| "/a".repeat(n + 1), |n| n % 2 == 0);
        assert_eq!(gathered(&all), ["/a", "/a/a/a", "/a/a/a/... 998"]);
    }
}
