#!/usr/bin/env bash
# Installs, upgrades and removes edge-daemon on a Raspberry Pi; see --help.
# shellcheck source-path=SCRIPTDIR
set -Eeuo pipefail

here=$(dirname "$(realpath "${BASH_SOURCE[0]}")")
repository=$(dirname "$here")
source "$here/lib/output.sh"
source "$here/lib/answers.sh"
source "$here/lib/interactive.sh"
source "$here/lib/system.sh"
source "$here/lib/service.sh"
source "$here/lib/release.sh"
source "$here/lib/settings.sh"
source "$here/lib/removal.sh"

lock=/run/edge-daemon-install.lock # in a folder that only root can write
unfinished=''                      # a release to remove: incomplete, or rolled back
untried=''                         # a release that is current, and not known to be healthy

main() {
    trap 'fail "line $LINENO of ${BASH_SOURCE[0]##*/}: command failed: $BASH_COMMAND"' ERR
    trap 'exit 130' INT TERM HUP PIPE # PIPE: what reads the output has ended
    trap tidy EXIT
    PATH=$PATH:/usr/local/sbin:/usr/sbin:/sbin # su without a hyphen leaves them out
    # Settings in this shell's environment are not the service's.
    unset "${!EDGE_DAEMON_@}"
    read_answers "$@"
    check_rights
    if ((EUID == 0)); then
        take_lock
        if ((!dry_run)); then remove_leftovers; fi
    fi
    work=$(mktemp --directory --tmpdir="$work_folders" edge-daemon-install.XXXXXX)
    case $action in
        uninstall | purge) uninstall ;;
        *) install_release ;;
    esac
}

take_lock() {
    exec 9> "$lock"
    flock --nonblock 9 || fail "another installation is running; wait until it has finished"
}

install_release() {
    check_machine
    previous=$(installed_release)
    [[ $action == install || -n $previous ]] \
        || fail "--upgrade: edge-daemon is not installed; run install.sh without --upgrade"
    if ((interactive)) && [[ -e $configuration/config.toml ]]; then
        warn "--interactive: $configuration/config.toml exists; edit it instead"
        interactive=0
    fi
    if ((interactive)); then ask_answers; fi
    install_packages
    make_user
    make_release
    if ((interactive && !dry_run)); then try_answers; fi
    write_settings
    mapfile -t services < <(running_services)
    # An upgrade starts what ran before; an installation always starts the service.
    if [[ $action == install && " ${services[*]} " != *" edge-daemon.service "* ]]; then
        services+=(edge-daemon.service)
    fi
    if [[ $previous == "$release" && -z $password && ! -e $switching ]] && are_active "${services[@]}"; then
        info "${release##*/} is installed and running"
    else
        change "switch to ${release##*/} and start ${services[*]:-no service, as none was running}" \
            start_release
    fi
}

start_release() {
    # A version that was not healthy itself is not restored.
    if [[ -n $previous && $previous != "$release" ]] && are_active "${services[@]}"; then
        untried=$release
    fi
    if [[ -n $previous ]]; then link "$previous" "$switching"; fi
    switch_to "$release"
    refresh_example
    if [[ -z $previous ]]; then
        "$program" check || true # the service waits for a missing camera or broker
    fi
    if [[ $action == install ]]; then systemctl enable --quiet edge-daemon; fi
    start_services "${services[@]}"
    if become_healthy "${services[@]}"; then
        untried=''
        rm --force "$switching"
        remove_old_releases
        print_next_steps "${services[@]}"
    elif [[ -n $untried ]]; then
        fail_and_go_back
    else
        rm --force "$switching"
        systemctl is-failed --quiet "${services[@]}" || problem+='; it keeps trying'
        fail "edge-daemon is installed but not healthy: $problem"
    fi
}

fail_and_go_back() {
    local reason="${release##*/}: $problem"
    roll_back
    become_healthy "${services[@]}" \
        || fail "$reason; restored ${previous##*/}, which is not healthy either: $problem"
    fail "$reason; restored ${previous##*/}, which is running"
}

roll_back() {
    unfinished=$untried untried='' release=$previous
    info "restore ${previous##*/}"
    switch_to "$previous"
    rm --force "$switching"
    refresh_example
    start_services "${services[@]}"
}

tidy() {
    trap - ERR
    trap '' INT TERM HUP PIPE
    set +e # clean up as much as possible
    stop_progress
    if [[ -n $untried ]]; then roll_back; fi
    if [[ -n $unfinished ]]; then rm --recursive --force "$unfinished"; fi
    if [[ -n ${work:-} ]]; then rm --recursive --force "$work"; fi
}

main "$@"
