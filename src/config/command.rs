//! Parses the `{{...}}` of check_cmd and reload_cmd, a small part of Go's text/template. Commands are parsed when the
//! configuration is loaded. Runs nothing and does not know the path.
//!
//! Source: text/template and text/template/parse (delimiters, trim markers, pipelines), strconv.Unquote, fmt's %q.

use super::model::{Command, CommandPart};
use super::words::Fault;
use crate::nearest::nearest;
use crate::quote::quote;

/// The command to parse and the meaning of its one placeholder.
#[derive(Clone, Copy)]
pub(super) struct Placeholder<'a> {
    /// The key: `check_cmd`.
    pub key: &'a str,
    /// `src` or `dst`.
    pub name: &'a str,
    /// The meaning of the name: "the staged file".
    pub meaning: &'a str,
    /// The destination. The path of the placeholder is this one or a name beside it; `printf "%q"` checks whether it
    /// needs escapes.
    pub dst: &'a str,
    /// Whether the command has no variable in it.
    pub literal: bool,
}

/// Parses a command. A fault is placed at the `{{` it belongs to.
pub(super) fn parse(text: &str, placeholder: &Placeholder) -> Result<Command, Fault> {
    let mut parts = Parts::default();
    let mut at = 0;
    let mut trim_next = false;
    loop {
        let open = text[at..].find("{{").map(|length| at + length);
        let mut literal = &text[at..open.unwrap_or(text.len())];
        if trim_next {
            literal = literal.trim_start_matches(SPACES);
        }
        let Some(open) = open else {
            parts.text(literal);
            return Ok(Command { parts: parts.list });
        };
        let mut rest = &text[open + 2..];
        if let Some(marked) = rest.strip_prefix('-').filter(|rest| rest.starts_with(SPACES)) {
            literal = literal.trim_end_matches(SPACES);
            rest = marked;
        }
        parts.text(literal);
        let mut action = Action { rest, placeholder };
        let (value, trim) = action.run().map_err(|message| Fault { at: open, message })?;
        parts.append(value);
        trim_next = trim;
        at = text.len() - action.rest.len();
    }
}

const SPACES: [char; 4] = [' ', '\t', '\r', '\n'];

/// Texts and paths. Two texts in a row are joined.
#[derive(Default)]
struct Parts {
    list: Vec<CommandPart>,
}

impl Parts {
    fn text(&mut self, text: &str) {
        match self.list.last_mut() {
            _ if text.is_empty() => {}
            Some(CommandPart::Text(last)) => last.push_str(text),
            _ => self.list.push(CommandPart::Text(text.to_owned())),
        }
    }

    fn append(&mut self, other: Parts) {
        for part in other.list {
            match part {
                CommandPart::Text(text) => self.text(&text),
                CommandPart::Path => self.list.push(CommandPart::Path),
            }
        }
    }
}

/// The content of one `{{...}}`.
struct Action<'a> {
    rest: &'a str,
    placeholder: &'a Placeholder<'a>,
}

impl Action<'_> {
    /// Reads up to the `}}` and takes it. Returns the output, and whether the space behind it is trimmed.
    fn run(&mut self) -> Result<(Parts, bool), String> {
        let mut piped = None;
        loop {
            let value = self.command(piped.take())?;
            self.skip_spaces();
            if let Some(trim) = self.close() {
                return Ok((value, trim));
            }
            match self.rest.strip_prefix('|') {
                Some(rest) => self.rest = rest,
                None => return Err(self.unknown()),
            }
            piped = Some(value);
        }
    }

    /// One stage of a pipeline. The value of the stage before is its last argument.
    fn command(&mut self, piped: Option<Parts>) -> Result<Parts, String> {
        self.skip_spaces();
        if let Some(rest) = self.rest.strip_prefix("printf").filter(|rest| rest.starts_with(SPACES)) {
            self.rest = rest;
            let mut arguments = Vec::new();
            while let Some(argument) = self.operand()? {
                arguments.push(argument);
            }
            arguments.extend(piped);
            return self.printf(arguments);
        }
        match (self.operand()?, piped) {
            (Some(value), None) => Ok(value),
            _ => Err(self.unknown()),
        }
    }

    /// A placeholder or a string; `None`: the stage or the action ends here.
    fn operand(&mut self) -> Result<Option<Parts>, String> {
        self.skip_spaces();
        let mut parts = Parts::default();
        let before = self.rest;
        match self.rest.as_bytes().first() {
            Some(b'.') => {
                let name = &self.rest[1..];
                let length = name.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(name.len());
                self.rest = &name[length..];
                if name[..length] != *self.placeholder.name {
                    return Err(self.wrong_name(&before[..length + 1]));
                }
                parts.list.push(CommandPart::Path);
            }
            Some(b'`') => {
                let length = self.rest[1..].find('`').ok_or("a string has no closing backquote")?;
                // strconv.Unquote drops carriage returns here.
                parts.text(&self.rest[1..length + 1].replace('\r', ""));
                self.rest = &self.rest[length + 2..];
            }
            Some(b'"') => {
                let (text, length) = unquote(self.rest)?;
                parts.text(&text);
                self.rest = &self.rest[length..];
            }
            _ => return Ok(None),
        }
        // Go wants a space, a pipe or the end here.
        if !self.rest.is_empty() && !self.rest.starts_with(SPACES) && !self.rest.starts_with(['|', '}']) {
            self.rest = before;
            return Err(self.unknown());
        }
        Ok(Some(parts))
    }

    /// The verbs of Go's fmt.Sprintf for texts.
    fn printf(&self, arguments: Vec<Parts>) -> Result<Parts, String> {
        let mut arguments = arguments.into_iter();
        let format = match arguments.next().map(|format| format.list) {
            Some(list) if list.is_empty() => String::new(),
            Some(list) => match <[CommandPart; 1]>::try_from(list) {
                Ok([CommandPart::Text(text)]) => text,
                _ => return Err("the format of printf must be a string".to_owned()),
            },
            None => return Err("printf needs a format".to_owned()),
        };
        let mut parts = Parts::default();
        let mut rest = &*format;
        while let Some(percent) = rest.find('%') {
            parts.text(&rest[..percent]);
            let verb = rest[percent + 1..].chars().next();
            rest = &rest[percent + 1 + verb.map_or(0, char::len_utf8)..];
            if verb == Some('%') {
                parts.text("%");
                continue;
            }
            let Some(verb @ ('s' | 'v' | 'q')) = verb else {
                return Err("printf knows `%s`, `%v`, `%q` and `%%` here".to_owned());
            };
            let argument = arguments.next().ok_or("printf has fewer arguments than its format needs")?;
            match verb {
                'q' => self.quote(argument, &mut parts)?,
                _ => parts.append(argument),
            }
        }
        parts.text(rest);
        match arguments.next() {
            None => Ok(parts),
            Some(_) => Err("printf has more arguments than its format needs".to_owned()),
        }
    }

    fn quote(&self, argument: Parts, parts: &mut Parts) -> Result<(), String> {
        parts.text("\"");
        for part in argument.list {
            match part {
                CommandPart::Text(text) => parts.text(&escape(&text)),
                CommandPart::Path if escape(self.placeholder.dst) == self.placeholder.dst => {
                    parts.list.push(CommandPart::Path);
                }
                CommandPart::Path => return Err("printf cannot `%q` a path that needs escapes".to_owned()),
            }
        }
        parts.text("\"");
        Ok(())
    }

    fn skip_spaces(&mut self) {
        // The space before `-}}` is part of the trim marker.
        while self.rest.starts_with(SPACES) && !self.rest[1..].starts_with("-}}") {
            self.rest = &self.rest[1..];
        }
    }

    /// Takes the `}}`, if it is next. Returns whether it trims.
    fn close(&mut self) -> Option<bool> {
        let (rest, trim) = match self.rest.strip_prefix("}}") {
            Some(rest) => (rest, false),
            None => (self.rest.strip_prefix(SPACES)?.strip_prefix("-}}")?, true),
        };
        self.rest = rest;
        Some(trim)
    }

    fn wrong_name(&self, written: &str) -> String {
        let Placeholder { key, name, meaning, literal, .. } = self.placeholder;
        let ours = nearest(&written[1..], ["src", "dst"]).is_some();
        let advice = if ours { "" } else { LITERAL_BRACES };
        // A name with an expanded variable may be a secret.
        let found = if *literal { format!(", not `{written}`") } else { " only".to_owned() };
        format!("`{key}` knows `{{{{.{name}}}}}` ({meaning}){found}{advice}")
    }

    fn unknown(&self) -> String {
        if !self.rest.contains("}}") {
            return format!("`{{{{` has no closing `}}}}`{LITERAL_BRACES}");
        }
        let Placeholder { key, name, meaning, .. } = self.placeholder;
        format!("inside `{{{{ }}}}` a `{key}` has `.{name}` ({meaning}), strings and printf only{LITERAL_BRACES}")
    }
}

/// The usual reason for other braces: the format of another program, such as `docker ps --format`.
const LITERAL_BRACES: &str = "; for braces of another program write `{{\"{{\"}}`";

/// The value of a double-quoted Go string at the start of a text, and its length there.
fn unquote(text: &str) -> Result<(String, usize), String> {
    let mut value: Vec<u8> = Vec::new();
    let bytes = text.as_bytes();
    let mut at = 1;
    loop {
        match bytes.get(at) {
            None | Some(b'\n') => return Err("a string has no closing `\"`".to_owned()),
            Some(b'"') => break,
            Some(b'\\') => {
                let (length, radix, first) = match bytes.get(at + 1) {
                    Some(b'x') => (2, 16, at + 2),
                    Some(b'u') => (4, 16, at + 2),
                    Some(b'U') => (8, 16, at + 2),
                    Some(b'0'..=b'7') => (3, 8, at + 1),
                    simple => {
                        let byte = match simple {
                            Some(b'a') => 7,
                            Some(b'b') => 8,
                            Some(b'f') => 12,
                            Some(b'n') => b'\n',
                            Some(b'r') => b'\r',
                            Some(b't') => b'\t',
                            Some(b'v') => 11,
                            Some(b'\\') => b'\\',
                            Some(b'"') => b'"',
                            _ => return Err("a string has an escape that Go does not know".to_owned()),
                        };
                        value.push(byte);
                        at += 2;
                        continue;
                    }
                };
                let digits = text.get(first..first + length).filter(|digits| !digits.starts_with('+'));
                let code = digits.and_then(|digits| u32::from_str_radix(digits, radix).ok());
                let code = code.ok_or("a string has an escape with the wrong digits")?;
                if length > 3 {
                    let c = char::from_u32(code).ok_or("a string has an escape that is no character")?;
                    value.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
                } else {
                    value.push(u8::try_from(code).map_err(|_| "a string has an escape above \\377")?);
                }
                at = first + length;
            }
            Some(byte) => {
                value.push(*byte);
                at += 1;
            }
        }
    }
    let value = String::from_utf8(value).map_err(|_| "a string is not UTF-8")?;
    Ok((value, at + 1))
}

/// The inside of what Go's `%q` prints.
fn escape(text: &str) -> String {
    let quoted = quote(text.as_bytes(), '"', false);
    quoted[1..quoted.len() - 1].to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn placeholder(dst: &str) -> Placeholder<'_> {
        Placeholder { key: "check_cmd", name: "src", meaning: "the staged file", dst, literal: true }
    }

    /// `<>` marks the path.
    #[track_caller]
    fn check(text: &str, expected: &str) {
        let command = parse(text, &placeholder("/etc/app.conf")).map_err(|fault| fault.message);
        let shown = command.map(|command| {
            let parts = command.parts.iter().map(|part| match part {
                CommandPart::Text(text) => text.clone(),
                CommandPart::Path => "<>".to_owned(),
            });
            parts.collect::<String>()
        });
        assert_eq!(shown.as_deref(), Ok(expected), "{text}");
    }

    #[track_caller]
    fn refuse(text: &str, at: usize, message: &str) {
        let fault = parse(text, &placeholder("/etc/app.conf")).expect_err(text);
        assert_eq!(fault.at, at, "{text}");
        assert!(fault.message.contains(message), "{text}: {}", fault.message);
    }

    #[test]
    fn puts_the_path_in() {
        check("", "");
        check("true", "true");
        check("nginx -t -c {{.src}}", "nginx -t -c <>");
        check("nginx -t -c {{ .src }} -q", "nginx -t -c <> -q");
        check("a {{.src}} {{.src}}", "a <> <>");
        check("{{\n.src\t}}", "<>");
        check("ä{{.src}}ö", "ä<>ö");
        check("} }} {", "} }} {");
        check("{ {.src}}", "{ {.src}}");
    }

    #[test]
    fn keeps_texts_together() {
        let command = parse("a {{\"b\"}} c{{.src}}", &placeholder("")).expect("a command");
        assert_eq!(command.parts, [CommandPart::Text("a b c".to_owned()), CommandPart::Path]);
    }

    #[test]
    fn trims() {
        check("a  {{- .src -}}  b", "a<>b");
        check("a  {{- .src }}  b", "a<>  b");
        check("a \n{{.src -}}\r\n\t b", "a \n<>b");
        check("a {{- \"x\" -}} {{- .src -}} b", "ax<>b");
        check("{{.src -}}", "<>");
        refuse("{{-.src}}", 0, "strings and printf only");
        refuse("{{.src-}}", 0, "strings and printf only");
    }

    #[test]
    fn prints_strings() {
        check("docker ps --format '{{\"{{\"}}.ID}}'", "docker ps --format '{{.ID}}'");
        check("docker ps --format {{`'{{.ID}}'`}}", "docker ps --format '{{.ID}}'");
        check(r#"{{"\a\b\f\n\r\t\v\\\""}}"#, "\x07\x08\x0c\n\r\t\x0b\\\"");
        check(r#"{{"\x41\101\u00e4\U0001F600"}}"#, "AAä\u{1f600}");
        check(r#"{{"\xc3\xa4"}}"#, "ä");
        check("{{`a\\n\r\n`}}", "a\\n\n");
        check("{{\"\"}}", "");
        refuse(r#"x {{"\xff"}}"#, 2, "not UTF-8");
        refuse(r#"{{"\q"}}"#, 0, "escape");
        refuse(r#"{{"\'"}}"#, 0, "escape");
        refuse(r#"{{"\u+123"}}"#, 0, "digits");
        refuse(r#"{{"\400"}}"#, 0, "above");
        refuse(r#"{{"\ud800"}}"#, 0, "no character");
        refuse(r#"{{"abc}}"#, 0, "closing");
        refuse("{{`abc}}", 0, "closing");
        refuse("{{\"a\nb\"}}", 0, "closing");
    }

    #[test]
    fn prints_formats() {
        check(r#"{{printf "%s" .src}}"#, "<>");
        check(r#"{{ printf "-c %v -p %s %%" .src "x" }}"#, "-c <> -p x %");
        check(r#"{{ .src | printf "%s.bak" }}"#, "<>.bak");
        check(r#"{{ .src | printf "%s%s" "a" | printf "[%s]" }}"#, "[a<>]");
        check(r#"{{ printf "%q" .src }}"#, "\"<>\"");
        check(r#"{{ printf "%q" "a\"b\n\x01ä" }}"#, "\"a\\\"b\\n\\x01ä\"");
        // A combining mark prints even at the beginning of an escaped text.
        check("{{ printf \"%q\" \"e\u{301}\" }}", "\"e\u{301}\"");
        check(r#"{{ printf "" }}"#, "");
        refuse(r#"{{ printf }}"#, 0, "needs a format");
        refuse(r#"{{ printf .src }}"#, 0, "must be a string");
        refuse(r#"{{ printf "%d" 3 }}"#, 0, "printf");
        refuse(r#"{{ printf "%5s" .src }}"#, 0, "knows");
        refuse(r#"{{ printf "%" }}"#, 0, "knows");
        refuse(r#"{{ printf "%s" }}"#, 0, "fewer");
        refuse(r#"{{ printf "x" .src }}"#, 0, "more");
        let fault = parse(r#"{{ printf "%q" .src }}"#, &placeholder("/etc/a\"b")).expect_err("escapes");
        assert!(fault.message.contains("escapes"));
    }

    #[test]
    fn refuses_everything_else() {
        refuse("a {{.dst}}", 2, "knows `{{.src}}` (the staged file), not `.dst`");
        refuse("a {{.src}} {{.Src}}", 11, "not `.Src`");
        refuse("{{.}}", 0, "not `.`");
        refuse("{{.src.x}}", 0, "strings and printf only");
        refuse("{{src}}", 0, "strings and printf only");
        refuse("{{}}", 0, "strings and printf only");
        refuse("{{if .src}}a{{end}}", 0, "strings and printf only");
        refuse("{{/* a comment */}}", 0, "strings and printf only");
        refuse("{{$x := .src}}", 0, "strings and printf only");
        refuse("{{.src \"a\"}}", 0, "strings and printf only");
        refuse("{{.src | .src}}", 0, "strings and printf only");
        refuse("{{.src |}}", 0, "strings and printf only");
        refuse("{{3}}", 0, "strings and printf only");
        refuse("{{(.src)}}", 0, "strings and printf only");
        refuse("x {{.src", 2, "no closing `}}`");
        refuse("x {{.src }", 2, "no closing `}}`");
        refuse("x {{", 2, "no closing `}}`");
        refuse("{{{.src}}}", 0, "strings and printf only");
        refuse("docker ps --format '{{.ID}}'", 20, "for braces of another program write `{{\"{{\"}}`");
    }
}
