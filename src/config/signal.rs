//! The names of signals and their numbers on Linux.
//! Sends no signal, and accepts every signal for every purpose.

// These architectures have other signal numbers than most (signal(7)). A wrong number would give no error.
#[cfg(any(
    target_arch = "mips",
    target_arch = "mips64",
    target_arch = "mips32r6",
    target_arch = "mips64r6",
    target_arch = "sparc",
    target_arch = "sparc64"
))]
compile_error!("signals have other numbers on this architecture");

/// The signals of signal(7) under "x86/ARM and most others", with their synonyms. SIGNULL is the name of 0 in
/// consul-template, whose names Go remco uses; as a reload_signal it has no effect on the child.
const NAMES: &[(&str, i32)] = &[
    ("SIGHUP", 1),
    ("SIGINT", 2),
    ("SIGQUIT", 3),
    ("SIGILL", 4),
    ("SIGTRAP", 5),
    ("SIGABRT", 6),
    ("SIGIOT", 6),
    ("SIGBUS", 7),
    ("SIGFPE", 8),
    ("SIGKILL", 9),
    ("SIGUSR1", 10),
    ("SIGSEGV", 11),
    ("SIGUSR2", 12),
    ("SIGPIPE", 13),
    ("SIGALRM", 14),
    ("SIGTERM", 15),
    ("SIGSTKFLT", 16),
    ("SIGCHLD", 17),
    ("SIGCLD", 17),
    ("SIGCONT", 18),
    ("SIGSTOP", 19),
    ("SIGTSTP", 20),
    ("SIGTTIN", 21),
    ("SIGTTOU", 22),
    ("SIGURG", 23),
    ("SIGXCPU", 24),
    ("SIGXFSZ", 25),
    ("SIGVTALRM", 26),
    ("SIGPROF", 27),
    ("SIGWINCH", 28),
    ("SIGIO", 29),
    ("SIGPOLL", 29),
    ("SIGPWR", 30),
    ("SIGSYS", 31),
    ("SIGUNUSED", 31),
    ("SIGNULL", 0),
];

/// The first and the last real-time signal of `kill -l`. glibc and musl use 32, 33 (and musl 34) internally.
const REAL_TIME: std::ops::RangeInclusive<i32> = 34..=64;

/// The number of a signal. Case does not count. Real-time signals are `SIGRTMIN`, `SIGRTMIN+3`, `SIGRTMAX-1`.
pub(super) fn number(name: &str) -> Option<i32> {
    let name = name.to_ascii_uppercase();
    if let Some((_, number)) = NAMES.iter().find(|(known, _)| *known == name) {
        return Some(*number);
    }
    let offset = |text: &str, sign: char| match text.strip_prefix(sign) {
        Some(digits) if digits.bytes().all(|b| b.is_ascii_digit()) => digits.parse::<u8>().ok().map(i32::from),
        Some(_) => None,
        None => text.is_empty().then_some(0),
    };
    let number = match (name.strip_prefix("SIGRTMIN"), name.strip_prefix("SIGRTMAX")) {
        (Some(rest), _) => REAL_TIME.start() + offset(rest, '+')?,
        (_, Some(rest)) => REAL_TIME.end() - offset(rest, '-')?,
        _ => return None,
    };
    REAL_TIME.contains(&number).then_some(number)
}

/// The name of a signal in messages: `SIGUSR2`, `SIGRTMIN+3`.
pub fn name(number: i32) -> String {
    if let Some((name, _)) = NAMES.iter().find(|(_, known)| *known == number) {
        return (*name).to_owned();
    }
    match number.checked_sub(*REAL_TIME.start()) {
        Some(0) => "SIGRTMIN".to_owned(),
        Some(offset) if REAL_TIME.contains(&number) => format!("SIGRTMIN+{offset}"),
        _ => format!("signal {number}"),
    }
}

/// The names, for suggestions.
pub(super) fn names() -> impl Iterator<Item = &'static str> {
    NAMES.iter().map(|(name, _)| *name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn knows_names() {
        let check = |name, expected| assert_eq!(number(name), expected, "{name}");
        check("SIGTERM", Some(15));
        check("sigterm", Some(15));
        check("SigHup", Some(1));
        check("SIGNULL", Some(0));
        check("SIGRTMIN", Some(34));
        check("SIGRTMIN+3", Some(37));
        check("sigrtmax-1", Some(63));
        check("SIGRTMAX", Some(64));
        check("SIGRTMIN+31", None);
        check("SIGRTMAX-31", None);
        check("SIGRTMIN-1", None);
        check("SIGRTMIN+", None);
        check("SIGRTMIN++1", None);
        check("SIGRTMIN+999", None);
        check("TERM", None);
        check("15", None);
        check("", None);
        check(" SIGTERM", None);
    }

    #[test]
    fn names_numbers() {
        let check = |signal, expected: &str| assert_eq!(name(signal), expected);
        check(12, "SIGUSR2");
        check(6, "SIGABRT");
        check(29, "SIGIO");
        check(34, "SIGRTMIN");
        check(37, "SIGRTMIN+3");
        check(64, "SIGRTMIN+30");
        check(33, "signal 33");
        check(65, "signal 65");
        check(i32::MAX, "signal 2147483647");
        for known in (0..=31).chain(34..=64) {
            assert_eq!(number(&name(known)), Some(known));
        }
    }

    /// The numbers are those of the machine the test runs on.
    #[test]
    fn numbers_are_the_systems() {
        use signal_hook::consts::*;
        for (name, expected) in [
            ("SIGHUP", SIGHUP),
            ("SIGINT", SIGINT),
            ("SIGQUIT", SIGQUIT),
            ("SIGILL", SIGILL),
            ("SIGTRAP", SIGTRAP),
            ("SIGABRT", SIGABRT),
            ("SIGBUS", SIGBUS),
            ("SIGFPE", SIGFPE),
            ("SIGKILL", SIGKILL),
            ("SIGUSR1", SIGUSR1),
            ("SIGSEGV", SIGSEGV),
            ("SIGUSR2", SIGUSR2),
            ("SIGPIPE", SIGPIPE),
            ("SIGALRM", SIGALRM),
            ("SIGTERM", SIGTERM),
            ("SIGCHLD", SIGCHLD),
            ("SIGCONT", SIGCONT),
            ("SIGSTOP", SIGSTOP),
            ("SIGTSTP", SIGTSTP),
            ("SIGTTIN", SIGTTIN),
            ("SIGTTOU", SIGTTOU),
            ("SIGURG", SIGURG),
            ("SIGXCPU", SIGXCPU),
            ("SIGXFSZ", SIGXFSZ),
            ("SIGVTALRM", SIGVTALRM),
            ("SIGPROF", SIGPROF),
            ("SIGWINCH", SIGWINCH),
            ("SIGIO", SIGIO),
            ("SIGSYS", SIGSYS),
        ] {
            assert_eq!(number(name), Some(expected), "{name}");
        }
    }
}
