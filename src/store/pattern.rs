//! Go's path.Match on bytes: `*` and `?` do not match `/`; `[a-z]`, `[^a]`, `\x`. The whole pattern is checked when it
//! is built, so that a malformed pattern is an error for any keys.

use std::fmt;

/// A checked pattern (<https://pkg.go.dev/path#Match>).
#[derive(Debug)]
pub struct Pattern {
    /// Every match begins with these bytes.
    prefix: Vec<u8>,
    /// The rest of the pattern, split before every run of `*`; at least one chunk.
    chunks: Vec<Chunk>,
}

/// The pattern is malformed (Go's path.ErrBadPattern).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BadPattern {
    why: &'static str,
}

#[derive(Debug, Default)]
struct Chunk {
    /// A `*` stands before this chunk: the chunk may match later in the same path element.
    floating: bool,
    tokens: Vec<Token>,
}

#[derive(Debug)]
enum Token {
    Literal(Vec<u8>),
    /// `?`: any character except `/`.
    Any,
    /// One character, also `/`: Go excludes `/` only for `*` and `?`.
    Class {
        negated: bool,
        ranges: Vec<(char, char)>,
    },
}

impl Pattern {
    /// Reads a pattern in the syntax of Go's path.Match.
    ///
    /// # Errors
    /// A class that is empty or not closed, a range without one of its ends, or a `\` at the end.
    pub fn new(pattern: &[u8]) -> Result<Pattern, BadPattern> {
        // Most patterns are a long path with one `*` at the end. The path is taken at once and not byte by byte.
        let literal = pattern.iter().position(|byte| matches!(byte, b'*' | b'?' | b'[' | b'\\'));
        let (literal, mut rest) = pattern.split_at(literal.unwrap_or(pattern.len()));
        let mut prefix = literal.to_vec();
        let mut chunks = vec![Chunk::default()];
        while let Some(byte) = take(&mut rest) {
            let token = match byte {
                b'*' => {
                    if chunks.len() == 1 || !last(&mut chunks).tokens.is_empty() {
                        chunks.push(Chunk { floating: true, tokens: Vec::new() });
                    }
                    continue;
                }
                b'?' => Token::Any,
                b'[' => class(&mut rest)?,
                b'\\' => {
                    let escaped = take(&mut rest).ok_or(BadPattern { why: "nothing follows the `\\` at its end" })?;
                    Token::Literal(vec![escaped])
                }
                literal => Token::Literal(vec![literal]),
            };
            let only = chunks.len() == 1;
            let tokens = &mut last(&mut chunks).tokens;
            match (token, tokens.last_mut()) {
                (Token::Literal(bytes), None) if only => prefix.extend(bytes),
                (Token::Literal(bytes), Some(Token::Literal(run))) => run.extend(bytes),
                (token, _) => tokens.push(token),
            }
        }
        Ok(Pattern { prefix, chunks })
    }

    /// The unescaped text before the first metacharacter. Every match begins with it.
    pub fn prefix(&self) -> &[u8] {
        &self.prefix
    }

    /// Whether the pattern has no metacharacter and matches its prefix only.
    pub fn is_literal(&self) -> bool {
        matches!(&self.chunks[..], [only] if only.tokens.is_empty())
    }

    /// The number of `/` in every match; `None`: a class may match `/`, so the number varies.
    pub fn depth(&self) -> Option<usize> {
        let slashes = |bytes: &[u8]| bytes.iter().filter(|byte| **byte == b'/').count();
        let mut depth = slashes(&self.prefix);
        for token in self.chunks.iter().flat_map(|chunk| &chunk.tokens) {
            match token {
                Token::Literal(bytes) => depth += slashes(bytes),
                Token::Any => {}
                Token::Class { negated, ranges } if class_takes(*negated, ranges, '/') => return None,
                Token::Class { .. } => {}
            }
        }
        Some(depth)
    }

    /// Whether the pattern matches the whole path. Every chunk takes the first place where it matches, and no earlier
    /// `*` is retried, as in Go. So the time is at most the product of both lengths.
    pub fn matches(&self, path: &[u8]) -> bool {
        path.strip_prefix(&self.prefix[..]).is_some_and(|rest| self.matches_behind_prefix(rest))
    }

    /// Whether the pattern matches a path that begins with its prefix, which is taken off.
    pub fn matches_behind_prefix(&self, mut rest: &[u8]) -> bool {
        for (index, chunk) in self.chunks.iter().enumerate() {
            let is_last = index + 1 == self.chunks.len();
            let Some(after) = chunk.find(rest, is_last) else {
                return false;
            };
            rest = after;
        }
        true
    }
}

impl fmt::Display for BadPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.why)
    }
}

impl std::error::Error for BadPattern {}

impl Chunk {
    /// The text after the match of this chunk. The last chunk has to match up to the end.
    fn find<'t>(&self, text: &'t [u8], is_last: bool) -> Option<&'t [u8]> {
        // A `*` skips bytes, not characters, up to the next `/`.
        let skips = match self.floating {
            true => text.iter().position(|byte| *byte == b'/').unwrap_or(text.len()),
            false => 0,
        };
        if is_last && self.floating && self.tokens.is_empty() {
            return (skips == text.len()).then_some(&[]);
        }
        let can_begin = |text: &[u8]| match self.tokens.first() {
            Some(Token::Literal(bytes)) => text.first() == bytes.first(),
            Some(Token::Any | Token::Class { .. }) | None => true,
        };
        let places = (0..=skips).map(|skip| &text[skip..]).filter(|text| can_begin(text));
        places.filter_map(|text| self.strip(text)).find(|rest| rest.is_empty() || !is_last)
    }

    /// The rest of a text that begins with this chunk.
    fn strip<'t>(&self, text: &'t [u8]) -> Option<&'t [u8]> {
        let mut rest = text;
        for token in &self.tokens {
            rest = match token {
                Token::Literal(bytes) => rest.strip_prefix(&bytes[..])?,
                Token::Any if rest.first()? == &b'/' => return None,
                Token::Any => &rest[first_char(rest)?.1..],
                Token::Class { negated, ranges } => {
                    let (char, length) = first_char(rest)?;
                    class_takes(*negated, ranges, char.unwrap_or(char::REPLACEMENT_CHARACTER))
                        .then_some(&rest[length..])?
                }
            };
        }
        Some(rest)
    }
}

/// Parses a class after its `[`.
fn class(rest: &mut &[u8]) -> Result<Token, BadPattern> {
    let negated = rest.first() == Some(&b'^');
    if negated {
        take(rest);
    }
    let mut ranges = Vec::new();
    while ranges.is_empty() || rest.first() != Some(&b']') {
        let low = class_char(rest)?;
        let mut high = low;
        if rest.first() == Some(&b'-') {
            take(rest);
            high = class_char(rest)?;
        }
        ranges.push((low, high));
    }
    take(rest);
    Ok(Token::Class { negated, ranges })
}

fn class_char(rest: &mut &[u8]) -> Result<char, BadPattern> {
    let not_closed = BadPattern { why: "a class `[` is not closed" };
    match rest.first().ok_or(not_closed)? {
        b'-' => {
            return Err(BadPattern { why: "a `-` in a class lacks its lower end (a literal one is `\\-`)" });
        }
        b']' => {
            return Err(BadPattern {
                why: "a class is empty or a range in it lacks its upper end (a literal `]` is `\\]`)",
            });
        }
        b'\\' => _ = take(rest),
        _ => {}
    }
    let (char, length) = first_char(rest).ok_or(not_closed)?;
    *rest = &rest[length..];
    char.ok_or(BadPattern { why: "a class holds bytes that are not UTF-8" })
}

fn class_takes(negated: bool, ranges: &[(char, char)], char: char) -> bool {
    ranges.iter().any(|(low, high)| (low..=high).contains(&&char)) != negated
}

/// The first character and its length; `None` in place of the character: the byte begins no character, and its length
/// is 1.
fn first_char(text: &[u8]) -> Option<(Option<char>, usize)> {
    let length = match text.first()? {
        0xc2..=0xdf => 2,
        0xe0..=0xef => 3,
        0xf0..=0xf4 => 4,
        _ => 1,
    };
    let char = text.get(..length).and_then(|bytes| str::from_utf8(bytes).ok()).and_then(|text| text.chars().next());
    Some((char, if char.is_some() { length } else { 1 }))
}

fn take(rest: &mut &[u8]) -> Option<u8> {
    let (&byte, after) = rest.split_first()?;
    *rest = after;
    Some(byte)
}

fn last(chunks: &mut [Chunk]) -> &mut Chunk {
    chunks.last_mut().expect("a pattern has at least one chunk")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Random;

    #[track_caller]
    fn check(pattern: &str, path: &str, want: bool) {
        let built = Pattern::new(pattern.as_bytes()).unwrap();
        assert_eq!(built.matches(path.as_bytes()), want, "{pattern:?} on {path:?}");
    }

    #[track_caller]
    fn check_bad(pattern: &[u8], want: &str) {
        let error = Pattern::new(pattern).unwrap_err().to_string();
        assert!(error.contains(want), "{:?} gives {error:?}", pattern.escape_ascii().to_string());
    }

    #[test]
    fn literals() {
        check("", "", true);
        check("", "a", false);
        check("abc", "abc", true);
        check("abc", "abcd", false);
        check("abc", "ab", false);
        check("a]b", "a]b", true);
        check("a-b^c", "a-b^c", true);
    }

    #[test]
    fn star() {
        check("*", "", true);
        check("*", "abc", true);
        check("*", "/", false);
        check("*", "a/b", false);
        check("*c", "abc", true);
        check("a*", "a", true);
        check("a*", "abc", true);
        check("a*", "ab/c", false);
        check("a**", "abc", true);
        check("a*/b", "abc/b", true);
        check("a*/b", "a/c/b", false);
        check("a*b*c*d*e*/f", "axbxcxdxe/f", true);
        check("a*b*c*d*e*/f", "axbxcxdxexxx/f", true);
        check("a*b*c*d*e*/f", "axbxcxdxe/xxx/f", false);
        check("a*b*c*d*e*/f", "axbxcxdxexxx/fff", false);
        check("*x", "xxx", true);
        check("*ab", "aab", true);
        check("*ab", "aba", false);
        check("a*b?c*x", "abxbbxdbxebxczzx", true);
        check("a*b?c*x", "abxbbxdbxebxczzy", false);
        check("/*/*", "/a/b", true);
        check("/*/*", "/a/b/c", false);
        check("/*", "/", true);
    }

    #[test]
    fn question_mark() {
        check("a?b", "axb", true);
        check("a?b", "a/b", false);
        check("a?b", "ab", false);
        check("a?b", "a☺b", true);
        check("a??b", "a☺b", false);
        check("?", "", false);
        check("*?", "a", true);
        check("*?", "", false);
        check("?*", "☺", true);
    }

    #[test]
    fn class() {
        check("ab[c]", "abc", true);
        check("ab[b-d]", "abc", true);
        check("ab[e-g]", "abc", false);
        check("ab[^c]", "abc", false);
        check("ab[^b-d]", "abc", false);
        check("ab[^e-g]", "abc", true);
        check("a[^a]b", "a☺b", true);
        check("a[^a][^a][^a]b", "a☺b", false);
        check("[a-ζ]*", "α", true);
        check("*[a-ζ]", "A", false);
        check("[b-a]", "a", false);
        check("[x^]", "^", true);
        check("[[]", "[", true);
        check("[*?]", "*", true);
        check("[*?]", "a", false);
        check("[a]", "", false);
        check("[\\-x]", "-", true);
        check("[\\]a]", "]", true);
        check("[\\]*]", "*", true);
    }

    #[test]
    fn class_takes_a_slash() {
        check("a[/]b", "a/b", true);
        check("a[^x]b", "a/b", true);
        check("a[.-0]b", "a/b", true);
        // Go does not retry a chunk: `*` matches nothing, `[^x]b` matches `ab`, and `*c` does not match beyond the `/`.
        check("*[^x]b*c", "ab/bc", false);
    }

    #[test]
    fn escape() {
        check("a\\*b", "a*b", true);
        check("a\\*b", "axb", false);
        check("\\[x\\]", "[x]", true);
        check("a\\\\*", "a\\b", true);
        check("\\a", "a", true);
    }

    #[test]
    fn malformed() {
        check_bad(b"[", "not closed");
        check_bad(b"[^", "not closed");
        check_bad(b"[^bc", "not closed");
        check_bad(b"a[", "not closed");
        check_bad(b"/zone/[a-", "not closed");
        check_bad(b"[a\\", "not closed");
        check_bad(b"[]a]", "empty");
        check_bad(b"[^]a]", "empty");
        check_bad(b"[-]", "lower end");
        check_bad(b"[x-]", "upper end");
        check_bad(b"[-x]", "lower end");
        check_bad(b"[a-b-c]", "lower end");
        check_bad(b"a\\", "nothing follows");
        check_bad(b"[\xff]", "not UTF-8");
        // Since Go 1.16 these are errors although no text is compared with them.
        check_bad(b"zzz/*/[", "not closed");
        check_bad(b"*[]", "empty");
    }

    #[test]
    fn bytes_that_are_not_utf8() {
        let check = |pattern: &[u8], path: &[u8], want| {
            assert_eq!(Pattern::new(pattern).unwrap().matches(path), want, "{}", pattern.escape_ascii());
        };
        check(b"/\xff*", b"/\xff\xfe", true);
        check(b"a?b", b"a\xffb", true);
        check(b"a?b", b"a\xff\xffb", false);
        check(b"a[^b]c", b"a\xffc", true);
        check(b"\\\xff", b"\xff", true);
        // A byte of a broken character counts as U+FFFD.
        check("a[\u{fffd}]b".as_bytes(), b"a\xe2\x98b", false);
        check("a[\u{fffd}][\u{fffd}]b".as_bytes(), b"a\xe2\x98b", true);
        check(b"?", b"\xed\xa0\x80", false);
    }

    #[test]
    fn prefix_and_depth() {
        let check = |pattern: &str, prefix: &str, literal: bool, depth: Option<usize>| {
            let built = Pattern::new(pattern.as_bytes()).unwrap();
            assert_eq!(String::from_utf8_lossy(built.prefix()), prefix, "{pattern:?}");
            assert_eq!(built.is_literal(), literal, "{pattern:?}");
            assert_eq!(built.depth(), depth, "{pattern:?}");
        };
        check("", "", true, Some(0));
        check("/a/b", "/a/b", true, Some(2));
        check("/a/b*", "/a/b", false, Some(2));
        check("/a\\*b/?/c", "/a*b/", false, Some(3));
        check("*/a", "", false, Some(1));
        check("/a/[x-z]/b", "/a/", false, Some(3));
        check("/a/[^x]", "/a/", false, None);
        check("/a/[+-9]", "/a/", false, None);
    }

    #[test]
    fn many_stars_take_no_exponential_time() {
        let pattern = "*a".repeat(1_000) + "b";
        check(&pattern, &"a".repeat(20_000), false);
    }

    /// Backtracks over every length of every `*`; correct if no class matches `/`.
    fn backtracks(tokens: &[Token], text: &[u8]) -> bool {
        let Some((token, after)) = tokens.split_first() else {
            return text.is_empty();
        };
        match token {
            Token::Literal(bytes) if bytes == b"*" => (0..=text.len())
                .take_while(|taken| !text[..*taken].contains(&b'/'))
                .any(|taken| backtracks(after, &text[taken..])),
            Token::Literal(bytes) => text.strip_prefix(&bytes[..]).is_some_and(|rest| backtracks(after, rest)),
            Token::Any => {
                first_char(text).is_some_and(|(char, length)| char != Some('/') && backtracks(after, &text[length..]))
            }
            Token::Class { negated, ranges } => first_char(text).is_some_and(|(char, length)| {
                class_takes(*negated, ranges, char.unwrap_or(char::REPLACEMENT_CHARACTER))
                    && backtracks(after, &text[length..])
            }),
        }
    }

    #[test]
    fn agrees_with_backtracking() {
        let mut random = Random::new(7);
        let mut matched = 0;
        for _ in 0..200_000 {
            let (mut pattern, mut tokens) = (Vec::new(), Vec::new());
            for _ in 0..random.below(7) {
                let (text, token): (&[u8], Token) = match random.below(8) {
                    0 | 1 => (b"*", Token::Literal(b"*".to_vec())),
                    2 => (b"?", Token::Any),
                    3 => (b"[a]", Token::Class { negated: false, ranges: vec![('a', 'a')] }),
                    4 => (b"[a-b]", Token::Class { negated: false, ranges: vec![('a', 'b')] }),
                    5 => (b"/", Token::Literal(b"/".to_vec())),
                    6 => (b"\\b", Token::Literal(b"b".to_vec())),
                    _ => (b"a", Token::Literal(b"a".to_vec())),
                };
                pattern.extend(text);
                tokens.push(token);
            }
            let text: Vec<u8> = (0..random.below(8)).map(|_| *random.pick(b"aab/\xc3")).collect();
            let want = backtracks(&tokens, &text);
            let got = Pattern::new(&pattern).unwrap().matches(&text);
            assert_eq!(got, want, "{} on {}", pattern.escape_ascii(), text.escape_ascii());
            matched += usize::from(got);
        }
        assert!(matched > 5_000, "only {matched} texts matched");
    }

    #[test]
    fn any_bytes_give_a_pattern_or_an_error() {
        let mut random = Random::new(11);
        let mut built = 0;
        for _ in 0..100_000 {
            let pattern: Vec<u8> = (0..random.below(10)).map(|_| *random.pick(b"ab/*?[]^-\\\xc3\xa9")).collect();
            let text: Vec<u8> = (0..random.below(10)).map(|_| *random.pick(b"ab/*[]\xc3\xa9")).collect();
            let Ok(pattern) = Pattern::new(&pattern) else {
                continue;
            };
            built += 1;
            if pattern.matches(&text) {
                assert!(text.starts_with(pattern.prefix()));
                let slashes = text.iter().filter(|byte| **byte == b'/').count();
                assert!(pattern.depth().is_none_or(|depth| depth == slashes));
            }
        }
        assert!(built > 5_000, "only {built} patterns were well formed");
    }
}
