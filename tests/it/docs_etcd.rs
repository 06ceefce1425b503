//! Runs the example of docs/etcd.md as it is written there, except for the ports.

use std::path::Path;
use std::process::{Command, Stdio};

use crate::support::{TempDir, blocks, free_port};

/// Three ports that end with 1, 2 and 3 and nobody else gets: what stands before that.
fn three_ports() -> String {
    loop {
        let first = free_port();
        if first % 10 == 1 && free_port() == first + 1 && free_port() == first + 2 {
            return (first / 10).to_string();
        }
    }
}

#[test]
fn the_example_works() {
    let text = include_str!("../../docs/etcd.md");
    let (clients, peers) = (three_ports(), three_ports());
    // In one pass: a port that was put in may look like one that is to be replaced.
    let moved = |text: &str| {
        let parts: Vec<String> = text.split("1237").map(|part| part.replace("1238", &peers)).collect();
        parts.join(&clients)
    };
    let dir = TempDir::new();
    let [config] = blocks(text, "toml")[..] else { panic!("one configuration") };
    dir.write("config.toml", moved(config));
    let commands = blocks(text, "sh");
    assert_eq!(commands.len(), 4);
    let script = format!("set -e\ntrap 'kill $(jobs -p); wait' EXIT\n{}", moved(&commands.join("\n")));
    let program = Path::new(env!("CARGO_BIN_EXE_remco")).parent().expect("it is in a folder");
    let path = std::env::var("PATH").expect("there is a PATH");
    let output = Command::new("bash")
        .args(["-c", &script])
        .current_dir(dir.path())
        .env("PATH", format!("{}:{path}", program.display()))
        .stdin(Stdio::null())
        .output()
        .expect("there is a shell");
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success() && out.ends_with("\nhello\n"), "{out}\n{err}");
}
