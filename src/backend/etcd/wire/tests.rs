//! The bytes of version 3: requests as texts, answers whole and in pieces, and hostile ones.
//! Opens no connection.

use super::*;

const FIELD: &str = "a field is missing or wrong at column ";

fn bytes(text: &[u8]) -> Bytes {
    Rc::from(text)
}

fn entry(key: &[u8], value: &[u8], mod_revision: u64) -> Entry {
    Entry { key: bytes(key), value: bytes(value), mod_revision }
}

#[test]
fn prefixes_as_spans() {
    let check = |prefix: &[u8], from: &[u8], end: &[u8]| {
        assert_eq!(Span::of_prefix(prefix), Span { from: from.to_vec(), end: end.to_vec() });
    };
    check(b"/app", b"/app", b"/apq");
    check(b"/", b"/", b"0");
    check(b"", b"\0", b"\0");
    check(b"a\xff", b"a\xff", b"b");
    check(b"a\xfe\xff\xff", b"a\xfe\xff\xff", b"a\xff");
    check(b"\xff\xff", b"\xff\xff", b"\0");
    check(b"\0", b"\0", b"\x01");
}

#[test]
fn a_span_holds_what_begins_with_its_prefix_and_nothing_else() {
    let texts: &[&[u8]] =
        &[b"", b"\0", b"/", b"/a", b"/a\xff", b"/a\xffb", b"/b", b"0", b"a", b"\xfe", b"\xff", b"\xff\0", b"\xff\xff"];
    for prefix in texts {
        for key in texts.iter().filter(|key| !key.is_empty()) {
            assert_eq!(Span::of_prefix(prefix).holds(key), key.starts_with(prefix), "{prefix:?} {key:?}");
        }
    }
    let rest = Span::of_prefix(b"/a").after(b"/a/x");
    assert!(!rest.holds(b"/a/x") && rest.holds(b"/a/x\0") && rest.holds(b"/a/y") && !rest.holds(b"/b"));
}

#[test]
fn request_bodies() {
    let span = Span::of_prefix(b"/a");
    assert_eq!(range(&span, 10, None), r#"{"key":"L2E=","range_end":"L2I=","limit":"10","revision":"0"}"#);
    assert_eq!(range(&span, 10, Some(7)), r#"{"key":"L2E=","range_end":"L2I=","limit":"10","revision":"7"}"#);
    assert_eq!(newest_revision(&span), r#"{"key":"L2E=","range_end":"","limit":"1","keys_only":true}"#);
    assert_eq!(permission(&span), r#"{"key":"L2E=","range_end":"L2I=","limit":"1","keys_only":true}"#);
    let all = Span::of_prefix(b"");
    assert_eq!(
        watch([(&span, 8), (&all, 1), (&all, 0)].into_iter()),
        concat!(
            r#"{"create_request":{"key":"L2E=","range_end":"L2I=","start_revision":"7","watch_id":"1","progress_notify":true,"fragment":true}}"#,
            r#"{"create_request":{"key":"AA==","range_end":"AA==","start_revision":"1","watch_id":"2","progress_notify":true,"fragment":true}}"#,
            r#"{"create_request":{"key":"AA==","range_end":"AA==","start_revision":"0","watch_id":"3","progress_notify":true,"fragment":true}}"#,
        )
    );
}

/// Reads a page as a whole and in pieces of every small size.
fn page(text: &str) -> Result<(Page, Vec<Entry>), String> {
    let read = |size| {
        let (mut reader, mut entries) = (PageReader::default(), Vec::new());
        let mut take = |entry| {
            entries.push(entry);
            Ok(())
        };
        let pushed = text.as_bytes().chunks(size).try_for_each(|piece| reader.push(piece, &mut take));
        pushed.and_then(|()| reader.end()).map(|page| (page, entries)).map_err(|e| e.of("etcd"))
    };
    let whole = read(usize::MAX);
    for size in 1..5 {
        assert_eq!(read(size), whole, "in pieces of {size}");
    }
    whole
}

#[test]
fn pages() {
    let check = |text: &str, want: Page, entries: &[Entry]| {
        let (got, got_entries) = page(text).unwrap();
        assert_eq!(got, want, "{text}");
        assert_eq!(got_entries, entries, "{text}");
    };
    let header = Header { cluster_id: 14841639068965178418, revision: 12 };
    let start = r#"{"header":{"cluster_id":"14841639068965178418","member_id":"1","revision":"12","raft_term":"2"}"#;
    check(&format!("{start}}}"), Page { header, ..Page::default() }, &[]);
    check(
        &format!(
            r#"{start},"kvs":[{{"key":"L2EveA==","create_revision":"2","mod_revision":"3","version":"1","value":"MQ=="}},
                {{"key":"L2EveQ==","mod_revision":"4","lease":"7"}}],"more":true,"count":"9"}}"#
        ),
        Page { header, more: true, last: Some(bytes(b"/a/y")) },
        &[entry(b"/a/x", b"1", 3), entry(b"/a/y", b"", 4)],
    );
    // Another order, integers as numbers, and unknown fields of later versions.
    check(
        r#" {"more":false, "new":{"a":[1,{"b":null}]}, "kvs":[{"value":"/w==", "mod_revision":5, "key":"AP8=", "x":1}],
            "header":{"revision":6}} "#,
        Page { header: Header { cluster_id: 0, revision: 6 }, more: false, last: Some(bytes(b"\0\xff")) },
        &[entry(b"\0\xff", b"\xff", 5)],
    );
    check("{}", Page::default(), &[]);
    check(r#"{"kvs":[]}"#, Page::default(), &[]);
}

#[test]
fn what_is_no_page_is_an_error() {
    let check = |text: &str, want: &str| {
        let error = page(text).unwrap_err();
        assert!(error.starts_with(&format!("not an answer of etcd: {want}")), "{text}: {error}");
    };
    check("", "EOF while parsing a value at line 1 column 0");
    check("<html>", "no JSON from byte 1 on");
    check(r#"{"kvs":[{"key":"L2E"#, FIELD);
    check(r#"{"kvs":[{"key":"L2E="}"#, "EOF while parsing a list at line 1 column 9");
    check(r#"{} {}"#, "no JSON from byte 4 on");
    check("[]", FIELD);
    check(r#"{"kvs":[{}]}"#, FIELD);
    check(r#"{"kvs":[{"key":"L2E"}]}"#, FIELD);
    check(r#"{"kvs":[{"key":"L2E=","mod_revision":"-1"}]}"#, FIELD);
    check(r#"{"header":{"revision":-1}}"#, FIELD);
    check(r#"{"header":{"revision":"99999999999999999999"}}"#, FIELD);
    check(r#"{"more":"yes"}"#, FIELD);
}

#[test]
fn base64_decodes_exactly() {
    let decode = |text: &str| base64(serde_json::Value::from(text)).ok();
    for length in 0..70 {
        let data: Vec<u8> = (0..length).map(|n| (n * 37 % 256) as u8).collect();
        assert_eq!(decode(&BASE64_STANDARD.encode(&data)).as_deref(), Some(&data[..]));
    }
    for wrong in
        ["=", "==", "====", "A", "AA", "AAA", "AA=", "A===", "AAAA=", "AA==AA==", "ÄÄ==", "AA__", "AAA\n", "AB=="]
    {
        assert_eq!(decode(wrong), None, "{wrong:?}");
    }
}

#[test]
fn messages() {
    let check = |line: &str, want: Message| {
        assert_eq!(read_message(line.as_bytes(), &Redactor::default()).unwrap(), want, "{line}")
    };
    let error = |reason, words: &str| Message::Error(Refusal { reason, words: words.into() });
    let header = Header { cluster_id: 9, revision: 5 };
    let start = r#"{"result":{"header":{"cluster_id":"9","member_id":"3","revision":"5","raft_term":"2"}"#;
    check(
        &format!(r#"{start},"watch_id":"1","created":true}}}}"#),
        Message::Watch(WatchAnswer { header, watch_id: 1, created: true, ..WatchAnswer::default() }),
    );
    check(
        &format!(r#"{start},"watch_id":"-1","created":true,"canceled":true,"cancel_reason":"permission denied"}}}}"#),
        Message::Watch(WatchAnswer {
            header,
            watch_id: -1,
            created: true,
            canceled: true,
            cancel_reason: "permission denied".into(),
            ..WatchAnswer::default()
        }),
    );
    check(
        r#"{"result":{"header":{"cluster_id":"9"},"watch_id":"7","canceled":true,"compact_revision":"3081"}}"#,
        Message::Watch(WatchAnswer {
            header: Header { cluster_id: 9, revision: 0 },
            watch_id: 7,
            canceled: true,
            compact_revision: 3081,
            ..WatchAnswer::default()
        }),
    );
    check(
        &format!(
            r#"{start},"watch_id":"2","events":[{{"kv":{{"key":"L2E=","create_revision":"5","mod_revision":"5","version":"1","value":"MQ=="}}}},
                {{"type":"DELETE","kv":{{"key":"L2I=","mod_revision":"6"}}}},{{"type":"PUT","kv":{{"key":"L2M="}},"prev_kv":null}}]}}}}"#
        ),
        Message::Watch(WatchAnswer {
            header,
            watch_id: 2,
            events: vec![
                Event { kind: EventKind::Put, entry: entry(b"/a", b"1", 5) },
                Event { kind: EventKind::Delete, entry: entry(b"/b", b"", 6) },
                Event { kind: EventKind::Put, entry: entry(b"/c", b"", 0) },
            ],
            ..WatchAnswer::default()
        }),
    );
    check(
        r#"{"error":{"grpc_code":14,"http_code":503,"message":"etcdserver: no leader","http_status":"Service Unavailable"}}"#,
        error(Reason::Other, "etcdserver: no leader"),
    );
    check(
        r#"{"error":{"grpc_code":16,"http_code":401,"message":"etcdserver: invalid auth token"}}"#,
        error(Reason::Unauthenticated, "etcdserver: invalid auth token"),
    );
    check(r#"{"error":"gone"}"#, error(Reason::Other, "gone"));
    check(r#"{"error":{}}"#, error(Reason::Other, "no reason given"));
    check(r#"{"result":{}}"#, Message::Watch(WatchAnswer::default()));
}

#[test]
fn what_is_no_message_is_an_error() {
    let check = |line: &[u8], want: &str| {
        let error = read_message(line, &Redactor::default()).unwrap_err().of("etcd");
        assert!(error.starts_with(&format!("not an answer of etcd: {want}")), "{}: {error}", line.escape_ascii());
    };
    check(b"", "EOF while parsing a value at line 1 column 0");
    check(b"{}", "neither result nor error");
    check(b"\xff", "expected value at line 1 column 1");
    check(b"{\"error\":\"\xff\"}", "invalid unicode code point at line 1 column 11");
    check(br#"{"result":{"watch_id":"x"}}"#, FIELD);
    check(br#"{"result":{"events":[{"type":"PUT"}]}}"#, FIELD);
    check(br#"{"result":{"events":[{"type":"DROP","kv":{"key":"AA=="}}]}}"#, FIELD);
    check(br#"{"result":{"events":[{"kv":{"key":"secret"}}]}}"#, FIELD);
}

fn page_of(text: &[u8]) -> Result<Page, Unreadable> {
    let mut reader = PageReader::default();
    reader.push(text, &mut |_| Ok(()))?;
    reader.end()
}

#[test]
fn nothing_a_server_can_send_makes_it_panic() {
    let lines: [&[u8]; 3] = [
            br#"{"result":{"header":{"cluster_id":"9","revision":"5"},"watch_id":"-1","created":true,"events":[{"type":"PUT","kv":{"key":"L2E=","mod_revision":"5","value":"MQ=="}}]}}"#,
            br#"{"header":{"cluster_id":"9","revision":"5"},"kvs":[{"key":"L2E=","mod_revision":"5","value":"MQ=="}],"more":true}"#,
            br#"{"error":{"grpc_code":14,"message":"etcdserver: no leader"},"code":11}"#,
        ];
    let mut seed: u64 = 1;
    let mut below = |bound: usize| {
        seed = seed.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (seed >> 33) as usize % bound
    };
    let mut understood = 0;
    for _ in 0..30_000 {
        let mut line = lines[below(3)].to_vec();
        for _ in 0..=below(3) {
            let at = below(line.len());
            match below(3) {
                0 => line[at] = br#"{}[]",:-0e\=x"#[below(13)],
                1 if line.len() > 1 => drop(line.remove(at)),
                _ => line.truncate(at.max(1)),
            }
        }
        let read = read_message(&line, &Redactor::default()).is_ok() | page_of(&line).is_ok();
        refusal(400, RANGE, &line, &Redactor::default());
        understood += usize::from(read);
    }
    assert!((100..29_000).contains(&understood), "{understood}");
    for field in ["new", "error", "result", "kvs", "header"] {
        let deep = format!(r#"{{"{field}":{}"#, "[".repeat(100_000));
        assert!(page_of(deep.as_bytes()).is_err(), "{field}");
        assert!(read_message(deep.as_bytes(), &Redactor::default()).is_err(), "{field}");
        refusal(400, RANGE, deep.as_bytes(), &Redactor::default());
    }
}

#[test]
fn refusals() {
    let check = |status, body: &str, reason, words: &str| {
        let want = Refusal { reason, words: words.into() };
        assert_eq!(refusal(status, RANGE, body.as_bytes(), &Redactor::default()), want, "{body}");
    };
    check(
        400,
        r#"{"error":"etcdserver: mvcc: required revision has been compacted","message":"etcdserver: mvcc: required revision has been compacted","code":11}"#,
        Reason::RevisionGone,
        "HTTP 400: etcdserver: mvcc: required revision has been compacted",
    );
    let plain = "Client sent an HTTP request to an HTTPS server.\n";
    let hint = "HTTP 400: the server speaks TLS: write https:// instead of http://";
    check(400, plain, Reason::Other, hint);
    check(503, r#"{"error":"etcdserver: no leader","code":14}"#, Reason::Other, "HTTP 503: etcdserver: no leader");
    check(
        403,
        r#"{"error":"etcdserver: permission denied","message":"etcdserver: permission denied","code":7}"#,
        Reason::Denied,
        "HTTP 403: etcdserver: permission denied",
    );
    check(
        404,
        "404 page not found\n",
        Reason::UnknownPath,
        "HTTP 404: `/v3/kv/range` is not known here: an etcd before 3.4 needs `version = 2`",
    );
    check(404, r#"{"message":"Not Found","code":5}"#, Reason::Other, "HTTP 404: Not Found");
    check(
        401,
        r#"{"message":"etcdserver: invalid auth token","code":16}"#,
        Reason::Unauthenticated,
        "HTTP 401: etcdserver: invalid auth token",
    );
    check(
        400,
        r#"{"message":"etcdserver: user name is empty","code":3}"#,
        Reason::Unauthenticated,
        "HTTP 400: etcdserver: user name is empty",
    );
    check(
        412,
        r#"{"message":"etcdserver: authentication is not enabled","code":9}"#,
        Reason::NoUsers,
        "HTTP 412: etcdserver: authentication is not enabled",
    );
    check(
        400,
        "CommonName of client sending a request against gateway will be ignored and not used as expected\n",
        Reason::Other,
        "HTTP 400: with users, etcd takes no client certificate that has a common name (CN)",
    );
    check(307, "", Reason::Other, "HTTP 307: redirects are not followed");
    check(500, "<html>secret</html>", Reason::Other, "HTTP 500");
    check(400, r#"{"message":"two\nlines\u0007"}"#, Reason::Other, "HTTP 400: two lines ");
    check(
        400,
        &format!(r#"{{"message":"{}"}}"#, "ä".repeat(500)),
        Reason::Other,
        &format!("HTTP 400: {}", "ä".repeat(200)),
    );
}

/// A gateway may quote its request in any encoding.
#[test]
fn what_a_server_quotes_shows_no_secret() {
    let mut secrets = Redactor::default();
    secrets.hide("password", "p\"ss\\word");
    secrets.hide("token", "k3y.27");
    let quoted = serde_json::Value::from(login("me", "p\"ss\\word")).to_string();
    let body = |text: &str| format!(r#"{{"message":{text}}}"#);
    let words = |text: &str| refusal(400, RANGE, body(text).as_bytes(), &secrets).words;
    assert_eq!(words(&quoted), r#"HTTP 400: {"name":"me","password":"<password>"}"#);
    let padded = |length: usize| format!("\"{} k3y.27\"", "x".repeat(length));
    for length in SHOWN - 8..SHOWN {
        assert!(!words(&padded(length)).contains("k3y"), "{length}");
    }
    let message = read_message(br#"{"error":{"message":"Authorization: k3y.27"}}"#, &secrets).unwrap();
    assert!(matches!(&message, Message::Error(refusal) if refusal.words == "Authorization: <token>"), "{message:?}");
    let line = br#"{"result":{"canceled":true,"cancel_reason":"bad k3y.27"}}"#;
    let message = read_message(line, &secrets).unwrap();
    assert!(matches!(&message, Message::Watch(answer) if answer.cancel_reason == "bad <token>"), "{message:?}");
}

#[test]
fn a_reader_that_takes_no_more_returns_the_reason() {
    let mut room = 2;
    let text = r#"{"kvs":[{"key":"YQ=="},{"key":"Yg=="},{"key":"Yw=="},"#;
    let error = PageReader::default().push(text.as_bytes(), &mut |_| {
        room -= 1;
        if room < 0 { Err("more than 2 keys".into()) } else { Ok(()) }
    });
    assert!(matches!(&error, Err(Unreadable::TooMany(words)) if words == "more than 2 keys"), "{error:?}");
}

#[test]
fn the_events_of_a_line_have_an_end() {
    let event = r#"{"kv":{"key":"YQ=="}}"#;
    let line = |count: usize| format!(r#"{{"result":{{"events":[{}{event}]}}}}"#, format!("{event},").repeat(count));
    assert!(read_message(line(MOST_EVENTS - 1).as_bytes(), &Redactor::default()).is_ok());
    let error = read_message(line(MOST_EVENTS).as_bytes(), &Redactor::default()).unwrap_err();
    assert!(error.of("etcd").starts_with("not an answer of etcd"), "{error:?}");
}

#[test]
fn cancelled_watches() {
    let check = |text: &str, reason, words: &str| {
        assert_eq!((Reason::of_cancelled(text), &*server_text(text)), (reason, words), "{text}");
    };
    check(
        "rpc error: code = PermissionDenied desc = etcdserver: permission denied",
        Reason::Denied,
        "etcdserver: permission denied",
    );
    check("etcdserver: permission denied", Reason::Denied, "etcdserver: permission denied");
    check(
        "rpc error: code = Unauthenticated desc = etcdserver: invalid auth token",
        Reason::Unauthenticated,
        "etcdserver: invalid auth token",
    );
    check(
        "rpc error: code = InvalidArgument desc = etcdserver: user name is empty",
        Reason::Unauthenticated,
        "etcdserver: user name is empty",
    );
    check("", Reason::Other, "no reason given");
    check("mvcc: watcher duplicate ID", Reason::Other, "mvcc: watcher duplicate ID");
}

#[test]
fn logins() {
    assert_eq!(login("me", "a\"b\\"), r#"{"name":"me","password":"a\"b\\"}"#);
    let token = |answer: &str| read_token(answer.as_bytes()).map_err(|error| error.of("etcd"));
    assert_eq!(token(r#"{"header":{},"token":"abc.27"}"#).as_deref(), Ok("abc.27"));
    for wrong in ["{}", "", r#"{"token":""}"#, r#"{"token":"a b"}"#, r#"{"token":"a\r\nX: y"}"#, r#"{"token":1}"#] {
        assert!(token(wrong).unwrap_err().starts_with("not an answer of etcd: "), "{wrong}");
    }
}
