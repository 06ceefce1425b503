//! Filters that create, escape and strip HTML, and addresses in text. They do not parse HTML but search for `<` and
//! `>`, as Go remco does.

use std::collections::{BTreeSet, HashMap};

use super::text;
use crate::template::builtin::env::Env;
use crate::template::builtin::pattern::Pattern;
use crate::template::value::Value;
use crate::template::value::bounded::Text;
use crate::template::value::meter::{Hold, Meter};
use crate::template::value::runes;
use crate::template::value::search;

/// The filter `escape`: replaces `& < > " '` by HTML entities, also in a text that is escaped already.
pub fn escape(env: &Env, value: &Value, _: &Value) -> Result<Value, String> {
    text::escaped(env, value, |byte| match byte {
        b'&' => Some(b"&amp;"),
        b'>' => Some(b"&gt;"),
        b'<' => Some(b"&lt;"),
        b'"' => Some(b"&quot;"),
        b'\'' => Some(b"&#39;"),
        _ => None,
    })
}

/// Replaces everything except letters, blanks and slashes by `\uXXXX`, also the two characters `\n` and `\r`.
pub fn escapejs(env: &Env, value: &Value, _: &Value) -> Result<Value, String> {
    let text = value.text();
    let mut out = Text::new(&env.meter);
    let mut runes = runes::runes(&text).peekable();
    while let Some(rune) = runes.next() {
        match runes::decode(rune) {
            None => out.push(rune)?,
            Some('a'..='z' | 'A'..='Z' | ' ' | '/') => out.push(rune)?,
            Some('\\') if runes.next_if_eq(&b"n").is_some() => out.push(b"\\u000A")?,
            Some('\\') if runes.next_if_eq(&b"r").is_some() => out.push(b"\\u000D")?,
            Some(c) => out.push(format!("\\u{:04X}", u32::from(c)).as_bytes())?,
        }
    }
    Ok(out.into_value())
}

/// The filter `linebreaksbr`: replaces each newline by `<br />`.
pub fn linebreaksbr(env: &Env, value: &Value, _: &Value) -> Result<Value, String> {
    search::replace(&env.meter, &value.text(), b"\n", b"<br />", usize::MAX)
}

/// Makes paragraphs, which blank lines separate, and line breaks in them.
pub fn linebreaks(env: &Env, value: &Value, _: &Value) -> Result<Value, String> {
    if value.is_empty() {
        return Ok(value.clone());
    }
    let text = value.text();
    let mut lines = text.split(|byte| *byte == b'\n').peekable();
    let mut out = Text::new(&env.meter);
    let mut open = false;
    while let Some(line) = lines.next() {
        if !std::mem::replace(&mut open, true) {
            out.push(b"<p>")?;
        }
        out.push(line)?;
        match lines.peek() {
            Some(_) if runes::trim(line).is_empty() => {}
            Some(next) if runes::trim(next).is_empty() => {
                out.push(b"</p>")?;
                open = false;
            }
            Some(_) => out.push(b"<br />")?,
            None => {}
        }
    }
    if open {
        out.push(b"</p>")?;
    }
    Ok(out.into_value())
}

/// Removes everything between `<` and `>`.
pub fn striptags(env: &Env, value: &Value, _: &Value) -> Result<Value, String> {
    let text = value.text();
    let mut out = Text::new(&env.meter);
    let mut rest = &text[..];
    while let Some(open) = rest.iter().position(|byte| *byte == b'<')
        && let Some(length) = rest[open..].iter().position(|byte| *byte == b'>')
    {
        out.push(&rest[..open])?;
        rest = &rest[open + length + 1..];
    }
    out.push(rest)?;
    let _held = env.meter.room_for(2 * out.len())?;
    Ok(Value::str(runes::trim(&out.into_bytes())))
}

/// The largest number of names for `removetags`; HTML has few more.
const TAG_NAMES: usize = 100;

/// Removes the named tags, `b,i`. Tags with attributes stay, as recorded. A name may be a pattern.
pub fn removetags(env: &Env, value: &Value, argument: &Value) -> Result<Value, String> {
    let names = argument.text();
    let names: Vec<&[u8]> = names.split(|byte| *byte == b',').collect();
    // Each name needs a pass over the whole text.
    if names.len() > TAG_NAMES {
        return Err(format!("takes at most {TAG_NAMES} names, {} given", names.len()));
    }
    let mut text = value.text();
    for name in names {
        // The pass searches the name behind each `<`.
        env.meter.charge(text.len())?;
        let mut out = Text::new(&env.meter);
        // As in Go remco, a name is a pattern.
        if name.iter().any(|byte| br"\.+*?()|[]{}^$".contains(byte)) {
            let name = String::from_utf8_lossy(name);
            let pattern = Pattern::compile(&format!("</?{name}/?>"))
                .map_err(|problem| format!("malformed pattern `{name}`: {problem}"))?;
            let mut done = 0;
            while let Some((from, to)) = pattern.find(&env.meter, &text, done)? {
                out.push(&text[done..from])?;
                done = to;
            }
            out.push(&text[done..])?;
            text = out.into_bytes();
            continue;
        }
        let mut rest = &text[..];
        while let Some(open) = rest.iter().position(|byte| *byte == b'<') {
            env.meter.charge(name.len())?;
            let tag = tag_length(&rest[open..], name);
            out.push(&rest[..if tag > 0 { open } else { open + 1 }])?;
            rest = &rest[open + tag.max(1)..];
        }
        out.push(rest)?;
        text = out.into_bytes();
    }
    let _held = env.meter.room_for(text.len())?;
    Ok(Value::str(runes::trim(&text)))
}

/// The length of `<name>`, `</name>`, `<name/>` or `</name/>` at the beginning of a text; 0: there is none.
fn tag_length(text: &[u8], name: &[u8]) -> usize {
    let closed = |text: &[u8]| {
        let rest = text.strip_prefix(name)?;
        rest.strip_prefix(b"/>").or(rest.strip_prefix(b">")).map(<[u8]>::len)
    };
    let inner = text.strip_prefix(b"<").unwrap_or(text);
    let rest = inner.strip_prefix(b"/").and_then(closed).or_else(|| closed(inner));
    rest.map_or(0, |rest| text.len() - rest)
}

/// Cuts a text. The three dots count, tags do not. Open tags are closed at the end.
pub fn truncatechars_html(env: &Env, value: &Value, argument: &Value) -> Result<Value, String> {
    let text = value.text();
    let wanted = usize::try_from(argument.int().saturating_sub(3)).unwrap_or(0);
    let mut scan = Html::new(env, &text);
    let mut count = 0;
    while count < wanted && !scan.rest.is_empty() {
        if scan.tag()? {
            continue;
        }
        scan.copy_rune()?;
        count += 1;
    }
    let dots = count >= wanted && count < text.len();
    scan.finish(dots)
}

/// Cuts a text after some words. A word ends at a blank, `.`, `,` or `;` or with the text. Tags and words that end at a
/// tag do not count.
pub fn truncatewords_html(env: &Env, value: &Value, argument: &Value) -> Result<Value, String> {
    let text = value.text();
    let wanted = usize::try_from(argument.int()).unwrap_or(0);
    let mut scan = Html::new(env, &text);
    let mut count = 0;
    while count < wanted && !scan.rest.is_empty() {
        if scan.tag()? {
            continue;
        }
        let mut word = false;
        loop {
            match scan.rest.first() {
                // As recorded, a word that ends at a tag is no word.
                Some(b'<') => word = false,
                Some(_) => match scan.copy_rune()? {
                    b" " | b"." | b"," | b";" => {}
                    _ => {
                        word = true;
                        continue;
                    }
                },
                None => {}
            }
            break;
        }
        count += usize::from(word);
    }
    scan.finish(count >= wanted)
}

/// A text that is being cut, and its open tags.
struct Html<'a> {
    rest: &'a [u8],
    out: Text,
    open: Vec<&'a [u8]>,
    /// The positions of each name in `open`: a closing tag searches the last one.
    places: HashMap<&'a [u8], BTreeSet<usize>>,
    /// The memory of the open tags.
    held: Hold,
}

impl<'a> Html<'a> {
    fn new(env: &Env, text: &'a [u8]) -> Self {
        Html {
            rest: text,
            out: Text::new(&env.meter),
            open: Vec::new(),
            places: HashMap::new(),
            held: env.meter.hold(),
        }
    }

    fn copy_rune(&mut self) -> Result<&'a [u8], String> {
        let rune = runes::runes(self.rest).next().unwrap_or_default();
        self.rest = &self.rest[rune.len()..];
        self.out.push(rune)?;
        Ok(rune)
    }

    /// Copies the next tag, if there is one.
    fn tag(&mut self) -> Result<bool, String> {
        let Some(inner) = self.rest.strip_prefix(b"<") else {
            return Ok(false);
        };
        self.out.push(b"<")?;
        self.rest = inner;
        // A single character behind the last `<` is no tag.
        if inner.len() < 2 {
            return Ok(true);
        }
        let end = inner.iter().position(|byte| *byte == b'>');
        let (tag, rest) = inner.split_at(end.map_or(inner.len(), |end| end + 1));
        let content = &tag[..end.unwrap_or(tag.len())];
        self.rest = rest;
        match content.strip_prefix(b"/") {
            Some(name) => {
                self.close(name);
                for part in [b"/", name, b">"] {
                    self.out.push(part)?;
                }
            }
            None => {
                let name = content.split(|byte| *byte == b' ').next().unwrap_or_default();
                /// The memory of an open tag in the list, the table and the set.
                const OPEN: usize = 256;
                self.held.grow(OPEN)?;
                self.places.entry(name).or_default().insert(self.open.len());
                self.open.push(name);
                self.out.push(tag)?;
            }
        }
        Ok(true)
    }

    /// Closes the last tag of that name. The tag that was opened last gets its position.
    fn close(&mut self, name: &[u8]) {
        let Some(place) = self.places.get_mut(name).and_then(BTreeSet::pop_last) else {
            return;
        };
        let last = self.open.len() - 1;
        if place != last {
            let moved = self.places.entry(self.open[last]).or_default();
            moved.remove(&last);
            moved.insert(place);
        }
        self.open.swap_remove(place);
    }

    fn finish(mut self, dots: bool) -> Result<Value, String> {
        if dots {
            self.out.push(b"...")?;
        }
        for name in self.open.iter().rev() {
            for part in [b"</", *name, b">"] {
                self.out.push(part)?;
            }
        }
        Ok(self.out.into_value())
    }
}

/// Makes links of addresses. With `false` the text of the link is not escaped.
pub fn urlize(env: &Env, value: &Value, argument: &Value) -> Result<Value, String> {
    let titles = match argument {
        Value::Bool(false) => Titles::AsTheyAre,
        _ => Titles::Escaped,
    };
    linked(env, value, titles, 0)
}

/// Makes links of addresses, whose texts have at most this number of bytes.
pub fn urlizetrunc(env: &Env, value: &Value, argument: &Value) -> Result<Value, String> {
    linked(env, value, Titles::Escaped, usize::try_from(argument.int()).unwrap_or(0))
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Titles {
    Escaped,
    AsTheyAre,
}

fn linked(env: &Env, value: &Value, titles: Titles, limit: usize) -> Result<Value, String> {
    let text = value.text();
    let mut out = Text::new(&env.meter);
    let mut done = 0;
    // An address has at least five bytes. Its place in the list takes 16 bytes while the list doubles.
    let _held = env.meter.room_for(7 * text.len())?;
    for (start, end) in addresses(&text) {
        out.push(&text[done..start])?;
        done = end;
        let whole = &text[start..end];
        let address = runes::trim(whole);
        // The memory for the conversion of the address, besides the output.
        let _parts = env.meter.room_for(12 * whole.len())?;
        let url = text::iriencode(env, &Value::str(address), &Value::Nil)?;
        let title = shortened(address, limit);
        let title = match titles {
            Titles::Escaped => escape(env, &Value::str(title), &Value::Nil)?.text(),
            Titles::AsTheyAre => title.into(),
        };
        let url = url.text();
        let scheme: &[u8] = if url.starts_with(b"http") { b"" } else { b"http://" };
        // Several blanks become one.
        let blank = |there: bool| if there { &b" "[..] } else { b"" };
        let parts = [
            blank(whole.starts_with(b" ")),
            b"<a href=\"",
            scheme,
            &url,
            b"\" rel=\"nofollow\">",
            &title,
            b"</a>",
            blank(whole.ends_with(b" ")),
        ];
        for part in parts {
            out.push(part)?;
        }
    }
    out.push(&text[done..])?;
    with_mail_links(env, &out.into_bytes(), limit)
}

/// Mail addresses are searched behind the links and in them.
fn with_mail_links(env: &Env, text: &[u8], limit: usize) -> Result<Value, String> {
    let mut out = Text::new(&env.meter);
    let mut done = 0;
    let _held = env.meter.room_for(7 * text.len())?;
    for (start, end) in mail_addresses(&env.meter, text) {
        let mail = &text[start..end];
        for part in [&text[done..start], b"<a href=\"mailto:", mail, b"\">", &shortened(mail, limit), b"</a>"] {
            out.push(part)?;
        }
        done = end;
    }
    out.push(&text[done..])?;
    Ok(out.into_value())
}

/// The text cut to a number of bytes, with the three dots; 3 and less mean no limit.
fn shortened(text: &[u8], limit: usize) -> Vec<u8> {
    if limit > 3 && text.len() > limit { [&text[..limit - 3], b"..."].concat() } else { text.to_owned() }
}

/// The ranges of addresses with the blanks behind them, as Go remco's pattern finds them: `http://`, `https://` or
/// `www.`, or a name with a well-known ending at the text's start or behind a blank; then everything up to a blank or
/// the text's end, on one line.
fn addresses(text: &[u8]) -> Vec<(usize, usize)> {
    let mut found = Vec::new();
    let mut at = 0;
    // The next blank or line end, searched once for all starts before it.
    let mut stop = 0;
    while at < text.len() {
        let Some(head) = address_head(text, at) else {
            at += 1;
            continue;
        };
        if stop < at + head {
            let rest = &text[at + head..];
            let length = rest.iter().position(|byte| matches!(byte, b' ' | b'\n')).unwrap_or(rest.len());
            stop = at + head + length;
        }
        if text.get(stop) == Some(&b'\n') {
            at += 1;
            continue;
        }
        let end = stop + text[stop..].iter().take_while(|byte| **byte == b' ').count();
        found.push((at, end));
        at = end;
    }
    found
}

/// The length of the beginning of an address.
fn address_head(text: &[u8], at: usize) -> Option<usize> {
    let rest = &text[at..];
    let known: [&[u8]; 3] = [b"http://", b"https://", b"www."];
    if let Some(known) = known.iter().find(|known| rest.starts_with(known)) {
        return Some(known.len());
    }
    let blank = usize::from(rest.starts_with(b" "));
    if blank == 0 && at > 0 {
        return None;
    }
    let is_name = |byte: &&u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-');
    let name = rest[blank..].iter().take_while(is_name).count();
    let endings: [&[u8]; 6] = [b".com", b".net", b".org", b".info", b".biz", b".de"];
    let ending = endings.iter().find(|ending| rest[blank + name..].starts_with(ending))?;
    (name > 0).then_some(blank + name + ending.len())
}

/// The ranges of mail addresses: word, `@`, word, dot and two to four more characters.
fn mail_addresses(meter: &Meter, text: &[u8]) -> Vec<(usize, usize)> {
    let is_word = |byte: &u8| byte.is_ascii_alphanumeric() || *byte == b'_';
    let word = |from: usize| text[from..].iter().take_while(|byte| is_word(byte)).count();
    let mut found = Vec::new();
    let mut done = 0;
    for sign in search::matches(meter, text, b"@") {
        let before = text[done..sign].iter().rev().take_while(|byte| is_word(byte)).count();
        let dot = sign + 1 + word(sign + 1);
        if before == 0 || dot == sign + 1 || text.get(dot) != Some(&b'.') {
            continue;
        }
        let ending = word(dot + 1).min(4);
        if ending >= 2 {
            done = dot + 1 + ending;
            found.push((sign - before, done));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use crate::template::fixture::{check, env, fails};
    use crate::template::value::Value;

    #[test]
    fn escapes() {
        let escaped = "&lt;a href=&quot;x&quot;&gt;Tom &amp; Jerry&#39;s&lt;/a&gt;";
        check(r#"'<a href="x">Tom & Jerry\'s</a>'|escape"#, escaped);
        check("'<'|e|e", "&amp;lt;");
        check("5|escape", "5");
        check("'plain text/path'|escapejs", "plain text/path");
        check("'a<b>&\"c\"'|escapejs", r"a\u003Cb\u003E\u0026\u0022c\u0022");
        check("'\tnl\n\r'|escapejs", r"\u0009nl\u000A\u000D");
        check(r"'a\\n\\r\\t'|escapejs", r"a\u000A\u000D\u005Ct");
        check("'é€😀'|escapejs", r"\u00E9\u20AC\u1F600");
        check("5|escapejs", r"\u0035");
    }

    #[test]
    fn lines() {
        check("'first\nsecond\n\nthird'|linebreaksbr", "first<br />second<br /><br />third");
        check("'first\nsecond\n\nthird'|linebreaks", "<p>first<br />second</p><p>third</p>");
        check("'a\n\n\nb\n'|linebreaks", "<p>a</p><p>b</p><p></p>");
        check("'one'|linebreaks", "<p>one</p>");
        check("''|linebreaks", "");
        check("5|linebreaks", "5");
    }

    #[test]
    fn tags() {
        check("'<p>Hello <b>bold</b> <i>it</i></p>'|striptags", "Hello bold it");
        check("'  <br/> x '|striptags", "x");
        check("'a < b > c'|striptags", "a  c");
        check("'<unclosed'|striptags", "<unclosed");
        check("'<p>Hello <b>bold</b> <i>it</i></p>'|removetags:'b,i'", "<p>Hello bold it</p>");
        check("'<b>x</b><br/>'|removetags:'b'", "x<br/>");
        check("'<b class=1>x</b/>'|removetags:'b'", "<b class=1>x");
        check("' <u>x</u> '|removetags:'u'", "x");
        check("'<></><<u>u>'|removetags:',u,u'", "");
        check("'<h1>x</h1><h3/>'|removetags:'h[12]'", "x<h3/>");
        check("'<b>x</b> <br>'|removetags:'b|i'", ">x> r>");
        fails("'x'|removetags:'h['", "malformed pattern `h[`: a `[` is not closed");
        let many = format!("'x'|removetags:'{}'", ",".repeat(100));
        fails(&many, "takes at most 100 names, 101 given");
    }

    #[test]
    fn shortening() {
        let page = "'<p>one <b>two three</b> four</p>'";
        check(&format!("{page}|truncatewords_html:2"), "<p>one <b>two ...</b></p>");
        check(&format!("{page}|truncatewords_html:9"), "<p>one <b>two three</b> four</p>");
        check("'<p>abcdef <i>ghi</i></p>'|truncatechars_html:8", "<p>abcde...</p>");
        check("'<p>abcdef <i>ghi</i></p>'|truncatechars_html:12", "<p>abcdef <i>gh...</i></p>");
        check("'plain text only'|truncatechars_html:9", "plain ...");
        check("'plain text only'|truncatewords_html:2", "plain text ...");
        check("'<br>a b c'|truncatewords_html:1", "<br>a ...</br>");
        check("'<a><b><c></a>x y'|truncatewords_html:1", "<a><b><c></a>x ...</b></c>");
        check("'<a x=1>b</z>c d'|truncatewords_html:2", "<a x=1>b</z>c d...</a>");
        check("'<b>x</b>yz'|truncatewords_html:1", "<b>x</b>yz...");
        check("'<b>x</b>yz'|truncatewords_html:2", "<b>x</b>yz");
        check("'äöü<b>ß</b>'|truncatewords_html:1", "äöü<b>ß</b>");
        check("'a <'|truncatewords_html:9", "a <");
        check("''|truncatechars_html:9", "");
    }

    #[test]
    fn links() {
        let link = r#"<a href="http://example.com/a?b=c&d=e" rel="nofollow">http://example.com/a?b=c&amp;d=e</a>"#;
        check("'see http://example.com/a?b=c&d=e for more'|urlize", &format!("see {link} for more"));
        check("'www.example.org'|urlize", r#"<a href="http://www.example.org" rel="nofollow">www.example.org</a>"#);
        check("'a  b.com  c'|urlize", r#"a  <a href="http://b.com" rel="nofollow">b.com</a> c"#);
        check("'b.community'|urlize", r#"<a href="http://b.community" rel="nofollow">b.community</a>"#);
        // Not over a line's end, and not if the blank before it belongs to another address.
        check("'www.x.org\ny'|urlize", "www.x.org\ny");
        check("'a.de b.de'|urlize", r#"<a href="http://a.de" rel="nofollow">a.de</a> b.de"#);
        check("'mail ops@example.com now'|urlize", r#"mail <a href="mailto:ops@example.com">ops@example.com</a> now"#);
        check("'a@b@c.dexter'|urlize", r#"a@<a href="mailto:b@c.dext">b@c.dext</a>er"#);
        check("'a@b.c @b.de'|urlize", "a@b.c @b.de");
        check(
            "'http://example.com/long/path'|urlizetrunc:15",
            r#"<a href="http://example.com/long/path" rel="nofollow">http://examp...</a>"#,
        );
        check(
            "'http://x.example/<b>'|urlize",
            r#"<a href="http://x.example/%3Cb%3E" rel="nofollow">http://x.example/&lt;b&gt;</a>"#,
        );
        check(
            "'http://x.example/<b>'|urlize:false",
            r#"<a href="http://x.example/%3Cb%3E" rel="nofollow">http://x.example/<b></a>"#,
        );
        check("'no links'|urlize", "no links");
    }

    #[test]
    fn hostile_texts_take_linear_time() {
        let env = env();
        let call = |filter: &str, text: String, argument: Value| {
            let filter = crate::template::builtin::filters::lookup(filter).unwrap();
            filter.call(&env, &Value::str(text), &argument).unwrap();
        };
        let many = 1 << 14;
        call("urlize", "www.".repeat(many) + "\n", Value::Nil);
        call("urlize", "a@".repeat(many), Value::Nil);
        call("striptags", "<".repeat(many), Value::Nil);
        call("removetags", "<".repeat(many), Value::str("b"));
        call("linebreaks", "\n ".repeat(many), Value::Nil);
        let tags = "<a>".repeat(many) + &"<b>".repeat(many) + &"</a>".repeat(many);
        call("truncatewords_html", tags, Value::integer(1));
        call("truncatewords_html", "<".repeat(many), Value::integer(1));
    }
}
