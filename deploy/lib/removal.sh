# shellcheck shell=bash
# Removal. System packages stay.

uninstall() {
    if [[ $action == purge ]]; then change "remove the devices from Home Assistant" leave_home_assistant; fi
    change "stop and remove the services" remove_services
    change "remove $prefix and $program" rm --recursive --force "$prefix" "$cache" "$program"
    if [[ $action == purge ]]; then
        change "remove $configuration, $state and the user $user" remove_traces
    else
        info "kept $configuration and $state; --purge removes them"
    fi
}

# The devices of all services; that of edge-daemon@NAME is NAME.
leave_home_assistant() {
    [[ -x $program ]] || return 0
    local service name
    while read -r service; do
        name=${service#edge-daemon} name=${name%.service}
        if [[ -z $name ]]; then
            remove_device
        elif [[ -e $configuration/${name#@}.toml ]]; then
            remove_device --config "$configuration/${name#@}.toml" --set "device_id=${name#@}"
        fi
    done < <(all_services)
}

remove_device() {
    timeout 30 "$program" homeassistant remove "$@" < /dev/null > /dev/null 2> "$work/problems" \
        || warn "Home Assistant may still show the device: $(output_of "$work/problems")"
}

remove_services() {
    local services
    mapfile -t services < <(all_services)
    systemctl disable --quiet --now "${services[@]}" 2> /dev/null || true
    rm --force "$units"/edge-daemon{,@}.service \
        "$units"/edge-daemon{,@}.service.d/{10-common,20-back-off}.conf
    rmdir --ignore-fail-on-non-empty "$units"/edge-daemon{,@}.service.d 2> /dev/null || true
    systemctl daemon-reload
    systemctl reset-failed "${services[@]}" 2> /dev/null || true
}

# Including disabled ones, and those that only their settings remain of.
all_services() {
    local file
    echo edge-daemon.service
    {
        for file in "$configuration"/*.toml; do
            case ${file##*/} in
                '*.toml' | config.toml | *.example.toml) ;;
                *) echo "edge-daemon@$(basename "$file" .toml).service" ;;
            esac
        done
        systemctl list-units --all --plain --no-legend 'edge-daemon@*.service'
        systemctl list-unit-files --plain --no-legend 'edge-daemon@?*.service' || true
    } | cut --delimiter=' ' --fields=1 | sort --unique
}

remove_traces() {
    rm --recursive --force "$configuration" "$state" "$stored_password" "$log" \
        "$units"/edge-daemon{,@*}.service.d
    if getent passwd "$user" > /dev/null; then userdel "$user"; fi
}
