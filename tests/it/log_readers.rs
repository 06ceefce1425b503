//! Readers of standard error that stop, are slow, end or return. Updates do not wait for the reader, lines stay whole,
//! and the number of lost lines is logged. `logs` tests the content of lines.

use std::fs::{File, OpenOptions};
use std::io::{self, PipeReader, PipeWriter, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::net::UnixStream;
use std::process::Stdio;

use rustix::process::Signal;

use crate::running::{folder, greet, on_file, update};
use crate::support::{Invocation, LIMIT, Remco, TempDir, remco, run, wait_until};

/// What the pipe holds before the program writes to it, ahead of the first line.
const FILLER: u8 = b'x';

/// The output of a command, and with it the line about it, is longer than a pipe takes in one piece.
const LONG_OUTPUT: &str = "reload_cmd = \"printf %20000s long; printf %s end\"";

/// A pipe that holds all it can.
fn full_pipe() -> (PipeReader, PipeWriter) {
    let (reader, mut writer) = io::pipe().expect("a pipe");
    rustix::io::ioctl_fionbio(&writer, true).expect("a pipe has that flag");
    while writer.write(&[FILLER; 4096]).is_ok() {}
    // It is the program's as well, and must block as the one that a shell makes.
    rustix::io::ioctl_fionbio(&writer, false).expect("a pipe has that flag");
    rustix::io::ioctl_fionbio(&reader, true).expect("a pipe has that flag");
    (reader, writer)
}

/// Reads what there is by now, at most so many bytes.
fn read(reader: &mut impl Read, most: u64, log: &mut Vec<u8>) {
    match reader.take(most).read_to_end(log) {
        Ok(_) => {}
        Err(e) => assert_eq!(e.kind(), io::ErrorKind::WouldBlock),
    }
}

/// Reads until a text is there.
fn read_until(reader: &mut impl Read, text: &str, log: &mut Vec<u8>) {
    wait_until(&format!("{text:?} is in the log"), LIMIT, || {
        read(reader, u64::MAX, log);
        String::from_utf8_lossy(log).contains(text)
    });
}

/// The lines of a log. Panics if one of them is torn.
#[track_caller]
fn whole_lines(log: &[u8]) -> Vec<String> {
    let text = String::from_utf8(log.to_vec()).expect("the log is UTF-8");
    let text = text.trim_start_matches(char::from(FILLER));
    let lines: Vec<String> = text.split_inclusive('\n').map(str::to_owned).collect();
    for line in &lines {
        let cut = &line[..line.len().min(200)];
        assert!(line.starts_with('[') && line.matches(" remco[").count() == 1 && line.ends_with('\n'), "torn: {cut}");
        let is_long = line.contains("  long");
        assert!(!is_long || line.len() > 20_000 && line.contains("longend"), "torn: {cut}");
    }
    lines
}

fn count(lines: &[String], text: &str) -> usize {
    lines.iter().filter(|line| line.contains(text)).count()
}

/// An invocation and its folder, with a long line in each update.
fn long_lines() -> (TempDir, Invocation) {
    let dir = folder(&on_file("app", LONG_OUTPUT));
    let invocation = remco(&dir);
    (dir, invocation)
}

/// Updates, each seen when its command has ended too: the next one waits for that.
fn updates(dir: &TempDir, count: usize) {
    (0..count).for_each(|n| update(dir, "app", &format!("update {n}")));
}

#[test]
fn lines_that_a_stopped_reader_has_lost_are_told() {
    let (dir, invocation) = long_lines();
    let (mut reader, writer) = full_pipe();
    let program = invocation.start_with_stderr(writer);
    wait_until("the first render", LIMIT, || dir.holds("app.out", "hello\n"));
    updates(&dir, 25);
    let mut log = Vec::new();
    read_until(&mut reader, "standard error was not read", &mut log);
    update(&dir, "app", "after");
    // The command's output is the last line of an update but one.
    let told = whole_lines(&log).len();
    wait_until("the log goes on", LIMIT, || {
        read(&mut reader, u64::MAX, &mut log);
        count(&whole_lines(&log)[told..], "reload command has succeeded") > 0
    });
    let lines = whole_lines(&log);
    let at = lines.iter().position(|line| line.contains(" log lines were lost: ")).expect("just read");
    assert!(lines[at].contains("  WARN remco[") || lines[at].contains(" WARN remco["), "{}", lines[at]);
    assert_eq!(count(&lines, "were lost"), 1);
    let lost: usize = lines[at].split("]: ").nth(1).and_then(|text| text.split(' ').next()?.parse().ok()).unwrap();
    // 256 KB are kept, a dozen of the long lines.
    let kept = count(&lines[..at], "longend");
    assert!((8..=14).contains(&kept), "{kept}");
    assert!(lost >= 26 - kept, "{lost} lost, {kept} kept");
    program.ends_at_once(Signal::TERM, "with a reader that came back");
}

/// A line is taken with each update: none waits for the reader, and none of the lines is lost, torn or out of order.
#[test]
fn a_reader_that_drips_gets_every_line() {
    let (dir, invocation) = long_lines();
    let (mut reader, writer) = full_pipe();
    let program = invocation.start_with_stderr(writer);
    wait_until("the first render", LIMIT, || dir.holds("app.out", "hello\n"));
    let mut log = Vec::new();
    for n in 0..8 {
        update(&dir, "app", &format!("update {n}"));
        read(&mut reader, 4096, &mut log);
    }
    wait_until("the last line", LIMIT, || {
        read(&mut reader, u64::MAX, &mut log);
        String::from_utf8_lossy(&log).matches("reload command has succeeded").count() == 9
    });
    let lines = whole_lines(&log);
    assert_eq!((count(&lines, "longend"), count(&lines, "has been updated"), count(&lines, "lost")), (9, 9, 0));
    program.ends_at_once(Signal::TERM, "with a reader that drips");
}

/// The journal reads standard error from a socket.
#[test]
fn a_socket_that_is_not_read_holds_up_nothing() {
    let (dir, invocation) = long_lines();
    let (mut reader, writer) = UnixStream::pair().expect("a pair");
    writer.set_nonblocking(true).expect("a socket has that flag");
    while (&writer).write(&[FILLER; 4096]).is_ok() {}
    writer.set_nonblocking(false).expect("a socket has that flag");
    reader.set_nonblocking(true).expect("a socket has that flag");
    let program = invocation.start_with_stderr(Stdio::from(std::os::fd::OwnedFd::from(writer)));
    wait_until("the first render", LIMIT, || dir.holds("app.out", "hello\n"));
    updates(&dir, 25);
    let mut log = Vec::new();
    read_until(&mut reader, "standard error was not read", &mut log);
    assert!(whole_lines(&log).len() > 10);
    drop(reader);
    updates(&dir, 2);
    program.ends_at_once(Signal::TERM, "with a socket that was closed");
}

/// Ends at once, and the pipe that nothing reads costs no time meanwhile.
fn works_with_stderr(dir: &TempDir, program: Remco, state: &str) {
    wait_until("the first render", LIMIT, || dir.holds("app.out", "hello\n"));
    updates(dir, 25);
    program.ends_at_once(Signal::TERM, state);
}

#[test]
fn a_log_that_cannot_be_written_holds_up_nothing() {
    let (dir, invocation) = long_lines();
    let (reader, writer) = io::pipe().expect("a pipe");
    drop(reader);
    works_with_stderr(&dir, invocation.start_with_stderr(writer), "with a closed log");

    let (dir, invocation) = long_lines();
    let full = OpenOptions::new().write(true).open("/dev/full").expect("Linux has it");
    works_with_stderr(&dir, invocation.start_with_stderr(full), "with a log on a full disk");

    let (dir, invocation) = long_lines();
    let unwritable = File::open("/dev/null").expect("Linux has it");
    works_with_stderr(&dir, invocation.start_with_stderr(unwritable), "with a log that is not open for writing");
}

/// A log that is a named pipe keeps its lines while its reader is started again.
#[test]
fn a_reader_that_is_started_again_gets_the_lines_in_between() {
    let dir = folder(&on_file("app", ""));
    run(&["mkfifo", &dir.at("log").to_string_lossy()]);
    let open = || {
        let nonblocking = rustix::fs::OFlags::NONBLOCK.bits().cast_signed();
        OpenOptions::new().read(true).custom_flags(nonblocking).open(dir.at("log")).expect("it is a fifo")
    };
    let mut reader = open();
    let program = remco(&dir).under(&["sh", "-c", "exec \"$@\" 2>log", "sh"]).start();
    let mut log = Vec::new();
    read_until(&mut reader, "has been updated", &mut log);
    drop(reader);
    update(&dir, "app", "while it is not read");
    let mut reader = open();
    greet(&dir, "again");
    wait_until("all three updates are told", LIMIT, || {
        read(&mut reader, u64::MAX, &mut log);
        String::from_utf8_lossy(&log).matches("has been updated").count() == 3
    });
    whole_lines(&log);
    program.ends_at_once(Signal::TERM, "with a reader that was started again");
}

/// What is said before there is a log must not wait for ever either.
#[test]
fn messages_at_the_start_do_not_wait_for_their_reader() {
    let dir = TempDir::new();
    dir.write("broken.toml", "[[resource");
    for (args, code) in
        [(["--no-such-flag"].as_slice(), 2), (&["-config", "broken.toml"], 1), (&["-config", "none"], 1)]
    {
        let (_reader, writer) = full_pipe();
        let mut program = Invocation::bare(&dir, args).start_with_stderr(writer);
        assert_eq!(program.exit_code(), Some(code), "{args:?}");
    }
}
