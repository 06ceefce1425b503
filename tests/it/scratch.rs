//! The static binary alone: process 1 in an otherwise empty root, and the image that holds only the binary.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::support::{Etcd, LIMIT, Root, TempDir, static_binary, wait_until};

/// A resource on a file and one on an etcd.
fn configuration(etcd: &str) -> String {
    format!(
        r#"
log_level = "debug"
pid_file = "/run/remco.pid"
[[resource]]
name = "file"
[[resource.template]]
src = "/app.tmpl"
dst = "/etc/app/file.conf"
make_directories = true
mode = "0640"
UID = 1000
[resource.backend.file]
filepath = "/data.json"
keys = ["/greeting"]
watch = true
[[resource]]
name = "etcd"
[[resource.template]]
src = "/app.tmpl"
dst = "/etcd.conf"
[resource.backend.etcd]
version = 3
nodes = ["{etcd}"]
keys = ["/greeting"]
watch = true
"#
    )
}

/// The program does what it does everywhere, in a folder that has it and its configuration.
fn works_alone(root: &Root) -> Vec<String> {
    let dir = root.dir();
    let etcd = Etcd::start();
    etcd.put("/greeting", "from etcd");
    dir.write("config.toml", configuration(&etcd.url()));
    // The time and its zone, a filter, and a name: what libraries and files of a system are needed for elsewhere.
    dir.write("app.tmpl", "{{ getv(\"/greeting\") | upper }} {{ lookupIP(\"localhost\") | join:\" \" }}\n");
    dir.write("data.json", r#"{"greeting": "from a file"}"#);
    let program = root.start();
    let holds = |name: &str, greeting: &str| dir.holds(name, &format!("{greeting} 127.0.0.1 ::1\n"));
    wait_until("both are rendered", LIMIT, || {
        holds("etc/app/file.conf", "FROM A FILE") && holds("etcd.conf", "FROM ETCD")
    });
    assert_eq!(dir.mode("etc/app/file.conf"), 0o640);
    dir.replace("data.json", r#"{"greeting": "again"}"#);
    wait_until("a change of the file", LIMIT, || holds("etc/app/file.conf", "AGAIN"));
    etcd.put("/greeting", "once more");
    wait_until("a change in etcd", LIMIT, || holds("etcd.conf", "ONCE MORE"));
    program.stop()
}

/// There is no /bin/sh, /etc/passwd, /etc/resolv.conf, /tmp, /dev/null, /proc, no zone and no library.
#[test]
fn it_works_in_an_empty_root() {
    let Some(binary) = static_binary("scratch::it_works_in_an_empty_root") else { return };
    let root = Root::new(&binary);
    let log = works_alone(&root);
    assert!(log.iter().all(|line| line.contains(" remco[1]: ")), "it is process 1, and says nothing else: {log:#?}");
    assert!(log.iter().any(|line| line.contains("failed to open pid file `/run/remco.pid`")), "{log:#?}");
    let errors: Vec<_> = log.iter().filter(|line| line.contains("ERROR") || line.contains(" WARN")).collect();
    assert_eq!(errors.len(), 1, "the pid file's directory is the only thing it misses: {errors:#?}");
}

const PROJECT: &str = env!("CARGO_MANIFEST_DIR");

/// Runs buildah in the project's folder, with a store of its own.
fn buildah(dir: &TempDir, args: &[&str]) -> String {
    let output = Command::new("buildah")
        .current_dir(PROJECT)
        .arg("--root")
        .arg(dir.at("store"))
        .arg("--runroot")
        .arg(dir.at("run"))
        .args(["--storage-driver", "vfs"])
        .args(args)
        .output()
        .unwrap_or_else(|e| panic!("failed to run buildah (scripts/test installs it): {e}"));
    assert!(output.status.success(), "buildah {args:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

/// What the head of Dockerfile.scratch has one type to make an image of a binary that is there: the words behind
/// `docker build`.
fn documented_build() -> Vec<String> {
    let file = fs::read_to_string(format!("{PROJECT}/Dockerfile.scratch")).expect("the project has one");
    let head: Vec<&str> = file.lines().map_while(|line| line.strip_prefix('#')).collect();
    let text = head.join("\n").replace("\\\n", " ");
    let line =
        text.lines().filter_map(|line| line.trim().strip_prefix("docker build ")).find(|l| l.contains(" ready "));
    line.expect("the header has it").split_ascii_whitespace().map(str::to_owned).collect()
}

/// As a user does it: in the project's folder, with what .dockerignore leaves of it.
#[test]
fn the_image_holds_the_binary_alone_and_works() {
    let test = "scratch::the_image_holds_the_binary_alone_and_works";
    let Some(binary) = static_binary(test) else { return };
    let build = documented_build();
    let documented = build.iter().find_map(|word| word.strip_prefix("BINARY=")).expect("it names the binary");
    let is_it = |path: &Path| fs::canonicalize(path).ok() == fs::canonicalize(&binary).ok();
    if !is_it(&Path::new(PROJECT).join(documented)) {
        let reason = format!("test {test} ... skipped: REMCO_STATIC is not {documented}\n");
        let _ = std::io::Write::write_all(&mut std::io::stderr(), reason.as_bytes());
        return;
    }
    let dir = TempDir::new();
    let words: Vec<&str> = build.iter().map(String::as_str).collect();
    buildah(&dir, &[&["bud", "--isolation", "chroot"], &words[..]].concat());
    let inspected = buildah(&dir, &["inspect", "--type", "image", "--format", "{{.OCIv1.Config.Entrypoint}}", "remco"]);
    assert_eq!(inspected, "[/remco]");

    let container = buildah(&dir, &["from", "remco"]);
    // vfs mounts nothing: it is a folder in the store, and goes with it.
    let mounted = PathBuf::from(buildah(&dir, &["mount", &container]));
    let names: Vec<_> =
        fs::read_dir(&mounted).expect("it is there").map(|entry| entry.map(|e| e.file_name())).collect();
    assert!(matches!(&names[..], [Ok(name)] if name == "remco"), "{names:?}");
    let root = Root::new(&mounted.join("remco"));
    works_alone(&root);
}

/// Each command leaves its children to process 1, which must not take one's status for the other's.
#[test]
fn ten_thousand_orphans_are_reaped_while_commands_run() {
    const COMMANDS: usize = 200;
    const ORPHANS: usize = 50;
    let test = "scratch::ten_thousand_orphans_are_reaped_while_commands_run";
    let Some(binary) = static_binary(test) else { return };
    let root = Root::new(&binary);
    let dir = root.dir();
    // There is no /bin/sh: these are words, and the shell in them is one that we brought along.
    fs::copy("/bin/busybox", dir.at("busybox")).expect("scripts/test installs busybox-static");
    // Ends with a status of its own, and with success when it is tried again. A shell might wait for what it has started;
    // what it becomes does not.
    let reload = format!(
        "[ -e /ran.$1 ] && exit 0\n: > /ran.$1\ni=0\n\
         while [ $i -lt {ORPHANS} ]; do (exit 9 & exec /busybox true); i=$((i + 1)); done\nexit $2\n"
    );
    dir.write("reload", reload);
    dir.write("app.tmpl", "hello\n");
    dir.write("data.json", "{}");
    let mut configuration = "log_level = \"debug\"\n[[resource]]\nname = \"app\"\n".to_owned();
    for n in 0..COMMANDS {
        let status = n % 5;
        configuration.push_str(&format!(
            r#"
[[resource.template]]
src = "/app.tmpl"
dst = "/{n}.out"
reload_cmd = "/busybox sh /reload {n} {status}"
"#
        ));
    }
    configuration.push_str("[resource.backend.file]\nfilepath = \"/data.json\"\nkeys = [\"/\"]\nwatch = true\n");
    dir.write("config.toml", configuration);

    let program = root.start();
    let last = format!("ran.{}", COMMANDS - 1);
    wait_until("the last command and no child is left", LIMIT, || dir.holds(&last, "") && program.children() == 0);
    let log = program.stop();
    let reaped = log.iter().filter(|line| line.contains("Reaped child process ")).count();
    assert_eq!(reaped, COMMANDS * ORPHANS, "each once, and no command among them");
    for n in 0..COMMANDS {
        let about = format!(" config=/{n}.out ");
        let failures: Vec<_> =
            log.iter().filter(|line| line.contains("failed to process") && line.contains(&about)).collect();
        match n % 5 {
            0 => assert!(failures.is_empty(), "{failures:?}"),
            status => {
                let why = format!("reload command exited with status {status},");
                assert!(failures.len() == 1 && failures[0].contains(&why), "{n}: {failures:?}");
            }
        }
    }
}
