//! Filters on lists, on maps, and on texts as lists of characters. Other values stay unchanged.
//! Iteration by `for` is in `value`.

use std::rc::Rc;

use crate::number;
use crate::template::builtin::env::Env;
use crate::template::reads::Question;
use crate::template::value::bounded::{self, Text};
use crate::template::value::runes;
use crate::template::value::search;
use crate::template::value::sorting::sorted;
use crate::template::value::{List, ListKind, Value};

/// The filter `first`: the first element of a list or character of a text; an empty text if there is none.
pub fn first(_: &Env, value: &Value, _: &Value) -> Result<Value, String> {
    Ok(element(value, 0).unwrap_or_else(|| Value::str("")))
}

/// The filter `last`: the last element of a list or character of a text; an empty text if there is none.
pub fn last(_: &Env, value: &Value, _: &Value) -> Result<Value, String> {
    let last = match value {
        Value::Str(text) => runes::last(text).map(Value::str),
        Value::List(list) => list.items.last().cloned(),
        _ => None,
    };
    Ok(last.unwrap_or_else(|| Value::str("")))
}

/// The filter `random`: a random element of a list or character of a text. Empty and other values stay unchanged.
pub fn random(env: &Env, value: &Value, _: &Value) -> Result<Value, String> {
    if !matches!(value, Value::Str(_) | Value::List(_)) || value.is_empty() {
        return Ok(value.clone());
    }
    let chosen = usize::try_from(env.machine(Question::Random).random(value.len() as u64)).ok();
    chosen.and_then(|chosen| element(value, chosen)).ok_or_else(|| "cannot pick an element".to_owned())
}

/// Returns an item. Negative indexes count from the end.
pub fn index(_: &Env, value: &Value, argument: &Value) -> Result<Value, String> {
    if !matches!(value, Value::Str(_) | Value::List(_)) {
        return Ok(value.clone());
    }
    let wanted = argument.int();
    let index = if wanted < 0 { wanted.saturating_add(value.len() as i64) } else { wanted };
    let index = usize::try_from(index)
        .map_err(|_| format!("cannot read element {wanted} of {} with {} elements", value.kind(), value.len()))?;
    Ok(element(value, index).unwrap_or(Value::Nil))
}

/// An element of a list or a character of a text, if there is one.
fn element(value: &Value, index: usize) -> Option<Value> {
    match value {
        Value::Str(text) => runes::nth(text, index).map(Value::str),
        Value::List(list) => list.items.get(index).cloned(),
        _ => None,
    }
}

/// The filter `length`: the number of elements, entries or characters; 0 for other values.
pub fn length(_: &Env, value: &Value, _: &Value) -> Result<Value, String> {
    Ok(Value::integer(value.len() as i64))
}

/// The filter `length_is`: whether the filter `length` gives this number. The argument may be a text with a number.
pub fn length_is(_: &Env, value: &Value, argument: &Value) -> Result<Value, String> {
    Ok(Value::Bool(value.len() as i64 == argument.int()))
}

/// The filter `join`: the elements of a list or the characters of a text, with the argument between them. Other values
/// stay unchanged.
pub fn join(env: &Env, value: &Value, argument: &Value) -> Result<Value, String> {
    let separator = argument.text();
    let mut out = Text::new(&env.meter);
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

/// `from:to`, counted from 0, without `to`. As recorded, an end before the start gives an empty result, so `0:` and
/// `:`, whose end is 0, are empty.
pub fn slice(env: &Env, value: &Value, argument: &Value) -> Result<Value, String> {
    let range = argument.text();
    let mut ends = range.split(|byte| *byte == b':');
    let (Some(from), Some(to), None) = (ends.next(), ends.next(), ends.next()) else {
        return Err("takes a range like `1:3`".to_owned());
    };
    let length = match value {
        Value::Str(_) | Value::List(_) => value.len(),
        _ => return Ok(value.clone()),
    };
    let number = |text: &[u8]| number::parse_float(text).map_or(0, number::truncate);
    let from = usize::try_from(number(from)).map_err(|_| format!("cannot start at {}", number(from)))?.min(length);
    let to = usize::try_from(number(to)).ok().filter(|to| (from..=length).contains(to)).unwrap_or(length);
    Ok(match value {
        Value::List(list) => {
            let items = &list.items[from..to];
            let _held = bounded::check_list(&env.meter, items.len(), 0)?;
            env.meter.charge(size_of_val(items))?;
            Value::list(list.kind, items.to_vec())
        }
        _ => {
            let text = value.text();
            let part = runes::range(&text, from, to);
            let _held = env.meter.room_for(part.len())?;
            Value::str(part)
        }
    })
}

/// The filter `split`: the list of the parts between a separator; with an empty one of the characters (Go's
/// strings.Split). The filter comes from pongo2, not from Django.
pub fn split(env: &Env, value: &Value, argument: &Value) -> Result<Value, String> {
    let (text, separator) = (value.text(), argument.text());
    if separator.is_empty() {
        return bounded::strings(&env.meter, || runes::runes(&text));
    }
    let parts = || {
        let ends = search::matches(&env.meter, &text, &separator).chain([text.len()]);
        ends.scan(0, |start, end| {
            let part = &text[*start..end];
            *start = end + separator.len();
            Some(part)
        })
    };
    bounded::strings(&env.meter, parts)
}

/// The filter `make_list`: the list of a text's characters. A value of another type is converted to text first.
pub fn make_list(env: &Env, value: &Value, _: &Value) -> Result<Value, String> {
    let text = value.text();
    bounded::strings(&env.meter, || runes::runes(&text))
}

/// Sorts by length. Items of equal length stay in their order (in Go remco they do not).
pub fn sort_by_length(env: &Env, value: &Value, _: &Value) -> Result<Value, String> {
    let Value::List(list) = value else {
        return Ok(value.clone());
    };
    let length = |item: &Value| match item {
        Value::Pair(key, _) => key.len(),
        Value::Str(text) => text.len(),
        _ => 0,
    };
    match list.kind {
        ListKind::Strings | ListKind::Pairs => {
            let _held = env.meter.room_for(size_of_val(&*list.items))?;
            let items = sorted(&env.meter, list.items.clone(), |_| 0, |a, b| length(a).cmp(&length(b)))?;
            Ok(Value::List(Rc::new(List { kind: list.kind, items })))
        }
        ListKind::NilStrings | ListKind::Srv | ListKind::Any => Ok(value.clone()),
    }
}

/// The filter `mapValue` of Go remco: the entry of a map. Gives nothing if the map has no such entry, the value is not
/// a map, or the key is not a text.
pub fn map_value(_: &Env, value: &Value, argument: &Value) -> Result<Value, String> {
    Ok(match (value.entries(), argument) {
        (Some(map), Value::Str(key)) => map.get(key).cloned().unwrap_or(Value::Nil),
        _ => Value::Nil,
    })
}

#[cfg(test)]
mod tests {
    use crate::template::fixture::{check, fails};

    #[test]
    fn ends() {
        check("'a,b,c'|split:','|first", "a");
        check("'a,b,c'|split:','|last", "c");
        check("'xyz'|first", "x");
        check("'ünï'|first", "ü");
        check("'ünï'|last", "ï");
        check("''|first", "");
        check("getvs('/none/*')|last", "");
        check("5|first", "");
        check("undefined|last", "");
        check("gets('/app/*')|first|toJSON", r#"{"Key":"/app/name","Value":"shop"}"#);
    }

    #[test]
    fn elements() {
        check("'/srv/www/html'|split:'/'|index:1", "srv");
        check("'/srv/www/html'|split:'/'|index:'2'", "www");
        check("'/srv/www/html'|split:'/'|index:0", "");
        check("'/srv/www/html'|split:'/'|index:'-1'", "html");
        check("'a,b'|split:','|index:2", "");
        check("'a,b,c'|split:','|index:'1.9'", "b");
        check("'hello'|index:1", "e");
        check("'hello'|index:'-1'", "o");
        check("'hello'|index:10", "");
        check("'größe'|index:2", "ö");
        check("'a-b-c'|split:'-'|index:2|upper", "C");
        check("'[\"x\", 3]'|parseJSON|index:1", "3.000000");
        check("5|index:0", "5");
        check("undefined|index:0", "");
        check("'10,20'|split:','|index:1|parseInt", "20");
        check("'10,20'|split:','|index:1|integer", "20");
        check("'abc,defg'|split:','|index:1|length", "4");
        fails("'a,b'|split:','|index:'-3'", "cannot read element -3 of a list with 2 elements");
        fails("''|index:'-1'", "cannot read element -1 of a string with 0 elements");
    }

    #[test]
    fn lengths() {
        check("'ünï'|length", "3");
        check("'a,b'|split:','|length", "2");
        check("12345|length", "0");
        check("true|length", "0");
        check("undefined|length", "0");
        check("get('/app/name')|length", "0");
        check("'{\"a\": 1, \"b\": 2}'|parseJSON|length", "2");
        check("'abc'|length_is:3", "True");
        check("'abc'|length_is:'4'", "False");
        check("undefined|length_is:0", "True");
    }

    #[test]
    fn joining() {
        check("'a b c'|split:' '|join:', '", "a, b, c");
        check("'a,b'|split:','|join", "ab");
        check("'abc'|join:'-'", "a-b-c");
        check("5|join:','", "5");
        check("undefined|join:','", "");
        check("'[1, 2.5, true, null, \"x\"]'|parseJSON|join:'/'", "1.000000/2.500000/True//x");
    }

    #[test]
    fn parts() {
        check("'abcdef'|slice:'1:3'", "bc");
        check("'abcdef'|slice:':2'", "ab");
        check("'abcdef'|slice:'2:'", "cdef");
        check("'abcdef'|slice:'2:99'", "cdef");
        check("'abcdef'|slice:'9:'", "");
        check("'abcdef'|slice:'3:1'", "def");
        check("'äöüß'|slice:'1:3'", "öü");
        check("'abc'|slice:'2:2'", "");
        check("'abcdef'|slice:'0:'", "");
        check("'abcdef'|slice:':'", "");
        check("'abcdef'|slice:':0'", "");
        check("'abcdef'|slice:'1:-1'", "bcdef");
        check("'a,b,c,d'|split:','|slice:'1:3'|join:'+'", "b+c");
        check("'a'|split:','|slice:'1:'|toJSON", "[]");
        check("getvs('/none/*')|slice:'1:'|toJSON", "null");
        check("gets('/app/*')|slice:'1:'|toJSON", r#"[{"Key":"/app/port","Value":"8080"}]"#);
        check("5|slice:'0:1'", "5");
        fails("'abc'|slice:'1'", "takes a range like `1:3`");
        fails("'abc'|slice:'1:2:3'", "takes a range like `1:3`");
        fails("'abc'|slice:'-2:'", "cannot start at -2");
    }

    #[test]
    fn splitting() {
        check("'a,b,c'|split:','|toJSON", r#"["a","b","c"]"#);
        check("',a,,b,'|split:','|join:'|'", "|a||b|");
        check("''|split:','|length", "1");
        check("''|split:''|toJSON", "[]");
        check("'abc'|split:''|join:'.'", "a.b.c");
        check("'abc'|split:'x'|length", "1");
        check("'a<>b<>c'|split:'<>'|join:' '", "a b c");
        check("'äöü'|split:'ö'|join:'-'", "ä-ü");
        check("12345|split:'3'|join:'_'", "12_45");
        check("'no param'|split|length", "8");
        check("'abc'|make_list|join:','", "a,b,c");
        check("'äö'|make_list|length", "2");
        check("123|make_list|join:'+'", "1+2+3");
        check("''|make_list|toJSON", "[]");
        check("true|make_list|last", "e");
    }

    #[test]
    fn sorting() {
        check("'ccc,a,bb'|split:','|sortByLength|join:','", "a,bb,ccc");
        // Sorted by bytes; items of equal length stay in their order.
        check("'ü,aaa,é€'|split:','|sortByLength|join:','", "ü,aaa,é€");
        check("'b,a,c'|split:','|sortByLength|join:','", "b,a,c");
        check("getvs('/app/*')|sortByLength|join:','", "8080,shop");
        check("gets('/*/*')|sortByLength|last|toJSON", r#"{"Key":"/hosts/two","Value":"10.0.0.1"}"#);
        check("'[\"xxx\", \"y\"]'|parseJSON|sortByLength|join:','", "xxx,y");
        check("'hello'|sortByLength", "hello");
        check("5|sortByLength", "5");
        check("getvs('/none/*')|sortByLength|toJSON", "null");
    }

    #[test]
    fn map_values() {
        let map = "'{\"with-dash\": \"dashed\", \"inner\": {\"deep\": \"treasure\"}, \"nil\": null}'|parseJSON";
        check(&format!("{map}|mapValue:'with-dash'"), "dashed");
        check(&format!("{map}|mapValue:'inner'|mapValue:'deep'"), "treasure");
        check(&format!("{map}|mapValue:'nope'|default:'fallback'"), "fallback");
        check(&format!("{map}|mapValue:'nil'|default_if_none:'none'"), "none");
        check(&format!("{map}|mapValue:1"), "");
        check("'text'|mapValue:'x'", "");
        check("'a,b'|split:','|mapValue:'0'", "");
        check("undefined|mapValue:'x'", "");
    }

    #[test]
    fn chance() {
        check("'one'|split:','|random", "one");
        check("'ab'|random", "b");
        check("5|random", "5");
        check("''|random", "");
        check("undefined|random", "");
    }
}
