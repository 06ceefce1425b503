//! The file that tells others our process number.
//! A failure here never stops the program.

use std::fs;
use std::path::{Path, PathBuf};

use super::files::why;
use super::logger::Logger;
use crate::log::{Level, Line};

/// Holds our process number, decimal and without a newline, until it is dropped.
#[derive(Debug)]
pub struct PidFile(Option<PathBuf>);

impl PidFile {
    pub fn create(path: &Path, logger: &Logger) -> PidFile {
        let shown = path.display();
        logger.log(&Line::new(Level::Info, format!("creating pid file at \"{shown}\"")));
        match fs::write(path, std::process::id().to_string()) {
            Ok(()) => PidFile(Some(path.to_owned())),
            Err(e) => {
                let text = format!("failed to write pid file `{shown}`: {}", why(&e));
                logger.log(&Line::new(Level::Error, text));
                PidFile(None)
            }
        }
    }
}

impl Drop for PidFile {
    fn drop(&mut self) {
        if let Some(path) = &self.0 {
            // It may be gone already; either way it no longer names us.
            let _ = fs::remove_file(path);
        }
    }
}
