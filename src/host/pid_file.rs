//! The file that tells others our process number.
//! A failure here never stops the program.

use std::fs;
use std::path::{Path, PathBuf};

use super::logger::Logger;
use crate::error::cause;
use crate::log::{Level, Line};

/// Holds our process number, decimal and without a newline, until it is dropped.
#[derive(Debug)]
pub struct PidFile {
    path: PathBuf,
    written: bool,
}

impl PidFile {
    pub fn create(path: &Path, logger: &Logger) -> PidFile {
        let shown = path.display();
        logger.log(&Line::new(Level::Info, format!("creating pid file at \"{shown}\"")));
        let written = fs::write(path, std::process::id().to_string());
        if let Err(e) = &written {
            logger.log(&Line::new(Level::Error, format!("failed to write pid file `{shown}`: {}", cause(e))));
        }
        PidFile { path: path.to_owned(), written: written.is_ok() }
    }

    /// As it was given to [`PidFile::create`].
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for PidFile {
    fn drop(&mut self) {
        if self.written {
            // It may be gone already; either way it no longer names us.
            let _ = fs::remove_file(&self.path);
        }
    }
}
