//! `[resource.cache]`, which allows a resource to be rendered from the keys of an earlier run: its rows and its parser.
//! Keeps no keys; they are in `state_dir`.

use std::time::Duration;

use super::document::Table;
use super::model::Cache;
use super::reader::{Found, Reader};
use super::report::{Report, quoted};
use super::schema::{Default, Schema, Type, key};
use crate::nearest::nearest;

/// The use of kept keys. Go remco has no such table.
pub(super) static CACHE: Schema = Schema {
    path: "resource.cache",
    title: "`cache`",
    groups: &[&[
        key(
            "use",
            Type::Text,
            Default::Word("never"),
            "`when-unreachable`: if no node of a store can be reached at the start, the resource is rendered from the keys of \
             its last update. `never`: it waits for the store",
        ),
        key(
            "after",
            Type::Duration,
            Default::Described("`10s`"),
            "how long the resource waits for its stores before that",
        ),
        key(
            "max_age",
            Type::Duration,
            Default::Described("any age"),
            "keys are not used if the last update that succeeded with them was longer ago",
        ),
        key(
            "secrets",
            Type::Boolean,
            Default::Flag(false),
            "also writes keys of vault and of backends with `secret = true` to `state_dir`. Without it a resource with \
             such keys has no cache",
        ),
    ]],
};

/// The time that a resource waits for its stores.
const AFTER: Duration = Duration::from_secs(10);

/// Reads the table.
pub(super) fn parse(report: &Report, table: &Found<&Table>) -> Cache {
    let reader = Reader::new(report, &CACHE, table.value, table.span);
    let after = reader.duration("after").map_or(AFTER, |after| after.value);
    let is_used = reader.filled("use").is_some_and(|found| {
        let uses = ["never", "when-unreachable"];
        if !uses.contains(&found.value) {
            let shown = report.show(found.span, found.value);
            let advice = match nearest(found.value, uses) {
                Some(known) => format!(", did you mean {}?", quoted(known)),
                None => ": known are `never` and `when-unreachable`".to_owned(),
            };
            report.error(found.span, format!("unknown `use` {shown}{advice}"));
        }
        found.value == "when-unreachable"
    });
    Cache {
        use_after: is_used.then_some(after),
        max_age: reader.duration("max_age").map(|age| age.value),
        secrets: reader.boolean("secrets"),
    }
}
