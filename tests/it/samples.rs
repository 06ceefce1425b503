//! The samples in `templates/`: each renders from its data, and its program accepts the result.

use std::process::Command;

use crate::support::{Finished, LIMIT, TempDir, sample, wait_until};

/// Runs a sample into a folder of its own; gives the rendered file, which is `name` there.
fn render(sample: &str, name: &str) -> (TempDir, String) {
    let dir = TempDir::new();
    once(&dir, sample).expect_code(0);
    let text = dir.read(name).unwrap_or_else(|| panic!("no {name} among {:?}", dir.names(".")));
    (dir, text)
}

/// One run of a sample with its environment set as its comments say.
fn once(dir: &TempDir, name: &str) -> Finished {
    sample(dir, name).once()
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

/// Runs a sample of a store, whose address is in a variable; gives the rendered file.
#[cfg(any(feature = "consul", feature = "vault", feature = "zookeeper"))]
fn render_store(of_store: &str, name: &str, variables: &[(&str, &str)]) -> String {
    let dir = TempDir::new();
    let mut program = sample(&dir, of_store);
    for (name, value) in variables {
        program = program.env(name, value);
    }
    program.once().expect_code(0);
    dir.read(name).unwrap_or_else(|| panic!("no {name} among {:?}", dir.names(".")))
}

#[cfg(feature = "consul")]
#[test]
fn nginx_has_its_servers_from_consul() {
    let Some(consul) = crate::support::Consul::start() else { return };
    consul.put("app/name", "shop");
    consul.put("app/servers/1", "10.0.0.1:8080");
    consul.put("app/servers/2", "10.0.0.2:8080");
    let text = render_store("consul", "servers.conf", &[("CONSUL", &consul.node())]);
    let words: Vec<&str> = text.split_whitespace().skip(4).collect();
    assert_eq!(words.join(" "), "upstream shop { server 10.0.0.1:8080; server 10.0.0.2:8080; }", "{text}");
}

#[cfg(feature = "zookeeper")]
#[test]
fn a_service_has_its_properties_from_zookeeper() {
    let Some((zookeeper, _)) = crate::support::Zookeeper::shared("the sample") else { return };
    let mut client = zookeeper.client();
    for (path, value) in
        [("/sample", ""), ("/sample/app", ""), ("/sample/app/name", "shop"), ("/sample/app/workers", "")]
    {
        client.put(path, value);
    }
    client.put("/sample/app/workers/max", "8");
    let node = format!("{}/sample", zookeeper.node());
    let text = render_store("zookeeper", "app.properties", &[("ZOOKEEPER", &node)]);
    assert!(text.contains("\nname=shop\n") && text.contains("\nworkers.max=8\n"), "{text}");
}

#[cfg(feature = "vault")]
#[test]
fn a_service_has_its_secrets_from_vault() {
    let Some(vault) = crate::support::Vault::start() else { return };
    vault.put_versioned("app/db", serde_json::json!({"user": "app", "password": "it's $ecret"}));
    let text = render_store("vault", "app.env", &[("VAULT", &vault.node()), ("VAULT_TOKEN", vault.root())]);
    assert_eq!(text, "DB_USER='app'\nDB_PASSWORD='it'\\''s $ecret'\n");
}
