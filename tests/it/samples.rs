//! The samples in `templates/`: each renders from its own data, and the program it is for takes the result.

use std::path::Path;
use std::process::Command;

use crate::support::{Finished, LIMIT, TempDir, remco, wait_until};

/// Runs a sample into a folder of its own; gives the rendered file, which is `name` there.
fn render(sample: &str, name: &str) -> (TempDir, String) {
    let dir = TempDir::new();
    once(&dir, sample).expect_code(0);
    let text = dir.read(name).unwrap_or_else(|| panic!("no {name} among {:?}", dir.names(".")));
    (dir, text)
}

/// One run of a sample with its environment set as its comments say.
fn once(dir: &TempDir, sample: &str) -> Finished {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("templates").join(sample);
    let target = dir.path().to_string_lossy();
    let program = remco(dir).arg("-config").arg(&source.join("config.toml").to_string_lossy());
    program.env("SOURCE", &source.to_string_lossy()).env("TARGET", &target).env("RELOAD", "true").once()
}

/// Whether the program a file is for accepts it; by its own check, which the sample's check command runs too.
fn accepted(dir: &TempDir, program: &str, args: &[&str]) {
    let output = Command::new(program)
        .args(args)
        .current_dir(dir.path())
        .output()
        .unwrap_or_else(|e| panic!("failed to run {program} (scripts/test installs it): {e}"));
    assert!(output.status.success(), "{program} {args:?}:\n{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn haproxy_takes_its_sample() {
    let (dir, text) = render("haproxy", "haproxy.cfg");
    accepted(&dir, "haproxy", &["-c", "-f", "haproxy.cfg"]);
    for line in [
        "    bind 127.0.0.1:8080\n",
        "    use_backend api_admin if { path_beg /api_admin }\n",
        "    use_backend shop if { hdr(host) -i shop.example.org }\n",
        "backend api\n",
        "    server api-1 127.0.0.1:9001 check weight 10\n",
        "    server api-2 127.0.0.1:9002 check weight 1\n",
        "listen postgres\n",
    ] {
        assert!(text.contains(line), "no {line:?} in:\n{text}");
    }
    let (long, short) = (text.find("path_beg /api_admin }"), text.find("path_beg /api }"));
    assert!(long.is_some() && long < short, "the longer path has to come first:\n{text}");
    assert!(!text.contains("retired"), "a service without servers has no backend:\n{text}");
}

#[test]
fn nginx_takes_its_sample() {
    let (dir, text) = render("nginx", "nginx.conf");
    let prefix = dir.path().to_string_lossy().into_owned() + "/";
    // What nginx opens even for a test: its error log and its temporary folders, all below the prefix.
    accepted(&dir, "nginx", &["-t", "-q", "-p", &prefix, "-c", "nginx.conf", "-e", "error.log"]);
    for line in [
        "    upstream shop {\n",
        "        server 127.0.0.1:9101 weight=2;\n",
        "        server_name shop.example.org www.shop.example.org;\n",
        "        return 503;\n",
    ] {
        assert!(text.contains(line), "no {line:?} in:\n{text}");
    }
}

#[test]
fn the_env_file_is_what_a_shell_reads() {
    let (dir, text) = render("env-file", "app.env");
    let shell = Command::new("/bin/sh")
        .args(["-c", "set -a; . ./app.env; echo \"$DATABASE_HOST|$DATABASE_PASSWORD|$FEATURES|$LOG_LEVEL\""])
        .current_dir(dir.path())
        .output()
        .expect("there is a shell");
    assert_eq!(String::from_utf8_lossy(&shell.stdout), "db.internal|it's $ecret|export,search|info\n", "{text}");
    assert_eq!(dir.mode("app.env"), 0o600, "it holds a password");
}

#[test]
fn the_samples_are_in_sync_after_one_run() {
    for (sample, name) in [("haproxy", "haproxy.cfg"), ("nginx", "nginx.conf"), ("env-file", "app.env")] {
        let (dir, first) = render(sample, name);
        once(&dir, sample).expect_code(0).expect_no_log("target config has been updated");
        wait_until("nothing is left to wait for", LIMIT, || dir.holds(name, &first));
    }
}
