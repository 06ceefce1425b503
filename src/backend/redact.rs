//! Masks secrets in texts of a server, because a gateway may quote its request. Finds a secret literally and as it is
//! written in JSON, URLs, HTML, base64 and escaped bytes, as a whole or cut at the end of the text. Knows only the
//! secrets that it was given, and does not select the texts.

use std::borrow::Cow;
use std::collections::VecDeque;

use base64::Engine;
use base64::prelude::{BASE64_STANDARD_NO_PAD, BASE64_URL_SAFE_NO_PAD};

use crate::cut::cut;
use crate::percent;

/// Bytes of a text that are searched; errors show far fewer. The rest is dropped.
const LONGEST_TEXT: usize = 16 * 1024;

/// The number of secrets that are kept: those of one session and some of its former tokens.
const REMEMBERED: usize = 16;

/// A shorter secret is masked only as a whole word: its letters occur in every text.
const SHORTEST: usize = 4;

/// The number of backslashes that may belong to one escape, as in JSON within JSON.
const LONGEST_ESCAPE: usize = 8;

/// The secrets of one session.
#[derive(Clone)]
pub struct Redactor {
    /// In the order in which they were added.
    secrets: VecDeque<Secret>,
    /// The number of secrets that are kept.
    most: usize,
}

#[derive(Clone, PartialEq, Eq)]
struct Secret {
    text: String,
    /// The replacement, which is shown in angle brackets.
    label: Cow<'static, str>,
    /// The base64 texts that occur wherever the secret is part of the encoded bytes.
    encoded: Vec<String>,
}

impl Default for Redactor {
    fn default() -> Redactor {
        Redactor { secrets: VecDeque::new(), most: REMEMBERED }
    }
}

impl std::fmt::Debug for Redactor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Redactor").field("secrets", &self.secrets.len()).finish()
    }
}

impl Redactor {
    /// A redactor without a limit for its number of secrets, if the caller limits it.
    pub fn of_all() -> Redactor {
        Redactor { secrets: VecDeque::new(), most: usize::MAX }
    }

    /// Adds a secret, which is shown as `<label>`. An empty text is not added.
    pub fn hide(&mut self, label: impl Into<Cow<'static, str>>, text: &str) {
        if text.is_empty() || self.secrets.iter().any(|secret| secret.text == text) {
            return;
        }
        if self.secrets.len() >= self.most {
            self.secrets.pop_front();
        }
        self.secrets.push_back(Secret { text: text.to_owned(), label: label.into(), encoded: encoded(text) });
    }

    /// Adds `user:password` of a URL, as it is written there and as a server decodes it.
    pub fn hide_credentials_of(&mut self, url: &str) {
        let Some((_, rest)) = url.split_once("://") else { return };
        // A password may contain a slash by mistake, so it ends at the last `@`.
        let Some((credentials, _)) = rest.rsplit_once('@') else { return };
        let password = credentials.split_once(':').map_or("", |(_, password)| password);
        self.hide("password", password);
        self.hide("password", &percent::decoded_text(password));
    }

    /// The text with all secrets masked, cut at the length that is searched.
    pub fn redact(&self, text: &str) -> String {
        let text = cut(text, LONGEST_TEXT);
        let mut shown = String::with_capacity(text.len());
        let mut at = 0;
        while let Some(next) = text[at..].chars().next() {
            match self.secrets.iter().filter_map(|secret| Some((secret.end(text, at)?, &*secret.label))).max() {
                Some((end, label)) => {
                    shown.extend(["<", label, ">"]);
                    at = end;
                }
                None => {
                    shown.push(next);
                    at += next.len_utf8();
                }
            }
        }
        shown
    }
}

impl Secret {
    /// The end of the secret that begins at a place of the text.
    fn end(&self, text: &str, at: usize) -> Option<usize> {
        let alone = |end: &usize| {
            let is_part = |c: Option<char>| c.is_some_and(char::is_alphanumeric);
            !is_part(text[..at].chars().next_back()) && !is_part(text[*end..].chars().next())
        };
        let plain = spelled(&self.text, &text[at..]).map(|length| at + length);
        let plain = if self.text.len() < SHORTEST { plain.filter(alone) } else { plain };
        // In base64 the whole run is masked: its edges contain a part of the secret.
        let run = |c: u8| c.is_ascii_alphanumeric() || b"+/-_=%".contains(&c);
        let starts_run = !text.as_bytes()[..at].last().is_some_and(|before| run(*before));
        let encoded = || {
            let length = text.as_bytes()[at..].iter().take_while(|c| run(**c)).count();
            let found = |place: usize| {
                text.is_char_boundary(at + place)
                    && self.encoded.iter().any(|core| spelled(core, &text[at + place..]).is_some())
            };
            (0..length).any(found).then_some(at + length)
        };
        plain.into_iter().chain(starts_run.then(encoded).flatten()).max()
    }
}

/// The number of bytes at the beginning of a text that spell the secret, in any mixture of encodings. A text that ends
/// within the secret, also in quotes, counts if enough of the secret is there.
fn spelled(secret: &str, text: &str) -> Option<usize> {
    let is_cut = |place: &&usize| matches!(&text[**place..], "" | "`");
    let mut places = vec![0];
    for (number, c) in secret.chars().enumerate() {
        if number >= SHORTEST
            && let Some(end) = places.iter().find(is_cut)
        {
            return Some(*end);
        }
        let mut next = Vec::new();
        for place in places {
            spellings(c, &text[place..], |length| {
                let end = place + length;
                if !next.contains(&end) {
                    next.push(end);
                }
            });
        }
        if next.is_empty() {
            return None;
        }
        places = next;
    }
    places.into_iter().max()
}

/// Reports the length of every encoding of a character at the beginning of a text.
fn spellings(c: char, text: &str, mut found: impl FnMut(usize)) {
    let mut utf8 = [0; 4];
    let raw = c.encode_utf8(&mut utf8);
    if text.starts_with(&*raw) {
        found(raw.len());
    }
    // JSON
    let slashes = text.bytes().take(LONGEST_ESCAPE).take_while(|b| *b == b'\\').count();
    if c == '\\' {
        (2..=slashes).for_each(&mut found);
    }
    for count in 1..=slashes {
        let rest = &text[count..];
        let short = match c {
            '\n' => Some('n'),
            '\r' => Some('r'),
            '\t' => Some('t'),
            '\u{8}' => Some('b'),
            '\u{c}' => Some('f'),
            '\\' => None,
            c => c.is_ascii_punctuation().then_some(c),
        };
        if short.is_some_and(|short| rest.starts_with(short)) {
            found(count + 1);
        }
        if begins_with(rest, "u") {
            let mut units = [0; 2];
            let escapes = c.encode_utf16(&mut units).iter().map(|unit| format!("u{unit:04x}"));
            let escape = escapes.collect::<Vec<_>>().join(&text[..count]);
            if begins_with(rest, &escape) {
                found(count + escape.len());
            }
        }
    }
    // URLs, and bytes of a protocol as messages show them
    for mark in ["%", "\\x"].into_iter().filter(|mark| text.starts_with(mark)) {
        let escapes: String = raw.bytes().map(|byte| format!("{mark}{byte:02x}")).collect();
        if begins_with(text, &escapes) {
            found(escapes.len());
        }
    }
    if c == ' ' && text.starts_with('+') {
        found(1);
    }
    // HTML
    if text.starts_with('&') {
        let named = match c {
            '"' => "&quot;",
            '&' => "&amp;",
            '<' => "&lt;",
            '>' => "&gt;",
            '\'' => "&apos;",
            _ => "&#;",
        };
        let code = u32::from(c);
        let entities = [named.to_owned(), format!("&#{code};"), format!("&#0{code};"), format!("&#x{code:x};")];
        entities.iter().filter(|entity| begins_with(text, entity)).for_each(|entity| found(entity.len()));
    }
}

/// Whether a text begins with another one, ignoring the case of ASCII letters.
fn begins_with(text: &str, beginning: &str) -> bool {
    text.get(..beginning.len()).is_some_and(|start| start.eq_ignore_ascii_case(beginning))
}

/// The base64 texts of a secret for each position in the encoded bytes, without the edges that depend on neighbours.
fn encoded(secret: &str) -> Vec<String> {
    let as_json = serde_json::Value::from(secret).to_string();
    let inner = as_json.trim_start_matches('"').trim_end_matches('"');
    let mut cores = Vec::new();
    for text in [secret, inner] {
        for before in 0..3 {
            let bytes = [&b"\0\0"[..before], text.as_bytes()].concat();
            // The characters that have no bits of the neighbours.
            let (first, end) = ((before * 8).div_ceil(6), bytes.len() * 8 / 6);
            for core in [BASE64_STANDARD_NO_PAD.encode(&bytes), BASE64_URL_SAFE_NO_PAD.encode(&bytes)] {
                let core = core[first..end].to_owned();
                // A shorter text would occur in many words.
                if core.len() > SHORTEST && !cores.contains(&core) {
                    cores.push(core);
                }
            }
        }
    }
    cores
}

#[cfg(test)]
mod tests {
    use base64::prelude::{BASE64_STANDARD, BASE64_URL_SAFE};

    use super::*;

    fn redactor(secret: &str) -> Redactor {
        let mut redactor = Redactor::default();
        redactor.hide("password", secret);
        redactor
    }

    #[track_caller]
    fn check(secret: &str, text: &str, want: &str) {
        assert_eq!(redactor(secret).redact(text), want);
    }

    const HARD: &str = "p\"a\\s's <wö&rd>/+%\u{1f600}\t!";

    #[test]
    fn every_spelling_is_masked() {
        let json = serde_json::Value::from(HARD).to_string();
        let twice = serde_json::Value::from(&*json).to_string();
        let percent: String = HARD.bytes().map(|byte| format!("%{byte:02X}")).collect();
        let go = r#"p\"a\\s's \u003cw\u00f6\u0026rd\u003e/+%\ud83d\ude00\t!"#;
        let html = "p&quot;a\\s&#39;s &lt;wö&amp;rd&gt;/+%\u{1f600}\t!";
        let form = percent.replace("%20", "+");
        for spelling in [HARD, &json[1..json.len() - 1], &twice[3..twice.len() - 3], &percent, go, html, &form] {
            check(HARD, &format!("bad {spelling} given"), "bad <password> given");
            check(HARD, spelling, "<password>");
        }
        check(HARD, &percent.to_lowercase(), "<password>");
        let bytes = HARD.as_bytes().escape_ascii().to_string();
        check(HARD, &format!("begins with `{bytes}`"), "begins with `<password>`");
    }

    #[test]
    fn base64_is_masked_wherever_the_secret_stands_in_it() {
        let secret = "tr0ub4dor&3";
        for before in ["", "u", "me", "you", "some:"] {
            for behind in ["", "x", "\"}"] {
                let bytes = format!("{before}{secret}{behind}");
                for text in [BASE64_STANDARD.encode(&bytes), BASE64_URL_SAFE.encode(&bytes)] {
                    check(secret, &format!("Basic {text}, sent"), "Basic <password>, sent");
                }
            }
        }
        let body = serde_json::json!({"name": "me", "password": HARD}).to_string();
        check(HARD, &BASE64_STANDARD.encode(body), "<password>");
    }

    #[test]
    fn what_is_cut_at_the_end_is_masked() {
        check("tr0ub4dor&3", "you sent tr0ub4d", "you sent <password>");
        check("tr0ub4dor&3", "you sent tr0u", "you sent <password>");
        check("tr0ub4dor&3", "you sent tr0", "you sent tr0");
        check("tr0ub4dor&3", "it begins with `tr0ub4d`", "it begins with `<password>`");
        check("tr0ub4dor&3", "you sent tr0ub4d and more", "you sent tr0ub4d and more");
    }

    #[test]
    fn a_short_secret_is_masked_where_it_stands_alone() {
        check("a", "a bad a: name", "<password> bad <password>: name");
        check("tok", "token tok", "token <password>");
        check("", "text", "text");
    }

    #[test]
    fn the_longest_secret_wins_and_each_has_its_label() {
        let mut redactor = redactor("secret");
        redactor.hide("token", "secret.27");
        assert_eq!(redactor.redact("secret.27 secret!"), "<token> <password>!");
        assert!(!format!("{redactor:?}").contains("secret.27"));
    }

    #[test]
    fn credentials_of_a_url_are_masked_in_both_forms() {
        let mut redactor = Redactor::default();
        redactor.hide_credentials_of("http://me:p%40ss%2Fword@host:1/x");
        redactor.hide_credentials_of("http://host:1/x");
        assert_eq!(redactor.redact("p%40ss%2Fword or p@ss/word of me"), "<password> or <password> of me");
    }

    #[test]
    fn what_is_remembered_and_looked_at_has_an_end() {
        let mut redactor = Redactor::default();
        (0..100).for_each(|n| redactor.hide("token", &format!("token.{n:03}")));
        assert_eq!(redactor.secrets.len(), REMEMBERED);
        assert_eq!(redactor.redact("token.001 token.099"), "token.001 <token>");
        assert!(redactor.redact(&"ä".repeat(LONGEST_TEXT)).len() <= LONGEST_TEXT);
        assert!(redactor.redact(&"\\".repeat(LONGEST_TEXT)).len() <= LONGEST_TEXT);
    }
}
