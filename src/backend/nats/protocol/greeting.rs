//! The login on a new connection: takes the INFO of the server, asks for TLS where it is required, and sends the
//! credentials. The format of a login is in `login`; errors of the server are `protocol`'s.

use super::{CALL, Nats, REPLIES, Stage};
use crate::backend::nats::login::{Identity, Info};
use crate::backend::nats::wire;
use crate::backend::protocol::{Credentials, Output, Security};

impl Nats {
    /// Takes the INFO of the server.
    pub(super) fn greeted(&mut self, json: &[u8], out: &mut Vec<Output>) {
        let Some(info) = Info::of(json) else {
            return self.fail("description of the server that is not readable", out);
        };
        let offers_tls = info.tls_required || info.tls_available;
        self.info = info;
        if !self.info.headers {
            return self.fail("the server has no headers: NATS 2.6.2 or later is needed", out);
        }
        if self.info.tls_required || self.needs_tls() {
            if !offers_tls {
                let words = "the server has no TLS: write nats:// and remove the `client_*` files, or turn its TLS on";
                return self.lock_out(words, out);
            }
            self.stage = Stage::Securing;
            return out.push(Output::Secure(CALL));
        }
        self.log_in(false, out);
    }

    /// Sends the login.
    pub(super) fn credentials(&mut self, credentials: Result<Option<Credentials>, String>, out: &mut Vec<Output>) {
        if self.stage != Stage::Reading {
            return;
        }
        let url = self.url().to_owned();
        match credentials.and_then(|found| Identity::of(found, self.settings.kind, &url, &mut self.secrets)) {
            Ok(identity) => {
                self.identity = identity;
                self.stage = Stage::Connecting;
                out.push(Output::Connect(CALL, Security::Plain));
            }
            Err(words) => self.lock_out(&words, out),
        }
    }

    pub(super) fn log_in(&mut self, is_secure: bool, out: &mut Vec<Output>) {
        match self.identity.connect(&self.info, is_secure, self.settings.sign) {
            Ok(line) => {
                self.stage = Stage::LoggingIn(self.later());
                let replies = wire::subscribe(&format!("_INBOX.{}.r.*", self.unique), REPLIES);
                out.push(Output::Send(CALL, [line.as_bytes(), &replies, wire::PING].concat()));
            }
            Err(words) => self.lock_out(&words, out),
        }
    }
}
