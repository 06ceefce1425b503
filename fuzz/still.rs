//! The world that templates are rendered in here: files, variables and names that are always the same. Some files include
//! the template itself, and any name is that of a file, so that circles close.

use std::io::{self, ErrorKind};
use std::path::Path;

use remco::template::{Srv, Stamp, World};

/// The template as its own files name it, too.
pub const PATH: &str = "t.tmpl";

/// A world that never changes.
pub struct Still {
    pub template: Vec<u8>,
}

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

impl World for Still {
    /// Every name is that of a file, and its length tells which, so that any recorded template finds what it includes.
    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        match path.to_string_lossy() {
            path if path == PATH => Ok(self.template.clone()),
            path if path.contains("missing") => Err(ErrorKind::NotFound.into()),
            path => Ok(FILES[match &*path {
                "base" => 1,
                "macros" => 2,
                _ => path.len() % FILES.len(),
            }]
            .to_vec()),
        }
    }

    fn stamp(&self, path: &Path) -> Option<Stamp> {
        let name = path.to_string_lossy();
        (!name.contains("missing")).then(|| Stamp { device: 1, inode: 2, size: name.len() as u64, modified: (3, 4) })
    }

    fn var(&self, name: &[u8]) -> Option<Vec<u8>> {
        (name == b"HOME").then(|| b"/root".to_vec())
    }

    fn now(&self) -> (i64, u32) {
        (1_643_861_106, 123_456_789)
    }

    fn zone(&self, _unix: i64) -> (i32, String) {
        (-12_600, "NST".to_owned())
    }

    fn lookup_ip(&self, name: &str) -> Result<Vec<String>, String> {
        match name {
            "localhost" => Ok(vec!["::1".to_owned(), "127.0.0.1".to_owned()]),
            _ => Err("no such host".to_owned()),
        }
    }

    fn lookup_srv(&self, service: &str, _proto: &str, name: &str) -> Result<Vec<Srv>, String> {
        let record = |port| Srv { target: format!("{service}.{name}."), port, priority: 1, weight: 2 };
        Ok(vec![record(2), record(1)])
    }

    /// The last one, so that the same bytes always do the same.
    fn random(&self, bound: u64) -> u64 {
        bound - 1
    }
}
