//! The plan, the events and the effects of the state machine of a resource. Data only; decides nothing.
//! `resource` has the state machine.

use super::{Census, ChildPlan, SettlePlan};
use crate::config::{Guard, Mode};
use crate::log::Line;

/// The parts of a resource that decisions depend on.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Once, or until the program is stopped.
    pub mode: Mode,
    /// Whether all files of an update are staged and checked before the first one is replaced. If one fails, none is
    /// replaced.
    pub together: bool,
    /// In the order they are rendered and installed.
    pub templates: Vec<TemplatePlan>,
    /// The names of the backends in merge order.
    pub backends: Vec<String>,
    /// Whether files are only compared. Messages then say what would be done.
    pub is_preview: bool,
    /// Whether there is a start_cmd.
    pub start: bool,
    /// Whether there is a reload_cmd of the resource; each template has its own.
    pub reload: bool,
    /// Whether the files of an update are put back if that command fails.
    pub rolls_back: bool,
    /// `None`: there is no exec.
    pub child: Option<ChildPlan>,
    /// How updates wait after a change. A one-shot run does not wait.
    pub settle: SettlePlan,
    /// The conditions for the keys of an update; `None`: there are none.
    pub guard: Option<Guard>,
}

/// The parts of a template that decisions depend on.
#[derive(Clone, Debug)]
pub struct TemplatePlan {
    /// The destination, for messages.
    pub dst: String,
    /// Whether there is a check_cmd.
    pub check: bool,
    /// Whether there is a reload_cmd of this template.
    pub reload: bool,
    /// Whether the old file is put back if the reload command fails.
    pub rolls_back: bool,
    /// The template after which the reload command runs: itself, or a later one with the same command.
    pub reloaded_by: usize,
}

/// How the one round of a one-shot run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// All files are in place, all commands succeeded, and the child, if there is one, has not ended.
    Succeeded,
    /// At least one step failed.
    Failed,
    /// The only failure is that the child ended by itself.
    ChildEnded {
        /// As a shell reports it: 128 and the number of the signal, if a signal ended the child.
        status: u8,
    },
}

/// An event.
#[derive(Debug)]
pub enum Event {
    /// A backend has changed the store.
    Loaded {
        /// Its place in [`Plan::backends`].
        backend: usize,
    },
    /// A backend could not be read or watched. The backend retries by itself.
    Unreachable {
        /// Its place in [`Plan::backends`].
        backend: usize,
        /// Verb, subject, cause.
        error: String,
    },
    /// A backend that could not be reached works again.
    Reached {
        /// Its place in [`Plan::backends`].
        backend: usize,
    },
    /// Answers [`Effect::Judge`].
    Judged(Census),
    /// Answers [`Effect::Render`]: one result for each template.
    Rendered(Vec<Rendering>),
    /// Answers [`Effect::Stage`].
    Staged(Result<(), Fault>),
    /// Answers [`Effect::Keep`].
    Kept(Result<(), Fault>),
    /// Answers [`Effect::PutBack`].
    PutBack(Result<(), Fault>),
    /// Answers [`Effect::Install`]: the file is installed, perhaps with a warning.
    Installed(Result<Option<String>, Fault>),
    /// Answers [`Effect::Run`]: the command has ended, or could not be started.
    Ended(Result<(), Fault>),
    /// Answers [`Effect::Spawn`].
    Spawned(Result<(), Fault>),
    /// The child has ended.
    ChildExited {
        /// The cause of the end, for the log.
        how: String,
        /// As a shell reports it: 128 and the number of the signal, if a signal ended the child.
        status: u8,
    },
    /// The moment of [`Resource::due`] has come.
    Due,
    /// Everything is rendered again, independently of the backends.
    Refresh,
    /// A template could not be compiled at the start, before the store had keys. The first update compiles it again.
    NotCompiled {
        /// Its place in [`Plan::templates`].
        template: usize,
        /// The error.
        fault: Fault,
    },
}

/// An effect to perform. Every effect but `Accept`, `Discard`, `Forget`, `SignalChild` and `Log` is answered by one
/// event.
#[derive(Debug, PartialEq, Eq)]
pub enum Effect {
    /// Count the present keys for the guard. If the update is accepted, these keys are rendered.
    Judge,
    /// The guard accepts the keys: later ones are compared with them.
    Accept,
    /// Render all templates from the present store, keep the results, and compare them with the files.
    Render,
    /// Write the result of a template beside its destination.
    Stage(usize),
    /// Write the journal of the staged files that are about to be renamed, so that the next start can finish the
    /// renames.
    Journal(Vec<usize>),
    /// Remove the journal: all files are in place, or no rename has to be finished.
    EndJournal,
    /// Move the staged file to its destination.
    Install(usize),
    /// Remove the staged file.
    Discard(usize),
    /// Keep the present file beside its destination.
    Keep(usize),
    /// Move the kept file to its destination; remove the destination if there was none.
    PutBack(usize),
    /// Remove the kept file.
    Forget(usize),
    /// Run a command of the configuration.
    Run(Job),
    /// Start the child.
    Spawn,
    /// Send the child a signal, by its number.
    SignalChild(i32),
    /// End the child as `exec` configures it. Answered by `ChildExited`.
    StopChild,
    /// A line for the log.
    Log(Line),
}

/// A command of the configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Job {
    /// The check_cmd of a template.
    Check(usize),
    /// The reload_cmd of a template.
    Reload(usize),
    /// The start_cmd of the resource.
    Start,
    /// The reload_cmd of the resource.
    ReloadResource,
}

/// The result of rendering one template.
#[derive(Debug)]
pub enum Rendering {
    /// The destination has the result already.
    InSync,
    /// The file has to be replaced.
    Differs,
    /// The file differs, but the result is the one that was rolled back last.
    Rejected,
    /// There is no result, or the destination cannot be compared with it.
    Failed(Fault),
    /// The program is ending: nothing failed, and nothing is left to do.
    Interrupted,
}

/// A failure: one line, and details to show below it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// Verb, subject, cause; without a line end.
    pub message: String,
    /// Several lines: an excerpt of a template, or what a command printed.
    pub detail: Option<String>,
}

impl From<String> for Fault {
    fn from(message: String) -> Fault {
        Fault { message, detail: None }
    }
}
