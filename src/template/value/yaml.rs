//! Reads YAML and JSON into values, and writes YAML in the layout of Go's yaml.v3. `crate::yaml` knows the types and
//! the styles of scalars; `json` writes JSON.

use std::cmp::Ordering;
use std::rc::Rc;

use base64::prelude::{BASE64_STANDARD, Engine};

use crate::number::{FloatFormat, format_float};
use crate::store::Bytes;
use crate::template::value::bounded::Text;
use crate::template::value::json;
use crate::template::value::meter::{Hold, Meter, NODE, raised_by};
use crate::template::value::{Data, ListKind, Map, Value};
use crate::yaml::{self, DEPTH, Node, Scalar, Style};

/// Reads a document. Go remco converts YAML 1.1 to JSON first (sigs.k8s.io/yaml), so numbers are floats, keys are texts
/// and infinities do not exist. JSON is read by the JSON parser, which takes a tenth of the time.
pub fn parse(meter: &Meter, text: &[u8]) -> Result<Value, String> {
    if yaml::is_json_alike(text)
        && let Ok(value) = json::parse(meter, text)
    {
        return Ok(value);
    }
    // The tree takes this much memory; a longer text would keep the parser busy for seconds with a single scalar.
    let mut held = meter.room_for(16 * text.len())?;
    held.shrink(16 * text.len());
    let mut refused = None;
    // The tree and the values exist at the same time.
    let mut account = |bytes: usize| match meter.charge(2 * bytes).and_then(|()| held.grow(2 * bytes)) {
        Ok(()) => true,
        Err(why) => {
            refused = Some(why);
            false
        }
    };
    let read = yaml::read_accounted(text, meter.limits().output, &mut account);
    if let Some(refused) = refused {
        return Err(refused);
    }
    let node =
        read.map_err(|fault| format!("cannot parse line {} column {}: {}", fault.line, fault.column, fault.why))?;
    value(&mut held, node)
}

/// The value of a node. The tree does not count the memory of maps.
fn value(held: &mut Hold, node: Node) -> Result<Value, String> {
    Ok(match node {
        Node::Scalar(Scalar::Null) => Value::Nil,
        Node::Scalar(Scalar::Bool(value)) => Value::Bool(value),
        Node::Scalar(Scalar::Int(number)) => Value::Float(number as f64),
        Node::Scalar(Scalar::Uint(number)) => Value::Float(number as f64),
        Node::Scalar(Scalar::Float(number)) if number.is_finite() => Value::Float(number),
        Node::Scalar(Scalar::Float(_)) => return Err("cannot hold an infinity, nor what is not a number".to_owned()),
        Node::Scalar(Scalar::Text(text)) => Value::Str(text),
        Node::List(items) => {
            Value::list(ListKind::Any, items.into_iter().map(|item| value(held, item)).collect::<Result<_, _>>()?)
        }
        Node::Map(entries) => {
            held.build(if entries.is_empty() { 0 } else { NODE })?;
            let entry = |(key, node)| Ok((name(key)?, value(held, node)?));
            Value::map(entries.into_iter().map(entry).collect::<Result<Map, String>>()?)
        }
    })
}

fn name(key: Scalar) -> Result<Bytes, String> {
    match key {
        Scalar::Null => Err("null cannot be a key".to_owned()),
        Scalar::Uint(number) => Err(format!("{number} is too large for a key")),
        Scalar::Float(number) if number.is_finite() => Ok(yaml::print_short_float(number).into_bytes().into()),
        Scalar::Float(number) => Ok(word(number).as_bytes().into()),
        Scalar::Text(_) | Scalar::Bool(_) | Scalar::Int(_) => Ok(key.print()),
    }
}

/// Infinity or NaN in YAML.
fn word(number: f64) -> &'static str {
    match number {
        f64::INFINITY => ".inf",
        f64::NEG_INFINITY => "-.inf",
        _ => ".nan",
    }
}

/// The memory for the conversion of longer texts is held first.
const LONG: usize = 4096;

/// The default indent of entries.
pub const INDENT: i64 = 4;

/// Writes a document. A negative indent is an error.
pub fn write(meter: &Meter, value: &Value, indent: i64) -> Result<Value, String> {
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "it is from 0 to 9")]
    let step = match indent {
        ..0 => return Err(format!("cannot indent by {indent} blanks")),
        0 => INDENT as usize,
        // yaml.v3 replaces an unreasonable indent by this one.
        1 | 10.. => 2,
        _ => indent as usize,
    };
    let start = Writer { out: Text::new(meter), step, depth: 0, column: 0, fresh: true, blank: true };
    let mut writer = start;
    writer.node(value, None, Place::Value)?;
    writer.line(0)?;
    Ok(writer.out.into_value())
}

/// The position of a node.
#[derive(Clone, Copy, PartialEq)]
enum Place {
    /// After the `-` of a list's item.
    Item,
    Value,
}

struct Writer {
    out: Text,
    /// The width of a level.
    step: usize,
    depth: usize,
    column: usize,
    /// Whether the line has only blanks, `-`, `?` and `:`, so that an entry may begin on it.
    fresh: bool,
    /// Whether the last character is a blank, or the text is empty.
    blank: bool,
}

impl Writer {
    /// `indent` is the indent of the list or map around the node.
    fn node(&mut self, value: &Value, indent: Option<usize>, place: Place) -> Result<(), String> {
        match value {
            Value::Nil => self.word(b"null"),
            Value::Bool(b) => self.word(if *b { b"true" } else { b"false" }),
            Value::Int(n, _) => self.word(n.to_string().as_bytes()),
            Value::Float(n) if n.is_finite() => self.word(format_float(*n, FloatFormat::General, None).as_bytes()),
            Value::Float(n) => self.word(word(*n).as_bytes()),
            Value::Str(text) => self.text(text, indent, place),
            Value::List(list) => self.list(&list.items, indent, place),
            Value::Map(map) => self.map(map, indent, place),
            Value::Pair(key, value) => {
                let (key, value) = (Value::Str(key.clone()), Value::Str(value.clone()));
                self.entries(&[(b"key", &key), (b"value", &value)], indent, place)
            }
            Value::Object(object) => match object.data() {
                Data::Value(value) => self.node(&value, indent, place),
                Data::Record(fields) => self.record(&fields, indent, place),
            },
        }
    }

    fn list(&mut self, items: &[Value], indent: Option<usize>, place: Place) -> Result<(), String> {
        if items.is_empty() {
            return self.word(b"[]");
        }
        let inner = self.enter(indent, place)?;
        for item in items {
            self.line(inner)?;
            self.indicator(b"-")?;
            self.node(item, Some(inner), Place::Item)?;
        }
        self.depth -= 1;
        Ok(())
    }

    fn map(&mut self, map: &Map, indent: Option<usize>, place: Place) -> Result<(), String> {
        /// The memory of a key in the two lists.
        const EACH: usize = 96;
        let mut held = self.out.meter().hold();
        for key in map.keys() {
            let bytes = EACH + size_of::<char>() * key.len();
            self.out.meter().charge(bytes)?;
            held.grow(bytes)?;
        }
        let keys = map.keys().map(|key| (String::from_utf8_lossy(key).chars().collect(), key));
        let entries: Vec<_> =
            sorted(self.out.meter(), keys.collect())?.into_iter().map(|(_, key)| (&**key, &map[key])).collect();
        self.entries(&entries, indent, place)
    }

    /// A struct of Go: yaml.v3 writes the names of its fields in lower case.
    fn record(&mut self, fields: &[(&str, Value)], indent: Option<usize>, place: Place) -> Result<(), String> {
        let names: Vec<_> = fields.iter().map(|(name, _)| name.to_ascii_lowercase()).collect();
        let entries: Vec<_> = names.iter().zip(fields).map(|(name, (_, value))| (name.as_bytes(), value)).collect();
        self.entries(&entries, indent, place)
    }

    fn entries(&mut self, entries: &[(&[u8], &Value)], indent: Option<usize>, place: Place) -> Result<(), String> {
        if entries.is_empty() {
            return self.word(b"{}");
        }
        let inner = self.enter(indent, place)?;
        for (key, value) in entries {
            self.line(inner)?;
            if *key == b"<<" {
                // yaml.v3 writes this key without quotes, and readers then merge its value.
                self.word(b"\"<<\":")?;
            } else if is_simple(key) {
                self.text(key, Some(inner), Place::Value)?;
                self.put(b":")?;
            } else {
                self.indicator(b"?")?;
                self.text(key, Some(inner), Place::Value)?;
                self.line(inner)?;
                self.indicator(b":")?;
            }
            self.node(value, Some(inner), Place::Value)?;
        }
        self.depth -= 1;
        Ok(())
    }

    /// The indent of the entries of a list or map that begins.
    fn enter(&mut self, indent: Option<usize>, place: Place) -> Result<usize, String> {
        self.depth += 1;
        if self.depth > DEPTH {
            return Err(format!("cannot write values nested deeper than {DEPTH} levels as YAML"));
        }
        Ok(indent.map_or(0, |indent| self.below(indent, place)))
    }

    /// An item continues two columns behind its `-`, everything else at the next multiple of the width.
    fn below(&self, indent: usize, place: Place) -> usize {
        match place {
            Place::Item => indent + 2,
            Place::Value => self.step * (indent / self.step + 1),
        }
    }

    /// The indent of a text's further lines.
    fn inner(&self, indent: Option<usize>, place: Place) -> usize {
        indent.map_or(self.step, |indent| self.below(indent, place))
    }

    fn text(&mut self, text: &[u8], indent: Option<usize>, place: Place) -> Result<(), String> {
        match std::str::from_utf8(text) {
            Ok(_) if text.len() > LONG && self.out.meter().room_for(12 * text.len()).is_err() => {
                Err(format!("cannot write a text of {} bytes as YAML; {}", text.len(), raised_by("template_memory")))
            }
            Ok(text) => match yaml::style(text) {
                Style::Plain => self.word(text.as_bytes()),
                Style::Single => self.word(yaml::single_quoted(text, self.inner(indent, place)).as_bytes()),
                Style::Double => self.word(yaml::double_quoted(text).as_bytes()),
                Style::Literal => self.block(text, indent, place),
            },
            Err(_) => {
                const WIDTH: usize = 70;
                let _held = self.out.meter().room_for(8 * text.len())?;
                let digits = BASE64_STANDARD.encode(text);
                self.word(b"!!binary")?;
                if digits.len() <= WIDTH {
                    return self.word(digits.as_bytes());
                }
                let lines = digits.as_bytes().chunks(WIDTH);
                let lines: String = lines.map(|line| format!("{}\n", line.escape_ascii())).collect();
                self.block(&lines, indent, place)
            }
        }
    }

    /// A text as lines behind a `|`, with the indent if it is ambiguous, and with a sign unless exactly one line break
    /// ends the text.
    fn block(&mut self, text: &str, indent: Option<usize>, place: Place) -> Result<(), String> {
        let inner = self.inner(indent, place);
        self.word(b"|")?;
        if text.starts_with(|char| matches!(char, ' ' | '\t' | '\n') || yaml::is_separator(char)) {
            // yaml.v3 always writes the width of a level here, which readers refuse if the text is indented less.
            // yaml.v3 also loses a line break at the start, and writes no width before a tab, which readers refuse too.
            self.put((inner - indent.unwrap_or(0)).to_string().as_bytes())?;
        }
        let is_break = |char| char == '\n' || yaml::is_separator(char);
        match text.strip_suffix(is_break) {
            None => self.put(b"-")?,
            Some(rest) if rest.is_empty() || rest.ends_with(is_break) => self.put(b"+")?,
            Some(_) => {}
        }
        self.out.push(b"\n")?;
        for line in text.split_inclusive(is_break) {
            if !line.starts_with(is_break) {
                self.out.fill(b' ', inner)?;
            }
            self.out.push(line.as_bytes())?;
        }
        let has_ended = text.ends_with(is_break);
        (self.column, self.fresh, self.blank) = (if has_ended { 0 } else { inner + 1 }, has_ended, has_ended);
        Ok(())
    }

    /// Moves to the beginning of an entry, on this line if the indent allows it.
    fn line(&mut self, indent: usize) -> Result<(), String> {
        if !self.fresh || self.column > indent || self.column == indent && !self.blank {
            self.out.push(b"\n")?;
            self.column = 0;
        }
        self.out.fill(b' ', indent - self.column)?;
        (self.column, self.fresh, self.blank) = (indent, true, true);
        Ok(())
    }

    /// `-`, `?` or `:` at the start of a line; an entry may follow on it.
    fn indicator(&mut self, sign: &[u8]) -> Result<(), String> {
        let was_fresh = self.fresh;
        self.word(sign)?;
        self.fresh = was_fresh;
        Ok(())
    }

    /// Writes a text with a blank before it.
    fn word(&mut self, word: &[u8]) -> Result<(), String> {
        if !self.blank {
            self.put(b" ")?;
        }
        self.put(word)
    }

    fn put(&mut self, part: &[u8]) -> Result<(), String> {
        self.out.push(part)?;
        self.column += part.len();
        (self.fresh, self.blank) = (false, false);
        Ok(())
    }
}

/// Whether a key fits on one line with its `:`.
fn is_simple(key: &[u8]) -> bool {
    const LONGEST: usize = 128;
    const BINARY: usize = "!!binary".len();
    match std::str::from_utf8(key) {
        Ok(key) => key.len() <= LONGEST && !key.contains(['\n', '\r', '\u{85}', '\u{2028}', '\u{2029}']),
        // One line of base64 is short enough.
        Err(_) => key.len().div_ceil(3) * 4 <= 70 && BINARY + 70 <= LONGEST,
    }
}

type Named<'k> = (Vec<char>, &'k Rc<[u8]>);

/// Keys in the order of yaml.v3. This is no total order (numbers of twenty digits overflow), for which the sort of std
/// may panic. This sort cannot.
fn sorted<'k>(meter: &Meter, mut keys: Vec<Named<'k>>) -> Result<Vec<Named<'k>>, String> {
    if keys.len() < 2 {
        return Ok(keys);
    }
    let right = keys.split_off(keys.len() / 2);
    let (left, right) = (sorted(meter, keys)?, sorted(meter, right)?);
    let mut merged = Vec::with_capacity(left.len() + right.len());
    let (mut left, mut right) = (left.into_iter().peekable(), right.into_iter().peekable());
    while let (Some(a), Some(b)) = (left.peek(), right.peek()) {
        meter.charge(size_of::<Named>() + a.0.len().min(b.0.len()))?;
        let next = if is_less(&b.0, &a.0) { right.next() } else { left.next() };
        merged.extend(next);
    }
    merged.extend(left.chain(right));
    Ok(merged)
}

/// Compares numbers inside texts as numbers. Letters come last, except directly behind a digit.
fn is_less(a: &[char], b: &[char]) -> bool {
    let Some(at) = a.iter().zip(b).position(|(a, b)| a != b) else {
        return a.len() < b.len();
    };
    let is_digit = |char: &char| char.is_ascii_digit();
    let (x, y) = (a[at], b[at]);
    match (x.is_alphabetic(), y.is_alphabetic()) {
        (true, true) => return x < y,
        (false, false) => {}
        (x_is_letter, y_is_letter) => {
            let behind_a_digit = at > 0 && is_digit(&a[at - 1]);
            return if behind_a_digit { x_is_letter } else { y_is_letter };
        }
    }
    // A zero counts only behind other digits of its number.
    let is_inside =
        (x == '0' || y == '0') && a[..at].iter().rev().take_while(|char| is_digit(char)).any(|digit| *digit != '0');
    let number = |text: &[char]| -> (i64, usize) {
        let digits = text[at..].iter().map_while(|char| char.to_digit(10)).map(i64::from);
        let add = |(number, length): (i64, usize), digit| (number.wrapping_mul(10).wrapping_add(digit), length + 1);
        digits.fold((i64::from(is_inside), 0), add)
    };
    match number(a).cmp(&number(b)) {
        Ordering::Equal => x < y,
        order => order.is_lt(),
    }
}

#[cfg(test)]
mod tests;
