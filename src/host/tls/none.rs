//! Replaces TLS in a build without it: a session cannot be created, and the error says so.
//! Reads no files.

use std::io::{self, Read, Write};

use crate::config;
use crate::host::cause::Cause;

/// Signs nothing: this build has no signatures.
pub fn sign(_: &[u8; 32], _: &[u8]) -> Option<Vec<u8>> {
    None
}

/// Creates no sessions.
#[derive(Debug)]
pub struct Tls;

impl Tls {
    /// Takes no files.
    pub fn new(_: config::Tls) -> Tls {
        Tls
    }

    /// Fails: this build has no TLS.
    pub fn secure(&self, _: &str) -> Result<Session, Cause> {
        Err(Cause::Other(config::NO_TLS.to_owned()))
    }
}

/// Has no values.
#[derive(Debug)]
pub enum Session {}

#[expect(missing_docs, reason = "they are never called")]
impl Session {
    pub fn is_handshaking(&self) -> bool {
        match *self {}
    }

    pub fn wants_write(&self) -> bool {
        match *self {}
    }

    pub fn write(&mut self, _: &[u8]) -> io::Result<usize> {
        match *self {}
    }

    pub fn flush(&mut self, _: &mut dyn Write) -> io::Result<usize> {
        match *self {}
    }

    pub fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
        match *self {}
    }

    pub fn fill(&mut self, _: &mut dyn Read, _: &mut dyn Write) -> io::Result<usize> {
        match *self {}
    }

    pub fn is_idle(&mut self) -> bool {
        match *self {}
    }
}
