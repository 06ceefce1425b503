//! The messages about wrong templates, word for word: `tests/snapshots/bad-template.txt` holds common mistakes and the
//! messages of compiling and rendering.

use std::path::Path;
use std::rc::Rc;

use remco::store::Store;
use remco::template::{Template, World};

mod snapshots;
#[path = "../src/template/fixture/world.rs"]
#[allow(dead_code, reason = "part of the world is for other tests")]
mod world;

use snapshots::{check, unescape};
use world::TestWorld;

#[test]
fn bad_templates_are_explained() {
    check("bad-template.txt", 30, |case| {
        let files = case.parts.iter().map(|(name, text)| (name, unescape(text)));
        let world: Rc<dyn World> = Rc::new(TestWorld::of(files));
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
