//! Filters on lists, and on texts as lists of characters.

use std::rc::Rc;

use crate::template::Env;
use crate::template::bounded::{self, Text};
use crate::template::number;
use crate::template::runes;
use crate::template::search;
use crate::template::value::{List, ListKind, Value};

pub fn first(_: &Env, value: &Value, _: &Value) -> Result<Value, String> {
    Ok(element(value, 0).unwrap_or_else(|| Value::str("")))
}

pub fn last(_: &Env, value: &Value, _: &Value) -> Result<Value, String> {
    let last = match value {
        Value::Str(text) => runes::runes(text).last().map(Value::str),
        Value::List(list) => list.items.last().cloned(),
        _ => None,
    };
    Ok(last.unwrap_or_else(|| Value::str("")))
}

pub fn random(env: &Env, value: &Value, _: &Value) -> Result<Value, String> {
    if !matches!(value, Value::Str(_) | Value::List(_)) || value.is_empty() {
        return Ok(value.clone());
    }
    let chosen = env.world.random(value.len() as u64) as usize;
    element(value, chosen).ok_or_else(|| "cannot pick an element".to_owned())
}

/// The element is wrapped, as recorded: it prints, but is not equal to anything. Negative indexes count from the end.
pub fn index(_: &Env, value: &Value, argument: &Value) -> Result<Value, String> {
    if !matches!(value, Value::Str(_) | Value::List(_)) {
        return Ok(value.clone());
    }
    let wanted = argument.int();
    let index = if wanted < 0 { wanted.saturating_add(value.len() as i64) } else { wanted };
    let index = usize::try_from(index)
        .map_err(|_| format!("cannot read element {wanted} of {} with {} elements", value.kind(), value.len()))?;
    Ok(Value::wrapped(element(value, index).unwrap_or(Value::Nil)))
}

/// An element of a list or a character of a text, if there is one.
fn element(value: &Value, index: usize) -> Option<Value> {
    match value {
        Value::Str(text) => runes::runes(text).nth(index).map(Value::str),
        Value::List(list) => list.items.get(index).cloned(),
        _ => None,
    }
}

pub fn length(_: &Env, value: &Value, _: &Value) -> Result<Value, String> {
    Ok(Value::Int(value.len() as i64))
}

pub fn length_is(_: &Env, value: &Value, argument: &Value) -> Result<Value, String> {
    Ok(Value::Bool(value.len() as i64 == argument.int()))
}

pub fn join(env: &Env, value: &Value, argument: &Value) -> Result<Value, String> {
    let separator = argument.text();
    let mut out = Text::new(&env.limits);
    let mut between: &[u8] = b"";
    let mut push = |part: &[u8]| {
        out.push(between)?;
        between = &separator;
        out.push(part)
    };
    match value {
        Value::Str(text) => runes::runes(text).try_for_each(&mut push)?,
        Value::List(list) => list.items.iter().try_for_each(|item| push(&item.text()))?,
        _ => return Ok(value.clone()),
    }
    Ok(out.into_value())
}

/// `from:to`, counted from 0, `to` not included. As recorded, an end before the start counts as none,
/// so `0:` and `:`, whose end reads as 0, are empty.
pub fn slice(_: &Env, value: &Value, argument: &Value) -> Result<Value, String> {
    let range = argument.text();
    let mut ends = range.split(|byte| *byte == b':');
    let (Some(from), Some(to), None) = (ends.next(), ends.next(), ends.next()) else {
        return Err(format!("takes a range like `1:3`, not `{}`", String::from_utf8_lossy(&range)));
    };
    let length = match value {
        Value::Str(_) | Value::List(_) => value.len(),
        _ => return Ok(value.clone()),
    };
    let number = |text: &[u8]| number::parse_float(text).map_or(0, number::truncate);
    let from = usize::try_from(number(from)).map_err(|_| format!("cannot start at {}", number(from)))?.min(length);
    let to = usize::try_from(number(to)).ok().filter(|to| (from..=length).contains(to)).unwrap_or(length);
    Ok(match value {
        Value::List(list) => Value::list(list.kind, list.items[from..to].to_vec()),
        _ => Value::str(runes::range(&value.text(), from, to)),
    })
}

pub fn split(env: &Env, value: &Value, argument: &Value) -> Result<Value, String> {
    let (text, separator) = (value.text(), argument.text());
    if separator.is_empty() {
        return bounded::strings(&env.limits, || runes::runes(&text));
    }
    let parts = || {
        let ends = search::matches(&text, &separator).chain([text.len()]);
        ends.scan(0, |start, end| {
            let part = &text[*start..end];
            *start = end + separator.len();
            Some(part)
        })
    };
    bounded::strings(&env.limits, parts)
}

pub fn make_list(env: &Env, value: &Value, _: &Value) -> Result<Value, String> {
    let text = value.text();
    bounded::strings(&env.limits, || runes::runes(&text))
}

/// Ties stay in their order (in the original they do not).
pub fn sort_by_length(_: &Env, value: &Value, _: &Value) -> Result<Value, String> {
    let Value::List(list) = value else {
        return Ok(value.clone());
    };
    let length = |item: &Value| match item {
        Value::Pair(pair) => pair.0.len(),
        Value::Str(text) => text.len(),
        _ => 0,
    };
    match list.kind {
        ListKind::Strings | ListKind::Pairs => {
            let mut items = list.items.clone();
            items.sort_by_key(length);
            Ok(Value::List(Rc::new(List { kind: list.kind, items })))
        }
        ListKind::NilStrings | ListKind::Srv | ListKind::Any => Ok(value.clone()),
    }
}

pub fn map_value(_: &Env, value: &Value, argument: &Value) -> Result<Value, String> {
    Ok(match (value.entries(), argument) {
        (Some(map), Value::Str(key)) => map.get(key).cloned().unwrap_or(Value::Nil),
        _ => Value::Nil,
    })
}
