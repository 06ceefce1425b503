//! The difference of two files as hunks of a unified diff. Works on bytes: a file need not be UTF-8. Does not know the
//! names and modes of the files; `patch` does. The work is bounded: if the shortest difference takes too long to find,
//! the result is a longer one.

use std::collections::HashMap;
use std::ops::Range;

/// Equal lines shown before and after a change.
const CONTEXT: usize = 3;

/// Bounds the memory: files that differ in more lines are not searched for equal lines in between.
const MOST_LINES: usize = 2_000_000;

/// The steps of all searches together: about 0.1 s.
const MOST_STEPS: usize = 20_000_000;

/// The length of the longest difference that one search finds. A search without a result is split at its furthest
/// point.
const LONGEST_SEARCH: usize = 1024;

/// The difference of two files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Diff {
    /// The number of lines that only the new file has.
    pub added: usize,
    /// The number of lines that only the old file has.
    pub removed: usize,
    /// The hunks with their `@@` lines; empty for equal files.
    pub hunks: Vec<u8>,
}

/// Compares two files. A line ends with `\n`; the rest of the file behind the last `\n` is a line too.
pub fn compare(old: &[u8], new: &[u8]) -> Diff {
    compare_within(old, new, MOST_LINES, MOST_STEPS)
}

fn compare_within(old: &[u8], new: &[u8], most_lines: usize, most_steps: usize) -> Diff {
    let [(old, first), (new, _)] = windows(old, new);
    let (old, new): (Vec<&[u8]>, Vec<&[u8]>) = (lines(old), lines(new));
    let changes = changes(&old, &new, most_lines, most_steps);
    let count = |side: fn(&Change) -> &Range<usize>| changes.iter().map(|change| side(change).len()).sum();
    let mut diff = Diff { added: count(|c| &c.new), removed: count(|c| &c.old), hunks: Vec::new() };
    let mut rest = &changes[..];
    while let Some(one) = rest.first() {
        let joined = rest.windows(2).take_while(|pair| pair[1].old.start - pair[0].old.end <= 2 * CONTEXT).count() + 1;
        hunk(&old, &new, first, &rest[..joined], one.old.start.saturating_sub(CONTEXT), &mut diff.hunks);
        rest = &rest[joined..];
    }
    diff
}

/// Lines of the old file, and the lines of the new file that replace them. One of the two may be empty.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Change {
    old: Range<usize>,
    new: Range<usize>,
}

/// The parts of both files that differ, with the lines of the context around them, and the number of lines before them.
fn windows<'a>(old: &'a [u8], new: &'a [u8]) -> [(&'a [u8], usize); 2] {
    let shared = old.iter().zip(new).take_while(|(old, new)| old == new).count();
    // Back to the beginning of the line, and by the lines of the context.
    let mut start = line_start(old, shared);
    for _ in 0..CONTEXT {
        start = line_start(old, start.saturating_sub(1));
    }
    let (from_old, from_new) = (&old[start..], &new[start..]);
    let most = from_old.len().min(from_new.len());
    let shared = from_old.iter().rev().zip(from_new.iter().rev()).take_while(|(old, new)| old == new).count();
    let starts_line = |text: &[u8], at: usize| at == 0 || text[at - 1] == b'\n';
    let shared = shared.min(most);
    let (old_end, new_end) = (from_old.len() - shared, from_new.len() - shared);
    // Forward to the beginning of a line, and by the lines of the context.
    let mut skipped = 0;
    let wanted = CONTEXT + usize::from(!(starts_line(from_old, old_end) && starts_line(from_new, new_end)));
    for _ in 0..wanted {
        skipped += line_length(&from_old[old_end + skipped..]);
    }
    let before = old[..start].iter().filter(|byte| **byte == b'\n').count();
    [(&from_old[..old_end + skipped], before), (&from_new[..new_end + skipped], before)]
}

/// The beginning of the line that `at` is in, or `at` if a line begins there.
fn line_start(text: &[u8], at: usize) -> usize {
    text[..at].iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1)
}

fn line_length(text: &[u8]) -> usize {
    text.iter().position(|byte| *byte == b'\n').map_or(text.len(), |end| end + 1)
}

fn lines(text: &[u8]) -> Vec<&[u8]> {
    text.split_inclusive(|byte| *byte == b'\n').collect()
}

/// Writes changes with the equal lines before, between and after them. `first`: the number of lines before `old`.
fn hunk(old: &[&[u8]], new: &[&[u8]], first: usize, changes: &[Change], from: usize, out: &mut Vec<u8>) {
    let (Some(begin), Some(end)) = (changes.first(), changes.last()) else { return };
    let old_range = from..old.len().min(end.old.end + CONTEXT);
    // Both files have as many equal lines before the changes, and as many after them.
    let new_range = begin.new.start - (begin.old.start - from)..end.new.end + (old_range.end - end.old.end);
    let header = format!("@@ -{} +{} @@\n", place(&old_range, first), place(&new_range, first));
    out.extend_from_slice(header.as_bytes());
    let mut at = from;
    for change in changes {
        put(b' ', &old[at..change.old.start], out);
        put(b'-', &old[change.old.clone()], out);
        put(b'+', &new[change.new.clone()], out);
        at = change.old.end;
    }
    put(b' ', &old[at..old_range.end], out);
}

/// `START,COUNT` for patch(1): `,1` is left out, and an empty range has the number of the line before it.
fn place(range: &Range<usize>, first: usize) -> String {
    match range.len() {
        0 => format!("{},0", first + range.start),
        1 => (first + range.start + 1).to_string(),
        count => format!("{},{count}", first + range.start + 1),
    }
}

fn put(mark: u8, lines: &[&[u8]], out: &mut Vec<u8>) {
    for line in lines {
        out.push(mark);
        out.extend_from_slice(line);
        if line.last() != Some(&b'\n') {
            out.extend_from_slice(b"\n\\ No newline at end of file\n");
        }
    }
}

/// The changes that turn the old lines into the new ones, in their order.
fn changes(old: &[&[u8]], new: &[&[u8]], most_lines: usize, most_steps: usize) -> Vec<Change> {
    let (removed, added) = flags(old, new, most_lines, most_steps);
    let mut changes: Vec<Change> = Vec::new();
    let (mut o, mut n) = (0, 0);
    while o < old.len() || n < new.len() {
        let (from_old, from_new) = (o, n);
        o += removed[o..].iter().take_while(|is_removed| **is_removed).count();
        n += added[n..].iter().take_while(|is_added| **is_added).count();
        if (from_old, from_new) != (o, n) {
            changes.push(Change { old: from_old..o, new: from_new..n });
        }
        // The next lines are equal, or both files have ended.
        o += 1;
        n += 1;
    }
    changes
}

/// Which old lines are removed, and which new lines are added. The others are equal, in their order.
fn flags(old: &[&[u8]], new: &[&[u8]], most_lines: usize, most_steps: usize) -> (Vec<bool>, Vec<bool>) {
    let (mut removed, mut added) = (vec![false; old.len()], vec![false; new.len()]);
    let before = old.iter().zip(new).take_while(|(old, new)| old == new).count();
    let (old, new) = (&old[before..], &new[before..]);
    let after = old.iter().rev().zip(new.iter().rev()).take_while(|(old, new)| old == new).count();
    let (old, new) = (&old[..old.len() - after], &new[..new.len() - after]);
    if old.len() + new.len() > most_lines {
        removed[before..before + old.len()].fill(true);
        added[before..before + new.len()].fill(true);
        return (removed, added);
    }
    let mut numbers: HashMap<&[u8], usize> = HashMap::new();
    let mut number = |line| {
        let next = numbers.len();
        *numbers.entry(line).or_insert(next)
    };
    let old: Vec<usize> = old.iter().map(|line| number(*line)).collect();
    let new: Vec<usize> = new.iter().map(|line| number(*line)).collect();
    let (mut in_old, mut in_new) = (vec![false; numbers.len()], vec![false; numbers.len()]);
    old.iter().for_each(|line| in_old[*line] = true);
    new.iter().for_each(|line| in_new[*line] = true);
    // Lines that only one file has are not equal to any other. They are most of the changes.
    let one_sided = |lines: &[usize], other: &[bool]| lines.iter().map(|line| !other[*line]).collect::<Vec<bool>>();
    let mut search = Search {
        removed: one_sided(&old, &in_new),
        added: one_sided(&new, &in_old),
        steps: most_steps,
        forward: Vec::new(),
        backward: Vec::new(),
    };
    let shared = |lines: &[usize], other: &[bool]| -> (Vec<usize>, Vec<usize>) {
        lines.iter().enumerate().filter(|(_, line)| other[**line]).map(|(at, line)| (at, *line)).unzip()
    };
    search.run(&shared(&old, &in_new), &shared(&new, &in_old));
    removed[before..before + old.len()].copy_from_slice(&search.removed);
    added[before..before + new.len()].copy_from_slice(&search.added);
    (removed, added)
}

/// The places and the numbers of the lines that both files have.
type Shared = (Vec<usize>, Vec<usize>);

/// The search for the longest list of equal lines: Myers' algorithm with little memory ("An O(ND) Difference
/// Algorithm", section 4b). It looks for the middle of the shortest difference from both ends, and splits the lines
/// there.
struct Search {
    removed: Vec<bool>,
    added: Vec<bool>,
    /// The remaining steps.
    steps: usize,
    /// For each diagonal: the progress of the present search in the old lines, from the beginning and from the end.
    forward: Vec<usize>,
    backward: Vec<usize>,
}

impl Search {
    fn run(&mut self, (old_at, old): &Shared, (new_at, new): &Shared) {
        let mut boxes = vec![(0..old.len(), 0..new.len())];
        while let Some((mut o, mut n)) = boxes.pop() {
            while !o.is_empty() && !n.is_empty() && old[o.start] == new[n.start] {
                (o.start, n.start) = (o.start + 1, n.start + 1);
            }
            while !o.is_empty() && !n.is_empty() && old[o.end - 1] == new[n.end - 1] {
                (o.end, n.end) = (o.end - 1, n.end - 1);
            }
            let middle = match o.is_empty() || n.is_empty() {
                true => None,
                false => self.middle(&old[o.clone()], &new[n.clone()]),
            };
            match middle {
                Some((x, y)) if (x, y) != (0, 0) && (x, y) != (o.len(), n.len()) => {
                    boxes.push((o.start..o.start + x, n.start..n.start + y));
                    boxes.push((o.start + x..o.end, n.start + y..n.end));
                }
                Some(_) | None => {
                    old_at[o].iter().for_each(|at| self.removed[*at] = true);
                    new_at[n].iter().for_each(|at| self.added[*at] = true);
                }
            }
        }
    }

    /// A point of a short path from the beginning to the end: the number of old and new lines before it. `None`: no
    /// steps remain.
    fn middle(&mut self, old: &[usize], new: &[usize]) -> Option<(usize, usize)> {
        let (o, n) = (old.len(), new.len());
        // Diagonal k has the places where x - y is k; it is at k + n in the lists.
        let longest = (o + n).div_ceil(2).min(LONGEST_SEARCH);
        let center = longest + 1;
        for list in [&mut self.forward, &mut self.backward] {
            list.clear();
            list.resize(2 * center + 1, 0);
        }
        let is_odd = (o + n) % 2 == 1;
        // Converts an index of one list to the index of this diagonal in the other list.
        let mirrored = |at: usize| (2 * center + o).checked_sub(at + n).filter(|at| *at <= 2 * center);
        let mut furthest = (0, 0);
        for d in 0..=longest {
            self.steps = self.steps.checked_sub(2 * d + 2)?;
            for is_forward in [true, false] {
                let (list, other) = match is_forward {
                    true => (&mut self.forward, &self.backward),
                    false => (&mut self.backward, &self.forward),
                };
                for at in (center - d..=center + d).step_by(2) {
                    let is_down = at == center - d || (at != center + d && list[at - 1] < list[at + 1]);
                    let mut x = if d == 0 {
                        0
                    } else if is_down {
                        list[at + 1]
                    } else {
                        list[at - 1] + 1
                    };
                    // Outside of the lines: no path leads there.
                    let Some(mut y) = (x + center).checked_sub(at).filter(|y| x <= o && *y <= n) else {
                        list[at] = x;
                        continue;
                    };
                    let start = (x, y);
                    let equal = |x: usize, y: usize| match is_forward {
                        true => old[x] == new[y],
                        false => old[o - 1 - x] == new[n - 1 - y],
                    };
                    while x < o && y < n && equal(x, y) {
                        (x, y) = (x + 1, y + 1);
                    }
                    self.steps = self.steps.checked_sub(x - start.0)?;
                    list[at] = x;
                    let reach = match is_forward {
                        true => d.checked_sub(1),
                        false => Some(d),
                    };
                    let meets = mirrored(at).filter(|at| reach.is_some_and(|reach| at.abs_diff(center) <= reach));
                    if is_forward == is_odd && meets.is_some_and(|at| x + other[at] >= o) {
                        return Some(if is_forward { start } else { (o - x, n - y) });
                    }
                    if is_forward && x + y > furthest.0 + furthest.1 {
                        furthest = (x, y);
                    }
                }
            }
        }
        Some(furthest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Random;

    fn text(old: &str, new: &str) -> String {
        String::from_utf8(compare(old.as_bytes(), new.as_bytes()).hunks).expect("both are text")
    }

    #[test]
    fn hunks_are_those_of_diff() {
        assert_eq!(text("", ""), "");
        assert_eq!(text("a\n", "a\n"), "");
        assert_eq!(text("", "a\nb\n"), "@@ -0,0 +1,2 @@\n+a\n+b\n");
        assert_eq!(text("a\n", ""), "@@ -1 +0,0 @@\n-a\n");
        assert_eq!(text("a\nb\nc\n", "a\nB\nc\n"), "@@ -1,3 +1,3 @@\n a\n-b\n+B\n c\n");
        assert_eq!(text("a", "a\n"), "@@ -1 +1 @@\n-a\n\\ No newline at end of file\n+a\n");
        assert_eq!(
            text("1\n2\n3\n4\n5\n6", "1\n2\n3\n4\n5\n6\n7"),
            "@@ -3,4 +3,5 @@\n 3\n 4\n 5\n-6\n\\ No newline at end of file\n+6\n+7\n\\ No newline at end of file\n"
        );
    }

    #[test]
    fn near_changes_share_a_hunk() {
        let old: String = (1..=30).map(|n| format!("{n}\n")).collect();
        let new = old.replace("10\n", "ten\n").replace("17\n", "").replace("25\n", "25\nmore\n");
        assert_eq!(
            text(&old, &new),
            "@@ -7,14 +7,13 @@\n 7\n 8\n 9\n-10\n+ten\n 11\n 12\n 13\n 14\n 15\n 16\n-17\n 18\n 19\n 20\n\
             @@ -23,6 +22,7 @@\n 23\n 24\n 25\n+more\n 26\n 27\n 28\n"
        );
        let diff = compare(old.as_bytes(), new.as_bytes());
        assert_eq!((diff.removed, diff.added), (2, 2));
    }

    /// Applies hunks as patch(1) does, and refuses those that do not fit.
    fn patched(old: &[u8], hunks: &[u8]) -> Vec<u8> {
        let old = lines(old);
        let (mut at, mut new) = (0, Vec::new());
        let mut rest = lines(hunks).into_iter().peekable();
        while let Some(line) = rest.next() {
            let next_is_mark = rest.peek().is_some_and(|next| next.starts_with(b"\\"));
            let body = if next_is_mark { line[1..].strip_suffix(b"\n").unwrap() } else { &line[1..] };
            match line[0] {
                b'@' => {
                    let header = std::str::from_utf8(line).unwrap();
                    let range = header.split(' ').nth(1).unwrap().trim_start_matches('-');
                    let (start, count) = range.split_once(',').unwrap_or((range, "1"));
                    let start: usize = start.parse().unwrap();
                    let start = if count == "0" { start } else { start - 1 };
                    new.extend(old[at..start].concat());
                    at = start;
                }
                b'\\' => {}
                b'+' => new.extend_from_slice(body),
                mark => {
                    assert_eq!(old[at], body, "the context fits");
                    at += 1;
                    if mark == b' ' {
                        new.extend_from_slice(body);
                    }
                }
            }
        }
        new.extend(old[at..].concat());
        new
    }

    /// The length of the longest common list of lines, by the whole table.
    fn most_shared(old: &[&[u8]], new: &[&[u8]]) -> usize {
        let mut last = vec![0; new.len() + 1];
        for line in old {
            let mut row = vec![0];
            for (at, other) in new.iter().enumerate() {
                row.push(if line == other { last[at] + 1 } else { last[at + 1].max(row[at]) });
            }
            last = row;
        }
        last[new.len()]
    }

    #[test]
    fn any_difference_applies_and_is_the_shortest() {
        let mut random = Random::new(7);
        for round in 0..20_000 {
            let letters = 1 + random.below(6);
            let file = |random: &mut Random| -> Vec<u8> {
                let length = random.below(30);
                (0..length)
                    .map(|_| if random.below(3) == 0 { b'\n' } else { b'a' + random.below(letters) as u8 })
                    .collect()
            };
            let (old, new) = (file(&mut random), file(&mut random));
            let diff = compare(&old, &new);
            assert_eq!(patched(&old, &diff.hunks), new, "{round}: {old:?} {new:?}");
            let shared = most_shared(&lines(&old), &lines(&new));
            let (removed, added) = (lines(&old).len() - shared, lines(&new).len() - shared);
            assert_eq!((diff.removed, diff.added), (removed, added), "{round}: {old:?} {new:?}");
        }
    }

    /// Files with equal lines in another order are the worst case, in which the search stops early.
    #[test]
    fn huge_differences_apply_too() {
        let mut random = Random::new(1);
        for (count, different, most_steps) in
            [(5_000, 5_000, MOST_STEPS), (5_000, 3, MOST_STEPS), (20_000, 20_000, 100_000), (20_000, 3, 100_000)]
        {
            let mut file = || -> Vec<u8> {
                (0..count).flat_map(|_| format!("{}\n", random.below(different)).into_bytes()).collect()
            };
            let (old, new) = (file(), file());
            let diff = compare_within(&old, &new, MOST_LINES, most_steps);
            assert_eq!(patched(&old, &diff.hunks), new);
        }
        let (old, new) = (b"\n".repeat(200), b"\na\n".repeat(100));
        let diff = compare_within(&old, &new, 100, MOST_STEPS);
        assert_eq!(patched(&old, &diff.hunks), new);
    }
}
