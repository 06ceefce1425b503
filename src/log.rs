//! Log lines and their two forms, text and JSON. Formats bytes only; `host` has the clock, the process id and standard
//! error.

use std::time::Duration;

use crate::calendar::{Civil, MONTHS};
pub use crate::config::LogFormat as Format;
pub use crate::config::LogLevel as Level;

/// One line before it is formatted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// The level.
    pub level: Level,
    /// The message, without the fields.
    pub message: String,
    /// Names and values, in the order of the output.
    pub fields: Vec<(&'static str, String)>,
    /// Further lines below the message, such as the excerpt of a template.
    pub detail: Option<String>,
}

/// The time and the process of a line.
#[derive(Clone, Copy, Debug)]
pub struct Stamp {
    /// Seconds since 1970 in UTC.
    pub unix: i64,
    /// Nanoseconds of the second.
    pub nanos: u32,
    /// The offset of local time, in seconds east of UTC.
    pub offset: i32,
    /// The process id.
    pub pid: u32,
    /// Whether the level of a text line has a colour, for a terminal.
    pub is_coloured: bool,
}

impl Line {
    /// A line without fields and detail.
    pub fn new(level: Level, message: impl Into<String>) -> Line {
        Line { level, message: message.into(), fields: Vec::new(), detail: None }
    }

    /// Adds `name=value`.
    pub fn with(mut self, name: &'static str, value: impl Into<String>) -> Line {
        self.fields.push((name, value.into()));
        self
    }

    /// Appends the line and its newline to `out`.
    pub fn write(&self, format: Format, stamp: Stamp, out: &mut Vec<u8>) {
        match format {
            Format::Text => self.write_text(stamp, out),
            Format::Json => self.write_json(stamp, out),
        }
    }

    /// `[Dec 16 18:26:20]  INFO remco[1]: message key=value`
    fn write_text(&self, stamp: Stamp, out: &mut Vec<u8>) {
        let local = Civil::of(stamp.unix + i64::from(stamp.offset));
        let mut text = format!(
            "[{} {:02} {:02}:{:02}:{:02}] {} remco[{}]: {}",
            &MONTHS[local.month - 1][..3],
            local.day,
            local.hour,
            local.minute,
            local.second,
            level_word(self.level, stamp.is_coloured),
            stamp.pid,
            printable(&self.message),
        );
        for (name, value) in &self.fields {
            text.push(' ');
            text.push_str(name);
            text.push('=');
            push_value(value, &mut text);
        }
        text.push('\n');
        for line in self.detail.iter().flat_map(|d| d.lines()) {
            text.push_str("    ");
            text.push_str(&printable(line));
            text.push('\n');
        }
        out.extend_from_slice(text.as_bytes());
    }

    /// One object on one line, with `@timestamp`, `@level`, `@message` and the fields.
    fn write_json(&self, stamp: Stamp, out: &mut Vec<u8>) {
        let local = Civil::of(stamp.unix + i64::from(stamp.offset));
        let (sign, minutes) = (if stamp.offset < 0 { '-' } else { '+' }, stamp.offset.abs() / 60);
        let time = format!(
            "{:04}-{:02}-{:02}T{:02}:{:02}:{:02}.{:06}{sign}{:02}:{:02}",
            local.year,
            local.month,
            local.day,
            local.hour,
            local.minute,
            local.second,
            stamp.nanos / 1000,
            minutes / 60,
            minutes % 60,
        );
        out.push(b'{');
        let head = [("@timestamp", time.as_str()), ("@level", name(self.level)), ("@message", &self.message)];
        let fields = self.fields.iter().map(|(name, value)| (*name, value.as_str()));
        let detail = self.detail.as_deref().map(|d| ("detail", d));
        for (i, (name, value)) in head.into_iter().chain(fields).chain(detail).enumerate() {
            if i > 0 {
                out.push(b',');
            }
            out.extend_from_slice(serde_json::Value::from(name).to_string().as_bytes());
            out.push(b':');
            out.extend_from_slice(serde_json::Value::from(value).to_string().as_bytes());
        }
        out.extend_from_slice(b"}\n");
    }
}

/// The level in five columns. The colours are those of logrus, which Go remco uses.
fn level_word(level: Level, is_coloured: bool) -> String {
    let word = format!("{:>5}", name(level).to_ascii_uppercase());
    let colour = match level {
        Level::Trace | Level::Debug => 37,
        Level::Info => 36,
        Level::Warn => 33,
        Level::Error | Level::Off => 31,
    };
    if is_coloured { format!("\x1b[{colour}m{word}\x1b[0m") } else { word }
}

fn name(level: Level) -> &'static str {
    match level {
        Level::Trace => "trace",
        Level::Debug => "debug",
        Level::Info => "info",
        Level::Warn => "warn",
        Level::Error => "error",
        Level::Off => "off",
    }
}

/// Appends a value. A value with a space, an `=` or a quote, which would end the field, is quoted.
fn push_value(value: &str, text: &mut String) {
    let plain = |c: char| !c.is_whitespace() && !is_unsafe(c) && c != '"' && c != '=';
    if !value.is_empty() && value.chars().all(plain) {
        text.push_str(value);
    } else {
        text.push_str(&quoted(value));
    }
}

/// A duration in one word: `12ms`, `1.5s`.
pub fn duration(took: Duration) -> String {
    match took.as_millis() {
        millis @ ..1000 => format!("{millis}ms"),
        millis => format!("{}.{}s", millis / 1000, millis % 1000 / 100),
    }
}

/// A text in double quotes with control characters escaped, for the output of commands.
pub fn quoted(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for c in text.chars() {
        match c {
            '"' | '\\' => out.extend(['\\', c]),
            _ => push_printable(c, &mut out),
        }
    }
    out.push('"');
    out
}

/// A text on one line, without characters that control a terminal.
pub fn printable(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\t' => out.push(c),
            _ => push_printable(c, &mut out),
        }
    }
    out
}

/// Whether a character of a key or of a command's output could forge a log line or control a terminal: control
/// characters, line separators, and the marks that reverse the direction of writing.
fn is_unsafe(c: char) -> bool {
    c.is_control() || matches!(c, '\u{2028}' | '\u{2029}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

fn push_printable(c: char, out: &mut String) {
    match c {
        '\n' => out.push_str("\\n"),
        '\r' => out.push_str("\\r"),
        '\t' => out.push_str("\\t"),
        c if is_unsafe(c) => out.push_str(&format!("\\u{:04x}", u32::from(c))),
        c => out.push(c),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stamp(unix: i64) -> Stamp {
        Stamp { unix, nanos: 123_456_789, offset: 3600, pid: 1, is_coloured: false }
    }

    fn check(format: Format, line: Line, unix: i64, want: &str) {
        let mut out = Vec::new();
        line.write(format, stamp(unix), &mut out);
        assert_eq!(String::from_utf8(out).expect("lines are text"), want);
    }

    #[test]
    fn text_is_the_tutorials() {
        let line = Line::new(Level::Info, "target config out of sync").with("config", "/etc/haproxy/haproxy.cfg");
        check(
            Format::Text,
            line,
            1_481_909_180,
            "[Dec 16 18:26:20]  INFO remco[1]: target config out of sync config=/etc/haproxy/haproxy.cfg\n",
        );
    }

    #[test]
    fn text_quotes_what_could_be_misread() {
        let line = Line::new(Level::Debug, "x\ny").with("a", "b c").with("d", "").with("e", "q\"=\u{1b}[0m");
        check(
            Format::Text,
            line,
            0,
            "[Jan 01 01:00:00] DEBUG remco[1]: x\\ny a=\"b c\" d=\"\" e=\"q\\\"=\\u001b[0m\"\n",
        );
    }

    #[test]
    fn text_cannot_be_forged() {
        // Line separators, and the marks that change the direction of writing.
        let line = Line { detail: Some("a\u{2028}b\rc".into()), ..Line::new(Level::Info, "x\u{202e}y") };
        check(
            Format::Text,
            line.with("k", "\u{2066}v\u{85}"),
            0,
            "[Jan 01 01:00:00]  INFO remco[1]: x\\u202ey k=\"\\u2066v\\u0085\"\n    a\\u2028b\\rc\n",
        );
    }

    #[test]
    fn text_has_colours_on_a_terminal() {
        let mut out = Vec::new();
        Line::new(Level::Warn, "x").write(Format::Text, Stamp { is_coloured: true, ..stamp(0) }, &mut out);
        Line::new(Level::Warn, "x").write(Format::Json, Stamp { is_coloured: true, ..stamp(0) }, &mut out);
        let text = String::from_utf8(out).unwrap();
        assert!(text.starts_with("[Jan 01 01:00:00] \x1b[33m WARN\x1b[0m remco[1]: x\n{"), "{text:?}");
        assert_eq!(text.matches('\x1b').count(), 2);
    }

    #[test]
    fn text_shows_details_below() {
        let line = Line { detail: Some("1 | a\n  | ^".into()), ..Line::new(Level::Error, "failed") };
        check(Format::Text, line, 0, "[Jan 01 01:00:00] ERROR remco[1]: failed\n    1 | a\n      | ^\n");
    }

    #[test]
    fn durations_are_one_word() {
        for (millis, want) in [(0, "0ms"), (999, "999ms"), (1000, "1.0s"), (61_990, "61.9s")] {
            assert_eq!(duration(Duration::from_millis(millis)), want);
        }
    }

    #[test]
    fn json_is_one_object_a_line() {
        let line = Line { detail: Some("a\nb".into()), ..Line::new(Level::Warn, "m \"x\"").with("key", "\u{7}v") };
        check(
            Format::Json,
            line,
            951_782_400,
            "{\"@timestamp\":\"2000-02-29T01:00:00.123456+01:00\",\"@level\":\"warn\",\"@message\":\"m \\\"x\\\"\",\
             \"key\":\"\\u0007v\",\"detail\":\"a\\nb\"}\n",
        );
    }
}
