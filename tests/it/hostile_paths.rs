//! Paths that lead elsewhere, by accident or because another user owns a directory on them. The program does not hang,
//! writes no other file and takes no memory.

use std::fs::{self, File};
use std::os::unix::fs::{MetadataExt, chown, symlink};
use std::path::Path;

use crate::support::{LIMIT, Remco, TempDir, Trace, remco, run, wait_until};

const UPDATED: &str = "target config has been updated";
const SOURCES: [(&str, &str); 3] =
    [("data.json", r#"{"x": "precious"}"#), ("app.tmpl", "rendered {{ getv(\"/x\") }}\n"), ("more/a.toml", "")];

/// A folder with one resource, a filepath and an include_dir.
fn folder(dst: &str, head: &str) -> TempDir {
    let dir = TempDir::new();
    for (name, text) in SOURCES {
        dir.write(name, text);
    }
    fs::create_dir(dir.at("out")).expect("the folder is new");
    dir.write("config.toml", configuration(dst, head));
    dir
}

fn configuration(dst: &str, head: &str) -> String {
    format!(
        "{head}\n[[resource]]\nname = \"app\"\n[[resource.template]]\nsrc = \"app.tmpl\"\ndst = \"{dst}\"\n\
         [resource.backend.file]\nfilepath = \"data.json\"\nkeys = [\"/\"]\nwatch = true\n"
    )
}

fn is_untouched(dir: &TempDir) -> bool {
    SOURCES.iter().all(|(name, text)| dir.holds(name, text))
}

#[test]
fn no_input_is_overwritten_under_another_name() {
    let dir = folder("", "include_dir = \"more\"");
    fs::create_dir(dir.at("sub")).expect("the folder is new");
    symlink("data.json", dir.at("link")).expect("a link");
    symlink("..", dir.at("sub/up")).expect("a link");
    fs::hard_link(dir.at("app.tmpl"), dir.at("hard")).expect("a link");
    let absolute = dir.at("data.json").to_string_lossy().into_owned();
    let pid_file = "pid_file = \"sub/pid\"\ninclude_dir = \"more\"";
    for (dst, what) in [
        ("data.json", "the `filepath` of a backend"),
        (&*absolute, "the `filepath` of a backend under the name `data.json`"),
        ("sub/../data.json", "the `filepath` of a backend under the name `data.json`"),
        (".//data.json", "the `filepath` of a backend"),
        ("link", "the `filepath` of a backend under the name `data.json`"),
        ("sub/up/link", "the `filepath` of a backend"),
        ("new/../data.json", "the `filepath` of a backend"),
        ("sub/../app.tmpl", "the `src` of a template"),
        ("hard", "the `src` of a template"),
        ("sub/up/config.toml", "the configuration"),
        ("more/../more/a.toml", "the configuration"),
        ("sub/../sub/pid", "the `pid_file`"),
    ] {
        let config = configuration(dst, pid_file);
        dir.write("config.toml", &config);
        let log = format!("`dst` would overwrite {what}");
        remco(&dir).once().expect_code(1).expect_log(&log).expect_no_log(UPDATED);
        assert!(is_untouched(&dir) && dir.holds("config.toml", &config), "{dst}");
    }
}

#[test]
fn two_templates_do_not_write_one_file_under_two_names() {
    let dir = folder("", "");
    fs::create_dir(dir.at("sub")).expect("the folder is new");
    symlink("out/new", dir.at("dangling")).expect("a link");
    let absolute = dir.at("out/new").to_string_lossy().into_owned();
    for dst in ["sub/../out/new", "dangling", "none/../out/new", &*absolute] {
        let config = configuration("out/new", "");
        let second = format!("[[resource.template]]\nsrc = \"app.tmpl\"\ndst = \"{dst}\"\n[resource.backend.file]");
        dir.write("config.toml", config.replace("[resource.backend.file]", &second));
        remco(&dir).once().expect_code(1).expect_log("two templates write this file");
        assert!(dir.names("out").is_empty(), "{dst}");
    }
}

#[test]
fn a_reload_does_not_take_a_configuration_that_overwrites_its_input() {
    let dir = folder("out/app.conf", "");
    let program = remco(&dir).start();
    program.wait_for_log(UPDATED);
    symlink("data.json", dir.at("link")).expect("a link");
    dir.replace("config.toml", configuration("link", ""));
    program.signal(rustix::process::Signal::HUP);
    program.wait_for_log("`dst` would overwrite the `filepath` of a backend");
    dir.replace("data.json", r#"{"x": "new"}"#);
    wait_until("the old configuration is at work", LIMIT, || dir.holds("out/app.conf", "rendered new\n"));
    program.stop();
    assert!(dir.holds("data.json", r#"{"x": "new"}"#));
}

/// What a template includes is known only when it is compiled.
#[test]
fn a_template_does_not_overwrite_what_it_includes() {
    let dir = folder("link", "");
    dir.write("part.tmpl", "part\n");
    symlink("part.tmpl", dir.at("link")).expect("a link");
    dir.write("app.tmpl", "{% include \"part.tmpl\" %}more\n");
    remco(&dir).once().expect_code(1).expect_log("failed to replace `link`: its own template reads it");
    assert!(dir.holds("part.tmpl", "part\n"));
}

/// The kernel's fs.protected_symlinks, which may be off.
#[test]
fn a_link_of_another_user_in_a_sticky_directory_is_not_followed() {
    if !rustix::process::geteuid().is_root() {
        return;
    }
    let dir = folder("out/app.conf", "pid_file = \"out/pid\"");
    dir.write("victim", "original\n");
    dir.set_mode("victim", 0o4755);
    dir.set_mode("out", 0o1777);
    dir.write("number", "");
    for (name, victim) in [("out/app.conf", "../victim"), ("out/pid", "../number")] {
        symlink(victim, dir.at(name)).expect("a link");
        rustix::fs::chownat(
            rustix::fs::CWD,
            dir.at(name),
            Some(rustix::fs::Uid::from_raw(777)),
            None,
            rustix::fs::AtFlags::SYMLINK_NOFOLLOW,
        )
        .expect("we are root");
    }
    let why = |name: &str| format!("failed to follow `{name}`: it is a symbolic link of user 777");
    let finished = remco(&dir).once().expect_code(1).expect_no_log(UPDATED);
    finished.expect_log(&why("out/app.conf")).expect_log(&why("out/pid"));
    assert!(dir.holds("victim", "original\n") && dir.holds("number", ""));
    assert_eq!(dir.mode("victim"), 0o4755);
}

/// A program that is given a moment in which the owner of `out` does as he likes: while its check command waits.
fn while_checking(dir: &TempDir, mischief: impl FnOnce()) -> Remco {
    let config = dir.read("config.toml").expect("just written");
    let check = "check_cmd = \"touch checking; while ! test -e go; do sleep 0.02; done\"\nsrc =";
    dir.write("config.toml", config.replace("src =", check));
    let program = remco(dir).start();
    wait_until("the check runs", LIMIT, || dir.at("checking").exists());
    mischief();
    dir.write("go", "");
    program
}

fn stage(dir: &TempDir, folder: &str) -> String {
    let names = dir.names(folder);
    let stage = names.iter().find(|name| name.starts_with(".app.conf")).expect("a stage file");
    format!("{folder}/{stage}")
}

fn fifo(path: &Path) {
    run(&["mkfifo", &path.to_string_lossy()]);
}

/// Puts something at a path in a folder.
type Mischief = &'static dyn Fn(&TempDir, &Path);

/// Nothing that takes the place of the stage file is opened to wait, followed, or installed.
#[test]
fn what_takes_the_place_of_the_stage_is_not_installed() {
    let kinds: [(&str, Mischief); 5] = [
        ("fifo", &|_, path| fifo(path)),
        ("link", &|dir, path| symlink(dir.at("victim"), path).expect("a link")),
        ("second name", &|dir, path| fs::hard_link(dir.at("victim"), path).expect("a link")),
        ("directory", &|_, path| fs::create_dir(path).expect("a folder")),
        ("file of another mode", &|_, path| {
            fs::write(path, "foreign")
                .and_then(|()| fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(0o666)))
                .expect("a file")
        }),
    ];
    for (what, replace) in kinds {
        let dir = folder("out/app.conf", "");
        dir.write("victim", "victim\n");
        let program = while_checking(&dir, || {
            let path = dir.at(&stage(&dir, "out"));
            fs::remove_file(&path).expect("it is there");
            replace(&dir, &path);
        });
        program.wait_for_log("failed to sync `out/.app.conf");
        // The next attempt, under the same name or another, goes well.
        wait_until(what, LIMIT, || dir.holds("out/app.conf", "rendered precious\n"));
        program.stop();
        assert!(dir.holds("victim", "victim\n"), "{what}");
        let inode = |name: &str| fs::metadata(dir.at(name)).expect("it is there").ino();
        assert_ne!(inode("victim"), inode("out/app.conf"), "{what}");
    }
}

/// A directory that was replaced while the check ran: neither the old one nor what a link leads to gets the file.
#[test]
fn a_directory_that_was_replaced_is_not_written_to() {
    for link in [false, true] {
        let dir = folder("out/app.conf", "");
        fs::create_dir(dir.at("elsewhere")).expect("a folder");
        let program = while_checking(&dir, || {
            fs::rename(dir.at("out"), dir.at("old")).expect("it is there");
            match link {
                true => symlink("elsewhere", dir.at("out")).expect("a link"),
                false => fs::create_dir(dir.at("out")).expect("a folder"),
            }
        });
        program.wait_for_log("failed to replace `out/app.conf`: its path has changed since it was staged");
        wait_until("the next attempt", LIMIT, || dir.holds("out/app.conf", "rendered precious\n"));
        program.stop();
        assert!(dir.names("old").is_empty(), "{:?}", dir.names("old"));
    }
}

/// What `dst` has become between the comparison and the rename.
#[test]
fn a_destination_that_has_become_something_else_is_looked_at_anew() {
    let dir = folder("out/app.conf", "");
    let program = while_checking(&dir, || fifo(&dir.at("out/app.conf")));
    program.wait_for_log("failed to replace `out/app.conf`: its path has changed");
    program.wait_for_log("failed to write to `out/app.conf`: it has no reader");
    program.stop();
    let dir = folder("out/app.conf", "");
    let program = while_checking(&dir, || fs::create_dir(dir.at("out/app.conf")).expect("a folder"));
    program.wait_for_log("`out/app.conf` is a directory, a file is expected");
    program.stop();
}

/// Every name that is known for a stage is taken by a fifo, and so is the one for a crash's litter.
#[test]
fn fifos_under_the_names_of_stages_are_left_alone() {
    let dir = folder("out/app.conf", "");
    let (trace, program) = Trace::of(remco(&dir), &dir);
    let finished = program.once().expect_code(0);
    let calls = trace.calls(finished.pid);
    let created = calls.iter().find(|call| call.text.contains("O_EXCL")).expect("a stage is created");
    let name = created.text.split('"').nth(1).expect("it has a name").to_owned();
    fifo(&dir.at(&format!("out/{name}")));
    fs::remove_file(dir.at("out/app.conf")).expect("it is there");
    remco(&dir).once().expect_code(0).expect_log(UPDATED);
    assert_eq!(dir.names("out"), [name, "app.conf".to_owned()]);
}

#[test]
fn links_in_a_circle_end() {
    let dir = folder("out/a", "");
    symlink("b", dir.at("out/a")).expect("a link");
    symlink("a", dir.at("out/b")).expect("a link");
    remco(&dir).once().expect_code(1).expect_log("failed to follow `out/a`: more than 40 symbolic links");
}

/// A fifo, a device or a directory where a file is read: an error or nothing, and no waiting.
#[test]
fn no_input_is_waited_for() {
    let fifo_at = |dir: &TempDir, name: &str| {
        let _ = fs::remove_file(dir.at(name));
        fifo(&dir.at(name));
    };
    for name in ["data.json", "app.tmpl", "part.tmpl"] {
        let dir = folder("out/app.conf", "");
        dir.write("app.tmpl", "{% include \"part.tmpl\" %}{{ getv(\"/x\") }}");
        dir.write("part.tmpl", "");
        fifo_at(&dir, name);
        remco(&dir).once().expect_code(1).expect_log("not a regular file");
        assert!(dir.names("out").is_empty(), "{name}");
    }
    let dir = folder("out/app.conf", "include_dir = \"more\"");
    fifo_at(&dir, "more/a.toml");
    remco(&dir).once().expect_code(1).expect_log("failed to read the file: not a regular file");

    let dir = folder("/proc/self/mem", "");
    remco(&dir).once().expect_code(1).expect_no_log(UPDATED);
    let dir = folder("data.json/app.conf", "");
    remco(&dir).once().expect_code(1).expect_log("not a directory");
    let dir = folder("out/app.conf", "");
    fs::remove_dir(dir.at("out")).expect("it is empty");
    fifo(&dir.at("out"));
    remco(&dir).once().expect_code(1).expect_log("not a directory");
}

/// The zone is read before the first line of the log.
#[test]
fn a_zone_that_is_no_file_costs_no_memory() {
    let dir = folder("out/app.conf", "");
    fifo(&dir.at("zone"));
    let sparse = dir.at("sparse");
    File::create(&sparse).and_then(|file| file.set_len(1 << 40)).expect("a sparse file");
    let fifo = format!(":{}", dir.at("zone").display());
    for zone in [":/dev/zero", "/dev/zero", &fifo, &format!(":{}", sparse.display()), ":/proc/kmsg"] {
        // 200 MB of address space, whatever it is.
        let program = remco(&dir).under(&["prlimit", "--as=200000000"]).env("TZ", zone);
        program.once().expect_code(0);
        assert!(dir.holds("out/app.conf", "rendered precious\n"), "{zone}");
    }
}

/// Root writes into a directory of another user, who replaces the stage file by a fifo as fast as he can.
#[test]
fn the_owner_of_the_directory_cannot_stop_the_program() {
    if !rustix::process::geteuid().is_root() {
        return;
    }
    let dir = folder("out/app.conf", "");
    chown(dir.at("out"), Some(65534), Some(65534)).expect("we are root");
    run(&["chmod", "0755", &dir.at("").to_string_lossy()]);
    let (out, done) = (dir.at("out"), std::sync::atomic::AtomicBool::new(false));
    let program = remco(&dir).start();
    program.wait_for_log(UPDATED);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(std::sync::atomic::Ordering::Relaxed) {
                for entry in fs::read_dir(&out).expect("it is there").flatten() {
                    if entry.file_name().to_string_lossy().starts_with(".app.conf")
                        && fs::remove_file(entry.path()).is_ok()
                    {
                        let mode = rustix::fs::Mode::RWXU;
                        let kind = rustix::fs::FileType::Fifo;
                        let _ = rustix::fs::mknodat(rustix::fs::CWD, entry.path(), kind, mode, 0);
                        let _ = fs::remove_file(entry.path());
                    }
                }
            }
        });
        for number in 0..100 {
            dir.replace("data.json", format!("{{\"x\": \"{number}\"}}"));
        }
        done.store(true, std::sync::atomic::Ordering::Relaxed);
    });
    // What was swapped at the last moment, behind every check, is in place as if its maker had put it there: no longer a
    // file to be replaced, and not to be opened here. A change is not kept waiting by the failures before.
    let (dst, mut changes) = (dir.at("out/app.conf"), 0..);
    let mut change = || dir.replace("data.json", format!("{{\"x\": \"last\", \"y\": \"{:?}\"}}", changes.next()));
    change();
    wait_until("the last value", LIMIT, || {
        let is_file = fs::symlink_metadata(&dst).map(|meta| meta.is_file());
        if is_file.as_ref().is_ok_and(|is_file| !is_file) {
            fs::remove_file(&dst).expect("it is there");
            change();
        }
        is_file.unwrap_or(false) && dir.holds("out/app.conf", "rendered last\n")
    });
    program.stop();
}
