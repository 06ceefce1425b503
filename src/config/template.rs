//! A template of a resource: the rows of its keys and their parser. Does not read the template, and does not check
//! whether a file or a program exists.

use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use super::accounts::{Accounts, Kind};
use super::document::Span;
use super::model::{Command, Durability, OnReloadFailure, Template};
use super::reader::Reader;
use super::report::quoted;
use super::schema::{Default, Schema, Type, Unit, key};
use super::source::Shell;
use super::{command, plain};

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
        // Go remco reads this internal field by accident, because its name is exported.
        key("ReapLock", Type::Unused, Default::Unset, "accepted and ignored"),
    ]],
};

/// The template, and the place of its `dst`. All keys are checked even if one is wrong.
///
/// `on_failure`: the `on_reload_failure` of its resource.
pub(super) fn parse(
    reader: &Reader,
    shell: Shell,
    accounts: &Accounts,
    on_failure: OnReloadFailure,
) -> Option<(Template, Span)> {
    let report = reader.report;
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
    let uid = owner(reader, "UID", "owner", Kind::User, accounts);
    let gid = owner(reader, "GID", "group", Kind::Group, accounts);
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
    let (check_timeout, reload_timeout) = (reader.timeout("check_timeout"), reader.timeout("reload_timeout"));
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
            // The staged file is usually beside `dst`, with a dot before the name and digits behind it. If `dst` is a
            // link, the staged file is beside its target; special characters of that path are found when the command
            // runs.
            let text = command.text(Path::new(placeholder.dst));
            plain::check(reader.report, placeholder.key, &found, text.as_bytes(), shell);
            Some(command)
        }
        Err(fault) => {
            reader.report.error(reader.report.inside_string(found.span, fault.at), fault.message);
            None
        }
    }
}

/// The `on_reload_failure` of a resource or a template; `None`: it is not set.
pub(super) fn on_reload_failure(reader: &Reader) -> Option<OnReloadFailure> {
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

pub(super) fn warn_of_no_reload(reader: &Reader) {
    if let Some(found) = reader.filled("on_reload_failure") {
        let message = "nothing is rolled back without a `reload_cmd`: set one; `reload_signal` has no result";
        reader.report.warn(found.span, message);
    }
}

/// Permission bits. Go remco reads the text as an integer literal of Go, in which `644` is decimal, but users mean
/// octal.
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

/// An owner's id. -1 changes nothing, as in chown(2).
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
