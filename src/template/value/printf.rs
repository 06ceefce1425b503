//! Go's fmt.Sprintf: its verbs and flags, and the form of each value. A wrong verb or operand is not an error but part
//! of the text, as in Go: `%!d(string=x)`.

use std::rc::Rc;

use crate::number::{self, FloatFormat};
use crate::quote::{can_backquote, printable, quote};
use crate::store::Bytes;
use crate::template::value::bounded::Text;
use crate::template::value::meter::Meter;
use crate::template::value::runes;
use crate::template::value::{Data, IntType, ListKind, Map, Object, Value};

/// The nesting limit of values, which a map that contains itself reaches.
const DEPTH: usize = 200;

/// The limit of widths and precisions, as in Go.
const TOO_LARGE: u32 = 1_000_000;

/// The text of a format and its operands.
pub fn sprintf(meter: &Meter, format: &[u8], operands: &[Value]) -> Result<Value, String> {
    let mut printer = Printer { out: Text::new(meter), flags: Flags::default() };
    Directives::new(format, operands).run(&mut printer)?;
    Ok(printer.out.into_value())
}

/// A value as `%v` shows it.
pub fn plain(meter: &Meter, value: &Value) -> Result<Bytes, String> {
    match value {
        Value::Str(text) => Ok(text.clone()),
        _ => {
            let mut printer = Printer { out: Text::new(meter), flags: Flags::default() };
            printer.value(value, 'v', 0)?;
            Ok(printer.out.into_bytes())
        }
    }
}

/// The state of a format and its operands.
struct Directives<'a> {
    format: &'a [u8],
    at: usize,
    /// The position of the last `]`. No index is searched behind it.
    last_bracket: usize,
    operands: &'a [Value],
    operand: usize,
    /// Whether the format used an index like `[2]`. Unused operands are not reported then.
    reordered: bool,
    /// Whether the indexes of the present verb are valid.
    good_index: bool,
    /// Whether an index was read last.
    after_index: bool,
}

impl<'a> Directives<'a> {
    fn new(format: &'a [u8], operands: &'a [Value]) -> Self {
        Directives {
            format,
            at: 0,
            last_bracket: format.iter().rposition(|byte| *byte == b']').unwrap_or(0),
            operands,
            operand: 0,
            reordered: false,
            good_index: true,
            after_index: false,
        }
    }

    fn run(mut self, printer: &mut Printer) -> Result<(), String> {
        while self.at < self.format.len() {
            let rest = &self.format[self.at..];
            let text = rest.iter().position(|byte| *byte == b'%').unwrap_or(rest.len());
            printer.out.push(&rest[..text])?;
            self.at += text;
            if self.at < self.format.len() {
                self.at += 1;
                self.directive(printer)?;
            }
        }
        self.extra(printer)
    }

    /// Formats the directive behind a `%`.
    fn directive(&mut self, printer: &mut Printer) -> Result<(), String> {
        self.good_index = true;
        self.after_index = false;
        printer.flags = self.flags();
        self.index();
        self.width(printer)?;
        self.precision(printer)?;
        if !self.after_index {
            self.index();
        }
        let Some(rune) = self.format.get(self.at..).and_then(|rest| runes::runes(rest).next()) else {
            return printer.out.push(b"%!(NOVERB)");
        };
        self.at += rune.len();
        // All verbs are ASCII. Other characters are only shown.
        let verb = runes::decode(rune).unwrap_or(char::REPLACEMENT_CHARACTER);
        if verb == '%' {
            return printer.out.push(b"%");
        }
        let problem = if !self.good_index { "(BADINDEX)" } else { "(MISSING)" };
        let Some(operand) = self.operands.get(self.operand).filter(|_| self.good_index) else {
            return printer.out.push(format!("%!{verb}{problem}").as_bytes());
        };
        self.operand += 1;
        if verb == 'v' {
            printer.flags.go_syntax = std::mem::take(&mut printer.flags.sharp);
            printer.flags.field_names = std::mem::take(&mut printer.flags.plus);
        }
        printer.operand(operand, verb)
    }

    fn flags(&mut self) -> Flags {
        let mut flags = Flags::default();
        while let Some(byte) = self.format.get(self.at) {
            match byte {
                b'#' => flags.sharp = true,
                b'0' => flags.zero = !flags.minus,
                b'+' => flags.plus = true,
                b'-' => {
                    flags.minus = true;
                    flags.zero = false;
                }
                b' ' => flags.space = true,
                _ => break,
            }
            self.at += 1;
        }
        flags
    }

    fn width(&mut self, printer: &mut Printer) -> Result<(), String> {
        if self.eat(b'*') {
            self.after_index = false;
            match self.int_operand() {
                Some(width) => {
                    printer.flags.width = usize::try_from(width.unsigned_abs()).ok();
                    if width < 0 {
                        printer.flags.minus = true;
                        printer.flags.zero = false;
                    }
                    Ok(())
                }
                None => printer.out.push(b"%!(BADWIDTH)"),
            }
        } else {
            printer.flags.width = self.number(self.format.len());
            if self.after_index && printer.flags.width.is_some() {
                self.good_index = false;
            }
            Ok(())
        }
    }

    fn precision(&mut self, printer: &mut Printer) -> Result<(), String> {
        if !self.eat(b'.') {
            return Ok(());
        }
        if self.after_index {
            self.good_index = false;
        }
        self.index();
        if self.eat(b'*') {
            self.after_index = false;
            match self.int_operand().map(usize::try_from) {
                Some(Ok(precision)) => printer.flags.precision = Some(precision),
                // A negative precision counts as missing and as invalid.
                _ => return printer.out.push(b"%!(BADPREC)"),
            }
        } else {
            printer.flags.precision = Some(self.number(self.format.len()).unwrap_or(0));
        }
        Ok(())
    }

    fn eat(&mut self, byte: u8) -> bool {
        let found = self.format.get(self.at) == Some(&byte);
        self.at += usize::from(found);
        found
    }

    /// Reads digits before `end`. A number that is too large is invalid and ends the format.
    fn number(&mut self, end: usize) -> Option<usize> {
        let mut number = None;
        while let Some(digit) = self.format[self.at..end].first().filter(|byte| byte.is_ascii_digit()) {
            let so_far = number.unwrap_or(0);
            if so_far as u64 > u64::from(TOO_LARGE) {
                self.at = end;
                return None;
            }
            number = Some(so_far * 10 + usize::from(digit - b'0'));
            self.at += 1;
        }
        number
    }

    /// Reads `[n]`: the number of the next operand, counted from 1.
    fn index(&mut self) {
        self.after_index = false;
        if self.format.get(self.at) != Some(&b'[') {
            return;
        }
        self.reordered = true;
        // A text shorter than `[n]` is not an index either.
        let close = match self.at < self.last_bracket && self.at + 3 <= self.format.len() {
            true => self.format[self.at..].iter().position(|byte| *byte == b']').map(|length| self.at + length),
            false => None,
        };
        self.at += 1;
        let Some(close) = close else {
            self.good_index = false;
            return;
        };
        let number = self.number(close).filter(|_| self.at == close);
        self.at = close + 1;
        self.after_index = number.is_some();
        match number.and_then(|number| number.checked_sub(1)) {
            Some(index) if index < self.operands.len() => self.operand = index,
            _ => self.good_index = false,
        }
    }

    /// The operand of a `*`.
    fn int_operand(&mut self) -> Option<i64> {
        let operand = self.operands.get(self.operand)?;
        self.operand += 1;
        match operand {
            Value::Int(n, _) if n.unsigned_abs() <= u64::from(TOO_LARGE) => Some(*n),
            _ => None,
        }
    }

    /// The operands that no verb used.
    fn extra(&self, printer: &mut Printer) -> Result<(), String> {
        let left = self.operands.get(self.operand..).unwrap_or_default();
        if self.reordered || left.is_empty() {
            return Ok(());
        }
        printer.flags = Flags::default();
        printer.out.push(b"%!(EXTRA ")?;
        for (index, operand) in left.iter().enumerate() {
            if index > 0 {
                printer.out.push(b", ")?;
            }
            printer.with_type(operand, 0)?;
        }
        printer.out.push(b")")
    }
}

#[derive(Clone, Copy, Default)]
struct Flags {
    width: Option<usize>,
    precision: Option<usize>,
    minus: bool,
    plus: bool,
    sharp: bool,
    space: bool,
    zero: bool,
    /// `%#v`
    go_syntax: bool,
    /// `%+v`
    field_names: bool,
}

struct Printer {
    out: Text,
    flags: Flags,
}

impl Printer {
    fn operand(&mut self, value: &Value, verb: char) -> Result<(), String> {
        match verb {
            'T' => self.text(value.dynamic_type().as_bytes()),
            // Only Errorf supports this verb, so Go refuses it before it examines the value.
            'w' => self.bad_verb(value, verb, 0),
            _ => self.value(value, verb, 0),
        }
    }

    fn value(&mut self, value: &Value, verb: char, depth: usize) -> Result<(), String> {
        if depth > DEPTH {
            return Err(format!("cannot print a value nested deeper than {DEPTH} levels"));
        }
        match value {
            Value::Nil if depth > 0 && self.flags.go_syntax => self.out.push(b"interface {}(nil)"),
            // Inside a list or map, nil has one form, whatever the verb.
            Value::Nil if depth > 0 => self.out.push(b"<nil>"),
            Value::Nil if verb == 'v' => self.pad(b"<nil>"),
            Value::Nil => self.bad_verb(value, verb, depth),
            Value::Bool(b) => match verb {
                't' | 'v' => self.pad(if *b { b"true" } else { b"false" }),
                _ => self.bad_verb(value, verb, depth),
            },
            Value::Int(n, int_type) => self.int((*n, *int_type), value, verb, depth),
            Value::Float(n) => self.float(*n, value, verb, depth),
            Value::Str(text) => self.string(text, value, verb, depth),
            Value::List(list) if list.kind == ListKind::NilStrings && self.flags.go_syntax => {
                self.out.push(b"[]string(nil)")
            }
            Value::List(list) => {
                self.sequence(value, ["[", "]"], &list.items, |printer, item| printer.value(item, verb, depth + 1))
            }
            Value::Pair(key, text) => {
                let (key, text) = (Value::Str(key.clone()), Value::Str(text.clone()));
                self.record(value, &[("Key", key), ("Value", text)], verb, depth)
            }
            Value::Map(map) => self.map(value, map, verb, depth),
            Value::Object(object) => self.object(value, &**object, verb, depth),
        }
    }

    fn object(&mut self, value: &Value, object: &dyn Object, verb: char, depth: usize) -> Result<(), String> {
        if let Some(text) = object.text() {
            return match verb {
                'v' | 's' | 'q' | 'x' | 'X' => self.string(&text, value, verb, depth),
                _ => self.bad_verb(value, verb, depth),
            };
        }
        if let Some(map) = object.plain() {
            return self.map(value, &map, verb, depth);
        }
        match object.data() {
            Data::Value(data) => self.value(&data, verb, depth + 1),
            Data::Record(fields) => {
                // Go remco has pointers to its records, except to the one without fields.
                if depth == 0 && !fields.is_empty() {
                    self.out.push(b"&")?;
                }
                self.record(value, &fields, verb, depth)
            }
        }
    }

    fn map(&mut self, value: &Value, map: &Map, verb: char, depth: usize) -> Result<(), String> {
        self.sequence(value, ["map[", "]"], map, |printer, (key, item)| {
            printer.value(&Value::Str(key.clone()), verb, depth + 1)?;
            printer.out.push(b":")?;
            printer.value(item, verb, depth + 1)
        })
    }

    fn record(&mut self, value: &Value, fields: &[(&str, Value)], verb: char, depth: usize) -> Result<(), String> {
        self.sequence(value, ["{", "}"], fields, |printer, (name, field)| {
            if printer.flags.go_syntax || printer.flags.field_names {
                printer.out.push(name.as_bytes())?;
                printer.out.push(b":")?;
            }
            match field {
                Value::Nil => printer.nil_pointer(verb),
                field => printer.value(field, verb, depth + 1),
            }
        })
    }

    /// The nil field of a record. All such fields are pointers to a loop's state.
    fn nil_pointer(&mut self, verb: char) -> Result<(), String> {
        const TYPE: &str = "*pongo2.tagForLoopInformation";
        match verb {
            'v' if self.flags.go_syntax => self.out.push(format!("({TYPE})(nil)").as_bytes()),
            'v' => self.pad(b"<nil>"),
            'b' | 'o' | 'd' | 'x' | 'X' => self.int((0, IntType::Int), &Value::Nil, verb, 0),
            'p' => self.pad(b"0x0"),
            _ => self.out.push(format!("%!{verb}({TYPE}=<nil>)").as_bytes()),
        }
    }

    fn sequence<I: IntoIterator>(
        &mut self,
        value: &Value,
        [open, close]: [&str; 2],
        items: I,
        write: impl Fn(&mut Self, I::Item) -> Result<(), String>,
    ) -> Result<(), String> {
        let (between, close): (&[u8], _) = if self.flags.go_syntax { (b", ", "}") } else { (b" ", close) };
        if self.flags.go_syntax {
            self.out.push(value.type_name().as_bytes())?;
            self.out.push(b"{")?;
        } else {
            self.out.push(open.as_bytes())?;
        }
        for (index, item) in items.into_iter().enumerate() {
            if index > 0 {
                self.out.push(between)?;
            }
            write(self, item)?;
        }
        self.out.push(close.as_bytes())
    }

    /// `%!verb(type=value)`
    fn bad_verb(&mut self, value: &Value, verb: char, depth: usize) -> Result<(), String> {
        self.out.push(format!("%!{verb}(").as_bytes())?;
        self.with_type(value, depth)?;
        self.out.push(b")")
    }

    fn with_type(&mut self, value: &Value, depth: usize) -> Result<(), String> {
        self.out.push(value.dynamic_type().as_bytes())?;
        match value {
            Value::Nil => Ok(()),
            _ => {
                self.out.push(b"=")?;
                self.value(value, 'v', depth)
            }
        }
    }

    fn int(&mut self, n: (i64, IntType), value: &Value, verb: char, depth: usize) -> Result<(), String> {
        let (n, int_type) = n;
        let digits = n.unsigned_abs();
        // `%#v` shows integers without a sign in hexadecimal.
        let hex = verb == 'v' && self.flags.go_syntax && matches!(int_type, IntType::Uint8 | IntType::Uint16);
        let sharp = self.flags.sharp || hex;
        let (digits, prefix) = match verb {
            'v' if hex => (format!("{digits:x}"), "0x"),
            'v' | 'd' => (digits.to_string(), ""),
            'b' => (format!("{digits:b}"), "0b"),
            'o' | 'O' => (format!("{digits:o}"), "0"),
            'x' => (format!("{digits:x}"), "0x"),
            'X' => (format!("{digits:X}"), "0X"),
            'c' => return self.pad(character(n).encode_utf8(&mut [0; 4]).as_bytes()),
            'q' => {
                let quoted = quote(character(n).encode_utf8(&mut [0; 4]).as_bytes(), '\'', self.flags.plus);
                return self.pad(quoted.as_bytes());
            }
            'U' => return self.unicode(n),
            _ => return self.bad_verb(value, verb, depth),
        };
        let sign = match n {
            ..0 => "-",
            _ if self.flags.plus => "+",
            _ if self.flags.space => " ",
            _ => "",
        };
        let least = match (self.flags.precision, self.flags.width) {
            // The value 0 with the precision 0 has no digits.
            (Some(0), width) if n == 0 => return self.out.fill(b' ', width.unwrap_or(0)),
            (Some(precision), _) => precision,
            (None, Some(width)) if self.flags.zero => width.saturating_sub(sign.len()),
            _ => 0,
        };
        let zeros = least.saturating_sub(digits.len());
        let prefix = match verb {
            'O' if !self.flags.sharp || zeros > 0 || digits == "0" => "0o",
            'O' => "0o0",
            'o' if zeros > 0 || digits == "0" => "",
            _ if sharp => prefix,
            _ => "",
        };
        let length = sign.len() + prefix.len() + zeros + digits.len();
        let blanks = self.flags.width.unwrap_or(0).saturating_sub(length);
        self.between(blanks, |out| {
            out.push(sign.as_bytes())?;
            out.push(prefix.as_bytes())?;
            out.fill(b'0', zeros)?;
            out.push(digits.as_bytes())
        })
    }

    /// Pads with blanks on the left or on the right.
    fn between(&mut self, blanks: usize, write: impl Fn(&mut Text) -> Result<(), String>) -> Result<(), String> {
        if self.flags.minus {
            write(&mut self.out)?;
            self.out.fill(b' ', blanks)
        } else {
            self.out.fill(b' ', blanks)?;
            write(&mut self.out)
        }
    }

    /// `%U`
    fn unicode(&mut self, n: i64) -> Result<(), String> {
        let digits = format!("{n:X}");
        let zeros = self.flags.precision.unwrap_or(0).max(4).saturating_sub(digits.len());
        let shown = u32::try_from(n).ok().and_then(char::from_u32).filter(|c| printable(*c));
        let shown = match shown {
            Some(c) if self.flags.sharp => format!(" '{c}'"),
            _ => String::new(),
        };
        let length = 2 + zeros + digits.len() + shown.chars().count();
        let blanks = self.flags.width.unwrap_or(0).saturating_sub(length);
        self.between(blanks, |out| {
            out.push(b"U+")?;
            out.fill(b'0', zeros)?;
            out.push(digits.as_bytes())?;
            out.push(shown.as_bytes())
        })
    }

    fn float(&mut self, n: f64, value: &Value, verb: char, depth: usize) -> Result<(), String> {
        let (format, precision) = match verb {
            'v' | 'g' | 'G' => (FloatFormat::General, None),
            'e' | 'E' => (FloatFormat::Exponent, Some(6)),
            'f' | 'F' => (FloatFormat::Fixed, Some(6)),
            'x' | 'X' => (FloatFormat::Hex, None),
            'b' => (FloatFormat::Binary, None),
            _ => return self.bad_verb(value, verb, depth),
        };
        let precision = self.flags.precision.or(precision);
        let mut text = number::format_float(n.abs(), format, precision);
        if n.is_finite() {
            if self.flags.sharp && verb != 'b' {
                text = with_point(&text, verb, precision);
            }
            if verb.is_ascii_uppercase() {
                text.make_ascii_uppercase();
            }
        }
        let text = text.trim_start_matches('+');
        let sign = match n {
            _ if n.is_sign_negative() && !n.is_nan() => "-",
            _ if self.flags.plus => "+",
            _ if self.flags.space => " ",
            f64::INFINITY => "+",
            _ => "",
        };
        let zeros = match self.flags.width {
            Some(width) if self.flags.zero && n.is_finite() => width.saturating_sub(sign.len() + text.len()),
            _ => 0,
        };
        let blanks = self.flags.width.unwrap_or(0).saturating_sub(sign.len() + zeros + text.len());
        self.between(blanks, |out| {
            out.push(sign.as_bytes())?;
            out.fill(b'0', zeros)?;
            out.push(text.as_bytes())
        })
    }

    fn string(&mut self, text: &Rc<[u8]>, value: &Value, verb: char, depth: usize) -> Result<(), String> {
        match verb {
            'v' if self.flags.go_syntax => self.quoted(text),
            'v' | 's' => self.text(text),
            'q' => self.quoted(text),
            'x' => self.hex(text, b"0123456789abcdefx"),
            'X' => self.hex(text, b"0123456789ABCDEFX"),
            _ => self.bad_verb(value, verb, depth),
        }
    }

    fn text(&mut self, text: &[u8]) -> Result<(), String> {
        let shown = self.truncated(text);
        self.pad(shown)
    }

    fn quoted(&mut self, text: &[u8]) -> Result<(), String> {
        let shown = self.truncated(text);
        if self.flags.sharp && can_backquote(shown) {
            let _held = self.out.meter().room_for(shown.len())?;
            return self.pad(&[b"`", shown, b"`"].concat());
        }
        // A text longer than its width is not padded, so its length need not be counted to the end.
        if shown.len() > 4 * self.flags.width.unwrap_or(0) {
            self.out.push(b"\"")?;
            for piece in runes::pieces(shown) {
                let quoted = quote(piece, '"', self.flags.plus);
                self.out.push(&quoted.as_bytes()[1..quoted.len() - 1])?;
            }
            return self.out.push(b"\"");
        }
        let quoted = quote(shown, '"', self.flags.plus);
        self.pad(quoted.as_bytes())
    }

    /// A precision counts characters.
    fn truncated<'t>(&self, text: &'t [u8]) -> &'t [u8] {
        self.flags.precision.map_or(text, |precision| runes::range(text, 0, precision))
    }

    fn hex(&mut self, text: &[u8], digits: &[u8; 17]) -> Result<(), String> {
        let text = &text[..self.flags.precision.unwrap_or(text.len()).min(text.len())];
        let (sharp, space) = (self.flags.sharp, self.flags.space);
        let prefix: &[u8] = if sharp { &[b'0', digits[16]] } else { b"" };
        let width = match text.len() {
            0 => 0,
            length if space => length * (2 + prefix.len()) + length - 1,
            length => length * 2 + prefix.len(),
        };
        let padding = self.flags.width.unwrap_or(0).saturating_sub(width);
        if !self.flags.minus || text.is_empty() {
            self.padding(padding)?;
        }
        for (index, byte) in text.iter().enumerate() {
            if space && index > 0 {
                self.out.push(b" ")?;
            }
            if space || index == 0 {
                self.out.push(prefix)?;
            }
            self.out.push(&[digits[usize::from(byte >> 4)], digits[usize::from(byte & 15)]])?;
        }
        if self.flags.minus && !text.is_empty() {
            self.padding(padding)?;
        }
        Ok(())
    }

    /// Pads a text to its width, which counts characters.
    fn pad(&mut self, text: &[u8]) -> Result<(), String> {
        let padding = match self.flags.width {
            Some(width) => width.saturating_sub(runes::count(text)),
            None => 0,
        };
        if !self.flags.minus {
            self.padding(padding)?;
        }
        self.out.push(text)?;
        if self.flags.minus {
            self.padding(padding)?;
        }
        Ok(())
    }

    /// The flag 0 pads texts with zeros too.
    fn padding(&mut self, count: usize) -> Result<(), String> {
        self.out.fill(if self.flags.zero { b'0' } else { b' ' }, count)
    }
}

/// The character of a number, as `%c` shows it.
fn character(n: i64) -> char {
    u32::try_from(n).ok().and_then(char::from_u32).unwrap_or(char::REPLACEMENT_CHARACTER)
}

/// Applies the flag # to a float: always a decimal point, and for `%g` zeros up to the precision.
fn with_point(text: &str, verb: char, precision: Option<usize>) -> String {
    let hex = matches!(verb, 'x' | 'X');
    let mut wanted = match verb {
        'v' | 'g' | 'G' | 'x' => precision.unwrap_or(6),
        _ => 0,
    };
    let split = text.find(if hex { ['p', 'P'] } else { ['e', 'E'] }).unwrap_or(text.len());
    let (mantissa, exponent) = text.split_at(split);
    // Digits from the first one that is not 0.
    let significant = mantissa.trim_start_matches(['0', '.']).bytes().filter(|byte| *byte != b'.').count();
    wanted = wanted.saturating_sub(significant);
    let mut out = mantissa.to_owned();
    if !mantissa.contains('.') {
        if mantissa == "0" {
            wanted = wanted.saturating_sub(1);
        }
        out.push('.');
    }
    out.extend(std::iter::repeat_n('0', wanted));
    out + exponent
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::template::fixture::{small, usual};

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
        check(
            "%d|%5d|%-5d|%05d|%+d|% d|",
            &[i(42), i(42), i(42), i(42), i(42), i(42)],
            "42|   42|42   |00042|+42| 42|",
        );
        check(
            "%x|%X|%#x|%o|%#o|%b|%O",
            &[i(255), i(255), i(255), i(8), i(8), i(5), i(8)],
            "ff|FF|0xff|10|010|101|0o10",
        );
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
        check(
            "%5v|%-5v|%05v|%x|%X",
            &[f(1.5), f(1.5), f(1.5), f(2.5), f(2.5)],
            "  1.5|1.5  |001.5|0x1.4p+01|0X1.4P+01",
        );
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
        check(
            "%v|%#v",
            &[map(), Value::map(BTreeMap::new())],
            "map[a:[true <nil> 1e+30 2] z:1]|map[string]interface {}{}",
        );
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
}
