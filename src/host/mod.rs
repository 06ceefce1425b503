//! All system calls: sockets, files, processes, signals and time.
//! Decides nothing: its callers say what to do, and it returns the result.

mod backlog;
pub mod cause;
pub mod client;
pub mod connection;
pub mod datagrams;
pub mod dialer;
pub mod dns;
pub mod environment;
pub mod exchange;
mod executable;
pub mod files;
pub mod inotify;
#[cfg(feature = "js")]
pub mod javascript;
pub mod link;
pub mod listener;
pub mod lock_file;
pub mod logger;
pub mod lookups;
pub mod machine;
pub mod notify;
pub mod pid_file;
pub mod process;
pub mod random;
pub mod read;
pub mod signals;
pub mod state_dir;
mod stderr;
#[cfg(feature = "tls")]
pub mod tls;
#[cfg(not(feature = "tls"))]
#[path = "tls/none.rs"]
pub mod tls;
pub mod usage;
pub mod wait;
pub mod write;
