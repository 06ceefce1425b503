//! The packages of scripts/package by their own tools: dpkg installs, upgrades and removes the Debian package in a
//! separate root, buildah loads the images, tar unpacks the archive. Also the recipes for other systems, and the
//! workflows.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;

use crate::support::{TempDir, static_binary, targets};

const PROJECT: &str = env!("CARGO_MANIFEST_DIR");
const VERSION: &str = env!("CARGO_PKG_VERSION");

/// Runs a command and returns what it printed.
#[track_caller]
fn run(command: &mut Command) -> String {
    let Output { status, stdout, stderr } =
        command.output().unwrap_or_else(|e| panic!("failed to run {command:?}: {e}"));
    assert!(status.success(), "{command:?}: {status}: {}", String::from_utf8_lossy(&stderr));
    String::from_utf8(stdout).expect("it is text")
}

/// Makes packages of a binary in a folder.
#[track_caller]
fn package(binary: &Path, kinds: &[&str], out: &Path) {
    let mut command = Command::new(format!("{PROJECT}/scripts/package"));
    command.args(kinds).arg("--binary").arg(binary).arg("--out").arg(out).env("SOURCE_DATE_EPOCH", "1750000000");
    run(&mut command);
}

/// Whether a program is here; else the test says that it is skipped.
fn has(program: &str, test: &str) -> bool {
    let is_there = Command::new("sh").args(["-c", &format!("command -v {program}")]).output();
    let is_there = is_there.is_ok_and(|output| output.status.success());
    if !is_there {
        let reason = format!("test {test} ... skipped: there is no {program} here\n");
        let _ = std::io::Write::write_all(&mut std::io::stderr(), reason.as_bytes());
    }
    is_there
}

#[test]
fn equal_inputs_make_equal_packages() {
    if !has("dpkg-deb", "package::equal_inputs_make_equal_packages") {
        return;
    }
    let (dir, binary) = (TempDir::new(), Path::new("/bin/true"));
    let (first, second) = (dir.at("first"), dir.at("another-folder"));
    package(binary, &[], &first);
    let mut again = Command::new("sh");
    again
        .arg("-c")
        .arg(format!("umask 077; exec {PROJECT}/scripts/package --binary /bin/true --out \"$0\""))
        .arg(&second);
    run(again.env("SOURCE_DATE_EPOCH", "1750000000").env("TZ", "Asia/Tokyo").env("LC_ALL", "C"));
    let mut names: Vec<_> = fs::read_dir(&first).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    names.sort();
    for name in &names {
        assert_eq!(fs::read(first.join(name)).unwrap(), fs::read(second.join(name)).unwrap(), "{name:?}");
    }
    let names: Vec<_> = names.iter().map(|name| name.to_string_lossy().replace(VERSION, "V")).collect();
    assert_eq!(
        names,
        [
            "SHA256SUMS",
            "remco-V-linux-x86_64.docker.tar",
            "remco-V-linux-x86_64.oci.tar",
            "remco-V-linux-x86_64.tar.gz",
            "remco_V-1_amd64.deb"
        ]
    );
    run(Command::new("sha256sum").args(["--check", "--quiet", "SHA256SUMS"]).current_dir(&first));
}

#[test]
fn the_archive_has_what_a_user_needs() {
    let dir = TempDir::new();
    package(Path::new("/bin/true"), &["tar"], dir.path());
    let listed = run(Command::new("tar").arg("-tzf").arg(dir.at(&format!("remco-{VERSION}-linux-x86_64.tar.gz"))));
    let root = format!("remco-{VERSION}-linux-x86_64/");
    let names: Vec<&str> = listed.lines().map(|line| line.strip_prefix(&root).expect("all is in one folder")).collect();
    for name in [
        "remco",
        "README.md",
        "LICENSE",
        "THIRD-PARTY.md",
        "config",
        "remco.service",
        "man/remco.1",
        "man/remco.5",
        "docs/migrating.md",
        "examples/haproxy/config.toml",
        "completions/remco.bash",
        "completions/_remco",
        "completions/remco.fish",
    ] {
        assert!(names.contains(&name), "no {name} in {names:#?}");
    }
}

/// Each link of the documents leads to a file of the package, and each sample's comment names folders of the package.
#[test]
fn the_documents_name_files_of_their_package() {
    if !has("dpkg-deb", "package::the_documents_name_files_of_their_package") {
        return;
    }
    let dir = TempDir::new();
    package(Path::new("/bin/true"), &["tar", "deb"], dir.path());
    let archive = format!("remco-{VERSION}-linux-x86_64");
    run(Command::new("tar").arg("-C").arg(dir.path()).arg("-xzf").arg(dir.at(&format!("{archive}.tar.gz"))));
    let root = dir.at("root");
    run(Command::new("dpkg-deb").arg("-x").arg(dir.at(&format!("remco_{VERSION}-1_amd64.deb"))).arg(&root));
    for documents in [dir.at(&archive), root.join("usr/share/doc/remco")] {
        let is_there = |folder: &Path, name: &str| match name.strip_prefix('/') {
            Some(below) => root.join(below).exists(),
            None => folder.join(name).exists(),
        };
        let (mut links, mut dead) = (0, Vec::new());
        for folder in [documents.clone(), documents.join("docs")] {
            for entry in fs::read_dir(&folder).unwrap() {
                let path = entry.unwrap().path();
                if path.extension().is_none_or(|extension| extension != "md") {
                    continue;
                }
                for target in targets(&fs::read_to_string(&path).unwrap()) {
                    let file = target.split('#').next().expect("a part is never missing");
                    links += 1;
                    if !is_there(&folder, file) {
                        dead.push(format!("{}: {target}", path.display()));
                    }
                }
            }
        }
        assert!(links > 100 && dead.is_empty(), "{links} links, dead: {dead:#?}");

        let mut samples = 0;
        for entry in fs::read_dir(documents.join("examples")).unwrap() {
            let text = fs::read_to_string(entry.unwrap().path().join("config.toml")).unwrap();
            let command =
                text.lines().find_map(|line| line.strip_prefix("#   SOURCE=")).expect("it says how to try it");
            let source = command.split(' ').next().expect("a part is never missing");
            let config = command.split(" -config ").nth(1).and_then(|rest| rest.split(' ').next());
            assert_eq!(config, Some(&*format!("{source}/config.toml")));
            assert!(is_there(&documents, &format!("{source}/config.toml")), "{}: {command}", documents.display());
            samples += 1;
        }
        assert!(samples > 5, "only {samples} samples");
    }
}

/// A root with a shell, for the scripts of packages, and dpkg's own data.
struct Root {
    dir: TempDir,
}

impl Root {
    fn new() -> Root {
        let dir = TempDir::new();
        for folder in ["root/bin", "root/var/lib/dpkg/info", "root/var/lib/dpkg/updates", "root/etc", "root/tmp"] {
            fs::create_dir_all(dir.at(folder)).unwrap();
        }
        for file in ["root/var/lib/dpkg/status", "root/var/lib/dpkg/available"] {
            fs::write(dir.at(file), "").unwrap();
        }
        let busybox = run(Command::new("sh").args(["-c", "command -v busybox"]));
        fs::copy(busybox.trim(), dir.at("root/bin/busybox")).unwrap();
        for name in ["sh", "rm", "cat"] {
            std::os::unix::fs::symlink("busybox", dir.at("root/bin").join(name)).unwrap();
        }
        Root { dir }
    }

    fn at(&self, path: &str) -> PathBuf {
        self.dir.at("root").join(path)
    }

    #[track_caller]
    fn dpkg(&self, args: &[&str]) {
        let mut command = Command::new("dpkg");
        command.arg(format!("--root={}", self.at("").display())).arg("--force-confold");
        run(command.args(args).env("DEBIAN_FRONTEND", "noninteractive"));
    }

    /// What the program in the root prints.
    #[track_caller]
    fn remco(&self, args: &[&str]) -> String {
        run(Command::new("chroot").arg(self.at("")).arg("/usr/bin/remco").args(args))
    }
}

/// A package as users of Go remco have it: the same name, its binary and a configuration of theirs.
fn older_package(dir: &TempDir) -> PathBuf {
    let root = dir.at("older");
    for folder in ["DEBIAN", "usr/bin", "etc/remco/templates", "etc/remco/resource.d", "etc/systemd/system"] {
        fs::create_dir_all(root.join(folder)).unwrap();
    }
    let control =
        "Package: remco\nVersion: 0.12.6\nArchitecture: amd64\nMaintainer: a <a@localhost>\nDescription: older\n";
    fs::write(root.join("DEBIAN/control"), control).unwrap();
    fs::write(root.join("DEBIAN/conffiles"), "/etc/remco/config\n").unwrap();
    fs::write(root.join("etc/remco/config"), "log_level = \"info\"\n").unwrap();
    fs::write(root.join("etc/remco/templates/old.tmpl"), "old\n").unwrap();
    fs::write(root.join("usr/bin/remco"), "#!/bin/sh\necho 0.12.6\n").unwrap();
    fs::set_permissions(root.join("usr/bin/remco"), fs::Permissions::from_mode(0o755)).unwrap();
    let file = dir.at("remco_0.12.6_amd64.deb");
    run(Command::new("dpkg-deb").args(["--root-owner-group", "--build"]).arg(&root).arg(&file));
    file
}

#[test]
fn the_debian_package_is_installed_upgraded_and_removed() {
    let test = "package::the_debian_package_is_installed_upgraded_and_removed";
    let Some(binary) = static_binary(test) else { return };
    if !has("dpkg", test) || !has("busybox", test) {
        return;
    }
    let (dir, root) = (TempDir::new(), Root::new());
    package(&binary, &["deb"], dir.path());
    let deb = dir.at(&format!("remco_{VERSION}-1_amd64.deb"));
    let (old, new) = (older_package(&dir), deb.to_string_lossy().into_owned());
    root.dpkg(&["--install", &old.to_string_lossy()]);
    assert_eq!(root.remco(&[]), "0.12.6\n");
    let theirs = "[[resource]]\nname = 'mine'\n[[resource.template]]\nsrc = '/etc/remco/templates/mine.tmpl'\n\
                  dst = '/tmp/out'\n[resource.backend.file]\nfilepath = '/etc/remco/data.json'\nkeys = ['/']\n";
    fs::write(root.at("etc/remco/config"), theirs).unwrap();
    fs::write(root.at("etc/remco/templates/mine.tmpl"), "{{ getv(\"/x\") }}").unwrap();
    fs::write(root.at("etc/remco/data.json"), "{\"x\": \"rendered\"}").unwrap();

    root.dpkg(&["--install", &new]);
    assert!(root.remco(&["-version"]).starts_with(&format!("remco {VERSION}\n")));
    assert_eq!(fs::read_to_string(root.at("etc/remco/config")).unwrap(), theirs, "the user's configuration stays");
    root.remco(&["-onetime"]);
    assert_eq!(fs::read_to_string(root.at("tmp/out")).unwrap(), "rendered");
    for path in
        ["usr/lib/systemd/system/remco.service", "usr/share/man/man1/remco.1.gz", "usr/share/doc/remco/copyright"]
    {
        assert!(root.at(path).exists(), "{path}");
    }
    let unit = fs::read_to_string(root.at("usr/lib/systemd/system/remco.service")).unwrap();
    assert!(unit.contains("ExecStart=/usr/bin/remco ") && !unit.contains("/usr/local"), "{unit}");

    root.dpkg(&["--remove", "remco"]);
    assert!(!root.at("usr/bin/remco").exists());
    assert_eq!(fs::read_to_string(root.at("etc/remco/config")).unwrap(), theirs, "it is removed, not purged");
    fs::create_dir_all(root.at("var/lib/remco")).unwrap();
    root.dpkg(&["--purge", "remco"]);
    assert!(!root.at("var/lib/remco").exists() && !root.at("etc/remco/config").exists());
}

/// In a root without anything of an older one.
#[test]
fn the_configuration_of_the_debian_package_starts() {
    let test = "package::the_configuration_of_the_debian_package_starts";
    let Some(binary) = static_binary(test) else { return };
    if !has("dpkg", test) || !has("busybox", test) {
        return;
    }
    let (dir, root) = (TempDir::new(), Root::new());
    package(&binary, &["deb"], dir.path());
    root.dpkg(&["--install", &dir.at(&format!("remco_{VERSION}-1_amd64.deb")).to_string_lossy()]);
    root.remco(&["-onetime"]);
    let mode = |path: &str| fs::metadata(root.at(path)).unwrap().permissions().mode() & 0o7777;
    assert_eq!((mode("usr/bin/remco"), mode("etc/remco"), mode("etc/remco/config")), (0o755, 0o755, 0o644));
}

#[test]
fn lintian_finds_nothing_but_what_is_listed() {
    if !has("lintian", "package::lintian_finds_nothing_but_what_is_listed") {
        return;
    }
    let dir = TempDir::new();
    // Of a static binary, as the real one is.
    let Some(binary) = static_binary("package::lintian_finds_nothing_but_what_is_listed") else { return };
    package(&binary, &["deb"], dir.path());
    let deb = dir.at(&format!("remco_{VERSION}-1_amd64.deb"));
    let said = run(Command::new("lintian").args(["--allow-root", "--fail-on", "error,warning"]).arg(deb));
    assert_eq!(said, "");
}

#[test]
fn images_of_both_formats_are_loaded() {
    let test = "package::images_of_both_formats_are_loaded";
    let Some(binary) = static_binary(test) else { return };
    if !has("buildah", test) {
        return;
    }
    let dir = TempDir::new();
    package(&binary, &["image"], dir.path());
    for (format, has_check) in [("oci", false), ("docker", true)] {
        let buildah = |args: &[&str]| {
            let mut command = Command::new("buildah");
            command.arg("--root").arg(dir.at("store")).arg("--runroot").arg(dir.at("run"));
            run(command.args(["--storage-driver", "vfs"]).args(args)).trim().to_owned()
        };
        let file = dir.at(&format!("remco-{VERSION}-linux-x86_64.{format}.tar"));
        let container = buildah(&["from", &format!("{format}-archive:{}", file.display())]);
        let about: Value = serde_json::from_str(&buildah(&["inspect", &container])).expect("it is JSON");
        let config = &about["OCIv1"]["config"];
        assert_eq!((&config["Entrypoint"][0], &config["User"]), (&"/remco".into(), &"65532:65532".into()));
        assert_eq!(config["Labels"]["org.opencontainers.image.version"], VERSION);
        let check = &about["Docker"]["config"]["Healthcheck"]["Test"];
        assert_eq!(check.is_null(), !has_check, "{format}: {check}");
        let mounted = PathBuf::from(buildah(&["mount", &container]));
        let out = run(Command::new("chroot").arg("--userspec=65532:65532").arg(&mounted).args(["/remco", "-version"]));
        assert!(out.starts_with(&format!("remco {VERSION}\n")), "{out}");
    }
}

#[test]
fn recipes_are_of_this_version_and_workflows_call_what_is_there() {
    let read = |path: &str| fs::read_to_string(Path::new(PROJECT).join(path)).unwrap_or_else(|e| panic!("{path}: {e}"));
    assert!(read("packaging/alpine/APKBUILD").contains(&format!("\npkgver={VERSION}\n")));
    assert!(read("packaging/openwrt/Makefile").contains(&format!("\nPKG_VERSION:={VERSION}\n")));
    for page in ["docs/remco.1", "docs/remco.5"] {
        assert!(read(page).lines().next().unwrap().ends_with(&format!("\"remco {VERSION}\"")), "{page}");
    }
    let mut calls = 0;
    for entry in fs::read_dir(Path::new(PROJECT).join(".github/workflows")).unwrap() {
        let text = fs::read_to_string(entry.unwrap().path()).unwrap();
        for word in text.split_whitespace().filter(|word| word.starts_with("scripts/") || word.starts_with(".ci/")) {
            let mode = fs::metadata(Path::new(PROJECT).join(word)).unwrap_or_else(|e| panic!("{word}: {e}"));
            assert!(mode.permissions().mode() & 0o111 != 0, "{word} cannot be run");
            calls += 1;
        }
    }
    assert!(calls >= 5, "the workflows call {calls} scripts");
}

/// The scripts of init systems and packages are shell that dash reads.
#[test]
fn the_shell_of_packages_is_posix() {
    for script in [
        "packaging/debian/postinst",
        "packaging/debian/prerm",
        "packaging/debian/postrm",
        "packaging/openwrt/files/remco.init",
        "packaging/alpine/remco.initd",
        "packaging/alpine/APKBUILD",
    ] {
        run(Command::new("dash").arg("-n").arg(Path::new(PROJECT).join(script)));
    }
}

#[test]
fn shells_complete_flags_and_values() {
    let completed = |words: &str| {
        let script = format!(
            "source {PROJECT}/packaging/completions/remco.bash; COMP_WORDS=({words} \"\"); \
             [[ '{words}' == *' ' ]] || COMP_WORDS=({words}); COMP_CWORD=$((${{#COMP_WORDS[@]}} - 1)); _remco; \
             echo \"${{COMPREPLY[@]}}\""
        );
        run(Command::new("bash").args(["--norc", "-c", &script])).trim().to_owned()
    };
    assert_eq!(completed("remco -onet"), "-onetime");
    assert_eq!(completed("remco --log-l"), "--log-level");
    assert_eq!(completed("remco --log-level wa"), "warn");
    assert_eq!(completed("remco --log-format "), "text json");
    let test = "package::shells_complete_flags_and_values";
    for (shell, file) in [("zsh", "_remco"), ("fish", "remco.fish")] {
        if has(shell, test) {
            run(Command::new(shell).arg("-n").arg(format!("{PROJECT}/packaging/completions/{file}")));
        }
    }
}
