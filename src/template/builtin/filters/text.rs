//! Filters on text: case, width, words, lines and encodings. Characters are those of UTF-8; other bytes stay
//! unchanged.

use base64::Engine;
use base64::prelude::BASE64_STANDARD;

use crate::store::path;
use crate::template::builtin::env::Env;
use crate::template::value::Value;
use crate::template::value::bounded::Text;
use crate::template::value::printf;
use crate::template::value::runes;
use crate::template::value::search;

/// The filter `upper`: each character in upper case, as one character (Unicode's simple mapping, which Go uses).
pub fn upper(env: &Env, value: &Value, _: &Value) -> Result<Value, String> {
    mapped(env, value, to_upper)
}

/// The filter `lower`: each character in lower case, as one character (Unicode's simple mapping, which Go uses).
pub fn lower(env: &Env, value: &Value, _: &Value) -> Result<Value, String> {
    mapped(env, value, to_lower)
}

/// Makes the first letter of each word a capital and all others small. Values other than texts give nothing.
pub fn title(env: &Env, value: &Value, _: &Value) -> Result<Value, String> {
    let Value::Str(_) = value else {
        return Ok(Value::str(""));
    };
    let mut in_word = false;
    mapped(env, value, |c| {
        let first = !std::mem::replace(&mut in_word, !separates(c));
        if first { to_title(to_lower(c)) } else { to_lower(c) }
    })
}

/// Values other than texts and lists give the empty text, as recorded.
pub fn capfirst(env: &Env, value: &Value, _: &Value) -> Result<Value, String> {
    if value.is_empty() {
        return Ok(Value::str(""));
    }
    let mut first = true;
    mapped(env, value, |c| if std::mem::take(&mut first) { to_upper(c) } else { c })
}

/// A text with each character replaced by another one.
fn mapped(env: &Env, value: &Value, mut map: impl FnMut(char) -> char) -> Result<Value, String> {
    let mut out = Text::new(&env.meter);
    for rune in runes::runes(&value.text()) {
        match runes::decode(rune) {
            Some(c) => out.push(map(c).encode_utf8(&mut [0; 4]).as_bytes())?,
            None => out.push(rune)?,
        }
    }
    Ok(out.into_value())
}

/// The capital as one character (Unicode's simple mapping, which Go uses): `ß` stays.
fn to_upper(c: char) -> char {
    let mut upper = c.to_uppercase();
    match (upper.next(), upper.next(), c) {
        (Some(upper), None, _) => upper,
        // Greek letters with an iota below have capitals of their own; Rust returns two characters.
        (.., '\u{1f80}'..='\u{1faf}') => char::from_u32(u32::from(c) | 8).unwrap_or(c),
        (.., '\u{1fb3}' | '\u{1fc3}' | '\u{1ff3}') => char::from_u32(u32::from(c) + 9).unwrap_or(c),
        _ => c,
    }
}

/// The letter at the beginning of a word. It differs from the capital for characters of two letters, and in Georgian.
fn to_title(c: char) -> char {
    match c {
        'Ǆ'..='ǆ' => 'ǅ',
        'Ǉ'..='ǉ' => 'ǈ',
        'Ǌ'..='ǌ' => 'ǋ',
        'Ǳ'..='ǳ' => 'ǲ',
        'ა'..='ჿ' => c,
        _ => to_upper(c),
    }
}

fn to_lower(c: char) -> char {
    c.to_lowercase().next().unwrap_or(c)
}

/// Whether a character separates words (Go's strings.Title): in ASCII all but letters, digits and `_`, else blanks.
fn separates(c: char) -> bool {
    if c.is_ascii() { !c.is_ascii_alphanumeric() && c != '_' } else { c.is_whitespace() }
}

/// The filter `addslashes`: a backslash before each backslash and quotation mark.
pub fn addslashes(env: &Env, value: &Value, _: &Value) -> Result<Value, String> {
    escaped(env, value, |byte| {
        matches!(byte, b'\\' | b'"' | b'\'').then_some(match byte {
            b'\\' => b"\\\\",
            b'"' => b"\\\"",
            _ => b"\\'",
        })
    })
}

/// A text with some of its bytes replaced.
pub(crate) fn escaped(env: &Env, value: &Value, escape: impl Fn(u8) -> Option<&'static [u8]>) -> Result<Value, String> {
    let text = value.text();
    let mut out = Text::new(&env.meter);
    for piece in runes::pieces(&text) {
        let mut done = 0;
        for (at, byte) in piece.iter().enumerate() {
            if let Some(escape) = escape(*byte) {
                out.push(&piece[done..at])?;
                out.push(escape)?;
                done = at + 1;
            }
        }
        out.push(&piece[done..])?;
    }
    Ok(out.into_value())
}

/// The filter `cut`: the text without any occurrence of the argument.
pub fn cut(env: &Env, value: &Value, argument: &Value) -> Result<Value, String> {
    search::replace(&env.meter, &value.text(), &argument.text(), b"", usize::MAX)
}

/// Centers a text. An odd blank is on the left. Numbers count as empty, as recorded.
pub fn center(env: &Env, value: &Value, argument: &Value) -> Result<Value, String> {
    let blanks = usize::try_from(argument.int()).unwrap_or(0).saturating_sub(value.len());
    if blanks == 0 {
        return Ok(value.clone());
    }
    framed(env, blanks.div_ceil(2), value, blanks / 2)
}

/// The filter `ljust`: appends blanks up to a width in characters. Numbers count as empty, as in `center`.
pub fn ljust(env: &Env, value: &Value, argument: &Value) -> Result<Value, String> {
    let blanks = usize::try_from(argument.int()).unwrap_or(0).saturating_sub(value.len());
    framed(env, 0, value, blanks)
}

fn framed(env: &Env, left: usize, value: &Value, right: usize) -> Result<Value, String> {
    let mut out = Text::new(&env.meter);
    out.fill(b' ', left)?;
    out.push(&value.text())?;
    out.fill(b' ', right)?;
    Ok(out.into_value())
}

/// Aligns to the right. Go remco uses printf, so numbers have their width, and a negative width aligns to the left.
pub fn rjust(env: &Env, value: &Value, argument: &Value) -> Result<Value, String> {
    let format = format!("%{}s", argument.int());
    printf::sprintf(&env.meter, format.as_bytes(), &[Value::Str(value.text())])
}

/// Cuts a text. The three dots count.
pub fn truncatechars(env: &Env, value: &Value, argument: &Value) -> Result<Value, String> {
    let text = value.text();
    let wanted = argument.int();
    let length = usize::try_from(wanted).map_err(|_| format!("cannot shorten to {wanted} characters"))?;
    if length >= runes::count(&text) {
        return Ok(Value::Str(text));
    }
    let (kept, dots): (usize, &[u8]) = if length >= 3 { (length - 3, b"...") } else { (length, b"") };
    let mut out = Text::new(&env.meter);
    out.push(runes::range(&text, 0, kept))?;
    out.push(dots)?;
    Ok(out.into_value())
}

/// The filter `truncatewords`: the first words, with one blank between them, and ` ...` if more words follow. Without a
/// number above 0 the text is empty.
pub fn truncatewords(env: &Env, value: &Value, argument: &Value) -> Result<Value, String> {
    let text = value.text();
    let count = usize::try_from(argument.int()).unwrap_or(0);
    let mut words = runes::words(&text);
    let mut out = Text::new(&env.meter);
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

/// The filter `wordcount`: the number of parts between blanks (Go's strings.Fields).
pub fn wordcount(env: &Env, value: &Value, _: &Value) -> Result<Value, String> {
    Ok(Value::integer(count_words(env, &value.text())? as i64))
}

fn count_words(env: &Env, text: &[u8]) -> Result<usize, String> {
    let mut count = 0;
    for word in runes::words(text) {
        env.meter.charge(word.len() + 1)?;
        count += 1;
    }
    Ok(count)
}

/// Wraps after a number of words. At most one word may remain for the last line, because otherwise Go remco crashes.
pub fn wordwrap(env: &Env, value: &Value, argument: &Value) -> Result<Value, String> {
    let Some(each) = usize::try_from(argument.int()).ok().filter(|each| *each > 0) else {
        return Ok(value.clone());
    };
    let text = value.text();
    let count = count_words(env, &text)?;
    if count % each > 1 {
        return Err(format!("cannot put {count} words into lines of {each}: {} are left over", count % each));
    }
    let mut out = Text::new(&env.meter);
    for (index, word) in runes::words(&text).enumerate() {
        if index > 0 {
            out.push(if index % each == 0 { b"\n" } else { b" " })?;
        }
        out.push(word)?;
    }
    Ok(out.into_value())
}

/// The filter `linenumbers`: each line with its number before it, from `1. ` on. Django pads the numbers to equal
/// width, pongo2 does not.
pub fn linenumbers(env: &Env, value: &Value, _: &Value) -> Result<Value, String> {
    let mut out = Text::new(&env.meter);
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
    let mut out = Text::new(&env.meter);
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

/// The filter `base64` of Go remco: a text in base64 with padding (Go's base64.StdEncoding). Other values stay
/// unchanged.
pub fn base64(env: &Env, value: &Value, _: &Value) -> Result<Value, String> {
    let Value::Str(text) = value else {
        return Ok(value.clone());
    };
    let mut out = Text::new(&env.meter);
    // Three bytes become four characters, so pieces of a multiple of three bytes can be joined.
    for piece in text.chunks(3 * 1024) {
        out.push(BASE64_STANDARD.encode(piece).as_bytes())?;
    }
    Ok(out.into_value())
}

/// Decodes base64. Ignores line ends, as Go does.
pub fn base64decode(env: &Env, value: &Value, _: &Value) -> Result<Value, String> {
    let Value::Str(text) = value else {
        return Ok(value.clone());
    };
    // The copies: without line ends, decoded, and the value.
    let _held = env.meter.room_for(3 * text.len())?;
    let text: Vec<u8> = text.iter().copied().filter(|byte| !matches!(byte, b'\r' | b'\n')).collect();
    match BASE64_STANDARD.decode(text) {
        Ok(bytes) => Ok(Value::str(bytes)),
        Err(error) => Err(format!("cannot decode: {}", error.to_string().to_lowercase())),
    }
}

/// The last name of a path (Go's path.Base).
pub fn base(env: &Env, value: &Value, _: &Value) -> Result<Value, String> {
    let Value::Str(text) = value else {
        return Ok(value.clone());
    };
    let _held = env.meter.room_for(text.len())?;
    let end = text.iter().rposition(|byte| *byte != b'/').map_or(0, |last| last + 1);
    let start = text[..end].iter().rposition(|byte| *byte == b'/').map_or(0, |slash| slash + 1);
    Ok(Value::str(match &text[start..end] {
        b"" if text.is_empty() => b".",
        b"" => b"/",
        name => name,
    }))
}

/// A path without its last name, cleaned (Go's path.Dir).
pub fn dir(env: &Env, value: &Value, _: &Value) -> Result<Value, String> {
    let Value::Str(text) = value else {
        return Ok(value.clone());
    };
    // The parts of a path, the clean path, and the value.
    let _held = env.meter.room_for(24 * text.len())?;
    let end = text.iter().rposition(|byte| *byte == b'/').map_or(0, |slash| slash + 1);
    Ok(Value::str(path::clean(&text[..end])))
}

#[cfg(test)]
mod tests {
    use crate::template::fixture::{Variables, check, env, eval, fails};

    #[test]
    fn cases() {
        check("'mixed Case-text 1a'|upper", "MIXED CASE-TEXT 1A");
        check("'straße éa'|upper", "STRAßE ÉA");
        check("'ÀÉÎ İ'|lower", "àéî i");
        check("true|upper", "TRUE");
        check("'hello wORLD foo-bar it\\'s x2y a_b'|title", "Hello World Foo-Bar It'S X2y A_b");
        check("'élan vital'|title", "Élan Vital");
        check("'ǆ ǉ ǌ ǳ Ǆ'|title", "ǅ ǈ ǋ ǲ ǅ");
        check("'ǆ ǳ ᾀ ᾧ ᾳ ῃ ῳ ŉ ﬁ ა'|upper", "Ǆ Ǳ ᾈ ᾯ ᾼ ῌ ῼ ŉ ﬁ Ა");
        check("'ᾀ ა Ა ı İ ς Σ'|title", "ᾈ ა ა I I Σ Σ");
        check("'ᾈ Ა Σ ẞ K Å'|lower", "ᾀ ა σ ß k å");
        check("'ǆ'|capfirst", "Ǆ");
        check("5|title", "");
        check("'éclair'|capfirst", "Éclair");
        check("''|capfirst", "");
        check("5|capfirst", "");
        check("'%d items'|cut:'%d '|title", "Items");
    }

    #[test]
    fn bytes_that_are_no_text_stay() {
        for filter in ["upper", "lower", "title", "capfirst", "addslashes", "ljust:1", "cut:'x'", "phone2numeric"] {
            let value = eval(&env(), &Variables::new(), &format!("getv('/raw')|{filter}")).unwrap();
            assert_eq!(*value.text(), *b"\xff\xfe", "{filter}");
        }
        check("getv('/raw')|urlencode", "%FF%FE");
        check("getv('/raw')|base64", "//4=");
    }

    #[test]
    fn cutting() {
        check("'a-b-c'|cut:'-'", "abc");
        check("'aaa'|cut:'a'", "");
        check("'abc'|cut:''", "abc");
        check("12321|cut:'2'", "131");
        check("'banana'|cut:'an'", "ba");
    }

    #[test]
    fn slashes() {
        check(r#"'it\'s "q" \\'|addslashes"#, r#"it\'s \"q\" \\"#);
        check("5|addslashes", "5");
    }

    #[test]
    fn widths() {
        check("'ab'|ljust:5|add:'|'", "ab   |");
        check("'ab'|rjust:5", "   ab");
        check("'ab'|center:5|add:'|'", "  ab |");
        check("'ab'|center:6|add:'|'", "  ab  |");
        check("'abcdef'|ljust:3", "abcdef");
        check("'abcdef'|rjust:3", "abcdef");
        check("'abcdef'|center:3", "abcdef");
        check("'é'|rjust:3", "  é");
        check("'x'|center:'4'|add:'|'", "  x |");
        check("'ab'|rjust:0", "ab");
        check("5|ljust:3|add:'|'", "5   |");
        check("5|rjust:3", "  5");
        check("5|center:5|add:'|'", "   5  |");
        check("'ab'|rjust:'-4'|add:'|'", "ab  |");
    }

    #[test]
    fn shortening() {
        check("'configuration'|truncatechars:8", "confi...");
        check("'configuration'|truncatechars:13", "configuration");
        check("'configuration'|truncatechars:3", "...");
        check("'configuration'|truncatechars:2", "co");
        check("'configuration'|truncatechars:0", "");
        check("'äöüäöü'|truncatechars:5", "äö...");
        check("123456|truncatechars:4", "1...");
        fails("'abc'|truncatechars:'-1'", "cannot shorten to -1 characters");
        check("'one two three four'|truncatewords:2", "one two ...");
        check("'one two three four'|truncatewords:4", "one two three four");
        check("'one two'|truncatewords:0", "");
        check("'  spaced   out  words here '|truncatewords:2", "spaced out ...");
    }

    #[test]
    fn words_and_lines() {
        check("'one two  three'|wordcount", "3");
        check("''|wordcount", "0");
        check("'a b c d e f'|wordwrap:2", "a b\nc d\ne f");
        check("'a b c d'|wordwrap:3", "a b c\nd");
        check("'x y'|wordwrap:0", "x y");
        check("''|wordwrap:3", "");
        fails("'one two three four five'|wordwrap:3", "cannot put 5 words into lines of 3: 2 are left over");
        check("'first\nsecond\n\nthird'|linenumbers", "1. first\n2. second\n3. \n4. third");
        check("''|linenumbers", "1. ");
    }

    #[test]
    fn encodings() {
        check("'a b&c=d/é?x'|urlencode", "a+b%26c%3Dd%2F%C3%A9%3Fx");
        check("'~-_.'|urlencode", "~-_.");
        check("'a b&c=d/é?x'|iriencode", "a+b&c=d/%C3%A9?x");
        check("'<>\"{}'|iriencode", "%3C%3E%22%7B%7D");
        check("'hello'|base64", "aGVsbG8=");
        check("'??>>~~'|base64", "Pz8+Pn5+");
        check("42|base64", "42");
        check("'aGVs\nbG8='|base64decode", "hello");
        check("5|base64decode", "5");
        fails("'aGVsbG8'|base64decode", "cannot decode: invalid padding");
        let decoded = eval(&env(), &Variables::new(), "'//4='|base64decode").unwrap();
        assert_eq!(*decoded.text(), *b"\xff\xfe");
        let long = eval(&env(), &Variables::new(), "'x'|ljust:10000|base64|base64decode|length").unwrap();
        assert_eq!(*long.text(), *b"10000");
    }

    #[test]
    fn telephones() {
        check("'1-800-CALL-now'|phone2numeric", "1-800-2255-669");
        check("'abcdefghijklmnopqrstuvwxyz'|phone2numeric", "22233344455566677778889999");
        check("'(0)30 / Ä!'|phone2numeric", "(0)30 / Ä!");
    }

    #[test]
    fn paths() {
        let cases = [
            ("/srv/data/file.txt", "file.txt", "/srv/data"),
            ("/srv/data/", "data", "/srv/data"),
            ("/srv/data//", "data", "/srv/data"),
            ("relative/x", "x", "relative"),
            ("file", "file", "."),
            ("/", "/", "/"),
            ("///", "/", "/"),
            (".", ".", "."),
            ("..", "..", "."),
            ("a/", "a", "a"),
            ("a/b/../c", "c", "a"),
            ("./x", "x", "."),
            ("//x", "x", "/"),
            ("/a//b", "b", "/a"),
            ("", ".", "."),
        ];
        for (path, base, dir) in cases {
            check(&format!("'{path}'|base"), base);
            check(&format!("'{path}'|dir"), dir);
        }
        check("5|base", "5");
        check("undefined|dir", "");
    }
}
