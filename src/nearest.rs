//! Finds the known name nearest to an unknown key, flag or signal.
//! Compares names only; the caller writes the message.

/// The known name nearest to `word`, if one is near enough: the one with the fewest wrong letters, or the only one that
/// begins with `word`. Case, `_` and `-` are ignored, so that `check-cmd`, `checkCmd` and `check_cmd` are equal.
/// Of equally near names, one that begins with `word` comes first, then the first one.
pub fn nearest<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    nearest_of(word, &mut known.into_iter())
}

/// Has no type parameter: the compiler makes this code once, not once for each caller.
fn nearest_of<'a>(word: &str, known: &mut dyn Iterator<Item = &'a str>) -> Option<&'a str> {
    /// In bytes. All known names are much shorter; bounds the work on a hostile word.
    const LONGEST: usize = 64;
    /// In letters. A shorter word begins a name by accident.
    const BEGINNING: usize = 3;
    if word.len() > LONGEST {
        return None;
    }
    let word = plain(word);
    // A third of the letters may be wrong. One letter of a short word may be wrong, but not all of them.
    let tolerance = (word.len() / 3).max(1).min(word.len().saturating_sub(1));
    let mut near: Option<((usize, bool), &str)> = None;
    let (mut longer, mut is_only) = (None, true);
    for name in known {
        let letters = plain(name);
        let begins = letters.starts_with(&word);
        let rank = (distance(&word, &letters), !begins);
        if rank.0 <= tolerance && near.is_none_or(|(least, _)| rank < least) {
            near = Some((rank, name));
        }
        if begins && word.len() >= BEGINNING {
            is_only &= longer.is_none_or(|other| other == name);
            longer = Some(name);
        }
    }
    near.map(|(_, name)| name).or(longer.filter(|_| is_only))
}

fn plain(name: &str) -> Vec<char> {
    name.chars().filter(|c| !matches!(c, '_' | '-')).map(|c| c.to_ascii_lowercase()).collect()
}

/// The number of insertions, deletions, replacements and swaps of neighbours that turn one word into the other, each
/// letter changed at most once (Damerau and Levenshtein's distance in its "optimal string alignment" form).
fn distance(from: &[char], to: &[char]) -> usize {
    // Row i: the distances of from[..i] to every to[..j].
    let mut before: Vec<usize> = Vec::new();
    let mut last: Vec<usize> = (0..=to.len()).collect();
    for i in 1..=from.len() {
        let mut row = vec![i];
        for j in 1..=to.len() {
            let same = from[i - 1] == to[j - 1];
            let mut best = (last[j - 1] + usize::from(!same)).min(last[j] + 1).min(row[j - 1] + 1);
            if i > 1 && j > 1 && from[i - 1] == to[j - 2] && from[i - 2] == to[j - 1] {
                best = best.min(before[j - 2] + 1);
            }
            row.push(best);
        }
        before = std::mem::replace(&mut last, row);
    }
    last[to.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn measures_edits() {
        let check = |from: &str, to: &str, expected| {
            let (from, to): (Vec<char>, Vec<char>) = (from.chars().collect(), to.chars().collect());
            assert_eq!(distance(&from, &to), expected, "{from:?} {to:?}");
            assert_eq!(distance(&to, &from), expected, "{to:?} {from:?}");
        };
        check("", "", 0);
        check("", "abc", 3);
        check("abc", "abc", 0);
        check("abc", "abd", 1);
        check("abc", "acb", 1);
        check("ca", "abc", 3);
        check("interval", "intreval", 1);
        check("kitten", "sitting", 3);
    }

    #[test]
    fn suggests_what_was_meant() {
        let known = ["src", "dst", "mode", "UID", "GID", "check_cmd", "reload_cmd", "watchKeys", "nodes"];
        let check = |word, expected| assert_eq!(nearest(word, known), expected, "{word}");
        check("watch_keys", Some("watchKeys"));
        check("checkCmd", Some("check_cmd"));
        check("chekc-cmd", Some("check_cmd"));
        check("dest", Some("dst"));
        check("node", Some("nodes"));
        check("relo", Some("reload_cmd"));
        check("check", Some("check_cmd"));
        check("moda", Some("mode"));
        check("no", None);
        check("uuid", Some("UID"));
        check("source", None);
        check("s", None);
        check("", None);
        check("ünïcödé", None);
        check(&"check_cmd".repeat(100), None);
    }
}
