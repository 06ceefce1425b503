//! The table of flags, the help that is made of it, and the advice for unknown flags. A row sets a field of [`Given`].
//! Parses no command line.

use std::ffi::OsString;

use super::Error;
use super::given::Given;
use crate::nearest::nearest;

/// One flag. Help, parsing and the suggestions for unknown flags come from these rows.
pub(super) struct Flag {
    /// The name with the dashes of the help. Every flag may have one dash or two.
    pub name: &'static str,
    pub takes: Takes,
    pub group: Group,
    /// A line of the help, without a full stop.
    pub help: &'static str,
}

/// The kind of a flag's value, and the field that the value sets.
pub(super) enum Takes {
    /// A boolean: `true` or `false` behind a `=`, or nothing, which means `true`.
    Switch(fn(&mut Given) -> &mut bool),
    /// A value, behind a `=` or as the next argument. An error is the text behind the flag's name.
    Value { name: &'static str, set: fn(&mut Given, OsString) -> Result<(), String> },
}

/// The headings of the help.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Group {
    Run,
    Look,
    Cron,
    Log,
    About,
}

pub(super) const GROUPS: &[(Group, &str)] = &[
    (Group::Run, "What to run"),
    (Group::Look, "Look only: nothing is written, also beside a running remco"),
    (Group::Cron, "When, and how long"),
    (Group::Log, "What to log"),
    (Group::About, "About remco"),
];

/// All flags, in the order of the help.
pub(super) const FLAGS: &[Flag] = &[
    Flag {
        name: "-config",
        takes: Takes::Value { name: "PATH", set: |given, path| given.set_config(path) },
        group: Group::Run,
        help: "the configuration file (/etc/remco/config)",
    },
    Flag {
        name: "-onetime",
        takes: Takes::Switch(|given| &mut given.onetime),
        group: Group::Run,
        help: "render everything once and exit",
    },
    Flag {
        name: "--only",
        takes: Takes::Value { name: "RESOURCE", set: |given, name| given.add_only(name) },
        group: Group::Run,
        help: "only the resources of this name (repeatable)",
    },
    Flag {
        name: "--override-guard",
        takes: Takes::Switch(|given| &mut given.override_guard),
        group: Group::Run,
        help: "accept a first update that a guard would refuse",
    },
    Flag {
        name: "--no-commands",
        takes: Takes::Switch(|given| &mut given.no_commands),
        group: Group::Run,
        help: "write files, run no check, reload, start or exec",
    },
    Flag {
        name: "--strict",
        takes: Takes::Switch(|given| &mut given.strict),
        group: Group::Run,
        help: "take unknown keys and unset variables for errors",
    },
    Flag {
        name: "--render-all",
        takes: Takes::Switch(|given| &mut given.render_all),
        group: Group::Run,
        help: "render all templates in each update",
    },
    Flag {
        name: "--check",
        takes: Takes::Switch(|given| &mut given.check),
        group: Group::Look,
        help: "check configuration and templates without a store",
    },
    Flag {
        name: "--dry-run",
        takes: Takes::Switch(|given| &mut given.dry_run),
        group: Group::Look,
        help: "print what would change as a diff, for patch -p1 -d /",
    },
    Flag {
        name: "--with-checks",
        takes: Takes::Switch(|given| &mut given.with_checks),
        group: Group::Look,
        help: "run check_cmd, on a file in a private directory",
    },
    Flag {
        name: "--render",
        takes: Takes::Value { name: "FILE", set: |given, file| given.set_render(file) },
        group: Group::Look,
        help: "print the result of one template",
    },
    Flag {
        name: "--data",
        takes: Takes::Value { name: "FILE", set: |given, file| given.set_data(file) },
        group: Group::Look,
        help: "its keys, in JSON or YAML, instead of a store's",
    },
    Flag {
        name: "--keys",
        takes: Takes::Switch(|given| &mut given.keys),
        group: Group::Look,
        help: "print the keys that templates see, and their backends",
    },
    Flag {
        name: "--explain",
        takes: Takes::Switch(|given| &mut given.explain),
        group: Group::Look,
        help: "print what each template reads, and what is missing",
    },
    Flag {
        name: "--splay",
        takes: Takes::Value { name: "TIME", set: |given, time| given.set_splay(time) },
        group: Group::Cron,
        help: "wait a random time below this before the start",
    },
    Flag {
        name: "--timeout",
        takes: Takes::Value { name: "TIME", set: |given, time| given.set_timeout(time) },
        group: Group::Cron,
        help: "with -onetime: fail what is not done after this time",
    },
    Flag {
        name: "--lock",
        takes: Takes::Value { name: "FILE", set: |given, file| given.set_lock(file) },
        group: Group::Cron,
        help: "with -onetime: wait while another run has this lock",
    },
    Flag {
        name: "--no-wait",
        takes: Takes::Switch(|given| &mut given.no_wait),
        group: Group::Cron,
        help: "with --lock: exit with 5 instead of waiting",
    },
    Flag {
        name: "--changed-exit",
        takes: Takes::Switch(|given| &mut given.changed_exit),
        group: Group::Cron,
        help: "with -onetime: exit with 6 if a file was replaced",
    },
    Flag {
        name: "--diff",
        takes: Takes::Switch(|given| &mut given.diff),
        group: Group::Log,
        help: "log what changes in each file that is replaced",
    },
    Flag {
        name: "--log-level",
        takes: Takes::Value { name: "LEVEL", set: |given, level| given.set_log_level(level) },
        group: Group::Log,
        help: "instead of the configuration's: trace to error, off",
    },
    Flag {
        name: "--log-format",
        takes: Takes::Value { name: "FORMAT", set: |given, format| given.set_log_format(format) },
        group: Group::Log,
        help: "instead of the configuration's: text or json",
    },
    Flag {
        name: "--status",
        takes: Takes::Switch(|given| &mut given.status),
        group: Group::About,
        help: "print the state of the running remco, and exit",
    },
    Flag {
        name: "--json",
        takes: Takes::Switch(|given| &mut given.json),
        group: Group::About,
        help: "print JSON, with --status, --keys or --explain",
    },
    Flag {
        name: "-version",
        takes: Takes::Switch(|given| &mut given.version),
        group: Group::About,
        help: "print the version and what is built in, and exit",
    },
    Flag {
        name: "-help",
        takes: Takes::Switch(|given| &mut given.help),
        group: Group::About,
        help: "print this text and exit (also -h)",
    },
];

/// The flag of a name without its dashes.
pub(super) fn flag(name: &str) -> Option<&'static Flag> {
    let name = if name == "h" { "help" } else { name };
    FLAGS.iter().find(|flag| flag.name.trim_start_matches('-') == name)
}

/// The output of `-h`.
pub fn help() -> String {
    let mut text = HELP_HEAD.to_owned();
    let left = |flag: &Flag| match flag.takes {
        Takes::Switch(_) => flag.name.to_owned(),
        Takes::Value { name, .. } => format!("{} {name}", flag.name),
    };
    let width = FLAGS.iter().map(|flag| left(flag).len()).max().unwrap_or(0);
    for (group, title) in GROUPS {
        text.push_str(&format!("\n{title}:\n"));
        for flag in FLAGS.iter().filter(|flag| flag.group == *group) {
            text.push_str(&format!("  {:width$}  {}\n", left(flag), flag.help));
        }
    }
    text + HELP_TAIL
}

const HELP_HEAD: &str = "\
Usage: remco [-config PATH] [FLAG ...]

Keeps configuration files in step with a key-value store: reads keys, renders
templates, checks the result, replaces the files and reloads services.
";

const HELP_TAIL: &str = "
Every flag may have one dash or two and its value behind a `=`: --config=PATH,
-onetime=false.

Exit status: 0, or with -onetime the number of resources that failed (at most
125); 1 if the configuration is wrong; 2 if the command line is; 5 if the lock
is held; 6 if a file was replaced. Where 5 or 6 can occur, any failure is 1.
With --status: 0 if all is well, 1 if a resource is not, 2 without status_file,
4 if no remco runs.
Flags that only look: 0, or 1 on failure; 3 if --dry-run finds a change.
";

/// Flags of confd, consul-template and others that have another name here.
const RENAMED: &[(&str, &str)] = &[
    ("once", "-onetime"),
    ("config-file", "-config"),
    ("confdir", "-config"),
    ("noop", "--dry-run"),
    ("dry", "--dry-run"),
    ("sync-only", "--no-commands"),
    ("parse-only", "--check"),
    ("test", "--check"),
    ("c", "-config"),
    ("v", "-version"),
    ("V", "-version"),
    ("debug", "--log-level"),
    ("verbose", "--log-level"),
];

/// Flags of confd and consul-template, and the keys of the configuration that replace them.
const CONFIGURED: &[(&str, &str)] = &[
    ("backend", "[resource.backend.NAME]"),
    ("client-ca-keys", "client_ca_keys"),
    ("client-cert", "client_cert"),
    ("client-key", "client_key"),
    ("consul-addr", "nodes"),
    ("exec", "[resource.exec]"),
    ("file", "[resource.backend.file]"),
    ("interval", "interval"),
    ("node", "nodes"),
    ("password", "password"),
    ("pid", "pid_file"),
    ("pid-file", "pid_file"),
    ("prefix", "prefix"),
    ("reload", "reload_cmd"),
    ("srv-domain", "srv_record"),
    ("srv-record", "srv_record"),
    ("template", "[[resource.template]]"),
    ("username", "username"),
    ("vault-addr", "nodes"),
    ("watch", "watch"),
];

/// The error for an unknown flag, with the probable flag or key.
pub(super) fn unknown(name: &str) -> Error {
    let bare = name.trim_start_matches('-');
    let renamed = RENAMED.iter().find(|(foreign, _)| *foreign == bare).map(|(_, known)| *known);
    let configured = CONFIGURED.iter().find(|(foreign, _)| *foreign == bare).map(|(_, key)| *key);
    let near = || nearest(name, FLAGS.iter().map(|flag| flag.name));
    let advice = match (renamed, configured) {
        (Some(known), _) => format!(", did you mean `{known}`?"),
        (None, Some(key)) => format!(": set `{key}` in the configuration file"),
        (None, None) => match near() {
            Some(known) => format!(", did you mean `{known}`?"),
            None => ": `remco -h` lists the flags".to_owned(),
        },
    };
    // Behind two dashes the name may begin with a third one.
    let dashes = if name.starts_with('-') { "--" } else { "-" };
    Error::new(format!("unknown flag `{dashes}{name}`{advice}"))
}
