//! What systemd is told of us, by its protocol sd_notify(3): one datagram a message to the socket in NOTIFY_SOCKET.
//! Without one it does nothing. Knows nothing of resources; never waits, never logs, and nothing depends on it.

use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::{Duration, Instant};

use rustix::io::Errno;
use rustix::time::{ClockId, clock_gettime};

use crate::cut::cut;
use crate::error::cause;

/// What the supervisor says to us alone. A command of the user's that got them would speak in our name.
pub const VARIABLES: [&str; 3] = ["NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID"];

/// The supervisor's ear. What it was told last is kept here, so that it hears only what is new.
#[derive(Debug, Default)]
pub struct Notify {
    to: Option<Supervisor>,
}

/// How things stand, as far as a supervisor cares.
#[derive(Debug, PartialEq, Eq)]
pub struct Standing {
    /// Everything was in place once.
    pub is_ready: bool,
    /// One line about it.
    pub status: String,
}

#[derive(Debug)]
struct Supervisor {
    /// As NOTIFY_SOCKET has it, for messages.
    name: String,
    socket: UnixDatagram,
    address: SocketAddr,
    reported: ReportedState,
    status: String,
    watchdog: Option<Watchdog>,
    /// Something could not be said.
    unheard: Option<Unheard>,
    /// Nobody was there, and that has been warned of.
    is_gone: bool,
}

/// The state that it was told last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ReportedState {
    /// Starting, or reading the configuration again.
    Busy,
    Ready,
    /// The end has begun.
    Stopping,
}

/// It ends us unless we say often enough that we live.
#[derive(Debug)]
struct Watchdog {
    every: Duration,
    due: Instant,
}

/// What it has to hear is said again then, or later.
#[derive(Clone, Copy, Debug)]
struct Unheard {
    again: Instant,
    pause: Duration,
    /// Whether the loop is to be woken for it.
    wakes: bool,
}

/// Between two attempts: from the first on, doubling.
const PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(64);
/// The watchdog is not told more often, whatever it asks for.
const SHORTEST_WATCH: Duration = Duration::from_millis(10);
/// In bytes. systemd drops a datagram of more than 4096.
const LONGEST_STATUS: usize = 1000;

impl Notify {
    /// For the supervisor that the environment names.
    ///
    /// # Errors
    /// It names one that cannot be reached; in words. Whoever waits to hear from us will wait in vain.
    pub fn from_environment() -> Result<Notify, String> {
        let Some(name) = std::env::var_os("NOTIFY_SOCKET").filter(|name| !name.is_empty()) else {
            return Ok(Notify::default());
        };
        let shown = name.to_string_lossy().into_owned();
        let supervisor =
            address(name.as_bytes()).and_then(|address| Supervisor::new(shown.clone(), address, watchdog()));
        Ok(Notify { to: Some(supervisor.map_err(|e| failed(&shown, &e))?) })
    }

    /// When the next [`Notify::turn`] is due; `None`: not before something has changed.
    pub fn due(&self) -> Option<Instant> {
        let to = self.to.as_ref()?;
        let watchdog = to.watchdog.as_ref().map(|watchdog| watchdog.due);
        let again = to.unheard.filter(|unheard| unheard.wakes).map(|unheard| unheard.again);
        watchdog.into_iter().chain(again).min()
    }

    /// Called at every turn of the loop, so that it is the loop that lives. `standing` is only asked where somebody
    /// listens. Gives, once, what to warn of: that nobody is there.
    pub fn turn(&mut self, now: Instant, standing: impl FnOnce() -> Standing) -> Option<String> {
        let to = self.to.as_mut()?;
        let told = match to.may_be_told(now) {
            true => to.tell(now, &standing()),
            false => Ok(()),
        };
        let error = told.and(to.say_alive(now)).err()?;
        let is_news = is_permanent(&error) && !std::mem::replace(&mut to.is_gone, true);
        is_news.then(|| failed(&to.name, &error))
    }

    /// The configuration is about to be read again; what follows is [`Notify::turn`].
    pub fn reloading(&mut self) {
        let Some(to) = &mut self.to else { return };
        // By it systemd tells this reload from an earlier one: its own clock's microseconds.
        let now = clock_gettime(ClockId::Monotonic);
        let micros = i128::from(now.tv_sec) * 1_000_000 + i128::from(now.tv_nsec) / 1000;
        to.reported = ReportedState::Busy;
        // Should it not hear of the beginning, it hears of the end.
        let _ = to.say(&format!("RELOADING=1\nMONOTONIC_USEC={micros}"));
    }

    /// The end has begun.
    pub fn stopping(&mut self) {
        let Some(to) = &mut self.to else { return };
        to.reported = ReportedState::Stopping;
        to.unheard = None;
        // Should it not hear of it, it sees that we are gone.
        let _ = to.say("STOPPING=1\nSTATUS=stopping");
    }
}

impl Supervisor {
    fn new(name: String, address: SocketAddr, every: Option<Duration>) -> io::Result<Supervisor> {
        let socket = UnixDatagram::unbound()?;
        socket.set_nonblocking(true)?;
        let watchdog = every.map(|every| Watchdog { every, due: Instant::now() });
        let (reported, status) = (ReportedState::Busy, String::new());
        Ok(Supervisor { name, socket, address, reported, status, watchdog, unheard: None, is_gone: false })
    }

    fn may_be_told(&self, now: Instant) -> bool {
        self.reported != ReportedState::Stopping && self.unheard.is_none_or(|unheard| unheard.again <= now)
    }

    /// Says what is new of how things stand.
    fn tell(&mut self, now: Instant, standing: &Standing) -> io::Result<()> {
        let before = self.unheard.take();
        let told = self.say_ready(standing.is_ready).and_then(|()| self.say_status(one_line(&standing.status)));
        if let Err(e) = &told {
            let pause = before.map_or(PAUSE, |before| (before.pause * 2).min(LONGEST_PAUSE));
            // One that is not there, or is none, may come; that is no reason to wake an idle program again and again.
            self.unheard = Some(Unheard { again: now + pause, pause, wakes: !is_permanent(e) });
        }
        told
    }

    fn say_ready(&mut self, is_ready: bool) -> io::Result<()> {
        if is_ready && self.reported == ReportedState::Busy {
            self.say("READY=1")?;
            self.reported = ReportedState::Ready;
        }
        Ok(())
    }

    fn say_status(&mut self, status: String) -> io::Result<()> {
        if status != self.status {
            self.say(&format!("STATUS={status}"))?;
            self.status = status;
        }
        Ok(())
    }

    /// Tells the watchdog, when it is time.
    fn say_alive(&mut self, now: Instant) -> io::Result<()> {
        let Some(every) = self.watchdog.as_ref().filter(|watchdog| watchdog.due <= now).map(|watchdog| watchdog.every)
        else {
            return Ok(());
        };
        let sent = self.say("WATCHDOG=1");
        let pause = match &sent {
            Err(e) if !is_permanent(e) => every.min(PAUSE),
            Ok(()) | Err(_) => every,
        };
        self.watchdog = Some(Watchdog { every, due: now + pause });
        sent
    }

    fn say(&mut self, message: &str) -> io::Result<()> {
        self.socket.send_to_addr(message.as_bytes(), &self.address)?;
        self.is_gone = false;
        Ok(())
    }
}

/// Whether saying it again soon is no use: only a full socket, or a machine without memory, gets well by itself.
fn is_permanent(error: &io::Error) -> bool {
    !matches!(Errno::from_io_error(error), Some(Errno::AGAIN | Errno::INTR | Errno::NOBUFS | Errno::NOMEM))
}

fn failed(name: &str, error: &io::Error) -> String {
    format!("failed to use NOTIFY_SOCKET `{name}`: {}", cause(error))
}

/// A message is lines: one within the text would be a message of its own.
fn one_line(text: &str) -> String {
    let text = cut(text, LONGEST_STATUS);
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
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
    Some(Duration::from_micros(allowed / 2).max(SHORTEST_WATCH))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A supervisor that listens, and one of ours that speaks to it.
    fn pair(name: &str, every: Option<Duration>) -> (UnixDatagram, Notify) {
        let name = format!("@remco-notify-{name}-{}", std::process::id());
        let address = address(name.as_bytes()).unwrap();
        let ear = UnixDatagram::bind_addr(&address).unwrap();
        ear.set_nonblocking(true).unwrap();
        (ear, Notify { to: Some(Supervisor::new(name, address, every).unwrap()) })
    }

    /// All that was heard since the last call: a message a line, its own lines apart by spaces.
    fn heard(ear: &UnixDatagram) -> String {
        let mut buffer = [0; 4097];
        let messages = std::iter::from_fn(|| ear.recv(&mut buffer).ok().map(|n| buffer[..n].to_vec()));
        let texts: Vec<String> =
            messages.map(|message| String::from_utf8(message).unwrap().replace('\n', " ")).collect();
        texts.join("\n")
    }

    #[track_caller]
    fn turn(notify: &mut Notify, now: Instant, is_ready: bool, status: &str) {
        assert_eq!(notify.turn(now, || Standing { is_ready, status: status.to_owned() }), None);
    }

    /// Says so much that nothing more is taken. Gives how many messages that were.
    fn fill(notify: &mut Notify) -> usize {
        let to = notify.to.as_mut().unwrap();
        let n = (0..1_000_000).take_while(|_| to.say("STATUS=full").is_ok()).count();
        assert!(n < 1_000_000, "the socket is never full");
        n
    }

    #[test]
    fn hears_what_is_new_and_nothing_twice() {
        let now = Instant::now();
        let (ear, mut notify) = pair("new", None);
        turn(&mut notify, now, false, "waiting");
        assert_eq!(heard(&ear), "STATUS=waiting");
        turn(&mut notify, now, false, "waiting");
        assert_eq!(heard(&ear), "");
        turn(&mut notify, now, true, "in step");
        assert_eq!(heard(&ear), "READY=1\nSTATUS=in step");
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
        let half = Duration::from_secs(5);
        let (ear, mut notify) = pair("watchdog", Some(half));
        let now = Instant::now();
        turn(&mut notify, now, true, "in step");
        assert_eq!(heard(&ear), "READY=1\nSTATUS=in step\nWATCHDOG=1");
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
        let (ear, mut notify) = pair("full", None);
        fill(&mut notify);
        turn(&mut notify, now, true, "in step");
        assert_eq!(notify.due(), Some(now + PAUSE));
        turn(&mut notify, now + PAUSE, true, "in step");
        assert_eq!(notify.due(), Some(now + 3 * PAUSE), "twice as long");
        assert!(!heard(&ear).contains("READY"));
        turn(&mut notify, now + PAUSE, true, "in step");
        assert_eq!(heard(&ear), "", "not before its time");
        turn(&mut notify, now + 3 * PAUSE, true, "in step");
        assert_eq!(heard(&ear), "READY=1\nSTATUS=in step");
        assert_eq!(notify.due(), None);
    }

    #[test]
    fn nothing_is_due_for_what_need_not_be_said_any_more() {
        let now = Instant::now();
        let (ear, mut notify) = pair("withdrawn", None);
        turn(&mut notify, now, true, "in step");
        fill(&mut notify);
        turn(&mut notify, now, true, "failing");
        assert_eq!(notify.due(), Some(now + PAUSE));
        turn(&mut notify, now + PAUSE, true, "in step");
        assert_eq!(notify.due(), None);
        assert!(!heard(&ear).contains("failing"));
    }

    #[test]
    fn the_watchdog_is_told_again_where_it_did_not_hear() {
        let half = Duration::from_secs(30);
        let (ear, mut notify) = pair("deaf-watchdog", Some(half));
        fill(&mut notify);
        let now = Instant::now();
        turn(&mut notify, now, false, "");
        assert_eq!(notify.due(), Some(now + PAUSE), "not as late as {half:?}");
        heard(&ear);
        turn(&mut notify, now + PAUSE, false, "");
        assert_eq!(heard(&ear), "WATCHDOG=1");
        assert_eq!(notify.due(), Some(now + PAUSE + half));
    }

    #[test]
    fn who_is_gone_is_warned_of_once_and_wakes_nobody() {
        let now = Instant::now();
        let (ear, mut notify) = pair("gone", None);
        let name = notify.to.as_ref().unwrap().name.clone();
        drop(ear);
        let standing = || Standing { is_ready: true, status: String::new() };
        let warning = format!("failed to use NOTIFY_SOCKET `{name}`: connection refused");
        assert_eq!(notify.turn(now, standing), Some(warning));
        assert_eq!(notify.due(), None);
        assert_eq!(notify.turn(now + PAUSE, standing), None);
        // It is back, and hears of it when the loop turns anyway.
        let ear = UnixDatagram::bind_addr(&address(name.as_bytes()).unwrap()).unwrap();
        ear.set_nonblocking(true).unwrap();
        assert_eq!(notify.turn(now + 3 * PAUSE, standing), None);
        assert_eq!(heard(&ear), "READY=1");
    }

    #[test]
    fn a_status_is_one_line_of_no_great_length() {
        let (ear, mut notify) = pair("line", None);
        turn(&mut notify, Instant::now(), false, "failing: a\nREADY=1\tb");
        assert_eq!(ear.recv(&mut [0; 100]).unwrap(), "STATUS=failing: a READY=1 b".len());
        turn(&mut notify, Instant::now(), true, &"ä".repeat(LONGEST_STATUS));
        assert_eq!(heard(&ear), format!("READY=1\nSTATUS={}", "ä".repeat(LONGEST_STATUS / 2)));
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
