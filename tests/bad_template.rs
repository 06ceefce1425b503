//! What a wrong template is told, word for word: `tests/snapshots/bad-template.txt` holds mistakes that are easily made
//! and what compiling or rendering says to them.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use remco::store::Store;
use remco::template::{Srv, Stamp, Template, World};

mod snapshots;

use snapshots::{check, unescape};

#[test]
fn bad_templates_are_explained() {
    check("bad-template.txt", 30, |case| {
        let files = case.parts.iter().map(|(name, text)| (PathBuf::from(name), unescape(text)));
        let world: Rc<dyn World> = Rc::new(Files(files.collect()));
        let result = Template::compile(Path::new("app.tmpl"), &world);
        match result.and_then(|template| template.render(&Rc::new(store()), &world)) {
            Ok(out) => panic!("nothing is wrong with it: {}", String::from_utf8_lossy(&out)),
            Err(error) => format!("{error}\n"),
        }
    });
}

fn store() -> Store {
    let mut store = Store::new(1);
    for (key, value) in [
        ("/app/name", "shop"),
        ("/app/port", "8080"),
        ("/app/ratio", "0.5"),
        ("/app/json", "{\"a\": [1, 2"),
        ("/hosts/one", "10.0.0.2"),
        ("/hosts/two", "10.0.0.1"),
        ("/zero", "0"),
    ] {
        store.put(0, key.as_bytes().into(), value.as_bytes().into());
    }
    store
}

/// The files of a case, and nothing else of a machine.
struct Files(BTreeMap<PathBuf, Vec<u8>>);

const ENOENT: i32 = 2;

impl World for Files {
    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        self.0.get(path).cloned().ok_or_else(|| io::Error::from_raw_os_error(ENOENT))
    }

    fn stamp(&self, _path: &Path) -> Option<Stamp> {
        None
    }

    fn var(&self, _name: &[u8]) -> Option<Vec<u8>> {
        None
    }

    fn now(&self) -> (i64, u32) {
        (0, 0)
    }

    fn zone(&self, _unix: i64) -> (i32, String) {
        (0, "UTC".to_owned())
    }

    fn lookup_ip(&self, name: &str) -> Result<Vec<String>, String> {
        Err(format!("lookup {name}: no such host"))
    }

    fn lookup_srv(&self, _service: &str, _proto: &str, name: &str) -> Result<Vec<Srv>, String> {
        Err(format!("lookup {name}: no such host"))
    }

    fn random(&self, _bound: u64) -> u64 {
        0
    }
}
