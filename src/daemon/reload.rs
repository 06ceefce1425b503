//! The time of the answer to SIGHUP: limits how often a flood of SIGHUP makes the program read its configuration.
//! Does not read the configuration, and reads no clock.

use std::time::Instant;

/// When SIGHUP is answered. The first one is answered at once. After a read of the configuration, the next read waits
/// for as long as the last one took, so that a flood of SIGHUP leaves half of the time to everything else.
#[derive(Debug, Default)]
pub(super) struct Reload {
    pub(super) is_wanted: bool,
    /// The beginning of the read of the configuration, which is outside of the loop.
    began: Option<Instant>,
    not_before: Option<Instant>,
}

impl Reload {
    pub(super) fn is_due(&self, now: Instant) -> bool {
        self.is_wanted && self.not_before.is_none_or(|at| at <= now)
    }

    /// When the requested reload is due; `None`: no reload is requested.
    pub(super) fn due(&self) -> Option<Instant> {
        self.not_before.filter(|_| self.is_wanted)
    }

    pub(super) fn begin(&mut self, now: Instant) {
        *self = Reload { is_wanted: false, began: Some(now), not_before: None };
    }

    /// The read of the configuration has ended, and the loop continues.
    pub(super) fn end(&mut self, now: Instant) {
        if let Some(began) = self.began.take() {
            self.not_before = Some(now + now.saturating_duration_since(began));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn after_a_reload_everything_else_has_as_long() {
        let (mut reload, start) = (Reload::default(), Instant::now());
        let at = |millis| start + Duration::from_millis(millis);
        assert_eq!((reload.is_due(at(0)), reload.due()), (false, None));
        reload.is_wanted = true;
        assert!(reload.is_due(at(0)));
        reload.begin(at(0));
        assert!(!reload.is_due(at(0)));
        reload.end(at(30));
        assert_eq!((reload.is_due(at(99)), reload.due()), (false, None), "nothing wants it");
        reload.is_wanted = true;
        assert_eq!((reload.is_due(at(59)), reload.due()), (false, Some(at(60))));
        assert!(reload.is_due(at(60)));
        // A run that was not preceded by a read of the configuration changes nothing.
        reload.end(at(60));
        assert!(reload.is_due(at(60)));
    }
}
