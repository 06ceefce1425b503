//! The filters (`value | name:argument`), in one table. Every filter is a function too: `base(x)` is `x | base`.
//! The rules are pongo2's, and remco's for its own ones, as recorded.

mod html;
mod lists;
mod numbers;
mod text;

use super::Env;
use super::json::{self, Style};
use super::printf;
use super::value::Value;

/// One filter.
pub struct Filter {
    pub name: &'static str,
    body: Body,
}

enum Body {
    Ready(Call),
    /// Part of the language, but not built yet.
    Later,
}

/// The argument is nil where the template gives none.
type Call = fn(&Env, &Value, &Value) -> Result<Value, String>;

impl Filter {
    /// What stands against using it; to be asked when a template is compiled.
    pub fn check(&self) -> Result<(), String> {
        match self.body {
            Body::Ready(_) => Ok(()),
            Body::Later => Err("is not supported yet".to_owned()),
        }
    }

    /// `value | name:argument`. The error does not repeat the name: the caller puts it in front.
    pub fn call(&self, env: &Env, value: &Value, argument: &Value) -> Result<Value, String> {
        match self.body {
            Body::Ready(call) => call(env, value, argument),
            Body::Later => Err("is not supported yet".to_owned()),
        }
    }

    /// Whether `name(..)` may have that many arguments.
    pub fn check_count(given: usize) -> Result<(), String> {
        match given {
            1 | 2 => Ok(()),
            _ => Err(format!("takes a value and at most one argument, {given} given")),
        }
    }

    /// `name(value, argument)`
    pub fn call_as_function(&self, env: &Env, args: &[Value]) -> Result<Value, String> {
        Filter::check_count(args.len())?;
        self.call(env, &args[0], args.get(1).unwrap_or(&Value::Nil))
    }
}

/// The filter of a name.
pub fn lookup(name: &str) -> Option<&'static Filter> {
    let index = TABLE.binary_search_by(|filter| filter.name.cmp(name)).ok()?;
    Some(&TABLE[index])
}

/// All names, for suggestions.
pub fn names() -> impl Iterator<Item = &'static str> {
    TABLE.iter().map(|filter| filter.name)
}

/// Sorted by name.
static TABLE: &[Filter] = &[
    row("add", numbers::add),
    row("addslashes", text::addslashes),
    row("base", text::base),
    row("base64", text::base64),
    row("base64decode", text::base64decode),
    row("capfirst", text::capfirst),
    row("center", text::center),
    row("cut", text::cut),
    row("date", date),
    row("default", default),
    row("default_if_none", default_if_none),
    row("dir", text::dir),
    row("divisibleby", numbers::divisibleby),
    row("e", html::escape),
    row("escape", html::escape),
    row("escapejs", html::escapejs),
    row("first", lists::first),
    row("float", numbers::float),
    row("floatformat", numbers::floatformat),
    row("get_digit", numbers::get_digit),
    row("index", lists::index),
    row("integer", numbers::integer),
    row("iriencode", text::iriencode),
    row("join", lists::join),
    row("last", lists::last),
    row("length", lists::length),
    row("length_is", lists::length_is),
    row("linebreaks", html::linebreaks),
    row("linebreaksbr", html::linebreaksbr),
    row("linenumbers", text::linenumbers),
    row("ljust", text::ljust),
    row("lower", text::lower),
    row("make_list", lists::make_list),
    row("mapValue", lists::map_value),
    row("parseFloat", numbers::parse_float),
    row("parseInt", numbers::parse_int),
    row("parseJSON", parse_json),
    later("parseYAML"),
    later("parseYAMLArray"),
    row("phone2numeric", text::phone2numeric),
    row("pluralize", numbers::pluralize),
    row("random", lists::random),
    row("removetags", html::removetags),
    row("rjust", text::rjust),
    row("safe", safe),
    row("slice", lists::slice),
    row("sortByLength", lists::sort_by_length),
    row("split", lists::split),
    row("stringformat", stringformat),
    row("striptags", html::striptags),
    row("time", date),
    row("title", text::title),
    row("toJSON", to_json),
    row("toPrettyJSON", to_pretty_json),
    later("toYAML"),
    row("truncatechars", text::truncatechars),
    row("truncatechars_html", html::truncatechars_html),
    row("truncatewords", text::truncatewords),
    row("truncatewords_html", html::truncatewords_html),
    row("upper", text::upper),
    row("urlencode", text::urlencode),
    row("urlize", html::urlize),
    row("urlizetrunc", html::urlizetrunc),
    row("wordcount", text::wordcount),
    row("wordwrap", text::wordwrap),
    row("yesno", yesno),
];

const fn row(name: &'static str, call: Call) -> Filter {
    Filter { name, body: Body::Ready(call) }
}

const fn later(name: &'static str) -> Filter {
    Filter { name, body: Body::Later }
}

/// No function gives a time, so there is never one to show; the tag `now` is what shows it.
fn date(_: &Env, value: &Value, _: &Value) -> Result<Value, String> {
    Err(format!("takes a time, not {}", value.kind()))
}

fn default(_: &Env, value: &Value, argument: &Value) -> Result<Value, String> {
    Ok(if value.truthy() { value } else { argument }.clone())
}

fn default_if_none(_: &Env, value: &Value, argument: &Value) -> Result<Value, String> {
    Ok(if let Value::Nil = value { argument } else { value }.clone())
}

/// Nothing is escaped unasked, so nothing has to be kept from it.
fn safe(_: &Env, value: &Value, _: &Value) -> Result<Value, String> {
    Ok(value.clone())
}

fn stringformat(env: &Env, value: &Value, argument: &Value) -> Result<Value, String> {
    printf::sprintf(&env.limits, &argument.text(), std::slice::from_ref(value))
}

fn parse_json(env: &Env, value: &Value, _: &Value) -> Result<Value, String> {
    match value {
        Value::Str(text) => json::parse(&env.limits, text),
        _ => Ok(value.clone()),
    }
}

fn to_json(env: &Env, value: &Value, _: &Value) -> Result<Value, String> {
    json::write(&env.limits, value, Style::Compact)
}

fn to_pretty_json(env: &Env, value: &Value, _: &Value) -> Result<Value, String> {
    json::write(&env.limits, value, Style::Pretty)
}

/// The argument is `yes,no` or `yes,no,maybe`; without a maybe nothing is a "maybe".
fn yesno(_: &Env, value: &Value, argument: &Value) -> Result<Value, String> {
    let text = argument.text();
    let mut choices: [&[u8]; 3] = [b"yes", b"no", b"maybe"];
    if !text.is_empty() {
        let given: Vec<&[u8]> = text.split(|byte| *byte == b',').take(4).collect();
        if !(2..=3).contains(&given.len()) {
            return Err(format!("takes 2 or 3 choices, not `{}`", String::from_utf8_lossy(&text)));
        }
        choices[..given.len()].copy_from_slice(&given);
    }
    Ok(Value::str(match value {
        Value::Nil => choices[2],
        _ if value.truthy() => choices[0],
        _ => choices[1],
    }))
}
