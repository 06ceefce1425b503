//! The messages of the plugin protocol: JSON-RPC 1.0 as in Go's `net/rpc/jsonrpc`, one object for each call and each
//! reply. Sends nothing, and does not know the order of calls.

use std::fmt;

use serde::de::{self, Deserializer, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Serialize};

use crate::backend::json::Quoted;
use crate::backend::redact::Redactor;
use crate::backend::tally::Tally;
use crate::config::ReadLimits;

/// The size limit of a reply, in bytes.
pub const LONGEST: usize = 64 << 20;

/// The number of bytes of an invalid message that are shown.
const SHOWN: usize = 200;

#[derive(Serialize)]
struct Call<'a, P> {
    method: &'a str,
    params: [P; 1],
    id: u64,
}

fn call<P: Serialize>(method: &str, params: P, id: u64) -> Vec<u8> {
    // Writing texts, numbers and lists cannot fail.
    let mut line = serde_json::to_vec(&Call { method, params: [params], id }).unwrap_or_default();
    line.push(b'\n');
    line
}

/// `Plugin.Init`. `config` is JSON.
pub fn init(config: &str, id: u64) -> Vec<u8> {
    format!("{{\"method\":\"Plugin.Init\",\"params\":[{config}],\"id\":{id}}}\n").into_bytes()
}

/// `Plugin.GetValues`. The keys have their prefix.
pub fn get_values(keys: &[String], id: u64) -> Vec<u8> {
    call("Plugin.GetValues", keys, id)
}

/// `Plugin.WatchPrefix`. `index` is its last answer, at first 0.
pub fn watch_prefix(prefix: &str, keys: &[String], index: u64, id: u64) -> Vec<u8> {
    #[derive(Serialize)]
    #[serde(rename_all = "PascalCase")]
    struct Watch<'a> {
        prefix: &'a str,
        opts: Options<'a>,
    }
    #[derive(Serialize)]
    #[serde(rename_all = "PascalCase")]
    struct Options<'a> {
        wait_index: u64,
        keys: &'a [String],
    }
    call("Plugin.WatchPrefix", Watch { prefix, opts: Options { wait_index: index, keys } }, id)
}

/// `Plugin.Close`.
pub fn close(id: u64) -> Vec<u8> {
    call("Plugin.Close", (), id)
}

/// The answer of a plugin.
#[derive(Debug, PartialEq, Eq)]
pub struct Reply {
    /// The number of the call.
    pub id: u64,
    /// The result, or the plugin's error text.
    pub outcome: Result<Answer, String>,
}

/// The result of a call.
#[derive(Debug, PartialEq, Eq)]
pub enum Answer {
    /// The answer of `Plugin.Init`.
    Flag(bool),
    /// The answer of `Plugin.WatchPrefix`.
    Number(u64),
    /// The answer of `Plugin.GetValues`.
    Values(Vec<(String, String)>),
    /// Nothing; for `Plugin.GetValues` no keys.
    Nothing,
}

impl Reply {
    /// Reads one object.
    ///
    /// # Errors
    /// The object is not a reply. The error has the cause, and the beginning of the object if it may be shown.
    pub fn read(message: &[u8], limits: ReadLimits) -> Result<Reply, Nonsense> {
        let mut reader = serde_json::Deserializer::from_slice(message);
        let reply = reader.deserialize_map(ReplyVisitor(limits)).and_then(|reply| reader.end().map(|()| reply));
        reply.map_err(|error| match error.is_data() {
            // The text of this error names the key, and no value.
            true => Nonsense::Described(error.to_string().split(" at line ").next().unwrap_or_default().to_owned()),
            false => Nonsense::Quoted("no JSON", Beginning::of(message)),
        })
    }
}

/// Output of a plugin that is not part of the protocol.
#[derive(Debug, PartialEq, Eq)]
pub enum Nonsense {
    /// A description, which may name a key.
    Described(String),
    /// A description, and the beginning of the output.
    Quoted(&'static str, Beginning),
}

impl Nonsense {
    /// The text for messages: on one line, without the secrets of the plugin.
    pub fn shown(&self, redactor: &Redactor) -> String {
        match self {
            Nonsense::Described(words) => redactor.redact(words),
            Nonsense::Quoted(what, beginning) => format!("{what}: {}", beginning.shown(redactor)),
        }
    }
}

/// The beginning of a message.
#[derive(Debug, PartialEq, Eq)]
pub struct Beginning {
    bytes: Vec<u8>,
    is_cut: bool,
}

impl Beginning {
    /// The beginning of a message, as long as it is shown.
    pub fn of(message: &[u8]) -> Beginning {
        let bytes = &message[..message.len().min(SHOWN)];
        Beginning { bytes: bytes.to_vec(), is_cut: bytes.len() < message.len() }
    }

    fn shown(&self, redactor: &Redactor) -> String {
        // The text is masked before it is cut: a cut secret is found only at the end of the text.
        let text = redactor.redact(String::from_utf8_lossy(&self.bytes).trim());
        format!("`{}`{}", text.escape_debug(), if self.is_cut { "..." } else { "" })
    }
}

struct ReplyVisitor(ReadLimits);

impl<'de> Visitor<'de> for ReplyVisitor {
    type Value = Reply;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a reply")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Reply, A::Error> {
        let (mut id, mut result, mut error) = (None, None, None);
        while let Some(field) = map.next_key::<std::borrow::Cow<'_, str>>()? {
            match &*field {
                "id" => id = map.next_value::<Option<u64>>()?,
                "result" => result = Some(map.next_value_seed(AnswerVisitor(self.0))?),
                "error" => error = map.next_value::<Option<Problem>>()?,
                _ => _ = map.next_value::<de::IgnoredAny>()?,
            }
        }
        let id = id.ok_or_else(|| de::Error::custom("a reply without an `id`"))?;
        Ok(Reply { id, outcome: error.map_or(Ok(result.unwrap_or(Answer::Nothing)), |Problem(words)| Err(words)) })
    }
}

/// An error: a text in Go, an object with a `message` in libraries of other languages.
struct Problem(String);

impl<'de> Deserialize<'de> for Problem {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Problem, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Form {
            Text(String),
            Object { message: String },
            Other(de::IgnoredAny),
        }
        Ok(Problem(match Form::deserialize(deserializer)? {
            Form::Text(words) | Form::Object { message: words } => words,
            Form::Other(_) => "an error without words".to_owned(),
        }))
    }
}

#[derive(Clone, Copy)]
struct AnswerVisitor(ReadLimits);

impl<'de> de::DeserializeSeed<'de> for AnswerVisitor {
    type Value = Answer;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Answer, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for AnswerVisitor {
    type Value = Answer;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("true, a number that is not negative, or a map of texts")
    }

    fn visit_bool<E>(self, flag: bool) -> Result<Answer, E> {
        Ok(Answer::Flag(flag))
    }

    fn visit_u64<E>(self, number: u64) -> Result<Answer, E> {
        Ok(Answer::Number(number))
    }

    fn visit_unit<E>(self) -> Result<Answer, E> {
        Ok(Answer::Nothing)
    }

    // The default text of serde would show the value.
    fn visit_str<E: de::Error>(self, _: &str) -> Result<Answer, E> {
        Err(de::Error::custom("a `result` that is a text"))
    }

    fn visit_i64<E: de::Error>(self, _: i64) -> Result<Answer, E> {
        Err(de::Error::custom("a `result` that is a negative number"))
    }

    fn visit_f64<E: de::Error>(self, _: f64) -> Result<Answer, E> {
        Err(de::Error::custom("a `result` that is no whole number"))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, _: A) -> Result<Answer, A::Error> {
        Err(de::Error::custom("a `result` that is a list"))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Answer, A::Error> {
        let mut values = Vec::new();
        let mut tally = Tally::new(self.0);
        while let Some(key) = map.next_key::<String>()? {
            let value = map.next_value::<Text>()?;
            let Text(Some(value)) = value else {
                return Err(de::Error::custom(format!("the value of `{}` is no text", key.escape_debug())));
            };
            tally.add(key.as_bytes(), value.as_bytes()).map_err(de::Error::custom)?;
            values.push((key, value));
        }
        Ok(Answer::Values(values))
    }
}

/// A text; `None`: another type.
struct Text(Option<String>);

impl<'de> Deserialize<'de> for Text {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Text, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Form {
            Text(String),
            Other(de::IgnoredAny),
        }
        Ok(match Form::deserialize(deserializer)? {
            Form::Text(text) => Text(Some(text)),
            Form::Other(_) => Text(None),
        })
    }
}

/// Cuts output into objects, independent of line ends.
#[derive(Default)]
pub struct Framer {
    kept: Vec<u8>,
    /// The number of bytes that were scanned.
    seen: usize,
    depth: usize,
    string: Quoted,
}

impl Framer {
    /// Takes a piece, and passes each complete object to `take`.
    ///
    /// # Errors
    /// There are other bytes between objects, or an object is too long.
    pub fn push(&mut self, piece: &[u8], mut take: impl FnMut(&[u8])) -> Result<(), Nonsense> {
        self.kept.extend_from_slice(piece);
        let mut begin = 0;
        while self.seen < self.kept.len() {
            if self.string.is_open() {
                self.seen += self.string.skip(&self.kept[self.seen..]);
                continue;
            }
            let byte = self.kept[self.seen];
            self.seen += 1;
            match byte {
                b'"' if self.depth > 0 => self.string.begin(),
                b'{' | b'[' if self.depth > 0 || byte == b'{' => self.depth += 1,
                b'}' | b']' if self.depth > 0 => {
                    self.depth -= 1;
                    if self.depth == 0 {
                        take(&self.kept[begin..self.seen]);
                        begin = self.seen;
                    }
                }
                byte if self.depth == 0 && !byte.is_ascii_whitespace() => {
                    return Err(Nonsense::Quoted("no JSON", Beginning::of(&self.kept[begin..])));
                }
                _ => {}
            }
        }
        self.kept.drain(..begin);
        self.seen -= begin;
        match self.kept.len() > LONGEST {
            true => Err(Nonsense::Described(format!("a reply of more than {LONGEST} bytes"))),
            false => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: ReadLimits = ReadLimits { max_keys: 2, max_decoded: 100 };

    #[test]
    fn calls_are_lines() {
        let check = |call: Vec<u8>, want: &str| assert_eq!(String::from_utf8(call).unwrap(), format!("{want}\n"));
        check(init("{\"a\":1}", 0), r#"{"method":"Plugin.Init","params":[{"a":1}],"id":0}"#);
        check(get_values(&["/a".into()], 1), r#"{"method":"Plugin.GetValues","params":[["/a"]],"id":1}"#);
        check(
            watch_prefix("/p", &["/a".into()], 7, 2),
            r#"{"method":"Plugin.WatchPrefix","params":[{"Prefix":"/p","Opts":{"WaitIndex":7,"Keys":["/a"]}}],"id":2}"#,
        );
        check(close(3), r#"{"method":"Plugin.Close","params":[null],"id":3}"#);
    }

    #[test]
    fn replies_are_read_or_explained() {
        let check = |text: &str, want: Result<Result<Answer, &str>, &str>| {
            let want = want.map(|outcome| Reply { id: 1, outcome: outcome.map_err(str::to_owned) });
            let reply = Reply::read(text.as_bytes(), LIMITS).map_err(|nonsense| nonsense.shown(&Redactor::default()));
            assert_eq!(reply, want.map_err(str::to_owned), "{text}");
        };
        check(r#"{"id":1,"result":true,"error":null}"#, Ok(Ok(Answer::Flag(true))));
        check(r#"{"result":7,"id":1}"#, Ok(Ok(Answer::Number(7))));
        check(r#"{"id":1,"result":null}"#, Ok(Ok(Answer::Nothing)));
        let values = Answer::Values(vec![("/a".into(), "1".into()), ("/b".into(), "\u{e9}".into())]);
        check(r#"{"id":1,"result":{"/a":"1","/b":"\u00e9"}}"#, Ok(Ok(values)));
        check(r#"{"id":1,"result":null,"error":"no store"}"#, Ok(Err("no store")));
        check(r#"{"id":1,"error":{"code":-1,"message":"no"}}"#, Ok(Err("no")));
        check(r#"{"id":1,"error":[5]}"#, Ok(Err("an error without words")));
        check(r#"{"result":true}"#, Err("a reply without an `id`"));
        check(r#"{"id":1,"result":{"/a":"secret","/b":5}}"#, Err("the value of `/b` is no text"));
        check(r#"{"id":1,"result":{"a":"","b":"","c":""}}"#, Err("more than 2 keys: raise `max_keys` of the backend"));
        check(r#"{"id":1,"result":tru}"#, Err(r#"no JSON: `{\"id\":1,\"result\":tru}`"#));
        check(r#"{"id":1,"result":"secret"}"#, Err("a `result` that is a text"));
        check(r#"{"id":1,"result":-5}"#, Err("a `result` that is a negative number"));
        check(r#"{"id":1,"result":[1]}"#, Err("a `result` that is a list"));
    }

    #[test]
    fn objects_are_found_however_they_arrive() {
        let text = br#" {"a":"}\"{"}{"b":[{}]}
  {
"c": 1 }"#;
        for size in 1..text.len() {
            let (mut framer, mut all) = (Framer::default(), Vec::new());
            for piece in text.chunks(size) {
                framer
                    .push(piece, |object| all.push(String::from_utf8(object.trim_ascii().to_vec()).unwrap()))
                    .unwrap();
            }
            assert_eq!(all, [r#"{"a":"}\"{"}"#, r#"{"b":[{}]}"#, "{\n\"c\": 1 }"]);
        }
        let refused = |bytes: &[u8], redactor: &Redactor| {
            Framer::default().push(bytes, |_| {}).expect_err("it is no reply").shown(redactor)
        };
        let nothing = Redactor::default();
        assert_eq!(refused(b"{}\nhello\n", &nothing), "no JSON: `hello`");
        let long = format!("[{}", "x".repeat(300));
        assert_eq!(refused(long.as_bytes(), &nothing), format!("no JSON: `[{}`...", "x".repeat(199)));
        assert_eq!(refused(&vec![b'{'; LONGEST + 1], &nothing), "a reply of more than 67108864 bytes");
        // The text is cut within the secret.
        let mut redactor = Redactor::default();
        redactor.hide("password", "tr0ub4dor");
        let long = format!("[{}tr0ub4dor", "x".repeat(193));
        assert_eq!(refused(long.as_bytes(), &redactor), format!("no JSON: `[{}<password>`...", "x".repeat(193)));
    }
}
