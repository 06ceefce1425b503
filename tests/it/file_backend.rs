//! The file backend watches its file through every way to change a file.

use std::fs;
use std::os::unix::fs::symlink;
use std::process::{Command, Stdio};

use crate::running::on_file;
use crate::support::{LIMIT, Remco, TempDir, remco, skipped, wait_until};

/// A folder with a program that watches `filepath`; it has rendered what `prepare` has put there.
fn watching(filepath: &str, prepare: impl FnOnce(&TempDir)) -> (TempDir, Remco) {
    let dir = TempDir::new();
    dir.write("app.tmpl", "{{ getv(\"/greeting\") }}\n");
    dir.write(
        "config.toml",
        format!(
            r#"
log_level = "debug"
[[resource]]
name = "app"
[[resource.template]]
src = "app.tmpl"
dst = "app.conf"
[resource.backend.file]
filepath = "{filepath}"
keys = ["/"]
watch = true
"#
        ),
    );
    prepare(&dir);
    let program = remco(&dir).start();
    wait_until("the first render", LIMIT, || dir.holds("app.conf", "first\n"));
    (dir, program)
}

fn greeting(text: &str) -> String {
    format!("{{\"greeting\": \"{text}\"}}")
}

fn wait_for(dir: &TempDir, text: &str) {
    wait_until(&format!("{text:?} is rendered"), LIMIT, || dir.holds("app.conf", &format!("{text}\n")));
}

#[test]
fn a_file_written_in_place_is_seen() {
    let (dir, program) = watching("data.json", |dir| dir.write("data.json", greeting("first")));
    for text in ["second", "third"] {
        dir.write("data.json", greeting(text));
        wait_for(&dir, text);
    }
    program.stop();
}

#[test]
fn a_file_renamed_over_is_seen() {
    let (dir, program) = watching("data.json", |dir| dir.write("data.json", greeting("first")));
    for text in ["second", "third"] {
        dir.replace("data.json", greeting(text));
        wait_for(&dir, text);
    }
    program.stop();
}

/// A ConfigMap in Kubernetes: the file is a link into `..data`, a link to a folder that is swapped as a whole.
#[test]
fn a_swapped_folder_behind_symlinks_is_seen() {
    let (dir, program) = watching("map/data.json", |dir| {
        dir.write("map/..1/data.json", greeting("first"));
        symlink("..1", dir.at("map/..data")).expect("the name is free");
        symlink("..data/data.json", dir.at("map/data.json")).expect("the name is free");
    });
    for (n, text) in [(2, "second"), (3, "third")] {
        dir.write(&format!("map/..{n}/data.json"), greeting(text));
        symlink(format!("..{n}"), dir.at("map/..data_tmp")).expect("the name is free");
        fs::rename(dir.at("map/..data_tmp"), dir.at("map/..data")).expect("same folder");
        fs::remove_dir_all(dir.at(&format!("map/..{}", n - 1))).expect("the kubelet removes the old one");
        wait_for(&dir, text);
    }
    program.stop();
}

#[test]
fn the_target_of_a_symlink_is_watched() {
    let (dir, program) = watching("link.json", |dir| {
        dir.write("real/data.json", greeting("first"));
        symlink("real/data.json", dir.at("link.json")).expect("the name is free");
    });
    dir.write("real/data.json", greeting("second"));
    wait_for(&dir, "second");
    dir.replace("real/data.json", greeting("third"));
    wait_for(&dir, "third");
    dir.write("other/data.json", greeting("fourth"));
    symlink("other/data.json", dir.at("link.new")).expect("the name is free");
    fs::rename(dir.at("link.new"), dir.at("link.json")).expect("same folder");
    wait_for(&dir, "fourth");
    dir.write("other/data.json", greeting("fifth"));
    wait_for(&dir, "fifth");
    program.stop();
}

#[test]
fn a_file_that_vanishes_keeps_its_data_until_it_is_back() {
    let (dir, program) = watching("data.json", |dir| dir.write("data.json", greeting("first")));
    fs::remove_file(dir.at("data.json")).expect("it is there");
    program.wait_for_log("failed to read `data.json`");
    assert!(dir.holds("app.conf", "first\n"));
    dir.write("data.json", greeting("second"));
    wait_for(&dir, "second");
    program.stop();
}

#[test]
fn a_broken_file_keeps_the_old_data() {
    let (dir, program) = watching("data.json", |dir| dir.write("data.json", greeting("first")));
    dir.write("data.json", "{\"greeting\": ");
    program.wait_for_log("ERROR");
    assert!(dir.holds("app.conf", "first\n"));
    dir.write("data.json", greeting("second"));
    wait_for(&dir, "second");
    program.stop();
}

/// What a file looks like that was cut, or that somebody has begun to write.
#[test]
fn an_empty_file_keeps_the_old_data_and_empty_brackets_do_not() {
    let (dir, program) = watching("data.yml", |dir| {
        dir.write("app.tmpl", "{{ getv(\"/greeting\", \"none\") }}\n");
        dir.write("data.yml", greeting("first"));
    });
    for nothing in ["", "# greeting: second\n"] {
        dir.write("data.yml", nothing);
        program.wait_for_log("expected a map at the top, found nothing");
        assert!(dir.holds("app.conf", "first\n"));
        dir.write("data.yml", greeting("second"));
        wait_for(&dir, "second");
        dir.write("data.yml", greeting("first"));
        wait_for(&dir, "first");
    }
    dir.write("data.yml", "{}");
    wait_for(&dir, "none");
    program.stop();
}

#[test]
fn a_folder_that_comes_back_is_watched_again() {
    let (dir, program) = watching("folder/data.json", |dir| dir.write("folder/data.json", greeting("first")));
    fs::rename(dir.at("folder"), dir.at("away")).expect("it is there");
    dir.write("folder/data.json", greeting("second"));
    wait_for(&dir, "second");
    dir.write("folder/data.json", greeting("third"));
    wait_for(&dir, "third");
    program.stop();
}

#[test]
fn a_file_that_is_not_there_yet_is_waited_for() {
    let dir = TempDir::new();
    dir.write("app.tmpl", "{{ getv(\"/greeting\") }}\n");
    dir.write(
        "config.toml",
        "[[resource]]\nname = \"app\"\n[[resource.template]]\nsrc = \"app.tmpl\"\ndst = \"app.conf\"\n\
         [resource.backend.file]\nfilepath = \"data.json\"\nkeys = [\"/\"]\nwatch = true\n",
    );
    let program = remco(&dir).start();
    program.wait_for_log("data.json");
    dir.replace("data.json", greeting("first"));
    wait_for(&dir, "first");
    program.stop();
}

/// A change of the template itself counts too, at the next interval.
#[test]
fn a_changed_template_is_rendered_at_the_interval() {
    let (dir, program) = watching("data.json", |dir| {
        dir.write("data.json", greeting("first"));
        let config = dir.read("config.toml").expect("just written");
        dir.write("config.toml", config.replace("watch = true", "interval = 1"));
    });
    dir.replace("app.tmpl", "{{ getv(\"/greeting\") }} again\n");
    wait_for(&dir, "first again");
    program.stop();
}

#[test]
fn two_hundred_writes_end_as_the_last() {
    let (dir, program) = watching("data.json", |dir| dir.write("data.json", greeting("first")));
    for n in 0..200 {
        if n % 3 == 0 {
            dir.replace("data.json", greeting(&format!("write {n}")));
        } else {
            dir.write("data.json", greeting(&format!("write {n}")));
        }
    }
    wait_for(&dir, "write 199");
    program.stop();
}

/// What a template includes belongs to it.
#[test]
fn a_changed_include_is_rendered_with_the_next_update() {
    let (dir, program) = watching("data.json", |dir| {
        dir.write("data.json", greeting("first"));
        dir.write("app.tmpl", "{% include \"part.tmpl\" %}");
        dir.write("part.tmpl", "{{ getv(\"/greeting\") }}\n");
    });
    dir.replace("part.tmpl", "{{ getv(\"/greeting\") }} included\n");
    dir.replace("data.json", greeting("second"));
    wait_for(&dir, "second included");
    program.stop();
}

#[test]
fn a_template_that_is_not_there_yet_is_waited_for() {
    let dir = TempDir::new();
    dir.write("data.json", greeting("first"));
    dir.write(
        "config.toml",
        "[[resource]]\nname = \"app\"\n[[resource.template]]\nsrc = \"app.tmpl\"\ndst = \"app.conf\"\n\
         [resource.backend.file]\nfilepath = \"data.json\"\nkeys = [\"/\"]\nwatch = true\n",
    );
    let program = remco(&dir).start();
    program.wait_for_log("app.tmpl");
    dir.replace("app.tmpl", "{{ getv(\"/greeting\") }}\n");
    wait_for(&dir, "first");
    program.stop();
}

/// A configuration with so many resources that watch `data.json`.
fn many(count: usize) -> TempDir {
    let dir = TempDir::new();
    dir.write("app.tmpl", "{{ getv(\"/greeting\") }}\n");
    dir.write("data.json", greeting("first"));
    dir.write("config.toml", (0..count).map(|n| on_file(&n.to_string(), "")).collect::<String>());
    dir
}

fn wait_for_all(dir: &TempDir, count: usize, text: &str) {
    let text = format!("{text}\n");
    wait_until(&format!("{text:?} is everywhere"), LIMIT, || (0..count).all(|n| dir.holds(&format!("{n}.out"), &text)));
}

/// The kernel gives all processes of a user 128 instances.
#[test]
fn all_resources_share_one_inotify_instance() {
    const COUNT: usize = 20;
    let dir = many(COUNT);
    let program = remco(&dir).start();
    wait_for_all(&dir, COUNT, "first");
    dir.write("data.json", greeting("second"));
    wait_for_all(&dir, COUNT, "second");
    let descriptors = fs::read_dir(format!("/proc/{}/fd", program.pid())).expect("it runs");
    let targets = descriptors.filter_map(|entry| fs::read_link(entry.ok()?.path()).ok());
    assert_eq!(targets.filter(|target| target.ends_with("anon_inode:inotify")).count(), 1);
    program.stop();
}

/// Files that the kernel refuses to watch are read by time, which is one warning and no failure of a resource.
#[test]
fn files_that_cannot_be_watched_are_read_by_time() {
    const COUNT: usize = 3;
    const RAISE: &str = "echo 1000 > /proc/sys/user/max_inotify_watches";
    let limited = ["unshare", "--user", "--map-root-user", "sh", "-c"];
    let allowed = Command::new(limited[0]).args(&limited[1..]).arg(RAISE).stderr(Stdio::null()).status();
    if !allowed.is_ok_and(|status| status.success()) {
        return skipped("this machine does not allow user namespaces");
    }
    let dir = many(COUNT);
    let lower = "echo 1 > /proc/sys/user/max_inotify_watches && exec \"$0\" \"$@\"";
    let program = remco(&dir).under(&[&limited[..], &[lower]].concat()).start();
    wait_for_all(&dir, COUNT, "first");
    let warning = program.wait_for_log("failed to watch files");
    assert!(warning.contains("WARN") && warning.contains("raise fs.inotify.max_user_watches"), "{warning}");
    dir.write("data.json", greeting("second"));
    let pid = program.pid().to_string();
    let raised = Command::new("nsenter").args(["-t", &pid, "-U", "--preserve-credentials", "sh", "-c", RAISE]).status();
    assert!(raised.is_ok_and(|status| status.success()));
    wait_for_all(&dir, COUNT, "second");
    program.wait_for_log("all files are watched again");
    dir.write("data.json", greeting("third"));
    wait_for_all(&dir, COUNT, "third");
    let log = program.stop();
    assert_eq!(log.iter().filter(|line| line.contains("failed to watch")).count(), 1, "{log:#?}");
    assert!(!log.iter().any(|line| line.contains("ERROR")), "{log:#?}");
}
