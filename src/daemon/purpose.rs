//! What a run makes of the results of its templates, and what was seen in a run that only looks. `unit` acts on it;
//! printing is left to the caller.

use std::rc::Rc;

use crate::resource::Verdict;
use crate::store::Store;
use crate::template::reads::Reads;

/// What a run makes of the results of its templates.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// Files are written.
    Apply {
        /// Whether commands run and children are started.
        commands: Commands,
        /// Whether what changes in a file is logged.
        changes: Changes,
    },
    /// Results are compared with the files. Nothing is written there.
    Preview {
        /// Whether check commands run, on a file in a private directory.
        checks: Commands,
    },
    /// Results are kept, and compared with nothing.
    Render,
    /// What templates read is kept, and the results are dropped.
    Explain,
    /// Nothing is rendered: only the keys are read.
    Keys,
}

/// Whether commands of the configuration run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Commands {
    /// They run.
    Run,
    /// They are left out.
    Skip,
}

/// Whether what changes in a file is logged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Changes {
    /// It is logged.
    Log,
    /// Only that the file was replaced is logged.
    Leave,
}

impl Purpose {
    /// Whether files of the user are written.
    pub fn writes(self) -> bool {
        matches!(self, Purpose::Apply { .. })
    }

    /// Whether results are compared with the files. Then the guard judges the keys.
    pub fn compares(self) -> bool {
        matches!(self, Purpose::Apply { .. } | Purpose::Preview { .. })
    }

    /// Whether what changes in a file is logged.
    pub fn logs_changes(self) -> bool {
        matches!(self, Purpose::Apply { changes: Changes::Log, .. })
    }

    /// Whether check commands run.
    pub fn checks(self) -> bool {
        self.acts() || self == Purpose::Preview { checks: Commands::Run }
    }

    /// Whether start and reload commands run, and children are started.
    pub fn acts(self) -> bool {
        matches!(self, Purpose::Apply { commands: Commands::Run, .. })
    }
}

/// What was seen of one resource.
#[derive(Debug)]
pub struct Findings {
    /// Its place in the configuration.
    pub resource: usize,
    /// How the run ended; `None`: a signal ended it first.
    pub verdict: Option<Verdict>,
    /// What became of each template.
    pub templates: Vec<Outcome>,
    /// The keys.
    pub store: Rc<Store>,
}

/// What became of a template.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Outcome {
    /// It failed, or its turn has not come. The log says why.
    #[default]
    None,
    /// The file has the result already.
    InSync,
    /// The file would change: the text of `patch`.
    Differs(Vec<u8>),
    /// The result, which was not compared.
    Rendered(Vec<u8>),
    /// What the last render has read.
    Explained(Reads),
    /// The template has failed, for a run that explains.
    Failed {
        /// What the last render has read; `None`: it was not rendered.
        reads: Option<Reads>,
        /// The error in one line.
        error: String,
    },
}
