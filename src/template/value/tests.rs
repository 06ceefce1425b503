//! Values: truth, printing, comparing, counting, iterating, and fields.
//! The cases were recorded from pongo2.

use super::*;
use crate::template::fixture::{Variables, env, eval, usual};

fn value(expression: &str) -> Value {
    eval(&env(), &Variables::new(), expression).unwrap_or_else(|e| panic!("{expression}: {e}"))
}

fn printed(value: &Value) -> String {
    let mut out = Vec::new();
    value.print(&mut out);
    String::from_utf8_lossy(&out).into_owned()
}

/// Checks the output of an operation on two expressions.
fn check(left: &str, op: Op, right: &str, expected: &str) {
    let result = Value::binary(&usual(), op, &value(left), &value(right));
    let result = result.unwrap_or_else(|e| panic!("{left} {op:?} {right}: {e}"));
    assert_eq!(printed(&result), expected, "{left} {op:?} {right}");
}

fn fails(left: &str, op: Op, right: &str, expected: &str) {
    let result = Value::binary(&usual(), op, &value(left), &value(right));
    assert_eq!(result.unwrap_err(), expected, "{left} {op:?} {right}");
}

#[test]
fn printing() {
    let cases = [
        ("nothing", ""),
        ("true", "True"),
        ("false", "False"),
        ("7", "7"),
        ("1.5", "1.500000"),
        ("0.0000001", "0.000000"),
        ("99.9999999", "100.000000"),
        ("100000000000000000000.0", "100000000000000000000.000000"),
        ("'text'", "text"),
        ("ls('/app')", "<[]string Value>"),
        ("ls('/none')", "<[]string Value>"),
        ("'a,b'|split:','", "<[]string Value>"),
        ("gets('/app/*')", "<memkv.KVPairs Value>"),
        ("get('/app/name')", "<memkv.KVPair Value>"),
        ("'[1]'|parseJSON", "<[]interface {} Value>"),
        ("'{}'|parseJSON", "<map[string]interface {} Value>"),
        ("createMap()", "<template.templateMap Value>"),
        ("'ab'|index:1", "b"),
    ];
    for (expression, expected) in cases {
        assert_eq!(printed(&value(expression)), expected, "{expression}");
    }
    assert_eq!(printed(&Value::Float(f64::NEG_INFINITY)), "-Inf");
    assert_eq!(*value("getv('/raw')").text(), *b"\xff\xfe");
}

#[test]
fn truth_and_not() {
    let cases = [
        ("nothing", false, "True"),
        ("true", true, "False"),
        ("0", false, "1"),
        ("5", true, "0"),
        ("0.0", false, "1.100000"),
        ("0.1", true, "0.000000"),
        ("''", false, "True"),
        ("'0'", true, "False"),
        ("'false'", true, "False"),
        ("'[]'|parseJSON", false, "True"),
        ("'[0]'|parseJSON", true, "False"),
        ("'{}'|parseJSON", false, "True"),
        ("get('/empty')", true, "False"),
        ("ls('/none')", false, "True"),
        ("createMap()", false, "True"),
        ("createSet()", false, "True"),
        ("',x'|split:','|index:0", false, "True"),
    ];
    for (expression, truth, not) in cases {
        assert_eq!(value(expression).truthy(), truth, "{expression}");
        assert_eq!(printed(&value(expression).not()), not, "not {expression}");
    }
}

#[test]
fn arithmetic() {
    check("1", Op::Add, "2", "3");
    check("7", Op::Sub, "10", "-3");
    check("7", Op::Div, "2", "3");
    check("7", Op::Rem, "3", "1");
    check("1.5", Op::Add, "1", "2.500000");
    check("2", Op::Mul, "0.5", "1.000000");
    check("7", Op::Div, "2.0", "3.500000");
    check("5.9", Op::Rem, "3", "2");
    check("10", Op::Rem, "3.9", "1");
    check("2", Op::Pow, "3", "8.000000");
    check("2", Op::Pow, "0.5", "1.414214");
    check("10", Op::Pow, "30", "1000000000000000019884624838656.000000");
    check("'0x1p4'", Op::Add, "1", "17");
    check("1.0", Op::Div, "0", "+Inf");
    check("'3'", Op::Add, "'4'", "7");
    check("'a'", Op::Add, "'b'", "0");
    check("'2.9'", Op::Add, "1", "3");
    check("'2.9'", Op::Mul, "1.0", "2.900000");
    check("' 4'", Op::Add, "1", "1");
    check("'1e2'", Op::Add, "1", "101");
    check("true", Op::Add, "1", "1");
    check("nothing", Op::Mul, "2.5", "0.000000");
    check("ls('/app')", Op::Add, "1", "1");
    check("9223372036854775807", Op::Add, "1", "-9223372036854775808");
    check("9223372036854775807", Op::Mul, "2", "-2");
    fails("10", Op::Div, "'0'", "cannot divide an integer by zero");
    fails("10", Op::Rem, "0.5", "cannot divide an integer by zero");
    let least = Value::integer(i64::MIN);
    assert_eq!(
        printed(&Value::binary(&usual(), Op::Div, &least, &Value::integer(-1)).unwrap()),
        "-9223372036854775808"
    );
    assert_eq!(printed(&Value::binary(&usual(), Op::Rem, &least, &Value::integer(-1)).unwrap()), "0");
}

#[test]
fn negation() {
    assert_eq!(printed(&value("5").negate().unwrap()), "-5");
    assert_eq!(printed(&value("0.0").negate().unwrap()), "-0.000000");
    assert_eq!(value("'5'").negate().unwrap_err(), "cannot negate a string");
    assert_eq!(value("nothing").negate().unwrap_err(), "cannot negate nothing");
    Value::integer(i64::MIN).negate().unwrap();
}

#[test]
fn comparison() {
    check("'10'", Op::Gt, "'9'", "True");
    check("'a'", Op::Lt, "'b'", "False");
    check("'a'", Op::Le, "'b'", "True");
    check("1", Op::Lt, "'5'", "True");
    check("'1.9'", Op::Gt, "1", "False");
    check("'1.9'", Op::Gt, "1.0", "True");
    check("nothing", Op::Ge, "0", "True");
    check("true", Op::Gt, "0", "False");
    check("2.0", Op::Le, "2", "True");
    check("'nan'", Op::Lt, "1.0", "False");
}

#[test]
fn equality() {
    check("5", Op::Eq, "5", "True");
    check("5", Op::Eq, "5.0", "False");
    check("5", Op::Eq, "'5'", "False");
    check("5", Op::Ne, "6", "True");
    check("true", Op::Eq, "1", "False");
    check("false", Op::Eq, "''", "False");
    check("nothing", Op::Eq, "missing", "True");
    check("nothing", Op::Eq, "''", "False");
    check("'8080'|parseInt", Op::Eq, "'8080'|integer", "True");
    check("'8080'|parseFloat", Op::Eq, "8080.0", "True");
    check("get('/app/name')", Op::Eq, "get('/app/name')", "True");
    check("get('/app/name')", Op::Ne, "get('/app/port')", "True");
    check("ls('/app')", Op::Eq, "gets('/app/*')", "False");
    check("ls('/app')", Op::Eq, "nothing", "False");
    check("createMap()", Op::Eq, "createSet()", "False");
    check("'a,b'|split:','|index:1", Op::Eq, "'b'", "True");
    fails("ls('/app')", Op::Eq, "ls('/none')", "cannot compare two lists");
    fails("'{}'|parseJSON", Op::Ne, "'{}'|parseJSON", "cannot compare two maps");
    fails("createMap()", Op::Eq, "createMap()", "cannot compare two maps");
}

#[test]
fn membership() {
    check("'b'", Op::In, "'abc'", "True");
    check("''", Op::In, "'abc'", "True");
    check("5", Op::In, "'1532'", "True");
    check("2.5", Op::In, "'2.500000'", "True");
    check("nothing", Op::In, "'abc'", "True");
    check("'a'", Op::In, "'a,b'|split:','", "True");
    check("'c'", Op::In, "'a,b'|split:','", "False");
    check("1.0", Op::In, "'[1, 2]'|parseJSON", "True");
    check("1", Op::In, "'[1, 2]'|parseJSON", "False");
    check("nothing", Op::In, "'[null]'|parseJSON", "True");
    check("'one'", Op::In, "'{\"one\": null}'|parseJSON", "True");
    check("1.5", Op::In, "'{\"one\": null}'|parseJSON", "False");
    check("'x'", Op::In, "5", "False");
    check("'x'", Op::In, "nothing", "False");
    check("'Key'", Op::In, "get('/app/name')", "True");
    check("'Nope'", Op::In, "get('/app/name')", "False");
    check("'b'", Op::In, "'abc'|index:1", "True");
    let record = "lookupSRV('db', 'tcp', 'example.com').0";
    check("'Port'", Op::In, record, "True");
    check("'port'", Op::In, record, "False");
    fails("1", Op::In, "'{}'|parseJSON", "cannot look for an integer in a map, whose keys are strings");
    fails("'[1]'|parseJSON", Op::In, "'[[1]]'|parseJSON", "cannot compare two lists");
}

#[test]
fn steps() {
    let get = |expression: &str| printed(&value(expression));
    assert_eq!(get("nothing.at.all.0"), "");
    assert_eq!(get("'[\"a\", {\"b\": \"c\"}]'|parseJSON|last|mapValue:'b'"), "c");
    assert_eq!(get("ls('/app').1"), "name");
    assert_eq!(get("ls('/app').9"), "");
    assert_eq!(get("getv('/app/name').0"), "115");
    assert_eq!(get("getv('/app/name').9"), "");
    let error = |expression: &str| eval(&env(), &Variables::new(), expression).unwrap_err();
    assert_eq!(error("getv('/app/name').first"), "cannot read the field `first` of a string");
    assert_eq!(error("ls('/app').name"), "cannot read the field `name` of a list");
    assert_eq!(error("createMap().0"), "cannot read element 0 of a map");
    assert_eq!(error("get('/app/name').0"), "cannot read element 0 of a key-value pair");
    assert!(value("ls('/app')").call("Len", &[]).is_none());
    assert!(value("nothing").call("Len", &[]).is_none());
}

/// The rounds of a `for`: first variables, `=` and second variables if there are some, and round numbers.
fn rounds(expression: &str, reversed: bool, sorted: bool) -> String {
    let Some(rows) = value(expression).rows(&usual(), reversed, sorted).unwrap() else {
        return "no".to_owned();
    };
    let row = |round| {
        let (first, second) = rows.row(round).unwrap();
        let second = second.map(|second| format!("={}", printed(&second))).unwrap_or_default();
        format!("{}{}{second}", rows.number(round), printed(&first))
    };
    assert!(rows.row(rows.len()).is_none());
    assert_eq!(rows.is_empty(), matches!(rows.len(), 0));
    (0..rows.len()).map(row).collect::<Vec<_>>().join(" ")
}

#[test]
fn loops() {
    let list = "'b,A,10,9,a'|split:','";
    assert_eq!(rounds(list, false, false), "0b 1A 210 39 4a");
    assert_eq!(rounds(list, true, false), "0a 19 210 3A 4b");
    assert_eq!(rounds(list, false, true), "010 19 2A 3a 4b");
    assert_eq!(rounds(list, true, true), "0b 1a 2A 39 410");
    // Go remco never changes the order of these, not even with `reversed`.
    let parsed = "'[\"b\", \"a\", \"c\"]'|parseJSON";
    assert_eq!(rounds(parsed, false, true), "0b 1a 2c");
    assert_eq!(rounds(parsed, true, true), "0b 1a 2c");
    assert_eq!(rounds(parsed, true, false), "0c 1a 2b");
    let map = "'{\"b\": \"2\", \"a\": \"1\"}'|parseJSON";
    assert_eq!(rounds(map, false, false), "0a=1 1b=2");
    assert_eq!(rounds(map, false, true), "0a=1 1b=2");
    assert_eq!(rounds(map, true, true), "0b=2 1a=1");
    assert_eq!(rounds("'abc'", false, false), "0a 1b 2c");
    assert_eq!(rounds("'abc'", true, false), "2c 1b 0a");
    assert_eq!(rounds("''", false, false), "");
    assert_eq!(rounds("ls('/none')", false, true), "");
    for other in ["5", "1.5", "true", "nothing", "get('/app/name')"] {
        assert_eq!(rounds(other, false, false), "no", "{other}");
    }
    assert_eq!(value("'cab'").rows(&usual(), false, true).err().unwrap(), "cannot sort the bytes of a string");
}

#[test]
fn texts_are_gone_through_by_byte() {
    let rows = value("'é'").rows(&usual(), false, false).unwrap().unwrap();
    assert_eq!(*rows.row(0).unwrap().0.text(), *b"\xc3");
    assert_eq!(*rows.row(1).unwrap().0.text(), *b"\xa9");
}

#[test]
fn debug_shows_bytes_and_does_not_follow_objects() {
    let env = env();
    let map = env.collections.create_map(&env.meter);
    map.call("Set", &[Value::str("self"), map.clone()]).unwrap().unwrap();
    let list = Value::list(ListKind::Any, vec![Value::Nil, Value::str(b"\xff"), map]);
    assert_eq!(format!("{list:?}"), r#"[nil, "\xff", <template.templateMap>]"#);
}
