//! The completions of shells in packaging/completions, generated from the table of flags and compared with the files.
//! `UPDATE_SNAPSHOTS=1 cargo test --lib cli` writes them.

use std::path::Path;

use super::flags::{FLAGS, Flag, Takes};

#[test]
fn completions_are_those_of_the_flags() {
    for (file, text) in [("remco.bash", bash()), ("_remco", zsh()), ("remco.fish", fish())] {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("packaging/completions").join(file);
        if std::env::var_os("UPDATE_SNAPSHOTS").is_some() {
            std::fs::write(&path, &text).expect("the completions can be written");
        }
        let was = std::fs::read_to_string(&path).expect("the completions are in the tree");
        assert_eq!(text, was, "{file}: run this test with UPDATE_SNAPSHOTS=1");
    }
}

/// The value of a flag.
enum Value {
    /// The flag is a switch.
    No,
    File,
    Words(&'static str),
    /// Anything.
    Text,
}

fn value(flag: &Flag) -> Value {
    match flag.takes {
        Takes::Switch(_) => Value::No,
        Takes::Value { name: "PATH" | "FILE", .. } => Value::File,
        Takes::Value { name: "LEVEL", .. } => Value::Words("trace debug info warn error off"),
        Takes::Value { name: "FORMAT", .. } => Value::Words("text json"),
        Takes::Value { .. } => Value::Text,
    }
}

/// The name without its dashes.
fn bare(flag: &Flag) -> &'static str {
    flag.name.trim_start_matches('-')
}

fn head(comment: &str) -> String {
    format!("{comment}\n# Made of the table of flags by UPDATE_SNAPSHOTS=1 cargo test --lib cli\n")
}

fn bash() -> String {
    let mut text = head("# Completion of remco for bash.");
    text += "_remco() {\n    local word=${COMP_WORDS[COMP_CWORD]} before=${COMP_WORDS[COMP_CWORD - 1]}\n    case $before in\n";
    for flag in FLAGS {
        let name = bare(flag);
        let reply = match value(flag) {
            Value::No => continue,
            Value::File => "compopt -o filenames && mapfile -t COMPREPLY < <(compgen -f -- \"$word\")".to_owned(),
            Value::Words(words) => format!("mapfile -t COMPREPLY < <(compgen -W \"{words}\" -- \"$word\")"),
            Value::Text => "COMPREPLY=()".to_owned(),
        };
        text += &format!("        -{name} | --{name}) {reply} && return ;;\n");
    }
    let names = |dashes: &str| FLAGS.iter().map(|flag| format!("{dashes}{}", bare(flag))).collect::<Vec<_>>().join(" ");
    let shown = FLAGS.iter().map(|flag| flag.name).collect::<Vec<_>>().join(" ");
    text += "    esac\n    local flags=\n    case $word in\n";
    text += &format!("        --*) flags=\"{}\" ;;\n", names("--"));
    text += &format!("        -?*) flags=\"{}\" ;;\n", names("-"));
    text += &format!("        *) flags=\"{shown}\" ;;\n");
    text + "    esac\n    mapfile -t COMPREPLY < <(compgen -W \"$flags\" -- \"$word\")\n}\ncomplete -F _remco remco\n"
}

fn zsh() -> String {
    let mut text = head("#compdef remco");
    text += "_arguments \\\n";
    for flag in FLAGS {
        let (name, help) = (bare(flag), flag.help.replace('\'', "'\\''").replace('[', "(").replace(']', ")"));
        let rest = match (&flag.takes, value(flag)) {
            (Takes::Value { name, .. }, Value::File) => format!(":{name}:_files"),
            (Takes::Value { name, .. }, Value::Words(words)) => format!(":{name}:({words})"),
            (Takes::Value { name, .. }, _) => format!(":{name}: "),
            (Takes::Switch(_), _) => String::new(),
        };
        let instead = if flag.help.contains("repeatable") { "*".to_owned() } else { format!("(-{name} --{name})") };
        text += &format!("    '{instead}'{{-{name},--{name}}}'[{help}]{rest}' \\\n");
    }
    text + "    '*: :'\n"
}

fn fish() -> String {
    let mut text = head("# Completion of remco for fish.");
    text += "complete -c remco -f\n";
    for flag in FLAGS {
        let (name, help) = (bare(flag), flag.help.replace('\\', "\\\\").replace('\'', "\\'"));
        let rest = match value(flag) {
            Value::No => String::new(),
            Value::File => " -r -F".to_owned(),
            Value::Words(words) => format!(" -x -a '{words}'"),
            Value::Text => " -x".to_owned(),
        };
        text += &format!("complete -c remco -o {name} -l {name}{rest} -d '{help}'\n");
    }
    text
}
