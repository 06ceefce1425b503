//! Values of documents, and documents of values. Random values must survive both conversions.
//! Does not test the filters that call them.

use super::*;
use crate::template::fixture::{small, usual};
use crate::template::value::collections::Collections;
use crate::template::value::json::Style as Json;

fn read(text: &str) -> Result<Value, String> {
    parse(&usual(), text.as_bytes())
}

/// A document and its values as JSON.
#[track_caller]
fn check(text: &str, want: &str) {
    let value = read(text).unwrap_or_else(|error| panic!("{text}: {error}"));
    let written = json::write(&usual(), &value, Json::Compact).unwrap();
    assert_eq!(String::from_utf8_lossy(&written.text()), want, "{text}");
}

fn written(value: &Value, indent: i64) -> String {
    let text = write(&usual(), value, indent).unwrap();
    String::from_utf8(text.text().to_vec()).unwrap()
}

/// The value of a document, written with an indent.
#[track_caller]
fn check_written(text: &str, indent: i64, want: &str) {
    assert_eq!(written(&read(text).unwrap(), indent), want, "{text}");
}

#[test]
fn documents() {
    check(
        "a: yes\nb: 010\nc: 0x1F\nd: ~\ne: [1.0, 1_000, .5]\n",
        r#"{"a":true,"b":8,"c":31,"d":null,"e":[1,1000,0.5]}"#,
    );
    check("2024-01-02", r#""2024-01-02""#);
    check("{a: 1, a: 2}", r#"{"a":2}"#);
    check("{a: 1, <<: {a: 2}, b: 3}", r#"{"a":2,"b":3}"#);
    check("", "null");
    check(" \n", "null");
    check("# a comment", "null");
    assert!(read("\t").is_err());
    check("-0", "0");
    check("[-0,-0.0,\"-0\", {\"-0\": -0}]", r#"[0,-0,"-0",{"-0":0}]"#);
    check("\"[1,2]\"", "\"[1,2]\"");
    check("{\"a\": \"\\ud83d\\ude00\", \"b\": 12345678901}", r#"{"a":"😀","b":12345678901}"#);
    assert!(matches!(read("8080"), Ok(Value::Float(8080.0))));
    assert!(matches!(read("18446744073709551615"), Ok(Value::Float(18446744073709551615.0))));
    assert!(matches!(read("+1"), Ok(Value::Float(1.0))));
}

#[test]
fn keys_are_texts() {
    check("{1: a, true: b, 1.5: c, 1e21: d, no: e}", r#"{"1":"a","1.5":"c","1e+21":"d","false":"e","true":"b"}"#);
    check(
        "{3.14159265358979: a, .inf: b, -.inf: c, .nan: d}",
        r#"{"-.inf":"c",".inf":"b",".nan":"d","3.1415927":"a"}"#,
    );
    assert_eq!(read("~: 1").unwrap_err(), "null cannot be a key");
    assert_eq!(read("18446744073709551615: 1").unwrap_err(), "18446744073709551615 is too large for a key");
}

#[test]
fn what_is_no_document() {
    assert_eq!(
        read("{\"a\": [1, 2}").unwrap_err(),
        "cannot parse line 1 column 12: did not find expected ',' or ']' in a flow sequence"
    );
    assert_eq!(read("[.inf]").unwrap_err(), "cannot hold an infinity, nor what is not a number");
    assert!(read(&"[".repeat(100_000)).is_err());
    let limits = small(1000);
    assert!(parse(&limits, b"[a, b]").is_ok());
    assert!(parse(&limits, format!("[{}]", "a, ".repeat(100)).as_bytes()).is_err());
}

#[test]
fn scalars() {
    check_written("~", 4, "null\n");
    check_written("true", 4, "true\n");
    check_written("1e21", 4, "1e+21\n");
    check_written("1000000", 4, "1e+06\n");
    check_written("-0.5", 4, "-0.5\n");
    check_written("''", 4, "\"\"\n");
    check_written("a", 4, "a\n");
    check_written("[]", 4, "[]\n");
    check_written("{}", 4, "{}\n");
    assert_eq!(written(&Value::integer(5), 4), "5\n");
    assert_eq!(written(&Value::Float(f64::NEG_INFINITY), 4), "-.inf\n");
    assert_eq!(written(&Value::Float(f64::NAN), 4), ".nan\n");
    assert_eq!(written(&Value::list(ListKind::NilStrings, vec![]), 4), "[]\n");
    assert_eq!(written(&Value::pair(b"/k"[..].into(), b"5"[..].into()), 4), "key: /k\nvalue: \"5\"\n");
}

#[test]
fn layout() {
    let text = "{a: [1, [2, {b: 3, c: 4}]], d: {e: {f: []}}, g: [{}]}";
    let four = "a:\n    - 1\n    - - 2\n      - b: 3\n        c: 4\nd:\n    e:\n        f: []\ng:\n    - {}\n";
    check_written(text, 4, four);
    check_written(text, 0, four);
    let two = "a:\n  - 1\n  - - 2\n    - b: 3\n      c: 4\nd:\n  e:\n    f: []\ng:\n  - {}\n";
    check_written(text, 2, two);
    check_written(text, 1, two);
    check_written(text, 10, two);
    check_written("[{a: {b: [1]}}]", 3, "- a:\n   b:\n      - 1\n");
    check_written("[{a: {b: [1]}}]", 9, "- a:\n         b:\n                  - 1\n");
    assert_eq!(write(&usual(), &Value::Nil, -1).unwrap_err(), "cannot indent by -1 blanks");
}

#[test]
fn blocks_of_lines() {
    check_written("\"a\\nb\"", 4, "|-\n    a\n    b\n");
    check_written("\"a\\nb\\n\"", 2, "|\n  a\n  b\n");
    check_written("[\"a\\n\\nb\\n\\n\", x]", 4, "- |+\n  a\n\n  b\n\n- x\n");
    check_written("{a: {b: \"x\\ny\"}}", 4, "a:\n    b: |-\n        x\n        y\n");
    check_written("{a: \"  x\\ny\"}", 4, "a: |4-\n      x\n    y\n");
    check_written("{'<<': 1, b: <<}", 4, "\"<<\": 1\nb: <<\n");
    check_written("{\"a\\nb\": {c: 1}}", 4, "? |-\n    a\n    b\n:   c: 1\n");
    let long = "k".repeat(129);
    check_written(&format!("{{{long}: 1, a: 2}}"), 4, &format!("a: 2\n? {long}\n: 1\n"));
    check_written("\"a\\Lb\"", 4, "'a\u{2028}    b'\n");
    check_written("[\"a\\Lb\"]", 4, "- 'a\u{2028}  b'\n");
    check_written("\"a\\Lb\\nc\"", 4, "|-\n    a\u{2028}    b\n    c\n");
    check_written("\"\\uFEFFa\"", 4, "\"\\uFEFF\\x61\"\n");
    // Go remco writes texts that its own reader refuses or reads differently.
    check_written("[\"  x\\ny\"]", 4, "- |2-\n    x\n  y\n");
    check_written("\"\\nx\"", 4, "|4-\n\n    x\n");
    check_written("\"\\n\"", 4, "|4+\n\n");
    check_written("\"\\tx\\ny\"", 4, "|4-\n    \tx\n    y\n");
}

#[test]
fn bytes() {
    assert_eq!(written(&Value::str(b"a\xff"), 4), "!!binary Yf8=\n");
    let long = written(&Value::list(ListKind::Any, vec![Value::str([0xff; 60])]), 4);
    assert_eq!(long, format!("- !!binary |\n  {}\n  {}\n", "/".repeat(70), "/".repeat(10)));
    assert!(matches!(read(&long).unwrap(), Value::List(list) if list.items[0].text()[..] == [0xff; 60]));
}

#[test]
fn order_of_keys() {
    let is_sorted = |keys: &[&str]| {
        let chars = |key: &&str| key.chars().collect::<Vec<_>>();
        for (at, a) in keys.iter().enumerate() {
            for b in &keys[at + 1..] {
                assert!(is_less(&chars(a), &chars(b)) && !is_less(&chars(b), &chars(a)), "{a} {b}");
            }
        }
    };
    is_sorted(&["", "-", "1", "2", "10", "N2", "a", "a b", "a1", "a2", "a10", "ab", "b"]);
    is_sorted(&["1a", "1-", "12", "100", "1000"]);
    is_sorted(&["v1", "v01", "v2", "v10"]);
    is_sorted(&["_x", "A", "Z", "a", "é"]);
}

#[test]
fn no_order_of_keys_can_panic() {
    let mut random = crate::random::Random::new(3);
    for _ in 0..200 {
        let key = |random: &mut crate::random::Random| -> Vec<char> {
            (0..random.below(40)).map(|_| char::from(b"0190a-"[random.below(6)])).collect()
        };
        let keys: Vec<Vec<char>> = (0..random.below(60)).map(|_| key(&mut random)).collect();
        let name: Bytes = Rc::from(&b""[..]);
        let sorted = sorted(&usual(), keys.iter().map(|key| (key.clone(), &name)).collect()).unwrap();
        assert_eq!(sorted.len(), keys.len());
    }
}

#[test]
fn a_map_that_holds_itself_is_an_error() {
    let collections = Collections::default();
    let map = collections.create_map(&usual());
    map.call("Set", &[Value::str("self"), map.clone()]).unwrap().unwrap();
    let error = write(&usual(), &map, 4).unwrap_err();
    assert_eq!(error, "cannot write values nested deeper than 200 levels as YAML");
}

#[test]
fn what_is_written_has_an_end() {
    let limits = small(100);
    assert!(write(&limits, &Value::str("x".repeat(50)), 4).is_ok());
    assert!(write(&limits, &Value::str("x".repeat(100)), 4).is_err());
    assert!(write(&limits, &Value::str("\0".repeat(50)), 4).is_err());
    let lines = Value::str("x\n".repeat(30));
    assert!(write(&limits, &lines, 4).is_err());
}

#[test]
fn random_values_come_back() {
    const PARTS: &[&str] = &[
        "a",
        "b c",
        "",
        " ",
        "\n",
        "\t",
        "yes",
        "on",
        "1",
        "0x1f",
        "1e3",
        ".5",
        "~",
        "null",
        "- ",
        "-",
        ": ",
        ":",
        "#",
        " #",
        "'",
        "\"",
        "\\",
        "é",
        "😀",
        "\x07",
        "\u{85}",
        "\u{feff}",
        "{",
        "]",
        "*",
        "&",
        "!",
        "|",
        ">",
        "%",
        "@",
        "`",
        "?",
        "? ",
        "=",
        "<<",
        "12:30",
        "2024-01-02",
        "---",
        "...",
        "line\n",
        " x",
        "\r",
        "0o7",
        "1_0",
    ];
    fn text(random: &mut crate::random::Random) -> Bytes {
        let parts = random.below(4);
        let mut text: Vec<u8> = (0..parts).flat_map(|_| PARTS[random.below(PARTS.len())].bytes()).collect();
        if random.below(20) == 0 {
            text.extend([0xff; 55]);
        }
        text.into()
    }
    fn value(random: &mut crate::random::Random, depth: usize) -> Value {
        match random.below(if depth < 4 { 9 } else { 6 }) {
            0 => Value::Nil,
            1 => Value::Bool(random.below(2) == 0),
            2 => Value::Float(random.below(1000) as f64 / 8.0 * 10f64.powi(random.below(40) as i32 - 20)),
            3..=5 => Value::Str(text(random)),
            6 => Value::list(ListKind::Any, (0..random.below(4)).map(|_| value(random, depth + 1)).collect()),
            _ => Value::map((0..random.below(4)).map(|_| (text(random), value(random, depth + 1))).collect()),
        }
    }
    let mut random = crate::random::Random::new(11);
    for _ in 0..5_000 {
        let (value, indent) = (value(&mut random, 0), random.below(11) as i64);
        let document = written(&value, indent);
        match read(&document) {
            Ok(again) => assert_eq!(format!("{again:?}"), format!("{value:?}"), "indent {indent}:\n{document}"),
            Err(error) => panic!("{error}: {value:?}, indent {indent}:\n{document}"),
        }
    }
}
