//! What a build without TLS has in its place: nothing that could be used, and an error that says so.
//! Reads no files.

use super::{Cause, Waiting};
use crate::config;

/// Nobody to trust.
#[derive(Debug)]
pub struct Tls;

impl Tls {
    pub fn new(_: config::Tls) -> Tls {
        Tls
    }

    pub fn secure(&self, _: &str) -> Result<Session, Cause> {
        Err(Cause::Other(config::NO_TLS.to_owned()))
    }
}

/// There is none.
#[derive(Debug)]
pub enum Session {}

impl Session {
    pub fn send(&mut self, _: &[u8], _: &Waiting) -> Result<(), ureq::Error> {
        match *self {}
    }

    pub fn is_handshaking(&self) -> bool {
        match *self {}
    }

    pub fn is_idle(&mut self) -> bool {
        match *self {}
    }

    pub fn receive(&mut self, _: &mut [u8], _: &Waiting) -> Result<usize, ureq::Error> {
        match *self {}
    }
}
