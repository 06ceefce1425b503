//! The present failures of a resource. A repeated failure is logged when it begins, when it changes and when it ends,
//! not at every retry. Does not decide about retries.

use super::rollback::Cause;
use super::{Fault, Plan};
use crate::log::{Level, Line};

/// The parts of a resource that fail independently.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Subject {
    Backend(usize),
    Guard,
    /// Rendering, staging, checking or installing a template.
    Template(usize),
    Reload(usize),
    Start,
    /// Starting the child.
    Child,
    ReloadResource,
    /// A reload whose failure has put files back.
    RolledBack(Cause),
}

#[derive(Debug, Default)]
pub(super) struct Faults {
    /// Few at a time, in no order.
    current: Vec<(Subject, Current)>,
}

#[derive(Debug)]
struct Current {
    fault: Fault,
    times: u64,
}

impl Faults {
    /// Records a failure. Returns a line if the failure is new or has changed.
    pub(super) fn failed(&mut self, subject: Subject, fault: Fault, plan: &Plan) -> Option<Line> {
        if let Some((_, current)) = self.current.iter_mut().find(|(failed, _)| *failed == subject) {
            current.times += 1;
            let is_same = match subject {
                // The figures of a guard change with every key.
                Subject::Guard => but_numbers(&current.fault.message) == but_numbers(&fault.message),
                _ => is_same(&current.fault, &fault),
            };
            if is_same {
                // The status shows the newest figures.
                current.fault = fault;
                return None;
            }
            current.fault = fault.clone();
        } else {
            self.current.push((subject, Current { fault: fault.clone(), times: 1 }));
        }
        let Fault { message, detail } = fault;
        let line = match subject {
            Subject::Backend(b) => Line::new(Level::Error, "backend error").with("backend", &*plan.backends[b]),
            Subject::Template(t) | Subject::Reload(t) | Subject::RolledBack(Cause::Template(t)) => {
                Line::new(Level::Error, "failed to process").with("config", plan.templates[t].dst.clone())
            }
            Subject::Guard => Line::new(Level::Error, "the guard refuses the update, the files stay"),
            Subject::Start => Line::new(Level::Error, "failed to execute the start cmd"),
            Subject::Child => Line::new(Level::Error, "failed to spawn child"),
            Subject::ReloadResource | Subject::RolledBack(Cause::Resource) => {
                Line::new(Level::Error, "failed to execute the resource reload cmd")
            }
        };
        Some(Line { detail, ..line.with("error", message) })
    }

    /// The message of a present failure, and how often it came.
    pub(super) fn of(&self, subject: Subject) -> Option<(&str, u64)> {
        let (_, current) = self.current.iter().find(|(failed, _)| *failed == subject)?;
        Some((&current.fault.message, current.times))
    }

    pub(super) fn any(&self) -> bool {
        !self.current.is_empty()
    }

    /// Records a success. Returns a line if it ends a failure.
    pub(super) fn ended(&mut self, subject: Subject, plan: &Plan) -> Option<Line> {
        let at = self.current.iter().position(|(failed, _)| *failed == subject)?;
        let (_, Current { times, .. }) = self.current.swap_remove(at);
        let line = match subject {
            Subject::Backend(b) => Line::new(Level::Info, "backend works again").with("backend", &*plan.backends[b]),
            Subject::Template(t) => {
                Line::new(Level::Info, "template works again").with("config", plan.templates[t].dst.clone())
            }
            Subject::Reload(t) => {
                Line::new(Level::Info, "reload cmd works again").with("config", plan.templates[t].dst.clone())
            }
            Subject::Guard => Line::new(Level::Info, "the guard accepts updates again"),
            Subject::Start => Line::new(Level::Info, "start cmd works again"),
            Subject::Child => Line::new(Level::Info, "child works again"),
            Subject::ReloadResource => Line::new(Level::Info, "resource reload cmd works again"),
            Subject::RolledBack(Cause::Template(t)) => {
                let line = Line::new(Level::Info, "the update that was rolled back has been replaced");
                line.with("config", plan.templates[t].dst.clone())
            }
            Subject::RolledBack(Cause::Resource) => {
                Line::new(Level::Info, "the update that was rolled back has been replaced")
            }
        };
        Some(line.with("failures", times.to_string()))
    }
}

/// Whether two failures are equal except for numbers: the output of commands contains times and process ids.
fn is_same(one: &Fault, other: &Fault) -> bool {
    let detail = |fault: &'_ Fault| but_numbers(fault.detail.as_deref().unwrap_or_default());
    one.message == other.message && detail(one) == detail(other)
}

fn but_numbers(text: &str) -> Vec<u8> {
    text.bytes().filter(|byte| !byte.is_ascii_digit()).collect()
}
