//! Standard error: where log lines go. Knows the level, the form and the clock; the lines' text is
//! made in `log`.

use std::cell::Cell;
use std::os::fd::AsFd;
use std::rc::Rc;
use std::time::Duration;

use super::machine::Machine;
use super::write;
use crate::log::{Format, Level, Line, Stamp};
use crate::template::World;

#[derive(Debug)]
pub struct Logger {
    form: Cell<(Level, Format)>,
    machine: Rc<Machine>,
    /// The last line could not be written.
    stalled: Cell<bool>,
}

impl Logger {
    pub fn new(level: Level, format: Format, machine: Rc<Machine>) -> Logger {
        Logger { form: Cell::new((level, format)), machine, stalled: Cell::new(false) }
    }

    /// For a new configuration.
    pub fn set(&self, level: Level, format: Format) {
        self.form.set((level, format));
    }

    /// Writes a line, if its level is shown.
    pub fn log(&self, line: &Line) {
        let (level, format) = self.form.get();
        if line.level < level {
            return;
        }
        let (unix, nanos) = self.machine.now();
        let offset = self.machine.zone(unix).0;
        let mut bytes = Vec::new();
        line.write(format, Stamp { unix, nanos, offset, pid: std::process::id() }, &mut bytes);
        // Nobody can be told that standard error is closed or full. Where its reader has stopped reading, lines are lost
        // until it goes on: no update and no end of ours waits for it.
        let timeout = if self.stalled.get() { Duration::ZERO } else { Duration::from_millis(500) };
        self.stalled.set(write::to_reader(std::io::stderr().as_fd(), &bytes, timeout).is_err());
    }
}
