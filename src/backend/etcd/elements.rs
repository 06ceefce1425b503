//! Cuts the objects out of the lists of one name in a JSON text that arrives in pieces, so that each object can be
//! parsed as soon as it is complete. The rest is a small JSON text with a zero in the place of each object. Knows only
//! JSON's brackets and strings.

use serde::Deserialize;
use serde::de::{Deserializer, Error as _};

use crate::backend::json::{Json, Quoted};
use crate::backend::unreadable::Unreadable;

/// The replacement of an object that was cut out.
const PLACE: u8 = b'0';

/// Cuts out the objects in the lists of one name. An object with such a list inside stays in the rest, and only the
/// inner objects are cut out.
pub struct Elements {
    name: &'static [u8],
    json: Json,
    /// The brackets that are open.
    open: Vec<Bracket>,
    string: Quoted,
    /// The last string, cut at a length that suffices to compare it with the name.
    last: Vec<u8>,
    /// The incomplete object, and the number of brackets that were open before it.
    object: Vec<u8>,
    outside: Option<usize>,
    rest: Vec<u8>,
    /// The length limit of the rest.
    most: usize,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Bracket {
    Object,
    List,
    /// A list whose objects are cut out.
    Named,
}

/// The zero in the rest.
pub struct Taken;

impl<'de> Deserialize<'de> for Taken {
    fn deserialize<D: Deserializer<'de>>(json: D) -> Result<Taken, D::Error> {
        match u8::deserialize(json)? {
            0 => Ok(Taken),
            _ => Err(D::Error::custom("a number in the place of an object")),
        }
    }
}

impl Elements {
    /// `most`: the limit of the bytes besides the objects.
    pub fn of(name: &'static str, most: usize) -> Elements {
        Elements {
            name: name.as_bytes(),
            json: Json::one(),
            most,
            open: Vec::new(),
            string: Quoted::default(),
            last: Vec::new(),
            object: Vec::new(),
            outside: None,
            rest: Vec::new(),
        }
    }

    /// Takes the next piece, and passes each complete object to `give`.
    ///
    /// # Errors
    /// The bytes are not JSON, or exceed the limit besides the objects, or `give` returned an error.
    pub fn push(
        &mut self,
        piece: &[u8],
        give: &mut dyn FnMut(&[u8]) -> Result<(), Unreadable>,
    ) -> Result<(), Unreadable> {
        let (length, wrong) = self.json.push(piece);
        self.cut(&piece[..length], give)?;
        match wrong {
            Some(why) => Err(Unreadable::Nonsense(why.to_string())),
            None if self.rest.len() > self.most => {
                Err(Unreadable::Nonsense(format!("more than {} bytes beside its keys", self.most)))
            }
            None => Ok(()),
        }
    }

    /// Takes bytes that are JSON so far.
    fn cut(&mut self, piece: &[u8], give: &mut dyn FnMut(&[u8]) -> Result<(), Unreadable>) -> Result<(), Unreadable> {
        // The bytes before `kept` are already stored.
        let (mut at, mut kept) = (0, 0);
        while at < piece.len() {
            if self.string.is_open() {
                at = self.skip_string(piece, at);
                continue;
            }
            let byte = piece[at];
            at += 1;
            match byte {
                b'"' => {
                    self.string.begin();
                    self.last.clear();
                }
                b'{' => {
                    if self.open.last() == Some(&Bracket::Named) {
                        self.keep(&piece[kept..at - 1]);
                        kept = at - 1;
                        self.outside = Some(self.open.len());
                    }
                    self.open.push(Bracket::Object);
                }
                b'[' => {
                    let is_named = self.open.last() == Some(&Bracket::Object) && self.last == self.name;
                    if is_named {
                        // The object around it stays in the rest.
                        self.keep(&piece[kept..at]);
                        kept = at;
                        self.rest.append(&mut self.object);
                        self.outside = None;
                    }
                    self.open.push(if is_named { Bracket::Named } else { Bracket::List });
                }
                b'}' | b']' => {
                    self.open.pop();
                    if byte == b'}' && self.outside == Some(self.open.len()) {
                        self.keep(&piece[kept..at]);
                        kept = at;
                        self.outside = None;
                        self.rest.push(PLACE);
                        let given = give(&self.object);
                        self.object.clear();
                        given?;
                    }
                }
                _ => {}
            }
        }
        self.keep(&piece[kept..]);
        Ok(())
    }

    /// The rest of the text.
    pub fn rest(mut self) -> Vec<u8> {
        self.rest.append(&mut self.object);
        self.rest
    }

    /// Skips to the end of a string, or of the piece.
    fn skip_string(&mut self, piece: &[u8], from: usize) -> usize {
        let rest = &piece[from..];
        let length = self.string.skip(rest);
        // One byte more than the name has is enough to compare them.
        let text = length - usize::from(!self.string.is_open());
        let room = (self.name.len() + 1).saturating_sub(self.last.len());
        self.last.extend_from_slice(&rest[..text.min(room)]);
        from + length
    }

    /// Stores bytes in the object or in the rest.
    fn keep(&mut self, bytes: &[u8]) {
        let place = if self.outside.is_some() { &mut self.object } else { &mut self.rest };
        place.extend_from_slice(bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, objects: &[&str], rest: &str) {
        for size in 1..=text.len() {
            let (mut elements, mut given) = (Elements::of("kvs", 1000), Vec::new());
            let mut give = |object: &[u8]| {
                given.push(String::from_utf8(object.to_vec()).unwrap());
                Ok(())
            };
            for piece in text.as_bytes().chunks(size) {
                elements.push(piece, &mut give).unwrap();
            }
            assert_eq!(given, objects, "{text} in pieces of {size}");
            assert_eq!(String::from_utf8(elements.rest()).unwrap(), rest, "{text} in pieces of {size}");
        }
    }

    #[test]
    fn objects_are_cut_out_of_the_lists_of_one_name() {
        check("{}", &[], "{}");
        check(r#"{"kvs":[]}"#, &[], r#"{"kvs":[]}"#);
        check(r#"{"kvs":[{"a":1}, {}],"b":2}"#, &[r#"{"a":1}"#, "{}"], r#"{"kvs":[0, 0],"b":2}"#);
        check(r#"{"kvs":[{"a":{"b":[{}]}}]}"#, &[r#"{"a":{"b":[{}]}}"#], r#"{"kvs":[0]}"#);
        check(r#"{"x":[{}],"y":{"kvs":3}}"#, &[], r#"{"x":[{}],"y":{"kvs":3}}"#);
        check(r#"{"a":"kvs","b":[{}],"kvsx":[{}]}"#, &[], r#"{"a":"kvs","b":[{}],"kvsx":[{}]}"#);
        check(r#"{"\"kvs":[{}]} "#, &[], r#"{"\"kvs":[{}]} "#);
    }

    #[test]
    fn strings_may_hold_brackets() {
        check(r#"{"kvs":[{"a":"}]\"{"},{"b":"\\"}]}"#, &[r#"{"a":"}]\"{"}"#, r#"{"b":"\\"}"#], r#"{"kvs":[0,0]}"#);
    }

    #[test]
    fn an_object_with_a_list_of_its_own_stays() {
        let text = r#"{"n":{"kvs":[{"a":1},{"d":1,"kvs":[{"b":2},{"kvs":[]}],"e":1}]}}"#;
        check(text, &[r#"{"a":1}"#, r#"{"b":2}"#], r#"{"n":{"kvs":[0,{"d":1,"kvs":[0,{"kvs":[]}],"e":1}]}}"#);
    }

    #[test]
    fn what_is_cut_is_in_the_rest() {
        check(r#"{"kvs":[{"a":"#, &[], r#"{"kvs":[{"a":"#);
    }

    /// An invalid byte ends the parser at once: a large answer is not kept until its end.
    #[test]
    fn what_cannot_be_json_ends_it() {
        let push = |text: &str| {
            let (mut elements, mut given) = (Elements::of("kvs", 20), 0);
            let pushed = elements.push(text.as_bytes(), &mut |_| {
                given += 1;
                Ok(())
            });
            (pushed.unwrap_err().of("etcd"), given, elements.rest().len())
        };
        let nonsense = |words: &str| format!("not an answer of etcd: {words}");
        assert_eq!(push("<html>"), (nonsense("no JSON from byte 1 on"), 0, 0));
        assert_eq!(push(r#"{"kvs":[{},{}x"#), (nonsense("no JSON from byte 14 on"), 2, 11));
        assert_eq!(push(&"[".repeat(200)).0, nonsense("nested deeper than 128 levels"));
        assert_eq!(push(r#"{"header":"of some length"}"#).0, nonsense("more than 20 bytes beside its keys"));
    }
}
