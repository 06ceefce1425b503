//! The guard of a resource: the rows of its keys and their parser.
//! Compares no keys: `resource/guard.rs` checks an update by these rules.

use super::document::Table;
use super::model::Guard;
use super::reader::{Found, Reader};
use super::report::{Report, quoted};
use super::schema::{Default, Schema, Type, Unit, key};
use crate::store::pattern::Pattern;

/// The keys that an update needs. Go remco has no such table.
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

/// Reads a `guard`.
pub(super) fn parse(report: &Report, table: &Found<&Table>) -> Guard {
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
    // A wrong key was meant to refuse something.
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
