# shellcheck shell=bash
# The service: which release it runs, and whether it is healthy.

units=/etc/systemd/system
program=/usr/local/bin/edge-daemon
state=/var/lib/edge-daemon

steady=10   # seconds for which a service must have been up
few_tries=3 # restarts after which it is given up

installed_release() { if [[ -e $current ]]; then realpath "$current"; fi; }

# switch_to RELEASE: from the next start on, this one runs.
switch_to() {
    local extended
    ln --symbolic --no-dereference --force "releases/${1##*/}" "$current.new"
    mv --no-target-directory "$current.new" "$current"
    install --mode=644 "$1"/deploy/edge-daemon{,@}.service "$units"
    for extended in "$units"/edge-daemon{,@}.service.d; do
        install -D --mode=644 "$1/deploy/common.conf" "$extended/10-common.conf"
        # Older ones do not know its keys, and say so in the journal again and again.
        if systemd_is_since 254; then
            install --mode=644 "$1/deploy/back-off.conf" "$extended/20-back-off.conf"
        fi
    done
    install --mode=755 "$1/deploy/edge-daemon" "$program"
    systemctl daemon-reload
}

systemd_is_since() { (($(systemctl --version | sed --quiet '1s/^systemd \([0-9]*\).*/\1/p') >= $1)); }

# Services that are up or trying to be, one a line.
running_services() {
    systemctl list-units --plain --no-legend --state=active,activating,reloading \
        edge-daemon.service 'edge-daemon@*.service' | cut --delimiter=' ' --fields=1
}

# Whether there are services, and all of them are up.
are_active() {
    local service
    for service in "$@"; do
        systemctl is-active --quiet "$service" || return 1
    done
    (($#))
}

start_services() {
    (($#)) || return 0
    started_at=$(date +%s)
    systemctl stop "$@"
    systemctl reset-failed "$@" 2> /dev/null || true
    systemctl start --no-block "$@"
}

# Whether all of these become and stay healthy; `ails` says what is wrong with the first that is not.
become_healthy() {
    local service deadline=$((SECONDS + timeout))
    local -A now
    for service in "$@"; do
        if ! becomes_healthy "$service" "$deadline"; then
            ails=$(ailment_of "$service")
            return 1
        fi
    done
}

# Healthy is a service that told systemd that it is ready, and is the same process a while later.
becomes_healthy() {
    local service=$1 deadline=$2 pid='' since=0
    while ((SECONDS < deadline)); do
        look_at "$service"
        if [[ ${now[ActiveState]} == failed ]] || ((now[NRestarts] >= few_tries)); then
            return 1
        elif [[ ${now[ActiveState]} != active ]]; then
            pid=''
        elif [[ ${now[MainPID]} != "$pid" ]]; then
            pid=${now[MainPID]} since=$SECONDS
        elif ((SECONDS - since >= steady)); then
            return 0
        fi
        sleep 0.5
    done
    return 1
}

# Into `now`.
look_at() {
    local key value
    while IFS='=' read -r key value; do
        now[$key]=$value
    done < <(systemctl show "$1" --property=ActiveState,MainPID,NRestarts,StatusText,ExecMainStatus)
}

# What was seen of a service last, and its own last complaint.
ailment_of() {
    local seen="not ready within $timeout s" words
    if [[ ${now[ActiveState]} == failed ]]; then
        seen="failed with exit status ${now[ExecMainStatus]}"
    elif ((now[NRestarts])); then
        seen="died ${now[NRestarts]} times"
    fi
    words=$(journalctl --quiet --output=cat --lines=1 --priority=warning --since="@$started_at" \
        _SYSTEMD_UNIT="$1")
    words=${words:-${now[StatusText]}}
    echo "$1: $seen${words:+; $words}"
}
