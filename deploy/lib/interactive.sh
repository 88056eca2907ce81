# shellcheck shell=bash
# Questions for a first installation, and a test of the answers before they become settings.

# Before the long step; only what is needed to continue. Repeated until the answers are valid.
ask_answers() {
    ask_questions
    find_problems
    while ((${#problems[@]})); do
        warn "$(printf '%s\n' "${problems[@]}" | in_one_line)"
        ask_questions
        find_problems
    done
}

ask_questions() {
    info "Press Enter to accept the value in brackets."
    list_cameras
    ask source_spec "Camera: picamera, /dev/videoN, an RTSP or HTTP address" \
        "${source_spec:-$(likely_camera)}"
    ask broker "MQTT broker: HOST or HOST:PORT" "${broker:-localhost}"
    split_broker
    report_reachability
    if [[ -z $credentials ]]; then
        ask username "User name at the broker (empty: none)" ''
        if [[ -n $username ]]; then ask_secret password "Password"; fi
    fi
    ask device_id "Device name in topics" "${device_id:-$(default_device_id)}"
}

# The host name, as the program uses it.
default_device_id() {
    local name
    name=$(hostname)
    name=${name%%.*}
    echo "${name//[^A-Za-z0-9_-]/-}"
}

# ask VARIABLE QUESTION DEFAULT: without spaces around the answer.
ask() {
    local answer
    read -r -p "$2 [$3]: " answer || fail "--interactive: input ended"
    printf -v "$1" '%s' "${answer:-$3}"
}

ask_secret() {
    local answer
    IFS= read -r -s -p "$2: " answer || fail "--interactive: input ended"
    echo
    printf -v "$1" '%s' "$answer"
}

# confirm QUESTION: whether the answer begins with y.
confirm() {
    local answer
    IFS= read -r -p "$1 [y/N]: " answer || return 1
    [[ $answer == [yY]* ]]
}

list_cameras() {
    local command device
    for command in rpicam-hello libcamera-hello; do
        if command -v "$command" > /dev/null; then
            "$command" --list-cameras 2> /dev/null || true
            break
        fi
    done
    for device in /dev/video[0-9]; do
        if [[ -e $device ]]; then info "  $device: $(video_name "$device")"; fi
    done
}

video_name() { cat "/sys/class/video4linux/${1##*/}/name" 2> /dev/null || echo 'video device'; }

# On a Raspberry Pi its own camera; elsewhere the first video device.
likely_camera() {
    if [[ -e /dev/video0 && ! -e /proc/device-tree/model ]]; then
        echo /dev/video0
    else
        echo picamera
    fi
}

report_reachability() {
    local port=${broker_port:-1883}
    if timeout 5 bash -c 'exec 3<> "/dev/tcp/$0/$1"' "$broker_host" "$port" 2> /dev/null; then
        info "  $broker_host:$port accepts connections"
    else
        warn "$broker_host:$port does not accept connections; check the name, the port and the broker"
    fi
}

# With the new release: takes an image, connects to the broker and logs in.
try_answers() {
    while ! settings_work; do
        if confirm "Change the answers?"; then
            credentials='' username='' password=''
            ask_answers
        elif confirm "Install with these answers anyway?"; then
            return
        else
            fail "--interactive: cancelled; no settings were written"
        fi
    done
}

settings_work() {
    collect_settings
    if [[ -n $username ]]; then
        (umask 077 && printf '%s\n' "$password" > "$work/password")
        chosen+=("mqtt.password_file=$work/password")
    fi
    mkdir --parents "$work/state"
    chosen+=("state_dir=$work/state")
    "$release/bin/edge-daemon" check "${chosen[@]/#/--set=}"
}
