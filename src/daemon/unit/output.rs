//! The outputs of a resource: each template with its destination, and the steps of its file. `resource` decides the
//! order of the steps, and `host/files` makes the system calls.

use super::{Current, Outcome, Unit};
use crate::config;
use crate::host::files::{self, Checked, Destination, KeptFile, Present, Stage, Trial, Written};
use crate::log::{Level, Line};
use crate::patch::{self, Existing};
use crate::resource::Fault;
use crate::template::Template;

/// One template and the destination of its result.
pub(super) struct Output {
    pub(super) destination: Destination,
    /// The compiled template, until one of its files changes.
    pub(super) template: Option<Template>,
    /// Its last render: whether the template has to be rendered again.
    pub(super) current: Current,
    /// The result of the present update that is not installed yet.
    pub(super) content: Vec<u8>,
    pub(super) stage: Option<Stage>,
    /// The old file, while it may have to be put back.
    pub(super) kept_file: Option<KeptFile>,
    /// The installed result, while the old file may have to be put back.
    pub(super) latest: Option<Written>,
    /// The last result that was rolled back.
    pub(super) undone: Option<Written>,
    /// The file with the result for the check command, in a run that installs nothing.
    pub(super) trial: Option<Trial>,
    /// The finding of a run without effects.
    pub(super) outcome: Outcome,
    /// The last result that was written to a destination that cannot be read back.
    pub(super) written: Option<Vec<u8>>,
}

impl Unit {
    pub(super) fn stage(&mut self, t: usize) -> Result<(), Fault> {
        let output = &mut self.outputs[t];
        let is_checked = self.purpose.checks() && self.config.templates[t].check_cmd.is_some();
        let checked = if is_checked { Checked::Yes } else { Checked::No };
        let stage = output.destination.stage(&output.content, checked)?;
        output.refuse_own_source(stage.replaces())?;
        output.stage = Some(stage);
        Ok(())
    }

    /// Compares the result of a template with its destination, and makes the file for its check command.
    pub(super) fn preview(&mut self, t: usize) -> Result<(), Fault> {
        let is_checked = self.purpose.checks() && self.config.templates[t].check_cmd.is_some();
        let changes = self.changes(t)?;
        let output = &mut self.outputs[t];
        output.outcome = Outcome::Differs(changes);
        let content = std::mem::take(&mut output.content);
        if is_checked {
            output.trial = Some(output.destination.try_out(&content)?);
        }
        Ok(())
    }

    /// The patch of the destination that installing the result of a template would make.
    fn changes(&self, t: usize) -> Result<Vec<u8>, Fault> {
        let output = &self.outputs[t];
        let preview = output.destination.preview()?;
        output.refuse_own_source(preview.replaces)?;
        let old = match &preview.present {
            Present::Missing => Existing::Missing,
            Present::Special => Existing::Special,
            Present::File { content, mode, owner } => {
                Existing::File { content: content.as_deref(), mode: *mode, owner: *owner }
            }
        };
        let is_secret = self.config.backends.iter().any(|backend| backend.secret);
        let (path, new, mode, owner) = (&preview.path, &output.content, preview.mode, preview.owner);
        Ok(patch::Change { path, old, new, mode, owner, is_secret }.text())
    }

    pub(super) fn install(&mut self, t: usize) -> Result<Option<String>, Fault> {
        // If the process is killed after the rename, the next process runs the reload.
        self.save_reloads(Some(t));
        let changes = self.purpose.logs_changes().then(|| self.changes(t));
        let output = &mut self.outputs[t];
        let stage = output.stage.take().expect("what is installed was staged before");
        let can_be_read_back = stage.is_for_regular_file();
        let content = std::mem::take(&mut output.content);
        let warning = output.destination.install(stage, &content)?;
        self.has_replaced = true;
        output.latest = output.kept_file.is_some().then(|| Written::new(&content));
        if can_be_read_back {
            output.current.in_place(&content);
        }
        output.written = (!can_be_read_back).then_some(content);
        if let Some(changes) = changes {
            self.log_changes(t, changes);
        }
        Ok(warning)
    }

    /// Logs the changes in the destination of a template, for the flag `--diff`.
    fn log_changes(&self, t: usize, changes: Result<Vec<u8>, Fault>) {
        let line = Line::new(Level::Info, "changes of target config");
        let line = line.with("config", self.config.templates[t].dst.display().to_string());
        self.log(match changes {
            Ok(text) => Line { detail: Some(beginning(&text)), ..line },
            Err(fault) => line.with("error", fault.message),
        });
    }

    pub(super) fn keep(&mut self, t: usize) -> Result<(), Fault> {
        let output = &mut self.outputs[t];
        output.kept_file = Some(output.destination.keep()?);
        Ok(())
    }

    pub(super) fn put_back(&mut self, t: usize) -> Result<(), Fault> {
        // If the process is killed after the rename, the next process runs the reload.
        if self.state.is_undoing() {
            self.save_reloads(None);
        }
        let output = &mut self.outputs[t];
        let kept = output.kept_file.take().expect("what is put back was kept before");
        // The destination no longer has the result of the last render.
        output.current = Current::default();
        output.undone = output.latest.take();
        Ok(output.destination.put_back(kept)?)
    }
}

impl Output {
    pub(super) fn new(template: &config::Template) -> Output {
        let destination = Destination {
            path: template.dst.clone(),
            mode: template.mode,
            uid: template.uid,
            gid: template.gid,
            make_directories: template.make_directories,
            durability: template.durability,
            in_place: template.in_place,
            backup: template.backup,
            known: files::KnownPermissions::default(),
        };
        Output {
            destination,
            template: None,
            current: Current::default(),
            content: Vec::new(),
            stage: None,
            kept_file: None,
            latest: None,
            undone: None,
            trial: None,
            outcome: Outcome::default(),
            written: None,
        }
    }

    /// Whether the present result is the last one that was rolled back.
    pub(super) fn was_undone(&self) -> bool {
        self.undone.as_ref().is_some_and(|undone| undone.is(&self.content))
    }

    pub(super) fn forget_kept(&mut self) {
        self.latest = None;
        if let Some(kept) = self.kept_file.take() {
            kept.forget();
        }
    }

    /// Refuses to replace a file that the template itself reads. `replaced`: device and inode of the old file.
    fn refuse_own_source(&self, replaced: Option<(u64, u64)>) -> Result<(), Fault> {
        match (replaced, &self.template) {
            (Some(file), Some(template)) if template.is_made_from(file) => {
                let dst = self.destination.path.display();
                Err(format!("failed to replace `{dst}`: its own template reads it, by this name or another").into())
            }
            _ => Ok(()),
        }
    }
}

/// The first lines of a text, and the number of the remaining ones.
fn beginning(text: &[u8]) -> String {
    const MOST: usize = 200;
    let mut lines = text.split_inclusive(|byte| *byte == b'\n');
    let mut shown: String = lines.by_ref().take(MOST).map(String::from_utf8_lossy).collect();
    match lines.count() {
        0 => {}
        1 => shown.push_str("... and 1 more line"),
        more => shown.push_str(&format!("... and {more} more lines")),
    }
    shown
}
