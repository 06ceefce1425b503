//! The content of the status file as data, and the table that `--status` prints. Holds no value of a key and no output
//! of a command. Reads and writes no file.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::calendar::Civil;
use crate::cut::without_controls;
use crate::width::columns;

/// The content of the status file.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq)]
pub struct Status {
    /// The version of the program.
    pub version: String,
    /// Its process.
    pub pid: u32,
    /// When it started, in seconds since 1970.
    pub since: i64,
    /// In the order of the configuration.
    pub resources: Vec<Resource>,
}

/// One resource.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq)]
pub struct Resource {
    /// Its name.
    pub name: String,
    /// Its state.
    pub state: State,
    /// Since when, in seconds since 1970.
    pub since: i64,
    /// When the last update without a failure ended, in seconds since 1970.
    pub last_success: Option<i64>,
    /// The keys of an earlier run that it is rendered from; none: its keys are those of the stores.
    pub cache: Option<Cache>,
    /// The updates that its guard refuses at present.
    pub guard: Option<Guard>,
    /// The files of its templates.
    pub files: Vec<File>,
    /// Its backends.
    pub backends: Vec<Backend>,
    /// The last run of each command that has run.
    pub commands: Vec<Command>,
    /// The child of exec mode.
    pub child: Option<Child>,
}

/// The state of a resource.
#[derive(Clone, Copy, Debug, Serialize, Deserialize, PartialEq, Eq)]
pub enum State {
    /// Every file is in place, and nothing fails.
    #[serde(rename = "in place")]
    InPlace,
    /// The first update has not ended.
    #[serde(rename = "first update under way")]
    Starting,
    /// A part of it fails.
    #[serde(rename = "failing")]
    Failing,
    /// The reload for the last result failed, and the old file was put back.
    #[serde(rename = "rolled back")]
    RolledBack,
}

/// The keys of an earlier run.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq)]
pub struct Cache {
    /// When the update that had these keys succeeded, in seconds since 1970. Later than now: the clock is behind.
    pub keys_of: i64,
}

/// Updates that the guard refuses.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq)]
pub struct Guard {
    /// The number of refused updates in a row.
    pub refusals: u64,
    /// The rules that the last one breaks, with figures.
    pub reason: String,
}

/// A file.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq)]
pub struct File {
    /// The destination, as the user wrote it.
    pub path: String,
    /// Since when it is in sync, in seconds since 1970; none: it is not.
    pub in_sync_since: Option<i64>,
    /// When it was last replaced, in seconds since 1970.
    pub last_change: Option<i64>,
    /// The last error, without texts of templates or commands, which may contain values.
    pub last_error: Option<String>,
}

/// A backend.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq)]
pub struct Backend {
    /// Its name.
    pub name: String,
    /// Whether it delivered its keys and does not fail.
    pub connected: bool,
    /// The revision of its keys, in the store's count of changes; none: the store does not count, or nothing was read.
    pub revision: Option<u64>,
    /// The number of failed reads and watches.
    pub failures: u64,
    /// The last error, without texts of the store: see [`without_quotes`].
    pub last_error: Option<String>,
}

/// The last run of a command.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq)]
pub struct Command {
    /// The name of the command: `check command`.
    pub command: String,
    /// The file, for a command of a template.
    pub file: Option<String>,
    /// The result: `succeeded`, or the cause of the failure.
    pub result: String,
    /// The exit status in the form of a shell: 128 plus the number of the signal, if a signal ended the command; none:
    /// the command could not be started.
    pub exit: Option<u8>,
    /// When it ended, in seconds since 1970.
    pub ended: i64,
    /// From its start to its end.
    pub milliseconds: u64,
}

/// The child of exec mode.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq)]
pub struct Child {
    /// Whether it runs.
    pub running: bool,
    /// Its process while it runs.
    pub pid: Option<i32>,
    /// When it was started or ended last, in seconds since 1970; none: it was never started.
    pub since: Option<i64>,
    /// The number of starts.
    pub starts: u64,
    /// The last end of the child.
    pub last_exit: Option<String>,
    /// The exit status of the last end, in the form of a shell; none: it has not ended, or could not be started.
    pub last_status: Option<u8>,
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            State::InPlace => "in place",
            State::Starting => "first update under way",
            State::Failing => "failing",
            State::RolledBack => "rolled back",
        })
    }
}

impl Status {
    /// Whether every resource is in place and none fails.
    pub fn is_healthy(&self) -> bool {
        self.resources.iter().all(|resource| resource.state == State::InPlace)
    }

    /// The text of the file: JSON on several lines.
    pub fn to_json(&self) -> String {
        let mut text = serde_json::to_string_pretty(self).unwrap_or_default();
        text.push('\n');
        text
    }

    /// Reads the text of the file.
    ///
    /// # Errors
    /// The text is not of this form; the message has the place.
    pub fn of_json(text: &[u8]) -> Result<Status, String> {
        serde_json::from_slice(text).map_err(|e| e.to_string())
    }

    /// Drops the resources with other names; no names keep all resources.
    pub fn restrict(&mut self, only: &[String]) {
        self.resources.retain(|resource| only.is_empty() || only.contains(&resource.name));
    }

    /// A readable table, in lines of 79 columns if the words allow it. `now` is in seconds since 1970.
    pub fn table(&self, now: i64) -> String {
        let mut text = format!("remco {}, process {}, since {}\n", self.version, self.pid, time(self.since));
        for resource in &self.resources {
            text.push('\n');
            resource.rows(now, &mut text);
        }
        text
    }
}

impl Resource {
    fn rows(&self, now: i64, text: &mut String) {
        let Resource { name, state, since, last_success, cache, guard, files, backends, commands, child } = self;
        let success = last_success.map(|at| format!(", last success {} ago", ago(now, at))).unwrap_or_default();
        row(text, 0, &format!("{}: {state} for {}{success}", one_line(name), ago(now, *since)));
        if let Some(Cache { keys_of }) = cache {
            let age = if *keys_of > now { "of unknown age".to_owned() } else { format!("{} old", ago(now, *keys_of)) };
            row(text, 2, &format!("from cache: keys of an earlier run, {age}"));
        }
        if let Some(Guard { refusals, reason }) = guard {
            row(text, 2, &format!("guard: the update is refused, refusals: {refusals}, {}", one_line(reason)));
        }
        for File { path, in_sync_since, last_change, last_error } in files {
            let sync = match in_sync_since {
                Some(at) => format!("in sync for {}", ago(now, *at)),
                None => "not in sync".to_owned(),
            };
            let change = last_change.map(|at| format!(", changed {} ago", ago(now, at))).unwrap_or_default();
            row(text, 2, &format!("file {}: {sync}{change}{}", one_line(path), error(last_error)));
        }
        for Backend { name, connected, revision, failures, last_error } in backends {
            let connected = if *connected { "connected" } else { "not connected" };
            let revision = revision.map(|revision| format!(", revision {revision}")).unwrap_or_default();
            let failures = if *failures == 0 { String::new() } else { format!(", failures: {failures}") };
            let error = error(last_error);
            row(text, 2, &format!("backend {}: {connected}{revision}{failures}{error}", one_line(name)));
        }
        for Command { command, file, result, exit: _, ended, milliseconds } in commands {
            let file = file.as_ref().map(|file| format!(" of {}", one_line(file))).unwrap_or_default();
            let when = format!("after {milliseconds} ms, {} ago", ago(now, *ended));
            row(text, 2, &format!("{command}{file}: {} {when}", one_line(result)));
        }
        if let Some(Child { running, pid, since, starts, last_exit, last_status: _ }) = child {
            let running = if *running { "running" } else { "not running" };
            let pid = pid.map(|pid| format!(", process {pid}")).unwrap_or_default();
            let since = since.map(|at| format!(" for {}", ago(now, at))).unwrap_or_default();
            let exit = last_exit.as_ref().map(|how| format!(", last exit: {}", one_line(how))).unwrap_or_default();
            row(text, 2, &format!("child: {running}{since}{pid}, starts: {starts}{exit}"));
        }
    }
}

/// Columns of a line of the table.
const COLUMNS: usize = 79;

/// Appends a row. A long row continues on the next lines, indented by four columns.
fn row(text: &mut String, indent: usize, words: &str) {
    let mut at = 0;
    for (n, word) in words.split(' ').enumerate() {
        let columns: usize = word.chars().map(columns).sum();
        let margin = match n {
            0 => indent,
            _ if at + 1 + columns <= COLUMNS => {
                text.push(' ');
                at += 1 + columns;
                text.push_str(word);
                continue;
            }
            _ => {
                text.push('\n');
                indent + 4
            }
        };
        text.extend(std::iter::repeat_n(' ', margin));
        text.push_str(word);
        at = margin + columns;
    }
    text.push('\n');
}

/// The subject of a backend's error, and its cause if the cause is a text of this program or of the system. The text of
/// a store or a plugin, and an error of a document, may quote a value. The log has the whole error.
pub fn without_quotes(error: &str) -> String {
    match error.split_once(": ") {
        Some((subject, cause)) if !is_plain(cause) => format!("{subject}; the log says why"),
        Some(_) | None => error.to_owned(),
    }
}

/// The causes that quote no answer. A cause that is missing here is left out, which is safe.
const CAUSES: [&str; 12] = [
    "connection refused",
    "connection closed by the server",
    "connection closed by the server before it answered",
    "connection reset by peer",
    "connection timed out",
    "host is unreachable",
    "network is unreachable",
    "no route to host",
    "no such file or directory",
    "permission denied",
    "is a directory",
    "no answer",
];

/// The texts before ` within ` and a limit.
const MISSED: [&str; 5] = ["no answer", "no connection", "no reply", "TLS not set up", "what was sent not taken"];

fn is_plain(cause: &str) -> bool {
    let is_limit = |limit: &str| {
        let number = limit.trim_end_matches(|c: char| !c.is_ascii_digit());
        let is_number = number.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
        is_number && ["s", "ms", "\u{b5}s", "ns"].contains(&&limit[number.len()..])
    };
    let is_late = |(missed, limit): (&str, &str)| MISSED.contains(&missed) && is_limit(limit);
    let is_exit = |status: &str| status.len() <= 3 && status.bytes().all(|byte| byte.is_ascii_digit());
    CAUSES.contains(&cause)
        || cause.split_once(" within ").is_some_and(is_late)
        || cause.strip_prefix("it exited with status ").is_some_and(is_exit)
}

fn error(last: &Option<String>) -> String {
    last.as_ref().map(|error| format!(", last error: {}", one_line(error))).unwrap_or_default()
}

fn one_line(text: &str) -> String {
    without_controls(text).collect()
}

fn time(unix: i64) -> String {
    let Civil { year, month, day, hour, minute, second, .. } = Civil::of(unix);
    format!("{year:04}-{month:02}-{day:02} {hour:02}:{minute:02}:{second:02} UTC")
}

/// The time since a moment, in one unit.
fn ago(now: i64, then: i64) -> String {
    match now.saturating_sub(then).max(0) {
        seconds @ ..120 => format!("{seconds} s"),
        seconds @ 120..7_200 => format!("{} min", seconds / 60),
        seconds @ 7_200..172_800 => format!("{} h", seconds / 3_600),
        seconds => format!("{} d", seconds / 86_400),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status() -> Status {
        let file = File {
            path: "/etc/app.conf".to_owned(),
            in_sync_since: Some(1000),
            last_change: Some(940),
            last_error: Some("check command\nexited".to_owned()),
        };
        let backend =
            Backend { name: "etcd".to_owned(), connected: true, revision: Some(41), failures: 2, last_error: None };
        let command = Command {
            command: "check command".to_owned(),
            file: Some("/etc/app.conf".to_owned()),
            result: "succeeded".to_owned(),
            exit: Some(0),
            ended: 1000,
            milliseconds: 12,
        };
        let child =
            Child { running: true, pid: Some(8), since: Some(1001), starts: 1, last_exit: None, last_status: None };
        let resource = Resource {
            name: "app".to_owned(),
            state: State::InPlace,
            since: 995,
            last_success: Some(1000),
            cache: None,
            guard: None,
            files: vec![file],
            backends: vec![backend],
            commands: vec![command],
            child: Some(child),
        };
        Status { version: "1.2.3".to_owned(), pid: 7, since: 0, resources: vec![resource] }
    }

    #[test]
    fn json_is_read_as_it_was_written() {
        let text = status().to_json();
        assert!(text.contains("\"state\": \"in place\"") && text.ends_with("}\n"), "{text}");
        assert_eq!(Status::of_json(text.as_bytes()).unwrap(), status());
        assert!(Status::of_json(b"{}").is_err());
    }

    #[test]
    fn the_table_has_a_row_for_each_part() {
        let want = "remco 1.2.3, process 7, since 1970-01-01 00:00:00 UTC\n\n\
            app: in place for 10 s, last success 5 s ago\n  \
            file /etc/app.conf: in sync for 5 s, changed 65 s ago, last error: check\n      \
            command exited\n  \
            backend etcd: connected, revision 41, failures: 2\n  \
            check command of /etc/app.conf: succeeded after 12 ms, 5 s ago\n  \
            child: running for 4 s, process 8, starts: 1\n";
        assert_eq!(status().table(1005), want);
        let mut failing = status();
        assert!(failing.is_healthy());
        let resource = &mut failing.resources[0];
        resource.state = State::Failing;
        (resource.files, resource.commands, resource.child) = (vec![], vec![], None);
        resource.cache = Some(Cache { keys_of: -6000 });
        resource.guard = Some(Guard { refusals: 3, reason: "there are 0 keys, `min_keys` is 1".to_owned() });
        let want = "remco 1.2.3, process 7, since 1970-01-01 00:00:00 UTC\n\n\
            app: failing for 10 s, last success 5 s ago\n  \
            from cache: keys of an earlier run, 116 min old\n  \
            guard: the update is refused, refusals: 3, there are 0 keys, `min_keys` is 1\n  \
            backend etcd: connected, revision 41, failures: 2\n";
        assert_eq!(failing.table(1005), want);
        assert!(!failing.is_healthy());
        failing.restrict(&["other".to_owned()]);
        assert!(failing.resources.is_empty());
        let spans: Vec<String> = [0, 119, 120, 7_200, 172_800, -5].map(|seconds| ago(seconds, 0)).into();
        assert_eq!(spans, ["0 s", "119 s", "2 min", "2 h", "2 d", "0 s"]);
    }

    #[test]
    fn rows_go_on_in_the_next_line() {
        let check = |words: &str, want: &str| {
            let mut text = String::new();
            row(&mut text, 2, words);
            assert_eq!(text, want);
        };
        let (word, long) = ("w".repeat(38), "l".repeat(100));
        check("", "  \n");
        check(&format!("{word} {word}"), &format!("  {word} {word}\n"));
        check(&format!("{word} {word}w"), &format!("  {word}\n      {word}w\n"));
        check(&format!("a {long} b"), &format!("  a\n      {long}\n      b\n"));
        let wide = "\u{4e2d}".repeat(19);
        check(&format!("{wide} {wide}"), &format!("  {wide} {wide}\n"));
        check(&format!("{wide} {wide}x"), &format!("  {wide}\n      {wide}x\n"));
    }

    #[test]
    fn an_error_of_a_backend_tells_a_cause_only_where_it_quotes_nothing() {
        let check = |error: &str, want: &str| assert_eq!(without_quotes(error), want);
        for plain in [
            "failed to read from http://a:1: connection refused",
            "failed to watch `/a` from http://a:1: no answer within 1.5s",
            "failed to read from redis://a: no reply within 500ms",
            "failed to open `a.yml`: no such file or directory",
            "plugin ./p failed: it exited with status 3",
            "the token may read none of the keys",
        ] {
            check(plain, plain);
        }
        check("failed to read from z: key `/a` does not exist", "failed to read from z; the log says why");
        check("plugin ./p failed: no JSON: `s3cret`", "plugin ./p failed; the log says why");
        check(
            "plugin ./p answered an error to Plugin.GetValues: s3cret is wrong: no answer",
            "plugin ./p answered an error to Plugin.GetValues; the log says why",
        );
        check("failed to parse `a.yml:1:2`: unknown anchor `s3cret`", "failed to parse `a.yml:1:2`; the log says why");
        for sly in ["no answer within s3cret", "it exited with status s3cret", "no answer within 1.s3cret", "s3cret"] {
            check(&format!("failed to read from a: {sly}"), "failed to read from a; the log says why");
        }
        let two = "failed to read from a: connection refused; failed to read from b: s3cret";
        check(two, "failed to read from a; the log says why");
    }
}
