//! Converts a document of maps and lists to keys and values: `{"a": {"b": [1]}}` is `/a/b/0` = `1`. Builds a tree of
//! YAML only, not of JSON. Reads no files.

use std::fmt;
use std::ops::Bound;
use std::rc::Rc;

use serde::de::{self, DeserializeSeed, MapAccess, SeqAccess, Visitor};

use super::keys::Keys;
use super::tally::Tally;
use crate::config::ReadLimits;
use crate::store::{Bytes, Layer, path};
use crate::yaml::{self, Fault, Scalar};

/// The memory limit of the tree of a YAML text, in bytes: enough for aliases that a small text repeats, and for every
/// byte of a large text, except for rows of brackets.
const TREE: usize = 16 << 20;
const TREE_PER_BYTE: usize = 16;

/// The memory limit of the tree of a YAML text for each key that may be read, besides the bytes of keys and values.
const TREE_PER_KEY: usize = 128;
const TREE_LEAST: usize = 4096;

/// The wanted keys of a YAML or JSON text, by their names in the store. An empty text is an error, because a file that
/// is cut or being written is empty, too. `{}` has no keys.
pub fn document(text: &[u8], keys: &Keys, limits: ReadLimits) -> Result<Layer, Fault> {
    // JSON is YAML, but can be read without a tree and ten times as fast. The YAML reader reports the errors.
    let mut flat = Flat::new(limits);
    if !yaml::is_json_alike(text) {
        tree(text, &mut flat, limits)?;
    } else if let Err(error) = json(text, &mut flat) {
        if let Some(why) = flat.full.take() {
            return Err(Fault { line: error.line(), column: error.column(), why });
        }
        flat = Flat::new(limits);
        tree(text, &mut flat, limits)?;
    }
    Ok(flat.layer(keys))
}

/// The nesting limit is 128 levels.
fn json(text: &[u8], flat: &mut Flat) -> Result<(), serde_json::Error> {
    let mut reader = serde_json::Deserializer::from_slice(text);
    Top(flat).deserialize(&mut reader).and_then(|()| reader.end())
}

fn tree(text: &[u8], flat: &mut Flat, limits: ReadLimits) -> Result<(), Fault> {
    let for_text = TREE + TREE_PER_BYTE * text.len();
    let for_keys = limits.max_keys.saturating_mul(TREE_PER_KEY).saturating_add(limits.max_decoded);
    let for_keys = for_keys.saturating_add(TREE_LEAST);
    let node = yaml::read(text, for_text.min(for_keys)).map_err(|mut fault| {
        if for_keys < for_text && fault.why == format!("the document takes more than {for_keys} bytes") {
            fault.why += ": raise `max_keys` and `max_decoded` of the backend";
        }
        fault
    })?;
    match node {
        yaml::Node::Scalar(Scalar::Null) => return Err(not_a_map("nothing; `{}` means that there are no keys")),
        top @ yaml::Node::Map(_) => {
            flat.node(top);
            if let Some(why) = flat.full.take() {
                return Err(Fault { line: 1, column: 1, why });
            }
        }
        yaml::Node::List(_) => return Err(not_a_map("a list")),
        yaml::Node::Scalar(_) => return Err(not_a_map("a value")),
    }
    Ok(())
}

fn not_a_map(found: &str) -> Fault {
    Fault { line: 1, column: 1, why: format!("expected a map at the top, found {found}") }
}

/// Precedes every name of a path: a byte that no name contains, because names are UTF-8. So a `/` within a name differs
/// from one between names until the document is complete.
const STEP: u8 = 0xff;

struct Flat {
    /// The path of the present place.
    path: Vec<u8>,
    /// The scalars by their paths. The type is that of the store, because another map type would add 5 KB of code.
    scalars: Layer,
    tally: Tally,
    /// Why no more scalars are accepted.
    full: Option<String>,
}

impl Flat {
    fn new(limits: ReadLimits) -> Flat {
        Flat { path: Vec::new(), scalars: Layer::new(), tally: Tally::new(limits), full: None }
    }

    /// Reads the value of a name.
    fn enter<T>(&mut self, name: &[u8], read: impl FnOnce(&mut Flat) -> T) -> T {
        let length = self.path.len();
        self.path.push(STEP);
        self.path.extend_from_slice(name);
        let result = read(self);
        self.path.truncate(length);
        result
    }

    fn scalar(&mut self, value: Bytes) {
        if self.full.is_none() {
            self.full = self.tally.add(&self.path, &value).err();
            self.scalars.insert(Bytes::from(&*self.path), value);
        }
    }

    /// An error that ends the parser if no more scalars are accepted.
    fn room<E: de::Error>(&self) -> Result<(), E> {
        if self.full.is_none() { Ok(()) } else { Err(E::custom("no more scalars are taken")) }
    }

    fn node(&mut self, node: yaml::Node) {
        match node {
            yaml::Node::Scalar(scalar) => self.scalar(scalar.print()),
            yaml::Node::List(items) => {
                for (index, item) in items.into_iter().enumerate() {
                    self.enter(index.to_string().as_bytes(), |flat| flat.node(item));
                }
            }
            yaml::Node::Map(entries) => {
                for (name, value) in entries {
                    self.enter(&name.print(), |flat| {
                        flat.forget();
                        flat.node(value);
                    });
                }
            }
        }
    }

    /// Removes the scalars of an earlier entry with this name: the later entry replaces it as a whole.
    fn forget(&mut self) {
        // Names mostly occur once and in order: then the last scalar shows that no search is needed.
        let is_last = self.scalars.last_key_value().is_none_or(|(last, _)| **last < *self.path);
        if is_last || self.first_below().is_none() {
            return;
        }
        self.scalars.remove(&*self.path);
        self.path.push(STEP);
        while let Some(key) = self.first_below().cloned() {
            self.scalars.remove(&key);
        }
        self.path.pop();
    }

    /// The first scalar whose path begins with the present one.
    fn first_below(&self) -> Option<&Bytes> {
        let from_here = (Bound::Included(&self.path[..]), Bound::Unbounded);
        let (key, _) = self.scalars.range::<[u8], _>(from_here).next()?;
        Some(key).filter(|key| key.starts_with(&self.path))
    }

    fn layer(self, keys: &Keys) -> Layer {
        let wanted = |(place, value): (Bytes, Bytes)| {
            let mut raw = place.to_vec();
            raw.iter_mut().filter(|byte| **byte == STEP).for_each(|byte| *byte = b'/');
            // Names may begin or end with slashes, so the path is cleaned before it is compared.
            let raw = path::clean(&raw);
            let store_key = keys.covers(&raw).then(|| keys.store_key(&raw))??;
            Some((store_key.key, value))
        };
        self.scalars.into_iter().filter_map(wanted).collect()
    }
}

/// Reads a document that is a map.
struct Top<'f>(&'f mut Flat);

/// Reads any value.
struct Node<'f>(&'f mut Flat);

impl<'de> DeserializeSeed<'de> for Top<'_> {
    type Value = ();

    fn deserialize<D: de::Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Top<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a map at the top")
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<(), A::Error> {
        Node(self.0).visit_map(map)
    }
}

impl<'de> DeserializeSeed<'de> for Node<'_> {
    type Value = ();

    fn deserialize<D: de::Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Node<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a map, a list or a value")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(name) = map.next_key::<String>()? {
            self.0.enter(name.as_bytes(), |flat| {
                flat.forget();
                map.next_value_seed(Node(flat))
            })?;
        }
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<(), A::Error> {
        for index in 0.. {
            let more = self.0.enter(index.to_string().as_bytes(), |flat| list.next_element_seed(Node(flat)))?;
            if more.is_none() {
                break;
            }
        }
        Ok(())
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<(), E> {
        self.0.scalar(Rc::from(text.as_bytes()));
        self.0.room()
    }

    fn visit_bool<E: de::Error>(self, value: bool) -> Result<(), E> {
        self.0.scalar(Scalar::Bool(value).print());
        self.0.room()
    }

    fn visit_i64<E: de::Error>(self, number: i64) -> Result<(), E> {
        self.0.scalar(Scalar::Int(number).print());
        self.0.room()
    }

    fn visit_u64<E: de::Error>(self, number: u64) -> Result<(), E> {
        self.0.scalar(Scalar::Uint(number).print());
        self.0.room()
    }

    /// Formatted as by Go's `%v`.
    fn visit_f64<E: de::Error>(self, number: f64) -> Result<(), E> {
        self.0.scalar(Scalar::Float(number).print());
        self.0.room()
    }

    fn visit_unit<E: de::Error>(self) -> Result<(), E> {
        self.0.scalar(Scalar::Null.print());
        self.0.room()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flat(text: &str, prefix: &str, keys: &[&str]) -> Vec<String> {
        let keys = Keys::new(prefix, &keys.iter().map(|key| key.to_string()).collect::<Vec<_>>());
        let show = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let layer = document(text.as_bytes(), &keys, ReadLimits::default()).unwrap();
        layer.iter().map(|(key, value)| format!("{}={}", show(key), show(value))).collect()
    }

    #[track_caller]
    fn check(text: &str, want: &[&str]) {
        assert_eq!(flat(text, "", &["/"]), want, "{text}");
    }

    #[track_caller]
    fn check_bad(text: &[u8], want: &str) {
        assert_eq!(
            document(text, &Keys::new("", &["/".to_owned()]), ReadLimits::default()).unwrap_err().to_string(),
            want
        );
    }

    #[test]
    fn maps_and_lists_become_paths() {
        check(r#"{"a": {"b": {"c": "x"}, "d": "y"}}"#, &["/a/b/c=x", "/a/d=y"]);
        check(r#"{"m": [[1, 2], [3]], "n": [{"z": "a"}]}"#, &["/m/0/0=1", "/m/0/1=2", "/m/1/0=3", "/n/0/z=a"]);
        check(r#"{"a":{"b":[1,{"c":"x: y"},"- z"]}}"#, &["/a/b/0=1", "/a/b/1/c=x: y", "/a/b/2=- z"]);
        check(r#"{"none": [], "nothing": {}, "deep": {"x": [{}, []]}}"#, &[]);
        check("{}", &[]);
        check("\u{feff} {\"a\": 1}\n", &["/a=1"]);
    }

    #[test]
    fn scalars_print_as_in_go() {
        let scalar = |json: &str, want: &str| check(&format!("{{\"k\": {json}}}"), &[&format!("/k={want}")]);
        scalar("10.977563108496751", "10.977563108496751");
        scalar("42", "42");
        scalar("-7", "-7");
        scalar("-0", "0");
        scalar("-0.0", "-0");
        scalar("0", "0");
        scalar("9223372036854775807", "9223372036854775807");
        scalar("-9223372036854775808", "-9223372036854775808");
        scalar("18446744073709551615", "18446744073709551615");
        scalar("18446744073709551616", "1.8446744073709552e+19");
        scalar("-9223372036854775809", "-9.223372036854776e+18");
        scalar("0.25", "0.25");
        scalar("1.50", "1.5");
        scalar("1.0", "1");
        scalar("-0.5", "-0.5");
        scalar("1e3", "1000");
        scalar("100000.0", "100000");
        scalar("123456.5", "123456.5");
        scalar("1e6", "1e+06");
        scalar("1234567.5", "1.2345675e+06");
        scalar("1e21", "1e+21");
        scalar("1e100", "1e+100");
        scalar("0.0001", "0.0001");
        scalar("0.00001", "1e-05");
        scalar("0.000001", "1e-06");
        scalar("-2.5e-7", "-2.5e-07");
        scalar("5e-324", "5e-324");
        scalar("0.0", "0");
        scalar("true", "true");
        scalar("false", "false");
        scalar("null", "<nil>");
        scalar("\"\"", "");
        scalar("\"007\"", "007");
        scalar(r#""\u00e9\t|\"q\"\\""#, "é\t|\"q\"\\");
        scalar(r#""smile \ud83d\ude00""#, "smile 😀");
    }

    #[test]
    fn names_may_hold_slashes_and_dots() {
        check(
            r#"{"/etc/app/name": "a", "top/level": "b", "cleaned//up": "c", "/slash/end/": "d"}"#,
            &["/cleaned/up=c", "/etc/app/name=a", "/slash/end=d", "/top/level=b"],
        );
        check(r#"{"a": {"../b": 1, ".": 2}}"#, &["/a=2", "/b=1"]);
        check(r#"{"": 1, "a": {"": 2, "b": {"": {"c": 3}}}}"#, &["/=1", "/a=2", "/a/b/c=3"]);
        check(r#"{"with space": 1, "ünï": 2, "100%": 3}"#, &["/100%=3", "/with space=1", "/ünï=2"]);
        // Two places may have one key: the nested one overrides the other, in any order.
        check(r#"{"a": {"b": "nested"}, "a/b": "flat"}"#, &["/a/b=nested"]);
        check(r#"{"a/b": "flat", "a": {"b": "nested"}}"#, &["/a/b=nested"]);
    }

    #[test]
    fn the_later_of_two_equal_names_wins_as_a_whole() {
        check(r#"{"a": 1, "a": 2}"#, &["/a=2"]);
        check(r#"{"a": {"x": 1, "y": {"z": 1}}, "ab": 1, "a": {"y": 2}}"#, &["/a/y=2", "/ab=1"]);
        check(r#"{"a": {"x": 1}, "a": "s"}"#, &["/a=s"]);
        check(r#"{"a": "s", "a": {"x": 1}}"#, &["/a/x=1"]);
        check(r#"{"a": {"x": 1}, "a": {}}"#, &[]);
        check(r#"{"a": [1, 2, 3], "a": [4]}"#, &["/a/0=4"]);
        check(r#"{"a/b": 0, "a": {"c": 1}, "a": {"d": 1}}"#, &["/a/b=0", "/a/d=1"]);
    }

    #[test]
    fn only_what_keys_and_prefix_want() {
        let text = r#"{"app": {"x": 1, "y": {"z": 2}}, "app2": {"x": 3}, "/app/w": 4}"#;
        assert_eq!(flat(text, "", &["/app"]), ["/app/w=4", "/app/x=1", "/app/y/z=2", "/app2/x=3"]);
        assert_eq!(flat(text, "", &["/app/y", "/app2"]), ["/app/y/z=2", "/app2/x=3"]);
        assert_eq!(flat(text, "/app", &["/"]), ["/w=4", "/x=1", "/y/z=2"]);
        assert_eq!(flat(text, "/app", &["/y", "/x"]), ["/x=1", "/y/z=2"]);
        assert_eq!(flat(text, "/none", &["/"]), [""; 0]);
        assert_eq!(flat(text, "", &[]), [""; 0]);
    }

    #[test]
    fn yaml_becomes_paths_too() {
        check("a:\n  b: [x, {c: z}]\n  d: |\n    two\n    lines\n", &["/a/b/0=x", "/a/b/1/c=z", "/a/d=two\nlines\n"]);
        check("\u{feff}a: 1\n", &["/a=1"]);
        check("{\"a\": 1,}", &["/a=1"]);
        check("a: {}\nb: []\nc:\n", &["/c=<nil>"]);
        check("a: 1\n---\nb: 2\n", &["/a=1"]);
        check("base: &b {u: 1, v: 2}\napp:\n  <<: *b\n  v: 3\n", &["/app/u=1", "/app/v=3", "/base/u=1", "/base/v=2"]);
        check("a: {u: 1, v: 2}\na: {v: 3}\n", &["/a/v=3"]);
        check(
            "1: i\n2.5: f\nyes: b\n~: z\n2024-01-02: d\n",
            &["/1=i", "/2.5=f", "/2024-01-02=d", "/<nil>=z", "/true=b"],
        );
        check("a: !!binary /w==\n", &["/a=\u{fffd}"]);
    }

    #[test]
    fn yaml_scalars_print_as_in_go() {
        let scalar = |yaml: &str, want: &str| check(&format!("k: {yaml}\n"), &[&format!("/k={want}")]);
        scalar("yes", "true");
        scalar("Off", "false");
        scalar("017", "15");
        scalar("0x1F", "31");
        scalar("1_000", "1000");
        scalar("1e3", "1000");
        scalar("1e6", "1e+06");
        scalar("1e21", "1e+21");
        scalar("08", "8");
        scalar(".5", "0.5");
        scalar(".inf", "+Inf");
        scalar("-.inf", "-Inf");
        scalar(".nan", "NaN");
        scalar("~", "<nil>");
        scalar("", "<nil>");
        scalar("12:30", "12:30");
        scalar("2024-01-02", "2024-01-02");
        scalar("18446744073709551615", "18446744073709551615");
        scalar("'017'", "017");
        scalar("\"yes\"", "yes");
        scalar("1.2.3", "1.2.3");
    }

    #[test]
    fn what_cannot_be_read_is_an_error_with_its_place() {
        check_bad(b"a: 1\n  b: 2\n", "2:4: mapping values are not allowed in this context");
        check_bad(b"a: \"open\n", "1:4: found no end of the quoted scalar that begins here");
        check_bad(b"a: *nobody\n", "1:4: found no anchor `nobody` before the alias");
        check_bad(b"a: \"\xff\"", "1:5: not UTF-8");
        check_bad("\u{e9}: a\0b\n".as_bytes(), "1:5: control characters must be escaped in double quotes");
        check_bad(b"a: 1\n? [b]\n: 2\n", "2:5: a list cannot be a key");
        check_bad(b"a: !!int x\n", "1:4: cannot read the value as a !!int");
        for nothing in ["", "\n", " ", "# nothing but a comment\n", "---\n", "--- # a\n...\n", "null", "~", "\u{feff}"]
        {
            let want = "1:1: expected a map at the top, found nothing; `{}` means that there are no keys";
            check_bad(nothing.as_bytes(), want);
        }
        check("{}", &[]);
        check("--- {} # none\n", &[]);
        check_bad(b"{\"a\": 1, \"b", "1:10: found no end of the quoted scalar that begins here");
        check_bad(b"{\"a\": [1,", "1:10: did not find expected node content in a flow node");
        check_bad(b"[1]", "1:1: expected a map at the top, found a list");
        check_bad(b"\n 5", "1:1: expected a map at the top, found a value");
    }

    #[test]
    fn nesting_has_an_end() {
        let deep = |levels: usize| format!("{}1{}", "{\"a\":".repeat(levels), "}".repeat(levels));
        for levels in [127, 128, yaml::DEPTH] {
            assert_eq!(flat(&deep(levels), "", &["/"]), [format!("{}=1", "/a".repeat(levels))]);
        }
        check_bad(deep(yaml::DEPTH + 1).as_bytes(), "1:1001: nested deeper than 200 levels");
        assert!(document(deep(100_000).as_bytes(), &Keys::new("", &["/".to_owned()]), ReadLimits::default()).is_err());
    }

    #[test]
    fn what_aliases_repeat_has_an_end() {
        let next = |n: usize| format!("b{n}: &b{n} [{}]\n", format!("*b{},", n - 1).repeat(10));
        let laughs: String = (1..12).map(next).collect();
        let text = format!("b0: &b0 lol\n{laughs}");
        let error = document(text.as_bytes(), &Keys::new("", &["/".to_owned()]), ReadLimits::default()).unwrap_err();
        assert_eq!(error.why, format!("the document takes more than {} bytes", TREE + TREE_PER_BYTE * text.len()));
    }

    #[test]
    fn keys_and_their_bytes_have_an_end() {
        let fault = |text: &str, max_keys, max_decoded| {
            let limits = ReadLimits { max_keys, max_decoded };
            document(text.as_bytes(), &Keys::new("", &["/".to_owned()]), limits)
                .map(drop)
                .map_err(|bad| bad.to_string())
        };
        let json = r#"{"a": 1, "b": {"c": 22}}"#;
        let yaml = "a: 1\nb: {c: 22}\n";
        for (text, place) in [(json, "1:22"), (yaml, "1:1")] {
            assert_eq!(fault(text, 2, 9), Ok(()), "{text}");
            let why = "more than 1 key: raise `max_keys` of the backend";
            assert_eq!(fault(text, 1, 90), Err(format!("{place}: {why}")), "{text}");
            let why = "keys and values of more than 8 bytes: raise `max_decoded` of the backend";
            assert_eq!(fault(text, 2, 8), Err(format!("{place}: {why}")), "{text}");
        }
        // No tree is built beyond the limit.
        let many: String = (0..10_000).map(|n| format!("k{n}: x\n")).collect();
        let error = fault(&many, 10, 1000).unwrap_err();
        assert!(
            error.ends_with("takes more than 6376 bytes: raise `max_keys` and `max_decoded` of the backend"),
            "{error}"
        );
    }
}
