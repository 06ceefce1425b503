//! Go's path.Match: `*` and `?` do not cross `/`; `[a-z]`, `[^a]`, `\x`.

/// The pattern is malformed (Go's path.ErrBadPattern).
#[derive(Debug, PartialEq, Eq)]
pub struct BadPattern;
