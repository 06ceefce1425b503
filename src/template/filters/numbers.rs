//! Filters that count, calculate and convert numbers.

use crate::template::Env;
use crate::template::bounded::Text;
use crate::template::number::{self, FloatFormat, NotAnInteger};
use crate::template::value::{Op, Value};

/// Numbers are added, all else is put together as text.
pub fn add(env: &Env, value: &Value, argument: &Value) -> Result<Value, String> {
    if is_number(value) && is_number(argument) {
        return Value::binary(Op::Add, value, argument);
    }
    let mut out = Text::new(&env.limits);
    out.push(&value.text())?;
    out.push(&argument.text())?;
    Ok(out.into_value())
}

fn is_number(value: &Value) -> bool {
    matches!(value, Value::Int(_) | Value::Float(_))
}

pub fn divisibleby(_: &Env, value: &Value, argument: &Value) -> Result<Value, String> {
    let divisor = argument.int();
    Ok(Value::Bool(divisor != 0 && value.int().wrapping_rem(divisor) == 0))
}

pub fn integer(_: &Env, value: &Value, _: &Value) -> Result<Value, String> {
    Ok(Value::Int(value.int()))
}

pub fn float(_: &Env, value: &Value, _: &Value) -> Result<Value, String> {
    Ok(Value::Float(value.float()))
}

/// Unlike `integer` it refuses what is no integer; the empty text is 0.
pub fn parse_int(_: &Env, value: &Value, _: &Value) -> Result<Value, String> {
    let Value::Str(text) = value else {
        return Ok(value.clone());
    };
    if text.is_empty() {
        return Ok(Value::Int(0));
    }
    number::parse_int(text).map(Value::Int).map_err(|problem| {
        let reason = match problem {
            NotAnInteger::Syntax => "not an integer",
            NotAnInteger::Range => "out of range for 64 bits",
        };
        format!("cannot parse `{}`: {reason}", String::from_utf8_lossy(text))
    })
}

pub fn parse_float(_: &Env, value: &Value, _: &Value) -> Result<Value, String> {
    let Value::Str(text) = value else {
        return Ok(value.clone());
    };
    if text.is_empty() {
        return Ok(Value::Float(0.0));
    }
    let number = number::parse_float(text).map(Value::Float);
    number.ok_or_else(|| format!("cannot parse `{}`: not a number", String::from_utf8_lossy(text)))
}

/// With a number above 0 that many decimals; with less, with a text or with nothing, whole numbers have none.
pub fn floatformat(env: &Env, value: &Value, argument: &Value) -> Result<Value, String> {
    let n = value.float();
    let decimals = match argument {
        Value::Nil => -1,
        _ => argument.int(),
    };
    let trim = decimals <= 0 || !is_number(argument);
    if trim && number::truncate(n) as f64 == n {
        return Ok(Value::Int(value.int()));
    }
    let decimals = usize::try_from(decimals.unsigned_abs()).unwrap_or(usize::MAX);
    if decimals > env.limits.output {
        return Err(format!("cannot write {decimals} decimals"));
    }
    Ok(Value::str(number::format_float(n, FloatFormat::Fixed, Some(decimals))))
}

/// The digit at a place counted from the end, from 1; the value itself where there is none.
pub fn get_digit(_: &Env, value: &Value, argument: &Value) -> Result<Value, String> {
    let text = value.text();
    let place = usize::try_from(argument.int()).unwrap_or(0);
    match text.len().checked_sub(place) {
        Some(index) if place > 0 => Ok(Value::Int(i64::from(text[index].wrapping_sub(b'0')))),
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
            return Err(format!("takes 1 or 2 endings, not `{}`", String::from_utf8_lossy(&text)));
        }
    };
    Ok(Value::str(if value.int() == 1 { singular } else { plural }))
}
