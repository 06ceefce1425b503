//! Standard error: where log lines go. Knows the level, the form and the clock; the lines' text is
//! made in `log`.

use std::io::Write;
use std::rc::Rc;

use super::machine::Machine;
use crate::log::{Format, Level, Line, Stamp};
use crate::template::World;

#[derive(Debug)]
pub struct Logger {
    pub level: Level,
    pub format: Format,
    machine: Rc<Machine>,
}

impl Logger {
    pub fn new(level: Level, format: Format, machine: Rc<Machine>) -> Logger {
        Logger { level, format, machine }
    }

    /// Whether lines of this level are shown: what is costly to build is not built for nothing.
    pub fn shows(&self, level: Level) -> bool {
        level >= self.level
    }

    /// Writes a line, if its level is shown.
    pub fn log(&self, line: &Line) {
        if !self.shows(line.level) {
            return;
        }
        let (unix, nanos) = self.machine.now();
        let offset = self.machine.zone(unix).0;
        let mut bytes = Vec::new();
        line.write(self.format, Stamp { unix, nanos, offset, pid: std::process::id() }, &mut bytes);
        // Nobody can be told that standard error is closed or full, and no update waits for it.
        let _ = std::io::stderr().lock().write_all(&bytes);
    }
}
