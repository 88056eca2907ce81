# shellcheck shell=bash
# The service: the release that it runs, and its health.

units=/etc/systemd/system
program=/usr/local/bin/edge-daemon
state=/var/lib/edge-daemon

stable_s=10    # seconds for which a healthy service has been up
max_restarts=3 # restarts after which a service counts as failed

# The release that runs, or that ran before an installer was killed in the switch to another one.
installed_release() {
    local link
    for link in "$switching" "$current"; do
        if [[ -e $link ]]; then
            realpath "$link"
            return
        fi
    done
}

# switch_to RELEASE: the next start runs this one.
switch_to() {
    local extended
    link "$1" "$current"
    install --mode=644 "$1"/deploy/edge-daemon{,@}.service "$units"
    for extended in "$units"/edge-daemon{,@}.service.d; do
        install -D --mode=644 "$1/deploy/common.conf" "$extended/10-common.conf"
        # Older versions log a warning for each unknown key.
        if systemd_is_since 254; then
            install --mode=644 "$1/deploy/back-off.conf" "$extended/20-back-off.conf"
        fi
    done
    install --mode=755 "$1/deploy/edge-daemon" "$program"
    systemctl daemon-reload
}

# link RELEASE SYMLINK: replace the symlink in one step.
link() {
    ln --symbolic --no-dereference --force "releases/${1##*/}" "$2.new"
    mv --no-target-directory "$2.new" "$2"
}

systemd_is_since() { (($(systemctl --version | sed --quiet '1s/^systemd \([0-9]*\).*/\1/p') >= $1)); }

# Active and starting services, one per line.
running_services() {
    systemctl list-units --plain --no-legend --state=active,activating,reloading \
        edge-daemon.service 'edge-daemon@*.service' | cut --delimiter=' ' --fields=1
}

# Whether there are services, and all of them are active.
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

# Whether all services become and stay healthy; `problem` describes the first that does not.
become_healthy() {
    local service deadline=$((SECONDS + timeout))
    local -A now
    for service in "$@"; do
        if ! becomes_healthy "$service" "$deadline"; then
            problem=$(problem_of "$service")
            return 1
        fi
    done
}

# A healthy service has notified systemd that it is ready, and is the same process a while later.
becomes_healthy() {
    local service=$1 deadline=$2 pid='' since=0
    # One that is active at the deadline has the rest of its time.
    while [[ -n $pid ]] || ((SECONDS < deadline)); do
        look_at "$service"
        if [[ ${now[ActiveState]} == failed ]] || ((now[NRestarts] >= max_restarts)); then
            return 1
        elif [[ ${now[ActiveState]} != active ]]; then
            pid=''
        elif [[ ${now[MainPID]} != "$pid" ]]; then
            pid=${now[MainPID]} since=$SECONDS
        elif ((SECONDS - since >= stable_s)); then
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

# The last state of a service, and its last warning; of one that still starts, what it waits for.
problem_of() {
    local state message
    message=$(journalctl --quiet --output=cat --lines=1 --priority=warning --since="@$started_at" \
        _SYSTEMD_UNIT="$1")
    if [[ ${now[ActiveState]} == failed ]]; then
        state="failed with exit status ${now[ExecMainStatus]}"
    elif ((now[NRestarts])); then
        state="exited ${now[NRestarts]} times"
    else
        state="not ready within $timeout s"
        message=${message:-${now[StatusText]}}
    fi
    echo "$1: $state${message:+; $message}"
}

# print_next_steps SERVICE...: those that were started.
print_next_steps() {
    if (($#)); then
        info "edge-daemon is running."
    else
        info "edge-daemon is installed but not started, since it was not running before.
  start       sudo systemctl start edge-daemon"
    fi
    info "  status      systemctl status edge-daemon; sudo edge-daemon check
  log         journalctl --unit=edge-daemon --follow
  settings    $configuration/config.toml; after a change: sudo systemctl reload edge-daemon
  messages    mosquitto_sub -v -t 'edge-daemon/#' -h BROKER"
}
