//! Scripts with their inputs and results. The tests of the template language cover the lookup of filters, the
//! integration tests their files and reloads.

use std::rc::Rc;

use super::*;
use crate::template::Limits;
use crate::template::fixture::{TestWorld, Variables, env, eval, limited, store, with};
use crate::template::reads::Recording;

const STEPS: u64 = 1_000_000;
const ENDLESS: &str = "f.js: the template takes more than 1000000 steps; `template_steps` in [limits] raises that";

fn filter(source: &str) -> Filter {
    Filter { path: "f.js".into(), source: source.to_owned(), engine: RefCell::default() }
}

fn value(expression: &str) -> Value {
    eval(&env(), &Variables::new(), expression).unwrap_or_else(|e| panic!("{expression}: {e}"))
}

/// The result of a script for the value of an expression.
fn run(source: &str, input: &str) -> Result<Value, String> {
    filter(source).call(&with(Limits { steps: STEPS, ..Limits::default() }), &value(input), &Value::Nil)
}

/// The result with its type.
#[track_caller]
fn check(source: &str, input: &str, expected: &str) {
    let value = run(source, input).unwrap_or_else(|e| panic!("{source}: {e}"));
    assert_eq!(format!("{value:?}"), expected, "{source}");
}

#[track_caller]
fn fails(source: &str, expected: &str) {
    match run(source, "'text'") {
        Ok(value) => panic!("{source}: {value:?}"),
        Err(error) => assert_eq!(error, expected, "{source}"),
    }
}

#[test]
fn the_last_expression_is_the_result() {
    check("In.split('/').join('_').substr(1).toUpperCase();", "'/config/user/name'", "\"CONFIG_USER_NAME\"");
    check("if (In == 'a') { 1 } else { 2 }", "'a'", "1");
    check("var parts = In.split(','); for (var i in parts) { parts[i] + '!' }", "'a,b'", "\"b!\"");
    check("", "'a'", "nil");
    check("var x = 1", "'a'", "nil");
    check("function f(x) { return x + x } f(In) // twice", "'a'", "\"aa\"");
    check("'use strict'; let [a, b] = In.split('='); `${b}=${a}`", "'k=v'", "\"v=k\"");
}

#[test]
fn values_go_in() {
    check(
        "typeof In + In",
        "'é😀'",
        "\"stringé😀\"".replace('é', "\\xc3\\xa9").replace('😀', "\\xf0\\x9f\\x98\\x80").as_str(),
    );
    check("typeof In + In", "7", "\"number7\"");
    check("typeof In + In", "'2.5'|parseFloat", "\"number2.5\"");
    check("In === true", "true", "true");
    check("In === null", "undefined", "true");
    check("Param === null", "1", "true");
    check("Array.isArray(In) + In.join()", "'a,b'|split:','", "\"truea,b\"");
    check("In.a + In.b.c[1]", "'{\"a\": \"x\", \"b\": {\"c\": [1, 2]}}'|parseJSON", "\"x2\"");
    check("In.Key + '=' + In.Value", "get('/app/name')", "\"/app/name=shop\"");
    check("In.map(function (p) { return p.Value }).join()", "gets('/hosts/*')", "\"10.0.0.2,10.0.0.1\"");
    check("In[0].Target + In[0].Port", "lookupSRV('db', 'tcp', 'example.com')", "\"a.example.com.1000\"");
    check("In", "'a,b'|split:','|index:1", "\"b\"");
    check("Object.keys(In).length", "createMap()", "0");
    check("In.length", "createSet()", "0");
    // Not the prototype of the map.
    check("In.__proto__ + In.x", "'{\"__proto__\": \"p\", \"x\": 1}'|parseJSON", "\"p1\"");
}

#[test]
fn the_argument_is_param() {
    let call =
        |argument: &Value| filter("In + '/' + Param").call(&env(), &Value::str("a"), argument).expect("it adds").text();
    assert_eq!(*call(&Value::str("b")), *b"a/b");
    assert_eq!(*call(&Value::integer(5)), *b"a/5");
}

#[test]
fn values_come_out() {
    check("3", "1", "3");
    check("6 / 2", "1", "3");
    check("1.5 + 1.5", "1", "3");
    check("7 / 2", "1", "3.5");
    check("0 / 0", "1", "NaN");
    check("-1 / 0", "1", "-inf");
    check("-0", "1", "-0.0");
    check("Math.pow(2, 53)", "1", "9007199254740992");
    check("Math.pow(2, 60)", "1", "1.152921504606847e18");
    check("9223372036854775807n", "1", "9223372036854775807");
    check("true", "1", "true");
    check("null", "1", "nil");
    check("[1, , 'a', [null]]", "1", "[1, nil, \"a\", [nil]]");
    check("({b: 1, a: {c: [2]}})", "1", "{\"a\": {\"c\": [2]}, \"b\": 1}");
    check("var o = {}; o['__proto__x'] = 1; o", "1", "{\"__proto__x\": 1}");
    check("new String(In)", "'a'", "\"a\"");
    check("new Number(2)", "1", "2");
    check("Object.create(null)", "1", "{}");
    fails(
        "(function () {})",
        "f.js: the result is a function, but a filter returns a string, a number, a boolean, a list or a map",
    );
    fails(
        "Symbol()",
        "f.js: the result is a symbol, but a filter returns a string, a number, a boolean, a list or a map",
    );
    fails(
        "10n ** 30n",
        "f.js: the result is an integer of more than 64 bits, but a filter returns a string, a number, a boolean, a list or a map",
    );
    fails("new Date(0)", "f.js: the result is an object of kind Date; give its text instead");
    fails("[/x/]", "f.js: the result is an object of kind RegExp; give its text instead");
    fails("Promise.resolve(1)", "f.js: the result is an object of kind Promise; give its text instead");
}

/// Every value prints equally after a filter that does nothing.
#[test]
fn texts_come_out_as_they_went_in() {
    for text in [&b"\xff\xfe"[..], b"a\x80b\xc3", "😀\u{fffd}".as_bytes(), b"\0", b"\xed\xb2\x80", b""] {
        let result = filter("In").call(&env(), &Value::str(text), &Value::Nil).expect("nothing is done");
        assert_eq!(*result.text(), *text);
        let result = filter("({k: [In]}).k[0] + 'é'").call(&env(), &Value::str(text), &Value::Nil);
        assert_eq!(*result.expect("it adds").text(), [text, "é".as_bytes()].concat());
    }
    check("In.length", "'é'", "1");
    // Half a character is none.
    check("In.charAt(0)", "'😀'", "\"\\xef\\xbf\\xbd\"");
}

#[test]
fn calls_are_apart() {
    let filter = filter("n = (typeof n == 'undefined' ? 0 : n) + 1; let once = n; const C = 1; n");
    for _ in 0..3 {
        let result = filter.call(&env(), &Value::Nil, &Value::Nil);
        assert_eq!(result.map(|value| value.int()), Ok(1));
    }
}

#[test]
fn what_goes_wrong_is_told_with_its_line() {
    fails("\n\nfoo()", "f.js:3: ReferenceError: foo is not defined");
    fails("var a = null;\n a.x", "f.js:2: TypeError: cannot read property 'x' of null");
    fails("function f() {\n throw new Error('not ' + In)\n}\n[1].map(f)", "f.js:2: Error: not text");
    fails("throw 'plain'", "f.js: throws plain");
    fails("throw {}", "f.js: throws [object Object]");
    fails("throw new Error('two\\nlines')", "f.js:1: Error: two");
    fails("function f() { return 1 + f() } f()", "f.js:1: RangeError: Maximum call stack size exceeded");
    fails("var a = []; a[0] = a; a", "f.js: cannot take a value of more than 200 levels");
    fails("({get x() { throw new TypeError('no') }})", "f.js:1: TypeError: no");
    let long = run("throw new Error(new Array(1000).join('x'))", "1").unwrap_err();
    assert!(long.len() < 250 && long.ends_with("x..."), "{long}");
}

#[test]
fn a_script_is_checked_before_it_runs() {
    let check = |source: &str, expected: Result<(), &str>| {
        assert_eq!(filter(source).check(), expected.map_err(str::to_owned), "{source}");
    };
    check("while (true) {}", Ok(()));
    check("In // comment", Ok(()));
    check("let x = 1; x", Ok(()));
    check("1 +\n * 2", Err("f.js:2: SyntaxError: unexpected token in expression: '*'"));
    assert!(filter("In.split(").check().is_err());
    assert!(filter("'\0").check().is_err());
}

#[test]
fn a_script_without_end_is_ended() {
    fails("while (true) {}", ENDLESS);
    fails("for (;;) try { for (;;) {} } catch (e) {} finally { for (;;) {} }", ENDLESS);
    fails("/(a+)+$/.test(new Array(40).join('a') + 'b')", ENDLESS);
    fails("[2, 1].sort(function () { for (;;) {} })", ENDLESS);
    fails("var a = []; a.length = 4294967295; a.indexOf(1)", ENDLESS);
    fails("({get x() { for (;;) {} }})", ENDLESS);
}

#[test]
fn arrays_of_holes_are_refused() {
    let holes = |call: &str, name: &str| {
        let source = format!("var a = [];\na.length = 4294967295;\n{call}");
        fails(&source, &format!("f.js:3: RangeError: an array of 4294967295 elements is too long for {name}"));
    };
    holes("a.join('')", "join");
    holes("a + ''", "join");
    holes("a.toLocaleString()", "toLocaleString");
    holes("a.reverse()", "reverse");
    holes("a.toReversed()", "toReversed");
    holes("a.sort()", "sort");
    holes("a.toSorted()", "toSorted");
    holes("a.fill(1)", "fill");
    holes("a.with(0, 1)", "with");
    holes("a.slice(1)", "slice");
    holes("a.splice(1)", "splice");
    holes("a.toSpliced(1)", "toSpliced");
    holes("a.shift()", "shift");
    holes("a.unshift(1)", "unshift");
    holes("a.copyWithin(1, 0)", "copyWithin");
    holes("a.concat(1)", "concat");
    holes("[1].concat(2, a)", "concat");
    holes("a.flat()", "flat");
    holes("[[a]].flat(2)", "flat");
    holes("[1].flatMap(function () { return a })", "flatMap");
    holes("new Set(a)", "values");
    holes("new Set(a.keys())", "keys");
    holes("new Set(a.entries())", "entries");
    fails(
        "Array.prototype.reverse.call({length: 1e15})",
        "f.js:1: RangeError: an array of 1000000000000000 elements is too long for reverse",
    );
}

#[test]
fn functions_of_arrays_do_what_they_did() {
    check("[3, 1, , 2].sort() + ';' + [1, 10, 9].sort((a, b) => b - a)", "1", "\"1,2,3,;10,9,1\"");
    check("[1, 2, 3].reverse().join('') + ['a', null, []].join()", "1", "\"321a,,\"");
    check("[1, [2, [3, [4]]]].flat(2).length + [1, [2, [3]]].flat().length", "1", "7");
    check(
        "[1, 2].flatMap(function (x, at, all) { return [x, [this.y + at, all.length]] }, {y: 5}).join('|')",
        "1",
        "\"1|5,2|2|6,2\"",
    );
    check("[1].concat([2, [3]], 4, 'ab').length", "1", "5");
    check("var [a, ...b] = [1, 2, 3]; for (var c of b) a += c; a + Math.max(...b) + new Set(b).size", "1", "11");
    check(
        "var a = [1, 2, 3, 4]; a.splice(1, 2).concat(a.slice(-1), a.shift(), a.unshift(0, 9))",
        "1",
        "[2, 3, 4, 1, 3]",
    );
    check(
        "Array.from(Uint8Array.of(3, 1, 2).sort().slice(1).reverse()).concat([...Uint8Array.of(7)])",
        "1",
        "[3, 2, 7]",
    );
    check(
        "[].join.name + [].slice.length + Object.keys([].join).length + ([][Symbol.iterator] === [].values)",
        "1",
        "\"join20true\"",
    );
    check("var n = 0; for (var k in [5, 6]) n++; n", "1", "2");
    fails("[1].flatMap()", "f.js:1: TypeError: not a function");
    fails("[].join.call(null)", "f.js:1: TypeError: cannot read property 'length' of null");
}

#[test]
fn a_loop_of_long_functions_ends() {
    let long = "var a = []; a.length = 4000000; for (;;) try { a.reverse() } catch (e) {}";
    fails(long, ENDLESS);
    // Caught, and then at its end.
    fails("try { new Array(3000000).join('') } catch (e) {}", ENDLESS);
}

#[test]
fn a_call_costs_steps() {
    let cost = |source: &str, steps: u64| {
        let env = with(Limits { steps, ..Limits::default() });
        let result = filter(source).call(&env, &Value::str("a"), &Value::Nil);
        (result.is_ok(), env.meter.work() / STEP as u64)
    };
    // Besides the call itself, input and output count by their size.
    let (done, steps) = cost("In", STEPS);
    assert!(done && (CALL..CALL + 20).contains(&steps), "{steps}");
    let loops = "for (var i = 0; i < 100000; i++) {}";
    let (done, steps) = cost(loops, STEPS);
    // Each round is a jump and a comparison that may jump.
    assert!(done && (100_000..=250_000).contains(&steps), "{steps}");
    let (done, steps) = cost(loops, 50_000);
    assert!(!done && (50_000..=50_000 + 2 * INTERRUPT_INTERVAL).contains(&steps), "{steps}");
}

#[test]
fn memory_is_bounded() {
    for source in ["var a = []; for (;;) a.push('abc' + a.length)", "'x'.repeat(1 << 27)"] {
        let called = filter(source).call(&env(), &Value::Nil, &Value::Nil);
        assert_eq!(called.unwrap_err(), "f.js: needs more than 64 MiB of memory", "{source}");
    }
    let limited = limited(10_000);
    let call = |source: &str| filter(source).call(&limited, &Value::Nil, &Value::Nil);
    let refused = "f.js: cannot build a value of more than 10000 bytes";
    assert_eq!(call("new Array(20000).join('x')").unwrap_err(), refused);
    assert_eq!(call("var a = []; a.length = 4294967295; a").unwrap_err(), refused);
    // Few values that are seen many times.
    assert_eq!(call("var a = []; for (var i = 0; i < 100; i++) a = [a, a]; a").unwrap_err(), refused);
    let large = Value::str(vec![b'x'; 20_000]);
    let called = filter("1").call(&limited, &large, &Value::Nil);
    assert_eq!(called.unwrap_err(), refused);
}

/// A map has room for eleven entries with its first one, ten times what the entry itself takes.
#[test]
fn small_maps_count_with_their_room() {
    let call = |source: &str| {
        let env = with(Limits { memory: 400_000, ..Limits::default() });
        filter(source).call(&env, &Value::Nil, &Value::Nil).map(|_| ())
    };
    let maps = "var a = []; for (var i = 0; i < 1000; i++) a.push(ENTRY); a";
    assert_eq!(call(&maps.replace("ENTRY", "[i]")), Ok(()));
    assert_eq!(call(&maps.replace("ENTRY", "{}")), Ok(()));
    let full = "f.js: the template holds more than 400000 bytes at a time; `template_memory` in [limits] raises that";
    assert_eq!(call(&maps.replace("ENTRY", "{k: i}")), Err(full.to_owned()));
}

#[test]
fn a_filter_works_again_after_a_failure() {
    let filter = filter("if (In == 'loop') for (;;) {} if (In == 'fail') throw 1; In");
    let call =
        |text: &str| filter.call(&with(Limits { steps: STEPS, ..Limits::default() }), &Value::str(text), &Value::Nil);
    for text in ["loop", "fail", "loop"] {
        assert!(call(text).is_err(), "{text}");
        assert_eq!(*call("a").expect("it does nothing").text(), *b"a");
    }
}

#[test]
fn a_value_in_a_circle_is_refused() {
    let map = value("createMap()");
    map.call("Set", &[Value::str("self"), map.clone()]).expect("maps have Set").expect("it takes any value");
    let called = filter("1").call(&env(), &map, &Value::Nil);
    assert_eq!(called.unwrap_err(), "f.js: cannot take a value of more than 200 levels");
    map.call("Remove", &[Value::str("self")]).expect("maps have Remove").expect("it is in the map");
}

#[test]
fn a_script_ends_when_the_program_does() {
    let world = TestWorld { stop_at: Some(1), ..TestWorld::default() };
    let env = Env::new(store(), Rc::new(world), Limits::default(), Recording::default());
    let called = filter("for (;;) {}").call(&env, &Value::Nil, &Value::Nil);
    assert_eq!(called.unwrap_err(), "f.js: stopped before the end");
    let steps = env.meter.work() / STEP as u64;
    assert!(steps <= 2 * INTERRUPT_INTERVAL, "{steps}");
}
