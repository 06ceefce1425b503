//! The line of a finding, as far as it may be shown: a line of the file on disk, never an expanded line, because a
//! variable may hold a secret. Errors at the start reach central logs, so a value is shown only if it is the subject of
//! the message.

use core::net::Ipv6Addr;

use super::expand::is_name;
use super::strings::string_end;
use crate::nearest::nearest;
use crate::width;

/// The values of a line that are shown. A value that is one variable is always shown as its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shows {
    /// The string at the place, and what is no string.
    Subject,
    /// The same without the part of the string that may be a password: the place is an address.
    Address,
    /// Numbers and booleans: the line is no TOML, or the type of a value is wrong.
    Numbers,
    /// All: the line sets one known key that is no secret.
    Line,
    /// None: the key may have any meaning.
    Keys,
}

/// A line with its number, and a caret below it. `column`: the place, in characters from 1. `is_known`: whether a word is
/// a key of some table. Nothing for a blank line.
pub(super) fn excerpt(
    line: &str,
    number: usize,
    column: usize,
    shows: Shows,
    is_known: &dyn Fn(&str) -> bool,
) -> String {
    let place = line.char_indices().nth(column - 1).map_or(line.len(), |(at, _)| at);
    let (clear, hides) = without_secret(line);
    let has_secret = named_secret(line).is_some();
    let mut masked = Masked { text: String::new(), place, caret: None, shows, is_known, has_secret };
    masked.write(clear);
    // The caret of a hidden place points at the beginning of the hidden part.
    let caret = masked.caret.map_or(masked.text.len(), |caret| caret.min(masked.text.len()));
    let after = if hides && !masked.text.ends_with(HIDDEN) { HIDDEN } else { "" };
    around(&masked.text, caret, after, number)
}

const HIDDEN: &str = "...";

/// A line whose values are replaced.
struct Masked<'a> {
    text: String,
    /// The place in the line, in bytes, and in the text.
    place: usize,
    caret: Option<usize>,
    shows: Shows,
    is_known: &'a dyn Fn(&str) -> bool,
    /// The line has a word like `password`.
    has_secret: bool,
}

impl Masked<'_> {
    fn write(&mut self, line: &str) {
        let is_header = line.trim_start().starts_with('[');
        // The brackets that are open, and whether a key may follow.
        let (mut open, mut is_value, mut is_key_next) = (Vec::new(), false, true);
        let mut at = 0;
        while let Some(first) = line[at..].chars().next() {
            let end = match first {
                '"' | '\'' => string_end(line.as_bytes(), at).0,
                '#' => line.len(),
                _ if is_part(first) => at + line[at..].find(|c| !is_part(c)).unwrap_or(line.len() - at),
                _ => at + first.len_utf8(),
            };
            let (piece, is_subject) = (&line[at..end], at <= self.place && self.place < end);
            let is_key = || is_key_next && line[end..].trim_start().starts_with('=');
            match first {
                // A comment may have anything in it.
                '#' if is_subject => {
                    self.caret = Some(self.text.len());
                    self.text.extend(["# ", HIDDEN]);
                }
                '#' => self.text.truncate(self.text.trim_end().len()),
                '"' | '\'' => match self.shows {
                    _ if is_key() || is_variable(piece.trim_matches(first)) => self.copy(piece, at),
                    Shows::Line => self.copy(piece, at),
                    Shows::Subject if is_subject => self.copy(piece, at),
                    Shows::Address if is_subject => self.copy_address(piece, at),
                    _ => self.hide_string(piece, at),
                },
                _ if is_part(first) => match self.shows {
                    _ if is_key() || is_header || is_variable(piece) => self.copy(piece, at),
                    _ if is_key_next && (self.is_known)(piece) => self.copy(piece, at),
                    Shows::Subject | Shows::Address | Shows::Line => self.copy(piece, at),
                    Shows::Numbers if is_value && !self.has_secret && is_scalar(piece) => self.copy(piece, at),
                    Shows::Numbers | Shows::Keys => self.hide(piece, at),
                },
                _ => {
                    match first {
                        '=' => is_value = true,
                        '{' if is_value => open.push('{'),
                        '[' if is_value => open.push('['),
                        '}' | ']' => _ = open.pop(),
                        _ => {}
                    }
                    self.copy(piece, at);
                }
            }
            is_key_next = match first {
                '{' => open.last() == Some(&'{'),
                ',' => open.last() == Some(&'{'),
                c => is_key_next && c.is_whitespace(),
            };
            at = end;
        }
    }

    /// Sets the caret, if the place is in the piece of the line that begins at `at`.
    fn point(&mut self, piece: &str, at: usize, is_copied: bool) {
        if at <= self.place && self.place < at + piece.len() {
            self.caret = Some(self.text.len() + if is_copied { self.place - at } else { 0 });
        }
    }

    fn copy(&mut self, piece: &str, at: usize) {
        self.point(piece, at, true);
        self.text += piece;
    }

    fn hide(&mut self, piece: &str, at: usize) {
        self.point(piece, at, false);
        self.text += HIDDEN;
    }

    fn hide_string(&mut self, string: &str, at: usize) {
        let quote = &string[..1];
        if string.trim_matches(['"', '\'']).is_empty() {
            return self.copy(string, at);
        }
        self.point(string, at, false);
        let closing = if string.len() > 1 && string.ends_with(quote) { quote } else { "" };
        self.text.extend([quote, HIDDEN, closing]);
    }

    fn copy_address(&mut self, string: &str, at: usize) {
        let shown = shown_part(string.trim_matches(['"', '\'']));
        if string[1..].strip_prefix(shown).is_none_or(|rest| rest.trim_matches(['"', '\'']).is_empty()) {
            return self.copy(string, at);
        }
        self.point(string, at, false);
        self.text.extend([&string[..1], shown, HIDDEN, &string[..1]]);
    }
}

/// The beginning of an address, or of several with commas between them, that has no password: no path, nothing before an
/// `@`, and behind a `:` only a port.
fn shown_part(address: &str) -> &str {
    let begin = address.find("://").map_or(0, |mark| mark + "://".len());
    let rest = &address[begin..];
    if rest.contains('@') || rest.contains("%40") {
        return &address[..begin];
    }
    if rest.starts_with('/') && !rest.contains('?') {
        return address;
    }
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    let is_ip = |host: &str| host.parse::<Ipv6Addr>().is_ok();
    let is_port = |port: &str| (port.len() < 7 && port.bytes().all(|b| b.is_ascii_digit())) || is_variable(port);
    let is_sound = |part: &str| match part.strip_prefix('[').and_then(|part| part.split_once(']')) {
        Some((host, port)) => is_ip(host) && port.strip_prefix(':').is_none_or(is_port),
        None => part.split_once(':').is_none_or(|(_, port)| is_port(port)) || is_ip(part),
    };
    let shown = match authority.split(',').all(|part| is_sound(part.trim())) {
        true => authority.len(),
        false => authority.find(':').map_or(0, |colon| colon + 1),
    };
    &address[..begin + shown]
}

fn is_part(c: char) -> bool {
    !c.is_whitespace() && !matches!(c, '=' | '[' | ']' | '{' | '}' | ',' | '"' | '\'' | '#' | ':')
}

/// Whether a value is a number or a boolean.
fn is_scalar(value: &str) -> bool {
    let is_number = value.len() < 20 && value.parse::<f64>().is_ok();
    is_number || matches!(value, "true" | "false")
}

/// Whether a value is one variable, `$NAME` or `${NAME}`.
fn is_variable(value: &str) -> bool {
    let name = value.strip_prefix('$');
    let name = name.map(|name| name.strip_prefix('{').and_then(|name| name.strip_suffix('}')).unwrap_or(name));
    name.is_some_and(|name| is_name(name.as_bytes()))
}

/// The key of a line that sets one key, by a single string or word.
pub(super) fn sole_key(line: &str) -> Option<&str> {
    let (key, value) = line.split_once('=')?;
    let is_single = match value.trim().as_bytes() {
        value @ [b'"' | b'\'', ..] => string_end(value, 0).0 == value.len(),
        value => !value.is_empty() && value.iter().all(|b| is_part(char::from(*b))),
    };
    is_single.then(|| key.trim())
}

/// The part of a text around the caret, a place in bytes. `after`: the end of the line, if it is not shown.
fn around(text: &str, caret: usize, after: &str, number: usize) -> String {
    /// At most this many characters of a line are shown, around the place.
    const WIDTH: usize = 100;
    // A control character could move the cursor or recolour the terminal.
    let shown = |c: char| match c {
        '\t' => ' ',
        c if c.is_control() => '\u{fffd}',
        c => c,
    };
    let caret = text[..caret].chars().count();
    let line: Vec<char> = text.chars().map(shown).collect();
    if line.iter().all(|c| c.is_whitespace()) {
        return String::new();
    }
    let from = if line.len() > WIDTH { line.len().min(caret.saturating_sub(WIDTH / 2)) } else { 0 };
    let to = line.len().min(from + WIDTH);
    let (before, after) = (if from > 0 { HIDDEN } else { "" }, if to < line.len() { HIDDEN } else { after });
    let text: String = line[from..to].iter().collect();
    let margin = number.to_string().len();
    let caret = before.len() + line[from..].iter().take(caret - from).map(|c| width::columns(*c)).sum::<usize>();
    format!(" {number} | {before}{text}{after}\n {:margin$} | {:caret$}^", "", "")
}

/// Whether a part of a line must not be shown.
pub(super) fn hides(line: &str) -> bool {
    without_secret(line).1
}

/// The place of the first part of a name of a secret.
fn named_secret(line: &str) -> Option<usize> {
    const PARTS: &[&str] = &["pass", "secret", "token", "authorization", "cookie", "app_id", "user_id", "role_id"];
    let lower = line.to_ascii_lowercase();
    PARTS.iter().filter_map(|part| lower.find(part)).min()
}

/// Cuts a line behind a key that may be a password or a token, or before what may be credentials in an address. Returns
/// whether the line was cut. Errors at the start reach central logs, and the caret needs the key, not the value. In
/// doubt more is cut: a password may have any character, and a key may be misspelled.
fn without_secret(line: &str) -> (&str, bool) {
    const SEPARATORS: [char; 2] = ['=', ':'];
    let named = named_secret(line).and_then(|at| Some(at + line[at..].find(SEPARATORS)?));
    let misspelled = line.match_indices(SEPARATORS).map(|(at, _)| at).find(|at| names_a_secret(&line[..*at]));
    let value = named.into_iter().chain(misspelled).min().map(|at| at + 1);
    // The address may begin behind the first quote, at the earliest. Its credentials have a `:` before the `@`.
    let quoted = line.find(['"', '\'']).map_or(0, |quote| quote + 1);
    let colon = line[quoted..].find(':').map(|at| quoted + at);
    let address = colon.and_then(|at| Some(at + line[at..].find('@')?)).map(|at| {
        let before = &line[quoted..at];
        let marks = || before.match_indices("://").map(|(mark, _)| mark);
        // Of several addresses the last one, of a mark in a password the first one.
        let begins = |mark: &usize| before[..*mark].trim_end_matches(char::is_alphanumeric).ends_with(['"', '\'']);
        let scheme = marks().filter(begins).last().or_else(|| marks().next());
        scheme.map_or(quoted, |mark| quoted + mark + "://".len())
    });
    match value.into_iter().chain(address).min() {
        Some(cut) if !line[cut..].trim().is_empty() => (&line[..cut], true),
        _ => (line, false),
    }
}

/// Whether the word at the end of a text, before a separator, is a misspelled name of a secret.
fn names_a_secret(text: &str) -> bool {
    const WORDS: [&str; 3] = ["password", "secret", "token"];
    let is_part = |c: char| c.is_alphanumeric() || matches!(c, '_' | '-');
    // Stops at the separator before, so that a line is read once.
    let text = text.trim_end_matches(|c| !is_part(c) && !matches!(c, '=' | ':'));
    text.rsplit(|c| !is_part(c)).next().is_some_and(|word| nearest(word, WORDS).is_some())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(line: &str, column: usize, shows: Shows) -> String {
        excerpt(line, 12, column, shows, &|word| matches!(word, "password" | "auth_token" | "interval" | "client_key"))
    }

    /// The line alone.
    fn first(line: &str, column: usize, shows: Shows) -> String {
        shown(line, column, shows)
            .lines()
            .next()
            .and_then(|line| line.strip_prefix(" 12 | "))
            .unwrap_or_default()
            .to_owned()
    }

    #[track_caller]
    fn check(line: &str, column: usize, expected: &str) {
        assert_eq!(shown(line, column, Shows::Subject), expected);
    }

    #[test]
    fn points_at_the_place() {
        check("interval = \"60\"", 12, " 12 | interval = \"60\"\n    |            ^");
        check("\tä = 1", 2, " 12 |  ä = 1\n    |  ^");
        check("日本 = y", 6, " 12 | 日本 = y\n    |        ^");
        check("a = ", 5, " 12 | a = \n    |     ^");
        check("   ", 1, "");
    }

    #[test]
    fn shows_no_control_characters() {
        check("a\u{1b}[31m = 1", 1, " 12 | a\u{fffd}[31m = 1\n    | ^");
    }

    #[test]
    fn shows_a_part_of_a_long_line() {
        let line = format!("{}HERE{}", "a".repeat(300), "b".repeat(300));
        let expected = format!(" 12 | ...{}HERE{}...\n    | {}^", "a".repeat(50), "b".repeat(46), " ".repeat(53));
        check(&line, 301, &expected);
        let expected = format!(" 12 | {}...\n    | ^", "a".repeat(100));
        check(&line, 1, &expected);
        let expected = format!(" 12 | ...{}\n    | {}^", "b".repeat(50), " ".repeat(53));
        check(&line, 605, &expected);
    }

    #[test]
    fn shows_no_secrets() {
        check("password = hunter2", 12, " 12 | password =...\n    |           ^");
        check("password = hunter2", 1, " 12 | password =...\n    | ^");
        check("X-Auth-Token=\"a\", b = 1", 19, " 12 | X-Auth-Token=...\n    |              ^");
        check("password =", 1, " 12 | password =\n    | ^");
        check("n = ['http://a', 'http://me:pw@b']", 18, " 12 | n = ['...', 'http://...\n    |             ^");
        check("n = 'http://me:p/w@b'", 5, " 12 | n = 'http://...\n    |     ^");
        check("n = ['http://me:p://w@b']", 6, " 12 | n = ['http://...\n    |      ^");
        check("n = ['http://me:p w@b']", 6, " 12 | n = ['http://...\n    |      ^");
        check("n = ['http://me:p\"w@b']", 6, " 12 | n = ['http://...\n    |      ^");
        check("n = 'me:pw@b:1'", 5, " 12 | n = '...\n    |     ^");
        check("pasword = 'hunter2'", 1, " 12 | pasword =...\n    | ^");
        check("a = { tokn = 'hunter2' }", 1, " 12 | a = { tokn =...\n    | ^");
        check("password: hunter2", 1, " 12 | password:...\n    | ^");
        check("h = ['Authorization: hunter2']", 1, " 12 | h = ['...\n    | ^");
        check("a = 'h:1/?password=hunter2'", 1, " 12 | a = '...\n    | ^");
        check("a = 'ops@b', n = 'me:pw@b'", 1, " 12 | a = '...\n    | ^");
        check("c = 'mail ops@b'", 1, " 12 | c = '...'\n    | ^");
    }

    #[test]
    fn shows_values_that_are_the_subject() {
        let check = |shows: Shows, column: usize, want: &str| {
            let line = "a = { b = 'one', 'c d' = [\"t\\\"wo\", 3, true], e = '$F', g = hi }  # j";
            assert_eq!(first(line, column, shows), want, "{shows:?} {column}");
        };
        check(Shows::Subject, 1, "a = { b = '...', 'c d' = [\"...\", 3, true], e = '$F', g = hi }");
        check(Shows::Subject, 11, "a = { b = 'one', 'c d' = [\"...\", 3, true], e = '$F', g = hi }");
        check(Shows::Subject, 28, "a = { b = '...', 'c d' = [\"t\\\"wo\", 3, true], e = '$F', g = hi }");
        check(Shows::Address, 11, "a = { b = 'one', 'c d' = [\"...\", 3, true], e = '$F', g = hi }");
        check(Shows::Numbers, 11, "a = { b = '...', 'c d' = [\"...\", 3, true], e = '$F', g = ... }");
        check(Shows::Keys, 11, "a = { b = '...', 'c d' = [\"...\", ..., ...], e = '$F', g = ... }");
    }

    #[test]
    fn points_at_the_beginning_of_what_is_hidden() {
        let check = |line: &str, column: usize, shows: Shows, want: &str| {
            assert_eq!(shown(line, column, shows), want);
        };
        check(
            "k = {a = 'long', b = 1}",
            22,
            Shows::Keys,
            " 12 | k = {a = '...', b = ...}\n    |                     ^",
        );
        check("a = 'long'", 8, Shows::Keys, " 12 | a = '...'\n    |     ^");
        check("[a.b]", 4, Shows::Keys, " 12 | [a.b]\n    |    ^");
        check("a.b = 5", 3, Shows::Keys, " 12 | a.b = ...\n    |   ^");
        check("a = 1 # a = 'b'", 9, Shows::Keys, " 12 | a = ... # ...\n    |         ^");
        check("# a = 'b'", 1, Shows::Keys, " 12 | # ...\n    | ^");
    }

    #[test]
    fn shows_no_secret_in_what_is_no_toml() {
        let check = |line: &str, want: &str| assert_eq!(first(line, 1, Shows::Numbers), want);
        check("password \"hunter2\"", "password \"...\"");
        check("password 'hunter2", "password '...");
        check("password hunter2", "password ...");
        check("password 123456", "password ...");
        check("auth_token hvs.hunter2.x", "auth_token ...");
        check("auth_token abc,hunter2", "auth_token ...,...");
        check("auth_token a{hunter2", "auth_token ...{...");
        check("auth_token \"a\".hunter2", "auth_token \"...\"...");
        check("auth_token 8f2e1c3a-1111", "auth_token ...");
        check("auth_token \"hunter2\" = 1", "auth_token \"...\" =...");
        check("pw:hunter2", "...:...");
        check("hunter2", "...");
        check("  hunter2,", "  ...,");
        check("pw = hunter2", "pw = ...");
        check("pw = 9abc-hunter2", "pw = ...");
        check("pw = = hunter2 3 1.5", "pw = = ... 3 1.5");
        check("\"pw\" -> \"hunter2\"", "\"...\" ... \"...\"");
        check("user 'u' pw 'hunter2'", "... '...' ... '...'");
        check("a = [hunter2, hunter3], pw hunter4", "a = [..., ...], ... ...");
        check("pw = 'a\\", "pw = '...");
        check("interval = 60 s", "interval = 60 ...");
        check("pw = \"\\日hunter2", "pw = \"...");
        check("[a.b", "[a.b");
    }

    #[test]
    fn white_space_before_a_comment_has_no_caret() {
        let check = |line: &str, column: usize, want: &str| assert_eq!(shown(line, column, Shows::Numbers), want);
        check("a = 1 \u{a0}# c", 7, " 12 | a = 1\n    |      ^");
        check("[a] \u{3000}# c", 5, " 12 | [a]\n    |    ^");
        check(" \u{a0}# c", 2, "");
        check("a = \r \r # c", 5, " 12 | a =\n    |    ^");
        for line in [
            "",
            "'",
            "\"",
            "\\",
            "a='",
            "ä=\"\\",
            "[",
            "]]}",
            ",",
            "=",
            "#",
            "日'日",
            "a = \"\"\"\"",
            "x:@",
            "'x:@",
            "$",
            "'${'",
        ] {
            for column in 1..8 {
                for shows in [Shows::Subject, Shows::Address, Shows::Numbers, Shows::Line, Shows::Keys] {
                    assert!(shown(line, column, shows).lines().count() <= 2, "{line}");
                }
            }
        }
    }

    #[test]
    fn shows_no_password_of_an_address() {
        let check = |address: &str, want: &str| {
            assert_eq!(shown_part(address), want);
            let more = if want == address { "" } else { "..." };
            let line = format!(" 12 | n = ['{want}{more}']\n    |      ^");
            if !address.contains('@') {
                assert_eq!(shown(&format!("n = ['{address}']"), 6, Shows::Address), line);
            }
        };
        for whole in
            ["ftp://h", "h:1,h:2", "[::1]:2379", "http://[fe80::1]", "::1", "h:", "/run/a.sock", "h:${PORT}", "$N", ""]
        {
            check(whole, whole);
        }
        check("http://h:1/x", "http://h:1");
        check("http://u:hunter2", "http://u:");
        check("u:hunter2%40h:1", "");
        check("u:1hunter2 h", "u:");
        check("u:12/hunter2", "u:12");
        check("http://u:hunter2＠h", "http://u:");
        check("redis://:hunter2", "redis://:");
        check("[u:hunter2", "[u:");
        check("[::1:hunter2", "[:");
        check("hunter2@h:x", "");
        check("http://me:hunter2@h:x", "http://");
        check("x:/y?api=hunter2", "x:");
        check("/y?api=hunter2", "");
    }
}
