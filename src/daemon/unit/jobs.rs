//! The processes of a resource: its commands, one at a time, and its child. `resource` decides when they run, and
//! `host/process.rs` makes the system calls.

use std::ffi::OsString;
use std::time::{Duration, Instant};

use super::{Child, Output, Terminating, Unit, at};
use crate::error::cause;
use crate::host::files::{Stage, Trial};
use crate::host::process::{self, Command, Ended, Exit, Pid, SignalTarget, Termination};
use crate::log::{self, Level, Line};
use crate::resource::{Event, Fault, Job};

impl Unit {
    /// Reads the output of the running command.
    pub(in super::super) fn listen(&mut self) {
        if let Some((_, command)) = &mut self.job {
            command.drain();
        }
    }

    /// Whether a process is the command or the child of the unit.
    pub(in super::super) fn has(&self, pid: Pid) -> bool {
        self.job.as_ref().is_some_and(|(_, command)| command.pid() == pid)
            || self.child.as_ref().is_some_and(|child| child.pid == pid)
    }

    /// The command or the child has ended. Returns the remaining process group of a command that exceeded its time
    /// limit.
    pub(in super::super) fn reaped(&mut self, exit: &Exit) -> Option<Terminating> {
        match self.job.take_if(|(_, command)| command.pid() == exit.pid) {
            Some((job, command)) => self.command_ended(job, command, exit),
            None => {
                self.child = None;
                self.handle(Event::ChildExited { how: format!("it {}", exit.how()), status: exit.shell_status() });
                None
            }
        }
    }

    fn command_ended(&mut self, job: Job, command: Command, exit: &Exit) -> Option<Terminating> {
        let Ended { failure, took, output, left } = command.ended(exit);
        if let Some(record) = &mut self.record {
            record.command_ended(job, (took, exit.shell_status()), at(&*self.world));
        }
        self.log(Line::new(Level::Debug, log::quoted(&output)));
        let result = match failure {
            None => {
                self.log(self.succeeded(job, took));
                Ok(())
            }
            Some(how) => {
                let kept = match job {
                    Job::Check(_) => ", keeping the old file",
                    Job::Reload(_) | Job::ReloadResource if self.state.will_undo(job) => ", putting the old file back",
                    Job::Reload(t) if self.state.is_rejected(t) => ", the old file is in place",
                    Job::Reload(_) => ", the new file is in place",
                    Job::Start | Job::ReloadResource => "",
                };
                let what = name_of(job);
                let detail = Some(output).filter(|text| !text.trim().is_empty());
                Err(Fault { message: format!("{what} {how}{kept}"), detail })
            }
        };
        self.handle(Event::Ended(result));
        left.map(|termination| Terminating { unit: self.number, resource: self.config.name.clone(), termination })
    }

    /// The line about a command that has succeeded. Its text is only in the line at level debug: it may contain a
    /// secret.
    fn succeeded(&self, job: Job, took: Duration) -> Line {
        let line = |level, t: Option<usize>| {
            let line = Line::new(level, format!("{} has succeeded", name_of(job)));
            let config = t.map(|t| self.config.templates[t].dst.display().to_string());
            config.into_iter().fold(line, |line, config| line.with("config", config))
        };
        let line = match job {
            Job::Check(t) => line(Level::Debug, Some(t)),
            Job::Reload(t) => line(Level::Info, Some(t)),
            Job::Start | Job::ReloadResource => line(Level::Info, None),
        };
        line.with("took", log::duration(took))
    }

    pub(super) fn start_child(&mut self) -> Result<(), Fault> {
        let exec = self.config.exec.as_ref().expect("a child is planned only where there is an exec");
        let pid = process::start(&exec.command, &exec.env).map_err(|e| format!("failed to start it: {}", cause(&e)))?;
        self.child = Some(Child { pid, termination: None });
        self.log(Line::new(Level::Info, "child has been started").with("pid", pid.as_raw_pid().to_string()));
        Ok(())
    }

    pub(super) fn stop_child(&mut self) {
        self.log(Line::new(Level::Info, "stopping the child to start it again"));
        let exec = self.config.exec.as_ref().expect("a child is planned only where there is an exec");
        if let Some(child) = &mut self.child {
            let now = Instant::now();
            let termination =
                Termination::begin(SignalTarget::Child(child.pid), exec.kill_signal, exec.kill_timeout, now);
            child.termination = Some(termination);
        }
    }

    /// Starts a command. `reaped` reports its end; only a failure to start it is returned.
    pub(super) fn run(&mut self, job: Job) -> Option<Event> {
        let text = self.command(job).expect("a job is planned only where there is a command, and a stage to check");
        self.log(Line::new(Level::Debug, "Running cmd").with("command", text.to_string_lossy()));
        let inherited = match job {
            Job::Check(t) => {
                let Output { stage, trial, .. } = &self.outputs[t];
                stage.as_ref().and_then(Stage::inherited).or_else(|| trial.as_ref().and_then(Trial::inherited))
            }
            Job::Reload(_) | Job::Start | Job::ReloadResource => None,
        };
        match process::spawn(&text, self.limit(job), inherited) {
            Ok(command) => {
                self.job = Some((job, command));
                None
            }
            Err(e) => {
                // The text of the command may contain a secret: it is only in the line at level debug.
                let message = format!("failed to start the {}: {}", name_of(job), cause(&e));
                Some(Event::Ended(Err(message.into())))
            }
        }
    }

    /// The text of a command, with the path in place of its placeholder.
    fn command(&self, job: Job) -> Option<OsString> {
        let templates = &self.config.templates;
        match job {
            Job::Check(t) => {
                let Output { stage, trial, .. } = &self.outputs[t];
                let path = stage.as_ref().and_then(Stage::path).or_else(|| trial.as_ref().map(Trial::path))?;
                Some(templates[t].check_cmd.as_ref()?.text(path))
            }
            Job::Reload(t) => Some(templates[t].reload_cmd.as_ref()?.text(&templates[t].dst)),
            Job::Start => self.config.start_cmd.clone().map(OsString::from),
            Job::ReloadResource => self.config.reload_cmd.clone().map(OsString::from),
        }
    }

    /// The time limit of a command.
    fn limit(&self, job: Job) -> Option<Duration> {
        match job {
            Job::Check(t) => self.config.templates[t].check_timeout,
            Job::Reload(t) => self.config.templates[t].reload_timeout,
            Job::Start => self.config.start_timeout,
            Job::ReloadResource => self.config.reload_timeout,
        }
    }
}

/// The name of a command in messages.
pub(super) fn name_of(job: Job) -> &'static str {
    match job {
        Job::Check(_) => "check command",
        Job::Reload(_) => "reload command",
        Job::Start => "start command",
        Job::ReloadResource => "resource reload command",
    }
}
