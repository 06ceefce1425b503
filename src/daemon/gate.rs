//! The waits before the resources start: a random delay, then the lock of `--lock`. Each wait is a state with a
//! deadline; nothing blocks. `daemon.rs` has the time limit of the run, and `host/lock_file.rs` opens and locks the
//! file.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use crate::host::lock_file::LockFile;
use crate::log::{self, Level, Line};

/// The conditions of the start of the resources.
#[derive(Debug, Default)]
pub struct Start {
    /// The random delay.
    pub delay: Duration,
    /// The lock that is needed.
    pub lock: Option<Lock>,
}

/// The lock of `--lock`.
#[derive(Debug)]
pub struct Lock {
    /// Created if it is missing.
    pub path: PathBuf,
    /// What to do while another process holds it.
    pub when_held: WhenHeld,
}

/// What to do while another process holds the lock.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum WhenHeld {
    /// Try again until it is free.
    #[default]
    Wait,
    /// End the run.
    GiveUp,
}

/// The state of the start.
#[derive(Debug)]
pub(super) enum Gate {
    /// Before the first turn.
    New(Start),
    Delayed {
        until: Instant,
        lock: Option<Lock>,
    },
    Locking {
        lock: Lock,
        /// The time of the next attempt.
        at: Instant,
        is_logged: bool,
    },
    Open {
        /// Held until the end of the program.
        _lock: Option<LockFile>,
    },
}

/// The result of a turn.
#[derive(Debug)]
pub(super) enum Passage {
    Open,
    Closed,
    /// Another process holds the lock, and the run does not wait for it.
    Held,
    /// The lock cannot be taken at all. The text is the cause.
    Failed(String),
}

/// The pause between two attempts: flock has no descriptor that poll could wait for.
const PAUSE: Duration = Duration::from_millis(100);

impl Gate {
    /// Continues as far as possible without waiting. Logs each new wait.
    pub(super) fn turn(&mut self, now: Instant, log: impl Fn(&Line)) -> Passage {
        loop {
            match self {
                Gate::New(start) => {
                    let Start { delay, lock } = std::mem::take(start);
                    if !delay.is_zero() {
                        let line = format!("starting after a random delay of {}", log::duration(delay));
                        log(&Line::new(Level::Info, line));
                    }
                    *self = Gate::Delayed { until: now + delay, lock };
                }
                Gate::Delayed { until, .. } if *until > now => return Passage::Closed,
                Gate::Delayed { lock, .. } => {
                    *self = match lock.take() {
                        Some(lock) => Gate::Locking { lock, at: now, is_logged: false },
                        None => Gate::Open { _lock: None },
                    };
                }
                Gate::Locking { at, .. } if *at > now => return Passage::Closed,
                Gate::Locking { lock, at, is_logged } => match LockFile::take(&lock.path, 0o600) {
                    Ok(Some(taken)) => *self = Gate::Open { _lock: Some(taken) },
                    Ok(None) if lock.when_held == WhenHeld::GiveUp => return Passage::Held,
                    Ok(None) => {
                        if !std::mem::replace(is_logged, true) {
                            let path = lock.path.display();
                            let line = format!("waiting for the lock `{path}`, which another process holds");
                            log(&Line::new(Level::Info, line));
                        }
                        *at = now + PAUSE;
                    }
                    Err(error) => return Passage::Failed(error),
                },
                Gate::Open { .. } => return Passage::Open,
            }
        }
    }

    /// When the next turn is due.
    pub(super) fn due(&self) -> Option<Instant> {
        match self {
            Gate::New(_) | Gate::Open { .. } => None,
            Gate::Delayed { until, .. } => Some(*until),
            Gate::Locking { at, .. } => Some(*at),
        }
    }

    /// The present wait, for a message; `None`: the resources have started.
    pub(super) fn waits_for(&self) -> Option<&'static str> {
        match self {
            Gate::Open { .. } => None,
            Gate::New(_) | Gate::Delayed { .. } => Some("the random delay before the start"),
            Gate::Locking { .. } => Some("the lock of `--lock`"),
        }
    }
}
