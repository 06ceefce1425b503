//! The bytes of ZooKeeper: requests as frames, answers whole and in pieces, and hostile ones. Has no session.
//! The tests of `protocol` have one.

use super::*;

fn frames(bytes: &[u8], size: usize, limit: usize) -> Result<Vec<Vec<u8>>, Unreadable> {
    let mut frames = Frames::new(limit);
    let mut found = Vec::new();
    for piece in bytes.chunks(size) {
        frames.push(piece);
        while let Some(frame) = frames.next_frame()? {
            found.push(frame.to_vec());
        }
    }
    Ok(found)
}

#[test]
fn frames_come_in_pieces_of_any_size() {
    let bytes = b"\0\0\0\x03abc\0\0\0\0\0\0\0\x01d\0\0";
    for size in 1..=bytes.len() {
        assert_eq!(frames(bytes, size, 3), Ok(vec![b"abc".to_vec(), b"".to_vec(), b"d".to_vec()]), "{size}");
    }
    assert_eq!(frames(bytes, 5, 2), Err(Unreadable::TooLong(3, 2)), "before its bytes have come");
    assert_eq!(frames(b"\xff\xff\xff\xff", 4, 9), Err(Unreadable::Nonsense("a frame of negative length")));
}

#[test]
fn the_first_frame_shows_another_kind_of_server() {
    let first = |bytes: &[u8]| {
        let mut frames = Frames::new(LONGEST_SESSION);
        frames.push(bytes);
        frames.session_frame(3).map(|frame| frame.map(<[u8]>::to_vec)).map_err(|error| error.to_string())
    };
    let foreign = |begin: &str| Err(format!("the server is no ZooKeeper: its answer begins with `{begin}`"));
    assert_eq!(first(b"INFO {\"server_id\":1}"), foreign(r#"INFO {\"server_id\":1}"#));
    assert_eq!(first(&b"HTTP".repeat(99)), foreign(&"HTTP".repeat(10)));
    assert_eq!(first(b"-ERR unknown"), foreign("-ERR unknown"));
    assert_eq!(first(b"\xff\xff\xff\xfe"), foreign(r"\xff\xff\xff\xfe"));
    let tls = "the server speaks TLS: write zookeepers:// in front of the address".to_owned();
    assert_eq!(first(b"\x15\x03\x03\0\x02"), Err(tls));
    assert_eq!(first(b"\0\0\x04\x15"), Ok(None), "the longest password");
    assert_eq!(first(b"\0\0\0\x04abcd"), Ok(Some(b"abcd".to_vec())));
    let mut frames = Frames::new(LONGEST_SESSION);
    frames.push(b"\0\0\0\x01a\0\0\0\x04");
    assert_eq!(frames.session_frame(3), Ok(Some(&b"a"[..])));
    assert_eq!(frames.next_frame(), Err(Unreadable::TooLong(4, 3)), "the limit of those that follow");
}

#[test]
fn requests_are_frames() {
    let check = |frame: Vec<u8>, want: &[u8]| assert_eq!(frame, want, "{}", frame.escape_ascii());
    let path = b"/a";
    check(request(7, Request::Data { path, watch: true }), b"\0\0\0\x0f\0\0\0\x07\0\0\0\x04\0\0\0\x02/a\x01");
    check(request(8, Request::Children { path, watch: false }), b"\0\0\0\x0f\0\0\0\x08\0\0\0\x0c\0\0\0\x02/a\0");
    check(request(9, Request::Creation { path }), b"\0\0\0\x0f\0\0\0\x09\0\0\0\x03\0\0\0\x02/a\x01");
    check(request(1, Request::Sync { path }), b"\0\0\0\x0e\0\0\0\x01\0\0\0\x09\0\0\0\x02/a");
    check(request(2, Request::AddWatch { path }), b"\0\0\0\x12\0\0\0\x02\0\0\0\x6a\0\0\0\x02/a\0\0\0\x01");
    check(request(3, Request::Close), b"\0\0\0\x08\0\0\0\x03\xff\xff\xff\xf5");
    check(ping(), b"\0\0\0\x08\xff\xff\xff\xfe\0\0\0\x0b");
    check(authenticate("u", "p"), b"\0\0\0\x1d\xff\xff\xff\xfc\0\0\0\x64\0\0\0\0\0\0\0\x06digest\0\0\0\x03u:p");
    let session = SessionId { id: 5, password: b"pw".to_vec() };
    check(
        connect(Duration::from_secs(10), &session),
        b"\0\0\0\x1f\0\0\0\0\0\0\0\0\0\0\0\0\0\0\x27\x10\0\0\0\0\0\0\0\x05\0\0\0\x02pw\0",
    );
    assert_eq!(connect(Duration::from_secs(10), &SessionId::default()).len(), 4 + 29 + 16);
    assert_eq!(connect(Duration::MAX, &session)[16..20], [0x7f, 0xff, 0xff, 0xff]);
}

#[test]
fn sessions_and_messages_are_read() {
    let session = b"\0\0\0\0\0\0\x0f\xa0\0\0\0\0\0\0\0\x05\0\0\0\x02pw";
    let want = (SessionId { id: 5, password: b"pw".to_vec() }, Duration::from_secs(4));
    assert_eq!(read_session(session), Ok(Some(want.clone())));
    assert_eq!(read_session(&[&session[..], b"\0"].concat()), Ok(Some(want)), "a server that knows of read-only ones");
    assert_eq!(read_session(&[0; 20]), Ok(None));
    for length in 0..session.len() {
        assert_eq!(read_session(&session[..length]), Err(Reader::SHORT));
    }
    let event = b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\0\0\0\0\0\0\0\x03\0\0\0\x03\0\0\0\x02/a";
    let path = Rc::from(&b"/a"[..]);
    assert_eq!(read(event), Ok(Message::Event { kind: EventKind::Changed, path }));
    (0..event.len()).for_each(|length| assert_eq!(read(&event[..length]), Err(Reader::SHORT)));
    let reply =
        |number: i32, code: i32, body: &[u8]| [&number.to_be_bytes()[..], &[0; 8], &code.to_be_bytes(), body].concat();
    assert_eq!(transaction(event), None, "an event has none");
    assert_eq!(transaction(b"\0\0\0\x04\0\0\0\x02\0\0\0\x07\0\0\0\0"), Some((2 << 32) | 7));
    assert_eq!(transaction(b"\0\0\0\x04\0\0\0\x02\0\0\0"), None);
    assert_eq!(read(&reply(4, 0, b"xy")), Ok(Message::Reply { number: 4, outcome: Ok(b"xy") }));
    assert_eq!(read(&reply(4, -101, b"")), Ok(Message::Reply { number: 4, outcome: Err(Code::NO_NODE) }));
    assert_eq!(read(&reply(PING, 0, b"")), Ok(Message::Pong));
    assert_eq!(read(&reply(AUTHENTICATION, -115, b"")), Ok(Message::Authenticated(Err(Code::AUTH_FAILED))));
}

#[test]
fn values_and_children_are_read() {
    let mut stat = [0; STAT];
    stat[CHILDREN_IN_STAT + 3] = 2;
    let value = [&b"\0\0\0\x03\xff\n\0"[..], &stat].concat();
    assert_eq!(read_data(&value), Ok((&b"\xff\n\0"[..], 2)));
    (0..value.len()).for_each(|length| assert_eq!(read_data(&value[..length]), Err(Reader::SHORT)));
    assert_eq!(read_data(&[&[0xff; 4][..], &stat].concat()), Ok((&b""[..], 2)), "a node without a value");
    assert_eq!(read_data(&[&[0x80, 0, 0, 0][..], &stat].concat()), Err(Unreadable::Nonsense("a negative length")));

    let names = |body: &[u8]| read_children(body).and_then(|names| names.map(|n| n.map(<[u8]>::to_vec)).collect());
    let two = b"\0\0\0\x02\0\0\0\x01b\0\0\0\x03a c".as_slice();
    assert_eq!(names(two), Ok(vec![b"b".to_vec(), b"a c".to_vec()]));
    assert_eq!(names(b"\xff\xff\xff\xff"), Ok(vec![]));
    // A count that promises what is not there takes no memory.
    assert_eq!(names(b"\x7f\xff\xff\xff\0\0\0\x01b"), Err(Reader::SHORT));
    for bad in [&b"a/b"[..], b"", b".", b".."] {
        let length = u8::try_from(bad.len()).unwrap();
        assert!(names(&[b"\0\0\0\x01\0\0\0", &[length][..], bad].concat()).is_err(), "{}", bad.escape_ascii());
    }
    let mut begun = read_children(two).unwrap();
    begun.next();
    let (left, bytes) = begun.rest();
    assert_eq!(Names::resume(left, bytes).collect::<Vec<_>>(), [Ok(&b"a c"[..])]);
}
