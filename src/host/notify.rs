//! What systemd is told of us, by its protocol sd_notify(3): one datagram a message to the socket in NOTIFY_SOCKET.
//! Without one it does nothing. Knows nothing of resources; never waits, and nothing depends on it.

use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::{Duration, Instant};

use rustix::time::{ClockId, clock_gettime};

use crate::error::cause;

/// What the supervisor says to us alone. A command of the user's that got them would speak in our name.
pub const VARIABLES: [&str; 3] = ["NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID"];

/// The supervisor's ear. What it was told last is kept here, so that it hears only what is new.
#[derive(Debug, Default)]
pub struct Notify {
    to: Option<Supervisor>,
}

#[derive(Debug)]
struct Supervisor {
    socket: UnixDatagram,
    address: SocketAddr,
    said: Said,
    status: String,
    watchdog: Option<Watchdog>,
    /// The socket was full or gone: what it has to hear is said again then.
    retry: Option<Instant>,
}

/// In which state it believes us to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Said {
    /// Starting, or reading the configuration again.
    Busy,
    Ready,
    /// Nothing is in place any more that could be told of.
    Leaving,
}

/// It ends us unless we say often enough that we live.
#[derive(Debug)]
struct Watchdog {
    every: Duration,
    due: Instant,
}

/// Between two attempts.
const PAUSE: Duration = Duration::from_secs(1);

impl Notify {
    /// For the supervisor that the environment names.
    ///
    /// # Errors
    /// It names one that cannot be reached; in words. Whoever waits to hear from us will wait in vain.
    pub fn from_environment() -> Result<Notify, String> {
        let Some(name) = std::env::var_os("NOTIFY_SOCKET").filter(|name| !name.is_empty()) else {
            return Ok(Notify::default());
        };
        let failed = |e: io::Error| format!("failed to use NOTIFY_SOCKET `{}`: {}", name.display(), cause(&e));
        let address = address(name.as_bytes()).map_err(failed)?;
        let socket = UnixDatagram::unbound().map_err(failed)?;
        socket.set_nonblocking(true).map_err(failed)?;
        let watchdog = watchdog().map(|every| Watchdog { every, due: Instant::now() });
        let (said, status) = (Said::Busy, String::new());
        Ok(Notify { to: Some(Supervisor { socket, address, said, status, watchdog, retry: None }) })
    }

    /// When the next [`Notify::turn`] is due; `None`: not before something has changed.
    pub fn due(&self) -> Option<Instant> {
        let to = self.to.as_ref()?;
        to.watchdog.as_ref().map(|watchdog| watchdog.due).into_iter().chain(to.retry).min()
    }

    /// Called at every turn of the loop, so that it is the loop that lives. `state`: whether everything is in place, and
    /// one line about it; only asked for where somebody listens.
    pub fn turn(&mut self, now: Instant, state: impl FnOnce() -> (bool, String)) {
        let Some(to) = &mut self.to else { return };
        let mut message = String::new();
        let is_told = to.said != Said::Leaving && to.retry.is_none_or(|at| at <= now);
        let (is_ready, status) = if is_told { state() } else { (false, String::new()) };
        let becomes_ready = is_ready && to.said == Said::Busy;
        if becomes_ready {
            message.push_str("READY=1\n");
        }
        if is_told && status != to.status {
            message.push_str(&format!("STATUS={status}\n"));
        }
        if let Some(watchdog) = to.watchdog.as_mut().filter(|watchdog| watchdog.due <= now) {
            watchdog.due = now + watchdog.every;
            message.push_str("WATCHDOG=1\n");
        }
        if message.is_empty() {
            return;
        }
        match to.say(&message) {
            // It was about the watchdog, and that hears again soon.
            Ok(()) | Err(_) if !is_told => {}
            Ok(()) => {
                to.retry = None;
                to.status = status;
                if becomes_ready {
                    to.said = Said::Ready;
                }
            }
            Err(_) => to.retry = Some(now + PAUSE),
        }
    }

    /// The configuration is about to be read again; what follows is [`Notify::turn`].
    pub fn reloading(&mut self) {
        let Some(to) = &mut self.to else { return };
        // By it systemd tells this reload from an earlier one: its own clock's microseconds.
        let now = clock_gettime(ClockId::Monotonic);
        let micros = i128::from(now.tv_sec) * 1_000_000 + i128::from(now.tv_nsec) / 1000;
        to.said = Said::Busy;
        // Should it not hear of the beginning, it hears of the end.
        let _ = to.say(&format!("RELOADING=1\nMONOTONIC_USEC={micros}\n"));
    }

    /// The end has begun.
    pub fn stopping(&mut self) {
        let Some(to) = &mut self.to else { return };
        to.said = Said::Leaving;
        to.retry = None;
        // Should it not hear of it, it sees that we are gone.
        let _ = to.say("STOPPING=1\nSTATUS=stopping\n");
    }
}

impl Supervisor {
    fn say(&self, message: &str) -> io::Result<()> {
        self.socket.send_to_addr(message.trim_end().as_bytes(), &self.address).map(drop)
    }
}

/// The address that NOTIFY_SOCKET means: a path, or a name in the abstract namespace behind an `@`.
fn address(name: &[u8]) -> io::Result<SocketAddr> {
    match name {
        [b'@', name @ ..] => SocketAddr::from_abstract_name(name),
        [b'/', ..] => SocketAddr::from_pathname(std::ffi::OsStr::from_bytes(name)),
        _ => Err(io::Error::new(io::ErrorKind::InvalidInput, "neither a path nor an abstract name")),
    }
}

/// How often to say that we live: twice in the time that is allowed.
fn watchdog() -> Option<Duration> {
    let number = |name| std::env::var(name).ok()?.parse::<u64>().ok();
    // A shell before us, perhaps, was the one to be watched.
    let is_ours = number("WATCHDOG_PID").is_none_or(|pid| pid == u64::from(std::process::id()));
    let allowed = number("WATCHDOG_USEC").filter(|allowed| is_ours && *allowed > 0)?;
    Some(Duration::from_micros(allowed / 2))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A supervisor that listens, and one of ours that speaks to it.
    fn pair(name: &str, watchdog: Option<Duration>, now: Instant) -> (UnixDatagram, Notify) {
        let address = address(format!("@remco-notify-{name}-{}", std::process::id()).as_bytes()).unwrap();
        let ear = UnixDatagram::bind_addr(&address).unwrap();
        ear.set_nonblocking(true).unwrap();
        let socket = UnixDatagram::unbound().unwrap();
        socket.set_nonblocking(true).unwrap();
        let watchdog = watchdog.map(|every| Watchdog { every, due: now });
        let status = String::new();
        (ear, Notify { to: Some(Supervisor { socket, address, said: Said::Busy, status, watchdog, retry: None }) })
    }

    /// All that was heard since the last call, a message a line.
    fn heard(ear: &UnixDatagram) -> String {
        let mut buffer = [0; 200];
        let messages = std::iter::from_fn(|| ear.recv(&mut buffer).ok().map(|n| buffer[..n].to_vec()));
        let texts: Vec<String> =
            messages.map(|message| String::from_utf8(message).unwrap().replace('\n', " ")).collect();
        texts.join("\n")
    }

    fn turn(notify: &mut Notify, now: Instant, is_ready: bool, status: &str) {
        notify.turn(now, || (is_ready, status.to_owned()));
    }

    #[test]
    fn hears_what_is_new_and_nothing_twice() {
        let now = Instant::now();
        let (ear, mut notify) = pair("new", None, now);
        turn(&mut notify, now, false, "waiting");
        assert_eq!(heard(&ear), "STATUS=waiting");
        turn(&mut notify, now, false, "waiting");
        assert_eq!(heard(&ear), "");
        turn(&mut notify, now, true, "in step");
        assert_eq!(heard(&ear), "READY=1 STATUS=in step");
        turn(&mut notify, now, true, "in step");
        turn(&mut notify, now, false, "in step");
        assert_eq!(heard(&ear), "");
        assert_eq!(notify.due(), None, "nobody is woken for it");
        notify.reloading();
        turn(&mut notify, now, true, "in step");
        notify.stopping();
        let all = heard(&ear);
        let lines: Vec<&str> = all.lines().collect();
        assert!(lines[0].starts_with("RELOADING=1 MONOTONIC_USEC="), "{all}");
        assert_eq!(lines[1..], ["READY=1", "STOPPING=1 STATUS=stopping"]);
    }

    #[test]
    fn says_that_it_lives_when_due() {
        let now = Instant::now();
        let half = Duration::from_secs(5);
        let (ear, mut notify) = pair("watchdog", Some(half), now);
        turn(&mut notify, now, true, "in step");
        assert_eq!(heard(&ear), "READY=1 STATUS=in step WATCHDOG=1");
        assert_eq!(notify.due(), Some(now + half));
        turn(&mut notify, now + Duration::from_secs(4), true, "in step");
        assert_eq!(heard(&ear), "");
        turn(&mut notify, now + Duration::from_secs(7), true, "in step");
        assert_eq!(heard(&ear), "WATCHDOG=1");
        assert_eq!(notify.due(), Some(now + Duration::from_secs(12)));
        notify.stopping();
        turn(&mut notify, now + Duration::from_secs(13), true, "children are leaving");
        assert_eq!(heard(&ear), "STOPPING=1 STATUS=stopping\nWATCHDOG=1");
    }

    #[test]
    fn says_again_what_was_not_heard() {
        let now = Instant::now();
        let (ear, mut notify) = pair("full", None, now);
        let mut n = 0;
        while notify.to.as_ref().unwrap().say("STATUS=full").is_ok() {
            n += 1;
            assert!(n < 1_000_000, "the socket is never full");
        }
        turn(&mut notify, now, true, "in step");
        assert_eq!(notify.due(), Some(now + PAUSE));
        assert!(!heard(&ear).contains("READY"));
        turn(&mut notify, now, true, "in step");
        assert_eq!(heard(&ear), "", "not before its time");
        turn(&mut notify, now + PAUSE, true, "in step");
        assert_eq!(heard(&ear), "READY=1 STATUS=in step");
        assert_eq!(notify.due(), None);
        drop(ear);
        turn(&mut notify, now, true, "nobody listens");
        assert_eq!(notify.due(), Some(now + PAUSE));
    }

    #[test]
    fn takes_both_kinds_of_address() {
        assert!(address(b"/run/systemd/notify").unwrap().as_pathname().is_some());
        assert_eq!(address(b"@abc/def").unwrap().as_abstract_name(), Some(&b"abc/def"[..]));
        for wrong in [&b"vsock:2:1234"[..], b"run/notify", &[b'/'; 200]] {
            assert!(address(wrong).is_err(), "{wrong:?}");
        }
    }
}
