#!/usr/bin/env bash
# Installs, upgrades and removes edge-daemon on a Raspberry Pi; --help says how.
# shellcheck source-path=SCRIPTDIR
set -Eeuo pipefail

here=$(dirname "$(realpath "${BASH_SOURCE[0]}")")
repository=$(dirname "$here")
source "$here/lib/output.sh"
source "$here/lib/answers.sh"
source "$here/lib/system.sh"
source "$here/lib/service.sh"
source "$here/lib/release.sh"
source "$here/lib/settings.sh"
source "$here/lib/removal.sh"

unfinished='' # a release that is of no use: half built, or rolled back
untried=''    # a release that was switched to, and that may turn out to be a bad one

main() {
    trap 'fail "line $LINENO of ${BASH_SOURCE[0]##*/}: this failed: $BASH_COMMAND"' ERR
    trap 'exit 130' INT TERM HUP
    trap tidy EXIT
    # Settings in this shell's environment are not the service's.
    unset "${!EDGE_DAEMON_@}"
    read_answers "$@"
    work=$(mktemp --directory --tmpdir=/var/tmp edge-daemon-install.XXXXXX)
    if ((EUID == 0)); then only_once; fi
    case $action in
        uninstall | purge) uninstall ;;
        *) install_release ;;
    esac
}

only_once() {
    exec 9> /run/lock/edge-daemon-install
    flock --nonblock 9 || fail "another installation is under way"
}

install_release() {
    check_machine
    previous=$(installed_release)
    [[ $action == install || -n $previous ]] || fail "--upgrade: edge-daemon is not installed here"
    install_packages
    make_user
    make_release
    write_settings
    mapfile -t services < <(running_services)
    # An upgrade starts what ran before; who installs wants the service to run.
    if [[ $action == install && " ${services[*]} " != *" edge-daemon.service "* ]]; then
        services+=(edge-daemon.service)
    fi
    if [[ $previous == "$release" && -z $password ]] && are_active "${services[@]}"; then
        say "${release##*/} is installed and runs"
    else
        change "switch to ${release##*/} and start ${services[*]:-nothing, as nothing ran}" start_release
    fi
}

start_release() {
    # Back to a version that was no better would mend nothing.
    if [[ -n $previous && $previous != "$release" ]] && are_active "${services[@]}"; then
        untried=$release
    fi
    switch_to "$release"
    refresh_example
    if [[ -z $previous ]]; then
        "$program" check || true # what is missing may come; the service waits for it
    fi
    if [[ $action == install ]]; then systemctl enable --quiet edge-daemon; fi
    start_services "${services[@]}"
    if become_healthy "${services[@]}"; then
        untried=''
        remove_old_releases
        tell_where_to_look
    elif [[ -n $untried ]]; then
        fail_and_go_back
    else
        fail "edge-daemon is installed and goes on trying, but gives no results: $ails"
    fi
}

fail_and_go_back() {
    local reason="${release##*/}: $ails"
    roll_back
    become_healthy "${services[@]}" \
        || fail "$reason; ${previous##*/} is put back, and not healthy either: $ails"
    fail "$reason; ${previous##*/} is put back, and runs"
}

roll_back() {
    unfinished=$untried untried='' release=$previous
    say "back to ${previous##*/}"
    switch_to "$previous"
    refresh_example
    start_services "${services[@]}"
}

tell_where_to_look() {
    say "edge-daemon runs.
  its state   systemctl status edge-daemon; sudo edge-daemon check
  its log     journalctl --unit=edge-daemon --follow
  settings    $configuration/config.toml; after a change: sudo systemctl reload edge-daemon
  messages    mosquitto_sub -v -t 'edge-daemon/#' -h BROKER"
}

tidy() {
    trap - ERR
    set +e # as much as can be is to be put right
    if [[ -n $untried ]]; then roll_back; fi
    if [[ -n $unfinished ]]; then rm --recursive --force "$unfinished"; fi
    if [[ -n ${work:-} ]]; then rm --recursive --force "$work"; fi
}

main "$@"
