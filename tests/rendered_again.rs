//! A template that is kept, over a store that is changed key by key, gives what a new one over a new store gives: small
//! random templates, random changes, the same in every run.

#![allow(clippy::cast_possible_truncation)]

use std::collections::BTreeMap;
use std::path::Path;
use std::rc::Rc;
use std::time::Duration;

use remco::store::Store;
use remco::template::{Limits, Template};

#[path = "it/support/random.rs"]
mod random;
#[path = "../fuzz/still.rs"]
mod still;

use random::Random;
use still::{PATH, still};

const TEMPLATES: usize = 200;
const CHANGES: usize = 25;
const LAYERS: usize = 2;
const LIMITS: Limits = Limits { steps: 100_000, output: 1 << 20, time: Duration::from_secs(10), memory: 16 << 20 };

/// Few enough that they meet, with directories that are keys, and names beside each other in order.
const KEYS: &[&str] = &[
    "/a", "/a/b", "/a/b/c", "/a-b", "/a0", "/a/c", "/b", "/b/0", "/b/1", "/b/10", "/b/2/x", "/c/d/e/f", "/c/d/e/g", "/",
];
const VALUES: &[&str] = &["", "1", "-2", "text", "b", "/a", "{\"k\": [1, \"v\"]}", "a,b,c", "<&>\"'", "caf\u{e9}"];
const PATTERNS: &[&str] = &["/*", "/a/*", "/b/?", "/b/1*", "/*/b", "/c/*/e/[fg]", "/none/*", "/a/b", "/[ab]/*"];

/// Texts with `K` for a key, `P` for a pattern, `D` for a directory, `B` for more of the same.
const PIECES: &[&str] = &[
    "text\n",
    "{{ getv(\"K\", \"none\") }}",
    "{{ getv(\"K\", \"\")|upper }}.",
    "{{ exists(\"K\") }}",
    "{{ get(\"K\") }}",
    "{% if exists(\"K\") %}B{% else %}B{% endif %}",
    "{% if getv(\"K\", \"\") == \"1\" %}B{% elif getv(\"K\", \"x\") %}B{% endif %}",
    "{% for kv in gets(\"P\") %}{{ kv.Key }}={{ kv.Value }};B{% endfor %}",
    "{% for v in getvs(\"P\") %}{{ forloop.Counter }}{{ v }}{% if forloop.Last %}.{% endif %}{% endfor %}",
    "{% for name in ls(\"D\") %}{{ name }},{% empty %}B{% endfor %}",
    "{% for name in lsdir(\"D\") %}{{ name }}/B{% endfor %}",
    "{{ getallkvs()|length }}",
    "{% for kv in getallkvs() reversed %}{{ kv.Key|base }} {% endfor %}",
    "{% set x = getv(\"K\", \"0\") %}{{ x }}",
    "{% with y=getvs(\"P\") %}{{ y|join:\",\" }}B{% endwith %}",
    "{% macro m(p) %}<{{ p }}B>{% endmacro %}{{ m(getv(\"K\", \"?\")) }}",
    "{% set m = createMap() %}{{ m.Set(\"a\", getv(\"K\", \"\")) }}{{ m.Get(\"a\") }}",
    "{{ printf(\"%5s|%-5q\", getv(\"K\", \"x\"), getvs(\"P\")|length) }}",
    "{% ifchanged %}{{ getv(\"K\", \"\") }}{% endifchanged %}",
    "{% autoescape on %}{{ getv(\"K\", \"\") }}{% endautoescape %}",
    "{% spaceless %} <p> B </p> {% endspaceless %}",
    "{% cycle \"a\" \"b\" %}",
    "{{ getv(\"K\") }}",
];

fn template(random: &mut Random, depth: usize, out: &mut String) {
    for _ in 0..=random.below(3) {
        let piece = PIECES[random.below(PIECES.len() as u64) as usize];
        let mut choose = |from: &[&'static str]| from[random.below(from.len() as u64) as usize];
        let (key, pattern) = (choose(KEYS), choose(PATTERNS));
        let piece = piece.replace("(\"K\"", &format!("(\"{key}\"")).replace("(\"P\"", &format!("(\"{pattern}\""));
        let piece = piece.replace("(\"D\"", &format!("(\"{}\"", choose(&["/", "/a", "/a/b", "/b", "/c", "/c/d"])));
        let mut texts = piece.split('B').peekable();
        while let Some(text) = texts.next() {
            out.push_str(text);
            if texts.peek().is_some() && depth > 0 {
                template(random, depth - 1, out);
            }
        }
    }
}

fn fresh(layers: &[BTreeMap<&'static str, &'static str>; LAYERS]) -> Rc<Store> {
    let mut store = Store::new(LAYERS);
    for (layer, pairs) in layers.iter().enumerate() {
        for (key, value) in pairs {
            store.put(layer, key.as_bytes().into(), value.as_bytes().into());
        }
    }
    Rc::new(store)
}

#[test]
fn what_is_kept_agrees_with_what_is_new() {
    let mut random = Random::new(2026);
    let (mut rendered, mut failed, mut different) = (0, 0, 0);
    for _ in 0..TEMPLATES {
        let mut text = String::new();
        template(&mut random, 3, &mut text);
        let world = still(text.as_bytes());
        let compile = || {
            let mut template = Template::compile(Path::new(PATH), &world).unwrap_or_else(|e| panic!("{text}:\n{e}"));
            template.limits = LIMITS;
            template
        };
        let kept = compile();
        let mut layers = [const { BTreeMap::new() }; LAYERS];
        let mut store = fresh(&layers);
        let mut before = None;
        for _ in 0..CHANGES {
            let mut choose = |from: &[&'static str]| from[random.below(from.len() as u64) as usize];
            let (key, value) = (choose(KEYS), choose(VALUES));
            let layer = random.below(LAYERS as u64) as usize;
            let changed = Rc::get_mut(&mut store).expect("nothing keeps the store from one render to the next");
            if random.below(3) == 0 {
                changed.delete(layer, key.as_bytes());
                layers[layer].remove(key);
            } else {
                changed.put(layer, key.as_bytes().into(), value.as_bytes().into());
                layers[layer].insert(key, value);
            }
            let say = |result: Result<Vec<u8>, _>| result.map_err(|error: remco::template::Error| error.to_string());
            let result = say(kept.render(&store, &world));
            assert_eq!(result, say(compile().render(&fresh(&layers), &world)), "{layers:?}\n{text}");
            different += usize::from(before.as_ref().is_some_and(|before| *before != result));
            *if result.is_ok() { &mut rendered } else { &mut failed } += 1;
            before = Some(result);
        }
    }
    assert!(rendered > 1500 && failed > 100 && different > 500, "{rendered} {failed} {different}");
}
