//! Filters on text: its case, its width, its words and lines, its encodings. Characters are UTF-8's; bytes that are
//! none stay as they are.

use base64::Engine;
use base64::prelude::BASE64_STANDARD;

use crate::store::path;
use crate::template::bounded::Text;
use crate::template::value::Value;
use crate::template::{Env, printf, runes, search};

pub fn upper(env: &Env, value: &Value, _: &Value) -> Result<Value, String> {
    mapped(env, value, to_upper)
}

pub fn lower(env: &Env, value: &Value, _: &Value) -> Result<Value, String> {
    mapped(env, value, to_lower)
}

/// The first letter of each word becomes large and all others small. What is not text gives nothing.
pub fn title(env: &Env, value: &Value, _: &Value) -> Result<Value, String> {
    let Value::Str(_) = value else {
        return Ok(Value::str(""));
    };
    let mut in_word = false;
    mapped(env, value, |c| {
        let first = !std::mem::replace(&mut in_word, !separates(c));
        if first { to_upper(to_lower(c)) } else { to_lower(c) }
    })
}

/// What is no text and no list gives nothing, as recorded.
pub fn capfirst(env: &Env, value: &Value, _: &Value) -> Result<Value, String> {
    if value.is_empty() {
        return Ok(Value::str(""));
    }
    let mut first = true;
    mapped(env, value, |c| if std::mem::take(&mut first) { to_upper(c) } else { c })
}

/// A text with each of its characters replaced by one other.
fn mapped(env: &Env, value: &Value, mut map: impl FnMut(char) -> char) -> Result<Value, String> {
    let mut out = Text::new(&env.limits);
    for rune in runes::runes(&value.text()) {
        match runes::decode(rune) {
            Some(c) => out.push(map(c).encode_utf8(&mut [0; 4]).as_bytes())?,
            None => out.push(rune)?,
        }
    }
    Ok(out.into_value())
}

/// Where that is one character: `ß` stays.
fn to_upper(c: char) -> char {
    let mut upper = c.to_uppercase();
    match (upper.next(), upper.next()) {
        (Some(upper), None) => upper,
        _ => c,
    }
}

fn to_lower(c: char) -> char {
    c.to_lowercase().next().unwrap_or(c)
}

/// What words are separated by (Go's strings.Title): in ASCII all but letters, digits and `_`, else blanks.
fn separates(c: char) -> bool {
    if c.is_ascii() { !c.is_ascii_alphanumeric() && c != '_' } else { c.is_whitespace() }
}

pub fn addslashes(env: &Env, value: &Value, _: &Value) -> Result<Value, String> {
    escaped(env, value, |byte| {
        matches!(byte, b'\\' | b'"' | b'\'').then_some(match byte {
            b'\\' => b"\\\\",
            b'"' => b"\\\"",
            _ => b"\\'",
        })
    })
}

/// A text with some of its bytes written as something else.
pub(super) fn escaped(env: &Env, value: &Value, escape: impl Fn(u8) -> Option<&'static [u8]>) -> Result<Value, String> {
    let text = value.text();
    let mut out = Text::new(&env.limits);
    let mut done = 0;
    for (at, byte) in text.iter().enumerate() {
        if let Some(escape) = escape(*byte) {
            out.push(&text[done..at])?;
            out.push(escape)?;
            done = at + 1;
        }
    }
    out.push(&text[done..])?;
    Ok(out.into_value())
}

pub fn cut(env: &Env, value: &Value, argument: &Value) -> Result<Value, String> {
    search::replace(&env.limits, &value.text(), &argument.text(), b"", usize::MAX)
}

/// An odd blank goes to the left. Numbers count as having no characters, as recorded.
pub fn center(env: &Env, value: &Value, argument: &Value) -> Result<Value, String> {
    let blanks = usize::try_from(argument.int()).unwrap_or(0).saturating_sub(value.len());
    if blanks == 0 {
        return Ok(value.clone());
    }
    framed(env, blanks.div_ceil(2), value, blanks / 2)
}

pub fn ljust(env: &Env, value: &Value, argument: &Value) -> Result<Value, String> {
    let blanks = usize::try_from(argument.int()).unwrap_or(0).saturating_sub(value.len());
    framed(env, 0, value, blanks)
}

fn framed(env: &Env, left: usize, value: &Value, right: usize) -> Result<Value, String> {
    let mut out = Text::new(&env.limits);
    out.fill(b' ', left)?;
    out.push(&value.text())?;
    out.fill(b' ', right)?;
    Ok(out.into_value())
}

/// The original writes it with printf, so numbers count in full and a negative width goes to the other side.
pub fn rjust(env: &Env, value: &Value, argument: &Value) -> Result<Value, String> {
    let format = format!("%{}s", argument.int());
    printf::sprintf(&env.limits, format.as_bytes(), &[Value::Str(value.text())])
}

/// The three dots count.
pub fn truncatechars(env: &Env, value: &Value, argument: &Value) -> Result<Value, String> {
    let text = value.text();
    let wanted = argument.int();
    let length = usize::try_from(wanted).map_err(|_| format!("cannot shorten to {wanted} characters"))?;
    if length >= runes::count(&text) {
        return Ok(Value::Str(text));
    }
    let (kept, dots): (usize, &[u8]) = if length >= 3 { (length - 3, b"...") } else { (length, b"") };
    let mut out = Text::new(&env.limits);
    out.push(runes::range(&text, 0, kept))?;
    out.push(dots)?;
    Ok(out.into_value())
}

pub fn truncatewords(env: &Env, value: &Value, argument: &Value) -> Result<Value, String> {
    let text = value.text();
    let count = usize::try_from(argument.int()).unwrap_or(0);
    let mut words = runes::words(&text);
    let mut out = Text::new(&env.limits);
    for (index, word) in words.by_ref().take(count).enumerate() {
        if index > 0 {
            out.push(b" ")?;
        }
        out.push(word)?;
    }
    if count > 0 && words.next().is_some() {
        out.push(b" ...")?;
    }
    Ok(out.into_value())
}

pub fn wordcount(_: &Env, value: &Value, _: &Value) -> Result<Value, String> {
    Ok(Value::Int(runes::words(&value.text()).count() as i64))
}

/// So many words a line. As in the original, which crashes otherwise, at most one may be left for the last line.
pub fn wordwrap(env: &Env, value: &Value, argument: &Value) -> Result<Value, String> {
    let Some(each) = usize::try_from(argument.int()).ok().filter(|each| *each > 0) else {
        return Ok(value.clone());
    };
    let text = value.text();
    let count = runes::words(&text).count();
    if count % each > 1 {
        return Err(format!("cannot put {count} words into lines of {each}: {} are left over", count % each));
    }
    let mut out = Text::new(&env.limits);
    for (index, word) in runes::words(&text).enumerate() {
        if index > 0 {
            out.push(if index % each == 0 { b"\n" } else { b" " })?;
        }
        out.push(word)?;
    }
    Ok(out.into_value())
}

pub fn linenumbers(env: &Env, value: &Value, _: &Value) -> Result<Value, String> {
    let mut out = Text::new(&env.limits);
    for (index, line) in value.text().split(|byte| *byte == b'\n').enumerate() {
        if index > 0 {
            out.push(b"\n")?;
        }
        out.push(format!("{}. ", index + 1).as_bytes())?;
        out.push(line)?;
    }
    Ok(out.into_value())
}

/// The digits of a telephone's keys.
pub fn phone2numeric(env: &Env, value: &Value, _: &Value) -> Result<Value, String> {
    mapped(env, value, |c| match c.to_ascii_lowercase() {
        'a'..='c' => '2',
        'd'..='f' => '3',
        'g'..='i' => '4',
        'j'..='l' => '5',
        'm'..='o' => '6',
        'p'..='s' => '7',
        't'..='v' => '8',
        'w'..='z' => '9',
        _ => c,
    })
}

/// Go's url.QueryEscape.
pub fn urlencode(env: &Env, value: &Value, _: &Value) -> Result<Value, String> {
    percent_encoded(env, value, b"")
}

/// Like `urlencode`, but characters with a meaning in addresses stay.
pub fn iriencode(env: &Env, value: &Value, _: &Value) -> Result<Value, String> {
    percent_encoded(env, value, b"/#%[]=:;$&()+,!?*@'~")
}

fn percent_encoded(env: &Env, value: &Value, kept: &[u8]) -> Result<Value, String> {
    let mut out = Text::new(&env.limits);
    for byte in value.text().iter() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => out.push(&[*byte])?,
            _ if kept.contains(byte) => out.push(&[*byte])?,
            b' ' => out.push(b"+")?,
            _ => out.push(format!("%{byte:02X}").as_bytes())?,
        }
    }
    Ok(out.into_value())
}

pub fn base64(env: &Env, value: &Value, _: &Value) -> Result<Value, String> {
    let Value::Str(text) = value else {
        return Ok(value.clone());
    };
    let mut out = Text::new(&env.limits);
    // Three bytes become four characters, so pieces that are a multiple of three can be put together.
    for piece in text.chunks(3 * 1024) {
        out.push(BASE64_STANDARD.encode(piece).as_bytes())?;
    }
    Ok(out.into_value())
}

/// Line ends in it do not count, as in Go.
pub fn base64decode(_: &Env, value: &Value, _: &Value) -> Result<Value, String> {
    let Value::Str(text) = value else {
        return Ok(value.clone());
    };
    let text: Vec<u8> = text.iter().copied().filter(|byte| !matches!(byte, b'\r' | b'\n')).collect();
    match BASE64_STANDARD.decode(text) {
        Ok(bytes) => Ok(Value::str(bytes)),
        Err(error) => Err(format!("cannot decode: {}", error.to_string().to_lowercase())),
    }
}

/// The last name of a path (Go's path.Base).
pub fn base(_: &Env, value: &Value, _: &Value) -> Result<Value, String> {
    let Value::Str(text) = value else {
        return Ok(value.clone());
    };
    let end = text.iter().rposition(|byte| *byte != b'/').map_or(0, |last| last + 1);
    let start = text[..end].iter().rposition(|byte| *byte == b'/').map_or(0, |slash| slash + 1);
    Ok(Value::str(match &text[start..end] {
        b"" if text.is_empty() => b".",
        b"" => b"/",
        name => name,
    }))
}

/// A path without its last name, cleaned (Go's path.Dir).
pub fn dir(_: &Env, value: &Value, _: &Value) -> Result<Value, String> {
    let Value::Str(text) = value else {
        return Ok(value.clone());
    };
    let end = text.iter().rposition(|byte| *byte == b'/').map_or(0, |slash| slash + 1);
    Ok(Value::str(path::clean(&text[..end])))
}
