//! The reasons why a build does not support an option. The part that reads the option reports them: `backend/unbuilt`
//! for stores and TLS, `mod` for filters.

/// Why https is not supported in this build.
pub const NO_TLS: &str = "this program is built without TLS: use the default build (cargo build --release)";

/// Why a store is not supported in this build.
pub(super) const NO_STORE: &str = "this program is built without it: use the default build (cargo build --release)";

/// Why filters are not supported in this build.
pub(super) const NO_FILTERS: &str =
    "this program is built without JavaScript filters: use the `full` build (cargo build --features full)";
