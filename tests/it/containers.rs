//! The container recipes of docs/recipes.md: the commands of the Dockerfile and of the manifests run with their user,
//! volumes, variables and read-only root, in namespaces with a separate root. Needs no container engine.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;

use remco::yaml::{self, Node};

use crate::support::{Etcd, FixedBody, Invocation, LIMIT, Recipe, in_own_namespace, run, wait_until};
use crate::tutorial::{answers, curl};

/// A root that holds the programs of this machine and `/remco`. It is made at an empty folder of the machine, and goes
/// with the namespace of the test; a folder of the test's own would be removed with everything that is mounted in it.
struct Container {
    root: &'static str,
    user: String,
    environment: BTreeMap<String, String>,
}

impl Container {
    fn at(root: &'static str, user: &str) -> Container {
        run(&["mount", "-t", "tmpfs", "none", root]);
        let container = Container { root, user: user.to_owned(), environment: BTreeMap::new() };
        for name in ["/usr", "/bin", "/sbin", "/lib", "/lib64"] {
            match fs::read_link(name) {
                Ok(target) => symlink(target, container.path(name)).unwrap(),
                Err(_) if Path::new(name).is_dir() => container.bind(name, name, "ro"),
                Err(_) => {}
            }
        }
        for name in ["/proc", "/dev", "/etc/remco"] {
            fs::create_dir_all(container.path(name)).unwrap();
        }
        for name in ["/dev/null", "/dev/urandom"] {
            fs::write(container.path(name), "").unwrap();
            run(&["mount", "--bind", name, &container.path(name)]);
        }
        fs::copy(env!("CARGO_BIN_EXE_remco"), container.path("/remco")).unwrap();
        fs::write(container.path("/etc/hosts"), "127.0.0.1 localhost etcd\n").unwrap();
        container
    }

    /// A path in it as the machine sees it.
    fn path(&self, path: &str) -> String {
        format!("{}{path}", self.root)
    }

    /// Shows a folder of the machine in it.
    fn bind(&self, from: &str, to: &str, options: &str) {
        let to = self.path(to);
        fs::create_dir_all(&to).unwrap();
        run(&["mount", "--bind", from, &to]);
        run(&["mount", "-o", &format!("remount,bind,{options}"), &to]);
    }

    /// Its root is read-only from now on.
    fn sealed(self) -> Container {
        run(&["mount", "-o", "remount,ro", self.root]);
        self
    }

    /// A command in it, which has process 1 and no rights of root.
    fn command(&self, command: &[String]) -> Invocation {
        let (user, group) = self.user.split_once(':').expect("it names both");
        let mut outer = Command::new("unshare");
        outer.args(["--pid", "--fork", "--kill-child", &format!("--mount-proc={}", self.path("/proc"))]);
        outer.args(["chroot", self.root, "setpriv", "--reuid", user, "--regid", group, "--clear-groups"]);
        outer.args(["--no-new-privs", "--bounding-set=-all", "--inh-caps=-all"]).args(command);
        let path = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
        let invocation = Invocation::of(outer, Path::new("/")).env("PATH", path);
        self.environment.iter().fold(invocation, |invocation, (name, value)| invocation.env(name, value))
    }
}

/// Traffic, a change, and that the probe says what is in place.
fn serves(container: &Container, command: &[String]) {
    let etcd = Etcd::start_on(2379, 2380, &[]);
    let (one, two) = (FixedBody::start("one"), FixedBody::start("two"));
    let probe = |code| container.command(&["/remco".into(), "--status".into()]).run().expect_code(code);
    probe(4);
    etcd.put("/web/1", &one.address());
    let program = container.command(command).start();
    assert_eq!(curl("http://127.0.0.1:8080/"), "one");
    etcd.put("/web/2", &two.address());
    wait_until("traffic reaches both", LIMIT, || answers("http://127.0.0.1:8080/", 4) == ["one", "two"]);
    wait_until("the probe says so", LIMIT, || {
        container.command(&["/remco".into(), "--status".into()]).run().code == Some(0)
    });
    let log = program.log();
    let mut ours = log.iter().filter(|line| line.contains(" remco["));
    assert!(ours.all(|line| line.contains(" remco[1]: ")), "it is process 1: {log:#?}");
}

/// The words of the `docker run` line, and what the Dockerfile copies, as whom it runs and what.
#[test]
fn docker_runs_it_as_a_user_with_a_read_only_root() {
    in_own_namespace("containers::docker_runs_it_as_a_user_with_a_read_only_root", || {
        let recipe = Recipe::of("## Run in a container, not as root");
        recipe.write_files();
        let line = |word: &'static str| {
            let mut lines = recipe.file("Dockerfile").lines();
            lines.find_map(|line| line.strip_prefix(word)?.strip_prefix(' ')).expect("the Dockerfile has it")
        };
        let mut container = Container::at("/mnt", line("USER"));
        for copy in recipe.file("Dockerfile").lines().filter_map(|line| line.strip_prefix("COPY ")) {
            let words: Vec<&str> = copy.split(' ').collect();
            let (folder, names) = words.split_last().expect("it has words");
            for name in names.iter().filter(|name| **name != "remco") {
                fs::copy(recipe.dir().at(name), container.path(&format!("{folder}{name}"))).unwrap();
            }
        }
        let [console] = recipe.texts("console")[..] else { panic!("one block") };
        let words: Vec<&str> = console.lines().last().expect("it has lines").split(' ').collect();
        let value = |flag: &str| {
            let at = words.iter().position(|word| *word == flag).unwrap_or_else(|| panic!("no {flag} in {words:?}"));
            words[at + 1]
        };
        assert_eq!((value("--cap-drop"), value("--security-opt")), ("ALL", "no-new-privileges"));
        assert!(words.contains(&"--read-only"));
        let (folder, options) = value("--tmpfs").split_once(':').expect("it has options");
        fs::create_dir_all(container.path(folder)).unwrap();
        run(&[
            "mount",
            "-t",
            "tmpfs",
            "-o",
            &format!("noexec,nosuid,nodev,{options}"),
            "none",
            &container.path(folder),
        ]);
        let (name, url) = value("-e").split_once('=').expect("a variable has a value");
        container.environment.insert(name.to_owned(), url.to_owned());
        let command: Vec<String> = serde_json::from_str(line("ENTRYPOINT")).expect("it is a list");
        serves(&container.sealed(), &command);
    });
}

/// A part of a document by its path: `spec.containers.0.image`.
#[track_caller]
fn part<'n>(node: &'n Node, path: &str) -> &'n Node {
    path.split('.').fold(node, |node, step| optional(node, step).unwrap_or_else(|| panic!("no {step} of {path}")))
}

fn optional<'n>(node: &'n Node, step: &str) -> Option<&'n Node> {
    match node {
        Node::Map(entries) => entries.iter().find(|(key, _)| *key.print() == *step.as_bytes()).map(|(_, node)| node),
        Node::List(all) => all.get(step.parse::<usize>().ok()?),
        Node::Scalar(_) => None,
    }
}

#[track_caller]
fn text(node: &Node) -> String {
    let Node::Scalar(scalar) = node else { panic!("{node:?} is no scalar") };
    String::from_utf8(scalar.print().to_vec()).expect("it is text")
}

#[track_caller]
fn list(node: &Node) -> &[Node] {
    let Node::List(all) = node else { panic!("{node:?} is no list") };
    all
}

fn words(node: &Node) -> Vec<String> {
    list(node).iter().map(text).collect()
}

/// The documents of a manifest.
fn documents(manifest: &str) -> Vec<Node> {
    manifest.split("---\n").map(|text| yaml::read(text.as_bytes(), 1 << 20).expect("it is YAML")).collect()
}

/// Makes the volumes of a Pod below a folder, as Kubernetes does: a memory that belongs to its group, and the files of a
/// ConfigMap behind links.
fn make_volumes(pod: &Node, maps: &[Node], folder: &str) {
    run(&["mount", "-t", "tmpfs", "none", folder]);
    let group = text(part(pod, "securityContext.fsGroup"));
    for volume in list(part(pod, "volumes")) {
        let path = format!("{folder}/{}", text(part(volume, "name")));
        fs::create_dir(&path).unwrap();
        if optional(volume, "emptyDir").is_some() {
            assert_eq!(text(part(volume, "emptyDir.medium")), "Memory");
            run(&["mount", "-t", "tmpfs", "-o", &format!("size=16m,mode=2777,gid={group}"), "none", &path]);
            continue;
        }
        let name = text(part(volume, "configMap.name"));
        let map = maps.iter().find(|map| text(part(map, "metadata.name")) == name).expect("its map is there");
        let Node::Map(files) = part(map, "data") else { panic!("it has files") };
        fs::create_dir(format!("{path}/..2026")).unwrap();
        symlink("..2026", format!("{path}/..data")).unwrap();
        for (name, content) in files {
            let name = String::from_utf8(name.print().to_vec()).unwrap();
            fs::write(format!("{path}/..2026/{name}"), text(content)).unwrap();
            symlink(format!("..data/{name}"), format!("{path}/{name}")).unwrap();
        }
    }
}

/// A container of a Pod with the volumes that it mounts.
fn container(pod: &Node, spec: &Node, root: &'static str, volumes: &str) -> Container {
    for (path, value) in [
        ("securityContext.readOnlyRootFilesystem", "true"),
        ("securityContext.allowPrivilegeEscalation", "false"),
        ("securityContext.capabilities.drop.0", "ALL"),
    ] {
        assert_eq!(text(part(spec, path)), value, "{path}");
    }
    assert_eq!(text(part(pod, "securityContext.runAsNonRoot")), "true");
    let [user, group] = ["runAsUser", "runAsGroup"].map(|id| text(part(pod, &format!("securityContext.{id}"))));
    let mut container = Container::at(root, &format!("{user}:{group}"));
    for mount in list(part(spec, "volumeMounts")) {
        let options = if optional(mount, "readOnly").is_some_and(|value| text(value) == "true") { "ro" } else { "rw" };
        let from = format!("{volumes}/{}", text(part(mount, "name")));
        container.bind(&from, &text(part(mount, "mountPath")), options);
    }
    for variable in optional(spec, "env").map(list).unwrap_or_default() {
        container.environment.insert(text(part(variable, "name")), text(part(variable, "value")));
    }
    container
}

#[test]
fn kubernetes_runs_it_as_a_user_with_a_read_only_root() {
    in_own_namespace("containers::kubernetes_runs_it_as_a_user_with_a_read_only_root", || {
        let recipe = Recipe::of("## Run in a container, not as root");
        let [deployment] = &documents(recipe.file("web.yaml"))[..] else { panic!("one document") };
        let pod = part(deployment, "spec.template.spec");
        let spec = part(pod, "containers.0");
        make_volumes(pod, &[], "/opt");
        let container = container(pod, spec, "/mnt", "/opt");
        for name in ["config", "haproxy.cfg.tmpl"] {
            fs::write(container.path(&format!("/etc/remco/{name}")), recipe.file(name)).unwrap();
        }
        assert_eq!(words(part(spec, "readinessProbe.exec.command")), ["/remco", "--status"]);
        serves(&container.sealed(), &words(part(spec, "command")));
    });
}

#[test]
fn an_init_container_fills_the_volume_of_the_next() {
    in_own_namespace("containers::an_init_container_fills_the_volume_of_the_next", || {
        let recipe = Recipe::of("## Fill a volume by an init container");
        let [map, pod] = &documents(recipe.file("app.yaml"))[..] else { panic!("two documents") };
        let pod = part(pod, "spec");
        make_volumes(pod, std::slice::from_ref(map), "/opt");
        let (init, app) = (part(pod, "initContainers.0"), part(pod, "containers.0"));
        let (first, second) =
            (container(pod, init, "/mnt", "/opt").sealed(), container(pod, app, "/srv", "/opt").sealed());
        let command = words(part(init, "command"));
        assert_eq!(command.last().map(String::as_str), Some("2m"));
        let impatient: Vec<String> = command.iter().map(|word| word.replace("2m", "1s")).collect();
        first.command(&impatient).run().expect_code(1);
        assert!(!Path::new("/opt/config/app.conf").exists());
        let etcd = Etcd::start_on(2379, 2380, &[]);
        etcd.put("/app/greeting", "hello");
        first.command(&command).run().expect_code(0);
        let seen = second.command(&words(part(app, "command"))).run().expect_code(0);
        assert_eq!(String::from_utf8_lossy(&seen.stdout), "greeting = hello\n");
    });
}
