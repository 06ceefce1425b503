//! A real OpenBao: reads, logins, permissions, TLS, environment variables, and failures of the server.

use serde_json::json;

use crate::support::{
    Authority, Config, FaultProxy, LIMIT, LIST, Moment, TempDir, Vault, answering, await_fresh, config, example,
    is_refused, remco, renders_once, storm, wait_until,
};

/// Of the account `app` in the namespace `default`, signed by nothing.
const JWT: &str = concat!(
    "eyJhbGciOiJSUzI1NiIsInR5cCI6IkpXVCJ9.eyJpc3MiOiJrdWJlcm5ldGVzL3NlcnZpY2VhY2NvdW50Iiwia3ViZXJuZXRlcy5pby9z",
    "ZXJ2aWNlYWNjb3VudC9uYW1lc3BhY2UiOiJkZWZhdWx0Iiwia3ViZXJuZXRlcy5pby9zZXJ2aWNlYWNjb3VudC9zZXJ2aWNlLWFjY291",
    "bnQubmFtZSI6ImFwcCIsImt1YmVybmV0ZXMuaW8vc2VydmljZWFjY291bnQvc2VydmljZS1hY2NvdW50LnVpZCI6InUiLCJzdWIiOiJz",
    "eXN0ZW06c2VydmljZWFjY291bnQ6ZGVmYXVsdDphcHAifQ.c2ln",
);

/// A configuration that renders all of `/kv/app`.
fn rendering(dir: &TempDir, node: &str) -> Config {
    dir.write("list.tmpl", LIST);
    let resource = config().set("log_level", "debug").resource("app").template("list.tmpl", "out");
    resource.backend("vault").set("node", node).keys(["/kv/app"])
}

fn with_token(dir: &TempDir, vault: &Vault, token: &str) -> Config {
    rendering(dir, &vault.node()).set("auth_type", "token").set("auth_token", token)
}

#[track_caller]
fn await_file(dir: &TempDir, content: &str) {
    wait_until(&format!("the file holds {content:?}"), LIMIT * 2, || dir.holds("out", content));
}

#[test]
fn secrets_are_read_as_go_remco_reads_them() {
    let Some(vault) = Vault::start() else { return };
    vault.put("kv/app", json!({"value": "itself"}));
    vault.put("kv/app/a", json!({"value": "1"}));
    vault.put("kv/app/d/b%20c", json!({"user": "u", "n": 1, "l": ["x"], "b": true, "z": null, "m": {"k": "ä\n"}}));
    vault.put("kv/app2", json!({"value": "not asked for"}));
    let dir = TempDir::new();
    let config = with_token(&dir, &vault, vault.root());
    let all = "/kv/app=itself\n/kv/app/a=1\n/kv/app/d/b c/m/k=ä\n\n/kv/app/d/b c/user=u\n";
    renders_once(&dir, &config, all);
    renders_once(&dir, &config.clone().keys(["kv/app/"]), all);
    renders_once(&dir, &config.clone().set("prefix", "/kv/app").keys(["a", "/none"]), "/a=1\n");
    is_refused(&dir, &config.clone().keys(["/nomount/a"]), "`/nomount/a` from http://127.0.0.1");
    is_refused(&dir, &config.clone().keys(["/nomount/a"]), "nothing is mounted there");
    is_refused(&dir, &config.clone().keys(["/"]), "each of `keys` begins with the path of a mount");
    is_refused(&dir, &config.clone().set("max_keys", 2), "raise `max_keys`");
}

#[test]
fn a_unix_socket_is_an_address() {
    let Some(vault) = Vault::start() else { return };
    vault.put("kv/app/a", json!({"value": "1"}));
    let dir = TempDir::new();
    let config = with_token(&dir, &vault, vault.root());
    renders_once(&dir, &config.clone().set("node", vault.socket_node()), "/kv/app/a=1\n");
    is_refused(&dir, &config.set("node", "unix:///no/such/socket").set("timeout", 0.1), "no such file or directory");
}

#[test]
fn mounts_of_version_2_need_no_data_in_their_keys() {
    let Some(vault) = Vault::start() else { return };
    vault.put_versioned("app/db", json!({"user": "u", "password": "p"}));
    vault.put_versioned("app/x", json!({"value": "1"}));
    vault.put_versioned("app/gone", json!({"value": "1"}));
    vault.ask("DELETE", "secret/data/app/gone", "");
    let dir = TempDir::new();
    let config = with_token(&dir, &vault, vault.root());
    let all = "/secret/app/db/password=p\n/secret/app/db/user=u\n/secret/app/x=1\n";
    renders_once(&dir, &config.clone().keys(["/secret/app"]), all);
    renders_once(&dir, &config.clone().keys(["/secret"]), all);
    config.clone().keys(["/secret/data/app/db"]).onetime().write(&dir);
    remco(&dir).once().expect_code(0);
    let written = dir.read("out").unwrap_or_default();
    assert!(written.contains("/secret/data/app/db/data/user=u\n"), "{written}");
    assert!(written.contains("/secret/data/app/db/metadata/created_time="), "{written}");
}

#[test]
fn logins_by_a_role_a_user_and_files() {
    let Some(vault) = Vault::start() else { return };
    vault.put("kv/app/a", json!({"value": "1"}));
    vault.policy("reader", &[("kv/app/*", &["read", "list"]), ("kv/app", &["read", "list"])]);
    vault.post("sys/auth/team", &json!({"type": "userpass"}));
    vault.post("auth/team/users/bob", &json!({"password": "s3same", "token_policies": "reader"}));
    vault.post("sys/auth/approle", &json!({"type": "approle"}));
    vault.post("auth/approle/role/r", &json!({"token_policies": "reader"}));
    let (_, role) = vault.ask("GET", "auth/approle/role/r/role-id", "");
    let role: serde_json::Value = serde_json::from_str(&role).unwrap();
    let secret = vault.post("auth/approle/role/r/secret-id", &json!({}));
    let (role, secret) = (role["data"]["role_id"].as_str().unwrap(), secret["data"]["secret_id"].as_str().unwrap());
    let dir = TempDir::new();
    let user = rendering(&dir, &vault.node()).set("auth_type", "userpass").set("auth_mount", "team");
    let user = user.set("username", "bob");
    renders_once(&dir, &user.clone().set("password", "s3same"), "/kv/app/a=1\n");
    dir.write("password", "s3same\n");
    renders_once(&dir, &user.clone().set("password_file", "password"), "/kv/app/a=1\n");
    is_refused(&dir, &user.clone().set("password", "s3same2"), "by `userpass`: status 400");
    let by_role = rendering(&dir, &vault.node()).set("auth_type", "approle").set("role_id", role);
    renders_once(&dir, &by_role.clone().set("secret_id", secret), "/kv/app/a=1\n");
    dir.write("secret", secret);
    renders_once(&dir, &by_role.clone().set("secret_id_file", "secret"), "/kv/app/a=1\n");
    is_refused(&dir, &by_role.clone().set("secret_id", "s3same"), "by `approle`: status 400");
    is_refused(&dir, &by_role.set("auth_mount", "none").set("secret_id", "s3same"), "is `auth_mount` right?");
}

/// The token of a service account is reviewed by the API of a cluster, which is a fake here.
#[test]
fn a_login_by_a_service_account_of_kubernetes() {
    let Some(vault) = Vault::start() else { return };
    vault.put("kv/app/a", json!({"value": "1"}));
    vault.policy("reader", &[("kv/app/*", &["read", "list"]), ("kv/app", &["read", "list"])]);
    let review = json!({"apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview", "status": {"authenticated": true,
        "user": {"username": "system:serviceaccount:default:app", "uid": "u"}}});
    let cluster = answering(move |_| (201, review.to_string()));
    let authority = Authority::new();
    let certificate = std::fs::read_to_string(authority.cert()).unwrap();
    vault.post("sys/auth/kubernetes", &json!({"type": "kubernetes"}));
    let options = json!({"kubernetes_host": cluster, "kubernetes_ca_cert": certificate, "disable_local_ca_jwt": true});
    vault.post("auth/kubernetes/config", &options);
    let role = json!({"bound_service_account_names": "app", "bound_service_account_namespaces": "default",
        "token_policies": "reader"});
    vault.post("auth/kubernetes/role/app", &role);
    let dir = TempDir::new();
    dir.write("jwt", JWT);
    let config = rendering(&dir, &vault.node()).set("auth_type", "kubernetes").set("jwt_file", "jwt");
    renders_once(&dir, &config.clone().set("role_id", "app"), "/kv/app/a=1\n");
    is_refused(&dir, &config.set("role_id", "other"), "failed to log in to");
}

#[test]
fn a_missing_permission_names_path_and_policy() {
    let Some(vault) = Vault::start() else { return };
    vault.put("kv/app/a", json!({"value": "1"}));
    vault.put("kv/app/b", json!({"value": "2"}));
    vault.policy("part", &[("kv/app/a", &["read"]), ("kv/app/", &["list"]), ("kv/app", &["read"])]);
    let token = vault.token(&json!({"policies": ["part"]}));
    let dir = TempDir::new();
    let config = with_token(&dir, &vault, &token);
    is_refused(&dir, &config, "failed to read `/kv/app/b` from http://127.0.0.1");
    is_refused(&dir, &config, "the policies of the token need `read` on `kv/app/b`");
    is_refused(&dir, &config.clone().keys(["/kv/other"]), "on `kv/other");
    is_refused(&dir, &with_token(&dir, &vault, "s3same"), "the token is not valid");
}

#[test]
fn a_permission_that_is_taken_away_leaves_the_file() {
    let Some(vault) = Vault::start() else { return };
    vault.put("kv/app/a", json!({"value": "1"}));
    let all: &[(&str, &[&str])] = &[("kv/app/*", &["read", "list"]), ("kv/app", &["read", "list"])];
    vault.policy("reader", all);
    let token = vault.token(&json!({"policies": ["reader"]}));
    let dir = TempDir::new();
    with_token(&dir, &vault, &token).set("interval", 1).write(&dir);
    let program = remco(&dir).start();
    await_file(&dir, "/kv/app/a=1\n");
    vault.policy("reader", &all[1..]);
    vault.put("kv/app/a", json!({"value": "2"}));
    program.wait_for_log("the policies of the token need `read` on `kv/app/a`");
    assert!(dir.holds("out", "/kv/app/a=1\n"));
    vault.policy("reader", all);
    await_file(&dir, "/kv/app/a=2\n");
    program.stop();
}

#[test]
fn the_environment_of_vaults_client_counts_where_nothing_is_set() {
    let Some(vault) = Vault::start() else { return };
    vault.put("kv/app/a", json!({"value": "1"}));
    let dir = TempDir::new();
    dir.write("list.tmpl", LIST);
    let resource = config().resource("app").template("list.tmpl", "out");
    resource.backend("vault").keys(["/kv/app"]).onetime().write(&dir);
    let run = |token: &str| remco(&dir).env("VAULT_ADDR", &vault.node()).env("VAULT_TOKEN", token).once();
    run(vault.root()).expect_code(0);
    assert_eq!(dir.read("out").as_deref(), Some("/kv/app/a=1\n"));
    run("s3same").expect_code(1).expect_no_log("s3same");
    let namespaced = remco(&dir).env("VAULT_ADDR", &vault.node()).env("VAULT_TOKEN", vault.root());
    namespaced.env("VAULT_NAMESPACE", "none").once().expect_code(0);
    assert_eq!(dir.read("out").as_deref(), Some(""));
}

#[test]
fn namespaces_have_mounts_of_their_own() {
    let Some(vault) = Vault::start() else { return };
    vault.post("sys/namespaces/team", &json!({}));
    vault.post("team/sys/mounts/kv", &json!({"type": "kv"}));
    vault.put("team/kv/app/a", json!({"value": "team's"}));
    let dir = TempDir::new();
    renders_once(&dir, &with_token(&dir, &vault, vault.root()).set("namespace", "team"), "/kv/app/a=team's\n");
}

#[test]
fn a_sealed_server_is_waited_for_and_a_token_that_ends_is_replaced() {
    let Some(mut vault) = Vault::start() else { return };
    vault.put("kv/app/a", json!({"value": "1"}));
    vault.policy("reader", &[("kv/app/*", &["read", "list"]), ("kv/app", &["read", "list"])]);
    vault.post("sys/auth/userpass", &json!({"type": "userpass"}));
    let user = json!({"password": "s3same", "token_policies": "reader", "token_ttl": "2s", "token_max_ttl": "4s"});
    vault.post("auth/userpass/users/bob", &user);
    let dir = TempDir::new();
    let config = rendering(&dir, &vault.node()).set("auth_type", "userpass").set("username", "bob");
    config.set("password", "s3same").set("interval", 1).write(&dir);
    let program = remco(&dir).start();
    await_file(&dir, "/kv/app/a=1\n");
    vault.kill();
    program.wait_for_log("failed to");
    vault.restart();
    program.wait_for_log("is it sealed?");
    vault.unseal();
    vault.put("kv/app/a", json!({"value": "2"}));
    await_file(&dir, "/kv/app/a=2\n");
    vault.post("sys/leases/revoke-prefix/auth/userpass/login/bob", &json!({}));
    vault.put("kv/app/a", json!({"value": "3"}));
    await_file(&dir, "/kv/app/a=3\n");
    program.stop();
}

/// Changes through restarts and a network that cuts, tears and drops: at every quiet point the file is what a fresh run renders.
#[test]
fn random_changes_end_as_a_fresh_one_shot() {
    let Some(mut vault) = Vault::start() else { return };
    vault.put("kv/app/a", json!({"value": "1"}));
    let (dir, fresh) = (TempDir::new(), TempDir::new());
    let proxy = FaultProxy::start(vault.port());
    let node = format!("http://127.0.0.1:{}", proxy.port());
    let token = vault.root().to_owned();
    let config = rendering(&dir, &node).set("auth_type", "token").set("auth_token", &*token);
    config.set("interval", 1).set("request_timeout", 0.5).write(&dir);
    let program = remco(&dir).start();
    await_file(&dir, "/kv/app/a=1\n");
    storm(program, |moment, random| match moment {
        Moment::Change(n) => {
            let folder = format!("kv/app/dir{}", random.below(4));
            let key = format!("{folder}/key{}", random.below(8));
            match random.below(20) {
                0..=3 => assert_eq!(vault.ask("DELETE", &key, "").0, 204),
                4 => vault.put(&folder, json!({"value": n.to_string()})),
                5 => vault.put(&key, json!({"user": "u", "n": n, "map": {"k": n.to_string()}})),
                6 => vault.put("kv/other", json!({"value": n.to_string()})),
                _ => vault.put(&key, json!({"value": n.to_string()})),
            }
        }
        Moment::Restart => {
            vault.kill();
            vault.restart();
            vault.unseal();
        }
        Moment::Quiet(n) => {
            vault.put("kv/app/last", json!({"value": n.to_string()}));
            await_fresh(&dir, &fresh, &with_token(&fresh, &vault, &token));
        }
        Moment::Cut | Moment::Tear | Moment::Freeze | Moment::Calm => proxy.act(moment),
    });
}

#[cfg(feature = "tls")]
#[test]
fn tls_and_a_login_by_certificate() {
    let authority = Authority::new();
    let pair = authority.server();
    let Some(vault) = Vault::secured(&pair, &authority.cert()) else { return };
    vault.put("kv/app/a", json!({"value": "1"}));
    vault.policy("reader", &[("kv/app/*", &["read", "list"]), ("kv/app", &["read", "list"])]);
    vault.post("sys/auth/cert", &json!({"type": "cert"}));
    let client = authority.sign("client", "DNS:client", crate::support::Key::Sec1, crate::support::Valid::Now);
    let certificate = std::fs::read_to_string(authority.cert()).unwrap();
    vault.post("auth/cert/certs/app", &json!({"certificate": certificate, "token_policies": "reader"}));
    let dir = TempDir::new();
    let file = authority.cert().display().to_string();
    let config = rendering(&dir, &vault.secure_node()).set("auth_type", "cert");
    let config = config.set("client_cert", client.cert.display().to_string());
    let config = config.set("client_key", client.key.display().to_string());
    renders_once(&dir, &config.clone().set("client_ca_keys", &*file), "/kv/app/a=1\n");
    config.clone().onetime().write(&dir);
    remco(&dir).env("VAULT_CACERT", &file).once().expect_code(0);
    let stranger = crate::support::Authority::new();
    is_refused(
        &dir,
        &config.set("client_ca_keys", stranger.cert().display().to_string()).set("timeout", 0.1),
        "is signed by none of the authorities",
    );
}

#[test]
fn the_example_of_the_documentation_works_as_written() {
    let Some(vault) = Vault::start() else { return };
    vault.put_versioned("app/db", json!({"password": "p"}));
    let dir = TempDir::new();
    dir.write("app.tmpl", LIST);
    dir.write("token", vault.root());
    dir.write("config.toml", example("vault"));
    let program = remco(&dir).env("VAULT_ADDR", &vault.node()).start();
    wait_until("the file is there", LIMIT, || dir.holds("app.conf", "/secret/app/db/password=p\n"));
    program.stop();
}
