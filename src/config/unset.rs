//! Reports each `$` of a configuration without a value: an unset variable, an unclosed `${`. Reads no environment.
//! Never shows the value of a variable, nor a part of a password that looks like a name.

use std::collections::HashSet;

use super::document::Document;
use super::excerpt::hides;
use super::expand::{Substitution, is_name};
use super::report::{Report, quoted};
use super::strings::{line_end, string_end};

/// Reports every `$` of every file without a value, unless a finding already names its variable. Ignores a `$` in a
/// comment, unless text after the comment is lost.
pub(super) fn check(report: &Report) {
    for (number, file) in report.files().iter().enumerate() {
        let comments = Comments::of(&file.expanded.bytes);
        // Neighbours with one name give one finding, because a file of `$1$1...` has millions.
        let (mut start, mut names) = (None, HashSet::new());
        for one in file.expanded.substitutions.iter().filter(|one| !one.set) {
            let is_on_one_line = !file.written(one.written.clone()).contains(&b'\n');
            if is_on_one_line && comments.contain(one.start()) {
                continue;
            }
            if report.is_full() {
                return;
            }
            if start != Some(one.start()) {
                start = Some(one.start());
                names.clear();
            }
            if !names.insert(&one.name) {
                continue;
            }
            report.left_out(number, one, &message(file, one));
        }
    }
}

fn message(file: &Document, one: &Substitution) -> String {
    const AS_TEXT: &str = "write `${$}` for a `$` as text";
    let written = file.written(one.written.clone());
    let shown = quoted(&String::from_utf8_lossy(written));
    let last_line = file.line_of(one.written.end - 1);
    if last_line > file.line_of(one.written.start) {
        let line = last_line + 1;
        return format!("all from this `${{` to the next `}}`, on line {line}, is left out: close it, or {AS_TEXT}");
    }
    let Some(name) = &one.name else {
        let what = if written.ends_with(b"}") { "names no variable" } else { "has no closing `}`" };
        return format!("{shown} is left out, it {what}: {AS_TEXT}");
    };
    if !is_shown(file, one, name) {
        return format!("a part of this value is left out, it is taken for a variable that is not set: {AS_TEXT}");
    }
    let name = quoted(&String::from_utf8_lossy(name));
    match one.name.as_deref() {
        // Such a variable cannot be set.
        Some([b'*' | b'#' | b'$' | b'@' | b'!' | b'?' | b'-' | b'0'..=b'9', ..]) => {
            format!("{shown} is left out, the variable {name} is not set: {AS_TEXT}")
        }
        _ if written.windows(2).any(|pair| pair == b":-") => {
            let rule = "a default needs a name of letters, digits and `_`";
            format!("{shown} is left out, the variable {name} is not set: {rule}, or {AS_TEXT}")
        }
        _ => format!("{shown} is left out, the variable {name} is not set: set it, or {AS_TEXT}"),
    }
}

/// Whether a name may be shown. In a line with a secret it may be a part of the secret, as in `pa$word`, unless it is
/// in braces or alone between quotes.
fn is_shown(file: &Document, one: &Substitution, name: &[u8]) -> bool {
    let line = file.line(file.line_of(one.written.start) + 1);
    if !line.is_empty() && !hides(&line) {
        return true;
    }
    let is_in_braces = file.written(one.written.clone()).starts_with(b"${") && is_name(name);
    let quote = |byte: Option<&u8>| matches!(byte, Some(b'"' | b'\''));
    let before = one.written.start.checked_sub(1).map(|at| file.written(at..one.written.start));
    let is_alone = quote(before.and_then(|before| before.first())) && quote(file.after(one.written.end));
    is_in_braces || is_alone
}

/// The ranges of the comments in a TOML text, in order: from behind the `#` to the end of the line.
struct Comments(Vec<(usize, usize)>);

impl Comments {
    fn of(text: &[u8]) -> Comments {
        let mut found = Vec::new();
        let mut at = 0;
        while let Some(byte) = text.get(at) {
            at = match byte {
                b'#' => {
                    let end = line_end(text, at);
                    found.push((at + 1, end));
                    end
                }
                b'"' | b'\'' => string_end(text, at).0,
                _ => at + 1,
            };
        }
        Comments(found)
    }

    /// Text that is inserted at the end of a comment is a part of the comment.
    fn contain(&self, at: usize) -> bool {
        let behind = self.0.partition_point(|(start, _)| *start <= at);
        behind.checked_sub(1).is_some_and(|last| at <= self.0[last].1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `|` marks the place of a substitution.
    #[track_caller]
    fn check(text: &str, expected: bool) {
        let at = text.find('|').expect("a place");
        assert_eq!(Comments::of(text.replace('|', "").as_bytes()).contain(at), expected, "{text}");
    }

    #[test]
    fn finds_comments() {
        check("# |", true);
        check("#|", true);
        check("|# a", false);
        check("a = 1 # |\nb", true);
        check("a = 1 # b\n|b", false);
        check("a = '#|'", false);
        check("a = \"\\\"#|\"", false);
        check("a = '\\' # |", true);
        check("a = '''\n'#\n|''' # b", false);
        check("a = \"\"\"\n\\\"\"\"\" # |", true);
        check("a = \"\"\"x\"\"\"\"\" # |", true);
        check("a = \"x # |", false);
        check("a = \"x\n# |", true);
    }
}
