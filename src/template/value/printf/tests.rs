//! Formats and the output of Go's fmt.Sprintf.
//! The cases were recorded from Go.

use std::collections::BTreeMap;

use super::*;
use crate::template::fixture::{small, usual};
use crate::template::value::{IntType, ListKind};

fn s(text: &str) -> Value {
    Value::str(text)
}

fn i(n: i64) -> Value {
    Value::integer(n)
}

fn f(n: f64) -> Value {
    Value::Float(n)
}

fn strings(items: &[&str]) -> Value {
    Value::list(ListKind::Strings, items.iter().map(Value::str).collect())
}

fn check(format: &str, operands: &[Value], expected: &str) {
    let result = sprintf(&usual(), format.as_bytes(), operands).unwrap();
    assert_eq!(String::from_utf8_lossy(&result.text()), expected, "{format} {operands:?}");
}

#[test]
fn strings_in_widths() {
    check("%s", &[s("alpha")], "alpha");
    check("%10s|%-10s|", &[s("alpha"), s("alpha")], "     alpha|alpha     |");
    check("%.2s|%8.3s|%-8.3s|", &[s("alpha"), s("alpha"), s("alpha")], "al|     alp|alp     |");
    check("%6s|", &[s("ünï")], "   ünï|");
    check("%.2s|", &[s("ünï")], "ün|");
    check("%q|%x|%X|% x", &[s("a\"b"), s("hi"), s("hi"), s("hi")], "\"a\\\"b\"|6869|6869|68 69");
    check(
        "%#x|%# x|%6x|%-6x|%.1x",
        &[s("hi"), s("hi"), s("hi"), s("hi"), s("hi")],
        "0x6869|0x68 0x69|  6869|6869  |68",
    );
    check("%x|%3x|%03x", &[s(""), s(""), s("")], "|   |000");
    check("%#q|%+q|%#q", &[s("a"), s("ü"), s("`")], "`a`|\"\\u00fc\"|\"`\"");
    check("%v %v %v %v", &[s("s"), i(5), f(2.5), Value::Bool(true)], "s 5 2.5 true");
    check("%05s|%06v|%05t|%05q", &[s("ab"), s("x"), Value::Bool(true), s("y")], "000ab|00000x|0true|00\"y\"");
    check("%-05s|%0-5s|", &[s("a"), s("a")], "a    |a    |");
}

#[test]
fn bytes_stay_bytes() {
    let result = sprintf(&usual(), b"\xff%s%4s", &[Value::str(b"\xfe"), Value::str(b"\xfd")]).unwrap();
    assert_eq!(*result.text(), *b"\xff\xfe   \xfd");
    check("%q", &[Value::str(b"a\xff\n\x01\x7f\xe2\x80\xa8")], "\"a\\xff\\n\\x01\\x7f\\u2028\"");
}

#[test]
fn types_are_those_of_go() {
    let of = |n, int_type| Value::Int(n, int_type);
    let ints = [i(5), of(5, IntType::Int64), of(5, IntType::Uint8), of(5, IntType::Uint16)];
    check("%T %T %T %T", &ints, "int int64 uint8 uint16");
    check("%#v %#v %#v %#v", &ints, "5 5 0x5 0x5");
    check("%s %[1]v", &ints[1..2], "%!s(int64=5) 5");
    check("%d", &ints, "5%!(EXTRA int64=5, uint8=5, uint16=5)");
    let nested = Value::list(ListKind::Any, vec![Value::Nil, Value::Float(1.0)]);
    check("%#v %v", &[nested.clone(), nested.clone()], "[]interface {}{interface {}(nil), 1} [<nil> 1]");
    check("%w", &[nested], "%!w([]interface {}=[<nil> 1])");
}

#[test]
fn literal_text() {
    check("", &[], "");
    check("100%%", &[], "100%");
    check("%5%|", &[], "%|");
    check("no verbs", &[], "no verbs");
    check("%ü", &[i(1)], "%!ü(int=1)");
}

#[test]
fn integers() {
    check("%d|%5d|%-5d|%05d|%+d|% d|", &[i(42), i(42), i(42), i(42), i(42), i(42)], "42|   42|42   |00042|+42| 42|");
    check("%x|%X|%#x|%o|%#o|%b|%O", &[i(255), i(255), i(255), i(8), i(8), i(5), i(8)], "ff|FF|0xff|10|010|101|0o10");
    check("%08b|%4x|%04X", &[i(5), i(10), i(10)], "00000101|   a|000A");
    check("%d|%05d|%+d|%x", &[i(-42), i(-42), i(-42), i(-255)], "-42|-0042|-42|-ff");
    check("%.5d|%8.5d|%-8.5d|%.0d|%5.0d|", &[i(42), i(42), i(42), i(0), i(0)], "00042|   00042|00042   ||     |");
    check("%08.5d|%+08d|% 05d", &[i(42), i(42), i(42)], "   00042|+0000042| 0042");
    check("%#b|%#X|%#o|%#O", &[i(5), i(255), i(0), i(8)], "0b101|0XFF|0|0o010");
    check("%v|%+v|%#v|%05v", &[i(42), i(42), i(42), i(42)], "42|42|42|00042");
    check(
        "%c|%U|%#U|%q|%q|%c",
        &[i(65), i(8364), i(8364), i(65), i(39), i(-1)],
        "A|U+20AC|U+20AC '€'|'A'|'\\''|\u{fffd}",
    );
    check("%d", &[i(i64::MIN)], "-9223372036854775808");
    check("%x", &[i(i64::MIN)], "-8000000000000000");
}

#[test]
fn floats() {
    let pi = || f(3.14158);
    check(
        "%f|%.2f|%8.3f|%-8.1f|%08.2f|%+.1f|",
        &[pi(), pi(), pi(), pi(), pi(), pi()],
        "3.141580|3.14|   3.142|3.1     |00003.14|+3.1|",
    );
    let n = || f(1234.5678);
    check(
        "%e|%E|%g|%G|%.3e|%.3g",
        &[n(), n(), n(), n(), n(), n()],
        "1.234568e+03|1.234568E+03|1234.5678|1234.5678|1.235e+03|1.23e+03",
    );
    check("%g|%g|%G", &[f(1e5), f(12345678.9), f(1e-7)], "100000|1.23456789e+07|1E-07");
    check("%5v|%-5v|%05v|%x|%X", &[f(1.5), f(1.5), f(1.5), f(2.5), f(2.5)], "  1.5|1.5  |001.5|0x1.4p+01|0X1.4P+01");
    check("%06.1f|%+06.1f|% .1f|%F", &[f(-2.5), f(2.5), f(2.5), f(1.0)], "-002.5|+002.5| 2.5|1.000000");
    let inf = || f(f64::INFINITY);
    check(
        "%f|%+f|% f|%6f|%06f|%g",
        &[inf(), inf(), inf(), inf(), f(f64::NEG_INFINITY), inf()],
        "+Inf|+Inf| Inf|  +Inf|  -Inf|+Inf",
    );
    check("%f|%+f|%05f", &[f(f64::NAN), f(f64::NAN), f(f64::NAN)], "NaN|+NaN|  NaN");
    check(
        "%#g|%#.3g|%#.0f|%#e|%#g|%#v",
        &[f(1.0), f(1.0), f(1.0), f(1.0), f(0.0), f(1.0)],
        "1.00000|1.00|1.|1.000000e+00|0.00000|1",
    );
}

#[test]
fn booleans() {
    check(
        "%t|%v|%6t|%-6t|",
        &[Value::Bool(true), Value::Bool(false), Value::Bool(true), Value::Bool(false)],
        "true|false|  true|false |",
    );
}

#[test]
fn verbs_that_do_not_fit() {
    check("%d", &[s("text")], "%!d(string=text)");
    check("%s", &[i(5)], "%!s(int=5)");
    check("%d", &[f(2.5)], "%!d(float64=2.5)");
    check("%f", &[i(3)], "%!f(int=3)");
    check("%t", &[s("true")], "%!t(string=true)");
    check("%s", &[Value::Bool(true)], "%!s(bool=true)");
    check("%z", &[i(1)], "%!z(int=1)");
    check("%!", &[], "%!!(MISSING)");
    check("%", &[], "%!(NOVERB)");
    check("%5", &[i(1)], "%!(NOVERB)%!(EXTRA int=1)");
    check("%5d|", &[s("ab")], "%!d(string=   ab)|");
    check("%v|%d|%5v|%T", &[Value::Nil, Value::Nil, Value::Nil, Value::Nil], "<nil>|%!d(<nil>)|<nil>|<nil>");
    check("%T %T %T %T", &[i(1), f(1.0), s(""), Value::Bool(true)], "int float64 string bool");
}

#[test]
fn too_few_and_too_many_operands() {
    check("%s and %s", &[s("one")], "one and %!s(MISSING)");
    check("only %s", &[s("one"), s("two")], "only one%!(EXTRA string=two)");
    check("none", &[i(1), s("x"), f(2.5), Value::Nil], "none%!(EXTRA int=1, string=x, float64=2.5, <nil>)");
    check("%d%%", &[i(5), i(6)], "5%%!(EXTRA int=6)");
}

#[test]
fn operands_by_number() {
    check("%[2]s %[1]s", &[s("world"), s("hello")], "hello world");
    check("%[3]s", &[s("a")], "%!s(BADINDEX)");
    check("%[0]s", &[s("a")], "%!s(BADINDEX)");
    check("%[x]s", &[s("a")], "%!s(BADINDEX)");
    check("%[1]d %d", &[i(1), i(2)], "1 2");
    check("%[2]*[1]d|", &[i(1), i(4)], "   1|");
    check("%[1]2d", &[i(1)], "%!d(BADINDEX)");
    check("%[", &[i(1)], "%!(NOVERB)");
    check("%[]", &[i(1)], "%!](BADINDEX)");
    check("%[1]", &[i(1)], "%!(NOVERB)");
}

#[test]
fn widths_from_operands() {
    check("%*d|%-*d|", &[i(5), i(42), i(5), i(42)], "   42|42   |");
    check("%*d|", &[i(-5), i(42)], "42   |");
    check("%.*f", &[i(1), f(2.25)], "2.2");
    check("%.*f", &[i(-1), f(2.25)], "%!(BADPREC)2.250000");
    check("%*d", &[s("x"), i(1)], "%!(BADWIDTH)1");
    check("%*d", &[i(10_000_000), i(1)], "%!(BADWIDTH)1");
    check("%.d|%.s|", &[i(1), s("abc")], "1||");
    check("%99999999999d", &[i(1)], "%!(NOVERB)%!(EXTRA int=1)");
}

#[test]
fn compound_values() {
    let list = || strings(&["b", "a"]);
    check(
        "%v|%s|%q|%5s|%d",
        &[list(), list(), list(), list(), list()],
        "[b a]|[b a]|[\"b\" \"a\"]|[    b     a]|[%!d(string=b) %!d(string=a)]",
    );
    check("%#v|%T", &[list(), list()], "[]string{\"b\", \"a\"}|[]string");
    let pair = || Value::pair(b"/k"[..].into(), b"v v"[..].into());
    check(
        "%v|%+v|%#v|%d",
        &[pair(), pair(), pair(), pair()],
        "{/k v v}|{Key:/k Value:v v}|memkv.KVPair{Key:\"/k\", Value:\"v v\"}|{%!d(string=/k) %!d(string=v v)}",
    );
    check("%v", &[Value::list(ListKind::Pairs, vec![pair(), pair()])], "[{/k v v} {/k v v}]");
    let any = || Value::list(ListKind::Any, vec![Value::Bool(true), Value::Nil, f(1e30), i(2)]);
    check("%v|%d", &[any(), any()], "[true <nil> 1e+30 2]|[%!d(bool=true) <nil> %!d(float64=1e+30) 2]");
    let map = || Value::map(BTreeMap::from([(b"z"[..].into(), i(1)), (b"a"[..].into(), any())]));
    check("%v|%#v", &[map(), Value::map(BTreeMap::new())], "map[a:[true <nil> 1e+30 2] z:1]|map[string]interface {}{}");
    let none = || Value::list(ListKind::NilStrings, vec![]);
    check("%s|%d|%v|%#v", &[none(), none(), none(), none()], "[]|[]|[]|[]string(nil)");
}

#[test]
fn results_end_at_the_limit() {
    let limits = small(1000);
    let many = strings(&["x"; 100]);
    assert!(sprintf(&limits, b"%v", std::slice::from_ref(&many)).is_ok());
    assert!(sprintf(&limits, b"%9999v", &[many]).is_err());
    assert!(sprintf(&limits, b"%99999d", &[i(1)]).is_err());
    assert!(sprintf(&limits, b"%.99999d", &[i(1)]).is_err());
    assert!(sprintf(&limits, b"%.99999f", &[f(1.0)]).is_err());
}

#[test]
fn open_brackets_are_not_searched_for_again_and_again() {
    let format = b"%[".repeat(1 << 18);
    sprintf(&usual(), &format, &[]).unwrap();
}
