//! Everything that a template can do is charged for the bytes that it reads, memory is accounted for, and templates
//! that would take hours or gigabytes end at a limit.

use std::path::Path;
use std::rc::Rc;
use std::time::Duration;

use super::*;
use crate::store::{Bytes, Store};
use crate::template::Template;
use crate::template::builtin::filters;
use crate::template::builtin::functions;
use crate::template::fixture::{self, TestWorld, usual};
use crate::template::value::signature::Kind;
use crate::template::value::{ListKind, Op};

/// The size of the large text, which has words and lines.
const LARGE: usize = 1 << 18;

fn large() -> Value {
    Value::str(b"ab 1\n<x> ".iter().copied().cycle().take(LARGE).collect::<Vec<u8>>())
}

/// A list with as many items as the text has bytes. A copy of the list would cost many times more.
fn long_list() -> Value {
    Value::list(ListKind::Strings, vec![Value::str("x"); LARGE / 16])
}

/// The cost of a call.
fn cost(meter: &Meter, call: impl FnOnce()) -> u64 {
    let before = meter.work();
    call();
    meter.work() - before
}

/// A cost that no call exceeds without reading something large.
const LITTLE: u64 = 2048;

#[test]
fn every_filter_is_charged_with_the_text_it_reads() {
    /// The filters that do not read the whole text.
    const UNREAD: [&str; 11] = [
        "date",
        "default",
        "default_if_none",
        "first",
        "get_digit",
        "last",
        "mapValue",
        "pluralize",
        "safe",
        "time",
        "yesno",
    ];
    let text = large();
    for name in filters::names() {
        let filter = filters::lookup(name).unwrap();
        let env = fixture::env();
        // The result and errors do not matter.
        let cost = cost(&env.meter, || _ = filter.call(&env, &text, &Value::str("1:2")));
        match UNREAD.contains(&name) {
            true => assert!(cost < LITTLE, "{name} reads nothing, but costs {cost}"),
            false => assert!(cost >= LARGE as u64, "{name} costs {cost}"),
        }
    }
}

#[test]
fn every_filter_is_charged_with_the_items_it_reads() {
    const READ: [&str; 7] = ["join", "slice", "sortByLength", "stringformat", "toJSON", "toPrettyJSON", "toYAML"];
    let list = long_list();
    for name in filters::names() {
        let filter = filters::lookup(name).unwrap();
        let env = fixture::env();
        let argument = match name {
            "slice" => "0:99999999",
            "stringformat" => "%v",
            "toYAML" => "indent=4",
            _ => "1",
        };
        let cost = cost(&env.meter, || _ = filter.call(&env, &list, &Value::str(argument)));
        match READ.contains(&name) {
            true => assert!(cost >= list.len() as u64, "{name} costs {cost}"),
            false => assert!(cost < LITTLE, "{name} reads no items, but costs {cost}"),
        }
    }
}

#[test]
fn every_function_is_charged_with_the_texts_it_is_given() {
    let text = large();
    for name in functions::names() {
        let function = functions::lookup(name).unwrap();
        let parameters = function.signature.required.iter().chain(&function.signature.rest);
        let args: Vec<Value> = parameters
            .map(|parameter| match parameter.kind {
                Kind::Int => Value::integer(1),
                Kind::Str | Kind::Any => text.clone(),
            })
            .collect();
        let env = fixture::env();
        let cost = cost(&env.meter, || _ = function.call(&env, &args));
        let read: usize = args.iter().map(Value::text_len).sum();
        assert!(cost >= read as u64, "{name} costs {cost} for {read} bytes");
    }
}

#[test]
fn every_operator_is_charged_with_the_texts_it_reads() {
    let all =
        [Op::Eq, Op::Ne, Op::Lt, Op::Le, Op::Gt, Op::Ge, Op::In, Op::Add, Op::Sub, Op::Mul, Op::Div, Op::Rem, Op::Pow];
    for op in all {
        // A new operator belongs into the list above.
        let operands = match op {
            Op::Eq | Op::Ne => (large(), large()),
            Op::In => (Value::str("none"), large()),
            Op::Lt | Op::Le | Op::Gt | Op::Ge | Op::Add | Op::Sub | Op::Mul | Op::Div | Op::Rem | Op::Pow => {
                (large(), Value::integer(1))
            }
        };
        let meter = usual();
        let cost = cost(&meter, || _ = Value::binary(&meter, op, &operands.0, &operands.1));
        assert!(cost >= LARGE as u64, "{op:?} costs {cost}");
    }
    let meter = usual();
    let cost = cost(&meter, || _ = Value::binary(&meter, Op::In, &Value::str("y"), &long_list()));
    assert!(cost >= (LARGE / 16) as u64, "in a list: {cost}");
}

#[test]
fn a_loop_is_charged_with_the_rows_made_for_it() {
    let map = Value::map((0..10_000).map(|n| (n.to_string().into_bytes().into(), Value::Nil)).collect());
    let meter = usual();
    assert!(cost(&meter, || _ = map.rows(&meter, false, false)) >= 10_000);
    assert!(cost(&meter, || _ = long_list().rows(&meter, false, true)) >= (LARGE / 16) as u64);
    assert_eq!(meter.memory(), 0, "rows that are gone take nothing");
    let rows = map.rows(&meter, false, false).unwrap();
    assert!(meter.memory() > 10_000 * size_of::<Value>());
    drop(rows);
    assert_eq!(meter.memory(), 0);
}

/// The first entry of a tree allocates a whole node, so a small map is far larger than its contents.
#[test]
fn small_maps_count_with_the_node_that_they_have() {
    const NODE: usize = 11 * (size_of::<Value>() + size_of::<Bytes>());
    let text = |item: &str| Value::str(format!("[{}]", [item; 1000].join(",")));
    for (filter, item) in [("parseJSON", r#"{"a":1}"#), ("parseYAML", "{a: 1}")] {
        let env = fixture::env();
        let list = filters::lookup(filter).unwrap().call(&env, &text(item), &Value::Nil).unwrap();
        env.meter.keep(&list).unwrap();
        assert!(env.meter.memory() > 1000 * NODE, "{filter}: {}", env.meter.memory());
        let env = fixture::with(Limits { memory: 500 * NODE, ..Limits::default() });
        let error = filters::lookup(filter).unwrap().call(&env, &text(item), &Value::Nil).unwrap_err();
        assert!(error.contains("`template_memory` in [limits] raises that"), "{filter}: {error}");
    }
    let env = fixture::env();
    for (made, method) in
        [(env.collections.create_map(&env.meter), "Set"), (env.collections.create_set(&env.meter), "Append")]
    {
        let Value::Object(made) = made else { panic!("{method}") };
        let before = env.meter.memory();
        let arguments = &[Value::str("a"), Value::str("b")];
        let arguments = if method == "Set" { &arguments[..] } else { &arguments[..1] };
        made.call(method, arguments).unwrap().unwrap();
        assert!(env.meter.memory() - before > NODE, "{method}");
    }
}

fn limited(memory: usize) -> Meter {
    fixture::metered(Limits { memory, ..Limits::default() })
}

fn text(bytes: usize) -> Value {
    Value::str(vec![b'x'; bytes])
}

#[test]
fn what_is_dropped_makes_room() {
    let meter = limited(10_000_000);
    for _ in 0..100 {
        meter.keep(&text(3_000_000)).unwrap();
    }
    let kept: Vec<Value> = (0..3).map(|_| text(3_000_000)).collect();
    kept.iter().for_each(|value| meter.keep(value).unwrap());
    let more = text(3_000_000);
    let error = "the template holds more than 10000000 bytes at a time; `template_memory` in [limits] raises that";
    assert_eq!(meter.keep(&more).unwrap_err(), error);
    drop(kept);
    meter.keep(&more).unwrap();
}

#[test]
fn what_is_shared_counts_once() {
    let meter = limited(10_000_000);
    let value = text(3_000_000);
    for _ in 0..100 {
        let shared = value.clone();
        meter.keep(&shared).unwrap();
    }
    assert_eq!(meter.memory(), 0, "what something else holds is the other's");
    meter.keep(&value).unwrap();
    let counted = meter.memory();
    for _ in 0..100 {
        meter.keep(&value).unwrap();
    }
    assert_eq!(meter.memory(), counted);
    // The large parts of a list count too, even after the list is dropped.
    let list = Value::list(ListKind::Any, vec![text(2_000_000), Value::list(ListKind::Any, vec![text(1_000_000)])]);
    meter.keep(&list).unwrap();
    let Value::List(inner) = &list else { unreachable!("it is a list") };
    let part = inner.items[0].clone();
    drop(list);
    assert!(meter.keep(&text(6_000_000)).is_err());
    drop(part);
    assert!(meter.keep(&text(6_000_000)).is_ok());
}

#[test]
fn small_values_count_with_what_holds_them() {
    let meter = usual();
    let list = Value::list(ListKind::Strings, (0..1000).map(|n| Value::str(format!("{n:100}"))).collect());
    meter.keep(&list).unwrap();
    assert!(meter.memory() > 1000 * (100 + size_of::<Value>()));
    let map = Value::map((0..1000).map(|n| (n.to_string().into_bytes().into(), text(100))).collect());
    let before = meter.memory();
    meter.keep(&map).unwrap();
    assert!(meter.memory() - before > 1000 * 200);
}

const INTERRUPTED: &str = "stopped before the end";

/// The result of a render, whether it was interrupted, and the number of checks of clock and signals.
fn render(world: TestWorld, limits: Limits) -> (Result<usize, String>, bool, u64) {
    let concrete = Rc::new(world);
    let world: Rc<dyn World> = concrete.clone();
    let mut template = Template::compile(Path::new("t"), &world).expect("it compiles");
    template.limits = limits;
    let result = template.render(&Rc::new(Store::new(1)), &world);
    let interrupted = result.as_ref().is_err_and(|error| error.message().ends_with(INTERRUPTED));
    (result.map(|out| out.len()).map_err(|error| error.message().to_owned()), interrupted, concrete.stop_checks.get())
}

fn world(template: &str) -> TestWorld {
    TestWorld::of([("t", template)])
}

const ROUNDS: &str = "{% for a in \"0123456789\" %}{% for b in \"0123456789\" %}{% for c in \"0123456789\" %}";
const ENDS: &str = "{% endfor %}{% endfor %}{% endfor %}";

#[test]
fn a_render_ends_with_its_time() {
    let template = format!("{ROUNDS}{{{{ \"x\"|ljust:1000 }}}}{ENDS}");
    let limits = Limits { time: Duration::from_millis(1500), ..Limits::default() };
    let world = |tick| TestWorld { tick: Duration::from_millis(tick), ..world(&template) };
    let error = "the template takes more than 1.5 seconds of processor time; `template_time` in [limits] raises that";
    let (result, interrupted, looks) = render(world(500), limits);
    assert!(result.is_err_and(|message| message.ends_with(error)));
    assert_eq!((interrupted, looks), (false, 4));
    assert_eq!(render(world(0), limits).0, Ok(1_000_000));
}

#[test]
fn an_interrupted_render_has_not_failed() {
    let template = format!("{ROUNDS}{{{{ \"x\"|ljust:1000 }}}}{ENDS}");
    let (result, interrupted, _) = render(TestWorld { stop_at: Some(3), ..world(&template) }, Limits::default());
    assert_eq!((result, interrupted), (Err(INTERRUPTED.to_owned()), true));
}

#[test]
fn clock_and_signals_are_looked_at_by_the_bytes_that_are_read() {
    // One operation that creates a text, and some that only read the text.
    for operation in
        ["x|upper", "\"none\" in x", "x|wordcount", "x == y", "x|toJSON|length", "printf(\"%q\", x)|length"]
    {
        let template = format!(
            "{{% set x = \"x\"|ljust:100000 %}}{{% set y = \"x\"|ljust:100000 %}}{ROUNDS}{{% if {operation} %}}{{% endif %}}{ENDS}"
        );
        let last = TestWorld { stop_at: Some(20), ..world(&template) };
        let (_, interrupted, looks) = render(last, Limits { steps: u64::MAX, ..Limits::default() });
        assert_eq!((interrupted, looks), (true, 20), "{operation}");
    }
}

/// Short templates that would take hours or gigabytes, each with the limit that ends it.
#[test]
fn hostile_templates_end_at_a_limit() {
    let small = Limits { steps: 600_000, output: 1 << 19, memory: 1 << 20, ..Limits::default() };
    let sets = |value: &str| {
        (0..100).map(|n| format!("{{% set a{n} = {} %}}", value.replace('#', &n.to_string()))).collect::<String>()
    };
    let graph = |last: &str| {
        let level = "{% set b = createMap() %}{{ b.Set(\"l\", a) }}{{ b.Set(\"r\", a) }}{% set a = b %}";
        format!("{{% set a = createMap() %}}{}{last}", level.repeat(60))
    };
    let fill = |value: &str| {
        format!(
            "{{% set m = createMap() %}}{ROUNDS}{ROUNDS}{{{{ m.Set(printf(\"%d-%s%s%s\", forloop.Counter0, a, b, c), {value}) }}}}{ENDS}{ENDS}"
        )
    };
    let super_ = "{% macro f(n) %}{% if n < 30 %}{{ f(n + 1) }}{{ f(n + 1) }}{% endif %}{% endmacro %}{{ f(1) }}";
    let memory = "template_memory";
    let cases = [
        (sets("\"x\"|ljust:20000"), memory),
        (sets("\"x\"|ljust:1000"), ""),
        (sets("\"x\"|ljust:20000|add:\"#\"|split:\",\"|first"), memory),
        (sets("\"[[1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17,18,19,20,21,22,23,24]]\"|parseJSON|first"), ""),
        (format!("{{% set j = replace(\" \"|ljust:2000, \" \", \"ab,\", 0-1)|split:\",\" %}}{}", sets("j|slice:\"0:2000\"")), memory),
        (format!("{{% set j = \"[\"|add:replace(\" \"|ljust:2000, \" \", \"1,\", 0-1)|add:\"1]\" %}}{}", sets("j|parseJSON")), memory),
        ("{% ifchanged \"x\"|ljust:20000 %}{% endifchanged %}".repeat(100), memory),
        ("{% ifchanged %}{{ \"x\"|ljust:20000 }}{% endifchanged %}".repeat(100), "template_"),
        (fill("\"1,2,3,4,5,6,7,8,9,10\"|split:\",\""), "template_"),
        (graph("{{ a|toJSON }}"), "template_"),
        (graph("{{ a|toYAML }}"), "template_"),
        (graph("{{ printf(\"%v\", a) }}"), "template_"),
        (graph("{{ createSet().Append(a) }}"), "template_"),
        (graph("{% if a.l == a.r %}{% endif %}"), "cannot compare two maps"),
        (graph("{% if \"l\" in a %}{% endif %}"), ""),
        ("{% macro f() %}{% set x = \"x\"|ljust:20000 %}{{ f() }}{% endmacro %}{{ f() }}".to_owned(), memory),
        (super_.to_owned(), "template_steps"),
        (format!("{ROUNDS}{ROUNDS}{{% if a + b * 3 > c %}}{{% endif %}}{ENDS}{ENDS}"), "template_steps"),
        ("{{ \"x\"|center:1000000000 }}".to_owned(), "template_output"),
        ("{{ \"x\"|rjust:1000000000 }}".to_owned(), ""),
        ("{{ 1.5|floatformat:100000000 }}".to_owned(), "decimals"),
        ("{% filter length %}{% lorem 99999999 w %}{% endfilter %}".to_owned(), "template_"),
        ("{% set x = replace(\" \"|ljust:50000, \" \", \"<a>\", -1) %}{{ x|truncatechars_html:200000 }}".to_owned(), memory),
            ("{% set r = replace(\" \"|ljust:20000, \" \", \"{a: b},\", -1) %}{% set y = \"[\"|add:r|add:\"]\"|parseYAML %}".to_owned(), memory),
        ("{% set y = \"{a: &a [x,x,x,x,x,x,x,x], b: &b [*a,*a,*a,*a,*a,*a,*a,*a], c: &c [*b,*b,*b,*b,*b,*b,*b,*b], d: &d [*c,*c,*c,*c,*c,*c,*c,*c], e: [*d,*d,*d,*d,*d,*d,*d,*d]}\"|parseYAML %}".to_owned(), "takes more than"),
    ];
    let mut wrong = Vec::new();
    for (template, expected) in cases {
        let (result, _, _) = render(world(&template), small);
        let shown = &template[..template.len().min(150)];
        let is_right = match &result {
            Ok(_) => expected.is_empty(),
            Err(error) => !expected.is_empty() && error.contains(expected),
        };
        if !is_right {
            wrong.push(format!("{shown}: {result:?}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// The result of a compilation, whether it was interrupted, and the number of checks of clock and signals.
fn compile(world: TestWorld, limits: Limits) -> (Result<(), String>, bool, u64) {
    let concrete = Rc::new(world);
    let world: Rc<dyn World> = concrete.clone();
    let result = Template::compile_within(Path::new("t"), &world, limits, Rc::default()).map(|_| ());
    let interrupted = result.as_ref().is_err_and(|error| error.message().ends_with(INTERRUPTED));
    (result.map_err(|error| error.message().to_owned()), interrupted, concrete.stop_checks.get())
}

const FULL: &str = "the template holds more than 1000000 bytes at a time; `template_memory` in [limits] raises that";

#[test]
fn compiled_files_are_accounted_for() {
    let limits = Limits { memory: 1_000_000, ..Limits::default() };
    let compile =
        |text: String, more: Vec<(&str, String)>| compile(TestWorld::of([vec![("t", text)], more].concat()), limits).0;
    // Each kind of part that a template may have many of, in one tag or in many.
    let many = [
        "{{ 1 }}".repeat(2000),
        "{% if 1 %}{% endif %}".repeat(2000),
        format!("{{% if 1 %}}{}{{% endif %}}", "{% elif 1 %}".repeat(2000)),
        "{% for a in 1 %}{% endfor %}".repeat(500),
        format!("{{{{ 1{} }}}}", "+1".repeat(5000)),
        format!("{{{{ 1{} }}}}", "|upper".repeat(5000)),
        format!("{{{{ printf(\"\"{}) }}}}", ",1".repeat(5000)),
        (0..2000).map(|n| format!("{{% block b{n} %}}{{% endblock %}}")).collect(),
        (0..2000).map(|n| format!("{{% macro b{n}() %}}{{% endmacro %}}")).collect(),
        "x".repeat(1_000_000),
        "{% ssi \"large\" %}".repeat(20),
        "{% include \"many\" %}{% include \"more\" %}".to_owned(),
        "{% extends \"many\" %}{% block a %}{% include \"more\" %}{% endblock %}".to_owned(),
        "{% import \"many\" m %}{% include \"more\" %}".to_owned(),
    ];
    let tags = "{{ 1 }}".repeat(400);
    let body = format!("{{% macro m() export %}}{{% endmacro %}}{tags}{{% block a %}}{tags}{{% endblock %}}");
    let others = || vec![("large", "x".repeat(60_000)), ("many", body.clone()), ("more", tags.clone() + &tags)];
    for text in many {
        assert_eq!(compile(text.clone(), others()), Err(FULL.to_owned()), "{:.100}", text);
    }
    // Each file alone is below the limit.
    for (_, text) in others() {
        assert_eq!(compile(text, vec![]), Ok(()));
    }
    // Steps count only work at run time.
    let limits = Limits { steps: 1, ..limits };
    assert_eq!(self::compile(world(&tags), limits).0, Ok(()));
}

#[test]
fn a_computed_include_is_accounted_for_in_the_render() {
    let limits = Limits { memory: 1_000_000, ..Limits::default() };
    let text = "{% set name = \"many\" %}{% include name %}";
    let files = |tags| TestWorld::of([("t", text.to_owned()), ("many", "{{ 1 }}".repeat(tags))]);
    let (result, ..) = render(files(2000), limits);
    assert_eq!(result, Err(FULL.to_owned()));
    assert_eq!(render(files(500), limits).0, Ok(500));
}

#[test]
fn compiling_ends_with_its_time_and_when_it_is_interrupted() {
    let text = "{{ 1 }}".repeat(10_000);
    let (result, interrupted, looks) = compile(
        TestWorld { tick: Duration::from_secs(1), ..world(&text) },
        Limits { time: Duration::from_secs(3), ..Limits::default() },
    );
    let error = "the template takes more than 3 seconds of processor time; `template_time` in [limits] raises that";
    assert_eq!((result, interrupted, looks), (Err(error.to_owned()), false, 4));
    let (result, interrupted, _) = compile(TestWorld { stop_at: Some(3), ..world(&text) }, Limits::default());
    assert_eq!((result, interrupted), (Err(INTERRUPTED.to_owned()), true));
}
