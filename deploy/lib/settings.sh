# shellcheck shell=bash
# Settings: the installer writes a first file from the answers, and never changes it afterwards.

configuration=/etc/edge-daemon
example=$configuration/config.example.toml
stored_password=/etc/credstore/edge-daemon.mqtt-password

# Before the switch: settings that the new release rejects leave the old one running.
write_settings() {
    if [[ -e $configuration/config.toml ]]; then
        check_settings
        check_user
        report_unused_answers
    else
        change "write $configuration/config.toml" write_config
    fi
    if [[ -n $password ]]; then
        change "store the broker's password in $stored_password" store_password
    fi
}

write_config() {
    collect_settings
    "$release/bin/edge-daemon" config --example "${chosen[@]/#/--set=}" \
        > "$work/config.toml" 2> "$work/problems" || fail "$(output_of "$work/problems")"
    install --directory --mode=755 "$configuration"
    # A stream's address may contain a password.
    # In one step, as a later run keeps what is there.
    install --mode=640 --group="$user" "$work/config.toml" "$configuration/config.toml.new"
    mv "$configuration/config.toml.new" "$configuration/config.toml"
}

check_settings() {
    [[ -x $release/bin/edge-daemon ]] || return 0 # a dry run builds none
    local file
    for file in "$configuration"/*.toml; do
        check_readable "$file"
        "$release/bin/edge-daemon" config --config "$file" > /dev/null 2> "$work/problems" \
            || fail "this version refuses $file; nothing was changed: $(output_of "$work/problems")"
    done
}

# The service reads its settings as its own user.
check_readable() {
    ((EUID == 0)) || return 0
    runuser --user="$user" -- test -r "$1" || fail "$1: not readable by the user $user \
(got $(stat --format='mode %a, %U:%G' "$1")); nothing was changed; chgrp $user and chmod 640 it"
}

# The program refuses a password without its user name, and would not start.
check_user() {
    [[ -n $username && -x $release/bin/edge-daemon ]] || return 0
    local command=("$release/bin/edge-daemon" config --config "$configuration/config.toml")
    [[ $("${command[@]}") == "$("${command[@]}" --set "mqtt.username=$username")" ]] \
        || fail "--credentials: first set mqtt.username to $username in $configuration/config.toml"
}

# The program's messages, in one line.
output_of() { sed 's/^edge-daemon: //' "$1" | in_one_line; }

report_unused_answers() {
    if [[ -n $source_spec$device_id$broker_host${more_settings[*]} ]]; then
        warn "$configuration/config.toml exists and was not changed; edit it to apply your options"
    fi
}

store_password() {
    install --directory --mode=700 "${stored_password%/*}"
    (umask 077 && printf '%s\n' "$password" > "$stored_password.new")
    mv "$stored_password.new" "$stored_password"
}

# Writes the example file, and reports keys that the previous one did not have.
refresh_example() {
    local new_keys=''
    "$release/bin/edge-daemon" config --example > "$work/example.toml"
    if [[ -e $example ]]; then
        new_keys=$(comm -13 <(keys_of "$example") <(keys_of "$work/example.toml") | paste --serial --delimiters=' ')
    fi
    install --mode=644 "$work/example.toml" "$example"
    if [[ -n $new_keys ]]; then info "new settings, explained in $example: $new_keys"; fi
}

# The keys of an example file, each with its section: mqtt.host
keys_of() {
    sed --quiet --regexp-extended \
        -e '/^\[/ { s/^\[(.*)\]$/\1./; h }' \
        -e '/^#?[a-z_]+ = / { s/^#?([a-z_]+) = .*/\1/; G; s/(.*)\n(.*)/\2\1/; p }' "$1" | LC_ALL=C sort
}
