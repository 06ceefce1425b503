//! Splits an exec command, which runs without a shell, into words: quotes, backslashes, backquotes and `$(...)`. Runs
//! nothing: the output of a command between backquotes is known only when the child starts.
//!
//! Source: go-shellwords with ParseBacktick, the splitter of Go remco.

use super::model::{Word, WordPart};

/// An error in a text, and its byte.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Fault {
    pub at: usize,
    pub message: String,
}

/// Splits a command into its words.
pub(super) fn split(text: &str) -> Result<Vec<Word>, Fault> {
    let mut words = Vec::new();
    // The present word. A pair of quotes begins a word even if nothing is between them.
    let mut word: Option<Word> = None;
    let mut chars = text.char_indices().peekable();
    let unclosed = |at, what: &str| Fault { at, message: format!("`command` has no {what}") };
    while let Some((at, c)) = chars.next() {
        match c {
            ' ' | '\t' | '\r' | '\n' => words.extend(word.take()),
            '\\' => {
                let (_, c) = chars.next().ok_or_else(|| unclosed(at, "character behind its last `\\`"))?;
                push(&mut word, unescape(c));
            }
            '\'' => {
                push_text(&mut word, "");
                loop {
                    match chars.next().ok_or_else(|| unclosed(at, "closing `'`"))? {
                        (_, '\'') => break,
                        (_, c) => push(&mut word, c),
                    }
                }
            }
            '"' => {
                push_text(&mut word, "");
                loop {
                    match chars.next().ok_or_else(|| unclosed(at, "closing `\"`"))? {
                        (_, '"') => break,
                        (_, '\\') => {
                            let (_, c) = chars.next().ok_or_else(|| unclosed(at, "closing `\"`"))?;
                            push(&mut word, unescape(c));
                        }
                        (_, c) => push(&mut word, c),
                    }
                }
            }
            '`' => {
                let mut command = String::new();
                loop {
                    match chars.next().ok_or_else(|| unclosed(at, "closing backquote"))? {
                        (_, '`') => break,
                        (_, '\\') => {
                            command.push('\\');
                            command.extend(chars.next().map(|(_, c)| c));
                        }
                        (_, c) => command.push(c),
                    }
                }
                word.get_or_insert_default().parts.push(WordPart::Output(command));
            }
            '$' if chars.next_if(|(_, c)| *c == '(').is_some() => {
                let mut command = String::new();
                loop {
                    match chars.next().ok_or_else(|| unclosed(at, "closing `)`"))? {
                        (_, ')') => break,
                        (inner, '(') => return Err(needs_shell(inner, '(')),
                        (_, '\\') => {
                            command.push('\\');
                            command.extend(chars.next().map(|(_, c)| c));
                        }
                        (_, c) => command.push(c),
                    }
                }
                word.get_or_insert_default().parts.push(WordPart::Output(command));
            }
            ';' | '&' | '|' | '<' | '>' | '(' | ')' => return Err(needs_shell(at, c)),
            c => push(&mut word, c),
        }
    }
    words.extend(word);
    Ok(words)
}

/// Go remco drops the rest of such a command silently.
fn needs_shell(at: usize, c: char) -> Fault {
    Fault {
        at,
        message: format!("`command` runs without a shell, which `{c}` needs: write `sh -c '...'`, or quote it"),
    }
}

fn unescape(c: char) -> char {
    match c {
        't' => '\t',
        'n' => '\n',
        c => c,
    }
}

fn push(word: &mut Option<Word>, c: char) {
    push_text(word, c.encode_utf8(&mut [0; 4]));
}

fn push_text(word: &mut Option<Word>, text: &str) {
    let parts = &mut word.get_or_insert_default().parts;
    match parts.last_mut() {
        Some(WordPart::Text(last)) => last.push_str(text),
        _ => parts.push(WordPart::Text(text.to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One string for each word; `<...>` is the output of a command.
    #[track_caller]
    fn check(text: &str, expected: &[&str]) {
        let words = split(text).map_err(|fault| fault.message);
        let shown = words.map(|words| {
            let word = |word: &Word| {
                let parts = word.parts.iter().map(|part| match part {
                    WordPart::Text(text) => text.clone(),
                    WordPart::Output(command) => format!("<{command}>"),
                });
                parts.collect::<String>()
            };
            words.iter().map(word).collect::<Vec<_>>()
        });
        assert_eq!(shown, Ok(expected.iter().map(|word| (*word).to_owned()).collect()), "{text}");
    }

    #[track_caller]
    fn refuse(text: &str, at: usize, message: &str) {
        let fault = split(text).expect_err(text);
        assert_eq!(fault.at, at, "{text}");
        assert!(fault.message.contains(message), "{text}: {}", fault.message);
    }

    #[test]
    fn splits_words() {
        check("", &[]);
        check(" \t\r\n ", &[]);
        check("nginx", &["nginx"]);
        check("  nginx -g  daemon ", &["nginx", "-g", "daemon"]);
        check("ä ö", &["ä", "ö"]);
        check("a#b #c ~ * $HOME ${X} {}", &["a#b", "#c", "~", "*", "$HOME", "${X}", "{}"]);
    }

    #[test]
    fn takes_quotes() {
        check(r#"nginx -g "daemon off;""#, &["nginx", "-g", "daemon off;"]);
        check("sh -c 'a; b | c && d > e'", &["sh", "-c", "a; b | c && d > e"]);
        check(r#"a"b c"d'e f'"#, &["ab cde f"]);
        check(r#""" '' """#, &["", "", ""]);
        check(r#""it's" 'say "x"'"#, &["it's", "say \"x\""]);
        check(r#"'a\b' "a\"b" a\ b a\tb "a\nb" \\"#, &["a\\b", "a\"b", "a b", "a\tb", "a\nb", "\\"]);
        check(r"\; \| a\&b \(", &[";", "|", "a&b", "("]);
    }

    #[test]
    fn keeps_output_one_word() {
        check("./foo `echo $SHELL`", &["./foo", "<echo $SHELL>"]);
        check("a $(cat /etc/x y)z", &["a", "<cat /etc/x y>z"]);
        check("a`b`$(c)", &["a<b><c>"]);
        check("`a; b | \"c\" ')'`", &["<a; b | \"c\" ')'>"]);
        check(r"`a \` b`", &[r"<a \` b>"]);
        check(r#""`a`" '$(b)'"#, &["`a`", "$(b)"]);
        check("$ a$", &["$", "a$"]);
    }

    #[test]
    fn refuses_what_needs_a_shell() {
        refuse("a; b", 1, "write `sh -c '...'`");
        refuse("a && b", 2, "`&`");
        refuse("a | b", 2, "`|`");
        refuse("a > b", 2, "`>`");
        refuse("ä 2>&1", 4, "`>`");
        refuse("a < b", 2, "`<`");
        refuse("(a)", 0, "`(`");
        refuse("a )", 2, "`)`");
        refuse("$(a $(b))", 5, "`(`");
        refuse(r"\$(a)", 2, "`(`");
    }

    #[test]
    fn refuses_what_is_not_closed() {
        refuse("a 'b", 2, "no closing `'`");
        refuse("a \"b", 2, "no closing `\"`");
        refuse("a \"b\\", 2, "no closing `\"`");
        refuse("a `b", 2, "no closing backquote");
        refuse("a $(b", 2, "no closing `)`");
        refuse("a \\", 2, "behind its last `\\`");
    }
}
