//! A resource: the rows of its keys and their parser. Templates are in `template`, the child in `exec`, backends in
//! `backend`. Does not check whether a program exists.

use std::time::Duration;

use super::accounts::Accounts;
use super::document::{Span, Table};
use super::duration::DURATION_FORM;
use super::model::{Cache, Commit, OnReloadFailure, Resource, Settle};
use super::reader::{Found, Reader};
use super::report::Report;
use super::schema::{Default, Schema, Type, Unit, key};
use super::source::Shell;
use super::template::{self, TEMPLATE};
use super::{backend, cache, exec, guard, plain};

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

/// The time that an update waits for more changes. Go remco has no such table.
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

/// The kind of file that a resource is in, which decides the headers of its tables in messages.
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

/// The facts about the machine that the parser needs.
pub(super) struct Machine<'s> {
    pub shell: Shell,
    pub accounts: Accounts<'s>,
}

/// Reads one resource. `file_name` is the name of a resource without a `name`.
pub(super) fn parse(
    reader: &Reader,
    origin: Origin,
    file_name: &str,
    defaults: Option<&Found<&Table>>,
    machine: &Machine,
) -> Parsed {
    let shell = machine.shell;
    let name = reader.filled("name").map_or(file_name, |name| name.value).to_owned();
    let command = |key| {
        let found = reader.filled(key)?;
        plain::check(reader.report, key, &found, found.value.as_bytes(), shell);
        Some(found.value.to_owned())
    };
    let (start_cmd, reload_cmd) = (command("start_cmd"), command("reload_cmd"));
    let (start_timeout, reload_timeout) = (reader.timeout("start_timeout"), reader.timeout("reload_timeout"));
    let splay = reader.duration("splay").map_or(Duration::ZERO, |splay| splay.value);
    let settle = reader.table("settle").and_then(|table| settle(reader.report, &table));
    let cache = reader.table("cache");
    let cache_place = cache.as_ref().map(|table| table.span);
    let cache = cache.map_or_else(Cache::default, |table| cache::parse(reader.report, &table));
    let exec = reader.table("exec").and_then(|table| exec::parse(reader.report, &table, shell));
    let on_failure = template::on_reload_failure(reader);
    let mut can_fail = reload_cmd.is_some();
    let (mut templates, mut destinations) = (Vec::new(), Vec::new());
    for table in reader.tables("template", &origin.header("template")) {
        let reader = Reader::new(reader.report, &TEMPLATE, table.value, table.span);
        can_fail |= reader.has("reload_cmd");
        if let Some((template, dst)) =
            template::parse(&reader, shell, &machine.accounts, on_failure.unwrap_or_default())
        {
            templates.push(template);
            destinations.push(dst);
        }
    }
    if !can_fail && on_failure == Some(OnReloadFailure::Rollback) {
        template::warn_of_no_reload(reader);
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
            guard: reader.table("guard").map(|table| guard::parse(reader.report, &table)),
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
