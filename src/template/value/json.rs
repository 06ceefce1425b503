//! Writes JSON like Go's encoding/json (keys sorted, HTML escaped), and reads JSON into values. YAML, which Go remco
//! reads in the same function, is not here.

use std::collections::BTreeMap;
use std::fmt;
use std::rc::Rc;

use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};

use crate::number::{FloatFormat, format_float};
use crate::template::value::bounded::{self, Text};
use crate::template::value::meter::{Hold, Meter, tree};
use crate::template::value::runes;
use crate::template::value::{Data, ListKind, Map, Value};

/// The nesting limit of values, which a map that contains itself reaches.
const DEPTH: usize = 200;

/// Reads a document. Numbers are floats, as in Go.
pub fn parse(meter: &Meter, text: &[u8]) -> Result<Value, String> {
    // One of these bytes is between any two values.
    let values = 1 + text.iter().filter(|byte| matches!(byte, b',' | b':' | b'[' | b'{')).count();
    bounded::check_list(meter, values, text.len())?;
    let mut reader = Reader { hold: meter.hold(), refused: None };
    let mut source = serde_json::Deserializer::from_slice(text);
    let parsed = (&mut reader).deserialize(&mut source).and_then(|value| source.end().map(|()| value));
    match (parsed, reader.refused) {
        (_, Some(refused)) => Err(refused),
        (Ok(value), None) => Ok(value),
        (Err(error), None) => Err(format!("cannot parse as JSON: {error}")),
    }
}

/// The layout of a document that is written.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Style {
    /// One line without blanks.
    Compact,
    /// One entry on each line, indented by four blanks.
    Pretty,
}

/// A value as a JSON text like that of Go's encoding/json. Fails for a float that is infinite or not a number, for
/// values nested deeper than 200 levels, and at the limits of the render.
pub fn write(meter: &Meter, value: &Value, style: Style) -> Result<Value, String> {
    let mut writer = Writer { out: Text::new(meter), style, depth: 0 };
    writer.value(value)?;
    Ok(writer.out.into_value())
}

struct Writer {
    out: Text,
    style: Style,
    depth: usize,
}

impl Writer {
    fn value(&mut self, value: &Value) -> Result<(), String> {
        match value {
            Value::Nil => self.out.push(b"null"),
            Value::Bool(b) => self.out.push(if *b { b"true" } else { b"false" }),
            Value::Int(n, _) => self.out.push(n.to_string().as_bytes()),
            Value::Float(n) => self.float(*n),
            Value::Str(text) => self.string(text),
            Value::List(list) if list.kind == ListKind::NilStrings => self.out.push(b"null"),
            Value::List(list) => self.collection(b"[", b"]", &list.items, Self::value),
            Value::Map(map) => self.map(map),
            Value::Pair(key, value) => {
                self.record(&[("Key", Value::Str(key.clone())), ("Value", Value::Str(value.clone()))])
            }
            Value::Object(object) => match object.data() {
                Data::Value(value) => self.value(&value),
                Data::Record(fields) => self.record(&fields),
            },
        }
    }

    fn map(&mut self, map: &Map) -> Result<(), String> {
        self.collection(b"{", b"}", map, |writer, (key, value)| writer.entry(key, value))
    }

    fn record(&mut self, fields: &[(&str, Value)]) -> Result<(), String> {
        self.collection(b"{", b"}", fields, |writer, (name, value)| writer.entry(name.as_bytes(), value))
    }

    fn entry(&mut self, key: &[u8], value: &Value) -> Result<(), String> {
        self.string(key)?;
        self.out.push(if self.style == Style::Pretty { b": " } else { b":" })?;
        self.value(value)
    }

    fn collection<I: IntoIterator>(
        &mut self,
        open: &[u8],
        close: &[u8],
        items: I,
        write: impl Fn(&mut Self, I::Item) -> Result<(), String>,
    ) -> Result<(), String> {
        self.depth += 1;
        if self.depth > DEPTH {
            return Err(format!("cannot write values nested deeper than {DEPTH} levels as JSON"));
        }
        self.out.push(open)?;
        let mut empty = true;
        for item in items {
            if !empty {
                self.out.push(b",")?;
            }
            empty = false;
            self.new_line(self.depth)?;
            write(self, item)?;
        }
        self.depth -= 1;
        if !empty {
            self.new_line(self.depth)?;
        }
        self.out.push(close)
    }

    fn new_line(&mut self, depth: usize) -> Result<(), String> {
        if self.style == Style::Compact {
            return Ok(());
        }
        self.out.push(b"\n")?;
        self.out.fill(b' ', 4 * depth)
    }

    /// Prints a float as JavaScript does: an exponent only for very small or large numbers, without leading zeros.
    fn float(&mut self, n: f64) -> Result<(), String> {
        if !n.is_finite() {
            return Err(format!("cannot write {} as JSON", format_float(n, FloatFormat::General, None)));
        }
        let plain = n == 0.0 || (1e-6..1e21).contains(&n.abs());
        let format = if plain { FloatFormat::Fixed } else { FloatFormat::Exponent };
        let text = format_float(n, format, None);
        self.out.push(text.replace("e-0", "e-").as_bytes())
    }

    fn string(&mut self, text: &[u8]) -> Result<(), String> {
        self.out.push(b"\"")?;
        for piece in runes::pieces(text) {
            let mut done = 0;
            let mut at = 0;
            for rune in runes::runes(piece) {
                if let Some(escape) = escape(rune) {
                    self.out.push(&piece[done..at])?;
                    self.out.push(escape.as_bytes())?;
                    done = at + rune.len();
                }
                at += rune.len();
            }
            self.out.push(&piece[done..])?;
        }
        self.out.push(b"\"")
    }
}

/// The escape of a character; `None`: the character needs none.
fn escape(rune: &[u8]) -> Option<String> {
    let escape = match runes::decode(rune) {
        // JSON cannot contain bytes that are not UTF-8.
        None => "\\ufffd",
        Some('"') => "\\\"",
        Some('\\') => "\\\\",
        Some('\n') => "\\n",
        Some('\r') => "\\r",
        Some('\t') => "\\t",
        Some(c @ ('\0'..' ' | '<' | '>' | '&' | '\u{2028}' | '\u{2029}')) => {
            return Some(format!("\\u{:04x}", u32::from(c)));
        }
        Some(_) => return None,
    };
    Some(escape.to_owned())
}

/// Builds the values of a document. Each one is charged and counted until the document is complete.
struct Reader {
    hold: Hold,
    /// Why no more values are accepted.
    refused: Option<String>,
}

impl Reader {
    /// The memory of an item besides its text: a growing list has capacity for twice its items.
    const ITEM: usize = 2 * size_of::<Value>();

    fn account<E: Error>(&mut self, bytes: usize) -> Result<(), E> {
        let accounted = self.hold.meter().charge(bytes).and_then(|()| self.hold.grow(bytes));
        accounted.map_err(|refused| {
            self.refused = Some(refused);
            E::custom("stopped")
        })
    }
}

impl<'de> DeserializeSeed<'de> for &mut Reader {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for &mut Reader {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E: Error>(self) -> Result<Value, E> {
        Ok(Value::Nil)
    }

    fn visit_bool<E: Error>(self, b: bool) -> Result<Value, E> {
        Ok(Value::Bool(b))
    }

    fn visit_i64<E: Error>(self, n: i64) -> Result<Value, E> {
        Ok(Value::Float(n as f64))
    }

    fn visit_u64<E: Error>(self, n: u64) -> Result<Value, E> {
        Ok(Value::Float(n as f64))
    }

    fn visit_f64<E: Error>(self, n: f64) -> Result<Value, E> {
        Ok(Value::Float(n))
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Value, E> {
        self.account(text.len())?;
        Ok(Value::str(text))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Value, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = seq.next_element_seed(&mut *self)? {
            self.account(Reader::ITEM)?;
            items.push(item);
        }
        Ok(Value::list(ListKind::Any, items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Value, A::Error> {
        let mut entries = BTreeMap::new();
        while let Some(key) = map.next_key::<String>()? {
            self.account(tree(entries.len() + 1) - tree(entries.len()) + key.len())?;
            let value = map.next_value_seed(&mut *self)?;
            entries.insert(Rc::from(key.into_bytes()), value);
        }
        Ok(Value::map(entries))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::template::fixture::{small, usual};

    fn read(text: &str) -> Value {
        parse(&usual(), text.as_bytes()).unwrap()
    }

    fn check(value: &Value, expected: &str) {
        let written = write(&usual(), value, Style::Compact).unwrap();
        assert_eq!(String::from_utf8_lossy(&written.text()), expected);
    }

    #[test]
    fn scalars() {
        check(&Value::Nil, "null");
        check(&Value::Bool(true), "true");
        check(&Value::integer(-5), "-5");
        check(&Value::str(""), "\"\"");
        check(&Value::str("a\"b\\c é€😀 <a href='x'>&"), "\"a\\\"b\\\\c é€😀 \\u003ca href='x'\\u003e\\u0026\"");
        check(&Value::str("\n\r\t\0\x0b\x7f\u{2028}"), "\"\\n\\r\\t\\u0000\\u000b\x7f\\u2028\"");
        check(&Value::str(b"a\xffb"), "\"a\\ufffdb\"");
    }

    #[test]
    fn floats_are_written_as_in_javascript() {
        let cases = [
            (2.5, "2.5"),
            (2.0, "2"),
            (-0.0, "-0"),
            (1e20, "100000000000000000000"),
            (1e21, "1e+21"),
            (0.000001, "0.000001"),
            (1e-7, "1e-7"),
            (1.5e-10, "1.5e-10"),
            (12345678901.0, "12345678901"),
        ];
        for (number, expected) in cases {
            check(&Value::Float(number), expected);
        }
        let error = write(&usual(), &Value::Float(f64::INFINITY), Style::Compact).unwrap_err();
        assert_eq!(error, "cannot write +Inf as JSON");
    }

    #[test]
    fn lists_and_maps() {
        check(&Value::list(ListKind::Strings, vec![]), "[]");
        check(&Value::list(ListKind::NilStrings, vec![]), "null");
        check(&Value::pair(b"/k"[..].into(), b"v"[..].into()), r#"{"Key":"/k","Value":"v"}"#);
        let document = r#"{"extra":{},"html":"\u003cb\u003e","list":[1,[2,[3]]],"none":null,"tags":[]}"#;
        check(&read(document), document);
        check(&read(r#" {"b": 1, "a": true, "b": 2} "#), r#"{"a":true,"b":2}"#);
    }

    #[test]
    fn pretty_documents() {
        let value = read(r#"{"a":[1,{"b":[]}],"c":{},"d":"x"}"#);
        let written = write(&usual(), &value, Style::Pretty).unwrap();
        let expected = "{\n    \"a\": [\n        1,\n        {\n            \"b\": []\n        }\n    ],\n    \"c\": {},\n    \"d\": \"x\"\n}";
        assert_eq!(String::from_utf8_lossy(&written.text()), expected);
    }

    #[test]
    fn numbers_are_read_as_floats() {
        assert!(matches!(read("17"), Value::Float(17.0)));
        assert!(matches!(read("-3"), Value::Float(-3.0)));
        assert!(matches!(read("18446744073709551616"), Value::Float(18446744073709551616.0)));
    }

    #[test]
    fn what_is_no_json_is_an_error() {
        let error = |text: &[u8]| parse(&usual(), text).unwrap_err();
        assert_eq!(error(br#"{"a": [1, 2}"#), "cannot parse as JSON: expected `,` or `]` at line 1 column 12");
        error(b"1 2");
        error(b"\"\xff\"");
        error("[".repeat(100_000).as_bytes());
    }

    #[test]
    fn documents_end_at_the_limit() {
        let limits = small(1000);
        assert!(parse(&limits, b"[1,2,3]").is_ok());
        assert!(parse(&limits, format!("[{}1]", "1,".repeat(100)).as_bytes()).is_err());
        assert!(write(&limits, &Value::str("x".repeat(1000)), Style::Compact).is_err());
    }
}
