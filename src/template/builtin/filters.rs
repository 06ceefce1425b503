//! The filters (`value | name:argument`), in one table. Every filter is a function too: `base(x)` is `x | base`.
//! Their rules are recorded from pongo2 and Go remco.

mod html;
mod lists;
mod numbers;
mod text;

use crate::template::builtin::env::Env;
use crate::template::value::Value;
use crate::template::value::json::{self, Style};
use crate::template::value::meter::STEP;
use crate::template::value::printf;
use crate::template::value::yaml;

/// One filter.
pub struct Filter {
    /// The name behind the `|`.
    pub name: &'static str,
    call: Call,
    reads: Reads,
}

/// The parts of its value and argument that a filter reads in any case. Items of lists are charged when they are read,
/// and results when they are built.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reads {
    /// Whole texts.
    Texts,
    /// Only the argument, whose whole text every filter reads.
    Argument,
    /// Nothing that depends on the size of either.
    Nothing,
}

/// The fixed cost of a call, in bytes.
const CALL: usize = STEP;

/// The body of a filter. The argument is nil if the template has none.
type Call = fn(&Env, &Value, &Value) -> Result<Value, String>;

impl Filter {
    /// `value | name:argument`. The error does not repeat the name: the caller puts it in front.
    pub fn call(&self, env: &Env, value: &Value, argument: &Value) -> Result<Value, String> {
        let read = match self.reads {
            Reads::Texts => value.text_len() + argument.text_len(),
            Reads::Argument => argument.text_len(),
            Reads::Nothing => 0,
        };
        env.meter.charge(CALL + read)?;
        (self.call)(env, value, argument)
    }

    /// The filter, with the parts that it reads, if these are less than whole texts.
    const fn reads(self, reads: Reads) -> Filter {
        Filter { reads, ..self }
    }

    /// Whether `name(..)` may have this many arguments.
    pub fn check_count(given: usize) -> Result<(), String> {
        match given {
            1 | 2 => Ok(()),
            _ => Err(format!("takes a value and at most one argument, {given} given")),
        }
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
    row("date", date).reads(Reads::Nothing),
    row("default", default).reads(Reads::Nothing),
    row("default_if_none", default_if_none).reads(Reads::Nothing),
    row("dir", text::dir),
    row("divisibleby", numbers::divisibleby),
    row("e", html::escape),
    row("escape", html::escape),
    row("escapejs", html::escapejs),
    row("first", lists::first).reads(Reads::Nothing),
    row("float", numbers::float),
    row("floatformat", numbers::floatformat),
    row("get_digit", numbers::get_digit).reads(Reads::Argument),
    row("index", lists::index),
    row("integer", numbers::integer),
    row("iriencode", text::iriencode),
    row("join", lists::join),
    row("last", lists::last).reads(Reads::Nothing),
    row("length", lists::length),
    row("length_is", lists::length_is),
    row("linebreaks", html::linebreaks),
    row("linebreaksbr", html::linebreaksbr),
    row("linenumbers", text::linenumbers),
    row("ljust", text::ljust),
    row("lower", text::lower),
    row("make_list", lists::make_list),
    row("mapValue", lists::map_value).reads(Reads::Argument),
    row("parseFloat", numbers::parse_float),
    row("parseInt", numbers::parse_int),
    row("parseJSON", parse),
    row("parseYAML", parse),
    row("parseYAMLArray", parse),
    row("phone2numeric", text::phone2numeric),
    row("pluralize", numbers::pluralize).reads(Reads::Argument),
    row("random", lists::random),
    row("removetags", html::removetags),
    row("rjust", text::rjust),
    row("safe", safe).reads(Reads::Nothing),
    row("slice", lists::slice),
    row("sortByLength", lists::sort_by_length),
    row("split", lists::split),
    row("stringformat", stringformat),
    row("striptags", html::striptags),
    row("time", date).reads(Reads::Nothing),
    row("title", text::title),
    row("toJSON", to_json),
    row("toPrettyJSON", to_pretty_json),
    row("toYAML", to_yaml),
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
    row("yesno", yesno).reads(Reads::Argument),
];

const fn row(name: &'static str, call: Call) -> Filter {
    Filter { name, call, reads: Reads::Texts }
}

/// Always fails, because no function returns a time. The tag `now` shows times.
fn date(_: &Env, value: &Value, _: &Value) -> Result<Value, String> {
    Err(format!("takes a time, not {}", value.kind()))
}

fn default(_: &Env, value: &Value, argument: &Value) -> Result<Value, String> {
    Ok(if value.truthy() { value } else { argument }.clone())
}

fn default_if_none(_: &Env, value: &Value, argument: &Value) -> Result<Value, String> {
    Ok(if let Value::Nil = value { argument } else { value }.clone())
}

/// Returns the value: values are only escaped on request, and `run/marked.rs` has the mark for `autoescape`.
fn safe(_: &Env, value: &Value, _: &Value) -> Result<Value, String> {
    Ok(value.clone())
}

fn stringformat(env: &Env, value: &Value, argument: &Value) -> Result<Value, String> {
    printf::sprintf(&env.meter, &argument.text(), std::slice::from_ref(value))
}

/// Reads JSON and YAML under both names of the filter.
fn parse(env: &Env, value: &Value, _: &Value) -> Result<Value, String> {
    match value {
        Value::Str(text) => yaml::parse(&env.meter, text),
        _ => Ok(value.clone()),
    }
}

fn to_json(env: &Env, value: &Value, _: &Value) -> Result<Value, String> {
    json::write(&env.meter, value, Style::Compact)
}

fn to_pretty_json(env: &Env, value: &Value, _: &Value) -> Result<Value, String> {
    json::write(&env.meter, value, Style::Pretty)
}

/// The argument is `indent=N`. Other parts between commas are ignored.
fn to_yaml(env: &Env, value: &Value, argument: &Value) -> Result<Value, String> {
    let text = argument.text();
    let text = String::from_utf8_lossy(&text);
    if text.is_empty() {
        return yaml::write(&env.meter, value, yaml::INDENT);
    }
    let indent = text.split(',').find_map(|option| option.strip_prefix(' ').unwrap_or(option).strip_prefix("indent="));
    match indent.map(str::parse) {
        Some(Ok(indent)) => yaml::write(&env.meter, value, indent),
        Some(Err(_)) | None => Err(format!("takes `indent=` with a number of blanks, not `{text}`")),
    }
}

/// The argument is `yes,no` or `yes,no,maybe`. Without the third text, nil gives `maybe`.
fn yesno(_: &Env, value: &Value, argument: &Value) -> Result<Value, String> {
    let text = argument.text();
    let mut choices: [&[u8]; 3] = [b"yes", b"no", b"maybe"];
    if !text.is_empty() {
        let given: Vec<&[u8]> = text.split(|byte| *byte == b',').take(4).collect();
        if !(2..=3).contains(&given.len()) {
            return Err("takes 2 or 3 choices, with a `,` between them".to_owned());
        }
        choices[..given.len()].copy_from_slice(&given);
    }
    Ok(Value::str(match value {
        Value::Nil => choices[2],
        _ if value.truthy() => choices[0],
        _ => choices[1],
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Random;
    use crate::template::fixture::{Variables, check, env, eval, fails, limited, usual};
    use crate::template::value::Op;

    #[test]
    fn the_table_is_sorted() {
        assert!(TABLE.is_sorted_by(|a, b| a.name < b.name));
        assert!(names().all(|name| lookup(name).is_some_and(|filter| filter.name == name)));
        assert!(lookup("bas").is_none());
    }

    #[test]
    fn every_filter_is_a_function() {
        check("base('/a/b')", "b");
        check("split('a,b', ',')|join:'+'", "a+b");
        check("join(split('a,b', ','), '+')", "a+b");
        check("default(unknown, 'd')", "d");
        fails("base()", "takes a value and at most one argument, 0 given");
        fails("join('a', 'b', 'c')", "takes a value and at most one argument, 3 given");
    }

    #[test]
    fn defaults() {
        check("undefined|default:'d'", "d");
        check("''|default:'d'", "d");
        check("0|default:'d'", "d");
        check("0.0|default:'d'", "d");
        check("false|default:'d'", "d");
        check("'0'|default:'d'", "0");
        check("1|default:'d'", "1");
        check("getvs('/none/*')|default:'empty list'", "empty list");
        check("'{}'|parseJSON|default:'empty map'", "empty map");
        check("undefined|default:5", "5");
        check("undefined|default:other", "");
        check("undefined|default:'a'|upper", "A");
        check("'a,b'|split:','|index:9|default:'d'", "d");
        check("undefined|default_if_none:'n'", "n");
        check("''|default_if_none:'n'", "");
        check("0|default_if_none:'n'", "0");
        check("'null'|parseJSON|default_if_none:'n'", "n");
    }

    #[test]
    fn choices() {
        check("true|yesno", "yes");
        check("false|yesno", "no");
        check("undefined|yesno", "maybe");
        check("true|yesno:'on,off'", "on");
        check("undefined|yesno:'on,off'", "maybe");
        check("undefined|yesno:'on,off,unset'", "unset");
        check("7|yesno:'some,none'", "some");
        check("false|yesno:' a , b '", " b ");
        check("getvs('/none/*')|yesno:'items,empty'", "empty");
        fails("true|yesno:'only'", "takes 2 or 3 choices, with a `,` between them");
        fails("true|yesno:'a,b,c,d'", "takes 2 or 3 choices, with a `,` between them");
    }

    #[test]
    fn yaml_documents() {
        check("'a: yes'|parseYAML|toJSON", "{\"a\":true}");
        check("'- 010'|parseYAMLArray|first", "8.000000");
        check("'a: 0x1F'|parseJSON|mapValue:'a'", "31.000000");
        check("5|parseYAML", "5");
        check("undefined|parseYAML", "");
        check("'<<'|toYAML", "<<\n");
        check("undefined|toYAML", "null\n");
        check("'{a: [1]}'|parseYAML|toYAML:''", "a:\n    - 1\n");
        check("'{a: [1]}'|parseYAML|toYAML:'indent=2'", "a:\n  - 1\n");
        check("'{a: [1]}'|parseYAML|toYAML:'other=x, indent=3'", "a:\n   - 1\n");
        fails("1|toYAML:'indent=wide'", "takes `indent=` with a number of blanks, not `indent=wide`");
        fails("1|toYAML:'indent='", "takes `indent=` with a number of blanks, not `indent=`");
        fails("1|toYAML:2", "takes `indent=` with a number of blanks, not `2`");
        fails("1|toYAML:'indent=-1'", "cannot indent by -1 blanks");
        fails("'a: [.inf]'|parseYAML", "cannot hold an infinity, nor what is not a number");
        fails("'[1}'|parseYAML", "cannot parse line 1 column 3: did not find expected ',' or ']' in a flow sequence");
    }

    #[test]
    fn formats() {
        check("5|stringformat:'%03d'", "005");
        check("'x'|stringformat:'[%4s]'", "[   x]");
        check("255|stringformat:'0x%02X'", "0xFF");
        check("5|stringformat:'no verb'", "no verb%!(EXTRA int=5)");
        check("'[1, \"b\"]'|parseJSON|stringformat:'%v'", "[1 b]");
        check("1|stringformat:'%d %d'", "1 %!d(MISSING)");
        check("'a'|stringformat:'%T'", "string");
        check("undefined|stringformat:'%v'", "<nil>");
        check("'a,b'|split:','|index:1|stringformat:'%5s'", "    b");
        check("'a,b'|split:','|index:1|stringformat:'%q'", "\"b\"");
        check("'plain <b>'|safe", "plain <b>");
        fails("'2022-02-22'|date:'2006'", "takes a time, not a string");
        fails("undefined|time:'15'", "takes a time, not nothing");
    }

    #[test]
    fn documents() {
        check("'[1, 2, 3]'|parseJSON|length", "3");
        check("'17'|parseJSON", "17.000000");
        check("'17'|parseJSON|integer", "17");
        check("'{\"n\": 0.5}'|parseJSON|mapValue:'n'|floatformat", "0.5");
        check("''|parseJSON|default_if_none:'none'", "none");
        check("5|parseJSON", "5");
        check("'\"[1,2]\"'|parseJSON|parseJSON|length", "2");
        check("get('/app/name')|toJSON", r#"{"Key":"/app/name","Value":"shop"}"#);
        check("ls('/app')|toPrettyJSON", "[\n    \"db\",\n    \"name\",\n    \"port\"\n]");
        check("'a,b'|split:','|index:1|toJSON", "\"b\"");
        fails(
            "'{\"a\": [1, 2}'|parseJSON",
            "cannot parse line 1 column 12: did not find expected ',' or ']' in a flow sequence",
        );
    }

    #[test]
    fn nothing_outgrows_the_limit() {
        let large = "\"0123456789\"";
        for expression in [
            "|center:200",
            "|ljust:200",
            "|rjust:200",
            "|join:\"0123456789!\"",
            "|make_list",
            "|split:\"\"",
            "|stringformat:\"%200s\"",
            "|stringformat:\"%s0123456789\"|stringformat:\"%s%[1]s%[1]s%[1]s%[1]s%[1]s\"",
            "|escapejs|escapejs",
            "|urlize|add:getv(\"/app/name\")|ljust:99|urlencode|escapejs",
            "|floatformat:101",
            "|make_list|toPrettyJSON",
        ] {
            let expression = format!("{large}{expression}");
            let result = eval(&limited(100), &Variables::new(), &expression);
            assert!(result.is_err(), "{expression}: {result:?}");
            eval(&env(), &Variables::new(), &expression).unwrap_or_else(|e| panic!("{expression}: {e}"));
        }
    }

    impl Random {
        fn text(&mut self) -> Value {
            const PIECES: [&[u8]; 40] = [
                b"a",
                b"B",
                b"7",
                b" ",
                b"\n",
                b"\t",
                b",",
                b":",
                b"<",
                b">",
                b"/",
                b"</b>",
                b"<b>",
                b"%",
                b"d",
                b"s",
                b"v",
                b"[1]",
                b"*",
                b"#",
                b"-",
                b"+",
                b".",
                b"\xff",
                b"\xc3",
                "é".as_bytes(),
                "ß".as_bytes(),
                "😀".as_bytes(),
                b"\\",
                b"\"",
                b"'",
                b"@",
                b"www.",
                b"http://",
                b".com",
                b"a@b.de",
                b"{\"a\":[1,",
                b"]}",
                b"\0",
                b"9999999",
            ];
            let length = self.below(12);
            let pieces: Vec<&[u8]> = (0..length).map(|_| PIECES[self.below(PIECES.len())]).collect();
            Value::str(pieces.concat())
        }

        fn value(&mut self, env: &Env) -> Value {
            const INTS: [i64; 10] = [0, 1, -1, 2, 3, 10, 200, 99_999, i64::MAX, i64::MIN];
            const FLOATS: [f64; 9] = [0.0, -0.0, 1.5, -2.5, 1e21, 1e300, f64::NAN, f64::INFINITY, f64::NEG_INFINITY];
            match self.below(13) {
                0 => Value::Nil,
                1 => Value::Bool(self.below(2) == 0),
                2 => Value::integer(INTS[self.below(INTS.len())]),
                3 => Value::Float(FLOATS[self.below(FLOATS.len())]),
                4 => env.store.all().next().map_or(Value::Nil, |(k, v)| Value::pair(k.clone(), v.clone())),
                5 => {
                    let map = env.collections.create_map(&env.meter);
                    let entry = [self.text(), self.text()];
                    map.call("Set", &entry).expect("maps have Set").expect("text keys are taken");
                    map
                }
                6 => functions_value(env, "gets", b"/app/*"),
                7 => functions_value(env, "ls", b"/app"),
                8 => functions_value(env, "ls", b"/none"),
                9 => json::parse(&env.meter, br#"[1, "two", null, [3.5], {"k": true}]"#).expect("this is JSON"),
                _ => self.text(),
            }
        }
    }

    fn functions_value(env: &Env, name: &str, argument: &[u8]) -> Value {
        let function = crate::template::builtin::functions::lookup(name).expect("there is such a function");
        function.call(env, &[Value::str(argument)]).expect("it takes a text")
    }

    #[test]
    fn random_values_end_in_a_value_or_an_error() {
        let mut random = Random::new(1);
        for _ in 0..300 {
            let env = limited(1 << 20);
            for filter in TABLE {
                let (value, argument) = (random.value(&env), random.value(&env));
                if let Ok(result) = filter.call(&env, &value, &argument) {
                    look_at(&result);
                }
            }
            for name in crate::template::builtin::functions::names() {
                let function = crate::template::builtin::functions::lookup(name).expect("it is a name of the table");
                // The number of texts is mostly right, so that most calls pass the check.
                let count = random.below(function.signature.required.len() + 2);
                let args: Vec<Value> =
                    (0..count).map(|_| if random.below(2) == 0 { random.text() } else { random.value(&env) }).collect();
                if let Ok(result) = function.call(&env, &args) {
                    look_at(&result);
                }
            }
        }
    }

    /// Everything that a template can do with a value without a function.
    fn look_at(value: &Value) {
        let meter = usual();
        let mut out = Vec::new();
        value.print(&mut out);
        assert_eq!(*value.text(), *out);
        assert_eq!(value.is_empty(), matches!(value.len(), 0));
        let (_, _, _) = (value.truthy(), value.not(), value.negate().is_ok());
        for op in [Op::Eq, Op::Lt, Op::In, Op::Add, Op::Sub, Op::Mul, Op::Div, Op::Rem, Op::Pow] {
            // Most values cannot be combined like that. The test is that it ends.
            let (_, _) =
                (Value::binary(&meter, op, value, value), Value::binary(&meter, op, value, &Value::integer(-1)));
        }
        for (reversed, sorted) in [(false, false), (true, false), (false, true), (true, true)] {
            if let Ok(Some(rows)) = value.rows(&meter, reversed, sorted) {
                assert_eq!((0..rows.len()).filter(|round| rows.row(*round).is_some()).count(), rows.len());
            }
        }
        let (_, _, _) = (value.field("Key").is_ok(), value.index(0).is_ok(), format!("{value:?}"));
    }
}
