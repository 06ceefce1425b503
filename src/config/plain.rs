//! Recognises commands that need no shell, and splits them into words, for machines without /bin/sh such as FROM
//! scratch containers. Runs nothing and expands nothing.
//!
//! Source: POSIX.1, Shell Command Language, 2.2 Quoting and 2.3 Token Recognition.

use std::ffi::OsString;
use std::os::unix::ffi::{OsStrExt, OsStringExt};

use super::reader::Found;
use super::report::{Report, quoted};
use super::source::Shell;

/// The part of a command that needs a shell, for messages: "`|`", "the builtin `cd`".
pub type NeedsShell = String;

/// Splits a command like a shell.
///
/// # Errors
/// The command needs a shell, or a quote in it is not closed.
pub fn words(command: &[u8]) -> Result<Vec<OsString>, NeedsShell> {
    let mut words: Vec<Vec<u8>> = Vec::new();
    // The present word. A pair of quotes begins a word even if nothing is between them.
    let mut word: Option<Vec<u8>> = None;
    // The length of the first word before its first quote. A quoted word is not a builtin or an assignment.
    let mut bare = None;
    let mut bytes = command.iter().copied();
    while let Some(byte) = bytes.next() {
        match byte {
            b' ' | b'\t' => {
                if let Some(word) = word.take() {
                    bare.get_or_insert(word.len());
                    words.push(word);
                }
            }
            b'\\' => match bytes.next() {
                // A continued line.
                Some(b'\n') => {}
                Some(next) => {
                    let word = word.get_or_insert_default();
                    bare.get_or_insert(word.len());
                    word.push(next);
                }
                None => return Err("the `\\` at its end".to_owned()),
            },
            b'\'' => {
                let word = word.get_or_insert_default();
                bare.get_or_insert(word.len());
                loop {
                    match bytes.next().ok_or("a `'` without its end")? {
                        b'\'' => break,
                        other => word.push(other),
                    }
                }
            }
            b'"' => {
                let word = word.get_or_insert_default();
                bare.get_or_insert(word.len());
                loop {
                    match bytes.next().ok_or("a `\"` without its end")? {
                        b'"' => break,
                        b'$' => return Err(symbol(b'$')),
                        b'`' => return Err(symbol(b'`')),
                        b'\\' => match bytes.next().ok_or("a `\"` without its end")? {
                            b'\n' => {}
                            next @ (b'$' | b'`' | b'"' | b'\\') => word.push(next),
                            next => word.extend([b'\\', next]),
                        },
                        other => word.push(other),
                    }
                }
            }
            b'|' | b'&' | b';' | b'<' | b'>' | b'(' | b')' | b'$' | b'`' | b'*' | b'?' | b'[' | b'\n' => {
                return Err(symbol(byte));
            }
            b'#' | b'~' if word.is_none() => return Err(symbol(byte)),
            other => word.get_or_insert_default().push(other),
        }
    }
    words.extend(word);
    let Some(first) = words.first() else {
        return Err("the empty command".to_owned());
    };
    let bare = &first[..bare.unwrap_or(first.len())];
    if is_assignment(bare) {
        return Err(format!("the assignment `{}`", String::from_utf8_lossy(first)));
    }
    if bare.len() == first.len() && SHELLS_OWN.contains(&first.as_slice()) {
        return Err(format!("`{}`, which is part of a shell", String::from_utf8_lossy(first)));
    }
    Ok(words.into_iter().map(OsString::from_vec).collect())
}

/// The program that a command starts first; `None`: only a shell can find it.
pub fn first_program(command: &[u8]) -> Option<OsString> {
    /// Programs that are often missing because shells have them built in.
    const OFTEN_BUILT_IN: &[&[u8]] = &[b"echo", b"false", b"kill", b"printf", b"pwd", b"test", b"true"];
    let end = command.iter().position(|byte| b";|&<>\n".contains(byte)).unwrap_or(command.len());
    let first = words(&command[..end]).ok()?.into_iter().next()?;
    (!OFTEN_BUILT_IN.contains(&first.as_bytes())).then_some(first)
}

/// Notes the program of a command, and reports a command that needs a missing shell.
pub(super) fn check(report: &Report, key: &str, found: &Found<&str>, command: &[u8], shell: Shell) {
    report.note_program(found.span, || first_program(command));
    if shell == Shell::Missing
        && let Err(what) = words(command)
    {
        report.error(found.span, needs_shell(key, &what));
    }
}

/// The message about a command that needs a missing shell.
pub(super) fn needs_shell(key: &str, what: &str) -> String {
    format!("{} needs a shell for {what}, and there is no /bin/sh here: write it without, or add a shell", quoted(key))
}

/// Reserved words, and builtins that no program can replace. `echo`, `test`, `true` and others exist as programs too.
const SHELLS_OWN: &[&[u8]] = &[
    b"!",
    b"{",
    b"}",
    b"if",
    b"then",
    b"else",
    b"elif",
    b"fi",
    b"for",
    b"while",
    b"until",
    b"do",
    b"done",
    b"case",
    b".",
    b":",
    b"alias",
    b"bg",
    b"break",
    b"cd",
    b"command",
    b"continue",
    b"eval",
    b"exec",
    b"exit",
    b"export",
    b"fg",
    b"getopts",
    b"hash",
    b"jobs",
    b"local",
    b"read",
    b"readonly",
    b"return",
    b"set",
    b"shift",
    b"source",
    b"times",
    b"trap",
    b"type",
    b"ulimit",
    b"umask",
    b"unalias",
    b"unset",
    b"wait",
];

fn symbol(byte: u8) -> NeedsShell {
    match byte {
        b'\n' => "a second line".to_owned(),
        b'`' => "a backquote".to_owned(),
        byte => format!("`{}`", char::from(byte)),
    }
}

/// `NAME=...`
fn is_assignment(word: &[u8]) -> bool {
    let Some(end) = word.iter().position(|byte| *byte == b'=') else { return false };
    let name = &word[..end];
    name.iter().all(|byte| byte.is_ascii_alphanumeric() || *byte == b'_')
        && name.first().is_some_and(|first| !first.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(command: &str, expected: &[&str]) {
        let expected = expected.iter().map(|word| OsString::from(*word)).collect();
        assert_eq!(words(command.as_bytes()), Ok(expected), "{command}");
    }

    #[track_caller]
    fn refuse(command: &str, what: &str) {
        assert_eq!(words(command.as_bytes()), Err(what.to_owned()), "{command}");
    }

    #[test]
    fn splits_as_a_shell_does() {
        check("haproxy -c -f /etc/.haproxy.cfg0123456789", &["haproxy", "-c", "-f", "/etc/.haproxy.cfg0123456789"]);
        check("  a \t b  ", &["a", "b"]);
        check(r#"a 'b c' "d e"f"#, &["a", "b c", "d ef"]);
        check(r#"a "" ''"#, &["a", "", ""]);
        check(r"a\ b \$x \'", &["a b", "$x", "'"]);
        check(r#""a\b\"\$\\" 'a\b'"#, &[r#"a\b"$\"#, r"a\b"]);
        check("a \\\nb", &["a", "b"]);
        check("kill -HUP 1 a=b x#y c~d {}", &["kill", "-HUP", "1", "a=b", "x#y", "c~d", "{}"]);
        check("'*' \"|\" \\;", &["*", "|", ";"]);
        check(r"\cd x", &["cd", "x"]);
        check("'X=1' a", &["X=1", "a"]);
        check("c'd' x", &["cd", "x"]);
    }

    #[test]
    fn refuses_what_a_shell_is_for() {
        refuse("a | b", "`|`");
        refuse("a && b", "`&`");
        refuse("a; b", "`;`");
        refuse("a > b", "`>`");
        refuse("kill -HUP $(cat /run/pid)", "`$`");
        refuse("a \"$X\"", "`$`");
        refuse("a `b`", "a backquote");
        refuse("ls *.conf", "`*`");
        refuse("[ -f a ]", "`[`");
        refuse("a # b", "`#`");
        refuse("ls ~", "`~`");
        refuse("a\nb", "a second line");
        refuse("X=1 a", "the assignment `X=1`");
        refuse("X=\"1 2\" a", "the assignment `X=1 2`");
        refuse("X=1 a \"b\"", "the assignment `X=1`");
        refuse("cd /x", "`cd`, which is part of a shell");
        refuse("cd \"/x y\"", "`cd`, which is part of a shell");
        refuse("exec 'a'", "`exec`, which is part of a shell");
        refuse("! a", "`!`, which is part of a shell");
        refuse("", "the empty command");
        refuse(" ", "the empty command");
        refuse("a 'b", "a `'` without its end");
        refuse("a \"b", "a `\"` without its end");
        refuse("a \\", "the `\\` at its end");
    }
}
