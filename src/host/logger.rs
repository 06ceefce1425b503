//! Standard error: where log lines go. Knows the level, the form and the clock; the lines' text is
//! made in `log`.

use std::cell::Cell;
use std::io::Write;
use std::rc::Rc;

use super::machine::Machine;
use crate::log::{Format, Level, Line, Stamp};
use crate::template::World;

#[derive(Debug)]
pub struct Logger {
    form: Cell<(Level, Format)>,
    machine: Rc<Machine>,
}

impl Logger {
    pub fn new(level: Level, format: Format, machine: Rc<Machine>) -> Logger {
        Logger { form: Cell::new((level, format)), machine }
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
        // Nobody can be told that standard error is closed or full, and no update waits for it.
        let _ = std::io::stderr().lock().write_all(&bytes);
    }
}
