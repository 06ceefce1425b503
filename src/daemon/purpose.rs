//! The purpose of a run: what it does with the results of its templates; and the findings of a run without effects.
//! `unit` acts on the purpose. The caller prints the findings.

use std::rc::Rc;

use crate::resource::Verdict;
use crate::store::Store;
use crate::template::reads::Reads;

/// What a run does with the results of its templates.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// Files are written.
    Apply {
        /// Whether commands run and children are started.
        commands: Commands,
        /// Whether the changes in a file are logged.
        changes: Changes,
    },
    /// Results are compared with the files. No file is written.
    Preview {
        /// Whether check commands run, on a file in a private directory.
        checks: Commands,
    },
    /// Results are kept, and not compared.
    Render,
    /// The reads of the templates are kept, and the results are dropped.
    Explain,
    /// Nothing is rendered: only the keys are read.
    Keys,
}

/// Whether commands of the configuration run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Commands {
    /// They run.
    Run,
    /// They do not run.
    Skip,
}

/// Whether the changes in a file are logged.
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

    /// Whether results are compared with the files. Only then the guard checks the keys.
    pub fn compares(self) -> bool {
        matches!(self, Purpose::Apply { .. } | Purpose::Preview { .. })
    }

    /// Whether the changes in a file are logged.
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

/// The findings about one resource.
#[derive(Debug)]
pub struct Findings {
    /// Its place in the configuration.
    pub resource: usize,
    /// How the run ended; `None`: a signal ended it first.
    pub verdict: Option<Verdict>,
    /// The outcome of each template.
    pub templates: Vec<Outcome>,
    /// The keys.
    pub store: Rc<Store>,
}

/// The outcome of a template.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Outcome {
    /// It failed, or was not rendered yet. The log has the reason.
    #[default]
    None,
    /// The file has the result already.
    InSync,
    /// The file would change: the text of `patch`.
    Differs(Vec<u8>),
    /// The result. It was not compared.
    Rendered(Vec<u8>),
    /// The reads of the last render.
    Explained(Reads),
    /// The template has failed, in a run with `--explain`.
    Failed {
        /// The reads of the last render; `None`: the template was not rendered.
        reads: Option<Reads>,
        /// The error in one line.
        error: String,
    },
}
