//! Filters that calculate with, read and write numbers. Arithmetic expressions are in `value`, Go's formats of numbers
//! in `number`.

use crate::number::{self, FloatFormat, NotAnInteger};
use crate::template::builtin::env::Env;
use crate::template::value::bounded::Text;
use crate::template::value::{IntType, Op, Value};

/// Adds numbers, and joins other values as texts.
pub fn add(env: &Env, value: &Value, argument: &Value) -> Result<Value, String> {
    if is_number(value) && is_number(argument) {
        return Value::binary(&env.meter, Op::Add, value, argument);
    }
    let mut out = Text::new(&env.meter);
    out.push(&value.text())?;
    out.push(&argument.text())?;
    Ok(out.into_value())
}

fn is_number(value: &Value) -> bool {
    matches!(value, Value::Int(..) | Value::Float(_))
}

/// The filter `divisibleby`: whether a number is a multiple of another one. Drops the fractions of both; false for 0 as
/// the divisor.
pub fn divisibleby(_: &Env, value: &Value, argument: &Value) -> Result<Value, String> {
    let divisor = argument.int();
    Ok(Value::Bool(divisor != 0 && value.int().wrapping_rem(divisor) == 0))
}

/// The filter `integer` of pongo2: a number, or a text with a number, without its fraction; 0 for other values.
pub fn integer(_: &Env, value: &Value, _: &Value) -> Result<Value, String> {
    Ok(Value::integer(value.int()))
}

/// The filter `float` of pongo2: a number, or a text with a number, as a float; 0 for other values.
pub fn float(_: &Env, value: &Value, _: &Value) -> Result<Value, String> {
    Ok(Value::Float(value.float()))
}

/// Unlike `integer`, fails if the text is no integer. The empty text is 0.
pub fn parse_int(_: &Env, value: &Value, _: &Value) -> Result<Value, String> {
    let Value::Str(text) = value else {
        return Ok(value.clone());
    };
    if text.is_empty() {
        return Ok(Value::integer(0));
    }
    number::parse_int(text).map(|n| Value::Int(n, IntType::Int64)).map_err(|problem| {
        // The message does not have the text, because it may be the value of a key, and messages are logged.
        match problem {
            NotAnInteger::Syntax => "the text is not an integer",
            NotAnInteger::Range => "the integer is out of range for 64 bits",
        }
        .to_owned()
    })
}

/// The filter `parseFloat`: unlike `float`, fails if the text is no number (Go's strconv.ParseFloat). The empty text is
/// 0; other values than texts stay unchanged.
pub fn parse_float(_: &Env, value: &Value, _: &Value) -> Result<Value, String> {
    let Value::Str(text) = value else {
        return Ok(value.clone());
    };
    if text.is_empty() {
        return Ok(Value::Float(0.0));
    }
    let number = number::parse_float(text).map(Value::Float);
    number.ok_or_else(|| "the text is not a number".to_owned())
}

/// A number above 0 is the number of decimals. Otherwise whole numbers have no decimals.
pub fn floatformat(env: &Env, value: &Value, argument: &Value) -> Result<Value, String> {
    let n = value.float();
    let decimals = match argument {
        Value::Nil => -1,
        _ => argument.int(),
    };
    let trim = decimals <= 0 || !is_number(argument);
    if trim && number::truncate(n) as f64 == n {
        return Ok(Value::integer(value.int()));
    }
    let decimals = usize::try_from(decimals.unsigned_abs()).unwrap_or(usize::MAX);
    if decimals > env.meter.limits().output {
        return Err(format!("cannot write {decimals} decimals"));
    }
    // The digits are copied several times.
    let _held = env.meter.room_for(4 * decimals)?;
    Ok(Value::str(number::format_float(n, FloatFormat::Fixed, Some(decimals))))
}

/// The digit at a place, counted from 1 from the end; the value itself if there is no such digit.
pub fn get_digit(_: &Env, value: &Value, argument: &Value) -> Result<Value, String> {
    let text = value.text();
    let place = usize::try_from(argument.int()).unwrap_or(0);
    match text.len().checked_sub(place) {
        Some(index) if place > 0 => Ok(Value::Int(i64::from(text[index].wrapping_sub(b'0')), IntType::Uint8)),
        _ => Ok(value.clone()),
    }
}

/// The argument is the plural's ending, or `singular,plural`.
pub fn pluralize(_: &Env, value: &Value, argument: &Value) -> Result<Value, String> {
    if !is_number(value) {
        return Err(format!("takes a number, not {}", value.kind()));
    }
    let text = if argument.is_empty() { Value::str("s").text() } else { argument.text() };
    let endings: Vec<&[u8]> = text.split(|byte| *byte == b',').take(3).collect();
    let (singular, plural): (&[u8], &[u8]) = match endings[..] {
        [plural] => (b"", plural),
        [singular, plural] => (singular, plural),
        _ => {
            return Err("takes 1 or 2 endings, with a `,` between them".to_owned());
        }
    };
    Ok(Value::str(if value.int() == 1 { singular } else { plural }))
}

#[cfg(test)]
mod tests {
    use crate::template::fixture::{check, fails};

    #[test]
    fn sums() {
        check("5|add:3", "8");
        check("5|add:'3'", "53");
        check("'5'|add:3", "53");
        check("'a'|add:'b'", "ab");
        check("2.5|add:1", "3.500000");
        check("'n'|add:true", "nTrue");
        check("'x'|add:undefined", "x");
        check("undefined|add:'y'", "y");
        check("9223372036854775807|add:1", "-9223372036854775808");
    }

    #[test]
    fn divisors() {
        check("21|divisibleby:7", "True");
        check("22|divisibleby:7", "False");
        check("'21'|divisibleby:'7'", "True");
        check("21|divisibleby:0", "False");
        check("0|divisibleby:3", "True");
        check("5.9|divisibleby:5", "True");
        check("'-9223372036854775808'|parseInt|divisibleby:'-1'", "True");
    }

    #[test]
    fn conversions() {
        check("'42.9'|integer", "42");
        check("'x'|integer", "0");
        check("true|integer", "0");
        check("'1e3'|integer", "1000");
        check("' 5'|integer", "0");
        check("'0x10'|integer", "0");
        check("'1e300'|integer", "-9223372036854775808");
        check("'4.25'|float", "4.250000");
        check("3|float", "3.000000");
        check("true|float", "0.000000");
    }

    #[test]
    fn strict_conversions() {
        check("'42'|parseInt", "42");
        check("'+9'|parseInt", "9");
        check("'007'|parseInt", "7");
        check("''|parseInt", "0");
        check("2.5|parseInt", "2.500000");
        check("undefined|parseInt", "");
        fails("'12 apples'|parseInt", "the text is not an integer");
        fails("'12.5'|parseInt", "the text is not an integer");
        fails("'9223372036854775808'|parseInt", "the integer is out of range for 64 bits");
        check("'1e3'|parseFloat", "1000.000000");
        check("''|parseFloat", "0.000000");
        check("5|parseFloat", "5");
        fails("'1,5'|parseFloat", "the text is not a number");
    }

    #[test]
    fn decimals() {
        check("71.18376|floatformat", "71.2");
        check("52.00|floatformat", "52");
        check("18.75|floatformat", "18.8");
        check("0.05|floatformat", "0.1");
        check("71.18376|floatformat:3", "71.184");
        check("52.0|floatformat:3", "52.000");
        check("52.5|floatformat:0", "52");
        check("53.5|floatformat:0", "54");
        check("52.9|floatformat:'0'", "53");
        check("52.0|floatformat:'-3'", "52");
        check("52.47|floatformat:'-1'", "52.5");
        check("7|floatformat:2", "7.00");
        check("'7.456'|floatformat:1", "7.5");
        check("'7.0'|floatformat", "7");
        check("'word'|floatformat:2", "0.00");
        check("undefined|floatformat:1", "0.0");
        check("true|floatformat", "0");
        check("1.005|floatformat:2", "1.00");
        check("2.675|floatformat:2", "2.67");
        check("12|floatformat:'2'", "12");
        check("12.5|floatformat:'2'", "12.50");
        fails("1|floatformat:9223372036854775807", "cannot write 9223372036854775807 decimals");
    }

    #[test]
    fn digits() {
        check("12345|get_digit:1", "5");
        check("12345|get_digit:5", "1");
        check("12345|get_digit:6", "12345");
        check("12345|get_digit:0", "12345");
        check("'987'|get_digit:2", "8");
        check("12345|get_digit:'2'", "4");
        check("'ab'|get_digit:1", "50");
        check("''|get_digit:1", "");
    }

    #[test]
    fn plurals() {
        check("0|pluralize", "s");
        check("1|pluralize", "");
        check("2|pluralize:'es'", "es");
        check("1|pluralize:'es'", "");
        check("1|pluralize:'y,ies'", "y");
        check("2|pluralize:'y,ies'", "ies");
        check("1.5|pluralize", "");
        check("2.5|pluralize", "s");
        fails("'2'|pluralize", "takes a number, not a string");
        fails("2|pluralize:'a,b,c'", "takes 1 or 2 endings, with a `,` between them");
    }
}
