//! The child of a resource: the rows of its keys and their parser. Does not check whether the program exists, and
//! starts nothing: `resource` decides that, and `host` does it.

use std::time::Duration;

use super::document::{Table, Value};
use super::model::{Exec, WordPart};
use super::reader::{Found, Reader};
use super::report::{Report, quoted};
use super::schema::{Default, Schema, Type, Unit, key};
use super::source::Shell;
use super::{plain, signal, words};
use crate::nearest::nearest;

/// The child of a resource.
pub(super) static EXEC: Schema = Schema {
    path: "resource.exec",
    title: "`exec`",
    groups: &[&[
        key("command", Type::Text, Default::Needed, "program and arguments, split as described below"),
        key(
            "reload_signal",
            Type::Text,
            Default::Unset,
            "sent to the child after a change; without it the child is stopped and started again",
        ),
        key("kill_signal", Type::Text, Default::Word("SIGTERM"), "sent to stop the child"),
        key(
            "kill_timeout",
            Type::Integer(Unit::Seconds),
            Default::Number(10),
            "a child that has not exited after this time is killed; 0 means 10",
        ),
        key(
            "splay",
            Type::Integer(Unit::Seconds),
            Default::Number(0),
            "the upper bound of a random delay before the child gets the reload signal or is restarted",
        ),
        key(
            "env",
            Type::TableOfTexts,
            Default::Unset,
            "environment variables that are set for the child, besides those of remco. Go remco has no such key",
        ),
    ]],
};

/// The default of `kill_signal`.
const SIGTERM: i32 = 15;

/// Reads an `exec`. `None`: it has no command.
pub(super) fn parse(report: &Report, table: &Found<&Table>, shell: Shell) -> Option<Exec> {
    let reader = Reader::new(report, &EXEC, table.value, table.span);
    let signal = |key| {
        let name = reader.filled(key)?;
        let number = signal::number(name.value);
        if number.is_none() {
            let shown = report.show(name.span, name.value);
            let advice = match nearest(
                &format!("SIG{}", name.value.to_ascii_uppercase().trim_start_matches("SIG")),
                signal::names(),
            ) {
                Some(known) => format!(", did you mean {}?", quoted(known)),
                None => ": write it like `SIGHUP` or `SIGRTMIN+3`".to_owned(),
            };
            report.error(name.span, format!("unknown {} {shown}{advice}", quoted(key)));
        }
        number
    };
    let reload_signal = signal("reload_signal");
    let kill_signal = signal("kill_signal").unwrap_or(SIGTERM);
    // For Go remco, 0 means that the key is not set.
    let kill_timeout = match reader.seconds_or_default("kill_timeout") {
        Duration::ZERO => reader.default_seconds("kill_timeout"),
        timeout => timeout,
    };
    let splay = reader.seconds_or_default("splay");
    let env = env(&reader);
    let Some(found) = reader.filled("command") else {
        if reader.text("command").is_some() || !reader.has("command") {
            let why = report.unset(reader.place("command"));
            report.warn_missing(reader.place("command"), format!("`exec` starts nothing: its `command` is empty{why}"));
        }
        return None;
    };
    let command = match words::split(found.value) {
        Ok(words) if words.is_empty() => {
            report.error(found.span, "`command` is blank: name a program");
            return None;
        }
        Ok(words) => words,
        Err(fault) => {
            report.error(report.inside_string(found.span, fault.at), fault.message);
            return None;
        }
    };
    let first = command.first().map_or(&[][..], |word| &word.parts);
    if let [WordPart::Text(program)] = first {
        report.note_program(found.span, || Some(program.into()));
    }
    let runs_commands = command.iter().flat_map(|word| &word.parts).any(|part| matches!(part, WordPart::Output(_)));
    if runs_commands && shell == Shell::Missing {
        report.error(found.span, plain::needs_shell("command", "its backquotes or `$(`"));
    }
    Some(Exec { command, reload_signal, kill_signal, kill_timeout, splay, env })
}

/// The variables of the child.
fn env(reader: &Reader) -> Vec<(String, String)> {
    let mut all = Vec::new();
    for table in reader.tables_of_layers("env") {
        for entry in &table.value.entries {
            let Value::Text(text) = &entry.node.value else {
                let key = reader.report.show(entry.key_span, &entry.key);
                let message = format!("{key} must be a string, like all values of `env`: put it in quotes");
                reader.report.error_in_free_table(entry.node.span, message);
                continue;
            };
            if entry.key.is_empty() || entry.key.contains(['=', '\0']) || text.contains('\0') {
                let message = "a variable of `env` needs a name without `=`, and no zero byte";
                reader.report.error(entry.key_span, message);
            }
            all.push((entry.key.to_string(), text.to_string()));
        }
    }
    all
}
