# shellcheck shell=bash
# What is said: a line for each change, one clear line for a failure, and the rest in a log.

log=/var/log/edge-daemon-install.log

say() { printf '%s\n' "$*"; }

fail() {
    trap - ERR
    printf 'install.sh: %s\n' "$*" >&2
    exit 1
}

# change WORDS COMMAND...: say a change and make it; in a dry run only say it.
change() {
    local words=$1
    shift
    if ((dry_run)); then
        say "would $words"
    else
        say "$words"
        "$@"
    fi
}

# quietly WORDS COMMAND...: run a talkative command; if it fails, its own last words say why.
quietly() {
    local words=$1
    shift
    printf '\n--- %(%F %T)T %s\n' -1 "$*" >> "$log"
    "$@" >> "$log" 2>&1 || fail "$words: $(last_words); all of it is in $log"
}

# The first error in the log's last part, or else its last line.
last_words() {
    awk '{ sub(/^ +/, "") }
         /^--- / { error = last = "" }
         /^(E|ERROR): / && !error { error = $0 }
         NF { last = $0 }
         END { print error ? error : last }' "$log"
}
