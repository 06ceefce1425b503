//! Formats each value by a verb and its flags, like Go's fmt. Does not read formats: its caller finds the directives
//! and their operands.

use std::rc::Rc;

use crate::number::{self, FloatFormat};
use crate::quote::{can_backquote, printable, quote};
use crate::template::value::bounded::Text;
use crate::template::value::runes;
use crate::template::value::{Data, IntType, ListKind, Map, Object, Value};

/// The nesting limit of values, which a map that contains itself reaches.
const DEPTH: usize = 200;

/// The flags, the width and the precision of one directive.
#[derive(Clone, Copy, Default)]
pub struct Flags {
    /// The least number of characters; `None`: no limit.
    pub width: Option<usize>,
    /// The precision; `None`: the default of the verb.
    pub precision: Option<usize>,
    /// `-`: pads on the right.
    pub minus: bool,
    /// `+`: shows the sign of a positive number.
    pub plus: bool,
    /// `#`: the alternative form.
    pub sharp: bool,
    /// ` `: a blank instead of a plus sign.
    pub space: bool,
    /// `0`: pads with zeros.
    pub zero: bool,
    /// `%#v`
    pub go_syntax: bool,
    /// `%+v`
    pub field_names: bool,
}

/// The text so far, and the flags of the present directive.
pub struct Printer {
    /// The text so far.
    pub out: Text,
    /// The flags of the present directive.
    pub flags: Flags,
}

impl Printer {
    /// Appends an operand in the form of a verb.
    pub fn operand(&mut self, value: &Value, verb: char) -> Result<(), String> {
        match verb {
            'T' => self.text(value.dynamic_type().as_bytes()),
            // Only Errorf supports this verb, so Go refuses it before it examines the value.
            'w' => self.bad_verb(value, verb, 0),
            _ => self.value(value, verb, 0),
        }
    }

    /// Appends a value in the form of a verb, at a level of nesting.
    pub fn value(&mut self, value: &Value, verb: char, depth: usize) -> Result<(), String> {
        if depth > DEPTH {
            return Err(format!("cannot print a value nested deeper than {DEPTH} levels"));
        }
        match value {
            Value::Nil if depth > 0 && self.flags.go_syntax => self.out.push(b"interface {}(nil)"),
            // Inside a list or map, nil has one form for all verbs.
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

    /// Appends a value with its type, as in `%!d(string=x)`.
    pub fn with_type(&mut self, value: &Value, depth: usize) -> Result<(), String> {
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

/// The character of a number, for `%c`.
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
