//! Go's fmt.Sprintf: reads a format, and finds the flags and the operand of each directive. A wrong verb or operand is
//! not an error but part of the text, as in Go: `%!d(string=x)`. `printer` has the form of each value.

mod printer;

use self::printer::{Flags, Printer};
use crate::store::Bytes;
use crate::template::value::Value;
use crate::template::value::bounded::Text;
use crate::template::value::meter::Meter;
use crate::template::value::runes;

/// The limit of widths and precisions, as in Go.
const TOO_LARGE: u32 = 1_000_000;

/// The text of a format and its operands.
pub fn sprintf(meter: &Meter, format: &[u8], operands: &[Value]) -> Result<Value, String> {
    let mut printer = Printer { out: Text::new(meter), flags: Flags::default() };
    Directives::new(format, operands).run(&mut printer)?;
    Ok(printer.out.into_value())
}

/// The output of `%v`.
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

#[cfg(test)]
mod tests;
