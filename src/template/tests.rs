//! The language as a whole: templates with their output or error. Values, functions, filters and single parts of the
//! front end are tested beside their code.

use std::collections::BTreeMap;
use std::path::Path;
use std::rc::Rc;

use super::fixture::{self, TestWorld};
use super::meter::{STEP, raised_by};
use super::scripts::{Script, Scripts};
use super::value::Value;
use super::{Env, Limits, Template, World};

/// Renders `t.tmpl` in a world with these files, over the store of the fixture.
fn render_files(files: &[(&str, &[u8])]) -> Result<Vec<u8>, super::Error> {
    let world: Rc<dyn World> = Rc::new(TestWorld::of(files.iter().copied()));
    Template::compile(Path::new("t.tmpl"), &world)?.render(&fixture::store(), &world)
}

fn render(template: &str) -> Result<Vec<u8>, super::Error> {
    render_files(&[("t.tmpl", template.as_bytes())])
}

#[track_caller]
fn check(template: &str, expected: &str) {
    check_files(&[("t.tmpl", template)], expected);
}

#[track_caller]
fn check_files(files: &[(&str, &str)], expected: &str) {
    let files: Vec<_> = files.iter().map(|(path, text)| (*path, text.as_bytes())).collect();
    match render_files(&files) {
        Ok(out) => assert_eq!(String::from_utf8_lossy(&out), expected),
        Err(error) => panic!("{error}"),
    }
}

/// Expects an error with this place and message, and in its excerpt this part underlined.
#[track_caller]
fn fails(template: &str, underlined: &str, expected: &str) {
    fails_files(&[("t.tmpl", template)], underlined, expected);
}

#[track_caller]
fn fails_files(files: &[(&str, &str)], underlined: &str, expected: &str) {
    let files: Vec<_> = files.iter().map(|(path, text)| (*path, text.as_bytes())).collect();
    let error = match render_files(&files) {
        Ok(out) => panic!("no error, but {:?}", String::from_utf8_lossy(&out)),
        Err(error) => error.to_string(),
    };
    let mut lines = error.lines();
    assert_eq!(lines.next(), Some(expected), "{error}");
    if let (Some(line), Some(marks)) = (lines.next(), lines.next()) {
        let from = marks.chars().position(|c| c == '^').expect("something is underlined");
        let part: String = line.chars().skip(from).take(marks.chars().count() - from).collect();
        assert_eq!(part, underlined, "{error}");
        // The column is that of the first caret, if all characters have one width.
        if line.is_ascii() && !line.contains("| ...") {
            let margin = line.find("| ").expect("the number of the line stands before it") + 2;
            let place = expected.split(": ").next().unwrap_or_default();
            assert!(place.ends_with(&format!(":{}", from - margin + 1)), "{error}");
        }
    }
}

#[test]
fn what_follows_one_another_is_one_line() {
    use super::compile::program::Place;

    /// Checks which nodes continue a line.
    fn check(template: &str, expected: &[bool]) {
        let world: Rc<dyn World> = Rc::new(TestWorld::of([("t.tmpl", template.as_bytes())]));
        let template = Template::compile(Path::new("t.tmpl"), &world).unwrap_or_else(|error| panic!("{error}"));
        let within: Vec<bool> = template.program.nodes.iter().map(|node| node.place == Place::Within).collect();
        assert_eq!(within, expected);
    }
    check("text", &[false]);
    check("a{{ b }}c{% set d = 1 %}{{ d }}", &[true, true, true, true, false]);
    // The body of a loop continues its round; the end of the loop does not.
    check("a{% for x in b %}{{ x }},{% endfor %}c", &[false, true, true, false, true, false]);
    // upon runs a condition by itself.
    check("a{% if b %}c{{ d }}{% else %}e{% endif %}f", &[false, false, true, false, false, false]);
    check("{% filter upper %}a{% endfilter %}b", &[true, true, true, false]);
    check("{% macro m() %}a{% endmacro %}b{{ m() }}", &[true, true, false, false]);
}

#[test]
#[rustfmt::skip]
fn the_error_of_the_documentation() {
    let store = fixture::store();
    let world = TestWorld::default();
    let text = "{% for dir in ls(\"/hosts\") %}\nbackend {{ dir }}\n    mode tcp\n    server {{ dir | base }} \
                {{ getv(printf(\"/config/%s/weight\", dir)) }}\n{% endfor %}\n";
    world.put("haproxy.tmpl", text.as_bytes());
    let world: Rc<dyn World> = Rc::new(world);
    let template = Template::compile(Path::new("haproxy.tmpl"), &world).expect("compiles");
    let error = template.render(&store, &world).expect_err("a key is missing");
    assert_eq!(
        error.to_string(),
        "haproxy.tmpl:4:32: getv: key does not exist: /config/one/weight\n\
         \u{20}4 |     server {{ dir | base }} {{ getv(printf(\"/config/%s/weight\", dir)) }}\n\
         \u{20}  |                                ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^"
    );
    assert_eq!((error.line(), error.col()), (Some(4), Some(32)));
    assert_eq!(error.message(), "getv: key does not exist: /config/one/weight");
}

#[test]
#[rustfmt::skip]
fn text_is_left_alone() {
    check("", "");
    // A byte order mark at the start of any file is dropped; elsewhere it is text.
    check("\u{feff}a\u{feff}", "a\u{feff}");
    check("\u{feff}", "");
    check("\u{feff}\u{feff}", "\u{feff}");
    check("\u{feff}{{ 1 }}", "1");
    check_files(&[("t.tmpl", "\u{feff}a{% include \"p\" %}{% ssi \"p\" parsed %}"), ("p", "\u{feff}p")], "app");
    check_files(&[("t.tmpl", "\u{feff}{% extends \"p\" %}"), ("p", "\u{feff}p{% block a %}{% endblock %}")], "p");
    check_files(&[("t.tmpl", "{% set p = \"p\" %}{% include p %}"), ("p", "\u{feff}p")], "p");
    fails("\u{feff}{{ 1 / 0 }}", "1 / 0", "t.tmpl:1:4: cannot divide an integer by zero");
    check("plain\r\n\ttext é 😀 }} %} #} { { % } {x} {", "plain\r\n\ttext é 😀 }} %} #} { { % } {x} {");
    check("{{ 1 }}}", "1}");
    check("{ {{ 1 }} }{{ 2 }}{", "{ 1 }2{");
    check("{{ \"{{\" }}{{ \"%}\" }}", "{{%}");
    check("a{##}{b", "a{b");
    check("{##}}{##}}", "}}");
    check("%{##}}", "%}");
    check("\u{1}\u{0}", "\u{1}\u{0}");
}

#[test]
#[rustfmt::skip]
fn text_may_be_any_bytes() {
    let check = |template: &[u8], expected: &[u8]| {
        let out = render_files(&[("t.tmpl", template)]).map_err(|error| error.to_string());
        assert_eq!(out, Ok(expected.to_vec()));
    };
    check(b"\xff{{ getv(\"/raw\") }}\xc3", b"\xff\xff\xfe\xc3");
    check(b"{{ \"\xff\" }}{% set x = \"\xfe\" %}{{ x }}", b"\xff\xfe");
    check("{% for c in \"é\" %}{{ c }}{% endfor %}".as_bytes(), "é".as_bytes());
    check("{% for c in \"é\" %}{{ c }},{% endfor %}".as_bytes(), b"\xc3,\xa9,");
    check("\u{10ff80}\u{10ffff}{{ \"\u{10ffc3}\" }}".as_bytes(), "\u{10ff80}\u{10ffff}\u{10ffc3}".as_bytes());
}

#[test]
#[rustfmt::skip]
fn whitespace_around_tags() {
    check("a\n{% if 1 %}\nb\n{% endif %}\nc", "a\nb\nc");
    check("a\n  \t{% if 1 %}\nb\n  {% endif %}\nc", "a\nb\nc");
    check("a {% if 1 %} b {% endif %} c", "a b c");
    check("a\n\n{% set x = 1 %}\n\nb", "a\n\n\nb");
    check("a{% if 1 %} \nb{% endif %}", "a \nb");
    check("a\r\n{% if 1 %}\r\nb{% endif %}", "a\r\n\r\nb");
    check("  {{ 1 }}  \n{{ 2 }}\n", "  1  \n2\n");
    check("  {# c #}\nx", "  \nx");
    check("x {##}{% if 1 %}y{% endif %}{##}\nz", "xyz");
    check("x {# #} {% if 1 %}y{% endif %}", "x y");
    check("x \n{% verbatim %}\n{{ y }} {% endverbatim %}\nz", "x \n\n{{ y }} \nz");
    check("x{% verbatim %} a {% endverbatim %} {% if 1 %}{% endif %}", "x a ");
    check("{% comment %} x {% endcomment %}\ny", "y");
}

#[test]
#[rustfmt::skip]
fn dashes_take_all_whitespace() {
    check("a \n {{- 1 -}} \n b", "a1b");
    check("a \n {%- if 1 -%} \n b \n {%- endif -%} \n c", "abc");
    check("a {{-1}} b", "a1 b");
    check("a {{ -1 }} b", "a -1 b");
    check("a {#- c -#} b", "a  b");
    check("a {# c #} {{- 1 }}", "a 1");
    check("x\u{a0}{{- 1 }}", "x\u{a0}1");
}

#[test]
#[rustfmt::skip]
fn comments() {
    check("a{# x {{ y #}b{# #}", "ab");
    check("a{% comment %}{{ x | nofilter }}{% if %}{% nosuch %}{{ a ? b }}{{ x {% endcomment %}b", "ab");
    check("a{% comment %}{% if 1 %}{% comment %}{% endcomment %}b", "ab");
    fails(
        "a {# x\n#}",
        "{#", "t.tmpl:1:3: comment is not closed in its line; longer ones stand in {% comment %} .. {% endcomment %}",
    );
    fails("a\n{# x", "{#", "t.tmpl:2:1: comment is not closed, `#}` is missing");
    fails("{% comment %}x", "{% comment %}", "t.tmpl:1:1: `comment` is not closed, `{% endcomment %}` is missing");
    fails("{% comment \"x\" %}{% endcomment %}", "\"x\"", "t.tmpl:1:12: `comment` takes nothing, found a string");
    fails("{% comment %}{% endcomment x %}", "x", "t.tmpl:1:28: `endcomment` takes nothing, found `x`");
    fails(
        "{% comment %} don't {{ 'x }} {% endcomment %}",
        "'x }} {% endcomment %}", "t.tmpl:1:24: string is not closed in its line",
    );
}

#[test]
#[rustfmt::skip]
fn verbatim() {
    check("{% verbatim %}{{ x }}{% y %}{# z{% endverbatim %}!", "{{ x }}{% y %}{# z!");
    check("a {% verbatim %}{% endverbatim %} b", "a  b");
    fails("{% verbatim %}x", "{% verbatim %}", "t.tmpl:1:1: verbatim is not closed, `{% endverbatim %}` is missing");
    let exactly = "verbatim has to be written exactly so: {% verbatim %} .. {% endverbatim %}";
    fails("{%verbatim%}x{% endverbatim %}", "{%verbatim%}", &format!("t.tmpl:1:1: {exactly}"));
}

#[test]
#[rustfmt::skip]
fn literals() {
    check(r#"{{ "a\"b\\c" }}{{ 'it"s' }}{{ 'q\"' }}{{ "" }}"#, r#"a"b\cit"sq""#);
    check(r#"{{ "\\\"" }}{{ "\\\\" }}"#, r#"\"\\"#);
    check(
        "{{ 007 }} {{ 1.50 }} {{ 1 . 5 }} {{ 00.5 }} {{ 9223372036854775807 }}",
        "7 1.500000 1.500000 0.500000 9223372036854775807",
    );
    check("{{ true }} {{ false }} [{{ True }}{{ None }}{{ nil }}]", "True False []");
    check("[{{ 0x10 }}{{ 1e3 }}{{ 10_000 }}]", "[]");
    check("{% set 2x = 1 %}{{ 2x }}", "1");
}

#[test]
#[rustfmt::skip]
fn bad_literals() {
    fails(
        "{{ 9223372036854775808 }}",
        "9223372036854775808", "t.tmpl:1:4: number is too large, the largest is 9223372036854775807",
    );
    fails("{{ 5. }}", "5.", "t.tmpl:1:4: digits are expected after the point, found the end of the tag");
    let escape = r#"unknown escape in a string; there are \" and \\, and 'a"b' needs none"#;
    fails(r#"{{ "a\nb" }}"#, r"\", &format!("t.tmpl:1:6: {escape}"));
    fails(r"{{ 'it\'s' }}", r"\", &format!("t.tmpl:1:7: {escape}"));
    fails("{{ \"open }}", "\"open }}", "t.tmpl:1:4: string is not closed in its line");
    fails("{{ \"two\nlines\" }}", "\"two", "t.tmpl:1:4: string is not closed in its line");
}

#[test]
#[rustfmt::skip]
fn operators() {
    check("{{ 1 + 2 * 3 - 4 }} {{ (1 + 2) * 3 }} {{ 20 / 2 / 5 }} {{ 7 % 4 }}", "3 9 2 3");
    check("{{ -5 + 8 }} {{ - 5 }} {{ +5 }} {{ -(2 + 3) }} {{ -7 / 2 }} {{ 5 -3 }}", "3 -5 5 -5 -3 2");
    check("{{ 2 ^ 3 ^ 2 }} {{ -2 ^ 2 }} {{ 2 * 3 ^ 2 }}", "512.000000 -4.000000 18.000000");
    check(
        "{{ 1 < 2 }} {{ 2 <= 1 }} {{ 1 > 2 }} {{ 2 >= 2 }} {{ 1 != 2 }} {{ 1 <> 1 }}",
        "True False False True True False",
    );
    check("{{ 1 == 1 == true }} {{ 3 > 2 == true }}", "False True");
    check(
        "{{ not 1 == 2 }} {{ not (1 == 2) }} {{ not 0 }} {{ !true }} {{ not \"a\" == false }}",
        "False True 1 False True",
    );
    check("{{ not true + 1 }} {{ -not_set|default:2 + 1 }}", "1 -1");
    check("{{ \"b\" in \"abc\" }} {{ not \"d\" in \"abc\" }} {{ \"a\" in ls(\"/hosts\") }}", "True False False");
    check("{{ 1 and 2 }} {{ 0 or \"\" }} {{ true && false }} {{ false || true }}", "True False False True");
    check("{{ true or false and false }} {{ false and true or true }} {{ true and false or true }}", "True False True");
    check("{{ 1 in \"1\" and \"x\" in \"xy\" }}", "True");
}

#[test]
#[rustfmt::skip]
fn and_and_or_end_early() {
    check("{{ false and getv(\"/missing\") }} {{ true or getv(\"/missing\") or getv(\"/missing\") }}", "False True");
    check("{{ false and 1 / 0 or 1 / 0 }}", "False");
    fails("{{ true and getv(\"/missing\") }}", "getv(\"/missing\")", "t.tmpl:1:13: getv: key does not exist: /missing");
}

#[test]
#[rustfmt::skip]
fn bad_expressions() {
    fails("{{ }}", "}}", "t.tmpl:1:4: a value is missing before the end of the tag");
    fails("{{ 5 + }}", "}}", "t.tmpl:1:8: a value is missing before the end of the tag");
    fails("{{ 5 - -3 }}", "-", "t.tmpl:1:8: a sign has to be in parentheses here, like (-1)");
    fails("{{ -\"a\" }}", "-\"a\"", "t.tmpl:1:4: cannot negate a string");
    fails("x {{ 1 / 0 }}", "1 / 0", "t.tmpl:1:6: cannot divide an integer by zero");
    fails("{{ 1 + 6 / 0 * 2 }}", "6 / 0", "t.tmpl:1:8: cannot divide an integer by zero");
    fails(
        "{{ ls(\"/app\") == ls(\"/hosts\") }}",
        "ls(\"/app\") == ls(\"/hosts\")", "t.tmpl:1:4: cannot compare two lists",
    );
    fails("{{ \"a\" not in \"b\" }}", "not", "t.tmpl:1:8: there is no operator `not in`, write `not (a in b)`");
    fails("{{ \"a\" \"b\" }}", "\"b\"", "t.tmpl:1:8: the tag should end here, found a string");
    fails("{{ 1 if true else 2 }}", "if", "t.tmpl:1:6: the tag should end here, found `if`: `{{ }}` prints one value, conditions and loops stand in `{% %}`");
    fails("{{ (1|upper)|lower }}", "|", "t.tmpl:1:13: a filter has to stand within the parentheses, behind a value");
    fails("{{ (1 + 2 }}", "(1 + 2", "t.tmpl:1:4: `(` is not closed, found the end of the tag");
    fails("{{ a ? b : c }}", "?", "t.tmpl:1:6: the language has no `?`: `{% if %}` decides");
    fails("{{ ls(\"/a\")[0] }}", "[", "t.tmpl:1:12: the language has no `[`: x.0 is an element of a list, \"a,b\"|split:\",\" makes one");
    fails("{{ a é }}", "é", "t.tmpl:1:6: the language has no `é`");
    fails("{{ not not x }}", "not", "t.tmpl:1:8: a value is expected, found `not`");
    fails("{{ a in b == c }}", "==", "t.tmpl:1:11: the tag should end here, found `==`");
    fails("{{ a. }}", "}}", "t.tmpl:1:7: a name or a number is expected after the dot, found the end of the tag");
    fails("{{ x.99999999999999999999 }}", "99999999999999999999", "t.tmpl:1:6: index is too large");
    fails("{{ .Key }}", ".", "t.tmpl:1:4: a value is expected, found `.`: text for another program stands within {% verbatim %} .. {% endverbatim %}");
    fails("{{ in }}", "in", "t.tmpl:1:4: a value is expected, found `in`");
}

#[test]
#[rustfmt::skip]
fn tags_have_to_be_closed_in_their_line() {
    fails("a {{ x", "{{", "t.tmpl:1:3: tag is not closed, `}}` is missing");
    fails("a {%- if x", "{%-", "t.tmpl:1:3: tag is not closed, `%}` is missing");
    fails("{{ x\n}}", "{{", "t.tmpl:1:1: a newline within a tag; `}}` has to be in the same line");
    fails("{{ x %}", "%}", "t.tmpl:1:6: tag is closed with the wrong braces, `}}` is meant");
    fails("{% if x }}a{% endif %}", "}}", "t.tmpl:1:9: tag is closed with the wrong braces, `%}` is meant");
    fails("{{ x {{ y }}", "{{", "t.tmpl:1:1: tag is not closed, `}}` is missing");
    fails("{% %}", "%}", "t.tmpl:1:4: a tag begins with its name, found the end of the tag");
    fails("{% \"if\" %}", "\"if\"", "t.tmpl:1:4: a tag begins with its name, found a string");
}

#[test]
#[rustfmt::skip]
fn unknown_names_are_told_with_the_nearest() {
    fails("a\n {% fro x in y %}", "fro", "t.tmpl:2:5: unknown tag `fro`, did you mean `for`?");
    fails("{% switch x %}", "switch", "t.tmpl:1:4: unknown tag `switch`: write {% if %} .. {% elif %} .. {% endif %}");
    fails("{{ x|uper }}", "uper", "t.tmpl:1:6: unknown filter `uper`, did you mean `upper`?");
    fails("{% if false %}{{ x|shuffle }}{% endif %}", "shuffle", "t.tmpl:1:20: unknown filter `shuffle`");
    fails(
        "{% if 0 %}{{ gtev(1) }}{% endif %}",
        "gtev(1)", "t.tmpl:1:14: unknown function `gtev`, did you mean `getv`?",
    );
    fails("{{ x| }}", "}}", "t.tmpl:1:7: the name of a filter is expected, found the end of the tag");
    fails("{{ x|upper: }}", "}}", "t.tmpl:1:13: a value is missing before the end of the tag");
    fails("{{ gets \"/a/*\" }}", "\"/a/*\"", "t.tmpl:1:9: the tag should end here, found a string: the arguments of a call stand in parentheses, like gets(..)");
}

#[test]
#[rustfmt::skip]
fn ends_have_to_fit() {
    fails("a{% endif %}", "endif", "t.tmpl:1:5: `endif` ends nothing, no tag is open");
    fails(
        "{% if 1 %}\n{% for x in y %}\n{% endif %}",
        "endif", "t.tmpl:3:4: `endif` does not belong to the `for` of line 2, which is open",
    );
    fails("a\n{% if 1 %}b", "{% if 1 %}", "t.tmpl:2:1: `if` is not closed, `{% endif %}` is missing");
    fails("{% if 1 %}{% else %}b", "{% if 1 %}", "t.tmpl:1:1: `if` is not closed, `{% endif %}` is missing");
    fails("{% for x in y %}", "{% for x in y %}", "t.tmpl:1:1: `for` is not closed, `{% endfor %}` is missing");
    fails("{% if 1 %}{% else x %}{% endif %}", "x", "t.tmpl:1:19: `else` takes nothing, found `x`");
    fails("{% if 1 %}{% else if 2 %}{% endif %}", "if", "t.tmpl:1:19: `else` takes nothing, write `elif`");
    fails("{% if 1 %}{% endif 1 %}", "1", "t.tmpl:1:20: `endif` takes nothing, found `1`");
    fails("{% if 1 %}{% endfi %}{% endif %}", "endfi", "t.tmpl:1:14: unknown tag `endfi`, did you mean `endif`?");
    fails("{% set x %}a{% endset %}", "%}", "t.tmpl:1:10: `=` is expected, found the end of the tag");
}

#[test]
#[rustfmt::skip]
fn calls() {
    check("{{ getv(\"/app/name\") }} {{ getv(\"/x\", \"d\") }} {{ getv ( \"/app/name\" , ) }}", "shop d shop");
    check("{{ unixTS }} {{ unixTS() }}", "1643861106 1643861106");
    check("{{ base(\"/a/b\") }} {{ get(\"/app/name\").Key|base }} {{ upper(\"x\") }} {{ add(1, 2) }}", "b name X 3");
    check("[{{ title }}{{ base }}]", "[]");
    check("{{ printf(\"%s\")(\"x\") }}", "x");
    check("{% set getv = \"shadow\" %}{{ getv }}", "shadow");
    check("[{{ base(nothing) }}]", "[]");
    check("{{ printf(\"%d%%\", 5)|rjust:4 }}", "  5%");
    fails("{{ getv() }}", "getv()", "t.tmpl:1:4: getv: takes at least 1 argument (key), 0 given");
    check("{% if 0 %}{{ getv }}{{ getenv() }}{{ base(1, 2, 3) }}{% endif %}", "");
    fails("{{ unixTS(1) }}", "unixTS(1)", "t.tmpl:1:4: unixTS: takes 0 arguments, 1 given");
    fails("{{ base(1, 2, 3) }}", "base(1, 2, 3)", "t.tmpl:1:4: base: takes a value and at most one argument, 3 given");
    fails("{{ getv(1) }}", "getv(1)", "t.tmpl:1:4: getv: argument 1 (key) must be a string, not an integer");
    fails("{{ printf(\"%s\", nothing.x) }}", "nothing.x", "t.tmpl:1:17: printf: argument 2 (value) has no value");
    fails("{% set x = \"t\" %}{{ x(1) }}", "x(1)", "t.tmpl:1:21: `x` is a string, not a function");
    fails("{{ printf(\"%s\" \"x\") }}", "\"x\"", "t.tmpl:1:16: `,` or `)` is expected after an argument, found a string");
    fails(
        "{{ printf(\"%s\", \"x\" }}",
        "}}", "t.tmpl:1:21: `,` or `)` is expected after an argument, found the end of the tag",
    );
    fails("{{ printf(\"%s\", }}", "(", "t.tmpl:1:10: the arguments are not closed, `)` is missing");
    fails("{{ getv(key=\"/x\") }}", "=", "t.tmpl:1:12: a call takes no named arguments");
    fails("{{ \"x\"|parseInt }}", "parseInt", "t.tmpl:1:8: parseInt: the text is not an integer");
}

#[test]
#[rustfmt::skip]
fn steps() {
    check(
        "{{ get(\"/app/name\").Value }} {{ \"a,b\"|split:\",\" }} {{ getvs(\"/hosts/*\").0 }}",
        "shop <[]string Value> 10.0.0.1",
    );
    check("{% set m = createMap() %}{{ m.Set(\"k\", 1) }}{{ m.k }} {{ m.Get(\"k\") + 1 }} [{{ m.no }}]", "1 2 []");
    check("{% set m = createMap() %}{% set x = m.Set(\"in\", createMap()) %}{% set x = m.in_ %}[{{ x.y.0.z }}]", "[]");
    check("[{{ nothing.x.0.y(1).z }}]", "[]");
    check("{% set s = \"abc\" %}{{ s.0 }} [{{ s.9 }}]", "97 []");
    check("{{ gets(\"/hosts/*\").Len }}", "2");
    fails("{% set s = \"abc\" %}{{ s.x }}", "s.x", "t.tmpl:1:23: s.x: cannot read the field `x` of a string");
    fails(
        "{{ getv(\"/app/name\").first.x }}",
        "getv(\"/app/name\").first", "t.tmpl:1:4: getv.first: cannot read the field `first` of a string",
    );
    fails(
        "{% set m = createMap() %}{{ m.Set(1, 2) }}",
        "m.Set(1, 2)", "t.tmpl:1:29: m.Set: argument 1 (key) must be a string, not an integer",
    );
    fails(
        "{% set m = createMap() %}{{ m.Set(\"a\", no) }}",
        "no", "t.tmpl:1:40: m.Set: argument 2 (value) has no value",
    );
    fails(
        "{{ get(\"/app/name\").Key(1) }}",
        "get(\"/app/name\").Key(1)", "t.tmpl:1:4: get.Key: is a string, not a function",
    );
}

#[test]
#[rustfmt::skip]
fn filters_chain() {
    check("{{ \"a,b\"|split:\",\"|join:\"-\"|upper }} {{ 5|add:2 }} {{ \"x\" | default : \"y\" }}", "A-B 7 x");
    check("{{ \"\"|default:getv(\"/app/name\") }} {{ nothing|default:\"d\" }}", "shop d");
    check("{{ 1 + \"2\"|add:\"3\" }}", "24");
    fails("{{ \"x\"|rjust:-1 }}", "-", "t.tmpl:1:14: an argument with a sign stands in quotes, like \"-1\"");
}

#[test]
#[rustfmt::skip]
fn if_takes_the_first_that_holds() {
    let template = |a, b, c| format!("{{% if {a} %}}a{{% elif {b} %}}b{{% elif {c} %}}c{{% else %}}d{{% endif %}}");
    check(&template(1, 1, 0), "a");
    check(&template(0, 1, 1), "b");
    check(&template(0, 0, 1), "c");
    check(&template(0, 0, 0), "d");
    check("{% if 0 %}a{% elif 0 %}b{% endif %}{% if 0 %}c{% endif %}", "");
    check("{% if 1 %}{% if 0 %}a{% elif 1 %}{% if 1 %}b{% else %}c{% endif %}{% endif %}{% else %}d{% endif %}", "b");
    check("{% if(1==1)and(true) %}x{%endif%}", "x");
    fails("{% if %}{% endif %}", "%}", "t.tmpl:1:7: a value is missing before the end of the tag");
    fails("{% if 1 2 %}{% endif %}", "2", "t.tmpl:1:9: the tag should end here, found `2`");
    fails("{% if 0 %}{% elif %}{% endif %}", "%}", "t.tmpl:1:19: a value is missing before the end of the tag");
    fails("{% if 0 %}\n{% elif 1 / 0 %}{% endif %}", "1 / 0", "t.tmpl:2:9: cannot divide an integer by zero");
}

#[test]
#[rustfmt::skip]
fn blocks_behind_else_are_taken_by_number() {
    check("{% if 0 %}a{% else %}b{% elif 1 %}c{% endif %}", "b");
    check("{% if 0 %}a{% else %}b{% elif 0 %}c{% endif %}", "c");
    check("{% if 0 %}a{% else %}b{% else %}c{% endif %}", "b");
}

#[test]
#[rustfmt::skip]
fn for_goes_through_lists_maps_and_texts() {
    check("{% for x in \"a,b\"|split:\",\" %}{{ x }};{% endfor %}", "a;b;");
    check("{% for x in \"abc\" %}{{ x }};{% endfor %}", "a;b;c;");
    check(
        "{% for k, v in \"{\\\"b\\\": 1, \\\"a\\\": 2}\"|parseJSON %}{{ k }}={{ v|integer }};{% endfor %}",
        "a=2;b=1;",
    );
    check("{% for k in \"{\\\"b\\\": 1, \\\"a\\\": 2}\"|parseJSON reversed %}{{ k }};{% endfor %}", "b;a;");
    check("{% for i, v in \"a,b\"|split:\",\" %}[{{ i }}|{{ v }}]{% endfor %}", "[a|][b|]");
    check(
        "{% for x in \"b,a\"|split:\",\" sorted %}{{ x }}{% endfor %}{% for x in \"b,a\"|split:\",\" reversed sorted %}{{ x }}{% endfor %}",
        "abba",
    );
    check(
        "{% for kv in gets(\"/hosts/*\") %}{{ kv.Key }}={{ kv.Value }} {% endfor %}",
        "/hosts/one=10.0.0.2/hosts/two=10.0.0.1",
    );
    check("{% for x in ls(\"/hosts\") %}{{ x }}{% empty %}none{% endfor %}", "onetwo");
    check("{% for x in ls(\"/none\") %}{{ x }}{% empty %}none {{ forloop.First }}{% endfor %}", "none True");
    check(
        "{% for x in 5 %}{% empty %}a{% endfor %}{% for x in nothing %}{% empty %}b{% endfor %}{% for x in 5 %}{% endfor %}",
        "ab",
    );
    fails("{% for c in \"ba\" sorted %}{% endfor %}", "\"ba\"", "t.tmpl:1:13: cannot sort the bytes of a string");
}

#[test]
#[rustfmt::skip]
fn forloop() {
    check(
        "{% for x in \"abc\" %}{{ forloop.Counter }}{{ forloop.Counter0 }}{{ forloop.Revcounter }}{{ forloop.Revcounter0 }}\
         {{ forloop.First }}{{ forloop.Last }} {% endfor %}",
        "1032TrueFalse2121FalseFalse3210FalseTrue",
    );
    check(
        "{% for x in \"abc\" reversed %}{{ forloop.Counter }}{{ forloop.First }}{{ forloop.Last }};{% endfor %}",
        "3TrueTrue;2FalseTrue;1FalseTrue;",
    );
    check(
        "{% for x in \"ab\" %}{% for y in \"cd\" %}{{ forloop.Parentloop.Counter }}{{ forloop.Counter }}{% endfor %}{{ forloop.Counter }} {% endfor %}",
        "11121 21222 ".trim_end().replace("1 2", "12").as_str(),
    );
    check(
        "[{{ forloop.Counter }}]{% for x in \"a\" %}[{{ forloop.Parentloop.Counter }}][{{ forloop.counter }}]{% endfor %}",
        "[][][]",
    );
    check("{% for x in \"a\" %}{{ forloop }}{% endfor %}", "<pongo2.tagForLoopInformation Value>");
    check(
        "{% set forloop = 5 %}{% for x in \"a\" %}{{ forloop.Counter }}[{{ forloop.Parentloop }}]{% endfor %}{{ forloop }}",
        "1[]5",
    );
}

#[test]
#[rustfmt::skip]
fn for_is_one_scope_for_all_rounds() {
    check("{% set t = 0 %}{% for n in \"1,2,3\"|split:\",\" %}{% set t = t + n %}{{ t }} {% endfor %}{{ t }}", "1360");
    check("{% for x in \"a\" %}{% set y = x %}{% endfor %}[{{ y }}{{ x }}]", "[]");
    check("{% set x = 1 %}{% for x in \"a\" %}{{ x }}{% endfor %}{{ x }}", "a1");
}

#[test]
#[rustfmt::skip]
fn bad_loops() {
    fails("{% for %}{% endfor %}", "%}", "t.tmpl:1:8: a name is expected, found the end of the tag");
    fails("{% for x of y %}{% endfor %}", "of", "t.tmpl:1:10: `in` is expected, found `of`: a loop is written {% for x in list %}");
    fails("{% for x, in y %}{% endfor %}", "in", "t.tmpl:1:11: a name is expected, found `in`");
    fails(
        "{% for x in y sorted reversed %}{% endfor %}",
        "sorted reversed", "t.tmpl:1:15: the order is `reversed sorted`",
    );
    fails("{% for x in y, z %}{% endfor %}", ",", "t.tmpl:1:14: the tag should end here, found `,`");
}

#[test]
#[rustfmt::skip]
fn set_lives_where_it_stands() {
    check("{% set x = 1 %}{% if 1 %}{% set x = 2 %}{% endif %}{{ x }}", "2");
    check("{% set x = 1 %}{% with y=1 %}{% set x = 2 %}{{ x }}{% endwith %}{{ x }}", "21");
    check("{% set x = nothing %}[{{ x }}{{ x.y }}{{ x(1) }}]", "[]");
    check("{%set x=5%}{{x}}{{x|add:1}}", "56");
    fails("{% set %}", "%}", "t.tmpl:1:8: a name is expected, found the end of the tag");
    fails("{% set x = 1 2 %}", "2", "t.tmpl:1:14: the tag should end here, found `2`");
    fails("{% set true = 1 %}", "true", "t.tmpl:1:8: a name is expected, found `true`");
}

#[test]
#[rustfmt::skip]
fn with_has_two_forms() {
    check("{% with a=1 b=a %}{{ a }}[{{ b }}]{% endwith %}[{{ a }}]", "1[][]");
    check("{% with 1 as a 2 + 3 as b %}{{ a }}{{ b }}{% endwith %}", "15");
    check("{% set v = \"o\" %}{% with v=\"i\" w=v %}{{ v }}{{ w }}{% endwith %}{{ v }}", "ioo");
    check("{% with a=1 < 2 b=\"x\"|upper %}{{ a }}{{ b }}{% endwith %}", "TrueX");
    fails("{% with %}{% endwith %}", "%}", "t.tmpl:1:9: `with` needs a name and a value, like x=1");
    fails("{% with 1 as a b=2 %}{% endwith %}", "=", "t.tmpl:1:17: `as` is expected, found `=`");
    fails("{% with a %}{% endwith %}", "%}", "t.tmpl:1:11: `=` is expected, found the end of the tag");
}

#[test]
#[rustfmt::skip]
fn includes() {
    check_files(
        &[
            ("t.tmpl", "a\n{% include \"p.tmpl\" %}\nb"),
            ("p.tmpl", "<{{ getv(\"/app/name\") }}>\n"),
        ],
        "a\n<shop>\nb",
    );
    check_files(
        &[
            ("t.tmpl", "{% set f = \"sub/p\" %}{% include f %}"),
            ("sub/p", "{% include \"q\" %}{% include \"../r\" %}"),
            ("sub/q", "q"),
            ("r", "r"),
        ],
        "qr",
    );
    check_files(
        &[
            (
                "t.tmpl",
                "{% set c = 1 %}{% include \"p\" %}{% include \"p\" with c=2 d=c %}{{ c }}",
            ),
            ("p", "[{{ c }}{{ d }}]{% set c = 9 %}"),
        ],
        "[1][21]1",
    );
    check_files(
        &[
            ("t.tmpl", "{% set c = 1 %}{% include \"p\" with d=3 only %}"),
            (
                "p",
                "[{{ c }}{{ d }}{{ getv(\"/app/name\") }}{{ \"f\"|upper }}{{ base(\"a/b\") }}]",
            ),
        ],
        "[3Fb]",
    );
    check_files(&[("t.tmpl", "{% include \"p\" only %}"), ("p", "[{{ unixTS }}]")], "[]");
    check_files(
        &[
            ("t.tmpl", "{% for i in \"ab\" %}{% include \"p\" %}{% endfor %}"),
            (
                "p",
                "{{ i }}{{ forloop.Counter }}{% for x in \"z\" %}[{{ forloop.Parentloop }}]{% endfor %}",
            ),
        ],
        "a1[]b2[]",
    );
    check("[{% include \"none\" if_exists %}{% set f = \"none2\" %}{% include f if_exists with x=1 %}]", "[]");
    check("{% if 0 %}{% include nothing %}{% endif %}", "");
}

#[test]
#[rustfmt::skip]
fn an_include_is_trimmed_once() {
    let part = "[{% if true %}\n\n\n{{ i }}{% endif %}\n\n]\n";
    check_files(
        &[
            ("t.tmpl", "{% for i in \"12\" %}\n{% include \"p\" %}\n{% endfor %}"),
            ("p", part),
        ],
        "[\n\n1\n]\n[\n\n2\n]\n",
    );
}

#[test]
#[rustfmt::skip]
fn bad_includes() {
    fails("{% include \"none\" %}", "\"none\"", "t.tmpl:1:12: failed to read `none`: no such file or directory");
    fails(
        "{% if 0 %}{% include \"none\" %}{% endif %}",
        "\"none\"", "t.tmpl:1:22: failed to read `none`: no such file or directory",
    );
    fails(
        "{% set f = \"none\" %}{% include f %}",
        "f", "t.tmpl:1:32: failed to read `none`: no such file or directory",
    );
    fails("{% include nothing %}", "nothing", "t.tmpl:1:12: the name of the file is empty; one that is written out stands in quotes");
    fails("{% include %}", "%}", "t.tmpl:1:12: a value is missing before the end of the tag");
    fails("{% include \"x\" with %}", "\"x\"", "t.tmpl:1:12: failed to read `x`: no such file or directory");
    fails("{% include \"x\" with a=1 only b=2 %}", "b", "t.tmpl:1:30: the tag should end here, found `b`");
    let files = [
        ("t.tmpl", "\n{% include \"p\" %}"),
        ("p", "{% include \"q\" %}"),
        ("q", "\n{% if %}"),
    ];
    fails_files(&files, "%}", "q:2:7: a value is missing before the end of the tag");
}

#[test]
#[rustfmt::skip]
fn errors_tell_how_one_got_there() {
    let check = |files: &[(&str, &str)], expected: &str| {
        let files: Vec<_> = files.iter().map(|(path, text)| (*path, text.as_bytes())).collect();
        let error = render_files(&files).expect_err("it fails").to_string();
        let trail: Vec<&str> = error.lines().skip(3).collect();
        assert_eq!(trail.join("\n"), expected, "{error}");
    };
    let broken = [
        ("t.tmpl", "\n {% include \"d/p\" %}"),
        ("d/p", "x{% include \"q\" %}"),
        ("d/q", "{% if %}"),
    ];
    check(&broken, " included from d/p:1:2\n included from t.tmpl:2:2");
    let late = [
        ("t.tmpl", "\n {% include \"p\" %}"),
        ("p", "x{% include \"q\" %}"),
        ("q", "{{ 1 / 0 }}"),
    ];
    check(&late, " included from p:1:2\n included from t.tmpl:2:2");
    let computed = [
        ("t.tmpl", "{% set f = \"p\" %}\n{% include f %}"),
        ("p", "x{% include \"q\" %}"),
        ("q", "{{ 1 / 0 }}"),
    ];
    check(&computed, " included from p:1:2\n included from t.tmpl:2:1");
    let computed_broken = [
        ("t.tmpl", "{% set f = \"p\" %}\n{% include f %}"),
        ("p", "x{% include \"q\" %}"),
        ("q", "{% if %}"),
    ];
    check(&computed_broken, " included from p:1:2\n included from t.tmpl:2:1");
    // The arguments of an include are not part of the included file.
    let pairs = [("t.tmpl", "{% include \"p\" with x=1 / 0 %}"), ("p", "")];
    check(&pairs, "");
}

#[test]
#[rustfmt::skip]
fn included_files_may_use_what_the_includer_has() {
    check_files(
        &[
            ("t.tmpl", "{% with getv=1 %}{% include \"p\" %}{% endwith %}"),
            ("p", "{{ getv }}"),
        ],
        "1",
    );
    fails_files(
        &[("t.tmpl", "{% include \"p\" %}"), ("p", "{{ gtev(1) }}")],
        "gtev(1)",
        "p:1:4: unknown function `gtev`, did you mean `getv`?",
    );
    check_files(
        &[
            ("t.tmpl", "{% include \"p\" %}"),
            ("p", "{% if 0 %}{{ gtev(1) }}{% endif %}"),
        ],
        "",
    );
}

#[test]
#[rustfmt::skip]
fn files_must_not_include_each_other() {
    fails(
        "{% if 0 %}{% include \"t.tmpl\" %}{% endif %}",
        "{% include \"t.tmpl\" %}", "t.tmpl:1:11: files include each other: t.tmpl > t.tmpl",
    );
    let files = [
        ("t.tmpl", "{% include \"a\" %}{% include \"b\" %}"),
        ("a", "{% include \"c\" %}"),
        ("b", "{% include \"a\" %}"),
        ("c", "\n{% include \"./b\" %}"),
    ];
    fails_files(
        &files,
        "{% include \"a\" %}",
        "b:1:1: files include each other: a > c > b > a",
    );
    let computed = [("t.tmpl", "{% set f = \"t.tmpl\" %}{% include f %}")];
    fails_files(
        &computed,
        "{% include f %}",
        "t.tmpl:1:23: calls and includes are nested too deeply, do they ever end?",
    );
    // Two includes of one file are no cycle.
    let files = [
        ("t.tmpl", "{% include \"a\" %}{% include \"b\" %}{% include \"a\" %}"),
        ("a", "{% include \"b\" %}"),
        ("b", "b"),
    ];
    check_files(&files, "bbb");
}

#[test]
#[rustfmt::skip]
fn files_must_not_lie_too_deep() {
    let chain = |length: usize| {
        let mut files: Vec<(String, String)> = (1..length)
            .map(|i| (i.to_string(), format!("{{% include \"{}\" %}}", i + 1)))
            .collect();
        files.push((length.to_string(), "end".to_owned()));
        files.push(("t.tmpl".to_owned(), "{% include \"1\" %}".to_owned()));
        let files: Vec<_> = files.iter().map(|(path, text)| (&**path, text.as_bytes())).collect();
        render_files(&files).map_err(|error| error.message().to_owned())
    };
    assert_eq!(chain(199), Ok(b"end".to_vec()));
    assert_eq!(
        chain(200),
        Err("files are included too deeply, 200 levels are the limit".to_owned())
    );
}

#[test]
#[rustfmt::skip]
fn a_missing_template_has_no_place() {
    let error = render_files(&[]).expect_err("there is none");
    assert_eq!(
        error.to_string(),
        "t.tmpl: failed to read `t.tmpl`: no such file or directory"
    );
    assert_eq!(
        (error.line(), error.col(), error.file()),
        (None, None, Path::new("t.tmpl"))
    );
}

#[test]
#[rustfmt::skip]
fn unknown_variables_are_listed() {
    let world = TestWorld::default();
    world.put("t.tmpl", b"{% set a = b %}{{ a }}{{ forloop.x }}\n{% for x in y %}{{ x }}{{ title }}{% endfor %}{% include \"p\" with q=1 %}");
    world.put("p", b"{{ q }}{{ unixTS }} {{ zz.x }}{{ n() }}{{ m() }}{% macro m() %}{{ last }}{% endmacro %}");
    let world: Rc<dyn World> = Rc::new(world);
    let template = Template::compile(Path::new("t.tmpl"), &world).expect("compiles");
    let unknown: Vec<_> = template
        .unknown_variables()
        .into_iter()
        .map(|u| format!("{} {}:{}:{}", u.name, u.file.display(), u.line, u.col))
        .collect();
    assert_eq!(
        unknown,
        ["b t.tmpl:1:12", "y t.tmpl:2:13", "title t.tmpl:2:27", "zz p:1:24", "n p:1:34", "last p:1:67"]
    );
}

#[test]
#[rustfmt::skip]
fn a_template_is_stale_when_any_of_its_files_is() {
    let files = Rc::new(TestWorld::default());
    let world: Rc<dyn World> = files.clone();
    let store = fixture::store();
    files.put("t.tmpl", b"{% include \"p\" %}{% include \"none\" if_exists %}{% set f = \"q\" %}{% include f %}{% set g = \"n2\" %}{% include g if_exists %}");
    files.put("p", b"p");
    files.put("q", b"q");
    let fresh = || {
        let template = Template::compile(Path::new("t.tmpl"), &world).expect("compiles");
        assert_eq!(template.render(&store, &world), Ok(b"pq".to_vec()));
        assert!(!template.is_stale(&*world));
        template
    };
    for (path, change) in [
        ("t.tmpl", true),
        ("p", true),
        ("q", true),
        ("none", true),
        ("n2", true),
        ("other", false),
    ] {
        let template = fresh();
        let before = files.files.borrow().clone();
        files.put(path, b"changed");
        assert_eq!(template.is_stale(&*world), change, "{path}");
        files.files.replace(before.clone());
        assert!(!template.is_stale(&*world));
        files.remove(path);
        assert_eq!(
            template.is_stale(&*world),
            before.contains_key(Path::new(path)),
            "{path}"
        );
        files.files.replace(before);
    }
    // Compiled files are kept, and not read again.
    let template = fresh();
    let reads = files.reads.get();
    assert_eq!(template.render(&store, &world), Ok(b"pq".to_vec()));
    assert_eq!(
        files.reads.get(),
        reads + 1,
        "only the file that is not there is asked for again"
    );
}

/// Only the files of the last render make a template stale, not those of earlier renders.
#[test]
fn computed_includes_are_forgotten_when_they_are_not_used_any_more() {
    let files = Rc::new(TestWorld::default());
    let world: Rc<dyn World> = files.clone();
    files.put("t.tmpl", b"{% set f = getv(\"/name\") %}{% include f if_exists %}");
    (0..100).for_each(|n| files.put(format!("inc{n}"), format!("<{n}>{{% include \"part{n}\" %}}").as_bytes()));
    (0..100).for_each(|n| files.put(format!("part{n}"), b"p"));
    let template = Template::compile(Path::new("t.tmpl"), &world).expect("compiles");
    let render = |name: &str| {
        let mut store = crate::store::Store::new(1);
        store.put(0, b"/name"[..].into(), name.as_bytes().into());
        String::from_utf8(template.render(&Rc::new(store), &world).expect("renders")).expect("it is text")
    };
    for n in 0..100 {
        assert_eq!(render(&format!("inc{n}")), format!("<{n}>p"));
        files.stamps.set(0);
        assert!(!template.is_stale(&*world));
        assert_eq!(files.stamps.get(), 3, "the template, the file and its part");
    }
    // Kept from one render to the next.
    let reads = files.reads.get();
    assert_eq!(render("inc99"), "<99>p");
    assert_eq!(files.reads.get(), reads);
    files.put("inc1", b"new");
    assert!(!template.is_stale(&*world), "it is not used any more");
    files.put("part99", b"new");
    assert!(template.is_stale(&*world));
    assert_eq!(render("none"), "");
    assert!(!template.is_stale(&*world));
    files.put("none", b"new");
    assert!(template.is_stale(&*world), "it is there now");
}

#[test]
#[rustfmt::skip]
fn a_render_has_limits() {
    let store = fixture::store();
    let render = |text: &str, steps, output, stopped| {
        let files = TestWorld::default();
        files.put("t.tmpl", text.as_bytes());
        let files = Rc::new(files);
        let world: Rc<dyn World> = files.clone();
        let mut template = Template::compile(Path::new("t.tmpl"), &world).expect("compiles");
        files.stopped.set(stopped);
        template.limits.steps = steps;
        template.limits.output = output;
        template
            .render(&store, &world)
            .map(|out| out.len())
            .map_err(|error| error.message().to_owned())
    };
    let long = "{% for a in \"0123456789\" %}{% for b in \"0123456789\" %}{% for c in \"0123456789\" %}x{% endfor %}{% endfor %}{% endfor %}";
    assert_eq!(render(long, 10_000, 1000, false), Ok(1000));
    assert_eq!(
        render(long, 1000, 1000, false),
        Err(format!("the template takes more than 1000 steps; {}", raised_by("template_steps")))
    );
    assert_eq!(
        render(long, 10_000, 999, false),
        Err(format!("the result is larger than 999 bytes; {}", raised_by("template_output")))
    );
    assert_eq!(
        render(&long.repeat(5), 100_000, 10_000, true),
        Err("stopped before the end".to_owned())
    );
    assert_eq!(render("{{ 1 }}", 10_000, 1000, true), Ok(1));
    let doubling = "{% set x = \"0123456789\" %}{% for i in \"012345678901234567890123456789\" %}{% set x = x|add:x %}{% endfor %}";
    assert!(render(doubling, 10_000, 1000, false).is_err());
    assert!(render("{{ printf(\"%999999d\", 1) }}", 10_000, 1000, false).is_err());
    let rounds = "{% for c in printf(\"%900d\", 1) %}{% endfor %}";
    assert_eq!(render(rounds, 10_000, 1000, false), Ok(0));
    assert_eq!(render(rounds, 500, 1000, false), Err(format!("the template takes more than 500 steps; {}", raised_by("template_steps"))));
}

#[test]
#[rustfmt::skip]
fn nesting_has_a_limit() {
    let deep = |before: &str, middle: &str, after: &str, levels: usize| {
        let template = format!("{}{middle}{}", before.repeat(levels), after.repeat(levels));
        render(&template)
            .map(|_| ())
            .map_err(|error| error.message().to_owned())
    };
    let limit = Err("nested too deeply, 200 levels are the limit".to_owned());
    assert_eq!(deep("{% if 1 %}", "", "{% endif %}", 200), Ok(()));
    assert_eq!(deep("{% if 1 %}", "", "{% endif %}", 201), limit);
    assert_eq!(deep("{% for x in \"a\" %}", "", "{% empty %}{% endfor %}", 199), Ok(()));
    assert_eq!(deep("{% with x=1 %}", "", "{% endwith %}", 20_000), limit);
    let expression = |before: &str, after: &str, levels: usize| {
        let template = format!("{{{{ {}1{} }}}}", before.repeat(levels), after.repeat(levels));
        render(&template)
            .map(|_| ())
            .map_err(|error| error.message().to_owned())
    };
    for (before, after) in [
        ("(", ")"),
        ("base(", ")"),
        ("1 ^ ", ""),
        ("1 == ", ""),
        ("1|default:base(", ")"),
        ("-(", ")"),
        ("not (", ")"),
    ] {
        assert_eq!(expression(before, after, 195), Ok(()), "{before}");
        assert_eq!(expression(before, after, 201), limit, "{before}");
        assert_eq!(expression(before, after, 20_000), limit, "{before}");
    }
    for (before, after) in [
        ("1 and ", ""),
        ("0 or ", ""),
        ("1 + ", ""),
        ("2 * ", ""),
        ("", "|base"),
        ("", " == 1"),
        ("nothing", ".x"),
    ] {
        let levels = if after == " == 1" { 190 } else { 20_000 };
        assert_eq!(expression(before, after, levels), Ok(()), "{before}{after}");
    }
    let elifs = format!("{{% if 0 %}}{}{{% else %}}e{{% endif %}}", "{% elif 0 %}".repeat(5000));
    check(&elifs, "e");
}

/// Random combinations of pieces of the language, and real templates with random damage: none may panic, hang or
/// exhaust the stack.
#[test]
#[rustfmt::skip]
fn nothing_that_a_template_says_panics() {
    const PIECES: [&str; 75] = [
        "{{",
        "}}",
        "{%",
        "%}",
        "{#",
        "#}",
        "{{-",
        "-}}",
        "{%-",
        "-%}",
        " ",
        " ",
        " ",
        "\n",
        "\"",
        "'",
        "\\",
        "(",
        ")",
        ",",
        ".",
        "|",
        ":",
        "=",
        "==",
        "!=",
        "<",
        "+",
        "-",
        "*",
        "/",
        "%",
        "^",
        "!",
        "and",
        "or",
        "not",
        "in",
        "true",
        "as",
        "x",
        "y",
        "forloop",
        "0",
        "1",
        "99999999999999999999",
        "1.5",
        "\"a\"",
        "\"a,b\"|split:\",\"",
        "getv",
        "gets(\"/*/*\")",
        "ls(\"/app\")",
        "createMap()",
        "x.Set(\"k\", x)",
        "m.k",
        "if",
        "elif",
        "else",
        "endif",
        "for x in",
        "empty",
        "endfor",
        "set x =",
        "with x=1",
        "endwith",
        "include",
        "\"t.tmpl\"",
        "comment",
        "endcomment",
        "verbatim",
        "reversed",
        "sorted",
        "é",
        "\u{0}",
        "}",
    ];
    const REAL: &str = "{% set m = createMap() %}{% for kv in gets(\"/*/*\") reversed sorted %}\n{{ kv.Key|base }}={{ kv.Value|default:\"x\" }}\
        {% if forloop.Counter > 1 and not kv.Value in \"8080\" %}{{ m.Set(kv.Key, forloop.Counter0 * -1) }}{% elif 1 %}\n{% else %}y{% endif %}\
        {% empty %}none{% endfor %}{% with a=m b=2 ^ 3 %}{{ a|toJSON }}{# c #}{% include \"p\" with z=b only %}{% endwith %}";
    let mut seeded = crate::random::Random::new(1);
    let mut random = |bound| seeded.below(bound);
    let store = fixture::store();
    let (mut rendered, mut refused) = (0, 0);
    for round in 0..4000 {
        let mut text = Vec::new();
        match round % 4 {
            0 => (0..random(60)).for_each(|_| text.push(random(256) as u8)),
            1 | 2 => {
                // Mostly well-formed tags with odd contents.
                for _ in 0..random(12) {
                    let (open, close) = if random(2) == 0 { ("{{ ", " }}") } else { ("{% ", " %}") };
                    text.extend_from_slice(open.as_bytes());
                    for _ in 0..random(6) {
                        text.extend_from_slice(PIECES[random(PIECES.len())].as_bytes());
                        text.push(b' ');
                    }
                    text.extend_from_slice(close.as_bytes());
                }
            }
            _ => {
                text.extend_from_slice(REAL.as_bytes());
                for _ in 0..random(4) {
                    let at = random(text.len());
                    match random(3) {
                        0 => _ = text.remove(at),
                        1 => text[at] = random(256) as u8,
                        _ => {
                            let piece = PIECES[random(PIECES.len())].bytes();
                            text.splice(at..at, piece).for_each(drop);
                        }
                    }
                }
            }
        }
        let files = TestWorld::default();
        files.put("t.tmpl", &text);
        files.put("p", b"{{ z }}{{ x }}");
        let world: Rc<dyn World> = Rc::new(files);
        let outcome = Template::compile(Path::new("t.tmpl"), &world).and_then(|mut template| {
            template.limits.steps = 5000;
            template.limits.output = 1 << 16;
            template.render(&store, &world)
        });
        match outcome {
            Ok(_) => rendered += 1,
            Err(error) => {
                assert!(!error.to_string().is_empty());
                assert!(!error.message().contains("mistake of remco"), "{error}\n{text:?}");
                refused += 1;
            }
        }
    }
    assert!(
        rendered > 200 && refused > 200,
        "{rendered} rendered, {refused} refused: the mixture tests little"
    );
}

#[test]
#[rustfmt::skip]
fn macros() {
    check("{% macro m(a, b=2, c=\"x\") %}[{{ a }}{{ b }}{{ c }}]{% endmacro %}{{ m(1) }}{{ m(1, 3) }}{{ m(1, 3, 4) }}{{ m() }}", "[12x][13x][134][2x]");
    check("{% macro m() %}x{% endmacro %}{{ m }}{{ m()|upper }}{% set r = m() %}{{ r }}{{ m()|length }}", "xXx1");
    check("{% set o = 1 %}{% macro m(x) %}{{ o }}{{ x }}{% endmacro %}{% set o = 2 %}{% for x in \"ab\" %}{% set o = 3 %}{{ m(x) }}{% endfor %}", "2a2b");
    check("{% set x = 1 %}{% macro m(x) %}[{{ x }}]{% endmacro %}{{ m() }}{{ m(nothing) }}", "[][]");
    check("{% set o = 1 %}{% macro m(a, b=a, c=o) %}{{ a }}{{ b }}{{ c }}{% endmacro %}{{ m(\"A\") }}", "A1");
    check("{% macro m() %}{% set x = 1 %}{{ x }}{% endmacro %}{{ m() }}[{{ x }}]", "1[]");
    check("{% macro m(n) %}{{ n }}{% if n > 0 %},{{ m(n - 1) }}{% endif %}{% endmacro %}{{ m(30) }}|{{ m(1) }}", &format!("{},0|1,0", (1..=30).rev().map(|n| n.to_string()).collect::<Vec<_>>().join(",")));
    check("{% macro a() %}a{{ b() }}{% endmacro %}{% macro b() %}b{% endmacro %}{{ a() }}", "ab");
    check("x{{ 1 + m }}{% macro m() %}1{% endmacro %}{{ 1 + m() }}", "x12");
    check("{% for x in \"ab\" %}{% macro m() %}{{ forloop.Counter }}{% for y in \"z\" %}{{ forloop.Parentloop.Counter }}{% endfor %}{% endmacro %}{{ m() }}{% endfor %}", "1122");
    check_files(&[("t.tmpl", "{% macro m(x) %}<{{ x }}>{% endmacro %}{% include \"p\" %}{% set f = \"p\" %}{% include f %}"), ("p", "{{ m(1) }}")], "<1><1>");
    check_files(&[("t.tmpl", "{% macro m(t) %}{% include \"p\" with x=t|upper %}{% endmacro %}{{ m(\"a\") }}{{ m(\"b\") }}"), ("p", "[{{ x }}]")], "[A][B]");
}

#[test]
#[rustfmt::skip]
fn an_unknown_call_may_be_meant_for_a_macro() {
    check("[{{ b(1 / 0).x|upper }}]{% macro a() %}{{ c() }}{% endmacro %}{{ a() }}{% for x in range(3) %}{% empty %}0{% endfor %}", "[]0");
    check_files(&[("t.tmpl", "{% import \"m\" a %}[{{ b() }}{{ a() }}]"), ("m", "{% macro a() export %}{{ b() }}{% endmacro %}")], "[]");
    // Each file for itself.
    let part = "{{ b() }}";
    fails_files(&[("t.tmpl", "{% macro a() %}{% endmacro %}{% include \"p\" %}"), ("p", part)], "b()", "p:1:4: unknown function `b`");
    let part = "{{ b() }}{% macro a() %}{% endmacro %}";
    check_files(&[("t.tmpl", "[{% include \"p\" %}]"), ("p", part)], "[]");
    fails_files(&[("t.tmpl", "{{ b() }}{% include \"p\" %}"), ("p", part)], "b()", "t.tmpl:1:4: unknown function `b`");
    // The name is known, and only the call is wrong.
    fails("{% macro a() %}{% endmacro %}{{ getv() }}", "getv()", "t.tmpl:1:33: getv: takes at least 1 argument (key), 0 given");
    fails("{% macro a() %}{{ x|uper }}{% endmacro %}", "uper", "t.tmpl:1:21: unknown filter `uper`, did you mean `upper`?");
}

#[test]
#[rustfmt::skip]
fn bad_macros() {
    fails("{% macro one(a) %}{% endmacro %}\n{{ one(1, 2) }}", "one(1, 2)", "t.tmpl:2:4: one: takes 1 argument, 2 given");
    fails("{% macro m(k) %}{{ getv(k) }}{% endmacro %}\n{{ m(\"/missing\") }}", "getv(k)", "t.tmpl:1:20: getv: key does not exist: /missing");
    fails("{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}", "{{ m() }}", "t.tmpl:1:16: calls and includes are nested too deeply, do they ever end?");
    fails("{% macro m %}{% endmacro %}", "%}", "t.tmpl:1:12: `(` is expected, found the end of the tag");
    fails("{% macro m(a b) %}{% endmacro %}", "b", "t.tmpl:1:14: `,` is expected, found `b`");
    fails("{% macro m(1) %}{% endmacro %}", "1", "t.tmpl:1:12: a name is expected, found `1`");
    fails("{% macro m() %}", "{% macro m() %}", "t.tmpl:1:1: `macro` is not closed, `{% endmacro %}` is missing");
    fails("{% macro m(a=1 / 0) %}{% endmacro %}{{ m() }}", "1 / 0", "t.tmpl:1:14: cannot divide an integer by zero");
    let error = render("{% macro m(k) %}{{ getv(k) }}{% endmacro %}\n{{ m(\"/missing\") }}").expect_err("it fails").to_string();
    assert!(error.ends_with("\n called from t.tmpl:2:4"), "{error}");
}

#[test]
#[rustfmt::skip]
fn imports() {
    let file = "{% set x = 1 %}text{% macro a(p, q=2) export %}[{{ p }}{{ q }}{{ x }}{{ getv(\"/app/name\") }}]{% endmacro %}{% macro b() export %}b{{ h() }}{% endmacro %}{% macro h() %}h{% endmacro %}";
    check_files(&[("t.tmpl", "{% import \"m\" a, b as c %}{% set x = 9 %}{{ a(1) }}"), ("m", file)], "[129shop]");
    check_files(&[("t.tmpl", "{% if 1 %}{% import \"m\" a %}{% import \"m\" a as z %}{% endif %}{{ a(1) }}{{ z(2) }}"), ("m", file)], "[12shop][22shop]");
    check_files(&[("t.tmpl", "{% import \"m\" b %}{{ b() }}[{{ h() }}]"), ("m", file)], "b[]");
    fails_files(&[("t.tmpl", "{% import \"m\" h %}"), ("m", file)], "h", "t.tmpl:1:15: `m` exports no macro `h`; a macro is exported with {% macro name() export %}");
    fails("{% import \"none\" a %}", "\"none\"", "t.tmpl:1:11: failed to read `none`: no such file or directory");
    fails("{% import \"none\" %}", "%}", "t.tmpl:1:18: a name is expected, found the end of the tag");
    fails("{% import x a %}", "x", "t.tmpl:1:11: the name of a file in quotes is expected, found `x`");
    let twice = "{% macro a() export %}{% endmacro %}\n{% macro a() export %}{% endmacro %}";
    fails_files(&[("t.tmpl", "{% import \"m\" a %}"), ("m", twice)], "{% macro a() export %}", "m:2:1: the file exports a macro `a` already");
    // Whitespace around the tags of an imported file stays.
    check_files(&[("t.tmpl", "{% import \"m\" a %}[{{ a() }}]"), ("m", "{% macro a() export %}\n  {% if 1 %}\nx\n{% endif %}\n{% endmacro %}")], "[\n  \nx\n\n]");
    // Files may import each other's macros.
    check_files(&[("t.tmpl", "{% import \"a\" a %}{{ a(2) }}"), ("a", "{% macro a(n) export %}a{% import \"b\" b %}{% if n %}{{ b(n - 1) }}{% endif %}{% endmacro %}"), ("b", "{% macro b(n) export %}b{% import \"a\" a %}{{ a(n) }}{% endmacro %}")], "ababa");
    let broken = [("t.tmpl", "\n{% import \"m\" a %}\n{{ a() }}"), ("m", "{% macro a() export %}{{ 1 / 0 }}{% endmacro %}")];
    let broken: Vec<_> = broken.iter().map(|(path, text)| (*path, text.as_bytes())).collect();
    let error = render_files(&broken).expect_err("it fails").to_string();
    assert!(error.ends_with("\n imported by t.tmpl:2:1\n called from t.tmpl:3:4"), "{error}");
}

#[test]
#[rustfmt::skip]
fn blocks() {
    let base = "<{% block a %}A{% endblock %}|{% block b %}B{{ getv(\"/app/name\") }}{% endblock %}>";
    check(base, "<A|Bshop>");
    check_files(&[("t.tmpl", "{% extends \"base\" %}dropped{% block a %}a{% endblock %}"), ("base", base)], "<a|Bshop>");
    check_files(&[("t.tmpl", "x{% block a %}({{ block.Super }}){% endblock %}{% extends \"base\" %}"), ("base", base)], "<(A)|Bshop>");
    check_files(&[
        ("t.tmpl", "{% extends \"mid\" %}{% block a %}leaf({{ block.Super }}){% endblock %}{% block c %}{{ block.Super() }}{{ block.super }}{% endblock %}"),
        ("mid", "{% extends \"root\" %}{% block a %}mid({{ block.Super }}{{ block.Super }}){% endblock %}{% block b %}mid{% endblock %}"),
        ("root", "{% block a %}root{% endblock %} {% block b %}root{% endblock %} {% block c %}root{% endblock %}"),
    ], "leaf(mid(rootroot)) mid root");
    check("{% block a %}1{% block b %}2{% endblock b %}{{ block.Super }}{% endblock a %}[{{ block.Super }}{{ block }}]", "12[<pongo2.tagBlockInformation Value>]");
    check_files(&[("t.tmpl", "{% extends \"base\" %}{% block row %}*{{ i }}{{ forloop.Counter }}{{ block.Super }}{% endblock %}"), ("base", "{% for i in \"ab\" %}{% block row %}-{{ i }}{% endblock %};{% endfor %}")], "*a1-a;*b2-b;");
    // A block has no scope of its own, so its variables stay.
    check("{% block a %}{% set x = 1 %}{% endblock %}{{ x }}", "1");
    // Parents keep the whitespace around their tags.
    check_files(&[("t.tmpl", "{% extends \"base\" %}\n{% block a %}\nx\n{% endblock %}\n"), ("base", "top\n  {% block a %}\n  {% endblock %}\n{% if true %}\nin\n{% endif %}\n{%- if 1 %}\ny{% endif %}end")], "top\n  x\n\n\nin\n\nyend");
    // An included file has blocks of its own.
    check_files(&[("t.tmpl", "{% block a %}t{% endblock %}{% include \"p\" %}"), ("p", "{% extends \"q\" %}{% block a %}p{% endblock %}"), ("q", "[{% block a %}{% endblock %}]")], "t[p]");
    // A block may be inside a block that another file replaces.
    check_files(&[("t.tmpl", "{% extends \"b\" %}{% block x %}<{% block y %}1{% endblock %}>{% endblock %}"), ("b", "{% block x %}{% endblock %}{% block y %}{% endblock %}")], "<1>1");
}

#[test]
#[rustfmt::skip]
fn bad_blocks() {
    fails("{% block a %}{% endblock %}\n{% block a %}{% endblock %}", "a", "t.tmpl:2:10: the file has a block `a` already");
    fails("{% block a %}{% endblock b %}", "b", "t.tmpl:1:26: the block is called `a`");
    fails("{% block a %}{% endblock a b %}", "b", "t.tmpl:1:28: the tag should end here, found `b`");
    fails("{% block %}{% endblock %}", "%}", "t.tmpl:1:10: a name is expected, found the end of the tag");
    fails("{% extends \"none\" %}", "\"none\"", "t.tmpl:1:12: failed to read `none`: no such file or directory");
    fails("{% extends f %}", "f", "t.tmpl:1:12: the name of a file in quotes is expected, found `f`");
    fails("{% if 1 %}{% extends \"a\" %}{% endif %}", "{% extends \"a\" %}", "t.tmpl:1:11: `extends` stands within `if`, but concerns the file as a whole");
    fails("{% extends \"a\" %}{% extends \"b\" %}", "{% extends \"b\" %}", "t.tmpl:1:18: the file extends another one already");
    fails("{% extends \"t.tmpl\" %}", "\"t.tmpl\"", "t.tmpl:1:12: files extend each other without an end");
    let files = [("t.tmpl", "\n{% extends \"b\" %}{% block a %}[{{ block.Super }}]{% endblock %}"), ("b", "{% block a %}x{% for x in \"ab\" %}{{ 1 / 0 }}{% endfor %}{% endblock %}")];
    check_files(&files, "[]");
    // Blocks can call themselves through `Super`.
    let files = [
        ("t.tmpl", "{% extends \"mid\" %}{% block b %}{% block a %}{{ block.Super }}{% endblock %}{% endblock %}"),
        ("mid", "{% extends \"root\" %}{% block a %}{% block b %}{% endblock %}{% endblock %}"),
        ("root", "{% block a %}{% endblock %}{% block b %}{% endblock %}"),
    ];
    fails_files(&files, "block.Super", "t.tmpl:1:49: block.Super: calls and includes are nested too deeply, do they ever end?");
}

#[test]
#[rustfmt::skip]
fn tags_that_take_their_text() {
    check("{% filter upper %}x{{ getv(\"/app/name\") }}{% endfilter %}y", "XSHOPy");
    check("{% filter cut:\"e\"|capfirst %}every bee{% endfilter %}", "Vry b");
    check("{% set m = 1 %}{% filter upper %}{% set m = \"a\" %}{{ m }}{% filter lower %}B{% endfilter %}{% endfilter %}{{ m }}", "ABa");
    check("{% macro m() %}x{% filter upper %}y{% endfilter %}{% endmacro %}{% filter upper %}a{{ m() }}{% endfilter %}", "AXY");
    check("{% spaceless %}<a> <b>\n{% if 1 %} <c> {% endif %}{% endspaceless %} <d>", "<a><b><c> <d>");
    fails("{% filter nope %}{% endfilter %}", "nope", "t.tmpl:1:11: unknown filter `nope`");
    fails("{% filter %}{% endfilter %}", "%}", "t.tmpl:1:11: the name of a filter is expected, found the end of the tag");
    fails("{% filter upper x %}{% endfilter %}", "x", "t.tmpl:1:17: the tag should end here, found `x`");
    fails("{% filter default:getv(\"/no\") %}{% endfilter %}", "getv(\"/no\")", "t.tmpl:1:19: getv: key does not exist: /no");
    fails("{% spaceless x %}{% endspaceless %}", "x", "t.tmpl:1:14: the tag should end here, found `x`");
}

#[test]
#[rustfmt::skip]
fn tags_that_remember() {
    check("{% for n in \"abcde\" %}{% cycle 1 \"x\" n %}{% endfor %}{% cycle 7 %}{% cycle 8 %}", "1xc1x78");
    check("{% for n in \"abc\" %}{% cycle \"r\" \"s\" as q silent %}{{ n }}{{ q }};{% endfor %}[{{ q }}]", "ar;bs;cr;[]");
    check("{% cycle \"r\" \"g\" \"b\" as c %}{% cycle c %}{% cycle c %}{% cycle c %}{{ c }}", "rgbrr");
    check("{% cycle \"a\" \"b\" as c silent %}{% cycle c %}{{ c }}{{ c == \"b\" }}{% if c %}t{% endif %}{{ c|length }}{{ c|upper }}", "bFalset0B");
    check("{% for v in \"11221\" %}{% ifchanged %}{{ v }}{% endifchanged %}{% endfor %}", "121");
    check("{% for v in \"1122\" %}{% ifchanged v %}{{ v }}{% else %}.{% endifchanged %}{% endfor %}", "1.2.");
    check("{% for v in \"1122\" %}{% ifchanged v %}{{ v }}{% endifchanged %}{% endfor %}", "12");
    check("{% for v in \"1122\" %}{% ifchanged 1 v|divisibleby:2 %}x{% else %}.{% endifchanged %}{% endfor %}", "x.x.");
    check("{% macro m(x) %}{% ifchanged x %}{{ x }}{% endifchanged %}{% cycle 1 2 %}{% endmacro %}{{ m(5) }}{{ m(5) }}", "512");
    fails("{% cycle %}", "%}", "t.tmpl:1:10: a value is missing before the end of the tag");
    fails("{% cycle 1 as %}", "%}", "t.tmpl:1:15: a name is expected, found the end of the tag");
    fails("{% cycle 1 as x loud %}", "loud", "t.tmpl:1:17: the tag should end here, found `loud`");
    fails("{% for x in \"ab\" %}{% ifchanged ls(\"/app\") %}{% endifchanged %}{% endfor %}", "{% ifchanged ls(\"/app\") %}", "t.tmpl:1:20: cannot compare two lists");
    // The state belongs to a render.
    let files = TestWorld::default();
    files.put("t.tmpl", b"{% cycle 1 2 %}");
    let world: Rc<dyn World> = Rc::new(files);
    let template = Template::compile(Path::new("t.tmpl"), &world).expect("compiles");
    for _ in 0..2 {
        assert_eq!(template.render(&fixture::store(), &world), Ok(b"1".to_vec()));
    }
    // A cycle of another file continues, and its errors are shown in that file.
    check_files(&[("t.tmpl", "{% cycle 1 2 3 as c silent %}{% set f = \"p\" %}{% include f %}{% cycle c %}"), ("p", "{% cycle c %}")], "");
    fails_files(&[("t.tmpl", "{% cycle 1 1 / 0 as c %}{% set f = \"p\" %}{% include f %}"), ("p", "{% cycle c %}")], "1 / 0", "t.tmpl:1:12: cannot divide an integer by zero");
}

#[test]
#[rustfmt::skip]
fn small_tags() {
    check("{% firstof nothing \"\" 0 \"a\" \"b\" %}{% firstof \"\" %}{% firstof %}{% firstof 1 / 1 %}", "a1");
    check("{% ifequal 1 1 %}a{% endifequal %}{% ifequal 1 \"1\" %}b{% else %}c{% endifequal %}{% ifnotequal 1 + 1 3 %}d{% endifnotequal %}", "acd");
    check("{% templatetag openblock %}{% templatetag closevariable %}{% templatetag opencomment %}{% templatetag openbrace %}", "{%}}{#{");
    check("{% widthratio 5 10 25 %};{% widthratio 0 100 50 %};{% widthratio 101 200 100 as p %}{{ p }}", "13;1;51");
    check("{% widthratio 1 0 1 %}", "-9223372036854775808");
    check("{% now \"2006-01-02 15:04:05 MST\" %} {% now \"2006-01-02 15:04:05\" fake %}", "2022-02-03 05:05:06 CET2014-02-05 18:31:45");
    check_files(&[("t.tmpl", "{% ssi \"d/r\" %}|{% ssi \"d/r\" parsed %}"), ("d/r", "{{ \"x\"|upper }}{% if 1 %}\n\n{% endif %}")], "{{ \"x\"|upper }}{% if 1 %}\n\n{% endif %}|X\n");
    fails("{% ssi \"none\" %}", "\"none\"", "t.tmpl:1:8: failed to read `none`: no such file or directory");
    fails("{% ssi x %}", "x", "t.tmpl:1:8: the name of a file in quotes is expected, found `x`");
    fails("{% ifequal 1 %}{% endifequal %}", "%}", "t.tmpl:1:14: a value is missing before the end of the tag");
    fails("{% ifequal 1 2 3 %}{% endifequal %}", "3", "t.tmpl:1:16: the tag should end here, found `3`");
    fails("{% ifequal ls(\"/app\") ls(\"/app\") %}{% endifequal %}", "ls(\"/app\") ls(\"/app\")", "t.tmpl:1:12: cannot compare two lists");
    let names = "openblock, closeblock, openvariable, closevariable, openbrace, closebrace, opencomment, closecomment";
    fails("{% templatetag openparen %}", "openparen", &format!("t.tmpl:1:16: one of {names} is expected, found `openparen`"));
    fails("{% now %}", "%}", "t.tmpl:1:8: a format in quotes is expected, like \"2006-01-02 15:04\", found the end of the tag");
    fails("{% widthratio 1 2 %}", "%}", "t.tmpl:1:19: a value is missing before the end of the tag");
}

#[test]
#[rustfmt::skip]
fn lorem() {
    check("{% lorem 5 w %}|{% lorem 1 w %}|{% lorem 0 w %}|{% lorem 0 %}", "Lorem ipsum dolor sit amet,|Lorem||");
    check("{% lorem 3 w random %}", "amet. amet. amet.");
    let text = |template| String::from_utf8(render(template).expect("renders")).expect("is text");
    let one = text("{% lorem %}");
    assert!(one.starts_with("Lorem ipsum dolor sit amet, ") && one.ends_with(" laborum."), "{one}");
    assert_eq!(text("{% lorem 1 p %}"), format!("<p>{one}</p>"));
    assert_eq!(text("{% lorem b %}"), one);
    let eight = text("{% lorem 8 p %}");
    assert_eq!(eight.lines().count(), 8);
    assert_eq!(eight.lines().next(), eight.lines().last(), "the text begins again");
    assert_eq!(text("{% lorem 2 b random %}").lines().map(|line| &line[..11]).collect::<Vec<_>>(), ["Consetetur ", "Consetetur "]);
    fails("{% lorem x %}", "x", "t.tmpl:1:10: `w` (words), `p` (HTML paragraphs) or `b` (paragraphs) is expected, found `x`");
    fails("{% lorem random %}", "random", "t.tmpl:1:10: `w` (words), `p` (HTML paragraphs) or `b` (paragraphs) is expected, found `random`");
    fails("{% lorem 2 w randomly %}", "randomly", "t.tmpl:1:14: the tag should end here, found `randomly`");
    fails("{% lorem 18446744073709551615 p %}", "{% lorem 18446744073709551615 p %}", "t.tmpl:1:1: the template holds more than 268435456 bytes at a time; `template_memory` in [limits] raises that");
}

#[test]
#[rustfmt::skip]
fn autoescape() {
    check("{% autoescape on %}{{ \"<\" }}{{ \"<\"|safe }}{{ 5 }}{% firstof \"<\" %}{% firstof \"<\"|safe %}{% endautoescape %}{{ \"<\" }}", "&lt;<5&lt;<<");
    check("{% autoescape on %}{% autoescape off %}{{ \"<\" }}{% endautoescape %}{% for x in \">\" %}{{ x }}{% endfor %}{% endautoescape %}", "<&gt;");
    check("{% macro m() %}{{ \"<\" }}{% endmacro %}{% autoescape on %}{{ m() }}{{ m()|upper }}{% endautoescape %}", "&lt;&amp;LT;");
    check_files(&[("t.tmpl", "{% autoescape on %}{% include \"p\" %}{{ \"<\" }}{% endautoescape %}"), ("p", "{{ \"<\" }}")], "<&lt;");
    fails("{% autoescape %}{% endautoescape %}", "%}", "t.tmpl:1:15: `on` or `off` is expected, found the end of the tag");
    fails("{% autoescape maybe %}{% endautoescape %}", "maybe", "t.tmpl:1:15: `on` or `off` is expected, found `maybe`");
}

#[test]
#[rustfmt::skip]
fn circles_of_values_and_files_end() {
    check("{% cycle \"a\" c as c %}{% cycle c %}{{ c }}{% cycle c %}", "aaaa");
    let files = [("t.tmpl", "{% import \"m\" m %}{{ m() }}"), ("m", "{% macro m() export %}{% include \"a\" %}{% endmacro %}"), ("a", "{% include \"b\" %}"), ("b", "{% include \"a\" %}")];
    fails_files(&files, "{% include \"a\" %}", "b:1:1: files include each other: a > b > a");
}

#[test]
fn many_names_and_calls_are_no_trouble() {
    let mut text = String::from("{% macro m(x) %}{{ x }}{% endmacro %}");
    for i in 0..20_000 {
        text.push_str(&format!("{{% set v{i} = {i} %}}{{{{ m(v{i}) }}}}"));
    }
    assert_eq!(render(&text).map(|out| out.len()), Ok(10 + 90 * 2 + 900 * 3 + 9000 * 4 + 10_000 * 5));
}

/// Text has no node, so an error in it has the place of the nearest node, which has to be a node of its own program.
#[test]
fn a_text_that_does_not_fit_is_told_with_its_file() {
    #[track_caller]
    fn check(files: &[(&str, &str)], expected: &str) {
        let files = files.iter().map(|(path, text)| (*path, text.as_bytes()));
        let world: Rc<dyn World> = Rc::new(TestWorld::of(files));
        let mut template = Template::compile(Path::new("t.tmpl"), &world).expect("compiles");
        template.limits.output = 20;
        let error = template.render(&fixture::store(), &world).expect_err("the text is too long").to_string();
        let places =
            |line: &str| line.contains(".tmpl:").then(|| line.split(": ").next().unwrap_or_default().to_owned());
        assert_eq!(error.lines().filter_map(places).collect::<Vec<_>>().join("|"), expected, "{error}");
    }
    let long = "0123456789 0123456789 0123456789";
    let include = "          {% set f = 'c.tmpl' %}{% include f %}";
    check(
        &[("t.tmpl", "{% include 'b.tmpl' %}"), ("b.tmpl", include), ("c.tmpl", long)],
        "c.tmpl:1:1| included from b.tmpl:1:33| included from t.tmpl:1:1",
    );
    let behind = format!("{include}{long}");
    check(
        &[("t.tmpl", "{% include 'b.tmpl' %}"), ("b.tmpl", &behind), ("c.tmpl", "\n\n\n{{ 1 }}")],
        "b.tmpl:1:33| included from t.tmpl:1:1",
    );
    let macro_ = format!("{{% macro m() export %}}{long}{{% endmacro %}}");
    check(
        &[("t.tmpl", "{% import 'b.tmpl' m %}{{ 1 }}{{ m() }}"), ("b.tmpl", &macro_)],
        "b.tmpl:1:23| imported by t.tmpl:1:1| called from t.tmpl:1:34",
    );
}

#[test]
fn fields_in_other_letters_are_hinted_at() {
    #[track_caller]
    fn check(template: &str, out: &str, expected: &[&str]) {
        let world: Rc<dyn World> = Rc::new(TestWorld::of([("t.tmpl", template.as_bytes())]));
        let template = Template::compile(Path::new("t.tmpl"), &world).expect("compiles");
        for expected in [expected, &[]] {
            let text = template.render(&fixture::store(), &world).expect("renders");
            assert_eq!(String::from_utf8_lossy(&text), out);
            assert_eq!(template.take_hints(), expected);
        }
    }
    let pair = "a pair has the fields Key and Value, write";
    check(
        "{% for kv in gets(\"/app/*\") %}{{ kv.key }}{{ kv.Key|slice:\":0\" }}{% if kv.value == \"x\" %}x{% endif %}{% endfor %}",
        "",
        &[
            &format!("t.tmpl:1:34: kv.key is empty: {pair} kv.Key"),
            &format!("t.tmpl:1:72: kv.value is empty: {pair} kv.Value"),
        ],
    );
    check("\n{{ get(\"/app/name\").VALUE }}", "\n", &[&format!("t.tmpl:2:4: get.VALUE is empty: {pair} get.Value")]);
    check(
        "{% for x in \"ab\" %}{{ forloop.counter }}{{ forloop.Parentloop.first }}{% endfor %}",
        "",
        &["t.tmpl:1:23: forloop.counter is empty: there is no field `counter`, write forloop.Counter"],
    );
    check(
        "{% for r in lookupSRV(\"db\", \"tcp\", \"example.com\") %}{{ r.port }}{% endfor %}",
        "",
        &["t.tmpl:1:56: r.port is empty: there is no field `port`, write r.Port"],
    );
    // A missing key of a map gives no hint, because the data decides its keys.
    check(
        "{% set m = \"{A: 1}\"|parseYAML %}{{ m.a }}{% set n = createMap() %}{{ n.a }}{% set p = get(\"/app/name\") %}{{ p.x }}{{ none.key }}",
        "",
        &[],
    );
}

/// A cycle with a name holds its value, and a map may hold it.
#[test]
fn values_nested_deeper_than_the_stack_are_let_go() {
    let template = "{% set m = createMap() %}{% for x in \"x\"|ljust:100000 %}{% set n = createMap() %}\
                    {% cycle m as c silent %}{% set e = n.Set(\"x\", c) %}{% set m = n %}{% endfor %}";
    check(template, "");
}

#[test]
fn messages_keep_to_a_line() {
    fails("{{ getv(\"/a\tb\") }}", "getv(\"/a\tb\")", "t.tmpl:1:4: getv: key does not exist: /a\u{fffd}b");
}

/// The reference of the language, with the files that its examples name.
struct Page {
    files: BTreeMap<&'static str, &'static str>,
}

impl Page {
    const TEXT: &str = include_str!("../../docs/templates.md");

    /// The blocks between fences, each with the text of its fence.
    fn blocks() -> impl Iterator<Item = (&'static str, &'static str)> {
        Page::TEXT.split("\n```").skip(1).step_by(2).filter_map(|block| block.split_once('\n'))
    }

    fn read() -> Page {
        let files = Page::blocks().filter_map(|(kind, text)| Some((kind.strip_prefix("file ")?, text)));
        Page { files: files.collect() }
    }

    fn render(&self, template: &str) -> Result<String, super::Error> {
        let files = self.files.iter().map(|(path, text)| (*path, text.as_bytes()));
        let files: Vec<_> = files.chain([("t.tmpl", template.as_bytes())]).collect();
        render_files(&files).map(|out| String::from_utf8_lossy(&out).into_owned())
    }
}

#[test]
fn the_examples_of_the_documentation() {
    let page = Page::read();
    let mut examples = 0;
    let mut blocks = Page::blocks().filter(|(kind, _)| !kind.starts_with("file "));
    while let Some((kind, template)) = blocks.next() {
        assert_eq!(kind, "template", "{template}");
        let (kind, expected) = blocks.next().expect("what comes of an example follows it");
        match page.render(template) {
            Ok(out) => assert_eq!((kind, expected), ("result", out.trim_end()), "{template}"),
            Err(error) => assert_eq!((kind, expected), ("error", &error.to_string()[..]), "{template}"),
        }
        examples += 1;
    }
    assert!(examples > 12, "only {examples} examples are found");
}

#[test]
fn the_small_tags_of_the_documentation() {
    let page = Page::read();
    for cells in fixture::table(Page::TEXT, "The others") {
        let [_, _, example, expected] = &cells[..] else { panic!("{cells:?}") };
        let out = page.render(example).unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(out.trim_end(), expected, "{example}");
    }
}

#[test]
fn the_documentation_has_every_tag() {
    for name in super::syntax::tags::LANGUAGE.names() {
        let text = Page::TEXT;
        let shown = text.contains(&format!("{{% {name} ")) || text.contains(&format!("`{name} "));
        assert!(shown, "{name}");
    }
}

/// A filter of the user that shows its arguments and costs a thousand steps.
struct Shown;

impl Script for Shown {
    fn call(&self, env: &Env, value: &Value, argument: &Value) -> Result<Value, String> {
        env.meter.charge(1000 * STEP)?;
        match value {
            Value::Nil => Err("needs a value".to_owned()),
            _ => Ok(Value::str(format!("<{value:?} {argument:?}>"))),
        }
    }
}

#[test]
fn filters_of_the_user() {
    let render = |text: &str, steps| {
        let mut scripts = Scripts::default();
        ["shown", "upper", "getv", "escape"].iter().for_each(|name| scripts.insert(name, Shown));
        let files = TestWorld::default();
        files.put("t.tmpl", text.as_bytes());
        let world: Rc<dyn World> = Rc::new(files);
        let limits = Limits { steps, ..Limits::default() };
        let template = Template::compile_within(Path::new("t.tmpl"), &world, limits, Rc::new(scripts))
            .map_err(|error| error.message().to_owned())?;
        let out = template.render(&fixture::store(), &world).map_err(|error| error.message().to_owned())?;
        Ok(String::from_utf8_lossy(&out).into_owned())
    };
    let check = |text: &str, expected: Result<&str, &str>| {
        assert_eq!(render(text, 10_000), expected.map(str::to_owned).map_err(str::to_owned), "{text}");
    };
    check("{{ 1|shown }}", Ok("<1 nil>"));
    check("{{ 1|shown:\"a\"|lower }}", Ok("<1 \"a\">"));
    check("{{ shown(1, 2) }}{{ shown }}", Ok("<1 2>"));
    // It has priority over a filter of the language, but not over a function.
    check("{{ \"a\"|upper }}{{ upper(1) }}", Ok("<\"a\" nil><1 nil>"));
    check("{{ getv(\"/app/port\") }}{{ 1|getv }}", Ok("8080<1 nil>"));
    check("{% filter shown:2|lower %}B{% endfilter %}", Ok("<\"b\" 2>"));
    // Also for `autoescape`.
    check("{% autoescape on %}{{ \"a\" }}{{ \"a\"|safe }}{% endautoescape %}", Ok("<\"a\" nil>a"));
    check("{{ none|shown }}", Err("shown: needs a value"));
    check("{% filter none|shown %}{% endfilter %}", Err("unknown filter `none`"));
    check("{{ shown() }}", Err("shown: takes a value and at most one argument, 0 given"));
    check("{{ 1|shwn }}", Err("unknown filter `shwn`, did you mean `shown`?"));
    check("{{ shwn(1) }}", Err("unknown function `shwn`, did you mean `shown`?"));
    assert_eq!(
        render("{{ 1|shown|shown|shown }}", 2500),
        Err(format!("shown: the template takes more than 2500 steps; {}", raised_by("template_steps")))
    );
    assert!(render("{{ 1|shown|shown }}", 2500).is_ok());
}
