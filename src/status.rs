//! The state of the program as data: what the status file holds, and the table that `--status` prints of it. Holds no value
//! of a key and no output of a command. Reads and writes no file.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::calendar::Civil;
use crate::cut::without_controls;

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
    /// How it is.
    pub state: State,
    /// When the last update without a failure ended, in seconds since 1970.
    pub last_success: Option<i64>,
    /// The files of its templates.
    pub files: Vec<File>,
    /// Its backends.
    pub backends: Vec<Backend>,
    /// The last run of each command that has run.
    pub commands: Vec<Command>,
    /// The child of exec mode.
    pub child: Option<Child>,
}

/// How a resource is.
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
    /// What failed last, without what a template or a command says of values.
    pub last_error: Option<String>,
}

/// A backend.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq)]
pub struct Backend {
    /// Its name.
    pub name: String,
    /// Whether it delivered its keys and does not fail.
    pub connected: bool,
    /// How far its keys have come, as the store counts its changes; none: it does not count, or nothing was read.
    pub revision: Option<u64>,
    /// How many reads and watches failed.
    pub failures: u64,
    /// What failed last.
    pub last_error: Option<String>,
}

/// The last run of a command.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq)]
pub struct Command {
    /// Which one: `check command`.
    pub command: String,
    /// The file, for a command of a template.
    pub file: Option<String>,
    /// What came of it: `succeeded`, or the cause of the failure.
    pub result: String,
    /// From its start to its end.
    pub milliseconds: u64,
}

/// The child of exec mode.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq)]
pub struct Child {
    /// Whether it runs.
    pub running: bool,
    /// How often it was started.
    pub starts: u64,
    /// How it ended last.
    pub last_exit: Option<String>,
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            State::InPlace => "in place",
            State::Starting => "first update under way",
            State::Failing => "failing",
        })
    }
}

impl Status {
    /// Whether every resource is in place and none fails.
    pub fn is_well(&self) -> bool {
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
    /// It is another text; the text says where.
    pub fn of_json(text: &[u8]) -> Result<Status, String> {
        serde_json::from_slice(text).map_err(|e| e.to_string())
    }

    /// The table for people. `now` is in seconds since 1970.
    pub fn table(&self, now: i64) -> String {
        let mut text = format!("remco {}, process {}, since {}\n", self.version, self.pid, time(self.since));
        for Resource { name, state, last_success, files, backends, commands, child } in &self.resources {
            let success = last_success.map(|at| format!(", last success {} ago", ago(now, at))).unwrap_or_default();
            text.push_str(&format!("\n{}: {state}{success}\n", one_line(name)));
            for File { path, in_sync_since, last_change, last_error } in files {
                let sync = match in_sync_since {
                    Some(at) => format!("in sync for {}", ago(now, *at)),
                    None => "not in sync".to_owned(),
                };
                let change = last_change.map(|at| format!(", changed {} ago", ago(now, at))).unwrap_or_default();
                text.push_str(&format!("  file {}: {sync}{change}{}\n", one_line(path), error(last_error)));
            }
            for Backend { name, connected, revision, failures, last_error } in backends {
                let connected = if *connected { "connected" } else { "not connected" };
                let revision = revision.map(|revision| format!(", revision {revision}")).unwrap_or_default();
                let failures = if *failures == 0 { String::new() } else { format!(", failures: {failures}") };
                text.push_str(&format!(
                    "  backend {}: {connected}{revision}{failures}{}\n",
                    one_line(name),
                    error(last_error)
                ));
            }
            for Command { command, file, result, milliseconds } in commands {
                let file = file.as_ref().map(|file| format!(" of {}", one_line(file))).unwrap_or_default();
                text.push_str(&format!("  {command}{file}: {} after {milliseconds} ms\n", one_line(result)));
            }
            if let Some(Child { running, starts, last_exit }) = child {
                let running = if *running { "running" } else { "not running" };
                let exit = last_exit.as_ref().map(|how| format!(", last exit: {}", one_line(how))).unwrap_or_default();
                text.push_str(&format!("  child: {running}, starts: {starts}{exit}\n"));
            }
        }
        text
    }
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

/// How long ago a moment was, in one unit.
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
            milliseconds: 12,
        };
        let resource = Resource {
            name: "app".to_owned(),
            state: State::InPlace,
            last_success: Some(1000),
            files: vec![file],
            backends: vec![backend],
            commands: vec![command],
            child: Some(Child { running: true, starts: 1, last_exit: None }),
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
    fn the_table_has_a_line_for_each_part() {
        let want = "remco 1.2.3, process 7, since 1970-01-01 00:00:00 UTC\n\n\
            app: in place, last success 5 s ago\n  \
            file /etc/app.conf: in sync for 5 s, changed 65 s ago, last error: check command exited\n  \
            backend etcd: connected, revision 41, failures: 2\n  \
            check command of /etc/app.conf: succeeded after 12 ms\n  \
            child: running, starts: 1\n";
        assert_eq!(status().table(1005), want);
        let mut failing = status();
        assert!(failing.is_well());
        failing.resources[0].state = State::Failing;
        assert!(!failing.is_well());
        let spans: Vec<String> = [0, 119, 120, 7_200, 172_800, -5].map(|seconds| ago(seconds, 0)).into();
        assert_eq!(spans, ["0 s", "119 s", "2 min", "2 h", "2 d", "0 s"]);
    }
}
