//! Every syscall, socket, file and process. Decides nothing: it does what it is told and says what came of it.

pub mod http;
pub mod wait;
