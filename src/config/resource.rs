//! The keys of a resource, its templates and its child: their rows and what they mean. Backends are in `backend`. Does
//! not check whether a file or a program exists.

use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::time::Duration;

use super::accounts::{Accounts, Kind};
use super::document::{Span, Table, Value};
use super::duration::DURATION_FORM;
use super::model::{
    Cache, Command, Commit, Durability, Exec, Guard, OnReloadFailure, Resource, Settle, Template, WordPart,
};
use super::reader::{Found, Reader};
use super::report::{Report, quoted};
use super::schema::{Default, Schema, Type, Unit, key};
use super::source::Shell;
use super::{backend, cache, command, plain, signal, words};
use crate::nearest::nearest;
use crate::store::pattern::Pattern;

/// A resource; also the top level of an included file.
pub(super) static RESOURCE: Schema = Schema {
    path: "resource",
    title: "a resource",
    groups: &[&[
        key("name", Type::Text, Default::Described("the name of the file it is in"), "the name in log lines"),
        key(
            "start_cmd",
            Type::Text,
            Default::Unset,
            "run by `/bin/sh -c` after the first successful rendering, and again before a child that exited by itself is \
             restarted. If it is set, the first rendering runs no `check_cmd` and no `reload_cmd` of a template",
        ),
        key(
            "start_timeout",
            Type::Integer(Unit::Seconds),
            Default::Number(60),
            "the timeout of `start_cmd`; 0: no timeout",
        ),
        key(
            "reload_cmd",
            Type::Text,
            Default::Unset,
            "run by `/bin/sh -c` after each later update that changed a file, after the child was notified",
        ),
        key(
            "reload_timeout",
            Type::Integer(Unit::Seconds),
            Default::Number(60),
            "the timeout of `reload_cmd`; 0: no timeout",
        ),
        key(
            "reload_once",
            Type::Boolean,
            Default::Flag(false),
            "equal `reload_cmd` of several templates run once an update, after the last of these templates, with its \
             `reload_timeout`. Go remco has no such key and runs each",
        ),
        key(
            "splay",
            Type::Duration,
            Default::Unset,
            "the upper bound of a random delay before an update, so that many hosts do not act at once. It does not delay \
             the first update, SIGHUP and `-onetime`. Go remco has no such key",
        ),
        key(
            "commit",
            Type::Text,
            Default::Word("each"),
            "`each`: the files of an update are replaced one by one, each with its check and reload, and a file that \
             fails does not delay the others. `together`: see \
             [Files that belong together](operation.md#files-that-belong-together). Go \
             remco has no such key",
        ),
        key(
            "on_reload_failure",
            Type::Text,
            Default::Word("keep"),
            "what follows when `reload_cmd` fails, and the default of the templates. `keep`: the new files stay, and the command \
             is tried again. `rollback`: the old files are put back: see [Rollback](operation.md#rollback). Go remco has no \
             such key",
        ),
        key(
            "settle",
            Type::Table,
            Default::Unset,
            "waits for keys to settle: see [`[resource.settle]`](#resourcesettle)",
        ),
        key("guard", Type::Table, Default::Unset, "refuses updates: see [`[resource.guard]`](#resourceguard)"),
        key(
            "cache",
            Type::Table,
            Default::Unset,
            "the keys of an earlier run: see [`[resource.cache]`](#resourcecache)",
        ),
        key(
            "secret",
            Type::Boolean,
            Default::Flag(false),
            "`secret` of all backends of the resource: see [Backends](#backends)",
        ),
        key("exec", Type::Table, Default::Unset, "a child process: see [`[resource.exec]`](#resourceexec)"),
        key(
            "template",
            Type::Tables,
            Default::Unset,
            "the templates: see [`[[resource.template]]`](#resourcetemplate)",
        ),
        key(
            "backend",
            Type::Table,
            Default::Unset,
            "the [backends](#backends); at least one is needed, here or in `default_backends`",
        ),
    ]],
};

/// How long an update waits for more changes. Go remco has no such table.
pub(super) static SETTLE: Schema = Schema {
    path: "resource.settle",
    title: "`settle`",
    groups: &[&[
        key("min", Type::Duration, Default::Needed, "an update waits until nothing has changed for this time"),
        key(
            "max",
            Type::Duration,
            Default::Described("four times `min`"),
            "an update waits at most this time after the first change; not below `min`",
        ),
    ]],
};

/// What keys an update needs. Go remco has no such table.
pub(super) static GUARD: Schema = Schema {
    path: "resource.guard",
    title: "`guard`",
    groups: &[&[
        key(
            "min_keys",
            Type::Integer(Unit::Plain),
            Default::Number(0),
            "the smallest number of keys that an update needs",
        ),
        key(
            "max_delete_percent",
            Type::Integer(Unit::Plain),
            Default::Unset,
            "at most this part of the keys that the last accepted update had may be gone, 0 to 100. Without `state_dir` the \
             first update after the start has nothing to compare with",
        ),
        key(
            "require",
            Type::Texts,
            Default::Unset,
            "keys and patterns as those of `gets`; each has to match a key: `[\"/app/db/host\", \"/app/web/*\"]`",
        ),
    ]],
};

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

/// A template of a resource.
pub(super) static TEMPLATE: Schema = Schema {
    path: "resource.template",
    title: "a template",
    groups: &[&[
        key(
            "src",
            Type::Text,
            Default::Needed,
            "the template. A relative path is relative to the working directory. A change of the file is picked up by the \
             next update: a changed key, an `interval`, SIGHUP",
        ),
        key(
            "dst",
            Type::Text,
            Default::Needed,
            "the file to write. Two templates cannot have one `dst`, and it cannot be the configuration, a `src` or a \
             `filepath`. Files are compared, not paths: `..`, links (hard links too) and relative paths are resolved when \
             the configuration is read. A `dst` that its own template includes is an error when it would be written",
        ),
        key(
            "make_directories",
            Type::Boolean,
            Default::Flag(false),
            "creates the directories above `dst`, with mode 0755 less the umask, as Go remco does",
        ),
        key(
            "mode",
            Type::Text,
            Default::Described("that of `dst`, else `\"0644\"`"),
            "permission bits as `\"0644\"`, `\"0o644\"`, `\"0x1a4\"` or `\"0b110100100\"`, at most 07777. `\"644\"` also \
             means 0644, with a warning. Setuid and setgid are set only if this key sets them. Access control lists: see \
             [Output files](operation.md#output-files)",
        ),
        key(
            "UID",
            Type::Integer(Unit::Plain),
            Default::Described("not changed"),
            "the user id of the owner, 0 to 4294967294; -1: not changed",
        ),
        key(
            "GID",
            Type::Integer(Unit::Plain),
            Default::Described("not changed"),
            "the group id of the owner, 0 to 4294967294; -1: not changed",
        ),
        key(
            "owner",
            Type::Text,
            Default::Unset,
            "the owner by name, instead of `UID`. The name has to be in /etc/passwd when the configuration is read. Go remco \
             has no such key",
        ),
        key(
            "group",
            Type::Text,
            Default::Unset,
            "the group by name, instead of `GID`. The name has to be in /etc/group when the configuration is read. Go remco \
             has no such key",
        ),
        key(
            "check_cmd",
            Type::Text,
            Default::Unset,
            "run by `/bin/sh -c` before `dst` is replaced; if it fails, the old file stays. `{{.src}}` is the path of the \
             new, temporary file",
        ),
        key(
            "check_timeout",
            Type::Integer(Unit::Seconds),
            Default::Number(60),
            "the timeout of `check_cmd`; 0: no timeout",
        ),
        key(
            "reload_cmd",
            Type::Text,
            Default::Unset,
            "run by `/bin/sh -c` after `dst` was replaced, and retried until it succeeds. `{{.dst}}` is the path of the file",
        ),
        key(
            "reload_timeout",
            Type::Integer(Unit::Seconds),
            Default::Number(60),
            "the timeout of `reload_cmd`; 0: no timeout",
        ),
        key(
            "on_reload_failure",
            Type::Text,
            Default::Described("that of the resource"),
            "what follows when `reload_cmd` fails. `keep`: the new file stays, and the command is tried again. `rollback`: the \
             old file is put back: see [Rollback](operation.md#rollback). Go remco has no such key",
        ),
        key(
            "durability",
            Type::Text,
            Default::Word("full"),
            "the guarantee for a power failure after `dst` was replaced. `full`: the new file is there; the file and its \
             directory are synced. `file`: the old or the new file is there, complete; only the file is synced. `none`: \
             nothing is synced, and `dst` may be there without its content. Go remco has no such key",
        ),
        key(
            "in_place",
            Type::Boolean,
            Default::Flag(false),
            "writes into the existing file at `dst` instead of replacing it, for a file that has to keep its inode. \
             A crash during the write leaves a partial file; the next start writes it again. A `dst` that does not exist \
             is created as without this key. Go remco has no such key",
        ),
        key(
            "backup",
            Type::Boolean,
            Default::Flag(false),
            "keeps the file that is replaced as `dst` and `.bak`, with its owner and mode. Where the old file cannot be kept, \
             it is not replaced, and that is an error. Go remco has no such key",
        ),
        // Go remco reads it by accident: it is an internal field with an exported name.
        key("ReapLock", Type::Unused, Default::Unset, "accepted and ignored"),
    ]],
};

/// The place of a resource in the files. Messages spell the headers of its tables accordingly.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Origin {
    /// `[[resource]]`
    Main,
    /// The top level of a file of include_dir.
    Included,
}

impl Origin {
    /// The full header of a table below a resource.
    fn header(self, table: &str) -> String {
        match self {
            Origin::Main => format!("resource.{table}"),
            Origin::Included => table.to_owned(),
        }
    }
}

/// A resource, and the places of its name, of its `cache` and of the `dst` of each of its templates.
pub(super) struct Parsed {
    pub resource: Resource,
    pub name: Span,
    /// `None`: there is no such table.
    pub cache: Option<Span>,
    pub destinations: Vec<Span>,
}

/// What the meaning of a resource depends on.
pub(super) struct Surroundings<'s> {
    pub shell: Shell,
    pub accounts: Accounts<'s>,
}

/// Reads one resource. `file_name` is the name of a resource without a `name`.
pub(super) fn parse(
    reader: &Reader,
    origin: Origin,
    file_name: &str,
    defaults: Option<&Found<&Table>>,
    surroundings: &Surroundings,
) -> Parsed {
    let shell = surroundings.shell;
    let name = reader.filled("name").map_or(file_name, |name| name.value).to_owned();
    let command = |key| {
        let found = reader.filled(key)?;
        runs_without_shell(reader.report, key, &found, found.value.as_bytes(), shell);
        Some(found.value.to_owned())
    };
    let (start_cmd, reload_cmd) = (command("start_cmd"), command("reload_cmd"));
    let (start_timeout, reload_timeout) = (timeout(reader, "start_timeout"), timeout(reader, "reload_timeout"));
    let splay = reader.duration("splay").map_or(Duration::ZERO, |splay| splay.value);
    let settle = reader.table("settle").and_then(|table| settle(reader.report, &table));
    let cache = reader.table("cache");
    let cache_place = cache.as_ref().map(|table| table.span);
    let cache = cache.map_or_else(Cache::default, |table| cache::parse(reader.report, &table));
    let exec = reader.table("exec").and_then(|table| exec(reader.report, &table, shell));
    let on_failure = on_reload_failure(reader);
    let mut can_fail = reload_cmd.is_some();
    let (mut templates, mut destinations) = (Vec::new(), Vec::new());
    for table in reader.tables("template", &origin.header("template")) {
        let reader = Reader::new(reader.report, &TEMPLATE, table.value, table.span);
        can_fail |= reader.has("reload_cmd");
        if let Some((template, dst)) = template(&reader, surroundings, on_failure.unwrap_or_default()) {
            templates.push(template);
            destinations.push(dst);
        }
    }
    if !can_fail && on_failure == Some(OnReloadFailure::Rollback) {
        warn_of_no_reload(reader);
    }
    let idle = exec.is_none() && start_cmd.is_none() && !reader.has("exec");
    if !reader.has("template") && idle && origin == Origin::Main {
        reader.report.warn_missing(reader.span(), "this resource renders nothing: it has no `[[resource.template]]`");
    }
    let mut backends = backend::parse_all(reader, &origin.header("backend"), defaults);
    let secret = reader.boolean("secret");
    backends.iter_mut().for_each(|backend| backend.secret |= secret);
    Parsed {
        resource: Resource {
            name,
            start_cmd,
            start_timeout,
            reload_cmd,
            reload_timeout,
            reload_once: reader.boolean("reload_once"),
            splay,
            commit: commit(reader),
            on_reload_failure: on_failure.unwrap_or_default(),
            settle,
            guard: reader.table("guard").map(|table| guard(reader.report, &table)),
            cache,
            exec,
            templates,
            backends,
        },
        name: reader.place("name"),
        cache: cache_place,
        destinations,
    }
}

fn settle(report: &Report, table: &Found<&Table>) -> Option<Settle> {
    let reader = Reader::new(report, &SETTLE, table.value, table.span);
    let (min, max) = (reader.duration("min"), reader.duration("max"));
    if !reader.has("min") {
        report.missing(reader.span(), format!("`min` is missing in `settle`: {DURATION_FORM}"));
    }
    let min = min?.value;
    let wrong = max.is_none() && reader.has("max");
    let max = max.unwrap_or(Found { value: min.saturating_mul(4), span: reader.span() });
    if max.value < min {
        report.error(max.span, "`max` of `settle` is less than `min`: an update waits at most `max`");
    }
    (!wrong).then_some(Settle { min, max: max.value })
}

fn commit(reader: &Reader) -> Commit {
    let Some(found) = reader.filled("commit") else { return Commit::default() };
    match found.value {
        "each" => Commit::Each,
        "together" => Commit::Together,
        other => {
            let shown = reader.report.show(found.span, other);
            reader.report.error(found.span, format!("unknown `commit` {shown}: known are `each` and `together`"));
            Commit::default()
        }
    }
}

/// `None`: there is no such key.
fn on_reload_failure(reader: &Reader) -> Option<OnReloadFailure> {
    let found = reader.filled("on_reload_failure")?;
    match found.value {
        "keep" => Some(OnReloadFailure::Keep),
        "rollback" => Some(OnReloadFailure::Rollback),
        other => {
            let shown = reader.report.show(found.span, other);
            let message = format!("unknown `on_reload_failure` {shown}: known are `keep` and `rollback`");
            reader.report.error(found.span, message);
            None
        }
    }
}

fn warn_of_no_reload(reader: &Reader) {
    if let Some(found) = reader.filled("on_reload_failure") {
        let message = "nothing is rolled back without a `reload_cmd`: set one; `reload_signal` has no result";
        reader.report.warn(found.span, message);
    }
}

fn guard(report: &Report, table: &Found<&Table>) -> Guard {
    let before = report.count();
    let reader = Reader::new(report, &GUARD, table.value, table.span);
    let within = |key: &str, most: i64| {
        let found = reader.integer(key)?;
        if !(0..=most).contains(&found.value) {
            report.error(found.span, format!("{} must be between 0 and {most}", quoted(key)));
        }
        Some(found.value)
    };
    let min_keys = within("min_keys", u32::MAX.into()).and_then(|keys| usize::try_from(keys).ok());
    let max_delete_percent = within("max_delete_percent", 100).and_then(|percent| u8::try_from(percent).ok());
    let mut require = Vec::new();
    for found in reader.texts("require").into_iter().flatten() {
        if let Err(error) = Pattern::new(found.value.as_bytes()) {
            let shown = report.show(found.span, found.value);
            report.error(found.span, format!("`require` has the malformed pattern {shown}: {error}"));
        } else if !found.value.starts_with('/') {
            let shown = report.show(found.span, found.value);
            report.error(found.span, format!("{shown} of `require` matches no key: keys begin with `/`"));
        }
        require.push(found.value.to_owned());
    }
    // A key that is wrong was meant to refuse something.
    let is_sound = report.count() == before;
    if is_sound
        && min_keys.unwrap_or(0) == 0
        && max_delete_percent.is_none_or(|percent| percent == 100)
        && require.is_empty()
    {
        report.warn(reader.span(), "this guard refuses nothing: set `min_keys`, `max_delete_percent` or `require`");
    }
    Guard { min_keys: min_keys.unwrap_or(0), max_delete_percent, require }
}

fn exec(report: &Report, table: &Found<&Table>, shell: Shell) -> Option<Exec> {
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
    // To Go remco 0 means that the key is not set.
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
        report.error(found.span, needs_shell("command", "its backquotes or `$(`"));
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
                reader.report.error(entry.node.span, message);
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

/// The timeout of a command. 0: none.
fn timeout(reader: &Reader, key: &str) -> Option<Duration> {
    Some(reader.seconds_or_default(key)).filter(|timeout| !timeout.is_zero())
}

/// The default of `kill_signal`.
const SIGTERM: i32 = 15;

/// The template, and the place of its `dst`. All keys are checked even if one is wrong.
fn template(reader: &Reader, surroundings: &Surroundings, on_failure: OnReloadFailure) -> Option<(Template, Span)> {
    let (report, shell) = (reader.report, surroundings.shell);
    let src = match reader.text("src") {
        Some(src) if src.value.is_empty() => {
            report.error(
                src.span,
                format!("empty src template{}: set it to the template's path", report.unset(src.span)),
            );
            None
        }
        None if !reader.has("src") => reader.required("src", "the template's path"),
        src => src,
    };
    let dst = reader.required("dst", "the path of the file to write").filter(|dst| {
        let names_a_file = !dst.value.ends_with('/') && Path::new(dst.value).file_name().is_some();
        if !names_a_file {
            let shown = report.show(dst.span, dst.value);
            report.error(dst.span, format!("`dst` {shown} is a directory: add the name of the file"));
        }
        names_a_file
    });
    let make_directories = reader.boolean("make_directories");
    let mode = mode(reader);
    let uid = owner(reader, "UID", "owner", Kind::User, &surroundings.accounts);
    let gid = owner(reader, "GID", "group", Kind::Group, &surroundings.accounts);
    let path = dst.as_ref().map_or("", |dst| dst.value);
    let check_cmd = placeholders(
        reader,
        &command::Placeholder { key: "check_cmd", name: "src", meaning: "the staged file", dst: path, literal: true },
        shell,
    );
    let reload_cmd = placeholders(
        reader,
        &command::Placeholder { key: "reload_cmd", name: "dst", meaning: "the written file", dst: path, literal: true },
        shell,
    );
    let (check_timeout, reload_timeout) = (timeout(reader, "check_timeout"), timeout(reader, "reload_timeout"));
    let own = on_reload_failure(reader);
    if own == Some(OnReloadFailure::Rollback) && !reader.has("reload_cmd") {
        warn_of_no_reload(reader);
    }
    let durability = durability(reader);
    let (in_place, backup) = (reader.boolean("in_place"), reader.boolean("backup"));
    let (src, dst) = (src?, dst?);
    let template = Template {
        src: src.value.into(),
        dst: dst.value.into(),
        make_directories,
        mode,
        uid,
        gid,
        check_cmd,
        check_timeout,
        reload_cmd,
        reload_timeout,
        on_reload_failure: own.unwrap_or(on_failure),
        durability,
        in_place,
        backup,
    };
    Some((template, dst.span))
}

fn placeholders(reader: &Reader, placeholder: &command::Placeholder, shell: Shell) -> Option<Command> {
    let found = reader.filled(placeholder.key)?;
    let literal = reader.report.is_literal(found.span);
    match command::parse(found.value, &command::Placeholder { literal, ..*placeholder }) {
        Ok(command) => {
            // The staged file is usually in the same directory, its name a dot, the name of `dst` and digits. If `dst` is
            // a link, the staged file is beside its target; special characters of that path are found when the command runs.
            let text = command.text(Path::new(placeholder.dst));
            runs_without_shell(reader.report, placeholder.key, &found, text.as_bytes(), shell);
            Some(command)
        }
        Err(fault) => {
            reader.report.error(reader.report.inside_string(found.span, fault.at), fault.message);
            None
        }
    }
}

/// Notes the program of a command, and reports a command that cannot be run where there is no shell.
fn runs_without_shell(report: &Report, key: &str, found: &Found<&str>, command: &[u8], shell: Shell) {
    report.note_program(found.span, || plain::first_program(command));
    if shell == Shell::Missing
        && let Err(what) = plain::words(command)
    {
        report.error(found.span, needs_shell(key, &what));
    }
}

fn needs_shell(key: &str, what: &str) -> String {
    format!("{} needs a shell for {what}, and there is no /bin/sh here: write it without, or add a shell", quoted(key))
}

/// Permission bits. Go remco reads the text as an integer literal of Go, in which `644` is decimal. Octal is what users
/// mean.
fn mode(reader: &Reader) -> Option<u32> {
    let found = reader.text_or("mode", ": write it like `\"0644\"`").filter(|found| !found.value.is_empty())?;
    let text = found.value;
    let prefixed = |prefix: &str, radix| {
        let digits = text.strip_prefix(prefix).or_else(|| text.strip_prefix(&*prefix.to_ascii_uppercase()));
        digits.map(|digits| (digits, radix))
    };
    let (digits, radix) = prefixed("0o", 8).or(prefixed("0x", 16)).or(prefixed("0b", 2)).unwrap_or((text, 8));
    let bits = Some(digits).filter(|digits| !digits.starts_with(['+', '-']));
    let bits = bits.and_then(|digits| u32::from_str_radix(digits, radix).ok());
    let shown = reader.report.show(found.span, text);
    match bits {
        Some(bits) if bits <= 0o7777 => {
            if !text.starts_with('0') {
                let octal = format!("0{bits:o}");
                let message =
                    format!("mode {shown} is taken as octal {octal}: write {}", quoted(&format!("\"{octal}\"")));
                reader.report.warn(found.span, message);
            }
            Some(bits)
        }
        Some(_) => {
            reader.report.error(found.span, format!("mode {shown} is above 07777"));
            None
        }
        None => {
            reader.report.error(found.span, format!("mode {shown} is not an octal number: write it like `\"0644\"`"));
            None
        }
    }
}

fn durability(reader: &Reader) -> Durability {
    match reader.filled("durability") {
        None => Durability::default(),
        Some(found) => match found.value {
            "full" => Durability::Full,
            "file" => Durability::File,
            "none" => Durability::None,
            other => {
                let shown = reader.report.show(found.span, other);
                let message = format!("unknown `durability` {shown}: known are `full`, `file` and `none`");
                reader.report.error(found.span, message);
                Durability::default()
            }
        },
    }
}

/// An owner's id, by number or by name.
fn owner(reader: &Reader, number: &str, name: &str, kind: Kind, accounts: &Accounts) -> Option<u32> {
    let Some(found) = reader.filled(name) else { return owner_id(reader, number) };
    if reader.has(number) {
        let message = format!("{} and {} are set: remove one of them", quoted(name), quoted(number));
        reader.report.error(found.span, message);
        return None;
    }
    match accounts.id(kind, found.value) {
        Ok(id) => Some(id),
        Err(why) => {
            let shown = reader.report.show(found.span, found.value);
            reader.report.error(found.span, format!("{} {shown} {why}", quoted(name)));
            None
        }
    }
}

/// An owner's id. -1 leaves it alone, as it does in chown(2).
fn owner_id(reader: &Reader, key: &str) -> Option<u32> {
    let found = reader.integer(key)?;
    match u32::try_from(found.value) {
        Ok(id) if id != u32::MAX => Some(id),
        _ if found.value == -1 => None,
        _ => {
            let limits = format!("between 0 and {}, or -1 to leave it alone", u32::MAX - 1);
            reader.report.error(found.span, format!("{} must be {limits}", quoted(key)));
            None
        }
    }
}
