//! Patterns and their matches, compared with those of Go's regexp.
//! Hostile patterns and texts take linear time.

use super::*;
use crate::template::fixture::usual;

fn check(pattern: &str, text: &str, expected: &[&str]) {
    let pattern = Pattern::compile(pattern).unwrap_or_else(|e| panic!("{pattern}: {e}"));
    let meter = usual();
    let mut found = Vec::new();
    let mut at = 0;
    while let Some((from, to)) = pattern.find(&meter, text.as_bytes(), at).expect("it is cheap") {
        found.push(&text[from..to]);
        at = to;
    }
    assert_eq!(found, expected, "{text}");
}

fn fails(pattern: &str, expected: &str) {
    assert_eq!(Pattern::compile(pattern).err().as_deref(), Some(expected), "{pattern}");
}

#[test]
fn matches_are_leftmost_and_prefer_what_stands_first() {
    check("a|ab", "abab", &["a", "a"]);
    check("(?:ab|a)b?", "abb ab a", &["abb", "ab", "a"]);
    check("<.*>", "<a><b>\n<c>", &["<a><b>", "<c>"]);
    check("<.*?>", "<a><b>", &["<a>", "<b>"]);
    check("(?s)<.*>", "<a>\n<b>", &["<a>\n<b>"]);
    check("x*", "axxa", &["xx"]);
    check("(a*)*b", &"a".repeat(2000), &[]);
}

#[test]
fn classes_and_counts() {
    check("[a-c]+", "abcd", &["abc"]);
    check("[^a-c]+", "abcdé", &["dé"]);
    check("[]a]+", "a]b", &["a]"]);
    check(r"[\w-]+", "a-b c", &["a-b", "c"]);
    check(r"[\D]+", "12ab", &["ab"]);
    check(r"\d{2}", "1234 5", &["12", "34"]);
    check("a{2,}", "a aa aaa", &["aa", "aaa"]);
    check("a{1,2}", "aaa", &["aa", "a"]);
    check("a{,2}", "aa{,2}", &["a{,2}"]);
    check("(?i)aB", "ab AB", &["ab", "AB"]);
    check("[[:alpha:]]+", "a1b", &["a", "b"]);
    check(r"\bb\b", "b ab b", &["b", "b"]);
    check(r"\x41\x{e9}", "Aé", &["Aé"]);
    check("^a|a$", "aaa", &["a", "a"]);
}

#[test]
fn what_is_no_pattern() {
    fails("(", "a `(` is not closed");
    fails("a)", "a `)` closes nothing");
    fails("[a", "a `[` is not closed");
    fails("*", "a repetition follows nothing");
    fails("a**", "a repetition is repeated");
    fails("a{1001}", "the count `{1001}` is out of range");
    fails("[z-a]", "the range `z-a` is empty");
    fails(r"\q", r"there is no `\q`");
    fails("((a{500}){500}){500}", "it is too large");
    fails(&"(".repeat(5000), "it is nested too deeply");
    assert!(Pattern::compile(&"a|".repeat(500)).is_ok());
}
