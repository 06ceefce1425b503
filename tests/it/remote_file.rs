//! The file backend reading a URL, from a real nginx.

use rustix::process::Signal;

use crate::support::{Authority, Config, LIMIT, Nginx, Pair, Silent, TempDir, remco, resource, wait_until};

const HEADERS: &str = "[resource.backend.file.httpheaders]";

/// A folder with a template of one key.
fn folder(config: &Config) -> TempDir {
    let dir = TempDir::new();
    dir.write("app.tmpl", "{{ getv(\"/app/greeting\") }}\n");
    config.write(&dir);
    dir
}

/// A configuration that reads the key from a URL.
fn reading(url: &str) -> Config {
    resource("app").template("app.tmpl", "app.conf").file(url).keys(["/app"])
}

fn pair() -> (Authority, Pair) {
    let authority = Authority::new();
    let pair = authority.server();
    (authority, pair)
}

#[test]
fn a_document_is_read_with_headers() {
    let (_authority, pair) = pair();
    let nginx = Nginx::start(&pair, "if ($http_x_token != \"open sesame\") { return 403; }");
    nginx.dir.write("files/data.yml", "app:\n  greeting: hello\n");
    let url = format!("{}/data.yml", nginx.url());
    let dir = folder(&reading(&url).onetime().table(HEADERS).set("x-TOKEN", "open sesame"));
    remco(&dir).once().expect_code(0).expect_log(&format!("filepath={url}"));
    assert!(dir.holds("app.conf", "hello\n"));
    let dir = folder(&reading(&url).onetime().table(HEADERS).set("x-token", "wrong"));
    let refused = format!("failed to GET {url}: the server answered with status 403");
    remco(&dir).once().expect_code(1).expect_log(&refused).expect_no_log("wrong");
}

#[test]
fn what_is_no_document_is_an_error_and_redirects_are_not_followed() {
    let (_authority, pair) = pair();
    let nginx = Nginx::start(&pair, "location /moved { return 301 /data.yml; }");
    nginx.dir.write("files/data.yml", "app: {greeting: hello}");
    nginx.dir.write("files/bad.yml", "app: {\n");
    let check = |path: &str, words: &str| {
        let url = format!("{}{path}", nginx.url());
        let dir = folder(&reading(&url).onetime());
        remco(&dir).once().expect_code(1).expect_log(&words.replace("URL", &url));
        assert_eq!(dir.read("app.conf"), None);
    };
    check("/moved", "failed to GET URL: the server answered with status 301");
    check("/none.yml", "failed to GET URL: the server answered with status 404");
    check("/bad.yml", "failed to parse URL:2:1: ");
}

#[test]
fn credentials_in_the_url_are_used_and_not_shown() {
    let (_authority, pair) = pair();
    // `me:secret`
    let nginx = Nginx::start(&pair, "if ($http_authorization != \"Basic bWU6c2VjcmV0\") { return 401; }");
    nginx.dir.write("files/data.json", r#"{"app": {"greeting": "hello"}}"#);
    let url = format!("{}/data.json", nginx.url());
    let dir = folder(&reading(&url.replace("http://", "http://me:secret@")).onetime());
    remco(&dir).once().expect_code(0).expect_no_log("secret").expect_log(&format!("filepath={url}"));
    let dir = folder(&reading(&url.replace("http://", "http://me:sesame@")).onetime());
    let words = format!("failed to GET {url}: the server answered with status 401");
    remco(&dir).once().expect_code(1).expect_log(&words).expect_no_log("sesame");
}

#[test]
fn it_is_read_again_by_interval_and_proxies_of_the_environment_are_not_asked() {
    let (_authority, pair) = pair();
    let nginx = Nginx::start(&pair, "");
    nginx.dir.write("files/data.yml", "app: {greeting: hello}");
    let dir = folder(&reading(&format!("{}/data.yml", nginx.url())).watch().set("interval", 1));
    let proxy = Silent::start();
    let mut program = remco(&dir);
    for name in ["http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"] {
        program = program.env(name, &proxy.url());
    }
    let program = program.start();
    wait_until("the first render", LIMIT, || dir.holds("app.conf", "hello\n"));
    nginx.dir.replace("files/data.yml", "app: {greeting: again}");
    wait_until("the second render", LIMIT, || dir.holds("app.conf", "again\n"));
    assert!(proxy.connections().is_empty());
    program.wait_for_log("a remote file cannot be watched, using `interval` instead");
    program.stop();
}

#[test]
#[cfg(feature = "tls")]
fn https_is_checked() {
    let (authority, pair) = pair();
    let nginx = Nginx::start(&pair, "");
    nginx.dir.write("files/data.yml", "app: {greeting: hello}");
    let dir = folder(&reading(&format!("{}/data.yml", nginx.secure_url())).onetime());
    let authorities = authority.cert().display().to_string();
    remco(&dir).once().expect_code(1).expect_log("certificate of `127.0.0.1` is signed by none");
    assert_eq!(dir.read("app.conf"), None);
    let plain = folder(&reading(&format!("{}/data.yml", nginx.url().replace("http:", "https:"))).onetime());
    remco(&plain).once().expect_code(1).expect_log("the server does not speak TLS: name it by an address without TLS");
    remco(&dir).env("SSL_CERT_FILE", &authorities).once().expect_code(0);
    assert!(dir.holds("app.conf", "hello\n"));
}

#[test]
fn a_server_that_hangs_holds_the_end_up_for_no_moment() {
    let server = Silent::start();
    let dir = folder(&reading(&server.url()).set("interval", 60));
    let program = remco(&dir).start();
    let _open = server.request();
    program.ends_at_once(Signal::TERM, "in a request of a remote file");
}
