//! TLS as operators use it: authorities, names, client certificates in every form, renewed and broken files, wrong
//! clocks. Against a real etcd; openssl makes the certificates.

use std::fs;
use std::path::Path;
use std::time::Instant;

use remco::config::Tls;
use remco::host::client::{Client, Kind, Limits, Request, Stale};
use remco::host::wait;

use crate::support::{
    Authority, Clients, Etcd, FaultProxy, Key, LIMIT, LOOPBACK, Nginx, Pair, Random, TempDir, Valid, free_port, remco,
    resource, wait_until,
};

/// The option of a run that is to fail: it does not try for long. (One that is to succeed may need its time.)
const SOON: &str = "timeout = 0.1\n";

/// A folder with a template of one key, and a configuration for these options of etcd.
fn folder(nodes: &str, options: &str) -> TempDir {
    let dir = TempDir::new();
    dir.write("app.tmpl", "{{ getv(\"/greeting\") }}\n");
    configure(&dir, nodes, options);
    dir
}

fn configure(dir: &TempDir, nodes: &str, options: &str) {
    let config = resource("app").template("app.tmpl", "app.conf").etcd(nodes).keys(["/greeting"]);
    config.watch().lines(options).write(dir);
}

fn authority(path: &Path) -> String {
    format!("client_ca_keys = \"{}\"\n", path.display())
}

fn shows(pair: &Pair) -> String {
    format!("client_cert = \"{}\"\nclient_key = \"{}\"\n", pair.cert.display(), pair.key.display())
}

#[track_caller]
fn renders(dir: &TempDir) {
    let _ = fs::remove_file(dir.at("app.conf"));
    remco(dir).once().expect_code(0);
    assert!(dir.holds("app.conf", "hello\n"));
}

/// A one-shot run that fails with these words.
#[track_caller]
fn fails(dir: &TempDir, words: &str) {
    let config = dir.read("config.toml").expect("it was written");
    dir.write("config.toml", config + SOON);
    remco(dir).once().expect_code(1).expect_log(words);
    assert_eq!(dir.read("app.conf"), None);
}

#[test]
fn the_authority_and_the_name_of_the_server_count() {
    let authority_of = Authority::new();
    let etcd = Etcd::secured(&authority_of, &authority_of.server(), Clients::Anyone, &[]);
    etcd.put("/greeting", "hello");
    let ca = authority(&authority_of.cert());
    let url = etcd.secure_url();
    let by_name = url.replace("127.0.0.1", "localhost");
    for nodes in [&url, &by_name, &url.replace("https://", "")] {
        renders(&folder(nodes, &ca));
    }
    // SSL_CERT_FILE and SSL_CERT_DIR stand in for the list of the system, and for nothing else.
    let dir = folder(&url, "");
    let env = authority_of.cert().display().to_string();
    remco(&dir).env("SSL_CERT_FILE", &env).once().expect_code(0);
    let certs = TempDir::new();
    certs.write("company.pem", fs::read(authority_of.cert()).expect("openssl has made it"));
    let directories = format!("/none/at/all:{}", certs.path().display());
    remco(&dir).env("SSL_CERT_DIR", &directories).once().expect_code(0);
    let other = Authority::new();
    let dir = folder(&url, &(authority(&other.cert()) + SOON));
    let words = format!("signed by none of the authorities in `{}`", other.cert().display());
    remco(&dir).env("SSL_CERT_FILE", &env).once().expect_code(1).expect_log(&words);
    let dir = folder(&url, "");
    fails(&dir, "certificate of `127.0.0.1` is signed by none of the authorities in ");
    // A bundle of several.
    let bundle = [other.cert(), authority_of.cert()].map(|path| fs::read(path).expect("openssl has made it")).concat();
    let dir = folder(&url, &authority(Path::new("bundle.pem")));
    dir.write("bundle.pem", bundle);
    renders(&dir);
    // Plain HTTP to a port for TLS, and the other way round.
    fails(&folder(&url.replace("https", "http"), ""), "connection closed by the server");
    fails(&folder(&etcd.url().replace("http", "https"), &ca), "before TLS was set up: does it speak TLS?");
}

#[test]
fn certificates_of_servers_that_are_not_for_us() {
    let authority_of = Authority::new();
    let ca = authority(&authority_of.cert());
    let check = |name: &str, names: &str, valid: Valid, words: &str| {
        let pair = authority_of.sign(name, names, Key::Sec1, valid);
        let etcd = Etcd::secured(&authority_of, &pair, Clients::Anyone, &[]);
        fails(&folder(&etcd.secure_url(), &ca), words);
    };
    let other = "IP:10.0.0.1,DNS:etcd.example.com";
    let words = "certificate is not for `127.0.0.1`: it is for `10.0.0.1`, `etcd.example.com`";
    check("other", other, Valid::Now, words);
    check("none", "", Valid::Now, "certificate of `127.0.0.1` has no names in it (subjectAltName)");
    check("once", LOOPBACK, Valid::Once, "has expired: it ended at 2021-01-01 00:00:00 UTC, and the clock");
    check("later", LOOPBACK, Valid::Later, "is not yet valid: it begins at 2090-01-01 00:00:00 UTC, and the clock");
}

/// As `openssl req -x509` makes certificates: fit for no server, however often it is done. What webpki calls these is known
/// by name alone.
#[test]
fn certificates_that_no_server_may_show() {
    let check = |extensions: &str, words: &str| {
        let authority_of = Authority::new();
        let new = "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=server";
        let signed = if extensions.contains("CA:TRUE") { "" } else { " -CA ca.pem -CAkey ca.key" };
        let files = "-keyout server.key -out server.pem";
        authority_of.openssl(&format!("{new}{signed} -addext subjectAltName={LOOPBACK} {extensions} {files}"));
        let pair = Pair { cert: authority_of.dir().at("server.pem"), key: authority_of.dir().at("server.key") };
        let ca = if signed.is_empty() { pair.cert.clone() } else { authority_of.cert() };
        let nginx = Nginx::start(&pair, "return 200;");
        fails(&folder(&nginx.secure_url(), &authority(&ca)), words);
    };
    check("-addext basicConstraints=critical,CA:TRUE", "is that of an authority (CA:TRUE), and no server may show it");
    let usage = "-addext basicConstraints=critical,CA:FALSE -addext extendedKeyUsage=clientAuth";
    check(usage, "is not for servers, but for clients (extendedKeyUsage): make one with serverAuth in it");
}

#[test]
fn client_certificates_in_every_form() {
    let authority_of = Authority::new();
    let etcd = Etcd::secured(&authority_of, &authority_of.server(), Clients::Certified, &[]);
    etcd.put("/greeting", "hello");
    let (ca, url) = (authority(&authority_of.cert()), etcd.secure_url());
    for key in [Key::Pkcs8, Key::Pkcs1, Key::Sec1] {
        let pair = authority_of.sign(&format!("{key:?}"), "", key, Valid::Now);
        renders(&folder(&url, &(ca.clone() + &shows(&pair))));
    }
    fails(&folder(&url, &ca), "it wants a certificate: set `client_cert` and `client_key`");
    let others = Authority::new();
    let stranger = others.sign("stranger", "", Key::Sec1, Valid::Now);
    let refused = |pair: &Pair| format!("the server refuses the certificate `{}`", pair.cert.display());
    for pair in [&stranger, &authority_of.sign("once", "", Key::Sec1, Valid::Once)] {
        fails(&folder(&url, &(ca.clone() + &shows(pair))), &refused(pair));
    }
}

#[test]
fn files_that_cannot_be_used_are_named() {
    let authority_of = Authority::new();
    let etcd = Etcd::secured(&authority_of, &authority_of.server(), Clients::Anyone, &[]);
    let (one, other) = ("one", "other");
    let [one, other] = [one, other].map(|name| authority_of.sign(name, "", Key::Sec1, Valid::Now));
    authority_of.openssl("pkcs8 -topk8 -in one.key -passout pass:x -out encrypted.key");
    authority_of.openssl("ec -in one.key -aes128 -passout pass:x -out old.key");
    authority_of.openssl("ecparam -name secp521r1 -genkey -noout -out large.key");
    let url = etcd.secure_url();
    let text = |path: &Path| fs::read_to_string(path).expect("openssl has made it");
    let dir = TempDir::new();
    dir.write("app.tmpl", "x");
    dir.write("ca.pem", text(&authority_of.cert()));
    dir.write("cert.pem", text(&one.cert));
    dir.write("key.pem", text(&one.key));
    dir.write("other.key", text(&other.key));
    for name in ["encrypted.key", "old.key", "large.key"] {
        dir.write(name, text(&authority_of.dir().at(name)));
    }
    dir.write("text", "no PEM at all\n");
    dir.write("cut.pem", &text(&authority_of.cert())[..200]);
    dir.write("damaged.pem", text(&authority_of.cert()).replace("MII", "M!!"));
    dir.write("odd.pem", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n");
    let check = |ca: &str, cert: &str, key: &str, words: &str| {
        let files = format!("client_ca_keys = \"{ca}\"\nclient_cert = \"{cert}\"\nclient_key = \"{key}\"\n");
        configure(&dir, &url, &files);
        fails(&dir, words);
    };
    let check_ca = |ca, words| check(ca, "cert.pem", "key.pem", words);
    check_ca("none.pem", "failed to read `none.pem`: no such file or directory");
    check_ca("text", "failed to use `text`: there is no PEM certificate in it");
    check_ca("key.pem", "failed to use `key.pem`: there is no PEM certificate in it");
    check_ca("cut.pem", "failed to use `cut.pem`: a section has no -----END line: is it cut off?");
    check_ca("damaged.pem", "failed to use `damaged.pem`: the text between -----BEGIN and -----END is damaged");
    check_ca("odd.pem", "failed to use certificate 1 of `odd.pem`: ");
    let check_pair = |cert, key, words| check("ca.pem", cert, key, words);
    check_pair("odd.pem", "key.pem", "failed to use certificate `odd.pem`: ");
    check_pair("text", "key.pem", "failed to use `text`: there is no PEM certificate in it");
    check_pair("cert.pem", "none.pem", "failed to read `none.pem`: no such file or directory");
    check_pair("cert.pem", "cert.pem", "failed to use `cert.pem`: there is no PEM private key in it");
    check_pair("cert.pem", "other.key", "the key `other.key` is not that of the certificate `cert.pem`");
    check_pair("cert.pem", "encrypted.key", "failed to use `encrypted.key`: the key is encrypted");
    check_pair("cert.pem", "old.key", "failed to use `old.key`: the key is encrypted");
    check_pair("cert.pem", "large.key", "failed to use key `large.key`: only RSA, ECDSA P-256");
    // A system's bundle may have what is of no use.
    dir.write("mixed.pem", text(&dir.at("odd.pem")) + &text(&authority_of.cert()));
    etcd.put("/greeting", "x");
    configure(&dir, &url, "");
    remco(&dir).env("SSL_CERT_FILE", "mixed.pem").once().expect_code(0);
}

#[test]
fn a_renewed_certificate_is_used_by_the_next_connection() {
    let authority_of = Authority::new();
    let server = authority_of.server();
    let etcd = Etcd::secured(&authority_of, &server, Clients::Certified, &[]);
    etcd.put("/greeting", "hello");
    let proxy = FaultProxy::start(etcd.secure_port());
    let pair = authority_of.sign("client", "", Key::Sec1, Valid::Now);
    let files = authority(&authority_of.cert()) + &shows(&pair);
    let dir = folder(&format!("https://127.0.0.1:{}", proxy.port()), &files);
    let program = remco(&dir).start();
    wait_until("the first render", LIMIT, || dir.holds("app.conf", "hello\n"));
    // The old one is no good any more, and the next connection shows it.
    authority_of.sign("client", "", Key::Sec1, Valid::Once);
    proxy.cut();
    program.wait_for_log("the server refuses the certificate");
    etcd.put("/greeting", "renewed");
    authority_of.sign("client", "", Key::Pkcs8, Valid::Now);
    wait_until("the renewed certificate is used", LIMIT, || dir.holds("app.conf", "renewed\n"));
    program.stop();
}

/// As on a machine without a battery for its clock, and an etcd that is told of nothing: it reads its files anew for each
/// connection.
#[test]
fn a_certificate_that_is_not_yet_valid_is_tried_again() {
    let authority_of = Authority::new();
    let server = |valid| authority_of.sign("server", LOOPBACK, Key::Sec1, valid);
    let etcd = Etcd::secured(&authority_of, &server(Valid::Later), Clients::Anyone, &[]);
    etcd.put("/greeting", "hello");
    let dir = folder(&etcd.secure_url(), &authority(&authority_of.cert()));
    let program = remco(&dir).start();
    program.wait_for_log("certificate of `127.0.0.1` is not yet valid");
    server(Valid::Now);
    wait_until("the certificate is valid", LIMIT, || dir.holds("app.conf", "hello\n"));
    program.stop();
}

#[test]
fn no_damage_of_a_file_brings_it_down() {
    let authority_of = Authority::new();
    let pairs =
        [Key::Pkcs8, Key::Pkcs1, Key::Sec1].map(|key| authority_of.sign(&format!("{key:?}"), "", key, Valid::Now));
    let nobody = format!("https://127.0.0.1:{}/", free_port());
    let said = |files: &Tls| {
        let client = Client::new(Limits::default(), files.clone());
        let request = Request {
            method: "GET",
            url: &nobody,
            headers: &[],
            body: None,
            stale: Stale::Repeat,
            kind: Kind::Whole,
            head_within: None,
            socket: None,
        };
        let mut call = client.begin(&request, Instant::now()).expect("it is a valid request");
        loop {
            match call.turn(Instant::now(), 1000, &mut Vec::new()) {
                Ok(_) => {
                    let mut interests = Vec::new();
                    call.interests(&mut interests);
                    wait::ready(&interests, call.due());
                }
                Err(error) => break error.cause.to_string(),
            }
        }
    };
    let mut random = Random::new(5);
    let mut below = |end: usize| random.below(end as u64) as usize;
    for pair in &pairs {
        let files = Tls {
            client_ca_keys: Some(authority_of.cert()),
            server_name: None,
            client_cert: Some(pair.cert.clone()),
            client_key: Some(pair.key.clone()),
        };
        assert_eq!(said(&files), "connection refused");
        for path in [&authority_of.cert(), &pair.cert, &pair.key] {
            let sound = fs::read(path).expect("openssl has made it");
            for _ in 0..200 {
                let mut damaged = sound.clone();
                for _ in 0..=below(3) {
                    let at = below(damaged.len().max(1));
                    match below(4) {
                        _ if damaged.is_empty() => {}
                        0 => damaged.truncate(at),
                        1 => drop(damaged.remove(at)),
                        2 => damaged[at] = b"A-\n+"[below(4)],
                        _ => damaged.insert(at, below(256) as u8),
                    }
                }
                fs::write(path, &damaged).expect("the folder is ours");
                let words = said(&files);
                let named = words.contains(&path.display().to_string()) || words.contains("is not that of");
                assert!(named || words == "connection refused", "{words}\n{}", String::from_utf8_lossy(&damaged));
            }
            fs::write(path, &sound).expect("the folder is ours");
        }
    }
}
