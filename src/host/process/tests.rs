//! The output of a command that writes without end.
//! Real children are in `tests/it`.

use super::*;
use std::fs::File;
use std::os::fd::OwnedFd;

#[test]
fn what_prints_without_end_is_left_after_a_while() {
    let endless = File::open("/dev/zero").expect("every Unix has one");
    let output = Some(PipeReader::from(OwnedFd::from(endless)));
    let mut command = Command {
        pid: rustix::process::getpid(),
        began: Instant::now(),
        output,
        kept: Vec::new(),
        dropped: 0,
        limit: Limit::Never,
        program: None,
    };
    command.drain();
    assert_eq!((command.kept.len(), command.dropped), (MOST_OUTPUT, 0));
    command.drain();
    assert!(command.fd().is_some(), "it is looked at again");
    assert!(command.dropped > 0);
}
