# shellcheck shell=bash
# Settings: a first file from the answers; afterwards it is the owner's, and never changed again.

configuration=/etc/edge-daemon
example=$configuration/config.example.toml
stored_password=/etc/credstore/edge-daemon.mqtt-password

# Before anything is switched: settings that this release refuses leave the old one running.
write_settings() {
    if [[ -e $configuration/config.toml ]]; then
        check_settings
        check_user
        tell_unused_answers
    else
        change "write $configuration/config.toml" write_config
    fi
    if [[ -n $password ]]; then
        change "keep the broker's password in $stored_password" store_password
    fi
}

write_config() {
    local words=("${more_settings[@]}")
    if [[ -n $source_spec ]]; then words+=(--source "$source_spec"); fi
    if [[ -n $device_id ]]; then words+=(--set "device_id=$device_id"); fi
    if [[ -n $broker_host ]]; then words+=(--set "mqtt.host=$broker_host"); fi
    if [[ -n $broker_port ]]; then words+=(--set "mqtt.port=$broker_port"); fi
    if [[ -n $username ]]; then words+=(--set "mqtt.username=$username"); fi
    "$release/bin/edge-daemon" config --example "${words[@]}" \
        > "$work/config.toml" 2> "$work/problems" || fail "$(what_it_said "$work/problems")"
    install --directory --mode=755 "$configuration"
    # A stream's address may hold a password.
    install --mode=640 --group="$user" "$work/config.toml" "$configuration"
}

check_settings() {
    [[ -x $release/bin/edge-daemon ]] || return 0 # a dry run has built none
    local file
    for file in "$configuration"/*.toml; do
        "$release/bin/edge-daemon" config --config "$file" > /dev/null 2> "$work/problems" \
            || fail "this version refuses $file; nothing was changed: $(what_it_said "$work/problems")"
    done
}

# A password without its user is refused by the program, which then would not start.
check_user() {
    [[ -n $username && -x $release/bin/edge-daemon ]] || return 0
    "$release/bin/edge-daemon" config --config "$configuration/config.toml" \
        | grep --quiet --fixed-strings --line-regexp "username = \"$username\"" \
        || fail "--credentials: first set mqtt.username to $username in $configuration/config.toml"
}

# The program's own words, in one line.
what_it_said() { sed 's/^edge-daemon: //' "$1" | paste --serial --delimiters=';' | sed 's/;/; /g'; }

tell_unused_answers() {
    if [[ -n $source_spec$device_id$broker_host${more_settings[*]} ]]; then
        say "$configuration/config.toml is there already, and was not changed by what you answered"
    fi
}

store_password() {
    install --directory --mode=700 "${stored_password%/*}"
    (umask 077 && printf '%s\n' "$password" > "$stored_password.new")
    mv "$stored_password.new" "$stored_password"
}

# A fresh example beside the settings; which keys it has that the last one had not.
refresh_example() {
    local news=''
    "$release/bin/edge-daemon" config --example > "$work/example.toml"
    if [[ -e $example ]]; then
        news=$(comm -13 <(keys_of "$example") <(keys_of "$work/example.toml") | paste --serial --delimiters=' ')
    fi
    install --mode=644 "$work/example.toml" "$example"
    if [[ -n $news ]]; then say "new settings, explained in $example: $news"; fi
}

# The keys of an example file, each with its section: mqtt.host
keys_of() {
    sed --quiet --regexp-extended \
        -e '/^\[/ { s/^\[(.*)\]$/\1./; h }' \
        -e '/^#?[a-z_]+ = / { s/^#?([a-z_]+) = .*/\1/; G; s/(.*)\n(.*)/\2\1/; p }' "$1" | LC_ALL=C sort
}
