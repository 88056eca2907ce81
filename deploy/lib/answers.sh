# shellcheck shell=bash
# The command line and the environment: the action and its options.

usage() {
    cat << 'END'
Usage: sudo deploy/install.sh [ACTION] [OPTION]...

Installs edge-daemon as a service on Raspberry Pi OS or Debian and starts it. An installed version
is upgraded; if the new version does not become healthy, the old one is restored.

Actions
  --interactive   ask for the settings of a first installation, and test camera and broker
  --upgrade       upgrade only; fails if edge-daemon is not installed
  --uninstall     remove the program; keep settings and state
  --purge         remove the program, settings and state
  --dry-run       with any action: print the changes without making them
  --help          print this text

Settings of a first installation (option or environment variable)
  --source SPEC          INSTALL_SOURCE       picamera (default), /dev/video0, rtsp://…
  --broker HOST[:PORT]   INSTALL_BROKER       MQTT broker (default: localhost)
  --credentials FILE     INSTALL_CREDENTIALS  user name and, in a second line, password
  --device-id NAME       INSTALL_DEVICE_ID    name in topics (default: the host name)
  --set KEY=VALUE                             any other setting, such as capture.fps=10

Installation
  --wheelhouse FOLDER    INSTALL_WHEELHOUSE   packages from make-wheelhouse.sh; needs no network
  --timeout SECONDS      INSTALL_TIMEOUT      time for the service to become healthy (default: 120)
END
}

read_answers() {
    action=install dry_run=0 interactive=0
    source_spec=${INSTALL_SOURCE:-} broker=${INSTALL_BROKER:-} device_id=${INSTALL_DEVICE_ID:-}
    credentials=${INSTALL_CREDENTIALS:-} wheelhouse=${INSTALL_WHEELHOUSE:-}
    timeout=${INSTALL_TIMEOUT:-120} more_settings=()
    while (($#)); do
        case $1 in
            --upgrade | --uninstall | --purge) action=${1#--} ;;
            --dry-run) dry_run=1 ;;
            --interactive) interactive=1 ;;
            --*=*)
                set -- "${1%%=*}" "${1#*=}" "${@:2}"
                continue
                ;;
            --source | --broker | --credentials | --device-id | --set | --wheelhouse | --timeout)
                (($# > 1)) || fail "$1: option requires a value; see --help"
                take_answer "$1" "$2"
                shift
                ;;
            -h | --help)
                usage
                exit
                ;;
            *) fail "$1: unknown option; see --help" ;;
        esac
        shift
    done
    check_answers
}

take_answer() {
    case $1 in
        --source) source_spec=$2 ;;
        --broker) broker=$2 ;;
        --credentials) credentials=$2 ;;
        --device-id) device_id=$2 ;;
        --set) more_settings+=("$2") ;;
        --wheelhouse) wheelhouse=$2 ;;
        --timeout) timeout=$2 ;;
    esac
}

check_answers() {
    [[ $timeout =~ ^[1-9][0-9]*$ ]] \
        || fail "--timeout: invalid value (got $timeout); use a whole number of seconds"
    [[ -z $wheelhouse || -d $wheelhouse ]] \
        || fail "--wheelhouse: no such folder (got $wheelhouse); create it with make-wheelhouse.sh"
    if ((interactive)) && [[ ! -t 0 || ! -t 1 ]]; then
        fail "--interactive: not a terminal; use the options of --help instead"
    fi
    split_broker
    username='' password=''
    if [[ -n $credentials ]]; then read_credentials; fi
    find_problems
    if ((${#problems[@]})); then fail "$(printf '%s\n' "${problems[@]}" | in_one_line)"; fi
}

# The answers as KEY=VALUE, in `chosen`.
collect_settings() {
    chosen=("${more_settings[@]}")
    if [[ -n $source_spec ]]; then chosen+=("source=$source_spec"); fi
    if [[ -n $device_id ]]; then chosen+=("device_id=$device_id"); fi
    if [[ -n $broker_host ]]; then chosen+=("mqtt.host=$broker_host"); fi
    if [[ -n $broker_port ]]; then chosen+=("mqtt.port=$broker_port"); fi
    if [[ -n $username ]]; then chosen+=("mqtt.username=$username"); fi
}

# Problems of the answers, in `problems`: nothing is installed yet that could check all of them.
find_problems() {
    local problem
    collect_settings
    problem=$(problem_of_source)
    mapfile -t problems < <(
        if [[ -n $problem ]]; then echo "$problem"; fi
        # Without Python, the program reports the others when it is installed.
        if command -v python3 > /dev/null; then
            python3 "$here/lib/check_settings.py" "$here/settings.schema.json" "${chosen[@]}" || true
        fi
    )
}

problem_of_source() {
    case $source_spec in
        '' | picamera | picamera:* | /dev/* | *://*) ;;
        /home/* | /root/* | /run/user/* | /tmp/* | /var/tmp/*)
            echo "--source: the service cannot read this folder (got $source_spec); move it to /srv"
            ;;
        /*)
            [[ -e $source_spec ]] \
                || echo "--source: no such file or folder (got $source_spec); correct the path"
            ;;
        *[!0-9]*)
            echo "--source: not a camera, an address or an absolute path (got $source_spec); see --help"
            ;;
    esac
}

# Sets broker_host and broker_port. An IPv6 address with a port stands in brackets.
split_broker() {
    broker_host=$broker broker_port=
    if [[ $broker =~ ^\[(.+)\](:([0-9]+))?$ || $broker =~ ^([^:]+)(:([0-9]+))$ ]]; then
        broker_host=${BASH_REMATCH[1]} broker_port=${BASH_REMATCH[3]}
    fi
}

read_credentials() {
    local lines=()
    [[ -f $credentials && -r $credentials ]] \
        || fail "--credentials: cannot be read (got $credentials); correct the path, or use sudo"
    mapfile -t lines < "$credentials"
    ((${#lines[@]} >= 2)) \
        || fail "--credentials: must be two lines (got $credentials); write user name and password"
    # Editors of Windows end lines with a carriage return.
    username=${lines[0]%$'\r'} password=${lines[1]%$'\r'}
    [[ -n $username ]] \
        || fail "--credentials: no user name in the first line (got $credentials); add it"
    protect_credentials
}

# Other users of the machine must not read the password.
protect_credentials() {
    local mode
    mode=$(stat --dereference --format=%a "$credentials")
    (((8#$mode & 8#004) != 0)) || return 0
    if ((dry_run)); then
        warn "--credentials: readable by all users (got $credentials, mode $mode)"
    else
        chmod o-rwx "$credentials" \
            || fail "--credentials: readable by all users (got $credentials, mode $mode); use chmod 600"
        warn "--credentials: was readable by all users (got $credentials, mode $mode); access removed"
    fi
}
