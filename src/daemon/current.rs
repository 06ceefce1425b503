//! Decides whether a template has to be rendered, by the reads of its last render and the content of its destination
//! after it. Decides nothing about updates. In doubt the template is rendered.

use crate::host::files::{Destination, Written};
use crate::store::changes::Changes;
use crate::template::reads::Reads;

/// The last render of a template. Empty before the first render.
#[derive(Debug, Default)]
pub(super) struct Current {
    reads: Reads,
    /// The content of the destination, if it is the result of a render from the present keys, and depends on keys only.
    written: Option<Written>,
}

impl Current {
    /// The template was rendered, or failed to render. Until the result is in place, the template counts as not
    /// rendered.
    pub(super) fn rendered(&mut self, reads: Reads) {
        *self = Current { reads, written: None };
    }

    /// The destination has the result of the last render.
    pub(super) fn in_place(&mut self, result: &[u8]) {
        self.written = (!self.reads.asked_machine()).then(|| Written::new(result));
    }

    /// The keys have changed.
    pub(super) fn keys_changed(&mut self, changes: &Changes) {
        if self.reads.is_affected_by(changes) {
            self.written = None;
        }
    }

    /// Whether a render would give the present content of the destination.
    pub(super) fn holds(&mut self, destination: &mut Destination) -> bool {
        self.written.as_mut().is_some_and(|written| destination.still_has(written))
    }
}
