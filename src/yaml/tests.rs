//! The trees of valid texts and the faults of invalid ones. Random bytes: parsing ends, with a tree of limited size and
//! depth.

use super::*;

const LIMIT: usize = 1 << 20;

/// A tree as JSON, with bare words for values that are not texts.
fn show(node: &Node) -> String {
    let text = |scalar: &Scalar| String::from_utf8_lossy(&scalar.print()).into_owned();
    let scalar = |scalar: &Scalar| match scalar {
        Scalar::Text(_) => format!("{:?}", text(scalar)),
        other => text(other),
    };
    let list = |parts: Vec<String>| parts.join(", ");
    match node {
        Node::Scalar(value) => scalar(value),
        Node::List(items) => format!("[{}]", list(items.iter().map(show).collect())),
        Node::Map(entries) => {
            let entry = |(key, value): &(Scalar, Node)| format!("{}: {}", scalar(key), show(value));
            format!("{{{}}}", list(entries.iter().map(entry).collect()))
        }
    }
}

#[track_caller]
fn check(text: &str, want: &str) {
    match read(text.as_bytes(), LIMIT) {
        Ok(node) => assert_eq!(show(&node), want, "{text}"),
        Err(fault) => panic!("{text}: {fault}"),
    }
}

#[track_caller]
fn fails(text: &str, want: &str) {
    match read(text.as_bytes(), LIMIT) {
        Ok(node) => panic!("{text}: {}", show(&node)),
        Err(fault) => assert_eq!(fault.to_string(), want, "{text}"),
    }
}

#[test]
fn blocks_and_brackets() {
    check("a: 1\nb:\n  - x\n  - z: 2\n", r#"{"a": 1, "b": ["x", {"z": 2}]}"#);
    check("- - 1\n  - 2\n- [3, [4]]\n- {a: b, c}\n", r#"[[1, 2], [3, [4]], {"a": "b", "c": <nil>}]"#);
    check("k:\n- v\n", r#"{"k": ["v"]}"#);
    check("? a\n: 1\n? b\n", r#"{"a": 1, "b": <nil>}"#);
    check("{\"a\":1,\"b\":[true,null]}", r#"{"a": 1, "b": [true, <nil>]}"#);
    check("{a:1, b: http://x/?q=1,2: 3}", r#"{"a:1": <nil>, "b": "http://x/?q=1", 2: 3}"#);
    check("{\n\t\"a\": [\n\t\t1\n\t]\n}", r#"{"a": [1]}"#);
    check("a: 1\r\nb: 2\r\n", r#"{"a": 1, "b": 2}"#);
}

#[test]
fn texts() {
    check("plain over\n  two lines", r#""plain over two lines""#);
    check("'it''s'", r#""it's""#);
    check(
        r#""a\tb\u00e9\x41\/\
           c""#,
        r#""a\tbéA/c""#,
    );
    check("|\n a\n  b\n", r#""a\n b\n""#);
    check("|-\n a\n\n", r#""a""#);
    check("|+\n a\n\n", r#""a\n\n""#);
    check(">\n some\n text\n\n more\n", r#""some text\nmore\n""#);
    check("|2\n   a\n", r#"" a\n""#);
    check("# only a comment", "<nil>");
    check("a # comment", r#""a""#);
    check("a#b", r#""a#b""#);
    check("'yes'", r#""yes""#);
    check("\"12\"", r#""12""#);
}

#[test]
fn a_block_at_the_end_has_no_more_line_breaks_than_the_text() {
    check("t: |\n  a\n  b", r#"{"t": "a\nb"}"#);
    check("t: |+\n  a", r#"{"t": "a"}"#);
    check("t: >\n  a\n  b", r#"{"t": "a b"}"#);
    check("t: |-\n  a", r#"{"t": "a"}"#);
    check("t: |\n  é\n  b\n", r#"{"t": "é\nb\n"}"#);
    check("t: |\n  a\nu: b", r#"{"t": "a\n", "u": "b"}"#);
    check("- |\n  a\n\n ", r#"["a\n"]"#);
    // Blanks beyond the indent are text.
    check("- |\n  a\n\n   ", r#"["a\n\n "]"#);
}

#[test]
fn brackets_ignore_columns() {
    check("a: [\n'b',\n\"c\"\n]\nd: {\n\"e\": 'f'\n}\n", r#"{"a": ["b", "c"], "d": {"e": "f"}}"#);
    check("k: &a x\nl: [1,\n*a\n]\n", r#"{"k": "x", "l": [1, "x"]}"#);
    check("l: [\na,\nb: c,\n]\n", r#"{"l": ["a", {"b": "c"}]}"#);
    check("k: 'a\nb\n\nc'\nl: \"d\\\ne\nf\"\n", r#"{"k": "a b\nc", "l": "de f"}"#);
    check("[!!str,!!str a,&x,*x]", r#"["", "a", <nil>, <nil>]"#);
    check("{a:,b: [c:], d:e}", r#"{"a:": <nil>, "b": ["c:"], "d:e": <nil>}"#);
}

#[test]
fn blanks_line_breaks_and_comments() {
    check("a:\tb\nc: \t d\t\n", r#"{"a": "b", "c": "d"}"#);
    // A nested list could follow.
    fails("-\ta", "1:2: found a character that cannot start any token");
    check("a: b\u{85}c: d\u{2028}e: f\u{2029}g: h", r#"{"a": "b", "c": "d", "e": "f", "g": "h"}"#);
    check("'a\u{85}b\u{2028} c\u{85}\u{85}d'", r#""a b\u{2028}c\nd""#);
    check("|\n a\u{85} b\u{2028} c", r#""a\nb\u{2028}c""#);
    check("a: 'b'#c\n#d\ne: [f #g\n,h]#i\n", r#"{"a": "b", "e": ["f", "h"]}"#);
    check("a: b #c\nd: e", r#"{"a": "b", "d": "e"}"#);
    fails("\t", "1:1: found a character that cannot start any token");
    fails("a:\n\t- b", "2:1: found a character that cannot start any token");
    fails(
        "t: |\n  x\n\t#c",
        "3:1: found a tab character where an indentation space is expected in a block scalar that begins at 1:4",
    );
}

#[test]
fn headers_tags_and_anchors() {
    check(">#c", r#""""#);
    check("|-#c\n a\n", r#""a""#);
    check("|+2 # c\n   a\n\n", r#"" a\n\n""#);
    check("!!!", r#""""#);
    check("%TAG !a! !x\n---\n!a!b%21 c", r#""c""#);
    check("%YAML 1.2\n---\na", r#""a""#);
    fails("%YAML 1.3\n---\na", "1:1: found incompatible YAML document");
    fails("%FOO\n---\na", "1:5: found an unknown name in a directive");
    fails("!a!b c", "1:1: found undefined tag handle `!a!`");
    fails("&amp;", "1:5: did not find expected alphabetic or numeric character in an anchor");
    fails("|x", "1:2: did not find expected comment or line break in a block scalar");
    fails("|0", "1:2: found an indentation indicator equal to 0 in a block scalar");
}

#[test]
fn an_anchor_stands_for_what_began_last() {
    check("[&a 1, [&a 2], *a]", "[1, [2], 2]");
    check("[&a [&a 1, *a], *a]", "[[1, 1], 1]");
    fails("[&a 1, &a [*a]]", "1:12: the alias is a part of what it stands for");
}

#[test]
fn utf_16_is_read_where_it_says_so() {
    let bytes = |order: fn(u16) -> [u8; 2], text: &str| text.encode_utf16().flat_map(order).collect::<Vec<u8>>();
    for order in [u16::to_le_bytes as fn(u16) -> [u8; 2], u16::to_be_bytes] {
        let node = read(&bytes(order, "\u{feff}a: é😀\n"), LIMIT).unwrap();
        assert_eq!(show(&node), r#"{"a": "é😀"}"#);
    }
    let fault = |bytes: &[u8]| read(bytes, LIMIT).unwrap_err().to_string();
    assert_eq!(fault(b"\xff\xfea\0\n\0b"), "2:1: not UTF-16");
    assert_eq!(fault(b"\xff\xfea\0\0\xd8"), "1:2: not UTF-16");
}

#[test]
fn json_that_means_something_else_in_yaml() {
    for text in ["-0", "[-0]", "{\"a\":-0}", "[1, -0 ]", "[\n-0\n]"] {
        assert!(!is_json_alike(text.as_bytes()), "{text}");
    }
    for text in ["", "0", "-", "-0.0", "-01", "[-1]", "\"2024-01-02\"", "1e-0", "\"a-0\""] {
        assert!(is_json_alike(text.as_bytes()), "{text}");
    }
}

#[test]
fn repeated_parts_overflow_no_stack_and_take_linear_time() {
    for part in [
        "[",
        "{",
        "]",
        "- ",
        "? ",
        "[\n",
        "{\n",
        "? \n",
        "-\n",
        "&a ",
        "!a ",
        "*a ",
        "a: ",
        "a:\n",
        "'",
        "\"",
        "|\n",
        "#",
        "%TAG !a! b\n",
        ",",
        ":",
        "a, ",
        "[a, ",
        "[]: ",
        "\u{feff}",
        "\n",
        "---\n",
        "\\",
        "''",
        "|\n  \n",
        "a\n",
        "[a]\n",
        "\t",
        " ",
        "- a: ",
        "!<",
        "é",
    ] {
        for before in ["", "[", "'", "\"", "a: |\n ", "a: "] {
            _ = read(format!("{before}{}", part.repeat(4_000)).as_bytes(), LIMIT);
        }
    }
    // As many different directives as fit.
    let directives: String = (0..4_000).map(|n| format!("%TAG !a{n}! x\n")).collect();
    assert!(read(format!("{directives}--- a").as_bytes(), LIMIT).is_ok());
    let anchors: String = (0..4_000).map(|n| format!("- &a{n} x\n- *a{n}\n")).collect();
    assert!(read(anchors.as_bytes(), 8 * LIMIT).is_ok());
}

#[test]
fn one_document_is_read() {
    check("", "<nil>");
    check("\n\n", "<nil>");
    check("---\n", "<nil>");
    check("%YAML 1.1\n---\na: 1\n...\n", r#"{"a": 1}"#);
    check("a: 1\n---\n{broken", r#"{"a": 1}"#);
    check("\u{feff}a: 1", r#"{"a": 1}"#);
    // A block ends at a text with a smaller indent. Text after brackets or quotes is a fault.
    check(">+\nNULL1.", r#""""#);
    check("|\n a\nb: c", r#""a\n""#);
    fails("[1] 2", "1:5: did not find expected <document start>");
    fails("{a: 1}\n{b: 2}\n", "2:1: did not find expected <document start>");
    fails("a\n#c\nb", "3:1: did not find expected <document start>");
    fails(" a: 1\nb: 2", "2:1: did not find expected <document start>");
}

#[test]
fn tags() {
    check(
        "[!!str 12, !!int '5', !!float 1, !!null '', ! 12, !mine 12, !!bool yes]",
        r#"["12", 5, 1, <nil>, "12", "12", true]"#,
    );
    check("!!map {a: !!seq [1]}", r#"{"a": [1]}"#);
    check("!!binary aGk=", r#""hi""#);
    check("%TAG !e! tag:yaml.org,2002:\n---\n!e!str 1", r#""1""#);
    fails("a: !!int b", "1:4: cannot read the value as a !!int");
}

#[test]
fn aliases() {
    check("[&a 1, *a, &a 2, *a]", "[1, 1, 2, 2]");
    check("base: &b {x: [1]}\ncopy: *b\n", r#"{"base": {"x": [1]}, "copy": {"x": [1]}}"#);
    check("{&k a: 1, b: *k}", r#"{"a": 1, "b": "a"}"#);
    check("[&k a, {*k : 1}]", r#"["a", {"a": 1}]"#);
    check("[&e , *e]", "[<nil>, <nil>]");
    fails("a: *b", "1:4: found no anchor `b` before the alias");
    fails("&a [1, *a]", "1:8: the alias is a part of what it stands for");
}

#[test]
fn merge_keys() {
    check("- &a {u: 1, v: 2}\n- {<<: *a, v: 3}\n", r#"[{"u": 1, "v": 2}, {"u": 1, "v": 2, "v": 3}]"#);
    check("{<<: [{a: 1}, {a: 2, b: 2}], c: 3}", r#"{"a": 2, "b": 2, "a": 1, "c": 3}"#);
    check("{a: 1, <<: {a: 2}}", r#"{"a": 1, "a": 2}"#);
    check("{!!merge <<: {a: 1}}", r#"{"a": 1}"#);
    check("{'<<': 1, \"<<\": 2, !!str <<: 3}", r#"{"<<": 1, "<<": 2, "<<": 3}"#);
    check("[<<]", r#"["<<"]"#);
    fails("<<: 1", "1:5: what is merged with `<<` must be a map or a list of maps");
    fails("<<: [{}, []]", "1:12: what is merged with `<<` must be a map or a list of maps");
}

#[test]
fn what_cannot_be_read_has_a_place() {
    fails("a: 1\n  b: 2", "2:4: mapping values are not allowed in this context");
    fails("a: [1,\nb: 2", "2:5: did not find expected ',' or ']' in a flow sequence that begins at 1:4");
    fails("{[1]: 2}", "1:4: a list cannot be a key");
    fails("? {a: 1}\n: 2", "1:8: a map cannot be a key");
    fails("é: \x07", "1:4: control characters must be escaped in double quotes");
    fails("a\0b", "1:2: control characters must be escaped in double quotes");
    let fault = read(b"a: 1\nb: \xc3\xa9\xff", LIMIT).unwrap_err();
    assert_eq!(fault.to_string(), "2:5: not UTF-8");
}

#[test]
fn nesting_has_an_end() {
    for (open, close) in [("[", "]"), ("{a: ", "}"), ("- ", ""), ("? ", "")] {
        let deep = |levels: usize| format!("{}x{}", open.repeat(levels), close.repeat(levels));
        let why = |levels| read(deep(levels).as_bytes(), LIMIT).err().map(|fault| fault.why);
        if open != "? " {
            assert_eq!(why(DEPTH), None, "{open}");
        }
        assert!(why(DEPTH + 1).is_some(), "{open}");
        assert!(why(100_000).is_some(), "{open}");
    }
    // Each line is within the nesting limit, but not all of them nested.
    let half = |inner: &str| format!("{}{inner}{}", "[".repeat(DEPTH / 2), "]".repeat(DEPTH / 2));
    let chain = format!("- &a {}\n- &b {}\n", half("x"), half("*a"));
    fails(&chain, &format!("2:{}: nested deeper than {DEPTH} levels", DEPTH / 2 + 6));
}

#[test]
fn the_size_has_an_end() {
    let next = |n: usize| format!("b{n}: &b{n} [{}]\n", format!("*b{},", n - 1).repeat(10));
    let laughs: String = (1..100).map(next).collect();
    let fault = read(format!("b0: &b0 lol\n{laughs}").as_bytes(), LIMIT).unwrap_err();
    assert_eq!((fault.line, &*fault.why), (5, "the document takes more than 1048576 bytes"));
    // The node of each anchor is kept once more.
    let anchors: String = (0..DEPTH).map(|n| format!("&a{n} [")).collect();
    let text = format!("{anchors}{}{}", "x".repeat(LIMIT / 100), "]".repeat(DEPTH));
    assert_eq!(read(text.as_bytes(), LIMIT).unwrap_err().why, "the document takes more than 1048576 bytes");
    assert!(read("- a\n".repeat(LIMIT / PLACE).as_bytes(), LIMIT).is_err());
    assert!(read(format!("a: {}", "b".repeat(LIMIT)).as_bytes(), LIMIT).is_err());
    assert!(read("- a\n".repeat(1000).as_bytes(), LIMIT).is_ok());
}

#[test]
fn floats_print_as_in_go() {
    let check = |number: f64, long: &str, short: &str| {
        assert_eq!((&*print_float(number), &*print_short_float(number)), (long, short));
    };
    check(0.0, "0", "0");
    check(-0.0, "-0", "-0");
    check(1.5, "1.5", "1.5");
    check(-25.0, "-25", "-25");
    check(100_000.0, "100000", "100000");
    check(1e6, "1e+06", "1e+06");
    check(1_234_567.5, "1.2345675e+06", "1.2345675e+06");
    check(0.0001, "0.0001", "0.0001");
    check(-0.00012, "-0.00012", "-0.00012");
    check(0.00001, "1e-05", "1e-05");
    check(1e21, "1e+21", "1e+21");
    check(1e100, "1e+100", "+Inf");
    check(std::f64::consts::PI, "3.141592653589793", "3.1415927");
    check(f64::INFINITY, "+Inf", "+Inf");
    check(f64::NEG_INFINITY, "-Inf", "-Inf");
    check(f64::NAN, "NaN", "NaN");
}

#[test]
fn random_texts_are_read_or_refused() {
    const PARTS: &[&str] = &[
        "a",
        "b: ",
        ": ",
        ":",
        "- ",
        "-",
        "\n",
        "\n  ",
        "\n ",
        " ",
        "\t",
        "? ",
        "?",
        "[",
        "]",
        "{",
        "}",
        ",",
        "|",
        "|+",
        "|2",
        ">",
        ">-",
        "'",
        "\"",
        "\\",
        "\\x41",
        "\\u00e9",
        "\\ud83d",
        " # c",
        "&a ",
        "*a",
        "<<: ",
        "!!str ",
        "!",
        "!<x>",
        "!!binary ",
        "%YAML 1.1\n",
        "%TAG ! x\n",
        "---",
        "...",
        "\r\n",
        "\u{85}",
        "\u{2028}",
        "é",
        "😀",
        "1",
        "\u{feff}",
        "0x1F",
        "yes",
        "~",
        "@",
        "`",
        "%",
        "key: value\n",
        "{a: 1}",
        "08",
        "1e999",
        "12:30",
        "2024-01-02",
    ];
    fn depth(node: &Node) -> usize {
        match node {
            Node::Scalar(_) => 0,
            Node::List(items) => 1 + items.iter().map(depth).max().unwrap_or(0),
            Node::Map(entries) => 1 + entries.iter().map(|(_, node)| depth(node)).max().unwrap_or(0),
        }
    }
    let mut random = crate::random::Random::new(7);
    let (mut good, mut bad) = (0, 0);
    for round in 0..20_000 {
        let mut text = Vec::new();
        for _ in 0..random.below(12) {
            text.extend_from_slice(PARTS[random.below(PARTS.len())].as_bytes());
        }
        if round % 4 == 0 && !text.is_empty() {
            let at = random.below(text.len());
            text[at] = random.below(256) as u8;
        }
        match read(&text, 4096) {
            Ok(node) => {
                assert!(depth(&node) <= DEPTH);
                good += 1;
            }
            Err(fault) => {
                assert!(fault.line > 0 && fault.column > 0 && !fault.why.is_empty(), "{text:?}: {fault}");
                bad += 1;
            }
        }
    }
    assert!(good > 4_000 && bad > 4_000, "{good} good, {bad} bad");
}
