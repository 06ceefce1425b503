//! A compiled template over a changed store gives the result of a new one over a new store: small random templates,
//! random changes, the same in every run. If the record of its reads excludes an effect of the changes, the last result
//! equals a new render. REMCO_CASES is the number of changes; 100,000 take a minute.

#![allow(clippy::cast_possible_truncation)]

use std::collections::BTreeMap;
use std::path::Path;
use std::rc::Rc;
use std::time::Duration;

use remco::store::Store;
use remco::store::changes::Changes;
use remco::template::reads::Reads;
use remco::template::{Limits, Template};

#[path = "it/support/random.rs"]
mod random;
#[path = "../fuzz/still.rs"]
mod still;

use random::Random;
use still::{PATH, still};

const CASES: usize = 2_500;
const CHANGES: usize = 25;
const LAYERS: usize = 2;
const LIMITS: Limits = Limits { steps: 100_000, output: 1 << 20, time: Duration::from_secs(10), memory: 16 << 20 };

/// Few enough that they meet, with directories that are keys, and names beside each other in order.
const KEYS: &[&str] = &[
    "/a", "/a/b", "/a/b/c", "/a-b", "/a0", "/a/c", "/b", "/b/0", "/b/1", "/b/10", "/b/2/x", "/c/d/e/f", "/c/d/e/g", "/",
];
const VALUES: &[&str] = &["", "1", "-2", "text", "b", "/a", "{\"k\": [1, \"v\"]}", "a,b,c", "<&>\"'", "caf\u{e9}"];
/// A loop of 300 rounds.
const NUMBERS: &str = "\"\"|ljust:300|make_list";
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
    "{{ getv(printf(\"%s/%s\", getv(\"K\", \"/b\"), getv(\"K\", \"0\")), \"\") }}",
    "{% for name in ls(\"D\") %}{{ getv(printf(\"D/%s\", name), \"-\") }}B{% endfor %}",
    "{% for name in lsdir(\"D\") %}{% for kv in gets(printf(\"D/%s/*\", name)) %}{{ kv.Value }}{% endfor %}{% endfor %}",
    "{% if getv(\"K\", \"\") == getv(\"K\", \"\") %}{% include getv(\"K\", \"name\") %}{% endif %}",
    "{% include getv(\"K\", \"missing\") if_exists %}",
    "{{ getvs(\"P\")|random }}",
    "{% if fileExists(getv(\"K\", \"missing\")) %}B{% endif %}",
    // So many that the reads of a directory are joined.
    "{% for a in getvs(\"P\") %}{% for b in N %}{{ exists(printf(\"D/%d\", forloop.Counter)) }}{% endfor %}{% endfor %}",
    "{% for b in N %}{{ getv(printf(\"/b/%d\", forloop.Counter), \"\") }}{% if forloop.First %}B{% endif %}{% endfor %}",
    "{% for b in N %}{% for kv in gets(printf(\"/%d/*\", forloop.Counter)) %}{{ kv.Key }}{% endfor %}{% endfor %}{{ exists(\"K\") }}",
];

fn template(random: &mut Random, depth: usize, out: &mut String) {
    for _ in 0..=random.below(3) {
        let piece = PIECES[random.below(PIECES.len() as u64) as usize];
        let mut choose = |from: &[&'static str]| from[random.below(from.len() as u64) as usize];
        let (key, pattern) = (choose(KEYS), choose(PATTERNS));
        let piece = piece.replace("(\"K\"", &format!("(\"{key}\"")).replace("(\"P\"", &format!("(\"{pattern}\""));
        let directory = choose(&["/", "/a", "/a/b", "/b", "/c", "/c/d"]);
        let piece = piece.replace("(\"D\"", &format!("(\"{directory}\"")).replace("(\"D/", &format!("(\"{directory}/"));
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

/// What an update that renders only what changes can reach knows of the last render.
struct Known {
    result: Result<Vec<u8>, Option<String>>,
    reads: Reads,
}

impl Known {
    fn is_current(&self, changes: &Changes) -> bool {
        self.result.is_ok() && !self.reads.asked_machine() && !self.reads.is_affected_by(changes)
    }
}

#[test]
fn what_is_kept_agrees_with_what_is_new() {
    let cases = std::env::var("REMCO_CASES").map_or(CASES, |cases| cases.parse().expect("a number"));
    let mut random = Random::new(2026);
    let (mut rendered, mut failed, mut different, mut skipped) = (0, 0, 0, 0);
    for _ in 0..cases / CHANGES {
        let mut text = String::new();
        template(&mut random, 3, &mut text);
        let text = text.replace(" in N ", &format!(" in {NUMBERS} "));
        let world = still(text.as_bytes());
        let compile = || {
            let mut template = Template::compile(Path::new(PATH), &world).unwrap_or_else(|e| panic!("{text}:\n{e}"));
            template.limits = LIMITS;
            template
        };
        let kept = compile();
        let mut layers = [const { BTreeMap::new() }; LAYERS];
        let mut store = fresh(&layers);
        let mut known: Option<Known> = None;
        let mut before = None;
        for _ in 0..CHANGES {
            let changed = Rc::get_mut(&mut store).expect("nothing keeps the store from one render to the next");
            for _ in 0..=random.below(3) {
                change(&mut random, changed, &mut layers);
            }
            let changes = changed.take_changes();
            let say = |result: Result<Vec<u8>, remco::template::Error>| {
                // Compiling an included file anew takes steps, so that the limit is reached at another place.
                result.map_err(|error| Some(error.to_string()).filter(|text| !text.contains("template_steps")))
            };
            let result = say(kept.render(&store, &world));
            let reads = kept.take_reads();
            assert_eq!(result, say(compile().render(&fresh(&layers), &world)), "{layers:?}\n{text}");
            match known.take().filter(|known| known.is_current(&changes)) {
                Some(current) => {
                    assert_eq!(current.result, result, "not rendered in spite of {changes:?}\n{layers:?}\n{text}");
                    skipped += 1;
                    known = Some(current);
                }
                None => known = Some(Known { result: result.clone(), reads }),
            }
            different += usize::from(before.as_ref().is_some_and(|before| *before != result));
            *if result.is_ok() { &mut rendered } else { &mut failed } += 1;
            before = Some(result);
        }
    }
    let counts = format!("{rendered} rendered, {failed} failed, {different} different, {skipped} skipped");
    println!("{counts}");
    assert!(rendered > cases / 4 && failed > cases / 50 && different > cases / 10 && skipped > cases / 20, "{counts}");
}

/// Changes one key of one layer, or replaces the layer.
fn change(random: &mut Random, store: &mut Store, layers: &mut [BTreeMap<&'static str, &'static str>; LAYERS]) {
    let mut choose = |from: &[&'static str]| from[random.below(from.len() as u64) as usize];
    let (key, value) = (choose(KEYS), choose(VALUES));
    let layer = random.below(LAYERS as u64) as usize;
    match random.below(12) {
        0..4 => {
            store.delete(layer, key.as_bytes());
            layers[layer].remove(key);
        }
        4..11 => {
            store.put(layer, key.as_bytes().into(), value.as_bytes().into());
            layers[layer].insert(key, value);
        }
        _ => {
            layers[layer].insert(key, value);
            layers[layer].retain(|_, _| random.below(5) > 0);
            let pairs = layers[layer].iter();
            store.replace(layer, pairs.map(|(key, value)| (key.as_bytes().into(), value.as_bytes().into())).collect());
        }
    }
}
