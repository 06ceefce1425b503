//! The world of the fuzz targets and of the tests with random templates: the tests' world, with some files for every
//! template. Some of them include the template itself, and any name is that of a file, so that circles close.

use std::rc::Rc;

use remco::template::{Srv, World};

#[path = "../src/template/fixture/world.rs"]
#[allow(dead_code, reason = "part of the world is for other tests")]
mod world;

use world::TestWorld;

/// The template as its own files name it, too.
pub const PATH: &str = "t.tmpl";

/// What other files hold. Those that include the template close circles.
const FILES: &[&[u8]] = &[
    b"text {{ name }}\n{% set carried = 1 %}",
    b"{% block a %}A{{ block.Super }}{% endblock %}{% for x in l %}{% block b %}B{% endblock %}{% endfor %}",
    b"{% macro m(a, b=2) export %}<{{ a }}{{ b }}{{ m }}>{% endmacro %}{% macro n() export %}{{ m(1) }}{% endmacro %}",
    b"{% extends \"base\" %}{% block a %}C{{ block.Super }}{% endblock %}",
    b"{% include \"t.tmpl\" %}",
    b"{% include name %}{{ forloop.Parentloop.Counter }}",
    b"{{ broken",
    b"\xff\x00{# #}{% verbatim %}{{ raw }}{% endverbatim %}",
];

/// A world that never changes, with this template at [`PATH`].
pub fn still(template: &[u8]) -> Rc<dyn World> {
    let still = TestWorld {
        other_file,
        now: (1_643_861_106, 123_456_789),
        zone: (-12_600, "NST"),
        srv: |service, _proto, name| {
            let record = |port| Srv { target: format!("{service}.{name}."), port, priority: 1, weight: 2 };
            Some(vec![record(2), record(1)])
        },
        ..TestWorld::of([(PATH, template)])
    };
    Rc::new(still)
}

/// Every name is that of a file, and its length tells which, so that any recorded template finds what it includes.
fn other_file(path: &str) -> Option<Vec<u8>> {
    let index = match path {
        path if path.contains("missing") => return None,
        "base" => 1,
        "macros" => 2,
        _ => path.len() % FILES.len(),
    };
    Some(FILES[index].to_vec())
}
