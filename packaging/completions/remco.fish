# Completion of remco for fish.
# Made of the table of flags by UPDATE_SNAPSHOTS=1 cargo test --lib cli
complete -c remco -f
complete -c remco -o config -l config -r -F -d 'the configuration file (/etc/remco/config)'
complete -c remco -o onetime -l onetime -d 'render everything once and exit'
complete -c remco -o only -l only -x -d 'only the resources of this name (repeatable)'
complete -c remco -o override-guard -l override-guard -d 'accept a first update that a guard would refuse'
complete -c remco -o strict -l strict -d 'take unknown keys and unset variables for errors'
complete -c remco -o render-all -l render-all -d 'render all templates in each update'
complete -c remco -o splay -l splay -x -d 'wait a random time below this before the start'
complete -c remco -o timeout -l timeout -x -d 'with -onetime: fail what is not done after this time'
complete -c remco -o lock -l lock -r -F -d 'with -onetime: wait while another run has this lock'
complete -c remco -o no-wait -l no-wait -d 'with --lock: exit with 5 instead of waiting'
complete -c remco -o changed-exit -l changed-exit -d 'with -onetime: exit with 6 if a file was replaced'
complete -c remco -o log-level -l log-level -x -a 'trace debug info warn error off' -d 'instead of the configuration\'s: trace to error, off'
complete -c remco -o log-format -l log-format -x -a 'text json' -d 'instead of the configuration\'s: text or json'
complete -c remco -o version -l version -d 'print the version and what is built in, and exit'
complete -c remco -o help -l help -d 'print this text and exit (also -h)'
