# Completion of remco for bash.
# Made of the table of flags by UPDATE_SNAPSHOTS=1 cargo test --lib cli
_remco() {
    local word=${COMP_WORDS[COMP_CWORD]} before=${COMP_WORDS[COMP_CWORD - 1]}
    case $before in
        -config | --config) compopt -o filenames && mapfile -t COMPREPLY < <(compgen -f -- "$word") && return ;;
        -only | --only) COMPREPLY=() && return ;;
        -render | --render) compopt -o filenames && mapfile -t COMPREPLY < <(compgen -f -- "$word") && return ;;
        -data | --data) compopt -o filenames && mapfile -t COMPREPLY < <(compgen -f -- "$word") && return ;;
        -splay | --splay) COMPREPLY=() && return ;;
        -timeout | --timeout) COMPREPLY=() && return ;;
        -lock | --lock) compopt -o filenames && mapfile -t COMPREPLY < <(compgen -f -- "$word") && return ;;
        -log-level | --log-level) mapfile -t COMPREPLY < <(compgen -W "trace debug info warn error off" -- "$word") && return ;;
        -log-format | --log-format) mapfile -t COMPREPLY < <(compgen -W "text json" -- "$word") && return ;;
    esac
    local flags=
    case $word in
        --*) flags="--config --onetime --only --override-guard --no-commands --strict --render-all --check --dry-run --with-checks --render --data --keys --explain --splay --timeout --lock --no-wait --changed-exit --diff --log-level --log-format --status --json --version --help" ;;
        -?*) flags="-config -onetime -only -override-guard -no-commands -strict -render-all -check -dry-run -with-checks -render -data -keys -explain -splay -timeout -lock -no-wait -changed-exit -diff -log-level -log-format -status -json -version -help" ;;
        *) flags="-config -onetime --only --override-guard --no-commands --strict --render-all --check --dry-run --with-checks --render --data --keys --explain --splay --timeout --lock --no-wait --changed-exit --diff --log-level --log-format --status --json -version -help" ;;
    esac
    mapfile -t COMPREPLY < <(compgen -W "$flags" -- "$word")
}
complete -F _remco remco
