# shellcheck shell=bash
# Output: a line for each change, one line for a failure; details go into a log file.

log=/var/log/edge-daemon-install.log
progress_interval=15 # seconds between two lines of progress, without a terminal

info() { printf '%s\n' "$*"; }

warn() { printf 'install.sh: warning: %s\n' "$*" >&2; }

fail() {
    trap - ERR
    printf 'install.sh: %s\n' "$*" >&2
    exit 1
}

# Several messages in one line.
in_one_line() { paste --serial --delimiters=';' | sed 's/; */; /g'; }

# change TEXT COMMAND...: print a change and make it; in a dry run only print it.
change() {
    local text=$1
    shift
    if ((dry_run)); then
        info "would $text"
    else
        info "$text"
        "$@"
    fi
}

# quietly TEXT COMMAND...: log a command's output and show its progress; report why it fails.
quietly() {
    local text=$1 exit_code=0
    shift
    printf '\n--- %(%F %T)T %s\n' -1 "$*" >> "$log"
    show_progress &
    progress=$!
    "$@" >> "$log" 2>&1 || exit_code=$?
    stop_progress
    ((exit_code == 0)) || fail "$text: $(last_error); see $log"
}

# Until it is stopped: the time so far and the log's last line, in place on a terminal.
show_progress() {
    trap - ERR EXIT INT TERM HUP PIPE
    local started=$SECONDS pause=$progress_interval
    if [[ -t 1 ]]; then pause=1; fi
    while kill -0 $$ 2> /dev/null; do
        # A sleep without a process, which would outlive this one.
        read -r -t "$pause" <> <(:) || true
        if [[ -t 1 ]]; then
            printf '\r\033[K  %d s  %.60s' "$((SECONDS - started))" "$(tail --lines=1 "$log")"
        else
            printf '  still running after %d s\n' "$((SECONDS - started))"
        fi
    done
} 9>&- # the lock is not its own

stop_progress() {
    [[ -n ${progress:-} ]] || return 0
    kill "$progress" 2> /dev/null || true
    wait "$progress" 2> /dev/null || true
    progress=''
    if [[ -t 1 ]]; then printf '\r\033[K'; fi
}

# The first error of the last command in the log, also one of Python, or else its last line.
last_error() {
    awk '{ sub(/^ +/, "") }
         /^--- / { error = last = "" }
         /^(E|ERROR|[[:alpha:]]*Error): / && !error { error = $0 }
         NF { last = $0 }
         END { print error ? error : last }' "$log"
}
