//! Reports the state of the program to systemd by the protocol sd_notify(3): one datagram a message to the socket in
//! NOTIFY_SOCKET. Does nothing without that variable. Does not depend on resources; never waits and never logs.

use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::{Duration, Instant};

use rustix::io::Errno;
use rustix::time::{ClockId, clock_gettime};

use crate::cut::{cut, without_controls};
use crate::error::cause;

/// The variables that are meant for this program alone. A command that inherited them could send messages in our name.
pub const VARIABLES: [&str; 3] = ["NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID"];

/// The connection to systemd. It keeps the reported state, so that only changes are sent.
#[derive(Debug, Default)]
pub struct Notify {
    to: Option<Supervisor>,
}

/// The state of the program, for systemd.
#[derive(Debug, PartialEq, Eq)]
pub struct Readiness {
    /// Whether every resource has had its first complete update.
    pub is_ready: bool,
    /// One line about the resources.
    pub status: String,
}

#[derive(Debug)]
struct Supervisor {
    /// The value of NOTIFY_SOCKET, for messages.
    name: String,
    socket: UnixDatagram,
    address: SocketAddr,
    reported: ReportedState,
    status: String,
    watchdog: Option<Watchdog>,
    /// A message could not be sent.
    unsent: Option<Unsent>,
    /// The socket was missing, and a warning was returned.
    is_gone: bool,
}

/// The last reported state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ReportedState {
    /// Starting, or reading the configuration again.
    Busy,
    Ready,
    /// The program is ending.
    Stopping,
}

/// systemd kills the program if it gets no sign of life in time.
#[derive(Debug)]
struct Watchdog {
    every: Duration,
    due: Instant,
}

/// The next attempt to send a message that was not taken.
#[derive(Clone, Copy, Debug)]
struct Unsent {
    again: Instant,
    pause: Duration,
    /// Whether the loop has to wake for the attempt.
    wakes: bool,
}

/// The pause before the first new attempt; it doubles each time.
const PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(64);
/// The shortest interval of signs of life, even if systemd requests more.
const SHORTEST_WATCH: Duration = Duration::from_millis(10);
/// In bytes. systemd drops a datagram of more than 4096.
const LONGEST_STATUS: usize = 1000;

impl Notify {
    /// Reads NOTIFY_SOCKET.
    ///
    /// # Errors
    /// The socket cannot be used. The text is the cause. systemd would wait in vain.
    pub fn from_environment() -> Result<Notify, String> {
        let Some(name) = std::env::var_os("NOTIFY_SOCKET").filter(|name| !name.is_empty()) else {
            return Ok(Notify::default());
        };
        let shown = name.to_string_lossy().into_owned();
        let supervisor =
            address(name.as_bytes()).and_then(|address| Supervisor::new(shown.clone(), address, watchdog()));
        Ok(Notify { to: Some(supervisor.map_err(|e| failed(&shown, &e))?) })
    }

    /// When the next [`Notify::turn`] is due; `None`: not before the state changes.
    pub fn due(&self) -> Option<Instant> {
        let to = self.to.as_ref()?;
        let watchdog = to.watchdog.as_ref().map(|watchdog| watchdog.due);
        let again = to.unsent.filter(|unsent| unsent.wakes).map(|unsent| unsent.again);
        watchdog.into_iter().chain(again).min()
    }

    /// Called in every turn of the loop, so that signs of life stop when the loop hangs. `readiness` is only called if
    /// there is a socket. Returns a warning once if the socket is missing.
    pub fn turn(&mut self, now: Instant, readiness: impl FnOnce() -> Readiness) -> Option<String> {
        let to = self.to.as_mut()?;
        let sent = match to.may_send(now) {
            true => to.send_changes(now, &readiness()),
            false => Ok(()),
        };
        let error = sent.and(to.send_sign_of_life(now)).err()?;
        let is_news = is_permanent(&error) && !std::mem::replace(&mut to.is_gone, true);
        is_news.then(|| failed(&to.name, &error))
    }

    /// The configuration is about to be read again. [`Notify::turn`] reports the end of the reload.
    pub fn reloading(&mut self) {
        let Some(to) = &mut self.to else { return };
        // systemd identifies a reload by this time, in microseconds of the monotonic clock.
        let now = clock_gettime(ClockId::Monotonic);
        let micros = i128::from(now.tv_sec) * 1_000_000 + i128::from(now.tv_nsec) / 1000;
        to.reported = ReportedState::Busy;
        // If this message is lost, the end of the reload is still reported.
        let _ = to.send(&format!("RELOADING=1\nMONOTONIC_USEC={micros}"));
    }

    /// The program is ending.
    pub fn stopping(&mut self) {
        let Some(to) = &mut self.to else { return };
        to.reported = ReportedState::Stopping;
        to.unsent = None;
        // If this message is lost, systemd sees the end of the process.
        let _ = to.send("STOPPING=1\nSTATUS=stopping");
    }
}

impl Supervisor {
    fn new(name: String, address: SocketAddr, every: Option<Duration>) -> io::Result<Supervisor> {
        let socket = UnixDatagram::unbound()?;
        socket.set_nonblocking(true)?;
        let watchdog = every.map(|every| Watchdog { every, due: Instant::now() });
        let (reported, status) = (ReportedState::Busy, String::new());
        Ok(Supervisor { name, socket, address, reported, status, watchdog, unsent: None, is_gone: false })
    }

    fn may_send(&self, now: Instant) -> bool {
        self.reported != ReportedState::Stopping && self.unsent.is_none_or(|unsent| unsent.again <= now)
    }

    /// Sends the changes of the state.
    fn send_changes(&mut self, now: Instant, readiness: &Readiness) -> io::Result<()> {
        let before = self.unsent.take();
        let sent = self.send_ready(readiness.is_ready).and_then(|()| self.send_status(one_line(&readiness.status)));
        if let Err(e) = &sent {
            let pause = before.map_or(PAUSE, |before| (before.pause * 2).min(LONGEST_PAUSE));
            // A missing socket may appear later. It is no reason to wake an idle program repeatedly.
            self.unsent = Some(Unsent { again: now + pause, pause, wakes: !is_permanent(e) });
        }
        sent
    }

    fn send_ready(&mut self, is_ready: bool) -> io::Result<()> {
        if is_ready && self.reported == ReportedState::Busy {
            self.send("READY=1")?;
            self.reported = ReportedState::Ready;
        }
        Ok(())
    }

    fn send_status(&mut self, status: String) -> io::Result<()> {
        if status != self.status {
            self.send(&format!("STATUS={status}"))?;
            self.status = status;
        }
        Ok(())
    }

    /// Sends a sign of life, if it is due.
    fn send_sign_of_life(&mut self, now: Instant) -> io::Result<()> {
        let Some(every) = self.watchdog.as_ref().filter(|watchdog| watchdog.due <= now).map(|watchdog| watchdog.every)
        else {
            return Ok(());
        };
        let sent = self.send("WATCHDOG=1");
        let pause = match &sent {
            Err(e) if !is_permanent(e) => every.min(PAUSE),
            Ok(()) | Err(_) => every,
        };
        self.watchdog = Some(Watchdog { every, due: now + pause });
        sent
    }

    fn send(&mut self, message: &str) -> io::Result<()> {
        self.socket.send_to_addr(message.as_bytes(), &self.address)?;
        self.is_gone = false;
        Ok(())
    }
}

/// Whether a new attempt soon is useless. Only a full socket and a lack of memory pass by themselves.
fn is_permanent(error: &io::Error) -> bool {
    !matches!(Errno::from_io_error(error), Some(Errno::AGAIN | Errno::INTR | Errno::NOBUFS | Errno::NOMEM))
}

fn failed(name: &str, error: &io::Error) -> String {
    format!("failed to use NOTIFY_SOCKET `{name}`: {}", cause(error))
}

/// A message consists of lines: a line break in the text would begin another assignment.
fn one_line(text: &str) -> String {
    without_controls(cut(text, LONGEST_STATUS)).collect()
}

/// The address that NOTIFY_SOCKET means: a path, or `@` and a name in the abstract namespace.
fn address(name: &[u8]) -> io::Result<SocketAddr> {
    match name {
        [b'@', name @ ..] => SocketAddr::from_abstract_name(name),
        [b'/', ..] => SocketAddr::from_pathname(std::ffi::OsStr::from_bytes(name)),
        _ => Err(io::Error::new(io::ErrorKind::InvalidInput, "neither a path nor an abstract name")),
    }
}

/// The interval of signs of life: half of the time that systemd allows.
fn watchdog() -> Option<Duration> {
    let number = |name| std::env::var(name).ok()?.parse::<u64>().ok();
    // The variable may be meant for a shell that ran before this program.
    let is_ours = number("WATCHDOG_PID").is_none_or(|pid| pid == u64::from(std::process::id()));
    let allowed = number("WATCHDOG_USEC").filter(|allowed| is_ours && *allowed > 0)?;
    Some(Duration::from_micros(allowed / 2).max(SHORTEST_WATCH))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A socket in systemd's place, and a [`Notify`] that is connected to it.
    fn pair(name: &str, every: Option<Duration>) -> (UnixDatagram, Notify) {
        let name = format!("@remco-notify-{name}-{}", std::process::id());
        let address = address(name.as_bytes()).unwrap();
        let receiver = UnixDatagram::bind_addr(&address).unwrap();
        receiver.set_nonblocking(true).unwrap();
        (receiver, Notify { to: Some(Supervisor::new(name, address, every).unwrap()) })
    }

    /// All messages since the last call, one a line; line breaks within a message become blanks.
    fn received(receiver: &UnixDatagram) -> String {
        let mut buffer = [0; 4097];
        let messages = std::iter::from_fn(|| receiver.recv(&mut buffer).ok().map(|n| buffer[..n].to_vec()));
        let texts: Vec<String> =
            messages.map(|message| String::from_utf8(message).unwrap().replace('\n', " ")).collect();
        texts.join("\n")
    }

    #[track_caller]
    fn turn(notify: &mut Notify, now: Instant, is_ready: bool, status: &str) {
        assert_eq!(notify.turn(now, || Readiness { is_ready, status: status.to_owned() }), None);
    }

    /// Sends messages until the socket is full. Returns their number.
    fn fill(notify: &mut Notify) -> usize {
        let to = notify.to.as_mut().unwrap();
        let n = (0..1_000_000).take_while(|_| to.send("STATUS=full").is_ok()).count();
        assert!(n < 1_000_000, "the socket is never full");
        n
    }

    #[test]
    fn hears_what_is_new_and_nothing_twice() {
        let now = Instant::now();
        let (receiver, mut notify) = pair("new", None);
        turn(&mut notify, now, false, "waiting");
        assert_eq!(received(&receiver), "STATUS=waiting");
        turn(&mut notify, now, false, "waiting");
        assert_eq!(received(&receiver), "");
        turn(&mut notify, now, true, "in step");
        assert_eq!(received(&receiver), "READY=1\nSTATUS=in step");
        turn(&mut notify, now, true, "in step");
        turn(&mut notify, now, false, "in step");
        assert_eq!(received(&receiver), "");
        assert_eq!(notify.due(), None, "the loop does not wake for it");
        notify.reloading();
        turn(&mut notify, now, true, "in step");
        notify.stopping();
        let all = received(&receiver);
        let lines: Vec<&str> = all.lines().collect();
        assert!(lines[0].starts_with("RELOADING=1 MONOTONIC_USEC="), "{all}");
        assert_eq!(lines[1..], ["READY=1", "STOPPING=1 STATUS=stopping"]);
    }

    #[test]
    fn says_that_it_lives_when_due() {
        let half = Duration::from_secs(5);
        let (receiver, mut notify) = pair("watchdog", Some(half));
        let now = Instant::now();
        turn(&mut notify, now, true, "in step");
        assert_eq!(received(&receiver), "READY=1\nSTATUS=in step\nWATCHDOG=1");
        assert_eq!(notify.due(), Some(now + half));
        turn(&mut notify, now + Duration::from_secs(4), true, "in step");
        assert_eq!(received(&receiver), "");
        turn(&mut notify, now + Duration::from_secs(7), true, "in step");
        assert_eq!(received(&receiver), "WATCHDOG=1");
        assert_eq!(notify.due(), Some(now + Duration::from_secs(12)));
        notify.stopping();
        turn(&mut notify, now + Duration::from_secs(13), true, "children are leaving");
        assert_eq!(received(&receiver), "STOPPING=1 STATUS=stopping\nWATCHDOG=1");
    }

    #[test]
    fn says_again_what_was_not_heard() {
        let now = Instant::now();
        let (receiver, mut notify) = pair("full", None);
        fill(&mut notify);
        turn(&mut notify, now, true, "in step");
        assert_eq!(notify.due(), Some(now + PAUSE));
        turn(&mut notify, now + PAUSE, true, "in step");
        assert_eq!(notify.due(), Some(now + 3 * PAUSE), "twice as long");
        assert!(!received(&receiver).contains("READY"));
        turn(&mut notify, now + PAUSE, true, "in step");
        assert_eq!(received(&receiver), "", "not before its time");
        turn(&mut notify, now + 3 * PAUSE, true, "in step");
        assert_eq!(received(&receiver), "READY=1\nSTATUS=in step");
        assert_eq!(notify.due(), None);
    }

    #[test]
    fn nothing_is_due_for_what_need_not_be_said_any_more() {
        let now = Instant::now();
        let (receiver, mut notify) = pair("withdrawn", None);
        turn(&mut notify, now, true, "in step");
        fill(&mut notify);
        turn(&mut notify, now, true, "failing");
        assert_eq!(notify.due(), Some(now + PAUSE));
        turn(&mut notify, now + PAUSE, true, "in step");
        assert_eq!(notify.due(), None);
        assert!(!received(&receiver).contains("failing"));
    }

    #[test]
    fn the_watchdog_is_told_again_where_it_did_not_hear() {
        let half = Duration::from_secs(30);
        let (receiver, mut notify) = pair("deaf-watchdog", Some(half));
        fill(&mut notify);
        let now = Instant::now();
        turn(&mut notify, now, false, "");
        assert_eq!(notify.due(), Some(now + PAUSE), "not as late as {half:?}");
        received(&receiver);
        turn(&mut notify, now + PAUSE, false, "");
        assert_eq!(received(&receiver), "WATCHDOG=1");
        assert_eq!(notify.due(), Some(now + PAUSE + half));
    }

    #[test]
    fn a_missing_socket_is_one_warning_and_no_wake_up() {
        let now = Instant::now();
        let (receiver, mut notify) = pair("gone", None);
        let name = notify.to.as_ref().unwrap().name.clone();
        drop(receiver);
        let readiness = || Readiness { is_ready: true, status: String::new() };
        let warning = format!("failed to use NOTIFY_SOCKET `{name}`: connection refused");
        assert_eq!(notify.turn(now, readiness), Some(warning));
        assert_eq!(notify.due(), None);
        assert_eq!(notify.turn(now + PAUSE, readiness), None);
        // The socket is back, and gets the state in the loop's next turn.
        let receiver = UnixDatagram::bind_addr(&address(name.as_bytes()).unwrap()).unwrap();
        receiver.set_nonblocking(true).unwrap();
        assert_eq!(notify.turn(now + 3 * PAUSE, readiness), None);
        assert_eq!(received(&receiver), "READY=1");
    }

    #[test]
    fn a_status_is_one_line_of_no_great_length() {
        let (receiver, mut notify) = pair("line", None);
        turn(&mut notify, Instant::now(), false, "failing: a\nREADY=1\tb");
        assert_eq!(receiver.recv(&mut [0; 100]).unwrap(), "STATUS=failing: a READY=1 b".len());
        turn(&mut notify, Instant::now(), true, &"ä".repeat(LONGEST_STATUS));
        assert_eq!(received(&receiver), format!("READY=1\nSTATUS={}", "ä".repeat(LONGEST_STATUS / 2)));
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
