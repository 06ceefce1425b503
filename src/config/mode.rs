//! The parts of the command line that affect a configuration.
//! Parses no flag; `cli` does.

/// Whether probable mistakes are errors: the flag `--strict`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Strictness {
    /// They are warnings.
    Lenient,
    /// They are errors.
    Strict,
}

/// Whether the program runs once: the flag `-onetime`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Every resource is updated once.
    OneShot,
    /// The program runs until it is stopped.
    Watch,
}
