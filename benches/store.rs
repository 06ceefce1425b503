//! How long queries of the key store take, by its size: services of ten keys each, in one layer and in three. `cargo
//! bench --bench store`; prints figures and checks none.

use std::cell::{Cell, RefCell};
use std::hint::black_box;
use std::rc::Rc;
use std::time::{Duration, Instant};

use remco::store::{Layer, Store};

/// How long one figure is measured.
const TIME: Duration = Duration::from_millis(200);

fn main() {
    println!("{:>8} {:>6}  {:<34} {:>12}", "services", "layers", "query", "ns");
    for services in [1_000, 10_000, 100_000] {
        for layers in [1, 3] {
            let store = store(services, layers);
            let one = format!("/services/{:06}", services / 2);
            let measure = |query: &str, run: &dyn Fn()| {
                println!("{services:>8} {layers:>6}  {query:<34} {:>12}", nanoseconds(run));
            };
            let key = format!("{one}/addr");
            measure("get /services/N/addr", &|| _ = black_box(store.get(key.as_bytes())));
            let pattern = format!("{one}/*");
            measure("gets /services/N/*", &|| _ = black_box(store.gets(pattern.as_bytes()).map(Iterator::count)));
            let pattern = format!("{one}/a*");
            measure("gets /services/N/a*", &|| _ = black_box(store.gets(pattern.as_bytes()).map(Iterator::count)));
            measure("ls /services/N", &|| _ = black_box(store.ls(one.as_bytes())));
            measure("gets /*", &|| _ = black_box(store.gets(b"/*").map(Iterator::count)));
            measure("lsdir / (none, as in remco)", &|| _ = black_box(store.lsdir(b"/")));
            measure("lsdir /services", &|| _ = black_box(store.lsdir(b"/services")));
            measure("gets /services/*/addr", &|| _ = black_box(store.gets(b"/services/*/addr").map(Iterator::count)));
            measure("all", &|| _ = black_box(store.all().count()));
            let store = RefCell::new(store);
            let number = Cell::new(0_u64);
            // What a watch does with a changed value, and with a key that comes and goes in the last layer.
            measure("put, new collisions", &|| {
                let mut store = store.borrow_mut();
                number.set(number.get() + 1);
                store.put(layers - 1, key.as_bytes().into(), number.get().to_le_bytes()[..].into());
                black_box(store.take_new_collisions());
                store.delete(layers - 1, b"/services/000001/addr");
                store.put(layers - 1, b"/services/000001/addr"[..].into(), b""[..].into());
                black_box(store.take_new_collisions());
            });
        }
    }
}

/// Ten keys a service; where there are more layers, the others hold every hundredth service again.
fn store(services: usize, layers: usize) -> Store {
    let names = ["addr", "port", "weight", "check", "mode", "proto", "tls", "zone", "owner", "notes"];
    let layer = |step: usize| -> Layer {
        let services = (0..services).step_by(step);
        let keys = services.flat_map(|service| names.iter().map(move |name| format!("/services/{service:06}/{name}")));
        keys.map(|key| (Rc::from(key.as_bytes()), Rc::from(&b"10.0.0.1"[..]))).collect()
    };
    let mut store = Store::new(layers);
    for index in 0..layers {
        store.replace(index, layer(if index == 0 { 1 } else { 100 }));
    }
    store
}

/// The mean of as many calls as fit.
fn nanoseconds(run: &dyn Fn()) -> u128 {
    run();
    let (start, mut calls) = (Instant::now(), 0);
    while start.elapsed() < TIME {
        // Few enough to end in time, many enough that looking at the clock does not count.
        (0..10).for_each(|_| run());
        calls += 10;
    }
    start.elapsed().as_nanos() / calls
}
